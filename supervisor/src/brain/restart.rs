//! When a bot that ended is started again.
//!
//! The first restart is at once; then the delay doubles from `backoff_seconds[0]` to
//! `backoff_seconds[1]`, with jitter (between half and all of it), and starts anew once the bot was
//! healthy for `healthy_seconds`. More than `restart_intensity.max` restarts within
//! `restart_intensity.seconds` quarantine the bot (OTP's rule, but per bot and never for the whole
//! fleet): from then on it is started once every `quarantine_probe_seconds`, until one start stays
//! healthy.

use std::collections::VecDeque;

use deia::config::Supervision;

use super::{Millis, millis};

/// What to do about a bot that ended and is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start it now.
    Now,
    /// Start it after this delay.
    After(Millis),
    /// Start it as a probe, after this delay.
    Quarantine(Millis),
}

/// One bot's history, as far as the decision needs it.
#[derive(Debug, Clone, Default)]
pub struct RestartHistory {
    recent: VecDeque<Millis>,
    consecutive: u32,
    quarantined: bool,
}

impl RestartHistory {
    /// The bot ended at `now` without having been asked to. `chance` is in 0..1.
    pub fn ended(&mut self, rules: &Supervision, now: Millis, chance: f64) -> Restart {
        if self.quarantined {
            return Restart::Quarantine(millis(rules.quarantine_probe_seconds));
        }
        let window = millis(rules.restart_intensity.seconds);
        while self
            .recent
            .front()
            .is_some_and(|at| now.saturating_sub(*at) >= window)
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= rules.restart_intensity.max as usize {
            self.quarantined = true;
            return Restart::Quarantine(millis(rules.quarantine_probe_seconds));
        }
        self.recent.push_back(now);
        let consecutive = self.consecutive;
        self.consecutive = consecutive.saturating_add(1);
        if consecutive == 0 {
            return Restart::Now;
        }
        let [first, cap] = rules.backoff_seconds;
        Restart::After(jittered(first, cap, consecutive - 1, chance))
    }

    /// The bot was ready for `healthy_seconds`: the past is forgotten.
    pub fn healthy(&mut self) {
        *self = Self::default();
    }

    /// Ends that count towards `restart_intensity.max` at `now`.
    pub fn recent(&self, now: Millis, rules: &Supervision) -> u32 {
        let window = millis(rules.restart_intensity.seconds);
        let recent = self.recent.iter();
        let recent = recent.filter(|at| now.saturating_sub(**at) < window);
        u32::try_from(recent.count()).unwrap_or(u32::MAX)
    }

    /// Whether the bot is in quarantine.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined
    }
}

/// `first * 2^doublings`, at most `cap`, between half and all of it by `chance` (0..1).
pub fn jittered(first: f64, cap: f64, doublings: u32, chance: f64) -> Millis {
    let full = (first * 2f64.powi(doublings.min(62) as i32)).min(cap);
    millis(full * (0.5 + chance.clamp(0.0, 1.0) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Supervision {
        Supervision::default()
    }

    #[test]
    fn at_once_then_doubling_then_quarantine() {
        let mut history = RestartHistory::default();
        let delays: Vec<Restart> = (0..6).map(|n| history.ended(&rules(), n, 1.0)).collect();
        assert_eq!(
            delays,
            [
                Restart::Now,
                Restart::After(50),
                Restart::After(100),
                Restart::After(200),
                Restart::After(400),
                Restart::Quarantine(300_000),
            ]
        );
        assert_eq!(
            history.ended(&rules(), 400_000, 1.0),
            Restart::Quarantine(300_000)
        );
    }

    #[test]
    fn health_forgets_everything() {
        let mut history = RestartHistory::default();
        for n in 0..6 {
            history.ended(&rules(), n, 0.0);
        }
        assert!(history.is_quarantined());
        history.healthy();
        assert_eq!(history.ended(&rules(), 7, 0.0), Restart::Now);
    }

    #[test]
    fn the_window_slides() {
        let mut history = RestartHistory::default();
        for n in 0..100 {
            let at = n * 12_001;
            assert!(
                !matches!(history.ended(&rules(), at, 0.5), Restart::Quarantine(_)),
                "restart {n}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_delay_is_between_half_and_all_of_its_step_and_never_over_the_cap(
            doublings in 0u32..200, chance in 0.0f64..1.0,
        ) {
            let delay = jittered(0.05, 60.0, doublings, chance);
            let full = millis((0.05 * 2f64.powi(doublings.min(62) as i32)).min(60.0));
            proptest::prop_assert!(delay <= full && delay + 1 >= full / 2);
        }

        #[test]
        fn never_more_restarts_in_a_window_than_allowed(gaps in proptest::collection::vec(0u64..30_000, 1..200)) {
            let mut history = RestartHistory::default();
            let mut now = 0;
            let mut started = Vec::new();
            for gap in gaps {
                now += gap;
                if !matches!(history.ended(&rules(), now, 0.5), Restart::Quarantine(_)) {
                    started.push(now);
                }
            }
            for window in started.windows(6) {
                proptest::prop_assert!(window[5] - window[0] >= 60_000);
            }
        }
    }
}
