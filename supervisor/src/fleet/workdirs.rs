//! Fresh working directories: kept for a while (`tasks.workdir_keep`), then removed.
//!
//! There may be hundreds of thousands of them, so what is kept of them in memory does not grow with
//! them: a first look adds up, by the minute of their last change, what they take; from that it is
//! known which minutes go, and the one in which the room ends is looked at in detail. And looking costs
//! time, so it is done when something may have to go, and at most a fiftieth of the time.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deia::config::WorkdirKeep;

/// After a look, this many times as long passes before the next.
const SHARE: u32 = 50;

/// Directories by the minute of their last change: a minute after 1970, and bytes.
type ByMinute = BTreeMap<u64, u64>;

/// A directory in the minute in which the room ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
}

/// What is too old, and where the room ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// What was changed before goes.
    oldest: SystemTime,
    /// The minute in which the room ends, and what of the room is left for it. Minutes before go.
    full: Option<(u64, u64)>,
}

/// Removes directories of tasks that have ended: those older than `days`, and the oldest beyond `mb`.
#[derive(Debug, Default)]
pub struct Tidier {
    not_before: Option<Instant>,
    /// What the last look left.
    settled: Option<Settled>,
}

/// Nothing has to go before something of this changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settled {
    keep: WorkdirKeep,
    /// When a directory was last added or removed.
    root_changed: SystemTime,
    /// When the oldest one is too old.
    until: Option<SystemTime>,
}

impl Tidier {
    /// Looks through `root`, if it is time. Returns how many were removed. Blocks.
    ///
    /// # Errors
    /// When `root` can't be read; a directory that can't be removed is left for the next time.
    pub fn tidy(
        &mut self,
        root: &Path,
        keep: &WorkdirKeep,
        running: &HashSet<String>,
        now: SystemTime,
    ) -> io::Result<usize> {
        let begun = Instant::now();
        let root_changed = fs::metadata(root)?.modified()?;
        let is_settled = self.settled.as_ref().is_some_and(|settled| {
            settled.keep == *keep
                && settled.root_changed == root_changed
                && settled.until.is_none_or(|until| now < until)
        });
        if is_settled || self.not_before.is_some_and(|at| begun < at) {
            return Ok(0);
        }
        let removed = self.look(root, keep, running, now, root_changed);
        self.not_before = Some(Instant::now() + begun.elapsed() * SHARE);
        removed
    }

    fn look(
        &mut self,
        root: &Path,
        keep: &WorkdirKeep,
        running: &HashSet<String>,
        now: SystemTime,
        root_changed: SystemTime,
    ) -> io::Result<usize> {
        self.settled = None;
        let mut minutes = ByMinute::new();
        let mut unfinished = false;
        let mut first = None;
        for entry in fs::read_dir(root)? {
            match ended(&entry?, running, now) {
                Some((path, metadata)) => {
                    let modified = metadata.modified().unwrap_or(now);
                    let bytes = size_of(&path, &metadata);
                    let minute = minutes.entry(minute_of(modified)).or_default();
                    *minute = minute.saturating_add(bytes);
                    first = Some(first.map_or(modified, |first: SystemTime| first.min(modified)));
                }
                None => unfinished = true,
            }
        }
        let bounds = Bounds::of(&minutes, keep, now);
        if bounds.full.is_none() && first.is_none_or(|first| first >= bounds.oldest) {
            let age = Duration::from_secs(u64::from(keep.days) * 86_400);
            self.settled = (!unfinished).then(|| Settled {
                keep: keep.clone(),
                root_changed,
                until: first.and_then(|first| first.checked_add(age)),
            });
            return Ok(0);
        }
        let mut removed = 0;
        let mut last = Vec::new();
        for entry in fs::read_dir(root)? {
            let Some((path, metadata)) = ended(&entry?, running, now) else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(now);
            match bounds.verdict(modified) {
                Verdict::Stays => {}
                Verdict::Goes => removed += usize::from(remove(&path)),
                Verdict::Depends => last.push(Found {
                    bytes: size_of(&path, &metadata),
                    path,
                    modified,
                }),
            }
        }
        let room = bounds.full.map_or(0, |(_, room)| room);
        for path in beyond(last, room) {
            removed += usize::from(remove(&path));
        }
        Ok(removed)
    }
}

