//! A hash over each row's fields, written with the row and checked whenever it is read: SQLite's
//! own `integrity_check` passes a flipped byte in a text or a number.
//!
//! The first eight bytes of SHA-256 over the table's letter and the fields in a fixed order. It is
//! there against decay, not against an attacker (who could write a new sum).

use sha2::{Digest, Sha256};

use super::fault::Fault;

/// Gathers a row's fields.
pub(super) struct Sum(Sha256);

/// Which table a row is in: a row read from the wrong one does not pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Meta,
    Names,
    Tasks,
    Bodies,
    Contents,
    Attempts,
    Choices,
    Learned,
    Messages,
    MessageTexts,
    Results,
    Outputs,
    AuditChain,
    Nonces,
    Signers,
}

impl Table {
    const fn letter(self) -> u8 {
        match self {
            Self::Meta => b'm',
            Self::Names => b'n',
            Self::Tasks => b't',
            Self::Bodies => b'b',
            Self::Contents => b'c',
            Self::Attempts => b'a',
            Self::Choices => b'w',
            Self::Learned => b'l',
            Self::Messages => b'p',
            Self::MessageTexts => b'q',
            Self::Results => b'r',
            Self::Outputs => b'o',
            Self::AuditChain => b'h',
            Self::Signers => b's',
            Self::Nonces => b'x',
        }
    }
}

impl Sum {
    pub(super) fn new(table: Table) -> Self {
        Self(Sha256::new_with_prefix([table.letter()]))
    }

    pub(super) fn int(mut self, value: i64) -> Self {
        self.0.update(value.to_le_bytes());
        self
    }

    pub(super) fn opt_int(mut self, value: Option<i64>) -> Self {
        self.0.update([u8::from(value.is_some())]);
        self.int(value.unwrap_or_default())
    }

    /// The length goes first, so that text cannot move from one field into the next.
    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    pub(super) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn opt_text(mut self, value: Option<&str>) -> Self {
        self.0.update([u8::from(value.is_some())]);
        self.text(value.unwrap_or_default())
    }

    pub(super) fn finish(self) -> i64 {
        let hash = self.0.finalize();
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(hash.iter()) {
            *to = *from;
        }
        i64::from_le_bytes(first)
    }

    /// Compares with the sum that was stored; `row` names the row in the error.
    pub(super) fn check(self, stored: i64, row: impl FnOnce() -> String) -> Result<(), Fault> {
        if self.finish() == stored {
            Ok(())
        } else {
            Err(Fault::damaged(row()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_fields_tables_and_absence_apart() {
        let of = |a: &str, b: &str| Sum::new(Table::Tasks).text(a).text(b).finish();
        assert_ne!(of("ab", "c"), of("a", "bc"));
        assert_ne!(
            Sum::new(Table::Tasks).opt_int(None).finish(),
            Sum::new(Table::Tasks).opt_int(Some(0)).finish()
        );
        assert_ne!(
            Sum::new(Table::Tasks).opt_text(None).finish(),
            Sum::new(Table::Tasks).opt_text(Some("")).finish()
        );
        assert_ne!(
            Sum::new(Table::Tasks).int(1).finish(),
            Sum::new(Table::Names).int(1).finish()
        );
    }

    #[test]
    fn stays_what_it_is_on_disks() {
        let sum = Sum::new(Table::Names).int(7).text("general");
        assert_eq!(sum.finish(), 7_423_268_438_452_491_469);
    }
}
