//! A load of tasks while things break, and what is held against the daemon afterwards. The ledger is the
//! test's own process: it notes an acknowledgement before it goes on, so it knows what the daemon has
//! promised when the daemon doesn't any more. What was begun, and how often, the bots' programs write
//! into a file of their own.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deia::client::raw::Connection;
use fastrand::Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Daemon, Http, PATIENCE, SetOnDrop, wait_until};

/// A pool that only answers, and one whose program writes down that it was begun: two bots each.
pub const POOLS: &str = "bot_limits: {min_bots: 4, max_bots: 4, max_concurrent_tasks_per_bot: 4}\n\
    bots:\n\
    - {name: echo, type: general, min: 2, max: 2, backend: {kind: echo, delay_ms: 15}}\n\
    - {name: sh, type: general, min: 2, max: 2, backend: {kind: command, argv: [sh, -c, \
        'echo $DEIA_TASK_ID $DEIA_ATTEMPT >> $HOME/begun; sleep 0.02; exec cat']}}\n\
    rate_limits: {requests_per_minute: 0}\n";

/// What was promised, and what was seen of it so far.
#[derive(Default)]
struct Ledger {
    /// The hash of each acknowledged task's content.
    accepted: HashMap<String, [u8; 32]>,
    /// Their names, in the order of their acknowledgement.
    names: Vec<String>,
    /// Hashes of ends that were shown, which nothing may change any more.
    ended: HashMap<String, [u8; 32]>,
}

/// A load of tasks, and what came of it.
pub struct Load {
    seed: u64,
    /// A daemon that is being stopped, or that an operator has drained, may say no.
    may_refuse: bool,
    /// Between two tasks of a submitter, at most.
    pause_ms: u64,
    ledger: Mutex<Ledger>,
    over: AtomicBool,
}

/// What the ledger came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sum {
    /// Tasks that were acknowledged: all of them done, as they should be.
    pub tasks: u64,
    /// Attempts that were lost on the way.
    pub lost: u64,
}

impl Load {
    /// One whose every request must be taken, once it is answered.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            may_refuse: false,
            pause_ms: 12,
            ledger: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// One whose requests may be refused by 503; then they are made again.
    pub fn may_refuse(seed: u64) -> Self {
        Self {
            may_refuse: true,
            ..Self::new(seed)
        }
    }

    /// With pauses of up to so many milliseconds between a submitter's tasks.
    pub fn pausing(self, pause_ms: u64) -> Self {
        Self { pause_ms, ..self }
    }

    /// Acknowledged tasks so far.
    pub fn accepted(&self) -> u64 {
        self.ledger.lock().unwrap().names.len() as u64
    }

    /// Waits until so many tasks are acknowledged that their fates tell something, however slow the host is:
    /// the last words of a story that is told in moments.
    #[track_caller]
    pub fn wait_for_some(&self) {
        // A quarter go to a program: that none did has a chance of 1 in 100,000.
        wait_until(PATIENCE, "there was some load", || {
            (self.accepted() > 40).then_some(())
        });
    }

