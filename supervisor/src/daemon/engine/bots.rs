//! A bot's way through the main loop: the table's actions carried out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use deia::bot::{Actual, BotEnd, LastExit, Wanted};
use deia::config::{BackendSpec, Pool};
use deia::task::TaskId;
use deia::time::Timestamp;
use deia::wire::{Launch, ToWorker};
use deia_worker::tree::Identity;

use super::Engine;
use super::limits::OverLimit;
use super::timers::Timer;
use crate::brain::Millis;
use crate::brain::bot::{Action, Bot, Drain, Event};
use crate::brain::explain::Replaced;
use crate::brain::liveness::Heart;
use crate::fleet::outgoing::{NotSent, Outgoing};
use crate::fleet::pulse::PulseReader;
use crate::fleet::spawn::{NotStarted, ProcessHandle, Request};
use crate::fleet::{Line, Run};

/// Everything the main loop knows of a bot.
#[derive(Debug)]
pub(super) struct BotEntry {
    pub machine: Bot,
    /// The pool it was, or will be, started as.
    pub spec: Arc<Pool>,
    pub run: Run,
    /// What its process has to show.
    pub launch: Launch,
    pub process: Option<(u32, ProcessHandle)>,
    /// When that process was started, or found.
    pub process_since: Option<Timestamp>,
    /// The pid of its connection, which is known before the process is reported.
    pub dialled: Option<u32>,
    /// The process's pid and start, for the watch over its limits.
    pub identity: Option<Identity>,
    /// Whether the process is in a cgroup of its own.
    pub placed: bool,
    /// What was over a limit, where that is why it is being ended.
    pub over: Option<OverLimit>,
    pub session: Option<Session>,
    /// What its sandbox was told to keep closed.
    pub closed: Vec<PathBuf>,
    /// Its heartbeats, and what they said.
    pub pulse: Option<PulseReader>,
    pub heart: Heart,
    /// Its release, where it is not this one.
    pub version: Option<String>,
    /// Why the host has no room for its process, where it has not.
    pub no_room: Option<String>,
    /// What does not end, though it was killed.
    pub blocked_by: Vec<String>,
    /// Reserved and running tasks, and how often: a client may submit the same one again meanwhile.
    pub tasks: BTreeMap<TaskId, u32>,
    /// What its process was told when it was welcomed.
    pub terms: Terms,
    pub since: Timestamp,
    pub sandbox: Option<String>,
    pub last_exit: Option<LastExit>,
    /// The last ends, oldest first.
    pub ends: VecDeque<BotEnd>,
    pub next_start_at: Option<Timestamp>,
    timer: u64,
    /// KILLs sent to its process.
    kills: u32,
    /// An operator stopped it: the plan leaves it alone.
    pub held: bool,
    /// Its pool's specification has changed since it was started.
    pub outdated: bool,
    /// It is of another release than the daemon, since then.
    pub old_release: Option<Millis>,
    /// It does not belong to the fleet any more: forgotten once it has ended.
    pub retired: bool,
}

/// Ends that are remembered of each bot.
const ENDS_KEPT: usize = 10;

/// A bot of an older release that is never idle is drained after this long.
const OLD_RELEASE_SERVES: Millis = 600_000;

/// A bot's connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Which, of all.
    pub number: u64,
    /// Frames to it.
    pub frames: Box<dyn Outgoing>,
}

impl Session {
    /// Whether everything was handed to the socket.
    pub fn is_sent(&self) -> bool {
        self.frames.is_sent()
    }
}

/// What a process was told, and goes by until it is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Terms {
    pub slots: u32,
    pub heartbeat_seconds: f64,
    pub stop_timeout_seconds: f64,
}

impl BotEntry {
    pub fn new(spec: Arc<Pool>, since: Timestamp) -> Self {
        Self {
            machine: Bot::default(),
            spec,
            run: 0,
            launch: Launch(0),
            process: None,
            process_since: None,
            dialled: None,
            identity: None,
            placed: false,
            over: None,
            session: None,
            closed: Vec::new(),
            pulse: None,
            heart: Heart::heard(0),
            version: None,
            no_room: None,
            blocked_by: Vec::new(),
            tasks: BTreeMap::new(),
            terms: Terms::default(),
            since,
            sandbox: None,
            last_exit: None,
            ends: VecDeque::new(),
            next_start_at: None,
            timer: 0,
            kills: 0,
            held: false,
            outdated: false,
            old_release: None,
            retired: false,
        }
    }

    /// Whether this is its connection.
    pub fn is_on(&self, line: &Line) -> bool {
        let session = self.session.as_ref();
        self.run == line.run && session.is_some_and(|session| session.number == line.number)
    }

    /// Whether another process shall take its place: because its pool has changed, or its release.
    /// One of an older release serves until it is idle, within reason.
    pub fn must_be_rolled(&self, now: Millis) -> bool {
        let old = self.old_release.is_some_and(|since| {
            self.machine.actual() == Actual::Ready
                || now.saturating_sub(since) >= OLD_RELEASE_SERVES
        });
        self.outdated || old
    }

    /// Why another process takes its place, where one does.
    pub fn replaced(&self) -> Option<Replaced> {
        let release = self.old_release.map(|_| Replaced::Release);
        self.outdated.then_some(Replaced::Pool).or(release)
    }

