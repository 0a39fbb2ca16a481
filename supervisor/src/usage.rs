//! What bots' processes and the host use, as the operating system counts it: looked at when somebody
//! asks, off the main loop. The only place that knows sysinfo, which changes its API often.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use deia::api::BotView;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::brain::scale::Host;

/// Looks at processes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    /// `None` where the operating system does not tell.
    system: Option<System>,
    /// Processes that were looked at before: CPU is a difference between two looks.
    before: HashSet<Pid>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            system: System::new().ok(),
            before: HashSet::new(),
        }
    }
}

impl Usage {
    /// The same bots with their processes' CPU and memory; CPU from the second look on.
    pub async fn of(&self, mut bots: Vec<BotView>) -> Vec<BotView> {
        let usage = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            usage.look(&mut bots);
            bots
        });
        looked.await.unwrap_or_default()
    }

    fn look(&self, bots: &mut [BotView]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pids: Vec<Pid> = bots
            .iter()
            .filter_map(|bot| bot.pid.map(Pid::from_u32))
            .collect();
        let Seen { system, before } = &mut *seen;
        let Some(system) = system else {
            return;
        };
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, what);
        for bot in bots {
            let Some(pid) = bot.pid.map(Pid::from_u32) else {
                continue;
            };
            if let Some(process) = system.process(pid) {
                bot.memory_bytes = Some(process.memory());
                bot.cpu_percent = before
                    .contains(&pid)
                    .then(|| f64::from(process.cpu_usage()) / 100.0);
            }
        }
        *before = pids.into_iter().collect();
    }
}

/// Looks at the host. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct HostProbe(Arc<Mutex<Probed>>);

#[derive(Debug)]
struct Probed {
    system: Option<System>,
    first: Option<Instant>,
}

impl Default for Probed {
    fn default() -> Self {
        Self {
            system: System::new().ok(),
            first: None,
        }
    }
}

/// The host, in figures and shares.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HostUse {
    /// Shares.
    pub host: Host,
    /// Bytes of memory; 0 where the operating system does not tell.
    pub memory_total: u64,
    /// Bytes of it that programs could still have.
    pub memory_available: u64,
}

impl HostProbe {
    /// Like [`HostProbe::sample`], with figures, on this thread.
    pub fn look_whole(&self) -> HostUse {
        let host = self.look();
        let probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let system = probed.system.as_ref();
        HostUse {
            host,
            memory_total: system.map_or(0, System::total_memory),
            memory_available: system.map_or(0, System::available_memory),
        }
    }

    /// Memory in use now, and CPU since the look before: from the second look on, and no more often than
    /// the kernel's counters allow.
    pub async fn sample(&self) -> Host {
        let probe = self.clone();
        let looked = tokio::task::spawn_blocking(move || probe.look());
        looked.await.unwrap_or_default()
    }

    fn look(&self) -> Host {
        let mut probed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Probed { system, first } = &mut *probed;
        let Some(system) = system else {
            return Host::default();
        };
        system.refresh_cpu_usage();
        system.refresh_memory();
        let known = first
            .get_or_insert_with(Instant::now)
            .elapsed()
            .ge(&MINIMUM_CPU_UPDATE_INTERVAL);
        let (total, available) = (system.total_memory(), system.available_memory());
        Host {
            cpu: known.then(|| f64::from(system.global_cpu_usage()) / 100.0),
            memory: (total > 0).then(|| 1.0 - available as f64 / total as f64),
        }
    }
}

/// What the daemon's own process uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// CPU time since its start.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_files: usize,
}

/// Looks at the daemon's own process; `None` where the operating system does not tell. Reads `/proc`.
pub fn own() -> Option<Own> {
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before the last bracket may hold anything.
    let (_, numbers) = status.rsplit_once(')')?;
    let number = |n: usize| numbers.split_ascii_whitespace().nth(n)?.parse::<u64>().ok();
    let (user, system, pages) = (number(11)?, number(12)?, number(21)?);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    Some(Own {
        cpu_seconds: (user + system) as f64 / ticks as f64,
        resident_bytes: pages.saturating_mul(page),
        open_files: std::fs::read_dir("/proc/self/fd").ok()?.count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::bot::{Actual, BotType, Wanted};
    use deia::time::Timestamp;

    fn bot(pid: Option<u32>) -> BotView {
        BotView {
            id: "b".into(),
            pool: "b".into(),
            bot_type: BotType::General,
            specializations: Vec::new(),
            wanted: Wanted::Running,
            actual: Actual::Ready,
            pid,
            since: Timestamp::from_micros(0),
            restarts: 0,
            tasks: Vec::new(),
            max_concurrent: 1,
            success_rate: 1.0,
            cpu_percent: None,
            memory_bytes: None,
            backend: "echo".into(),
            sandbox: None,
            last_exit: None,
            next_start_at: None,
            blocked_by: Vec::new(),
            version: None,
            explanation: String::new(),
            recent_ends: 0,
            ends: Vec::new(),
            progress_at: None,
        }
    }

    #[tokio::test]
    async fn memory_at_once_and_cpu_from_the_second_look() {
        let usage = Usage::default();
        let bots = || {
            vec![
                bot(Some(std::process::id())),
                bot(None),
                bot(Some(u32::MAX - 1)),
            ]
        };
        let first = usage.of(bots()).await;
        assert!(first[0].memory_bytes.unwrap() > 100_000, "{first:?}");
        assert_eq!(first[0].cpu_percent, None);
        let second = usage.of(bots()).await;
        assert!(second[0].cpu_percent.unwrap() >= 0.0, "{second:?}");
        for without in [&second[1], &second[2]] {
            assert_eq!((without.memory_bytes, without.cpu_percent), (None, None));
        }
    }

    #[test]
    fn this_process_uses_something() {
        let own = own().unwrap();
        assert!(
            own.resident_bytes > 100_000 && own.open_files >= 3,
            "{own:?}"
        );
        assert!((0.0..1e6).contains(&own.cpu_seconds), "{own:?}");
    }

    #[tokio::test]
    async fn the_hosts_memory_at_once_and_its_cpu_later() {
        let probe = HostProbe::default();
        let first = probe.sample().await;
        assert!((0.0..1.0).contains(&first.memory.unwrap()), "{first:?}");
        assert_eq!(first.cpu, None);
        let cpu = loop {
            match probe.sample().await.cpu {
                Some(cpu) => break cpu,
                None => tokio::task::yield_now().await,
            }
        };
        assert!((0.0..=1.0).contains(&cpu), "{cpu}");
    }
}
