//! Single threads of a daemon, held still: a fault no signal can make, as a signal stops them all.

use std::fs;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Threads that do nothing until this is dropped. The test's own thread holds them, so it may not move
/// to another one.
#[derive(Debug)]
pub struct Halted {
    threads: Vec<Pid>,
    of_one_thread: std::marker::PhantomData<*const ()>,
}

impl Halted {
    /// Holds the process's threads with this name.
    #[track_caller]
    pub fn hold(pid: u32, name: &str) -> Self {
        Self::hold_those(pid, |found| found == name)
    }

    /// Holds all of them. Unlike SIGSTOP, SIGCONT does not end it.
    #[track_caller]
    pub fn hold_all(pid: u32) -> Self {
        Self::hold_those(pid, |_| true)
    }

    #[track_caller]
    fn hold_those(pid: u32, which: impl Fn(&str) -> bool) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
        let mut halted = Self {
            threads: Vec::new(),
            of_one_thread: std::marker::PhantomData,
        };
        for task in tasks {
            let path = task.expect("a thread").path();
            let found = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if !which(found.trim_end()) {
                continue;
            }
            let id = path.file_name().and_then(|id| id.to_str()?.parse().ok());
            let thread = Pid::from_raw(id.expect("a thread's id"));
            ptrace::seize(thread, ptrace::Options::empty()).expect("it can be traced");
            halted.threads.push(thread);
            ptrace::interrupt(thread).expect("it can be stopped");
            let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
            assert!(
                matches!(stopped, WaitStatus::PtraceEvent(..)),
                "{stopped:?}"
            );
        }
        assert!(!halted.threads.is_empty(), "no such thread");
        halted
    }

    /// Takes note of those that have been killed: until then their process is not gone. Whether none is left.
    pub fn all_gone(&mut self) -> bool {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        self.threads.retain(|thread| {
            !matches!(
                waitpid(*thread, Some(flags)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD)
            )
        });
        self.threads.is_empty()
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        for thread in &self.threads {
            // One that has ended needs nothing.
            let _ = ptrace::detach(*thread, None);
        }
    }
}
