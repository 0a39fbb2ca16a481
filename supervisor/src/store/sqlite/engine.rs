//! What each operation on one task does: reads the task's row, checks the operation's condition,
//! writes. Runs inside the writer's transaction; operations on many tasks are in `sweep.rs`.

use std::sync::Arc;

use deia::task::{AttemptStatus, Fence, TaskId, TaskStatus};
use deia::time::Timestamp;
use rusqlite::Connection;

use super::audit::{Chain, Trail};
use super::fault::Fault;
use super::names::Names;
use super::parts::{self, EndedAttempt};
use super::record;
use super::row::{Damaged, Inserted, TaskRow};
use crate::store::{CANCELLED_ERROR, Counts, End, Lease, NewTask, Op, Outcome, Seq, StatusCounts};

/// The writer's connection and what it keeps in memory. What [`Engine::ahead`] gives runs ahead of the disk
/// within a transaction; the writer puts it back when it rolls back.
pub(super) struct Engine {
    pub(super) conn: Connection,
    pub(super) epoch: u64,
    pub(super) next_seq: Seq,
    pub(super) counts: StatusCounts,
    pub(super) names: Names,
    pub(super) damaged: Damaged,
    pub(super) trail: Trail,
}

/// See [`Engine`].
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    counts: StatusCounts,
    next_seq: Seq,
    chain: Chain,
}

impl Engine {
    pub(super) fn ahead(&self) -> Ahead {
        Ahead {
            counts: self.counts,
            next_seq: self.next_seq,
            chain: self.trail.chain,
        }
    }

    pub(super) fn put_back(&mut self, ahead: Ahead) {
        self.counts = ahead.counts;
        self.next_seq = ahead.next_seq;
        self.trail.chain = ahead.chain;
        self.names.forget();
    }

    pub(super) fn apply(&mut self, op: &Op) -> Result<Outcome, Fault> {
        match op {
            Op::Submit(task, lease) => self.submit(task, lease.as_ref()),
            Op::Lease {
                seq,
                lease,
                want_content,
            } => self.lease(*seq, lease, *want_content),
            Op::Finish {
                seq,
                fence,
                started_at,
                at,
                end,
                choice,
            } => self.finish(*seq, *fence, *started_at, *at, end, choice.as_deref()),
            Op::Cancel { id, at } => self.cancel(id, *at),
            Op::Requeue { id, at } => self.requeue(id, *at),
            Op::Promote { now, steady, limit } => self.promote(*now, *steady, *limit),
            Op::Expire {
                queued_before,
                at,
                limit,
            } => self.expire(*queued_before, *at, *limit),
            Op::ReleaseAll { at } => self.release_all(*at),
            Op::Retain {
                ended_before,
                max_kept,
                limit,
            } => self.retain(*ended_before, *max_kept, *limit),
            Op::Learn(rows) => self.learn(rows),
            Op::LearnUnder { version, forget } => self.learn_under(*version, *forget),
            Op::Send {
                messages,
                up,
                at,
                max_unread,
            } => self.send(messages, (up, *at), *max_unread),
            Op::Deliver { bot, at, limit } => self.deliver(bot, at, *limit),
            Op::ReadMessage { id, by, at } => self.read_message(id, by.as_deref(), at),
            Op::Drain { bot, at, limit } => self.drain(bot, at, *limit),
            Op::ExpireMessages { now, limit } => self.expire_messages(now, *limit),
            Op::RetainMessages {
                before,
                max_kept,
                limit,
            } => self.retain_messages(*before, *max_kept, *limit),
            Op::Audited(audited) => self.audited(audited),
            Op::Record(entry) => self.record(entry),
            Op::Prune {
                before,
                overdue,
                limit,
                at,
            } => self.prune((*before, *overdue), *limit, *at),
            Op::Nonce {
                key,
                id,
                signed_at,
                most,
            } => self.nonce(*key, id, *signed_at, *most),
            Op::GuardNonces { floor } => self.guard_nonces(*floor),
            Op::RetainNonces {
                signed_before,
                keys,
                limit,
            } => self.retain_nonces(*signed_before, keys, *limit),
            Op::Known { id, request_hash } => match TaskRow::by_id(&self.conn, id)? {
                Some(row) => self.known(row, *request_hash),
                None => Ok(Outcome::Gone),
            },
            Op::Probe => self.probe(),
        }
    }

