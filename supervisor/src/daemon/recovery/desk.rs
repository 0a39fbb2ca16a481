//! What can be asked about backups and restores, by whichever route, also where there is no store.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use deia::api::{BackupAnswer, BackupMeta, RecoveryStatus, VerifyAnswer};
use deia::time::Timestamp;

use super::last_end::{self, LastEnd};
use crate::backup::{self, Archives, Backups, Failure, Found, Kind, Order, Rules};
use crate::daemon::home::Home;

/// Labels a backup can be asked for with.
const LABELS: [&str; 4] = ["registry", "queue", "bot_assignments", "full"];

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk(Arc<Parts>);

/// What a desk works with.
#[derive(Debug)]
pub struct Parts {
    /// The paths.
    pub home: Home,
    /// Makes backups, where there is a store.
    pub backups: Option<Backups>,
    /// The archives.
    pub archives: Archives,
    /// How the daemon before ended.
    pub last_end: LastEnd,
    /// Why the store can't be used, where it can't.
    pub unusable: Option<String>,
}

impl Desk {
    /// A desk.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Why the store can't be used, where it can't.
    pub fn unusable(&self) -> Option<&str> {
        self.0.unusable.as_deref()
    }

    /// Makes a backup.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn create(&self, order: Order, rules: Rules) -> Result<BackupAnswer, Failure> {
        let Some(backups) = &self.0.backups else {
            let why = self.unusable().unwrap_or("there is no store");
            return Err(Failure::Failed(why.to_owned()));
        };
        let made = backups.create(order, rules).await?;
        let mut listed = self
            .list(
                {
                    let id = made.id.clone();
                    move |found| found.id == id
                },
                1,
            )
            .await
            .map_err(|e| Failure::Failed(e.to_string()))?;
        let backup = listed
            .pop()
            .ok_or_else(|| Failure::Failed("somebody has removed it again".into()))?;
        Ok(BackupAnswer {
            success: true,
            backup_id: made.id,
            timestamp: made.manifest.created_at,
            backup,
            seconds: made.took.as_secs_f64(),
        })
    }

    /// Archives that are wanted, newest first.
    ///
    /// # Errors
    /// The folder can't be read.
    pub async fn list(
        &self,
        wanted: impl Fn(&Found) -> bool + Send + 'static,
        limit: usize,
    ) -> io::Result<Vec<BackupMeta>> {
        backup::list(self.0.archives.clone(), wanted, limit).await
    }

    /// Reads every byte of a backup. `None`: there is none of this name.
    pub async fn verify(&self, id: &str) -> Option<VerifyAnswer> {
        let begun = Instant::now();
        let (archives, id) = (self.0.archives.clone(), id.to_owned());
        let verified = tokio::task::spawn_blocking(move || {
            let found = archives.find(&id)?;
            let mut one = [found];
            archives.sum_up(&mut one);
            let [found] = one;
            let verified = Archives::verify(&found.path, &mut |_| ());
            Some((found, verified.err().map(|e| e.to_string())))
        });
        let (found, error) = verified.await.ok()??;
        match &error {
            None => tracing::info!(
                event = "backup_verified",
                backup_id = found.id,
                "every byte of it was read"
            ),
            Some(why) => {
                tracing::error!(
                    event = "backup_damaged",
                    backup_id = found.id,
                    error = why,
                    "a backup is not what it was"
                );
            }
        }
        Some(VerifyAnswer {
            success: error.is_none(),
            backup_id: found.id.clone(),
            backup: found.manifest.is_ok().then(|| found.meta()),
            error,
            seconds: begun.elapsed().as_secs_f64(),
            timestamp: Timestamp::now(),
        })
    }

    /// How it stands with backups and restores.
    ///
    /// # Errors
    /// The folder can't be read.
    pub async fn status(&self) -> io::Result<RecoveryStatus> {
        let archives = self.0.archives.clone();
        let found = tokio::task::spawn_blocking(move || archives.list());
        let found = found.await.map_err(io::Error::other)??;
        let good = || found.iter().filter(|one| one.manifest.is_ok());
        let is_point = |one: &&Found| is_restore_point(one);
        let mut backups_by_type: BTreeMap<String, u64> = BTreeMap::new();
        for one in &found {
            if let Ok(manifest) = &one.manifest {
                *backups_by_type
                    .entry(manifest.backup_type.clone())
                    .or_default() += 1;
            }
        }
        let now = Timestamp::now();
        let summary = self
            .0
            .backups
            .as_ref()
            .map(|backups| backups.watch().borrow().clone());
        let bytes: u64 = found.iter().map(|one| one.size).sum();
        Ok(RecoveryStatus {
            timestamp: now,
            total_backups: found.len(),
            total_restore_points: good().filter(is_point).count(),
            latest_backup: good().next().map(|one| one.id.clone()),
            latest_restore_point: good().find(is_point).map(|one| one.id.clone()),
            crash_detected: self.0.last_end == LastEnd::Crash,
            backup_dir: self.0.archives.folder().display().to_string(),
            backups_by_type,
            disk_usage_mb: bytes as f64 / f64::from(1 << 20),
            latest_age_seconds: good().next().map(|one| now.seconds_since(one.at).max(0.0)),
            next_backup: summary.as_ref().and_then(|summary| summary.next_due),
            last_error: summary.and_then(|summary| summary.last_error),
            progress: self.0.backups.as_ref().and_then(Backups::progress),
            last_restore: None,
            recovery_mode: self.0.unusable.clone(),
            home: self.0.home.root.display().to_string(),
            pid: std::process::id(),
        })
    }

    /// Notes that an end that comes now is no crash.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn mark_shutdown(&self, by: String) -> io::Result<()> {
        let home = self.0.home.clone();
        let marked = tokio::task::spawn_blocking(move || last_end::mark(&home, &by));
        marked.await.map_err(io::Error::other)?
    }
}

/// Whether it was made to come back to.
pub fn is_restore_point(found: &Found) -> bool {
    let kind = found.manifest.as_ref().map(|manifest| manifest.kind);
    kind == Ok(Kind::RestorePoint)
}

/// The label that is meant: the original's rule.
pub fn label(text: Option<&str>, default: &'static str) -> &'static str {
    let Some(text) = text else { return default };
    let known = LABELS.iter().find(|label| label.eq_ignore_ascii_case(text));
    known.copied().unwrap_or("registry")
}
