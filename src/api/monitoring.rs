//! What is seen of queue, failures and routes: `/api/monitoring/...`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::task::{Priority, TaskStatus, TaskType};
use crate::time::Timestamp;

/// `GET /api/monitoring/queue/status`. Times are of the last quarter of an hour, and 0 where nothing was measured
/// in it: `status` says that.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"queue_depth": 2, "scheduled": 0, "running": 4, "oldest_age_seconds": 0.8, "avg_queue_depth_recent": 1.4,
    "avg_queue_wait_ms": 210.5, "p95_queue_wait_ms": 800.0, "p99_queue_wait_ms": 912.0, "avg_execution_time_ms": 1830.0,
    "p95_execution_time_ms": 4100.0, "p99_execution_time_ms": 4700.0, "throughput_tasks_per_minute": 31.2, "measured_tasks": 468,
    "timestamp": "2026-01-31T12:00:00.000000Z"}))]
pub struct QueueStatus {
    /// `no_data`, where nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Tasks that wait for a bot.
    pub queue_depth: u64,
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that bots have.
    pub running: u64,
    /// How long the oldest has waited; null where none waits.
    pub oldest_age_seconds: Option<f64>,
    /// How many waited, on average over time.
    pub avg_queue_depth_recent: f64,
    /// From the moment a task could be given out to its bot.
    pub avg_queue_wait_ms: f64,
    /// 95 of 100 waited no longer.
    pub p95_queue_wait_ms: f64,
    /// 99 of 100 waited no longer.
    pub p99_queue_wait_ms: f64,
    /// Of an attempt.
    pub avg_execution_time_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_execution_time_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_execution_time_ms: f64,
    /// Tasks that succeeded, per minute.
    pub throughput_tasks_per_minute: f64,
    /// Attempts the times were measured on; the last thousand at most.
    pub measured_tasks: u64,
    /// Now.
    pub timestamp: Timestamp,
}

/// Something that holds tasks up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"type": "queue_wait", "severity": "high", "message": "tasks wait 1.2 s for a bot on average (more than 500 ms)",
    "metrics": {"avg_queue_wait_ms": 1200.0, "limit_ms": 500.0}}))]
pub struct Bottleneck {
    /// `queue_wait` or `execution_time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `medium`, or `high` from four times the limit on.
    pub severity: String,
    /// For people.
    pub message: String,
    /// The figures.
    pub metrics: BTreeMap<String, f64>,
}

/// `GET /api/monitoring/queue/bottlenecks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bottlenecks {
    /// What holds tasks up now.
    pub bottlenecks: Vec<Bottleneck>,
    /// How many.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// Failures of one kind of task, or of one bot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct FailureGroup {
    /// How many.
    pub count: u64,
    /// The tasks, newest first; at most a hundred.
    pub tasks: Vec<String>,
}

/// At least three failures within an hour, of one kind of task or of one bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailurePattern {
    /// `task_type:development`, `bot:coder`.
    pub pattern_id: String,
    /// `task_type` or `bot`.
    pub pattern_type: String,
    /// The kind of task, where that is what it is about.
    pub task_type: Option<String>,
    /// The bot, where that is what it is about.
    pub bot_id: Option<String>,
    /// The hour (UTC) of the last one.
    pub time_of_day: u8,
    /// In the last hour.
    pub failure_count: u64,
    /// Share of the attempts that ended in the last hour; 0 where none did, and only reports of clients are known.
    pub failure_rate: f64,
    /// The last one is no more than five minutes ago.
    pub is_active: bool,
}

/// `GET /api/monitoring/failures/stats`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FailureStats {
    /// `no_failures`, where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Attempts that failed or were lost with their bot, and failures that clients reported.
    pub total_failures_24h: u64,
    /// How many of them clients reported.
    pub reported_by_clients: u64,
    /// By kind of task. Of the newest 4,096 of the daemon's own and 1,024 of clients.
    pub by_task_type: BTreeMap<String, FailureGroup>,
    /// By bot.
    pub by_bot: BTreeMap<String, FailureGroup>,
    /// What repeats.
    pub failure_patterns: Vec<FailurePattern>,
    /// Now.
    pub timestamp: Timestamp,
}

/// A failure among those that cascade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecentFailure {
    /// The bot.
    pub bot_id: String,
    /// The kind of task.
    pub task_type: String,
    /// What went wrong: `backend`, `unavailable`, `timed_out`, `permanent`, `bot_lost`, `reported`.
    pub error_type: String,
}

/// `GET /api/monitoring/failures/cascade-risk`: whether failures of the last five minutes spread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"cascade_risk": "medium", "risk_level": "medium", "cascade_risk_score": 0.25, "recent_failures": 3,
    "bots_affected": 1, "task_types_affected": 1, "failure_pattern": [{"bot_id": "coder", "task_type": "development", "error_type": "backend"}],
    "affected_bots": ["coder"], "vulnerable_services": ["development"], "recommendations": ["look at bot coder: deiactl bot show coder"],
    "timestamp": "2026-01-31T12:00:00.000000Z"}))]
pub struct CascadeRisk {
    /// `high`: two bots and two kinds of task or more; `medium`: three failures or more; else `low`.
    pub cascade_risk: String,
    /// The same.
    pub risk_level: String,
    /// 0-1: below 0.25 low, below 0.6 medium, else high.
    pub cascade_risk_score: f64,
    /// Failures of the last five minutes.
    pub recent_failures: u64,
    /// How many bots.
    pub bots_affected: u64,
    /// How many kinds of task.
    pub task_types_affected: u64,
    /// The failures, newest first; at most twenty.
    pub failure_pattern: Vec<RecentFailure>,
    /// The bots.
    pub affected_bots: Vec<String>,
    /// The kinds of task.
    pub vulnerable_services: Vec<String>,
    /// What to do.
    pub recommendations: Vec<String>,
    /// Now.
    pub timestamp: Timestamp,
}

