//! Another release in place: the same process, nobody notices; and a release that is no good.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, Process, SetOnDrop, print_spread, size, wait_until};
use deia::client::raw::Connection;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const CONFIG: &str = "bots:\n\
    - {name: sh, type: general, min: 2, max: 2, max_concurrent_tasks: 2, \
        backend: {kind: command, argv: [sh, -c], input: argv}}\n\
    - {name: echo, type: general, min: 1, max: 1, backend: {kind: echo}}\n\
    bot_limits: {min_bots: 3, max_bots: 3}\n\
    feature_flags: {request_validation_enabled: false}\n\
    rate_limits: {requests_per_minute: 0}\n";

fn start() -> Daemon {
    start_with(&[])
}

fn start_with(environment: &[(&str, &str)]) -> Daemon {
    let config = CONFIG.replace("    bot_limits", "bot_limits");
    let config = config.replace("    feature_flags", "feature_flags");
    let mut builder = Daemon::builder().config(&config.replace("    rate_limits", "rate_limits"));
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let daemon = builder.start();
    daemon.wait_bots(3);
    daemon
}

fn last_upgrade(daemon: &Daemon) -> Value {
    daemon.get("/status").ok()["release"]["last_upgrade"].clone()
}

fn bot_pids(daemon: &Daemon) -> Vec<(String, u64)> {
    let bots = daemon.bots().into_iter();
    bots.filter_map(|bot| Some((bot["id"].as_str()?.to_owned(), bot["pid"].as_u64()?)))
        .collect()
}

/// The program, as another file.
fn another_release(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.home().join(name);
    fs::copy(common::deia_program(), &path).unwrap();
    path
}

