//! What goes out with a commit.
//!
//! ```text
//!   write --Op, Letter--> writer: commit --> post, send --> a bot
//!                                        '-> Committed ----> whoever wrote
//! ```
//!
//! A bot that waits for work hears of its task without the main loop being woken in between. The letter goes
//! first, the outcome after it, so whoever takes the outcomes knows that a letter it counts on has gone out.

use std::fmt;

use super::{Op, Outcome, StoreError, Ticket};

/// Tells a bot of its lease, once that is durable.
///
/// It neither waits nor fails: whom it does not reach is for the owner of the lease to find out.
pub trait Letter: fmt::Debug + Send + Sync {
    /// Puts it with what waits for the same bot.
    fn post(&self);

    /// Sends what waits for that bot.
    fn send(&self);
}

/// Posts the letters of what is durable now, and then sends them: those to one bot go together.
pub(crate) fn post(batch: &[(Ticket, Op)], outcomes: &[Result<Outcome, StoreError>]) {
    let letters = || {
        let done = batch.iter().zip(outcomes);
        done.filter_map(|((_, op), outcome)| letter(op, outcome.as_ref().ok()?))
    };
    letters().for_each(Letter::post);
    letters().for_each(Letter::send);
}

/// The letter of an operation, where it did what the letter tells.
fn letter<'a>(op: &'a Op, outcome: &Outcome) -> Option<&'a dyn Letter> {
    match (op.act(), outcome) {
        (Op::Submit(_, Some(lease)), Outcome::Submitted { .. }) => lease.letter.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use deia::task::{Complexity, Priority, TaskType};
    use deia::time::Timestamp;

    use super::*;
    use crate::store::{Lease, NewTask};

    #[derive(Debug)]
    struct Noted(&'static str, Arc<Mutex<Vec<String>>>);

    impl Letter for Noted {
        fn post(&self) {
            self.1.lock().unwrap().push(format!("post {}", self.0));
        }

        fn send(&self) {
            self.1.lock().unwrap().push(format!("send {}", self.0));
        }
    }

    #[test]
    fn only_what_was_done_is_told_and_all_is_posted_before_any_is_sent() {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let submit = |name: &'static str, outcome| {
            let task = NewTask {
                id: name.parse().unwrap(),
                request_hash: [0; 32],
                content: "x".into(),
                priority: Priority::P2,
                task_type: TaskType::General,
                complexity: Complexity::Simple,
                required_capabilities: Vec::new(),
                bot_id: None,
                pool: None,
                demand: "d".into(),
                max_attempts: 1,
                timeout_ms: 1,
                not_before: None,
                metadata: None,
                submitted_at: Timestamp::from_micros(0),
            };
            let lease = Lease {
                bot_id: "b".into(),
                at: Timestamp::from_micros(0),
                letter: Some(Arc::new(Noted(name, noted.clone()))),
            };
            ((1, Op::Submit(Box::new(task), Some(lease))), outcome)
        };
        let failed = || Err(StoreError::Failed("disk full".into()));
        let (batch, outcomes): (Vec<_>, Vec<_>) = [
            submit("a", Ok(Outcome::Submitted { seq: 1 })),
            submit("known", Ok(Outcome::Conflict)),
            submit("failed", failed()),
            submit("b", Ok(Outcome::Submitted { seq: 2 })),
        ]
        .into_iter()
        .unzip();
        post(&batch, &outcomes);
        assert_eq!(
            *noted.lock().unwrap(),
            ["post a", "post b", "send a", "send b"]
        );
    }
}
