//! A bot's way through the main loop: the table's actions carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deia::bot::{Actual, LastExit, Wanted};
use deia::config::{BackendSpec, Pool};
use deia::task::TaskId;
use deia::time::Timestamp;
use deia::wire::{Bootstrap, Secret, ToWorker};
use deia_worker::tree::Identity;
use tokio::sync::mpsc;

use super::Engine;
use super::limits::OverLimit;
use super::timers::Timer;
use crate::brain::Millis;
use crate::brain::bot::{Action, Bot, Drain, Event};
use crate::fleet::Run;
use crate::fleet::spawn::{ProcessHandle, Request};

/// Everything the main loop knows of a bot.
#[derive(Debug)]
pub(super) struct BotEntry {
    pub machine: Bot,
    /// The pool it was, or will be, started as.
    pub spec: Arc<Pool>,
    pub run: Run,
    pub process: Option<(u32, ProcessHandle)>,
    /// The pid that the kernel told of its connection: known before the process is reported.
    pub dialled: Option<u32>,
    /// The process's pid and start, for the watch over its limits.
    pub identity: Option<Identity>,
    /// Whether the process is in a cgroup of its own.
    pub placed: bool,
    /// What was over a limit, where that is why it is being ended.
    pub over: Option<OverLimit>,
    pub session: Option<mpsc::Sender<ToWorker>>,
    pub secret: Option<Secret>,
    /// Reserved and running tasks, and how often: a client may submit the same one again meanwhile.
    pub tasks: BTreeMap<TaskId, u32>,
    /// What its process was told when it was welcomed.
    pub terms: Terms,
    pub since: Timestamp,
    pub sandbox: Option<String>,
    pub last_exit: Option<LastExit>,
    pub next_start_at: Option<Timestamp>,
    pub last_seen: Arc<AtomicU64>,
    timer: u64,
    /// An operator stopped it: the plan leaves it alone.
    pub held: bool,
    /// Its pool's specification has changed since it was started.
    pub outdated: bool,
    /// It does not belong to the fleet any more: forgotten once it has ended.
    pub retired: bool,
}

/// What a process was told, and goes by until it is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Terms {
    pub slots: u32,
    pub heartbeat_seconds: f64,
    pub stop_timeout_seconds: f64,
}

impl BotEntry {
    pub fn new(spec: Arc<Pool>) -> Self {
        Self {
            machine: Bot::default(),
            spec,
            run: 0,
            process: None,
            dialled: None,
            identity: None,
            placed: false,
            over: None,
            session: None,
            secret: None,
            tasks: BTreeMap::new(),
            terms: Terms::default(),
            since: Timestamp::now(),
            sandbox: None,
            last_exit: None,
            next_start_at: None,
            last_seen: Arc::default(),
            timer: 0,
            held: false,
            outdated: false,
            retired: false,
        }
    }

    /// Whether it has a connection, and a process that is known and in its cgroup: it may have tasks.
    pub fn is_at_work(&self) -> bool {
        self.session.is_some() && self.process.is_some()
    }

