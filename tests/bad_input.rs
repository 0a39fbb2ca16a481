//! What a client should not send, sent: every answer names the fault, none is the daemon's, and
//! afterwards the daemon works as before.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use common::{Daemon, Http, PATIENCE, Response};
use deia::client::raw::Answer;
use serde_json::{Value, json};

const SUBMIT: &str = "/api/orchestrate";

/// The last thing each of these tests asks for.
#[track_caller]
fn is_well(daemon: &Daemon) {
    let health = daemon.get("/health").ok();
    assert_eq!(health["status"], "ok", "{health}");
    let id = daemon.submit("still there?");
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["result"]["output"], "still there?", "{task}");
}

fn submit_raw(http: &Http, body: &[u8]) -> Response {
    http.request("POST", SUBMIT, &[], Some(body))
}

#[test]
fn bodies_that_are_no_task_are_named_field_by_field() {
    let daemon = Daemon::builder().start();
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat();
    let nested = format!(
        r#"{{"content":"x","metadata":{}1{}}}"#,
        r#"{"a":"#.repeat(500),
        "}".repeat(500)
    );
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "{",
        "}",
        "nonsense",
        "null",
        "[]",
        "3",
        "\"text\"",
        "{\"content\"}",
        "{\"content\":\"x\"",
        "{\"content\":\"x\"} trailing",
        "{'content':'x'}",
        "{\"content\":\"\\ud800\"}",
        "{\"content\":\"x\",}",
        "{\"content\":null}",
        "{\"content\":5}",
        "{\"content\":[\"x\"]}",
        "{\"content\":{}}",
        "{\"content\":true}",
    ]
    .iter()
    .map(|body| body.as_bytes().to_vec())
    .collect();
    for (field, values) in [
        (
            "priority",
            vec![json!("P9"), json!("p0"), json!(2), json!(""), json!([])],
        ),
        ("type", vec![json!("juggler"), json!(0)]),
        (
            "max_attempts",
            vec![
                json!(0),
                json!(-1),
                json!(1.5),
                json!(1e9),
                json!("many"),
                json!(u64::MAX),
            ],
        ),
        (
            "timeout_seconds",
            vec![json!(0), json!(-1), json!(1e300), json!("long")],
        ),
        ("wait_seconds", vec![json!(-1), json!(1e9), json!({})]),
        (
            "not_before",
            vec![json!("tomorrow"), json!("2026-13-01T00:00:00Z"), json!([])],
        ),
        (
            "metadata",
            vec![
                json!([]),
                json!("x"),
                json!(1),
                json!({"k": "v".repeat(70_000)}),
            ],
        ),
        (
            "required_capabilities",
            vec![
                json!("python"),
                json!([1]),
                json!([null]),
                json!({}),
                json!(vec!["x"; 10_000]),
            ],
        ),
        (
            "task_id",
            vec![
                json!(""),
                json!("a/b"),
                json!("../x"),
                json!(".x"),
                json!("a b"),
                json!("\u{0}"),
                json!("é"),
                json!("x".repeat(129)),
                json!(7),
            ],
        ),
        ("pool", vec![json!(""), json!(3), json!("x".repeat(10_000))]),
        ("bot_id", vec![json!(""), json!([]), json!("a\nb")]),
    ] {
        for value in values {
            bodies.push(
                json!({"content": "x", field: value})
                    .to_string()
                    .into_bytes(),
            );
        }
    }
    bodies.extend([
        b"{\"content\":\"\xff\xfe\"}".to_vec(),
        b"\x00\x01\x02".to_vec(),
        b"\xef\xbb\xbf{\"content\":\"x\"}".to_vec(),
        b"{\"content\":\"x\",\"timeout_seconds\":1e400}".to_vec(),
        deep("[", "]").into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        nested.into_bytes(),
    ]);
    for body in &bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        for way_in in [daemon.tcp(), daemon.admin()] {
            let answer = submit_raw(&way_in, body);
            assert_eq!(answer.status, 422, "{shown}: {answer:?}");
            let detail = answer.body["detail"].as_array().expect("a list of errors");
            assert!(!detail.is_empty(), "{shown}");
            for error in detail {
                assert!(
                    error["type"].is_string() && error["msg"].is_string(),
                    "{shown}: {error}"
                );
                assert!(error["loc"].is_array(), "{shown}: {error}");
            }
            assert!(
                answer.text.len() < 200_000,
                "{shown}: an answer as long as the request"
            );
        }
    }
    assert_eq!(
        daemon.get("/api/tasks").ok()["count"],
        0,
        "one of them was taken"
    );
    is_well(&daemon);
}

