//! One task per process that waits for its end, and for the end of all it left behind: the kernel
//! wakes it, nothing polls.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::wire::Launch;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::oom::Evidence;
use super::pids::BotPids;
use super::results::{Kept, Results};
use super::strays::Strays;
use super::{FleetEvent, Run, found};

/// What is left is named to the main loop after this long.
const NAMED_AFTER: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A walk over `/proc` ends what it finds within this, or says what it could not.
const WALK: Duration = Duration::from_millis(100);

const KILL: i32 = 9;

/// A process to watch.
#[derive(Debug)]
pub struct Watched {
    /// The bot.
    pub bot: Arc<str>,
    /// Which start of it in this daemon.
    pub run: Run,
    /// Which start of it.
    pub launch: Launch,
    /// Its pid.
    pub pid: u32,
    /// Becomes readable at its end.
    pub pidfd: OwnedFd,
    /// Whose child it is.
    pub parent: Parent,
    /// Who started it.
    pub origin: Origin,
}

/// Who started a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This daemon.
    Here,
    /// An earlier one: it may have finished tasks meanwhile.
    Earlier,
}

/// Whose child a bot is: to whom what it leaves behind goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// This daemon's.
    Daemon,
    /// Somebody else's: an earlier daemon started it.
    Other,
}

/// What the watchers need.
#[derive(Debug, Clone)]
pub struct Exits {
    /// Known processes.
    pub pids: BotPids,
    /// Ends what is the daemon's by now.
    pub strays: Strays,
    /// What bots kept on disk.
    pub results: Results,
    /// The fleet's name in marks.
    pub fleet: Arc<str>,
    /// What tells an end for want of memory, and the bots' cgroups.
    pub evidence: Arc<Evidence>,
    /// Where ends are reported.
    pub events: mpsc::Sender<FleetEvent>,
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

impl Exits {
    /// Watches a bot's process; reaps it, ends what it left, takes it off the known ones and reports
    /// [`FleetEvent::Ended`], once. What does not end is named in [`FleetEvent::Lingering`].
    pub fn watch(&self, process: Watched) {
        let this = self.clone();
        tokio::spawn(async move {
            let exit = wait(&process.pidfd, process.parent).await;
            this.pids.remove(process.pid);
            this.end_what_is_left(&process).await;
            // Files in memory, and most often one short read of them: here and not on a thread of its
            // own, which a host that is out of memory may not have.
            let for_memory = (exit == Exit::Signal(KILL))
                .then(|| this.evidence.of(&process.bot, process.run, process.pid))
                .flatten();
            let kept = this.kept(&process).await;
            let (bot, run) = (process.bot, process.run);
            let ended = FleetEvent::Ended {
                bot,
                run,
                exit,
                for_memory,
                kept,
            };
            let _ = this.events.send(ended).await;
        });
    }

    async fn end_what_is_left(&self, process: &Watched) {
        if let Some(cgroups) = self.evidence.cgroups.clone() {
            // All at once, what has cut its ties too. Where the kernel can't, the walk does it. Its locks
            // may be held for as long as another bot is placed.
            let (bot, run) = (process.bot.clone(), process.run);
            let kill = tokio::task::spawn_blocking(move || cgroups.kill(&bot, run));
            drop(kill.await);
        }
        let begun = Instant::now();
        let (mut pause, mut named) = (FIRST_PAUSE, Vec::new());
        loop {
            let left = self.left(process).await;
            if left.is_empty() {
                return;
            }
            if begun.elapsed() >= NAMED_AFTER && left != named {
                named.clone_from(&left);
                let (bot, run) = (process.bot.clone(), process.run);
                let lingering = FleetEvent::Lingering { bot, run, left };
                let _ = self.events.send(lingering).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn kept(&self, process: &Watched) -> Vec<Kept> {
        if process.origin == Origin::Here {
            return Vec::new();
        }
        let (results, bot, launch) = (self.results.clone(), process.bot.clone(), process.launch);
        tokio::task::spawn_blocking(move || results.of(&bot, launch))
            .await
            .unwrap_or_default()
    }

    /// Ends what there is of this process's tree; what has not ended.
    async fn left(&self, process: &Watched) -> Vec<String> {
        let launch = process.launch;
        match process.parent {
            Parent::Daemon => {
                let left = self.strays.clear().await.into_iter();
                left.filter(|left| left.launch == Some(launch))
                    .map(|left| left.what)
                    .collect()
            }
            Parent::Other => {
                let fleet = self.fleet.clone();
                tokio::task::spawn_blocking(move || found::end_of_launch(&fleet, launch, WALK))
                    .await
                    .unwrap_or_default()
            }
        }
    }
}

async fn wait(pidfd: &OwnedFd, parent: Parent) -> Exit {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may give up their descriptor; an OwnedFd does not"
    )]
    let Ok(fd) = AsyncFd::with_interest(pidfd.as_fd(), Interest::READABLE) else {
        return Exit::Unknown;
    };
    loop {
        let Ok(mut guard) = fd.readable().await else {
            return Exit::Unknown;
        };
        if parent == Parent::Other {
            // Readable only when it has ended; how, only its parent learns.
            return Exit::Unknown;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
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

/// Waits for another child of the daemon, reaps it and takes it off the known ones.
pub async fn reap_when_ended(pid: u32, pids: BotPids) {
    let open = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pidfd) = open.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok()) {
        wait(&pidfd, Parent::Daemon).await;
    }
    // From now on it is a stray, if it is anything.
    pids.remove(pid);
}
