//! What the store reports as durable, and who is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use deia::api::AuditAction;
use deia::task::{Fence, TaskId, TaskStatus, TaskType};
use deia::time::Timestamp;
use deia::wire::ToWorker;

use super::Engine;
use super::edge::Job;
use super::letters::Lettered;
use super::service::PROBE;
use super::tasks::{AttemptEnd, AttemptPhase, Cancel, Detail, InFlight, Tries, log_received};
use super::timers::Timer;
use super::trail::{Keep, Then};
use crate::audit::{Actor, Entry};
use crate::brain::Millis;
use crate::brain::record::Submission;
use crate::brain::route::Weighing;
use crate::brain::window::Waiting;
use crate::daemon::command::{Acted, Refused, Reply, SignedRequest, Submitted};
use crate::fleet::Run;
use crate::store::{Committed, LearnedRow, MessageRecord, Op, Outcome, Ready, StoreError};

/// Why a task whose text is damaged is dead, for the record; the store says more in the log.
const UNREADABLE: &str = "what it was to do can't be read from the store any more";

/// What an operation was for.
#[derive(Debug)]
pub(super) enum Pending {
    Submit {
        ready: Box<Ready>,
        content: Arc<str>,
        not_before: Option<Timestamp>,
        direct: Option<Settle>,
        reply: Reply<Result<Submitted, Refused>>,
    },
    Lease {
        waiting: Box<Waiting>,
        settle: Settle,
    },
    Finish {
        task: TaskId,
        fence: Fence,
        detail: Detail,
        /// To try it again: a result is never dropped because a disk was full.
        op: Box<Op>,
    },
    Cancel {
        id: TaskId,
        /// Who wants that.
        actor: Actor,
        reply: Reply<Result<Acted, Refused>>,
    },
    Requeue {
        reply: Reply<Result<Acted, Refused>>,
    },
    Promote,
    Expire,
    Retain,
    Send {
        /// Their names, and whose they are.
        sent: Vec<(String, String)>,
        /// Bots that have theirs with it.
        in_inbox: BTreeSet<String>,
        over: Option<Timestamp>,
        reply: Reply<Result<(), Refused>>,
    },
    Deliver {
        bot: String,
    },
    Read {
        reply: Reply<Result<MessageRecord, Refused>>,
    },
    Drain {
        reply: Reply<Result<Vec<MessageRecord>, Refused>>,
    },
    ExpireMessages,
    RetainMessages,
    /// A signed request, once its name is taken.
    Nonce {
        request: Box<SignedRequest>,
    },
    RetainNonces,
    /// What was learned.
    Learn(Vec<LearnedRow>),
    /// Under which version it is learned.
    LearnUnder {
        version: u32,
        forget: bool,
    },
    /// Whether a task that can't be taken is there already; why it can't be taken.
    Known {
        task: TaskId,
        refused: Refused,
        task_type: TaskType,
        reply: Reply<Result<Submitted, Refused>>,
    },
    Probe,
    /// A record of an act.
    Record {
        entry: Box<Entry>,
        keep: Keep,
        then: Vec<Then>,
    },
    /// Records past their time.
    Prune,
}

impl Pending {
    /// Whether a task may be queued, or not be queued any more, by it.
    pub fn changes_the_queue(&self) -> bool {
        match self {
            Self::Submit { .. }
            | Self::Lease { .. }
            | Self::Finish { .. }
            | Self::Cancel { .. }
            | Self::Requeue { .. }
            | Self::Promote
            | Self::Expire => true,
            Self::Retain
            | Self::Send { .. }
            | Self::Deliver { .. }
            | Self::Read { .. }
            | Self::Drain { .. }
            | Self::ExpireMessages
            | Self::RetainMessages
            | Self::Nonce { .. }
            | Self::RetainNonces
            | Self::Learn(_)
            | Self::LearnUnder { .. }
            | Self::Known { .. }
            | Self::Record { .. }
            | Self::Prune
            | Self::Probe => false,
        }
    }
}

/// A reserved slot whose lease is on the way to the disk.
#[derive(Debug)]
pub(super) struct Settle {
    pub bot: Arc<str>,
    pub run: Run,
    pub weighing: Weighing,
    /// What tells the bot once the lease is durable, if not the main loop.
    pub lettered: Option<Lettered>,
    pub asked_at: Millis,
}

