//! A task's way from its submission to its end.

use std::sync::Arc;

use deia::task::{Complexity, Fence, Priority, TaskStatus, TaskType};
use deia::wire::Usage;

use super::*;
use crate::store::{AttemptRecord, CANCELLED_ERROR, ResultRecord};

pub(in crate::store) async fn a_submission_is_kept_as_it_came(mut h: Harness) {
    let full = NewTask {
        priority: Priority::P0,
        task_type: TaskType::Development,
        complexity: Complexity::Complex,
        required_capabilities: vec!["python".into(), "say \"hi\", ok".into()],
        bot_id: Some("coder-2".into()),
        pool: Some("coder".into()),
        demand: "pool:coder bot:coder-2".into(),
        max_attempts: u32::MAX,
        timeout_ms: u64::MAX,
        metadata: Some("{\"a\":1}".into()),
        content: "ünï\0code\n".repeat(1_000).into(),
        ..task("full")
    };
    let seq = h.submit(full.clone()).await;
    assert_eq!(
        h.task("full").await,
        TaskRecord {
            seq,
            id: full.id,
            status: TaskStatus::Queued,
            priority: full.priority,
            task_type: full.task_type,
            complexity: full.complexity,
            required_capabilities: full.required_capabilities,
            bot_id: full.bot_id,
            pool: full.pool,
            demand: full.demand,
            max_attempts: full.max_attempts,
            timeout_ms: full.timeout_ms,
            not_before: None,
            metadata: full.metadata,
            submitted_at: full.submitted_at,
            ended_at: None,
            attempts: Vec::new(),
            result: None,
            error: None,
        }
    );
    let content = h.store().content(id("full")).await.unwrap();
    assert_eq!(content.as_deref(), Some(&*full.content));
    assert_eq!(h.store().output(id("full")).await.unwrap(), None);
}

