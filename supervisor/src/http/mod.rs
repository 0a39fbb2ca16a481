//! The daemon's HTTP edge.
//!
//! ```text
//!   socket ─> accept (caps, time-outs, TLS) ─> guard (Host, Origin, who, how often) ─> router ─> scope ─> extract ─> handler
//!                                                                                          error <─┘
//! ```
//!
//! Owns: every byte between a client and a handler. [`accept`] runs the listeners, [`guard`] says who may
//! come in, [`scope`] what they may call, [`extract`] reads their words, [`error`] says no. Handlers are
//! in `routes`. Absent on purpose: any decision about the fleet, and any second protocol.

pub mod accept;
pub mod admin_socket;
mod audit_tables;
pub mod body;
pub mod caller;
mod connection;
pub mod error;
mod external_tables;
pub mod extract;
pub mod fields;
pub mod guard;
mod house;
pub mod lasting;
pub mod limit;
pub mod meter;
mod parse;
pub mod peer;
pub mod prometheus;
mod recovery_tables;
pub mod routes;
pub mod scope;
mod tables;
pub mod tls;
mod watch;

pub use connection::{LINGER_BYTES, LINGER_TIME, MAX_HEAD_BYTES};
pub use watch::{EVICT_AFTER_MS, MIN_BYTES_PER_SECOND};

#[cfg(test)]
mod tests;
