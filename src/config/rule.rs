//! What a key's value may be: kinds, ranges, words. A value is accepted as it is or not at all:
//! nothing is cast, so `"3"` is no number and `1` is no switch.

use std::fmt;
use std::net::SocketAddr;

use serde_json::Value;

use super::tree::{Node, Tree};

/// Longest text of any key.
const MAX_TEXT_CHARS: usize = 4096;
/// Most items of a list.
const MAX_ITEMS: usize = 256;
/// Largest number of seconds: a hundred years, so that sums of times cannot overflow.
pub const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Whole {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A number, whole or not.
    Number {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
        /// Whether these two are allowed themselves.
        ends: Ends,
    },
    /// `[first, largest]`, in seconds.
    Backoff,
    /// Some text.
    Text,
    /// Text, or a number that is taken as it is written (`version: 1.10`, `keep_alive: -1`).
    Written,
    /// One of some words, in any case.
    Word {
        /// As they are stored.
        words: &'static [&'static str],
        /// Words that are known and refused, and why.
        refused: &'static [(&'static str, &'static str)],
    },
    /// A path.
    Path,
    /// `http://` or `https://`.
    Url,
    /// An address and port.
    Listen,
    /// A list of texts.
    Texts,
    /// A list of at least one text: a program and its arguments.
    Argv,
    /// A list of names of environment variables.
    Variables,
    /// Names of environment variables, each with a path.
    VariableFiles,
    /// A list of paths.
    Paths,
    /// A list of ports.
    Ports,
    /// Nothing, or what the other rule says.
    Optional(&'static Rule),
}

/// Whether a range includes its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Both.
    Included,
    /// Neither.
    Excluded,
    /// Only the larger one.
    Upper,
}

impl Rule {
    /// The value in its normal form, or what it must be.
    pub fn check(&self, node: &Node, text: &str) -> Result<Value, String> {
        self.accept(node, text).ok_or_else(|| self.refusal(node))
    }

    fn accept(&self, node: &Node, source: &str) -> Option<Value> {
        match (self, &node.tree) {
            (Self::Optional(_), Tree::Null) => Some(Value::Null),
            (Self::Optional(rule), _) => rule.accept(node, source),
            (Self::Switch, Tree::Bool(yes)) => Some(Value::Bool(*yes)),
            (Self::Switch, Tree::Text(word)) => yaml_1_1_switch(node, word, source),
            (Self::Whole { min, max }, Tree::Int(n)) => {
                let n = u64::try_from(*n).ok()?;
                (*min..=*max).contains(&n).then(|| n.into())
            }
            (Self::Number { min, max, ends }, _) => {
                let x = number(node)?;
                let inside = match ends {
                    Ends::Included => (*min..=*max).contains(&x),
                    Ends::Excluded => x > *min && x < *max,
                    Ends::Upper => x > *min && x <= *max,
                };
                inside.then(|| x.into())
            }
            (Self::Backoff, Tree::List(items)) => {
                let [first, largest] = items.as_slice() else {
                    return None;
                };
                let (first, largest) = (number(first)?, number(largest)?);
                (first > 0.0 && first <= largest && largest <= MAX_SECONDS as f64)
                    .then(|| Value::Array(vec![first.into(), largest.into()]))
            }
            (Self::Text, Tree::Text(text)) => plain_text(text).then(|| text.as_str().into()),
            (Self::Written, Tree::Text(text)) => plain_text(text).then(|| text.as_str().into()),
            (Self::Written, Tree::Int(_) | Tree::Float(_)) => {
                let written = node.source(source).map(str::trim).map(str::to_owned);
                let text = written.or_else(|| Some(node.to_json().to_string()))?;
                plain_text(&text).then(|| text.into())
            }
            (Self::Word { words, .. }, Tree::Text(word)) => words
                .iter()
                .find(|known| known.eq_ignore_ascii_case(word))
                .map(|known| Value::from(*known)),
            (Self::Path, Tree::Text(path)) => plain_text(path).then(|| path.as_str().into()),
            (Self::Url, Tree::Text(url)) => {
                is_url(url).then(|| url.trim_end_matches('/').to_owned().into())
            }
            (Self::Listen, Tree::Text(text)) => {
                listen_address(text).map(|address| address.to_string().into())
            }
            (Self::Texts, Tree::List(items)) => texts(items, plain_text),
            (Self::Argv, Tree::List(items)) => {
                let argv = texts(items, is_argument)?;
                argv.get(0)?
                    .as_str()
                    .is_some_and(|program| !program.trim().is_empty())
                    .then_some(argv)
            }
            (Self::Variables, Tree::List(items)) => texts(items, is_variable),
            (Self::VariableFiles, Tree::Map(entries)) => {
                let mut files = serde_json::Map::new();
                for entry in entries {
                    let path = Self::Path.accept(&entry.node, source)?;
                    if !is_variable(&entry.key) || files.len() >= MAX_ITEMS {
                        return None;
                    }
                    files.insert(entry.key.clone(), path);
                }
                Some(Value::Object(files))
            }
            (Self::Paths, Tree::List(items)) => texts(items, plain_text),
            (Self::Ports, Tree::List(items)) => ports(items),
            _ => None,
        }
    }