    /// The pid of its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|(pid, _)| *pid).or(self.dialled)
    }

    /// When it last said anything.
    pub fn seen_at(&self) -> Millis {
        self.last_seen.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Something happened to a bot: ask the table, do what it says.
    pub(super) fn bot_event(&mut self, id: &Arc<str>, event: Event) {
        let now = self.now();
        let mut rules = self.config.supervision.clone();
        let Some(entry) = self.bots.get_mut(id) else {
            return;
        };
        let told = entry.terms.stop_timeout_seconds;
        rules.stop_timeout_seconds = rules.stop_timeout_seconds.max(told);
        let before = entry.machine.actual();
        let actions = entry.machine.on(event, &rules, now, fastrand::f64());
        let after = entry.machine.actual();
        if before != after {
            entry.since = Timestamp::now();
            entry.next_start_at = None;
        }
        for action in actions {
            self.act(id, action);
        }
        if before != after {
            self.changed(id, before, after);
        }
    }

    fn act(&mut self, id: &Arc<str>, action: Action) {
        match action {
            Action::Spawn => self.spawn(id),
            Action::AskToStop(grace_ms) => {
                let run = self.bots.get(id).map_or(0, |entry| entry.run);
                // One that never dialled in can't be asked.
                if !self.send(id, run, ToWorker::Stop { grace_ms }) {
                    self.kill(id);
                }
            }
            Action::Kill => self.kill(id),
            Action::Arm(after) => {
                let at = self.now() + after;
                if let Some(entry) = self.bots.get_mut(id) {
                    entry.timer += 1;
                    let waits = matches!(
                        entry.machine.actual(),
                        Actual::Backoff | Actual::Quarantined
                    );
                    entry.next_start_at = waits.then(|| Timestamp::now().plus_millis(after as i64));
                    self.timers.at(at, Timer::Bot(id.clone(), entry.timer));
                }
            }
            Action::Disarm => {
                if let Some(entry) = self.bots.get_mut(id) {
                    entry.timer += 1;
                }
            }
            Action::ArmHealthy(after) => {
                let at = self.now() + after;
                if let Some(entry) = self.bots.get(id) {
                    self.timers.at(at, Timer::Healthy(id.clone(), entry.run));
                }
            }
        }
    }

    /// The table moved: routing, the log and the plan are told.
    fn changed(&mut self, id: &Arc<str>, before: Actual, after: Actual) {
        let quarantine = [before, after].contains(&Actual::Quarantined);
        self.condition_stale |= quarantine;
        let Some(entry) = self.bots.get(id) else {
            return;
        };
        let (pool, slots) = (entry.spec.name.clone(), entry.terms.slots);
        let (retired, connected) = (entry.retired, entry.is_at_work());
        let delay = entry.next_start_at;
        match after {
            Actual::Ready | Actual::Busy => {
                if connected {
                    self.dispatcher.open(id, &pool, slots);
                }
                if before == Actual::Starting {
                    tracing::info!(event = "bot_ready", bot_id = %id, pool = %pool, "bot is ready");
                }
            }
            Actual::Backoff => {
                let seconds = delay.map(|at| at.seconds_since(Timestamp::now()));
                tracing::warn!(event = "bot_restarting", bot_id = %id, delay_seconds = seconds, "bot ended; it is started again after a delay");
            }
            Actual::Quarantined => {
                tracing::warn!(event = "bot_quarantined", bot_id = %id, "bot ended too often (supervision.restart_intensity); it is tried again now and then");
            }
            Actual::Starting | Actual::Draining | Actual::Stopping | Actual::Stopped => {}
        }
        if !matches!(after, Actual::Ready | Actual::Busy) {
            self.dispatcher.close(id);
        }
        if after == Actual::Stopped && retired {
            self.bots.remove(id);
            self.order.retain(|other| other != id);
        }
        if matches!(
            after,
            Actual::Ready | Actual::Stopped | Actual::Quarantined | Actual::Backoff
        ) {
            self.roll();
        }
    }

    fn spawn(&mut self, id: &Arc<str>) {
        self.runs += 1;
        let run = self.runs;
        let spec = self.current_spec(id);
        let (socket, output) = (self.home.bots_socket(), self.home.bot_output(id));
        let Some(entry) = self.bots.get_mut(id) else {
            return;
        };
        if let Some(spec) = spec {
            entry.spec = spec;
        }
        entry.outdated = false;
        entry.run = run;
        entry.session = None;
        entry.process = None;
        (entry.identity, entry.placed, entry.over) = (None, false, None);
        entry.dialled = None;
        entry.sandbox = None;
        entry.last_seen = Arc::default();
        let secret = new_secret();
        entry.secret = Some(secret.clone());
        let request = Request {
            bot: id.clone(),
            run,
            bootstrap: Bootstrap {
                socket,
                bot_id: id.to_string(),
                secret,
            },
            env: environment(&entry.spec),
            output,
            limits: entry.spec.limits.clone(),
        };
        if self.spawner.spawn(request).is_err() {
            let result = Err("too many bots are being started".to_owned());
            self.spawned(id, run, result);
        }
    }

    /// Sends a frame to this start of a bot; whether it was taken.
    pub(super) fn send(&mut self, id: &Arc<str>, run: Run, frame: ToWorker) -> bool {
        let Some(entry) = self.bots.get(id).filter(|entry| entry.run == run) else {
            return false;
        };
        let Some(session) = &entry.session else {
            return false;
        };
        match session.try_send(frame) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(event = "bot_stuck", bot_id = %id, "the bot does not read its socket; ending it");
                self.kill(id);
                false
            }
        }
    }

    pub(super) fn kill(&self, id: &Arc<str>) {
        let Some(entry) = self.bots.get(id) else {
            return;
        };
        // One that is over a limit is being ended, after all that it started.
        let being_ended = entry
            .over
            .as_ref()
            .is_some_and(|over| over.has_time(self.now()));
        if let Some((_, handle)) = entry.process.as_ref().filter(|_| !being_ended) {
            handle.kill();
            self.limit_watch.kill(id, entry.run);
        }
    }

    /// Every bot finishes and ends.
    pub(super) fn stop_all(&mut self, drain: Drain) {
        for id in self.order.clone() {
            self.bot_event(&id, Event::Stop(drain));
        }
        // A bot that was being removed is not in the order any more.
        let ids: Vec<Arc<str>> = self.bots.keys().cloned().collect();
        for id in ids {
            self.bot_event(&id, Event::Stop(drain));
        }
    }

    pub(super) fn kill_all(&self) {
        for id in self.bots.keys() {
            self.kill(id);
        }
    }

    /// The state's timer.
    pub(super) fn bot_timer(&mut self, id: &Arc<str>, number: u64) {
        if self.bots.get(id).is_some_and(|entry| entry.timer == number) {
            self.bot_event(id, Event::Timer);
        }
    }

    pub(super) fn bot_healthy(&mut self, id: &Arc<str>, run: Run) {
        if self.bots.get(id).is_some_and(|entry| entry.run == run) {
            self.bot_event(id, Event::Healthy);
        }
    }

    /// A slot is reserved for this task.
    pub(super) fn bot_holds(&mut self, id: &Arc<str>, task: TaskId) {
        if let Some(entry) = self.bots.get_mut(id) {
            *entry.tasks.entry(task).or_default() += 1;
        }
        self.tasks_changed(id);
    }

    /// The slot is free again.
    pub(super) fn bot_lets_go(&mut self, id: &Arc<str>, task: &TaskId) {
        if let Some(entry) = self.bots.get_mut(id)
            && let Some(holds) = entry.tasks.get_mut(task)
        {
            *holds -= 1;
            if *holds == 0 {
                entry.tasks.remove(task);
            }
        }
        self.tasks_changed(id);
    }

    fn tasks_changed(&mut self, id: &Arc<str>) {
        if let Some(entry) = self.bots.get(id) {
            let n = entry.tasks.values().sum();
            self.watch_limits(id);
            self.bot_event(id, Event::Tasks(n));
        }
    }

    /// Tasks at once in one bot of this pool.
    pub(super) fn slots_of(&self, spec: &Pool) -> u32 {
        spec.max_concurrent_tasks
            .unwrap_or(self.config.bot_limits.max_concurrent_tasks_per_bot)
    }

    pub(super) fn output_limit_bytes(&self, id: &str) -> usize {
        let mb = self
            .bots
            .get(id)
            .map_or(1, |entry| entry.spec.limits.output_mb);
        // The bot cuts at the limit and may say so.
        mb as usize * 1024 * 1024 + deia::wire::OUTPUT_CHUNK_BYTES
    }

    /// Whether the bot is wanted and may be given tasks, or is on its way there.
    pub(super) fn is_active(entry: &BotEntry) -> bool {
        entry.machine.wanted() == Wanted::Running || entry.machine.has_process()
    }
}

fn new_secret() -> Secret {
    // 244 random bits of the operating system's generator.
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    secret[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    Secret(secret)
}

/// What a bot sees of the daemon's environment: what its pool's commands may see.
fn environment(spec: &Pool) -> Vec<(OsString, OsString)> {
    let backends = std::iter::once(&spec.backend).chain(&spec.fallback);
    let names = backends.flat_map(|backend| match backend {
        BackendSpec::Command(command) => command.env.as_slice(),
        BackendSpec::Ollama(_) | BackendSpec::Openai(_) | BackendSpec::Echo(_) => &[],
    });
    let names: BTreeSet<&str> = names
        .map(String::as_str)
        .chain(["PATH", "LANG", "TZ"])
        .collect();
    names
        .into_iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
        .collect()
}
