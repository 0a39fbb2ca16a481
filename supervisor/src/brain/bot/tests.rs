//! The table: the usual lives, every way to end against every policy and limit, and random events
//! against a model that only counts processes and timers.

use proptest::prelude::*;

use super::*;

fn on(bot: &mut Bot, event: Event) -> Vec<Action> {
    bot.on(event, &Supervision::default(), 0, 1.0)
}

fn ready_bot() -> Bot {
    let mut bot = Bot::default();
    on(&mut bot, Event::Run);
    on(&mut bot, Event::Ready);
    bot
}

#[test]
fn the_usual_life() {
    let mut bot = Bot::default();
    assert_eq!(
        on(&mut bot, Event::Run),
        [Action::Spawn, Action::Arm(10_000)]
    );
    assert_eq!(
        on(&mut bot, Event::Ready),
        [Action::Disarm, Action::ArmHealthy(60_000)]
    );
    on(&mut bot, Event::Tasks(1));
    assert_eq!(bot.actual(), Actual::Busy);
    on(&mut bot, Event::Tasks(0));
    assert_eq!(bot.actual(), Actual::Ready);
    assert_eq!(
        on(&mut bot, Event::Stop(Drain::Unbounded)),
        [Action::AskToStop(0), Action::Arm(10_500)]
    );
    assert_eq!(on(&mut bot, Event::Ended), [Action::Disarm]);
    assert_eq!(bot.actual(), Actual::Stopped);
}

#[test]
fn a_crash_restarts_at_once_and_then_waits() {
    let mut bot = ready_bot();
    assert_eq!(on(&mut bot, Event::Ended)[0], Action::Spawn);
    assert_eq!(on(&mut bot, Event::Ended), [Action::Arm(50)]);
    assert_eq!(bot.actual(), Actual::Backoff);
    assert_eq!(on(&mut bot, Event::Timer)[0], Action::Spawn);
    assert_eq!(bot.restarts(), 2);
}

#[test]
fn one_that_ends_at_once_for_ever_is_quarantined_and_probed() {
    let mut bot = Bot::default();
    on(&mut bot, Event::Run);
    for _ in 0..6 {
        on(&mut bot, Event::Ended);
        if bot.actual() == Actual::Backoff {
            on(&mut bot, Event::Timer);
        }
    }
    assert_eq!(bot.actual(), Actual::Quarantined);
    assert_eq!(on(&mut bot, Event::Timer)[0], Action::Spawn);
    assert_eq!(on(&mut bot, Event::Ended), [Action::Arm(300_000)]);
    assert_eq!(bot.actual(), Actual::Quarantined);
}

#[test]
fn draining_waits_for_tasks_and_can_be_taken_back() {
    let mut bot = ready_bot();
    on(&mut bot, Event::Tasks(2));
    on(&mut bot, Event::Stop(Drain::Unbounded));
    assert_eq!(bot.state(), State::Draining(Then::Rest));
    assert!(!bot.takes_tasks());
    on(&mut bot, Event::Run);
    assert_eq!(bot.actual(), Actual::Busy);
    on(&mut bot, Event::Stop(Drain::Within(5)));
    assert_eq!(on(&mut bot, Event::Timer)[0], Action::AskToStop(0));
}

#[test]
fn a_bounce_is_no_crash() {
    let mut bot = ready_bot();
    for _ in 0..20 {
        assert_eq!(on(&mut bot, Event::Bounce)[0], Action::AskToStop(0));
        assert_eq!(on(&mut bot, Event::Ended)[0], Action::Spawn);
        on(&mut bot, Event::Ready);
    }
    assert_eq!(bot.actual(), Actual::Ready);
    on(&mut bot, Event::Tasks(1));
    on(&mut bot, Event::Bounce);
    assert_eq!(bot.state(), State::Draining(Then::Again));
    // Neither is taken back by what was wanted anyway.
    on(&mut bot, Event::Run);
    assert_eq!(on(&mut bot, Event::Ended)[0], Action::Spawn);
}

#[test]
fn one_that_never_gets_ready_is_killed() {
    let mut bot = Bot::default();
    on(&mut bot, Event::Run);
    assert_eq!(on(&mut bot, Event::Timer)[0], Action::Kill);
    assert_eq!(bot.ending(), Some(ExitCause::StartTimeout));
}

