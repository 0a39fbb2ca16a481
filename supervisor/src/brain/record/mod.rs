//! A record of what happened: counters, histograms, the last day by minutes, the last failures.
//!
//! ```text
//!   main loop --an event, some integers--> Record --a snapshot (an `Arc`)--> /metrics, /api/monitoring
//! ```
//!
//! What is kept has a fixed size, whatever happens: nothing here is made per task. Names in it are
//! those of bots and kinds of task; texts of users and bots are not kept, but for what clients say
//! in their own failure reports. It begins with the daemon and ends with it.

pub mod bots;
pub mod day;
pub mod failures;
pub mod histogram;
pub mod queue;
pub mod recent;

use std::collections::HashMap;
use std::sync::Arc;

use deia::task::{TaskId, TaskStatus, TaskType};
use deia::time::Timestamp;
use deia::wire::FailureKind;

use self::bots::Bots;
use self::day::Day;
use self::failures::{Failure, Failures};
use self::histogram::{Histogram, LONG, SHORT, TINY};
use self::recent::Recent;
use super::Millis;

/// Kinds of task.
pub const TYPES: usize = TaskType::ALL.len();

/// Ways an attempt can end.
pub const ENDS: usize = End::ALL.len();

/// Tasks that were queued again, or whose time has come, of which it is remembered since when they wait.
pub const MAX_QUEUED_AGAIN: usize = 4096;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the result.
    Succeeded,
    /// With an error, or a time-out.
    Failed,
    /// With its bot.
    Lost,
    /// Taken back: the task is tried again, and nobody failed.
    Interrupted,
    /// By its owner.
    Cancelled,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Succeeded,
        Self::Failed,
        Self::Lost,
        Self::Interrupted,
        Self::Cancelled,
    ];

    /// Its place in [`End::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// It is durable.
    Accepted,
    /// It was accepted before.
    Duplicate,
    /// Its name is another's.
    Conflict,
    /// No bot can ever do it.
    Unsuitable,
    /// Not now: drained, full, or a disk that takes nothing.
    Refused,
}

impl Submission {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Conflict,
        Self::Unsuitable,
        Self::Refused,
    ];

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Unsuitable => "unsuitable",
            Self::Refused => "refused",
        }
    }
}

/// Names of what goes wrong, in the order of [`Record::errors`].
pub const ERRORS: [&str; 5] = [
    "backend",
    "unavailable",
    "timed_out",
    "permanent",
    "bot_lost",
];

/// Which of [`ERRORS`] it is; `None` is a bot that ended.
pub const fn error_index(kind: Option<FailureKind>) -> usize {
    match kind {
        Some(FailureKind::Backend) => 0,
        Some(FailureKind::Unavailable | FailureKind::Unreachable) => 1,
        Some(FailureKind::TimedOut) => 2,
        Some(FailureKind::Permanent) => 3,
        None => 4,
    }
}

/// Which of [`TaskType::ALL`] it is.
pub fn index_of(task_type: TaskType) -> usize {
    TaskType::ALL
        .iter()
        .position(|known| *known == task_type)
        .unwrap_or(0)
}

/// How the queue stands, beside what happened.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Tasks that wait for a bot.
    pub waiting: u64,
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that bots have.
    pub running: u64,
    /// How long the oldest has waited.
    pub oldest_seconds: Option<f64>,
}

