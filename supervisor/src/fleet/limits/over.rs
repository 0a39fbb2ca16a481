//! What was over its limit, in words.

use std::fmt;

use deia::bot::ExitCause;

/// What was over its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Of which kind.
    pub what: Limited,
    /// What there was: bytes, or processes.
    pub measured: u64,
    /// What there may be.
    pub allowed: u64,
}

/// What is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limited {
    /// `limits.memory_mb`.
    Memory,
    /// `limits.processes`.
    Processes,
    /// `limits.processes`, by the kernel: it goes on asking for more than it gets.
    Refused,
    /// `limits.disk_mb`: the working directory of this task.
    Work(String),
    /// `limits.disk_mb`: HOME and temporary files.
    Own,
    /// `limits.disk_mb`: files without a name that are still open.
    Deleted,
}

impl Over {
    /// The cause of the bot's end.
    pub fn cause(&self) -> ExitCause {
        match self.what {
            Limited::Memory => ExitCause::MemoryLimit,
            Limited::Processes | Limited::Refused => ExitCause::ProcessLimit,
            Limited::Work(_) | Limited::Own | Limited::Deleted => ExitCause::DiskLimit,
        }
    }
}

/// For people: what it had, and the key to change.
impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (measured, allowed) = (self.measured, self.allowed);
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let disk = |f: &mut fmt::Formatter<'_>, what: &str| {
            let (measured, allowed) = (mib(measured), mib(allowed));
            write!(f, "{what} {measured} MiB; limits.disk_mb is {allowed}")
        };
        match &self.what {
            Limited::Memory => write!(
                f,
                "its processes took {} MiB of memory; limits.memory_mb is {}",
                mib(measured),
                mib(allowed)
            ),
            Limited::Processes => {
                write!(
                    f,
                    "it had {measured} processes; limits.processes is {allowed}"
                )
            }
            Limited::Refused => write!(
                f,
                "it went on asking for more than {allowed} processes and threads, which is limits.processes"
            ),
            Limited::Work(task) => disk(f, &format!("the working directory of {task} has")),
            Limited::Own => disk(f, "its HOME and temporary files have"),
            Limited::Deleted => disk(f, "files that it deleted and keeps open have"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_over_is_said_with_the_key_to_change() {
        let over = |what, measured, allowed| {
            Over {
                what,
                measured,
                allowed,
            }
            .to_string()
        };
        assert_eq!(
            over(Limited::Memory, 2500 << 20, 2048 << 20),
            "its processes took 2500 MiB of memory; limits.memory_mb is 2048"
        );
        assert_eq!(
            over(Limited::Processes, 300, 256),
            "it had 300 processes; limits.processes is 256"
        );
        assert_eq!(
            over(Limited::Work("t".into()), (16 << 20) + 1, 16 << 20),
            "the working directory of t has 17 MiB; limits.disk_mb is 16"
        );
    }
}