#[test]
fn an_earlier_daemons_bot_goes_on_where_it_was() {
    let mut bot = Bot::default();
    assert_eq!(on(&mut bot, Event::Found(2_000)), [Action::Arm(2_000)]);
    assert_eq!(bot.actual(), Actual::Starting);
    assert!(bot.has_process() && !bot.takes_tasks());
    on(&mut bot, Event::Tasks(2));
    assert!(on(&mut bot, Event::Run).is_empty(), "it is there already");
    on(&mut bot, Event::Ready);
    assert_eq!((bot.actual(), bot.restarts()), (Actual::Busy, 0));
}

#[test]
fn an_earlier_daemons_bot_that_is_not_wanted_finishes_first() {
    let mut bot = Bot::default();
    on(&mut bot, Event::Found(2_000));
    on(&mut bot, Event::Tasks(1));
    assert!(on(&mut bot, Event::Stop(Drain::Unbounded)).is_empty());
    on(&mut bot, Event::Ready);
    assert_eq!(bot.state(), State::Draining(Then::Rest));
    assert_eq!(on(&mut bot, Event::Tasks(0))[0], Action::AskToStop(0));
}

#[test]
fn an_earlier_daemons_bot_that_does_not_come_back_is_replaced_and_not_blamed_for_ending() {
    let mut bot = Bot::default();
    on(&mut bot, Event::Found(2_000));
    on(&mut bot, Event::Run);
    let mut ended = bot.clone();
    assert_eq!(on(&mut ended, Event::Ended)[0], Action::Spawn);
    assert_eq!(ended.history().recent(0, &Supervision::default()), 0);
    assert_eq!(on(&mut bot, Event::Timer)[0], Action::Kill);
    assert_eq!(on(&mut bot, Event::Ended)[0], Action::Spawn);
    assert_eq!(bot.history().recent(0, &Supervision::default()), 1);
}

#[test]
fn a_host_without_room_is_asked_again_soon_and_the_bot_is_not_blamed() {
    let mut bot = Bot::default();
    on(&mut bot, Event::Run);
    for _ in 0..100 {
        assert_eq!(on(&mut bot, Event::NoRoom), [Action::Arm(2_000)]);
        assert_eq!(bot.actual(), Actual::Backoff);
        assert_eq!(on(&mut bot, Event::Timer)[0], Action::Spawn);
    }
    assert_eq!(bot.history().recent(0, &Supervision::default()), 0);
    on(&mut bot, Event::Stop(Drain::Unbounded));
    on(&mut bot, Event::NoRoom);
    assert_eq!(bot.actual(), Actual::Stopped);
}

/// How a process can come to its end: what happens to a ready bot before [`Event::Ended`].
const WAYS: [(&str, Option<Event>); 9] = [
    ("exit or signal", None),
    (
        "no heartbeat",
        Some(Event::Stuck(ExitCause::HeartbeatTimeout)),
    ),
    ("protocol", Some(Event::Stuck(ExitCause::Protocol))),
    ("memory", Some(Event::Stuck(ExitCause::MemoryLimit))),
    ("processes", Some(Event::Stuck(ExitCause::ProcessLimit))),
    ("disk", Some(Event::Stuck(ExitCause::DiskLimit))),
    ("stopped", Some(Event::Stop(Drain::Unbounded))),
    ("stopped within", Some(Event::Stop(Drain::Within(5)))),
    ("bounced", Some(Event::Bounce)),
];

