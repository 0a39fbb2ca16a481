//! From bytes to a request: serde first, and the field table for what serde refuses.

use axum::extract::Query;
use deia::api::ValidationError;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Value, json};

use super::error::validation_error;
use super::fields::{Errors, Fields};

/// A JSON object as `T`, or all that is wrong with it.
///
/// # Errors
/// At least one entry for a 422.
pub fn parse_body<T: DeserializeOwned + Fields>(bytes: &[u8]) -> Result<T, Vec<ValidationError>> {
    match serde_json::from_slice::<T>(bytes) {
        Ok(value) if starts_an_object(bytes) => within_bounds(value, "body"),
        Ok(_) => explain_body::<T>(bytes, None),
        Err(error) => explain_body::<T>(bytes, Some(&error)),
    }
}

/// serde takes a struct's fields from an array too; the contract does not.
fn starts_an_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

fn within_bounds<T: Fields>(value: T, place: &'static str) -> Result<T, Vec<ValidationError>> {
    let mut errors = Errors::new(place);
    value.check(&mut errors);
    if errors.is_empty() {
        Ok(value)
    } else {
        Err(errors.into_vec())
    }
}

fn explain_body<T: DeserializeOwned + Fields>(
    bytes: &[u8],
    error: Option<&serde_json::Error>,
) -> Result<T, Vec<ValidationError>> {
    let body = || vec![Value::from("body")];
    if bytes.trim_ascii().is_empty() {
        let missing = validation_error("missing", body(), "Field required", Value::Null, None);
        return Err(vec![missing]);
    }
    let value = match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => value,
        Err(error) => return Err(vec![json_invalid(bytes, &error)]),
    };
    let Value::Object(object) = &value else {
        let mut errors = Errors::new("body");
        errors.add(
            &[],
            "dict_type",
            "Input should be a valid dictionary",
            &value,
            None,
        );
        return Err(errors.into_vec());
    };
    let mut errors = Errors::new("body");
    errors.object::<T>(object);
    if errors.is_empty() {
        // The table sees nothing wrong: a field given twice (the last one counts), or a rule of a
        // type that the table does not know.
        match serde_json::from_value::<T>(value) {
            Ok(value) => return within_bounds(value, "body"),
            Err(last) => {
                let why = error.map_or_else(|| last.to_string(), without_place);
                errors.add(&[], "value_error", why, &Value::Null, None);
            }
        }
    }
    Err(errors.into_vec())
}

fn json_invalid(bytes: &[u8], error: &serde_json::Error) -> ValidationError {
    let at = offset(bytes, error);
    validation_error(
        "json_invalid",
        vec!["body".into(), at.into()],
        "JSON decode error",
        json!({}),
        Some(json!({"error": without_place(error)})),
    )
}

/// Where in the bytes serde_json stopped: it says line and column.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    if error.classify() == Category::Eof {
        return bytes.len();
    }
    let lines = error.line().saturating_sub(1);
    let line_start = if lines == 0 {
        0
    } else {
        bytes
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .nth(lines - 1)
            .map_or(0, |(i, _)| i + 1)
    };
    (line_start + error.column().saturating_sub(1)).min(bytes.len())
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// A query as `T`, or all that is wrong with it.
///
/// # Errors
/// At least one entry for a 422.
pub fn parse_query<T: DeserializeOwned + Fields>(
    uri: &axum::http::Uri,
) -> Result<T, Vec<ValidationError>> {
    let error = match Query::<T>::try_from_uri(uri) {
        Ok(Query(value)) => return within_bounds(value, "query"),
        Err(error) => error,
    };
    let mut errors = Errors::new("query");
    if let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) {
        errors.query::<T>(&pairs);
    }
    if errors.is_empty() {
        errors.add(&[], "value_error", error.body_text(), &Value::Null, None);
    }
    Err(errors.into_vec())
}

#[cfg(test)]
mod tests {
    use deia::api::{LimitsRequest, SubmitRequest, TaskQuery};
    use proptest::prelude::*;

    use super::*;

    fn errors(body: &str) -> Value {
        let errors = parse_body::<SubmitRequest>(body.as_bytes()).unwrap_err();
        serde_json::to_value(errors).unwrap()
    }

