//! Messages between bots.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method};
use deia::api::{
    BotMessage, BotMessageAnswer, BotMessageRequest, BotMessages, BroadcastAnswer,
    BroadcastMessage, BroadcastRequest, Conversation, ConversationQuery, Inbox, InboxCounts,
    InboxQuery, MessageView, MessagingStatus, ProcessAnswer, ReadAnswer, SendAnswer, SendRequest,
};
use deia::message::{MAX_MESSAGE_BYTES, MAX_TTL_SECONDS, MessageStatus};
use deia::task::Priority;
use deia::time::Timestamp;
use serde_json::{Map, Value};

use super::orchestrate::unreadable;
use super::submit::{NotTaken, dangerous};
use super::{Shared, refused};
use crate::audit::Actor;
use crate::brain::content::{self, Found, Verdict};
use crate::daemon::command::{AskMail, Command};
use crate::daemon::intake::MAX_METADATA_BYTES;
use crate::daemon::validation::Way;
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::{JsonBody, PathArgs, QueryArgs};
use crate::http::peer::Peer;
use crate::store::{MessageRecord, NewMessage};

/// Messages in an inbox where the caller names no number, and at most.
const DEFAULT_INBOX: u32 = 100;
const MAX_INBOX: u32 = 1_000;

/// Messages in a conversation at most.
const MAX_CONVERSATION: u32 = 1_000;

/// Sends a message. 200 says that it is durable; it is delivered as soon as its bot is up.
#[utoipa::path(post, path = "/api/messaging/send", tag = "messages", request_body = SendRequest, responses(
    (status = 200, body = SendAnswer),
    (status = 400, body = deia::api::ApiError, description = "There is no text, or nobody to have it; or `dangerous_content`"),
    (status = 403, body = deia::api::ApiError, description = "A bot speaks for itself alone"),
    (status = 413, body = deia::api::ApiError, description = "The text is too large"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "`inbox_full`: its bot has too many unread messages"),
))]
pub async fn send(
    State(api): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<SendRequest>,
) -> Result<Json<SendAnswer>, ApiFailure> {
    if request.to_bot.is_empty() || request.content.is_empty() {
        return Err(missing());
    }
    let from_bot = speaker(&api, caller, request.from_bot).await?;
    let draft = Draft {
        content: request.content,
        priority: request.priority,
        ttl_seconds: request.ttl_seconds,
        metadata: request.metadata,
    };
    let drafted = draft.to(&api, caller, &from_bot, request.to_bot).await?;
    let message = &drafted.message;
    let answer = SendAnswer {
        success: true,
        message_id: message.id.clone(),
        from_bot,
        to_bot: message.to_bot.clone(),
        status: MessageStatus::Pending,
        timestamp: message.created_at,
    };
    submit(&api, caller, vec![drafted]).await?;
    Ok(Json(answer))
}

