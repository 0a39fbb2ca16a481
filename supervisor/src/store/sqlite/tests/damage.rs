//! Files that are not, or no longer, a store: refused with the file's name, and left as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use deia::message::MessageStatus;

use super::*;
use crate::store::sqlite::files;
use crate::store::{NewMessage, TaskFilter};

type Make<'a> = &'a dyn Fn(&Path);
type Bytes = BTreeMap<PathBuf, Vec<u8>>;

/// All files of the store but the lock and the wal-index, which is rebuilt.
fn bytes(path: &Path) -> Bytes {
    fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| !p.to_string_lossy().ends_with(".lock"))
        .filter(|p| !p.to_string_lossy().ends_with("-shm"))
        .map(|p| (p.clone(), fs::read(p).unwrap()))
        .collect()
}

/// Refused, naming the file, and unchanged.
fn refused(path: &Path) -> OpenError {
    let before = bytes(path);
    let error = open(path).expect_err("it was opened");
    let told = error.to_string();
    assert!(told.contains(path.to_str().unwrap()), "{told}");
    assert!(told.contains("restore"), "no remedy: {told}");
    assert!(bytes(path) == before, "changed by: {told}");
    error
}

/// A store that was not closed: database and log as they are while it is open.
pub(super) fn killed(path: &Path, names: &[&str]) {
    let other = tempfile::tempdir().unwrap();
    let live = other.path().join("deia.db");
    let (store, mut committed) = open(&live).unwrap();
    run(
        &store,
        &mut committed,
        names.iter().map(|n| submit(n)).collect(),
    );
    // By another process: closing a file here would drop SQLite's locks on it.
    for suffix in ["", "-wal"] {
        let copied = std::process::Command::new("cp")
            .arg(files::beside(&live, suffix))
            .arg(files::beside(path, suffix))
            .status()
            .unwrap();
        assert!(copied.success());
    }
    drop(store);
}

