//! What is wrong where the daemon answers in recovery mode: its store can't be used.

use deia::api::RecoveryStatus;
use deia::client::{Client, ClientError};

use super::findings::Finding;
use crate::human;

/// A daemon's refusals carry this code in recovery mode.
const CODE: &str = "recovery_mode";

/// How the daemon stands whose refusal this is, where it is in recovery mode.
pub async fn stands(client: &Client, refused: &ClientError) -> Option<RecoveryStatus> {
    if refused.code() != Some(CODE) {
        return None;
    }
    // It may have left recovery mode by now: then the refusal is said as it is.
    let status = client.recovery_status().await.ok()?.value;
    status.recovery_mode.is_some().then_some(status)
}

/// What there is to be said.
pub fn findings(status: &RecoveryStatus) -> Vec<Finding> {
    let why = status.recovery_mode.as_deref().unwrap_or_default();
    let wrong = Finding::wrong(format!(
        "recovery mode, no tasks are taken and no bots run: {why}"
    ));
    let mut findings = vec![match &status.latest_backup {
        Some(id) => wrong.remedy(format!(
            "`deiactl restore {id} --dry-run`, then without --dry-run: the newest backup, {} old. `deiactl rollback` where the release is at fault. The store stays as it is until then, and is kept",
            human::duration(status.latest_age_seconds.unwrap_or_default())
        )),
        None => wrong.remedy(format!(
            "put a backup into {} and `deiactl backup list`, or `deiactl restore FILE`: here is none. The store stays as it is",
            status.backup_dir
        )),
    }];
    if let Some(restore) = &status.last_restore
        && let Some(error) = &restore.error
    {
        findings.push(Finding::wrong(format!(
            "the last restore, of {}, failed: {error}",
            restore.backup_id
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use deia::time::Timestamp;

    use super::*;

    #[test]
    fn the_newest_backup_is_offered_and_none_is_not() {
        let mut status = RecoveryStatus {
            timestamp: Timestamp::from_micros(0),
            total_backups: 1,
            total_restore_points: 0,
            latest_backup: Some("state-1".into()),
            latest_restore_point: None,
            crash_detected: true,
            backup_dir: "/h/.deia/backups".into(),
            backups_by_type: BTreeMap::new(),
            disk_usage_mb: 0.0,
            latest_age_seconds: Some(90.0),
            next_backup: None,
            last_error: None,
            progress: None,
            last_restore: None,
            recovery_mode: Some("/h/deia.db is damaged".into()),
            home: "/h".into(),
            pid: 7,
        };
        let said = |status: &RecoveryStatus| format!("{:?}", findings(status));
        let offered = said(&status);
        assert!(
            offered.contains("deia.db is damaged") && offered.contains("deiactl restore state-1"),
            "{offered}"
        );
        status.latest_backup = None;
        let none = said(&status);
        assert!(none.contains("/h/.deia/backups"), "{none}");
    }
}
