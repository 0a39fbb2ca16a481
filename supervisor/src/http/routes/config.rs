//! The configuration, as it is applied.

use axum::Json;
use axum::extract::State;
use deia::api::{CheckReloadAnswer, ConfigStatus, ConfigValue, ReloadAnswer};
use deia::time::Timestamp;

use super::Shared;
use crate::audit::Actor;
use crate::http::error::ApiFailure;
use crate::http::extract::PathArgs;
use crate::settings::When;

/// Everything that is in force, defaults included.
#[utoipa::path(get, path = "/api/config/current", tag = "config", responses((status = 200, body = Object)))]
pub async fn current(State(api): State<Shared>) -> Json<serde_json::Value> {
    Json(deia::config::to_json(&api.config.current()))
}

/// One value, or a whole section, by its dotted name.
#[utoipa::path(get, path = "/api/config/value/{dotted}", tag = "config", params(("dotted" = String, Path)), responses(
    (status = 200, body = ConfigValue),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn value(
    State(api): State<Shared>,
    PathArgs(dotted): PathArgs<String>,
) -> Result<Json<ConfigValue>, ApiFailure> {
    let value = deia::config::value(&api.config.current(), &dotted);
    let value =
        value.ok_or_else(|| ApiFailure::not_found(format!("Config key not found: {dotted}")))?;
    Ok(Json(ConfigValue {
        key: dotted,
        value,
        timestamp: Timestamp::now(),
    }))
}

/// Where the configuration came from, and what of it fell back.
#[utoipa::path(get, path = "/api/config/status", tag = "config", responses((status = 200, body = ConfigStatus)))]
pub async fn status(State(api): State<Shared>) -> Json<ConfigStatus> {
    Json(api.config.status())
}

/// Reads the file again and applies it, whole or not at all.
#[utoipa::path(post, path = "/api/config/reload", tag = "config", responses(
    (status = 200, body = ReloadAnswer, description = "Applied; or `success: false` with the errors, and the last good configuration stays"),
))]
pub async fn reload(
    State(api): State<Shared>,
    actor: Actor,
) -> Result<Json<ReloadAnswer>, ApiFailure> {
    api.config
        .reload(When::Always, actor)
        .await
        .map(Json)
        .ok_or_else(stopping)
}

/// Applies the file if it has changed.
#[utoipa::path(post, path = "/api/config/check-reload", tag = "config", responses((status = 200, body = CheckReloadAnswer)))]
pub async fn check_reload(
    State(api): State<Shared>,
    actor: Actor,
) -> Result<Json<CheckReloadAnswer>, ApiFailure> {
    let before = api.config.status().generation;
    let answer = api
        .config
        .reload(When::IfChanged, actor)
        .await
        .ok_or_else(stopping)?;
    Ok(Json(CheckReloadAnswer {
        reloaded: answer.success && answer.generation != before,
        config_version: answer.config_version,
        timestamp: answer.timestamp,
    }))
}

fn stopping() -> ApiFailure {
    ApiFailure::unavailable("stopping", "the daemon is stopping", 1)
}
