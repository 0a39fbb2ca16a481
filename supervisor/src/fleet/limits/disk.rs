//! How much a bot has on disk: in the working directories of its tasks, in its own directory, and in
//! files that have no name any more.
//!
//! Every file and directory counts at least [`LEAST`], so that a million empty ones count too; and a
//! look ends where the limit is passed, so that it has an end. What is written to directories that the
//! pool names (`workdir: PATH`, `paths.write`) is the operator's to watch.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use deia_worker::confine;
use deia_worker::tree::Process;

use super::measure::Forest;
use super::{Limited, Over, Watched};

/// What an empty file takes.
const LEAST: u64 = 4096;

/// Bytes in one of the kernel's blocks, as `stat` counts them.
const BLOCK: u64 = 512;

/// What is over its limit, if anything is.
pub fn over(watched: &Watched, host: &Forest) -> Option<Over> {
    let own = watched.own.as_ref()?;
    let allowed = watched.disk_bytes;
    let over = |what, measured| Over {
        what,
        measured,
        allowed,
    };
    for (task, directory) in &watched.work {
        let measured = held(directory, allowed);
        if measured > allowed {
            return Some(over(Limited::Work(task.clone()), measured));
        }
    }
    // Not what is on its way out already, see `super::end`.
    let parts = [confine::HOME, confine::TEMPORARY].map(|part| held(&own.join(part), allowed));
    let measured = parts.into_iter().fold(0, u64::saturating_add);
    if measured > allowed {
        return Some(over(Limited::Own, measured));
    }
    let measured = deleted(&host.tree(watched.process));
    (measured > allowed).then(|| over(Limited::Deleted, measured))
}

/// Bytes below a directory; no more are counted once there are more than `enough`. Links are not
/// followed.
pub fn held(directory: &Path, enough: u64) -> u64 {
    let mut sum = 0u64;
    let mut todo = vec![directory.to_owned()];
    // Files with several names count once.
    let mut named: HashSet<(u64, u64)> = HashSet::new();
    while let Some(next) = todo.pop() {
        let entries = match entries(&next) {
            Ok(entries) => entries,
            // A path that is too long to look at is no accident.
            Err(e) if e.kind() == io::ErrorKind::InvalidFilename => return u64::MAX,
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.nlink() > 1 && !named.insert((meta.dev(), meta.ino())) {
                continue;
            }
            sum = sum.saturating_add(meta.blocks().saturating_mul(BLOCK).max(LEAST));
            if sum > enough {
                return sum;
            }
        }
    }
    sum
}

/// A directory that its bot has closed to itself is opened again: it is looked into all the same.
fn entries(directory: &Path) -> io::Result<fs::ReadDir> {
    fs::read_dir(directory).or_else(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => {
            let mode = fs::symlink_metadata(directory)?.mode();
            fs::set_permissions(directory, Permissions::from_mode(mode | 0o700))?;
            fs::read_dir(directory)
        }
        _ => Err(e),
    })
}

/// Bytes in files without a name that a bot's processes have open, files in memory (memfd) too.
fn deleted(tree: &[Process]) -> u64 {
    let mut counted: HashSet<(u64, u64)> = HashSet::new();
    let mut sum = 0u64;
    for process in tree {
        let open = fs::read_dir(format!("/proc/{}/fd", process.id.pid));
        for entry in open.into_iter().flatten().flatten() {
            if let Some((file, bytes)) = nameless(&entry.path())
                && counted.insert(file)
            {
                sum = sum.saturating_add(bytes);
            }
        }
    }
    sum
}

/// Which file a descriptor is of, and its bytes, if it is a regular one without a name.
fn nameless(descriptor: &PathBuf) -> Option<((u64, u64), u64)> {
    let target = fs::read_link(descriptor).ok()?;
    if !target
        .as_os_str()
        .as_encoded_bytes()
        .ends_with(b" (deleted)")
    {
        return None;
    }
    let meta = fs::metadata(descriptor).ok()?;
    (meta.is_file() && meta.nlink() == 0).then(|| {
        (
            (meta.dev(), meta.ino()),
            meta.blocks().saturating_mul(BLOCK),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_held_is_counted_with_empty_files_and_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("a")).unwrap();
        let before = held(dir.path(), u64::MAX);
        fs::write(path("a/big"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(path("a/big"), path("second-name")).unwrap();
        std::os::unix::fs::symlink("/usr", path("link")).unwrap();
        for n in 0..10 {
            fs::write(path(&format!("empty{n}")), "").unwrap();
        }
        // A file with nothing in it but a length takes no room.
        fs::File::create(path("holes"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        let grown = held(dir.path(), u64::MAX) - before;
        let expected = (1 << 20) + 12 * LEAST;
        assert!(
            (expected..expected + (64 << 10)).contains(&grown),
            "{grown}"
        );
        // No further than the limit.
        assert!(held(dir.path(), LEAST) <= 3 << 20);
    }

    #[test]
    fn a_closed_directory_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), vec![1; 1 << 20]).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        assert!(held(dir.path(), u64::MAX) > 1 << 20);
    }

    #[test]
    fn a_file_without_a_name_counts_while_it_is_open() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let me = deia_worker::tree::identify(std::process::id()).unwrap();
        assert!(deleted(&Forest::of_this_host().tree(me)) >= 1 << 20);
        let named = tempfile::NamedTempFile::new().unwrap();
        use std::os::fd::AsRawFd;
        let descriptor = format!("/proc/self/fd/{}", named.as_raw_fd());
        assert_eq!(nameless(&descriptor.into()), None);
    }
}
