//! From a tracing event to its two written forms: the JSON line, and the readable one.
//!
//! Each is made once per event, in a buffer the thread keeps. No text that the rule of [`deia::mask`]
//! forbids passes: a value that contains such a word is written as its digest, and so is a field's name.
//! `ERROR` in capitals is kept for the level: a client that names its task so must not make the
//! checklist's `grep ERROR` find a fault.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use deia::config::redact_secrets;
use deia::mask;
use deia::time::Timestamp;
use regex::Regex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Longest value that is written whole.
pub const MAX_VALUE_BYTES: usize = 4096;
/// Longest run of fields in one line; what does not fit is left out.
pub const MAX_FIELDS_BYTES: usize = 48 * 1024;
/// The level's name that nothing else may spell.
const FAULT: &str = "ERROR";

/// How severe, as the files have it.
pub(super) fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => FAULT,
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// Which forms are wanted besides JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forms {
    /// None.
    JsonOnly,
    /// `name=value` pairs too.
    Readable,
}

/// An event's parts, masked and bounded. Reused from event to event.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) event: String,
    pub(super) message: String,
    pub(super) bot: String,
    pub(super) task: String,
    /// `,"name":value` for each field.
    json: Vec<u8>,
    /// ` name=value` for each field.
    pub(super) readable: String,
    scratch: String,
    readable_wanted: bool,
}

impl Parts {
    /// Takes an event apart.
    pub(super) fn read(&mut self, event: &Event<'_>, forms: Forms) {
        self.event.clear();
        self.message.clear();
        self.bot.clear();
        self.task.clear();
        self.json.clear();
        self.readable.clear();
        self.readable_wanted = forms == Forms::Readable;
        event.record(self);
        if self.event.is_empty() {
            // Of a library: it has no event of its own, so its target says where it is from.
            self.event.push_str("log");
            self.text("target", event.metadata().target());
        }
    }

    /// The JSON line, with its newline.
    pub(super) fn write_json(&self, at: Timestamp, level: Level, line: &mut Vec<u8>) {
        line.clear();
        line.extend_from_slice(b"{\"timestamp\":\"");
        push_fmt(line, format_args!("{at}"));
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(level_name(level).as_bytes());
        line.extend_from_slice(b"\",\"event\":");
        push_json_text(line, &self.event);
        line.extend_from_slice(b",\"message\":");
        push_json_text(line, &self.message);
        line.extend_from_slice(&self.json);
        line.extend_from_slice(b"}\n");
    }

    fn text(&mut self, name: &str, value: &str) {
        let value = &*safe(value);
        match name {
            "event" => return self.event.push_str(value),
            "message" => return self.message.push_str(value),
            "bot_id" | "bot" => {
                self.bot.clear();
                self.bot.push_str(value);
            }
            "task_id" | "task" => {
                self.task.clear();
                self.task.push_str(value);
            }
            _ => {}
        }
        if !self.begin(name, value.len()) {
            return;
        }
        push_json_text(&mut self.json, value);
        if self.readable_wanted {
            let plain = !value.is_empty()
                && value
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
            // `{:?}` escapes control characters: nobody writes to the operator's terminal through us.
            let written = if plain {
                write!(self.readable, "{value}")
            } else {
                write!(self.readable, "{value:?}")
            };
            debug_assert!(written.is_ok());
        }
    }

    fn plain(&mut self, name: &str, value: fmt::Arguments<'_>) {
        if self.begin(name, 32) {
            push_fmt(&mut self.json, value);
            if self.readable_wanted {
                let written = self.readable.write_fmt(value);
                debug_assert!(written.is_ok());
            }
        }
    }

    fn begin(&mut self, name: &str, room: usize) -> bool {
        if self.json.len() + name.len() + room > MAX_FIELDS_BYTES {
            return false;
        }
        let name = &*safe(name.strip_prefix("r#").unwrap_or(name));
        self.json.push(b',');
        push_json_text(&mut self.json, name);
        self.json.push(b':');
        if self.readable_wanted {
            self.readable.push(' ');
            self.readable.push_str(name);
            self.readable.push('=');
        }
        true
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field.name(), format_args!("{value}"));
        } else {
            self.plain(field.name(), format_args!("null"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // A value whose own Debug fails is written as far as it came.
        let _ = write!(scratch, "{value:?}");
        self.text(field.name(), &scratch);
        self.scratch = scratch;
    }
}

/// What every text with the shape of a secret has somewhere: most texts are told apart by one search.
/// A known start counts where a word begins, as it does for `redact_secrets`: each `task-1` has an `sk-`.
static HINT: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "a constant, which a test compiles")]
    Regex::new(
        "(?:^|[^0-9A-Za-z_-])(?:sk[-_]|gh[a-z]_|github_pat_|glpat-|xox[a-z]-|A[KS]IA|AIza|hf_|npm_|whsec_|deia_|(?i:bearer ))\
         |eyJ|-----BEGIN|://",
    )
        .expect("a pattern that compiles")
});

/// `text` as it may be written: masked as a whole, then without what looks like a secret, then cut.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    if mask::is_forbidden(text) || text.contains(FAULT) {
        return Cow::Owned(mask::digest(text));
    }
    if HINT.is_match(text) {
        let redacted = redact_secrets(text);
        return Cow::Owned(cut(&redacted).into_owned());
    }
    cut(text)
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_VALUE_BYTES {
        return Cow::Borrowed(text);
    }
    let end = (0..=MAX_VALUE_BYTES)
        .rev()
        .find(|i| text.is_char_boundary(*i));
    Cow::Owned(format!("{}...", &text[..end.unwrap_or(0)]))
}

fn push_json_text(line: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(line, text);
    debug_assert!(written.is_ok());
}

fn push_fmt(line: &mut Vec<u8>, value: fmt::Arguments<'_>) {
    let written = std::io::Write::write_fmt(line, value);
    debug_assert!(written.is_ok());
}
