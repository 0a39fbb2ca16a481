//! Queries: order, pages, filters, numbers.

use std::sync::Arc;

use deia::task::{Priority, TaskStatus, TaskType};

use super::*;

fn urgent(name: &str, priority: Priority) -> NewTask {
    NewTask {
        priority,
        ..task(name)
    }
}

fn names(tasks: &[TaskRecord]) -> Vec<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

pub(in crate::store) async fn ready_tasks_come_by_priority_and_age(mut h: Harness) {
    let p2 = h.submit(urgent("p2", Priority::P2)).await;
    let p0 = h.submit(urgent("p0", Priority::P0)).await;
    let p3 = h.submit(urgent("p3", Priority::P3)).await;
    let p0_later = h.submit(urgent("p0-later", Priority::P0)).await;
    let other = NewTask {
        demand: "other".into(),
        ..task("other")
    };
    h.submit(other).await;
    let demand: Arc<str> = "general".into();
    let mut after = None;
    let mut order = Vec::new();
    loop {
        let page = h
            .store()
            .ready_after(Arc::clone(&demand), after, 3)
            .await
            .unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some((last.priority, last.seq));
        order.extend(page.iter().map(|r| r.seq));
    }
    assert_eq!(order, [p0, p0_later, p2, p3]);
}

pub(in crate::store) async fn a_position_counts_what_stands_before(mut h: Harness) {
    let p2 = h.submit(urgent("p2", Priority::P2)).await;
    let p0 = h.submit(urgent("p0", Priority::P0)).await;
    let p2_later = h.submit(urgent("p2-later", Priority::P2)).await;
    for (place, expected) in [
        ((Priority::P0, p0), 0),
        ((Priority::P2, p2), 1),
        ((Priority::P2, p2_later), 2),
        ((Priority::P3, 0), 3),
    ] {
        let ahead = h.store().ahead_of("general".into(), place).await.unwrap();
        assert_eq!(ahead, expected, "{place:?}");
    }
}

pub(in crate::store) async fn pages_are_stable_under_writes(mut h: Harness) {
    for n in 0..6 {
        h.submit(task(&format!("t{n}"))).await;
    }
    let any = TaskFilter::default;
    let first = h.store().list(any(), None, 3).await.unwrap();
    assert_eq!(names(&first), ["t5", "t4", "t3"]);
    h.submit(task("new")).await;
    h.lease(first[2].seq).await;
    let second = h.store().list(any(), Some(first[2].seq), 3).await.unwrap();
    assert_eq!(names(&second), ["t2", "t1", "t0"]);
    let third = h.store().list(any(), Some(second[2].seq), 3).await.unwrap();
    assert_eq!(third, []);
}

pub(in crate::store) async fn filters_select(mut h: Harness) {
    h.ended(task("done"), 2, succeeded("x")).await;
    h.ended(task("dead"), 2, dead()).await;
    let for_one = NewTask {
        bot_id: Some("coder-2".into()),
        task_type: TaskType::Writing,
        ..task("for-one")
    };
    h.submit(for_one).await;
    let scheduled = NewTask {
        not_before: Some(at(50)),
        ..urgent("later", Priority::P0)
    };
    h.submit(scheduled).await;
    let runs = h.submit(task("runs")).await;
    h.lease(runs).await;

    let status = |status| TaskFilter {
        status: Some(status),
        ..TaskFilter::default()
    };
    for (wanted, expected) in [
        (TaskStatus::Scheduled, vec!["later"]),
        (TaskStatus::Queued, vec!["for-one"]),
        (TaskStatus::Running, vec!["runs"]),
        (TaskStatus::Succeeded, vec!["done"]),
        (TaskStatus::Dead, vec!["dead"]),
        (TaskStatus::Cancelled, vec![]),
        (TaskStatus::Expired, vec![]),
    ] {
        assert_eq!(names(&h.all(status(wanted)).await), expected, "{wanted}");
    }
    let bot = |name: &str| TaskFilter {
        bot: Some(name.into()),
        ..TaskFilter::default()
    };
    assert_eq!(names(&h.all(bot("coder")).await), ["runs", "dead", "done"]);
    assert_eq!(names(&h.all(bot("coder-2")).await), ["for-one"]);
    assert_eq!(h.all(bot("nobody")).await, []);
    let mixed = TaskFilter {
        status: Some(TaskStatus::Dead),
        ..bot("coder")
    };
    assert_eq!(names(&h.all(mixed).await), ["dead"]);
    let writing = TaskFilter {
        task_type: Some(TaskType::Writing),
        ..TaskFilter::default()
    };
    assert_eq!(names(&h.all(writing).await), ["for-one"]);
    let urgent = TaskFilter {
        priority: Some(Priority::P0),
        ..TaskFilter::default()
    };
    assert_eq!(names(&h.all(urgent).await), ["later"]);
}

