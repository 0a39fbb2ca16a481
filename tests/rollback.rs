//! Going back to an earlier release with the state of a backup, with real releases and real backups.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use common::{Daemon, PATIENCE, size, skipped, wait_until};
use deia::failpoint::VARIABLE;
use serde_json::{Value, json};

const CONFIG: &str = "\
bots:
- {name: echo, min: 2, max: 2, backend: {kind: echo}}
bot_limits: {min_bots: 2, max_bots: 2}
rate_limits: {requests_per_minute: 0}
";

fn start() -> Daemon {
    let daemon = Daemon::builder().config(CONFIG).start();
    daemon.wait_bots(2);
    daemon
}

/// Goes over to another release, the same program as another file, and waits until it is written down.
#[track_caller]
fn upgrade_to(daemon: &Daemon, arguments: &[&str]) {
    let known = deployments(daemon).len();
    daemon.ctl(&[&["upgrade"], arguments].concat()).ok();
    wait_until(PATIENCE, "the other release is written down", || {
        (deployments(daemon).len() > known).then_some(())
    });
}

/// An older release runs; the daemon is started by the path of the newer one.
#[track_caller]
fn older(daemon: &Daemon) {
    await_first_deployment(daemon);
    let path = daemon.home().join("older");
    fs::copy(common::deia_program(), &path).unwrap();
    upgrade_to(daemon, &[path.to_str().unwrap()]);
}

/// The newer one, as after the installation of a package.
#[track_caller]
fn newer(daemon: &Daemon) {
    upgrade_to(daemon, &[]);
}

#[track_caller]
fn deployments(daemon: &Daemon) -> Vec<Value> {
    let listed = daemon.get("/api/deployments").ok();
    listed["deployments"].as_array().unwrap().clone()
}

/// A task that has run.
#[track_caller]
fn done(daemon: &Daemon, text: &str) -> String {
    let id = daemon.submit(text);
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "succeeded", "{task}");
    id
}

#[track_caller]
fn await_first_deployment(daemon: &Daemon) {
    wait_until(PATIENCE, "the first release is written down", || {
        (deployments(daemon).len() == 1).then_some(())
    });
}

#[test]
fn it_goes_back_to_the_release_and_the_state_from_before_and_stays() {
    let mut daemon = start();
    older(&daemon);
    let before = done(&daemon, "from before");
    daemon.ctl(&["backup", "create"]).ok();
    newer(&daemon);
    let after = done(&daemon, "from after");
    let pid = daemon.pid();

    // A question changes nothing.
    let plan = daemon.ctl(&["--json", "rollback", "--dry-run"]).ok().json();
    assert_eq!(plan["rollback"]["tasks_dropped"], 1, "{plan}");
    assert_eq!(daemon.get("/api/rollback").ok()["rollback"], Value::Null);

    let ended = daemon.ctl(&["--json", "rollback", "--yes"]).ok().json();
    assert_eq!(ended["step"], "done", "{ended}");
    let [_, new, old, _] = &deployments(&daemon)[..] else {
        panic!("{:?}", deployments(&daemon));
    };
    assert_eq!(ended["to_release"], old["release"]);
    assert_eq!(ended["from_release"], new["release"]);
    println!(
        "rollback: RTO {} s, RPO {} s",
        ended["rto_seconds"], ended["rpo_seconds"]
    );
    let steps: Vec<&str> = ended["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps,
        ["draining", "restoring", "starting", "checking", "done"]
    );
    assert_eq!(daemon.pid(), pid, "the same process");

    // The state is the backup's, and work goes on.
    assert_eq!(
        daemon.get(&format!("/api/tasks/{before}")).ok()["result"]["output"],
        "from before"
    );
    assert_eq!(daemon.get(&format!("/api/tasks/{after}")).status, 404);
    done(&daemon, "afterwards");
    let newest = &deployments(&daemon)[0];
    assert_eq!(
        (&newest["how"], &newest["release"]),
        (&json!("rollback"), &old["release"])
    );

    // It stays, also after a kill, though the daemon is started by the newer one's path.
    daemon.kill9();
    daemon.restart();
    daemon.wait_bots(2);
    assert_eq!(release_that_runs(&daemon), old["release"].as_str().unwrap());
    assert_eq!(deployments(&daemon).len(), 4);
    let audit = daemon.ctl(&["--json", "audit", "verify"]).ok().json();
    assert_eq!(audit["verified"], true, "{audit}");
}

#[test]
fn the_release_alone_goes_back_and_the_state_stays() {
    let daemon = start();
    older(&daemon);
    newer(&daemon);
    let kept = done(&daemon, "kept");
    let ended = daemon
        .ctl(&["--json", "rollback", "--keep-state"])
        .ok()
        .json();
    assert_eq!(
        (&ended["step"], &ended["rpo_seconds"]),
        (&json!("done"), &json!(0.0)),
        "{ended}"
    );
    assert_eq!(
        daemon.get(&format!("/api/tasks/{kept}")).ok()["status"],
        "succeeded"
    );
    done(&daemon, "afterwards");
}

