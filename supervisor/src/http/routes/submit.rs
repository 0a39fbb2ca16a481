//! Submitting tasks, one or many.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use deia::api::{BatchAnswer, SubmitAnswer, SubmitRequest, ValidationErrors};
use deia::config::Config;
use deia::task::{TaskId, TaskStatus};
use deia::time::Timestamp;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::tasks::{position, record, result_view};
use super::{Shared, refused};
use crate::audit::Actor;
use crate::audit::OnRecord;
use crate::brain::content::Refusal;
use crate::daemon::command::{Command, Refused, Submitted};
use crate::daemon::intake::{Intake, NotATask, intake};
use crate::daemon::validation::Way;
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::{JsonBody, declared_bytes, max_body_bytes, parse_body, read_body_up_to};
use crate::store::NewTask;

/// Tasks in one batch.
pub const MAX_BATCH: usize = 100_000;

/// A batch may be this many times as large as another body.
const BATCH_BODIES: u64 = 64;

/// Tasks of a batch that are on their way to the disk at once.
const BATCH_PORTION: usize = 1000;

/// A new task. Answered once it is durable.
#[utoipa::path(post, path = "/api/orchestrate", tag = "tasks", request_body = SubmitRequest, responses(
    (status = 200, body = SubmitAnswer, description = "Accepted and durable; or `success: false` when no bot of this configuration can ever do it"),
    (status = 400, body = deia::api::ApiError, description = "`dangerous_content`: the content has a pattern that its pool refuses"),
    (status = 409, body = deia::api::ApiError, description = "The task_id belongs to another request"),
    (status = 413, body = deia::api::ApiError, description = "Larger than tasks.max_content_bytes"),
    (status = 422, body = ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "Draining, stopping, queue full, or the disk takes nothing; Retry-After says when to ask again"),
))]
pub async fn orchestrate(
    State(api): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<SubmitRequest>,
) -> Result<Json<SubmitAnswer>, ApiFailure> {
    let answer = submit_one(&api, caller, Way::Task, request).await?;
    deia::failpoint!("answer.before");
    Ok(Json(answer))
}

/// The way of every task that comes alone.
pub(super) async fn submit_one(
    api: &Shared,
    caller: Caller,
    way: Way,
    request: SubmitRequest,
) -> Result<SubmitAnswer, ApiFailure> {
    let taken = match take(api, &api.config.current(), caller, way, request).await {
        Ok(taken) => taken,
        Err(why) => return Err(why.settled().await),
    };
    let wait = taken.intake.wait;
    let id = taken.intake.task.id.clone();
    let sent = send(api, Actor::from(&caller), taken).await?;
    let mut answer = sent.settled().await?;
    // Where too many wait, this one is told at once how its task stands.
    if let Some(wait) = wait
        && answer.success
        && let Ok(_waits) = api.lasting.begin(&caller)
    {
        wait_for(api, &id, wait, &mut answer).await?;
    }
    Ok(answer)
}

