//! The main loop: one task that owns the fleet and the queue.
//!
//! ```text
//!   HTTP --Command--> .-------------. --Op--> store's writer --Committed--.
//!   bots --FleetEvent->|   Engine   |                                     |
//!   timers ----------->'-------------' <----------------------------------'
//!                        |        '--frames--> bots
//!                        '--replies--> HTTP
//! ```
//!
//! It never waits: everything slow is asked for and answered by an event. What it decides it asks
//! [`crate::brain`]; what must be durable it hands to the store, and it answers only what the store
//! has reported as committed. A task's way through it is in `tasks.rs`, a bot's in `bots.rs` and `contacts.rs`, the
//! limits' and the configuration's in `fleet.rs`.

mod bots;
mod contacts;
mod fleet;
mod housekeeping;
mod limits;
mod outcomes;
mod tasks;
mod timers;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::config::Config;
use deia::task::{TaskId, TaskStatus};
use deia::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use self::bots::BotEntry;
use self::outcomes::Pending;
use self::tasks::InFlight;
use self::timers::{Timer, Timers};
use super::command::Command;
use super::health::Condition;
use super::home::Home;
use crate::brain::dispatch::Dispatcher;
use crate::brain::plan::Limits;
use crate::brain::window::LANE_TASKS;
use crate::brain::{Millis, millis};
use crate::fleet::limits::LimitWatch;
use crate::fleet::oom::Evidence;
use crate::fleet::outputs::Outputs;
use crate::fleet::pids::BotPids;
use crate::fleet::spawn::Spawner;
use crate::fleet::{FleetEvent, Run};
use crate::store::{Committed, Op, Outcome, Ready, Store, StoreError, Ticket};

/// Before a lane that could not be filled is tried again.
const FILL_AGAIN: Millis = 1_000;

/// Messages of one kind that are taken in one turn.
const TURN: usize = 256;

/// What the engine works with.
pub struct Parts {
    /// The paths.
    pub home: Home,
    /// The first configuration.
    pub config: Arc<Config>,
    /// The store, and what it reports.
    pub store: Arc<dyn Store>,
    /// Its reports.
    pub committed: mpsc::Receiver<Committed>,
    /// Requests.
    pub commands: mpsc::Receiver<Command>,
    /// Reports of the fleet.
    pub events: mpsc::Receiver<FleetEvent>,
    /// To watch processes.
    pub events_to: mpsc::Sender<FleetEvent>,
    /// Starts processes.
    pub spawner: Spawner,
    /// What running tasks say.
    pub outputs: Outputs,
    /// Which processes are bots.
    pub pids: BotPids,
    /// Holds bots to their limits.
    pub limit_watch: LimitWatch,
    /// Tells bots that the kernel ended for want of memory.
    pub evidence: Arc<Evidence>,
    /// The daemon's own files that are not below its home.
    pub closed: Vec<PathBuf>,
    /// When the daemon started.
    pub epoch: Instant,
    /// Where its condition is shown.
    pub condition: watch::Sender<Condition>,
}

/// Answers to what the engine asked for itself.
#[derive(Debug)]
enum Internal {
    /// A lane's supply.
    Filled(Arc<str>, Result<Vec<Ready>, StoreError>),
    /// An operator's limits are on disk, or not.
    LimitsKept(fleet::LimitsKept),
}

/// See the module.
pub struct Engine {
    home: Home,
    config: Arc<Config>,
    store: Arc<dyn Store>,
    events_to: mpsc::Sender<FleetEvent>,
    internal_to: mpsc::Sender<Internal>,
    spawner: Spawner,
    outputs: Outputs,
    pids: BotPids,
    limit_watch: LimitWatch,
    evidence: Arc<Evidence>,
    closed: Vec<PathBuf>,
    epoch: Instant,
    condition: watch::Sender<Condition>,

    dispatcher: Dispatcher,
    bots: BTreeMap<Arc<str>, BotEntry>,
    /// The pools' bots in the order people see them.
    order: Vec<Arc<str>>,
    runs: Run,
    in_flight: HashMap<TaskId, InFlight>,
    /// Tasks that wait for their time.
    scheduled: i64,
    next_due: Option<Timestamp>,
    due_number: u64,
    waiters: HashMap<TaskId, Vec<oneshot::Sender<TaskStatus>>>,

    pending: HashMap<Ticket, Pending>,
    next_ticket: Ticket,
    outbox: Vec<(Ticket, Op)>,
    /// Ends of attempts the store would not take; tried again.
    leftovers: Vec<(Op, Pending)>,
    store_fault: Option<String>,
    store_again_armed: bool,

    limits: Limits,
    overridden: Option<fleet::Override>,
    last_scale_up: Option<Timestamp>,
    last_scale_down: Option<Timestamp>,
    timers: Timers,
    phase: Phase,
    /// What `/health` shows may have changed.
    condition_stale: bool,
}

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Asked to end.
    Stopping,
    /// Asked to end twice, or out of time.
    Hurrying,
}