/// Sends the same message to every bot of a type, but the sender: to all or to none.
#[utoipa::path(post, path = "/api/messaging/broadcast", tag = "messages", request_body = BroadcastRequest, responses(
    (status = 200, body = BroadcastAnswer),
    (status = 400, body = deia::api::ApiError, description = "There is no text; or `dangerous_content`, for one of those who would get it"),
    (status = 403, body = deia::api::ApiError, description = "A bot speaks for itself alone"),
    (status = 404, body = deia::api::ApiError, description = "There is no bot of this type"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn broadcast(
    State(api): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<BroadcastRequest>,
) -> Result<Json<BroadcastAnswer>, ApiFailure> {
    if request.content.is_empty() {
        return Err(ApiFailure::bad_request("missing", "Missing content"));
    }
    let from_bot = speaker(&api, caller, request.from_bot).await?;
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    let of_type = bots
        .into_iter()
        .filter(|bot| bot.bot_type == request.to_type && bot.id != from_bot);
    let draft = Draft {
        content: request.content,
        priority: request.priority,
        ttl_seconds: request.ttl_seconds,
        metadata: request.metadata,
    };
    let mut messages = Vec::new();
    for bot in of_type {
        messages.push(draft.clone().to(&api, caller, &from_bot, bot.id).await?);
    }
    if messages.is_empty() {
        let kind = request.to_type;
        return Err(ApiFailure::not_found(format!(
            "No bot of type {kind}: `deiactl bots` lists those there are"
        )));
    }
    let sent: Vec<BroadcastMessage> = messages
        .iter()
        .map(|Drafted { message, .. }| BroadcastMessage {
            message_id: message.id.clone(),
            to_bot: message.to_bot.clone(),
        })
        .collect();
    submit(&api, caller, messages).await?;
    Ok(Json(BroadcastAnswer {
        success: true,
        from_bot,
        count: sent.len(),
        messages: sent,
        timestamp: Timestamp::now(),
    }))
}

/// A bot's messages: unread ones, the most urgent first; then those that were read, the newest first.
/// Looking at them does not read them.
#[utoipa::path(get, path = "/api/messaging/inbox", tag = "messages", params(InboxQuery), responses(
    (status = 200, body = Inbox),
    (status = 403, body = deia::api::ApiError, description = "A bot sees its own messages alone"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn inbox(
    State(api): State<Shared>,
    caller: Caller,
    QueryArgs(query): QueryArgs<InboxQuery>,
) -> Result<Json<Inbox>, ApiFailure> {
    let bot_id = speaker(&api, caller, query.bot_id).await?;
    let limit = query.limit.unwrap_or(DEFAULT_INBOX).min(MAX_INBOX) as usize;
    let now = api
        .ask(|reply| Command::Mail(AskMail::Now { reply }))
        .await?;
    let found = api
        .store
        .inbox(bot_id.clone(), query.priority, now.clone(), limit)
        .await;
    let messages = views(found.map_err(unreadable)?);
    Ok(Json(Inbox {
        bot_id,
        count: messages.len(),
        messages,
        timestamp: now.now,
    }))
}

/// A message was read. One that had expired is not.
#[utoipa::path(post, path = "/api/messaging/read/{message_id}", tag = "messages", params(("message_id" = String, Path)), responses(
    (status = 200, body = ReadAnswer),
    (status = 404, body = deia::api::ApiError, description = "There is no such message, or it is another bot's"),
))]
pub async fn read(
    State(api): State<Shared>,
    caller: Caller,
    PathArgs(message_id): PathArgs<String>,
) -> Result<Json<ReadAnswer>, ApiFailure> {
    let by = bot_of(&api, caller).await?;
    let id = message_id.clone();
    let command = |reply| Command::Mail(AskMail::Read { id, by, reply });
    let read = api.ask(command).await?;
    let message = read.map_err(|why| refused(why, &message_id))?;
    Ok(Json(ReadAnswer {
        success: message.status == MessageStatus::Read,
        message_id,
        status: message.status,
        timestamp: Timestamp::now(),
    }))
}

/// What was done since the last such request. Delivery goes by itself: nobody has to ask for it.
#[utoipa::path(post, path = "/api/messaging/process-queue", tag = "messages", responses(
    (status = 200, body = ProcessAnswer),
    (status = 403, body = deia::api::ApiError, description = "For no bot"),
))]
pub async fn process_queue(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<Json<ProcessAnswer>, ApiFailure> {
    if let Peer::Bot { .. } = caller.peer {
        return Err(ApiFailure::forbidden(
            "not_yours",
            "what was done with all messages is not for a bot",
        ));
    }
    let report = api
        .ask(|reply| Command::Mail(AskMail::Report { reply }))
        .await?;
    let counts = api.store.message_counts().await.map_err(unreadable)?;
    Ok(Json(ProcessAnswer {
        delivered: report.delivered,
        failed: report.failed,
        retried: report.retried,
        pending: counts.by_status[MessageStatus::Pending as usize],
        timestamp: Timestamp::now(),
    }))
}

/// How many messages there are, by status, priority and bot.
#[utoipa::path(get, path = "/api/messaging/status", tag = "messages", responses(
    (status = 200, body = MessagingStatus),
))]
pub async fn status(State(api): State<Shared>) -> Result<Json<MessagingStatus>, ApiFailure> {
    let counts = api.store.message_counts().await.map_err(unreadable)?;
    let statuses = MessageStatus::ALL.into_iter().zip(counts.by_status);
    let priorities = Priority::ALL.into_iter().zip(counts.by_priority);
    let bots = counts
        .by_bot
        .into_iter()
        .map(|(bot, total_messages, unread)| {
            let counts = InboxCounts {
                total_messages,
                unread,
            };
            (bot, counts)
        });
    let bots: std::collections::BTreeMap<_, _> = bots.collect();
    Ok(Json(MessagingStatus {
        timestamp: Timestamp::now(),
        total_bots: bots.len() as u64,
        total_messages: counts.by_status.iter().sum(),
        pending_delivery: counts.by_status[MessageStatus::Pending as usize],
        status_breakdown: statuses.map(|(s, n)| (s.to_string(), n)).collect(),
        priority_breakdown: priorities.map(|(p, n)| (p.to_string(), n)).collect(),
        bots,
    }))
}