/// The failures of one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HourOfErrors {
    /// The hour of the day, UTC.
    pub hour: u8,
    /// When it began.
    pub from: Timestamp,
    /// How many.
    pub error_count: u64,
}

/// `GET /api/monitoring/failures/trends`, of the last day.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FailureTrends {
    /// By what went wrong.
    pub error_types: BTreeMap<String, u64>,
    /// The same.
    pub by_error_type: BTreeMap<String, u64>,
    /// How many in all.
    pub total_failures: u64,
    /// The same.
    pub total_errors: u64,
    /// The last hour against the one before: `increasing` or `decreasing` where they differ by three or more
    /// and by a quarter, else `stable`.
    pub trend: String,
    /// Hour by hour, oldest first; 24 of them.
    pub hourly_distribution: Vec<HourOfErrors>,
    /// Now.
    pub timestamp: Timestamp,
}

/// One bot, as a service: `GET /api/monitoring/api/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatus {
    /// The bot.
    pub bot_id: String,
    /// `healthy`: all is well; `degraded`: half of it or more; `critical`: less.
    pub status: String,
    /// What is well of: it is ready or busy; it has not ended unasked lately; its last attempt did not fail.
    pub endpoints_healthy: u32,
    /// Three.
    pub endpoints_total: u32,
    /// Failed attempts of those that ended in the last hour, 0-1.
    pub error_rate: f64,
    /// Of its attempts since the daemon's start; 0 before the first has ended.
    pub avg_response_time_ms: f64,
    /// Attempts that ended in the last hour.
    pub attempts_last_hour: u64,
}

/// One route of the daemon, as it was used since its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteStatus {
    /// The path, with its `{parameters}`; `unmatched` for paths there are not, `refused` for who was not let in.
    pub route: String,
    /// How often it was asked.
    pub requests: u64,
    /// Answers of 500 and more.
    pub server_errors: u64,
    /// Answers from 400 to 499.
    pub client_errors: u64,
    /// To the first byte of the answer.
    pub avg_response_time_ms: f64,
}

/// `GET /api/monitoring/api/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiStatus {
    /// Every bot.
    pub services: Vec<ServiceStatus>,
    /// `<bot>:cascade_risk` for each whose last three attempts failed.
    pub cascade_risk: Vec<String>,
    /// The daemon's own routes that were used.
    pub routes: Vec<RouteStatus>,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /api/monitoring/observability/history/{kind}?hours=&limit=`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ObservabilityQuery {
    /// How far back, 1-24 hours; 24 where nothing is said.
    pub hours: Option<u32>,
    /// Rows at most, the newest ones; 100 where nothing is said, 0 for all.
    pub limit: Option<u32>,
}

/// `GET /api/monitoring/observability/history/{kind}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"metric_type": "queue", "hours": 24, "count": 1, "data": [{"timestamp": "2026-01-31T12:00:00.000000Z",
    "queue_depth": 1.5, "throughput": 12}], "timestamp": "2026-01-31T12:00:30.000000Z"}))]
pub struct ObservabilityHistory {
    /// `process`, `queue`, `failures`, `api` or `health`.
    pub metric_type: String,
    /// How far back.
    pub hours: u32,
    /// The rows, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub data: Vec<serde_json::Value>,
    /// How many.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/monitoring/queue/add-task`: a task, submitted as by `POST /api/orchestrate`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"task_id": "nightly-7", "task_type": "writing", "priority": "P1", "content": "Draft the notes"}))]
pub struct AddTaskRequest {
    /// Its name.
    pub task_id: String,
    /// `general` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<TaskType>,
    /// `P2` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The task's text; the original had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// The answer to it, and to `complete-task`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueAnswer {
    /// Whether it was taken.
    pub success: bool,
    /// The task.
    pub task_id: String,
    /// Tasks that wait for a bot now.
    pub queue_depth: u64,
    /// Where it is.
    pub status: Option<TaskStatus>,
    /// The bot that has it, or had it last.
    pub routed_to: Option<String>,
    /// For people.
    pub message: Option<String>,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/monitoring/queue/complete-task`: what a caller believes became of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"task_id": "nightly-7", "success": true, "execution_time_seconds": 12.5}))]
pub struct CompleteTaskRequest {
    /// The task.
    pub task_id: String,
    /// How long it took; only noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time_seconds: Option<f64>,
    /// Whether it succeeded; it did where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
}

/// `POST /api/monitoring/failures/record`: a failure that a caller saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"task_id": "nightly-7", "bot_id": "coder", "task_type": "development", "error_message": "no answer", "error_code": 504}))]
pub struct FailureReport {
    /// The task.
    pub task_id: String,
    /// Whose; `unknown` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_id: Option<String>,
    /// What kind of work; `general` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// In words; the first 512 bytes are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// 500 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureRecorded {
    /// True.
    pub success: bool,
    /// The task.
    pub task_id: String,
    /// Failures of the last day, with this one.
    pub total_failures: u64,
    /// `client`: reports are kept apart from what the daemon itself saw.
    pub source: String,
    /// Now.
    pub timestamp: Timestamp,
}
