//! Random operations against the engine and the model: the same outcomes, and the same store at the end.

use deia::api::AuditAction;
use deia::task::{Fence, Priority};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::model::Model;
use super::*;
use crate::audit::{Actor, Entry};
use crate::store::Audited;

/// Histories tried. More by `PROPTEST_CASES`.
const CASES: u32 = 96;

const NAMES: u8 = 6;
const DEMANDS: [&str; 2] = ["general", "python"];

/// An operation as far as it can be said before the run; `pick`s choose among the tasks there are.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        name: u8,
        request: u8,
        priority: usize,
        demand: usize,
        delay: Option<i64>,
        leased: bool,
    },
    Lease {
        pick: usize,
        want_content: bool,
    },
    Finish {
        pick: usize,
        fence: FenceKind,
        end: EndKind,
    },
    Cancel(u8),
    Requeue(u8),
    Known(u8, u8),
    Promote(i64, usize),
    Expire(i64, usize),
    ReleaseAll,
    Retain {
        age: i64,
        max_kept: u64,
        limit: usize,
    },
    Record(u8),
    Prune(i64, i64, usize),
    Probe,
}

#[derive(Debug, Clone, Copy)]
enum FenceKind {
    Current,
    EarlierAttempt,
    OtherEpoch,
}

#[derive(Debug, Clone, Copy)]
enum EndKind {
    Succeeded,
    Retry(Counts, Option<i64>),
    Dead,
    Cancelled,
}

/// Steps handed in together, and how many seconds later.
type Round = (i64, Vec<Step>);

fn step() -> impl Strategy<Value = Step> {
    let counts = prop_oneof![
        Just(Counts::AsFailure),
        Just(Counts::AsLoss),
        Just(Counts::No)
    ];
    let end = prop_oneof![
        3 => Just(EndKind::Succeeded),
        4 => (counts, proptest::option::of(0..4_i64)).prop_map(|(c, d)| EndKind::Retry(c, d)),
        2 => Just(EndKind::Dead),
        1 => Just(EndKind::Cancelled),
    ];
    let fence = prop_oneof![
        8 => Just(FenceKind::Current),
        1 => Just(FenceKind::EarlierAttempt),
        1 => Just(FenceKind::OtherEpoch),
    ];
    let submit = (
        0..NAMES,
        0..5_u8,
        0..4_usize,
        0..DEMANDS.len(),
        proptest::option::of(0..4_i64),
        any::<bool>(),
    );
    prop_oneof![
        6 => submit.prop_map(|(name, request, priority, demand, delay, leased)| Step::Submit {
            name,
            // Mostly the same, so that both duplicates and conflicts come up.
            request: u8::from(request == 0),
            priority,
            demand,
            delay,
            leased: leased && priority == 0,
        }),
        6 => (0..8_usize, any::<bool>())
            .prop_map(|(pick, want_content)| Step::Lease { pick, want_content }),
        6 => (0..8_usize, fence, end).prop_map(|(pick, fence, end)| Step::Finish { pick, fence, end }),
        2 => (0..NAMES).prop_map(Step::Cancel),
        2 => (0..NAMES).prop_map(Step::Requeue),
        1 => (0..NAMES, 0..2_u8).prop_map(|(name, request)| Step::Known(name, request)),
        2 => (-3..4_i64, 1..4_usize).prop_map(|(ahead, limit)| Step::Promote(ahead, limit)),
        1 => (0..8_i64, 1..4_usize).prop_map(|(age, limit)| Step::Expire(age, limit)),
        1 => Just(Step::ReleaseAll),
        1 => (0..12_i64, 0..6_u64, 1..4_usize)
            .prop_map(|(age, max_kept, limit)| Step::Retain { age, max_kept, limit }),
        1 => (0..NAMES).prop_map(Step::Record),
        1 => (0..8_i64, 0..4_i64, 1..6_usize)
            .prop_map(|(age, overdue, limit)| Step::Prune(age, overdue, limit)),
        1 => Just(Step::Probe),
    ]
}

fn history() -> impl Strategy<Value = Vec<Round>> {
    let round = (0..3_i64, proptest::collection::vec(step(), 1..6));
    proptest::collection::vec(round, 1..24)
}

