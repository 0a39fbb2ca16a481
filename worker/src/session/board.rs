//! Which attempts this bot has, without any I/O: what runs, what waits for its acknowledgement, what
//! has to be sent next, and whether more is taken.

use std::collections::{HashMap, VecDeque};

use deia::time::Timestamp;
use deia::wire::{CancelOf, Held, Kept, Outcome, ToSupervisor};
use tokio::time::Instant;

use crate::attempt::Key;
use crate::transcript::Transcript;

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

/// The attempts of a bot; `C` cancels one.
#[derive(Debug)]
pub struct Board<C> {
    slots: usize,
    intake: Intake,
    attempts: HashMap<Key, Attempt<C>>,
    /// Those of which something is still to be sent, in turn.
    unsent: VecDeque<Key>,
}

#[derive(Debug)]
struct Attempt<C> {
    transcript: Transcript,
    since: Instant,
    /// The same by the wall clock.
    at: Timestamp,
    said_started: bool,
    cancelled: Option<CancelOf>,
    phase: Phase<C>,
}

#[derive(Debug)]
enum Phase<C> {
    /// It runs; what cancels it, once.
    Running(Option<C>),
    /// It runs, is being ended, and nobody wants to hear of it.
    Forgotten,
    /// It has ended and waits for its acknowledgement.
    Ended(Outcome),
}

/// When a bot had its task, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    pub instant: Instant,
    pub at: Timestamp,
}

impl Since {
    pub fn now() -> Self {
        Self {
            at: Timestamp::now(),
            instant: Instant::now(),
        }
    }
}

/// A result that was not acknowledged.
#[derive(Debug, Clone)]
pub struct Unacknowledged {
    /// Of which attempt.
    pub key: Key,
    /// How it ended.
    pub outcome: Outcome,
    /// What its end had been asked for, where it was.
    pub cancelled: Option<CancelOf>,
    /// What it said.
    pub transcript: Transcript,
}

