//! Somebody who can write into the store changes the trail: it is found, and the first bad record is named.
//!
//! Each case is a trail in memory, one change by SQL, and a verification in portions.

use deia::api::{AuditAction, AuditLevel, AuditResult, AuditSource};
use fastrand::Rng;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::*;
use crate::audit::{Actor, Check, Entry, Hash, Link, hash_of};
use crate::store::AuditFilter;
use crate::store::sqlite::audit;

/// Changes in a run of the whole suite, and under `DEIA_SOAK`.
const CHANGES: [u64; 2] = [1_000, 20_000];

/// Records that are written, and those that retention has taken of them.
const WRITTEN: i64 = 40;
const PRUNED: i64 = 10;
/// ... and the record of that.
const LAST: i64 = WRITTEN + 1;
const FIRST: i64 = PRUNED + 1;

const COLUMNS: [&str; 11] = [
    "at", "action", "level", "source", "result", "actor", "target", "details", "error", "remote",
    "hash",
];

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn entry(n: i64) -> Entry {
    let pick = |of: usize| n as usize % of;
    let actions = [AuditAction::TaskSubmitted, AuditAction::ConfigChanged];
    let mut entry = Entry::new(
        at(n),
        actions[pick(2)],
        Actor::bot(&format!("b{}", pick(3))),
        format!("target-{n}"),
    );
    entry.level = AuditLevel::ALL[pick(3)];
    entry.result = AuditResult::ALL[pick(3)];
    entry.source = AuditSource::ALL[pick(2)];
    entry.details = pick(2).eq(&0).then(|| format!("{{\"n\":{n}}}"));
    entry.error = pick(3).eq(&0).then(|| format!("no luck with {n}"));
    entry.actor.remote = pick(5).ne(&0).then(|| format!("uid 0 pid {n}").into());
    entry
}

/// A trail that has lost its oldest records to retention, as the writer left it.
fn written() -> (tempfile::TempDir, PathBuf, Link) {
    let (home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let record = |n| Op::Record(Box::new(entry(n)));
    let prune = Op::Prune {
        before: at(FIRST),
        overdue: at(0),
        limit: PRUNED as usize,
        at: at(100),
    };
    let ops = (1..=WRITTEN).map(record).chain([prune]).collect();
    for outcome in run(&store, &mut committed, ops) {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    let head = *store.audit_head().borrow();
    store.close();
    (home, path, head)
}

/// The same in memory.
fn copy(from: &Connection) -> Connection {
    let to = Connection::open_in_memory().unwrap();
    to.execute_batch(include_str!("../migrations/0005_audit.sql"))
        .unwrap();
    for (table, columns) in [("audit", 12), ("audit_chain", 7)] {
        let mut rows = from.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let mut rows = rows.query([]).unwrap();
        let marks = vec!["?"; columns].join(", ");
        let mut insert = to
            .prepare(&format!("INSERT INTO {table} VALUES ({marks})"))
            .unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|n| row.get(n).unwrap()).collect();
            insert.execute(rusqlite::params_from_iter(values)).unwrap();
        }
    }
    to
}

fn verified(conn: &Connection, known: Option<Link>) -> Check {
    let mut check = Check::new(known);
    while !audit::check(conn, &mut check, 7).unwrap() {}
    check
}

fn row(conn: &Connection, seq: i64) -> Vec<Value> {
    conn.query_row("SELECT * FROM audit WHERE seq = ?1", [seq], |row| {
        (0..12).map(|n| row.get(n)).collect()
    })
    .unwrap()
}

fn put(conn: &Connection, seq: i64, mut values: Vec<Value>) {
    values[0] = seq.into();
    let marks = ["?"; 12].join(", ");
    conn.execute(
        &format!("INSERT OR REPLACE INTO audit VALUES ({marks})"),
        rusqlite::params_from_iter(values),
    )
    .unwrap();
}

/// Another value of the same kind.
fn other(rng: &mut Rng, column: &str, now: &Value) -> Value {
    loop {
        let value = match column {
            "at" => Value::Integer(rng.i64(0..1 << 50)),
            "action" => Value::Integer(rng.i64(-1..40)),
            "level" | "source" | "result" => Value::Integer(rng.i64(-1..4)),
            "hash" => match now {
                Value::Blob(hash) => {
                    let mut hash = hash.clone();
                    let place = rng.usize(..hash.len());
                    hash[place] ^= rng.u8(1..);
                    if rng.u8(0..8) == 0 {
                        hash.truncate(place);
                    }
                    Value::Blob(hash)
                }
                other => panic!("{other:?}"),
            },
            "actor" | "target" => Value::Text(format!("x{}", rng.u8(..))),
            _ => match rng.u8(0..4) {
                0 => Value::Null,
                1 => Value::Text(String::new()),
                _ => Value::Text(format!("{{\"n\":{}}}", rng.u8(..))),
            },
        };
        if value != *now {
            return value;
        }
    }
}

/// Where the chain ends is changed along, as one can who knows how it is summed.
fn forge_chain(conn: &Connection, change: impl Fn(&mut audit::Chain)) {
    let mut chain = audit::read_chain(conn).unwrap().unwrap();
    change(&mut chain);
    chain.write(conn).unwrap();
}

