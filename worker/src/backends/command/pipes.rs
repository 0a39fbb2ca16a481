//! What a program prints: standard output to the sink as it comes, standard error to the bot's own.

use std::collections::BTreeMap;

use deia::task::TaskId;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::log;
use crate::secret_file::Secret;
use crate::sink::Sink;
use crate::text::{Decoder, Tail};

const READ_BYTES: usize = 16 * 1024;
/// A longer line of standard error is cut into pieces of this.
const MAX_LOG_LINE_BYTES: usize = 8 * 1024;

/// Reads to the end. While the sink waits nothing is read, so the program waits too.
pub async fn stdout(pipe: Option<impl AsyncRead + Unpin>, sink: &mut Sink) {
    let Some(mut pipe) = pipe else { return };
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => return sink.write(decoder.finish()).await,
            Ok(n) => sink.write(&decoder.push(&buffer[..n])).await,
        }
    }
}

/// Reads to the end, logging whole lines and keeping the tail.
pub async fn stderr(pipe: Option<impl AsyncRead + Unpin>, mut log: Log<'_>, tail: &mut Tail) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                tail.push(&buffer[..n]);
                let lines = log.cut(&buffer[..n]);
                write(lines).await;
            }
        }
    }
    write(log.finish()).await;
}

async fn write(lines: Vec<u8>) {
    if !lines.is_empty() {
        // On another thread: a full disk or a slow one is not the main loop's to wait for.
        let _ = tokio::task::spawn_blocking(move || log::write(&lines)).await;
    }
}

/// Standard error as lines of the bot's log: `[task] text`, bounded, without the task's secrets.
pub struct Log<'a> {
    prefix: String,
    line: Vec<u8>,
    left: u64,
    secrets: &'a BTreeMap<String, Secret>,
}

impl<'a> Log<'a> {
    /// A log of at most `max_bytes`.
    pub fn new(task: &TaskId, max_bytes: u64, secrets: &'a BTreeMap<String, Secret>) -> Self {
        Self {
            prefix: format!("[{task}] "),
            line: Vec::new(),
            left: max_bytes,
            secrets,
        }
    }

    /// The lines that `bytes` made whole.
    fn cut(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line(&mut out);
            } else {
                self.line.push(*byte);
                if self.line.len() >= MAX_LOG_LINE_BYTES {
                    self.end_line(&mut out);
                }
            }
        }
        out
    }

    fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut out);
        }
        out
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        if self.left == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let text = self
            .secrets
            .values()
            .fold(text.into_owned(), |text, secret| secret.redact_piece(&text));
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
        self.left = self.left.saturating_sub(text.len() as u64 + 1);
        if self.left == 0 {
            out.extend_from_slice(self.prefix.as_bytes());
            out.extend_from_slice(b"(more was printed and dropped: limits.output_mb)\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_lets_half_a_secret_pass() {
        let secret = Secret::new("s3cret-4567-8901".to_owned());
        let secrets = BTreeMap::from([("KEY".to_owned(), secret)]);
        for before in MAX_LOG_LINE_BYTES - 16..MAX_LOG_LINE_BYTES {
            let mut log = Log::new(&"t".parse().unwrap(), u64::MAX, &secrets);
            let said = log.cut(format!("{}s3cret-4567-8901\n", "x".repeat(before)).as_bytes());
            let said = String::from_utf8(said).unwrap();
            for half in ["s3cr", "8901"] {
                assert!(!said.contains(half), "cut at {before}: {}", &said[before..]);
            }
        }
    }

    #[test]
    fn lines_are_whole_prefixed_and_bounded() {
        let secrets = BTreeMap::new();
        let mut log = Log::new(&"t".parse().unwrap(), 8, &secrets);
        assert_eq!(log.cut(b"ab"), b"");
        assert_eq!(log.cut(b"c\nd"), b"[t] abc\n");
        let last = log.finish();
        assert_eq!(last, b"[t] d\n");
        let dropped = String::from_utf8(log.cut(b"12345\nmore\n")).unwrap();
        assert!(dropped.starts_with("[t] 12345\n[t] (more"), "{dropped}");
        assert!(!dropped.contains("more\n"), "{dropped}");
        let mut log = Log::new(&"t".parse().unwrap(), u64::MAX, &secrets);
        let long = log.cut(&[b'x'; 2 * MAX_LOG_LINE_BYTES + 1]);
        assert_eq!(long.iter().filter(|b| **b == b'\n').count(), 2);
    }
}
