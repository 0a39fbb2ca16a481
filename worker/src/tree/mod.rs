//! The processes of one attempt, and their end.
//!
//! ```text
//!   spawn -> child (own process group, DEIA_TREE=<nonce>)
//!              |- children, by parent pid
//!              '- those that left: re-parented to this bot (a subreaper), found by the nonce
//!   end:   TERM to all that are left, until the deadline; then KILL, until none is left
//! ```
//!
//! A process that left its parents *and* scrubbed its environment can't be told from another tree's.
//! While there is no other tree, whatever was re-parented to this bot is this tree's; at the end of
//! the session, when there is none, all of it goes, see [`end_strays`].
//!
//! A signal goes only through a pidfd of a process that was found again after the pidfd was opened,
//! so a pid that the kernel has given to another process is never hit. A tree has ended when a walk
//! over `/proc` finds nothing of it, not when its first process has.

mod proc;
mod reaper;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};
use tokio::time::Instant;

pub use proc::{Identity, Process, boot_id, identify, members, process, scan};
use reaper::Planted;
pub use reaper::{Reaper, children, children_of};

use crate::confine::cage::Cell;

/// The environment variable that marks every process of a tree.
pub const NONCE_VARIABLE: &str = "DEIA_TREE";

/// A process that does not end within this after KILL is stuck in the kernel; it is reported.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The processes of one attempt.
#[derive(Debug)]
pub struct Tree {
    nonce: String,
    reaper: Reaper,
    child: Option<Child>,
    /// Everything that was ever seen to be of the tree: a process that has left it by both its
    /// parent and its environment is still known.
    known: HashSet<Identity>,
    /// Set while it may have processes.
    planted: Option<Planted>,
}

impl Tree {
    /// A tree without processes.
    pub fn new(reaper: Reaper) -> Self {
        Self {
            nonce: nonce(
                std::env::var(NONCE_VARIABLE).ok().as_deref(),
                fastrand::u128(..),
            ),
            reaper,
            child: None,
            known: HashSet::new(),
            planted: None,
        }
    }

    /// The value of [`NONCE_VARIABLE`] in this tree.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Starts the tree's first process, in its cell, in a process group of its own and marked as of
    /// this tree.
    ///
    /// # Errors
    /// When the system can't start it.
    pub fn spawn(&mut self, command: &mut Command, cell: Cell) -> io::Result<&mut Child> {
        command.env(NONCE_VARIABLE, &self.nonce).process_group(0);
        if self.planted.is_none() {
            self.planted = Some(self.reaper.plant());
        }
        let child = self.reaper.spawn(command, cell)?;
        if let Some(found) = child.id().and_then(proc::identify) {
            self.known.insert(found);
        }
        Ok(self.child.insert(child))
    }

    /// Waits for the first process. Cancel-safe.
    ///
    /// # Errors
    /// When there is none, or the system does not tell.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let child = self
            .child
            .as_mut()
            .ok_or_else(|| io::Error::other("no process was started"))?;
        let pid = child.id();
        let status = child.wait().await;
        if let Some(pid) = pid {
            self.reaper.forget(pid);
        }
        status
    }

    /// Ends what is left: TERM, after `patience` KILL. Returns the pids that would not end.
    pub async fn end(&mut self, patience: Duration) -> Vec<i32> {
        if self.planted.is_none() {
            return Vec::new();
        }
        let term_until = Instant::now() + patience;
        let kill_until = term_until + KILL_PATIENCE;
        let mut asked = HashSet::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let now = Instant::now();
            let signals = if now < term_until {
                Signals::Polite
            } else {
                Signals::Final
            };
            let left = self.signal(signals, &mut asked).await;
            if left.is_empty() {
                break;
            }
            if now >= kill_until {
                return left;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if signals == Signals::Polite && Instant::now() >= term_until {
                pause = FIRST_PAUSE;
            }
        }
        // A zombie by now, so this does not wait; unreaped it would keep its pid for ever.
        if self.child.is_some() {
            let _ = self.wait().await;
            self.child = None;
        }
        self.planted = None;
        Vec::new()
    }

    /// One walk: signals what is alive, says what that was.
    async fn signal(&mut self, signals: Signals, asked: &mut HashSet<Identity>) -> Vec<i32> {
        let (mut known, nonce) = (self.known.clone(), self.nonce.clone());
        let (done, reaper) = (std::mem::take(asked), self.reaper.clone());
        let walk = tokio::task::spawn_blocking(move || {
            let all = scan(Path::new("/proc"), Some(&nonce));
            known.extend(reparented(&all, &reaper, 1));
            let found = members(&all, &known);
            for id in &found {
                match signals {
                    Signals::Polite if done.contains(id) => {}
                    Signals::Polite => send(*id, &[Signal::TERM, Signal::CONT]),
                    Signals::Final => send(*id, &[Signal::KILL]),
                }
            }
            (found, done)
        });
        // The walk does not panic; if it did, the next one finds the same processes.
        if let Ok((found, done)) = walk.await {
            *asked = done;
            asked.extend(found.iter().copied());
            self.known.extend(found.iter().copied());
            return found.iter().map(|id| id.pid).collect();
        }
        vec![0]
    }
}

/// One that is let go before its end (a fault, a bot that is torn down): what it has is killed all the
/// same, as far as one look finds it, so that nothing runs beside the next attempt.
impl Drop for Tree {
    fn drop(&mut self) {
        if self.planted.is_none() {
            return;
        }
        let all = scan(Path::new("/proc"), Some(&self.nonce));
        for id in members(&all, &self.known) {
            send(id, &[Signal::KILL]);
        }
    }
}

