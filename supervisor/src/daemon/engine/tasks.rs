//! A task's way through the main loop: admitted, leased, run, ended.

use std::sync::Arc;
use std::time::Duration;

use deia::api::{AuditAction, AuditResult};
use deia::task::{AttemptStatus, Fence, TaskId, TaskStatus};
use deia::time::Timestamp;
use deia::wire::{self, Assignment, CancelOf, ToWorker};
use serde_json::json;

use super::letters::Lettered;
use super::outcomes::{Pending, Settle};
use super::recording::EndNote;
use super::{Engine, Phase};
use crate::brain::demand::Demand;
use crate::brain::dispatch::{Admission, MAX_LANES};
use crate::brain::learn::Sample;
use crate::brain::retry::{self, DeadCause, Verdict};
use crate::brain::route::Weighing;
use crate::brain::{Millis, millis};
use crate::daemon::command::{Acted, Refused, Reply, Submitted};
use crate::fleet::Run;
use crate::store::{Audited, Counts, End, Lease, NewTask, Op, RELEASED_ERROR, Ready, TaskResult};

/// A bot's hold on a task, from the commit of its lease to the commit of its end.
#[derive(Debug)]
pub(super) struct InFlight {
    pub ready: Ready,
    pub fence: Fence,
    pub bot: Arc<str>,
    pub run: Run,
    pub phase: AttemptPhase,
    pub cancel: Cancel,
    pub failures: u32,
    pub losses: u32,
    pub since: Millis,
    /// Its bot may have had it since then.
    pub asked_at: Millis,
    /// How long it had run before `since`, under another daemon.
    pub ran_before: Millis,
    pub started_at: Option<Timestamp>,
    /// Why the bot has it; not known under another daemon.
    pub weighing: Option<Weighing>,
}

/// Where an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptPhase {
    /// The bot has it.
    Running,
    /// Its end is being made durable.
    Ending,
}

/// Whether the bot was told to give it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// By the task's owner: the task ends.
    Task {
        since: Millis,
    },
    /// By an operator: the task is tried again.
    Attempt {
        since: Millis,
    },
}

impl Cancel {
    /// What the bot is told.
    pub fn of(self) -> Option<CancelOf> {
        match self {
            Self::No => None,
            Self::Task { .. } => Some(CancelOf::Task),
            Self::Attempt { .. } => Some(CancelOf::Attempt),
        }
    }
}

/// Whether a bot knows of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assigned {
    /// It was told.
    Sent,
    /// It can't be told any more.
    Unreachable,
    /// It comes to fetch it.
    ToFetch,
}

/// How often a task was tried, this attempt included, and how that went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    pub attempt: u32,
    pub failures: u32,
    pub losses: u32,
    /// It came just now, and nothing was said of it yet.
    pub is_new: bool,
}

impl Tries {
    pub const FIRST: Self = Self {
        attempt: 1,
        failures: 0,
        losses: 0,
        is_new: true,
    };
}

/// How a running attempt came to its end.
#[derive(Debug)]
pub(super) enum AttemptEnd {
    /// The bot said so.
    Reported(wire::Outcome),
    /// Its process ended under it.
    BotLost {
        error: String,
        /// The bot had no other task.
        alone: bool,
    },
    /// The lease came too late for its bot.
    TakenBack,
    /// An earlier daemon's lease that nobody holds.
    Released,
    /// No model server could be reached: the task waits for one.
    Held(String),
}

/// What the log says of a task that is durable.
pub(super) fn log_received(ready: &Ready, bot: Option<&str>) {
    tracing::info!(event = "task_received", bot_id = bot, task_id = %ready.id, priority = %ready.priority, kind = %ready.task_type, "task accepted");
}

