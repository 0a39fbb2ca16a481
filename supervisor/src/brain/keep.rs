//! Which backups are kept, and when the next one is due.

use deia::time::Timestamp;

/// A named backup is kept this many times as long as one without a name.
pub const NAMED_TIMES: i64 = 10;

/// After a backup that failed it is tried again this soon, or after the interval where that is shorter.
pub const TRY_AGAIN_SECONDS: i64 = 300;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A backup, as far as keeping it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub id: String,
    /// When it was made.
    pub at: Timestamp,
    /// Somebody gave it a name.
    pub named: bool,
    /// It was read, and is what it says it is.
    pub good: bool,
}

/// Those that go: older than `days`, named ones [`NAMED_TIMES`] as old. The newest good one never goes,
/// whatever its age; what is of the future (a clock was set back) neither.
pub fn to_remove(stored: &[Stored], now: Timestamp, days: u32) -> Vec<String> {
    let newest = stored
        .iter()
        .filter(|one| one.good)
        .max_by_key(|one| one.at);
    let newest = newest.map(|one| one.id.as_str());
    let is_over = |one: &&Stored| {
        let days = i64::from(days) * if one.named { NAMED_TIMES } else { 1 };
        let age = now.as_micros().saturating_sub(one.at.as_micros());
        age > days.saturating_mul(DAY) && newest != Some(one.id.as_str())
    };
    stored
        .iter()
        .filter(is_over)
        .map(|one| one.id.clone())
        .collect()
}

/// Microseconds from now to the next backup: `interval_minutes` after the newest one, at the earliest
/// `at_least` seconds from now. A newest one that is of the future says nothing.
pub fn until_next(
    newest: Option<Timestamp>,
    now: Timestamp,
    interval_minutes: u32,
    at_least: i64,
) -> i64 {
    let interval = i64::from(interval_minutes) * 60 * SECOND;
    let age = newest.map(|newest| now.as_micros().saturating_sub(newest.as_micros()));
    let left = match age {
        Some(age) if age >= 0 => interval.saturating_sub(age),
        _ => interval,
    };
    left.max(at_least.saturating_mul(SECOND))
        .min(interval.max(at_least * SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_micros(days * DAY)
    }

    fn stored(id: &str, days: i64, named: bool, good: bool) -> Stored {
        Stored {
            id: id.into(),
            at: at(days),
            named,
            good,
        }
    }

    #[test]
    fn what_is_older_than_its_days_goes_and_the_newest_good_one_never() {
        let all = [
            stored("a", 0, false, true),
            stored("b", 91, false, true),
            stored("c", 93, false, true),
            stored("named", 31, true, true),
            stored("named long ago", 29, true, true),
        ];
        assert_eq!(to_remove(&all, at(100), 7), ["a", "b", "named long ago"]);
        // Nothing was made for a year.
        assert_eq!(
            to_remove(&all, at(465), 7),
            ["a", "b", "named", "named long ago"]
        );
        // The newest one is damaged: the newest good one stays.
        let damaged = [
            stored("old", 1, false, true),
            stored("older", 0, false, true),
            stored("bad", 2, false, false),
        ];
        assert_eq!(to_remove(&damaged, at(100), 7), ["older", "bad"]);
        assert!(to_remove(&[], at(0), 7).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        let all = [stored("a", 50, false, true), stored("b", 60, false, true)];
        assert!(to_remove(&all, at(10), 7).is_empty());
    }

    #[test]
    fn the_next_one_is_an_interval_after_the_newest() {
        let minutes = |n: i64| Timestamp::from_micros(n * 60 * SECOND);
        let left = |newest, now| until_next(newest, minutes(now), 10, 30) / SECOND;
        assert_eq!(left(None, 100), 600);
        assert_eq!(left(Some(minutes(96)), 100), 360);
        // Long ago: soon, but not at once.
        assert_eq!(left(Some(minutes(1)), 100), 30);
        // Of the future.
        assert_eq!(left(Some(minutes(101)), 100), 600);
    }
}
