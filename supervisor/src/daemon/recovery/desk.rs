//! What can be asked about backups and restores, by whichever route, also where there is no store.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use deia::api::{
    AuditAction, AuditLevel, AuditResult, BackupAnswer, BackupMeta, BackupProgress, RecoveryStatus,
    RestoreAnswer, RestorePlan, VerifyAnswer,
};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::last_end::{self, LastEnd};
use super::offline;
use crate::audit::{Actor, Entry, Recorder};
use crate::backup::restore::{self, Journal, Source, Staged};
use crate::backup::{self, Archives, Backups, By, Failure, Found, Kind, Order, Rules};
use crate::daemon::home::Home;
use crate::daemon::upgrade::Attempt;

/// Labels a backup can be asked for with.
const LABELS: [&str; 4] = ["registry", "queue", "bot_assignments", "full"];

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk(Arc<Parts>);

/// What a desk works with.
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
    /// Bounds of a restore, as the configuration has them.
    pub bounds: Box<dyn Fn() -> Bounds + Send + Sync>,
    /// Where a restore goes that is ready to be made.
    pub ready: mpsc::Sender<Ready>,
    /// Held while one is prepared, and for good once it is.
    pub restoring: Arc<Mutex<()>>,
    /// How far one is that is being prepared.
    pub progress: Arc<std::sync::Mutex<Option<BackupProgress>>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// What the configuration says of restores, and of backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes a backup may inflate to.
    pub max_bytes: u64,
    /// There is a configuration file.
    pub has_config: bool,
    /// For the backup of what is there.
    pub rules: Rules,
}

impl Bounds {
    /// From the configuration.
    pub fn new(persistence: &deia::config::Persistence, has_config: bool) -> Self {
        Self {
            max_bytes: persistence.restore_max_mb.saturating_mul(1 << 20),
            has_config,
            rules: Rules::from(persistence),
        }
    }
}

/// A restore that is ready to be made: everything is staged and checked.
#[derive(Debug)]
pub struct Ready {
    /// What is staged.
    pub staged: Staged,
    /// The release that goes on with it, where it is another one.
    pub then: Option<Attempt>,
}

/// What is to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// One of the backups.
    Backup(String),
    /// An archive elsewhere.
    File(PathBuf),
    /// The state from before the last restore.
    Undo,
}

/// In which way.
struct How {
    dry_run: bool,
    /// How many restores in a row nobody had asked for.
    automatic: u32,
    then: Option<Attempt>,
}

