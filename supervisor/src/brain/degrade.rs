//! What the fleet does without for a while, so that it keeps doing its work.
//!
//! ```text
//!             a reason begins                     maintenance (drained)
//!   full ------------------------> degraded -----------------------------> maintenance
//!    ^  '--- the last one is over ---'  ^-------------- ended --------------'
//! ```
//!
//! Reasons, features and thresholds are those of the Python original, which never asked itself. Reasons that
//! the host or the bots give count once they have lasted [`Rules::lasts`], and end when all of it is calm
//! again; those of the disk and of model servers begin and end with the fact. Taking and running tasks,
//! messages and health are never switched off: a task that is refused is lost to its client, one that waits
//! is a row on a disk.

use std::collections::BTreeSet;

use deia::time::Timestamp;

use super::Millis;

/// Memory in use above which memory is short, 0..1.
pub const MEMORY_SHORT: f64 = 0.85;
/// CPU in use above which the load is high.
pub const CPU_HIGH: f64 = 0.90;
/// Share of bots that work below which bots fail.
pub const BOTS_FAIL: f64 = 0.50;
/// Calm again: memory and CPU below this ...
pub const CALM: f64 = 0.70;
/// ... and more bots than this share work.
pub const BOTS_WELL: f64 = 0.80;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The host's memory.
    MemoryPressure,
    /// The host's CPU.
    HighLoad,
    /// Bots end, or are in quarantine.
    BotFailure,
    /// The disk takes nothing, or soon will not.
    StorageFull,
    /// A pool's model servers do not answer.
    DependencyFailure,
    /// An operator drained the fleet.
    Manual,
}

impl Reason {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryPressure => "memory_pressure",
            Self::HighLoad => "high_load",
            Self::BotFailure => "bot_failure",
            Self::StorageFull => "storage_full",
            Self::DependencyFailure => "dependency_failure",
            Self::Manual => "manual",
        }
    }

    /// What it switches off.
    fn disables(self) -> &'static [Feature] {
        use Feature::{AdaptiveScheduling, Analytics, AutoScaling, PredictiveScaling};
        match self {
            Self::MemoryPressure => &[
                AdaptiveScheduling,
                AutoScaling,
                Analytics,
                PredictiveScaling,
            ],
            Self::HighLoad => &[AdaptiveScheduling, Analytics, PredictiveScaling],
            Self::BotFailure => &[AutoScaling, Analytics, PredictiveScaling],
            Self::StorageFull | Self::DependencyFailure | Self::Manual => {
                &[Analytics, PredictiveScaling]
            }
        }
    }
}

/// What can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Routing by what was learned.
    AdaptiveScheduling,
    /// More bots by load; a pool's first one always comes.
    AutoScaling,
    /// A look at each process of each bot: descriptors, connections, what it started.
    Analytics,
    /// A bot ahead of what waits.
    PredictiveScaling,
}

impl Feature {
    const ALL: [Self; 4] = [
        Self::AdaptiveScheduling,
        Self::AutoScaling,
        Self::Analytics,
        Self::PredictiveScaling,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdaptiveScheduling => "adaptive_scheduling",
            Self::AutoScaling => "auto_scaling",
            Self::Analytics => "analytics",
            Self::PredictiveScaling => "predictive_scaling",
        }
    }
}

/// How much works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// All of it.
    Full,
    /// All but what the reasons switch off.
    Degraded,
    /// What is there already; an operator is at work.
    Maintenance,
}

impl Mode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Degraded => "degraded",
            Self::Maintenance => "maintenance",
        }
    }
}

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// The host's CPU in use, 0..1.
    pub cpu: f64,
    /// The host's memory in use, 0..1.
    pub memory: f64,
    /// Bots that shall run.
    pub total_bots: u64,
    /// Those of them that run or are being started.
    pub healthy_bots: u64,
    /// The disk takes nothing, or soon will not.
    pub storage_full: bool,
    /// A pool's model servers do not answer.
    pub dependency_down: bool,
    /// An operator drained the fleet.
    pub maintenance: bool,
}

/// By what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A reason of the host or the bots has to last: a start of bots, or a compiler, is no trouble.
    pub lasts: Millis,
}

