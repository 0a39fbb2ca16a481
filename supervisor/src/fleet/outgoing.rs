//! Frames to a bot.
//!
//! ```text
//!   send, send, ... --> wait, in order --> flush --> the socket, by whoever sends
//!                            ^                          | what it does not take
//!                            '--------------------------'--> Rest, when there is room
//! ```
//!
//! A bot that waits for work hears of it without another thread being woken first, and what is sent to it at
//! one time is one write. The socket never blocks. A frame may be prepared by one thread and sent by another:
//! the order is that of `send` and `Prepared::put`.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use deia::wire::{ToWorker, encode};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

/// Frames that may wait for one bot. It has at most its slots' worth of tasks, each with an
/// assignment, a cancel and an acknowledgement: a bot that lets this fill up does not read.
pub const MAX_FRAMES: usize = 1024;

/// Frames in one write.
const MAX_SLICES: usize = 64;

/// The way to a bot. Dropping it ends it, once what was sent is written.
pub trait Outgoing: fmt::Debug + Send {
    /// Sends a frame with the next [`Outgoing::flush`], after all that were sent before.
    ///
    /// # Errors
    /// When the bot does not read, or is known to be gone.
    fn send(&self, frame: ToWorker) -> Result<(), NotSent>;

    /// A frame for whoever is to send it. None, where it can't be one.
    fn prepare(&self, frame: ToWorker) -> Option<Box<dyn Prepared>>;

    /// Hands what was sent to the kernel, as far as it takes it now; the rest follows by itself.
    fn flush(&self);

    /// Whether everything was handed to the kernel, or nobody is there to take it.
    fn is_sent(&self) -> bool;
}

/// A frame that is ready to go, from any thread. It does not keep the way open.
pub trait Prepared: fmt::Debug + Send + Sync {
    /// Sends it with the next [`Prepared::flush`], after all that were sent before. It finds room even where a bot
    /// does not read: there are no more of them than the bot has slots. Whether it was put: not once the way has
    /// ended, nor twice.
    fn put(&self) -> bool;

    /// As [`Outgoing::flush`].
    fn flush(&self);
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// Too many wait: the bot does not read.
    Full,
    /// The connection has ended.
    Gone,
}

/// Over a socket.
#[derive(Debug)]
pub(super) struct ToSocket(Arc<Way>);

impl ToSocket {
    /// And what writes the rest.
    pub(super) fn new(socket: OwnedWriteHalf) -> (Self, Rest) {
        let way = Arc::new(Way {
            socket,
            waiting: Mutex::default(),
            changed: Notify::new(),
        });
        (Self(way.clone()), Rest(way))
    }
}

impl Outgoing for ToSocket {
    fn send(&self, frame: ToWorker) -> Result<(), NotSent> {
        let Some(bytes) = encoded(&frame) else {
            return Ok(());
        };
        let mut waiting = self.0.waiting();
        if waiting.is_over == Some(Over::Broken) {
            return Err(NotSent::Gone);
        }
        if waiting.frames.len() >= MAX_FRAMES {
            return Err(NotSent::Full);
        }
        waiting.frames.push_back(bytes);
        Ok(())
    }

    fn prepare(&self, frame: ToWorker) -> Option<Box<dyn Prepared>> {
        let bytes = Mutex::new(encoded(&frame)?);
        let way = Arc::downgrade(&self.0);
        Some(Box::new(Frame { way, bytes }))
    }

    fn flush(&self) {
        self.0.flush();
    }

    fn is_sent(&self) -> bool {
        self.0.waiting().frames.is_empty()
    }
}

impl Drop for ToSocket {
    fn drop(&mut self) {
        self.0.waiting().is_over.get_or_insert(Over::Closed);
        self.0.changed.notify_one();
    }
}

fn encoded(frame: &ToWorker) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes)
        .inspect_err(|e| tracing::error!(event = "frame_not_sent", error = %e, "a frame could not be encoded"))
        .ok()?;
    Some(bytes)
}

/// See [`Prepared`].
#[derive(Debug)]
struct Frame {
    way: Weak<Way>,
    /// Until it is put.
    bytes: Mutex<Vec<u8>>,
}

impl Prepared for Frame {
    fn put(&self) -> bool {
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(way) = self.way.upgrade().filter(|_| !bytes.is_empty()) else {
            return false;
        };
        let mut waiting = way.waiting();
        let is_open = waiting.is_over.is_none();
        if is_open {
            waiting.frames.push_back(bytes);
        }
        is_open
    }

    fn flush(&self) {
        if let Some(way) = self.way.upgrade() {
            way.flush();
        }
    }
}

/// What the socket has not taken yet. Dropping it breaks the way: nobody would write any more, so the bot is
/// told that this is the end.
#[derive(Debug)]
pub(super) struct Rest(Arc<Way>);