/// Many tasks: an array, or one JSON object a line. Each is answered, in order.
#[utoipa::path(post, path = "/api/orchestrate/batch", tag = "tasks", request_body(
    content((Vec<SubmitRequest> = "application/json"), (String = "application/x-ndjson")),
    description = "An array of tasks, or one task a line; at most 100,000 tasks and 64 times http.max_body_bytes",
), responses(
    (status = 200, body = BatchAnswer),
    (status = 413, body = deia::api::ApiError),
    (status = 422, body = ValidationErrors, description = "The body is neither an array nor JSON lines"),
))]
pub async fn batch(
    State(api): State<Shared>,
    caller: Caller,
    actor: Actor,
    request: Request,
) -> Result<Json<BatchAnswer>, ApiFailure> {
    let usual = max_body_bytes(&request);
    let most = usual.saturating_mul(BATCH_BODIES);
    let _place = place_for(&request, usual)?;
    let body: Bytes = read_body_up_to(request, most).await?;
    let entries = entries(&body)?;
    let mut results = Vec::with_capacity(entries.len());
    let config = api.config.current();
    for portion in entries.chunks(BATCH_PORTION) {
        // Another process goes on from here: what was not begun is asked for again, and nothing is cut off.
        if *api.leaving.borrow() {
            let later = "another release takes over: send this task again";
            let later = ApiFailure::unavailable("upgrading", later, 1);
            results.extend(portion.iter().map(|entry| failed(named(entry), &later)));
            continue;
        }
        let mut waiting = Vec::with_capacity(portion.len());
        for entry in portion {
            waiting.push(match parse_body::<SubmitRequest>(entry) {
                Ok(request) => match take(&api, &config, caller, Way::Batch, request).await {
                    Ok(taken) => send(&api, actor.clone(), taken).await.map_err(Into::into),
                    Err(why) => Err(why),
                },
                Err(errors) => Err(ApiFailure::invalid(errors).into()),
            });
        }
        for (one, entry) in waiting.into_iter().zip(portion) {
            let answer = match one {
                Ok(sent) => {
                    let id = sent.sketch.task_id.clone();
                    sent.settled()
                        .await
                        .unwrap_or_else(|failure| failed(id, &failure))
                }
                Err(why) => failed(named(entry), &why.settled().await),
            };
            results.push(answer);
        }
    }
    let accepted = results.iter().filter(|answer| answer.success).count();
    Ok(Json(BatchAnswer {
        success: accepted == results.len(),
        accepted: accepted as u64,
        results,
    }))
}

/// Batches that are held in memory at once, of those that are larger than other bodies may be, or do not say.
static LARGE: Semaphore = Semaphore::const_new(8);

fn place_for(
    request: &Request,
    usual: u64,
) -> Result<Option<SemaphorePermit<'static>>, ApiFailure> {
    if declared_bytes(request).is_some_and(|bytes| bytes <= usual) {
        return Ok(None);
    }
    LARGE.try_acquire().map(Some).map_err(|_| {
        let why = "as many large batches are on their way as there may be: try again, or send smaller ones";
        ApiFailure::unavailable("too_many_batches", why, 1)
    })
}

/// The name a client gave a task that was not taken.
fn named(entry: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        task_id: Option<String>,
    }
    let named = serde_json::from_slice::<Named>(entry).ok();
    named.and_then(|named| named.task_id).unwrap_or_default()
}

/// A task that may be submitted.
pub(super) struct Taken {
    /// The task.
    pub(super) intake: Intake,
    /// The record of what was found in it and let pass.
    noted: Option<OnRecord>,
}

/// Why there is no task.
pub(super) enum NotTaken {
    /// It is none.
    Failure(ApiFailure),
    /// It holds what is refused, which goes on record.
    Dangerous(ApiFailure, OnRecord),
}

impl From<ApiFailure> for NotTaken {
    fn from(failure: ApiFailure) -> Self {
        Self::Failure(failure)
    }
}

impl NotTaken {
    /// What is answered, once that is on record.
    pub(super) async fn settled(self) -> ApiFailure {
        match self {
            Self::Failure(failure) => failure,
            Self::Dangerous(failure, on_record) => match on_record.wait().await {
                Ok(_) => failure,
                Err(why) => refused(why, ""),
            },
        }
    }
}

