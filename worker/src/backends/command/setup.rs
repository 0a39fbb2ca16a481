//! What a program finds when it starts: its directory and its environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use deia::config::Workdir;
use deia::task::TaskId;

use super::super::{Context, Failure, Job};
use super::temporary;
use crate::confine::HOME;
use crate::confine::cage::Cell;
use crate::secret_file::{self, Secret};

/// `PATH` where the pool does not list it: without one, nothing can be found.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Where a command works.
#[derive(Debug)]
pub struct Ground {
    /// Its working directory.
    pub directory: PathBuf,
    /// HOME.
    pub home: PathBuf,
    /// TMPDIR.
    pub temporary: PathBuf,
    /// PATH, as far as programs may be started there.
    pub path: OsString,
    /// The rest of it.
    pub out_of_reach: Vec<PathBuf>,
    /// What it is confined to.
    pub cell: Cell,
}

/// The listed variables as this process has them, and what is the bot's own: a PATH, a HOME, a place
/// for temporary files; nothing else.
pub fn environment(
    listed: &[String],
    lookup: impl Fn(&str) -> Option<OsString>,
    ground: &Ground,
) -> BTreeMap<String, OsString> {
    let mut variables: BTreeMap<String, OsString> = listed
        .iter()
        .filter_map(|name| Some((name.clone(), lookup(name)?)))
        .collect();
    variables.insert("PATH".into(), ground.path.clone());
    variables.insert("HOME".into(), ground.home.clone().into());
    variables.insert("TMPDIR".into(), ground.temporary.clone().into());
    variables
}

/// The values of `env_files`.
pub async fn secrets(
    files: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut secrets = BTreeMap::new();
    for (name, path) in files {
        let secret = secret_file::read(path.clone())
            .await
            .map_err(|e| Failure::permanent(format!("env_files.{name}: {e}")))?;
        secrets.insert(name.clone(), secret);
    }
    Ok(secrets)
}

/// Makes or finds the directories of an attempt, and a cell for its command.
pub async fn ground(context: &Context, job: Job<'_>, listed: &[String]) -> Result<Ground, Failure> {
    let directories = [
        working_directory(context, job.task),
        (context.own.join(HOME), Make::Fresh),
        (
            temporary::directory(&context.own, job.task, job.fence),
            Make::Fresh,
        ),
    ];
    let cage = context.cage.clone();
    let path = listed.iter().find(|name| *name == "PATH");
    let path = path
        .and_then(std::env::var_os)
        .unwrap_or_else(|| DEFAULT_PATH.into());
    let made = tokio::task::spawn_blocking(move || {
        for (path, make) in &directories {
            make.at(path)?;
        }
        let [directory, home, temporary] = directories.map(|(path, _)| path);
        let written = [directory.clone(), home.clone(), temporary.clone()];
        let cell = cage.as_ref().map(|cage| cage.prepare(&written));
        let cell = cell.transpose().map_err(Failure::unavailable)?;
        let cell = cell.unwrap_or_default();
        let (path, out_of_reach) = match &cage {
            Some(cage) => cage.rules().path(&path),
            None => (path, Vec::new()),
        };
        Ok(Ground {
            directory,
            home,
            temporary,
            path,
            out_of_reach,
            cell,
        })
    });
    made.await
        .unwrap_or_else(|e| Err(Failure::backend(format!("the working directory: {e}"))))
}

fn working_directory(context: &Context, task: &TaskId) -> (PathBuf, Make) {
    match &context.workdir {
        Workdir::Fresh => (context.work_root.join(task.as_str()), Make::Fresh),
        Workdir::Path(path) => (path.clone(), Make::Found),
    }
}

/// How a directory comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    /// It is made.
    Fresh,
    /// It is the operator's.
    Found,
}

impl Make {
    fn at(self, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Fresh => make_fresh(path),
            Self::Found => match std::fs::metadata(path) {
                Ok(found) if found.is_dir() => Ok(()),
                Err(e) if is_shortage(&e) => Err(Failure::unavailable(format!(
                    "workdir {}: {e}",
                    path.display()
                ))),
                _ => Err(Failure::permanent(format!(
                    "workdir {} is no directory: create it and restart the bot",
                    path.display()
                ))),
            },
        }
    }
}

/// One that exists is an earlier attempt's and is kept: what that attempt wrote may be wanted.
fn make_fresh(path: &Path) -> Result<(), Failure> {
    let private = || std::fs::DirBuilder::new().mode(0o700).create(path);
    let mut made = private();
    if matches!(&made, Err(e) if e.kind() == io::ErrorKind::NotFound)
        && let Some(parent) = path.parent()
    {
        let parent = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent);
        made = parent.and_then(|()| private());
    }
    match made {
        Ok(()) => Ok(()),
        // Not through a link, which another task of this user could have left there.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            match std::fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => Ok(()),
                _ => Err(Failure::permanent(format!(
                    "{} exists and is no directory",
                    path.display()
                ))),
            }
        }
        Err(e) => {
            let why = format!("cannot make {}: {e}", path.display());
            Err(match is_shortage(&e) {
                true => Failure::unavailable(why),
                false => Failure::permanent(why),
            })
        }
    }
}

