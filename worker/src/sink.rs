//! Where an attempt's output goes: frames on the bounded queue to the supervisor, up to a limit.

use deia::task::{Fence, TaskId};
use deia::wire::{OUTPUT_CHUNK_BYTES, ToSupervisor};
use tokio::sync::mpsc;

use crate::text;

/// The connection is gone, so there is nobody to work for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// One attempt's output. Waits while the supervisor is slow; keeps nothing.
#[derive(Debug)]
pub struct Sink {
    queue: mpsc::Sender<ToSupervisor>,
    task: TaskId,
    fence: Fence,
    left: u64,
    sent: u64,
    truncated: bool,
}

impl Sink {
    /// A sink that passes at most `max_bytes`.
    pub fn new(
        queue: mpsc::Sender<ToSupervisor>,
        task: TaskId,
        fence: Fence,
        max_bytes: u64,
    ) -> Self {
        Self {
            queue,
            task,
            fence,
            left: max_bytes,
            sent: 0,
            truncated: false,
        }
    }

    /// Sends `text` in pieces. What is past the limit is dropped, from the first cut on: an answer
    /// with a hole in it would be worse than a short one.
    ///
    /// # Errors
    /// [`Gone`] when nobody listens any more.
    pub async fn write(&mut self, text: &str) -> Result<(), Gone> {
        let mut rest = text;
        while !rest.is_empty() && !self.truncated {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX);
            let piece = text::prefix(rest, room.min(OUTPUT_CHUNK_BYTES));
            if piece.len() < rest.len() && room < rest.len() && room < OUTPUT_CHUNK_BYTES {
                self.truncated = true;
            }
            if piece.is_empty() {
                break;
            }
            let frame = ToSupervisor::Output {
                task: self.task.clone(),
                fence: self.fence,
                text: piece.to_owned(),
            };
            self.queue.send(frame).await.map_err(|_| Gone)?;
            self.left -= piece.len() as u64;
            self.sent += piece.len() as u64;
            rest = &rest[piece.len()..];
        }
        Ok(())
    }

    /// Bytes that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether something was dropped.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn through(texts: &[String], max: u64) -> (String, bool, usize) {
        let (queue, mut frames) = mpsc::channel(1024);
        let fence = Fence {
            epoch: 1,
            attempt: 1,
        };
        let mut sink = Sink::new(queue, "t".parse().unwrap(), fence, max);
        for text in texts {
            sink.write(text).await.unwrap();
        }
        let truncated = sink.truncated();
        drop(sink);
        let (mut got, mut longest) = (String::new(), 0);
        while let Some(ToSupervisor::Output { text, .. }) = frames.recv().await {
            assert!(!text.is_empty());
            longest = longest.max(text.len());
            got.push_str(&text);
        }
        (got, truncated, longest)
    }

    #[tokio::test]
    async fn long_texts_travel_in_pieces_of_whole_characters() {
        let text = "é€🦀x".repeat(50_000);
        let (got, truncated, longest) = through(std::slice::from_ref(&text), u64::MAX).await;
        assert!(got == text && !truncated);
        assert!(longest <= OUTPUT_CHUNK_BYTES);
    }

    proptest::proptest! {
        #[test]
        fn the_limit_holds_and_what_passes_is_a_prefix(
            texts in proptest::collection::vec("[aé🦀]{0,8}", 0..8), max in 0u64..40,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (got, truncated, _) = runtime.block_on(through(&texts, max));
            let whole = texts.concat();
            proptest::prop_assert!(got.len() as u64 <= max && whole.starts_with(&got));
            proptest::prop_assert_eq!(truncated, got.len() < whole.len());
        }
    }
}
