//! The store's files: `deia.db` (0600), SQLite's `-wal` and `-shm` beside it (same mode), and
//! `deia.db.lock`, locked while a process has the store open.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// "deia", at its place in the header of every store.
pub(super) const APPLICATION_ID: u32 = 0x6465_6961;

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const APPLICATION_ID_AT: std::ops::Range<usize> = 68..72;

/// What is at the store's path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Store { bytes: u64, end: LastEnd },
}

/// How the last process that had the store left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastEnd {
    Clean,
    /// There is a log to recover.
    Unclean,
}

/// `path` with `suffix` at its end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

pub(super) fn wal_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// Keeps others out. A second opener would not damage the file (SQLite's own locks), but it would
/// hand out the same numbers.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock = beside(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock)
        .map_err(OpenError::io(&lock, "open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::io(&lock, "lock")(source)),
    }
}

/// Looks without SQLite, which would begin to recover whatever log stands beside the file.
pub(super) fn look(path: &Path) -> Result<Found, OpenError> {
    let not_a_store = |why: &str| OpenError::NotAStore {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let wal_bytes = size(&wal_of(path))?.unwrap_or(0);
    let Some(bytes) = size(path)? else {
        return if wal_bytes == 0 {
            Ok(Found::Nothing)
        } else {
            Err(OpenError::Damaged {
                path: path.to_owned(),
                detail: "the database is missing, but its log (-wal) is there".into(),
            })
        };
    };
    if bytes == 0 {
        return Err(not_a_store("it is empty"));
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header))
        .map_err(OpenError::io(path, "read"))?;
    if !header.starts_with(MAGIC) {
        return Err(not_a_store("it is no SQLite database"));
    }
    if header.len() < HEADER_BYTES {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: "it is cut short".into(),
        });
    }
    if header.get(APPLICATION_ID_AT) != Some(APPLICATION_ID.to_be_bytes().as_slice()) {
        return Err(not_a_store("it is another program's SQLite database"));
    }
    let end = if wal_bytes == 0 {
        LastEnd::Clean
    } else {
        LastEnd::Unclean
    };
    // With a log, the database may rightly be shorter; then SQLite's own check decides.
    if end == LastEnd::Clean && bytes < bytes_by(&header) {
        return Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: format!("it is cut short: {bytes} of {} bytes", bytes_by(&header)),
        });
    }
    Ok(Found::Store { bytes, end })
}

/// The database's size, as its header says it (SQLite's file format, 1.3).
fn bytes_by(header: &[u8]) -> u64 {
    let number = |at: std::ops::Range<usize>| {
        let bytes = header.get(at).unwrap_or_default();
        bytes
            .iter()
            .fold(0_u64, |n, byte| n << 8 | u64::from(*byte))
    };
    let page_bytes = match number(16..18) {
        1 => 65_536,
        bytes => bytes,
    };
    page_bytes * number(28..32)
}

/// An empty file that only its owner may read; SQLite gives the same mode to the files beside it.
pub(super) fn create_private(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(OpenError::io(path, "create"))
}

pub(super) fn make_private(path: &Path) -> Result<(), OpenError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(OpenError::io(path, "set the mode of"))
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(OpenError::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// Durably: the directory is synced, too.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), OpenError> {
    fs::rename(from, to).map_err(OpenError::io(to, "rename to"))?;
    deia::failpoint!("store.renamed");
    sync_directory_of(to)
}

pub(super) fn sync_directory_of(path: &Path) -> Result<(), OpenError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(OpenError::io(parent, "sync"))
}

fn size(path: &Path) -> Result<Option<u64>, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err(OpenError::NotAStore {
            path: path.to_owned(),
            why: "it is no file".into(),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(OpenError::io(path, "look at")(e)),
    }
}
