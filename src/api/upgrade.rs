//! Releases of the daemon, and switching between them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// `POST /api/upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The release to switch to; it stays, also across restarts, until another package is installed
    /// or another upgrade asked for. Missing: the file at the path the daemon was started by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Without a path: the pinned release, where one is, as SIGUSR2 does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_pin: bool,
}

/// Answer to [`UpgradeRequest`]: the release was checked, and the daemon switches to it now. How that
/// went, `GET /status` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeAnswer {
    /// It was accepted.
    pub success: bool,
    /// Names this upgrade.
    pub upgrade_id: String,
    /// The version before.
    pub from_version: String,
    /// The version after.
    pub to_version: String,
    /// The release's file.
    pub path: String,
    /// For people.
    pub message: String,
}

/// How an upgrade ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeView {
    /// Which; empty for one that was refused.
    pub upgrade_id: String,
    /// The version before.
    pub from_version: String,
    /// The version after, or the file where it could not be told.
    pub to_version: String,
    /// Whether the new release runs.
    pub succeeded: bool,
    /// Why it does not.
    pub error: Option<String>,
    /// When it ended.
    pub at: Timestamp,
}

impl UpgradeView {
    /// One that was refused.
    pub fn failed(target: &Path, error: String) -> Self {
        Self {
            upgrade_id: String::new(),
            from_version: crate::VERSION.to_owned(),
            to_version: target.display().to_string(),
            succeeded: false,
            error: Some(error),
            at: Timestamp::now(),
        }
    }
}

/// Which release runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// Its version.
    pub version: String,
    /// Its file.
    pub path: String,
    /// The path the daemon was started by.
    pub invoked_as: String,
    /// A release other than the one at that path stays until another is installed or asked for.
    pub pinned: bool,
    /// How the last upgrade ended.
    pub last_upgrade: Option<UpgradeView>,
}
