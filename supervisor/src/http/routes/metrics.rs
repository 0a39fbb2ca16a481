//! `/metrics`: everything that is counted, for Prometheus.
//!
//! Labels are names of bots and pools, kinds, states and routes: their number is bounded by the
//! configuration and the program. No text of a task, a message or a bot is in it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use axum::response::IntoResponse;
use deia::api::{BotView, ScalingStatus};
use deia::bot::Actual;
use deia::message::MessageStatus;
use deia::task::{TaskStatus, TaskType};
use deia::time::Timestamp;

use super::Shared;
use super::orchestrate::unreadable;
use crate::brain::record::{ERRORS, End, Record, Submission};
use crate::daemon::command::{Command, Observed};
use crate::http::error::ApiFailure;
use crate::http::meter::CLASSES;
use crate::http::prometheus::{CONTENT_TYPE, Kind, Text};
use crate::store::{MessageCounts, StatusCounts};
use crate::usage;

use Kind::{Counter, Gauge, Histogram};

/// Everything that is counted, in Prometheus' text format 0.0.4; 404 with `telemetry.prometheus: false`.
#[utoipa::path(get, path = "/metrics", tag = "monitoring", responses(
    (status = 200, body = String, content_type = "text/plain", description = "Metrics, each with HELP and TYPE",
        example = "# HELP deia_queue_depth Tasks that wait for a bot.\n# TYPE deia_queue_depth gauge\ndeia_queue_depth 0\n"),
    (status = 404, body = deia::api::ApiError, description = "telemetry.prometheus is off"),
))]
pub async fn metrics(State(api): State<Shared>) -> Result<impl IntoResponse, ApiFailure> {
    if !api.config.current().telemetry.prometheus {
        return Err(ApiFailure::not_found(
            "metrics are off (telemetry.prometheus)",
        ));
    }
    let observed = api.ask(|reply| Command::Observe { reply }).await?;
    let bots = api.ask(|reply| Command::Bots { reply }).await?;
    let bots = api.with_usage(bots).await;
    let scaling = api.ask(|reply| Command::Scaling { reply }).await?;
    let counts = api.store.counts().await.map_err(unreadable)?;
    let messages = api.store.message_counts().await.map_err(unreadable)?;
    let own = tokio::task::spawn_blocking(usage::own).await.ok().flatten();
    let mut text = Text::default();
    of_daemon(&mut text, &api, own);
    of_tasks(&mut text, &observed, &counts);
    of_times(&mut text, &observed.record);
    of_attempts(&mut text, &observed.record);
    of_bots(&mut text, &bots, &scaling);
    of_messages(&mut text, &messages);
    of_backups(&mut text, &api);
    of_edge(&mut text, &api);
    of_validation(&mut text, &api);
    Ok(([(CONTENT_TYPE_HEADER, CONTENT_TYPE)], text.finish()))
}

fn of_daemon(text: &mut Text, api: &Shared, own: Option<usage::Own>) {
    text.family("build_info", Gauge, "The release, as a label.")
        .sample(&[("version", deia::VERSION)], 1);
    let started = api.began.as_micros() as f64 / 1e6;
    text.one(
        "start_time_seconds",
        Gauge,
        "When the daemon started, since the Unix epoch.",
        format_args!("{started:.3}"),
    );
    let condition = api.condition.borrow().clone();
    let accepting = condition.refusing.is_none() && condition.store_fault.is_none();
    text.one(
        "accepting_tasks",
        Gauge,
        "Whether new tasks are accepted.",
        u8::from(accepting),
    );
    let reasons = condition.reasons(api.config.degraded()).len();
    text.one(
        "health_reasons",
        Gauge,
        "How much /health finds wrong.",
        reasons,
    );
    let config = api.config.status();
    text.one(
        "config_generation",
        Gauge,
        "Which configuration is in force, counted from 1.",
        config.generation,
    );
    text.one(
        "config_load_errors",
        Gauge,
        "Keys of the configuration file that fell back.",
        config.load_errors.len(),
    );
    let Some(own) = own else { return };
    text.one(
        "process_cpu_seconds_total",
        Counter,
        "CPU time of the daemon's own process.",
        own.cpu_seconds,
    );
    text.one(
        "process_resident_memory_bytes",
        Gauge,
        "Resident memory of the daemon's own process.",
        own.resident_bytes,
    );
    text.one(
        "process_open_fds",
        Gauge,
        "Descriptors the daemon has open.",
        own.open_files,
    );
}

