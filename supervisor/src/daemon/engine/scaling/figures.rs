//! The fleet in figures: for scaling to decide by, and for people.

use std::collections::HashMap;
use std::sync::Arc;

use deia::api::{PoolEvaluation, ScalingAction, ScalingEvaluation, ScalingTrigger};
use deia::bot::{Actual, Wanted};
use deia::config::Config;
use deia::time::Timestamp;

use crate::brain::Millis;
use crate::brain::pick::Standing;
use crate::brain::scale::{Asked, Direction, Evaluation, Host, Inputs, PoolFigures};
use crate::daemon::engine::Engine;
use crate::daemon::engine::bots::BotEntry;

/// How much the bots have had to do since the last evaluation.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    bots: HashMap<Arc<str>, Gauge>,
    since: Millis,
}

/// One bot's.
#[derive(Debug, Default)]
struct Gauge {
    tasks: u32,
    since: Millis,
    /// Tasks times milliseconds, up to `since`.
    area: u64,
}

impl Gauge {
    fn area(&self, now: Millis) -> u64 {
        self.area + u64::from(self.tasks) * now.saturating_sub(self.since)
    }
}

impl Gauges {
    /// A bot has so many tasks now.
    pub fn set(&mut self, bot: &Arc<str>, tasks: u32, now: Millis) {
        let gauge = match self.bots.get_mut(bot) {
            Some(gauge) => gauge,
            None => self.bots.entry(bot.clone()).or_default(),
        };
        gauge.area = gauge.area(now);
        gauge.since = now;
        gauge.tasks = tasks;
    }

    /// Tasks the bot had at once, on average.
    fn average(&self, bot: &str, now: Millis) -> f64 {
        let span = now.saturating_sub(self.since).max(1) as f64;
        let gauge = self.bots.get(bot);
        gauge.map_or(0.0, |gauge| gauge.area(now) as f64 / span)
    }

    /// Everything counts from now.
    pub fn begin(&mut self, now: Millis) {
        self.since = now;
        self.bots.retain(|_, gauge| gauge.tasks > 0);
        for gauge in self.bots.values_mut() {
            gauge.area = 0;
            gauge.since = now;
        }
    }
}

impl Engine {
    /// How the fleet stands, as scaling sees it.
    pub(super) fn scaling_inputs(&self, host: Host) -> Inputs {
        let mut pools: Vec<PoolFigures> = self
            .config
            .bots
            .iter()
            .enumerate()
            .map(|(n, pool)| PoolFigures {
                slots: self.slots_of(pool),
                server_full: self.dispatcher.is_server_full(n),
                ..PoolFigures::default()
            })
            .collect();
        let names = self.config.bots.iter().enumerate();
        let position: HashMap<&str, usize> = names.map(|(n, p)| (p.name.as_str(), n)).collect();
        let mut used = vec![0.0; pools.len()];
        let now = self.now();
        for (id, entry) in &self.bots {
            let Some(pool) = position.get(entry.spec.name.as_str()).copied() else {
                continue;
            };
            count(&mut pools[pool], entry, self.dispatcher.tries_alone(id));
            used[pool] += self.scaling.gauges.average(id, now);
        }
        let share = |used: f64, slots: u32| (used / f64::from(slots.max(1))).min(1.0);
        let slots = |pool: &PoolFigures| pool.supply().saturating_mul(pool.slots);
        for (pool, used) in pools.iter_mut().zip(&used) {
            pool.load = share(*used, slots(pool));
        }
        let all = pools.iter().map(slots).fold(0, u32::saturating_add);
        Inputs {
            load: share(used.iter().sum(), all),
            backlogs: self
                .dispatcher
                .backlogs(Timestamp::now(), |bot| self.stands(bot)),
            pools,
            host,
        }
    }

    /// How a bot stands that tasks ask for by name.
    fn stands(&self, bot: &str) -> Asked {
        let Some(entry) = self.bots.get(bot).filter(|entry| !entry.retired) else {
            return Asked::Absent;
        };
        match entry.machine.actual() {
            _ if entry.held => Asked::Out,
            Actual::Backoff | Actual::Quarantined => Asked::Out,
            _ => Asked::Serves,
        }
    }
}