    /// Its process is gone.
    pub fn ended(&mut self, exit: LastExit, at: Timestamp) {
        let ran = self.process_since.take();
        self.last_exit = Some(exit);
        if self.ends.len() == ENDS_KEPT {
            self.ends.pop_front();
        }
        self.ends.push_back(BotEnd {
            at,
            ran_seconds: ran.map_or(0.0, |since| at.seconds_since(since)),
            exit,
        });
    }

    /// What it waits for to end, for people.
    pub fn blockers(&self) -> Vec<String> {
        // One KILL may be on its way.
        let process = self.process.as_ref().filter(|_| self.kills > 1);
        let own = process.map(|(pid, _)| format!("pid {pid} (the bot itself, despite SIGKILL)"));
        own.into_iter().chain(self.blocked_by.clone()).collect()
    }

    /// Whether it has a connection, and a process that is known and in its cgroup: it may have tasks.
    pub fn is_at_work(&self) -> bool {
        self.session.is_some() && self.process.is_some()
    }

    /// The pid of its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|(pid, _)| *pid).or(self.dialled)
    }
}

impl Engine {
    /// Something happened to a bot: ask the table, do what it says.
    pub(super) fn bot_event(&mut self, id: &Arc<str>, event: Event) {
        let (now, wall, chance) = (self.now(), self.wall(), self.edge.chance());
        let mut rules = self.config.supervision.clone();
        let Some(entry) = self.bots.get_mut(id) else {
            return;
        };
        let told = entry.terms.stop_timeout_seconds;
        rules.stop_timeout_seconds = rules.stop_timeout_seconds.max(told);
        let before = entry.machine.actual();
        let was_wanted = entry.machine.wanted();
        let actions = entry.machine.on(event, &rules, now, chance);
        let after = entry.machine.actual();
        let wanted = entry.machine.wanted();
        if before != after {
            entry.since = wall;
            entry.next_start_at = None;
        }
        self.bot_moved((before, was_wanted), (after, wanted));
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
                let (at, wall) = (self.now() + after, self.wall());
                if let Some(entry) = self.bots.get_mut(id) {
                    entry.timer += 1;
                    let waits = matches!(
                        entry.machine.actual(),
                        Actual::Backoff | Actual::Quarantined
                    );
                    entry.next_start_at = waits.then(|| wall.plus_millis(after as i64));
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
                let seconds = delay.map(|at| at.seconds_since(self.wall()));
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
        let launch = self.edge.new_launch();
        let Some(entry) = self.bots.get_mut(id) else {
            return;
        };
        if let Some(spec) = spec {
            entry.spec = spec;
        }
        entry.outdated = false;
        entry.old_release = None;
        entry.run = run;
        entry.launch = launch;
        entry.session = None;
        entry.process = None;
        entry.pulse = None;
        entry.version = None;
        (entry.identity, entry.placed, entry.over) = (None, false, None);
        entry.dialled = None;
        entry.sandbox = None;
        entry.blocked_by.clear();
        entry.kills = 0;
        let request = Request {
            bot: id.clone(),
            run,
            launch: entry.launch,
            socket,
            env: environment(&entry.spec),
            output,
            limits: entry.spec.limits.clone(),
        };
        if self.edge.start(request).is_err() {
            let why = "too many bots are being started".to_owned();
            let result = Err(NotStarted::NoRoom(why));
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
        match session.frames.send(frame) {
            Ok(()) => {
                match self.gathers {
                    true => self.gathered.push(id.clone()),
                    false => session.frames.flush(),
                }
                true
            }
            Err(NotSent::Gone) => false,
            Err(NotSent::Full) => {
                tracing::warn!(event = "bot_stuck", bot_id = %id, "the bot does not read its socket; ending it");
                self.kill(id);
                false
            }
        }
    }

    /// Frames of one commit to one bot are one write.
    pub(super) fn gathering(&mut self, gathers: bool) {
        self.gathers = gathers;
        for id in self.gathered.drain(..) {
            let entry = self.bots.get(&id);
            if let Some(session) = entry.and_then(|entry| entry.session.as_ref()) {
                session.frames.flush();
            }
        }
    }

    pub(super) fn kill(&mut self, id: &Arc<str>) {
        let now = self.now();
        let Some(entry) = self.bots.get_mut(id) else {
            return;
        };
        // One that is over a limit is being ended, after all that it started.
        let being_ended = entry.over.as_ref().is_some_and(|over| over.has_time(now));
        if let Some((_, handle)) = entry.process.as_ref().filter(|_| !being_ended) {
            self.edge.kill(id, entry.run, handle);
            self.limit_watch.kill(id, entry.run);
            entry.kills += 1;
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

    pub(super) fn kill_all(&mut self) {
        for id in self.bots.keys().cloned().collect::<Vec<_>>() {
            self.kill(&id);
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
        if self.external.holds(id, &task) {
            return;
        }
        if let Some(entry) = self.bots.get_mut(id) {
            *entry.tasks.entry(task).or_default() += 1;
        }
        self.tasks_changed(id);
    }

    /// The slot is free again.
    pub(super) fn bot_lets_go(&mut self, id: &Arc<str>, task: &TaskId) {
        if self.external.lets_go(id, task) {
            return;
        }
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
            self.scaling.tasks_changed(id, n, self.now());
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
        if self.external.has(id) {
            return super::external::output_limit();
        }
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
