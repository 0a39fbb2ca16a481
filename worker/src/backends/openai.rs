//! An OpenAI-compatible server: `POST /chat/completions`, streamed as server-sent events.
//!
//! An answer is whole when `[DONE]` or a `finish_reason` came; an end before both is a failure.

use deia::wire::Usage;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::http::{self, Reply, Server};
use super::lines::{LineTooLong, MAX_LINE_BYTES};
use super::sse::Events;
use super::{Answer, Failure, Job};
use crate::sink::Sink;

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counts>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    /// What some servers call the thoughts of a model: progress, but no answer.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Counts {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// What is known of an answer while it arrives.
#[derive(Debug, Default)]
struct Progress {
    deltas: u64,
    counts: Option<Counts>,
    finished: bool,
    done: bool,
}

pub(super) async fn run(server: &Server, job: Job<'_>, sink: &mut Sink) -> Result<Answer, Failure> {
    let body = request(server, job);
    let mut reply = server.post("/chat/completions", &body).await?;
    if reply.status() != StatusCode::OK {
        return Err(refused(server, &mut reply).await);
    }
    if !reply.content_type().starts_with("text/event-stream") {
        return Err(Failure::backend(format!(
            "{} answered with content type '{}' where text/event-stream was asked for: does it stream?",
            server.spec.url,
            reply.content_type()
        )));
    }
    let mut progress = Progress::default();
    let mut events = Events::default();
    while !progress.done {
        let piece = match reply.piece().await {
            Ok(piece) => piece,
            // The answer is whole; only its count or its farewell is missing.
            Err(_) if progress.finished => break,
            Err(e) => return Err(e),
        };
        let Some(piece) = piece else {
            let last = events.last_event().map_err(|e| too_long(server, e))?;
            if let Some(data) = last {
                take(&data, server, &mut reply, &mut progress, sink).await?;
            }
            break;
        };
        events.push(&piece);
        while let Some(data) = events.next_event().map_err(|e| too_long(server, e))? {
            take(&data, server, &mut reply, &mut progress, sink).await?;
        }
    }
    if !progress.finished && !progress.done {
        return Err(Failure::backend(format!(
            "the answer from {} ended before it was done",
            server.spec.url
        )));
    }
    Ok(Answer {
        usage: progress.usage(),
        model: Some(server.spec.model.clone()),
    })
}

impl Progress {
    /// As the server counted, else the pieces that came: about a token each.
    fn usage(&self) -> Usage {
        match self.counts {
            Some(counts) => Usage {
                prompt_tokens: counts.prompt_tokens,
                completion_tokens: counts.completion_tokens,
            },
            None => Usage {
                prompt_tokens: 0,
                completion_tokens: self.deltas,
            },
        }
    }
}

fn request(server: &Server, job: Job<'_>) -> serde_json::Value {
    json!({
        "model": server.spec.model,
        "messages": [{"role": "user", "content": job.content}],
        "max_tokens": server.spec.max_tokens,
        "temperature": server.spec.temperature,
        "stream": true,
        "stream_options": {"include_usage": true},
    })
}

async fn take(
    data: &[u8],
    server: &Server,
    reply: &mut Reply,
    progress: &mut Progress,
    sink: &mut Sink,
) -> Result<(), Failure> {
    if data.trim_ascii() == b"[DONE]" {
        progress.done = true;
        return Ok(());
    }
    if data.trim_ascii().is_empty() {
        return Ok(());
    }
    let chunk: Chunk = serde_json::from_slice(data).map_err(|e| {
        Failure::backend(format!(
            "{} sent something that is no piece of an answer: {e}",
            server.spec.url
        ))
    })?;
    if let Some(error) = &chunk.error {
        return Err(Failure::backend(format!(
            "{} failed in the middle of its answer: {}",
            server.spec.url,
            reply.words(error)
        )));
    }
    progress.counts = chunk.usage.or(progress.counts);
    // One answer was asked for: only the first choice is it.
    if let Some(choice) = chunk.choices.into_iter().next() {
        let text = choice.delta.content.unwrap_or_default();
        if !text.is_empty() || choice.delta.reasoning_content.is_some() {
            progress.deltas += 1;
            reply.progressed();
        }
        sink.write(&text).await;
        progress.finished |= choice.finish_reason.is_some();
    }
    Ok(())
}

async fn refused(server: &Server, reply: &mut Reply) -> Failure {
    let (status, words) = (reply.status(), reply.error_words().await);
    let (url, model) = (&server.spec.url, &server.spec.model);
    let error = format!("{url} answered {status}: {words}");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::permanent(format!("{error} (check the backend's api_key_file)"))
        }
        StatusCode::NOT_FOUND => Failure::permanent(format!(
            "{error} (check the backend's url, which includes /v1, and its model '{model}')"
        )),
        status if http::is_overload(status) => Failure::unavailable(error),
        _ => Failure::backend(error),
    }
}

fn too_long(server: &Server, LineTooLong: LineTooLong) -> Failure {
    Failure::backend(format!(
        "{} sent an event of more than {MAX_LINE_BYTES} bytes",
        server.spec.url
    ))
}
