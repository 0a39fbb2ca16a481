//! `restore.json`: how far a restore is, and how the last one went. A small file outside the state that is swapped.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deia::api::RestoreView;
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;

const MAX_BYTES: u64 = 1 << 20;

/// Where a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything is staged: it is swapped before the store is opened the next time.
    Swap,
    /// It was swapped; the restored store has not proved itself yet.
    Check,
    /// It is in use.
    Done,
    /// It did not happen: the state is what it was.
    Failed,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// Where it is.
    pub phase: Phase,
    /// Which.
    pub restore_id: String,
    /// Of which backup.
    pub backup_id: String,
    /// Who asked for it.
    pub by: String,
    /// When it began.
    pub began_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Why it failed, or what its checks have found.
    pub error: Option<String>,
    /// The staged store's directory.
    pub staged: PathBuf,
    /// The state's directory.
    pub state: PathBuf,
    /// Where the configuration is put that there is none of.
    pub config: PathBuf,
    /// Files of the configuration that are put in place.
    pub config_files: Vec<String>,
    /// Where the present state is kept.
    pub kept: PathBuf,
    /// The restored store's epoch, in hex.
    pub epoch: String,
    /// What is not turned back was put into the staged store: not again, from a store whose log may be gone.
    #[serde(default)]
    pub is_carried: bool,
    /// Rows that were carried forward, by kind.
    #[serde(default)]
    pub carried: BTreeMap<String, u64>,
    /// How many restores in a row nobody had asked for.
    #[serde(default)]
    pub automatic: u32,
}

impl Journal {
    /// Reads it. `None` where there never was a restore.
    ///
    /// # Errors
    /// It is there and can't be read: then nobody knows what the state is.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let size = match fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if size > MAX_BYTES {
            return Err(io::Error::other("it is too large"));
        }
        let text = fs::read(path)?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(io::Error::other)
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// Those of the file system; what it said before still stands.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        durable::write(path, &text)
    }

    /// As users see it.
    pub fn view(&self) -> RestoreView {
        RestoreView {
            restore_id: self.restore_id.clone(),
            backup_id: self.backup_id.clone(),
            by: self.by.clone(),
            succeeded: match self.phase {
                Phase::Done => Some(true),
                Phase::Failed => Some(false),
                Phase::Swap | Phase::Check => None,
            },
            error: self.error.clone(),
            began_at: self.began_at,
            ended_at: self.ended_at,
            old_state: (self.phase != Phase::Failed).then(|| self.kept.display().to_string()),
            carried: self.carried.clone(),
        }
    }
}
