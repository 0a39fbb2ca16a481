//! A task's way through the fleet: its place in the queue, its attempts, its ends.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::Duration;

use common::{Daemon, PATIENCE, processes_of, wait_until};
use deia::time::Timestamp;
use serde_json::{Value, json};

/// One bot that runs its task as a shell script, one at a time.
const SHELL: &str = "bots: [{name: sh, type: general, min: 1, max: 1, max_concurrent_tasks: 1, \
    backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
    bot_limits: {min_bots: 1, max_bots: 1}\n\
    feature_flags: {request_validation_enabled: false}\n\
    tasks: {retry_backoff_seconds: [0.05, 0.1]}\n\
    supervision: {stop_timeout_seconds: 1}\n";

#[track_caller]
fn wait_status(daemon: &Daemon, id: &str, status: &str) -> Value {
    wait_until(PATIENCE, &format!("{id} is {status}"), || {
        let task = daemon.get(&format!("/api/tasks/{id}")).ok();
        (task["status"] == status).then_some(task)
    })
}

fn statuses(task: &Value) -> Vec<&str> {
    let attempts = task["attempts"].as_array().unwrap();
    attempts
        .iter()
        .map(|a| a["status"].as_str().unwrap())
        .collect()
}

#[test]
fn urgent_tasks_go_first_and_equals_in_order() {
    let daemon = Daemon::builder().config(SHELL).start();
    let first = daemon.submit("sleep 1");
    wait_status(&daemon, &first, "running");
    let mut ids = Vec::new();
    for (n, priority) in ["P3", "P2", "P0", "P1", "P3", "P0"].iter().enumerate() {
        let request = json!({"content": format!("echo {n}"), "priority": priority});
        ids.push(daemon.submit_with(&request));
    }
    let mut started: Vec<(String, usize)> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            let task = daemon.wait_task(id, PATIENCE);
            (
                task["attempts"][0]["started_at"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                n,
            )
        })
        .collect();
    started.sort();
    let order: Vec<usize> = started.into_iter().map(|(_, n)| n).collect();
    assert_eq!(order, [2, 5, 3, 1, 0, 4]);
}

#[test]
fn a_bot_has_as_many_tasks_at_once_as_it_may() {
    let config = "bots: [{name: echo, type: general, min: 2, max: 2, max_concurrent_tasks: 3, \
        backend: {kind: echo, delay_ms: 200}}]\nbot_limits: {min_bots: 2, max_bots: 2}\n";
    let daemon = Daemon::builder().config(config).start();
    daemon.wait_bots(2);
    let ids: Vec<String> = (0..60)
        .map(|n| daemon.submit(&format!("task {n}")))
        .collect();
    // What the bots have, as long as there is something to do.
    let mut most = 0;
    wait_until(PATIENCE, "every task ends", || {
        for bot in daemon.bots() {
            let now = bot["tasks"].as_array().unwrap().len();
            assert!(now <= 3, "{bot}");
            most = most.max(now);
        }
        let queue = &daemon.get("/status").ok()["queue"];
        (queue["succeeded"] == 60).then_some(())
    });
    assert_eq!(most, 3, "the bots were never busy: nothing was tested");
    // And what the record says: how many attempts of one bot overlap.
    let mut edges: Vec<(String, String, i32)> = Vec::new();
    for id in &ids {
        let task = daemon.get(&format!("/api/tasks/{id}")).ok();
        let attempt = &task["attempts"][0];
        let text = |key: &str| attempt[key].as_str().unwrap().to_owned();
        edges.push((text("bot_id"), text("started_at"), 1));
        edges.push((text("bot_id"), text("ended_at"), -1));
    }
    edges.sort();
    let mut running = 0;
    for (bot, at, change) in edges {
        running += change;
        assert!(running <= 3, "{bot} had {running} at {at}");
    }
}

