//! Answers with the task's own text, a few words at a time, spread over the configured delay.

use std::time::Duration;

use deia::config::EchoSpec;
use deia::wire::{OUTPUT_CHUNK_BYTES, Usage};

use super::{Answer, Failure, Job};
use crate::sink::Sink;
use crate::text;

/// An answer comes in at most this many pieces, unless they would be too long for a frame.
const PIECES: usize = 8;

pub(super) async fn run(spec: &EchoSpec, job: Job<'_>, sink: &mut Sink) -> Result<Answer, Failure> {
    let delay = Duration::from_millis(spec.delay_ms);
    let size = (job.content.len() / PIECES).clamp(16, OUTPUT_CHUNK_BYTES);
    let pieces = job.content.len().div_ceil(size).max(1) as u32;
    let mut rest = job.content;
    if rest.is_empty() && !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    while !rest.is_empty() {
        if !delay.is_zero() {
            tokio::time::sleep(delay / pieces).await;
        }
        let piece = text::prefix(rest, size);
        sink.write(piece).await;
        rest = &rest[piece.len()..];
    }
    let words = job.content.split_whitespace().count() as u64;
    Ok(Answer {
        usage: Usage {
            prompt_tokens: words,
            completion_tokens: words,
        },
        model: None,
    })
}
