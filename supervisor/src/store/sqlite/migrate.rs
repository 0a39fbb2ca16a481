//! The schema, in numbered steps. A release adds steps and never changes one that was shipped.
//!
//! All steps a store lacks run in one transaction, after a copy was made beside it
//! (`deia.db.before-v<N>`, N being the version it will have). Steps are additive where possible:
//! `min_reader` says from which schema on a program can work with the result, so that an older
//! release may be started again after an upgrade.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::OpenError;
use super::fault::Fault;
use super::files;
use super::meta;
use super::snapshot;

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) min_reader: i64,
    pub(super) sql: &'static str,
}

/// The schema that has what routing has learned.
pub(super) const LEARNING: i64 = 2;

/// The schema that has messages.
pub(super) const MESSAGES: i64 = 3;

/// The schema that has the audit trail.
pub(super) const AUDIT: i64 = 5;

/// The schema that has names of signed requests.
pub(super) const NONCES: i64 = 6;

/// Every step, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        min_reader: 1,
        sql: include_str!("migrations/0001_tasks.sql"),
    },
    Migration {
        version: 2,
        min_reader: 1,
        sql: include_str!("migrations/0002_learning.sql"),
    },
    Migration {
        version: 3,
        min_reader: 1,
        sql: include_str!("migrations/0003_messages.sql"),
    },
    Migration {
        version: 4,
        min_reader: 1,
        sql: include_str!("migrations/0004_due.sql"),
    },
    Migration {
        version: 5,
        min_reader: 1,
        sql: include_str!("migrations/0005_audit.sql"),
    },
    Migration {
        version: 6,
        min_reader: 1,
        sql: include_str!("migrations/0006_nonces.sql"),
    },
];

pub(super) fn latest(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, |m| m.version)
}

/// Brings an existing store up to date, or refuses it.
pub(super) fn migrate(
    conn: &Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let fault = |fault: Fault| OpenError::from_fault(path, &fault);
    let found = meta::require(conn, meta::SCHEMA_VERSION).map_err(fault)?;
    let min_reader = meta::require(conn, meta::MIN_READER_VERSION).map_err(fault)?;
    let known = latest(migrations);
    if found > known {
        return if min_reader <= known {
            tracing::warn!(event = "store_schema_newer", found, known);
            Ok(())
        } else {
            Err(OpenError::TooNew {
                path: path.to_owned(),
                found,
                min_reader,
                known,
            })
        };
    }
    if found == known {
        return Ok(());
    }
    let copy = copy_path(path, known);
    snapshot::copy(conn, &copy)?;
    deia::failpoint!("store.migrate.copied");
    tracing::info!(event = "store_migrating", from = found, to = known, copy = %copy.display());
    apply(conn, found, migrations).map_err(fault)?;
    deia::failpoint!("store.migrate.commit.after");
    Ok(())
}

/// Runs the steps after `from` in one transaction.
pub(super) fn apply(conn: &Connection, from: i64, migrations: &[Migration]) -> Result<(), Fault> {
    let transaction = conn.unchecked_transaction()?;
    for step in migrations.iter().filter(|m| m.version > from) {
        conn.execute_batch(step.sql)?;
        meta::set(conn, meta::SCHEMA_VERSION, step.version)?;
        meta::set(conn, meta::MIN_READER_VERSION, step.min_reader)?;
        deia::failpoint!("store.migrate.stepped");
    }
    deia::failpoint!("store.migrate.commit.before");
    transaction.commit()?;
    Ok(())
}

pub(super) fn copy_path(path: &Path, version: i64) -> PathBuf {
    files::beside(path, &format!(".before-v{version}"))
}
