//! Bots as processes and connections: the I/O around [`crate::brain::bot`].
//!
//! ```text
//!   spawn     one thread that forks; a new process gets its secret on standard input
//!   exits     one task per process that waits for its end (pidfd), and of all it left
//!   sessions  the socket bots dial: hand-shake, frames in
//!   outgoing  frames out
//!   outputs   what running tasks have said so far, and who follows it
//!   pids      which processes are bots (to keep them off the admin socket)
//!   strays    what dead bots left behind
//!   found     what an earlier daemon left running
//!   pulse     the heartbeats
//!   results   what bots finished while there was no daemon
//!   proof     what proves that a process is the bot it says it is, to a later daemon too
//!   workdirs  fresh working directories, kept for a while
//!   cgroup    bots in cgroups of their own, where one is the daemon's to divide
//!   limits    memory, processes and disk of bots, where the kernel does not limit them
//!   oom       whether the kernel ended a process for want of memory
//!   confinement  how far bots can be confined on this host
//! ```
//!
//! Everything here reports to the main loop as a [`FleetEvent`] and decides nothing. Signals go
//! through pidfds only, so never to a process that took over a pid.

pub mod cgroup;
pub mod confinement;
pub mod exits;
pub mod found;
pub mod limits;
pub mod oom;
pub mod outgoing;
pub mod outputs;
pub mod pids;
pub mod proof;
pub mod pulse;
pub mod results;
pub mod sessions;
pub mod spawn;
pub mod strays;
pub mod workdirs;

use std::sync::Arc;

use deia::wire::{Back, Launch, ToSupervisor};
use tokio::sync::oneshot;

/// Counts the processes a daemon has started: events of an earlier process of a bot are told apart.
pub type Run = u64;

/// Events that may wait for the main loop.
pub const MAX_EVENTS: usize = 8192;

/// What happened to the fleet.
#[derive(Debug)]
pub enum FleetEvent {
    /// A process was started, or could not be.
    Spawned {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// Its process, or what went wrong.
        result: Result<spawn::Process, spawn::NotStarted>,
    },
    /// A process has ended, but not all that it had started: KILL was sent, and is sent again.
    Lingering {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// What is left, for people.
        left: Vec<String>,
    },
    /// A process ended, and nothing it had started is left.
    Ended {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// How.
        exit: exits::Exit,
        /// The kernel ended it for want of memory.
        for_memory: Option<oom::Cause>,
        /// What it had kept on disk, when an earlier daemon had started it.
        kept: Vec<results::Kept>,
    },
    /// A bot was over a limit; it and what it started have been stopped and are being killed.
    OverLimit {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// What was over it.
        over: limits::Over,
    },
    /// A process dialled in.
    Hello(Hello),
    /// A bot can take tasks.
    Ready {
        /// The connection.
        line: Line,
        /// What its sandbox came to.
        sandbox: String,
        /// Its heartbeats.
        pulse: Option<pulse::PulseReader>,
    },
    /// Another frame of an accepted connection (never `Hello`, `Ready` or `Output`).
    Frame {
        /// The connection.
        line: Line,
        /// The frame.
        frame: ToSupervisor,
    },
    /// An accepted connection is over.
    Closed {
        /// The connection.
        line: Line,
        /// Why; `None` for a clean end.
        fault: Option<String>,
    },
}

/// One connection of one start of one bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The bot.
    pub bot: Arc<str>,
    /// Which start.
    pub run: Run,
    /// Which connection, of all.
    pub number: u64,
}

/// A process that has proved who it is. Dropping it ends the connection.
#[derive(Debug)]
pub struct Hello {
    /// The bot.
    pub bot_id: String,
    /// Which start of it.
    pub launch: Launch,
    /// Its pid.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// What it has, when it dials back in, and its heartbeats.
    pub back: Option<(Box<Back>, Option<pulse::PulseReader>)>,
    /// Frames to it.
    pub frames: Box<dyn outgoing::Outgoing>,
    /// To accept it.
    pub answer: oneshot::Sender<Answer>,
}

/// The answer to a hello.
#[derive(Debug)]
pub enum Answer {
    /// It is served.
    Accepted {
        /// As whom.
        line: Line,
    },
    /// There is no use for it: it shall end.
    Dismissed,
}
