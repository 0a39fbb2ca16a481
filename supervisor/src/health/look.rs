//! A look at the host, the disk, and what bots' processes take. On a thread that may wait.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia_worker::tree::{Identity, children_of};
use rustix::time::{ClockId, clock_gettime};

use crate::daemon::vitals::Vitals;
use crate::usage::{HostProbe, HostUse};

/// Processes of one bot that are looked at.
const MAX_TREE: usize = 512;

/// CPU is a difference: over less than this it says nothing, and the look before stands.
const APART: Duration = Duration::from_millis(250);

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The host.
    pub host: HostUse,
    /// Where HOME is; `None` where the operating system does not tell.
    pub disk: Option<DiskUse>,
    /// The bots that have a process.
    pub bots: BTreeMap<Arc<str>, BotUse>,
}

impl BotUse {
    /// What people are shown as its CPU: of late, and at the first look since it began.
    pub fn shown_cpu(&self) -> f64 {
        self.cpu.unwrap_or(self.cpu_of_life)
    }
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What a bot and all it started take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BotUse {
    /// The bot's own process.
    pub pid: u32,
    /// How many there are.
    pub processes: u64,
    /// Resident memory, in bytes; what they share counts in each.
    pub rss_bytes: u64,
    /// Address space, in bytes.
    pub vms_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors; `None` where they were not counted.
    pub descriptors: Option<u64>,
    /// Those of them that are sockets.
    pub connections: Option<u64>,
    /// CPU since the look before, of one processor; `None` at the first.
    pub cpu: Option<f64>,
    /// CPU since the bot's own process began, of one processor.
    pub cpu_of_life: f64,
    /// Resident memory as a share of the host's.
    pub memory: f64,
}

/// The bots' own processes.
pub(super) fn roots(vitals: &Vitals) -> Vec<(Arc<str>, u32)> {
    let bots = vitals.bots.iter();
    bots.filter_map(|bot| Some((bot.id.clone(), bot.pid?)))
        .collect()
}

/// What it needs to know from one look to the next.
#[derive(Debug)]
pub(super) struct Looker {
    probe: HostProbe,
    home: PathBuf,
    /// CPU ticks of each process then.
    ticks: HashMap<Identity, u64>,
    last: Option<(Instant, Look)>,
}

impl Looker {
    pub fn new(home: PathBuf) -> Self {
        Self {
            probe: HostProbe::default(),
            home,
            ticks: HashMap::new(),
            last: None,
        }
    }

    /// Looks. `detail`: also at what bots have started and opened.
    pub fn look(&mut self, roots: &[(Arc<str>, u32)], detail: bool, now: Instant) -> Look {
        let elapsed = self.last.as_ref().map(|(at, _)| now.duration_since(*at));
        if let Some((_, last)) = self.last.as_ref().filter(|_| elapsed < Some(APART)) {
            let mut again = last.clone();
            // New bots have no CPU yet; the others keep theirs.
            for (bot, pid) in roots {
                if again.bots.get(bot).is_none_or(|used| used.pid != *pid) {
                    again.bots.remove(bot);
                    if let Some((used, _)) = measure(*pid, detail, &again.host) {
                        again.bots.insert(bot.clone(), used);
                    }
                }
            }
            again
                .bots
                .retain(|bot, _| roots.iter().any(|(id, _)| id == bot));
            return again;
        }
        let host = self.probe.look_whole();
        let mut ticks = HashMap::new();
        let mut bots = BTreeMap::new();
        for (bot, pid) in roots {
            let Some((mut used, processes)) = measure(*pid, detail, &host) else {
                continue;
            };
            used.cpu = elapsed.and_then(|elapsed| self.cpu(*pid, &processes, elapsed));
            ticks.extend(processes);
            bots.insert(bot.clone(), used);
        }
        self.ticks = ticks;
        let look = Look {
            host,
            disk: disk(&self.home),
            bots,
        };
        self.last = Some((now, look.clone()));
        look
    }

