//! Scaling with real bots: they come with the work and go without it, within the limits.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

/// Long enough for a bot to start, and much shorter than any interval of the tests that use it.
const SECONDS: Duration = Duration::from_secs(20);

/// An evaluation every second, and rules to match. A busy machine is no reason here.
const SWIFT: &str = "timeouts: {scaling_evaluation_interval_seconds: 1}\n\
    scaling: {queue_per_bot: 2, oldest_seconds: 1, idle_seconds: 1, up_cooldown_seconds: 0.5, \
    down_cooldown_seconds: 0.5, max_memory: 1, max_cpu: 1}\n";

/// Evaluations that never come by themselves while a test runs.
const SLOW: &str = "timeouts: {scaling_evaluation_interval_seconds: 3600}\n";

/// `main` has its minimum of one, `spare` none.
const TWO_POOLS: &str = "bot_limits: {min_bots: 1, max_bots: 6}\n\
    bots: [{name: main, type: general, min: 1, max: 4, backend: {kind: echo}}, \
    {name: spare, type: planner, max: 3, backend: {kind: echo}}]\n";

fn start(config: &[&str]) -> Daemon {
    Daemon::builder().config(&config.concat()).start()
}

/// The names of the bots that are there, working or not.
fn names(daemon: &Daemon) -> Vec<String> {
    let bots = daemon.bots().into_iter();
    bots.map(|bot| bot["id"].as_str().unwrap().to_owned())
        .collect()
}

fn events(daemon: &Daemon, event: &str) -> Vec<Value> {
    let lines = daemon.read(".deia/bot-logs/auto-scaling.jsonl");
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == event)
        .collect()
}

/// The last of them, once it is there: the log is written behind.
#[track_caller]
fn wait_event(daemon: &Daemon, event: &str, words: &str) -> Value {
    wait_until(PATIENCE, &format!("{event} says {words}"), || {
        let found = events(daemon, event).pop()?;
        found.to_string().contains(words).then_some(found)
    })
}

#[test]
fn bots_come_with_the_queue_and_go_without_it_and_no_task_is_hurt() {
    let pool = "bot_limits: {min_bots: 1, max_bots: 8}\n\
        bots: [{name: echo, max: 4, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 400}}]\n";
    let daemon = start(&[SWIFT, pool]);
    daemon.wait_bots(1);
    let tasks: Vec<String> = (0..40)
        .map(|n| daemon.submit(&format!("task {n}")))
        .collect();
    wait_until(PATIENCE, "the pool is at its maximum", || {
        (names(&daemon).len() == 4).then_some(())
    });
    for id in &tasks {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    }
    wait_until(PATIENCE, "one bot is left", || {
        (daemon.bot_pids().len() == 1).then_some(())
    });
    wait_event(&daemon, "scaled_down", "2 -> 1");
    let up = events(&daemon, "scaled_up");
    assert!(
        up.iter().all(|line| line["to"].as_u64() <= Some(4)),
        "{up:?}"
    );
    let reasons = up.iter().map(|line| line["reason"].as_str().unwrap());
    assert!(
        reasons
            .clone()
            .any(|why| why.contains("scaling.queue_per_bot")),
        "{up:?}"
    );
    let down = events(&daemon, "scaled_down");
    assert_eq!(down.len(), 3, "one at a time: {down:?}");
    let evaluations = events(&daemon, "scaling_evaluation");
    let of = |decision: &str| {
        let found = evaluations.iter().find(|line| line["decision"] == decision);
        found.unwrap_or_else(|| panic!("no {decision} in {evaluations:?}"))
    };
    let up = of("scale_up");
    assert!(up["waiting"].as_u64() > Some(0), "{up}");
    assert!(up["memory"].as_f64() > Some(0.0), "{up}");
    assert!(
        of("scale_down")["reason"]
            .as_str()
            .unwrap()
            .contains("hardly any work")
    );
    let status = daemon.get("/api/scaling/status").ok();
    assert_eq!(status["last_evaluation"]["trigger"], "timer", "{status}");
    assert!(status["last_scale_down"].is_string(), "{status}");
}

