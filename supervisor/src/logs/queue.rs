//! Between whoever logs and the thread that writes.
//!
//! ```text
//!   push (a copy under a short lock) ──> pending buffer ──swap──> writer thread ──> sink
//! ```
//!
//! Bounded in bytes: what does not fit is dropped and counted, never waited for. The writer sleeps without
//! a time-out while there is nothing; the first line wakes it, and it lets [`FLUSH_DELAY`] of others join,
//! so that a busy daemon makes a few large writes and an idle one none.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a line may wait for others.
pub const FLUSH_DELAY: Duration = Duration::from_millis(100);
/// A batch of this size is written at once.
const BATCH_BYTES: usize = 256 * 1024;
/// A buffer larger than this is given back after use.
const KEPT_BYTES: usize = 512 * 1024;
/// How long `Writer::flush` and `Writer::stop` wait for a sink that hangs.
pub const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// One line and what the sink needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) level: tracing::Level,
    pub(super) files: u16,
    pub(super) bot: &'a str,
    pub(super) task: &'a str,
    pub(super) event: &'a str,
    pub(super) text: &'a [u8],
}

impl Line<'_> {
    fn bytes(&self) -> usize {
        self.bot.len() + self.task.len() + self.event.len() + self.text.len()
    }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    level: tracing::Level,
    files: u16,
    bot: u32,
    task: u32,
    event: u32,
    text: u32,
}

/// Lines on their way.
#[derive(Debug, Default)]
pub(super) struct Batch {
    heads: Vec<Head>,
    bytes: Vec<u8>,
    /// Lines that did not fit since the last batch.
    pub(super) dropped: u64,
}

impl Batch {
    fn push(&mut self, line: Line<'_>) {
        let len = |text: &[u8]| u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.heads.push(Head {
            level: line.level,
            files: line.files,
            bot: len(line.bot.as_bytes()),
            task: len(line.task.as_bytes()),
            event: len(line.event.as_bytes()),
            text: len(line.text),
        });
        for part in [line.bot, line.task, line.event] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.extend_from_slice(line.text);
    }

    /// The lines, in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut rest = self.bytes.as_slice();
        self.heads.iter().map(move |head| {
            let mut take = |n: u32| {
                let (part, left) = rest.split_at(n as usize);
                rest = left;
                part
            };
            let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
            Line {
                level: head.level,
                files: head.files,
                bot: text(take(head.bot)),
                task: text(take(head.task)),
                event: text(take(head.event)),
                text: take(head.text),
            }
        })
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.dropped = 0;
    }

    fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.dropped == 0
    }
}

/// What a writer thread does with a batch. Errors are its own affair.
pub(super) trait Sink: Send + 'static {
    /// Writes all of it, or counts what it could not.
    fn write(&mut self, batch: &Batch);

    /// Opens its files anew.
    fn reopen(&mut self) {}

    /// New bounds.
    fn configure(&mut self, _logging: &deia::config::Logging) {}
}

