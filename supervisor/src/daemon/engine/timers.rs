//! What the main loop has to do later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::brain::Millis;
use crate::fleet::Run;

/// Something to do later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The present state of a bot has lasted; valid while its timer number is this.
    Bot(Arc<str>, u64),
    /// A bot was ready for `healthy_seconds`, if this start of it still runs.
    Healthy(Arc<str>, Run),
    /// A bot's connection ended a while ago; valid for this start of it.
    Deaf(Arc<str>, Run),
    /// Look whether bots beat and attempts end.
    Watch,
    /// Scheduled tasks may be due; valid while this is the newest number.
    Due(u64),
    /// A lane could not be filled a moment ago.
    FillAgain(Arc<str>),
    /// Old tasks: expire, remove.
    Housekeeping,
    /// More tasks waited too long.
    ExpireMore,
    /// More ended tasks are to be removed.
    RemoveMore,
    /// More records of the trail are to be removed.
    PruneMore,
    /// Scaling is to be evaluated; valid while this is the newest number.
    Scaling(u64),
    /// Messages may be over; valid while this is the newest number.
    Mail(u64),
    /// An external bot's time may be over.
    External(Arc<str>),
    /// An external bot's request for tasks has waited long enough: which, of all.
    Wish(Arc<str>, u64),
    /// More names of signed requests are to be forgotten.
    ForgetNonces,
    /// What was learned is to be kept.
    KeepLearned,
    /// Limits that have ended are to be removed from the disk again.
    ForgetLimits,
    /// The store failed: try what is left over again.
    StoreAgain,
    /// Ask the store whether it works, for the service manager's watchdog.
    Probe,
    /// Ask the service manager for more time.
    ExtendStop,
    /// A stop has lasted long enough.
    StopNow,
    /// ... also for what SIGKILL does not end.
    GiveUp,
    /// Bots were given their time to be told.
    Leave,
}

/// Timers in order. Obsolete ones are let fire and found to be so.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Millis, Timer)>>);

impl Timers {
    /// Adds one.
    pub fn at(&mut self, at: Millis, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    /// When the next one fires.
    pub fn next_at(&self) -> Option<Millis> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next one that is due.
    pub fn due(&mut self, now: Millis) -> Option<Timer> {
        if self.next_at()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_and_not_early() {
        let mut timers = Timers::default();
        timers.at(20, Timer::StopNow);
        timers.at(10, Timer::Watch);
        assert_eq!(timers.next_at(), Some(10));
        assert_eq!(timers.due(9), None);
        assert_eq!(timers.due(25), Some(Timer::Watch));
        assert_eq!(timers.due(25), Some(Timer::StopNow));
        assert_eq!(timers.due(25), None);
    }
}
