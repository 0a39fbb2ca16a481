//! From what was seen to what is judged. No I/O.

use std::collections::VecDeque;

use super::look::Look;
use crate::backup::Summary;
use crate::brain::Millis;
use crate::brain::alerts::{DISK_LOW_BYTES, Figures};
use crate::brain::degrade::{self, Degradation, Feature, Mode, Reason};
use crate::brain::tally::Rates;
use crate::daemon::vitals::{BotVitals, Vitals, Without};
use deia::bot::{Actual, Wanted};
use deia::config::Config;
use deia::time::Timestamp;

/// Fewer attempts than this say nothing of late: then the bots' long averages count.
const MIN_ATTEMPTS: u64 = 5;

/// What counts as of late.
const LATELY: Millis = 3_600_000;

/// Increments closer than this are one.
const TOGETHER: Millis = 5_000;

/// How much a number that mostly grows has grown of late.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately {
    last: Option<u64>,
    grown: VecDeque<(Millis, u64)>,
}

impl Lately {
    /// The number now. What is removed from it meanwhile counts as nothing.
    pub fn push(&mut self, now: Millis, number: u64) -> u64 {
        let before = self.last.replace(number).unwrap_or(number);
        let more = number.saturating_sub(before);
        match self.grown.back_mut() {
            _ if more == 0 => {}
            Some((at, sum)) if now.saturating_sub(*at) < TOGETHER => *sum += more,
            _ => self.grown.push_back((now, more)),
        }
        while self
            .grown
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) > LATELY)
        {
            self.grown.pop_front();
        }
        self.grown.iter().map(|(_, more)| more).sum()
    }
}

/// What alerts are judged by. `messages`: those that wait, and those that expired of late.
pub(super) fn figures(
    vitals: &Vitals,
    look: &Look,
    rates: &Rates,
    messages: (u64, u64),
    backup: Option<(f64, f64)>,
) -> Figures {
    let wanted = || {
        vitals
            .bots
            .iter()
            .filter(|bot| bot.wanted == Wanted::Running)
    };
    let active = || wanted().filter(|bot| bot.is_active());
    let slots: u32 = active().map(|bot| bot.slots).sum();
    let tasks: u32 = active().map(|bot| bot.tasks).sum();
    let down = vitals.servers.iter().filter(|server| server.down.is_some());
    Figures {
        total_bots: wanted().count() as u64,
        active_bots: active().count() as u64,
        queued_tasks: vitals.queued,
        avg_bot_load: f64::from(tasks) / f64::from(slots.max(1)),
        cpu: look.host.host.cpu.unwrap_or(0.0),
        memory: look.host.host.memory.unwrap_or(0.0),
        message_queue: messages.0,
        message_failures: messages.1,
        success_rate: success_rate(vitals, rates),
        oldest_seconds: vitals.oldest_seconds,
        disk_free: look.disk.map(|disk| disk.free),
        quarantined: wanted()
            .filter(|bot| bot.actual == Actual::Quarantined)
            .map(|bot| bot.id.to_string())
            .collect(),
        backup,
        down: down
            .map(|server| (server.url.to_string(), server.is_waited_for))
            .collect(),
    }
}

/// Seconds since the last good backup, and between two, where they are made at all. Not in the first
/// interval of a daemon: what is overdue after a time without one is being made.
pub(super) fn backup(
    known: &Summary,
    config: &Config,
    up: Millis,
    now: Timestamp,
) -> Option<(f64, f64)> {
    let rules = &config.persistence;
    let interval = f64::from(rules.backup_interval_minutes) * 60.0;
    let up = up as f64 / 1000.0;
    let age = known.age_seconds(now).unwrap_or(up);
    (rules.backup_enabled && up >= interval).then_some((age, interval))
}

fn success_rate(vitals: &Vitals, rates: &Rates) -> f64 {
    match rates.failure_rate {
        Some(failed) if rates.attempts >= MIN_ATTEMPTS => 1.0 - failed,
        _ => {
            let rates: Vec<f64> = vitals.bots.iter().map(|bot| bot.success_rate).collect();
            match rates.len() {
                0 => 1.0,
                n => rates.iter().sum::<f64>() / n as f64,
            }
        }
    }
}

/// What degradation is judged by.
pub(super) fn strain(vitals: &Vitals, look: &Look) -> degrade::Figures {
    let wanted = || {
        vitals
            .bots
            .iter()
            .filter(|bot| bot.wanted == Wanted::Running)
    };
    let full = look.disk.is_some_and(|disk| disk.free < DISK_LOW_BYTES[1]);
    degrade::Figures {
        cpu: look.host.host.cpu.unwrap_or(0.0),
        memory: look.host.host.memory.unwrap_or(0.0),
        total_bots: wanted().count() as u64,
        healthy_bots: wanted().filter(|bot| bot.is_active()).count() as u64,
        storage_full: vitals.store_fails || full,
        dependency_down: vitals.servers.iter().any(|server| server.is_waited_for),
        maintenance: vitals.is_drained,
    }
}