impl Engine {
    /// A new task.
    pub(super) fn submit(
        &mut self,
        task: Box<NewTask>,
        demand: &Demand,
        reply: Reply<Result<Submitted, Refused>>,
    ) {
        if let Some(refused) = self.refusal() {
            self.note_refusal(&refused, task.task_type);
            let _ = reply.send(Err(refused));
            return;
        }
        // How long it waits is measured on the wall clock.
        self.look_at_clocks();
        let begun = self.edge.since_start();
        let scheduled = task.not_before.is_some_and(|at| at > task.submitted_at);
        let admission = if scheduled {
            self.admit_scheduled(demand, &task)
        } else {
            self.dispatcher
                .admit(demand, &task.demand, task.submitted_at)
        };
        let direct = match admission {
            Admission::Direct { bot, weighing } => Some((bot, weighing)),
            Admission::Wait => None,
            Admission::Unsuitable => {
                return self.ask_whether_known(&task, Refused::Unsuitable, reply);
            }
            Admission::TooManyDemands => {
                return self.ask_whether_known(&task, Refused::TooManyDemands(MAX_LANES), reply);
            }
        };
        let microseconds = self.microseconds_since(begun);
        let ready = Ready {
            seq: 0,
            id: task.id.clone(),
            demand: task.demand.clone(),
            priority: task.priority,
            submitted_at: task.submitted_at,
            timeout_ms: task.timeout_ms,
            max_attempts: task.max_attempts,
            task_type: task.task_type,
            scheduled,
            failed: false,
            losses: 0,
        };
        let content = task.content.clone();
        let not_before = task.not_before;
        let (lease, direct) = match direct {
            Some((bot, weighing)) => {
                let mut settle = self.hold(&ready, bot, weighing, microseconds);
                settle.lettered = self.letter(&settle.bot, settle.run, &ready, &content);
                let lease = Lease {
                    bot_id: settle.bot.to_string(),
                    at: self.wall(),
                    letter: settle.lettered.as_ref().map(Lettered::letter),
                };
                (Some(lease), Some(settle))
            }
            None => (None, None),
        };
        let pending = Pending::Submit {
            ready: Box::new(ready),
            content,
            not_before,
            direct,
            reply,
        };
        let mut entry = self.entry(AuditAction::TaskSubmitted, task.id.to_shared());
        entry.at = task.submitted_at;
        self.ask_on_record(Op::Submit(task, lease), entry, pending);
    }

    /// A task that can't be taken may have been taken before, by another configuration: who asks again is told so.
    fn ask_whether_known(
        &mut self,
        task: &NewTask,
        refused: Refused,
        reply: Reply<Result<Submitted, Refused>>,
    ) {
        let op = Op::Known {
            id: task.id.clone(),
            request_hash: task.request_hash,
        };
        let pending = Pending::Known {
            task: task.id.clone(),
            task_type: task.task_type,
            refused,
            reply,
        };
        self.ask(op, pending);
    }

    /// A scheduled task takes no slot now; it only has to be possible.
    fn admit_scheduled(&mut self, demand: &Demand, task: &NewTask) -> Admission {
        let now = task.submitted_at;
        match self.dispatcher.admit(demand, &task.demand, now) {
            Admission::Direct { bot, .. } => {
                self.dispatcher.free(&bot);
                Admission::Wait
            }
            other => other,
        }
    }

    /// Why nothing new is taken, where it is so.
    fn refusal(&self) -> Option<Refused> {
        if let Some(why) = self.refusing() {
            return Some(Refused::Draining(why));
        }
        if let Some(fault) = &self.store_fault {
            return Some(Refused::Store(fault.clone()));
        }
        let most = self.config.tasks.max_queued;
        let waiting = self.dispatcher.waiting() + u64::try_from(self.scheduled).unwrap_or(0);
        (waiting >= most).then_some(Refused::QueueFull(most))
    }

    /// The bot's slot is reserved for this task; its lease is on the way to the disk.
    fn hold(
        &mut self,
        ready: &Ready,
        bot: Arc<str>,
        weighing: Weighing,
        microseconds: u64,
    ) -> Settle {
        let run = self.bots.get(&bot).map_or(0, |entry| entry.run);
        let waited = self.wall().seconds_since(ready.submitted_at);
        self.tally.routed(microseconds, millis(waited));
        self.note_choice(microseconds);
        self.bot_holds(&bot, ready.id.clone());
        Settle {
            bot,
            run,
            weighing: Weighing {
                microseconds,
                ..weighing
            },
            lettered: None,
            asked_at: self.now(),
        }
    }

    fn microseconds_since(&self, begun: Duration) -> u64 {
        let took = self.edge.since_start().saturating_sub(begun);
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    }

    /// Gives waiting tasks to bots with free slots.
    pub(super) fn dispatch(&mut self) {
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let at = self.wall();
        loop {
            let begun = self.edge.since_start();
            let Some(choice) = self.dispatcher.next(at) else {
                return;
            };
            let microseconds = self.microseconds_since(begun);
            let op = Op::Lease {
                seq: choice.waiting.ready.seq,
                lease: Lease {
                    bot_id: choice.bot.to_string(),
                    at,
                    letter: None,
                },
                want_content: choice.waiting.content.is_none(),
            };
            let settle = self.hold(
                &choice.waiting.ready,
                choice.bot,
                choice.weighing,
                microseconds,
            );
            let waiting = Box::new(choice.waiting);
            self.ask(op, Pending::Lease { waiting, settle });
        }
    }

