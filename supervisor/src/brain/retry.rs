//! What happens to a task whose attempt ended without a result.

use deia::config::Tasks;
use deia::wire::FailureKind;

use super::Millis;
use super::restart::jittered;

/// Why an attempt brought no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The bot said so.
    Failed(FailureKind),
    /// The bot's process ended under it.
    BotLost,
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
        Ended::BotLost if record.losses + 1 >= record.poison_after => {
            Verdict::Dead(DeadCause::Poison)
        }
        // The bot is at fault until it has happened twice: the first time it is simply run again.
        Ended::BotLost if record.losses == 0 => Verdict::Retry(0),
        Ended::BotLost => Verdict::Retry(jittered(first, cap, record.losses - 1, chance)),
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
        for (ended, record, verdict) in [
            (Failed(Backend), record(0, 0), Verdict::Retry(1000)),
            (Failed(TimedOut), record(1, 0), Verdict::Retry(2000)),
            (
                Failed(Unavailable),
                record(2, 0),
                Verdict::Dead(AttemptsExhausted),
            ),
            (Failed(Never), record(0, 0), Verdict::Dead(Permanent)),
            (BotLost, record(2, 0), Verdict::Retry(0)),
            (BotLost, record(0, 1), Verdict::Retry(1000)),
            (BotLost, record(0, 2), Verdict::Dead(Poison)),
            (TakenBack, record(2, 2), Verdict::Retry(0)),
        ] {
            assert_eq!(
                after(ended, record, &rules, 1.0),
                verdict,
                "{ended:?} {record:?}"
            );
        }
    }
}
