//! `.deia/releases/`: kept releases, each in a directory named by its version and its file, and the
//! ledger beside them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use deia::api::{ReleaseView, UpgradeView};

use super::deployments::Deployments;
use super::ledger::{Attempt, Decision, FileId, Ledger, Pin, decide};

/// Releases that are kept besides those in use.
const KEPT: usize = 3;

/// A release's file in its directory.
const PROGRAM: &str = "deia";

/// Kept releases of one home. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Releases {
    directory: PathBuf,
    /// One writes the ledger at a time.
    lock: Arc<Mutex<()>>,
}

impl Releases {
    /// Those in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            lock: Arc::default(),
        }
    }

    /// Keeps a copy of this executable; the same file is kept once. Its path. Blocks.
    ///
    /// # Errors
    /// Those of the file system, with the path.
    pub fn keep(&self, executable: &Path, version: &str) -> io::Result<PathBuf> {
        let named = |path: &Path, e: io::Error| {
            io::Error::new(e.kind(), format!("{}: {e}", path.display()))
        };
        let from = File::open(executable).map_err(|e| named(executable, e))?;
        let meta = from.metadata().map_err(|e| named(executable, e))?;
        let id = FileId::of(&meta);
        let directory = self.directory.join(id.name(version));
        let path = directory.join(PROGRAM);
        if id_of(&path) == Some(id) {
            return Ok(path);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&directory)
            .map_err(|e| named(&directory, e))?;
        let partial = directory.join("partial");
        let copied = (|| {
            fs::copy(executable, &partial)?;
            deia::failpoint!("upgrade.kept.copied");
            let file = File::options().write(true).open(&partial)?;
            file.set_permissions(fs::Permissions::from_mode(0o750))?;
            // The copy is known by the same size and time.
            file.set_modified(meta.modified()?)?;
            file.sync_all()?;
            deia::failpoint!("upgrade.kept.synced");
            fs::rename(&partial, &path)?;
            deia::failpoint!("upgrade.kept.renamed");
            File::open(&directory)?.sync_all()
        })();
        copied.map_err(|e| named(&path, e))?;
        Ok(path)
    }

    /// A release that is kept, by its name.
    pub fn kept(&self, release: &str) -> Option<PathBuf> {
        let is_name = !release.is_empty() && !release.contains('/') && !release.starts_with('.');
        let path = self.directory.join(release).join(PROGRAM);
        (is_name && path.is_file()).then_some(path)
    }

    /// A kept release is what the next start becomes, until another file is at the path the daemon is started by
    /// (`invoked`). Blocks.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn pin(&self, release: &Path, invoked: &Path) -> io::Result<()> {
        let invoked = id_of(invoked)
            .ok_or_else(|| io::Error::other(format!("{} can't be looked at", invoked.display())))?;
        self.change(|ledger| {
            ledger.attempt = None;
            ledger.pin = Some(Pin {
                release: release.to_owned(),
                invoked,
            });
        })
    }

    /// Which releases ran here.
    pub fn deployments(&self) -> Deployments {
        Deployments::new(self.directory.join("deployments.json"))
    }

    /// Removes the oldest releases that nobody needs. Blocks.
    pub fn prune(&self, needed: &[&Path]) {
        let ledger = self.read();
        let pinned = ledger.pin.map(|pin| pin.release);
        let mut others: Vec<(i64, PathBuf)> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter_map(|path| {
                let program = path.join(PROGRAM);
                let id = id_of(&program)?;
                let keep = needed.contains(&program.as_path()) || pinned.as_ref() == Some(&program);
                (!keep).then_some((id.modified_ns, path))
            })
            .collect();
        others.sort();
        let excess = others.len().saturating_sub(KEPT);
        for (_, path) in others.into_iter().take(excess) {
            // What can't be removed is tried again at the next upgrade.
            let _ = fs::remove_dir_all(path);
        }
    }

    /// The release that is pinned, if the pin still holds.
    pub fn pinned(&self, invoked: &Path) -> Option<PathBuf> {
        let pin = self.read().pin?;
        (id_of(invoked) == Some(pin.invoked) && pin.release.exists()).then_some(pin.release)
    }

    /// Writes down that a switch begins. Blocks.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn begin(&self, attempt: &Attempt) -> io::Result<()> {
        self.change(|ledger| ledger.attempt = Some(attempt.clone()))
    }

    /// The switch that is under way.
    pub fn attempt(&self) -> Option<Attempt> {
        self.read().attempt
    }

    /// The new release is ready. What was switched, if anything was. Blocks.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn succeed(&self, invoked: &Path) -> io::Result<Option<UpgradeView>> {
        let mut ended = None;
        if self.read().attempt.is_none() {
            return Ok(None);
        }
        self.change(|ledger| {
            let Some(attempt) = ledger.attempt.take() else {
                return;
            };
            ledger.pin = attempt
                .pin
                .then(|| id_of(invoked))
                .flatten()
                .map(|invoked| Pin {
                    release: attempt.to.clone(),
                    invoked,
                });
            ended = Some(attempt.ended(None));
            ledger.last.clone_from(&ended);
        })?;
        Ok(ended)
    }

    /// The attempt under way failed; it, to go back. Blocks.
    pub fn fail(&self, why: &str) -> Option<Attempt> {
        let mut failed = None;
        let written = self.change(|ledger| {
            if let Some(attempt) = ledger.attempt.take() {
                ledger.last = Some(attempt.ended(Some(why.to_owned())));
                failed = Some(attempt);
            }
        });
        if let Err(e) = written {
            tracing::error!(event = "ledger_not_written", error = %e, "the ledger of releases could not be written");
        }
        failed
    }

    /// The ledger is lost, rather than wrong.
    pub fn forget(&self) {
        // Room for a removal there is also on a full disk.
        let _ = fs::remove_file(self.ledger_path());
    }

    /// Writes down how a request ended that was no attempt.
    pub fn note(&self, last: UpgradeView) {
        if let Err(e) = self.change(|ledger| ledger.last = Some(last)) {
            tracing::error!(event = "ledger_not_written", error = %e, "the ledger of releases could not be written");
        }
    }

    /// Whether a switch is under way.
    pub fn is_under_way(&self) -> bool {
        self.attempt().is_some()
    }

    /// What is shown.
    pub fn view(&self, invoked: &Path) -> ReleaseView {
        let ledger = self.read();
        ReleaseView {
            version: deia::VERSION.to_owned(),
            path: own_path().display().to_string(),
            invoked_as: invoked.display().to_string(),
            pinned: ledger.pin.is_some(),
            last_upgrade: ledger.last,
        }
    }

    /// Where the store is copied to for a self-check.
    pub fn copy_path(&self) -> PathBuf {
        self.directory.join("self-check.db")
    }

    /// Where the ledger is.
    pub fn ledger_path(&self) -> PathBuf {
        self.directory.join("ledger.json")
    }

    fn read(&self) -> Ledger {
        let path = self.ledger_path();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                tracing::error!(event = "ledger_unreadable", path = %path.display(), error = %e, "the ledger of releases can't be read; it counts as empty");
                Ledger::default()
            }),
            Err(_) => Ledger::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) -> io::Result<()> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.read();
        change(&mut ledger);
        let text = serde_json::to_vec_pretty(&ledger).map_err(io::Error::other)?;
        crate::durable::write(&self.ledger_path(), &text)
    }
}

