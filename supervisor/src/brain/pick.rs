//! Which bots a pool has, given how many.
//!
//! A bot that is there is kept before a new one is started, and one that works before one that does
//! not: a pool that shrinks loses what fails, then what is idle, and what is busy last. Even one on its
//! way out is taken back before a new one is started, so that processes stay within the limits. New
//! bots get the lowest free numbers.

use std::collections::BTreeSet;

/// How a bot stands. What is kept first comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has tasks.
    Busy,
    /// It could have some.
    Idle,
    /// It is being started.
    Starting,
    /// It ends by itself and is tried again later.
    Failing,
    /// An operator stopped it.
    Held,
    /// It is not wanted any more, and finishes what it has.
    Leaving,
}

/// The numbers of the pool's bots: `count` of them. `bots` are those that are there, `named` the
/// numbers that waiting tasks ask for by name, `most` the largest number a bot may have.
pub fn pick(
    count: u32,
    most: u32,
    bots: &[(u32, Standing)],
    named: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let mut there: Vec<_> = bots.iter().filter(|(n, _)| *n <= most).collect();
    there.sort_by_key(|(n, standing)| (*standing, *n));
    let (leaving, staying): (Vec<_>, Vec<_>) = there
        .into_iter()
        .partition(|(_, standing)| *standing == Standing::Leaving);
    let staying = staying.into_iter().map(|(n, _)| n);
    let named = named.iter().copied().filter(|n| *n <= most);
    let leaving = leaving.into_iter().map(|(n, _)| n);
    let mut picked = BTreeSet::new();
    for n in staying.chain(named).chain(leaving).chain(1..) {
        if picked.len() >= count as usize {
            break;
        }
        picked.insert(n);
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::Standing::*;
    use super::*;
    use proptest::prelude::*;

    fn picked(count: u32, bots: &[(u32, Standing)], named: &[u32]) -> Vec<u32> {
        let named = named.iter().copied().collect();
        pick(count, 9, bots, &named).into_iter().collect()
    }

    #[test]
    fn a_pool_starts_with_the_lowest_numbers_and_fills_gaps() {
        assert_eq!(picked(3, &[], &[]), [1, 2, 3]);
        assert_eq!(picked(3, &[(3, Idle)], &[]), [1, 2, 3]);
        assert_eq!(picked(2, &[(3, Busy)], &[]), [1, 3]);
        assert_eq!(picked(0, &[(1, Busy)], &[]), Vec::<u32>::new());
    }

    #[test]
    fn what_fails_goes_first_then_what_is_idle_and_of_those_the_last() {
        let bots = [(1, Failing), (2, Idle), (3, Busy), (4, Idle)];
        assert_eq!(picked(3, &bots, &[]), [2, 3, 4]);
        assert_eq!(picked(2, &bots, &[]), [2, 3]);
        assert_eq!(picked(1, &bots, &[]), [3]);
    }

    #[test]
    fn one_on_its_way_out_is_taken_back_before_a_new_one_is_started() {
        assert_eq!(picked(2, &[(1, Busy), (4, Leaving)], &[]), [1, 4]);
        assert_eq!(
            picked(2, &[(1, Held), (2, Busy), (4, Leaving)], &[]),
            [1, 2],
            "but nothing is kept for it"
        );
    }

    #[test]
    fn a_bot_that_is_asked_for_by_name_is_started() {
        assert_eq!(picked(1, &[], &[4]), [4]);
        assert_eq!(picked(2, &[(1, Busy), (3, Leaving)], &[4]), [1, 4]);
        assert_eq!(
            picked(1, &[(1, Busy)], &[4]),
            [1],
            "but not in place of another"
        );
        assert_eq!(picked(1, &[], &[10]), [1], "there is no such bot");
    }

    proptest! {
        #[test]
        fn as_many_as_asked_for_and_nobody_is_replaced_without_need(
            standings in proptest::collection::btree_map(
                1u32..8,
                prop::sample::select(vec![Busy, Idle, Starting, Failing, Held, Leaving]),
                0..6,
            ),
            count in 0u32..8,
            named in proptest::collection::btree_set(1u32..10, 0..3),
        ) {
            let bots: Vec<_> = standings.into_iter().collect();
            let picked = pick(count, 8, &bots, &named);
            prop_assert_eq!(picked.len() as u32, count);
            prop_assert!(picked.iter().all(|n| (1..=8).contains(n)));
            let staying = bots.iter().filter(|(_, standing)| *standing != Leaving);
            if staying.clone().count() <= count as usize {
                prop_assert!(staying.clone().all(|(n, _)| picked.contains(n)));
            }
            // Nobody who is kept stands worse than one who goes, but for a name.
            let kept = bots.iter().filter(|(n, _)| picked.contains(n) && !named.contains(n));
            let gone = bots.iter().filter(|(n, _)| !picked.contains(n));
            if let (Some(worst), Some(best)) = (kept.map(|b| b.1).max(), gone.map(|b| b.1).min()) {
                prop_assert!(worst <= best);
            }
        }
    }
}
