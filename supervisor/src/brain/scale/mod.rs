//! How many bots each pool shall have, by load.
//!
//! ```text
//!   what waits, and which pools could take it --.
//!   bots that work, start, fail, are held  -----+--> one round --> wanted --> plan --> pick
//!   load since the last round, host's CPU, RAM -'      |   ^
//!                                                      v   |
//!                              Memory of each pool: idle since when, last steps, patience
//! ```
//!
//! **Up**, in this order, within the limits (`round.rs`):
//! - the *first bot*: tasks wait that no bot can take, working or starting. At once, whatever the host
//!   says and however short ago the last step was; without it they would never be done. Where the whole
//!   fleet has its maximum, a pool that can spare a bot gives way;
//! - the *queue*: `queue_per_bot` tasks wait for each bot that serves them. As many bots as bring that
//!   down, at most as many as the pool has;
//! - the *oldest* task has waited `oldest_seconds`: one bot;
//! - the *load*: for `idle_seconds` the fleet was busier than [`LOAD_UP`] and the pool's bots than
//!   [`BOT_LOAD_UP`]: one bot, before anything has to wait.
//!
//! None of the last three while the host is over `max_memory` or `max_cpu`, within `up_cooldown_seconds`
//! of the pool's last step, while half of its bots fail, or while its model server is full: a bot more
//! would not help. A bot that fails or is held back by an operator is no capacity, but it has a place.
//!
//! **Down**, one bot at a time, when for `idle_seconds` nothing waited and the load was at most
//! [`LOAD_DOWN`] (for a pool's last bot: nothing at all came), `down_cooldown_seconds` after the pool's
//! last step. Any work in between begins the time anew.
//!
//! **It does not swing.** A bot goes at a load of 0.3 and comes at 0.7: with two bots and more, one less
//! never makes one more necessary. Where a pool still wants a bot back soon after one went, its
//! *patience* doubles: the next time bots must be idle twice as long, at most [`MAX_PATIENCE`] times. So a
//! load that comes and goes costs few starts, however it is timed.
//!
//! The thresholds are those of the Python original; its faults are not: its idle time ran on through
//! busy times, it never reached its minimum by itself, and one evaluation added one bot at most.

mod hand;
mod pressure;
mod round;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use deia::config::{BackendSpec, EchoSpec, Pool, Scaling};

pub use self::pressure::{Asked, Backlog};
use self::round::Round;
pub use self::words::{Direction, PoolDecision};
use super::plan::{Limits, plan};
use super::{Millis, millis};

/// The fleet is busy above this share of its slots ...
pub const LOAD_UP: f64 = 0.7;

/// ... and a pool above this.
pub const BOT_LOAD_UP: f64 = 0.6;

/// A pool has a bot too many at or below this.
pub const LOAD_DOWN: f64 = 0.3;

/// A pool whose bots were needed again soon after they went keeps them at most so many times longer.
pub const MAX_PATIENCE: u32 = 8;

/// What is known of the bots of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PoolFigures {
    /// Tasks at once in one bot.
    pub slots: u32,
    /// Bots that take tasks.
    pub working: u32,
    /// Bots that are being started, or started anew.
    pub starting: u32,
    /// Bots that end by themselves: in back-off or quarantine.
    pub failing: u32,
    /// Bots an operator stopped.
    pub held: u32,
    /// Bots that are wanted no more and finish what they have.
    pub leaving: u32,
    /// Tasks its bots have.
    pub busy: u32,
    /// Share of the slots that was in use since the last evaluation, 0..1.
    pub load: f64,
    /// Its model server takes no more requests now.
    pub server_full: bool,
}

impl PoolFigures {
    /// Bots that work or soon will.
    pub fn supply(&self) -> u32 {
        self.working + self.starting
    }
}

/// How the host stands; fractions. `None` where the operating system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Host {
    /// CPU in use, over all processors, since the last sample.
    pub cpu: Option<f64>,
    /// Memory in use.
    pub memory: Option<f64>,
}

/// What an evaluation looks at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// In the order of the pools.
    pub pools: Vec<PoolFigures>,
    /// What waits.
    pub backlogs: Vec<Backlog>,
    /// Share of all slots that was in use since the last evaluation, 0..1.
    pub load: f64,
    /// The host.
    pub host: Host,
}

impl Inputs {
    /// Tasks that wait.
    pub fn waiting(&self) -> u64 {
        self.backlogs.iter().map(|backlog| backlog.waiting).sum()
    }

    /// How long the oldest of them has waited.
    pub fn oldest_seconds(&self) -> f64 {
        let ages = self.backlogs.iter().map(|backlog| backlog.oldest_seconds);
        ages.fold(0.0, f64::max)
    }
}

/// What the fleet may have, and by which rules.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The pools.
    pub pools: &'a [Pool],
    /// The limits in force.
    pub limits: Limits,
    /// The fleet does without bots by load for a while, but the first of a pool.
    pub no_growth: bool,
    /// ... or only without those that come ahead of what waits.
    pub none_ahead: bool,
    /// The thresholds.
    pub rules: &'a Scaling,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Which way the fleet goes; up where some pools grow and others shrink.
    pub direction: Option<Direction>,
    /// Why, for people.
    pub reason: String,
    /// Each pool.
    pub pools: Vec<PoolDecision>,
}

