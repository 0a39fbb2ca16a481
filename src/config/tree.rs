//! YAML text to a tree of values that know where they stand.
//!
//! Only the shape of the text is judged here (it parses, keeps within the budgets, repeats no key);
//! what the keys mean is for the tables. JSON is read by the same parser, being a subset of YAML.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{
    Location, Spanned,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

/// Largest configuration that is read.
pub const MAX_CONFIG_BYTES: usize = 1024 * 1024;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 32;
/// Most values (scalars, lists, maps) in one file.
const MAX_NODES: usize = 50_000;
/// Most uses of anchors: enough to share a pool's settings, too few for an alias bomb.
const MAX_ALIASES: usize = 64;
/// Most values that aliases may copy.
const MAX_ALIASED_EVENTS: usize = 10_000;

/// Where a value or key stands in its file. Lines and columns count from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// The line; 0 when it is not known.
    pub line: usize,
    /// The column; 0 when it is not known.
    pub column: usize,
    /// Characters it covers, at least 1.
    pub width: usize,
}

impl From<Location> for At {
    fn from(at: Location) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            line: number(at.line()),
            column: number(at.column()),
            width: number(at.span().len()).max(1),
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub tree: Tree,
    /// Where it is used: for an alias, where the alias is.
    pub at: At,
    /// The bytes of the text it was defined by.
    defined: Option<(usize, usize)>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number, also an infinite one.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: At,
    /// Its value.
    pub node: Node,
}

/// Why a text is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where; line 0 when it is about the whole text.
    pub at: At,
    /// What is wrong.
    pub message: String,
}

/// The tree of `text`; an empty text (or one of comments only) is [`Tree::Null`].
pub fn read(text: &str) -> Result<Node, SyntaxError> {
    if text.len() > MAX_CONFIG_BYTES {
        return Err(SyntaxError {
            at: At::default(),
            message: format!(
                "the file has {} bytes; at most {MAX_CONFIG_BYTES} are read",
                text.len()
            ),
        });
    }
    if is_blank(text) {
        return Ok(Node {
            tree: Tree::Null,
            at: At::default(),
            defined: None,
        });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_documents: 1,
            max_merge_keys: MAX_ALIASES,
            max_total_scalar_bytes: MAX_CONFIG_BYTES,
            max_recorded_anchor_events: MAX_ALIASED_EVENTS,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED_EVENTS,
            max_replay_stack_depth: 4,
            max_alias_expansions_per_anchor: MAX_ALIASES,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // Only true and false are switches, so that `auth: off` is the word it looks like.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
        emit_comments: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| SyntaxError {
        at: error.location().map_or_else(At::default, At::from),
        message: message_of(&error),
    })
}

/// Nothing but blank lines, comments and document markers.
pub fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

/// The parser's message without the position, which is printed by whoever shows it.
fn message_of(error: &serde_saphyr::Error) -> String {
    let whole = error.without_snippet().to_string();
    let first = whole.lines().next().unwrap_or("does not parse");
    match first.rfind(" at line ") {
        Some(cut) => first[..cut].to_owned(),
        None => first.to_owned(),
    }
}

