//! Tasks that wait: for their time, for a bot, too long, or not any more.

use deia::task::TaskStatus;

use super::*;
use crate::store::{Due, Ready};

fn at_time(name: &str, second: i64) -> NewTask {
    NewTask {
        not_before: Some(at(second)),
        ..task(name)
    }
}

/// With two clocks that agree.
async fn promote(h: &mut Harness, second: i64, limit: usize) -> (Vec<Ready>, Option<Timestamp>) {
    let (ready, due) = promote_by(h, second, second, limit).await;
    (ready, earliest(due))
}

async fn promote_by(h: &mut Harness, wall: i64, steady: i64, limit: usize) -> (Vec<Ready>, Due) {
    let op = Op::Promote {
        now: at(wall),
        steady: at(steady),
        limit,
    };
    match h.run(op).await {
        Outcome::Promoted { ready, next_due } => (ready, next_due),
        other => panic!("{other:?}"),
    }
}

fn earliest(due: Due) -> Option<Timestamp> {
    due.first.into_iter().chain(due.again).min()
}

async fn expire(h: &mut Harness, queued_before: i64, limit: usize) -> Vec<Seq> {
    let op = Op::Expire {
        queued_before: at(queued_before),
        at: at(1_000),
        limit,
    };
    match h.run(op).await {
        Outcome::Expired(ready) => ready.into_iter().map(|r| r.seq).collect(),
        other => panic!("{other:?}"),
    }
}

fn seqs(ready: &[Ready]) -> Vec<Seq> {
    ready.iter().map(|r| r.seq).collect()
}

pub(in crate::store) async fn a_scheduled_task_waits_for_its_time(mut h: Harness) {
    let seq = h.submit(at_time("a", 10)).await;
    let record = h.task("a").await;
    assert_eq!(record.status, TaskStatus::Scheduled);
    assert_eq!(record.not_before, Some(at(10)));
    assert!(matches!(h.run(lease(seq)).await, Outcome::Gone));
    let ready = h.store().ready_after("general".into(), None, 9).await;
    assert_eq!(ready.unwrap(), []);
    assert_eq!(earliest(h.store().next_due().await.unwrap()), Some(at(10)));

    assert_eq!(promote(&mut h, 9, 9).await, (vec![], Some(at(10))));
    let (ready, next_due) = promote(&mut h, 10, 9).await;
    assert_eq!((seqs(&ready), next_due), (vec![seq], None));
    assert!(!ready[0].scheduled);
    let record = h.task("a").await;
    assert_eq!(
        (record.status, record.not_before),
        (TaskStatus::Queued, None)
    );
    assert_eq!(earliest(h.store().next_due().await.unwrap()), None);
    assert_eq!(h.lease(seq).await, 1);
}

pub(in crate::store) async fn a_time_that_has_come_does_not_schedule(mut h: Harness) {
    h.submit(at_time("a", 0)).await;
    let record = h.task("a").await;
    assert_eq!(
        (record.status, record.not_before),
        (TaskStatus::Queued, None)
    );
}

pub(in crate::store) async fn promotion_is_bounded_and_says_when_the_next_is_due(mut h: Harness) {
    let late = h.submit(at_time("late", 30)).await;
    let early = h.submit(at_time("early", 10)).await;
    let middle = h.submit(at_time("middle", 20)).await;
    let (ready, next_due) = promote(&mut h, 25, 1).await;
    assert_eq!((seqs(&ready), next_due), (vec![early], Some(at(20))));
    let (ready, next_due) = promote(&mut h, 25, 9).await;
    assert_eq!((seqs(&ready), next_due), (vec![middle], Some(at(30))));
    let (ready, next_due) = promote(&mut h, 40, 9).await;
    assert_eq!((seqs(&ready), next_due), (vec![late], None));
}

