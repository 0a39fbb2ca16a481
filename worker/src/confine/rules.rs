//! Which paths the sandbox allows: the published lists of docs/SANDBOX.md, what the pool adds, and
//! what stays closed whatever is added.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use deia::config::{BackendSpec, Workdir};
use deia::wire::Welcome;

use super::grants::{Access, Grant, without, without_repetition};

/// Programs, libraries, and what the kernel tells: read and executed.
pub const READ: [&str; 23] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
    "/snap",
    "/home/linuxbrew/.linuxbrew",
    "/var/lib/ca-certificates",
    // Where `/etc/resolv.conf` and the like lead to.
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager/resolv.conf",
    "/etc/resolv.conf",
    "/etc/localtime",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Read as well, but for what only its owner may read and for the daemon's own directory in it.
pub const ETC: &str = "/etc";

/// Devices that are nobody's.
pub const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Closed within `/etc`, whoever owns it: where a package keeps the daemon's configuration and
/// secrets.
const ETC_DEIA: &str = "/etc/deia";

/// How deep `/etc` is looked through for what only its owner may read.
const MAX_DEPTH: usize = 8;

/// The rules of one bot, as far as they are the same for every attempt.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Allowed to the bot itself and to what it starts.
    common: Vec<Grant>,
    /// Allowed to the bot itself only.
    own: Vec<Grant>,
    /// Closed to what it starts.
    closed: Vec<PathBuf>,
    /// What the pool names and is not allowed, and why.
    pub remarks: Vec<String>,
}

impl Rules {
    /// The rules of a bot that was welcomed like this. Reads directories.
    pub fn of(welcome: &Welcome) -> Self {
        let places = &welcome.places;
        // Also what is not there yet: a secret that comes later is as closed.
        let closed: Vec<PathBuf> = places.closed.iter().map(|path| eventual(path)).collect();
        let mut never = real([places.daemon_home.as_path(), Path::new(ETC_DEIA)]);
        never.extend(closed.iter().cloned());
        let mut rules = Self {
            closed: never,
            ..Self::default()
        };
        for tree in real(READ.map(Path::new)) {
            rules
                .common
                .extend(without(&tree, Access::Read, &rules.closed));
        }
        for device in real(DEVICES.map(Path::new)) {
            rules.common.push(grant(device, Access::Device));
        }
        for program in real(named_files(welcome)) {
            rules.common.push(grant(program, Access::Read));
        }
        let from = &places.daemon_home;
        for (key, paths, access) in [
            ("read", &welcome.paths.read, Access::Read),
            ("write", &welcome.paths.write, Access::Write),
        ] {
            for path in paths {
                rules.add(key, &from.join(path), access, &closed);
            }
        }
        if let Workdir::Path(path) = &welcome.workdir {
            rules.add("workdir", path, Access::Write, &closed);
        }
        rules.common = without_repetition(rules.common);
        rules.own = own(welcome);
        rules
    }

    /// With the socket at which the daemon hears what the bot starts: its directory, for there is another
    /// socket after a restart of the daemon.
    pub fn with_socket(mut self, socket: &Path) -> Self {
        let directory = real(socket.parent());
        let grants = directory.into_iter().map(|path| grant(path, Access::Dial));
        self.common.extend(grants);
        self
    }

    /// What the bot itself may.
    ///
    /// All of `/etc`: a rule is of a file, not of its name, and a list of `/etc/resolv.conf` and others
    /// would not hold for the files that replace them while the bot runs.
    pub fn of_the_bot(&self) -> Vec<Grant> {
        let mut grants = self.common.clone();
        grants.extend(self.own.iter().cloned());
        grants.push(grant(ETC.into(), Access::Read));
        grants
    }

    /// What a command may, but for `/etc` and its own directories.
    pub fn of_a_command(&self) -> impl Iterator<Item = &Grant> {
        self.common.iter()
    }

    /// The part of `PATH` in which programs may be started, and the rest.
    pub fn path(&self, path: &OsStr) -> (OsString, Vec<PathBuf>) {
        let (kept, dropped): (Vec<_>, Vec<_>) =
            std::env::split_paths(path).partition(|directory| self.reads(directory));
        // Parts of a list that was one.
        (std::env::join_paths(kept).unwrap_or_default(), dropped)
    }

    /// Whether a file there may be read.
    pub fn reads(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else {
            return false;
        };
        let mut grants = self.common.iter();
        grants.any(|grant| grant.access >= Access::Read && path.starts_with(&grant.path))
    }

