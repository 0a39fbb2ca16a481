//! What a rule of the sandbox allows, and how a tree is allowed without a part of it.
//!
//! Landlock only adds: what a rule allows, no other takes away. A directory in which something stays
//! closed is therefore allowed entry by entry, as far down as something is closed in it.

use std::path::{Path, PathBuf};

/// Entries of a directory that are allowed one by one; there may be more in it, which stay closed.
const MAX_ENTRIES: usize = 4096;

/// Grants of which each is compared with each.
const MAX_COMPARED: usize = 512;

/// How far a path, and what is below it, is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Names of files.
    List,
    /// And what is in them; programs may be started.
    Read,
    /// Sockets in a directory, to be dialled: where Landlock keeps sockets by path at all.
    Dial,
    /// A device, read and written.
    Device,
    /// Everything.
    Write,
}

/// A path that is allowed. The path has no links in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// A file, or a directory with all below it.
    pub path: PathBuf,
    /// How far.
    pub access: Access,
}

/// Allows `tree` without what is `closed`; neither has links in it. Nothing where `tree` itself is
/// within something closed.
pub fn without(tree: &Path, access: Access, closed: &[PathBuf]) -> Vec<Grant> {
    let mut grants = Vec::new();
    add(tree, access, closed, &mut grants);
    grants
}

fn add(tree: &Path, access: Access, closed: &[PathBuf], grants: &mut Vec<Grant>) {
    if closed.iter().any(|closed| tree.starts_with(closed)) {
        return;
    }
    let mut grant = |access| {
        grants.push(Grant {
            path: tree.to_owned(),
            access,
        });
    };
    if !closed.iter().any(|closed| closed.starts_with(tree)) {
        return grant(access);
    }
    grant(Access::List);
    let entries = tree.read_dir().into_iter().flatten().flatten();
    for entry in entries.take(MAX_ENTRIES) {
        // A link is judged by what it leads to, which has a rule of its own or has not.
        if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
            add(&entry.path(), access, closed, grants);
        }
    }
}

/// Leaves out what another grant allows already. A long list is left as it is: repetition does no
/// harm.
pub fn without_repetition(grants: Vec<Grant>) -> Vec<Grant> {
    if grants.len() > MAX_COMPARED {
        return grants;
    }
    let covered = |n: usize, grant: &Grant| {
        grants.iter().enumerate().any(|(m, other)| {
            let same = other == grant;
            let comparable = |access| !matches!(access, Access::Device | Access::Dial);
            other.access >= grant.access
                && comparable(grant.access)
                && comparable(other.access)
                && grant.path.starts_with(&other.path)
                && (!same || m < n)
        })
    };
    let kept: Vec<bool> = grants
        .iter()
        .enumerate()
        .map(|(n, grant)| !covered(n, grant))
        .collect();
    let mut kept = kept.into_iter();
    let mut grants = grants;
    grants.retain(|_| kept.next().unwrap_or(true));
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(root: &Path, grants: &[Grant]) -> Vec<String> {
        let mut shown: Vec<String> = grants
            .iter()
            .map(|grant| {
                let path = grant.path.strip_prefix(root).unwrap().display();
                format!("{path} {:?}", grant.access)
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_tree_is_allowed_around_what_stays_closed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for directory in ["etc/deia", "etc/ssl/private", "etc/ssl/certs", "usr"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["etc/hosts", "etc/shadow", "etc/deia/key", "etc/ssl/conf"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("etc/shadow"), root.join("etc/link")).unwrap();
        let closed = ["etc/deia", "etc/shadow", "etc/ssl/private"].map(|path| root.join(path));
        let grants = without(&root.join("etc"), Access::Read, &closed);
        assert_eq!(
            shown(&root, &grants),
            [
                "etc List",
                "etc/hosts Read",
                "etc/ssl List",
                "etc/ssl/certs Read",
                "etc/ssl/conf Read",
            ]
        );
        let whole = without(&root.join("usr"), Access::Read, &closed);
        assert_eq!(shown(&root, &whole), ["usr Read"]);
        let inside = without(&root.join("etc/deia/key"), Access::Write, &closed);
        assert_eq!(inside, []);
        // Names that only begin alike are others.
        let alike = without(&root.join("etc"), Access::Read, &[root.join("et")]);
        assert_eq!(shown(&root, &alike), ["etc Read"]);
    }

    #[test]
    fn what_is_allowed_already_is_not_allowed_again() {
        let grant = |path: &str, access| Grant {
            path: path.into(),
            access,
        };
        let grants = vec![
            grant("/usr", Access::Read),
            grant("/usr/bin", Access::Read),
            grant("/usr", Access::Read),
            grant("/usr/share", Access::Write),
            grant("/etc", Access::List),
            grant("/etc/hosts", Access::Read),
            grant("/dev/null", Access::Device),
        ];
        let kept: Vec<String> = without_repetition(grants)
            .iter()
            .map(|grant| format!("{} {:?}", grant.path.display(), grant.access))
            .collect();
        assert_eq!(
            kept,
            [
                "/usr Read",
                "/usr/share Write",
                "/etc List",
                "/etc/hosts Read",
                "/dev/null Device"
            ]
        );
    }
}
