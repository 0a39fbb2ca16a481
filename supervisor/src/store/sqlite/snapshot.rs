//! Whole copies, and proof that a file is a whole store: what backups and migrations need.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use deia::task::TaskStatus;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::audit;
use super::error::OpenError;
use super::fault::Fault;
use super::files::{self, Found, LastEnd};
use super::learned;
use super::log;
use super::messages;
use super::meta;
use super::migrate;
use super::names::Names;
use super::nonces;
use super::open;
use super::parts;
use super::record::record;
use super::row::{TaskRow, task_columns};
use crate::store::StatusCounts;

/// SQLite's own, for what is said of progress.
const PAGE_BYTES: u64 = 4096;

/// What a verified store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its schema.
    pub schema_version: i64,
    /// Its epoch.
    pub epoch: u64,
    /// Its tasks, counted one by one.
    pub counts: StatusCounts,
}

/// A consistent copy of what `conn` sees, compacted, 0600; on disk before it gets its name, so
/// what has the name is complete. Replaces what is at `to`. Others may go on writing meanwhile.
pub(super) fn copy(conn: &Connection, to: &Path) -> Result<(), OpenError> {
    let partial = files::beside(to, ".partial");
    files::remove_if_there(&partial)?;
    files::create_private(&partial)?;
    let name = partial.to_str().ok_or_else(|| OpenError::Engine {
        path: to.to_owned(),
        detail: "its path is not UTF-8; choose another".into(),
    })?;
    conn.execute("VACUUM INTO ?1", [name])
        .map_err(|e| OpenError::from_fault(to, &e.into()))?;
    deia::failpoint!("store.snapshot.copied");
    File::open(&partial)
        .and_then(|file| file.sync_all())
        .map_err(OpenError::io(&partial, "sync"))?;
    deia::failpoint!("store.snapshot.synced");
    files::rename(&partial, to)
}

/// Pages of one step of [`copy_gently`]: a megabyte.
const PAGES_PER_STEP: i32 = 256;
/// Between two steps the disk is the store's own.
const BETWEEN_STEPS: Duration = Duration::from_millis(2);

/// A consistent copy of the store at `from` as it is when this begins, page by page, at `to`, 0600, where nothing
/// may be. In small steps, so that whoever commits meanwhile hardly notices; the log can't be emptied until it is
/// done. The copy is not synced: it is for those who read it at once.
pub(super) fn copy_gently(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let reader = open::reader(from).map_err(|fault| OpenError::from_fault(from, &fault))?;
    let read = |e: rusqlite::Error| OpenError::from_fault(from, &e.into());
    // One snapshot for all of it: without, each commit of others would make it begin anew.
    reader.conn.execute_batch("BEGIN").map_err(read)?;
    meta::require(&reader.conn, meta::EPOCH)
        .map_err(|fault| OpenError::from_fault(from, &fault))?;
    files::create_private(to)?;
    let written = |e: rusqlite::Error| OpenError::from_fault(to, &e.into());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(to, flags).map_err(written)?;
    copy.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))
        .map_err(written)?;
    copy.pragma_update(None, "synchronous", "OFF")
        .map_err(written)?;
    {
        let backup = Backup::new(&reader.conn, &mut copy).map_err(written)?;
        let bytes = |pages: i32| u64::try_from(pages).unwrap_or_default() * PAGE_BYTES;
        loop {
            let step = backup.step(PAGES_PER_STEP).map_err(written)?;
            let at = backup.progress();
            progress(bytes(at.pagecount - at.remaining), bytes(at.pagecount));
            match step {
                StepResult::Done => break,
                StepResult::More => std::thread::sleep(BETWEEN_STEPS),
                // Nobody else has the copy, and readers of a log wait for nobody.
                _ => std::thread::sleep(BETWEEN_STEPS * 10),
            }
        }
    }
    copy.close().map_err(|(_, e)| written(e))
}

/// Reads everything in a store that no process has open: the structure, the indexes against their
/// tables, each row against its sum. Changes nothing; makes no file beside it unless there is a log.
pub(super) fn verify(path: &Path) -> Result<Verified, OpenError> {
    let Found::Store { end, .. } = files::look(path)? else {
        return Err(OpenError::NotAStore {
            path: path.to_owned(),
            why: "there is no file".into(),
        });
    };
    let fault = |fault: Fault| OpenError::from_fault(path, &fault);
    let mode = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match end {
        LastEnd::Clean => {
            Connection::open_with_flags(immutable_uri(path), mode | OpenFlags::SQLITE_OPEN_URI)
        }
        LastEnd::Unclean => {
            log::check(path)?;
            Connection::open_with_flags(path, mode)
        }
    }
    .map_err(|e| fault(e.into()))?;
    open::check(&conn, path, "PRAGMA integrity_check(1)")?;
    let schema_version = meta::require(&conn, meta::SCHEMA_VERSION).map_err(fault)?;
    let min_reader = meta::require(&conn, meta::MIN_READER_VERSION).map_err(fault)?;
    let known = migrate::latest(migrate::MIGRATIONS);
    if min_reader > known {
        return Err(OpenError::TooNew {
            path: path.to_owned(),
            found: schema_version,
            min_reader,
            known,
        });
    }
    Ok(Verified {
        schema_version,
        epoch: meta::require(&conn, meta::EPOCH)
            .map_err(fault)?
            .cast_unsigned(),
        counts: every_row(&conn, schema_version).map_err(fault)?,
    })
}

fn every_row(conn: &Connection, schema_version: i64) -> Result<StatusCounts, Fault> {
    let mut names = Names::default();
    let mut counts = StatusCounts::default();
    let mut statement = conn.prepare(concat!(
        "SELECT ",
        task_columns!(),
        " FROM tasks ORDER BY seq"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let task = TaskRow::read(row)?;
        let (seq, status) = (task.seq, task.status);
        record(conn, &mut names, task)?;
        parts::content(conn, seq)?;
        if schema_version >= migrate::LEARNING {
            parts::choices(conn, seq)?;
        }
        if status == TaskStatus::Succeeded {
            parts::output(conn, seq)?;
        }
        if let Some(count) = counts.by_status.get_mut(status as usize) {
            *count += 1;
        }
    }
    if schema_version >= migrate::LEARNING {
        learned::verify(conn, &mut names)?;
    }
    if schema_version >= migrate::MESSAGES {
        messages::verify(conn, &mut names)?;
    }
    if schema_version >= migrate::AUDIT {
        audit::verify(conn)?;
    }
    if schema_version >= migrate::NONCES {
        nonces::verify(conn)?;
    }
    Ok(counts)
}

/// Immutable: SQLite takes no lock, looks for no log and makes no files.
fn immutable_uri(path: &Path) -> String {
    uri(path, "immutable=1")
}

/// A file's name for SQLite, and how it is opened.
pub(super) fn uri(path: &Path, how: &str) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            // Writing to a String does not fail.
            byte => drop(write!(uri, "%{byte:02x}")),
        }
    }
    uri.push('?');
    uri.push_str(how);
    uri
}
