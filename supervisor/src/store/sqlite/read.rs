//! Queries. Each runs in one read transaction of a connection of its own, so that what it gathers
//! belongs together; each is bounded by its caller's limit or by a constant.

use deia::task::{Priority, TaskId, TaskStatus};
use deia::time::Timestamp;
use rusqlite::Connection;

use super::codes;
use super::fault::Fault;
use super::learned;
use super::names::Names;
use super::parts;
use super::record::record;
use super::row::{Damaged, TaskRow, task_columns};
use super::sweep::bound;
use crate::store::{
    DemandCount, Due, Learned, Leased, MAX_COUNTED_AHEAD, Ready, Seq, TaskFilter, TaskRecord,
};

/// A status with fewer tasks than this is listed by its own index and sorted; with more, the
/// newest tasks are looked through until the page is full.
const FEW: u64 = 10_000;

/// Damaged tasks that one page passes over at most.
const MAX_LEFT_OUT: usize = 100;

/// A connection that only reads.
pub(super) struct Reader {
    pub(super) conn: Connection,
    pub(super) names: Names,
    pub(super) damaged: Damaged,
}

impl Reader {
    pub(super) fn task(&mut self, id: &TaskId) -> Result<Option<TaskRecord>, Fault> {
        TaskRow::by_id(&self.conn, id)?
            .map(|row| record(&self.conn, &mut self.names, row))
            .transpose()
    }

    pub(super) fn output(&mut self, id: &TaskId) -> Result<Option<String>, Fault> {
        match TaskRow::by_id(&self.conn, id)? {
            Some(row) => parts::output(&self.conn, row.seq),
            None => Ok(None),
        }
    }

    pub(super) fn content(&mut self, id: &TaskId) -> Result<Option<String>, Fault> {
        TaskRow::by_id(&self.conn, id)?
            .map(|row| parts::content(&self.conn, row.seq))
            .transpose()
    }

    pub(super) fn choices(&mut self, id: &TaskId) -> Result<Vec<(u32, String)>, Fault> {
        match TaskRow::by_id(&self.conn, id)? {
            Some(row) => parts::choices(&self.conn, row.seq),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn learned(&mut self) -> Result<Learned, Fault> {
        learned::learned(&self.conn, &mut self.names)
    }

    /// `in_status`: how many tasks have the filter's status, for the choice of the index.
    pub(super) fn list(
        &mut self,
        filter: &TaskFilter,
        in_status: u64,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<TaskRecord>, Fault> {
        let bot = match &filter.bot {
            None => None,
            Some(name) => match self.names.find(&self.conn, name)? {
                Some(id) => Some(id),
                None => return Ok(Vec::new()),
            },
        };
        let sql = list_sql(filter.status, in_status);
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query((
            before.unwrap_or(Seq::MAX),
            bot,
            filter.task_type.map(codes::task_type),
            filter.priority.map(codes::priority),
            bound(limit.saturating_add(MAX_LEFT_OUT)),
        ))?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let seq: Seq = row.get(0)?;
            if self.damaged.has(seq) {
                continue;
            }
            let row = TaskRow::read(row);
            match row.and_then(|row| record(&self.conn, &mut self.names, row)) {
                Ok(task) => found.push(task),
                // Else nobody would see the others; whoever asks for this one is told.
                Err(fault) if fault.is_of_row() => self.damaged.found(seq, &fault),
                Err(fault) => return Err(fault),
            }
        }
        Ok(found)
    }

    pub(super) fn ready_after(
        &mut self,
        demand: &str,
        after: Option<(Priority, Seq)>,
        limit: usize,
    ) -> Result<Vec<Ready>, Fault> {
        let Some(demand) = self.names.find(&self.conn, demand)? else {
            return Ok(Vec::new());
        };
        let (priority, seq) = after.map_or((-1, 0), |(p, seq)| (codes::priority(p), seq));
        let rows = TaskRow::sound(
            self.conn.prepare_cached(concat!(
                "SELECT ",
                task_columns!(),
                " FROM tasks INDEXED BY tasks_ready WHERE status = 1 AND demand = ?1 \
                 AND (priority, seq) > (?2, ?3) ORDER BY priority, seq"
            ))?,
            (demand, priority, seq),
            limit,
            &mut self.damaged,
        )?;
        rows.iter()
            .map(|row| row.ready(&self.conn, &mut self.names))
            .collect()
    }

    pub(super) fn demands(&mut self) -> Result<Vec<DemandCount>, Fault> {
        let mut statement = self.conn.prepare_cached(
            "SELECT demand, priority, count(*) FROM tasks INDEXED BY tasks_ready \
             WHERE status = 1 GROUP BY demand, priority ORDER BY demand, priority",
        )?;
        let mut rows = statement.query([])?;
        let mut demands: Vec<DemandCount> = Vec::new();
        let (mut last, mut unknown) = (None, None);
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let priority = codes::to_priority(row.get(1)?)?;
            if last != Some(id) {
                last = Some(id);
                match self.names.name(&self.conn, id) {
                    Ok(name) => demands.push((name, [0; 4])),
                    // What they need can't be told: they wait, and hold up no others.
                    Err(fault) if fault.is_of_row() => {
                        tracing::error!(event = "store_row_damaged", error = %fault, "tasks whose demand is not as it was written are not given out; the others go on");
                        unknown = Some(id);
                    }
                    Err(fault) => return Err(fault),
                }
            }
            if unknown == Some(id) {
                continue;
            }
            if let Some((_, counts)) = demands.last_mut()
                && let Some(count) = counts.get_mut(priority.index())
            {
                *count = row.get::<_, i64>(2)?.cast_unsigned();
            }
        }
        Ok(demands)
    }

    pub(super) fn running(&mut self) -> Result<Vec<Leased>, Fault> {
        let rows = self.conn.prepare_cached(RUNNING)?;
        let rows = TaskRow::sound(rows, [], usize::MAX, &mut self.damaged)?;
        let mut leased = Vec::with_capacity(rows.len());
        for row in rows {
            match self.leased(&row) {
                Ok(task) => leased.push(task),
                Err(fault) if fault.is_of_row() => self.damaged.found(row.seq, &fault),
                Err(fault) => return Err(fault),
            }
        }
        Ok(leased)
    }

    fn leased(&mut self, row: &TaskRow) -> Result<Leased, Fault> {
        let bot = row
            .bot
            .ok_or_else(|| Fault::damaged(format!("tasks {}: no bot", row.seq)))?;
        Ok(Leased {
            ready: row.ready(&self.conn, &mut self.names)?,
            attempt: row.attempt,
            failures: row.failures,
            losses: row.losses,
            bot_id: self.names.name(&self.conn, bot)?.to_string(),
        })
    }

    pub(super) fn ahead_of(
        &mut self,
        demand: &str,
        (priority, seq): (Priority, Seq),
    ) -> Result<u64, Fault> {
        let Some(demand) = self.names.find(&self.conn, demand)? else {
            return Ok(0);
        };
        let count: i64 = self
            .conn
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_ready \
                 WHERE status = 1 AND demand = ?1 AND (priority, seq) < (?2, ?3) LIMIT ?4)",
            )?
            .query_row(
                (
                    demand,
                    codes::priority(priority),
                    seq,
                    MAX_COUNTED_AHEAD.cast_signed(),
                ),
                |row| row.get(0),
            )?;
        Ok(count.cast_unsigned())
    }
}

