//! The fleet as its operator sees it: bots that end, bots that can't start, a daemon that stops.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, Process, descendants, processes_of, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// How soon a bot that was killed is there again.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Two bots that run their task as a shell script.
const SHELL: &str = "bots: [{name: sh, type: general, min: 2, max: 2, max_concurrent_tasks: 2, \
    backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
    bot_limits: {min_bots: 2, max_bots: 2}\n\
    feature_flags: {request_validation_enabled: false}\n";

fn shell(more: &str) -> Daemon {
    let daemon = Daemon::builder()
        .config(&format!("{SHELL}{more}\n"))
        .start();
    daemon.wait_bots(2);
    daemon
}

fn bot(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/bots/{id}")).ok()
}

#[track_caller]
fn wait_bot(daemon: &Daemon, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_until(PATIENCE, &format!("{id} is {what}"), || {
        let bot = bot(daemon, id);
        is(&bot).then_some(bot)
    })
}

/// The bot that has this task.
#[track_caller]
fn wait_running(daemon: &Daemon, task: &str) -> String {
    wait_until(PATIENCE, &format!("{task} runs"), || {
        let task = daemon.get(&format!("/api/tasks/{task}")).ok();
        let attempt = task["attempts"].as_array()?.last()?.clone();
        (attempt["status"] == "running").then(|| attempt["bot_id"].as_str().unwrap().to_owned())
    })
}

fn process(bot: &Value) -> Process {
    let pid = u32::try_from(bot["pid"].as_u64().expect("it has a process")).unwrap();
    Process::of(pid).expect("it runs")
}

/// Processes of the home whose arguments say this.
fn saying(daemon: &Daemon, words: &str) -> Vec<Process> {
    let mut found = processes_of(daemon.home());
    found.retain(|process| process.command.contains(words));
    found
}

#[test]
fn as_many_bots_as_asked_for_are_ready_and_each_is_a_process_of_its_own() {
    let daemon = shell("");
    let bots = daemon.wait_bots(2);
    let pids: Vec<u32> = daemon.bot_pids();
    assert_ne!(pids[0], pids[1]);
    for bot in &bots {
        let process = process(bot);
        assert_eq!(process.parent, daemon.pid(), "{bot}");
        let name = format!("deia-worker: {}", bot["id"].as_str().unwrap());
        assert!(process.command.contains(&name), "{process:?}");
        assert_eq!(
            (&bot["wanted"], &bot["restarts"]),
            (&json!("running"), &json!(0)),
            "{bot}"
        );
        // Nothing of the daemon's is handed to it by accident.
        for fd in std::fs::read_dir(format!("/proc/{}/fd", process.pid))
            .unwrap()
            .flatten()
        {
            let target = std::fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy().into_owned();
            assert!(
                !target.contains("deia.db") && !target.contains("deia.lock"),
                "{target}"
            );
        }
    }
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
}