    /// The lease is durable: off to the bot, without a word before that which could wait; where it has no letter.
    pub(super) fn assign(
        &mut self,
        in_flight: &InFlight,
        content: &Arc<str>,
        lettered: Option<&Lettered>,
    ) -> Assigned {
        let (id, fence, bot) = (&in_flight.ready.id, in_flight.fence, &in_flight.bot);
        if lettered.is_some_and(|lettered| self.has_letter(bot, in_flight.run, lettered)) {
            return Assigned::Sent;
        }
        let limit = self.output_limit_bytes(bot);
        self.outputs.open(id, fence, limit);
        if self.external.has(bot) {
            return Assigned::ToFetch;
        }
        let assignment = ToWorker::Assign(Box::new(Assignment {
            task: id.clone(),
            fence,
            content: content.to_string(),
            timeout_ms: self.attempt_timeout_ms(bot, &in_flight.ready),
        }));
        deia::failpoint!("assign.before");
        let sent = self.send(bot, in_flight.run, assignment);
        deia::failpoint!("assign.after");
        match sent {
            true => Assigned::Sent,
            false => Assigned::Unreachable,
        }
    }

    /// Until its end; which is now, where its bot could not be told.
    pub(super) fn hold_in_flight(
        &mut self,
        in_flight: InFlight,
        content: &Arc<str>,
        assigned: Assigned,
    ) {
        let (id, fence) = (in_flight.ready.id.clone(), in_flight.fence);
        match assigned {
            Assigned::ToFetch => self.give(in_flight, content),
            Assigned::Sent | Assigned::Unreachable => {
                self.in_flight.insert(id.clone(), in_flight);
            }
        }
        if assigned == Assigned::Unreachable {
            self.end_attempt(&id, fence, AttemptEnd::TakenBack);
        }
    }

    pub(super) fn attempt_timeout_ms(&self, bot: &Arc<str>, ready: &Ready) -> u64 {
        let budget = self
            .bots
            .get(bot)
            .and_then(|entry| entry.spec.budget.seconds_per_task)
            .map_or(u64::MAX, |seconds| seconds.saturating_mul(1000));
        ready.timeout_ms.min(budget)
    }

    /// The bot has it.
    ///
    /// `said` is what the bot says of when; it can't say what can't be.
    pub(super) fn started(&mut self, id: &TaskId, fence: Fence, said: Option<Timestamp>) {
        let (wall, now) = (self.wall(), self.now());
        if let Some(attempt) = self.in_flight.get_mut(id).filter(|a| a.fence == fence) {
            // In whole milliseconds: it may be one more.
            let ago = (now - attempt.asked_at)
                .saturating_add(attempt.ran_before)
                .saturating_add(1);
            let earliest = wall.plus_millis(-i64::try_from(ago).unwrap_or(i64::MAX));
            // A bot that is back says it again.
            let said = said.map_or(wall, |said| said.clamp(earliest, wall));
            attempt.started_at.get_or_insert(said);
            tracing::info!(event = "task_started", bot_id = %attempt.bot, task_id = %id, attempt = fence.attempt, "task started");
        }
    }

