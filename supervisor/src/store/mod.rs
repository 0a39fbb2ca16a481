//! Where tasks are durable.
//!
//! ```text
//!   main loop --write(batch)--> writer thread --one transaction, one fsync--> disk
//!       ^                            |
//!       '------- Committed ----------'         readers: connections of their own
//! ```
//!
//! Owns: every SQL statement of the product, and the only open handle on the store. May be called
//! by the main loop (writes) and by HTTP handlers (reads). Absent on purpose: any decision. An
//! operation states its condition (`still queued`, `this fence`) and the store says whether it held.
//!
//! **The promise.** An [`Outcome`] is reported only after the transaction with its operation is
//! on disk. A transaction that could not be committed reports [`StoreError`] for each of its
//! operations, and nothing of it is visible.

mod audit;
#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod letter;
mod messages;
#[cfg(test)]
mod sql_stays_here;
pub mod sqlite;

use std::collections::BTreeSet;
use std::sync::Arc;

use deia::task::{AttemptStatus, Complexity, Fence, Priority, TaskId, TaskStatus, TaskType};
use deia::time::Timestamp;
use deia::wire::Usage;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use audit::{
    AuditFilter, AuditPage, AuditRecord, AuditTally, Audited, MAX_TALLIED_ACTORS, OTHER_ACTORS,
    Recorded,
};
pub use letter::Letter;
pub use messages::{MessageCounts, MessageRecord, NewMessage};

use crate::audit::{Check, Entry, Link};
use crate::brain::clock::Reckoning;

/// A task's place in the store: grows with every submission, never used again.
pub type Seq = i64;

/// The caller's name for an operation, repeated in its outcome.
pub type Ticket = u64;

/// Names one secret of an external bot, in place of it.
pub type SignerKey = i64;

/// Bots for which messages wait, and when the next message is over.
pub type Awaited = (Vec<String>, Option<Timestamp>);

/// A demand, and its ready tasks by priority.
pub type DemandCount = (Arc<str>, [u64; 4]);

