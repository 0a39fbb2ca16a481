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

/// From when a clock is set until that is seen, at most: what was begun meanwhile was begun by the new one.
const UNSEEN_MICROS: i64 = 60_000_000;

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
        if self.steps.len() == MAX_STEPS
            && let Some(oldest) = self.steps.pop_front()
            && let Some(next) = self.steps.front_mut()
        {
            // Both as one: what was begun before either of them is younger than it seems by no more.
            next.by = next.by.saturating_add(oldest.by.max(0));
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reckoning {
    /// The wall clock.
    pub now: Timestamp,
    /// Its readings between one step and the next, which may overlap; none where it was never set.
    spans: Vec<Span>,
}

/// What the wall clock has said between two steps, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: i64,
    until: i64,
    /// How far it was set forward since; back where it is negative.
    moved: i64,
}

impl Reckoning {
    /// Whether it is over.
    pub fn is_over(&self, begun: Timestamp, end: Timestamp) -> bool {
        self.end_now(begun, end) <= self.now
    }

    /// When what was begun and was to end at these readings is over, as the wall clock is now. Where it has said
    /// `begun` more than once, the later of the ends: nothing is over too early.
    pub fn end_now(&self, begun: Timestamp, end: Timestamp) -> Timestamp {
        let begun = begun.as_micros();
        let may_be = |span: &&Span| (span.from..=span.until).contains(&begun);
        let moved = self.spans.iter().filter(may_be).map(|span| span.moved);
        // Between two of them it goes on with the earlier one, whose end was not seen: before the host was off.
        let moved = moved.max().unwrap_or_else(|| self.moved_below(begun));
        Timestamp::from_micros(end.as_micros().saturating_add(moved))
    }

    /// Whether the clock was set, so that ends are not in the order of their readings.
    pub fn was_set(&self) -> bool {
        !self.spans.is_empty()
    }

    /// What ends up to this reading is over, whenever it was begun.
    pub fn surely_over(&self) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros().saturating_sub(self.most_moved()))
    }

    /// What ends after this reading is not over, whenever it was begun.
    pub fn maybe_over(&self) -> Timestamp {
        let least = self.spans.iter().map(|span| span.moved).min().unwrap_or(0);
        Timestamp::from_micros(self.now.as_micros().saturating_sub(least))
    }

    fn moved_below(&self, begun: i64) -> i64 {
        let below = self.spans.iter().filter(|span| span.until < begun);
        let nearest = below.max_by_key(|span| (span.until, span.moved));
        nearest.map_or(0, |span| span.moved)
    }

    fn most_moved(&self) -> i64 {
        self.spans.iter().map(|span| span.moved).max().unwrap_or(0)
    }
}

/// By a clock that was never set.
impl From<Timestamp> for Reckoning {
    fn from(now: Timestamp) -> Self {
        let spans = Vec::new();
        Self { now, spans }
    }
}