enum Verdict {
    Stays,
    Goes,
    /// On the others of its minute.
    Depends,
}

impl Bounds {
    fn of(minutes: &ByMinute, keep: &WorkdirKeep, now: SystemTime) -> Self {
        let age = Duration::from_secs(u64::from(keep.days) * 86_400);
        let mut room = keep.mb.saturating_mul(1 << 20);
        let mut full = None;
        for (minute, bytes) in minutes.iter().rev() {
            if *bytes > room {
                full = Some((*minute, room));
                break;
            }
            room -= bytes;
        }
        Self {
            oldest: now.checked_sub(age).unwrap_or(UNIX_EPOCH),
            full,
        }
    }

    fn verdict(&self, modified: SystemTime) -> Verdict {
        let minute = minute_of(modified);
        match self.full {
            _ if modified < self.oldest => Verdict::Goes,
            Some((full, _)) if minute < full => Verdict::Goes,
            Some((full, _)) if minute == full => Verdict::Depends,
            _ => Verdict::Stays,
        }
    }
}

/// A directory of a task that has ended. One that has just gone is no trouble; one that came after the
/// look at the tasks is in use.
fn ended(
    entry: &DirEntry,
    running: &HashSet<String>,
    now: SystemTime,
) -> Option<(PathBuf, Metadata)> {
    let metadata = entry.metadata().ok()?;
    let fresh = metadata.modified().is_ok_and(|at| at >= now);
    let runs = || running.contains(&*entry.file_name().to_string_lossy());
    (!fresh && metadata.is_dir() && !runs()).then(|| (entry.path(), metadata))
}

fn remove(path: &Path) -> bool {
    let removed = deia_worker::remove::remove_all(path);
    if let Err(e) = &removed {
        tracing::warn!(event = "workdir_not_removed", path = %path.display(), error = %e, "a task's working directory could not be removed");
    }
    removed.is_ok()
}

/// The oldest of them that have no room.
fn beyond(mut found: Vec<Found>, room: u64) -> Vec<PathBuf> {
    found.sort_by_key(|found| std::cmp::Reverse(found.modified));
    let mut used = 0u64;
    found
        .into_iter()
        .filter(|found| {
            used = used.saturating_add(found.bytes);
            used > room
        })
        .map(|found| found.path)
        .collect()
}

fn minute_of(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60
}

/// Bytes that it and all below take on the disk; links are not followed.
fn size_of(directory: &Path, metadata: &Metadata) -> u64 {
    let mut bytes = on_disk(metadata);
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if let Ok(metadata) = entry.metadata() {
                bytes = bytes.saturating_add(on_disk(&metadata));
                if metadata.is_dir() {
                    todo.push(entry.path());
                }
            }
        }
    }
    bytes
}