/// The engine of a store.
pub trait Store: Send + Sync + 'static {
    /// This store's epoch, part of every [`Fence`].
    fn epoch(&self) -> u64;

    /// Hands operations to the writer, in order. Never blocks. Outcomes arrive on the channel the
    /// store was opened with, in one [`Committed`] per transaction.
    ///
    /// # Errors
    /// Gives the batch back when the writer's queue is full ([`MAX_PENDING_OPS`]) or the writer has ended.
    fn write(&self, batch: Vec<(Ticket, Op)>) -> Result<(), Vec<(Ticket, Op)>>;

    /// One task with its attempts and result, without its content and output.
    fn task(&self, id: TaskId) -> BoxFuture<'static, Result<Option<TaskRecord>, StoreError>>;

    /// A finished task's output.
    fn output(&self, id: TaskId) -> BoxFuture<'static, Result<Option<String>, StoreError>>;

    /// A task's content.
    fn content(&self, id: TaskId) -> BoxFuture<'static, Result<Option<String>, StoreError>>;

    /// Tasks, newest first, stable under writes: `before` is the last `seq` of the page before.
    fn list(
        &self,
        filter: TaskFilter,
        before: Option<Seq>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<TaskRecord>, StoreError>>;

    /// How many tasks are in each status. Cheap: kept, not counted.
    fn counts(&self) -> BoxFuture<'static, Result<StatusCounts, StoreError>>;

    /// Queued tasks of one demand after `after` in (priority, seq) order: the ready window's supply.
    fn ready_after(
        &self,
        demand: Arc<str>,
        after: Option<(Priority, Seq)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Ready>, StoreError>>;

    /// Every demand with queued tasks (not scheduled ones), and how many by priority. For start-up.
    fn demands(&self) -> BoxFuture<'static, Result<Vec<DemandCount>, StoreError>>;

    /// Every leased task, in order. For start-up; the fleet's size bounds it.
    fn running(&self) -> BoxFuture<'static, Result<Vec<Leased>, StoreError>>;

    /// When the next scheduled task is due.
    fn next_due(&self) -> BoxFuture<'static, Result<Due, StoreError>>;

    /// Why each of a task's ended attempts went to its bot, where that is known: the attempt's number,
    /// and what [`Op::Finish`] had as `choice`.
    fn choices(&self, id: TaskId) -> BoxFuture<'static, Result<Vec<(u32, String)>, StoreError>>;

    /// What routing has learned. For start-up.
    fn learned(&self) -> BoxFuture<'static, Result<Learned, StoreError>>;

    /// Messages of a bot that are not over, the most urgent first; those it has read after them. As many as
    /// [`MAX_MESSAGES_BYTES`] hold.
    fn inbox(
        &self,
        bot: String,
        priority: Option<Priority>,
        now: Reckoning,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<MessageRecord>, StoreError>>;

    /// The newest messages between two bots, oldest first; as many as [`MAX_MESSAGES_BYTES`] hold.
    fn conversation(
        &self,
        one: String,
        other: String,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<MessageRecord>, StoreError>>;

    /// One message.
    fn message(&self, id: String) -> BoxFuture<'static, Result<Option<MessageRecord>, StoreError>>;

    /// How many messages there are, of every kind.
    fn message_counts(&self) -> BoxFuture<'static, Result<MessageCounts, StoreError>>;

    /// Bots for which messages wait, and when the next unread message is over. For start-up.
    fn awaited(&self) -> BoxFuture<'static, Result<Awaited, StoreError>>;

    /// The last record of the trail that is on disk, now and from now on.
    fn audit_head(&self) -> watch::Receiver<Link>;

    /// Records of the trail, newest first, stable under writes: `before` is [`AuditPage::next`] of the page
    /// before. Looks at no more than one should read at a time.
    fn audit(
        &self,
        filter: AuditFilter,
        before: Option<i64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<AuditPage, StoreError>>;

    /// Records of the trail after a place, oldest first.
    fn audit_after(
        &self,
        after: i64,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<AuditRecord>, StoreError>>;

    /// Goes on with a verification of the trail; `true`: everything was looked at.
    fn audit_check(
        &self,
        check: Check,
        limit: usize,
    ) -> BoxFuture<'static, Result<(Check, bool), StoreError>>;

    /// Goes on with a count of the trail.
    fn audit_tally(
        &self,
        tally: AuditTally,
        limit: usize,
    ) -> BoxFuture<'static, Result<AuditTally, StoreError>>;

    /// How many queued tasks of this demand stand before (priority, seq); counts to at most
    /// [`MAX_COUNTED_AHEAD`].
    fn ahead_of(
        &self,
        demand: Arc<str>,
        place: (Priority, Seq),
    ) -> BoxFuture<'static, Result<u64, StoreError>>;

    /// Finishes what was handed in, checkpoints and closes. Blocks, so somebody else has to go on
    /// taking the outcomes meanwhile; later writes and reads are refused.
    fn close(&self);
}

/// Operations that may wait for the writer.
pub const MAX_PENDING_OPS: usize = 65_536;

/// Texts of messages in one answer; one may always be.
pub const MAX_MESSAGES_BYTES: u64 = 8 << 20;

/// Where [`Store::ahead_of`] stops counting.
pub const MAX_COUNTED_AHEAD: u64 = 100_000;

/// The error of an attempt whose task was cancelled while it ran.
pub const CANCELLED_ERROR: &str = "cancelled";

/// The error of an attempt that [`Op::ReleaseAll`] ended.
pub const RELEASED_ERROR: &str = "deia was restarted and the bot did not come back";

/// Operations in one transaction.
pub const MAX_OPS_PER_COMMIT: usize = 1_000;

/// The outcomes of one transaction, sent after its commit.
pub type Committed = Vec<(Ticket, Result<Outcome, StoreError>)>;

/// Why the store could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk or the engine failed; nothing of the transaction was kept.
    #[error("store: {0}")]
    Failed(Arc<str>),
    /// This operation alone can't be done: a damaged row, a value that is too large. The store works.
    #[error("store: {0}")]
    Operation(Arc<str>),
    /// After a failed fsync nothing more is acknowledged: the process has to end and recover.
    #[error("store: {0}; restart deia to recover")]
    Broken(Arc<str>),
    /// Closed.
    #[error("store: closed")]
    Closed,
}

impl StoreError {
    /// Whether what is on disk is wrong, not only out of reach: a backup mends it.
    pub fn is_damage(&self) -> bool {
        match self {
            // SQLite's own word, and that of `sqlite/fault.rs`.
            Self::Failed(why) | Self::Operation(why) => {
                why.contains("malformed") || why.contains("damaged")
            }
            Self::Broken(_) | Self::Closed => false,
        }
    }
}

/// One durable act.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new task. -> [`Outcome::Submitted`], [`Outcome::Duplicate`] or [`Outcome::Conflict`]
    Submit(Box<NewTask>, Option<Lease>),
    /// Whether a task has this name, where it can't be taken now. -> [`Outcome::Duplicate`], [`Outcome::Conflict`] or
    /// [`Outcome::Gone`]
    Known {
        /// Its name.
        id: TaskId,
        /// What was asked.
        request_hash: [u8; 32],
    },
    /// Gives a queued task to a bot, if it is still queued. -> [`Outcome::Leased`], [`Outcome::Unreadable`] or
    /// [`Outcome::Gone`]
    Lease {
        /// The task.
        seq: Seq,
        /// To whom.
        lease: Lease,
        /// The caller does not have the content.
        want_content: bool,
    },
    /// Ends an attempt, if its fence is the task's current one. -> [`Outcome::Finished`] or [`Outcome::Gone`]
    Finish {
        /// The task.
        seq: Seq,
        /// The attempt.
        fence: Fence,
        /// When the backend began, where known.
        started_at: Option<Timestamp>,
        /// When.
        at: Timestamp,
        /// How.
        end: End,
        /// Why the bot had it; the caller's own text.
        choice: Option<String>,
    },
    /// Cancels a task that no bot has. -> [`Outcome::Cancelled`] or [`Outcome::NotQueued`]; [`Outcome::Gone`] when unknown
    Cancel {
        /// The task.
        id: TaskId,
        /// When.
        at: Timestamp,
    },
    /// Queues a dead, cancelled or expired task again with fresh attempts. -> [`Outcome::Requeued`],
    /// [`Outcome::NotQueued`] (its status) or [`Outcome::Gone`]
    Requeue {
        /// The task.
        id: TaskId,
        /// When.
        at: Timestamp,
    },
    /// Makes scheduled tasks whose time has come ready, the longest due first. -> [`Outcome::Promoted`]
    Promote {
        /// The wall clock: for those that wait for the time their client named.
        now: Timestamp,
        /// The steady clock: for those that wait before they are tried again.
        steady: Timestamp,
        /// At most this many.
        limit: usize,
    },
    /// Expires tasks that have waited for a bot since before `queued_before`, the longest waiting
    /// first. A task waits from when it became ready: submitted, due, retried, released or queued
    /// again. -> [`Outcome::Expired`]
    Expire {
        /// The bound.
        queued_before: Timestamp,
        /// When.
        at: Timestamp,
        /// At most this many.
        limit: usize,
    },
    /// After a start: every lease of an earlier daemon is lost, its task queued again in its old place;
    /// the attempt is `lost` and does not count as a failure. -> [`Outcome::Released`]
    ReleaseAll {
        /// When.
        at: Timestamp,
    },
    /// Removes ended tasks: those that ended before `ended_before`, and the oldest beyond `max_kept`.
    /// -> [`Outcome::Removed`]
    Retain {
        /// The bound.
        ended_before: Timestamp,
        /// Ended tasks kept at most.
        max_kept: u64,
        /// At most this many in one go.
        limit: usize,
    },
    /// What routing has learned, in place of what stood there. -> [`Outcome::Learned`]
    Learn(Vec<LearnedRow>),
    /// Under which major version of the configuration it is learned from now on.
    /// -> [`Outcome::Learned`]
    LearnUnder {
        /// The version.
        version: u32,
        /// Whether what was learned before is forgotten.
        forget: bool,
    },
    /// Messages, all or none. -> [`Outcome::Sent`] or [`Outcome::InboxFull`]
    Send {
        /// The messages.
        messages: Vec<NewMessage>,
        /// Bots that are up: what is for them is in their inbox at once.
        up: BTreeSet<String>,
        /// When.
        at: Timestamp,
        /// Unread messages from which on a bot gets no more.
        max_unread: u64,
    },
    /// What waits for a bot is in its inbox, the longest waiting first. -> [`Outcome::Delivered`]
    Deliver {
        /// The bot.
        bot: String,
        /// When.
        at: Reckoning,
        /// At most this many.
        limit: usize,
    },
    /// A message was read. -> [`Outcome::Message`], as it is now; [`Outcome::Gone`] when unknown
    ReadMessage {
        /// Its name.
        id: String,
        /// Only where it is for this bot.
        by: Option<String>,
        /// When.
        at: Reckoning,
    },
    /// A bot reads what it has unread, the most urgent first, as much as [`MAX_MESSAGES_BYTES`] hold.
    /// -> [`Outcome::Messages`]
    Drain {
        /// The bot.
        bot: String,
        /// When.
        at: Reckoning,
        /// At most this many.
        limit: usize,
    },
    /// Messages whose time is over. -> [`Outcome::MessagesExpired`]
    ExpireMessages {
        /// The time.
        now: Reckoning,
        /// At most this many.
        limit: usize,
    },
    /// Removes messages that are read or expired: those sent before this, and the oldest beyond
    /// `max_kept`. -> [`Outcome::Removed`]
    RetainMessages {
        /// The bound.
        before: Timestamp,
        /// Kept at most.
        max_kept: u64,
        /// At most this many of each in one go.
        limit: usize,
    },
    /// An act and, where it changes something, the record of it. -> what the act comes to
    Audited(Box<Audited>),
    /// The record of an act that changes nothing here. -> [`Outcome::Recorded`]
    Record(Box<Entry>),
    /// Removes records of the trail that are older than `before`, beginning with the first, once there are
    /// `limit` of them or one is older than `overdue`; an anchor and a record stand for them.
    /// -> [`Outcome::Removed`]
    Prune {
        /// The bound.
        before: Timestamp,
        /// Older than this, nothing is left for want of a full portion.
        overdue: Timestamp,
        /// At most this many.
        limit: usize,
        /// When.
        at: Timestamp,
    },
    /// The name of a signed request is taken, once and for ever. -> [`Outcome::Nonce`]
    Nonce {
        /// Of the secret it was signed with: another secret, another key.
        key: SignerKey,
        /// Its name.
        id: String,
        /// When it was signed, by its signer's clock.
        signed_at: Timestamp,
        /// Names that are remembered of one key; more are refused.
        most: u64,
    },
    /// At a start: where this store may not remember every name that was taken, because it was restored or is
    /// new, nothing that was signed up to `floor` is taken any more. -> [`Outcome::NoncesGuarded`]
    GuardNonces {
        /// The bound.
        floor: Timestamp,
    },
    /// Forgets names of requests that were signed before this. What a key has signed up to the newest of
    /// them is never taken again, whatever the clock says. -> [`Outcome::Removed`]
    RetainNonces {
        /// The bound.
        signed_before: Timestamp,
        /// Keys that are in use; of others nothing is kept once their names are forgotten.
        keys: Vec<SignerKey>,
        /// At most this many in one go.
        limit: usize,
    },
    /// Commits a row of its own, to prove that the store takes writes. -> [`Outcome::Probed`]
    Probe,
}

impl Op {
    /// What it does, whether or not it is on record.
    pub fn act(&self) -> &Self {
        match self {
            Self::Audited(audited) => &audited.op,
            op => op,
        }
    }
}

/// Whether the name of a signed request was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    /// It is taken now.
    Fresh,
    /// It was taken before.
    Repeated,
    /// It was signed no later than something that is forgotten: nobody knows whether it was taken.
    Forgotten,
    /// Too many of this key are remembered.
    TooMany,
}

/// A task as submitted.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its name.
    pub id: TaskId,
    /// SHA-256 of the request; the same name with another hash is a conflict.
    pub request_hash: [u8; 32],
    /// Its text.
    pub content: Arc<str>,
    /// How urgent.
    pub priority: Priority,
    /// What kind of work.
    pub task_type: TaskType,
    /// How large.
    pub complexity: Complexity,
    /// What a bot must offer.
    pub required_capabilities: Vec<String>,
    /// Only this bot.
    pub bot_id: Option<String>,
    /// Only this pool.
    pub pool: Option<String>,
    /// What routing groups it by (see `brain::demand`).
    pub demand: Arc<str>,
    /// Failures before it is dead.
    pub max_attempts: u32,
    /// Milliseconds one attempt may take.
    pub timeout_ms: u64,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// The caller's own, JSON text; shown, never interpreted.
    pub metadata: Option<String>,
    /// When it came.
    pub submitted_at: Timestamp,
}

/// A bot's hold on a task.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The bot.
    pub bot_id: String,
    /// Since when.
    pub at: Timestamp,
    /// What tells it, where that is known before the lease is durable.
    pub letter: Option<Arc<dyn Letter>>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum End {
    /// With a result.
    Succeeded(Box<TaskResult>),
    /// Without; the task is queued again in its old place.
    Retry {
        /// `failed` or `lost`.
        status: AttemptStatus,
        /// Why.
        error: String,
        /// Not before this time on the steady clock, see [`crate::brain::clock`].
        not_before: Option<Timestamp>,
        /// Whether it counts towards `max_attempts`.
        counts: Counts,
    },
    /// Without, for good.
    Dead {
        /// `failed` or `lost`.
        status: AttemptStatus,
        /// Why.
        error: String,
    },
    /// On request.
    Cancelled,
}

/// Whether an attempt counts towards `max_attempts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// As a failure.
    AsFailure,
    /// As a bot lost (see `supervision.poison_after`); in a row: a failure or a success ends it.
    AsLoss,
    /// Not at all.
    No,
}

