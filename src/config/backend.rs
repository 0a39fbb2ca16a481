//! What does the work of a pool, as types, with every default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What does the work of a pool. Also travels to the bot in its welcome frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BackendSpec {
    /// Ollama's native API.
    #[serde(rename = "ollama")]
    Ollama(ModelServer),
    /// Any OpenAI-compatible server.
    #[serde(rename = "openai")]
    Openai(ModelServer),
    /// Any program.
    #[serde(rename = "command")]
    Command(CommandSpec),
    /// Answers with the task's own text: for a first run and for tests.
    #[serde(rename = "echo")]
    Echo(EchoSpec),
}

impl BackendSpec {
    /// The name of the kind, as the file has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ollama(_) => "ollama",
            Self::Openai(_) => "openai",
            Self::Command(_) => "command",
            Self::Echo(_) => "echo",
        }
    }
}

/// A model server reached over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelServer {
    /// Base URL, without a trailing slash. `openai` includes the `/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Most tokens one answer may have.
    pub max_tokens: u32,
    /// Sampling temperature, 0-2.
    pub temperature: f64,
    /// Context window (ollama only): fixed per bot, because a change reloads the model.
    pub num_ctx: u32,
    /// How long ollama keeps the model loaded: `5m`, `-1`, `0`, ...
    pub keep_alive: String,
    /// Seconds to connect.
    pub connect_timeout_seconds: f64,
    /// Seconds to the first token.
    pub first_token_timeout_seconds: f64,
    /// Seconds between two tokens.
    pub idle_timeout_seconds: f64,
    /// Requests at once to this server, over all bots that use it.
    pub max_in_flight: u32,
    /// A file (0600) whose text is sent as bearer token.
    pub api_key_file: Option<PathBuf>,
}

impl ModelServer {
    /// The defaults of `backends.ollama`.
    pub fn ollama() -> Self {
        Self {
            url: "http://localhost:11434".into(),
            model: "qwen2.5-coder:7b".into(),
            max_tokens: 2000,
            temperature: 0.7,
            num_ctx: 8192,
            keep_alive: "5m".into(),
            connect_timeout_seconds: 5.0,
            first_token_timeout_seconds: 120.0,
            idle_timeout_seconds: 60.0,
            max_in_flight: 4,
            api_key_file: None,
        }
    }

    /// The defaults of `backends.openai`.
    pub fn openai() -> Self {
        Self {
            url: "http://localhost:8080/v1".into(),
            model: "default".into(),
            ..Self::ollama()
        }
    }
}

/// A program that does the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Program and arguments; never given to a shell.
    pub argv: Vec<String>,
    /// How the task's text reaches it.
    pub input: CommandInput,
    /// Names of the daemon's environment variables it may see.
    pub env: Vec<String>,
}

/// How a task's text reaches a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandInput {
    /// Written to standard input, then closed.
    Stdin,
    /// Appended as the last argument.
    Argv,
}

/// The built-in backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct EchoSpec {
    /// Milliseconds an answer takes.
    pub delay_ms: u64,
}
