//! What was refused and noted for what it holds: said in the log, put on record, and counted.
//!
//! What is dangerous, and who decides, is [`crate::brain::content`]'s matter; where a text comes in, this is
//! told of it. The text itself never goes anywhere from here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deia::api::{AuditAction, AuditLevel, ValidationCounts};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::command::Command;

use crate::audit::{Actor, Entry, Recorder};
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
    /// A chat completion.
    Chat,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Batch => "batch",
            Self::File => "task_file",
            Self::Message => "message",
            Self::Chat => "chat",
        }
    }
}

/// The counts since this daemon started. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Validation {
    counts: Arc<Counts>,
    /// Where what is made of them here goes.
    pub recorder: Recorder,
}

#[derive(Debug, Default)]
struct Counts {
    refused: [AtomicU64; PATTERN_COUNT],
    noted: [AtomicU64; PATTERN_COUNT],
}

impl Validation {
    /// Nothing is counted yet; records go to the main loop.
    pub fn new(commands: mpsc::Sender<Command>) -> Self {
        Self {
            counts: Arc::default(),
            recorder: Recorder::new(commands),
        }
    }

    /// A text from `who` is refused: its record, which is on disk before anybody is told.
    #[must_use]
    pub fn refused(&self, way: Way, who: &dyn fmt::Display, refusal: &Refusal) -> Entry {
        count(&self.counts.refused, refusal.found);
        tracing::warn!(
            event = "request_refused",
            way = way.as_str(),
            from = %who,
            pool = refusal.pool,
            patterns = %refusal.found,
            "Content was refused for what it holds (request_validation: block)"
        );
        let action = AuditAction::RequestRefused;
        let pool = refusal.pool.as_str();
        Entry::new(Timestamp::now(), action, Actor::DAEMON, pool)
            .at_level(AuditLevel::Warning)
            .with(&json!({"way": way.as_str(), "patterns": names(refusal.found)}))
            .failed("dangerous_content")
    }

    /// A text from `who` is let pass, and becomes `what`, a task or a message: its record.
    #[must_use]
    pub fn noted(&self, way: Way, who: &dyn fmt::Display, what: &str, found: Found) -> Entry {
        count(&self.counts.noted, found);
        tracing::warn!(
            event = "request_noted",
            way = way.as_str(),
            from = %who,
            id = what,
            patterns = %found,
            "Content was let pass whatever it holds (request_validation: audit)"
        );
        Entry::new(Timestamp::now(), AuditAction::ApiCall, Actor::DAEMON, what)
            .at_level(AuditLevel::Warning)
            .with(&json!({"way": way.as_str(), "patterns": names(found), "request_validation": "audit"}))
    }

    /// Every pattern: its name, how often it was refused, how often noted.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        PATTERNS.iter().enumerate().map(|(n, pattern)| {
            let of = |counts: &[AtomicU64; PATTERN_COUNT]| counts[n].load(Ordering::Relaxed);
            (
                pattern.name,
                of(&self.counts.refused),
                of(&self.counts.noted),
            )
        })
    }

    /// How often each pattern was found, by its name; those that were not are left out.
    pub fn counts(&self) -> ValidationCounts {
        ValidationCounts {
            refused: by_name(&self.counts.refused),
            noted: by_name(&self.counts.noted),
        }
    }
}

fn count(counts: &[AtomicU64; PATTERN_COUNT], found: Found) {
    for place in found.places() {
        counts[place].fetch_add(1, Ordering::Relaxed);
    }
}

fn names(found: Found) -> Vec<&'static str> {
    found.places().map(|place| PATTERNS[place].name).collect()
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
