//! Bytes of a stream as text: decoded piece by piece, cut without breaking a character, and the
//! tail of a long text.

use std::collections::VecDeque;

/// Decodes UTF-8 that arrives in pieces; what is not UTF-8 becomes U+FFFD, as in
/// [`String::from_utf8_lossy`] over the whole.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a character whose rest has not arrived: at most 3 bytes.
    pending: Vec<u8>,
}

impl Decoder {
    /// The text of `bytes`, after what was pending.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        let mut out = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        let mut rest = Vec::new();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && could_grow(invalid) {
                rest = invalid.to_vec();
            } else {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending = rest;
        out
    }

    /// The end: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending).is_empty() {
            ""
        } else {
            "\u{FFFD}"
        }
    }
}

/// Whether more bytes could make these a character.
fn could_grow(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(e) if e.error_len().is_none())
}

/// The longest prefix of `text` of at most `max` bytes that ends between characters.
pub fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// The longest suffix of `text` of at most `max` bytes that begins between characters.
pub fn suffix(text: &str, max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(max))..]
}

/// The last bytes of a stream, bounded.
#[derive(Debug)]
pub struct Tail {
    bytes: VecDeque<u8>,
    max: usize,
}

impl Tail {
    /// Keeps at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            max,
        }
    }

    /// Adds bytes, forgetting the oldest.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.max)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(self.max);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes);
    }

    /// What is kept, as text.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        // The cut may have gone through a character: its continuation bytes say nothing.
        let start = bytes
            .iter()
            .take(3)
            .take_while(|b| **b & 0xC0 == 0x80)
            .count();
        String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn pieces_decode_as_the_whole_does(
            bytes in proptest::collection::vec(proptest::sample::select(
                vec![b'a', 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xA6, 0x80, 0xFF]), 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut decoder = Decoder::default();
            let (mut got, mut from) = (String::new(), 0);
            for cut in cuts {
                got.push_str(&decoder.push(&bytes[from..cut]));
                from = cut;
            }
            got.push_str(decoder.finish());
            proptest::prop_assert_eq!(got, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_tail_is_the_end(text in "[a-zé€🦀]{0,40}", max in 1usize..20, cut in 0usize..20) {
            let mut tail = Tail::new(max);
            let (a, b) = text.as_bytes().split_at(cut.min(text.len()));
            tail.push(a);
            tail.push(b);
            proptest::prop_assert_eq!(tail.text(), suffix(&text, max));
        }
    }

    #[test]
    fn cuts_fall_between_characters() {
        assert_eq!(prefix("aé", 2), "a");
        assert_eq!(suffix("éa", 2), "a");
        assert_eq!(suffix("éa", 9), "éa");
    }
}
