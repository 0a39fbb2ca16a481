//! An external bot: a program somewhere else that asks for work. It has no process here, so what is known of it is
//! what it says of itself, and when it spoke last.
//!
//! | state | `Await` | `Heard` | `Timer`, its time is over |
//! |---|---|---|---|
//! | absent | awaited | present: it came | - |
//! | awaited: it has leases of an earlier daemon | awaited | present: it came | absent: it did not come back |
//! | present | - | present, for longer | absent: it is gone |
//!
//! Which *run* of its program speaks is told by the `instance` it names. A new one takes the place of the one
//! before: what that had is lost with it. The old one, should it still be there, is refused from then on.

use std::collections::VecDeque;

use super::Millis;

/// Instances that were replaced and are remembered.
const PAST_INSTANCES: usize = 16;

/// Heartbeats that may be missed.
pub const BEATS: u64 = 3;

/// The least time without a word before it is gone.
pub const LEAST_PATIENCE: Millis = 1_000;

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Not heard of.
    #[default]
    Absent,
    /// It has leases of an earlier daemon, and its time to come back.
    Awaited,
    /// It spoke not long ago.
    Present,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It has leases of an earlier daemon.
    Await(Millis),
    /// It has spoken: it is there for so long.
    Heard(Millis),
    /// Time has passed.
    Timer,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there.
    Came,
    /// It is not there any more: what it has is lost.
    Gone,
    /// It did not come back to an earlier daemon's leases: they are released.
    NotBack,
}

/// Whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    state: State,
    until: Millis,
}

impl Presence {
    /// What is known.
    pub fn state(&self) -> State {
        self.state
    }

    /// When its time is over; `None` where it is not waited for.
    pub fn until(&self) -> Option<Millis> {
        (self.state != State::Absent).then_some(self.until)
    }

    /// Something happens.
    pub fn on(&mut self, event: Event, now: Millis) -> Option<Change> {
        let (state, until, change) = match (self.state, event) {
            (State::Absent | State::Awaited, Event::Await(patience)) => {
                (State::Awaited, now.saturating_add(patience), None)
            }
            (State::Absent | State::Awaited, Event::Heard(patience)) => (
                State::Present,
                now.saturating_add(patience),
                Some(Change::Came),
            ),
            (State::Present, Event::Heard(patience)) => {
                let until = now.saturating_add(patience);
                (State::Present, until.max(self.until), None)
            }
            (State::Awaited, Event::Timer) if now >= self.until => {
                (State::Absent, 0, Some(Change::NotBack))
            }
            (State::Present, Event::Timer) if now >= self.until => {
                (State::Absent, 0, Some(Change::Gone))
            }
            (State::Present, Event::Await(_)) | (_, Event::Timer) => (self.state, self.until, None),
        };
        (self.state, self.until) = (state, until);
        change
    }
}

/// How long it may be silent.
pub fn patience(heartbeat: Millis) -> Millis {
    heartbeat.saturating_mul(BEATS).max(LEAST_PATIENCE)
}

/// Which run of its program speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// The one that is known, or none was named.
    Same,
    /// The first that is named.
    First,
    /// Another one, in place of the one before.
    Replaced,
    /// One that was replaced.
    Past,
}

/// The runs of its program.
#[derive(Debug, Clone, Default)]
pub struct Instances {
    current: Option<String>,
    past: VecDeque<String>,
}

impl Instances {
    /// One speaks.
    pub fn meet(&mut self, named: Option<&str>) -> Meeting {
        let Some(named) = named else {
            return Meeting::Same;
        };
        if self.current.as_deref() == Some(named) {
            return Meeting::Same;
        }
        if self.past.iter().any(|past| past == named) {
            return Meeting::Past;
        }
        let Some(before) = self.current.replace(named.to_owned()) else {
            return Meeting::First;
        };
        if self.past.len() == PAST_INSTANCES {
            self.past.pop_front();
        }
        self.past.push_back(before);
        Meeting::Replaced
    }
}

/// Whether a lease that the bot does not name among those it has never reached it. `given`: when the answer with
/// it was sent, `None` where an earlier daemon did; an answer may take a while.
pub fn never_reached(given: Option<Millis>, now: Millis, patience: Millis) -> bool {
    given.is_none_or(|given| now.saturating_sub(given) >= patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_answer_in_every_state() {
        use Change::{Came, Gone, NotBack};
        use State::{Absent, Awaited, Present};
        let state = |state, until| Presence { state, until };
        for (before, event, after, change) in [
            (
                state(Absent, 0),
                Event::Await(30),
                state(Awaited, 130),
                None,
            ),
            (
                state(Absent, 0),
                Event::Heard(15),
                state(Present, 115),
                Some(Came),
            ),
            (state(Absent, 0), Event::Timer, state(Absent, 0), None),
            (
                state(Awaited, 90),
                Event::Await(30),
                state(Awaited, 130),
                None,
            ),
            (
                state(Awaited, 90),
                Event::Heard(15),
                state(Present, 115),
                Some(Came),
            ),
            (state(Awaited, 101), Event::Timer, state(Awaited, 101), None),
            (
                state(Awaited, 100),
                Event::Timer,
                state(Absent, 0),
                Some(NotBack),
            ),
            (
                state(Present, 90),
                Event::Await(30),
                state(Present, 90),
                None,
            ),
            (
                state(Present, 90),
                Event::Heard(15),
                state(Present, 115),
                None,
            ),
            // A long poll's time is not cut short by a heartbeat beside it.
            (
                state(Present, 160),
                Event::Heard(15),
                state(Present, 160),
                None,
            ),
            (state(Present, 101), Event::Timer, state(Present, 101), None),
            (
                state(Present, 100),
                Event::Timer,
                state(Absent, 0),
                Some(Gone),
            ),
        ] {
            let mut presence = before;
            assert_eq!(presence.on(event, 100), change, "{before:?} {event:?}");
            assert_eq!(presence, after, "{before:?} {event:?}");
        }
    }

    #[test]
    fn a_new_instance_takes_the_place_of_the_one_before_for_good() {
        let mut instances = Instances::default();
        assert_eq!(instances.meet(None), Meeting::Same);
        assert_eq!(instances.meet(Some("a")), Meeting::First);
        assert_eq!(instances.meet(Some("a")), Meeting::Same);
        assert_eq!(instances.meet(Some("b")), Meeting::Replaced);
        assert_eq!(instances.meet(Some("a")), Meeting::Past);
        assert_eq!(instances.meet(Some("b")), Meeting::Same);
        assert_eq!(instances.meet(None), Meeting::Same);
        for n in 0..100 {
            assert_eq!(instances.meet(Some(&n.to_string())), Meeting::Replaced);
        }
        assert_eq!(instances.past.len(), PAST_INSTANCES);
    }

    #[test]
    fn what_is_not_named_counts_as_lost_once_its_answer_had_time() {
        assert!(never_reached(None, 5, 100));
        assert!(!never_reached(Some(5), 104, 100));
        assert!(never_reached(Some(5), 105, 100));
    }
}
