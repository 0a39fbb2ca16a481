//! What routing has learned, one row for a bot on a kind of work.

use deia::task::TaskType;
use deia::time::Timestamp;
use rusqlite::Connection;

use super::codes;
use super::engine::Engine;
use super::fault::Fault;
use super::meta;
use super::names::{NameId, Names};
use super::sum::{Sum, Table};
use crate::store::{Learned, LearnedRow, Outcome};

/// Rows that are read at most, the newest: of all bots that something is kept of, on everything.
const MAX_ROWS: i64 = 60_000;

/// The code of "every kind of work".
const ALL_TYPES: i64 = -1;

impl Engine {
    pub(super) fn learn(&mut self, rows: &[LearnedRow]) -> Result<Outcome, Fault> {
        for row in rows {
            let bot = self.names.intern(&self.conn, &row.bot)?;
            self.conn
                .prepare_cached(
                    "INSERT INTO learned (bot, task_type, samples, seconds, success_rate, updated_at, \
                     sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (bot, task_type) DO UPDATE \
                     SET samples = excluded.samples, seconds = excluded.seconds, \
                     success_rate = excluded.success_rate, updated_at = excluded.updated_at, \
                     sum = excluded.sum",
                )?
                .execute(rusqlite::params![
                    bot,
                    code(row.on),
                    row.samples.cast_signed(),
                    row.seconds,
                    row.success_rate,
                    row.updated_at.as_micros(),
                    sum_of(bot, row).finish(),
                ])?;
        }
        Ok(Outcome::Learned)
    }

    pub(super) fn learn_under(&mut self, version: u32, forget: bool) -> Result<Outcome, Fault> {
        if forget {
            self.conn
                .prepare_cached("DELETE FROM learned")?
                .execute([])?;
        }
        meta::set(&self.conn, meta::LEARNED_UNDER, i64::from(version))?;
        Ok(Outcome::Learned)
    }
}

/// All of it. A row that is damaged is left out, and said: nothing but a little knowledge is lost.
pub(super) fn learned(conn: &Connection, names: &mut Names) -> Result<Learned, Fault> {
    let under = meta::get(conn, meta::LEARNED_UNDER)?;
    let mut learned = Learned {
        under: under.and_then(|version| u32::try_from(version).ok()),
        rows: Vec::new(),
    };
    every(conn, names, |row| match row {
        Ok(row) => {
            learned.rows.push(row);
            Ok(())
        }
        Err(fault) if fault.is_of_row() => {
            tracing::error!(event = "store_row_damaged", error = %fault, "what was learned there is forgotten");
            Ok(())
        }
        Err(fault) => Err(fault),
    })?;
    Ok(learned)
}

/// Each row against its sum.
pub(super) fn verify(conn: &Connection, names: &mut Names) -> Result<(), Fault> {
    every(conn, names, |row| row.map(drop))
}

fn every(
    conn: &Connection,
    names: &mut Names,
    mut take: impl FnMut(Result<LearnedRow, Fault>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT bot, task_type, samples, seconds, success_rate, updated_at, sum FROM \
         (SELECT * FROM learned ORDER BY updated_at DESC LIMIT ?1) ORDER BY updated_at, bot, task_type",
    )?;
    let mut rows = statement.query([MAX_ROWS])?;
    while let Some(row) = rows.next()? {
        take(read(conn, names, row))?;
    }
    Ok(())
}

fn read(
    conn: &Connection,
    names: &mut Names,
    row: &rusqlite::Row<'_>,
) -> Result<LearnedRow, Fault> {
    let (bot, kind): (NameId, i64) = (row.get(0)?, row.get(1)?);
    let on = match kind {
        ALL_TYPES => None,
        kind => Some(codes::to_task_type(kind)?),
    };
    let learned = LearnedRow {
        bot: names.name(conn, bot)?,
        on,
        samples: row.get::<_, i64>(2)?.cast_unsigned(),
        seconds: row.get(3)?,
        success_rate: row.get(4)?,
        updated_at: Timestamp::from_micros(row.get(5)?),
    };
    sum_of(bot, &learned).check(row.get(6)?, || format!("learned {bot}, {kind}"))?;
    Ok(learned)
}

fn code(on: Option<TaskType>) -> i64 {
    on.map_or(ALL_TYPES, codes::task_type)
}

fn sum_of(bot: NameId, row: &LearnedRow) -> Sum {
    Sum::new(Table::Learned)
        .int(bot)
        .int(code(row.on))
        .int(row.samples.cast_signed())
        .int(row.seconds.to_bits().cast_signed())
        .int(row.success_rate.to_bits().cast_signed())
        .int(row.updated_at.as_micros())
}
