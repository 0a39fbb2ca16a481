//! Failures of the last day: what repeats, and whether it spreads.
//!
//! Two lists, so that no client can push out what the daemon saw itself. The rules are the original's:
//! a pattern is three failures within an hour of one kind of task or one bot; failures cascade when
//! within five minutes two bots and two kinds of task are hit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use deia::api::{
    CascadeRisk, FailureGroup, FailurePattern, FailureStats, FailureTrends, HourOfErrors,
    RecentFailure,
};
use deia::task::TaskType;
use deia::time::Timestamp;

use super::Record;
use super::day::{MAX_MINUTES, MINUTE};
use crate::brain::Millis;

/// Failures the daemon saw itself that are kept.
pub const MAX_FAILURES: usize = 4096;
/// Failures that clients reported that are kept.
pub const MAX_REPORTS: usize = 1024;
/// Bytes of a report's text that are kept.
pub const MAX_REPORT_BYTES: usize = 512;

const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = MAX_MINUTES * MINUTE;
/// Failures this close together may have one cause.
const CASCADE: Millis = 5 * MINUTE;
/// From how many on an hour's failures are a pattern, and five minutes' a risk.
const MANY: u64 = 3;
/// Tasks that a group names.
const NAMED_TASKS: usize = 100;
/// Failures that the risk names.
const NAMED_FAILURES: usize = 20;
/// Where risks begin.
const MEDIUM: f64 = 0.25;
const HIGH: f64 = 0.6;

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, on the main loop's clock.
    pub at: Millis,
    /// When, as people know it.
    pub wall: Timestamp,
    /// The task.
    pub task: Arc<str>,
    /// Whose.
    pub bot: Arc<str>,
    /// What kind of work.
    pub task_type: Cow<'static, str>,
    /// What went wrong.
    pub kind: &'static str,
    /// What a client said of it.
    pub report: Option<Report>,
}

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In words.
    pub message: String,
    /// As a number.
    pub code: i64,
}

/// Failures, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failures {
    seen: VecDeque<Arc<Failure>>,
    reported: VecDeque<Arc<Failure>>,
}

impl Failures {
    /// One more.
    pub fn add(&mut self, failure: Failure) {
        let (list, most) = match failure.report {
            None => (&mut self.seen, MAX_FAILURES),
            Some(_) => (&mut self.reported, MAX_REPORTS),
        };
        if list.len() == most {
            list.pop_front();
        }
        list.push_back(Arc::new(failure));
    }

    /// Those of the last so many milliseconds, newest first.
    pub fn of_last(&self, now: Millis, span: Millis) -> Vec<&Failure> {
        let since = now.saturating_sub(span);
        let both = self.seen.iter().chain(&self.reported);
        let mut found: Vec<&Failure> = both.filter(|f| f.at >= since).map(|f| &**f).collect();
        found.sort_by_key(|failure| std::cmp::Reverse(failure.at));
        found
    }
}

/// `GET /api/monitoring/failures/stats`.
pub fn stats(record: &Record, now: Millis, wall: Timestamp) -> FailureStats {
    let failures = record.failures.of_last(now, DAY);
    let mut by_task_type: BTreeMap<String, FailureGroup> = BTreeMap::new();
    let mut by_bot: BTreeMap<String, FailureGroup> = BTreeMap::new();
    for failure in &failures {
        for (groups, name) in [
            (&mut by_task_type, &*failure.task_type),
            (&mut by_bot, &*failure.bot),
        ] {
            let group = groups.entry(name.to_owned()).or_default();
            group.count += 1;
            if group.tasks.len() < NAMED_TASKS {
                group.tasks.push(failure.task.to_string());
            }
        }
    }
    let (seen, reported) = totals(record, now);
    FailureStats {
        status: (seen + reported == 0).then(|| "no_failures".to_owned()),
        total_failures_24h: seen + reported,
        reported_by_clients: reported,
        by_task_type,
        by_bot,
        failure_patterns: patterns(record, now),
        timestamp: wall,
    }
}

/// Failures of the last day: seen, and reported. Also those that are kept no more.
pub fn totals(record: &Record, now: Millis) -> (u64, u64) {
    let minutes = record.day.of_last(now, DAY - MINUTE);
    minutes.fold((0, 0), |(seen, reported), minute| {
        (
            seen + u64::from(minute.failed),
            reported + u64::from(minute.reported),
        )
    })
}

