//! The daemon itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::{BotView, Confinement, ReleaseView};
use crate::time::Timestamp;

/// How the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// All is well.
    Ok,
    /// It works, and something is wrong.
    Degraded,
    /// It finishes and takes nothing new.
    Draining,
}

/// `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// How it is.
    pub status: HealthState,
    /// Why, where not ok.
    pub reasons: Vec<String>,
    /// The pool's name (`main-bot` by default).
    pub bot_id: String,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /health/live` and `/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// `ok`, or `unavailable` with 503.
    pub status: String,
    /// Why, where not ok.
    pub reasons: Vec<String>,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The first pool's name.
    pub bot_id: String,
    /// `idle` or `working`.
    pub status: String,
    /// One running task, where there is one.
    pub current_task: Option<String>,
    /// The port it listens on.
    pub port: u16,
    /// The daemon's pid.
    pub pid: u32,
    /// Now.
    pub timestamp: Timestamp,
    /// Of the program.
    pub version: String,
    /// Of the configuration: counts applied ones.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Where the configuration came from.
    pub config: ConfigSource,
    /// Every bot.
    pub bots: Vec<BotView>,
    /// Tasks by status.
    pub queue: QueueView,
    /// Texts with dangerous content, since the start.
    #[serde(default)]
    pub validation: ValidationCounts,
    /// The home directory.
    pub home: String,
    /// Which release runs, and how the last upgrade ended.
    #[serde(default)]
    pub release: Option<ReleaseView>,
    /// How far bots can be confined on this host; null from a daemon that does not say.
    pub confinement: Option<Confinement>,
}

/// How often each dangerous pattern was found since the daemon started, by the pattern's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ValidationCounts {
    /// In texts that were refused.
    pub refused: BTreeMap<String, u64>,
    /// In texts that were let pass.
    pub noted: BTreeMap<String, u64>,
}

/// Where the configuration came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigSource {
    /// `file`, `last_good` where the file was refused, or `defaults`.
    #[serde(default)]
    pub source: String,
    /// The file; null for built-in defaults.
    pub file: Option<String>,
    /// Counts applied ones.
    pub generation: u64,
    /// Values that fell back.
    pub load_errors: Vec<String>,
}

/// Tasks by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Wait for their time.
    pub scheduled: u64,
    /// Wait for a bot.
    pub queued: u64,
    /// With a bot.
    pub running: u64,
    /// Done.
    pub succeeded: u64,
    /// Failed for good.
    pub dead: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Waited too long.
    pub expired: u64,
}
