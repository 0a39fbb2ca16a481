//! A byte stream cut into lines, none longer than a bound.

/// Most bytes of one line of a model server's stream.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A line that does not end within [`MAX_LINE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTooLong;

/// Collects pieces until a line is whole. Holds at most one line and one piece.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the part of the buffer that was not given out begins.
    start: usize,
    /// Up to where it was searched for a line's end.
    searched: usize,
    max: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_max(MAX_LINE_BYTES)
    }
}

impl Lines {
    /// Lines of at most `max` bytes.
    pub fn with_max(max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            max,
        }
    }

    /// Adds a piece. Take all lines with [`Lines::next_line`] before the next one.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole line, without its LF or CRLF.
    ///
    /// # Errors
    /// [`LineTooLong`]; the stream can't be followed any further then.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let end = self.buffer[self.searched..]
            .iter()
            .position(|b| *b == b'\n')
            .map(|at| self.searched + at);
        let length = end.unwrap_or(self.buffer.len()) - self.start;
        if length > self.max {
            return Err(LineTooLong);
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = &self.buffer[self.start..end];
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// What is left at the end of the stream: a line without its end.
    pub fn rest(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.start);
        self.buffer.clear();
        (self.start, self.searched) = (0, 0);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut got = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(line) = lines.next_line()? {
                got.push(line.to_vec());
            }
        }
        got.push(lines.rest());
        Ok(got)
    }

    proptest::proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_stream_was_cut(
            bytes in proptest::collection::vec(proptest::sample::select(b"ab\r\n".to_vec()), 0..60),
            size in 1usize..9,
        ) {
            let whole = all(&mut Lines::default(), &[&bytes]).unwrap();
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            proptest::prop_assert_eq!(&all(&mut Lines::default(), &pieces).unwrap(), &whole);
            let text = String::from_utf8(bytes).unwrap();
            let mut expected: Vec<&str> = text.split('\n').collect();
            let rest = expected.pop().unwrap();
            let mut expected: Vec<Vec<u8>> = expected
                .into_iter()
                .map(|l| l.strip_suffix('\r').unwrap_or(l).into())
                .collect();
            expected.push(rest.into());
            proptest::prop_assert_eq!(whole, expected);
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_is_kept() {
        let mut lines = Lines::with_max(10);
        assert_eq!(
            all(&mut lines, &[b"0123456789\n", b"01234", b"567890"]),
            Err(LineTooLong)
        );
        assert!(lines.buffer.len() < 20);
    }
}