    /// An attempt is over. Its end goes to the disk; its slot is free already.
    pub(super) fn end_attempt(&mut self, id: &TaskId, fence: Fence, end: AttemptEnd) {
        let (at, chance) = (self.wall(), self.edge.chance());
        let steady = self.steady();
        self.look_at_clocks();
        let known = self.in_flight.get(id).filter(|a| a.fence == fence);
        let Some(attempt) = known.filter(|a| a.phase == AttemptPhase::Running) else {
            return;
        };
        let fence_holds = attempt.fence;
        let end = self.judged_by_server(id, end);
        let Some(attempt) = self.in_flight.get(id).filter(|a| a.fence == fence_holds) else {
            return;
        };
        let ran = attempt.started_at.map(|_| self.ran(attempt));
        let note = EndNote::of(&end, attempt.cancel, ran);
        let (end, mut detail) = self.verdict(attempt, end, steady, chance);
        detail.note = Some(note);
        let entry = self.entry_of_end(id, &attempt.bot, fence.attempt, &end);
        let counts = !matches!(
            &end,
            End::Retry {
                counts: Counts::No,
                ..
            }
        );
        let losses = match &end {
            End::Retry { counts, .. } => counts.losses(attempt.losses),
            _ => attempt.losses,
        };
        let op = Op::Finish {
            seq: attempt.ready.seq,
            fence,
            started_at: attempt.started_at,
            at,
            end,
            choice: attempt.weighing.as_ref().and_then(Weighing::to_text),
        };
        let (bot, attempt_seq) = (attempt.bot.clone(), attempt.ready.seq);
        let task_type = attempt.ready.task_type;
        if let Some(attempt) = self.in_flight.get_mut(id) {
            attempt.phase = AttemptPhase::Ending;
            attempt.losses = losses;
        }
        self.dispatcher.ended(&bot, attempt_seq);
        if let Some(succeeded) = detail.succeeded {
            self.tally.ended(succeeded, ran.unwrap_or(0));
            let seconds = ran.map(|ran| ran as f64 / 1000.0);
            self.dispatcher.learn(
                &bot,
                &Sample {
                    task_type,
                    seconds,
                    succeeded,
                    at,
                },
            );
        }
        self.bot_lets_go(&bot, id);
        self.external_ended(&bot, id);
        let task = id.clone();
        // What was taken back has neither ended nor failed.
        let op = match self.audits() && counts {
            true => Op::Audited(Box::new(Audited { op, entry })),
            false => op,
        };
        self.ask(
            op.clone(),
            Pending::Finish {
                task,
                fence,
                detail,
                op: Box::new(op),
            },
        );
    }

    /// How long an attempt has run, under whichever daemon.
    pub(super) fn ran(&self, attempt: &InFlight) -> Millis {
        self.now().saturating_sub(attempt.since) + attempt.ran_before
    }

    /// What becomes of the task.
    fn verdict(
        &self,
        attempt: &InFlight,
        end: AttemptEnd,
        steady: Timestamp,
        chance: f64,
    ) -> (End, Detail) {
        let id = &attempt.ready.id;
        let cancelled = matches!(attempt.cancel, Cancel::Task { .. });
        let taken_back = |error: &str| {
            let error = error.to_owned();
            let end = End::Retry {
                status: AttemptStatus::Lost,
                error,
                not_before: None,
                counts: Counts::No,
            };
            (end, Detail::new(None, None))
        };
        match end {
            AttemptEnd::Reported(wire::Outcome::Succeeded {
                usage,
                backend,
                model,
                truncated,
            }) => {
                let result = TaskResult {
                    output: self.outputs.text(id, attempt.fence),
                    truncated,
                    usage,
                    backend,
                    model,
                };
                let end = End::Succeeded(Box::new(result));
                (end, Detail::new(Some(true), None))
            }
            // Also of an attempt that failed or was lost while it was being cancelled.
            _ if cancelled => (End::Cancelled, Detail::new(None, None)),
            AttemptEnd::Reported(wire::Outcome::Cancelled) | AttemptEnd::TakenBack => {
                taken_back("taken back")
            }
            AttemptEnd::Released => taken_back(RELEASED_ERROR),
            AttemptEnd::Held(error) => taken_back(&format!("{error}; the task waits for it")),
            AttemptEnd::Reported(wire::Outcome::Failed { error, kind }) => {
                self.failed(attempt, retry::Ended::Failed(kind), error, (steady, chance))
            }
            AttemptEnd::BotLost { error, alone } => {
                let ended = retry::Ended::BotLost { alone };
                self.failed(attempt, ended, error, (steady, chance))
            }
        }
    }

    fn failed(
        &self,
        attempt: &InFlight,
        ended: retry::Ended,
        error: String,
        (steady, chance): (Timestamp, f64),
    ) -> (End, Detail) {
        let record = retry::Record {
            failures: attempt.failures,
            max_attempts: attempt.ready.max_attempts,
            losses: attempt.losses,
            poison_after: self.config.supervision.poison_after,
        };
        let (status, counts) = match ended {
            retry::Ended::BotLost { .. } => (AttemptStatus::Lost, Counts::AsLoss),
            retry::Ended::Failed(_) | retry::Ended::TakenBack => {
                (AttemptStatus::Failed, Counts::AsFailure)
            }
        };
        match retry::after(ended, record, &self.config.tasks, chance) {
            Verdict::Retry(delay) => {
                let not_before = (delay > 0).then(|| steady.plus_millis(delay as i64));
                let end = End::Retry {
                    status,
                    error,
                    not_before,
                    counts,
                };
                (end, Detail::new(Some(false), not_before))
            }
            Verdict::Dead(cause) => {
                let error = match cause {
                    DeadCause::AttemptsExhausted | DeadCause::Permanent => error,
                    DeadCause::Poison => format!(
                        "{error}; it has ended {} bots in a row (supervision.poison_after), so it is not tried again",
                        attempt.losses + 1
                    ),
                };
                let detail = Detail::new(Some(false), None);
                (End::Dead { status, error }, detail)
            }
        }
    }