    fn submit(&mut self, task: &NewTask, lease: Option<&Lease>) -> Result<Outcome, Fault> {
        let bot = lease
            .map(|lease| self.names.intern(&self.conn, &lease.bot_id))
            .transpose()?;
        let only_bot = task
            .bot_id
            .as_deref()
            .map(|id| self.names.intern(&self.conn, id))
            .transpose()?;
        let mut row = TaskRow {
            seq: self.next_seq,
            status: TaskStatus::Queued,
            priority: task.priority,
            demand: self.names.intern(&self.conn, &task.demand)?,
            since: task.submitted_at,
            not_before: None,
            ended_at: None,
            task_type: task.task_type,
            complexity: task.complexity,
            max_attempts: task.max_attempts,
            timeout_ms: task.timeout_ms,
            attempt: 0,
            failures: 0,
            losses: 0,
            bot,
            started_at: None,
            only_bot,
            submitted_at: task.submitted_at,
            id: task.id.clone(),
        };
        match lease {
            Some(lease) => {
                row.status = TaskStatus::Running;
                row.attempt = 1;
                row.started_at = Some(lease.at);
            }
            None => wait(&mut row, task.submitted_at, task.not_before),
        }
        if row.insert(&self.conn)? == Inserted::IdTaken {
            let row = TaskRow::by_id(&self.conn, &task.id)?.ok_or_else(|| {
                Fault::damaged(format!("tasks: {} is in its index only", task.id))
            })?;
            return self.known(row, task.request_hash);
        }
        parts::insert_body(&self.conn, row.seq, task)?;
        self.next_seq += 1;
        self.count_in(row.status);
        Ok(Outcome::Submitted { seq: row.seq })
    }

    /// The answer to an id that is in use.
    fn known(&mut self, row: TaskRow, request_hash: [u8; 32]) -> Result<Outcome, Fault> {
        let body = parts::body(&self.conn, row.seq)?;
        if body.request_hash != request_hash {
            return Ok(Outcome::Conflict);
        }
        let record = record::record_with(&self.conn, &mut self.names, row, body)?;
        Ok(Outcome::Duplicate(Box::new(record)))
    }

    fn lease(&mut self, seq: Seq, lease: &Lease, want_content: bool) -> Result<Outcome, Fault> {
        let Some(mut row) = TaskRow::by_seq(&self.conn, seq)? else {
            return Ok(Outcome::Gone);
        };
        if row.status != TaskStatus::Queued {
            return Ok(Outcome::Gone);
        }
        let content = match want_content.then(|| parts::content(&self.conn, seq)) {
            None => None,
            Some(Ok(content)) => Some(Arc::from(content)),
            Some(Err(fault)) if fault.is_of_row() => return self.unreadable(row, lease, &fault),
            Some(Err(fault)) => return Err(fault),
        };
        row.attempt += 1;
        row.bot = Some(self.names.intern(&self.conn, &lease.bot_id)?);
        row.started_at = Some(lease.at);
        self.turn(&mut row, TaskStatus::Running)?;
        Ok(Outcome::Leased {
            attempt: row.attempt,
            failures: row.failures,
            losses: row.losses,
            content,
        })
    }

    /// Nobody can do what can't be read.
    fn unreadable(
        &mut self,
        mut row: TaskRow,
        lease: &Lease,
        fault: &Fault,
    ) -> Result<Outcome, Fault> {
        tracing::error!(event = "store_row_damaged", seq = row.seq, error = %fault, "a task whose text is not as it was sent is given to nobody");
        row.attempt += 1;
        row.bot = Some(self.names.intern(&self.conn, &lease.bot_id)?);
        row.started_at = Some(lease.at);
        let error = format!("its text can't be read: {fault}");
        self.end_attempt(&row, AttemptStatus::Failed, lease.at, Some(&error), None)?;
        row.ended_at = Some(lease.at);
        self.turn(&mut row, TaskStatus::Dead)?;
        Ok(Outcome::Unreadable)
    }

    fn finish(
        &mut self,
        seq: Seq,
        fence: Fence,
        started_at: Option<Timestamp>,
        at: Timestamp,
        end: &End,
        choice: Option<&str>,
    ) -> Result<Outcome, Fault> {
        let Some(mut row) = TaskRow::by_seq(&self.conn, seq)? else {
            return Ok(Outcome::Gone);
        };
        let current = Fence {
            epoch: self.epoch,
            attempt: row.attempt,
        };
        if row.status != TaskStatus::Running || fence != current {
            return Ok(Outcome::Gone);
        }
        row.started_at = started_at.or(row.started_at);
        let (attempt_status, error) = match end {
            End::Succeeded(_) => (AttemptStatus::Succeeded, None),
            End::Retry { status, error, .. } | End::Dead { status, error } => {
                (*status, Some(error.as_str()))
            }
            End::Cancelled => (AttemptStatus::Failed, Some(CANCELLED_ERROR)),
        };
        self.end_attempt(&row, attempt_status, at, error, choice)?;
        let status = match end {
            End::Succeeded(result) => {
                parts::insert_result(&self.conn, seq, result)?;
                row.losses = 0;
                TaskStatus::Succeeded
            }
            End::Retry {
                not_before, counts, ..
            } => {
                count_attempt(&mut row, *counts);
                let before = row.status;
                wait_again(&mut row, at, *not_before);
                self.count_moved(before, row.status);
                row.update(&self.conn)?;
                return Ok(Outcome::Finished { status: row.status });
            }
            End::Dead { .. } => TaskStatus::Dead,
            End::Cancelled => TaskStatus::Cancelled,
        };
        row.ended_at = Some(at);
        self.turn(&mut row, status)?;
        Ok(Outcome::Finished { status })
    }

