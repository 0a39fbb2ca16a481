//! What a client should not send, sent: every answer names the fault, none is the daemon's, and
//! afterwards the daemon works as before.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::{Daemon, Http, PATIENCE, Response, wait_until};
use deia::client::raw::Answer;
use fastrand::Rng;
use serde_json::{Value, json};

/// What any client time-out may take on a busy machine; configured ones are well below.
const IN_TIME: Duration = Duration::from_secs(10);

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

/// The one thing no client may get: a fault of the daemon's.
#[track_caller]
fn is_the_clients_fault(what: &str, status: u16) {
    assert!(
        (400..500).contains(&status) || status == 503,
        "{what}: {status}"
    );
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
fn other_names_and_other_pages_are_kept_out() {
    let daemon = Daemon::builder().start();
    let tcp = daemon.tcp();
    let port = daemon.port();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "localhost:80:80",
        "10.0.0.1",
        "a b",
    ] {
        let answer = tcp.request("GET", "/status", &[("host", host)], None);
        assert!([400, 421].contains(&answer.status), "{host}: {answer:?}");
    }
    let misdirected = tcp.request("GET", "/status", &[("host", "evil.example")], None);
    assert_eq!(misdirected.status, 421, "{misdirected:?}");
    assert!(
        misdirected.text.contains("allowed_hosts"),
        "{misdirected:?}"
    );
    for host in [
        "localhost".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
    ] {
        tcp.request("GET", "/status", &[("host", &host)], None).ok();
    }
    let twice = format!("GET /status HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n");
    assert_eq!(raw(&daemon, twice.as_bytes()).map(|a| a.status), Some(400));
    assert_eq!(
        raw(&daemon, b"GET /status HTTP/1.1\r\n\r\n").map(|a| a.status),
        Some(400)
    );
    let absolute = b"GET http://evil.example/status HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(raw(&daemon, absolute).map(|a| a.status), Some(421));

    let task = json!({"content": "from a page"}).to_string();
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "file://",
    ] {
        for way_in in [daemon.tcp(), daemon.admin()] {
            let answer =
                way_in.request("POST", SUBMIT, &[("origin", origin)], Some(task.as_bytes()));
            assert_eq!(answer.status, 403, "{origin}: {answer:?}");
        }
    }
    let own = format!("http://localhost:{port}");
    tcp.request("GET", "/status", &[("origin", &own)], None)
        .ok();
    assert_eq!(
        daemon.get("/api/tasks").ok()["count"],
        0,
        "a page has submitted"
    );
    is_well(&daemon);
}

#[test]
fn who_keeps_the_daemon_waiting_is_put_out_in_time() {
    let daemon = Daemon::builder()
        .config("http: {listen: \"127.0.0.1:0\", header_timeout_seconds: 0.5}\n")
        .start();
    let starts: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET /status HTTP/1.1\r\nhost: loc",
        b"POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"content\":",
        b"POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"co",
    ];
    let began = Instant::now();
    let mut streams: Vec<TcpStream> = starts
        .iter()
        .map(|start| {
            let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
            stream.write_all(start).unwrap();
            stream.set_read_timeout(Some(IN_TIME)).unwrap();
            stream
        })
        .collect();
    // One that sends a byte now and then is no better.
    let mut dripping = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
    dripping.set_nodelay(true).unwrap();
    let drip = std::thread::spawn(move || {
        let mut line = b"GET /status HTTP/1.1\r\nx: "
            .iter()
            .chain(std::iter::repeat(&b'x'));
        while began.elapsed() < IN_TIME {
            if dripping.write_all(&[*line.next().unwrap()]).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    });
    for (stream, start) in streams.iter_mut().zip(starts) {
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let start = String::from_utf8_lossy(start);
        assert!(read.is_ok(), "not closed: {start:?}");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4"),
            "{start:?}: {said}"
        );
    }
    assert!(drip.join().unwrap(), "a dripping client was never put out");
    assert_eq!(
        daemon.get("/api/tasks").ok()["count"],
        0,
        "half a task was taken"
    );
    is_well(&daemon);
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let daemon = Daemon::builder()
        .config(
            "http: {listen: \"127.0.0.1:0\", max_connections: 8, header_timeout_seconds: 600}\n",
        )
        .start();
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", daemon.port())).unwrap())
        .collect();
    for _ in 0..5 {
        // Those that came a moment ago are given that moment.
        wait_until(IN_TIME, "a client with a request is served", || {
            let answer = daemon.tcp().get("/status");
            assert!(
                answer.status == 200 || answer.header("retry-after").is_some(),
                "{answer:?}"
            );
            (answer.status == 200).then_some(())
        });
    }
    daemon.get("/status").ok();
    drop(silent);
    is_well(&daemon);
}