fn of_tasks(text: &mut Text, observed: &Observed, counts: &StatusCounts) {
    let (record, standing) = (&observed.record, &observed.standing);
    text.family("tasks", Gauge, "Tasks that are kept, by status.");
    for status in TaskStatus::ALL {
        text.sample(&[("status", status.as_str())], counts.of(status));
    }
    text.family(
        "task_submissions_total",
        Counter,
        "Tasks that came, by what became of the submission.",
    );
    for (what, count) in Submission::ALL.into_iter().zip(record.submissions) {
        text.sample(&[("outcome", what.as_str())], count);
    }
    text.family(
        "tasks_accepted_total",
        Counter,
        "Tasks that were accepted, by kind of work.",
    );
    for (task_type, count) in TaskType::ALL.into_iter().zip(record.accepted) {
        text.sample(&[("type", task_type.as_str())], count);
    }
    text.family(
        "tasks_finished_total",
        Counter,
        "Tasks that are over, by their last status.",
    );
    let finished = TaskStatus::ALL.into_iter().zip(record.finished);
    for (status, count) in finished.filter(|(status, _)| status.is_final()) {
        text.sample(&[("status", status.as_str())], count);
    }
    text.one(
        "queue_depth",
        Gauge,
        "Tasks that wait for a bot.",
        standing.waiting,
    );
    text.one(
        "queue_scheduled",
        Gauge,
        "Tasks that wait for their time.",
        standing.scheduled,
    );
    text.one(
        "tasks_in_flight",
        Gauge,
        "Tasks that bots have.",
        standing.running,
    );
    text.one(
        "queue_oldest_age_seconds",
        Gauge,
        "How long the oldest task has waited for a bot; 0 where none waits.",
        standing.oldest_seconds.unwrap_or(0.0),
    );
}

fn of_times(text: &mut Text, record: &Record) {
    text.family(
        "routing_duration_seconds",
        Histogram,
        "What choosing a bot took.",
    )
    .histogram(&[], &record.routing);
    text.family(
        "queue_wait_seconds",
        Histogram,
        "How long tasks waited, from the moment they could be given out.",
    )
    .histogram(&[], &record.wait);
    text.family(
        "task_execution_seconds",
        Histogram,
        "How long attempts ran, by kind of work.",
    );
    for (task_type, histogram) in TaskType::ALL.into_iter().zip(&record.execution) {
        text.histogram(&[("type", task_type.as_str())], histogram);
    }
    text.family(
        "store_commit_seconds",
        Histogram,
        "From an operation to the store's report that it is durable.",
    )
    .histogram(&[], &record.commit);
    text.one(
        "store_operations_total",
        Counter,
        "Operations the store has reported.",
        record.operations,
    );
}

fn of_attempts(text: &mut Text, record: &Record) {
    text.one(
        "attempts_total",
        Counter,
        "Attempts that bots were given.",
        record.attempts,
    );
    text.family(
        "attempts_ended_total",
        Counter,
        "Attempts that ended, by bot, kind of work and outcome.",
    );
    for (bot, known) in record.bots.iter() {
        for (task_type, ends) in TaskType::ALL.into_iter().zip(&known.ends) {
            let some = End::ALL.into_iter().zip(ends).filter(|(_, n)| **n > 0);
            for (end, count) in some {
                let (kind, outcome) = (task_type.as_str(), end.as_str());
                let labels = [("bot", bot), ("type", kind), ("outcome", outcome)];
                text.sample(&labels, count);
            }
        }
    }
    text.family(
        "attempt_errors_total",
        Counter,
        "What went wrong with attempts.",
    );
    for (kind, count) in ERRORS.into_iter().zip(record.errors) {
        text.sample(&[("kind", kind)], count);
    }
}