/// A release that passes its self-check and then does this.
fn bad_release(daemon: &Daemon, run: &str) -> PathBuf {
    let real = common::deia_program().display().to_string();
    let path = daemon.home().join("bad-release");
    let script =
        format!("#!/bin/sh\ncase \"$1\" in\nself-check) exec {real} \"$@\";;\n*) {run};;\nesac\n");
    fs::write(&path, script.replace("REAL", &real)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn waiting(file: &Path, last: &str) -> String {
    let file = file.display();
    format!("echo first; while ! test -e {file}; do sleep 0.02; done; echo {last}")
}

#[track_caller]
fn wait_first_word(daemon: &Daemon, task: &str) {
    wait_until(PATIENCE, &format!("{task} is under way"), || {
        let output = daemon.get(&format!("/api/tasks/{task}/output")).ok();
        (output["output"] == "first\n").then_some(())
    });
}

/// Shown to fail on a daemon that does not hand its connections over (the idle ones see an end), on
/// one that does not take bots over (tasks are run twice), and on one that binds its sockets anew
/// (newcomers are refused for a moment).
#[test]
fn an_upgrade_under_load_is_noticed_by_nobody() {
    let daemon = start();
    let go = daemon.home().join("go");
    let long: Vec<String> = (0..4)
        .map(|n| {
            daemon
                .submit_with(&json!({"content": waiting(&go, &format!("last {n}")), "pool": "sh"}))
        })
        .collect();
    for id in &long {
        wait_first_word(&daemon, id);
    }
    let (pid, bots) = (daemon.pid(), bot_pids(&daemon));
    let over = AtomicBool::new(false);
    let (accepted, took) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let tcp = daemon.tcp();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (over, took, accepted, tcp, daemon) = (&over, &took, &accepted, &tcp, &daemon);
            scope.spawn(move || {
                // One connection that stays, and new ones, each of them asked without a second try.
                let mut stays: Connection = if n % 2 == 0 {
                    tcp.connect()
                } else {
                    daemon.admin().connect()
                };
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    let body =
                        json!({"content": format!("{n}.{number}"), "pool": "echo"}).to_string();
                    let mut fresh = tcp.connect();
                    for connection in [&mut stays, &mut fresh] {
                        let begun = Instant::now();
                        let answer = connection
                            .request("POST", "/api/orchestrate", &[], Some(body.as_bytes()))
                            .expect("every request is answered");
                        took.lock().unwrap().push(begun.elapsed());
                        let text = String::from_utf8_lossy(&answer.body).into_owned();
                        assert_eq!(answer.status, 200, "{text}");
                        let said: Value = serde_json::from_str(&text).unwrap();
                        accepted
                            .lock()
                            .unwrap()
                            .push(said["task_id"].as_str().unwrap().to_owned());
                    }
                }
            });
        }
        let _over = SetOnDrop(&over);
        let upgrades = size(3, 99);
        for n in 0..upgrades {
            std::thread::sleep(Duration::from_millis(100));
            match n % 3 {
                0 => {
                    let said = daemon.ctl(&["upgrade"]);
                    assert_eq!(said.code, 0, "{said:?}");
                }
                1 => {
                    let before = last_upgrade(&daemon)["upgrade_id"].clone();
                    daemon.signal(Signal::SIGUSR2);
                    wait_until(PATIENCE, "the signal's upgrade", || {
                        let last = last_upgrade(&daemon);
                        (last["upgrade_id"] != before && last["succeeded"] == true).then_some(())
                    });
                }
                _ => {
                    let path = another_release(&daemon, "other-release");
                    let said = daemon.ctl(&["upgrade", path.to_str().unwrap()]);
                    assert_eq!(said.code, 0, "{said:?}");
                }
            }
            assert_eq!(daemon.get("/status").ok()["pid"], pid);
        }
        std::thread::sleep(Duration::from_millis(100));
        wait_until(PATIENCE, "there was some load", || {
            (accepted.lock().unwrap().len() > 50).then_some(())
        });
    });
    // The ones at work were let alone, until they are idle and of another release.
    let now = bot_pids(&daemon);
    for (name, pid) in bots.iter().filter(|(name, _)| name.starts_with("sh")) {
        assert!(now.contains(&(name.clone(), *pid)), "{name}: {now:?}");
    }
    fs::write(&go, "").unwrap();
    for (n, id) in long.iter().enumerate() {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
        assert_eq!(task["result"]["output"], format!("first\nlast {n}\n"));
    }
    print_spread(
        "a request while releases change",
        took.into_inner().unwrap(),
    );
    let accepted = accepted.into_inner().unwrap();
    for id in &accepted {
        let task = daemon.wait_task(id, PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        let begun = task["attempts"].as_array().unwrap();
        let ran = begun.iter().filter(|attempt| attempt["status"] != "lost");
        assert_eq!(ran.count(), 1, "{task}");
    }
    // The third was of another file: its bots are rolled, one at a time, and it stays.
    wait_until(PATIENCE, "every bot runs the new release", || {
        let now = bot_pids(&daemon);
        let rolled = bots.iter().all(|bot| !now.contains(bot));
        (rolled && daemon.bots().iter().all(|bot| bot["actual"] == "ready")).then_some(())
    });
    let release = daemon.get("/status").ok()["release"].clone();
    assert_eq!(release["pinned"], true, "{release}");
    assert!(
        release["path"].as_str().unwrap().contains(".deia/releases"),
        "{release}"
    );
}

#[test]
fn what_is_no_release_is_refused_by_name_and_nothing_happens() {
    let daemon = start();
    let pid = daemon.pid();
    let bad = daemon.home().join("not-a-program");
    fs::write(&bad, "hello").unwrap();
    for (path, why) in [
        ("/bin/true", "no release of deia"),
        ("/nonexistent/deia", "can't be run"),
        (bad.to_str().unwrap(), "can't be run"),
    ] {
        let said = daemon.ctl(&["upgrade", path]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.stderr.contains(why) && said.stderr.contains(path),
            "{said:?}"
        );
    }
    let refused = daemon.tcp().request("POST", "/api/upgrade", &[], None);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(daemon.get("/status").ok()["pid"], pid);
    assert_eq!(last_upgrade(&daemon)["succeeded"], false);
}

