//! The `curl` lines of a DEIA deployment's checklist, typed as it has them, by the real `curl`: liveness, messages,
//! orchestration, the dashboard, a task and a message with `-d` (which calls itself a form), JSON that is none, content
//! that is refused, and more than a thousand requests a minute. Without `curl` on this machine: `SKIPPED`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, skipped, wait_until};
use serde_json::{Value, json};

/// Requests a minute, as it is configured where nothing is configured.
const A_MINUTE: usize = 1000;

/// What came of a line.
#[derive(Debug)]
struct Said {
    status: u16,
    body: Value,
    /// What `-v` shows: what was sent, and the head of the answer.
    talk: String,
}

/// Its limits are the defaults.
fn start() -> Daemon {
    let daemon = Daemon::builder().config("rate_limits: {}\n").start();
    daemon.wait_bots(1);
    daemon
}

/// Whether there is a `curl`; says that there is none.
fn has_curl(test: &str) -> bool {
    let asked = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let has = asked.is_ok_and(|status| status.success());
    if !has {
        skipped(test, "needs curl");
    }
    has
}

/// The line in a shell, as somebody types it, but for the port; and that it shows what was said.
#[track_caller]
fn shell(daemon: &Daemon, line: &str) -> String {
    let line = line.replace(":8001", &format!(":{}", daemon.port()));
    let done = Command::new("sh")
        .args(["-c", &line])
        .current_dir(daemon.home())
        // Whatever is said to a proxy says nothing of the daemon.
        .env("no_proxy", "*")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let talk = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {said}{talk}");
    said + "\n" + &talk
}

