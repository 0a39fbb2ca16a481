//! What waits for the writer: bounded in operations and in bytes, taken in order, as much at a time
//! as fits into one transaction. Group commit comes from here: while one transaction is synced,
//! the next one gathers.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{End, MAX_OPS_PER_COMMIT, MAX_PENDING_OPS, NewMessage, Op, Ticket};

/// Bytes of texts that may wait; one batch may always.
pub(super) const MAX_PENDING_BYTES: usize = 256 << 20;

/// Bytes of texts in one transaction, so that the write-ahead log stays bounded; one operation
/// may always.
pub(super) const MAX_BYTES_PER_COMMIT: usize = 8 << 20;

/// Room for operations kept while none waits: a burst's memory is given back.
const KEPT_CAPACITY: usize = 1_024;

type Batch = Vec<(Ticket, Op)>;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ops: VecDeque<(Ticket, Op)>,
    bytes: usize,
    ended: Ended,
}

#[derive(Default, PartialEq, Eq)]
enum Ended {
    #[default]
    No,
    Yes,
}

/// What the writer is to do next.
pub(super) enum Taken {
    /// Commit these.
    Batch(Batch),
    /// Nothing came for the time it was willing to wait.
    Idle,
    /// Nothing more will come.
    Ended,
}

impl Queue {
    /// All of the batch or nothing of it.
    pub(super) fn push(&self, batch: Batch) -> Result<(), Batch> {
        let bytes: usize = batch.iter().map(|(_, op)| bytes_of(op)).sum();
        let mut state = self.lock();
        let full = state.ops.len() + batch.len() > MAX_PENDING_OPS
            || (!state.ops.is_empty() && state.bytes + bytes > MAX_PENDING_BYTES);
        if full || state.ended == Ended::Yes {
            return Err(batch);
        }
        state.bytes += bytes;
        state.ops.extend(batch);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for operations; no longer than `patience`, where one is given.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let mut state = self.lock();
        while state.ops.is_empty() {
            if state.ended == Ended::Yes {
                return Taken::Ended;
            }
            let Some(patience) = patience else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (back, waited) = self
                .changed
                .wait_timeout(state, patience)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            if waited.timed_out() && state.ops.is_empty() && state.ended == Ended::No {
                return Taken::Idle;
            }
        }
        Taken::Batch(state.next_transaction())
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().ops.is_empty()
    }

    /// Refuses what comes from now on; what is in it is still taken.
    pub(super) fn end(&self) {
        self.lock().ended = Ended::Yes;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_transaction(&mut self) -> Batch {
        let mut bytes = 0;
        let mut count = 0;
        for (_, op) in self.ops.iter().take(MAX_OPS_PER_COMMIT) {
            let more = bytes_of(op);
            if count > 0 && bytes + more > MAX_BYTES_PER_COMMIT {
                break;
            }
            bytes += more;
            count += 1;
        }
        self.bytes -= bytes;
        let batch = self.ops.drain(..count).collect();
        if self.ops.is_empty() {
            self.ops.shrink_to(KEPT_CAPACITY);
        }
        batch
    }
}

/// The texts a client or a bot decides the size of.
fn bytes_of(op: &Op) -> usize {
    match op {
        Op::Submit(task, _) => task.content.len() + task.metadata.as_ref().map_or(0, String::len),
        Op::Finish {
            end: End::Succeeded(result),
            ..
        } => result.output.len(),
        Op::Send { messages, .. } => {
            let metadata = |m: &NewMessage| m.metadata.as_ref().map_or(0, String::len);
            messages.iter().map(|m| m.content.len() + metadata(m)).sum()
        }
        Op::Audited(audited) => bytes_of(&audited.op) + audited.entry.bytes(),
        Op::Record(entry) => entry.bytes(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TaskResult;
    use deia::task::Fence;
    use deia::time::Timestamp;

    fn probes(count: usize) -> Batch {
        (0..count as u64)
            .map(|ticket| (ticket, Op::Probe))
            .collect()
    }

    fn large(bytes: usize) -> Op {
        Op::Finish {
            seq: 1,
            fence: Fence {
                epoch: 1,
                attempt: 1,
            },
            started_at: None,
            choice: None,
            at: Timestamp::from_micros(0),
            end: End::Succeeded(Box::new(TaskResult {
                output: "x".repeat(bytes),
                truncated: false,
                usage: deia::wire::Usage::default(),
                backend: "echo".into(),
                model: None,
            })),
        }
    }

    fn taken(queue: &Queue) -> Batch {
        match queue.take(Some(Duration::ZERO)) {
            Taken::Batch(batch) => batch,
            Taken::Idle | Taken::Ended => Vec::new(),
        }
    }

    #[test]
    fn refuses_a_batch_whole_when_full_and_gives_it_back() {
        let queue = Queue::default();
        assert!(queue.push(probes(MAX_PENDING_OPS - 1)).is_ok());
        assert_eq!(queue.push(probes(2)).unwrap_err().len(), 2);
        assert!(queue.push(probes(1)).is_ok());
        assert_eq!(taken(&queue).len(), MAX_OPS_PER_COMMIT);
        assert!(queue.push(probes(MAX_OPS_PER_COMMIT)).is_ok());
    }

    #[test]
    fn keeps_order_and_bounds_a_transactions_bytes() {
        let queue = Queue::default();
        let batch = vec![
            (1, large(MAX_BYTES_PER_COMMIT + 1)),
            (2, large(MAX_BYTES_PER_COMMIT - 1)),
            (3, Op::Probe),
            (4, large(2)),
        ];
        assert!(queue.push(batch).is_ok());
        let tickets = |batch: Batch| batch.into_iter().map(|(t, _)| t).collect::<Vec<_>>();
        assert_eq!(tickets(taken(&queue)), [1]);
        assert_eq!(tickets(taken(&queue)), [2, 3]);
        assert_eq!(tickets(taken(&queue)), [4]);
    }

    #[test]
    fn hands_out_what_it_has_after_its_end_and_takes_no_more() {
        let queue = Queue::default();
        assert!(queue.push(probes(1)).is_ok());
        queue.end();
        assert!(queue.push(probes(1)).is_err());
        assert_eq!(taken(&queue).len(), 1);
        assert!(matches!(queue.take(None), Taken::Ended));
    }
}
