//! From a path to an engine: look, create or check, migrate, load.
//!
//! Until everything has passed, nothing is written: not even the log of an unclean end is copied
//! into the database when the connection closes again (`NO_CKPT_ON_CLOSE`).

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use deia::task::TaskStatus;
use deia::time::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::audit::{Chain, Trail};
use super::codes;
use super::engine::Engine;
use super::error::OpenError;
use super::fault::{Fault, Reach};
use super::files::{self, Found, LastEnd};
use super::log;
use super::meta;
use super::migrate::{self, Migration};
use super::names::Names;
use super::read::Reader;
use super::row::Damaged;
use super::wal;
use crate::store::{Seq, StatusCounts};

/// Only a backup or a program run by hand can hold a lock, and only for moments.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements a connection keeps prepared; more than there are.
const CACHED_STATEMENTS: usize = 64;

/// A store up to this size is checked at every start, each index against its table: a lookup through an
/// index that has lost an entry would say that a task is not there, and no row's sum can tell.
const INDEXES_CHECKED_BYTES_MAX: u64 = 16 << 20;

/// After an unclean end a store up to this size is checked whole before it is used (about a
/// quarter of a second); a larger one as it is read (page structure, and each row by its sum).
const CHECKED_BYTES_MAX: u64 = 256 << 20;

/// The store at `path`, new if there is none.
pub(super) fn engine(path: &Path, migrations: &[Migration]) -> Result<Engine, OpenError> {
    let (bytes, end) = match files::look(path)? {
        Found::Store { bytes, end } => (bytes, end),
        Found::Nothing => {
            create(path, migrations)?;
            (0, LastEnd::Clean)
        }
    };
    if end == LastEnd::Unclean {
        log::check(path)?;
    }
    files::make_private(path)?;
    let fault = |fault: Fault| OpenError::from_fault(path, &fault);
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(|e| fault(e.into()))?;
    match end {
        _ if bytes == 0 => {}
        _ if bytes <= INDEXES_CHECKED_BYTES_MAX => {
            check(&conn, path, "PRAGMA integrity_check(1)")?;
            // It has read every page, and nobody is going to.
            conn.execute_batch("PRAGMA shrink_memory")
                .map_err(|e| fault(e.into()))?;
        }
        LastEnd::Clean => {}
        LastEnd::Unclean if bytes <= CHECKED_BYTES_MAX => {
            check(&conn, path, "PRAGMA quick_check(1)")?;
        }
        LastEnd::Unclean => tracing::info!(event = "store_check_skipped", bytes),
    }
    migrate::migrate(&conn, path, migrations)?;
    // A copy made for a backup has no log of its own.
    use_log(&conn).map_err(fault)?;
    if end == LastEnd::Unclean {
        begin_log_anew(&conn).map_err(fault)?;
    }
    // Makes the log and its entry in the directory. SQLite syncs that, too, but does not say when it
    // failed, and every commit from now on is in that file.
    meta::bump(&conn, meta::PROBE).map_err(fault)?;
    deia::failpoint!("store.log.made");
    files::sync_directory_of(path)?;
    let engine = load(conn).map_err(fault)?;
    engine
        .conn
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(|e| fault(e.into()))?;
    Ok(engine)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Reader, Fault> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.pragma_update(None, "cache_size", -256)?;
    Ok(Reader {
        conn,
        names: Names::default(),
        damaged: Damaged::default(),
    })
}

/// A connection that only copies the log.
pub(super) fn checkpointer(path: &Path) -> Result<Connection, Fault> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.pragma_update(None, "cache_size", -64)?;
    // Should it be the last to close after the writer broke, it must not copy either.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, Fault> {
    let conn = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // FULL: a commit is on disk when it returns. NORMAL loses acknowledged tasks in a power cut.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "mmap_size", 0)?;
    conn.pragma_update(None, "cache_size", -2_048)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    // One large transaction does not leave a large log behind.
    conn.pragma_update(None, "journal_size_limit", wal::KEPT_BYTES)?;
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(conn)
}

/// Made under another name and renamed when whole, so that a crash in between leaves no half store
/// and an empty file at `path` is never ours.
fn create(path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    let new = files::beside(path, ".new");
    files::remove_if_there(&files::beside(&new, "-journal"))?;
    files::remove_if_there(&files::wal_of(&new))?;
    files::remove_if_there(&files::beside(&new, "-shm"))?;
    files::remove_if_there(&new)?;
    files::create_private(&new)?;
    fill(&new, migrations).map_err(|fault| OpenError::from_fault(path, &fault))?;
    deia::failpoint!("store.create.filled");
    File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(OpenError::io(&new, "sync"))?;
    deia::failpoint!("store.create.synced");
    files::rename(&new, path)
}

