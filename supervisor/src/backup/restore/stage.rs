//! Brings a backup beside the present store, and checks all of it. Nothing of the present state is touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use deia::api::{BackupMeta, RestorePlan};
use deia::time::Timestamp;
use nix::fcntl::OFlag;

use super::super::manifest::{CONFIG, DATABASE, Manifest, Member};
use super::super::read::{self, Target, Visitor};
use super::super::{Found, by_status, name, room_for};
use super::{Journal, Phase, STAGING, kept_path, private_directory, sync};
use crate::daemon::home::Home;
use crate::store::sqlite::{SqliteStore, Verified};

/// What a restore is made of.
#[derive(Debug, Clone)]
pub enum Source {
    /// An archive.
    Archive(Box<Found>),
    /// The state from before an earlier restore.
    Kept(PathBuf),
}

/// Bounds and surroundings of a restore.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Bytes a backup may inflate to (`persistence.restore_max_mb`).
    pub max_bytes: u64,
    /// There is a configuration file: the backup's is not put in place.
    pub has_config: bool,
    /// Who asks.
    pub by: String,
    /// How many restores in a row nobody had asked for, with this one.
    pub automatic: u32,
}

/// A backup beside the store, checked. Its directory goes with it, unless it is committed.
#[derive(Debug)]
pub struct Staged {
    /// What comes of it.
    pub plan: RestorePlan,
    journal: Journal,
    committed: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is removed at the next start.
            let _ = fs::remove_dir_all(&self.journal.staged);
        }
    }
}