    fn add(&mut self, key: &str, path: &Path, access: Access, closed: &[PathBuf]) {
        let shown = path.display();
        let key = if key == "workdir" {
            key.to_owned()
        } else {
            format!("paths.{key}")
        };
        let Ok(tree) = path.canonicalize() else {
            self.remarks.push(format!(
                "{key} {shown} is not there: restart the bot when it is"
            ));
            return;
        };
        let grants = without(&tree, access, closed);
        match grants.as_slice() {
            [] => self
                .remarks
                .push(format!("{key} {shown} stays closed: it is the daemon's own")),
            [whole] if whole.access == access => {}
            _ => self.remarks.push(format!(
                "{key} {shown} has files of the daemon's in it: only what else is in it now is allowed"
            )),
        }
        self.common.extend(grants);
    }
}

/// `/etc`, as a command may read it: the grants, and the state of the directories they come from.
#[derive(Debug, Default)]
pub struct Etc {
    grants: Vec<Grant>,
    seen: BTreeMap<PathBuf, Option<SystemTime>>,
}

impl Etc {
    /// Looks whether something was added or removed there, and at all of it then; returns whether it
    /// was. Root could read what is only its owner's: as root, such files are left out.
    pub fn look(&mut self, rules: &Rules, root: bool) -> bool {
        let changed = |(path, at): (&PathBuf, &Option<SystemTime>)| modified(path) != *at;
        if !self.seen.is_empty() && !self.seen.iter().any(changed) {
            return false;
        }
        let mut closed = rules.closed.clone();
        self.seen.clear();
        let etc = PathBuf::from(ETC);
        self.seen.insert(etc.clone(), modified(&etc));
        if root {
            private(&etc, 0, &mut closed, &mut self.seen);
        }
        self.grants = without(&etc, Access::Read, &closed);
        true
    }

    /// What it came to.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// What only its owner or a group may read.
fn private(
    directory: &Path,
    depth: usize,
    closed: &mut Vec<PathBuf>,
    seen: &mut BTreeMap<PathBuf, Option<SystemTime>>,
) {
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        let path = entry.path();
        let readable = if meta.is_dir() { 0o005 } else { 0o004 };
        if meta.is_symlink() {
        } else if meta.mode() & readable != readable || depth >= MAX_DEPTH {
            closed.push(path);
        } else if meta.is_dir() {
            seen.insert(path.clone(), modified(&path));
            private(&path, depth + 1, closed, seen);
        }
    }
}

/// The bot's own files and directories, which what it starts has nothing to do with.
fn own(welcome: &Welcome) -> Vec<Grant> {
    let places = &welcome.places;
    let backends = std::iter::once(&welcome.backend).chain(&welcome.fallback);
    let keys = backends.filter_map(|backend| match backend {
        BackendSpec::Ollama(server) | BackendSpec::Openai(server) => server.api_key_file.as_deref(),
        BackendSpec::Command(_) | BackendSpec::Echo(_) => None,
    });
    let secrets = real(keys.chain(welcome.env_files.values().map(PathBuf::as_path)));
    let mut grants: Vec<Grant> = secrets
        .into_iter()
        .map(|path| grant(path, Access::Read))
        .collect();
    let mut written = vec![places.spool.as_path(), places.own.as_path()];
    if welcome.workdir == Workdir::Fresh {
        written.push(&welcome.work_root);
    }
    grants.extend(
        real(written)
            .into_iter()
            .map(|path| grant(path, Access::Write)),
    );
    grants
}

/// Files that the operator named as program or argument, by their whole path.
fn named_files(welcome: &Welcome) -> impl Iterator<Item = &Path> {
    let backends = std::iter::once(&welcome.backend).chain(&welcome.fallback);
    let arguments = backends.flat_map(|backend| match backend {
        BackendSpec::Command(command) => command.argv.as_slice(),
        BackendSpec::Ollama(_) | BackendSpec::Openai(_) | BackendSpec::Echo(_) => &[],
    });
    arguments
        .map(Path::new)
        .filter(|path| path.is_absolute() && path.is_file())
}

/// Those that are there, without links.
fn real<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let paths = paths.into_iter();
    paths.filter_map(|path| path.canonicalize().ok()).collect()
}

/// Where a path leads, or will once it is there, without links.
fn eventual(path: &Path) -> PathBuf {
    path.canonicalize()
        .unwrap_or_else(|_| match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => eventual(parent).join(name),
            _ => path.to_owned(),
        })
}

fn grant(path: PathBuf, access: Access) -> Grant {
    Grant { path, access }
}
