//! Bots.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bot::{Actual, BotEnd, BotType, LastExit, Wanted};
use crate::time::Timestamp;

/// `GET /api/bots`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotList {
    /// Every bot, in the order of the pools.
    pub bots: Vec<BotView>,
    /// How many.
    pub count: usize,
}

/// `GET /api/bots/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotView {
    /// Its name.
    pub id: String,
    /// Its pool.
    pub pool: String,
    /// What it is good at.
    #[serde(rename = "type")]
    pub bot_type: BotType,
    /// What it offers.
    pub specializations: Vec<String>,
    /// What the fleet wants of it.
    pub wanted: Wanted,
    /// What it is.
    pub actual: Actual,
    /// Its process.
    pub pid: Option<u32>,
    /// Since when it is what it is.
    pub since: Timestamp,
    /// Restarts since the daemon started.
    pub restarts: u64,
    /// The tasks it has.
    pub tasks: Vec<String>,
    /// Tasks at once.
    pub max_concurrent: u32,
    /// Moving average of its results, 0-1.
    pub success_rate: f64,
    /// CPU of its process, 0-1 per core; null when not sampled yet.
    pub cpu_percent: Option<f64>,
    /// Resident memory of its process; null when not sampled yet.
    pub memory_bytes: Option<u64>,
    /// The kind of its backend.
    pub backend: String,
    /// What its sandbox came to; null before it is ready.
    pub sandbox: Option<String>,
    /// How its last process ended.
    pub last_exit: Option<LastExit>,
    /// When it is started again, in backoff and quarantine.
    pub next_start_at: Option<Timestamp>,
    /// Processes it waits for that do not end, not even by SIGKILL.
    #[serde(default)]
    pub blocked_by: Vec<String>,
    /// Its release, where it is another than the daemon's: it is started anew once it is idle.
    #[serde(default)]
    pub version: Option<String>,
    /// For people: what happened, how often, what comes next and when.
    #[serde(default)]
    pub explanation: String,
    /// Ends it was not asked for, within `supervision.restart_intensity.seconds`.
    #[serde(default)]
    pub recent_ends: u32,
    /// Its last ends since the daemon started, newest first.
    #[serde(default)]
    pub ends: Vec<BotEnd>,
    /// When a heartbeat last told of new output of its tasks.
    #[serde(default)]
    pub progress_at: Option<Timestamp>,
}

/// Answer to start, stop, restart and interrupt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BotActionAnswer {
    /// Whether it was done or is being done.
    pub success: bool,
    /// Its name.
    pub bot_id: String,
    /// What it is now.
    pub actual: Actual,
    /// For people.
    pub message: String,
}
