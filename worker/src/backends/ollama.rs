//! Ollama's native chat: `POST /api/chat`, one JSON object a line, the last with `done: true`.
//!
//! Preferred to its `/v1`, which hides errors in the middle of a stream. An end before `done: true`
//! is a failure, whatever came before it.

use deia::wire::Usage;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::http::{self, Reply, Server};
use super::lines::{Lines, MAX_LINE_BYTES};
use super::{Answer, Failure, Job};
use crate::sink::Sink;

/// One line of the stream. Counts that are absent mean 0.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    message: Message,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Message {
    #[serde(default)]
    content: String,
    #[serde(default)]
    thinking: String,
}

pub(super) async fn run(server: &Server, job: Job<'_>, sink: &mut Sink) -> Result<Answer, Failure> {
    let mut reply = server.post("/api/chat", &request(server, job)).await?;
    if reply.status() != StatusCode::OK {
        return Err(refused(server, &mut reply).await);
    }
    let mut lines = Lines::default();
    loop {
        let Some(piece) = reply.piece().await? else {
            let rest = lines.rest();
            if !rest.is_empty()
                && let Some(answer) = take(&rest, server, &mut reply, sink).await?
            {
                return Ok(answer);
            }
            return Err(Failure::backend(format!(
                "the answer from {} ended before it was done",
                server.spec.url
            )));
        };
        lines.push(&piece);
        while let Some(line) = lines.next_line().map_err(|_| too_long(server))? {
            if line.is_empty() {
                continue;
            }
            if let Some(answer) = take(line, server, &mut reply, sink).await? {
                return Ok(answer);
            }
        }
    }
}

fn request(server: &Server, job: Job<'_>) -> serde_json::Value {
    let spec = &server.spec;
    json!({
        "model": spec.model,
        "messages": [{"role": "user", "content": job.content}],
        "stream": true,
        "keep_alive": keep_alive(&spec.keep_alive),
        "options": {
            "num_ctx": spec.num_ctx,
            "temperature": spec.temperature,
            "num_predict": spec.max_tokens,
        },
    })
}

/// A number of seconds goes as a number: as a text, ollama wants a unit.
fn keep_alive(text: &str) -> serde_json::Value {
    match text.trim().parse::<i64>() {
        Ok(seconds) => seconds.into(),
        Err(_) => text.trim().into(),
    }
}

/// One line: passes its text on, gives the answer when it is the last one.
async fn take(
    line: &[u8],
    server: &Server,
    reply: &mut Reply,
    sink: &mut Sink,
) -> Result<Option<Answer>, Failure> {
    let line: Line = serde_json::from_slice(line).map_err(|e| {
        Failure::backend(format!(
            "{} sent something that is no line of an answer: {e}",
            server.spec.url
        ))
    })?;
    if let Some(error) = &line.error {
        return Err(Failure::backend(format!(
            "{} failed in the middle of its answer: {}",
            server.spec.url,
            reply.words(error)
        )));
    }
    if !line.message.content.is_empty() || !line.message.thinking.is_empty() {
        reply.progressed();
    }
    sink.write(&line.message.content).await;
    Ok(line.done.then(|| Answer {
        usage: Usage {
            prompt_tokens: line.prompt_eval_count,
            completion_tokens: line.eval_count,
        },
        model: Some(server.spec.model.clone()),
    }))
}

async fn refused(server: &Server, reply: &mut Reply) -> Failure {
    let (status, words) = (reply.status(), reply.error_words().await);
    let (url, model) = (&server.spec.url, &server.spec.model);
    if status == StatusCode::NOT_FOUND {
        return Failure::permanent(format!(
            "model '{model}' not found at {url} ({words}): ollama pull {model}"
        ));
    }
    let error = format!("{url} answered {status}: {words}");
    if http::is_overload(status) {
        Failure::unavailable(error)
    } else {
        Failure::backend(error)
    }
}

fn too_long(server: &Server) -> Failure {
    Failure::backend(format!(
        "{} sent a line of more than {MAX_LINE_BYTES} bytes",
        server.spec.url
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_goes_in_the_form_ollama_reads() {
        assert_eq!(keep_alive("5m"), json!("5m"));
        assert_eq!(keep_alive("-1"), json!(-1));
        assert_eq!(keep_alive(" 0 "), json!(0));
    }
}
