//! The audit trail: put something on record, ask what is, prove that it is whole.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use deia::api::{
    AuditAction, AuditAnchor, AuditBad, AuditCritical, AuditCriticalQuery, AuditEntries,
    AuditEntry, AuditHead, AuditLevel, AuditLogged, AuditOfActor, AuditOfQuery, AuditOfTarget,
    AuditQuery, AuditRange, AuditRequest, AuditResult, AuditSource, AuditStatistics, AuditVerified,
    MAX_AUDIT_DETAILS_BYTES, MAX_AUDIT_ERROR_BYTES, MAX_AUDIT_RECORDS,
};
use deia::config::secret;
use deia::time::Timestamp;
use serde_json::{Map, Value};

use super::Shared;
use super::orchestrate::unreadable;
use super::tasks::wrong_query;
use crate::audit::{Actor, Check, Entry, Link, cut, entry_id, hex, last_checkpoint};
use crate::http::error::ApiFailure;
use crate::http::extract::{OptionalJsonBody, PathArgs, QueryArgs};
use crate::store::{AuditFilter, AuditRecord, AuditTally};

/// Records in an answer about one actor or target where the caller names no number.
const DEFAULT_OF: u32 = 100;

/// How far back what is critical is looked for where the caller does not say.
const DEFAULT_HOURS: u32 = 24;

/// Records that are checked or counted at a time: a reading connection is not held for longer.
const PORTION: usize = 5_000;

/// How long one question goes on looking for records that are few among many.
const LOOKED_FOR: Duration = Duration::from_secs(5);

/// What can't be shown without one.
const NO_CHECKPOINT: &str = "there is no checkpoint outside of the store (audit-head.json): a trail whose end was cut off with the store's own note of it would not show";

/// What stands for a value that looks like a secret.
const REDACTED: &str = "[redacted]";

/// Puts something on record for a caller: marked `source: client`, with the actor that the caller's
/// credentials tell. Who the caller says it was is kept as `details.claimed_actor`. Answered once it is durable.
#[utoipa::path(post, path = "/api/audit/log", tag = "audit", request_body(content = Option<AuditRequest>), responses(
    (status = 200, body = AuditLogged),
    (status = 413, body = deia::api::ApiError, description = "The details are too large"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "The disk takes nothing, or the audit is off"),
))]
pub async fn log(
    State(api): State<Shared>,
    actor: Actor,
    OptionalJsonBody(request): OptionalJsonBody<AuditRequest>,
) -> Result<Json<AuditLogged>, ApiFailure> {
    let timestamp = Timestamp::now();
    let target = request
        .target
        .as_deref()
        .filter(|target| !target.is_empty());
    let mut entry = Entry::new(
        timestamp,
        request.action.unwrap_or(AuditAction::ApiCall),
        Actor::DAEMON,
        secret::redact(target.unwrap_or("unknown")),
    );
    entry.source = AuditSource::Client;
    entry.level = request.level.unwrap_or(AuditLevel::Info);
    entry.result = request.result.unwrap_or(AuditResult::Success);
    entry.error = request
        .error_message
        .map(|why| cut(&secret::redact(&why), MAX_AUDIT_ERROR_BYTES).to_owned());
    let mut details = request.details.unwrap_or_default();
    if let Some(claimed) = request.actor.filter(|claimed| !claimed.is_empty()) {
        details.insert("claimed_actor".to_owned(), claimed.into());
    }
    if !details.is_empty() {
        let text = redacted(Value::Object(details)).to_string();
        if text.len() > MAX_AUDIT_DETAILS_BYTES {
            return Err(ApiFailure::too_large(format!(
                "the details have {} bytes as JSON; {MAX_AUDIT_DETAILS_BYTES} is the most",
                text.len()
            )));
        }
        entry.details = Some(text);
    }
    let noted = api.note(actor, entry).await?;
    let link = noted.link.ok_or_else(|| {
        ApiFailure::unavailable(
            "audit_disabled",
            "the audit is off (audit.enabled, feature_flags.audit_logging_enabled)",
            60,
        )
    })?;
    Ok(Json(AuditLogged {
        entry_id: entry_id(&link.hash),
        seq: link.seq,
        actor: noted.actor,
        timestamp,
    }))
}

