//! What looks like a secret, and how to keep it out of every message.
//!
//! Secrets do not belong in the configuration: it is shown by the API, copied into backups and kept
//! as the last good one. Two rules find them: the *shape* of a value (keys of well-known services,
//! bearer and JSON web tokens, PEM blocks, addresses with a password), also in comments, and the
//! *name* of the key it is under. Both prefer a false alarm to a leak, within reason: a `*_file`
//! key, a number, an empty text and the name of a variable are no secrets.

use super::tree::{At, Node, Tree};

/// Names of keys, or ends of them, whose text is a secret. `-` counts as `_`; any case.
const NAMES: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "private_key",
    "credential",
];

/// A well-known start of a secret.
struct Prefix {
    start: &'static str,
    what: &'static str,
    /// Characters after it from which on it is one.
    at_least: usize,
}

const fn prefix(start: &'static str, what: &'static str, at_least: usize) -> Prefix {
    Prefix {
        start,
        what,
        at_least,
    }
}

const PREFIXES: [Prefix; 25] = [
    prefix("sk-", "an API key (sk-...)", 6),
    prefix("sk_live_", "an API key (sk_live_...)", 6),
    prefix("sk_test_", "an API key (sk_test_...)", 6),
    prefix("ghp_", "a GitHub token (ghp_...)", 6),
    prefix("gho_", "a GitHub token (gho_...)", 6),
    prefix("ghu_", "a GitHub token (ghu_...)", 6),
    prefix("ghs_", "a GitHub token (ghs_...)", 6),
    prefix("ghr_", "a GitHub token (ghr_...)", 6),
    prefix("github_pat_", "a GitHub token (github_pat_...)", 6),
    prefix("glpat-", "a GitLab token (glpat-...)", 6),
    prefix("xoxa-", "a Slack token (xoxa-...)", 6),
    prefix("xoxb-", "a Slack token (xoxb-...)", 6),
    prefix("xoxp-", "a Slack token (xoxp-...)", 6),
    prefix("xoxr-", "a Slack token (xoxr-...)", 6),
    prefix("xoxs-", "a Slack token (xoxs-...)", 6),
    prefix("AKIA", "an AWS access key (AKIA...)", 12),
    prefix("ASIA", "an AWS access key (ASIA...)", 12),
    prefix("AIza", "a Google API key (AIza...)", 20),
    prefix("hf_", "a Hugging Face token (hf_...)", 16),
    prefix("npm_", "an npm token (npm_...)", 20),
    prefix("whsec_", "a webhook secret (whsec_...)", 6),
    prefix("deia_", "a deia token (deia_...)", 20),
    prefix("Bearer ", "a bearer token", 6),
    prefix("bearer ", "a bearer token", 6),
    prefix("BEARER ", "a bearer token", 6),
];

/// From so many bytes on the user of an address is no name but a token.
const MIN_USER_TOKEN_BYTES: usize = 16;

/// Parameters of an address that carry a secret.
const PARAMETERS: [&str; 6] = [
    "api_key=",
    "apikey=",
    "token=",
    "password=",
    "secret=",
    "key=",
];

/// A secret that was found; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where its value stands.
    pub at: At,
    /// The key it is under; empty for a comment or a place that was found in the bare text.
    pub path: String,
    /// What it looks like.
    pub what: &'static str,
}

/// The first secret of every key, and of every line that only the bare text shows (comments).
pub fn find(text: &str, root: &Node) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(root, "", false, &mut found);
    for finding in find_in_text(text) {
        if !found.iter().any(|known| known.at.line == finding.at.line) {
            found.push(finding);
        }
    }
    found.sort_by_key(|finding| (finding.at.line, finding.at.column));
    found
}

/// Secrets by their shape, line by line: also where the text does not parse.
pub fn find_in_text(text: &str) -> Vec<Finding> {
    text.lines()
        .enumerate()
        .filter_map(|(n, line)| {
            let (start, _, what) = shape(line)?;
            let column = line[..start].chars().count() + 1;
            Some(Finding {
                at: At {
                    line: n + 1,
                    column,
                    width: 1,
                },
                path: String::new(),
                what,
            })
        })
        .collect()
}

