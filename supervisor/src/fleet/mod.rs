//! Bots as processes and connections: the I/O around [`crate::brain::bot`].
//!
//! ```text
//!   spawn     one thread that forks; a new process gets its secret on standard input
//!   exits     one task per process that waits for its end (pidfd)
//!   sessions  the socket bots dial: hand-shake, frames in, frames out
//!   outputs   what running tasks have said so far, and who follows it
//!   pids      which processes are bots (to keep them off the admin socket)
//!   strays    what dead bots left behind
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
pub mod limits;
pub mod oom;
pub mod outputs;
pub mod pids;
pub mod sessions;
pub mod spawn;
pub mod strays;
pub mod workdirs;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use deia::wire::{Secret, ToSupervisor, ToWorker};
use tokio::sync::{mpsc, oneshot};

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
        result: Result<spawn::Process, String>,
    },
    /// A process ended.
    Ended {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// How.
        exit: exits::Exit,
        /// The kernel ended it for want of memory.
        for_memory: Option<oom::Cause>,
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
    /// A frame of an accepted connection (never `Hello`, `Heartbeat` or `Output`).
    Frame {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// The frame.
        frame: ToSupervisor,
    },
    /// An accepted connection is over.
    Closed {
        /// The bot.
        bot: Arc<str>,
        /// Which start.
        run: Run,
        /// Why; `None` for a clean end.
        fault: Option<String>,
    },
}

/// A process that says who it is. Dropping it ends the connection.
#[derive(Debug)]
pub struct Hello {
    /// Who it says it is.
    pub bot_id: String,
    /// What it has to prove it.
    pub secret: Secret,
    /// The pid it says it has.
    pub pid: u32,
    /// The pid the kernel says it has.
    pub peer_pid: Option<u32>,
    /// Frames to it.
    pub frames: mpsc::Sender<ToWorker>,
    /// To accept it.
    pub accept: oneshot::Sender<Accepted>,
}

/// Who a connection belongs to.
#[derive(Debug)]
pub struct Accepted {
    /// The bot.
    pub bot: Arc<str>,
    /// Which start.
    pub run: Run,
    /// Set to the time of each frame, in milliseconds of the daemon's clock.
    pub last_seen: Arc<AtomicU64>,
}
