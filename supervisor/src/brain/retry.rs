//! What happens to a task whose attempt ended without a result.

use deia::config::Tasks;
use deia::wire::FailureKind;

use super::Millis;
use super::restart::jittered;

/// A task that was never alone in the bots it lost is poison after so many times `poison_after`.
const IN_COMPANY: u32 = 3;

/// Whether the next loss may be the last one: it is tried alone, so that the others a bot has are not blamed for it,
/// nor it for them.
pub fn is_suspect(losses: u32, poison_after: u32) -> bool {
    losses > 0 && losses + 1 >= poison_after
}

/// Why an attempt brought no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The bot said so.
    Failed(FailureKind),
    /// The bot's process ended under it.
    BotLost {
        /// It was the only one the bot had.
        alone: bool,
    },
    /// The daemon took it back: a stop, a drain that ran out of time.
    TakenBack,
}

/// What is known of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Failures before this one.
    pub failures: u32,
    /// Failures it may have.
    pub max_attempts: u32,
    /// Bots it lost in a row before this one.
    pub losses: u32,
    /// Bots it may lose in a row.
    pub poison_after: u32,
}

impl Record {
    fn is_poison(self, alone: bool) -> bool {
        let most = match alone {
            true => self.poison_after,
            false => self.poison_after.saturating_mul(IN_COMPANY),
        };
        self.losses + 1 >= most
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Queue it again, after this delay.
    Retry(Millis),
    /// It is dead.
    Dead(DeadCause),
}

/// Why a task is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadCause {
    /// Every attempt failed.
    AttemptsExhausted,
    /// More attempts can't help.
    Permanent,
    /// It ended every bot that tried it.
    Poison,
}

/// Decides. `chance` is in 0..1.
pub fn after(ended: Ended, record: Record, rules: &Tasks, chance: f64) -> Verdict {
    let [first, cap] = rules.retry_backoff_seconds;
    match ended {
        Ended::TakenBack => Verdict::Retry(0),
        Ended::Failed(FailureKind::Permanent) => Verdict::Dead(DeadCause::Permanent),
        Ended::Failed(_) if record.failures + 1 >= record.max_attempts => {
            Verdict::Dead(DeadCause::AttemptsExhausted)
        }
        Ended::Failed(_) => Verdict::Retry(jittered(first, cap, record.failures, chance)),
        Ended::BotLost { alone } if record.is_poison(alone) => Verdict::Dead(DeadCause::Poison),
        // The bot is at fault until it has happened twice: the first time it is simply run again.
        Ended::BotLost { .. } if record.losses == 0 => Verdict::Retry(0),
        Ended::BotLost { .. } => Verdict::Retry(jittered(first, cap, record.losses - 1, chance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(failures: u32, losses: u32) -> Record {
        Record {
            failures,
            max_attempts: 3,
            losses,
            poison_after: 3,
        }
    }

    #[test]
    fn the_table() {
        use DeadCause::{AttemptsExhausted, Permanent, Poison};
        use Ended::{BotLost, Failed, TakenBack};
        use FailureKind::{Backend, Permanent as Never, TimedOut, Unavailable};
        let rules = Tasks::default();
        let (alone, in_company) = (BotLost { alone: true }, BotLost { alone: false });
        for (ended, record, verdict) in [
            (Failed(Backend), record(0, 0), Verdict::Retry(1000)),
            (Failed(TimedOut), record(1, 0), Verdict::Retry(2000)),
            (
                Failed(Unavailable),
                record(2, 0),
                Verdict::Dead(AttemptsExhausted),
            ),
            (Failed(Never), record(0, 0), Verdict::Dead(Permanent)),
            (alone, record(2, 0), Verdict::Retry(0)),
            (alone, record(0, 1), Verdict::Retry(1000)),
            (alone, record(0, 2), Verdict::Dead(Poison)),
            (in_company, record(0, 0), Verdict::Retry(0)),
            (in_company, record(0, 2), Verdict::Retry(2000)),
            (in_company, record(0, 7), Verdict::Retry(64_000)),
            (in_company, record(0, 8), Verdict::Dead(Poison)),
            (TakenBack, record(2, 2), Verdict::Retry(0)),
        ] {
            assert_eq!(
                after(ended, record, &rules, 1.0),
                verdict,
                "{ended:?} {record:?}"
            );
        }
    }

    #[test]
    fn who_is_tried_alone() {
        let suspects = |n| (0..5).filter(move |losses| is_suspect(*losses, n));
        assert_eq!(suspects(3).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(suspects(2).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(suspects(1).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(suspects(1000).count(), 0);
    }
}
