//! The audit trail.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::time::Timestamp;

/// Longest target of a record.
pub const MAX_AUDIT_TARGET_BYTES: usize = 256;

/// Longest `error_message` of a record.
pub const MAX_AUDIT_ERROR_BYTES: usize = 4096;

/// Longest `details` of a record, as JSON.
pub const MAX_AUDIT_DETAILS_BYTES: usize = 65_536;

/// Records in one answer at most.
pub const MAX_AUDIT_RECORDS: u32 = 1_000;

/// Words of the trail: an enum with the texts that users see and what each is for.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
        )]
        // A name of its own for each would be left out of the document, which does not see through a macro.
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// All of them. Their places are what is stored: new ones go to the end.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Their names, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text),*];

            /// The name users see.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let mut all = Self::ALL.iter().copied();
                all.find(|word| word.as_str() == text)
                    .ok_or_else(|| format!("'{text}' is none of {}", Self::NAMES.join(", ")))
            }
        }
    };
}

words! {
    /// What was done.
    AuditAction {
        /// A bot was registered.
        BotCreated = "bot_created",
        /// A bot was removed.
        BotDeleted = "bot_deleted",
        /// A task was accepted.
        TaskSubmitted = "task_submitted",
        /// A task has its result.
        TaskCompleted = "task_completed",
        /// An attempt at a task failed; `details.status` says whether it is tried again or `dead`.
        TaskFailed = "task_failed",
        /// The configuration, the limits, or the audit itself.
        ConfigChanged = "config_changed",
        /// A backup was made.
        BackupCreated = "backup_created",
        /// A backup was restored.
        BackupRestored = "backup_restored",
        /// There shall be more bots.
        ScaleUp = "scale_up",
        /// There shall be fewer bots.
        ScaleDown = "scale_down",
        /// An alert was raised.
        AlertGenerated = "alert_generated",
        /// An alert is over.
        AlertResolved = "alert_resolved",
        /// A message was accepted.
        MessageSent = "message_sent",
        /// Another release, or a new start, was asked for.
        RestartRequested = "restart_requested",
        /// The daemon was asked to end.
        ShutdownInitiated = "shutdown_initiated",
        /// Anything else that a caller did, or notes.
        ApiCall = "api_call",
        /// A task was cancelled.
        TaskCancelled = "task_cancelled",
        /// An ended task was queued again.
        TaskRetried = "task_retried",
        /// A task waited too long.
        TaskExpired = "task_expired",
        /// A bot is to run.
        BotStarted = "bot_started",
        /// A bot is to rest.
        BotStopped = "bot_stopped",
        /// A bot is started anew.
        BotRestarted = "bot_restarted",
        /// What a bot runs was taken back.
        BotInterrupted = "bot_interrupted",
        /// The daemon serves.
        DaemonStarted = "daemon_started",
        /// Records past their time were removed; an anchor stands for them.
        AuditPruned = "audit_pruned",
        /// Something was refused for what it contains, or for who asks.
        RequestRefused = "request_refused",
        /// A credential was made.
        CredentialCreated = "credential_created",
        /// A credential was revoked.
        CredentialRevoked = "credential_revoked",
        /// A backup that was over its days was removed.
        BackupDeleted = "backup_deleted",
    }
}

words! {
    /// How much a record matters.
    AuditLevel {
        /// As a matter of course.
        Info = "info",
        /// Worth a look.
        Warning = "warning",
        /// Somebody should know.
        Critical = "critical",
    }
}

words! {
    /// What came of it.
    AuditResult {
        /// What was wanted.
        Success = "success",
        /// Nothing.
        Failure = "failure",
        /// Some of it, or not yet all.
        Partial = "partial",
    }
}

words! {
    /// Whose word a record is.
    AuditSource {
        /// The daemon's: it did, or saw, what the record says.
        Daemon = "daemon",
        /// A caller's, through `POST /api/audit/log`: the daemon vouches for who said it, and when.
        Client = "client",
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its name: a UUID made of its hash.
    pub entry_id: String,
    /// Its place: grows by one from record to record.
    pub seq: i64,
    /// When.
    pub timestamp: Timestamp,
    /// What was done.
    pub action: AuditAction,
    /// How much it matters.
    pub level: AuditLevel,
    /// Who: `user:NAME`, `credential:HEX`, `anonymous@ADDRESS`, `bot:ID` or `daemon`.
    pub actor: String,
    /// Whose word it is.
    pub source: AuditSource,
    /// To what.
    pub target: String,
    /// More about it.
    pub details: Map<String, Value>,
    /// What came of it.
    pub result: AuditResult,
    /// Why not.
    pub error_message: Option<String>,
    /// From where, where that is known.
    pub remote: Option<String>,
    /// The checksum of the record before.
    pub previous: String,
    /// SHA-256 over all of this and over what stands before it.
    pub checksum: String,
}

/// `POST /api/audit/log`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AuditRequest {
    /// What was done; `api_call` where nothing is said.
    pub action: Option<AuditAction>,
    /// Who did it, as the caller says: kept in the details. The record's actor is the caller.
    pub actor: Option<String>,
    /// To what; `unknown` where nothing is said.
    pub target: Option<String>,
    /// How much it matters; `info` where nothing is said.
    pub level: Option<AuditLevel>,
    /// More about it.
    pub details: Option<Map<String, Value>>,
    /// What came of it; `success` where nothing is said.
    pub result: Option<AuditResult>,
    /// Why not.
    pub error_message: Option<String>,
}

