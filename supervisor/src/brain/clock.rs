//! The wall clock, and how far it can be believed.
//!
//! People name times on the wall clock, so `not_before` is compared with it. But a wall clock is set: by
//! a time server after a start without one, by an operator, by a virtual machine that was asleep. What
//! the daemon itself measures must not move with it:
//!
//! | what | by |
//! |---|---|
//! | a running attempt's time-outs, restarts of bots | the monotonic clock alone |
//! | the back-off before a retry | the *steady* clock, which goes on where the wall clock jumps |
//! | how long a task has waited or has been kept | the wall clock, less the steps forward of that time |
//! | whether a message's time is over | the same, for those sent before the step ([`Reckoning`]) |
//!
//! The steady clock reads like the wall clock until that is set for the first time. It is the kernel's
//! time since boot and a constant, so daemons of one boot share it; over a boot the constant is chosen so
//! that it is as far from the wall clock as it was before.

use std::collections::VecDeque;

use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Millis;

/// Less than this is no step: clocks are read one after the other, and are steered.
const STEP_MICROS: i64 = 1_000_000;

/// The longest that a host is taken to have been off: a year.
const MAX_OFF_MICROS: i64 = 365 * 86_400_000_000;

/// Steps that are remembered.
const MAX_STEPS: usize = 32;

/// What is known of the two clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Which boot of the host `boot_at` is of.
    boot: String,
    /// What the steady clock said when the host was started, in microseconds.
    boot_at: i64,
    /// How far the wall clock is ahead of the steady one, as far as that was seen.
    ahead: i64,
    /// What the steady clock said at the last look: it never goes back, whatever the wall clock says after a boot.
    seen: Timestamp,
    steps: VecDeque<Step>,
}

/// The wall clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, on the steady clock.
    pub at: Timestamp,
    /// By how many microseconds; back where it is negative.
    pub by: i64,
}

impl Clocks {
    /// In this boot of the host, which has lasted for `up` microseconds: what an earlier daemon kept, or
    /// clocks that agree.
    pub fn new(kept: Option<Self>, boot: &str, up: i64, wall: Timestamp) -> Self {
        match kept {
            // Where it can't be told which boot it is, it is another one.
            Some(kept) if kept.is_of(boot) => kept,
            Some(kept) => kept.over_a_boot(boot, up, wall),
            None => Self {
                boot: boot.to_owned(),
                boot_at: wall.as_micros() - up,
                ahead: 0,
                seen: wall,
                steps: VecDeque::new(),
            },
        }
    }

    /// How long the host was off nobody knows. The wall clock is as wrong as it was, or was put right, whichever
    /// makes less of that time; and what was seen before was before. Where either makes years of it, it is wrong in
    /// another way.
    fn over_a_boot(mut self, boot: &str, up: i64, wall: Timestamp) -> Self {
        let seen = self.seen.as_micros();
        let right = wall.as_micros();
        let as_before = right.saturating_sub(self.ahead);
        let possible = [right, as_before].into_iter().map(|at| at - seen);
        let off = possible
            .filter(|off| (0..MAX_OFF_MICROS).contains(off))
            .min();
        let steady = seen + off.unwrap_or(0);
        self.boot = boot.to_owned();
        self.boot_at = steady - up;
        self.look(wall, Timestamp::from_micros(steady));
        self
    }

    /// Whether it is of this boot.
    pub fn is_of(&self, boot: &str) -> bool {
        self.boot == boot && !boot.is_empty()
    }

    /// What the steady clock said when it was last looked at.
    pub fn seen(&self) -> Timestamp {
        self.seen
    }

    /// The steady clock, `up` microseconds after the host was started.
    pub fn steady(&self, up: i64) -> Timestamp {
        Timestamp::from_micros(self.boot_at.saturating_add(up))
    }

    /// How far the wall clock is ahead of the steady one, in microseconds.
    pub fn ahead_micros(&self) -> i64 {
        self.ahead
    }

    /// Looks at both clocks; the step, where the wall clock was set since the last look.
    pub fn look(&mut self, wall: Timestamp, steady: Timestamp) -> Option<Step> {
        self.seen = self.seen.max(steady);
        let ahead = wall.as_micros() - steady.as_micros();
        let by = ahead - self.ahead;
        if by.abs() < STEP_MICROS {
            return None;
        }
        self.ahead = ahead;
        let step = Step { at: steady, by };
        if self.steps.len() == MAX_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
        Some(step)
    }

