//! Health, alerts and degraded operation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::time::Timestamp;

/// How bad an alert is; the least first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertLevel {
    /// Good to know.
    Info,
    /// Something is wrong, and work goes on.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl AlertLevel {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Its name: one for each thing that can be wrong, always the same.
    pub alert_id: String,
    /// What kind of trouble it is.
    pub alert_type: String,
    /// How bad it is now, or was when it was resolved.
    pub level: AlertLevel,
    /// A few words.
    pub title: String,
    /// One sentence with the figures of now.
    pub message: String,
    /// When it was raised.
    pub timestamp: Timestamp,
    /// Whether it is over, or an operator has resolved it.
    pub resolved: bool,
    /// Since when.
    pub resolved_at: Option<Timestamp>,
    /// The figures it came from, as last looked at.
    pub metrics: BTreeMap<String, Value>,
    /// When its level last changed.
    #[serde(default)]
    pub changed_at: Option<Timestamp>,
    /// `condition` where what it was about is over, `operator` where somebody resolved it.
    #[serde(default)]
    pub resolved_by: Option<String>,
}

/// Parameters of `GET /api/dashboard/alerts`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema, IntoParams,
)]
#[into_params(parameter_in = Query)]
pub struct AlertQuery {
    /// Only those of this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<AlertLevel>,
}

/// `GET /api/dashboard/alerts`: what is wrong now, the worst first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertList {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// How many.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// Answer of `POST /api/dashboard/alerts/{id}/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolveAnswer {
    /// It is resolved.
    pub success: bool,
    /// Which.
    pub alert_id: String,
    /// It is resolved.
    pub resolved: bool,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/dashboard/health/evaluate`. With any of these it is a question about made-up figures;
/// what is not given is then 0, `avg_success_rate` 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct HealthQuestion {
    /// Bots that shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bots: Option<u64>,
    /// Bots that do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_bots: Option<u64>,
    /// Tasks that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_tasks: Option<u64>,
    /// Share of a bot's slots in use, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_bot_load: Option<f64>,
    /// The host's CPU in use, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_cpu_percent: Option<f64>,
    /// The host's memory in use, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_memory_percent: Option<f64>,
    /// Messages that wait for their bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_queue_size: Option<u64>,
    /// Messages that could not be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_message_failures: Option<u64>,
    /// Share of attempts that succeed, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_success_rate: Option<f64>,
}

/// The figures that alerts are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthMetrics {
    /// When they were taken.
    pub timestamp: Timestamp,
    /// Bots that shall run.
    pub total_bots: u64,
    /// Those of them that run or are being started; not those in back-off or quarantine.
    pub active_bots: u64,
    /// Tasks that wait for a bot.
    pub queued_tasks: u64,
    /// Share of the bots' slots in use, 0-1.
    pub avg_bot_load: f64,
    /// The host's CPU in use since the sample before, 0-1.
    pub system_cpu_percent: f64,
    /// The host's memory in use, 0-1.
    pub system_memory_percent: f64,
    /// Messages that wait for their bot.
    pub message_queue_size: u64,
    /// Messages that expired within the last hour.
    pub pending_message_failures: u64,
    /// Share of attempts that succeeded of late, 0-1.
    pub avg_success_rate: f64,
    /// Alerts that stand.
    pub alert_count: u64,
    /// Critical ones.
    pub critical_alerts: u64,
}

/// Answer to [`HealthQuestion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthEvaluation {
    /// Now.
    pub timestamp: Timestamp,
    /// The figures: the fleet's, or those that were given.
    pub metrics: HealthMetrics,
    /// How many alerts they come to.
    pub active_alerts: u64,
    /// They were looked at.
    pub health_evaluated: bool,
    /// The figures were given: nothing of it is true of the fleet, and nothing is kept.
    pub made_up: bool,
    /// `healthy`, `warning` or `critical`.
    pub overall_status: String,
    /// 0-100.
    pub health_score: f64,
    /// The alerts.
    pub alerts: Vec<Alert>,
}