/// How the main loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As it was asked to.
    Stopped,
    /// The store can't be trusted any more: start again.
    StoreBroken(String),
}

impl Engine {
    /// Takes over what the store has, starts the fleet and runs until it is asked to stop.
    ///
    /// # Errors
    /// When the store can't be read at the start.
    pub async fn run(parts: Parts, ready: oneshot::Sender<()>) -> Result<Ended, StoreError> {
        let Parts {
            mut committed,
            mut commands,
            mut events,
            ..
        } = parts;
        let (internal_to, mut internal) = mpsc::channel(crate::brain::dispatch::MAX_LANES);
        let mut engine = Self {
            home: parts.home,
            limits: Limits::of(&parts.config.bot_limits),
            config: parts.config,
            store: parts.store,
            events_to: parts.events_to,
            internal_to,
            spawner: parts.spawner,
            outputs: parts.outputs,
            pids: parts.pids,
            limit_watch: parts.limit_watch,
            evidence: parts.evidence,
            closed: parts.closed,
            epoch: parts.epoch,
            condition: parts.condition,
            dispatcher: Dispatcher::default(),
            bots: BTreeMap::new(),
            order: Vec::new(),
            runs: 0,
            in_flight: HashMap::new(),
            scheduled: 0,
            next_due: None,
            due_number: 0,
            waiters: HashMap::new(),
            pending: HashMap::new(),
            next_ticket: 0,
            outbox: Vec::new(),
            leftovers: Vec::new(),
            store_fault: None,
            store_again_armed: false,
            overridden: None,
            last_scale_up: None,
            last_scale_down: None,
            timers: Timers::default(),
            phase: Phase::Running,
            condition_stale: true,
        };
        engine.take_over(&mut committed).await?;
        engine.begin();
        let _ = ready.send(());

        let (mut asked, mut happened) = (Vec::new(), Vec::new());
        loop {
            engine.settle();
            if let Some(ended) = engine.ended() {
                return Ok(ended);
            }
            let wake = engine.sleep();
            tokio::select! {
                biased;
                outcomes = committed.recv() => match outcomes {
                    Some(outcomes) => engine.committed(outcomes),
                    None => return Ok(Ended::StoreBroken("the store's writer has ended".into())),
                },
                _ = events.recv_many(&mut happened, TURN) => {
                    for event in happened.drain(..) {
                        engine.fleet_event(event);
                    }
                }
                Some(answer) = internal.recv() => engine.internal(answer),
                _ = commands.recv_many(&mut asked, TURN) => {
                    for command in asked.drain(..) {
                        engine.command(command);
                    }
                }
                () = wake => {}
            }
            while let Some(timer) = engine.timers.due(engine.now()) {
                engine.timer(timer);
            }
        }
    }

    /// What an earlier daemon left in the store.
    async fn take_over(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
    ) -> Result<(), StoreError> {
        let at = Timestamp::now();
        let released = match self.ask_store(committed, Op::ReleaseAll { at }).await? {
            Outcome::Released { count } => count,
            _ => 0,
        };
        if released > 0 {
            tracing::warn!(
                event = "tasks_recovered",
                count = released,
                "tasks that an earlier daemon had given to bots are queued again"
            );
        }
        self.dispatcher.configure(self.pool_facts());
        for (demand, counts) in self.store.demands().await? {
            self.dispatcher.counted(&demand, counts);
        }
        self.next_due = self.store.next_due().await?;
        let counts = self.store.counts().await?;
        self.scheduled = i64::try_from(counts.of(TaskStatus::Scheduled)).unwrap_or(i64::MAX);
        Ok(())
    }

    async fn ask_store(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
        op: Op,
    ) -> Result<Outcome, StoreError> {
        if self.store.write(vec![(0, op)]).is_err() {
            return Err(StoreError::Closed);
        }
        match committed
            .recv()
            .await
            .and_then(|mut outcomes| outcomes.pop())
        {
            Some((_, outcome)) => outcome,
            None => Err(StoreError::Closed),
        }
    }

