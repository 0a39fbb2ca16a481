//! What an earlier daemon left: bots at work, leases, results on disk.
//!
//! ```text
//!   store: leased tasks      /proc: bots that live       spool: results nobody took
//!            \                        |                        /
//!             '-- bot lives: it keeps the lease until it is back and says what it has
//!             '-- bot gone, result kept: the task ends with it
//!             '-- bot gone, no result:   the task is queued again in its old place
//! ```
//!
//! A bot is not started while an earlier daemon's process of it lives. What it has when it comes back
//! it keeps, under the same lease and fence: it is not run again. What it does not have never reached
//! it, and is queued again.

use std::collections::HashMap;
use std::sync::Arc;

use deia::config::Pool;
use deia::task::{Fence, TaskId, TaskStatus};
use deia::wire::{self, Back, CancelOf, Outcome, ToWorker};
use tokio::sync::mpsc;

use super::Engine;
use super::bots::BotEntry;
use super::edge::Job;
use super::tasks::{AttemptEnd, AttemptPhase, Cancel, InFlight};
use crate::brain::bot::Event;
use crate::brain::millis;
use crate::fleet::Run;
use crate::fleet::exits::{Origin, Parent, Watched};
use crate::fleet::found::FoundBot;
use crate::fleet::results::Kept;
use crate::fleet::spawn::ProcessHandle;
use crate::store::{self, Committed, Leased, Op, StoreError};

/// The most that `limits.output_mb` allows, and what a bot may say of a cut.
const MAX_OUTPUT_BYTES: usize = (1024 << 20) + wire::OUTPUT_CHUNK_BYTES;

/// What was found when the daemon started.
#[derive(Debug, Default)]
pub struct Estate {
    /// Bots that live.
    pub bots: Vec<FoundBot>,
    /// Results that bots kept on disk.
    pub kept: Vec<Kept>,
}

/// What a bot that is back is told.
#[derive(Debug)]
pub(super) struct Reunion {
    /// What it keeps.
    pub kept: Vec<wire::Kept>,
    /// What it has to give up, and was not told.
    pub cancels: Vec<ToWorker>,
}

impl Engine {
    /// Takes over the queue and what runs.
    pub(super) async fn take_over(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
        estate: Estate,
    ) -> Result<(), StoreError> {
        self.dispatcher.configure(self.pool_facts());
        let poison_after = self.config.supervision.poison_after;
        self.dispatcher.suspect_after(poison_after);
        self.hold_pools();
        self.load_learned(committed).await?;
        self.load_mail().await?;
        let nothing_lives =
            estate.bots.is_empty() && estate.kept.is_empty() && self.external.is_empty();
        if nothing_lives {
            self.release_all(committed).await?;
        }
        for (demand, counts) in self.store.demands().await? {
            self.dispatcher.counted(&demand, counts);
        }
        self.next_due = self.store.next_due().await?;
        let counts = self.store.counts().await?;
        self.scheduled = i64::try_from(counts.of(TaskStatus::Scheduled)).unwrap_or(i64::MAX);
        if !nothing_lives {
            let leased = self.store.running().await?;
            self.settle_estate(estate, leased);
        }
        Ok(())
    }

    async fn release_all(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
    ) -> Result<(), StoreError> {
        let at = self.wall();
        if let store::Outcome::Released { count } =
            self.ask_store(committed, Op::ReleaseAll { at }).await?
            && count > 0
        {
            recovered(count);
        }
        Ok(())
    }

    fn settle_estate(&mut self, estate: Estate, leased: Vec<Leased>) {
        let mut alive: HashMap<Arc<str>, Run> = HashMap::new();
        for bot in estate.bots {
            let (id, run) = self.found(bot);
            alive.insert(id, run);
        }
        let mut orphans: Vec<(TaskId, Fence)> = Vec::new();
        for leased in leased {
            let holder = alive.get_key_value(leased.bot_id.as_str());
            let holder = holder.map(|(id, run)| (id.clone(), *run));
            // One that is somewhere else is given its time to speak again.
            let its = |bot: &str| self.external.has(bot).then(|| (bot.into(), 0));
            let holder = holder.or_else(|| its(&leased.bot_id));
            let (id, fence) = self.resume_lease(leased, holder.clone());
            if holder.is_none() {
                orphans.push((id, fence));
            }
        }
        for kept in estate.kept {
            let writer = &kept.record.writer;
            let entry = self.bots.get(writer.bot_id.as_str());
            // A bot that lives hands it in itself.
            if entry.is_none_or(|entry| entry.launch != writer.launch) {
                self.kept_result(kept);
            }
        }
        let mut released = 0;
        for (id, fence) in orphans {
            let runs = self.in_flight.get(&id).map(|attempt| attempt.phase);
            if runs == Some(AttemptPhase::Running) {
                self.end_attempt(&id, fence, AttemptEnd::Released);
                released += 1;
            }
        }
        if released > 0 {
            recovered(released);
        }
    }