impl Node {
    /// The entries, when it is a map.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.tree {
            Tree::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry at a dotted path of plain keys.
    pub fn find(&self, path: &str) -> Option<&Entry> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let entry = self.entries()?.iter().find(|entry| entry.key == first)?;
        match rest {
            Some(rest) => entry.node.find(rest),
            None => Some(entry),
        }
    }

    /// The characters it was written with, where the parser knows them.
    pub fn source<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (start, length) = self.defined?;
        text.get(start..start.checked_add(length)?)
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "true or false",
            Tree::Int(_) => "a whole number",
            Tree::Float(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a section",
        }
    }

    /// The value as JSON; a number that JSON cannot hold becomes text.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(yes) => Value::Bool(*yes),
            Tree::Int(n) => i64::try_from(*n)
                .map(Value::from)
                .or_else(|_| u64::try_from(*n).map(Value::from))
                .unwrap_or_else(|_| Value::String(n.to_string())),
            Tree::Float(x) => serde_json::Number::from_f64(*x)
                .map_or_else(|| Value::String(x.to_string()), Value::Number),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Tree::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok());
        Ok(Self {
            tree: spanned.value,
            at: spanned.referenced.into(),
            defined: number(span.byte_offset()).zip(number(span.byte_len())),
        })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(yes))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Tree, E> {
        Ok(Tree::Int(n.into()))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Tree, E> {
        Ok(Tree::Int(n.into()))
    }

    fn visit_i128<E: de::Error>(self, n: i128) -> Result<Tree, E> {
        Ok(Tree::Int(n))
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<Tree, E> {
        Ok(Tree::Float(x))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry {
                key: key.value,
                at: key.referenced.into(),
                node: map.next_value()?,
            });
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines_and_columns() {
        let text = "a: 1\nb:\n  c: [x, 2.5]\n  \"d\": \"é y\"\n";
        let node = read(text).unwrap();
        let c = node.find("b.c").unwrap();
        assert_eq!((c.at.line, c.at.column), (3, 3));
        let Tree::List(items) = &c.node.tree else {
            panic!("{c:?}")
        };
        assert_eq!((items[1].at.line, items[1].at.column), (3, 10));
        assert_eq!(items[1].tree, Tree::Float(2.5));
        assert_eq!(items[1].at.width, 3);
        let d = node.find("b.d").unwrap();
        assert_eq!((d.at.line, d.node.at.column), (4, 8));
        assert_eq!(d.node.source(text), Some("\"é y\""));
        assert_eq!(node.find("a").unwrap().node.tree, Tree::Int(1));
    }

    #[test]
    fn an_alias_is_shown_where_it_is_used() {
        let node = read("a: &x {q: 1}\nb: *x\nc:\n  <<: *x\n  r: 2\n").unwrap();
        let b = node.find("b").unwrap();
        assert_eq!(b.node.at.line, 2);
        assert_eq!(node.find("b.q").unwrap().node.tree, Tree::Int(1));
        assert_eq!(node.find("c.q").unwrap().node.tree, Tree::Int(1));
    }

    #[test]
    fn only_true_and_false_are_switches() {
        let node = read("a: off\nb: true\nc: ~\nd: 'true'\ne: .inf\n").unwrap();
        assert_eq!(node.find("a").unwrap().node.tree, Tree::Text("off".into()));
        assert_eq!(node.find("b").unwrap().node.tree, Tree::Bool(true));
        assert_eq!(node.find("c").unwrap().node.tree, Tree::Null);
        assert_eq!(node.find("d").unwrap().node.tree, Tree::Text("true".into()));
        assert_eq!(
            node.find("e").unwrap().node.tree,
            Tree::Float(f64::INFINITY)
        );
    }

    #[test]
    fn json_is_read_with_tabs_escapes_and_pairs() {
        let text = "{\n\t\"a\": {\"b\": [1, true, null, \"x\\/y\\ud83d\\ude00\"]}\n}\n";
        let node = read(text).unwrap();
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": {"b": [1, true, null, "x/y\u{1f600}"]}})
        );
    }

    #[test]
    fn nothing_is_null_and_comments_are_nothing() {
        for text in ["", "\n\n", "# only\n", "---\n# x\n", "\u{feff}"] {
            assert_eq!(read(text).unwrap().tree, Tree::Null, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_one_document_of_distinct_keys_is_an_error_with_its_line() {
        for (text, line) in [
            ("a: 1\na: 2\n", 2),
            ("a: [1\n", 0),
            ("a: 1\n---\nb: 2\n", 0),
            ("a: *nowhere\n", 1),
            ("\"a\": \"x\n", 0),
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.message.is_empty(), "{text:?}");
            assert!(!error.message.contains('\n'), "{error:?}");
            if line > 0 {
                assert_eq!(error.at.line, line, "{error:?}");
            }
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut aliases = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, of) in ["b", "c", "d", "e", "f", "g"]
            .iter()
            .zip(["a", "b", "c", "d", "e", "f"])
        {
            aliases += &format!(
                "{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n"
            );
        }
        assert!(read(&aliases).is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&format!("a: {}{}", "[".repeat(40), "]".repeat(40))).is_err());
        assert!(read(&"- ".repeat(40)).is_err());
        assert!(read(&"x".repeat(MAX_CONFIG_BYTES + 1)).is_err());
        assert!(read(&"- x\n".repeat(60_000)).is_err());
    }
}
