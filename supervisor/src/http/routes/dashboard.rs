//! Health in full, and alerts.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use deia::api::{
    AlertCounts, AlertLevel, AlertList, AlertQuery, AlertSummary, BotHealth, BotsHealth,
    DashboardHealth, HealthDisabled, HealthEvaluation, HealthQuestion, QueueCounts, QueueHealth,
    ResolveAnswer, Services, SystemHealth, SystemResources,
};
use deia::config::{Config, FeatureFlags};
use deia::time::Timestamp;
use serde::Serialize;

use super::{Api, Shared, refused};
use crate::audit::Actor;
use crate::brain::alerts;
use crate::brain::degrade::Feature;
use crate::http::error::ApiFailure;
use crate::http::extract::{OptionalJsonBody, PathArgs, QueryArgs};

/// How the fleet is, from the last sample. `{"status":"disabled"}` where health monitoring is off.
#[utoipa::path(get, path = "/api/dashboard/health", tag = "health", responses(
    (status = 200, body = DashboardHealth),
    (status = 503, body = deia::api::ApiError, description = "The daemon has just started and has seen nothing yet, or is stopping"),
))]
pub async fn health(State(api): State<Shared>) -> Result<Json<Shown>, ApiFailure> {
    shown(&api).await.map(Json)
}

/// The fleet's health, or why there is nothing to be said of it.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// From the last sample.
    Health(Box<DashboardHealth>),
    /// Health monitoring is off.
    Disabled(HealthDisabled),
}

/// The last sample; where there is none yet, it is taken.
pub(super) async fn shown(api: &Shared) -> Result<Shown, ApiFailure> {
    let config = api.config.current();
    if !config.feature_flags.health_monitoring_enabled {
        return Ok(Shown::Disabled(disabled(&config)));
    }
    let observations = api.health.observations();
    if observations.latest().is_none() {
        // The first sample is a moment away: this one takes it.
        let looked = api.health.evaluate(HealthQuestion::default()).await;
        looked.ok_or_else(|| {
            ApiFailure::unavailable("no_data", "nothing was looked at yet: ask again", 1)
        })?;
    }
    let sample = observations.latest().ok_or_else(|| {
        ApiFailure::unavailable("no_data", "health monitoring was just switched off", 1)
    })?;
    let active = observations.alerts();
    let figures = &sample.figures;
    let metrics = figures.metrics(sample.at, &active);
    let of_level = |level| crate::health::count(&active, level);
    let of_alert = |id: &str| {
        let alert = active.iter().find(|alert| alert.alert_id == id);
        alert.map(|alert| alert.level)
    };
    let host = [
        "cpu_health",
        "memory_health",
        "resource_exhausted",
        "disk_space",
    ];
    let host = host.into_iter().filter_map(of_alert).max();
    let queue = ["queue_health", "queue_age"]
        .into_iter()
        .filter_map(of_alert)
        .max();
    let inactive = metrics.total_bots.saturating_sub(metrics.active_bots);
    let total = active.len() as u64;
    let (critical, warning) = (
        of_level(AlertLevel::Critical),
        of_level(AlertLevel::Warning),
    );
    let answer = DashboardHealth {
        timestamp: Timestamp::now(),
        overall_status: alerts::overall(&active).into(),
        health_score: alerts::score(figures, &active),
        recent_alerts: observations.recent_alerts(),
        alert_summary: AlertSummary {
            total_active: total,
            critical,
            warning,
            info: of_level(AlertLevel::Info),
        },
        bot_health: BotHealth {
            total: metrics.total_bots,
            active: metrics.active_bots,
            inactive,
            avg_load: metrics.avg_bot_load,
            avg_success_rate: metrics.avg_success_rate,
        },
        system_resources: SystemResources {
            cpu_percent: metrics.system_cpu_percent,
            memory_percent: metrics.system_memory_percent,
        },
        queue_status: QueueCounts {
            queued_tasks: metrics.queued_tasks,
            pending_messages: metrics.message_queue_size,
            failed_messages: metrics.pending_message_failures,
        },
        system: SystemHealth {
            cpu_percent: metrics.system_cpu_percent,
            memory_percent: metrics.system_memory_percent,
            status: word(host),
            disk_free_bytes: sample.look.disk.map(|disk| disk.free),
        },
        bots: BotsHealth {
            total: metrics.total_bots,
            healthy: metrics.active_bots,
            unhealthy: inactive,
            avg_load: metrics.avg_bot_load,
        },
        queue: QueueHealth {
            depth: metrics.queued_tasks,
            avg_wait_time_ms: sample.vitals.average_wait_ms.round(),
            oldest_seconds: sample.vitals.oldest_seconds,
            status: word(queue),
        },
        services: services(api, &config),
        alerts: AlertCounts {
            active: total,
            critical,
            warnings: warning,
        },
        feature_flags: flags(&config.feature_flags),
        degradation: observations.degradation(),
        sampled_at: sample.at,
        metrics,
        active_alerts: active,
    };
    Ok(Shown::Health(Box::new(answer)))
}

