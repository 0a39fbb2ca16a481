//! The configuration, as it is applied.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// `GET /api/config/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigStatus {
    /// Now.
    pub timestamp: Timestamp,
    /// The file; null for built-in defaults.
    pub config_file: Option<String>,
    /// When it was last applied.
    pub last_load_time: Option<Timestamp>,
    /// Values that fell back, and why the newest file was refused.
    pub load_errors: Vec<String>,
    /// The configuration's own `version`.
    pub config_version: String,
    /// The configuration's own `environment`.
    pub environment: String,
    /// `debug`.
    pub debug: bool,
    /// Counts applied ones.
    pub generation: u64,
    /// Changes that wait for a restart.
    pub restart_required: Vec<String>,
}

/// `GET /api/config/value/{dotted}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigValue {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: serde_json::Value,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/config/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadAnswer {
    /// The file is applied, whole.
    pub success: bool,
    /// The configuration's own `version`.
    pub config_version: String,
    /// The configuration's own `environment`.
    pub environment: String,
    /// The file, or `None`.
    pub loaded_from: String,
    /// Counts applied ones.
    pub generation: u64,
    /// What changed: `key: old -> new`.
    pub changes: Vec<String>,
    /// Values that fell back, or why the file was refused.
    pub errors: Vec<String>,
    /// Changes that wait for a restart.
    pub restart_required: Vec<String>,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/config/check-reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReloadAnswer {
    /// The file had changed and is applied.
    pub reloaded: bool,
    /// The configuration's own `version`.
    pub config_version: String,
    /// Now.
    pub timestamp: Timestamp,
}