    /// CPU of a bot that was there at the look before. What it started since has all its time since then.
    fn cpu(&self, root: u32, processes: &[(Identity, u64)], elapsed: Duration) -> Option<f64> {
        let known = |id: &Identity| self.ticks.get(id).copied();
        let (first, _) = processes
            .iter()
            .find(|(id, _)| id.pid.unsigned_abs() == root)?;
        known(first)?;
        let spent = processes.iter();
        let spent = spent.map(|(id, ticks)| ticks.saturating_sub(known(id).unwrap_or(0)));
        let a_second = rustix::param::clock_ticks_per_second() as f64;
        Some(spent.sum::<u64>() as f64 / a_second / elapsed.as_secs_f64().max(0.001))
    }
}

/// What a process, and with `detail` all below it, takes; and the CPU ticks of each.
fn measure(pid: u32, detail: bool, host: &HostUse) -> Option<(BotUse, Vec<(Identity, u64)>)> {
    let mut pids = vec![pid];
    let mut next = 0;
    while detail && let Some(parent) = pids.get(next).copied() {
        // /proc is no snapshot: a pid may come twice.
        for child in children_of(&parent.to_string()) {
            if pids.len() < MAX_TREE && !pids.contains(&child) {
                pids.push(child);
            }
        }
        next += 1;
    }
    let mut used = BotUse {
        pid,
        ..BotUse::default()
    };
    let mut ticks = Vec::new();
    for process in pids {
        let Some(stat) = stat(process) else {
            // The bot itself has gone: there is nothing to be said of it.
            if process == pid {
                return None;
            }
            continue;
        };
        used.processes += 1;
        used.rss_bytes += stat.rss_bytes;
        used.vms_bytes += stat.vms_bytes;
        used.threads += stat.threads;
        ticks.push((stat.id, stat.ticks));
        if detail && let Some((descriptors, sockets)) = descriptors(process) {
            *used.descriptors.get_or_insert(0) += descriptors;
            *used.connections.get_or_insert(0) += sockets;
        }
    }
    if let Some((own, _)) = ticks.first() {
        let spent: u64 = ticks.iter().map(|(_, ticks)| ticks).sum();
        used.cpu_of_life = spent as f64 / ticks_since(own.started).max(1.0);
    }
    if host.memory_total > 0 {
        used.memory = used.rss_bytes as f64 / host.memory_total as f64;
    }
    Some((used, ticks))
}

/// Clock ticks since a moment that is told in ticks since the host's start, as the kernel tells the start of a process.
fn ticks_since(moment: u64) -> f64 {
    let up = clock_gettime(ClockId::Boottime);
    let up = up.tv_sec as f64 + up.tv_nsec as f64 / 1e9;
    up * rustix::param::clock_ticks_per_second() as f64 - moment as f64
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    id: Identity,
    ticks: u64,
    threads: u64,
    vms_bytes: u64,
    rss_bytes: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&text, rustix::param::page_size() as u64)
}

/// proc_pid_stat(5): `pid (comm) state ppid ...`, where comm may hold anything, also parentheses.
fn parse(stat: &[u8], page: u64) -> Option<Stat> {
    let close = stat.iter().rposition(|b| *b == b')')?;
    let open = stat.iter().position(|b| *b == b'(')?;
    let pid = std::str::from_utf8(&stat[..open]).ok()?.trim();
    let rest = std::str::from_utf8(&stat[close + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Counted as in the manual, where the state is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        id: Identity {
            pid: pid.parse().ok()?,
            started: number(22)?,
        },
        ticks: number(14)?.saturating_add(number(15)?),
        threads: number(20)?,
        vms_bytes: number(23)?,
        rss_bytes: number(24)?.saturating_mul(page),
    })
}

/// All that a process has open, and how many of it are sockets.
fn descriptors(pid: u32) -> Option<(u64, u64)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let (mut all, mut sockets) = (0, 0);
    for entry in entries.flatten() {
        all += 1;
        let target = std::fs::read_link(entry.path());
        let is_socket = target.is_ok_and(|target| {
            target
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"socket:")
        });
        sockets += u64::from(is_socket);
    }
    Some((all, sockets))
}

fn disk(home: &std::path::Path) -> Option<DiskUse> {
    let stat = rustix::fs::statvfs(home).ok()?;
    Some(DiskUse {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_program_is_called() {
        let line = b"4242 (a) (b R 7) S 17 4242 4242 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 3 0 98765 1000 222 3\n";
        let got = parse(line, 4096).unwrap();
        assert_eq!((got.id.pid, got.id.started), (4242, 98765));
        assert_eq!((got.ticks, got.threads), (56, 3));
        assert_eq!((got.vms_bytes, got.rss_bytes), (1000, 222 * 4096));
        assert_eq!(parse(b"1 (x", 1), None);
        assert_eq!(parse(b"1 (x) S 1", 1), None);
    }

    #[test]
    fn this_process_and_its_child_are_seen_and_their_cpu_from_the_second_look() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let roots = vec![(Arc::from("me"), std::process::id())];
        let mut looker = Looker::new(std::env::temp_dir());
        let begun = Instant::now();
        let first = looker.look(&roots, true, begun);
        let me = first.bots["me"];
        assert!(me.processes >= 2 && me.rss_bytes > 100_000, "{me:?}");
        assert!(me.descriptors.unwrap() >= 3 && me.cpu.is_none(), "{me:?}");
        assert!(me.memory > 0.0 && first.disk.unwrap().total > 0);
        assert!((0.0..64.0).contains(&me.cpu_of_life), "{me:?}");
        assert_eq!(me.shown_cpu(), me.cpu_of_life);
        let too_soon = looker.look(&roots, true, begun);
        assert_eq!(too_soon.bots["me"].cpu, None);
        while begun.elapsed() < APART {
            std::hint::spin_loop();
        }
        let second = looker.look(&roots, true, Instant::now()).bots["me"];
        assert!(second.cpu.unwrap() > 0.05, "{second:?}");
        assert_eq!(Some(second.shown_cpu()), second.cpu);
        assert!(second.cpu_of_life > 0.0, "{second:?}");
        let root_only = looker.look(&roots, false, Instant::now() + APART).bots["me"];
        assert_eq!((root_only.processes, root_only.descriptors), (1, None));
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = [(Arc::from("gone"), u32::MAX - 1)];
        assert!(looker.look(&gone, true, begun + APART * 9).bots.is_empty());
    }
}
