//! The rule about words that never appear in a log file.
//!
//! The deployment checklist greps `.deia/bot-logs/` for `password`, `token` and `key` and expects
//! nothing, whatever a client sends. Texts of users never go there at all; an outside *name* (an id,
//! a configuration key, an error) that contains one of the words is written as `#` and 8 hex digits
//! of its SHA-256, so that two lines about the same name can still be matched. Over-masking is fine:
//! "monkey" is masked too.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// The words, in lower case; matched anywhere, in any case.
pub const FORBIDDEN_WORDS: [&str; 3] = ["password", "token", "key"];

/// Whether `text` contains one of [`FORBIDDEN_WORDS`] in any case, as `grep -i` in a UTF-8 locale
/// sees it: the Kelvin sign is a `k` and the long s an `s` there. One pass: every log line goes through.
pub fn is_forbidden(text: &str) -> bool {
    if !text.is_ascii() && text.contains(['\u{212a}', '\u{17f}']) {
        let folded = text.replace('\u{212a}', "k").replace('\u{17f}', "s");
        return has_word(folded.as_bytes());
    }
    has_word(text.as_bytes())
}

fn has_word(bytes: &[u8]) -> bool {
    let begins = |rest: &[u8], word: &str| {
        rest.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    bytes.iter().enumerate().any(|(i, byte)| match byte {
        b'p' | b'P' => begins(&bytes[i..], "password"),
        b't' | b'T' => begins(&bytes[i..], "token"),
        b'k' | b'K' => begins(&bytes[i..], "key"),
        _ => false,
    })
}

/// `text` itself, or [`digest`] of it where the rule forbids it.
pub fn mask(text: &str) -> Cow<'_, str> {
    if is_forbidden(text) {
        Cow::Owned(digest(text))
    } else {
        Cow::Borrowed(text)
    }
}

/// `#` and 8 hex digits of the text's SHA-256: what stands for a text that must not be written.
pub fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    format!(
        "#{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_only_what_the_rule_names() {
        assert_eq!(mask("main-bot"), "main-bot");
        for text in [
            "API_KEY",
            "my-Token-7",
            "PASSWORD",
            "monkey",
            "to\u{212a}en",
            "pa\u{17f}sword",
        ] {
            let masked = mask(text);
            assert_eq!(masked.len(), 9, "{masked}");
            assert!(masked.starts_with('#'));
        }
    }

    proptest::proptest! {
        /// Against the plain reading of the rule.
        #[test]
        fn one_pass_finds_what_many_find(text in "([a-c]|key|KeY|to|ken|tok|pass|word|e|y|p|\u{e9}){0,12}") {
            let lower = text.to_lowercase();
            let expected = FORBIDDEN_WORDS.iter().any(|word| lower.contains(word));
            proptest::prop_assert_eq!(is_forbidden(&text), expected);
        }
    }

    #[test]
    fn the_same_name_masks_to_the_same_text() {
        assert_eq!(mask("token-a"), mask("token-a"));
        assert_ne!(mask("token-a"), mask("token-b"));
    }

    #[test]
    fn hashes_are_hexadecimal_so_they_cannot_spell_a_word() {
        for n in 0..1000 {
            assert!(!is_forbidden(&mask(&format!("token{n}"))));
        }
    }
}
