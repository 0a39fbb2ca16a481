//! The field tables of the requests every client shares.

mod health;
mod monitoring;

use deia::api::{
    BotMessageRequest, BroadcastRequest, ConversationQuery, EvaluateRequest, HistoryQuery,
    InboxQuery, LimitsRequest, RecordRequest, RollbackRequest, ScaleQuery, SendRequest,
    SubmitRequest, TaskQuery, UpgradeRequest,
};
use deia::config::MAX_BOTS;
use deia::task::{MAX_ATTEMPTS, MAX_TASK_ID_BYTES};
use serde_json::{Value, json};

use super::fields::{Errors, Field, Fields, Kind, Presence};
use crate::brain::demand;
use crate::daemon::intake;

/// Most capabilities a task may ask for, and most bytes of each.
pub(super) const MAX_CAPABILITIES: usize = 64;
/// Longest name of a bot, a pool or a capability.
pub(super) const MAX_NAME_BYTES: usize = 128;
/// Longest cursor.
const MAX_CURSOR_BYTES: usize = 256;
/// Longest text serde is asked about here: content has a bound of its own (413).
pub(super) const NO_BOUND: usize = usize::MAX;
/// A year.
const YEAR_SECONDS: f64 = 31_536_000.0;
/// Shortest attempt that is worth starting.
const MIN_TIMEOUT_SECONDS: f64 = 0.001;

const PRIORITIES: &[&str] = &["P0", "P1", "P2", "P3"];
const PRIORITIES_ANY_CASE: &[&str] = &["P0", "P1", "P2", "P3", "p0", "p1", "p2", "p3"];
const BOT_TYPES: &[&str] = &[
    "general",
    "developer",
    "analyzer",
    "writer",
    "planner",
    "validator",
];
const TASK_TYPES: &[&str] = &["development", "analysis", "writing", "planning", "general"];
const STATUSES: &[&str] = &[
    "scheduled",
    "queued",
    "running",
    "succeeded",
    "dead",
    "cancelled",
    "expired",
];

pub(super) const fn field(name: &'static str, kind: Kind, presence: Presence) -> Field {
    Field {
        name,
        kind,
        presence,
    }
}

impl Fields for SubmitRequest {
    const FIELDS: &'static [Field] = &[
        field("content", Kind::Text(NO_BOUND), Presence::Optional),
        field("task_id", Kind::Text(MAX_TASK_ID_BYTES), Presence::Nullable),
        field("priority", Kind::Enum(PRIORITIES), Presence::Nullable),
        field("type", Kind::Enum(TASK_TYPES), Presence::Nullable),
        field(
            "required_capabilities",
            Kind::Texts(demand::MAX_CAPABILITIES, demand::MAX_CAPABILITY_BYTES),
            Presence::Nullable,
        ),
        field(
            "bot_id",
            Kind::Text(intake::MAX_NAME_BYTES),
            Presence::Nullable,
        ),
        field(
            "pool",
            Kind::Text(intake::MAX_NAME_BYTES),
            Presence::Nullable,
        ),
        field(
            "max_attempts",
            Kind::Int(1, MAX_ATTEMPTS as i64),
            Presence::Nullable,
        ),
        field(
            "timeout_seconds",
            Kind::Float(MIN_TIMEOUT_SECONDS, intake::MAX_TIMEOUT_SECONDS),
            Presence::Nullable,
        ),
        field("not_before", Kind::Time, Presence::Nullable),
        field("metadata", Kind::Object, Presence::Nullable),
        field(
            "wait_seconds",
            Kind::Float(0.0, intake::MAX_WAIT_SECONDS),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        if let Some(id) = &self.task_id
            && let Err(why) = id.parse::<deia::task::TaskId>()
        {
            let pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$";
            errors.add(
                &["task_id".into()],
                "string_pattern_mismatch",
                why.to_string(),
                &Value::from(id.as_str()),
                Some(json!({"pattern": pattern})),
            );
        }
        errors.texts::<Self>(
            "required_capabilities",
            self.required_capabilities.as_deref(),
        );
        errors.text::<Self>("bot_id", self.bot_id.as_deref());
        errors.text::<Self>("pool", self.pool.as_deref());
        errors.number::<Self>("max_attempts", self.max_attempts.map(f64::from));
        errors.number::<Self>("timeout_seconds", self.timeout_seconds);
        errors.number::<Self>("wait_seconds", self.wait_seconds);
    }
}

impl Fields for LimitsRequest {
    const FIELDS: &'static [Field] = &[
        field(
            "min_bots",
            Kind::Int(0, u32::MAX as i64),
            Presence::Nullable,
        ),
        field(
            "max_bots",
            Kind::Int(0, u32::MAX as i64),
            Presence::Nullable,
        ),
        field("resume", Kind::Bool, Presence::Optional),
    ];
}