/// From a request to a task: the one way for everything that comes over HTTP. What has to be said of its
/// content is said here.
pub(super) async fn take(
    api: &Shared,
    config: &Config,
    caller: Caller,
    way: Way,
    request: SubmitRequest,
) -> Result<Taken, NotTaken> {
    let recorder = &api.validation.recorder;
    match intake(request, config, Timestamp::now()) {
        Ok(intake) => {
            let mut noted = None;
            if let Some(found) = intake.noted {
                let id = intake.task.id.as_str();
                let entry = api.validation.noted(way, &caller, id, found);
                noted = Some(recorder.put(Actor::from(&caller), entry).await);
            }
            Ok(Taken { intake, noted })
        }
        Err(NotATask::Invalid(errors)) => Err(ApiFailure::invalid(errors).into()),
        Err(NotATask::TooLarge(bytes, most)) => Err(ApiFailure::too_large(format!(
            "content has {bytes} bytes, tasks.max_content_bytes allows {most}"
        ))
        .into()),
        Err(NotATask::Dangerous(refusal)) => {
            let entry = api.validation.refused(way, &caller, &refusal);
            let on_record = recorder.put(Actor::from(&caller), entry).await;
            Err(NotTaken::Dangerous(dangerous(&refusal), on_record))
        }
    }
}

/// Content that is refused for what it holds.
pub(super) fn dangerous(refusal: &Refusal) -> ApiFailure {
    ApiFailure::bad_request("dangerous_content", refusal.to_string())
}

/// A task on its way to the disk.
pub(super) struct Sent {
    sketch: SubmitAnswer,
    answer: oneshot::Receiver<Result<Submitted, Refused>>,
    noted: Option<OnRecord>,
}

impl Sent {
    /// What is answered, once it is there, and what was noted of it.
    pub(super) async fn settled(self) -> Result<SubmitAnswer, ApiFailure> {
        let answer = settle(self.sketch, self.answer.await)?;
        if let Some(noted) = self.noted {
            noted.wait_anyway().await;
        }
        Ok(answer)
    }
}

/// Hands a task to the main loop.
pub(super) async fn send(api: &Shared, actor: Actor, taken: Taken) -> Result<Sent, ApiFailure> {
    let Taken { intake, noted } = taken;
    let sketch = sketch(&intake.task);
    let (reply, answer) = oneshot::channel();
    let command = Command::Submit {
        task: intake.task,
        demand: intake.demand,
        reply,
    };
    let stopping = |_| ApiFailure::unavailable("stopping", "the daemon is stopping", 1);
    let command = Command::As(actor, Box::new(command));
    api.commands.send(command).await.map_err(stopping)?;
    Ok(Sent {
        sketch,
        answer,
        noted,
    })
}

fn sketch(task: &NewTask) -> SubmitAnswer {
    SubmitAnswer {
        success: true,
        task_id: task.id.to_string(),
        status: Some(TaskStatus::Queued),
        routed_to: None,
        queued: true,
        position: None,
        task_type: Some(task.task_type),
        complexity: Some(task.complexity),
        required_capabilities: task.required_capabilities.clone(),
        message: None,
        duplicate: false,
        error: None,
        code: None,
        result: None,
    }
}

/// Completes the answer with what the main loop said.
pub(super) fn settle(
    mut answer: SubmitAnswer,
    said: Result<Result<Submitted, Refused>, oneshot::error::RecvError>,
) -> Result<SubmitAnswer, ApiFailure> {
    let id = &answer.task_id;
    match said {
        Ok(Ok(Submitted::Routed { bot })) => {
            answer.message = Some(format!("Task {id} routed to {bot}"));
            answer.routed_to = Some(bot.to_string());
        }
        Ok(Ok(Submitted::Waits { position, held })) => {
            answer.message = Some(match (position, held) {
                (Some(n), Some(why)) => format!(
                    "Task {id} waits in place {n} for its model server, and goes on by itself: {why}"
                ),
                (Some(n), None) => format!("Task {id} waits in place {n}"),
                (None, _) => format!("Task {id} waits for its time"),
            });
            if position.is_none() {
                answer.status = Some(TaskStatus::Scheduled);
            }
            answer.position = position;
        }
        Ok(Ok(Submitted::Duplicate(record))) => {
            answer.message = Some(format!("Task {id} was accepted before"));
            answer.duplicate = true;
            // As it was answered the first time.
            if record.status == TaskStatus::Scheduled && record.attempts.is_empty() {
                answer.status = Some(TaskStatus::Scheduled);
            }
            answer.routed_to = record.attempts.last().map(|attempt| attempt.bot_id.clone());
        }
        Ok(Err(Refused::Unsuitable)) => {
            return Ok(SubmitAnswer {
                success: false,
                status: None,
                queued: false,
                error: Some("No suitable bot available".into()),
                code: Some("no_suitable_bot".into()),
                ..answer
            });
        }
        Ok(Err(why)) => return Err(refused(why, &answer.task_id)),
        Err(_) => {
            return Err(ApiFailure::unavailable(
                "stopping",
                "the daemon is stopping; the task may have been accepted: ask again with its task_id",
                1,
            ));
        }
    }
    Ok(answer)
}

