//! The store as it is meant: a list of tasks in memory, each operation as plain as it can be said.
//! Only the places (`seq`) are the engine's own, so they are taken from its outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deia::api::AuditAction;
use deia::task::{AttemptStatus, Priority, TaskId, TaskStatus};
use deia::time::Timestamp;

use crate::audit::{Actor, Anchor, Entry, Link, Pruned, hash_of};
use crate::store::audit::entries_of;
use crate::store::{
    AttemptRecord, AuditRecord, CANCELLED_ERROR, Counts, Due, End, Lease, Leased, NewTask, Nonce,
    Op, Outcome, RELEASED_ERROR, Ready, Recorded, ResultRecord, Seq, SignerKey, StatusCounts,
    TaskRecord,
};

pub(crate) struct Model {
    pub(crate) epoch: u64,
    /// In order of their places.
    pub(crate) tasks: Vec<Task>,
    /// In order of their places.
    pub(crate) trail: Vec<AuditRecord>,
    /// What stands for records that were removed.
    pub(crate) anchor: Anchor,
    /// Whether records are chained: a simulation with millions of them has no use for it.
    pub(crate) is_chained: bool,
    pub(crate) nonces: BTreeSet<(SignerKey, String, Timestamp)>,
    /// What a key, or anybody (`None`), has signed up to then is not taken.
    pub(crate) floors: BTreeMap<Option<SignerKey>, Timestamp>,
    pub(crate) nonces_of: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) record: TaskRecord,
    pub(crate) content: Arc<str>,
    pub(crate) output: Option<String>,
    pub(crate) request_hash: [u8; 32],
    since: Timestamp,
    pub(crate) failures: u32,
    pub(crate) losses: u32,
}