/// Stages it. Blocks for long; memory is a few buffers and what SQLite takes.
///
/// # Errors
/// Why it is no backup to restore; nothing is left of it then.
pub fn stage(
    home: &Home,
    source: &Source,
    rules: &Rules,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Staged, String> {
    let began_at = Timestamp::now();
    sweep(home, None);
    let stamp = free_stamp(home, began_at).ok_or("no name is free for it")?;
    let staged = home.state.join(format!("{STAGING}{stamp}"));
    private_directory(&staged).map_err(|e| format!("{}: {e}", staged.display()))?;
    let mut staging = Staged {
        plan: empty_plan(source),
        journal: Journal {
            phase: Phase::Swap,
            restore_id: format!("restore-{stamp}"),
            backup_id: backup_id(source),
            by: rules.by.clone(),
            began_at,
            ended_at: None,
            error: None,
            staged: staged.clone(),
            state: home.state.clone(),
            config: home.config.clone(),
            config_files: Vec::new(),
            kept: kept_path(&home.state, &stamp),
            epoch: String::new(),
            is_carried: false,
            carried: Default::default(),
            automatic: rules.automatic,
        },
        committed: false,
    };
    let database = staged.join("deia.db");
    let manifest = match source {
        Source::Archive(found) => Some(extract(&staged, found, rules, progress)?),
        Source::Kept(kept) => {
            copy_kept(kept, &staged)?;
            None
        }
    };
    deia::failpoint!("restore.extracted");
    let verified = SqliteStore::verify(&database).map_err(|e| e.to_string())?;
    if let Some(manifest) = &manifest {
        same_as_said(manifest, &verified)?;
        let clocks = manifest.clocks.as_ref().map(serde_json::to_vec);
        if let Some(Ok(clocks)) = clocks {
            fs::write(staged.join("clocks.json"), clocks).map_err(|e| e.to_string())?;
        }
    }
    plan(&mut staging, home, rules, &verified, &database);
    sync(&staged).map_err(|e| e.to_string())?;
    Ok(staging)
}

impl Staged {
    /// Its name.
    pub fn restore_id(&self) -> &str {
        &self.journal.restore_id
    }

    /// Shuts out what bots of the time before bring: the last change of what is staged. Blocks.
    ///
    /// # Errors
    /// The staged store can't be written.
    pub fn renew(&mut self) -> Result<(), String> {
        let database = self.journal.staged.join("deia.db");
        let epoch = SqliteStore::renew_epoch(&database).map_err(|e| e.to_string())?;
        self.journal.epoch = format!("{epoch:016x}");
        if super::super::with_suffix(&database, "-wal").exists() {
            return Err(format!(
                "{}: its log could not be emptied",
                database.display()
            ));
        }
        sync(&database)
            .and_then(|()| sync(&self.journal.staged))
            .map_err(|e| e.to_string())
    }

    /// From here on it happens. Blocks.
    ///
    /// # Errors
    /// It does not happen: the journal could not be written.
    pub fn commit(mut self, home: &Home) -> Result<Journal, String> {
        deia::failpoint!("restore.staged");
        self.journal
            .write(&home.restore_journal())
            .map_err(|e| format!("{}: {e}", home.restore_journal().display()))?;
        self.committed = true;
        deia::failpoint!("restore.noted");
        Ok(self.journal.clone())
    }
}

/// Removes what restores that did not happen have staged.
pub(super) fn sweep(home: &Home, but: Option<&Path>) {
    for entry in fs::read_dir(&home.state).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(STAGING);
        if is_ours && but != Some(path.as_path()) {
            // What can't be removed now is at the next start.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// A time that names neither a staging directory nor a kept state.
pub(super) fn free_stamp(home: &Home, at: Timestamp) -> Option<String> {
    let stamp = |name: &str| name.trim_start_matches("state-").to_owned();
    let is_taken = |name: &str| {
        let stamp = stamp(name);
        home.state.join(format!("{STAGING}{stamp}")).exists()
            || kept_path(&home.state, &stamp).exists()
    };
    name::free(at, is_taken).map(|name| stamp(&name))
}

fn backup_id(source: &Source) -> String {
    match source {
        Source::Archive(found) => found.id.clone(),
        Source::Kept(kept) => kept
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    }
}

/// Files of an archive, made where no file is and by way of no link.
struct Extract<'a> {
    to: &'a Path,
    max_bytes: u64,
    progress: &'a mut dyn FnMut(u64, u64),
    total: u64,
    done: u64,
}

struct Written(File);

impl Write for Written {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Target for Written {
    fn done(self: Box<Self>) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Visitor for Extract<'_> {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), String> {
        self.total = manifest.content_bytes();
        if self.total > self.max_bytes {
            return Err(format!(
                "it inflates to {} MiB, persistence.restore_max_mb allows {}",
                self.total >> 20,
                self.max_bytes >> 20
            ));
        }
        room_for(self.to, self.total)
    }

    fn member(&mut self, member: &Member) -> io::Result<Box<dyn Target>> {
        // The names are those that `manifest.rs` allows: `state/deia.db`, `config/` and a plain word.
        let path = match member.path.strip_prefix(CONFIG) {
            Some(name) => self.to.join("config").join(name),
            None if member.path == DATABASE => self.to.join("deia.db"),
            None => return Err(io::Error::other("no part of a backup")),
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        Ok(Box::new(Written(file)))
    }

    fn progress(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done, self.total);
    }
}

fn extract(
    staged: &Path,
    found: &Found,
    rules: &Rules,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, String> {
    private_directory(&staged.join("config")).map_err(|e| e.to_string())?;
    let mut extract = Extract {
        to: staged,
        max_bytes: rules.max_bytes,
        progress,
        total: 0,
        done: 0,
    };
    let file = read::open(&found.path).map_err(|e| format!("{}: {e}", found.path.display()))?;
    let manifest = read::walk(&file, &mut extract)
        .map_err(|e| format!("{} is no backup to restore: {e}", found.path.display()))?;
    sync(&staged.join("config")).map_err(|e| e.to_string())?;
    Ok(manifest)
}

fn copy_kept(kept: &Path, staged: &Path) -> Result<(), String> {
    for name in ["deia.db", "deia.db-wal"] {
        let from = kept.join(name);
        if from.exists() {
            let to = staged.join(name);
            fs::copy(&from, &to)
                .and_then(|_| sync(&to))
                .map_err(|e| format!("{}: {e}", from.display()))?;
        }
    }
    Ok(())
}

fn same_as_said(manifest: &Manifest, verified: &Verified) -> Result<(), String> {
    let said = (
        &manifest.store_epoch,
        manifest.schema_version,
        &manifest.tasks,
    );
    let epoch = format!("{:016x}", verified.epoch);
    let tasks = by_status(&verified.counts);
    if said == (&epoch, verified.schema_version, &tasks) {
        Ok(())
    } else {
        Err("the store in it is not the one that its manifest describes".into())
    }
}

fn empty_plan(source: &Source) -> RestorePlan {
    let backup = match source {
        Source::Archive(found) => found.meta(),
        Source::Kept(kept) => BackupMeta {
            backup_id: backup_id(source),
            backup_type: "full".into(),
            timestamp: Timestamp::now(),
            source: "the state from before a restore".into(),
            size_bytes: 0,
            item_count: 0,
            checksum: String::new(),
            tags: Default::default(),
            kind: "kept_state".into(),
            name: None,
            description: None,
            by: "deia".into(),
            deia_version: String::new(),
            schema_version: 0,
            tasks: Default::default(),
            content_bytes: 0,
            file: kept.display().to_string(),
            error: None,
        },
    };
    RestorePlan {
        backup,
        tasks_dropped: None,
        tasks_run_again: None,
        tasks_pending: 0,
        config_restored: Vec::new(),
        config_kept: Vec::new(),
        old_state: String::new(),
    }
}

fn plan(staging: &mut Staged, home: &Home, rules: &Rules, verified: &Verified, database: &Path) {
    let plan = &mut staging.plan;
    let tasks = by_status(&verified.counts);
    let pending = ["queued", "running", "scheduled"];
    plan.tasks_pending = pending.iter().filter_map(|status| tasks.get(*status)).sum();
    plan.backup.item_count = tasks.values().sum();
    plan.backup.schema_version = verified.schema_version;
    plan.backup.tasks = tasks;
    plan.old_state = staging.journal.kept.display().to_string();
    // What of it can't be told, because the present store can't be read, is said to be unknown.
    if let Ok(difference) = SqliteStore::difference(&home.database(), database) {
        plan.tasks_dropped = Some(difference.dropped);
        plan.tasks_run_again = Some(difference.run_again);
    }
    let staged = staging.journal.staged.join("config");
    for entry in fs::read_dir(&staged).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let present = home.config.join(&name);
        let is_main = name.starts_with("bot-config.");
        if !(present.exists() || is_main && rules.has_config) {
            plan.config_restored.push(name);
        } else if !is_main || present.exists() {
            let (old, new) = (fs::read(&present).ok(), fs::read(entry.path()).ok());
            if old != new {
                plan.config_kept.push(name);
            }
        } else {
            plan.config_kept.push(name);
        }
    }
    plan.config_restored.sort();
    plan.config_kept.sort();
    staging.journal.config_files = plan.config_restored.clone();
}
