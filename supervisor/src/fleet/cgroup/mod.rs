//! Bots in cgroups of their own, where one is the daemon's to divide (cgroup v2).
//!
//! ```text
//!   <delegated>/            systemd: the unit's, with Delegate=yes; else $DEIA_CGROUP
//!     daemon/               the daemon itself: a cgroup that has controllers to give has no processes
//!     bots/
//!       <bot>/              memory.max, pids.max; cgroup.kill ends all that is in it at once
//! ```
//!
//! A cgroup is only divided by whom it was given to: systemd says so in an attribute of it
//! (`user.delegate`), and `$DEIA_CGROUP` is an operator's word. A daemon that somebody starts in a
//! terminal, also as root, leaves the host's cgroups alone.
//!
//! Everything here is a few writes to a file system in memory, but moving a process waits for the
//! kernel to be quiescent (10 ms), and the cgroups' lock may be another's: never on the main loop.
//! Moves happen on the spawner's thread, the rest on that of [`super::limits`].

mod find;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use deia::config::Limits;
use rustix::fs::{FlockOperation, flock};

use super::Run;

/// Names a cgroup that the daemon may divide.
pub const VARIABLE: &str = "DEIA_CGROUP";

const DAEMON: &str = "daemon";
const BOTS: &str = "bots";
const PROCS: &str = "cgroup.procs";
const KILL: &str = "cgroup.kill";
const MIB: u64 = 1 << 20;

/// A cgroup that is the daemon's to divide.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    controllers: Controllers,
    /// Held for as long as the daemon lives: two that divide one cgroup would end each other's bots.
    _alone: File,
    /// Which start of a bot is in its cgroup. Held over every act: one that comes late must not meet
    /// the bot's next process.
    placed: Mutex<HashMap<String, Run>>,
}

/// What the kernel limits there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controllers {
    /// Memory.
    pub memory: bool,
    /// Processes and threads.
    pub pids: bool,
}

impl Controllers {
    /// Those that are there, by the kernel's names.
    pub fn names(self) -> Vec<String> {
        let all = [("memory", self.memory), ("pids", self.pids)];
        let there = all.into_iter().filter(|(_, there)| *there);
        there.map(|(name, _)| name.to_owned()).collect()
    }
}

/// What has happened in a bot's cgroup since its process was placed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// Times its own limit of memory left the kernel no way but to end something.
    pub out_of_memory: u64,
    /// Processes the kernel ended, for that limit's sake or the host's.
    pub killed: u64,
    /// Processes and threads the kernel refused to make.
    pub refused: u64,
}

