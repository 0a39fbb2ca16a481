//! The bot's own words: standard error, which the supervisor sends to the bot's output file.

use std::io::Write;

/// Writes one line. A failure is not reported: there is nowhere left to report it.
pub fn say(line: &str) {
    write(format!("{line}\n").as_bytes());
}

/// Writes whole lines.
pub fn write(lines: &[u8]) {
    let _ = std::io::stderr().write_all(lines);
}
