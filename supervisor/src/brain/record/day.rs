//! The last day, minute by minute. A minute in which nothing happened takes no place.

use std::collections::VecDeque;

use super::{End, TYPES};
use crate::brain::Millis;

/// A minute.
pub const MINUTE: Millis = 60_000;

/// Minutes that are kept: a day.
pub const MAX_MINUTES: u64 = 24 * 60;

/// What happened in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// Which, counted from the daemon's start.
    pub number: u64,
    /// Tasks that were accepted.
    pub submitted: u32,
    /// Attempts that succeeded.
    pub succeeded: u32,
    /// Attempts that failed or were lost with their bot.
    pub failed: u32,
    /// Failures that clients reported.
    pub reported: u32,
    /// Attempts that ended by themselves, by kind of task.
    pub ends: [u32; TYPES],
    /// Tasks that waited, times milliseconds.
    pub depth: u64,
}

/// The last day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Day {
    minutes: VecDeque<Minute>,
    /// How many wait, and since when that is so.
    depth: u64,
    since: Millis,
}

impl Day {
    /// Something happened now.
    pub fn at(&mut self, now: Millis) -> Option<&mut Minute> {
        let number = now / MINUTE;
        if self.minutes.back().is_none_or(|last| last.number < number) {
            self.minutes.push_back(Minute {
                number,
                ..Minute::default()
            });
            let oldest = number.saturating_sub(MAX_MINUTES - 1);
            while self.minutes.front().is_some_and(|m| m.number < oldest) {
                self.minutes.pop_front();
            }
        }
        self.minutes.back_mut()
    }

    /// An attempt ended.
    pub fn ended(&mut self, now: Millis, end: End, task_type: usize) {
        let Some(minute) = self.at(now) else { return };
        match end {
            End::Succeeded => minute.succeeded += 1,
            End::Failed | End::Lost => minute.failed += 1,
            End::Interrupted | End::Cancelled => return,
        }
        if let Some(ends) = minute.ends.get_mut(task_type) {
            *ends += 1;
        }
    }

    /// How many waited when that was last said.
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// So many wait now.
    pub fn waiting(&mut self, now: Millis, depth: u64) {
        if depth == self.depth {
            return;
        }
        self.waited(now);
        self.depth = depth;
    }

    /// Adds up how many waited until now.
    pub fn waited(&mut self, now: Millis) {
        if self.depth > 0 {
            // A queue that has not moved for more than a day fills the whole day.
            let mut from = self.since.max(now.saturating_sub(MAX_MINUTES * MINUTE));
            while from < now {
                let end = ((from / MINUTE + 1) * MINUTE).min(now);
                let depth = self.depth;
                if let Some(minute) = self.at(from) {
                    minute.depth = minute
                        .depth
                        .saturating_add(depth.saturating_mul(end - from));
                }
                from = end;
            }
        }
        self.since = now;
    }

    /// The minutes of the last so many milliseconds, oldest first.
    pub fn of_last(&self, now: Millis, span: Millis) -> impl Iterator<Item = &Minute> {
        let first = now.saturating_sub(span) / MINUTE;
        self.minutes.iter().filter(move |m| m.number >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_added_up_over_the_minutes() {
        let mut day = Day::default();
        day.waiting(30_000, 2);
        day.waiting(90_000, 0);
        day.waiting(600_000, 1);
        day.waited(601_000);
        let depths: Vec<_> = day
            .of_last(601_000, 600_000)
            .map(|m| (m.number, m.depth))
            .collect();
        assert_eq!(depths, [(0, 60_000), (1, 60_000), (10, 1000)]);
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut day = Day::default();
        for minute in 0..3000 {
            day.ended(minute * MINUTE, End::Succeeded, 0);
        }
        assert_eq!(day.minutes.len() as u64, MAX_MINUTES);
        day.waiting(3000 * MINUTE, 7);
        day.waited(6000 * MINUTE);
        assert_eq!(day.minutes.len() as u64, MAX_MINUTES);
        let hour = day.of_last(6000 * MINUTE, 59 * MINUTE).count();
        assert_eq!(hour, 59);
    }
}
