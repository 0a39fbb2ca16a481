//! The daemon `deia`.

pub mod http;
pub mod logs;
pub mod store;