fn of_bots(text: &mut Text, bots: &[BotView], scaling: &ScalingStatus) {
    let mut by_state: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for bot in bots {
        for state in Actual::ALL {
            by_state.entry((&bot.pool, state.as_str())).or_default();
        }
        *by_state
            .entry((&bot.pool, bot.actual.as_str()))
            .or_default() += 1;
    }
    text.family("bots", Gauge, "Bots, by pool and state.");
    for ((pool, state), count) in by_state {
        text.sample(&[("pool", pool), ("state", state)], count);
    }
    text.one(
        "bots_min",
        Gauge,
        "The least number of bots, as it is in force.",
        scaling.min_bots,
    );
    text.one(
        "bots_max",
        Gauge,
        "The greatest number of bots, as it is in force.",
        scaling.max_bots,
    );
    let mut each = |name, kind, help, value: &dyn Fn(&BotView) -> Option<String>| {
        text.family(name, kind, help);
        for bot in bots {
            if let Some(value) = value(bot) {
                text.sample(&[("bot", &bot.id), ("pool", &bot.pool)], value);
            }
        }
    };
    each(
        "bot_restarts_total",
        Counter,
        "How often a bot was started again.",
        &|bot| Some(bot.restarts.to_string()),
    );
    each("bot_tasks", Gauge, "Tasks a bot has.", &|bot| {
        Some(bot.tasks.len().to_string())
    });
    each("bot_slots", Gauge, "Tasks a bot may have.", &|bot| {
        Some(bot.max_concurrent.to_string())
    });
    each(
        "bot_success_ratio",
        Gauge,
        "Moving average of a bot's results.",
        &|bot| Some(bot.success_rate.to_string()),
    );
    each(
        "bot_cpu_cores",
        Gauge,
        "Cores a bot's process uses, since the look before.",
        &|bot| bot.cpu_percent.map(|cpu| cpu.to_string()),
    );
    each(
        "bot_resident_memory_bytes",
        Gauge,
        "Resident memory of a bot's process.",
        &|bot| bot.memory_bytes.map(|bytes| bytes.to_string()),
    );
}

fn of_messages(text: &mut Text, counts: &MessageCounts) {
    text.family("messages", Gauge, "Messages that are kept, by status.");
    for (status, count) in MessageStatus::ALL.into_iter().zip(counts.by_status) {
        text.sample(&[("status", &status.to_string())], count);
    }
}

fn of_backups(text: &mut Text, api: &Shared) {
    let Some(known) = api.recovery.summary() else {
        return;
    };
    text.one("backups", Gauge, "Backups that are kept.", known.count);
    text.family(
        "backup_age_seconds",
        Gauge,
        "Since the newest backup that can be read was made; nothing where there is none.",
    );
    if let Some(age) = known.age_seconds(Timestamp::now()) {
        text.sample(&[], format_args!("{age:.3}"));
    }
    text.family(
        "backup_size_bytes",
        Gauge,
        "The file of the newest backup that can be read.",
    );
    if let Some(newest) = &known.newest {
        text.sample(&[], newest.size_bytes);
    }
    text.one(
        "backups_size_bytes",
        Gauge,
        "The files of all backups together.",
        known.total_bytes,
    );
    text.family(
        "backup_runs_total",
        Counter,
        "Backups that were begun, by what became of them.",
    )
    .sample(&[("outcome", "made")], known.made)
    .sample(&[("outcome", "failed")], known.failed);
}

fn of_validation(text: &mut Text, api: &Shared) {
    text.family(
        "dangerous_content_total",
        Counter,
        "Dangerous patterns in tasks and messages, by what was done with the text.",
    );
    for (pattern, refused, noted) in api.validation.each() {
        text.sample(&[("pattern", pattern), ("action", "refused")], refused);
        text.sample(&[("pattern", pattern), ("action", "noted")], noted);
    }
}

fn of_edge(text: &mut Text, api: &Shared) {
    text.family(
        "http_requests_total",
        Counter,
        "Requests that were answered, by route and class of status.",
    );
    for route in api.meter.routes() {
        let classes = CLASSES.into_iter().zip(route.classes);
        for (class, count) in classes.filter(|(_, count)| *count > 0) {
            text.sample(&[("route", &route.route), ("code", class)], count);
        }
    }
    text.family(
        "http_request_duration_seconds",
        Histogram,
        "From a request to the first byte of its answer.",
    )
    .histogram(&[], &api.meter.latency());
    text.one(
        "event_streams",
        Gauge,
        "Who follows GET /events.",
        api.log.feed().readers(),
    );
    text.family(
        "log_lines_dropped_total",
        Counter,
        "Lines of the log that did not fit, by sink.",
    );
    for (sink, count) in api.log.dropped() {
        text.sample(&[("sink", sink)], count);
    }
}
