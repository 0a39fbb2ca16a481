//! OpenAI-compatible: a chat completion is a task of the fleet, a model is a pool.
//!
//! A client that goes away has its task cancelled: nobody would read the answer. The same where another
//! process goes on: the client is told to ask again (503), and what it asks then is a task of its own.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use deia::api::{
    ChatAnswer, ChatChoice, ChatCompletion, ChatContent, ChatError, ChatErrorBody, ChatMessage,
    ChatRequest, ChatUsage, Model, ModelList, SubmitRequest,
};
use deia::config::Config;
use deia::task::{TaskId, TaskStatus};
use deia::time::Timestamp;
use deia::wire::Usage;
use futures_util::stream;
use serde_json::{Value, json};

use super::Shared;
use super::output::{Following, Step};
use super::submit::{send, take};
use super::tasks::{record, result_view};
use crate::audit::Actor;
use crate::daemon::command::Command;
use crate::daemon::validation::Way;
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::read_body;
use crate::http::lasting::Lasts;
use crate::store::TaskRecord;

/// Names of a model that is any bot.
const ANY: [&str; 3] = ["deia", "default", ""];
/// Messages in a conversation.
const MAX_MESSAGES: usize = 4096;

/// The pools, as models; `deia` is any bot.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = ModelList)))]
pub async fn models(State(api): State<Shared>) -> Json<ModelList> {
    let config = api.config.current();
    let pools = config.bots.iter().map(|pool| pool.name.as_str());
    let mut names: Vec<&str> = pools.collect();
    if !names.contains(&ANY[0]) {
        names.insert(0, ANY[0]);
    }
    let model = |id: &&str| Model {
        id: (*id).to_owned(),
        object: "model".into(),
        created: seconds(api.began),
        owned_by: "deia".into(),
    };
    Json(ModelList {
        object: "list".into(),
        data: names.iter().map(model).collect(),
    })
}

/// A task through the fleet, for clients that speak to OpenAI. One user message is the task's text; several messages
/// are written down as a conversation (`System: ...`, `User: ...`). A client that disconnects cancels the task.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest, responses(
    (status = 200, body = ChatCompletion, description = "The answer; with `stream: true` `text/event-stream` of `chat.completion.chunk`, ended by `[DONE]`"),
    (status = 400, body = ChatError, description = "Something in the request is wrong, or no bot can do it"),
    (status = 404, body = ChatError, description = "There is no such pool"),
    (status = 413, body = ChatError),
    (status = 502, body = ChatError, description = "The task failed for good"),
    (status = 503, body = ChatError, description = "Not now; Retry-After says when to ask again"),
))]
pub async fn chat_completions(
    State(api): State<Shared>,
    caller: Caller,
    request: Request,
) -> Response {
    match complete(api, caller, request).await {
        Ok(response) => response,
        Err(failure) => refusal(&failure),
    }
}

async fn complete(api: Shared, caller: Caller, request: Request) -> Result<Response, ApiFailure> {
    let body = read_body(request).await?;
    let request: ChatRequest = serde_json::from_slice(&body).map_err(|e| {
        wrong(
            "invalid_body",
            format!("the body is not a chat request: {e}"),
        )
    })?;
    let config = api.config.current();
    let (task, chat) = understand(request, &config)?;
    let lasts = api.lasting.begin(&caller)?;
    let actor = Actor::from(&caller);
    let taken = match take(&api, &config, caller, Way::Chat, task).await {
        Ok(taken) => taken,
        Err(why) => return Err(why.settled().await),
    };
    let id = taken.intake.task.id.clone();
    let sent = send(&api, actor.clone(), taken).await?;
    let leave = CancelOnDrop(Some((api.clone(), actor, id.clone())));
    let answer = sent.settled().await?;
    if !answer.success {
        leave.done();
        return Err(wrong(
            "no_suitable_bot",
            "no bot of this configuration can do it; name a pool as `model` (GET /v1/models)",
        ));
    }
    if chat.stream {
        return Ok(as_stream(api, id, chat, leave, lasts));
    }
    let found = end_of(&api, &id).await?;
    drop(lasts);
    leave.done();
    let Some(result) = result_view(&api, &found).await? else {
        return Err(failed(&found));
    };
    let usage = Usage {
        prompt_tokens: result.usage.prompt_tokens,
        completion_tokens: result.usage.completion_tokens,
    };
    Ok(Json(ChatCompletion {
        id: chat.name(&id),
        object: "chat.completion".into(),
        created: chat.created,
        model: chat.model,
        choices: vec![ChatChoice {
            index: 0,
            message: ChatAnswer {
                role: "assistant".into(),
                content: result.output,
            },
            finish_reason: finish(result.truncated).into(),
        }],
        usage: cost(usage),
    })
    .into_response())
}