/// Between two tries of what a failing store has left over.
const STORE_AGAIN: u64 = 500;

/// Before due tasks are asked for again.
const PROMOTE_AGAIN: u64 = 1_000;

/// The same where something is wrong with one of them.
const PROMOTE_MUCH_LATER: u64 = 60_000;

impl Engine {
    /// The outcomes of one transaction.
    pub(super) fn committed(&mut self, outcomes: Committed) {
        self.note_commit(&outcomes);
        self.gathering(outcomes.len() > 1);
        for (ticket, outcome) in outcomes {
            if ticket == PROBE {
                self.probed(&outcome);
                match outcome {
                    Ok(_) => self.store_works(),
                    Err(StoreError::Operation(_)) => {}
                    Err(e) => self.store_failed(&e),
                }
                continue;
            }
            let Some(pending) = self.pending.remove(&ticket) else {
                continue;
            };
            match outcome {
                Ok(outcome) => {
                    self.store_works();
                    self.durable(pending, outcome);
                }
                Err(e @ StoreError::Operation(_)) => self.impossible(pending, &e),
                Err(e) => {
                    self.store_failed(&e);
                    self.not_durable(pending, &e);
                }
            }
        }
        self.gathering(false);
    }

    fn durable(&mut self, pending: Pending, outcome: Outcome) {
        match (pending, outcome) {
            (
                Pending::Submit {
                    ready,
                    content,
                    not_before,
                    direct,
                    reply,
                },
                outcome,
            ) => self.submitted(*ready, content, not_before, direct, reply, outcome),
            (Pending::Lease { waiting, settle }, outcome) => self.leased(*waiting, settle, outcome),
            (
                Pending::Finish {
                    task,
                    fence,
                    detail,
                    ..
                },
                outcome,
            ) => self.finished(&task, fence, &detail, &outcome),
            (Pending::Cancel { id, actor, reply }, outcome) => {
                self.acting(actor, |engine| engine.cancelled(id, reply, outcome));
            }
            (Pending::Requeue { reply }, outcome) => self.requeued(reply, outcome),
            (
                Pending::Known {
                    task,
                    refused,
                    task_type,
                    reply,
                },
                outcome,
            ) => {
                if matches!((&outcome, &refused), (Outcome::Gone, Refused::Unsuitable)) {
                    tracing::warn!(event = "no_suitable_bot", task_id = %task, "no bot of this configuration can do the task");
                }
                let _ = reply.send(self.not_taken(outcome, refused, task_type));
            }
            (Pending::Promote, Outcome::Promoted { ready, next_due }) => {
                self.promoted(ready, next_due)
            }
            (Pending::Expire, Outcome::Expired(expired)) => self.expired(&expired),
            (Pending::Retain, Outcome::Removed { count }) => self.removed(count),
            (
                Pending::Send {
                    sent,
                    in_inbox,
                    over,
                    reply,
                },
                outcome,
            ) => {
                let answer = match outcome {
                    Outcome::InboxFull { bot } => Err(Refused::InboxFull(bot)),
                    _ => Ok(()),
                };
                let is_sent = answer.is_ok();
                deia::failpoint!("message.reply.before");
                // A sender that has gone away finds it in the conversation.
                let _ = reply.send(answer);
                if is_sent {
                    self.sent(sent, &in_inbox, over);
                }
            }
            (Pending::Deliver { bot }, Outcome::Delivered { ids, expired, more }) => {
                self.delivered(bot, ids, expired, more);
            }
            (Pending::Read { reply }, outcome) => {
                let answer = match outcome {
                    Outcome::Message { message, emptied } => {
                        self.was_read(&message, emptied);
                        Ok(*message)
                    }
                    _ => Err(Refused::UnknownMessage),
                };
                let _ = reply.send(answer);
            }
            (Pending::Drain { reply }, Outcome::Messages(messages)) => {
                for message in &messages {
                    self.was_read(message, false);
                }
                let _ = reply.send(Ok(messages));
            }
            (
                Pending::ExpireMessages,
                Outcome::MessagesExpired {
                    expired,
                    emptied,
                    next,
                },
            ) => self.messages_expired(expired, &emptied, next),
            (Pending::RetainMessages, Outcome::Removed { count }) => self.messages_removed(count),
            (Pending::Record { then, .. }, Outcome::Recorded(recorded)) => {
                self.recorded(then, recorded);
            }
            (Pending::Prune, Outcome::Removed { count }) => self.pruned(count),
            (Pending::Nonce { request }, Outcome::Nonce(nonce)) => {
                self.nonce_taken(*request, nonce);
            }
            (Pending::RetainNonces, Outcome::Removed { count }) => self.nonces_forgotten(count),
            (
                Pending::Promote
                | Pending::Expire
                | Pending::Retain
                | Pending::Learn(_)
                | Pending::LearnUnder { .. }
                | Pending::Deliver { .. }
                | Pending::Drain { .. }
                | Pending::ExpireMessages
                | Pending::RetainMessages
                | Pending::Record { .. }
                | Pending::Prune
                | Pending::Nonce { .. }
                | Pending::RetainNonces
                | Pending::Probe,
                _,
            ) => {}
        }
    }

