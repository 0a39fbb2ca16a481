//! What was refused and noted for what it holds: said in the log, and counted.
//!
//! What is dangerous, and who decides, is [`crate::brain::content`]'s matter; where a text comes in, this is
//! told of it. The text itself never goes anywhere from here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deia::api::ValidationCounts;

use crate::brain::content::{Found, PATTERN_COUNT, PATTERNS, Refusal};

/// The way a text came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A task.
    Task,
    /// One of a batch.
    Batch,
    /// A task file.
    File,
    /// A message.
    Message,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Batch => "batch",
            Self::File => "task_file",
            Self::Message => "message",
        }
    }
}

/// The counts since this daemon started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Validation(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    refused: [AtomicU64; PATTERN_COUNT],
    noted: [AtomicU64; PATTERN_COUNT],
}

impl Validation {
    /// A text from `who` was refused.
    pub fn refused(&self, way: Way, who: &dyn fmt::Display, refusal: &Refusal) {
        count(&self.0.refused, refusal.found);
        tracing::warn!(
            event = "request_refused",
            way = way.as_str(),
            from = %who,
            pool = refusal.pool,
            patterns = %refusal.found,
            "Content was refused for what it holds (request_validation: block)"
        );
    }

    /// A text from `who` was let pass, and is `what` now: a task or a message.
    pub fn noted(&self, way: Way, who: &dyn fmt::Display, what: &str, found: Found) {
        count(&self.0.noted, found);
        tracing::warn!(
            event = "request_noted",
            way = way.as_str(),
            from = %who,
            id = what,
            patterns = %found,
            "Content was let pass whatever it holds (request_validation: audit)"
        );
    }

    /// Every pattern: its name, how often it was refused, how often noted.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        PATTERNS.iter().enumerate().map(|(n, pattern)| {
            let of = |counts: &[AtomicU64; PATTERN_COUNT]| counts[n].load(Ordering::Relaxed);
            (pattern.name, of(&self.0.refused), of(&self.0.noted))
        })
    }

    /// How often each pattern was found, by its name; those that were not are left out.
    pub fn counts(&self) -> ValidationCounts {
        ValidationCounts {
            refused: by_name(&self.0.refused),
            noted: by_name(&self.0.noted),
        }
    }
}

fn count(counts: &[AtomicU64; PATTERN_COUNT], found: Found) {
    for place in found.places() {
        counts[place].fetch_add(1, Ordering::Relaxed);
    }
}

fn by_name(counts: &[AtomicU64; PATTERN_COUNT]) -> BTreeMap<String, u64> {
    let named = PATTERNS.iter().zip(counts);
    named
        .map(|(pattern, count)| (pattern.name.to_owned(), count.load(Ordering::Relaxed)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::brain::content::find;

    /// A text made to be searched slowly costs no more than another one, a byte. Without optimisation; in a
    /// release a megabyte takes some milliseconds.
    #[test]
    fn no_text_keeps_the_daemon_busy() {
        let _ = find("compile it");
        for piece in ["rm ", "--force ", "drop \t", ":(", "日本語", "a"] {
            let text = piece.repeat((1 << 17) / piece.len());
            let begun = Instant::now();
            let _ = find(&text);
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(5), "{piece:?}: {took:?}");
        }
    }
}
