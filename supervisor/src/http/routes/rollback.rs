//! Going back to an earlier release, with the state of a backup.

use axum::Json;
use axum::extract::State;
use deia::api::{RollbackAnswer, RollbackRequest, RollbackState};

use super::Shared;
use crate::audit::Actor;
use crate::daemon::rollback::NotRolledBack;
use crate::http::error::ApiFailure;
use crate::http::extract::OptionalJsonBody;

/// Goes back: new tasks are refused, running ones finish, the bots stop, the backup is restored, and the earlier
/// release starts, is checked and pinned. Release and backup are checked before anything is done; answered when it
/// begins, and `GET /api/rollback` says how far it is. It outlives a kill of the daemon at any point.
#[utoipa::path(post, path = "/api/rollback", tag = "upgrade", request_body = Option<RollbackRequest>, responses(
    (status = 200, body = RollbackAnswer),
    (status = 409, body = deia::api::ApiError, description = "There is nothing fit to go back to, and why; or another one is under way. Nothing was changed"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn rollback(
    State(api): State<Shared>,
    actor: Actor,
    OptionalJsonBody(request): OptionalJsonBody<RollbackRequest>,
) -> Result<Json<RollbackAnswer>, ApiFailure> {
    let begun = api.rollbacks.request(request, actor).await;
    begun.map(Json).map_err(|why| not_rolled_back(&why))
}

/// As it is answered.
pub fn not_rolled_back(why: &NotRolledBack) -> ApiFailure {
    let kind = match why {
        NotRolledBack::Busy => "rollback_under_way",
        NotRolledBack::Unfit(_) => "not_fit",
    };
    ApiFailure::conflict(kind, why.to_string())
}

/// The last rollback, and how far it is.
#[utoipa::path(get, path = "/api/rollback", tag = "upgrade", responses(
    (status = 200, body = RollbackState),
    (status = 503, body = deia::api::ApiError, description = "Its journal can't be read, and why"),
))]
pub async fn state(State(api): State<Shared>) -> Result<Json<RollbackState>, ApiFailure> {
    let unreadable = |why: String| ApiFailure::unavailable("rollback_unreadable", why, 60);
    api.rollbacks.state().await.map(Json).map_err(unreadable)
}
