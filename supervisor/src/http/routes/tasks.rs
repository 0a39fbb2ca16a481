//! Tasks: list, show, cancel, retry.

use axum::Json;
use axum::extract::State;
use deia::api::{
    AttemptView, ResultView, TaskActionAnswer, TaskPage, TaskQuery, TaskView, UsageView,
};
use deia::task::{AttemptStatus, TaskId, TaskStatus};
use deia::time::Timestamp;

use super::orchestrate::unreadable;
use super::{Shared, refused};
use crate::audit::Actor;
use crate::daemon::command::{Acted, Command, Refused};
use crate::http::error::{ApiFailure, validation_error};
use crate::http::extract::{PathArgs, QueryArgs};
use crate::store::{Seq, TaskFilter, TaskRecord};

/// Tasks on a page where the caller names no number.
const DEFAULT_LIMIT: u32 = 100;

/// Tasks on a page at most.
const MAX_LIMIT: u32 = 1000;

/// Tasks, newest first; a page stays as it is while tasks come and go.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks", params(TaskQuery), responses(
    (status = 200, body = TaskPage),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn list(
    State(api): State<Shared>,
    QueryArgs(query): QueryArgs<TaskQuery>,
) -> Result<Json<TaskPage>, ApiFailure> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(wrong_query(
            "limit",
            format!("Input should be between 1 and {MAX_LIMIT}"),
            limit.into(),
        ));
    }
    let before = match &query.cursor {
        None => None,
        Some(cursor) => {
            let page = cursor.parse::<Seq>().ok().filter(|seq| *seq > 0);
            Some(page.ok_or_else(|| {
                wrong_query(
                    "cursor",
                    "Input should be the next_cursor of a page".into(),
                    cursor.clone().into(),
                )
            })?)
        }
    };
    let filter = TaskFilter {
        status: query.status,
        bot: query.bot,
        task_type: query.task_type,
        priority: query.priority,
    };
    // One more than asked for tells whether there is another page.
    let mut found = api
        .store
        .list(filter, before, limit as usize + 1)
        .await
        .map_err(unreadable)?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found
        .last()
        .filter(|_| more)
        .map(|task| task.seq.to_string());
    let tasks: Vec<TaskView> = found
        .into_iter()
        .map(|mut task| {
            by_the_wall(&api, &mut task);
            view(task, None, None)
        })
        .collect();
    Ok(Json(TaskPage {
        count: tasks.len(),
        tasks,
        next_cursor,
    }))
}

/// One task, with its attempts and, once it succeeded, its result.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskView),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn show(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<TaskView>, ApiFailure> {
    let found = record(&api, &known_form(&id)?).await?;
    let position = position(&api, &found).await?;
    let result = result_view(&api, &found).await?;
    Ok(Json(view(found, position, result)))
}

/// Its place among those that wait for the same bots, where it waits.
pub(super) async fn position(api: &Shared, task: &TaskRecord) -> Result<Option<u64>, ApiFailure> {
    if task.status != TaskStatus::Queued {
        return Ok(None);
    }
    let place = (task.priority, task.seq);
    let ahead = api.store.ahead_of(task.demand.clone(), place).await;
    Ok(Some(ahead.map_err(unreadable)? + 1))
}

