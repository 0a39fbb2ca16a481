//! When the write-ahead log is copied into the database (a checkpoint).
//!
//! SQLite's own automatic checkpoint is off: it runs inside a commit, before the acknowledgement.
//! - Past [`CHECKPOINT_PAGES`] a thread of its own copies (`checkpointer.rs`), while the writer goes on.
//! - The log starts anew only when *all* of it is copied. What the writer has added meanwhile it
//!   copies by itself, after it has reported: [`REMAINDER_PAGES`] at most, so in well under a millisecond.
//!   Under a load that adds more than that during each copy, it copies the rest at [`LARGE_PAGES`].
//! - Readers can hold a part of the log back; past [`MAX_PAGES`] the writer waits for them a moment.
//! - When idle the rest is copied, so that a start after a crash has little to recover.
//! - At first the log's file is made as long as it may grow (`room.rs`): a portion after each commit that
//!   nothing waits behind, and the rest when idle.
//! - At close the log is cut to nothing: an empty one is how the next start knows of a clean end.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, MAIN_DB};

use super::checkpointer::Checkpointer;
use super::fault::{Fault, Reach};
use super::files;
use super::open::BUSY_TIMEOUT;
use super::room::Room;

/// 32 MiB. A copy competes with commits for the disk: at a hundred tasks a second (about 2,000 pages) a
/// bound of 4 MiB meant two copies a second, and each delayed one or two submissions, which is more
/// than one in a hundred. A longer log also saves work: a page that changed often is copied once.
const CHECKPOINT_PAGES: i64 = 8_000;

/// What the writer copies by itself.
const REMAINDER_PAGES: i64 = 100;

/// 64 MiB.
const LARGE_PAGES: i64 = 16_384;

/// 128 MiB.
const MAX_PAGES: i64 = 32_768;

/// As long as the log gets while the disk keeps up, with its headers.
pub(super) const ROOM_BYTES: u64 =
    (CHECKPOINT_PAGES as u64 + REMAINDER_PAGES as u64) * (4_096 + 24);

/// Without operations for this long, room is made ...
const IDLE_BEFORE_ROOM: Duration = Duration::from_millis(50);

/// ... and for this long, the log is copied, and then left alone until the next write.
const IDLE_BEFORE_COPY: Duration = Duration::from_millis(250);

/// Of the log's file, what stays when it starts anew: room that is already there costs a commit less.
pub(super) const KEPT_BYTES: i64 = LARGE_PAGES * 4_096;

/// A reader that takes longer (a snapshot for a backup) is not waited for: the log grows meanwhile.
const READERS_WAIT_MAX: Duration = Duration::from_millis(100);

pub(super) const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// What the log holds, and what is done about it.
pub(super) struct Wal {
    /// Pages that are not in the database yet.
    outstanding: i64,
    checkpointer: Checkpointer,
    /// What is to be made longer.
    room: Option<Room>,
}

impl Wal {
    /// Of the store at `path`.
    pub(super) fn new(path: &Path, checkpointer: Checkpointer) -> Self {
        Self {
            // Whatever an earlier process left is copied when idle.
            outstanding: 1,
            checkpointer,
            room: Room::of(&files::wal_of(path), ROOM_BYTES).unwrap_or_else(|e| no_room(&e)),
        }
    }

    /// How long an idle writer waits before it has something to do; for ever, where it has nothing.
    pub(super) const fn patience(&self) -> Option<Duration> {
        if self.room.is_some() {
            Some(IDLE_BEFORE_ROOM)
        } else if self.outstanding > 0 {
            Some(IDLE_BEFORE_COPY)
        } else {
            None
        }
    }

    pub(super) fn after_commit(&mut self, conn: &Connection) -> Result<(), Fault> {
        self.check()?;
        // As a pragma it would be parsed anew after each commit.
        let (pages, copied) = conn.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::NOOP)?;
        let (pages, copied) = (i64::from(pages), i64::from(copied));
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

    /// A portion of it. The log works without.
    pub(super) fn make_room(&mut self) {
        let Some(room) = &self.room else {
            return;
        };
        deia::failpoint!("store.room.before");
        let filled = room.fill();
        deia::failpoint!("store.room.after");
        if !matches!(filled, Ok(false)) {
            self.room = None;
        }
        if let Err(e) = filled {
            no_room(&e);
        }
    }

    pub(super) fn when_idle(&mut self, _: &Connection) -> Result<(), Fault> {
        self.check()?;
        if self.room.is_some() {
            while self.room.is_some() {
                self.make_room();
            }
            // Which syncs it, too: the next commit need not.
            self.checkpointer.request();
            return Ok(());
        }
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

fn no_room(e: &io::Error) -> Option<Room> {
    tracing::warn!(event = "store_room_not_made", error = %e, "the store's log grows as it goes");
    None
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
