//! Messages between bots: durable, delivered when their bot is up, read by who may.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{Daemon, PATIENCE, PYTHON, deia_program, skipped, wait_until};
use serde_json::{Value, json};

const FLEET: &str = "bot_limits: {min_bots: 3, max_bots: 3}\n\
    bots: [{name: main, type: general, min: 1, max: 1, backend: {kind: echo}}, \
    {name: coder, type: developer, min: 2, max: 2, backend: {kind: echo}}]\n";

fn start() -> Daemon {
    let daemon = Daemon::builder().config(FLEET).start();
    daemon.wait_bots(3);
    daemon
}

fn send(daemon: &Daemon, body: &Value) -> String {
    let answer = daemon.post("/api/messaging/send", body).ok();
    assert_eq!(answer["success"], true, "{answer}");
    answer["message_id"].as_str().unwrap().to_owned()
}

fn inbox(daemon: &Daemon, query: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/api/messaging/inbox{query}")).ok();
    let messages = answer["messages"].as_array().unwrap().clone();
    assert_eq!(answer["count"], messages.len(), "{answer}");
    messages
}

fn texts(messages: &[Value]) -> Vec<&str> {
    let texts = messages.iter().map(|m| m["content"].as_str().unwrap());
    texts.collect()
}

#[test]
fn a_message_goes_its_way_and_each_station_is_seen() {
    let daemon = start();
    let body = json!({"to_bot": "coder", "content": "hello", "metadata": {"a": [1]}});
    let answer = daemon.post("/api/messaging/send", &body).ok();
    assert_eq!(
        (&answer["from_bot"], &answer["to_bot"], &answer["status"]),
        (&json!("main"), &json!("coder"), &json!("pending"))
    );
    let id = answer["message_id"].as_str().unwrap();
    let message = wait_until(PATIENCE, "it is delivered", || {
        let message = inbox(&daemon, "?bot_id=coder").pop()?;
        (message["status"] == "delivered").then_some(message)
    });
    assert_eq!(message["message_id"], id, "{message}");
    assert_eq!(message["metadata"], json!({"a": [1]}), "{message}");
    assert_eq!(
        (
            &message["priority"],
            &message["retry_count"],
            &message["ttl_seconds"]
        ),
        (&json!("P2"), &json!(0), &json!(3600)),
        "{message}"
    );
    assert!(message["delivered_at"].is_string(), "{message}");
    let done = wait_until(PATIENCE, "it is reported", || {
        let done = daemon.post("/api/messaging/process-queue", &json!({})).ok();
        (done["delivered"] != json!([])).then_some(done)
    });
    assert_eq!(done["delivered"], json!([id]), "{done}");
    assert_eq!((&done["failed"], &done["pending"]), (&json!([]), &json!(0)));
    let again = daemon.post("/api/messaging/process-queue", &json!({})).ok();
    assert_eq!(again["delivered"], json!([]), "told once: {again}");
    let read = daemon
        .post(&format!("/api/messaging/read/{id}"), &json!({}))
        .ok();
    assert_eq!(
        (&read["success"], &read["status"]),
        (&json!(true), &json!("read"))
    );
    let message = inbox(&daemon, "?bot_id=coder").pop().unwrap();
    assert!(message["read_at"].is_string(), "{message}");
    let unknown = daemon.post("/api/messaging/read/nothing", &json!({}));
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text.contains("Message nothing not found"),
        "{unknown:?}"
    );
}

