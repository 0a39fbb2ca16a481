//! The store of a simulated daemon: the conformance suite's model behind a disk that can fail.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deia::api::AuditAction;
use deia::task::{Priority, TaskId, TaskStatus, TaskType};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{mpsc, watch};

use crate::audit::{Check, Link};
use crate::brain::clock::Reckoning;
use crate::store::conformance::model::Model;
use crate::store::{
    AuditFilter, AuditPage, AuditRecord, AuditTally, Awaited, Committed, DemandCount, Due, Learned,
    LearnedRow, Leased, MessageCounts, MessageRecord, Op, Outcome, Ready, Seq, StatusCounts, Store,
    StoreError, TaskFilter, TaskRecord, Ticket,
};

/// What the engine of one daemon meets.
#[derive(Debug, Clone)]
pub(super) struct SimStore(pub Arc<Mutex<Disk>>);

/// How writes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// They do.
    Works,
    /// Nothing of a transaction is kept, and that is said.
    Fails,
    /// An fsync failed: nobody knows what is kept.
    Broken,
}

/// What is on it, and what is on its way.
pub(super) struct Disk {
    pub model: Model,
    pub learned: HashMap<(Arc<str>, Option<TaskType>), LearnedRow>,
    pub learned_under: Option<u32>,
    next_seq: Seq,
    pub health: Health,
    /// Handed in by the daemon that lives, not committed.
    pub waiting: Vec<(Ticket, Op)>,
    /// While a daemon starts: everything is committed at once and told here.
    pub at_once: Option<mpsc::Sender<Committed>>,
    /// Operations that may wait; more are given back.
    pub room: usize,
    /// Tasks whose submission is on record.
    pub on_record: BTreeSet<Arc<str>>,
    /// What the audit was switched to last, by its record.
    pub switched: Option<bool>,
    /// Tasks that retention removed.
    pub removed: BTreeSet<TaskId>,
    /// What is wrong with what was asked.
    pub complaints: Vec<String>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    pub fn new(room: usize) -> Self {
        Self {
            model: Model {
                is_chained: false,
                ..Model::new(7)
            },
            on_record: BTreeSet::new(),
            switched: None,
            learned: HashMap::new(),
            learned_under: None,
            next_seq: 1,
            health: Health::Works,
            waiting: Vec::new(),
            at_once: None,
            room,
            removed: BTreeSet::new(),
            complaints: Vec::new(),
        }
    }

    pub fn status(&self, id: &TaskId) -> Option<TaskStatus> {
        let task = self.model.tasks.iter().find(|t| t.record.id == *id)?;
        Some(task.record.status)
    }

    /// Commits these in one transaction.
    pub fn commit(&mut self, ops: Vec<(Ticket, Op)>) -> Committed {
        ops.into_iter()
            .map(|(ticket, op)| (ticket, Ok(self.apply(op))))
            .collect()
    }

    /// One operation.
    pub fn apply(&mut self, op: Op) -> Outcome {
        match op.act() {
            Op::Learn(rows) => {
                for row in rows {
                    self.learned.insert((row.bot.clone(), row.on), row.clone());
                }
            }
            Op::LearnUnder { version, forget } => {
                self.learned_under = Some(*version);
                if *forget {
                    self.learned.clear();
                }
            }
            _ => {}
        }
        let before: Vec<(TaskId, TaskStatus)> = match op.act() {
            Op::Retain { .. } => {
                let tasks = self.model.tasks.iter();
                tasks
                    .map(|t| (t.record.id.clone(), t.record.status))
                    .collect()
            }
            _ => Vec::new(),
        };
        let outcome = match op {
            // There are none here.
            Op::Deliver { .. } => Outcome::Delivered {
                ids: Vec::new(),
                expired: Vec::new(),
                more: false,
            },
            Op::ExpireMessages { .. } => Outcome::MessagesExpired {
                expired: Vec::new(),
                emptied: Vec::new(),
                next: None,
            },
            Op::RetainMessages { .. } => Outcome::Removed { count: 0 },
            op => self.model.apply(op, self.next_seq),
        };
        // Only the last one is needed to go on.
        let done = self.model.trail.len().saturating_sub(1);
        for record in &self.model.trail {
            if record.entry.action == AuditAction::TaskSubmitted {
                self.on_record.insert(record.entry.target.clone());
            }
            if &*record.entry.target == "audit" {
                let details = record.entry.details.as_deref().unwrap_or_default();
                self.switched = Some(details.contains(r#""on""#));
            }
        }
        self.model.trail.drain(..done);
        if matches!(outcome, Outcome::Submitted { .. }) {
            self.next_seq += 1;
        }
        for (id, status) in before {
            if self.status(&id).is_none() {
                if !status.is_final() {
                    self.complaints
                        .push(format!("{id} was removed while it was {status:?}"));
                }
                self.removed.insert(id);
            }
        }
        outcome
    }
}

impl SimStore {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What no engine of this simulation asks for.
fn not_asked<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    ready(Err(StoreError::Closed)).boxed()
}

fn now<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, StoreError>> {
    ready(Ok(value)).boxed()
}

impl Store for SimStore {
    fn epoch(&self) -> u64 {
        self.disk().model.epoch
    }

    fn write(&self, batch: Vec<(Ticket, Op)>) -> Result<(), Vec<(Ticket, Op)>> {
        let mut disk = self.disk();
        if let Some(to) = disk.at_once.clone() {
            let committed = disk.commit(batch);
            return to.try_send(committed).map_err(|_| Vec::new());
        }
        if disk.waiting.len() + batch.len() > disk.room {
            return Err(batch);
        }
        disk.waiting.extend(batch);
        Ok(())
    }

    fn task(&self, _: TaskId) -> BoxFuture<'static, Result<Option<TaskRecord>, StoreError>> {
        not_asked()
    }

    fn output(&self, _: TaskId) -> BoxFuture<'static, Result<Option<String>, StoreError>> {
        not_asked()
    }

