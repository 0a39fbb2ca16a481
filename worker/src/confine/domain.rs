//! Ends all that a bot started in one act, without looking for it.
//!
//! Landlock 6 keeps signals within the bot: a signal to "everybody" (pid -1) reaches what the bot
//! started, whoever its parent is and whatever its environment says, and nobody else. The kernel
//! delivers it while no process can be made, so a bomb does not escape it. The bot itself is left out.
//!
//! Where signals are not kept, the same call would end all processes of the user. So it is made only by
//! a thread that has proved that its signals are kept: a signal to the parent, which has the same user
//! and is not the bot's, was refused.

use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getppid};

/// Proof that the signals of this thread reach nothing outside of the bot. A thread can't undo that,
/// and can't give it to another.
#[derive(Debug)]
pub struct Domain(PhantomData<*const ()>);

impl Domain {
    /// The proof, where this thread has it.
    pub fn proven() -> Option<Self> {
        let parent = getppid();
        let of_the_same_user = std::fs::metadata(format!("/proc/{parent}"))
            .is_ok_and(|meta| meta.uid() == geteuid().as_raw());
        // Signal 0 is judged like any other and does nothing. Of another user's process it would be
        // refused anyway, which proves nothing.
        let refused = kill(parent, None) == Err(Errno::EPERM);
        (parent.as_raw() > 1 && of_the_same_user && refused).then_some(Self(PhantomData))
    }

    /// Kills every process of the bot but the bot's own.
    pub fn kill_all_below(&self) {
        // ESRCH: there is none.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_confined_has_no_proof() {
        // This thread may signal its parent, or that is another user's.
        assert!(Domain::proven().is_none());
    }
}
