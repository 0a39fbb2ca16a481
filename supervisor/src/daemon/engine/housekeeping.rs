//! What is due by time: scheduled tasks, tasks that waited too long, old tasks, silent bots.

use deia::bot::ExitCause;
use deia::time::Timestamp;

use super::outcomes::Pending;
use super::tasks::{AttemptPhase, Cancel};
use super::timers::Timer;
use super::{Engine, Phase};
use crate::brain::bot::Event;
use crate::brain::{Millis, millis};
use crate::store::{Op, Ready};

/// Tasks made ready, expired or removed in one transaction.
const PORTION: usize = 1000;

/// Heartbeats a bot may miss.
const MISSED_BEATS: f64 = 3.0;

/// What a bot may take beyond a task's own time-out before it counts as stuck.
const OVERDUE_MARGIN: Millis = 5_000;

/// Between two rounds of housekeeping.
const HOUSEKEEPING: Millis = 60_000;

/// The longest sleep before the wall clock is looked at again for scheduled tasks.
const LONGEST_SLEEP: Millis = 60_000;

impl Engine {
    pub(super) fn watch_interval(&self) -> Millis {
        millis(self.config.supervision.heartbeat_seconds).max(100)
    }

    /// Bots that do not beat, and attempts that do not end, are ended.
    pub(super) fn watch(&mut self) {
        let now = self.now();
        self.timers.at(now + self.watch_interval(), Timer::Watch);
        let patience = millis(self.config.supervision.heartbeat_seconds * MISSED_BEATS).max(1_000);
        let stop_timeout = millis(self.config.supervision.stop_timeout_seconds);
        let silent = self
            .bots
            .iter()
            .filter(|(_, bot)| {
                bot.machine.takes_tasks() && now.saturating_sub(bot.seen_at()) > patience
            })
            .map(|(id, _)| id.clone());
        let overdue = self.in_flight.values().filter(|attempt| {
            let allowed = match attempt.cancel {
                Cancel::Task { since } | Cancel::Attempt { since } => since,
                Cancel::No => attempt.since.saturating_add(attempt.ready.timeout_ms),
            };
            attempt.phase == AttemptPhase::Running
                && now
                    > allowed
                        .saturating_add(stop_timeout)
                        .saturating_add(OVERDUE_MARGIN)
        });
        let mut stuck: Vec<_> = silent
            .chain(overdue.map(|attempt| attempt.bot.clone()))
            .collect();
        stuck.dedup();
        for bot in stuck {
            tracing::warn!(event = "bot_stuck", bot_id = %bot, "the bot does not answer; ending it");
            self.bot_event(&bot, Event::Stuck(ExitCause::HeartbeatTimeout));
        }
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    /// Remembers that something is due at this time.
    pub(super) fn due_at(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at
            && self.next_due.is_none_or(|next| at < next)
        {
            self.next_due = Some(at);
            self.arm_due();
        }
    }

    pub(super) fn arm_due(&mut self) {
        if let Some(at) = self.next_due {
            let wait = at.seconds_since(Timestamp::now()).max(0.0);
            // The timer runs on the monotonic clock; looking again now and then follows a wall
            // clock that was set.
            let wait = millis(wait).saturating_add(1).min(LONGEST_SLEEP);
            self.timers.at(self.now() + wait, Timer::Due);
        }
    }

    pub(super) fn promote_due(&mut self) {
        let now = Timestamp::now();
        if self.next_due.is_none() || self.store_fault.is_some() {
            // After a fault `store_again` leads back here by the next due time.
            self.retry_due_later();
            return;
        }
        if self.next_due.is_some_and(|at| at > now) {
            self.arm_due();
            return;
        }
        if !self.pending.values().any(|p| matches!(p, Pending::Promote)) {
            self.next_due = None;
            self.ask(
                Op::Promote {
                    now,
                    limit: PORTION,
                },
                Pending::Promote,
            );
        }
    }

    fn retry_due_later(&mut self) {
        if self.next_due.is_some() {
            self.timers.at(self.now() + 1_000, Timer::Due);
        }
    }

    pub(super) fn promoted(&mut self, ready: Vec<Ready>, next_due: Option<Timestamp>) {
        for ready in ready {
            self.scheduled -= 1;
            self.dispatcher.add(ready, None);
        }
        // Something earlier may have been scheduled while the transaction was under way.
        self.next_due = match (self.next_due, next_due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.arm_due();
    }

    /// Expires tasks that waited too long and removes old ones, a portion at a time.
    pub(super) fn housekeeping(&mut self) {
        self.timers
            .at(self.now() + HOUSEKEEPING, Timer::Housekeeping);
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let at = Timestamp::now();
        let rules = &self.config.tasks;
        let patience = i64::try_from(rules.queue_timeout_seconds).unwrap_or(i64::MAX);
        let expire = Op::Expire {
            queued_before: at.plus_millis(-patience.saturating_mul(1000)),
            at,
            limit: PORTION,
        };
        let retain = Op::Retain {
            ended_before: at.plus_millis(-i64::from(rules.retention_days) * 86_400_000),
            max_kept: rules.max_kept,
            limit: PORTION,
        };
        self.ask(expire, Pending::Expire);
        self.ask(retain, Pending::Retain);
        self.tend_files();
    }

    pub(super) fn expired(&mut self, expired: &[Ready]) {
        for ready in expired {
            if ready.scheduled {
                self.scheduled -= 1;
            } else {
                self.dispatcher.forget(ready);
            }
            tracing::warn!(event = "task_expired", task_id = %ready.id, "task waited longer than tasks.queue_timeout_seconds");
            self.tell_waiters(&ready.id, deia::task::TaskStatus::Expired);
        }
        if expired.len() == PORTION {
            self.timers.at(self.now() + 100, Timer::Housekeeping);
        }
    }
}