impl Default for Rules {
    fn default() -> Self {
        Self { lasts: 60_000 }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Degradation {
    reasons: BTreeSet<Reason>,
    /// Since when each of the host's and the bots' has been there.
    seen: Vec<(Reason, Millis)>,
    since: Option<Timestamp>,
}

/// Another mode, or other reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The mode until now.
    pub from: Mode,
    /// The mode now.
    pub to: Mode,
}

impl Degradation {
    /// Judges the figures of now: what has changed, if anything.
    pub fn evaluate(
        &mut self,
        of: &Figures,
        rules: Rules,
        now: Millis,
        at: Timestamp,
    ) -> Option<Change> {
        let (from, before) = (self.mode(), self.reasons.clone());
        let share = match of.total_bots {
            0 => 1.0,
            total => of.healthy_bots as f64 / total as f64,
        };
        for (reason, is_there) in [
            (Reason::MemoryPressure, of.memory > MEMORY_SHORT),
            (Reason::HighLoad, of.cpu > CPU_HIGH),
            (Reason::BotFailure, share < BOTS_FAIL),
        ] {
            let known = self.seen.iter().find(|(seen, _)| *seen == reason);
            match (is_there, known.map(|(_, since)| *since)) {
                (false, _) => self.seen.retain(|(seen, _)| *seen != reason),
                (true, None) => self.seen.push((reason, now)),
                (true, Some(_)) => {}
            }
        }
        let lasting = self.seen.iter();
        let lasting = lasting.filter(|(_, since)| now.saturating_sub(*since) >= rules.lasts);
        let lasting: Vec<Reason> = lasting.map(|(reason, _)| *reason).collect();
        self.reasons.extend(lasting);
        if of.memory < CALM && of.cpu < CALM && share > BOTS_WELL {
            for reason in [Reason::MemoryPressure, Reason::HighLoad, Reason::BotFailure] {
                self.reasons.remove(&reason);
            }
        }
        for (reason, is_there) in [
            (Reason::StorageFull, of.storage_full),
            (Reason::DependencyFailure, of.dependency_down),
            (Reason::Manual, of.maintenance),
        ] {
            match is_there {
                true => self.reasons.insert(reason),
                false => self.reasons.remove(&reason),
            };
        }
        let to = self.mode();
        if from != to {
            self.since = (to != Mode::Full).then_some(at);
        }
        (from != to || before != self.reasons).then_some(Change { from, to })
    }

    /// Nothing is judged any more: all of it works, as far as anybody knows.
    pub fn end(&mut self) -> Option<Change> {
        let from = self.mode();
        *self = Self::default();
        (from != Mode::Full).then_some(Change {
            from,
            to: Mode::Full,
        })
    }

    /// How much works. What an operator does is not overruled by the host.
    pub fn mode(&self) -> Mode {
        if self.reasons.contains(&Reason::Manual) {
            Mode::Maintenance
        } else if self.reasons.is_empty() {
            Mode::Full
        } else {
            Mode::Degraded
        }
    }

    /// Why.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        self.reasons.iter().copied()
    }

    /// Since when it is not full.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Whether a feature works.
    pub fn allows(&self, feature: Feature) -> bool {
        let off = |reason: &Reason| reason.disables().contains(&feature);
        self.mode() != Mode::Maintenance && !self.reasons.iter().any(off)
    }

    /// What does not.
    pub fn disabled(&self) -> impl Iterator<Item = Feature> {
        let all = Feature::ALL.into_iter();
        all.filter(|feature| !self.allows(*feature))
    }
}

