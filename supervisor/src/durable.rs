//! What must still be so after a power cut: small files, the old one or the new one and whole; removals;
//! names. A name is on disk when its *directory* was synced, whatever was synced of the file itself
//! (fsync(2)).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

/// Writes a file (0600) aside, syncs it, renames it into place and syncs its directory.
///
/// # Errors
/// Those of the file system; the old file is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    deia::failpoint!("durable.written", path);
    file.sync_all()?;
    deia::failpoint!("durable.synced", path);
    fs::rename(&temporary, path)?;
    deia::failpoint!("durable.renamed", path);
    sync_directory_of(path)?;
    deia::failpoint!("durable.directory_synced", path);
    Ok(())
}

/// Removes a file and syncs its directory; one that is not there is as good.
///
/// # Errors
/// Those of the file system: then it may be there again after a power cut.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        // Also where it had gone already: by one who was killed before this.
        _ => sync_directory_of(path),
    }
}

/// Syncs the directory that something is in: its name there is on disk.
///
/// # Errors
/// Those of the file system.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match File::open(directory)?.sync_all() {
        // Some file systems have no such thing.
        Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.json");
        write(&path, b"a long first text").unwrap();
        write(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write(&directory.path().join("missing/x"), b"").is_err());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
