//! The daemon `deia`.

pub mod brain;
pub mod daemon;
pub mod fleet;
pub mod logs;
pub mod settings;
pub mod store;