impl<C> Board<C> {
    /// An empty board for `slots` attempts at once.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            intake: Intake::Open,
            attempts: HashMap::new(),
            unsent: VecDeque::new(),
        }
    }

    /// What to do with an assignment.
    pub fn admit(&self, key: &Key) -> Admission {
        let wanted = self.attempts.values();
        let running = wanted.filter(|a| matches!(a.phase, Phase::Running(_)));
        if self.attempts.contains_key(key) {
            Admission::Already
        } else if self.attempts.len() - self.running() >= MAX_UNACKNOWLEDGED {
            Admission::TooMany
        } else if self.intake == Intake::Closed {
            Admission::Stopping
        } else if running.count() >= self.slots {
            Admission::TooMany
        } else {
            Admission::Run
        }
    }

    /// It was started; `cancel` ends it.
    pub fn started(&mut self, key: Key, cancel: C, transcript: Transcript, since: Since) {
        let Since { instant, at } = since;
        let attempt = Attempt {
            transcript,
            since: instant,
            at,
            said_started: false,
            cancelled: None,
            phase: Phase::Running(Some(cancel)),
        };
        self.attempts.insert(key.clone(), attempt);
        self.unsent.push_back(key);
    }

    /// It is not run at all: the bot is stopping.
    pub fn declined(&mut self, key: Key, transcript: Transcript, since: Since) {
        let Since { instant, at } = since;
        let attempt = Attempt {
            transcript,
            since: instant,
            at,
            said_started: true,
            cancelled: None,
            phase: Phase::Ended(Outcome::Cancelled),
        };
        self.attempts.insert(key.clone(), attempt);
        self.unsent.push_back(key);
    }

    /// It has ended. What is to be kept until it is acknowledged, if anybody wants it.
    pub fn ended(&mut self, key: &Key, outcome: Outcome) -> Option<Unacknowledged> {
        let attempt = self.attempts.get_mut(key)?;
        match attempt.phase {
            Phase::Running(_) => {
                attempt.phase = Phase::Ended(outcome.clone());
                Some(Unacknowledged {
                    key: key.clone(),
                    outcome,
                    cancelled: attempt.cancelled,
                    transcript: attempt.transcript.clone(),
                })
            }
            Phase::Forgotten => {
                self.attempts.remove(key);
                None
            }
            Phase::Ended(_) => None,
        }
    }

    /// Its result is durable, or of no use to anybody.
    pub fn acknowledged(&mut self, key: &Key) {
        if let Some(Phase::Ended(_)) = self.attempts.get(key).map(|a| &a.phase) {
            self.attempts.remove(key);
            self.unsent.retain(|other| other != key);
        }
    }

    /// What cancels an attempt; once. `None` when it does not run, or is being ended already.
    pub fn cancel(&mut self, key: &Key, of: CancelOf) -> Option<C> {
        let attempt = self.attempts.get_mut(key)?;
        let Phase::Running(cancel) = &mut attempt.phase else {
            return None;
        };
        // To give up the task is more than to give up the attempt.
        if attempt.cancelled != Some(CancelOf::Task) {
            attempt.cancelled = Some(of);
        }
        cancel.take()
    }

    /// What cancels everything that runs.
    pub fn cancel_all(&mut self) -> Vec<C> {
        let running = self.attempts.values_mut();
        running
            .filter_map(|attempt| match &mut attempt.phase {
                Phase::Running(cancel) => cancel.take(),
                Phase::Forgotten | Phase::Ended(_) => None,
            })
            .collect()
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
        let all = self.attempts.values();
        all.filter(|a| !matches!(a.phase, Phase::Ended(_))).count()
    }

    /// Whether there is nothing to wait for: nothing runs and everything is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Whether [`Board::next_frame`] has something.
    pub fn has_more(&self) -> bool {
        self.unsent.iter().any(|key| {
            self.attempts.get(key).is_some_and(|attempt| {
                !attempt.said_started
                    || !attempt.transcript.is_sent()
                    || matches!(attempt.phase, Phase::Ended(_))
            })
        })
    }

    /// What to send next: of each attempt its beginning, its output, its end; of several in turn.
    pub fn next_frame(&mut self) -> Option<ToSupervisor> {
        for _ in 0..self.unsent.len() {
            let key = self.unsent.pop_front()?;
            let Some(attempt) = self.attempts.get_mut(&key) else {
                continue;
            };
            let (task, fence) = key.clone();
            if !attempt.said_started {
                attempt.said_started = true;
                self.unsent.push_back(key);
                let at = Some(attempt.at.as_micros());
                return Some(ToSupervisor::Started { task, fence, at });
            }
            if let Some(text) = attempt.transcript.take() {
                self.unsent.push_back(key);
                return Some(ToSupervisor::Output { task, fence, text });
            }
            match &attempt.phase {
                Phase::Ended(outcome) => {
                    return Some(ToSupervisor::Finished {
                        task,
                        fence,
                        outcome: outcome.clone(),
                    });
                }
                Phase::Running(_) => self.unsent.push_back(key),
                Phase::Forgotten => {}
            }
        }
        None
    }

    /// The supervisor is gone: nobody has to wait for it. What it has not acknowledged.
    pub fn hang_up(&mut self) -> Vec<Unacknowledged> {
        let mut results = Vec::new();
        for (key, attempt) in &self.attempts {
            attempt.transcript.hang_up();
            if let Phase::Ended(outcome) = &attempt.phase {
                results.push(Unacknowledged {
                    key: key.clone(),
                    outcome: outcome.clone(),
                    cancelled: attempt.cancelled,
                    transcript: attempt.transcript.clone(),
                });
            }
        }
        results
    }

    /// What there is, to be shown to a supervisor.
    pub fn held(&self, now: Instant) -> Vec<Held> {
        let wanted = self.attempts.iter();
        wanted
            .filter(|(_, attempt)| !matches!(attempt.phase, Phase::Forgotten))
            .map(|((task, fence), attempt)| Held {
                task: task.clone(),
                fence: *fence,
                running_ms: now.duration_since(attempt.since).as_millis() as u64,
                cancelled: attempt.cancelled,
            })
            .collect()
    }

    /// There is a supervisor again. Goes on with what is kept, forgets the rest; what cancels what is
    /// forgotten, and which results nobody wants.
    pub fn reunite(&mut self, kept: Vec<Kept>) -> (Vec<C>, Vec<Key>) {
        let mut kept: HashMap<Key, u64> = kept
            .into_iter()
            .map(|kept| ((kept.task, kept.fence), kept.bytes))
            .collect();
        let (mut cancels, mut unwanted) = (Vec::new(), Vec::new());
        self.unsent.clear();
        for (key, attempt) in &mut self.attempts {
            match (&mut attempt.phase, kept.remove(key)) {
                (Phase::Running(_) | Phase::Ended(_), Some(bytes)) => {
                    attempt.transcript.resume(bytes);
                    self.unsent.push_back(key.clone());
                }
                (Phase::Running(cancel), None) => {
                    cancels.extend(cancel.take());
                    attempt.phase = Phase::Forgotten;
                }
                (Phase::Ended(_), None) => unwanted.push(key.clone()),
                (Phase::Forgotten, _) => {}
            }
        }
        for key in &unwanted {
            self.attempts.remove(key);
        }
        (cancels, unwanted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deia::task::Fence;

    use super::*;
    use crate::transcript::Line;

    fn key(n: u32) -> Key {
        let fence = Fence {
            epoch: 1,
            attempt: n,
        };
        (format!("t{n}").parse().unwrap(), fence)
    }

    fn start(board: &mut Board<u32>, n: u32) -> Transcript {
        let transcript = Transcript::new(Arc::default(), Line::Up);
        board.started(key(n), n, transcript.clone(), Since::now());
        transcript
    }

    fn failed(error: &str) -> Outcome {
        Outcome::Failed {
            error: error.into(),
            kind: deia::wire::FailureKind::Backend,
        }
    }

    /// What is sent, in short.
    fn sent(board: &mut Board<u32>) -> Vec<String> {
        std::iter::from_fn(|| board.next_frame())
            .map(|frame| match frame {
                ToSupervisor::Started { task, .. } => format!("{task} started"),
                ToSupervisor::Output { task, text, .. } => format!("{task} says {text}"),
                ToSupervisor::Finished { task, .. } => format!("{task} ended"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn kept(n: u32, bytes: u64) -> Kept {
        let (task, fence) = key(n);
        Kept { task, fence, bytes }
    }

    #[test]
    fn a_slot_is_free_when_its_attempt_has_ended_not_when_it_is_acknowledged() {
        let mut board = Board::new(1);
        assert_eq!(board.admit(&key(1)), Admission::Run);
        start(&mut board, 1);
        assert_eq!(board.admit(&key(2)), Admission::TooMany);
        assert_eq!(board.admit(&key(1)), Admission::Already);
        board.ended(&key(1), Outcome::Cancelled);
        assert_eq!(board.admit(&key(2)), Admission::Run);
        assert_eq!(board.admit(&key(1)), Admission::Already);
        assert!(!board.is_settled());
        board.acknowledged(&key(1));
        assert!(board.is_settled());
    }

    #[test]
    fn an_attempt_is_cancelled_once() {
        let mut board = Board::new(2);
        start(&mut board, 1);
        start(&mut board, 2);
        assert_eq!(board.cancel(&key(1), CancelOf::Attempt), Some(1));
        assert_eq!(board.cancel(&key(1), CancelOf::Task), None);
        assert_eq!(board.cancel(&key(9), CancelOf::Task), None);
        assert_eq!(board.cancel_all(), [2]);
        assert_eq!(board.running(), 2);
        let held = board.held(Instant::now());
        let first = held.iter().find(|held| held.fence.attempt == 1).unwrap();
        assert_eq!(first.cancelled, Some(CancelOf::Task));
    }

    #[test]
    fn what_crosses_with_a_stop_is_no_fault() {
        let mut board: Board<u32> = Board::new(1);
        board.close();
        assert_eq!(board.admit(&key(1)), Admission::Stopping);
    }

    #[tokio::test]
    async fn beginnings_come_first_ends_last_and_nobody_waits_for_another() {
        let mut board = Board::new(2);
        let (one, two) = (start(&mut board, 1), start(&mut board, 2));
        one.say("a").await;
        two.say("b").await;
        board.ended(&key(1), failed("no"));
        assert!(board.has_more());
        assert_eq!(
            sent(&mut board),
            [
                "t1 started",
                "t2 started",
                "t1 says a",
                "t2 says b",
                "t1 ended"
            ]
        );
        assert!(!board.has_more());
        two.say("c").await;
        assert_eq!(sent(&mut board), ["t2 says c"]);
    }

    #[tokio::test]
    async fn after_a_reunion_everything_that_is_kept_arrives_whole() {
        let mut board = Board::new(4);
        let texts: Vec<Transcript> = (1..=4).map(|n| start(&mut board, n)).collect();
        for text in &texts {
            text.say("abc").await;
        }
        board.ended(&key(2), failed("no"));
        board.ended(&key(4), failed("no"));
        sent(&mut board);
        let unacknowledged = board.hang_up();
        assert_eq!(unacknowledged.len(), 2);
        texts[0].say("def").await;
        // 1 runs on, 2 has ended, 3 was given to somebody else, 4 is known already.
        let (cancels, unwanted) = board.reunite(vec![kept(1, 2), kept(2, 0)]);
        assert_eq!((cancels, unwanted), (vec![3], vec![key(4)]));
        let mut again = sent(&mut board);
        again.sort();
        assert_eq!(again, ["t1 says cdef", "t2 ended", "t2 says abc"]);
        assert!(board.ended(&key(3), Outcome::Cancelled).is_none());
        assert_eq!(board.held(Instant::now()).len(), 2);
    }

    #[test]
    fn what_is_being_forgotten_takes_no_slot() {
        let mut board = Board::new(1);
        start(&mut board, 1);
        board.hang_up();
        board.reunite(Vec::new());
        assert_eq!(board.running(), 1);
        assert_eq!(board.admit(&key(2)), Admission::Run);
    }

    proptest::proptest! {
        #[test]
        fn bounds_hold_whatever_happens(steps in proptest::collection::vec((0u8..7, 0u32..6), 0..60)) {
            let mut board = Board::new(2);
            for (what, n) in steps {
                match what {
                    0 => if board.admit(&key(n)) == Admission::Run {
                        start(&mut board, n);
                    },
                    1 => drop(board.ended(&key(n), Outcome::Cancelled)),
                    2 => board.acknowledged(&key(n)),
                    3 => if let Some(cancel) = board.cancel(&key(n), CancelOf::Task) {
                        proptest::prop_assert_eq!(cancel, n);
                    },
                    4 => drop(board.next_frame()),
                    5 => drop(board.hang_up()),
                    _ => drop(board.reunite(vec![kept(n, 0)])),
                }
                let wanted = board.attempts.values();
                let wanted = wanted.filter(|a| matches!(a.phase, Phase::Running(_)));
                proptest::prop_assert!(wanted.count() <= 2);
                // What is to be sent is there, once, and all that runs is.
                let mut keys: Vec<_> = board.unsent.iter().collect();
                keys.sort_by_key(|key| key.1.attempt);
                keys.dedup();
                proptest::prop_assert_eq!(keys.len(), board.unsent.len());
                for (key, attempt) in &board.attempts {
                    let runs = matches!(attempt.phase, Phase::Running(_));
                    proptest::prop_assert!(!runs || board.unsent.contains(key));
                }
            }
        }
    }
}
