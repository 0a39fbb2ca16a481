//! The contract that every deia program shares.
//!
//! ```text
//!   config   what an operator writes          task, bot   the nouns and their states
//!   wire     supervisor <-> bot frames        api         what HTTP answers, as types
//!   client   how a program asks the daemon    home        what others know of its home
//!   time, mask, secret  small rules used everywhere   failpoint   where tests end a process
//! ```
//!
//! Nothing here starts a process, opens the store or listens on a socket: those live in the
//! `supervisor` and `worker` packages, which depend on this one and never the other way round.

pub mod api;
pub mod bot;
pub mod client;
pub mod config;
pub mod failpoint;
pub mod home;
pub mod mask;
pub mod message;
pub mod secret;
pub mod task;
pub mod time;
pub mod wire;

/// The version of this build, as `deia --version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
