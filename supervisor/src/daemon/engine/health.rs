//! The main loop's part in health: what it shows, what it does without, and who waits for a model server.

use std::sync::Arc;

use deia::task::TaskId;
use deia::wire::{FailureKind, Outcome};

use super::Engine;
use super::tasks::AttemptEnd;
use crate::brain::learn::Rules;
use crate::brain::servers::{Seen, Verdict};
use crate::daemon::vitals::{AskHealth, BotVitals, Probe, Probing, Vitals, Without};

impl Engine {
    pub(super) fn ask_health(&mut self, ask: AskHealth) {
        match ask {
            AskHealth::Vitals { reply } => {
                let _ = reply.send(self.vitals());
            }
            AskHealth::Probed(answers) => self.probed_servers(answers),
            AskHealth::DoWithout(without) => self.do_without(without),
        }
    }

    fn vitals(&self) -> Vitals {
        let bot = |id: &Arc<str>| {
            let entry = self.bots.get(id)?;
            Some(BotVitals {
                id: id.clone(),
                pool: entry.spec.name.clone(),
                pid: entry.pid(),
                actual: entry.machine.actual(),
                wanted: entry.machine.wanted(),
                tasks: entry.tasks.values().sum(),
                slots: match entry.session {
                    Some(_) => entry.terms.slots,
                    None => self.slots_of(&entry.spec),
                },
                success_rate: self.dispatcher.success_rate(id),
            })
        };
        Vitals {
            now: self.now(),
            bots: self.order.iter().filter_map(bot).collect(),
            queued: self.dispatcher.waiting(),
            scheduled: u64::try_from(self.scheduled).unwrap_or(0),
            running: self.in_flight.len() as u64,
            oldest_seconds: self.dispatcher.oldest_seconds(self.wall()),
            average_wait_ms: self.tally.average_wait_ms(),
            counts: self.tally.counts(),
            failure_rate: self.tally.failure_rate(),
            routing: self.tally.routing(),
            servers: self.servers.seen(),
            is_drained: self.limits.max == 0,
            store_fails: self.store_fault.is_some(),
        }
    }

    /// The pools have changed, or the rules.
    pub(super) fn configure_servers(&mut self) {
        self.servers.configure(&self.config.bots);
        // Nothing more is said of a server that nobody asks any more.
        let seen = self.servers.seen();
        let down = |url: &Arc<str>| seen.iter().any(|s| s.url == *url && s.down.is_some());
        self.shown_down.retain(down);
        self.hold_pools();
        self.show_probing();
    }

    /// Pools whose model servers do not answer give out nothing.
    pub(super) fn hold_pools(&mut self) {
        let held = match self.config.feature_flags.graceful_degradation_enabled {
            true => self.servers.held(),
            false => Vec::new(),
        };
        self.dispatcher.hold_pools(held);
    }

    fn probed_servers(&mut self, answers: Vec<(Arc<str>, Result<(), String>)>) {
        let at = self.wall();
        let mut changed = false;
        for (url, answer) in answers {
            changed |= self.servers.probed(&url, answer, at);
        }
        if changed {
            self.servers_changed();
        }
    }

    fn servers_changed(&mut self) {
        let before = self.shown_down.clone();
        self.hold_pools();
        let now: Vec<Seen> = self.servers.seen();
        let down = now.iter().filter(|seen| seen.down.is_some());
        self.shown_down = down.map(|seen| seen.url.clone()).collect();
        for seen in &now {
            match (&seen.down, before.contains(&seen.url)) {
                (Some((_, why)), false) => {
                    tracing::warn!(event = "backend_down", server = %seen.url, reason = why, tasks_wait = seen.is_waited_for, "a model server does not answer");
                }
                (None, true) => {
                    tracing::info!(event = "backend_up", server = %seen.url, "a model server answers again");
                }
                _ => {}
            }
        }
        self.condition_stale = true;
    }

    /// Whether an attempt ended because no model server could be reached, and the task shall wait for
    /// one. Also notes what the end says about the servers.
    pub(super) fn judged_by_server(&mut self, id: &TaskId, end: AttemptEnd) -> AttemptEnd {
        let AttemptEnd::Reported(outcome) = end else {
            return end;
        };
        let attempt = self.in_flight.get(id);
        let entry = attempt.and_then(|attempt| self.bots.get(&attempt.bot));
        // What the process was started with, which a reload may have overtaken.
        let pool = entry.map(|entry| entry.spec.name.clone());
        match (outcome, pool) {
            (
                Outcome::Failed {
                    error,
                    kind: FailureKind::Unreachable,
                },
                Some(pool),
            ) => {
                let verdict = self.servers.unreached(&pool, &error, self.wall());
                self.servers_changed();
                let holds = self.config.feature_flags.graceful_degradation_enabled;
                match verdict {
                    Verdict::Waits if holds => AttemptEnd::Held(error),
                    _ => AttemptEnd::Reported(Outcome::Failed {
                        error,
                        kind: FailureKind::Unreachable,
                    }),
                }
            }
            (outcome, Some(pool)) => {
                if matches!(outcome, Outcome::Succeeded { .. }) {
                    self.servers.reached(&pool);
                }
                AttemptEnd::Reported(outcome)
            }
            (outcome, None) => AttemptEnd::Reported(outcome),
        }
    }

    /// After each turn: who asks the model servers is told which there are, and how soon.
    pub(super) fn show_probing(&mut self) {
        let seen = self.servers.seen();
        let waited_for = seen.iter().any(|seen| seen.is_waited_for);
        let probing = Probing {
            is_urgent: waited_for && self.dispatcher.waiting() > 0,
            servers: seen
                .into_iter()
                .map(|seen| Probe {
                    is_down: seen.down.is_some(),
                    url: seen.url,
                    kind: seen.kind,
                })
                .collect(),
        };
        self.probing.send_if_modified(|shown| {
            let changed = *shown != probing;
            if changed {
                *shown = probing;
            }
            changed
        });
    }

    /// Only while a server is down does what waits change how soon it is asked.
    pub(super) fn look_at_probing(&mut self) {
        if !self.shown_down.is_empty() || self.probing.borrow().is_urgent {
            self.show_probing();
        }
    }

    /// What keeps tasks from being done, for `/health`.
    pub(super) fn down_reasons(&self) -> Vec<String> {
        let holds = self.config.feature_flags.graceful_degradation_enabled;
        let seen = self.servers.seen().into_iter();
        seen.filter_map(|seen| {
            let (_, why) = seen.down?;
            let pools: Vec<&str> = seen.pools.iter().map(|pool| &**pool).collect();
            let pools = pools.join(", ");
            let effect = match (seen.is_waited_for, holds) {
                (true, true) => format!("tasks for {pools} wait and go on by themselves"),
                (true, false) => format!("tasks for {pools} fail"),
                (false, _) => format!("the other backends of {pools} do the work"),
            };
            Some(format!(
                "the model server {} does not answer ({why}): {effect}",
                seen.url
            ))
        })
        .collect()
    }

    fn do_without(&mut self, without: Without) {
        if self.without == without {
            return;
        }
        self.without = without;
        self.dispatcher.learn_by(self.learning_rules());
        self.condition_stale = true;
    }

    /// How routing learns, and whether that steers.
    pub(super) fn learning_rules(&self) -> Rules {
        let rules = Rules::of(&self.config);
        Rules {
            steers: rules.steers && !self.without.adaptive,
            ..rules
        }
    }
}
