//! What routing has learned, and why an attempt went to its bot.

use super::*;
use crate::store::{Learned, LearnedRow};

fn row(bot: &str, on: Option<TaskType>, seconds: f64, second: i64) -> LearnedRow {
    LearnedRow {
        bot: bot.into(),
        on,
        samples: 3,
        seconds,
        success_rate: 0.91,
        updated_at: at(second),
    }
}

pub(in crate::store) async fn what_was_learned_is_kept_and_replaced(mut h: Harness) {
    assert_eq!(h.store().learned().await.unwrap(), Learned::default());
    let writing = Some(TaskType::Writing);
    let first = vec![
        row("coder", writing, 12.9, 3),
        row("coder", None, 0.0, 3),
        row("other", writing, 0.1, 2),
    ];
    let outcome = h.run(Op::Learn(first)).await;
    assert!(matches!(outcome, Outcome::Learned), "{outcome:?}");
    h.run(Op::Learn(vec![row("coder", writing, 13.0, 4)])).await;
    let learned = h.store().learned().await.unwrap();
    let expected = [
        row("other", writing, 0.1, 2),
        row("coder", None, 0.0, 3),
        row("coder", writing, 13.0, 4),
    ];
    assert_eq!(learned.rows, expected, "the longest known first");
}

pub(in crate::store) async fn what_was_learned_is_forgotten_under_another_version(mut h: Harness) {
    let under = |version, forget| Op::LearnUnder { version, forget };
    h.run(under(1, false)).await;
    h.run(Op::Learn(vec![row("coder", None, 0.0, 1)])).await;
    h.run(under(2, false)).await;
    let learned = h.store().learned().await.unwrap();
    assert_eq!((learned.under, learned.rows.len()), (Some(2), 1));
    h.run(under(3, true)).await;
    let learned = h.store().learned().await.unwrap();
    assert_eq!((learned.under, learned.rows.len()), (Some(3), 0));
}

pub(in crate::store) async fn the_reason_of_an_attempt_is_kept_with_it(mut h: Harness) {
    assert_eq!(h.store().choices(id("a")).await.unwrap(), []);
    let seq = h.submit(task("a")).await;
    let attempt = h.lease(seq).await;
    h.finish(seq, attempt, 2, retry(Counts::No, None)).await;
    let attempt = h.lease(seq).await;
    let unknown = Op::Finish {
        seq,
        fence: h.fence(attempt),
        started_at: None,
        at: at(3),
        end: retry(Counts::No, None),
        choice: None,
    };
    h.run(unknown).await;
    let attempt = h.lease(seq).await;
    h.finish(seq, attempt, 4, dead()).await;
    let choices = h.store().choices(id("a")).await.unwrap();
    let expected = [1, 3].map(|n| (n, format!("why attempt {n}")));
    assert_eq!(choices, expected);
}
