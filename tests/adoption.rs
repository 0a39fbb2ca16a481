//! The daemon dies and its bots live: they work on, come back with what they have, and are taken over.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, Process, bots_among, print_spread, processes_of, size, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Bots that run their task as a shell script.
fn shells(count: u32, more: &str) -> Daemon {
    let daemon = Daemon::builder()
        .config(&format!(
            "bots: [{{name: sh, type: general, min: {count}, max: {count}, max_concurrent_tasks: 2, \
                backend: {{kind: command, argv: [sh, -c], input: argv}}}}]\n\
             bot_limits: {{min_bots: {count}, max_bots: {count}}}\n\
             feature_flags: {{request_validation_enabled: false}}\n{more}\n"
        ))
        .start();
    daemon.wait_bots(count as usize);
    daemon
}

fn pids(daemon: &Daemon) -> BTreeMap<String, u64> {
    let bots = daemon.bots().into_iter();
    bots.filter_map(|bot| Some((bot["id"].as_str()?.to_owned(), bot["pid"].as_u64()?)))
        .collect()
}

/// A task that says something, waits for a file, and says something else.
fn waiting(file: &Path, last: &str) -> String {
    let file = file.display();
    format!("echo first; while ! test -e {file}; do sleep 0.02; done; echo {last}")
}

/// Waits until so many tasks have said their first word.
fn wait_first_words(daemon: &Daemon, tasks: &[String]) {
    for task in tasks {
        wait_until(PATIENCE, &format!("{task} is under way"), || {
            let answer = daemon.get(&format!("/api/tasks/{task}/output"));
            (answer.status == 200 && answer.ok()["output"] == "first\n").then_some(())
        });
    }
}

fn attempts(task: &Value) -> Vec<&str> {
    let attempts = task["attempts"].as_array().unwrap().iter();
    attempts.map(|a| a["status"].as_str().unwrap()).collect()
}

fn gone(processes: &[Process]) -> Option<()> {
    processes.iter().all(|p| !p.is_alive()).then_some(())
}

/// Shown to fail on a daemon that releases every lease at its start (attempts: lost, succeeded), and
/// on a bot that sends only what it has not sent yet (the output begins in the middle).
#[test]
fn what_runs_when_the_daemon_is_killed_runs_on_and_is_not_run_again() {
    let mut daemon = shells(2, "");
    let go = daemon.home().join("go");
    let tasks: Vec<String> = (0..4)
        .map(|n| daemon.submit(&waiting(&go, &format!("last {n}"))))
        .collect();
    wait_first_words(&daemon, &tasks);
    let before = pids(&daemon);
    daemon.kill9();
    daemon.restart();
    // Under the same names, the same processes, and nothing was started beside them.
    daemon.wait_bots(2);
    assert_eq!(pids(&daemon), before);
    for bot in daemon.bots() {
        assert_eq!(bot["restarts"], 0, "{bot}");
        assert_eq!(bot["tasks"].as_array().unwrap().len(), 2, "{bot}");
    }
    wait_until(PATIENCE, "the log says so", || {
        (daemon.said().matches("is taken over").count() == 2).then_some(())
    });
    std::fs::write(&go, "").unwrap();
    for (n, id) in tasks.iter().enumerate() {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(attempts(&task), ["succeeded"], "{task}");
        assert_eq!(task["result"]["output"], format!("first\nlast {n}\n"));
        let seconds = task["result"]["duration_seconds"].as_f64().unwrap();
        assert!(seconds > 0.0, "{task}");
    }
    // They take new work, and a stop leaves nothing.
    let id = daemon.submit("echo more");
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    let all = processes_of(daemon.home());
    assert!(daemon.terminate().success());
    assert_eq!(gone(&all), Some(()));
}

