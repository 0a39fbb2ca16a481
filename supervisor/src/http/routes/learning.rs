//! What routing has learned.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use deia::api::{
    BotPerformance, History, HistoryQuery, InsightsAnswer, Recommendation, RecordAnswer,
    RecordRequest, TypePerformance,
};
use deia::task::TaskType;
use deia::time::Timestamp;

use super::messages::speaker;
use super::{Shared, refused};
use crate::audit::Actor;
use crate::brain::learn::Sample;
use crate::daemon::command::{AskLearning, Command};
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::{OptionalJsonBody, PathArgs, QueryArgs};

/// Results in an answer where the caller names no number.
const DEFAULT_HISTORY: u32 = 100;

/// Counts a result that the caller saw: for programs that run tasks outside of the fleet.
#[utoipa::path(post, path = "/api/scheduling/record-execution", tag = "scheduling", request_body(content = Option<RecordRequest>), responses(
    (status = 200, body = RecordAnswer),
    (status = 403, body = deia::api::ApiError, description = "A bot speaks for itself alone"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn record(
    State(api): State<Shared>,
    caller: Caller,
    OptionalJsonBody(request): OptionalJsonBody<RecordRequest>,
) -> Result<Json<RecordAnswer>, ApiFailure> {
    let bot_id = speaker(&api, caller, request.bot_id).await?;
    let task_type = request.task_type.unwrap_or(TaskType::General);
    let timestamp = Timestamp::now();
    let sample = Sample {
        task_type,
        seconds: Some(request.execution_time.unwrap_or(0.0)),
        succeeded: request.success.unwrap_or(true),
        at: timestamp,
    };
    let bot: Arc<str> = bot_id.as_str().into();
    let record = |reply| Command::Learning(AskLearning::Record { bot, sample, reply });
    let recorded = api.ask_as(Actor::from(&caller), record).await?;
    recorded.map_err(|why| refused(why, ""))?;
    Ok(Json(RecordAnswer {
        success: true,
        bot_id,
        task_type,
        recorded: true,
        timestamp,
    }))
}

/// The best bot for a kind of work, once one has `learning.min_samples_for_recommendation` results.
#[utoipa::path(get, path = "/api/scheduling/recommendation/{task_type}", tag = "scheduling", params(("task_type" = String, Path)), responses(
    (status = 200, body = Recommendation),
    (status = 404, body = deia::api::ApiError, description = "Too little is known, or there is no such kind of work"),
))]
pub async fn recommendation(
    State(api): State<Shared>,
    PathArgs(name): PathArgs<String>,
) -> Result<Json<Recommendation>, ApiFailure> {
    let unknown = || ApiFailure::not_found(format!("No learning data for task type: {name}"));
    let task_type: TaskType = name.parse().map_err(|_| unknown())?;
    let asked = |reply| AskLearning::Recommendation { task_type, reply };
    let found = ask(&api, asked).await?;
    found.map(Json).ok_or_else(unknown)
}

/// What is known of a bot, by kind of work; nothing of one that nothing was learned of.
#[utoipa::path(get, path = "/api/scheduling/bot-performance/{bot_id}", tag = "scheduling", params(("bot_id" = String, Path)), responses(
    (status = 200, body = BotPerformance),
))]
pub async fn bot_performance(
    State(api): State<Shared>,
    PathArgs(bot_id): PathArgs<String>,
) -> Result<Json<BotPerformance>, ApiFailure> {
    let bot = bot_id.clone();
    let performance = ask(&api, |reply| AskLearning::OfBot { bot, reply }).await?;
    Ok(Json(BotPerformance {
        bot_id,
        performance,
        timestamp: Timestamp::now(),
    }))
}

/// What is known of a kind of work, the best bot first.
#[utoipa::path(get, path = "/api/scheduling/task-type/{task_type}", tag = "scheduling", params(("task_type" = String, Path)), responses(
    (status = 200, body = TypePerformance),
))]
pub async fn task_type(
    State(api): State<Shared>,
    PathArgs(name): PathArgs<String>,
) -> Result<Json<TypePerformance>, ApiFailure> {
    let bots = match name.parse::<TaskType>() {
        Ok(task_type) => ask(&api, |reply| AskLearning::OfType { task_type, reply }).await?,
        Err(_) => Vec::new(),
    };
    Ok(Json(TypePerformance {
        task_type: name,
        bots,
        timestamp: Timestamp::now(),
    }))
}

/// What was learned, in sum; `{"status":"no_data"}` before the first result.
#[utoipa::path(get, path = "/api/scheduling/insights", tag = "scheduling", responses(
    (status = 200, body = InsightsAnswer),
))]
pub async fn insights(State(api): State<Shared>) -> Result<Json<InsightsAnswer>, ApiFailure> {
    let found = ask(&api, |reply| AskLearning::Insights { reply }).await?;
    Ok(Json(match found {
        Some(insights) => InsightsAnswer::Learned(insights),
        None => InsightsAnswer::Nothing {
            status: "no_data".to_owned(),
        },
    }))
}

/// The last results since the daemon's start, oldest first; a thousand are kept.
#[utoipa::path(get, path = "/api/scheduling/history", tag = "scheduling", params(HistoryQuery), responses(
    (status = 200, body = History),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn history(
    State(api): State<Shared>,
    QueryArgs(query): QueryArgs<HistoryQuery>,
) -> Result<Json<History>, ApiFailure> {
    let limit = query.limit.unwrap_or(DEFAULT_HISTORY) as usize;
    let (kept, history) = ask(&api, |reply| AskLearning::History { limit, reply }).await?;
    Ok(Json(History {
        total_records: kept as u64,
        returned: history.len() as u64,
        history,
        timestamp: Timestamp::now(),
    }))
}

async fn ask<T>(
    api: &Shared,
    question: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> AskLearning,
) -> Result<T, ApiFailure> {
    api.ask(|reply| Command::Learning(question(reply))).await
}