#[test]
fn what_there_is_nothing_to_go_back_to_is_said_and_nothing_happens() {
    let daemon = start();
    await_first_deployment(&daemon);
    let said = daemon.ctl(&["rollback", "--yes"]);
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains("no other release has run here"),
        "{}",
        said.stderr
    );
    older(&daemon);
    newer(&daemon);
    let said = daemon.ctl(&["rollback", "--yes"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("--keep-state"), "{}", said.stderr);
    let said = daemon.ctl(&["rollback", "--yes", "--version", "9.9"]);
    assert!(
        said.stderr.contains("deiactl deployments"),
        "{}",
        said.stderr
    );
    done(&daemon, "it goes on");
}

/// Killed at each step, by the daemon that is left or by the one that comes: the next start goes on, and it comes to
/// its end.
#[test]
fn whatever_it_is_killed_at_it_comes_to_its_end() {
    let test = "whatever_it_is_killed_at_it_comes_to_its_end";
    if !cfg!(debug_assertions) {
        return skipped(test, "a release has no failpoints: without --release");
    }
    let mut points = vec![
        ("rollback.drained".to_owned(), 1),
        ("restore.staged".to_owned(), 1),
        ("restore.swapped".to_owned(), 1),
        ("upgrade.noted".to_owned(), 1),
        ("upgrade.guarded".to_owned(), 1),
        ("rollback.checking".to_owned(), 1),
    ];
    for nth in 1..=2 {
        points.push(("durable.written/rollback.json".to_owned(), nth));
        points.push(("durable.renamed/rollback.json".to_owned(), nth));
    }
    // Half of them in a run of the whole suite.
    let points: Vec<_> = points
        .into_iter()
        .step_by(usize::try_from(size(2, 1)).unwrap())
        .collect();
    let mut ends = Vec::new();
    for (point, nth) in &points {
        // As under a service manager, which starts the daemon again.
        let builder = Daemon::builder().config(CONFIG);
        let mut daemon = builder.env("NOTIFY_SOCKET", "/nonexistent/notify").start();
        daemon.wait_bots(2);
        older(&daemon);
        let before = done(&daemon, "from before");
        daemon.ctl(&["backup", "create"]).ok();
        newer(&daemon);
        done(&daemon, "from after");
        let to = deployments(&daemon)[1]["release"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(daemon.terminate().success());
        daemon.set_env(VARIABLE, Some(&format!("{point}:{nth}")));
        daemon.restart();
        daemon.wait_bots(2);
        // It may die before it answers.
        let _ = daemon
            .admin()
            .try_request("POST", "/api/rollback", &[], None);
        let status = wait_until(PATIENCE, &format!("{point}:{nth} is passed"), || {
            daemon.ended()
        });
        assert_eq!(
            status.signal(),
            Some(9),
            "{point}:{nth}: {status}\n{}",
            daemon.said()
        );
        daemon.set_env(VARIABLE, None);
        daemon.launch();
        daemon.await_launched();
        let begun = daemon.get("/api/rollback").ok()["rollback"].clone();
        if begun.is_null() {
            assert_eq!(point, "durable.written/rollback.json", "it was forgotten");
            continue;
        }
        let ended = wait_until(PATIENCE, &format!("{point}:{nth}: it ends"), || {
            let state = daemon
                .admin()
                .try_request("GET", "/api/rollback", &[], None)
                .ok()?;
            let rollback = (state.status == 200).then(|| state.ok())?["rollback"].clone();
            rollback["ended_at"].is_string().then_some(rollback)
        });
        assert_eq!(ended["step"], "done", "{point}:{nth}: {ended}");
        assert_eq!(release_that_runs(&daemon), to, "{point}:{nth}");
        assert_eq!(
            daemon.get(&format!("/api/tasks/{before}")).ok()["result"]["output"],
            "from before"
        );
        assert_eq!(
            daemon.get("/api/tasks").ok()["tasks"]
                .as_array()
                .unwrap()
                .len(),
            1,
            "{point}:{nth}"
        );
        done(&daemon, "afterwards");
        ends.push(ended["rto_seconds"].as_f64().unwrap());
    }
    println!(
        "{} kills, each came to its end; RTO with the kill, s: {ends:.1?}",
        points.len()
    );
}

/// The name of the release whose program this daemon is.
#[track_caller]
fn release_that_runs(daemon: &Daemon) -> String {
    let status = daemon.get("/status").ok();
    let path = status["release"]["path"].as_str().unwrap();
    let kept = std::path::Path::new(path).parent().unwrap();
    kept.file_name().unwrap().to_str().unwrap().to_owned()
}

/// With nobody to ask: `deiactl` does it itself, and the next daemon is the earlier release.
#[test]
fn without_a_daemon_it_goes_back_too() {
    let mut daemon = start();
    older(&daemon);
    let before = done(&daemon, "from before");
    daemon.ctl(&["backup", "create"]).ok();
    newer(&daemon);
    let after = done(&daemon, "from after");
    let to = deployments(&daemon)[1]["release"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(daemon.terminate().success());
    let said = daemon.ctl(&["--json", "rollback", "--yes"]).ok().json();
    assert_eq!(
        (&said["to_release"], &said["tasks_dropped"]),
        (&json!(to), &json!(1)),
        "{said}"
    );
    daemon.restart();
    daemon.wait_bots(2);
    let ended = daemon.ctl(&["--json", "rollback", "--status"]).ok().json();
    assert_eq!(ended["step"], "done", "{ended}");
    assert_eq!(release_that_runs(&daemon), to);
    assert_eq!(
        daemon.get(&format!("/api/tasks/{before}")).ok()["result"]["output"],
        "from before"
    );
    assert_eq!(daemon.get(&format!("/api/tasks/{after}")).status, 404);
    done(&daemon, "afterwards");
}

/// The store is damaged under the new release: one `deiactl rollback` ends it, and what it is killed at does not matter.
#[test]
fn in_recovery_mode_it_goes_back_too() {
    let mut points = vec![None];
    if cfg!(debug_assertions) {
        let all = [
            "durable.renamed/rollback.json:1",
            "restore.staged:1",
            "durable.renamed/restore.json:1",
            "durable.renamed/ledger.json:1",
            "restore.swapped:1",
        ];
        // Half of them in a run of the whole suite.
        let step = usize::try_from(size(2, 1)).unwrap();
        points.extend(all.into_iter().step_by(step).map(Some));
    }
    for point in points {
        // As under a service manager, which starts the daemon again.
        let builder = Daemon::builder().config(CONFIG);
        let mut daemon = builder.env("NOTIFY_SOCKET", "/nonexistent/notify").start();
        daemon.wait_bots(2);
        older(&daemon);
        let before = done(&daemon, "from before");
        daemon.ctl(&["backup", "create"]).ok();
        newer(&daemon);
        let after = done(&daemon, "from after");
        let to = deployments(&daemon)[1]["release"].clone();
        assert!(daemon.terminate().success());
        fs::write(daemon.home().join(".deia/state/deia.db"), "no store").unwrap();

        daemon.set_env(VARIABLE, point);
        daemon.launch();
        in_recovery(&daemon);
        let plan = daemon.ctl(&["--json", "rollback", "--dry-run"]).ok().json();
        assert_eq!(plan["rollback"]["to_release"], to, "{plan}");
        // A question changes nothing.
        in_recovery(&daemon);
        if let Some(point) = point {
            let _ = daemon
                .admin()
                .try_request("POST", "/api/rollback", &[], None);
            let status = wait_until(PATIENCE, &format!("{point} is passed"), || daemon.ended());
            assert_eq!(status.signal(), Some(9), "{point}: {status}");
            daemon.set_env(VARIABLE, None);
            daemon.launch();
            // It goes on, or is where it was: then it is asked for once more.
            wait_until(PATIENCE, "an answer", || {
                let health = daemon.admin().try_request("GET", "/health", &[], None);
                let health = health.ok()?;
                (health.status == 200 || is_in_recovery(&health.body)).then_some(())
            });
            if is_in_recovery(&daemon.get("/health").body) {
                daemon.ctl(&["rollback", "--yes"]).ok();
            }
        } else {
            daemon.ctl(&["rollback", "--yes"]).ok();
        }
        daemon.await_launched();
        let ended = daemon.ctl(&["--json", "rollback", "--status"]).ok().json();
        assert_eq!(ended["step"], "done", "{point:?}: {ended}");
        daemon.wait_bots(2);
        assert_eq!(json!(release_that_runs(&daemon)), to, "{point:?}");
        let task = daemon.get(&format!("/api/tasks/{before}")).ok();
        assert_eq!(task["result"]["output"], "from before");
        assert_eq!(daemon.get(&format!("/api/tasks/{after}")).status, 404);
        done(&daemon, "afterwards");
        assert_eq!(deployments(&daemon)[0]["how"], "rollback", "{point:?}");
        let audit = daemon.ctl(&["--json", "audit", "verify"]).ok().json();
        assert_eq!(audit["verified"], true, "{point:?}: {audit}");
    }
}

fn is_in_recovery(health: &Value) -> bool {
    let reason = health["reasons"][0].as_str().unwrap_or_default();
    reason.starts_with("recovery mode")
}

#[track_caller]
fn in_recovery(daemon: &Daemon) {
    wait_until(PATIENCE, "recovery mode", || {
        let answer = daemon.admin().try_request("GET", "/health", &[], None);
        is_in_recovery(&answer.ok()?.body).then_some(())
    });
}
