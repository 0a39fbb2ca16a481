//! One line of the log.

use std::path::Path;

use serde_json::{Map, Value};

use crate::human::NOTHING;
use crate::output::one_line;

/// A line, read as far as it is JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As it stands in the file.
    pub text: String,
    /// RFC 3339, UTC: sorts as text. Empty where the line is no JSON.
    pub timestamp: String,
    fields: Option<Map<String, Value>>,
    file: String,
}

impl Entry {
    /// Reads a line of this file.
    pub fn parse(path: &Path, text: String) -> Self {
        let fields = serde_json::from_str::<Map<String, Value>>(&text).ok();
        let timestamp = fields.as_ref().and_then(|f| f.get("timestamp"));
        let timestamp = timestamp.and_then(Value::as_str).unwrap_or_default();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            timestamp: timestamp.to_owned(),
            text,
            fields,
            file: file.into_owned(),
        }
    }

    /// Whether it is about this bot (a masked name, as the log has it).
    pub fn is_about(&self, bot: &str) -> bool {
        let named = |name: &str| {
            let value = self.fields.as_ref().and_then(|fields| fields.get(name));
            value.and_then(Value::as_str) == Some(bot)
        };
        let own_file = self.file.strip_prefix(bot);
        own_file.is_some_and(|rest| rest.starts_with("-activity."))
            || named("bot")
            || named("bot_id")
    }

    /// `23:29:14.123456Z ERROR event message key=value ...`, coloured by level where wanted.
    pub fn render(&self, color: bool) -> String {
        let Some(fields) = &self.fields else {
            return self.text.clone();
        };
        let text = |name: &str| match fields.get(name) {
            Some(Value::String(text)) => one_line(text),
            Some(other) => other.to_string(),
            None => NOTHING.to_owned(),
        };
        let level = text("level");
        let mut line = format!(
            "{} {level:<7} {} {}",
            text("timestamp").replacen('T', " ", 1),
            text("event"),
            text("message")
        );
        for (name, value) in fields {
            if !matches!(name.as_str(), "timestamp" | "level" | "event" | "message") {
                let value = match value {
                    Value::String(text) if !text.contains(' ') => one_line(text),
                    other => other.to_string(),
                };
                line.push_str(&format!(" {}={value}", one_line(name)));
            }
        }
        let shade = match level.to_ascii_lowercase().as_str() {
            "error" | "critical" => 31,
            "warning" => 33,
            "debug" => 2,
            _ => return line,
        };
        match color {
            true => format!("\x1b[{shade}m{line}\x1b[0m"),
            false => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str, text: &str) -> Entry {
        Entry::parse(Path::new(file), text.to_owned())
    }

    #[test]
    fn a_line_shows_its_fixed_fields_and_then_the_rest() {
        let text = r#"{"timestamp":"2026-11-23T23:29:14.000001Z","level":"info","event":"bot_ready",
            "message":"Bot ready","bot":"coder","millis":12,"why":"a b\u001b[2J"}"#;
        assert_eq!(
            entry("supervisor.jsonl", text).render(false),
            "2026-11-23 23:29:14.000001Z info    bot_ready Bot ready bot=coder millis=12 \
             why=\"a b\\u001b[2J\""
        );
    }

    #[test]
    fn a_line_that_is_no_json_is_shown_as_it_is() {
        assert_eq!(entry("x.jsonl", "half a li").render(true), "half a li");
    }

    #[test]
    fn a_bots_lines_are_in_its_file_and_under_its_name_elsewhere() {
        let named = r#"{"bot":"coder","event":"bot_exited"}"#;
        assert!(entry("supervisor.jsonl", named).is_about("coder"));
        assert!(!entry("supervisor.jsonl", named).is_about("code"));
        assert!(entry("coder-activity.1.jsonl", "{}").is_about("coder"));
        assert!(!entry("coder-2-activity.jsonl", "{}").is_about("coder"));
    }
}
