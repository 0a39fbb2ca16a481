//! The file the main loop beats into: anonymous, of this process, read by the supervisor through
//! `/proc/<pid>/fd`. A beat wakes nobody, and it outlives the supervisor.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use deia::wire::Pulse;
use rustix::fs::MemfdFlags;

/// See the module.
#[derive(Debug)]
pub struct PulseFile {
    file: OwnedFd,
    pulse: Pulse,
}

impl PulseFile {
    /// A new one, with nothing in it yet but zeros.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn new() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("deia-pulse", MemfdFlags::CLOEXEC)?;
        let mut new = Self {
            file,
            pulse: Pulse::default(),
        };
        new.write()?;
        Ok(new)
    }

    /// Its descriptor, for the supervisor.
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// The main loop turned.
    ///
    /// # Errors
    /// When it can't be written: the bot will be taken for stuck.
    pub fn beat(&mut self, output_bytes: u64, running: usize) -> io::Result<()> {
        self.pulse.beats += 1;
        self.pulse.output_bytes = output_bytes;
        self.pulse.running = running as u64;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        rustix::io::pwrite(&self.file, &self.pulse.to_bytes(), 0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_reads_it_by_number() {
        let mut pulse = PulseFile::new().unwrap();
        pulse.beat(7, 2).unwrap();
        pulse.beat(9, 1).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), pulse.fd());
        let bytes: [u8; Pulse::BYTES] = std::fs::read(path).unwrap().try_into().unwrap();
        let expected = Pulse {
            beats: 2,
            output_bytes: 9,
            running: 1,
        };
        assert_eq!(Pulse::from_bytes(&bytes), expected);
    }
}