    fn submitted(
        &mut self,
        mut ready: Ready,
        content: Arc<str>,
        not_before: Option<Timestamp>,
        direct: Option<Settle>,
        reply: Reply<Result<Submitted, Refused>>,
        outcome: Outcome,
    ) {
        let seq = match outcome {
            Outcome::Submitted { seq } => seq,
            other => {
                if let Some(settle) = direct {
                    self.release(&settle.bot, &ready.id);
                }
                let _ = reply.send(self.not_taken(other, Refused::Conflict, ready.task_type));
                return;
            }
        };
        ready.seq = seq;
        self.note_submission(Submission::Accepted, ready.task_type);
        self.tally.received();
        let answer = match direct {
            Some(settle) => {
                if settle.lettered.is_some() {
                    self.letters.is_known();
                }
                let bot = settle.bot.clone();
                self.in_flight_begins(ready, settle, Tries::FIRST, &content);
                Submitted::Routed { bot }
            }
            None if ready.scheduled => {
                log_received(&ready, None);
                self.scheduled += 1;
                self.due_at(not_before);
                Submitted::Waits {
                    position: None,
                    held: None,
                }
            }
            None => {
                log_received(&ready, None);
                let (demand, priority) = (ready.demand.clone(), ready.priority);
                self.dispatcher.add(ready, Some(content));
                let position = Some(self.dispatcher.position(&demand, priority));
                let held = self.dispatcher.held_for(&demand).map(str::to_owned);
                Submitted::Waits { position, held }
            }
        };
        deia::failpoint!("reply.before");
        // A client that has gone away asks again by its task_id.
        let _ = reply.send(Ok(answer));
        deia::failpoint!("reply.after");
    }

    /// The answer to a submission that was not taken: the task is there already, or is refused for this.
    fn not_taken(
        &mut self,
        outcome: Outcome,
        refused: Refused,
        task_type: TaskType,
    ) -> Result<Submitted, Refused> {
        let refused = match outcome {
            Outcome::Duplicate(record) => {
                self.note_submission(Submission::Duplicate, task_type);
                return Ok(Submitted::Duplicate(record));
            }
            Outcome::Conflict => Refused::Conflict,
            _ => refused,
        };
        self.note_refusal(&refused, task_type);
        Err(refused)
    }

    fn leased(&mut self, waiting: Waiting, settle: Settle, outcome: Outcome) {
        match outcome {
            Outcome::Leased {
                attempt,
                failures,
                losses,
                content,
            } => {
                self.dispatcher.leased(&waiting.ready);
                let content = content.or(waiting.content).unwrap_or_else(|| Arc::from(""));
                let tries = Tries {
                    attempt,
                    failures,
                    losses,
                    is_new: false,
                };
                self.in_flight_begins(waiting.ready, settle, tries, &content);
            }
            Outcome::Unreadable => {
                let ready = waiting.ready;
                self.dispatcher.leased(&ready);
                self.dispatcher.ended(&settle.bot, ready.seq);
                self.bot_lets_go(&settle.bot, &ready.id);
                tracing::warn!(event = "task_dead", task_id = %ready.id, "task is dead: what it was to do can't be read from the store any more");
                let entry = self.entry(AuditAction::TaskFailed, ready.id.to_shared());
                self.put_on_record(entry.failed(UNREADABLE));
                self.note_over(&ready.id, TaskStatus::Dead);
                self.tell_waiters(&ready.id, TaskStatus::Dead);
            }
            // Cancelled or expired while it was being given out.
            _ => {
                self.bot_lets_go(&settle.bot, &waiting.ready.id);
                self.dispatcher.lease_refused(&settle.bot, &waiting.ready);
            }
        }
    }

