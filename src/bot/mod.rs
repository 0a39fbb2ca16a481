//! Bots: their kinds and the states users see.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a bot is good at. Written in lower case; read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BotType {
    /// Takes any task.
    General,
    /// `development` tasks.
    Developer,
    /// `analysis` tasks.
    Analyzer,
    /// `writing` tasks.
    Writer,
    /// `planning` tasks.
    Planner,
    /// Tasks that require `testing`.
    Validator,
}

impl BotType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::General,
        Self::Developer,
        Self::Analyzer,
        Self::Writer,
        Self::Planner,
        Self::Validator,
    ];

    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Developer => "developer",
            Self::Analyzer => "analyzer",
            Self::Writer => "writer",
            Self::Planner => "planner",
            Self::Validator => "validator",
        }
    }
}

impl fmt::Display for BotType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BotType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("not a bot type: '{text}'"))
    }
}

/// What the fleet wants of a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// A process that takes tasks.
    Running,
    /// No process.
    Stopped,
}

/// What a bot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Actual {
    /// The process was started and has not said that it is ready.
    Starting,
    /// Ready, with no task.
    Ready,
    /// Ready, with at least one task.
    Busy,
    /// Finishes its tasks and takes no new ones.
    Draining,
    /// Was asked to end.
    Stopping,
    /// Waits before it is started again.
    Backoff,
    /// Ended too often in a short time: started again only now and then, as a probe.
    Quarantined,
    /// No process, and none wanted.
    Stopped,
}

impl Actual {
    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Actual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a bot's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// Ended by itself, with a code.
    Exited,
    /// Ended by a signal that the daemon did not send.
    Signal,
    /// Was stopped on request.
    Stopped,
    /// Did not become ready in time.
    StartTimeout,
    /// Sent no heartbeat in time.
    HeartbeatTimeout,
    /// Broke the protocol.
    Protocol,
    /// The program could not be started at all.
    SpawnFailed,
    /// It and what it started took more memory than `limits.memory_mb`.
    MemoryLimit,
    /// It had more processes than `limits.processes`.
    ProcessLimit,
    /// It wrote more than `limits.disk_mb`.
    DiskLimit,
    /// The kernel ended it because the host ran out of memory.
    Oom,
    /// The kernel does not tell.
    Unknown,
}

impl ExitCause {
    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signal => "signal",
            Self::Stopped => "stopped",
            Self::StartTimeout => "start_timeout",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::Protocol => "protocol",
            Self::SpawnFailed => "spawn_failed",
            Self::MemoryLimit => "memory_limit",
            Self::ProcessLimit => "process_limit",
            Self::DiskLimit => "disk_limit",
            Self::Oom => "oom",
            Self::Unknown => "unknown",
        }
    }
}

/// How a bot's last process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastExit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal number, when a signal ended it.
    pub signal: Option<i32>,
    /// Why, as far as is known.
    pub cause: ExitCause,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_in_any_case_and_nothing_else_is_one() {
        assert_eq!("Developer".parse(), Ok(BotType::Developer));
        assert!("dev".parse::<BotType>().is_err());
    }
}
