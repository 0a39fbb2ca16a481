//! What the queue looks like, and what holds tasks up.

use std::collections::BTreeMap;

use deia::api::{Bottleneck, QueueStatus};
use deia::time::Timestamp;

use super::recent::RECENT;
use super::{Record, Standing};
use crate::brain::Millis;

/// Waiting longer than this on average holds tasks up, in milliseconds.
const LONG_WAIT: f64 = 500.0;
/// The same of an attempt.
const LONG_RUN: f64 = 5000.0;
/// So many times the limit is severe.
const SEVERE: f64 = 4.0;

/// `GET /api/monitoring/queue/status`.
pub fn status(record: &Record, standing: &Standing, now: Millis, wall: Timestamp) -> QueueStatus {
    let (waited, ran) = (record.waits.spread(now), record.runs.spread(now));
    let is_measured = waited.is_some() || ran.is_some();
    let (waits, runs) = (waited.unwrap_or_default(), ran.unwrap_or_default());
    // A daemon that has just started is not judged by a quarter of an hour.
    let span = RECENT.min(now).max(1);
    let (depth, succeeded) =
        record
            .day
            .of_last(now, span)
            .fold((0_u64, 0_u64), |(depth, succeeded), m| {
                (
                    depth.saturating_add(m.depth),
                    succeeded + u64::from(m.succeeded),
                )
            });
    QueueStatus {
        status: (!is_measured).then(|| "no_data".to_owned()),
        queue_depth: standing.waiting,
        scheduled: standing.scheduled,
        running: standing.running,
        oldest_age_seconds: standing.oldest_seconds,
        avg_queue_depth_recent: depth as f64 / span as f64,
        avg_queue_wait_ms: waits.avg,
        p95_queue_wait_ms: waits.p95,
        p99_queue_wait_ms: waits.p99,
        avg_execution_time_ms: runs.avg,
        p95_execution_time_ms: runs.p95,
        p99_execution_time_ms: runs.p99,
        throughput_tasks_per_minute: succeeded as f64 * 60_000.0 / span.max(60_000) as f64,
        measured_tasks: runs.count as u64,
        timestamp: wall,
    }
}

/// `GET /api/monitoring/queue/bottlenecks`.
pub fn bottlenecks(status: &QueueStatus) -> Vec<Bottleneck> {
    let mut found = Vec::new();
    let mut look = |kind: &str, avg: f64, limit: f64, p99: f64, text: &str| {
        if avg <= limit {
            return;
        }
        let metrics: BTreeMap<String, f64> = [
            (format!("avg_{kind}_ms"), avg),
            (format!("p99_{kind}_ms"), p99),
            ("limit_ms".to_owned(), limit),
            ("queue_depth".to_owned(), status.queue_depth as f64),
        ]
        .into();
        found.push(Bottleneck {
            kind: kind.to_owned(),
            severity: if avg > SEVERE * limit {
                "high"
            } else {
                "medium"
            }
            .to_owned(),
            message: format!(
                "{text} {:.1} s on average (more than {limit} ms)",
                avg / 1000.0
            ),
            metrics,
        });
    };
    look(
        "queue_wait",
        status.avg_queue_wait_ms,
        LONG_WAIT,
        status.p99_queue_wait_ms,
        "tasks wait for a bot for",
    );
    look(
        "execution_time",
        status.avg_execution_time_ms,
        LONG_RUN,
        status.p99_execution_time_ms,
        "attempts take",
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wait_ms: u64, run_ms: u64) -> QueueStatus {
        let mut record = Record::default();
        record.waited(1000, wait_ms * 1000);
        record.runs.add(1000, run_ms * 1000);
        status(
            &record,
            &Standing::default(),
            2000,
            Timestamp::from_micros(0),
        )
    }

    #[test]
    fn the_limits_are_half_a_second_and_five() {
        assert_eq!(bottlenecks(&of(500, 5000)), []);
        assert_eq!(bottlenecks(&QueueStatus::default()), []);
        let found = bottlenecks(&of(501, 20_001));
        let kinds: Vec<_> = found
            .iter()
            .map(|b| (b.kind.as_str(), b.severity.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [("queue_wait", "medium"), ("execution_time", "high")]
        );
        assert_eq!(found[0].metrics["avg_queue_wait_ms"], 501.0);
    }

    #[test]
    fn depth_is_an_average_over_time() {
        let mut record = Record::default();
        record.day.waiting(0, 4);
        record.day.waiting(30_000, 0);
        record.day.waited(60_000);
        let shown = status(
            &record,
            &Standing::default(),
            60_000,
            Timestamp::from_micros(0),
        );
        assert!(
            (shown.avg_queue_depth_recent - 2.0).abs() < 1e-9,
            "{shown:?}"
        );
    }
}
