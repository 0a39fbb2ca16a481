//! How often something took how long, in a fixed number of steps: nothing grows with what is counted.

/// Steps of a histogram, besides the one without an end.
pub const STEPS: usize = 16;

/// For what takes microseconds: choosing a bot.
pub const TINY: [u64; STEPS] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000,
];

/// For what takes milliseconds: a commit, an answer.
pub const SHORT: [u64; STEPS] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// For what takes seconds to an hour: waiting in the queue, an attempt.
pub const LONG: [u64; STEPS] = [
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Counts by step. Values are microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64; STEPS],
    counts: [u64; STEPS + 1],
    sum: u64,
}

impl Histogram {
    /// Nothing counted yet; `bounds` are the largest values of each step.
    pub const fn new(bounds: &'static [u64; STEPS]) -> Self {
        Self {
            bounds,
            counts: [0; STEPS + 1],
            sum: 0,
        }
    }

    /// From counts that were kept elsewhere: one more than there are bounds.
    pub const fn of(bounds: &'static [u64; STEPS], counts: [u64; STEPS + 1], sum: u64) -> Self {
        Self {
            bounds,
            counts,
            sum,
        }
    }

    /// One more.
    pub fn add(&mut self, micros: u64) {
        let step = step(self.bounds, micros);
        if let Some(count) = self.counts.get_mut(step) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(micros);
    }

    /// How many in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in microseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// For each bound (in microseconds), how many were not above it.
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.bounds
            .iter()
            .zip(&self.counts)
            .scan(0, |so_far, (bound, count)| {
                *so_far += count;
                Some((*bound, *so_far))
            })
    }
}

/// In which step a value is counted; `STEPS` is the one without an end.
pub fn step(bounds: &[u64; STEPS], micros: u64) -> usize {
    bounds.partition_point(|bound| *bound < micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_first_step_that_holds_it() {
        let mut histogram = Histogram::new(&SHORT);
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.add(micros);
        }
        let up_to: Vec<_> = histogram.up_to().collect();
        assert_eq!(up_to[0], (100, 2));
        assert_eq!(up_to[1], (250, 3));
        assert_eq!(up_to[STEPS - 1], (10_000_000, 4));
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum(), 20_000_202);
    }

    #[test]
    fn bounds_rise() {
        for bounds in [TINY, SHORT, LONG] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
