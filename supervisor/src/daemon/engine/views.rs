//! What the main loop shows of itself.

use deia::api::{BotView, ScalingStatus};
use deia::bot::{Actual, Wanted};
use deia::time::Timestamp;

use super::Engine;
use super::bots::BotEntry;
use crate::brain::Millis;
use crate::brain::explain::{Facts, explain};
use crate::daemon::health::Condition;

impl Engine {
    /// Every bot, in the order of the pools.
    pub(super) fn bot_views(&self) -> Vec<BotView> {
        let (now, rules) = (self.now(), &self.config.supervision);
        self.order
            .iter()
            .filter_map(|id| {
                let entry = self.bots.get(id)?;
                Some(BotView {
                    id: id.to_string(),
                    pool: entry.spec.name.clone(),
                    bot_type: entry.spec.bot_type,
                    specializations: entry.spec.specializations.clone(),
                    wanted: entry.machine.wanted(),
                    actual: entry.machine.actual(),
                    pid: entry.pid(),
                    since: entry.since,
                    restarts: entry.machine.restarts(),
                    tasks: entry.tasks.keys().map(ToString::to_string).collect(),
                    max_concurrent: match entry.session {
                        Some(_) => entry.terms.slots,
                        None => self.slots_of(&entry.spec),
                    },
                    success_rate: self.dispatcher.success_rate(id),
                    cpu_percent: None,
                    memory_bytes: None,
                    backend: entry.spec.backend.kind().to_owned(),
                    sandbox: self.sandbox_of(entry),
                    last_exit: entry.last_exit,
                    next_start_at: entry.next_start_at,
                    blocked_by: entry.blockers(),
                    version: entry.version.clone(),
                    explanation: self.explanation(id, entry),
                    recent_ends: entry.machine.history().recent(now, rules),
                    ends: entry.ends.iter().rev().copied().collect(),
                    progress_at: entry.heart.progress_at().map(|at| self.when(at)),
                })
            })
            .chain(self.external_views())
            .collect()
    }

    pub(super) fn explanation(&self, id: &str, entry: &BotEntry) -> String {
        let now = self.wall();
        let rules = &self.config.supervision;
        let next = entry.next_start_at;
        explain(&Facts {
            id,
            wanted: entry.machine.wanted(),
            state: entry.machine.state(),
            for_seconds: now.seconds_since(entry.since),
            tasks: entry.tasks.len(),
            held: entry.held,
            last_exit: entry.last_exit,
            recent_ends: entry.machine.history().recent(self.now(), rules),
            next_start_seconds: next.map(|at| at.seconds_since(now)),
            no_room: entry.no_room.as_deref(),
            blocked_by: &entry.blockers(),
            replaced: entry.replaced(),
            rules,
        })
    }

    /// A point on the main loop's clock, as people know it.
    fn when(&self, at: Millis) -> Timestamp {
        let ago = i64::try_from(self.now().saturating_sub(at)).unwrap_or(i64::MAX);
        self.wall().plus_millis(-ago)
    }

    /// How the fleet stands.
    pub(super) fn scaling_status(&self) -> ScalingStatus {
        let active = self.order.iter().filter(|id| {
            let entry = self.bots.get(*id);
            entry.is_some_and(Self::is_active)
        });
        ScalingStatus {
            timestamp: self.wall(),
            current_bot_count: self.active_count(),
            min_bots: self.limits.min,
            max_bots: self.limits.max,
            active_bots: active.map(ToString::to_string).collect(),
            scaling_enabled: self.config.feature_flags.auto_scaling_enabled,
            last_scale_up: self.last_scale_up,
            last_scale_down: self.last_scale_down,
            r#override: self.overriding.current.is_some(),
            draining: self.refusing().is_some(),
            in_flight: self.in_flight.len() as u64,
            last_evaluation: self.scaling.last.clone(),
        }
    }

    /// Shows the condition to `/health`, where it has changed.
    pub(super) fn show_condition(&self) {
        let quarantined = self.bots.iter().filter(|(_, entry)| {
            entry.machine.actual() == Actual::Quarantined
                && entry.machine.wanted() == Wanted::Running
        });
        let condition = Condition {
            refusing: self.refusing(),
            store_fault: self.store_fault.clone(),
            stopping: self.is_stopping(),
            quarantined: quarantined.map(|(id, _)| id.to_string()).collect(),
            down: self.down_reasons(),
            without: self.without.reasons.clone(),
            ahead_micros: self.clocks.ahead_micros(),
        };
        self.condition.send_if_modified(|shown| {
            let changed = *shown != condition;
            if changed {
                *shown = condition;
            }
            changed
        });
    }
}
