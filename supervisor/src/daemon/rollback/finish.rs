//! The part of a rollback that the process does which comes after: the earlier release, or whoever runs where it could
//! not.

use std::time::Duration;

use deia::api::RollbackStep;
use deia::bot::{Actual, Wanted};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::journal::Journal;
use super::{Rollbacks, drive, written};
use crate::backup::restore::{self, Phase};
use crate::daemon::command::Command;
use crate::daemon::upgrade::own_name;
use deia::time::Timestamp;

/// The restored store has so long to prove itself, and the bots to get ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The switch is tried again so often, where a kill has cut it short.
const AGAIN: u32 = 1;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

impl Rollbacks {
    /// Goes on with a rollback that an earlier process has begun, where there is one. Call once the daemon is ready.
    pub async fn go_on(self) {
        let journal = match self.journal().await {
            Ok(Some(journal)) if !journal.view.step.is_over() => journal,
            Ok(_) => return,
            Err(e) => {
                tracing::error!(event = "rollback_unknown", error = %e, "whether a rollback is under way can't be told");
                return;
            }
        };
        tracing::info!(
            event = "rollback_goes_on",
            rollback_id = journal.view.rollback_id,
            "a rollback is under way"
        );
        if !self.is_past_the_point(&journal).await {
            // Killed before anything was changed.
            return drive::drive(self, journal).await;
        }
        match self.check(journal).await {
            Ok(journal) => {
                tracing::warn!(
                    event = "rollback_completed",
                    rollback_id = journal.view.rollback_id,
                    version = journal.view.to_version,
                    backup_id = journal.view.backup_id,
                    rto_seconds = journal.view.rto_seconds,
                    rpo_seconds = journal.view.rpo_seconds,
                    "the earlier release runs, with the restored state"
                );
                self.over(journal, RollbackStep::Done).await;
            }
            Err((journal, why)) => self.failed(journal, why).await,
        }
    }

    /// Whether the switch, or the restore, was noted: then it has happened by now.
    async fn is_past_the_point(&self, journal: &Journal) -> bool {
        if journal.view.backup_id.is_none() {
            if own_name().as_deref() == Some(journal.view.to_release.as_str()) {
                return true;
            }
            let last = self.0.upgrader.view().last_upgrade;
            return last.is_some_and(|last| last.upgrade_id == journal.switch.id);
        }
        let restored = self.restored().await;
        restored.is_some_and(|restored| self.is_its_own(journal, &restored))
    }

    fn is_its_own(&self, journal: &Journal, restored: &restore::Journal) -> bool {
        Some(&restored.backup_id) == journal.view.backup_id.as_ref()
            && restored.began_at >= journal.view.began_at
            && restored.phase != Phase::Failed
    }

    async fn restored(&self) -> Option<restore::Journal> {
        let path = self.0.home.restore_journal();
        let read = tokio::task::spawn_blocking(move || restore::Journal::read(&path));
        read.await.ok()?.ok().flatten()
    }

    async fn check(&self, journal: Journal) -> Result<Journal, (Journal, String)> {
        let kept = journal.clone();
        let mut journal = written(journal, RollbackStep::Checking, self.path())
            .await
            .map_err(|e| (kept, e))?;
        deia::failpoint!("rollback.checking");
        if let Err(why) = self.restore_is_proved(&journal).await {
            return Err((journal, why));
        }
        let own = own_name();
        if own.as_deref() == Some(&journal.view.from_release) && journal.again < AGAIN {
            // A kill between the restore and the earlier release's word that it is ready.
            journal.again += 1;
            return self.switch_again(journal).await;
        }
        if let Err(why) = self.found(&journal).await {
            return Err((journal, why));
        }
        let now = Timestamp::now();
        let began_at = journal.view.began_at;
        journal.view.rto_seconds = Some(now.seconds_since(began_at));
        let age = journal
            .backup_at
            .map_or(0.0, |at| began_at.seconds_since(at));
        journal.view.rpo_seconds = Some(age.max(0.0));
        Ok(journal)
    }

    /// Becomes the earlier release, which goes on. Returns only where it can't.
    async fn switch_again(&self, mut journal: Journal) -> Result<Journal, (Journal, String)> {
        let release = journal.switch.to.clone();
        if let Err(e) = self.0.upgrader.look_at(&release, true).await {
            let why = format!(
                "the restored state is in use, and release {} can't take it: {e}",
                journal.view.to_release
            );
            return Err((journal, why));
        }
        journal.switch.id = uuid::Uuid::now_v7().to_string();
        let kept = journal.clone();
        let journal = written(journal, RollbackStep::Checking, self.path())
            .await
            .map_err(|e| (kept, e))?;
        match self.0.upgrader.switch(journal.switch.clone()).await {
            // This process is about to become it.
            Ok(()) => std::future::pending().await,
            Err(e) => Err((journal, e)),
        }
    }

    /// Waits until the restored store has proved itself.
    async fn restore_is_proved(&self, journal: &Journal) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while journal.view.backup_id.is_some() {
            let restored = self.restored().await;
            let Some(restored) = restored.filter(|r| self.is_its_own(journal, r)) else {
                return Err("the restore did not happen; deiactl status shows what runs".into());
            };
            if let Some(why) = restored.error {
                return Err(format!(
                    "the restored store did not pass its checks: {why}; the fleet stays at 0, and deiactl restore --undo goes back"
                ));
            }
            if restored.phase == Phase::Done {
                break;
            }
            if Instant::now() > deadline {
                return Err("the restored store has not proved itself; see the log".into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// What is wrong with what runs now.
    async fn found(&self, journal: &Journal) -> Result<(), String> {
        if own_name().as_deref() != Some(journal.view.to_release.as_str()) {
            let last = self.0.upgrader.view().last_upgrade;
            let why = last.and_then(|last| last.error);
            return Err(format!(
                "release {} does not run: {}; the state is the restored one, under release {}. deiactl upgrade {} tries again",
                journal.view.to_release,
                why.as_deref().unwrap_or("the switch was cut short"),
                deia::VERSION,
                journal.view.to_release
            ));
        }
        self.bots_are_ready().await
    }

    async fn bots_are_ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fault = self.0.condition.borrow().store_fault.clone();
            if let Some(fault) = fault {
                return Err(format!("the store takes no writes: {fault}"));
            }
            let (reply, answer) = oneshot::channel();
            let asked = self.0.commands.send(Command::Bots { reply }).await;
            let bots = match asked {
                Ok(()) => answer.await,
                // The daemon is ending: the next start looks again.
                Err(_) => std::future::pending().await,
            };
            let Ok(bots) = bots else {
                return std::future::pending().await;
            };
            let late: Vec<&str> = bots
                .iter()
                .filter(|bot| bot.wanted == Wanted::Running)
                .filter(|bot| !matches!(bot.actual, Actual::Ready | Actual::Busy))
                .map(|bot| bot.id.as_str())
                .collect();
            if late.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the earlier release runs and takes tasks, but these bots are not ready: {} (deiactl bots)",
                    late.join(", ")
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
