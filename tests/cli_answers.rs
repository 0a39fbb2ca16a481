//! What `deiactl` makes of answers: also of those a real daemon gives rarely.

mod common;

use std::process::Stdio;

use common::{PATIENCE, Process, Scripted, deiactl_command, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn task(status: &str) -> Value {
    let result = (status == "succeeded").then(|| {
        json!({"output": "done\u{1b}[2J", "truncated": false, "duration_seconds": 0.5,
               "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "backend": "echo",
               "model": null})
    });
    json!({
        "task_id": "t1", "status": status, "priority": "P2", "task_type": "general",
        "complexity": "simple", "required_capabilities": [], "bot_id": null, "pool": null,
        "position": null, "max_attempts": 3, "timeout_seconds": 60.0,
        "submitted_at": "2026-11-23T23:29:14.000001Z", "not_before": null, "ended_at": null,
        "attempts": [{"attempt": 1, "bot_id": "coder", "status": "failed", "ended_at": null,
                      "started_at": "2026-11-23T23:29:14.000001Z", "error": "no luck"}],
        "result": result, "error": (status == "dead").then_some("no luck"), "metadata": null,
        "from_the_future": [1, 2],
    })
}

fn accepted() -> Value {
    json!({"success": true, "task_id": "t1", "status": "queued", "routed_to": null,
           "queued": true, "position": 7, "task_type": "general", "complexity": "simple"})
}

fn page(ids: &[&str], next: Option<&str>) -> Value {
    let tasks: Vec<Value> = ids
        .iter()
        .map(|id| {
            let mut task = task("queued");
            task["task_id"] = json!(id);
            task
        })
        .collect();
    json!({"count": tasks.len(), "tasks": tasks, "next_cursor": next})
}

#[test]
fn status_shows_what_there_is_and_nothing_that_steers_a_terminal() {
    let daemon = Scripted::start();
    daemon.answer(
        "GET /health",
        503,
        &json!({"success": false, "error": "the store is read-only", "code": "unavailable",
                "detail": "the store is read-only"}),
    );
    let shown = daemon.ctl(&["status"]).ok().stdout;
    for part in [
        "pid 4242",
        "up 3m 05s",
        "unavailable: the store is read-only",
        "/etc/x.yaml (generation 3)",
        "! line 3: a: bad",
        "1 queued, 2 running, 0 scheduled; 3 succeeded, 4 dead",
        "no bots",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn json_is_the_daemons_own_with_what_this_version_does_not_know() {
    let daemon = Scripted::start();
    assert_eq!(
        daemon.ctl(&["status", "--json"]).ok().json()["unheard_of"],
        7
    );
    daemon.answer("GET /api/tasks/t1", 200, &task("running"));
    let shown = daemon.ctl(&["task", "show", "t1", "--json"]).ok().json();
    assert_eq!(shown["from_the_future"], json!([1, 2]));
}

#[test]
fn a_refusal_is_shown_with_its_reason_and_exits_with_1() {
    let daemon = Scripted::start();
    let refusal = json!({"success": false, "error": "no task 't9'", "code": "not_found",
                         "detail": "no task 't9'"});
    daemon.answer("GET /api/tasks/t9", 404, &refusal);
    let shown = daemon.ctl(&["task", "show", "t9"]);
    assert_eq!(
        (shown.code, shown.stderr.as_str()),
        (1, "deiactl: no task 't9'\n")
    );
    let shown = daemon.ctl(&["task", "show", "t9", "--json"]);
    assert_eq!((shown.code, shown.json()), (1, refusal));

    let wrong = json!({"detail": [{"type": "greater_than", "loc": ["body", "max_attempts"],
                                   "msg": "should be above 0", "input": 0}]});
    daemon.answer("POST /api/orchestrate", 422, &wrong);
    let shown = daemon.ctl(&["submit", "x", "--max-attempts", "0"]);
    assert_eq!(shown.code, 1);
    let reason = "max_attempts: should be above 0 (it was 0)";
    assert!(shown.stderr.contains(reason), "{shown:?}");
}

#[test]
fn what_is_no_daemon_is_said_to_be_none() {
    let daemon = Scripted::start();
    daemon.raw("GET /api/bots", "HTTP/1.1 200 OK", "<html>");
    let shown = daemon.ctl(&["bots"]);
    assert_eq!(shown.code, 1);
    assert!(shown.stderr.contains("does not understand"), "{shown:?}");
}

#[test]
fn commands_that_change_something_say_which_daemon_unless_quiet() {
    let daemon = Scripted::start();
    daemon.answer("POST /api/orchestrate", 200, &accepted());
    let shown = daemon.ctl(&["submit", "x"]).ok();
    assert!(shown.stderr.contains("pid 4242"), "{shown:?}");
    assert_eq!(shown.stdout, "t1 queued, position 7 (general, simple)\n");
    assert_eq!(daemon.ctl(&["submit", "x", "-q"]).ok().stderr, "");
}

#[test]
fn a_submission_carries_every_option_and_a_name() {
    let daemon = Scripted::start();
    daemon.answer("POST /api/orchestrate", 200, &accepted());
    let arguments = [
        "submit",
        "-q",
        "x",
        "--type",
        "writing",
        "--priority",
        "p0",
        "--pool",
        "a",
        "--bot",
        "b",
        "--max-attempts",
        "2",
        "--timeout",
        "1.5",
        "--not-before",
        "2026-11-24T00:00:00+01:00",
        "--capability",
        "c",
        "--capability",
        "d",
        "--metadata",
        "{\"k\":1}",
    ];
    daemon.ctl(&arguments).ok();
    daemon.ctl(&["submit", "-q", "x", "--task-id", "mine"]).ok();
    let sent: Vec<Value> = daemon
        .requests()
        .iter()
        .map(|(_, body)| serde_json::from_str(body).unwrap())
        .collect();
    let mut first = sent[0].clone();
    let made_up = first.as_object_mut().unwrap().remove("task_id");
    assert!(made_up.unwrap().as_str().unwrap().starts_with("task-"));
    assert_eq!(
        first,
        json!({"content": "x", "type": "writing", "priority": "P0", "pool": "a", "bot_id": "b",
               "max_attempts": 2, "timeout_seconds": 1.5, "required_capabilities": ["c", "d"],
               "not_before": "2026-11-23T23:00:00.000000Z", "metadata": {"k": 1}})
    );
    assert_eq!(sent[1]["task_id"], "mine");
}

#[test]
fn a_text_comes_from_a_file_or_standard_input_too() {
    let daemon = Scripted::start();
    daemon.answer("POST /api/orchestrate", 200, &accepted());
    let file = daemon.home().join("text");
    std::fs::write(&file, "from a file\n").unwrap();
    daemon
        .ctl(&["submit", "-q", "--file", file.to_str().unwrap()])
        .ok();
    // Standard input is /dev/null here.
    daemon.ctl(&["submit", "-q", "-"]).ok();
    let sent = daemon.requests();
    assert!(
        sent[0].1.contains("\"content\":\"from a file\\n\""),
        "{sent:?}"
    );
    assert!(sent[1].1.contains("\"content\":\"\""), "{sent:?}");
}

#[test]
fn waiting_ends_as_the_task_does() {
    let daemon = Scripted::start();
    daemon.answer("POST /api/orchestrate", 200, &accepted());
    let wait = ["submit", "-q", "x", "--task-id", "t1", "--wait"];
    for (status, code) in [
        ("dead", 1),
        ("cancelled", 1),
        ("expired", 1),
        ("succeeded", 0),
    ] {
        let daemon = Scripted::start();
        daemon.answer("POST /api/orchestrate", 200, &accepted());
        daemon.answer("GET /api/tasks/t1", 200, &task("running"));
        daemon.answer("GET /api/tasks/t1", 200, &task(status));
        let shown = daemon.ctl(&wait);
        assert_eq!(shown.code, code, "{status}: {shown:?}");
        if code == 0 {
            // Into a pipe goes what the bot wrote.
            assert_eq!(shown.stdout, "done\u{1b}[2J\n");
        } else {
            assert!(shown.stderr.contains(status), "{shown:?}");
        }
    }
    daemon.answer("GET /api/tasks/t1", 200, &task("running"));
    let shown = daemon.ctl(&["submit", "-q", "x", "--task-id", "t1", "--wait", "0.2"]);
    assert_eq!(shown.code, 4, "{shown:?}");
    assert!(shown.stderr.contains("within 0.2 s"), "{shown:?}");
}

/// Shown to fail on the program before, which said nothing for as long as there was no model server.
#[test]
fn whoever_waits_for_a_task_that_waits_is_told_what_for() {
    let daemon = Scripted::start();
    let mut waits = accepted();
    let why = "Task t1 waits in place 1 for its model server, and goes on by itself: refused";
    waits["message"] = json!(why);
    daemon.answer("POST /api/orchestrate", 200, &waits);
    daemon.answer("GET /api/tasks/t1", 200, &task("succeeded"));
    let shown = daemon
        .ctl(&["submit", "x", "--task-id", "t1", "--wait"])
        .ok();
    assert!(shown.stderr.contains(why), "{shown:?}");
    let asked = daemon.requests();
    let waited: Vec<f64> = asked
        .iter()
        .filter(|(route, _)| route == "POST /api/orchestrate")
        .map(|(_, body)| serde_json::from_str::<Value>(body).unwrap()["wait_seconds"].clone())
        .map(|seconds| seconds.as_f64().unwrap())
        .collect();
    // Told soon, then waited for; and it is the same task.
    assert_eq!(waited, [2.0, 20.0], "{asked:?}");
}

#[test]
fn a_fleet_that_has_no_bot_for_a_task_is_a_failure() {
    let daemon = Scripted::start();
    let none = json!({"success": false, "error": "No suitable bot available", "task_id": "t1"});
    daemon.answer("POST /api/orchestrate", 200, &none);
    let shown = daemon.ctl(&["submit", "x", "--wait"]);
    assert_eq!(shown.code, 1);
    assert!(
        shown.stderr.contains("No suitable bot available"),
        "{shown:?}"
    );
    assert_eq!(daemon.ctl(&["submit", "x", "--json"]).json(), none);
}

#[test]
fn following_prints_what_comes_once_also_when_the_stream_breaks_off() {
    let daemon = Scripted::start();
    let route = "GET /api/tasks/t1/output?follow=true";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream";
    daemon.raw(
        route,
        head,
        "event: output\ndata: {\"text\":\"one \"}\n\n: hello\n\n",
    );
    daemon.raw(
        route,
        head,
        "event: output\r\ndata: {\"text\":\"one two\"}\r\n\r\nevent: new\ndata: 1\n\n\
         event: end\ndata: {\"status\":\"succeeded\"}\n\n",
    );
    let shown = daemon
        .ctl(&["task", "output", "t1", "--follow", "--json"])
        .ok();
    let events: Vec<Value> = shown
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = [
        json!({"event": "output", "text": "one "}),
        json!({"event": "output", "text": "two"}),
        json!({"event": "end", "status": "succeeded"}),
    ];
    assert_eq!(events, expected);

    // An attempt that fails while the stream is away and again when it is there.
    let daemon = Scripted::start();
    let failed = "event: output\ndata: {\"text\":\"a long word\"}\n\n\
        event: attempt\ndata: {\"status\":\"scheduled\"}\n\n";
    daemon.raw(route, head, failed);
    daemon.raw(
        route,
        head,
        "event: output\ndata: {\"text\":\"well\"}\n\nevent: end\ndata: {\"status\":\"succeeded\"}\n\n",
    );
    let shown = daemon.ctl(&["task", "output", "t1", "--follow"]).ok();
    assert_eq!(shown.stdout, "a long word\nwell\n");
    assert!(
        shown.stderr.contains("that attempt brought no result"),
        "{shown:?}"
    );

    let daemon = Scripted::start();
    daemon.answer("POST /api/orchestrate", 200, &accepted());
    daemon.answer("GET /api/tasks/t1", 200, &task("dead"));
    daemon.raw(
        route,
        head,
        "event: output\ndata: {\"text\":\"half\"}\n\nevent: end\ndata: {\"status\":\"dead\"}\n\n",
    );
    let shown = daemon.ctl(&["submit", "x", "-q", "--follow", "--task-id", "t1"]);
    assert_eq!(
        (shown.code, shown.stdout.as_str()),
        (1, "half\n"),
        "{shown:?}"
    );
    assert!(shown.stderr.contains("no luck"), "{shown:?}");
}

#[test]
fn a_list_takes_as_many_pages_as_it_needs_and_says_when_there_are_more() {
    let daemon = Scripted::start();
    daemon.answer(
        "GET /api/tasks?limit=1000",
        200,
        &page(&["a", "b"], Some("c/1")),
    );
    daemon.answer(
        "GET /api/tasks?limit=1000&cursor=c%2F1",
        200,
        &page(&["c"], None),
    );
    let all = daemon
        .ctl(&["task", "list", "--limit", "0", "--json"])
        .ok()
        .json();
    assert_eq!(all["count"], 3);
    assert_eq!(all["next_cursor"], Value::Null);
    assert_eq!(all["tasks"][2]["from_the_future"], json!([1, 2]));

    daemon.answer(
        "GET /api/tasks?status=dead&limit=2",
        200,
        &page(&["a", "b"], Some("c")),
    );
    let some = daemon
        .ctl(&["task", "list", "-n", "2", "--status", "dead"])
        .ok();
    assert_eq!(some.stdout.lines().count(), 3, "{some:?}");
    assert!(some.stderr.contains("there are more than 2"), "{some:?}");
}

#[test]
fn an_explanation_is_shown_in_full_whatever_it_holds() {
    let daemon = Scripted::start();
    let explanation = json!({"task_id": "t1", "chosen": "coder", "reason": null,
        "candidates": [{"bot": "coder", "score": 0.9}, {"bot": "writer", "refused": "busy"}]});
    daemon.answer("GET /api/tasks/t1/explain", 200, &explanation);
    let shown = daemon.ctl(&["task", "explain", "t1"]).ok().stdout;
    for part in ["chosen", "candidates:", "BOT", "REFUSED", "0.9", "busy"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_refused_reload_fails_and_one_with_warnings_does_not() {
    let daemon = Scripted::start();
    let mut answer = json!({"success": false, "config_version": "1", "environment": "e",
        "loaded_from": "/x.yaml", "generation": 3, "changes": [], "errors": ["line 3: bad"],
        "restart_required": [], "timestamp": "2026-11-23T23:29:14.000001Z"});
    daemon.answer("POST /api/config/reload", 200, &answer);
    let shown = daemon.ctl(&["reload"]);
    assert_eq!(shown.code, 1);
    assert!(shown.stderr.contains("line 3: bad"), "{shown:?}");
    assert!(shown.stderr.contains("generation 3 stays"), "{shown:?}");

    let daemon = Scripted::start();
    answer["success"] = json!(true);
    answer["changes"] = json!(["a: 1 -> 2"]);
    answer["restart_required"] = json!(["http.listen"]);
    daemon.answer("POST /api/config/reload", 200, &answer);
    let shown = daemon.ctl(&["reload"]).ok();
    assert!(shown.stdout.contains("a: 1 -> 2"), "{shown:?}");
    assert!(
        shown.stdout.contains("restart of the daemon: http.listen"),
        "{shown:?}"
    );
    assert!(shown.stderr.contains("warning: line 3: bad"), "{shown:?}");
}

#[test]
fn a_drain_is_waited_for_until_nothing_is_left() {
    let daemon = Scripted::start();
    let scaling = |bots: u32, in_flight: u32| {
        json!({"timestamp": "2026-11-23T23:29:14.000001Z", "current_bot_count": bots,
               "min_bots": 0, "max_bots": 0, "active_bots": [], "scaling_enabled": true,
               "last_scale_up": null, "last_scale_down": null, "override": true,
               "draining": true, "in_flight": in_flight})
    };
    let limits = json!({"success": true, "min_bots": 0, "max_bots": 0, "override": true,
                        "message": "draining"});
    daemon.answer("POST /api/scaling/limits", 200, &limits);
    for (bots, in_flight) in [(2, 1), (1, 0), (0, 0)] {
        daemon.answer("GET /api/scaling/status", 200, &scaling(bots, in_flight));
    }
    let shown = daemon.ctl(&["drain", "--wait", "--json"]).ok();
    assert_eq!(shown.json()["current_bot_count"], 0);
    let sent = daemon.requests();
    let body = &sent
        .iter()
        .find(|(route, _)| route.starts_with("POST"))
        .unwrap()
        .1;
    assert_eq!(body, "{\"max_bots\":0}");

    let daemon = Scripted::start();
    daemon.answer("POST /api/scaling/limits", 200, &limits);
    daemon.answer("GET /api/scaling/status", 200, &scaling(1, 1));
    assert_eq!(daemon.ctl(&["drain", "--wait", "0.1"]).code, 4);
}

#[test]
fn an_interrupted_wait_says_what_goes_on_without_it() {
    let daemon = Scripted::start();
    daemon.answer("POST /api/orchestrate", 200, &accepted());
    daemon.answer("GET /api/tasks/t1", 200, &task("running"));
    let child = deiactl_command(daemon.home())
        .args(["submit", "-q", "x", "--task-id", "t1", "--wait"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(PATIENCE, "it waits", || {
        let asked = daemon.requests();
        asked
            .iter()
            .any(|(route, _)| route == "GET /api/tasks/t1")
            .then_some(())
    });
    Process::of(child.id()).unwrap().signal(Signal::SIGINT);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("deiactl task show t1"), "{said}");
}