#[test]
fn other_files_are_no_store() {
    let foreign = |path: &Path| {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
            .unwrap();
    };
    let cases: [(&str, Make<'_>); 4] = [
        ("empty", &|path| fs::write(path, "").unwrap()),
        ("text", &|path| {
            fs::write(path, "hello ".repeat(999)).unwrap()
        }),
        ("short", &|path| fs::write(path, "SQLite").unwrap()),
        ("another database", &foreign),
    ];
    for (what, make) in cases {
        let (_home, path) = home();
        make(&path);
        let error = refused(&path);
        assert!(
            matches!(error, OpenError::NotAStore { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_store_that_was_cut_is_refused() {
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_home, path) = home();
    filled(&path, &names);
    let whole = fs::read(&path).unwrap();
    for kept in [
        50,
        99,
        100,
        4_095,
        4_096,
        8_192,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        fs::write(&path, &whole[..kept]).unwrap();
        let error = refused(&path);
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{kept}: {error}"
        );
    }
    fs::write(&path, &whole).unwrap();
    assert!(open(&path).is_ok());
}

/// Shown to fail where the whole page is refused for it: from then on nobody saw any task.
#[tokio::test]
async fn a_damaged_task_hides_no_other() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let tasks = ["a", "b", "c", "d"].map(submit);
    run(&store, &mut committed, tasks.into());
    store.close();
    let conn = rusqlite::Connection::open(&path).unwrap();
    for spoil in [
        "UPDATE tasks SET losses = 9 WHERE seq = 2",
        "UPDATE bodies SET pool = 'x' WHERE seq = 3",
    ] {
        assert_eq!(conn.execute(spoil, []).unwrap(), 1);
    }
    drop(conn);
    let (store, _committed) = open(&path).unwrap();
    for _ in 0..2 {
        let found = store.list(TaskFilter::default(), None, 2).await.unwrap();
        let names: Vec<_> = found.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(names, ["d", "a"]);
    }
    assert!(store.task("b".parse().unwrap()).await.is_err());
    assert!(store.task("c".parse().unwrap()).await.is_err());
}

/// Shown to fail where one refuses all: nobody could read an inbox until its time was over, and a conversation for days.
#[tokio::test]
async fn a_damaged_message_hides_no_other() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let at = Timestamp::from_micros(0);
    let message = |id: &str| NewMessage {
        id: id.into(),
        from_bot: "a".into(),
        to_bot: "b".into(),
        content: format!("hello {id}"),
        priority: Priority::P2,
        metadata: None,
        created_at: at,
        ttl_seconds: 60,
    };
    let send = Op::Send {
        messages: ["1", "2", "3"].map(message).into(),
        up: BTreeSet::from(["b".to_owned()]),
        at,
        max_unread: 9,
    };
    run(&store, &mut committed, vec![send]);
    store.close();
    let conn = rusqlite::Connection::open(&path).unwrap();
    for spoil in [
        "UPDATE messages SET ttl_seconds = 9 WHERE seq = 1",
        "UPDATE message_texts SET content = 'hello x' WHERE seq = 2",
    ] {
        assert_eq!(conn.execute(spoil, []).unwrap(), 1);
    }
    drop(conn);
    let (store, mut committed) = open(&path).unwrap();
    let drain = Op::Drain {
        bot: "b".into(),
        at: at.into(),
        limit: 9,
    };
    let inbox = store.inbox("b".into(), None, at.into(), 9).await.unwrap();
    let between = store.conversation("a".into(), "b".into(), 9).await.unwrap();
    let drained = run(&store, &mut committed, vec![drain]).pop().unwrap();
    let Ok(Outcome::Messages(drained)) = drained else {
        panic!("{drained:?}")
    };
    assert_eq!(drained[0].status, MessageStatus::Read);
    for found in [inbox, between, drained] {
        let names: Vec<_> = found.iter().map(|m| m.sent.id.as_str()).collect();
        assert_eq!(names, ["3"]);
    }
    for id in ["1", "2"] {
        assert!(store.message(id.into()).await.is_err());
    }
}

/// What was learned is not worth a start that fails.
#[tokio::test]
async fn what_was_learned_is_left_out_where_it_is_damaged() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let row = |bot: &str| crate::store::LearnedRow {
        bot: bot.into(),
        on: None,
        samples: 1,
        seconds: 0.0,
        success_rate: 0.5,
        updated_at: Timestamp::from_micros(1),
    };
    let learn = Op::Learn(vec![row("a"), row("b")]);
    run(&store, &mut committed, vec![learn]);
    store.close();
    let conn = rusqlite::Connection::open(&path).unwrap();
    let spoil = "UPDATE learned SET success_rate = 0.6 WHERE bot = 1";
    assert_eq!(conn.execute(spoil, []).unwrap(), 1);
    drop(conn);
    let error = SqliteStore::verify(&path).unwrap_err().to_string();
    assert!(error.contains("learned 1, -1"), "{error}");
    let (store, _committed) = open(&path).unwrap();
    assert_eq!(store.learned().await.unwrap().rows, [row("b")]);
}

#[test]
fn a_log_without_its_store_is_refused() {
    let (_home, path) = home();
    killed(&path, &["a"]);
    fs::remove_file(&path).unwrap();
    assert!(matches!(refused(&path), OpenError::Damaged { .. }));
}

#[test]
fn after_an_unclean_end_the_structure_is_checked() {
    let names: Vec<String> = (0..500).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_home, path) = home();
    // Its pages are in the database, and one transaction more is in the log.
    filled(&path, &names);
    let (_other_home, other) = home();
    fs::copy(&path, &other).unwrap();
    let (store, mut committed) = open(&other).unwrap();
    run(&store, &mut committed, vec![submit("last")]);
    let copied = std::process::Command::new("cp")
        .args([files::wal_of(&other), files::wal_of(&path)])
        .status()
        .unwrap();
    assert!(copied.success());
    // A page of the oldest tasks, which the last transaction did not write.
    let (_third_home, third) = home();
    fs::copy(&path, &third).unwrap();
    let page: u32 = rusqlite::Connection::open(&third)
        .unwrap()
        .query_row(
            "SELECT pageno FROM dbstat WHERE name = 'bodies' AND pagetype = 'leaf' ORDER BY path",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let page = (page as usize - 1) * 4_096;
    let whole = fs::read(&path).unwrap();
    let mut spoiled = whole.clone();
    spoiled[page..page + 64].fill(0xa5);
    fs::write(&path, &spoiled).unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    fs::write(&path, &whole).unwrap();
    let (store, _committed) = open(&path).unwrap();
    assert_eq!(store.published().by_status[1], 501, "the log was recovered");
}

#[test]
fn a_structure_that_breaks_while_in_use_ends_the_engine() {
    let names: Vec<String> = (0..500).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_home, path) = home();
    filled(&path, &names);
    let pages = fs::metadata(&path).unwrap().len() / 4_096 - 3;
    let (store, mut committed) = open(&path).unwrap();
    // By another process, as above.
    let spoiled = std::process::Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", "seek=3", "conv=notrunc"])
        .arg(format!("of={}", path.display()))
        .arg(format!("count={pages}"))
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(spoiled.success());
    for _ in 0..2 {
        let outcomes = run(&store, &mut committed, vec![submit("new"), Op::Probe]);
        assert!(
            outcomes
                .iter()
                .all(|o| matches!(o, Err(StoreError::Broken(_)))),
            "{outcomes:?}"
        );
    }
}
