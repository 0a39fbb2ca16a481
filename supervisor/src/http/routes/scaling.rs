//! How many bots there are: the limits, scaling by load, steps by hand.

use axum::Json;
use axum::extract::State;
use deia::api::{
    EvaluateAnswer, EvaluateRequest, LimitsAnswer, LimitsRequest, ScaleDownAnswer, ScaleQuery,
    ScaleUpAnswer, ScalingStatus,
};

use super::{Shared, refused};
use crate::audit::Actor;
use crate::daemon::command::{ByHand, Command};
use crate::http::error::ApiFailure;
use crate::http::extract::{JsonBody, OptionalJsonBody, QueryArgs};

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
    actor: Actor,
    JsonBody(request): JsonBody<LimitsRequest>,
) -> Result<Json<LimitsAnswer>, ApiFailure> {
    let said = api
        .ask_as(actor, |reply| Command::SetLimits { request, reply })
        .await?;
    said.map(Json).map_err(|why| refused(why, ""))
}

/// Without figures: evaluates scaling now, as the timer would, and acts on it. With figures: says what
/// they would come to, had they lasted; nothing is done, and `action_taken` is null.
#[utoipa::path(post, path = "/api/scaling/evaluate", tag = "scaling", request_body(content = Option<EvaluateRequest>), responses(
    (status = 200, body = EvaluateAnswer),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn evaluate(
    State(api): State<Shared>,
    actor: Actor,
    OptionalJsonBody(request): OptionalJsonBody<EvaluateRequest>,
) -> Result<Json<EvaluateAnswer>, ApiFailure> {
    let command = |reply| Command::EvaluateScaling { request, reply };
    let said = api.ask_as(actor, command).await?;
    said.map(Json).map_err(|why| refused(why, ""))
}

/// Starts so many bots more, within the limits. They stay until scaling finds them idle.
#[utoipa::path(post, path = "/api/scaling/scale-up", tag = "scaling", params(ScaleQuery), responses(
    (status = 200, body = ScaleUpAnswer, description = "`success` is false where not one could be added"),
    (status = 404, body = deia::api::ApiError, description = "There is no such pool"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn scale_up(
    State(api): State<Shared>,
    actor: Actor,
    QueryArgs(query): QueryArgs<ScaleQuery>,
) -> Result<Json<ScaleUpAnswer>, ApiFailure> {
    let count = query.count.unwrap_or(1);
    let done = by_hand(&api, actor, query.pool, i64::from(count)).await?;
    Ok(Json(ScaleUpAnswer {
        success: !done.bots.is_empty(),
        added: number(done.bots.len()),
        message: message(&done, count, "are being started"),
        new_bots: done.bots,
        total_bots: number(done.total),
    }))
}

/// Removes so many bots, within the limits: they finish what they have, and end.
#[utoipa::path(post, path = "/api/scaling/scale-down", tag = "scaling", params(ScaleQuery), responses(
    (status = 200, body = ScaleDownAnswer, description = "`success` is false where not one could go"),
    (status = 404, body = deia::api::ApiError, description = "There is no such pool"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn scale_down(
    State(api): State<Shared>,
    actor: Actor,
    QueryArgs(query): QueryArgs<ScaleQuery>,
) -> Result<Json<ScaleDownAnswer>, ApiFailure> {
    let count = query.count.unwrap_or(1);
    let done = by_hand(&api, actor, query.pool, -i64::from(count)).await?;
    Ok(Json(ScaleDownAnswer {
        success: !done.bots.is_empty(),
        removed: number(done.bots.len()),
        message: message(&done, count, "finish what they have and end"),
        removed_bots: done.bots,
        total_bots: number(done.total),
    }))
}

async fn by_hand(
    api: &Shared,
    actor: Actor,
    pool: Option<String>,
    change: i64,
) -> Result<ByHand, ApiFailure> {
    let command = |reply| Command::ScaleByHand {
        pool,
        change,
        reply,
    };
    let done = api.ask_as(actor, command).await?;
    done.map_err(|why| refused(why, ""))
}

fn message(done: &ByHand, count: u32, what: &str) -> String {
    let n = done.bots.len();
    match &done.short {
        Some(why) => format!("{n} of {count} bots {what}: {why}"),
        None => format!("{n} bots {what}"),
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