#[track_caller]
fn curl(daemon: &Daemon, line: &str) -> Said {
    let said = shell(daemon, &format!("{line} -s -v -w '\\n%{{http_code}}'"));
    let (body, rest) = match said.find("\n* ") {
        Some(at) => said.split_at(at),
        None => (said.as_str(), ""),
    };
    let (body, status) = body.trim_end().rsplit_once('\n').unwrap();
    Said {
        status: status.parse().unwrap(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
        talk: rest.to_owned(),
    }
}

#[test]
fn the_checklists_lines_are_answered_as_it_says() {
    if !has_curl("the_checklists_lines_are_answered_as_it_says") {
        return;
    }
    let daemon = start();
    let get = |path: &str| {
        let said = curl(&daemon, &format!("curl http://localhost:8001{path}"));
        assert_eq!(said.status, 200, "{said:?}");
        assert!(
            said.talk.contains("content-type: application/json"),
            "{said:?}"
        );
        said.body
    };
    assert_eq!(get("/health")["status"], "ok");
    let status = get("/status");
    assert_eq!(status["pid"], daemon.pid(), "{status}");
    assert_eq!(status["bots"][0]["actual"], "ready", "{status}");
    let inbox = get("/api/messaging/inbox");
    assert_eq!(
        (&inbox["messages"], &inbox["count"]),
        (&json!([]), &json!(0))
    );
    let fleet = get("/api/orchestrate/status");
    assert_eq!(
        (&fleet["total_bots"], &fleet["queued_tasks"]),
        (&json!(1), &json!(0))
    );
    let page = get("/api/dashboard/health");
    assert!(page["overall_status"].is_string(), "{page}");
    for flag in [
        "messaging",
        "adaptive_scheduling",
        "health_monitoring",
        "auto_scaling",
    ] {
        assert_eq!(
            page["feature_flags"][format!("{flag}_enabled")],
            true,
            "{page}"
        );
    }

    // No header of his own: curl says that it sends a form.
    let line = r#"curl -X POST http://localhost:8001/api/orchestrate -d '{"task_id": "test-001", "content": "Write python code to sort a list", "priority": "P1"}'"#;
    let said = curl(&daemon, line);
    let form = "Content-Type: application/x-www-form-urlencoded";
    assert!(said.talk.contains(form), "{said:?}");
    assert_eq!(
        (said.status, &said.body["success"]),
        (200, &json!(true)),
        "{said:?}"
    );
    assert_eq!(said.body["task_type"], "development", "{said:?}");
    let task = daemon.wait_task("test-001", PATIENCE);
    assert_eq!(task["status"], "succeeded", "{task}");
    let again = curl(&daemon, line);
    assert_eq!(again.body["duplicate"], true, "{again:?}");
    let header = r#"curl -X POST http://localhost:8001/api/orchestrate -H "Content-Type: application/json" -d '{"content": "Analyze this", "wait_seconds": 20}'"#;
    let said = curl(&daemon, header);
    assert_eq!(
        (said.status, &said.body["status"]),
        (200, &json!("succeeded")),
        "{said:?}"
    );

    let line = r#"curl -X POST http://localhost:8001/message -d '{"from_bot": "operator", "content": "Hello", "priority": "P1"}'"#;
    let said = curl(&daemon, line);
    assert!(said.talk.contains(form), "{said:?}");
    assert_eq!(
        (said.status, &said.body["message"]),
        (200, &json!("Message queued")),
        "{said:?}"
    );
    assert_eq!(
        get("/api/messaging/inbox")["messages"][0]["content"],
        "Hello"
    );
    assert_eq!(get("/messages")["messages"][0]["from"], "operator");
    assert_eq!(get("/messages")["messages"], json!([]));
}

#[test]
fn what_is_wrong_is_refused_and_nothing_comes_of_it() {
    if !has_curl("what_is_wrong_is_refused_and_nothing_comes_of_it") {
        return;
    }
    let daemon = start();
    for (data, status, kind) in [
        ("{invalid json}", 422, "json_invalid"),
        ("{\"content\": ", 422, "json_invalid"),
        ("content=hello&priority=P1", 422, "json_invalid"),
        ("", 422, "missing"),
        ("[\"content\"]", 422, "dict_type"),
        ("{\"content\": 7}", 422, "string_type"),
        ("{\"content\": \"x\", \"priority\": \"P9\"}", 422, "enum"),
        ("{\"content\": \"rm -rf /\"}", 400, "dangerous_content"),
        (
            "{\"content\": \"DROP TABLE users\"}",
            400,
            "dangerous_content",
        ),
        (
            "{\"content\": \"<script>alert(1)</script>\"}",
            400,
            "dangerous_content",
        ),
    ] {
        let line = format!("curl -X POST http://localhost:8001/api/orchestrate -d '{data}'");
        let said = curl(&daemon, &line);
        let why = match said.status {
            422 => &said.body["detail"][0]["type"],
            _ => &said.body["code"],
        };
        assert_eq!(
            (said.status, why),
            (status, &json!(kind)),
            "{data}: {said:?}"
        );
    }
    // curl asks before it sends so much.
    std::fs::write(daemon.home().join("large"), vec![b'x'; 20 << 20]).unwrap();
    let said = curl(
        &daemon,
        "curl -X POST http://localhost:8001/api/orchestrate -d @large",
    );
    assert_eq!(
        (said.status, &said.body["code"]),
        (413, &json!("too_large")),
        "{said:?}"
    );
    let said = curl(
        &daemon,
        "curl -X POST http://localhost:8001/message -d '{bad'",
    );
    assert_eq!(said.status, 422, "{said:?}");
    // What only operators may: the answer says how.
    let said = curl(
        &daemon,
        "curl -X POST http://localhost:8001/api/scaling/scale-up",
    );
    assert_eq!(
        (said.status, &said.body["code"]),
        (403, &json!("admin_required")),
        "{said:?}"
    );
    let socket = "curl --unix-socket .deia/run/admin.sock http://localhost/api/scaling/limits -d '{\"max_bots\": 3}'";
    let said = curl(&daemon, socket);
    assert_eq!(
        (said.status, &said.body["max_bots"]),
        (200, &json!(3)),
        "{said:?}"
    );

    assert_eq!(
        curl(&daemon, "curl http://localhost:8001/health").body["status"],
        "ok"
    );
    let tasks = daemon.get("/api/tasks").ok();
    assert_eq!(tasks["tasks"], json!([]), "{tasks}");
    let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
    assert!(!log.contains("\"ERROR\""), "{log}");
}

/// Shown to fail with a limit of 1001.
#[test]
fn of_more_than_a_thousand_a_minute_the_rest_is_refused_and_the_fleet_goes_on() {
    let name = "of_more_than_a_thousand_a_minute_the_rest_is_refused_and_the_fleet_goes_on";
    if !has_curl(name) {
        return;
    }
    let daemon = start();
    let begun = Instant::now();
    let codes = "-s -o /dev/null -w '%{http_code}\\n'";
    let line = format!("curl {codes} 'http://localhost:8001/status?n=[1-{A_MINUTE}]'");
    let said = shell(&daemon, &line);
    let answers: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        (answers.len(), answers.iter().all(|code| *code == "200")),
        (A_MINUTE, true),
        "{said}"
    );
    let one_more = curl(&daemon, "curl http://localhost:8001/status");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}: no minute of it");
    assert_eq!(
        (one_more.status, &one_more.body["code"]),
        (429, &json!("rate_limited")),
        "{one_more:?}"
    );
    let wait = one_more.talk.split("retry-after: ").nth(1).unwrap();
    let wait: u64 = wait.split_whitespace().next().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{one_more:?}");
    let task = "curl -X POST http://localhost:8001/api/orchestrate -d '{\"content\": \"x\"}'";
    assert_eq!(curl(&daemon, task).status, 429);
    println!("{A_MINUTE} requests in {took:?}, the next one: 429, Retry-After {wait}");

    // Whoever watches still sees it, operators are let in, work is done and bots are started again.
    for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
        let said = curl(&daemon, &format!("curl http://localhost:8001{path}"));
        assert_eq!(said.status, 200, "{path}: {said:?}");
    }
    let done = daemon.ctl(&["submit", "say it", "--wait"]).ok();
    assert!(done.stdout.contains("say it"), "{done:?}");
    let pid = daemon.bot_pids()[0];
    let bot = common::Process::of(pid).unwrap();
    bot.signal(nix::sys::signal::Signal::SIGKILL);
    wait_until(PATIENCE, "the bot is there again", || {
        let bots = daemon.bots();
        let is_new = bots[0]["pid"]
            .as_u64()
            .is_some_and(|new| new != u64::from(pid));
        (is_new && bots[0]["actual"] == "ready").then_some(())
    });
}
