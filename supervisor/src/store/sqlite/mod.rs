//! The embedded engine: SQLite with a write-ahead log, one writer thread, group commit.
//!
//! ```text
//!  write() -> queue.rs -> writer.rs (thread) -> engine.rs, sweep.rs, learned.rs -> row.rs, parts.rs -> disk
//!                             |        '-> audit.rs: what was done, in the same transaction
//!                             |  '-> wal.rs -> checkpointer.rs (thread)
//!                             '----> Committed
//!  reads   -> pool.rs  -> read.rs (a few read-only connections on blocking threads)
//!  open    -> files.rs (look, lock) -> log.rs -> open.rs -> migrate.rs
//! ```
//!
//! Owns `deia.db` and what SQLite puts beside it. A row that is not as it was written is an error,
//! never an answer (`sum.rs`). A file that does not open is never changed (`open.rs`).

mod audit;
mod carry;
mod checkpointer;
mod codes;
mod engine;
mod error;
mod fault;
mod files;
mod learned;
mod log;
mod messages;
mod meta;
mod migrate;
mod names;
mod nonces;
mod open;
mod parts;
mod pool;
mod queue;
mod read;
mod record;
mod room;
mod row;
mod snapshot;
mod sum;
mod sweep;
#[cfg(test)]
mod tests;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use deia::task::{Priority, TaskId};
use deia::time::Timestamp;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

pub use carry::{Carried, Difference};
use checkpointer::Checkpointer;
pub use error::OpenError;
use migrate::{MIGRATIONS, Migration};
use pool::Pool;
use queue::Queue;
pub use snapshot::Verified;
use wal::Wal;
use writer::{State, Writer};

use crate::audit::{Check, Link};
use crate::brain::clock::Reckoning;

use super::{
    AuditFilter, AuditPage, AuditRecord, AuditTally, Awaited, Committed, DemandCount, Due, Learned,
    Leased, MessageCounts, MessageRecord, Op, Ready, Seq, StatusCounts, Store, StoreError,
    TaskFilter, TaskRecord, Ticket,
};

/// The schema this release brings a store to.
pub fn schema_version() -> i64 {
    migrate::latest(MIGRATIONS)
}

/// The store in one file.
pub struct SqliteStore {
    path: PathBuf,
    epoch: u64,
    queue: Arc<Queue>,
    pool: Arc<Pool>,
    queue_pool: Arc<Pool>,
    counts: Arc<Mutex<StatusCounts>>,
    head: watch::Receiver<Link>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the store at `path`, or makes one where there is none. Blocks: for the recovery and
    /// check after an unclean end, and for a migration.
    ///
    /// `committed` takes the outcomes; the writer waits while it is full.
    ///
    /// # Errors
    /// [`OpenError`]; the file is then as it was.
    pub fn open(path: &Path, committed: mpsc::Sender<Committed>) -> Result<Self, OpenError> {
        Self::open_with(path, committed, MIGRATIONS)
    }

