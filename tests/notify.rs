//! What the daemon tells a service manager, heard by a manager that is this test. The real one is in
//! `systemd.rs`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use common::{Builder, Daemon, Halted, PATIENCE};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

/// What the manager allows between two signs of life.
const WATCHDOG: Duration = Duration::from_millis(1000);

/// A service manager that listens.
struct Manager {
    _directory: TempDir,
    path: std::path::PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self {
            _directory: directory,
            path,
            socket,
        }
    }

    /// A daemon that is told of it.
    fn watches(&self, daemon: Builder) -> Builder {
        daemon.env("NOTIFY_SOCKET", &self.path)
    }

    /// The next message's lines, if one comes in time.
    fn next(&self, within: Duration) -> Option<Vec<String>> {
        let within = within.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 4096];
        let bytes = self.socket.recv(&mut message).ok()?;
        let text = String::from_utf8(message[..bytes].to_vec()).unwrap();
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The first message in which a line begins so; what came before it is let go.
    #[track_caller]
    fn hears(&self, beginning: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(lines) = self.next(deadline - Instant::now()) {
            if lines.iter().any(|line| line.starts_with(beginning)) {
                return lines;
            }
        }
        panic!("the manager never heard {beginning}");
    }

    /// Lets go what came so far.
    fn forget(&self) {
        while self.next(Duration::ZERO).is_some() {}
    }

    /// How often it hears this in so much time.
    fn count(&self, what: &str, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let heard = std::iter::from_fn(|| (!left().is_zero()).then(|| self.next(left()))?);
        heard.flatten().filter(|line| line == what).count()
    }
}

fn watched(manager: &Manager) -> Builder {
    let allowed = WATCHDOG.as_micros().to_string();
    manager
        .watches(Daemon::builder())
        .env("WATCHDOG_USEC", allowed)
}

#[test]
fn a_life_from_ready_to_stopping() {
    let manager = Manager::new();
    let mut daemon = watched(&manager).start();
    manager.hears("READY=1");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGTERM);
    let lines = manager.hears("STOPPING=1");
    assert!(!lines.iter().any(|line| line == "READY=1"), "{lines:?}");
    assert!(daemon.wait_exit().success());
}

#[test]
fn the_status_line_follows_the_fleet_and_then_there_is_silence() {
    let manager = Manager::new();
    let daemon = manager
        .watches(Daemon::builder().config(
            "bots: [{name: one, min: 1, backend: {kind: echo}}, {name: two, min: 1, backend: {kind: echo}}]\n",
        ))
        .start();
    manager.hears("STATUS=bots: 2 of 2 ready; tasks: 0 running, 0 queued");
    daemon.ctl(&["bot", "stop", "two"]).ok();
    manager.hears("STATUS=bots: 1 of 1 ready; tasks: 0 running, 0 queued");
    // A configuration that is refused: the daemon runs on, and says so.
    daemon.write_config("bots: [");
    daemon.ctl(&["reload"]);
    let line = manager.hears("STATUS=bots: 1 of 1 ready; tasks: 0 running, 0 queued; ");
    assert!(line[0].contains("bot-config.yaml"), "{line:?}");
    // Nothing changes any more: nothing is said, although bots beat and the daemon looks after them.
    assert_eq!(manager.next(Duration::from_secs(7)), None);
}

/// Shown to fail on a build that gives signs of life by a timer, without asking the store.
#[test]
fn no_sign_of_life_while_the_writer_is_stuck() {
    let manager = Manager::new();
    let daemon = watched(&manager).start();
    manager.hears("WATCHDOG=1");
    let stuck = Halted::hold(daemon.pid(), "store-writer");
    manager.forget();
    assert_eq!(manager.count("WATCHDOG=1", WATCHDOG * 3), 0);
    // Everything else lives: it is not for want of a main loop that nothing was said.
    assert!(!daemon.bots().is_empty());
    drop(stuck);
    manager.hears("WATCHDOG=1");
}

/// A bot that needs long to finish: the manager is told at the beginning of the stop, and asked for time
/// again and again. Shown to fail on a build that says STOPPING at the end.
#[test]
fn a_long_stop_is_announced_and_asks_for_time() {
    let manager = Manager::new();
    let mut daemon = manager
        .watches(Daemon::builder().config(
            "bots: [{name: slow, backend: {kind: command, argv: [sleep, '1000']}}]\n\
             supervision: {stop_timeout_seconds: 300}\n",
        ))
        .start();
    manager.hears("READY=1");
    daemon.submit_with(&json!({"content": "take your time", "task_id": "slow"}));
    manager.hears("STATUS=bots: 1 of 1 ready; tasks: 1 running, 0 queued");
    daemon.signal(Signal::SIGTERM);
    let begun = manager.hears("STOPPING=1");
    assert_eq!(begun, ["STOPPING=1", "EXTEND_TIMEOUT_USEC=20000000"]);
    manager.hears("STATUS=stopping; bots: 1 left; tasks: 1 running, 0 stay queued");
    manager.hears("EXTEND_TIMEOUT_USEC=20000000");
    // Enough of it.
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success());
}
