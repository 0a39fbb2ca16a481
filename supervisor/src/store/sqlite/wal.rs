//! When the write-ahead log is copied into the database (a checkpoint).
//!
//! SQLite's own automatic checkpoint is off: it runs inside a commit, before the acknowledgement.
//! Here the writer does it between transactions, after it has reported:
//! - past [`CHECKPOINT_PAGES`], so that the log starts anew and stays small;
//! - readers can hold a part of it back; past [`MAX_PAGES`] the writer waits for them;
//! - when idle, so that a start after a crash has nothing to recover;
//! - at close, cutting it to nothing: an empty log is how the next start knows of a clean end.

use std::time::Duration;

use rusqlite::Connection;

use super::fault::{Fault, Reach};
use super::open::BUSY_TIMEOUT;

/// 4 MiB: a checkpoint of it takes a few milliseconds.
const CHECKPOINT_PAGES: i64 = 1_000;

/// 64 MiB.
const MAX_PAGES: i64 = 16_384;

/// A reader that takes longer (a snapshot for a backup) is not waited for: the log grows meanwhile.
const READERS_WAIT_MAX: Duration = Duration::from_millis(100);

/// What the log holds, and when to do something about it.
#[derive(Debug)]
pub(super) struct Wal {
    /// Pages that are not in the database yet.
    outstanding: i64,
    /// The log's length from which on it is copied.
    copy_at: i64,
}

impl Wal {
    pub(super) const fn new() -> Self {
        Self {
            // Whatever an earlier process left is copied when idle.
            outstanding: 1,
            copy_at: CHECKPOINT_PAGES,
        }
    }

    /// Whether an idle writer has something to do.
    pub(super) const fn needs_checkpoint(&self) -> bool {
        self.outstanding > 0
    }

    pub(super) fn after_commit(&mut self, conn: &Connection) -> Result<(), Fault> {
        let (pages, copied) = run(conn, "PRAGMA wal_checkpoint(NOOP)")?;
        self.outstanding = pages - copied;
        if self.outstanding == 0 || pages < self.copy_at {
            Ok(())
        } else if pages < MAX_PAGES {
            self.copy(conn, "PRAGMA wal_checkpoint(PASSIVE)")
        } else {
            conn.busy_timeout(READERS_WAIT_MAX)?;
            let copied = self.copy(conn, "PRAGMA wal_checkpoint(RESTART)");
            conn.busy_timeout(BUSY_TIMEOUT)?;
            copied
        }
    }

    pub(super) fn when_idle(&mut self, conn: &Connection) -> Result<(), Fault> {
        let copied = self.copy(conn, "PRAGMA wal_checkpoint(PASSIVE)");
        // Once per idle spell: what a reader holds back waits for the next write or the close.
        self.outstanding = 0;
        copied
    }

    pub(super) fn at_close(&mut self, conn: &Connection) -> Result<(), Fault> {
        self.copy(conn, "PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn copy(&mut self, conn: &Connection, pragma: &'static str) -> Result<(), Fault> {
        match run(conn, pragma) {
            Ok((pages, copied)) => {
                self.outstanding = pages - copied;
                // A log that was copied whole starts anew; one that readers held back goes on.
                let kept = if self.outstanding == 0 { 0 } else { pages };
                self.copy_at = kept + CHECKPOINT_PAGES;
                Ok(())
            }
            // A full disk: everything is still safe in the log; tried again after more commits.
            Err(fault) if fault.reach() != Reach::Engine => {
                self.copy_at += CHECKPOINT_PAGES;
                tracing::warn!(event = "store_checkpoint_failed", error = %fault);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }
}

/// Pages in the log, and how many of them the database has.
fn run(conn: &Connection, pragma: &'static str) -> Result<(i64, i64), Fault> {
    Ok(conn
        .prepare_cached(pragma)?
        .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?)
}
