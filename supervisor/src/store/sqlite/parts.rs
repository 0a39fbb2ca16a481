//! The rows beside a task's: its body (as submitted), its ended attempts, its result. Each is written
//! once and never changed; texts that may be large have a sum of their own and are read alone.

use deia::task::AttemptStatus;
use deia::time::Timestamp;
use deia::wire::Usage;
use rusqlite::{Connection, OptionalExtension};

use super::codes;
use super::fault::Fault;
use super::names::{NameId, Names};
use super::sum::{Sum, Table};
use crate::store::{AttemptRecord, NewTask, ResultRecord, Seq, TaskResult};

/// A body without its content.
pub(super) struct Body {
    pub(super) request_hash: [u8; 32],
    pub(super) required_capabilities: Vec<String>,
    pub(super) pool: Option<String>,
    pub(super) metadata: Option<String>,
}

pub(super) fn insert_body(conn: &Connection, seq: Seq, task: &NewTask) -> Result<(), Fault> {
    let capabilities = serde_json::to_string(&task.required_capabilities)
        .map_err(|e| Fault::damaged(format!("required_capabilities of {}: {e}", task.id)))?;
    let sum = body_sum(
        seq,
        &task.request_hash,
        &capabilities,
        task.pool.as_deref(),
        task.metadata.as_deref(),
    );
    conn.prepare_cached(
        "INSERT INTO bodies (seq, request_hash, capabilities, pool, metadata, sum, content_sum, \
         content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(rusqlite::params![
        seq,
        task.request_hash,
        capabilities,
        task.pool,
        task.metadata,
        sum.finish(),
        text_sum(Table::Contents, seq, &task.content).finish(),
        task.content,
    ])?;
    Ok(())
}

pub(super) fn body(conn: &Connection, seq: Seq) -> Result<Body, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT request_hash, capabilities, pool, metadata, sum FROM bodies WHERE seq = ?1",
    )?;
    let mut rows = statement.query([seq])?;
    let row = rows
        .next()?
        .ok_or_else(|| Fault::damaged(format!("bodies {seq} is missing")))?;
    let capabilities: String = row.get(1)?;
    let body = Body {
        request_hash: row.get(0)?,
        required_capabilities: serde_json::from_str(&capabilities)
            .map_err(|_| Fault::damaged(format!("bodies {seq}")))?,
        pool: row.get(2)?,
        metadata: row.get(3)?,
    };
    body_sum(
        seq,
        &body.request_hash,
        &capabilities,
        body.pool.as_deref(),
        body.metadata.as_deref(),
    )
    .check(row.get(4)?, || format!("bodies {seq}"))?;
    Ok(body)
}

pub(super) fn content(conn: &Connection, seq: Seq) -> Result<String, Fault> {
    let (content, sum): (String, i64) = conn
        .prepare_cached("SELECT content, content_sum FROM bodies WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| Fault::damaged(format!("bodies {seq} is missing")))?;
    text_sum(Table::Contents, seq, &content).check(sum, || format!("bodies {seq}: content"))?;
    Ok(content)
}

/// An attempt that has ended.
pub(super) struct EndedAttempt<'a> {
    pub(super) seq: Seq,
    pub(super) attempt: u32,
    pub(super) bot: NameId,
    pub(super) status: AttemptStatus,
    pub(super) started_at: Timestamp,
    pub(super) ended_at: Timestamp,
    pub(super) error: Option<&'a str>,
    pub(super) choice: Option<&'a str>,
}

impl EndedAttempt<'_> {
    pub(super) fn insert(&self, conn: &Connection) -> Result<(), Fault> {
        conn.prepare_cached(
            "INSERT INTO attempts (seq, attempt, bot, status, started_at, ended_at, error, sum, choice, \
             choice_sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(rusqlite::params![
            self.seq,
            self.attempt,
            self.bot,
            codes::attempt_status(self.status),
            self.started_at.as_micros(),
            self.ended_at.as_micros(),
            self.error,
            self.sum().finish(),
            self.choice,
            self.choice
                .map(|choice| choice_sum(self.seq, self.attempt, choice).finish()),
        ])?;
        Ok(())
    }

    fn sum(&self) -> Sum {
        Sum::new(Table::Attempts)
            .int(self.seq)
            .int(i64::from(self.attempt))
            .int(self.bot)
            .int(codes::attempt_status(self.status))
            .int(self.started_at.as_micros())
            .int(self.ended_at.as_micros())
            .opt_text(self.error)
    }
}

/// A task's ended attempts, oldest first.
pub(super) fn attempts(
    conn: &Connection,
    names: &mut Names,
    seq: Seq,
) -> Result<Vec<AttemptRecord>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT attempt, bot, status, started_at, ended_at, error, sum FROM attempts \
         WHERE seq = ?1 ORDER BY attempt",
    )?;
    let mut rows = statement.query([seq])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        let error: Option<String> = row.get(5)?;
        let ended = EndedAttempt {
            seq,
            attempt: row.get(0)?,
            bot: row.get(1)?,
            status: codes::to_attempt_status(row.get(2)?)?,
            started_at: Timestamp::from_micros(row.get(3)?),
            ended_at: Timestamp::from_micros(row.get(4)?),
            error: error.as_deref(),
            choice: None,
        };
        ended
            .sum()
            .check(row.get(6)?, || format!("attempts {seq}, {}", ended.attempt))?;
        attempts.push(AttemptRecord {
            attempt: ended.attempt,
            bot_id: names.name(conn, ended.bot)?.as_ref().to_owned(),
            status: ended.status,
            started_at: ended.started_at,
            ended_at: Some(ended.ended_at),
            error,
        });
    }
    Ok(attempts)
}