    /// The time on the wall clock that is surely `ago` past: of what was written down before it, `ago` has
    /// really passed. Steps forward since then count as no time; so what was written down after such a step
    /// may seem younger than it is, but nothing seems older.
    pub fn before(&self, wall: Timestamp, steady: Timestamp, ago: Millis) -> Timestamp {
        let ago = i64::try_from(ago).unwrap_or(i64::MAX);
        let since = steady.plus_millis(ago.saturating_neg());
        let recent = self.steps.iter().filter(|step| step.at >= since);
        let forward: i64 = recent.map(|step| step.by.max(0)).sum();
        Timestamp::from_micros(wall.as_micros().saturating_sub(forward))
            .plus_millis(ago.saturating_neg())
    }
}

/// By which time something is over that was begun on the wall clock, and ends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reckoning {
    /// The wall clock.
    pub now: Timestamp,
    /// What was begun before this was begun by a clock that has been set forward since.
    pub before: Timestamp,
    /// The time for that: less than `now` by as much.
    pub then: Timestamp,
}

impl Reckoning {
    /// Whether it is over.
    pub fn is_over(&self, begun: Timestamp, end: Timestamp) -> bool {
        let now = if begun < self.before {
            self.then
        } else {
            self.now
        };
        end <= now
    }

    /// When what was begun before the step and has this end is over, on the wall clock.
    pub fn end_of_earlier(&self, end: Timestamp) -> Timestamp {
        let by = self.now.as_micros().saturating_sub(self.then.as_micros());
        Timestamp::from_micros(end.as_micros().saturating_add(by))
    }
}

/// By a clock that was never set.
impl From<Timestamp> for Reckoning {
    fn from(now: Timestamp) -> Self {
        Self {
            now,
            before: Timestamp::from_micros(i64::MIN),
            then: now,
        }
    }
}

