//! The record of what happened, as the main loop keeps it: an addition or two per event, and a snapshot for
//! whoever asks. A snapshot is the record itself; what happens while somebody still has one is written into a
//! copy, so that nobody is waited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use deia::task::{TaskId, TaskStatus, TaskType};
use deia::wire;

use super::Engine;
use super::service::PROBE;
use super::tasks::{AttemptEnd, Cancel, InFlight};
use crate::brain::record::failures::Failure;
use crate::brain::record::{AttemptEnded, End, Record, Standing, Submission, error_index};
use crate::brain::scale::Asked;
use crate::daemon::command::{Observed, Refused};
use crate::store::{Committed, Ready, Ticket};

/// Batches at the store whose beginning is known; of more at once only some are measured.
const MAX_BATCHES: usize = 64;

/// What is recorded, and what is being measured.
#[derive(Debug, Default)]
pub(super) struct Recording {
    record: Arc<Record>,
    /// The last operation of each batch that the store has, and when it got it.
    batches: VecDeque<(Ticket, Duration)>,
}

/// How an attempt ended, until that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndNote {
    end: End,
    error: Option<usize>,
    ran: Option<u64>,
}

impl EndNote {
    /// Of an attempt that ends now; `ran` where its backend had begun.
    pub fn of(end: &AttemptEnd, cancel: Cancel, ran: Option<u64>) -> Self {
        let (end, error) = match end {
            AttemptEnd::Reported(wire::Outcome::Succeeded { .. }) => (End::Succeeded, None),
            _ if matches!(cancel, Cancel::Task { .. }) => (End::Cancelled, None),
            AttemptEnd::Reported(wire::Outcome::Cancelled)
            | AttemptEnd::TakenBack
            | AttemptEnd::Released
            | AttemptEnd::Held(_) => (End::Interrupted, None),
            AttemptEnd::Reported(wire::Outcome::Failed { kind, .. }) => {
                (End::Failed, Some(error_index(Some(*kind))))
            }
            AttemptEnd::BotLost { .. } => (End::Lost, Some(error_index(None))),
        };
        let ran = ran.map(|millis| millis.saturating_mul(1000));
        Self { end, error, ran }
    }
}

impl Engine {
    fn record(&mut self) -> &mut Record {
        Arc::make_mut(&mut self.recording.record)
    }

    /// A task was accepted, or why not.
    pub(super) fn note_submission(&mut self, what: Submission, task_type: TaskType) {
        let now = self.now();
        self.record().submitted(now, what, task_type);
    }

    /// A task was refused.
    pub(super) fn note_refusal(&mut self, why: &Refused, task_type: TaskType) {
        let what = match why {
            Refused::Unsuitable => Submission::Unsuitable,
            Refused::Conflict => Submission::Conflict,
            _ => Submission::Refused,
        };
        self.note_submission(what, task_type);
    }

    /// A bot was chosen.
    pub(super) fn note_choice(&mut self, microseconds: u64) {
        self.record().routing.add(microseconds);
    }

    /// A bot has a task.
    pub(super) fn note_lease(&mut self, ready: &Ready, attempt: u32) {
        let (now, wall) = (self.now(), self.wall());
        let waited = wall.as_micros() - ready.submitted_at.as_micros();
        let waited = u64::try_from(waited).unwrap_or(0);
        self.record().leased(now, &ready.id, attempt, waited);
    }

    /// A task waits from now on, though it came earlier.
    pub(super) fn note_queued_again(&mut self, task: &TaskId) {
        let now = self.now();
        self.record().queued_again(now, task);
    }

    /// A task is over without an attempt that ends with it.
    pub(super) fn note_over(&mut self, task: &TaskId, status: TaskStatus) {
        self.record().waits_no_more(task);
        self.record().finished(status);
    }

    /// An attempt's end is durable.
    pub(super) fn note_end(&mut self, attempt: &InFlight, status: TaskStatus, note: EndNote) {
        let (now, wall) = (self.now(), self.wall());
        let ended = AttemptEnded {
            task: &attempt.ready.id,
            bot: &attempt.bot,
            task_type: attempt.ready.task_type,
            end: note.end,
            error: note.error,
            ran: note.ran,
            wall,
        };
        self.record().ended(now, &ended);
        if status.is_final() {
            self.record().finished(status);
        }
    }

    /// The store is about to get what has gathered.
    pub(super) fn handed_over(&mut self) {
        if let Some((last, _)) = self.outbox.last()
            && self.recording.batches.len() < MAX_BATCHES
        {
            let batch = (*last, self.edge.since_start());
            self.recording.batches.push_back(batch);
        }
    }

    /// The store has reported.
    pub(super) fn note_commit(&mut self, outcomes: &Committed) {
        let asked = outcomes.iter().map(|(ticket, _)| *ticket);
        let Some(newest) = asked.filter(|ticket| *ticket != PROBE).max() else {
            return;
        };
        let now = self.edge.since_start();
        let recording = &mut self.recording;
        let record = Arc::make_mut(&mut recording.record);
        record.operations += outcomes.len() as u64;
        while let Some((_, since)) = recording.batches.pop_front_if(|(last, _)| *last <= newest) {
            let took = now.saturating_sub(since).as_micros();
            record.commit.add(u64::try_from(took).unwrap_or(u64::MAX));
        }
    }

    /// After a turn: how many wait.
    pub(super) fn note_what_waits(&mut self) {
        let waiting = self.dispatcher.waiting();
        if self.recording.record.day.depth() != waiting {
            let now = self.now();
            self.record().day.waiting(now, waiting);
        }
    }

    /// What happened, for whoever asks.
    pub(super) fn observed(&mut self) -> Observed {
        let (now, wall) = (self.now(), self.wall());
        self.record().day.waited(now);
        let backlogs = self.dispatcher.backlogs(wall, |_| Asked::Absent);
        let oldest = backlogs.iter().map(|backlog| backlog.oldest_seconds);
        Observed {
            record: self.recording.record.clone(),
            standing: Standing {
                waiting: self.dispatcher.waiting(),
                scheduled: u64::try_from(self.scheduled).unwrap_or(0),
                running: self.in_flight.len() as u64,
                oldest_seconds: oldest.reduce(f64::max),
            },
            now,
            wall,
        }
    }

    /// A client saw a failure.
    pub(super) fn reported(&mut self, failure: Failure) -> Observed {
        let (at, wall) = (self.now(), self.wall());
        self.record().reported(Failure {
            at,
            wall,
            ..failure
        });
        self.observed()
    }
}
