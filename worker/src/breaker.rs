//! A backend that could not be reached is left out for a while, where another one can do the work: each
//! attempt would wait for its connection anew.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long it is left out. Then one attempt tries it again.
pub const OPEN_FOR: Duration = Duration::from_secs(10);

/// What is known of one backend.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<Option<Instant>>);

impl Breaker {
    /// Whether it is worth trying. Where its time is over, whoever asks first tries it, and it counts as
    /// unreachable for the others until that has gone well.
    pub fn allows(&self, now: Instant) -> bool {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *until {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                *until = Some(now + OPEN_FOR);
                true
            }
        }
    }

    /// It could not be reached.
    pub fn unreached(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + OPEN_FOR);
    }

    /// It was, whatever came of it.
    pub fn reached(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_away_is_tried_by_one_at_a_time() {
        let (breaker, begun) = (Breaker::default(), Instant::now());
        assert!(breaker.allows(begun) && breaker.allows(begun));
        breaker.unreached(begun);
        assert!(!breaker.allows(begun));
        assert!(!breaker.allows(begun + OPEN_FOR / 2));
        let over = begun + OPEN_FOR;
        assert!(breaker.allows(over));
        assert!(!breaker.allows(over), "somebody is trying");
        breaker.reached();
        assert!(breaker.allows(over) && breaker.allows(over));
    }
}
