//! `/health`: cheap, from what the main loop last showed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use deia::api::{Health, HealthState, Probe};
use deia::time::Timestamp;

use super::Shared;
use crate::daemon::health::Condition;

/// How the daemon is. 503 only when the store is unusable or the daemon is stopping.
#[utoipa::path(get, path = "/health", tag = "health", responses(
    (status = 200, body = Health, description = "ok, degraded or draining, with the reasons"),
    (status = 503, body = Health, description = "The store is unusable or the daemon is stopping"),
))]
pub async fn health(State(api): State<Shared>) -> Response {
    let condition = api.condition.borrow().clone();
    let reasons = condition.reasons(api.config.degraded());
    let state = match &condition {
        Condition { stopping: true, .. }
        | Condition {
            refusing: Some(_), ..
        } => HealthState::Draining,
        _ if reasons.is_empty() => HealthState::Ok,
        _ => HealthState::Degraded,
    };
    let usable = condition.store_fault.is_none() && !condition.stopping;
    let health = Health {
        status: state,
        reasons,
        bot_id: api.config.first_pool(),
        timestamp: Timestamp::now(),
    };
    (code(usable), Json(health)).into_response()
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Probe)))]
pub async fn live() -> Json<Probe> {
    Json(probe(true, Vec::new()))
}

/// Whether new tasks are accepted.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses(
    (status = 200, body = Probe, description = "New tasks are accepted"),
    (status = 503, body = Probe, description = "They are not, and why"),
))]
pub async fn ready(State(api): State<Shared>) -> Response {
    let condition = api.condition.borrow().clone();
    let reasons: Vec<String> = condition
        .refusing
        .map(str::to_owned)
        .into_iter()
        .chain(condition.store_fault)
        .collect();
    let ready = reasons.is_empty();
    (code(ready), Json(probe(ready, reasons))).into_response()
}

fn probe(ok: bool, reasons: Vec<String>) -> Probe {
    Probe {
        status: if ok { "ok" } else { "unavailable" }.into(),
        reasons,
        timestamp: Timestamp::now(),
    }
}

fn code(ok: bool) -> StatusCode {
    if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