fn patterns(record: &Record, now: Millis) -> Vec<FailurePattern> {
    let hour = record.failures.of_last(now, HOUR);
    let mut found = Vec::new();
    let mut by_type: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
    let mut by_bot: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
    for failure in hour {
        by_type.entry(&failure.task_type).or_default().push(failure);
        by_bot.entry(&failure.bot).or_default().push(failure);
    }
    for (name, failures) in by_type {
        let index = name.parse::<TaskType>().ok().map(super::index_of);
        let ends = |index: usize| {
            let minutes = record.day.of_last(now, HOUR);
            let of_type = |m: &super::day::Minute| m.ends.get(index).copied().unwrap_or(0);
            minutes.map(|m| u64::from(of_type(m))).sum()
        };
        let ends = index.map_or(0, ends);
        found.extend(pattern("task_type", name, &failures, ends, now));
    }
    for (name, failures) in by_bot {
        let ends = record.bots.get(name).map_or(0, |bot| bot.last_hour(now).0);
        found.extend(pattern("bot", name, &failures, ends, now));
    }
    found
}

fn pattern(
    kind: &str,
    name: &str,
    failures: &[&Failure],
    ends: u64,
    now: Millis,
) -> Option<FailurePattern> {
    let newest = failures.first()?;
    let failure_count = failures.len() as u64;
    let seen = failures.iter().filter(|f| f.report.is_none()).count() as u64;
    (failure_count >= MANY).then(|| FailurePattern {
        pattern_id: format!("{kind}:{name}"),
        pattern_type: kind.to_owned(),
        task_type: (kind == "task_type").then(|| name.to_owned()),
        bot_id: (kind == "bot").then(|| name.to_owned()),
        time_of_day: hour_of(newest.wall),
        failure_count,
        failure_rate: (seen as f64 / ends.max(1) as f64).min(1.0),
        is_active: now.saturating_sub(newest.at) <= CASCADE,
    })
}

/// `GET /api/monitoring/failures/cascade-risk`.
pub fn cascade(record: &Record, now: Millis, wall: Timestamp) -> CascadeRisk {
    let failures = record.failures.of_last(now, CASCADE);
    let bots: BTreeSet<&str> = failures.iter().map(|f| &*f.bot).collect();
    let types: BTreeSet<&str> = failures.iter().map(|f| &*f.task_type).collect();
    let score = score(failures.len(), bots.len(), types.len());
    let level = match score {
        score if score >= HIGH => "high",
        score if score >= MEDIUM => "medium",
        _ => "low",
    };
    let named = failures.iter().take(NAMED_FAILURES).map(|f| RecentFailure {
        bot_id: f.bot.to_string(),
        task_type: f.task_type.to_string(),
        error_type: f.kind.to_owned(),
    });
    let all = |names: &BTreeSet<&str>| names.iter().map(|name| (*name).to_owned()).collect();
    CascadeRisk {
        cascade_risk: level.to_owned(),
        risk_level: level.to_owned(),
        cascade_risk_score: score,
        recent_failures: failures.len() as u64,
        bots_affected: bots.len() as u64,
        task_types_affected: types.len() as u64,
        failure_pattern: named.collect(),
        recommendations: advice(level, &failures, &bots),
        affected_bots: all(&bots),
        vulnerable_services: all(&types),
        timestamp: wall,
    }
}

/// 0-1, so that the original's levels are where its documentation puts them.
fn score(failures: usize, bots: usize, types: usize) -> f64 {
    let many = failures as f64;
    let score = if bots >= 2 && types >= 2 {
        HIGH + 0.02 * (many - 2.0) + 0.05 * ((bots + types) as f64 - 4.0)
    } else if failures as u64 >= MANY {
        (MEDIUM + 0.02 * (many - MANY as f64)).min(HIGH - 0.01)
    } else {
        0.1 * many
    };
    (score.clamp(0.0, 1.0) * 100.0).round() / 100.0
}

