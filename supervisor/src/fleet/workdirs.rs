//! Fresh working directories: kept for a while (`tasks.workdir_keep`), then removed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use deia::config::WorkdirKeep;

/// A task's directory, as far as the choice needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
}

/// Removes directories of tasks that do not run, which are older than `days`, and the oldest beyond
/// `mb` over all. Returns how many were removed. Blocks.
///
/// # Errors
/// When `root` can't be read; a directory that can't be removed is left for the next time.
pub fn tidy(
    root: &Path,
    keep: &WorkdirKeep,
    running: &HashSet<String>,
    now: SystemTime,
) -> io::Result<usize> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that has just gone is no trouble; one that came after the look at the tasks is in use.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let fresh = metadata.modified().is_ok_and(|at| at >= now);
        if !fresh && metadata.is_dir() && !running.contains(&name) {
            found.push(Found {
                path: entry.path(),
                modified: metadata.modified().unwrap_or(now),
                bytes: size_of(&entry.path()),
            });
        }
    }
    let mut removed = 0;
    for path in superfluous(found, keep, now) {
        match deia_worker::remove::remove_all(&path) {
            Ok(()) => removed += 1,
            Err(e) => {
                tracing::warn!(event = "workdir_not_removed", path = %path.display(), error = %e, "a task's working directory could not be removed");
            }
        }
    }
    Ok(removed)
}

/// Which directories go.
fn superfluous(mut found: Vec<Found>, keep: &WorkdirKeep, now: SystemTime) -> Vec<PathBuf> {
    found.sort_by_key(|found| std::cmp::Reverse(found.modified));
    let oldest = Duration::from_secs(u64::from(keep.days) * 86_400);
    let room = keep.mb.saturating_mul(1 << 20);
    let mut used = 0u64;
    found
        .into_iter()
        .filter(|found| {
            used = used.saturating_add(found.bytes);
            let age = now.duration_since(found.modified).unwrap_or_default();
            used > room || age > oldest
        })
        .map(|found| found.path)
        .collect()
}

/// Bytes of all files below; links are not followed.
fn size_of(directory: &Path) -> u64 {
    let mut bytes = 0u64;
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => todo.push(entry.path()),
                Ok(metadata) => bytes = bytes.saturating_add(metadata.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, age_hours: u64, bytes: u64, now: SystemTime) -> Found {
        Found {
            path: name.into(),
            modified: now - Duration::from_secs(age_hours * 3600),
            bytes,
        }
    }

    #[test]
    fn the_old_and_the_oldest_beyond_the_room_go() {
        let now = SystemTime::now();
        let keep = WorkdirKeep { days: 1, mb: 2 };
        let all = vec![
            found("new", 1, 1 << 20, now),
            found("newer", 0, 1 << 20, now),
            found("third", 2, 1, now),
            found("old", 25, 0, now),
        ];
        let names: Vec<_> = superfluous(all, &keep, now);
        assert_eq!(names, [PathBuf::from("third"), PathBuf::from("old")]);
    }

    #[test]
    fn running_tasks_keep_theirs() {
        let root = tempfile::tempdir().unwrap();
        for task in ["running", "ended"] {
            fs::create_dir(root.path().join(task)).unwrap();
            fs::write(root.path().join(task).join("file"), "x").unwrap();
        }
        let keep = WorkdirKeep { days: 0, mb: 0 };
        let running = HashSet::from(["running".to_owned()]);
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(tidy(root.path(), &keep, &running, later).unwrap(), 1);
        assert!(root.path().join("running/file").exists());
        assert!(!root.path().join("ended").exists());
    }
}
