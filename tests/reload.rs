//! A configuration that changes under a running daemon: applied whole or not at all.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A file that was changed is noticed at the latest after this, and usually at once.
const CHECK: &str = "timeouts: {config_reload_check_interval_seconds: 1}\n";

fn pool(bots: u32, delay_ms: u32) -> String {
    format!(
        "bot_limits: {{min_bots: {bots}, max_bots: {bots}}}\n\
         bots: [{{name: echo, type: general, min: {bots}, max: {bots}, max_concurrent_tasks: 2, \
         backend: {{kind: echo, delay_ms: {delay_ms}}}}}]\n\
         http: {{listen: \"127.0.0.1:0\"}}\n"
    )
}

fn generation(daemon: &Daemon) -> u64 {
    daemon.get("/status").ok()["generation"].as_u64().unwrap()
}

#[track_caller]
fn wait_generation(daemon: &Daemon, wanted: u64) {
    wait_until(
        PATIENCE,
        &format!("generation {wanted} is in force"),
        || (generation(daemon) == wanted).then_some(()),
    );
}

#[test]
fn by_signal_by_command_by_request_and_by_itself() {
    let daemon = Daemon::builder().config(&pool(1, 0)).start();
    let first = generation(&daemon);
    let change = |bots: u32| daemon.write_config(&pool(bots, 0));

    change(2);
    daemon.signal(Signal::SIGHUP);
    wait_generation(&daemon, first + 1);
    daemon.wait_bots(2);

    change(3);
    // By one of the ways, and noticed by itself meanwhile or not: applied once.
    daemon.ctl(&["reload"]).ok();
    wait_generation(&daemon, first + 2);
    daemon.wait_bots(3);

    change(1);
    daemon.post("/api/config/reload", &json!({})).ok();
    wait_generation(&daemon, first + 3);
    daemon.wait_bots(1);

    change(2);
    wait_generation(&daemon, first + 4);
    daemon.wait_bots(2);

    // Written aside and renamed, as editors and configuration management do.
    let aside = daemon.home().join("bot-config.yaml.new");
    std::fs::write(&aside, pool(1, 0)).unwrap();
    std::fs::rename(&aside, daemon.home().join("bot-config.yaml")).unwrap();
    wait_generation(&daemon, first + 5);
    daemon.wait_bots(1);

    // What says the same is no new generation.
    daemon.post("/api/config/reload", &json!({})).ok();
    assert_eq!(generation(&daemon), first + 5);
}

#[test]
fn a_change_is_shown_as_what_it_is() {
    let daemon = Daemon::builder().config(&pool(1, 0)).start();
    let before = generation(&daemon);
    // The listener is the daemon's for life: that is said, and the rest applies.
    let text = pool(2, 0).replace("127.0.0.1:0", "127.0.0.1:1") + "tasks: {max_attempts: 7}\n";
    daemon.write_config(&text);
    let answer = daemon.post("/api/config/reload", &json!({})).ok();
    // It may have been noticed in between; then this answer says that nothing is new.
    let status = daemon.get("/api/config/status").ok();
    assert_eq!(status["generation"], before + 1, "{status}");
    assert_eq!(answer["generation"], before + 1, "{answer}");
    let waits = status["restart_required"].as_array().unwrap();
    assert!(
        waits
            .iter()
            .any(|key| key.as_str().unwrap().contains("http.listen")),
        "{status}"
    );
    let value = daemon.get("/api/config/value/tasks.max_attempts").ok();
    assert_eq!(value["value"], 7, "{value}");
    let changes = wait_until(PATIENCE, "the log shows the change", || {
        let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
        let lines: Vec<Value> = log
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        let changes: Vec<String> = lines
            .iter()
            .filter(|line| line["event"] == "config_changed")
            .map(ToString::to_string)
            .collect();
        (changes.len() >= 3).then_some(changes)
    });
    for key in [
        "tasks.max_attempts",
        "bot_limits.min_bots",
        "bot_limits.max_bots",
    ] {
        assert!(
            changes.iter().any(|line| line.contains(key)),
            "{key}: {changes:?}"
        );
    }
    daemon.tcp().get("/status").ok();
}

/// Every bot gets the new specification, never two at once, and no task notices.
#[test]
fn a_changed_pool_is_rolled_one_bot_at_a_time_under_load() {
    let daemon = Daemon::builder().config(&pool(3, 400)).start();
    let old = daemon.bot_pids();
    let old: Vec<u32> = daemon
        .wait_bots(3)
        .iter()
        .map(|bot| bot["pid"].as_u64().unwrap() as u32)
        .collect::<Vec<_>>()
        .into_iter()
        .chain(old)
        .collect();
    let mut ids: Vec<String> = (0..6)
        .map(|n| daemon.submit(&format!("running {n}")))
        .collect();
    daemon.write_config(&pool(3, 401));
    daemon.ctl(&["reload"]).ok();
    let mut fewest = usize::MAX;
    wait_until(PATIENCE, "every bot is new", || {
        let bots = daemon.bots();
        let working = bots
            .iter()
            .filter(|bot| bot["actual"] == "ready" || bot["actual"] == "busy");
        fewest = fewest.min(working.count());
        let id = daemon.submit("in the meantime");
        ids.push(id);
        let pids = daemon.bot_pids();
        (pids.len() == 3 && pids.iter().all(|pid| !old.contains(pid))).then_some(())
    });
    assert!(fewest >= 2, "{fewest} bots were left at a time");
    for id in &ids {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(
            task["attempts"].as_array().unwrap().len(),
            1,
            "disturbed: {task}"
        );
    }
    daemon.wait_bots(3);
}

