//! How many bots there are: limits, scaling.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::time::Timestamp;

/// `GET /api/scaling/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScalingStatus {
    /// Now.
    pub timestamp: Timestamp,
    /// Bots with a process, or about to have one.
    pub current_bot_count: u32,
    /// In force.
    pub min_bots: u32,
    /// In force.
    pub max_bots: u32,
    /// Their names.
    pub active_bots: Vec<String>,
    /// `feature_flags.auto_scaling_enabled`.
    pub scaling_enabled: bool,
    /// When bots were last added.
    pub last_scale_up: Option<Timestamp>,
    /// When bots were last removed.
    pub last_scale_down: Option<Timestamp>,
    /// The limits come from `POST /api/scaling/limits`, not from the file.
    pub r#override: bool,
    /// New tasks are refused (`max_bots` 0, or stopping).
    pub draining: bool,
    /// Tasks a bot has.
    pub in_flight: u64,
    /// What the last evaluation came to; null before the first.
    #[serde(default)]
    pub last_evaluation: Option<ScalingEvaluation>,
}

/// Which way the fleet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingAction {
    /// More bots.
    ScaleUp,
    /// Fewer.
    ScaleDown,
}

impl ScalingAction {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
        }
    }
}

/// What made the daemon look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingTrigger {
    /// `timeouts.scaling_evaluation_interval_seconds` are over.
    Timer,
    /// A task began to wait that no bot could take.
    Waiting,
    /// `POST /api/scaling/evaluate`.
    Request,
    /// The same, with made-up figures: nothing is done.
    Figures,
    /// `POST /api/scaling/scale-up` or `/scale-down`.
    ByHand,
}

impl ScalingTrigger {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Waiting => "waiting",
            Self::Request => "request",
            Self::Figures => "figures",
            Self::ByHand => "by_hand",
        }
    }
}

/// One evaluation: what was seen, what was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScalingEvaluation {
    /// When.
    pub timestamp: Timestamp,
    /// What made the daemon look.
    pub trigger: ScalingTrigger,
    /// Which way the fleet goes; null where it stays. Up where some pools grow and others shrink.
    pub decision: Option<ScalingAction>,
    /// Why, for people.
    pub reason: String,
    /// Tasks that wait.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    pub oldest_seconds: f64,
    /// Share of all slots that was in use since the evaluation before, 0 to 1.
    pub load: f64,
    /// The host's CPU in use since the evaluation before, 0 to 1; null where it is not known yet.
    pub cpu: Option<f64>,
    /// The host's memory in use, 0 to 1; null where the operating system does not tell.
    pub memory: Option<f64>,
    /// Each pool, in the order of the file.
    pub pools: Vec<PoolEvaluation>,
}

/// One pool in an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolEvaluation {
    /// Its name.
    pub name: String,
    /// Bots it was to have before.
    pub from: u32,
    /// Bots it is to have now.
    pub to: u32,
    /// Why; empty where there is nothing to say.
    pub reason: String,
    /// Bots that take tasks.
    pub working: u32,
    /// Bots that are being started.
    pub starting: u32,
    /// Bots in back-off or quarantine.
    pub failing: u32,
    /// Bots an operator stopped.
    pub held: u32,
    /// Bots that are wanted no more and finish what they have.
    pub leaving: u32,
    /// Share of its slots that was in use since the evaluation before, 0 to 1.
    pub load: f64,
}

/// `POST /api/scaling/evaluate`. With any of these it is a question about made-up figures.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct EvaluateRequest {
    /// Share of all slots in use; 0.5 if another figure is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_load: Option<f64>,
    /// Tasks that wait; 0 if another figure is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_size: Option<u64>,
    /// Share of a bot's slots in use; 0 if another figure is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_bot_load: Option<f64>,
}

/// Answer to [`EvaluateRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvaluateAnswer {
    /// Now.
    pub timestamp: Timestamp,
    /// What is being done; null where nothing is, and for made-up figures.
    pub action_taken: Option<ScalingAction>,
    /// Bots with a process, or about to have one.
    pub current_bot_count: u32,
    /// How the fleet stands.
    pub scaling_status: ScalingStatus,
    /// What was seen, what was decided, and why.
    pub evaluation: ScalingEvaluation,
}

/// Parameters of `POST /api/scaling/scale-up` and `/scale-down`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScaleQuery {
    /// How many bots; 1 if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Of which pool; else where most tasks wait for each bot, or where least is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Answer of `POST /api/scaling/scale-up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleUpAnswer {
    /// Bots were added.
    pub success: bool,
    /// How many.
    pub added: u32,
    /// They are being started.
    pub new_bots: Vec<String>,
    /// Bots that are wanted now.
    pub total_bots: u32,
    /// For people: what goes on, and why there are not more.
    pub message: String,
}

/// Answer of `POST /api/scaling/scale-down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleDownAnswer {
    /// Bots were removed.
    pub success: bool,
    /// How many.
    pub removed: u32,
    /// They finish what they have, and end.
    pub removed_bots: Vec<String>,
    /// Bots that are wanted now.
    pub total_bots: u32,
    /// For people: what goes on, and why there are not more.
    pub message: String,
}

/// `POST /api/scaling/limits`. What is missing stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    /// At least this many bots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_bots: Option<u32>,
    /// At most this many bots; 0 drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bots: Option<u32>,
    /// Ends the override: the file's limits are in force again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
}

/// Answer to [`LimitsRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsAnswer {
    /// The limits are in force (the fleet follows).
    pub success: bool,
    /// In force.
    pub min_bots: u32,
    /// In force.
    pub max_bots: u32,
    /// They come from this call, not from the file.
    pub r#override: bool,
    /// For people.
    pub message: String,
}