#[test]
fn what_is_odd_and_yet_a_task_is_taken() {
    let daemon = Daemon::builder().start();
    let tasks: [&[u8]; 6] = [
        b"{\"content\":\"first\",\"content\":\"last\"}",
        b"{\"content\":\"last\",\"unheard_of\":{\"deep\":[1,2,3]}}",
        b"\r\n\t {\"content\":\"last\"}\n\n",
        b"{\"content\":\"l\\u0061st\",\"priority\":null,\"metadata\":null}",
        b"{\"content\":\"last\",\"metadata\":{}}",
        b"{\"content\":\"last\",\"required_capabilities\":[]}",
    ];
    // As in the original.
    let nothing = submit_raw(&daemon.tcp(), b"{}").ok();
    let id = nothing["task_id"].as_str().unwrap();
    assert_eq!(daemon.wait_task(id, PATIENCE)["result"]["output"], "");
    for task in tasks {
        let answer = submit_raw(&daemon.tcp(), task).ok();
        let id = answer["task_id"].as_str().unwrap();
        assert_eq!(daemon.wait_task(id, PATIENCE)["result"]["output"], "last");
    }
    for content in ["", "\u{0}", "\u{feff}\u{202e}", "😀".repeat(1000).as_str()] {
        let id = daemon.submit(content);
        let task = daemon.wait_task(&id, PATIENCE);
        assert_eq!(task["result"]["output"], content);
    }
    is_well(&daemon);
}

#[test]
fn what_is_too_large_is_refused_and_costs_no_memory() {
    let daemon = Daemon::builder()
        .config("tasks: {max_content_bytes: 1000}\nhttp: {listen: \"127.0.0.1:0\", max_body_bytes: 65536}\n")
        .start();
    let content = |bytes: usize| json!({"content": "x".repeat(bytes)}).to_string();
    assert_eq!(
        submit_raw(&daemon.tcp(), content(1000).as_bytes()).status,
        200
    );
    let refused = submit_raw(&daemon.tcp(), content(1001).as_bytes());
    assert_eq!(refused.status, 413, "{refused:?}");
    assert!(
        refused.text.contains("1000") && refused.text.contains("max_content_bytes"),
        "{refused:?}"
    );

    let before = peak_memory_kb(&daemon);
    let huge = content(20_000_000);
    let refused = submit_raw(&daemon.tcp(), huge.as_bytes());
    assert_eq!(refused.status, 413, "{refused:?}");
    assert!(refused.text.contains("max_body_bytes"), "{refused:?}");
    let refused = submit_raw(&daemon.admin(), huge.as_bytes());
    assert_eq!(refused.status, 413, "{refused:?}");
    let refused = send_chunked(&daemon, huge.as_bytes());
    assert_eq!(refused.status, 413, "{refused:?}");
    // A promise of more than there is memory reserves nothing.
    let head = format!(
        "POST {SUBMIT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000000000000000\r\n\r\n"
    );
    assert_eq!(raw(&daemon, head.as_bytes()).map(|a| a.status), Some(413));
    let grown = peak_memory_kb(&daemon) - before;
    assert!(
        grown < 16_000,
        "{grown} KiB more for bodies that were refused"
    );
    is_well(&daemon);
}

fn peak_memory_kb(daemon: &Daemon) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn send_chunked(daemon: &Daemon, body: &[u8]) -> Answer {
    let mut connection = daemon.tcp().connect();
    let head =
        format!("POST {SUBMIT} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.send_raw(head.as_bytes()).unwrap();
    for chunk in body.chunks(100_000) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        // It may have been answered and closed by now: the answer is what counts.
        if connection.send_raw(&framed).is_err() {
            break;
        }
    }
    let _ = connection.send_raw(b"0\r\n\r\n");
    connection.read_answer(false).unwrap()
}