/// Records, the newest first.
#[utoipa::path(get, path = "/api/audit/query", tag = "audit", params(AuditQuery), responses(
    (status = 200, body = AuditEntries),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn query(
    State(api): State<Shared>,
    QueryArgs(query): QueryArgs<AuditQuery>,
) -> Result<Json<AuditEntries>, ApiFailure> {
    let before = match &query.cursor {
        None => None,
        Some(cursor) => {
            let place = cursor.parse::<i64>().ok().filter(|seq| *seq > 0);
            Some(place.ok_or_else(|| {
                let why = "Input should be the next_cursor of a page";
                wrong_query("cursor", why.into(), cursor.clone().into())
            })?)
        }
    };
    let filter = AuditFilter {
        action: query.action,
        actor: query.actor,
        target: query.target,
        level: query.level,
        result: query.result,
        since: None,
    };
    let limit = query.limit.unwrap_or(MAX_AUDIT_RECORDS);
    let (entries, damaged, next) = find(&api, filter, before, limit).await?;
    Ok(Json(AuditEntries {
        count: entries.len(),
        entries,
        damaged,
        next_cursor: next.map(|seq| seq.to_string()),
        timestamp: Timestamp::now(),
    }))
}

/// What one has done, the newest first.
#[utoipa::path(get, path = "/api/audit/actor/{id}", tag = "audit", params(("id" = String, Path), AuditOfQuery), responses(
    (status = 200, body = AuditOfActor),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn actor(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
    QueryArgs(query): QueryArgs<AuditOfQuery>,
) -> Result<Json<AuditOfActor>, ApiFailure> {
    let filter = AuditFilter {
        actor: Some(id.clone()),
        ..AuditFilter::default()
    };
    let limit = query.limit.unwrap_or(DEFAULT_OF);
    let (actions, ..) = find(&api, filter, None, limit).await?;
    Ok(Json(AuditOfActor {
        actor: id,
        count: actions.len(),
        actions,
        timestamp: Timestamp::now(),
    }))
}

/// What was done to one, the newest first.
#[utoipa::path(get, path = "/api/audit/target/{id}", tag = "audit", params(("id" = String, Path), AuditOfQuery), responses(
    (status = 200, body = AuditOfTarget),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn target(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
    QueryArgs(query): QueryArgs<AuditOfQuery>,
) -> Result<Json<AuditOfTarget>, ApiFailure> {
    let filter = AuditFilter {
        target: Some(id.clone()),
        ..AuditFilter::default()
    };
    let limit = query.limit.unwrap_or(DEFAULT_OF);
    let (history, ..) = find(&api, filter, None, limit).await?;
    Ok(Json(AuditOfTarget {
        target: id,
        count: history.len(),
        history,
        timestamp: Timestamp::now(),
    }))
}

/// What was critical of late, the newest first.
#[utoipa::path(get, path = "/api/audit/critical", tag = "audit", params(AuditCriticalQuery), responses(
    (status = 200, body = AuditCritical),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn critical(
    State(api): State<Shared>,
    QueryArgs(query): QueryArgs<AuditCriticalQuery>,
) -> Result<Json<AuditCritical>, ApiFailure> {
    let hours = query.hours.unwrap_or(DEFAULT_HOURS);
    let timestamp = Timestamp::now();
    let filter = AuditFilter {
        level: Some(AuditLevel::Critical),
        since: Some(timestamp.plus_millis(-i64::from(hours) * 3_600_000)),
        ..AuditFilter::default()
    };
    let (critical_actions, ..) = find(&api, filter, None, MAX_AUDIT_RECORDS).await?;
    Ok(Json(AuditCritical {
        hours,
        count: critical_actions.len(),
        critical_actions,
        timestamp,
    }))
}

/// Proves that the trail is whole, or names the first record that is changed, missing or too much. Takes
/// about a second for a million records; nothing waits for it.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", responses((status = 200, body = AuditVerified)))]
pub async fn verify(State(api): State<Shared>) -> Result<Json<AuditVerified>, ApiFailure> {
    let path = api.audit_head.clone();
    let known = tokio::task::spawn_blocking(move || last_checkpoint(&path)).await;
    let known = known.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    let mut check = Check::new(known.as_ref().ok().copied().flatten());
    loop {
        let (further, is_done) = api
            .store
            .audit_check(check, PORTION)
            .await
            .map_err(unreadable)?;
        check = further;
        if is_done {
            break;
        }
    }
    let mut verdict = verdict(&check);
    match known {
        Ok(Some(_)) => {}
        Ok(None) => verdict.warnings.push(NO_CHECKPOINT.to_owned()),
        Err(e) => verdict
            .warnings
            .push(format!("the last checkpoint can't be read: {e}")),
    }
    Ok(Json(verdict))
}