pub(in crate::store) async fn a_retry_may_wait_too(mut h: Harness) {
    let seq = h.submit(task("a")).await;
    h.lease(seq).await;
    let outcome = h
        .finish(seq, 1, 5, retry(Counts::AsFailure, Some(at(8))))
        .await;
    assert!(
        matches!(
            outcome,
            Outcome::Finished {
                status: TaskStatus::Scheduled
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(earliest(h.store().next_due().await.unwrap()), Some(at(8)));
    let (ready, _) = promote(&mut h, 8, 9).await;
    assert_eq!(seqs(&ready), [seq]);
    assert_eq!(h.lease(seq).await, 2);
    let outcome = h.finish(seq, 2, 9, retry(Counts::No, None)).await;
    assert!(
        matches!(
            outcome,
            Outcome::Finished {
                status: TaskStatus::Queued
            }
        ),
        "{outcome:?}"
    );
}

pub(in crate::store) async fn what_is_tried_again_waits_by_the_steady_clock(mut h: Harness) {
    let first = h.submit(at_time("first", 10)).await;
    let again = h.submit(task("again")).await;
    h.lease(again).await;
    let retry = retry(Counts::AsFailure, Some(at(20)));
    h.finish(again, 1, 5, retry).await;
    let due = Due {
        first: Some(at(10)),
        again: Some(at(20)),
    };
    assert_eq!(h.store().next_due().await.unwrap(), due);
    // The wall clock was set ahead, then back.
    let (ready, due) = promote_by(&mut h, 9, 19, 9).await;
    assert_eq!((seqs(&ready), due.again), (vec![], Some(at(20))));
    let (ready, due) = promote_by(&mut h, 1_000, 19, 9).await;
    assert_eq!((seqs(&ready), due.first), (vec![first], None));
    let (ready, due) = promote_by(&mut h, 0, 20, 9).await;
    assert_eq!((seqs(&ready), due), (vec![again], Due::default()));
}

pub(in crate::store) async fn waiting_is_counted_from_when_it_became_ready(mut h: Harness) {
    let scheduled = h.submit(at_time("scheduled", 100)).await;
    assert_eq!(
        expire(&mut h, 500, 9).await,
        [0; 0],
        "it does not wait for a bot"
    );
    promote(&mut h, 120, 9).await;
    assert_eq!(expire(&mut h, 100, 9).await, [0; 0]);
    assert_eq!(expire(&mut h, 101, 9).await, [scheduled]);

    let retried = h.submit(task("retried")).await;
    h.lease(retried).await;
    h.finish(retried, 1, 50, retry(Counts::AsFailure, None))
        .await;
    assert_eq!(expire(&mut h, 50, 9).await, [0; 0]);
    assert_eq!(expire(&mut h, 51, 9).await, [retried]);

    // Else it would expire again at once.
    let again = Op::Requeue {
        id: id("retried"),
        at: at(200),
    };
    h.run(again).await;
    assert_eq!(expire(&mut h, 200, 9).await, [0; 0]);
    assert_eq!(expire(&mut h, 201, 9).await, [retried]);
}

pub(in crate::store) async fn expiry_is_bounded_and_takes_the_oldest(mut h: Harness) {
    let submitted = |name: &str, second| NewTask {
        submitted_at: at(second),
        ..task(name)
    };
    let young = h.submit(submitted("young", 9)).await;
    let old = h.submit(submitted("old", 3)).await;
    let oldest = h.submit(submitted("oldest", 1)).await;
    let running = h.submit(submitted("running", 0)).await;
    h.lease(running).await;
    assert_eq!(expire(&mut h, 5, 1).await, [oldest]);
    assert_eq!(expire(&mut h, 5, 9).await, [old]);
    assert_eq!(expire(&mut h, 9, 9).await, [0; 0]);
    assert_eq!(expire(&mut h, 10, 9).await, [young]);
    let record = h.task("old").await;
    assert_eq!(record.status, TaskStatus::Expired);
    assert_eq!(record.ended_at, Some(at(1_000)));
    assert!(matches!(h.run(lease(old)).await, Outcome::Gone));
}

pub(in crate::store) async fn what_waits_can_be_cancelled(mut h: Harness) {
    let queued = h.submit(task("queued")).await;
    let scheduled = h.submit(at_time("scheduled", 10)).await;
    for (name, seq, was_scheduled) in [("queued", queued, false), ("scheduled", scheduled, true)] {
        let cancel = || Op::Cancel {
            id: id(name),
            at: at(2),
        };
        match h.run(cancel()).await {
            Outcome::Cancelled(ready) => {
                assert_eq!((ready.seq, ready.scheduled), (seq, was_scheduled));
                assert_eq!(&*ready.demand, "general");
            }
            other => panic!("{other:?}"),
        }
        let record = h.task(name).await;
        assert_eq!(record.status, TaskStatus::Cancelled);
        assert_eq!((record.ended_at, record.not_before), (Some(at(2)), None));
        match h.run(cancel()).await {
            Outcome::NotQueued { status, seq: place } => {
                assert_eq!((status, place), (TaskStatus::Cancelled, seq));
            }
            other => panic!("{other:?}"),
        }
    }
    let (ready, next_due) = promote(&mut h, 99, 9).await;
    assert_eq!((ready, next_due), (vec![], None));
    let unknown = Op::Cancel {
        id: id("unknown"),
        at: at(2),
    };
    assert!(matches!(h.run(unknown).await, Outcome::Gone));
}

pub(in crate::store) async fn what_ended_badly_can_be_queued_again(mut h: Harness) {
    let requeue = |name: &str| Op::Requeue {
        id: id(name),
        at: at(20),
    };
    let seq = h.submit(task("dead")).await;
    h.lease(seq).await;
    h.finish(seq, 1, 2, retry(Counts::AsFailure, None)).await;
    h.lease(seq).await;
    h.finish(seq, 2, 3, retry(Counts::AsLoss, None)).await;
    h.lease(seq).await;
    h.finish(seq, 3, 4, dead()).await;
    match h.run(requeue("dead")).await {
        Outcome::Requeued(ready) => {
            assert_eq!((ready.seq, ready.max_attempts), (seq, 3));
            assert!(!ready.scheduled);
        }
        other => panic!("{other:?}"),
    }
    let record = h.task("dead").await;
    assert_eq!((record.status, record.ended_at), (TaskStatus::Queued, None));
    assert_eq!(record.attempts.len(), 3, "its history stays");
    match h.run(lease(seq)).await {
        Outcome::Leased {
            attempt,
            failures,
            losses,
            ..
        } => assert_eq!((attempt, failures, losses), (4, 0, 0)),
        other => panic!("{other:?}"),
    }
    match h.run(requeue("dead")).await {
        Outcome::NotQueued { status, .. } => assert_eq!(status, TaskStatus::Running),
        other => panic!("{other:?}"),
    }
    h.finish(seq, 4, 30, succeeded("at last")).await;
    match h.run(requeue("dead")).await {
        Outcome::NotQueued { status, .. } => assert_eq!(status, TaskStatus::Succeeded),
        other => panic!("{other:?}"),
    }
    assert!(matches!(h.run(requeue("unknown")).await, Outcome::Gone));
}
