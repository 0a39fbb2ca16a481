//! Removes directories, also those whose maker took write permission off them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a directory with all that is in it. Where permissions are in the way (package caches are
/// read-only, for one), its directories are opened to their owner first. No link is followed. Blocks.
///
/// # Errors
/// The first thing that could not be removed.
pub fn remove_all(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open(directory)?;
            fs::remove_dir_all(directory)
        }
        other => other,
    }
}

fn open(directory: &Path) -> io::Result<()> {
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        fs::set_permissions(&next, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_only_goes_and_what_a_link_leads_to_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::set_permissions(outside.path(), Permissions::from_mode(0o555)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let full = dir.path().join("full");
        fs::create_dir_all(full.join("cache/module")).unwrap();
        fs::write(full.join("cache/module/source"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), full.join("cache/out")).unwrap();
        for closed in ["cache/module", "cache"] {
            fs::set_permissions(full.join(closed), Permissions::from_mode(0o555)).unwrap();
        }
        // The superuser is stopped by no permission; whoever tests as somebody else sees the difference.
        open(&full).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&full.join("cache/module")), 0o700);
        remove_all(&full).unwrap();
        assert!(!full.exists());
        assert_eq!(mode(outside.path()), 0o555);
    }
}
