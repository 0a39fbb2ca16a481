//! What can go wrong inside the engine, and how far it reaches.

use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::store::StoreError;

/// An error on its way to becoming a [`StoreError`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// From SQLite.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// A row is not what was written (its sum, a number without a meaning, a missing half).
    #[error("damaged row: {0}; see `deiactl doctor`, restore a backup")]
    Damaged(String),
    /// SQLite's shared memory does not work there (some network file systems).
    #[error("this file system cannot hold a write-ahead log (journal mode {0}); use a local one")]
    NoLog(String),
}

/// How far a [`Fault`] reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This operation: its statements are undone, the others of the transaction stay.
    Operation,
    /// This transaction: it is rolled back, the next one may succeed (a full disk).
    Transaction,
    /// The engine: what is on disk is not known, or known to be wrong. Nothing more is acknowledged.
    Engine,
}

impl Fault {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Whether a row is not what was written; its numbers and texts may not even be such.
    pub(super) fn is_of_row(&self) -> bool {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
        };
        matches!(
            self,
            Self::Damaged(_)
                | Self::Sql(
                    FromSqlConversionFailure(..)
                        | IntegralValueOutOfRange(..)
                        | InvalidColumnType(..)
                        | Utf8Error(..)
                )
        )
    }

    /// I/O errors reach the engine: after a failed fsync the kernel may have dropped the dirty
    /// pages and would report success the next time ("fsyncgate"), so a second try proves nothing.
    /// The one exception, a wal-index that could not grow, happens before anything is written.
    pub(super) fn reach(&self) -> Reach {
        let Self::Sql(rusqlite::Error::SqliteFailure(error, _)) = self else {
            return Reach::Operation;
        };
        match error.code {
            ErrorCode::SystemIoFailure if error.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
                Reach::Transaction
            }
            ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Reach::Engine
            }
            ErrorCode::ConstraintViolation
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange => Reach::Operation,
            _ => Reach::Transaction,
        }
    }

    pub(super) fn into_failed(self) -> StoreError {
        StoreError::Failed(self.text())
    }

    /// Nothing but this operation is touched.
    pub(super) fn into_operation(self) -> StoreError {
        StoreError::Operation(self.text())
    }

    /// Damage is called that, whatever SQLite calls it: see [`StoreError::is_damage`].
    fn text(self) -> Arc<str> {
        let of_row = self.is_of_row();
        let fault = match self {
            Self::Sql(e) if of_row => Self::Damaged(e.to_string()),
            fault => fault,
        };
        fault.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(extended_code: i32) -> Fault {
        Fault::Sql(rusqlite::Error::SqliteFailure(
            ffi::Error::new(extended_code),
            None,
        ))
    }

    #[test]
    fn what_is_no_number_or_text_is_damage() {
        let sql = rusqlite::Error::IntegralValueOutOfRange(9, -125);
        assert!(Fault::Sql(sql).into_failed().is_damage());
        let sql = rusqlite::Error::InvalidColumnType(1, "id".into(), rusqlite::types::Type::Blob);
        assert!(Fault::Sql(sql).into_operation().is_damage());
        assert!(Fault::damaged("tasks 1").into_failed().is_damage());
        assert!(!sqlite(ffi::SQLITE_FULL).into_failed().is_damage());
    }

    #[test]
    fn a_failed_fsync_ends_the_engine_and_a_full_disk_does_not() {
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_CORRUPT,
        ] {
            assert_eq!(sqlite(code).reach(), Reach::Engine, "{code}");
        }
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_IOERR_SHMSIZE,
        ] {
            assert_eq!(sqlite(code).reach(), Reach::Transaction, "{code}");
        }
        assert_eq!(
            sqlite(ffi::SQLITE_CONSTRAINT_PRIMARYKEY).reach(),
            Reach::Operation
        );
        assert_eq!(Fault::damaged("x").reach(), Reach::Operation);
    }
}