#[test]
fn what_is_refused_changes_nothing() {
    let daemon = Daemon::builder()
        .config(&(CHECK.to_owned() + &pool(2, 0)))
        .start();
    daemon.wait_bots(2);
    let (before, pids) = (generation(&daemon), daemon.bot_pids());
    let secret = format!("sk-ant-{}", "api03-a1B2c3D4".repeat(5));
    let looks_secret = format!("custom: {{note: {secret}}}\n");
    for (text, says) in [
        ("bots: [", ":1:7:"),
        ("- a\n- b\n", "this is a list"),
        ("bot_limits: {min_bots: 5, max_bots: 2}\n", "max_bots"),
        (
            "bots: [{name: a, backend: {kind: echo}}, {name: a, backend: {kind: echo}}]\n",
            "a",
        ),
        (looks_secret.as_str(), "sk-"),
    ] {
        daemon.write_config(text);
        let refused = daemon.ctl(&["reload"]);
        assert_eq!(refused.code, 1, "{text}: {refused:?}");
        let status = daemon.get("/api/config/status").ok();
        assert!(
            status["load_errors"].to_string().contains(says),
            "{text}: {status}"
        );
        assert!(!status.to_string().contains(&secret), "{status}");
        assert_eq!(status["generation"], before, "{text}: {status}");
        let health = daemon.get("/health").ok();
        assert_eq!(health["status"], "degraded", "{text}: {health}");
        assert_eq!(daemon.bot_pids(), pids, "{text}: bots were restarted");
        let id = daemon.submit("as before");
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    }
    // A value that is wrong by itself falls back, and the rest applies.
    daemon.write_config(&(pool(1, 0) + "tasks: {max_attempts: many}\nbot_limit: {max: 3}\n"));
    daemon.ctl(&["reload"]).ok();
    let status = daemon.get("/api/config/status").ok();
    assert_eq!(status["generation"], before + 1, "{status}");
    assert!(
        status["load_errors"].to_string().contains("max_attempts"),
        "{status}"
    );
    daemon.wait_bots(1);
    daemon.write_config(&pool(1, 0));
    daemon.ctl(&["reload"]).ok();
    assert_eq!(
        daemon.get("/api/config/status").ok()["load_errors"],
        json!([])
    );
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
}

#[test]
fn pools_come_and_go() {
    let two = "bot_limits: {min_bots: 2, max_bots: 2}\nhttp: {listen: \"127.0.0.1:0\"}\nbots:\n\
        \x20 - {name: stays, type: general, min: 1, max: 1, backend: {kind: echo}}\n\
        \x20 - {name: goes, type: general, min: 1, max: 1, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 1500}}\n";
    let daemon = Daemon::builder().config(two).start();
    let before = daemon.wait_bots(2);
    let stays = before.iter().find(|bot| bot["id"] == "stays").unwrap()["pid"].clone();
    let running = daemon.submit_with(&json!({"content": "running", "pool": "goes"}));
    std::thread::sleep(Duration::from_millis(100));
    let other = two.replace("name: goes", "name: comes");
    daemon.write_config(&other);
    daemon.ctl(&["reload"]).ok();
    let task = daemon.wait_task(&running, PATIENCE);
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    let after = wait_until(PATIENCE, "the pools are the new ones", || {
        let bots = daemon.bots();
        let names: Vec<&str> = bots.iter().map(|bot| bot["id"].as_str().unwrap()).collect();
        let ready = bots.iter().all(|bot| bot["actual"] == "ready");
        (names == ["stays", "comes"] && ready).then(|| bots.clone())
    });
    assert_eq!(
        after[0]["pid"], stays,
        "a pool that did not change was restarted"
    );
    let gone = daemon
        .post("/api/orchestrate", &json!({"content": "x", "pool": "goes"}))
        .ok();
    assert_eq!(gone["success"], false, "{gone}");
    let id = daemon.submit_with(&json!({"content": "x", "pool": "comes"}));
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
}

/// What a bot was told when it was welcomed holds until it is started anew: shorter heartbeats and more
/// slots must not end bots that go by the old ones. (Without that, every bot is found silent, or is
/// given more than it takes and ends with what it has.)
#[test]
fn new_heartbeats_and_slots_disturb_no_running_task() {
    let told = |slots: u32, heartbeat: f64| {
        format!(
            "bot_limits: {{min_bots: 3, max_bots: 3, max_concurrent_tasks_per_bot: {slots}}}\n\
             supervision: {{heartbeat_seconds: {heartbeat}}}\n\
             bots: [{{name: echo, min: 3, backend: {{kind: echo, delay_ms: 2500}}}}]\n\
             http: {{listen: \"127.0.0.1:0\"}}\n"
        )
    };
    let daemon = Daemon::builder().config(&told(1, 5.0)).start();
    daemon.wait_bots(3);
    let tasks: Vec<String> = (0..9).map(|n| daemon.submit(&format!("{n}"))).collect();
    daemon.write_config(&told(3, 0.2));
    daemon.ctl(&["reload"]).ok();
    for task in tasks {
        let task = daemon.wait_task(&task, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(task["attempts"].as_array().map(Vec::len), Some(1), "{task}");
    }
    for bot in daemon.bots() {
        let cause = &bot["last_exit"]["cause"];
        assert!(cause.is_null() || cause == "stopped", "{bot}");
    }
}