    fn open_with(
        path: &Path,
        committed: mpsc::Sender<Committed>,
        migrations: &[Migration],
    ) -> Result<Self, OpenError> {
        let lock = files::lock(path)?;
        let engine = open::engine(path, migrations)?;
        let epoch = engine.epoch;
        let queue = Arc::new(Queue::default());
        let counts = Arc::new(Mutex::new(engine.counts));
        let (head_to, head) = watch::channel(engine.trail.chain.head);
        let writer = Writer {
            engine,
            queue: Arc::clone(&queue),
            committed,
            published: Arc::clone(&counts),
            head: head_to,
            wal: Wal::new(path, Checkpointer::start(path)?),
            state: State::Sound,
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(OpenError::io(path, "start the writer of"))?;
        Ok(Self {
            path: path.to_owned(),
            epoch,
            queue,
            pool: Arc::new(Pool::new(path.to_owned(), pool::MAX_READERS)),
            queue_pool: Arc::new(Pool::new(path.to_owned(), pool::QUEUE_READERS)),
            counts,
            head,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// Gives the closed store at `path` a new epoch, so that late results of leases taken before
    /// are refused: a step of every restore. Blocks.
    ///
    /// # Errors
    /// [`OpenError`], as for [`SqliteStore::open`].
    pub fn renew_epoch(path: &Path) -> Result<u64, OpenError> {
        let _lock = files::lock(path)?;
        let engine = open::engine(path, MIGRATIONS)?;
        open::set_new_epoch(&engine.conn).map_err(|fault| OpenError::from_fault(path, &fault))
    }

    /// Writes a consistent, compacted copy (0600) to `to`, replacing what is there, while the store
    /// goes on. The log grows meanwhile by what is written.
    pub fn snapshot(&self, to: PathBuf) -> BoxFuture<'static, Result<(), OpenError>> {
        let from = self.path.clone();
        Box::pin(async move {
            let path = from.clone();
            let copied = tokio::task::spawn_blocking(move || {
                let reader =
                    open::reader(&from).map_err(|fault| OpenError::from_fault(&from, &fault))?;
                snapshot::copy(&reader.conn, &to)
            });
            copied.await.unwrap_or_else(|error| {
                let detail = error.to_string();
                Err(OpenError::Engine { path, detail })
            })
        })
    }

    /// Puts what a restore does not turn back (audit, nonces) from the store at `old` into the one at
    /// `restored`; no process has either open. All of it or none. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]; the restored store is then as it was.
    pub fn carry_forward(restored: &Path, old: &Path) -> Result<Carried, OpenError> {
        carry::carry(restored, old)
    }

    /// What a restore of the store at `other`, which is not in use, in the place of the one at `present`, which may be,
    /// comes to. Blocks.
    ///
    /// # Errors
    /// [`OpenError`], where one of them can't be read.
    pub fn difference(present: &Path, other: &Path) -> Result<Difference, OpenError> {
        carry::difference(present, other)
    }

    /// Copies the store at `from`, which may be in use, to `to`, where nothing may be: consistent, as it was
    /// when this began, in small steps. Blocks; `progress` gets the bytes done and those there are.
    ///
    /// # Errors
    /// [`OpenError`]; what was written is left to the caller to remove.
    pub fn copy_gently(
        from: &Path,
        to: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError> {
        snapshot::copy_gently(from, to, progress)
    }

    /// Reads every row of a store that no process has open, a backup's for one, against its sum,
    /// and every index against its table. Changes nothing. Blocks, in proportion to the size.
    ///
    /// # Errors
    /// [`OpenError`], naming the first thing that is wrong.
    pub fn verify(path: &Path) -> Result<Verified, OpenError> {
        snapshot::verify(path)
    }

    fn published(&self) -> StatusCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut read::Reader) -> Result<T, fault::Fault> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        Box::pin(Arc::clone(&self.pool).read(query))
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Store for SqliteStore {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn write(&self, batch: Vec<(Ticket, Op)>) -> Result<(), Vec<(Ticket, Op)>> {
        self.queue.push(batch)
    }

    fn task(&self, id: TaskId) -> BoxFuture<'static, Result<Option<TaskRecord>, StoreError>> {
        self.read(move |reader| reader.task(&id))
    }

    fn output(&self, id: TaskId) -> BoxFuture<'static, Result<Option<String>, StoreError>> {
        self.read(move |reader| reader.output(&id))
    }

    fn content(&self, id: TaskId) -> BoxFuture<'static, Result<Option<String>, StoreError>> {
        self.read(move |reader| reader.content(&id))
    }

    fn choices(&self, id: TaskId) -> BoxFuture<'static, Result<Vec<(u32, String)>, StoreError>> {
        self.read(move |reader| reader.choices(&id))
    }

