//! The proof that a trail is whole: from its anchor to its head, record by record, and as far as the last
//! checkpoint. Fed in portions, so that nobody waits for it.

use super::chain::{Hash, Link, entry_id, hash_of};
use super::entry::{Entry, Pruned};
use deia::api::{AuditAction, AuditSource};

/// Bad records that are named; more are counted.
pub const MAX_BAD_NAMED: usize = 100;

/// What stands for the records that were removed because of their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Anchor {
    /// The last one removed.
    pub link: Link,
    /// How many were removed, ever.
    pub removed: u64,
}

/// Where the trail breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The record's place.
    pub seq: i64,
    /// The name it has now, where it is there.
    pub entry_id: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

/// A verification under way.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// The last record that was looked at, as it says itself.
    at: Option<Link>,
    /// The row before was missing, so that this one's hash can't be computed.
    after_gap: bool,
    anchor: Anchor,
    /// What the newest record of a removal says.
    pruned: Option<Pruned>,
    /// The last record that is known outside of the store.
    checkpoint: Option<Link>,
    head: Link,
    looked_at: u64,
    invalid: u64,
    bad: Vec<Bad>,
    scratch: Vec<u8>,
}

impl Check {
    /// Against the last checkpoint, where there is one.
    pub fn new(checkpoint: Option<Link>) -> Self {
        Self {
            checkpoint,
            ..Self::default()
        }
    }

    /// A portion begins: where the chain begins and ends now. Gives the place after which it goes on.
    pub fn portion(&mut self, anchor: Anchor, head: Link) -> i64 {
        self.head = head;
        self.anchor = anchor;
        let at = *self.at.get_or_insert(anchor.link);
        // Meanwhile more were removed than had been looked at.
        if anchor.link.seq > at.seq {
            self.at = Some(anchor.link);
            self.after_gap = false;
        }
        self.at.unwrap_or(anchor.link).seq
    }

    /// The next record, in order, with the hash it has.
    pub fn take(&mut self, seq: i64, entry: &Entry, stored: Hash) {
        let before = self.step(seq);
        if !self.after_gap {
            let computed = hash_of(&before.hash, seq, entry, &mut self.scratch);
            if computed != stored {
                self.invalid += 1;
                self.add(
                    seq,
                    Some(&stored),
                    "it is not what was written, or not where it was written",
                );
            }
        }
        self.went_to(seq, stored);
        if entry.action == AuditAction::AuditPruned && entry.source == AuditSource::Daemon {
            self.pruned = entry.details.as_deref().and_then(Pruned::from_text);
        }
    }

    /// The next one, which can't be read as a record.
    pub fn take_unreadable(&mut self, seq: i64, stored: Option<Hash>, why: &str) {
        self.step(seq);
        self.invalid += 1;
        self.add(seq, stored.as_ref(), why);
        self.went_to(seq, stored.unwrap_or_default());
        self.after_gap = stored.is_none();
    }

    /// Everything was looked at.
    pub fn finish(&mut self) {
        let at = self.at.unwrap_or(self.anchor.link);
        if at.seq < self.head.seq {
            let why = format!("it is missing: the trail reached record {}", self.head.seq);
            self.add(at.seq + 1, None, &why);
        } else if at.seq > self.head.seq {
            let why = format!("it was added: the trail ends at record {}", self.head.seq);
            self.add(self.head.seq + 1, None, &why);
        } else if at.hash != self.head.hash {
            self.add(
                at.seq,
                Some(&at.hash),
                "it is not the last record that was written",
            );
        }
        if let Some(checkpoint) = self.checkpoint.filter(|known| known.seq > at.seq) {
            let why = format!(
                "it is missing: a checkpoint outside of the store knows record {}",
                checkpoint.seq
            );
            self.add(at.seq + 1, None, &why);
        }
        let said = self.pruned.map(|pruned| (pruned.link, pruned.removed));
        let anchor = (self.anchor.link, self.anchor.removed);
        // Where something else is wrong, the record that speaks of the anchor may be what was changed.
        if self.bad.is_empty() && self.anchor.link.seq > 0 && said != Some(anchor) {
            let why = format!(
                "it is missing: that all up to record {} was removed for its age is said by the anchor and by no record",
                self.anchor.link.seq
            );
            let first = self.pruned.map_or(0, |pruned| pruned.link.seq) + 1;
            self.add(first.min(self.anchor.link.seq), None, &why);
        }
        self.bad.sort_by_key(|bad| bad.seq);
    }

    /// What is wrong, the first first; at most [`MAX_BAD_NAMED`].
    pub fn bad(&self) -> &[Bad] {
        &self.bad
    }

