//! What is seen of queue, failures and routes, under `/api/monitoring`: the original's routes, from what
//! really happened.

use axum::Json;
use axum::extract::State;
use deia::api::{
    ApiStatus, BotView, Bottlenecks, CascadeRisk, FailureStats, FailureTrends,
    ObservabilityHistory, ObservabilityQuery, QueueStatus, RouteStatus, ServiceStatus,
};
use deia::bot::Actual;
use deia::time::Timestamp;
use serde_json::{Map, Value, json};

use super::{Shared, dashboard, processes};
use crate::brain::record::day::MINUTE;
use crate::brain::record::{failures, queue};
use crate::daemon::command::{Command, Observed};
use crate::http::error::ApiFailure;
use crate::http::extract::{PathArgs, QueryArgs};

/// Failures in a row after which the next one is to be expected.
const CASCADE_AFTER: u32 = 3;

/// Rows in a history where the caller names no number.
const DEFAULT_ROWS: u32 = 100;

/// Hours in a history where the caller names no number; and the most.
const MAX_HOURS: u32 = 24;

/// Kinds of history.
const KINDS: [&str; 5] = ["process", "queue", "failures", "api", "health"];

/// How the bots do as services, and how the daemon's own routes are answered.
#[utoipa::path(get, path = "/api/monitoring/api/status", tag = "monitoring", responses((status = 200, body = ApiStatus)))]
pub async fn api_status(State(api): State<Shared>) -> Result<Json<ApiStatus>, ApiFailure> {
    let observed = observe(&api).await?;
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    Ok(Json(status_of(&api, &observed, &bots)))
}

fn status_of(api: &Shared, observed: &Observed, bots: &[BotView]) -> ApiStatus {
    let services = bots.iter().map(|bot| service(observed, bot));
    let cascades = bots.iter().filter(|bot| {
        let known = observed.record.bots.get(&bot.id);
        known.is_some_and(|known| known.failures_in_a_row >= CASCADE_AFTER)
    });
    let routes = api.meter.routes().into_iter().map(|route| {
        let [_, _, _, client_errors, server_errors] = route.classes;
        let requests = route.classes.iter().sum::<u64>();
        RouteStatus {
            route: route.route,
            requests,
            server_errors,
            client_errors,
            avg_response_time_ms: route.micros as f64 / 1000.0 / requests.max(1) as f64,
        }
    });
    ApiStatus {
        services: services.collect(),
        cascade_risk: cascades
            .map(|bot| format!("{}:cascade_risk", bot.id))
            .collect(),
        routes: routes.collect(),
        timestamp: observed.wall,
    }
}

fn service(observed: &Observed, bot: &BotView) -> ServiceStatus {
    let known = observed.record.bots.get(&bot.id);
    let (ends, failures) = known.map_or((0, 0), |known| known.last_hour(observed.now));
    let serves = matches!(bot.actual, Actual::Ready | Actual::Busy);
    let checks = [
        serves,
        bot.recent_ends == 0,
        known.is_none_or(|known| known.failures_in_a_row == 0),
    ];
    let well = checks.iter().filter(|well| **well).count();
    let avg = known.filter(|known| known.runs > 0);
    ServiceStatus {
        bot_id: bot.id.clone(),
        status: match well {
            3 => "healthy",
            2 => "degraded",
            _ => "critical",
        }
        .to_owned(),
        endpoints_healthy: u32::try_from(well).unwrap_or(0),
        endpoints_total: 3,
        error_rate: failures as f64 / ends.max(1) as f64,
        avg_response_time_ms: avg
            .map_or(0.0, |known| known.ran as f64 / 1000.0 / known.runs as f64),
        attempts_last_hour: ends,
    }
}

/// The queue and how fast it moves.
#[utoipa::path(get, path = "/api/monitoring/queue/status", tag = "monitoring", responses((status = 200, body = QueueStatus)))]
pub async fn queue_status(State(api): State<Shared>) -> Result<Json<QueueStatus>, ApiFailure> {
    observe(&api)
        .await
        .map(|observed| Json(queue_of(&observed)))
}

fn queue_of(observed: &Observed) -> QueueStatus {
    queue::status(
        &observed.record,
        &observed.standing,
        observed.now,
        observed.wall,
    )
}

/// What holds tasks up: waiting for more than 500 ms, or attempts of more than 5000 ms, on average.
#[utoipa::path(get, path = "/api/monitoring/queue/bottlenecks", tag = "monitoring", responses((status = 200, body = Bottlenecks)))]
pub async fn bottlenecks(State(api): State<Shared>) -> Result<Json<Bottlenecks>, ApiFailure> {
    let bottlenecks = queue::bottlenecks(&queue_of(&observe(&api).await?));
    Ok(Json(Bottlenecks {
        count: bottlenecks.len(),
        bottlenecks,
        timestamp: Timestamp::now(),
    }))
}