/// Cancels a task: one that waits at once, one that runs through its bot.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskActionAnswer),
    (status = 404, body = deia::api::ApiError),
    (status = 409, body = deia::api::ApiError, description = "It has ended already"),
))]
pub async fn cancel(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<TaskActionAnswer>, ApiFailure> {
    let task = known_form(&id)?;
    let said = api
        .ask_as(actor, |reply| Command::Cancel { id: task, reply })
        .await?;
    acted(id, said, "cancelled")
}

/// Queues a dead, cancelled or expired task again, with all its attempts.
#[utoipa::path(post, path = "/api/tasks/{id}/retry", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = TaskActionAnswer),
    (status = 404, body = deia::api::ApiError),
    (status = 409, body = deia::api::ApiError, description = "It waits, runs or has succeeded"),
))]
pub async fn retry(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<TaskActionAnswer>, ApiFailure> {
    let task = known_form(&id)?;
    let said = api
        .ask_as(actor, |reply| Command::Requeue { id: task, reply })
        .await?;
    acted(id, said, "queued again")
}

fn acted(
    task_id: String,
    said: Result<Acted, Refused>,
    done: &str,
) -> Result<Json<TaskActionAnswer>, ApiFailure> {
    let Acted { status, pending } = said.map_err(|why| refused(why, &task_id))?;
    let message = if pending {
        "its bot was told; it ends within supervision.stop_timeout_seconds".to_owned()
    } else {
        done.to_owned()
    };
    Ok(Json(TaskActionAnswer {
        success: true,
        task_id,
        status,
        message,
    }))
}

/// A name no task can have is of no task.
pub(super) fn known_form(id: &str) -> Result<TaskId, ApiFailure> {
    id.parse().map_err(|_| unknown(id))
}

fn unknown(id: &str) -> ApiFailure {
    ApiFailure::not_found(format!("Task {id} not found"))
}

/// When a task is tried again is kept by the steady clock; people read the wall clock.
fn by_the_wall(api: &Shared, task: &mut TaskRecord) {
    let ahead = api.condition.borrow().ahead_micros;
    task.not_before = task.not_before.map(|at| match task.attempts.is_empty() {
        true => at,
        false => Timestamp::from_micros(at.as_micros().saturating_add(ahead)),
    });
}

/// The task, or 404.
pub(super) async fn record(api: &Shared, id: &TaskId) -> Result<TaskRecord, ApiFailure> {
    let found = api.store.task(id.clone()).await.map_err(unreadable)?;
    let mut found = found.ok_or_else(|| unknown(id.as_str()))?;
    by_the_wall(api, &mut found);
    Ok(found)
}

/// Its result, with the output; `None` before it succeeded.
pub(super) async fn result_view(
    api: &Shared,
    task: &TaskRecord,
) -> Result<Option<ResultView>, ApiFailure> {
    let Some(result) = &task.result else {
        return Ok(None);
    };
    let output = api
        .store
        .output(task.id.clone())
        .await
        .map_err(unreadable)?;
    let duration = task
        .attempts
        .iter()
        .rfind(|attempt| attempt.status == AttemptStatus::Succeeded)
        .and_then(|attempt| Some(attempt.ended_at?.seconds_since(attempt.started_at)));
    Ok(Some(ResultView {
        output: output.unwrap_or_default(),
        truncated: result.truncated,
        usage: UsageView {
            prompt_tokens: result.usage.prompt_tokens,
            completion_tokens: result.usage.completion_tokens,
        },
        duration_seconds: duration.unwrap_or(0.0).max(0.0),
        backend: result.backend.clone(),
        model: result.model.clone(),
    }))
}

fn view(task: TaskRecord, position: Option<u64>, result: Option<ResultView>) -> TaskView {
    let attempts = task.attempts.into_iter().map(|attempt| AttemptView {
        attempt: attempt.attempt,
        bot_id: attempt.bot_id,
        status: attempt.status,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        error: attempt.error,
    });
    TaskView {
        task_id: task.id.to_string(),
        status: task.status,
        priority: task.priority,
        task_type: task.task_type,
        complexity: task.complexity,
        required_capabilities: task.required_capabilities,
        bot_id: task.bot_id,
        pool: task.pool,
        position,
        max_attempts: task.max_attempts,
        timeout_seconds: task.timeout_ms as f64 / 1000.0,
        submitted_at: task.submitted_at,
        not_before: task.not_before,
        ended_at: task.ended_at,
        attempts: attempts.collect(),
        result,
        error: task.error,
        metadata: task
            .metadata
            .and_then(|text| serde_json::from_str(&text).ok()),
    }
}

pub(super) fn wrong_query(
    name: &'static str,
    rule: String,
    input: serde_json::Value,
) -> ApiFailure {
    let loc = vec!["query".into(), name.into()];
    ApiFailure::invalid(vec![validation_error(
        "value_error",
        loc,
        rule,
        input,
        None,
    )])
}