impl Clocks {
    /// How the time of what lasts `most` at most is reckoned. Of several steps all count for what was begun before the
    /// last one: nothing is over too early.
    pub fn reckoning(&self, wall: Timestamp, steady: Timestamp, most: Millis) -> Reckoning {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let since = steady.plus_millis(most.saturating_neg());
        let mut reckoning = Reckoning::from(wall);
        // What the wall clock would say had it not been set since, going back from now.
        let mut ahead = self.ahead;
        for step in self.steps.iter().rev() {
            ahead -= step.by;
            if step.at < since || step.by < 0 {
                continue;
            }
            if reckoning.then == wall {
                let at = step.at.as_micros().saturating_add(ahead);
                reckoning.before = Timestamp::from_micros(at.saturating_add(1));
            }
            let then = reckoning.then.as_micros().saturating_sub(step.by);
            reckoning.then = Timestamp::from_micros(then);
        }
        reckoning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    const HOUR: Millis = 3_600_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn clocks() -> Clocks {
        Clocks::new(None, "one", 500, at(100 * DAY))
    }

    #[test]
    fn they_agree_until_one_is_set() {
        let mut clocks = clocks();
        assert_eq!(clocks.steady(500), at(100 * DAY));
        assert_eq!(clocks.look(at(100 * DAY + 900), clocks.steady(700)), None);
        let (wall, steady) = (at(110 * DAY), clocks.steady(500));
        let step = clocks.look(wall, steady).unwrap();
        assert_eq!(step.by, 10 * DAY);
        assert_eq!(clocks.look(wall, steady), None, "it is known");
        assert_eq!(clocks.look(at(100 * DAY), steady).unwrap().by, -10 * DAY);
    }

    #[test]
    fn a_step_forward_makes_nothing_old() {
        let mut clocks = clocks();
        let hour = i64::try_from(HOUR).unwrap() * 1000;
        let wall = at(110 * DAY);
        clocks.look(wall, clocks.steady(500));
        let steady = clocks.steady(500);
        assert_eq!(clocks.before(wall, steady, HOUR), at(100 * DAY - hour));
        // After an hour nothing from before the step is younger than an hour.
        let (wall, steady) = (at(110 * DAY + hour + 1), clocks.steady(500 + hour + 1));
        assert_eq!(clocks.before(wall, steady, HOUR), at(110 * DAY + 1));
    }

    #[test]
    fn a_step_back_makes_nothing_old_either() {
        let mut clocks = clocks();
        let wall = at(90 * DAY);
        clocks.look(wall, clocks.steady(500));
        assert_eq!(clocks.before(wall, clocks.steady(500), 0), wall);
    }

    /// No time server yet, and no battery: the host comes up in another century, and is put right later.
    #[test]
    fn a_boot_with_a_clock_that_is_wrong_does_not_turn_back_the_steady_one() {
        let mut kept = clocks();
        kept.look(at(100 * DAY + 900), kept.steady(1_400));
        let mut next = Clocks::new(Some(kept.clone()), "two", 20, at(DAY));
        assert_eq!(next.steady(20), kept.seen());
        assert_eq!(next.look(at(DAY), next.steady(20)), None);
        let (wall, steady) = (at(101 * DAY), next.steady(40));
        assert_eq!(next.look(wall, steady).unwrap().by, 100 * DAY - 20);
        assert!(next.steady(50) > kept.seen());
        // Put right while the host was off.
        let mut wrong = Clocks::new(Some(kept.clone()), "two", 20, at(DAY));
        wrong.look(at(DAY + 80), wrong.steady(100));
        let soon = at(100 * DAY + 5_000);
        let right = Clocks::new(Some(wrong), "three", 20, soon);
        assert_eq!(right.steady(20), soon);
        assert!(
            right.before(soon, soon, HOUR) < at(DAY),
            "nor because of that"
        );
        assert!(
            next.before(wall, steady, HOUR) < kept.seen(),
            "nothing is old because of it"
        );
    }

    #[test]
    fn daemons_of_one_boot_share_the_steady_clock_and_the_next_boot_goes_on() {
        let mut kept = clocks();
        kept.look(at(110 * DAY), kept.steady(500));
        let same = Clocks::new(Some(kept.clone()), "one", 900, at(777 * DAY));
        assert_eq!(same, kept);
        let unknown = Clocks::new(Some(kept.clone()), "", 900, at(120 * DAY));
        assert_eq!(unknown.steady(900), at(110 * DAY));
        let next = Clocks::new(Some(kept), "two", 20, at(111 * DAY));
        assert_eq!(next.steady(20), at(101 * DAY));
    }

    #[test]
    fn what_was_begun_before_a_step_has_the_time_it_was_given() {
        const SECOND: i64 = 1_000_000;
        let most = 30 * 24 * HOUR;
        let mut clocks = clocks();
        let time = |seconds: i64| at(100 * DAY + seconds * SECOND);
        let later = |seconds: i64| at(200 * DAY + seconds * SECOND);
        assert_eq!(
            clocks.reckoning(time(5), time(5), most),
            Reckoning::from(time(5))
        );
        // Set forward at 10, seen at 40. Before it one of a minute was begun, after it one of ten seconds.
        clocks.look(later(40), time(40)).unwrap();
        let (earlier, new) = ((time(3), time(63)), (later(12), later(22)));
        let is_over = |clocks: &Clocks, seconds, (begun, end)| {
            let reckoning = clocks.reckoning(later(seconds), time(seconds), most);
            reckoning.is_over(begun, end)
        };
        for (seconds, over) in [
            (21, [false, false]),
            (22, [false, true]),
            (63, [true, true]),
        ] {
            let are = [earlier, new].map(|of| is_over(&clocks, seconds, of));
            assert_eq!(are, over, "{seconds}");
        }
        let reckoning = clocks.reckoning(later(50), time(50), most);
        assert_eq!(reckoning.end_of_earlier(earlier.1), later(63));
        // Set forward once more: what was begun in between has time enough.
        let last = |seconds: i64| at(300 * DAY + seconds * SECOND);
        clocks.look(last(70), time(70)).unwrap();
        let between = (later(60), later(90));
        for (seconds, over) in [(80, false), (91, false)] {
            let reckoning = clocks.reckoning(last(seconds), time(seconds), most);
            assert_eq!(reckoning.is_over(between.0, between.1), over, "{seconds}");
            assert!(reckoning.is_over(last(71), last(79)));
        }
        // Set back is no time that was lost; and a step of long ago is none any more.
        clocks.look(time(100), time(100)).unwrap();
        let (wall, steady) = (at(131 * DAY), at(131 * DAY));
        assert_eq!(clocks.reckoning(wall, steady, most), Reckoning::from(wall));
    }
}
