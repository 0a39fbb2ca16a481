//! Numbers as people read them. Times are UTC everywhere, as in the API and the logs.

use deia::time::Timestamp;

/// `2026-11-23 23:29:14Z`.
pub fn time(at: Timestamp) -> String {
    let text = at.to_string();
    // RFC 3339 with six decimals: cut them, the zone stays.
    match (text.split_once('T'), text.find('.')) {
        (Some((day, _)), Some(dot)) => format!("{day} {}Z", &text[day.len() + 1..dot]),
        _ => text,
    }
}

/// Seconds in two units at most: `850ms`, `4.2s`, `38s`, `3m 05s`, `2h 10m`, `4d 3h`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 0.9995 {
        return format!("{:.0}ms", seconds * 1e3);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    // More than 2^53 seconds is no duration anyone has.
    let whole = seconds.round() as u64;
    let (days, hours) = (whole / 86_400, whole / 3_600 % 24);
    let (minutes, rest) = (whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, m) => format!("{m}m {rest:02}s"),
        (0, h, m) => format!("{h}h {m:02}m"),
        (d, h, _) => format!("{d}d {h}h"),
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
    fn durations_have_two_units_and_round_up_into_the_next() {
        for (seconds, text) in [
            (-1.0, "0ms"),
            (0.0004, "0ms"),
            (0.85, "850ms"),
            (0.9996, "1.0s"),
            (4.23, "4.2s"),
            (9.96, "10s"),
            (59.6, "1m 00s"),
            (185.0, "3m 05s"),
            (7_800.0, "2h 10m"),
            (356_400.0, "4d 3h"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

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
