//! How many bots there shall be, of which specification: the plan, the configuration, an operator's word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deia::api::{AuditAction, BotActionAnswer};
use deia::bot::{Actual, Wanted};
use deia::config::{Config, Pool};

use super::bots::BotEntry;
use super::edge::{Job, Stops, Tending};
use super::{Engine, Phase};
use crate::brain::bot::{Drain, Event};
use crate::brain::demand::PoolFacts;
use crate::brain::plan::Limits;
use crate::daemon::command::{BotAct, Refused, Reply};

impl Engine {
    /// The pools, as routing sees them.
    pub(super) fn pool_facts(&self) -> Vec<PoolFacts> {
        // The file's limits, not an override's: a drained fleet will have its bots back, so tasks
        // that wait are not unsuitable.
        let most = self.config.bot_limits.max_bots.max(self.limits.max);
        self.config
            .bots
            .iter()
            .map(|pool| PoolFacts::of(pool, most))
            .chain(self.external_facts())
            .collect()
    }

    /// The specification a bot shall be started with; `None` when its pool is gone.
    pub(super) fn current_spec(&self, id: &str) -> Option<Arc<Pool>> {
        let name = &self.bots.get(id)?.spec.name;
        let pool = self.config.bots.iter().find(|pool| pool.name == *name)?;
        Some(Arc::new(pool.clone()))
    }

    /// Starts and stops bots so that the fleet is what the limits ask for.
    pub(super) fn apply_plan(&mut self) {
        self.condition_stale = true;
        if self.phase != Phase::Running {
            return;
        }
        let counts = self.planned();
        let config = self.config.clone();
        let before = self.wanted_count();
        let mut order = Vec::new();
        let mut wanted = BTreeSet::new();
        for (pool, numbers) in config.bots.iter().zip(self.picked(&counts)) {
            let spec = Arc::new(pool.clone());
            for n in numbers {
                let id: Arc<str> = pool.bot_id(n).into();
                wanted.insert(id.clone());
                order.push(id.clone());
                let (held, wall) = (self.held.contains(&*id), self.wall());
                self.bots.entry(id).or_insert_with(|| {
                    let mut entry = BotEntry::new(spec.clone(), wall);
                    entry.held = held;
                    entry
                });
            }
        }
        let others: Vec<Arc<str>> = self
            .bots
            .keys()
            .filter(|id| !wanted.contains(*id))
            .cloned()
            .collect();
        self.order = order;
        self.order.extend(others.iter().cloned());
        for id in &others {
            if let Some(entry) = self.bots.get_mut(id) {
                entry.retired = true;
            }
            self.bot_event(id, Event::Stop(Drain::Unbounded));
            self.forget_if_stopped(id);
        }
        for id in wanted {
            let Some(entry) = self.bots.get_mut(&id) else {
                continue;
            };
            entry.retired = false;
            if !entry.held && entry.machine.wanted() == Wanted::Stopped {
                self.bot_event(&id, Event::Run);
            }
        }
        self.log_scaling(before);
        self.roll();
    }

    fn forget_if_stopped(&mut self, id: &Arc<str>) {
        let stopped = |entry: &BotEntry| entry.machine.actual() == Actual::Stopped;
        if self.bots.get(id).is_some_and(stopped) {
            self.bots.remove(id);
            self.order.retain(|other| other != id);
            // It is no bot any more: should there be one of its name again, nobody has stopped that one.
            if let Some(stops) = self.set_held(id, false) {
                self.edge.begin(Job::KeepStops(stops));
            }
        }
    }

    fn log_scaling(&mut self, before: u32) {
        let after = self.wanted_count();
        let reason = self.reason_of_plan();
        if after > before {
            self.last_scale_up = Some(self.wall());
            tracing::info!(
                event = "scaled_up",
                from = before,
                to = after,
                reason,
                "the fleet grows"
            );
            self.record_scaling(before, after, &reason);
        } else if after < before {
            self.last_scale_down = Some(self.wall());
            tracing::info!(
                event = "scaled_down",
                from = before,
                to = after,
                reason,
                "the fleet shrinks"
            );
            self.record_scaling(before, after, &reason);
        }
    }

    /// Bots that shall run.
    fn wanted_count(&self) -> u32 {
        let wanted = |entry: &&BotEntry| entry.machine.wanted() == Wanted::Running;
        u32::try_from(self.bots.values().filter(wanted).count()).unwrap_or(u32::MAX)
    }