fn on_disk(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn hours(n: u64) -> Duration {
        Duration::from_secs(n * 3600)
    }

    /// A directory with a file of this size, last changed at this time.
    fn directory(root: &Path, name: &str, bytes: u64, modified: SystemTime) {
        let path = root.join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), vec![b'x'; bytes as usize]).unwrap();
        let opened = fs::File::open(&path).unwrap();
        opened.set_modified(modified).unwrap();
    }

    fn left(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn tidy(root: &Path, keep: &WorkdirKeep, running: &[&str], now: SystemTime) -> usize {
        let running = running.iter().map(|name| (*name).to_owned()).collect();
        Tidier::default().tidy(root, keep, &running, now).unwrap()
    }

    #[test]
    fn the_old_and_the_oldest_beyond_the_room_go() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now() + hours(1);
        directory(root.path(), "newer", MIB, now - hours(1));
        directory(root.path(), "new", MIB / 2, now - hours(2));
        directory(root.path(), "third", MIB, now - hours(3));
        directory(root.path(), "fourth", 1, now - hours(4));
        directory(root.path(), "old", 0, now - hours(25));
        let keep = WorkdirKeep { days: 1, mb: 2 };
        assert_eq!(tidy(root.path(), &keep, &[], now), 3);
        assert_eq!(left(root.path()), ["new", "newer"]);
        assert_eq!(tidy(root.path(), &keep, &[], now), 0);
    }

    #[test]
    fn within_a_minute_it_is_the_oldest_that_go() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now() + hours(1);
        let begins = UNIX_EPOCH + Duration::from_secs(minute_of(now - hours(1)) * 60);
        for n in 0..8 {
            let modified = begins + Duration::from_secs(n);
            directory(root.path(), &format!("d{n}"), MIB / 2, modified);
        }
        let keep = WorkdirKeep { days: 1, mb: 2 };
        tidy(root.path(), &keep, &[], now);
        // Each takes a little more than its file.
        assert_eq!(left(root.path()), ["d5", "d6", "d7"]);
    }

    #[test]
    fn running_tasks_keep_theirs() {
        let root = tempfile::tempdir().unwrap();
        for task in ["running", "ended"] {
            directory(root.path(), task, 1, SystemTime::now());
        }
        let keep = WorkdirKeep { days: 0, mb: 0 };
        let later = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(tidy(root.path(), &keep, &["running"], later), 1);
        assert_eq!(left(root.path()), ["running"]);
    }

    #[test]
    fn empty_directories_take_room_too() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now() + hours(1);
        for n in 0..600 {
            fs::create_dir(root.path().join(n.to_string())).unwrap();
        }
        let first = fs::metadata(root.path().join("0")).unwrap().blocks() * 512;
        tidy(root.path(), &WorkdirKeep { days: 1, mb: 1 }, &[], now);
        let most = MIB.checked_div(first).map_or(600, |most| most as usize);
        assert_eq!(left(root.path()).len(), most.min(600));
    }

    #[test]
    fn it_looks_again_when_something_may_have_to_go_and_not_all_the_time() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now() + hours(1);
        directory(root.path(), "a", 1, now - hours(20));
        let keep = WorkdirKeep { days: 1, mb: 1 };
        let nobody = HashSet::new();
        let mut tidier = Tidier::default();
        assert_eq!(tidier.tidy(root.path(), &keep, &nobody, now).unwrap(), 0);
        assert!(tidier.settled.is_some());
        // Less is kept: that is a reason to look; but not so soon again.
        let less = WorkdirKeep {
            mb: 0,
            ..keep.clone()
        };
        tidier.not_before = Some(Instant::now() + hours(1));
        assert_eq!(tidier.tidy(root.path(), &less, &nobody, now).unwrap(), 0);
        tidier.not_before = None;
        assert_eq!(tidier.tidy(root.path(), &less, &nobody, now).unwrap(), 1);
        // Age is a reason, too.
        directory(root.path(), "b", 1, now - hours(20));
        tidier.not_before = None;
        assert_eq!(tidier.tidy(root.path(), &keep, &nobody, now).unwrap(), 0);
        tidier.not_before = None;
        let later = now + hours(5);
        assert_eq!(tidier.tidy(root.path(), &keep, &nobody, later).unwrap(), 1);
        // While a task runs there, it is not done with.
        directory(root.path(), "c", 1, now - hours(1));
        let running = HashSet::from(["c".to_owned()]);
        tidier.not_before = None;
        assert_eq!(tidier.tidy(root.path(), &keep, &running, now).unwrap(), 0);
        assert_eq!(tidier.settled, None);
    }
}
