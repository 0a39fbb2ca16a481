//! The frames, as types. Only appended to within one protocol version.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{BackendSpec, Limits, Paths, Workdir};
use crate::task::{Fence, TaskId};

/// Random bytes that prove a process is the one that was started. `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a new process reads from its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The socket to dial.
    pub socket: PathBuf,
    /// Who it is.
    pub bot_id: String,
    /// To be shown in `Hello`.
    pub secret: Secret,
}

/// From a bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// First frame of a connection.
    Hello {
        /// Who it is.
        bot_id: String,
        /// From [`Bootstrap`].
        secret: Secret,
        /// Its own pid; compared with the peer's.
        pid: u32,
        /// Attempts it still has, when it dials back in.
        held: Vec<(TaskId, Fence)>,
    },
    /// It can take tasks.
    Ready {
        /// What the sandbox came to, for people: `no_new_privs, rlimits`.
        sandbox: String,
    },
    /// Its main loop turns.
    Heartbeat {
        /// Tasks it has.
        running: u32,
    },
    /// The backend has begun.
    Started {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
    },
    /// A piece of the answer, in order.
    Output {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
        /// At most [`OUTPUT_CHUNK_BYTES`].
        text: String,
    },
    /// The attempt is over. Repeated until acknowledged.
    Finished {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
        /// How it went.
        outcome: Outcome,
    },
}

/// Most bytes in one [`ToSupervisor::Output`].
pub const OUTPUT_CHUNK_BYTES: usize = 64 * 1024;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The output was sent in `Output` frames.
    Succeeded {
        /// What it cost.
        usage: Usage,
        /// Which kind of backend answered; a fallback's name where one did.
        backend: String,
        /// Which model, where there is one.
        model: Option<String>,
        /// The output was cut at `limits.output_mb`.
        truncated: bool,
    },
    /// No answer.
    Failed {
        /// For people; names what failed and the remedy where there is one. At most 4 KiB.
        error: String,
        /// What kind of failure.
        kind: FailureKind,
    },
    /// Ended because it was cancelled.
    Cancelled,
}

/// Kinds of failure: what a retry may do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The program or the model said no, or answered badly: worth another attempt.
    Backend,
    /// The backend could not be reached or is overloaded: worth another attempt, later.
    Unavailable,
    /// A time-out (first token, idle or total): worth another attempt.
    TimedOut,
    /// It can't work however often it is tried: a program that does not exist, a missing model.
    Permanent,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read; 0 where the backend does not count.
    pub prompt_tokens: u64,
    /// Tokens written; 0 where the backend does not count.
    pub completion_tokens: u64,
}

/// To a bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Answer to `Hello`: who the bot is to be.
    Welcome(Box<Welcome>),
    /// Work.
    Assign(Box<Assignment>),
    /// End an attempt; answered by `Finished`.
    Cancel {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
    },
    /// The result is durable (or refused as late): the bot may forget it.
    Ack {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
    },
    /// Take no more tasks; finish what runs for at most this long, then end it, then exit.
    Stop {
        /// Milliseconds for what runs; 0 ends it at once.
        grace_ms: u64,
    },
}

/// Who a bot is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its pool.
    pub pool: String,
    /// What does the work.
    pub backend: BackendSpec,
    /// Tried in order when the backend is unavailable.
    pub fallback: Vec<BackendSpec>,
    /// Where a command runs.
    pub workdir: Workdir,
    /// Added to the sandbox's rules.
    pub paths: Paths,
    /// Variables read from files.
    pub env_files: BTreeMap<String, PathBuf>,
    /// Resource limits.
    pub limits: Limits,
    /// Milliseconds between two heartbeats, aligned to multiples on the host's monotonic clock so
    /// that all bots beat together and the daemon wakes once.
    pub heartbeat_ms: u64,
    /// Milliseconds from TERM to KILL for what the bot started.
    pub stop_timeout_ms: u64,
    /// Fresh working directories are made here.
    pub work_root: PathBuf,
    /// Tasks at once.
    pub max_concurrent_tasks: u32,
    /// Where the sandbox's walls are.
    pub places: Places,
}

/// What the sandbox has to know of the daemon and its directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The bot's own directory: in it are HOME of what it starts, and temporary files.
    pub own: PathBuf,
    /// Where the bot itself leaves results for a daemon that is away; not for what it starts.
    pub spool: PathBuf,
    /// The daemon's home: in none of the rules, except for what a rule names below it.
    pub daemon_home: PathBuf,
    /// The store, the sockets, the configuration, the secrets of every pool: closed even where a rule
    /// names a directory above them.
    pub closed: Vec<PathBuf>,
    /// Processes that all bots together may have.
    pub fleet_processes: u64,
}

/// One attempt at one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// This attempt.
    pub fence: Fence,
    /// The text.
    pub content: String,
    /// Milliseconds the attempt may take in total.
    pub timeout_ms: u64,
}