/// Fails on a build that stops bots without letting them finish (`Drain::Within(0)` in `apply_plan`).
#[test]
fn a_bot_that_is_removed_finishes_what_it_has() {
    let pool = "bot_limits: {min_bots: 1, max_bots: 2}\n\
        bots: [{name: echo, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 1500}}]\n";
    let daemon = start(&[SLOW, pool]);
    daemon.post("/api/scaling/scale-up", &json!({})).ok();
    daemon.wait_bots(2);
    let tasks = [daemon.submit("one"), daemon.submit("another")];
    wait_until(PATIENCE, "both bots are busy", || {
        let bots = daemon.bots();
        bots.iter().all(|bot| bot["actual"] == "busy").then_some(())
    });
    let down = daemon.post("/api/scaling/scale-down", &json!({})).ok();
    assert_eq!(down["removed_bots"], json!(["echo-2"]), "{down}");
    for id in &tasks {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    }
    wait_until(PATIENCE, "one bot is left", || {
        (names(&daemon) == ["echo"]).then_some(())
    });
}

/// Fails on a build that only evaluates by the timer (`look_for_unserved` returns at once).
#[test]
fn the_first_task_for_a_pool_without_bots_starts_one_at_once_also_after_a_crash() {
    let mut daemon = start(&[SLOW, TWO_POOLS]);
    daemon.wait_bots(1);
    let id = daemon.submit_with(&json!({"content": "x", "pool": "spare"}));
    assert_eq!(daemon.wait_task(&id, SECONDS)["status"], "succeeded");
    assert_eq!(names(&daemon), ["main", "spare"]);
    let up = wait_event(&daemon, "scaled_up", "spare");
    assert_eq!(
        up["reason"], "spare 0 -> 1: no running bot can take 1 task",
        "{up}"
    );
    // By its name, it is that one.
    let id = daemon.submit_with(&json!({"content": "x", "bot_id": "spare-3"}));
    let task = daemon.wait_task(&id, SECONDS);
    assert_eq!(task["attempts"][0]["bot_id"], "spare-3", "{task}");
    assert_eq!(names(&daemon), ["main", "spare", "spare-3"]);
    // What waits when the daemon starts has waited long enough.
    daemon.terminate();
    let config = daemon.read("bot-config.yaml");
    daemon.write_config(&format!(
        "{config}feature_flags: {{auto_scaling_enabled: false}}\n"
    ));
    daemon.restart();
    let waits = daemon.submit_with(&json!({"content": "x", "pool": "spare"}));
    assert_eq!(
        daemon.get(&format!("/api/tasks/{waits}")).ok()["status"],
        "queued"
    );
    daemon.write_config(&config);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.wait_task(&waits, SECONDS)["status"], "succeeded");
}

/// Fails on the same build: nobody looks at what has waited through the drain.
#[test]
fn a_drained_fleet_is_left_alone_and_what_waits_is_done_when_it_is_resumed() {
    let daemon = start(&[SLOW, TWO_POOLS]);
    daemon.wait_bots(1);
    let spare = json!({"content": "x", "pool": "spare"});
    daemon.submit_with(&spare);
    wait_until(PATIENCE, "it has a bot", || {
        names(&daemon).contains(&"spare".to_owned()).then_some(())
    });
    let bots = daemon.wait_bots(2);
    assert_eq!(bots[1]["id"], "spare");
    daemon.post("/api/bots/spare/stop", &json!({})).ok();
    let waits = daemon.submit_with(&spare);
    daemon.ctl(&["drain", "--wait", "30"]).ok();
    assert!(names(&daemon).is_empty());
    let answer = daemon.post("/api/scaling/evaluate", &json!({})).ok();
    assert_eq!(answer["action_taken"], Value::Null, "{answer}");
    assert!(
        answer["evaluation"]["reason"]
            .as_str()
            .unwrap()
            .contains("max_bots is 0"),
        "{answer}"
    );
    let answer = daemon.post("/api/scaling/scale-up", &json!({})).ok();
    assert_eq!(
        (&answer["success"], &answer["added"]),
        (&json!(false), &json!(0)),
        "{answer}"
    );
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("deiactl resume"),
        "{answer}"
    );
    assert!(names(&daemon).is_empty());
    daemon.ctl(&["resume"]).ok();
    assert_eq!(daemon.wait_task(&waits, SECONDS)["status"], "succeeded");
}

