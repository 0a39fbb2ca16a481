//! Backups and restores.

use axum::Json;
use axum::extract::{FromRef, State};
use deia::api::{
    BackupAnswer, BackupHistory, BackupHistoryQuery, BackupMeta, BackupRequest, MarkShutdownAnswer,
    RecoveryStatus, RestorePointAnswer, RestorePointDetails, RestorePointRequest, RestorePointView,
    VerifyAnswer,
};
use deia::api::{RestoreAnswer, RestoreQuery};
use deia::time::Timestamp;

use super::Shared;
use crate::backup::{By, Failure, Kind, Order, Rules};
use crate::daemon::recovery::Desk;
use crate::daemon::recovery::desk::{NotRestored, Wanted, is_restore_point, label};
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::{OptionalJsonBody, PathArgs, QueryArgs};

/// Backups of one answer where nothing is said.
const LISTED: u32 = 100;

impl FromRef<Shared> for Desk {
    fn from_ref(api: &Shared) -> Self {
        api.recovery.clone()
    }
}

/// Makes a backup of the whole state, and answers when it is on disk and was read back. One at a time; one that is
/// under way is waited for.
#[utoipa::path(post, path = "/api/disaster-recovery/backup", tag = "recovery", request_body = Option<BackupRequest>, responses(
    (status = 200, body = BackupAnswer),
    (status = 409, body = deia::api::ApiError, description = "Too many are waiting already"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "It could not be made, and why; nothing is left of it"),
))]
pub async fn backup(
    State(api): State<Shared>,
    caller: Caller,
    OptionalJsonBody(request): OptionalJsonBody<BackupRequest>,
) -> Result<Json<BackupAnswer>, ApiFailure> {
    let backup_type = label(request.backup_type.as_deref(), "registry");
    let order = Order {
        source: request
            .source
            .filter(|source| !source.is_empty())
            .unwrap_or_else(|| format!("backup-{backup_type}")),
        backup_type: backup_type.to_owned(),
        tags: request.tags.unwrap_or_default(),
        name: request.name.filter(|name| !name.is_empty()),
        description: request.description,
        ..Order::new(Kind::Manual, By::from(&caller))
    };
    create(&api, order).await.map(Json)
}

async fn create(api: &Shared, order: Order) -> Result<BackupAnswer, ApiFailure> {
    let rules = Rules::from(&api.config.current().persistence);
    api.recovery
        .create(order, rules)
        .await
        .map_err(|why| match why {
            Failure::Busy => ApiFailure::conflict("backup_under_way", why.to_string()),
            Failure::Failed(_) => ApiFailure::unavailable("backup_failed", why.to_string(), 60),
        })
}

/// The backups there are, newest first: what is in the folder.
#[utoipa::path(get, path = "/api/disaster-recovery/backup-history", tag = "recovery", params(BackupHistoryQuery), responses(
    (status = 200, body = BackupHistory),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn history(
    State(desk): State<Desk>,
    QueryArgs(query): QueryArgs<BackupHistoryQuery>,
) -> Result<Json<BackupHistory>, ApiFailure> {
    let wanted = query.backup_type.map(|label| label.to_ascii_lowercase());
    let limit = query.limit.unwrap_or(LISTED) as usize;
    let backups = desk
        .list(
            move |found| match (&wanted, &found.manifest) {
                (None, _) => true,
                (Some(wanted), Ok(manifest)) => manifest.backup_type == *wanted,
                (Some(_), Err(_)) => false,
            },
            limit,
        )
        .await
        .map_err(|e| unreadable(&e))?;
    Ok(Json(BackupHistory {
        count: backups.len(),
        backups,
        timestamp: Timestamp::now(),
    }))
}

/// Reads every byte of a backup and says whether it is as it was written.
#[utoipa::path(post, path = "/api/disaster-recovery/verify/{id}", tag = "recovery", params(("id" = String, Path, description = "The backup")), responses(
    (status = 200, body = VerifyAnswer, description = "`success` is false where it is damaged"),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn verify(
    State(desk): State<Desk>,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<VerifyAnswer>, ApiFailure> {
    let answer = desk.verify(&id).await;
    answer.map(Json).ok_or_else(|| unknown("Backup", &id))
}

/// Makes a backup to come back to. It is kept ten times as long as others.
#[utoipa::path(post, path = "/api/disaster-recovery/restore-point", tag = "recovery", request_body = Option<RestorePointRequest>, responses(
    (status = 200, body = RestorePointAnswer),
    (status = 409, body = deia::api::ApiError, description = "Too many are waiting already"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "It could not be made, and why"),
))]
pub async fn restore_point(
    State(api): State<Shared>,
    caller: Caller,
    OptionalJsonBody(request): OptionalJsonBody<RestorePointRequest>,
) -> Result<Json<RestorePointAnswer>, ApiFailure> {
    let description = request.description.unwrap_or_default();
    let by_hand = request.manual.unwrap_or(false);
    let name = if description.is_empty() {
        "restore point"
    } else {
        &description
    };
    let order = Order {
        name: Some(name.to_owned()),
        description: Some(description.clone()),
        source: if by_hand { MANUAL } else { "restore-point" }.to_owned(),
        ..Order::new(Kind::RestorePoint, By::from(&caller))
    };
    let made = create(&api, order).await?;
    Ok(Json(RestorePointAnswer {
        success: true,
        restore_point_id: made.backup_id,
        timestamp: made.timestamp,
    }))
}