pub(in crate::store) async fn demands_count_what_is_ready(mut h: Harness) {
    h.submit(urgent("a", Priority::P0)).await;
    h.submit(urgent("b", Priority::P2)).await;
    let leased = h.submit(urgent("c", Priority::P2)).await;
    h.lease(leased).await;
    let elsewhere = |name: &str| NewTask {
        demand: "elsewhere".into(),
        ..urgent(name, Priority::P3)
    };
    h.submit(elsewhere("d")).await;
    h.submit(elsewhere("e")).await;
    let scheduled = NewTask {
        not_before: Some(at(50)),
        demand: "later".into(),
        ..task("f")
    };
    h.submit(scheduled).await;
    let mut demands = h.store().demands().await.unwrap();
    demands.sort();
    assert_eq!(
        demands,
        [
            ("elsewhere".into(), [0, 0, 0, 2]),
            ("general".into(), [1, 0, 1, 0]),
        ]
    );
}

pub(in crate::store) async fn counts_are_what_a_recount_gives(mut h: Harness) {
    assert_eq!(h.store().counts().await.unwrap().by_status, [0; 7]);
    h.ended(task("done"), 2, succeeded("x")).await;
    h.ended(task("dead"), 2, dead()).await;
    h.ended(task("cancelled"), 2, End::Cancelled).await;
    h.submit(task("queued")).await;
    h.submit(task("queued-2")).await;
    let runs = h.submit(task("runs")).await;
    h.lease(runs).await;
    let scheduled = NewTask {
        not_before: Some(at(50)),
        ..task("scheduled")
    };
    h.submit(scheduled).await;
    let counts = h.store().counts().await.unwrap();
    assert_eq!(counts.by_status, [1, 2, 1, 1, 1, 1, 0]);
    for status in TaskStatus::ALL {
        let filter = TaskFilter {
            status: Some(status),
            ..TaskFilter::default()
        };
        let recount = h.all(filter).await.len() as u64;
        assert_eq!(counts.of(status), recount, "{status}");
    }
}

pub(in crate::store) async fn what_runs_is_listed_with_who_has_it(mut h: Harness) {
    let waiting = h.submit(task("waits")).await;
    let first = h.submit(urgent("first", Priority::P3)).await;
    let second = h.submit(urgent("second", Priority::P0)).await;
    h.lease(second).await;
    h.lease(first).await;
    let running = h.store().running().await.unwrap();
    let seen: Vec<_> = running
        .iter()
        .map(|leased| (leased.ready.seq, leased.attempt, leased.bot_id.as_str()))
        .collect();
    assert_eq!(seen, [(first, 1, "coder"), (second, 1, "coder")]);
    assert_eq!((running[0].failures, running[0].losses), (0, 0));
    assert_eq!(&*running[1].ready.demand, "general");
    assert!(running.iter().all(|leased| leased.ready.seq != waiting));
}

pub(in crate::store) async fn unknown_names_are_nothing(h: Harness) {
    let nobody = id("nobody");
    assert_eq!(h.store().task(nobody.clone()).await.unwrap(), None);
    assert_eq!(h.store().content(nobody.clone()).await.unwrap(), None);
    assert_eq!(h.store().output(nobody).await.unwrap(), None);
    let demand: Arc<str> = "nothing".into();
    let ready = h.store().ready_after(Arc::clone(&demand), None, 9).await;
    assert_eq!(ready.unwrap(), []);
    let ahead = h.store().ahead_of(demand, (Priority::P3, 1)).await;
    assert_eq!(ahead.unwrap(), 0);
    assert_eq!(h.store().demands().await.unwrap(), []);
    assert_eq!(
        h.store().next_due().await.unwrap(),
        crate::store::Due::default()
    );
}

pub(in crate::store) async fn after_close_nothing_is_taken(mut h: Harness) {
    h.submit(task("before")).await;
    let last = vec![(77, Op::Submit(Box::new(task("last")), None))];
    assert!(h.store().write(last).is_ok());
    let store = Arc::clone(&h.fixture.store);
    let closing = tokio::task::spawn_blocking(move || store.close());
    let committed = h.fixture.committed.recv().await.unwrap();
    assert!(
        matches!(committed.as_slice(), [(77, Ok(Outcome::Submitted { .. }))]),
        "what was handed in is finished: {committed:?}"
    );
    closing.await.unwrap();
    let refused = h.store().write(vec![(78, Op::Probe)]);
    assert!(matches!(refused.unwrap_err().as_slice(), [(78, Op::Probe)]));
    let read = h.store().task(id("before")).await;
    assert!(matches!(read, Err(StoreError::Closed)), "{read:?}");
}
