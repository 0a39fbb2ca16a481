//! The socket bots dial: hand-shake, frames in, frames out. What a bot started dials it as well
//! (`$DEIA_SOCKET`), and is handed to the HTTP side as its bot's: whose it is, the kernel says.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deia::wire::{FrameError, ToSupervisor, ToWorker, read_frame};
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket;
use interprocess::os::unix::uds_local_socket::tokio::{Listener, Stream};
use tokio::io::{AsyncRead, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::outgoing::ToSocket;
use super::outputs::{NotTaken, Outputs};
use super::pids::BotPids;
use super::proof::FleetKey;
use super::pulse::PulseReader;
use super::{Answer, FleetEvent, Hello, Line};

/// Connections that have not said who they are yet; more wait to be accepted.
const MAX_UNPROVEN: usize = 64;

/// ... of processes that are not known as bots: they are told nothing anyway.
const MAX_STRANGERS: usize = 8;

/// Processes that are looked up at once, and connections that may wait for that: looking reads /proc, on
/// threads that others need as well.
const MAX_LOOKS: usize = 4;
const MAX_LOOKED_FOR: usize = 64;

/// Time for a connection to say who it is and be accepted.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a path the kernel takes for a socket.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The socket bots dial.
#[derive(Debug)]
pub struct BotsListener {
    listener: Listener,
    descriptor: OwnedFd,
}

impl BotsListener {
    /// Binds it (0600; its directory is 0700).
    ///
    /// # Errors
    /// Says which path, and the remedy where it is too long.
    pub fn bind(path: &Path) -> io::Result<Self> {
        check_path(path)?;
        let name = path.to_fs_name::<GenericFilePath>()?;
        let bound = ListenerOptions::new()
            .name(name)
            .mode(0o600)
            .try_overwrite(true)
            // The daemon removes it when it ends, not whoever drops it: it may be handed on.
            .reclaim_name(false)
            .create_sync_as::<uds_local_socket::Listener>();
        let named = |e: io::Error| {
            let why = format!("cannot listen on {}: {e}", path.display());
            io::Error::new(e.kind(), why)
        };
        Self::try_from(OwnedFd::from(bound.map_err(named)?)).map_err(named)
    }

    /// The socket once more, to be handed on.
    ///
    /// # Errors
    /// For want of descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }
}

impl TryFrom<OwnedFd> for BotsListener {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        let listener = Listener::try_from(descriptor.try_clone()?)
            .map_err(|e| io::Error::other(format!("{e:?}")))?;
        Ok(Self {
            listener,
            descriptor,
        })
    }
}

/// Refuses a path that is too long for a socket, with the remedy.
///
/// # Errors
/// `InvalidInput`.
pub fn check_path(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the socket path {} has {length} bytes, the kernel takes {MAX_SOCKET_PATH_BYTES}: use a shorter --home",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// What every connection needs.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// What proves who dials.
    pub key: FleetKey,
    /// Where frames go.
    pub events: mpsc::Sender<FleetEvent>,
    /// Where output goes.
    pub outputs: Outputs,
    /// Which processes are bots.
    pub pids: BotPids,
    /// What becomes of other processes that dial.
    pub programs: Programs,
}

/// Programs that bots started.
#[derive(Clone)]
pub struct Programs {
    /// The bot's process that a process descends from, if it does. Reads /proc.
    pub owner: Arc<dyn Fn(u32) -> Option<u32> + Send + Sync>,
    /// Where their connections go, each with its bot's process.
    pub to: mpsc::Sender<(UnixStream, u32)>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Programs")
    }
}

