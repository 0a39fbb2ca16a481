//! Bots: list, show, act.

use axum::Json;
use axum::extract::State;
use deia::api::{BotActionAnswer, BotList, BotView};
use deia::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Shared, refused};
use crate::audit::{Actor, Entry};
use crate::daemon::command::{BotAct, Command};
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::PathArgs;

/// Every bot, in the order of the pools.
#[utoipa::path(get, path = "/api/bots", tag = "bots", responses((status = 200, body = BotList)))]
pub async fn list(State(api): State<Shared>) -> Result<Json<BotList>, ApiFailure> {
    let bots = api
        .with_usage(api.ask(|reply| Command::Bots { reply }).await?)
        .await;
    Ok(Json(BotList {
        count: bots.len(),
        bots,
    }))
}

/// One bot.
#[utoipa::path(get, path = "/api/bots/{id}", tag = "bots", params(("id" = String, Path)), responses(
    (status = 200, body = BotView),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn show(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<BotView>, ApiFailure> {
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    let found = bots
        .into_iter()
        .find(|bot| bot.id == id)
        .ok_or_else(|| unknown(&id))?;
    api.with_usage(vec![found])
        .await
        .pop()
        .map(Json)
        .ok_or_else(|| unknown(&id))
}

/// Runs a bot, also out of back-off and quarantine.
#[utoipa::path(post, path = "/api/bots/{id}/start", tag = "bots", params(("id" = String, Path)), responses(
    (status = 200, body = BotActionAnswer), (status = 404, body = deia::api::ApiError), (status = 409, body = deia::api::ApiError)))]
pub async fn start(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<BotActionAnswer>, ApiFailure> {
    act(&api, actor, id, BotAct::Start).await
}

/// Lets a bot finish what it has and stops it until it is started again.
#[utoipa::path(post, path = "/api/bots/{id}/stop", tag = "bots", params(("id" = String, Path)), responses(
    (status = 200, body = BotActionAnswer), (status = 404, body = deia::api::ApiError), (status = 409, body = deia::api::ApiError)))]
pub async fn stop(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<BotActionAnswer>, ApiFailure> {
    act(&api, actor, id, BotAct::Stop).await
}

/// Lets a bot finish what it has and starts it anew.
#[utoipa::path(post, path = "/api/bots/{id}/restart", tag = "bots", params(("id" = String, Path)), responses(
    (status = 200, body = BotActionAnswer), (status = 404, body = deia::api::ApiError), (status = 409, body = deia::api::ApiError)))]
pub async fn restart(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<BotActionAnswer>, ApiFailure> {
    act(&api, actor, id, BotAct::Restart).await
}

/// Makes a bot give up what it has; its tasks are tried again.
#[utoipa::path(post, path = "/api/bots/{id}/interrupt", tag = "bots", params(("id" = String, Path)), responses(
    (status = 200, body = BotActionAnswer), (status = 404, body = deia::api::ApiError), (status = 409, body = deia::api::ApiError)))]
pub async fn interrupt(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<BotActionAnswer>, ApiFailure> {
    act(&api, actor, id, BotAct::Interrupt).await
}

/// What the original answered to `/interrupt`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Signalled {
    success: bool,
    message: String,
    interrupted: u64,
}

/// What the original answered to `/terminate`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Terminating {
    success: bool,
    message: String,
}

/// Interrupts every running task; they are tried again.
#[utoipa::path(post, path = "/interrupt", tag = "bots", responses((status = 200, body = Signalled)))]
pub async fn interrupt_all(
    State(api): State<Shared>,
    actor: Actor,
) -> Result<Json<Signalled>, ApiFailure> {
    let said = api
        .ask_as(actor, |reply| Command::InterruptAll { reply })
        .await?;
    let interrupted = said.map_err(|why| refused(why, ""))?;
    Ok(Json(Signalled {
        success: true,
        message: "Interrupt signal sent".into(),
        interrupted,
    }))
}

/// Drains and stops the daemon, as SIGTERM does: nothing new is taken, running tasks have
/// `supervision.stop_timeout_seconds`, what is left goes back to the queue. A second time hurries.
#[utoipa::path(post, path = "/terminate", tag = "bots", responses(
    (status = 200, body = Terminating, description = "It is under way", example = json!({"success": true, "message": "Terminate signal sent"})),
))]
pub async fn terminate(
    State(api): State<Shared>,
    caller: Caller,
    actor: Actor,
) -> Result<Json<Terminating>, ApiFailure> {
    let action = deia::api::AuditAction::ShutdownInitiated;
    let entry = Entry::new(Timestamp::now(), action, Actor::DAEMON, "daemon");
    api.note(actor, entry).await?;
    tracing::info!(event = "stop_requested", by = %caller, "the daemon was asked to stop over HTTP");
    // The way of every stop, whatever else is under way: a switch to another release passes it on.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .map_err(|e| ApiFailure::internal(format_args!("stop: {e}")))?;
    Ok(Json(Terminating {
        success: true,
        message: "Terminate signal sent".into(),
    }))
}

async fn act(
    api: &Shared,
    actor: Actor,
    id: String,
    act: BotAct,
) -> Result<Json<BotActionAnswer>, ApiFailure> {
    let name = id.clone();
    let answer = api
        .ask_as(actor, |reply| Command::ActOnBot {
            id: name,
            act,
            reply,
        })
        .await?;
    let answer = answer.map_err(|why| refused(why, &id))?;
    let answer = answer.ok_or_else(|| unknown(&id))?;
    if answer.success {
        Ok(Json(answer))
    } else {
        Err(ApiFailure::conflict("not_now", answer.message))
    }
}

fn unknown(id: &str) -> ApiFailure {
    ApiFailure::not_found(format!("Bot {id} not found"))
}
