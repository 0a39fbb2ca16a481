//! The part of a rollback that the release does which is left.

use std::time::Duration;

use deia::api::RollbackStep;
use deia::bot::Actual;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::journal::Journal;
use super::{Rollbacks, written};
use crate::backup::By;
use crate::daemon::command::Command;
use crate::daemon::recovery::desk::Wanted;

/// Why nothing is taken meanwhile.
const HELD: &str = "a rollback is under way";

/// Between two looks at whether the bots have stopped.
const LOOK: Duration = Duration::from_millis(100);

/// Drains, and has the process become the earlier release. Returns without that only where it failed: it is
/// written down then, and the fleet goes on.
pub(super) async fn drive(rollbacks: Rollbacks, journal: Journal) {
    if let Err((journal, why)) = go(&rollbacks, journal).await {
        let (reply, unheld) = oneshot::channel();
        if (rollbacks.0.commands.send(Command::Unhold { reply }).await).is_ok() {
            let _ = unheld.await;
        }
        let why = format!("{why}; nothing was changed, and the fleet goes on");
        rollbacks.failed(journal, why).await;
    }
}

async fn go(rollbacks: &Rollbacks, journal: Journal) -> Result<(), (Journal, String)> {
    let parts = &rollbacks.0;
    let (reply, held) = oneshot::channel();
    let why = HELD;
    let hold = Command::Hold { why, reply };
    if parts.commands.send(hold).await.is_err() || held.await.is_err() {
        // The daemon is ending: the next start goes on.
        return Ok(());
    }
    drained(rollbacks, Duration::from_millis(journal.wait_ms)).await;
    deia::failpoint!("rollback.drained");
    let path = rollbacks.path();
    let kept = journal.clone();
    let journal = written(journal, RollbackStep::Restoring, path.clone())
        .await
        .map_err(|e| (kept, e))?;
    let Some(backup) = journal.view.backup_id.clone() else {
        let kept = journal.clone();
        let journal = written(journal, RollbackStep::Starting, path)
            .await
            .map_err(|e| (kept, e))?;
        let switched = parts.upgrader.switch(journal.switch.clone()).await;
        return switched.map_err(|e| (journal, e));
    };
    let by = journal.view.by.clone();
    let restored = parts
        .desk
        .restore_into(
            Wanted::Backup(backup),
            By::daemon_for(by),
            journal.switch.clone(),
        )
        .await;
    if let Err(e) = restored {
        return Err((journal, e.to_string()));
    }
    // This process is about to end; where it does so before this is written, the next one knows from the restore's
    // own journal.
    drop(written(journal, RollbackStep::Starting, path).await);
    Ok(())
}

/// Waits until no bot has a process, for so long at most: what runs then is cut short by the stop that follows, and
/// queued again.
async fn drained(rollbacks: &Rollbacks, patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let (reply, answer) = oneshot::channel();
        if (rollbacks.0.commands.send(Command::Bots { reply }).await).is_err() {
            return;
        }
        let Ok(bots) = answer.await else {
            return;
        };
        let rests = |actual| {
            matches!(
                actual,
                Actual::Stopped | Actual::Backoff | Actual::Quarantined
            )
        };
        if bots.iter().all(|bot| rests(bot.actual)) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    tracing::warn!(
        event = "rollback_cuts",
        "tasks still run; they are cut short and queued again"
    );
}