/// Failures of the last day, since the daemon's start.
#[utoipa::path(get, path = "/api/monitoring/failures/stats", tag = "monitoring", responses((status = 200, body = FailureStats)))]
pub async fn failure_stats(State(api): State<Shared>) -> Result<Json<FailureStats>, ApiFailure> {
    let seen = observe(&api).await?;
    Ok(Json(failures::stats(&seen.record, seen.now, seen.wall)))
}

/// Whether failures spread.
#[utoipa::path(get, path = "/api/monitoring/failures/cascade-risk", tag = "monitoring", responses((status = 200, body = CascadeRisk)))]
pub async fn cascade_risk(State(api): State<Shared>) -> Result<Json<CascadeRisk>, ApiFailure> {
    let seen = observe(&api).await?;
    Ok(Json(failures::cascade(&seen.record, seen.now, seen.wall)))
}

/// Failures by kind and hour.
#[utoipa::path(get, path = "/api/monitoring/failures/trends", tag = "monitoring", responses((status = 200, body = FailureTrends)))]
pub async fn trends(State(api): State<Shared>) -> Result<Json<FailureTrends>, ApiFailure> {
    let seen = observe(&api).await?;
    Ok(Json(failures::trends(&seen.record, seen.now, seen.wall)))
}

/// All of it at once.
#[utoipa::path(get, path = "/api/monitoring/observability/snapshot", tag = "monitoring", responses((status = 200, body = Object)))]
pub async fn snapshot(State(api): State<Shared>) -> Result<Json<Value>, ApiFailure> {
    let seen = observe(&api).await?;
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    let bots = api.with_usage(bots).await;
    let queue = queue_of(&seen);
    let (record, now, wall) = (&seen.record, seen.now, seen.wall);
    let mut queues = object(&queue);
    queues.insert("bottlenecks".into(), json!(queue::bottlenecks(&queue)));
    let mut failed = object(&failures::stats(record, now, wall));
    failed.insert(
        "cascade_risk".into(),
        json!(failures::cascade(record, now, wall)),
    );
    failed.insert(
        "error_trends".into(),
        json!(failures::trends(record, now, wall)),
    );
    let system: Map<String, Value> = bots
        .iter()
        .map(|bot| (bot.id.clone(), process(&api, bot)))
        .collect();
    Ok(Json(json!({
        "timestamp": wall,
        "system": system,
        "queues": queues,
        "api": status_of(&api, &seen, &bots),
        "failures": failed,
        "health": health(&api).await?,
    })))
}

/// A bot as it is now, with what was last seen of its processes.
fn process(api: &Shared, bot: &BotView) -> Value {
    let mut shown = object(&json!({
        "bot_id": bot.id,
        "actual": bot.actual,
        "pid": bot.pid,
        "memory_mb": bot.memory_bytes.map(|bytes| bytes as f64 / 1_048_576.0),
        "cpu_percent": bot.cpu_percent,
    }));
    shown.extend(object(&processes::health(api, &bot.id)));
    Value::Object(shown)
}

/// The dashboard's figures, with what `/health` says.
async fn health(api: &Shared) -> Result<Value, ApiFailure> {
    let mut shown = object(&dashboard::shown(api).await?);
    let condition = api.condition.borrow().clone();
    let reasons = condition.reasons(api.config.degraded());
    // Where health monitoring is off, that is what there is to be said.
    shown
        .entry("status")
        .or_insert_with(|| json!(if reasons.is_empty() { "ok" } else { "degraded" }));
    shown.insert("reasons".into(), json!(reasons));
    Ok(Value::Object(shown))
}

