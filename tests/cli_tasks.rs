//! Tasks through `deiactl` and a real daemon with `echo` bots.

mod common;

use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

/// A pool whose bots take as long as a test needs: the text is a shell script.
const SHELL_POOL: &str = "bots: [{name: sh, type: general, min: 1, max: 1, \
    backend: {kind: command, argv: [sh], input: stdin, env: [PATH]}}]\nbot_limits: {min_bots: 1}\n\
    feature_flags: {request_validation_enabled: false}\n";

#[test]
fn a_submission_is_waited_for_and_its_output_printed() {
    let daemon = Daemon::builder().start();
    let done = daemon.ctl(&["submit", "hello fleet", "--wait", "30"]).ok();
    assert!(done.stdout.contains("hello fleet"), "{done:?}");
    let pid = format!("pid {}", daemon.pid());
    assert!(done.stderr.contains(&pid), "{done:?}");

    let arguments = [
        "submit",
        "hello again",
        "--wait",
        "30",
        "--json",
        "--task-id",
        "mine",
    ];
    let task = daemon.ctl(&arguments).ok().json();
    assert_eq!(task["task_id"], "mine");
    assert_eq!(task["status"], "succeeded");
    assert_eq!(task["attempts"][0]["status"], "succeeded");
}

#[test]
fn the_same_name_is_accepted_once() {
    let daemon = Daemon::builder().start();
    let submit = ["submit", "one", "--task-id", "once", "--json"];
    let first = daemon.ctl(&submit).ok().json();
    assert!(
        first["duplicate"].is_null() || first["duplicate"] == false,
        "{first}"
    );
    let second = daemon.ctl(&submit).ok().json();
    assert_eq!(second["duplicate"], true);
    let other = daemon.ctl(&["submit", "another", "--task-id", "once"]);
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains("once"), "{other:?}");
}

#[test]
fn a_wait_that_is_too_short_exits_with_4_and_the_task_goes_on() {
    let daemon = Daemon::builder().config(SHELL_POOL).start();
    let submit = [
        "submit",
        "sleep 2; echo late",
        "--task-id",
        "slow",
        "--wait",
        "0.3",
    ];
    let done = daemon.ctl(&submit);
    assert_eq!(done.code, 4, "{done:?}");
    let task = daemon.wait_task("slow", PATIENCE);
    assert_eq!(task["status"], "succeeded", "{task}");
    let output = daemon.ctl(&["task", "output", "slow"]).ok();
    assert_eq!(output.stdout, "late\n");
}

#[test]
fn a_task_that_fails_for_good_exits_with_1_and_is_retried_on_request() {
    let daemon = Daemon::builder().config(SHELL_POOL).start();
    let submit = [
        "submit",
        "exit 7",
        "--task-id",
        "bad",
        "--max-attempts",
        "1",
        "--wait",
        "30",
    ];
    let done = daemon.ctl(&submit);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("dead"), "{done:?}");

    let shown = daemon.ctl(&["task", "show", "bad"]).ok();
    assert!(shown.stdout.contains("dead"), "{shown:?}");
    daemon.ctl(&["task", "retry", "bad"]).ok();
    let task = wait_until(PATIENCE, "the retried task has two attempts", || {
        let task = daemon.get("/api/tasks/bad").ok();
        let ended = task["status"] == "dead";
        (ended && task["attempts"].as_array().map_or(0, Vec::len) == 2).then_some(task)
    });
    assert_eq!(task["attempts"][1]["attempt"], 2, "{task}");
}

