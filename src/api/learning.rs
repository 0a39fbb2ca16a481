//! What routing has learned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::task::TaskType;
use crate::time::Timestamp;

/// `POST /api/scheduling/record-execution`: one result, as a caller saw it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RecordRequest {
    /// Whose result; the fleet's own name where none is given.
    pub bot_id: Option<String>,
    /// What kind of work; `general` where none is given.
    pub task_type: Option<TaskType>,
    /// How long it took, in seconds.
    pub execution_time: Option<f64>,
    /// Whether it succeeded; it did where nothing is said.
    pub success: Option<bool>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordAnswer {
    /// True.
    pub success: bool,
    /// Whose result.
    pub bot_id: String,
    /// What kind of work.
    pub task_type: TaskType,
    /// It counts from now on.
    pub recorded: bool,
    /// When.
    pub timestamp: Timestamp,
}

/// What was learned of a bot on one kind of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Performance {
    /// The bot.
    pub bot_id: String,
    /// The kind of work.
    pub task_type: TaskType,
    /// Results it was learned from.
    pub total_tasks: u64,
    /// Moving average of the time one took, in seconds.
    pub avg_execution_time: f64,
    /// Moving average of the results, 0-1.
    pub success_rate: f64,
    /// When the last one came.
    pub last_updated: Timestamp,
}

/// `GET /api/scheduling/recommendation/{task_type}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// The kind of work.
    pub task_type: TaskType,
    /// The best bot for it.
    pub recommended_bot: String,
    /// How far it stands above the next one, 0-1.
    pub confidence: f64,
    /// Why, for people.
    pub reason: String,
    /// The best ones, itself first; at most three.
    pub alternatives: Vec<Alternative>,
    /// Now.
    pub timestamp: Timestamp,
}

/// A bot that could be recommended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alternative {
    /// The bot.
    pub bot_id: String,
    /// `0.4 * (1 - seconds / 1000) + 0.6 * success_rate`.
    pub score: f64,
    /// Moving average of the time one took, in seconds.
    pub avg_time: f64,
    /// Moving average of the results, 0-1.
    pub success_rate: f64,
}

/// `GET /api/scheduling/bot-performance/{bot_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotPerformance {
    /// The bot.
    pub bot_id: String,
    /// By kind of work; empty for a bot nothing was learned of.
    pub performance: BTreeMap<String, Performance>,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /api/scheduling/task-type/{task_type}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypePerformance {
    /// The kind of work.
    pub task_type: String,
    /// The bots something was learned of, the best first.
    pub bots: Vec<Performance>,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /api/scheduling/insights`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum InsightsAnswer {
    /// Something was learned.
    Learned(Insights),
    /// Nothing yet.
    Nothing {
        /// `no_data`.
        status: String,
    },
}

/// What was learned, in sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Insights {
    /// Results it was learned from.
    pub total_executions: u64,
    /// Bots something was learned of.
    pub total_bots_observed: u64,
    /// Kinds of work something was learned of.
    pub task_types_learned: u64,
    /// By kind of work.
    pub by_task_type: BTreeMap<String, TypeInsights>,
}

/// What was learned of one kind of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypeInsights {
    /// Bots.
    pub bots_tracked: u64,
    /// Results.
    pub total_tasks: u64,
    /// The most reliable bot.
    pub best_success_rate: BestRate,
    /// The fastest bot.
    pub fastest: BestTime,
    /// The highest success rate less the lowest.
    pub variability: f64,
}

/// The most reliable bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestRate {
    /// The bot.
    pub bot_id: String,
    /// Its success rate, 0-1.
    pub rate: f64,
}

/// The fastest bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestTime {
    /// The bot.
    pub bot_id: String,
    /// Its average time, in seconds.
    pub avg_time: f64,
}

/// `GET /api/scheduling/history`: which part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// The newest so many; 0 is all. 100 where nothing is said.
    pub limit: Option<u32>,
}

/// `GET /api/scheduling/history`: the results since the daemon's start, the last thousand of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Results that are kept.
    pub total_records: u64,
    /// Results in this answer.
    pub returned: u64,
    /// Oldest first.
    pub history: Vec<Execution>,
    /// Now.
    pub timestamp: Timestamp,
}

/// One result that was learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Execution {
    /// When it came.
    pub timestamp: Timestamp,
    /// The bot.
    pub bot_id: String,
    /// The kind of work.
    pub task_type: TaskType,
    /// How long it took, in seconds.
    pub execution_time: f64,
    /// Whether it succeeded.
    pub success: bool,
    /// What was known of the bot after it.
    pub updated_perf: Performance,
}
