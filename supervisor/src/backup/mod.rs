//! Backups: made, kept, listed, verified.
//!
//! ```text
//!   interval, operator --> create.rs --> write.rs --> .deia/backups/state-<time>.tar.gz
//!                             |                              |
//!                        SQLite's backup           archives.rs lists, read.rs reads
//!                                                            |
//!   hook.rs <-- after each one                       keep (brain): what goes
//! ```
//!
//! Owns `.deia/backups/`. What is there is what there is: no list on the side decides, so an archive that is
//! copied in is a backup, and one that is removed is none. Absent on purpose: secrets. No configuration
//! holds any, and `.deia/secrets/` is not part of a backup: after a restore on another host, tokens and the secrets
//! of bots have to be made anew.

mod archives;
mod create;
pub(crate) mod fuzz;
mod hook;
pub mod manifest;
mod name;
pub mod read;
pub mod restore;
mod schedule;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use deia::api::{AuditAction, AuditLevel, BackupMeta, BackupProgress};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{oneshot, watch};

pub use archives::{Archives, ENDING, Found, MAX_ARCHIVES, is_id};
pub use create::{By, Made, Order, by_status, room_for, with_suffix};
pub use manifest::{Kind, Manifest};
pub use schedule::schedule;

use crate::audit::{Actor, Entry, OnRecord, Recorder};
use crate::daemon::home::Home;
use crate::fleet::pids::BotPids;

/// Requests for a backup that may wait for one that is under way.
const MAX_WAITING: usize = 8;

/// What is known of backups, for those who watch: metrics, alerts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// The newest one that can be read.
    pub newest: Option<Newest>,
    /// How many there are.
    pub count: usize,
    /// Bytes of all of them.
    pub total_bytes: u64,
    /// Backups that this daemon made, and those that failed.
    pub made: u64,
    /// See `made`.
    pub failed: u64,
    /// Why the last one failed, if the last one did.
    pub last_error: Option<String>,
    /// When the next one is due, where they are scheduled.
    pub next_due: Option<Timestamp>,
}

/// The newest backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Its name.
    pub id: String,
    /// When it was made.
    pub at: Timestamp,
    /// Its bytes.
    pub size_bytes: u64,
}

impl Summary {
    /// Seconds since the newest one was made.
    pub fn age_seconds(&self, now: Timestamp) -> Option<f64> {
        let newest = self.newest.as_ref()?;
        Some(now.seconds_since(newest.at).max(0.0))
    }
}

/// Why there is no backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many are asked for at once.
    #[error("{MAX_WAITING} backups are being waited for already; one at a time is made")]
    Busy,
    /// It could not be made.
    #[error("{0}")]
    Failed(String),
}

/// Backups of this daemon. Cheap to clone.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

impl std::fmt::Debug for Backups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backups").finish_non_exhaustive()
    }
}

/// The configuration file that is in force, whenever it is asked for.
pub type ConfigFile = Box<dyn Fn() -> Option<PathBuf> + Send + Sync>;

/// What a backup is made with.
struct Inner {
    home: Home,
    archives: Archives,
    config_file: ConfigFile,
    pids: BotPids,
    recorder: OnceLock<Recorder>,
    one_at_a_time: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    progress: Mutex<Option<BackupProgress>>,
    summary: watch::Sender<Summary>,
}

impl Backups {
    /// Those of this home.
    pub fn new(home: &Home, pids: BotPids, config_file: ConfigFile) -> Self {
        Self(Arc::new(Inner {
            archives: Archives::new(home.backups()),
            home: home.clone(),
            config_file,
            pids,
            recorder: OnceLock::new(),
            one_at_a_time: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            progress: Mutex::default(),
            summary: watch::Sender::default(),
        }))
    }

    /// Removes what a process that was killed over a backup has left. At a start, before one is made. Blocks.
    pub fn sweep(&self) {
        self.0.sweep();
    }

