//! When somebody is told that something is wrong, and when it is over.
//!
//! One alert for each thing that can be wrong, under a fixed name. It is raised at its threshold, follows
//! the trouble up and down, and is over [`SLACK`] below the threshold: a value that dances on it says so
//! once. An operator's *resolve* silences an alert; it comes back when the trouble was gone and came
//! again, or when it gets worse than it was then.
//!
//! The names, levels, words and figures are those of the Python original. Its faults are not: an alert
//! there kept the level it was raised with, whatever came.

use std::collections::{BTreeMap, VecDeque};

use deia::api::{Alert, AlertLevel, HealthMetrics, HealthQuestion};
use deia::config::Thresholds;
use deia::time::{Timestamp, duration};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An alert ends this share below (or above) its threshold.
pub const SLACK: f64 = 0.05;

/// Over and resolved alerts are remembered for 24 hours ...
pub const KEPT_SECONDS: f64 = 86_400.0;

/// ... and no more than this many.
pub const MAX_HISTORY: usize = 500;

/// Names in one message.
const MAX_NAMES: usize = 5;

/// The oldest task has waited for so long that something is wrong.
pub const OLDEST_TASK_SECONDS: f64 = 300.0;

/// Bytes free where HOME is: a warning below, and a critical alert.
pub const DISK_LOW_BYTES: [u64; 2] = [1 << 30, 256 << 20];

/// A backup that is late by so many intervals.
pub const BACKUP_LATE: f64 = 3.0;

/// CPU and memory that together exhaust the host.
const EXHAUSTED: (f64, f64) = (0.9, 0.85);

/// What is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Bots that shall run.
    pub total_bots: u64,
    /// Those of them that run or are being started.
    pub active_bots: u64,
    /// Tasks that wait.
    pub queued_tasks: u64,
    /// Share of the bots' slots in use.
    pub avg_bot_load: f64,
    /// The host's CPU in use, 0..1.
    pub cpu: f64,
    /// The host's memory in use, 0..1.
    pub memory: f64,
    /// Messages that wait for their bot.
    pub message_queue: u64,
    /// Messages that could not be delivered of late.
    pub message_failures: u64,
    /// Share of attempts that succeed, 0..1.
    pub success_rate: f64,
    /// Seconds the oldest task has waited.
    pub oldest_seconds: f64,
    /// Bytes free where HOME is.
    pub disk_free: Option<u64>,
    /// Bots in quarantine.
    pub quarantined: Vec<String>,
    /// Seconds since the last good backup, and between two; `None` where none is due.
    pub backup: Option<(f64, f64)>,
    /// Model servers that do not answer, and whether tasks can't be done for it.
    pub down: Vec<(String, bool)>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            total_bots: 0,
            active_bots: 0,
            queued_tasks: 0,
            avg_bot_load: 0.0,
            cpu: 0.0,
            memory: 0.0,
            message_queue: 0,
            message_failures: 0,
            success_rate: 1.0,
            oldest_seconds: 0.0,
            disk_free: None,
            quarantined: Vec::new(),
            backup: None,
            down: Vec::new(),
        }
    }
}

impl Figures {
    /// Made-up ones: what is not given is as in a fleet without any work.
    pub fn of_question(asked: &HealthQuestion) -> Self {
        Self {
            total_bots: asked.total_bots.unwrap_or(0),
            active_bots: asked.active_bots.unwrap_or(0),
            queued_tasks: asked.queued_tasks.unwrap_or(0),
            avg_bot_load: asked.avg_bot_load.unwrap_or(0.0),
            cpu: asked.system_cpu_percent.unwrap_or(0.0),
            memory: asked.system_memory_percent.unwrap_or(0.0),
            message_queue: asked.message_queue_size.unwrap_or(0),
            message_failures: asked.pending_message_failures.unwrap_or(0),
            success_rate: asked.avg_success_rate.unwrap_or(1.0),
            ..Self::default()
        }
    }

