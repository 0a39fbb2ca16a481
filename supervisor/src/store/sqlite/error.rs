//! Why a store does not open. Each names the file and the remedy; after any of them the file is as it was.

use std::io;
use std::path::{Path, PathBuf};

use super::fault::Fault;

/// Why [`SqliteStore::open`](super::SqliteStore::open) refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("store {}: in use by another process; stop that deia first (see `deiactl status`)", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("store {}: {action}: {source}; check the path, its owner and the free space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// There is something else at this place.
    #[error("store {}: not a deia store ({why}); move it away to start with an empty store, or restore a backup with `deiactl restore`", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// It was a store, but part of it is missing or wrong.
    #[error("store {}: damaged: {detail}; restore a backup with `deiactl restore` (the file was left as it is)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A newer release wrote it.
    #[error("store {}: schema {found} (readable from {min_reader} on) is newer than this program's {known}; start the newer release, or restore a backup made before it", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// What it takes to read it.
        min_reader: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// The engine failed for another reason.
    #[error("store {}: {detail}", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(super) fn from_fault(path: &Path, fault: &Fault) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let path = path.to_owned();
        let detail = fault.to_string();
        match fault {
            Fault::Damaged(detail) => Self::Damaged {
                path,
                detail: detail.clone(),
            },
            Fault::Sql(rusqlite::Error::SqliteFailure(error, _)) => match error.code {
                DatabaseCorrupt => Self::Damaged { path, detail },
                NotADatabase => Self::NotAStore { path, why: detail },
                _ => Self::Engine { path, detail },
            },
            Fault::NoLog(_) => Self::Engine { path, detail },
            // A table or a column that is not there, a value of another type.
            Fault::Sql(_) => Self::Damaged { path, detail },
        }
    }
}