/// Sends bytes as they are and shuts down the sending side; what came back, if an answer did.
fn raw(daemon: &Daemon, bytes: &[u8]) -> Option<Answer> {
    let mut connection = daemon.tcp().connect();
    connection.send_raw(bytes).ok()?;
    connection.read_answer(false).ok()
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_done_is_405() {
    let daemon = Daemon::builder().start();
    for way_in in [daemon.tcp(), daemon.admin()] {
        for path in [
            "/nothing",
            "/api",
            "/api/",
            "/api/orchestrate/x/y",
            "//status",
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
        ] {
            let answer = way_in.get(path);
            assert_eq!(answer.status, 404, "{path}: {answer:?}");
            assert_eq!(answer.body["success"], false, "{path}: {answer:?}");
            assert!(answer.body["code"].is_string(), "{path}: {answer:?}");
        }
        for (method, path, allowed) in [
            ("PUT", "/api/orchestrate", "POST"),
            ("GET", "/api/orchestrate", "POST"),
            ("DELETE", "/api/tasks/some", "GET"),
            ("POST", "/status", "GET"),
            ("PATCH", "/health", "GET"),
            ("BREW", "/status", "GET"),
            ("GET", "/api/tasks/some/cancel", "POST"),
        ] {
            let answer = way_in.request(method, path, &[], None);
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            let allow = answer.header("allow").unwrap_or_default();
            assert!(allow.contains(allowed), "{method} {path}: {answer:?}");
        }
        for path in [
            "/status",
            "/health",
            "/health/live",
            "/api/tasks",
            "/openapi.json",
        ] {
            let mut connection = way_in.connect();
            let head = connection.request("HEAD", path, &[], None).unwrap();
            assert_eq!(head.status, 200, "{path}: {head:?}");
            // Bytes of a body would be read as the next answer's head.
            let next = connection.request("GET", path, &[], None).unwrap();
            assert_eq!(next.status, 200, "{path}");
        }
    }
    let slash = daemon.tcp().get("/status/");
    assert_eq!(slash.status, 307, "{slash:?}");
    assert_eq!(slash.header("location"), Some("/status"), "{slash:?}");
    is_well(&daemon);
}

#[test]
fn ids_that_are_none_name_nothing() {
    let daemon = Daemon::builder().start();
    let long = "x".repeat(5_000);
    let ids = [
        "%00",
        "..",
        "..%2f..%2fetc",
        ".%2e",
        "%ff%fe",
        "%",
        "%zz",
        "a%0ab",
        "%F0%9F%98%80",
        "'%3B--",
        "*",
        &long,
    ];
    for id in ids {
        for (method, path) in [
            ("GET", format!("/api/tasks/{id}")),
            ("GET", format!("/api/tasks/{id}/output")),
            ("GET", format!("/api/tasks/{id}/output?follow=true")),
            ("GET", format!("/api/tasks/{id}/explain")),
            ("POST", format!("/api/tasks/{id}/cancel")),
            ("POST", format!("/api/tasks/{id}/retry")),
            ("GET", format!("/api/bots/{id}")),
            ("POST", format!("/api/bots/{id}/stop")),
            ("POST", format!("/api/bots/{id}/interrupt")),
            ("GET", format!("/api/orchestrate/bot/{id}/status")),
            ("GET", format!("/api/config/value/{id}")),
        ] {
            let answer = daemon.admin().request(method, &path, &[], None);
            let built = answer.status != 501;
            assert!(
                !built || [400, 404, 405, 422].contains(&answer.status),
                "{method} {path}: {answer:?}"
            );
        }
    }
    is_well(&daemon);
}

#[test]
fn pages_are_asked_for_properly_or_not_at_all() {
    let daemon = Daemon::builder().start();
    daemon.submit("one");
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=many",
        "limit=1.5",
        "limit=",
        "limit=99999999999999999999",
        "cursor=x",
        "cursor=-1",
        "cursor=",
        "cursor=99999999999999999999999",
        "cursor=%00",
        "status=odd",
        "status=",
        "type=juggler",
        "priority=P7",
        "priority=",
    ] {
        let answer = daemon.get(&format!("/api/tasks?{query}"));
        assert_eq!(answer.status, 422, "{query}: {answer:?}");
        assert!(answer.body["detail"].is_array(), "{query}: {answer:?}");
    }
    for query in [
        "",
        "limit=1000",
        "unheard=of",
        "bot=%00",
        "bot=nobody",
        "&&&",
        "=",
        "status=succeeded&status=queued",
    ] {
        let answer = daemon.get(&format!("/api/tasks?{query}"));
        assert!([200, 422].contains(&answer.status), "{query}: {answer:?}");
    }
    is_well(&daemon);
}