/// What the answer needs of the request.
#[derive(Debug, Clone)]
struct Chat {
    model: String,
    created: i64,
    stream: bool,
    usage: bool,
}

impl Chat {
    fn name(&self, task: &TaskId) -> String {
        format!("chatcmpl-{task}")
    }

    fn chunk(&self, task: &TaskId, delta: &Value, finish: Option<&str>) -> Event {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        self.event(task, &json!([choice]), None)
    }

    fn event(&self, task: &TaskId, choices: &Value, usage: Option<ChatUsage>) -> Event {
        let mut chunk = json!({
            "id": self.name(task),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.usage {
            chunk["usage"] = json!(usage);
        }
        Event::default().data(chunk.to_string())
    }
}

/// The task that a chat request means.
fn understand(request: ChatRequest, config: &Config) -> Result<(SubmitRequest, Chat), ApiFailure> {
    let unsupported = |what: &str| Err(wrong("unsupported_parameter", what));
    if request.n.is_some_and(|n| n != 1) {
        return unsupported("n: only one answer at a time");
    }
    if request
        .tools
        .as_ref()
        .is_some_and(|tools| !tools.is_empty())
    {
        return unsupported("tools: bots use their own");
    }
    let is_text = |format: &Value| format.get("type").is_none_or(|kind| kind == "text");
    if request
        .response_format
        .as_ref()
        .is_some_and(|f| !is_text(f))
    {
        return unsupported("response_format: only text");
    }
    let model = request.model.unwrap_or_default();
    let pool = config.bots.iter().find(|pool| pool.name == model);
    if pool.is_none() && !ANY.contains(&model.as_str()) {
        return Err(ApiFailure::new(
            StatusCode::NOT_FOUND,
            "model_not_found",
            format!("there is no pool {model:?}; GET /v1/models lists them, `deia` is any bot"),
        ));
    }
    let mut metadata = serde_json::Map::new();
    if let Some(user) = request.user {
        metadata.insert("user".into(), user.into());
    }
    let task = SubmitRequest {
        content: flatten(&request.messages)?,
        pool: pool.map(|pool| pool.name.clone()),
        metadata: (!metadata.is_empty()).then_some(metadata),
        ..SubmitRequest::default()
    };
    let chat = Chat {
        model: if model.is_empty() {
            ANY[0].to_owned()
        } else {
            model
        },
        created: seconds(Timestamp::now()),
        stream: request.stream == Some(true),
        usage: request.stream_options.and_then(|o| o.include_usage) == Some(true),
    };
    Ok((task, chat))
}

/// A conversation as one text.
fn flatten(messages: &[ChatMessage]) -> Result<String, ApiFailure> {
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        return Err(wrong(
            "invalid_messages",
            format!("messages: there must be 1 to {MAX_MESSAGES}"),
        ));
    }
    let mut said = Vec::with_capacity(messages.len());
    for (n, message) in messages.iter().enumerate() {
        let who = match message.role.as_str() {
            "system" | "developer" => "System",
            "user" => "User",
            "assistant" => "Assistant",
            "tool" | "function" => "Tool",
            other => {
                return Err(wrong(
                    "invalid_role",
                    format!(
                        "messages[{n}].role: {other:?} is not one of system, developer, user, assistant, tool"
                    ),
                ));
            }
        };
        said.push((who, text_of(n, message)?));
    }
    if let [("User", text)] = said.as_slice() {
        return Ok(text.clone());
    }
    let lines = said.iter().map(|(who, text)| format!("{who}: {text}"));
    Ok(lines.collect::<Vec<_>>().join("\n\n"))
}

fn text_of(n: usize, message: &ChatMessage) -> Result<String, ApiFailure> {
    match &message.content {
        None => Ok(String::new()),
        Some(ChatContent::Text(text)) => Ok(text.clone()),
        Some(ChatContent::Parts(parts)) => {
            let text = |part: &deia::api::ChatPart| match (part.kind.as_str(), &part.text) {
                ("text" | "input_text", Some(text)) => Ok(text.clone()),
                (kind, _) => Err(wrong(
                    "unsupported_content",
                    format!(
                        "messages[{n}].content: a part of type {kind:?}; only text is understood"
                    ),
                )),
            };
            let texts: Result<Vec<String>, ApiFailure> = parts.iter().map(text).collect();
            Ok(texts?.join("\n"))
        }
    }
}

/// The task, once it has ended.
async fn end_of(api: &Shared, id: &TaskId) -> Result<TaskRecord, ApiFailure> {
    let noted = api
        .ask(|reply| Command::Wait {
            id: id.clone(),
            reply,
        })
        .await?;
    // Noted first, looked at second: an end in between is seen by one of the two.
    let found = record(api, id).await?;
    if found.status.is_final() {
        return Ok(found);
    }
    tokio::select! {
        ended = noted => {
            ended.map_err(|_| ApiFailure::unavailable("stopping", "the daemon is stopping", 1))?;
            record(api, id).await
        }
        () = api.until_leaving() => {
            Err(ApiFailure::unavailable("upgrading", "another release takes over: ask again", 1))
        }
    }
}

fn failed(task: &TaskRecord) -> ApiFailure {
    let (id, status) = (&task.id, task.status);
    let why = task.error.as_deref().unwrap_or("no reason is known");
    match status {
        TaskStatus::Dead => ApiFailure::new(
            StatusCode::BAD_GATEWAY,
            "task_dead",
            format!("task {id} failed for good: {why}"),
        ),
        _ => ApiFailure::unavailable("task_ended", format!("task {id} is {status}"), 1),
    }
}

/// The answer as it comes.
fn as_stream(api: Shared, id: TaskId, chat: Chat, leave: CancelOnDrop, lasts: Lasts) -> Response {
    let first = chat.chunk(&id, &json!({"role": "assistant", "content": ""}), None);
    let streaming = Streaming {
        following: Following::new(api.clone(), id.clone(), lasts),
        api,
        id,
        chat,
        leave: Some(leave),
        said: false,
        waiting: vec![first],
        over: false,
    };
    let events = stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

struct Streaming {
    api: Shared,
    id: TaskId,
    chat: Chat,
    following: Following,
    leave: Option<CancelOnDrop>,
    /// Something of the answer was sent: it can't be taken back.
    said: bool,
    /// To be sent, the last one first.
    waiting: Vec<Event>,
    over: bool,
}

impl Streaming {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let api = self.api.clone();
            let step = tokio::select! {
                biased;
                () = api.until_leaving() => {
                    self.fails(&ApiFailure::unavailable("upgrading", "another release takes over: ask again", 1));
                    continue;
                }
                step = self.following.step() => step,
            };
            match step {
                Some(Step::Text(text)) => {
                    self.said = true;
                    return Some(self.chat.chunk(&self.id, &json!({ "content": text }), None));
                }
                Some(Step::Attempt(_)) if !self.said => {}
                Some(Step::Attempt(_)) => self.fails(&ApiFailure::new(
                    StatusCode::BAD_GATEWAY,
                    "attempt_failed",
                    "the bot failed, or took back its words, after a part of its answer was sent: ask again",
                )),
                Some(Step::End(_)) => self.ends().await,
                None => self.fails(&ApiFailure::unavailable(
                    "stopping",
                    "the daemon is stopping",
                    1,
                )),
            }
        }
    }

