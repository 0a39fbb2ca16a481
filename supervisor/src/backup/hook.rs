//! What an operator has run after each backup (`persistence.backup_after`): a copy to another host, for one.
//! Without a shell; the archive's path is the last argument. It is nobody's bot: it has the daemon's own rights.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::Made;
use crate::fleet::pids::BotPids;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// What it says that is looked at.
const MAX_SAID_BYTES: u64 = 4096;

/// Runs it to its end. A failure is logged, and changes nothing.
pub async fn run(program: &str, arguments: &[String], made: &Made, pids: &BotPids) {
    match tried(program, arguments, made, pids).await {
        Ok(()) => {
            tracing::info!(
                event = "backup_after_done",
                backup_id = made.id,
                program,
                "what is run after a backup has ended well"
            );
        }
        Err(why) => {
            tracing::warn!(
                event = "backup_after_failed",
                backup_id = made.id,
                program,
                error = why,
                "what is run after a backup has failed (persistence.backup_after); the backup is there"
            );
        }
    }
}

async fn tried(
    program: &str,
    arguments: &[String],
    made: &Made,
    pids: &BotPids,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(&made.path)
        .env("DEIA_BACKUP_ID", &made.id)
        .env("DEIA_BACKUP_FILE", &made.path)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Known before anybody can take it for a stray.
    let mut child = pids
        .start(|| command.spawn(), |child| child.id().unwrap_or_default())
        .map_err(|e| format!("it can't be run: {e}"))?;
    let pid = child.id().unwrap_or_default();
    let said = child.stderr.take();
    let work = async {
        let mut text = Vec::new();
        if let Some(said) = said {
            // What was read before an error counts.
            let _ = said.take(MAX_SAID_BYTES).read_to_end(&mut text).await;
        }
        (child.wait().await, text)
    };
    let ended = tokio::time::timeout(PATIENCE, work).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    pids.remove(pid);
    let (status, said) = ended.map_err(|_| {
        format!(
            "it was not done within {} s and was killed",
            PATIENCE.as_secs()
        )
    })?;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let said = String::from_utf8_lossy(&said);
            Err(format!(
                "{status}: {}",
                said.lines().last().unwrap_or_default()
            ))
        }
        Err(e) => Err(e.to_string()),
    }
}
