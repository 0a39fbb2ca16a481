//! Which releases ran here, since when, and who brought them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// How a release came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployedBy {
    /// It was started: the first time, or after another one had ended.
    Start,
    /// An upgrade, in place.
    Upgrade,
    /// A rollback.
    Rollback,
}

/// A release that ran here for the first time, or again after another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    /// Its name: the time, and a number where that is taken.
    pub deployment_id: String,
    /// The version that runs since then.
    pub version: String,
    /// The release, told from others of the same version: its name under `.deia/releases/`.
    pub release: String,
    /// The version before; none for the first.
    pub previous_version: Option<String>,
    /// The release before.
    pub previous_release: Option<String>,
    /// How it came.
    pub how: DeployedBy,
    /// Who did it: who asked for the upgrade, or whose process the daemon is.
    pub by: String,
    /// When it was ready.
    pub at: Timestamp,
    /// SHA-256 of the configuration that was in force then, in full.
    pub configuration_sha256: String,
    /// The file it came from; none for the defaults.
    pub configuration_file: Option<String>,
    /// The version of the store's schema it works with.
    pub schema_version: i64,
}

/// `GET /api/deployments`: the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployments {
    /// The newest first.
    pub deployments: Vec<Deployment>,
    /// How many these are.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}