#[test]
fn a_task_waits_for_its_time() {
    let daemon = Daemon::builder().start();
    let due = Timestamp::now().plus_millis(1_200);
    let id = daemon.submit_with(&json!({"content": "later", "not_before": due}));
    let task = daemon.get(&format!("/api/tasks/{id}")).ok();
    assert_eq!(task["status"], "scheduled", "{task}");
    assert_eq!(daemon.get("/status").ok()["queue"]["scheduled"], 1);
    let task = daemon.wait_task(&id, PATIENCE);
    let started = task["attempts"][0]["started_at"].as_str().unwrap();
    assert!(
        started >= due.to_string().as_str(),
        "{started} is before {due}"
    );
    let past = daemon.submit_with(&json!({"content": "now", "not_before": "2020-01-01T00:00:00Z"}));
    assert_eq!(daemon.wait_task(&past, PATIENCE)["status"], "succeeded");
}

#[test]
fn a_scheduled_task_is_still_scheduled_after_a_restart_and_can_be_cancelled() {
    let mut daemon = Daemon::builder().start();
    let soon = Timestamp::now().plus_millis(1_500);
    let far = Timestamp::now().plus_millis(3_600_000);
    let runs = daemon.submit_with(&json!({"content": "soon", "not_before": soon}));
    let waits = daemon.submit_with(&json!({"content": "far", "not_before": far}));
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.wait_task(&runs, PATIENCE)["status"], "succeeded");
    wait_status(&daemon, &waits, "scheduled");
    daemon
        .post(&format!("/api/tasks/{waits}/cancel"), &json!({}))
        .ok();
    wait_status(&daemon, &waits, "cancelled");
}

#[test]
fn a_name_is_of_one_request() {
    let daemon = Daemon::builder().start();
    let request = json!({"content": "once", "task_id": "named", "priority": "P1"});
    let first = daemon.post("/api/orchestrate", &request).ok();
    assert_ne!(first["duplicate"], true, "{first}");
    daemon.wait_task("named", PATIENCE);
    // How it is asked for is no part of the request, what is asked for is.
    let mut same = request.clone();
    same["metadata"] = json!({"try": 2});
    same["wait_seconds"] = json!(10);
    let second = daemon.post("/api/orchestrate", &same).ok();
    assert_eq!(second["duplicate"], true, "{second}");
    assert_eq!(second["result"]["output"], "once", "{second}");
    for (key, value) in [
        ("content", json!("twice")),
        ("priority", json!("P2")),
        ("max_attempts", json!(9)),
        ("type", json!("writing")),
        ("timeout_seconds", json!(7)),
    ] {
        let mut other = request.clone();
        other[key] = value;
        let refused = daemon.post("/api/orchestrate", &other);
        assert_eq!(refused.status, 409, "{key}: {refused:?}");
        assert_eq!(refused.body["code"], "task_id_conflict", "{refused:?}");
    }
    let task = daemon.get("/api/tasks/named").ok();
    assert_eq!(statuses(&task), ["succeeded"], "{task}");
}

/// Shown to fail on a daemon that looks whether it could take a task before it looks whether it has.
#[test]
fn a_name_is_known_also_when_its_bots_are_gone() {
    let bots = |names: &[&str]| {
        let pools = names.iter().map(|name| {
            json!({"name": name, "type": "general", "min": 1, "max": 1, "backend": {"kind": "echo"}})
        });
        let pools = json!(pools.collect::<Vec<_>>());
        format!("http: {{listen: \"127.0.0.1:0\"}}\nbots: {pools}\n")
    };
    let daemon = Daemon::builder().config(&bots(&["a", "b"])).start();
    let request = json!({"content": "x", "task_id": "mine", "pool": "b"});
    daemon.submit_with(&request);
    daemon.wait_task("mine", PATIENCE);
    daemon.write_config(&bots(&["a"]));
    daemon.ctl(&["reload"]).ok();
    let again = daemon.post("/api/orchestrate", &request).ok();
    assert_eq!(
        (&again["success"], &again["task_id"], &again["duplicate"]),
        (&json!(true), &json!("mine"), &json!(true)),
        "{again}"
    );
    let other = json!({"content": "y", "task_id": "mine", "pool": "b"});
    assert_eq!(daemon.post("/api/orchestrate", &other).status, 409);
    let new = json!({"content": "x", "task_id": "new", "pool": "b"});
    let refused = daemon.post("/api/orchestrate", &new).ok();
    assert_eq!(refused["success"], false, "{refused}");
}

