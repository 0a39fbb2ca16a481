//! The fleet through `deiactl` and a real daemon with `echo` bots.

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::{Daemon, PATIENCE, deiactl, deiactl_command, processes_of, wait_until};
use serde_json::json;

const TWO_BOTS: &str = "bot_limits: {min_bots: 2, max_bots: 4}\n\
    bots: [{name: echo, type: general, min: 2, max: 4, backend: {kind: echo}}]\n";

#[test]
fn status_shows_the_daemon_its_bots_and_its_queue() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    daemon.wait_bots(2);
    let shown = daemon.ctl(&["status"]).ok().stdout;
    let home = daemon.home().to_str().unwrap();
    for part in [
        home,
        &format!("pid {}", daemon.pid()),
        "bot-config.yaml",
        "echo-2",
        "ready",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let status = daemon.ctl(&["status", "--json"]).ok().json();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["bots"].as_array().unwrap().len(), 2);
    let bots = daemon.ctl(&["bots", "--json"]).ok().json();
    assert_eq!(bots["count"], 2);
}

#[test]
fn the_daemon_is_found_by_home_socket_url_environment_and_directory() {
    let daemon = Daemon::builder().start();
    let elsewhere = tempfile::tempdir().unwrap();
    let home = daemon.home().to_str().unwrap();
    let socket = format!("{home}/.deia/run/admin.sock");
    let url = format!("http://127.0.0.1:{}", daemon.port());
    for flags in [["--home", home], ["--socket", &socket], ["--url", &url]] {
        let status = deiactl(
            elsewhere.path(),
            &[&flags[..], &["status", "--json"]].concat(),
        );
        assert_eq!(status.ok().json()["home"], home, "{flags:?}");
    }
    for (name, value) in [("DEIA_HOME", home), ("DEIA_SOCKET", &socket)] {
        let mut command = deiactl_command(elsewhere.path());
        let found = command.args(["status"]).env(name, value).output().unwrap();
        assert!(found.status.success(), "{name}");
    }
    deiactl(daemon.home(), &["status"]).ok();
}

#[test]
fn over_tcp_the_fleet_is_not_changed() {
    let daemon = Daemon::builder().start();
    let url = format!("http://127.0.0.1:{}", daemon.port());
    let refused = deiactl(daemon.home(), &["--url", &url, "scale", "--max", "1"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("admin.sock"), "{refused:?}");
}

#[test]
fn scale_sets_limits_that_the_fleet_follows_until_resume() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    daemon.wait_bots(2);
    daemon
        .ctl(&["scale", "--min", "3", "--max", "3", "--wait", "30"])
        .ok();
    daemon.wait_bots(3);
    let shown = daemon.ctl(&["scale"]).ok();
    assert!(shown.stdout.contains("3 to 3, set by hand"), "{shown:?}");
    daemon
        .ctl(&["scale", "--min", "1", "--max", "1", "--wait", "30"])
        .ok();
    daemon.wait_bots(1);
    daemon.ctl(&["resume", "--wait", "30"]).ok();
    daemon.wait_bots(2);
    let status = daemon.ctl(&["scale", "--json"]).ok().json();
    assert_eq!(status["override"], false, "{status}");
    assert_eq!(
        (&status["min_bots"], &status["max_bots"]),
        (&json!(2), &json!(4))
    );
}

#[test]
fn limits_that_contradict_are_refused() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    let refused = daemon.ctl(&["scale", "--min", "5", "--max", "1"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains('5') && refused.stderr.contains('1'),
        "{refused:?}"
    );
}