    async fn ends(&mut self) {
        self.over = true;
        if let Some(leave) = self.leave.take() {
            leave.done();
        }
        let found = match record(&self.api, &self.id).await {
            Ok(found) => found,
            Err(failure) => return self.fails(&failure),
        };
        let Some(result) = found.result.as_ref() else {
            return self.fails(&failed(&found));
        };
        let stop = finish(result.truncated);
        self.waiting.push(Event::default().data("[DONE]"));
        if self.chat.usage {
            let usage = cost(result.usage);
            let last = self.chat.event(&self.id, &json!([]), Some(usage));
            self.waiting.push(last);
        }
        let stop = self.chat.chunk(&self.id, &json!({}), Some(stop));
        self.waiting.push(stop);
    }

    /// The status was sent long ago: the reason comes as an event, and the stream ends without `[DONE]`.
    fn fails(&mut self, failure: &ApiFailure) {
        self.over = true;
        // What is not over is cancelled.
        self.leave = None;
        let error = serde_json::to_string(&error_of(failure)).unwrap_or_default();
        self.waiting = vec![Event::default().data(error)];
    }
}

/// Cancels a task whose client has gone.
struct CancelOnDrop(Option<(Shared, Actor, TaskId)>);

impl CancelOnDrop {
    /// It has ended, or there is none.
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some((api, actor, id)) = self.0.take() else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // It may have ended in the meantime.
                let cancel = |reply| Command::Cancel { id, reply };
                let _ = api.ask_as(actor, cancel).await;
            });
        }
    }
}

