//! Backups, restores and what a store that can't be used comes to, as the daemon and its routes see them.
//!
//! ```text
//!   routes --> desk.rs --> backup/        a daemon that runs: stops its bots, closes the store, notes the restore,
//!                 |                       executes itself; the next start swaps (backup/restore/swap.rs)
//!                 '--- Ready ---> start.rs, mode.rs
//!   mode.rs    a store that can't be used: the admin socket alone, until a backup is restored
//!   offline.rs without a daemon
//! ```

pub mod desk;
pub mod last_end;
pub mod mode;
pub mod offline;
mod prove;

pub use desk::Desk;
pub use prove::prove;
