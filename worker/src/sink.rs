//! Where an attempt's output goes: into its transcript, up to a limit.

use crate::text;
use crate::transcript::Transcript;

/// One attempt's output. Waits while the supervisor is slow.
#[derive(Debug)]
pub struct Sink {
    transcript: Transcript,
    left: u64,
    said: u64,
    truncated: bool,
    /// A piece is on its way. Whoever gives up while it is has lost it.
    saying: bool,
}

impl Sink {
    /// A sink that passes at most `max_bytes`.
    pub fn new(transcript: Transcript, max_bytes: u64) -> Self {
        Self {
            transcript,
            left: max_bytes,
            said: 0,
            truncated: false,
            saying: false,
        }
    }

    /// Passes `text` on. What is past the limit is dropped, from the first cut on: an answer with a
    /// hole in it would be worse than a short one.
    pub async fn write(&mut self, text: &str) {
        if text.is_empty() || self.truncated() {
            return;
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = text::prefix(text, room);
        self.truncated = piece.len() < text.len();
        if !piece.is_empty() {
            self.left -= piece.len() as u64;
            self.said += piece.len() as u64;
            self.saying = true;
            self.transcript.say(piece).await;
            self.saying = false;
        }
    }

    /// Bytes that were passed on.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// Whether something was dropped.
    pub fn truncated(&self) -> bool {
        self.truncated || self.saying
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::transcript::Line;

    proptest::proptest! {
        #[test]
        fn the_limit_holds_and_what_passes_is_a_prefix(
            texts in proptest::collection::vec("[aé🦀]{0,8}", 0..8), max in 0u64..40,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let transcript = Transcript::new(Arc::default(), Line::Up);
            let mut sink = Sink::new(transcript.clone(), max);
            runtime.block_on(async {
                for text in &texts {
                    sink.write(text).await;
                }
            });
            let (got, whole) = (transcript.whole(), texts.concat());
            proptest::prop_assert!(got.len() as u64 <= max && whole.starts_with(&got));
            proptest::prop_assert_eq!(sink.truncated(), got.len() < whole.len());
            proptest::prop_assert_eq!(sink.said(), got.len() as u64);
        }
    }

    /// Shown to fail where the result of a program whose end nobody took is whole.
    #[tokio::test]
    async fn whoever_gives_up_while_nobody_reads_has_not_said_all() {
        let transcript = Transcript::new(Arc::default(), Line::Up);
        let mut sink = Sink::new(transcript, u64::MAX);
        let much = "x".repeat(64 << 20);
        let write = sink.write(&much);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), write).await;
        assert!(waited.is_err() && sink.truncated());
    }
}
