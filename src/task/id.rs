//! A task's name.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// 1-128 of `[A-Za-z0-9._:-]`, beginning with a letter or a digit: safe as a directory's name, in a
/// URL and in a log. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(Arc<str>);

/// Most bytes in a [`TaskId`].
pub const MAX_TASK_ID_BYTES: usize = 128;

/// Bytes of a digest that are part of a [`TaskId`].
const FILE_DIGEST_BYTES: usize = 20;

/// Why a text is no task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "task_id must be 1-128 of letters, digits, '.', '_', ':' and '-', beginning with a letter or a digit"
)]
pub struct InvalidTaskId;

impl TaskId {
    /// A new one, unique, sorted by time: `task-<uuid v7>`.
    pub fn generate() -> Self {
        Self(format!("task-{}", uuid::Uuid::now_v7()).into())
    }

    /// The name of the task that a file is: `file-<hex>`, of the first 160 bits of a digest. The same digest
    /// is the same task.
    pub fn of_file(digest: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(5 + 2 * FILE_DIGEST_BYTES);
        text.push_str("file-");
        for byte in digest.iter().take(FILE_DIGEST_BYTES) {
            // Writing into a string can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        let first = text.bytes().next().ok_or(InvalidTaskId)?;
        if text.len() > MAX_TASK_ID_BYTES
            || !first.is_ascii_alphanumeric()
            || !text.bytes().all(allowed)
        {
            return Err(InvalidTaskId);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidTaskId;

    fn try_from(text: String) -> Result<Self, InvalidTaskId> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_leave_a_directory_or_a_log_line() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a b",
            "a\nb",
            "-a",
            "é",
            &"x".repeat(129),
        ] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad:?}");
        }
        for good in ["t", "task-1761407123.12", "a:b_c-d.e", &"x".repeat(128)] {
            assert!(good.parse::<TaskId>().is_ok(), "{good:?}");
        }
        assert!(TaskId::generate().as_str().parse::<TaskId>().is_ok());
        let of_file = TaskId::of_file(&[0x0a; 32]);
        assert_eq!(of_file.as_str(), format!("file-{}", "0a".repeat(20)));
        assert!(of_file.as_str().parse::<TaskId>().is_ok());
    }
}