impl Evaluation {
    /// Nothing is to be done, because ...
    pub fn nothing(reason: impl Into<String>) -> Self {
        Self {
            direction: None,
            reason: reason.into(),
            pools: Vec::new(),
        }
    }
}

/// Made-up figures, as the Python original took them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Share of all slots in use.
    pub load: f64,
    /// Tasks that wait.
    pub waiting: u64,
    /// Share of a bot's slots in use.
    pub bot_load: f64,
    /// Bots.
    pub bots: u32,
}

/// What is remembered of a pool between two evaluations.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Memory {
    wanted: u32,
    idle_since: Option<Millis>,
    busy_since: Option<Millis>,
    up: Option<Millis>,
    down: Option<Millis>,
    /// When a bot last went because it was idle, if none came since.
    let_go: Option<Millis>,
    patience: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            wanted: 0,
            idle_since: None,
            busy_since: None,
            up: None,
            down: None,
            let_go: None,
            patience: 1,
        }
    }
}

impl Memory {
    /// How long its bots must be idle before one goes.
    fn idle(&self, rules: &Scaling) -> Millis {
        millis(rules.idle_seconds).saturating_mul(self.patience.into())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scaler {
    pools: HashMap<String, Memory>,
}

impl Scaler {
    /// What scaling asks for, in the order of the pools.
    pub fn wanted(&self, pools: &[Pool]) -> Vec<u32> {
        pools.iter().map(|pool| self.memory(pool).wanted).collect()
    }

    /// What the fleet has been given: what is beyond the limits is asked for no more, and a pool that is gone is
    /// forgotten.
    pub fn settle(&mut self, pools: &[Pool], counts: &[u32]) {
        self.pools = pools
            .iter()
            .zip(counts)
            .map(|(pool, count)| {
                let mut memory = self.memory(pool);
                memory.wanted = *count;
                (pool.name.clone(), memory)
            })
            .collect();
    }

    /// Looks at everything, decides, and remembers the decision.
    pub fn evaluate(&mut self, setting: Setting<'_>, inputs: &Inputs, now: Millis) -> Evaluation {
        let mut round = self.round(setting, inputs, now);
        round.first_bots();
        round.grow();
        round.shrink();
        self.conclude(round)
    }

    /// Looks only whether tasks wait that no bot can take. `None`: nothing can be done about it.
    pub fn look(
        &mut self,
        setting: Setting<'_>,
        inputs: &Inputs,
        now: Millis,
    ) -> Option<Evaluation> {
        let mut round = self.round(setting, inputs, now);
        round.first_bots();
        round.is_change().then(|| self.conclude(round))
    }

    /// An operator wants so many more bots (fewer, where it is negative), of one pool or wherever they are
    /// needed most (least), as far as the limits allow; also says why not all. Scaling goes on from there.
    pub fn by_hand(
        &mut self,
        setting: Setting<'_>,
        inputs: &Inputs,
        pool: Option<usize>,
        change: i64,
        now: Millis,
    ) -> (Evaluation, Option<String>) {
        let mut round = self.round(setting, inputs, now);
        let short = round.by_hand(pool, change);
        (self.conclude(round), short)
    }

    /// What would be decided for these figures, had they been so for long. Nothing is remembered.
    pub fn what_if(
        &self,
        figures: Figures,
        limits: Limits,
        rules: &Scaling,
        host: Host,
        now: Millis,
    ) -> Evaluation {
        let pools = [Pool::new("fleet", BackendSpec::Echo(EchoSpec::default()))];
        // So that "for long" fits into the daemon's time.
        let past = millis(rules.idle_seconds).saturating_add(1);
        let later = |at: Option<Millis>| at.map(|at| at.saturating_add(past));
        let memory = Memory {
            wanted: figures.bots,
            idle_since: Some(0),
            busy_since: Some(0),
            up: later(self.pools.values().filter_map(|pool| pool.up).max()),
            down: later(self.pools.values().filter_map(|pool| pool.down).max()),
            ..Memory::default()
        };
        let fleet = PoolFigures {
            slots: 1,
            working: figures.bots,
            busy: figures.bots,
            load: figures.bot_load,
            ..PoolFigures::default()
        };
        let inputs = Inputs {
            pools: vec![fleet],
            backlogs: vec![Backlog {
                pools: vec![true],
                asked: None,
                waiting: figures.waiting,
                oldest_seconds: pressure::MOMENT_SECONDS,
            }],
            load: figures.load,
            host,
        };
        let setting = Setting {
            no_growth: false,
            none_ahead: false,
            pools: &pools,
            limits,
            rules,
        };
        let mut alone = Self::default();
        alone.pools.insert(pools[0].name.clone(), memory);
        alone.evaluate(setting, &inputs, now.saturating_add(past))
    }

    fn memory(&self, pool: &Pool) -> Memory {
        self.pools.get(&pool.name).copied().unwrap_or_default()
    }

    fn round<'a>(&self, setting: Setting<'a>, inputs: &'a Inputs, now: Millis) -> Round<'a> {
        let counts = plan(setting.pools, setting.limits, &self.wanted(setting.pools));
        let memory = setting.pools.iter().map(|pool| self.memory(pool));
        Round::new(setting, inputs, now, counts, memory.collect())
    }

    fn conclude(&mut self, round: Round<'_>) -> Evaluation {
        let (memory, evaluation) = round.end();
        self.pools = evaluation
            .pools
            .iter()
            .map(|decision| decision.pool.clone())
            .zip(memory)
            .collect();
        evaluation
    }
}
