//! A rollback where the store can't be used. The daemon in recovery mode has the home's lock and no fleet: it chooses,
//! checks, has the restore made and pins the earlier release, as which it starts itself anew.

use std::path::PathBuf;
use std::sync::Arc;

use deia::api::{RestorePlan, RollbackAnswer, RollbackRequest, RollbackState, RollbackStep};
use deia::time::Timestamp;
use tokio::sync::{Mutex, mpsc};

use super::choice::Choice;
use super::{Journal, NotRolledBack, plan, read, readable, written};
use crate::backup::By;
use crate::daemon::home::Home;
use crate::daemon::recovery::Desk;
use crate::daemon::recovery::desk::Wanted;
use crate::daemon::upgrade::{Attempt, Deployments, Releases, Subject, look_at, own_name};
use crate::fleet::pids::BotPids;

/// How this daemon was started.
#[derive(Debug, Clone)]
pub struct Place {
    /// Kept releases.
    pub releases: Releases,
    /// The path it was started by.
    pub invoked: PathBuf,
    /// `--config`.
    pub config: Option<PathBuf>,
}

/// Rollbacks in recovery mode. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InRecovery {
    home: Home,
    place: Place,
    desk: Desk,
    pids: BotPids,
    /// A release that is to be started with the store as it is.
    alone: mpsc::Sender<Attempt>,
    busy: Arc<Mutex<()>>,
}

impl InRecovery {
    /// Those of this daemon. A rollback of the release alone goes to the returned channel, one with a backup where
    /// restores go.
    pub fn new(
        home: Home,
        place: Place,
        desk: Desk,
        pids: BotPids,
    ) -> (Self, mpsc::Receiver<Attempt>) {
        let (alone, to_start) = mpsc::channel(1);
        let this = Self {
            home,
            place,
            desk,
            pids,
            alone,
            busy: Arc::default(),
        };
        (this, to_start)
    }

    /// Which releases ran here.
    pub fn deployments(&self) -> Deployments {
        self.place.releases.deployments()
    }

    /// The last one.
    ///
    /// # Errors
    /// Its journal can't be read.
    pub async fn state(&self) -> Result<RollbackState, String> {
        let journal = read(self.home.rollback_journal()).await?;
        Ok(RollbackState {
            rollback: journal.map(|journal| journal.view),
            timestamp: Timestamp::now(),
        })
    }

    /// Chooses, checks both, and begins.
    ///
    /// # Errors
    /// [`NotRolledBack`].
    pub async fn request(
        &self,
        request: RollbackRequest,
        by: String,
    ) -> Result<RollbackAnswer, NotRolledBack> {
        // Who asked may hang up: what has begun comes to its end.
        let this = self.clone();
        let begun = tokio::spawn(async move { this.begin(&request, by).await });
        begun
            .await
            .unwrap_or_else(|e| Err(NotRolledBack::Unfit(e.to_string())))
    }

    async fn begin(
        &self,
        request: &RollbackRequest,
        by: String,
    ) -> Result<RollbackAnswer, NotRolledBack> {
        // One that an earlier process has begun has ended here, without its end: it is begun anew.
        let under_way = self.busy.clone().try_lock_owned();
        let under_way = under_way.map_err(|_| NotRolledBack::Busy)?;
        let prepared = self.prepare(request, &by).await;
        let (journal, plan) = prepared.map_err(NotRolledBack::Unfit)?;
        let dry_run = request.dry_run.unwrap_or(false);
        let view = journal.view.clone();
        if !dry_run {
            self.go(journal, plan, by)
                .await
                .map_err(NotRolledBack::Unfit)?;
            // There is no way back from here but an end of this process.
            std::mem::forget(under_way);
        }
        Ok(RollbackAnswer {
            success: true,
            dry_run,
            rollback: view,
            timestamp: Timestamp::now(),
        })
    }

    async fn prepare(
        &self,
        request: &RollbackRequest,
        by: &str,
    ) -> Result<(Journal, Option<RestorePlan>), String> {
        let own = own_name().ok_or("this program's own file can't be looked at")?;
        let (releases, wanted) = (self.place.releases.clone(), request.version.clone());
        let choice = tokio::task::spawn_blocking(move || {
            let known = releases.deployments().list().map_err(|e| e.to_string())?;
            let own = (own, deia::VERSION.to_owned());
            Choice::make(&releases, known, own, wanted.as_deref())
        });
        let choice = choice.await.map_err(|e| e.to_string())??;
        let subject = Subject {
            binary: choice.to.clone(),
            home: self.home.root.clone(),
            config: self.place.config.clone(),
        };
        let findings = look_at(&subject, None, &self.pids).await?;
        let plan = match request.keep_state.unwrap_or(false) {
            true => None,
            false => {
                let wanted = request.backup_id.as_deref();
                Some(plan(&self.desk, wanted, choice.deployed_at(), by).await?)
            }
        };
        let journal = choice.journal(plan.as_ref(), self.own(&choice).await, by.to_owned());
        readable(plan.as_ref(), &findings, &journal.view.to_release)?;
        Ok((journal, plan))
    }

    /// Where this release is kept, so that it can be come back to; where it can't be, the other one.
    async fn own(&self, choice: &Choice) -> PathBuf {
        let releases = self.place.releases.clone();
        let keep = move || releases.keep("/proc/self/exe".as_ref(), deia::VERSION);
        let kept = tokio::task::spawn_blocking(keep).await;
        match kept {
            Ok(Ok(kept)) => kept,
            Ok(Err(_)) | Err(_) => choice.to.clone(),
        }
    }

    async fn go(
        &self,
        journal: Journal,
        plan: Option<RestorePlan>,
        by: String,
    ) -> Result<(), String> {
        let path = self.home.rollback_journal();
        let journal = written(journal, RollbackStep::Restoring, path.clone()).await?;
        tracing::warn!(
            event = "rollback_started",
            rollback_id = journal.view.rollback_id,
            to = journal.view.to_release,
            backup_id = journal.view.backup_id,
            by,
            "going back, from recovery mode"
        );
        let attempt = journal.switch.clone();
        let begun = match plan {
            Some(plan) => {
                let wanted = Wanted::Backup(plan.backup.backup_id);
                let restored = self
                    .desk
                    .restore_into(wanted, By::daemon_for(by), attempt)
                    .await;
                restored.map(drop).map_err(|e| e.to_string())
            }
            None => {
                let sent = self.alone.send(attempt).await;
                sent.map_err(|_| "the daemon is stopping".to_owned())
            }
        };
        let Err(why) = begun else { return Ok(()) };
        let mut failed = journal;
        failed.view.error = Some(why.clone());
        // What could not be written is begun anew, as it says.
        drop(written(failed, RollbackStep::Failed, path).await);
        Err(why)
    }
}
