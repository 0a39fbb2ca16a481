//! Starting bots: one thread that forks.
//!
//! A bot is this very executable run again (`/proc/self/exe worker`), so there is no other version
//! to find. It gets its secret on standard input, what it prints goes straight to a file, its
//! environment holds only what its pool names, and it leads a process group of its own, so that a
//! terminal's Ctrl-C reaches the daemon alone.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use deia::config::Limits;
use deia::wire::{Bootstrap, encode};
use deia_worker::tree::{Identity, identify};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::mpsc;

use super::cgroup::Cgroups;
use super::pids::BotPids;
use super::{FleetEvent, Run};

/// Starts that may wait for the thread.
const MAX_WAITING: usize = 16_384;

/// A bot to start.
#[derive(Debug)]
pub struct Request {
    /// The bot.
    pub bot: Arc<str>,
    /// Which start.
    pub run: Run,
    /// What it reads on standard input.
    pub bootstrap: Bootstrap,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where what it prints goes.
    pub output: PathBuf,
    /// Those of its cgroup.
    pub limits: Limits,
}

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// For signals.
    pub handle: ProcessHandle,
    /// For its end.
    pub pidfd: OwnedFd,
    /// Its pid and when it started.
    pub identity: Option<Identity>,
    /// Whether it is in a cgroup of its own.
    pub placed: bool,
}

/// Signals one process, and never another that took over its pid.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// Ends it at once.
    pub fn kill(&self) {
        // It may have ended already: that is what is wanted.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// The thread's other end.
#[derive(Debug, Clone)]
pub struct Spawner(SyncSender<Request>);

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        executable: PathBuf,
        bots: BotPids,
        cgroups: Option<Arc<Cgroups>>,
        events: mpsc::Sender<FleetEvent>,
    ) -> std::io::Result<Self> {
        let (requests, waiting) = sync_channel(MAX_WAITING);
        std::thread::Builder::new()
            .name("deia-spawner".into())
            .spawn(move || run(&executable, &bots, cgroups.as_deref(), &waiting, &events))?;
        Ok(Self(requests))
    }

    /// Asks for a start; answered by [`FleetEvent::Spawned`].
    ///
    /// # Errors
    /// Gives the request back when too many wait or the thread has ended.
    pub fn spawn(&self, request: Request) -> Result<(), Box<Request>> {
        self.0.try_send(request).map_err(|e| match e {
            TrySendError::Full(request) | TrySendError::Disconnected(request) => Box::new(request),
        })
    }
}

fn run(
    executable: &std::path::Path,
    bots: &BotPids,
    cgroups: Option<&Cgroups>,
    waiting: &Receiver<Request>,
    events: &mpsc::Sender<FleetEvent>,
) {
    while let Ok(request) = waiting.recv() {
        let mut result = start(executable, bots, &request);
        // The kernel takes its time for the move (10 ms), so the bot gets ready meanwhile. It is given
        // tasks when this thread has reported it. It is not reaped before, so the pid is still its own.
        if let (Ok(process), Some(cgroups)) = (&mut result, cgroups) {
            process.placed = place(cgroups, &request, process.pid);
        }
        let spawned = FleetEvent::Spawned {
            bot: request.bot,
            run: request.run,
            result,
        };
        if events.blocking_send(spawned).is_err() {
            return;
        }
    }
}

fn place(cgroups: &Cgroups, request: &Request, pid: u32) -> bool {
    let placed = cgroups.place(&request.bot, request.run, pid, &request.limits);
    if let Err(e) = &placed {
        tracing::warn!(event = "bot_not_placed", bot_id = %request.bot, error = %e, "the bot runs outside of its cgroup; its limits are held by looking");
    }
    placed.is_ok()
}

fn start(
    executable: &std::path::Path,
    bots: &BotPids,
    request: &Request,
) -> Result<Process, String> {
    let mut bootstrap = Vec::new();
    encode(&request.bootstrap, &mut bootstrap).map_err(|e| e.to_string())?;
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&request.output)
        .map_err(|e| format!("cannot open {}: {e}", request.output.display()))?;
    let errors = output.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new(executable);
    command
        .arg0(format!("deia-worker: {}", request.bot))
        .arg("worker")
        .env_clear()
        .envs(request.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    let mut child = bots
        .start(|| command.spawn(), std::process::Child::id)
        .map_err(|e| format!("cannot start {}: {e}", executable.display()))?;
    let pid = child.id();
    // Not reaped before `exits` does it, so the pid is still this child's.
    let open = || {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
        Some((pidfd.try_clone().ok()?, pidfd))
    };
    let Some((handle, pidfd)) = open() else {
        let _ = child.kill();
        let _ = child.wait();
        bots.remove(pid);
        return Err("cannot watch the process: no file descriptors left?".into());
    };
    // Far smaller than a pipe's buffer, so this does not wait; a process that ended already is
    // reported as ended.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&bootstrap);
    }
    Ok(Process {
        pid,
        handle: ProcessHandle(handle),
        pidfd,
        identity: identify(pid),
        placed: false,
    })
}