    /// A lease is durable: the bot is told first, and then the rest of the world.
    fn in_flight_begins(&mut self, ready: Ready, settle: Settle, tries: Tries, content: &Arc<str>) {
        let in_flight = InFlight {
            fence: Fence {
                epoch: self.store.epoch(),
                attempt: tries.attempt,
            },
            ready,
            bot: settle.bot,
            run: settle.run,
            phase: AttemptPhase::Running,
            cancel: Cancel::No,
            failures: tries.failures,
            losses: tries.losses,
            since: self.now(),
            asked_at: match settle.lettered {
                Some(_) => settle.asked_at,
                None => self.now(),
            },
            ran_before: 0,
            started_at: None,
            weighing: Some(settle.weighing),
        };
        let assigned = self.assign(&in_flight, content, settle.lettered.as_ref());
        let (ready, bot) = (&in_flight.ready, &in_flight.bot);
        if tries.is_new {
            log_received(ready, Some(bot));
        }
        if let Some(weighing) = &in_flight.weighing {
            tracing::info!(event = "task_routed", bot_id = %bot, task_id = %ready.id, attempt = tries.attempt, score = weighing.score, microseconds = weighing.microseconds, "task routed");
        }
        self.note_lease(ready, tries.attempt);
        self.hold_in_flight(in_flight, content, assigned);
    }

    /// An attempt's end is durable.
    fn finished(&mut self, task: &TaskId, fence: Fence, detail: &Detail, outcome: &Outcome) {
        if let Some(file) = self.on_disk.remove(task) {
            self.edge.begin(Job::PutAway(file));
        }
        let Some(attempt) = self.in_flight.remove(task) else {
            return;
        };
        deia::failpoint!("ack.before");
        self.send(
            &attempt.bot,
            attempt.run,
            ToWorker::Ack {
                task: task.clone(),
                fence,
            },
        );
        deia::failpoint!("ack.after");
        let ended = match *outcome {
            Outcome::Finished { status } => Some(status),
            _ => None,
        };
        self.external_end_is_durable(task, fence, ended);
        let Some(status) = ended else {
            // The fence no longer holds: somebody else ended the attempt. Nothing of it counts.
            tracing::warn!(event = "late_result_refused", bot_id = %attempt.bot, task_id = %task, attempt = fence.attempt, "a result came too late and was refused");
            self.outputs.end(task, fence, TaskStatus::Queued);
            return;
        };
        self.log_end(&attempt, status, detail);
        if let Some(note) = detail.note {
            self.note_end(&attempt, status, note);
        }
        self.outputs.end(task, fence, status);
        let mut ready = attempt.ready;
        ready.failed |= detail.succeeded == Some(false);
        ready.losses = attempt.losses;
        match status {
            TaskStatus::Queued => {
                ready.scheduled = false;
                self.note_queued_again(&ready.id);
                self.dispatcher.add(ready, None);
            }
            TaskStatus::Scheduled => {
                self.scheduled += 1;
                self.due_again_at(detail.not_before);
            }
            _ => self.tell_waiters(task, status),
        }
    }