/// What was, minute by minute (`queue`, `api`), one by one (`failures`), or as it was sampled (`process`,
/// `health`).
#[utoipa::path(get, path = "/api/monitoring/observability/history/{kind}", tag = "monitoring",
    params(("kind" = String, Path, description = "process, queue, failures, api or health"), ObservabilityQuery), responses(
    (status = 200, body = ObservabilityHistory),
    (status = 404, body = deia::api::ApiError, description = "There is no such history"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn history(
    State(api): State<Shared>,
    PathArgs(kind): PathArgs<String>,
    QueryArgs(query): QueryArgs<ObservabilityQuery>,
) -> Result<Json<ObservabilityHistory>, ApiFailure> {
    if !KINDS.contains(&kind.as_str()) {
        return Err(ApiFailure::not_found(format!(
            "no history of {kind:?}; there are {}",
            KINDS.join(", ")
        )));
    }
    let hours = query.hours.unwrap_or(MAX_HOURS);
    let seen = observe(&api).await?;
    let mut data = match kind.as_str() {
        "queue" => of_queue(&seen, hours),
        "failures" => of_failures(&seen, hours),
        "api" => of_api(&api, hours),
        "process" => of_processes(&api, hours),
        _ => of_health(&api, hours),
    };
    let limit = query.limit.unwrap_or(DEFAULT_ROWS) as usize;
    if limit > 0 && data.len() > limit {
        data.drain(..data.len() - limit);
    }
    Ok(Json(ObservabilityHistory {
        metric_type: kind,
        hours,
        count: data.len(),
        data,
        timestamp: seen.wall,
    }))
}

fn of_queue(seen: &Observed, hours: u32) -> Vec<Value> {
    let span = u64::from(hours) * 60 * MINUTE;
    let minutes = seen.record.day.of_last(seen.now, span);
    let row = |minute: &crate::brain::record::day::Minute| {
        let began = minute.number * MINUTE;
        let lasted = seen.now.saturating_sub(began).clamp(1, MINUTE);
        json!({
            "timestamp": ago(seen.wall, seen.now.saturating_sub(began)),
            "queue_depth": minute.depth as f64 / lasted as f64,
            "throughput": minute.succeeded,
            "submitted": minute.submitted,
            "failed": minute.failed,
        })
    };
    minutes.map(row).collect()
}

fn of_failures(seen: &Observed, hours: u32) -> Vec<Value> {
    let span = u64::from(hours) * 60 * MINUTE;
    let newest_first = seen.record.failures.of_last(seen.now, span);
    let row = |failure: &failures::Failure| {
        let mut row = object(&json!({
            "timestamp": failure.wall,
            "bot_id": failure.bot,
            "task_type": failure.task_type,
            "error_type": failure.kind,
            "task_id": failure.task,
            "source": if failure.report.is_some() { "client" } else { "daemon" },
        }));
        if let Some(report) = &failure.report {
            row.insert("error_message".into(), json!(report.message));
            row.insert("error_code".into(), json!(report.code));
        }
        Value::Object(row)
    };
    newest_first.into_iter().rev().map(row).collect()
}

fn of_api(api: &Shared, hours: u32) -> Vec<Value> {
    let wall = Timestamp::now();
    let row = |minute: &crate::http::meter::MinuteCounts| {
        let since = u64::try_from(minute.ago.as_millis()).unwrap_or(u64::MAX);
        json!({
            "timestamp": ago(wall, since),
            "requests": minute.requests,
            "errors": minute.errors,
            "avg_response_time_ms": minute.micros as f64 / 1000.0 / minute.requests.max(1) as f64,
        })
    };
    api.meter.minutes(hours).iter().map(row).collect()
}

/// One row for each sample of each bot that is there, oldest first.
fn of_processes(api: &Shared, hours: u32) -> Vec<Value> {
    let seen = api.health.observations();
    let since = ago(Timestamp::now(), u64::from(hours) * 60 * MINUTE);
    let latest = seen.latest();
    let bots = latest.iter().flat_map(|sample| sample.look.bots.keys());
    let mut rows: Vec<_> = bots
        .flat_map(|bot| {
            let points = seen.bot_points(bot, since, usize::MAX);
            points.into_iter().map(move |point| (point.at, bot, point))
        })
        .collect();
    rows.sort_by_key(|(at, _, _)| *at);
    let row = |(at, bot, point): &(Timestamp, _, crate::health::BotPoint)| {
        json!({
            "timestamp": at,
            "bot_id": bot,
            "memory_mb": point.rss_bytes as f64 / 1_048_576.0,
            "cpu_percent": point.cpu,
        })
    };
    rows.iter().map(row).collect()
}

/// One row for each health sample.
fn of_health(api: &Shared, hours: u32) -> Vec<Value> {
    let since = ago(Timestamp::now(), u64::from(hours) * 60 * MINUTE);
    let points = api.health.observations().points(since, usize::MAX);
    let row = |point: &crate::health::Point| {
        json!({
            "timestamp": point.at,
            "system_cpu_percent": point.cpu,
            "system_memory_percent": point.memory,
            "queued_tasks": point.queued,
            "running_tasks": point.running,
            "oldest_seconds": point.oldest_seconds,
            "throughput_per_minute": point.throughput_per_minute,
            "failure_rate": point.failure_rate,
            "active_bots": point.active_bots,
        })
    };
    points.iter().map(row).collect()
}

fn ago(wall: Timestamp, millis: u64) -> Timestamp {
    wall.plus_millis(-i64::try_from(millis).unwrap_or(i64::MAX))
}

/// What happened so far.
pub(super) async fn observe(api: &Shared) -> Result<Observed, ApiFailure> {
    api.ask(|reply| Command::Observe { reply }).await
}

fn object(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => Map::new(),
    }
}
