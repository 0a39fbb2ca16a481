//! Room in the log's file before it is needed.
//!
//! A commit that makes the file longer has the file system find blocks for it and write down where they are:
//! one more wait for the disk than a commit that writes over what is there. So the file is filled with zeros
//! once, as far as a checkpoint lets the log grow. To SQLite (and to `log.rs`) zeros are the end of the log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where less than this is free, none of it is taken in advance.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// What is filled at once: written and synced in about a millisecond.
const PORTION_BYTES: u64 = 1 << 20;

/// A log's file that is to be so long.
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    bytes: u64,
}

impl Room {
    /// Nothing where the disk has no room to spare.
    pub(super) fn of(log: &Path, bytes: u64) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).open(log)?;
        let free = rustix::fs::fstatvfs(&file)?;
        let free_bytes = free.f_bavail.saturating_mul(free.f_frsize);
        Ok((free_bytes >= FREE_BYTES_MIN).then_some(Self { file, bytes }))
    }

    /// Fills a portion more; whether that was the last. Whoever calls this is the one who appends to the log.
    pub(super) fn fill(&self) -> io::Result<bool> {
        let from = self.file.metadata()?.len();
        let portion = self.bytes.saturating_sub(from).min(PORTION_BYTES);
        let zeros = vec![0; usize::try_from(portion).unwrap_or_default()];
        if let Err(e) = self.file.write_all_at(&zeros, from) {
            // Others may need it more.
            self.file.set_len(from)?;
            return Err(e);
        }
        Ok(from + portion >= self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_there_stays_and_zeros_follow() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, b"frames").unwrap();
        let bytes = PORTION_BYTES + 7;
        // Whatever is free on this machine.
        let room = |bytes| Room {
            file: OpenOptions::new().write(true).open(&log).unwrap(),
            bytes,
        };
        let short = room(3);
        let room = room(bytes);
        assert!(!room.fill().unwrap());
        // What was appended meanwhile, too.
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        io::Write::write_all(&mut file, &[1; 3]).unwrap();
        for _ in 0..2 {
            assert!(room.fill().unwrap());
            let made = fs::read(&log).unwrap();
            assert_eq!(made.len() as u64, bytes.max(6 + PORTION_BYTES + 3));
            assert!(made.starts_with(b"frames"));
            assert_eq!(made.iter().filter(|byte| **byte == 1).count(), 3);
        }
        assert!(short.fill().unwrap());
        assert!(fs::metadata(&log).unwrap().len() >= bytes);
    }
}