/// The end of an attempt, as it is recorded.
#[derive(Debug, Clone)]
pub struct AttemptEnded<'a> {
    /// The task.
    pub task: &'a TaskId,
    /// Whose attempt.
    pub bot: &'a Arc<str>,
    /// What kind of work.
    pub task_type: TaskType,
    /// How it ended.
    pub end: End,
    /// What went wrong, where something did: an index of [`ERRORS`].
    pub error: Option<usize>,
    /// How long it ran, in microseconds, where a backend had begun.
    pub ran: Option<u64>,
    /// As people know it.
    pub wall: Timestamp,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Record {
    /// Tasks that came, by what became of them.
    pub submissions: [u64; Submission::ALL.len()],
    /// Accepted ones by kind.
    pub accepted: [u64; TYPES],
    /// Tasks that are over, by [`TaskStatus::ALL`].
    pub finished: [u64; TaskStatus::ALL.len()],
    /// Attempts that were begun.
    pub attempts: u64,
    /// What went wrong with attempts, by [`ERRORS`].
    pub errors: [u64; ERRORS.len()],
    /// How long choosing a bot took.
    pub routing: Histogram,
    /// How long tasks waited for their bot.
    pub wait: Histogram,
    /// How long attempts took, by kind of task.
    pub execution: [Histogram; TYPES],
    /// From an operation to its report as durable.
    pub commit: Histogram,
    /// Operations of the store that were reported.
    pub operations: u64,
    /// The last waits.
    pub waits: Recent,
    /// The last times of attempts.
    pub runs: Recent,
    /// The last day.
    pub day: Day,
    /// By bot.
    pub bots: Bots,
    /// The last failures.
    pub failures: Failures,
    /// Since when tasks wait that do not since their submission.
    again: HashMap<TaskId, Millis>,
    /// Some had no place there: what is not there is not measured, until there is nothing there.
    again_overflowed: bool,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            submissions: [0; Submission::ALL.len()],
            accepted: [0; TYPES],
            finished: [0; TaskStatus::ALL.len()],
            attempts: 0,
            errors: [0; ERRORS.len()],
            routing: Histogram::new(&TINY),
            wait: Histogram::new(&LONG),
            execution: [Histogram::new(&LONG); TYPES],
            commit: Histogram::new(&SHORT),
            operations: 0,
            waits: Recent::default(),
            runs: Recent::default(),
            day: Day::default(),
            bots: Bots::default(),
            failures: Failures::default(),
            again: HashMap::new(),
            again_overflowed: false,
        }
    }
}

impl Record {
    /// A task came; its kind where it was accepted.
    pub fn submitted(&mut self, now: Millis, what: Submission, task_type: TaskType) {
        if let Some(count) = self.submissions.get_mut(what as usize) {
            *count += 1;
        }
        if what == Submission::Accepted {
            if let Some(count) = self.accepted.get_mut(index_of(task_type)) {
                *count += 1;
            }
            if let Some(minute) = self.day.at(now) {
                minute.submitted += 1;
            }
        }
    }

    /// A task is over.
    pub fn finished(&mut self, status: TaskStatus) {
        if let Some(count) = self.finished.get_mut(status as usize) {
            *count += 1;
        }
    }

    /// A task waits from now on, though it was submitted earlier.
    pub fn queued_again(&mut self, now: Millis, task: &TaskId) {
        if self.again.len() < MAX_QUEUED_AGAIN {
            self.again.insert(task.clone(), now);
        } else {
            self.again_overflowed = true;
        }
    }

    /// A task waits no more and no bot has it.
    pub fn waits_no_more(&mut self, task: &TaskId) {
        if !self.again.is_empty() {
            self.again.remove(task);
        }
    }

    /// A bot has a task. `since_submission` is how long ago it came, in microseconds.
    pub fn leased(&mut self, now: Millis, task: &TaskId, attempt: u32, since_submission: u64) {
        self.attempts += 1;
        let again = match self.again.is_empty() {
            true => None,
            false => self.again.remove(task),
        };
        let waited = match again {
            Some(since) => now.saturating_sub(since).saturating_mul(1000),
            None if attempt == 1 && !self.again_overflowed => since_submission,
            None => return,
        };
        if self.again.is_empty() {
            self.again_overflowed = false;
        }
        self.waited(now, waited);
    }

    /// A task waited so many microseconds for its bot.
    pub fn waited(&mut self, now: Millis, micros: u64) {
        self.wait.add(micros);
        self.waits.add(now, micros);
    }