    /// The archives.
    pub fn archives(&self) -> &Archives {
        &self.0.archives
    }

    /// What is known of them, without looking: for metrics and alerts.
    pub fn watch(&self) -> watch::Receiver<Summary> {
        self.0.summary.subscribe()
    }

    /// What is being done now.
    pub fn progress(&self) -> Option<BackupProgress> {
        let progress = &self.0.progress;
        progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes one, checks it, removes those that are over their days, and runs what is to be run after it.
    /// One that is under way is waited for.
    ///
    /// # Errors
    /// [`Failure`]; nothing is left of it then.
    pub async fn create(&self, order: Order, rules: Rules) -> Result<Made, Failure> {
        let this = self.clone();
        // A client that hangs up must not let a second one begin beside this.
        let made = tokio::spawn(async move { this.create_now(order, &rules).await });
        made.await
            .unwrap_or_else(|e| Err(Failure::Failed(e.to_string())))
    }

    async fn create_now(&self, order: Order, rules: &Rules) -> Result<Made, Failure> {
        let inner = &self.0;
        if inner.waiting.fetch_add(1, Ordering::AcqRel) >= MAX_WAITING {
            inner.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Failure::Busy);
        }
        let this = inner.one_at_a_time.lock().await;
        let (kind, actor) = (order.kind, order.actor.clone());
        let made = self.make(order).await;
        let entry = entry(kind, &made);
        let on_record = self.put_on_record(actor, entry).await;
        inner.waiting.fetch_sub(1, Ordering::AcqRel);
        inner.summary.send_modify(|summary| match &made {
            Ok(_) => {
                summary.made += 1;
                summary.last_error = None;
            }
            Err(why) => {
                summary.failed += 1;
                summary.last_error = Some(why.clone());
            }
        });
        let made = match made {
            Ok(made) => made,
            Err(why) => {
                wait(on_record).await;
                tracing::error!(event = "backup_failed", error = %why, "there is no new backup");
                return Err(Failure::Failed(why));
            }
        };
        tracing::info!(
            event = "backup_created",
            backup_id = made.id,
            kind = made.manifest.kind.as_str(),
            size_bytes = made.size,
            content_bytes = made.manifest.content_bytes(),
            tasks = made.manifest.task_count(),
            seconds = made.took.as_secs_f64(),
            "a backup was made"
        );
        // It got its name after that.
        tracing::info!(
            event = "backup_verified",
            backup_id = made.id,
            "every row of it was checked, and every byte read back"
        );
        wait(on_record).await;
        self.retain(rules.retention_days).await;
        self.look().await;
        drop(this);
        if let Some((program, arguments)) = rules.after.split_first() {
            let (pids, made) = (inner.pids.clone(), made.clone());
            let (program, arguments) = (program.clone(), arguments.to_vec());
            tokio::spawn(async move { hook::run(&program, &arguments, &made, &pids).await });
        }
        Ok(made)
    }

    async fn make(&self, order: Order) -> Result<Made, String> {
        let (inner, (made_to, made)) = (self.0.clone(), oneshot::channel());
        // A thread of its own, because its place with the processor stays with it.
        let thread = std::thread::Builder::new().name("backup".into());
        let started = thread.spawn(move || {
            crate::sigmask::block();
            // Who asked may be gone; the backup is as good.
            let _ = made_to.send(inner.make(order));
        });
        match started {
            Ok(_) => made
                .await
                .unwrap_or_else(|_| Err("a fault of the daemon ended it".into())),
            Err(e) => Err(format!("no thread can be started: {e}")),
        }
    }

    /// What is done here is put on record from now on; once.
    pub fn record_by(&self, recorder: Recorder) {
        let _ = self.0.recorder.set(recorder);
    }

    /// Puts something on record, where somebody does.
    pub(crate) async fn put_on_record(&self, actor: Actor, entry: Entry) -> Option<OnRecord> {
        Some(self.0.recorder.get()?.put(actor, entry).await)
    }

