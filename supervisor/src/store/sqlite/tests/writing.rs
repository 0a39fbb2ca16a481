//! The write path as a whole: groups, the log's bound, memory and disk in step.

use std::fs;

use deia::task::TaskStatus;

use super::*;
use crate::store::sqlite::files;
use crate::store::sqlite::pool::MAX_READERS;
use crate::store::sqlite::room::Room;
use crate::store::sqlite::wal::ROOM_BYTES;
use crate::store::{Lease, MAX_PENDING_OPS};

#[test]
fn what_waits_together_is_committed_together() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    // The first transaction gives the others time to gather.
    let mut sent = 0;
    for n in 0..500 {
        assert!(store.write(vec![(n, submit(&format!("t{n}")))]).is_ok());
        sent += 1;
    }
    let mut transactions = 0;
    let mut outcomes = 0;
    while outcomes < sent {
        outcomes += committed.blocking_recv().unwrap().len();
        transactions += 1;
    }
    assert_eq!(outcomes, sent);
    assert!(transactions < 250, "{transactions} transactions for {sent}");
}

#[test]
fn the_log_stays_bounded() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let mut largest = 0;
    for round in 0..500 {
        let ops = (0..100).map(|n| submit(&format!("t{round}-{n}"))).collect();
        run(&store, &mut committed, ops);
        largest = largest.max(fs::metadata(files::wal_of(&path)).unwrap().len());
    }
    let database = fs::metadata(&path).unwrap().len();
    assert!(database > 1 << 20, "nothing was copied: {database}");
    assert!(largest < 40 << 20, "{largest}");
    store.close();
    assert!(!files::wal_of(&path).exists(), "a clean end leaves no log");
}

/// Shown to fail on a writer that makes no room.
#[test]
fn an_idle_writer_makes_room_for_what_comes_and_it_is_no_part_of_the_log() {
    let (home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    run(&store, &mut committed, vec![submit("before")]);
    let log = files::wal_of(&path);
    if Room::of(&log, 1).unwrap().is_none() {
        println!("SKIPPED the log's room: less than 1 GiB is free in the temporary folder");
        return;
    }
    let bytes = || fs::metadata(&log).unwrap().len();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    // All of it: portions are filled one after the other.
    while bytes() < ROOM_BYTES {
        assert!(std::time::Instant::now() < deadline, "{} bytes", bytes());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for n in 0..50 {
        run(&store, &mut committed, vec![submit(&format!("t{n}"))]);
    }
    assert_eq!(bytes(), ROOM_BYTES);
    // As a power cut leaves it.
    let other = home.path().join("other.db");
    for suffix in ["", "-wal"] {
        let to = files::beside(&other, suffix);
        let copied = std::process::Command::new("cp")
            .args([files::beside(&path, suffix), to])
            .status();
        assert!(copied.unwrap().success());
    }
    let (other, _) = open(&other).unwrap();
    assert_eq!(other.published().of(TaskStatus::Queued), 51);
}

#[test]
fn a_full_queue_gives_the_batch_back() {
    let (_home, path) = home();
    let (store, _committed) = open(&path).unwrap();
    // Nobody takes the outcomes, so the writer soon stands still.
    let mut accepted = 0;
    let refused = loop {
        let batch = (0..8_192).map(|n| (n, Op::Probe)).collect();
        match store.write(batch) {
            Ok(()) => accepted += 8_192,
            Err(batch) => break batch,
        }
    };
    assert_eq!(refused.len(), 8_192);
    assert!(accepted >= MAX_PENDING_OPS - 8_192, "{accepted}");
}

#[test]
fn numbers_in_memory_are_those_on_disk() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let hold = Lease {
        bot_id: "coder".into(),
        at: Timestamp::from_micros(1),
        letter: None,
    };
    let ops = vec![
        submit("queued"),
        Op::Submit(Box::new(task("runs")), Some(hold)),
        submit("cancelled"),
        Op::Cancel {
            id: "cancelled".parse().unwrap(),
            at: Timestamp::from_micros(2),
        },
        Op::Submit(
            Box::new(NewTask {
                not_before: Some(Timestamp::from_micros(i64::MAX)),
                ..task("scheduled")
            }),
            None,
        ),
    ];
    run(&store, &mut committed, ops);
    let before = store.published();
    assert_eq!(before.by_status, [1, 1, 1, 0, 0, 1, 0]);
    store.close();
    let (store, mut committed) = open(&path).unwrap();
    assert_eq!(store.published(), before);
    let outcomes = run(&store, &mut committed, vec![submit("next")]);
    assert!(
        matches!(outcomes.as_slice(), [Ok(Outcome::Submitted { seq: 5 })]),
        "{outcomes:?}"
    );
    assert_eq!(store.published().of(TaskStatus::Queued), 2);
}

/// Clients that read much hold up one another, and not what bots wait for. Shown to fail where both wait their turn
/// together.
#[test]
fn the_queue_is_read_while_clients_read_all_they_may() {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    run(&store, &mut committed, vec![submit("a")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(read_beside_clients(&store));
}

async fn read_beside_clients(store: &SqliteStore) {
    let demands = store.demands().await.unwrap();
    let (done, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let (started, mut starts) = tokio::sync::mpsc::channel(MAX_READERS);
    let reads: Vec<_> = (0..MAX_READERS)
        .map(|_| {
            let (wait, started) = (wait.clone(), started.clone());
            tokio::spawn(store.read(move |_| {
                started.blocking_send(()).unwrap();
                // Until the sender is gone.
                let _ = wait.lock().unwrap().recv();
                Ok(())
            }))
        })
        .collect();
    for _ in 0..MAX_READERS {
        starts.recv().await.unwrap();
    }
    let ready = store.ready_after(demands[0].0.clone(), None, 9);
    let ready = tokio::time::timeout(std::time::Duration::from_secs(20), ready).await;
    assert_eq!(ready.expect("it waits for clients").unwrap().len(), 1);
    drop(done);
    for read in reads {
        read.await.unwrap().unwrap();
    }
}
