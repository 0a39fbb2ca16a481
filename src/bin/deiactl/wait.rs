//! Waiting for the daemon to bring something about.

use std::str::FromStr;
use std::time::Duration;

use deia::client::ClientError;
use tokio::time::Instant;

use crate::failure::Failure;

/// First pause between two looks; doubled up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long a daemon may be away (restarted, upgraded) while something is waited for.
const ABSENCE: Duration = Duration::from_secs(30);

/// How long to wait. `--wait` alone is [`Patience::Unlimited`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Patience {
    /// Until it happens.
    Unlimited,
    /// At most this long.
    Limited(Duration),
}

impl FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let seconds: f64 = text
            .parse()
            .map_err(|_| format!("'{text}' is no number of seconds"))?;
        Duration::try_from_secs_f64(seconds)
            .map(Self::Limited)
            .map_err(|_| format!("'{text}' is no number of seconds from 0 up"))
    }
}

/// A running wait.
pub struct Wait {
    deadline: Option<Instant>,
    patience: Patience,
}

impl Wait {
    /// Starts now.
    pub fn new(patience: Patience) -> Self {
        let deadline = match patience {
            Patience::Unlimited => None,
            // Too far to be a point in time is as good as never.
            Patience::Limited(limit) => Instant::now().checked_add(limit),
        };
        Self { deadline, patience }
    }

    /// What is left; `None` for ever.
    pub fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Looks again and again until `look` brings something. A daemon that is away for a moment is
    /// waited for: what was accepted goes on without it.
    pub async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut pause = SHORTEST_PAUSE;
        let mut away_since = None;
        loop {
            match look().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => away_since = None,
                Err(Failure::Client(error @ ClientError::Unreachable { .. })) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > ABSENCE {
                        return Err(error.into());
                    }
                }
                Err(failure) => return Err(failure),
            }
            match self.left() {
                Some(Duration::ZERO) => return Err(self.timed_out(what)),
                Some(left) => tokio::time::sleep(pause.min(left)).await,
                None => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The failure of a wait that took too long.
    pub fn timed_out(&self, what: &str) -> Failure {
        let limit = match self.patience {
            Patience::Unlimited => String::new(),
            Patience::Limited(limit) => format!(" within {} s", limit.as_secs_f64()),
        };
        Failure::TimedOut(format!(
            "{what} did not happen{limit}; it goes on without this command"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_number_of_seconds_from_0_up() {
        assert_eq!(
            "1.5".parse(),
            Ok(Patience::Limited(Duration::from_millis(1500)))
        );
        assert_eq!("unlimited".parse(), Ok(Patience::Unlimited));
        for bad in ["-1", "NaN", "inf", "soon", ""] {
            assert!(bad.parse::<Patience>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_wait_looks_at_least_once_and_ends_at_its_limit() {
        let wait = Wait::new(Patience::Limited(Duration::ZERO));
        let found = wait.until("it", async || Ok(Some(7))).await;
        assert!(matches!(found, Ok(7)));
        let never = wait.until("it", async || Ok(None::<()>)).await;
        assert!(matches!(never, Err(Failure::TimedOut(_))));
    }

    #[tokio::test]
    async fn a_daemon_that_is_away_for_a_moment_is_waited_for() {
        let mut looks = 0;
        let wait = Wait::new(Patience::Unlimited);
        let found = wait.until("it", async || {
            looks += 1;
            if looks < 3 {
                return Err(Failure::Client(ClientError::Unreachable {
                    target: "t".into(),
                    why: "w".into(),
                }));
            }
            Ok(Some(looks))
        });
        assert!(matches!(found.await, Ok(3)));
    }
}
