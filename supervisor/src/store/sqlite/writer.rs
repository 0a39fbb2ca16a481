//! The writer thread: takes what waits, decides each operation, commits, reports.
//!
//! ```text
//! take -> BEGIN -> apply, apply, ... -> COMMIT (one fsync) -> publish counts -> report -> checkpoint?
//!            |                            |
//!            an operation fails:          I/O error: Broken, for these and all after
//!            roll back, do it again with
//!            a savepoint around each
//! ```
//!
//! Savepoints cost time and are needed only when a statement failed, which a healthy store never
//! does: so the first try has none. A second try decides again from what is on disk, so nothing of
//! the first is left. An operation whose *condition* does not hold is an outcome, not an error.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use tokio::sync::{mpsc, watch};

use super::engine::Engine;
use super::fault::{Fault, Reach};
use super::queue::{Queue, Taken};
use super::wal::Wal;
use crate::audit::Link;
use crate::store::letter;
use crate::store::{Committed, Op, Outcome, StatusCounts, StoreError, Ticket};

pub(super) struct Writer {
    pub(super) engine: Engine,
    pub(super) queue: Arc<Queue>,
    pub(super) committed: mpsc::Sender<Committed>,
    /// What is on disk, for readers.
    pub(super) published: Arc<Mutex<StatusCounts>>,
    /// The last record of the trail that is on disk.
    pub(super) head: watch::Sender<Link>,
    pub(super) wal: Wal,
    pub(super) state: State,
    /// Keeps other processes out until the connection above is closed.
    pub(super) _lock: File,
}

/// Whether the writer still acknowledges.
pub(super) enum State {
    Sound,
    /// Why not.
    Broken(Arc<str>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    None,
    PerOperation,
}

type Outcomes = Vec<Result<Outcome, StoreError>>;

impl Writer {
    /// Until the queue has ended and is empty.
    pub(super) fn run(mut self) {
        let _end = EndQueue(Arc::clone(&self.queue));
        loop {
            match self.queue.take(self.wal.patience()) {
                Taken::Batch(batch) => {
                    let committed = self.commit(batch);
                    deia::failpoint!("store.commit.after");
                    // A receiver that is gone has nobody left to tell; the work is still done.
                    let _ = self.committed.blocking_send(committed);
                    deia::failpoint!("store.reported");
                    self.checkpoint(Wal::after_commit);
                    if self.queue.is_empty() {
                        self.wal.make_room();
                    }
                }
                Taken::Idle => self.checkpoint(Wal::when_idle),
                Taken::Ended => break,
            }
        }
        self.checkpoint(Wal::at_close);
    }

    fn commit(&mut self, batch: Vec<(Ticket, Op)>) -> Committed {
        let tried = match &self.state {
            State::Broken(why) => Err(StoreError::Broken(Arc::clone(why))),
            State::Sound => self.transact(&batch).map_err(|fault| self.refusal(fault)),
        };
        let tickets = batch.into_iter().map(|(ticket, _)| ticket);
        match tried {
            Ok(outcomes) => tickets.zip(outcomes).collect(),
            Err(error) => tickets.map(|ticket| (ticket, Err(error.clone()))).collect(),
        }
    }

    fn transact(&mut self, batch: &[(Ticket, Op)]) -> Result<Outcomes, Fault> {
        let outcomes = match self.attempt(batch, Savepoints::None) {
            Err(fault) if fault.reach() == Reach::Operation => {
                self.attempt(batch, Savepoints::PerOperation)?
            }
            other => other?,
        };
        letter::post(batch, &outcomes);
        *self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.engine.counts;
        let head = self.engine.trail.chain.head;
        self.head
            .send_if_modified(|known| std::mem::replace(known, head) != head);
        Ok(outcomes)
    }

    /// One transaction, whole or not at all.
    fn attempt(
        &mut self,
        batch: &[(Ticket, Op)],
        savepoints: Savepoints,
    ) -> Result<Outcomes, Fault> {
        let before = self.engine.ahead();
        let outcomes = self.attempt_inner(batch, savepoints);
        if outcomes.is_err() {
            self.engine.put_back(before);
            // SQLite itself has rolled back after some errors.
            if !self.engine.conn.is_autocommit() {
                self.execute("ROLLBACK")?;
            }
        }
        outcomes
    }

    fn attempt_inner(
        &mut self,
        batch: &[(Ticket, Op)],
        savepoints: Savepoints,
    ) -> Result<Outcomes, Fault> {
        deia::failpoint!("store.begin");
        self.execute("BEGIN IMMEDIATE")?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (_, op) in batch {
            outcomes.push(match savepoints {
                Savepoints::None => Ok(self.engine.apply(op)?),
                Savepoints::PerOperation => self.apply_alone(op)?,
            });
            deia::failpoint!("store.applied");
        }
        self.engine.keep_chain()?;
        deia::failpoint!("store.commit.before");
        self.execute("COMMIT")?;
        Ok(outcomes)
    }