/// The original's cases 53 and 55, as far as they are not faults of its.
#[test]
fn the_urgent_come_first_and_the_status_counts() {
    let daemon = start();
    let to = |bot: &str, text: &str, priority: &str| {
        send(
            &daemon,
            &json!({"to_bot": bot, "content": text, "priority": priority}),
        )
    };
    to("nobody", "1", "P2");
    to("nobody", "2", "p0");
    to("nobody", "3", "P2");
    to("somebody", "4", "P1");
    assert_eq!(texts(&inbox(&daemon, "?bot_id=nobody")), ["2", "1", "3"]);
    assert_eq!(texts(&inbox(&daemon, "?bot_id=nobody&priority=p0")), ["2"]);
    let status = daemon.get("/api/messaging/status").ok();
    assert_eq!(status["pending_delivery"], 4, "{status}");
    assert_eq!(status["status_breakdown"]["pending"], 4, "{status}");
    assert_eq!(status["priority_breakdown"]["P0"], 1, "{status}");
    let counts = json!({"total_messages": 3, "unread": 3});
    assert_eq!(status["bots"]["nobody"], counts, "{status}");
    assert_eq!(status["total_bots"], 2, "{status}");
    for (wrong, expected) in [
        (
            json!({"to_bot": "b", "content": "c", "priority": "bogus"}),
            422,
        ),
        (json!({"to_bot": "b", "content": 1}), 422),
        (json!({"to_bot": "b"}), 422),
        (json!({"to_bot": "b", "content": ""}), 400),
        (json!({"to_bot": "", "content": "c"}), 400),
        (
            json!({"to_bot": "b", "content": "c", "ttl_seconds": 0}),
            422,
        ),
        (json!({"to_bot": "b", "content": "c", "metadata": []}), 422),
        (json!({"to_bot": "b".repeat(1000), "content": "c"}), 422),
        (
            json!({"to_bot": "b", "content": "c".repeat(300 << 10)}),
            413,
        ),
    ] {
        let said = daemon.post("/api/messaging/send", &wrong);
        assert_eq!(said.status, expected, "{said:?}");
    }
    assert_eq!(daemon.get("/api/messaging/inbox?priority=zz").status, 422);
}

/// Shown to fail on a daemon that expires what is pending alone.
#[test]
fn what_is_not_read_in_its_time_is_over_delivered_or_not() {
    let daemon = start();
    let body = |bot: &str| json!({"to_bot": bot, "content": "x", "ttl_seconds": 1});
    let up = send(&daemon, &body("coder"));
    let down = send(&daemon, &body("nobody"));
    wait_until(PATIENCE, "both are expired", || {
        let status = daemon.get("/api/messaging/status").ok();
        (status["status_breakdown"]["expired"] == 2).then_some(())
    });
    assert_eq!(inbox(&daemon, "?bot_id=coder"), Vec::<Value>::new());
    let mut failed = Vec::new();
    wait_until(PATIENCE, "both are reported", || {
        let done = daemon.post("/api/messaging/process-queue", &json!({})).ok();
        failed.extend(done["failed"].as_array().unwrap().clone());
        (failed.len() >= 2).then_some(())
    });
    let mut expected = vec![json!(up), json!(down)];
    failed.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(failed, expected);
    let late = daemon
        .post(&format!("/api/messaging/read/{up}"), &json!({}))
        .ok();
    assert_eq!(
        (&late["success"], &late["status"]),
        (&json!(false), &json!("expired"))
    );
    let read = daemon.ctl(&["message", "read", &up]);
    assert_eq!(read.code, 1, "{read:?}");
    assert!(read.stderr.contains("is expired"), "{read:?}");
}

/// Shown to fail without `Engine::load_mail`: after the kill the message waits for ever.
#[test]
fn a_message_waits_for_its_bot_also_across_a_kill() {
    let mut daemon = start();
    daemon.ctl(&["bot", "stop", "coder-2"]).ok();
    wait_until(PATIENCE, "it is stopped", || {
        let bot = daemon.get("/api/bots/coder-2").ok();
        (bot["actual"] == "stopped").then_some(())
    });
    send(&daemon, &json!({"to_bot": "coder-2", "content": "wait"}));
    daemon.kill9();
    daemon.restart();
    daemon.wait_bots(2);
    let message = inbox(&daemon, "?bot_id=coder-2").pop().unwrap();
    assert_eq!(message["status"], "pending", "{message}");
    daemon.ctl(&["bot", "start", "coder-2"]).ok();
    wait_until(PATIENCE, "it is delivered", || {
        let message = inbox(&daemon, "?bot_id=coder-2").pop()?;
        (message["status"] == "delivered").then_some(())
    });
}