    async fn retain(&self, days: u32) {
        let inner = self.0.clone();
        match tokio::task::spawn_blocking(move || inner.retain(days)).await {
            Ok(Ok(over)) => {
                for backup_id in over {
                    let (now, action) = (Timestamp::now(), AuditAction::BackupDeleted);
                    let entry = Entry::new(now, action, Actor::DAEMON, backup_id.as_str())
                        .with(&json!({"retention_days": days}));
                    wait(self.put_on_record(Actor::DAEMON, entry).await).await;
                    tracing::info!(
                        event = "backup_deleted_old",
                        backup_id,
                        "a backup was over its days"
                    );
                }
            }
            Ok(Err(e)) => {
                tracing::warn!(event = "backup_not_deleted", error = %e, "old backups could not be removed");
            }
            Err(_) => {}
        }
    }

    /// Looks at what there is, for [`Backups::watch`].
    pub(crate) async fn look(&self) {
        let archives = self.0.archives.clone();
        let found = tokio::task::spawn_blocking(move || archives.list()).await;
        let Ok(Ok(found)) = found else { return };
        let newest = found
            .iter()
            .find(|one| one.manifest.is_ok())
            .map(|one| Newest {
                id: one.id.clone(),
                at: one.at,
                size_bytes: one.size,
            });
        self.0.summary.send_modify(|summary| {
            summary.count = found.len();
            summary.total_bytes = found.iter().map(|one| one.size).sum();
            summary.newest = newest;
        });
    }

    /// The backups there are, newest first, with the sums of their files.
    ///
    /// # Errors
    /// The folder can't be read.
    pub async fn list(
        &self,
        wanted: impl Fn(&Found) -> bool + Send + 'static,
        limit: usize,
    ) -> std::io::Result<Vec<BackupMeta>> {
        list(self.0.archives.clone(), wanted, limit).await
    }

    pub(crate) fn due(&self, next: Option<Timestamp>) {
        self.0.summary.send_if_modified(|summary| {
            let changed = summary.next_due != next;
            summary.next_due = next;
            changed
        });
    }
}

/// Until it is on record, where it is put on record.
async fn wait(on_record: Option<OnRecord>) {
    if let Some(on_record) = on_record {
        on_record.wait_anyway().await;
    }
}

/// The record of one that was made, or was not.
fn entry(kind: Kind, made: &Result<Made, String>) -> Entry {
    let (now, action) = (Timestamp::now(), AuditAction::BackupCreated);
    match made {
        Ok(made) => Entry::new(now, action, Actor::DAEMON, made.id.as_str()).with(&json!({
            "kind": kind.as_str(),
            "size_bytes": made.size,
            "tasks": made.manifest.task_count(),
        })),
        Err(why) => Entry::new(now, action, Actor::DAEMON, "backup")
            .at_level(AuditLevel::Warning)
            .with(&json!({"kind": kind.as_str()}))
            .failed(why),
    }
}

/// What the configuration says of backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Days one is kept.
    pub retention_days: u32,
    /// What is run after each one.
    pub after: Vec<String>,
}

impl From<&deia::config::Persistence> for Rules {
    fn from(persistence: &deia::config::Persistence) -> Self {
        Self {
            retention_days: persistence.backup_retention_days,
            after: persistence.backup_after.clone(),
        }
    }
}

/// Archives that are wanted, newest first, with the sums of their files.
///
/// # Errors
/// The folder can't be read.
pub async fn list(
    archives: Archives,
    wanted: impl Fn(&Found) -> bool + Send + 'static,
    limit: usize,
) -> std::io::Result<Vec<BackupMeta>> {
    let listed = tokio::task::spawn_blocking(move || {
        let mut found = archives.list()?;
        found.retain(|one| wanted(one));
        found.truncate(limit);
        archives.sum_up(&mut found);
        Ok(found.iter().map(Found::meta).collect())
    });
    listed.await.map_err(std::io::Error::other)?
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