    /// Goes on while the story is told; what it comes to.
    pub fn during<T>(&self, admin: &Http, submitters: u64, story: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for n in 0..submitters {
                let rng = Rng::with_seed(self.seed << 8 | n);
                scope.spawn(move || self.submit(admin, rng, n));
            }
            scope.spawn(|| self.watch(admin, Rng::with_seed(!self.seed)));
            // Also when an assertion fails in the story: the scope waits for its threads.
            let _over = SetOnDrop(&self.over);
            story()
        })
    }

    /// Submits one task after the other. A task whose answer was swallowed is sent again where it has
    /// a name of its own, which must be accepted whether or not the first one came through.
    fn submit(&self, admin: &Http, mut rng: Rng, submitter: u64) {
        let name = format!("{}.{submitter}", self.seed);
        let mut connection: Option<Connection> = None;
        let mut number = 0;
        let mut again: Option<Value> = None;
        while !self.over.load(Ordering::Relaxed) {
            let request = again.take().unwrap_or_else(|| {
                number += 1;
                request(&mut rng, &name, number)
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
            if answer.status == 503 && self.may_refuse {
                again = Some(request);
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let text = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, 200, "{request}: {text}");
            let said: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(said["success"], true, "{said}");
            let id = said["task_id"].as_str().unwrap().to_owned();
            let hash = hash(request["content"].as_str().unwrap());
            let mut ledger = self.ledger.lock().unwrap();
            if ledger.accepted.insert(id.clone(), hash).is_none() {
                ledger.names.push(id);
            }
            drop(ledger);
            std::thread::sleep(Duration::from_millis(rng.u64(0..self.pause_ms)));
        }
    }

    /// Looks at acknowledged tasks, and keeps every end it is shown.
    fn watch(&self, admin: &Http, mut rng: Rng) {
        let mut connection: Option<Connection> = None;
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(3));
            let id = rng.choice(&self.ledger.lock().unwrap().names).cloned();
            let Some(id) = id else { continue };
            let path = format!("/api/tasks/{id}");
            let answer = connect(admin, &mut connection)
                .and_then(|c| c.request("GET", &path, &[], None).ok());
            let Some(answer) = answer else {
                connection = None;
                continue;
            };
            if answer.status == 503 && self.may_refuse {
                continue;
            }
            assert_eq!(answer.status, 200, "{id} was acknowledged and is not there");
            let task: Value = serde_json::from_slice(&answer.body).unwrap();
            if task["status"] == "succeeded" {
                let mut ledger = self.ledger.lock().unwrap();
                let first = ledger.ended.entry(id).or_insert_with(|| end_of(&task));
                assert_eq!(*first, end_of(&task), "an end has changed: {task}");
            }
        }
    }

    /// The tasks that were acknowledged last are there, whatever becomes of them: those that a kill a moment ago
    /// may have cost. [`Load::check`] looks at all.
    #[track_caller]
    pub fn check_there(&self, daemon: &Daemon) {
        let names = self.ledger.lock().unwrap().names.clone();
        let names = names.into_iter().rev().take(100);
        let mut connection = daemon.admin().connect();
        for id in names {
            let answer = connection.request("GET", &format!("/api/tasks/{id}"), &[], None);
            let answer = answer.unwrap();
            let seed = self.seed;
            assert_eq!(
                answer.status, 200,
                "seed {seed}: {id} was acknowledged and is gone"
            );
            let task: Value = serde_json::from_slice(&answer.body).unwrap();
            let legal = ["scheduled", "queued", "running", "succeeded"];
            assert!(
                legal.iter().any(|status| task["status"] == *status),
                "seed {seed}: {task}"
            );
        }
    }

    /// Waits until nothing waits or runs, for as long as that gets less, and holds the daemon to the ledger.
    #[track_caller]
    pub fn check(&self, daemon: &Daemon) -> Sum {
        let seed = self.seed;
        let open = || -> u64 {
            let queue = &daemon.get("/status").ok()["queue"];
            let open = ["scheduled", "queued", "running"].map(|s| queue[s].as_u64().unwrap());
            open.iter().sum()
        };
        let mut left = open();
        while left > 0 {
            left = wait_until(PATIENCE * 2, "a task ends", || {
                Some(open()).filter(|now| *now < left)
            });
        }
        let ledger = self.ledger.lock().unwrap();
        assert!(ledger.names.len() > 20, "seed {seed}: hardly any load");
        let mut connection = daemon.admin().connect();
        let mut sum = Sum::default();
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
                    "seed {seed}: the end of {id} has changed: {task}"
                );
            }
            sum.tasks += 1;
            sum.lost += check_attempts(&task, seed);
        }
        sum
    }
}

fn request(rng: &mut Rng, name: &str, number: u64) -> Value {
    let filler = "x".repeat(rng.usize(0..300));
    let priority = format!("P{}", rng.u8(0..4));
    let pool = if rng.u8(0..4) == 0 { "sh" } else { "echo" };
    let content = format!("{name}.{number} {filler}");
    let mut request = json!({"content": content, "priority": priority, "pool": pool});
    if rng.bool() {
        request["task_id"] = json!(format!("named-{name}.{number}"));
    }
    request
}

fn connect<'a>(admin: &Http, connection: &'a mut Option<Connection>) -> Option<&'a mut Connection> {
    if connection.is_none() {
        *connection = admin.try_connect().ok();
    }
    connection.as_mut()
}

/// Attempts follow each other, and only the last has succeeded. How many were lost.
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

/// No attempt was begun twice; and where every bot lived, no task.
#[track_caller]
pub fn check_runs(daemon: &Daemon, all_bots_lived: bool, seed: u64) {
    // Each bot's own home.
    let begun: String = ["sh", "sh-2"]
        .map(|bot| daemon.read(&format!(".deia/bots/{bot}/home/begun")))
        .concat();
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

/// Runs the stories with these seeds, so many at once.
pub fn each_seed<T: Send>(
    seeds: std::ops::Range<u64>,
    at_once: usize,
    story: impl Fn(u64) -> T + Sync,
) -> Vec<T> {
    let next = AtomicU64::new(seeds.start);
    let told = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let one = story(seed);
                    told.lock().unwrap().push(one);
                }
            });
        }
    });
    told.into_inner().unwrap()
}

fn end_of(task: &Value) -> [u8; 32] {
    let end = json!([
        task["status"],
        task["result"],
        task["ended_at"],
        task["attempts"]
    ]);
    hash(&end.to_string())
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
