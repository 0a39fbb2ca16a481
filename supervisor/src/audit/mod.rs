//! Who did what to what, when, from where, with what result.
//!
//! ```text
//!   who asks --> Actor --Command::As--> main loop --Op::Audited, Op::Record--> store: the act and its record,
//!   (http, signals)                        |                                    one transaction
//!                                          '<-- committed: only now is the client answered
//!   store's head --> keeper: audit.jsonl (masked), checkpoints (log, audit-head.json)
//!   check: the chain from its anchor to its head, in portions, on a reading connection
//! ```
//!
//! A record is never changed. Its hash covers all of it and the hash before, so that what is edited,
//! removed, put elsewhere or added breaks the chain at a place that can be named. There is no secret in
//! it: who can write the whole store can write a new chain, and that is what checkpoints are for, in
//! the journal and outside of the store.
//!
//! Pure but for `keeper.rs`, `recorder.rs` and `users.rs`: times, hashes and rows come in as arguments.

mod actor;
mod chain;
mod check;
mod entry;
mod keeper;
mod recorder;
mod users;

pub use actor::{Actor, Who};
pub use chain::{GENESIS, Hash, Link, entry_id, hash_of, hex, unhex};
pub use check::{Anchor, Bad, Check, MAX_BAD_NAMED};
pub use entry::{Entry, Pruned, cut};
pub use keeper::{CHECKPOINT_INTERVAL, CHECKPOINT_RECORDS, Keeper, Parts, last_checkpoint};
pub use recorder::{OnRecord, Recorder};
