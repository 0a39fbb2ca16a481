//! How often each caller may ask: a window of 60 seconds that slides with the clock.
//!
//! ```text
//!   now - 60 s                                   now
//!      |····|·|·········||···············|··|·|·| <- admitted: fewer than the limit, or it is refused
//! ```
//!
//! Not buckets that are emptied at the full minute (which let twice the limit through around it), and no
//! tokens that drip in (which let a burst follow a full minute): what is remembered is *when* each request
//! was admitted, so no 60 seconds hold more than the limit, wherever they begin. What was refused does not
//! count: who asks too often gets the limit, not nothing.
//!
//! Bounds: of a caller at most [`MAX_RUNS`] points in time; up to that limit they are exact to the
//! millisecond, for larger ones requests within [`GRAIN_MS`] share one, which is the last of them: never
//! too many are let through, and a place is free at most that much late. Of callers [`MAX_CALLERS`]; a new one takes
//! the place of whoever has not asked for longest.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::Millis;

/// The window.
pub const WINDOW_MS: Millis = 60_000;
/// Points in time that are kept of one caller.
pub const MAX_RUNS: u32 = 1024;
/// What shares a point in time, where the limit is above [`MAX_RUNS`].
pub const GRAIN_MS: Millis = WINDOW_MS.div_ceil(MAX_RUNS as Millis - 1);
/// Callers that are remembered: at most 16 KiB each.
pub const MAX_CALLERS: usize = 1024;

/// Too often. The first moment at which one more is admitted is this many seconds away at most, and
/// more than one second less is too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Whole seconds, at least one.
    pub seconds: u64,
}

/// The windows of all callers `K`.
#[derive(Debug)]
pub struct Windows<K> {
    callers: HashMap<K, Window>,
}

/// Requests that were admitted at one point in time.
#[derive(Debug, Clone, Copy)]
struct Run {
    at: Millis,
    count: u32,
}

#[derive(Debug, Default)]
struct Window {
    runs: VecDeque<Run>,
    total: u64,
    used: Millis,
}

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Self {
            callers: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash + Clone> Windows<K> {
    /// Admits one more of `caller` at `now`, or says when. 0 is no limit, and nothing is remembered.
    ///
    /// # Errors
    /// [`Wait`]: `limit` were admitted within the last 60 seconds.
    pub fn admit(&mut self, caller: &K, now: Millis, limit: u32) -> Result<(), Wait> {
        self.may(caller, now, limit)?;
        self.note(caller, now, limit);
        Ok(())
    }

    /// Whether one more of `caller` would be admitted; nothing is noted.
    ///
    /// # Errors
    /// As for [`Windows::admit`].
    pub fn may(&mut self, caller: &K, now: Millis, limit: u32) -> Result<(), Wait> {
        match self.callers.get_mut(caller) {
            Some(window) if limit > 0 => window.may(now, limit),
            _ => Ok(()),
        }
    }

    /// Notes one of `caller`, which counts against `limit`.
    pub fn note(&mut self, caller: &K, now: Millis, limit: u32) {
        if limit == 0 {
            return;
        }
        if self.callers.len() >= MAX_CALLERS && !self.callers.contains_key(caller) {
            self.forget_one();
        }
        let window = self.callers.entry(caller.clone()).or_default();
        window.note(now, limit);
    }

    /// How many callers are remembered.
    pub fn callers(&self) -> usize {
        self.callers.len()
    }

    /// Makes room: by the ones whose windows are empty, else by the one that has not asked for longest.
    fn forget_one(&mut self) {
        let newest = self.callers.values().map(|window| window.used).max();
        let newest = newest.unwrap_or(0);
        let before = self.callers.len();
        self.callers
            .retain(|_, window| window.used + WINDOW_MS >= newest);
        if self.callers.len() < before {
            return;
        }
        let oldest = self.callers.iter().min_by_key(|(_, window)| window.used);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.callers.remove(&key);
        }
    }
}

impl Window {
    fn may(&mut self, now: Millis, limit: u32) -> Result<(), Wait> {
        self.forget_before(now);
        let limit = u64::from(limit);
        if self.total < limit {
            return Ok(());
        }
        // More than one has to go where the limit was lowered meanwhile.
        let mut left = self.total;
        let mut free_at = now;
        for run in &self.runs {
            left -= u64::from(run.count);
            free_at = run.at + WINDOW_MS + 1;
            if left < limit {
                break;
            }
        }
        Err(Wait {
            seconds: free_at.saturating_sub(now).div_ceil(1000).max(1),
        })
    }

    fn note(&mut self, now: Millis, limit: u32) {
        self.forget_before(now);
        let grain = if limit <= MAX_RUNS { 1 } else { GRAIN_MS };
        // Two threads may have read the clock in another order than they come here in.
        let last = self.runs.back().map_or(0, |run| run.at);
        let at = now.div_ceil(grain).saturating_mul(grain).max(last);
        let is_full = self.runs.len() >= MAX_RUNS as usize;
        match self.runs.back_mut() {
            Some(run) if run.at == at || is_full => {
                run.at = at;
                run.count = run.count.saturating_add(1);
            }
            _ => self.runs.push_back(Run { at, count: 1 }),
        }
        self.total += 1;
        self.used = at;
    }

