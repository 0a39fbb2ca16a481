//! The wall clock is set forward and back by ten days while tasks run, wait and have ended: leases, time-outs and
//! pauses are measured by clocks that nobody sets, also across a restart. `libfaketime` sets it, for the daemon alone.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, skipped, wait_until};
use deia::time::Timestamp;
use serde_json::{Value, json};

/// Ten days in seconds, and back.
const JUMPS: [i64; 2] = [864_000, -864_000];

/// The library, wherever Debian has it.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}

/// The daemon's clock is so many seconds off.
struct Clock(PathBuf);

impl Clock {
    fn set(&self, seconds: i64) {
        let aside = self.0.with_extension("aside");
        fs::write(&aside, format!("{seconds:+}\n")).unwrap();
        fs::rename(&aside, &self.0).unwrap();
    }
}

/// A pool whose program waits for a file, and one that fails the first time.
fn start(library: &Path) -> (Daemon, Clock, tempfile::TempDir) {
    let outside = tempfile::tempdir().unwrap();
    let clock = Clock(outside.path().join("offset"));
    clock.set(0);
    let config = "bots: [{name: sh, type: general, min: 1, max: 1, max_concurrent_tasks: 4, \
            backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
        bot_limits: {min_bots: 1, max_bots: 1}\n\
        feature_flags: {request_validation_enabled: false}\n\
        tasks: {retry_backoff_seconds: [3, 3], queue_timeout_seconds: 3600, retention_days: 5}\n";
    let daemon = Daemon::builder()
        .config(config)
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock.0)
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start();
    daemon.wait_bots(1);
    (daemon, clock, outside)
}

fn attempts(task: &Value) -> Vec<&str> {
    let attempts = task["attempts"].as_array().unwrap().iter();
    attempts.map(|a| a["status"].as_str().unwrap()).collect()
}

fn get(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/api/tasks/{id}")).ok()
}

/// The pause before the second try was as long as the configuration says.
fn assert_pause(task: &Value, jump: i64) {
    let text = task["result"]["output"].as_str().unwrap();
    let times: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let pause = times[1] - times[0];
    println!("{jump:+}: the pause was {pause:.1} s");
    // At most half of it is chance; the restart of the daemon may come on top.
    assert!(
        (1.4..PATIENCE.as_secs_f64()).contains(&pause),
        "{jump:+}: {pause} s"
    );
}