#[test]
fn a_type_is_told_at_once_and_a_conversation_is_seen_whole() {
    let daemon = start();
    let body = json!({"to_type": "developer", "content": "to all", "from_bot": "coder"});
    let answer = daemon.post("/api/messaging/broadcast", &body).ok();
    assert_eq!(answer["count"], 1, "not to itself: {answer}");
    assert_eq!(answer["messages"][0]["to_bot"], "coder-2", "{answer}");
    let said = daemon
        .ctl(&["message", "broadcast", "--type", "developer", "all"])
        .ok();
    assert_eq!(said.stdout.lines().count(), 2, "{said:?}");
    let none = json!({"to_type": "writer", "content": "x"});
    assert_eq!(daemon.post("/api/messaging/broadcast", &none).status, 404);
    let wrong = json!({"to_type": "cook", "content": "x"});
    assert_eq!(daemon.post("/api/messaging/broadcast", &wrong).status, 422);
    let back = json!({"to_bot": "coder", "content": "and back", "from_bot": "coder-2"});
    send(&daemon, &back);
    let path = "/api/messaging/conversation/coder-2?bot_id=coder";
    let talk = daemon.get(path).ok();
    let talked = texts(talk["messages"].as_array().unwrap());
    assert_eq!(talked, ["to all", "and back"], "{talk}");
    assert_eq!(
        (&talk["bot_1"], &talk["bot_2"]),
        (&json!("coder"), &json!("coder-2"))
    );
    let shown = daemon
        .ctl(&["message", "conversation", "coder-2", "--bot", "coder"])
        .ok();
    assert!(shown.stdout.contains("and back"), "{shown:?}");
}

/// `/message` and `/messages`, as the original's bots had them.
#[test]
fn the_fleets_own_bot_has_its_mailbox() {
    let daemon = start();
    let body = json!({"from_bot": "x", "content": "first"});
    let answer = daemon.post("/message", &body).ok();
    assert_eq!(answer["message"], "Message queued", "{answer}");
    daemon.post(
        "/message",
        &json!({"from_bot": "x", "content": "urgent", "priority": "P0"}),
    );
    assert_eq!(
        daemon.post("/message", &json!({"content": "x"})).status,
        422
    );
    // Nobody has read what nobody has seen, and no other site's page may have it read.
    let head = daemon.tcp().request("HEAD", "/messages", &[], None);
    assert_eq!(head.status, 200, "{head:?}");
    let foreign = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    let foreign = daemon.tcp().request("GET", "/messages", &foreign, None);
    assert_eq!(foreign.status, 403, "{foreign:?}");
    let drained = daemon.get("/messages").ok();
    let messages = drained["messages"].as_array().unwrap();
    assert_eq!(texts(messages), ["urgent", "first"], "{drained}");
    assert_eq!(messages[0]["from"], "x", "{drained}");
    assert_eq!(daemon.get("/messages").ok()["messages"], json!([]));
}

#[test]
fn messages_can_be_off() {
    let config = format!("feature_flags: {{messaging_enabled: false}}\n{FLEET}");
    let daemon = Daemon::builder().config(&config).start();
    let said = daemon.post(
        "/api/messaging/send",
        &json!({"to_bot": "b", "content": "c"}),
    );
    assert_eq!(said.status, 503, "{said:?}");
    assert!(said.text.contains("messaging_enabled"), "{said:?}");
}

/// Two bots of one shell each, who may start `deiactl`, and where that is.
fn shells() -> (Daemon, PathBuf) {
    let programs = deia_program();
    let programs = programs.parent().unwrap();
    let shell = json!({"kind": "command", "argv": ["sh", "-c", "exec 2>&1; eval \"$(cat)\""], "input": "stdin"});
    let pool = |name: &str| {
        json!({"name": name, "type": "general", "min": 1, "max": 1, "backend": shell,
            "paths": {"read": [programs]}})
    };
    let bots = json!([pool("one"), pool("two")]);
    let config = format!("bot_limits: {{min_bots: 2, max_bots: 2}}\nbots: {bots}\n");
    let daemon = Daemon::builder().config(&config).start();
    daemon.wait_bots(2);
    (daemon, programs.join("deiactl"))
}

/// Shown to fail on a daemon that goes on accepting while it leaves: those are lost.
#[test]
fn a_program_that_sends_does_not_notice_an_upgrade() {
    let (daemon, ctl) = shells();
    let script = format!(
        "n=0; while [ $n -lt 60 ]; do {} message send two $n >/dev/null || echo FAILED; n=$((n+1)); sleep 0.02; done",
        ctl.display()
    );
    let id = daemon.submit_with(&json!({"content": script, "pool": "one"}));
    for _ in 0..3 {
        daemon.ctl(&["upgrade"]).ok();
    }
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["result"]["output"], "", "{task}");
    assert_eq!(inbox(&daemon, "?bot_id=two&limit=1000").len(), 60);
}

/// Dials twice, asks once, and asks on both when told to go on.
const DIALS: &str = r#"
import os, socket, time
def dial():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["DEIA_SOCKET"])
    return s
