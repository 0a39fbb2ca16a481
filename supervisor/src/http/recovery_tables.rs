//! The field tables of requests about backups and restores.

use deia::api::{BackupHistoryQuery, BackupRequest, RestorePointRequest, RestoreQuery};

use super::fields::{Errors, Field, Fields, Kind, Presence};

/// Longest name, label or source.
const MAX_NAME_BYTES: usize = 128;
/// Longest description.
const MAX_DESCRIPTION_BYTES: usize = 4096;
/// Longest path of the kernel.
const MAX_PATH_BYTES: usize = 4096;

const fn field(name: &'static str, kind: Kind, presence: Presence) -> Field {
    Field {
        name,
        kind,
        presence,
    }
}

impl Fields for BackupRequest {
    const FIELDS: &'static [Field] = &[
        field(
            "backup_type",
            Kind::Text(MAX_NAME_BYTES),
            Presence::Nullable,
        ),
        field("data", Kind::Object, Presence::Nullable),
        field("source", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field("tags", Kind::Object, Presence::Nullable),
        field("name", Kind::Text(MAX_NAME_BYTES), Presence::Nullable),
        field(
            "description",
            Kind::Text(MAX_DESCRIPTION_BYTES),
            Presence::Nullable,
        ),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("backup_type", self.backup_type.as_deref());
        errors.text::<Self>("source", self.source.as_deref());
        errors.text::<Self>("name", self.name.as_deref());
        errors.text::<Self>("description", self.description.as_deref());
        let data = self.data.as_ref();
        if let Some(data) = data.filter(|data| !data.is_object()) {
            errors.add(
                &["data".into()],
                "dict_type",
                "Input should be a valid dictionary",
                data,
                None,
            );
        }
    }
}

impl Fields for RestorePointRequest {
    const FIELDS: &'static [Field] = &[
        field("registry_data", Kind::Any, Presence::Nullable),
        field("queue_data", Kind::Any, Presence::Nullable),
        field("assignments_data", Kind::Any, Presence::Nullable),
        field(
            "description",
            Kind::Text(MAX_NAME_BYTES),
            Presence::Nullable,
        ),
        field("manual", Kind::Bool, Presence::Nullable),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("description", self.description.as_deref());
    }
}

impl Fields for BackupHistoryQuery {
    const FIELDS: &'static [Field] = &[
        field(
            "backup_type",
            Kind::Text(MAX_NAME_BYTES),
            Presence::Optional,
        ),
        field("limit", Kind::Int(0, u32::MAX as i64), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("backup_type", self.backup_type.as_deref());
        errors.number::<Self>("limit", self.limit.map(f64::from));
    }
}

impl Fields for RestoreQuery {
    const FIELDS: &'static [Field] = &[
        field("dry_run", Kind::Bool, Presence::Optional),
        field("file", Kind::Text(MAX_PATH_BYTES), Presence::Optional),
    ];

    fn check(&self, errors: &mut Errors) {
        errors.text::<Self>("file", self.file.as_deref());
    }
}