/// The messages between two bots, oldest first.
#[utoipa::path(get, path = "/api/messaging/conversation/{other}", tag = "messages", params(("other" = String, Path), ConversationQuery), responses(
    (status = 200, body = Conversation),
    (status = 403, body = deia::api::ApiError, description = "A bot sees its own messages alone"),
))]
pub async fn conversation(
    State(api): State<Shared>,
    caller: Caller,
    PathArgs(other): PathArgs<String>,
    QueryArgs(query): QueryArgs<ConversationQuery>,
) -> Result<Json<Conversation>, ApiFailure> {
    let bot = speaker(&api, caller, query.bot_id).await?;
    let limit = query
        .limit
        .unwrap_or(MAX_CONVERSATION)
        .min(MAX_CONVERSATION) as usize;
    let found = api.store.conversation(bot.clone(), other.clone(), limit);
    let messages = views(found.await.map_err(unreadable)?);
    Ok(Json(Conversation {
        bot_1: bot,
        bot_2: other,
        count: messages.len(),
        messages,
        timestamp: Timestamp::now(),
    }))
}

/// A message to the fleet's own bot, as the original's bots took it.
#[utoipa::path(post, path = "/message", tag = "messages", request_body = BotMessageRequest, responses(
    (status = 200, body = BotMessageAnswer),
    (status = 400, body = deia::api::ApiError, description = "`dangerous_content`"),
    (status = 403, body = deia::api::ApiError, description = "A bot speaks for itself alone"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn to_this_bot(
    State(api): State<Shared>,
    caller: Caller,
    JsonBody(request): JsonBody<BotMessageRequest>,
) -> Result<Json<BotMessageAnswer>, ApiFailure> {
    let from_bot = speaker(&api, caller, Some(request.from_bot)).await?;
    let draft = Draft {
        content: request.content,
        priority: request.priority,
        ttl_seconds: None,
        metadata: None,
    };
    let to_bot = api.config.first_pool();
    let drafted = draft.to(&api, caller, &from_bot, to_bot).await?;
    let message_id = drafted.message.id.clone();
    submit(&api, caller, vec![drafted]).await?;
    Ok(Json(BotMessageAnswer {
        success: true,
        message: "Message queued".to_owned(),
        message_id,
    }))
}

/// What the fleet's own bot has not read, the most urgent first; it is read by this.
#[utoipa::path(get, path = "/messages", tag = "messages", responses(
    (status = 200, body = BotMessages),
))]
pub async fn of_this_bot(
    State(api): State<Shared>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
) -> Result<Json<BotMessages>, ApiFailure> {
    // Whoever does not see them has not read them, and no page may have somebody's browser do it.
    if method == Method::HEAD {
        return Ok(Json(BotMessages {
            messages: Vec::new(),
        }));
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"none" && site != b"same-origin") {
        return Err(ApiFailure::forbidden(
            "foreign_origin",
            "a page of another site may not read messages",
        ));
    }
    let bot = speaker(&api, caller, None).await?;
    let drained = api
        .ask(|reply| Command::Mail(AskMail::Drain { bot, reply }))
        .await?;
    let messages = drained.map_err(|why| refused(why, ""))?.into_iter();
    let messages = messages.map(|message| BotMessage {
        from: message.sent.from_bot,
        content: message.sent.content,
        priority: message.sent.priority,
        timestamp: message.sent.created_at,
        message_id: message.sent.id,
    });
    Ok(Json(BotMessages {
        messages: messages.collect(),
    }))
}

/// What is the same for all who get it.
#[derive(Clone)]
struct Draft {
    content: String,
    priority: Option<Priority>,
    ttl_seconds: Option<u64>,
    metadata: Option<Map<String, Value>>,
}

