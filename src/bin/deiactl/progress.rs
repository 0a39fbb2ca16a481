//! A progress bar: one line on a terminal, nothing anywhere else.

use std::io::{self, IsTerminal as _, Write as _};

use crate::human;
use crate::output::one_line;

const WIDTH: u64 = 30;

/// See the module. On standard error: the result is somebody else's.
#[derive(Debug)]
pub struct Bar {
    terminal: bool,
    drawn: bool,
}

impl Bar {
    /// One that was not drawn yet.
    pub fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// Whether anybody sees it.
    pub fn is_shown(&self) -> bool {
        self.terminal
    }

    /// Draws it anew.
    pub fn show(&mut self, what: &str, done: u64, total: u64) {
        if !self.terminal {
            return;
        }
        self.drawn = true;
        let line = line(what, done, total);
        // With standard error closed there is nobody left to show it to.
        let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
    }

    /// Takes it away.
    pub fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let part = done
        .min(total)
        .saturating_mul(WIDTH)
        .checked_div(total)
        .unwrap_or(0);
    let bar: String = (0..WIDTH)
        .map(|n| if n < part { '#' } else { '.' })
        .collect();
    format!(
        "{:<10} [{bar}] {} of {}",
        one_line(what),
        human::bytes(done.min(total)),
        human::bytes(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_never_longer() {
        let full = "#".repeat(30);
        let empty = ".".repeat(30);
        assert!(line("writing", 5, 5).contains(&full));
        assert!(line("writing", 50, 5).contains(&full));
        assert!(line("writing", 0, 0).contains(&empty));
        assert_eq!(
            line("copying", 512, 1024),
            "copying    [###############...............] 512 B of 1.0 KiB"
        );
    }
}