/// How a walk signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signals {
    /// TERM, once to each; CONT, because a stopped process does not see it.
    Polite,
    /// KILL, each time.
    Final,
}

/// Ends every descendant of this process, if no tree has any: call when no attempt runs. Returns
/// pids that would not end.
///
/// Whatever has lost its parents is a child of this process by then (a subreaper): without children
/// there is nothing to look for, and a host full of bots that stop at once is not walked by each.
pub async fn end_strays(reaper: &Reaper) -> Vec<i32> {
    if reaper::has_no_children() {
        return Vec::new();
    }
    let give_up = Instant::now() + KILL_PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        let reaper = reaper.clone();
        let walk = tokio::task::spawn_blocking(move || {
            let all = scan(Path::new("/proc"), None);
            let strays = members(&all, &reparented(&all, &reaper, 0));
            for id in &strays {
                send(*id, &[Signal::KILL]);
            }
            strays
        });
        let strays = walk.await.unwrap_or_default();
        if strays.is_empty() || Instant::now() >= give_up {
            return strays.iter().map(|id| id.pid).collect();
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// This process's children that nobody waits for, if there are no more than `trees` trees. Reads the
/// reaper after the walk that saw `all`: what it saw was noted before.
fn reparented(all: &[Process], reaper: &Reaper, trees: usize) -> HashSet<Identity> {
    // To no other process are orphans given, and elsewhere children may have other owners.
    if !matches!(rustix::process::child_subreaper(), Ok(Some(_))) {
        return HashSet::new();
    }
    let (planted, live) = reaper.trees_and_live();
    if planted > trees {
        return HashSet::new();
    }
    let me = std::process::id() as i32;
    all.iter()
        .filter(|p| p.ppid == me && !live.contains(&p.id.pid.unsigned_abs()))
        .map(|p| p.id)
        .collect()
}

/// Signals a process if it is still the one that was found.
pub fn send(id: Identity, signals: &[Signal]) {
    let Some(pid) = Pid::from_raw(id.pid) else {
        return;
    };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Only now is the pid held: what it names can't change between this look and the signal.
    if proc::identify(id.pid.unsigned_abs()) != Some(id) {
        return;
    }
    for signal in signals {
        let _ = pidfd_send_signal(&pidfd, *signal);
    }
}

/// A nonce below the bot's own, so that whoever started the bot can still find what it left.
fn nonce(own: Option<&str>, random: u128) -> String {
    match own {
        Some(own) if !own.is_empty() => format!("{own}.{random:032x}"),
        _ => format!("{random:032x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_begins_with_the_bots_own() {
        assert_eq!(nonce(Some("b"), 1), format!("b.{:032x}", 1));
        assert_eq!(nonce(None, 1), format!("{:032x}", 1));
    }

    #[tokio::test]
    async fn a_tree_without_processes_has_ended() {
        let mut tree = Tree::new(Reaper::default());
        assert!(tree.end(Duration::ZERO).await.is_empty());
        assert!(tree.wait().await.is_err());
    }

    #[tokio::test]
    async fn one_that_is_let_go_is_killed_with_all_below_it() {
        let mut tree = Tree::new(Reaper::default());
        let script = "setsid sleep 100 & sleep 100";
        tree.spawn(Command::new("sh").args(["-c", script]), Cell::default())
            .unwrap();
        let nonce = tree.nonce().to_owned();
        let left = || {
            let all = scan(Path::new("/proc"), Some(&nonce));
            all.iter().filter(|p| p.marked && p.is_alive()).count()
        };
        while left() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(tree);
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn two_trees_do_not_end_each_other() {
        let reaper = Reaper::default();
        let (mut a, mut b) = (Tree::new(reaper.clone()), Tree::new(reaper));
        for tree in [&mut a, &mut b] {
            tree.spawn(Command::new("sleep").arg("100"), Cell::default())
                .unwrap();
        }
        assert!(a.end(Duration::from_secs(5)).await.is_empty());
        let waited = tokio::time::timeout(Duration::from_millis(100), b.wait()).await;
        assert!(waited.is_err(), "the other tree ended: {waited:?}");
        assert!(b.end(Duration::from_secs(5)).await.is_empty());
    }

    #[tokio::test]
    async fn what_ignores_term_and_left_its_session_ends_too() {
        let mut tree = Tree::new(Reaper::default());
        // A double fork with a session of its own, deaf to TERM; its parents are gone at once.
        let script = "setsid sh -c 'trap \"\" TERM; (while :; do sleep 1; done) & (while :; do sleep 1; done) &' & exit 0";
        tree.spawn(Command::new("sh").args(["-c", script]), Cell::default())
            .unwrap();
        tree.wait().await.unwrap();
        let nonce = tree.nonce().to_owned();
        let left = || {
            scan(Path::new("/proc"), Some(&nonce))
                .iter()
                .filter(|p| p.marked && p.is_alive())
                .count()
        };
        while left() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(tree.end(Duration::from_millis(50)).await.is_empty());
        assert_eq!(left(), 0);
    }

    #[test]
    fn a_process_that_is_another_now_is_not_signalled() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let real = proc::identify(child.id()).unwrap();
        let stale = Identity {
            started: real.started - 1,
            ..real
        };
        send(stale, &[Signal::KILL]);
        std::thread::sleep(Duration::from_millis(50));
        assert!(child.try_wait().unwrap().is_none());
        send(real, &[Signal::KILL]);
        assert!(!child.wait().unwrap().success());
    }
}
