//! What a measurement comes to.

use serde::Serialize;

use super::Bench;
use super::load::{Ends, Measured};
use crate::human;

/// The figures, as `--json` prints them. Times are in milliseconds where the name says `ms`.
#[derive(Debug, Serialize)]
pub struct Figures {
    tasks: u64,
    clients: u64,
    batch: u64,
    content_bytes: u64,
    transport: &'static str,
    submit_seconds: f64,
    submits_per_second: f64,
    submit_ms_p50: f64,
    submit_ms_p99: f64,
    #[serde(flatten)]
    ends: Option<EndFigures>,
}

/// The part that is known once the tasks have run; absent with `--submit-only`.
#[derive(Debug, Serialize)]
struct EndFigures {
    end_to_end_seconds: f64,
    tasks_per_second: f64,
    start_ms_p50: f64,
    start_ms_p99: f64,
    /// Tasks with a result.
    succeeded: u64,
    /// Tasks that ended otherwise.
    failed: u64,
}

impl Figures {
    /// From what was measured.
    pub fn new(bench: &Bench, transport: &'static str, mut measured: Measured) -> Self {
        measured.submit_ms.sort_by(f64::total_cmp);
        Self {
            tasks: bench.tasks,
            clients: bench.clients,
            batch: bench.batch,
            content_bytes: bench.content_bytes,
            transport,
            submit_seconds: measured.submit_seconds,
            submits_per_second: rate(bench.tasks, measured.submit_seconds),
            submit_ms_p50: percentile(&measured.submit_ms, 0.50),
            submit_ms_p99: percentile(&measured.submit_ms, 0.99),
            ends: measured.ends.map(|ends| EndFigures::new(bench, ends)),
        }
    }

    /// Tasks that ended without a result.
    pub fn failed(&self) -> u64 {
        self.ends.as_ref().map_or(0, |ends| ends.failed)
    }

    /// For people.
    pub fn render(&self) -> String {
        let ends = self.ends.as_ref().map(EndFigures::render);
        format!(
            "load       {} tasks of {} bytes, {} clients, {} in a request, {}\n\
             submitted  in {}: {:.0}/s, a request p50 {:.2} ms, p99 {:.2} ms\n{}",
            self.tasks,
            self.content_bytes,
            self.clients,
            self.batch,
            self.transport,
            human::duration(self.submit_seconds),
            self.submits_per_second,
            self.submit_ms_p50,
            self.submit_ms_p99,
            ends.unwrap_or_default(),
        )
    }
}

impl EndFigures {
    fn new(bench: &Bench, mut ends: Ends) -> Self {
        ends.start_ms.sort_by(f64::total_cmp);
        Self {
            end_to_end_seconds: ends.end_to_end_seconds,
            tasks_per_second: rate(bench.tasks, ends.end_to_end_seconds),
            start_ms_p50: percentile(&ends.start_ms, 0.50),
            start_ms_p99: percentile(&ends.start_ms, 0.99),
            succeeded: ends.succeeded,
            failed: ends.failed,
        }
    }

    fn render(&self) -> String {
        format!(
            "completed  in {}: {:.0}/s end to end, {} succeeded, {} failed\n\
             to a bot   p50 {:.2} ms, p99 {:.2} ms after the submission\n",
            human::duration(self.end_to_end_seconds),
            self.tasks_per_second,
            self.succeeded,
            self.failed,
            self.start_ms_p50,
            self.start_ms_p99,
        )
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    // Ended within the clock's resolution: no rate can be told.
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// The nearest-rank percentile of sorted values; 0 of none.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let rank = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.50), 50.0);
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&values[..1], 0.99), 1.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
