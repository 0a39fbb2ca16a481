//! A record before it has its place.

use std::sync::Arc;

use deia::api::{
    AuditAction, AuditLevel, AuditResult, AuditSource, MAX_AUDIT_ERROR_BYTES,
    MAX_AUDIT_TARGET_BYTES,
};
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::actor::Actor;
use super::chain::{Link, hex, unhex};

/// A record before it has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What was done.
    pub action: AuditAction,
    /// How much it matters.
    pub level: AuditLevel,
    /// Whose word it is.
    pub source: AuditSource,
    /// What came of it.
    pub result: AuditResult,
    /// Who, and from where.
    pub actor: Actor,
    /// To what.
    pub target: Arc<str>,
    /// More about it: a JSON object.
    pub details: Option<String>,
    /// Why not.
    pub error: Option<String>,
}

impl Entry {
    /// What succeeded as a matter of course.
    pub fn new(
        at: Timestamp,
        action: AuditAction,
        actor: Actor,
        target: impl Into<Arc<str>>,
    ) -> Self {
        let mut target = target.into();
        if target.len() > MAX_AUDIT_TARGET_BYTES {
            target = cut(&target, MAX_AUDIT_TARGET_BYTES).into();
        }
        Self {
            at,
            action,
            level: AuditLevel::Info,
            source: AuditSource::Daemon,
            result: AuditResult::Success,
            actor,
            target,
            details: None,
            error: None,
        }
    }

    /// With more about it.
    #[must_use]
    pub fn with(mut self, details: &Value) -> Self {
        self.details = Some(details.to_string());
        self
    }

    /// With a level.
    #[must_use]
    pub fn at_level(mut self, level: AuditLevel) -> Self {
        self.level = level;
        self
    }

    /// With what came of it.
    #[must_use]
    pub fn with_result(mut self, result: AuditResult) -> Self {
        self.result = result;
        self
    }

    /// As what did not work, and why.
    #[must_use]
    pub fn failed(mut self, why: &str) -> Self {
        self.result = AuditResult::Failure;
        self.error = Some(cut(why, MAX_AUDIT_ERROR_BYTES).to_owned());
        self
    }

    /// Bytes that somebody else decides the number of.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.target.len() + text(&self.details) + text(&self.error)
    }
}

/// The beginning of a text, at a character's end.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What the record of a removal says of the anchor that stands for the removed since then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The last one removed.
    pub link: Link,
    /// How many were removed, ever.
    pub removed: u64,
}

#[derive(Serialize, Deserialize)]
struct PrunedText {
    seq: i64,
    checksum: String,
    removed: u64,
}

impl Pruned {
    /// As details.
    pub fn to_text(self) -> String {
        let text = PrunedText {
            seq: self.link.seq,
            checksum: hex(&self.link.hash),
            removed: self.removed,
        };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// From details.
    pub fn from_text(text: &str) -> Option<Self> {
        let text: PrunedText = serde_json::from_str(text).ok()?;
        Some(Self {
            link: Link {
                seq: text.seq,
                hash: unhex(&text.checksum)?,
            },
            removed: text.removed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_at_a_characters_end() {
        let target = "\u{e9}".repeat(MAX_AUDIT_TARGET_BYTES);
        let entry = Entry::new(
            Timestamp::from_micros(0),
            AuditAction::ApiCall,
            Actor::DAEMON,
            target,
        );
        assert_eq!(entry.target.len(), MAX_AUDIT_TARGET_BYTES);
        assert_eq!(cut("a\u{e9}", 2), "a");
    }

    #[test]
    fn a_removal_is_read_back() {
        let pruned = Pruned {
            link: Link {
                seq: 9,
                hash: [7; 32],
            },
            removed: 9,
        };
        assert_eq!(Pruned::from_text(&pruned.to_text()), Some(pruned));
        assert_eq!(Pruned::from_text("{}"), None);
    }
}
