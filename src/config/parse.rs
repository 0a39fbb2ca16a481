//! Text to [`Config`]: refused whole, or applied with each bad value fallen back.

use std::path::Path;

use serde_json::{Map, Value};

use super::keys::{self, ALIASES, KEYS};
use super::problem::{Lines, Problem, Refusal, Source};
use super::reader::{Reader, Section, join};
use super::tree::{self, At, Node, Tree};
use super::{Config, cross, pools, secret};

/// The keys at the top that no table holds.
const OTHERS: &[&str] = &[
    "custom",
    "backends",
    "bots",
    "scaling.min_bots",
    "scaling.max_bots",
];

/// A configuration that can be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// Values that are not used, because they break a rule.
    pub problems: Vec<Problem>,
    /// What is odd but changes nothing, such as unknown keys.
    pub warnings: Vec<Problem>,
    /// Whether the text says anything at all.
    pub content: Content,
}

/// Whether a text says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It has keys.
    Some,
    /// Blank lines and comments only: every default.
    None,
}

/// Reads a configuration. A bad value falls back to that of `last_good`, without one to the default;
/// a key that is absent has its default. `file` is only for messages.
///
/// # Errors
///
/// The file is refused whole when it does not parse, breaks a rule between keys, or holds what
/// looks like a secret.
pub fn parse(text: &str, file: &Path, last_good: Option<&Config>) -> Result<Loaded, Refusal> {
    let source = Source {
        file,
        text,
        lines: Lines::Shown,
    };
    let root = tree::read(text).map_err(|error| syntax_refusal(text, file, &error))?;
    let secrets = secret::find(text, &root);
    if !secrets.is_empty() {
        return Err(secret_refusal(text, file, &secrets));
    }
    if !matches!(root.tree, Tree::Map(_) | Tree::Null) {
        let rule = format!(
            "the file must hold settings (`name: value`); this is {}",
            root.kind()
        );
        return Err(Refusal {
            problems: vec![source.problem(root.at, "", None, &rule)],
        });
    }
    let mut reader = Reader::new(source);
    let config = read(&mut reader, &root, last_good);
    cross::check(&mut reader, &config, &root);
    if !reader.refusals.is_empty() {
        return Err(Refusal {
            problems: reader.refusals,
        });
    }
    reader.problems.sort_by_key(|p| (p.line, p.column));
    reader.warnings.sort_by_key(|p| (p.line, p.column));
    Ok(Loaded {
        config,
        problems: reader.problems,
        warnings: reader.warnings,
        content: match root.tree {
            Tree::Null => Content::None,
            _ => Content::Some,
        },
    })
}

fn read(reader: &mut Reader<'_>, root: &Node, last_good: Option<&Config>) -> Config {
    let mut config = Config::default();
    reader.read(
        root,
        &mut Section {
            table: KEYS,
            path: "",
            others: OTHERS,
            target: &mut config,
            last_good,
        },
    );
    for (alias, path) in ALIASES {
        read_alias(reader, root, alias, path, &mut config, last_good);
    }
    config.backends = pools::read_backends(reader, root, last_good.map(|c| &c.backends));
    config.bots = pools::read_pools(reader, root, &config.backends, last_good);
    if let Some(entry) = root.find("custom") {
        config.custom = read_custom(reader, &entry.node, last_good);
    }
    config
}

/// Another name for a key: it counts where the key itself is absent.
fn read_alias(
    reader: &mut Reader<'_>,
    root: &Node,
    alias: &str,
    path: &str,
    config: &mut Config,
    last_good: Option<&Config>,
) {
    let Some(key) = keys::find(path) else {
        return;
    };
    let Some(entry) = root.find(alias) else {
        return;
    };
    let checked = key.rule.check(&entry.node, reader.source.text);
    if root.find(path).is_some() {
        let now = (key.get)(config);
        if checked.as_ref() != Ok(&now) {
            let rule = format!("is another name of {path}, which is there too and wins with {now}");
            let value = entry.node.to_json().to_string();
            let warning = reader
                .source
                .problem(entry.node.at, alias, Some(&value), &rule);
            reader.warnings.push(warning);
        }
        return;
    }
    let set = checked.and_then(|value| {
        (key.set)(config, value).map_err(|error| format!("cannot be used: {error}"))
    });
    if let Err(rule) = set {
        if let Some(last_good) = last_good {
            // What was read once can be set again: a failure would keep the default.
            let _ = (key.set)(config, (key.get)(last_good));
        }
        let used = (key.get)(config).to_string();
        reader.fell_back(&entry.node, alias, &rule, &used);
    }
}

fn read_custom(
    reader: &mut Reader<'_>,
    node: &Node,
    last_good: Option<&Config>,
) -> Map<String, Value> {
    let entries = match &node.tree {
        Tree::Null => return Map::new(),
        Tree::Map(entries) => entries,
        _ => {
            let custom = last_good.map_or_else(Map::new, |c| c.custom.clone());
            let rule = format!("must be a section of settings; this is {}", node.kind());
            let used = Value::Object(custom.clone()).to_string();
            reader.fell_back(node, "custom", &rule, &used);
            return custom;
        }
    };
    let mut custom = Map::new();
    for entry in entries {
        let value = if is_json(&entry.node) {
            Some(entry.node.to_json())
        } else {
            let value = last_good.and_then(|c| c.custom.get(&entry.key).cloned());
            let path = join("custom", &entry.key);
            let used = value
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), Value::to_string);
            let rule = "has a number that is infinite or too large; write it as text";
            reader.fell_back(&entry.node, &path, rule, &used);
            value
        };
        if let Some(value) = value {
            custom.insert(entry.key.clone(), value);
        }
    }
    custom
}

/// Whether JSON can hold every number in it.
fn is_json(node: &Node) -> bool {
    match &node.tree {
        Tree::Int(n) => i64::try_from(*n).is_ok() || u64::try_from(*n).is_ok(),
        Tree::Float(x) => x.is_finite(),
        Tree::List(items) => items.iter().all(is_json),
        Tree::Map(entries) => entries.iter().all(|entry| is_json(&entry.node)),
        Tree::Null | Tree::Bool(_) | Tree::Text(_) => true,
    }
}

/// The text does not parse; then nothing tells what in it may be shown, so its lines are shown only
/// when no key in it is named like a secret.
fn syntax_refusal(text: &str, file: &Path, error: &tree::SyntaxError) -> Refusal {
    let secrets = secret::find_in_text(text);
    if !secrets.is_empty() {
        return secret_refusal(text, file, &secrets);
    }
    let hidden = secret::may_hold(text);
    let source = Source {
        file,
        text,
        lines: if hidden { Lines::Hidden } else { Lines::Shown },
    };
    // The parser's message may quote the text.
    let rule = if hidden {
        "does not parse (its lines are not shown, since a setting in it is named like a secret)"
    } else {
        &error.message
    };
    Refusal {
        problems: vec![source.problem(error.at, "", None, rule)],
    }
}

fn secret_refusal(text: &str, file: &Path, secrets: &[secret::Finding]) -> Refusal {
    let source = Source {
        file,
        text,
        lines: Lines::Hidden,
    };
    let problems = secrets
        .iter()
        .map(|finding| {
            let rule = format!(
                "looks like {}; the configuration is shown and backed up, so put it into a file \
                 (0600) and name that with a `*_file` key or in the pool's `env_files`",
                finding.what
            );
            let at = At {
                width: 1,
                ..finding.at
            };
            source.problem(at, &finding.path, None, &rule)
        })
        .collect();
    Refusal { problems }
}
