//! What scaling did or left undone, and why, in words for the log and the API.

use std::fmt;

/// Pools that one reason names; the rest are counted.
const MAX_NAMED: usize = 4;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More bots.
    Up,
    /// Fewer.
    Down,
}

/// Why a pool's number changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Why {
    FirstBot { waiting: u64 },
    Queue { waiting: u64, bots: u32, rule: f64 },
    Oldest { seconds: f64, rule: f64 },
    Load { load: f64, fleet: f64 },
    Idle { seconds: f64 },
    GivesWay { to: String },
    ByHand,
}

/// Why it does not change, where it should or could.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Hold {
    FleetMax(u32),
    PoolMax(u32),
    Minimum,
    Failing { failing: u32, bots: u32 },
    Server,
    Cooldown { seconds: f64 },
    Memory { used: f64, rule: f64 },
    Cpu { used: f64, rule: f64 },
    NotIdleYet { seconds: f64, rule: f64 },
    Degraded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstBot { waiting } => write!(f, "no running bot can take {}", tasks(*waiting)),
            Self::Queue {
                waiting,
                bots,
                rule,
            } => write!(
                f,
                "{} for {bots} bots (scaling.queue_per_bot is {rule})",
                tasks(*waiting)
            ),
            Self::Oldest { seconds, rule } => write!(
                f,
                "a task has waited {seconds:.1} s (scaling.oldest_seconds is {rule})"
            ),
            Self::Load { load, fleet } => write!(
                f,
                "its bots were {:.0} % busy and the fleet {:.0} %",
                load * 100.0,
                fleet * 100.0
            ),
            Self::Idle { seconds } => write!(f, "hardly any work for {seconds:.0} s"),
            Self::GivesWay { to } => write!(f, "it gives way to {to}, which has none"),
            Self::ByHand => write!(f, "by hand"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FleetMax(max) => write!(f, "the fleet has its bot_limits.max_bots of {max}"),
            Self::PoolMax(max) => write!(f, "the pool has its max of {max}"),
            Self::Minimum => write!(f, "it is at its minimum"),
            Self::Failing { failing, bots } => {
                write!(f, "{failing} of its {bots} bots fail: more would too")
            }
            Self::Degraded => write!(f, "the fleet is degraded and adds no bots by load"),
            Self::Server => write!(
                f,
                "its model server takes no more at once (max_in_flight), or does not answer"
            ),
            Self::Cooldown { seconds } => write!(f, "the next step is in {seconds:.1} s"),
            Self::Memory { used, rule } => write!(
                f,
                "{:.0} % of the host's memory are in use (scaling.max_memory is {rule})",
                used * 100.0
            ),
            Self::Cpu { used, rule } => write!(
                f,
                "the host's CPU is {:.0} % busy (scaling.max_cpu is {rule})",
                used * 100.0
            ),
            Self::NotIdleYet { seconds, rule } => {
                write!(f, "idle for {seconds:.0} s; bots go after {rule:.0} s")
            }
        }
    }
}

fn tasks(n: u64) -> String {
    match n {
        1 => "1 task".to_owned(),
        n => format!("{n} tasks"),
    }
}

/// What became of one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolDecision {
    /// Its name.
    pub pool: String,
    /// Bots it shall have, so far.
    pub from: u32,
    /// From now on.
    pub to: u32,
    /// Why; empty where there is nothing to say.
    pub because: String,
}

/// All pools in one sentence: what changes, else what stays though it should not.
pub(super) fn reason(pools: &[PoolDecision], idle: bool) -> String {
    let changed: Vec<&PoolDecision> = pools.iter().filter(|pool| pool.from != pool.to).collect();
    let told = match changed.is_empty() {
        true => pools.iter().filter(|p| !p.because.is_empty()).collect(),
        false => changed,
    };
    if told.is_empty() {
        return match idle {
            true => "nothing to do".to_owned(),
            false => "there are enough bots".to_owned(),
        };
    }
    let mut words: Vec<String> = told
        .iter()
        .take(MAX_NAMED)
        .map(|pool| match pool.from == pool.to {
            true => format!("{} stays at {}: {}", pool.pool, pool.to, pool.because),
            false => format!(
                "{} {} -> {}: {}",
                pool.pool, pool.from, pool.to, pool.because
            ),
        })
        .collect();
    if told.len() > MAX_NAMED {
        words.push(format!("and {} more pools", told.len() - MAX_NAMED));
    }
    words.join("; ")
}
