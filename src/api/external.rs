//! External bots: programs somewhere else that lease tasks over signed HTTP.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::bot::BotType;
use crate::task::{Priority, TaskStatus, TaskType};

/// `POST /api/orchestrate/register-bot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegisterRequest {
    /// Its name: 1-50 of letters, digits, `_` and `-`, and no name that a bot of a pool can have.
    pub bot_id: String,
    /// What it is good at, in any case; `general` where none is given.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub bot_type: Option<String>,
    /// What it offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specializations: Option<Vec<String>>,
    /// Tasks at once, 1-1000; 3 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// Where it is registered already: give it a new secret, and what else stands here. Without it that is 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<bool>,
}

/// The answer to it.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegisterAnswer {
    /// True.
    pub success: bool,
    /// For people.
    pub message: String,
    /// Its name.
    pub bot_id: String,
    /// What it is good at.
    pub bot_type: BotType,
    /// What it offers.
    pub specializations: Vec<String>,
    /// Tasks at once.
    pub max_concurrent: u32,
    /// It had been registered before: its old secret is refused from now on.
    pub rotated: bool,
    /// What it signs with, `whsec_<base64>`. Never shown again.
    pub bot_secret: String,
}

impl std::fmt::Debug for RegisterAnswer {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegisterAnswer({})", self.bot_id)
    }
}

/// The answer to `POST /api/bots/{id}/unregister`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnregisterAnswer {
    /// True.
    pub success: bool,
    /// Its name.
    pub bot_id: String,
    /// Tasks it had, which are queued again.
    pub released: u64,
    /// For people.
    pub message: String,
}

/// `POST /api/bots/{id}/lease`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseRequest {
    /// At most so many tasks, 1-100.
    pub max: u32,
    /// How long to wait for the first one, 0-60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
    /// Which run of the program this is; see `docs/API.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseAnswer {
    /// True.
    pub success: bool,
    /// The tasks; none where none came in time.
    pub tasks: Vec<LeasedTask>,
    /// How many.
    pub count: usize,
    /// How often a heartbeat is expected. After three of them without any request what it has is lost.
    pub heartbeat_seconds: f64,
}

/// A task as its bot gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeasedTask {
    /// Its name.
    pub task_id: String,
    /// Its text.
    pub content: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What proves that this attempt is the current one: goes with everything that is said of it.
    pub lease: String,
    /// How long it may take.
    pub timeout_seconds: f64,
    /// What kind of work.
    pub task_type: TaskType,
    /// How urgent.
    pub priority: Priority,
    /// Its client's own.
    #[schema(value_type = Object)]
    pub metadata: Value,
}

/// `POST /api/bots/{id}/heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatRequest {
    /// Which run of the program this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The tasks it has. What it was given and does not name, once the answer had its time, is queued again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<String>>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatAnswer {
    /// True.
    pub success: bool,
    /// The tasks it has, as the daemon sees it.
    pub tasks: Vec<String>,
    /// Of these: those it is to give up, by `fail`.
    pub cancel: Vec<String>,
    /// Tasks it named that are not its own any more.
    pub lost: Vec<String>,
    /// How often a heartbeat is expected.
    pub heartbeat_seconds: f64,
}

/// `POST /api/bots/{id}/tasks/{task}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputRequest {
    /// A piece of the output.
    pub text: String,
    /// Bytes of output before it. Where it is given, a piece that came already counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// As it was leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Instead of `lease`, by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputAnswer {
    /// True.
    pub success: bool,
    /// The task.
    pub task_id: String,
    /// Bytes of output now.
    pub bytes: u64,
    /// It is to give the task up, by `fail`.
    pub cancel: bool,
}

/// `POST /api/bots/{id}/tasks/{task}/complete`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct CompleteRequest {
    /// The whole output; where none is given, it is what `output` brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Which model answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// As it was leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Instead of `lease`, by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// `POST /api/bots/{id}/tasks/{task}/fail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailRequest {
    /// Why, for people.
    pub error: String,
    /// What a retry may do about it: `backend` (the default), `unavailable`, `timed_out`, or `permanent`: then there
    /// is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// As it was leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Instead of `lease`, by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// The answer to `complete` and `fail`: the end of the attempt is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndAnswer {
    /// True.
    pub success: bool,
    /// The task.
    pub task_id: String,
    /// The attempt.
    pub attempt: u32,
    /// Where the task is now.
    pub status: TaskStatus,
    /// It had been accepted before.
    pub duplicate: bool,
}
