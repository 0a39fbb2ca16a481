//! What does the work.
//!
//! ```text
//!   echo      the text itself, for a first run and for tests
//!   command   a program: task on stdin or argv, output streamed, its whole tree ended afterwards
//!   ollama    POST /api/chat, NDJSON            \  http: connect, first-token and idle time-outs,
//!   openai    POST /chat/completions, SSE       /        bounded lines, errors by status
//! ```
//!
//! A backend runs one job and says how it went, as [`Answer`] or [`Failure`]; it knows nothing of
//! the total time-out, of cancelling (it is dropped) or of other backends.

pub mod command;
mod echo;
mod http;
mod lines;
mod ollama;
mod openai;
mod sse;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use deia::config::{BackendSpec, Workdir};
use deia::task::{Fence, TaskId};
use deia::wire::{FailureKind, Usage};

use crate::confine::cage::Cage;
use crate::sink::Sink;
use crate::tree::Tree;

/// What every backend of a bot needs to know of the bot.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who works.
    pub bot_id: String,
    /// Where its programs reach the daemon.
    pub socket: PathBuf,
    /// Where a command runs.
    pub workdir: Workdir,
    /// Fresh working directories are made here.
    pub work_root: PathBuf,
    /// Variables read from files.
    pub env_files: BTreeMap<String, PathBuf>,
    /// Bytes of output kept per attempt.
    pub output_bytes: u64,
    /// From TERM to KILL.
    pub stop_timeout: std::time::Duration,
    /// The bot's own directory, for HOME and temporary files of commands.
    pub own: PathBuf,
    /// What commands are confined to.
    pub cage: Option<Arc<Cage>>,
}

/// One attempt, as a backend sees it.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The task.
    pub task: &'a TaskId,
    /// The attempt.
    pub fence: Fence,
    /// The text.
    pub content: &'a str,
}

/// An attempt that went well; the text went to the sink.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What it cost.
    pub usage: Usage,
    /// Which model, where there is one.
    pub model: Option<String>,
}

/// An attempt that did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What a retry may do about it.
    pub kind: FailureKind,
    /// For people: what failed and the remedy where there is one.
    pub error: String,
}

impl Failure {
    fn new(kind: FailureKind, error: impl Into<String>) -> Self {
        Self {
            kind,
            error: error.into(),
        }
    }

    fn backend(error: impl Into<String>) -> Self {
        Self::new(FailureKind::Backend, error)
    }

    fn permanent(error: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, error)
    }

    fn unavailable(error: impl Into<String>) -> Self {
        Self::new(FailureKind::Unavailable, error)
    }

    /// None of it was heard.
    pub(crate) fn unreachable(error: impl Into<String>) -> Self {
        Self::new(FailureKind::Unreachable, error)
    }

    fn timed_out(error: impl Into<String>) -> Self {
        Self::new(FailureKind::TimedOut, error)
    }
}

/// A backend, ready to run jobs. Costs nothing until its first job.
#[derive(Debug)]
pub enum Backend {
    /// See [`BackendSpec::Echo`].
    Echo(deia::config::EchoSpec),
    /// See [`BackendSpec::Command`].
    Command(deia::config::CommandSpec),
    /// See [`BackendSpec::Ollama`].
    Ollama(http::Server),
    /// See [`BackendSpec::Openai`].
    Openai(http::Server),
}

impl Backend {
    /// The backend of this description.
    pub fn new(spec: BackendSpec) -> Self {
        match spec {
            BackendSpec::Echo(spec) => Self::Echo(spec),
            BackendSpec::Command(spec) => Self::Command(spec),
            BackendSpec::Ollama(spec) => Self::Ollama(http::Server::new(spec)),
            BackendSpec::Openai(spec) => Self::Openai(http::Server::new(spec)),
        }
    }

    /// The kind, as the configuration names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Echo(_) => "echo",
            Self::Command(_) => "command",
            Self::Ollama(_) => "ollama",
            Self::Openai(_) => "openai",
        }
    }

    /// Runs one job. Drop the future to cancel; processes are in `tree`, for the caller to end.
    ///
    /// # Errors
    /// How it failed.
    pub async fn run(
        &self,
        context: &Context,
        job: Job<'_>,
        tree: &mut Tree,
        sink: &mut Sink,
    ) -> Result<Answer, Failure> {
        match self {
            Self::Echo(spec) => echo::run(spec, job, sink).await,
            Self::Command(spec) => command::run(spec, context, job, tree, sink).await,
            Self::Ollama(server) => ollama::run(server, job, sink).await,
            Self::Openai(server) => openai::run(server, job, sink).await,
        }
    }
}