/// Why a task's ended attempts went to their bots, where that is known.
pub(super) fn choices(conn: &Connection, seq: Seq) -> Result<Vec<(u32, String)>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT attempt, choice, choice_sum FROM attempts \
         WHERE seq = ?1 AND choice IS NOT NULL ORDER BY attempt",
    )?;
    let mut rows = statement.query([seq])?;
    let mut choices = Vec::new();
    while let Some(row) = rows.next()? {
        let (attempt, choice): (u32, String) = (row.get(0)?, row.get(1)?);
        // A row that lost its sum does not pass.
        let sum = row.get::<_, Option<i64>>(2)?.unwrap_or_default();
        choice_sum(seq, attempt, &choice)
            .check(sum, || format!("attempts {seq}, {attempt}: choice"))?;
        choices.push((attempt, choice));
    }
    Ok(choices)
}

pub(super) fn insert_result(conn: &Connection, seq: Seq, result: &TaskResult) -> Result<(), Fault> {
    let record = ResultRecord {
        output_bytes: result.output.len() as u64,
        truncated: result.truncated,
        usage: result.usage,
        backend: result.backend.clone(),
        model: result.model.clone(),
    };
    conn.prepare_cached(
        "INSERT INTO results (seq, truncated, prompt_tokens, completion_tokens, backend, model, \
         output_bytes, sum, output_sum, output) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(rusqlite::params![
        seq,
        record.truncated,
        record.usage.prompt_tokens.cast_signed(),
        record.usage.completion_tokens.cast_signed(),
        record.backend,
        record.model,
        record.output_bytes.cast_signed(),
        result_sum(seq, &record).finish(),
        text_sum(Table::Outputs, seq, &result.output).finish(),
        result.output,
    ])?;
    Ok(())
}

pub(super) fn result(conn: &Connection, seq: Seq) -> Result<Option<ResultRecord>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT truncated, prompt_tokens, completion_tokens, backend, model, output_bytes, sum \
         FROM results WHERE seq = ?1",
    )?;
    let mut rows = statement.query([seq])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let unsigned =
        |column| -> Result<u64, Fault> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
    let record = ResultRecord {
        output_bytes: unsigned(5)?,
        truncated: row.get(0)?,
        usage: Usage {
            prompt_tokens: unsigned(1)?,
            completion_tokens: unsigned(2)?,
        },
        backend: row.get(3)?,
        model: row.get(4)?,
    };
    result_sum(seq, &record).check(row.get(6)?, || format!("results {seq}"))?;
    Ok(Some(record))
}

pub(super) fn output(conn: &Connection, seq: Seq) -> Result<Option<String>, Fault> {
    let found: Option<(String, i64)> = conn
        .prepare_cached("SELECT output, output_sum FROM results WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((output, sum)) = found else {
        return Ok(None);
    };
    text_sum(Table::Outputs, seq, &output).check(sum, || format!("results {seq}: output"))?;
    Ok(Some(output))
}

/// Removes a task everywhere.
pub(super) fn remove(conn: &Connection, seq: Seq) -> Result<(), Fault> {
    for statement in [
        "DELETE FROM tasks WHERE seq = ?1",
        "DELETE FROM bodies WHERE seq = ?1",
        "DELETE FROM attempts WHERE seq = ?1",
        "DELETE FROM results WHERE seq = ?1",
    ] {
        conn.prepare_cached(statement)?.execute([seq])?;
    }
    Ok(())
}

fn body_sum(
    seq: Seq,
    request_hash: &[u8; 32],
    capabilities: &str,
    pool: Option<&str>,
    metadata: Option<&str>,
) -> Sum {
    Sum::new(Table::Bodies)
        .int(seq)
        .bytes(request_hash)
        .text(capabilities)
        .opt_text(pool)
        .opt_text(metadata)
}

fn result_sum(seq: Seq, record: &ResultRecord) -> Sum {
    Sum::new(Table::Results)
        .int(seq)
        .int(i64::from(record.truncated))
        .int(record.usage.prompt_tokens.cast_signed())
        .int(record.usage.completion_tokens.cast_signed())
        .text(&record.backend)
        .opt_text(record.model.as_deref())
        .int(record.output_bytes.cast_signed())
}

fn choice_sum(seq: Seq, attempt: u32, choice: &str) -> Sum {
    Sum::new(Table::Choices)
        .int(seq)
        .int(i64::from(attempt))
        .text(choice)
}

fn text_sum(table: Table, seq: Seq, text: &str) -> Sum {
    Sum::new(table).int(seq).text(text)
}
