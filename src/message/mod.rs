//! A message from one bot to another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a message is.
///
/// ```text
///   pending ---its bot is up---> delivered ---read---> read
///      |                             |
///      '---------TTL over------------'---> expired
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    /// Its bot is not up; it is delivered once it is.
    Pending,
    /// It is in the inbox of a bot that is up.
    Delivered,
    /// It was read.
    Read,
    /// Never: what could not be delivered expires. Kept for programs that know the original's.
    Failed,
    /// It was not read within its time.
    Expired,
}

impl MessageStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Delivered,
        Self::Read,
        Self::Failed,
        Self::Expired,
    ];

    /// The name users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Nothing becomes of it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Read | Self::Failed | Self::Expired)
    }
}

impl fmt::Display for MessageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MessageStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("not a status of a message: '{text}'"))
    }
}

/// Most bytes in a message.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// Messages that a bot may have unread; more are refused.
pub const MAX_UNREAD: u64 = 10_000;

/// Longest life of a message, in seconds: 30 days.
pub const MAX_TTL_SECONDS: u64 = 30 * 86_400;
