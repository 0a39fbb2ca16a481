//! A fault ends a bot, also one that another process sends.
//!
//! Rust's runtime catches SIGSEGV and SIGBUS, to say so when a stack overflows. One that is not about
//! a stack it takes for a fault that will happen again, goes back to the default and returns: so
//! `kill -SEGV` would do nothing the first time. Here it happens once at the start, on purpose; from
//! then on the kernel ends the bot, and the daemon is told by which signal.

use std::fs;

use signal_hook::consts::{SIGBUS, SIGSEGV};
use signal_hook::low_level::raise;

/// Gives both back to the kernel, where they are caught.
pub fn give_back() {
    for signal in [SIGSEGV, SIGBUS] {
        if is_caught(signal) {
            // What can't be raised does no harm.
            let _ = raise(signal);
        }
    }
}

/// Whether this process has a handler for it: a bit of `SigCgt` (proc(5)).
fn is_caught(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
