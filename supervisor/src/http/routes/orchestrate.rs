//! The fleet as the original's `/api/orchestrate` showed it.

use axum::Json;
use axum::extract::State;
use deia::api::BotView;
use deia::bot::{Actual, BotType};
use deia::task::TaskStatus;
use deia::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use crate::daemon::command::Command;
use crate::http::error::ApiFailure;
use crate::http::extract::PathArgs;
use crate::store::StoreError;

/// `GET /api/orchestrate/status`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrchestrateStatus {
    /// Now.
    pub timestamp: Timestamp,
    /// Bots that take tasks.
    pub total_bots: usize,
    /// Tasks that wait for a bot.
    pub queued_tasks: u64,
    /// The bots.
    #[schema(value_type = Object)]
    pub bots: std::collections::BTreeMap<String, OrchestrateBot>,
    /// Tasks in bots.
    pub total_load: f64,
    /// Tasks in a bot, on average.
    pub avg_load_per_bot: f64,
}

/// A bot in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrchestrateBot {
    /// What it is good at.
    #[serde(rename = "type")]
    pub bot_type: BotType,
    /// What it offers.
    pub specializations: Vec<String>,
    /// Tasks it has.
    pub current_load: f64,
    /// Tasks it may have.
    pub max_concurrent: u32,
    /// Tasks it may still get.
    pub capacity_remaining: f64,
    /// Moving average of its results, 0-1.
    pub success_rate: f64,
}

/// `GET /api/orchestrate/bot/{id}/status`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrchestrateBotStatus {
    /// Its name.
    pub bot_id: String,
    /// What it is good at.
    #[serde(rename = "type")]
    pub bot_type: BotType,
    /// What it offers.
    pub specializations: Vec<String>,
    /// Tasks it has.
    pub current_load: f64,
    /// Tasks it may have.
    pub capacity: u32,
    /// Tasks it may still get.
    pub available_capacity: f64,
    /// Moving average of its results, 0-1.
    pub success_rate: f64,
}

/// The fleet and its load.
#[utoipa::path(get, path = "/api/orchestrate/status", tag = "tasks", responses((status = 200, body = OrchestrateStatus)))]
pub async fn status(State(api): State<Shared>) -> Result<Json<OrchestrateStatus>, ApiFailure> {
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    let queued_tasks = api
        .store
        .counts()
        .await
        .map_err(unreadable)?
        .of(TaskStatus::Queued);
    let bots: std::collections::BTreeMap<_, _> = bots
        .into_iter()
        .filter(|bot| matches!(bot.actual, Actual::Ready | Actual::Busy))
        .map(|bot| (bot.id.clone(), of(bot)))
        .collect();
    let total_load: f64 = bots.values().map(|bot| bot.current_load).sum();
    Ok(Json(OrchestrateStatus {
        timestamp: Timestamp::now(),
        total_bots: bots.len(),
        queued_tasks,
        avg_load_per_bot: total_load / (bots.len().max(1) as f64),
        total_load,
        bots,
    }))
}

/// One bot and its load.
#[utoipa::path(get, path = "/api/orchestrate/bot/{id}/status", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = OrchestrateBotStatus),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn bot_status(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<OrchestrateBotStatus>, ApiFailure> {
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    let found = bots.into_iter().find(|bot| bot.id == id);
    let found = of(found.ok_or_else(|| ApiFailure::not_found(format!("Bot {id} not found")))?);
    Ok(Json(OrchestrateBotStatus {
        bot_id: id,
        bot_type: found.bot_type,
        specializations: found.specializations,
        current_load: found.current_load,
        capacity: found.max_concurrent,
        available_capacity: found.capacity_remaining,
        success_rate: found.success_rate,
    }))
}

fn of(bot: BotView) -> OrchestrateBot {
    let load = bot.tasks.len() as f64;
    OrchestrateBot {
        bot_type: bot.bot_type,
        specializations: bot.specializations,
        current_load: load,
        max_concurrent: bot.max_concurrent,
        capacity_remaining: (f64::from(bot.max_concurrent) - load).max(0.0),
        success_rate: bot.success_rate,
    }
}

/// A store that can't be read, as HTTP says it.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unreadable(e: StoreError) -> ApiFailure {
    ApiFailure::unavailable("store_unavailable", e.to_string(), 1)
}
