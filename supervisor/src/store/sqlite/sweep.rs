//! Operations on many tasks at once, each bounded by its caller's limit, each finding its tasks by
//! an index of just those it may concern.

use deia::task::{AttemptStatus, TaskStatus};
use deia::time::Timestamp;

use super::engine::Engine;
use super::fault::Fault;
use super::meta;
use super::parts;
use super::read;
use super::row::{TaskRow, task_columns};
use crate::store::{Outcome, RELEASED_ERROR, Seq};

impl Engine {
    pub(super) fn promote(
        &mut self,
        now: Timestamp,
        steady: Timestamp,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let mut due = TaskRow::sound(
            self.conn.prepare_cached(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks INDEXED BY tasks_due_first WHERE status = 0 AND attempt = 0 \
                 AND not_before <= ?1 ORDER BY not_before, seq"
            ))?,
            [now.as_micros()],
            limit,
            &mut self.damaged,
        )?;
        due.extend(TaskRow::sound(
            self.conn.prepare_cached(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks INDEXED BY tasks_due_again WHERE status = 0 AND attempt > 0 \
                 AND not_before <= ?1 ORDER BY not_before, seq"
            ))?,
            [steady.as_micros()],
            limit,
            &mut self.damaged,
        )?);
        due.sort_by_key(|row| (row.not_before, row.seq));
        due.truncate(limit);
        let mut ready = Vec::with_capacity(due.len());
        for mut row in due {
            if let Err(fault) = self.names.name(&self.conn, row.demand) {
                self.leave_out(row.seq, fault)?;
                continue;
            }
            row.not_before = None;
            // Its time was on the other clock.
            if row.attempt > 0 {
                row.since = now;
            }
            self.turn(&mut row, TaskStatus::Queued)?;
            ready.push(row.ready(&self.conn, &mut self.names)?);
        }
        let next_due = read::next_due(&self.conn, &self.damaged)?;
        Ok(Outcome::Promoted { ready, next_due })
    }

    pub(super) fn expire(
        &mut self,
        queued_before: Timestamp,
        at: Timestamp,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let stale = TaskRow::sound(
            self.conn.prepare_cached(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks INDEXED BY tasks_waiting WHERE status = 1 AND since < ?1 \
                 ORDER BY since, seq"
            ))?,
            [queued_before.as_micros()],
            limit,
            &mut self.damaged,
        )?;
        let mut expired = Vec::with_capacity(stale.len());
        for mut row in stale {
            match row.ready(&self.conn, &mut self.names) {
                Ok(ready) => expired.push(ready),
                Err(fault) => {
                    self.leave_out(row.seq, fault)?;
                    continue;
                }
            }
            row.ended_at = Some(at);
            self.turn(&mut row, TaskStatus::Expired)?;
        }
        Ok(Outcome::Expired(expired))
    }

    /// A task with something damaged holds up no other.
    fn leave_out(&mut self, seq: Seq, fault: Fault) -> Result<(), Fault> {
        if !fault.is_of_row() {
            return Err(fault);
        }
        self.damaged.found(seq, &fault);
        Ok(())
    }

    /// As many as were running: the fleet's size bounds it.
    pub(super) fn release_all(&mut self, at: Timestamp) -> Result<Outcome, Fault> {
        let running = self.conn.prepare_cached(read::RUNNING)?;
        let running = TaskRow::sound(running, [], usize::MAX, &mut self.damaged)?;
        let mut count = 0;
        for mut row in running {
            self.end_attempt(&row, AttemptStatus::Lost, at, Some(RELEASED_ERROR), None)?;
            row.since = at;
            self.turn(&mut row, TaskStatus::Queued)?;
            count += 1;
        }
        Ok(Outcome::Released { count })
    }

    pub(super) fn retain(
        &mut self,
        ended_before: Timestamp,
        max_kept: u64,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let ended: u64 = TaskStatus::ALL
            .into_iter()
            .filter(|status| status.is_final())
            .map(|status| self.counts.of(status))
            .sum();
        let mut excess = ended.saturating_sub(max_kept);
        let oldest = self.oldest_ended(limit)?;
        let mut count = 0;
        for (seq, status, ended_at) in oldest {
            if excess == 0 && ended_at >= ended_before {
                break;
            }
            excess = excess.saturating_sub(1);
            parts::remove(&self.conn, seq)?;
            self.count_out(status);
            count += 1;
        }
        if count > 0 {
            // The newest task may be among them, and its number must not be used again.
            meta::set(&self.conn, meta::SEQ_FLOOR, self.next_seq - 1)?;
        }
        Ok(Outcome::Removed { count })
    }

    /// Without their sums: a damaged row can be removed, too.
    fn oldest_ended(&self, limit: usize) -> Result<Vec<(Seq, TaskStatus, Timestamp)>, Fault> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, status, ended_at FROM tasks INDEXED BY tasks_ended \
             WHERE ended_at IS NOT NULL ORDER BY ended_at, seq LIMIT ?1",
        )?;
        let mut rows = statement.query([bound(limit)])?;
        let mut oldest = Vec::new();
        while let Some(row) = rows.next()? {
            oldest.push((
                row.get(0)?,
                super::codes::to_status(row.get(1)?)?,
                Timestamp::from_micros(row.get(2)?),
            ));
        }
        Ok(oldest)
    }
}

/// SQLite's LIMIT is signed, and a negative one means none.
pub(super) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
