//! Every way a bot can end or refuse to, many times over: the cause is told, the task goes on, and
//! nothing is left. `DEIA_SOAK=1` makes the numbers large.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Daemon, Halted, PATIENCE, Process, descendants, print_spread, processes_of, size, wait_until,
    zombies_below,
};
use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Bots that run their task as a shell script, and are never in quarantine here.
fn shells(bots: u32, more: &str) -> Daemon {
    shells_under(bots, "best_effort", more)
}

fn shells_under(bots: u32, landlock: &str, more: &str) -> Daemon {
    let daemon = Daemon::builder()
        .config(&format!(
            "bots: [{{name: sh, type: general, min: {bots}, max: {bots}, max_concurrent_tasks: 1, \
                limits: {{landlock: {landlock}}}, \
                backend: {{kind: command, argv: [sh, -c], input: argv}}}}]\n\
             bot_limits: {{min_bots: {bots}, max_bots: {bots}}}\n\
             rate_limits: {{requests_per_minute: 0}}\n\
             feature_flags: {{request_validation_enabled: false}}\n{more}\n"
        ))
        .start();
    daemon.wait_bots(bots as usize);
    daemon
}

const RESTLESS: &str =
    "restart_intensity: {max: 100000, seconds: 60}, backoff_seconds: [0.01, 0.02]";

/// Waits until the task runs in this attempt: its bot.
#[track_caller]
fn wait_attempt(daemon: &Daemon, task: &str, attempt: u64) -> String {
    wait_until(
        PATIENCE,
        &format!("attempt {attempt} of {task} runs"),
        || {
            let task = daemon.get(&format!("/api/tasks/{task}")).ok();
            let last = task["attempts"].as_array()?.last()?.clone();
            let runs = last["status"] == "running" && last["attempt"] == attempt;
            runs.then(|| last["bot_id"].as_str().unwrap().to_owned())
        },
    )
}

fn bot(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/bots/{id}")).ok()
}

fn process(daemon: &Daemon, bot_id: &str) -> Process {
    let pid = bot(daemon, bot_id)["pid"]
        .as_u64()
        .expect("it has a process");
    Process::of(u32::try_from(pid).unwrap()).expect("it runs")
}

/// Shown to fail on a daemon that calls every end an exit, and on a bot that does not give SIGSEGV
/// back to the kernel.
#[test]
fn a_bot_that_is_killed_by_any_signal_loses_no_task_and_the_signal_is_told() {
    let daemon = shells(2, &format!("supervision: {{{RESTLESS}, poison_after: 2}}"));
    let signals = [
        Signal::SIGKILL,
        Signal::SIGSEGV,
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGILL,
    ];
    let mut requeued = Vec::new();
    for n in 0..size(20, 500) {
        let signal = signals[usize::try_from(n).unwrap() % signals.len()];
        let go = daemon.home().join(format!("go-{n}"));
        let script = format!(
            "while ! test -e {}; do sleep 0.01; done; echo done {n}",
            go.display()
        );
        let id = daemon.submit(&script);
        let name = wait_attempt(&daemon, &id, 1);
        let killed = process(&daemon, &name);
        killed.signal(signal);
        let since = Instant::now();
        wait_attempt(&daemon, &id, 2);
        requeued.push(since.elapsed());
        std::fs::write(&go, "").unwrap();
        let task = daemon.wait_task(&id, PATIENCE);
        assert_eq!(task["result"]["output"], format!("done {n}\n"), "{task}");
        let error = task["attempts"][0]["error"].as_str().unwrap();
        let told = format!("ended by signal {}", signal as i32);
        assert!(error.contains(&told), "{signal}: {error}");
        let end = wait_until(PATIENCE, "its end is told", || {
            let ends = bot(&daemon, &name)["ends"].clone();
            ends.as_array()?.first().cloned()
        });
        assert_eq!(
            (&end["cause"], &end["signal"]),
            (&json!("signal"), &json!(signal as i32)),
            "{end}"
        );
        assert!(!killed.is_alive());
    }
    print_spread("from the kill until the task runs again", requeued);
    assert_eq!(zombies_below(daemon.pid()), [0; 0]);
}

