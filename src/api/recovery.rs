//! Backups and restores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::time::Timestamp;

/// What may be said of a backup that is asked for. Whatever `backup_type` says, a backup has the whole
/// state: the label is kept, so that it can be asked for in the history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct BackupRequest {
    /// `registry`, `queue`, `bot_assignments` or `full`, in any case; anything else is `registry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_type: Option<String>,
    /// Accepted for the original's clients and not kept: a backup is of the daemon's own state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Where it comes from, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Value>>,
    /// A name; a named backup is kept ten times as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Answer to [`BackupRequest`]: it is on disk, and was read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupAnswer {
    /// It was made.
    pub success: bool,
    /// Its name, for a restore.
    pub backup_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// What it is.
    pub backup: BackupMeta,
    /// How long it took.
    pub seconds: f64,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupMeta {
    /// Its name: that of its file, without `.tar.gz`.
    pub backup_id: String,
    /// The label it was asked for with. Each has the whole state.
    pub backup_type: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// Where it comes from, in the caller's words.
    pub source: String,
    /// Bytes of the archive.
    pub size_bytes: u64,
    /// Tasks in it.
    pub item_count: u64,
    /// SHA-256 of the archive's file.
    pub checksum: String,
    /// The caller's own.
    pub tags: BTreeMap<String, Value>,
    /// `scheduled`, `manual`, `restore_point` or `before_restore`.
    pub kind: String,
    /// The name somebody gave it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who asked for it.
    pub by: String,
    /// Which release made it.
    pub deia_version: String,
    /// The store's schema.
    pub schema_version: i64,
    /// Tasks by status.
    pub tasks: BTreeMap<String, u64>,
    /// Bytes of what is in it.
    pub content_bytes: u64,
    /// The archive's file.
    pub file: String,
    /// Why it can't be read, where it can't.
    pub error: Option<String>,
}

/// `GET /api/disaster-recovery/backup-history`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BackupHistoryQuery {
    /// Only those with this label.
    #[serde(default)]
    pub backup_type: Option<String>,
    /// At most this many; 100 where nothing is said.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// The backups there are, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupHistory {
    /// The backups.
    pub backups: Vec<BackupMeta>,
    /// How many there are here.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// What a backup was found to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerifyAnswer {
    /// Every byte is as it was written.
    pub success: bool,
    /// Which.
    pub backup_id: String,
    /// What it is; null where not even that can be read.
    pub backup: Option<BackupMeta>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/disaster-recovery/restore-point`: a backup with a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct RestorePointRequest {
    /// Accepted for the original's clients and not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_data: Option<Value>,
    /// Accepted for the original's clients and not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_data: Option<Value>,
    /// Accepted for the original's clients and not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments_data: Option<Value>,
    /// What it is for; its name, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A person asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<bool>,
}

/// Answer to [`RestorePointRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestorePointAnswer {
    /// It was made.
    pub success: bool,
    /// Its name: that of its backup.
    pub restore_point_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
}

/// `GET /api/disaster-recovery/restore-point/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestorePointView {
    /// The restore point.
    pub details: RestorePointDetails,
    /// Now.
    pub timestamp: Timestamp,
}

/// A restore point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestorePointDetails {
    /// Its name.
    pub restore_id: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// Its backups: one.
    pub backups: Vec<String>,
    /// What it is for.
    pub description: String,
    /// A person asked for it.
    pub manual: bool,
    /// What they are.
    pub backup_details: Vec<BackupMeta>,
}

/// `GET /api/disaster-recovery/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryStatus {
    /// Now.
    pub timestamp: Timestamp,
    /// Backups there are, restore points too.
    pub total_backups: usize,
    /// Restore points there are.
    pub total_restore_points: usize,
    /// The newest backup that can be read.
    pub latest_backup: Option<String>,
    /// The newest restore point.
    pub latest_restore_point: Option<String>,
    /// The last daemon on this home did not end as it was asked to.
    pub crash_detected: bool,
    /// Where the backups are.
    pub backup_dir: String,
    /// How many there are, by label.
    pub backups_by_type: BTreeMap<String, u64>,
    /// MiB of them.
    pub disk_usage_mb: f64,
    /// Seconds since the newest one was made.
    pub latest_age_seconds: Option<f64>,
    /// When the next one is due; null where none is scheduled.
    pub next_backup: Option<Timestamp>,
    /// Why the last one failed, where it did.
    pub last_error: Option<String>,
    /// What is being done now.
    pub progress: Option<BackupProgress>,
    /// How the last restore went.
    pub last_restore: Option<RestoreView>,
    /// The store can't be used, and why: nothing else is served until it is restored.
    pub recovery_mode: Option<String>,
    /// The daemon's home.
    pub home: String,
    /// The daemon's process.
    pub pid: u32,
}

/// How far a backup or a restore is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackupProgress {
    /// `copying`, `checking`, `writing`, `verifying`, `restoring`.
    pub step: String,
    /// Bytes done in this step.
    pub done_bytes: u64,
    /// Bytes of this step.
    pub total_bytes: u64,
}

/// `POST /api/disaster-recovery/restore/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RestoreQuery {
    /// Only verify, and say what would be.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// An archive elsewhere on the daemon's host, instead of one of its backups: an absolute path.
    #[serde(default)]
    pub file: Option<String>,
}

/// What a restore comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestorePlan {
    /// What is restored.
    pub backup: BackupMeta,
    /// Tasks that were accepted after the backup: they will not be there. Null where the present store
    /// can't be read.
    pub tasks_dropped: Option<u64>,
    /// Tasks that have ended since the backup and will run again.
    pub tasks_run_again: Option<u64>,
    /// Tasks that wait or run in the backup, over all.
    pub tasks_pending: u64,
    /// Files of the configuration in the backup that will be put in place, because there are none.
    pub config_restored: Vec<String>,
    /// Files of the configuration that differ from those in the backup and stay as they are.
    pub config_kept: Vec<String>,
    /// Where the present state is kept.
    pub old_state: String,
}

/// Answer to a restore: with `dry_run` what would be, else what is being done. How it went,
/// `GET /api/disaster-recovery/status` says in `last_restore`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestoreAnswer {
    /// The backup is whole; without `dry_run` the restore has begun.
    pub success: bool,
    /// Names this restore; empty with `dry_run`.
    pub restore_id: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// What it comes to.
    pub plan: RestorePlan,
    /// What is in the backup (the original answered its content here).
    pub data: BTreeMap<String, Value>,
    /// For people.
    pub message: String,
    /// Now.
    pub timestamp: Timestamp,
}

/// How a restore went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestoreView {
    /// Which.
    pub restore_id: String,
    /// Of which backup.
    pub backup_id: String,
    /// Who asked for it.
    pub by: String,
    /// The restored store is in use and its checks have passed; null while they are under way.
    pub succeeded: Option<bool>,
    /// Why not.
    pub error: Option<String>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Where the state from before is kept.
    pub old_state: Option<String>,
    /// Records that are newer than the backup and were kept, by kind.
    pub carried: BTreeMap<String, u64>,
}

/// Answer to `mark-shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarkShutdownAnswer {
    /// It is on disk.
    pub success: bool,
    /// For people.
    pub message: String,
    /// Now.
    pub timestamp: Timestamp,
}
