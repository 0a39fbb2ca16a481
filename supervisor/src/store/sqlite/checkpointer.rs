//! The thread that copies the log into the database while the writer goes on: a copy of a few
//! hundred pages and its fsync take milliseconds, which no submission should have to wait for.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::error::OpenError;
use super::fault::Fault;
use super::open;
use super::wal;

/// Asks for copies; the thread ends with it.
pub(super) struct Checkpointer {
    /// Room for one request: a second one before the first has begun would say the same.
    requests: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    busy: AtomicBool,
    fault: Mutex<Option<Fault>>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> Result<Self, OpenError> {
        let conn = open::checkpointer(path).map_err(|fault| OpenError::from_fault(path, &fault))?;
        let (requests, requested) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&conn, &requested, &shared)
            })
            .map_err(OpenError::io(path, "start the checkpoints of"))?;
        Ok(Self {
            requests: Some(requests),
            shared,
            thread: Some(thread),
        })
    }

    /// Begins a copy, unless one is under way.
    pub(super) fn request(&self) {
        let Some(requests) = &self.requests else {
            return;
        };
        if !self.shared.busy.swap(true, Ordering::AcqRel) && requests.try_send(()).is_err() {
            // The thread has panicked: the writer copies by itself, at the latest at its bound.
            self.shared.busy.store(false, Ordering::Release);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::Acquire)
    }

    /// What went wrong since this was last asked.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.shared
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits for the copy under way; none is begun after it.
    pub(super) fn stop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(event = "store_checkpointer_panicked");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(conn: &Connection, requested: &Receiver<()>, shared: &Shared) {
    while requested.recv().is_ok() {
        deia::failpoint!("store.checkpoint.before");
        if let Err(fault) = wal::run(conn, wal::PASSIVE) {
            *shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        }
        deia::failpoint!("store.checkpoint.after");
        shared.busy.store(false, Ordering::Release);
    }
}
