//! What callers report under `/api/monitoring`: a task to add, one they believe is over, a failure they saw.
//!
//! A task is over when its bot has said so with the fence of its lease; that is how no result is accepted
//! twice. So `complete-task` confirms or contradicts, and changes nothing.

use axum::Json;
use axum::extract::State;
use deia::api::{
    AddTaskRequest, CompleteTaskRequest, FailureRecorded, FailureReport, QueueAnswer, SubmitRequest,
};
use deia::task::TaskStatus;
use deia::time::Timestamp;

use super::Shared;
use super::messages::speaker;
use super::monitoring::observe;
use super::submit::submit_one;
use super::tasks::{known_form, record};
use crate::brain::record::failures::{Failure, MAX_REPORT_BYTES, Report, totals};
use crate::daemon::command::Command;
use crate::daemon::validation::Way;
use crate::http::caller::{Caller, Via};
use crate::http::error::ApiFailure;
use crate::http::extract::JsonBody;

/// What a report is counted as among the errors.
const REPORTED: &str = "reported";

/// Submits a task, as `POST /api/orchestrate` does.
#[utoipa::path(post, path = "/api/monitoring/queue/add-task", tag = "monitoring", request_body = AddTaskRequest, responses(
    (status = 200, body = QueueAnswer, description = "Accepted and durable; or `success: false` when no bot of this configuration can ever do it"),
    (status = 409, body = deia::api::ApiError, description = "The task_id belongs to another request"),
    (status = 413, body = deia::api::ApiError),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError),
))]
pub async fn add_task(
    State(api): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<AddTaskRequest>,
) -> Result<Json<QueueAnswer>, ApiFailure> {
    let answer = submit_one(
        &api,
        caller,
        Way::Task,
        SubmitRequest {
            content: request.content.unwrap_or_default(),
            task_id: Some(request.task_id),
            priority: request.priority,
            task_type: request.task_type,
            ..SubmitRequest::default()
        },
    )
    .await?;
    Ok(Json(QueueAnswer {
        success: answer.success,
        task_id: answer.task_id,
        queue_depth: observe(&api).await?.standing.waiting,
        status: answer.status,
        routed_to: answer.routed_to,
        message: answer.message,
        error: answer.error,
        timestamp: Timestamp::now(),
    }))
}

/// Whether a task has ended as the caller believes. It changes nothing: a task ends by its bot's result (external
/// bots: `POST /api/bots/{id}/tasks/{task}/complete`), or by a cancel.
#[utoipa::path(post, path = "/api/monitoring/queue/complete-task", tag = "monitoring", request_body = CompleteTaskRequest, responses(
    (status = 200, body = QueueAnswer, description = "It has ended so"),
    (status = 404, body = deia::api::ApiError, description = "There is no such task"),
    (status = 409, body = deia::api::ApiError, description = "It waits or runs, or it has ended otherwise"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn complete_task(
    State(api): State<Shared>,
    JsonBody(request): JsonBody<CompleteTaskRequest>,
) -> Result<Json<QueueAnswer>, ApiFailure> {
    let id = known_form(&request.task_id)?;
    let found = record(&api, &id).await?;
    let success = request.success.unwrap_or(true);
    if !found.status.is_final() {
        let who = found.attempts.last().map(|attempt| &attempt.bot_id);
        let by = match (found.status, who) {
            (TaskStatus::Running, Some(bot)) => format!("bot {bot} has it and reports its end"),
            _ => "no bot has it yet; to end it, cancel it".to_owned(),
        };
        return Err(ApiFailure::conflict(
            "not_yours",
            format!("task {id} is {}: {by}", found.status),
        ));
    }
    if success != (found.status == TaskStatus::Succeeded) {
        return Err(ApiFailure::conflict(
            "ended_otherwise",
            format!("task {id} is {}", found.status),
        ));
    }
    Ok(Json(QueueAnswer {
        success: true,
        task_id: id.to_string(),
        queue_depth: observe(&api).await?.standing.waiting,
        status: Some(found.status),
        routed_to: found.attempts.last().map(|attempt| attempt.bot_id.clone()),
        message: Some(format!("Task {id} is {}", found.status)),
        error: None,
        timestamp: Timestamp::now(),
    }))
}

/// A failure that the caller saw. It counts in statistics, patterns and cascade risk, marked `source: client`;
/// it changes no task and teaches routing nothing (`POST /api/scheduling/record-execution` does).
#[utoipa::path(post, path = "/api/monitoring/failures/record", tag = "monitoring", request_body = FailureReport, responses(
    (status = 200, body = FailureRecorded),
    (status = 403, body = deia::api::ApiError, description = "A bot speaks for itself alone"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn record_failure(
    State(api): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<FailureReport>,
) -> Result<Json<FailureRecorded>, ApiFailure> {
    let bot = match (caller.via, request.bot_id) {
        (Via::BotSocket, named) => speaker(&api, caller, named).await?,
        (_, named) => named.unwrap_or_else(|| "unknown".to_owned()),
    };
    let mut message = request.error_message.unwrap_or_default();
    let end = message.floor_char_boundary(MAX_REPORT_BYTES.min(message.len()));
    message.truncate(end);
    let failure = Failure {
        at: 0,
        wall: Timestamp::now(),
        task: request.task_id.as_str().into(),
        bot: bot.into(),
        task_type: request
            .task_type
            .unwrap_or_else(|| "general".to_owned())
            .into(),
        kind: REPORTED,
        report: Some(Report {
            message,
            code: request.error_code.unwrap_or(500),
        }),
    };
    let seen = api.ask(|reply| Command::Report { failure, reply }).await?;
    let (own, reported) = totals(&seen.record, seen.now);
    Ok(Json(FailureRecorded {
        success: true,
        task_id: request.task_id,
        total_failures: own + reported,
        source: "client".to_owned(),
        timestamp: seen.wall,
    }))
}
