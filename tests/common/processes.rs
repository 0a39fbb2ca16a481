//! Processes of a test's own home, told apart by pid and start time.
//!
//! A home is made by one test and named like nothing else: a process that works in it, prints into
//! it or has it in its environment was started by that test's daemon, whoever its parent is now.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, as it was when it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub parent: u32,
    /// Clock ticks between the host's start and its own: with the pid, who it is.
    pub started: u64,
    /// Its arguments, for messages.
    pub command: String,
}

impl Process {
    /// The process with this pid; zombies count as ended.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold anything: fields count from the last one (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(fields.first()?, &"Z" | &"X") {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            command: String::from_utf8_lossy(&command).replace('\0', " "),
        })
    }

    /// Whether it still runs: the same process, not another with its pid.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Sends it a signal, if it is still that process.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let pid = i32::try_from(self.pid).expect("a pid is an i32");
            // Between the look and the signal it may have ended: that is what was wanted.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Every process that has to do with this home.
pub fn processes_of(home: &Path) -> Vec<Process> {
    let own = std::process::id();
    let all = all().into_iter();
    all.filter(|process| process.pid != own && is_of(process.pid, home))
        .collect()
}

/// Ended processes whose parent, one of these or below, has not taken note.
pub fn zombies_below(pid: u32) -> Vec<u32> {
    let mut parents: Vec<u32> = descendants(pid).iter().map(|p| p.pid).collect();
    parents.push(pid);
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return false;
        };
        let mut fields = fields.split_whitespace();
        let is_zombie = fields.next() == Some("Z");
        let parent = fields.next().and_then(|parent| parent.parse().ok());
        is_zombie && parent.is_some_and(|parent: u32| parents.contains(&parent))
    })
    .collect()
}

/// The bots' own processes.
pub fn bots_among(mut processes: Vec<Process>) -> Vec<Process> {
    processes.retain(|process| process.command.starts_with("deia-worker"));
    // A command that a bot is just starting goes by the bot's name until it executes its program.
    let pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
    processes.retain(|process| !pids.contains(&process.parent));
    processes
}

/// The process's children, their children and so on.
pub fn descendants(pid: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = children.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let more = children.remove(&process.pid).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of).collect()
}

fn is_of(pid: u32, home: &Path) -> bool {
    let links = ["cwd", "exe", "fd/0", "fd/1", "fd/2"];
    let in_home = |link: &&str| {
        let target = fs::read_link(format!("/proc/{pid}/{link}"));
        target.is_ok_and(|target| target.starts_with(home))
    };
    if links.iter().any(in_home) {
        return true;
    }
    let home = home.as_os_str().as_encoded_bytes();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(home.len()).any(|window| window == home)
}