    /// Why `node` was not accepted, and what to write.
    fn refusal(&self, node: &Node) -> String {
        if let Tree::Text(text) = &node.tree {
            if let Some(why) = self.refused_word(text) {
                return why.to_owned();
            }
            if self.wants_no_text() {
                return format!("must be {self}, written without quotes; this is text");
            }
        }
        match (self, &node.tree) {
            (_, Tree::Text(_))
            | (Self::Whole { .. } | Self::Number { .. }, Tree::Int(_) | Tree::Float(_)) => {
                format!("must be {self}")
            }
            _ => format!("must be {self}; this is {}", node.kind()),
        }
    }

    fn refused_word(&self, text: &str) -> Option<&'static str> {
        let Self::Word { refused, .. } = self else {
            return None;
        };
        refused
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text))
            .map(|(_, why)| *why)
    }

    fn wants_no_text(&self) -> bool {
        match self {
            Self::Switch | Self::Whole { .. } | Self::Number { .. } => true,
            Self::Optional(rule) => rule.wants_no_text(),
            _ => false,
        }
    }
}

/// As in "must be ...".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("true or false"),
            Self::Whole { min, max } if *max == u64::MAX => {
                write!(f, "a whole number of at least {min}")
            }
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Number { min, max, ends } => match ends {
                Ends::Included => write!(f, "a number from {min} to {max}"),
                Ends::Excluded => write!(f, "a number between {min} and {max}, both excluded"),
                Ends::Upper => write!(f, "a number over {min}, up to {max}"),
            },
            Self::Backoff => f.write_str("[first, largest] in seconds, 0 < first <= largest"),
            Self::Text => f.write_str("text (not empty)"),
            Self::Written => f.write_str("text (not empty) or a number"),
            Self::Word { words, .. } => write!(f, "one of {}", words.join(", ")),
            Self::Path => f.write_str("a path"),
            Self::Url => {
                f.write_str("an address that starts with http:// or https://, without a user")
            }
            Self::Listen => f.write_str("an address and port, such as \"127.0.0.1:8001\""),
            Self::Texts => f.write_str("a list of texts"),
            Self::Argv => f.write_str("a list of texts: the program, then its arguments"),
            Self::Variables => f.write_str("a list of names of environment variables"),
            Self::VariableFiles => {
                f.write_str("names of environment variables, each with the path of a file")
            }
            Self::Paths => f.write_str("a list of paths"),
            Self::Ports => f.write_str("a list of ports from 1 to 65535"),
            Self::Optional(rule) => write!(f, "null or {rule}"),
        }
    }
}