    /// Bots with a process, or about to have one.
    pub(super) fn active_count(&self) -> u32 {
        let n = self
            .bots
            .values()
            .filter(|entry| Self::is_active(entry))
            .count();
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    /// Gives bots of a changed pool their new specification: one at a time in each pool, each
    /// after it has finished what it has.
    pub(super) fn roll(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let now = self.now();
        // One that has nothing to do goes first; where all work, one finishes and goes.
        let mut next: BTreeMap<&str, (bool, &Arc<str>)> = BTreeMap::new();
        let mut busy: Vec<&str> = Vec::new();
        for (id, entry) in &self.bots {
            let pool = entry.spec.name.as_str();
            match entry.machine.actual() {
                Actual::Ready | Actual::Busy if entry.must_be_rolled(now) => {
                    let works = entry.machine.actual() == Actual::Busy;
                    let known = next.get(pool).is_some_and(|(busy, _)| *busy <= works);
                    if !known {
                        next.insert(pool, (works, id));
                    }
                }
                Actual::Draining | Actual::Stopping | Actual::Starting => busy.push(pool),
                _ => {}
            }
        }
        let ids: Vec<Arc<str>> = next
            .into_iter()
            .filter(|(pool, _)| !busy.contains(pool))
            .map(|(_, (_, id))| id.clone())
            .collect();
        for id in ids {
            tracing::info!(event = "bot_rolled", bot_id = %id, "the bot's pool has changed: it is started anew once it has finished what it has");
            self.bot_event(&id, Event::Bounce);
        }
    }

    /// A new configuration, whole.
    pub(super) fn configure(&mut self, config: Arc<Config>) {
        let audited = self.audits();
        let old = std::mem::replace(&mut self.config, config);
        self.record_switch(audited);
        let limits_changed = old.bot_limits.min_bots != self.config.bot_limits.min_bots
            || old.bot_limits.max_bots != self.config.bot_limits.max_bots;
        if limits_changed && self.overriding.current.is_some() {
            self.override_ended();
        }
        self.limits = self.limits_by_rule();
        self.dispatcher.configure(self.pool_facts());
        let poison_after = self.config.supervision.poison_after;
        self.dispatcher.suspect_after(poison_after);
        self.configure_servers();
        let slots_changed = old.bot_limits.max_concurrent_tasks_per_bot
            != self.config.bot_limits.max_concurrent_tasks_per_bot;
        let supervision_changed = old.supervision != self.config.supervision;
        let config = self.config.clone();
        let closed = self.closed_to_bots();
        for entry in self.bots.values_mut() {
            let Some(pool) = config.bots.iter().find(|pool| pool.name == entry.spec.name) else {
                continue;
            };
            entry.outdated |= !same_process(&entry.spec, pool)
                || (slots_changed && pool.max_concurrent_tasks.is_none())
                || supervision_changed
                // A new secret, of whichever pool, is open to nobody who was started before it.
                || entry.session.is_some() && !closed.iter().all(|path| entry.closed.contains(path));
            if !entry.outdated {
                entry.spec = Arc::new(pool.clone());
            }
        }
        self.external_configured();
        self.rearm_scaling(&old);
        self.configure_learning();
        // Bots of pools that routing had forgotten and that are still there.
        for id in self.order.clone() {
            if let Some(entry) = self
                .bots
                .get(&id)
                .filter(|entry| entry.machine.takes_tasks() && entry.is_at_work())
            {
                let (pool, slots) = (entry.spec.name.clone(), entry.terms.slots);
                self.dispatcher.open(&id, &pool, slots);
            }
        }
        self.apply_plan();
    }

    /// The limits that are in force now: none while the fleet waits, else an operator's, else the file's.
    pub(super) fn limits_by_rule(&self) -> Limits {
        match (self.hold, &self.overriding.current) {
            (Some(_), _) => Limits::new(0, 0),
            (None, Some(wanted)) => Limits::new(wanted.min_bots, wanted.max_bots),
            (None, None) => Limits::of(&self.config.bot_limits),
        }
    }

    /// The fleet waits for something.
    pub(super) fn hold_back(&mut self, why: &'static str) {
        self.hold = Some(why);
        self.limits = self.limits_by_rule();
        self.dispatcher.configure(self.pool_facts());
        self.apply_plan();
    }

    /// What the fleet waited for is over.
    pub(super) fn unhold(&mut self) {
        if self.hold.take().is_some() {
            self.limits = self.limits_by_rule();
            self.dispatcher.configure(self.pool_facts());
            self.apply_plan();
        }
    }

    /// Why nothing new is taken, where it is so.
    pub(super) fn refusing(&self) -> Option<&'static str> {
        if self.is_stopping() {
            return Some(if self.goes_on {
                "a backup is being restored"
            } else {
                "the daemon is stopping"
            });
        }
        if self.hold.is_some() {
            return self.hold;
        }
        (self.limits.max == 0)
            .then_some("max_bots is 0 (drained): `deiactl resume` takes tasks again")
    }

