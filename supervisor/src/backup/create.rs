//! Makes a backup: a copy of the store, checked row by row, and the configuration, in one archive.
//!
//! ```text
//!   copy (a snapshot, in steps) -> check every row -> archive, aside -> sync -> read back -> its name
//! ```
//!
//! On a thread of its own that the processor is given last; the store's writer and the main loop know nothing of
//! it. What fails leaves nothing behind, and an earlier process that was killed over it neither: names that
//! begin with a dot are its left-overs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use deia::api::BackupProgress;
use deia::task::TaskStatus;
use deia::time::Timestamp;
use serde_json::Value;

use super::archives::ENDING;
use super::manifest::{self, FORMAT, Kind, Manifest};
use super::write::{self, Contents};
use super::{Inner, name};
use crate::audit::Actor;
use crate::brain::keep::{self, Stored};
use crate::durable;
use crate::http::caller::Caller;
use crate::store::StatusCounts;
use crate::store::sqlite::SqliteStore;

/// What stays free on the disk, whatever is backed up: the store goes before its backups.
const MIN_FREE_BYTES: u64 = 32 << 20;
/// How much lower than others the thread stands with the processor.
const NICENESS: i32 = 10;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// In words, for manifests and journals.
    pub shown: String,
    /// For the record.
    pub actor: Actor,
}

impl By {
    /// The daemon itself.
    pub fn itself() -> Self {
        Self::daemon_for("deia")
    }

    /// The daemon, which goes on with what somebody asked for.
    pub fn daemon_for(shown: impl Into<String>) -> Self {
        Self {
            shown: shown.into(),
            actor: Actor::DAEMON,
        }
    }
}

impl From<&Caller> for By {
    fn from(caller: &Caller) -> Self {
        Self {
            shown: caller.to_string(),
            actor: Actor::from(caller),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Why.
    pub kind: Kind,
    /// Its label.
    pub backup_type: String,
    /// Where it comes from.
    pub source: String,
    /// The caller's own.
    pub tags: BTreeMap<String, Value>,
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who asks, in words for the manifest.
    pub by: String,
    /// Who asks, for the record.
    pub actor: Actor,
}

impl Order {
    /// One without words.
    pub fn new(kind: Kind, by: By) -> Self {
        Self {
            kind,
            backup_type: "full".into(),
            source: "backup-full".into(),
            tags: BTreeMap::new(),
            name: None,
            description: None,
            by: by.shown,
            actor: by.actor,
        }
    }
}

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its name.
    pub id: String,
    /// What stands in it.
    pub manifest: Manifest,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// How long it took.
    pub took: Duration,
}

/// Files that go when this does.
struct Debris(Vec<PathBuf>);

impl Drop for Debris {
    fn drop(&mut self) {
        for path in &self.0 {
            // What can't be removed now is at the next backup.
            let _ = fs::remove_file(path);
        }
    }
}

impl Inner {
    /// Makes one. Blocks for long.
    pub(super) fn make(&self, order: Order) -> Result<Made, String> {
        // Of this thread alone. Where it may not be, the backup is as good.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let made = self.make_it(order);
        self.step(None);
        made
    }

    fn make_it(&self, order: Order) -> Result<Made, String> {
        let begun = Instant::now();
        let folder = self.archives.folder().to_owned();
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
        self.sweep();
        let database = self.home.database();
        let bytes = fs::metadata(&database).map_or(0, |meta| meta.len())
            + fs::metadata(with_suffix(&database, "-wal")).map_or(0, |meta| meta.len());
        // The copy, and the archive, which may not be smaller.
        room_for(&folder, bytes.saturating_mul(2))?;
        let created_at = Timestamp::now();
        let id = name::free(created_at, |id| self.archives.path_of(id).exists())
            .ok_or("no name is free for it")?;
        let copy = folder.join(format!(".{id}.db.partial"));
        let partial = folder.join(format!(".{id}{ENDING}.partial"));
        let archive = self.archives.path_of(&id);
        let _debris = Debris(vec![copy.clone(), partial.clone()]);

        let mut copying = |done, total| self.step(Some(("copying", done, total)));
        SqliteStore::copy_gently(&database, &copy, &mut copying)
            .map_err(|e| failed("the store can't be copied", &e))?;
        deia::failpoint!("backup.copied");
        let size = fs::metadata(&copy).map_or(0, |meta| meta.len());
        self.step(Some(("checking", 0, size)));
        let verified = SqliteStore::verify(&copy).map_err(|e| {
            failed(
                "the store is not sound, so no backup is made of it (older ones stay)",
                &e,
            )
        })?;
        let contents = Contents {
            config: self.config_files(),
            database: &copy,
        };
        let mut progress = self.counting("checking", size);
        let members = contents
            .members(&mut progress)
            .map_err(|e| failed("the store's copy can't be read", &e))?;
        let manifest = Manifest {
            format: FORMAT,
            created_at,
            kind: order.kind,
            backup_type: order.backup_type,
            source: order.source,
            name: order.name,
            description: order.description,
            tags: order.tags,
            by: order.by,
            deia_version: deia::VERSION.to_owned(),
            schema_version: verified.schema_version,
            store_epoch: format!("{:016x}", verified.epoch),
            tasks: by_status(&verified.counts),
            clocks: fs::read(self.home.clocks())
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok()),
            members,
        };
        let mut progress = self.counting("writing", manifest.content_bytes());
        let (size, sum) = write::write(&partial, &manifest, &contents, &mut progress)
            .map_err(|e| failed(&format!("{} can't be written", folder.display()), &e))?;
        let mut progress = self.counting("verifying", manifest.content_bytes());
        let read = super::Archives::verify(&partial, &mut progress)
            .map_err(|e| failed("what was written could not be read back", &e))?;
        if read != manifest {
            return Err("what was written is not what was read back".into());
        }
        write::publish(&partial, &archive)
            .map_err(|e| failed(&format!("{} can't be kept", archive.display()), &e))?;
        self.archives.wrote(&id, sum);
        Ok(Made {
            id,
            manifest,
            path: archive,
            size,
            took: begun.elapsed(),
        })
    }

