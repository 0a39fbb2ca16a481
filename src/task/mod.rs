//! Tasks: identity, priority, kind, the states users see, and the analysis of a task's text.

mod analysis;
mod id;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use analysis::{Analysis, CAPABILITY_GENERAL, analyze};
pub use id::{InvalidTaskId, MAX_TASK_ID_BYTES, TaskId};

/// How urgent a task is. `P0` first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
pub enum Priority {
    /// Before everything else.
    P0,
    /// Soon.
    P1,
    /// The default.
    #[default]
    P2,
    /// When nothing else waits; ageing sees to it that it does not wait for ever.
    P3,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Self; 4] = [Self::P0, Self::P1, Self::P2, Self::P3];

    /// `P0` .. `P3`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
        }
    }

    /// 0 .. 3.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The priority with this index.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("not a priority: '{text}' (P0, P1, P2 or P3)"))
    }
}

/// What kind of work a task is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// Code, APIs, tests.
    Development,
    /// Analysis, research, comparison.
    Analysis,
    /// Text.
    Writing,
    /// Plans and schedules.
    Planning,
    /// Everything else.
    General,
}

impl TaskType {
    /// Every type, in the order the analysis tries them.
    pub const ALL: [Self; 5] = [
        Self::Development,
        Self::Analysis,
        Self::Writing,
        Self::Planning,
        Self::General,
    ];

    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Analysis => "analysis",
            Self::Writing => "writing",
            Self::Planning => "planning",
            Self::General => "general",
        }
    }
}

impl fmt::Display for TaskType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.as_str() == text)
            .ok_or_else(|| format!("not a task type: '{text}'"))
    }
}

/// Attempts that a task may have at most: of the configuration or of a request.
pub const MAX_ATTEMPTS: u32 = 1000;

/// How large a task looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Complexity {
    /// Under 100 words.
    Simple,
    /// Under 500 words.
    Moderate,
    /// More.
    Complex,
}

impl Complexity {
    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Moderate => "moderate",
            Self::Complex => "complex",
        }
    }

    /// The original's estimate, in seconds.
    pub const fn estimated_duration_seconds(self) -> u32 {
        match self {
            Self::Simple => 60,
            Self::Moderate => 300,
            Self::Complex => 900,
        }
    }
}

/// Where a task is, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Waits for its `not_before` or for the end of a retry's back-off.
    Scheduled,
    /// Waits for a bot.
    Queued,
    /// A bot has it.
    Running,
    /// Done; the result is kept.
    Succeeded,
    /// Failed for good.
    Dead,
    /// Cancelled on request.
    Cancelled,
    /// Waited too long.
    Expired,
}

impl TaskStatus {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more will happen to the task by itself.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Dead | Self::Cancelled | Self::Expired
        )
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("not a task status: '{text}'"))
    }
}

/// How one attempt at a task went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptStatus {
    /// A bot has it.
    Running,
    /// It brought the result.
    Succeeded,
    /// It brought an error, or was ended for taking too long.
    Failed,
    /// The bot or the daemon ended before it did: nothing is known of it.
    Lost,
}

impl AttemptStatus {
    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// What a result must show to be accepted: the store it was leased from and the attempt it belongs
/// to. A restored store has a new epoch, a retried task a new attempt, so late results of either
/// are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
pub struct Fence {
    /// Of the store; random, new at creation and at each restore.
    pub epoch: u64,
    /// Of the task, counted from 1; every lease has a new one.
    pub attempt: u32,
}
