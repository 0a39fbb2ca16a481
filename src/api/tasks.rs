//! Tasks.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::task::{AttemptStatus, Complexity, Priority, TaskStatus, TaskType};
use crate::time::Timestamp;

/// `POST /api/orchestrate`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct SubmitRequest {
    /// The task's text.
    #[serde(default)]
    pub content: String,
    /// The task's name; makes the submission idempotent. Made up when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// `P2` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// From the text when missing.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<TaskType>,
    /// From the text when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_capabilities: Option<Vec<String>>,
    /// Only this bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_id: Option<String>,
    /// Only this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// `tasks.max_attempts` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Seconds one attempt may take; `timeouts.task_timeout_seconds` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// Not before this time (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The caller's own; shown, never interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Wait this long for the result and answer with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
}

/// Answer to a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubmitAnswer {
    /// Whether the task was accepted.
    pub success: bool,
    /// Its name.
    pub task_id: String,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<TaskStatus>,
    /// The bot that has it; null while it waits.
    #[serde(default)]
    pub routed_to: Option<String>,
    /// True: accepted tasks are durable.
    #[serde(default)]
    pub queued: bool,
    /// Its place among the tasks that wait for the same bots, from 1; null when a bot has it.
    #[serde(default)]
    pub position: Option<u64>,
    /// What kind of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<TaskType>,
    /// How large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complexity: Option<Complexity>,
    /// What a bot must offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required_capabilities: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The same request was accepted before; this is what came of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// `No suitable bot available`: no bot of this configuration can ever do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `snake_case`, with `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// With `wait_seconds`, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultView>,
}

/// Answer to a batch: one for each task, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// Whether every task was accepted.
    pub success: bool,
    /// How many were.
    pub accepted: u64,
    /// One for each.
    pub results: Vec<SubmitAnswer>,
}

/// `GET /api/tasks/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Its name.
    pub task_id: String,
    /// Where it is.
    pub status: TaskStatus,
    /// How urgent.
    pub priority: Priority,
    /// What kind of work.
    pub task_type: TaskType,
    /// How large.
    pub complexity: Complexity,
    /// What a bot must offer.
    pub required_capabilities: Vec<String>,
    /// Only this bot, where it was asked for.
    pub bot_id: Option<String>,
    /// Only this pool, where it was asked for.
    pub pool: Option<String>,
    /// Its place among the tasks that wait for the same bots, from 1; null when it does not wait, and in lists.
    pub position: Option<u64>,
    /// Failures before it is dead.
    pub max_attempts: u32,
    /// Seconds one attempt may take.
    pub timeout_seconds: f64,
    /// When it came.
    pub submitted_at: Timestamp,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Once it succeeded; null in lists.
    pub result: Option<ResultView>,
    /// The last error.
    pub error: Option<String>,
    /// The caller's own.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Counted from 1.
    pub attempt: u32,
    /// Who tried.
    pub bot_id: String,
    /// How it went.
    pub status: AttemptStatus,
    /// When the bot began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    /// The answer.
    pub output: String,
    /// The output was cut at `limits.output_mb`.
    pub truncated: bool,
    /// What it cost.
    pub usage: UsageView,
    /// Seconds of the attempt that succeeded.
    pub duration_seconds: f64,
    /// Which backend answered.
    pub backend: String,
    /// Which model.
    pub model: Option<String>,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// `GET /api/tasks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// In this status.
    pub status: Option<TaskStatus>,
    /// Of this bot.
    pub bot: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    pub task_type: Option<TaskType>,
    /// Of this priority.
    pub priority: Option<Priority>,
    /// 1-1000, 100 when missing.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A page of tasks, newest first, without outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// How many are on this page.
    pub count: usize,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// `GET /api/tasks/{id}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputView {
    /// Its name.
    pub task_id: String,
    /// Where it is.
    pub status: TaskStatus,
    /// Everything so far.
    pub output: String,
    /// Nothing more will come.
    pub complete: bool,
}

/// Answer to cancel and retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskActionAnswer {
    /// Whether it was done or is being done.
    pub success: bool,
    /// Its name.
    pub task_id: String,
    /// Where it is now.
    pub status: TaskStatus,
    /// For people.
    pub message: String,
}
