//! A task's output as it comes: server-sent events (WHATWG HTML, 9.2.6), bounded.
//!
//! `output` events carry `{"text"}`, the last event is `end` with `{"status"}`. Comments keep the
//! connection alive and mean nothing; unknown events are skipped, so that a newer daemon may send
//! them.

use std::collections::VecDeque;
use std::mem;

use serde::Deserialize;

use super::ClientError;
use crate::task::TaskStatus;

/// Most bytes of one event: a late follower gets a whole output (16 MiB by default) in one, and JSON
/// may need several bytes for one.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `message` when the stream gave none.
    pub name: String,
    /// The data lines, joined by line feeds.
    pub data: String,
}

/// An event had more than [`MAX_EVENT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {} MiB", MAX_EVENT_BYTES >> 20)]
pub struct TooLarge;

/// Cuts a byte stream into events.
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    after_cr: bool,
}

impl EventParser {
    /// Takes the next bytes; appends the events they complete to `events`.
    pub fn push(&mut self, bytes: &[u8], events: &mut VecDeque<Event>) -> Result<(), TooLarge> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.grow(rest)?;
                break;
            };
            self.grow(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(events);
        }
        Ok(())
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + self.data.len() + bytes.len() > MAX_EVENT_BYTES {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut VecDeque<Event>) {
        let bytes = mem::take(&mut self.line);
        if bytes.is_empty() {
            self.end_event(events);
            return;
        }
        let line = String::from_utf8_lossy(&bytes);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments (an empty field), `id` and `retry`.
            _ => {}
        }
    }

    fn end_event(&mut self, events: &mut VecDeque<Event>) {
        let name = mem::take(&mut self.name);
        let data = mem::take(&mut self.data);
        if mem::take(&mut self.has_data) {
            let name = if name.is_empty() {
                "message".into()
            } else {
                name
            };
            events.push_back(Event { name, data });
        }
    }
}

/// What a follower of a task sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// More text.
    Output(String),
    /// The output starts anew: what came so far was an attempt's that is over, or that an external bot has taken
    /// back. Where the task is now.
    Anew(TaskStatus),
    /// Nothing more will come; where the task is now.
    End(TaskStatus),
}

/// The output of one task, as it comes.
#[derive(Debug)]
pub struct OutputStream {
    response: reqwest::Response,
    target: String,
    parser: EventParser,
    events: VecDeque<Event>,
}

impl OutputStream {
    pub(super) fn new(response: reqwest::Response, target: String) -> Self {
        Self {
            response,
            target,
            parser: EventParser::default(),
            events: VecDeque::new(),
        }
    }

    /// The next event; `None` when the daemon hung up without saying how the task ended, which it
    /// does when it is stopped or replaced: follow again.
    pub async fn next(&mut self) -> Result<Option<OutputEvent>, ClientError> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(event) = self.understand(&event)? {
                    return Ok(Some(event));
                }
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self
                    .parser
                    .push(&chunk, &mut self.events)
                    .map_err(|error| self.protocol(error.to_string()))?,
                // A chunked body that is cut short and one that ends mean the same here.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }

    fn understand(&self, event: &Event) -> Result<Option<OutputEvent>, ClientError> {
        #[derive(Deserialize)]
        struct Output {
            text: String,
        }
        #[derive(Deserialize)]
        struct Turn {
            status: TaskStatus,
        }
        let broken = |error: serde_json::Error| {
            self.protocol(format!("an event `{}` with bad data: {error}", event.name))
        };
        match event.name.as_str() {
            "output" => serde_json::from_str::<Output>(&event.data)
                .map(|output| Some(OutputEvent::Output(output.text)))
                .map_err(broken),
            "attempt" => serde_json::from_str::<Turn>(&event.data)
                .map(|turn| Some(OutputEvent::Anew(turn.status)))
                .map_err(broken),
            "end" => serde_json::from_str::<Turn>(&event.data)
                .map(|turn| Some(OutputEvent::End(turn.status)))
                .map_err(broken),
            _ => Ok(None),
        }
    }

    fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol {
            target: self.target.clone(),
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = EventParser::default();
        let mut events = VecDeque::new();
        for piece in pieces {
            parser.push(piece, &mut events).unwrap();
        }
        events.into_iter().map(|e| (e.name, e.data)).collect()
    }

    #[test]
    fn reads_names_joined_data_comments_and_all_line_ends() {
        let text =
            b": hello\n\nevent: output\r\ndata: a\r\ndata:b\r\n\r\ndata\r\rid: 7\nevent: lost\n\n";
        let expected = [("output", "a\nb"), ("message", "")];
        let events = parse(&[text]);
        let events: Vec<(&str, &str)> = events.iter().map(|(n, d)| (&**n, &**d)).collect();
        assert_eq!(events, expected);
    }

    #[test]
    fn an_event_without_end_is_not_an_event() {
        assert!(parse(&[b"event: end\ndata: {}\n"]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_refused_at_the_bound() {
        let mut parser = EventParser::default();
        let mut events = VecDeque::new();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..=64).any(|_| parser.push(&piece, &mut events).is_err());
        assert!(refused);
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_does_not_matter(
            lines in prop::collection::vec("(data: |event: |: |)[a-z]{0,3}(\n|\r\n|\r)", 0..20),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let text = lines.concat();
            let whole = parse(&[text.as_bytes()]);
            let mut at: Vec<usize> = cuts.into_iter().filter(|c| *c <= text.len()).collect();
            at.push(0);
            at.push(text.len());
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(parse(&pieces), whole);
        }
    }
}
