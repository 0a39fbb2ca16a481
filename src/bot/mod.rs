//! Bots: their kinds and the states users see.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

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
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Ready,
        Self::Busy,
        Self::Draining,
        Self::Stopping,
        Self::Backoff,
        Self::Quarantined,
        Self::Stopped,
    ];

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
    /// Ended by the kernel, which was out of memory.
    Oom,
    /// Was stopped on request.
    Stopped,
    /// Did not become ready in time.
    StartTimeout,
    /// Sent no heartbeat in time.
    HeartbeatTimeout,
    /// Took more memory than `limits.memory_mb`, with all it had started.
    MemoryLimit,
    /// Had more processes than `limits.processes`.
    ProcessLimit,
    /// Wrote more than `limits.disk_mb`.
    DiskLimit,
    /// Its task took longer than it may, and it did not end it.
    TaskTimeout,
    /// Broke the protocol.
    Protocol,
    /// The program could not be started at all.
    SpawnFailed,
    /// The kernel does not tell.
    Unknown,
}

impl ExitCause {
    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signal => "signal",
            Self::Oom => "oom",
            Self::Stopped => "stopped",
            Self::StartTimeout => "start_timeout",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::MemoryLimit => "memory_limit",
            Self::ProcessLimit => "process_limit",
            Self::DiskLimit => "disk_limit",
            Self::TaskTimeout => "task_timeout",
            Self::Protocol => "protocol",
            Self::SpawnFailed => "spawn_failed",
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

impl fmt::Display for LastExit {
    /// What is said of a bot: "it ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.cause {
            ExitCause::Exited => match self.code {
                Some(code) => return write!(f, "ended by itself with exit code {code}"),
                None => "ended by itself",
            },
            ExitCause::Signal => match self.signal {
                Some(signal) => return write!(f, "was ended by {}", signal_name(signal)),
                None => "was ended by a signal",
            },
            ExitCause::Oom => "was ended by the kernel, which was out of memory",
            ExitCause::Stopped => "was stopped on request",
            ExitCause::StartTimeout => "was not ready in time (supervision.start_timeout_seconds)",
            ExitCause::HeartbeatTimeout => {
                "did not answer any more (supervision.heartbeat_seconds)"
            }
            ExitCause::MemoryLimit => "took more memory than it may (limits.memory_mb)",
            ExitCause::ProcessLimit => "had more processes than it may (limits.processes)",
            ExitCause::DiskLimit => "wrote more than it may (limits.disk_mb)",
            ExitCause::TaskTimeout => "did not end a task that took longer than it may",
            ExitCause::Protocol => "did not keep to the protocol",
            ExitCause::SpawnFailed => "could not be started",
            ExitCause::Unknown => "ended, and the kernel does not tell how",
        };
        f.write_str(text)
    }
}

/// `SIGSEGV`; `signal 35` where it has no name.
fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

/// One end of a bot's process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BotEnd {
    /// When.
    pub at: Timestamp,
    /// How long the process had run.
    pub ran_seconds: f64,
    /// How.
    #[serde(flatten)]
    pub exit: LastExit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_in_any_case_and_nothing_else_is_one() {
        assert_eq!("Developer".parse(), Ok(BotType::Developer));
        assert!("dev".parse::<BotType>().is_err());
    }

    #[test]
    fn an_end_is_told_with_its_code_or_its_signal() {
        let exit = |cause, code, signal| {
            let exit = LastExit {
                code,
                signal,
                cause,
            };
            exit.to_string()
        };
        assert_eq!(
            exit(ExitCause::Exited, Some(3), None),
            "ended by itself with exit code 3"
        );
        assert_eq!(
            exit(ExitCause::Signal, None, Some(11)),
            "was ended by SIGSEGV"
        );
        assert_eq!(
            exit(ExitCause::Signal, None, Some(35)),
            "was ended by signal 35"
        );
        // What made the daemon send the signal counts, not the signal.
        let stuck = exit(ExitCause::HeartbeatTimeout, None, Some(9));
        assert!(stuck.starts_with("did not answer"), "{stuck}");
    }
}