/// `GET /api/dashboard/health`: the original's shape and the one its guide promised, in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DashboardHealth {
    /// Now.
    pub timestamp: Timestamp,
    /// `healthy`, `warning` or `critical`: the worst alert that stands.
    pub overall_status: String,
    /// 0-100: 20 less for each critical alert, 10 for each warning, 2 for each note, 5 for a CPU or a
    /// memory over 0.8, 10 for a success rate under 0.9.
    pub health_score: f64,
    /// The figures of the last sample.
    pub metrics: HealthMetrics,
    /// What is wrong now, the worst first.
    pub active_alerts: Vec<Alert>,
    /// The last hundred of 24 hours, the oldest first.
    pub recent_alerts: Vec<Alert>,
    /// Counts of `active_alerts`.
    pub alert_summary: AlertSummary,
    /// The bots.
    pub bot_health: BotHealth,
    /// The host.
    pub system_resources: SystemResources,
    /// What waits.
    pub queue_status: QueueCounts,
    /// The host, as the guide has it.
    pub system: SystemHealth,
    /// The bots, as the guide has them.
    pub bots: BotsHealth,
    /// What waits, as the guide has it.
    pub queue: QueueHealth,
    /// `ok`, or what is not.
    pub services: Services,
    /// Counts of alerts, as the guide has them.
    pub alerts: AlertCounts,
    /// `feature_flags` of the configuration.
    pub feature_flags: BTreeMap<String, bool>,
    /// What is switched off for now, and why.
    pub degradation: DegradationView,
    /// When the last sample was taken.
    pub sampled_at: Timestamp,
}

/// Alerts by level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct AlertSummary {
    /// All.
    pub total_active: u64,
    /// Critical ones.
    pub critical: u64,
    /// Warnings.
    pub warning: u64,
    /// Notes.
    pub info: u64,
}

/// The bots, in the original's words.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct BotHealth {
    /// Shall run.
    pub total: u64,
    /// Run or are being started.
    pub active: u64,
    /// The others.
    pub inactive: u64,
    /// Share of their slots in use, 0-1.
    pub avg_load: f64,
    /// Share of attempts that succeeded of late, 0-1.
    pub avg_success_rate: f64,
}

/// The host, in the original's words.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct SystemResources {
    /// CPU in use, 0-1.
    pub cpu_percent: f64,
    /// Memory in use, 0-1.
    pub memory_percent: f64,
}

/// What waits, in the original's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueCounts {
    /// Tasks that wait for a bot.
    pub queued_tasks: u64,
    /// Messages that wait for their bot.
    pub pending_messages: u64,
    /// Messages that expired within the last hour.
    pub failed_messages: u64,
}

/// The host, in the guide's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SystemHealth {
    /// CPU in use, 0-1.
    pub cpu_percent: f64,
    /// Memory in use, 0-1.
    pub memory_percent: f64,
    /// `ok`, `warning` or `critical`.
    pub status: String,
    /// Bytes that are free where HOME is; null where the operating system does not tell.
    pub disk_free_bytes: Option<u64>,
}

/// The bots, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotsHealth {
    /// Shall run.
    pub total: u64,
    /// Run or are being started.
    pub healthy: u64,
    /// The others.
    pub unhealthy: u64,
    /// Share of their slots in use, 0-1.
    pub avg_load: f64,
}

/// What waits, in the guide's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueHealth {
    /// Tasks that wait for a bot.
    pub depth: u64,
    /// Milliseconds the last tasks waited for a bot, on average.
    pub avg_wait_time_ms: f64,
    /// Seconds the oldest of them has waited.
    pub oldest_seconds: f64,
    /// `ok` or `warning`.
    pub status: String,
}

/// Each `ok`, or what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Services {
    /// `ok` or `disabled`.
    pub messaging: String,
    /// Routing by what was learned: `ok`, `disabled` or `degraded`.
    pub scheduling: String,
    /// `ok`, `degraded`, `draining` or `unavailable`.
    pub orchestration: String,
    /// `ok` or `disabled`.
    pub audit: String,
}

/// Alerts, in the guide's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertCounts {
    /// All.
    pub active: u64,
    /// Critical ones.
    pub critical: u64,
    /// Warnings.
    pub warnings: u64,
}

/// What the fleet does without for now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct DegradationView {
    /// `full`, `degraded` or `maintenance`.
    pub mode: String,
    /// `memory_pressure`, `high_load`, `bot_failure`, `storage_full`, `dependency_failure`, `manual`.
    pub reasons: Vec<String>,
    /// Features that are off for that: `adaptive_scheduling`, `auto_scaling`, `analytics`, `predictive_scaling`.
    pub disabled_features: Vec<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The bot with the best record for the CPU it takes; null where there is none.
    pub fallback_bot: Option<String>,
}

/// What is answered where `feature_flags.health_monitoring_enabled` is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthDisabled {
    /// `disabled`.
    pub status: String,
    /// Which setting it is.
    pub message: String,
    /// `feature_flags` of the configuration.
    pub feature_flags: BTreeMap<String, bool>,
    /// Now.
    pub timestamp: Timestamp,
}
