//! Reads archives that anybody may have made.
//!
//! Nothing in an archive decides where anything is written: the first member is the manifest, and each
//! that follows must be the very next one it names, a plain file of exactly that size. No links, no
//! devices, no directories, no extended headers, no sparse files, nothing twice, nothing behind the end.
//! All that is inflated is bounded by what the manifest says, that by the caller, and memory by a buffer.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::hex;
use super::manifest::{MANIFEST, MAX_MANIFEST_BYTES, Manifest, Member};

const BLOCK: u64 = 512;
const BUFFER_BYTES: usize = 64 << 10;
/// Zeros that may follow the end: archivers fill up to records of their own size.
const MAX_TAIL_BYTES: u64 = 1 << 20;

/// Why an archive is no backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not what a backup is.
    #[error("{0}")]
    Bad(String),
}

impl ReadError {
    fn bad(what: impl Into<String>) -> Self {
        Self::Bad(what.into())
    }
}

/// Where a member's bytes go.
pub trait Target: Write {
    /// All of them were written.
    ///
    /// # Errors
    /// They are not on disk.
    fn done(self: Box<Self>) -> io::Result<()>;
}

impl Target for io::Sink {
    fn done(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// What an archive is read for.
pub trait Visitor {
    /// Its manifest was read; nothing else yet. An error ends it.
    ///
    /// # Errors
    /// Why it is not wanted.
    fn begin(&mut self, manifest: &Manifest) -> Result<(), String>;

    /// Where this member goes.
    ///
    /// # Errors
    /// Why it can't go there.
    fn member(&mut self, member: &Member) -> io::Result<Box<dyn Target>>;

    /// So many bytes more have been read.
    fn progress(&mut self, bytes: u64);
}

/// Opens an archive: a regular file, not by way of a link.
///
/// # Errors
/// What else it is.
pub fn open(path: &Path) -> Result<File, ReadError> {
    let file = OpenOptions::new()
        .read(true)
        // A pipe must not be waited for.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(ReadError::bad("it is no regular file"))
    }
}

/// The manifest alone.
///
/// # Errors
/// It can't be read.
pub fn manifest(file: &File) -> Result<Manifest, ReadError> {
    let (source, _) = Bounded::new(GzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file)));
    let mut archive = Archive::new(source);
    let mut entries = archive.entries()?.raw(true);
    first(entries.next())
}

/// Reads all of it, checks every byte, and gives the members to `visitor`.
///
/// # Errors
/// The first thing that is wrong. What the visitor was given by then is of no use.
pub fn walk(file: impl Read, visitor: &mut dyn Visitor) -> Result<Manifest, ReadError> {
    let decoder = GzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file));
    let (source, left) = Bounded::new(decoder);
    let mut archive = Archive::new(source);
    let manifest = {
        let mut entries = archive.entries()?.raw(true);
        let manifest = first(entries.next())?;
        visitor.begin(&manifest).map_err(ReadError::Bad)?;
        let blocks = |member: &Member| {
            member
                .size
                .div_ceil(BLOCK)
                .saturating_mul(BLOCK)
                .saturating_add(BLOCK)
        };
        let more = manifest.members.iter().map(blocks);
        left.set(more.fold(left.get() + MAX_TAIL_BYTES, u64::saturating_add));
        for member in &manifest.members {
            let entry = entries
                .next()
                .ok_or_else(|| ReadError::bad(format!("{} is missing", member.path)))?;
            let entry = plain(entry?, &member.path, member.size)?;
            copy(entry, member, visitor)?;
        }
        if let Some(entry) = entries.next() {
            let name = shown(&entry?);
            return Err(ReadError::bad(format!("{name} is not in its manifest")));
        }
        manifest
    };
    nothing_follows(archive.into_inner())?;
    Ok(manifest)
}

/// The first member, which is the manifest.
fn first<R: Read>(entry: Option<io::Result<Entry<'_, R>>>) -> Result<Manifest, ReadError> {
    let entry = entry.ok_or_else(|| ReadError::bad("it is empty"))??;
    let size = entry.header().entry_size()?;
    if size > MAX_MANIFEST_BYTES {
        return Err(ReadError::bad(format!("{MANIFEST} is too large")));
    }
    let mut entry = plain(entry, MANIFEST, size)?;
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    if text.len() as u64 != size {
        return Err(ReadError::bad(format!("{MANIFEST} is cut short")));
    }
    Manifest::parse(&text).map_err(ReadError::Bad)
}

/// The entry, if it is a plain file of this name and size.
fn plain<'a, R: Read>(
    entry: Entry<'a, R>,
    path: &str,
    size: u64,
) -> Result<Entry<'a, R>, ReadError> {
    let header = entry.header();
    if header.path_bytes().as_ref() != path.as_bytes() {
        let name = shown(&entry);
        return Err(ReadError::bad(format!("{name} where {path} should be")));
    }
    let kind = header.entry_type();
    if kind != EntryType::Regular || header.link_name_bytes().is_some() {
        return Err(ReadError::bad(format!("{path} is no plain file: {kind:?}")));
    }
    let found = header.entry_size()?;
    if found != size {
        return Err(ReadError::bad(format!(
            "{path} has {found} bytes, its manifest says {size}"
        )));
    }
    Ok(entry)
}

/// An entry's name, for people: a bounded part of it.
fn shown<R: Read>(entry: &Entry<'_, R>) -> String {
    let path = entry.header().path_bytes();
    let text = String::from_utf8_lossy(&path);
    format!("{:?}", text.chars().take(100).collect::<String>())
}

fn copy<R: Read>(
    mut entry: Entry<'_, R>,
    member: &Member,
    visitor: &mut dyn Visitor,
) -> Result<(), ReadError> {
    let mut target = visitor.member(member)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let read = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        let part = buffer.get(..read).unwrap_or_default();
        sum.update(part);
        target.write_all(part)?;
        bytes += read as u64;
        visitor.progress(read as u64);
    }
    if bytes != member.size {
        return Err(ReadError::bad(format!("{} is cut short", member.path)));
    }
    if hex(&sum.finalize()) != member.sha256 {
        return Err(ReadError::bad(format!(
            "{} is damaged: its SHA-256 is not the one of its manifest",
            member.path
        )));
    }
    target.done()?;
    Ok(())
}

/// Zeros up to the end of the compressed stream, whose own sum is checked with that, and nothing after it.
fn nothing_follows<R: io::BufRead>(mut source: Bounded<GzDecoder<R>>) -> Result<(), ReadError> {
    let mut buffer = [0; 4096];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let part = buffer.get(..read).unwrap_or_default();
        if part.iter().any(|byte| *byte != 0) {
            return Err(ReadError::bad("something follows its end"));
        }
    }
    let mut behind = source.inner.into_inner();
    if behind.read(&mut buffer)? != 0 {
        return Err(ReadError::bad("something follows its end"));
    }
    Ok(())
}

/// A reader that gives so many bytes and then fails.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R> Bounded<R> {
    /// At first: enough for the manifest.
    fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let left = Rc::new(Cell::new(MAX_MANIFEST_BYTES + 2 * BLOCK));
        let bounded = Self {
            inner,
            left: Rc::clone(&left),
        };
        (bounded, left)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)? as u64;
        match self.left.get().checked_sub(read) {
            Some(left) => {
                self.left.set(left);
                Ok(usize::try_from(read).unwrap_or_default())
            }
            None => Err(io::Error::other(
                "there is more in it than its manifest says",
            )),
        }
    }
}
