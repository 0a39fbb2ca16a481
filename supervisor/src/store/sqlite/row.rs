//! A row of `tasks`: read whole with its sum checked, changed in memory, written whole. An operation
//! decides on what it read here, within its transaction.

use std::collections::HashSet;

use deia::task::{Complexity, Priority, TaskId, TaskStatus, TaskType};
use deia::time::Timestamp;
use rusqlite::{CachedStatement, Connection, Params, Row};

use super::codes;
use super::fault::Fault;
use super::names::{NameId, Names};
use super::sum::{Sum, Table};
use crate::store::{Ready, Seq};

/// Every column, in the order [`TaskRow::read`] takes them.
macro_rules! task_columns {
    () => {
        "seq, status, priority, demand, since, not_before, ended_at, task_type, complexity, \
         max_attempts, timeout_ms, attempt, failures, losses, bot, started_at, only_bot, \
         submitted_at, id, sum"
    };
}
pub(super) use task_columns;

/// See the columns in `migrations/0001_tasks.sql`.
#[derive(Debug, Clone)]
pub(super) struct TaskRow {
    pub(super) seq: Seq,
    pub(super) status: TaskStatus,
    pub(super) priority: Priority,
    pub(super) demand: NameId,
    pub(super) since: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) task_type: TaskType,
    pub(super) complexity: Complexity,
    pub(super) max_attempts: u32,
    pub(super) timeout_ms: u64,
    pub(super) attempt: u32,
    pub(super) failures: u32,
    pub(super) losses: u32,
    pub(super) bot: Option<NameId>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) only_bot: Option<NameId>,
    pub(super) submitted_at: Timestamp,
    pub(super) id: TaskId,
}

/// Whether [`TaskRow::insert`] found its id in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    Yes,
    IdTaken,
}

/// Rows that were found not to be as they were written, and were left out.
#[derive(Debug, Default)]
pub(super) struct Damaged(HashSet<Seq>);

impl Damaged {
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.0.contains(&seq)
    }

    /// Said once of each.
    pub(super) fn found(&mut self, seq: Seq, fault: &Fault) {
        if self.0.insert(seq) {
            tracing::error!(event = "store_row_damaged", seq, error = %fault, "a task that is not as it was written is not given out; the others go on");
        }
    }
}

impl TaskRow {
    pub(super) fn by_seq(conn: &Connection, seq: Seq) -> Result<Option<Self>, Fault> {
        let statement = conn.prepare_cached(concat!(
            "SELECT ",
            task_columns!(),
            " FROM tasks WHERE seq = ?1"
        ))?;
        Self::first(statement, [seq])
    }

    pub(super) fn by_id(conn: &Connection, id: &TaskId) -> Result<Option<Self>, Fault> {
        let statement = conn.prepare_cached(concat!(
            "SELECT ",
            task_columns!(),
            " FROM tasks WHERE id = ?1"
        ))?;
        Self::first(statement, [id.as_str()])
    }

    fn first(
        mut statement: CachedStatement<'_>,
        params: impl Params,
    ) -> Result<Option<Self>, Fault> {
        let mut rows = statement.query(params)?;
        rows.next()?.map(Self::read).transpose()
    }

    /// The first rows that are as they were written, at most so many. One that is not would hold up all behind it for
    /// ever: it is left out, and found by whoever asks for it.
    pub(super) fn sound(
        mut statement: CachedStatement<'_>,
        params: impl Params,
        limit: usize,
        damaged: &mut Damaged,
    ) -> Result<Vec<Self>, Fault> {
        let mut rows = statement.query(params)?;
        let mut sound = Vec::new();
        while sound.len() < limit
            && let Some(row) = rows.next()?
        {
            if damaged.has(row.get(0)?) {
                continue;
            }
            match Self::read(row) {
                Ok(row) => sound.push(row),
                Err(fault) if fault.is_of_row() => damaged.found(row.get(0)?, &fault),
                Err(fault) => return Err(fault),
            }
        }
        Ok(sound)
    }

