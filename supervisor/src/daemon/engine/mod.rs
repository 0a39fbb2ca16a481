//! The main loop: one task that owns the fleet and the queue.
//!
//! ```text
//!   HTTP --Command--> .-------------. --Op--> store's writer --Committed--.
//!   bots --FleetEvent->|   Engine   |                                     |
//!   timers ----------->'-------------' <----------------------------------'
//!                        |        '--frames--> bots            '--letters--> bots
//!                        '--replies--> HTTP
//! ```
//!
//! It never waits: everything slow is asked for and answered by an event. What it decides it asks
//! [`crate::brain`]; what must be durable it hands to the store, and it answers only what the store
//! has reported as committed. A task's way through it is in `tasks.rs` and `letters.rs`, a bot's in `bots.rs` and `contacts.rs`, the
//! configuration's in `fleet.rs`, an operator's limits in `overriding.rs`, the load's in `scaling.rs`, what was learned in
//! `learning.rs`, messages in `mail.rs`, the record of what happened in `recording.rs`, who did it
//! in `trail.rs`, health in `health.rs`. Its hands, its clocks and its dice are an `Edge`, see `edge.rs`.

mod bots;
mod contacts;
mod edge;
mod explaining;
mod external;
mod fleet;
mod health;
mod housekeeping;
mod learning;
mod letters;
mod limits;
mod mail;
mod on_host;
mod outcomes;
mod overriding;
mod recording;
mod scaling;
mod service;
#[cfg(test)]
mod sim;
mod takeover;
mod tasks;
mod timers;
mod trail;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::config::Config;
use deia::task::{TaskId, TaskStatus};
use deia::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use self::bots::{BotEntry, Session};
use self::edge::{Edge, Job};
use self::on_host::OnHost;
use self::outcomes::Pending;
use self::service::Service;
pub use self::takeover::Estate;
use self::tasks::InFlight;
use self::timers::{Timer, Timers};
use super::command::Command;
use super::health::Condition;
use super::home::Home;
use super::service::Link;
use super::vitals::{Probing, Without};
use crate::audit::Actor;
use crate::brain::clock::Clocks;
use crate::brain::dispatch::Dispatcher;
use crate::brain::plan::Limits;
use crate::brain::servers::Servers;
use crate::brain::tally::Tally;
use crate::brain::window::Loaded;
use crate::brain::{Millis, millis};
use crate::external::Signers;
use crate::fleet::exits::Exits;
use crate::fleet::limits::LimitWatch;
use crate::fleet::oom::Evidence;
use crate::fleet::outputs::Outputs;
use crate::fleet::spawn::Spawner;
use crate::fleet::{FleetEvent, Run};
use crate::store::{Committed, Due, Op, Outcome, Ready, Store, StoreError, Ticket};
use crate::usage::HostProbe;

/// Before a lane that could not be filled is tried again.
const FILL_AGAIN: Millis = 1_000;

/// What bots are to be told is waited for this long before another process goes on.
const LEAVE_PATIENCE: Millis = 500;

/// ... with this between two looks.
const FRAMES_LOOK: Millis = 2;

/// From the last KILL to the end without what it does not end.
const KILL_PATIENCE: Millis = 10_000;

/// Why nothing can be done any more.
const WRITER_ENDED: &str = "the store's writer has ended";

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
    /// Watches processes.
    pub exits: Exits,
    /// Starts processes.
    pub spawner: Spawner,
    /// What running tasks say.
    pub outputs: Outputs,
    /// What an earlier daemon left.
    pub estate: Estate,
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
    /// Where it is shown which model servers are to be asked.
    pub probing: watch::Sender<Probing>,
    /// The service manager, where there is one.
    pub service: Option<Link>,
    /// Why the fleet has to wait, at a start that has something to prove first.
    pub hold: Option<&'static str>,
    /// What proves the requests of external bots, for the HTTP side.
    pub signers: Signers,
}

/// What the engine is made of.
struct Core {
    home: Home,
    config: Arc<Config>,
    store: Arc<dyn Store>,
    edge: Box<dyn Edge>,
    outputs: Outputs,
    limit_watch: LimitWatch,
    evidence: Arc<Evidence>,
    closed: Vec<PathBuf>,
    condition: watch::Sender<Condition>,
    probing: watch::Sender<Probing>,
    service: Option<Link>,
    signers: Signers,
}