fn walk(node: &Node, path: &str, named: bool, found: &mut Vec<Finding>) {
    match &node.tree {
        Tree::Text(text) => {
            let what = match shape(text) {
                Some((_, _, what)) => what,
                None if named && !text.trim().is_empty() => "a secret, by the name of its key",
                None if assigns(text) => "a secret, by the name before its '='",
                None => return,
            };
            found.push(Finding {
                at: node.at,
                path: redact(path),
                what,
            });
        }
        Tree::List(items) => {
            for (n, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{n}]"), named, found);
            }
        }
        Tree::Map(entries) => {
            // The names of `env_files` are variables of the bot, their values are paths.
            let variables = path == "env_files" || path.ends_with(".env_files");
            for entry in entries {
                let path = if path.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{path}.{}", entry.key)
                };
                if let Some((_, _, what)) = shape(&entry.key) {
                    found.push(Finding {
                        at: entry.at,
                        path: redact(&path),
                        what,
                    });
                }
                let named = !variables && is_secret_name(&entry.key);
                walk(&entry.node, &path, named, found);
            }
        }
        Tree::Null | Tree::Bool(_) | Tree::Int(_) | Tree::Float(_) => {}
    }
}

/// Whether a key of this name holds a secret: `db_password`, `API-KEY`; not `api_key_file`.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase().replace('-', "_");
    NAMES.iter().any(|end| name.ends_with(end))
}

/// `text` with everything that looks like a secret replaced by `[redacted]`.
pub fn redact(text: &str) -> String {
    let mut left = text.to_owned();
    // Each turn replaces one; the bound is only for certainty.
    for _ in 0..64 {
        match shape(&left) {
            Some((start, end, _)) => left.replace_range(start..end, "[redacted]"),
            None => return left,
        }
    }
    "[redacted]".to_owned()
}

/// Whether showing lines of `text` could show a secret: it has one by its shape, or a key that is
/// named like one. Asked where the text did not parse, so that nothing better is known.
pub fn may_hold(text: &str) -> bool {
    text.lines().any(|line| {
        shape(line).is_some()
            || assigns(line)
            || line
                .split(['{', '}', ',', '[', ']', '?'])
                .filter_map(|part| part.split_once([':', '=']))
                .any(|(name, _)| {
                    is_secret_name(name.trim_matches([' ', '\t', '"', '\'', '-', '#']))
                })
    })
}

/// `--password=x`, `host=db password=x`: a name of a secret, and something assigned to it.
fn assigns(text: &str) -> bool {
    text.match_indices('=').any(|(at, _)| {
        let name = text[..at]
            .rsplit(|c: char| !is_token_char(c))
            .next()
            .unwrap_or_default();
        let value = text[at + 1..].chars().next();
        is_secret_name(name) && value.is_some_and(|c| !c.is_whitespace())
    })
}

