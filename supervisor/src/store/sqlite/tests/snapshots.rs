//! Copies of a store in use, and the proof that a file is a whole store.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::store::sqlite::files;

#[tokio::test]
async fn a_copy_of_a_store_in_use_is_a_store() {
    let (home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    run(&store, &mut committed, vec![submit("a"), submit("b")]);
    let copy = home.path().join("a copy, 100%.db");
    fs::write(&copy, "what an earlier one left").unwrap();
    store.snapshot(copy.clone()).await.unwrap();
    run(&store, &mut committed, vec![submit("later")]);
    let mode = fs::metadata(&copy).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    let verified = SqliteStore::verify(&copy).unwrap();
    assert_eq!(
        verified.schema_version,
        crate::store::sqlite::schema_version()
    );
    assert_eq!(verified.epoch, store.epoch());
    assert_eq!(verified.counts.by_status, [0, 2, 0, 0, 0, 0, 0]);
    let after: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(before.len(), after.len(), "{after:?}");
    let (copied, mut outcomes) = open(&copy).unwrap();
    assert!(copied.task("b".parse().unwrap()).await.unwrap().is_some());
    let next = run(&copied, &mut outcomes, vec![submit("later")]);
    assert!(matches!(
        next.as_slice(),
        [Ok(Outcome::Submitted { seq: 3 })]
    ));
    assert!(
        files::wal_of(&copy).exists(),
        "a copy in use has a log, too"
    );
}

#[test]
fn verification_finds_what_a_lookup_would_miss() {
    let (_home, path) = home();
    filled(&path, &["a", "b"]);
    assert!(SqliteStore::verify(&path).is_ok());
    let spoil = |sql: &str| {
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.execute_batch(sql).unwrap();
    };
    for (sql, undo) in [
        (
            "UPDATE bodies SET content = 'other' WHERE seq = 2",
            "UPDATE bodies SET content = 'the content of b' WHERE seq = 2",
        ),
        (
            "UPDATE tasks SET priority = 0 WHERE seq = 1",
            "UPDATE tasks SET priority = 2 WHERE seq = 1",
        ),
        (
            "UPDATE names SET name = 'special' WHERE name = 'general'",
            "UPDATE names SET name = 'general' WHERE name = 'special'",
        ),
        (
            "UPDATE meta SET value = value + 1 WHERE key = 'epoch'",
            "UPDATE meta SET value = value - 1 WHERE key = 'epoch'",
        ),
        (
            "INSERT INTO attempts VALUES (1, 1, 1, 1, 1, 1, NULL, 1, NULL, NULL)",
            "DELETE FROM attempts",
        ),
    ] {
        spoil(sql);
        let error = SqliteStore::verify(&path).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{sql}: {error}");
        spoil(undo);
        assert!(SqliteStore::verify(&path).is_ok(), "{undo}");
    }
    // An index that lost an entry: the lookup by id finds nothing.
    spoil(
        "PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX tasks_id ON tasks (id) WHERE seq > 1'
         WHERE name = 'tasks_id';",
    );
    spoil("REINDEX tasks_id");
    spoil(
        "PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = 'CREATE UNIQUE INDEX tasks_id ON tasks (id)'
         WHERE name = 'tasks_id';",
    );
    let error = SqliteStore::verify(&path).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn verification_reads_the_log_of_an_unclean_end() {
    let (_home, path) = home();
    super::damage::killed(&path, &["a", "b", "c"]);
    let verified = SqliteStore::verify(&path).unwrap();
    assert_eq!(verified.counts.by_status[1], 3);
    assert!(SqliteStore::verify(&path.with_file_name("none.db")).is_err());
}
