//! Watches a switch from outside: a child of the daemon, of the release before, that waits until the
//! new one is ready.
//!
//! A release that fails by an error goes back by itself. One that hangs or dies can't: then the guard
//! ends it, and either the service manager starts the daemon again (which reads in the ledger that
//! the attempt failed), or, where there is none, the guard itself becomes the daemon, with the
//! listeners that it was given for that.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use deia_worker::tree::{self, Identity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::handover::{HANDOVER_VARIABLE, Handover};
use super::ledger::Attempt;
use super::releases::Releases;
use crate::fleet::pids::BotPids;

/// A release that is not ready within this is left.
pub const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the ledger.
const LOOK: Duration = Duration::from_millis(50);

/// Set in tests to wait for less.
const PATIENCE_VARIABLE: &str = "DEIA_UPGRADE_READY_SECONDS";

/// What a guard is told.
#[derive(Debug, Clone, clap::Args)]
pub struct GuardArgs {
    /// Whom it watches.
    #[arg(long)]
    pub pid: u32,
    /// When that process started, in clock ticks.
    #[arg(long)]
    pub started: u64,
    /// The ledger's directory.
    #[arg(long)]
    pub releases: PathBuf,
    /// The release to go back to.
    #[arg(long)]
    pub back: PathBuf,
    /// What the daemon was started with.
    #[arg(last = true)]
    pub arguments: Vec<OsString>,
}

/// Starts a guard of this switch; its pid.
pub(super) fn start(
    handover: &Handover,
    attempt: &Attempt,
    releases: &Releases,
    pids: &BotPids,
) -> io::Result<u32> {
    let own = std::process::id();
    let started = tree::identify(own).map_or(0, |identity| identity.started);
    let directory = releases.ledger_path();
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("upgrade-guard")
        .arg("--pid")
        .arg(own.to_string())
        .arg("--started")
        .arg(started.to_string())
        .arg("--releases")
        .arg(directory.parent().unwrap_or(&directory))
        .arg("--back")
        .arg(&attempt.from)
        .arg("--")
        .args(&handover.arguments);
    // A service manager starts the daemon again; it needs the lock for that, and the guard nothing.
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        command.env_remove(HANDOVER_VARIABLE).stdin(Stdio::null());
    } else {
        command
            .env(HANDOVER_VARIABLE, "stdin")
            .stdin(handover.send()?);
    }
    let child = pids.start(|| command.spawn(), std::process::Child::id)?;
    Ok(child.id())
}

/// `deia upgrade-guard`: waits, and does what is to be done.
pub fn guard(arguments: &GuardArgs) -> ExitCode {
    let releases = Releases::new(arguments.releases.clone());
    let watched = Identity {
        pid: arguments.pid.cast_signed(),
        started: arguments.started,
    };
    let Some(daemon) = Watched::hold(watched) else {
        return after(arguments, &releases, "it died before it was ready");
    };
    let patience = std::env::var(PATIENCE_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(READY_PATIENCE, Duration::from_secs);
    let deadline = Instant::now() + patience;
    loop {
        if !releases.is_under_way() {
            return ExitCode::SUCCESS;
        }
        if daemon.has_ended_within(LOOK) {
            // It may have been ready, or gone back, and then have ended.
            if !releases.is_under_way() {
                return ExitCode::SUCCESS;
            }
            return after(arguments, &releases, "it died before it was ready");
        }
        if Instant::now() >= deadline {
            daemon.kill();
            let why = format!("it was not ready within {} s", patience.as_secs());
            return after(arguments, &releases, &why);
        }
    }
}

/// The daemon is gone.
fn after(arguments: &GuardArgs, releases: &Releases, why: &str) -> ExitCode {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        // The next start finds the attempt in the ledger and decides.
        return ExitCode::FAILURE;
    }
    drop(releases.fail(&format!("the new release was left: {why}")));
    let mut given = arguments.arguments.iter();
    let mut command = Command::new(&arguments.back);
    if let Some(name) = given.next() {
        command.arg0(name);
    }
    let error = command.args(given).exec();
    #[expect(
        clippy::print_stderr,
        reason = "there is no log, and somebody may watch"
    )]
    {
        eprintln!(
            "deia: {why}; and {} can't be executed: {error}",
            arguments.back.display()
        );
    }
    ExitCode::FAILURE
}

/// A process and no other.
struct Watched(std::os::fd::OwnedFd);

impl Watched {
    fn hold(id: Identity) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(id.pid)?, PidfdFlags::empty()).ok()?;
        (tree::identify(id.pid.unsigned_abs()) == Some(id)).then_some(Self(pidfd))
    }

    fn has_ended_within(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let time = Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: time.subsec_nanos().into(),
        };
        poll(&mut fds, Some(&time)).is_ok_and(|ended| ended > 0)
    }

    fn kill(&self) {
        // It may have ended already: that is what is wanted.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
        while !self.has_ended_within(Duration::from_secs(1)) {}
    }
}
