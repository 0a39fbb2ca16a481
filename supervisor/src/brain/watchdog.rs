//! When the service manager may believe that the daemon works, and how long a stop may still take.
//!
//! ```text
//!   main loop --probe--> store's writer --commit--> main loop --WATCHDOG=1--> service manager
//!       ^                                              |
//!       '---------- half the time allowed later -------'
//! ```
//!
//! One question at a time: while it is not answered there is no next one and no word to the manager. So
//! a main loop that stalls, a writer that stalls and a disk that never answers all end in the same way.
//! A disk that *refuses* is another matter: the main loop and the writer are alive and say so
//! (`/health`, 503), and being killed would mend nothing.

use super::Millis;
use crate::store::{Outcome, StoreError};

/// A question that the store's full queue did not take is put again after this part of the time allowed.
const AGAIN_PART: Millis = 8;

/// How often the service manager is asked for more time during a stop.
pub const EXTEND_EVERY: Millis = 5_000;

/// Time asked for beyond the next asking, also for what follows the main loop's end: connections,
/// what killed bots left, the store's last checkpoint.
const MARGIN: Millis = 15_000;

/// The questions to the store.
#[derive(Debug)]
pub struct Watchdog {
    allowed: Millis,
    asked_at: Millis,
}

impl Watchdog {
    /// The service manager allows so much time between two words.
    pub fn new(allowed: Millis) -> Self {
        Self {
            allowed,
            asked_at: 0,
        }
    }

    /// The store has the question.
    pub fn asked(&mut self, now: Millis) {
        self.asked_at = now;
    }

    /// It was answered; when to ask again.
    pub fn answered(&self, now: Millis) -> Millis {
        (self.asked_at + (self.allowed / 2).max(1)).max(now)
    }

    /// It was not taken; when to ask again.
    pub fn not_taken(&self, now: Millis) -> Millis {
        now + (self.allowed / AGAIN_PART).max(1)
    }
}

/// Whether the answer to a probe is worth a word to the service manager.
pub fn proves_life(answer: &Result<Outcome, StoreError>) -> bool {
    match answer {
        Ok(_) | Err(StoreError::Failed(_) | StoreError::Operation(_)) => true,
        Err(StoreError::Broken(_) | StoreError::Closed) => false,
    }
}

/// How much time to ask for during a stop that ends by itself until `deadline`; none beyond it, so that
/// a stop that hangs is ended by the service manager.
pub fn extension(now: Millis, deadline: Millis) -> Option<Millis> {
    (now < deadline).then(|| EXTEND_EVERY.min(deadline - now) + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_refusal_is_a_sign_of_life_and_a_broken_store_is_none() {
        assert!(proves_life(&Ok(Outcome::Probed)));
        assert!(proves_life(&Err(StoreError::Failed("disk full".into()))));
        assert!(proves_life(&Err(StoreError::Operation("a row".into()))));
        assert!(!proves_life(&Err(StoreError::Broken("fsync".into()))));
        assert!(!proves_life(&Err(StoreError::Closed)));
    }

    #[test]
    fn time_is_asked_for_until_the_deadline_and_not_beyond() {
        assert_eq!(extension(0, 600_000), Some(EXTEND_EVERY + MARGIN));
        assert_eq!(extension(599_000, 600_000), Some(1_000 + MARGIN));
        assert_eq!(extension(600_000, 600_000), None);
    }

    proptest! {
        /// With a store that answers within less than half the time allowed, the words are never further
        /// apart than that time; the questions are never closer together than half of it.
        #[test]
        fn a_store_that_answers_in_time_is_never_late(
            allowed in 2u64..100_000,
            latencies in prop::collection::vec(0.0..1.0f64, 1..50),
        ) {
            let mut watchdog = Watchdog::new(allowed);
            let (mut now, mut said, mut asked) = (0, None, None);
            for part in latencies {
                watchdog.asked(now);
                prop_assert!(asked.is_none_or(|before| now - before >= allowed / 2));
                asked = Some(now);
                now += (part * (allowed / 2) as f64) as Millis;
                prop_assert!(said.is_none_or(|before| now - before <= allowed), "{said:?} {now}");
                said = Some(now);
                now = watchdog.answered(now);
            }
        }

        /// Whatever the main loop was doing meanwhile, a stop has time until its deadline and for its end,
        /// if it asks as often as it should.
        #[test]
        fn a_stop_in_time_is_never_cut_short(deadline in 1u64..2_000_000, lateness in 0..MARGIN) {
            let (mut now, mut until) = (0, MARGIN);
            while let Some(more) = extension(now, deadline) {
                prop_assert!(now <= until);
                until = now + more;
                now += EXTEND_EVERY + lateness;
            }
            prop_assert!(until >= deadline);
        }
    }
}
