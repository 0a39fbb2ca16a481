//! The fleets that are asked: a busy one, of which is known what was done with it, and idle ones.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Daemon, PATIENCE, Response, wait_until};

/// One bot of each kind, and two that are kept busy. `slow` has one task for as long as anybody looks. However busy the
/// machine is besides, nothing of the fleet is switched off for that.
const BUSY: &str = "version: \"1.0\"\n\
    thresholds: {cpu_warning_percent: 0.81}\n\
    timeouts: {bot_health_check_interval_seconds: 1}\n\
    http: {listen: \"127.0.0.1:0\"}\n\
    bot_limits: {min_bots: 5, max_bots: 9}\n\
    custom: {app_name: replay}\n\
    feature_flags: {graceful_degradation_enabled: false}\n\
    bots: [{name: works, type: general, min: 2, max: 6, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 5}}, \
    {name: coder, type: developer, specializations: [python, testing], min: 1, max: 1, backend: {kind: command, argv: [cat], input: stdin}}, \
    {name: slow, type: analyzer, specializations: [analysis], min: 1, max: 1, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 600000}}, \
    {name: fails, type: validator, min: 1, max: 1, backend: {kind: command, argv: [\"false\"]}}]\n";

/// No bot, until there is work.
const NOBODY: &str = "feature_flags: {graceful_degradation_enabled: false}\n\
    bot_limits: {min_bots: 0, max_bots: 2}\n\
    bots: [{name: main-bot, type: general, min: 0, max: 1, backend: {kind: echo}}]\n";

/// One that has done nothing.
const IDLE: &str = "feature_flags: {graceful_degradation_enabled: false}\n\
    timeouts: {bot_health_check_interval_seconds: 1}\n";

/// Clients that have one task after the other done.
const CLIENTS: usize = 2;
/// Tasks that wait for `slow`.
pub const WAITING: u64 = 12;

/// What a fleet has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tasks and messages in every state, and more all the time.
    Busy,
    /// It is there, and nobody has asked anything of it.
    Idle,
    /// The same without a bot.
    Nobody,
}

/// A fleet, and what is known of it.
pub struct Fleet {
    pub daemon: RefCell<Daemon>,
    pub kind: Kind,
    /// What rows of the table call by name.
    pub names: RefCell<BTreeMap<String, String>>,
    /// Tasks that failed for good.
    pub dead: Vec<String>,
    /// Tasks that succeeded, but for the load's.
    pub succeeded: Cell<u64>,
    /// A message that nobody read in time, and one that was delivered.
    pub expired: String,
    pub delivered: String,
    load: RefCell<Load>,
    bearer: String,
    operations: Vec<(String, String, String)>,
}

impl Fleet {
    pub fn start(kind: Kind) -> Self {
        let config = match kind {
            Kind::Busy => BUSY,
            Kind::Idle => IDLE,
            Kind::Nobody => NOBODY,
        };
        let daemon = Daemon::builder().config(config).start();
        daemon.wait_bots(match kind {
            Kind::Busy => 5,
            Kind::Idle => 1,
            Kind::Nobody => 0,
        });
        let scopes = json!({"scopes": ["read", "submit", "bot", "admin"]});
        let made = daemon.post("/api/tokens", &scopes).ok();
        let operations = operations(&daemon.get("/openapi.json").ok());
        let mut fleet = Self {
            bearer: format!("Bearer {}", made["token"].as_str().unwrap()),
            daemon: RefCell::new(daemon),
            kind,
            names: RefCell::default(),
            dead: Vec::new(),
            succeeded: Cell::new(0),
            expired: String::new(),
            delivered: String::new(),
            load: RefCell::default(),
            operations,
        };
        let (bot, first) = match kind {
            Kind::Busy => ("slow", "works"),
            _ => ("main-bot", "main-bot"),
        };
        fleet.name("bot", bot);
        fleet.name("first", first);
        if kind == Kind::Busy {
            fleet.fill();
        }
        fleet
    }

    /// What rows of the table call `{name}`.
    pub fn name(&self, name: &str, value: &str) {
        let names = &mut self.names.borrow_mut();
        names.insert(name.to_owned(), value.to_owned());
    }

    /// With the names in braces filled in; `nothing` for what there is not.
    pub fn fill_in(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in self.names.borrow().iter() {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        for name in ["message", "backup", "point", "actor", "done"] {
            filled = filled.replace(&format!("{{{name}}}"), "nothing");
        }
        filled
    }

    /// The operation of `openapi.json` that answers this, and its scope.
    pub fn operation(&self, method: &str, target: &str) -> Option<(&str, &str)> {
        let path = target.split('?').next().unwrap_or_default();
        let matches = |known: &str| {
            let (known, parts) = (known.split('/'), path.split('/'));
            known.clone().count() == parts.clone().count()
                && known.zip(parts).all(|(k, p)| k == p || k.starts_with('{'))
        };
        let found = self.operations.iter();
        let found = found.filter(|(m, known, _)| m == method && matches(known));
        // A path that stands there as it is comes before one with a name in it.
        let found = found.min_by_key(|(_, known, _)| known.matches('{').count());
        found.map(|(_, known, scope)| (known.as_str(), scope.as_str()))
    }

    /// As a client of the original asks: over TCP, as JSON; with a token for what only operators may.
    pub fn ask(&self, method: &str, target: &str, body: Option<&[u8]>) -> Response {
        let admin = self.operation(method, target).map(|(_, scope)| scope) == Some("admin");
        let mut headers = vec![("content-type", "application/json")];
        if admin {
            headers.push(("authorization", self.bearer.as_str()));
        }
        let to = self.daemon.borrow().tcp();
        to.request(method, target, &headers, body)
    }

    /// Another source: over the admin socket.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.daemon.borrow().get(path).ok()
    }