/// Waits for the task's end and puts what came of it into the answer.
async fn wait_for(
    api: &Shared,
    id: &TaskId,
    wait: Duration,
    answer: &mut SubmitAnswer,
) -> Result<(), ApiFailure> {
    let noted = api
        .ask(|reply| Command::Wait {
            id: id.clone(),
            reply,
        })
        .await?;
    // Noted first, looked at second: an end in between is seen by one of the two.
    let mut found = record(api, id).await?;
    if !found.status.is_final() {
        // Another process answers later; this one answers with what is known.
        tokio::select! {
            _ = tokio::time::timeout(wait, noted) => {}
            () = api.until_leaving() => {}
        }
        found = record(api, id).await?;
    }
    answer.status = Some(found.status);
    answer.error.clone_from(&found.error);
    let bot = found.attempts.last().map(|attempt| attempt.bot_id.clone());
    let waits = matches!(found.status, TaskStatus::Queued | TaskStatus::Scheduled);
    answer.routed_to = bot.filter(|_| !waits);
    answer.position = position(api, &found).await?;
    answer.result = result_view(api, &found).await?;
    Ok(())
}

fn failed(task_id: String, failure: &ApiFailure) -> SubmitAnswer {
    let body: serde_json::Value = serde_json::from_slice(&failure.to_json()).unwrap_or_default();
    let text = |key: &str| {
        body.get(key)
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
    };
    SubmitAnswer {
        success: false,
        task_id,
        status: None,
        routed_to: None,
        queued: false,
        position: None,
        task_type: None,
        complexity: None,
        required_capabilities: Vec::new(),
        message: None,
        duplicate: false,
        error: text("error").or_else(|| text("detail")),
        code: Some(failure.code().to_owned()),
        result: None,
    }
}

/// The tasks of a body: the elements of an array, or its lines.
fn entries(body: &[u8]) -> Result<Vec<&[u8]>, ApiFailure> {
    let entries: Vec<&[u8]> = if body.trim_ascii_start().first() == Some(&b'[') {
        let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(|e| {
            let error = crate::http::error::validation_error(
                "json_invalid",
                vec!["body".into()],
                "JSON decode error",
                serde_json::json!({}),
                Some(serde_json::json!({ "error": e.to_string() })),
            );
            ApiFailure::invalid(vec![error])
        })?;
        elements
            .into_iter()
            .map(|raw| raw.get().as_bytes())
            .collect()
    } else {
        body.split(|b| *b == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .collect()
    };
    if entries.len() > MAX_BATCH {
        return Err(ApiFailure::too_large(format!(
            "{} tasks in one batch, at most {MAX_BATCH}: send several",
            entries.len()
        )));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_lines_are_both_batches() {
        let array = entries(br#" [{"content":"a"}, {"content":"b"}]"#).unwrap();
        assert_eq!(array, [br#"{"content":"a"}"#, br#"{"content":"b"}"#]);
        let lines = entries(b"{\"content\":\"a\"}\r\n\n {\"content\":\"b\"}").unwrap();
        assert_eq!(lines, [br#"{"content":"a"}"#, br#"{"content":"b"}"#]);
        assert!(entries(b"[1,").is_err());
        assert!(entries(b"").unwrap().is_empty());
    }
}
