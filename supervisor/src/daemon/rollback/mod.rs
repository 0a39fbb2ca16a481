//! Going back: an earlier release, with the state of a backup, in one procedure that outlives every process in it.
//!
//! ```text
//!   request -> choose.rs: release, backup -> both checked -> told: the plan
//!      | journal.rs: 'draining'
//!      v
//!   hold: new tasks are refused, running ones finish, the bots stop            drive.rs, in the release that is left
//!      | 'restoring'
//!      v
//!   the restore (daemon/recovery) is staged and noted, and the process becomes the earlier release
//!      | 'starting'
//!      v
//!   swap, store opened, fleet held until the store has proved itself           the earlier release
//!      | 'checking'
//!      v
//!   release, store and bots are looked at -> 'done': RTO, RPO                  finish.rs
//! ```
//!
//! Whoever is killed in it: the next start reads the journal and goes on. It stays: the release is pinned
//! (`daemon/upgrade`). What can't be gone on with ends as 'failed' and says what is so now. Where the store can't be used
//! there is nothing to drain: `in_recovery.rs` with a daemon, `offline.rs` without.

mod choice;
mod choose;
mod drive;
mod finish;
mod in_recovery;
mod journal;
pub mod offline;

use std::path::PathBuf;
use std::sync::Arc;

use deia::api::{
    AuditAction, AuditLevel, BackupMeta, DeployedBy, Deployment, RestorePlan, RollbackAnswer,
    RollbackRequest, RollbackState, RollbackStep, RollbackView,
};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

pub use in_recovery::{InRecovery, Place};
pub use journal::Journal;

use super::command::Command;
use super::health::Condition;
use super::home::Home;
use super::recovery::Desk;
use super::recovery::desk::Wanted;
use super::upgrade::{Attempt, Findings, Upgrader, own_name};
use crate::audit::{Actor, Entry, Recorder};
use crate::backup::By;

/// Milliseconds running tasks have where nothing is said.
const WAIT_MS: u64 = 60_000;

/// Backups that are tried, where none is named and the newest are damaged.
const TRIED: usize = 5;

/// Why there is none.
const NO_BACKUP: &str = "there is no backup from before this release was deployed: name one with --backup, or keep the state with --keep-state";

/// Backups that are looked at to find those.
const LISTED: usize = 10_000;

/// Rollbacks of this daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rollbacks(Arc<Parts>);

/// What they work with.
pub struct Parts {
    /// The paths.
    pub home: Home,
    /// Switches to other releases.
    pub upgrader: Upgrader,
    /// Restores.
    pub desk: Desk,
    /// Requests to the main loop.
    pub commands: mpsc::Sender<Command>,
    /// How the daemon is.
    pub condition: watch::Receiver<Condition>,
    /// Held while one is being prepared.
    pub busy: Mutex<()>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Why nothing is rolled back. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRolledBack {
    /// Another one is under way.
    #[error("another rollback is under way: deiactl rollback --status shows how far it is")]
    Busy,
    /// There is nothing fit to go back to.
    #[error("{0}")]
    Unfit(String),
}

impl Rollbacks {
    /// Those of this daemon.
    pub fn new(parts: Parts) -> Self {
        // A rollback restores: from here on there is who puts that on record.
        parts.desk.record_by(Recorder::new(parts.commands.clone()));
        Self(Arc::new(parts))
    }

    /// The last one.
    ///
    /// # Errors
    /// Its journal can't be read.
    pub async fn state(&self) -> Result<RollbackState, String> {
        let rollback = self.journal().await?.map(|journal| journal.view);
        let timestamp = Timestamp::now();
        Ok(RollbackState {
            rollback,
            timestamp,
        })
    }

    /// Chooses, checks both, and begins.
    ///
    /// # Errors
    /// [`NotRolledBack`].
    pub async fn request(
        &self,
        request: RollbackRequest,
        actor: Actor,
    ) -> Result<RollbackAnswer, NotRolledBack> {
        // Who asked may hang up: what has begun comes to its end.
        let this = self.clone();
        let begun = tokio::spawn(async move { this.begin(request, actor).await });
        begun
            .await
            .unwrap_or_else(|e| Err(NotRolledBack::Unfit(e.to_string())))
    }