    fn content(&self, _: TaskId) -> BoxFuture<'static, Result<Option<String>, StoreError>> {
        not_asked()
    }

    fn list(
        &self,
        _: TaskFilter,
        _: Option<Seq>,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<TaskRecord>, StoreError>> {
        not_asked()
    }

    fn counts(&self) -> BoxFuture<'static, Result<StatusCounts, StoreError>> {
        now(self.disk().model.counts())
    }

    fn ready_after(
        &self,
        demand: Arc<str>,
        after: Option<(Priority, Seq)>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Ready>, StoreError>> {
        let mut rows = self.disk().model.ready(&demand);
        rows.retain(|row| after.is_none_or(|after| (row.priority, row.seq) > after));
        rows.truncate(limit);
        now(rows)
    }

    fn demands(&self) -> BoxFuture<'static, Result<Vec<DemandCount>, StoreError>> {
        now(self.disk().model.demands())
    }

    fn running(&self) -> BoxFuture<'static, Result<Vec<Leased>, StoreError>> {
        now(self.disk().model.running())
    }

    fn next_due(&self) -> BoxFuture<'static, Result<Due, StoreError>> {
        now(self.disk().model.next_due())
    }

    fn choices(&self, _: TaskId) -> BoxFuture<'static, Result<Vec<(u32, String)>, StoreError>> {
        not_asked()
    }

    fn learned(&self) -> BoxFuture<'static, Result<Learned, StoreError>> {
        let disk = self.disk();
        let mut rows: Vec<LearnedRow> = disk.learned.values().cloned().collect();
        rows.sort_by(|a, b| (&a.bot, a.on).cmp(&(&b.bot, b.on)));
        let under = disk.learned_under;
        now(Learned { under, rows })
    }

    fn inbox(
        &self,
        _: String,
        _: Option<Priority>,
        _: Reckoning,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<MessageRecord>, StoreError>> {
        not_asked()
    }

    fn conversation(
        &self,
        _: String,
        _: String,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<MessageRecord>, StoreError>> {
        not_asked()
    }

    fn message(&self, _: String) -> BoxFuture<'static, Result<Option<MessageRecord>, StoreError>> {
        not_asked()
    }

    fn message_counts(&self) -> BoxFuture<'static, Result<MessageCounts, StoreError>> {
        not_asked()
    }

    fn awaited(&self) -> BoxFuture<'static, Result<Awaited, StoreError>> {
        now((Vec::new(), None))
    }

    fn audit_head(&self) -> watch::Receiver<Link> {
        watch::channel(self.disk().model.head()).1
    }

    fn audit(
        &self,
        _: AuditFilter,
        _: Option<i64>,
        _: usize,
    ) -> BoxFuture<'static, Result<AuditPage, StoreError>> {
        not_asked()
    }

    fn audit_after(
        &self,
        _: i64,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<AuditRecord>, StoreError>> {
        not_asked()
    }

    fn audit_check(
        &self,
        _: Check,
        _: usize,
    ) -> BoxFuture<'static, Result<(Check, bool), StoreError>> {
        not_asked()
    }

    fn audit_tally(
        &self,
        _: AuditTally,
        _: usize,
    ) -> BoxFuture<'static, Result<AuditTally, StoreError>> {
        not_asked()
    }

    fn ahead_of(
        &self,
        _: Arc<str>,
        _: (Priority, Seq),
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        not_asked()
    }

    fn close(&self) {}
}