    /// Cancels a task: a waiting one at once, a running one through its bot.
    pub(super) fn cancel(&mut self, id: TaskId, reply: Reply<Result<Acted, Refused>>) {
        let since = self.now();
        let name = id.to_shared();
        if let Some(attempt) = self.in_flight.get_mut(&id)
            && attempt.phase == AttemptPhase::Running
        {
            // Who asks again has not asked later.
            let since = match attempt.cancel {
                Cancel::No => since,
                Cancel::Attempt { since } | Cancel::Task { since } => since,
            };
            if !matches!(attempt.cancel, Cancel::Task { .. }) {
                attempt.cancel = Cancel::Task { since };
                let (bot, run, fence) = (attempt.bot.clone(), attempt.run, attempt.fence);
                let of = CancelOf::Task;
                let task = id;
                self.send(&bot, run, ToWorker::Cancel { task, fence, of });
            }
            if self.phase != Phase::Running {
                self.end_cancelled_external();
            }
            let entry = self.entry(AuditAction::TaskCancelled, name);
            let entry = entry.with_result(AuditResult::Partial);
            self.put_on_record(entry.with(&json!({"status": "running"})));
            self.answer_on_record(move |_, recorded| {
                let _ = reply.send(recorded.map(|_| Acted {
                    status: TaskStatus::Running,
                    pending: true,
                }));
            });
            return;
        }
        let at = self.wall();
        let entry = self.entry(AuditAction::TaskCancelled, name);
        let actor = self.actor.clone();
        self.ask_on_record(
            Op::Cancel { id: id.clone(), at },
            entry,
            Pending::Cancel { id, actor, reply },
        );
    }

    /// Queues an ended task again.
    pub(super) fn requeue(&mut self, id: TaskId, reply: Reply<Result<Acted, Refused>>) {
        if let Some(refused) = self.refusal() {
            let _ = reply.send(Err(refused));
            return;
        }
        let entry = self.entry(AuditAction::TaskRetried, id.to_shared());
        let op = Op::Requeue {
            id,
            at: self.wall(),
        };
        self.ask_on_record(op, entry, Pending::Requeue { reply });
    }

    /// Tells the bots of these tasks to give them up; the tasks are tried again.
    pub(super) fn interrupt(&mut self, tasks: &[TaskId]) -> u64 {
        let since = self.now();
        let mut told = 0;
        for id in tasks {
            if let Some(attempt) = self.in_flight.get_mut(id)
                && attempt.phase == AttemptPhase::Running
                && attempt.cancel == Cancel::No
            {
                attempt.cancel = Cancel::Attempt { since };
                let (bot, run, fence) = (attempt.bot.clone(), attempt.run, attempt.fence);
                self.send(
                    &bot,
                    run,
                    ToWorker::Cancel {
                        task: id.clone(),
                        fence,
                        of: CancelOf::Attempt,
                    },
                );
                told += 1;
            }
        }
        told
    }

    /// Interrupts everything that runs.
    pub(super) fn interrupt_all_on_record(&mut self, reply: Reply<Result<u64, Refused>>) {
        if let Some(refused) = self.too_many_unrecorded() {
            let _ = reply.send(Err(refused));
            return;
        }
        let tasks: Vec<TaskId> = self.in_flight.keys().cloned().collect();
        let told = self.interrupt(&tasks);
        let entry = self.entry(AuditAction::BotInterrupted, "fleet");
        self.put_on_record(entry.with(&json!({"interrupted": told})));
        self.answer_on_record(move |_, recorded| {
            let _ = reply.send(recorded.map(|_| told));
        });
    }
}

/// What the log and the waiters are told once an end is durable.
#[derive(Debug)]
pub(super) struct Detail {
    pub succeeded: Option<bool>,
    pub not_before: Option<Timestamp>,
    /// For the record.
    pub note: Option<EndNote>,
}

impl Detail {
    fn new(succeeded: Option<bool>, not_before: Option<Timestamp>) -> Self {
        Self {
            succeeded,
            not_before,
            note: None,
        }
    }
}
