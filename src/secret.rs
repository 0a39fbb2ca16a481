//! A secret's text: never printed, taken out of what is, and wiped when it is let go.

use std::fmt;

use zeroize::Zeroizing;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// A line of a secret of several lines counts as secret by itself from so many bytes on.
const MIN_LINE_BYTES: usize = 8;

/// A piece of a secret at a cut counts from so many bytes on.
const MIN_PIECE_BYTES: usize = 4;

/// A secret's text. `Debug` shows nothing of it, there is no `Display`; its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over: nothing of it is left elsewhere.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with this secret blacked out; of one of several lines (a key in PEM) each line, too.
    pub fn redact(&self, text: &str) -> String {
        if self.0.trim().is_empty() {
            return text.to_owned();
        }
        let mut text = text.replace(self.expose(), REDACTED);
        if self.0.contains('\n') {
            let lines = self.0.lines().map(str::trim);
            for line in lines.filter(|line| line.len() >= MIN_LINE_BYTES) {
                text = text.replace(line, REDACTED);
            }
        }
        text
    }

    /// The same of a piece of a longer text, which may begin or end in the middle of the secret.
    pub fn redact_piece(&self, text: &str) -> String {
        let text = self.redact(text);
        let (head, tail) = (self.piece_at_start(&text), self.piece_at_end(&text));
        if head + tail >= text.len() && head + tail > 0 {
            return REDACTED.to_owned();
        }
        let kept = &text[head..text.len() - tail];
        let black = |bytes| if bytes > 0 { REDACTED } else { "" };
        format!("{}{kept}{}", black(head), black(tail))
    }

    /// Bytes at the beginning of `text` that end the secret.
    fn piece_at_start(&self, text: &str) -> usize {
        let secret = self.expose();
        let starts = secret.char_indices().skip(1).map(|(at, _)| at);
        starts
            .map(|at| &secret[at..])
            .find(|end| end.len() >= MIN_PIECE_BYTES && text.starts_with(end))
            .map_or(0, str::len)
    }

    /// Bytes at the end of `text` that begin the secret.
    fn piece_at_end(&self, text: &str) -> usize {
        let secret = self.expose();
        let ends = secret.char_indices().skip(1).map(|(at, _)| at);
        ends.filter(|at| *at >= MIN_PIECE_BYTES && text.ends_with(&secret[..*at]))
            .last()
            .unwrap_or(0)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[test]
    fn nothing_shows_it() {
        let shown = format!("{:?}", secret("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn it_is_blacked_out_wherever_it_stands() {
        let key = secret("s3cret-4567");
        assert_eq!(
            key.redact("it is s3cret-4567, s3cret-4567!"),
            "it is [redacted], [redacted]!"
        );
        assert_eq!(secret("").redact("as it was"), "as it was");
        assert_eq!(secret(" \n").redact("as it \n was"), "as it \n was");
    }

    #[test]
    fn each_line_of_a_long_one_is_blacked_out() {
        let pem = secret("-----BEGIN K-----\nMIIBVwIBADANBgkq\nAgEAAkEAq7BFUpkG\n-----END K-----");
        let said = pem.redact("bad key: MIIBVwIBADANBgkq\r\n and AgEAAkEAq7BFUpkG.");
        assert_eq!(said, "bad key: [redacted]\r\n and [redacted].");
    }

    #[test]
    fn a_cut_through_it_leaves_no_half() {
        let key = secret("s3cret-é4567");
        for cut in 1..key.expose().chars().count() {
            let (a, b): (String, String) = {
                let chars: Vec<char> = key.expose().chars().collect();
                (chars[..cut].iter().collect(), chars[cut..].iter().collect())
            };
            let (first, second) = (
                key.redact_piece(&format!("it is {a}")),
                key.redact_piece(&format!("{b} it was")),
            );
            if a.len() >= MIN_PIECE_BYTES {
                assert_eq!(first, "it is [redacted]", "{cut}");
            }
            if b.len() >= MIN_PIECE_BYTES {
                assert_eq!(second, "[redacted] it was", "{cut}");
            }
        }
        assert_eq!(key.redact_piece("s3cret-"), REDACTED);
        assert_eq!(key.redact_piece("nothing of it"), "nothing of it");
    }
}
