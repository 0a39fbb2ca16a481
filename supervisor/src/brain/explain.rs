//! What is said of a bot: what happened, how often, what comes next and when, and what an operator can
//! do about it. One sentence or two; the figures beside it are in [`deia::api::BotView`].

use std::fmt::Write as _;

use deia::bot::{LastExit, Wanted};
use deia::config::Supervision;
use deia::time::duration;

use super::bot::{State, Then};

/// What is known of a bot.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Its name.
    pub id: &'a str,
    /// What the fleet wants of it.
    pub wanted: Wanted,
    /// What it is.
    pub state: State,
    /// For how long, in seconds.
    pub for_seconds: f64,
    /// Tasks it has.
    pub tasks: usize,
    /// An operator stopped it.
    pub held: bool,
    /// How its last process ended.
    pub last_exit: Option<LastExit>,
    /// Ends it was not asked for, within `restart_intensity.seconds`.
    pub recent_ends: u32,
    /// Until it is started again, in seconds.
    pub next_start_seconds: Option<f64>,
    /// Why the host has no room for its process.
    pub no_room: Option<&'a str>,
    /// What does not end.
    pub blocked_by: &'a [String],
    /// Why another process takes its place soon.
    pub replaced: Option<Replaced>,
    /// The rules.
    pub rules: &'a Supervision,
}

/// Why another process takes a bot's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Its pool's specification has changed.
    Pool,
    /// Its release is not the daemon's.
    Release,
}

/// What is said.
pub fn explain(facts: &Facts<'_>) -> String {
    let mut text = match facts.state {
        State::Stopped => stopped(facts),
        State::Starting => starting(facts),
        State::Found => format!(
            "an earlier daemon's process; it dials in within {}, or is replaced",
            duration(facts.rules.orphan_grace_seconds)
        ),
        State::Ready => "waits for a task".to_owned(),
        State::Busy => format!("works on {}", tasks(facts.tasks)),
        State::Draining(then) => draining(facts, then),
        State::Stopping(why) => stopping(facts, why),
        State::Backoff => backoff(facts),
        State::Quarantined => quarantined(facts),
    };
    if let (State::Ready | State::Busy, Some(why)) = (facts.state, facts.replaced) {
        let when = match facts.state {
            State::Busy => "; once it is idle it is started anew: ",
            _ => "; it is started anew soon: ",
        };
        text.push_str(when);
        text.push_str(why.as_str());
    }
    if matches!(facts.state, State::Ready | State::Busy) && facts.recent_ends > 0 {
        let _ = write!(text, "; {}", lately(facts));
    }
    text
}

impl Replaced {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "its pool's configuration has changed",
            Self::Release => "it is of another release than the daemon",
        }
    }
}

fn stopped(facts: &Facts<'_>) -> String {
    match (facts.wanted, facts.held) {
        (_, true) => format!(
            "an operator stopped it; `deiactl bot start {}` starts it",
            facts.id
        ),
        (Wanted::Stopped, false) => {
            "not wanted: the limits or the load ask for fewer bots".to_owned()
        }
        (Wanted::Running, false) => "about to be started".to_owned(),
    }
}

fn starting(facts: &Facts<'_>) -> String {
    let left = facts.rules.start_timeout_seconds - facts.for_seconds;
    let mut text = format!(
        "is being started and has {} left to say that it is ready",
        duration(left)
    );
    if facts.recent_ends > 0 {
        let _ = write!(text, "; {}", lately(facts));
    }
    text
}

fn draining(facts: &Facts<'_>, then: Then) -> String {
    let next = match (then, facts.replaced) {
        (Then::Rest, _) => "then it ends".to_owned(),
        (Then::Again, Some(why)) => format!("then it is started anew: {}", why.as_str()),
        (Then::Again, None) => "then it is started anew".to_owned(),
    };
    format!(
        "finishes {} and takes no new ones; {next}",
        tasks(facts.tasks)
    )
}

fn stopping(facts: &Facts<'_>, why: deia::bot::ExitCause) -> String {
    let patience = duration(facts.rules.stop_timeout_seconds);
    let since = duration(facts.for_seconds);
    let reason = LastExit {
        code: None,
        signal: None,
        cause: why,
    };
    let what = match why {
        deia::bot::ExitCause::Stopped => {
            format!("was asked to end {since} ago; killed after {patience}")
        }
        _ => format!("is being ended since {since}: it {reason}"),
    };
    match facts.blocked_by {
        [] => what,
        blockers => format!(
            "{what}; not gone yet: {}; nothing ends a process that waits in the kernel, most often for a disk or a network file system: see `dmesg`",
            blockers.join(", ")
        ),
    }
}

fn backoff(facts: &Facts<'_>) -> String {
    if let Some(why) = facts.no_room {
        return format!(
            "the host has no room for its process ({why}); tried again {}",
            next(facts)
        );
    }
    let max = facts.rules.restart_intensity.max;
    format!(
        "{}; started again {}; quarantined past {max} within {}",
        lately(facts),
        next(facts),
        window(facts.rules)
    )
}

