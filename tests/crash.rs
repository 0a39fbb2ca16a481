//! `kill -9` of the daemon under load, and of bots with it. The ledger is this process: it notes an
//! acknowledgement before it goes on, so it knows what the daemon has promised when the daemon
//! doesn't any more. What was run, and how often, the bots' programs write into a file of their own.
//!
//! `DEIA_CRASH_SEED=7` runs that seed alone, `DEIA_CRASH_SEEDS=200` the first 200.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Daemon, Http, PATIENCE, descendants, wait_until};
use deia::client::raw::Connection;
use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Seeds in a run of the whole suite.
const SEEDS: u64 = 20;
/// Seeds at once: each is a daemon and its bots.
const AT_ONCE: usize = 2;
/// A pool that only answers, and one whose program writes down that it was begun.
const CONFIG: &str = "bot_limits: {min_bots: 4, max_bots: 4, max_concurrent_tasks_per_bot: 4}\n\
    bots:\n\
    - {name: echo, type: general, min: 2, max: 2, backend: {kind: echo, delay_ms: 15}}\n\
    - {name: sh, type: general, min: 2, max: 2, backend: {kind: command, argv: [sh, -c, \
        'echo $DEIA_TASK_ID $DEIA_ATTEMPT >> ../../../begun; sleep 0.02; exec cat']}}\n\
    supervision: {stop_timeout_seconds: 2, restart_intensity: {max: 50, seconds: 60}}\n";

/// What was promised, and what was seen of it so far.
#[derive(Default)]
struct Ledger {
    /// The hash of each acknowledged task's content.
    accepted: HashMap<String, [u8; 32]>,
    /// Ends that were shown, which nothing may change any more.
    ended: HashMap<String, Value>,
}

/// How a story went.
#[derive(Default)]
struct Story {
    /// Kills of the daemon, and how long each took until it answered again.
    ready_again: Vec<Duration>,
    /// Attempts that were lost on the way.
    lost: u64,
    /// Tasks that a bot had when the daemon was killed and that it kept.
    adopted: u64,
}

/// Shown to fail on a build that acknowledges before the commit (an acknowledged task is answered
/// with 404), on one that does not take leases back at the start (its tasks run for ever), and on one
/// that releases every lease at its start (tasks are begun twice).
#[test]
fn what_was_acknowledged_survives_kill_9_and_is_done_once() {
    let seeds = match std::env::var("DEIA_CRASH_SEED") {
        Ok(one) => one.parse().map(|seed| seed..seed + 1).expect("a number"),
        Err(_) => {
            let count = std::env::var("DEIA_CRASH_SEEDS").map(|n| n.parse().expect("a number"));
            0..count.unwrap_or(SEEDS)
        }
    };
    let next = AtomicU64::new(seeds.start);
    let stories = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let story = crash(seed);
                    stories.lock().unwrap().push(story);
                }
            });
        }
    });
    let stories = stories.into_inner().unwrap();
    let mut waits: Vec<Duration> = stories.iter().flat_map(|s| s.ready_again.clone()).collect();
    waits.sort();
    let [lost, adopted] =
        [|s: &Story| s.lost, |s: &Story| s.adopted].map(|of| stories.iter().map(of).sum::<u64>());
    println!(
        "{} kills; ready again: p50 {:?}, p99 {:?}, max {:?}; {adopted} running tasks kept, {lost} attempts lost with their bot",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits[waits.len() - 1],
    );
    // Kills that never met a running task would have tested little.
    assert!(adopted > 0, "no running task was ever taken over");
    assert!(
        seeds.end - seeds.start < 5 || lost > 0,
        "no attempt was ever lost"
    );
}