/// Shown to fail on a daemon that just ends when what it became can't start.
#[test]
fn a_release_that_can_not_start_is_left_again_by_itself() {
    let daemon = start();
    let go = daemon.home().join("go");
    let id = daemon.submit_with(&json!({"content": waiting(&go, "last"), "pool": "sh"}));
    wait_first_word(&daemon, &id);
    let (pid, bots) = (daemon.pid(), bot_pids(&daemon));
    // An address that is not this host's.
    let bad = bad_release(&daemon, "exec REAL \"$@\" --listen 192.0.2.1:9");
    let said = daemon.ctl(&["upgrade", bad.to_str().unwrap()]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("192.0.2.1"), "{said:?}");
    assert_eq!(daemon.get("/status").ok()["pid"], pid);
    daemon.wait_bots(3);
    assert_eq!(bot_pids(&daemon), bots);
    fs::write(&go, "").unwrap();
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    assert_eq!(daemon.get("/status").ok()["release"]["pinned"], false);
}

/// Shown to fail without a guard.
#[test]
fn a_release_that_hangs_or_dies_is_left_by_the_guard_and_the_bots_stay() {
    for run in ["exec sleep 600", "exit 3"] {
        let mut daemon = start_with(&[("DEIA_UPGRADE_READY_SECONDS", "2")]);
        let go = daemon.home().join("go");
        let id = daemon.submit_with(&json!({"content": waiting(&go, "last"), "pool": "sh"}));
        wait_first_word(&daemon, &id);
        let (pid, bots) = (daemon.pid(), bot_pids(&daemon));
        let bad = bad_release(&daemon, run);
        let said = daemon.ctl(&["upgrade", bad.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{run}: {said:?}");
        assert!(said.stderr.contains("was left"), "{run}: {said:?}");
        // The guard is the daemon now, behind the same sockets.
        let status = daemon.get("/status").ok();
        assert_ne!(status["pid"], pid);
        daemon.wait_bots(3);
        assert_eq!(bot_pids(&daemon), bots, "{run}");
        fs::write(&go, "").unwrap();
        let task = daemon.wait_task(&id, PATIENCE);
        assert_eq!(
            task["attempts"].as_array().unwrap().len(),
            1,
            "{run}: {task}"
        );
        assert!(!daemon.wait_exit().success());
        let now = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
        let now = Process::of(now).expect("it runs");
        now.signal(Signal::SIGTERM);
        wait_until(PATIENCE, "it has stopped", || {
            (!now.is_alive()).then_some(())
        });
    }
}

/// Shown to fail on a daemon that does not note at its start how the attempt ended.
#[test]
fn a_release_that_died_before_it_was_ready_gives_way_at_the_next_start() {
    // As a service manager would have it: it starts the daemon again, by the same path.
    let mut daemon = start_with(&[("NOTIFY_SOCKET", "/nonexistent/notify")]);
    let bad = bad_release(&daemon, "exit 3");
    let said = daemon.post("/api/upgrade", &json!({"path": bad}));
    assert_eq!(said.status, 200, "{said:?}");
    assert!(!daemon.wait_exit().success());
    daemon.restart();
    let last = last_upgrade(&daemon);
    assert_eq!(last["succeeded"], false, "{last}");
    assert!(
        last["error"]
            .as_str()
            .unwrap()
            .contains("never became ready"),
        "{last}"
    );
    daemon.wait_bots(3);
}

/// Shown to fail on a start that does not become the pinned release.
#[test]
fn a_pinned_release_is_what_the_next_start_becomes_until_another_upgrade() {
    let mut daemon = start();
    let other = another_release(&daemon, "other");
    let said = daemon.ctl(&["upgrade", other.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(daemon.terminate().success());
    daemon.restart();
    let release = daemon.get("/status").ok()["release"].clone();
    assert_eq!(release["pinned"], true, "{release}");
    assert!(
        release["path"].as_str().unwrap().contains(".deia/releases"),
        "{release}"
    );
    // Back to what it is started by.
    let said = daemon.ctl(&["upgrade"]);
    assert_eq!(said.code, 0, "{said:?}");
    let release = daemon.get("/status").ok()["release"].clone();
    assert_eq!(release["pinned"], false, "{release}");
    assert!(
        !release["path"].as_str().unwrap().contains(".deia/releases"),
        "{release}"
    );
}

/// Shown to fail on a daemon that does not write down who was stopped.
#[test]
fn a_bot_that_an_operator_stopped_stays_stopped_whatever_happens_to_the_daemon() {
    let mut daemon = start();
    daemon.ctl(&["bot", "stop", "sh-2"]).ok();
    let is_stopped = |daemon: &Daemon| {
        let bot = daemon.get("/api/bots/sh-2").ok();
        (bot["actual"] == "stopped").then_some(bot)
    };
    wait_until(PATIENCE, "it is stopped", || is_stopped(&daemon));
    daemon.ctl(&["upgrade"]).ok();
    daemon.wait_bots(2);
    let bot = is_stopped(&daemon).expect("stopped after an upgrade");
    assert!(bot["explanation"].to_string().contains("operator"), "{bot}");
    daemon.kill9();
    daemon.restart();
    daemon.wait_bots(2);
    assert!(is_stopped(&daemon).is_some(), "stopped after a crash");
    daemon.ctl(&["bot", "start", "sh-2"]).ok();
    daemon.wait_bots(3);
    daemon.kill9();
    daemon.restart();
    daemon.wait_bots(3);
}

/// Shown to fail, at full size, on a daemon that does not pass on a stop which came between its main loop's
/// end and the exec; at the size of CI that moment may be missed.
#[test]
fn a_stop_that_meets_an_upgrade_is_a_stop() {
    let rounds = size(10, 150);
    for round in 0..rounds {
        let mut daemon = start();
        daemon.signal(Signal::SIGUSR2);
        let delay_ms = round * 300 / rounds;
        std::thread::sleep(Duration::from_millis(delay_ms));
        let status = daemon.terminate();
        assert!(
            status.success(),
            "after {delay_ms} ms: {status}: {}",
            daemon.said()
        );
    }
}

/// The first release, another one by `deiactl upgrade`, and the first again after a restart of the same file:
/// that one is no deployment.
#[test]
fn each_release_that_runs_is_a_deployment() {
    let mut daemon = start();
    let deployments = |daemon: &Daemon, count: usize| {
        wait_until(PATIENCE, "the deployment is written down", || {
            let listed = daemon.get("/api/deployments").ok();
            (listed["count"] == count).then(|| listed["deployments"].clone())
        })
    };
    let first = deployments(&daemon, 1)[0].clone();
    assert_eq!(
        (&first["how"], &first["previous_version"]),
        (&json!("start"), &Value::Null)
    );
    assert_eq!(first["configuration_sha256"].as_str().unwrap().len(), 64);

    let other = another_release(&daemon, "other");
    daemon.ctl(&["upgrade", other.to_str().unwrap()]).ok();
    let both = deployments(&daemon, 2);
    assert_eq!(both[1], first);
    assert_eq!(both[0]["how"], "upgrade");
    assert_eq!(both[0]["previous_release"], first["release"]);
    assert!(
        both[0]["by"].as_str().unwrap().starts_with("user:"),
        "{both}"
    );
    let kept = daemon
        .home()
        .join(".deia/releases")
        .join(first["release"].as_str().unwrap());
    assert!(kept.join("deia").is_file(), "{}", kept.display());

    daemon.kill9();
    daemon.restart();
    let table = daemon.ctl(&["deployments"]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("upgrade"), "{table}");
}
