//! Standard output and standard error. All printing goes through here: a closed pipe is a quiet end,
//! and no text of a bot or a client can steer the terminal.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use deia::client::Reply;
use serde::Serialize;

use crate::failure::Failure;

/// Where results go, and in which form.
#[derive(Debug)]
pub struct Out {
    /// JSON instead of text for people.
    pub json: bool,
    /// A person is looking.
    pub terminal: bool,
    /// Colours are wanted: a terminal, and no `NO_COLOR`.
    pub color: bool,
    printed: Cell<bool>,
}

impl Out {
    /// Looks at standard output and `NO_COLOR` (any value but an empty one; no-color.org).
    pub fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            terminal,
            color: terminal && !no_color,
            printed: Cell::new(false),
        }
    }

    /// Whether anything went to standard output.
    pub fn has_printed(&self) -> bool {
        self.printed.get()
    }

    /// Text of ours, as it is.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// One line of ours.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Text of a bot: as it is into a pipe, without control characters to a terminal.
    pub fn foreign(&self, text: &str) -> Result<(), Failure> {
        if self.terminal {
            self.text(&printable(text))
        } else {
            self.text(text)
        }
    }

    /// The answer: as the daemon's JSON with `--json`, else what `show` makes of it.
    pub fn reply<T>(
        &self,
        reply: &Reply<T>,
        show: impl FnOnce(&T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.json {
            self.json_bytes(&reply.json)
        } else {
            show(&reply.value)
        }
    }

    /// One JSON document of the daemon: unchanged into a pipe, indented on a terminal.
    pub fn json_bytes(&self, json: &[u8]) -> Result<(), Failure> {
        if self.terminal
            && let Ok(value) = serde_json::from_slice::<serde_json::Value>(json)
        {
            return self.json(&value);
        }
        let mut line = json.trim_ascii().to_vec();
        line.push(b'\n');
        self.bytes(&line)
    }

    /// One JSON document: one line into a pipe, indented on a terminal.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        if self.terminal {
            let text = serde_json::to_string_pretty(value);
            return self.line(&text.map_err(|e| Failure::Failed(e.to_string()))?);
        }
        self.json_line(value)
    }

    /// One object of a stream, always one line.
    pub fn json_line<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value);
        self.line(&text.map_err(|e| Failure::Failed(e.to_string()))?)
    }

    /// Something said on the way, on standard error.
    pub fn note(&self, text: &str) {
        // With standard error closed there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "deiactl: {}", printable(text));
    }

    fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.printed.set(true);
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Failed(format!("standard output can't be written: {error}")),
        })
    }
}

/// `text` with every control character but line feeds and tabs replaced, so that it can't move the
/// cursor, recolour or rename the terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harmful) {
        Cow::Owned(text.replace(harmful, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// [`printable`], in one line.
pub fn one_line(text: &str) -> String {
    text.split_whitespace()
        .map(printable)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_escape_sequence_reaches_a_terminal() {
        assert_eq!(
            printable("a\x1b[31mb\u{9b}c\n\td"),
            "a\u{fffd}[31mb\u{fffd}c\n\td"
        );
        assert!(matches!(printable("plain é"), Cow::Borrowed(_)));
        assert_eq!(one_line("a\n b\r\n\x07c"), "a b \u{fffd}c");
    }
}