impl Model {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            tasks: Vec::new(),
            trail: Vec::new(),
            anchor: Anchor::default(),
            is_chained: true,
            nonces: BTreeSet::new(),
            floors: BTreeMap::new(),
            nonces_of: None,
        }
    }

    /// `seq`: the place a submission gets, if it is a new task.
    pub(crate) fn apply(&mut self, op: Op, seq: Seq) -> Outcome {
        match op {
            Op::Submit(task, lease) => self.submit(*task, lease, seq),
            Op::Lease {
                seq,
                lease,
                want_content,
            } => match self.at(seq, TaskStatus::Queued) {
                Some(task) => task.lease(lease, want_content),
                None => Outcome::Gone,
            },
            Op::Finish {
                seq,
                fence,
                started_at,
                at,
                end,
                choice: _,
            } => {
                let epoch = self.epoch;
                match self.at(seq, TaskStatus::Running) {
                    Some(task) if fence.epoch == epoch && fence.attempt == task.attempt() => {
                        task.finish(started_at, at, end)
                    }
                    _ => Outcome::Gone,
                }
            }
            Op::Cancel { id, at } => match self.named(&id) {
                None => Outcome::Gone,
                Some(task) if !task.waits() => task.not_queued(),
                Some(task) => {
                    let ready = task.ready();
                    task.end(TaskStatus::Cancelled, at);
                    Outcome::Cancelled(ready)
                }
            },
            Op::Requeue { id, at } => match self.named(&id) {
                None => Outcome::Gone,
                Some(task) if !task.ended_badly() => task.not_queued(),
                Some(task) => {
                    (task.failures, task.losses) = (0, 0);
                    task.record.ended_at = None;
                    task.wait(at, None);
                    Outcome::Requeued(task.ready())
                }
            },
            Op::Promote { now, steady, limit } => self.promote(now, steady, limit),
            Op::Expire {
                queued_before,
                at,
                limit,
            } => self.expire(queued_before, at, limit),
            Op::ReleaseAll { at } => self.release_all(at),
            Op::Retain {
                ended_before,
                max_kept,
                limit,
            } => self.retain(ended_before, max_kept, limit),
            Op::Learn(_) | Op::LearnUnder { .. } => Outcome::Learned,
            // Promises of their own, see `messages.rs`; random histories have none.
            Op::Send { .. }
            | Op::Deliver { .. }
            | Op::ReadMessage { .. }
            | Op::Drain { .. }
            | Op::ExpireMessages { .. }
            | Op::RetainMessages { .. } => Outcome::Gone,
            Op::Audited(audited) => {
                let outcome = self.apply(audited.op, seq);
                entries_of(&audited.entry, &outcome, |entry| {
                    self.record(entry);
                });
                outcome
            }
            Op::Record(entry) => Outcome::Recorded(self.record(&entry)),
            Op::Prune {
                before,
                overdue,
                limit,
                at,
            } => self.prune(before, overdue, limit, at),
            Op::Nonce {
                key,
                id,
                signed_at,
                most,
            } => Outcome::Nonce(self.nonce(key, id, signed_at, most)),
            Op::GuardNonces { floor } => {
                let is_new = self.nonces_of.replace(self.epoch) != Some(self.epoch);
                let floor = is_new.then(|| self.raise(None, floor));
                Outcome::NoncesGuarded { floor }
            }
            Op::RetainNonces {
                signed_before,
                keys: _,
                limit,
            } => {
                let mut old: Vec<_> = (self.nonces.iter())
                    .filter(|(_, _, signed)| *signed < signed_before)
                    .cloned()
                    .collect();
                old.sort_by_key(|(_, _, signed)| *signed);
                old.truncate(limit);
                for nonce in &old {
                    self.nonces.remove(nonce);
                    self.raise(Some(nonce.0), nonce.2);
                }
                let count = old.len() as u64;
                Outcome::Removed { count }
            }
            Op::Known { id, request_hash } => {
                self.known(&id, request_hash).unwrap_or(Outcome::Gone)
            }
            Op::Probe => Outcome::Probed,
        }
    }

    pub(crate) fn head(&self) -> Link {
        let last = self.trail.last();
        last.map_or(self.anchor.link, |last| Link {
            seq: last.seq,
            hash: last.hash,
        })
    }

    fn record(&mut self, entry: &Entry) -> Recorded {
        let before = self.head();
        let seq = before.seq + 1;
        let hash = match self.is_chained {
            true => hash_of(&before.hash, seq, entry, &mut Vec::new()),
            false => before.hash,
        };
        self.trail.push(AuditRecord {
            seq,
            entry: entry.clone(),
            previous: before.hash,
            hash,
        });
        Recorded {
            link: Link { seq, hash },
        }
    }

    fn prune(
        &mut self,
        before: Timestamp,
        overdue: Timestamp,
        limit: usize,
        at: Timestamp,
    ) -> Outcome {
        let old = self.trail.iter().take_while(|r| r.entry.at < before);
        let old: Vec<AuditRecord> = old.take(limit).cloned().collect();
        let Some(last) = old.last() else {
            return Outcome::Removed { count: 0 };
        };
        if old.len() < limit && old.iter().all(|r| r.entry.at >= overdue) {
            return Outcome::Removed { count: 0 };
        }
        let count = old.len() as u64;
        self.trail.drain(..old.len());
        let link = Link {
            seq: last.seq,
            hash: last.hash,
        };
        let removed = self.anchor.removed + count;
        // The head is that of what was there, also where nothing is left.
        let head = self.trail.last().map_or(link, |r| Link {
            seq: r.seq,
            hash: r.hash,
        });
        self.anchor = Anchor { link, removed };
        let mut entry = Entry::new(at, AuditAction::AuditPruned, Actor::DAEMON, "audit");
        entry.details = Some(Pruned { link, removed }.to_text());
        debug_assert_eq!(self.head(), head);
        self.record(&entry);
        Outcome::Removed { count }
    }

    fn nonce(&mut self, key: SignerKey, id: String, signed_at: Timestamp, most: u64) -> Nonce {
        let of_key = |(k, _, _): &&(SignerKey, String, Timestamp)| *k == key;
        let floors = [None, Some(key)].map(|of| self.floors.get(&of).copied());
        if floors.into_iter().flatten().any(|floor| signed_at <= floor) {
            return Nonce::Forgotten;
        }
        if self
            .nonces
            .iter()
            .filter(of_key)
            .any(|(_, other, _)| *other == id)
        {
            return Nonce::Repeated;
        }
        if self.nonces.iter().filter(of_key).count() as u64 >= most {
            return Nonce::TooMany;
        }
        self.nonces.insert((key, id, signed_at));
        Nonce::Fresh
    }

    fn raise(&mut self, of: Option<SignerKey>, to: Timestamp) -> Timestamp {
        let floor = self.floors.entry(of).or_insert(to);
        *floor = to.max(*floor);
        *floor
    }

    fn known(&mut self, id: &TaskId, request_hash: [u8; 32]) -> Option<Outcome> {
        let known = self.named(id)?;
        Some(match known.request_hash == request_hash {
            true => Outcome::Duplicate(Box::new(known.record.clone())),
            false => Outcome::Conflict,
        })
    }

    fn submit(&mut self, new: NewTask, lease: Option<Lease>, seq: Seq) -> Outcome {
        if let Some(known) = self.known(&new.id, new.request_hash) {
            return known;
        }
        let mut task = Task {
            content: new.content,
            output: None,
            request_hash: new.request_hash,
            since: new.submitted_at,
            failures: 0,
            losses: 0,
            record: TaskRecord {
                seq,
                id: new.id,
                status: TaskStatus::Queued,
                priority: new.priority,
                task_type: new.task_type,
                complexity: new.complexity,
                required_capabilities: new.required_capabilities,
                bot_id: new.bot_id,
                pool: new.pool,
                demand: new.demand,
                max_attempts: new.max_attempts,
                timeout_ms: new.timeout_ms,
                not_before: None,
                metadata: new.metadata,
                submitted_at: new.submitted_at,
                ended_at: None,
                attempts: Vec::new(),
                result: None,
                error: None,
            },
        };
        match lease {
            Some(lease) => drop(task.lease(lease, false)),
            None => task.wait(new.submitted_at, new.not_before),
        }
        self.tasks.push(task);
        Outcome::Submitted { seq }
    }

    fn promote(&mut self, now: Timestamp, steady: Timestamp, limit: usize) -> Outcome {
        let due = self.oldest(limit, |task| {
            let not_before = task.record.not_before?;
            let clock = if task.attempt() == 0 { now } else { steady };
            (not_before <= clock).then_some(not_before)
        });
        let ready = due
            .into_iter()
            .map(|index| {
                let task = &mut self.tasks[index];
                task.record.not_before = None;
                task.record.status = TaskStatus::Queued;
                if task.attempt() > 0 {
                    task.since = now;
                }
                task.ready()
            })
            .collect();
        Outcome::Promoted {
            ready,
            next_due: self.next_due(),
        }
    }

    fn expire(&mut self, queued_before: Timestamp, at: Timestamp, limit: usize) -> Outcome {
        let stale = self.oldest(limit, |task| {
            let waits = task.record.status == TaskStatus::Queued && task.since < queued_before;
            waits.then_some(task.since)
        });
        let expired = stale.into_iter().map(|index| {
            let task = &mut self.tasks[index];
            let ready = task.ready();
            task.end(TaskStatus::Expired, at);
            ready
        });
        Outcome::Expired(expired.collect())
    }

    fn release_all(&mut self, at: Timestamp) -> Outcome {
        let mut count = 0;
        for task in &mut self.tasks {
            if task.record.status == TaskStatus::Running {
                task.end_attempt(AttemptStatus::Lost, at, Some(RELEASED_ERROR.into()));
                task.wait(at, None);
                count += 1;
            }
        }
        Outcome::Released { count }
    }

    fn retain(&mut self, ended_before: Timestamp, max_kept: u64, limit: usize) -> Outcome {
        let by_age = self.oldest(usize::MAX, |task| task.record.ended_at);
        let excess = by_age.len().saturating_sub(max_kept as usize);
        let mut gone: Vec<usize> = by_age
            .into_iter()
            .enumerate()
            .filter(|(rank, index)| {
                *rank < excess || self.tasks[*index].record.ended_at < Some(ended_before)
            })
            .map(|(_, index)| index)
            .take(limit)
            .collect();
        let count = gone.len() as u64;
        gone.sort_unstable();
        for index in gone.into_iter().rev() {
            self.tasks.remove(index);
        }
        Outcome::Removed { count }
    }

    /// Indexes of the tasks that have this time, oldest first.
    fn oldest(&self, limit: usize, time: impl Fn(&Task) -> Option<Timestamp>) -> Vec<usize> {
        let mut found: Vec<(Timestamp, usize)> = self
            .tasks
            .iter()
            .enumerate()
            .filter_map(|(index, task)| Some((time(task)?, index)))
            .collect();
        found.sort_unstable();
        found
            .into_iter()
            .map(|(_, index)| index)
            .take(limit)
            .collect()
    }

    fn at(&mut self, seq: Seq, status: TaskStatus) -> Option<&mut Task> {
        self.tasks
            .iter_mut()
            .find(|task| task.record.seq == seq && task.record.status == status)
    }

    fn named(&mut self, id: &TaskId) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.record.id == *id)
    }

    pub(crate) fn next_due(&self) -> Due {
        let next = |again: bool| {
            let kind = self.tasks.iter().filter(|t| (t.attempt() > 0) == again);
            kind.filter_map(|t| t.record.not_before).min()
        };
        Due {
            first: next(false),
            again: next(true),
        }
    }

    pub(crate) fn counts(&self) -> StatusCounts {
        let mut counts = StatusCounts::default();
        for task in &self.tasks {
            counts.by_status[task.record.status as usize] += 1;
        }
        counts
    }

    /// Every leased task, in order.
    pub(crate) fn running(&self) -> Vec<Leased> {
        let running = self.tasks.iter();
        running
            .filter(|task| task.record.status == TaskStatus::Running)
            .filter_map(|task| {
                let attempt = task.record.attempts.last()?;
                Some(Leased {
                    ready: task.ready(),
                    attempt: attempt.attempt,
                    failures: task.failures,
                    losses: task.losses,
                    bot_id: attempt.bot_id.clone(),
                })
            })
            .collect()
    }

    /// Of one demand, in the order of the window.
    pub(crate) fn ready(&self, demand: &str) -> Vec<Ready> {
        let mut ready: Vec<Ready> = self
            .tasks
            .iter()
            .filter(|t| t.record.status == TaskStatus::Queued && &*t.record.demand == demand)
            .map(Task::ready)
            .collect();
        ready.sort_by_key(|r| (r.priority, r.seq));
        ready
    }

    pub(crate) fn demands(&self) -> Vec<(Arc<str>, [u64; 4])> {
        let mut names: Vec<Arc<str>> = self.tasks.iter().map(|t| t.record.demand.clone()).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let mut counts = [0; 4];
                for ready in self.ready(&name) {
                    counts[ready.priority.index()] += 1;
                }
                (name, counts)
            })
            .filter(|(_, counts)| *counts != [0; Priority::ALL.len()])
            .collect()
    }
}

