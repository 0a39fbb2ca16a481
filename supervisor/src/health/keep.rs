//! The alerts on disk: `.deia/state/alerts.json`.

use std::io;
use std::path::PathBuf;

use crate::brain::alerts::Alerts;

/// What an earlier daemon knew; nothing where that can't be read.
pub(super) async fn load(path: PathBuf) -> Alerts {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    let kept = match read.unwrap_or_else(|e| Err(io::Error::other(e))) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Alerts::default(),
        Err(e) => Err(e),
    };
    kept.unwrap_or_else(|e| {
        // They follow from what is: what is wrong is raised again.
        tracing::warn!(event = "alerts_unreadable", path = shown, error = %e, "the alerts of an earlier daemon could not be read");
        Alerts::default()
    })
}

/// Writes them; a failure is said, and the next change writes them all.
pub(super) async fn save(path: PathBuf, alerts: &Alerts) {
    let shown = path.display().to_string();
    let text = serde_json::to_vec(alerts).map_err(io::Error::other);
    let written = match text {
        Ok(text) => {
            let write = move || crate::durable::write(&path, &text);
            let written = tokio::task::spawn_blocking(write).await;
            written.unwrap_or_else(|e| Err(io::Error::other(e)))
        }
        Err(e) => Err(e),
    };
    if let Err(e) = written {
        tracing::warn!(event = "alerts_not_kept", path = shown, error = %e, "the alerts could not be written; the next daemon would raise again what stands");
    }
}
