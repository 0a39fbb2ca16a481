//! Restores: what comes back is what was backed up, whoever is killed on the way; and a store that can't be used.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, SetOnDrop, nothing_left_over, size, skipped, wait_until};
use deia::failpoint::{DURABLE, NAMES, VARIABLE};
use serde_json::{Value, json};

const CONFIG: &str = "bots:\n\
    - {name: echo, type: general, min: 1, max: 1, backend: {kind: echo}}\n\
    bot_limits: {min_bots: 1, max_bots: 1}\n\
    supervision: {stop_timeout_seconds: 2}\n\
    http: {listen: \"127.0.0.1:0\"}\n";

const STATUS: &str = "/api/disaster-recovery/status";

fn start() -> Daemon {
    Daemon::builder().config(CONFIG).start()
}

fn done(daemon: &Daemon, id: &str) {
    daemon.submit_with(&json!({"content": id, "task_id": id}));
    daemon.wait_task(id, PATIENCE);
}

fn backup(daemon: &Daemon) -> String {
    let made = daemon
        .post("/api/disaster-recovery/backup", &json!({}))
        .ok();
    made["backup_id"].as_str().unwrap().to_owned()
}

/// The names of all tasks.
fn tasks(daemon: &Daemon) -> BTreeSet<String> {
    let (mut all, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = daemon.get(&format!("/api/tasks?limit=1000{cursor}")).ok();
        for task in page["tasks"].as_array().unwrap() {
            assert!(
                all.insert(task["task_id"].as_str().unwrap().to_owned()),
                "twice: {task}"
            );
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn last_restore(daemon: &Daemon) -> Value {
    daemon.get(STATUS).ok()["last_restore"].clone()
}

/// How the last restore went, once it is over.
fn restored(daemon: &Daemon) -> Value {
    wait_until(PATIENCE, "the restore is over", || {
        let restore = last_restore(daemon);
        (!restore["succeeded"].is_null()).then_some(restore)
    })
}

fn nothing_staged(home: &Path) {
    let state = fs::read_dir(home.join(".deia/state")).unwrap().flatten();
    let staged: Vec<_> = state
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with("restoring-"))
        .collect();
    assert!(staged.is_empty(), "{staged:?}");
}

fn archive(daemon: &Daemon, id: &str) -> PathBuf {
    daemon.home().join(format!(".deia/backups/{id}.tar.gz"))
}

#[test]
fn a_restore_brings_back_what_was_there_and_can_be_undone() {
    let mut daemon = start();
    done(&daemon, "before");
    let id = backup(&daemon);
    done(&daemon, "after");
    let pid = daemon.pid();

    let tried = daemon
        .ctl(&["restore", &id, "--dry-run", "--json"])
        .ok()
        .stdout;
    let tried: Value = serde_json::from_str(&tried).unwrap();
    assert_eq!(tried["plan"]["tasks_dropped"], 1, "{tried}");
    assert_eq!(tried["plan"]["tasks_run_again"], 0, "{tried}");
    assert_eq!(tasks(&daemon), set(&["before", "after"]));
    nothing_staged(daemon.home());

    let said = daemon.ctl(&["restore", &id, "--yes"]).ok().stdout;
    assert!(
        said.contains("tasks dropped    1") && said.contains("the fleet goes on"),
        "{said}"
    );
    assert_eq!(daemon.pid(), pid, "the same process");
    assert_eq!(daemon.get("/status").ok()["pid"], pid);
    assert_eq!(tasks(&daemon), set(&["before"]));
    let restore = last_restore(&daemon);
    assert_eq!(restore["succeeded"], true, "{restore}");
    // Who asked, from before; how it went; and the trail of both is one.
    let trail = daemon.get("/api/audit/query?action=backup_restored").ok();
    let about: Vec<_> = trail["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                &entry["details"]["what"],
                &entry["result"],
                &entry["target"],
            )
        })
        .collect();
    let expected = [
        (&json!("restore ended"), &json!("success"), &json!(id)),
        (&json!("restore begins"), &json!("partial"), &json!(id)),
    ];
    assert_eq!(about, expected, "{trail}");
    assert_eq!(trail["entries"][0]["actor"], "daemon", "{trail}");
    assert_ne!(trail["entries"][1]["actor"], "daemon", "{trail}");
    assert_eq!(daemon.get("/api/audit/verify").ok()["verified"], true);
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
    daemon.wait_bots(1);
    done(&daemon, "after-the-restore");
    // What was there is there twice: as a backup, and as it was.
    let history = daemon.get("/api/disaster-recovery/backup-history").ok();
    assert_eq!(history["backups"][0]["kind"], "before_restore", "{history}");

    daemon.ctl(&["restore", "--undo", "--yes"]).ok();
    assert_eq!(tasks(&daemon), set(&["before", "after"]));
    done(&daemon, "after-the-undo");
    nothing_staged(daemon.home());
    assert!(daemon.terminate().success());
    daemon.restart();
    assert_eq!(tasks(&daemon), set(&["before", "after", "after-the-undo"]));
}

