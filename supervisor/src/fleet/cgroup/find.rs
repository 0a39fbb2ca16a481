//! Which cgroup is the daemon's to divide.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{DAEMON, PROCS, VARIABLE};

/// What `$DEIA_CGROUP` names.
pub(super) fn named(named: &OsStr) -> Result<PathBuf, String> {
    let path = PathBuf::from(named);
    if path.is_absolute() && path.join(PROCS).is_file() && path.join("cgroup.type").is_file() {
        return Ok(path);
    }
    Err(format!(
        "{VARIABLE} names {}, which is no cgroup v2 that can be divided",
        path.display()
    ))
}

/// The cgroup this process is in, or the one above where it is in the daemon's part of it already
/// (after a re-execution), if systemd has delegated it.
pub(super) fn delegated() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read(path).map_err(|e| format!("{path}: {e}"));
    let own = own_cgroup(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
        .ok_or("no cgroup v2 is mounted")?;
    let above = own
        .parent()
        .filter(|_| own.file_name() == Some(OsStr::new(DAEMON)));
    let candidates = [above, Some(own.as_path())];
    candidates
        .into_iter()
        .flatten()
        .find(|path| is_delegated(path))
        .map(Path::to_owned)
        .ok_or_else(|| {
            format!(
                "{} is not the daemon's to divide: run it by a systemd unit with Delegate=yes, or \
                 name a cgroup in {VARIABLE}",
                own.display()
            )
        })
}

/// What systemd says of a cgroup, since version 250.
fn is_delegated(path: &Path) -> bool {
    let mut value = [0u8; 8];
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let length = rustix::fs::getxattr(path, *name, &mut value);
        length.is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Where this process's cgroup (the line `0::` of `/proc/self/cgroup`) is in the file system.
fn own_cgroup(cgroups: &[u8], mounts: &[u8]) -> Option<PathBuf> {
    let mut lines = cgroups.split(|b| *b == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    let mounted = mounts.split(|b| *b == b'\n').find_map(cgroup2_mount)?;
    let (root, point) = mounted;
    let path = Path::new(OsStr::from_bytes(path));
    let below = path.strip_prefix(root).ok()?;
    Some(match below.as_os_str().is_empty() {
        true => point,
        false => point.join(below),
    })
}

/// proc_pid_mountinfo(5): `id parent dev root point options... - type source superoptions`.
fn cgroup2_mount(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let mut fields = line.split(|b| *b == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    (kind == b"cgroup2").then(|| (path(root), path(point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_below_its_mount() {
        let mounts = b"23 1 0:21 / /proc rw - proc proc rw\n\
            41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = |cgroups: &[u8], mounts: &[u8]| own_cgroup(cgroups, mounts);
        assert_eq!(
            own(b"0::/system.slice/deia.service\n", mounts),
            Some("/sys/fs/cgroup/system.slice/deia.service".into())
        );
        // Hybrid: the old controllers come first.
        let hybrid = b"8:pids:/x\n1:name=systemd:/y\n0::/\n";
        assert_eq!(own(hybrid, mounts), Some("/sys/fs/cgroup".into()));
        let part = b"41 31 0:38 /deia /mnt/c rw - cgroup2 c rw\n";
        assert_eq!(
            own(b"0::/deia/daemon\n", part),
            Some("/mnt/c/daemon".into())
        );
        assert_eq!(own(b"0::/other\n", part), None);
        assert_eq!(own(b"8:pids:/x\n", mounts), None);
        assert_eq!(own(b"0::/x\n", b""), None);
    }

    #[test]
    fn a_name_that_is_no_cgroup_is_refused() {
        let plain = tempfile::tempdir().unwrap();
        let refusal = named(plain.path().as_os_str()).unwrap_err();
        assert!(refusal.contains("no cgroup v2"), "{refusal}");
        assert!(named(OsStr::new("relative")).is_err());
    }
}
