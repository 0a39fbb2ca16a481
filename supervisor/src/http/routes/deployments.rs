//! Which releases ran here.

use axum::Json;
use axum::extract::State;
use deia::api::Deployments;
use deia::time::Timestamp;

use super::Shared;
use crate::daemon::upgrade::Deployments as Known;
use crate::http::error::ApiFailure;

/// Which releases ran here, since when, who brought them, and under which configuration: the newest first.
#[utoipa::path(get, path = "/api/deployments", tag = "upgrade", responses(
    (status = 200, body = Deployments),
    (status = 503, body = deia::api::ApiError, description = "The list can't be read, and why"),
))]
pub async fn deployments(State(api): State<Shared>) -> Result<Json<Deployments>, ApiFailure> {
    list(api.upgrader.deployments()).await
}

/// The list on disk, as it is answered.
pub async fn list(known: Known) -> Result<Json<Deployments>, ApiFailure> {
    let listed = tokio::task::spawn_blocking(move || known.list());
    let unreadable = |why: String| ApiFailure::unavailable("deployments_unreadable", why, 60);
    let mut deployments = listed
        .await
        .map_err(|e| unreadable(e.to_string()))?
        .map_err(|e| unreadable(e.to_string()))?;
    deployments.reverse();
    Ok(Json(Deployments {
        count: deployments.len(),
        deployments,
        timestamp: Timestamp::now(),
    }))
}
