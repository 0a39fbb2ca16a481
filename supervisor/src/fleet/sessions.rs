//! The socket bots dial: hand-shake, frames in, frames out.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deia::wire::{ToSupervisor, ToWorker, encode, read_frame};
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName, tokio as local};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::outputs::{NotTaken, Outputs};
use super::{Accepted, FleetEvent, Hello};

/// Connections that have not said who they are yet; more wait to be accepted.
const MAX_UNPROVEN: usize = 64;

/// Time for a connection to say who it is and be accepted.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Frames that may wait for one bot. It has at most its slots' worth of tasks, each with an
/// assignment, a cancel and an acknowledgement: a bot that lets this fill up does not read.
pub const MAX_FRAMES: usize = 1024;

/// Bytes of a path the kernel takes for a socket.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Binds the socket (0600; its directory is 0700).
///
/// # Errors
/// Says which path, and the remedy where it is too long.
pub fn bind(path: &Path) -> io::Result<local::Listener> {
    check_path(path)?;
    let name = path.to_fs_name::<GenericFilePath>()?;
    ListenerOptions::new()
        .name(name)
        .mode(0o600)
        .try_overwrite(true)
        .create_tokio()
        .map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("cannot listen on {}: {e}", path.display()),
            )
        })
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

/// Accepts bots until the daemon ends.
pub async fn accept(
    listener: local::Listener,
    events: mpsc::Sender<FleetEvent>,
    outputs: Outputs,
    epoch: Instant,
) {
    let unproven = Arc::new(Semaphore::new(MAX_UNPROVEN));
    loop {
        let Ok(permit) = unproven.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let (events, outputs) = (events.clone(), outputs.clone());
                tokio::spawn(async move {
                    serve(Arc::new(stream), permit, events, outputs, epoch).await
                });
            }
            Err(e) => {
                tracing::error!(event = "bot_accept_failed", error = %e, "cannot accept a bot's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, from its first frame to its end.
async fn serve(
    stream: Arc<local::Stream>,
    unproven: OwnedSemaphorePermit,
    events: mpsc::Sender<FleetEvent>,
    outputs: Outputs,
    epoch: Instant,
) {
    let peer_pid = stream
        .peer_creds()
        .ok()
        .and_then(|creds| creds.pid())
        .and_then(|pid| u32::try_from(pid).ok());
    let mut reader = BufReader::new(&*stream);
    let hand_shake =
        tokio::time::timeout(HELLO_TIMEOUT, shake_hands(&mut reader, peer_pid, &events)).await;
    let (accepted, outgoing) = match hand_shake {
        Ok(Ok(proven)) => proven,
        Ok(Err(why)) => return refused(peer_pid, &why),
        Err(_) => return refused(peer_pid, "said nothing in time"),
    };
    drop(unproven);
    tokio::spawn(write_frames(stream.clone(), outgoing));
    let Accepted {
        bot,
        run,
        last_seen,
    } = accepted;
    let mut buffer = Vec::new();
    let fault = loop {
        let frame = match read_frame::<ToSupervisor>(&mut reader, &mut buffer).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break None,
            Err(e) => break Some(e.to_string()),
        };
        let now = u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        last_seen.store(now, Ordering::Relaxed);
        match frame {
            ToSupervisor::Heartbeat { .. } => {}
            ToSupervisor::Hello { .. } => break Some("a second hello".to_owned()),
            ToSupervisor::Output { task, fence, text } => match outputs.append(&task, fence, &text)
            {
                Ok(()) | Err(NotTaken::Late) => {}
                Err(e @ NotTaken::TooMuch) => break Some(e.to_string()),
            },
            frame => {
                let bot = bot.clone();
                if events
                    .send(FleetEvent::Frame { bot, run, frame })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    };
    // The main loop may be gone already: then nobody needs to know.
    let _ = events.send(FleetEvent::Closed { bot, run, fault }).await;
}

/// The first frame, and the main loop's answer to it.
async fn shake_hands(
    reader: &mut (impl AsyncRead + Unpin),
    peer_pid: Option<u32>,
    events: &mpsc::Sender<FleetEvent>,
) -> Result<(Accepted, mpsc::Receiver<ToWorker>), String> {
    let (bot_id, secret, pid) = match read_frame::<ToSupervisor>(reader, &mut Vec::new()).await {
        Ok(Some(ToSupervisor::Hello {
            bot_id,
            secret,
            pid,
            ..
        })) => (bot_id, secret, pid),
        Ok(Some(_)) => return Err("the first frame was not a hello".to_owned()),
        Ok(None) => return Err("closed without a word".to_owned()),
        Err(e) => return Err(e.to_string()),
    };
    let (frames, outgoing) = mpsc::channel(MAX_FRAMES);
    let (accept, accepted) = oneshot::channel();
    let hello = Hello {
        bot_id,
        secret,
        pid,
        peer_pid,
        frames,
        accept,
    };
    events
        .send(FleetEvent::Hello(hello))
        .await
        .map_err(|_| "the daemon is ending".to_owned())?;
    let accepted = accepted.await.map_err(|_| "not accepted".to_owned())?;
    Ok((accepted, outgoing))
}

fn refused(peer_pid: Option<u32>, why: &str) {
    tracing::warn!(event = "bot_refused", pid = peer_pid, reason = %why, "a connection to the bots' socket was refused");
}

/// Frames out: all that wait in one write.
async fn write_frames(stream: Arc<local::Stream>, mut outgoing: mpsc::Receiver<ToWorker>) {
    let mut send = &*stream;
    let mut frames = Vec::new();
    let mut bytes = Vec::new();
    while outgoing.recv_many(&mut frames, 64).await > 0 {
        bytes.clear();
        for frame in frames.drain(..) {
            if let Err(e) = encode(&frame, &mut bytes) {
                tracing::error!(event = "frame_not_sent", error = %e, "a frame could not be encoded");
            }
        }
        // A bot that is gone is noticed by the reader.
        if send.write_all(&bytes).await.is_err() {
            return;
        }
        if bytes.capacity() > 256 * 1024 {
            bytes = Vec::new();
        }
    }
}