#[test]
fn what_runs_is_stopped_and_what_ended_since_runs_again() {
    let config = CONFIG.replace(
        "{kind: echo}",
        "{kind: command, argv: [sh, -c], input: argv}",
    );
    let config = format!("{config}feature_flags: {{request_validation_enabled: false}}\n");
    let daemon = Daemon::builder().config(&config).start();
    let gate = daemon.home().join("gate");
    let wait = format!(
        "while ! test -e {}; do sleep 0.02; done; echo done",
        gate.display()
    );
    daemon.submit_with(&json!({"content": wait, "task_id": "waits"}));
    wait_until(PATIENCE, "it runs", || {
        (daemon.get("/api/tasks/waits").ok()["status"] == "running").then_some(())
    });
    let id = backup(&daemon);
    fs::write(&gate, "").unwrap();
    assert_eq!(daemon.wait_task("waits", PATIENCE)["status"], "succeeded");
    fs::remove_file(&gate).unwrap();
    daemon.submit_with(&json!({"content": "sleep 100", "task_id": "is-stopped"}));
    let plan = daemon
        .post(
            &format!("/api/disaster-recovery/restore/{id}?dry_run=true"),
            &json!({}),
        )
        .ok();
    assert_eq!(
        (
            &plan["plan"]["tasks_run_again"],
            &plan["plan"]["tasks_dropped"]
        ),
        (&json!(1), &json!(1)),
        "{plan}"
    );
    daemon.ctl(&["restore", &id, "--yes"]).ok();
    assert_eq!(tasks(&daemon), set(&["waits"]));
    fs::write(&gate, "").unwrap();
    assert_eq!(daemon.wait_task("waits", PATIENCE)["status"], "succeeded");
}

