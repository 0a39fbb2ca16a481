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

/// Whether `text` contains one of [`FORBIDDEN_WORDS`] in any case (ASCII).
pub fn is_forbidden(text: &str) -> bool {
    let bytes = text.as_bytes();
    FORBIDDEN_WORDS.iter().any(|word| {
        bytes
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// `text` itself, or `#` and 8 hex digits of its hash where the rule forbids it.
pub fn mask(text: &str) -> Cow<'_, str> {
    if !is_forbidden(text) {
        return Cow::Borrowed(text);
    }
    let digest = Sha256::digest(text.as_bytes());
    Cow::Owned(format!(
        "#{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_only_what_the_rule_names() {
        assert_eq!(mask("main-bot"), "main-bot");
        for text in ["API_KEY", "my-Token-7", "PASSWORD", "monkey"] {
            let masked = mask(text);
            assert_eq!(masked.len(), 9, "{masked}");
            assert!(masked.starts_with('#'));
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
