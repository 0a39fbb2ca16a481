//! The notation of `routes.json`: what an answer must look like. `about` in that file says what each word means.

use serde_json::{Map, Value};

/// How much there must be in lists and maps marked with `+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// At least one, so that its shape was looked at.
    Busy,
    /// There may be nothing.
    Idle,
}

/// The named shapes, and how strict to be.
pub struct Shapes<'a> {
    pub named: &'a Map<String, Value>,
    pub stock: Stock,
}

impl Shapes<'_> {
    /// Everything about `value` that is not as `shape` has it.
    pub fn faults(&self, shape: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.look(shape, value, "", &mut faults);
        faults
    }

    fn look(&self, shape: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        match shape {
            Value::String(word) => match word.strip_prefix('$') {
                Some(name) => self.look(&self.named[name], value, at, faults),
                None if is(word, value) => {}
                None => faults.push(format!("{at} is {}, not {word}", short(value))),
            },
            Value::Array(of) => self.list(of, value, at, faults),
            Value::Object(of) => self.map(of, value, at, faults),
            other => panic!("no shape: {other}"),
        }
    }

    fn list(&self, of: &[Value], value: &Value, at: &str, faults: &mut Vec<String>) {
        let first = of.first().and_then(Value::as_str).unwrap_or_default();
        match (first, of) {
            ("and", [_, all @ ..]) => all
                .iter()
                .for_each(|shape| self.look(shape, value, at, faults)),
            ("or", [_, any @ ..]) => {
                let tries = any.iter().map(|shape| {
                    let mut faults = Vec::new();
                    self.look(shape, value, at, &mut faults);
                    faults
                });
                let tries: Vec<_> = tries.collect();
                if tries.iter().all(|faults| !faults.is_empty()) {
                    // The nearest of them says the most.
                    faults.extend(tries.into_iter().min_by_key(Vec::len).unwrap_or_default());
                }
            }
            ("+", [_, each]) => self.each(each, value, true, at, faults),
            (_, [each]) => self.each(each, value, false, at, faults),
            _ => panic!("no shape: {of:?}"),
        }
    }

    fn each(&self, shape: &Value, value: &Value, some: bool, at: &str, faults: &mut Vec<String>) {
        let Some(items) = value.as_array() else {
            faults.push(format!("{at} is {}, not a list", short(value)));
            return;
        };
        if some && items.is_empty() && self.stock == Stock::Busy {
            faults.push(format!("{at} is empty, and it should not be"));
        }
        for (n, item) in items.iter().enumerate() {
            self.look(shape, item, &format!("{at}[{n}]"), faults);
        }
    }

    fn map(&self, of: &Map<String, Value>, value: &Value, at: &str, faults: &mut Vec<String>) {
        let Some(fields) = value.as_object() else {
            faults.push(format!("{at} is {}, not an object", short(value)));
            return;
        };
        if let Some((any @ ("*" | "+"), shape)) = of.iter().next().map(|(k, s)| (k.as_str(), s)) {
            if any == "+" && fields.is_empty() && self.stock == Stock::Busy {
                faults.push(format!("{at} is empty, and it should not be"));
            }
            for (name, field) in fields {
                self.look(shape, field, &format!("{at}.{name}"), faults);
            }
            return;
        }
        for (name, shape) in of {
            let (name, must) = match name.strip_suffix('?') {
                Some(name) => (name, false),
                None => (name.as_str(), true),
            };
            match fields.get(name) {
                Some(field) => self.look(shape, field, &format!("{at}.{name}"), faults),
                None if must => faults.push(format!("{at}.{name} is missing")),
                None => {}
            }
        }
    }
}

fn is(word: &str, value: &Value) -> bool {
    if let Some(text) = word.strip_prefix('=') {
        return value == text || serde_json::from_str(text).is_ok_and(|is: Value| is == *value);
    }
    if let Some(word) = word.strip_suffix('?') {
        return value.is_null() || is(word, value);
    }
    let text = value.as_str();
    match word {
        "any" => true,
        "null" => value.is_null(),
        "str" => text.is_some(),
        "text" => text.is_some_and(|text| !text.is_empty()),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_f64(),
        "num" => value.is_number(),
        "frac" => value.as_f64().is_some_and(|n| (0.0..=1.0).contains(&n)),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "ts" => text.is_some_and(|text| looks_like(text, "0000-00-00T00:00:00.000000Z")),
        "uuid" => text.is_some_and(|text| looks_like(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")),
        "sha256" => text.is_some_and(|text| looks_like(text, &"x".repeat(64))),
        words if words.contains('|') => {
            text.is_some_and(|text| words.split('|').any(|w| w == text))
        }
        other => panic!("no type: {other}"),
    }
}

/// `0` stands for a digit, `x` for a hexadecimal one in lower case.
fn looks_like(text: &str, pattern: &str) -> bool {
    let fits = |(c, p): (char, char)| match p {
        '0' => c.is_ascii_digit(),
        'x' => c.is_ascii_digit() || ('a'..='f').contains(&c),
        p => c == p,
    };
    text.chars().count() == pattern.len() && text.chars().zip(pattern.chars()).all(fits)
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    let end = text.floor_char_boundary(80.min(text.len()));
    text[..end].to_owned()
}

#[test]
fn what_is_not_as_the_shape_has_it_is_found() {
    let named = serde_json::json!({"inner": {"n": "int"}});
    let shapes = |stock| Shapes {
        named: named.as_object().unwrap(),
        stock,
    };
    let shape: Value = serde_json::from_str(
        r#"{"at": "ts", "name": "text", "rate": "frac", "level": "low|high", "list": ["+", "$inner"], "map": {"*": "float"}, "gone": "str?", "may?": "bool", "either": ["or", "null", "=7"]}"#,
    )
    .unwrap();
    let good: Value = serde_json::from_str(
        r#"{"at": "2026-01-31T12:00:00.000000Z", "name": "x", "rate": 0.5, "level": "low", "list": [{"n": 1, "more": 2}], "map": {"a": 0.0}, "gone": null, "either": 7}"#,
    )
    .unwrap();
    assert_eq!(shapes(Stock::Busy).faults(&shape, &good), [""; 0]);
    for (name, wrong) in [
        ("at", r#""2026-01-31T12:00:00Z""#),
        ("name", r#""""#),
        ("rate", "1.5"),
        ("rate", "null"),
        ("level", r#""middle""#),
        ("list", r#"[{"n": 1.5}]"#),
        ("list", "[]"),
        ("list", "{}"),
        ("map", r#"{"a": 1}"#),
        ("gone", "1"),
        ("may", "1"),
        ("either", "8"),
    ] {
        let mut bad = good.clone();
        bad[name] = serde_json::from_str(wrong).unwrap();
        let faults = shapes(Stock::Busy).faults(&shape, &bad);
        assert_eq!(faults.len(), 1, "{name}: {wrong}: {faults:?}");
        let empty = wrong == "[]";
        let faults = shapes(Stock::Idle).faults(&shape, &bad);
        assert_eq!(faults.is_empty(), empty, "{name}: {wrong}: {faults:?}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("gone");
    assert_eq!(
        shapes(Stock::Idle).faults(&shape, &bad),
        [".gone is missing"]
    );
}
