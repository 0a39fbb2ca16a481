//! Which thread takes the daemon's signals.
//!
//! Only the first: every other has them blocked from its beginning. So when that thread blocks them
//! too, right before an exec, one that comes now waits for the next process. Children inherit the mask
//! of the thread that starts them, so they are started with none ([`with_none`]).

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

fn ours() -> SigSet {
    SigSet::from_iter([
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ])
}

/// This thread, and those it starts, take none of the daemon's signals. One that is sent waits until
/// some thread takes it, also across an exec.
pub fn block() {
    // It fails for invalid arguments only.
    let _ = ours().thread_block();
}

/// This thread takes the daemon's signals: handlers are there.
pub fn unblock() {
    let _ = ours().thread_unblock();
}

/// Does something with no signal blocked.
pub fn with_none<T>(act: impl FnOnce() -> T) -> T {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let done = act();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    done
}

/// Sends this process a stop that was taken too late to be acted on: while it is blocked, it waits for
/// the next process.
pub fn pass_on_stop() {
    let _ = kill(Pid::this(), Signal::SIGTERM);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> SigSet {
        SigSet::thread_get_mask().unwrap()
    }

    #[test]
    fn a_child_is_started_with_nothing_blocked_and_the_thread_stays_as_it_was() {
        std::thread::spawn(|| {
            block();
            let read = || {
                let status = std::process::Command::new("cat")
                    .arg("/proc/self/status")
                    .output();
                let text = String::from_utf8(status.unwrap().stdout).unwrap();
                let line = text.lines().find(|l| l.starts_with("SigBlk:")).unwrap();
                u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
            };
            assert_eq!(with_none(read), 0);
            assert!(mask().contains(Signal::SIGTERM));
            assert_ne!(read(), 0);
            unblock();
            assert!(!mask().contains(Signal::SIGTERM));
        })
        .join()
        .unwrap();
    }
}
