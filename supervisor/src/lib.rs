//! The daemon `deia`.

pub mod store;