#[derive(Debug, Default)]
struct State {
    pending: Batch,
    urgent: bool,
    reopen: bool,
    logging: Option<deia::config::Logging>,
    stop: bool,
    stopped: bool,
    /// Batches taken and written, for those who wait.
    taken: u64,
    written: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sink's thread and the queue before it.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    capacity: usize,
    dropped: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. `capacity` bounds the bytes that wait.
    pub(super) fn start(name: &str, capacity: usize, mut sink: impl Sink) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&theirs, &mut sink))?;
        Ok(Self {
            shared,
            capacity,
            dropped: AtomicU64::new(0),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a line over, or counts it as dropped. Never waits for the sink.
    pub(super) fn push(&self, line: Line<'_>) {
        let mut state = self.shared.lock();
        let room = self.capacity.saturating_sub(state.pending.bytes.len());
        if state.stopped || line.bytes() > room {
            state.pending.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = state.pending.bytes.len();
        state.pending.push(line);
        let after = state.pending.bytes.len();
        drop(state);
        if before == 0 || (before < BATCH_BYTES && after >= BATCH_BYTES) {
            self.shared.wake.notify_one();
        }
    }

    /// Lines that did not fit so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Everything pushed so far is with the sink, or [`FLUSH_WAIT`] is over. True when it is.
    pub(super) fn flush(&self) -> bool {
        self.ask(|_| {})
    }

    /// Asks the sink to open its files anew.
    pub(super) fn reopen(&self) {
        self.ask(|state| state.reopen = true);
    }

    /// Gives the sink new bounds.
    pub(super) fn configure(&self, logging: &deia::config::Logging) {
        self.ask(|state| state.logging = Some(logging.clone()));
    }

    /// Writes what is left and ends the thread; a thread that hangs in its sink is left behind.
    pub(super) fn stop(&self) {
        let ended = self.ask(|state| state.stop = true);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let (true, Some(thread)) = (ended, thread) {
            drop(thread.join());
        }
    }

    fn ask(&self, what: impl FnOnce(&mut State)) -> bool {
        let mut state = self.shared.lock();
        if state.stopped {
            return true;
        }
        what(&mut state);
        state.urgent = true;
        // The batch being written now, if any, and the one that will have these lines.
        let target = state.taken + 1;
        self.shared.wake.notify_one();
        let until = Instant::now() + FLUSH_WAIT;
        while state.written < target && !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.done.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn run(shared: &Shared, sink: &mut dyn Sink) {
    let mut batch = Batch::default();
    loop {
        let (reopen, logging, stop) = {
            let mut state = shared.lock();
            while state.pending.is_empty() && !state.urgent {
                state = shared
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let filling = |s: &mut State| !s.urgent && s.pending.bytes.len() < BATCH_BYTES;
            let waited = shared.wake.wait_timeout_while(state, FLUSH_DELAY, filling);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            std::mem::swap(&mut state.pending, &mut batch);
            state.urgent = false;
            state.taken += 1;
            (
                std::mem::take(&mut state.reopen),
                state.logging.take(),
                state.stop,
            )
        };
        if let Some(logging) = &logging {
            sink.configure(logging);
        }
        if reopen {
            sink.reopen();
        }
        if !batch.is_empty() {
            sink.write(&batch);
        }
        batch.clear();
        let mut state = shared.lock();
        state.written = state.taken;
        state.stopped = stop && state.pending.is_empty();
        let ended = state.stopped;
        state.urgent |= stop;
        drop(state);
        shared.done.notify_all();
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A sink that hands over what it writes and waits to be let on.
    struct Slow {
        seen: SyncSender<(Vec<String>, u64)>,
        go: Receiver<()>,
    }

    impl Sink for Slow {
        fn write(&mut self, batch: &Batch) {
            let lines = batch
                .lines()
                .map(|l| String::from_utf8_lossy(l.text).into_owned())
                .collect();
            self.seen.send((lines, batch.dropped)).unwrap();
            let _ = self.go.recv();
        }
    }

    fn line(text: &str) -> Line<'_> {
        Line {
            level: tracing::Level::INFO,
            files: 1,
            bot: "b",
            task: "t",
            event: "e",
            text: text.as_bytes(),
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_nobody_waits() {
        let (seen, batches) = sync_channel(16);
        let (let_on, go) = sync_channel(16);
        let writer = Writer::start("test", 100, Slow { seen, go }).unwrap();
        writer.push(line("first"));
        assert_eq!(batches.recv().unwrap(), (vec!["first".to_owned()], 0));
        // The sink hangs: 100 bytes hold so many, and no more.
        let text = "x".repeat(17);
        for _ in 0..50 {
            writer.push(line(&text));
        }
        let_on.send(()).unwrap();
        let (lines, dropped) = batches.recv().unwrap();
        assert_eq!(lines.len(), 5, "5 x (17 + 3) bytes");
        assert_eq!(dropped, 45);
        let_on.send(()).unwrap();
        drop(let_on);
        writer.push(line("last"));
        writer.stop();
        assert_eq!(batches.recv().unwrap(), (vec!["last".to_owned()], 0));
        writer.push(line("too late"));
        assert!(writer.flush());
    }

    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Sink for Kept {
        fn write(&mut self, batch: &Batch) {
            let lines = batch.lines().map(|l| {
                format!(
                    "{}{}{}{}",
                    l.bot,
                    l.task,
                    l.event,
                    String::from_utf8_lossy(l.text)
                )
            });
            self.0.lock().unwrap().extend(lines);
        }
    }

    #[test]
    fn order_is_kept_and_flush_means_written() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::start("test", 1 << 20, Kept(Arc::clone(&kept))).unwrap();
        for round in 0..20 {
            for n in 0..50 {
                writer.push(line(&format!("{}", round * 50 + n)));
            }
            assert!(writer.flush());
            assert_eq!(kept.lock().unwrap().len(), (round + 1) * 50);
        }
        writer.stop();
        let expected: Vec<_> = (0..1000).map(|n| format!("bte{n}")).collect();
        assert_eq!(*kept.lock().unwrap(), expected);
    }
}
