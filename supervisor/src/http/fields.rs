//! What the fields of a request are, as a table, and what FastAPI would say of wrong ones.
//!
//! serde stops at the first surprise and words it for programmers. Requests are therefore read by serde
//! (fast), and only those that fail are read again against the table, which finds **every** wrong field
//! and words it as pydantic does. Ranges stand in the table too; [`Fields::check`] applies them to what
//! serde accepts.

use deia::api::ValidationError;
use serde_json::{Map, Value, json};

use super::error::validation_error;

/// Longest wrong value that is echoed whole.
pub const MAX_ECHO_BYTES: usize = 1024;
/// Most errors one answer lists.
pub const MAX_ERRORS: usize = 64;

/// One field of a request.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// Whether it may be left out.
    pub presence: Presence,
}

/// Whether a field may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It must be there.
    Required,
    /// It may be missing, but not null.
    Optional,
    /// It may be missing or null.
    Nullable,
}

/// What a field must be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text of at most so many bytes.
    Text(usize),
    /// What somebody is called, in at most so many bytes: letters, digits, `_`, `-`, `.`, `:` and `@`.
    Name(usize),
    /// true or false.
    Bool,
    /// A whole number within these bounds.
    Int(i64, i64),
    /// A finite number within these bounds.
    Float(f64, f64),
    /// A list of texts: most entries, most bytes of each.
    Texts(usize, usize),
    /// A list of some of these texts; most entries.
    Enums(usize, &'static [&'static str]),
    /// An object.
    Object,
    /// One of these texts.
    Enum(&'static [&'static str]),
    /// An RFC 3339 time.
    Time,
    /// Anything.
    Any,
}

/// A request whose fields are known.
pub trait Fields {
    /// All of them.
    const FIELDS: &'static [Field];

    /// Bounds that serde does not know, of a value serde has accepted.
    fn check(&self, _errors: &mut Errors) {}
}

/// Collects what is wrong; at most [`MAX_ERRORS`].
#[derive(Debug)]
pub struct Errors {
    place: &'static str,
    found: Vec<ValidationError>,
}

impl Errors {
    /// None yet, in `body` or `query`.
    pub fn new(place: &'static str) -> Self {
        Self {
            place,
            found: Vec::new(),
        }
    }

