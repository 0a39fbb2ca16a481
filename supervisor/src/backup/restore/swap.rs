//! The swap: at a start, before the store is opened. Each step looks at what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deia::time::Timestamp;

use super::super::manifest::{self, Manifest};
use super::super::{with_suffix, write};
use super::{BEFORE, Journal, MAX_KEPT_STATES, Phase, private_directory, put_new, stage, sync};
use crate::daemon::home::{AUDIT_HEAD, Home};
use crate::durable;
use crate::store::sqlite::SqliteStore;

/// Goes on with a restore that is to happen, and removes what others have staged. The journal as it is then: what is
/// in phase 'check' has to prove itself. Blocks. Call with the home's lock, and nobody at the store.
///
/// # Errors
/// It can't be told what the state is, or it can't be swapped now: the store must not be opened then.
pub fn swap(home: &Home) -> io::Result<Option<Journal>> {
    let path = home.restore_journal();
    let _ = fs::remove_file(with_suffix(&path, ".tmp"));
    let journal = Journal::read(&path).map_err(|e| {
        io::Error::other(format!(
            "{} can't be read ({e}): whether a restore is under way is not known; look at {} and {}, then remove it",
            path.display(),
            home.state.display(),
            home.backups().display()
        ))
    })?;
    let is_under_way = |journal: &Journal| journal.phase == Phase::Swap;
    if !journal.as_ref().is_some_and(is_under_way)
        && let Some(by_hand) = unpacked_by_hand(home)?
    {
        return Ok(Some(by_hand));
    }
    let Some(mut journal) = journal else {
        stage::sweep(home, None);
        return Ok(None);
    };
    if journal.phase == Phase::Swap {
        swap_files(&mut journal, &path).map_err(|e| {
            io::Error::other(format!(
                "the restore {} can't go on: {e}",
                journal.restore_id
            ))
        })?;
        journal.phase = Phase::Check;
        journal.write(&path)?;
        tracing::warn!(event = "restore_swapped", restore_id = journal.restore_id, backup_id = journal.backup_id, old_state = %journal.kept.display(), "the store is the restored one; the one before is kept");
    }
    // Also what a start before this one could not remove any more.
    stage::sweep(home, None);
    Ok(Some(journal))
}

fn swap_files(journal: &mut Journal, path: &Path) -> io::Result<()> {
    let staged = journal.staged.join("deia.db");
    let present = journal.state.join("deia.db");
    // Once it has gone, it is in its place.
    if staged.exists() {
        if fs::symlink_metadata(&present).is_ok() {
            if !journal.is_carried {
                carry(journal, &staged, &present);
                deia::failpoint!("restore.carried");
                journal.is_carried = true;
                journal.write(path)?;
            }
            keep(&present, &journal.kept)?;
        }
        if !journal.carried.contains_key("audit") {
            set_checkpoint_aside(&journal.state, &journal.kept)?;
        }
        fs::rename(&staged, &present)?;
        deia::failpoint!("restore.swapped");
        sync(&journal.state)?;
    }
    // From another home: what its waiting tasks are timed by.
    if let Ok(clocks) = fs::read(journal.staged.join("clocks.json")) {
        put_new(&journal.state.join("clocks.json"), &clocks)?;
    }
    for name in &journal.config_files {
        if let Ok(bytes) = fs::read(journal.staged.join("config").join(name)) {
            put_new(&journal.config.join(name), &bytes)?;
        }
    }
    deia::failpoint!("restore.config");
    Ok(())
}

fn carry(journal: &mut Journal, staged: &Path, present: &Path) {
    match SqliteStore::carry_forward(staged, present) {
        Ok(carried) => {
            for why in &carried.left {
                tracing::warn!(
                    event = "restore_not_carried",
                    reason = why,
                    "records of the present store stay in it; it is kept"
                );
            }
            journal.carried = carried.rows;
        }
        Err(e) => {
            tracing::warn!(event = "restore_not_carried", reason = %e, "the present store can't be read, so that its audit trail and nonces stay in it; it is kept");
        }
    }
}

/// The present store, and its log, stay under another name. The store itself also keeps its own until it is
/// replaced, so that there is never none.
fn keep(present: &Path, kept: &Path) -> io::Result<()> {
    if !kept.exists() {
        private_directory(kept)?;
    }
    deia::failpoint!("restore.keeping");
    let link = kept.join("deia.db");
    if fs::symlink_metadata(&link).is_err() && fs::hard_link(present, &link).is_err() {
        // No file, or a file system without links: for a moment there is none at its place. The journal knows.
        fs::rename(present, &link)?;
    }
    sync(kept)?;
    deia::failpoint!("restore.kept");
    for suffix in ["-wal", "-shm"] {
        let from = with_suffix(present, suffix);
        if fs::symlink_metadata(&from).is_ok() {
            fs::rename(&from, with_suffix(&link, suffix))?;
        }
    }
    sync(kept)?;
    durable::sync_directory_of(present)?;
    deia::failpoint!("restore.log.moved");
    Ok(())
}

