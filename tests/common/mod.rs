//! The harness of the black-box tests: real programs in temporary homes, asked as users ask.
//!
//! ```no_run
//! let daemon = Daemon::builder().config("bot_limits: {max_bots: 2}").start();
//! let id = daemon.submit("say hello");
//! let task = daemon.wait_task(&id, Duration::from_secs(10));
//! assert_eq!(task["status"], "succeeded");
//! assert_eq!(daemon.ctl(&["status"]).code, 0);
//! ```
//!
//! Signals go only to processes of the test's own home, by pid and start time. A daemon that is
//! dropped is stopped, and a process it leaves behind fails the test. The home is removed unless
//! the test fails.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program is compiled with the whole harness and uses its part of it"
)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness fails the test; the lints know only test functions themselves"
)]

mod agents;
mod ctl;
mod daemon;
mod http;
mod llama;
mod processes;
mod scripted;

use std::time::{Duration, Instant};

pub use agents::{AgentFleet, PYTHON};
pub use ctl::{Output, deiactl, deiactl_command};
pub use daemon::{Builder, Daemon};
pub use http::{Http, Response};
pub use llama::Llama;
pub use processes::{Process, descendants, processes_of};
pub use scripted::Scripted;

/// Long enough for anything on a busy machine; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until `look` finds something; fails the test after `timeout`.
#[track_caller]
pub fn wait_until<T>(timeout: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "not within {} s: {what}",
            timeout.as_secs_f64()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