impl Task {
    /// Of its last attempt.
    pub(crate) fn attempt(&self) -> u32 {
        self.record.attempts.last().map_or(0, |a| a.attempt)
    }

    fn waits(&self) -> bool {
        matches!(
            self.record.status,
            TaskStatus::Queued | TaskStatus::Scheduled
        )
    }

    fn ended_badly(&self) -> bool {
        matches!(
            self.record.status,
            TaskStatus::Dead | TaskStatus::Cancelled | TaskStatus::Expired
        )
    }

    fn not_queued(&self) -> Outcome {
        Outcome::NotQueued {
            status: self.record.status,
            seq: self.record.seq,
        }
    }

    fn wait(&mut self, at: Timestamp, not_before: Option<Timestamp>) {
        self.wait_again(at, not_before.filter(|time| *time > at));
    }

    fn wait_again(&mut self, at: Timestamp, not_before: Option<Timestamp>) {
        match not_before {
            Some(time) => {
                self.record.status = TaskStatus::Scheduled;
                self.record.not_before = Some(time);
                self.since = time;
            }
            None => {
                self.record.status = TaskStatus::Queued;
                self.since = at;
            }
        }
    }

    fn lease(&mut self, lease: Lease, want_content: bool) -> Outcome {
        let attempt = self.attempt() + 1;
        self.record.status = TaskStatus::Running;
        self.record.attempts.push(AttemptRecord {
            attempt,
            bot_id: lease.bot_id,
            status: AttemptStatus::Running,
            started_at: lease.at,
            ended_at: None,
            error: None,
        });
        Outcome::Leased {
            attempt,
            failures: self.failures,
            losses: self.losses,
            content: want_content.then(|| Arc::clone(&self.content)),
        }
    }

