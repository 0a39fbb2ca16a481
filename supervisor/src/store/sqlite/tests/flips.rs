//! Bytes that change by themselves, and files that are cut: never a wrong answer. What a store says is
//! everything its trait can be asked; it is compared with what it said while it was whole.

use std::collections::BTreeMap;
use std::fs;

use deia::api::AuditAction;
use deia::message::MessageStatus;
use deia::task::{AttemptStatus, Fence, TaskId, TaskStatus};
use fastrand::Rng;

use super::*;
use crate::audit::{Actor, Entry};
use crate::store::sqlite::files;
use crate::store::{
    AuditFilter, Counts, End, LearnedRow, Lease, NewMessage, TaskFilter, TaskResult,
};

/// Flips and cuts of each file, in a run of the whole suite and under `DEIA_SOAK`.
const FLIPS: [u64; 2] = [100, 1_000];
const CUTS: [u64; 2] = [20, 100];

/// Two frames.
const ROOM_KEPT: usize = 2 * (4_096 + 24);

const TASKS: usize = 56;
const MESSAGES: usize = 40;
/// Not after any step.
const CLOSED: usize = usize::MAX;
const BOTS: [&str; 3] = ["coder", "coder-2", "nobody"];
const DEMANDS: [&str; 2] = ["general", "pool:coder"];

/// What a store says, question by question.
type Said = BTreeMap<String, Result<String, StoreError>>;

/// What came of one change to a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    harmless: u64,
    refused_at_open: u64,
    refused_on_read: u64,
    /// All of it as it was after an earlier commit.
    earlier: u64,
}

