//! Whether the kernel ended a process for want of memory.
//!
//! Asked only when a bot was ended by a SIGKILL that the daemon did not send; until then it costs
//! nothing. Sources, the surest first:
//! 1. the events of the bot's cgroup, which also tell its own limit from the host's;
//! 2. the kernel's log (`/dev/kmsg`), which names the process, where it may be read;
//! 3. the kernel's count of such ends (`/proc/vmstat`): where it has not grown, it was none; where it
//!    has, and nothing better is known, this was one.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deia::bot::ExitCause;

use super::Run;
use super::cgroup::{Cgroups, Events};

/// Records of the kernel's log that are looked through at most.
const MAX_RECORDS: usize = 100_000;

/// The longest record of the kernel's log.
const MAX_RECORD_BYTES: usize = 8192;

/// How long before now the end may have been: a pid is used again some day.
const RECENT: Duration = Duration::from_secs(60);

/// Why the kernel ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The bot had reached `limits.memory_mb`, which its cgroup holds.
    OwnLimit,
    /// The host, or a cgroup above the bot's, had no memory left.
    Host,
}

impl Cause {
    /// The cause of the bot's end.
    pub fn exit_cause(self) -> ExitCause {
        match self {
            Self::OwnLimit => ExitCause::MemoryLimit,
            Self::Host => ExitCause::Oom,
        }
    }
}

/// What there is to tell such an end from others.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The kernel's count and log.
    pub watch: OomWatch,
    /// The bots' cgroups, where there are any.
    pub cgroups: Option<Arc<Cgroups>>,
}

impl Evidence {
    /// Why the kernel ended this process of a bot, if it did. Blocks.
    pub fn of(&self, bot: &str, run: Run, pid: u32) -> Option<Cause> {
        let events = self.cgroups.as_ref().map(|c| c.events(bot, run));
        self.watch.cause(pid, events.unwrap_or_default())
    }
}

/// Remembers the kernel's count of ends. One for the daemon, made at its start.
#[derive(Debug)]
pub struct OomWatch(AtomicU64);

impl Default for OomWatch {
    fn default() -> Self {
        Self(AtomicU64::new(ends_so_far().unwrap_or(0)))
    }
}

impl OomWatch {
    /// Why the kernel ended this process, if it did; `events` are those of its cgroup. For processes
    /// that a SIGKILL has just ended. Blocks.
    pub fn cause(&self, pid: u32, events: Events) -> Option<Cause> {
        if events.killed > 0 {
            return Some(match events.out_of_memory {
                0 => Cause::Host,
                _ => Cause::OwnLimit,
            });
        }
        match self.was_oom_killed(pid) {
            Some(true) => Some(Cause::Host),
            Some(false) | None => None,
        }
    }

    /// Whether the kernel ended this process for want of memory; `None` where it does not tell.
    pub fn was_oom_killed(&self, pid: u32) -> Option<bool> {
        let now = ends_so_far()?;
        if self.0.swap(now, Ordering::Relaxed) == now {
            return Some(false);
        }
        match kernel_log() {
            Some(log) => Some(names(&log, pid, uptime()?)),
            // Not ours to read (kernel.dmesg_restrict): something was ended since the last time, and
            // this process was, by a signal nobody else had a reason to send.
            None => Some(true),
        }
    }
}

fn ends_so_far() -> Option<u64> {
    count(&fs::read_to_string("/proc/vmstat").ok()?)
}

fn count(vmstat: &str) -> Option<u64> {
    let line = vmstat
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

/// Time since the host's start.
fn uptime() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The records of the kernel's log, one a line; `None` where it may not be read.
fn kernel_log() -> Option<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let mut file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags).ok()?)
        .open("/dev/kmsg")
        .ok()?;
    let mut log = String::new();
    let mut record = vec![0; MAX_RECORD_BYTES];
    for _ in 0..MAX_RECORDS {
        match file.read(&mut record) {
            Ok(0) => break,
            // Only those of interest are kept: the whole log may be megabytes.
            Ok(n) => {
                let text = String::from_utf8_lossy(record.get(..n)?);
                if text.contains(KILLED) {
                    log.push_str(text.lines().next().unwrap_or_default());
                    log.push('\n');
                }
            }
            // It was overwritten while it was read: the next one is there.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    Some(log)
}

const KILLED: &str = "Killed process ";

/// Whether a record of the last while names the process:
/// `3,1234,5678901234,-;Out of memory: Killed process 42 (name) total-vm:...`, where the third field
/// is microseconds since the start.
fn names(log: &str, pid: u32, now: Duration) -> bool {
    log.lines().any(|record| {
        let Some((head, text)) = record.split_once(';') else {
            return false;
        };
        let at = head.split(',').nth(2).and_then(|at| at.parse().ok());
        let recent = at.is_some_and(|at| now.saturating_sub(Duration::from_micros(at)) < RECENT);
        let named = text.split_once(KILLED).and_then(|(_, rest)| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u32>().ok()
        });
        recent && named == Some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
6,339,5140900,-;NET: Registered PF_INET
3,412,100000000,-;Out of memory: Killed process 4242 (python3) total-vm:1kB, anon-rss:1kB
3,413,160000000,-;Memory cgroup out of memory: Killed process 77 (a b) total-vm:1kB
nonsense
";

    #[test]
    fn the_process_is_named_and_the_record_is_recent() {
        let at = Duration::from_secs;
        assert!(names(LOG, 4242, at(101)));
        assert!(!names(LOG, 4242, at(161)));
        assert!(names(LOG, 77, at(161)));
        assert!(!names(LOG, 42, at(101)));
        assert!(!names(LOG, 7, at(161)));
        assert!(!names("", 7, at(1)));
    }

    #[test]
    fn the_count_is_read() {
        assert_eq!(count("pgfault 5\noom_kill 3\nx 1\n"), Some(3));
        assert_eq!(count("pgfault 5\n"), None);
    }

    #[test]
    fn the_cgroup_knows_best() {
        let watch = OomWatch::default();
        let events = |out_of_memory, killed| Events {
            out_of_memory,
            killed,
            refused: 0,
        };
        assert_eq!(watch.cause(1, events(1, 1)), Some(Cause::OwnLimit));
        assert_eq!(watch.cause(1, events(0, 1)), Some(Cause::Host));
    }

    #[test]
    fn where_nothing_was_ended_this_was_not() {
        let Some(before) = ends_so_far() else {
            return;
        };
        let watch = OomWatch::default();
        let answer = watch.was_oom_killed(std::process::id());
        // Another process of the host may have been ended just now.
        assert!(answer == Some(false) || ends_so_far() != Some(before));
    }

    proptest::proptest! {
        #[test]
        fn no_log_makes_it_panic(log in "\\PC{0,80}", pid in 0u32..) {
            let _ = names(&log, pid, Duration::ZERO);
        }
    }
}
