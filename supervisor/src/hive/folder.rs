//! Files in folders that others write to: listed, read, moved. Blocks.
//!
//! Everything goes through the descriptor of the folder it is in, so that a folder that is replaced
//! meanwhile leads nowhere else. No link is followed below `tasks/`, and only what is a regular file is
//! opened: not a FIFO, on which opening would wait, and not a device.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fstat, linkat, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::due::Stamp;
use super::name;
use crate::durable;

/// Names that are tried before giving up.
const MAX_TRIES: u32 = 10_000;

/// What follows a file's name in the name of the reason why it is no task.
const REASON: &str = ".reason.txt";

/// How a file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file that can be read.
    Regular,
    /// Something else of that name.
    Other,
}

/// What came of reading a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its bytes, all of the moment at which it was as listed.
    Bytes(Vec<u8>),
    /// It is not as it was listed: it will be listed again.
    Changed,
    /// It has so many bytes, which is too many.
    TooLarge(u64),
}

/// Makes a folder (0750), if it is missing. On disk: whoever puts a file there syncs that folder and no other.
///
/// # Errors
/// Those of the file system.
pub fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        Ok(()) => durable::sync_directory_of(path),
    }
}

/// Opens a folder that is ours: a link to one elsewhere is its owner's wish.
///
/// # Errors
/// Those of the file system.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Opens a folder in another, if it is one and no link.
///
/// # Errors
/// Those of the file system.
pub fn open_in(folder: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// The names in a folder that are wanted, at most `most`; whether there are more. Names that are not UTF-8
/// are nobody's.
///
/// # Errors
/// Those of the file system.
pub fn names(
    folder: &OwnedFd,
    most: usize,
    wanted: impl Fn(&str) -> bool,
) -> io::Result<(Vec<String>, bool)> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if !wanted(name) {
            continue;
        }
        if found.len() >= most {
            return Ok((found, true));
        }
        found.push(name.to_owned());
    }
    Ok((found, false))
}

/// What a name in a folder stands for; `None` when it has gone.
///
/// # Errors
/// Those of the file system.
pub fn look(folder: &OwnedFd, name: &str) -> io::Result<Option<(Stamp, Kind)>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some((stamp(&stat), kind(&stat)))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Reads a file that was listed so.
///
/// # Errors
/// Those of the file system.
pub fn read(folder: &OwnedFd, name: &str, listed: Stamp, most: u64) -> io::Result<Reading> {
    // Should it be a FIFO by now, opening does not wait for a writer.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(Reading::Changed),
        Err(e) => return Err(e.into()),
    };
    let is_as_listed = |file: &File| -> io::Result<bool> {
        let stat = fstat(file)?;
        Ok(stamp(&stat) == listed && kind(&stat) == Kind::Regular)
    };
    if !is_as_listed(&file)? {
        return Ok(Reading::Changed);
    }
    if listed.size > most {
        return Ok(Reading::TooLarge(listed.size));
    }
    let mut bytes = Vec::new();
    (&mut file).take(most + 1).read_to_end(&mut bytes)?;
    if !is_as_listed(&file)? || bytes.len() as u64 != listed.size {
        return Ok(Reading::Changed);
    }
    Ok(Reading::Bytes(bytes))
}

