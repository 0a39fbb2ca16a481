//! The frames, as types. Only appended to within one protocol version.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::config::{BackendSpec, Limits, Paths, Workdir};
use crate::task::{Fence, TaskId};

/// Random bytes that prove a process is the one that was started. `Debug` prints nothing of it.
/// Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names one start of one bot, on this host and for ever: random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Launch(pub u64);

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Launch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u64::from_str_radix(text, 16) {
            Ok(number) if text.len() == 16 => Ok(Self(number)),
            _ => Err(format!("not a launch: '{text}'")),
        }
    }
}

/// What a new process reads from its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The socket to dial.
    pub socket: PathBuf,
    /// Who it is.
    pub bot_id: String,
    /// Which start of it.
    pub launch: Launch,
    /// To be shown in `Hello`. It is made for this process alone: from its pid and start time, too.
    pub secret: Secret,
}

/// First frame of a connection: who dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who it is.
    pub bot_id: String,
    /// From [`Bootstrap`].
    pub launch: Launch,
    /// From [`Bootstrap`].
    pub secret: Secret,
    /// Its own pid; compared with the peer's.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// What it has, when it was welcomed before and dials back in.
    pub back: Option<Box<Back>>,
}

/// What a bot has that lost its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// As in `Ready`.
    pub sandbox: String,
    /// As in `Ready`.
    pub pulse_fd: i32,
    /// [`Welcome::terms`], to tell whether it is what it would be made today.
    pub terms: [u8; 32],
    /// Its tasks at once.
    pub max_concurrent_tasks: u32,
    /// Its interval.
    pub heartbeat_ms: u64,
    /// Its patience between TERM and KILL.
    pub stop_timeout_ms: u64,
    /// Attempts that run or were not acknowledged.
    pub held: Vec<Held>,
}

/// An attempt a bot has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub fence: Fence,
    /// Milliseconds since it was begun.
    pub running_ms: u64,
    /// It was told to give it up.
    pub cancelled: Option<CancelOf>,
}

/// What is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelOf {
    /// The task: it ends.
    Task,
    /// This attempt: the task is tried again.
    Attempt,
}

/// An attempt that stays with its bot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The task.
    pub task: TaskId,
    /// Its attempt.
    pub fence: Fence,
    /// Bytes of its output the supervisor has; the rest is to be sent.
    pub bytes: u64,
}

/// From a bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// First frame of a connection.
    Hello(Box<Hello>),
    /// It can take tasks.
    Ready {
        /// What the sandbox came to, for people: `no_new_privs, rlimits`.
        sandbox: String,
        /// Its descriptor of the file its main loop beats into, see [`Pulse`].
        pulse_fd: i32,
    },
    /// It has the task.
    Started {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
        /// Since when, by the wall clock, in microseconds since 1970. Earlier bots did not say.
        #[serde(default, deserialize_with = "where_it_is")]
        at: Option<i64>,
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

/// The last field of a frame, which those who did not know it yet left out; who does not know it yet does not
/// read so far.
fn where_it_is<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer).unwrap_or_default())
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
    /// No connection to any of the model servers there are: nobody has heard of the task.
    Unreachable,
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
    /// Answer to the first `Hello`: who the bot is to be.
    Welcome(Box<Welcome>),
    /// Answer to the `Hello` of a bot that dials back in. What is not named it gives up, without a word.
    WelcomeBack {
        /// What it keeps.
        kept: Vec<Kept>,
        /// As in [`Welcome`].
        orphan_grace_ms: u64,
    },
    /// Work.
    Assign(Box<Assignment>),
    /// End an attempt; answered by `Finished`.
    Cancel {
        /// The task.
        task: TaskId,
        /// Its attempt.
        fence: Fence,
        /// What it is for.
        of: CancelOf,
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
    /// Milliseconds without a supervisor after which the bot ends itself.
    pub orphan_grace_ms: u64,
    /// Stands for all of the above, to be shown in [`Back`].
    pub terms: [u8; 32],
}

/// What a bot's main loop writes at every beat into an anonymous file of its own, at offset 0, as
/// three little-endian `u64`s. The supervisor reads it when it likes: nobody has to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulse {
    /// Turns of the beat so far.
    pub beats: u64,
    /// Bytes of output so far, over all attempts.
    pub output_bytes: u64,
    /// Attempts that run.
    pub running: u64,
}

impl Pulse {
    /// Bytes in the file.
    pub const BYTES: usize = 24;

    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.beats, self.output_bytes, self.running];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// From the file.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [beats, output_bytes, running] = [0, 8, 16].map(|at| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        });
        Self {
            beats,
            output_bytes,
            running,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As [`ToSupervisor`] was before `Started` said when.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Before {
        Hello(Box<Hello>),
        Ready { sandbox: String, pulse_fd: i32 },
        Started { task: TaskId, fence: Fence },
    }

    #[test]
    fn releases_before_and_after_a_start_had_a_time_understand_each_other() {
        let (task, fence): (TaskId, _) = (
            "t1".parse().unwrap(),
            Fence {
                epoch: 3,
                attempt: 1,
            },
        );
        let started = |at| ToSupervisor::Started {
            task: task.clone(),
            fence,
            at,
        };
        let before = || Before::Started {
            task: task.clone(),
            fence,
        };
        fn sent<F: Serialize, T: serde::de::DeserializeOwned>(frame: &F) -> T {
            let mut bytes = Vec::new();
            super::super::encode(frame, &mut bytes).unwrap();
            super::super::decode(&bytes[4..]).unwrap()
        }
        for at in [None, Some(0), Some(1_764_535_354_000_000), Some(i64::MIN)] {
            assert_eq!(sent::<_, ToSupervisor>(&started(at)), started(at));
            assert_eq!(sent::<_, Before>(&started(at)), before());
        }
        assert_eq!(sent::<_, ToSupervisor>(&before()), started(None));
    }

    #[test]
    fn a_pulse_and_a_launch_are_read_as_they_were_written() {
        let pulse = Pulse {
            beats: 1,
            output_bytes: u64::MAX,
            running: 3,
        };
        assert_eq!(Pulse::from_bytes(&pulse.to_bytes()), pulse);
        let launch = Launch(0xab);
        assert_eq!(launch.to_string().parse(), Ok(launch));
        assert!("ab".parse::<Launch>().is_err());
    }
}
