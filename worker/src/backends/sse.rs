//! Server-sent events (WHATWG HTML, 9.2): only their data, which is all that model servers use.

use super::lines::{LineTooLong, Lines, MAX_LINE_BYTES};

/// Collects pieces of a stream into the data of events.
#[derive(Debug, Default)]
pub struct Events {
    lines: Lines,
    data: Option<Vec<u8>>,
}

impl Events {
    /// Adds a piece. Take all events with [`Events::next_event`] before the next one.
    pub fn push(&mut self, piece: &[u8]) {
        self.lines.push(piece);
    }

    /// The data of the next whole event.
    ///
    /// # Errors
    /// [`LineTooLong`] for a line or an event over [`MAX_LINE_BYTES`].
    pub fn next_event(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        while let Some(line) = self.lines.next_line()? {
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data));
                }
            } else {
                add(&mut self.data, line)?;
            }
        }
        Ok(None)
    }

    /// An event that the stream ended in. The standard drops it; servers that do not send the last
    /// empty line exist.
    ///
    /// # Errors
    /// [`LineTooLong`], as above.
    pub fn last_event(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        let rest = self.lines.rest();
        let line = rest.strip_suffix(b"\r").unwrap_or(&rest);
        add(&mut self.data, line)?;
        Ok(self.data.take())
    }
}

/// `data`, `data:x` and `data: x` add a line; other fields and comments (`:x`) say nothing here.
fn add(data: &mut Option<Vec<u8>>, line: &[u8]) -> Result<(), LineTooLong> {
    let Some(rest) = line.strip_prefix(b"data") else {
        return Ok(());
    };
    let value = match rest.split_first() {
        None => rest,
        Some((b':', value)) => value.strip_prefix(b" ").unwrap_or(value),
        Some(_) => return Ok(()),
    };
    match data {
        None => *data = Some(value.to_vec()),
        Some(data) if data.len() + value.len() >= MAX_LINE_BYTES => return Err(LineTooLong),
        Some(data) => {
            data.push(b'\n');
            data.extend_from_slice(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Events::default();
        let mut got = Vec::new();
        for piece in pieces {
            events.push(piece);
            while let Some(data) = events.next_event().unwrap() {
                got.push(String::from_utf8(data).unwrap());
            }
        }
        if let Some(data) = events.last_event().unwrap() {
            got.push(String::from_utf8(data).unwrap());
        }
        got
    }

    #[test]
    fn events_are_as_the_standard_has_them() {
        let stream = b": hello\r\ndata: a\r\ndata:b\r\n\r\nevent: x\n\n\ndata\n\ndatum: no\ndata:  c\nid: 1\n\ndata: [DONE]";
        assert_eq!(all(&[stream]), ["a\nb", "", " c", "[DONE]"]);
    }

    proptest::proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_stream_was_cut(
            parts in proptest::collection::vec(proptest::sample::select(
                vec!["data: ", "data:", "x", "\n", "\r\n", ":", "\n\n"]), 0..30),
            size in 1usize..9,
        ) {
            let text = parts.concat();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            proptest::prop_assert_eq!(all(&pieces), all(&[text.as_bytes()]));
        }
    }

    #[test]
    fn an_event_of_many_lines_is_bounded() {
        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(100_000));
        let refused = (0..20).any(|_| {
            events.push(line.as_bytes());
            events.next_event().is_err()
        });
        assert!(refused);
    }
}