fn advice(level: &str, failures: &[&Failure], bots: &BTreeSet<&str>) -> Vec<String> {
    let mut advice = Vec::new();
    if level == "low" {
        return advice;
    }
    let of = |kind: &str| failures.iter().filter(|f| f.kind == kind).count() * 2 > failures.len();
    if of("unavailable") {
        advice.push("a model server does not answer or is overloaded: look whether it runs, and at the pool's `fallback`".to_owned());
    }
    if of("timed_out") {
        advice.push("attempts take too long: look at the load of the model server and at timeouts.task_timeout_seconds".to_owned());
    }
    if of("bot_lost") {
        advice.push("bots end while they work: deiactl doctor names the cause".to_owned());
    }
    match (level, bots.first()) {
        ("high", _) => advice.push(
            "several bots fail at several kinds of task: look at what they share before anything is restarted; `deiactl drain` holds new tasks back".to_owned(),
        ),
        (_, Some(bot)) if bots.len() == 1 => {
            advice.push(format!("only one bot is affected: deiactl bot show {bot}"));
        }
        _ => advice.push("deiactl task list --status dead names the tasks, deiactl task show ID their errors".to_owned()),
    }
    advice
}

/// `GET /api/monitoring/failures/trends`.
pub fn trends(record: &Record, now: Millis, wall: Timestamp) -> FailureTrends {
    let mut by_kind: BTreeMap<String, u64> = BTreeMap::new();
    for failure in record.failures.of_last(now, DAY) {
        *by_kind.entry(failure.kind.to_owned()).or_default() += 1;
    }
    let this_hour = wall.as_micros().div_euclid(3_600_000_000);
    let hours = (0..24).map(|n| {
        let from = Timestamp::from_micros((this_hour - 23 + n) * 3_600_000_000);
        HourOfErrors {
            hour: hour_of(from),
            from,
            error_count: 0,
        }
    });
    let mut hours: Vec<HourOfErrors> = hours.collect();
    for minute in record.day.of_last(now, DAY - MINUTE) {
        let ago = now.saturating_sub(minute.number * MINUTE);
        let at = wall.plus_millis(-i64::try_from(ago).unwrap_or(i64::MAX));
        let hour = at.as_micros().div_euclid(3_600_000_000) - this_hour + 23;
        let count = u64::from(minute.failed) + u64::from(minute.reported);
        // What happened a little before the first hour began counts there.
        let index = usize::try_from(hour).unwrap_or(0);
        if let Some(hour) = hours.get_mut(index) {
            hour.error_count += count;
        }
    }
    let (seen, reported) = totals(record, now);
    FailureTrends {
        error_types: by_kind.clone(),
        by_error_type: by_kind,
        total_failures: seen + reported,
        total_errors: seen + reported,
        trend: trend(record, now).to_owned(),
        hourly_distribution: hours,
        timestamp: wall,
    }
}

fn trend(record: &Record, now: Millis) -> &'static str {
    let failures = |from: u64, to: u64| -> u64 {
        let minutes = record.day.of_last(now, 2 * HOUR);
        let within = |ago: u64| (from..to).contains(&ago);
        let counted = minutes.filter(|m| within(now.saturating_sub(m.number * MINUTE)));
        counted
            .map(|m| u64::from(m.failed) + u64::from(m.reported))
            .sum()
    };
    let (last, before) = (failures(0, HOUR), failures(HOUR, 2 * HOUR));
    let clearly = |more: u64, less: u64| more >= less + MANY && more * 4 >= less * 5;
    if clearly(last, before) {
        "increasing"
    } else if clearly(before, last) {
        "decreasing"
    } else {
        "stable"
    }
}

