//! What stands in an archive about itself: its first member, `manifest.json`.

use std::collections::{BTreeMap, BTreeSet};

use deia::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The form of archives. A reader refuses those it does not know.
pub const FORMAT: u32 = 1;
/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";
/// The store's name.
pub const DATABASE: &str = "state/deia.db";
/// What the names of configuration files begin with.
pub const CONFIG: &str = "config/";
/// Longest manifest.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Members of an archive at most, beside the manifest.
pub const MAX_MEMBERS: usize = 64;
/// Longest configuration file.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Longest name of a configuration file.
const MAX_NAME_BYTES: usize = 80;

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// By the interval.
    Scheduled,
    /// Somebody asked for it.
    Manual,
    /// Somebody asked for it by that name.
    RestorePoint,
    /// What was there before a restore.
    BeforeRestore,
}

impl Kind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Manual => "manual",
            Self::RestorePoint => "restore_point",
            Self::BeforeRestore => "before_restore",
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in the archive.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of them, in hex.
    pub sha256: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// When the store was as it is in here.
    pub created_at: Timestamp,
    /// Why it was made.
    pub kind: Kind,
    /// The label it was asked for with.
    pub backup_type: String,
    /// Where it comes from, in the caller's words.
    pub source: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// The caller's own.
    #[serde(default)]
    pub tags: BTreeMap<String, Value>,
    /// Who asked for it.
    pub by: String,
    /// Which release made it.
    pub deia_version: String,
    /// The store's schema.
    pub schema_version: i64,
    /// The store's epoch, in hex: which store this was.
    pub store_epoch: String,
    /// Tasks by status.
    pub tasks: BTreeMap<String, u64>,
    /// What was known of the clocks, see [`crate::brain::clock`]: only for a home without.
    #[serde(default)]
    pub clocks: Option<Value>,
    /// The other members, in the order they come.
    pub members: Vec<Member>,
}

impl Manifest {
    /// Reads one, and checks that what it says can be.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self =
            serde_json::from_slice(text).map_err(|e| format!("{MANIFEST} can't be read: {e}"))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "{MANIFEST}: form {} is not known to this release, which reads form {FORMAT}",
                self.format
            ));
        }
        if self.members.len() > MAX_MEMBERS {
            return Err(format!("{MANIFEST}: more than {MAX_MEMBERS} members"));
        }
        let mut seen = BTreeSet::new();
        for member in &self.members {
            let path = &member.path;
            if !is_allowed(path) {
                return Err(format!("{MANIFEST}: {path:?} is not part of a backup"));
            }
            if !seen.insert(path) {
                return Err(format!("{MANIFEST}: {path:?} comes twice"));
            }
            if path != DATABASE && member.size > MAX_CONFIG_BYTES {
                return Err(format!("{MANIFEST}: {path:?} is too large"));
            }
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if member.sha256.len() != 64 || !member.sha256.bytes().all(is_hex) {
                return Err(format!("{MANIFEST}: {path:?} has no SHA-256"));
            }
        }
        match self.database() {
            Some(_) => Ok(()),
            None => Err(format!("{MANIFEST}: there is no {DATABASE}")),
        }
    }

    /// The store.
    pub fn database(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.path == DATABASE)
    }

    /// Bytes of everything in it.
    pub fn content_bytes(&self) -> u64 {
        let sizes = self.members.iter().map(|member| member.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Tasks in it.
    pub fn task_count(&self) -> u64 {
        self.tasks.values().copied().fold(0, u64::saturating_add)
    }

    /// Tasks in it that are to be done.
    pub fn pending(&self) -> u64 {
        let of = |status: &str| self.tasks.get(status).copied().unwrap_or(0);
        of("queued") + of("running") + of("scheduled")
    }
}

/// Whether a member of this name may be in an archive.
pub fn is_allowed(path: &str) -> bool {
    path == DATABASE || path.strip_prefix(CONFIG).is_some_and(is_config_name)
}

/// Whether a file of this name is part of a backup's configuration: a plain name, not hidden; not an
/// operator's limits, which are kept outside so that a restore brings no old ones back.
pub fn is_config_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with('.')
        && name.bytes().all(plain)
        && !name.ends_with(".tmp")
        && name != "limits-override.json"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_part_of_a_backup_is_allowed() {
        for path in [DATABASE, "config/bot-config.yaml", "config/last-good.yaml"] {
            assert!(is_allowed(path), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "../state/deia.db",
            "state/../state/deia.db",
            "./state/deia.db",
            "state/deia.db-wal",
            "state/deia.db/",
            "config/",
            "config/.hidden",
            "config/..",
            "config/a/b",
            "config/../state/deia.db",
            "config/limits-override.json",
            "secrets/fleet.key",
            "manifest.json",
        ] {
            assert!(!is_allowed(path), "{path}");
        }
    }
}