impl Counts {
    /// Bots lost in a row, after an attempt that ended so.
    pub fn losses(self, before: u32) -> u32 {
        match self {
            Self::AsFailure => 0,
            Self::AsLoss => before + 1,
            Self::No => before,
        }
    }
}

/// What a bot brought.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResult {
    /// The answer.
    pub output: String,
    /// The output was cut at `limits.output_mb`.
    pub truncated: bool,
    /// What it cost.
    pub usage: Usage,
    /// Which backend answered.
    pub backend: String,
    /// Which model.
    pub model: Option<String>,
}

/// What came of an [`Op`].
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The task is durable, and leased when a lease was given (attempt 1).
    Submitted {
        /// Its place.
        seq: Seq,
    },
    /// The same request was accepted before.
    Duplicate(Box<TaskRecord>),
    /// The name belongs to another request.
    Conflict,
    /// The bot has it.
    Leased {
        /// The new attempt's number.
        attempt: u32,
        /// Failures so far, of `max_attempts`.
        failures: u32,
        /// Bots lost in a row.
        losses: u32,
        /// Where it was asked for.
        content: Option<Arc<str>>,
    },
    /// What the task is can't be read: it is dead.
    Unreadable,
    /// The attempt is ended; the task's new status.
    Finished {
        /// The status now.
        status: TaskStatus,
    },
    /// The condition did not hold; nothing was changed.
    Gone,
    /// It was waiting and is cancelled. What the window has to forget.
    Cancelled(Ready),
    /// It is not in the state this needs; its status.
    NotQueued {
        /// The status.
        status: TaskStatus,
        /// Its place, to act on a running one.
        seq: Seq,
    },
    /// It waits again.
    Requeued(Ready),
    /// These are ready now; whether more are due; when the next one is.
    Promoted {
        /// Ready now.
        ready: Vec<Ready>,
        /// The next ones' times.
        next_due: Due,
    },
    /// These are expired.
    Expired(Vec<Ready>),
    /// How many leases were released.
    Released {
        /// Tasks queued again.
        count: u64,
    },
    /// How many ended tasks were removed.
    Removed {
        /// Tasks.
        count: u64,
    },
    /// It is kept.
    Learned,
    /// They are kept.
    Sent,
    /// This bot has too many unread messages; nothing was sent.
    InboxFull {
        /// The bot.
        bot: String,
    },
    /// These are in an inbox now.
    Delivered {
        /// Their names.
        ids: Vec<String>,
        /// Those whose time was over.
        expired: Vec<String>,
        /// There may be more.
        more: bool,
    },
    /// A message as it is now.
    Message {
        /// The message.
        message: Box<MessageRecord>,
        /// Nothing waits for its bot any more.
        emptied: bool,
    },
    /// Messages as they are now, and nothing waits for their bot any more.
    Messages(Vec<MessageRecord>),
    /// These are expired.
    MessagesExpired {
        /// Their names, and whose they were.
        expired: Vec<(String, String)>,
        /// Bots for which nothing waits any more.
        emptied: Vec<String>,
        /// When the next one is over.
        next: Option<Timestamp>,
    },
    /// The record is in the trail.
    Recorded(Recorded),
    /// Whether a signed request's name was free.
    Nonce(Nonce),
    /// What was signed up to then is not taken, with whatever key; `None` where the store remembers all of it.
    NoncesGuarded {
        /// The bound.
        floor: Option<Timestamp>,
    },
    /// Writes are taken.
    Probed,
}