impl Cgroups {
    /// The cgroup that is this process's to divide, divided: the process is in a part of its own.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn detect() -> Result<Self, String> {
        let root = match std::env::var_os(VARIABLE) {
            Some(named) => find::named(&named)?,
            None => find::delegated()?,
        };
        Self::divide(root, std::process::id())
    }

    fn divide(root: PathBuf, own_pid: u32) -> Result<Self, String> {
        let shown = root.display();
        let failed = |what: &str, e: io::Error| format!("{shown}/{what}: {e}");
        let alone = File::open(&root).map_err(|e| failed("", e))?;
        let locked = flock(&alone, FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|_| {
            format!(
                "{shown} is divided by another deia: name another cgroup in {VARIABLE}, or none"
            )
        })?;
        for part in [DAEMON, BOTS] {
            make(&root.join(part)).map_err(|e| failed(part, e))?;
        }
        let procs = root.join(DAEMON).join(PROCS);
        fs::write(&procs, own_pid.to_string()).map_err(|e| failed("daemon/cgroup.procs", e))?;
        // Whoever is there besides (a script that started the daemon) would be in the way of controllers.
        for other in pids_of(&root) {
            let _ = fs::write(&procs, other.to_string());
        }
        let controllers = Controllers {
            memory: enable(&root, "memory"),
            pids: enable(&root, "pids"),
        };
        // What an earlier daemon left empty.
        for left in directories(&root.join(BOTS)) {
            let _ = fs::remove_dir(left);
        }
        Ok(Self {
            root,
            controllers,
            _alone: alone,
            placed: Mutex::default(),
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the kernel limits there.
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Puts a bot's new process into the bot's cgroup, under its limits; what is still there of an
    /// earlier one is ended. The process must be a child that is not reaped yet. Blocks.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub fn place(&self, bot: &str, run: Run, pid: u32, limits: &Limits) -> Result<(), String> {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let leaf = self.leaf(bot);
        let failed = |file: &str, e: io::Error| format!("{}/{file}: {e}", leaf.display());
        placed.remove(bot);
        if leaf.is_dir() {
            // Anew where it is empty: counts begin at nothing.
            remove_tree(&leaf);
            if leaf.is_dir() {
                let _ = fs::write(leaf.join(KILL), "1");
            }
        }
        make(&leaf).map_err(|e| failed("", e))?;
        self.limit(&leaf, limits)?;
        fs::write(leaf.join(PROCS), pid.to_string()).map_err(|e| failed(PROCS, e))?;
        placed.insert(bot.to_owned(), run);
        Ok(())
    }

    /// Takes note of a process that an earlier daemon has placed, and sets its limits again where they
    /// are gone: a service manager may have turned the controllers off meanwhile. What it was started
    /// with stays, and what it has already it may keep. Returns whether it is in the bot's cgroup and
    /// under limits.
    pub fn adopt(&self, bot: &str, run: Run, pid: u32, limits: &Limits) -> bool {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        let leaf = self.leaf(bot);
        if !pids_in(&leaf).contains(&pid) {
            return false;
        }
        placed.insert(bot.to_owned(), run);
        let read = |file: &str| fs::read_to_string(leaf.join(file)).unwrap_or_default();
        let number = |file: &str| read(file).trim().parse::<u64>().ok();
        let kept = |limit: &str, now: &str| number(limit).or_else(|| number(now)).unwrap_or(0);
        let limit = |limit: &str, now: &str, today: u64| match number(limit) {
            Some(_) => Ok(()),
            None => fs::write(leaf.join(limit), today.max(kept(limit, now)).to_string()),
        };
        let memory = limits.memory_mb.saturating_mul(MIB);
        let has = self.controllers;
        (!has.memory || limit("memory.max", "memory.current", memory).is_ok())
            && (!has.pids || limit("pids.max", "pids.current", limits.processes.into()).is_ok())
    }

    fn limit(&self, leaf: &Path, limits: &Limits) -> Result<(), String> {
        let failed = |file: &str, e: io::Error| format!("{}/{file}: {e}", leaf.display());
        if self.controllers.memory {
            let bytes = limits.memory_mb.saturating_mul(MIB).to_string();
            fs::write(leaf.join("memory.max"), bytes).map_err(|e| failed("memory.max", e))?;
            // A limit that swap makes room for is none. Not there in a kernel without swap.
            let _ = fs::write(leaf.join("memory.swap.max"), "0");
            // A bot of which the kernel ended one process or another is of no use.
            let _ = fs::write(leaf.join("memory.oom.group"), "1");
        }
        if self.controllers.pids {
            let processes = limits.processes.to_string();
            fs::write(leaf.join("pids.max"), processes).map_err(|e| failed("pids.max", e))?;
        }
        Ok(())
    }

    /// Ends everything of this start of the bot at once. Returns whether it was in its cgroup.
    ///
    /// # Errors
    /// When the kernel can't (older than 5.14).
    pub fn kill(&self, bot: &str, run: Run) -> io::Result<bool> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if placed.get(bot) != Some(&run) {
            return Ok(false);
        }
        fs::write(self.leaf(bot).join(KILL), "1").map(|()| true)
    }

    /// The processes of this start of the bot; none where it is not in its cgroup.
    pub fn pids(&self, bot: &str, run: Run) -> Vec<u32> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        match placed.get(bot) {
            Some(now) if *now == run => pids_in(&self.leaf(bot)),
            _ => Vec::new(),
        }
    }

    /// What has happened to this start of the bot.
    pub fn events(&self, bot: &str, run: Run) -> Events {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if placed.get(bot) != Some(&run) {
            return Events::default();
        }
        let leaf = self.leaf(bot);
        let read = |file: &str| fs::read_to_string(leaf.join(file)).unwrap_or_default();
        let (memory, pids) = (read("memory.events"), read("pids.events"));
        Events {
            out_of_memory: count(&memory, "oom"),
            killed: count(&memory, "oom_kill"),
            refused: count(&pids, "max"),
        }
    }

    /// Removes the bot's cgroup, if nothing is in it any more.
    pub fn remove(&self, bot: &str, run: Run) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if placed.get(bot) == Some(&run) {
            placed.remove(bot);
            remove_tree(&self.leaf(bot));
        }
    }

    fn leaf(&self, bot: &str) -> PathBuf {
        self.root.join(BOTS).join(bot)
    }
}