pub(in crate::store) fn does_what_the_model_does(open: &dyn Fn() -> Fixture) {
    let config = Config {
        cases: std::env::var("PROPTEST_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(CASES),
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let result = TestRunner::new(config).run(&history(), |rounds| {
        runtime.block_on(compare(Harness::new(open()), rounds));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

async fn compare(mut h: Harness, rounds: Vec<Round>) {
    let mut model = Model::new(h.store().epoch());
    let mut second = 0;
    let mut newest = 0;
    for (later, steps) in rounds {
        second += later;
        let ops: Vec<Op> = steps
            .iter()
            .map(|step| on_record(resolve(step, &model, second), second))
            .collect();
        let outcomes = h.batch(ops.clone()).await;
        for (op, outcome) in ops.into_iter().zip(outcomes) {
            let outcome = outcome.unwrap();
            if let Outcome::Submitted { seq } = outcome {
                assert!(seq > newest, "{seq} after {newest}");
                newest = seq;
            }
            let told = format!("{op:?}");
            let expected = model.apply(op, newest);
            assert_eq!(format!("{outcome:?}"), format!("{expected:?}"), "{told}");
        }
        assert_eq!(h.store().counts().await.unwrap(), model.counts());
    }
    same_store(&h, &model).await;
}

async fn same_store(h: &Harness, model: &Model) {
    let mut records: Vec<TaskRecord> = model.tasks.iter().map(|t| t.record.clone()).collect();
    records.reverse();
    assert_eq!(h.all(TaskFilter::default()).await, records);
    for task in &model.tasks {
        let id = task.record.id.clone();
        let content = h.store().content(id.clone()).await.unwrap();
        assert_eq!(content.as_deref(), Some(&*task.content));
        assert_eq!(h.store().output(id).await.unwrap(), task.output);
    }
    for demand in DEMANDS {
        let ready = h.store().ready_after(demand.into(), None, 99).await;
        let expected = model.ready(demand);
        assert_eq!(ready.unwrap(), expected);
        for (rank, ready) in expected.iter().enumerate() {
            let place = (ready.priority, ready.seq);
            let ahead = h.store().ahead_of(demand.into(), place).await.unwrap();
            assert_eq!(ahead, rank as u64);
        }
    }
    let mut demands = h.store().demands().await.unwrap();
    demands.sort();
    assert_eq!(demands, model.demands());
    assert_eq!(h.store().next_due().await.unwrap(), model.next_due());
    let trail = h.store().audit_after(0, usize::MAX).await.unwrap();
    assert_eq!(trail, model.trail);
    assert_eq!(*h.store().audit_head().borrow(), model.head());
    let check = super::audit::checked(h).await;
    assert!(check.bad().is_empty(), "{:?}", check.bad());
    assert_eq!(check.anchor(), model.anchor);
    assert_eq!(check.looked_at(), model.trail.len() as u64);
}

/// What tasks go through is on record, as the main loop has it.
fn on_record(op: Op, second: i64) -> Op {
    match op {
        Op::Record(_) | Op::Prune { .. } | Op::Known { .. } | Op::Probe => op,
        op => Op::Audited(Box::new(Audited {
            op,
            entry: entry("target", second),
        })),
    }
}

fn entry(target: &str, second: i64) -> Entry {
    Entry::new(at(second), AuditAction::ApiCall, Actor::bot("b"), target)
}

fn resolve(step: &Step, model: &Model, second: i64) -> Op {
    let now = at(second);
    let picked = |pick: usize| {
        let index = pick.checked_rem(model.tasks.len())?;
        model.tasks.get(index)
    };
    match *step {
        Step::Submit {
            name,
            request,
            priority,
            demand,
            delay,
            leased,
        } => {
            let new = NewTask {
                request_hash: [request; 32],
                content: format!("content {name} {request}").into(),
                priority: Priority::ALL[priority],
                demand: DEMANDS[demand].into(),
                not_before: delay.map(|d| at(second + d)),
                submitted_at: now,
                ..task(&format!("t{name}"))
            };
            let lease = leased.then(|| hold(now));
            Op::Submit(Box::new(new), lease)
        }
        Step::Lease { pick, want_content } => Op::Lease {
            seq: picked(pick).map_or(1, |task| task.record.seq),
            lease: hold(now),
            want_content,
        },
        Step::Finish { pick, fence, end } => {
            let attempt = picked(pick).map_or(1, |task| task.attempt());
            Op::Finish {
                seq: picked(pick).map_or(1, |task| task.record.seq),
                fence: match fence {
                    FenceKind::Current => Fence {
                        epoch: model.epoch,
                        attempt,
                    },
                    FenceKind::EarlierAttempt => Fence {
                        epoch: model.epoch,
                        attempt: attempt.saturating_sub(1),
                    },
                    FenceKind::OtherEpoch => Fence {
                        epoch: model.epoch ^ 1,
                        attempt,
                    },
                },
                started_at: (pick % 2 == 0).then_some(now),
                choice: None,
                at: now,
                end: match end {
                    EndKind::Succeeded => succeeded(&format!("output at {second}")),
                    EndKind::Retry(counts, delay) => retry(counts, delay.map(|d| at(second + d))),
                    EndKind::Dead => dead(),
                    EndKind::Cancelled => End::Cancelled,
                },
            }
        }
        Step::Cancel(name) => Op::Cancel {
            id: id(&format!("t{name}")),
            at: now,
        },
        Step::Known(name, request) => Op::Known {
            id: id(&format!("t{name}")),
            request_hash: [request; 32],
        },
        Step::Requeue(name) => Op::Requeue {
            id: id(&format!("t{name}")),
            at: now,
        },
        Step::Promote(ahead, limit) => Op::Promote {
            now,
            steady: at(second + ahead),
            limit,
        },
        Step::Expire(age, limit) => Op::Expire {
            queued_before: at(second - age),
            at: now,
            limit,
        },
        Step::ReleaseAll => Op::ReleaseAll { at: now },
        Step::Retain {
            age,
            max_kept,
            limit,
        } => Op::Retain {
            ended_before: at(second - age),
            max_kept,
            limit,
        },
        Step::Record(name) => Op::Record(Box::new(entry(&format!("note {name}"), second))),
        Step::Prune(age, overdue, limit) => Op::Prune {
            before: at(second - age),
            overdue: at(second - age - overdue),
            limit,
            at: now,
        },
        Step::Probe => Op::Probe,
    }
}

fn hold(at: Timestamp) -> Lease {
    Lease {
        bot_id: "coder".into(),
        at,
        letter: None,
    }
}
