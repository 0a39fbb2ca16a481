//! A directory of its own for the temporary files of each attempt, gone with the attempt.

use std::fs;
use std::path::{Path, PathBuf};

use deia::task::{Fence, TaskId};

use crate::confine::{DISCARDED, TEMPORARY};
use crate::remove::remove_all;

/// The directory of an attempt, below the bot's own one.
pub fn directory(own: &Path, task: &TaskId, fence: Fence) -> PathBuf {
    own.join(TEMPORARY)
        .join(format!("{task}.{}.{}", fence.epoch, fence.attempt))
}

/// Removes an attempt's directory, in the background.
pub fn clear(own: &Path, task: &TaskId, fence: Fence) {
    let directory = directory(own, task, fence);
    if directory.is_dir() {
        remove(vec![directory]);
    }
}

/// Removes what an earlier process of the bot has left, in the background. Call before the first
/// attempt.
pub fn sweep(own: &Path) {
    let discarded = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(DISCARDED.as_bytes())
    };
    let mut left = entries(&own.join(TEMPORARY));
    left.extend(entries(own).into_iter().filter(discarded));
    if !left.is_empty() {
        remove(left);
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// What can't be removed stays: it counts to what the bot may hold.
fn remove(directories: Vec<PathBuf>) {
    tokio::task::spawn_blocking(move || {
        for directory in directories {
            let _ = remove_all(&directory);
        }
    });
}