/// The records from a place on, written anew with hashes that fit.
fn rewrite(conn: &Connection, from: i64) {
    let records = audit::after(conn, from - 2, usize::MAX).unwrap();
    let mut before = records[0].hash;
    for record in &records[1..] {
        let mut entry = record.entry.clone();
        if record.seq == from {
            entry.target = "somebody else".into();
        }
        before = hash_of(&before, record.seq, &entry, &mut Vec::new());
        conn.execute(
            "UPDATE audit SET target = ?1, hash = ?2 WHERE seq = ?3",
            (&*entry.target, before.as_slice(), record.seq),
        )
        .unwrap();
    }
    forge_chain(conn, |chain| chain.head.hash = before);
}

/// Does something to the trail; says what, and which record is the first bad one.
fn change(rng: &mut Rng, conn: &Connection, n: u64) -> (String, i64) {
    let sql = |sql: &str| assert!(conn.execute(sql, []).is_ok());
    let seq = rng.i64(FIRST..=LAST);
    match n % 20 {
        kind @ 0..=10 => {
            let column = COLUMNS[kind as usize];
            let now: Value = conn
                .query_row(
                    &format!("SELECT {column} FROM audit WHERE seq = {seq}"),
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            let value = other(rng, column, &now);
            let told = format!("{column} of {seq}: {now:?} is {value:?}");
            conn.execute(
                &format!("UPDATE audit SET {column} = ?1 WHERE seq = {seq}"),
                [value],
            )
            .unwrap();
            (told, seq)
        }
        11 => {
            let last = rng.i64(seq..=LAST);
            sql(&format!(
                "DELETE FROM audit WHERE seq BETWEEN {seq} AND {last}"
            ));
            (format!("{seq} to {last} removed"), seq)
        }
        12 => {
            let with = loop {
                let with = rng.i64(FIRST..=LAST);
                if with != seq {
                    break with;
                }
            };
            let (one, two) = (row(conn, seq), row(conn, with));
            put(conn, seq, two);
            put(conn, with, one);
            (format!("{seq} and {with} change places"), seq.min(with))
        }
        13 => {
            // All from here on move up, and a copy of another takes the place.
            let copied = row(conn, rng.i64(FIRST..=LAST));
            let same = copied[0] == Value::Integer(seq);
            for from in (seq..=LAST).rev() {
                put(conn, from + 1, row(conn, from));
            }
            put(conn, seq, copied);
            (format!("a copy at {seq}"), if same { seq + 1 } else { seq })
        }
        14 => {
            // At the end, with a hash that fits.
            let forged = entry(99);
            let before: Hash = match row(conn, LAST).pop() {
                Some(Value::Blob(hash)) => hash.try_into().unwrap(),
                other => panic!("{other:?}"),
            };
            let mut values = row(conn, LAST);
            values[7] = forged.target.to_string().into();
            put(conn, LAST + 1, values);
            let read = audit::after(conn, LAST, 1).unwrap().remove(0).entry;
            let hash = hash_of(&before, LAST + 1, &read, &mut Vec::new());
            conn.execute(
                "UPDATE audit SET hash = ?1 WHERE seq = ?2",
                (hash.as_slice(), LAST + 1),
            )
            .unwrap();
            ("one more".to_owned(), LAST + 1)
        }
        15 => {
            sql(&format!("DELETE FROM audit WHERE seq >= {seq}"));
            (format!("cut before {seq}"), seq)
        }
        16 => {
            // And the end put back with them: only the checkpoint knows.
            let seq = seq.max(FIRST + 1);
            let left = audit::after(conn, seq - 2, 1).unwrap().remove(0);
            sql(&format!("DELETE FROM audit WHERE seq >= {seq}"));
            forge_chain(conn, |chain| {
                chain.head = Link {
                    seq: left.seq,
                    hash: left.hash,
                };
            });
            (format!("cut before {seq}, the head too"), seq)
        }
        17 => {
            // The beginning, with an anchor that fits.
            let seq = seq.clamp(FIRST + 1, LAST - 1);
            let left = audit::after(conn, seq - 2, 1).unwrap().remove(0);
            sql(&format!("DELETE FROM audit WHERE seq < {seq}"));
            forge_chain(conn, |chain| {
                chain.anchor.removed += (left.seq - chain.anchor.link.seq) as u64;
                chain.anchor.link = Link {
                    seq: left.seq,
                    hash: left.hash,
                };
            });
            (format!("all before {seq}, with an anchor"), FIRST)
        }
        18 => {
            // A whole new chain from here on: that it is another one is known from the checkpoint on.
            let seq = seq.max(FIRST + 1);
            rewrite(conn, seq);
            (format!("written anew from {seq}"), LAST)
        }
        _ => {
            let last = LAST;
            forge_chain(conn, |chain| chain.head.hash[3] ^= 1);
            ("the head's hash".to_owned(), last)
        }
    }
}

/// Each kind of change comes fifty times; what is expected to be named first stands with it in `change`.
///
/// Shown to fail on a hash that leaves the details out: 50 of 1,000 were not found, all of that kind.
#[test]
fn whatever_is_changed_is_found_and_the_first_bad_one_named() {
    let (_home, path, head) = written();
    let whole = Connection::open(&path).unwrap();
    assert_eq!(head.seq, LAST);
    let sound = verified(&copy(&whole), Some(head));
    assert_eq!(sound.bad(), []);
    assert_eq!(sound.looked_at(), (LAST - PRUNED) as u64);
    let n = CHANGES[usize::from(std::env::var_os("DEIA_SOAK").is_some())];
    let seed = std::env::var("DEIA_TEST_SEED").map_or(1, |n| n.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let mut wrong = Vec::new();
    for case in 0..n {
        let conn = copy(&whole);
        let (told, expected) = change(&mut rng, &conn, case);
        let named = verified(&conn, Some(head)).bad().first().map(|bad| bad.seq);
        if named != Some(expected) {
            wrong.push(format!(
                "seed {seed}, {case}: {told}: {named:?} was named, not {expected}"
            ));
        }
    }
    println!("the trail changed: n {n}, wrong {}", wrong.len());
    assert!(
        wrong.is_empty(),
        "{} of {n}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(9)]
    );
}

/// The daemon starts all the same, goes on, and what was done stays to be seen.
#[tokio::test]
async fn a_trail_that_was_changed_goes_on_and_shows_it() {
    let changes = [
        ("DELETE FROM audit WHERE seq = 20", 20),
        ("DELETE FROM audit WHERE seq > 30", 31),
        // Where the chain begins is lost with it: what was removed for its age is missing then.
        ("DELETE FROM audit_chain", 1),
        ("UPDATE audit_chain SET head_seq = 7", 1),
        (
            "INSERT INTO audit SELECT seq + 1, at, action, level, source, result, actor, target, \
             details, error, remote, hash FROM audit WHERE seq = 41",
            42,
        ),
    ];
    for (sql, expected) in changes {
        let (_home, path, _) = written();
        let raw = Connection::open(&path).unwrap();
        raw.execute(sql, []).unwrap();
        raw.close().unwrap();
        let (store, mut committed) = open(&path).unwrap();
        let op = Op::Record(Box::new(entry(50)));
        let outcomes = run(&store, &mut committed, vec![op]);
        assert!(
            matches!(outcomes.as_slice(), [Ok(Outcome::Recorded(_))]),
            "{sql}"
        );
        let page = store.audit(AuditFilter::default(), None, 1).await.unwrap();
        let newest = &page.records;
        assert!(
            newest
                .first()
                .is_none_or(|record| record.entry == entry(50)),
            "{sql}: {newest:?}"
        );
        let (mut check, mut is_done) = (Check::default(), false);
        while !is_done {
            (check, is_done) = store.audit_check(check, 7).await.unwrap();
        }
        assert_eq!(
            check.bad().first().map(|bad| bad.seq),
            Some(expected),
            "{sql}"
        );
        store.close();
    }
}

/// While the daemon runs, too: a row that takes the next place does not stop it.
#[test]
fn a_row_in_the_way_is_passed_over() {
    let (_home, path, _) = written();
    let (store, mut committed) = open(&path).unwrap();
    let raw = Connection::open(&path).unwrap();
    put(&raw, LAST + 1, row(&raw, LAST));
    raw.close().unwrap();
    let ops = vec![Op::Record(Box::new(entry(50))), submit("a")];
    let outcomes = run(&store, &mut committed, ops);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(store.audit_head().borrow().seq, LAST + 2);
    store.close();
    let found = SqliteStore::verify(&path).unwrap_err().to_string();
    assert!(found.contains(&format!("audit {}", LAST + 1)), "{found}");
}

/// What is on disks: a number is never given another meaning.
#[test]
fn codes_stay_what_they_are() {
    let actions: Vec<&str> = AuditAction::ALL.iter().map(|a| a.as_str()).collect();
    assert_eq!(
        actions,
        [
            "bot_created",
            "bot_deleted",
            "task_submitted",
            "task_completed",
            "task_failed",
            "config_changed",
            "backup_created",
            "backup_restored",
            "scale_up",
            "scale_down",
            "alert_generated",
            "alert_resolved",
            "message_sent",
            "restart_requested",
            "shutdown_initiated",
            "api_call",
            "task_cancelled",
            "task_retried",
            "task_expired",
            "bot_started",
            "bot_stopped",
            "bot_restarted",
            "bot_interrupted",
            "daemon_started",
            "audit_pruned",
            "request_refused",
            "credential_created",
            "credential_revoked",
            "backup_deleted",
        ]
    );
    for (place, action) in AuditAction::ALL.iter().enumerate() {
        assert_eq!(*action as usize, place);
    }
    assert_eq!(AuditLevel::NAMES, ["info", "warning", "critical"]);
    assert_eq!(AuditResult::NAMES, ["success", "failure", "partial"]);
    assert_eq!(AuditSource::NAMES, ["daemon", "client"]);
}
