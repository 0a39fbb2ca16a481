//! How many bots each pool gets.
//!
//! The sum of the pools stays within the limits: what `min_bots` asks beyond the pools' own mins
//! goes to the first pool (to the next ones where its `max` is reached), and a lowered `max_bots`
//! takes bots from the last pool first: those beyond the pools' own mins, and only then these.

use deia::config::{BotLimits, Pool};

/// The limits that are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At least this many bots, over all pools.
    pub min: u32,
    /// At most this many.
    pub max: u32,
}

impl Limits {
    /// From the file, or from an operator's override. `max` 0 makes `min` 0; else `min` is at most `max`.
    pub fn new(min: u32, max: u32) -> Self {
        Self {
            min: min.min(max),
            max,
        }
    }

    /// From the file.
    pub fn of(limits: &BotLimits) -> Self {
        Self::new(limits.min_bots, limits.max_bots)
    }
}

/// The most bots a pool may have under these limits, were it alone.
pub fn ceiling(pool: &Pool, limits: Limits) -> u32 {
    pool.max.unwrap_or(limits.max).min(limits.max)
}

/// The number of bots of each pool, in the order of `pools`: the least the limits allow.
/// `wanted` is what scaling asks for beyond that; it is cut to what the limits allow.
pub fn plan(pools: &[Pool], limits: Limits, wanted: &[u32]) -> Vec<u32> {
    let mut counts: Vec<u32> = pools
        .iter()
        .enumerate()
        .map(|(n, pool)| {
            let wanted = wanted.get(n).copied().unwrap_or(0);
            pool.min.max(wanted).min(ceiling(pool, limits))
        })
        .collect();
    // What is wanted gives way before what a pool is to have at least.
    for keep_min in [true, false] {
        let mut excess = counts.iter().sum::<u32>().saturating_sub(limits.max);
        for (count, pool) in counts.iter_mut().zip(pools).rev() {
            let floor = if keep_min { pool.min } else { 0 };
            let cut = excess.min(count.saturating_sub(floor));
            *count -= cut;
            excess -= cut;
        }
    }
    let mut missing = limits.min.saturating_sub(counts.iter().sum());
    for (count, pool) in counts.iter_mut().zip(pools) {
        let more = missing.min(ceiling(pool, limits).saturating_sub(*count));
        *count += more;
        missing -= more;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::config::{BackendSpec, EchoSpec};
    use proptest::prelude::*;

    fn pool(name: &str, min: u32, max: Option<u32>) -> Pool {
        let mut pool = Pool::new(name, BackendSpec::Echo(EchoSpec::default()));
        pool.min = min;
        pool.max = max;
        pool
    }

    #[test]
    fn the_rest_of_the_minimum_goes_to_the_first_pool() {
        let pools = [pool("a", 0, None), pool("b", 1, None)];
        assert_eq!(plan(&pools, Limits::new(4, 10), &[]), [3, 1]);
        let pools = [pool("a", 0, Some(1)), pool("b", 1, None)];
        assert_eq!(plan(&pools, Limits::new(4, 10), &[]), [1, 3]);
    }

    #[test]
    fn a_lowered_maximum_takes_from_the_last() {
        let pools = [pool("a", 2, None), pool("b", 2, None), pool("c", 2, None)];
        assert_eq!(plan(&pools, Limits::new(0, 3), &[]), [2, 1, 0]);
        assert_eq!(plan(&pools, Limits::new(5, 0), &[]), [0, 0, 0]);
    }

    #[test]
    fn a_pool_keeps_its_minimum_while_another_has_more_than_that() {
        let pools = [pool("a", 0, None), pool("b", 1, None), pool("c", 1, None)];
        assert_eq!(plan(&pools, Limits::new(0, 4), &[3, 1, 3]), [2, 1, 1]);
        assert_eq!(plan(&pools, Limits::new(0, 1), &[3, 1, 3]), [0, 1, 0]);
    }

    proptest! {
        #[test]
        fn always_within_the_limits(
            mins in proptest::collection::vec((0u32..5, proptest::option::of(0u32..6)), 1..5),
            min in 0u32..12, max in 0u32..12,
            wanted in proptest::collection::vec(0u32..9, 0..5),
        ) {
            let pools: Vec<Pool> = mins.iter().map(|(min, max)| pool("p", *min, *max)).collect();
            let limits = Limits::new(min, max);
            let counts = plan(&pools, limits, &wanted);
            let total: u32 = counts.iter().sum();
            prop_assert!(total <= limits.max);
            let room: u32 = pools.iter().map(|p| p.max.unwrap_or(limits.max).min(limits.max)).sum();
            prop_assert!(total >= limits.min.min(room));
            for (count, pool) in counts.iter().zip(&pools) {
                prop_assert!(*count <= pool.max.unwrap_or(u32::MAX));
            }
            let beyond = counts.iter().zip(&pools).any(|(count, pool)| *count > pool.min);
            for (count, pool) in counts.iter().zip(&pools) {
                let least = pool.min.min(ceiling(pool, limits));
                prop_assert!(!beyond || *count >= least, "{counts:?}");
            }
        }
    }
}
