//! How much a bot and all it started take: the host's processes as a forest, and what is over.

use std::collections::HashMap;
use std::path::Path;

use deia_worker::tree::{Identity, Process, identify, scan};

use super::{Limited, Over};

/// Looks in a row at which the kernel refused a bot more processes before the bot is ended: a program
/// that asks once too often copes or fails by itself.
pub const REFUSALS: u32 = 3;

/// Resident sizes above this share of the limit are looked at closely: the kernel's counts lag behind.
const NEAR: (u64, u64) = (3, 4);

/// Gives this thread the first turn, where the daemon may (root): it has little to do, and that matters
/// when processes are too many.
pub fn go_first() {
    let _ = rustix::process::setpriority_process(None, MOST_URGENT);
}

/// Gives each thread of another process the first turn, where the daemon may.
pub fn let_go_first(process: Identity) {
    if identify(process.pid.unsigned_abs()) != Some(process) {
        return;
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.pid));
    let threads = threads.into_iter().flatten().flatten();
    let tids = threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for tid in tids.filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::setpriority_process(Some(tid), MOST_URGENT);
    }
}

/// What the kernel calls the least nice.
const MOST_URGENT: i32 = -20;

/// The daemon's session goes first, where the daemon may say so (root), as long as this lives: Linux
/// shares the processors among sessions before it looks at what goes first in each, and a bomb may
/// make a session with each process.
#[derive(Debug)]
pub struct SessionFirst(Option<String>);

const AUTOGROUP: &str = "/proc/self/autogroup";
const FIRST: &str = "-20";

impl SessionFirst {
    /// From now on.
    pub fn new() -> Self {
        // `/autogroup-25 nice 0`
        let before = std::fs::read_to_string(AUTOGROUP).ok();
        let before = before.and_then(|text| Some(text.split_whitespace().last()?.to_owned()));
        let set = std::fs::write(AUTOGROUP, FIRST);
        // What does so already will put it back.
        Self(before.filter(|before| set.is_ok() && before != FIRST))
    }
}

impl Drop for SessionFirst {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = std::fs::write(AUTOGROUP, before);
        }
    }
}

/// How many threads the host has: one short read, however many there are.
pub fn threads_of_the_host() -> u64 {
    load().map_or(0, |(threads, _)| threads)
}

/// The pid that was given last.
pub fn newest_pid() -> Option<i32> {
    load().map(|(_, newest)| newest)
}

fn load() -> Option<(u64, i32)> {
    threads_and_newest(&std::fs::read_to_string("/proc/loadavg").ok()?)
}

