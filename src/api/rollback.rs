//! Going back: to an earlier release, with the state of a backup.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// `POST /api/rollback`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct RollbackRequest {
    /// Which release: a version, or a name that `GET /api/deployments` has. Missing: the one before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which backup. Missing: the newest whole one from before this release was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// Go back to the release alone, and keep the state as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_state: Option<bool>,
    /// Check everything, say what would be done, and change nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// How long running tasks may go on before they are cut short; 60 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
}

/// How far a rollback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackStep {
    /// New tasks are refused; running ones finish, and the bots stop.
    Draining,
    /// The backup is checked once more, and the store is closed.
    Restoring,
    /// The earlier release starts, with the restored store.
    Starting,
    /// It runs: the store and the bots are looked at.
    Checking,
    /// It is over, and tasks are taken.
    Done,
    /// It did not come to its end; the error says what is so now.
    Failed,
}

impl RollbackStep {
    /// Whether it is over.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    /// As people are told.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Draining => "new tasks are refused, running ones finish, the bots stop",
            Self::Restoring => "the backup is restored",
            Self::Starting => "the earlier release starts",
            Self::Checking => "it runs; store and bots are checked",
            Self::Done => "done: tasks are taken",
            Self::Failed => "failed",
        }
    }
}

/// A step, and when it was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollbackStepView {
    /// Which.
    pub step: RollbackStep,
    /// Since when.
    pub at: Timestamp,
}

/// A rollback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollbackView {
    /// Its name.
    pub rollback_id: String,
    /// Who asked for it.
    pub by: String,
    /// How far it is.
    pub step: RollbackStep,
    /// Each step it has come to.
    pub steps: Vec<RollbackStepView>,
    /// Why it failed, and what is so now.
    pub error: Option<String>,
    /// The version that ran.
    pub from_version: String,
    /// That release.
    pub from_release: String,
    /// The version that is gone back to.
    pub to_version: String,
    /// That release.
    pub to_release: String,
    /// The backup; none where the state is kept.
    pub backup_id: Option<String>,
    /// Tasks that were accepted after the backup and will not be there.
    pub tasks_dropped: Option<u64>,
    /// Tasks that have ended since the backup and run again.
    pub tasks_run_again: Option<u64>,
    /// When new tasks were refused.
    pub began_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How long no tasks were taken: the recovery time.
    pub rto_seconds: Option<f64>,
    /// How old the state was that was gone back to: what came in that time is lost (the recovery point). 0 where
    /// the state was kept.
    pub rpo_seconds: Option<f64>,
}

/// Answer to [`RollbackRequest`]: with `dry_run` what would be, else what is being done. `GET /api/rollback` says how
/// far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollbackAnswer {
    /// Release and backup are fit; without `dry_run` it has begun.
    pub success: bool,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What it comes to.
    pub rollback: RollbackView,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /api/rollback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RollbackState {
    /// The last one; none where there was none.
    pub rollback: Option<RollbackView>,
    /// Now.
    pub timestamp: Timestamp,
}