/// The OTP matrix: each way to end x each policy (at once, back-off, quarantine, probe) x each
/// limit (below, at and beyond the intensity).
#[test]
fn every_way_to_end_under_every_policy_and_limit() {
    for max in [0, 1, 5, 50] {
        for (way, event) in WAYS {
            let mut rules = Supervision::default();
            rules.restart_intensity.max = max;
            let mut bot = ready_bot();
            for n in 0..max + 3 {
                if let Some(event) = event {
                    bot.on(event, &rules, 0, 1.0);
                }
                let actions = bot.on(Event::Ended, &rules, 0, 1.0);
                let (asked, ends) = match event {
                    Some(Event::Stop(_)) => (true, State::Stopped),
                    Some(Event::Bounce) => (true, State::Starting),
                    _ if n == 0 && max > 0 => (false, State::Starting),
                    _ if n < max => (false, State::Backoff),
                    _ => (false, State::Quarantined),
                };
                assert_eq!(bot.state(), ends, "{way}, end {n} of {max}: {actions:?}");
                assert_eq!(
                    actions.contains(&Action::Spawn),
                    ends == State::Starting,
                    "{way}, end {n} of {max}"
                );
                let counted = bot.history().recent(0, &rules);
                assert_eq!(counted, if asked { 0 } else { (n + 1).min(max) }, "{way}");
                // The next life begins as the timer or the plan has it.
                let begin = if ends == State::Stopped {
                    Event::Run
                } else {
                    Event::Timer
                };
                if ends != State::Starting {
                    assert!(
                        bot.on(begin, &rules, 0, 1.0).contains(&Action::Spawn),
                        "{way}"
                    );
                }
                bot.on(Event::Ready, &rules, 0, 1.0);
                assert!(bot.takes_tasks(), "{way}: no end is for ever");
            }
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Run),
        Just(Event::Stop(Drain::Unbounded)),
        Just(Event::Stop(Drain::Within(5))),
        Just(Event::Bounce),
        Just(Event::Found(100)),
        Just(Event::Ready),
        (0u32..3).prop_map(Event::Tasks),
        Just(Event::Ended),
        Just(Event::NoRoom),
        Just(Event::Timer),
        Just(Event::Healthy),
        Just(Event::Stuck(ExitCause::HeartbeatTimeout)),
    ]
}

proptest! {
    #[test]
    fn never_two_processes_and_never_stuck(events in proptest::collection::vec(any_event(), 0..200)) {
        let mut bot = Bot::default();
        let mut processes = 0;
        let mut armed = false;
        for (n, event) in events.into_iter().enumerate() {
            // What can't happen does not: an end without a process, tasks in a bot that has none, a
            // process of an earlier daemon beside one of this.
            match event {
                Event::Ended if processes == 0 => continue,
                Event::NoRoom if !matches!(bot.state(), State::Starting | State::Stopping(_)) => continue,
                Event::Timer if !armed => continue,
                Event::Found(_) if bot.state() != State::Stopped => continue,
                Event::Tasks(n) if n > 0 && !bot.takes_tasks() && bot.state() != State::Found => continue,
                Event::Tasks(_) if !bot.has_process() => continue,
                _ => {}
            }
            match event {
                Event::Timer => armed = false,
                Event::Ended | Event::NoRoom => processes -= 1,
                Event::Found(_) => processes += 1,
                _ => {}
            }
            let before = bot.state();
            for action in bot.on(event, &Supervision::default(), n as u64 * 100, 0.5) {
                match action {
                    Action::Spawn => processes += 1,
                    Action::Arm(_) => armed = true,
                    Action::Disarm => armed = false,
                    Action::AskToStop(_) | Action::Kill => prop_assert!(processes == 1),
                    Action::ArmHealthy(_) => {}
                }
            }
            prop_assert!(processes <= 1, "{before:?} on {event:?}");
            prop_assert_eq!(bot.has_process(), processes == 1, "{:?} on {:?}", before, event);
            // Every state that must not last has a timer, or ends with its tasks.
            if matches!(
                bot.state(),
                State::Starting | State::Found | State::Stopping(_) | State::Backoff | State::Quarantined
            ) {
                prop_assert!(armed, "{:?} on {:?}", before, event);
            }
            if let State::Draining(_) = bot.state() {
                prop_assert!(bot.tasks > 0, "{:?} on {:?}", before, event);
            }
            // Nothing wanted, nothing left to wait for but an end.
            if bot.wanted() == Wanted::Stopped {
                prop_assert!(!bot.takes_tasks());
                prop_assert!(!matches!(bot.state(), State::Backoff | State::Quarantined));
            } else {
                prop_assert!(bot.state() != State::Stopped, "{:?} on {:?}", before, event);
                prop_assert!(bot.state() != State::Draining(Then::Rest), "{:?} on {:?}", before, event);
            }
        }
    }
}
