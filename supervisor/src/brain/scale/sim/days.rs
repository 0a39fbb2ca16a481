//! What must come out of a day.
//!
//! Builds that were broken on purpose and fail here: idle time that runs on through work, no patience, no
//! cool-down, starting bots that are not counted, bots that fail multiplied, a load that counts at once, the
//! last bot let go like any other, nobody who gives way, steps without a bound.

use proptest::prelude::*;

use super::*;

fn kind(min: u32, max: Option<u32>, slots: u32) -> Kind {
    Kind {
        min,
        max,
        slots,
        start: 2 * SECOND,
        failing: 0.0,
    }
}

/// Tasks in an hour over a working day: nothing at night, most at noon.
fn working_day(most: f64) -> Vec<f64> {
    (0..24)
        .map(|hour| match hour {
            8..20 => most * (std::f64::consts::PI * (f64::from(hour) - 7.0) / 13.0).sin(),
            _ => 0.0,
        })
        .collect()
}

#[test]
fn a_working_day_with_bursts_needs_few_turns_and_nobody_waits_long() {
    for seed in 0..10 {
        // At noon a task every two seconds that takes ten: five at once.
        let mut stream = Stream::new(&[true], 10 * SECOND, working_day(1800.0));
        stream.bursts = vec![(5 * HOUR, 100), (13 * HOUR, 200)];
        let limits = Limits::new(1, 10);
        let mut day = Day::new(seed, vec![kind(0, None, 1)], vec![stream], limits);
        day.run(24 * HOUR);
        let waited = day.longest_wait / SECOND;
        assert_eq!(day.counts(), [1], "seed {seed}: at night the minimum");
        assert!(day.done > 10_000, "seed {seed}: {}", day.done);
        assert!(day.turns(0) <= 12, "seed {seed}: {:#?}", day.steps);
        assert!(waited <= 300, "seed {seed}: a task waited {waited} s");
        assert!(
            day.average_bots() < 6.5,
            "seed {seed}: {}",
            day.average_bots()
        );
    }
}

#[test]
fn under_a_constant_load_the_number_settles_and_stays() {
    for at_once in [0.1, 0.3, 0.5, 0.69, 0.71, 1.0, 1.4, 2.1, 3.5, 6.0] {
        for slots in [1, 3] {
            let service = 5 * SECOND;
            let hourly = at_once * f64::from(slots) * (HOUR / service) as f64;
            let mut stream = Stream::new(&[true], service, vec![hourly; 6]);
            stream.steady = true;
            let limits = Limits::new(1, 12);
            let mut day = Day::new(7, vec![kind(0, None, slots)], vec![stream], limits);
            day.run(HOUR);
            let (settled, steps) = (day.counts(), day.steps.len());
            day.run(6 * HOUR);
            assert_eq!(day.counts(), settled, "{at_once}: {:#?}", day.steps);
            assert_eq!(day.steps.len(), steps, "{at_once}: {:#?}", day.steps);
            assert_eq!(day.turns(0), 0, "{at_once}: it only grew");
            assert!(
                day.longest_wait < 2 * MINUTE,
                "{at_once}: {}",
                day.longest_wait
            );
        }
    }
}

#[test]
fn chance_alone_makes_few_turns_and_few_idle_bots() {
    for at_once in [0.3, 0.6, 1.0, 2.0, 5.0] {
        for seed in 0..5 {
            let service = 10 * SECOND;
            let hourly = at_once * (HOUR / service) as f64;
            let stream = Stream::new(&[true], service, vec![hourly; 24]);
            let limits = Limits::new(1, 20);
            let mut day = Day::new(seed, vec![kind(0, None, 1)], vec![stream], limits);
            day.run(24 * HOUR);
            let (turns, bots, waited) = (day.turns(0), day.average_bots(), day.longest_wait);
            assert!(turns <= 48, "{at_once}, seed {seed}: {turns} turns");
            assert!(
                bots <= 1.0 + 2.0 * at_once,
                "{at_once}, seed {seed}: {bots} bots"
            );
            assert!(waited < 3 * MINUTE, "{at_once}, seed {seed}: {waited} ms");
        }
    }
}

#[test]
fn a_trickle_to_a_pool_without_a_minimum_costs_few_starts() {
    // A task every seven minutes, always: just after the bot would have gone.
    let mut stream = Stream::new(&[true], 5 * SECOND, vec![HOUR as f64 / 420_000.0; 24]);
    stream.steady = true;
    let mut day = Day::new(1, vec![kind(0, None, 1)], vec![stream], Limits::new(0, 10));
    day.run(24 * HOUR);
    assert!(day.steps.len() <= 4, "{:#?}", day.steps);
    assert_eq!(
        day.longest_wait,
        2 * SECOND,
        "the time a bot needs to start"
    );
    // After that, nothing: it goes.
    day.run(26 * HOUR);
    assert_eq!(day.counts(), [0]);
}