/// proc_loadavg(5): `0.20 0.18 0.12 running/all last`.
fn threads_and_newest(loadavg: &str) -> Option<(u64, i32)> {
    let mut fields = loadavg.split_whitespace().skip(3);
    let (_, all) = fields.next()?.split_once('/')?;
    Some((all.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The processes of the host, by parent.
#[derive(Debug)]
pub struct Forest {
    all: Vec<Process>,
    children: HashMap<i32, Vec<usize>>,
}

impl Forest {
    /// Those there are now.
    pub fn of_this_host() -> Self {
        Self::new(scan(Path::new("/proc"), None))
    }

    fn new(all: Vec<Process>) -> Self {
        let mut children: HashMap<i32, Vec<usize>> = HashMap::new();
        for (n, process) in all.iter().enumerate() {
            children.entry(process.ppid).or_default().push(n);
        }
        Self { all, children }
    }

    /// A process and all below it that are alive; nothing when it is gone. What lost its parents is
    /// below its bot still: a bot is a subreaper.
    pub fn tree(&self, root: Identity) -> Vec<Process> {
        let Some(root) = self.all.iter().position(|process| process.id == root) else {
            return Vec::new();
        };
        let mut found = vec![root];
        let mut next = 0;
        while let Some(n) = found.get(next) {
            let below = self.all.get(*n).and_then(|p| self.children.get(&p.id.pid));
            // /proc is no snapshot: parents that were read at different times could form a circle.
            if found.len() > self.all.len() {
                break;
            }
            found.extend(below.into_iter().flatten());
            next += 1;
        }
        let processes = found.iter().filter_map(|n| self.all.get(*n));
        processes.filter(|p| p.is_alive()).copied().collect()
    }
}

/// Whether there are too many processes.
pub fn processes(tree: &[Process], allowed: u64) -> Option<Over> {
    let measured = tree.len() as u64;
    (measured > allowed).then_some(Over {
        what: Limited::Processes,
        measured,
        allowed,
    })
}

/// Whether they take too much memory. `shared_size` is the exact one of a process, where it can be had.
pub fn memory(
    tree: &[Process],
    allowed: u64,
    shared_size: impl Fn(&Process) -> Option<u64>,
) -> Option<Over> {
    let page = rustix::param::page_size() as u64;
    let resident = |process: &Process| process.resident_pages.saturating_mul(page);
    let most: u64 = tree.iter().map(resident).sum();
    if most < allowed / NEAR.1 * NEAR.0 {
        return None;
    }
    let sizes = tree.iter();
    let measured = sizes
        .map(|process| shared_size(process).unwrap_or_else(|| resident(process)))
        .sum();
    (measured > allowed).then_some(Over {
        what: Limited::Memory,
        measured,
        allowed,
    })
}

/// The proportional size of a process (PSS), in bytes: pages shared by n processes count an n-th.
pub fn shared_size(process: &Process) -> Option<u64> {
    let path = format!("/proc/{}/smaps_rollup", process.id.pid);
    pss(&std::fs::read_to_string(path).ok()?)
}

fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, ppid: i32, resident_pages: u64) -> Process {
        Process {
            id: Identity {
                pid,
                started: 100 + pid as u64,
            },
            ppid,
            state: b'S',
            threads: 1,
            resident_pages,
            marked: false,
        }
    }

    #[test]
    fn a_tree_is_what_is_below_and_alive() {
        let mut dead = process(4, 3, 9);
        dead.state = b'Z';
        let all = vec![
            process(5, 4, 1),
            process(2, 1, 1),
            process(3, 2, 1),
            dead,
            process(9, 1, 1),
        ];
        let forest = Forest::new(all.clone());
        let mut pids: Vec<i32> = forest.tree(all[1].id).iter().map(|p| p.id.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [2, 3, 5]);
        let mut another = all[1].id;
        another.started += 1;
        assert_eq!(forest.tree(another), []);
    }

    #[test]
    fn a_circle_ends() {
        let all = vec![process(2, 3, 1), process(3, 2, 1)];
        let forest = Forest::new(all.clone());
        assert!(forest.tree(all[0].id).len() <= 4);
    }

    #[test]
    fn limits_are_reached_before_they_are_passed() {
        let tree = [process(2, 1, 0), process(3, 2, 0)];
        assert_eq!(processes(&tree, 2), None);
        assert_eq!(processes(&tree, 1).unwrap().measured, 2);
    }

    #[test]
    fn what_is_shared_counts_once() {
        let page = rustix::param::page_size() as u64;
        let tree = [process(2, 1, 100), process(3, 2, 100)];
        let exact = |_: &Process| Some(60 * page);
        let looked = std::cell::Cell::new(0);
        let counted = |process: &Process| {
            looked.set(looked.get() + 1);
            exact(process)
        };
        // Far below: not looked at closely.
        assert_eq!(memory(&tree, 1000 * page, counted), None);
        assert_eq!(looked.get(), 0);
        assert_eq!(memory(&tree, 130 * page, exact), None);
        assert_eq!(
            memory(&tree, 119 * page, exact).unwrap().measured,
            120 * page
        );
        // One that hides its size counts whole.
        let over = memory(&tree, 130 * page, |_| None).unwrap();
        assert_eq!(over.measured, 200 * page);
    }

    #[test]
    fn the_hosts_threads_are_read() {
        let loadavg = "0.20 0.18 0.12 1/80 11206\n";
        assert_eq!(threads_and_newest(loadavg), Some((80, 11206)));
        assert_eq!(threads_and_newest(""), None);
        assert!(threads_of_the_host() > 1);
    }

    #[test]
    fn the_own_size_is_read() {
        let rollup = "5575cafe-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  884 kB\nPss:      385 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(pss(rollup), Some(385 * 1024));
        assert_eq!(pss("Rss: 1 kB\n"), None);
        let me = process(std::process::id() as i32, 1, 0);
        assert!(shared_size(&me).unwrap() > 100_000);
    }
}
