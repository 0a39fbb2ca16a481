//! `/events`: what happens, as server-sent events.
//!
//! They are lines of the log (see [`crate::logs`]): names, numbers and states, no text of users or bots.
//! Each stream is bounded by the ring it reads; there are [`MAX_READERS`] at most.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::IntoParams;

use super::Shared;
use crate::http::error::ApiFailure;
use crate::http::extract::QueryArgs;
use crate::http::fields::{Errors, Field, Fields, Kind, Presence};
use crate::logs::{MAX_READERS, Reader, Shown};

/// When a stream that has ended is to be opened again.
const ASK_AGAIN: Duration = Duration::from_millis(1000);
/// ... where another process goes on.
const ASK_AGAIN_SOON: Duration = Duration::from_millis(100);
/// Events that come together are sent together.
const GATHER: Duration = Duration::from_millis(20);
/// Events that are taken from the ring at once.
const MOST: usize = 64;
/// Bytes of the list of beginnings.
const MAX_ONLY_BYTES: usize = 256;

/// `GET /events`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events whose names begin so; several are separated by commas: `bot_,alert_`.
    pub only: Option<String>,
}

impl Fields for EventsQuery {
    const FIELDS: &'static [Field] = &[Field {
        name: "only",
        kind: Kind::Text(MAX_ONLY_BYTES),
        presence: Presence::Optional,
    }];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("only", self.only.as_deref());
    }
}

/// What happens, as it happens: `task_*`, `bot_*`, `alert_*`, `scal*`, and what else changes the fleet.
///
/// Each event's name is that of the log, its data the log's line (JSON), its id may be sent back as `Last-Event-ID`.
/// The first event is `hello`. `gap` `{"lost": n}` says that n events are not there any more; a stream that
/// falls so far behind ends after it, with `dropped`. A stream that ends is to be opened again.
#[utoipa::path(get, path = "/events", tag = "monitoring", params(EventsQuery), responses(
    (status = 200, body = String, content_type = "text/event-stream", description = "The events",
        example = "id: 68a1f2-17\nevent: bot_ready\ndata: {\"timestamp\":\"2026-01-31T12:00:00.000000Z\",\"level\":\"info\",\"event\":\"bot_ready\",\"message\":\"bot is ready\",\"bot_id\":\"coder\"}\n\n"),
    (status = 503, body = deia::api::ApiError, description = "32 streams are open already"),
))]
pub async fn events(
    State(api): State<Shared>,
    headers: HeaderMap,
    QueryArgs(query): QueryArgs<EventsQuery>,
) -> Result<Response, ApiFailure> {
    let Some(mut reader) = api.log.feed().read() else {
        return Err(ApiFailure::unavailable(
            "too_many_streams",
            format!("{MAX_READERS} event streams are open already"),
            5,
        ));
    };
    let of = epoch(&api);
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let mut waiting = vec![];
    if let Some(last) = last {
        let number = last
            .split_once('-')
            .filter(|(epoch, _)| *epoch == of)
            .and_then(|(_, number)| number.parse().ok());
        // Of an earlier daemon, or made up: nobody knows what was missed.
        if number.is_none_or(|number| !reader.resume_after(number)) {
            waiting.push(Event::default().event("gap").data(r#"{"lost":null}"#));
        }
    }
    let hello = json!({ "version": deia::VERSION, "home": api.home.display().to_string() });
    let hello = Event::default().event("hello").data(hello.to_string());
    waiting.push(hello.retry(ASK_AGAIN));
    let only = query.only.as_deref().unwrap_or_default().split(',');
    let following = Following {
        api,
        reader,
        of,
        only: only
            .map(str::trim)
            .filter(|only| !only.is_empty())
            .map(str::to_owned)
            .collect(),
        waiting,
        stage: Stage::Beginning,
    };
    let events = stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response())
}

struct Following {
    api: Shared,
    reader: Reader,
    /// Which daemon's events these are.
    of: String,
    only: Vec<String>,
    /// To be sent, the last one first.
    waiting: Vec<Event>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What is lost was lost before it came.
    Beginning,
    Following,
    /// Nothing follows what waits.
    Ending,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop() {
                return Some(event);
            }
            if self.stage == Stage::Ending {
                return None;
            }
            let (lost, shown) = self.reader.take(MOST);
            if lost == 0 && shown.is_empty() {
                let api = self.api.clone();
                tokio::select! {
                    biased;
                    () = api.until_leaving() => {
                        self.stage = Stage::Ending;
                        return Some(Event::default().retry(ASK_AGAIN_SOON));
                    }
                    () = self.reader.wait() => tokio::time::sleep(GATHER).await,
                }
                continue;
            }
            self.gather(lost, &shown);
        }
    }

    fn gather(&mut self, lost: u64, shown: &[Shown]) {
        let gap = json!({ "lost": lost }).to_string();
        if lost > 0 && self.stage == Stage::Following {
            self.stage = Stage::Ending;
            let text =
                json!({ "lost": lost, "message": "this stream was too slow; open it again" });
            let dropped = Event::default().event("dropped").data(text.to_string());
            self.waiting.push(dropped);
            return;
        }
        let wanted = |shown: &&Shown| {
            let begins = |only: &String| shown.event.starts_with(only.as_str());
            self.only.is_empty() || self.only.iter().any(begins)
        };
        let events = shown.iter().filter(wanted).map(|shown| {
            Event::default()
                .id(format!("{}-{}", self.of, shown.number))
                .event(&shown.event)
                .data(&shown.line)
        });
        self.waiting = events.rev().collect();
        if lost > 0 {
            self.waiting.push(Event::default().event("gap").data(gap));
        }
        self.stage = Stage::Following;
    }
}

/// Tells the events of this daemon from those of another at the same address.
fn epoch(api: &Shared) -> String {
    format!("{:x}", api.began.as_micros())
}