/// On the build before retries waited by the steady clock, one was seen `scheduled` still after the clock was set
/// back. That housekeeping does not believe the wall clock was shown to fail in the simulation only.
#[test]
fn a_clock_that_is_set_moves_no_lease_and_no_pause() {
    let test = "a_clock_that_is_set_moves_no_lease_and_no_pause";
    let Some(library) = library() else {
        return skipped(test, "no libfaketime here (apt install faketime)");
    };
    for jump in JUMPS {
        let (mut daemon, clock, outside) = start(&library);
        let go = outside.path().join("go");
        let runs = daemon.submit_with(&json!({
            "content": format!("while ! test -e {}; do sleep 0.02; done; echo done", go.display()),
            "timeout_seconds": 60,
        }));
        // Its first try fails; the second comes after the pause. The bot's clock is right.
        let tries =
            "date +%s.%N >> $HOME/tried; test $(wc -l < $HOME/tried) = 2 && cat $HOME/tried";
        let retries = daemon.submit(tries);
        let ended = daemon.submit("echo ended");
        assert_eq!(daemon.wait_task(&ended, PATIENCE)["status"], "succeeded");
        // Waits for the bot's last place.
        let fill: Vec<String> = (0..3)
            .map(|_| {
                let wait = format!("while ! test -e {}; do sleep 0.02; done", go.display());
                daemon.submit(&wait)
            })
            .collect();
        let waits = daemon.submit("echo waited");
        wait_until(PATIENCE, "the first try has failed", || {
            (attempts(&get(&daemon, &retries)) == ["failed"]).then_some(())
        });
        let begun = Instant::now();
        clock.set(jump);
        wait_until(PATIENCE, "the daemon's clock is set", || {
            let status = daemon.get("/status").ok();
            let says = status["timestamp"].as_str()?.get(..10)?.to_owned();
            let now = deia::time::Timestamp::now();
            (!now.to_string().starts_with(&says)).then_some(())
        });
        // Another daemon begins with a round of housekeeping, on a clock that is wrong.
        daemon.kill9();
        daemon.restart();
        daemon.wait_bots(1);
        // Long enough for the watch over attempts.
        std::thread::sleep(Duration::from_secs(2));
        for id in [&runs, &waits].into_iter().chain(&fill) {
            let task = get(&daemon, id);
            assert!(
                ["running", "queued"].contains(&task["status"].as_str().unwrap()),
                "{jump:+}: {task}"
            );
        }
        assert_eq!(get(&daemon, &runs)["status"], "running", "{jump:+}");
        assert_eq!(get(&daemon, &ended)["status"], "succeeded", "{jump:+}");
        fs::write(&go, "").unwrap();
        let task = daemon.wait_task(&runs, PATIENCE);
        assert_eq!(attempts(&task), ["succeeded"], "{jump:+}: {task}");
        let retried = daemon.wait_task(&retries, PATIENCE);
        assert_eq!(
            attempts(&retried),
            ["failed", "succeeded"],
            "{jump:+}: {retried}"
        );
        println!(
            "{jump:+}: {:.1?} after the clock was set the second try has ended",
            begun.elapsed()
        );
        let task = daemon.wait_task(&waits, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{jump:+}: {task}");
        assert_pause(&retried, jump);
        // Once more with the clock as it was, and new work.
        clock.set(0);
        let id = daemon.submit("echo again");
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    }
}

/// Their time is what they were given. Shown to fail on a daemon that looks at the wall clock alone: both were expired,
/// unread.
#[test]
fn a_clock_that_is_set_forward_ends_no_message() {
    let test = "a_clock_that_is_set_forward_ends_no_message";
    let Some(library) = library() else {
        return skipped(test, "no libfaketime here (apt install faketime)");
    };
    let (mut daemon, clock, _outside) = start(&library);
    let send = |daemon: &Daemon, bot: &str, seconds: u64| {
        let body = json!({"to_bot": bot, "content": "x", "ttl_seconds": seconds});
        let answer = daemon.post("/api/messaging/send", &body).ok();
        answer["message_id"].as_str().unwrap().to_owned()
    };
    let count = |daemon: &Daemon, status: &str| {
        let found = daemon.get("/api/messaging/status").ok();
        found["status_breakdown"][status].as_u64().unwrap()
    };
    let delivered = send(&daemon, "sh", 3600);
    send(&daemon, "nobody", 3600);
    clock.set(JUMPS[0]);
    // One that is sent now has its own time, and ends with it; by then the others were looked at.
    let short = send(&daemon, "sh", 1);
    wait_until(PATIENCE, "the short one is over", || {
        (count(&daemon, "expired") == 1).then_some(())
    });
    daemon.kill9();
    daemon.restart();
    let inbox = daemon.get("/api/messaging/inbox?bot_id=sh").ok();
    let ids: Vec<&Value> = inbox["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["message_id"])
        .collect();
    assert_eq!(ids, [&json!(delivered)], "{inbox}");
    assert_eq!(
        (count(&daemon, "expired"), count(&daemon, "pending")),
        (1, 1)
    );
    for (id, read) in [(delivered, true), (short, false)] {
        let answer = daemon
            .post(&format!("/api/messaging/read/{id}"), &json!({}))
            .ok();
        assert_eq!(answer["success"], read, "{answer}");
    }
}

/// Shown to fail where the time is shown as it is kept, by a clock that is not set.
#[test]
fn when_a_task_is_tried_again_is_told_by_the_clock_that_people_see() {
    let test = "when_a_task_is_tried_again_is_told_by_the_clock_that_people_see";
    let Some(library) = library() else {
        return skipped(test, "no libfaketime here (apt install faketime)");
    };
    let (daemon, clock, _outside) = start(&library);
    clock.set(JUMPS[0]);
    wait_until(PATIENCE, "the step is seen", || {
        daemon
            .said()
            .contains("the host's clock was set")
            .then_some(())
    });
    let id = daemon.submit("exit 1");
    let due = wait_until(PATIENCE, "it is to be tried again", || {
        let task = get(&daemon, &id);
        (task["status"] == "scheduled").then(|| task["not_before"].as_str().unwrap().to_owned())
    });
    let due: Timestamp = due.parse().unwrap();
    let wait = due.seconds_since(Timestamp::now()) - JUMPS[0] as f64;
    assert!((-5.0..=5.0).contains(&wait), "{due}: {wait} s");
    let why = daemon.get(&format!("/api/tasks/{id}/explain")).ok();
    let listed = daemon.get("/api/tasks?limit=1").ok();
    assert_eq!(listed["tasks"][0]["not_before"], json!(due), "{listed}");
    let why = why["explanation"].as_str().unwrap();
    assert!(why.contains(&due.to_string()), "{why}");
}
