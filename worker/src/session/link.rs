//! The two directions of the connection, each a task of its own behind a bounded queue.
//!
//! ```text
//!   socket -> reader -> incoming -> main loop
//!   attempts (Output, Started), main loop (the rest) -> outgoing -> writer -> socket
//! ```
//!
//! Reading a frame is not cancel-safe and writing one can block, so neither is done by the main loop.

use std::sync::Arc;

use deia::wire::{self, FrameError, ToSupervisor, ToWorker};
use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::SessionError;
use super::board::Since;

/// Frames from the supervisor that wait for the main loop.
const INCOMING_FRAMES: usize = 4;
/// Frames that wait for the socket: with full ones, 2 MiB.
const OUTGOING_FRAMES: usize = 32;

/// A frame, and when it was here.
#[derive(Debug)]
pub struct Heard {
    pub frame: ToWorker,
    pub since: Since,
}

/// A connection. Dropping it ends both tasks.
#[derive(Debug)]
pub struct Link {
    incoming: mpsc::Receiver<Result<Heard, FrameError>>,
    outgoing: mpsc::Sender<ToSupervisor>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Link {
    pub fn new(stream: Stream) -> Self {
        let stream = Arc::new(stream);
        let (incoming_in, incoming) = mpsc::channel(INCOMING_FRAMES);
        let (outgoing, outgoing_out) = mpsc::channel(OUTGOING_FRAMES);
        Self {
            incoming,
            outgoing,
            reader: tokio::spawn(read(stream.clone(), incoming_in)),
            writer: tokio::spawn(write(stream, outgoing_out)),
        }
    }

    /// The queue to the socket.
    pub fn outgoing(&self) -> &mpsc::Sender<ToSupervisor> {
        &self.outgoing
    }

    pub async fn send(&self, frame: ToSupervisor) -> Result<(), SessionError> {
        let sent = self.outgoing.send(frame).await;
        sent.map_err(|_| SessionError::Lost("it does not listen".into()))
    }

    /// The next frame. Cancel-safe.
    pub async fn next(&mut self) -> Result<Heard, SessionError> {
        match self.incoming.recv().await {
            Some(Ok(heard)) => Ok(heard),
            Some(Err(FrameError::Io(e))) => Err(SessionError::Lost(e.to_string())),
            Some(Err(e)) => Err(SessionError::Protocol(e.to_string())),
            None => Err(SessionError::Lost("it closed the connection".into())),
        }
    }

    /// Writes what is queued and closes the connection.
    pub async fn close(self) {
        let Self {
            incoming,
            outgoing,
            reader,
            writer,
        } = self;
        drop(outgoing);
        let _ = writer.await;
        reader.abort();
        drop(incoming);
    }
}

async fn read(stream: Arc<Stream>, queue: mpsc::Sender<Result<Heard, FrameError>>) {
    let mut from = BufReader::new(&*stream);
    let mut buffer = Vec::new();
    loop {
        let (frame, last) = match wire::read_frame(&mut from, &mut buffer).await {
            Ok(None) => return,
            Ok(Some(frame)) => {
                let since = Since::now();
                (Ok(Heard { frame, since }), false)
            }
            Err(e) => (Err(e), true),
        };
        if queue.send(frame).await.is_err() || last {
            return;
        }
    }
}

/// Ends at the first error, or when every sender is gone and all is written. What is already queued
/// goes out together.
async fn write(stream: Arc<Stream>, mut queue: mpsc::Receiver<ToSupervisor>) {
    let mut to = &*stream;
    const BATCH_BYTES: usize = 128 * 1024;
    let mut bytes = Vec::new();
    while let Some(frame) = queue.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            // Frames are bounded where they are made; one that was not would end the connection.
            if wire::encode(&frame, &mut bytes).is_err() {
                return;
            }
            if bytes.len() < BATCH_BYTES {
                next = queue.try_recv().ok();
            }
        }
        deia::failpoint!("worker.frames.before");
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
        deia::failpoint!("worker.frames.after");
        bytes.clear();
        bytes.shrink_to(BATCH_BYTES / 8);
    }
}