/// Why a program did not start: for good, or because the host is short of something. It may be in
/// parts of PATH that are `out_of_reach`.
pub fn cannot_start(program: &str, error: &io::Error, out_of_reach: &[PathBuf]) -> Failure {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let text = format!("cannot start '{program}': {error}");
    match error.kind() {
        _ if is_shortage(error) => Failure::unavailable(text),
        NotFound | PermissionDenied => {
            let there = |directory: &&PathBuf| directory.join(program).is_file();
            match out_of_reach.iter().find(there) {
                Some(directory) => Failure::permanent(format!(
                    "cannot start '{program}': it is in {}, which the sandbox does not include; \
                     add that directory, and where its parts are, to the pool's paths.read",
                    directory.display()
                )),
                None => Failure::permanent(text),
            }
        }
        _ => Failure::permanent(text),
    }
}

/// Whether the host is short of something, or a file is not as it will be in a moment: that is no fault of the task's.
fn is_shortage(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ExecutableFileBusy, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, ResourceBusy,
        StaleNetworkFileHandle, StorageFull, WouldBlock,
    };
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::IO]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
        || matches!(
            error.kind(),
            ExecutableFileBusy
                | OutOfMemory
                | QuotaExceeded
                | ReadOnlyFilesystem
                | ResourceBusy
                | StaleNetworkFileHandle
                | StorageFull
                | WouldBlock
        )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use deia::wire::FailureKind;

    use super::*;

    #[test]
    fn only_listed_variables_pass_and_home_is_the_bots_own() {
        let host = |name: &str| match name {
            "LANG" | "SECRET" | "HOME" | "TMPDIR" => Some(OsString::from(format!("host-{name}"))),
            _ => None,
        };
        let ground = Ground {
            directory: "/w".into(),
            home: "/h".into(),
            temporary: "/t".into(),
            path: "/usr/bin".into(),
            out_of_reach: Vec::new(),
            cell: Cell::default(),
        };
        let listed = ["LANG", "ABSENT", "HOME", "TMPDIR"].map(String::from);
        let got = environment(&listed, host, &ground);
        let names: Vec<_> = got.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR"]);
        assert_eq!((&got["HOME"], &got["TMPDIR"]), (&"/h".into(), &"/t".into()));
        assert_eq!(got["LANG"], "host-LANG");
    }

    #[test]
    fn a_fresh_directory_is_private_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("work");
        let path = root.join("t");
        make_fresh(&path).unwrap();
        make_fresh(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        assert!(make_fresh(&root.join("link")).is_err());
    }

    #[test]
    fn a_program_out_of_reach_is_said_to_be_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent"), "").unwrap();
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let out_of_reach = [dir.path().to_owned()];
        let found = cannot_start("agent", &missing, &out_of_reach).error;
        assert!(found.contains("paths.read"), "{found}");
        let other = cannot_start("other", &missing, &out_of_reach).error;
        assert!(!other.contains("paths.read"), "{other}");
    }

    #[test]
    fn a_host_short_of_something_is_no_reason_to_give_up() {
        let kind = |code| cannot_start("x", &io::Error::from_raw_os_error(code), &[]).kind;
        assert_eq!(kind(2), FailureKind::Permanent);
        assert_eq!(kind(13), FailureKind::Permanent);
        for busy in [11, 12, 23, 24] {
            assert_eq!(kind(busy), FailureKind::Unavailable, "errno {busy}");
        }
    }

    /// Shown to fail where a directory that can't be made is for good: a full disk killed every task at its first try.
    #[test]
    fn what_the_host_is_short_of_for_a_moment_ends_no_task() {
        use rustix::io::Errno;
        for (code, kind) in [
            (Errno::NOSPC, FailureKind::Unavailable),
            (Errno::DQUOT, FailureKind::Unavailable),
            (Errno::IO, FailureKind::Unavailable),
            (Errno::ROFS, FailureKind::Unavailable),
            (Errno::STALE, FailureKind::Unavailable),
            (Errno::TXTBSY, FailureKind::Unavailable),
            (Errno::MFILE, FailureKind::Unavailable),
            (Errno::ACCESS, FailureKind::Permanent),
            (Errno::NOENT, FailureKind::Permanent),
            (Errno::NOEXEC, FailureKind::Permanent),
        ] {
            let error = io::Error::from_raw_os_error(code.raw_os_error());
            assert_eq!(cannot_start("x", &error, &[]).kind, kind, "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (make, path) in [(Make::Found, &file), (Make::Fresh, &file)] {
            assert_eq!(make.at(path).unwrap_err().kind, FailureKind::Permanent);
        }
    }
}
