//! A task's output, whole or as it comes.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use deia::api::OutputView;
use deia::task::{TaskId, TaskStatus};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::IntoParams;

use super::Shared;
use super::orchestrate::unreadable;
use super::tasks::{known_form, record};
use crate::fleet::outputs::{Follower, Next};
use crate::http::error::ApiFailure;
use crate::http::extract::{PathArgs, QueryArgs};
use crate::http::fields::{Field, Fields, Kind, Presence};
use crate::http::guard::Caller;
use crate::http::lasting::Lasts;

/// `?follow=true`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OutputQuery {
    /// Stream it as it comes, until the task has ended.
    pub follow: Option<bool>,
}

impl Fields for OutputQuery {
    const FIELDS: &'static [Field] = &[Field {
        name: "follow",
        kind: Kind::Bool,
        presence: Presence::Optional,
    }];
}

/// When a stream that was ended for an upgrade is to be opened again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How often a follower looks whether a task that waits has begun.
const LOOK: Duration = Duration::from_millis(200);

/// What a task has said: so far, or, with `follow`, as it comes.
///
/// The stream's events: `output` `{"text"}`, `attempt` `{"status"}` when the output starts anew (the attempt is
/// over and the task is tried again; or, with `running`, an external bot has ended it with another text than it
/// had said), `end` `{"status"}`. A stream that ends without `end` was ended by an upgrade or a stop: open it
/// again.
#[utoipa::path(get, path = "/api/tasks/{id}/output", tag = "tasks", params(("id" = String, Path), OutputQuery), responses(
    (status = 200, content((OutputView = "application/json"), (serde_json::Value = "text/event-stream")), description = "The output so far; with `follow=true` as a stream of events"),
    (status = 404, body = deia::api::ApiError),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "`too_many_streams`: too many answers that last are under way"),
))]
pub async fn output(
    State(api): State<Shared>,
    caller: Caller,
    PathArgs(id): PathArgs<String>,
    QueryArgs(query): QueryArgs<OutputQuery>,
) -> Result<Response, ApiFailure> {
    let id = known_form(&id)?;
    let status = record(&api, &id).await?.status;
    if query.follow == Some(true) {
        let following = Following::new(api.clone(), id, api.lasting.begin(&caller)?);
        let events = stream::unfold(following, |mut following| async move {
            let event = following.next_or_hint().await?;
            Some((Ok::<_, Infallible>(event), following))
        });
        return Ok(Sse::new(events)
            .keep_alive(KeepAlive::default())
            .into_response());
    }
    let (status, output) = match api.outputs.so_far(&id) {
        Some(text) => (status, text),
        // It may have ended between the two looks: the status that goes with this text.
        None => (
            record(&api, &id).await?.status,
            api.store
                .output(id.clone())
                .await
                .map_err(unreadable)?
                .unwrap_or_default(),
        ),
    };
    Ok(Json(OutputView {
        task_id: id.to_string(),
        status,
        output,
        complete: status.is_final(),
    })
    .into_response())
}

/// What a follower of a task is told next.
#[derive(Debug)]
pub(super) enum Step {
    /// More of its output.
    Text(String),
    /// The attempt is over, and the task is not; or it runs, and an external bot has another text than it had said:
    /// its output starts anew.
    Attempt(TaskStatus),
    /// The task has ended.
    End(TaskStatus),
}

/// Follows a task, from attempt to attempt, to its end.
pub(super) struct Following {
    api: Shared,
    id: TaskId,
    follower: Option<Follower>,
    /// Bytes of the present attempt that were sent.
    said: usize,
    done: bool,
    /// Its place.
    _lasts: Lasts,
}

impl Following {
    pub(super) fn new(api: Shared, id: TaskId, lasts: Lasts) -> Self {
        Self {
            _lasts: lasts,
            api,
            id,
            follower: None,
            said: 0,
            done: false,
        }
    }

    /// The next event; when another process goes on, when to ask that one, and the end.
    async fn next_or_hint(&mut self) -> Option<Event> {
        if self.done {
            return None;
        }
        let api = self.api.clone();
        tokio::select! {
            biased;
            () = api.until_leaving() => {
                self.done = true;
                Some(Event::default().retry(ASK_AGAIN))
            }
            step = self.step() => step.map(|step| match step {
                Step::Text(text) => event("output", &json!({ "text": text })),
                Step::Attempt(status) => event("attempt", &json!({ "status": status })),
                Step::End(status) => event("end", &json!({ "status": status })),
            }),
        }
    }

    /// What comes next; `None` after the end, and when nothing is known any more.
    pub(super) async fn step(&mut self) -> Option<Step> {
        if self.done {
            return None;
        }
        loop {
            if let Some(follower) = &mut self.follower {
                match follower.next().await {
                    Some(Next::Text(text)) => {
                        self.said += text.len();
                        return Some(Step::Text(text));
                    }
                    Some(Next::Anew) => {
                        self.said = 0;
                        return Some(Step::Attempt(TaskStatus::Running));
                    }
                    Some(Next::Ended(status)) if status.is_final() => {
                        return Some(self.end(status));
                    }
                    Some(Next::Ended(status)) => {
                        self.follower = None;
                        self.said = 0;
                        return Some(Step::Attempt(status));
                    }
                    None => self.follower = None,
                }
            }
            self.follower = self.api.outputs.follow(&self.id);
            if self.follower.is_some() {
                continue;
            }
            // It waits, or has ended.
            let found = self.api.store.task(self.id.clone()).await.ok()??;
            if !found.status.is_final() {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let whole = self
                .api
                .store
                .output(self.id.clone())
                .await
                .ok()?
                .unwrap_or_default();
            let rest = whole.get(self.said..).unwrap_or_default().to_owned();
            if !rest.is_empty() {
                self.said = whole.len();
                return Some(Step::Text(rest));
            }
            return Some(self.end(found.status));
        }
    }

    fn end(&mut self, status: TaskStatus) -> Step {
        self.done = true;
        Step::End(status)
    }
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
