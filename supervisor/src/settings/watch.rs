//! Notices a changed configuration file: by the kernel's notice where there is one, and at the
//! latest after `config_reload_check_interval_seconds`.
//!
//! The *directories* are watched, not the file: editors and package managers put a new file in the
//! old one's place, and a file that is not there yet cannot be watched. What counts is the content:
//! a file that was touched, or written with what it said before, is no change.

use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::last_good;
use super::{Fingerprint, Search};

/// Quiet time after the last notice: an editor writes, renames and sets the mode in a row.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The longest wait for quiet: something may write into the directory all the time.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

/// A running watch; it ends when dropped.
#[derive(Debug)]
pub struct Watch {
    interval: watch::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Starts to watch. `known` is the content that is in force: a file that changed since then is
    /// reported at once. Each change of content puts one `()` into the channel, which holds one:
    /// the answer to any number of changes is one look ([`super::When::IfChanged`]).
    ///
    /// Must be called within a runtime.
    pub fn start(
        search: Search,
        known: Fingerprint,
        interval: Duration,
    ) -> (Self, mpsc::Receiver<()>) {
        let (changed, changes) = mpsc::channel(1);
        let (interval, intervals) = watch::channel(interval);
        let task = tokio::spawn(run(search, known, intervals, changed));
        (Self { interval, task }, changes)
    }

    /// Changes the longest time after which a change is noticed.
    pub fn set_interval(&self, interval: Duration) {
        self.interval.send_if_modified(|now| {
            let differs = *now != interval;
            *now = interval;
            differs
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    search: Search,
    mut known: Fingerprint,
    mut intervals: watch::Receiver<Duration>,
    changed: mpsc::Sender<()>,
) {
    // One place: a notice that is not yet taken says all that a second one would.
    let (notice, mut notices) = mpsc::channel(1);
    let mut watcher = watcher(notice);
    loop {
        // Again each time: a directory may have come, or be another one of the same name.
        if let Some(watcher) = &mut watcher {
            watch_directories(watcher, &search);
        }
        let probe = search.clone();
        match tokio::task::spawn_blocking(move || probe.fingerprint()).await {
            Ok(now) if now != known => {
                known = now;
                if changed.is_closed() {
                    return;
                }
                // Full: the reader has not looked yet, and will see this change too.
                let _ = changed.try_send(());
            }
            _ => {}
        }
        let interval = *intervals.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            Ok(()) = intervals.changed() => {}
            Some(()) = notices.recv() => settle(&mut notices).await,
            () = changed.closed() => return,
        }
    }
}

/// Waits until nothing was noticed for [`DEBOUNCE`].
async fn settle(notices: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + MAX_DEBOUNCE;
    loop {
        let quiet = (Instant::now() + DEBOUNCE).min(end);
        match timeout_at(quiet, notices.recv()).await {
            Ok(Some(())) if Instant::now() < end => {}
            _ => return,
        }
    }
}

fn watcher(notice: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| matters(&event)) {
            let _ = notice.try_send(());
        }
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(
                event = "config_watch_failed",
                %error,
                "changes of the configuration are noticed by the interval only"
            );
            None
        }
    }
}

fn watch_directories(watcher: &mut RecommendedWatcher, search: &Search) {
    for directory in search.directories() {
        if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
            tracing::debug!(
                event = "config_directory_not_watched",
                directory = %directory.display(),
                %error,
                "looked at by the interval only"
            );
        }
    }
}

/// Whether an event can be about a change: reading is none (our own would never end), and neither
/// is what the daemon itself writes beside the file.
fn matters(event: &Event) -> bool {
    let own = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name == last_good::FILE_NAME || name == last_good::TEMPORARY_NAME)
    };
    let read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    !read && (event.paths.is_empty() || event.paths.iter().any(|path| !own(path)))
}