    /// As the API shows them, with the alerts they come to.
    pub fn metrics(&self, at: Timestamp, alerts: &[Alert]) -> HealthMetrics {
        let critical = alerts.iter().filter(|a| a.level == AlertLevel::Critical);
        HealthMetrics {
            timestamp: at,
            total_bots: self.total_bots,
            active_bots: self.active_bots,
            queued_tasks: self.queued_tasks,
            avg_bot_load: rounded(self.avg_bot_load),
            system_cpu_percent: rounded(self.cpu),
            system_memory_percent: rounded(self.memory),
            message_queue_size: self.message_queue,
            pending_message_failures: self.message_failures,
            avg_success_rate: rounded(self.success_rate),
            alert_count: alerts.len() as u64,
            critical_alerts: critical.count() as u64,
        }
    }
}

/// As precise as it is of use to people.
fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Cpu,
    Memory,
    Queue,
    Bots,
    Success,
    Messages,
    Exhausted,
    Oldest,
    Disk,
    Quarantine,
    Backup,
    Backend,
}

impl Rule {
    const ALL: [Self; 12] = [
        Self::Cpu,
        Self::Memory,
        Self::Queue,
        Self::Bots,
        Self::Success,
        Self::Messages,
        Self::Exhausted,
        Self::Oldest,
        Self::Disk,
        Self::Quarantine,
        Self::Backup,
        Self::Backend,
    ];

