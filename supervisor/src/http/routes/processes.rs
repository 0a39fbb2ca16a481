//! What bots' processes take. Only of bots: the original told of any process of the host.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use deia::api::{
    AllProcesses, BotProcesses, LeakAnswer, MemoryMeasurement, MemoryTrend, ProcessHealth,
    ProcessMetrics, ProcessQuery, SeenProcess, WhyNotSeen,
};
use deia::time::Timestamp;

use super::{Api, Shared};
use crate::brain::process::{MemoryLine, Taken, judge};
use crate::health::{BotUse, Sample};
use crate::http::error::ApiFailure;
use crate::http::extract::{PathArgs, QueryArgs};
use crate::http::peer::{Ancestry, is_descendant, parent_of};

const MIB: f64 = 1024.0 * 1024.0;

const NO_LEAK: &str = "No memory leak detected or insufficient data";

/// What a bot and all it has started take.
#[utoipa::path(get, path = "/api/monitoring/process/{bot_id}", tag = "monitoring",
    params(("bot_id" = String, Path), ProcessQuery), responses(
    (status = 200, body = BotProcesses),
    (status = 404, body = deia::api::ApiError, description = "`pid` is no process of this bot"),
    (status = 422, body = deia::api::ValidationErrors),
))]
pub async fn one(
    State(api): State<Shared>,
    PathArgs(bot_id): PathArgs<String>,
    QueryArgs(query): QueryArgs<ProcessQuery>,
) -> Result<Json<BotProcesses>, ApiFailure> {
    if let Some(pid) = query.pid {
        let own = api.health.observations().bot(&bot_id).map(|used| used.pid);
        let is_its = match own {
            Some(own) => tokio::task::spawn_blocking(move || belongs(pid, own))
                .await
                .unwrap_or(false),
            None => false,
        };
        if !is_its {
            return Err(ApiFailure::not_found(format!(
                "Process {pid} of bot {bot_id} not found"
            )));
        }
    }
    Ok(Json(BotProcesses {
        health: health(&api, &bot_id),
        bot_id,
        timestamp: Timestamp::now(),
    }))
}

/// The same of every bot.
#[utoipa::path(get, path = "/api/monitoring/process/all/health", tag = "monitoring", responses(
    (status = 200, body = AllProcesses),
))]
pub async fn all(State(api): State<Shared>) -> Json<AllProcesses> {
    let latest = api.health.observations().latest();
    let bots = latest.iter().flat_map(|sample| &sample.vitals.bots);
    let bots: BTreeMap<String, ProcessHealth> = bots
        .map(|bot| (bot.id.to_string(), health(&api, &bot.id)))
        .collect();
    Json(AllProcesses {
        total_bots: bots.len(),
        bots,
        timestamp: Timestamp::now(),
    })
}

/// Whether a bot's memory grows without end.
#[utoipa::path(get, path = "/api/monitoring/process/{bot_id}/memory-leak", tag = "monitoring",
    params(("bot_id" = String, Path)), responses((status = 200, body = LeakAnswer)))]
pub async fn leak(
    State(api): State<Shared>,
    PathArgs(bot_id): PathArgs<String>,
) -> Json<LeakAnswer> {
    let line = api.health.observations().memory(&bot_id);
    let line = line.unwrap_or_default();
    let trend = trend(&line);
    let measurement = |(timestamp, bytes): (Timestamp, u64)| MemoryMeasurement {
        timestamp,
        memory_mb: mb(bytes),
    };
    let is_leaking = trend.is_some_and(|trend| trend.is_leaking);
    Json(LeakAnswer {
        bot_id,
        is_leaking,
        message: match trend {
            Some(trend) if is_leaking => format!(
                "Memory grows by {:.1} MiB an hour",
                trend.growth_rate_mb_per_hour
            ),
            _ => NO_LEAK.into(),
        },
        growth_rate_mb_per_hour: trend.map(|trend| trend.growth_rate_mb_per_hour),
        duration_minutes: trend.map(|trend| trend.duration_minutes),
        measurements: trend.map(|_| line.samples().map(measurement).collect()),
        timestamp: Timestamp::now(),
    })
}

/// Whether a process is the bot's own or descends from it.
fn belongs(pid: u32, own: u32) -> bool {
    let found = is_descendant(pid, parent_of, |other| other == own);
    pid == own || matches!(found, Ok(Ancestry::Descendant(_)))
}

/// What is known of one bot's processes.
pub(super) fn health(api: &Api, bot: &str) -> ProcessHealth {
    let observations = api.health.observations();
    let sample = observations.latest();
    let used = sample.as_ref().and_then(|sample| sample.look.bots.get(bot));
    match (&sample, used) {
        (Some(sample), Some(used)) => {
            let line = observations.memory(bot).unwrap_or_default();
            ProcessHealth::Seen(Box::new(seen(bot, sample, used, &line)))
        }
        _ => ProcessHealth::NotSeen {
            status: match api.config.current().feature_flags.health_monitoring_enabled {
                true => WhyNotSeen::NoData,
                false => WhyNotSeen::Disabled,
            },
        },
    }
}

fn seen(bot: &str, sample: &Sample, used: &BotUse, line: &MemoryLine) -> SeenProcess {
    let memory_trend = trend(line);
    let mut alerts = judge(&Taken {
        memory: used.memory,
        descriptors: used.descriptors,
        threads: used.threads,
        cpu: used.cpu,
    });
    if let Some(trend) = memory_trend.filter(|trend| trend.is_leaking) {
        alerts.push(format!(
            "Memory leak: {:.1} MiB an hour",
            trend.growth_rate_mb_per_hour
        ));
    }
    SeenProcess {
        bot_id: bot.to_owned(),
        status: if alerts.is_empty() {
            "healthy"
        } else {
            "warning"
        }
        .into(),
        latest_metrics: ProcessMetrics {
            bot_id: bot.to_owned(),
            timestamp: sample.at,
            pid: used.pid,
            processes: used.processes,
            memory_mb: mb(used.rss_bytes),
            memory_percent: rounded(used.memory),
            rss_mb: mb(used.rss_bytes),
            vms_mb: mb(used.vms_bytes),
            file_descriptors: used.descriptors,
            thread_count: used.threads,
            open_connections: used.connections,
            cpu_percent: rounded(used.shown_cpu()),
            num_fds: used.descriptors,
        },
        memory_trend,
        alerts,
        timestamp: Timestamp::now(),
    }
}

fn trend(line: &MemoryLine) -> Option<MemoryTrend> {
    line.trend().map(|trend| MemoryTrend {
        is_leaking: trend.is_leaking,
        growth_rate_mb_per_hour: rounded(trend.growth_mb_per_hour),
        duration_minutes: rounded(trend.minutes),
    })
}

fn mb(bytes: u64) -> f64 {
    rounded(bytes as f64 / MIB)
}

/// As precise as it is of use to people.
fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}