/// The answer to it, once the record is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditLogged {
    /// The record's name.
    pub entry_id: String,
    /// Its place.
    pub seq: i64,
    /// Who it says has done it.
    pub actor: String,
    /// When.
    pub timestamp: Timestamp,
}

/// `GET /api/audit/query`: which records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only this action.
    #[param(inline)]
    pub action: Option<AuditAction>,
    /// Only by these, as records name them.
    pub actor: Option<String>,
    /// Only to this.
    pub target: Option<String>,
    /// Only of this level.
    #[param(inline)]
    pub level: Option<AuditLevel>,
    /// Only with this result.
    #[param(inline)]
    pub result: Option<AuditResult>,
    /// At most so many; 1,000 where nothing is said.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Records, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntries {
    /// The records.
    pub entries: Vec<AuditEntry>,
    /// How many.
    pub count: usize,
    /// Places of records that fit and are not what was written: they are not shown, and `verify` says more.
    pub damaged: Vec<i64>,
    /// Where the next page begins; none after the last one.
    pub next_cursor: Option<String>,
    /// When.
    pub timestamp: Timestamp,
}

/// How many of one actor or target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AuditOfQuery {
    /// At most so many; 100 where nothing is said.
    pub limit: Option<u32>,
}

/// What one has done, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditOfActor {
    /// Who.
    pub actor: String,
    /// The records.
    pub actions: Vec<AuditEntry>,
    /// How many.
    pub count: usize,
    /// When.
    pub timestamp: Timestamp,
}

/// What was done to one, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditOfTarget {
    /// What.
    pub target: String,
    /// The records.
    pub history: Vec<AuditEntry>,
    /// How many.
    pub count: usize,
    /// When.
    pub timestamp: Timestamp,
}

/// How far back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AuditCriticalQuery {
    /// Hours; 24 where nothing is said.
    pub hours: Option<u32>,
}

/// What was critical of late, the newest first; 1,000 records at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditCritical {
    /// How far back.
    pub hours: u32,
    /// The records.
    pub critical_actions: Vec<AuditEntry>,
    /// How many.
    pub count: usize,
    /// When.
    pub timestamp: Timestamp,
}

/// Whether the trail is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerified {
    /// It is: every record as it was written, none missing, none added, and it goes as far as the last
    /// checkpoint that is kept outside of the store.
    pub verified: bool,
    /// What is wrong: the first thing, after which nothing that follows proves anything.
    pub errors: Vec<String>,
    /// What can't be said.
    pub warnings: Vec<String>,
    /// Records that were looked at.
    pub total_entries: u64,
    /// Records that are not what was written; left out where there is no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_checksums: Option<u64>,
    /// The first one that is changed, missing or too much.
    pub first_bad: Option<AuditBad>,
    /// What records past their time were replaced by.
    pub anchor: Option<AuditAnchor>,
    /// The last record.
    pub head: Option<AuditHead>,
    /// The last record that is known outside of the store.
    pub checkpoint: Option<AuditHead>,
    /// When.
    pub timestamp: Timestamp,
}

/// Where the trail breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditBad {
    /// The record's place.
    pub seq: i64,
    /// The name it has now, where it is there.
    pub entry_id: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

/// What stands for records that are past `audit.retention_days`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditAnchor {
    /// The last one removed.
    pub seq: i64,
    /// Its checksum.
    pub checksum: String,
    /// How many were removed, ever.
    pub removed: u64,
}

/// A record that the trail is known to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    /// Its place; 0 before the first.
    pub seq: i64,
    /// Its checksum.
    pub checksum: String,
}

/// The trail in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditStatistics {
    /// Records.
    pub total_entries: u64,
    /// From when to when; left out where there is none, as is what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_range: Option<AuditRange>,
    /// By action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeMap<String, u64>>,
    /// By actor: the first thousand that were met; `(others)` are the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actors: Option<BTreeMap<String, u64>>,
    /// By level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<BTreeMap<String, u64>>,
    /// By result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<BTreeMap<String, u64>>,
    /// When.
    pub timestamp: Timestamp,
}

/// The times of the first and the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRange {
    /// Of the first.
    pub oldest: Timestamp,
    /// Of the last.
    pub newest: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for action in AuditAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
            let json = serde_json::to_value(action).unwrap();
            assert_eq!(json, action.as_str());
        }
        assert!("shrug".parse::<AuditLevel>().is_err());
    }
}