impl Clocks {
    /// How the time of what lasts `most` at most is reckoned.
    pub fn reckoning(&self, wall: Timestamp, steady: Timestamp, most: Millis) -> Reckoning {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let since = steady.plus_millis(most.saturating_neg());
        let mut reckoning = Reckoning::from(wall);
        // Going back from now: how far the clock was ahead, and its last reading.
        let mut ahead = self.ahead;
        let mut until = wall.as_micros().saturating_add(UNSEEN_MICROS);
        for step in self.steps.iter().rev().take_while(|s| s.at >= since) {
            let at = step.at.as_micros();
            reckoning.spans.push(Span {
                from: at.saturating_add(ahead).saturating_sub(UNSEEN_MICROS),
                until,
                moved: self.ahead.saturating_sub(ahead),
            });
            ahead = ahead.saturating_sub(step.by);
            // Off by less than a step.
            until = at.saturating_add(ahead).saturating_add(STEP_MICROS);
        }
        if reckoning.was_set() {
            let is_first = |step: &Step| step.at >= since;
            let of_several =
                self.steps.len() == MAX_STEPS && self.steps.front().is_some_and(is_first);
            reckoning.spans.push(Span {
                from: i64::MIN,
                // What it has said between steps that count as one is not known.
                until: if of_several { i64::MAX } else { until },
                moved: self.ahead.saturating_sub(ahead),
            });
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
        // What was begun in the last hour before the power was cut, which nobody has written down, ends all the same.
        let (begun, end) = (at(100 * DAY + 3_000_000_000), at(100 * DAY + 3_600_000_000));
        let later = |micros: i64| {
            next.reckoning(
                at(101 * DAY + micros),
                next.steady(40 + micros),
                30 * 24 * HOUR,
            )
        };
        assert!(!later(0).is_over(begun, end));
        assert!(later(DAY + 3_600_000_000).is_over(begun, end));
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
        assert_eq!(reckoning.end_now(earlier.0, earlier.1), later(63));
        // Set forward once more, by little: what was begun in between has that little more, and no more.
        let last = |seconds: i64| at(200 * DAY + (seconds + 2) * SECOND);
        clocks.look(last(70), time(70)).unwrap();
        let between = (later(60), later(90));
        for (seconds, over) in [(89, false), (90, true)] {
            let reckoning = clocks.reckoning(last(seconds), time(seconds), most);
            assert_eq!(reckoning.is_over(between.0, between.1), over, "{seconds}");
            assert!(reckoning.is_over(last(71), last(79)));
            assert!(reckoning.is_over(earlier.0, earlier.1));
        }
        // A step of long ago is none any more.
        clocks.look(time(100), time(100)).unwrap();
        let (wall, steady) = (at(131 * DAY), at(131 * DAY));
        assert_eq!(clocks.reckoning(wall, steady, most), Reckoning::from(wall));
    }

    /// What was begun by a wrong clock has its time too, and what came back as if it had never been away.
    #[test]
    fn a_clock_that_is_put_right_ends_what_was_begun_meanwhile_in_its_time() {
        const SECOND: i64 = 1_000_000;
        let most = 30 * 24 * HOUR;
        let mut clocks = clocks();
        let time = |seconds: i64| at(100 * DAY + seconds * SECOND);
        let wrong = |seconds: i64| at(200 * DAY + seconds * SECOND);
        clocks.look(wrong(40), time(40)).unwrap();
        clocks.look(time(50), time(50)).unwrap();
        for (begun, end) in [
            (time(3), time(63)),
            (wrong(45), wrong(63)),
            (time(51), time(63)),
        ] {
            for (seconds, over) in [(62, false), (63, true)] {
                let reckoning = clocks.reckoning(time(seconds), time(seconds), most);
                assert_eq!(reckoning.is_over(begun, end), over, "{begun:?} {seconds}");
            }
        }
    }

    /// The reading of the clock at the beginning says the wrong end, as it said it twice.
    #[test]
    fn of_two_ends_the_later_one_counts() {
        const SECOND: i64 = 1_000_000;
        let mut clocks = clocks();
        let time = |seconds: i64| at(100 * DAY + seconds * SECOND);
        clocks.look(time(200 - 600), time(200)).unwrap();
        clocks.look(time(300 - 600 + 10_000), time(300)).unwrap();
        let is_over = |seconds: i64, begun, end| {
            let wall = time(seconds + 9_400);
            let reckoning = clocks.reckoning(wall, time(seconds), 30 * 24 * HOUR);
            reckoning.is_over(begun, end)
        };
        assert!(!is_over(3_699, time(100), time(3_700)));
        assert!(is_over(100 + 3_600 + 600, time(100), time(3_700)));
    }

    /// Two programs that set it in turn: what is forgotten adds up to nothing.
    #[test]
    fn a_clock_that_is_set_to_and_fro_for_long_is_not_ever_more_wrong() {
        const SECOND: i64 = 1_000_000;
        const MINUTE: i64 = 60 * SECOND;
        let mut clocks = clocks();
        let by = |n: i64| n % 2 * 2 * SECOND;
        let wall = |n: i64| at(100 * DAY + n * MINUTE + by(n));
        let steady = |n: i64| at(100 * DAY + n * MINUTE);
        for n in 1..=2_000 {
            clocks.look(wall(n), steady(n)).unwrap();
        }
        let before = clocks.before(wall(2_000), steady(2_000), HOUR);
        assert!(before > at(100 * DAY + 1_938 * MINUTE), "{before:?}");
        let reckoning = clocks.reckoning(wall(2_000), steady(2_000), 30 * 24 * HOUR);
        for begun in [10, 1_960, 1_969, 1_990] {
            let begun = wall(begun);
            let ends = |micros: i64| wall(2_000).plus_millis(micros / 1_000);
            assert!(reckoning.is_over(begun, ends(-5 * SECOND)));
            assert!(!reckoning.is_over(begun, ends(5 * SECOND)));
        }
    }

    proptest::proptest! {
        /// However often the clock is set: what is begun and lasts a while is not over before that has passed, and over
        /// once as much more has passed as the clock was ever set by; at once, where it was only set forward.
        #[test]
        fn nothing_is_over_too_early(
            forward in proptest::bool::ANY,
            steps in proptest::collection::vec(
                (1..900_i64, proptest::prop_oneof![-5_000..5_000_i64, -60..60_i64, 0..9_000_i64]), 0..80),
            begun_in in 0..40_000_i64,
            lasts in 1..40_000_i64,
        ) {
            const SECOND: i64 = 1_000_000;
            let mut clocks = clocks();
            let steps: Vec<(i64, i64)> = match forward {
                true => steps.into_iter().map(|(pause, by)| (pause, by.abs())).collect(),
                false => steps,
            };
            let (mut now, mut ahead) = (0, 0);
            let begun_at = begun_in % (steps.iter().map(|(pause, _)| pause).sum::<i64>() + 1);
            let mut begun = None;
            let wall = |now: i64, ahead: i64| at(100 * DAY + (now + ahead) * SECOND);
            let steady = |now: i64| at(100 * DAY + now * SECOND);
            for (pause, by) in &steps {
                if now + pause > begun_at && begun.is_none() {
                    begun = Some(wall(begun_at, ahead));
                }
                now += pause;
                ahead += by;
                clocks.look(wall(now, ahead), steady(now));
            }
            let begun = begun.unwrap_or_else(|| wall(begun_at, ahead));
            let end = at(begun.as_micros() + lasts * SECOND);
            let over_at = |then: i64| {
                let reckoning = clocks.reckoning(wall(then, ahead), steady(then), 30 * 24 * HOUR);
                let over = reckoning.is_over(begun, end);
                proptest::prop_assert!(!over || end <= reckoning.maybe_over());
                proptest::prop_assert!(over || end > reckoning.surely_over());
                Ok(over)
            };
            let due = begun_at + lasts;
            if due > now {
                proptest::prop_assert!(!over_at(due - 1)?, "too early");
            }
            // A clock that was only set forward has said nothing twice.
            if steps.len() < MAX_STEPS && steps.iter().all(|(_, by)| *by >= 0) {
                proptest::prop_assert!(over_at(now.max(due) + 1)?, "too late");
            }
            let by: i64 = steps.iter().map(|(_, by)| by.abs()).sum();
            proptest::prop_assert!(over_at(now.max(due) + by + 1)?, "never");
        }
    }
}