    fn cancel(&mut self, id: &TaskId, at: Timestamp) -> Result<Outcome, Fault> {
        let Some(mut row) = TaskRow::by_id(&self.conn, id)? else {
            return Ok(Outcome::Gone);
        };
        if !matches!(row.status, TaskStatus::Queued | TaskStatus::Scheduled) {
            return Ok(Outcome::NotQueued {
                status: row.status,
                seq: row.seq,
            });
        }
        let ready = row.ready(&self.conn, &mut self.names)?;
        row.not_before = None;
        row.ended_at = Some(at);
        self.turn(&mut row, TaskStatus::Cancelled)?;
        Ok(Outcome::Cancelled(ready))
    }

    fn requeue(&mut self, id: &TaskId, at: Timestamp) -> Result<Outcome, Fault> {
        let Some(mut row) = TaskRow::by_id(&self.conn, id)? else {
            return Ok(Outcome::Gone);
        };
        if !matches!(
            row.status,
            TaskStatus::Dead | TaskStatus::Cancelled | TaskStatus::Expired
        ) {
            return Ok(Outcome::NotQueued {
                status: row.status,
                seq: row.seq,
            });
        }
        row.failures = 0;
        row.losses = 0;
        row.ended_at = None;
        row.since = at;
        self.turn(&mut row, TaskStatus::Queued)?;
        Ok(Outcome::Requeued(row.ready(&self.conn, &mut self.names)?))
    }

    fn probe(&self) -> Result<Outcome, Fault> {
        super::meta::bump(&self.conn, super::meta::PROBE)?;
        Ok(Outcome::Probed)
    }

    /// Writes the row with its new status, and counts it there.
    pub(super) fn turn(&mut self, row: &mut TaskRow, status: TaskStatus) -> Result<(), Fault> {
        self.count_moved(row.status, status);
        row.status = status;
        row.update(&self.conn)
    }

    /// Moves the attempt that runs from the task's row to the ended ones.
    pub(super) fn end_attempt(
        &self,
        row: &TaskRow,
        status: AttemptStatus,
        at: Timestamp,
        error: Option<&str>,
        choice: Option<&str>,
    ) -> Result<(), Fault> {
        let (Some(bot), Some(started_at)) = (row.bot, row.started_at) else {
            return Err(Fault::damaged(format!("tasks {}: no bot", row.seq)));
        };
        EndedAttempt {
            seq: row.seq,
            attempt: row.attempt,
            bot,
            status,
            started_at,
            ended_at: at,
            error,
            choice,
        }
        .insert(&self.conn)
    }

    fn count_in(&mut self, status: TaskStatus) {
        if let Some(count) = self.counts.by_status.get_mut(status as usize) {
            *count += 1;
        }
    }

    pub(super) fn count_out(&mut self, status: TaskStatus) {
        if let Some(count) = self.counts.by_status.get_mut(status as usize) {
            *count = count.saturating_sub(1);
        }
    }

    fn count_moved(&mut self, from: TaskStatus, to: TaskStatus) {
        self.count_out(from);
        self.count_in(to);
    }
}

/// Lets a task wait: for its time, when that is still to come, else for a bot.
fn wait(row: &mut TaskRow, at: Timestamp, not_before: Option<Timestamp>) {
    wait_again(row, at, not_before.filter(|time| *time > at));
}

/// The same by whichever clock: for that time, where there is one, else for a bot.
fn wait_again(row: &mut TaskRow, at: Timestamp, not_before: Option<Timestamp>) {
    row.not_before = not_before;
    row.since = row.not_before.unwrap_or(at);
    row.status = match row.not_before {
        Some(_) => TaskStatus::Scheduled,
        None => TaskStatus::Queued,
    };
}

fn count_attempt(row: &mut TaskRow, counts: Counts) {
    row.losses = counts.losses(row.losses);
    if counts == Counts::AsFailure {
        row.failures += 1;
    }
}
