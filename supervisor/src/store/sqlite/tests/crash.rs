//! kill -9 at any moment: what was acknowledged is there.
//!
//! The test runs itself again as a child that submits, leases and finishes, and prints each
//! acknowledgement; kills it; and looks for everything it read. (That a commit also outlives the
//! machine needs an fsync: `opening.rs` asks for the setting, the fault tests drop unsynced data.)

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use deia::task::{Fence, TaskStatus};

use super::*;
use crate::store::{End, Lease, TaskResult};

const STORE: &str = "DEIA_TEST_STORE";
const ROUND: &str = "DEIA_TEST_ROUND";

/// Acknowledgements read before each kill: one while the log is short, some past a checkpoint.
const ACKNOWLEDGED: [usize; 5] = [1, 40, 300, 1_500, 4_000];

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let (_home, path) = home();
    let mut expected: HashMap<String, TaskStatus> = HashMap::new();
    for (round, count) in ACKNOWLEDGED.into_iter().enumerate() {
        let mut child = spawn_child(&path, round);
        read_acknowledgements(&mut child, count, &mut expected);
        let (store, _committed) = open(&path).unwrap();
        for (name, status) in &expected {
            let id: deia::task::TaskId = name.parse().unwrap();
            let task = store.task(id.clone()).await.unwrap();
            let task = task.unwrap_or_else(|| panic!("{name} is lost, round {round}"));
            // A later step may have been committed without its acknowledgement being read.
            let reached = |status: TaskStatus| status as usize;
            assert!(
                reached(task.status) >= reached(*status),
                "{name}: {}",
                task.status
            );
            let content = store.content(id.clone()).await.unwrap();
            assert_eq!(content.as_deref(), Some(&*super::task(name).content));
            if *status == TaskStatus::Succeeded {
                let output = store.output(id).await.unwrap();
                assert_eq!(output, Some(format!("the output of {name}")));
            }
        }
        store.close();
    }
    assert!(expected.len() > 1_000, "{}", expected.len());
    let done = |status: &&TaskStatus| **status == TaskStatus::Succeeded;
    assert!(expected.values().filter(done).count() > 300);
}

fn spawn_child(path: &Path, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sqlite::tests::crash::child"])
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .env(STORE, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the child after `count` and reads on to the end.
fn read_acknowledgements(
    child: &mut Child,
    count: usize,
    expected: &mut HashMap<String, TaskStatus>,
) {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut read = 0;
    for line in stdout.lines() {
        let line = line.unwrap();
        let Some((status, name)) = line
            .strip_prefix("ack ")
            .and_then(|ack| ack.split_once(' '))
        else {
            continue;
        };
        expected.insert(name.to_owned(), status.parse().unwrap());
        read += 1;
        if read == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(read >= count, "the child ended by itself after {read}");
}

#[test]
#[ignore = "is killed; run by nothing_acknowledged_is_lost_by_a_kill"]
fn child() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    let round = std::env::var(ROUND).unwrap();
    let (store, mut committed) = open(Path::new(&path)).unwrap();
    let mut stdout = std::io::stdout().lock();
    for batch in 0.. {
        let names: Vec<String> = (0..20).map(|n| format!("r{round}-{batch}-{n}")).collect();
        let submits = names.iter().map(|name| submit(name)).collect();
        let submitted = run(&store, &mut committed, submits);
        let mut leases = Vec::new();
        let mut leased = Vec::new();
        for (name, outcome) in names.into_iter().zip(submitted) {
            let Ok(Outcome::Submitted { seq }) = outcome else {
                panic!("{outcome:?}");
            };
            writeln!(stdout, "ack queued {name}").unwrap();
            if seq % 2 == 0 {
                leases.push(lease(seq));
                leased.push((name, seq));
            }
        }
        let taken = run(&store, &mut committed, leases);
        assert!(
            taken
                .iter()
                .all(|o| matches!(o, Ok(Outcome::Leased { .. })))
        );
        let finishes = leased
            .iter()
            .map(|(name, seq)| finish(store.epoch(), *seq, name))
            .collect();
        let finished = run(&store, &mut committed, finishes);
        assert!(
            finished
                .iter()
                .all(|o| matches!(o, Ok(Outcome::Finished { .. })))
        );
        for (name, _) in leased {
            writeln!(stdout, "ack succeeded {name}").unwrap();
        }
    }
}

fn lease(seq: i64) -> Op {
    Op::Lease {
        seq,
        lease: Lease {
            bot_id: "coder".into(),
            at: Timestamp::from_micros(1),
        },
        want_content: false,
    }
}

fn finish(epoch: u64, seq: i64, name: &str) -> Op {
    Op::Finish {
        seq,
        fence: Fence { epoch, attempt: 1 },
        started_at: None,
        at: Timestamp::from_micros(2),
        end: End::Succeeded(Box::new(TaskResult {
            output: format!("the output of {name}"),
            truncated: false,
            usage: deia::wire::Usage::default(),
            backend: "echo".into(),
            model: None,
        })),
    }
}