/// The first thing in `text` with the shape of a secret: its bytes, and what it is.
fn shape(text: &str) -> Option<(usize, usize, &'static str)> {
    let known = PREFIXES.iter().filter_map(|prefix| prefixed(text, prefix));
    known
        .chain(json_web_token(text))
        .chain(pem(text))
        .chain(address(text))
        .min_by_key(|found| found.0)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn prefixed(text: &str, prefix: &Prefix) -> Option<(usize, usize, &'static str)> {
    let bearer = prefix.start.ends_with(' ');
    text.match_indices(prefix.start)
        // `task-1` holds no `sk-`: a secret begins where a word begins.
        .filter(|(start, _)| !text[..*start].ends_with(is_token_char))
        .find_map(|(start, _)| {
            let after = start + prefix.start.len();
            let length: usize = text[after..]
                .chars()
                .take_while(|c| is_token_char(*c) || (bearer && matches!(c, '.' | '+' | '/' | '=')))
                .map(char::len_utf8)
                .sum();
            let body = &text[after..after + length];
            // A long word ("bearer authentication") is no token: those have a digit or are longer.
            let random = body.bytes().any(|b| b.is_ascii_digit()) || length >= 20;
            (length >= prefix.at_least && random).then_some((start, after + length, prefix.what))
        })
}

fn json_web_token(text: &str) -> Option<(usize, usize, &'static str)> {
    text.match_indices("eyJ").find_map(|(start, _)| {
        let length = text[start..]
            .chars()
            .take_while(|c| is_token_char(*c) || *c == '.')
            .count();
        let body = &text[start..start + length];
        let parts: Vec<&str> = body.split('.').collect();
        (parts.len() >= 3 && parts[0].len() >= 8 && parts[1].len() >= 4).then_some((
            start,
            start + length,
            "a JSON web token",
        ))
    })
}

fn pem(text: &str) -> Option<(usize, usize, &'static str)> {
    let start = text.find("-----BEGIN ")?;
    text[start..]
        .contains("PRIVATE KEY")
        .then_some((start, text.len(), "a private key"))
}

/// `scheme://user:password@host`, or a parameter such as `?token=`.
fn address(text: &str) -> Option<(usize, usize, &'static str)> {
    text.match_indices("://").find_map(|(at, _)| {
        let start = at + 3;
        let length: usize = text[start..]
            .chars()
            .take_while(|c| !c.is_whitespace() && !matches!(c, '"' | '\''))
            .map(char::len_utf8)
            .sum();
        let rest = &text[start..start + length];
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if let Some((user, _)) = authority.rsplit_once('@')
            && user
                .split_once(':')
                .is_some_and(|(_, password)| !password.is_empty())
        {
            return Some((
                start,
                start + user.len() + 1,
                "an address with a password in it",
            ));
        }
        // A user of this length is a token.
        if let Some((user, _)) = authority.rsplit_once('@')
            && user.len() >= MIN_USER_TOKEN_BYTES
        {
            let end = start + user.len() + 1;
            return Some((start, end, "an address with a secret in it"));
        }
        let (_, query) = rest.split_once('?')?;
        let offset = start + rest.len() - query.len();
        let mut at = offset;
        for pair in query.split('&') {
            let lower = pair.to_ascii_lowercase();
            if PARAMETERS.iter().any(|name| {
                lower.split_once('=').is_some_and(|(left, right)| {
                    !right.is_empty() && left.ends_with(name.trim_end_matches('='))
                })
            }) {
                return Some((at, at + pair.len(), "an address with a secret in it"));
            }
            at += pair.len() + 1;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    // Built from parts, so that no scanner of this repository takes them for real ones.
    fn samples() -> Vec<String> {
        let digits = "0123456789abcdef0123";
        vec![
            format!("sk-{digits}"),
            format!("sk-ant-api03-{digits}"),
            format!("ghp_{digits}"),
            format!("xoxb-{digits}"),
            format!("xoxp-{digits}"),
            format!("AKIA{}", "IOSFODNN7EXAMPLE"),
            format!("Bearer {digits}"),
            format!("eyJhbGciOiJI.eyJzdWIiOiIx.{digits}"),
            format!("-----BEGIN RSA {}-----", "PRIVATE KEY"),
            "postgres://deia:hunter2@db:5432/deia".to_owned(),
            "http://models/v1?api_key=abc".to_owned(),
            format!("https://{digits}@git.example/x.git"),
        ]
    }

    #[test]
    fn shapes_are_found_anywhere_in_a_value_and_redacted() {
        for secret in samples() {
            for text in [
                secret.clone(),
                format!("x = '{secret}'"),
                format!("é {secret} z"),
            ] {
                let redacted = redact(&text);
                assert!(redacted.contains("[redacted]"), "{text}");
                assert!(!redacted.contains("0123456789abcdef"), "{redacted}");
                assert!(!redacted.contains("hunter2"), "{redacted}");
                assert!(!redacted.contains("IOSFODNN"), "{redacted}");
            }
        }
    }

    #[test]
    fn ordinary_words_are_no_secrets() {
        for text in [
            "task-1234567890",
            "sk-learn",
            "http://localhost:11434/v1",
            "http://user@host/",
            "bearer authentication",
            "qwen2.5-coder:7b",
            "claude -p --model sonnet",
            "deia_bot_config",
            "http://host/?model=7b",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn names_are_found_whatever_their_case_and_only_over_text() {
        let text = "custom:\n  DB-Password: x\n  api_key: ''\n  token: 5\n  auth_token_file: /run/t\n  list:\n    secret: [a]\n";
        let found = find(text, &tree::read(text).unwrap());
        let paths: Vec<&str> = found.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["custom.DB-Password", "custom.list.secret[0]"]);
        assert_eq!(found[0].at.line, 2);
    }

    #[test]
    fn names_of_environment_variables_are_no_secrets_but_their_values_are_looked_at() {
        let fine = "bots:\n- name: a\n  env_files: {ANTHROPIC_API_KEY: /etc/deia/a}\n";
        assert_eq!(find(fine, &tree::read(fine).unwrap()), []);
        let bad = format!("bots:\n- name: a\n  env_files: {{K: {}}}\n", samples()[0]);
        assert_eq!(find(&bad, &tree::read(&bad).unwrap()).len(), 1);
    }

    #[test]
    fn comments_are_looked_at_too() {
        let text = format!("debug: true\n# {}\n", samples()[2]);
        let found = find(&text, &tree::read(&text).unwrap());
        assert_eq!(found[0].at.line, 2);
    }

    #[test]
    fn a_text_that_does_not_parse_is_shown_only_without_names_of_secrets() {
        assert!(may_hold("a: [\n  password: x"));
        assert!(may_hold("{\"api_key\": \"x"));
        assert!(may_hold("- token : |\n  x"));
        assert!(!may_hold("a: [\n  api_key_file: /x"));
    }
}
