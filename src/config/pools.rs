//! Reads `bots` and `backends`: lists and choices, which a table of keys alone cannot say.
//!
//! A pool is told from the others by its name and is nothing without a backend, so a pool that lacks
//! either refuses the file; every other key of it falls back by itself.

use super::pool_keys::{COMMAND, ECHO, MODEL_SERVER, POOL};
use super::reader::{Reader, Section, join, nearest};
use super::tree::{At, Node, Tree};
use super::{
    BackendSpec, Backends, CommandInput, CommandSpec, Config, EchoSpec, ModelServer, Pool,
};

/// Most pools.
pub const MAX_POOLS: usize = 256;
/// Most backends a pool may fall back to.
const MAX_FALLBACKS: usize = 8;
/// Longest name of a pool, in bytes.
const MAX_POOL_NAME: usize = 50;
/// What a backend may be.
pub const KINDS: [&str; 4] = ["ollama", "openai", "command", "echo"];
/// The keys of a pool that are read here.
const POOL_OTHERS: &[&str] = &["name", "backend", "fallback"];

/// Reads `backends`.
pub(super) fn read_backends(
    reader: &mut Reader<'_>,
    root: &Node,
    last_good: Option<&Backends>,
) -> Backends {
    let mut backends = Backends::default();
    let Some(entry) = root.find("backends") else {
        return backends;
    };
    match &entry.node.tree {
        Tree::Null => {}
        Tree::Map(entries) => {
            for entry in entries {
                let (target, last_good): (&mut ModelServer, Option<&ModelServer>) =
                    match entry.key.as_str() {
                        "ollama" => (&mut backends.ollama, last_good.map(|b| &b.ollama)),
                        "openai" => (&mut backends.openai, last_good.map(|b| &b.openai)),
                        other => {
                            let known = ["ollama", "openai"].into_iter();
                            reader.unknown(entry.at, "backends", other, known);
                            continue;
                        }
                    };
                reader.read(
                    &entry.node,
                    &mut Section {
                        table: MODEL_SERVER,
                        path: &join("backends", &entry.key),
                        others: &[],
                        target,
                        last_good,
                    },
                );
            }
        }
        _ => {
            if let Some(last_good) = last_good {
                backends = last_good.clone();
            }
            let rule = format!(
                "must be a section of settings; this is {}",
                entry.node.kind()
            );
            reader.fell_back(&entry.node, "backends", &rule, "its last good values");
        }
    }
    backends
}

/// The pools of a file that names none.
pub(super) fn default_pools(backends: &Backends) -> Vec<Pool> {
    vec![Pool::new(
        "main-bot",
        BackendSpec::Ollama(backends.ollama.clone()),
    )]
}

/// Reads `bots`.
pub(super) fn read_pools(
    reader: &mut Reader<'_>,
    root: &Node,
    backends: &Backends,
    last_good: Option<&Config>,
) -> Vec<Pool> {
    let Some(entry) = root.find("bots") else {
        return default_pools(backends);
    };
    let items = match &entry.node.tree {
        Tree::Null => return default_pools(backends),
        Tree::List(items) if !items.is_empty() => items,
        _ => {
            let pools = last_good.map_or_else(|| default_pools(backends), |c| c.bots.clone());
            let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            let rule = "must be a list of at least one pool, each with a name and a backend";
            let used = format!("the pools {}", names.join(", "));
            reader.fell_back(&entry.node, "bots", rule, &used);
            return pools;
        }
    };
    if items.len() > MAX_POOLS {
        let rule = format!("{} pools; at most {MAX_POOLS} are read", items.len());
        reader.refuse(entry.at, "bots", None, &rule);
        return default_pools(backends);
    }
    let mut pools: Vec<Pool> = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        let Some(pool) = read_pool(reader, item, n, backends, last_good) else {
            continue;
        };
        if pools.iter().any(|other| other.name == pool.name) {
            let at = item.find("name").map_or(item.at, |entry| entry.node.at);
            reader.refuse(
                at,
                &format!("bots[{n}].name"),
                Some(&pool.name),
                "is the name of an earlier pool; names are given once",
            );
            continue;
        }
        pools.push(pool);
    }
    pools
}

fn read_pool(
    reader: &mut Reader<'_>,
    item: &Node,
    n: usize,
    backends: &Backends,
    last_good: Option<&Config>,
) -> Option<Pool> {
    let name = read_name(reader, item, n)?;
    let path = join("bots", &name);
    let last_good = last_good.and_then(|c| c.bots.iter().find(|pool| pool.name == name));
    let path_of_backend = join(&path, "backend");
    let backend = match item.find("backend") {
        None => Err((
            item.at,
            "is missing; write for example `backend: {kind: ollama}`".to_owned(),
        )),
        Some(entry) => read_backend(
            reader,
            &entry.node,
            &path_of_backend,
            backends,
            last_good.map(|pool| &pool.backend),
        ),
    };
    let backend = match backend {
        Ok(backend) => backend,
        Err((at, rule)) => {
            reader.refuse(at, &path_of_backend, None, &rule);
            return None;
        }
    };
    let mut pool = Pool::new(&name, backend);
    if let Some(entry) = item.find("fallback") {
        pool.fallback = read_fallback(reader, &entry.node, &path, backends, last_good);
    }
    reader.read(
        item,
        &mut Section {
            table: POOL,
            path: &path,
            others: POOL_OTHERS,
            target: &mut pool,
            last_good,
        },
    );
    Some(pool)
}