/// Longest path of a release (PATH_MAX).
const MAX_PATH_BYTES: usize = 4096;

impl Fields for RollbackRequest {
    const FIELDS: &'static [Field] = &[
        field("version", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("backup_id", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("keep_state", Kind::Bool, Presence::Nullable),
        field("dry_run", Kind::Bool, Presence::Nullable),
        field(
            "wait_seconds",
            Kind::Float(0.0, MAX_DRAIN_SECONDS),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("version", self.version.as_deref());
        errors.text::<Self>("backup_id", self.backup_id.as_deref());
        errors.number::<Self>("wait_seconds", self.wait_seconds);
    }
}

/// A day: the longest time that running tasks are given before a rollback goes on.
const MAX_DRAIN_SECONDS: f64 = 86_400.0;

impl Fields for UpgradeRequest {
    const FIELDS: &'static [Field] = &[
        field("path", Kind::Text(MAX_PATH_BYTES), Presence::Nullable),
        field("keep_pin", Kind::Bool, Presence::Optional),
    ];
}

/// Largest load that is taken for one: 1 is all slots.
const MAX_LOAD: f64 = 1000.0;

impl Fields for EvaluateRequest {
    const FIELDS: &'static [Field] = &[
        field(
            "current_load",
            Kind::Float(0.0, MAX_LOAD),
            Presence::Nullable,
        ),
        field("queue_size", Kind::Int(0, i64::MAX), Presence::Nullable),
        field(
            "avg_bot_load",
            Kind::Float(0.0, MAX_LOAD),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("current_load", self.current_load);
        errors.number::<Self>("avg_bot_load", self.avg_bot_load);
    }
}

impl Fields for ScaleQuery {
    const FIELDS: &'static [Field] = &[
        field("count", Kind::Int(1, MAX_BOTS as i64), Presence::Optional),
        field("pool", Kind::Text(MAX_NAME_BYTES), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("count", self.count.map(f64::from));
        errors.text::<Self>("pool", self.pool.as_deref());
    }
}

impl Fields for RecordRequest {
    const FIELDS: &'static [Field] = &[
        field("bot_id", Kind::Name(MAX_NAME_BYTES), Presence::Nullable),
        field("task_type", Kind::Enum(TASK_TYPES), Presence::Nullable),
        field(
            "execution_time",
            Kind::Float(0.0, YEAR_SECONDS),
            Presence::Nullable,
        ),
        field("success", Kind::Bool, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("bot_id", self.bot_id.as_deref());
        errors.number::<Self>("execution_time", self.execution_time);
    }
}

impl Fields for HistoryQuery {
    const FIELDS: &'static [Field] = &[field(
        "limit",
        Kind::Int(0, u32::MAX as i64),
        Presence::Optional,
    )];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

impl Fields for SendRequest {
    const FIELDS: &'static [Field] = &[
        field("to_bot", Kind::Name(MAX_NAME_BYTES), Presence::Required),
        field("content", Kind::Text(NO_BOUND), Presence::Required),
        field("from_bot", Kind::Name(MAX_NAME_BYTES), Presence::Nullable),
        field(
            "priority",
            Kind::Enum(PRIORITIES_ANY_CASE),
            Presence::Nullable,
        ),
        field("ttl_seconds", TTL, Presence::Nullable),
        field("metadata", Kind::Object, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("to_bot", Some(&self.to_bot));
        errors.text::<Self>("from_bot", self.from_bot.as_deref());
        errors.number::<Self>("ttl_seconds", self.ttl_seconds.map(|ttl| ttl as f64));
    }
}

/// Seconds a message may live.
const TTL: Kind = Kind::Int(1, deia::message::MAX_TTL_SECONDS as i64);

impl Fields for BroadcastRequest {
    const FIELDS: &'static [Field] = &[
        field("to_type", Kind::Enum(BOT_TYPES), Presence::Required),
        field("content", Kind::Text(NO_BOUND), Presence::Required),
        field("from_bot", Kind::Name(MAX_NAME_BYTES), Presence::Nullable),
        field(
            "priority",
            Kind::Enum(PRIORITIES_ANY_CASE),
            Presence::Nullable,
        ),
        field("ttl_seconds", TTL, Presence::Nullable),
        field("metadata", Kind::Object, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("from_bot", self.from_bot.as_deref());
        errors.number::<Self>("ttl_seconds", self.ttl_seconds.map(|ttl| ttl as f64));
    }
}

impl Fields for BotMessageRequest {
    const FIELDS: &'static [Field] = &[
        field("from_bot", Kind::Name(MAX_NAME_BYTES), Presence::Required),
        field("content", Kind::Text(NO_BOUND), Presence::Required),
        field(
            "priority",
            Kind::Enum(PRIORITIES_ANY_CASE),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("from_bot", Some(&self.from_bot));
    }
}

