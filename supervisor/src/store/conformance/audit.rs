//! The trail: in the same transaction as the act, in one chain, found by what it says, and gone in order.

use deia::api::{AuditAction, AuditLevel, AuditResult};

use super::*;
use crate::audit::{Actor, Check, Entry};
use crate::store::{AuditFilter, AuditRecord, AuditTally, Audited};

fn entry(action: AuditAction, target: &str, second: i64) -> Entry {
    Entry::new(at(second), action, Actor::bot("coder"), target)
}

fn audited(op: Op, entry: Entry) -> Op {
    Op::Audited(Box::new(Audited { op, entry }))
}

fn record(entry: Entry) -> Op {
    Op::Record(Box::new(entry))
}

async fn trail(h: &Harness) -> Vec<AuditRecord> {
    h.store().audit_after(0, usize::MAX).await.unwrap()
}

/// Verified in portions of three.
pub(super) async fn checked(h: &Harness) -> Check {
    let mut check = Check::default();
    loop {
        let (further, is_done) = h.store().audit_check(check, 3).await.unwrap();
        check = further;
        if is_done {
            return check;
        }
    }
}

pub(in crate::store) async fn a_record_comes_with_its_act_and_not_without(mut h: Harness) {
    let submit = |name: &str| {
        let op = Op::Submit(Box::new(task(name)), None);
        audited(op, entry(AuditAction::TaskSubmitted, name, 0))
    };
    let outcomes = h.batch(vec![submit("a"), submit("a"), submit("b")]).await;
    assert!(matches!(outcomes[0], Ok(Outcome::Submitted { .. })));
    assert!(matches!(outcomes[1], Ok(Outcome::Duplicate(_))));
    let gone = Op::Cancel {
        id: id("nobody"),
        at: at(1),
    };
    let gone = audited(gone, entry(AuditAction::TaskCancelled, "nobody", 1));
    assert!(matches!(h.run(gone).await, Outcome::Gone));
    let said = h.run(record(entry(AuditAction::ApiCall, "x", 2))).await;
    let Outcome::Recorded(recorded) = said else {
        panic!("{said:?}")
    };
    let trail = trail(&h).await;
    let targets: Vec<&str> = trail.iter().map(|r| &*r.entry.target).collect();
    assert_eq!(targets, ["a", "b", "x"]);
    assert_eq!(trail.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(trail[0].previous, [0; 32]);
    assert_eq!(trail[2].previous, trail[1].hash);
    assert_eq!((recorded.link.seq, recorded.link.hash), (3, trail[2].hash));
    assert_eq!(*h.store().audit_head().borrow(), recorded.link);
    assert_eq!(checked(&h).await.bad(), []);
}

pub(in crate::store) async fn each_expired_task_is_on_record(mut h: Harness) {
    h.submit(task("a")).await;
    h.submit(task("b")).await;
    let expire = Op::Expire {
        queued_before: at(5),
        at: at(6),
        limit: 10,
    };
    h.run(audited(expire, entry(AuditAction::TaskExpired, "", 6)))
        .await;
    let trail = trail(&h).await;
    let targets: Vec<&str> = trail.iter().map(|r| &*r.entry.target).collect();
    assert_eq!(targets, ["a", "b"]);
}

pub(in crate::store) async fn records_are_found_by_what_they_say(mut h: Harness) {
    let full = Entry {
        level: AuditLevel::Critical,
        result: AuditResult::Partial,
        details: Some(r#"{"n":1}"#.into()),
        error: Some("why".into()),
        actor: Actor {
            remote: Some("127.0.0.1:1".into()),
            ..Actor::bot("other")
        },
        ..entry(AuditAction::ConfigChanged, "bot_limits", 9)
    };
    let entries = vec![
        entry(AuditAction::TaskSubmitted, "a", 1),
        entry(AuditAction::TaskCompleted, "a", 2),
        full.clone(),
        entry(AuditAction::TaskSubmitted, "b", 3),
    ];
    h.batch(entries.into_iter().map(record).collect()).await;
    let found = async |filter: AuditFilter| {
        let page = h.store().audit(filter, None, 10).await.unwrap();
        assert_eq!((page.damaged, page.next), (vec![], None));
        page.records
    };
    let seqs = async |filter: AuditFilter| {
        let records = found(filter).await;
        records.iter().map(|r| r.seq).collect::<Vec<_>>()
    };
    let any = AuditFilter::default;
    assert_eq!(seqs(any()).await, [4, 3, 2, 1]);
    let action = |action| AuditFilter {
        action: Some(action),
        ..any()
    };
    assert_eq!(seqs(action(AuditAction::TaskSubmitted)).await, [4, 1]);
    assert_eq!(
        found(action(AuditAction::ConfigChanged)).await[0].entry,
        full
    );
    let target = AuditFilter {
        target: Some("a".into()),
        ..any()
    };
    assert_eq!(seqs(target.clone()).await, [2, 1]);
    let completed = AuditFilter {
        action: Some(AuditAction::TaskCompleted),
        ..target
    };
    assert_eq!(seqs(completed).await, [2]);
    let actor = AuditFilter {
        actor: Some("bot:coder".into()),
        ..any()
    };
    assert_eq!(seqs(actor).await, [4, 2, 1]);
    let critical = AuditFilter {
        level: Some(AuditLevel::Critical),
        since: Some(at(9)),
        ..any()
    };
    assert_eq!(seqs(critical.clone()).await, [3]);
    let later = AuditFilter {
        since: Some(at(10)),
        ..critical
    };
    assert_eq!(seqs(later).await, [0; 0]);
    let partial = AuditFilter {
        result: Some(AuditResult::Partial),
        ..any()
    };
    assert_eq!(seqs(partial).await, [3]);
}

pub(in crate::store) async fn pages_of_records_are_stable_under_writes(mut h: Harness) {
    let note = |n: i64| record(entry(AuditAction::ApiCall, &format!("t{n}"), n));
    h.batch((1..=7).map(note).collect()).await;
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = h.store().audit(AuditFilter::default(), before, 3).await;
        let page = page.unwrap();
        seen.extend(page.records.iter().map(|r| r.seq));
        h.run(note(8)).await;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

pub(in crate::store) async fn what_is_past_its_time_goes_and_an_anchor_stays(mut h: Harness) {
    let note = |n: i64| record(entry(AuditAction::ApiCall, &format!("t{n}"), n));
    h.batch((1..=5).map(note).collect()).await;
    let whole = trail(&h).await;
    let prune = |before: i64, overdue: i64, limit: usize| Op::Prune {
        before: at(before),
        overdue: at(overdue),
        limit,
        at: at(20),
    };
    let removed = |outcome: Outcome| match outcome {
        Outcome::Removed { count } => count,
        other => panic!("{other:?}"),
    };
    // Three are past their time: no full portion, and not overdue.
    assert_eq!(removed(h.run(prune(4, 1, 4)).await), 0);
    // A full portion.
    assert_eq!(removed(h.run(prune(4, 1, 2)).await), 2);
    // Overdue.
    assert_eq!(removed(h.run(prune(4, 4, 10)).await), 1);
    let left = trail(&h).await;
    let actions: Vec<_> = left.iter().map(|r| (r.seq, r.entry.action)).collect();
    let pruned = AuditAction::AuditPruned;
    let note = AuditAction::ApiCall;
    assert_eq!(actions, [(4, note), (5, note), (6, pruned), (7, pruned)]);
    assert_eq!(left[0], whole[3], "it is what it was");
    let check = checked(&h).await;
    assert_eq!(check.bad(), []);
    assert_eq!((check.anchor().link.seq, check.anchor().removed), (3, 3));
    assert_eq!(check.anchor().link.hash, whole[2].hash);
    // All of it: what was removed is on record all the same.
    assert_eq!(removed(h.run(prune(100, 100, 10)).await), 4);
    assert_eq!(trail(&h).await.len(), 1);
    assert_eq!(checked(&h).await.bad(), []);
}

pub(in crate::store) async fn figures_are_gathered_in_portions(mut h: Harness) {
    let actions = [AuditAction::ApiCall, AuditAction::ScaleUp];
    let note = |n: i64| record(entry(actions[n as usize % 2], "t", n));
    h.batch((1..=7).map(note).collect()).await;
    let (mut tally, mut portions) = (AuditTally::default(), 0);
    while !tally.complete {
        tally = h.store().audit_tally(tally, 3).await.unwrap();
        portions += 1;
    }
    assert_eq!((tally.total, portions), (7, 3));
    assert_eq!(tally.actions["scale_up"], 4);
    assert_eq!(tally.actors["bot:coder"], 7);
    assert_eq!(tally.range, Some((at(1), at(7))));
}