/// Shown to fail on a daemon that starts bots without looking for those that live (twice as many
/// processes, and every task is begun twice).
#[test]
fn fifty_bots_are_taken_over_and_none_is_started_beside_them() {
    let mut daemon = shells(50, "");
    let mut took = Vec::new();
    for n in 0..size(2, 50) {
        let go = daemon.home().join(format!("go-{n}"));
        let tasks: Vec<String> = (0..100)
            .map(|_| daemon.submit(&waiting(&go, "last")))
            .collect();
        wait_first_words(&daemon, &tasks);
        let before = pids(&daemon);
        daemon.kill9();
        let since = Instant::now();
        daemon.restart();
        wait_until(PATIENCE, "all are busy again", || {
            let bots = daemon.bots();
            let back = bots.iter().filter(|bot| bot["actual"] == "busy");
            (back.count() == 50).then_some(())
        });
        took.push(since.elapsed());
        assert_eq!(pids(&daemon), before);
        let workers = bots_among(processes_of(daemon.home()));
        assert_eq!(workers.len(), 50, "one process for each bot");
        std::fs::write(&go, "").unwrap();
        for id in &tasks {
            let task = daemon.wait_task(id, PATIENCE);
            assert_eq!(attempts(&task), ["succeeded"], "{task}");
        }
    }
    print_spread("from the start until 50 bots are taken over", took);
}

/// Shown to fail on a bot that keeps nothing on disk.
#[test]
fn what_is_finished_while_there_is_no_daemon_counts_also_when_its_bot_is_gone() {
    let mut daemon = shells(2, "supervision: {orphan_grace_seconds: 60}");
    let go = daemon.home().join("go");
    let tasks: Vec<String> = (0..4)
        .map(|n| daemon.submit(&waiting(&go, &format!("last {n}"))))
        .collect();
    wait_first_words(&daemon, &tasks);
    let bots = pids(&daemon);
    daemon.kill9();
    std::fs::write(&go, "").unwrap();
    let spool = daemon.home().join(".deia/spool");
    let kept = || std::fs::read_dir(&spool).unwrap().count();
    wait_until(PATIENCE, "four results are on disk", || {
        (kept() == 4).then_some(())
    });
    // One bot lives and hands its results in; those of the other are found.
    let killed = Process::of(u32::try_from(bots["sh-2"]).unwrap()).expect("it lives");
    killed.signal(Signal::SIGKILL);
    daemon.restart();
    for (n, id) in tasks.iter().enumerate() {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(attempts(&task), ["succeeded"], "{task}");
        assert_eq!(task["result"]["output"], format!("first\nlast {n}\n"));
    }
    daemon.wait_bots(2);
    let now = pids(&daemon);
    assert_eq!(now["sh"], bots["sh"]);
    assert_ne!(now["sh-2"], bots["sh-2"]);
    wait_until(PATIENCE, "the spool is empty", || {
        (kept() == 0).then_some(())
    });
}

