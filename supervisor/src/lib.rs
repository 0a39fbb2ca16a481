//! The daemon `deia`.

pub mod settings;
pub mod store;
