//! Rules about the table itself, checked for every key in it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read;
use crate::config::keys::KEYS;
use crate::config::pool_keys::{COMMAND, ECHO, MODEL_SERVER, POOL};
use crate::config::{Config, flatten, to_json};

/// A wrong type for any rule: no key takes a list of a map.
const WRONG: &str = "[{wrong: 1}]";

#[test]
fn a_key_of_the_wrong_type_falls_back_alone_and_names_its_line() {
    for key in KEYS {
        let mut text = String::from("# a comment\n");
        let parts: Vec<&str> = key.path.split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            text += &format!("{}{part}:", "  ".repeat(depth));
            text += if depth + 1 == parts.len() { " " } else { "\n" };
        }
        text += WRONG;
        let loaded = read(&text).unwrap();
        assert_eq!(loaded.config, Config::default(), "{}", key.path);
        let [problem] = loaded.problems.as_slice() else {
            panic!("{}: {:?}", key.path, loaded.problems)
        };
        assert_eq!(problem.key, key.path);
        assert_eq!(problem.line, parts.len() + 1);
        assert!(problem.rule.starts_with("must be "), "{problem}");
        assert!(problem.snippet.is_some(), "{problem}");
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn a_key_of_a_pool_falls_back_alone_too() {
    for key in POOL {
        let path = key.path.replace('.', ": {");
        let close = "}".repeat(key.path.matches('.').count());
        let text =
            format!("bots:\n- name: a\n  backend: {{kind: echo}}\n  {path}: {WRONG}{close}\n");
        let loaded = read(&text).unwrap();
        assert_eq!(loaded.problems.len(), 1, "{text}");
        assert_eq!(loaded.problems[0].key, format!("bots.a.{}", key.path));
        assert_eq!(loaded.problems[0].line, 4);
    }
    let of = |kind: &str, extra: &str, path: &str| {
        let text =
            format!("bots:\n- name: a\n  backend: {{kind: {kind}, {extra}{path}: {WRONG}}}\n");
        let loaded = read(&text).unwrap();
        assert_eq!(loaded.problems.len(), 1, "{text}");
        assert_eq!(loaded.problems[0].key, format!("bots.a.backend.{path}"));
    };
    for key in MODEL_SERVER {
        of("ollama", "", key.path);
        of("openai", "", key.path);
    }
    for key in ECHO {
        of("echo", "", key.path);
    }
    for key in COMMAND.iter().filter(|key| key.path != "argv") {
        of("command", "argv: [x], ", key.path);
    }
}

#[test]
fn the_table_knows_every_field_of_the_configuration() {
    // What the types serialize to, flattened, against what the table says.
    let mut fields = BTreeSet::new();
    collect(
        "",
        &serde_json::to_value(Config::default()).unwrap(),
        &mut fields,
    );
    fields.retain(|path| !path.starts_with("bots") && path != "custom");
    let known: BTreeSet<String> = flatten(&Config::default())
        .into_keys()
        .filter(|path| !path.starts_with("bots"))
        .collect();
    assert_eq!(known, fields);
}

fn collect(path: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(&path, value, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn every_default_keeps_its_own_rule() {
    let text = to_json(&Config::default()).to_string();
    let loaded = read(&text).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn every_key_is_documented() {
    for (path, doc) in KEYS.iter().map(|key| (key.path, key.doc)) {
        assert!(doc.len() > 10 && doc.ends_with('.'), "{path}: {doc}");
        assert!(!doc.contains('|'), "{path}: would break the guide's table");
    }
}
