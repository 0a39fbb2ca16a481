//! Keeps results on disk while nobody takes them, on a thread of its own: the main loop waits for no
//! disk. The thread is there only once something had to be kept.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use deia::wire::{Hello, Secret};

use super::board::{MAX_UNACKNOWLEDGED, Unacknowledged};
use crate::attempt::Key;
use crate::log;
use crate::spool::{self, Record, Writer};
use crate::tree;

/// Every result can be kept once and removed once.
const MAX_WAITING: usize = 2 * MAX_UNACKNOWLEDGED;

/// See the module.
#[derive(Debug)]
pub struct Spooling {
    place: Place,
    kept: std::collections::HashSet<Key>,
    thread: Option<(SyncSender<Act>, JoinHandle<()>)>,
}

#[derive(Debug, Clone)]
struct Place {
    directory: PathBuf,
    writer: Writer,
    secret: Secret,
}

#[derive(Debug)]
enum Act {
    Keep(Unacknowledged),
    Remove(Key),
}

impl Spooling {
    /// For the bot of this hello.
    pub fn new(hello: &Hello, directory: PathBuf) -> Self {
        let started = tree::identify(hello.pid).map_or(0, |identity| identity.started);
        Self {
            place: Place {
                directory,
                writer: Writer {
                    bot_id: hello.bot_id.clone(),
                    launch: hello.launch,
                    pid: hello.pid,
                    started,
                    boot_id: tree::boot_id(),
                },
                secret: hello.secret.clone(),
            },
            kept: std::collections::HashSet::new(),
            thread: None,
        }
    }

    /// Keeps a result. What can't be kept is said, and stays in memory all the same.
    pub fn keep(&mut self, result: Unacknowledged) {
        if self.kept.insert(result.key.clone()) {
            self.ask(Act::Keep(result));
        }
    }

    /// A result was acknowledged, or nobody wants it.
    pub fn remove(&mut self, key: &Key) {
        if self.kept.remove(key) {
            self.ask(Act::Remove(key.clone()));
        }
    }

    /// Waits until everything is on disk.
    pub async fn close(&mut self) {
        if let Some((acts, thread)) = self.thread.take() {
            drop(acts);
            // A panic of it was said by the thread itself.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn ask(&mut self, act: Act) {
        if self.thread.is_none() {
            let (acts, waiting) = sync_channel(MAX_WAITING);
            let place = self.place.clone();
            let started = std::thread::Builder::new()
                .name("deia-spool".into())
                .spawn(move || work(&place, &waiting));
            match started {
                Ok(thread) => self.thread = Some((acts, thread)),
                Err(e) => return log::say(&format!("deia worker: no thread for the spool: {e}")),
            }
        }
        if let Some((acts, _)) = &self.thread
            && acts.try_send(act).is_err()
        {
            log::say("deia worker: too many results wait for the spool's disk");
        }
    }
}

fn work(place: &Place, waiting: &Receiver<Act>) {
    while let Ok(act) = waiting.recv() {
        let (what, done) = match act {
            Act::Keep(result) => {
                let (task, fence) = result.key;
                let what = format!("the result of {task} can't be kept on disk");
                let record = Record {
                    writer: place.writer.clone(),
                    task,
                    fence,
                    outcome: result.outcome,
                    cancelled: result.cancelled,
                    output: result.transcript.whole(),
                };
                let written = spool::write(&place.directory, &record, &place.secret);
                (what, written.map(drop))
            }
            Act::Remove((task, fence)) => {
                let what = format!("the kept result of {task} can't be removed");
                let bot = &place.writer.bot_id;
                let path = spool::path_of(&place.directory, bot, &task, fence);
                deia::failpoint!("worker.spool.remove.before");
                let removed = spool::remove(&path);
                deia::failpoint!("worker.spool.remove.after");
                (what, removed)
            }
        };
        if let Err(e) = done {
            log::say(&format!("deia worker: {what}: {e}"));
        }
    }
}
