//! Reaps what was re-parented to this process, without taking the exit of a child somebody waits for,
//! and knows how many trees there are.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::process::{Child, Command};

use crate::confine::cage::Cell;

/// Knows the children that have a waiter, and the trees. A clone is the same reaper.
#[derive(Debug, Clone, Default)]
pub struct Reaper(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    live: HashSet<u32>,
    trees: usize,
}

/// Counts a tree, from before its first process until after its last.
#[derive(Debug)]
pub struct Planted(Reaper);

impl Drop for Planted {
    fn drop(&mut self) {
        self.0.lock().trees -= 1;
    }
}

impl Reaper {
    /// Starts a child, in its cell, that this reaper leaves alone until [`Reaper::forget`].
    ///
    /// # Errors
    /// When the system can't start it.
    pub fn spawn(&self, command: &mut Command, cell: Cell) -> io::Result<Child> {
        // Held over the start: no reaping between the fork and the note of it.
        let mut known = self.lock();
        // The child's pipes belong to this thread's event loop.
        let runtime = tokio::runtime::Handle::current();
        let child = cell.start(|| {
            let _in_it = runtime.enter();
            command.spawn()
        })?;
        known.live.extend(child.id());
        Ok(child)
    }

    /// The child was waited for.
    pub fn forget(&self, pid: u32) {
        self.lock().live.remove(&pid);
    }

    /// Counts a tree.
    pub fn plant(&self) -> Planted {
        self.lock().trees += 1;
        Planted(self.clone())
    }

    /// Trees with processes, and the children that have a waiter.
    pub fn trees_and_live(&self) -> (usize, HashSet<u32>) {
        let known = self.lock();
        (known.trees, known.live.clone())
    }

    /// Reaps every other child that has ended: call after SIGCHLD.
    pub fn reap(&self) {
        self.reap_among(children);
    }

    fn reap_among(&self, children: impl FnOnce() -> Vec<u32>) {
        let known = self.lock();
        for pid in children() {
            if known.live.contains(&pid) {
                continue;
            }
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                let _ = waitid(WaitId::Pid(pid), options);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Numbers are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the kernel says that this process has no child, zombies too; false where it does not tell
/// (`CONFIG_PROC_CHILDREN`).
pub fn has_no_children() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    let mut children = threads.map(|thread| std::fs::read(thread?.path().join("children")));
    children.all(|pids| match pids {
        Ok(pids) => pids.trim_ascii().is_empty(),
        // The thread has ended: what it had is another's.
        Err(e) => e.kind() == io::ErrorKind::NotFound && proc_tells(),
    })
}

fn proc_tells() -> bool {
    std::path::Path::new("/proc/self/task")
        .join(std::process::id().to_string())
        .join("children")
        .exists()
}

/// The pids of this process's children, zombies too.
pub fn children() -> Vec<u32> {
    children_of("self")
}

/// The same of another process.
pub fn children_of(process: &str) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|pids| {
            pids.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_seen_until_it_is_reaped() {
        // Other tests of this process have children too.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        assert!(!has_no_children());
        child.wait().unwrap();
        assert!(proc_tells());
    }

    #[tokio::test]
    async fn takes_what_nobody_waits_for_and_leaves_the_rest() {
        let reaper = Reaper::default();
        let mut waited = reaper
            .spawn(Command::new("sh").args(["-c", "exit 7"]), Cell::default())
            .unwrap();
        let stray = std::process::Command::new("true").spawn().unwrap().id();
        let zombie = |pid: u32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.contains(") Z "))
        };
        while !(zombie(stray) && zombie(waited.id().unwrap())) {
            std::thread::yield_now();
        }
        // Other tests of this process have children too, but these two must be among them.
        let mine = [stray, waited.id().unwrap()];
        let seen = children();
        assert!(mine.iter().all(|pid| seen.contains(pid)), "{seen:?}");
        reaper.reap_among(|| mine.to_vec());
        assert!(!zombie(stray));
        assert_eq!(waited.wait().await.unwrap().code(), Some(7));
    }
}