/// The source of one that a person asked for.
const MANUAL: &str = "restore-point-manual";

/// Restores a backup: verifies every byte and row of it, makes a backup of what is there, stops the bots, swaps the store and
/// goes on, in the same process. Answered when everything is checked and staged and the restore begins; how it went,
/// `GET /api/disaster-recovery/status` says in `last_restore`. With `dry_run` nothing is changed. `undo` as the id
/// restores the state from before the last restore.
#[utoipa::path(post, path = "/api/disaster-recovery/restore/{id}", tag = "recovery", params(("id" = String, Path, description = "The backup; `undo`; anything with `file`"), RestoreQuery), responses(
    (status = 200, body = RestoreAnswer),
    (status = 404, body = deia::api::ApiError),
    (status = 409, body = deia::api::ApiError, description = "It is not fit, and why; or another one is under way. Nothing was changed"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn restore(
    State(desk): State<Desk>,
    caller: Caller,
    PathArgs(id): PathArgs<String>,
    QueryArgs(query): QueryArgs<RestoreQuery>,
) -> Result<Json<RestoreAnswer>, ApiFailure> {
    let wanted = match (query.file, id.as_str()) {
        (Some(file), _) => Wanted::File(file.into()),
        (None, "undo") => Wanted::Undo,
        (None, _) => Wanted::Backup(id.clone()),
    };
    let dry_run = query.dry_run.unwrap_or(false);
    desk.restore(wanted, dry_run, By::from(&caller), 0)
        .await
        .map(Json)
        .map_err(|why| match &why {
            NotRestored::Unknown(_) => ApiFailure::not_found(why.to_string()),
            NotRestored::Busy => ApiFailure::conflict("restore_under_way", why.to_string()),
            NotRestored::Unfit(_) => ApiFailure::conflict("not_fit", why.to_string()),
        })
}

/// What a restore point is.
#[utoipa::path(get, path = "/api/disaster-recovery/restore-point/{id}", tag = "recovery", params(("id" = String, Path, description = "The restore point")), responses(
    (status = 200, body = RestorePointView),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn restore_point_view(
    State(desk): State<Desk>,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<RestorePointView>, ApiFailure> {
    let wanted = id.clone();
    let listed = desk
        .list(
            move |found| found.id == wanted && is_restore_point(found),
            1,
        )
        .await
        .map_err(|e| unreadable(&e))?;
    let Some(backup) = listed.into_iter().next() else {
        return Err(ApiFailure::not_found(format!(
            "Restore point {id} not found"
        )));
    };
    Ok(Json(RestorePointView {
        details: RestorePointDetails {
            restore_id: id,
            timestamp: backup.timestamp,
            backups: vec![backup.backup_id.clone()],
            description: backup.description.clone().unwrap_or_default(),
            manual: backup.source == MANUAL,
            backup_details: Vec::<BackupMeta>::from([backup]),
        },
        timestamp: Timestamp::now(),
    }))
}

/// How it stands with backups and restores.
#[utoipa::path(get, path = "/api/disaster-recovery/status", tag = "recovery", responses((status = 200, body = RecoveryStatus)))]
pub async fn status(State(desk): State<Desk>) -> Result<Json<RecoveryStatus>, ApiFailure> {
    desk.status().await.map(Json).map_err(|e| unreadable(&e))
}

/// Notes that an end that comes now is no crash; ends nothing. A stop notes it by itself.
#[utoipa::path(post, path = "/api/disaster-recovery/mark-shutdown", tag = "recovery", responses(
    (status = 200, body = MarkShutdownAnswer),
    (status = 503, body = deia::api::ApiError, description = "It could not be written"),
))]
pub async fn mark_shutdown(
    State(desk): State<Desk>,
    caller: Caller,
) -> Result<Json<MarkShutdownAnswer>, ApiFailure> {
    desk.mark_shutdown(caller.to_string()).await.map_err(|e| {
        ApiFailure::unavailable("not_marked", format!("it could not be written: {e}"), 5)
    })?;
    Ok(Json(MarkShutdownAnswer {
        success: true,
        message: "Clean shutdown marked".into(),
        timestamp: Timestamp::now(),
    }))
}

fn unknown(what: &str, id: &str) -> ApiFailure {
    let id: String = id.chars().take(200).collect();
    ApiFailure::not_found(format!("{what} {id} not found"))
}

fn unreadable(e: &std::io::Error) -> ApiFailure {
    ApiFailure::unavailable(
        "backups_unreadable",
        format!("the folder of backups can't be read: {e}"),
        5,
    )
}