/// Moves a file into another folder, beside a text that says why. Nothing there is replaced but the reason of a
/// file that is not there: of a daemon that was killed before it moved it, or of one that was moved back. Returns
/// the name it has there; `None` when it has gone.
///
/// # Errors
/// Those of the file system; it is then where it was.
pub fn set_aside(
    from: &OwnedFd,
    name: &str,
    listed: Stamp,
    to: &Path,
    why: &str,
) -> io::Result<Option<String>> {
    if look(from, name)?.is_none_or(|(stamp, _)| stamp != listed) {
        return Ok(None);
    }
    let to = open(to)?;
    // Its own name may have anything in it that a file's name can; here it has not.
    let stem = name::safe(name.strip_suffix(".md").unwrap_or(name), 200);
    for n in 1..MAX_TRIES {
        let new = name::nth(&stem, n);
        let reason = format!("{new}{REASON}");
        if !is_there(&to, &new) {
            // One that stays is in the way, and the next name is tried.
            let _ = unlinkat(&to, &reason, AtFlags::empty());
        }
        // First the reason: a file without one would be a riddle.
        match create_new(&to, &reason, why.as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            written => written?,
        }
        deia::failpoint!("hive.rejected.explained");
        let moved = rename(from, name, &to, &new);
        if moved.is_err() {
            // Only what was written just now.
            let _ = unlinkat(&to, &reason, AtFlags::empty());
        }
        match moved {
            Ok(()) => {
                deia::failpoint!("hive.rejected.moved");
                return Ok(Some(new));
            }
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    Err(too_many(&stem))
}

/// Writes a file that is there whole or not at all, under the first name of `stem.md`, `stem-2.md`, ...
/// that nothing has yet; or leaves it at one that says the very same. Returns its name.
///
/// # Errors
/// Those of the file system.
pub fn publish(folder: &Path, stem: &str, unique: &str, text: &[u8]) -> io::Result<String> {
    let folder = open(folder)?;
    let temporary = format!(".{unique}.tmp");
    // Of a daemon that was killed while it wrote this very file.
    let _ = unlinkat(&folder, &temporary, AtFlags::empty());
    create_new(&folder, &temporary, text)?;
    deia::failpoint!("hive.answer.written");
    let published = first_free(&folder, stem, &temporary, text);
    // Where it was published it has gone already.
    let _ = unlinkat(&folder, &temporary, AtFlags::empty());
    let name = published?;
    deia::failpoint!("hive.answer.renamed");
    File::from(folder).sync_all()?;
    deia::failpoint!("hive.answer.synced");
    Ok(name)
}

fn first_free(folder: &OwnedFd, stem: &str, temporary: &str, text: &[u8]) -> io::Result<String> {
    for n in 1..MAX_TRIES {
        let name = name::nth(stem, n);
        match rename(folder, temporary, folder, &name) {
            Ok(()) => return Ok(name),
            // By a daemon that was killed before it could note it.
            Err(Errno::EXIST) if says(folder, &name, text) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(too_many(stem))
}

/// Whether the file has exactly this content.
fn says(folder: &OwnedFd, name: &str, text: &[u8]) -> bool {
    let Ok(Some((stamp, Kind::Regular))) = look(folder, name) else {
        return false;
    };
    let most = text.len() as u64;
    matches!(read(folder, name, stamp, most), Ok(Reading::Bytes(bytes)) if bytes == text)
}

/// Renames without replacing.
fn rename(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // The file system does not know how; links do not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            linkat(from, name, to, new, AtFlags::empty())?;
            unlinkat(from, name, AtFlags::empty())
        }
        renamed => renamed,
    }
}

/// Writes a new file (0640) and syncs it. One that could not be written is removed.
fn create_new(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    let mut file = File::from(openat(folder, name, flags, mode)?);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = unlinkat(folder, name, AtFlags::empty());
    }
    written
}

fn too_many(stem: &str) -> io::Error {
    io::Error::other(format!("{MAX_TRIES} files of the name {stem} are there"))
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        _ => Kind::Other,
    }
}

