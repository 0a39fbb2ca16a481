//! What a restored store has to show before the fleet works on it.

use std::sync::Arc;

use deia::api::{AuditAction, AuditLevel};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Actor, Entry, Recorder};
use crate::backup::restore::{self, Journal};
use crate::daemon::command::Command;
use crate::daemon::home::Home;
use crate::store::{Store, TaskFilter};

/// Checks a restored store that was opened (and so has taken a write), and lets the fleet go on.
pub async fn prove(
    home: Home,
    mut journal: Journal,
    store: Arc<dyn Store>,
    commands: mpsc::Sender<Command>,
) {
    let found = look(&journal, &store).await;
    let passed = found.is_none();
    // Before the fleet works on it. Killed in between, it is checked, and said, once more.
    let recorder = Recorder::new(commands.clone());
    let entry = entry(&journal, found.as_deref());
    recorder.put(Actor::DAEMON, entry).await.wait_anyway().await;
    if passed {
        // Who is told that it is done can submit. Killed in between, it is checked once more.
        let (reply, unheld) = oneshot::channel();
        if commands.send(Command::Unhold { reply }).await.is_ok() {
            // The daemon may be ending.
            let _ = unheld.await;
        }
    }
    let (restore_id, backup_id) = (journal.restore_id.clone(), journal.backup_id.clone());
    let finished = tokio::task::spawn_blocking(move || {
        let finished = restore::finish(&home, &mut journal, found);
        (finished, journal)
    });
    match finished.await {
        Ok((Ok(()), journal)) if passed => tracing::info!(
            event = "restore_completed",
            restore_id,
            backup_id,
            old_state = %journal.kept.display(),
            "the restored store is in use; deiactl restore --undo goes back"
        ),
        Ok((Ok(()), journal)) => {
            tracing::error!(
                event = "restore_failed",
                restore_id,
                backup_id,
                reason = journal.error,
                "the restored store did not pass its checks: the fleet stays at 0; deiactl restore --undo goes back"
            );
        }
        Ok((Err(e), _)) => {
            tracing::error!(event = "restore_failed", restore_id, backup_id, reason = %e, "how the restore went could not be written down; it is checked again at the next start");
        }
        Err(_) => {}
    }
}

/// How it went.
fn entry(journal: &Journal, found: Option<&str>) -> Entry {
    let (now, action) = (Timestamp::now(), AuditAction::BackupRestored);
    let entry = Entry::new(now, action, Actor::DAEMON, journal.backup_id.as_str())
        .at_level(AuditLevel::Critical)
        .with(&json!({
            "what": "restore ended",
            "restore_id": journal.restore_id,
            "asked_by": journal.by,
        }));
    match found {
        None => entry,
        Some(why) => entry.failed(why),
    }
}

async fn look(journal: &Journal, store: &Arc<dyn Store>) -> Option<String> {
    let epoch = format!("{:016x}", store.epoch());
    if epoch != journal.epoch {
        return Some(format!(
            "the store's epoch is {epoch}, the restored one's is {}",
            journal.epoch
        ));
    }
    if let Err(e) = store.counts().await {
        return Some(e.to_string());
    }
    let listed = store.list(TaskFilter::default(), None, 100).await;
    listed.err().map(|e| e.to_string())
}