/// When the next tasks are due that wait for their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// Of those that were never tried: the time their client named, on the wall clock.
    pub first: Option<Timestamp>,
    /// Of those that are tried again, on the steady clock.
    pub again: Option<Timestamp>,
}

/// A queued task, as the ready window knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its place.
    pub seq: Seq,
    /// Its name.
    pub id: TaskId,
    /// What routing groups it by.
    pub demand: Arc<str>,
    /// How urgent.
    pub priority: Priority,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Milliseconds one attempt may take.
    pub timeout_ms: u64,
    /// Failures before it is dead.
    pub max_attempts: u32,
    /// What kind of work, for learning and logs.
    pub task_type: TaskType,
    /// Whether it waits for its time (then it is in no window).
    pub scheduled: bool,
    /// Whether an attempt at it has failed, or was lost with its bot.
    pub failed: bool,
    /// Bots it lost in a row.
    pub losses: u32,
}

/// A task that a bot had when the daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The task.
    pub ready: Ready,
    /// Its attempt.
    pub attempt: u32,
    /// Failures before it.
    pub failures: u32,
    /// Bots it lost in a row before it.
    pub losses: u32,
    /// Who has it.
    pub bot_id: String,
}

/// What routing has learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learned {
    /// Under which major version of the configuration; `None` before it was ever said.
    pub under: Option<u32>,
    /// The longest known first.
    pub rows: Vec<LearnedRow>,
}

