//! The fleet's limits.

use axum::Json;
use axum::extract::State;
use deia::api::{LimitsAnswer, LimitsRequest, ScalingStatus};

use super::{Shared, refused};
use crate::daemon::command::Command;
use crate::http::error::ApiFailure;
use crate::http::extract::JsonBody;

/// How the fleet stands.
#[utoipa::path(get, path = "/api/scaling/status", tag = "scaling", responses((status = 200, body = ScalingStatus)))]
pub async fn status(State(api): State<Shared>) -> Result<Json<ScalingStatus>, ApiFailure> {
    api.ask(|reply| Command::Scaling { reply }).await.map(Json)
}

/// Overrides the file's limits, until they change in the file or `resume` ends it. `max_bots` 0
/// drains: new tasks are refused, running ones finish, the bots stop.
#[utoipa::path(post, path = "/api/scaling/limits", tag = "scaling", request_body = LimitsRequest, responses(
    (status = 200, body = LimitsAnswer, description = "In force; the fleet follows"),
    (status = 400, body = deia::api::ApiError, description = "The limits make no sense"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn limits(
    State(api): State<Shared>,
    JsonBody(request): JsonBody<LimitsRequest>,
) -> Result<Json<LimitsAnswer>, ApiFailure> {
    let said = api
        .ask(|reply| Command::SetLimits { request, reply })
        .await?;
    said.map(Json).map_err(|why| refused(why, ""))
}