/// What a start does, see [`at_start`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtStart {
    /// Runs.
    Run,
    /// Becomes this release.
    Become(PathBuf),
}

/// Which release of this home runs; what is decided is written down. Blocks.
pub fn at_start(releases: &Releases, invoked: &Path) -> AtStart {
    let (Some(running), Some(started)) = (id_of(Path::new("/proc/self/exe")), id_of(invoked))
    else {
        return AtStart::Run;
    };
    let before = releases.read();
    let (decision, after) = decide(before.clone(), running, started, id_of);
    if before != after
        && let Err(e) = releases.change(|ledger| *ledger = after)
    {
        tracing::error!(event = "ledger_not_written", error = %e, "the ledger of releases could not be written");
    }
    match decision {
        Decision::Run => AtStart::Run,
        Decision::Become(path) => AtStart::Become(path),
    }
}

/// The path this program was started by, absolute: `/proc/self/exe` is another file's, or nobody's,
/// once a package has replaced it. Call at the start, before the working directory changes.
pub fn invoked_path() -> PathBuf {
    let given = std::env::args_os().next().unwrap_or_default();
    let found = find(&given, &std::env::var_os("PATH").unwrap_or_default());
    found
        .and_then(|path| std::path::absolute(path).ok())
        .unwrap_or_else(own_path)
}