#[test]
fn a_bot_that_is_killed_is_replaced_and_its_task_is_done_by_another_attempt() {
    let daemon = shell("");
    let id = daemon.submit("test -e second && echo done && exit; touch second; sleep 81");
    let name = wait_running(&daemon, &id);
    wait_until(PATIENCE, "the script is under way", || {
        let made = daemon
            .home()
            .join(format!(".deia/work/{id}/second"))
            .exists();
        made.then_some(())
    });
    let before = bot(&daemon, &name);
    process(&before).signal(Signal::SIGKILL);
    let since = Instant::now();
    let after = wait_bot(&daemon, &name, "another process", |bot| {
        ["ready", "busy"].iter().any(|s| bot["actual"] == *s) && bot["pid"] != before["pid"]
    });
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    assert_eq!(after["restarts"], 1, "{after}");
    assert_eq!(after["last_exit"]["signal"], 9, "{after}");
    let task = daemon.wait_task(&id, PATIENCE);
    let attempts: Vec<&str> = task["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["status"].as_str().unwrap())
        .collect();
    assert_eq!(attempts, ["lost", "succeeded"], "{task}");
    // What the killed bot had started has not outlived it.
    wait_until(PATIENCE, "its command has ended", || {
        saying(&daemon, "sleep 81").is_empty().then_some(())
    });
}

#[test]
fn a_pool_that_can_not_start_is_quarantined_and_the_others_go_on() {
    let good = "bot_limits: {min_bots: 1, max_bots: 2}\n\
        supervision: {restart_intensity: {max: 3, seconds: 60}, backoff_seconds: [0.05, 0.1]}\nbots:\n\
        \x20 - {name: good, type: general, min: 1, max: 1, backend: {kind: echo}}\n";
    let bad =
        "  - {name: bad, type: general, min: 1, max: 1, backend: {kind: command, argv: [cat]}}\n";
    let daemon = Daemon::builder().config(good).start();
    // Something is in the way of the bot's own directory.
    let in_the_way = daemon.home().join(".deia/bots/bad");
    std::fs::write(&in_the_way, "").unwrap();
    let both = daemon.read("bot-config.yaml");
    daemon.write_config(&both.replace(good, &format!("{good}{bad}")));
    daemon.ctl(&["reload"]).ok();
    let bad = wait_bot(&daemon, "bad", "in quarantine", |bot| {
        bot["actual"] == "quarantined"
    });
    assert_eq!(bad["restarts"], 3, "{bad}");
    assert!(bad["next_start_at"].is_string(), "it is tried again: {bad}");
    let health = daemon.get("/health");
    assert_eq!(health.status, 200, "{health:?}");
    assert_eq!(health.body["status"], "degraded", "{health:?}");
    assert!(
        health.body["reasons"].to_string().contains("bad"),
        "{health:?}"
    );
    for _ in 0..10 {
        let id = daemon.submit_with(&json!({"content": "on we go", "pool": "good"}));
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    }
    // What only it could do waits: it may be mended.
    let id = daemon.submit_with(&json!({"content": "for later", "pool": "bad"}));
    std::fs::remove_file(&in_the_way).unwrap();
    daemon.ctl(&["bot", "start", "bad"]).ok();
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    wait_until(PATIENCE, "all is well again", || {
        (daemon.get("/health").ok()["status"] == "ok").then_some(())
    });
}

#[test]
fn a_task_that_ends_every_bot_is_dead_and_the_fleet_is_well() {
    // In its sandbox a task can't end its bot.
    let unconfined = SHELL.replace("backend:", "limits: {landlock: off}, backend:");
    let config = format!(
        "{unconfined}supervision: {{poison_after: 3, backoff_seconds: [0.05, 0.1]}}\ntasks: {{retry_backoff_seconds: [0.05, 0.1]}}\n"
    );
    let daemon = Daemon::builder().config(&config).start();
    daemon.wait_bots(2);
    let poison = daemon.submit("kill -9 $PPID; sleep 82");
    let bystander = daemon.submit("sleep 0.5; echo bystander");
    let task = daemon.wait_task(&poison, PATIENCE);
    assert_eq!(task["status"], "dead", "{task}");
    assert!(
        task["error"].as_str().unwrap().contains("poison_after"),
        "{task}"
    );
    assert_eq!(task["attempts"].as_array().unwrap().len(), 3, "{task}");
    assert_eq!(
        daemon.wait_task(&bystander, PATIENCE)["status"],
        "succeeded"
    );
    daemon.wait_bots(2);
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
    let id = daemon.submit("echo well");
    assert_eq!(
        daemon.wait_task(&id, PATIENCE)["result"]["output"],
        "well\n"
    );
}

#[test]
fn a_stop_lets_tasks_finish_and_leaves_nothing() {
    let mut daemon = shell("supervision: {stop_timeout_seconds: 10}");
    let finishes = daemon.submit("sleep 0.7; echo finished");
    wait_running(&daemon, &finishes);
    let tree = descendants(daemon.pid());
    let status = daemon.terminate();
    assert!(status.success(), "{status}: {}", daemon.said());
    let left: Vec<&Process> = tree.iter().filter(|process| process.is_alive()).collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.restart();
    let task = daemon.get(&format!("/api/tasks/{finishes}")).ok();
    assert_eq!(task["status"], "succeeded", "it had the time: {task}");
    assert_eq!(task["result"]["output"], "finished\n", "{task}");
}

#[test]
fn a_stop_takes_back_what_does_not_finish_and_ends_whole_trees() {
    let mut daemon = shell("supervision: {stop_timeout_seconds: 1}");
    let script = "test -e again && echo second && exit; touch again; \
        setsid sleep 83 & (setsid sh -c 'trap \"\" TERM; sleep 84; sleep 85' &) ; sleep 86";
    let long = daemon.submit(script);
    let queued = daemon
        .submit_with(&json!({"content": "echo queued", "not_before": "2100-01-01T00:00:00Z"}));
    let tree = wait_until(PATIENCE, "its tree is up", || {
        let found = saying(&daemon, "sleep 8");
        let sleeps = found
            .iter()
            .filter(|process| process.command.starts_with("sleep"))
            .count();
        (sleeps == 3).then_some(found)
    });
    let since = Instant::now();
    let status = daemon.terminate();
    assert!(status.success(), "{status}: {}", daemon.said());
    assert!(since.elapsed() < PATIENCE);
    let left: Vec<&Process> = tree.iter().filter(|process| process.is_alive()).collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.restart();
    let task = daemon.wait_task(&long, PATIENCE);
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(task["result"]["output"], "second\n", "{task}");
    assert_eq!(
        daemon.get(&format!("/api/tasks/{queued}")).ok()["status"],
        "scheduled"
    );
}

#[test]
fn a_second_signal_hurries() {
    let mut daemon = shell("supervision: {stop_timeout_seconds: 60}");
    let id = daemon.submit("trap '' TERM; sleep 87; sleep 87");
    wait_running(&daemon, &id);
    let tree = descendants(daemon.pid());
    daemon.signal(Signal::SIGTERM);
    wait_until(PATIENCE, "it is stopping", || {
        daemon
            .said()
            .contains("running ones may finish")
            .then_some(())
    });
    let since = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let status = daemon.wait_exit();
    assert!(status.success(), "{status}");
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "{:?}",
        since.elapsed()
    );
    let left: Vec<&Process> = tree.iter().filter(|process| process.is_alive()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn scaled_to_nothing_it_refuses_finishes_and_comes_back_also_after_a_restart() {
    let mut daemon = shell("");
    let running = daemon.submit("sleep 1; echo finished");
    wait_running(&daemon, &running);
    let answer = daemon
        .post("/api/scaling/limits", &json!({"max_bots": 0}))
        .ok();
    assert_eq!(
        (&answer["max_bots"], &answer["override"]),
        (&json!(0), &json!(true)),
        "{answer}"
    );
    let refused = daemon.post("/api/orchestrate", &json!({"content": "echo late"}));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(daemon.get("/health").ok()["status"], "draining");
    assert_eq!(daemon.get("/health/ready").status, 503);
    assert_eq!(daemon.get("/health/live").status, 200);
    let task = daemon.wait_task(&running, PATIENCE);
    assert_eq!(task["result"]["output"], "finished\n", "{task}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    wait_until(PATIENCE, "the bots have ended", || {
        daemon.bot_pids().is_empty().then_some(())
    });
    assert!(daemon.terminate().success());
    daemon.restart();
    let refused = daemon.post("/api/orchestrate", &json!({"content": "echo late"}));
    assert_eq!(
        refused.status, 503,
        "the drain did not survive the restart: {refused:?}"
    );
    assert!(daemon.bot_pids().is_empty());
    daemon.ctl(&["resume"]).ok();
    daemon.wait_bots(2);
    let id = daemon.submit("echo back");
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
}

#[test]
fn an_operator_stops_starts_restarts_and_interrupts_a_bot() {
    let daemon = shell("");
    let act = |name: &str, verb: &str| {
        let answer = daemon
            .post(&format!("/api/bots/{name}/{verb}"), &json!({}))
            .ok();
        assert_eq!(answer["success"], true, "{answer}");
    };
    act("sh-2", "stop");
    wait_bot(&daemon, "sh-2", "stopped", |bot| bot["actual"] == "stopped");
    // It stays so: neither the plan nor a reload starts it.
    daemon.ctl(&["reload"]).ok();
    let id = daemon.submit("echo one is enough");
    assert_eq!(
        daemon.wait_task(&id, PATIENCE)["attempts"][0]["bot_id"],
        "sh"
    );
    assert_eq!(bot(&daemon, "sh-2")["actual"], "stopped");
    act("sh-2", "start");
    wait_bot(&daemon, "sh-2", "ready", |bot| bot["actual"] == "ready");

    let before = bot(&daemon, "sh")["pid"].clone();
    act("sh", "restart");
    wait_bot(&daemon, "sh", "a new process", |bot| {
        bot["actual"] == "ready" && bot["pid"] != before
    });

    let id = daemon.submit("test -e again && echo second && exit; touch again; sleep 88");
    let name = wait_running(&daemon, &id);
    // The shell says these words from its start, before it has touched anything.
    wait_until(PATIENCE, "the script is under way", || {
        let mut found = saying(&daemon, "sleep 88").into_iter();
        found
            .any(|process| process.command.trim_end() == "sleep 88")
            .then_some(())
    });
    let pid = bot(&daemon, &name)["pid"].clone();
    act(&name, "interrupt");
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["result"]["output"], "second\n", "{task}");
    assert_eq!(
        bot(&daemon, &name)["pid"],
        pid,
        "an interrupt is of the task, not of the bot"
    );
    assert_eq!(
        daemon
            .admin()
            .request("POST", "/api/bots/nobody/stop", &[], None)
            .status,
        404
    );
}