fn stamp(stat: &Stat) -> Stamp {
    let nanos = |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stamp {
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: nanos(stat.st_mtime, stat.st_mtime_nsec),
        changed: nanos(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Whether there is something of this name.
pub fn is_there(folder: impl AsFd, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn listed(folder: &OwnedFd, name: &str) -> Stamp {
        look(folder, name).unwrap().unwrap().0
    }

    #[test]
    fn only_what_is_as_it_was_listed_is_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = open(home.path()).unwrap();
        let path = home.path().join("a.md");
        fs::write(&path, "text").unwrap();
        let before = listed(&folder, "a.md");
        let bytes = read(&folder, "a.md", before, 4).unwrap();
        assert_eq!(bytes, Reading::Bytes(b"text".to_vec()));
        assert_eq!(
            read(&folder, "a.md", before, 3).unwrap(),
            Reading::TooLarge(4)
        );
        fs::write(&path, "longer").unwrap();
        assert_eq!(read(&folder, "a.md", before, 99).unwrap(), Reading::Changed);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&folder, "a.md", before, 99).unwrap(), Reading::Changed);
    }

    #[test]
    fn links_and_fifos_are_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let folder = open(home.path()).unwrap();
        fs::write(home.path().join("outside"), "secret").unwrap();
        symlink("outside", home.path().join("link.md")).unwrap();
        nix::unistd::mkfifo(
            &home.path().join("fifo.md"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        for name in ["link.md", "fifo.md"] {
            let (stamp, kind) = look(&folder, name).unwrap().unwrap();
            assert_eq!(kind, Kind::Other);
            // Also where it takes a file's place after the look.
            assert_eq!(read(&folder, name, stamp, 99).unwrap(), Reading::Changed);
        }
        fs::create_dir(home.path().join("real")).unwrap();
        symlink("real", home.path().join("linked")).unwrap();
        assert!(open_in(&folder, "real").is_ok());
        assert!(open_in(&folder, "linked").is_err());
    }

    #[test]
    fn what_is_set_aside_replaces_nothing_and_has_its_reason() {
        let home = tempfile::tempdir().unwrap();
        let aside = home.path().join("aside");
        fs::create_dir(&aside).unwrap();
        let folder = open(home.path()).unwrap();
        for n in 1..=3 {
            fs::write(home.path().join("a b.md"), n.to_string()).unwrap();
            let stamp = listed(&folder, "a b.md");
            let name = set_aside(&folder, "a b.md", stamp, &aside, &format!("why {n}")).unwrap();
            let name = name.unwrap();
            assert_eq!(name, name::nth("a_b", n));
            assert_eq!(
                fs::read_to_string(aside.join(&name)).unwrap(),
                n.to_string()
            );
            let reason = fs::read_to_string(aside.join(format!("{name}.reason.txt")));
            assert_eq!(reason.unwrap(), format!("why {n}"));
        }
        // The reason of a file that is not there is in nobody's way.
        fs::write(aside.join("c.md.reason.txt"), "half a rea").unwrap();
        fs::write(home.path().join("c.md"), "c").unwrap();
        let stamp = listed(&folder, "c.md");
        let name = set_aside(&folder, "c.md", stamp, &aside, "why").unwrap();
        assert_eq!(name.unwrap(), "c.md");
        let reason = fs::read_to_string(aside.join("c.md.reason.txt"));
        assert_eq!(reason.unwrap(), "why");
        // One that has changed since it was judged stays.
        fs::write(home.path().join("b.md"), "new").unwrap();
        let old = Stamp {
            size: 1,
            ..listed(&folder, "b.md")
        };
        assert_eq!(
            set_aside(&folder, "b.md", old, &aside, "why").unwrap(),
            None
        );
        assert!(home.path().join("b.md").exists());
    }

    #[test]
    fn what_is_published_replaces_nothing_and_is_there_once() {
        let home = tempfile::tempdir().unwrap();
        let at = |name| fs::read_to_string(home.path().join(name)).unwrap();
        fs::write(home.path().join("r.md"), "a stranger's").unwrap();
        fs::write(home.path().join(".one.tmp"), "half").unwrap();
        let publish = |text: &str| publish(home.path(), "r", "one", text.as_bytes()).unwrap();
        assert_eq!(publish("first"), "r-2.md");
        assert_eq!(publish("second"), "r-3.md");
        assert_eq!(publish("first"), "r-2.md");
        assert_eq!(
            (at("r.md"), at("r-2.md"), at("r-3.md")),
            ("a stranger's".into(), "first".into(), "second".into())
        );
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }
}