#[test]
fn output_is_printed_while_the_task_runs() {
    let daemon = Daemon::builder().config(SHELL_POOL).start();
    let submit = [
        "submit",
        "echo first; sleep 1; echo second",
        "--task-id",
        "f",
        "--follow",
    ];
    let mut child = daemon
        .ctl_command(&submit)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let running = daemon.get("/api/tasks/f").ok();
    assert_eq!(running["status"], "running", "{running}");
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_running_task_is_cancelled_and_who_waits_for_it_is_told() {
    let daemon = Daemon::builder().config(SHELL_POOL).start();
    let waiting = daemon
        .ctl_command(&["submit", "sleep 60", "--task-id", "long", "--wait"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(PATIENCE, "the task runs", || {
        let answer = daemon.get("/api/tasks/long");
        (answer.body["status"] == "running").then_some(())
    });
    let since = Instant::now();
    daemon.ctl(&["task", "cancel", "long"]).ok();
    let done = waiting.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("cancelled"));
    assert!(since.elapsed() < PATIENCE);
    let twice = daemon.ctl(&["task", "cancel", "long"]);
    assert!(twice.code <= 1, "{twice:?}");
}

#[test]
fn lists_are_filtered_and_paged() {
    let daemon = Daemon::builder().start();
    let ids: Vec<String> = (0..25)
        .map(|n| daemon.submit_with(&json!({"content": "x", "priority": format!("P{}", n % 2)})))
        .collect();
    for id in &ids {
        daemon.wait_task(id, PATIENCE);
    }
    let all = daemon
        .ctl(&["task", "list", "--limit", "0", "--json"])
        .ok()
        .json();
    assert_eq!(all["count"], 25);
    let mut listed: Vec<&str> = tasks(&all);
    assert_eq!(listed[0], ids[24], "newest first");
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed.len(), 25);

    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..3 {
        let mut arguments = vec!["task", "list", "-n", "10", "--json"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor]);
        }
        let page = daemon.ctl(&arguments).ok().json();
        seen.extend(tasks(&page).into_iter().map(str::to_owned));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!((seen.len(), cursor), (25, None));

    let some = daemon
        .ctl(&["task", "list", "--priority", "P0", "--json"])
        .ok();
    assert_eq!(some.json()["count"], 13);
    let none = daemon.ctl(&["task", "list", "--status", "dead"]).ok();
    assert_eq!(none.stdout, "no tasks\n");
}

#[test]
fn a_choice_is_explained() {
    let daemon = Daemon::builder().start();
    let id = daemon.submit("why you?");
    daemon.wait_task(&id, PATIENCE);
    let explained = daemon.ctl(&["task", "explain", &id]).ok().stdout;
    for words in ["succeeded on main-bot", "only_one", "MICROSECONDS"] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    let unknown = daemon.ctl(&["task", "explain", "no-such-task"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
}

#[test]
fn a_task_that_is_not_there_is_named() {
    let daemon = Daemon::builder().start();
    for verb in ["show", "output", "cancel", "retry"] {
        let done = daemon.ctl(&["task", verb, "no-such-task"]);
        assert_eq!(done.code, 1, "{verb}: {done:?}");
        assert!(done.stderr.contains("no-such-task"), "{verb}: {done:?}");
    }
}

#[test]
fn a_wait_survives_a_daemon_that_is_killed_and_started_again() {
    let mut daemon = Daemon::builder().config(SHELL_POOL).start();
    let waiting = daemon
        .ctl_command(&[
            "submit",
            "sleep 1; echo back",
            "--task-id",
            "t",
            "--wait",
            "30",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(PATIENCE, "the task runs", || {
        (daemon.get("/api/tasks/t").body["status"] == "running").then_some(())
    });
    daemon.kill9();
    std::thread::sleep(Duration::from_millis(100));
    daemon.restart();
    let done = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), "back\n");
    assert!(done.status.success());
}

#[test]
fn a_small_bench_measures_and_accounts_for_every_task() {
    let config = "bot_limits: {min_bots: 2, max_bots: 2}\n\
                  rate_limits: {requests_per_minute: 0}";
    let daemon = Daemon::builder().config(config).start();
    for extra in [&[][..], &["--batch", "10"], &["--tcp"], &["--rate", "500"]] {
        let base = ["bench", "--tasks", "100", "--clients", "4", "--json"];
        let figures = daemon.ctl(&[&base, extra].concat()).ok().json();
        assert_eq!(figures["succeeded"], 100, "{figures}");
        assert_eq!(figures["failed"], 0, "{figures}");
        for name in ["submits_per_second", "tasks_per_second", "submit_ms_p99"] {
            assert!(figures[name].as_f64().unwrap() > 0.0, "{name}: {figures}");
        }
    }
}

/// The names on a page.
fn tasks(page: &Value) -> Vec<&str> {
    let tasks = page["tasks"].as_array().into_iter().flatten();
    tasks.filter_map(|task| task["task_id"].as_str()).collect()
}