/// `yes`, `no`, `on`, `off` without quotes: what YAML 1.1, and so the Python original, took for a
/// switch.
fn yaml_1_1_switch(node: &Node, word: &str, source: &str) -> Option<Value> {
    let bare = node
        .source(source)
        .is_some_and(|written| !written.starts_with(['"', '\'', '|', '>']));
    let yes = ["yes", "on"].iter().any(|w| w.eq_ignore_ascii_case(word));
    let no = ["no", "off"].iter().any(|w| w.eq_ignore_ascii_case(word));
    (bare && (yes || no)).then_some(Value::Bool(yes))
}

fn number(node: &Node) -> Option<f64> {
    match node.tree {
        Tree::Int(n) => Some(n as f64),
        Tree::Float(x) if x.is_finite() => Some(x),
        _ => None,
    }
}

fn plain_text(text: &str) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= MAX_TEXT_CHARS
        && !text.chars().any(char::is_control)
}

/// Arguments may be empty and may have several lines; a NUL cannot be passed to a program.
fn is_argument(text: &str) -> bool {
    text.chars().count() <= MAX_TEXT_CHARS && !text.contains('\0')
}

fn is_variable(name: &str) -> bool {
    name.len() <= 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn texts(items: &[Node], fits: fn(&str) -> bool) -> Option<Value> {
    if items.len() > MAX_ITEMS {
        return None;
    }
    items
        .iter()
        .map(|item| match &item.tree {
            Tree::Text(text) if fits(text) => Some(Value::from(text.as_str())),
            _ => None,
        })
        .collect::<Option<Vec<Value>>>()
        .map(Value::Array)
}

fn ports(items: &[Node]) -> Option<Value> {
    if items.len() > MAX_ITEMS {
        return None;
    }
    items
        .iter()
        .map(|item| match &item.tree {
            Tree::Int(n) => u16::try_from(*n).ok().filter(|port| *port > 0),
            _ => None,
        })
        .map(|port| port.map(Value::from))
        .collect::<Option<Vec<Value>>>()
        .map(Value::Array)
}

fn is_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        plain_text(rest)
            && !rest.contains(char::is_whitespace)
            && rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            // Who somebody is belongs into a file of secrets: an address is shown in errors.
            && !rest.split(['/', '?', '#']).next().unwrap_or(rest).contains('@')
    })
}

/// The address of `--listen`, by the rule of `http.listen`.
///
/// # Errors
///
/// Why it is not listened on.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    listen_address(text).ok_or_else(|| format!("'{text}' must be {}", Rule::Listen))
}

