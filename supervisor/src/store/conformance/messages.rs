//! Messages: kept, delivered, read, over.

use deia::message::MessageStatus;

use super::*;
use crate::brain::clock::Clocks;
use crate::store::{MessageRecord, NewMessage};

fn message(id: &str, to: &str, priority: Priority, second: i64, ttl_seconds: u64) -> NewMessage {
    NewMessage {
        id: id.into(),
        from_bot: "a".into(),
        to_bot: to.into(),
        content: format!("the text of {id}"),
        priority,
        metadata: Some(r#"{"n":1}"#.into()),
        created_at: at(second),
        ttl_seconds,
    }
}

fn plain(id: &str) -> NewMessage {
    message(id, "b", Priority::P2, 0, 3600)
}

fn send(messages: Vec<NewMessage>) -> Op {
    send_while_up(messages, &[])
}

fn send_while_up(messages: Vec<NewMessage>, up: &[&str]) -> Op {
    Op::Send {
        messages,
        up: up.iter().map(ToString::to_string).collect(),
        at: at(1),
        max_unread: 3,
    }
}

fn deliver(second: i64) -> Op {
    Op::Deliver {
        bot: "b".into(),
        at: at(second).into(),
        limit: 2,
    }
}

async fn inbox(h: &Harness, priority: Option<Priority>, second: i64) -> Vec<MessageRecord> {
    let found = h
        .store()
        .inbox("b".into(), priority, at(second).into(), 100);
    found.await.unwrap()
}

fn ids(messages: &[MessageRecord]) -> Vec<&str> {
    messages.iter().map(|m| m.sent.id.as_str()).collect()
}

pub(in crate::store) async fn a_message_is_kept_as_it_was_sent(mut h: Harness) {
    let outcome = h.run(send(vec![plain("m")])).await;
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    let found = h.store().message("m".into()).await.unwrap().unwrap();
    assert_eq!(found.sent, plain("m"));
    assert_eq!(found.status, MessageStatus::Pending);
    assert_eq!((found.delivered_at, found.read_at), (None, None));
    assert_eq!(h.store().message("n".into()).await.unwrap(), None);
    let (awaited, next) = h.store().awaited().await.unwrap();
    assert_eq!((awaited, next), (vec!["b".to_owned()], Some(at(3600))));
}

pub(in crate::store) async fn what_is_for_a_bot_that_is_up_is_delivered_at_once(mut h: Harness) {
    let other = NewMessage {
        to_bot: "c".into(),
        ..plain("n")
    };
    let outcome = h.run(send_while_up(vec![plain("m"), other], &["b"])).await;
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    let found = inbox(&h, None, 2).await;
    assert_eq!(ids(&found), ["m"]);
    assert_eq!(found[0].status, MessageStatus::Delivered);
    assert_eq!(found[0].delivered_at, Some(at(1)));
    let (awaited, next) = h.store().awaited().await.unwrap();
    assert_eq!((awaited, next), (vec!["c".to_owned()], Some(at(3600))));
}

pub(in crate::store) async fn what_waits_is_delivered_once_in_portions(mut h: Harness) {
    h.run(send(vec![plain("1"), plain("2"), plain("3")])).await;
    let Outcome::Delivered { ids, more, .. } = h.run(deliver(5)).await else {
        panic!()
    };
    assert_eq!((ids, more), (vec!["1".to_owned(), "2".to_owned()], true));
    let Outcome::Delivered { ids, more, .. } = h.run(deliver(6)).await else {
        panic!()
    };
    assert_eq!((ids, more), (vec!["3".to_owned()], false));
    let Outcome::Delivered { ids, more, .. } = h.run(deliver(7)).await else {
        panic!()
    };
    assert!(ids.is_empty() && !more);
    let found = h.store().message("1".into()).await.unwrap().unwrap();
    assert_eq!(found.status, MessageStatus::Delivered);
    assert_eq!(found.delivered_at, Some(at(5)));
}

pub(in crate::store) async fn the_urgent_come_first_and_what_was_read_last(mut h: Harness) {
    let urgent = message("urgent", "b", Priority::P0, 1, 3600);
    let other = message("other", "c", Priority::P0, 1, 3600);
    h.run(send(vec![plain("1"), plain("2"), other, urgent]))
        .await;
    let read = |by: Option<&str>| Op::ReadMessage {
        id: "1".into(),
        by: by.map(str::to_owned),
        at: at(9).into(),
    };
    let foreign = h.run(read(Some("c"))).await;
    assert!(matches!(foreign, Outcome::Gone), "{foreign:?}");
    let Outcome::Message { message, emptied } = h.run(read(Some("b"))).await else {
        panic!()
    };
    assert_eq!((message.status, emptied), (MessageStatus::Read, false));
    assert_eq!(message.read_at, Some(at(9)));
    assert_eq!(message.delivered_at, Some(at(9)), "read is delivered");
    assert_eq!(ids(&inbox(&h, None, 10).await), ["urgent", "2", "1"]);
    let urgent = inbox(&h, Some(Priority::P0), 10).await;
    assert_eq!(ids(&urgent), ["urgent"]);
    let drain = Op::Drain {
        bot: "b".into(),
        at: at(11).into(),
        limit: 9,
    };
    let Outcome::Messages(drained) = h.run(drain.clone()).await else {
        panic!()
    };
    assert_eq!(ids(&drained), ["urgent", "2"]);
    let Outcome::Messages(drained) = h.run(drain).await else {
        panic!()
    };
    assert_eq!(ids(&drained), [""; 0]);
    let counts = h.store().message_counts().await.unwrap();
    assert_eq!(counts.by_status, [1, 0, 3, 0, 0]);
    assert_eq!(counts.by_priority, [2, 0, 2, 0]);
    let of = |bot: &str, all, unread| (bot.to_owned(), all, unread);
    assert_eq!(counts.by_bot, [of("b", 3, 0), of("c", 1, 1)]);
}

/// The original's case 52, and after the delivery too.
pub(in crate::store) async fn what_is_not_read_in_time_expires(mut h: Harness) {
    let short = |id: &str| message(id, "b", Priority::P2, 0, 2);
    h.run(send(vec![short("1"), short("2"), plain("3")])).await;
    h.run(deliver(1)).await;
    assert_eq!(inbox(&h, None, 1).await.len(), 3);
    assert_eq!(ids(&inbox(&h, None, 2).await), ["3"], "over is over");
    let expire = |second| Op::ExpireMessages {
        now: at(second).into(),
        limit: 1,
    };
    for (second, id) in [(1, None), (2, Some("1"))] {
        let Outcome::MessagesExpired {
            expired,
            emptied,
            next,
        } = h.run(expire(second)).await
        else {
            panic!()
        };
        assert_eq!(expired.first().map(|(id, _)| id.as_str()), id);
        assert_eq!((emptied.len(), next), (0, Some(at(2))), "one waits still");
    }
    let read = Op::ReadMessage {
        id: "2".into(),
        by: None,
        at: at(3).into(),
    };
    let Outcome::Message { message: late, .. } = h.run(read).await else {
        panic!()
    };
    assert_eq!(late.status, MessageStatus::Expired);
    let Outcome::MessagesExpired {
        expired,
        emptied,
        next,
    } = h.run(expire(3)).await
    else {
        panic!()
    };
    assert_eq!((expired.len(), emptied.len(), next), (0, 0, Some(at(3600))));
    let Outcome::MessagesExpired { emptied, .. } = h.run(expire(4000)).await else {
        panic!()
    };
    assert_eq!(emptied, ["b"]);
}

/// The clock was set forward by 10,000 s at second 10: who has an hour from before it has it still.
pub(in crate::store) async fn a_clock_that_is_set_forward_takes_no_time_from_a_message(
    mut h: Harness,
) {
    let mut clocks = Clocks::new(None, "one", 0, at(0));
    clocks.look(at(10_010), at(10)).unwrap();
    let now = |second: i64| clocks.reckoning(at(10_000 + second), at(second), 86_400_000);
    let inbox = async |h: &Harness, second| {
        let found = h.store().inbox("b".into(), None, now(second), 100).await;
        found
            .unwrap()
            .into_iter()
            .map(|m| m.sent.id)
            .collect::<Vec<_>>()
    };
    let new = message("new", "b", Priority::P2, 10_012, 2);
    h.run(send(vec![plain("old"), new])).await;
    assert_eq!(inbox(&h, 13).await, ["old", "new"]);
    assert_eq!(inbox(&h, 14).await, ["old"]);
    let expire = |second| Op::ExpireMessages {
        now: now(second),
        limit: 9,
    };
    for (second, id, over) in [(14, "new", Some(at(13_600))), (3_600, "old", None)] {
        let Outcome::MessagesExpired { expired, next, .. } = h.run(expire(second)).await else {
            panic!()
        };
        let expired: Vec<_> = expired.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!((expired, next), (vec![id], over));
    }
    h.run(send(vec![plain("late")])).await;
    let Outcome::Delivered { ids, expired, .. } = h
        .run(Op::Deliver {
            bot: "b".into(),
            at: now(3_000),
            limit: 9,
        })
        .await
    else {
        panic!()
    };
    assert_eq!((ids, expired), (vec!["late".into()], Vec::<String>::new()));
    let read = Op::ReadMessage {
        id: "late".into(),
        by: None,
        at: now(3_599),
    };
    let Outcome::Message { message, .. } = h.run(read).await else {
        panic!()
    };
    assert_eq!(message.status, MessageStatus::Read);
    assert_eq!(message.read_at, Some(at(13_599)));
}

/// One of a portion is over: the others are delivered, and it is said that there may be more.
pub(in crate::store) async fn what_is_over_is_not_delivered_and_holds_up_nobody(mut h: Harness) {
    let short = message("short", "b", Priority::P2, 0, 2);
    h.run(send(vec![short, plain("1"), plain("2")])).await;
    let Outcome::Delivered { ids, expired, more } = h.run(deliver(5)).await else {
        panic!()
    };
    assert_eq!(
        (ids, expired, more),
        (vec!["1".into()], vec!["short".into()], true)
    );
}

/// Looking at a full inbox takes no more memory than an answer may have.
pub(in crate::store) async fn an_answer_has_no_more_than_its_bytes(mut h: Harness) {
    let large = |n: usize| NewMessage {
        content: "x".repeat(3 << 20),
        ..plain(&n.to_string())
    };
    for n in 0..3 {
        h.run(send(vec![large(n)])).await;
    }
    assert_eq!(ids(&inbox(&h, None, 1).await), ["0", "1"]);
    let talk = h.store().conversation("a".into(), "b".into(), 9);
    assert_eq!(ids(&talk.await.unwrap()), ["1", "2"]);
}

pub(in crate::store) async fn a_full_inbox_takes_no_more(mut h: Harness) {
    h.run(send(vec![plain("1"), plain("2")])).await;
    let broadcast = vec![message("c", "c", Priority::P2, 0, 60), plain("3")];
    let outcome = h.run(send(broadcast)).await;
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    let broadcast = vec![message("c2", "c", Priority::P2, 0, 60), plain("4")];
    let outcome = h.run(send(broadcast)).await;
    assert!(
        matches!(&outcome, Outcome::InboxFull { bot } if bot == "b"),
        "{outcome:?}"
    );
    let gone = h.store().message("c2".into()).await.unwrap();
    assert_eq!(gone, None, "all or none");
}

pub(in crate::store) async fn a_conversation_goes_both_ways_and_old_ones_go(mut h: Harness) {
    let back = NewMessage {
        from_bot: "b".into(),
        ..message("2", "a", Priority::P0, 1, 3600)
    };
    let elsewhere = message("c", "c", Priority::P2, 1, 3600);
    h.run(send(vec![plain("1"), back, elsewhere])).await;
    h.run(send(vec![message("3", "b", Priority::P1, 2, 3600)]))
        .await;
    let between = async |h: &Harness, limit| {
        let found = h.store().conversation("a".into(), "b".into(), limit);
        found.await.unwrap()
    };
    assert_eq!(ids(&between(&h, 9).await), ["1", "2", "3"]);
    assert_eq!(ids(&between(&h, 2).await), ["2", "3"]);
    h.run(Op::Drain {
        bot: "b".into(),
        at: at(5).into(),
        limit: 9,
    })
    .await;
    let retain = |second, max_kept| Op::RetainMessages {
        before: at(second),
        max_kept,
        limit: 9,
    };
    let outcome = h.run(retain(1, 9)).await;
    assert!(
        matches!(outcome, Outcome::Removed { count: 1 }),
        "{outcome:?}"
    );
    let outcome = h.run(retain(0, 0)).await;
    assert!(
        matches!(outcome, Outcome::Removed { count: 1 }),
        "{outcome:?}"
    );
    assert_eq!(ids(&between(&h, 9).await), ["2"], "what is unread stays");
}
