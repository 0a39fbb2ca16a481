//! The sink for people: readable lines on standard error.

use std::io::{self, Write};

use tracing::Level;

use super::queue::{Batch, Sink};

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Time and level, with colours.
    Colour,
    /// Time and level.
    Plain,
    /// systemd's `<priority>`; the journal has the time.
    Systemd,
}

/// Standard error. One that is closed or full loses lines, nothing else.
#[derive(Debug)]
pub(super) struct ConsoleSink {
    out: Vec<u8>,
}

impl ConsoleSink {
    pub(super) fn new() -> Self {
        Self { out: Vec::new() }
    }
}

impl Sink for ConsoleSink {
    fn write(&mut self, batch: &Batch) {
        self.out.clear();
        for line in batch.lines() {
            self.out.extend_from_slice(line.text);
        }
        if batch.dropped > 0 {
            drop(writeln!(
                self.out,
                "({} lines left out here; the log files have them)",
                batch.dropped
            ));
        }
        drop(io::stderr().lock().write_all(&self.out));
    }
}

/// `2026-11-23T10:00:00.123456Z warning Bot exited bot_id=coder code=1`, as the style has it.
pub(super) fn format(
    style: Style,
    at: deia::time::Timestamp,
    level: Level,
    message: &str,
    fields: &str,
    line: &mut Vec<u8>,
) {
    line.clear();
    let name = super::event::level_name(level);
    let message = Printable(message);
    let written = match style {
        Style::Systemd => writeln!(line, "<{}>{message}{fields}", priority(level)),
        Style::Plain => writeln!(line, "{at} {name:<7} {message}{fields}"),
        Style::Colour => {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG | Level::TRACE => 34,
            };
            writeln!(
                line,
                "\x1b[2m{at}\x1b[0m \x1b[{colour}m{name:<7}\x1b[0m {message}\x1b[2m{fields}\x1b[0m"
            )
        }
    };
    debug_assert!(written.is_ok());
}

/// syslog's number.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// A text without control characters: no message moves the operator's cursor or forges a line.
struct Printable<'a>(&'a str);

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.0.contains(char::is_control) {
            return f.write_str(self.0);
        }
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_readable_and_nobody_else_s_escapes_pass() {
        let mut line = Vec::new();
        let at = deia::time::Timestamp::from_micros(0);
        format(
            Style::Plain,
            at,
            Level::WARN,
            "Bot\x1b[2J exited\nx",
            " code=1",
            &mut line,
        );
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            "1970-01-01T00:00:00.000000Z warning Bot\\u{1b}[2J exited\\nx code=1\n"
        );
        format(Style::Systemd, at, Level::INFO, "Ready", "", &mut line);
        assert_eq!(line, b"<6>Ready\n");
    }
}