/// The address that `text` names; `localhost` is 127.0.0.1.
fn listen_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn check(rule: Rule, written: &str) -> Result<Value, String> {
        let text = format!("a: {written}\n");
        let root = tree::read(&text).unwrap();
        rule.check(&root.find("a").unwrap().node, &text)
    }

    const FRACTION: Rule = Rule::Number {
        min: 0.0,
        max: 1.0,
        ends: Ends::Included,
    };

    #[test]
    fn nothing_is_cast() {
        assert_eq!(
            check(FRACTION, "\"0.5\""),
            Err("must be a number from 0 to 1, written without quotes; this is text".to_owned())
        );
        assert!(check(Rule::Switch, "'true'").is_err());
        assert!(check(Rule::Switch, "1").is_err());
        assert!(check(Rule::Switch, "'yes'").is_err());
        assert_eq!(check(Rule::Switch, "Yes"), Ok(true.into()));
        assert_eq!(check(Rule::Switch, "off"), Ok(false.into()));
        assert!(check(Rule::Text, "5").is_err());
        assert!(check(Rule::Whole { min: 0, max: 9 }, "5.0").is_err());
        assert_eq!(check(FRACTION, "1"), Ok(1.0.into()));
        assert!(check(FRACTION, ".nan").is_err());
        assert!(check(FRACTION, ".inf").is_err());
    }

    #[test]
    fn ranges_hold_at_their_ends() {
        let open = Rule::Number {
            min: 0.0,
            max: 1.0,
            ends: Ends::Excluded,
        };
        for (rule, written, fits) in [
            (FRACTION, "0", true),
            (FRACTION, "1.0", true),
            (FRACTION, "1.5", false),
            (FRACTION, "-0.1", false),
            (open, "0", false),
            (open, "1", false),
            (open, "0.1", true),
            (Rule::Whole { min: 1, max: 3 }, "0", false),
            (Rule::Whole { min: 1, max: 3 }, "3", true),
            (Rule::Whole { min: 1, max: 3 }, "4", false),
            (Rule::Whole { min: 0, max: 3 }, "-1", false),
            (Rule::Backoff, "[1, 300]", true),
            (Rule::Backoff, "[2, 1]", false),
            (Rule::Backoff, "[0, 1]", false),
            (Rule::Backoff, "[1]", false),
        ] {
            assert_eq!(check(rule, written).is_ok(), fits, "{rule:?} {written}");
        }
    }

    #[test]
    fn a_version_is_kept_as_it_is_written() {
        assert_eq!(check(Rule::Written, "1.10"), Ok("1.10".into()));
        assert_eq!(check(Rule::Written, "\"2\""), Ok("2".into()));
        assert!(check(Rule::Written, "[1]").is_err());
    }

    #[test]
    fn an_address_has_a_port() {
        assert_eq!(
            check(Rule::Listen, "localhost:80"),
            Ok("127.0.0.1:80".into())
        );
        assert_eq!(check(Rule::Listen, "'[::1]:80'"), Ok("[::1]:80".into()));
        assert_eq!(check(Rule::Listen, "0.0.0.0:80"), Ok("0.0.0.0:80".into()));
        assert!(check(Rule::Listen, "0.0.0.0").is_err());
        assert!(
            check(Rule::Listen, "nowhere")
                .unwrap_err()
                .contains("such as")
        );
    }

    #[test]
    fn words_are_read_in_any_case_and_refused_ones_say_why() {
        let rule = Rule::Word {
            words: &["INFO", "DEBUG"],
            refused: &[("trace", "is spelt DEBUG")],
        };
        assert_eq!(check(rule, "debug"), Ok("DEBUG".into()));
        assert_eq!(check(rule, "TRACE"), Err("is spelt DEBUG".to_owned()));
        assert_eq!(
            check(rule, "x"),
            Err("must be one of INFO, DEBUG".to_owned())
        );
    }

    #[test]
    fn lists_and_maps() {
        assert!(check(Rule::Argv, "[]").is_err());
        assert!(check(Rule::Argv, "['', x]").is_err());
        assert!(check(Rule::Argv, "[sh, '']").is_ok());
        assert!(check(Rule::Variables, "[PATH, 'A=B']").is_err());
        assert!(check(Rule::VariableFiles, "{A: /x}").is_ok());
        assert!(check(Rule::VariableFiles, "{A-B: /x}").is_err());
        assert_eq!(check(Rule::Optional(&Rule::Path), ""), Ok(Value::Null));
        assert!(check(Rule::Path, "").is_err());
        assert_eq!(check(Rule::Url, "http://h/"), Ok("http://h".into()));
        assert!(check(Rule::Url, "ftp://h").is_err());
        assert!(check(Rule::Url, "http://").is_err());
        assert!(check(Rule::Url, "http://user@h/").is_err());
        assert!(check(Rule::Url, "http://h/a@b").is_ok());
        assert!(check(Rule::Ports, "[1, 65535]").is_ok());
        for bad in ["[0]", "[65536]", "['80']", "80"] {
            assert!(check(Rule::Ports, bad).is_err(), "{bad}");
        }
    }
}