/// Answers to what the engine asked for itself.
#[derive(Debug)]
enum Internal {
    /// A lane's supply.
    Filled(Arc<str>, Result<Vec<Ready>, StoreError>),
    /// An operator's limits are on disk, or not.
    LimitsKept(io::Result<()>),
    /// The host was looked at, for scaling.
    HostSampled(scaling::HostSampled),
    /// Who is registered is on disk, or not.
    ExternalKept(edge::ExternalKept),
}

/// See the module.
pub struct Engine {
    home: Home,
    config: Arc<Config>,
    store: Arc<dyn Store>,
    edge: Box<dyn Edge>,
    outputs: Outputs,
    limit_watch: LimitWatch,
    evidence: Arc<Evidence>,
    closed: Vec<PathBuf>,
    condition: watch::Sender<Condition>,
    probing: watch::Sender<Probing>,
    service: Option<Service>,

    dispatcher: Dispatcher,
    bots: BTreeMap<Arc<str>, BotEntry>,
    /// Bots without a process here.
    external: external::External,
    /// The pools' bots in the order people see them.
    order: Vec<Arc<str>>,
    runs: Run,
    /// Connections of bots so far.
    lines: u64,
    /// Frames wait until the whole commit was looked at; those of these bots do.
    gathers: bool,
    gathered: Vec<Arc<str>>,
    letters: letters::Letters,
    in_flight: BTreeMap<TaskId, InFlight>,
    /// Tasks that wait for their time.
    scheduled: i64,
    next_due: Due,
    clocks: Clocks,
    clocks_kept_at: Millis,
    due_number: u64,
    waiters: HashMap<TaskId, Vec<oneshot::Sender<TaskStatus>>>,
    /// Results taken from a bot's file, which goes once they are durable.
    on_disk: HashMap<TaskId, PathBuf>,

    pending: HashMap<Ticket, Pending>,
    next_ticket: Ticket,
    outbox: Vec<(Ticket, Op)>,
    /// Ends of attempts the store would not take; tried again.
    leftovers: Vec<(Op, Pending)>,
    store_fault: Option<String>,
    store_again_armed: bool,

    limits: Limits,
    overriding: overriding::Overriding,
    /// Why the fleet waits without bots, whatever its limits are.
    hold: Option<&'static str>,
    /// The end of the main loop is not the end of the daemon.
    goes_on: bool,
    /// Bots that an operator has stopped.
    held: BTreeSet<String>,
    /// How often that has changed.
    held_turn: u64,
    last_scale_up: Option<Timestamp>,
    last_scale_down: Option<Timestamp>,
    scaling: scaling::Scaling,
    keeping: learning::Keeping,
    mail: mail::Mail,
    recording: recording::Recording,
    servers: Servers,
    /// Those that were said not to answer.
    shown_down: BTreeSet<Arc<str>>,
    tally: Tally,
    without: Without,
    timers: Timers,
    phase: Phase,
    /// A stop waits for nobody any more.
    given_up: bool,
    /// When what bots are to be told is not waited for any more.
    leave_by: Millis,
    /// What `/health` shows may have changed.
    condition_stale: bool,
    /// Who acts in this turn.
    actor: Actor,
}

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Another process goes on from here: nothing more is given out, what is on its way to the disk
    /// arrives.
    Leaving,
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
    /// As it was asked to, with its bots at work.
    Left,
    /// The store can't be trusted any more: start again.
    StoreBroken(String),
}

