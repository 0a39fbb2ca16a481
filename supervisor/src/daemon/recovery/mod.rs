//! Backups, restores and what a store that can't be used comes to, as the daemon and its routes see them.

pub mod desk;
pub mod last_end;
pub mod offline;

pub use desk::Desk;