/// Without figures: looks and judges now. With figures: says what they would come to; nothing of it is
/// kept, and no alert is raised or resolved by it.
#[utoipa::path(post, path = "/api/dashboard/health/evaluate", tag = "health", request_body(content = Option<HealthQuestion>), responses(
    (status = 200, body = HealthEvaluation),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn evaluate(
    State(api): State<Shared>,
    OptionalJsonBody(question): OptionalJsonBody<HealthQuestion>,
) -> Result<Response, ApiFailure> {
    match api.health.evaluate(question).await {
        Some(evaluation) => Ok(Json(evaluation).into_response()),
        None => {
            let config = api.config.current();
            match config.feature_flags.health_monitoring_enabled {
                false => Ok(Json(disabled(&config)).into_response()),
                true => Err(ApiFailure::unavailable(
                    "stopping",
                    "the daemon is stopping",
                    1,
                )),
            }
        }
    }
}

/// What is wrong now, the worst first.
#[utoipa::path(get, path = "/api/dashboard/alerts", tag = "health", params(AlertQuery), responses(
    (status = 200, body = AlertList),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn alerts(
    State(api): State<Shared>,
    QueryArgs(query): QueryArgs<AlertQuery>,
) -> Json<AlertList> {
    let mut alerts = api.health.observations().alerts();
    alerts.retain(|alert| query.level.is_none_or(|level| alert.level == level));
    Json(AlertList {
        count: alerts.len(),
        alerts,
        timestamp: Timestamp::now(),
    })
}

/// Silences an alert until what it is about is over and comes again, or gets worse.
#[utoipa::path(post, path = "/api/dashboard/alerts/{id}/resolve", tag = "health", params(("id" = String, Path)), responses(
    (status = 200, body = ResolveAnswer),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn resolve(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<ResolveAnswer>, ApiFailure> {
    let resolved = api.health.resolve(id.clone(), actor).await;
    if !resolved.map_err(|why| refused(why, ""))? {
        return Err(ApiFailure::not_found(format!("Alert {id} not found")));
    }
    Ok(Json(ResolveAnswer {
        success: true,
        alert_id: id,
        resolved: true,
        timestamp: Timestamp::now(),
    }))
}

fn disabled(config: &Config) -> HealthDisabled {
    HealthDisabled {
        status: "disabled".into(),
        message: "health monitoring is off (feature_flags.health_monitoring_enabled)".into(),
        feature_flags: flags(&config.feature_flags),
        timestamp: Timestamp::now(),
    }
}

/// The guide's words.
fn word(level: Option<AlertLevel>) -> String {
    level.map_or("ok", AlertLevel::as_str).into()
}

fn services(api: &Api, config: &Config) -> Services {
    let flags = &config.feature_flags;
    let switched = |on: bool| if on { "ok" } else { "disabled" };
    let condition = api.condition.borrow().clone();
    let degraded = api.health.observations().degraded();
    let orchestration = if condition.store_fault.is_some() || condition.stopping {
        "unavailable"
    } else if condition.refusing.is_some() {
        "draining"
    } else if condition.down.is_empty() {
        "ok"
    } else {
        "degraded"
    };
    let scheduling = match degraded.off.contains(&Feature::AdaptiveScheduling) {
        true if flags.adaptive_scheduling_enabled => "degraded",
        _ => switched(flags.adaptive_scheduling_enabled),
    };
    Services {
        messaging: switched(flags.messaging_enabled).into(),
        scheduling: scheduling.into(),
        orchestration: orchestration.into(),
        audit: switched(flags.audit_logging_enabled && config.audit.enabled).into(),
    }
}

fn flags(flags: &FeatureFlags) -> BTreeMap<String, bool> {
    let value = serde_json::to_value(flags).unwrap_or_default();
    serde_json::from_value(value).unwrap_or_default()
}