#[test]
fn switched_off_nothing_is_scaled_but_by_hand() {
    let off = "feature_flags: {auto_scaling_enabled: false}\n";
    let daemon = start(&[SWIFT, TWO_POOLS, off]);
    daemon.wait_bots(1);
    let id = daemon.submit_with(&json!({"content": "x", "pool": "spare"}));
    let answer = daemon.post("/api/scaling/evaluate", &json!({})).ok();
    assert_eq!(answer["action_taken"], Value::Null, "{answer}");
    let evaluation = &answer["evaluation"];
    assert_eq!(
        evaluation["reason"],
        "feature_flags.auto_scaling_enabled is false"
    );
    assert_eq!(evaluation["waiting"], 1, "{answer}");
    assert_eq!(
        answer["scaling_status"]["scaling_enabled"], false,
        "{answer}"
    );
    assert_eq!(names(&daemon), ["main"]);
    // The limits hold all the same.
    daemon.ctl(&["scale", "--min", "2", "--wait", "30"]).ok();
    assert_eq!(names(&daemon), ["main", "main-2"]);
    assert_eq!(
        daemon.get(&format!("/api/tasks/{id}")).ok()["status"],
        "queued"
    );
    let answer = daemon
        .post("/api/scaling/scale-up?pool=spare", &json!({}))
        .ok();
    assert_eq!(answer["new_bots"], json!(["spare"]), "{answer}");
    assert_eq!(daemon.wait_task(&id, SECONDS)["status"], "succeeded");
    // Only what was asked for: the timer does not run.
    wait_event(&daemon, "scaling_evaluation", "by_hand");
    assert_eq!(events(&daemon, "scaling_evaluation").len(), 2);
    // On again, by a reload, it takes what is not needed.
    daemon.write_config(
        &daemon
            .read("bot-config.yaml")
            .replace("enabled: false", "enabled: true"),
    );
    daemon.ctl(&["reload"]).ok();
    wait_until(PATIENCE, "the third has gone", || {
        (names(&daemon).len() == 2).then_some(())
    });
}

