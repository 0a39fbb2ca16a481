//! The store's own facts, one number each: versions, epoch, the floor of `seq`.

use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use super::sum::{Sum, Table};

/// The last migration that ran.
pub(super) const SCHEMA_VERSION: &str = "schema_version";
/// The oldest schema whose programs may still open this store.
pub(super) const MIN_READER_VERSION: &str = "min_reader_version";
/// Part of every fence; 64 random bits.
pub(super) const EPOCH: &str = "epoch";
/// Microseconds since 1970.
pub(super) const CREATED_AT: &str = "created_at";
/// No task gets this `seq` or a lower one.
pub(super) const SEQ_FLOOR: &str = "seq_floor";
/// The major version of the configuration under which routing learns.
pub(super) const LEARNED_UNDER: &str = "learned_under";
/// Nothing that was signed up to then is taken, with whatever key.
pub(super) const NONCES_FLOOR: &str = "nonces_floor";
/// The epoch of which the store remembers every name of a signed request.
pub(super) const NONCES_OF: &str = "nonces_of";
/// Counts the probes.
pub(super) const PROBE: &str = "probe";

pub(super) fn get(conn: &Connection, key: &str) -> Result<Option<i64>, Fault> {
    let found = conn
        .prepare_cached("SELECT value, sum FROM meta WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((value, sum)) = found else {
        return Ok(None);
    };
    sum_of(key, value).check(sum, || format!("meta {key}"))?;
    Ok(Some(value))
}

/// A fact every store has.
pub(super) fn require(conn: &Connection, key: &str) -> Result<i64, Fault> {
    get(conn, key)?.ok_or_else(|| Fault::damaged(format!("meta {key} is missing")))
}

pub(super) fn set(conn: &Connection, key: &str, value: i64) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO meta (key, value, sum) VALUES (?1, ?2, ?3) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, sum = excluded.sum",
    )?
    .execute((key, value, sum_of(key, value).finish()))?;
    Ok(())
}

/// Adds one.
pub(super) fn bump(conn: &Connection, key: &str) -> Result<(), Fault> {
    let value = get(conn, key)?.unwrap_or_default();
    set(conn, key, value.wrapping_add(1))
}

fn sum_of(key: &str, value: i64) -> Sum {
    Sum::new(Table::Meta).text(key).int(value)
}