fn read_name(reader: &mut Reader<'_>, item: &Node, n: usize) -> Option<String> {
    const RULE: &str = "must be 1-50 letters, digits, '-' or '_'";
    let path = format!("bots[{n}].name");
    let Some(entry) = item.find("name") else {
        let rule = format!("is missing; a pool needs a name, which {RULE}");
        reader.refuse(item.at, &path, None, &rule);
        return None;
    };
    match &entry.node.tree {
        Tree::Text(name) if is_pool_name(name) => Some(name.clone()),
        _ => {
            let value = entry.node.to_json().to_string();
            reader.refuse(entry.node.at, &path, Some(&value), RULE);
            None
        }
    }
}

/// 1-50 of `[A-Za-z0-9_-]`, not starting with `-`: it becomes a file's name and an argument.
pub fn is_pool_name(name: &str) -> bool {
    (1..=MAX_POOL_NAME).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn read_fallback(
    reader: &mut Reader<'_>,
    node: &Node,
    pool: &str,
    backends: &Backends,
    last_good: Option<&Pool>,
) -> Vec<BackendSpec> {
    let path = join(pool, "fallback");
    let unusable = match &node.tree {
        Tree::Null => return Vec::new(),
        Tree::List(items) if items.len() <= MAX_FALLBACKS => {
            let mut fallback = Vec::with_capacity(items.len());
            let mut unusable = None;
            for (n, item) in items.iter().enumerate() {
                let path = format!("{path}[{n}]");
                match read_backend(reader, item, &path, backends, None) {
                    Ok(backend) => fallback.push(backend),
                    Err((_, rule)) => {
                        unusable = Some((item, path, rule));
                        break;
                    }
                }
            }
            match unusable {
                None => return fallback,
                Some(unusable) => unusable,
            }
        }
        _ => {
            let rule = format!("must be a list of at most {MAX_FALLBACKS} backends");
            (node, path, rule)
        }
    };
    let (node, path, rule) = unusable;
    let fallback = last_good.map_or_else(Vec::new, |pool| pool.fallback.clone());
    let kinds: Vec<&str> = fallback.iter().map(BackendSpec::kind).collect();
    let used = format!("[{}] as the list of fallbacks", kinds.join(", "));
    reader.fell_back(node, &path, &rule, &used);
    fallback
}

/// A backend, or where and why there is none.
fn read_backend(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    backends: &Backends,
    last_good: Option<&BackendSpec>,
) -> Result<BackendSpec, (At, String)> {
    const OTHERS: &[&str] = &["kind"];
    let kinds = KINDS.join(", ");
    if node.entries().is_none() {
        let rule = format!("must be a section with a `kind` of {kinds}");
        return Err((node.at, rule));
    }
    let Some(kind) = node.find("kind") else {
        return Err((node.at, format!("needs a `kind`, one of {kinds}")));
    };
    let Tree::Text(word) = &kind.node.tree else {
        return Err((kind.node.at, format!("`kind` must be one of {kinds}")));
    };
    match word.as_str() {
        "ollama" | "openai" => {
            let ollama = word == "ollama";
            let mut server = if ollama {
                backends.ollama.clone()
            } else {
                backends.openai.clone()
            };
            let last_good = match last_good {
                Some(BackendSpec::Ollama(last)) if ollama => Some(last),
                Some(BackendSpec::Openai(last)) if !ollama => Some(last),
                _ => None,
            };
            reader.read(
                node,
                &mut Section {
                    table: MODEL_SERVER,
                    path,
                    others: OTHERS,
                    target: &mut server,
                    last_good,
                },
            );
            Ok(if ollama {
                BackendSpec::Ollama(server)
            } else {
                BackendSpec::Openai(server)
            })
        }
        "command" => {
            let mut command = default_command();
            let last_good = match last_good {
                Some(BackendSpec::Command(last)) => Some(last),
                _ => None,
            };
            reader.read(
                node,
                &mut Section {
                    table: COMMAND,
                    path,
                    others: OTHERS,
                    target: &mut command,
                    last_good,
                },
            );
            if command.argv.is_empty() {
                let rule = "needs `argv`, a list of the program and its arguments";
                return Err((node.at, rule.to_owned()));
            }
            Ok(BackendSpec::Command(command))
        }
        "echo" => {
            let mut echo = EchoSpec::default();
            let last_good = match last_good {
                Some(BackendSpec::Echo(last)) => Some(last),
                _ => None,
            };
            reader.read(
                node,
                &mut Section {
                    table: ECHO,
                    path,
                    others: OTHERS,
                    target: &mut echo,
                    last_good,
                },
            );
            Ok(BackendSpec::Echo(echo))
        }
        other => {
            let mut rule = format!("`kind` is '{other}', but must be one of {kinds}");
            if let Some(near) = nearest(other, KINDS.into_iter()) {
                rule += &format!("; did you mean {near}?");
            }
            Err((kind.node.at, rule))
        }
    }
}

/// A command before its keys are read: it has no program yet, and sees what any program needs.
pub(super) fn default_command() -> CommandSpec {
    CommandSpec {
        argv: Vec::new(),
        input: CommandInput::Stdin,
        env: vec!["PATH".to_owned(), "HOME".to_owned()],
    }
}
