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

/// How an attempt's output is; who waits for more of it looks again when this is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// How often another text has taken the place of what was there.
    pub anew: u32,
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
    /// An attempt begins. It may have begun already: who follows it goes on with it.
    pub fn open(&self, task: &TaskId, fence: Fence, limit_bytes: usize) {
        let mut all = lock(&self.0);
        if all.get(task).is_some_and(|live| live.fence == fence) {
            return;
        }
        let live = Live {
            fence,
            limit_bytes,
            text: Mutex::default(),
            progress: watch::Sender::default(),
        };
        all.insert(task.clone(), Arc::new(live));
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
        drop(text);
        live.progress.send_modify(|_| {});
        Ok(())
    }

    /// The whole output, where it arrived otherwise. Who follows gets the rest of it, where it goes on from what
    /// was there.
    pub fn replace(&self, task: &TaskId, fence: Fence, text: String) {
        if let Some(live) = self.get(task).filter(|live| live.fence == fence) {
            let mut before = lock(&live.text);
            // Blanks at its end, which a program may have trimmed, make it no other.
            let goes_on = text.starts_with(&*before) || text.trim_end() == before.trim_end();
            // Under the lock: with the text comes the word that it is another one.
            live.progress.send_modify(|progress| {
                progress.anew += u32::from(!goes_on);
            });
            *before = text;
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
        let live = self.get(task)?;
        let progress = live.progress.subscribe();
        let anew = progress.borrow().anew;
        Some(Follower {
            live,
            progress,
            sent: 0,
            anew,
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
    anew: u32,
}

/// What a follower is told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A piece.
    Text(String),
    /// Another text takes the place of all that was told so far.
    Anew,
    /// The attempt is over; the task's status.
    Ended(TaskStatus),
}

impl Follower {
    /// Waits for more. `None` when the daemon lets go of the attempt without an end.
    pub async fn next(&mut self) -> Option<Next> {
        loop {
            if let Some(next) = self.at_once() {
                return Some(next);
            }
            self.progress.changed().await.ok()?;
        }
    }

    /// What can be told without waiting.
    fn at_once(&mut self) -> Option<Next> {
        let text = lock(&self.live.text);
        let progress = *self.progress.borrow_and_update();
        if progress.anew != self.anew {
            self.anew = progress.anew;
            if std::mem::take(&mut self.sent) > 0 {
                return Some(Next::Anew);
            }
        }
        match text.get(self.sent..) {
            Some(piece) if !piece.is_empty() => {
                self.sent = text.len();
                Some(Next::Text(piece.to_owned()))
            }
            _ => progress.ended.map(Next::Ended),
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

    /// What comes next; a failure where nothing does.
    async fn next(follower: &mut Follower) -> Option<Next> {
        let patience = std::time::Duration::from_secs(20);
        let next = tokio::time::timeout(patience, follower.next()).await;
        next.expect("something comes")
    }

    #[tokio::test]
    async fn a_follower_sees_everything_once_and_the_end() {
        let outputs = Outputs::default();
        let task: TaskId = "t".parse().unwrap();
        outputs.open(&task, FENCE, 100);
        outputs.append(&task, FENCE, "a").unwrap();
        let mut follower = outputs.follow(&task).unwrap();
        assert_eq!(next(&mut follower).await, Some(Next::Text("a".into())));
        // Assigned once more: by a letter that did not go out, and by the main loop.
        outputs.open(&task, FENCE, 100);
        outputs.append(&task, FENCE, "b").unwrap();
        outputs.append(&task, FENCE, "c").unwrap();
        outputs.end(&task, FENCE, TaskStatus::Succeeded);
        assert_eq!(next(&mut follower).await, Some(Next::Text("bc".into())));
        assert_eq!(
            next(&mut follower).await,
            Some(Next::Ended(TaskStatus::Succeeded))
        );
        assert!(outputs.follow(&task).is_none());
    }

    #[tokio::test]
    async fn who_follows_is_told_of_another_text() {
        let outputs = Outputs::default();
        let task: TaskId = "t".parse().unwrap();
        outputs.open(&task, FENCE, 100);
        outputs.append(&task, FENCE, "one t").unwrap();
        let mut follower = outputs.follow(&task).unwrap();
        let mut late = outputs.follow(&task).unwrap();
        assert_eq!(next(&mut follower).await, Some(Next::Text("one t".into())));
        outputs.replace(&task, FENCE, "one two".into());
        assert_eq!(next(&mut follower).await, Some(Next::Text("wo".into())));
        outputs.replace(&task, FENCE, "one two\n".into());
        assert_eq!(next(&mut follower).await, Some(Next::Text("\n".into())));
        outputs.replace(&task, FENCE, "one two".into());
        // Of the same length, and shorter.
        for text in ["two one", "one"] {
            outputs.replace(&task, FENCE, text.into());
            assert_eq!(next(&mut follower).await, Some(Next::Anew));
            assert_eq!(next(&mut follower).await, Some(Next::Text(text.into())));
        }
        outputs.replace(&task, FENCE, String::new());
        outputs.end(&task, FENCE, TaskStatus::Succeeded);
        let ended = Some(Next::Ended(TaskStatus::Succeeded));
        assert_eq!(next(&mut follower).await, Some(Next::Anew));
        assert_eq!(next(&mut follower).await, ended);
        // It was told nothing that is not so.
        assert_eq!(next(&mut late).await, ended);
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