fn size(of: [u64; 2]) -> u64 {
    of[usize::from(std::env::var_os("DEIA_SOAK").is_some())]
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

fn name(n: usize) -> String {
    format!("t{n}")
}

fn fence(store: &SqliteStore, attempt: u32) -> Fence {
    Fence {
        epoch: store.epoch(),
        attempt,
    }
}

fn finish(store: &SqliteStore, n: usize, attempt: u32, end: End) -> Op {
    Op::Finish {
        seq: n as i64 + 1,
        fence: fence(store, attempt),
        started_at: Some(at(30)),
        at: at(40),
        end,
        choice: n.is_multiple_of(3).then(|| format!("{{\"why\":{n}}}")),
    }
}

/// One commit each: tasks in every state, with attempts, results and reasons; messages in every state; what
/// was learned; and what retention has taken.
fn steps(store: &SqliteStore) -> Vec<Vec<Op>> {
    let lease = |n: usize| Lease {
        bot_id: BOTS[n % 2].into(),
        at: at(20),
        letter: None,
    };
    let new = |n: usize| NewTask {
        priority: Priority::ALL[n % 4],
        task_type: [TaskType::General, TaskType::Development][n % 2],
        demand: DEMANDS[n / 2 % 2].into(),
        bot_id: n.is_multiple_of(7).then(|| BOTS[n % 2].into()),
        pool: n.is_multiple_of(2).then(|| "coder".into()),
        metadata: n.is_multiple_of(5).then(|| format!("{{\"n\":{n}}}")),
        not_before: n.is_multiple_of(8).then(|| at(1 << 40)),
        submitted_at: at(n as i64),
        ..task(&name(n))
    };
    let kind = |k: usize| (0..TASKS).filter(move |n| n % 8 == k);
    let submit = |n: usize| {
        Op::Submit(
            Box::new(new(n)),
            (2..7).contains(&(n % 8)).then(|| lease(n)),
        )
    };
    let result = |n: usize| TaskResult {
        output: format!("the output of {n} ").repeat(1 + n * 5),
        truncated: n.is_multiple_of(3),
        usage: deia::wire::Usage::default(),
        backend: "echo".into(),
        model: n.is_multiple_of(2).then(|| "m".into()),
    };
    let failed = |n: usize| End::Retry {
        status: AttemptStatus::Failed,
        error: format!("no luck with {n}"),
        not_before: None,
        counts: Counts::AsFailure,
    };
    let dead = |n: usize| End::Dead {
        status: AttemptStatus::Failed,
        error: format!("no use with {n}"),
    };
    let message = |n: usize| NewMessage {
        id: format!("m{n}"),
        from_bot: BOTS[n / 3 % 3].into(),
        to_bot: BOTS[n % 3].into(),
        content: format!("message {n} ").repeat(1 + n),
        priority: Priority::ALL[n % 4],
        metadata: n.is_multiple_of(4).then(|| format!("{{\"m\":{n}}}")),
        created_at: at(100 + n as i64),
        ttl_seconds: if n.is_multiple_of(5) { 1 } else { 100_000 },
    };
    let learned = |n: usize| LearnedRow {
        bot: BOTS[n % 3].into(),
        on: [None, Some(TaskType::Development)][n / 3 % 2],
        samples: n as u64,
        seconds: 0.5,
        success_rate: 0.75,
        updated_at: at(n as i64),
    };
    vec![
        (0..TASKS / 2).map(submit).collect(),
        (TASKS / 2..TASKS).map(submit).collect(),
        kind(3)
            .map(|n| finish(store, n, 1, End::Succeeded(Box::new(result(n)))))
            .collect(),
        kind(4).map(|n| finish(store, n, 1, dead(n))).collect(),
        kind(5).map(|n| finish(store, n, 1, failed(n))).collect(),
        kind(6)
            .map(|n| finish(store, n, 1, End::Cancelled))
            .collect(),
        vec![Op::Expire {
            queued_before: at(20),
            at: at(50),
            limit: 2,
        }],
        vec![Op::Send {
            messages: (0..MESSAGES).map(message).collect(),
            up: std::collections::BTreeSet::new(),
            at: at(100),
            max_unread: 1_000,
        }],
        vec![
            Op::Deliver {
                bot: BOTS[0].into(),
                at: at(200).into(),
                limit: 100,
            },
            Op::Drain {
                bot: BOTS[1].into(),
                at: at(300).into(),
                limit: 5,
            },
            Op::ExpireMessages {
                now: at(2_000_000).into(),
                limit: 3,
            },
        ],
        vec![
            Op::LearnUnder {
                version: 3,
                forget: false,
            },
            Op::Learn((0..6).map(learned).collect()),
        ],
        vec![Op::Retain {
            ended_before: at(0),
            max_kept: 18,
            limit: 100,
        }],
        (0..9).map(noted).collect(),
        vec![Op::Submit(Box::new(new(TASKS)), None)],
    ]
}

/// Something on record.
fn noted(n: i64) -> Op {
    let mut entry = Entry::new(
        at(n),
        AuditAction::ALL[n as usize],
        Actor::bot(BOTS[n as usize % 2]),
        format!("target {n}"),
    );
    entry.details = (n % 2 == 0).then(|| format!("{{\"n\":{n}}}"));
    entry.error = (n % 3 == 0).then(|| format!("no luck with {n}"));
    Op::Record(Box::new(entry))
}

/// Asks everything.
async fn said(store: &SqliteStore) -> Said {
    let mut said = Said::new();
    macro_rules! ask {
        ($label:expr, $question:expr) => {
            said.insert($label, $question.await.map(|answer| format!("{answer:?}")));
        };
    }
    for n in 0..=TASKS {
        let id: TaskId = name(n).parse().unwrap();
        ask!(format!("task {id}"), store.task(id.clone()));
        ask!(format!("content {id}"), store.content(id.clone()));
        ask!(format!("output {id}"), store.output(id.clone()));
        ask!(format!("choices {id}"), store.choices(id));
    }
    let filters = [
        TaskFilter {
            bot: Some(BOTS[0].into()),
            ..TaskFilter::default()
        },
        TaskFilter {
            task_type: Some(TaskType::Development),
            ..TaskFilter::default()
        },
        TaskFilter {
            priority: Some(Priority::P1),
            ..TaskFilter::default()
        },
        TaskFilter::default(),
    ];
    let by_status = TaskStatus::ALL.map(|status| TaskFilter {
        status: Some(status),
        ..TaskFilter::default()
    });
    for filter in filters.into_iter().chain(by_status) {
        ask!(format!("list {filter:?}"), store.list(filter, None, 999));
    }
    ask!("counts".into(), store.counts());
    ask!("demands".into(), store.demands());
    ask!("running".into(), store.running());
    ask!("next due".into(), store.next_due());
    for demand in DEMANDS {
        ask!(
            format!("ready {demand}"),
            store.ready_after(demand.into(), None, 99)
        );
        let place = (Priority::P3, 40);
        ask!(
            format!("ahead {demand}"),
            store.ahead_of(demand.into(), place)
        );
    }
    for bot in BOTS {
        ask!(
            format!("inbox {bot}"),
            store.inbox(bot.into(), None, at(0).into(), 99)
        );
        for other in BOTS {
            let between = store.conversation(bot.into(), other.into(), 99);
            ask!(format!("between {bot} and {other}"), between);
        }
    }
    for n in 0..MESSAGES {
        ask!(format!("message {n}"), store.message(format!("m{n}")));
    }
    ask!("message counts".into(), store.message_counts());
    ask!("awaited".into(), store.awaited());
    ask!("learned".into(), store.learned());
    let any = AuditFilter::default();
    ask!("audit".into(), store.audit(any, None, 99));
    said
}

/// A store's files while it is open, and everything it said after each commit.
struct Whole {
    database: Vec<u8>,
    log: Vec<u8>,
    commits: Vec<Said>,
}

/// `pause` lets the log be copied into the database after that step; [`CLOSED`] closes the store at the end.
async fn whole(pause: Option<usize>) -> Whole {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    let mut commits = vec![said(&store).await];
    for (n, step) in steps(&store).into_iter().enumerate() {
        let outcomes = run(&store, &mut committed, step);
        assert!(outcomes.iter().all(Result::is_ok), "{n}: {outcomes:?}");
        commits.push(said(&store).await);
    }
    assert!(commits.iter().flat_map(Said::values).all(Result::is_ok));
    for status in TaskStatus::ALL {
        assert!(store.published().of(status) > 0, "no task is {status}");
    }
    let messages = store.message_counts().await.unwrap();
    for status in [
        MessageStatus::Pending,
        MessageStatus::Delivered,
        MessageStatus::Read,
        MessageStatus::Expired,
    ] {
        assert!(messages.by_status[status as usize] > 0, "{messages:?}");
    }
    let (database, log) = written(pause).await;
    Whole {
        database,
        log,
        commits,
    }
}

/// The files after the same steps in one go, before an idle writer has the log copied.
async fn written(pause: Option<usize>) -> (Vec<u8>, Vec<u8>) {
    let (_home, path) = home();
    let (store, mut committed) = open(&path).unwrap();
    for (n, step) in steps(&store).into_iter().enumerate() {
        run(&store, &mut committed, step);
        if pause == Some(n) {
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        }
    }
    if pause == Some(CLOSED) {
        store.close();
        return (fs::read(&path).unwrap(), Vec::new());
    }
    // By another process: closing a file here would drop SQLite's locks on it.
    let copied = |suffix| {
        let from = files::beside(&path, suffix);
        let copied = std::process::Command::new("cat").arg(from).output();
        copied.unwrap().stdout
    };
    let (database, mut log) = (copied(""), copied("-wal"));
    // Of the room behind the frames some is enough: nearly every change would hit it, and mean nothing.
    let used = log.iter().rposition(|byte| *byte != 0).map_or(0, |n| n + 1);
    log.truncate(used + ROOM_KEPT);
    (database, log)
}

/// What was said is what was so after a commit, or an error. Which commit.
fn check(said: &Said, commits: &[Said]) -> Result<(usize, u64), String> {
    let mut wrong = String::new();
    for (n, truth) in commits.iter().enumerate().rev() {
        let differs = said.iter().find(|(question, answer)| match answer {
            Err(_) => false,
            Ok(answer) => !is(question, answer, truth[*question].as_ref().unwrap()),
        });
        match differs {
            None => {
                let refused = said.values().filter(|answer| answer.is_err()).count();
                return Ok((n, refused as u64));
            }
            Some((question, answer)) if wrong.is_empty() => {
                wrong = format!("{question}: {answer:?}, but was {:?}", truth[question]);
            }
            Some(_) => {}
        }
    }
    Err(wrong)
}

/// What was learned may be left out where it is damaged, a task where it or its demand is, a message, a receiver's name,
/// and a record of the audit where that is said.
fn is(question: &str, answer: &str, truth: &str) -> bool {
    let (of, is_partial) = match question {
        "learned" => ("LearnedRow", true),
        of if of.starts_with("ready ") => ("Ready {", true),
        of if of.starts_with("list ") => ("TaskRecord {", true),
        "running" => ("Leased {", true),
        "demands" => ("(\"", true),
        of if of.starts_with("inbox ") || of.starts_with("between ") => ("MessageRecord {", true),
        "awaited" => ("\"", true),
        "audit" => ("AuditRecord", !answer.contains("damaged: []")),
        _ => return answer == truth,
    };
    let answer = answer.split("], damaged").next().unwrap();
    let truth = truth.split("], damaged").next().unwrap();
    let rows = |text: &str| -> Vec<String> {
        text.split(of)
            .skip(1)
            .map(|row| row.trim_end_matches([',', ' ', ']', '}']).to_owned())
            .collect()
    };
    answer == truth
        || is_partial && {
            let truth = rows(truth);
            rows(answer).iter().all(|row| truth.contains(row))
        }
}

/// Changes a copy of the files many times, and asks each copy everything.
async fn spoil(
    what: &str,
    whole: &Whole,
    times: u64,
    last_commit_at_least: usize,
    change: impl Fn(&mut Rng, &mut Vec<u8>, &mut Vec<u8>) -> String,
) -> Came {
    let seed = std::env::var("DEIA_TEST_SEED").map_or(1, |n| n.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let mut came = Came::default();
    let mut wrong = Vec::new();
    for n in 0..times {
        let (mut database, mut log) = (whole.database.clone(), whole.log.clone());
        let changed = change(&mut rng, &mut database, &mut log);
        let (_home, path) = home();
        fs::write(&path, &database).unwrap();
        if !log.is_empty() {
            fs::write(files::wal_of(&path), &log).unwrap();
        }
        let (store, _committed) = match open(&path) {
            Ok(opened) => opened,
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains(path.to_str().unwrap()), "{told}");
                came.refused_at_open += 1;
                continue;
            }
        };
        let said = said(&store).await;
        store.close();
        match check(&said, &whole.commits) {
            Ok((commit, _)) if commit < last_commit_at_least => {
                wrong.push(format!(
                    "seed {seed}, {n}: {changed}: as after commit {commit}"
                ));
            }
            Ok((commit, 0)) if commit + 1 == whole.commits.len() => came.harmless += 1,
            Ok((commit, 0)) if commit + 1 < whole.commits.len() => came.earlier += 1,
            Ok(_) => came.refused_on_read += 1,
            Err(why) => wrong.push(format!("seed {seed}, {n}: {changed}: {why:.300}")),
        }
    }
    println!("{what}: n {times}, {came:?}, wrong {}", wrong.len());
    assert!(
        wrong.is_empty(),
        "{} of {times}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(9)]
    );
    came
}

