//! Routing that learns, and says why: with real bots, across a kill and a new configuration.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

/// Two bots that could do everything.
fn fleet(more: &str) -> String {
    format!(
        "{more}bot_limits: {{min_bots: 2, max_bots: 2}}\n\
        bots: [{{name: slow, type: general, min: 1, max: 1, backend: {{kind: echo, delay_ms: 1000}}}}, \
        {{name: fast, type: general, min: 1, max: 1, backend: {{kind: echo, delay_ms: 10}}}}]\n"
    )
}

fn start(more: &str) -> Daemon {
    let daemon = Daemon::builder().config(&fleet(more)).start();
    daemon.wait_bots(2);
    daemon
}

/// One task after the other: who did them.
fn run(daemon: &Daemon, tasks: usize) -> Vec<String> {
    let one = |_| {
        let request = json!({"content": "a line", "type": "writing", "wait_seconds": 20});
        let answer = daemon.post("/api/orchestrate", &request).ok();
        assert_eq!(answer["status"], "succeeded", "{answer}");
        answer["task_id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = (0..tasks).map(one).collect();
    let who = |id: &String| {
        let task = daemon.get(&format!("/api/tasks/{id}")).ok();
        task["attempts"][0]["bot_id"].as_str().unwrap().to_owned()
    };
    ids.iter().map(who).collect()
}

fn explained(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/tasks/{id}/explain")).ok()
}

/// Shown to fail with nothing added for one that is untried: all ten go to the bot that was ready first.
#[test]
fn work_goes_to_the_bot_that_is_faster_at_it_and_it_is_said_why() {
    let daemon = start("");
    let done = run(&daemon, 10);
    // Three results of the one that was ready first, three of the other; then it is known.
    let slow = done[..6].iter().filter(|bot| *bot == "slow").count();
    assert_eq!(slow, 3, "{done:?}");
    assert_eq!(done[..3], [done[0].as_str(); 3], "{done:?}");
    assert_eq!(done[6..], ["fast"; 4], "{done:?}");
    let request =
        json!({"content": "a line", "type": "writing", "wait_seconds": 20, "task_id": "last"});
    daemon.post("/api/orchestrate", &request).ok();
    let said = explained(&daemon, "last");
    assert_eq!(said["status"], "succeeded", "{said}");
    let choice = &said["attempts"][0];
    assert_eq!(choice["bot_id"], "fast", "{said}");
    // It would have been first without what was learned, if it was there first.
    let reason = match done[0].as_str() {
        "fast" => "best_score",
        _ => "recommended",
    };
    assert_eq!(choice["reason"], reason, "{said}");
    assert_eq!(choice["candidates"], 2, "{said}");
    assert!(choice["microseconds"].as_u64().is_some(), "{said}");
    let best = &said["candidates"][0];
    assert_eq!(best["bot_id"], "fast", "{said}");
    assert!(best["avg_execution_time"].as_f64().unwrap() < 1.0, "{said}");
    let told = daemon.ctl(&["task", "explain", "last"]).ok().stdout;
    for word in [reason, "such a task takes it", "slow", "fast"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let bots = daemon.get("/api/scheduling/task-type/writing").ok();
    let order: Vec<_> = bots["bots"].as_array().unwrap().iter().collect();
    assert_eq!(order.len(), 2, "{bots}");
    assert_eq!(order[0]["bot_id"], "fast", "{bots}");
    let tasks = order.iter().map(|bot| bot["total_tasks"].as_u64().unwrap());
    assert_eq!(tasks.collect::<Vec<_>>(), [8, 3], "{bots}");
    let other = daemon.get("/api/scheduling/recommendation/analysis");
    assert_eq!(other.status, 404);
    assert!(
        other
            .text
            .contains("No learning data for task type: analysis")
    );
}

#[test]
fn without_the_feature_it_is_learned_and_nothing_is_made_of_it() {
    let daemon = start("feature_flags: {adaptive_scheduling_enabled: false}\n");
    let done = run(&daemon, 6);
    assert!(done.iter().all(|bot| *bot == done[0]), "{done:?}");
    let path = format!("/api/scheduling/bot-performance/{}", done[0]);
    let known = daemon.get(&path).ok();
    assert_eq!(known["performance"]["writing"]["total_tasks"], 6, "{known}");
}

fn insights(daemon: &Daemon) -> Value {
    daemon.get("/api/scheduling/insights").ok()
}

/// Shown to fail without `Op::Learn` (nothing is there after the kill), and without `Op::LearnUnder`
/// (what was learned is there still under the new version).
#[test]
fn what_was_learned_outlives_a_kill_and_not_a_major_version() {
    let mut daemon = start("version: \"1.4\"\n");
    assert_eq!(insights(&daemon), json!({"status": "no_data"}));
    run(&daemon, 4);
    let before = insights(&daemon);
    assert_eq!(before["total_executions"], 4, "{before}");
    // What a kill may cost: a second.
    std::thread::sleep(Duration::from_secs(3));
    daemon.kill9();
    daemon.restart();
    daemon.wait_bots(2);
    assert_eq!(insights(&daemon), before);
    // A clean end costs nothing.
    run(&daemon, 1);
    daemon.terminate();
    daemon.restart();
    daemon.wait_bots(2);
    assert_eq!(insights(&daemon)["total_executions"], 5);

    let reload = |text: &str| {
        daemon.write_config(&fleet(text));
        daemon.post("/api/config/reload", &json!({})).ok();
    };
    reload("version: \"1.5\"\n");
    assert_eq!(insights(&daemon)["total_executions"], 5);
    reload("version: \"2.0\"\nlearning: {reset_learning_on_major_version_change: false}\n");
    assert_eq!(insights(&daemon)["total_executions"], 5);
    reload("version: \"3.0\"\n");
    assert_eq!(insights(&daemon), json!({"status": "no_data"}));
    wait_until(PATIENCE, "it is logged", || {
        let log = daemon.read(".deia/bot-logs/adaptive-scheduling.jsonl");
        log.contains("learning_reset").then_some(())
    });
    daemon.terminate();
    // Also where it changes while there is no daemon.
    daemon.restart();
    daemon.wait_bots(2);
    run(&daemon, 1);
    daemon.terminate();
    daemon.write_config(&fleet("version: \"4.0\"\n"));
    daemon.restart();
    assert_eq!(insights(&daemon), json!({"status": "no_data"}));
}

/// The original's case 26, by its routes.
#[test]
fn results_of_others_are_recorded_and_come_to_what_the_original_says() {
    let daemon = start("");
    let record = |body: Value| daemon.post("/api/scheduling/record-execution", &body);
    for (seconds, success) in [(10, true), (20, false), (30, true)] {
        let body = json!({"bot_id": "other", "task_type": "planning", "execution_time": seconds, "success": success});
        let answer = record(body).ok();
        assert_eq!(answer["recorded"], true, "{answer}");
        assert_eq!(answer["bot_id"], "other", "{answer}");
    }
    let said = daemon.get("/api/scheduling/recommendation/planning").ok();
    assert_eq!(said["recommended_bot"], "other", "{said}");
    assert_eq!(
        said["reason"],
        "Best performer on planning tasks: 12.9s avg, 91% success rate (3 tasks)"
    );
    assert!(
        (said["confidence"].as_f64().unwrap() - 0.8).abs() < 1e-9,
        "{said}"
    );
    let alternative = &said["alternatives"][0];
    assert!(
        (alternative["score"].as_f64().unwrap() - 0.94084).abs() < 1e-9,
        "{said}"
    );
    assert!(
        (alternative["avg_time"].as_f64().unwrap() - 12.9).abs() < 1e-9,
        "{said}"
    );
    // Nobody named: the fleet itself, on general work.
    let answer = record(json!({})).ok();
    assert_eq!(
        (&answer["bot_id"], &answer["task_type"]),
        (&json!("slow"), &json!("general"))
    );
    let history = daemon.get("/api/scheduling/history?limit=2").ok();
    assert_eq!(
        (&history["total_records"], &history["returned"]),
        (&json!(4), &json!(2)),
        "{history}"
    );
    let last = &history["history"][1];
    assert_eq!(last["bot_id"], "slow", "{history}");
    assert_eq!(last["updated_perf"]["total_tasks"], 1, "{history}");
    let all = daemon.get("/api/scheduling/history?limit=0").ok();
    assert_eq!(all["returned"], 4, "{all}");
    let nobody = daemon.get("/api/scheduling/bot-performance/nobody").ok();
    assert_eq!(nobody["performance"], json!({}));
    let nothing = daemon.get("/api/scheduling/task-type/nothing").ok();
    assert_eq!(nothing["bots"], json!([]));
    for wrong in [
        json!({"execution_time": -1}),
        json!({"execution_time": "long"}),
        json!({"task_type": "cooking"}),
        json!({"success": "yes"}),
        json!({"bot_id": "b".repeat(1000)}),
        json!([]),
    ] {
        assert_eq!(record(wrong.clone()).status, 422, "{wrong}");
    }
    assert_eq!(daemon.get("/api/scheduling/history?limit=x").status, 422);
}

#[test]
fn a_task_that_waits_says_for_what_and_one_that_runs_says_why_there() {
    let yaml = "bot_limits: {min_bots: 1, max_bots: 1}\n\
        bots: [{name: only, type: general, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 60000}}]\n";
    let daemon = Daemon::builder().config(yaml).start();
    daemon.wait_bots(1);
    let first = daemon.submit("one");
    let second = daemon.submit("two");
    let said = wait_until(PATIENCE, "it runs", || {
        let said = explained(&daemon, &first);
        (said["status"] == "running").then_some(said)
    });
    assert_eq!(said["attempts"][0]["reason"], "only_one", "{said}");
    let words = said["explanation"].as_str().unwrap();
    assert!(words.starts_with("runs on only"), "{said}");
    assert_eq!(said["waits_for"], json!([]), "{said}");
    let said = explained(&daemon, &second);
    let words = said["explanation"].as_str().unwrap();
    assert!(
        words.contains("first in its line; 1 bot could do it"),
        "{said}"
    );
    let why: BTreeMap<_, _> = said["waits_for"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bot| {
            (
                bot["bot_id"].as_str().unwrap(),
                bot["why"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(why["only"], "it has a task, and takes one at a time");
    let later = json!({"content": "x", "not_before": "2100-01-01T00:00:00Z"});
    let later = daemon.submit_with(&later);
    let said = explained(&daemon, &later);
    assert!(
        said["explanation"].to_string().contains("2100-01-01"),
        "{said}"
    );
    assert_eq!(daemon.get("/api/tasks/nothing/explain").status, 404);
    let told = daemon.ctl(&["task", "explain", &second]).ok().stdout;
    assert!(
        told.contains("it has a task, and takes one at a time"),
        "{told}"
    );
    daemon
        .post(&format!("/api/tasks/{second}/cancel"), &json!({}))
        .ok();
    let said = explained(&daemon, &second);
    assert_eq!(said["explanation"], "was cancelled");
}
