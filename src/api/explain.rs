//! Why a task is where it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::task::{TaskStatus, TaskType};
use crate::time::Timestamp;

/// `GET /api/tasks/{id}/explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The task.
    pub task_id: String,
    /// Where it is.
    pub status: TaskStatus,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// What a bot must offer one of.
    pub required_capabilities: Vec<String>,
    /// Only this pool may have it.
    pub pool: Option<String>,
    /// Only this bot may have it.
    pub bot_id: Option<String>,
    /// In a sentence: why it is where it is.
    pub explanation: String,
    /// Each attempt, and why it went to its bot.
    pub attempts: Vec<ChoiceView>,
    /// The bots the last attempt could have gone to, the best first.
    pub candidates: Vec<CandidateView>,
    /// While it waits: every bot, and why it does not have the task.
    pub waits_for: Vec<ObstacleView>,
    /// Now.
    pub timestamp: Timestamp,
}

/// Why an attempt went to its bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChoiceView {
    /// Counted from 1.
    pub attempt: u32,
    /// The bot.
    pub bot_id: String,
    /// `only_one`, `best_score`, `recommended` or `explored`; null where it is not known any more: a
    /// daemon that was killed takes the reasons of what ran with it.
    pub reason: Option<Reason>,
    /// For people.
    pub explanation: String,
    /// The bot's score.
    pub score: Option<f64>,
    /// Bots that could have had it at that moment.
    pub candidates: Option<u32>,
    /// What the decision took, in microseconds.
    pub microseconds: Option<u64>,
}

/// A bot that could have had the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateView {
    /// The bot.
    pub bot_id: String,
    /// What it came to.
    pub score: f64,
    /// Tasks it had.
    pub load: u32,
    /// Tasks it may have.
    pub max_concurrent: u32,
    /// Moving average of its results, 0-1.
    pub success_rate: f64,
    /// What such a task takes it on average, in seconds; null before there are enough.
    pub avg_execution_time: Option<f64>,
    /// What was learned speaks for it.
    pub recommended: bool,
}

/// Why a bot does not have a task that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObstacleView {
    /// The bot.
    pub bot_id: String,
    /// Its pool.
    pub pool: String,
    /// Whether it could do the task at all.
    pub suitable: bool,
    /// Why not now.
    pub why: String,
}

/// Why a bot was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No other could have it.
    OnlyOne,
    /// It had the best score.
    BestScore,
    /// It had the best score, and would not have had it without what was learned.
    Recommended,
    /// Its turn, so that something is learned of it.
    Explored,
}