#[test]
fn an_operator_adds_and_removes_bots_within_the_limits() {
    let daemon = start(&[SLOW, TWO_POOLS]);
    daemon.wait_bots(1);
    let post = |path: &str| daemon.post(&format!("/api/scaling/{path}"), &json!({}));
    let up = post("scale-up").ok();
    assert_eq!(
        (
            &up["success"],
            &up["added"],
            &up["new_bots"],
            &up["total_bots"]
        ),
        (&json!(true), &json!(1), &json!(["main-2"]), &json!(2)),
        "{up}"
    );
    let up = post("scale-up?count=9").ok();
    assert_eq!(
        (&up["added"], &up["total_bots"]),
        (&json!(4), &json!(6)),
        "{up}"
    );
    assert!(
        up["message"].as_str().unwrap().contains("max_bots of 6"),
        "{up}"
    );
    daemon.wait_bots(6);
    let up = post("scale-up").ok();
    assert_eq!(
        (&up["success"], &up["new_bots"]),
        (&json!(false), &json!([])),
        "{up}"
    );
    let down = post("scale-down?count=2&pool=spare").ok();
    assert_eq!(
        (&down["success"], &down["removed"], &down["total_bots"]),
        (&json!(true), &json!(2), &json!(4)),
        "{down}"
    );
    assert_eq!(down["removed_bots"].as_array().unwrap().len(), 2, "{down}");
    let down = post("scale-down?count=10").ok();
    assert_eq!(
        (&down["removed"], &down["total_bots"]),
        (&json!(3), &json!(1)),
        "{down}"
    );
    assert!(
        down["message"].as_str().unwrap().contains("minimum"),
        "{down}"
    );
    wait_until(PATIENCE, "one bot is left", || {
        (names(&daemon) == ["main"]).then_some(())
    });
    // What is asked for wrongly is said.
    for (path, status, words) in [
        ("scale-up?count=0", 422, "greater than or equal to 1"),
        ("scale-down?count=many", 422, "valid integer"),
        ("scale-up?count=10001", 422, "less than or equal to 10000"),
        ("scale-up?pool=nobody", 404, "Pool nobody not found"),
    ] {
        let answer = post(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(
            answer.body.to_string().contains(words),
            "{path}: {answer:?}"
        );
    }
    for path in ["scale-up", "scale-down", "evaluate"] {
        let over_tcp = daemon
            .tcp()
            .post(&format!("/api/scaling/{path}"), &json!({}));
        assert_eq!(over_tcp.status, 403, "{path}: {over_tcp:?}");
    }
}

#[test]
fn an_evaluation_on_request_acts_and_one_of_made_up_figures_does_not() {
    let slow = "timeouts: {scaling_evaluation_interval_seconds: 3600}\n\
        scaling: {queue_per_bot: 2, max_memory: 1, max_cpu: 1}\n\
        bots: [{name: echo, max: 3, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 60000}}]\n";
    let daemon = start(&[slow]);
    daemon.wait_bots(1);
    let would = |figures: Value| {
        let answer = daemon.post("/api/scaling/evaluate", &figures).ok();
        assert_eq!(answer["action_taken"], Value::Null, "{answer}");
        assert_eq!(answer["evaluation"]["trigger"], "figures", "{answer}");
        answer["evaluation"]["decision"].clone()
    };
    assert_eq!(
        would(json!({"current_load": 0.7, "avg_bot_load": 0.6})),
        Value::Null
    );
    assert_eq!(
        would(json!({"current_load": 0.71, "avg_bot_load": 0.6})),
        Value::Null
    );
    assert_eq!(
        would(json!({"current_load": 0.71, "avg_bot_load": 0.61})),
        "scale_up"
    );
    assert_eq!(would(json!({"queue_size": 2})), "scale_up");
    assert_eq!(
        would(json!({"queue_size": 1, "avg_bot_load": null})),
        Value::Null
    );
    assert_eq!(names(&daemon), ["echo"]);
    for _ in 0..4 {
        daemon.submit("slowly");
    }
    // The queue is one when it has lasted a moment.
    let answer = wait_until(PATIENCE, "it scales up", || {
        let answer = daemon.post("/api/scaling/evaluate", &json!({})).ok();
        (!answer["action_taken"].is_null()).then_some(answer)
    });
    assert_eq!(answer["action_taken"], "scale_up", "{answer}");
    assert_eq!(answer["current_bot_count"], 2, "{answer}");
    let pool = &answer["evaluation"]["pools"][0];
    assert_eq!(
        (&pool["from"], &pool["to"]),
        (&json!(1), &json!(2)),
        "{answer}"
    );
    let shown = daemon.ctl(&["scale"]).ok();
    assert!(shown.stdout.contains("scaling.queue_per_bot"), "{shown:?}");
    for (body, words) in [
        (json!({"queue_size": -1}), "queue_size"),
        (json!({"current_load": "much"}), "valid number"),
        (json!({"avg_bot_load": -0.1}), "greater than or equal to 0"),
        (json!([]), "valid dictionary"),
    ] {
        let answer = daemon.post("/api/scaling/evaluate", &body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert!(
            answer.body.to_string().contains(words),
            "{body}: {answer:?}"
        );
    }
}

/// Shown to fail, in one of two runs of 300 rounds, on the build before: changes were written by whichever thread
/// came first, and put in force by whichever event came first.
#[test]
fn limits_set_at_once_are_the_same_in_the_fleet_and_on_disk() {
    let daemon = start(&[TWO_POOLS, SLOW]);
    let rounds = std::env::var_os("DEIA_SOAK").map_or(100_u32, |_| 1_000);
    for round in 0..rounds {
        std::thread::scope(|scope| {
            for n in 0..16_u32 {
                let daemon = &daemon;
                scope.spawn(move || {
                    let limits = match n {
                        0 => json!({"resume": true}),
                        _ => json!({"min_bots": 0, "max_bots": (round + n) % 4 + 1}),
                    };
                    daemon.post("/api/scaling/limits", &limits).ok();
                });
            }
        });
        let status = daemon.get("/api/scaling/status").ok();
        let path = ".deia/config/limits-override.json";
        let file = std::fs::read(daemon.home().join(path)).ok();
        let kept: Option<Value> = file.map(|text| serde_json::from_slice(&text).unwrap());
        let max = kept
            .as_ref()
            .map_or(&json!(6), |kept| &kept["max_bots"])
            .clone();
        assert_eq!(
            (&status["max_bots"], &status["override"]),
            (&max, &json!(kept.is_some())),
            "round {round}: {kept:?}"
        );
    }
}
