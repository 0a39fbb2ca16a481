//! Messages between bots.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::bot::BotType;
use crate::message::MessageStatus;
use crate::task::Priority;
use crate::time::Timestamp;

/// `POST /api/messaging/send`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct SendRequest {
    /// Who is to have it.
    pub to_bot: String,
    /// Its text.
    pub content: String,
    /// Who sends it; the fleet's own name where none is given, and a bot itself always.
    #[serde(default)]
    pub from_bot: Option<String>,
    /// `P0` (first) to `P3`; `P2` where none is given.
    #[serde(default, deserialize_with = "any_case")]
    pub priority: Option<Priority>,
    /// Seconds it may wait to be read; `timeouts.message_ttl_seconds` where none are given.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// The caller's own; shown, never interpreted.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SendAnswer {
    /// True: it is durable.
    pub success: bool,
    /// Its name.
    pub message_id: String,
    /// Who sends it.
    pub from_bot: String,
    /// Who is to have it.
    pub to_bot: String,
    /// `pending`: it is delivered as soon as its bot is up.
    pub status: MessageStatus,
    /// When.
    pub timestamp: Timestamp,
}

/// `POST /api/messaging/broadcast`: the same to every bot of a type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BroadcastRequest {
    /// To the bots of this type, but the sender.
    pub to_type: BotType,
    /// Its text.
    pub content: String,
    /// As in a message to one.
    #[serde(default)]
    pub from_bot: Option<String>,
    /// As in a message to one.
    #[serde(default, deserialize_with = "any_case")]
    pub priority: Option<Priority>,
    /// As in a message to one.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// As in a message to one.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BroadcastAnswer {
    /// True: all of them are durable.
    pub success: bool,
    /// Who sends them.
    pub from_bot: String,
    /// One message for each bot.
    pub messages: Vec<BroadcastMessage>,
    /// How many.
    pub count: usize,
    /// When.
    pub timestamp: Timestamp,
}

/// One message of a broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BroadcastMessage {
    /// Its name.
    pub message_id: String,
    /// Who is to have it.
    pub to_bot: String,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MessageView {
    /// Its name.
    pub message_id: String,
    /// Who sent it.
    pub from_bot: String,
    /// Who is to have it.
    pub to_bot: String,
    /// Its text.
    pub content: String,
    /// How urgent.
    pub priority: Priority,
    /// Where it is.
    pub status: MessageStatus,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When its bot was up and had it.
    pub delivered_at: Option<Timestamp>,
    /// When it was read.
    pub read_at: Option<Timestamp>,
    /// 0: a message is delivered when its bot is up, not by trying.
    pub retry_count: u32,
    /// As in the original; nothing is given up before its time is over.
    pub max_retries: u32,
    /// Seconds it may wait to be read.
    pub ttl_seconds: u64,
    /// The sender's own.
    pub metadata: Map<String, Value>,
}

/// `GET /api/messaging/inbox`: whose, and which.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct InboxQuery {
    /// Whose; the fleet's own name where none is given, and a bot's own always.
    pub bot_id: Option<String>,
    /// Only these.
    #[serde(deserialize_with = "any_case")]
    pub priority: Option<Priority>,
    /// At most so many; 100 where nothing is said.
    pub limit: Option<u32>,
}

/// `GET /api/messaging/inbox`: unread ones, the most urgent first; then those that were read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Inbox {
    /// Whose.
    pub bot_id: String,
    /// Its messages.
    pub messages: Vec<MessageView>,
    /// How many.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /api/messaging/read/{message_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReadAnswer {
    /// True unless it had expired.
    pub success: bool,
    /// The message.
    pub message_id: String,
    /// Where it is now.
    pub status: MessageStatus,
    /// When.
    pub timestamp: Timestamp,
}

/// `POST /api/messaging/process-queue`: what was done since the last such request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessAnswer {
    /// Messages that were delivered.
    pub delivered: Vec<String>,
    /// Messages that expired.
    pub failed: Vec<String>,
    /// Always empty: a message is delivered when its bot is up, not by trying.
    pub retried: Vec<String>,
    /// Messages that wait for their bot.
    pub pending: u64,
    /// Now.
    pub timestamp: Timestamp,
}

/// `GET /api/messaging/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MessagingStatus {
    /// Now.
    pub timestamp: Timestamp,
    /// Bots that have messages.
    pub total_bots: u64,
    /// Messages that are kept.
    pub total_messages: u64,
    /// Messages that wait for their bot.
    pub pending_delivery: u64,
    /// By status.
    pub status_breakdown: BTreeMap<String, u64>,
    /// By priority.
    pub priority_breakdown: BTreeMap<String, u64>,
    /// By bot.
    pub bots: BTreeMap<String, InboxCounts>,
}

/// How many messages a bot has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InboxCounts {
    /// In all.
    pub total_messages: u64,
    /// Not read yet.
    pub unread: u64,
}

/// `GET /api/messaging/conversation/{other}`: between whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ConversationQuery {
    /// The one; the fleet's own name where none is given, and a bot's own always.
    pub bot_id: Option<String>,
    /// The newest so many; 1000 where nothing is said.
    pub limit: Option<u32>,
}

/// `GET /api/messaging/conversation/{other}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    /// The one.
    pub bot_1: String,
    /// The other.
    pub bot_2: String,
    /// Their messages, oldest first.
    pub messages: Vec<MessageView>,
    /// How many.
    pub count: usize,
    /// Now.
    pub timestamp: Timestamp,
}

/// `POST /message`: a message to the fleet's own bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotMessageRequest {
    /// Who sends it.
    pub from_bot: String,
    /// Its text.
    pub content: String,
    /// `P0` (first) to `P3`; `P2` where none is given.
    #[serde(default, deserialize_with = "any_case")]
    pub priority: Option<Priority>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotMessageAnswer {
    /// True: it is durable.
    pub success: bool,
    /// `Message queued`.
    pub message: String,
    /// Its name.
    pub message_id: String,
}

/// `GET /messages`: what the fleet's own bot has not read, which is read by this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotMessages {
    /// The messages, the most urgent first.
    pub messages: Vec<BotMessage>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotMessage {
    /// Who sent it.
    pub from: String,
    /// Its text.
    pub content: String,
    /// How urgent.
    pub priority: Priority,
    /// When it was sent.
    pub timestamp: Timestamp,
    /// Its name.
    pub message_id: String,
}

/// `p0` is `P0`, as in the original.
fn any_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Priority>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    let parsed = name.map(|name| name.to_ascii_uppercase().parse::<Priority>());
    parsed.transpose().map_err(serde::de::Error::custom)
}