/// Shown to fail on a daemon that forgets what a bot that is back was told to give up.
#[test]
fn a_task_cancelled_under_a_daemon_that_dies_stays_cancelled() {
    let mut daemon = shells(1, "supervision: {stop_timeout_seconds: 2}");
    let id = daemon.submit("trap '' TERM; echo first; while :; do sleep 0.1; done");
    wait_first_words(&daemon, std::slice::from_ref(&id));
    let answer = daemon.post(&format!("/api/tasks/{id}/cancel"), &json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    // The program ignores TERM for two seconds, in which the daemon is replaced.
    wait_until(PATIENCE, "the bot was told", || {
        let mut shells = processes_of(daemon.home());
        shells.retain(|process| process.command.contains("trap"));
        (!shells.is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    daemon.kill9();
    daemon.restart();
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "cancelled", "{task}");
}

/// Shown to fail on bots whose grace is counted in days.
#[test]
fn bots_nobody_comes_back_for_end_with_all_they_started() {
    let bots = u32::try_from(size(2, 50)).unwrap();
    let mut daemon = shells(
        bots,
        "supervision: {orphan_grace_seconds: 1, stop_timeout_seconds: 1}",
    );
    let id =
        daemon.submit("setsid sh -c 'trap \"\" TERM; (sleep 600) & sleep 600' & echo first; wait");
    wait_first_words(&daemon, std::slice::from_ref(&id));
    let all = wait_until(PATIENCE, "everything has started", || {
        let mut all = processes_of(daemon.home());
        all.retain(|process| process.pid != daemon.pid());
        let sleeps = all.iter().filter(|p| p.command.starts_with("sleep 600"));
        (sleeps.count() == 2).then_some(all)
    });
    let begun = Instant::now();
    daemon.kill9();
    wait_until(PATIENCE, "everything has ended", || gone(&all));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    daemon.restart();
    let task = daemon.get(&format!("/api/tasks/{id}")).ok();
    assert_eq!(task["attempts"][0]["status"], "lost", "{task}");
}

/// Shown to fail on a daemon that does not look for marks at its start.
#[test]
fn what_a_bot_left_that_was_killed_without_a_daemon_is_ended_at_the_next_start() {
    let mut daemon = shells(1, "");
    let id = daemon.submit("setsid sh -c '(sleep 611) & sleep 612' & echo first; wait");
    wait_first_words(&daemon, std::slice::from_ref(&id));
    let left = wait_until(PATIENCE, "everything has started", || {
        let mut left = processes_of(daemon.home());
        left.retain(|process| process.command.starts_with("sleep 61"));
        (left.len() == 2).then_some(left)
    });
    let bot = Process::of(u32::try_from(pids(&daemon)["sh"]).unwrap()).expect("it lives");
    daemon.kill9();
    bot.signal(Signal::SIGKILL);
    daemon.restart();
    wait_until(Duration::from_secs(2), "what it left has ended", || {
        gone(&left)
    });
    daemon.wait_bots(1);
}

/// Shown to fail on a daemon that waits for it for ever.
#[test]
fn a_bot_that_is_stopped_does_not_come_back_and_is_replaced() {
    let mut daemon = shells(1, "supervision: {start_timeout_seconds: 1}");
    let before = pids(&daemon)["sh"];
    let bot = Process::of(u32::try_from(before).unwrap()).expect("it lives");
    daemon.kill9();
    // Not before: the kernel wakes what is stopped in a process group that becomes an orphan.
    bot.signal(Signal::SIGSTOP);
    daemon.restart();
    daemon.wait_bots(1);
    assert_ne!(pids(&daemon)["sh"], before);
    assert!(!bot.is_alive());
    let exit = daemon.bots()[0]["last_exit"].clone();
    assert_eq!(exit["cause"], "heartbeat_timeout", "{exit}");
}

/// Shown to fail on a daemon that keeps whoever is back.
#[test]
fn a_bot_that_is_not_wanted_any_more_finishes_and_goes() {
    let mut daemon = shells(2, "");
    let go = daemon.home().join("go");
    let tasks: Vec<String> = (0..3)
        .map(|_| daemon.submit(&waiting(&go, "last")))
        .collect();
    wait_first_words(&daemon, &tasks);
    daemon.kill9();
    let config = daemon.read("bot-config.yaml");
    let fewer = config
        .replace("min: 2, max: 2", "min: 1, max: 1")
        .replace("min_bots: 2, max_bots: 2", "min_bots: 1, max_bots: 1");
    daemon.write_config(&fewer);
    daemon.restart();
    wait_until(PATIENCE, "the second bot drains", || {
        let bots = daemon.bots();
        let second = bots.iter().find(|bot| bot["id"] == "sh-2")?;
        (second["actual"] == "draining").then_some(())
    });
    std::fs::write(&go, "").unwrap();
    for id in &tasks {
        assert_eq!(attempts(&daemon.wait_task(id, PATIENCE)), ["succeeded"]);
    }
    wait_until(PATIENCE, "one bot is left", || {
        (daemon.bots().len() == 1).then_some(())
    });
}

/// Shown to fail on a daemon that does not compare the terms a bot was welcomed with.
#[test]
fn a_bot_whose_specification_changed_meanwhile_is_rolled_once_it_is_idle() {
    let mut daemon = shells(1, "");
    let go = daemon.home().join("go");
    let id = daemon.submit(&waiting(&go, "last"));
    wait_first_words(&daemon, std::slice::from_ref(&id));
    let before = pids(&daemon)["sh"];
    daemon.kill9();
    let config = daemon.read("bot-config.yaml");
    daemon.write_config(&config.replace("max_concurrent_tasks: 2", "max_concurrent_tasks: 3"));
    daemon.restart();
    wait_until(PATIENCE, "it is back", || {
        (daemon.bots()[0]["pid"] == before).then_some(())
    });
    std::fs::write(&go, "").unwrap();
    assert_eq!(attempts(&daemon.wait_task(&id, PATIENCE)), ["succeeded"]);
    wait_until(PATIENCE, "it is another process", || {
        let bot = &daemon.bots()[0];
        (bot["actual"] == "ready" && bot["pid"] != before).then_some(())
    });
    assert_eq!(daemon.bots()[0]["max_concurrent"], 3);
}
