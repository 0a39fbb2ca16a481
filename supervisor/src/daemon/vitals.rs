//! What the main loop and those who watch the fleet's health tell each other.

use std::sync::Arc;

use deia::bot::{Actual, Wanted};

use super::command::Reply;
use crate::brain::Millis;
use crate::brain::servers::{Kind, Seen};
use crate::brain::tally::{Counts, Routing};

/// What can be asked of the main loop, or told it, about health.
#[derive(Debug)]
pub enum AskHealth {
    /// How the fleet stands.
    Vitals {
        /// The answer.
        reply: Reply<Vitals>,
    },
    /// Model servers were asked whether they are there.
    Probed(Vec<(Arc<str>, Result<(), String>)>),
    /// The fleet is to do without this for a while.
    DoWithout(Without),
}

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Vitals {
    /// The main loop's clock.
    pub now: Millis,
    /// Every bot, in the order of the pools.
    pub bots: Vec<BotVitals>,
    /// Tasks that wait for a bot.
    pub queued: u64,
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that bots have.
    pub running: u64,
    /// Seconds the oldest of those that wait for a bot has waited.
    pub oldest_seconds: f64,
    /// Milliseconds the last tasks waited for their bot, on average.
    pub average_wait_ms: f64,
    /// Since the daemon's start.
    pub counts: Counts,
    /// Moving average of failures among attempts; `None` before the first end.
    pub failure_rate: Option<f64>,
    /// How long choices of bots take.
    pub routing: Routing,
    /// The model servers.
    pub servers: Vec<Seen>,
    /// New tasks are refused by an operator's limits.
    pub is_drained: bool,
    /// The store takes no writes.
    pub store_fails: bool,
}

/// A bot at that moment.
#[derive(Debug, Clone, PartialEq)]
pub struct BotVitals {
    /// Its name.
    pub id: Arc<str>,
    /// Its pool.
    pub pool: String,
    /// Its process.
    pub pid: Option<u32>,
    /// What it is.
    pub actual: Actual,
    /// What it shall be.
    pub wanted: Wanted,
    /// Tasks it has.
    pub tasks: u32,
    /// Tasks it may have at once.
    pub slots: u32,
    /// Moving average of its results, 0..1.
    pub success_rate: f64,
}

impl BotVitals {
    /// Whether it runs or is being started, as it shall.
    pub fn is_active(&self) -> bool {
        use Actual::{Busy, Draining, Ready, Starting, Stopping};
        // One that is started anew is on its way.
        matches!(self.actual, Ready | Busy | Starting | Draining | Stopping)
    }
}

/// What the fleet does without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Without {
    /// What was learned does not steer.
    pub adaptive: bool,
    /// No bots are added by load, but the first of a pool.
    pub growth: bool,
    /// No bot is added ahead of what waits.
    pub ahead: bool,
    /// Why, for `/health`.
    pub reasons: Vec<String>,
}

/// Which model servers are to be asked whether they are there, and how soon.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Probing {
    /// All that some pool may ask.
    pub servers: Vec<Probe>,
    /// Tasks wait for one that does not answer: it is asked every second.
    pub is_urgent: bool,
}

/// A server to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Its address.
    pub url: Arc<str>,
    /// How it is asked.
    pub kind: Kind,
    /// It does not answer.
    pub is_down: bool,
}