impl Engine {
    /// Takes over what the store has, starts the fleet and runs until it is asked to stop.
    ///
    /// # Errors
    /// When the store can't be read at the start.
    pub async fn run(parts: Parts, ready: oneshot::Sender<()>) -> Result<Ended, StoreError> {
        let (answers, mut internal) = mpsc::channel(crate::brain::dispatch::MAX_LANES);
        let (epoch, estate) = (parts.epoch, parts.estate);
        let (mut committed, mut commands) = (parts.committed, parts.commands);
        let mut events = parts.events;
        let edge = OnHost {
            epoch,
            home: parts.home.clone(),
            store: parts.store.clone(),
            spawner: parts.spawner,
            exits: parts.exits,
            answers,
            probe: HostProbe::default(),
            workdirs: Arc::default(),
        };
        let mut engine = Self::new(Core {
            home: parts.home,
            config: parts.config,
            store: parts.store,
            edge: Box::new(edge),
            outputs: parts.outputs,
            limit_watch: parts.limit_watch,
            evidence: parts.evidence,
            closed: parts.closed,
            condition: parts.condition,
            probing: parts.probing,
            service: parts.service,
            signers: parts.signers,
        });
        engine.hold = parts.hold;
        engine.begin(&mut committed, estate).await?;
        let _ = ready.send(());

        let (mut asked, mut happened) = (Vec::new(), Vec::new());
        loop {
            engine.settle();
            if let Some(ended) = engine.ended() {
                return Ok(ended);
            }
            let wake = sleep(epoch, engine.timers.next_at());
            tokio::select! {
                biased;
                outcomes = committed.recv() => match outcomes {
                    Some(outcomes) => engine.committed(outcomes),
                    None => return Ok(Ended::StoreBroken(WRITER_ENDED.into())),
                },
                _ = events.recv_many(&mut happened, TURN) => {
                    for event in happened.drain(..) {
                        while engine.letters.are_ahead() {
                            match committed.recv().await {
                                Some(outcomes) => engine.committed(outcomes),
                                None => return Ok(Ended::StoreBroken(WRITER_ENDED.into())),
                            }
                        }
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
            engine.timers_due();
        }
    }

    fn new(mut core: Core) -> Self {
        let (boot, kept) = (core.edge.boot(), core.edge.kept_clocks());
        let is_known = kept.as_ref().is_some_and(|kept| kept.is_of(&boot));
        let clocks = Clocks::new(kept, &boot, core.edge.up(), core.edge.wall());
        // Before anything is written down by a clock that may be wrong.
        if !is_known {
            core.edge.keep_clocks(&clocks);
        }
        Self {
            home: core.home,
            limits: Limits::of(&core.config.bot_limits),
            config: core.config,
            store: core.store,
            edge: core.edge,
            outputs: core.outputs,
            limit_watch: core.limit_watch,
            evidence: core.evidence,
            closed: core.closed,
            condition: core.condition,
            probing: core.probing,
            service: core.service.map(Service::new),
            dispatcher: Dispatcher::default(),
            bots: BTreeMap::new(),
            external: external::External::new(core.signers),
            order: Vec::new(),
            runs: 0,
            lines: 0,
            gathers: false,
            gathered: Vec::new(),
            letters: letters::Letters::default(),
            in_flight: BTreeMap::new(),
            scheduled: 0,
            next_due: Due::default(),
            clocks,
            clocks_kept_at: 0,
            due_number: 0,
            waiters: HashMap::new(),
            on_disk: HashMap::new(),
            pending: HashMap::new(),
            next_ticket: 1,
            outbox: Vec::new(),
            leftovers: Vec::new(),
            store_fault: None,
            store_again_armed: false,
            overriding: overriding::Overriding::default(),
            hold: None,
            goes_on: false,
            held: BTreeSet::new(),
            held_turn: 0,
            last_scale_up: None,
            last_scale_down: None,
            scaling: scaling::Scaling::default(),
            keeping: learning::Keeping::default(),
            mail: mail::Mail::default(),
            recording: recording::Recording::default(),
            servers: Servers::default(),
            shown_down: BTreeSet::new(),
            tally: Tally::default(),
            without: Without::default(),
            timers: Timers::default(),
            phase: Phase::Running,
            given_up: false,
            leave_by: 0,
            condition_stale: true,
            actor: Actor::DAEMON,
        }
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

    /// Takes over what there is, and starts the fleet.
    async fn begin(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
        estate: Estate,
    ) -> Result<(), StoreError> {
        // Also where the wall clock was set while there was no daemon.
        self.look_at_clocks();
        self.load_held();
        self.load_external(committed).await?;
        self.take_over(committed, estate).await?;
        self.load_override();
        if self.hold.is_some() {
            self.limits = Limits::new(0, 0);
        }
        self.begin_scaling();
        self.configure_servers();
        self.apply_plan();
        self.timers
            .at(self.now() + self.watch_interval(), Timer::Watch);
        self.timers.at(self.now(), Timer::Housekeeping);
        self.arm_due();
        self.probe_store();
        self.record_start();
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::As(actor, command) => self.acting(actor, |engine| engine.command(*command)),
            Command::Note { entry, reply } => self.note(*entry, reply),
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
                self.act_on_bot(&id, act, reply);
            }
            Command::Scaling { reply } => {
                let _ = reply.send(self.scaling_status());
            }
            Command::SetLimits { request, reply } => self.set_limits(request, reply),
            Command::EvaluateScaling { request, reply } => self.evaluate_scaling(request, reply),
            Command::ScaleByHand {
                pool,
                change,
                reply,
            } => self.scale_on_record(pool.as_deref(), change, reply),
            Command::Explain { id, demand, reply } => {
                let _ = reply.send(self.outlook(&id, demand.as_ref()));
            }
            Command::Learning(ask) => self.learning(ask),
            Command::Mail(ask) => self.ask_mail(ask),
            Command::Observe { reply } => {
                let _ = reply.send(self.observed());
            }
            Command::Report { failure, reply } => {
                let _ = reply.send(self.reported(failure));
            }
            Command::Health(ask) => self.ask_health(ask),
            Command::External(ask) => self.ask_external(ask),
            Command::Configure { config, reply } => {
                self.configure(config);
                // That the audit is off is the last on record: nothing after it waits for the disk.
                self.answer_on_record(move |_, _| {
                    let _ = reply.send(());
                });
            }
            Command::InterruptAll { reply } => self.interrupt_all_on_record(reply),
            Command::Leave => self.leave(),
            Command::Stop => self.stop(),
            Command::StopToGoOn => {
                self.goes_on = true;
                self.stop();
            }
            Command::Hold { why, reply } => {
                self.hold_back(why);
                let _ = reply.send(());
            }
            Command::Unhold { reply } => {
                self.unhold();
                let _ = reply.send(());
            }
        }
    }

    fn internal(&mut self, answer: Internal) {
        match answer {
            Internal::Filled(demand, Ok(rows)) => {
                let nothing_under_way = !self.changes_the_queue();
                let loaded = Loaded {
                    rows,
                    nothing_under_way,
                };
                self.dispatcher.filled(&demand, Some(loaded));
            }
            Internal::Filled(demand, Err(e)) => {
                tracing::error!(event = "store_read_failed", error = %e, "the queue could not be read; trying again");
                // The pause keeps a failing disk from being asked in a loop; writes go on meanwhile.
                self.fill_later(demand);
            }
            Internal::LimitsKept(kept) => self.limits_kept(kept),
            Internal::HostSampled(sampled) => self.host_sampled(sampled),
            Internal::ExternalKept(kept) => self.external_kept(&kept),
        }
    }

    fn fill_later(&mut self, demand: Arc<str>) {
        self.timers
            .at(self.now() + FILL_AGAIN, Timer::FillAgain(demand));
    }

    /// Whether something is on its way to the disk or back that changes which tasks are queued.
    fn changes_the_queue(&self) -> bool {
        self.pending.values().any(Pending::changes_the_queue)
    }

    /// What has come due since.
    fn timers_due(&mut self) {
        while let Some(timer) = self.timers.due(self.now()) {
            self.timer(timer);
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
            Timer::PruneMore => self.prune_trail(),
            Timer::Scaling(number) => self.scaling_due(number),
            Timer::KeepLearned => self.keep_learned(),
            Timer::Mail(number) => self.mail_due(number),
            Timer::External(bot) => self.external_due(&bot),
            Timer::ForgetLimits => self.forget_limits(),
            Timer::Wish(bot, number) => self.wish_over(&bot, number),
            Timer::ForgetNonces => self.forget_nonces(),
            Timer::StoreAgain => self.store_again(),
            Timer::Probe => self.probe_store(),
            Timer::ExtendStop => self.extend_stop(),
            Timer::StopNow => self.hurry(),
            Timer::GiveUp => self.give_up(),
            Timer::Leave => self.look_whether_frames_are_out(),
        }
    }

    /// After each turn: give out what can be given out, hand the store what has gathered.
    fn settle(&mut self) {
        self.offer_to_external();
        self.dispatch();
        self.look_for_unserved();
        self.look_for_learned();
        if self.store_fault.is_none() {
            for (demand, load) in self.dispatcher.wants_filling() {
                self.edge.begin(Job::Fill(demand, load));
            }
        }
        self.handed_over();
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
        self.note_what_waits();
        self.look_at_probing();
        self.take_census();
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
        match self.phase {
            Phase::Running => None,
            Phase::Leaving => (quiet && self.frames_are_out()).then_some(Ended::Left),
            Phase::Stopping | Phase::Hurrying => {
                let gone = self.bots.values().all(|bot| !bot.machine.has_process());
                let late = self.phase == Phase::Hurrying && !self.leftovers.is_empty();
                let given_up = self.given_up && quiet;
                ((gone && quiet && (self.leftovers.is_empty() || late)) || given_up)
                    .then_some(Ended::Stopped)
            }
        }
    }

    /// Whether bots have been sent what they were to be told, or too long has passed.
    fn frames_are_out(&self) -> bool {
        let sessions = self.bots.values().filter_map(|bot| bot.session.as_ref());
        self.now() >= self.leave_by || sessions.into_iter().all(Session::is_sent)
    }

    /// Another process goes on from here.
    fn leave(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Leaving;
            self.leave_by = self.now() + LEAVE_PATIENCE;
            self.end_cancelled_external();
            self.look_whether_frames_are_out();
        }
    }

    /// Nothing says when a socket has taken what there was: it is looked at again, for a moment.
    fn look_whether_frames_are_out(&mut self) {
        self.timers.at(self.now() + FRAMES_LOOK, Timer::Leave);
    }

    fn stop(&mut self) {
        let hurry = self.phase != Phase::Running;
        let entry = self.entry(deia::api::AuditAction::ShutdownInitiated, "daemon");
        self.put_on_record(entry.with(&serde_json::json!({"hurry": hurry})));
        self.condition_stale = true;
        match self.phase {
            Phase::Running | Phase::Leaving => {
                self.phase = Phase::Stopping;
                tracing::info!(
                    event = "drain_started",
                    running = self.in_flight.len(),
                    "stopping: no new tasks, running ones may finish"
                );
                let patience = millis(self.config.supervision.stop_timeout_seconds);
                self.stop_external();
                self.stop_all(crate::brain::bot::Drain::Within(patience));
                // Time for the bots to finish, to end what they started, and some for the disk.
                let deadline = self.now() + patience * 2 + 2_000;
                self.timers.at(deadline, Timer::StopNow);
                self.stopping_until(deadline);
            }
            Phase::Stopping => self.hurry(),
            Phase::Hurrying => {}
        }
    }

    /// Whether it was asked to end, and its bots with it.
    fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping | Phase::Hurrying)
    }

    fn hurry(&mut self) {
        match self.phase {
            Phase::Running | Phase::Leaving => {}
            Phase::Stopping => {
                self.phase = Phase::Hurrying;
                self.kill_all();
                self.timers.at(self.now() + KILL_PATIENCE, Timer::GiveUp);
            }
            Phase::Hurrying => self.kill_all(),
        }
    }

    /// What SIGKILL does not end, the daemon can't wait for.
    fn give_up(&mut self) {
        let blockers: Vec<String> = (self.bots.values())
            .filter(|bot| bot.machine.has_process())
            .flat_map(|bot| {
                let own = bot.process.as_ref().map(|(pid, _)| format!("pid {pid}"));
                own.into_iter().chain(bot.blocked_by.clone())
            })
            .collect();
        if !blockers.is_empty() {
            tracing::error!(
                event = "stop_incomplete",
                left = blockers.join(", "),
                "processes do not end, not even by SIGKILL; ending without them"
            );
        }
        self.given_up = true;
    }

    /// The monotonic clock, from the daemon's start.
    fn now(&self) -> Millis {
        self.edge.now()
    }

    /// The wall clock.
    fn wall(&self) -> Timestamp {
        self.edge.wall()
    }

    /// The clock that nobody sets.
    fn steady(&self) -> Timestamp {
        self.clocks.steady(self.edge.up())
    }
}

/// Until that is due.
async fn sleep(epoch: Instant, next_at: Option<Millis>) {
    match next_at {
        Some(at) => tokio::time::sleep_until((epoch + Duration::from_millis(at)).into()).await,
        None => std::future::pending().await,
    }
}