pub(in crate::store) async fn the_same_submission_twice_is_one_task(mut h: Harness) {
    let submit = || Op::Submit(Box::new(task("a")), None);
    let outcomes = h.batch(vec![submit(), submit()]).await;
    let [
        Ok(Outcome::Submitted { seq }),
        Ok(Outcome::Duplicate(record)),
    ] = outcomes.as_slice()
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!(*seq, record.seq);
    let attempt = h.lease(*seq).await;
    h.finish(*seq, attempt, 2, succeeded("done")).await;
    let lease = Lease {
        bot_id: "coder".into(),
        at: at(3),
        letter: None,
    };
    match h.run(Op::Submit(Box::new(task("a")), Some(lease))).await {
        Outcome::Duplicate(record) => {
            assert_eq!(*record, h.task("a").await);
            assert_eq!(record.status, TaskStatus::Succeeded);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(h.all(TaskFilter::default()).await.len(), 1);
}

pub(in crate::store) async fn a_taken_id_with_another_request_is_a_conflict(mut h: Harness) {
    h.submit(task("a")).await;
    let other = NewTask {
        request_hash: [8; 32],
        content: "something else".into(),
        ..task("a")
    };
    let outcome = h.run(Op::Submit(Box::new(other), None)).await;
    assert!(matches!(outcome, Outcome::Conflict), "{outcome:?}");
    let content = h.store().content(id("a")).await.unwrap();
    assert_eq!(content.as_deref(), Some("do a"));
    // The same where nothing shall be taken.
    let known = |name, request_hash| Op::Known {
        id: id(name),
        request_hash,
    };
    let outcome = h.run(known("a", [8; 32])).await;
    assert!(matches!(outcome, Outcome::Conflict), "{outcome:?}");
    match h.run(known("a", task("a").request_hash)).await {
        Outcome::Duplicate(record) => assert_eq!(*record, h.task("a").await),
        other => panic!("{other:?}"),
    }
    let outcome = h.run(known("b", [8; 32])).await;
    assert!(matches!(outcome, Outcome::Gone), "{outcome:?}");
}

pub(in crate::store) async fn a_submission_with_a_lease_is_running_at_once(mut h: Harness) {
    let hold = Lease {
        bot_id: "coder".into(),
        at: at(1),
        letter: None,
    };
    let outcome = h.run(Op::Submit(Box::new(task("a")), Some(hold))).await;
    let Outcome::Submitted { seq } = outcome else {
        panic!("{outcome:?}");
    };
    let record = h.task("a").await;
    assert_eq!(record.status, TaskStatus::Running);
    assert_eq!(
        record.attempts,
        [AttemptRecord {
            attempt: 1,
            bot_id: "coder".into(),
            status: AttemptStatus::Running,
            started_at: at(1),
            ended_at: None,
            error: None,
        }]
    );
    assert!(matches!(h.run(lease(seq)).await, Outcome::Gone));
    let outcome = h.finish(seq, 1, 2, succeeded("done")).await;
    assert!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
}

pub(in crate::store) async fn a_task_is_leased_once(mut h: Harness) {
    let seq = h.submit(task("a")).await;
    let outcomes = h.batch(vec![lease(seq), lease(seq), lease(seq + 1)]).await;
    assert!(
        matches!(
            outcomes.as_slice(),
            [
                Ok(Outcome::Leased {
                    attempt: 1,
                    failures: 0,
                    losses: 0,
                    content: None,
                }),
                Ok(Outcome::Gone),
                Ok(Outcome::Gone),
            ]
        ),
        "{outcomes:?}"
    );
    h.finish(seq, 1, 2, retry(Counts::No, None)).await;
    let Op::Lease { seq, lease, .. } = lease(seq) else {
        unreachable!()
    };
    let outcome = h
        .run(Op::Lease {
            seq,
            lease,
            want_content: true,
        })
        .await;
    let Outcome::Leased {
        attempt, content, ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((attempt, content), (2, Some(Arc::from("do a"))));
}

pub(in crate::store) async fn a_success_keeps_its_result(mut h: Harness) {
    let seq = h.submit(task("a")).await;
    h.lease(seq).await;
    let output = "résumé ".repeat(3_000);
    let outcome = h
        .run(Op::Finish {
            seq,
            fence: h.fence(1),
            started_at: Some(at(2)),
            choice: None,
            at: at(5),
            end: succeeded(&output),
        })
        .await;
    assert!(
        matches!(
            outcome,
            Outcome::Finished {
                status: TaskStatus::Succeeded
            }
        ),
        "{outcome:?}"
    );
    let record = h.task("a").await;
    assert_eq!(record.status, TaskStatus::Succeeded);
    assert_eq!(record.ended_at, Some(at(5)));
    assert_eq!(record.error, None);
    assert_eq!(
        record.result,
        Some(ResultRecord {
            output_bytes: output.len() as u64,
            truncated: false,
            usage: Usage {
                prompt_tokens: 3,
                completion_tokens: u64::MAX,
            },
            backend: "echo".into(),
            model: Some("parrot".into()),
        })
    );
    let [attempt] = record.attempts.as_slice() else {
        panic!("{record:?}");
    };
    assert_eq!(attempt.status, AttemptStatus::Succeeded);
    assert_eq!((attempt.started_at, attempt.ended_at), (at(2), Some(at(5))));
    assert_eq!(h.store().output(id("a")).await.unwrap(), Some(output));
}

pub(in crate::store) async fn late_and_foreign_results_are_refused(mut h: Harness) {
    let seq = h.submit(task("a")).await;
    h.lease(seq).await;
    h.finish(seq, 1, 2, retry(Counts::AsLoss, None)).await;
    let late = h.finish(seq, 1, 3, succeeded("late")).await;
    assert!(matches!(late, Outcome::Gone), "queued: {late:?}");
    assert_eq!(h.lease(seq).await, 2);
    let late = h.finish(seq, 1, 4, succeeded("late")).await;
    assert!(matches!(late, Outcome::Gone), "attempt 1: {late:?}");
    let early = h.finish(seq, 3, 4, succeeded("early")).await;
    assert!(matches!(early, Outcome::Gone), "attempt 3: {early:?}");
    let foreign = h
        .run(Op::Finish {
            seq,
            fence: Fence {
                epoch: h.store().epoch() ^ 1,
                attempt: 2,
            },
            started_at: None,
            choice: None,
            at: at(5),
            end: succeeded("foreign"),
        })
        .await;
    assert!(matches!(foreign, Outcome::Gone), "epoch: {foreign:?}");
    assert_eq!(h.task("a").await.status, TaskStatus::Running);
    h.finish(seq, 2, 6, succeeded("right")).await;
    let twice = h.finish(seq, 2, 7, succeeded("twice")).await;
    assert!(matches!(twice, Outcome::Gone), "{twice:?}");
    let output = h.store().output(id("a")).await.unwrap();
    assert_eq!(output.as_deref(), Some("right"));
}

pub(in crate::store) async fn a_retry_keeps_its_place(mut h: Harness) {
    let first = h.submit(task("first")).await;
    let second = h.submit(task("second")).await;
    h.lease(first).await;
    let outcome = h.finish(first, 1, 2, retry(Counts::AsFailure, None)).await;
    assert!(
        matches!(
            outcome,
            Outcome::Finished {
                status: TaskStatus::Queued
            }
        ),
        "{outcome:?}"
    );
    let ready = h.store().ready_after("general".into(), None, 9).await;
    let order: Vec<Seq> = ready.unwrap().iter().map(|r| r.seq).collect();
    assert_eq!(order, [first, second]);
    let record = h.task("first").await;
    assert_eq!(record.error.as_deref(), Some("no luck"));
    assert_eq!(record.attempts[0].status, AttemptStatus::Failed);
}

pub(in crate::store) async fn failures_and_losses_are_counted_apart(mut h: Harness) {
    let seq = h.submit(task("a")).await;
    let ends = [
        (Counts::AsLoss, (0, 1)),
        (Counts::AsLoss, (0, 2)),
        (Counts::No, (0, 2)),
        (Counts::AsFailure, (1, 0)),
        (Counts::AsLoss, (1, 1)),
    ];
    for (round, (counts, expected)) in ends.into_iter().enumerate() {
        let attempt = round as u32 + 1;
        if round == 0 {
            h.lease(seq).await;
        }
        h.finish(seq, attempt, 2, retry(counts, None)).await;
        let outcome = h.run(lease(seq)).await;
        let Outcome::Leased {
            attempt: next,
            failures,
            losses,
            ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(next, attempt + 1);
        assert_eq!((failures, losses), expected, "after {counts:?}");
    }
}

pub(in crate::store) async fn a_dead_task_says_why(mut h: Harness) {
    let seq = h.ended(task("a"), 4, dead()).await;
    let record = h.task("a").await;
    assert_eq!(record.status, TaskStatus::Dead);
    assert_eq!(record.error.as_deref(), Some("hopeless"));
    assert_eq!(record.ended_at, Some(at(4)));
    assert_eq!(record.result, None);
    assert!(matches!(h.run(lease(seq)).await, Outcome::Gone));
}

pub(in crate::store) async fn a_running_task_is_cancelled_by_its_fence(mut h: Harness) {
    let seq = h.submit(task("a")).await;
    h.lease(seq).await;
    let asked = h
        .run(Op::Cancel {
            id: id("a"),
            at: at(2),
        })
        .await;
    match asked {
        Outcome::NotQueued { status, seq: place } => {
            assert_eq!((status, place), (TaskStatus::Running, seq));
        }
        other => panic!("{other:?}"),
    }
    h.finish(seq, 1, 3, End::Cancelled).await;
    let record = h.task("a").await;
    assert_eq!(record.status, TaskStatus::Cancelled);
    assert_eq!(record.attempts[0].status, AttemptStatus::Failed);
    assert_eq!(record.attempts[0].error.as_deref(), Some(CANCELLED_ERROR));
}

pub(in crate::store) async fn outcomes_come_in_order_with_their_tickets(mut h: Harness) {
    // More than one transaction takes; the harness checks the tickets.
    let count = crate::store::MAX_OPS_PER_COMMIT * 2 + 10;
    let ops = (0..count)
        .map(|n| Op::Submit(Box::new(task(&format!("t{n}"))), None))
        .collect();
    let mut last = 0;
    for outcome in h.batch(ops).await {
        match outcome {
            Ok(Outcome::Submitted { seq }) if seq > last => last = seq,
            other => panic!("after {last}: {other:?}"),
        }
    }
    let outcome = h.run(Op::Probe).await;
    assert!(matches!(outcome, Outcome::Probed), "{outcome:?}");
}