    /// What was found.
    pub fn into_vec(self) -> Vec<ValidationError> {
        self.found
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds one about the field `path` leads to.
    pub fn add(
        &mut self,
        path: &[Value],
        kind: &'static str,
        msg: impl Into<String>,
        input: &Value,
        ctx: Option<Value>,
    ) {
        if self.found.len() < MAX_ERRORS {
            let mut loc = vec![self.place.into()];
            loc.extend_from_slice(path);
            self.found
                .push(validation_error(kind, loc, msg, echo(input), ctx));
        }
    }

    /// Applies the table's bounds for `name` to a number serde accepted.
    pub fn number<T: Fields>(&mut self, name: &'static str, value: Option<f64>) {
        let (Some(value), Some(field)) = (value, field::<T>(name)) else {
            return;
        };
        let shown = match field.kind {
            Kind::Int(..) => json!(value as i64),
            _ => json!(value),
        };
        self.bounds(&[name.into()], field.kind, value, &shown);
    }

    /// Applies the table's bounds for `name` to a text serde accepted.
    pub fn text<T: Fields>(&mut self, name: &'static str, value: Option<&str>) {
        match (value, field::<T>(name).map(|f| f.kind)) {
            (Some(value), Some(Kind::Text(max))) => self.length(&[name.into()], value, max),
            (Some(value), Some(Kind::Name(max))) => self.name(&[name.into()], value, max),
            _ => {}
        }
    }

    /// Applies the table's bounds for `name` to a list serde accepted.
    pub fn texts<T: Fields>(&mut self, name: &'static str, value: Option<&[String]>) {
        let (Some(list), Some(Kind::Texts(most, bytes))) =
            (value, field::<T>(name).map(|f| f.kind))
        else {
            return;
        };
        self.list_length(name, list.len(), most);
        for (i, text) in list.iter().enumerate().take(most) {
            self.length(&[name.into(), i.into()], text, bytes);
        }
    }

    fn list_length(&mut self, name: &str, len: usize, most: usize) {
        if len > most {
            self.add(
                &[name.into()],
                "too_long",
                format!("List should have at most {most} items after validation, not {len}"),
                &Value::Null,
                Some(json!({"max_length": most, "actual_length": len})),
            );
        }
    }

    fn length(&mut self, path: &[Value], text: &str, max: usize) {
        if text.len() > max {
            self.add(
                path,
                "string_too_long",
                format!("String should have at most {max} bytes"),
                &Value::from(text),
                Some(json!({"max_length": max})),
            );
        }
    }

    /// That there has to be one is another rule.
    fn name(&mut self, path: &[Value], text: &str, max: usize) {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.:@".contains(&b);
        if text.len() > max {
            self.length(path, text, max);
        } else if !text.bytes().all(allowed) {
            self.add(
                path,
                "value_error",
                "Input should be a name: letters, digits, '_', '-', '.', ':' and '@'",
                &Value::from(text),
                None,
            );
        }
    }

    fn bounds(&mut self, path: &[Value], kind: Kind, value: f64, input: &Value) {
        let (min, max, show_min, show_max) = match kind {
            Kind::Int(min, max) => (min as f64, max as f64, json!(min), json!(max)),
            Kind::Float(min, max) => (min, max, json!(min), json!(max)),
            _ => return,
        };
        if !value.is_finite() {
            self.add(
                path,
                "finite_number",
                "Input should be a finite number",
                input,
                None,
            );
        } else if value < min {
            let msg = format!("Input should be greater than or equal to {show_min}");
            self.add(
                path,
                "greater_than_equal",
                msg,
                input,
                Some(json!({"ge": show_min})),
            );
        } else if value > max {
            let msg = format!("Input should be less than or equal to {show_max}");
            self.add(
                path,
                "less_than_equal",
                msg,
                input,
                Some(json!({"le": show_max})),
            );
        }
    }

    /// Everything the table finds wrong with a JSON object.
    pub fn object<T: Fields>(&mut self, object: &Map<String, Value>) {
        for field in T::FIELDS {
            match (object.get(field.name), field.presence) {
                (None, Presence::Required) => {
                    let whole = Value::Object(object.clone());
                    self.add(
                        &[field.name.into()],
                        "missing",
                        "Field required",
                        &whole,
                        None,
                    );
                }
                (None, _) | (Some(Value::Null), Presence::Nullable) => {}
                (Some(value), _) => self.value(&[field.name.into()], field.kind, value),
            }
        }
    }

    fn value(&mut self, path: &[Value], kind: Kind, value: &Value) {
        let mut wrong = |kind, msg: &str| self.add(path, kind, msg, value, None);
        match (kind, value) {
            (Kind::Any, _) | (Kind::Bool, Value::Bool(_)) | (Kind::Object, Value::Object(_)) => {}
            (Kind::Text(max), Value::String(text)) => self.length(path, text, max),
            (Kind::Name(max), Value::String(text)) => self.name(path, text, max),
            (Kind::Text(_) | Kind::Name(_), _) => {
                wrong("string_type", "Input should be a valid string")
            }
            (Kind::Bool, _) => wrong("bool_type", "Input should be a valid boolean"),
            (Kind::Object, _) => wrong("dict_type", "Input should be a valid dictionary"),
            (Kind::Int(..), Value::Number(number)) if !number.is_f64() => {
                self.bounds(path, kind, number.as_f64().unwrap_or(f64::MAX), value);
            }
            (Kind::Int(..), Value::Number(_)) => wrong(
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
            ),
            (Kind::Int(..), _) => wrong("int_type", "Input should be a valid integer"),
            (Kind::Float(..), Value::Number(number)) => {
                self.bounds(path, kind, number.as_f64().unwrap_or(f64::MAX), value);
            }
            (Kind::Float(..), _) => wrong("float_type", "Input should be a valid number"),
            (Kind::Texts(most, bytes), Value::Array(list)) => {
                if let Some(name) = path.first().and_then(Value::as_str) {
                    self.list_length(name, list.len(), most);
                }
                for (i, entry) in list.iter().enumerate() {
                    let mut path = path.to_vec();
                    path.push(i.into());
                    self.value(&path, Kind::Text(bytes), entry);
                }
            }
            (Kind::Enums(most, names), Value::Array(list)) => {
                if let Some(name) = path.first().and_then(Value::as_str) {
                    self.list_length(name, list.len(), most);
                }
                for (i, entry) in list.iter().enumerate() {
                    let mut path = path.to_vec();
                    path.push(i.into());
                    self.value(&path, Kind::Enum(names), entry);
                }
            }
            (Kind::Texts(..) | Kind::Enums(..), _) => {
                wrong("list_type", "Input should be a valid list")
            }
            (Kind::Enum(names), value) => {
                if !value.as_str().is_some_and(|text| names.contains(&text)) {
                    let expected = expected(names);
                    let msg = format!("Input should be {expected}");
                    self.add(
                        path,
                        "enum",
                        msg,
                        value,
                        Some(json!({"expected": expected})),
                    );
                }
            }
            (Kind::Time, Value::String(text)) => {
                if let Err(why) = text.parse::<deia::time::Timestamp>() {
                    let msg = format!("Input should be a valid datetime, {why}");
                    self.add(
                        path,
                        "datetime_parsing",
                        msg,
                        value,
                        Some(json!({"error": why})),
                    );
                }
            }
            (Kind::Time, _) => wrong("datetime_type", "Input should be a valid datetime"),
        }
    }

    /// Everything the table finds wrong with a query's pairs.
    pub fn query<T: Fields>(&mut self, pairs: &[(String, String)]) {
        for field in T::FIELDS {
            let given = pairs.iter().rev().find(|(name, _)| name == field.name);
            let Some((_, text)) = given else {
                if field.presence == Presence::Required {
                    self.add(
                        &[field.name.into()],
                        "missing",
                        "Field required",
                        &Value::Null,
                        None,
                    );
                }
                continue;
            };
            self.query_value(field, text);
        }
    }

    fn query_value(&mut self, field: &Field, text: &str) {
        let path = [Value::from(field.name)];
        let input = Value::from(text);
        let mut unparsed = |kind, what: &str, from: &str| {
            let msg = format!("Input should be a valid {what}, unable to {from}");
            self.add(&path, kind, msg, &input, None);
        };
        match field.kind {
            Kind::Int(..) => match text.parse::<i128>() {
                Ok(number) => self.bounds(&path, field.kind, number as f64, &input),
                Err(_) => unparsed("int_parsing", "integer", "parse string as an integer"),
            },
            Kind::Float(..) => match text.parse::<f64>() {
                Ok(number) => self.bounds(&path, field.kind, number, &input),
                Err(_) => unparsed("float_parsing", "number", "parse string as a number"),
            },
            Kind::Bool => {
                if !matches!(text, "true" | "false") {
                    unparsed("bool_parsing", "boolean", "interpret input");
                }
            }
            kind => self.value(&path, kind, &input),
        }
    }
}

fn field<T: Fields>(name: &str) -> Option<&'static Field> {
    T::FIELDS.iter().find(|field| field.name == name)
}

/// `'P0', 'P1' or 'P2'`.
fn expected(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    }
}

/// The wrong value, or its beginning: an answer is not a mirror for a megabyte.
fn echo(input: &Value) -> Value {
    let text = match input {
        Value::Null | Value::Bool(_) | Value::Number(_) => return input.clone(),
        Value::String(text) if text.len() <= MAX_ECHO_BYTES => return input.clone(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => {
            let text = input.to_string();
            if text.len() <= MAX_ECHO_BYTES {
                return input.clone();
            }
            text
        }
    };
    let end = (0..=MAX_ECHO_BYTES)
        .rev()
        .find(|i| text.is_char_boundary(*i));
    Value::from(format!("{}...", &text[..end.unwrap_or(0)]))
}
