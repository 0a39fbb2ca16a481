//! Switching to another release in place.

use axum::Json;
use axum::extract::State;
use deia::api::{UpgradeAnswer, UpgradeRequest};

use super::Shared;
use crate::audit::Actor;
use crate::daemon::upgrade::Refusal;
use crate::http::error::ApiFailure;
use crate::http::extract::OptionalJsonBody;

/// Checks a release and switches to it: the same pid, the listeners, connections and bots kept, no
/// request refused. Answered when the release is fit and the switch begins; `GET /status` says in
/// `release.last_upgrade` how it went.
#[utoipa::path(post, path = "/api/upgrade", tag = "upgrade", request_body = Option<UpgradeRequest>, responses(
    (status = 200, body = UpgradeAnswer, description = "Fit; the daemon switches now"),
    (status = 409, body = deia::api::ApiError, description = "Not fit, and why; or another upgrade is under way"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn upgrade(
    State(api): State<Shared>,
    actor: Actor,
    OptionalJsonBody(request): OptionalJsonBody<UpgradeRequest>,
) -> Result<Json<UpgradeAnswer>, ApiFailure> {
    api.upgrader
        .request(request, actor)
        .await
        .map(Json)
        .map_err(|why| match why {
            Refusal::Busy => ApiFailure::conflict("upgrade_under_way", why.to_string()),
            Refusal::Unfit(_) => ApiFailure::conflict("not_fit", why.to_string()),
        })
}