/// The trail in figures.
#[utoipa::path(get, path = "/api/audit/statistics", tag = "audit", responses((status = 200, body = AuditStatistics)))]
pub async fn statistics(State(api): State<Shared>) -> Result<Json<AuditStatistics>, ApiFailure> {
    let mut tally = AuditTally::default();
    while !tally.complete {
        tally = api
            .store
            .audit_tally(tally, PORTION)
            .await
            .map_err(unreadable)?;
    }
    let some = tally.total > 0;
    Ok(Json(AuditStatistics {
        total_entries: tally.total,
        date_range: tally
            .range
            .map(|(oldest, newest)| AuditRange { oldest, newest }),
        actions: some.then_some(tally.actions),
        actors: some.then_some(tally.actors),
        levels: some.then_some(tally.levels),
        results: some.then_some(tally.results),
        timestamp: Timestamp::now(),
    }))
}

type Found = (Vec<AuditEntry>, Vec<i64>, Option<i64>);

/// Looks on until the page is full, everything was looked at, or it has taken long enough.
async fn find(
    api: &Shared,
    filter: AuditFilter,
    mut before: Option<i64>,
    limit: u32,
) -> Result<Found, ApiFailure> {
    let limit = limit.min(MAX_AUDIT_RECORDS) as usize;
    let begun = Instant::now();
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    loop {
        let room = limit - entries.len() - damaged.len();
        let page = api
            .store
            .audit(filter.clone(), before, room)
            .await
            .map_err(unreadable)?;
        entries.extend(page.records.into_iter().map(view));
        damaged.extend(page.damaged);
        before = page.next;
        let is_full = entries.len() + damaged.len() >= limit;
        if before.is_none() || is_full || begun.elapsed() >= LOOKED_FOR {
            return Ok((entries, damaged, before));
        }
    }
}

/// A record, as users see it.
pub fn view(record: AuditRecord) -> AuditEntry {
    let AuditRecord {
        seq,
        entry,
        previous,
        hash,
    } = record;
    let details = entry.details.as_deref().map(serde_json::from_str);
    AuditEntry {
        entry_id: entry_id(&hash),
        seq,
        timestamp: entry.at,
        action: entry.action,
        level: entry.level,
        actor: entry.actor.name().to_owned(),
        source: entry.source,
        target: entry.target.to_string(),
        details: details.and_then(Result::ok).unwrap_or_default(),
        result: entry.result,
        error_message: entry.error,
        remote: entry.actor.remote.map(|remote| remote.to_string()),
        previous: hex(&previous),
        checksum: hex(&hash),
    }
}

fn verdict(check: &Check) -> AuditVerified {
    let bad = |bad: &crate::audit::Bad| AuditBad {
        seq: bad.seq,
        entry_id: bad.entry_id.clone(),
        why: bad.why.clone(),
    };
    let head = |link: Link| AuditHead {
        seq: link.seq,
        checksum: hex(&link.hash),
    };
    let anchor = check.anchor();
    let errors = check.bad().iter();
    let is_empty = check.looked_at() == 0;
    AuditVerified {
        verified: check.bad().is_empty(),
        errors: errors
            .map(|bad| format!("record {}: {}", bad.seq, bad.why))
            .collect(),
        warnings: match is_empty {
            true => vec!["No audit entries to verify".to_owned()],
            false => Vec::new(),
        },
        total_entries: check.looked_at(),
        invalid_checksums: (!is_empty).then_some(check.invalid()),
        first_bad: check.bad().first().map(bad),
        anchor: (anchor.link.seq > 0).then(|| AuditAnchor {
            seq: anchor.link.seq,
            checksum: hex(&anchor.link.hash),
            removed: anchor.removed,
        }),
        head: Some(head(check.head())),
        checkpoint: check.checkpoint().map(head),
        timestamp: Timestamp::now(),
    }
}

/// Without what looks like a secret, or is named like one.
fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(secret::redact(&text)),
        Value::Array(values) => values.into_iter().map(redacted).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(redacted_field).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn redacted_field((name, value): (String, Value)) -> (String, Value) {
    let is_text = value.is_string();
    match secret::is_secret_name(&name) && is_text {
        true => (name, REDACTED.into()),
        false => (secret::redact(&name), redacted(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_left_out_of_details() {
        let given = json!({"db_password": "hunter2", "deep": [{"note": "Bearer abcdefghijklmnopqrstuvwxyz0123456789"}], "n": 1});
        let kept = redacted(given).to_string();
        assert!(
            !kept.contains("hunter2") && !kept.contains("abcdefghijkl"),
            "{kept}"
        );
        assert!(kept.contains("\"n\":1"));
    }
}