    /// Decodes a row and checks its sum.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Fault> {
        let seq: Seq = row.get(0)?;
        let time = |column| -> Result<Option<Timestamp>, Fault> {
            Ok(row
                .get::<_, Option<i64>>(column)?
                .map(Timestamp::from_micros))
        };
        let id: String = row.get(18)?;
        let read = Self {
            seq,
            status: codes::to_status(row.get(1)?)?,
            priority: codes::to_priority(row.get(2)?)?,
            demand: row.get(3)?,
            since: Timestamp::from_micros(row.get(4)?),
            not_before: time(5)?,
            ended_at: time(6)?,
            task_type: codes::to_task_type(row.get(7)?)?,
            complexity: codes::to_complexity(row.get(8)?)?,
            max_attempts: row.get(9)?,
            timeout_ms: row.get::<_, i64>(10)?.cast_unsigned(),
            attempt: row.get(11)?,
            failures: row.get(12)?,
            losses: row.get(13)?,
            bot: row.get(14)?,
            started_at: time(15)?,
            only_bot: row.get(16)?,
            submitted_at: Timestamp::from_micros(row.get(17)?),
            id: id
                .parse()
                .map_err(|_| Fault::damaged(format!("tasks {seq}: id")))?,
        };
        read.sum().check(row.get(19)?, || format!("tasks {seq}"))?;
        Ok(read)
    }

    pub(super) fn insert(&self, conn: &Connection) -> Result<Inserted, Fault> {
        let changed = conn
            .prepare_cached(concat!(
                "INSERT INTO tasks (",
                task_columns!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
                 ?17, ?18, ?19, ?20) ON CONFLICT (id) DO NOTHING"
            ))?
            .execute(rusqlite::params![
                self.seq,
                codes::status(self.status),
                codes::priority(self.priority),
                self.demand,
                self.since.as_micros(),
                micros(self.not_before),
                micros(self.ended_at),
                codes::task_type(self.task_type),
                codes::complexity(self.complexity),
                self.max_attempts,
                self.timeout_ms.cast_signed(),
                self.attempt,
                self.failures,
                self.losses,
                self.bot,
                micros(self.started_at),
                self.only_bot,
                self.submitted_at.as_micros(),
                self.id.as_str(),
                self.sum().finish(),
            ])?;
        Ok(if changed == 0 {
            Inserted::IdTaken
        } else {
            Inserted::Yes
        })
    }

    /// Writes what can change in a task's life.
    pub(super) fn update(&self, conn: &Connection) -> Result<(), Fault> {
        let changed = conn
            .prepare_cached(
                "UPDATE tasks SET status = ?2, since = ?3, not_before = ?4, ended_at = ?5, \
                 max_attempts = ?6, attempt = ?7, failures = ?8, losses = ?9, bot = ?10, \
                 started_at = ?11, sum = ?12 WHERE seq = ?1",
            )?
            .execute(rusqlite::params![
                self.seq,
                codes::status(self.status),
                self.since.as_micros(),
                micros(self.not_before),
                micros(self.ended_at),
                self.max_attempts,
                self.attempt,
                self.failures,
                self.losses,
                self.bot,
                micros(self.started_at),
                self.sum().finish(),
            ])?;
        if changed == 1 {
            Ok(())
        } else {
            Err(Fault::damaged(format!("tasks {} is missing", self.seq)))
        }
    }

    /// What the ready window has to know.
    pub(super) fn ready(&self, conn: &Connection, names: &mut Names) -> Result<Ready, Fault> {
        Ok(Ready {
            seq: self.seq,
            id: self.id.clone(),
            demand: names.name(conn, self.demand)?,
            priority: self.priority,
            submitted_at: self.submitted_at,
            timeout_ms: self.timeout_ms,
            max_attempts: self.max_attempts,
            task_type: self.task_type,
            scheduled: self.status == TaskStatus::Scheduled,
            failed: self.failures > 0 || self.losses > 0,
            losses: self.losses,
        })
    }

    fn sum(&self) -> Sum {
        Sum::new(Table::Tasks)
            .int(self.seq)
            .int(codes::status(self.status))
            .int(codes::priority(self.priority))
            .int(self.demand)
            .int(self.since.as_micros())
            .opt_int(micros(self.not_before))
            .opt_int(micros(self.ended_at))
            .int(codes::task_type(self.task_type))
            .int(codes::complexity(self.complexity))
            .int(i64::from(self.max_attempts))
            .int(self.timeout_ms.cast_signed())
            .int(i64::from(self.attempt))
            .int(i64::from(self.failures))
            .int(i64::from(self.losses))
            .opt_int(self.bot)
            .opt_int(micros(self.started_at))
            .opt_int(self.only_bot)
            .int(self.submitted_at.as_micros())
            .text(self.id.as_str())
    }
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}
