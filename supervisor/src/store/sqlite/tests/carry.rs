//! What a restore does not turn back: the audit trail, and names of signed requests that were taken.
//!
//! Shown to fail on a `carry` that leaves the group of nonces out.

use std::fs;

use deia::api::AuditAction;

use super::*;
use crate::audit::{Actor, Check, Entry};
use crate::store::Nonce;
use crate::store::sqlite::{audit, files};

const KEY: i64 = 7;

fn nonce(id: &str, second: i64) -> Op {
    Op::Nonce {
        key: KEY,
        id: id.into(),
        signed_at: Timestamp::from_micros(second * 1_000_000),
        most: 100,
    }
}

fn record(n: i64) -> Op {
    Op::Record(Box::new(Entry::new(
        Timestamp::from_micros(n),
        AuditAction::TaskSubmitted,
        Actor::DAEMON,
        format!("target-{n}"),
    )))
}

fn taken(store: &SqliteStore, committed: &mut mpsc::Receiver<Committed>, op: Op) -> Nonce {
    match run(store, committed, vec![op]).remove(0) {
        Ok(Outcome::Nonce(nonce)) => nonce,
        other => panic!("{other:?}"),
    }
}

/// A store, closed; then a copy of it, `restored`; then it goes on, and ends as told.
fn gone_on(directory: &Path, killed: bool) -> (PathBuf, PathBuf) {
    let (present, restored) = (directory.join("deia.db"), directory.join("restored.db"));
    let (store, mut committed) = open(&present).unwrap();
    let before = (1..=5).map(record).chain([submit("a"), nonce("one", 1)]);
    run(&store, &mut committed, before.collect());
    store.close();
    fs::copy(&present, &restored).unwrap();
    let (store, mut committed) = open(&present).unwrap();
    let after = (6..=9).map(record).chain([submit("b"), nonce("two", 2)]);
    run(&store, &mut committed, after.collect());
    if killed {
        // What is on disk while it is in use is what a kill leaves.
        let cut = directory.join("cut.db");
        fs::copy(&present, &cut).unwrap();
        fs::copy(files::wal_of(&present), files::wal_of(&cut)).unwrap();
        assert!(fs::metadata(files::wal_of(&cut)).unwrap().len() > 0);
        store.close();
        return (restored, cut);
    }
    store.close();
    (restored, present)
}

#[tokio::test]
async fn the_trail_and_what_was_taken_go_on_and_the_tasks_do_not() {
    for killed in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let (restored, old) = gone_on(home.path(), killed);
        let difference = SqliteStore::difference(&old, &restored).unwrap();
        assert_eq!((difference.dropped, difference.run_again), (1, 0));
        let carried = SqliteStore::carry_forward(&restored, &old).unwrap();
        let rows: Vec<_> = carried.rows.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(rows, [("audit", 9), ("nonces", 2)], "killed: {killed}");
        assert_eq!(carried.left, Vec::<String>::new());
        // A kill in between: once more, with the same end.
        assert_eq!(
            SqliteStore::carry_forward(&restored, &old).unwrap(),
            carried
        );
        SqliteStore::verify(&restored).unwrap();

        let (store, mut committed) = open(&restored).unwrap();
        assert_eq!(
            taken(&store, &mut committed, nonce("one", 1)),
            Nonce::Repeated
        );
        assert_eq!(
            taken(&store, &mut committed, nonce("two", 2)),
            Nonce::Repeated
        );
        assert_eq!(
            taken(&store, &mut committed, nonce("three", 3)),
            Nonce::Fresh
        );
        assert!(store.task("a".parse().unwrap()).await.unwrap().is_some());
        assert!(store.task("b".parse().unwrap()).await.unwrap().is_none());
        run(&store, &mut committed, vec![record(10)]);
        let head = *store.audit_head().borrow();
        assert_eq!(head.seq, 10);
        store.close();
        let conn = rusqlite::Connection::open(&restored).unwrap();
        let mut check = Check::new(Some(head));
        while !audit::check(&conn, &mut check, 7).unwrap() {}
        assert_eq!((check.looked_at(), check.invalid()), (10, 0), "{check:?}");
    }
}

#[test]
fn a_trail_that_is_another_homes_stays() {
    let home = tempfile::tempdir().unwrap();
    let (restored, _) = gone_on(home.path(), false);
    let elsewhere = home.path().join("elsewhere.db");
    let (store, mut committed) = open(&elsewhere).unwrap();
    run(&store, &mut committed, (11..=20).map(record).collect());
    store.close();
    let carried = SqliteStore::carry_forward(&restored, &elsewhere).unwrap();
    assert_eq!(carried.rows.get("audit"), None);
    let [why] = &carried.left[..] else {
        panic!("{carried:?}")
    };
    assert!(why.contains("another home"), "{why}");
    let (store, _committed) = open(&restored).unwrap();
    assert_eq!(store.audit_head().borrow().seq, 5);
    store.close();
}

#[test]
fn a_present_store_that_is_damaged_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (restored, old) = gone_on(home.path(), false);
    let bytes = fs::read(&restored).unwrap();
    fs::write(&old, "no store").unwrap();
    assert!(SqliteStore::carry_forward(&restored, &old).is_err());
    assert!(fs::read(&restored).unwrap() == bytes);
}
