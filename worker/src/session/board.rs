//! Which attempts this bot has, as a pure value: what runs, what waits for its acknowledgement, and
//! whether more is taken.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Finished attempts that may wait for their acknowledgement. A supervisor that assigns and never
/// acknowledges is broken.
pub const MAX_UNACKNOWLEDGED: usize = 1024;

/// Whether more is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Yes.
    Open,
    /// No: the bot is stopping.
    Closed,
}

/// The answer to an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Run it.
    Run,
    /// It runs, or has ended and was reported.
    Already,
    /// The bot is stopping: it crossed with the supervisor's word, or with a signal.
    Stopping,
    /// No supervisor that follows the protocol sends this.
    TooMany,
}

/// The attempts of a bot; `K` names one, `C` cancels it.
#[derive(Debug)]
pub struct Board<K, C> {
    slots: usize,
    intake: Intake,
    running: HashMap<K, Option<C>>,
    unacknowledged: HashSet<K>,
}

impl<K: Eq + Hash + Clone, C> Board<K, C> {
    /// An empty board for `slots` attempts at once.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            intake: Intake::Open,
            running: HashMap::new(),
            unacknowledged: HashSet::new(),
        }
    }

    /// What to do with an assignment.
    pub fn admit(&self, key: &K) -> Admission {
        if self.running.contains_key(key) || self.unacknowledged.contains(key) {
            Admission::Already
        } else if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            Admission::TooMany
        } else if self.intake == Intake::Closed {
            Admission::Stopping
        } else if self.running.len() >= self.slots {
            Admission::TooMany
        } else {
            Admission::Run
        }
    }

    /// It was started; `cancel` ends it.
    pub fn started(&mut self, key: K, cancel: C) {
        self.running.insert(key, Some(cancel));
    }

    /// It has ended and is being reported.
    pub fn ended(&mut self, key: &K) {
        self.running.remove(key);
        self.unacknowledged.insert(key.clone());
    }

    /// Its result is durable.
    pub fn acknowledged(&mut self, key: &K) {
        self.unacknowledged.remove(key);
    }

    /// What cancels an attempt; once. `None` when it does not run, or is being ended already.
    pub fn cancel(&mut self, key: &K) -> Option<C> {
        self.running.get_mut(key).and_then(Option::take)
    }

    /// What cancels everything that runs.
    pub fn cancel_all(&mut self) -> Vec<C> {
        self.running.values_mut().filter_map(Option::take).collect()
    }

    /// Takes no more.
    pub fn close(&mut self) {
        self.intake = Intake::Closed;
    }

    /// Whether more is taken.
    pub fn intake(&self) -> Intake {
        self.intake
    }

    /// Attempts that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether there is nothing to wait for: nothing runs and everything is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.running.is_empty() && self.unacknowledged.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_when_its_attempt_has_ended_not_when_it_is_acknowledged() {
        let mut board = Board::new(1);
        assert_eq!(board.admit(&'a'), Admission::Run);
        board.started('a', ());
        assert_eq!(board.admit(&'b'), Admission::TooMany);
        assert_eq!(board.admit(&'a'), Admission::Already);
        board.ended(&'a');
        assert_eq!(board.admit(&'b'), Admission::Run);
        assert_eq!(board.admit(&'a'), Admission::Already);
        assert!(!board.is_settled());
        board.acknowledged(&'a');
        assert!(board.is_settled());
    }

    #[test]
    fn an_attempt_is_cancelled_once() {
        let mut board = Board::new(2);
        board.started('a', 1);
        board.started('b', 2);
        assert_eq!(board.cancel(&'a'), Some(1));
        assert_eq!(board.cancel(&'a'), None);
        assert_eq!(board.cancel(&'x'), None);
        assert_eq!(board.cancel_all(), [2]);
        assert_eq!(board.running(), 2);
    }

    #[test]
    fn what_crosses_with_a_stop_is_no_fault() {
        let mut board: Board<char, ()> = Board::new(1);
        board.close();
        assert_eq!(board.admit(&'a'), Admission::Stopping);
    }

    proptest::proptest! {
        /// Against a model: two sets of keys.
        #[test]
        fn bounds_hold_whatever_happens(steps in proptest::collection::vec((0u8..4, 0u8..6), 0..60)) {
            let mut board = Board::new(2);
            for (what, key) in steps {
                match what {
                    0 => if board.admit(&key) == Admission::Run {
                        board.started(key, key);
                    },
                    1 => if board.running.contains_key(&key) {
                        board.ended(&key);
                    },
                    2 => board.acknowledged(&key),
                    _ => if let Some(cancel) = board.cancel(&key) {
                        proptest::prop_assert_eq!(cancel, key);
                    },
                }
                proptest::prop_assert!(board.running() <= 2);
                proptest::prop_assert!(board.running.keys().all(|k| !board.unacknowledged.contains(k)));
            }
        }
    }
}
