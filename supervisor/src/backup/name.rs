//! An archive's name: `state-2026-11-30-02-10-55`, in UTC.

use deia::time::Timestamp;

const SECOND: i64 = 1_000_000;
/// Seconds from a point in time on, one of which is free.
const MAX_LATER: i64 = 3_600;

/// The name of one that is made at this time.
pub fn of_time(at: Timestamp) -> String {
    let text = at.to_string();
    // RFC 3339: the first 19 characters are date and time.
    let stamp: String = text.chars().take(19).collect();
    format!("state-{}", stamp.replace(['T', ':'], "-"))
}

/// When one of this name was made.
pub fn time_of(name: &str) -> Option<Timestamp> {
    let stamp = name.strip_prefix("state-")?;
    let parts: Vec<&str> = stamp.split('-').collect();
    let [year, month, day, hour, minute, second] = parts.as_slice() else {
        return None;
    };
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    text.parse().ok()
}

/// The name of one that is made at this time, or of a later second where that is taken.
pub fn free(at: Timestamp, is_taken: impl Fn(&str) -> bool) -> Option<String> {
    (0..MAX_LATER)
        .map(|later| {
            of_time(Timestamp::from_micros(
                at.as_micros().saturating_add(later * SECOND),
            ))
        })
        .find(|name| !is_taken(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_time() {
        let at: Timestamp = "2026-11-30T02:10:55.123456Z".parse().unwrap();
        let name = of_time(at);
        assert_eq!(name, "state-2026-11-30-02-10-55");
        let back = time_of(&name).unwrap();
        assert_eq!(back.as_micros(), at.as_micros() - 123_456);
        for other in [
            "state-",
            "state-2026-11-30",
            "stat-2026-11-30-02-10-55",
            "state-2026-13-30-02-10-55",
        ] {
            assert_eq!(time_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_not_taken_again() {
        let at: Timestamp = "2026-12-31T23:59:59Z".parse().unwrap();
        let free = |taken: &[&str]| free(at, |name| taken.contains(&name));
        assert_eq!(free(&[]).unwrap(), "state-2026-12-31-23-59-59");
        let next = free(&["state-2026-12-31-23-59-59"]).unwrap();
        assert_eq!(next, "state-2027-01-01-00-00-00");
        assert_eq!(super::free(at, |_| true), None);
    }
}