    /// A bot of an earlier daemon: it is this bot until it is back, or gone.
    fn found(&mut self, found: FoundBot) -> (Arc<str>, Run) {
        let id: Arc<str> = found.bot.as_str().into();
        self.runs += 1;
        let run = self.runs;
        let pid = found.process.pid.unsigned_abs();
        let mut entry = BotEntry::new(self.pool_of(&id), self.wall());
        entry.run = run;
        entry.held = self.held.contains(&*id);
        entry.launch = found.launch;
        entry.old_release = (!found.same_program).then(|| self.now());
        let handle = found.pidfd.try_clone().map(ProcessHandle::from);
        entry.process = handle.ok().map(|handle| (pid, handle));
        entry.process_since = Some(self.wall());
        entry.identity = Some(found.process);
        let cgroups = self.evidence.cgroups.as_ref();
        entry.placed =
            cgroups.is_some_and(|cgroups| cgroups.adopt(&id, run, pid, &entry.spec.limits));
        self.bots.insert(id.clone(), entry);
        self.edge.watch(Watched {
            bot: id.clone(),
            run,
            launch: found.launch,
            pid,
            pidfd: found.pidfd,
            parent: if found.child {
                Parent::Daemon
            } else {
                Parent::Other
            },
            origin: Origin::Earlier,
        });
        tracing::info!(event = "bot_found", bot_id = %id, pid, "a bot of an earlier daemon lives; it has its time to come back");
        let patience = millis(self.config.supervision.start_timeout_seconds);
        self.bot_event(&id, Event::Found(patience));
        (id, run)
    }

