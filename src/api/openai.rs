//! The OpenAI-compatible routes, `/v1/...`: what they take and answer, as far as a fleet can mean it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/chat/completions`. Sampling parameters (`temperature`, `max_tokens`, ...) are accepted and mean nothing:
/// a pool's backend has its own.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, ToSchema)]
#[schema(example = json!({"model": "deia", "messages": [{"role": "user", "content": "Say hello"}], "stream": false}))]
pub struct ChatRequest {
    /// A pool; `deia`, `default` or nothing for any bot.
    #[serde(default)]
    pub model: Option<String>,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Answer as it comes, as server-sent events.
    #[serde(default)]
    pub stream: Option<bool>,
    /// `include_usage`: a last chunk with the token counts.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Only 1.
    #[serde(default)]
    pub n: Option<u32>,
    /// Not supported: refused where there are any.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Vec<serde_json::Value>>,
    /// Only `{"type": "text"}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub response_format: Option<serde_json::Value>,
    /// Kept in the task's metadata.
    #[serde(default)]
    pub user: Option<String>,
}

/// `stream_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// A last chunk with the token counts.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    #[serde(default)]
    pub content: Option<ChatContent>,
}

/// A text, or texts in parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ChatContent {
    /// A text.
    Text(String),
    /// Parts; only those of type `text`.
    Parts(Vec<ChatPart>),
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ChatPart {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"id": "chatcmpl-task-0198", "object": "chat.completion", "created": 1769860800, "model": "deia",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}}))]
pub struct ChatCompletion {
    /// `chatcmpl-` and the task's name.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    /// As it was asked for.
    pub model: String,
    /// One.
    pub choices: Vec<ChatChoice>,
    /// What it cost.
    pub usage: ChatUsage,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatChoice {
    /// 0.
    pub index: u32,
    /// What the bot said.
    pub message: ChatAnswer,
    /// `stop`; `length` where the output was cut at `limits.output_mb`.
    pub finish_reason: String,
}

/// What the bot said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChatAnswer {
    /// `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// What it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct ChatUsage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

/// `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// `deia`, for any bot, and each pool.
    pub data: Vec<Model>,
}

/// A pool, as a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When the daemon started, in seconds since the Unix epoch.
    pub created: i64,
    /// `deia`.
    pub owned_by: String,
}

/// What an OpenAI client is told when something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChatError {
    /// What.
    pub error: ChatErrorBody,
}

/// In it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChatErrorBody {
    /// In words.
    pub message: String,
    /// `invalid_request_error`, `rate_limit_error`, `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter it is about.
    pub param: Option<String>,
    /// `snake_case`.
    pub code: String,
}