/// One story of load, kills and recovery.
fn crash(seed: u64) -> Story {
    println!("seed {seed}: DEIA_CRASH_SEED={seed} repeats it");
    let mut rng = Rng::with_seed(seed);
    let kills = rng.u32(1..=3);
    let submitters = rng.u64(4..=8);
    let kills_bots = rng.u32(0..3) == 0;
    let mut killed = Vec::new();
    let mut story = Story::default();
    let mut daemon = Daemon::builder().config(CONFIG).start();
    daemon.wait_bots(4);
    let ledger = Mutex::new(Ledger::default());
    let over = AtomicBool::new(false);
    let admin = daemon.admin();
    std::thread::scope(|scope| {
        for n in 0..submitters {
            let (admin, ledger, over) = (&admin, &ledger, &over);
            let rng = Rng::with_seed(seed << 8 | n);
            scope.spawn(move || submit_until(admin, ledger, over, rng, &format!("{seed}.{n}")));
        }
        scope.spawn(|| watch_until(&admin, &ledger, &over, Rng::with_seed(!seed)));
        // Also when an assertion fails in here: the scope waits for its threads.
        let _over = SetOnDrop(&over);
        for _ in 0..kills {
            std::thread::sleep(Duration::from_millis(rng.u64(50..=400)));
            let mut bots = descendants(daemon.pid());
            bots.retain(|process| process.command.starts_with("deia-worker"));
            daemon.kill9();
            if kills_bots {
                let bot = &bots[rng.usize(0..bots.len())];
                bot.signal(Signal::SIGKILL);
                killed.push(bot.command.clone());
            }
            std::thread::sleep(Duration::from_millis(rng.u64(0..=100)));
            let begun = Instant::now();
            daemon.restart();
            story.ready_again.push(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(rng.u64(50..=200)));
    });
    let ledger = ledger.into_inner().unwrap();
    wait_until(PATIENCE * 2, "every task ends", || {
        let queue = &daemon.get("/status").ok()["queue"];
        let waiting = ["scheduled", "queued", "running"].map(|s| queue[s].as_u64().unwrap());
        (waiting == [0; 3]).then_some(())
    });
    assert!(ledger.accepted.len() > 20, "seed {seed}: hardly any load");
    story.lost = check(&daemon, &ledger, seed);
    story.adopted = daemon
        .said()
        .lines()
        .filter_map(|line| line.split_once("is taken over")?.1.split_once("tasks="))
        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
        .sum();
    check_runs(&daemon, killed.is_empty(), seed);
    story
}

/// No attempt was begun twice; and where no bot was killed, no task.
fn check_runs(daemon: &Daemon, all_bots_lived: bool, seed: u64) {
    let begun = daemon.read("begun");
    let mut attempts: HashMap<&str, u32> = HashMap::new();
    let mut tasks: HashMap<&str, u32> = HashMap::new();
    for line in begun.lines() {
        let (task, _) = line.split_once(' ').expect("a task and its attempt");
        *attempts.entry(line).or_default() += 1;
        *tasks.entry(task).or_default() += 1;
    }
    assert!(!attempts.is_empty(), "seed {seed}: no program ran");
    let twice = |counts: &HashMap<&str, u32>| -> Vec<String> {
        let twice = counts.iter().filter(|(_, count)| **count > 1);
        twice.map(|(what, _)| (*what).to_owned()).collect()
    };
    assert_eq!(twice(&attempts), [""; 0], "seed {seed}: begun twice");
    if all_bots_lived {
        assert_eq!(
            twice(&tasks),
            [""; 0],
            "seed {seed}: run again though its bot lived"
        );
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Submits one task after the other. A task whose answer the kill swallowed is sent again where it
/// has a name of its own, which must be accepted whether or not the first one came through.
fn submit_until(admin: &Http, ledger: &Mutex<Ledger>, over: &AtomicBool, mut rng: Rng, name: &str) {
    let mut connection: Option<Connection> = None;
    let mut number = 0;
    let mut again: Option<Value> = None;
    while !over.load(Ordering::Relaxed) {
        let request = again.take().unwrap_or_else(|| {
            number += 1;
            let filler = "x".repeat(rng.usize(0..300));
            let priority = format!("P{}", rng.u8(0..4));
            let pool = if rng.u8(0..4) == 0 { "sh" } else { "echo" };
            let content = format!("{name}.{number} {filler}");
            let mut request = json!({"content": content, "priority": priority, "pool": pool});
            if rng.bool() {
                request["task_id"] = json!(format!("named-{name}.{number}"));
            }
            request
        });
        let body = request.to_string();
        let answer = connect(admin, &mut connection).and_then(|c| {
            c.request("POST", "/api/orchestrate", &[], Some(body.as_bytes()))
                .ok()
        });
        let Some(answer) = answer else {
            connection = None;
            again = request["task_id"].is_string().then_some(request);
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{request}: {text}");
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(said["success"], true, "{said}");
        let id = said["task_id"].as_str().unwrap().to_owned();
        let hash = hash(request["content"].as_str().unwrap());
        ledger.lock().unwrap().accepted.insert(id, hash);
        std::thread::sleep(Duration::from_millis(rng.u64(0..12)));
    }
}

/// Looks at acknowledged tasks, and keeps every end it is shown.
fn watch_until(admin: &Http, ledger: &Mutex<Ledger>, over: &AtomicBool, mut rng: Rng) {
    let mut connection: Option<Connection> = None;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(3));
        let id = {
            let ledger = ledger.lock().unwrap();
            let nth = rng.usize(0..ledger.accepted.len().max(1));
            ledger.accepted.keys().nth(nth).cloned()
        };
        let Some(id) = id else { continue };
        let path = format!("/api/tasks/{id}");
        let answer =
            connect(admin, &mut connection).and_then(|c| c.request("GET", &path, &[], None).ok());
        let Some(answer) = answer else {
            connection = None;
            continue;
        };
        assert_eq!(answer.status, 200, "{id} was acknowledged and is not there");
        let task: Value = serde_json::from_slice(&answer.body).unwrap();
        if task["status"] == "succeeded" {
            let mut ledger = ledger.lock().unwrap();
            let first = ledger.ended.entry(id).or_insert_with(|| end_of(&task));
            assert_eq!(*first, end_of(&task), "an end has changed");
        }
    }
}

fn connect<'a>(admin: &Http, connection: &'a mut Option<Connection>) -> Option<&'a mut Connection> {
    if connection.is_none() {
        *connection = admin.try_connect().ok();
    }
    connection.as_mut()
}

