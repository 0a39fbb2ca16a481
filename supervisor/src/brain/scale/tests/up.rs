//! When bots are added, and when not.

use super::*;

#[test]
fn a_queue_asks_for_bots_and_a_pool_at_most_doubles() {
    let mut fleet = one_pool(1, 10);
    fleet.waits(&[0], 4, 10.0);
    fleet.inputs.load = 0.5;
    assert_eq!(fleet.evaluate_after(60).direction, None);
    fleet.waits(&[0], 5, 10.0);
    let evaluation = fleet.evaluate_after(60);
    assert_eq!(
        evaluation.reason,
        "main 1 -> 2: 5 tasks for 1 bots (scaling.queue_per_bot is 5)"
    );
    fleet.waits(&[0], 1000, 100.0);
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [4]);
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [8]);
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [10]);
    let evaluation = fleet.evaluate_after(60);
    assert_eq!(
        evaluation.reason,
        "main stays at 10: the fleet has its bot_limits.max_bots of 10"
    );
}

#[test]
fn no_more_bots_than_the_queue_can_use() {
    let mut fleet = one_pool(8, 100);
    fleet.inputs.pools[0].slots = 4;
    fleet.waits(&[0], 60, 10.0);
    // All 32 slots are taken; two more bots take 8 of the 60: 5.2 each, the third makes it 4.4.
    fleet.inputs.pools[0].busy = 32;
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [11]);
}

#[test]
fn starting_bots_are_counted() {
    let mut fleet = one_pool(1, 10);
    fleet.waits(&[0], 10, 10.0);
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [2]);
    // The second is not there yet; nor is a third asked for: it will take one, nine are left for two.
    fleet.inputs.pools[0] = PoolFigures {
        slots: 1,
        working: 1,
        starting: 1,
        busy: 1,
        load: 0.5,
        ..PoolFigures::default()
    };
    assert_eq!(fleet.evaluate_after(60).direction, None);
}

#[test]
fn what_a_moment_brings_is_no_queue() {
    let mut fleet = one_pool(1, 10);
    fleet.waits(&[0], 500, 0.4);
    fleet.busy(0.1);
    fleet.inputs.pools[0].busy = 1;
    assert_eq!(fleet.evaluate_after(60).direction, None);
}

#[test]
fn a_task_that_waits_too_long_asks_for_one_bot() {
    let mut fleet = one_pool(1, 10);
    fleet.waits(&[0], 2, 29.0);
    fleet.inputs.load = 0.5;
    assert_eq!(fleet.evaluate_after(60).direction, None);
    fleet.waits(&[0], 2, 31.0);
    assert_eq!(
        fleet.evaluate_after(60).reason,
        "main 1 -> 2: a task has waited 31.0 s (scaling.oldest_seconds is 30)"
    );
}

#[test]
fn a_load_that_lasts_asks_for_one_bot_before_anything_waits() {
    let mut fleet = one_pool(1, 10);
    fleet.busy(1.0);
    for _ in 0..4 {
        fleet.evaluate_after(60);
    }
    fleet.busy(0.5);
    fleet.evaluate_after(60);
    fleet.busy(1.0);
    for _ in 0..5 {
        fleet.evaluate_after(60);
        assert_eq!(fleet.counts(), [1]);
    }
    assert_eq!(
        fleet.evaluate_after(60).reason,
        "main 1 -> 2: its bots were 100 % busy and the fleet 100 %"
    );
    // Half of two: enough, and needed.
    fleet.busy(0.5);
    for _ in 0..100 {
        fleet.evaluate_after(60);
        assert_eq!(fleet.counts(), [2]);
    }
    // A pool at work in a fleet that is not gets no spare bot.
    fleet.busy(1.0);
    fleet.inputs.load = 0.7;
    for _ in 0..100 {
        fleet.evaluate_after(60);
        assert_eq!(fleet.counts(), [2]);
    }
}