    /// An operation that cannot spoil the others.
    fn apply_alone(&mut self, op: &Op) -> Result<Result<Outcome, StoreError>, Fault> {
        let before = self.engine.ahead();
        self.execute("SAVEPOINT operation")?;
        let outcome = match self.engine.apply(op) {
            Ok(outcome) => Ok(outcome),
            Err(fault) if fault.reach() == Reach::Operation => {
                self.execute("ROLLBACK TO operation")?;
                self.engine.put_back(before);
                tracing::error!(event = "store_operation_failed", error = %fault);
                Err(fault.into_operation())
            }
            Err(fault) => return Err(fault),
        };
        self.execute("RELEASE operation")?;
        Ok(outcome)
    }

    fn checkpoint(&mut self, how: fn(&mut Wal, &rusqlite::Connection) -> Result<(), Fault>) {
        if matches!(self.state, State::Broken(_)) {
            return;
        }
        if let Err(fault) = how(&mut self.wal, &self.engine.conn) {
            let _ = self.refusal(fault);
        }
    }

    /// What callers are told of a fault; one that reaches the engine ends it.
    fn refusal(&mut self, fault: Fault) -> StoreError {
        if fault.reach() != Reach::Engine {
            tracing::error!(event = "store_write_failed", error = %fault);
            return fault.into_failed();
        }
        tracing::error!(event = "store_broken", error = %fault);
        // Closing must not copy pages of unknown fate into the database either.
        let _ = self
            .engine
            .conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        let why: Arc<str> = fault.to_string().into();
        self.state = State::Broken(Arc::clone(&why));
        StoreError::Broken(why)
    }

    fn execute(&self, sql: &'static str) -> Result<(), Fault> {
        self.engine.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// However the thread ends, also by a panic, nothing more is accepted.
struct EndQueue(Arc<Queue>);

impl Drop for EndQueue {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpointer::Checkpointer;
    use super::super::migrate::MIGRATIONS;
    use super::super::names::Names;
    use super::super::{files, open};
    use super::*;
    use crate::store::{Lease, NewTask, Ready};
    use deia::task::{Complexity, Priority, TaskStatus, TaskType};
    use deia::time::Timestamp;

    fn writer(home: &tempfile::TempDir) -> Writer {
        let path = home.path().join("deia.db");
        let lock = files::lock(&path).unwrap();
        let engine = open::engine(&path, MIGRATIONS).unwrap();
        Writer {
            published: Arc::new(Mutex::new(engine.counts)),
            head: watch::channel(engine.trail.chain.head).0,
            engine,
            queue: Arc::default(),
            committed: mpsc::channel(1).0,
            wal: Wal::new(&path, Checkpointer::start(&path).unwrap()),
            state: State::Sound,
            _lock: lock,
        }
    }

    fn submit(name: &str, bytes: usize) -> Op {
        let task = NewTask {
            id: name.parse().unwrap(),
            request_hash: [0; 32],
            content: "x".repeat(bytes).into(),
            priority: Priority::P2,
            task_type: TaskType::General,
            complexity: Complexity::Simple,
            required_capabilities: Vec::new(),
            bot_id: None,
            pool: None,
            demand: name.into(),
            max_attempts: 1,
            timeout_ms: 1,
            not_before: None,
            metadata: None,
            submitted_at: Timestamp::from_micros(0),
        };
        Op::Submit(Box::new(task), None)
    }

    fn outcomes(committed: Committed) -> Vec<Result<Outcome, StoreError>> {
        committed.into_iter().map(|(_, outcome)| outcome).collect()
    }

    #[test]
    fn a_full_disk_fails_what_it_hits_and_heals() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = writer(&home);
        writer.commit(vec![(1, submit("a", 10))]);
        let limit = |writer: &Writer, pages: i64| {
            let set = format!("PRAGMA max_page_count = {pages}");
            let ask = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            writer.engine.conn.query_row(&set, [], ask).unwrap();
        };
        limit(&writer, 1);
        let failed = outcomes(writer.commit(vec![(2, submit("b", 10)), (3, submit("c", 1 << 20))]));
        assert!(
            failed
                .iter()
                .all(|f| matches!(f, Err(StoreError::Failed(_)))),
            "{failed:?}"
        );
        assert_eq!(writer.engine.counts.of(TaskStatus::Queued), 1);
        limit(&writer, i64::from(u32::MAX) - 1);
        let healed = outcomes(writer.commit(vec![(2, submit("b", 10)), (3, submit("c", 1 << 20))]));
        assert!(
            matches!(
                healed.as_slice(),
                [
                    Ok(Outcome::Submitted { seq: 2 }),
                    Ok(Outcome::Submitted { seq: 3 })
                ]
            ),
            "{healed:?}"
        );
        assert_eq!(writer.published.lock().unwrap().of(TaskStatus::Queued), 3);
    }

    /// Shown to fail where one such row fails the whole operation: nothing was tried again, and nothing expired, any more.
    #[test]
    fn a_damaged_task_holds_up_no_other() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = writer(&home);
        let at = Timestamp::from_micros;
        let scheduled = |name, due| {
            let Op::Submit(mut task, lease) = submit(name, 10) else {
                unreachable!()
            };
            task.not_before = Some(at(due));
            Op::Submit(task, lease)
        };
        let ops = [
            submit("a", 10),
            submit("b", 10),
            scheduled("c", 2_000_000),
            scheduled("d", 3_000_000),
            scheduled("e", 9_000_000),
        ];
        writer.commit((1..).zip(ops).collect());
        let spoil = "UPDATE tasks SET losses = 9 WHERE seq IN (1, 3)";
        writer.engine.conn.execute(spoil, []).unwrap();
        let late = at(5_000_000);
        let promote = || Op::Promote {
            now: late,
            steady: late,
            limit: 1,
        };
        let expire = || Op::Expire {
            queued_before: at(8_000_000),
            at: at(8_000_000),
            limit: 9,
        };
        let ops = [promote(), promote(), expire(), expire()];
        let outcomes = outcomes(writer.commit((1..).zip(ops).collect()));
        let names = |ready: &[Ready]| -> Vec<String> {
            ready.iter().map(|ready| ready.id.to_string()).collect()
        };
        let said: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(Outcome::Promoted { ready, next_due }) => {
                    assert_eq!(next_due.first, Some(at(9_000_000)));
                    names(ready)
                }
                Ok(Outcome::Expired(expired)) => names(expired),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, [vec!["d"], vec![], vec!["b", "d"], vec![]]);
    }