/// Adds a bot to its pool's figures. `alone`: nothing is put beside what it has.
fn count(pool: &mut PoolFigures, entry: &BotEntry, alone: bool) {
    match entry.machine.actual() {
        _ if entry.retired => pool.leaving += 1,
        _ if entry.held => pool.held += 1,
        Actual::Ready | Actual::Busy => {
            pool.working += 1;
            let has = entry.tasks.values().sum::<u32>();
            pool.busy += if alone { pool.slots.max(has) } else { has };
        }
        Actual::Backoff | Actual::Quarantined => pool.failing += 1,
        // Started anew, if it is on its way out.
        Actual::Starting | Actual::Draining | Actual::Stopping | Actual::Stopped => {
            if entry.machine.wanted() == Wanted::Running {
                pool.starting += 1;
            }
        }
    }
}

/// How a bot stands, for keeping it.
pub(super) fn standing(entry: &BotEntry) -> Standing {
    match entry.machine.actual() {
        _ if entry.retired => Standing::Leaving,
        _ if entry.held => Standing::Held,
        Actual::Backoff | Actual::Quarantined => Standing::Failing,
        _ if !entry.tasks.is_empty() => Standing::Busy,
        Actual::Ready | Actual::Busy => Standing::Idle,
        _ => Standing::Starting,
    }
}

/// An evaluation as the API shows it.
pub(super) fn shown(
    trigger: ScalingTrigger,
    inputs: &Inputs,
    evaluation: Evaluation,
    config: &Config,
) -> ScalingEvaluation {
    let decided = |name: &str| evaluation.pools.iter().find(|pool| pool.pool == name);
    let pools = config.bots.iter().zip(&inputs.pools);
    let pools = pools.map(|(pool, figures)| {
        let decided = decided(&pool.name);
        let there = figures.supply() + figures.failing + figures.held;
        PoolEvaluation {
            name: pool.name.clone(),
            from: decided.map_or(there, |pool| pool.from),
            to: decided.map_or(there, |pool| pool.to),
            reason: decided.map_or_else(String::new, |pool| pool.because.clone()),
            working: figures.working,
            starting: figures.starting,
            failing: figures.failing,
            held: figures.held,
            leaving: figures.leaving,
            load: rounded(figures.load),
        }
    });
    ScalingEvaluation {
        timestamp: Timestamp::now(),
        trigger,
        decision: evaluation.direction.map(|direction| match direction {
            Direction::Up => ScalingAction::ScaleUp,
            Direction::Down => ScalingAction::ScaleDown,
        }),
        pools: pools.collect(),
        reason: evaluation.reason,
        waiting: inputs.waiting(),
        oldest_seconds: rounded(inputs.oldest_seconds()),
        load: rounded(inputs.load),
        cpu: inputs.host.cpu.map(rounded),
        memory: inputs.host.memory.map(rounded),
    }
}

/// As precise as it is of use to people.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_knows_the_average_since_it_was_begun() {
        let mut gauges = Gauges::default();
        let bot: Arc<str> = "b".into();
        gauges.begin(1_000);
        assert_eq!(gauges.average("b", 1_000), 0.0);
        gauges.set(&bot, 2, 1_000);
        gauges.set(&bot, 1, 2_000);
        assert_eq!(gauges.average("b", 3_000), 1.5);
        gauges.set(&bot, 0, 3_000);
        assert_eq!(gauges.average("b", 4_000), 1.0);
        // What it still has goes on counting, what is over does not.
        gauges.set(&bot, 1, 4_000);
        gauges.begin(5_000);
        assert_eq!(gauges.average("b", 6_000), 1.0);
        gauges.set(&bot, 0, 6_000);
        gauges.begin(6_000);
        assert_eq!(gauges.average("b", 9_000), 0.0);
        assert!(
            gauges.bots.is_empty(),
            "nothing is kept of bots without work"
        );
    }
}
