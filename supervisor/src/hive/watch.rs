//! Notices that something has happened in the folders, by the kernel's notice.
//!
//! As in [`crate::settings::Watch`], *folders* are watched, and a notice is only a reason to look.

use std::path::Path;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// The kernel's notices of a few folders.
#[derive(Debug)]
pub struct Watcher {
    kernel: Option<RecommendedWatcher>,
    /// Since the last [`Watcher::begin`], a folder could not be watched.
    blind: bool,
    /// That was said.
    said: bool,
}

impl Watcher {
    /// One that watches nothing yet. Any number of notices is one `()` in the channel, which holds one: the
    /// answer is one look.
    pub fn new() -> (Self, mpsc::Receiver<()>) {
        let (notice, notices) = mpsc::channel(1);
        let kernel = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An event that could not be told is one, too: the queue was full.
            if event.map_or(true, |event| matters(&event)) {
                let _ = notice.try_send(());
            }
        });
        let watcher = Self {
            blind: kernel.is_err(),
            kernel: kernel.ok(),
            said: false,
        };
        (watcher, notices)
    }

    /// All folders are about to be named again.
    pub fn begin(&mut self) {
        self.blind = self.kernel.is_none();
    }

    /// Watches a folder; again each time, because it may be another one of the same name.
    pub fn watch(&mut self, folder: &Path) {
        let Some(kernel) = &mut self.kernel else {
            return;
        };
        if let Err(error) = kernel.watch(folder, RecursiveMode::NonRecursive) {
            tracing::debug!(event = "hive_folder_not_watched", folder = %folder.display(), %error, "looked at by the interval only");
            self.blind = true;
        }
    }

    /// Whether something may happen without a notice.
    pub fn is_blind(&mut self) -> bool {
        if self.blind && !self.said {
            self.said = true;
            tracing::warn!(
                event = "hive_watch_failed",
                "the kernel does not watch the folders of task files (fs.inotify.max_user_watches and max_user_instances bound it); they are looked at every few seconds"
            );
        }
        self.blind
    }
}

/// Whether an event can be about a change: reading is none, or our own would never end.
fn matters(event: &Event) -> bool {
    !matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}
