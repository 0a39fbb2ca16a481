//! A configuration as plain values: flat for comparing, nested for showing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::key::{Key, TakesEffect};
use super::keys::{self, KEYS};
use super::pool_keys::{COMMAND, ECHO, MODEL_SERVER, POOL};
use super::{BackendSpec, Config, Pool};

/// Every key and its value: `bot_limits.max_bots`, `custom.<name>`, `backends.<kind>.<key>`,
/// `bots` (the names, in order) and `bots.<name>.<key>`.
pub fn flatten(config: &Config) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for key in KEYS {
        flat.insert(key.path.to_owned(), (key.get)(config));
    }
    for (name, value) in &config.custom {
        flat.insert(format!("custom.{name}"), value.clone());
    }
    for (kind, server) in [
        ("ollama", &config.backends.ollama),
        ("openai", &config.backends.openai),
    ] {
        for key in MODEL_SERVER {
            flat.insert(format!("backends.{kind}.{}", key.path), (key.get)(server));
        }
    }
    let names = config.bots.iter().map(|pool| pool.name.as_str().into());
    flat.insert("bots".to_owned(), Value::Array(names.collect()));
    for pool in &config.bots {
        let path = format!("bots.{}", pool.name);
        for (key, value) in pool_pairs(pool) {
            if key != "name" {
                flat.insert(format!("{path}.{key}"), value);
            }
        }
    }
    flat
}

/// The shape of `GET /api/config/current`, which is also the shape of the file.
pub fn to_json(config: &Config) -> Value {
    let mut root = Map::new();
    for key in KEYS {
        insert(&mut root, key.path, (key.get)(config));
    }
    root.insert("custom".to_owned(), Value::Object(config.custom.clone()));
    insert(
        &mut root,
        "backends.ollama",
        of(MODEL_SERVER, &config.backends.ollama),
    );
    insert(
        &mut root,
        "backends.openai",
        of(MODEL_SERVER, &config.backends.openai),
    );
    let pools = config.bots.iter().map(pool_json).collect();
    root.insert("bots".to_owned(), Value::Array(pools));
    Value::Object(root)
}

/// The value of a dotted key or section. An item of `bots` is named by its pool or by its number
/// from 0. Nothing for what is not there or is null.
pub fn value(config: &Config, dotted: &str) -> Option<Value> {
    walk(&to_json(config), dotted).filter(|value| !value.is_null())
}

fn walk(value: &Value, path: &str) -> Option<Value> {
    match value {
        Value::Object(map) => {
            // A name of `custom` may have dots of its own.
            if let Some(value) = map.get(path) {
                return Some(value.clone());
            }
            path.match_indices('.')
                .find_map(|(at, _)| walk(map.get(&path[..at])?, &path[at + 1..]))
        }
        Value::Array(items) => {
            let (first, rest) = match path.split_once('.') {
                Some((first, rest)) => (first, Some(rest)),
                None => (path, None),
            };
            let named = items
                .iter()
                .find(|item| item.get("name").and_then(Value::as_str) == Some(first));
            let item = named.or_else(|| items.get(first.parse::<usize>().ok()?))?;
            match rest {
                Some(rest) => walk(item, rest),
                None => Some(item.clone()),
            }
        }
        _ => None,
    }
}

/// One key that differs between two configurations.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The dotted key; `bots.<name>` for a pool that came or went.
    pub key: String,
    /// The value before; nothing when the key was not there.
    pub old: Option<Value>,
    /// The value after; nothing when the key is gone.
    pub new: Option<Value>,
    /// When the new value is used.
    pub takes_effect: TakesEffect,
}

impl fmt::Display for Change {
    /// `key: old -> new`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "(absent)".to_owned(), Value::to_string)
        };
        write!(
            f,
            "{}: {} -> {}",
            self.key,
            show(&self.old),
            show(&self.new)
        )
    }
}

/// What changes from `old` to `new`, in the order of the keys' names.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let one_sided: BTreeSet<&str> = symmetric_difference(old, new);
    let mut changes = Vec::new();
    let (before, after) = (flatten(old), flatten(new));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (old, new) = (before.get(key), after.get(key));
        if old != new && !pool_of(key).is_some_and(|name| one_sided.contains(name)) {
            changes.push(Change {
                key: key.clone(),
                old: old.cloned(),
                new: new.cloned(),
                takes_effect: takes_effect(key),
            });
        }
    }
    for name in one_sided {
        let pool = |config: &Config| config.bots.iter().find(|p| p.name == name).map(pool_json);
        changes.push(Change {
            key: format!("bots.{name}"),
            old: pool(old),
            new: pool(new),
            takes_effect: TakesEffect::Now,
        });
    }
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// The names of pools that only one of the two has.
fn symmetric_difference<'c>(old: &'c Config, new: &'c Config) -> BTreeSet<&'c str> {
    let names = |config: &'c Config| -> BTreeSet<&'c str> {
        config.bots.iter().map(|pool| pool.name.as_str()).collect()
    };
    &names(old) ^ &names(new)
}

fn pool_of(key: &str) -> Option<&str> {
    key.strip_prefix("bots.")?.split('.').next()
}