#[test]
fn the_same_name_from_many_at_once_is_one_task() {
    let daemon = Daemon::builder().start();
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let ask = || {
            daemon
                .tcp()
                .post(
                    "/api/orchestrate",
                    &json!({"content": "once", "task_id": "one"}),
                )
                .ok()
        };
        let all: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let first = answers
        .iter()
        .filter(|answer| answer["duplicate"] != true)
        .count();
    assert_eq!(first, 1, "{answers:?}");
    assert_eq!(statuses(&daemon.wait_task("one", PATIENCE)), ["succeeded"]);
}

#[test]
fn who_waits_gets_the_result_or_how_far_it_is() {
    let daemon = Daemon::builder().config(SHELL).start();
    let ask = |content: &str, wait: f64| {
        let request = json!({"content": content, "wait_seconds": wait, "max_attempts": 1});
        daemon.post("/api/orchestrate", &request).ok()
    };
    let done = ask("echo done", 20.0);
    assert_eq!(
        (&done["status"], &done["result"]["output"]),
        (&json!("succeeded"), &json!("done\n"))
    );
    let failed = ask("echo why >&2; exit 3", 20.0);
    assert_eq!(failed["status"], "dead", "{failed}");
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .contains("exit code 3: why"),
        "{failed}"
    );
    let late = ask("sleep 20", 0.2);
    assert!(
        ["running", "queued"].contains(&late["status"].as_str().unwrap()),
        "{late}"
    );
    assert_eq!(late["result"], Value::Null, "{late}");
    let id = late["task_id"].as_str().unwrap();
    wait_status(&daemon, id, "running");
    let behind = ask("echo behind", 0.2);
    assert_eq!(
        [&behind["status"], &behind["position"], &behind["routed_to"]],
        [&json!("queued"), &json!(1), &Value::Null]
    );
    // The same again, for a time that is far: it is said as it was the first time.
    let far = json!({"content": "x", "task_id": "far", "not_before": "2100-01-01T00:00:00Z"});
    for again in [false, true] {
        let said = daemon.post("/api/orchestrate", &far).ok();
        assert_eq!(said["duplicate"] == true, again, "{said}");
        assert_eq!(said["status"], "scheduled", "{said}");
    }
    daemon
        .post(&format!("/api/tasks/{id}/cancel"), &json!({}))
        .ok();
}

/// The whole tree: also what left its session, ignores TERM, or was orphaned on purpose.
#[test]
fn a_cancelled_task_leaves_no_process() {
    let daemon = Daemon::builder().config(SHELL).start();
    let script = "sleep 71 & setsid sleep 72 & (setsid sh -c 'trap \"\" TERM; sleep 73 & wait; sleep 74' &) ; echo up; sleep 75";
    let id = daemon.submit(script);
    let sleeps = || {
        let mut found = processes_of(daemon.home());
        found.retain(|process| process.command.starts_with("sleep 7"));
        found
    };
    let tree = wait_until(PATIENCE, "the tree is up", || {
        let found = sleeps();
        (found.len() == 4).then_some(found)
    });
    daemon
        .post(&format!("/api/tasks/{id}/cancel"), &json!({}))
        .ok();
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "cancelled", "{task}");
    // It has ended when nothing of it is left.
    assert!(
        tree.iter().all(|process| !process.is_alive()),
        "{:?}",
        sleeps()
    );
    assert!(sleeps().is_empty(), "{:?}", sleeps());
    let next = daemon.submit("echo next");
    assert_eq!(daemon.wait_task(&next, PATIENCE)["status"], "succeeded");
    assert_eq!(daemon.bots()[0]["restarts"], 0, "the bot itself had to go");
}

