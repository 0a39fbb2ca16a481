//! What was seen, for whoever wants to know: the last sample, and a bounded history.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deia::api::{Alert, DegradationView};
use deia::time::Timestamp;

use super::figures;
use super::look::{BotUse, Look};
use crate::brain::alerts::Figures;
use crate::brain::degrade::{Degradation, Feature, Mode, Reason};
use crate::brain::process::MemoryLine;
use crate::brain::tally::Rates;
use crate::daemon::vitals::Vitals;

/// Points of the fleet that are kept: 24 hours at one each 30 seconds.
pub const MAX_POINTS: usize = 2880;

/// Points of each bot that are kept: an hour at one each 30 seconds.
pub const MAX_BOT_POINTS: usize = 120;

/// Bots that have a history.
pub const MAX_BOTS: usize = 1000;

/// Alerts that a page shows of the last day.
pub(super) const RECENT: usize = 100;

/// Everything one look came to.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The host, the disk, the processes.
    pub look: Look,
    /// Rates of the last minutes.
    pub rates: Rates,
    /// What alerts are judged by.
    pub figures: Figures,
    /// What the main loop said.
    pub vitals: Vitals,
}

/// The fleet at one moment, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The host's CPU in use, 0..1.
    pub cpu: Option<f64>,
    /// The host's memory in use, 0..1.
    pub memory: Option<f64>,
    /// Tasks that waited for a bot.
    pub queued: u64,
    /// Tasks that bots had.
    pub running: u64,
    /// Seconds the oldest of those that waited had waited.
    pub oldest_seconds: f64,
    /// Results a minute, over the minutes before.
    pub throughput_per_minute: f64,
    /// Share of attempts that failed, over the minutes before.
    pub failure_rate: Option<f64>,
    /// Microseconds to choose a bot.
    pub routing_p50_us: u64,
    /// The same, of the slowest hundredth.
    pub routing_p99_us: u64,
    /// Bots that ran or were being started.
    pub active_bots: u64,
}

/// A bot at one moment, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BotPoint {
    /// When.
    pub at: Timestamp,
    /// Resident memory of all its processes, in bytes.
    pub rss_bytes: u64,
    /// CPU, of one processor: since the look before, at the first one since it began.
    pub cpu: f64,
}

/// What is off for a while, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Degraded {
    /// How much works.
    pub mode: Option<Mode>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What does not.
    pub off: Vec<Feature>,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl Degraded {
    pub(super) fn of(degradation: &Degradation) -> Self {
        Self {
            mode: Some(degradation.mode()),
            reasons: degradation.reasons().collect(),
            off: degradation.disabled().collect(),
            since: degradation.since(),
        }
    }
}

#[derive(Debug, Default)]
struct BotLine {
    /// Of one process: what another one took says nothing of a leak.
    pid: u32,
    memory: MemoryLine,
    points: VecDeque<BotPoint>,
}

#[derive(Debug, Default)]
struct Seen {
    latest: Option<Arc<Sample>>,
    points: VecDeque<Point>,
    bots: HashMap<Arc<str>, BotLine>,
    active: Vec<Alert>,
    recent: Vec<Alert>,
    degraded: Degraded,
    rests: bool,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Observations(Arc<Mutex<Seen>>);

impl Observations {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while it holds it; if something did, what was seen is still true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last sample; `None` before the first, and while monitoring is off.
    pub fn latest(&self) -> Option<Arc<Sample>> {
        self.seen().latest.clone()
    }

    /// The newest points of the fleet since then, at most so many, oldest first.
    pub fn points(&self, since: Timestamp, most: usize) -> Vec<Point> {
        let seen = self.seen();
        let newest = seen.points.iter().rev().take(most);
        let mut points: Vec<Point> = newest.take_while(|p| p.at >= since).copied().collect();
        points.reverse();
        points
    }

