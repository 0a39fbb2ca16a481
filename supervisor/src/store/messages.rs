//! Messages as the store has them.

use deia::message::MessageStatus;
use deia::task::Priority;
use deia::time::Timestamp;

/// A message as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    /// Its name.
    pub id: String,
    /// Who sends it.
    pub from_bot: String,
    /// Who is to have it.
    pub to_bot: String,
    /// Its text.
    pub content: String,
    /// How urgent.
    pub priority: Priority,
    /// The caller's own, JSON text.
    pub metadata: Option<String>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// How long it may wait to be read.
    pub ttl_seconds: u64,
}

impl NewMessage {
    /// When it expires.
    pub fn expires_at(&self) -> Timestamp {
        let seconds = i64::try_from(self.ttl_seconds).unwrap_or(i64::MAX);
        self.created_at.plus_millis(seconds.saturating_mul(1000))
    }
}

/// A message as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRecord {
    /// As it was sent.
    pub sent: NewMessage,
    /// Where it is.
    pub status: MessageStatus,
    /// When its bot was up and had it.
    pub delivered_at: Option<Timestamp>,
    /// When it was read.
    pub read_at: Option<Timestamp>,
}

/// How many messages there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// By [`MessageStatus::ALL`]'s order.
    pub by_status: [u64; 5],
    /// By priority.
    pub by_priority: [u64; 4],
    /// For each bot: messages to it, and how many of them it has not read.
    pub by_bot: Vec<(String, u64, u64)>,
}
