//! The field tables of the audit's requests.

use deia::api::{
    AuditAction, AuditCriticalQuery, AuditLevel, AuditOfQuery, AuditQuery, AuditRequest,
    AuditResult, MAX_AUDIT_RECORDS, MAX_AUDIT_TARGET_BYTES,
};

use super::fields::{Errors, Field, Fields, Kind, Presence};

/// Longest error that serde is asked about: what is kept is cut.
const MAX_ERROR_BYTES: usize = 65_536;
/// Longest cursor.
const MAX_CURSOR_BYTES: usize = 32;
/// A century of hours.
const MAX_HOURS: i64 = 876_600;

const fn field(name: &'static str, kind: Kind, presence: Presence) -> Field {
    Field {
        name,
        kind,
        presence,
    }
}

const NAME: Kind = Kind::Text(MAX_AUDIT_TARGET_BYTES);
const LIMIT: Kind = Kind::Int(1, MAX_AUDIT_RECORDS as i64);

impl Fields for AuditRequest {
    const FIELDS: &'static [Field] = &[
        field("action", Kind::Enum(AuditAction::NAMES), Presence::Nullable),
        field("actor", NAME, Presence::Nullable),
        field("target", NAME, Presence::Nullable),
        field("level", Kind::Enum(AuditLevel::NAMES), Presence::Nullable),
        field("details", Kind::Object, Presence::Nullable),
        field("result", Kind::Enum(AuditResult::NAMES), Presence::Nullable),
        field(
            "error_message",
            Kind::Text(MAX_ERROR_BYTES),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("actor", self.actor.as_deref());
        errors.text::<Self>("target", self.target.as_deref());
        errors.text::<Self>("error_message", self.error_message.as_deref());
    }
}

impl Fields for AuditQuery {
    const FIELDS: &'static [Field] = &[
        field("action", Kind::Enum(AuditAction::NAMES), Presence::Optional),
        field("actor", NAME, Presence::Optional),
        field("target", NAME, Presence::Optional),
        field("level", Kind::Enum(AuditLevel::NAMES), Presence::Optional),
        field("result", Kind::Enum(AuditResult::NAMES), Presence::Optional),
        field("limit", LIMIT, Presence::Optional),
        field("cursor", Kind::Text(MAX_CURSOR_BYTES), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("actor", self.actor.as_deref());
        errors.text::<Self>("target", self.target.as_deref());
        errors.text::<Self>("cursor", self.cursor.as_deref());
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

impl Fields for AuditOfQuery {
    const FIELDS: &'static [Field] = &[field("limit", LIMIT, Presence::Optional)];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

impl Fields for AuditCriticalQuery {
    const FIELDS: &'static [Field] = &[field("hours", Kind::Int(0, MAX_HOURS), Presence::Optional)];

    fn check(&self, errors: &mut Errors) {
        errors.number::<Self>("hours", self.hours.map(f64::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field is in the table, and a value it has passes.
    fn is_known<T: Fields + serde::Serialize>(full: &T) {
        let serde_json::Value::Object(object) = serde_json::to_value(full).unwrap() else {
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
        is_known(&AuditRequest {
            action: Some(AuditAction::ApiCall),
            actor: Some("a".into()),
            target: Some("t".into()),
            level: Some(AuditLevel::Info),
            details: Some(serde_json::Map::new()),
            result: Some(AuditResult::Success),
            error_message: Some("e".into()),
        });
        is_known(&AuditQuery {
            action: Some(AuditAction::ApiCall),
            actor: Some("a".into()),
            target: Some("t".into()),
            level: Some(AuditLevel::Info),
            result: Some(AuditResult::Success),
            limit: Some(1),
            cursor: Some("1".into()),
        });
        is_known(&AuditOfQuery { limit: Some(1) });
        is_known(&AuditCriticalQuery { hours: Some(1) });
    }
}
