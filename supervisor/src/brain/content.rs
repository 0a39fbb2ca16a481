//! What looks dangerous in a text, and what the configuration says about it.
//!
//! The lists are the original's (two validators that nothing called) and what its documentation promised, with
//! word boundaries: `retrieval(` is no `eval(`. They are a seat-belt against an accident, not a wall: whoever
//! means harm writes it in another way, and an ordinary question may hold one of the words. What a command may
//! do is decided by its sandbox. A text is never changed: it is refused, noted, or passed on as it came.

use std::fmt;
use std::sync::LazyLock;

use deia::config::{Config, Pool, RequestValidation, bot_number};
use regex::RegexSet;

use super::demand::{Demand, PoolFacts};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// As people and counters name it.
    pub name: &'static str,
    /// As it is searched, in any case. Boundaries are those of ASCII words: they need no tables, so that a
    /// text in any script is searched in one pass.
    pub regex: &'static str,
}

const fn pattern(name: &'static str, regex: &'static str) -> Pattern {
    Pattern { name, regex }
}

/// How many there are.
pub const PATTERN_COUNT: usize = 16;

/// Every pattern. `sudo ... passwd`, the original's sixteenth, is in `sudo`.
pub const PATTERNS: [Pattern; PATTERN_COUNT] = [
    pattern("rm -rf", r"(?-u:\b)rm\s+-rf"),
    pattern("sudo", r"(?-u:\b)sudo(?-u:\b)"),
    pattern("eval(", r"(?-u:\b)eval\("),
    pattern("exec(", r"(?-u:\b)exec\("),
    pattern("system(", r"(?-u:\b)system\("),
    pattern("os.system", r"(?-u:\b)os\.system(?-u:\b)"),
    pattern("subprocess.", r"(?-u:\b)subprocess\.[a-z_]"),
    pattern("__import__", r"__import__"),
    pattern("DROP TABLE", r"(?-u:\b)DROP\s+TABLES?(?-u:\b)"),
    pattern("DELETE FROM", r"(?-u:\b)DELETE\s+FROM(?-u:\b)"),
    pattern(":()", r":\(\)"),
    pattern("chmod 777", r"(?-u:\b)chmod\s+777"),
    pattern("dd if=", r"(?-u:\b)dd\s+if="),
    pattern("--force --hard", r"--force.*--hard"),
    pattern("<script>", r"<script(?-u:\b)"),
    pattern("../", r"(?:^|[^.])\.\./"),
];

/// All in one automaton: a text is read once, in time that grows with its length and nothing else.
static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "constants, which every test here compiles"
    )]
    regex::RegexSetBuilder::new(PATTERNS.map(|pattern| pattern.regex))
        .case_insensitive(true)
        .build()
        .expect("patterns that compile")
});

/// Which patterns a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found(u32);

impl Found {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their places in [`PATTERNS`].
    pub fn places(self) -> impl Iterator<Item = usize> {
        (0..PATTERN_COUNT).filter(move |n| self.0 & (1 << n) != 0)
    }
}

impl fmt::Display for Found {
    /// `"rm -rf", "sudo"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, place) in self.places().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}\"{}\"", PATTERNS[place].name)?;
        }
        Ok(())
    }
}

/// The patterns that `text` has.
pub fn find(text: &str) -> Found {
    Found(SET.matches(text).iter().fold(0, |all, n| all | 1 << n))
}

/// What is done with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, and there is nothing to say.
    Pass,
    /// It goes on, and what it has is noted.
    Note(Found),
    /// It does not go on.
    Refuse(Refusal),
}

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it has.
    pub found: Found,
    /// The pool that refuses it.
    pub pool: String,
}

impl fmt::Display for Refusal {
    /// What was found, who refuses it, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, pool } = self;
        write!(
            f,
            "the content has {found}, which pool {pool} refuses (bots[].request_validation is block): write it in \
             another way, or set request_validation of this pool to audit or off, or \
             feature_flags.request_validation_enabled to false. It is a seat-belt, not a judgement of what is meant"
        )
    }
}

/// What is done with a task's text. The strictest of the pools that can take it decides: what a pool refuses
/// must not come to it by the way of a task that names none. Where no pool can, the strictest of all does.
pub fn of_task(config: &Config, demand: &Demand, text: &str) -> Verdict {
    judge(config, text, |pool| {
        // How many bots there may be now is no matter of what they may be told.
        demand.is_served_by(&PoolFacts::of(pool, u32::MAX))
    })
}

/// What is done with a message's text: the pool of the bot that gets it decides. For a name that no pool can
/// have, the strictest of all does.
pub fn of_message(config: &Config, to_bot: &str, text: &str) -> Verdict {
    judge(config, text, |pool| {
        bot_number(&pool.name, to_bot).is_some()
    })
}

fn judge(config: &Config, text: &str, concerned: impl Fn(&Pool) -> bool) -> Verdict {
    if !config.feature_flags.request_validation_enabled {
        return Verdict::Pass;
    }
    let strictest = |pools: &mut dyn Iterator<Item = &Pool>| {
        pools
            .map(|pool| (pool.request_validation, pool.name.clone()))
            // The first of several: it is the one that is named.
            .reduce(|a, b| {
                if strictness(b.0) > strictness(a.0) {
                    b
                } else {
                    a
                }
            })
    };
    let rule = strictest(&mut config.bots.iter().filter(|pool| concerned(pool)))
        .or_else(|| strictest(&mut config.bots.iter()));
    let Some((rule, pool)) = rule.filter(|(rule, _)| *rule != RequestValidation::Off) else {
        return Verdict::Pass;
    };
    let found = find(text);
    match rule {
        _ if found.is_empty() => Verdict::Pass,
        RequestValidation::Block => Verdict::Refuse(Refusal { found, pool }),
        RequestValidation::Audit => Verdict::Note(found),
        RequestValidation::Off => Verdict::Pass,
    }
}

fn strictness(rule: RequestValidation) -> u8 {
    match rule {
        RequestValidation::Off => 0,
        RequestValidation::Audit => 1,
        RequestValidation::Block => 2,
    }
}

#[cfg(test)]
mod tests;
