//! How a program asks the daemon: HTTP and JSON over the admin socket or loopback TCP.
//!
//! ```text
//!   locate   which daemon: flags, environment, the home at hand, the system's socket
//!   http     one request, one bounded answer, every failure a ClientError
//!   calls    the routes, typed                 events   a task's output as it comes
//!   error    what can go wrong, and the remedy raw      keep-alive connections without a runtime
//! ```
//!
//! There is no second protocol: what `deiactl` does, `curl --unix-socket` can do. Deliberately
//! absent: TLS (the daemon is on this host) and retries of anything that is not idempotent.

mod calls;
mod error;
mod events;
mod http;
mod locate;
pub mod raw;
mod tokens;

pub use calls::BotAction;
pub use error::{ClientError, Refusal};
pub use events::{Event, EventParser, MAX_EVENT_BYTES, OutputEvent, OutputStream, TooLarge};
pub use http::{Client, MAX_ANSWER_BYTES, Reply};
pub use locate::{ADMIN_SOCKET_IN_HOME, SYSTEM_ADMIN_SOCKET, Search, Surroundings, Target};
