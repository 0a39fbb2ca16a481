//! What has to hold, whatever happens: the reference that every world is measured by.

use std::collections::{BTreeMap, BTreeSet};

use deia::config::Config;
use deia::task::{AttemptStatus, TaskId, TaskStatus};
use deia::time::Timestamp;
use deia::wire::{FailureKind, Outcome as Ending};

use super::super::overriding::Override;
use super::bots::{Key, Proc};
use super::disk::Disk;
use super::world::{World, start_of};
use crate::brain::Millis;
use crate::fleet::exits::Origin;
use crate::store::{Counts, End, Op, Outcome, Seq};

/// What is remembered to judge by.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Tasks whose clients were told that they are kept, and the hash of what they had asked.
    pub acknowledged: BTreeMap<TaskId, [u8; 32]>,
    /// Tasks that came while there was no audit.
    pub unaudited: BTreeSet<TaskId>,
    /// What bots said of attempts that they had: who, how it ended, and the answer.
    said: BTreeMap<Key, (String, Ending, String)>,
    /// Answers that counted.
    accepted: BTreeMap<Seq, u32>,
    /// Queued again by an operator, so that counts began anew.
    requeued: BTreeMap<TaskId, u32>,
    /// Waiting for their time: until when, by which clock.
    not_before: BTreeMap<Seq, (Timestamp, Clock)>,
    /// Those that have waited for their time.
    due: BTreeSet<Seq>,
    /// Since when tasks wait for a bot.
    queued: BTreeMap<Seq, Millis>,
    /// When the daemon or its disk was last not as it should be.
    pub disturbed_at: Millis,
    pub healed_at: Millis,
    pub complaints: Vec<String>,
}

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    Wall,
    Steady,
}

/// When a commit is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub millis: Millis,
    pub wall: Timestamp,
    pub steady: Timestamp,
}

/// What there was before a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    failures: u32,
    losses: u32,
    max_attempts: u32,
    status: TaskStatus,
}

impl Judge {
    fn complain(&mut self, why: String) {
        self.complaints.push(why);
    }

    /// Whether an operator has queued it again at some time.
    pub fn was_requeued(&self, id: &TaskId) -> bool {
        self.requeued.contains_key(id)
    }

    /// A bot ends an attempt that it had.
    pub fn said(&mut self, key: &Key, ending: &Ending, bot: &str, text: &str) {
        let told = (bot.to_owned(), ending.clone(), text.to_owned());
        self.said.insert(key.clone(), told);
    }

    /// Before an operation is committed.
    pub fn before(&self, op: &Op, disk: &Disk) -> Option<Before> {
        let (Op::Finish { seq, .. } | Op::Lease { seq, .. }) = op.act() else {
            return None;
        };
        let task = disk.model.tasks.iter().find(|t| t.record.seq == *seq)?;
        Some(Before {
            failures: task.failures,
            losses: task.losses,
            max_attempts: task.record.max_attempts,
            status: task.record.status,
        })
    }

