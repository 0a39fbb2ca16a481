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
    clippy::print_stdout,
    reason = "a harness fails the test; the lints know only test functions themselves"
)]

mod acts;
mod agents;
mod ctl;
mod daemon;
mod external;
mod http;
mod ledger;
mod llama;
mod machine;
mod packages;
mod processes;
mod scripted;
mod threads;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use acts::{Acts, nothing_left_over};
pub use agents::{AgentFleet, PYTHON};
pub use ctl::{Output, deiactl, deiactl_command};
pub use daemon::{Builder, Daemon, deia_program};
pub use external::{External, SignedRequest, signature};
pub use http::{Http, Response};
pub use ledger::{Load, POOLS, Sum, check_runs, each_seed};
pub use llama::Llama;
pub use machine::{Machine, on_bare_machine, on_machine};
pub use packages::{install, packages};
pub use processes::{Process, bots_among, descendants, processes_of, zombies_below};
pub use scripted::Scripted;
pub use threads::Halted;

/// Long enough for anything on a busy machine; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How many, how long: `few` in a run of the whole suite, `all` where `DEIA_SOAK` is set (`just soak`).
pub fn size(few: u64, all: u64) -> u64 {
    match std::env::var_os("DEIA_SOAK") {
        Some(_) => all,
        None => few,
    }
}

/// Sets a flag however its scope is left: threads that look at it end, also when the test has failed.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Prints what a fault test measured: `label: n, p50, p99, max`. Measured, never asserted.
pub fn print_spread(label: &str, mut times: Vec<Duration>) {
    times.sort();
    let Some(last) = times.last() else { return };
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{label}: n {}, p50 {:?}, p99 {:?}, max {last:?}",
        times.len(),
        at(50),
        at(99)
    );
}

/// Says that a test could not be made here, and why; `.ci/run` counts the line.
pub fn skipped(test: &str, why: &str) {
    told(&format!(
        "SKIPPED {test}: {}",
        why.trim().replace('\n', " ")
    ));
}

/// Prints a line past the test harness, which shows what a test prints only when it fails.
pub fn told(line: &str) {
    use std::io::Write as _;
    // In one piece and from the start of a line, whatever other tests are printing.
    std::io::stdout()
        .write_all(format!("\n{line}\n").as_bytes())
        .expect("standard output");
}

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
