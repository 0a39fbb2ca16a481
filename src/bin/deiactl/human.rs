//! Numbers as people read them. Times are UTC everywhere, as in the API and the logs.

use deia::time::Timestamp;
pub use deia::time::duration;

/// `2026-11-23 23:29:14Z`.
pub fn time(at: Timestamp) -> String {
    let text = at.to_string();
    // RFC 3339 with six decimals: cut them, the zone stays.
    match (text.split_once('T'), text.find('.')) {
        (Some((day, _)), Some(dot)) => format!("{day} {}Z", &text[day.len() + 1..dot]),
        _ => text,
    }
}

/// How long ago: `3m 05s ago`.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.seconds_since(at)))
}

/// `12.3 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// A fraction: `42%`.
pub fn percent(fraction: f64) -> String {
    format!("{:.0}%", fraction * 100.0)
}

/// What is not there.
pub const NOTHING: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_zone_and_lose_their_microseconds() {
        let at = Timestamp::from_micros(1_761_407_123_123_456);
        assert_eq!(time(at), "2025-10-25 15:45:23Z");
        assert_eq!(age(at, at.plus_millis(65_000)), "1m 05s ago");
    }

    #[test]
    fn bytes_never_show_1024_of_a_unit() {
        for (count, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (12_900_000, "12.3 MiB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }
}