    /// The newest points of a bot since then, at most so many, oldest first.
    pub fn bot_points(&self, bot: &str, since: Timestamp, most: usize) -> Vec<BotPoint> {
        let seen = self.seen();
        let points = seen.bots.get(bot).map(|line| line.points.iter());
        let newest = points.into_iter().flatten().rev().take(most);
        let mut points: Vec<BotPoint> = newest.take_while(|p| p.at >= since).copied().collect();
        points.reverse();
        points
    }

    /// What a bot's processes take, as last seen.
    pub fn bot(&self, bot: &str) -> Option<BotUse> {
        self.seen().latest.as_ref()?.look.bots.get(bot).copied()
    }

    /// The memory of a bot's present process over the last hour.
    pub fn memory(&self, bot: &str) -> Option<MemoryLine> {
        Some(self.seen().bots.get(bot)?.memory.clone())
    }

    /// What is wrong now, the worst first.
    pub fn alerts(&self) -> Vec<Alert> {
        self.seen().active.clone()
    }

    /// The last hundred alerts of 24 hours, the oldest first.
    pub fn recent_alerts(&self) -> Vec<Alert> {
        self.seen().recent.clone()
    }

    /// What the fleet does without.
    pub fn degraded(&self) -> Degraded {
        self.seen().degraded.clone()
    }

    /// The same for people.
    pub fn degradation(&self) -> DegradationView {
        let seen = self.seen();
        let degraded = &seen.degraded;
        let latest = seen.latest.as_deref();
        DegradationView {
            mode: degraded.mode.unwrap_or(Mode::Full).as_str().into(),
            reasons: degraded.reasons.iter().map(|r| r.as_str().into()).collect(),
            disabled_features: degraded.off.iter().map(|f| f.as_str().into()).collect(),
            since: degraded.since,
            fallback_bot: latest
                .and_then(|sample| figures::fallback(&sample.vitals.bots, &sample.look)),
        }
    }

    /// Whether monitoring is known to be off.
    pub fn rests(&self) -> bool {
        self.seen().rests
    }

    /// Monitoring is off: what was seen is not true any more.
    pub(super) fn rest(&self) {
        let mut seen = self.seen();
        *seen = Seen {
            rests: true,
            ..Seen::default()
        };
    }

    pub(super) fn show(&self, active: Vec<Alert>, recent: Vec<Alert>, degraded: Degraded) {
        let mut seen = self.seen();
        (seen.active, seen.recent, seen.degraded) = (active, recent, degraded);
    }

    pub(super) fn push(&self, sample: Sample) {
        let mut seen = self.seen();
        seen.rests = false;
        if seen.points.len() == MAX_POINTS {
            seen.points.pop_front();
        }
        let vitals = &sample.vitals;
        seen.points.push_back(Point {
            at: sample.at,
            cpu: sample.look.host.host.cpu,
            memory: sample.look.host.host.memory,
            queued: vitals.queued,
            running: vitals.running,
            oldest_seconds: vitals.oldest_seconds,
            throughput_per_minute: sample.rates.throughput_per_minute,
            failure_rate: sample.rates.failure_rate,
            routing_p50_us: vitals.routing.p50_us,
            routing_p99_us: vitals.routing.p99_us,
            active_bots: sample.figures.active_bots,
        });
        let is_there = |bot: &Arc<str>| vitals.bots.iter().any(|other| other.id == *bot);
        seen.bots.retain(|bot, _| is_there(bot));
        for (bot, used) in &sample.look.bots {
            if seen.bots.len() >= MAX_BOTS && !seen.bots.contains_key(bot) {
                continue;
            }
            let line = seen.bots.entry(bot.clone()).or_default();
            if line.pid != used.pid {
                line.pid = used.pid;
                line.memory = MemoryLine::default();
            }
            line.memory.push(sample.at, used.rss_bytes);
            if line.points.len() == MAX_BOT_POINTS {
                line.points.pop_front();
            }
            line.points.push_back(BotPoint {
                at: sample.at,
                rss_bytes: used.rss_bytes,
                cpu: used.shown_cpu(),
            });
        }
        seen.latest = Some(Arc::new(sample));
    }
}