/// Accepts bots until the daemon ends. `placing` is held until it has ended, and each connection that was accepted is
/// where it belongs.
pub async fn accept(
    listener: Arc<BotsListener>,
    sessions: Sessions,
    placing: mpsc::Sender<Infallible>,
) {
    let unproven = Arc::new(Semaphore::new(MAX_UNPROVEN));
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let looked_for = Arc::new(Semaphore::new(MAX_LOOKED_FOR));
    let looks = Arc::new(Semaphore::new(MAX_LOOKS));
    loop {
        match listener.listener.accept().await {
            Ok(stream) => {
                let sessions = sessions.clone();
                let (unproven, strangers) = (unproven.clone(), strangers.clone());
                let (looked_for, looks) = (looked_for.clone(), looks.clone());
                let placing = placing.clone();
                tokio::spawn(async move {
                    let peer = peer_pid(&stream);
                    // A bot waits its turn; what is none takes no bot's place.
                    let permit = if peer.is_some_and(|pid| sessions.pids.contains(pid)) {
                        unproven.acquire_owned().await.ok()
                    } else {
                        let Ok(_waits) = looked_for.try_acquire() else {
                            return refused(peer, "too many programs dial at once");
                        };
                        let _looks = looks.acquire().await;
                        if let Some((pid, owner)) = sessions.owner(peer).await {
                            return sessions.programs.take(stream, pid, owner);
                        }
                        strangers.try_acquire_owned().ok()
                    };
                    drop(placing);
                    match permit {
                        Some(permit) => sessions.serve(stream.into(), peer, permit).await,
                        None => refused(peer, "no bot is known by this pid"),
                    }
                });
            }
            Err(e) => {
                tracing::error!(event = "bot_accept_failed", error = %e, "cannot accept a bot's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn peer_pid(stream: &Stream) -> Option<u32> {
    let pid = stream.peer_creds().ok()?.pid()?;
    u32::try_from(pid).ok()
}

impl Programs {
    fn take(&self, stream: Stream, pid: u32, owner: u32) {
        if self.to.try_send((stream.into(), owner)).is_err() {
            refused(Some(pid), "too many programs of bots dial at once");
        }
    }
}

impl Sessions {
    /// A process, and the bot's it descends from.
    async fn owner(&self, peer: Option<u32>) -> Option<(u32, u32)> {
        let pid = peer?;
        let owner = self.programs.owner.clone();
        let found = tokio::task::spawn_blocking(move || owner(pid)).await;
        found.ok().flatten().map(|owner| (pid, owner))
    }

    /// One connection, from its first frame to its end.
    async fn serve(
        self,
        stream: UnixStream,
        peer_pid: Option<u32>,
        unproven: OwnedSemaphorePermit,
    ) {
        let (from_it, to_it) = stream.into_split();
        let mut reader = BufReader::new(from_it);
        let (to_it, rest) = ToSocket::new(to_it);
        let shake = self.shake_hands(&mut reader, to_it, peer_pid);
        let hand_shake = tokio::time::timeout(HELLO_TIMEOUT, shake).await;
        let shaken = match hand_shake {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(why)) => return refused(peer_pid, &why),
            Err(_) => return refused(peer_pid, "said nothing in time"),
        };
        drop(unproven);
        match shaken.answer {
            Answer::Accepted { line } => {
                tokio::spawn(rest.write());
                self.read_frames(reader, line, shaken.pid).await;
            }
            Answer::Dismissed => {
                refused(peer_pid, "there is no use for it any more");
                rest.write_and(ToWorker::Stop { grace_ms: 0 }).await;
            }
        }
    }

    async fn read_frames(&self, mut reader: impl AsyncRead + Unpin, line: Line, pid: u32) {
        let mut buffer = Vec::new();
        let fault = loop {
            let frame = match read_frame::<ToSupervisor>(&mut reader, &mut buffer).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break None,
                // A bot that was killed may leave half a frame, or a reset: that is no fault of its.
                Err(FrameError::Io(_)) => break None,
                Err(e) => break Some(e.to_string()),
            };
            let event = match frame {
                ToSupervisor::Hello(_) => break Some("a second hello".to_owned()),
                ToSupervisor::Output { task, fence, text } => {
                    match self.outputs.append(&task, fence, &text) {
                        Ok(()) | Err(NotTaken::Late) => continue,
                        Err(e @ NotTaken::TooMuch) => break Some(e.to_string()),
                    }
                }
                ToSupervisor::Ready { sandbox, pulse_fd } => FleetEvent::Ready {
                    line: line.clone(),
                    sandbox,
                    pulse: pulse(&line.bot, pid, pulse_fd),
                },
                frame @ (ToSupervisor::Started { .. } | ToSupervisor::Finished { .. }) => {
                    FleetEvent::Frame {
                        line: line.clone(),
                        frame,
                    }
                }
            };
            if self.events.send(event).await.is_err() {
                return;
            }
        };
        // The main loop may be gone already: then nobody needs to know.
        let _ = self.events.send(FleetEvent::Closed { line, fault }).await;
    }

    /// The first frame, what it proves, and the main loop's answer to it.
    async fn shake_hands(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        to_it: ToSocket,
        peer_pid: Option<u32>,
    ) -> Result<Shaken, String> {
        let hello = match read_frame::<ToSupervisor>(reader, &mut Vec::new()).await {
            Ok(Some(ToSupervisor::Hello(hello))) => *hello,
            Ok(Some(_)) => return Err("the first frame was not a hello".to_owned()),
            Ok(None) => return Err("closed without a word".to_owned()),
            Err(e) => return Err(e.to_string()),
        };
        if peer_pid.is_some_and(|pid| pid != hello.pid) {
            return Err("the connection is another process's".to_owned());
        }
        let (bot_id, launch, pid) = (hello.bot_id, hello.launch, hello.pid);
        if !self.key.proves(&bot_id, launch, pid, &hello.secret) {
            return Err("it does not know the secret of the process it is".to_owned());
        }
        let back = hello.back.map(|back| {
            let pulse = pulse(&bot_id, pid, back.pulse_fd);
            (back, pulse)
        });
        let (answer, answered) = oneshot::channel();
        let hello = Hello {
            bot_id,
            launch,
            pid,
            version: hello.version,
            back,
            frames: Box::new(to_it),
            answer,
        };
        let ending = || "the daemon is ending".to_owned();
        let sent = self.events.send(FleetEvent::Hello(hello)).await;
        sent.map_err(|_| ending())?;
        let answer = answered.await.map_err(|_| ending())?;
        Ok(Shaken { answer, pid })
    }
}

/// How a hand-shake ended.
struct Shaken {
    answer: Answer,
    pid: u32,
}

/// The file with a bot's heartbeats. Without it the bot will be taken for stuck, so it is said why.
fn pulse(bot: &str, pid: u32, fd: i32) -> Option<PulseReader> {
    PulseReader::open(pid, fd)
        .inspect_err(|e| tracing::warn!(event = "pulse_not_found", bot_id = bot, error = %e, "a bot's heartbeats can't be read"))
        .ok()
}

fn refused(peer_pid: Option<u32>, why: &str) {
    tracing::warn!(event = "bot_refused", pid = peer_pid, reason = %why, "a connection to the bots' socket was refused");
}
