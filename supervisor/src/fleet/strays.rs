//! What dead bots left behind.
//!
//! A bot ends its own descendants. One that was killed could not: its children become the daemon's
//! (which is a subreaper) and are found here, ended and reaped. A child of the daemon is a stray
//! when it is no bot; [`BotPids::start`] makes a fork and its registration one act, so there is no
//! moment in which a new bot looks like a stray.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::pids::BotPids;

/// After strays were ended, what they had started becomes the daemon's: a moment later.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes the daemon the parent of what its descendants leave behind.
///
/// # Errors
/// Where the kernel refuses.
pub fn adopt_orphans() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Ends strays whenever a child of the daemon has ended, until the daemon ends.
pub async fn watch(bots: BotPids) {
    let Ok(mut child_ended) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())
    else {
        return;
    };
    while child_ended.recv().await.is_some() {
        let bots = bots.clone();
        let swept = tokio::task::spawn_blocking(move || sweep(&bots))
            .await
            .unwrap_or(0);
        if swept > 0 {
            tracing::warn!(
                event = "strays_ended",
                count = swept,
                "ended what a dead bot had left behind"
            );
            // What the ended ones had started is the daemon's now.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Ends what is left of all bots, at the daemon's end: until nothing is found, or for this long. Blocks.
pub fn end_all(bots: &BotPids, patience: Duration) {
    let deadline = Instant::now() + patience;
    while sweep(bots) > 0 && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
}

/// Kills live strays with all below them, and reaps dead ones. Returns how many were killed.
fn sweep(bots: &BotPids) -> usize {
    let children = children_by_parent();
    let own = std::process::id();
    // PID 1 of a container is given everybody's orphans: there only what bears a bot's mark is ours.
    let ours = |pid: u32| own != 1 || bears_the_mark(pid);
    let mut killed = 0;
    for child in children.get(&own).into_iter().flatten() {
        if bots.contains(*child) {
            continue;
        }
        match fs::read_link(format!("/proc/{child}/exe")) {
            Ok(_) if ours(*child) => killed += kill_tree(*child, &children),
            Ok(_) => {}
            // Dead: a zombie has no executable.
            Err(_) => reap(*child),
        }
    }
    killed
}

fn reap(pid: u32) {
    if let Some(pid) = raw(pid) {
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }
}

fn kill_tree(root: u32, children: &HashMap<u32, Vec<u32>>) -> usize {
    let mut killed = 0;
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        todo.extend(children.get(&pid).into_iter().flatten());
        let handle = raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(handle) = handle
            && pidfd_send_signal(&handle, Signal::KILL).is_ok()
        {
            killed += 1;
        }
    }
    killed
}

fn bears_the_mark(pid: u32) -> bool {
    let mark = format!("{}=", deia_worker::tree::NONCE_VARIABLE);
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
        environment
            .split(|b| *b == 0)
            .any(|v| v.starts_with(mark.as_bytes()))
    })
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Every process of the host, by parent.
fn children_by_parent() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The parent, from `/proc/<pid>/stat`.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, also parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