    /// The alert's name, and its kind.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpu => ("cpu_health", "cpu_high"),
            Self::Memory => ("memory_health", "memory_high"),
            Self::Queue => ("queue_health", "queue_backlog"),
            Self::Bots => ("bot_availability", "bot_failure"),
            Self::Success => ("success_rate", "low_success_rate"),
            Self::Messages => ("messaging_health", "message_delivery_failed"),
            Self::Exhausted => ("resource_exhausted", "resource_exhausted"),
            Self::Oldest => ("queue_age", "task_waits_long"),
            Self::Disk => ("disk_space", "disk_space_low"),
            Self::Quarantine => ("bot_quarantine", "bot_quarantined"),
            Self::Backup => ("backup_age", "backup_late"),
            Self::Backend => ("backend_health", "backend_down"),
        }
    }

    /// How bad it is, where it was `now` until here.
    fn level(self, of: &Figures, at: &Thresholds, now: Option<AlertLevel>) -> Option<AlertLevel> {
        use AlertLevel::{Critical, Warning};
        match self {
            Self::Cpu => steps(
                of.cpu,
                at.cpu_warning_percent,
                Some(at.cpu_critical_percent),
                now,
            ),
            Self::Memory => steps(
                of.memory,
                at.memory_warning_percent,
                Some(at.memory_critical_percent),
                now,
            ),
            // Of 0, nothing would always be enough.
            Self::Queue => {
                let most = at.queue_backlog_threshold.max(1);
                steps(of.queued_tasks as f64, most as f64, None, now)
            }
            Self::Bots => (of.active_bots < of.total_bots).then_some(Warning),
            Self::Success => {
                let least = at.bot_failure_threshold;
                let slack = if now.is_some() { 1.0 + SLACK } else { 1.0 };
                (of.success_rate < least * slack).then_some(Warning)
            }
            Self::Messages => {
                let most = at.message_failure_threshold.max(1);
                steps(of.message_failures as f64, most as f64, None, now)
            }
            Self::Exhausted => {
                let slack = if now.is_some() { 1.0 - SLACK } else { 1.0 };
                let over = of.cpu >= EXHAUSTED.0 * slack && of.memory >= EXHAUSTED.1 * slack;
                over.then_some(Critical)
            }
            Self::Oldest => steps(of.oldest_seconds, OLDEST_TASK_SECONDS, None, now),
            Self::Disk => {
                let free = of.disk_free? as f64;
                let below = |bytes: u64, level: AlertLevel| {
                    let slack = if now >= Some(level) { 1.0 + SLACK } else { 1.0 };
                    (free < bytes as f64 * slack).then_some(level)
                };
                below(DISK_LOW_BYTES[1], Critical).or_else(|| below(DISK_LOW_BYTES[0], Warning))
            }
            Self::Quarantine => match of.quarantined.len() as u64 {
                0 => None,
                n if n >= of.total_bots => Some(Critical),
                _ => Some(Warning),
            },
            Self::Backup => {
                let (age, interval) = of.backup?;
                (age > interval * BACKUP_LATE).then_some(Warning)
            }
            Self::Backend => match of.down.as_slice() {
                [] => None,
                down if down.iter().any(|(_, stuck)| *stuck) => Some(Critical),
                _ => Some(Warning),
            },
        }
    }

    fn title(self, level: AlertLevel) -> &'static str {
        match (self, level) {
            (Self::Cpu, AlertLevel::Critical) => "Critical CPU Usage",
            (Self::Cpu, _) => "High CPU Usage",
            (Self::Memory, AlertLevel::Critical) => "Critical Memory Usage",
            (Self::Memory, _) => "High Memory Usage",
            (Self::Queue, _) => "Task Queue Backlog",
            (Self::Bots, _) => "Bots Offline",
            (Self::Success, _) => "Low Success Rate",
            (Self::Messages, _) => "Message Delivery Failures",
            (Self::Exhausted, _) => "System Resources Exhausted",
            (Self::Oldest, _) => "Tasks Wait Too Long",
            (Self::Disk, _) => "Disk Space Low",
            (Self::Quarantine, _) => "Bots In Quarantine",
            (Self::Backup, _) => "Backup Overdue",
            (Self::Backend, _) => "Model Server Down",
        }
    }

    fn message(self, of: &Figures) -> String {
        match self {
            Self::Cpu => format!("System CPU at {:.1}%", of.cpu * 100.0),
            Self::Memory => format!("System memory at {:.1}%", of.memory * 100.0),
            Self::Queue => format!("{} tasks queued", of.queued_tasks),
            Self::Bots => {
                let inactive = of.total_bots.saturating_sub(of.active_bots);
                format!("{inactive}/{} bots inactive", of.total_bots)
            }
            Self::Success => format!("Average success rate: {:.1}%", of.success_rate * 100.0),
            Self::Messages => format!("{} failed message deliveries", of.message_failures),
            Self::Exhausted => "CPU and memory both critically high".into(),
            Self::Oldest => format!("The oldest task has waited {}", duration(of.oldest_seconds)),
            Self::Disk => format!(
                "{} MiB free for HOME",
                of.disk_free.unwrap_or_default() >> 20
            ),
            Self::Quarantine => {
                let bots = of.quarantined.iter().map(String::as_str);
                format!("In quarantine, having ended too often: {}", names(bots))
            }
            Self::Backup => {
                let age = of.backup.map_or(0.0, |(age, _)| age);
                format!("The last good backup is {} old", duration(age))
            }
            Self::Backend => {
                let down = names(of.down.iter().map(|(server, _)| server.as_str()));
                match of.down.iter().any(|(_, stuck)| *stuck) {
                    true => format!("No answer from {down}; tasks wait for it"),
                    false => format!("No answer from {down}; fallbacks do the work"),
                }
            }
        }
    }

    fn metrics(self, of: &Figures) -> BTreeMap<String, Value> {
        let pairs: Vec<(&str, Value)> = match self {
            Self::Cpu => vec![("cpu_percent", json!(rounded(of.cpu)))],
            Self::Memory => vec![("memory_percent", json!(rounded(of.memory)))],
            Self::Queue => vec![("queued_tasks", json!(of.queued_tasks))],
            Self::Bots => vec![
                ("total_bots", json!(of.total_bots)),
                ("active_bots", json!(of.active_bots)),
            ],
            Self::Success => vec![("success_rate", json!(rounded(of.success_rate)))],
            Self::Messages => vec![("failures", json!(of.message_failures))],
            Self::Exhausted => vec![
                ("cpu_percent", json!(rounded(of.cpu))),
                ("memory_percent", json!(rounded(of.memory))),
            ],
            Self::Oldest => vec![("oldest_seconds", json!(of.oldest_seconds.round()))],
            Self::Disk => vec![("free_bytes", json!(of.disk_free))],
            Self::Quarantine => vec![("bots", json!(of.quarantined.len()))],
            Self::Backup => vec![("age_seconds", json!(of.backup.map(|(age, _)| age.round())))],
            Self::Backend => vec![("servers", json!(of.down.len()))],
        };
        let pairs = pairs.into_iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn alert(self, level: AlertLevel, of: &Figures, at: Timestamp) -> Alert {
        let (id, kind) = self.names();
        Alert {
            alert_id: id.into(),
            alert_type: kind.into(),
            level,
            title: self.title(level).into(),
            message: self.message(of),
            timestamp: at,
            resolved: false,
            resolved_at: None,
            metrics: self.metrics(of),
            changed_at: None,
            resolved_by: None,
        }
    }
}