/// The audit trail that comes is the backup's own, which does not have what the last checkpoint of the one before knows:
/// the checkpoint goes where that store is kept. Once it has gone, it is there.
fn set_checkpoint_aside(state: &Path, kept: &Path) -> io::Result<()> {
    let checkpoint = state.join(AUDIT_HEAD);
    if fs::symlink_metadata(&checkpoint).is_err() {
        return Ok(());
    }
    if !kept.exists() {
        private_directory(kept)?;
    }
    fs::rename(&checkpoint, kept.join(AUDIT_HEAD))?;
    sync(kept)?;
    sync(state)?;
    tracing::warn!(event = "audit_checkpoint_set_aside", kept = %kept.display(), "the audit trail of the present store could not be put into the restored one: it ends with the backup, and goes on from there");
    Ok(())
}

/// Somebody has unpacked an archive into `.deia`: its manifest lies there. What stands beside the store then, a log
/// above all, belongs to another one and would be taken for its own; and leases of before have to be shut out.
fn unpacked_by_hand(home: &Home) -> io::Result<Option<Journal>> {
    let sheet = home.deia().join(manifest::MANIFEST);
    let small = fs::metadata(&sheet).is_ok_and(|meta| meta.len() <= manifest::MAX_MANIFEST_BYTES);
    if !small || home.state != home.deia().join("state") {
        return Ok(None);
    }
    let database = home.database();
    let said = Manifest::parse(&fs::read(&sheet)?).ok();
    let said = said.as_ref().and_then(Manifest::database);
    let found = fs::File::open(&database)
        .and_then(|mut file| write::sum_of(&mut file, &mut |_| ()))
        .ok();
    let is_it = said.is_some_and(|said| found == Some((said.size, said.sha256.clone())));
    let mut by_hand = None;
    if is_it {
        let began_at = Timestamp::now();
        let stamp = stage::free_stamp(home, began_at)
            .ok_or_else(|| io::Error::other("no name is free for the present state"))?;
        let kept = super::kept_path(&home.state, &stamp);
        private_directory(&kept)?;
        for suffix in ["-wal", "-shm"] {
            let from = with_suffix(&database, suffix);
            if fs::symlink_metadata(&from).is_ok() {
                fs::rename(&from, with_suffix(&kept.join("deia.db"), suffix))?;
            }
        }
        sync(&home.state)?;
        set_checkpoint_aside(&home.state, &kept)?;
        let epoch = SqliteStore::renew_epoch(&database).map_err(io::Error::other)?;
        let journal = Journal {
            phase: Phase::Check,
            restore_id: format!("restore-{stamp}"),
            backup_id: "an archive that was unpacked by hand".into(),
            by: "by hand".into(),
            began_at,
            ended_at: None,
            error: None,
            staged: home.state.join("restoring-by-hand"),
            state: home.state.clone(),
            config: home.config.clone(),
            config_files: Vec::new(),
            kept,
            epoch: format!("{epoch:016x}"),
            is_carried: false,
            carried: Default::default(),
            automatic: 0,
        };
        journal.write(&home.restore_journal())?;
        tracing::warn!(
            event = "restore_by_hand",
            "an archive was unpacked by hand: what was left of the store before is set aside, and results of its time are refused"
        );
        by_hand = Some(journal);
    }
    durable::remove(&sheet)?;
    Ok(by_hand)
}

/// A restore is over. Blocks.
///
/// # Errors
/// It can't be written down: it is checked once more at the next start.
pub fn finish(home: &Home, journal: &mut Journal, failed: Option<String>) -> io::Result<()> {
    journal.ended_at = Some(Timestamp::now());
    journal.error = failed;
    if journal.error.is_none() {
        journal.phase = Phase::Done;
    }
    journal.write(&home.restore_journal())?;
    deia::failpoint!("restore.finished");
    if journal.phase == Phase::Done {
        prune(&home.state);
    }
    Ok(())
}

/// The newest state from before a restore.
pub fn newest_kept(home: &Home) -> Option<PathBuf> {
    kept_states(&home.state).into_iter().next()
}

/// Newest first: their names are times.
fn kept_states(state: &Path) -> Vec<PathBuf> {
    let beside = state.parent().map(Path::to_owned);
    let own = state
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut kept = Vec::new();
    for (folder, prefix) in [
        (beside, format!("{own}.{BEFORE}")),
        (Some(state.to_owned()), BEFORE.to_owned()),
    ] {
        let Some(folder) = folder else { continue };
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(stamp) = name.strip_prefix(&prefix) {
                kept.push((stamp.to_owned(), entry.path()));
            }
        }
    }
    kept.sort();
    kept.into_iter().rev().map(|(_, path)| path).collect()
}

fn prune(state: &Path) {
    for old in kept_states(state).into_iter().skip(MAX_KEPT_STATES) {
        match fs::remove_dir_all(&old) {
            Ok(()) => {
                tracing::info!(event = "restore_old_state_removed", path = %old.display(), "a state from before an earlier restore is not kept any more")
            }
            Err(e) => {
                tracing::warn!(event = "restore_old_state_stays", path = %old.display(), error = %e, "a state from before an earlier restore could not be removed")
            }
        }
    }
}