impl Draft {
    async fn to(
        self,
        api: &Shared,
        caller: Caller,
        from_bot: &str,
        to_bot: String,
    ) -> Result<Drafted, ApiFailure> {
        if self.content.len() > MAX_MESSAGE_BYTES {
            return Err(ApiFailure::too_large(format!(
                "the message has {} bytes; {MAX_MESSAGE_BYTES} is the most",
                self.content.len()
            )));
        }
        let metadata = self.metadata.map(|map| Value::Object(map).to_string());
        if let Some(text) = metadata.as_ref().filter(|m| m.len() > MAX_METADATA_BYTES) {
            return Err(ApiFailure::too_large(format!(
                "the metadata has {} bytes as JSON; {MAX_METADATA_BYTES} is the most",
                text.len()
            )));
        }
        let config = api.config.current();
        let id = uuid::Uuid::now_v7().to_string();
        let found = match content::of_message(&config, &to_bot, &self.content) {
            Verdict::Pass => None,
            Verdict::Note(found) => Some(found),
            Verdict::Refuse(refusal) => {
                let entry = api.validation.refused(Way::Message, &caller, &refusal);
                let recorder = &api.validation.recorder;
                let on_record = recorder.put(Actor::from(&caller), entry).await;
                let why = NotTaken::Dangerous(dangerous(&refusal), on_record);
                return Err(why.settled().await);
            }
        };
        let default_ttl = || config.timeouts.message_ttl_seconds.min(MAX_TTL_SECONDS);
        let message = NewMessage {
            id,
            from_bot: from_bot.to_owned(),
            to_bot,
            content: self.content,
            priority: self.priority.unwrap_or(Priority::P2),
            metadata,
            created_at: Timestamp::now(),
            ttl_seconds: self.ttl_seconds.unwrap_or_else(default_ttl),
        };
        Ok(Drafted { message, found })
    }
}

/// A message that may be sent, and what was found in it and is let pass.
struct Drafted {
    message: NewMessage,
    found: Option<Found>,
}

async fn submit(api: &Shared, caller: Caller, drafted: Vec<Drafted>) -> Result<(), ApiFailure> {
    let mut noted = Vec::new();
    for Drafted { message, found } in &drafted {
        if let Some(found) = *found {
            let entry = api
                .validation
                .noted(Way::Message, &caller, &message.id, found);
            let recorder = &api.validation.recorder;
            noted.push(recorder.put(Actor::from(&caller), entry).await);
        }
    }
    let messages = drafted.into_iter().map(|drafted| drafted.message).collect();
    let command = |reply| Command::Mail(AskMail::Send { messages, reply });
    let sent = api.ask_as(Actor::from(&caller), command).await?;
    sent.map_err(|why| refused(why, ""))?;
    for on_record in noted {
        on_record.wait_anyway().await;
    }
    Ok(())
}

fn missing() -> ApiFailure {
    ApiFailure::bad_request("missing", "Missing to_bot or content")
}

/// The bot that asks, where it is one.
async fn bot_of(api: &Shared, caller: Caller) -> Result<Option<String>, ApiFailure> {
    let Peer::Bot { pid } = caller.peer else {
        return Ok(None);
    };
    let command = |reply| Command::Mail(AskMail::WhoIs { pid, reply });
    let bot = api.ask(command).await?;
    let gone = || ApiFailure::forbidden("bot_gone", "the bot this process belongs to has ended");
    bot.map(Some).ok_or_else(gone)
}

/// In whose name a request is made: a bot's own, else the one that is given, else the fleet's.
pub(super) async fn speaker(
    api: &Shared,
    caller: Caller,
    named: Option<String>,
) -> Result<String, ApiFailure> {
    match (bot_of(api, caller).await?, named) {
        (Some(bot), Some(named)) if named != bot => Err(ApiFailure::forbidden(
            "not_yours",
            format!("this is bot {bot}, which does not speak for {named}"),
        )),
        (Some(bot), _) => Ok(bot),
        (None, Some(named)) if !named.is_empty() => Ok(named),
        (None, _) => Ok(api.config.first_pool()),
    }
}

fn views(messages: Vec<MessageRecord>) -> Vec<MessageView> {
    messages.into_iter().map(view).collect()
}

fn view(message: MessageRecord) -> MessageView {
    let sent = message.sent;
    let metadata = sent.metadata.as_deref().map(serde_json::from_str);
    MessageView {
        message_id: sent.id,
        from_bot: sent.from_bot,
        to_bot: sent.to_bot,
        content: sent.content,
        priority: sent.priority,
        status: message.status,
        created_at: sent.created_at,
        delivered_at: message.delivered_at,
        read_at: message.read_at,
        retry_count: 0,
        max_retries: 3,
        ttl_seconds: sent.ttl_seconds,
        metadata: metadata.and_then(Result::ok).unwrap_or_default(),
    }
}
