//! When the write-ahead log is copied into the database (a checkpoint).
//!
//! SQLite's own automatic checkpoint is off: it runs inside a commit, before the acknowledgement.
//! - Past [`CHECKPOINT_PAGES`] a thread of its own copies (`checkpointer.rs`), while the writer goes on.
//! - The log starts anew only when *all* of it is copied. What the writer has added meanwhile it
//!   copies by itself, after it has reported: [`REMAINDER_PAGES`] at most, so in well under a millisecond.
//!   Under a load that adds more than that during each copy, it copies the rest at [`LARGE_PAGES`].
//! - Readers can hold a part of the log back; past [`MAX_PAGES`] the writer waits for them a moment.
//! - When idle the rest is copied, so that a start after a crash has little to recover.
//! - At close the log is cut to nothing: an empty one is how the next start knows of a clean end.

use std::time::Duration;

use rusqlite::Connection;

use super::checkpointer::Checkpointer;
use super::fault::{Fault, Reach};
use super::open::BUSY_TIMEOUT;

/// 4 MiB.
const CHECKPOINT_PAGES: i64 = 1_000;

/// What the writer copies by itself.
const REMAINDER_PAGES: i64 = 100;

/// 16 MiB.
const LARGE_PAGES: i64 = 4_000;

/// 64 MiB.
const MAX_PAGES: i64 = 16_384;

/// A reader that takes longer (a snapshot for a backup) is not waited for: the log grows meanwhile.
const READERS_WAIT_MAX: Duration = Duration::from_millis(100);

pub(super) const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// What the log holds, and what is done about it.
pub(super) struct Wal {
    /// Pages that are not in the database yet.
    outstanding: i64,
    checkpointer: Checkpointer,
}

impl Wal {
    pub(super) const fn new(checkpointer: Checkpointer) -> Self {
        Self {
            // Whatever an earlier process left is copied when idle.
            outstanding: 1,
            checkpointer,
        }
    }

    /// Whether an idle writer has something to do.
    pub(super) const fn needs_checkpoint(&self) -> bool {
        self.outstanding > 0
    }

    pub(super) fn after_commit(&mut self, conn: &Connection) -> Result<(), Fault> {
        self.check()?;
        let (pages, copied) = run(conn, "PRAGMA wal_checkpoint(NOOP)")?;
        self.outstanding = pages - copied;
        if pages < CHECKPOINT_PAGES || self.outstanding == 0 || self.checkpointer.is_busy() {
            Ok(())
        } else if self.outstanding <= REMAINDER_PAGES {
            self.copy(conn, PASSIVE)
        } else if pages < LARGE_PAGES {
            self.checkpointer.request();
            Ok(())
        } else if pages < MAX_PAGES {
            self.copy(conn, PASSIVE)
        } else {
            conn.busy_timeout(READERS_WAIT_MAX)?;
            let copied = self.copy(conn, "PRAGMA wal_checkpoint(RESTART)");
            conn.busy_timeout(BUSY_TIMEOUT)?;
            copied
        }
    }

    pub(super) fn when_idle(&mut self, _: &Connection) -> Result<(), Fault> {
        self.check()?;
        self.checkpointer.request();
        // Once per idle spell: what a reader holds back waits for the next write or the close.
        self.outstanding = 0;
        Ok(())
    }

    pub(super) fn at_close(&mut self, conn: &Connection) -> Result<(), Fault> {
        self.checkpointer.stop();
        self.check()?;
        deia::failpoint!("store.close.before");
        self.copy(conn, "PRAGMA wal_checkpoint(TRUNCATE)")?;
        deia::failpoint!("store.close.after");
        Ok(())
    }

    fn copy(&mut self, conn: &Connection, pragma: &'static str) -> Result<(), Fault> {
        match run(conn, pragma) {
            Ok((pages, copied)) => {
                self.outstanding = pages - copied;
                Ok(())
            }
            Err(fault) => tolerate(fault),
        }
    }

    fn check(&self) -> Result<(), Fault> {
        self.checkpointer.fault().map_or(Ok(()), tolerate)
    }
}

/// A full disk: everything is still safe in the log, and the copy is tried again later.
fn tolerate(fault: Fault) -> Result<(), Fault> {
    if fault.reach() == Reach::Engine {
        return Err(fault);
    }
    tracing::warn!(event = "store_checkpoint_failed", error = %fault);
    Ok(())
}

/// Pages in the log, and how many of them the database has.
pub(super) fn run(conn: &Connection, pragma: &'static str) -> Result<(i64, i64), Fault> {
    Ok(conn
        .prepare_cached(pragma)?
        .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?)
}
