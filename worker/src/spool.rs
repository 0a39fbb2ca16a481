//! Results that could not be handed in, on disk until they are: what a bot has finished while there
//! was no supervisor outlives the bot.
//!
//! One file a result, `<bot>.<task>.<epoch>.<attempt>.result`, made under another name, synced and
//! renamed: a file that has the name is whole. It holds [`MAGIC`], an HMAC-SHA256 of the rest under
//! the secret of the bot's process, and a postcard [`Record`]; so it can only have been written by
//! somebody who knew that secret, and what identifies the process is in it, for the supervisor to
//! derive the secret from again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use deia::task::{Fence, TaskId};
use deia::wire::{CancelOf, Launch, Outcome, Secret};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// First bytes of a file: what it is, and in which version.
pub const MAGIC: [u8; 8] = *b"deiares1";

/// Largest file that is read: the largest `limits.output_mb`, and room for the rest.
pub const MAX_FILE_BYTES: u64 = (1 << 30) + (1 << 20);

/// What the files of one bot may hold together.
pub const MAX_SPOOL_BYTES: u64 = 256 << 20;

/// How a result's file is called.
const ENDING: &str = "result";

const MAC_BYTES: usize = 32;

/// Who wrote a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The bot.
    pub bot_id: String,
    /// Which start of it.
    pub launch: Launch,
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since the host did.
    pub started: u64,
    /// Which start of the host.
    pub boot_id: String,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Who wrote it.
    pub writer: Writer,
    /// Of which task.
    pub task: TaskId,
    /// Of which attempt.
    pub fence: Fence,
    /// How it ended.
    pub outcome: Outcome,
    /// What its end had been asked for, where it was.
    pub cancelled: Option<CancelOf>,
    /// What it said.
    pub output: String,
}

/// Why a file is no result.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not one of ours, or not as it was written.
    #[error("{0}")]
    NotOurs(&'static str),
}

/// The name of an attempt's file.
pub fn path_of(directory: &Path, bot_id: &str, task: &TaskId, fence: Fence) -> PathBuf {
    directory.join(format!(
        "{bot_id}.{task}.{:016x}.{}.{ENDING}",
        fence.epoch, fence.attempt
    ))
}

/// Writes a result so that it survives a power cut, unless `MAX_SPOOL_BYTES` of this bot are there.
///
/// # Errors
/// When it is not on disk; nothing of it is left then.
pub fn write(directory: &Path, record: &Record, secret: &Secret) -> io::Result<PathBuf> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let held: u64 = files(directory)
        .filter(|path| belongs_to(path, &record.writer.bot_id))
        .filter_map(|path| path.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    if held + body.len() as u64 > MAX_SPOOL_BYTES {
        return Err(io::Error::other(format!(
            "{} already holds {held} bytes of this bot's results, and {MAX_SPOOL_BYTES} is the most",
            directory.display()
        )));
    }
    let path = path_of(directory, &record.writer.bot_id, &record.task, record.fence);
    let partial = path.with_extension("partial");
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        deia::failpoint!("worker.spool.created");
        file.write_all(&MAGIC)?;
        file.write_all(&mac(secret, &body).finalize().into_bytes())?;
        file.write_all(&body)?;
        deia::failpoint!("worker.spool.written");
        file.sync_all()?;
        deia::failpoint!("worker.spool.synced");
        fs::rename(&partial, &path)?;
        deia::failpoint!("worker.spool.renamed");
        File::open(directory)?.sync_all()?;
        deia::failpoint!("worker.spool.kept");
        Ok(())
    })();
    if written.is_err() {
        // What is left over is no result and is removed with the next look.
        let _ = fs::remove_file(&partial);
    }
    written.map(|()| path)
}

/// The files that may be results.
pub fn files(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
}

/// Whether a file is this bot's, by its name.
pub fn belongs_to(path: &Path, bot_id: &str) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix(bot_id))
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Reads a result. `secret_of` derives the secret of the process it says it is of.
///
/// # Errors
/// [`ReadError`]
pub fn read(path: &Path, secret_of: impl FnOnce(&Writer) -> Secret) -> Result<Record, ReadError> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ReadError::NotOurs("it is no file"));
    }
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let rest = bytes
        .strip_prefix(&MAGIC)
        .ok_or(ReadError::NotOurs("it does not begin like a result"))?;
    let (tag, body) = rest
        .split_at_checked(MAC_BYTES)
        .ok_or(ReadError::NotOurs("it is cut short"))?;
    let record: Record =
        postcard::from_bytes(body).map_err(|_| ReadError::NotOurs("it does not decode"))?;
    mac(&secret_of(&record.writer), body)
        .verify_slice(tag)
        .map_err(|_| ReadError::NotOurs("it was not written by the bot it names"))?;
    Ok(record)
}

/// Removes a result; one that is not there is as good.
///
/// # Errors
/// When it stays.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn mac(secret: &Secret, body: &[u8]) -> Hmac<Sha256> {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes keys of any length: its error can't occur"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key of any length");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(task: &str) -> Record {
        Record {
            writer: Writer {
                bot_id: "coder-2".into(),
                launch: Launch(7),
                pid: 4242,
                started: 98,
                boot_id: "b".into(),
            },
            task: task.parse().unwrap(),
            fence: Fence {
                epoch: 3,
                attempt: 2,
            },
            outcome: Outcome::Cancelled,
            cancelled: Some(CancelOf::Task),
            output: "said".into(),
        }
    }

    const SECRET: Secret = Secret([9; 32]);

    #[test]
    fn a_result_is_read_as_it_was_written_by_who_can_derive_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &record("t:1.x"), &SECRET).unwrap();
        assert!(files(dir.path()).eq([path.clone()]));
        assert!(belongs_to(&path, "coder-2") && !belongs_to(&path, "coder"));
        let read_as = |secret: Secret| {
            read(&path, |writer| {
                assert_eq!(writer.pid, 4242);
                secret
            })
        };
        assert_eq!(read_as(SECRET).unwrap(), record("t:1.x"));
        let other = read_as(Secret([8; 32])).unwrap_err().to_string();
        assert!(other.contains("not written by the bot"), "{other}");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(files(dir.path()).count(), 0);
    }

    #[test]
    fn a_byte_changed_anywhere_and_any_truncation_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &record("t"), &SECRET).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(read(&path, |_| SECRET).is_err(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, |_| SECRET).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn no_link_is_followed_and_a_full_spool_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &record("t"), &SECRET).unwrap();
        let link = path_of(dir.path(), "x", &"t".parse().unwrap(), record("t").fence);
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link, |_| SECRET).is_err());
        let big = path_of(
            dir.path(),
            "coder-2",
            &"u".parse().unwrap(),
            record("t").fence,
        );
        File::create(&big)
            .unwrap()
            .set_len(MAX_SPOOL_BYTES)
            .unwrap();
        let error = write(dir.path(), &record("v"), &SECRET).unwrap_err();
        assert!(error.to_string().contains("is the most"), "{error}");
    }
}
