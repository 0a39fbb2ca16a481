//! The day something went wrong, on a bare machine with a real systemd: the package is installed, tasks come over HTTP all
//! the while, a backup is made, the next release is installed, the disk damages the store, and one `deiactl rollback` ends
//! it. Who counts is this test: it notes each acknowledged task, with a hash of its content, before it goes on.
//!
//! Shown to fail on a restore that loses one ended task in a hundred, and on one that leaves the checkpoint of the audit
//! trail where it is.
//!
//! `.ci/run` builds the packages and names their directory in `DEIA_TEST_PACKAGES`; without it the test says `SKIPPED`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{
    Http, Machine, SetOnDrop, install, on_bare_machine, packages, skipped, told, wait_until,
};
use deia::client::raw::{Connection, Endpoint};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const PATIENCE: Duration = Duration::from_secs(60);

/// Who submits, at once.
const SUBMITTERS: u64 = 3;

/// Loaded for so long at least, between two things that happen.
const A_WHILE: Duration = Duration::from_secs(3);

const STORE: &str = "/var/lib/deia/.deia/state/deia.db";

const CONFIG: &str = "\
bots:
  - {name: echo, min: 2, max: 2, backend: {kind: echo, delay_ms: 15}}
  - {name: sh, min: 1, max: 1, max_concurrent_tasks: 1, backend: {kind: command, argv: [cat], env: [PATH]}}
bot_limits: {max_bots: 3}
rate_limits: {requests_per_minute: 0}
";

/// A task that was acknowledged.
#[derive(Debug, Clone)]
struct Promise {
    content: [u8; 32],
    at: Instant,
}

/// Submits, and knows what was promised when the daemon does not any more.
struct Recorder {
    promises: Mutex<BTreeMap<String, Promise>>,
    over: AtomicBool,
}

impl Recorder {
    fn new() -> Self {
        Self {
            promises: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Goes on while the story is told.
    fn during<T>(&self, machine: &Machine, story: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for n in 0..SUBMITTERS {
                scope.spawn(move || self.submit(machine, n));
            }
            // Also when an assertion fails in the story: the scope waits for its threads.
            let _over = SetOnDrop(&self.over);
            story()
        })
    }