/// The original's cases: load and average load of a bot, the count, the time since the last step.
#[test]
fn the_thresholds_of_the_original() {
    let rules = Scaling::default();
    let mut scaler = Scaler::default();
    let now = 100 * SECOND;
    let limits = Limits::new(1, 10);
    let would = |scaler: &Scaler, load, bot_load, waiting, bots| {
        let figures = Figures {
            load,
            waiting,
            bot_load,
            bots,
        };
        let host = Host {
            cpu: Some(0.2),
            memory: Some(0.5),
        };
        let evaluation = scaler.what_if(figures, limits, &rules, host, now);
        evaluation.direction
    };
    assert_eq!(would(&scaler, 0.7, 0.6, 0, 2), None);
    assert_eq!(would(&scaler, 0.71, 0.6, 0, 2), None);
    assert_eq!(would(&scaler, 0.71, 0.61, 0, 2), Some(Direction::Up));
    assert_eq!(would(&scaler, 0.71, 0.61, 0, 10), None);
    assert_eq!(would(&scaler, 0.5, 0.4, 5, 1), Some(Direction::Up));
    assert_eq!(would(&scaler, 0.5, 0.4, 4, 1), None);
    assert_eq!(would(&scaler, 0.5, 0.3, 0, 2), Some(Direction::Down));
    assert_eq!(would(&scaler, 0.5, 0.31, 0, 2), None);
    assert_eq!(would(&scaler, 0.5, 0.0, 0, 1), None);
    for (seconds, direction) in [(29, None), (31, Some(Direction::Up))] {
        let memory = Memory {
            up: Some(now - seconds * SECOND),
            ..Memory::default()
        };
        scaler.pools.insert("any".into(), memory);
        assert_eq!(would(&scaler, 0.9, 0.9, 9, 1), direction, "{seconds} s");
    }
}

#[test]
fn a_host_without_room_gets_no_bots_but_the_first() {
    for (cpu, memory, words) in [
        (
            0.9,
            0.5,
            "the host's CPU is 90 % busy (scaling.max_cpu is 0.9)",
        ),
        (
            0.5,
            0.86,
            "86 % of the host's memory are in use (scaling.max_memory is 0.85)",
        ),
    ] {
        let mut fleet = Fleet::new(&[("a", 1, None), ("b", 0, None)], 1, 10);
        fleet.inputs.host = Host {
            cpu: Some(cpu),
            memory: Some(memory),
        };
        fleet.waits(&[0], 50, 50.0);
        let evaluation = fleet.evaluate_after(60);
        assert_eq!(evaluation.reason, format!("a stays at 1: {words}"));
        fleet.waits(&[1], 1, 0.0);
        fleet.look().unwrap();
        assert_eq!(fleet.counts(), [1, 1]);
    }
    // 1 is no bound: that full a host can be without harm.
    let mut fleet = one_pool(1, 10);
    (fleet.rules.max_cpu, fleet.rules.max_memory) = (1.0, 1.0);
    fleet.inputs.host = Host {
        cpu: Some(1.0),
        memory: Some(1.0),
    };
    fleet.waits(&[0], 50, 50.0);
    assert_eq!(fleet.evaluate_after(60).direction, Some(Direction::Up));
}

#[test]
fn the_first_task_starts_a_bot_at_once_and_only_one() {
    let mut fleet = Fleet::new(&[("a", 1, None), ("b", 0, Some(4)), ("c", 0, None)], 1, 10);
    fleet.waits(&[1, 2], 1, 0.0);
    let evaluation = fleet.look().unwrap();
    assert_eq!(
        evaluation.reason,
        "b 0 -> 1: no running bot can take 1 task"
    );
    fleet.inputs.pools[1] = PoolFigures {
        slots: 1,
        starting: 1,
        ..PoolFigures::default()
    };
    fleet.inputs.backlogs[0].waiting = 40;
    assert_eq!(fleet.look(), None, "one is on its way");
    assert_eq!(fleet.counts(), [1, 1, 0]);
}

#[test]
fn a_bot_that_is_asked_for_by_name_is_one_more() {
    let mut fleet = one_pool(1, 10);
    for (asked, counts) in [
        (Asked::Serves, [1]),
        (Asked::Out, [1]),
        (Asked::Absent, [2]),
    ] {
        fleet.waits(&[0], 3, 0.0);
        fleet.inputs.backlogs[0].asked = Some(asked);
        fleet.look();
        assert_eq!(fleet.counts(), counts, "{asked:?}");
    }
}