fn takes_effect(key: &str) -> TakesEffect {
    keys::find(key).map_or(TakesEffect::Now, |key| key.takes_effect)
}

/// `wanted`, but with its value in `running` for every key that only a restart can change.
pub fn pin_restart_keys(wanted: &Config, running: &Config) -> Config {
    let mut pinned = wanted.clone();
    for key in KEYS {
        if key.takes_effect == TakesEffect::AfterRestart {
            // The value comes from a configuration, so that the field can hold it.
            let _ = (key.set)(&mut pinned, (key.get)(running));
        }
    }
    pinned
}

/// The keys of a pool as the file has them, in order.
pub(super) fn pool_pairs(pool: &Pool) -> Vec<(String, Value)> {
    let mut pairs = vec![("name".to_owned(), Value::from(pool.name.as_str()))];
    for key in POOL {
        pairs.push((key.path.to_owned(), (key.get)(pool)));
    }
    for (key, value) in backend_pairs(&pool.backend) {
        pairs.push((format!("backend.{key}"), value));
    }
    let fallback = pool.fallback.iter().map(backend_json).collect();
    pairs.push(("fallback".to_owned(), Value::Array(fallback)));
    pairs
}

fn pool_json(pool: &Pool) -> Value {
    let mut map = Map::new();
    for (key, value) in pool_pairs(pool) {
        insert(&mut map, &key, value);
    }
    Value::Object(map)
}

pub(super) fn backend_json(backend: &BackendSpec) -> Value {
    Value::Object(backend_pairs(backend).into_iter().collect())
}

/// The keys of a backend as the file has them, `kind` first.
fn backend_pairs(backend: &BackendSpec) -> Vec<(String, Value)> {
    let mut pairs = vec![("kind".to_owned(), Value::from(backend.kind()))];
    match backend {
        BackendSpec::Ollama(server) | BackendSpec::Openai(server) => {
            pairs.extend(pairs_of(MODEL_SERVER, server));
        }
        BackendSpec::Command(command) => pairs.extend(pairs_of(COMMAND, command)),
        BackendSpec::Echo(echo) => pairs.extend(pairs_of(ECHO, echo)),
    }
    pairs
}

fn pairs_of<T>(table: &[Key<T>], target: &T) -> impl Iterator<Item = (String, Value)> {
    table
        .iter()
        .map(|key| (key.path.to_owned(), (key.get)(target)))
}

fn of<T>(table: &[Key<T>], target: &T) -> Value {
    Value::Object(pairs_of(table, target).collect())
}

fn insert(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            map.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let section = map
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                insert(section, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EchoSpec;

    #[test]
    fn the_shape_has_the_sections_of_the_original() {
        let json = to_json(&Config::default());
        for (section, keys) in [
            ("thresholds", 7),
            ("bot_limits", 5),
            ("timeouts", 5),
            ("feature_flags", 8),
            ("learning", 4),
        ] {
            assert_eq!(json[section].as_object().unwrap().len(), keys, "{section}");
        }
        assert_eq!(json["version"], "1.0");
        assert_eq!(json["custom"], serde_json::json!({}));
        assert_eq!(json["bots"][0]["backend"]["kind"], "ollama");
        assert_eq!(json["tasks"]["workdir_keep"]["mb"], 1024);
    }

    #[test]
    fn values_are_found_by_dotted_names() {
        let mut config = Config::default();
        config.custom.insert("a.b".to_owned(), 7.into());
        let find = |key| value(&config, key);
        assert_eq!(find("bot_limits.max_bots"), Some(10.into()));
        assert_eq!(find("bot_limits").unwrap()["min_bots"], 1);
        assert_eq!(find("bots.main-bot.backend.kind"), Some("ollama".into()));
        assert_eq!(find("bots.0.name"), Some("main-bot".into()));
        assert_eq!(find("custom.a.b"), Some(7.into()));
        assert_eq!(find("alerts.webhook_url"), None);
        assert_eq!(find("nothing.here"), None);
        assert_eq!(find(""), None);
        assert_eq!(find("version.x"), None);
    }

    #[test]
    fn a_difference_names_the_key_both_values_and_when() {
        let old = Config::default();
        let mut new = old.clone();
        new.bot_limits.max_bots = 20;
        new.http.listen = ([127, 0, 0, 1], 9000).into();
        new.bots[0].min = 1;
        new.bots
            .push(Pool::new("e", BackendSpec::Echo(EchoSpec::default())));
        let changes = diff(&old, &new);
        let keys: Vec<&str> = changes.iter().map(|c| c.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "bot_limits.max_bots",
                "bots",
                "bots.e",
                "bots.main-bot.min",
                "http.listen"
            ]
        );
        assert_eq!(changes[0].to_string(), "bot_limits.max_bots: 10 -> 20");
        assert_eq!(changes[4].takes_effect, TakesEffect::AfterRestart);
        assert_eq!(changes[0].takes_effect, TakesEffect::Now);
        assert_eq!(diff(&old, &old), []);
        let pinned = pin_restart_keys(&new, &old);
        assert_eq!(pinned.http.listen, old.http.listen);
        assert_eq!(pinned.bot_limits.max_bots, 20);
    }
}
