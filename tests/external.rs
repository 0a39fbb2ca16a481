//! External bots: programs somewhere else that lease tasks over signed HTTP.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Daemon, External, PATIENCE, SignedRequest, signature, size, wait_until};
use deia::time::Timestamp;
use fastrand::Rng;
use serde_json::{Value, json};

/// Nobody but the external bot can do what a general task is.
const FLEET: &str = "bot_limits: {min_bots: 1, max_bots: 2}\n\
    bots: [{name: writer, type: writer, min: 1, max: 1, backend: {kind: echo}}]\n\
    supervision: {heartbeat_seconds: 0.5, orphan_grace_seconds: 8}\n\
    tasks: {retry_backoff_seconds: [0.05, 0.1]}\n";

fn start() -> Daemon {
    let daemon = Daemon::builder().config(FLEET).start();
    daemon.wait_bots(1);
    daemon
}

fn task(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/tasks/{id}")).ok()
}

fn attempts(task: &Value) -> Vec<&str> {
    let attempts = task["attempts"].as_array().unwrap().iter();
    attempts.map(|a| a["status"].as_str().unwrap()).collect()
}

fn view(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/bots/{id}")).ok()
}

#[track_caller]
fn refused(answer: &common::Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.body["code"], code, "{answer:?}");
}

#[test]
fn a_registration_is_checked_durable_and_secret() {
    let mut daemon = start();
    let register =
        |daemon: &Daemon, body: &Value| daemon.post("/api/orchestrate/register-bot", body);
    for (body, field) in [
        (json!({}), "bot_id"),
        (json!({"bot_id": null}), "bot_id"),
        (json!({"bot_id": ""}), "bot_id"),
        (json!({"bot_id": "../x"}), "bot_id"),
        (json!({"bot_id": "a", "type": "genius"}), "type"),
        (json!({"bot_id": "a", "type": 7}), "type"),
        (
            json!({"bot_id": "a", "specializations": ["a b"]}),
            "specializations",
        ),
        (
            json!({"bot_id": "a", "max_concurrent": 0}),
            "max_concurrent",
        ),
        (
            json!({"bot_id": "a", "max_concurrent": -1}),
            "max_concurrent",
        ),
        (
            json!({"bot_id": "a", "max_concurrent": 1.5}),
            "max_concurrent",
        ),
    ] {
        let answer = register(&daemon, &body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        let places = answer.body["detail"].as_array().unwrap().iter();
        let mut names = places.map(|error| &error["loc"][1]);
        assert!(names.any(|name| name == field), "{body}: {answer:?}");
    }
    for name in ["writer", "writer-2"] {
        refused(
            &register(&daemon, &json!({"bot_id": name})),
            409,
            "name_taken",
        );
    }
    let over_tcp = daemon
        .tcp()
        .post("/api/orchestrate/register-bot", &json!({"bot_id": "far"}));
    assert_eq!(over_tcp.status, 403, "{over_tcp:?}");

    let body = json!({"bot_id": "far", "type": "Developer", "specializations": ["rust"]});
    let answer = register(&daemon, &body).ok();
    assert_eq!(answer["message"], "Bot far registered");
    assert_eq!(
        (
            &answer["bot_type"],
            &answer["max_concurrent"],
            &answer["rotated"]
        ),
        (&json!("developer"), &json!(3), &json!(false))
    );
    let old = External::of("far", &answer);
    refused(&register(&daemon, &body), 409, "already_registered");

    // It is seen as any other bot.
    let seen = view(&daemon, "far");
    assert_eq!(
        (&seen["actual"], &seen["pool"]),
        (&json!("stopped"), &json!("external"))
    );
    let beat = old.post(&daemon, "heartbeat", &json!({})).ok();
    assert_eq!(beat["heartbeat_seconds"], 0.5);
    assert_eq!(view(&daemon, "far")["actual"], "ready");
    let status = daemon.get("/api/orchestrate/status").ok();
    assert_eq!(status["bots"]["far"]["type"], "developer", "{status}");
    let status = daemon.get("/api/orchestrate/bot/far/status").ok();
    assert_eq!(status["capacity"], 3, "{status}");
    let said = daemon.ctl(&["bots"]);
    assert!(said.stdout.contains("far"), "{said:?}");
    let stop = daemon.post("/api/bots/far/stop", &json!({}));
    assert_eq!(stop.status, 409, "{stop:?}");

    // Also after a kill; another secret takes the place of the old one at once.
    daemon.kill9();
    daemon.restart();
    old.post(&daemon, "heartbeat", &json!({})).ok();
    let new = External::register(
        &daemon,
        "far",
        &json!({"rotate": true, "max_concurrent": 1}),
    );
    refused(
        &old.post(&daemon, "heartbeat", &json!({})),
        401,
        "wrong_signature",
    );
    new.post(&daemon, "heartbeat", &json!({})).ok();
    assert_eq!(view(&daemon, "far")["max_concurrent"], 1);

    // A pool of its name comes: nobody is mistaken for the other.
    let gone = daemon.post("/api/bots/far/unregister", &json!({})).ok();
    assert_eq!(gone["released"], 0, "{gone}");
    refused(
        &new.post(&daemon, "heartbeat", &json!({})),
        401,
        "wrong_signature",
    );
    assert_eq!(
        daemon.post("/api/bots/far/unregister", &json!({})).status,
        404
    );
    assert_eq!(daemon.get("/api/bots/far").status, 404);
    // What is shown once stands nowhere else, and nobody but the daemon reads where it is kept.
    use std::os::unix::fs::PermissionsExt as _;
    let kept = daemon.home().join(".deia/secrets/external-bots.json");
    let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn deiactl_registers_and_unregisters() {
    let daemon = start();
    let words = [
        "bot",
        "register",
        "far",
        "--type",
        "writer",
        "--max",
        "2",
        "--specialization",
        "docs",
    ];
    let said = daemon.ctl(&[&["--json"][..], &words].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let far = External::of("far", &answer);
    far.post(&daemon, "heartbeat", &json!({})).ok();
    let again = daemon.ctl(&words);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("rotate"), "{again:?}");
    let rotated = daemon.ctl(&[&words[..], &["--rotate"]].concat());
    assert!(rotated.stdout.contains("whsec_"), "{rotated:?}");
    let gone = daemon.ctl(&["bot", "unregister", "far"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(daemon.ctl(&["bot", "unregister", "far"]).code, 1);
}

#[test]
fn a_task_goes_to_who_asks_and_its_end_counts_once() {
    let daemon = start();
    let far = External::register(&daemon, "far", &json!({"max_concurrent": 2}));
    // Nobody asks: it waits, and is possible.
    let first = daemon.submit_with(&json!({"content": "hello", "metadata": {"a": [1]}}));
    assert_eq!(task(&daemon, &first)["status"], "queued");
    let why = daemon.get(&format!("/api/tasks/{first}/explain"));
    assert!(
        why.text.contains("it does not ask for tasks now"),
        "{why:?}"
    );
    let leased = far.lease_one(&daemon);
    assert_eq!(
        (&leased["task_id"], &leased["attempt"]),
        (&json!(first), &json!(1))
    );
    assert_eq!(
        (&leased["content"], &leased["metadata"]),
        (&json!("hello"), &json!({"a": [1]}))
    );
    assert_eq!(
        (&leased["priority"], &leased["task_type"]),
        (&json!("P2"), &json!("general"))
    );
    assert!(leased["timeout_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(view(&daemon, "far")["actual"], "busy");
    assert_eq!(task(&daemon, &first)["status"], "running");
    assert!(far.lease(&daemon, 5, 0.1).is_empty());

    // Output in pieces; one that came already counts once, one that is missing is asked for.
    let piece = |text: &str, offset: u64| {
        far.say(
            &daemon,
            &leased,
            "output",
            &json!({"text": text, "offset": offset}),
        )
    };
    assert_eq!(piece("ab", 0).ok()["bytes"], 2);
    assert_eq!(piece("ab", 0).ok()["bytes"], 2);
    assert_eq!(piece("bc", 1).ok()["bytes"], 3);
    refused(&piece("z", 9), 409, "gap");
    let so_far = daemon.get(&format!("/api/tasks/{first}/output"));
    assert!(so_far.text.contains("abc"), "{so_far:?}");

    // Under another lease, or another task's, nothing is taken.
    let mut other = leased.clone();
    other["lease"] = json!("0-1-0");
    refused(
        &far.say(&daemon, &other, "complete", &json!({"output": "x"})),
        409,
        "late",
    );
    let without = far.post(
        &daemon,
        &format!("tasks/{first}/complete"),
        &json!({"output": "x"}),
    );
    assert_eq!(without.status, 422, "{without:?}");
    let by_hand = json!({"output": "x", "attempt": 2});
    refused(
        &far.post(&daemon, &format!("tasks/{first}/complete"), &by_hand),
        409,
        "late",
    );
    let nobodys = External::register(&daemon, "near", &json!({}));
    refused(
        &nobodys.say(&daemon, &leased, "complete", &json!({"output": "x"})),
        409,
        "late",
    );

    let end = json!({"prompt_tokens": 3, "completion_tokens": 4, "model": "m"});
    let done = far.say(&daemon, &leased, "complete", &end).ok();
    assert_eq!(
        (&done["status"], &done["duplicate"]),
        (&json!("succeeded"), &json!(false))
    );
    let ended = task(&daemon, &first);
    assert_eq!(ended["result"]["output"], "abc", "{ended}");
    assert_eq!(ended["result"]["usage"]["completion_tokens"], 4, "{ended}");
    assert_eq!(ended["result"]["backend"], "external", "{ended}");
    // Whose answer was lost asks again: the same. The opposite is refused, and changes nothing.
    let again = far
        .say(&daemon, &leased, "complete", &json!({"output": "other"}))
        .ok();
    assert_eq!(again["duplicate"], true);
    refused(
        &far.say(&daemon, &leased, "fail", &json!({"error": "no"})),
        409,
        "late",
    );
    refused(
        &far.say(&daemon, &leased, "output", &json!({"text": "no"})),
        409,
        "late",
    );
    assert_eq!(task(&daemon, &first)["result"]["output"], "abc");

    // A poll that waits is answered as soon as there is something, and with no more than it asked for.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| (far.lease(&daemon, 2, 20.0), Instant::now()));
        wait_until(PATIENCE, "it waits", || {
            let note = view(&daemon, "far")["explanation"].clone();
            (note == "it asks for tasks").then_some(())
        });
        let sent = Instant::now();
        for _ in 0..5 {
            daemon.submit_with(&json!({"content": "later", "max_attempts": 1}));
        }
        let (tasks, at) = waits.join().unwrap();
        assert!((1..=2).contains(&tasks.len()), "{tasks:?}");
        assert!(at - sent < Duration::from_secs(5), "{:?}", at - sent);
        for leased in &tasks {
            let failed = far
                .say(&daemon, leased, "fail", &json!({"error": "no luck"}))
                .ok();
            assert_eq!(failed["status"], "dead");
            let again = far
                .say(&daemon, leased, "fail", &json!({"error": "no luck"}))
                .ok();
            assert_eq!(
                (&again["status"], &again["duplicate"]),
                (&json!("dead"), &json!(true))
            );
            let ended = task(&daemon, leased["task_id"].as_str().unwrap());
            assert_eq!(ended["error"], "no luck", "{ended}");
        }
    });
    // What it may have at once is a bound, whatever it asks for.
    let had = far.lease(&daemon, 100, 1.0);
    assert!(had.len() <= 2, "{had:?}");
}

#[test]
fn who_is_silent_loses_what_it_has_and_who_speaks_is_told() {
    let daemon = start();
    let far = External::register(&daemon, "far", &json!({"max_concurrent": 3}));
    let id = daemon.submit("one");
    let leased = far.lease_one(&daemon);
    // A heartbeat keeps it; silence does not.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let answer = far
            .post(&daemon, "heartbeat", &json!({"tasks": [id, "x"]}))
            .ok();
        assert_eq!(
            (&answer["tasks"], &answer["lost"]),
            (&json!([id]), &json!(["x"]))
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(attempts(&task(&daemon, &id)), ["running"]);
    wait_until(PATIENCE, "it is taken away", || {
        (task(&daemon, &id)["status"] == "queued").then_some(())
    });
    assert_eq!(attempts(&task(&daemon, &id)), ["lost"]);
    assert_eq!(view(&daemon, "far")["actual"], "stopped");
    refused(
        &far.say(&daemon, &leased, "complete", &json!({"output": "late"})),
        409,
        "late",
    );

    // Another run of the program: what the one before had is lost at once, and that one is refused.
    let lease = |instance: &str| {
        let body = json!({"max": 1, "wait_seconds": 5, "instance": instance});
        far.post(&daemon, "lease", &body)
    };
    let second = lease("a").ok()["tasks"][0].clone();
    assert_eq!(second["attempt"], 2);
    let third = lease("b").ok()["tasks"][0].clone();
    assert_eq!(
        (&third["task_id"], &third["attempt"]),
        (&json!(id), &json!(3))
    );
    refused(&lease("a"), 409, "superseded");
    refused(
        &far.say(&daemon, &second, "complete", &json!({"output": "late"})),
        409,
        "late",
    );

    // A cancelled task: it is told, and gives it up.
    let answer = daemon
        .post(&format!("/api/tasks/{id}/cancel"), &json!({}))
        .ok();
    assert_eq!(answer["status"], "running", "{answer}");
    let beat = far.post(&daemon, "heartbeat", &json!({"tasks": [id]})).ok();
    assert_eq!(beat["cancel"], json!([id]), "{beat}");
    let given_up = far
        .say(&daemon, &third, "fail", &json!({"error": "cancelled"}))
        .ok();
    assert_eq!(given_up["status"], "cancelled");
    assert_eq!(task(&daemon, &id)["status"], "cancelled");

    // An answer that never reached it: it does not name the task, and gets it again after a while.
    let id = daemon.submit("two");
    assert_eq!(far.lease_one(&daemon)["task_id"], id.as_str());
    let begun = Instant::now();
    wait_until(PATIENCE, "it is queued again", || {
        far.post(&daemon, "heartbeat", &json!({"tasks": []})).ok();
        (task(&daemon, &id)["status"] == "queued").then_some(())
    });
    assert!(
        begun.elapsed() > Duration::from_millis(900),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(attempts(&task(&daemon, &id)), ["lost"]);

    // Drained: nothing more is given out, what it has may end.
    let leased = far.lease_one(&daemon);
    daemon
        .post("/api/scaling/limits", &json!({"max_bots": 0}))
        .ok();
    let answer = far.post(&daemon, "lease", &json!({"max": 1}));
    refused(&answer, 503, "draining");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    far.say(&daemon, &leased, "complete", &json!({"output": "done"}))
        .ok();
    daemon
        .post("/api/scaling/limits", &json!({"resume": true}))
        .ok();

    // Taken out of the fleet: what it has is queued again.
    let id = daemon.submit("three");
    far.lease_one(&daemon);
    let gone = daemon.post("/api/bots/far/unregister", &json!({})).ok();
    assert_eq!(gone["released"], 1, "{gone}");
    wait_until(PATIENCE, "it is queued again", || {
        (attempts(&task(&daemon, &id)) == ["lost"]).then_some(())
    });
}

#[test]
fn what_it_has_outlives_the_daemon_under_the_same_lease() {
    let mut daemon = start();
    let far = External::register(&daemon, "far", &json!({"max_concurrent": 3}));
    let ids: Vec<String> = ["one", "two", "three"]
        .map(|text| daemon.submit(text))
        .into();
    let mut leased = far.lease(&daemon, 3, 5.0);
    while leased.len() < 3 {
        leased.extend(far.lease(&daemon, 3, 5.0));
    }
    daemon.kill9();
    daemon.restart();
    assert_eq!(view(&daemon, "far")["actual"], "starting");
    // The first thing it says is an end.
    let done = far
        .say(&daemon, &leased[0], "complete", &json!({"output": "done"}))
        .ok();
    assert_eq!(done["status"], "succeeded");
    let has: Vec<&Value> = leased[1..2].iter().map(|task| &task["task_id"]).collect();
    let beat = far.post(&daemon, "heartbeat", &json!({"tasks": has})).ok();
    assert_eq!(
        beat["tasks"],
        json!(has),
        "what it does not name never reached it"
    );
    let third = leased[2]["task_id"].as_str().unwrap();
    wait_until(PATIENCE, "it is queued again", || {
        (attempts(&task(&daemon, third)) == ["lost"]).then_some(())
    });
    far.say(&daemon, &leased[1], "complete", &json!({"output": "done"}))
        .ok();
    let again = far.lease_one(&daemon);
    assert_eq!(
        (&again["task_id"], &again["attempt"]),
        (&json!(third), &json!(2))
    );
    for id in &ids[..2] {
        let n = attempts(&task(&daemon, id)).len();
        assert_eq!(n, 1);
    }
    // Who does not come back in time has lost it.
    daemon.kill9();
    daemon.restart();
    wait_until(PATIENCE, "it is queued again", || {
        (task(&daemon, third)["status"] == "queued").then_some(())
    });
    assert_eq!(attempts(&task(&daemon, third)), ["lost", "lost"]);
    refused(
        &far.say(&daemon, &again, "complete", &json!({"output": "late"})),
        409,
        "late",
    );
}

/// Its bot would have heard of it with its next heartbeat. Shown to fail on a daemon that leaves it to the next one,
/// which does not know of it.
#[test]
fn a_cancel_outlives_an_upgrade_and_a_restart() {
    let mut daemon = start();
    let far = External::register(&daemon, "far", &json!({"max_concurrent": 3}));
    let cancelled = |daemon: &Daemon| {
        let id = daemon.submit("much work");
        let leased = far.lease_one(daemon);
        let cancel = format!("/api/tasks/{id}/cancel");
        let answer = daemon.post(&cancel, &json!({})).ok();
        assert_eq!(answer["status"], "running", "{answer}");
        (id, leased)
    };
    let first = cancelled(&daemon);
    daemon.ctl(&["upgrade"]).ok();
    assert_eq!(task(&daemon, &first.0)["status"], "cancelled");
    let second = cancelled(&daemon);
    daemon.terminate();
    daemon.restart();
    for (id, leased) in [first, second] {
        assert_eq!(task(&daemon, &id)["status"], "cancelled");
        let late = far.say(&daemon, &leased, "complete", &json!({"output": "late"}));
        refused(&late, 409, "late");
    }
}

/// Shown to fail on the build before: who followed was told the end alone, or the tail of a text that it had not seen.
#[test]
fn who_follows_is_told_that_the_bot_ends_with_another_text() {
    let daemon = start();
    let far = External::register(&daemon, "far", &json!({}));
    let id = daemon.submit("hello");
    let leased = far.lease_one(&daemon);
    let mut following = daemon
        .ctl_command(&["--json", "task", "output", &id, "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").unwrap();
        serde_json::from_str(&line).unwrap()
    };
    far.say(&daemon, &leased, "output", &json!({"text": "one two"}))
        .ok();
    assert_eq!(next(), json!({"event": "output", "text": "one two"}));
    far.say(&daemon, &leased, "complete", &json!({"output": "three"}))
        .ok();
    assert_eq!(next(), json!({"event": "attempt", "status": "running"}));
    assert_eq!(next(), json!({"event": "output", "text": "three"}));
    assert_eq!(next(), json!({"event": "end", "status": "succeeded"}));
    assert!(following.wait().unwrap().success());
}

/// Shown to fail on a daemon whose patience begins anew with each cancel.
#[test]
fn whoever_cancels_again_and_again_waits_no_longer() {
    let config = format!("{FLEET}feature_flags: {{audit_logging_enabled: false}}\n");
    let config = config.replace(
        "heartbeat_seconds",
        "stop_timeout_seconds: 1, heartbeat_seconds",
    );
    let daemon = Daemon::builder().config(&config).start();
    daemon.wait_bots(1);
    let far = External::register(&daemon, "far", &json!({}));
    let id = daemon.submit("much work");
    far.lease_one(&daemon);
    let begun = Instant::now();
    let cancel = format!("/api/tasks/{id}/cancel");
    wait_until(PATIENCE, "it is cancelled", || {
        far.post(&daemon, "heartbeat", &json!({"tasks": [id]})).ok();
        (daemon.post(&cancel, &json!({})).status == 409).then_some(())
    });
    assert_eq!(task(&daemon, &id)["status"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_task_that_lasts_too_long_is_taken_away() {
    let daemon = start();
    let far = External::register(&daemon, "far", &json!({}));
    let request = json!({"content": "slow", "timeout_seconds": 0.5, "max_attempts": 1});
    let id = daemon.submit_with(&request);
    let leased = far.lease_one(&daemon);
    assert_eq!(leased["timeout_seconds"], 0.5);
    let ended = wait_until(PATIENCE, "it is taken away", || {
        far.post(&daemon, "heartbeat", &json!({"tasks": [id]})).ok();
        let task = task(&daemon, &id);
        (task["status"] == "dead").then_some(task)
    });
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("did not end it within its 0.5 s"), "{error}");
    refused(
        &far.say(&daemon, &leased, "complete", &json!({"output": "late"})),
        409,
        "late",
    );
}

/// The program that the documentation shows.
struct Example {
    child: Child,
}

impl Example {
    fn start(daemon: &Daemon, far: &External) -> Self {
        let secret = STANDARD.encode(&far.secret);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let child = Command::new("python3")
            .arg(root.join("docs/examples/external_bot.py"))
            .args(["--bot", &far.id, "--at-once", "4", "--pause", "0.1"])
            .arg("--url")
            .arg(format!("http://127.0.0.1:{}", daemon.port()))
            .env("DEIA_BOT_SECRET", format!("whsec_{secret}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            child: child.expect("python3 is there"),
        }
    }

    fn kill9(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that stays the same when the daemon is started anew.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn the_example_does_its_work_whoever_is_killed() {
    let config = format!("{FLEET}http: {{listen: \"127.0.0.1:{}\"}}\n", free_port());
    let mut daemon = Daemon::builder().config(&config).start();
    let far = External::register(&daemon, "far", &json!({"max_concurrent": 4}));
    let mut example = Example::start(&daemon, &far);
    let submit = |daemon: &Daemon, n: u32| {
        let content = format!("task number {n}");
        daemon.submit_with(&json!({"content": content, "max_attempts": 20}))
    };
    let mut ids: Vec<String> = (0..20).map(|n| submit(&daemon, n)).collect();
    let succeeded = |daemon: &Daemon, ids: &[String]| {
        let of = |id: &&String| task(daemon, id)["status"] == "succeeded";
        ids.iter().filter(of).count()
    };
    let some = |daemon: &Daemon, ids: &[String], least: usize| {
        wait_until(PATIENCE, "some are done", || {
            (succeeded(daemon, ids) >= least).then_some(())
        });
    };
    some(&daemon, &ids, 3);
    example.kill9();
    example = Example::start(&daemon, &far);
    ids.extend((20..35).map(|n| submit(&daemon, n)));
    some(&daemon, &ids, 20);
    daemon.kill9();
    daemon.restart();
    ids.extend((35..50).map(|n| submit(&daemon, n)));
    some(&daemon, &ids, 36);
    daemon.kill9();
    example.kill9();
    daemon.restart();
    let _example = Example::start(&daemon, &far);
    for (n, id) in ids.iter().enumerate() {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(
            task["result"]["output"],
            format!("TASK NUMBER {n}"),
            "{task}"
        );
        let won = attempts(&task);
        assert_eq!(
            won.iter().filter(|s| **s == "succeeded").count(),
            1,
            "{task}"
        );
    }
}

/// Once, of a whole request: whoever sends it again.
fn statuses(answers: &[common::Response]) -> (usize, usize) {
    let of = |status| answers.iter().filter(|a| a.status == status).count();
    (of(200), of(409))
}

fn at_once(daemon: &Daemon, request: &SignedRequest, n: usize) -> Vec<common::Response> {
    let barrier = std::sync::Barrier::new(n);
    std::thread::scope(|scope| {
        let send = || {
            let admin = daemon.admin();
            barrier.wait();
            request.try_send(&admin)
        };
        let threads: Vec<_> = (0..n).map(|_| scope.spawn(send)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers.map(|answer| answer.expect("an answer")).collect()
    })
}

/// Shown to fail on a store that does not look whether it has the name of a request: 64 of 64 were accepted.
#[test]
fn of_sixty_four_at_once_one_is_accepted_and_none_after_a_kill() {
    let mut daemon = start();
    let far = External::register(&daemon, "far", &json!({}));
    for _ in 0..3 {
        let request = far.sign("heartbeat", &json!({}));
        let answers = at_once(&daemon, &request, 64);
        assert_eq!(statuses(&answers), (1, 63), "{answers:?}");
        refused(&request.send(&daemon.admin()), 409, "repeated_id");
        // On another route it is the same request.
        let mut elsewhere = request.clone();
        elsewhere.path = elsewhere.path.replace("heartbeat", "tasks/x/output");
        assert_eq!(elsewhere.send(&daemon.admin()).status, 422);
        daemon.kill9();
        daemon.restart();
        let answers = at_once(&daemon, &request, 64);
        assert_eq!(statuses(&answers), (0, 64), "{answers:?}");
    }
    // Killed between the name's commit and the act: nobody knows whether it was done, and it is not done again.
    let id = daemon.submit("once");
    let leased = far.lease_one(&daemon);
    let body = json!({"lease": leased["lease"], "output": "done"});
    if cfg!(debug_assertions) {
        daemon.terminate();
        daemon.set_env(deia::failpoint::VARIABLE, Some("external.taken:2"));
        daemon.restart();
        daemon.set_env(deia::failpoint::VARIABLE, None);
        far.post(&daemon, "heartbeat", &json!({"tasks": [id]})).ok();
        let request = far.sign(&format!("tasks/{id}/complete"), &body);
        assert!(request.try_send(&daemon.admin()).is_err());
        wait_until(PATIENCE, "it is killed there", || daemon.ended());
        daemon.restart();
        refused(&request.send(&daemon.admin()), 409, "repeated_id");
        assert_eq!(task(&daemon, &id)["status"], "running");
    }
    far.say(&daemon, &leased, "complete", &json!({"output": "done"}))
        .ok();
    assert_eq!(task(&daemon, &id)["result"]["output"], "done");
}

/// A request that is changed in one place.
fn changed(
    rng: &mut Rng,
    genuine: &SignedRequest,
    far: &External,
    other: &External,
) -> (SignedRequest, &'static str) {
    let mut request = genuine.clone();
    let now: i64 = genuine.timestamp.parse().unwrap();
    let path = genuine.path.rsplit_once("/far/").unwrap().1;
    let flip = |rng: &mut Rng, bytes: &mut Vec<u8>| {
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u32(..8);
    };
    let what = match rng.u32(..10) {
        0 => {
            flip(rng, &mut request.body);
            "a bit of the body"
        }
        1 => {
            let cut = rng.usize(..request.body.len());
            match rng.bool() {
                true => request.body.truncate(cut),
                false => request.body.insert(cut, rng.u8(..)),
            }
            "the body's length"
        }
        2 => {
            let at = rng.usize(..request.id.len());
            let letter = if request.id.as_bytes()[at] == b'x' {
                "y"
            } else {
                "x"
            };
            request.id.replace_range(at..=at, letter);
            "the id"
        }
        3 => {
            let by = rng.i64(1..300);
            let by = if rng.bool() { by } else { -by };
            request.timestamp = (now + by).to_string();
            "the time stamp"
        }
        4 => {
            let by = rng.i64(310..1_000_000);
            let at = if rng.bool() { now + by } else { now - by };
            request = far.sign_as(path, &genuine.body, &genuine.id, &at.to_string());
            "a time that is far away, rightly signed"
        }
        5 => {
            let mut bytes = STANDARD.decode(&request.signature[3..]).unwrap();
            flip(rng, &mut bytes);
            request.signature = format!("v1,{}", STANDARD.encode(bytes));
            "a bit of the signature"
        }
        6 => {
            let cut = rng.usize(..request.signature.len());
            request.signature.truncate(cut);
            "the signature's length"
        }
        7 => {
            let mut secret = far.secret.clone();
            flip(rng, &mut secret);
            request.signature = signature(&secret, &genuine.id, &genuine.timestamp, &genuine.body);
            "a bit of the secret"
        }
        8 => {
            request.signature = signature(
                &other.secret,
                &genuine.id,
                &genuine.timestamp,
                &genuine.body,
            );
            "another bot's secret"
        }
        _ => {
            let forms = ["v2,", "v1a,", "v1=", "V1,", "v1,v1,", ""];
            request.signature = request
                .signature
                .replace("v1,", forms[rng.usize(..forms.len())]);
            "the signature's form"
        }
    };
    (request, what)
}

/// Shown to fail on a build that does not look at when a request was signed.
#[test]
fn no_changed_request_is_accepted() {
    let daemon = start();
    let far = External::register(&daemon, "far", &json!({}));
    let near = External::register(&daemon, "near", &json!({}));
    let id = daemon.submit("one");
    let leased = far.lease_one(&daemon);
    let body = json!({"lease": leased["lease"], "output": "genuine"});
    let mut rng = Rng::with_seed(20);
    let mut counts = std::collections::BTreeMap::new();
    let sign = || far.sign(&format!("tasks/{id}/complete"), &body);
    let (mut genuine, mut connection) = (sign(), daemon.admin().connect());
    for n in 0..size(2_000, 10_000) {
        // In time, however long it takes; and the lease holds.
        if n % 200 == 0 {
            far.post(&daemon, "heartbeat", &json!({"tasks": [id]})).ok();
            genuine = sign();
        }
        let (request, what) = changed(&mut rng, &genuine, &far, &near);
        let answer = connection.request(
            "POST",
            &request.path,
            &request.headers(),
            Some(&request.body),
        );
        let answer = answer.unwrap_or_else(|e| panic!("{what}: {e}: {request:?}"));
        assert_eq!(answer.status, 401, "{what}: {request:?}");
        *counts.entry(what).or_insert(0) += 1;
    }
    println!("refused: {counts:?}");
    // None of it was done, and none of it has used up the name of the genuine one.
    assert_eq!(task(&daemon, &id)["status"], "running");
    assert_eq!(genuine.send(&daemon.admin()).ok()["status"], "succeeded");
    refused(&genuine.send(&daemon.admin()), 409, "repeated_id");
    assert_eq!(task(&daemon, &id)["result"]["output"], "genuine");
}

/// Shown to fail on a build that forgets names by a clock that may be set, and does not remember that it did.
#[test]
fn a_clock_that_is_set_makes_no_request_new() {
    let test = "a_clock_that_is_set_makes_no_request_new";
    let folders = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let Some(library) = libraries.find(|library| library.exists()) else {
        return common::skipped(test, "no libfaketime here (apt install faketime)");
    };
    let outside = tempfile::tempdir().unwrap();
    let offset = outside.path().join("offset");
    let set = |seconds: i64| {
        let aside = offset.with_extension("aside");
        std::fs::write(&aside, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&aside, &offset).unwrap();
    };
    set(0);
    let mut daemon = Daemon::builder()
        .config(FLEET)
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    let far = External::register(&daemon, "far", &json!({}));
    let beat = || far.sign("heartbeat", &json!({}));
    let first = beat();
    assert_eq!(first.send(&daemon.admin()).status, 200);
    const DAYS: i64 = 864_000;
    for jump in [DAYS, -DAYS, 400, -400] {
        set(jump);
        wait_until(PATIENCE, "the daemon's clock is set", || {
            (beat().send(&daemon.admin()).status == 401).then_some(())
        });
        // By its own clock it takes what is signed, once.
        let now = Timestamp::now().as_micros() / 1_000_000 + jump;
        let there = far.sign_as("heartbeat", b"{}", &format!("at{jump}"), &now.to_string());
        assert_eq!(there.send(&daemon.admin()).status, 200, "{jump}");
        refused(&there.send(&daemon.admin()), 409, "repeated_id");
        // A start has a round of housekeeping, by a clock that is wrong.
        daemon.kill9();
        daemon.restart();
        refused(&there.send(&daemon.admin()), 409, "repeated_id");
        refused(&first.send(&daemon.admin()), 401, "out_of_time");
        set(0);
        wait_until(PATIENCE, "the daemon's clock is right", || {
            (beat().send(&daemon.admin()).status == 200).then_some(())
        });
        for request in [&first, &there] {
            let status = request.send(&daemon.admin()).status;
            assert!([401, 409].contains(&status), "{jump}: {status}");
        }
    }
}