/// The bot with the best record for the CPU it takes: name, success rate, CPU.
pub fn fallback<'a>(bots: impl IntoIterator<Item = (&'a str, f64, f64)>) -> Option<&'a str> {
    let worth = |rate: f64, cpu: f64| rate - 0.1 * cpu;
    let mut best: Option<(&str, f64)> = None;
    for (bot, rate, cpu) in bots {
        let worth = worth(rate, cpu);
        // The first of equals.
        if best.is_none_or(|(_, known)| worth > known) {
            best = Some((bot, worth));
        }
    }
    best.map(|(bot, _)| bot)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Rules = Rules { lasts: 0 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn host(cpu: f64, memory: f64, healthy_bots: u64) -> Figures {
        Figures {
            cpu,
            memory,
            total_bots: 5,
            healthy_bots,
            ..Figures::default()
        }
    }

    fn judged(figures: &Figures) -> Degradation {
        let mut degradation = Degradation::default();
        degradation.evaluate(figures, AT_ONCE, 0, at(0));
        degradation
    }

    fn reasons(degradation: &Degradation) -> Vec<&'static str> {
        degradation.reasons().map(Reason::as_str).collect()
    }

    /// The original's table, at its exact boundaries.
    #[test]
    fn the_originals_table() {
        for (figures, expected) in [
            (host(0.0, 0.85, 5), vec![]),
            (host(0.0, 0.851, 5), vec!["memory_pressure"]),
            (host(0.90, 0.0, 5), vec![]),
            (host(0.901, 0.0, 5), vec!["high_load"]),
            (host(0.0, 0.0, 3), vec![]),
            (host(0.0, 0.0, 2), vec!["bot_failure"]),
        ] {
            assert_eq!(reasons(&judged(&figures)), expected, "{figures:?}");
        }
        for (then, mode) in [
            (host(0.60, 0.60, 5), Mode::Full),
            (host(0.60, 0.60, 4), Mode::Degraded),
            (host(0.60, 0.70, 5), Mode::Degraded),
        ] {
            let mut degradation = judged(&host(0.0, 0.90, 5));
            degradation.evaluate(&then, AT_ONCE, 1, at(1));
            assert_eq!(degradation.mode(), mode, "{then:?}");
        }
        let bots = [("b1", 0.95, 0.3), ("b2", 0.8, 0.5), ("b3", 0.85, 0.4)];
        assert_eq!(fallback(bots), Some("b1"));
        assert_eq!(fallback([]), None);
    }

    #[test]
    fn the_same_trouble_twice_is_no_change_and_its_time_is_the_first() {
        let mut degradation = Degradation::default();
        let short = host(0.0, 0.9, 5);
        let change = degradation.evaluate(&short, AT_ONCE, 0, at(7));
        assert_eq!(
            change,
            Some(Change {
                from: Mode::Full,
                to: Mode::Degraded
            })
        );
        assert_eq!(degradation.evaluate(&short, AT_ONCE, 1, at(8)), None);
        assert_eq!(degradation.since(), Some(at(7)));
        let calm = host(0.0, 0.0, 5);
        assert!(degradation.evaluate(&calm, AT_ONCE, 2, at(9)).is_some());
        assert_eq!(
            (degradation.mode(), degradation.since()),
            (Mode::Full, None)
        );
    }

    #[test]
    fn each_reason_switches_off_its_own_and_all_come_back() {
        use Feature::{AdaptiveScheduling, Analytics, AutoScaling, PredictiveScaling};
        let off = |figures: &Figures| judged(figures).disabled().collect::<Vec<_>>();
        assert_eq!(off(&host(0.0, 0.9, 5)), Feature::ALL);
        assert_eq!(
            off(&host(0.95, 0.0, 5)),
            [AdaptiveScheduling, Analytics, PredictiveScaling]
        );
        assert_eq!(
            off(&host(0.0, 0.0, 1)),
            [AutoScaling, Analytics, PredictiveScaling]
        );
        let down = Figures {
            dependency_down: true,
            ..host(0.0, 0.0, 5)
        };
        assert_eq!(off(&down), [Analytics, PredictiveScaling]);
        assert_eq!(off(&host(0.0, 0.0, 5)), []);
        let drained = Figures {
            maintenance: true,
            ..host(0.0, 0.0, 5)
        };
        assert_eq!(off(&drained), Feature::ALL);
    }

    /// The original let memory overrule an operator, and fell over without bots.
    #[test]
    fn maintenance_stays_maintenance_and_no_bots_are_no_failure() {
        let drained = Figures {
            maintenance: true,
            memory: 0.95,
            ..Figures::default()
        };
        let mut degradation = judged(&drained);
        assert_eq!(degradation.mode(), Mode::Maintenance);
        assert_eq!(reasons(&degradation), ["memory_pressure", "manual"]);
        let short = Figures {
            maintenance: false,
            ..drained
        };
        degradation.evaluate(&short, AT_ONCE, 1, at(1));
        assert_eq!(degradation.mode(), Mode::Degraded);
        degradation.evaluate(&Figures::default(), AT_ONCE, 2, at(2));
        assert_eq!(degradation.mode(), Mode::Full);
    }

    #[test]
    fn a_moment_is_no_trouble() {
        let rules = Rules::default();
        let mut degradation = Degradation::default();
        let busy = host(1.0, 0.0, 5);
        assert_eq!(degradation.evaluate(&busy, rules, 0, at(0)), None);
        let calm = host(0.1, 0.0, 5);
        assert_eq!(degradation.evaluate(&calm, rules, 30_000, at(30)), None);
        assert_eq!(degradation.evaluate(&busy, rules, 60_000, at(60)), None);
        assert_eq!(degradation.evaluate(&busy, rules, 119_000, at(119)), None);
        assert!(
            degradation
                .evaluate(&busy, rules, 120_000, at(120))
                .is_some()
        );
        let down = Figures {
            dependency_down: true,
            ..calm
        };
        let mut degradation = Degradation::default();
        assert!(degradation.evaluate(&down, rules, 0, at(0)).is_some());
        assert!(degradation.end().is_some());
        assert_eq!(degradation.end(), None);
    }
}
