//! Restores: everything is verified before anything is touched, and what is there is kept.
//!
//! ```text
//!   stage.rs    archive -> state/restoring-<time>/, every byte and every row checked, a new epoch
//!   journal.rs  .deia/restore.json: 'swap'           <- from here on it happens, whoever is killed
//!   swap.rs     audit and nonces of the present store into the new one; the present one is kept;
//!               one rename                            (at a start, before the store is opened)
//!   journal.rs  'check': the fleet waits at 0 until the restored store has proved itself; then 'done'
//! ```
//!
//! Each step of the swap looks at what is there, so that one that was cut short is done again with the same end.
//! Before the journal says 'swap' nothing of the present state has been touched; after it the next start, of the
//! daemon or of `deia recover`, goes on with it. The epoch is new: what bots of the time before bring is refused.

mod journal;
mod stage;
mod swap;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub use journal::{Journal, Phase};
pub use stage::{Rules, Source, Staged, stage};
pub use swap::{finish, newest_kept, swap};

use crate::durable;

/// What the names of staging directories begin with.
const STAGING: &str = "restoring-";
/// What the names of kept states end, or begin, with.
const BEFORE: &str = "before-restore-";
/// States from before restores that are kept.
pub const MAX_KEPT_STATES: usize = 3;

/// Writes a file that is not there yet, durably and whole; one that is stays.
fn put_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let aside = super::with_suffix(path, ".restored.tmp");
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    durable::sync_directory_of(path)
}

/// A directory of ours alone, and its name on disk.
fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    durable::sync_directory_of(path)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Where the state from before a restore is kept: beside the state's directory, or in it where that is a file
/// system of its own.
fn kept_path(state: &Path, stamp: &str) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    match state.parent() {
        Some(parent) if device(parent) == device(state) => {
            let name = state.file_name().unwrap_or_default().to_string_lossy();
            parent.join(format!("{name}.{BEFORE}{stamp}"))
        }
        _ => state.join(format!("{BEFORE}{stamp}")),
    }
}
