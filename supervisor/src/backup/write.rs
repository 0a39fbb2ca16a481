//! Writes an archive: aside, synced, read back, and only then under its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::hex;
use super::manifest::{DATABASE, MANIFEST, Manifest, Member};
use super::read::{self, ReadError, Target, Visitor};
use crate::durable;

/// How hard it is compressed: the next levels take twice the time for a few parts in a hundred.
const LEVEL: u32 = 3;
/// A file system that writes all of it back at once would hold up the store's own syncs.
const SYNCED_EVERY: u64 = 8 << 20;
const BUFFER_BYTES: usize = 64 << 10;

/// What goes into an archive beside the manifest.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Configuration files: their names in the archive, and what is in them.
    pub config: Vec<(String, Vec<u8>)>,
    /// A copy of the store, which nobody writes to.
    pub database: &'a Path,
}

impl Contents<'_> {
    /// What a manifest says of them. Reads the store's copy once.
    ///
    /// # Errors
    /// The copy can't be read.
    pub fn members(&self, progress: &mut dyn FnMut(u64)) -> io::Result<Vec<Member>> {
        let config = self.config.iter().map(|(path, bytes)| Member {
            path: path.clone(),
            size: bytes.len() as u64,
            sha256: hex(&Sha256::digest(bytes)),
        });
        let mut members: Vec<Member> = config.collect();
        let (size, sha256) = sum_of(&mut File::open(self.database)?, progress)?;
        members.push(Member {
            path: DATABASE.to_owned(),
            size,
            sha256,
        });
        Ok(members)
    }
}

/// Bytes of a file, and their SHA-256.
///
/// # Errors
/// It can't be read.
pub fn sum_of(file: &mut File, progress: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex(&sum.finalize())));
        }
        sum.update(buffer.get(..read).unwrap_or_default());
        size += read as u64;
        progress(read as u64);
    }
}

/// Writes the archive to `partial` and syncs it. Returns its bytes and their SHA-256.
///
/// # Errors
/// Those of the file system; what was written is left to the caller to remove.
pub fn write(
    partial: &Path,
    manifest: &Manifest,
    contents: &Contents<'_>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<(u64, String)> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)?;
    let sink = Sink {
        file,
        sum: Sha256::new(),
        bytes: 0,
        synced: 0,
    };
    let encoder = GzBuilder::new().write(sink, Compression::new(LEVEL));
    let mut builder = Builder::new(encoder);
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    let header = header(MANIFEST, text.len() as u64, manifest)?;
    builder.append(&header, text.as_slice())?;
    for member in &manifest.members {
        let header = self::header(&member.path, member.size, manifest)?;
        if member.path == DATABASE {
            let database = File::open(contents.database)?;
            let mut counted = Counted {
                inner: database.take(member.size),
                progress: &mut *progress,
                bytes: 0,
            };
            builder.append(&header, &mut counted)?;
            if counted.bytes != member.size {
                return Err(io::Error::other("the store's copy has changed"));
            }
        } else if let Some((_, bytes)) = contents.config.iter().find(|(p, _)| *p == member.path) {
            builder.append(&header, bytes.as_slice())?;
        }
    }
    // Both say what they still had to write, and whether it could be.
    let sink = builder.into_inner()?.finish()?;
    deia::failpoint!("backup.written");
    sink.file.sync_all()?;
    deia::failpoint!("backup.synced");
    Ok((sink.bytes, hex(&sink.sum.finalize())))
}

/// Reads every byte of an archive, and checks it.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(file: &File, progress: &mut dyn FnMut(u64)) -> Result<Manifest, ReadError> {
    read::walk(file, &mut Verify(progress))
}

/// Gives a whole archive its name, durably; another one of that name stays.
///
/// # Errors
/// Those of the file system.
pub fn publish(partial: &Path, archive: &Path) -> io::Result<()> {
    match renameat_with(CWD, partial, CWD, archive, RenameFlags::NOREPLACE) {
        // A file system that has no such thing: the name was free a moment ago.
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(partial, archive)?,
        renamed => renamed?,
    }
    deia::failpoint!("backup.renamed");
    durable::sync_directory_of(archive)?;
    deia::failpoint!("backup.kept");
    Ok(())
}

struct Verify<'a>(&'a mut dyn FnMut(u64));

impl Visitor for Verify<'_> {
    fn begin(&mut self, _: &Manifest) -> Result<(), String> {
        Ok(())
    }

    fn member(&mut self, _: &Member) -> io::Result<Box<dyn Target>> {
        Ok(Box::new(io::sink()))
    }

    fn progress(&mut self, bytes: u64) {
        (self.0)(bytes);
    }
}

/// A plain file of the daemon's own user: root, who unpacks it by hand, makes files that the daemon can open.
fn header(path: &str, size: u64, manifest: &Manifest) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_uid(geteuid().as_raw().into());
    header.set_gid(getegid().as_raw().into());
    let seconds = manifest.created_at.as_micros().div_euclid(1_000_000);
    header.set_mtime(u64::try_from(seconds).unwrap_or_default());
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// A file, with the sum of what goes there.
struct Sink {
    file: File,
    sum: Sha256,
    bytes: u64,
    synced: u64,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.sum.update(buffer.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        if self.bytes - self.synced >= SYNCED_EVERY {
            self.file.sync_data()?;
            self.synced = self.bytes;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Counted<'a, R> {
    inner: R,
    progress: &'a mut dyn FnMut(u64),
    bytes: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        (self.progress)(read as u64);
        Ok(read)
    }
}
