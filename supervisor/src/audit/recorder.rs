//! The way onto the record for what is done elsewhere than in the main loop.
//!
//! Handing an entry over and waiting for its commit are two steps, so that many of them share one.

use tokio::sync::{mpsc, oneshot};

use super::{Actor, Entry};
use crate::daemon::command::{Command, Noted, Refused};

/// Hands entries to the main loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(mpsc::Sender<Command>);

/// An entry on its way to the disk.
#[derive(Debug)]
#[must_use = "what is answered before this may have no record"]
pub struct OnRecord(oneshot::Receiver<Result<Noted, Refused>>);

impl Recorder {
    /// By way of this main loop.
    pub const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self(commands)
    }

    /// Hands over an entry: `actor` has done it. Waits while the main loop has no room.
    pub async fn put(&self, actor: Actor, entry: Entry) -> OnRecord {
        let (command, on_record) = note(actor, entry);
        // Where the main loop has ended, the reply ends with the command.
        let _ = self.0.send(command).await;
        on_record
    }

    /// The same, on a thread that may wait.
    pub fn put_blocking(&self, actor: Actor, entry: Entry) -> OnRecord {
        let (command, on_record) = note(actor, entry);
        let _ = self.0.blocking_send(command);
        on_record
    }
}

impl OnRecord {
    /// Until it is committed.
    ///
    /// # Errors
    /// It is not on disk, and why. An act that was done is put on record later all the same; a refusal is not.
    pub async fn wait(self) -> Result<Noted, Refused> {
        self.0.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The same, on a thread that may wait.
    ///
    /// # Errors
    /// As [`OnRecord::wait`].
    pub fn wait_blocking(self) -> Result<Noted, Refused> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(ended()))
    }

    /// The same, for what is done whatever becomes of its record.
    pub async fn wait_anyway(self) {
        if let Err(why) = self.wait().await {
            tracing::warn!(event = "not_recorded", reason = ?why, "an act has no audit record yet");
        }
    }
}

fn note(actor: Actor, entry: Entry) -> (Command, OnRecord) {
    let (reply, noted) = oneshot::channel();
    let entry = Box::new(entry);
    let note = Box::new(Command::Note { entry, reply });
    (Command::As(actor, note), OnRecord(noted))
}

fn ended() -> Refused {
    Refused::Store("the daemon is ending".to_owned())
}