#[test]
fn drain_refuses_new_tasks_and_ends_every_bot() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    daemon.wait_bots(2);
    let pids = daemon.bot_pids();
    daemon.ctl(&["drain", "--wait", "30"]).ok();
    assert!(daemon.bot_pids().is_empty());
    let left = processes_of(daemon.home());
    assert!(
        left.iter().all(|process| !pids.contains(&process.pid)),
        "{left:?}"
    );

    let refused = daemon.ctl(&["submit", "too late"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let status = daemon.ctl(&["status"]).ok();
    assert!(status.stdout.contains("draining"), "{status:?}");

    daemon.ctl(&["resume", "--wait", "30"]).ok();
    daemon.ctl(&["submit", "again", "--wait", "30"]).ok();
}

#[test]
fn one_bot_is_stopped_started_and_restarted() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    daemon.wait_bots(2);
    let bot = |id: &str| daemon.get(&format!("/api/bots/{id}")).ok();
    let first = bot("echo-2")["pid"].clone();
    daemon.ctl(&["bot", "restart", "echo-2"]).ok();
    wait_until(PATIENCE, "the bot has another process", || {
        let now = bot("echo-2");
        (now["actual"] == "ready" && now["pid"] != first).then_some(())
    });
    daemon.ctl(&["bot", "stop", "echo-2"]).ok();
    wait_until(PATIENCE, "the bot is stopped", || {
        (bot("echo-2")["actual"] == "stopped").then_some(())
    });
    daemon.ctl(&["bot", "start", "echo-2"]).ok();
    daemon.wait_bots(2);
    let unknown = daemon.ctl(&["bot", "stop", "nobody"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.stderr.contains("nobody"), "{unknown:?}");
}

#[test]
fn a_changed_file_is_applied_on_reload_and_a_broken_one_refused() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    let http = "http: {listen: \"127.0.0.1:0\"}\n";
    daemon.write_config(&format!(
        "{}{http}",
        TWO_BOTS.replace("min_bots: 2", "min_bots: 3")
    ));
    let done = daemon.ctl(&["reload"]).ok();
    // The file may have been noticed before: then there is nothing left to change.
    let shown = daemon.ctl(&["config", "show", "bot_limits.min_bots"]).ok();
    assert_eq!(shown.stdout.trim(), "3", "{done:?}");
    daemon.wait_bots(3);

    daemon.write_config("bots: [\n");
    let refused = daemon.ctl(&["reload"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("bot-config.yaml"), "{refused:?}");
    let shown = daemon.ctl(&["config", "show", "bot_limits.min_bots"]).ok();
    assert_eq!(shown.stdout.trim(), "3");
}

#[test]
fn the_configuration_in_force_is_shown() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    let shown = daemon.ctl(&["config", "show"]).ok();
    assert!(shown.stdout.contains("bot_limits:"), "{shown:?}");
    for said in [
        "max_bots: 4  # default: 10",
        "otlp_endpoint: null  # no effect yet",
        "port_range_start: 8001  # no effect:",
    ] {
        assert!(shown.stdout.contains(said), "{said}: {shown:?}");
    }
    let json = daemon.ctl(&["config", "show", "--json"]).ok().json();
    assert_eq!(json["bot_limits"]["max_bots"], 4);
    assert_eq!(daemon.ctl(&["config", "show", "no.such"]).code, 1);
}

#[test]
fn the_log_is_shown_and_followed() {
    let daemon = Daemon::builder().config(TWO_BOTS).start();
    daemon.wait_bots(2);
    wait_until(PATIENCE, "the log is written", || {
        let shown = daemon.ctl(&["logs"]).ok().stdout;
        // Bots may be ready before the daemon is.
        let all = ["config_loaded", "bot_ready", "deia is ready"];
        all.iter().all(|line| shown.contains(line)).then_some(())
    });
    let one = daemon.ctl(&["logs", "--bot", "echo-2", "--json"]).ok();
    assert!(one.stdout.lines().count() > 0);
    for line in one.stdout.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["event"].is_string(), "{entry}");
    }

    let mut following = daemon
        .ctl_command(&["logs", "--follow", "--lines", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(following.stdout.take().unwrap()).lines();
    // It may need a moment before it follows: what is asked here is repeated until it is seen.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                daemon.ctl(&["bot", "restart", "echo-2"]);
                std::thread::sleep(std::time::Duration::from_millis(500));
            }
        });
        let seen = lines
            .map_while(Result::ok)
            .any(|line| line.contains("echo-2"));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(seen);
    });
    following.kill().unwrap();
    following.wait().unwrap();
}

#[test]
fn a_daemon_stops_with_its_bots_and_starts_again_on_its_home() {
    let mut daemon = Daemon::builder().config(TWO_BOTS).start();
    daemon.wait_bots(2);
    let id = daemon.submit("before");
    daemon.wait_task(&id, PATIENCE);
    let status = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", daemon.said());
    let left = processes_of(daemon.home());
    assert!(left.is_empty(), "{left:?}");
    let unreachable = daemon.ctl(&["status"]);
    assert_eq!(unreachable.code, 3, "{unreachable:?}");

    daemon.restart();
    let task = daemon.ctl(&["task", "show", &id, "--json"]).ok().json();
    assert_eq!(task["status"], "succeeded");
}