    async fn begin(
        &self,
        request: RollbackRequest,
        actor: Actor,
    ) -> Result<RollbackAnswer, NotRolledBack> {
        let _one = self.0.busy.try_lock().map_err(|_| NotRolledBack::Busy)?;
        let before = self.journal().await.map_err(NotRolledBack::Unfit)?;
        if before.is_some_and(|before| !before.view.step.is_over()) {
            return Err(NotRolledBack::Busy);
        }
        let dry_run = request.dry_run.unwrap_or(false);
        let mut journal = self
            .prepare(&request, actor.name())
            .await
            .map_err(NotRolledBack::Unfit)?;
        if !dry_run {
            let path = self.path();
            journal = written(journal, RollbackStep::Draining, path)
                .await
                .map_err(NotRolledBack::Unfit)?;
            self.put_on_record(&journal, Some(actor)).await;
            tracing::warn!(
                event = "rollback_started",
                rollback_id = journal.view.rollback_id,
                to = journal.view.to_release,
                backup_id = journal.view.backup_id,
                by = journal.view.by,
                "going back: new tasks are refused"
            );
            tokio::spawn(drive::drive(self.clone(), journal.clone()));
        }
        Ok(RollbackAnswer {
            success: true,
            dry_run,
            rollback: journal.view,
            timestamp: Timestamp::now(),
        })
    }

    /// Chooses release and backup, and checks both.
    async fn prepare(&self, request: &RollbackRequest, by: &str) -> Result<Journal, String> {
        let (known, own) = self.deployments().await?;
        let is_kept = |release: &str| self.0.upgrader.kept(release).is_some();
        let chosen = choose::release(&known, &own, request.version.as_deref(), is_kept)?;
        let to = self.0.upgrader.kept(&chosen.release);
        let to = to.ok_or("the release has just been removed")?;
        let keep_state = request.keep_state.unwrap_or(false);
        let findings = self.0.upgrader.look_at(&to, keep_state).await?;
        let plan = match (keep_state, &request.backup_id) {
            (true, _) => None,
            (false, wanted) => Some(
                plan(
                    &self.0.desk,
                    wanted.as_deref(),
                    choose::deployed_at(&known, &own),
                    by,
                )
                .await?,
            ),
        };
        readable(plan.as_ref(), &findings, &chosen.release)?;
        let from = self.0.upgrader.keep_own().await?;
        let now = Timestamp::now();
        let switch = Attempt {
            id: uuid::Uuid::now_v7().to_string(),
            from,
            to,
            pin: true,
            from_version: deia::VERSION.to_owned(),
            to_version: findings.version.clone(),
            at: now,
            by: by.to_owned(),
            how: DeployedBy::Rollback,
        };
        let wait = request
            .wait_seconds
            .map_or(WAIT_MS, |s| (s * 1000.0) as u64);
        Ok(Journal {
            view: view(&switch, chosen, &own, plan.as_ref(), now),
            switch,
            wait_ms: wait,
            backup_at: plan.map(|plan| plan.backup.timestamp),
            again: 0,
        })
    }

    async fn deployments(&self) -> Result<(Vec<Deployment>, String), String> {
        let own = own_name().ok_or("this program's own file can't be looked at")?;
        let list = self.0.upgrader.deployments();
        let known = tokio::task::spawn_blocking(move || list.list()).await;
        let known = known.map_err(|e| e.to_string())?;
        Ok((known.map_err(|e| e.to_string())?, own))
    }

    async fn journal(&self) -> Result<Option<Journal>, String> {
        read(self.path()).await
    }

    fn path(&self) -> PathBuf {
        self.0.home.rollback_journal()
    }

    /// Puts on record that it begins (`actor`), or how it ended.
    async fn put_on_record(&self, journal: &Journal, actor: Option<Actor>) {
        let view = &journal.view;
        let begins = actor.is_some();
        let mut entry = Entry::new(
            Timestamp::now(),
            AuditAction::RestartRequested,
            actor.unwrap_or(Actor::DAEMON),
            view.rollback_id.as_str(),
        )
        .at_level(AuditLevel::Warning)
        .with(&json!({
            "what": if begins { "rollback" } else { "rollback ended" },
            "to": view.to_release,
            "backup": view.backup_id,
            "asked_by": view.by,
        }));
        entry.error.clone_from(&view.error);
        if view.error.is_some() {
            entry = entry.with_result(deia::api::AuditResult::Failure);
        }
        let (reply, noted) = oneshot::channel();
        let entry = Box::new(entry);
        if self
            .0
            .commands
            .send(Command::Note { entry, reply })
            .await
            .is_ok()
        {
            // The daemon may be ending, and a store that takes nothing now is said elsewhere.
            let _ = noted.await;
        }
    }

