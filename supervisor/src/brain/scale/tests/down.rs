//! When bots go, and what an operator asks for.

use super::*;

#[test]
fn steps_keep_their_distance() {
    let mut fleet = one_pool(1, 10);
    fleet.waits(&[0], 100, 100.0);
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [2]);
    assert_eq!(
        fleet.evaluate_after(29).reason,
        "main stays at 2: the next step is in 1.0 s"
    );
    fleet.evaluate_after(1);
    assert_eq!(fleet.counts(), [4]);
    fleet.idle();
    fleet.evaluate_after(1);
    fleet.evaluate_after(300);
    assert_eq!(fleet.counts(), [3]);
    fleet.evaluate_after(59);
    assert_eq!(fleet.counts(), [3]);
    fleet.evaluate_after(1);
    assert_eq!(fleet.counts(), [2]);
    // Up again no sooner than the cool-down either.
    fleet.waits(&[0], 100, 100.0);
    fleet.evaluate_after(29);
    assert_eq!(fleet.counts(), [2]);
    fleet.evaluate_after(1);
    assert_eq!(fleet.counts(), [4]);
}

/// The original's idle time ran on through busy times.
#[test]
fn work_in_between_begins_the_idle_time_anew() {
    let mut fleet = one_pool(1, 10);
    fleet.by_hand(None, 1);
    fleet.idle();
    for _ in 0..5 {
        fleet.evaluate_after(60);
    }
    fleet.busy(0.4);
    fleet.evaluate_after(60);
    fleet.idle();
    for _ in 0..5 {
        fleet.evaluate_after(60);
        assert_eq!(fleet.counts(), [2]);
    }
    fleet.evaluate_after(60);
    assert_eq!(fleet.counts(), [1]);
    for _ in 0..100 {
        fleet.evaluate_after(60);
        assert_eq!(fleet.counts(), [1], "not below the minimum");
    }
}

#[test]
fn the_last_bot_goes_only_when_nothing_at_all_comes() {
    let mut fleet = Fleet::new(&[("a", 0, None)], 0, 10);
    fleet.by_hand(None, 1);
    fleet.busy(0.01);
    for _ in 0..100 {
        fleet.evaluate_after(60);
    }
    assert_eq!(fleet.counts(), [1]);
    fleet.idle();
    for _ in 0..6 {
        assert_eq!(fleet.counts(), [1]);
        fleet.evaluate_after(60);
    }
    assert_eq!(fleet.counts(), [0]);
}

#[test]
fn what_was_needed_again_stays_longer_the_next_time() {
    let mut fleet = Fleet::new(&[("a", 0, None)], 0, 10);
    let mut stays = Vec::new();
    for _ in 0..6 {
        fleet.waits(&[0], 1, 0.0);
        fleet.look().unwrap();
        fleet.idle();
        let mut minutes = 0;
        while fleet.counts() == [1] {
            fleet.evaluate_after(60);
            minutes += 1;
        }
        stays.push(minutes - 1);
        fleet.now += 60 * SECOND;
    }
    assert_eq!(stays, [5, 10, 20, 40, 40, 40]);
    // And sooner again when it was not.
    fleet.now += 3_600 * SECOND;
    fleet.waits(&[0], 1, 0.0);
    fleet.look().unwrap();
    fleet.idle();
    fleet.evaluate_after(60);
    fleet.evaluate_after(20 * 60);
    assert_eq!(fleet.counts(), [0]);
}

#[test]
fn by_hand_within_the_limits_until_it_is_idle() {
    let mut fleet = Fleet::new(&[("a", 1, Some(2)), ("b", 0, None)], 2, 5);
    assert_eq!(fleet.counts(), [2, 0]);
    let (counts, short) = fleet.by_hand(Some(0), 1);
    assert_eq!(counts, [2, 0]);
    assert_eq!(short.unwrap(), "the pool has its max of 2");
    let (counts, short) = fleet.by_hand(None, 7);
    assert_eq!(counts, [2, 3]);
    assert_eq!(short.unwrap(), "the fleet has its bot_limits.max_bots of 5");
    // Down where there is nothing to do; at least as many as the limits ask for.
    fleet.waits(&[1], 1, 10.0);
    assert_eq!(fleet.by_hand(None, -1).0, [1, 3]);
    let (counts, short) = fleet.by_hand(None, -9);
    assert_eq!(
        (counts, short.unwrap()),
        (vec![1, 1], "it is at its minimum".into())
    );
    // What is not needed goes in its time.
    let mut fleet = one_pool(1, 5);
    fleet.by_hand(None, 2);
    fleet.idle();
    fleet.evaluate_after(60);
    fleet.evaluate_after(299);
    assert_eq!(fleet.counts(), [3]);
    fleet.evaluate_after(1);
    assert_eq!(fleet.counts(), [2]);
}

#[test]
fn what_the_limits_cut_is_not_asked_for_again() {
    let mut fleet = one_pool(1, 10);
    fleet.by_hand(None, 9);
    fleet.limits = Limits::new(1, 0);
    fleet.follow();
    fleet.limits = Limits::new(1, 10);
    fleet.follow();
    assert_eq!(fleet.counts(), [1]);
}