/// Holds the daemon to the ledger; returns how many attempts were lost.
fn check(daemon: &Daemon, ledger: &Ledger, seed: u64) -> u64 {
    let mut connection = daemon.admin().connect();
    let mut lost = 0;
    for (id, hash_of_content) in &ledger.accepted {
        let answer = connection.request("GET", &format!("/api/tasks/{id}"), &[], None);
        let answer = answer.unwrap();
        assert_eq!(
            answer.status, 200,
            "seed {seed}: {id} was acknowledged and is gone"
        );
        let task: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(task["status"], "succeeded", "seed {seed}: {task}");
        let output = task["result"]["output"].as_str().unwrap();
        assert_eq!(
            hash(output),
            *hash_of_content,
            "seed {seed}: {id} has another content"
        );
        if let Some(seen) = ledger.ended.get(id) {
            assert_eq!(
                *seen,
                end_of(&task),
                "seed {seed}: the end of {id} has changed"
            );
        }
        lost += check_attempts(&task, seed);
    }
    lost
}

/// Attempts follow each other, and only the last has succeeded.
fn check_attempts(task: &Value, seed: u64) -> u64 {
    let attempts = task["attempts"].as_array().unwrap();
    let (last, before) = attempts.split_last().expect("at least one attempt");
    assert_eq!(last["status"], "succeeded", "seed {seed}: {task}");
    for attempt in before {
        assert_eq!(attempt["status"], "lost", "seed {seed}: {task}");
    }
    for (n, pair) in attempts.windows(2).enumerate() {
        let (ended, next) = (pair[0]["ended_at"].as_str(), pair[1]["started_at"].as_str());
        // Of one form and in UTC: the order of the texts is the order of the times.
        assert!(
            ended.unwrap() <= next.unwrap(),
            "seed {seed}: attempts overlap: {task}"
        );
        assert_eq!(pair[0]["attempt"], n as u64 + 1, "seed {seed}: {task}");
    }
    before.len() as u64
}

fn end_of(task: &Value) -> Value {
    json!([
        task["status"],
        task["result"],
        task["ended_at"],
        task["attempts"]
    ])
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
