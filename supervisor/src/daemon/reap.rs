//! `deia reap`: ends what is left of a home's bots when no daemon runs.
//!
//! For the service manager: after a stop, or its time-out, nothing must be left (`ExecStopPost`); after
//! a crash the bots are the next daemon's to take over.

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fleet::found;
use crate::fleet::proof::FleetKey;
use deia::home::{LOCK_IN_HOME, is_held};

/// From TERM, upon which a bot ends what it started, to KILL.
const TERM_PATIENCE: Duration = Duration::from_secs(5);

/// What does not end by KILL within this is named.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(20);

/// Ends them.
pub fn reap(home: &Path, if_stopped: bool) -> ExitCode {
    let result = std::env::var("SERVICE_RESULT").ok();
    if if_stopped && !is_stop(result.as_deref()) {
        return ExitCode::SUCCESS;
    }
    let deia = home.join(".deia");
    let key = match FleetKey::load(&deia.join("secrets/fleet.key")) {
        Ok(key) => key,
        // No bot was ever started here.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return ExitCode::SUCCESS,
        Err(e) => return say(&e.to_string()),
    };
    match is_held(&home.join(LOCK_IN_HOME)) {
        Ok(false) => {}
        Ok(true) if if_stopped => return ExitCode::SUCCESS,
        Ok(true) => {
            return say(&format!(
                "a daemon runs on {}: stop it, and its bots end with it",
                home.display()
            ));
        }
        Err(e) => return say(&e.to_string()),
    }
    let found = found::look(key.fleet());
    for bot in &found.bots {
        found::signal(bot.process, Signal::TERM);
    }
    let deadline = Instant::now() + TERM_PATIENCE;
    let is_left = || {
        let found = found::look(key.fleet());
        found.strays || !found.bots.is_empty()
    };
    while is_left() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    let left = found::end_strays(key.fleet(), &HashSet::new(), KILL_PATIENCE);
    if left.is_empty() {
        return ExitCode::SUCCESS;
    }
    say(&format!(
        "these do not end, not even by SIGKILL: {}",
        left.join(", ")
    ))
}

/// Whether the service manager will not start the daemon again: it was stopped, or did not stop in
/// time (systemd.exec(5), `$SERVICE_RESULT`).
fn is_stop(result: Option<&str>) -> bool {
    matches!(result, None | Some("success" | "timeout"))
}

fn say(text: &str) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "there is no log; somebody watches")]
    {
        eprintln!("deia: {text}");
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_leaves_the_bots_alone_and_a_stop_does_not() {
        for result in [
            "signal",
            "core-dump",
            "exit-code",
            "watchdog",
            "oom-kill",
            "protocol",
        ] {
            assert!(!is_stop(Some(result)), "{result}");
        }
        assert!(is_stop(Some("success")) && is_stop(Some("timeout")) && is_stop(None));
    }
}