/// Its bot was told to give the attempt up, and then the task. Shown to fail on a daemon that keeps the second word to
/// itself: the next one ran the task again.
#[test]
fn a_cancel_after_an_interrupt_outlives_the_daemon() {
    let config = SHELL.replace("stop_timeout_seconds: 1", "stop_timeout_seconds: 3");
    let mut daemon = Daemon::builder().config(&config).start();
    let id = daemon.submit("trap '' TERM; sleep 76; sleep 76");
    wait_until(PATIENCE, "it runs", || {
        let mut processes = processes_of(daemon.home()).into_iter();
        processes
            .any(|process| process.command.starts_with("sleep 76"))
            .then_some(())
    });
    daemon.ctl(&["bot", "interrupt", "sh"]).ok();
    let cancel = format!("/api/tasks/{id}/cancel");
    let answer = daemon.post(&cancel, &json!({})).ok();
    assert_eq!(answer["status"], "running", "{answer}");
    daemon.kill9();
    daemon.restart();
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "cancelled", "{task}");
    assert_eq!(statuses(&task).len(), 1, "{task}");
}

#[test]
fn a_task_that_takes_too_long_is_ended_and_tried_again() {
    let daemon = Daemon::builder().config(SHELL).start();
    let request = json!({"content": "sleep 76", "timeout_seconds": 0.3, "max_attempts": 2});
    let id = daemon.submit_with(&request);
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "dead", "{task}");
    assert_eq!(statuses(&task), ["failed", "failed"], "{task}");
    assert!(
        task["error"].as_str().unwrap().contains("300ms"),
        "it names the time-out: {task}"
    );
    let left = processes_of(daemon.home());
    assert!(
        !left
            .iter()
            .any(|process| process.command.contains("sleep 76")),
        "{left:?}"
    );
}

#[test]
fn a_task_that_fails_once_succeeds_the_second_time() {
    let daemon = Daemon::builder().config(SHELL).start();
    let id = daemon.submit("test -e been-here && echo again && exit 0; touch been-here; exit 1");
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(statuses(&task), ["failed", "succeeded"], "{task}");
    assert_eq!(task["result"]["output"], "again\n", "{task}");
}

/// Tasks nobody takes must not keep others waiting, and a pool that is full only its own.
#[test]
fn one_full_pool_keeps_no_other_waiting() {
    let config = "bot_limits: {min_bots: 2, max_bots: 2}\nbots:\n\
        \x20 - {name: slow, type: general, min: 1, max: 1, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 60000}}\n\
        \x20 - {name: fast, type: general, min: 1, max: 1, backend: {kind: echo}}\n\
        supervision: {stop_timeout_seconds: 0.2}\n";
    let daemon = Daemon::builder().config(config).start();
    daemon.wait_bots(2);
    for _ in 0..50 {
        daemon.submit_with(&json!({"content": "long", "pool": "slow", "priority": "P0"}));
    }
    let id = daemon.submit_with(&json!({"content": "short", "pool": "fast", "priority": "P3"}));
    assert_eq!(
        daemon.wait_task(&id, Duration::from_secs(10))["status"],
        "succeeded"
    );
    let impossible = daemon
        .post(
            "/api/orchestrate",
            &json!({"content": "x", "pool": "nowhere"}),
        )
        .ok();
    assert_eq!(impossible["success"], false, "{impossible}");
    assert_eq!(
        impossible["error"], "No suitable bot available",
        "{impossible}"
    );
}

/// A bot keeps a task that is submitted again meanwhile: a stop lets it finish.
#[test]
fn the_same_task_again_does_not_take_it_off_its_bot() {
    let daemon = Daemon::builder()
        .config("bots: [{name: echo, min: 1, max: 1, backend: {kind: echo, delay_ms: 1500}}]")
        .start();
    daemon.wait_bots(1);
    let request = json!({"task_id": "twice", "content": "x"});
    daemon.post("/api/orchestrate", &request).ok();
    let again = daemon.post("/api/orchestrate", &request).ok();
    assert_eq!(again["duplicate"], true, "{again}");
    assert_eq!(daemon.bots()[0]["tasks"], json!(["twice"]));
    daemon.ctl(&["bot", "stop", "echo"]).ok();
    let task = daemon.wait_task("twice", PATIENCE);
    assert_eq!(statuses(&task), ["succeeded"], "{task}");
}