    #[test]
    fn malformed_bodies_are_said_as_fastapi_says_them() {
        let found = errors(r#"{"content": "x",}"#);
        assert_eq!(found[0]["type"], "json_invalid");
        assert_eq!(found[0]["loc"], json!(["body", 16]));
        assert_eq!(found[0]["msg"], "JSON decode error");
        assert_eq!(found[0]["input"], json!({}));
        assert!(
            found[0]["ctx"]["error"]
                .as_str()
                .unwrap()
                .contains("trailing comma")
        );
        assert_eq!(errors("{\n\n  x")[0]["loc"], json!(["body", 5]));
        assert_eq!(errors("{\"a\":")[0]["loc"], json!(["body", 5]));
        assert_eq!(
            errors("")[0],
            json!({"type":"missing","loc":["body"],"msg":"Field required","input":null})
        );
        for (text, input) in [
            ("[]", json!([])),
            ("\"x\"", json!("x")),
            ("3", json!(3)),
            ("null", json!(null)),
            ("[\"c\"]", json!(["c"])),
        ] {
            assert_eq!(errors(text)[0]["type"], "dict_type", "{text}");
            assert_eq!(errors(text)[0]["input"], input);
        }
        assert_eq!(errors(&"[".repeat(200))[0]["type"], "json_invalid");
        assert_eq!(
            errors(&format!("{{\"x\":{}", "[".repeat(100_000)))[0]["type"],
            "json_invalid"
        );
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let found = errors(
            r#"{"content": 5, "priority": "P9", "type": "poetry", "required_capabilities": ["a", 7],
                "max_attempts": 1.5, "timeout_seconds": "soon", "metadata": [], "not_before": "soon",
                "wait_seconds": -1, "unknown": true, "task_id": {}}"#,
        );
        let kinds: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|e| (e["loc"].to_string(), e["type"].as_str().unwrap()))
            .collect();
        for expected in [
            (r#"["body","content"]"#, "string_type"),
            (r#"["body","task_id"]"#, "string_type"),
            (r#"["body","priority"]"#, "enum"),
            (r#"["body","type"]"#, "enum"),
            (r#"["body","required_capabilities",1]"#, "string_type"),
            (r#"["body","max_attempts"]"#, "int_from_float"),
            (r#"["body","timeout_seconds"]"#, "float_type"),
            (r#"["body","metadata"]"#, "dict_type"),
            (r#"["body","not_before"]"#, "datetime_parsing"),
            (r#"["body","wait_seconds"]"#, "greater_than_equal"),
        ] {
            assert!(
                kinds.iter().any(|(l, t)| (l.as_str(), *t) == expected),
                "{expected:?} not in {kinds:?}"
            );
        }
        assert_eq!(kinds.len(), 10);
        let priority = found
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["type"] == "enum")
            .unwrap();
        assert_eq!(priority["msg"], "Input should be 'P0', 'P1', 'P2' or 'P3'");
        assert_eq!(priority["input"], "P9");
    }

    #[test]
    fn ranges_hold_for_well_typed_values_too() {
        assert_eq!(
            errors(r#"{"max_attempts": 0}"#)[0]["msg"],
            "Input should be greater than or equal to 1"
        );
        assert_eq!(
            errors(r#"{"max_attempts": -1}"#)[0]["type"],
            "greater_than_equal"
        );
        assert_eq!(
            errors(r#"{"max_attempts": 1e400}"#)[0]["type"],
            "json_invalid"
        );
        assert_eq!(
            errors(r#"{"max_attempts": 99999999999}"#)[0]["type"],
            "less_than_equal"
        );
        assert_eq!(
            errors(r#"{"timeout_seconds": 0}"#)[0]["type"],
            "greater_than_equal"
        );
        assert_eq!(
            errors(r#"{"task_id": "../x"}"#)[0]["type"],
            "string_pattern_mismatch"
        );
        assert_eq!(
            errors(&format!(r#"{{"bot_id": "{}"}}"#, "b".repeat(500)))[0]["type"],
            "string_too_long"
        );
    }

    #[test]
    fn leniency_of_the_original_is_kept() {
        let submit = |text: &str| parse_body::<SubmitRequest>(text.as_bytes()).unwrap();
        assert_eq!(submit(r#"{"content":"x","unknown":1}"#).content, "x");
        assert_eq!(submit(r#" {"content":"a","content":"b"}"#).content, "b");
        assert_eq!(submit(r#"{"priority":null}"#).priority, None);
        let limits: LimitsRequest = parse_body(br#"{"max_bots":0}"#).unwrap();
        assert_eq!(limits.max_bots, Some(0));
    }

    #[test]
    fn a_large_wrong_value_is_not_echoed_whole() {
        let found = errors(&format!(r#"{{"priority": "{}"}}"#, "é".repeat(100_000)));
        assert!(found.to_string().len() < 4 * super::super::fields::MAX_ECHO_BYTES);
    }

    #[test]
    fn queries_are_said_as_fastapi_says_them() {
        let query = |text: &str| parse_query::<TaskQuery>(&format!("/x?{text}").parse().unwrap());
        assert_eq!(query("limit=5&other=1").unwrap().limit, Some(5));
        let found =
            serde_json::to_value(query("limit=many&status=lost&priority=P9").unwrap_err()).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 3);
        let limit = found
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["type"] == "int_parsing")
            .unwrap();
        assert_eq!(limit["loc"], json!(["query", "limit"]));
        assert_eq!(
            limit["msg"],
            "Input should be a valid integer, unable to parse string as an integer"
        );
        assert_eq!(limit["input"], "many");
        for wrong in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=",
            "limit=99999999999999999999",
            "status=queued&status=dead",
        ] {
            assert!(!query(wrong).unwrap_err().is_empty(), "{wrong}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,9}".prop_map(Value::from),
            Just(json!("P1")),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z]{1,4}", inner, 0..4).prop_map(|m| json!(m)),
            ]
        })
    }

    proptest! {
        /// serde and the table agree: what serde refuses has an error, each with a place in the body.
        #[test]
        fn whatever_is_refused_is_explained(values in prop::collection::vec(json(), SubmitRequest::FIELDS.len())) {
            let object: serde_json::Map<_, _> = SubmitRequest::FIELDS.iter().map(|f| f.name.to_owned()).zip(values).collect();
            let text = Value::Object(object.clone()).to_string();
            match parse_body::<SubmitRequest>(text.as_bytes()) {
                Ok(_) => {
                    let mut errors = Errors::new("body");
                    errors.object::<SubmitRequest>(&object);
                    prop_assert!(errors.is_empty(), "accepted, but the table says {errors:?}");
                }
                Err(errors) => {
                    prop_assert!(!errors.is_empty());
                    prop_assert!(errors.iter().all(|e| e.loc.len() >= 2 && e.loc[0] == "body"), "{errors:?}");
                }
            }
        }

        #[test]
        fn no_bytes_end_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_body::<SubmitRequest>(&bytes);
        }
    }
}