fn quarantined(facts: &Facts<'_>) -> String {
    let rules = facts.rules;
    let last = match facts.last_exit {
        Some(exit) => format!("the last time it {exit}"),
        None => "nothing is known of the last time".to_owned(),
    };
    let id = facts.id;
    format!(
        "ended more than {} within {} and is in quarantine; {last}; tried again {}, then every {}, until it stays up for {}; what it printed: `deiactl bot logs {id}`; once mended: `deiactl bot restart {id}`",
        times(rules.restart_intensity.max),
        window(rules),
        next(facts),
        duration(rules.quarantine_probe_seconds),
        duration(rules.healthy_seconds),
    )
}

/// How it ended, and how often.
fn lately(facts: &Facts<'_>) -> String {
    let how = match facts.last_exit {
        Some(exit) => exit.to_string(),
        None => "ended".to_owned(),
    };
    match facts.recent_ends {
        0 => how,
        1 => format!("{how}, once within {}", window(facts.rules)),
        n => format!(
            "{how}, and ended {} within {}",
            times(n),
            window(facts.rules)
        ),
    }
}

fn next(facts: &Facts<'_>) -> String {
    match facts.next_start_seconds {
        Some(seconds) => format!("in {}", duration(seconds)),
        None => "now".to_owned(),
    }
}

fn window(rules: &Supervision) -> String {
    duration(rules.restart_intensity.seconds)
}

fn times(n: u32) -> String {
    match n {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}

fn tasks(n: usize) -> String {
    match n {
        1 => "1 task".to_owned(),
        n => format!("{n} tasks"),
    }
}

#[cfg(test)]
mod tests {
    use deia::bot::ExitCause;

    use super::*;

    const CRASHED: LastExit = LastExit {
        code: Some(3),
        signal: None,
        cause: ExitCause::Exited,
    };

    fn facts(rules: &Supervision, state: State) -> Facts<'_> {
        Facts {
            id: "coder-1",
            wanted: Wanted::Running,
            state,
            for_seconds: 2.0,
            tasks: 0,
            held: false,
            last_exit: None,
            recent_ends: 0,
            next_start_seconds: None,
            no_room: None,
            blocked_by: &[],
            replaced: None,
            rules,
        }
    }

    #[test]
    fn a_crash_loop_is_told_with_how_often_and_what_is_next() {
        let rules = Supervision::default();
        let mut bot = facts(&rules, State::Backoff);
        bot.last_exit = Some(CRASHED);
        bot.recent_ends = 3;
        bot.next_start_seconds = Some(0.2);
        assert_eq!(
            explain(&bot),
            "ended by itself with exit code 3, and ended 3 times within 1m 00s; started again in 200ms; quarantined past 5 within 1m 00s"
        );
        bot.state = State::Quarantined;
        bot.next_start_seconds = Some(240.0);
        assert_eq!(
            explain(&bot),
            "ended more than 5 times within 1m 00s and is in quarantine; the last time it ended by itself with exit code 3; tried again in 4m 00s, then every 5m 00s, until it stays up for 1m 00s; what it printed: `deiactl bot logs coder-1`; once mended: `deiactl bot restart coder-1`"
        );
    }

    #[test]
    fn what_blocks_a_stop_is_named() {
        let rules = Supervision::default();
        let mut bot = facts(&rules, State::Stopping(ExitCause::Stopped));
        let blockers = ["pid 42 (dd)".to_owned()];
        bot.for_seconds = 75.0;
        bot.blocked_by = &blockers;
        let text = explain(&bot);
        assert!(text.starts_with("was asked to end 1m 15s ago"), "{text}");
        assert!(text.contains("not gone yet: pid 42 (dd)"), "{text}");
    }

    #[test]
    fn a_bot_at_work_says_so_and_one_that_is_well_has_no_past() {
        let rules = Supervision::default();
        assert_eq!(explain(&facts(&rules, State::Ready)), "waits for a task");
        let mut busy = facts(&rules, State::Busy);
        busy.tasks = 2;
        busy.replaced = Some(Replaced::Release);
        assert_eq!(
            explain(&busy),
            "works on 2 tasks; once it is idle it is started anew: it is of another release than the daemon"
        );
        busy.replaced = None;
        // Long ago: not a word of it.
        busy.last_exit = Some(CRASHED);
        assert_eq!(explain(&busy), "works on 2 tasks");
    }

    #[test]
    fn one_that_rests_says_who_wanted_that() {
        let rules = Supervision::default();
        let mut bot = facts(&rules, State::Stopped);
        bot.wanted = Wanted::Stopped;
        assert!(explain(&bot).starts_with("not wanted"));
        bot.held = true;
        assert!(explain(&bot).contains("`deiactl bot start coder-1`"));
    }
}