    /// What was exactly 60 seconds ago, by a clock of whole milliseconds, may have been less: it counts.
    fn forget_before(&mut self, now: Millis) {
        while let Some(run) = self.runs.front().filter(|run| run.at + WINDOW_MS < now) {
            self.total -= u64::from(run.count);
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_more_than_the_limit_waits_until_the_first_is_a_minute_ago() {
        let mut windows = Windows::default();
        for n in 0..1000 {
            assert_eq!(windows.admit(&"a", 5_000 + n, 1000), Ok(()), "{n}");
        }
        assert_eq!(
            windows.admit(&"a", 6_000, 1000),
            Err(Wait { seconds: 60 }),
            "the 1,001st"
        );
        assert_eq!(windows.admit(&"b", 6_000, 1000), Ok(()), "another caller");
        // 64,001 ms later by a whole second: what is said is true.
        assert!(windows.admit(&"a", 65_000, 1000).is_err());
        assert_eq!(windows.admit(&"a", 65_001, 1000), Ok(()));
        assert!(windows.admit(&"a", 65_001, 1000).is_err());
    }

    #[test]
    fn nothing_is_remembered_without_a_limit_and_refusals_do_not_count() {
        let mut windows = Windows::default();
        for _ in 0..10_000 {
            assert_eq!(windows.admit(&1, 0, 0), Ok(()));
        }
        assert_eq!(windows.callers(), 0);
        assert_eq!(windows.admit(&1, 0, 1), Ok(()));
        for now in 1..=WINDOW_MS {
            assert!(windows.admit(&1, now, 1).is_err());
        }
        assert_eq!(windows.admit(&1, WINDOW_MS + 1, 1), Ok(()));
    }

    #[test]
    fn a_lowered_limit_holds_for_what_was_admitted_before() {
        let mut windows = Windows::default();
        for n in 0..10 {
            windows.admit(&1, n * 1000, 10).unwrap();
        }
        // Of ten, eight have to go before a third may come: that of 7,000 is the last of them.
        assert_eq!(windows.may(&1, 9_000, 3), Err(Wait { seconds: 59 }));
        assert!(windows.may(&1, 67_000, 3).is_err());
        assert_eq!(windows.may(&1, 67_001, 3), Ok(()));
        assert_eq!(windows.may(&1, 9_000, 11), Ok(()), "and a raised one");
    }

    #[test]
    fn neither_callers_nor_their_times_grow_without_end() {
        let mut windows = Windows::default();
        for caller in 0..10 * MAX_CALLERS {
            windows.admit(&caller, caller as Millis, 5).unwrap();
            assert!(windows.callers() <= MAX_CALLERS);
        }
        let last = 10 * MAX_CALLERS - 1;
        assert_eq!(windows.callers[&last].total, 1, "the newest is kept");
        for now in 0..4 * WINDOW_MS {
            windows.note(&last, 1_000_000 + now, 1_000_000_000);
        }
        assert!(windows.callers[&last].runs.len() <= MAX_RUNS as usize);
        // A limit that was lowered does not make room for more points in time.
        for now in 0..4 * WINDOW_MS {
            windows.note(&last, 2_000_000 + now, MAX_RUNS);
        }
        assert!(windows.callers[&last].runs.len() <= MAX_RUNS as usize);
    }

    /// The same, as one would write it down: every time is kept for ever.
    #[derive(Default)]
    struct Model(HashMap<u8, Vec<Millis>>);

    impl Model {
        fn within(&self, caller: u8, now: Millis, window: Millis) -> usize {
            let times = self.0.get(&caller).map_or(&[][..], Vec::as_slice);
            times.iter().filter(|at| *at + window >= now).count()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Up to [`MAX_RUNS`] the windows say what the model says, to the millisecond, and the wait is true.
        #[test]
        fn small_limits_are_exact(
            limit in 1_u32..20,
            steps in prop::collection::vec((0_u8..3, prop_oneof![0_u64..50, 0_u64..9_000, 55_000_u64..65_000]), 1..300),
        ) {
            let (mut windows, mut model) = (Windows::default(), Model::default());
            let mut now = 0;
            for (caller, pause) in steps {
                now += pause;
                let there = model.within(caller, now, WINDOW_MS);
                match windows.admit(&caller, now, limit) {
                    Ok(()) => {
                        prop_assert!(there < limit as usize);
                        model.0.entry(caller).or_default().push(now);
                    }
                    Err(Wait { seconds }) => {
                        prop_assert_eq!(there, limit as usize);
                        let free = |at| model.within(caller, at, WINDOW_MS) < limit as usize;
                        prop_assert!(free(now + seconds * 1000), "too early");
                        prop_assert!(seconds == 1 || !free(now + (seconds - 1) * 1000), "too late");
                    }
                }
            }
        }

        /// Above it no window has more than the limit, and nobody waits longer than the grain.
        #[test]
        fn large_limits_are_kept_and_lose_a_grain(
            limit in MAX_RUNS + 1..3 * MAX_RUNS,
            steps in prop::collection::vec((1_u32..400, 0_u64..4_000), 1..80),
        ) {
            let mut windows = Windows::default();
            let mut admitted: Vec<Millis> = Vec::new();
            let mut now = 0;
            for (burst, pause) in steps {
                now += pause;
                for _ in 0..burst {
                    let within = |window: Millis| admitted.len() - admitted.partition_point(|at| at + window < now);
                    if windows.admit(&(), now, limit).is_ok() {
                        prop_assert!(within(WINDOW_MS) < limit as usize);
                        admitted.push(now);
                    } else {
                        prop_assert!(within(WINDOW_MS + GRAIN_MS) >= limit as usize);
                    }
                }
            }
        }
    }
}