/// What the main loop is told to do without.
pub(super) fn without(degradation: &Degradation) -> Without {
    // A drain, the store and the model servers are reasons of the main loop's own.
    let reasons = degradation.reasons().filter(|reason| {
        matches!(
            reason,
            Reason::MemoryPressure | Reason::HighLoad | Reason::BotFailure
        )
    });
    let reasons: Vec<&str> = reasons.map(Reason::as_str).collect();
    let off: Vec<&str> = degradation.disabled().map(Feature::as_str).collect();
    let told = match reasons.is_empty() || degradation.mode() == Mode::Full {
        true => Vec::new(),
        false => vec![format!(
            "{}: {} are off until it is over",
            reasons.join(", "),
            off.join(", ")
        )],
    };
    Without {
        adaptive: !degradation.allows(Feature::AdaptiveScheduling),
        growth: !degradation.allows(Feature::AutoScaling),
        ahead: !degradation.allows(Feature::PredictiveScaling),
        reasons: told,
    }
}

/// The bot with the best record for the CPU it takes.
pub(super) fn fallback(bots: &[BotVitals], look: &Look) -> Option<String> {
    let cpu = |bot: &BotVitals| look.bots.get(&bot.id).and_then(|used| used.cpu);
    let works = |bot: &&BotVitals| matches!(bot.actual, Actual::Ready | Actual::Busy);
    let bots = bots.iter().filter(works);
    let bots = bots.map(|bot| (&*bot.id, bot.success_rate, cpu(bot).unwrap_or(0.0)));
    degrade::fallback(bots).map(str::to_owned)
}

/// As precise as it is of use to people.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expired_of_late_is_forgotten_after_an_hour_and_old_ones_do_not_count() {
        let mut lately = Lately::default();
        assert_eq!(lately.push(0, 40), 0, "before this daemon");
        assert_eq!(lately.push(10_000, 43), 3);
        assert_eq!(lately.push(20_000, 44), 4);
        assert_eq!(lately.push(30_000, 2), 4, "retention removed some");
        assert_eq!(lately.push(40_000, 3), 5);
        assert_eq!(lately.push(3_615_000, 3), 2);
        for n in 0..100_000 {
            lately.push(4_000_000 + n, 4 + n);
        }
        assert!(lately.grown.len() <= (LATELY / TOGETHER) as usize + 2);
    }

    #[test]
    fn a_backup_is_late_by_its_age_and_not_before_one_could_have_been_made() {
        let config = Config::default();
        let interval = f64::from(config.persistence.backup_interval_minutes) * 60.0;
        let minute = |n: i64| Timestamp::from_micros(n * 60_000_000);
        let at = |known: &Summary, up_minutes: u64, now| {
            backup(known, &config, up_minutes * 60_000, minute(now))
        };
        let mut known = Summary::default();
        assert_eq!(at(&known, 9, 100), None);
        assert_eq!(at(&known, 40, 100), Some((2400.0, interval)), "never one");
        known.newest = Some(crate::backup::Newest {
            id: "b".into(),
            at: minute(70),
            size_bytes: 1,
        });
        assert_eq!(at(&known, 9, 100), None, "a daemon that has just come");
        assert_eq!(at(&known, 40, 100), Some((1800.0, interval)));
        let mut off = Config::default();
        off.persistence.backup_enabled = false;
        assert_eq!(backup(&known, &off, 60_000_000, minute(100)), None);
    }

    #[test]
    fn what_a_drain_or_a_server_switches_off_is_not_said_twice() {
        let mut degradation = Degradation::default();
        let at = deia::time::Timestamp::from_micros(0);
        let rules = degrade::Rules { lasts: 0 };
        let down = degrade::Figures {
            dependency_down: true,
            ..degrade::Figures::default()
        };
        degradation.evaluate(&down, rules, 0, at);
        let told = without(&degradation);
        assert!(told.ahead && !told.growth && !told.adaptive);
        assert!(told.reasons.is_empty());
        let short = degrade::Figures {
            memory: 0.9,
            ..down
        };
        degradation.evaluate(&short, rules, 1, at);
        let told = without(&degradation);
        assert!(told.growth && told.adaptive);
        assert!(told.reasons[0].starts_with("memory_pressure: adaptive_scheduling"));
    }
}
