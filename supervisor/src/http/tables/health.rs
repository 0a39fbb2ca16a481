//! Fields of the requests about health.

use deia::api::{AlertQuery, HealthQuestion, ProcessQuery};

use super::field;
use crate::http::fields::{Errors, Field, Fields, Kind, Presence};

const LEVELS: &[&str] = &["critical", "warning", "info"];
/// A share, or a CPU counted by processors.
const MAX_SHARE: f64 = 1_000_000.0;

impl Fields for AlertQuery {
    const FIELDS: &'static [Field] = &[field("level", Kind::Enum(LEVELS), Presence::Optional)];
}

impl Fields for ProcessQuery {
    const FIELDS: &'static [Field] = &[field(
        "pid",
        Kind::Int(1, u32::MAX as i64),
        Presence::Optional,
    )];
}

impl Fields for HealthQuestion {
    const FIELDS: &'static [Field] = &[
        field("total_bots", Kind::Int(0, i64::MAX), Presence::Nullable),
        field("active_bots", Kind::Int(0, i64::MAX), Presence::Nullable),
        field("queued_tasks", Kind::Int(0, i64::MAX), Presence::Nullable),
        field(
            "avg_bot_load",
            Kind::Float(0.0, MAX_SHARE),
            Presence::Nullable,
        ),
        field(
            "system_cpu_percent",
            Kind::Float(0.0, MAX_SHARE),
            Presence::Nullable,
        ),
        field(
            "system_memory_percent",
            Kind::Float(0.0, MAX_SHARE),
            Presence::Nullable,
        ),
        field(
            "message_queue_size",
            Kind::Int(0, i64::MAX),
            Presence::Nullable,
        ),
        field(
            "pending_message_failures",
            Kind::Int(0, i64::MAX),
            Presence::Nullable,
        ),
        field(
            "avg_success_rate",
            Kind::Float(0.0, 1.0),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("avg_bot_load", self.avg_bot_load);
        errors.number::<Self>("system_cpu_percent", self.system_cpu_percent);
        errors.number::<Self>("system_memory_percent", self.system_memory_percent);
        errors.number::<Self>("avg_success_rate", self.avg_success_rate);
    }
}