impl Rest {
    /// Says one thing more than was sent, then ends.
    pub(super) async fn write_and(self, last: ToWorker) {
        let _ = ToSocket(self.0.clone()).send(last);
        self.write().await;
    }

    /// Writes what waits whenever there is room, until the way has ended.
    pub(super) async fn write(self) {
        let way = &self.0;
        loop {
            // An end of the guard's life before each wait.
            let (written, is_over) = {
                let mut waiting = way.waiting();
                (waiting.write(&way.socket), waiting.is_over.is_some())
            };
            match written {
                Written::All if is_over => return,
                Written::All => way.changed.notified().await,
                Written::Some if way.socket.writable().await.is_err() => return,
                Written::Some => {}
                Written::Broken => return,
            }
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        // Whoever sends may still have its half of the socket.
        if waiting.is_over != Some(Over::Closed) {
            let socket: &UnixStream = self.0.socket.as_ref();
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
        waiting.breaks();
    }
}

#[derive(Debug)]
struct Way {
    socket: OwnedWriteHalf,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Way {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) {
        let written = self.waiting().write(&self.socket);
        // Whoever writes what waits goes on, or tells the bot that this is the end.
        if written != Written::All {
            self.changed.notify_one();
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    /// Bytes of the first that are written.
    written: usize,
    is_over: Option<Over>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// There is nothing more to say.
    Closed,
    /// There is nobody to say it to.
    Broken,
}

/// How far a write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    All,
    Some,
    Broken,
}

impl Waiting {
    /// As much as the socket takes now.
    fn write(&mut self, socket: &OwnedWriteHalf) -> Written {
        while let Some(first) = self.frames.front() {
            deia::failpoint!("frames.before");
            let begun = IoSlice::new(first.get(self.written..).unwrap_or_default());
            let others = self.frames.iter().skip(1).map(|bytes| IoSlice::new(bytes));
            let slices: Vec<_> = std::iter::once(begun)
                .chain(others)
                .take(MAX_SLICES)
                .collect();
            match socket.try_write_vectored(&slices) {
                Ok(count) => self.take(count),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Written::Some,
                Err(_) => {
                    self.breaks();
                    return Written::Broken;
                }
            }
            deia::failpoint!("frames.after");
        }
        Written::All
    }

    fn breaks(&mut self) {
        self.frames.clear();
        self.is_over = Some(Over::Broken);
    }

    /// So many bytes are written.
    fn take(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.frames.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
impl Outgoing for tokio::sync::mpsc::Sender<ToWorker> {
    fn send(&self, frame: ToWorker) -> Result<(), NotSent> {
        use tokio::sync::mpsc::error::TrySendError;
        self.try_send(frame).map_err(|e| match e {
            TrySendError::Full(_) => NotSent::Full,
            TrySendError::Closed(_) => NotSent::Gone,
        })
    }

    fn prepare(&self, frame: ToWorker) -> Option<Box<dyn Prepared>> {
        Some(Box::new((self.downgrade(), Mutex::new(Some(frame)))))
    }

    fn flush(&self) {}

    fn is_sent(&self) -> bool {
        self.is_closed() || self.capacity() == self.max_capacity()
    }
}

#[cfg(test)]
impl Prepared
    for (
        tokio::sync::mpsc::WeakSender<ToWorker>,
        Mutex<Option<ToWorker>>,
    )
{
    fn put(&self) -> bool {
        let frame = self.1.lock().unwrap_or_else(PoisonError::into_inner).take();
        let to_it = self.0.upgrade();
        to_it
            .zip(frame)
            .is_some_and(|(to_it, frame)| to_it.try_send(frame).is_ok())
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::task::Fence;
    use deia::wire::{Assignment, read_frame};

    fn assign(n: u32, bytes: usize) -> ToWorker {
        ToWorker::Assign(Box::new(Assignment {
            task: format!("t{n}").parse().unwrap(),
            fence: Fence {
                epoch: 1,
                attempt: n,
            },
            content: "x".repeat(bytes),
            timeout_ms: 1,
        }))
    }

    fn way() -> (ToSocket, Rest, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reading, writing) = ours.into_split();
        // The reader's half lives in another task.
        std::mem::forget(reading);
        let (to_it, rest) = ToSocket::new(writing);
        (to_it, rest, theirs)
    }

    async fn next(bot: &mut UnixStream) -> Option<ToWorker> {
        read_frame(bot, &mut Vec::new()).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_sent_is_written_at_the_flush_in_one_piece() {
        let (to_it, _rest, mut bot) = way();
        to_it.0.socket.writable().await.unwrap();
        for n in 0..100 {
            to_it.send(assign(n, 10)).unwrap();
        }
        assert!(!to_it.is_sent());
        to_it.flush();
        assert!(to_it.is_sent());
        for n in 0..100 {
            assert_eq!(next(&mut bot).await, Some(assign(n, 10)));
        }
    }

    #[tokio::test]
    async fn what_it_does_not_take_comes_later_and_in_order() {
        let (to_it, rest, mut bot) = way();
        let bytes = |n: u32| 300_000 / (n as usize + 1);
        for n in 0..5 {
            to_it.send(assign(n, bytes(n))).unwrap();
            to_it.flush();
        }
        assert!(!to_it.is_sent());
        let rest = tokio::spawn(rest.write());
        for n in 0..5 {
            assert!(next(&mut bot).await == Some(assign(n, bytes(n))), "{n}");
        }
        to_it.send(assign(6, 1)).unwrap();
        drop(to_it);
        assert_eq!(next(&mut bot).await, Some(assign(6, 1)));
        // The end is an end for the bot, too.
        assert_eq!(next(&mut bot).await, None);
        rest.await.unwrap();
    }

    /// Shown to fail where only what is left over is told: the bot waits for what will never come.
    #[tokio::test]
    async fn a_way_that_breaks_at_a_flush_has_ended() {
        let (to_it, rest, mut bot) = way();
        let rest = tokio::spawn(rest.write());
        // It waits, before anything breaks.
        tokio::task::yield_now().await;
        to_it.0.socket.writable().await.unwrap();
        let socket: &UnixStream = to_it.0.socket.as_ref();
        rustix::net::shutdown(socket, rustix::net::Shutdown::Write).unwrap();
        to_it.send(assign(1, 10)).unwrap();
        to_it.flush();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), rest).await;
        ended.expect("it has ended").unwrap();
        assert_eq!(next(&mut bot).await, None);
        assert!(to_it.send(assign(2, 10)).is_err());
    }

    #[tokio::test]
    async fn what_was_prepared_goes_once_and_after_what_was_sent_before() {
        let (to_it, _rest, mut bot) = way();
        to_it.0.socket.writable().await.unwrap();
        let (third, second) = (to_it.prepare(assign(3, 10)), to_it.prepare(assign(2, 10)));
        let (third, second) = (third.unwrap(), second.unwrap());
        to_it.send(assign(1, 10)).unwrap();
        let putting = std::thread::spawn(move || {
            assert!(second.put() && third.put());
            assert!(!second.put());
            third.flush();
        });
        putting.join().unwrap();
        assert!(to_it.is_sent());
        to_it.send(assign(4, 10)).unwrap();
        to_it.flush();
        for n in 1..=4 {
            assert_eq!(next(&mut bot).await, Some(assign(n, 10)));
        }
    }

    #[tokio::test]
    async fn what_was_prepared_does_not_hold_up_the_end() {
        let (to_it, rest, mut bot) = way();
        let [early, late] = [1, 2].map(|n| to_it.prepare(assign(n, 10)).unwrap());
        assert!(early.put());
        drop(to_it);
        assert!(!late.put());
        rest.write().await;
        late.flush();
        assert_eq!(next(&mut bot).await, Some(assign(1, 10)));
        assert_eq!(next(&mut bot).await, None);
    }

    #[tokio::test]
    async fn what_was_prepared_is_not_put_where_nobody_is() {
        let (to_it, rest, bot) = way();
        let prepared = to_it.prepare(assign(1, 10)).unwrap();
        drop((bot, rest));
        assert!(!prepared.put());
    }

    #[tokio::test]
    async fn who_does_not_read_and_who_is_gone_are_told_apart() {
        let (to_it, rest, bot) = way();
        to_it.0.socket.writable().await.unwrap();
        let mut sent = 0_usize;
        let refused = loop {
            match to_it.send(assign(0, 100_000)) {
                Ok(()) => sent += 1,
                Err(refused) => break refused,
            }
            to_it.flush();
        };
        assert_eq!(refused, NotSent::Full);
        assert!((MAX_FRAMES..MAX_FRAMES + 10).contains(&sent), "{sent}");
        drop(bot);
        rest.write().await;
        assert!(to_it.is_sent());
        assert_eq!(to_it.send(assign(1, 1)), Err(NotSent::Gone));
    }

    #[tokio::test]
    async fn a_connection_that_nobody_serves_takes_nothing() {
        let (to_it, rest, mut bot) = way();
        drop(rest);
        assert_eq!(to_it.send(assign(1, 1)), Err(NotSent::Gone));
        // And the bot, which may have been welcomed, dials again.
        assert_eq!(next(&mut bot).await, None);
    }

    #[tokio::test]
    async fn there_is_a_last_word_after_the_sender_has_let_go() {
        let (to_it, rest, mut bot) = way();
        to_it.send(assign(1, 1)).unwrap();
        drop(to_it);
        rest.write_and(ToWorker::Stop { grace_ms: 0 }).await;
        assert_eq!(next(&mut bot).await, Some(assign(1, 1)));
        assert_eq!(next(&mut bot).await, Some(ToWorker::Stop { grace_ms: 0 }));
        assert_eq!(next(&mut bot).await, None);
    }
}