fn fill(new: &Path, migrations: &[Migration]) -> Result<(), Fault> {
    let conn = connect(new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Nothing of it counts before it has its name, and it is synced whole before that. Four syncs for
    // each statement here were most of a first start.
    conn.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "OFF")?;
    conn.pragma_update(None, "application_id", files::APPLICATION_ID)?;
    migrate::apply(&conn, 0, migrations)?;
    meta::set(&conn, meta::CREATED_AT, Timestamp::now().as_micros())?;
    meta::set(&conn, meta::SEQ_FLOOR, 0)?;
    set_new_epoch(&conn)?;
    use_log(&conn)?;
    conn.close().map_err(|(_, e)| e.into())
}

fn use_log(conn: &Connection) -> Result<(), Fault> {
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode == "wal" {
        Ok(())
    } else {
        Err(Fault::NoLog(mode))
    }
}

/// Copies a recovered log into the database and empties it. What a commit that was cut short has left in it
/// would else stand behind later commits, where `log.rs` takes it for the proof of damage.
fn begin_log_anew(conn: &Connection) -> Result<(), Fault> {
    match wal::run(conn, "PRAGMA wal_checkpoint(TRUNCATE)") {
        // A full disk: it is as good in the log.
        Err(fault) if fault.reach() == Reach::Engine => Err(fault),
        _ => Ok(()),
    }
}

/// Shuts out every result of a lease taken before: at creation and at each restore.
pub(super) fn set_new_epoch(conn: &Connection) -> Result<u64, Fault> {
    // The halves of a v4 have fixed bits, at different places once one is turned.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    let epoch = high ^ low.rotate_left(32);
    meta::set(conn, meta::EPOCH, epoch.cast_signed())?;
    Ok(epoch)
}

/// Runs one of SQLite's checks.
pub(super) fn check(conn: &Connection, path: &Path, pragma: &str) -> Result<(), OpenError> {
    let verdict: String = conn
        .query_row(pragma, [], |row| row.get(0))
        .map_err(|e| OpenError::from_fault(path, &e.into()))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: verdict,
        })
    }
}

fn load(conn: Connection) -> Result<Engine, Fault> {
    let epoch = meta::require(&conn, meta::EPOCH)?.cast_unsigned();
    let floor = meta::require(&conn, meta::SEQ_FLOOR)?;
    let newest: Option<Seq> = conn.query_row("SELECT max(seq) FROM tasks", [], |row| row.get(0))?;
    let counts = count(&conn)?;
    let trail = Trail::of(Chain::load(&conn)?);
    Ok(Engine {
        trail,
        epoch,
        next_seq: newest.unwrap_or(0).max(floor) + 1,
        counts,
        names: Names::default(),
        damaged: Damaged::default(),
        conn,
    })
}

/// From the indexes: a tenth of the table's size.
fn count(conn: &Connection) -> Result<StatusCounts, Fault> {
    let one = |sql: &str| -> Result<u64, Fault> {
        let count: i64 = conn.query_row(sql, [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    };
    let mut counts = StatusCounts::default();
    let mut set = |status: TaskStatus, count: u64| {
        if let Some(slot) = counts.by_status.get_mut(status as usize) {
            *slot = count;
        }
    };
    set(
        TaskStatus::Scheduled,
        one("SELECT count(*) FROM tasks INDEXED BY tasks_due WHERE status = 0")?,
    );
    set(
        TaskStatus::Queued,
        one("SELECT count(*) FROM tasks INDEXED BY tasks_ready WHERE status = 1")?,
    );
    set(
        TaskStatus::Running,
        one("SELECT count(*) FROM tasks INDEXED BY tasks_running WHERE status = 2")?,
    );
    let mut succeeded =
        one("SELECT count(*) FROM tasks INDEXED BY tasks_ended WHERE ended_at IS NOT NULL")?;
    for status in [TaskStatus::Dead, TaskStatus::Cancelled, TaskStatus::Expired] {
        let count = one(&format!(
            "SELECT count(*) FROM tasks INDEXED BY tasks_failed WHERE status = {}",
            codes::status(status)
        ))?;
        succeeded = succeeded.saturating_sub(count);
        set(status, count);
    }
    set(TaskStatus::Succeeded, succeeded);
    Ok(counts)
}
