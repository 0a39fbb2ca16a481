//! What is wrong with a file, shown the way a compiler shows it: where, what, why, and what is used
//! instead. Nothing here ever prints a secret: values and lines pass through [`secret::redact`].

use std::fmt;
use std::path::{Path, PathBuf};

use super::secret;
use super::tree::At;

/// Characters of a value that are shown.
const MAX_VALUE_CHARS: usize = 80;
/// Characters of a source line that are shown.
const MAX_LINE_CHARS: usize = 110;
/// Characters shown before the column, in a line that is cut.
const LEAD_CHARS: usize = 40;

/// One thing that is wrong, or odd, in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1; 0 when it is about the whole file.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The dotted key; empty when no key is concerned.
    pub key: String,
    /// The value as it was given, cut and redacted.
    pub value: Option<String>,
    /// The rule that it breaks, and what to do.
    pub rule: String,
    /// What is used in its place.
    pub used: Option<String>,
    /// The line, cut and redacted, and the place in it.
    pub snippet: Option<Snippet>,
}

/// A source line and a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The line, made harmless for terminals.
    pub text: String,
    /// Characters before the caret.
    pub indent: usize,
    /// Carets.
    pub width: usize,
}

impl Problem {
    /// Without the snippet: for logs and `load_errors`.
    pub fn one_line(&self) -> String {
        let mut line = self.file.display().to_string();
        if self.line > 0 {
            line += &format!(":{}", self.line);
            if self.column > 0 {
                line += &format!(":{}", self.column);
            }
        }
        line += ": ";
        if !self.key.is_empty() {
            line += &self.key;
            line += ": ";
        }
        if let Some(value) = &self.value {
            line += value;
            line += ": ";
        }
        line += &self.rule;
        if let Some(used) = &self.used {
            line += &format!("; using {used}");
        }
        line
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())?;
        let Some(snippet) = &self.snippet else {
            return Ok(());
        };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        write!(
            f,
            "\n {margin} |\n {number} | {}\n {margin} | {}{}",
            snippet.text,
            " ".repeat(snippet.indent),
            "^".repeat(snippet.width)
        )
    }
}

/// A file that is refused whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why: at least one.
    pub problems: Vec<Problem>,
}

impl Refusal {
    /// All reasons on one line: for logs, `load_errors` and `/health`.
    pub fn one_line(&self) -> String {
        let lines: Vec<String> = self.problems.iter().map(Problem::one_line).collect();
        lines.join("; ")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// Whether the source lines may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// Shown, redacted.
    Shown,
    /// Not shown: the text may hold a secret that nothing can tell from the rest.
    Hidden,
}

/// Makes problems about one text.
#[derive(Debug, Clone, Copy)]
pub struct Source<'t> {
    /// Its name.
    pub file: &'t Path,
    /// The text.
    pub text: &'t str,
    /// Whether its lines may be shown.
    pub lines: Lines,
}

impl Source<'_> {
    /// A problem at `at`.
    pub fn problem(&self, at: At, key: &str, value: Option<&str>, rule: &str) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            key: cut(&secret::redact(key)),
            value: value.map(|value| cut(&secret::redact(value))),
            rule: harmless(&secret::redact(rule)),
            used: None,
            snippet: match self.lines {
                Lines::Shown => self.snippet(at),
                Lines::Hidden => None,
            },
        }
    }

    fn snippet(&self, at: At) -> Option<Snippet> {
        let raw = self.text.lines().nth(at.line.checked_sub(1)?)?;
        let line = secret::redact(raw);
        let characters = line.chars().count();
        // A redacted line is another line: its columns mean nothing.
        let column = if line == raw {
            at.column.saturating_sub(1).min(characters)
        } else {
            0
        };
        let start = if characters <= MAX_LINE_CHARS {
            0
        } else {
            column.saturating_sub(LEAD_CHARS)
        };
        let text: String = harmless(&line)
            .chars()
            .skip(start)
            .take(MAX_LINE_CHARS)
            .collect();
        let indent = column - start;
        let room = text.trim_end().chars().count().saturating_sub(indent);
        Some(Snippet {
            indent,
            width: at.width.clamp(1, room.max(1)),
            text: text.trim_end().to_owned(),
        })
    }
}

/// `text` on one line, without control characters (a terminal would obey them).
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

fn cut(text: &str) -> String {
    let text = harmless(text);
    if text.chars().count() <= MAX_VALUE_CHARS {
        return text;
    }
    let head: String = text.chars().take(MAX_VALUE_CHARS).collect();
    format!("{head}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, at: At) -> String {
        let source = Source {
            file: Path::new("f.yaml"),
            text,
            lines: Lines::Shown,
        };
        source
            .problem(at, "a.b", Some("1.5"), "must be 0-1")
            .to_string()
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        let at = At {
            line: 2,
            column: 6,
            width: 3,
        };
        assert_eq!(
            show("a:\n  b: 1.5 # é\n", at),
            "f.yaml:2:6: a.b: 1.5: must be 0-1\n   |\n 2 |   b: 1.5 # é\n   |      ^^^"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place_and_controls_are_made_harmless() {
        let line = format!("{}\u{1b}[31m!{}", "x".repeat(500), "y".repeat(500));
        let shown = show(
            &line,
            At {
                line: 1,
                column: 506,
                width: 2000,
            },
        );
        assert!(!shown.contains('\u{1b}'));
        assert!(shown.lines().all(|l| l.chars().count() < 130), "{shown}");
        let mut lines = shown.lines().skip(2);
        let (text, carets) = (lines.next().unwrap(), lines.next().unwrap());
        let column = carets.chars().position(|c| c == '^').unwrap();
        assert_eq!(text.chars().nth(column), Some('!'));
    }

    #[test]
    fn places_outside_the_text_are_survived() {
        for (line, column) in [(0, 0), (1, 900), (99, 1)] {
            show(
                "a: 1",
                At {
                    line,
                    column,
                    width: 5,
                },
            );
        }
    }
}
