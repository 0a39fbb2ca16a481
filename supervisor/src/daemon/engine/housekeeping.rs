//! What is due by time: scheduled tasks, tasks that waited too long, old tasks, silent bots.

use std::collections::BTreeSet;

use deia::api::AuditAction;
use deia::bot::ExitCause;
use deia::time::Timestamp;

use super::edge::Job;
use super::outcomes::Pending;
use super::tasks::{AttemptPhase, Cancel};
use super::timers::Timer;
use super::{Engine, Phase};
use crate::brain::bot::Event;
use crate::brain::{Millis, millis};
use crate::store::{Due, Op, Ready};

/// Tasks made ready, expired or removed in one transaction.
const PORTION: usize = 1000;

/// What a bot may take beyond a task's own time-out before it counts as stuck.
const OVERDUE_MARGIN: Millis = 5_000;

/// What the record of an expired task says.
const EXPIRED: &str = "it waited longer than tasks.queue_timeout_seconds";

const DAY: Millis = 86_400_000;

/// Between two full portions.
const NEXT_PORTION: Millis = 100;

/// Between two rounds of housekeeping.
const HOUSEKEEPING: Millis = 60_000;

/// Between two times that the clocks are kept, where none is set.
const KEEP_CLOCKS: Millis = 3_600_000;

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
        self.look_at_clocks();
        let mut silent = Vec::new();
        for (id, bot) in &mut self.bots {
            let reader = bot.pulse.as_ref();
            let pulse = reader.and_then(|reader| self.edge.pulse(id, bot.run, reader));
            bot.heart.look(pulse, now);
            let interval = millis(bot.terms.heartbeat_seconds);
            if bot.machine.must_beat() && bot.heart.is_silent(now, interval) {
                silent.push(id.clone());
            }
        }
        let overdue = self.in_flight.values().filter(|attempt| {
            let allowed = match attempt.cancel {
                Cancel::Task { since } | Cancel::Attempt { since } => since,
                Cancel::No => attempt
                    .since
                    .saturating_add(attempt.ready.timeout_ms)
                    .saturating_sub(attempt.ran_before),
            };
            let bot = self.bots.get(&attempt.bot);
            let stop_timeout = bot.map_or(0, |bot| millis(bot.terms.stop_timeout_seconds));
            attempt.phase == AttemptPhase::Running
                && now
                    > allowed
                        .saturating_add(stop_timeout)
                        .saturating_add(OVERDUE_MARGIN)
        });
        let overdue: BTreeSet<_> = overdue.map(|attempt| attempt.bot.clone()).collect();
        for bot in silent {
            tracing::warn!(event = "bot_stuck", bot_id = %bot, "the bot's main loop does not turn; ending it");
            self.bot_event(&bot, Event::Stuck(ExitCause::HeartbeatTimeout));
        }
        for bot in overdue {
            tracing::warn!(event = "bot_stuck", bot_id = %bot, "the bot does not end a task that has run out of time; ending it");
            self.bot_event(&bot, Event::Stuck(ExitCause::TaskTimeout));
        }
        self.watch_external();
        if self.bots.values().any(|bot| bot.old_release.is_some()) {
            self.roll();
        }
        self.waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    /// Whether the wall clock was set. What is measured on it asks this first.
    pub(super) fn look_at_clocks(&mut self) {
        let (wall, steady) = (self.wall(), self.steady());
        if let Some(step) = self.clocks.look(wall, steady) {
            tracing::warn!(
                event = "clock_was_set",
                seconds = step.by as f64 / 1e6,
                "the host's clock was set; what waits and what runs is measured without it"
            );
            // At once, as at a start: whoever starts after a crash has to know of the step before he reads a time that was
            // written down after it. It is rare enough to wait for.
            self.edge.keep_clocks(&self.clocks);
            self.mail_clock_was_set();
            self.condition_stale = true;
        }
    }

    /// So that after a boot the steady clock goes on from not long ago, however wrong the wall clock is then.
    fn keep_clocks_now_and_then(&mut self) {
        let due = self.clocks_kept_at.saturating_add(KEEP_CLOCKS);
        if self.now() >= due {
            self.clocks_kept_at = self.now();
            self.edge.begin(Job::KeepClocks(self.clocks.clone()));
        }
    }

    /// What was written down before this has really been there for so long.
    pub(super) fn surely_before(&mut self, ago: Millis) -> Timestamp {
        self.look_at_clocks();
        self.clocks.before(self.wall(), self.steady(), ago)
    }

    /// A task waits for the time its client named.
    pub(super) fn due_at(&mut self, at: Option<Timestamp>) {
        let next = &mut self.next_due.first;
        if at.is_some() && (next.is_none() || at < *next) {
            *next = at;
            self.arm_due();
        }
    }

    /// A task waits before it is tried again.
    pub(super) fn due_again_at(&mut self, at: Option<Timestamp>) {
        let next = &mut self.next_due.again;
        if at.is_some() && (next.is_none() || at < *next) {
            *next = at;
            self.arm_due();
        }
    }

    pub(super) fn arm_due(&mut self) {
        let (now, steady) = (self.wall(), self.steady());
        let first = self.next_due.first.map(|at| at.seconds_since(now));
        let again = self.next_due.again.map(|at| at.seconds_since(steady));
        if let Some(wait) = first.into_iter().chain(again).reduce(f64::min) {
            // The timer runs on the monotonic clock; looking again now and then follows a wall
            // clock that was set.
            let wait = millis(wait.max(0.0)).saturating_add(1).min(LONGEST_SLEEP);
            self.due_after(wait);
        }
    }

    /// One such timer counts at a time: the newest.
    fn due_after(&mut self, wait: Millis) {
        self.due_number += 1;
        self.timers
            .at(self.now() + wait, Timer::Due(self.due_number));
    }

    /// What was due could not be made ready.
    pub(super) fn promote_again(&mut self, wait: Millis) {
        self.next_due.again = Some(self.steady());
        self.due_after(wait);
    }

    pub(super) fn promote_due(&mut self, number: u64) {
        if number != self.due_number {
            return;
        }
        let (now, steady) = (self.wall(), self.steady());
        let Due { first, again } = self.next_due;
        if self.store_fault.is_some() {
            self.due_after(1_000);
            return;
        }
        if first.is_none_or(|at| at > now) && again.is_none_or(|at| at > steady) {
            self.arm_due();
            return;
        }
        if !self.pending.values().any(|p| matches!(p, Pending::Promote)) {
            self.next_due = Due::default();
            let promote = Op::Promote {
                now,
                steady,
                limit: PORTION,
            };
            self.ask(promote, Pending::Promote);
        }
    }

    pub(super) fn promoted(&mut self, ready: Vec<Ready>, next_due: Due) {
        for ready in ready {
            self.scheduled -= 1;
            self.note_queued_again(&ready.id);
            self.dispatcher.add(ready, None);
        }
        // Something earlier may have been scheduled while the transaction was under way.
        let earlier = |a: Option<Timestamp>, b: Option<Timestamp>| a.into_iter().chain(b).min();
        self.next_due = Due {
            first: earlier(self.next_due.first, next_due.first),
            again: earlier(self.next_due.again, next_due.again),
        };
        self.arm_due();
    }

    /// Expires tasks that waited too long and removes old ones, a portion at a time.
    pub(super) fn housekeeping(&mut self) {
        self.timers
            .at(self.now() + HOUSEKEEPING, Timer::Housekeeping);
        self.expire_old();
        self.remove_old();
        self.remove_old_messages();
        self.prune_trail();
        self.forget_nonces();
        self.tend_files();
        self.keep_clocks_now_and_then();
    }

    /// A portion of the tasks that waited too long.
    pub(super) fn expire_old(&mut self) {
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let at = self.wall();
        let patience = self.config.tasks.queue_timeout_seconds;
        let expire = Op::Expire {
            queued_before: self.surely_before(patience.saturating_mul(1000)),
            at,
            limit: PORTION,
        };
        let entry = self.entry(AuditAction::TaskExpired, "").failed(EXPIRED);
        self.ask_on_record(expire, entry, Pending::Expire);
    }

    /// A portion of the tasks that ended long ago, or are too many.
    pub(super) fn remove_old(&mut self) {
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let days = u64::from(self.config.tasks.retention_days);
        let retain = Op::Retain {
            ended_before: self.surely_before(days * DAY),
            max_kept: self.config.tasks.max_kept,
            limit: PORTION,
        };
        self.ask(retain, Pending::Retain);
    }

    /// A portion of the records that are past their time: in whole portions, or what is left of them a day
    /// later, so that a quiet fleet does not write a record for each one that it removes.
    pub(super) fn prune_trail(&mut self) {
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let days = u64::from(self.config.audit.retention_days);
        let prune = Op::Prune {
            before: self.surely_before(days * DAY),
            overdue: self.surely_before((days + 1) * DAY),
            limit: PORTION,
            at: self.wall(),
        };
        self.ask(prune, Pending::Prune);
    }

    pub(super) fn pruned(&mut self, count: u64) {
        if count >= PORTION as u64 {
            self.timers.at(self.now() + NEXT_PORTION, Timer::PruneMore);
        }
    }

    pub(super) fn removed(&mut self, count: u64) {
        if count >= PORTION as u64 {
            self.timers.at(self.now() + NEXT_PORTION, Timer::RemoveMore);
        }
    }

    pub(super) fn expired(&mut self, expired: &[Ready]) {
        for ready in expired {
            if ready.scheduled {
                self.scheduled -= 1;
            } else {
                self.dispatcher.forget(ready);
            }
            tracing::warn!(event = "task_expired", task_id = %ready.id, "task waited longer than tasks.queue_timeout_seconds");
            self.note_over(&ready.id, deia::task::TaskStatus::Expired);
            self.tell_waiters(&ready.id, deia::task::TaskStatus::Expired);
        }
        if expired.len() == PORTION {
            self.timers.at(self.now() + NEXT_PORTION, Timer::ExpireMore);
        }
    }
}
