//! What a record's hash covers.
//!
//! SHA-256 over, in this order: `deia audit record 1` and a zero byte; the 32 bytes of the hash before;
//! `seq` and the time in microseconds since 1970, 8 bytes each, little-endian; then action, level, source,
//! result, actor, target, details, error and remote, each as a byte that says whether it is there, its length in
//! bytes (8, little-endian) and its bytes (UTF-8). So no text can move into the field beside it, absent is not
//! empty, and what was hashed for another purpose is never a record.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::entry::Entry;

/// SHA-256.
pub type Hash = [u8; 32];

/// What stands before the first record.
pub const GENESIS: Hash = [0; 32];

const DOMAIN: &[u8] = b"deia audit record 1\0";

/// A place in the chain, and the hash there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The record's place; 0 before the first.
    pub seq: i64,
    /// Its hash.
    pub hash: Hash,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: GENESIS,
        }
    }
}

/// The hash of the record at `seq`, after `previous`. `scratch` is only for its memory.
pub fn hash_of(previous: &Hash, seq: i64, entry: &Entry, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    scratch.extend_from_slice(DOMAIN);
    scratch.extend_from_slice(previous);
    scratch.extend_from_slice(&seq.to_le_bytes());
    scratch.extend_from_slice(&entry.at.as_micros().to_le_bytes());
    let fields = [
        Some(entry.action.as_str()),
        Some(entry.level.as_str()),
        Some(entry.source.as_str()),
        Some(entry.result.as_str()),
        Some(entry.actor.name()),
        Some(&*entry.target),
        entry.details.as_deref(),
        entry.error.as_deref(),
        entry.actor.remote.as_deref(),
    ];
    for field in fields {
        let bytes = field.unwrap_or_default().as_bytes();
        scratch.push(u8::from(field.is_some()));
        scratch.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        scratch.extend_from_slice(bytes);
    }
    Sha256::digest(scratch).into()
}

/// A record's name: a UUID (version 8) of the first bytes of its hash. No column of its own and no index,
/// and it can't be given to another record.
pub fn entry_id(hash: &Hash) -> String {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = *from;
    }
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// 64 hexadecimal digits.
pub fn hex(hash: &Hash) -> String {
    let mut text = String::with_capacity(64);
    for byte in hash {
        // Writing into a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The inverse of [`hex`].
pub fn unhex(text: &str) -> Option<Hash> {
    let mut hash = GENESIS;
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;
    use deia::api::{AuditAction, AuditLevel};
    use deia::time::Timestamp;

    fn entry() -> Entry {
        Entry::new(
            Timestamp::from_micros(7),
            AuditAction::TaskSubmitted,
            Actor::bot("b"),
            "task-1",
        )
    }

    fn hash(entry: &Entry) -> Hash {
        hash_of(&GENESIS, 1, entry, &mut Vec::new())
    }

    #[test]
    fn stays_what_it_is_on_disks() {
        assert_eq!(
            hex(&hash(&entry())),
            "1281836eb9c45071453c14f419bb238556080ba33b10ddad36e1ae2a0fcb84e1"
        );
    }

    #[test]
    fn covers_every_field_and_keeps_them_apart() {
        let base = hash(&entry());
        let mut seen = vec![base];
        let mut differs = |change: &dyn Fn(&mut Entry)| {
            let mut other = entry();
            change(&mut other);
            let hash = hash(&other);
            assert!(!seen.contains(&hash), "{other:?}");
            seen.push(hash);
        };
        differs(&|e| e.at = Timestamp::from_micros(8));
        differs(&|e| e.action = AuditAction::TaskFailed);
        differs(&|e| e.level = AuditLevel::Critical);
        differs(&|e| e.source = deia::api::AuditSource::Client);
        differs(&|e| e.result = deia::api::AuditResult::Failure);
        differs(&|e| e.actor = Actor::bot("c"));
        differs(&|e| e.target = "task-2".into());
        differs(&|e| e.details = Some("{}".into()));
        differs(&|e| e.details = Some(String::new()));
        differs(&|e| e.error = Some("{}".into()));
        differs(&|e| e.actor.remote = Some("{}".into()));
        differs(&|e| {
            e.actor = Actor::bot("btask-");
            e.target = "1".into();
        });
        assert_ne!(hash_of(&GENESIS, 2, &entry(), &mut Vec::new()), base);
        assert_ne!(hash_of(&[1; 32], 1, &entry(), &mut Vec::new()), base);
    }

    #[test]
    fn hexadecimal_is_read_back() {
        let hash = hash(&entry());
        assert_eq!(unhex(&hex(&hash)), Some(hash));
        assert_eq!(unhex("00"), None);
        assert_eq!(unhex(&"g".repeat(64)), None);
        assert_eq!(entry_id(&hash).len(), 36);
    }
}
