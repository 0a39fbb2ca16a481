//! Which bot, by score: the Python original's rule.
//!
//! `score = (1 - load / max) * 0.6 + success_rate * 0.4`; the best wins, of equals the one that was
//! registered first. The success rate is a moving average with weight 0.05 on the newest result,
//! and starts at 1.

/// Weight of a free bot.
const LOAD_WEIGHT: f64 = 0.6;

/// Weight of a bot that succeeds.
const SUCCESS_WEIGHT: f64 = 0.4;

/// Weight of the newest result in the success rate.
const NEWEST: f64 = 0.05;

/// A bot that could take the task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Tasks it has.
    pub load: u32,
    /// Tasks it may have.
    pub max: u32,
    /// Moving average of its results, 0-1.
    pub success_rate: f64,
}

impl Candidate {
    /// Its score; `None` when it is full.
    pub fn score(&self) -> Option<f64> {
        (self.load < self.max).then(|| {
            (1.0 - f64::from(self.load) / f64::from(self.max)) * LOAD_WEIGHT
                + self.success_rate * SUCCESS_WEIGHT
        })
    }
}

/// The best of them and its score; of equals the first. `None` when all are full.
pub fn choose<T>(candidates: impl Iterator<Item = (T, Candidate)>) -> Option<(T, f64)> {
    let mut best: Option<(T, f64)> = None;
    for (bot, candidate) in candidates {
        if let Some(score) = candidate.score()
            && best.as_ref().is_none_or(|(_, top)| score > *top)
        {
            best = Some((bot, score));
        }
    }
    best
}

/// The success rate after one more result.
pub fn success_rate_after(rate: f64, succeeded: bool) -> f64 {
    rate * (1.0 - NEWEST) + f64::from(u8::from(succeeded)) * NEWEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(load: u32, max: u32, success_rate: f64) -> Candidate {
        Candidate {
            load,
            max,
            success_rate,
        }
    }

    /// The original's cases 14, 17 and 19.
    #[test]
    fn the_table_of_cases() {
        assert_eq!(choose::<&str>(std::iter::empty()), None);
        let a = ("a", candidate(1, 3, 1.0));
        let b = ("b", candidate(0, 3, 0.4));
        let (bot, score) = choose([a, b].into_iter()).unwrap();
        assert_eq!(bot, "a");
        assert!((score - 0.80).abs() < 1e-9, "{score}");
        assert!((b.1.score().unwrap() - 0.76).abs() < 1e-9);
        assert_eq!(choose([("full", candidate(3, 3, 1.0))].into_iter()), None);
        assert_eq!(choose([("none", candidate(0, 0, 1.0))].into_iter()), None);
        let same = [
            ("first", candidate(0, 1, 1.0)),
            ("second", candidate(0, 1, 1.0)),
        ];
        assert_eq!(choose(same.into_iter()).unwrap().0, "first");
    }

    /// The original's case 22.
    #[test]
    fn success_is_a_moving_average() {
        let mut rate = 1.0;
        for (result, expected) in [
            (false, 0.95),
            (false, 0.9025),
            (true, 0.907375),
            (true, 0.91200625),
        ] {
            rate = success_rate_after(rate, result);
            assert!((rate - expected).abs() < 1e-12, "{rate} {expected}");
        }
    }
}