/// Whether the bots' cgroups have this controller now.
fn enable(root: &Path, controller: &str) -> bool {
    let on = format!("+{controller}");
    [root, &root.join(BOTS)]
        .iter()
        .all(|path| fs::write(path.join("cgroup.subtree_control"), &on).is_ok())
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Removes a cgroup with those a bot may have made in it; what has processes stays.
fn remove_tree(cgroup: &Path) {
    for below in directories(cgroup) {
        remove_tree(&below);
    }
    let _ = fs::remove_dir(cgroup);
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn pids_of(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join(PROCS)).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

fn pids_in(cgroup: &Path) -> Vec<u32> {
    let mut pids = pids_of(cgroup);
    for below in directories(cgroup) {
        pids.extend(pids_in(&below));
    }
    pids
}

/// A line `name n` of a file of events.
fn count(events: &str, name: &str) -> u64 {
    let mut lines = events.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(key, _)| *key == name)
        .and_then(|(_, n)| n.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as the kernel would have made it. Files are written and read as in a real one;
    /// nothing happens by it.
    fn pretended(parts: &[&str]) -> (tempfile::TempDir, Cgroups) {
        let root = tempfile::tempdir().unwrap();
        for part in ["", "daemon", "bots"].iter().chain(parts) {
            fs::create_dir_all(root.path().join(part)).unwrap();
        }
        let cgroups = Cgroups::divide(root.path().to_owned(), 42).unwrap();
        (root, cgroups)
    }

    fn limits() -> Limits {
        Limits {
            memory_mb: 100,
            processes: 7,
            ..Limits::default()
        }
    }

    #[test]
    fn a_bot_is_placed_under_its_limits() {
        let (root, cgroups) = pretended(&[]);
        let read = |file: &str| fs::read_to_string(root.path().join(file)).unwrap();
        assert_eq!(read("daemon/cgroup.procs"), "42");
        assert_eq!(read("bots/cgroup.subtree_control"), "+pids");
        let both = Controllers {
            memory: true,
            pids: true,
        };
        assert_eq!(cgroups.controllers(), both);
        cgroups.place("coder", 1, 77, &limits()).unwrap();
        for (file, expected) in [
            ("memory.max", "104857600"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", "7"),
            ("cgroup.procs", "77"),
        ] {
            assert_eq!(read(&format!("bots/coder/{file}")), expected, "{file}");
        }
        assert_eq!(cgroups.pids("coder", 1), [77]);
    }

    #[test]
    fn two_daemons_do_not_divide_one() {
        let (root, _cgroups) = pretended(&[]);
        let refusal = Cgroups::divide(root.path().to_owned(), 43).unwrap_err();
        assert!(refusal.contains("another deia"), "{refusal}");
    }

    #[test]
    fn an_adopted_bot_keeps_what_it_was_given_and_what_it_has() {
        let (root, cgroups) = pretended(&[]);
        fs::create_dir(root.path().join("bots/coder")).unwrap();
        let write = |file: &str, text: &str| {
            fs::write(root.path().join("bots/coder").join(file), text).unwrap();
        };
        let read =
            |file: &str| fs::read_to_string(root.path().join("bots/coder").join(file)).unwrap();
        write("cgroup.procs", "77\n");
        write("memory.max", "max\n");
        write("memory.current", "209715200\n");
        write("pids.max", "3\n");
        assert!(cgroups.adopt("coder", 1, 77, &limits()));
        assert_eq!(
            (read("memory.max").as_str(), read("pids.max").as_str()),
            ("209715200", "3\n")
        );
        assert!(!cgroups.adopt("coder", 1, 78, &limits()));
    }

    #[test]
    fn what_comes_late_does_not_meet_the_next_process() {
        let (root, cgroups) = pretended(&[]);
        cgroups.place("coder", 1, 77, &limits()).unwrap();
        cgroups.place("coder", 2, 78, &limits()).unwrap();
        assert!(!cgroups.kill("coder", 1).unwrap());
        cgroups.remove("coder", 1);
        assert_eq!(cgroups.pids("coder", 1), [0; 0]);
        assert_eq!(cgroups.events("coder", 1), Events::default());
        let kill = root.path().join("bots/coder/cgroup.kill");
        // The placing itself has ended what was there.
        fs::write(&kill, "").unwrap();
        assert!(cgroups.kill("coder", 2).unwrap());
        assert_eq!(fs::read_to_string(&kill).unwrap(), "1");
    }

    #[test]
    fn events_are_counted_by_name() {
        let (root, cgroups) = pretended(&[]);
        cgroups.place("coder", 1, 77, &limits()).unwrap();
        let write = |file: &str, text: &str| {
            fs::write(root.path().join("bots/coder").join(file), text).unwrap();
        };
        let memory = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        write("memory.events", memory);
        write("pids.events", "max 5\n");
        let events = Events {
            out_of_memory: 3,
            killed: 2,
            refused: 5,
        };
        assert_eq!(cgroups.events("coder", 1), events);
        assert_eq!(cgroups.events("other", 1), Events::default());
    }
}
