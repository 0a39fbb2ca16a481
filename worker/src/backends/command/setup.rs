//! What a program finds when it starts: its directory and its environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use deia::config::Workdir;
use deia::task::TaskId;

use super::super::{Context, Failure};
use crate::secret_file::{self, Secret};

/// `PATH` where the pool does not list it: without one, nothing can be found.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The listed variables as this process has them, a `PATH` and a `HOME`; nothing else.
pub fn environment(
    listed: &[String],
    lookup: impl Fn(&str) -> Option<OsString>,
    directory: &Path,
) -> BTreeMap<String, OsString> {
    let mut variables: BTreeMap<String, OsString> = listed
        .iter()
        .filter_map(|name| Some((name.clone(), lookup(name)?)))
        .collect();
    variables
        .entry("PATH".into())
        .or_insert_with(|| DEFAULT_PATH.into());
    variables
        .entry("HOME".into())
        .or_insert_with(|| directory.into());
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

/// The working directory: made when it is to be fresh, else only looked at.
pub async fn directory(context: &Context, task: &TaskId) -> Result<PathBuf, Failure> {
    let (path, make) = match &context.workdir {
        Workdir::Fresh => (context.work_root.join(task.as_str()), true),
        Workdir::Path(path) => (path.clone(), false),
    };
    let work_root = context.work_root.clone();
    let made = tokio::task::spawn_blocking(move || {
        if make {
            make_fresh(&work_root, &path).map(|()| path)
        } else if path.is_dir() {
            Ok(path)
        } else {
            Err(format!(
                "workdir {} is no directory: create it",
                path.display()
            ))
        }
    });
    match made.await {
        Ok(made) => made.map_err(Failure::permanent),
        Err(e) => Err(Failure::backend(format!("the working directory: {e}"))),
    }
}

/// One that exists is an earlier attempt's and is kept: what that attempt wrote may be wanted.
fn make_fresh(work_root: &Path, path: &Path) -> Result<(), String> {
    let private = |path: &Path| std::fs::DirBuilder::new().mode(0o700).create(path);
    let mut made = private(path);
    if matches!(&made, Err(e) if e.kind() == io::ErrorKind::NotFound) {
        let parent = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(work_root);
        made = parent.and_then(|()| private(path));
    }
    match made {
        Ok(()) => Ok(()),
        // Not through a link, which another task of this user could have left there.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            match std::fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => Ok(()),
                _ => Err(format!("{} exists and is no directory", path.display())),
            }
        }
        Err(e) => Err(format!("cannot make {}: {e}", path.display())),
    }
}

/// Why a program did not start: for good, or because the host is short of something.
pub fn cannot_start(program: &str, error: &io::Error) -> Failure {
    use io::ErrorKind::{OutOfMemory, ResourceBusy, WouldBlock};
    let text = format!("cannot start '{program}': {error}");
    match error.kind() {
        WouldBlock | OutOfMemory | ResourceBusy => Failure::unavailable(text),
        _ if too_many_files(error) => Failure::unavailable(text),
        _ => Failure::permanent(text),
    }
}

fn too_many_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use deia::wire::FailureKind;

    use super::*;

    #[test]
    fn only_listed_variables_pass() {
        let host = |name: &str| match name {
            "LANG" | "SECRET" | "HOME" => Some(OsString::from(format!("host-{name}"))),
            _ => None,
        };
        let got = environment(&["LANG".into(), "ABSENT".into()], host, Path::new("/w"));
        let names: Vec<_> = got.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "LANG", "PATH"]);
        assert_eq!(got["HOME"], "/w");
        assert_eq!(got["PATH"], DEFAULT_PATH);
        let got = environment(&["HOME".into()], host, Path::new("/w"));
        assert_eq!(got["HOME"], "host-HOME");
    }

    #[test]
    fn a_fresh_directory_is_private_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("work");
        let path = root.join("t");
        make_fresh(&root, &path).unwrap();
        make_fresh(&root, &path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        assert!(make_fresh(&root, &root.join("link")).is_err());
    }

    #[test]
    fn a_host_short_of_something_is_no_reason_to_give_up() {
        let kind = |code| cannot_start("x", &io::Error::from_raw_os_error(code)).kind;
        assert_eq!(kind(2), FailureKind::Permanent);
        assert_eq!(kind(13), FailureKind::Permanent);
        for busy in [11, 12, 23, 24] {
            assert_eq!(kind(busy), FailureKind::Unavailable, "errno {busy}");
        }
    }
}