#[test]
fn a_batch_is_answered_line_by_line() {
    let daemon = Daemon::builder().start();
    let lines = [
        r#"{"content":"one"}"#,
        r#"{"content":"#,
        "",
        r#"{"content":"three","priority":"P9"}"#,
        r#"{"content":"four","task_id":"the-fourth"}"#,
        r#"{"content":"another fourth","task_id":"the-fourth"}"#,
        "null",
        r#"{"content":"seven"}"#,
    ];
    let answer = daemon.tcp().request(
        "POST",
        "/api/orchestrate/batch",
        &[],
        Some(lines.join("\n").as_bytes()),
    );
    let answer = answer.ok();
    let results = answer["results"].as_array().unwrap();
    let taken: Vec<bool> = results.iter().map(|r| r["success"] == true).collect();
    // An empty line is no task and no fault.
    assert_eq!(
        taken,
        [true, false, false, true, false, false, true],
        "{answer}"
    );
    assert_eq!(
        (&answer["success"], &answer["accepted"]),
        (&json!(false), &json!(3)),
        "{answer}"
    );
    for result in results.iter().filter(|r| r["success"] == false) {
        assert!(
            result["error"].is_string() && result["code"].is_string(),
            "{result}"
        );
    }
    for result in results.iter().filter(|r| r["success"] == true) {
        let id = result["task_id"].as_str().unwrap();
        assert_eq!(daemon.wait_task(id, PATIENCE)["status"], "succeeded");
    }
    for body in ["[", "[{}", "[1,2", "[{\"content\":\"x\"},]"] {
        let answer =
            daemon
                .tcp()
                .request("POST", "/api/orchestrate/batch", &[], Some(body.as_bytes()));
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
    }
    for body in ["", "\n\n\n", "[]"] {
        let answer =
            daemon
                .tcp()
                .request("POST", "/api/orchestrate/batch", &[], Some(body.as_bytes()));
        assert!([200, 422].contains(&answer.status), "{body:?}: {answer:?}");
    }
    let too_many = "{\"content\":\"\"}\n".repeat(100_001);
    let answer = daemon.tcp().request(
        "POST",
        "/api/orchestrate/batch",
        &[],
        Some(too_many.as_bytes()),
    );
    assert_eq!(
        answer.status,
        413,
        "{}",
        &answer.text[..answer.text.len().min(300)]
    );
    assert_eq!(daemon.get("/status").ok()["queue"]["succeeded"], 3);
    is_well(&daemon);
}

#[test]
fn a_nul_byte_can_not_be_an_argument_and_the_bot_goes_on() {
    let daemon = Daemon::builder()
        .config("bots: [{name: sayer, type: general, backend: {kind: command, argv: [echo, -n], input: argv}}]\n")
        .start();
    let id = daemon.submit_with(&json!({"content": "a\u{0}b"}));
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "dead", "{task}");
    assert!(task["error"].as_str().unwrap().contains("NUL"), "{task}");
    assert_eq!(
        task["attempts"].as_array().unwrap().len(),
        1,
        "it can never succeed: {task}"
    );
    let id = daemon.submit_with(&json!({"content": "x".repeat(200_000)}));
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(
        task["status"], "dead",
        "an argument is 128 KiB at most: {task}"
    );
    is_well(&daemon);
    assert_eq!(daemon.bots()[0]["restarts"], 0);
}

#[test]
fn a_value_is_json_whatever_the_type_says() {
    let daemon = Daemon::builder().start();
    let task: Value = json!({"content": "typed"});
    for kind in [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "nonsense",
    ] {
        let answer = daemon.tcp().request(
            "POST",
            SUBMIT,
            &[("content-type", kind)],
            Some(task.to_string().as_bytes()),
        );
        assert_eq!(answer.ok()["success"], true, "{kind}");
    }
}
