//! What an external bot says of its tasks, and what it does not say in time.

use std::collections::BTreeSet;
use std::sync::Arc;

use deia::task::{Fence, TaskId, TaskStatus};
use deia::wire::{FailureKind, Outcome};

use super::{Enders, MAX_ENDERS, OVERDUE_MARGIN};
use crate::brain::external::{Event, never_reached};
use crate::brain::millis;
use crate::daemon::command::{Refused, Reply, SignedAnswer};
use crate::daemon::engine::Engine;
use crate::daemon::engine::contacts::bounded;
use crate::daemon::engine::tasks::{AttemptEnd, AttemptPhase, Cancel, InFlight};
use crate::fleet::outputs::NotTaken;

impl Engine {
    /// Its heartbeat.
    pub(super) fn beat(&mut self, id: &Arc<str>, named: Option<&[String]>) -> SignedAnswer {
        let (now, patience) = (self.now(), self.external_patience());
        if let Some(named) = named {
            let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
            let entry = self.external.bots.get_mut(id);
            let missing: Vec<(TaskId, bool)> = entry.map_or_else(Vec::new, |entry| {
                let is_first = std::mem::take(&mut entry.owes_list);
                let running = entry.running.iter();
                let unnamed = running.filter(|(task, _)| !named.contains(task.as_str()));
                unnamed
                    .filter(|(_, given)| match given {
                        None => is_first || never_reached(None, now, patience),
                        given => never_reached(**given, now, patience),
                    })
                    .map(|(task, given)| (task.clone(), given.is_none()))
                    .collect()
            });
            for (task, of_earlier) in missing {
                let fence = self.in_flight.get(&task).map(|attempt| attempt.fence);
                let end = match of_earlier {
                    true => AttemptEnd::Released,
                    false => AttemptEnd::TakenBack,
                };
                if let Some(fence) = fence {
                    self.end_attempt(&task, fence, end);
                }
            }
        }
        let tasks: Vec<TaskId> = self
            .running_of(id)
            .into_iter()
            .map(|(task, _)| task)
            .collect();
        let is_cancelled = |task: &&TaskId| {
            let attempt = self.in_flight.get(*task);
            attempt.is_some_and(|attempt| attempt.cancel != Cancel::No)
        };
        let cancel = tasks.iter().filter(is_cancelled).cloned().collect();
        let has = |name: &String| tasks.iter().any(|task| task.as_str() == name);
        let lost = named.unwrap_or_default().iter();
        let lost = lost.filter(|name| !has(name)).cloned().collect();
        SignedAnswer::Beat {
            tasks,
            cancel,
            lost,
        }
    }

    pub(super) fn take_output(
        &mut self,
        id: &Arc<str>,
        task: &TaskId,
        fence: Fence,
        text: &str,
        offset: Option<u64>,
    ) -> Result<SignedAnswer, Refused> {
        let attempt = self.in_flight.get(task).filter(|attempt| {
            attempt.fence == fence
                && attempt.bot == *id
                && attempt.run == 0
                && attempt.phase == AttemptPhase::Running
        });
        let cancel = attempt.ok_or(Refused::LateAttempt)?.cancel != Cancel::No;
        let have = self.outputs.bytes(task, fence);
        let begins = offset.unwrap_or(have);
        let known = have.checked_sub(begins).ok_or(Refused::OutputGap(have))?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(text.len());
        let piece = text.get(known..).ok_or(Refused::OutputGap(have))?;
        match self.outputs.append(task, fence, piece) {
            Ok(()) => {}
            Err(NotTaken::Late) => return Err(Refused::LateAttempt),
            Err(NotTaken::TooMuch) => {
                let most = self.output_limit_bytes(id) as u64;
                return Err(Refused::TooMuchOutput(most));
            }
        }
        let wall = self.wall();
        if let Some(entry) = self.external.bots.get_mut(id).filter(|_| !piece.is_empty()) {
            entry.progress_at = Some(wall);
        }
        let bytes = self.outputs.bytes(task, fence);
        Ok(SignedAnswer::Output { bytes, cancel })
    }