/// Every leased task.
pub(super) const RUNNING: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks INDEXED BY tasks_running WHERE status = 2 ORDER BY seq"
);

pub(super) fn next_due(conn: &Connection, damaged: &Damaged) -> Result<Due, Fault> {
    let next = |sql: &str| -> Result<Option<Timestamp>, Fault> {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !damaged.has(row.get(1)?) {
                return Ok(Some(Timestamp::from_micros(row.get(0)?)));
            }
        }
        Ok(None)
    };
    Ok(Due {
        first: next(
            "SELECT not_before, seq FROM tasks INDEXED BY tasks_due_first WHERE status = 0 \
             AND attempt = 0 ORDER BY not_before, seq",
        )?,
        again: next(
            "SELECT not_before, seq FROM tasks INDEXED BY tasks_due_again WHERE status = 0 \
             AND attempt > 0 ORDER BY not_before, seq",
        )?,
    })
}

/// The status is part of the text, not a parameter: a partial index is used only when the query
/// says literally that it keeps to it. At most 2 texts a status, so the statements stay cached.
fn list_sql(status: Option<TaskStatus>, in_status: u64) -> String {
    let few = in_status < FEW;
    let source = match status {
        Some(TaskStatus::Scheduled) if few => "INDEXED BY tasks_due",
        Some(TaskStatus::Queued) if few => "INDEXED BY tasks_waiting",
        Some(TaskStatus::Running) => "INDEXED BY tasks_running",
        Some(TaskStatus::Dead | TaskStatus::Cancelled | TaskStatus::Expired) => {
            "INDEXED BY tasks_failed"
        }
        Some(TaskStatus::Scheduled | TaskStatus::Queued | TaskStatus::Succeeded) | None => {
            "NOT INDEXED"
        }
    };
    let condition = status.map_or(String::new(), |status| {
        format!("status = {} AND ", codes::status(status))
    });
    format!(
        "SELECT {} FROM tasks {source} WHERE {condition} seq < ?1 \
         AND (?2 IS NULL OR bot = ?2 OR only_bot = ?2) AND (?3 IS NULL OR task_type = ?3) \
         AND (?4 IS NULL OR priority = ?4) ORDER BY seq DESC LIMIT ?5",
        task_columns!()
    )
}