    /// The pool a bot of this name belongs to; a stand-in where there is none any more.
    fn pool_of(&self, id: &str) -> Arc<Pool> {
        let numbered = |pool: &&Pool| {
            id.strip_prefix(&pool.name)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let pools = &self.config.bots;
        let pool = pools.iter().find(|pool| pool.name == id);
        match pool.or_else(|| pools.iter().find(numbered)) {
            Some(pool) => Arc::new(pool.clone()),
            None => {
                let spec = deia::config::EchoSpec::default();
                Arc::new(Pool::new(id, deia::config::BackendSpec::Echo(spec)))
            }
        }
    }

    /// A lease of an earlier daemon, with who holds it.
    fn resume_lease(&mut self, leased: Leased, holder: Option<(Arc<str>, Run)>) -> (TaskId, Fence) {
        let id = leased.ready.id.clone();
        let fence = Fence {
            epoch: self.store.epoch(),
            attempt: leased.attempt,
        };
        if let Some((bot, _)) = &holder {
            let pool = match self.external.has(bot) {
                true => Some(bot.to_string()),
                false => self.bots.get(bot).map(|entry| entry.spec.name.clone()),
            };
            self.dispatcher.hold(bot, pool.as_deref(), &leased.ready);
            self.bot_holds(bot, id.clone());
            self.external_resumes(bot, &id);
        }
        // It was started with a limit of its time, and keeps to that.
        let limit = match &holder {
            Some((bot, _)) if !self.external.has(bot) => MAX_OUTPUT_BYTES,
            _ => self.output_limit_bytes(&leased.bot_id),
        };
        let (bot, run) = holder.unwrap_or_else(|| (leased.bot_id.as_str().into(), 0));
        self.outputs.open(&id, fence, limit);
        let attempt = InFlight {
            ready: leased.ready,
            fence,
            bot,
            run,
            phase: AttemptPhase::Running,
            cancel: Cancel::No,
            failures: leased.failures,
            losses: leased.losses,
            since: self.now(),
            asked_at: self.now(),
            ran_before: 0,
            started_at: None,
            weighing: None,
        };
        self.in_flight.insert(id.clone(), attempt);
        (id, fence)
    }

    /// A bot is back: what it keeps, and from where its output is missing. What it does not have never
    /// reached it.
    pub(super) fn reunite(&mut self, id: &Arc<str>, run: Run, back: &Back) -> Reunion {
        let (now, wall) = (self.now(), self.wall());
        let mut kept = Vec::new();
        let mut cancels = Vec::new();
        for held in &back.held {
            let attempt = self.in_flight.get_mut(&held.task);
            let Some(attempt) =
                attempt.filter(|a| a.fence == held.fence && a.bot == *id && a.run == run)
            else {
                continue;
            };
            if attempt.started_at.is_none() {
                let ran = i64::try_from(held.running_ms).unwrap_or(i64::MAX);
                attempt.started_at = Some(wall.plus_millis(-ran));
                attempt.ran_before = held.running_ms;
                (attempt.since, attempt.asked_at) = (now, now);
            }
            match (attempt.cancel, held.cancelled) {
                (Cancel::No, Some(CancelOf::Task)) => attempt.cancel = Cancel::Task { since: now },
                (Cancel::No, Some(CancelOf::Attempt)) => {
                    attempt.cancel = Cancel::Attempt { since: now };
                }
                // Its word was on the way when the line broke.
                (cancel, None) => {
                    if let Some(of) = cancel.of() {
                        let (task, fence) = (held.task.clone(), held.fence);
                        cancels.push(ToWorker::Cancel { task, fence, of });
                    }
                }
                (Cancel::Task { .. }, Some(CancelOf::Attempt)) => {
                    let (task, fence) = (held.task.clone(), held.fence);
                    let of = CancelOf::Task;
                    cancels.push(ToWorker::Cancel { task, fence, of });
                }
                (Cancel::Task { .. } | Cancel::Attempt { .. }, Some(_)) => {}
            }
            kept.push(wire::Kept {
                task: held.task.clone(),
                fence: held.fence,
                bytes: self.outputs.bytes(&held.task, held.fence),
            });
        }
        self.release_what_it_has_not(id, run, &kept);
        Reunion { kept, cancels }
    }

    pub(super) fn release_what_it_has_not(&mut self, id: &Arc<str>, run: Run, kept: &[wire::Kept]) {
        let of_bot = self.in_flight.values().filter(|attempt| {
            attempt.bot == *id && attempt.run == run && attempt.phase == AttemptPhase::Running
        });
        let missing: Vec<(TaskId, Fence)> = of_bot
            .filter(|attempt| !kept.iter().any(|kept| kept.task == attempt.ready.id))
            .map(|attempt| (attempt.ready.id.clone(), attempt.fence))
            .collect();
        for (task, fence) in missing {
            self.end_attempt(&task, fence, AttemptEnd::Released);
        }
    }

    /// A result that a bot had kept on disk: it counts if its attempt still does.
    pub(super) fn kept_result(&mut self, kept: Kept) {
        let record = kept.record;
        let attempt = self.in_flight.get_mut(&record.task);
        let Some(attempt) =
            attempt.filter(|a| a.fence == record.fence && a.phase == AttemptPhase::Running)
        else {
            tracing::info!(event = "late_result_refused", bot_id = %record.writer.bot_id, task_id = %record.task, attempt = record.fence.attempt, "a result on disk is of no use any more");
            self.edge.begin(Job::PutAway(kept.path));
            return;
        };
        if record.cancelled == Some(CancelOf::Task) {
            attempt.cancel = Cancel::Task { since: 0 };
        }
        tracing::info!(event = "result_taken_over", bot_id = %record.writer.bot_id, task_id = %record.task, attempt = record.fence.attempt, "a bot had finished this task while there was no daemon");
        self.outputs
            .replace(&record.task, record.fence, record.output);
        self.on_disk.insert(record.task.clone(), kept.path);
        let end = match record.outcome {
            Outcome::Cancelled => AttemptEnd::Reported(Outcome::Cancelled),
            outcome => AttemptEnd::Reported(super::contacts::bounded(outcome)),
        };
        self.end_attempt(&record.task, record.fence, end);
    }
}

fn recovered(count: u64) {
    tracing::warn!(
        event = "tasks_recovered",
        count,
        "tasks that an earlier daemon had given to bots are queued again"
    );
}
