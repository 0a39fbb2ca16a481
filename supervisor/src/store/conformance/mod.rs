//! What every engine of the store must do, whatever it is built on: [`conformance!`] makes a test of
//! each promise for one engine. No SQL here, and nothing an engine keeps to itself.

pub(super) mod audit;
pub(super) mod learning;
pub(super) mod life;
pub(super) mod messages;
pub(crate) mod model;
pub(super) mod nonces;
pub(super) mod random;
pub(super) mod reads;
pub(super) mod sweeps;
pub(super) mod waiting;

use std::any::Any;
use std::sync::Arc;

use deia::task::{Complexity, Fence, Priority, TaskId, TaskType};
use deia::time::Timestamp;
use deia::wire::Usage;
use tokio::sync::mpsc;

use super::{
    AttemptStatus, Committed, Counts, End, Lease, NewTask, Op, Outcome, Seq, Store, StoreError,
    TaskFilter, TaskRecord, TaskResult,
};

/// An empty store, and what has to live as long as it does.
pub(super) struct Fixture {
    pub(super) store: Arc<dyn Store>,
    pub(super) committed: mpsc::Receiver<Committed>,
    pub(super) _keep: Box<dyn Any>,
}

/// Tests of every promise, against what `$factory` opens.
macro_rules! conformance {
    ($factory:expr; $($module:ident :: { $($promise:ident),* $(,)? })*) => {
        $($(
            #[tokio::test]
            async fn $promise() {
                crate::store::conformance::$module::$promise(
                    crate::store::conformance::Harness::new($factory())
                ).await;
            }
        )*)*

        #[test]
        fn does_what_the_model_does() {
            crate::store::conformance::random::does_what_the_model_does(&$factory);
        }
    };
    ($factory:expr) => {
        crate::store::conformance::conformance! { $factory;
            life::{
                a_submission_is_kept_as_it_came,
                the_same_submission_twice_is_one_task,
                a_taken_id_with_another_request_is_a_conflict,
                a_submission_with_a_lease_is_running_at_once,
                a_task_is_leased_once,
                a_success_keeps_its_result,
                late_and_foreign_results_are_refused,
                a_retry_keeps_its_place,
                failures_and_losses_are_counted_apart,
                a_dead_task_says_why,
                a_running_task_is_cancelled_by_its_fence,
                outcomes_come_in_order_with_their_tickets,
            }
            waiting::{
                a_scheduled_task_waits_for_its_time,
                a_time_that_has_come_does_not_schedule,
                promotion_is_bounded_and_says_when_the_next_is_due,
                a_retry_may_wait_too,
                what_is_tried_again_waits_by_the_steady_clock,
                waiting_is_counted_from_when_it_became_ready,
                expiry_is_bounded_and_takes_the_oldest,
                what_waits_can_be_cancelled,
                what_ended_badly_can_be_queued_again,
            }
            learning::{
                what_was_learned_is_kept_and_replaced,
                what_was_learned_is_forgotten_under_another_version,
                the_reason_of_an_attempt_is_kept_with_it,
            }
            audit::{
                a_record_comes_with_its_act_and_not_without,
                each_expired_task_is_on_record,
                records_are_found_by_what_they_say,
                pages_of_records_are_stable_under_writes,
                what_is_past_its_time_goes_and_an_anchor_stays,
                figures_are_gathered_in_portions,
            }
            messages::{
                a_message_is_kept_as_it_was_sent,
                what_is_for_a_bot_that_is_up_is_delivered_at_once,
                what_waits_is_delivered_once_in_portions,
                the_urgent_come_first_and_what_was_read_last,
                what_is_not_read_in_time_expires,
                a_clock_that_is_set_forward_takes_no_time_from_a_message,
                what_is_over_is_not_delivered_and_holds_up_nobody,
                an_answer_has_no_more_than_its_bytes,
                a_full_inbox_takes_no_more,
                a_conversation_goes_both_ways_and_old_ones_go,
            }
            nonces::{
                a_name_is_taken_once,
                names_are_taken_once_among_many_at_once,
                what_is_forgotten_is_never_taken_again,
                a_restored_store_takes_nothing_from_before,
            }
            sweeps::{
                a_release_queues_what_ran_in_its_old_place,
                retention_removes_by_age,
                retention_removes_by_number,
                retention_is_bounded,
                a_place_is_never_used_again,
            }
            reads::{
                ready_tasks_come_by_priority_and_age,
                a_position_counts_what_stands_before,
                pages_are_stable_under_writes,
                filters_select,
                demands_count_what_is_ready,
                what_runs_is_listed_with_who_has_it,
                counts_are_what_a_recount_gives,
                unknown_names_are_nothing,
                after_close_nothing_is_taken,
            }
        }
    };
}
pub(super) use conformance;

