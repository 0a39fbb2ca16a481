//! What a restore does not turn back, and what it comes to.
//!
//! Records that say what was done (audit), and what must not be taken twice (nonces), are of the home and not of the
//! backup: those of the present store are put into the restored one. Tokens are in no store (`crate::tokens`). A group of tables goes as a whole, because
//! its rows prove each other.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::error::OpenError;
use super::fault::Fault;
use super::files::{self, Found, LastEnd};
use super::log;

/// A group of tables.
struct Group {
    /// What users call it.
    name: &'static str,
    /// Its tables; the first is the one that is counted.
    tables: &'static [&'static str],
    /// Finds a row where the present records go on from those in the backup; nothing: they always do.
    continues: Option<&'static str>,
}

/// What is carried. A table that one of the stores does not have, or has in another form, leaves its group out.
const GROUPS: &[Group] = &[
    Group {
        name: "audit",
        tables: &["audit", "audit_chain"],
        continues: Some(
            "SELECT 1 FROM main.audit_chain AS b WHERE b.head_seq = 0 OR EXISTS \
             (SELECT 1 FROM old.audit AS o WHERE o.seq = b.head_seq AND o.hash = b.head_hash)",
        ),
    },
    Group {
        name: "nonces",
        tables: &["nonces", "signers"],
        continues: None,
    },
];

/// What was carried: rows by group, and what could not be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// Rows of each group that there is.
    pub rows: BTreeMap<String, u64>,
    /// Groups that stayed as the backup has them, and why.
    pub left: Vec<String>,
}

/// What a restore comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Tasks that are in the present store and not in the other.
    pub dropped: u64,
    /// Tasks that have ended in the present store and not in the other.
    pub run_again: u64,
}

/// Puts what is not turned back from the store at `old` into the one at `restored`; no process has either open. In one
/// transaction: all of it or none, and again with the same end.
pub(super) fn carry(restored: &Path, old: &Path) -> Result<Carried, OpenError> {
    let fault = |e: rusqlite::Error| OpenError::from_fault(restored, &Fault::from(e));
    let Found::Store { end, .. } = files::look(old)? else {
        return Ok(Carried::default());
    };
    if end == LastEnd::Unclean {
        log::check(old)?;
    }
    let conn = Connection::open_with_flags(
        restored,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    )
    .map_err(fault)?;
    // The restored store is not in use yet and has no log: one file, synced when this is committed.
    conn.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .map_err(fault)?;
    conn.pragma_update(None, "synchronous", "FULL")
        .map_err(fault)?;
    attach(&conn, old).map_err(|e| OpenError::from_fault(old, &e.into()))?;
    let transaction = conn.unchecked_transaction().map_err(fault)?;
    let mut carried = Carried::default();
    for group in GROUPS {
        match rows_of(&conn, group).map_err(fault)? {
            Ok(Some(rows)) => {
                carried.rows.insert(group.name.to_owned(), rows);
            }
            Ok(None) => {}
            Err(why) => carried.left.push(format!("{}: {why}", group.name)),
        }
    }
    transaction.commit().map_err(fault)?;
    drop(conn);
    files::sync_directory_of(restored)?;
    Ok(carried)
}

fn rows_of(
    conn: &Connection,
    group: &Group,
) -> rusqlite::Result<Result<Option<u64>, &'static str>> {
    for table in group.tables {
        let (here, there) = (columns(conn, "main", table)?, columns(conn, "old", table)?);
        if there.is_empty() {
            return Ok(Ok(None));
        }
        if here != there {
            return Ok(Err("the two stores have them in different forms"));
        }
    }
    if let Some(sql) = group.continues
        && conn.query_row(sql, [], |_| Ok(())).optional()?.is_none()
    {
        return Ok(Err("those in the backup are another home's"));
    }
    let mut rows = 0;
    for table in group.tables {
        conn.execute(&format!("DELETE FROM main.{table}"), [])?;
        let sql = format!("INSERT INTO main.{table} SELECT * FROM old.{table}");
        let inserted = conn.execute(&sql, [])?;
        if group.tables.first() == Some(table) {
            rows = inserted as u64;
        }
    }
    Ok(Ok(Some(rows)))
}

fn columns(conn: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("PRAGMA {schema}.table_info({table})"))?;
    let names = statement.query_map([], |row| row.get::<_, String>(1))?;
    names.collect()
}

/// What the tasks of `present`, which may be in use, and of `other`, which is not, have not in common.
pub(super) fn difference(present: &Path, other: &Path) -> Result<Difference, OpenError> {
    let fault = |e: rusqlite::Error| OpenError::from_fault(present, &Fault::from(e));
    if files::look(present)? == Found::Nothing {
        return Ok(Difference {
            dropped: 0,
            run_again: 0,
        });
    }
    let conn = Connection::open_with_flags(
        super::snapshot::uri(other, "immutable=1"),
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI,
    )
    .map_err(fault)?;
    attach(&conn, present).map_err(fault)?;
    let count = |sql: &str| -> Result<u64, OpenError> {
        let count: i64 = conn.query_row(sql, [], |row| row.get(0)).map_err(fault)?;
        Ok(count.cast_unsigned())
    };
    Ok(Difference {
        dropped: count(
            "SELECT count(*) FROM old.tasks AS o \
             WHERE NOT EXISTS (SELECT 1 FROM main.tasks AS t WHERE t.id = o.id)",
        )?,
        // Scheduled, queued and running are 0, 1 and 2 (codes.rs).
        run_again: count(
            "SELECT count(*) FROM main.tasks AS t JOIN old.tasks AS o ON o.id = t.id \
             WHERE t.status <= 2 AND o.status > 2",
        )?,
    })
}

fn attach(conn: &Connection, old: &Path) -> rusqlite::Result<()> {
    conn.busy_timeout(super::open::BUSY_TIMEOUT)?;
    let uri = super::snapshot::uri(old, "mode=ro");
    conn.execute("ATTACH ?1 AS old", [uri]).map(drop)
}
