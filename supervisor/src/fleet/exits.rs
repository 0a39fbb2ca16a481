//! One task per process that waits for its end: the kernel wakes it, nothing polls.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::oom::Evidence;
use super::pids::BotPids;
use super::{FleetEvent, Run};

const KILL: i32 = 9;

/// A process to watch.
#[derive(Debug)]
pub struct Watched {
    /// Its pid.
    pub pid: u32,
    /// Becomes readable at its end.
    pub pidfd: OwnedFd,
}

/// How a process ended, as the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Not known.
    Unknown,
}

/// Watches a bot's process; reaps it, takes it off `bots` and reports [`FleetEvent::Ended`], once.
pub fn watch(
    bot: Arc<str>,
    run: Run,
    process: Watched,
    bots: BotPids,
    evidence: Arc<Evidence>,
    events: mpsc::Sender<FleetEvent>,
) {
    tokio::spawn(async move {
        let exit = wait(process.pidfd).await;
        bots.remove(process.pid);
        // Files in memory, and most often one short read of them: here and not on a thread of its own,
        // which a host that is out of memory may not have.
        let for_memory = (exit == Exit::Signal(KILL))
            .then(|| evidence.of(&bot, run, process.pid))
            .flatten();
        let ended = FleetEvent::Ended {
            bot,
            run,
            exit,
            for_memory,
        };
        let _ = events.send(ended).await;
    });
}

async fn wait(pidfd: OwnedFd) -> Exit {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may give up their descriptor; an OwnedFd does not"
    )]
    let Ok(fd) = AsyncFd::with_interest(pidfd, Interest::READABLE) else {
        return Exit::Unknown;
    };
    loop {
        let Ok(mut guard) = fd.readable().await else {
            return Exit::Unknown;
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(fd.as_fd()), options) {
            Ok(Some(status)) => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Unknown,
                };
            }
            Ok(None) => guard.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Exit::Unknown,
        }
    }
}
