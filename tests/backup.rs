//! Backups: made, listed and verified as operators and programs do; and what is in one that was made under load.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

const CONFIG: &str = "bots:\n\
    - {name: echo, type: general, min: 1, max: 1, backend: {kind: echo}}\n\
    bot_limits: {min_bots: 1, max_bots: 1}\n";

fn start() -> Daemon {
    Daemon::builder().config(CONFIG).start()
}

fn events(daemon: &Daemon, event: &str) -> Vec<Value> {
    let log = daemon.read(".deia/bot-logs/disaster-recovery.jsonl");
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn a_backup_is_made_listed_and_verified() {
    let mut daemon = start();
    let id = daemon.submit("keep me");
    daemon.wait_task(&id, PATIENCE);
    let made = daemon
        .ctl(&["backup", "create", "--name", "first", "--json"])
        .ok()
        .stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let name = made["backup_id"].as_str().unwrap().to_owned();
    assert_eq!(made["backup"]["item_count"], 1, "{made}");
    let file = daemon.home().join(format!(".deia/backups/{name}.tar.gz"));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // By hand, with nothing of ours.
    let listed = Command::new("tar").arg("-tzf").arg(&file).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let members: Vec<&str> = listed.lines().collect();
    for member in ["manifest.json", "state/deia.db", "config/bot-config.yaml"] {
        assert!(members.contains(&member), "{members:?}");
    }
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(sum.split(' ').next().unwrap(), made["backup"]["checksum"]);

    let list = daemon.ctl(&["backup", "list"]).ok().stdout;
    assert!(list.contains(&name) && list.contains("first"), "{list}");
    let verified = daemon.ctl(&["backup", "verify"]).ok().stdout;
    assert!(verified.contains("is whole: 1 tasks"), "{verified}");
    daemon.ctl(&["backup", "verify", &name]).ok();
    daemon
        .ctl(&["backup", "verify", file.to_str().unwrap()])
        .ok();
    let unknown = daemon.ctl(&["backup", "verify", "state-2000-01-01-00-00-00"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    let status = daemon.ctl(&["backup", "status"]).ok().stdout;
    assert!(
        status.contains(&name) && status.contains("next backup     in "),
        "{status}"
    );
    wait_until(PATIENCE, "it is in the log", || {
        let all = ["backup_created", "backup_verified"];
        all.iter()
            .all(|event| !events(&daemon, event).is_empty())
            .then_some(())
    });

    // The history is what is in the folder: also after a restart, and of another's.
    assert!(daemon.terminate().success());
    let copy = daemon.home().join(".deia/backups/from-another-host.tar.gz");
    fs::copy(&file, copy).unwrap();
    let offline = daemon.ctl(&["backup", "list"]).ok().stdout;
    assert!(
        offline.contains(&name) && offline.contains("from-another-host"),
        "{offline}"
    );
    daemon.ctl(&["backup", "verify"]).ok();
    daemon.restart();
    let history = daemon.get("/api/disaster-recovery/backup-history").ok();
    assert_eq!(history["count"], 2, "{history}");
    let status = daemon.get("/api/disaster-recovery/status").ok();
    assert_eq!(
        (&status["total_backups"], &status["crash_detected"]),
        (&json!(2), &json!(false))
    );
}

#[test]
fn the_originals_routes_are_answered_from_real_backups() {
    let daemon = start();
    let base = "/api/disaster-recovery";
    let made = daemon.post(
        &format!("{base}/backup"),
        &json!({"backup_type": "QUEUE", "data": {"a": [1]}, "tags": {"who": "me"}}),
    );
    let made = made.ok();
    assert_eq!(made["success"], true);
    let id = made["backup_id"].as_str().unwrap();
    let history = daemon
        .get(&format!("{base}/backup-history?backup_type=queue&limit=5"))
        .ok();
    let meta = &history["backups"][0];
    assert_eq!(
        (&meta["backup_id"], &meta["source"]),
        (&json!(id), &json!("backup-queue")),
        "{history}"
    );
    assert_eq!(meta["tags"], json!({"who": "me"}));
    for field in [
        "backup_type",
        "timestamp",
        "size_bytes",
        "item_count",
        "checksum",
    ] {
        assert!(!meta[field].is_null(), "{field}: {meta}");
    }
    assert_eq!(
        daemon
            .get(&format!("{base}/backup-history?backup_type=registry"))
            .ok()["count"],
        0
    );
    let point = daemon
        .post(
            &format!("{base}/restore-point"),
            &json!({"description": "before the move", "manual": true}),
        )
        .ok();
    let point = point["restore_point_id"].as_str().unwrap();
    let view = daemon.get(&format!("{base}/restore-point/{point}")).ok();
    let details = &view["details"];
    assert_eq!(
        (&details["description"], &details["manual"]),
        (&json!("before the move"), &json!(true))
    );
    assert_eq!(
        (
            &details["backups"],
            &details["backup_details"][0]["backup_id"]
        ),
        (&json!([point]), &json!(point))
    );
    let missing = daemon.get(&format!("{base}/restore-point/nothing"));
    assert_eq!(
        (missing.status, &missing.body["error"]),
        (404, &json!("Restore point nothing not found"))
    );
    let status = daemon.get(&format!("{base}/status")).ok();
    assert_eq!(
        (&status["total_backups"], &status["total_restore_points"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (&status["latest_backup"], &status["latest_restore_point"]),
        (&json!(point), &json!(point))
    );
    assert_eq!(status["backups_by_type"], json!({"queue": 1, "full": 1}));
    let wrong = daemon.post(&format!("{base}/backup"), &json!({"data": [1]}));
    assert_eq!(wrong.status, 422, "{wrong:?}");
    // Over TCP it is an operator's matter.
    assert_eq!(
        daemon
            .tcp()
            .post(&format!("{base}/backup"), &json!({}))
            .status,
        403
    );
    assert_eq!(daemon.tcp().get(&format!("{base}/status")).status, 200);
}

#[test]
fn a_crash_is_told_from_a_stop_whatever_time_passes() {
    let mut daemon = start();
    let crash = |daemon: &Daemon| {
        daemon.get("/api/disaster-recovery/status").ok()["crash_detected"].clone()
    };
    assert_eq!(crash(&daemon), false, "the first start");
    daemon.kill9();
    daemon.restart();
    assert_eq!(crash(&daemon), true);
    assert!(daemon.terminate().success());
    let marker = daemon.home().join(".deia/state/shutdown.marker");
    let file = fs::File::options().write(true).open(&marker).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    daemon.restart();
    assert_eq!(crash(&daemon), false);
    // Killed at once after a clean stop.
    daemon.kill9();
    daemon.restart();
    assert_eq!(crash(&daemon), true);
    daemon
        .post("/api/disaster-recovery/mark-shutdown", &json!({}))
        .ok();
    daemon.kill9();
    daemon.restart();
    assert_eq!(crash(&daemon), false, "an operator had said so");
}

#[test]
fn what_is_run_after_a_backup_gets_its_file() {
    let home = tempfile::tempdir().unwrap();
    let copied = home.path().join("copies");
    fs::create_dir(&copied).unwrap();
    let config = format!(
        "{CONFIG}persistence: {{backup_after: [cp, -t, {}]}}\n",
        copied.display()
    );
    let daemon = Daemon::builder().config(&config).start();
    let made = daemon
        .post("/api/disaster-recovery/backup", &json!({}))
        .ok();
    let name = format!("{}.tar.gz", made["backup_id"].as_str().unwrap());
    wait_until(PATIENCE, "it was copied", || {
        (!events(&daemon, "backup_after_done").is_empty()).then_some(())
    });
    assert_eq!(
        fs::read(copied.join(&name)).unwrap(),
        fs::read(daemon.home().join(".deia/backups").join(&name)).unwrap()
    );
    daemon.write_config(&format!(
        "{CONFIG}persistence: {{backup_after: [/nowhere/at/all]}}\n"
    ));
    daemon.ctl(&["reload"]).ok();
    daemon
        .post("/api/disaster-recovery/backup", &json!({}))
        .ok();
    wait_until(PATIENCE, "it is said that it failed", || {
        (!events(&daemon, "backup_after_failed").is_empty()).then_some(())
    });
}