    /// Another source: what `deiactl --json` prints.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = ["--json"].iter().chain(arguments).copied().collect();
        self.daemon.borrow().ctl(&arguments).ok().json()
    }

    /// What the load has done so far.
    pub fn counts(&self) -> Counts {
        self.load.borrow().counts()
    }

    /// No more of it; every answer is awaited.
    pub fn stop_load(&self) {
        self.load.borrow_mut().stop();
    }

    /// Tasks and messages in every state.
    fn fill(&mut self) {
        let daemon = self.daemon.borrow();
        let submit = |request: &Value| daemon.submit_with(request);
        let slow = json!({"content": "x", "pool": "slow", "type": "analysis"});
        let running = submit(&slow);
        self.name("running", &running);
        (0..WAITING).for_each(|_| drop(submit(&slow)));
        let failing =
            json!({"content": "x", "pool": "fails", "type": "writing", "max_attempts": 1});
        let dead: Vec<_> = (0..3).map(|_| submit(&failing)).collect();
        let done = submit(&json!({"content": "say it", "pool": "coder"}));
        self.name("done", &done);
        submit(&json!({"content": "x", "pool": "works", "not_before": "2099-01-01T00:00:00Z"}));
        let dropped = submit(&slow);
        daemon
            .post(&format!("/api/tasks/{dropped}/cancel"), &json!({}))
            .ok();
        for id in &dead {
            assert_eq!(daemon.wait_task(id, PATIENCE)["status"], "dead");
        }
        let done = daemon.wait_task(&done, PATIENCE);
        assert_eq!(done["result"]["output"], "say it", "{done}");
        wait_until(PATIENCE, "slow has a task", || {
            let task = daemon.get(&format!("/api/tasks/{running}")).ok();
            (task["status"] == "running").then_some(())
        });

        let send = |message: &Value| {
            let sent = daemon.post("/api/messaging/send", message).ok();
            sent["message_id"].as_str().unwrap().to_owned()
        };
        let expired = send(&json!({"to_bot": "nobody", "content": "x", "ttl_seconds": 1}));
        send(&json!({"to_bot": "later", "content": "x"}));
        send(&json!({"to_bot": "works", "from_bot": "coder", "content": "x"}));
        let delivered = send(&json!({"to_bot": "coder", "content": "x"}));
        wait_until(PATIENCE, "a message has expired", || {
            let status = daemon.get("/api/messaging/status").ok();
            (status["status_breakdown"]["expired"] == 1).then_some(())
        });
        *self.load.borrow_mut() = Load::start(&daemon);
        wait_until(PATIENCE, "there is load", || {
            (self.load.borrow().counts().done >= 50).then_some(())
        });
        drop(daemon);
        (self.dead, self.expired, self.delivered) = (dead, expired, delivered);
        self.succeeded.set(1);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop_load();
    }
}

fn operations(document: &Value) -> Vec<(String, String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let each = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| {
            let scope = operation["x-scope"].as_str().unwrap_or_default();
            (method.to_uppercase(), path.clone(), scope.to_owned())
        })
    });
    each.collect()
}

/// What the load has asked for, and what of it was answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Tasks that were sent off.
    pub begun: u64,
    /// Tasks that succeeded.
    pub done: u64,
    /// Messages that were sent off, and those that were accepted.
    pub sent: u64,
    pub accepted: u64,
    /// Answers that were none of what they should be.
    pub odd: u64,
}

/// Clients that never rest.
#[derive(Default)]
struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 5]>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(daemon: &Daemon) -> Self {
        let mut load = Self::default();
        for n in 0..=CLIENTS {
            let (stop, counts, to) = (load.stop.clone(), load.counts.clone(), daemon.tcp());
            load.clients.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let add = |index: usize| counts[index].fetch_add(1, Ordering::SeqCst);
                    if n < CLIENTS {
                        add(0);
                        let task = json!({"content": "go on", "pool": "works", "wait_seconds": 30});
                        let answer = to.post("/api/orchestrate", &task);
                        add(if answer.body["status"] == "succeeded" {
                            1
                        } else {
                            4
                        });
                    } else {
                        add(2);
                        let message = json!({"to_bot": "coder", "content": "still there?"});
                        let answer = to.post("/api/messaging/send", &message);
                        add(if answer.status == 200 { 3 } else { 4 });
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            }));
        }
        load
    }

    fn counts(&self) -> Counts {
        let [begun, done, sent, accepted, odd] =
            std::array::from_fn(|n| self.counts[n].load(Ordering::SeqCst));
        Counts {
            begun,
            done,
            sent,
            accepted,
            odd,
        }
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let ended = client.join();
            assert!(std::thread::panicking() || ended.is_ok(), "a client ended");
        }
    }
}