    fn begin(&mut self) {
        self.next_ticket = 1;
        self.load_override();
        self.apply_plan();
        self.timers
            .at(self.now() + self.watch_interval(), Timer::Watch);
        self.timers.at(self.now(), Timer::Housekeeping);
        self.arm_due();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit {
                task,
                demand,
                reply,
            } => self.submit(task, &demand, reply),
            Command::Cancel { id, reply } => self.cancel(id, reply),
            Command::Requeue { id, reply } => self.requeue(id, reply),
            Command::Wait { id, reply } => {
                let (end, receiver) = oneshot::channel();
                self.waiters.entry(id).or_default().push(end);
                let _ = reply.send(receiver);
            }
            Command::Bots { reply } => {
                let _ = reply.send(self.bot_views());
            }
            Command::ActOnBot { id, act, reply } => {
                let _ = reply.send(self.act_on_bot(&id, act));
            }
            Command::Scaling { reply } => {
                let _ = reply.send(self.scaling_status());
            }
            Command::SetLimits { request, reply } => self.set_limits(request, reply),
            Command::Configure { config, reply } => {
                self.configure(config);
                let _ = reply.send(());
            }
            Command::InterruptAll { reply } => {
                let _ = reply.send(self.interrupt_all());
            }
            Command::Stop => self.stop(),
        }
    }

    fn internal(&mut self, answer: Internal) {
        match answer {
            Internal::Filled(demand, Ok(rows)) => self.dispatcher.filled(&demand, Some(rows)),
            Internal::Filled(demand, Err(e)) => {
                tracing::error!(event = "store_read_failed", error = %e, "the queue could not be read; trying again");
                // The pause keeps a failing disk from being asked in a loop; writes go on meanwhile.
                self.timers
                    .at(self.now() + FILL_AGAIN, Timer::FillAgain(demand));
            }
            Internal::LimitsKept(kept) => self.limits_kept(kept),
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Bot(bot, number) => self.bot_timer(&bot, number),
            Timer::Healthy(bot, run) => self.bot_healthy(&bot, run),
            Timer::Deaf(bot, run) => self.bot_deaf(&bot, run),
            Timer::Watch => self.watch(),
            Timer::Due(number) => self.promote_due(number),
            Timer::FillAgain(demand) => self.dispatcher.filled(&demand, None),
            Timer::Housekeeping => self.housekeeping(),
            Timer::ExpireMore => self.expire_old(),
            Timer::RemoveMore => self.remove_old(),
            Timer::StoreAgain => self.store_again(),
            Timer::StopNow => self.hurry(),
        }
    }

    /// After each turn: give out what can be given out, hand the store what has gathered.
    fn settle(&mut self) {
        self.dispatch();
        if self.store_fault.is_none() {
            for (demand, after) in self.dispatcher.wants_filling() {
                let (store, to) = (self.store.clone(), self.internal_to.clone());
                tokio::spawn(async move {
                    let rows = store.ready_after(demand.clone(), after, LANE_TASKS).await;
                    let _ = to.send(Internal::Filled(demand, rows)).await;
                });
            }
        }
        if !self.outbox.is_empty()
            && let Err(refused) = self.store.write(std::mem::take(&mut self.outbox))
        {
            let busy = StoreError::Failed("too many operations wait for the disk".into());
            let outcomes = refused
                .into_iter()
                .map(|(ticket, _)| (ticket, Err(busy.clone())));
            let outcomes: Committed = outcomes.collect();
            self.committed(outcomes);
        }
        if std::mem::take(&mut self.condition_stale) {
            self.show_condition();
        }
    }

    /// Hands the store an operation with the next batch.
    fn ask(&mut self, op: Op, pending: Pending) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.pending.insert(ticket, pending);
        self.outbox.push((ticket, op));
    }

    fn ended(&self) -> Option<Ended> {
        if let Some(fault) = self.store_fault.as_ref().filter(|_| self.store_is_broken()) {
            return Some(Ended::StoreBroken(fault.clone()));
        }
        let quiet = self.pending.is_empty() && self.outbox.is_empty();
        let gone = self.bots.values().all(|bot| !bot.machine.has_process());
        let late = self.phase == Phase::Hurrying && !self.leftovers.is_empty();
        (self.phase != Phase::Running && gone && quiet && (self.leftovers.is_empty() || late))
            .then_some(Ended::Stopped)
    }

    fn stop(&mut self) {
        self.condition_stale = true;
        match self.phase {
            Phase::Running => {
                self.phase = Phase::Stopping;
                tracing::info!(
                    event = "drain_started",
                    running = self.in_flight.len(),
                    "stopping: no new tasks, running ones may finish"
                );
                let patience = millis(self.config.supervision.stop_timeout_seconds);
                self.stop_all(crate::brain::bot::Drain::Within(patience));
                // Time for the bots to finish, to end what they started, and some for the disk.
                self.timers
                    .at(self.now() + patience * 2 + 2_000, Timer::StopNow);
            }
            Phase::Stopping => self.hurry(),
            Phase::Hurrying => {}
        }
    }

    fn hurry(&mut self) {
        if self.phase != Phase::Running {
            self.phase = Phase::Hurrying;
            self.kill_all();
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.epoch.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn sleep(&self) -> impl Future<Output = ()> + 'static {
        let at = self
            .timers
            .next_at()
            .map(|at| self.epoch + Duration::from_millis(at));
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        }
    }
}