/// What was learned of a bot on one kind of work.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedRow {
    /// The bot.
    pub bot: Arc<str>,
    /// The kind of work; `None` is all of them, where only `success_rate` counts.
    pub on: Option<TaskType>,
    /// Results it was learned from.
    pub samples: u64,
    /// Moving average of the time one took.
    pub seconds: f64,
    /// Moving average of the results, 0-1.
    pub success_rate: f64,
    /// When the last one came.
    pub updated_at: Timestamp,
}

/// A task as it is stored, without content and output.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// Its place.
    pub seq: Seq,
    /// Its name.
    pub id: TaskId,
    /// Where it is.
    pub status: TaskStatus,
    /// How urgent.
    pub priority: Priority,
    /// What kind of work.
    pub task_type: TaskType,
    /// How large.
    pub complexity: Complexity,
    /// What a bot must offer.
    pub required_capabilities: Vec<String>,
    /// Only this bot.
    pub bot_id: Option<String>,
    /// Only this pool.
    pub pool: Option<String>,
    /// What routing groups it by.
    pub demand: Arc<str>,
    /// Failures before it is dead.
    pub max_attempts: u32,
    /// Milliseconds one attempt may take.
    pub timeout_ms: u64,
    /// Not before this time; while it is scheduled.
    pub not_before: Option<Timestamp>,
    /// The caller's own, JSON text.
    pub metadata: Option<String>,
    /// When it came.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// The result, without its output.
    pub result: Option<ResultRecord>,
    /// The last attempt's error that had one; none once it succeeded.
    pub error: Option<String>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Counted from 1.
    pub attempt: u32,
    /// Who tried.
    pub bot_id: String,
    /// How it went.
    pub status: AttemptStatus,
    /// When the bot began (until it says so: when it got it).
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A result without its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRecord {
    /// Bytes of the output.
    pub output_bytes: u64,
    /// The output was cut.
    pub truncated: bool,
    /// What it cost.
    pub usage: Usage,
    /// Which backend answered.
    pub backend: String,
    /// Which model.
    pub model: Option<String>,
}

/// Which tasks to list. `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// In this status.
    pub status: Option<TaskStatus>,
    /// Whose last attempt this bot had, or that only this bot may have.
    pub bot: Option<String>,
    /// Of this type.
    pub task_type: Option<TaskType>,
    /// Of this priority.
    pub priority: Option<Priority>,
}

/// How many tasks are in each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusCounts {
    /// By [`TaskStatus::ALL`]'s order.
    pub by_status: [u64; 7],
}

impl StatusCounts {
    /// Tasks in this status.
    pub fn of(&self, status: TaskStatus) -> u64 {
        self.by_status[status as usize]
    }
}
