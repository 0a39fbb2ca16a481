//! The OpenAI-compatible routes, as a client of OpenAI's uses them.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// One pool that answers, one that takes its time over words, one that always fails.
fn start() -> Daemon {
    let daemon = Daemon::builder()
        .config(
            "tasks: {max_attempts: 1}\nbot_limits: {min_bots: 3, max_bots: 3}\n\
            bots: [{name: quick, type: general, min: 1, max: 1, backend: {kind: echo}}, \
            {name: slow, type: writer, min: 1, max: 1, backend: {kind: command, argv: [sh, -c, \"echo one; sleep 30; echo two\"]}}, \
            {name: fails, type: writer, min: 1, max: 1, backend: {kind: command, argv: [\"false\"]}}]\n",
        )
        .start();
    daemon.wait_bots(3);
    daemon
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

#[test]
fn a_completion_is_a_task_and_its_answer_has_openais_shape() {
    let daemon = start();
    let tcp = daemon.tcp();
    let models = tcp.get("/v1/models").ok();
    let ids: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["deia", "quick", "slow", "fails"], "{models}");

    let asked = json!({"model": "quick", "messages": user("hello there"), "temperature": 0.1, "user": "me"});
    let answer = tcp.post(CHAT, &asked).ok();
    assert_eq!(answer["object"], "chat.completion", "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": "hello there"}),
        "{answer}"
    );
    assert_eq!(
        (&choice["finish_reason"], &answer["model"]),
        (&json!("stop"), &json!("quick"))
    );
    let usage = &answer["usage"];
    assert_eq!(
        usage["total_tokens"], 4,
        "echo counts words, read and written: {answer}"
    );
    let id = answer["id"]
        .as_str()
        .unwrap()
        .strip_prefix("chatcmpl-")
        .unwrap();
    let task = daemon.get(&format!("/api/tasks/{id}")).ok();
    assert_eq!(
        (&task["pool"], &task["metadata"]["user"]),
        (&json!("quick"), &json!("me")),
        "{task}"
    );

    let talk = json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]});
    let answer = tcp.post(CHAT, &talk).ok();
    assert_eq!(
        answer["choices"][0]["message"]["content"], "System: Be brief.\n\nUser: hi",
        "{answer}"
    );
    assert_eq!(answer["model"], "deia");
}

#[test]
fn refusals_have_openais_shape() {
    let daemon = start();
    for (body, status, code) in [
        (
            json!({"model": "gpt-4", "messages": user("x")}),
            404,
            "model_not_found",
        ),
        (json!({"messages": []}), 400, "invalid_messages"),
        (json!({"model": "quick"}), 400, "invalid_body"),
        (
            json!({"messages": user("x"), "n": 2}),
            400,
            "unsupported_parameter",
        ),
        (
            json!({"model": "quick", "messages": user("please rm -rf / now")}),
            400,
            "dangerous_content",
        ),
        (
            json!({"model": "fails", "messages": user("x")}),
            502,
            "task_dead",
        ),
    ] {
        let answer = daemon.tcp().post(CHAT, &body);
        let error = &answer.body["error"];
        assert_eq!(
            (answer.status, &error["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{answer:?}"
        );
        let kind = if status < 500 {
            "invalid_request_error"
        } else {
            "server_error"
        };
        assert_eq!(error["type"], kind, "{answer:?}");
    }
    assert_eq!(
        daemon.tcp().request("POST", CHAT, &[], Some(b"{")).status,
        400
    );
}

fn open(daemon: &Daemon, body: &Value) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let body = body.to_string();
    let length = body.len();
    write!(
        socket,
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    socket
}

/// The stream up to where it holds `what`.
fn read_until(socket: &mut TcpStream, what: &str) -> String {
    let (mut read, mut piece) = (String::new(), [0; 4096]);
    while !read.contains(what) {
        let n = socket.read(&mut piece).unwrap();
        assert!(n > 0, "the stream ended before {what:?}: {read}");
        read.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    read
}

fn chunks(stream: &str) -> Vec<Value> {
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[test]
fn a_stream_brings_the_answer_in_chunks_and_says_when_it_is_done() {
    let daemon = start();
    let request = json!({"model": "quick", "messages": user("said bit by bit"), "stream": true, "stream_options": {"include_usage": true}});
    let read = read_until(&mut open(&daemon, &request), "data: [DONE]");
    let chunks = chunks(&read);
    let delta = |chunk: &Value| {
        chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    assert_eq!(
        chunks.iter().map(delta).collect::<String>(),
        "said bit by bit",
        "{read}"
    );
    assert_eq!(
        chunks[0]["choices"][0]["delta"]["role"], "assistant",
        "{read}"
    );
    let [.., stop, usage] = chunks.as_slice() else {
        panic!("{read}")
    };
    assert_eq!(stop["choices"][0]["finish_reason"], "stop", "{read}");
    assert_eq!(
        (&usage["choices"], &usage["usage"]["completion_tokens"]),
        (&json!([]), &json!(4)),
        "{read}"
    );
    let failing = json!({"model": "fails", "messages": user("x"), "stream": true});
    let read = read_until(&mut open(&daemon, &failing), "task_dead");
    assert!(!read.contains("[DONE]"), "{read}");
}

#[test]
fn a_client_that_goes_away_has_its_task_cancelled() {
    let daemon = start();
    for stream in [true, false] {
        let request = json!({"model": "slow", "messages": user("x"), "stream": stream});
        let mut socket = open(&daemon, &request);
        if stream {
            let read = read_until(&mut socket, "one");
            assert!(!read.contains("two"), "{read}");
        }
        let running = wait_until(PATIENCE, "the task runs", || {
            let tasks = daemon.get("/api/tasks?status=running").ok();
            tasks["tasks"][0]["task_id"].as_str().map(str::to_owned)
        });
        drop(socket);
        let task = daemon.wait_task(&running, PATIENCE);
        assert_eq!(task["status"], "cancelled", "stream: {stream}: {task}");
    }
}
