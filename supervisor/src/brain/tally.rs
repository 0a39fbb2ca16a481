//! What the main loop counts of its work, and rates over the last minutes.

use std::collections::VecDeque;

use super::Millis;

/// Decisions and waits whose times are remembered.
pub const REMEMBERED: usize = 1024;

/// Weight of the newest result in the moving average.
const NEWEST: f64 = 0.05;

/// Rates are of this long.
pub const WINDOW: Millis = 600_000;

/// Marks closer than this are one.
const MARK_EVERY: Millis = 5_000;

/// Upper ends of the buckets of routing times, in microseconds; a last one has the rest.
pub const ROUTING_BUCKETS: [u64; 10] = [10, 25, 50, 100, 250, 500, 1_000, 5_000, 25_000, 100_000];

/// Counts since the daemon's start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Tasks that were accepted.
    pub received: u64,
    /// Attempts that brought a result.
    pub succeeded: u64,
    /// Attempts that failed or were lost.
    pub failed: u64,
    /// Milliseconds these attempts took.
    pub busy_ms: u64,
}

/// How long it takes to choose a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Routing {
    /// Choices since the daemon's start.
    pub count: u64,
    /// Microseconds they took.
    pub sum_us: u64,
    /// Of the last [`REMEMBERED`].
    pub p50_us: u64,
    /// Of the last [`REMEMBERED`].
    pub p99_us: u64,
    /// Choices by [`ROUTING_BUCKETS`], each bucket for itself.
    pub buckets: [u64; ROUTING_BUCKETS.len() + 1],
}

/// The newest few of a number.
#[derive(Debug, Clone, Default)]
struct Newest {
    values: Vec<u64>,
    next: usize,
}