    fn log_end(&self, attempt: &InFlight, status: TaskStatus, detail: &Detail) {
        let (bot, task, n) = (&*attempt.bot, &attempt.ready.id, attempt.fence.attempt);
        let milliseconds = self.ran(attempt);
        match status {
            TaskStatus::Succeeded => {
                tracing::info!(event = "task_completed", bot_id = bot, task_id = %task, attempt = n, milliseconds, "task completed");
            }
            TaskStatus::Cancelled => {
                tracing::info!(event = "task_cancelled", bot_id = bot, task_id = %task, attempt = n, milliseconds, "task cancelled");
            }
            TaskStatus::Dead => {
                tracing::warn!(event = "task_failed", bot_id = bot, task_id = %task, attempt = n, milliseconds, "the attempt failed");
                tracing::warn!(event = "task_dead", bot_id = bot, task_id = %task, attempt = n, "task failed for good; its reason is in the API");
            }
            _ => {
                if detail.succeeded == Some(false) {
                    tracing::warn!(event = "task_failed", bot_id = bot, task_id = %task, attempt = n, milliseconds, "the attempt failed");
                }
                tracing::info!(event = "task_retried", bot_id = bot, task_id = %task, attempt = n, "task is queued again");
            }
        }
    }

    fn cancelled(&mut self, id: TaskId, reply: Reply<Result<Acted, Refused>>, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Cancelled(ready) => {
                if ready.scheduled {
                    self.scheduled -= 1;
                } else {
                    self.dispatcher.forget(&ready);
                }
                tracing::info!(event = "task_cancelled", task_id = %ready.id, "task cancelled before a bot had it");
                self.note_over(&ready.id, TaskStatus::Cancelled);
                self.tell_waiters(&ready.id, TaskStatus::Cancelled);
                Ok(Acted {
                    status: TaskStatus::Cancelled,
                    pending: false,
                })
            }
            // It was leased in the meantime: once more, now through its bot.
            Outcome::NotQueued {
                status: TaskStatus::Running,
                ..
            } if self
                .in_flight
                .get(&id)
                .is_some_and(|a| a.phase == AttemptPhase::Running) =>
            {
                return self.cancel(id, reply);
            }
            Outcome::NotQueued { status, .. } => Err(Refused::WrongStatus(status)),
            _ => Err(Refused::UnknownTask),
        };
        let _ = reply.send(answer);
    }

    fn requeued(&mut self, reply: Reply<Result<Acted, Refused>>, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Requeued(ready) => {
                tracing::info!(event = "task_retried", task_id = %ready.id, "an ended task is queued again on request");
                self.note_queued_again(&ready.id);
                self.dispatcher.add(ready, None);
                Ok(Acted {
                    status: TaskStatus::Queued,
                    pending: false,
                })
            }
            Outcome::NotQueued { status, .. } => Err(Refused::WrongStatus(status)),
            _ => Err(Refused::UnknownTask),
        };
        let _ = reply.send(answer);
    }

    /// The transaction is not on disk, nothing of it happened.
    fn not_durable(&mut self, pending: Pending, e: &StoreError) {
        match pending {
            Pending::Submit {
                ready,
                direct,
                reply,
                ..
            } => {
                if let Some(settle) = direct {
                    self.release(&settle.bot, &ready.id);
                }
                self.note_submission(Submission::Refused, ready.task_type);
                let _ = reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Lease { waiting, settle } => {
                self.bot_lets_go(&settle.bot, &waiting.ready.id);
                self.dispatcher.not_leased(&settle.bot, *waiting);
            }
            Pending::Finish {
                task,
                fence,
                detail,
                op,
            } => {
                let again = (*op).clone();
                self.leftovers.push((
                    again,
                    Pending::Finish {
                        task,
                        fence,
                        detail,
                        op,
                    },
                ));
            }
            Pending::Cancel { reply, .. } | Pending::Requeue { reply } => {
                let _ = reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Promote => self.promote_again(PROMOTE_AGAIN),
            Pending::Known { reply, .. } => {
                let _ = reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Send { reply, .. } => {
                let _ = reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Read { reply } => {
                let _ = reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Drain { reply } => {
                let _ = reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Nonce { request } => {
                let _ = request.reply.send(Err(Refused::Store(e.to_string())));
            }
            Pending::Deliver { bot } => self.not_delivered(bot),
            Pending::ExpireMessages => self.messages_not_expired(),
            Pending::Learn(rows) => self.not_kept(rows),
            Pending::LearnUnder { version, forget } => self.not_learned_under(version, forget),
            Pending::Record { entry, keep, then } => self.not_recorded(entry, keep, then, e),
            Pending::Expire
            | Pending::Retain
            | Pending::RetainMessages
            | Pending::Prune
            | Pending::RetainNonces
            | Pending::Probe => {}
        }
    }

    /// This one operation will never be done, whatever else works: it is let go, and said.
    fn impossible(&mut self, pending: Pending, e: &StoreError) {
        tracing::error!(event = "store_operation_refused", error = %e, "the store can't do one operation; the rest goes on");
        match pending {
            Pending::Lease { waiting, settle } => {
                let ready = &waiting.ready;
                self.bot_lets_go(&settle.bot, &ready.id);
                // It would be chosen again at once.
                if self.dispatcher.lease_impossible(&settle.bot, ready) {
                    self.fill_later(ready.demand.clone());
                }
            }
            Pending::Finish { task, fence, .. } => {
                if let Some(attempt) = self.in_flight.remove(&task) {
                    let ack = ToWorker::Ack {
                        task: task.clone(),
                        fence,
                    };
                    self.send(&attempt.bot, attempt.run, ack);
                    self.outputs.end(&task, fence, TaskStatus::Running);
                    self.external_end_is_durable(&task, fence, None);
                }
            }
            // Nothing but a little knowledge is lost.
            Pending::Learn(_) => {}
            Pending::Promote => self.promote_again(PROMOTE_MUCH_LATER),
            other => self.not_durable(other, e),
        }
    }

    fn release(&mut self, bot: &Arc<str>, task: &TaskId) {
        self.dispatcher.free(bot);
        self.bot_lets_go(bot, task);
    }

    /// Tells whoever waits for the end of a task.
    pub(super) fn tell_waiters(&mut self, task: &TaskId, status: TaskStatus) {
        for waiter in self.waiters.remove(task).into_iter().flatten() {
            let _ = waiter.send(status);
        }
    }

    /// The store did not take something: hold back, and try again.
    pub(super) fn store_failed(&mut self, e: &StoreError) {
        let text = match e {
            StoreError::Broken(_) | StoreError::Closed => format!("{BROKEN}{e}"),
            StoreError::Failed(_) | StoreError::Operation(_) => e.to_string(),
        };
        if self.store_fault.is_none() {
            tracing::error!(event = "store_failed", error = %e, "the store takes no writes; new tasks are refused until it does");
            self.arm_store_again();
        }
        self.condition_stale = true;
        if !self.store_is_broken() {
            self.store_fault = Some(text);
        }
    }

    /// Whether only a restart can help.
    pub(super) fn store_is_broken(&self) -> bool {
        self.store_fault
            .as_ref()
            .is_some_and(|fault| fault.starts_with(BROKEN))
    }

    /// One such timer at a time, however often the store fails and works.
    fn arm_store_again(&mut self) {
        if !std::mem::replace(&mut self.store_again_armed, true) {
            self.timers.at(self.now() + STORE_AGAIN, Timer::StoreAgain);
        }
    }

    fn store_works(&mut self) {
        if self.store_fault.is_some() && !self.store_is_broken() {
            self.store_fault = None;
            self.condition_stale = true;
            tracing::info!(event = "store_recovered", "the store takes writes again");
        }
    }

    /// Tries what is left over, or else whether the store takes anything.
    pub(super) fn store_again(&mut self) {
        self.store_again_armed = false;
        if self.store_fault.is_none() && self.leftovers.is_empty() {
            return;
        }
        self.arm_store_again();
        if self.pending.values().any(|p| matches!(p, Pending::Probe)) {
            return;
        }
        self.ask(Op::Probe, Pending::Probe);
        for (op, pending) in std::mem::take(&mut self.leftovers) {
            self.ask(op, pending);
        }
    }

    /// Tasks whose bot has ended.
    pub(super) fn bot_lost_its_tasks(&mut self, bot: &str, run: Run, why: &str) {
        let lost: Vec<(TaskId, Fence)> = self
            .in_flight
            .values()
            .filter(|a| *a.bot == *bot && a.run == run)
            .map(|a| (a.ready.id.clone(), a.fence))
            .collect();
        let alone = lost.len() == 1;
        for (id, fence) in lost {
            let end = if self.is_stopping() {
                AttemptEnd::TakenBack
            } else {
                let error = why.to_owned();
                AttemptEnd::BotLost { error, alone }
            };
            self.end_attempt(&id, fence, end);
        }
    }
}

const BROKEN: &str = "broken: ";