fn find(given: &OsString, search: &OsString) -> Option<PathBuf> {
    let path = Path::new(given);
    if given.is_empty() {
        return None;
    }
    if path.components().count() > 1 {
        return path.is_file().then(|| path.to_owned());
    }
    std::env::split_paths(search)
        .map(|directory| directory.join(path))
        .find(|candidate| candidate.is_file())
}

fn own_path() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

/// Removes a store's copy and what stands beside it.
pub(super) fn remove_store(copy: &Path) {
    for ending in ["", "-wal", "-shm", ".lock"] {
        let mut name = copy.as_os_str().to_owned();
        name.push(ending);
        // One that is not there is as good.
        let _ = fs::remove_file(name);
    }
}

/// The name under which this very program is kept, and known; `None` where it can't be looked at.
pub fn own_name() -> Option<String> {
    id_of(Path::new("/proc/self/exe")).map(|id| id.name(deia::VERSION))
}

impl FileId {
    /// The name of a release of this version.
    fn name(self, version: &str) -> String {
        format!("{version}-{:x}-{:x}", self.modified_ns, self.bytes)
    }

    fn of(meta: &fs::Metadata) -> Self {
        let seconds = meta.mtime().saturating_mul(1_000_000_000);
        Self {
            bytes: meta.len(),
            modified_ns: seconds.saturating_add(meta.mtime_nsec()),
        }
    }
}

fn id_of(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|meta| FileId::of(&meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_kept_once_can_be_run_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let releases = Releases::new(dir.path().join("releases"));
        let program = dir.path().join("program");
        let mut kept = Vec::new();
        for n in 0..6u64 {
            fs::write(&program, format!("#!/bin/sh\necho {n}\n")).unwrap();
            let file = File::options().write(true).open(&program).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000 + n);
            file.set_modified(at).unwrap();
            drop(file);
            let path = releases.keep(&program, "1.0").unwrap();
            assert_eq!(releases.keep(&program, "1.0").unwrap(), path);
            assert_eq!(id_of(&path), id_of(&program));
            kept.push(path);
        }
        let said = std::process::Command::new(&kept[5]).output();
        // Another test may be starting a program at this moment, with our file still open for it.
        if let Ok(said) = said {
            assert_eq!(said.stdout, b"5\n");
        }
        releases.prune(&[&kept[0]]);
        let left: Vec<bool> = kept.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [true, false, false, true, true, true]);
        assert!(releases.keep(&dir.path().join("none"), "1").is_err());
    }

    #[test]
    fn an_attempt_is_written_down_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let releases = Releases::new(dir.path().to_owned());
        let attempt = Attempt {
            id: "1".into(),
            from: "/from".into(),
            to: "/to".into(),
            pin: true,
            from_version: "1".into(),
            to_version: "2".into(),
            at: deia::time::Timestamp::from_micros(0),
            by: "user:root".into(),
            how: deia::api::DeployedBy::Upgrade,
        };
        releases.begin(&attempt).unwrap();
        assert!(releases.is_under_way());
        assert_eq!(releases.fail("no"), Some(attempt.clone()));
        assert_eq!(releases.fail("no"), None);
        let last = releases.view(Path::new("/x")).last_upgrade.unwrap();
        assert_eq!((last.succeeded, last.error.as_deref()), (false, Some("no")));
        releases.begin(&attempt).unwrap();
        let invoked = dir.path().join("ledger.json");
        assert!(releases.succeed(&invoked).unwrap().unwrap().succeeded);
        assert_eq!(releases.succeed(&invoked).unwrap(), None);
        assert!(releases.view(Path::new("/x")).pinned);
        fs::write(releases.ledger_path(), "{").unwrap();
        assert!(!releases.view(Path::new("/x")).pinned);
    }

    #[test]
    fn a_program_is_found_as_the_shell_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("prog");
        fs::write(&program, "").unwrap();
        let search: OsString = format!("/nonexistent:{}", dir.path().display()).into();
        assert_eq!(find(&"prog".into(), &search), Some(program.clone()));
        assert_eq!(
            find(&program.clone().into(), &OsString::new()),
            Some(program)
        );
        assert_eq!(find(&"other".into(), &search), None);
        assert_eq!(find(&OsString::new(), &search), None);
    }
}