    /// Records that were looked at.
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Records that are not what was written.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }

    /// Where the chain begins.
    pub fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Where it ends.
    pub fn head(&self) -> Link {
        self.head
    }

    /// The checkpoint it was compared with.
    pub fn checkpoint(&self) -> Option<Link> {
        self.checkpoint
    }

    /// What stands before `seq`; names what is missing there.
    fn step(&mut self, seq: i64) -> Link {
        self.looked_at += 1;
        let before = self.at.unwrap_or(self.anchor.link);
        if seq > before.seq + 1 {
            let last = seq - 1;
            let why = match last - before.seq {
                1 => "it is missing".to_owned(),
                _ => format!("it is missing, and all up to record {last}"),
            };
            self.add(before.seq + 1, None, &why);
            self.after_gap = true;
        }
        before
    }

    fn went_to(&mut self, seq: i64, hash: Hash) {
        self.after_gap = false;
        self.at = Some(Link { seq, hash });
        if let Some(known) = self.checkpoint
            && known.seq == seq
            && known.hash != hash
        {
            let why = "a checkpoint outside of the store knows another record here: this one, or one before it, was written anew";
            self.add(seq, Some(&hash), why);
        }
    }

    fn add(&mut self, seq: i64, stored: Option<&Hash>, why: &str) {
        let known = self.bad.iter().any(|bad| bad.seq == seq);
        if self.bad.len() < MAX_BAD_NAMED && !known {
            self.bad.push(Bad {
                seq,
                entry_id: stored.map(entry_id),
                why: why.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;
    use deia::time::Timestamp;

    type Row = (i64, Entry, Hash);

    fn chain(n: i64) -> Vec<Row> {
        let mut link = Link::default();
        (1..=n)
            .map(|seq| {
                let at = Timestamp::from_micros(seq);
                let action = AuditAction::ApiCall;
                let entry = Entry::new(at, action, Actor::DAEMON, format!("t{seq}"));
                let hash = hash_of(&link.hash, seq, &entry, &mut Vec::new());
                link = Link { seq, hash };
                (seq, entry, hash)
            })
            .collect()
    }

    fn link(row: &Row) -> Link {
        Link {
            seq: row.0,
            hash: row.2,
        }
    }

    fn check(rows: &[Row], anchor: Anchor, head: Link, known: Option<Link>) -> Check {
        let mut check = Check::new(known);
        // In portions of three.
        loop {
            let after = check.portion(anchor, head);
            let portion: Vec<&Row> = rows.iter().filter(|r| r.0 > after).take(3).collect();
            if portion.is_empty() {
                break;
            }
            for (seq, entry, hash) in portion {
                check.take(*seq, entry, *hash);
            }
        }
        check.finish();
        check
    }

    #[test]
    fn a_whole_chain_passes_and_an_empty_one_too() {
        let rows = chain(10);
        let head = link(&rows[9]);
        let done = check(&rows, Anchor::default(), head, Some(link(&rows[4])));
        assert_eq!((done.bad(), done.looked_at()), (&[][..], 10));
        let empty = check(&[], Anchor::default(), Link::default(), None);
        assert_eq!((empty.bad(), empty.looked_at()), (&[][..], 0));
    }

    #[test]
    fn what_a_checkpoint_knows_is_missed() {
        let rows = chain(10);
        // The head was put back with the rows: only the checkpoint knows.
        let done = check(
            &rows[..6],
            Anchor::default(),
            link(&rows[5]),
            Some(link(&rows[9])),
        );
        assert_eq!(done.bad()[0].seq, 7);
        // Written anew from the fifth on, head and all.
        let mut other = chain(10);
        for i in 4..10 {
            let before = other[i - 1].2;
            other[i].1.target = "x".into();
            other[i].2 = hash_of(&before, other[i].0, &other[i].1, &mut Vec::new());
        }
        let head = link(&other[9]);
        let known = Some(link(&rows[7]));
        assert_eq!(
            check(&other, Anchor::default(), head, known).bad()[0].seq,
            8
        );
        assert!(
            check(&other, Anchor::default(), head, None)
                .bad()
                .is_empty()
        );
    }

    #[test]
    fn an_anchor_that_no_record_speaks_of_is_none() {
        let rows = chain(10);
        let anchor = Anchor {
            link: link(&rows[2]),
            removed: 3,
        };
        let done = check(&rows[3..], anchor, link(&rows[9]), None);
        assert_eq!(done.bad()[0].seq, 1);
        assert_eq!(done.invalid(), 0);
    }
}