    /// Removes what a process that was killed has left. One at a time is made, so nobody else's is here.
    pub(super) fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.archives.folder()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(b".state-") || name.starts_with(b".index.json") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes backups that are over their days. Blocks.
    pub(super) fn retain(&self, days: u32) -> io::Result<Vec<String>> {
        let stored = self.archives.list()?;
        let stored: Vec<Stored> = stored
            .iter()
            // What somebody else put there under a name of his own is his to remove.
            .filter(|one| name::time_of(&one.id).is_some())
            .map(|one| Stored {
                id: one.id.clone(),
                at: one.at,
                named: one.manifest.as_ref().is_ok_and(|m| m.name.is_some()),
                good: one.manifest.is_ok(),
            })
            .collect();
        let over = keep::to_remove(&stored, Timestamp::now(), days);
        for id in &over {
            durable::remove(&self.archives.path_of(id))?;
            deia::failpoint!("backup.removed");
        }
        Ok(over)
    }

    /// The configuration: what the daemon keeps of it, and the file that is in force. Never a secret: a
    /// configuration that holds one is refused, and `secrets/` is no part of this.
    fn config_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.home.config)
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_file && let Some(bytes) = config_file(&name, &entry.path()) {
                files.insert(name, bytes);
            }
        }
        if let Some(path) = (self.config_file)() {
            let ending = path.extension().and_then(|ending| ending.to_str());
            let name = format!("bot-config.{}", ending.unwrap_or("yaml"));
            if let Some(bytes) = config_file(&name, &path) {
                files.insert(name, bytes);
            }
        }
        files
            .into_iter()
            .take(manifest::MAX_MEMBERS - 1)
            .map(|(name, bytes)| (format!("{}{name}", manifest::CONFIG), bytes))
            .collect()
    }

    fn counting(&self, step: &'static str, total: u64) -> impl FnMut(u64) {
        let mut done = 0;
        move |bytes| {
            done += bytes;
            self.step(Some((step, done, total)));
        }
    }

    pub(super) fn step(&self, step: Option<(&str, u64, u64)>) {
        let progress = step.map(|(step, done_bytes, total_bytes)| BackupProgress {
            step: step.to_owned(),
            done_bytes,
            total_bytes,
        });
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

fn config_file(name: &str, path: &Path) -> Option<Vec<u8>> {
    let fits = fs::metadata(path).is_ok_and(|meta| meta.len() <= manifest::MAX_CONFIG_BYTES);
    let bytes = (fits && manifest::is_config_name(name)).then(|| fs::read(path).ok())??;
    // It may have grown since.
    (bytes.len() as u64 <= manifest::MAX_CONFIG_BYTES).then_some(bytes)
}

/// Tasks by status, as users know the statuses.
pub fn by_status(counts: &StatusCounts) -> BTreeMap<String, u64> {
    TaskStatus::ALL
        .into_iter()
        .map(|status| (status.to_string(), counts.of(status)))
        .collect()
}

/// Whether so many bytes more have room, and the store still has some then.
///
/// # Errors
/// Says what is there and what is needed.
pub fn room_for(folder: &Path, bytes: u64) -> Result<(), String> {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        // Then writing will tell.
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = bytes.saturating_add(MIN_FREE_BYTES);
    if free >= needed {
        return Ok(());
    }
    Err(format!(
        "{}: {} MiB are free, {} are needed ({} of them stay free for the store); make room, or shorten persistence.backup_retention_days",
        folder.display(),
        free >> 20,
        needed.div_ceil(1 << 20),
        MIN_FREE_BYTES >> 20,
    ))
}

/// A path with something at its end.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