    /// Shown to fail where what was left out is read again and fills the portion: the other one never came.
    #[test]
    fn tasks_whose_demand_is_damaged_fill_no_portion() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = writer(&home);
        let late = Timestamp::from_micros(5_000_000);
        let scheduled = |name, due| {
            let Op::Submit(mut task, lease) = submit(name, 10) else {
                unreachable!()
            };
            task.not_before = Some(Timestamp::from_micros(due));
            Op::Submit(task, lease)
        };
        let ops = [scheduled("a", 2_000_000), scheduled("b", 3_000_000)];
        writer.commit((1..).zip(ops).collect());
        let spoil = "UPDATE names SET sum = sum + 1 WHERE name = 'a'";
        writer.engine.conn.execute(spoil, []).unwrap();
        writer.engine.names = Names::default();
        let promote = || Op::Promote {
            now: late,
            steady: late,
            limit: 1,
        };
        let mut promoted = Vec::new();
        for outcome in outcomes(writer.commit(vec![(3, promote()), (4, promote())])) {
            let Ok(Outcome::Promoted { ready, .. }) = outcome else {
                panic!("{outcome:?}")
            };
            promoted.extend(ready.iter().map(|ready| ready.id.to_string()));
        }
        assert_eq!(promoted, ["b"]);
    }

    /// A start after a kill. Shown to fail where all rows or none are read: the daemon did not start any more.
    #[test]
    fn a_damaged_task_that_ran_keeps_no_other_from_being_run_again() {
        for spoil in [
            "UPDATE tasks SET losses = 9 WHERE seq = 1",
            "UPDATE tasks SET max_attempts = -125 WHERE seq = 1",
        ] {
            let home = tempfile::tempdir().unwrap();
            let mut writer = writer(&home);
            writer.commit(vec![(1, submit("a", 10)), (2, submit("b", 10))]);
            let lease = |seq| Op::Lease {
                seq,
                lease: Lease {
                    bot_id: "bot".into(),
                    at: Timestamp::from_micros(5),
                    letter: None,
                },
                want_content: true,
            };
            writer.commit(vec![(3, lease(1)), (4, lease(2))]);
            writer.engine.conn.execute(spoil, []).unwrap();
            let at = Timestamp::from_micros(9);
            let released = outcomes(writer.commit(vec![(5, Op::ReleaseAll { at })]));
            assert!(
                matches!(released.as_slice(), [Ok(Outcome::Released { count: 1 })]),
                "{spoil}: {released:?}"
            );
        }
    }

    /// Shown to fail where only a wrong sum counts as damage: the rows were refused as no numbers and no texts.
    #[test]
    fn damage_of_any_kind_is_left_out() {
        for spoil in [
            "UPDATE tasks SET losses = 9 WHERE seq = 1",
            "UPDATE tasks SET failures = -1 WHERE seq = 1",
            "UPDATE tasks SET attempt = 1 << 40 WHERE seq = 1",
            "UPDATE tasks SET id = CAST(x'ff41' AS TEXT) WHERE seq = 1",
            "UPDATE tasks SET id = x'41' WHERE seq = 1",
            "UPDATE names SET name = 'another' WHERE name = 'a'",
        ] {
            let home = tempfile::tempdir().unwrap();
            let mut writer = writer(&home);
            writer.commit(vec![(1, submit("a", 10)), (2, submit("b", 10))]);
            let changed = writer.engine.conn.execute(spoil, []);
            // Where the schema itself refuses it, it can't be written.
            if changed.is_err() {
                continue;
            }
            writer.engine.names = Names::default();
            let expire = Op::Expire {
                queued_before: Timestamp::from_micros(8),
                at: Timestamp::from_micros(8),
                limit: 9,
            };
            let expired = outcomes(writer.commit(vec![(3, expire)])).pop().unwrap();
            let Ok(Outcome::Expired(expired)) = expired else {
                panic!("{spoil}: {expired:?}")
            };
            let names: Vec<_> = expired.iter().map(|ready| ready.id.as_str()).collect();
            assert_eq!(names, ["b"], "{spoil}");
        }
    }

    /// Shown to fail where the lease is refused and nothing else: it was tried again and again, without a pause.
    #[test]
    fn a_task_whose_text_is_damaged_is_dead() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = writer(&home);
        writer.commit(vec![(1, submit("a", 10)), (2, submit("b", 10))]);
        let spoil = "UPDATE bodies SET content = 'xxxxxyxxxx' WHERE seq = 1";
        writer.engine.conn.execute(spoil, []).unwrap();
        let lease = |seq| Op::Lease {
            seq,
            lease: Lease {
                bot_id: "bot".into(),
                at: Timestamp::from_micros(5),
                letter: None,
            },
            want_content: true,
        };
        let outcomes = outcomes(writer.commit(vec![(3, lease(1)), (4, lease(2)), (5, lease(1))]));
        assert!(
            matches!(
                outcomes.as_slice(),
                [
                    Ok(Outcome::Unreadable),
                    Ok(Outcome::Leased { .. }),
                    Ok(Outcome::Gone),
                ]
            ),
            "{outcomes:?}"
        );
        let counts = writer.engine.counts;
        let of = [TaskStatus::Queued, TaskStatus::Running, TaskStatus::Dead].map(|s| counts.of(s));
        assert_eq!(of, [0, 1, 1]);
    }

    #[test]
    fn a_failing_operation_leaves_its_neighbours_and_the_names_alone() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = writer(&home);
        writer.commit(vec![(1, submit("a", 10))]);
        let spoil = "UPDATE tasks SET losses = 9 WHERE seq = 1";
        writer.engine.conn.execute(spoil, []).unwrap();
        let cancel = |name: &str| Op::Cancel {
            id: name.parse().unwrap(),
            at: Timestamp::from_micros(1),
        };
        let outcomes = outcomes(writer.commit(vec![
            (2, submit("b", 10)),
            (3, cancel("a")),
            (4, submit("c", 10)),
            (5, cancel("b")),
        ]));
        assert!(
            matches!(
                outcomes.as_slice(),
                [
                    Ok(Outcome::Submitted { seq: 2 }),
                    Err(StoreError::Operation(_)),
                    Ok(Outcome::Submitted { seq: 3 }),
                    Ok(Outcome::Cancelled(_)),
                ]
            ),
            "{outcomes:?}"
        );
        let counts = writer.published.lock().unwrap();
        assert_eq!(counts.of(TaskStatus::Queued), 2);
        assert_eq!(counts.of(TaskStatus::Cancelled), 1);
    }

    #[test]
    fn after_an_io_error_nothing_is_acknowledged() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = writer(&home);
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        let fault = Fault::Sql(rusqlite::Error::SqliteFailure(error, None));
        assert!(matches!(writer.refusal(fault), StoreError::Broken(_)));
        for _ in 0..2 {
            let refused = outcomes(writer.commit(vec![(1, submit("a", 10)), (2, Op::Probe)]));
            assert!(
                refused
                    .iter()
                    .all(|r| matches!(r, Err(StoreError::Broken(_)))),
                "{refused:?}"
            );
        }
    }
}