#[test]
fn bots_that_fail_now_and_then_are_made_up_for() {
    for seed in 0..10 {
        let mut flaky = kind(0, None, 1);
        flaky.failing = 0.3;
        let stream = Stream::new(&[true], 10 * SECOND, working_day(1800.0));
        let mut day = Day::new(seed, vec![flaky], vec![stream], Limits::new(1, 12));
        day.run(24 * HOUR);
        assert_eq!(day.counts(), [1], "seed {seed}");
        assert!(
            day.longest_wait < 10 * MINUTE,
            "seed {seed}: {}",
            day.longest_wait
        );
    }
}

#[test]
fn bots_that_never_start_are_not_multiplied() {
    let mut broken = kind(0, None, 1);
    broken.failing = 1.0;
    let well = kind(1, None, 1);
    let streams = vec![
        Stream::new(&[true, false], 10 * SECOND, vec![600.0; 24]),
        Stream::new(&[false, true], 10 * SECOND, vec![600.0; 24]),
    ];
    let mut day = Day::new(3, vec![broken, well], streams, Limits::new(1, 10));
    day.run(24 * HOUR);
    let of_broken = day.steps.iter().filter(|step| step.pool == 0).count();
    // The plan's own first one, and what was added while it was still starting.
    assert!(of_broken <= 1, "{:#?}", day.steps);
    assert!(day.done > 10_000, "the others go on: {}", day.done);
}

#[test]
fn a_crowded_fleet_lets_every_pool_have_a_bot() {
    // Together they ask for more than there may be; the last two have no minimum.
    let kinds = vec![kind(1, None, 1), kind(0, None, 1), kind(0, Some(2), 1)];
    let streams = vec![
        Stream::new(&[true, false, false], 20 * SECOND, vec![1800.0; 12]),
        Stream::new(&[false, true, false], 20 * SECOND, vec![100.0; 24]),
        Stream::new(&[false, false, true], 20 * SECOND, vec![100.0; 24]),
    ];
    for seed in 0..5 {
        let mut day = Day::new(seed, kinds.clone(), streams.clone(), Limits::new(1, 4));
        day.run(24 * HOUR);
        let waited = day.waits[1].max(day.waits[2]) / MINUTE;
        assert!(waited < 30, "seed {seed}: {waited} minutes");
        assert!(day.turns(0) <= 12, "seed {seed}: {:#?}", day.steps);
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let max = proptest::option::of(2u32..8);
    (0u32..2, max, 1u32..4, 100u64..20_000, 0.0f64..0.4).prop_map(
        |(min, max, slots, start, failing)| Kind {
            min,
            max,
            slots,
            start,
            failing,
        },
    )
}

fn any_stream(pools: usize) -> impl Strategy<Value = Stream> {
    let hour = prop_oneof![Just(0.0), 1.0f64..20.0, 50.0f64..600.0];
    (
        proptest::collection::vec(any::<bool>(), pools),
        0..pools,
        100u64..60_000,
        proptest::collection::vec(hour, 8),
        any::<bool>(),
        proptest::collection::vec((0..8 * HOUR, 1u32..200), 0..4),
    )
        .prop_map(|(mut pools, one, service, hourly, steady, bursts)| {
            pools[one] = true;
            Stream {
                pools,
                service,
                hourly,
                steady,
                bursts,
            }
        })
}

fn any_day() -> impl Strategy<Value = (Vec<Kind>, Vec<Stream>, u32, u32, u64)> {
    (1usize..4).prop_flat_map(|pools| {
        (
            proptest::collection::vec(any_kind(), pools),
            proptest::collection::vec(any_stream(pools), 1..4),
            0u32..4,
            3u32..12,
            any::<u64>(),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Eight hours of anything, then nothing. Limits and distances are checked at each step.
    #[test]
    fn any_day_ends_at_the_minimum_and_everything_is_done(
        (kinds, streams, min, max, seed) in any_day()
    ) {
        let mut day = Day::new(seed, kinds, streams, Limits::new(min.min(max), max));
        day.run(8 * HOUR);
        while !day.waiting.iter().all(VecDeque::is_empty) {
            day.run(day.now + HOUR);
            prop_assert!(day.now < 1_000 * HOUR, "{:?}", day.inputs());
        }
        // The longest patience twice (the last bot has a time of its own), and a minute for each bot.
        day.run(day.now + 2 * HOUR);
        let least = plan(&day.pools, day.limits, &[]);
        prop_assert_eq!(
            day.counts().iter().sum::<u32>(),
            least.iter().sum::<u32>(),
            "{:#?}", day.steps
        );
        for pool in 0..day.pools.len() {
            // A turn down takes forty minutes once patience has been learned.
            let most = 12 + 2 * day.now / (40 * MINUTE);
            prop_assert!(day.turns(pool) as u64 <= most, "{:#?}", day.steps);
        }
    }
}
