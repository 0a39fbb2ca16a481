//! Starting bots: one thread that forks.
//!
//! A bot is this very executable run again (`/proc/self/exe worker`), so there is no other version
//! to find. It gets its secret on standard input, what it prints goes straight to a file, its
//! environment holds only its mark and what its pool names, and it leads a process group of its own,
//! so that a terminal's Ctrl-C reaches the daemon alone.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use deia::config::Limits;
use deia::wire::{Bootstrap, Launch, encode};
use deia_worker::tree::{self, Identity, NONCE_VARIABLE};
use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::cgroup::Cgroups;
use super::pids::BotPids;
use super::proof::FleetKey;
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
    /// Which start of it, for ever.
    pub launch: Launch,
    /// The socket it shall dial.
    pub socket: PathBuf,
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

/// Why there is no process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStarted {
    /// The host has no room for it now.
    NoRoom(String),
    /// Something is wrong with it.
    Failed(String),
}

impl NotStarted {
    fn new(what: &str, e: &std::io::Error) -> Self {
        let text = format!("{what}: {e}");
        let no_room = [
            Errno::EAGAIN,
            Errno::ENOMEM,
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOSPC,
        ];
        match e.raw_os_error() {
            Some(number) if no_room.contains(&Errno::from_raw(number)) => Self::NoRoom(text),
            _ => Self::Failed(text),
        }
    }
}

/// Signals one process, and never another that took over its pid.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl From<OwnedFd> for ProcessHandle {
    fn from(pidfd: OwnedFd) -> Self {
        Self(pidfd)
    }
}

impl ProcessHandle {
    /// Ends it at once.
    pub fn kill(&self) {
        // It may have ended already: that is what is wanted.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// The thread's other end.
#[derive(Debug, Clone)]
pub struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        executable: PathBuf,
        key: FleetKey,
        bots: BotPids,
        cgroups: Option<Arc<Cgroups>>,
        events: mpsc::Sender<FleetEvent>,
    ) -> std::io::Result<Self> {
        // Its places are made when they are needed, unlike those of the standard library's.
        let (requests, mut waiting) = mpsc::channel(MAX_WAITING);
        std::thread::Builder::new()
            .name("deia-spawner".into())
            .spawn(move || {
                let cgroups = cgroups.as_deref();
                run(&executable, &key, &bots, cgroups, &mut waiting, &events);
            })?;
        Ok(Self(requests))
    }

    /// Asks for a start; answered by [`FleetEvent::Spawned`].
    ///
    /// # Errors
    /// Gives the request back when too many wait or the thread has ended.
    pub fn spawn(&self, request: Request) -> Result<(), Box<Request>> {
        self.0
            .try_send(request)
            .map_err(|e| Box::new(e.into_inner()))
    }
}

fn run(
    executable: &std::path::Path,
    key: &FleetKey,
    bots: &BotPids,
    cgroups: Option<&Cgroups>,
    waiting: &mut mpsc::Receiver<Request>,
    events: &mpsc::Sender<FleetEvent>,
) {
    while let Some(request) = waiting.blocking_recv() {
        deia::failpoint!("spawn.before");
        let mut result = start(executable, key, bots, &request);
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
        deia::failpoint!("spawn.reported");
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
    key: &FleetKey,
    bots: &BotPids,
    request: &Request,
) -> Result<Process, NotStarted> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&request.output)
        .map_err(|e| NotStarted::new(&format!("cannot open {}", request.output.display()), &e))?;
    let errors = output
        .try_clone()
        .map_err(|e| NotStarted::new(&request.output.display().to_string(), &e))?;
    let mut command = Command::new(executable);
    command
        .arg0(format!("deia-worker: {}", request.bot))
        .arg("worker")
        .env_clear()
        .envs(request.env.iter().map(|(name, value)| (name, value)))
        .env(NONCE_VARIABLE, key.mark(&request.bot, request.launch))
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    #[cfg(debug_assertions)]
    command.envs(deia::failpoint::for_a_bot());
    let mut child = bots
        .start(|| command.spawn(), std::process::Child::id)
        .map_err(|e| NotStarted::new(&format!("cannot start {}", executable.display()), &e))?;
    let pid = child.id();
    deia::failpoint!("spawn.forked");
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
        let why = "cannot watch the process: no file descriptors are left";
        return Err(NotStarted::NoRoom(why.to_owned()));
    };
    // Far smaller than a pipe's buffer, so this does not wait; a process that ended already is
    // reported as ended.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&bootstrap(key, request, pid));
    }
    deia::failpoint!("spawn.told");
    Ok(Process {
        pid,
        handle: ProcessHandle(handle),
        pidfd,
        identity: tree::identify(pid),
        placed: false,
    })
}

/// A frame of a path, a name and a secret is shorter.
const BOOTSTRAP_BYTES: usize = 1024;

/// What the new process reads. Its secret is made of its pid and start time, so it can be made only now.
fn bootstrap(key: &FleetKey, request: &Request, pid: u32) -> Zeroizing<Vec<u8>> {
    let started = tree::identify(pid).map_or(0, |process| process.started);
    let bootstrap = Bootstrap {
        socket: request.socket.clone(),
        bot_id: request.bot.to_string(),
        launch: request.launch,
        secret: key.secret(&request.bot, request.launch, pid, started),
    };
    // Room for all of it at once: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BOOTSTRAP_BYTES));
    if let Err(e) = encode(&bootstrap, &mut bytes) {
        // It reads an end and says so; it can't be: a path and a name are far below the bound.
        tracing::error!(event = "bootstrap_failed", bot_id = %request.bot, error = %e, "a bot could not be told who it is");
    }
    bytes
}
