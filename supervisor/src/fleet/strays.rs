//! What dead bots left behind.
//!
//! A bot ends its own descendants. One that was killed could not: its children become the daemon's
//! (which is a subreaper) at that moment, and are found here, ended and reaped. A child of the daemon
//! is a stray when it is not known; [`BotPids::start`] makes a fork and its registration one act, so
//! there is no moment in which a new bot looks like a stray.
//!
//! One thread looks, for everybody who asks meanwhile: of five hundred bots that are killed at once
//! not each costs a walk.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use deia::wire::Launch;
use deia_worker::tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::{mpsc, oneshot};

use super::found::{self, describe};
use super::pids::BotPids;
use super::proof::Mark;

/// Who may wait for a look at once.
const MAX_ASKING: usize = 16_384;

/// What was killed is waited for this long before the answer says that it is still there.
const DYING: Duration = Duration::from_millis(100);

/// After strays were ended, what they had started becomes the daemon's: a moment later.
const PAUSE: Duration = Duration::from_millis(5);

/// Something that a bot left behind and that has not ended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Whose it was, where it can be told.
    pub launch: Option<Launch>,
    /// For people.
    pub what: String,
}

/// Makes the daemon the parent of what its descendants leave behind.
///
/// # Errors
/// Where the kernel refuses.
pub fn adopt_orphans() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// The looking thread's other end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Strays(mpsc::Sender<oneshot::Sender<Vec<Left>>>);

impl Strays {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(pids: BotPids, fleet: String) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel(MAX_ASKING);
        std::thread::Builder::new()
            .name("deia-strays".into())
            .spawn(move || work(asked, &pids, &fleet))?;
        Ok(Self(ask))
    }

    /// Ends what has no place here; what has not ended by now.
    pub async fn clear(&self) -> Vec<Left> {
        let (answer, left) = oneshot::channel();
        if self.0.send(answer).await.is_err() {
            return Vec::new();
        }
        left.await.unwrap_or_default()
    }

    /// Clears whenever a child of the daemon has ended, until the daemon ends.
    pub async fn watch(self) {
        let kind = tokio::signal::unix::SignalKind::child();
        let Ok(mut child_ended) = tokio::signal::unix::signal(kind) else {
            return;
        };
        while child_ended.recv().await.is_some() {
            self.clear().await;
        }
    }
}

fn work(mut asked: mpsc::Receiver<oneshot::Sender<Vec<Left>>>, pids: &BotPids, fleet: &str) {
    let mut asking = Vec::new();
    while asked.blocking_recv_many(&mut asking, MAX_ASKING) > 0 {
        let left = clear(pids, fleet);
        for answer in asking.drain(..) {
            // Who has gone does not want to know.
            let _ = answer.send(left.clone());
        }
    }
}

/// Ends what is left of all bots, at the daemon's end: until nothing is found, or for this long.
/// Blocks.
pub fn end_all(pids: &BotPids, fleet: &str, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !clear(pids, fleet).is_empty() && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
}

/// Kills strays with all below them and reaps the dead, until none is left or [`DYING`] is over.
fn clear(pids: &BotPids, fleet: &str) -> Vec<Left> {
    let deadline = Instant::now() + DYING;
    let mut killed = 0;
    loop {
        let strays = sweep(pids, fleet);
        if strays.is_empty() {
            break;
        }
        killed += strays.len();
        wait_for(&strays, deadline);
        if Instant::now() >= deadline {
            let alive = strays.into_iter().filter(|stray| !stray.has_ended());
            return alive.map(|stray| stray.left).collect();
        }
    }
    if killed > 0 {
        tracing::warn!(
            event = "strays_ended",
            count = killed,
            "ended what a dead bot had left behind"
        );
    }
    Vec::new()
}

/// A stray that was sent KILL.
#[derive(Debug)]
struct Stray {
    pid: u32,
    pidfd: OwnedFd,
    left: Left,
}

impl Stray {
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok_and(|ended| ended > 0)
    }
}

fn wait_for(strays: &[Stray], deadline: Instant) {
    for stray in strays {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&stray.pidfd, PollFlags::IN)];
        // Interrupted or not: who is not gone is found again.
        let _ = poll(&mut fds, Some(&left));
    }
}

/// One look: reaps dead strays, kills live ones with all below them.
fn sweep(pids: &BotPids, fleet: &str) -> Vec<Stray> {
    let mut strays = Vec::new();
    for child in tree::children() {
        if pids.contains(child) {
            continue;
        }
        if is_dead(child) {
            reap(child);
        } else if is_ours(child, fleet) {
            kill_tree(child, fleet, &mut strays);
        }
    }
    strays
}

/// PID 1 of a container is given everybody's orphans: there only what bears a mark is ours.
fn is_ours(pid: u32, fleet: &str) -> bool {
    std::process::id() != 1 || launch_of(pid, fleet).is_some()
}

fn is_dead(pid: u32) -> bool {
    // A zombie has no executable.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_err()
}

fn reap(pid: u32) {
    if let Some(pid) = raw(pid) {
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }
}

/// A child of ours keeps its pid until it is reaped, which nobody else does. One below it is what
/// it seems if, after its pid is held, its parent is still the one it was found under, and alive:
/// else it is found again, as a child of ours.
fn kill_tree(root: u32, fleet: &str, strays: &mut Vec<Stray>) {
    let mut todo: Vec<(u32, Option<usize>)> = vec![(root, None)];
    while let Some((pid, parent)) = todo.pop() {
        let Some(pidfd) = raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok())
        else {
            continue;
        };
        let parent = parent.and_then(|at| strays.get(at));
        if parent.is_some_and(|parent| parent.has_ended() || !is_child(pid, parent.pid)) {
            continue;
        }
        let below = tree::children_of(&pid.to_string());
        let left = Left {
            launch: launch_of(pid, fleet),
            what: describe(pid.cast_signed()),
        };
        todo.extend(below.into_iter().map(|child| (child, Some(strays.len()))));
        strays.push(Stray { pid, pidfd, left });
    }
    // From the ends of the branches down, so that what was found stays where it was.
    for stray in strays.iter().rev() {
        let _ = pidfd_send_signal(&stray.pidfd, Signal::KILL);
    }
}

fn is_child(pid: u32, parent: u32) -> bool {
    crate::http::peer::parent_of(pid) == Ok(parent)
}

fn launch_of(pid: u32, fleet: &str) -> Option<Launch> {
    let text = found::mark_of(pid.cast_signed())?;
    Mark::parse(&text, fleet).map(|mark| mark.launch)
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