    /// It is over without having come to its end.
    async fn failed(&self, mut journal: Journal, why: String) {
        tracing::error!(
            event = "rollback_failed",
            rollback_id = journal.view.rollback_id,
            reason = why,
            "the rollback did not come to its end"
        );
        journal.view.error = Some(why);
        self.over(journal, RollbackStep::Failed).await;
    }

    async fn over(&self, journal: Journal, step: RollbackStep) {
        self.put_on_record(&journal, None).await;
        let id = journal.view.rollback_id.clone();
        if let Err(e) = written(journal, step, self.path()).await {
            tracing::error!(event = "rollback_not_written", rollback_id = id, error = %e, "how the rollback ended could not be written down; it is looked at again at the next start");
        }
    }
}

/// The rollback under way that this very release is the end of, where there is one. Blocks.
pub fn come_to(home: &Home) -> Option<Attempt> {
    // One that can't be read is said by who goes on with it.
    let journal = Journal::read(&home.rollback_journal()).ok().flatten()?;
    let is_its_end = !journal.view.step.is_over() && own_name()? == journal.view.to_release;
    is_its_end.then_some(journal.switch)
}

/// What the restore comes to: of the backup that is named, else of the best one that is whole.
async fn plan(
    desk: &Desk,
    wanted: Option<&str>,
    deployed_at: Option<Timestamp>,
    by: &str,
) -> Result<RestorePlan, String> {
    let candidates: Vec<String> = match wanted {
        Some(id) => vec![id.to_owned()],
        None => {
            let listed = desk.list(|_| true, LISTED).await;
            let listed: Vec<BackupMeta> = listed.map_err(|e| e.to_string())?;
            let best = choose::backups(&listed, deployed_at).take(TRIED);
            best.map(|backup| backup.backup_id.clone()).collect()
        }
    };
    let mut why = NO_BACKUP.to_owned();
    for id in candidates {
        let wanted = Wanted::Backup(id.clone());
        let tried = desk.restore(wanted, true, By::daemon_for(by), 0).await;
        match tried {
            Ok(answer) => return Ok(answer.plan),
            Err(e) => why = format!("backup {id}: {e}"),
        }
    }
    Err(why)
}

/// Whether the release can read the backup.
fn readable(plan: Option<&RestorePlan>, findings: &Findings, release: &str) -> Result<(), String> {
    let Some(plan) = plan.filter(|plan| plan.backup.schema_version > findings.schema_version)
    else {
        return Ok(());
    };
    Err(format!(
        "backup {} has schema {}, which is newer than release {release} can read ({}): name an older one with --backup",
        plan.backup.backup_id, plan.backup.schema_version, findings.schema_version
    ))
}

/// The last rollback.
async fn read(path: PathBuf) -> Result<Option<Journal>, String> {
    let named = format!("{}", path.display());
    let read = tokio::task::spawn_blocking(move || Journal::read(&path)).await;
    let read = read.map_err(|e| e.to_string())?;
    read.map_err(|e| format!("{named}: {e}"))
}

/// The same journal, on disk, a step further.
async fn written(
    mut journal: Journal,
    step: RollbackStep,
    path: PathBuf,
) -> Result<Journal, String> {
    let done = tokio::task::spawn_blocking(move || {
        journal
            .come_to(step, &path)
            .map(|()| journal)
            .map_err(|e| format!("{} can't be written: {e}", path.display()))
    });
    done.await.unwrap_or_else(|e| Err(e.to_string()))
}

fn view(
    switch: &Attempt,
    to: &Deployment,
    own: &str,
    plan: Option<&RestorePlan>,
    now: Timestamp,
) -> RollbackView {
    RollbackView {
        rollback_id: format!("rollback-{}", switch.id),
        by: switch.by.clone(),
        step: RollbackStep::Draining,
        steps: Vec::new(),
        error: None,
        from_version: switch.from_version.clone(),
        from_release: own.to_owned(),
        to_version: switch.to_version.clone(),
        to_release: to.release.clone(),
        backup_id: plan.map(|plan| plan.backup.backup_id.clone()),
        tasks_dropped: plan.and_then(|plan| plan.tasks_dropped),
        tasks_run_again: plan.and_then(|plan| plan.tasks_run_again),
        began_at: now,
        ended_at: None,
        rto_seconds: None,
        rpo_seconds: None,
    }
}
