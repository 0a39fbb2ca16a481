//! What bots' processes take, one bot at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::time::Timestamp;

/// Parameters of `GET /api/monitoring/process/{bot_id}`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema, IntoParams,
)]
#[into_params(parameter_in = Query)]
pub struct ProcessQuery {
    /// A process that must be one of the bot's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// `GET /api/monitoring/process/{bot_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotProcesses {
    /// The bot.
    pub bot_id: String,
    /// What its processes take.
    pub health: ProcessHealth,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /api/monitoring/process/all/health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AllProcesses {
    /// By bot.
    pub bots: BTreeMap<String, ProcessHealth>,
    /// How many.
    pub total_bots: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// What the processes of a bot take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ProcessHealth {
    /// As last seen.
    Seen(Box<SeenProcess>),
    /// Nothing.
    NotSeen {
        /// Why.
        status: WhyNotSeen,
    },
}

/// Why nothing is known of a bot's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyNotSeen {
    /// It has no process, or was not looked at yet.
    NoData,
    /// Health monitoring is off.
    Disabled,
}

/// A bot's processes, as last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeenProcess {
    /// The bot.
    pub bot_id: String,
    /// `healthy`, or `warning` where `alerts` says something.
    pub status: String,
    /// The figures.
    pub latest_metrics: ProcessMetrics,
    /// How its memory has gone; null while too little is known.
    pub memory_trend: Option<MemoryTrend>,
    /// What is too much.
    pub alerts: Vec<String>,
    /// Now.
    pub timestamp: Timestamp,
}

/// Figures of a bot and all it has started, together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessMetrics {
    /// The bot.
    pub bot_id: String,
    /// When they were taken.
    pub timestamp: Timestamp,
    /// The bot's own process.
    pub pid: u32,
    /// How many processes there are.
    pub processes: u64,
    /// MiB of resident memory.
    pub memory_mb: f64,
    /// Its share of the host's, 0-1.
    pub memory_percent: f64,
    /// MiB of resident memory.
    pub rss_mb: f64,
    /// MiB of address space.
    pub vms_mb: f64,
    /// Everything that is open: files, sockets, pipes. Null while the fleet is degraded.
    pub file_descriptors: Option<u64>,
    /// Threads.
    pub thread_count: u64,
    /// Open sockets. Null while the fleet is degraded.
    pub open_connections: Option<u64>,
    /// CPU since the sample before, 0-1 for each processor; at the first sample since its process began.
    pub cpu_percent: f64,
    /// The same as `file_descriptors`.
    pub num_fds: Option<u64>,
}

/// How memory has gone over the last hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryTrend {
    /// More than 10 MiB an hour, over three samples and ten minutes at least.
    pub is_leaking: bool,
    /// MiB an hour; negative where it shrinks.
    pub growth_rate_mb_per_hour: f64,
    /// Over how long.
    pub duration_minutes: f64,
}

/// `GET /api/monitoring/process/{bot_id}/memory-leak`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeakAnswer {
    /// The bot.
    pub bot_id: String,
    /// Its memory grows without end.
    pub is_leaking: bool,
    /// For people.
    pub message: String,
    /// MiB an hour; not there while too little is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth_rate_mb_per_hour: Option<f64>,
    /// Over how long; not there while too little is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_minutes: Option<f64>,
    /// What it comes from; not there while too little is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurements: Option<Vec<MemoryMeasurement>>,
    /// Now.
    pub timestamp: Timestamp,
}

/// A bot's memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryMeasurement {
    /// When.
    pub timestamp: Timestamp,
    /// MiB.
    pub memory_mb: f64,
}