    /// What an operator asks of one bot; answered once what has to outlive the daemon is on disk.
    pub(super) fn act_on_bot(
        &mut self,
        id: &str,
        act: BotAct,
        reply: Reply<Result<Option<BotActionAnswer>, Refused>>,
    ) {
        if let Some(refused) = self.too_many_unrecorded() {
            let _ = reply.send(Err(refused));
            return;
        }
        let mut to_keep = None;
        let answer = match self.act_on_external(id, act) {
            None => self.do_with_bot(id, act, &mut to_keep),
            answer => answer,
        };
        if let Some(answer) = &answer {
            let action = match act {
                BotAct::Start => AuditAction::BotStarted,
                BotAct::Stop => AuditAction::BotStopped,
                BotAct::Restart => AuditAction::BotRestarted,
                BotAct::Interrupt => AuditAction::BotInterrupted,
            };
            let entry = self.entry(action, id);
            self.put_on_record(match answer.success {
                true => entry,
                false => entry.failed(&answer.message),
            });
        }
        self.answer_on_record(move |engine, recorded| {
            let answer = recorded.map(|_| answer);
            match to_keep {
                // Whoever asked may be gone.
                None => drop(reply.send(answer)),
                Some(stops) => engine.edge.begin(Job::KeepStops(Stops {
                    then: Some((reply, answer)),
                    ..stops
                })),
            }
        });
    }

    fn do_with_bot(
        &mut self,
        id: &str,
        act: BotAct,
        to_keep: &mut Option<Stops>,
    ) -> Option<BotActionAnswer> {
        let (id, entry) = self.bots.get_key_value(id)?;
        let id = id.clone();
        let tasks: Vec<_> = entry.tasks.keys().cloned().collect();
        let stopping = self.is_stopping();
        let retired = entry.retired;
        let (success, message) = match act {
            _ if stopping => (false, "the daemon is stopping".to_owned()),
            BotAct::Start | BotAct::Restart if retired => (
                false,
                "it is beyond the limits and on its way out: `deiactl scale` first".to_owned(),
            ),
            BotAct::Interrupt => {
                let told = self.interrupt(&tasks);
                (
                    true,
                    format!("{told} running tasks were interrupted and are queued again"),
                )
            }
            BotAct::Stop => {
                *to_keep = self.set_held(&id, true);
                self.bot_event(&id, Event::Stop(Drain::Unbounded));
                (
                    true,
                    "it finishes what it has and stops until it is started again".to_owned(),
                )
            }
            BotAct::Start if self.limits.max == 0 => {
                (false, "max_bots is 0: `deiactl resume` first".to_owned())
            }
            BotAct::Start => {
                *to_keep = self.set_held(&id, false);
                self.bot_event(&id, Event::Run);
                (true, "it runs or is being started".to_owned())
            }
            BotAct::Restart if self.limits.max == 0 => {
                (false, "max_bots is 0: `deiactl resume` first".to_owned())
            }
            BotAct::Restart => {
                *to_keep = self.set_held(&id, false);
                self.bot_event(&id, Event::Bounce);
                (
                    true,
                    "it finishes what it has and is started anew".to_owned(),
                )
            }
        };
        let actual = self
            .bots
            .get(&id)
            .map_or(Actual::Stopped, |entry| entry.machine.actual());
        Some(BotActionAnswer {
            success,
            bot_id: id.to_string(),
            actual,
            message,
        })
    }

    /// An operator's stop of a bot holds, also for the next daemon, until it is started again.
    /// Returns what is to go to the disk for that.
    fn set_held(&mut self, id: &str, held: bool) -> Option<Stops> {
        if let Some(entry) = self.bots.get_mut(id) {
            entry.held = held;
        }
        let changed = match held {
            true => self.held.insert(id.to_owned()),
            false => self.held.remove(id),
        };
        if !changed {
            return None;
        }
        self.held_turn += 1;
        Some(Stops {
            bots: self.held.clone(),
            turn: self.held_turn,
            then: None,
        })
    }

    /// Bots that an operator stopped before the daemon was started.
    pub(super) fn load_held(&mut self) {
        match self.edge.kept_stops() {
            Ok(held) => self.held = held,
            Err(e) => {
                let path = self.home.held_bots();
                tracing::error!(event = "stopped_bots_unreadable", error = %e, path = %path.display(), "which bots were stopped by hand could not be read; they are started");
            }
        }
    }

    /// Keeps what bots print and what tasks leave on disk within bounds.
    pub(super) fn tend_files(&mut self) {
        let bots = self.bots.keys();
        let outputs = bots.map(|id| self.home.bot_output(id)).collect();
        let running = self.in_flight.keys().map(ToString::to_string).collect();
        let config = self.config.clone();
        self.edge.begin(Job::Tend(Tending {
            outputs,
            running,
            config,
        }));
    }
}

/// Whether a process started as one serves as the other: only the numbers of bots differ.
fn same_process(a: &Pool, b: &Pool) -> bool {
    let mut a = a.clone();
    a.min = b.min;
    a.max = b.max;
    a.bot_type = b.bot_type;
    a.specializations.clone_from(&b.specializations);
    a.request_validation = b.request_validation;
    a == *b
}
