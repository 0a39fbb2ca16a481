//! What running tasks have said so far, and who follows it.
//!
//! Connections append here directly, so that a talkative bot costs the main loop nothing; the main
//! loop opens an entry with the lease and takes the text when the attempt is over. Each entry is
//! bounded by its pool's `limits.output_mb`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deia::task::{Fence, TaskId, TaskStatus};
use tokio::sync::watch;

/// All running tasks' outputs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outputs(Arc<Mutex<HashMap<TaskId, Arc<Live>>>>);

/// One attempt's output.
#[derive(Debug)]
pub struct Live {
    fence: Fence,
    limit_bytes: usize,
    text: Mutex<String>,
    progress: watch::Sender<Progress>,
}

/// How far an attempt's output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes so far.
    pub bytes: usize,
    /// The attempt is over; the task's status.
    pub ended: Option<TaskStatus>,
}

/// Why a piece was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The task is not leased, or not with this fence: a late frame. Harmless.
    #[error("no such attempt")]
    Late,
    /// More than the bot was told it may send: it breaks the protocol.
    #[error("more output than limits.output_mb allows")]
    TooMuch,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outputs {
    /// An attempt begins.
    pub fn open(&self, task: &TaskId, fence: Fence, limit_bytes: usize) {
        let live = Live {
            fence,
            limit_bytes,
            text: Mutex::default(),
            progress: watch::Sender::default(),
        };
        lock(&self.0).insert(task.clone(), Arc::new(live));
    }

    /// A piece of the output.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub fn append(&self, task: &TaskId, fence: Fence, piece: &str) -> Result<(), NotTaken> {
        let live = self
            .get(task)
            .filter(|live| live.fence == fence)
            .ok_or(NotTaken::Late)?;
        let mut text = lock(&live.text);
        if text.len() + piece.len() > live.limit_bytes {
            return Err(NotTaken::TooMuch);
        }
        text.push_str(piece);
        let bytes = text.len();
        drop(text);
        live.progress.send_modify(|progress| progress.bytes = bytes);
        Ok(())
    }

    /// The whole output, where it arrived otherwise.
    pub fn replace(&self, task: &TaskId, fence: Fence, text: String) {
        if let Some(live) = self.get(task).filter(|live| live.fence == fence) {
            let bytes = text.len();
            *lock(&live.text) = text;
            live.progress.send_modify(|progress| progress.bytes = bytes);
        }
    }

    /// Bytes that have arrived.
    pub fn bytes(&self, task: &TaskId, fence: Fence) -> u64 {
        self.get(task)
            .filter(|live| live.fence == fence)
            .map_or(0, |live| lock(&live.text).len() as u64)
    }

    /// The attempt has ended, its result is not durable yet: a copy of the text.
    pub fn text(&self, task: &TaskId, fence: Fence) -> String {
        self.get(task)
            .filter(|live| live.fence == fence)
            .map(|live| lock(&live.text).clone())
            .unwrap_or_default()
    }

    /// The attempt is over, durably. Followers are told.
    pub fn end(&self, task: &TaskId, fence: Fence, status: TaskStatus) {
        let mut all = lock(&self.0);
        if all.get(task).is_some_and(|live| live.fence == fence)
            && let Some(live) = all.remove(task)
        {
            live.progress
                .send_modify(|progress| progress.ended = Some(status));
        }
    }

    /// To follow a running task.
    pub fn follow(&self, task: &TaskId) -> Option<Follower> {
        self.get(task).map(|live| Follower {
            progress: live.progress.subscribe(),
            live,
            sent: 0,
        })
    }

    /// What a running task has said so far.
    pub fn so_far(&self, task: &TaskId) -> Option<String> {
        self.get(task).map(|live| lock(&live.text).clone())
    }

    /// How many attempts have one.
    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        lock(&self.0).len()
    }

    fn get(&self, task: &TaskId) -> Option<Arc<Live>> {
        lock(&self.0).get(task).cloned()
    }
}

/// Follows one attempt's output.
#[derive(Debug)]
pub struct Follower {
    live: Arc<Live>,
    progress: watch::Receiver<Progress>,
    sent: usize,
}

/// What a follower is told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A piece.
    Text(String),
    /// The attempt is over; the task's status.
    Ended(TaskStatus),
}

impl Follower {
    /// Waits for more. `None` when the daemon lets go of the attempt without an end.
    pub async fn next(&mut self) -> Option<Next> {
        loop {
            let progress = *self.progress.borrow_and_update();
            if progress.bytes > self.sent {
                let text = lock(&self.live.text);
                let piece = text.get(self.sent..)?.to_owned();
                self.sent = text.len();
                return Some(Next::Text(piece));
            }
            if let Some(status) = progress.ended {
                return Some(Next::Ended(status));
            }
            self.progress.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: Fence = Fence {
        epoch: 1,
        attempt: 1,
    };

    #[tokio::test]
    async fn a_follower_sees_everything_once_and_the_end() {
        let outputs = Outputs::default();
        let task: TaskId = "t".parse().unwrap();
        outputs.open(&task, FENCE, 100);
        outputs.append(&task, FENCE, "a").unwrap();
        let mut follower = outputs.follow(&task).unwrap();
        assert_eq!(follower.next().await, Some(Next::Text("a".into())));
        outputs.append(&task, FENCE, "b").unwrap();
        outputs.append(&task, FENCE, "c").unwrap();
        outputs.end(&task, FENCE, TaskStatus::Succeeded);
        assert_eq!(follower.next().await, Some(Next::Text("bc".into())));
        assert_eq!(
            follower.next().await,
            Some(Next::Ended(TaskStatus::Succeeded))
        );
        assert!(outputs.follow(&task).is_none());
    }

    #[test]
    fn late_and_excessive_pieces_are_refused() {
        let outputs = Outputs::default();
        let task: TaskId = "t".parse().unwrap();
        outputs.open(&task, FENCE, 4);
        let late = Fence {
            attempt: 2,
            ..FENCE
        };
        assert_eq!(outputs.append(&task, late, "x"), Err(NotTaken::Late));
        outputs.append(&task, FENCE, "1234").unwrap();
        assert_eq!(outputs.append(&task, FENCE, "5"), Err(NotTaken::TooMuch));
        assert_eq!(outputs.text(&task, FENCE), "1234");
        outputs.end(&task, late, TaskStatus::Dead);
        assert_eq!(outputs.so_far(&task).as_deref(), Some("1234"));
    }
}
