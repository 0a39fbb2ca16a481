//! The last times that were measured, for averages and percentiles of what is now.

use std::collections::VecDeque;

use crate::brain::Millis;

/// Times that are kept.
pub const MAX_RECENT: usize = 1024;

/// Older ones say nothing of now: a quarter of an hour.
pub const RECENT: Millis = 15 * 60_000;

/// The last [`MAX_RECENT`] times, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recent(VecDeque<(Millis, u64)>);

/// What they come to, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// On average.
    pub avg: f64,
    /// The original's rule: the value at index `0.95 n` of the sorted ones.
    pub p95: f64,
    /// The same at `0.99 n`.
    pub p99: f64,
}

impl Recent {
    /// One more.
    pub fn add(&mut self, now: Millis, micros: u64) {
        if self.0.len() == MAX_RECENT {
            self.0.pop_front();
        }
        self.0.push_back((now, micros));
    }

    /// Of those of the last [`RECENT`]; `None` where there are none.
    pub fn spread(&self, now: Millis) -> Option<Spread> {
        let since = now.saturating_sub(RECENT);
        let of_now = self.0.iter().filter(|(at, _)| *at >= since);
        let mut sorted: Vec<u64> = of_now.map(|(_, micros)| *micros).collect();
        sorted.sort_unstable();
        let count = sorted.len();
        let at = |share: f64| {
            let index = ((count as f64 * share) as usize).min(count.saturating_sub(1));
            sorted.get(index).map(|micros| *micros as f64 / 1000.0)
        };
        let sum: u64 = sorted
            .iter()
            .fold(0, |sum, micros| sum.saturating_add(*micros));
        Some(Spread {
            count,
            avg: sum as f64 / 1000.0 / count as f64,
            p95: at(0.95)?,
            p99: at(0.99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_originals_and_old_times_do_not_count() {
        let mut recent = Recent::default();
        assert_eq!(recent.spread(0), None);
        recent.add(0, 1_000_000_000);
        for n in 1..=100 {
            recent.add(RECENT + 1, n * 1000);
        }
        let spread = recent.spread(RECENT + 1).unwrap();
        assert_eq!(spread.count, 100);
        assert!((spread.avg - 50.5).abs() < 1e-9);
        // Sorted[95] of 1..=100.
        assert!((spread.p95 - 96.0).abs() < 1e-9 && (spread.p99 - 100.0).abs() < 1e-9);
        assert_eq!(recent.spread(3 * RECENT), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut recent = Recent::default();
        (0..5000).for_each(|n| recent.add(n, n));
        assert_eq!(recent.0.len(), MAX_RECENT);
        assert_eq!(recent.spread(5000).unwrap().count, MAX_RECENT);
    }
}