/// Shown to fail on a daemon that counts one attempt more.
#[test]
fn a_task_that_ends_its_bots_is_dead_after_exactly_as_many_as_the_configuration_says() {
    for n in 1..=size(3, 6) {
        // Landlock lets no task end its bot.
        let daemon = shells_under(
            2,
            "off",
            &format!("supervision: {{{RESTLESS}, poison_after: {n}}}\ntasks: {{max_attempts: 10}}"),
        );
        for _ in 0..size(1, 10) {
            let id = daemon.submit("kill -9 $PPID; sleep 60");
            let task = daemon.wait_task(&id, PATIENCE);
            assert_eq!(task["status"], "dead", "{task}");
            let attempts = task["attempts"].as_array().unwrap();
            assert_eq!(attempts.len() as u64, n, "{task}");
            assert!(attempts.iter().all(|a| a["status"] == "lost"), "{task}");
        }
    }
}

/// Who shared a bot with it goes on. Shown to fail on a daemon that blames all that a bot had for its end.
#[test]
fn a_task_that_ends_its_bots_takes_no_other_along() {
    let pool = "bots: [{name: sh, type: general, min: 1, max: 1, max_concurrent_tasks: 3, \
        limits: {landlock: off}, backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
        bot_limits: {min_bots: 1, max_bots: 1}\n\
        feature_flags: {request_validation_enabled: false}\n\
        tasks: {retry_backoff_seconds: [0.05, 0.1]}\n";
    let config = format!("{pool}supervision: {{{RESTLESS}, poison_after: 3}}\n");
    let daemon = Daemon::builder().config(&config).start();
    daemon.wait_bots(1);
    let healthy = [1, 2].map(|n| daemon.submit(&format!("sleep 1.5; echo {n}")));
    let poison = daemon.submit("sleep 0.3; kill -9 $PPID; sleep 60");
    for (n, id) in (1..).zip(&healthy) {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["result"]["output"], format!("{n}\n"), "{task}");
    }
    let task = daemon.wait_task(&poison, PATIENCE);
    assert_eq!(task["status"], "dead", "{task}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 3, "{task}");
    let error = task["error"].as_str().unwrap();
    assert!(error.contains("poison_after"), "{error}");
}

/// What a task leaves running that does not want to end.
const STUBBORN: [&str; 5] = [
    "sleep 600",
    // Ignores TERM, and so does what it starts.
    "trap '' TERM; (sleep 600) & sleep 600",
    // A session of its own, with another below.
    "setsid sh -c '(setsid sleep 600) & sleep 600' & wait",
    // Twice forked, its parent gone.
    "(setsid sh -c 'trap \"\" TERM HUP; sleep 600' &); sleep 600",
    // ... and with no environment to be known by.
    "(env -i PATH=\"$PATH\" setsid sh -c '(sleep 600) & sleep 600' &); sleep 600",
];

/// Shown to fail on a daemon that ends only the bot itself (a bot that is stopped can't end the rest).
#[test]
fn a_stop_ends_whatever_a_task_has_started_however_it_hides() {
    let stop_timeout = Duration::from_secs(1);
    let daemon = shells(
        1,
        &format!("supervision: {{{RESTLESS}, stop_timeout_seconds: 1, heartbeat_seconds: 0.3}}"),
    );
    let mut rng = Rng::with_seed(7);
    let mut took = Vec::new();
    for n in 0..size(10, 200) {
        let script = STUBBORN[usize::try_from(n).unwrap() % STUBBORN.len()];
        let stopped = rng.bool();
        let id = daemon.submit(&format!("{script} # {n}"));
        let name = wait_attempt(&daemon, &id, 1);
        let own = process(&daemon, &name);
        let tree = wait_until(PATIENCE, "its tree is up", || {
            let tree = descendants(own.pid);
            let sleeps = tree.iter().filter(|p| p.command.starts_with("sleep"));
            (sleeps.count() > script.matches("(sleep").count()).then_some(tree)
        });
        if stopped {
            own.signal(Signal::SIGSTOP);
        }
        let since = Instant::now();
        let action = daemon.post(&format!("/api/bots/{name}/stop"), &json!({}));
        assert_eq!(action.status, 200, "{action:?}");
        daemon.post(&format!("/api/tasks/{id}/cancel"), &json!({}));
        wait_until(PATIENCE, "it is stopped", || {
            (bot(&daemon, &name)["actual"] == "stopped").then_some(())
        });
        took.push(since.elapsed());
        let left: Vec<&Process> = tree.iter().filter(|p| p.is_alive()).collect();
        assert!(left.is_empty(), "{script}: stopped, and alive: {left:?}");
        assert!(!own.is_alive());
        assert!(
            since.elapsed() < stop_timeout + Duration::from_secs(5),
            "{script}: {:?}",
            since.elapsed()
        );
        daemon.ctl(&["bot", "start", &name]).ok();
        daemon.wait_bots(1);
    }
    print_spread("a stop, within 1 s of time-out", took);
    assert_eq!(zombies_below(daemon.pid()), [0; 0]);
    let left = processes_of(daemon.home());
    assert_eq!(left.len(), 2, "the daemon and its bot: {left:?}");
}

