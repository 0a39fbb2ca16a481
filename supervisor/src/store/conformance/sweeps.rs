//! Release after a start, and retention.

use deia::task::TaskStatus;

use super::*;
use crate::store::RELEASED_ERROR;

async fn retain(h: &mut Harness, ended_before: i64, max_kept: u64, limit: usize) -> u64 {
    let op = Op::Retain {
        ended_before: at(ended_before),
        max_kept,
        limit,
    };
    match h.run(op).await {
        Outcome::Removed { count } => count,
        other => panic!("{other:?}"),
    }
}

async fn names(h: &Harness) -> Vec<String> {
    let mut names: Vec<String> = h
        .all(TaskFilter::default())
        .await
        .into_iter()
        .map(|task| task.id.to_string())
        .collect();
    names.reverse();
    names
}

pub(in crate::store) async fn a_release_queues_what_ran_in_its_old_place(mut h: Harness) {
    let first = h.submit(task("first")).await;
    let second = h.submit(task("second")).await;
    h.lease(first).await;
    match h.run(Op::ReleaseAll { at: at(9) }).await {
        Outcome::Released { count } => assert_eq!(count, 1),
        other => panic!("{other:?}"),
    }
    let record = h.task("first").await;
    assert_eq!(record.status, TaskStatus::Queued);
    let [attempt] = record.attempts.as_slice() else {
        panic!("{record:?}");
    };
    assert_eq!(attempt.status, AttemptStatus::Lost);
    assert_eq!(attempt.ended_at, Some(at(9)));
    assert_eq!(attempt.error.as_deref(), Some(RELEASED_ERROR));
    let ready = h.store().ready_after("general".into(), None, 9).await;
    let order: Vec<Seq> = ready.unwrap().iter().map(|r| r.seq).collect();
    assert_eq!(order, [first, second]);
    let late = h.finish(first, 1, 10, succeeded("late")).await;
    assert!(matches!(late, Outcome::Gone), "{late:?}");
    match h.run(lease(first)).await {
        Outcome::Leased {
            attempt,
            failures,
            losses,
            ..
        } => assert_eq!((attempt, failures, losses), (2, 0, 0)),
        other => panic!("{other:?}"),
    }
}

pub(in crate::store) async fn retention_removes_by_age(mut h: Harness) {
    h.ended(task("old"), 10, succeeded("x")).await;
    h.ended(task("edge"), 20, dead()).await;
    h.ended(task("young"), 30, succeeded("x")).await;
    h.submit(task("waits")).await;
    let runs = h.submit(task("runs")).await;
    h.lease(runs).await;
    assert_eq!(retain(&mut h, 20, 99, 99).await, 1);
    assert_eq!(names(&h).await, ["edge", "young", "waits", "runs"]);
    let old = id("old");
    assert_eq!(h.store().task(old.clone()).await.unwrap(), None);
    assert_eq!(h.store().content(old.clone()).await.unwrap(), None);
    assert_eq!(h.store().output(old).await.unwrap(), None);
    // Its name is free again, and nothing of it comes back.
    h.submit(task("old")).await;
    assert_eq!(h.task("old").await.attempts, []);
}

pub(in crate::store) async fn retention_removes_by_number(mut h: Harness) {
    h.submit(task("waits")).await;
    h.ended(task("third"), 30, succeeded("x")).await;
    h.ended(task("first"), 10, dead()).await;
    h.ended(task("second"), 20, succeeded("x")).await;
    assert_eq!(retain(&mut h, 0, 3, 99).await, 0);
    assert_eq!(retain(&mut h, 0, 1, 99).await, 2);
    assert_eq!(names(&h).await, ["waits", "third"]);
    assert_eq!(retain(&mut h, 0, 0, 99).await, 1);
    assert_eq!(names(&h).await, ["waits"]);
}

pub(in crate::store) async fn retention_is_bounded(mut h: Harness) {
    for n in 0..5 {
        h.ended(task(&format!("t{n}")), n, succeeded("x")).await;
    }
    assert_eq!(retain(&mut h, 4, 99, 3).await, 3);
    assert_eq!(retain(&mut h, 4, 99, 3).await, 1);
    assert_eq!(names(&h).await, ["t4"]);
}

pub(in crate::store) async fn a_place_is_never_used_again(mut h: Harness) {
    let newest = h.ended(task("newest"), 1, succeeded("x")).await;
    assert_eq!(retain(&mut h, 99, 99, 99).await, 1);
    assert!(h.submit(task("next")).await > newest);
}