impl Newest {
    fn push(&mut self, value: u64) {
        if self.values.len() < REMEMBERED {
            self.values.push(value);
        } else if let Some(place) = self.values.get_mut(self.next) {
            *place = value;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    fn percentiles(&self, shares: [f64; 2]) -> [u64; 2] {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        shares.map(|share| {
            let place = (sorted.len() as f64 * share) as usize;
            let last = sorted.len().saturating_sub(1);
            sorted.get(place.min(last)).copied().unwrap_or(0)
        })
    }

    fn average(&self) -> f64 {
        match self.values.len() {
            0 => 0.0,
            n => self.values.iter().sum::<u64>() as f64 / n as f64,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: Counts,
    failure_rate: Option<f64>,
    routing: Routing,
    routed: Newest,
    waited: Newest,
}

impl Tally {
    /// A task was accepted.
    pub fn received(&mut self) {
        self.counts.received += 1;
    }

    /// An attempt ended.
    pub fn ended(&mut self, succeeded: bool, milliseconds: Millis) {
        match succeeded {
            true => self.counts.succeeded += 1,
            false => self.counts.failed += 1,
        }
        self.counts.busy_ms += milliseconds;
        let newest = if succeeded { 0.0 } else { 1.0 };
        self.failure_rate = Some(match self.failure_rate {
            None => newest,
            Some(known) => known + NEWEST * (newest - known),
        });
    }

    /// A bot was chosen for a task that had waited so long.
    pub fn routed(&mut self, microseconds: u64, waited: Millis) {
        self.routing.count += 1;
        self.routing.sum_us = self.routing.sum_us.saturating_add(microseconds);
        let bucket = ROUTING_BUCKETS.iter().position(|end| microseconds <= *end);
        self.routing.buckets[bucket.unwrap_or(ROUTING_BUCKETS.len())] += 1;
        self.routed.push(microseconds);
        self.waited.push(waited);
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Moving average of failures among attempts, 0..1; `None` before the first end.
    pub fn failure_rate(&self) -> Option<f64> {
        self.failure_rate
    }

    /// The choices.
    pub fn routing(&self) -> Routing {
        let [p50_us, p99_us] = self.routed.percentiles([0.5, 0.99]);
        Routing {
            p50_us,
            p99_us,
            ..self.routing
        }
    }

    /// Milliseconds the last tasks waited for their bot, on average.
    pub fn average_wait_ms(&self) -> f64 {
        self.waited.average()
    }
}

/// What a window comes to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Attempts that ended.
    pub attempts: u64,
    /// Results a minute.
    pub throughput_per_minute: f64,
    /// Share of the attempts that failed; `None` where there were none.
    pub failure_rate: Option<f64>,
    /// Seconds an attempt took on average.
    pub average_seconds: Option<f64>,
}

/// The last [`WINDOW`], from counts that only grow.
#[derive(Debug, Clone, Default)]
pub struct Window {
    marks: VecDeque<(Millis, Counts)>,
}

impl Window {
    /// The counts of now; what the window comes to with them.
    pub fn push(&mut self, now: Millis, counts: Counts) -> Rates {
        // One mark before the window stays: rates count from there.
        while self.marks.len() > 1
            && self
                .marks
                .get(1)
                .is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW)
        {
            self.marks.pop_front();
        }
        let (since, before) = self.marks.front().copied().unwrap_or((now, counts));
        let close = |(at, _): &(Millis, Counts)| now.saturating_sub(*at) < MARK_EVERY;
        if !self.marks.back().is_some_and(close) {
            self.marks.push_back((now, counts));
        }
        let succeeded = counts.succeeded.saturating_sub(before.succeeded);
        let failed = counts.failed.saturating_sub(before.failed);
        let attempts = succeeded + failed;
        let minutes = now.saturating_sub(since) as f64 / 60_000.0;
        let each = |sum: f64| (attempts > 0).then(|| sum / attempts as f64);
        let busy = counts.busy_ms.saturating_sub(before.busy_ms) as f64 / 1000.0;
        Rates {
            attempts,
            throughput_per_minute: if minutes > 0.0 {
                succeeded as f64 / minutes
            } else {
                0.0
            },
            failure_rate: each(failed as f64),
            average_seconds: each(busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_choices_are_known_by_their_percentiles() {
        let mut tally = Tally::default();
        assert_eq!(tally.routing(), Routing::default());
        for microseconds in 1..=100 {
            tally.routed(microseconds, microseconds * 10);
        }
        let routing = tally.routing();
        assert_eq!((routing.count, routing.sum_us), (100, 5050));
        assert_eq!((routing.p50_us, routing.p99_us), (51, 100));
        assert_eq!(routing.buckets[..4], [10, 15, 25, 50]);
        assert_eq!(tally.average_wait_ms(), 505.0);
        for _ in 0..REMEMBERED {
            tally.routed(7, 0);
        }
        assert_eq!(tally.routing().p99_us, 7, "old ones are forgotten");
        assert_eq!(tally.routed.values.len(), REMEMBERED);
        tally.routed(u64::MAX, 0);
        assert_eq!(tally.routing().buckets[ROUTING_BUCKETS.len()], 1);
    }

    #[test]
    fn a_window_forgets_what_is_before_it_and_keeps_few_marks() {
        let (mut tally, mut window) = (Tally::default(), Window::default());
        assert_eq!(window.push(0, tally.counts()), Rates::default());
        for _ in 0..10 {
            tally.ended(false, 500);
        }
        let rates = window.push(60_000, tally.counts());
        assert_eq!((rates.attempts, rates.failure_rate), (10, Some(1.0)));
        assert_eq!(rates.average_seconds, Some(0.5));
        for minute in 2..=14 {
            for _ in 0..6 {
                tally.ended(true, 1_000);
            }
            window.push(minute * 60_000, tally.counts());
        }
        let rates = window.push(14 * 60_000, tally.counts());
        assert_eq!(rates.failure_rate, Some(0.0));
        assert_eq!(rates.throughput_per_minute, 6.0);
        assert!(tally.failure_rate().unwrap() < 0.1);
        for millis in 0..100_000 {
            window.push(15 * 60_000 + millis, tally.counts());
        }
        assert!(window.marks.len() <= (WINDOW / MARK_EVERY) as usize + 2);
    }
}