    /// One task after the other. Each has a name: one whose answer was swallowed, or that was refused, is sent again.
    fn submit(&self, machine: &Machine, submitter: u64) {
        machine.enter_network();
        let http = Http::new(Endpoint::Tcp(([127, 0, 0, 1], 8001).into()));
        let mut connection: Option<Connection> = None;
        let mut number = 0;
        let mut request = Value::Null;
        while !self.over.load(Ordering::Relaxed) {
            if request.is_null() {
                number += 1;
                request = task(submitter, number);
            }
            if connection.is_none() {
                connection = http.try_connect().ok();
            }
            let body = request.to_string();
            let answer = connection.as_mut().and_then(|c| {
                c.request("POST", "/api/orchestrate", &[], Some(body.as_bytes()))
                    .ok()
            });
            match answer.map(|answer| (answer.status, answer.body)) {
                Some((200, said)) => {
                    let said: Value = serde_json::from_slice(&said).unwrap();
                    let id = said["task_id"].as_str().unwrap().to_owned();
                    let promise = Promise {
                        content: hash(request["content"].as_str().unwrap()),
                        at: Instant::now(),
                    };
                    self.promises.lock().unwrap().insert(id, promise);
                    request = Value::Null;
                }
                // A fleet that is drained, a store that is broken.
                Some((503, _)) => {}
                Some((status, said)) => {
                    panic!("{request}: {status} {}", String::from_utf8_lossy(&said))
                }
                None => connection = None,
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    fn promised(&self) -> BTreeMap<String, Promise> {
        self.promises.lock().unwrap().clone()
    }

    /// Waits until so many more are acknowledged.
    #[track_caller]
    fn await_more(&self, more: usize) {
        let before = self.promised().len();
        wait_until(PATIENCE, "tasks are acknowledged", || {
            (self.promised().len() >= before + more).then_some(())
        });
    }
}

fn task(submitter: u64, number: u64) -> Value {
    let filler = "x".repeat(usize::try_from(number * 37 % 2_000).unwrap());
    let pool = if number.is_multiple_of(5) {
        "sh"
    } else {
        "echo"
    };
    json!({
        "task_id": format!("t-{submitter}-{number}"),
        "content": format!("{submitter}.{number} {filler}"),
        "pool": pool,
        "priority": format!("P{}", number % 4),
    })
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// All tasks there are, by their names.
fn tasks(machine: &Machine) -> BTreeMap<String, Value> {
    // A thread of its own: the others stay in this host's network.
    std::thread::scope(|scope| {
        let listed = scope.spawn(|| {
            machine.enter_network();
            let http = Http::new(Endpoint::Tcp(([127, 0, 0, 1], 8001).into()));
            let (mut all, mut cursor) = (BTreeMap::new(), String::new());
            loop {
                let page = http.get(&format!("/api/tasks?limit=1000{cursor}")).ok();
                for task in page["tasks"].as_array().unwrap() {
                    let id = task["task_id"].as_str().unwrap();
                    let whole = http.get(&format!("/api/tasks/{id}")).ok();
                    assert!(all.insert(id.to_owned(), whole).is_none(), "twice: {task}");
                }
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => return all,
                }
            }
        });
        listed.join().expect("the tasks are listed")
    })
}

/// Waits until nothing waits or runs.
#[track_caller]
fn await_idle(machine: &Machine) {
    wait_until(PATIENCE, "nothing waits or runs", || {
        let status = machine.ctl(&["--json", "status"]);
        let queue = &status.ok().json()["queue"];
        let open = ["scheduled", "queued", "running"].map(|s| queue[s].as_u64().unwrap());
        (open.iter().sum::<u64>() == 0).then_some(())
    });
}

/// What a disk does that returns other sectors than were written: the middle half of the file, while it is in use.
fn damage(machine: &Machine) {
    let file = File::options()
        .write(true)
        .open(machine.path(STORE))
        .unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    let mut rng = fastrand::Rng::with_seed(6);
    for page in pages / 4..pages * 3 / 4 {
        let garbage: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(4096).collect();
        file.write_all_at(&garbage, page * 4096).unwrap();
    }
    file.sync_all().unwrap();
}

/// Why the daemon is in recovery mode, once it is.
#[track_caller]
fn await_recovery_mode(machine: &Machine) -> String {
    wait_until(PATIENCE, "recovery mode", || {
        let status = machine.ctl(&["--json", "backup", "status"]);
        let status: Value = serde_json::from_str(&status.stdout).ok()?;
        status["recovery_mode"].as_str().map(str::to_owned)
    })
}

/// The newest first.
fn deployments(machine: &Machine) -> Vec<Value> {
    let listed = machine.ctl(&["--json", "deployments"]).ok().json();
    listed["deployments"].as_array().unwrap().clone()
}

/// The file that the daemon runs.
fn program(machine: &Machine) -> String {
    machine
        .sh_ok("readlink /proc/$(systemctl show deia --value -p MainPID)/exe")
        .trim()
        .to_owned()
}

#[test]
fn a_damaged_store_after_an_upgrade_is_ended_by_one_rollback() {
    let test = "disaster";
    let [older, newer] = match packages() {
        Ok(packages) => packages,
        Err(why) => return skipped(test, &why),
    };
    on_bare_machine(test, &[older, newer], |machine| {
        install(machine, "deia.deb");
        machine.daemon();
        machine.write("/etc/deia/bot-config.yaml", CONFIG);
        machine.run(&["systemctl", "reload", "deia"]).ok();
        rolled_back(machine);
        in_recovery_mode(machine);
    });
}

/// The first half: everything up to the rollback, and what it must have kept.
fn rolled_back(machine: &Machine) {
    let recorder = Recorder::new();
    let (before_backup, damaged_at, ended) = recorder.during(machine, || {
        recorder.await_more(100);
        std::thread::sleep(A_WHILE);
        // Everything up to here is in the backup, whatever happens.
        let before_backup = Instant::now();
        let made = machine.ctl(&["--json", "backup", "create", "--name", "before the upgrade"]);
        let backup = made.ok().json()["backup_id"].as_str().unwrap().to_owned();
        recorder.await_more(50);

        let old = deployments(machine)[0]["release"].clone();
        install(machine, "deia-next.deb");
        wait_until(PATIENCE, "the next release runs", || {
            (deployments(machine).len() == 2).then_some(())
        });
        recorder.await_more(50);
        std::thread::sleep(A_WHILE);

        let damaged_at = Instant::now();
        damage(machine);
        let why = await_recovery_mode(machine);
        println!("recovery mode after {:.1?}: {why}", damaged_at.elapsed());
        assert_eq!(machine.show("ActiveState"), "active");
        let ended = machine.ctl(&["--json", "rollback"]).ok().json();
        assert_eq!(
            (&ended["step"], &ended["to_release"]),
            (&json!("done"), &old)
        );
        assert_eq!(ended["backup_id"], json!(backup), "{ended}");
        recorder.await_more(100);
        (before_backup, damaged_at, ended)
    });
    await_idle(machine);
    check(machine, &recorder, before_backup, damaged_at, &ended);

    // It stays.
    let kept = program(machine);
    assert!(kept.starts_with("/var/lib/deia/.deia/releases/"), "{kept}");
    machine.run(&["systemctl", "restart", "deia"]).ok();
    machine.daemon();
    assert_eq!(program(machine), kept);
    let hows: Vec<Value> = deployments(machine)
        .iter()
        .map(|deployment| deployment["how"].clone())
        .collect();
    assert_eq!(hows, ["rollback", "upgrade", "start"]);
    let verified = machine.ctl(&["--json", "audit", "verify"]).ok().json();
    assert_eq!(verified["verified"], true, "{verified}");
}

/// Nothing that was acknowledged before the backup is lost or changed, nothing is there twice, and what came later is
/// what the rollback said.
fn check(
    machine: &Machine,
    recorder: &Recorder,
    before_backup: Instant,
    damaged_at: Instant,
    ended: &Value,
) {
    let promised = recorder.promised();
    let there = tasks(machine);
    for id in there.keys() {
        // Its answer may have been swallowed; then it was sent again.
        assert!(promised.contains_key(id), "{id} was never acknowledged");
    }
    let (mut before, mut dropped) = (0, Vec::new());
    for (id, promise) in &promised {
        let Some(task) = there.get(id) else {
            assert!(promise.at > before_backup, "{id} is lost");
            dropped.push(promise.at);
            continue;
        };
        before += usize::from(promise.at <= before_backup);
        assert_eq!(task["status"], "succeeded", "{task}");
        let output = task["result"]["output"].as_str().unwrap();
        assert_eq!(hash(output), promise.content, "{id} has another content");
        let attempts = task["attempts"].as_array().unwrap();
        let (last, others) = attempts.split_last().expect("at least one attempt");
        assert_eq!(last["status"], "succeeded", "{task}");
        assert!(
            others.iter().all(|attempt| attempt["status"] == "lost"),
            "{task}"
        );
    }
    let acknowledged = |at: &dyn Fn(Instant) -> bool| {
        let times = promised.values().map(|promise| promise.at);
        times.filter(|time| at(*time)).collect::<Vec<_>>()
    };
    let outage_began = acknowledged(&|at| dropped.contains(&at)).into_iter().max();
    let outage_began = outage_began.unwrap_or(damaged_at);
    let outage_ended = acknowledged(&|at| at > outage_began).into_iter().min();
    let rto = outage_ended
        .unwrap()
        .duration_since(damaged_at.min(outage_began));
    let first_dropped = dropped.iter().min().copied().unwrap_or(outage_began);
    let rpo = outage_began.duration_since(first_dropped);
    let said = |name: &str| ended[name].as_f64().unwrap();
    told(&format!(
        "disaster: RTO {:.1} s, RPO {:.1} s, {} acknowledged, {before} of them before the backup, lost 0; {} after it, dropped; the rollback itself: RTO {:.1} s, RPO {:.1} s",
        rto.as_secs_f64(),
        rpo.as_secs_f64(),
        promised.len(),
        dropped.len(),
        said("rto_seconds"),
        said("rpo_seconds")
    ));
    assert!(before > 100 && !dropped.is_empty());
    // It is counted from when tasks were refused, and from when the backup began: never less than what was lost.
    assert!(said("rpo_seconds") >= rpo.as_secs_f64(), "{ended}");
    assert!(said("rto_seconds") <= rto.as_secs_f64(), "{ended}");
}

/// The second half: a store that will not open is no crash loop, everything says so, and a restore ends it.
fn in_recovery_mode(machine: &Machine) {
    let id = machine.ctl(&["--json", "submit", "--pool", "echo", "keep this"]);
    let id = id.ok().json()["task_id"].as_str().unwrap().to_owned();
    await_idle(machine);
    let made = machine.ctl(&["--json", "backup", "create"]).ok().json();
    let backup = made["backup_id"].as_str().unwrap();
    machine.run(&["systemctl", "stop", "deia"]).ok();
    let begun = machine.show("NRestarts");
    let file = File::options().write(true).open(machine.path(STORE));
    file.unwrap().write_all_at(&[0; 100], 0).unwrap();
    machine.run(&["systemctl", "start", "deia"]).ok();
    let why = await_recovery_mode(machine);
    assert!(why.contains("deia.db"), "{why}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        (machine.show("ActiveState"), machine.show("NRestarts")),
        ("active".to_owned(), begun)
    );
    let line = machine.show("StatusText");
    assert!(line.starts_with("recovery mode: "), "{line}");
    let journal = wait_until(PATIENCE, "the journal", || {
        let lines = machine.journal(&["DEIA_EVENT=recovery_mode_entered"]);
        (!lines.is_empty()).then_some(lines)
    });
    assert!(journal.contains("deiactl restore ID"), "{journal}");

    for verb in [&["status"][..], &["doctor"]] {
        let said = machine.ctl(verb);
        assert_eq!(said.code, 1, "{said:?}");
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(
            text.to_lowercase().contains("recovery mode") && text.contains(backup),
            "{said:?}"
        );
    }
    for verb in [
        &["submit", "x"][..],
        &["bots"],
        &["task", "list"],
        &["scale", "--max", "0"],
        &["drain"],
        &["reload"],
        &["upgrade"],
        &["backup", "create"],
        &["audit", "verify"],
    ] {
        let said = machine.ctl(verb);
        assert_eq!(said.code, 1, "{verb:?}: {said:?}");
        assert!(
            said.stderr.contains("recovery mode") && said.stderr.contains("deiactl restore"),
            "{verb:?}: {said:?}"
        );
    }
    let listed = machine.ctl(&["backup", "list"]).ok().stdout;
    assert!(listed.contains(backup), "{listed}");
    machine.ctl(&["backup", "verify", backup]).ok();
    machine.ctl(&["deployments"]).ok();
    machine.ctl(&["restore", backup, "--dry-run"]).ok();
    machine.ctl(&["restore", backup]).ok();
    await_idle(machine);
    let task = machine.ctl(&["--json", "task", "show", &id]).ok().json();
    assert_eq!(task["result"]["output"], "keep this");
    machine
        .ctl(&["submit", "--pool", "echo", "--wait", "next"])
        .ok();
    wait_until(PATIENCE, "nothing is wrong", || {
        (machine.ctl(&["doctor"]).code == 0).then_some(())
    });
}
