//! Reading what a bot's main loop beats into: see [`deia::wire::Pulse`].
//!
//! The file is in memory and of the bot's, opened through `/proc/<pid>/fd`: reading it waits for
//! nobody and wakes nobody.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use deia::wire::Pulse;

/// A bot's file.
#[derive(Debug)]
pub struct PulseReader(File);

impl PulseReader {
    /// The file that this process has under this descriptor.
    ///
    /// # Errors
    /// When it can't be opened, or is no file in memory.
    pub fn open(pid: u32, fd: i32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/fd/{fd}");
        let target = std::fs::read_link(&path)?;
        // Whatever else it might be: reading it could wait.
        if !target.to_string_lossy().starts_with("/memfd:") {
            return Err(io::Error::other(format!(
                "{path} is {}, no file in memory",
                target.display()
            )));
        }
        OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map(Self)
    }

    /// A file that says nothing.
    #[cfg(test)]
    pub(crate) fn silent(file: impl Into<File>) -> Self {
        Self(file.into())
    }

    /// What it says now.
    pub fn read(&self) -> Option<Pulse> {
        let mut bytes = [0; Pulse::BYTES];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        Some(Pulse::from_bytes(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use deia_worker::pulse::PulseFile;

    use super::*;

    #[test]
    fn a_beat_is_seen_and_no_other_file_is_read() {
        let mut file = PulseFile::new().unwrap();
        let reader = PulseReader::open(std::process::id(), file.fd()).unwrap();
        file.beat(5, 1).unwrap();
        assert_eq!(reader.read().unwrap().beats, 1);
        file.beat(6, 0).unwrap();
        assert_eq!(reader.read().unwrap().output_bytes, 6);
        let other = File::open("/proc/self/status").unwrap();
        assert!(PulseReader::open(std::process::id(), other.as_raw_fd()).is_err());
        assert!(PulseReader::open(std::process::id(), -1).is_err());
    }
}
