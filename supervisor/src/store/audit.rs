//! The trail, as the store gives it.

use std::collections::BTreeMap;

use deia::api::{AuditAction, AuditLevel, AuditResult};
use deia::time::Timestamp;

use super::{Op, Outcome};
use crate::audit::{Entry, Hash, Link};

/// An act and the record of it.
#[derive(Debug, Clone)]
pub struct Audited {
    /// The act.
    pub op: Op,
    /// Its record, written only where the act changes something. Of an [`Op::Expire`] it is written for each
    /// task, whose name is the target.
    pub entry: Entry,
}

/// A record in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place.
    pub seq: i64,
    /// What it says.
    pub entry: Entry,
    /// The hash before it.
    pub previous: Hash,
    /// Its hash.
    pub hash: Hash,
}

/// Which records. `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this action.
    pub action: Option<AuditAction>,
    /// By these.
    pub actor: Option<String>,
    /// To this.
    pub target: Option<String>,
    /// Of this level.
    pub level: Option<AuditLevel>,
    /// With this result.
    pub result: Option<AuditResult>,
    /// Not older.
    pub since: Option<Timestamp>,
}

/// Some of the records that were asked for, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecord>,
    /// Places of records that are not what was written: they are not served.
    pub damaged: Vec<i64>,
    /// Where to go on, if there may be more: `before` of the next question. A page with room left
    /// looked at as many as one reads at a time.
    pub next: Option<i64>,
}

/// Records in figures, gathered in portions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditTally {
    /// The last one that was counted.
    pub after: i64,
    /// All are.
    pub complete: bool,
    /// How many.
    pub total: u64,
    /// The times of the first and the last.
    pub range: Option<(Timestamp, Timestamp)>,
    /// By action.
    pub actions: BTreeMap<String, u64>,
    /// By actor.
    pub actors: BTreeMap<String, u64>,
    /// By level.
    pub levels: BTreeMap<String, u64>,
    /// By result.
    pub results: BTreeMap<String, u64>,
}

/// Actors that are counted apart; the others together.
pub const MAX_TALLIED_ACTORS: usize = 1_000;

/// Who is counted together.
pub const OTHER_ACTORS: &str = "(others)";

impl AuditTally {
    /// One more.
    pub fn count(&mut self, seq: i64, entry: &Entry) {
        self.after = seq;
        self.total += 1;
        let oldest = self.range.map_or(entry.at, |(oldest, _)| oldest);
        self.range = Some((oldest, entry.at));
        let more = |counts: &mut BTreeMap<String, u64>, name: &str| match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        };
        more(&mut self.actions, entry.action.as_str());
        more(&mut self.levels, entry.level.as_str());
        more(&mut self.results, entry.result.as_str());
        let actor = entry.actor.name();
        let is_one_more = !self.actors.contains_key(actor);
        let actor = match is_one_more && self.actors.len() >= MAX_TALLIED_ACTORS {
            true => OTHER_ACTORS,
            false => actor,
        };
        more(&mut self.actors, actor);
    }
}

/// What became of a record that stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its place and its hash.
    pub link: Link,
}

/// Whether there is something to record.
pub(super) fn changed_something(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Submitted { .. }
        | Outcome::Unreadable
        | Outcome::Leased { .. }
        | Outcome::Finished { .. }
        | Outcome::Cancelled(_)
        | Outcome::Requeued(_)
        | Outcome::Learned
        | Outcome::Sent
        | Outcome::Recorded(_) => true,
        Outcome::Released { count } | Outcome::Removed { count } => *count > 0,
        Outcome::Promoted { ready, .. } => !ready.is_empty(),
        Outcome::Delivered { ids, .. } => !ids.is_empty(),
        Outcome::Message { .. } | Outcome::Messages(_) | Outcome::MessagesExpired { .. } => true,
        Outcome::Expired(expired) => !expired.is_empty(),
        Outcome::Duplicate(_)
        | Outcome::Conflict
        | Outcome::Gone
        | Outcome::NotQueued { .. }
        | Outcome::InboxFull { .. }
        | Outcome::Nonce(_)
        | Outcome::NoncesGuarded { .. }
        | Outcome::Probed => false,
    }
}

/// The records that an act comes to.
pub(super) fn entries_of(entry: &Entry, outcome: &Outcome, mut each: impl FnMut(&Entry)) {
    match outcome {
        Outcome::Expired(expired) => {
            for ready in expired {
                each(&Entry {
                    target: ready.id.to_shared(),
                    ..entry.clone()
                });
            }
        }
        outcome if changed_something(outcome) => each(entry),
        _ => {}
    }
}