/// The hour of the day, UTC.
fn hour_of(at: Timestamp) -> u8 {
    u8::try_from(at.as_micros().div_euclid(3_600_000_000).rem_euclid(24)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(record: &mut Record, at: Millis, bot: &str, task_type: &'static str) {
        let wall = Timestamp::from_micros(at as i64 * 1000);
        record.failures.add(Failure {
            at,
            wall,
            task: "t".into(),
            bot: bot.into(),
            task_type: task_type.into(),
            kind: "backend",
            report: None,
        });
        record.day.at(at).unwrap().failed += 1;
    }

    fn risk(failures: &[(&str, &'static str)]) -> CascadeRisk {
        let mut record = Record::default();
        for (bot, task_type) in failures {
            fails(&mut record, 1000, bot, task_type);
        }
        cascade(&record, 2000, Timestamp::from_micros(0))
    }

    /// Case 64 of the original's facts: 2 bots x 2 types, 3 of the same, 2 bots with 1 type, none.
    #[test]
    fn the_originals_levels() {
        assert_eq!(risk(&[("a", "x"), ("b", "y")]).cascade_risk, "high");
        assert_eq!(risk(&[("a", "x"); 3]).cascade_risk, "medium");
        assert_eq!(risk(&[("a", "x"), ("b", "x")]).cascade_risk, "low");
        let none = risk(&[]);
        assert_eq!(
            (none.cascade_risk.as_str(), none.recent_failures),
            ("low", 0)
        );
        assert_eq!(none.recommendations, Vec::<String>::new());
    }

    #[test]
    fn the_score_is_where_the_level_says() {
        for failures in 0..200 {
            for bots in 0..=failures.min(5) {
                for types in 0..=failures.min(5) {
                    let score = score(failures, bots, types);
                    let high = bots >= 2 && types >= 2;
                    let medium = !high && failures >= 3;
                    assert!((0.0..=1.0).contains(&score));
                    assert_eq!(score >= HIGH, high, "{failures} {bots} {types}");
                    assert_eq!(
                        (MEDIUM..HIGH).contains(&score),
                        medium,
                        "{failures} {bots} {types}"
                    );
                }
            }
        }
    }

    #[test]
    fn five_minutes_later_nothing_spreads_any_more() {
        let mut record = Record::default();
        fails(&mut record, 0, "a", "x");
        fails(&mut record, 0, "b", "y");
        let at = |now| cascade(&record, now, Timestamp::from_micros(0)).risk_level;
        assert_eq!(at(CASCADE), "high");
        assert_eq!(at(CASCADE + 1), "low");
    }

    #[test]
    fn three_in_an_hour_are_a_pattern_of_the_kind_and_of_the_bot() {
        let mut record = Record::default();
        for at in [0, 10 * MINUTE, 20 * MINUTE] {
            fails(&mut record, at, "a", "writing");
        }
        let now = 24 * MINUTE;
        let stats = stats(&record, now, Timestamp::from_micros(0));
        assert_eq!(stats.total_failures_24h, 3);
        assert_eq!(stats.by_bot["a"].count, 3);
        let ids: Vec<_> = stats
            .failure_patterns
            .iter()
            .map(|p| p.pattern_id.as_str())
            .collect();
        assert_eq!(ids, ["task_type:writing", "bot:a"]);
        assert!(stats.failure_patterns[0].is_active);
        assert_eq!(patterns(&record, 61 * MINUTE), []);
        let nothing = super::stats(&Record::default(), 0, Timestamp::from_micros(0));
        assert_eq!(nothing.status.as_deref(), Some("no_failures"));
    }

    #[test]
    fn the_trend_compares_hours_and_each_failure_has_its_hour() {
        let mut record = Record::default();
        for _ in 0..5 {
            fails(&mut record, 30 * MINUTE, "a", "x");
        }
        let wall = |now: Millis| Timestamp::from_micros(now as i64 * 1000);
        let at = |now| trends(&record, now, wall(now));
        assert_eq!(at(40 * MINUTE).trend, "increasing");
        assert_eq!(at(100 * MINUTE).trend, "decreasing");
        assert_eq!(at(200 * MINUTE).trend, "stable");
        let hours = at(100 * MINUTE).hourly_distribution;
        assert_eq!(hours.len(), 24);
        assert_eq!((hours[22].error_count, hours[22].hour), (5, 0));
        assert_eq!(hours.iter().map(|h| h.error_count).sum::<u64>(), 5);
        let later = at(MAX_MINUTES * MINUTE + 40 * MINUTE);
        assert_eq!((later.total_failures, later.error_types.len()), (0, 0));
    }

    #[test]
    fn reports_push_out_reports_alone() {
        let mut record = Record::default();
        fails(&mut record, 0, "a", "x");
        for _ in 0..3000 {
            record.failures.add(Failure {
                report: Some(Report {
                    message: String::new(),
                    code: 500,
                }),
                ..(*record.failures.seen[0]).clone()
            });
        }
        assert_eq!(record.failures.seen.len(), 1);
        assert_eq!(record.failures.reported.len(), MAX_REPORTS);
    }
}
