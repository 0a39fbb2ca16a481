//! The field tables of what is asked about external bots, and by them.

use deia::api::{
    CompleteRequest, FailRequest, HeartbeatRequest, LeaseRequest, OutputRequest, RegisterRequest,
};
use deia::bot::BotType;
use deia::config::is_pool_name;
use serde_json::{Value, json};

use super::fields::{Errors, Field, Fields, Kind, Presence};
use super::tables::{MAX_CAPABILITIES, MAX_NAME_BYTES, NO_BOUND, field};
use crate::brain::demand::{MAX_CAPABILITY_BYTES, is_capability};

/// Tasks that one external bot may have at once.
const MAX_AT_ONCE: i64 = 1_000;

/// Tasks in one lease.
const MAX_LEASED: i64 = 100;

/// The longest poll.
pub const MAX_POLL_SECONDS: f64 = 60.0;

/// Tasks that one heartbeat names.
const MAX_NAMED: usize = 1_000;

const KINDS: &[&str] = &["backend", "unavailable", "timed_out", "permanent"];

const ATTEMPT: Kind = Kind::Int(1, u32::MAX as i64);

/// Tokens that JSON numbers hold exactly.
const TOKENS: Kind = Kind::Int(0, 1 << 53);

impl Fields for RegisterRequest {
    const FIELDS: &'static [Field] = &[
        field("bot_id", Kind::Text(MAX_NAME_BYTES), Presence::Required),
        field("type", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field(
            "specializations",
            Kind::Texts(MAX_CAPABILITIES, MAX_CAPABILITY_BYTES),
            Presence::Nullable,
        ),
        field(
            "max_concurrent",
            Kind::Int(1, MAX_AT_ONCE),
            Presence::Nullable,
        ),
        field("rotate", Kind::Bool, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        if !is_pool_name(&self.bot_id) {
            errors.add(
                &["bot_id".into()],
                "string_pattern_mismatch",
                "Input should be 1-50 of letters, digits, '_' and '-', and not begin with '-'",
                &Value::from(self.bot_id.as_str()),
                Some(json!({"pattern": "^[A-Za-z0-9_][A-Za-z0-9_-]{0,49}$"})),
            );
        }
        if let Some(bot_type) = &self.bot_type
            && bot_type.parse::<BotType>().is_err()
        {
            let names = BotType::ALL.map(BotType::as_str).join(", ");
            errors.add(
                &["type".into()],
                "enum",
                format!("Input should be one of {names}"),
                &Value::from(bot_type.as_str()),
                Some(json!({"expected": names})),
            );
        }
        errors.texts::<Self>("specializations", self.specializations.as_deref());
        for (n, name) in self.specializations.iter().flatten().enumerate() {
            if !is_capability(name) {
                errors.add(
                    &["specializations".into(), n.into()],
                    "string_pattern_mismatch",
                    "Input should be 1-64 of letters, digits, '.', '_', '+', '#' and '-'",
                    &Value::from(name.as_str()),
                    None,
                );
            }
        }
        errors.number::<Self>("max_concurrent", self.max_concurrent.map(f64::from));
    }
}

impl Fields for LeaseRequest {
    const FIELDS: &'static [Field] = &[
        field("max", Kind::Int(1, MAX_LEASED), Presence::Required),
        field(
            "wait_seconds",
            Kind::Float(0.0, MAX_POLL_SECONDS),
            Presence::Nullable,
        ),
        field("instance", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("max", Some(f64::from(self.max)));
        errors.number::<Self>("wait_seconds", self.wait_seconds);
        errors.text::<Self>("instance", self.instance.as_deref());
    }
}

impl Fields for HeartbeatRequest {
    const FIELDS: &'static [Field] = &[
        field("instance", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field(
            "tasks",
            Kind::Texts(MAX_NAMED, MAX_NAME_BYTES),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("instance", self.instance.as_deref());
        errors.texts::<Self>("tasks", self.tasks.as_deref());
    }
}

impl Fields for OutputRequest {
    const FIELDS: &'static [Field] = &[
        field("text", Kind::Text(NO_BOUND), Presence::Required),
        field("offset", TOKENS, Presence::Nullable),
        field("lease", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("attempt", ATTEMPT, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("offset", self.offset.map(|n| n as f64));
        check_attempt::<Self>(self.lease.as_deref(), self.attempt, errors);
    }
}

impl Fields for CompleteRequest {
    const FIELDS: &'static [Field] = &[
        field("output", Kind::Text(NO_BOUND), Presence::Nullable),
        field("prompt_tokens", TOKENS, Presence::Nullable),
        field("completion_tokens", TOKENS, Presence::Nullable),
        field("model", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("lease", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("attempt", ATTEMPT, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("prompt_tokens", self.prompt_tokens.map(|n| n as f64));
        errors.number::<Self>(
            "completion_tokens",
            self.completion_tokens.map(|n| n as f64),
        );
        errors.text::<Self>("model", self.model.as_deref());
        check_attempt::<Self>(self.lease.as_deref(), self.attempt, errors);
    }
}

impl Fields for FailRequest {
    const FIELDS: &'static [Field] = &[
        field("error", Kind::Text(NO_BOUND), Presence::Required),
        field("kind", Kind::Enum(KINDS), Presence::Nullable),
        field("lease", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("attempt", ATTEMPT, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        if let Some(kind) = self.kind.as_deref()
            && !KINDS.contains(&kind)
        {
            let names = KINDS.join(", ");
            errors.add(
                &["kind".into()],
                "enum",
                format!("Input should be one of {names}"),
                &Value::from(kind),
                Some(json!({"expected": names})),
            );
        }
        check_attempt::<Self>(self.lease.as_deref(), self.attempt, errors);
    }
}

/// Whose end, or whose output, it is.
fn check_attempt<T: Fields>(lease: Option<&str>, attempt: Option<u32>, errors: &mut Errors) {
    errors.text::<T>("lease", lease);
    errors.number::<T>("attempt", attempt.map(f64::from));
    if lease.is_none() && attempt.is_none() {
        errors.add(
            &["lease".into()],
            "missing",
            "Field required: the `lease` (or the `attempt`) that came with the task",
            &Value::Null,
            None,
        );
    }
}
