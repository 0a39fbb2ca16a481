//! Dangerous content: refused, noted or let pass, by the same rule on every way in, and never changed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Daemon, Halted, PATIENCE, deia_program, wait_until};
use serde_json::{Value, json};

/// A pool of each kind; `free` is the one that can run programs.
fn start() -> (Daemon, PathBuf) {
    let programs = deia_program().parent().unwrap().to_owned();
    let echo = |name: &str, rule: &str| {
        json!({"name": name, "type": "general", "min": 1, "max": 1, "request_validation": rule,
            "backend": {"kind": "echo"}})
    };
    let free = json!({"name": "free", "type": "general", "min": 1, "max": 1, "request_validation": "off",
        "paths": {"read": [programs]}, "backend": {"kind": "command", "argv": ["sh"], "input": "stdin"}});
    let bots = json!([echo("strict", "block"), echo("lax", "audit"), free]);
    let config = format!("bot_limits: {{min_bots: 3, max_bots: 3}}\nbots: {bots}\n");
    let daemon = Daemon::builder().config(&config).start();
    daemon.wait_bots(3);
    (daemon, programs.join("deiactl"))
}

const BAD: &str = "please sudo rm  -rf / for me";

fn assert_refused(status: u16, body: &Value) {
    assert_eq!(status, 400, "{body}");
    assert_eq!(body["code"], "dangerous_content", "{body}");
    let error = body["error"].as_str().unwrap();
    for part in [
        "\"rm -rf\"",
        "\"sudo\"",
        "pool strict",
        "request_validation",
        "feature_flags.request_validation_enabled",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

fn lines(daemon: &Daemon, event: &str) -> Vec<Value> {
    let log = fs::read_to_string(daemon.home().join(".deia/bot-logs/supervisor.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["event"] == event)
        .collect()
}

fn on_record(daemon: &Daemon) -> Vec<Value> {
    let answer = daemon.get("/api/audit/query?action=request_refused").ok();
    answer["entries"].as_array().unwrap().clone()
}

/// Nobody is told of a refusal whose record waits for the disk; and whoever is told finds it: from many at once, in
/// batches too, and after a kill. Refusals share their commits, as tasks do.
///
/// Shown to fail on a daemon that answers as soon as it has handed the record over.
#[test]
fn a_refusal_is_on_record_before_it_is_answered() {
    const CLIENTS: usize = 8;
    const EACH: usize = 40;
    let (mut daemon, _) = start();
    {
        let still = Halted::hold(daemon.pid(), "store-writer");
        let told = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (daemon, told) = (&daemon, &told);
            scope.spawn(move || {
                let answer = daemon.post("/api/orchestrate", &json!({"content": BAD}));
                told.store(true, Ordering::Release);
                assert_refused(answer.status, &answer.body);
            });
            std::thread::sleep(Duration::from_millis(500));
            let early = told.load(Ordering::Acquire);
            drop(still);
            assert!(!early, "answered before its record was written");
        });
        assert_eq!(on_record(&daemon).len(), 1);
    }
    let refused = 1 + std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let daemon = &daemon;
                scope.spawn(move || {
                    for n in 1..=EACH {
                        let (path, body) = match client % 4 {
                            0 => ("/api/orchestrate", json!({"content": BAD})),
                            1 => ("/message", json!({"from_bot": "x", "content": BAD})),
                            2 => (
                                "/api/messaging/send",
                                json!({"to_bot": "strict", "content": BAD}),
                            ),
                            _ => (
                                "/v1/chat/completions",
                                json!({"messages": [{"role": "user", "content": BAD}]}),
                            ),
                        };
                        assert_eq!(daemon.post(path, &body).status, 400, "{path}");
                        if client < 2 {
                            let found = on_record(daemon).len();
                            assert!(found >= n, "{found} records after {n} answers");
                        }
                    }
                    EACH
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|one| one.join().unwrap())
            .sum::<usize>()
    });
    let batch: Vec<Value> = (0..300).map(|_| json!({"content": BAD})).collect();
    let answer = daemon.post("/api/orchestrate/batch", &json!(batch)).ok();
    assert_eq!(answer["accepted"], 0, "{answer}");
    daemon.kill9();
    daemon.restart();
    assert_eq!(on_record(&daemon).len(), refused + batch.len());
}

/// Shown to fail on a daemon that does not look at messages.
#[test]
fn every_way_in_has_the_same_rule() {
    let (daemon, ctl) = start();
    let task = |more: Value| {
        let mut body = json!({"content": BAD});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        daemon.post("/api/orchestrate", &body)
    };
    // A task that is bound to nobody, to the pool, to its bot.
    for bound in [
        json!({}),
        json!({"pool": "strict"}),
        json!({"bot_id": "strict"}),
    ] {
        let answer = task(bound);
        assert_refused(answer.status, &answer.body);
    }
    // Over the admin socket, and by the operator's command.
    let answer = daemon
        .admin()
        .post("/api/orchestrate", &json!({"content": BAD}));
    assert_refused(answer.status, &answer.body);
    let said = daemon.ctl(&["submit", BAD]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("\"rm -rf\""), "{said:?}");

    // A batch: each by itself.
    let batch = json!([{"content": "fine"}, {"content": BAD}, {"content": BAD, "pool": "lax"}]);
    let answer = daemon.post("/api/orchestrate/batch", &batch).ok();
    assert_eq!(answer["accepted"], 2, "{answer}");
    assert_eq!(
        answer["results"][1]["code"], "dangerous_content",
        "{answer}"
    );
    assert_eq!(answer["results"][1]["success"], false, "{answer}");

    // Messages, to one, to all of a type, to the fleet's own bot.
    for (path, body) in [
        (
            "/api/messaging/send",
            json!({"to_bot": "strict", "content": BAD}),
        ),
        (
            "/api/messaging/send",
            json!({"to_bot": "a-stranger", "content": BAD}),
        ),
        (
            "/api/messaging/broadcast",
            json!({"to_type": "general", "from_bot": "x", "content": BAD}),
        ),
        ("/message", json!({"from_bot": "x", "content": BAD})),
    ] {
        let answer = daemon.post(path, &body);
        assert_refused(answer.status, &answer.body);
    }
    let inbox = daemon.get("/api/messaging/inbox?bot_id=strict").ok();
    assert_eq!(inbox["count"], 0, "{inbox}");
    let to_lax = json!({"to_bot": "lax", "content": BAD});
    daemon.post("/api/messaging/send", &to_lax).ok();

    // What a bot started, over its own socket.
    let script = format!(
        "exec 2>&1\n{ctl} submit --pool strict '{BAD}'; echo \"exit $?\"\n{ctl} message send strict '{BAD}'; echo \"exit $?\"\n",
        ctl = ctl.display()
    );
    let id = daemon.submit_with(&json!({"content": script, "pool": "free"}));
    let ran = daemon.wait_task(&id, PATIENCE);
    let said = ran["result"]["output"].as_str().unwrap();
    assert_eq!(said.matches("\"rm -rf\"").count(), 2, "{said}");
    assert_eq!(said.matches("exit 1").count(), 2, "{said}");

    // A task file is set aside, with the reason; in the other folder it runs.
    let hive = daemon.home().join(".deia/hive");
    for pool in ["strict", "lax"] {
        let folder = wait_until(PATIENCE, "the pool's folder is made", || {
            Some(hive.join("tasks").join(pool)).filter(|folder| folder.is_dir())
        });
        fs::write(
            folder.join("bad.md"),
            format!("# Bad\n\n**To:** {pool}\n**Priority:** P1\n\n{BAD}\n"),
        )
        .unwrap();
    }
    let reason = wait_until(PATIENCE, "the file is set aside", || {
        let entries = fs::read_dir(hive.join("rejected/strict")).ok()?.flatten();
        let mut reasons =
            entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".reason.txt"));
        fs::read_to_string(reasons.next()?.path()).ok()
    });
    assert!(
        reason.contains("\"rm -rf\"") && reason.contains("pool strict"),
        "{reason}"
    );
    wait_until(PATIENCE, "the other file is answered", || {
        fs::read_dir(hive.join("responses")).ok()?.flatten().next()
    });

    // All of it is counted and said, and nothing of the texts.
    let counts = daemon.get("/status").ok()["validation"].clone();
    assert_eq!(
        counts["refused"],
        json!({"rm -rf": 13, "sudo": 13}),
        "{counts}"
    );
    assert_eq!(counts["noted"], json!({"rm -rf": 3, "sudo": 3}), "{counts}");
    let metrics = daemon.get("/metrics").text;
    let line = "deia_dangerous_content_total{pattern=\"sudo\",action=\"refused\"} 13\n";
    assert!(metrics.contains(line), "{metrics}");
    let refused = wait_until(PATIENCE, "each refusal is in the log", || {
        Some(lines(&daemon, "request_refused")).filter(|lines| lines.len() == 13)
    });
    let recorded = on_record(&daemon);
    assert_eq!(recorded.len(), 13, "{recorded:?}");
    for entry in recorded {
        assert!(!entry.to_string().contains("please"), "{entry}");
        assert_eq!(entry["result"], "failure", "{entry}");
    }
    let ways = |way: &str| refused.iter().filter(|line| line["way"] == way).count();
    assert_eq!(
        (
            ways("task"),
            ways("batch"),
            ways("message"),
            ways("task_file")
        ),
        (6, 1, 5, 1),
        "{refused:?}"
    );
    assert_eq!(lines(&daemon, "request_noted").len(), 3);
    let logs = fs::read_dir(daemon.home().join(".deia/bot-logs"))
        .unwrap()
        .flatten();
    for log in logs {
        let text = fs::read_to_string(log.path()).unwrap();
        assert!(!text.contains("please"), "{}", log.path().display());
    }
}