/// The level of a value with one or two thresholds, which are passed exactly on the way up, and left
/// [`SLACK`] below on the way down.
fn steps(
    value: f64,
    warning: f64,
    critical: Option<f64>,
    now: Option<AlertLevel>,
) -> Option<AlertLevel> {
    let reaches = |threshold: f64, level: AlertLevel| {
        let slack = if now >= Some(level) { 1.0 - SLACK } else { 1.0 };
        value >= threshold * slack
    };
    if critical.is_some_and(|critical| reaches(critical, AlertLevel::Critical)) {
        return Some(AlertLevel::Critical);
    }
    reaches(warning, AlertLevel::Warning).then_some(AlertLevel::Warning)
}

/// The first few, and how many more there are.
fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_NAMES);
    let mut text = names.take(MAX_NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// What became of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What.
    pub what: Changed,
    /// The alert as it is now.
    pub alert: Alert,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was raised.
    Raised,
    /// It is worse, or better, than this.
    Level(AlertLevel),
    /// It is over.
    Over,
    /// An operator resolved it.
    ByHand,
}

/// There is no alert of this name, and there was none within a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchAlert;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Standing {
    alert: Alert,
    /// How bad it was when an operator resolved it.
    #[serde(default)]
    silenced: Option<AlertLevel>,
}

/// Every alert there is, and those of the last day. What is kept on disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Alerts {
    standing: BTreeMap<String, Standing>,
    history: VecDeque<Alert>,
}

impl Alerts {
    /// Judges the figures of now; what has changed, in a fixed order.
    pub fn evaluate(&mut self, of: &Figures, at: &Thresholds, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for rule in Rule::ALL {
            let id = rule.names().0;
            let before = self.standing.get(id).map(|standing| standing.alert.level);
            match (before, rule.level(of, at, before)) {
                (None, None) => {}
                (None, Some(level)) => changes.push(self.raise(rule.alert(level, of, now))),
                (Some(_), None) => changes.extend(self.over(id, now)),
                (Some(before), Some(level)) => {
                    let fresh = rule.alert(level, of, now);
                    changes.extend(self.follow(id, before, fresh, now));
                }
            }
        }
        // Of another release, whose rules are not known here.
        let known = |id: &str| Rule::ALL.iter().any(|rule| rule.names().0 == id);
        let strange: Vec<String> = self
            .standing
            .keys()
            .filter(|id| !known(id))
            .cloned()
            .collect();
        for id in strange {
            changes.extend(self.over(&id, now));
        }
        self.forget(now);
        changes
    }

    fn raise(&mut self, alert: Alert) -> Change {
        let standing = Standing {
            alert: alert.clone(),
            silenced: None,
        };
        self.standing.insert(alert.alert_id.clone(), standing);
        Change {
            what: Changed::Raised,
            alert,
        }
    }

    /// It goes on: better, worse, or the same with other figures.
    fn follow(
        &mut self,
        id: &str,
        before: AlertLevel,
        fresh: Alert,
        now: Timestamp,
    ) -> Option<Change> {
        let standing = self.standing.get_mut(id)?;
        if standing.silenced.is_some_and(|then| fresh.level > then) {
            return Some(self.raise(fresh));
        }
        let alert = &mut standing.alert;
        (alert.message, alert.metrics) = (fresh.message, fresh.metrics);
        if fresh.level == before {
            return None;
        }
        (alert.level, alert.title) = (fresh.level, fresh.title);
        alert.changed_at = Some(now);
        let alert = alert.clone();
        standing.silenced.is_none().then_some(Change {
            what: Changed::Level(before),
            alert,
        })
    }

