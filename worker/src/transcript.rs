//! What an attempt has said, kept until its result is acknowledged: a supervisor that comes back
//! after a crash has none of it.
//!
//! ```text
//!   backend -> Sink -> Transcript --pieces, as the socket takes them--> main loop -> socket
//! ```
//!
//! While there is a supervisor, a writer waits when [`WINDOW_BYTES`] have not been sent: a slow
//! supervisor slows the attempt. While there is none, it goes on, up to the attempt's own limit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deia::wire::OUTPUT_CHUNK_BYTES;
use tokio::sync::Notify;

use crate::text;

/// What may wait to be sent before the attempt has to wait.
pub const WINDOW_BYTES: usize = 4 * OUTPUT_CHUNK_BYTES;

/// Whether there is a supervisor to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// There is.
    Up,
    /// It is gone, for now.
    Down,
}

/// What all attempts of a bot share: how the main loop hears of new text, and how much there was.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Notify,
    bytes: AtomicU64,
}

impl Bell {
    /// Waits until something was said since the last time. Cancel-safe.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }

    /// Bytes that were said, over all attempts.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// One attempt's words. A clone is the same transcript.
#[derive(Debug, Clone)]
pub struct Transcript(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    text: Mutex<Text>,
    room: Notify,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Text {
    said: String,
    sent: usize,
    line: Line,
}

impl Transcript {
    /// An empty one.
    pub fn new(bell: Arc<Bell>, line: Line) -> Self {
        Self(Arc::new(Shared {
            text: Mutex::new(Text {
                said: String::new(),
                sent: 0,
                line,
            }),
            room: Notify::new(),
            bell,
        }))
    }

    /// Adds a piece; waits afterwards while too much of it has not been sent.
    pub async fn say(&self, piece: &str) {
        self.lock().said.push_str(piece);
        let bell = &self.0.bell;
        bell.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        bell.rung.notify_one();
        loop {
            let room = self.0.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// The next piece to send, of at most one frame.
    pub fn take(&self) -> Option<String> {
        let mut text = self.lock();
        let piece = text::prefix(&text.said[text.sent..], OUTPUT_CHUNK_BYTES).to_owned();
        text.sent += piece.len();
        drop(text);
        self.0.room.notify_one();
        (!piece.is_empty()).then_some(piece)
    }

    /// Whether everything was sent.
    pub fn is_sent(&self) -> bool {
        let text = self.lock();
        text.sent == text.said.len()
    }

    /// There is no supervisor: the attempt need not wait for one.
    pub fn hang_up(&self) {
        self.lock().line = Line::Down;
        self.0.room.notify_one();
    }

    /// There is a supervisor again, which has the first `bytes`.
    pub fn resume(&self, bytes: u64) {
        let mut text = self.lock();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        text.sent = text.said.floor_char_boundary(bytes.min(text.said.len()));
        text.line = Line::Up;
    }

    /// All of it.
    pub fn whole(&self) -> String {
        self.lock().said.clone()
    }

    fn has_room(&self) -> bool {
        let text = self.lock();
        text.line == Line::Down || text.said.len() - text.sent <= WINDOW_BYTES
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        // A text and two numbers, whole after any panic.
        self.0.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn transcript() -> Transcript {
        Transcript::new(Arc::default(), Line::Up)
    }

    fn sent(transcript: &Transcript) -> String {
        let mut all = String::new();
        while let Some(piece) = transcript.take() {
            assert!(piece.len() <= OUTPUT_CHUNK_BYTES);
            all.push_str(&piece);
        }
        all
    }

    #[tokio::test]
    async fn long_texts_travel_in_pieces_of_whole_characters_and_again_from_where_they_are_missing()
    {
        let transcript = transcript();
        let text = "é€🦀x".repeat(10_000);
        transcript.hang_up();
        transcript.say(&text).await;
        assert_eq!(sent(&transcript), text);
        assert!(transcript.is_sent());
        transcript.resume(5);
        assert_eq!(sent(&transcript), &text[5..]);
        // Not within a character, and not past the end.
        transcript.resume(1);
        assert_eq!(sent(&transcript), text);
        transcript.resume(u64::MAX);
        assert!(transcript.is_sent());
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_slow_reader_and_for_no_absent_one() {
        let transcript = transcript();
        let writer = {
            let transcript = transcript.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    transcript.say(&"x".repeat(OUTPUT_CHUNK_BYTES)).await;
                }
            })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!writer.is_finished());
        assert!(transcript.whole().len() <= WINDOW_BYTES + OUTPUT_CHUNK_BYTES);
        transcript.take();
        transcript.hang_up();
        writer.await.unwrap();
        assert_eq!(transcript.whole().len(), 10 * OUTPUT_CHUNK_BYTES);
    }
}