    pub(super) fn external_end(
        &mut self,
        id: &Arc<str>,
        (task, fence): (TaskId, Fence),
        outcome: Outcome,
        output: Option<String>,
        reply: Reply<Result<SignedAnswer, Refused>>,
    ) {
        let known = self.in_flight.get(&task);
        let known = known.filter(|a| a.fence == fence && a.bot == *id && a.run == 0);
        let Some(phase) = known.map(|attempt| attempt.phase) else {
            let _ = reply.send(Err(Refused::LateAttempt));
            return;
        };
        let succeeded = matches!(outcome, Outcome::Succeeded { .. });
        if phase == AttemptPhase::Ending {
            // The same again, or something else than what ends it.
            let same = self.external.enders.get_mut(&task);
            let same = same.filter(|of| of.fence == fence && of.succeeded == succeeded);
            match same {
                Some(of) if of.waiting.len() < MAX_ENDERS => of.waiting.push(reply),
                Some(_) => drop(reply.send(Err(Refused::Busy))),
                None => drop(reply.send(Err(Refused::LateAttempt))),
            }
            return;
        }
        let most = self.output_limit_bytes(id);
        if let Some(output) = output {
            if output.len() > most {
                let _ = reply.send(Err(Refused::TooMuchOutput(most as u64)));
                return;
            }
            self.outputs.replace(&task, fence, output);
        }
        let enders = Enders {
            fence,
            succeeded,
            waiting: vec![reply],
        };
        self.external.enders.insert(task.clone(), enders);
        let outcome = bounded(outcome);
        self.end_attempt(&task, fence, AttemptEnd::Reported(outcome));
    }

    /// The end of an attempt is durable, or will never be.
    pub(in crate::daemon::engine) fn external_end_is_durable(
        &mut self,
        task: &TaskId,
        fence: Fence,
        status: Option<TaskStatus>,
    ) {
        let waits = self.external.enders.get(task);
        if waits.is_none_or(|of| of.fence != fence) {
            return;
        }
        let of = self.external.enders.remove(task);
        for reply in of.into_iter().flat_map(|of| of.waiting) {
            let answer = status.ok_or(Refused::LateAttempt);
            // Whoever asked may be gone, and asks again.
            let _ = reply.send(answer.map(|status| SignedAnswer::Ended { status }));
        }
    }

    /// What lasts too long is taken away: nobody here can end its process.
    pub(in crate::daemon::engine) fn watch_external(&mut self) {
        if self.external.is_empty() {
            return;
        }
        let now = self.now();
        let stop_timeout = millis(self.config.supervision.stop_timeout_seconds);
        let overdue = self.in_flight.values().filter_map(|attempt| {
            let is_its = attempt.run == 0 && self.external.has(&attempt.bot);
            if !is_its || attempt.phase != AttemptPhase::Running {
                return None;
            }
            let (from, end) = match attempt.cancel {
                Cancel::Task { since } | Cancel::Attempt { since } => {
                    (since.saturating_add(stop_timeout), AttemptEnd::TakenBack)
                }
                Cancel::No => {
                    let seconds = attempt.ready.timeout_ms as f64 / 1000.0;
                    let error = format!(
                        "the external bot {} did not end it within its {seconds} s",
                        attempt.bot
                    );
                    let kind = FailureKind::TimedOut;
                    let end = AttemptEnd::Reported(Outcome::Failed { error, kind });
                    (attempt.since.saturating_add(attempt.ready.timeout_ms), end)
                }
            };
            let is_over = now > from.saturating_add(OVERDUE_MARGIN);
            is_over.then(|| (attempt.ready.id.clone(), attempt.fence, end))
        });
        for (task, fence, end) in overdue.collect::<Vec<_>>() {
            tracing::warn!(event = "task_overdue", task_id = %task, attempt = fence.attempt, "an external bot does not end a task that has run out of time; it is taken away");
            self.end_attempt(&task, fence, end);
        }
    }

    /// Who cancelled was told so, and the next daemon does not know of it: what was not given up yet is taken away.
    pub(in crate::daemon::engine) fn end_cancelled_external(&mut self) {
        let is_cancelled = |attempt: &&InFlight| {
            attempt.run == 0
                && self.external.has(&attempt.bot)
                && attempt.phase == AttemptPhase::Running
                && matches!(attempt.cancel, Cancel::Task { .. })
        };
        let cancelled = self.in_flight.values().filter(is_cancelled);
        let cancelled: Vec<_> = cancelled.map(|a| (a.ready.id.clone(), a.fence)).collect();
        for (task, fence) in cancelled {
            self.end_attempt(&task, fence, AttemptEnd::TakenBack);
        }
    }

    /// An earlier daemon's lease of it.
    pub(in crate::daemon::engine) fn external_resumes(&mut self, bot: &Arc<str>, task: &TaskId) {
        let now = self.now();
        let grace = millis(self.config.supervision.orphan_grace_seconds);
        if let Some(entry) = self.external.bots.get_mut(bot) {
            entry.running.insert(task.clone(), None);
            entry.owes_list = true;
            entry.presence.on(Event::Await(grace), now);
            self.arm_external(bot);
        }
    }
}