/// Why nothing is restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRestored {
    /// There is no such backup.
    #[error("{0}")]
    Unknown(String),
    /// Another one is under way.
    #[error("another restore is under way")]
    Busy,
    /// It is not fit; nothing was changed.
    #[error("{0}")]
    Unfit(String),
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

    /// What is done with backups is put on record from now on.
    pub fn record_by(&self, recorder: Recorder) {
        if let Some(backups) = &self.0.backups {
            backups.record_by(recorder);
        }
    }

    /// What is known of the backups, without looking; `None` where there is no store.
    pub fn summary(&self) -> Option<backup::Summary> {
        let backups = self.0.backups.as_ref()?;
        Some(backups.watch().borrow().clone())
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

    /// Verifies what is to be restored and, without `dry_run`, has the daemon restore it: soon after this returns.
    ///
    /// # Errors
    /// [`NotRestored`]; nothing was changed then.
    pub async fn restore(
        &self,
        wanted: Wanted,
        dry_run: bool,
        by: By,
        automatic: u32,
    ) -> Result<RestoreAnswer, NotRestored> {
        let how = How {
            dry_run,
            automatic,
            then: None,
        };
        self.restore_as(wanted, by, how).await
    }

    /// The same, and another release goes on with it.
    ///
    /// # Errors
    /// [`NotRestored`]; nothing was changed then.
    pub async fn restore_into(
        &self,
        wanted: Wanted,
        by: By,
        then: Attempt,
    ) -> Result<RestoreAnswer, NotRestored> {
        let how = How {
            dry_run: false,
            automatic: 0,
            then: Some(then),
        };
        self.restore_as(wanted, by, how).await
    }

    async fn restore_as(
        &self,
        wanted: Wanted,
        by: By,
        how: How,
    ) -> Result<RestoreAnswer, NotRestored> {
        let this = self.clone();
        // Who asked may hang up: what has begun comes to its end.
        let restored = tokio::spawn(async move { this.restore_now(wanted, by, how).await });
        restored
            .await
            .unwrap_or_else(|e| Err(NotRestored::Unfit(e.to_string())))
    }

    async fn restore_now(
        &self,
        wanted: Wanted,
        by: By,
        how: How,
    ) -> Result<RestoreAnswer, NotRestored> {
        let How {
            dry_run,
            automatic,
            then,
        } = how;
        let parts = &self.0;
        let under_way = parts.restoring.clone().try_lock_owned();
        let under_way = under_way.map_err(|_| NotRestored::Busy)?;
        let bounds = (parts.bounds)();
        let rules = restore::Rules {
            max_bytes: bounds.max_bytes,
            has_config: bounds.has_config,
            by: by.shown.clone(),
            automatic,
        };
        let (home, archives) = (parts.home.clone(), parts.archives.clone());
        let shown = parts.progress.clone();
        let staged = tokio::task::spawn_blocking(move || {
            let source = source(&home, &archives, &wanted)?;
            let mut progress = |done_bytes, total_bytes| {
                let step = "restoring".to_owned();
                let now = BackupProgress {
                    step,
                    done_bytes,
                    total_bytes,
                };
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            };
            let staged = restore::stage(&home, &source, &rules, &mut progress);
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = None;
            staged.map_err(NotRestored::Unfit)
        });
        let staged = staged
            .await
            .map_err(|e| NotRestored::Unfit(e.to_string()))?;
        let mut staged = staged.inspect_err(|why| {
            tracing::warn!(event = "restore_refused", reason = %why, "nothing was changed");
        })?;
        let plan = staged.plan.clone();
        let mut answer = RestoreAnswer {
            success: true,
            restore_id: String::new(),
            dry_run,
            data: data_of(&plan),
            message: "every byte and every row of it was checked; nothing was changed".into(),
            plan,
            timestamp: Timestamp::now(),
        };
        if dry_run {
            tracing::info!(
                event = "restore_verified",
                backup_id = answer.plan.backup.backup_id,
                "a restore was tried; nothing was changed"
            );
            // Its directory goes.
            drop(tokio::task::spawn_blocking(move || drop(staged)).await);
            return Ok(answer);
        }
        if let Some(backups) = &parts.backups {
            let order = Order::new(Kind::BeforeRestore, by.clone());
            if let Err(why) = backups.create(order, bounds.rules).await {
                // It is kept as it is, too.
                tracing::warn!(event = "restore_without_backup", reason = %why, "there is no backup of the present state; the state itself is kept");
            }
        }
        let renewed = tokio::task::spawn_blocking(move || {
            let renewed = staged.renew();
            (staged, renewed)
        });
        let (staged, renewed) = renewed
            .await
            .map_err(|e| NotRestored::Unfit(e.to_string()))?;
        renewed.map_err(NotRestored::Unfit)?;
        // Where there is no store, the restored one says it when it is in use.
        if let Some(backups) = &parts.backups {
            let (now, action) = (Timestamp::now(), AuditAction::BackupRestored);
            let backup_id = answer.plan.backup.backup_id.as_str();
            let entry = Entry::new(now, action, Actor::DAEMON, backup_id)
                .at_level(AuditLevel::Critical)
                .with_result(AuditResult::Partial)
                .with(&json!({"what": "restore begins", "restore_id": staged.restore_id()}));
            // It goes along into the restored store.
            if let Some(on_record) = backups.put_on_record(by.actor, entry).await {
                on_record.wait_anyway().await;
            }
        }
        tracing::warn!(
            event = "restore_started",
            restore_id = staged.restore_id(),
            backup_id = answer.plan.backup.backup_id,
            by = by.shown,
            tasks_dropped = answer.plan.tasks_dropped,
            tasks_run_again = answer.plan.tasks_run_again,
            "a backup is restored: the bots are stopped first"
        );
        answer.restore_id = staged.restore_id().to_owned();
        answer.message = "checked; the daemon stops its bots, swaps the store and goes on".into();
        let sent = parts.ready.send(Ready { staged, then }).await;
        sent.map_err(|_| NotRestored::Unfit("the daemon is stopping".into()))?;
        // There is no way back from here but an end of this process.
        std::mem::forget(under_way);
        Ok(answer)
    }

    /// How it stands with backups and restores.
    ///
    /// # Errors
    /// The folder can't be read.
    pub async fn status(&self) -> io::Result<RecoveryStatus> {
        let (archives, journal) = (self.0.archives.clone(), self.0.home.restore_journal());
        let looked = tokio::task::spawn_blocking(move || {
            // One that can't be read is said at the start.
            let journal = Journal::read(&journal).ok().flatten();
            archives.list().map(|found| (found, journal))
        });
        let (found, journal) = looked.await.map_err(io::Error::other)??;
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
        let summary = self.summary();
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
            progress: self
                .0
                .backups
                .as_ref()
                .and_then(Backups::progress)
                .or_else(|| {
                    let progress = &self.0.progress;
                    progress
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone()
                }),
            last_restore: journal.map(|journal| journal.view()),
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

fn source(home: &Home, archives: &Archives, wanted: &Wanted) -> Result<Source, NotRestored> {
    match wanted {
        Wanted::Backup(id) => archives
            .find(id)
            .map(|found| Source::Archive(Box::new(found)))
            .ok_or_else(|| NotRestored::Unknown(format!("Backup {id} not found"))),
        Wanted::File(path) => offline::file(path)
            .map(|found| Source::Archive(Box::new(found)))
            .map_err(NotRestored::Unknown),
        Wanted::Undo => restore::newest_kept(home)
            .map(Source::Kept)
            .ok_or_else(|| NotRestored::Unknown("there is no state from before a restore".into())),
    }
}

/// What the original answered its data in: counts of what is in the backup.
fn data_of(plan: &RestorePlan) -> BTreeMap<String, serde_json::Value> {
    let tasks = plan.backup.tasks.iter();
    tasks
        .map(|(status, count)| (status.clone(), (*count).into()))
        .collect()
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