    fn inbox(
        &self,
        bot: String,
        priority: Option<Priority>,
        now: Reckoning,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<MessageRecord>, StoreError>> {
        self.read(move |r| messages::inbox(&r.conn, &mut r.names, &bot, priority, &now, limit))
    }

    fn conversation(
        &self,
        one: String,
        other: String,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<MessageRecord>, StoreError>> {
        self.read(move |r| messages::conversation(&r.conn, &mut r.names, (&one, &other), limit))
    }

    fn message(&self, id: String) -> BoxFuture<'static, Result<Option<MessageRecord>, StoreError>> {
        self.read(move |r| messages::message(&r.conn, &mut r.names, &id))
    }

    fn message_counts(&self) -> BoxFuture<'static, Result<MessageCounts, StoreError>> {
        self.read(|r| messages::counts(&r.conn, &mut r.names))
    }

    fn awaited(&self) -> BoxFuture<'static, Result<Awaited, StoreError>> {
        self.read(|r| {
            let bots = messages::awaited(&r.conn, &mut r.names)?;
            Ok((
                bots,
                messages::next_expiry(&r.conn, &Timestamp::from_micros(0).into())?,
            ))
        })
    }

    fn learned(&self) -> BoxFuture<'static, Result<Learned, StoreError>> {
        self.read(read::Reader::learned)
    }

    fn audit_head(&self) -> watch::Receiver<Link> {
        self.head.clone()
    }

    fn audit(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<AuditPage, StoreError>> {
        self.read(move |reader| audit::query(&reader.conn, &filter, before, limit))
    }

    fn audit_after(
        &self,
        after: i64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<AuditRecord>, StoreError>> {
        self.read(move |reader| audit::after(&reader.conn, after, limit))
    }

    fn audit_check(
        &self,
        mut check: Check,
        limit: usize,
    ) -> BoxFuture<'static, Result<(Check, bool), StoreError>> {
        self.read(move |reader| {
            let is_done = audit::check(&reader.conn, &mut check, limit)?;
            Ok((check, is_done))
        })
    }

    fn audit_tally(
        &self,
        mut tally: AuditTally,
        limit: usize,
    ) -> BoxFuture<'static, Result<AuditTally, StoreError>> {
        self.read(move |reader| {
            audit::tally(&reader.conn, &mut tally, limit)?;
            Ok(tally)
        })
    }

    fn list(
        &self,
        filter: TaskFilter,
        before: Option<Seq>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<TaskRecord>, StoreError>> {
        let counts = self.published();
        let in_status = filter.status.map_or(0, |status| counts.of(status));
        self.read(move |reader| reader.list(&filter, in_status, before, limit))
    }

    fn counts(&self) -> BoxFuture<'static, Result<StatusCounts, StoreError>> {
        let counts = self.published();
        Box::pin(std::future::ready(Ok(counts)))
    }

    fn ready_after(
        &self,
        demand: Arc<str>,
        after: Option<(Priority, Seq)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Ready>, StoreError>> {
        let read = move |reader: &mut read::Reader| reader.ready_after(&demand, after, limit);
        Box::pin(Arc::clone(&self.queue_pool).read(read))
    }

    fn demands(&self) -> BoxFuture<'static, Result<Vec<DemandCount>, StoreError>> {
        self.read(read::Reader::demands)
    }

    fn running(&self) -> BoxFuture<'static, Result<Vec<Leased>, StoreError>> {
        self.read(read::Reader::running)
    }

    fn next_due(&self) -> BoxFuture<'static, Result<Due, StoreError>> {
        self.read(|reader| read::next_due(&reader.conn, &reader.damaged))
    }

    fn ahead_of(
        &self,
        demand: Arc<str>,
        place: (Priority, Seq),
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.read(move |reader| reader.ahead_of(&demand, place))
    }

    fn close(&self) {
        self.pool.close();
        self.queue_pool.close();
        self.queue.end();
        let thread = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(event = "store_writer_panicked");
        }
    }
}

impl Drop for SqliteStore {
    /// Lets the writer finish and end by itself; who wants to wait for it calls [`Store::close`].
    fn drop(&mut self) {
        self.queue.end();
    }
}
