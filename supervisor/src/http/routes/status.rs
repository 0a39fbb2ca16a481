//! `/status`: the daemon at a glance.

use axum::Json;
use axum::extract::State;
use deia::api::{ConfigSource, QueueView, Status};
use deia::task::TaskStatus;
use deia::time::Timestamp;

use super::{Shared, orchestrate};
use crate::daemon::command::Command;
use crate::http::error::ApiFailure;
use crate::store::StatusCounts;

/// The daemon at a glance.
#[utoipa::path(get, path = "/status", tag = "status", responses((status = 200, body = Status)))]
pub async fn status(State(api): State<Shared>) -> Result<Json<Status>, ApiFailure> {
    let bots = api
        .with_usage(api.ask(|reply| Command::Bots { reply }).await?)
        .await;
    let counts = api.store.counts().await.map_err(orchestrate::unreadable)?;
    let shown = api.config.status();
    let upgrader = api.upgrader.clone();
    let release = tokio::task::spawn_blocking(move || upgrader.view()).await;
    let release = release.map_err(|e| ApiFailure::internal(format_args!("releases: {e}")))?;
    let current_task = bots.iter().find_map(|bot| bot.tasks.first().cloned());
    Ok(Json(Status {
        bot_id: api.config.first_pool(),
        status: if current_task.is_some() {
            "working"
        } else {
            "idle"
        }
        .into(),
        current_task,
        port: api.port,
        pid: std::process::id(),
        timestamp: Timestamp::now(),
        version: deia::VERSION.into(),
        generation: shown.generation,
        uptime_seconds: api.epoch.elapsed().as_secs_f64(),
        config: ConfigSource {
            source: match (&shown.config_file, api.config.degraded()) {
                (_, Some(_)) => "last_good",
                (Some(_), None) => "file",
                (None, None) => "defaults",
            }
            .into(),
            file: shown.config_file,
            generation: shown.generation,
            load_errors: shown.load_errors,
        },
        bots,
        queue: queue(&counts),
        validation: api.validation.counts(),
        home: api.home.display().to_string(),
        release: Some(release),
        confinement: Some(api.confinement.clone()),
    }))
}

fn queue(counts: &StatusCounts) -> QueueView {
    QueueView {
        scheduled: counts.of(TaskStatus::Scheduled),
        queued: counts.of(TaskStatus::Queued),
        running: counts.of(TaskStatus::Running),
        succeeded: counts.of(TaskStatus::Succeeded),
        dead: counts.of(TaskStatus::Dead),
        cancelled: counts.of(TaskStatus::Cancelled),
        expired: counts.of(TaskStatus::Expired),
    }
}
