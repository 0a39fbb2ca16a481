//! The field tables of monitoring.

use deia::api::{AddTaskRequest, CompleteTaskRequest, FailureReport, ObservabilityQuery};
use deia::task::MAX_TASK_ID_BYTES;

use super::{MAX_NAME_BYTES, NO_BOUND, PRIORITIES, TASK_TYPES, YEAR_SECONDS, field};
use crate::http::fields::{Errors, Field, Fields, Kind, Presence};

/// Hours of history that are kept.
const MAX_HOURS: i64 = 24;
/// Rows of history that can be asked for.
const MAX_ROWS: i64 = 100_000;

impl Fields for AddTaskRequest {
    const FIELDS: &'static [Field] = &[
        field("task_id", Kind::Text(MAX_TASK_ID_BYTES), Presence::Required),
        field("task_type", Kind::Enum(TASK_TYPES), Presence::Nullable),
        field("priority", Kind::Enum(PRIORITIES), Presence::Nullable),
        field("content", Kind::Text(NO_BOUND), Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("task_id", Some(&self.task_id));
    }
}

impl Fields for CompleteTaskRequest {
    const FIELDS: &'static [Field] = &[
        field("task_id", Kind::Text(MAX_TASK_ID_BYTES), Presence::Required),
        field(
            "execution_time_seconds",
            Kind::Float(0.0, YEAR_SECONDS),
            Presence::Nullable,
        ),
        field("success", Kind::Bool, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("task_id", Some(&self.task_id));
        errors.number::<Self>("execution_time_seconds", self.execution_time_seconds);
    }
}

impl Fields for FailureReport {
    const FIELDS: &'static [Field] = &[
        field("task_id", Kind::Text(MAX_TASK_ID_BYTES), Presence::Required),
        field("bot_id", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("task_type", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("error_message", Kind::Text(NO_BOUND), Presence::Nullable),
        field(
            "error_code",
            Kind::Int(i64::MIN, i64::MAX),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("task_id", Some(&self.task_id));
        errors.text::<Self>("bot_id", self.bot_id.as_deref());
        errors.text::<Self>("task_type", self.task_type.as_deref());
    }
}

impl Fields for ObservabilityQuery {
    const FIELDS: &'static [Field] = &[
        field("hours", Kind::Int(1, MAX_HOURS), Presence::Optional),
        field("limit", Kind::Int(0, MAX_ROWS), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("hours", self.hours.map(f64::from));
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::is_known;
    use super::*;

    #[test]
    fn the_tables_know_every_field() {
        is_known(&AddTaskRequest {
            task_id: "t".into(),
            task_type: Some(deia::task::TaskType::General),
            priority: Some(deia::task::Priority::P0),
            content: Some("c".into()),
        });
        is_known(&CompleteTaskRequest {
            task_id: "t".into(),
            execution_time_seconds: Some(0.5),
            success: Some(true),
        });
        is_known(&FailureReport {
            task_id: "t".into(),
            bot_id: Some("b".into()),
            task_type: Some("x".into()),
            error_message: Some("m".into()),
            error_code: Some(500),
        });
        is_known(&ObservabilityQuery {
            hours: Some(1),
            limit: Some(0),
        });
    }
}