fn flip(rng: &mut Rng, bytes: &mut [u8]) -> String {
    let (place, with) = (rng.usize(..bytes.len()), rng.u8(1..));
    bytes[place] ^= with;
    format!("byte {place} ^ {with}")
}

fn cut(rng: &mut Rng, bytes: &mut Vec<u8>) -> String {
    bytes.truncate(rng.usize(..bytes.len()));
    format!("cut at {}", bytes.len())
}

#[tokio::test]
async fn a_flipped_byte_is_never_served() {
    let whole = whole(Some(CLOSED)).await;
    let newest = whole.commits.len() - 1;
    let came = spoil(
        "a byte of the database",
        &whole,
        size(FLIPS),
        newest,
        |rng, database, _| flip(rng, database),
    );
    assert!(came.await.refused_at_open > 0);
}

#[tokio::test]
async fn a_store_cut_anywhere_is_never_served() {
    let whole = whole(Some(CLOSED)).await;
    let newest = whole.commits.len() - 1;
    let came = spoil(
        "the database cut",
        &whole,
        size(CUTS),
        newest,
        |rng, database, _| cut(rng, database),
    );
    assert_eq!(came.await.refused_at_open, size(CUTS));
}

/// A log that is cut, or whose last commits are hit, can't be told from one that a power cut has ended: what is
/// served then is one earlier commit's, whole. Before that a flip is found.
#[tokio::test]
async fn a_damaged_log_is_refused_or_ends_with_an_earlier_commit() {
    for (what, pause) in [("", None), (", copied in part", Some(6))] {
        let whole = whole(pause).await;
        let flipped = format!("a byte of the log{what}");
        let flips = spoil(&flipped, &whole, size(FLIPS) / 2, 0, |rng, _, log| {
            flip(rng, log)
        });
        assert!(flips.await.refused_at_open > 0);
        let short = format!("the log cut{what}");
        spoil(&short, &whole, size(CUTS) / 2, 0, |rng, _, log| {
            cut(rng, log)
        })
        .await;
    }
}