#[test]
fn heads_that_are_too_large_or_malformed_are_refused() {
    let daemon = Daemon::builder().start();
    let get = |headers: &str| format!("GET /status HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    let post = |headers: &str| {
        format!("POST {SUBMIT} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{{\"content\":\"x\"}}")
    };
    let cases = [
        ("a header of 1 MB", get(&format!("x: {}\r\n", "y".repeat(1 << 20)))),
        ("a thousand headers", get(&"x: y\r\n".repeat(1000))),
        ("a path of 100 KB", format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(100_000))),
        ("a negative length", post("content-length: -1\r\n")),
        ("a length that is no number", post("content-length: 0x10\r\n")),
        ("two lengths", post("content-length: 15\r\ncontent-length: 1\r\n")),
        ("an unknown coding", post("transfer-encoding: wonderful\r\n")),
        ("a bad chunk", "POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned()),
        ("a NUL in a header", get("x: a\0b\r\n")),
        ("a folded header", get("x: a\r\n b: c\r\n")),
        ("no version", "GET /status\r\n\r\n".to_owned()),
        ("another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned()),
        ("a tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()),
    ];
    for (what, request) in cases {
        // No answer but a closed connection is an answer too, as long as it comes.
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        stream.set_read_timeout(Some(IN_TIME)).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(
            read.is_ok() || read.as_ref().is_err_and(reset),
            "{what}: {read:?}"
        );
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4"),
            "{what}: {said}"
        );
    }
    // Framed in two ways: whoever stands in front may have read it the other way.
    let smuggled = post("content-length: 4\r\ntransfer-encoding: chunked\r\n");
    if let Some(answer) = raw(&daemon, smuggled.as_bytes()) {
        is_the_clients_fault("two framings", answer.status);
    }
    is_well(&daemon);
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

/// Valid requests with bytes changed, dropped, doubled and cut, by the hundred.
#[test]
fn no_bytes_make_the_daemon_fail() {
    let daemon = Daemon::builder()
        .config("http: {listen: \"127.0.0.1:0\", header_timeout_seconds: 0.3}\n")
        .start();
    let body = r#"{"content":"x","priority":"P1","metadata":{"a":[1,2.5e3,null,"\u0041"]},"not_before":"2026-01-01T00:00:00Z"}"#;
    let post = format!(
        "POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let seeds: [&[u8]; 4] = [
        post.as_bytes(),
        b"POST /api/orchestrate/batch HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n12\r\n[{\"content\":\"x\"}]\n\r\n0\r\n\r\n",
        b"GET /api/tasks?limit=5&status=queued&cursor=9 HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n",
        b"GET /api/tasks/some%20id/output HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ];
    let seed = std::env::var("DEIA_FUZZ_SEED").map_or(42, |seed| seed.parse().expect("a number"));
    println!("DEIA_FUZZ_SEED={seed} repeats it");
    let mut rng = Rng::with_seed(seed);
    for round in 0..600 {
        let mut bytes = seeds[rng.usize(0..seeds.len())].to_vec();
        for _ in 0..rng.u32(1..=4) {
            mutate(&mut bytes, &mut rng);
        }
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        stream.set_read_timeout(Some(IN_TIME)).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let shown = String::from_utf8_lossy(&bytes);
        let fault = said.starts_with("HTTP/1.1 5") && !said.starts_with("HTTP/1.1 503");
        assert!(!fault, "round {round}: {shown:?}: {said}");
    }
    is_well(&daemon);
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(0..bytes.len());
    match rng.u8(0..5) {
        0 => bytes[at] = rng.u8(..),
        1 => drop(bytes.remove(at)),
        2 => bytes.truncate(at),
        3 => bytes.insert(
            at,
            *rng.choice(b"\0\r\n:/\"{}[],%\xff \t").expect("not empty"),
        ),
        _ => {
            let end = (at + rng.usize(0..40)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
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