    fn finish(&mut self, started_at: Option<Timestamp>, at: Timestamp, end: End) -> Outcome {
        if let (Some(started_at), Some(last)) = (started_at, self.record.attempts.last_mut()) {
            last.started_at = started_at;
        }
        match end {
            End::Succeeded(result) => {
                self.end_attempt(AttemptStatus::Succeeded, at, None);
                self.record.error = None;
                self.record.result = Some(ResultRecord {
                    output_bytes: result.output.len() as u64,
                    truncated: result.truncated,
                    usage: result.usage,
                    backend: result.backend,
                    model: result.model,
                });
                self.output = Some(result.output);
                self.losses = 0;
                self.end(TaskStatus::Succeeded, at);
            }
            End::Retry {
                status,
                error,
                not_before,
                counts,
            } => {
                self.end_attempt(status, at, Some(error));
                match counts {
                    Counts::AsFailure => (self.failures, self.losses) = (self.failures + 1, 0),
                    Counts::AsLoss => self.losses += 1,
                    Counts::No => {}
                }
                self.wait_again(at, not_before);
            }
            End::Dead { status, error } => {
                self.end_attempt(status, at, Some(error));
                self.end(TaskStatus::Dead, at);
            }
            End::Cancelled => {
                self.end_attempt(AttemptStatus::Failed, at, Some(CANCELLED_ERROR.into()));
                self.end(TaskStatus::Cancelled, at);
            }
        }
        Outcome::Finished {
            status: self.record.status,
        }
    }

    fn end_attempt(&mut self, status: AttemptStatus, at: Timestamp, error: Option<String>) {
        if let Some(last) = self.record.attempts.last_mut() {
            last.status = status;
            last.ended_at = Some(at);
            last.error.clone_from(&error);
        }
        self.record.error = error.or(self.record.error.take());
    }

    fn end(&mut self, status: TaskStatus, at: Timestamp) {
        self.record.status = status;
        self.record.ended_at = Some(at);
        self.record.not_before = None;
    }

    fn ready(&self) -> Ready {
        Ready {
            seq: self.record.seq,
            id: self.record.id.clone(),
            demand: Arc::clone(&self.record.demand),
            priority: self.record.priority,
            submitted_at: self.record.submitted_at,
            timeout_ms: self.record.timeout_ms,
            max_attempts: self.record.max_attempts,
            task_type: self.record.task_type,
            scheduled: self.record.status == TaskStatus::Scheduled,
            failed: self.failures > 0 || self.losses > 0,
            losses: self.losses,
        }
    }
}
