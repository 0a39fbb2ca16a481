//! Creation, reopening, locking, migration.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use deia::task::{Fence, TaskStatus};

use super::*;
use crate::store::sqlite::migrate::{MIGRATIONS, Migration, copy_path};
use crate::store::sqlite::{files, meta};
use crate::store::{End, Lease};

/// A store as the first release left it (`.dump` of the `sqlite3` shell).
const SCHEMA_1: &str = include_str!("schema-1.sql");

/// This release's schema, and the next one's.
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;
const NEXT: i64 = LATEST + 1;

fn with_next_schema(min_reader: i64, sql: &'static str) -> Vec<Migration> {
    let mut migrations = MIGRATIONS.to_vec();
    migrations.push(Migration {
        version: NEXT,
        min_reader,
        sql,
    });
    migrations
}

fn open_with(path: &Path, migrations: &[Migration]) -> Result<SqliteStore, OpenError> {
    let (sender, _) = mpsc::channel(16);
    SqliteStore::open_with(path, sender, migrations)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn raw(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

fn version_of(path: &Path) -> i64 {
    meta::require(&raw(path), meta::SCHEMA_VERSION).unwrap()
}

#[tokio::test]
async fn a_new_store_is_private_and_comes_back_as_it_was() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let epoch = store.epoch();
    assert!(store.write(vec![(1, submit("a"))]).is_ok());
    committed.recv().await.unwrap();
    for file in [
        path.clone(),
        files::wal_of(&path),
        files::beside(&path, "-shm"),
    ] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    store.close();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (store, _committed) = open(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(store.epoch(), epoch);
    let task = store.task("a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(task.status, TaskStatus::Queued);
    assert!(!files::beside(&path, ".new").exists());
}

#[test]
fn two_stores_have_two_epochs() {
    let epochs: Vec<u64> = (0..3)
        .map(|_| {
            let (_home, path) = home();
            open(&path).unwrap().0.epoch()
        })
        .collect();
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
}

#[test]
fn a_store_in_use_is_refused_and_free_after_its_close() {
    let (_home, path) = home();
    let (store, _committed) = open(&path).unwrap();
    let error = open(&path).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("deia.db"), "{error}");
    store.close();
    assert!(open(&path).is_ok());
}

#[test]
fn a_half_made_store_is_made_anew() {
    let (_home, path) = home();
    fs::write(files::beside(&path, ".new"), "half").unwrap();
    assert!(open(&path).is_ok());
}

#[test]
fn commits_are_synced() {
    let (_home, path) = home();
    let engine = crate::store::sqlite::open::engine(&path, MIGRATIONS).unwrap();
    let ask = |pragma: &str| -> String {
        let sql = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
        engine.conn.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(ask("synchronous"), "2", "2 is FULL");
    assert_eq!(ask("journal_mode"), "wal");
    assert_eq!(ask("fullfsync"), "0");
}

#[tokio::test]
async fn a_restored_store_refuses_results_of_the_one_before() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let old = store.epoch();
    let hold = Lease {
        bot_id: "coder".into(),
        at: Timestamp::from_micros(1),
        letter: None,
    };
    let ops = vec![(1, Op::Submit(Box::new(task("a")), Some(hold)))];
    assert!(store.write(ops).is_ok());
    committed.recv().await.unwrap();
    store.close();
    let renewed = SqliteStore::renew_epoch(&path).unwrap();
    let (store, mut committed) = open(&path).unwrap();
    assert_eq!(store.epoch(), renewed);
    assert_ne!(store.epoch(), old);
    let late = Op::Finish {
        seq: 1,
        fence: Fence {
            epoch: old,
            attempt: 1,
        },
        started_at: None,
        choice: None,
        at: Timestamp::from_micros(2),
        end: End::Cancelled,
    };
    assert!(store.write(vec![(1, late)]).is_ok());
    let outcomes = committed.recv().await.unwrap();
    assert!(matches!(outcomes.as_slice(), [(1, Ok(Outcome::Gone))]));
}

#[tokio::test]
async fn a_migration_makes_a_copy_first() {
    let (_home, path) = home();
    filled(&path, &["a", "b"]);
    let migrations = with_next_schema(1, "ALTER TABLE tasks ADD COLUMN colour INTEGER;");
    let store = open_with(&path, &migrations).unwrap();
    assert!(store.task("a".parse().unwrap()).await.unwrap().is_some());
    store.close();
    let copy = copy_path(&path, NEXT);
    let name = format!("deia.db.before-v{NEXT}");
    assert_eq!(copy.file_name().unwrap(), name.as_str());
    assert_eq!(copy.file_name().unwrap().to_str(), Some(name.as_str()));
    assert_eq!(mode(&copy), 0o600);
    assert_eq!(version_of(&path), NEXT);
    assert_eq!(version_of(&copy), LATEST);
    // The copy is a store: moved into place, it opens.
    let elsewhere = path.with_file_name("copy.db");
    fs::rename(&copy, &elsewhere).unwrap();
    let (store, _committed) = open(&elsewhere).unwrap();
    assert!(store.task("b".parse().unwrap()).await.unwrap().is_some());
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let (_home, path) = home();
    filled(&path, &["a"]);
    let before = fs::read(&path).unwrap();
    let broken = "CREATE TABLE half (a INTEGER); INSERT INTO nothing VALUES (1);";
    let error = open_with(&path, &with_next_schema(NEXT, broken))
        .err()
        .unwrap();
    assert!(error.to_string().contains("deia.db"), "{error}");
    assert_eq!(version_of(&path), LATEST);
    assert_eq!(fs::read(&path).unwrap(), before);
    open(&path).unwrap().0.close();
    // And a second try is not stopped by the first one's copy.
    let migrations = with_next_schema(NEXT, "CREATE TABLE whole (a INTEGER);");
    open_with(&path, &migrations).unwrap();
}

#[test]
fn a_newer_store_is_refused_unless_it_says_otherwise() {
    let (_home, path) = home();
    filled(&path, &["a"]);
    let step = "CREATE TABLE more (a INTEGER);";
    open_with(&path, &with_next_schema(NEXT, step))
        .unwrap()
        .close();
    let before = fs::read(&path).unwrap();
    let error = open(&path).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::TooNew {
                found: NEXT,
                min_reader: NEXT,
                known: LATEST,
                ..
            }
        ),
        "{error}"
    );
    let told = error.to_string();
    assert!(
        told.contains(&format!("schema {NEXT}")) && told.contains(&format!("program's {LATEST}")),
        "{told}"
    );
    let (newer, known) = (format!("schema {NEXT}"), format!("program's {LATEST}"));
    assert!(told.contains(&newer) && told.contains(&known), "{told}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let (_home, path) = home();
    filled(&path, &["a"]);
    open_with(&path, &with_next_schema(1, step))
        .unwrap()
        .close();
    let (store, mut committed) = open(&path).unwrap();
    let outcomes = run(&store, &mut committed, vec![submit("b")]);
    assert!(matches!(outcomes.as_slice(), [Ok(_)]), "{outcomes:?}");
    store.close();
    assert_eq!(version_of(&path), NEXT);
}

#[tokio::test]
async fn a_store_of_schema_1_opens() {
    let (_home, path) = home();
    let sample = raw(&path);
    sample.execute_batch(SCHEMA_1).unwrap();
    sample
        .pragma_update(None, "application_id", files::APPLICATION_ID)
        .unwrap();
    sample.close().unwrap();
    let (store, _committed) = open(&path).unwrap();
    assert_eq!(store.published().by_status, [1, 1, 1, 1, 1, 1, 1]);
    let id = |name: &str| name.parse::<deia::task::TaskId>().unwrap();
    for name in [
        "scheduled",
        "queued",
        "running",
        "succeeded",
        "dead",
        "cancelled",
        "expired",
    ] {
        let task = store.task(id(name)).await.unwrap().unwrap();
        assert_eq!(task.status.as_str(), name);
        let content = store.content(id(name)).await.unwrap().unwrap();
        assert_eq!(content, format!("the content of {name}"));
    }
    let output = store.output(id("succeeded")).await.unwrap();
    assert_eq!(output.as_deref(), Some("done"));
    let dead = store.task(id("dead")).await.unwrap().unwrap();
    assert_eq!(dead.error.as_deref(), Some("no luck"));
    assert_eq!(dead.attempts.len(), 1);
    // And has what later schemas added.
    assert_eq!(version_of(&path), LATEST);
    assert_eq!(store.choices(id("dead")).await.unwrap(), []);
    let learned = store.learned().await.unwrap();
    assert_eq!((learned.under, learned.rows.len()), (None, 0));
    store.close();
    SqliteStore::verify(&path).unwrap();
}

/// Makes the sample anew, when schema 1 changes before its release: `--ignored make_the_sample`,
/// then `sqlite3 $DEIA_SAMPLE .dump`.
#[test]
#[ignore = "writes a file"]
fn make_the_sample() {
    let path = PathBuf::from(std::env::var_os("DEIA_SAMPLE").expect("DEIA_SAMPLE: where to"));
    let (store, mut committed) = open(&path).unwrap();
    let time = Timestamp::from_micros;
    let fence = Fence {
        epoch: store.epoch(),
        attempt: 1,
    };
    let hold = || Lease {
        bot_id: "coder".into(),
        at: time(1_700_000_001_000_000),
        letter: None,
    };
    let running = |name: &str| Op::Submit(Box::new(task(name)), Some(hold()));
    let finish = |seq, end| Op::Finish {
        seq,
        fence,
        started_at: None,
        choice: None,
        at: time(1_700_000_002_000_000),
        end,
    };
    let submitted_at = time(1_600_000_000_000_000);
    let expired = Box::new(NewTask {
        submitted_at,
        ..task("expired")
    });
    let scheduled = Box::new(NewTask {
        not_before: Some(time(1_800_000_000_000_000)),
        ..task("scheduled")
    });
    let result = crate::store::TaskResult {
        output: "done".into(),
        truncated: false,
        usage: deia::wire::Usage::default(),
        backend: "echo".into(),
        model: None,
    };
    let dead = End::Dead {
        status: deia::task::AttemptStatus::Failed,
        error: "no luck".into(),
    };
    let ops = vec![
        running("running"),
        running("succeeded"),
        finish(2, End::Succeeded(Box::new(result))),
        running("dead"),
        finish(3, dead),
        running("cancelled"),
        finish(4, End::Cancelled),
        Op::Submit(expired, None),
        Op::Expire {
            queued_before: time(1_600_000_000_000_001),
            at: time(1_700_000_003_000_000),
            limit: 1,
        },
        submit("queued"),
        Op::Submit(scheduled, None),
    ];
    run(&store, &mut committed, ops);
    store.close();
}