    /// An attempt ended, durably.
    pub fn ended(&mut self, now: Millis, attempt: &AttemptEnded<'_>) {
        let index = index_of(attempt.task_type);
        self.day.ended(now, attempt.end, index);
        self.bots
            .ended(now, attempt.bot, attempt.end, index, attempt.ran);
        if let Some(ran) = attempt.ran {
            if let Some(histogram) = self.execution.get_mut(index) {
                histogram.add(ran);
            }
            self.runs.add(now, ran);
        }
        let Some(error) = attempt.error else { return };
        if let Some(count) = self.errors.get_mut(error) {
            *count += 1;
        }
        self.failures.add(Failure {
            at: now,
            wall: attempt.wall,
            task: attempt.task.as_str().into(),
            bot: attempt.bot.clone(),
            task_type: attempt.task_type.as_str().into(),
            kind: ERRORS.get(error).copied().unwrap_or("backend"),
            report: None,
        });
    }

    /// A client says that something failed.
    pub fn reported(&mut self, failure: Failure) {
        if let Some(minute) = self.day.at(failure.at) {
            minute.reported += 1;
        }
        self.failures.add(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> TaskId {
        name.parse().unwrap()
    }

    #[test]
    fn a_wait_begins_when_a_task_can_be_given_out() {
        let mut record = Record::default();
        record.leased(50, &task("a"), 1, 40_000);
        assert_eq!(record.wait.sum(), 40_000);
        // A second attempt, of which nobody said since when it waits.
        record.leased(60, &task("a"), 2, 50_000);
        assert_eq!(record.wait.count(), 1);
        record.queued_again(100, &task("b"));
        record.leased(107, &task("b"), 1, 3_600_000_000);
        assert_eq!((record.wait.count(), record.wait.sum()), (2, 47_000));
        assert_eq!(record.attempts, 3);
    }

    #[test]
    fn what_has_no_place_is_not_measured_wrongly() {
        let mut record = Record::default();
        for n in 0..=MAX_QUEUED_AGAIN {
            record.queued_again(0, &task(&format!("t{n}")));
        }
        assert_eq!(record.again.len(), MAX_QUEUED_AGAIN);
        record.leased(1, &task(&format!("t{MAX_QUEUED_AGAIN}")), 1, 3_600_000_000);
        assert_eq!(record.wait.count(), 0);
        for n in 0..MAX_QUEUED_AGAIN {
            record.leased(2, &task(&format!("t{n}")), 1, 3_600_000_000);
        }
        record.leased(3, &task("new"), 1, 5);
        assert_eq!(record.wait.count(), MAX_QUEUED_AGAIN as u64 + 1);
    }

    #[test]
    fn an_end_is_counted_everywhere_once() {
        let mut record = Record::default();
        let bot: Arc<str> = "b".into();
        let mut end = |end, error, ran| {
            record.ended(
                10,
                &AttemptEnded {
                    task: &task("t"),
                    bot: &bot,
                    task_type: TaskType::Writing,
                    end,
                    error,
                    ran,
                    wall: Timestamp::from_micros(0),
                },
            );
        };
        end(End::Succeeded, None, Some(7));
        end(
            End::Failed,
            Some(error_index(Some(FailureKind::TimedOut))),
            Some(9),
        );
        end(End::Lost, Some(error_index(None)), None);
        end(End::Interrupted, None, Some(1));
        let writing = index_of(TaskType::Writing);
        assert_eq!(record.execution[writing].count(), 3);
        assert_eq!(record.errors, [0, 0, 1, 0, 1]);
        let bot = record.bots.get("b").unwrap();
        assert_eq!(bot.ends[writing], [1, 1, 1, 1, 0]);
        assert_eq!(failures::totals(&record, 10), (2, 0));
        let minute = record.day.of_last(10, 0).next().unwrap();
        assert_eq!(
            (minute.succeeded, minute.failed, minute.ends[writing]),
            (1, 2, 3)
        );
    }

    #[test]
    fn names_have_their_places() {
        for (n, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end.index(), n);
        }
        for (n, status) in TaskStatus::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, n);
        }
    }
}