/// A ledger outside: what was acknowledged before the backup was asked for is in it, what was submitted after its
/// answer is not, and the whole can be restored on a home that never had a daemon.
#[test]
fn a_backup_under_load_is_a_moment_and_comes_back_on_a_clean_home() {
    let daemon = start();
    let acknowledged = Mutex::new(Vec::new());
    let (over, number) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let mut backups = Vec::new();
    std::thread::scope(|scope| {
        let _over = SetOnDrop(&over);
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let id = format!("t{}", number.fetch_add(1, Ordering::Relaxed));
                    let begun = Instant::now();
                    daemon.submit_with(&json!({"content": "x", "task_id": id}));
                    acknowledged
                        .lock()
                        .unwrap()
                        .push((id, begun, Instant::now()));
                }
            });
        }
        for _ in 0..size(2, 20) {
            std::thread::sleep(Duration::from_millis(400));
            let begun = Instant::now();
            let id = backup(&daemon);
            backups.push((id, begun, Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(200));
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    for (id, begun, ended) in backups {
        let clean = Daemon::builder().prepare();
        fs::remove_file(clean.home().join("bot-config.yaml")).unwrap();
        let file = archive(&daemon, &id);
        let said = clean
            .ctl(&["restore", file.to_str().unwrap(), "--yes", "--json"])
            .ok();
        let answer: Value = serde_json::from_str(&said.stdout).unwrap();
        let count = answer["plan"]["backup"]["item_count"].as_u64().unwrap();
        let mut clean = clean;
        clean.launch();
        clean.await_launched();
        let there = tasks(&clean);
        assert_eq!(there.len() as u64, count);
        let config = clean.read(".deia/config/bot-config.yaml");
        assert!(config.contains("kind: echo"), "{config}");
        let (mut before, mut after) = (0, 0);
        for (task, sent, answered) in &acknowledged {
            if *answered < begun {
                assert!(there.contains(task), "{task} was acknowledged before {id}");
                before += 1;
            } else if *sent > ended {
                assert!(!there.contains(task), "{task} came after {id}");
                after += 1;
            }
        }
        assert!(before > 0 && after > 0, "{before} {after}");
        println!(
            "{id}: {} tasks, {before} surely before, {after} surely after",
            there.len()
        );
        assert_eq!(restored(&clean)["succeeded"], true);
        wait_until(PATIENCE, "what waited is done", || {
            (clean.get("/status").ok()["queue"]["queued"] == 0).then_some(())
        });
    }
}

/// Every step of a restore: the next start has the old state or the new one, nobody has to help, and nothing is left over.
#[test]
fn killed_at_each_step_of_a_restore_the_state_is_the_old_or_the_new_one() {
    let test = "killed_at_each_step_of_a_restore_the_state_is_the_old_or_the_new_one";
    if !cfg!(debug_assertions) {
        return skipped(test, "a release has no failpoints: without --release");
    }
    let steps = NAMES.iter().filter(|name| name.starts_with("restore."));
    let mut points: Vec<(String, u32)> = steps.map(|name| ((*name).to_owned(), 1)).collect();
    // Written when it is noted, carried, swapped, finished.
    for step in DURABLE {
        points.extend((1..=3).map(|nth| (format!("{step}/restore.json"), nth)));
    }
    let (mut old, mut new) = (0, 0);
    let mut daemon = start();
    done(&daemon, "before");
    let id = backup(&daemon);
    let mut number = 0;
    for round in 0..size(1, 20) {
        for (point, nth) in &points {
            number += 1;
            let after = format!("after-{number}");
            assert!(daemon.terminate().success());
            daemon.set_env(VARIABLE, Some(&format!("{point}:{nth}")));
            daemon.restart();
            done(&daemon, &after);
            let before = tasks(&daemon);
            let path = format!("/api/disaster-recovery/restore/{id}");
            // It may die before it answers.
            let _ = daemon.admin().try_request("POST", &path, &[], None);
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
            let now = tasks(&daemon);
            if now == before {
                old += 1;
                // Noted is done: it must not be lost.
                assert!(
                    [
                        "restore.extracted",
                        "restore.staged",
                        "durable.written/restore.json",
                        "durable.synced/restore.json"
                    ]
                    .contains(&point.as_str()),
                    "{point}:{nth} of round {round}: the old state"
                );
            } else {
                assert_eq!(
                    now,
                    set(&["before"]),
                    "{point}:{nth}: neither the old nor the new state"
                );
                wait_until(PATIENCE, "its checks pass", || {
                    (last_restore(&daemon)["succeeded"] == true).then_some(())
                });
                new += 1;
            }
            daemon.wait_bots(1);
            assert_eq!(daemon.get("/health").ok()["status"], "ok", "{point}:{nth}");
            nothing_staged(daemon.home());
            nothing_left_over(daemon.home());
        }
    }
    println!("{number} kills: {old} times the old state, {new} times the new one");
    assert!(old > 0 && new > 0);
}

fn damaged(daemon: &Daemon) -> Vec<u8> {
    let store = daemon.home().join(".deia/state/deia.db");
    let mut bytes = fs::read(&store).unwrap();
    for byte in bytes.iter_mut().skip(4096).take(4096) {
        *byte ^= 0x55;
    }
    fs::write(&store, &bytes).unwrap();
    bytes
}

fn in_recovery(daemon: &mut Daemon) {
    daemon.launch();
    wait_until(PATIENCE, "recovery mode", || {
        let answer = daemon
            .admin()
            .try_request("GET", "/health", &[], None)
            .ok()?;
        (answer.status == 503).then_some(())
    });
}

#[test]
fn a_damaged_store_is_left_as_it_is_until_a_backup_is_restored() {
    let mut daemon = start();
    done(&daemon, "kept");
    let id = backup(&daemon);
    assert!(daemon.terminate().success());
    let bytes = damaged(&daemon);
    in_recovery(&mut daemon);
    let health = daemon.get("/health");
    assert!(
        health.body["reasons"][0]
            .as_str()
            .unwrap()
            .contains("deia.db"),
        "{health:?}"
    );
    assert_eq!(daemon.get("/health/live").status, 200);
    assert_eq!(daemon.get("/health/ready").status, 503);
    let refused = daemon.post("/api/orchestrate", &json!({"content": "x"}));
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("recovery_mode"))
    );
    assert_eq!(daemon.get("/status").status, 503);
    assert!(daemon.ctl(&["backup", "list"]).ok().stdout.contains(&id));
    daemon.ctl(&["backup", "verify", &id]).ok();
    assert!(
        daemon
            .ctl(&["backup", "status"])
            .ok()
            .stdout
            .contains("RECOVERY MODE")
    );
    daemon.ctl(&["restore", &id, "--dry-run"]).ok();
    let store = daemon.home().join(".deia/state/deia.db");
    assert_eq!(fs::read(&store).unwrap(), bytes, "nothing was changed");
    daemon.ctl(&["restore", &id, "--yes"]).ok();
    daemon.await_answer();
    assert_eq!(tasks(&daemon), set(&["kept"]));
    done(&daemon, "and-it-works");
    // The damaged one is kept, as it was.
    let kept = last_restore(&daemon)["old_state"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(fs::read(Path::new(&kept).join("deia.db")).unwrap(), bytes);
}