impl Fields for InboxQuery {
    const FIELDS: &'static [Field] = &[
        field("bot_id", Kind::Text(MAX_NAME_BYTES), Presence::Optional),
        field(
            "priority",
            Kind::Enum(PRIORITIES_ANY_CASE),
            Presence::Optional,
        ),
        field("limit", Kind::Int(1, 1000), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("bot_id", self.bot_id.as_deref());
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

impl Fields for ConversationQuery {
    const FIELDS: &'static [Field] = &[
        field("bot_id", Kind::Text(MAX_NAME_BYTES), Presence::Optional),
        field("limit", Kind::Int(1, 1000), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("bot_id", self.bot_id.as_deref());
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

impl Fields for TaskQuery {
    const FIELDS: &'static [Field] = &[
        field("status", Kind::Enum(STATUSES), Presence::Optional),
        field("bot", Kind::Text(MAX_NAME_BYTES), Presence::Optional),
        field("type", Kind::Enum(TASK_TYPES), Presence::Optional),
        field("priority", Kind::Enum(PRIORITIES), Presence::Optional),
        field("limit", Kind::Int(1, 1000), Presence::Optional),
        field("cursor", Kind::Text(MAX_CURSOR_BYTES), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("bot", self.bot.as_deref());
        errors.text::<Self>("cursor", self.cursor.as_deref());
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

#[cfg(test)]
mod tests {
    use deia::task::{Priority, TaskStatus, TaskType};

    use super::*;

    /// A name added to an enum and forgotten here would be refused with a list that lacks it.
    #[test]
    fn the_tables_know_every_name() {
        assert!(
            Priority::ALL
                .iter()
                .map(|p| p.as_str())
                .eq(PRIORITIES.iter().copied())
        );
        assert!(
            TaskType::ALL
                .iter()
                .map(|t| t.as_str())
                .eq(TASK_TYPES.iter().copied())
        );
        assert!(
            deia::bot::BotType::ALL
                .iter()
                .map(|t| t.as_str())
                .eq(BOT_TYPES.iter().copied())
        );
        assert!(
            TaskStatus::ALL
                .iter()
                .map(|s| s.as_str())
                .eq(STATUSES.iter().copied())
        );
    }

    /// Every field is in the table, and a value it has passes.
    pub(super) fn is_known<T: Fields + serde::Serialize>(full: &T) {
        let Value::Object(object) = serde_json::to_value(full).unwrap() else {
            panic!()
        };
        let mut names: Vec<_> = T::FIELDS.iter().map(|f| f.name).collect();
        names.sort_unstable();
        let mut have: Vec<_> = object.keys().map(String::as_str).collect();
        have.sort_unstable();
        assert_eq!(names, have);
        let mut errors = Errors::new("body");
        full.check(&mut errors);
        errors.object::<T>(&object);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn the_tables_know_every_field() {
        is_known(&EvaluateRequest {
            current_load: Some(0.5),
            queue_size: Some(1),
            avg_bot_load: Some(0.5),
        });
        is_known(&ScaleQuery {
            count: Some(1),
            pool: Some("p".into()),
        });
        is_known(&RecordRequest {
            bot_id: Some("b".into()),
            task_type: Some(deia::task::TaskType::General),
            execution_time: Some(0.5),
            success: Some(true),
        });
        is_known(&HistoryQuery { limit: Some(1) });
        is_known(&InboxQuery {
            bot_id: Some("b".into()),
            priority: Some(Priority::P0),
            limit: Some(1),
        });
        is_known(&ConversationQuery {
            bot_id: Some("b".into()),
            limit: Some(1),
        });
        is_known(&SendRequest {
            from_bot: Some("b".into()),
            priority: Some(Priority::P0),
            ttl_seconds: Some(1),
            metadata: Some(serde_json::Map::new()),
            ..SendRequest::default()
        });
        is_known(&BroadcastRequest {
            to_type: deia::bot::BotType::General,
            content: "c".into(),
            from_bot: Some("b".into()),
            priority: Some(Priority::P0),
            ttl_seconds: Some(1),
            metadata: Some(serde_json::Map::new()),
        });
        is_known(&BotMessageRequest {
            from_bot: "b".into(),
            content: "c".into(),
            priority: Some(Priority::P0),
        });
        is_known(&SubmitRequest {
            task_id: Some("t".into()),
            priority: Some(Priority::P0),
            task_type: Some(TaskType::General),
            required_capabilities: Some(vec![]),
            bot_id: Some("b".into()),
            pool: Some("p".into()),
            max_attempts: Some(1),
            timeout_seconds: Some(1.0),
            not_before: Some(deia::time::Timestamp::from_micros(0)),
            metadata: Some(serde_json::Map::new()),
            wait_seconds: Some(1.0),
            ..SubmitRequest::default()
        });
    }
}
