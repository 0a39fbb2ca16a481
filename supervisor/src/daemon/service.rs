//! What the service manager is told (`sd_notify`), and how.
//!
//! ```text
//!   READY=1               run.rs            requests are answered, bots are being started
//!   WATCHDOG=1            main loop         the store has answered its probe (brain::watchdog)
//!   STOPPING=1            main loop         a stop begins
//!   EXTEND_TIMEOUT_USEC=  main loop         while a stop is within its own time
//!   STATUS=...            the task here     one line for people, when it has changed
//! ```
//!
//! Without `$NOTIFY_SOCKET` there is nobody to tell, and none of it costs anything. Nobody waits for
//! the manager: what its socket has no room for is dropped, and said again when there is more to say.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use super::health::Condition;
use super::reload::ConfigHandle;
use crate::brain::Millis;

/// Between two lines of status.
pub const STATUS_EVERY: Duration = Duration::from_secs(2);

/// Longest line of status.
pub const MAX_STATUS_BYTES: usize = 400;

/// The way to the service manager. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    socket: Arc<UnixDatagram>,
    manager: OsString,
}

impl Notifier {
    /// `None` where nobody wants to be told.
    ///
    /// # Errors
    /// No socket can be made.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let Some(manager) = std::env::var_os("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self {
            socket: Arc::new(socket),
            manager,
        }))
    }

    /// Tells it; whether it was taken. Never waits.
    pub fn tell(&self, states: &[NotifyState<'_>]) -> bool {
        let mut message = String::new();
        for state in states {
            let _ = writeln!(message, "{state}");
        }
        // By name each time: a manager that was started anew listens on a new socket.
        let sent = self.socket.send_to(message.as_bytes(), &self.manager);
        sent.is_ok()
    }
}

/// The main loop's part of it.
#[derive(Debug)]
pub struct Link {
    /// To whom.
    pub notifier: Notifier,
    /// What the status line counts.
    pub census: watch::Sender<Census>,
    /// The longest time between two signs of life, where the manager watches.
    pub watchdog: Option<Millis>,
}

impl Link {
    /// Over this notifier, with what the environment says of the watchdog.
    pub fn new(notifier: Notifier) -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        Self {
            notifier,
            census: watch::Sender::default(),
            watchdog: watchdog
                .map(|time| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)),
        }
    }
}

/// How many there are of what people ask for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Bots that are ready or busy.
    pub ready: usize,
    /// Bots that are wanted.
    pub wanted: usize,
    /// Bots that have a process.
    pub alive: usize,
    /// Tasks with a bot.
    pub running: usize,
    /// Tasks that wait for one.
    pub queued: u64,
}

/// Keeps the manager's status line true until the main loop ends.
pub async fn show_status(
    notifier: Notifier,
    mut census: watch::Receiver<Census>,
    mut condition: watch::Receiver<Condition>,
    mut config: ConfigHandle,
) {
    let mut shown = String::new();
    loop {
        let reasons = condition.borrow_and_update().reasons(config.degraded());
        let stopping = condition.borrow().stopping;
        let text = status_line(*census.borrow_and_update(), stopping, &reasons);
        if text != shown && notifier.tell(&[NotifyState::Status(&text)]) {
            shown = text;
        }
        // What changes meanwhile is seen afterwards.
        tokio::time::sleep(STATUS_EVERY).await;
        let more = tokio::select! {
            counts = census.changed() => counts.is_ok(),
            health = condition.changed() => health.is_ok(),
            file = config.changed() => file,
        };
        if !more {
            return;
        }
    }
}

/// One line for people.
fn status_line(census: Census, stopping: bool, reasons: &[String]) -> String {
    let Census {
        ready,
        wanted,
        alive,
        running,
        queued,
    } = census;
    let mut line = if stopping {
        format!("stopping; bots: {alive} left; tasks: {running} running, {queued} stay queued")
    } else {
        format!("bots: {ready} of {wanted} ready; tasks: {running} running, {queued} queued")
    };
    if !stopping {
        for reason in reasons {
            line.push_str("; ");
            // A line break would end the status, and begin something else.
            line.extend(reason.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }
    if line.len() > MAX_STATUS_BYTES {
        let mut end = MAX_STATUS_BYTES - '…'.len_utf8();
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Census = Census {
        ready: 2,
        wanted: 3,
        alive: 3,
        running: 1,
        queued: 40,
    };

    #[test]
    fn the_line_counts_and_says_what_is_wrong() {
        let line = |stopping, reasons: &[String]| status_line(FLEET, stopping, reasons);
        assert_eq!(
            line(false, &[]),
            "bots: 2 of 3 ready; tasks: 1 running, 40 queued"
        );
        assert_eq!(
            line(
                false,
                &["store: full".into(), "bot a is in quarantine".into()]
            ),
            "bots: 2 of 3 ready; tasks: 1 running, 40 queued; store: full; bot a is in quarantine"
        );
        assert_eq!(
            line(true, &["the daemon is stopping".into()]),
            "stopping; bots: 3 left; tasks: 1 running, 40 stay queued"
        );
    }

    #[test]
    fn the_line_is_one_line_and_bounded() {
        let line = status_line(FLEET, false, &["a\nMAINPID=1".into(), "ü".repeat(1000)]);
        assert!(!line.contains('\n'), "{line}");
        assert!(line.len() <= MAX_STATUS_BYTES, "{}", line.len());
        assert!(line.ends_with('…'));
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let notifier = Notifier {
            socket: Arc::new(socket),
            manager: path.into(),
        };
        let taken = (0..10_000)
            .take_while(|_| notifier.tell(&[NotifyState::Watchdog]))
            .count();
        assert!((1..10_000).contains(&taken), "{taken}");
        let mut message = [0; 64];
        let bytes = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..bytes], b"WATCHDOG=1\n");
        assert!(
            notifier.tell(&[NotifyState::Watchdog]),
            "there is room again"
        );
        drop(manager);
        assert!(!notifier.tell(&[NotifyState::Watchdog]));
    }
}