#[test]
fn without_a_daemon_a_damaged_store_is_restored_too() {
    let mut daemon = start();
    done(&daemon, "kept");
    let id = backup(&daemon);
    daemon.kill9();
    fs::write(daemon.home().join(".deia/state/deia.db"), "no store").unwrap();
    let _ = fs::remove_file(daemon.home().join(".deia/state/deia.db-wal"));
    assert!(daemon.ctl(&["backup", "list"]).ok().stdout.contains(&id));
    assert_eq!(daemon.ctl(&["restore", "no-such-backup", "--yes"]).code, 1);
    daemon.ctl(&["restore", &id, "--yes"]).ok();
    daemon.restart();
    assert_eq!(tasks(&daemon), set(&["kept"]));
    assert_eq!(restored(&daemon)["succeeded"], true);
}

#[test]
fn where_it_is_wanted_the_newest_good_backup_is_restored_without_being_asked() {
    let config =
        format!("{CONFIG}disaster_recovery: {{automatic: true, recovery_backoff_seconds: 1}}\n");
    let mut daemon = Daemon::builder().config(&config).start();
    done(&daemon, "kept");
    backup(&daemon);
    assert!(daemon.terminate().success());
    // A newer one is no good.
    let bad = daemon
        .home()
        .join(".deia/backups/state-2099-01-01-00-00-00.tar.gz");
    fs::write(bad, "no archive").unwrap();
    damaged(&daemon);
    daemon.launch();
    daemon.await_launched();
    assert_eq!(tasks(&daemon), set(&["kept"]));
    assert_eq!(last_restore(&daemon)["by"], "deia");
}

#[test]
fn an_archive_that_is_no_backup_changes_nothing() {
    let daemon = start();
    done(&daemon, "kept");
    let id = backup(&daemon);
    let good = fs::read(archive(&daemon, &id)).unwrap();
    let bad = daemon.home().join("bad.tar.gz");
    let state = || {
        let entries = fs::read_dir(daemon.home().join(".deia/state"))
            .unwrap()
            .flatten();
        // An alert may come at any time: the host is busy.
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".tmp") && name != "alerts.json")
            .collect::<BTreeSet<_>>()
    };
    let before = state();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut trailing = good.clone();
    trailing.extend_from_slice(b"more");
    for (what, bytes) in [
        ("cut", &good[..good.len() / 2]),
        ("flipped", &flipped),
        ("with something behind", &trailing),
        ("empty", &[]),
    ] {
        fs::write(&bad, bytes).unwrap();
        let path = format!("/api/disaster-recovery/restore/file?file={}", bad.display());
        let answer = daemon.post(&path, &json!({}));
        assert!([404, 409].contains(&answer.status), "{what}: {answer:?}");
        let ctl = daemon.ctl(&["restore", bad.to_str().unwrap(), "--yes"]);
        assert_eq!(ctl.code, 1, "{what}: {ctl:?}");
    }
    assert_eq!(state(), before);
    assert_eq!(tasks(&daemon), set(&["kept"]));
    assert_eq!(
        daemon
            .post("/api/disaster-recovery/restore/nothing", &json!({}))
            .status,
        404
    );
    assert_eq!(
        daemon
            .post("/api/disaster-recovery/restore/undo", &json!({}))
            .status,
        404
    );
    done(&daemon, "and-it-works");
}

/// The log of the killed one must not be taken for the
/// unpacked store's own.
#[test]
fn an_archive_that_is_unpacked_by_hand_is_the_state() {
    let mut daemon = start();
    done(&daemon, "before");
    let id = backup(&daemon);
    for n in 0..20 {
        done(&daemon, &format!("after-{n}"));
    }
    // With a log that is not that of the archive's store.
    daemon.kill9();
    let unpacked = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(archive(&daemon, &id))
        .current_dir(daemon.home().join(".deia"))
        .status();
    assert!(unpacked.unwrap().success());
    daemon.restart();
    assert_eq!(tasks(&daemon), set(&["before"]));
    assert_eq!(restored(&daemon)["by"], "by hand");
    done(&daemon, "works");
    assert!(!daemon.home().join(".deia/manifest.json").exists());
    daemon.kill9();
    daemon.restart();
    assert_eq!(tasks(&daemon), set(&["before", "works"]));
}