/// A store and its outcomes, one operation at a time.
pub(super) struct Harness {
    fixture: Fixture,
    next_ticket: u64,
}

impl Harness {
    pub(super) fn new(fixture: Fixture) -> Self {
        Self {
            fixture,
            next_ticket: 1,
        }
    }

    fn store(&self) -> &dyn Store {
        self.fixture.store.as_ref()
    }

    /// Hands in a batch and waits for all of its outcomes.
    async fn batch(&mut self, ops: Vec<Op>) -> Vec<Result<Outcome, StoreError>> {
        let first = self.next_ticket;
        let tickets: Vec<u64> = (first..).take(ops.len()).collect();
        self.next_ticket += ops.len() as u64;
        let batch = tickets.iter().copied().zip(ops).collect();
        assert!(self.store().write(batch).is_ok(), "the queue is full");
        let mut outcomes = Vec::new();
        while outcomes.len() < tickets.len() {
            let committed = self.fixture.committed.recv().await.unwrap();
            for (ticket, outcome) in committed {
                assert_eq!(ticket, tickets[outcomes.len()], "outcomes out of order");
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    async fn run(&mut self, op: Op) -> Outcome {
        self.batch(vec![op]).await.remove(0).unwrap()
    }

    async fn submit(&mut self, task: NewTask) -> Seq {
        match self.run(Op::Submit(Box::new(task), None)).await {
            Outcome::Submitted { seq } => seq,
            other => panic!("not submitted: {other:?}"),
        }
    }

    /// The attempt's number.
    async fn lease(&mut self, seq: Seq) -> u32 {
        match self.run(lease(seq)).await {
            Outcome::Leased { attempt, .. } => attempt,
            other => panic!("not leased: {other:?}"),
        }
    }

    async fn finish(&mut self, seq: Seq, attempt: u32, at_second: i64, end: End) -> Outcome {
        let fence = self.fence(attempt);
        self.run(Op::Finish {
            seq,
            fence,
            started_at: None,
            at: at(at_second),
            end,
            choice: Some(format!("why attempt {attempt}")),
        })
        .await
    }

    /// Submits, leases and ends a task.
    async fn ended(&mut self, task: NewTask, at_second: i64, end: End) -> Seq {
        let seq = self.submit(task).await;
        let attempt = self.lease(seq).await;
        self.finish(seq, attempt, at_second, end).await;
        seq
    }

    fn fence(&self, attempt: u32) -> Fence {
        Fence {
            epoch: self.store().epoch(),
            attempt,
        }
    }

    async fn task(&self, name: &str) -> TaskRecord {
        self.store().task(id(name)).await.unwrap().unwrap()
    }

    /// Every task, by pages of three.
    async fn all(&self, filter: TaskFilter) -> Vec<TaskRecord> {
        let mut all: Vec<TaskRecord> = Vec::new();
        loop {
            let before = all.last().map(|task| task.seq);
            let page = self.store().list(filter.clone(), before, 3).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }
}

fn id(name: &str) -> TaskId {
    name.parse().unwrap()
}

/// A point in the tests' time.
fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).plus_millis(second * 1_000)
}

/// Submitted at second 0, for demand `general`.
fn task(name: &str) -> NewTask {
    NewTask {
        id: id(name),
        request_hash: [7; 32],
        content: format!("do {name}").into(),
        priority: Priority::P2,
        task_type: TaskType::General,
        complexity: Complexity::Simple,
        required_capabilities: vec!["general".into()],
        bot_id: None,
        pool: None,
        demand: "general".into(),
        max_attempts: 3,
        timeout_ms: 60_000,
        not_before: None,
        metadata: None,
        submitted_at: at(0),
    }
}

fn lease(seq: Seq) -> Op {
    Op::Lease {
        seq,
        lease: Lease {
            bot_id: "coder".into(),
            at: at(1),
            letter: None,
        },
        want_content: false,
    }
}

fn succeeded(output: &str) -> End {
    End::Succeeded(Box::new(TaskResult {
        output: output.into(),
        truncated: false,
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: u64::MAX,
        },
        backend: "echo".into(),
        model: Some("parrot".into()),
    }))
}

fn retry(counts: Counts, not_before: Option<Timestamp>) -> End {
    End::Retry {
        status: AttemptStatus::Failed,
        error: "no luck".into(),
        not_before,
        counts,
    }
}

fn dead() -> End {
    End::Dead {
        status: AttemptStatus::Failed,
        error: "hopeless".into(),
    }
}