#[test]
fn tasks_that_several_pools_could_take_are_counted_once() {
    let mut fleet = Fleet::new(&[("a", 1, None), ("b", 1, None)], 2, 10);
    fleet.waits(&[0, 1], 9, 10.0);
    fleet.inputs.load = 0.5;
    assert_eq!(fleet.evaluate_after(60).direction, None, "4.5 each");
    fleet.waits(&[0, 1], 12, 10.0);
    fleet.inputs.load = 0.5;
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [2, 1], "one is enough: 11 for three");
    // The first has its maximum: the second helps.
    fleet.pools[0].max = Some(2);
    fleet.waits(&[0, 1], 30, 20.0);
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [2, 2]);
}

#[test]
fn bots_that_fail_are_no_capacity_and_are_not_multiplied() {
    let mut fleet = one_pool(2, 10);
    fleet.inputs.pools[0].failing = 1;
    fleet.follow();
    fleet.waits(&[0], 100, 100.0);
    for _ in 0..20 {
        let evaluation = fleet.evaluate_after(60);
        assert_eq!(
            evaluation.reason,
            "main stays at 2: 1 of its 2 bots fail: more would too"
        );
    }
    // With two that work, one that fails is made up for; its place is not.
    fleet.inputs.pools[0].failing = 0;
    fleet.follow();
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [4]);
    fleet.inputs.pools[0].failing = 1;
    fleet.follow();
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [7]);
    // All of them: not even a first one.
    let mut fleet = Fleet::new(&[("a", 0, None)], 0, 10);
    fleet.waits(&[0], 1, 0.0);
    fleet.look().unwrap();
    fleet.inputs.pools[0].failing = 1;
    fleet.follow();
    assert_eq!(fleet.look(), None);
    assert_eq!(fleet.evaluate_after(60).direction, None);
}

#[test]
fn a_bot_that_was_stopped_by_hand_is_made_up_for_later() {
    let mut fleet = one_pool(1, 10);
    fleet.inputs.pools[0].held = 1;
    fleet.follow();
    fleet.waits(&[0], 1, 5.0);
    fleet.inputs.load = 0.0;
    fleet.inputs.pools[0].load = 0.0;
    assert_eq!(fleet.look(), None);
    assert_eq!(fleet.evaluate_after(60).direction, None);
    fleet.waits(&[0], 1, 31.0);
    assert_eq!(fleet.evaluate_after(60).direction, Some(Direction::Up));
    assert_eq!(fleet.counts(), [2]);
}

#[test]
fn a_full_model_server_gets_no_more_bots() {
    let mut fleet = one_pool(2, 10);
    fleet.waits(&[0], 100, 100.0);
    fleet.inputs.pools[0].server_full = true;
    assert_eq!(
        fleet.evaluate_after(60).reason,
        "main stays at 2: its model server takes no more at once (max_in_flight), or does not answer"
    );
}

#[test]
fn a_pool_that_can_spare_a_bot_gives_way_to_one_that_has_none() {
    let mut fleet = Fleet::new(&[("a", 1, None), ("b", 0, None), ("c", 1, None)], 1, 5);
    fleet.by_hand(Some(0), 3);
    fleet.now += 60 * SECOND;
    fleet.waits(&[1], 1, 0.0);
    let evaluation = fleet.look().unwrap();
    assert_eq!(
        evaluation.reason,
        "a 4 -> 3: it gives way to b, which has none; b 0 -> 1: no running bot can take 1 task"
    );
    // Nobody takes it back before it is idle.
    fleet.waits(&[0], 100, 100.0);
    for _ in 0..3 {
        fleet.inputs.pools[1].load = 0.1;
        fleet.evaluate_after(60);
        assert_eq!(fleet.counts(), [3, 1, 1]);
    }
    // Mins are not given away.
    let mut fleet = Fleet::new(&[("a", 1, None), ("b", 0, None), ("c", 1, None)], 1, 2);
    fleet.waits(&[1], 1, 0.0);
    assert_eq!(fleet.look(), None);
}