def ask(s):
    s.sendall(b"GET /api/messaging/inbox HTTP/1.1\r\nhost: deia\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        got = s.recv(1)
        if not got: return "closed after %r" % head
        head += got
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            left = int(line.split(b":")[1])
    while left > 0: left -= len(s.recv(left))
    return head.split(b"\r\n")[0].decode()
kept, fresh = dial(), dial()
print(ask(kept))
open(DIR + "/dialled", "w").close()
while not os.path.exists(DIR + "/go"): time.sleep(0.01)
print(ask(kept))
print(ask(fresh))
"#;

/// However long it waits between dialling and asking. Shown to fail on a daemon that closes what nobody asks on
/// when it leaves, instead of handing it on.
#[test]
fn who_has_dialled_before_an_upgrade_is_answered_after_it() {
    if !Path::new(PYTHON).exists() {
        skipped("programs across an upgrade", "no Python");
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path();
    let backend = json!({"kind": "command", "argv": [PYTHON, "-"], "input": "stdin"});
    let pool = json!({"name": "one", "type": "general", "min": 1, "max": 1, "backend": backend,
        "paths": {"write": [dir]}});
    let config = format!(
        "bot_limits: {{min_bots: 1, max_bots: 1}}\nfeature_flags: {{request_validation_enabled: false}}\nbots: [{pool}]\n"
    );
    let daemon = Daemon::builder().config(&config).start();
    daemon.wait_bots(1);
    let script = DIALS.replace("DIR", &format!("{:?}", dir.to_str().unwrap()));
    let id = daemon.submit_with(&json!({"content": script, "max_attempts": 1}));
    wait_until(PATIENCE, "it has dialled", || {
        dir.join("dialled").exists().then_some(())
    });
    for _ in 0..2 {
        daemon.ctl(&["upgrade"]).ok();
    }
    std::fs::write(dir.join("go"), "").unwrap();
    let task = daemon.wait_task(&id, PATIENCE);
    let answered = "HTTP/1.1 200 OK\n".repeat(3);
    assert_eq!(task["result"]["output"], answered, "{task}");
}

/// What a bot starts speaks for that bot, through the socket in its environment. Shown to fail on a daemon
/// that takes a bot's word for who it is.
#[test]
fn a_bots_program_sends_and_reads_its_own_and_no_other() {
    let (daemon, ctl) = shells();
    let run = |pool: &str, script: &str| {
        let script = script.replace("deiactl", ctl.to_str().unwrap());
        let id = daemon.submit_with(&json!({"content": script, "pool": pool}));
        let task = daemon.wait_task(&id, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        task["result"]["output"].as_str().unwrap().to_owned()
    };
    let said = run("one", "deiactl message send two 'from a task'");
    assert!(said.contains("sent to two"), "{said}");
    let message = wait_until(PATIENCE, "it is delivered", || {
        inbox(&daemon, "?bot_id=two").pop()
    });
    assert_eq!(message["from_bot"], "one", "{message}");
    let said = run("two", "deiactl message inbox");
    assert!(said.contains("from a task"), "{said}");
    let id = message["message_id"].as_str().unwrap();
    // Nobody else's: not by name, not by the message, not in another's name.
    let said = run("one", &format!("deiactl message read {id}; echo $?"));
    assert!(
        said.contains("not found") && said.ends_with("1\n"),
        "{said}"
    );
    let said = run("one", "deiactl message inbox --bot two; echo $?");
    assert!(
        said.contains("not_yours") || said.contains("does not speak for two"),
        "{said}"
    );
    assert!(said.ends_with("1\n"), "{said}");
    let said = run("one", "deiactl message send one forged --from two; echo $?");
    assert!(said.ends_with("1\n"), "{said}");
    let said = run("two", &format!("deiactl message read {id}"));
    assert!(said.contains("read"), "{said}");
    // Work of its own, too, but not the fleet.
    let said = run("one", "deiactl submit 'echo sub-task' --pool two --wait");
    assert!(said.contains("sub-task"), "{said}");
    let said = run("one", "deiactl scale --max 1; echo $?");
    assert!(said.ends_with("1\n"), "{said}");
    // A stranger on the socket is none of theirs.
    let socket = daemon.home().join(".deia/run/bots/bots.sock");
    assert!(Path::new(&socket).exists());
    let said = daemon
        .ctl_command(&["status"])
        .arg("--socket")
        .arg(&socket)
        .output()
        .unwrap();
    assert!(!said.status.success(), "{said:?}");
}