    /// An operation was committed.
    pub fn committed(
        &mut self,
        op: &Op,
        before: Option<Before>,
        outcome: &Outcome,
        disk: &Disk,
        (config, now): (&Config, Now),
    ) {
        let op = op.act();
        self.judge_waiting(op, outcome, disk, (config, now));
        match (op, outcome) {
            (
                Op::Finish {
                    seq, fence, end, ..
                },
                Outcome::Finished { .. },
            ) => {
                let task = disk.model.tasks.iter().find(|t| t.record.seq == *seq);
                let (Some(task), Some(before)) = (task, before) else {
                    return self.complain(format!("an end of task {seq}, which there is not"));
                };
                let id = task.record.id.clone();
                let bot = task.record.attempts.last().map(|a| a.bot_id.clone());
                self.judge_finish(
                    (*seq, &id),
                    *fence,
                    bot.as_deref(),
                    end,
                    before,
                    (config, now),
                );
            }
            (Op::Lease { seq, .. }, Outcome::Leased { .. })
                if before.is_some_and(|before| before.status != TaskStatus::Queued) =>
            {
                self.complain(format!("task {seq} was leased while it was {before:?}"));
            }
            (Op::Requeue { id, .. }, Outcome::Requeued(_)) => {
                *self.requeued.entry(id.clone()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Nothing is made ready before its time, or long after it; nothing expires that has not waited.
    fn judge_waiting(
        &mut self,
        op: &Op,
        outcome: &Outcome,
        disk: &Disk,
        (config, now): (&Config, Now),
    ) {
        match (op, outcome) {
            (Op::Promote { .. }, Outcome::Promoted { ready, .. }) => {
                for ready in ready {
                    self.judge_promoted(ready.seq, now);
                }
            }
            (Op::Expire { .. }, Outcome::Expired(expired)) => {
                // An end that waited for the disk counts from when it was.
                let slack = 45_000;
                let patience = config.tasks.queue_timeout_seconds * 1_000;
                for ready in expired {
                    let since = self.queued.get(&ready.seq).copied();
                    let waited = since.map_or(Millis::MAX, |since| now.millis - since);
                    if waited.saturating_add(slack) < patience {
                        let id = &ready.id;
                        self.complain(format!("{id} expired after {waited} ms in the queue"));
                    }
                }
            }
            _ => {}
        }
        let touched: Vec<Seq> = match (op, outcome) {
            (_, Outcome::Submitted { seq }) => vec![*seq],
            (Op::Finish { seq, .. } | Op::Lease { seq, .. }, _) => vec![*seq],
            (_, Outcome::Cancelled(ready) | Outcome::Requeued(ready)) => vec![ready.seq],
            (_, Outcome::Promoted { ready, .. } | Outcome::Expired(ready)) => {
                ready.iter().map(|ready| ready.seq).collect()
            }
            (Op::ReleaseAll { .. }, _) => disk.model.tasks.iter().map(|t| t.record.seq).collect(),
            _ => Vec::new(),
        };
        for seq in touched {
            self.note_waiting(seq, disk, now);
        }
    }

    fn note_waiting(&mut self, seq: Seq, disk: &Disk, now: Now) {
        let Some(task) = disk.model.tasks.iter().find(|t| t.record.seq == seq) else {
            return;
        };
        match task.record.status {
            TaskStatus::Queued => {
                // One that was due while there was no daemon has waited since then.
                let was_due = task.record.attempts.is_empty() && self.due.remove(&seq);
                let since = if was_due { 0 } else { now.millis };
                self.queued.entry(seq).or_insert(since);
                self.not_before.remove(&seq);
            }
            TaskStatus::Scheduled => {
                self.due.insert(seq);
                let clock = match task.attempt() {
                    0 => Clock::Wall,
                    _ => Clock::Steady,
                };
                if let Some(at) = task.record.not_before {
                    self.not_before.insert(seq, (at, clock));
                }
                self.queued.remove(&seq);
            }
            _ => {
                self.queued.remove(&seq);
                self.not_before.remove(&seq);
            }
        }
    }

    fn judge_promoted(&mut self, seq: Seq, now: Now) {
        let Some((until, clock)) = self.not_before.remove(&seq) else {
            return self.complain(format!("task {seq} was made ready and did not wait"));
        };
        let time = match clock {
            Clock::Wall => now.wall,
            Clock::Steady => now.steady,
        };
        let late = time.seconds_since(until);
        // The commit is a moment after the look at the clock, and that may have been set since.
        if clock == Clock::Steady && late < 0.0 {
            self.complain(format!("task {seq} is tried again {} s too early", -late));
        }
        // A clock that was set is looked at within a minute.
        let quiet = (now.millis - self.disturbed_at) as f64 / 1000.0;
        if clock == Clock::Steady && late.min(quiet) > 65.0 {
            self.complain(format!("task {seq} is tried again {late} s too late"));
        }
    }

    fn judge_finish(
        &mut self,
        (seq, id): (Seq, &TaskId),
        fence: deia::task::Fence,
        bot: Option<&str>,
        end: &End,
        before: Before,
        (config, now): (&Config, Now),
    ) {
        let key = (id.clone(), fence);
        let said = self.said.get(&key).cloned();
        let holder_said = said.filter(|(who, ..)| Some(who.as_str()) == bot);
        match end {
            End::Succeeded(result) => {
                let n = self.accepted.entry(seq).or_default();
                *n += 1;
                let n = *n;
                if n > 1 {
                    self.complain(format!("{id} was accepted {n} times"));
                }
                match holder_said {
                    Some((_, Ending::Succeeded { .. }, text)) if text == result.output => {}
                    other => self.complain(format!(
                        "{id} counts as done with '{}', but its bot {bot:?} had said {other:?}",
                        result.output
                    )),
                }
            }
            End::Dead { status, error } => {
                let permanent = matches!(
                    holder_said,
                    Some((
                        _,
                        Ending::Failed {
                            kind: FailureKind::Permanent,
                            ..
                        },
                        _
                    ))
                );
                let may_die = match status {
                    AttemptStatus::Failed => {
                        permanent || before.failures + 1 >= before.max_attempts
                    }
                    AttemptStatus::Lost => before.losses + 1 >= config.supervision.poison_after,
                    AttemptStatus::Running | AttemptStatus::Succeeded => false,
                };
                if !may_die {
                    self.complain(format!("{id} is dead ({error}) after {before:?}"));
                }
            }
            End::Retry {
                not_before, counts, ..
            } => {
                let [_, most] = config.tasks.retry_backoff_seconds;
                let wait = not_before.map_or(0.0, |until| until.seconds_since(now.steady));
                if wait > most + 0.001 {
                    self.complain(format!("{id} is to wait {wait} s"));
                }
                let dead = match counts {
                    Counts::AsFailure => before.failures + 1 >= before.max_attempts,
                    // In company it is not the last one yet.
                    Counts::AsLoss => before.losses + 1 >= 3 * config.supervision.poison_after,
                    Counts::No => false,
                };
                if dead {
                    self.complain(format!("{id} is tried again after {before:?}"));
                }
            }
            End::Cancelled => {}
        }
    }
}

impl World {
    /// A bot may forget a result: then it is durable, or of no use.
    pub(super) fn judge_ack(&mut self, bot: &str, (task, fence): &Key) {
        let disk = self.disk();
        let found = disk.model.tasks.iter().find(|t| t.record.id == *task);
        let Some(found) = found else {
            return;
        };
        let current = found.record.status == TaskStatus::Running
            && found.attempt() == fence.attempt
            && disk.model.epoch == fence.epoch
            && found
                .record
                .attempts
                .last()
                .is_some_and(|a| a.bot_id == bot);
        drop(disk);
        // What it had made up about an attempt that was to come, it may forget.
        let key = (task.clone(), *fence);
        let had = self
            .judge
            .said
            .get(&key)
            .is_some_and(|(who, ..)| who == bot);
        if current && had {
            self.judge.complain(format!(
                "{bot} was told to forget attempt {} of {task}, which still runs",
                fence.attempt
            ));
        }
    }

    /// A bot is given a task: its lease is durable, and nobody else works on it.
    pub(super) fn judge_assignment(&mut self, pid: u32, (task, fence): &Key, content: &str) {
        let proc = &self.procs[&pid];
        let who = start_of(&proc.bot, proc.run);
        let disk = self.disk();
        let found = disk.model.tasks.iter().find(|t| t.record.id == *task);
        let mut wrong = Vec::new();
        match found {
            None => wrong.push(format!("{who} got {task}, which is not on disk")),
            Some(found) => {
                if *found.content != *content {
                    wrong.push(format!("{who} got {task} with '{content}'"));
                }
                if found.attempt() < fence.attempt {
                    wrong.push(format!("{who} got {task} before its lease was durable"));
                }
            }
        }
        drop(disk);
        let others = self.procs.iter().filter(|(other, _)| **other != pid);
        for (_, other) in others.filter(|(_, other)| other.works_on(task)) {
            let other = start_of(&other.bot, other.run);
            wrong.push(format!(
                "{who} got {task} (attempt {}) while {other} works on it",
                fence.attempt
            ));
        }
        for wrong in wrong {
            self.judge.complain(wrong);
        }
    }

    /// After everything that happens.
    pub(super) fn judge_all(&mut self) -> Result<(), String> {
        let mut complaints = std::mem::take(&mut self.judge.complaints);
        complaints.append(&mut self.disk().complaints);
        if std::mem::take(&mut self.turned)
            && let Some(wrong) = self.books()
        {
            complaints.push(wrong);
        }
        match complaints.is_empty() {
            true => Ok(()),
            false => Err(complaints.join("\n")),
        }
    }

    /// When nothing is on its way to the disk, what the daemon has in memory is what is on disk.
    fn books(&self) -> Option<String> {
        let engine = self.engine()?;
        let at_rest = engine.pending.is_empty()
            && engine.outbox.is_empty()
            && engine.leftovers.is_empty()
            && !engine.dispatcher.is_reading()
            && self.disk().waiting.is_empty();
        if !at_rest {
            return None;
        }
        let counts = self.disk().model.counts();
        let queued = counts.of(TaskStatus::Queued);
        if engine.dispatcher.waiting() != queued {
            let waiting = engine.dispatcher.waiting();
            return Some(format!("{queued} tasks wait on disk, {waiting} in memory"));
        }
        let scheduled = counts.of(TaskStatus::Scheduled);
        if engine.scheduled != scheduled as i64 {
            let known = engine.scheduled;
            return Some(format!("{scheduled} scheduled on disk, {known} in memory"));
        }
        let running: Vec<TaskId> = {
            let disk = self.disk();
            let mut ids: Vec<TaskId> = disk
                .model
                .running()
                .into_iter()
                .map(|leased| leased.ready.id)
                .collect();
            ids.sort();
            ids
        };
        let known: Vec<TaskId> = engine.in_flight.keys().cloned().collect();
        if known != running {
            return Some(format!("{running:?} run on disk, {known:?} in memory"));
        }
        // What is of other limits than the file's is not there for the next daemon.
        let of_today = |kept: &Override| kept.is_of(&engine.config.bot_limits);
        let kept = self.hands.shared().limits.filter(of_today);
        if engine.overriding.is_at_rest() && engine.overriding.current != kept {
            let current = engine.overriding.current;
            return Some(format!("limits on disk: {kept:?}, in force: {current:?}"));
        }
        for (id, bot) in &engine.bots {
            let held = bot.tasks.values().sum::<u32>() as usize;
            let has = engine.in_flight.values().filter(|a| a.bot == *id).count();
            let load = engine.dispatcher.load(id) as usize;
            if held != has || load != has {
                return Some(format!(
                    "{id} has {has} tasks, {held} are noted, {load} of its slots are taken"
                ));
            }
            // One of an earlier daemon may have a result that was not taken, and a new task in its place.
            // A process that is gone may have been the same start of the same bot, under an earlier daemon.
            let known =
                |proc: &&Proc| proc.alive && proc.watched.map(|(_, run, _)| run) == Some(bot.run);
            let proc = self
                .procs
                .values()
                .filter(|proc| proc.bot == **id)
                .find(known);
            let here = |proc: &Proc| matches!(proc.watched, Some((_, _, Origin::Here)));
            let takes = bot.machine.takes_tasks() && proc.is_some_and(here);
            if load > bot.terms.slots as usize && takes {
                return Some(format!(
                    "{id} has {load} tasks, and {} slots",
                    bot.terms.slots
                ));
            }
        }
        None
    }

    /// At the end: every promise was kept.
    pub(super) fn judge_end(&mut self) -> Result<(), String> {
        let disk = self.disk();
        for (id, hash) in &self.judge.acknowledged {
            if disk.removed.contains(id) {
                continue;
            }
            let task = disk.model.tasks.iter().find(|t| t.record.id == *id);
            let Some(task) = task else {
                return Err(format!("{id} was acknowledged and is lost"));
            };
            if task.request_hash != *hash {
                return Err(format!("{id} is another task now"));
            }
            let again = self.judge.requeued.get(id).copied().unwrap_or(0);
            let failed = |a: &&crate::store::AttemptRecord| {
                a.status == AttemptStatus::Failed && a.error.as_deref() != Some("cancelled")
            };
            let failures = task.record.attempts.iter().filter(failed).count() as u32;
            let unreached = |a: &&crate::store::AttemptRecord| {
                failed(a) && a.error.as_deref() == Some("Unreachable")
            };
            let unreached = task.record.attempts.iter().filter(unreached).count() as u32;
            if unreached > self.outages {
                let outages = self.outages;
                return Err(format!(
                    "{id} has failed {unreached} times for want of a server that was away {outages} times"
                ));
            }
            if failures > task.record.max_attempts * (again + 1) {
                return Err(format!("{id} has failed {failures} times"));
            }
        }
        drop(disk);
        let Some(engine) = self.engine() else {
            return Err("there is no daemon".into());
        };
        let open: Vec<_> = engine.waiters.keys().collect();
        if !open.is_empty() {
            return Err(format!("nobody told those who wait for {open:?}"));
        }
        if engine.outputs.open_count() > 0 {
            let n = engine.outputs.open_count();
            return Err(format!("{n} outputs of nothing are kept"));
        }
        // A daemon has looked at them since.
        if !self.spool.is_empty() {
            return Err(format!("results are left on disk: {:?}", self.spool.keys()));
        }
        for row in self.disk().learned.values() {
            // Of all kinds together only the rate is kept.
            let counted = row.on.is_none() || row.samples > 0;
            if !(0.0..=1.0).contains(&row.success_rate) || !counted || row.seconds < 0.0 {
                return Err(format!("what was learned is out of bounds: {row:?}"));
            }
        }
        Ok(())
    }
}