    fn over(&mut self, id: &str, now: Timestamp) -> Option<Change> {
        let Standing {
            mut alert,
            silenced,
        } = self.standing.remove(id)?;
        // One that an operator resolved is in the history already.
        if silenced.is_some() {
            return None;
        }
        resolve(&mut alert, now, "condition");
        self.remember(alert.clone());
        Some(Change {
            what: Changed::Over,
            alert,
        })
    }

    /// An operator has seen it. `Err` where there is no such alert; nothing where it was resolved before.
    pub fn resolve(&mut self, id: &str, now: Timestamp) -> Result<Option<Change>, NoSuchAlert> {
        let Some(standing) = self.standing.get_mut(id) else {
            let known = self.history.iter().any(|alert| alert.alert_id == id);
            return if known { Ok(None) } else { Err(NoSuchAlert) };
        };
        if standing.silenced.is_some() {
            return Ok(None);
        }
        standing.silenced = Some(standing.alert.level);
        resolve(&mut standing.alert, now, "operator");
        let alert = standing.alert.clone();
        self.remember(alert.clone());
        Ok(Some(Change {
            what: Changed::ByHand,
            alert,
        }))
    }

    /// What is wrong now and was not resolved, the worst first.
    pub fn active(&self) -> Vec<Alert> {
        let standing = self.standing.values();
        let mut active: Vec<Alert> = standing
            .filter(|standing| standing.silenced.is_none())
            .map(|standing| standing.alert.clone())
            .collect();
        active.sort_by(|a, b| b.level.cmp(&a.level).then(a.timestamp.cmp(&b.timestamp)));
        active
    }

    /// The last of 24 hours, the oldest first.
    pub fn recent(&self, most: usize) -> Vec<Alert> {
        let mut all: Vec<Alert> = self.history.iter().cloned().chain(self.active()).collect();
        all.sort_by_key(|alert| alert.timestamp);
        all.split_off(all.len().saturating_sub(most))
    }

    /// Nothing is looked at any more: what stood is over as far as anybody knows.
    pub fn end_all(&mut self, now: Timestamp) -> Vec<Change> {
        let ids: Vec<String> = self.standing.keys().cloned().collect();
        ids.iter().filter_map(|id| self.over(id, now)).collect()
    }

    fn remember(&mut self, alert: Alert) {
        self.history.push_back(alert);
        while self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
    }

    fn forget(&mut self, now: Timestamp) {
        self.history.retain(|alert| {
            let over = alert.resolved_at.unwrap_or(alert.timestamp);
            now.seconds_since(over) < KEPT_SECONDS
        });
    }
}

fn resolve(alert: &mut Alert, now: Timestamp, by: &str) {
    alert.resolved = true;
    alert.resolved_at = Some(now);
    alert.resolved_by = Some(by.into());
}

/// What figures come to by themselves, without anything that was before.
pub fn what_if(of: &Figures, at: &Thresholds, now: Timestamp) -> Vec<Alert> {
    let mut alerts = Alerts::default();
    alerts.evaluate(of, at, now);
    alerts.active()
}

/// 0..100.
pub fn score(of: &Figures, alerts: &[Alert]) -> f64 {
    let cost = |alert: &Alert| match alert.level {
        AlertLevel::Critical => 20.0,
        AlertLevel::Warning => 10.0,
        AlertLevel::Info => 2.0,
    };
    let mut score = 100.0 - alerts.iter().map(cost).sum::<f64>();
    score -= if of.cpu > 0.8 { 5.0 } else { 0.0 };
    score -= if of.memory > 0.8 { 5.0 } else { 0.0 };
    score -= if of.success_rate < 0.9 { 10.0 } else { 0.0 };
    score.clamp(0.0, 100.0)
}

/// `healthy`, `warning` or `critical`.
pub fn overall(alerts: &[Alert]) -> &'static str {
    match alerts.iter().map(|alert| alert.level).max() {
        Some(AlertLevel::Critical) => "critical",
        Some(AlertLevel::Warning) => "warning",
        Some(AlertLevel::Info) | None => "healthy",
    }
}

#[cfg(test)]
mod tests;
