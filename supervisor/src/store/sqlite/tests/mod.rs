//! The suite every engine passes, and what only this one promises.

mod audit;
mod carry;
mod crash;
mod damage;
mod flips;
mod opening;
mod snapshots;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deia::task::{Complexity, Priority, TaskType};
use deia::time::Timestamp;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{OpenError, SqliteStore};
use crate::store::conformance::{Fixture, conformance};
use crate::store::{Committed, NewTask, Op, Outcome, Store, StoreError};

conformance!(fixture);

fn fixture() -> Fixture {
    let home = tempfile::tempdir().unwrap();
    let (store, committed) = open(&home.path().join("deia.db")).unwrap();
    Fixture {
        store: Arc::new(store),
        committed,
        _keep: Box::new(home),
    }
}

fn open(path: &Path) -> Result<(SqliteStore, mpsc::Receiver<Committed>), OpenError> {
    let (sender, committed) = mpsc::channel(16);
    Ok((SqliteStore::open(path, sender)?, committed))
}

fn home() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deia.db");
    (home, path)
}

fn task(name: &str) -> NewTask {
    NewTask {
        id: name.parse().unwrap(),
        request_hash: [7; 32],
        content: format!("the content of {name}").into(),
        priority: Priority::P2,
        task_type: TaskType::General,
        complexity: Complexity::Simple,
        required_capabilities: vec!["general".into()],
        bot_id: None,
        pool: None,
        demand: "general".into(),
        max_attempts: 3,
        timeout_ms: 60_000,
        not_before: None,
        metadata: None,
        submitted_at: Timestamp::from_micros(1_700_000_000_000_000),
    }
}

fn submit(name: &str) -> Op {
    Op::Submit(Box::new(task(name)), None)
}

/// One batch, whose outcomes come in one transaction.
fn run(
    store: &SqliteStore,
    committed: &mut mpsc::Receiver<Committed>,
    ops: Vec<Op>,
) -> Vec<Result<Outcome, StoreError>> {
    let count = ops.len();
    assert!(store.write((0..).zip(ops).collect()).is_ok());
    let mut outcomes = Vec::new();
    while outcomes.len() < count {
        // On a thread of its own: some tests call this from within a runtime.
        let received = || committed.blocking_recv().unwrap();
        let committed = std::thread::scope(|scope| scope.spawn(received).join().unwrap());
        outcomes.extend(committed.into_iter().map(|(_, outcome)| outcome));
    }
    outcomes
}

/// A store with these tasks, closed.
fn filled(path: &Path, names: &[&str]) {
    let (store, mut committed) = open(path).unwrap();
    let ops = names.iter().map(|name| submit(name)).collect();
    for outcome in run(&store, &mut committed, ops) {
        assert!(matches!(outcome, Ok(Outcome::Submitted { .. })));
    }
    store.close();
}