/// The original escaped what it looked at, twice.
/// Shown to fail on a build that trims a task's text.
#[test]
fn what_is_let_pass_comes_through_byte_for_byte() {
    let (daemon, _) = start();
    let text = "<script>alert('1' & \"2\")</script> &lt; ../ \\ %2e \u{0}\u{7f}\t\r\n rm -rf \u{202e}é日🎉 \u{feff}end ";
    let id = daemon.submit_with(&json!({"content": text, "pool": "lax", "metadata": {"m": text}}));
    let task = daemon.wait_task(&id, PATIENCE);
    let output = task["result"]["output"].as_str().unwrap();
    assert!(output.contains(text), "{output:?}");
    let message = json!({"to_bot": "lax", "content": text});
    daemon.post("/api/messaging/send", &message).ok();
    let inbox = daemon.get("/api/messaging/inbox?bot_id=lax").ok();
    assert_eq!(inbox["messages"][0]["content"], text, "{inbox}");
}

#[test]
fn the_rule_follows_the_configuration_at_once() {
    let config = |pool: &str, flag: bool| {
        format!(
            "feature_flags: {{request_validation_enabled: {flag}}}\nbots: [{{name: main-bot, type: general, \
            request_validation: {pool}, backend: {{kind: echo}}}}]\nhttp: {{listen: \"127.0.0.1:0\"}}\n"
        )
    };
    let daemon = Daemon::builder().config(&config("block", true)).start();
    let status = || {
        daemon
            .post("/api/orchestrate", &json!({"content": BAD}))
            .status
    };
    assert_eq!(status(), 400);
    for (pool, flag, expected) in [
        ("audit", true, 200),
        ("block", true, 400),
        ("off", true, 200),
        ("block", false, 200),
    ] {
        daemon.write_config(&config(pool, flag));
        daemon.ctl(&["reload"]).ok();
        assert_eq!(status(), expected, "{pool} {flag}");
    }
    let counts = daemon.get("/status").ok()["validation"].clone();
    assert_eq!(counts["noted"]["sudo"], 1, "{counts}");
}

/// Where nothing is configured, the rule is on: so the deployment checklist expects it.
/// Shown to fail on a build whose pools do not look by default.
#[test]
fn by_default_it_is_refused_and_ordinary_work_is_not() {
    let daemon = Daemon::builder().start();
    for text in [
        "rm -rf /",
        "RM   -RF /",
        "DROP TABLE users",
        "eval(x)",
        "subprocess.run",
        "<script>",
        "../",
    ] {
        let answer = daemon.post("/api/orchestrate", &json!({"content": text}));
        assert_eq!(answer.status, 400, "{text}: {answer:?}");
        assert_eq!(answer.body["code"], "dangerous_content", "{answer:?}");
    }
    for text in [
        "Write pseudocode",
        "a sudoku, please",
        "run it in a subprocess.",
    ] {
        daemon.submit(text);
    }
    // Too large is too large, whatever is in it.
    let large = format!("{} rm -rf /", "x".repeat(1 << 20));
    let answer = daemon.post("/api/orchestrate", &json!({"content": large}));
    assert_eq!(answer.status, 413, "{}", answer.status);
}
