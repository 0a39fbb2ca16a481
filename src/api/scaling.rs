//! Limits of the fleet.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
}

/// `POST /api/scaling/limits`. What is missing stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
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