fn finish(truncated: bool) -> &'static str {
    if truncated { "length" } else { "stop" }
}

fn cost(usage: Usage) -> ChatUsage {
    ChatUsage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000_000)
}

fn wrong(code: &'static str, why: impl Into<String>) -> ApiFailure {
    ApiFailure::bad_request(code, why)
}

/// A refusal in the shape that OpenAI's clients read.
fn refusal(failure: &ApiFailure) -> Response {
    let status = match failure.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    let mut headers = HeaderMap::new();
    if let Some(after) = failure.clone().into_response().headers().get(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, after.clone());
    }
    (status, headers, Json(error_of(failure))).into_response()
}

fn error_of(failure: &ApiFailure) -> ChatError {
    let body: Value = serde_json::from_slice(&failure.to_json()).unwrap_or_default();
    let message = match (&body["error"], &body["detail"]) {
        (Value::String(text), _) => text.clone(),
        (_, detail) => detail.to_string(),
    };
    let kind = match failure.status().as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    ChatError {
        error: ChatErrorBody {
            message,
            kind: kind.to_owned(),
            param: None,
            code: failure.code().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(messages: Value) -> Result<String, String> {
        let messages: Vec<ChatMessage> = serde_json::from_value(messages).unwrap();
        flatten(&messages).map_err(|failure| failure.code().to_owned())
    }

    #[test]
    fn one_question_is_the_text_and_a_conversation_is_written_down() {
        assert_eq!(
            flat(json!([{"role": "user", "content": "hi"}])).unwrap(),
            "hi"
        );
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
        assert_eq!(flat(parts).unwrap(), "a\nb");
        let talk = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null}, {"role": "user", "content": "more"}]);
        assert_eq!(
            flat(talk).unwrap(),
            "System: Be brief.\n\nUser: hi\n\nAssistant: \n\nUser: more"
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert_eq!(flat(json!([])).unwrap_err(), "invalid_messages");
        assert_eq!(
            flat(json!([{"role": "boss", "content": "x"}])).unwrap_err(),
            "invalid_role"
        );
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
        assert_eq!(flat(image).unwrap_err(), "unsupported_content");
        let config = Config::default();
        let ask = |more: Value| {
            let mut request = json!({"messages": [{"role": "user", "content": "x"}]});
            request
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let request: ChatRequest = serde_json::from_value(request).unwrap();
            understand(request, &config)
                .map(|_| ())
                .map_err(|failure| failure.code().to_owned())
        };
        assert_eq!(ask(json!({"n": 2})).unwrap_err(), "unsupported_parameter");
        assert_eq!(
            ask(json!({"tools": [{}]})).unwrap_err(),
            "unsupported_parameter"
        );
        assert_eq!(
            ask(json!({"response_format": {"type": "json_object"}})).unwrap_err(),
            "unsupported_parameter"
        );
        assert_eq!(
            ask(json!({"model": "gpt-4"})).unwrap_err(),
            "model_not_found"
        );
        for fine in [
            json!({}),
            json!({"model": "deia", "n": 1, "tools": []}),
            json!({"model": "main-bot", "temperature": 0.2}),
        ] {
            assert_eq!(ask(fine), Ok(()));
        }
    }
}