/// Shown to fail on a daemon that does not look at heartbeats.
#[test]
fn a_bot_that_is_stopped_or_whose_main_loop_hangs_is_replaced_and_its_task_is_done() {
    let daemon = shells(
        1,
        &format!("supervision: {{{RESTLESS}, heartbeat_seconds: 0.3, poison_after: 5}}"),
    );
    let mut took = Vec::new();
    for n in 0..size(4, 40) {
        let go = daemon.home().join(format!("go-{n}"));
        let script = format!("while ! test -e {}; do sleep 0.02; done", go.display());
        let id = daemon.submit(&script);
        let name = wait_attempt(&daemon, &id, 1);
        let own = process(&daemon, &name);
        let tree = descendants(own.pid);
        let since = Instant::now();
        // A signal stops all of it; a debugger only the main loop, as a deadlock does.
        let mut held = None;
        match n % 2 {
            0 => own.signal(Signal::SIGSTOP),
            _ => held = Some(Halted::hold(own.pid, "deia-worker")),
        }
        if let Some(held) = &mut held {
            wait_until(PATIENCE, "it is killed", || held.all_gone().then_some(()));
        }
        wait_attempt(&daemon, &id, 2);
        took.push(since.elapsed());
        assert!(!own.is_alive());
        let left: Vec<&Process> = tree.iter().filter(|p| p.is_alive()).collect();
        assert!(left.is_empty(), "{left:?}");
        let end = bot(&daemon, &name)["ends"][0].clone();
        assert_eq!(end["cause"], "heartbeat_timeout", "{end}");
        std::fs::write(&go, "").unwrap();
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    }
    print_spread(
        "from the hang until the task runs again (3 x 0.3 s of silence, at least 1 s)",
        took,
    );
}

/// A long call that makes progress, or none for less than its time-out, is left alone: the beats come
/// from the main loop, not from the work.
///
/// Shown to fail on a bot that beats only when its task writes something.
#[test]
fn a_task_that_is_silent_for_long_is_left_alone() {
    let daemon = shells(1, "supervision: {heartbeat_seconds: 0.2}");
    let id = daemon.submit("sleep 3; echo at last");
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    assert_eq!(task["result"]["output"], "at last\n", "{task}");
    assert_eq!(daemon.bots()[0]["restarts"], 0);
}

/// Shown to fail on a bot that reaps only what it started itself.
#[test]
fn after_thousands_of_spawns_nothing_is_left_and_nothing_is_a_zombie() {
    let spawns = size(200, 10_000);
    let daemon = shells(4, "");
    let mut ids = Vec::new();
    for batch in 0..spawns.div_ceil(100) {
        // Each task starts a few: one of them twice forked, which ends when its task has ended or later.
        let requests: Vec<Value> = (0..100.min(spawns - batch * 100))
            .map(|n| json!({"content": format!("(setsid sleep 0.0{} &); : {batch}", n % 10)}))
            .collect();
        let answer = daemon.post("/api/orchestrate/batch", &json!(requests)).ok();
        let results = answer["results"].as_array().unwrap();
        ids.extend(
            results
                .iter()
                .map(|r| r["task_id"].as_str().unwrap().to_owned()),
        );
    }
    for id in &ids {
        let task = daemon.wait_task(id, PATIENCE * 4);
        assert_eq!(task["status"], "succeeded", "{task}");
    }
    assert_eq!(ids.len() as u64, spawns);
    wait_until(PATIENCE, "only the daemon and its bots are left", || {
        (processes_of(daemon.home()).len() == 5).then_some(())
    });
    assert_eq!(zombies_below(daemon.pid()), [0; 0]);
}
