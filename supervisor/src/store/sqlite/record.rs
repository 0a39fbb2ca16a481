//! A task as callers see it, gathered from its rows.

use deia::task::{AttemptStatus, TaskStatus};
use rusqlite::Connection;

use super::fault::Fault;
use super::names::Names;
use super::parts::{self, Body};
use super::row::TaskRow;
use crate::store::{AttemptRecord, TaskRecord};

pub(super) fn record(
    conn: &Connection,
    names: &mut Names,
    row: TaskRow,
) -> Result<TaskRecord, Fault> {
    let body = parts::body(conn, row.seq)?;
    record_with(conn, names, row, body)
}

pub(super) fn record_with(
    conn: &Connection,
    names: &mut Names,
    row: TaskRow,
    body: Body,
) -> Result<TaskRecord, Fault> {
    let mut attempts = parts::attempts(conn, names, row.seq)?;
    attempts.extend(running_attempt(conn, names, &row)?);
    // A row that is missing has no sum to fail.
    if !attempts.iter().map(|a| a.attempt).eq(1..=row.attempt) {
        return Err(Fault::damaged(format!("attempts {}: incomplete", row.seq)));
    }
    let result = parts::result(conn, row.seq)?;
    if result.is_some() != (row.status == TaskStatus::Succeeded) {
        return Err(Fault::damaged(format!("results {}", row.seq)));
    }
    let error = match row.status {
        TaskStatus::Succeeded => None,
        _ => attempts.iter().rev().find_map(|a| a.error.clone()),
    };
    let only_bot = row.only_bot.map(|id| names.name(conn, id)).transpose()?;
    Ok(TaskRecord {
        seq: row.seq,
        status: row.status,
        priority: row.priority,
        task_type: row.task_type,
        complexity: row.complexity,
        required_capabilities: body.required_capabilities,
        bot_id: only_bot.map(|name| name.as_ref().to_owned()),
        pool: body.pool,
        demand: names.name(conn, row.demand)?,
        max_attempts: row.max_attempts,
        timeout_ms: row.timeout_ms,
        not_before: row.not_before,
        metadata: body.metadata,
        submitted_at: row.submitted_at,
        ended_at: row.ended_at,
        attempts,
        result,
        error,
        id: row.id,
    })
}

/// The attempt that runs is kept in the task's row.
fn running_attempt(
    conn: &Connection,
    names: &mut Names,
    row: &TaskRow,
) -> Result<Option<AttemptRecord>, Fault> {
    if row.status != TaskStatus::Running {
        return Ok(None);
    }
    let (Some(bot), Some(started_at)) = (row.bot, row.started_at) else {
        return Err(Fault::damaged(format!("tasks {}: no bot", row.seq)));
    };
    Ok(Some(AttemptRecord {
        attempt: row.attempt,
        bot_id: names.name(conn, bot)?.as_ref().to_owned(),
        status: AttemptStatus::Running,
        started_at,
        ended_at: None,
        error: None,
    }))
}
