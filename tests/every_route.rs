//! Every route of the daemon's own `openapi.json` with what it should not be sent: no answer is a fault of the daemon's,
//! none is late, and all that say no say it in the same form. A route that is added is in it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{Daemon, Response};
use serde_json::{Map, Value, json};

/// Whoever needs longer for a refusal hangs. On a busy machine, too.
const PROMPT: Duration = Duration::from_secs(5);

struct Operation {
    method: String,
    path: String,
    fields: Vec<String>,
    queries: Vec<String>,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // Whatever it is sent, it does.
        if path == "/terminate" {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            if operation["x-scope"].is_null() {
                continue;
            }
            let parameters = operation["parameters"].as_array();
            let queries = parameters.into_iter().flatten();
            let queries = queries.filter(|parameter| parameter["in"] == "query");
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            found.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                // One that fits would replace this daemon.
                fields: match path.as_str() {
                    "/api/upgrade" => Vec::new(),
                    _ => fields(document, body),
                },
                queries: queries
                    .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                    .collect(),
            });
        }
    }
    assert!(found.len() > 80, "{} operations", found.len());
    found
}

/// The names of a schema's fields, also behind references and choices.
fn fields(document: &Value, schema: &Value) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.trim_start_matches("#/components/schemas/");
        return fields(document, &document["components"]["schemas"][name]);
    }
    let choices = ["oneOf", "anyOf", "allOf"].iter();
    let choices = choices
        .filter_map(|choice| schema[choice].as_array())
        .flatten();
    let own = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .cloned();
    own.chain(choices.flat_map(|choice| fields(document, choice)))
        .collect()
}

/// What no field wants, or wants less of.
fn values() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}"),
        json!("../../etc/passwd"),
        json!("<script>alert(1)</script>"),
        json!("x".repeat(70_000)),
        json!([]),
        json!([null, 1, "x", [[]]]),
        json!(vec!["x"; 5_000]),
        json!({}),
        json!({"a": {"b": "c".repeat(70_000)}}),
        deep,
    ]
}

fn bodies(operation: &Operation) -> Vec<Vec<u8>> {
    let deep = |open: &str| open.repeat(50_000).into_bytes();
    let mut bodies = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"7".to_vec(),
        b"\"text\"".to_vec(),
        b"{\"a\":".to_vec(),
        b"{} {}".to_vec(),
        b"{'a':1}".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"{\"a\":NaN}".to_vec(),
        b"{\"a\":1e999}".to_vec(),
        b"a=1&b=2".to_vec(),
        deep("["),
        deep("{\"a\":"),
        vec![b' '; 2 << 20],
    ];
    for field in &operation.fields {
        for value in values() {
            bodies.push(json!({field: value}).to_string().into_bytes());
        }
    }
    bodies
}

/// The one form of a refusal, or that of wrong input.
fn is_well_formed(answer: &Response) -> bool {
    let body = &answer.body;
    let text = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
    let snake = |code: &str| {
        code.chars()
            .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    };
    let one = body["success"] == false
        && text("error")
        && text("detail")
        && body["code"].as_str().is_some_and(snake);
    let entry = |entry: &Value| {
        entry["type"].is_string() && entry["msg"].is_string() && entry["loc"].is_array()
    };
    let invalid = body["detail"]
        .as_array()
        .is_some_and(|list| !list.is_empty() && list.iter().all(entry));
    let is_json = answer
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    let late =
        answer.status != 503 && answer.status != 429 || answer.header("retry-after").is_some();
    // Its clients know another form.
    let chat = body["error"]["message"].is_string() && body["error"]["type"].is_string();
    is_json && late && (chat || if answer.status == 422 { invalid } else { one })
}

/// Shown to fail on a build whose answer to a wrong value is 500.
#[test]
fn nothing_that_can_be_sent_is_a_fault_of_the_daemons() {
    let daemon = Daemon::builder().start();
    daemon.wait_bots(1);
    let document = daemon.get("/openapi.json").ok();
    let operations = operations(&document);
    let ids = [
        "nobody-7",
        "%00",
        "..%2f..",
        "%ff",
        "a%0Ab",
        "%F0%9F%98%80",
        &"x".repeat(5_000),
    ];
    let texts = [
        "",
        "-1",
        "0",
        "1e9",
        "99999999999999999999",
        "true",
        "%00",
        "%ff",
        "x'--",
        &"y".repeat(5_000),
    ];
    let (mut faults, mut counts) = (Vec::new(), BTreeMap::<u16, u32>::new());
    let mut ask = |method: &str, target: &str, body: Option<&[u8]>| {
        let begun = Instant::now();
        let answer = daemon.admin().try_request(method, target, &[], body);
        let took = begun.elapsed();
        let shown = |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(90)]).into_owned();
        let what = format!(
            "{method} {} {:?}",
            shown(target.as_bytes()),
            body.map(shown)
        );
        match answer {
            Err(e) => faults.push(format!("{what}: {e}")),
            Ok(answer) => {
                *counts.entry(answer.status).or_default() += 1;
                let known = answer.status < 500 || answer.status == 503;
                if !known || took > PROMPT {
                    faults.push(format!(
                        "{what}: {} in {took:?}: {}",
                        answer.status, answer.text
                    ));
                } else if answer.status >= 400 && !is_well_formed(&answer) {
                    faults.push(format!("{what}: not the form of a refusal: {answer:?}"));
                }
            }
        }
    };
    for operation in &operations {
        let target = |id: &str| {
            let parts = operation.path.split('/');
            let parts = parts.map(|part| if part.starts_with('{') { id } else { part });
            parts.collect::<Vec<_>>().join("/")
        };
        // What lasts has no end to be read.
        let lasts = operation.path == "/events";
        if operation.method == "GET" {
            if lasts {
                continue;
            }
            for id in ids.iter().take(if operation.path.contains('{') {
                ids.len()
            } else {
                1
            }) {
                ask("GET", &target(id), None);
            }
            for (query, text) in operation
                .queries
                .iter()
                .flat_map(|q| texts.map(|text| (q, text)))
            {
                if query != "follow" {
                    ask(
                        "GET",
                        &format!("{}?{query}={text}", target("nobody-7")),
                        None,
                    );
                }
            }
            continue;
        }
        let harmless =
            |body: &[u8]| operation.path != "/api/upgrade" || body.len() > 2 && body != b"null";
        for body in bodies(operation) {
            if harmless(&body) {
                ask(&operation.method, &target("nobody-7"), Some(&body));
            }
        }
        if operation.path.contains('{') {
            for id in ids {
                ask(&operation.method, &target(id), Some(b"{}"));
            }
        }
    }
    println!(
        "{} operations: answers by status {counts:?}",
        operations.len()
    );
    assert_eq!(faults, [""; 0]);
    assert_eq!(daemon.get("/health/live").status, 200);
    let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
    assert!(!log.contains("\"ERROR\""), "{log}");
}
