//! A configuration as YAML, with remarks: what `config show` prints and what is kept as last good.
//! Reading it again gives the same configuration.

use serde_json::Value;

use super::Config;
use super::key::{Key, Status};
use super::keys::KEYS;
use super::pool_keys::{MODEL_SERVER, POOL};
use super::view::{backend_json, pool_pairs};
use super::{BackendSpec, Backends, ModelServer, Pool};

/// The whole configuration. A key that has no effect (yet) says so, and so does one that differs
/// from its default.
pub fn render_yaml(config: &Config) -> String {
    let mut out = Writer::default();
    let defaults = Config::default();
    for key in KEYS {
        out.key(key, config, Some(&defaults), "");
    }
    if config.custom.is_empty() {
        out.line(0, "custom: {}", &[]);
    } else {
        out.line(0, "custom:", &[]);
        for (name, value) in &config.custom {
            out.line(1, &format!("{}: {}", text(name), flow(value)), &[]);
        }
    }
    let servers: [(&str, &ModelServer, ModelServer); 2] = [
        (
            "ollama",
            &config.backends.ollama,
            Backends::default().ollama,
        ),
        (
            "openai",
            &config.backends.openai,
            Backends::default().openai,
        ),
    ];
    for (kind, server, defaults) in &servers {
        for key in MODEL_SERVER {
            out.key(key, *server, Some(defaults), &format!("backends.{kind}."));
        }
    }
    out.line(0, "bots:", &[]);
    for pool in &config.bots {
        out.pool(pool, &config.backends);
    }
    out.text
}

/// Lines, and the sections that were opened for the last one.
#[derive(Default)]
struct Writer {
    text: String,
    open: Vec<String>,
}

impl Writer {
    fn line(&mut self, depth: usize, line: &str, remarks: &[String]) {
        self.text += &"  ".repeat(depth);
        self.text += line;
        if !remarks.is_empty() {
            self.text += "  # ";
            self.text += &remarks.join("; ");
        }
        self.text.push('\n');
    }

    fn key<T>(&mut self, key: &Key<T>, of: &T, defaults: Option<&T>, prefix: &str) {
        let value = (key.get)(of);
        let mut remarks: Vec<String> = key.status.remark().into_iter().collect();
        if let Some(defaults) = defaults {
            let default = (key.get)(defaults);
            if default != value {
                remarks.push(format!("default: {}", flow(&default)));
            }
        }
        let path = format!("{prefix}{}", key.path);
        let mut parts: Vec<&str> = path.split('.').collect();
        let name = parts.pop().unwrap_or_default();
        for (depth, part) in parts.iter().enumerate() {
            if self.open.get(depth).map(String::as_str) != Some(part) {
                self.open.truncate(depth);
                self.open.push((*part).to_owned());
                self.line(depth, &format!("{part}:"), &[]);
            }
        }
        self.open.truncate(parts.len());
        self.line(parts.len(), &format!("{name}: {}", flow(&value)), &remarks);
    }

    fn pool(&mut self, pool: &Pool, backends: &Backends) {
        let default = Pool::new(&pool.name, BackendSpec::Ollama(backends.ollama.clone()));
        self.line(1, &format!("- name: {}", text(&pool.name)), &[]);
        let backend = flow(&backend_json(&pool.backend));
        self.line(2, &format!("backend: {backend}"), &[]);
        let defaults = pool_pairs(&default);
        for (path, value) in pool_pairs(pool) {
            if path == "name" || path.starts_with("backend.") {
                continue;
            }
            let mut remarks = Vec::new();
            if let Some(key) = POOL.iter().find(|key| key.path == path)
                && key.status != Status::Active
            {
                remarks.extend(key.status.remark());
            }
            if let Some((_, default)) = defaults.iter().find(|(name, _)| *name == path)
                && *default != value
            {
                remarks.push(format!("default: {}", flow(default)));
            }
            match path.split_once('.') {
                None => {
                    self.open.clear();
                    self.line(2, &format!("{path}: {}", flow(&value)), &remarks);
                }
                Some((section, name)) => {
                    if self.open.first().map(String::as_str) != Some(section) {
                        self.open = vec![section.to_owned()];
                        self.line(2, &format!("{section}:"), &[]);
                    }
                    self.line(3, &format!("{name}: {}", flow(&value)), &remarks);
                }
            }
        }
        self.open.clear();
    }
}

/// A value on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", text(key), flow(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Text, in quotes unless it cannot be taken for anything else.
fn text(text: &str) -> String {
    const WORDS: [&str; 11] = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
    ];
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'))
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'/')
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            // What YAML calls not printable, and its other line ends.
            c if c.is_control()
                || matches!(
                    c,
                    '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}'
                ) =>
            {
                quoted += &format!("\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_effect_and_what_differs_says_so() {
        let mut config = Config::default();
        config.bot_limits.max_bots = 20;
        let yaml = render_yaml(&config);
        assert!(yaml.contains("\n  max_bots: 20  # default: 10\n"), "{yaml}");
        assert!(yaml.contains("\n  min_bots: 1\n"), "{yaml}");
        assert!(
            yaml.contains("  port_range_start: 8001  # no effect: "),
            "{yaml}"
        );
        assert!(yaml.contains("  # no effect yet: comes with "), "{yaml}");
    }

    #[test]
    fn text_that_could_be_something_else_is_quoted() {
        for (given, written) in [
            ("main-bot", "main-bot"),
            ("/etc/x", "/etc/x"),
            ("true", "\"true\""),
            ("1.0", "\"1.0\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("\u{1b}\"", "\"\\u001b\\\"\""),
        ] {
            assert_eq!(text(given), written);
        }
    }
}
