//! Scaling's place in the main loop: what it is shown, when it is asked, what is done about it.
//!
//! ```text
//!   timer, request --> the host is looked at, elsewhere --> evaluate --.
//!   tasks begin to wait that no bot takes ----------------> look ------+--> wanted --> apply_plan
//!   an operator ------------------------------------------> by hand ---'
//! ```

mod figures;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use deia::api::{
    AuditAction, AuditResult, EvaluateAnswer, EvaluateRequest, ScalingAction, ScalingEvaluation,
    ScalingTrigger,
};
use deia::config::{Config, Pool, bot_number};
use deia::mask;
use serde_json::json;

use self::figures::{Gauges, shown, standing};
use super::bots::BotEntry;
use super::edge::Job;
use super::timers::Timer;
use super::{Engine, Phase};
use crate::audit::Actor;
use crate::brain::Millis;
use crate::brain::pick::{Standing, pick};
use crate::brain::plan::plan;
use crate::brain::scale::{Evaluation, Figures, Host, Inputs, PoolFigures, Scaler, Setting};
use crate::daemon::command::{ByHand, Refused, Reply};

/// What a request says nothing about, as in the original.
const LOAD_IF_NOT_GIVEN: f64 = 0.5;

/// Pools one line of the log has figures of; the API has all.
const MAX_LOGGED_POOLS: usize = 16;

/// Everything the main loop knows of scaling.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    scaler: Scaler,
    gauges: Gauges,
    /// Of the newest timer, which alone counts.
    number: u64,
    /// Tasks may wait that no bot can take: some began to, or the plan has changed.
    look: bool,
    /// Why the next change of the plan comes.
    reason: Option<String>,
    pub last: Option<ScalingEvaluation>,
}

impl Scaling {
    /// A bot has so many tasks now.
    pub fn tasks_changed(&mut self, bot: &Arc<str>, tasks: u32, now: Millis) {
        self.gauges.set(bot, tasks, now);
    }
}

/// The host was looked at.
#[derive(Debug)]
pub(super) struct HostSampled {
    pub host: Host,
    pub asked: Question,
}

/// What for.
#[derive(Debug)]
pub(super) enum Question {
    /// The interval is over.
    Interval,
    /// Somebody wants to know.
    Evaluate(
        EvaluateRequest,
        Actor,
        Reply<Result<EvaluateAnswer, Refused>>,
    ),
}

impl Engine {
    /// Bots that are there already are kept until they have been idle for long enough; the host's
    /// counters are read, because CPU is a difference between two looks.
    pub(super) fn begin_scaling(&mut self) {
        let there = |pool: &Pool| {
            let of_pool = |entry: &&BotEntry| entry.spec.name == pool.name && !entry.retired;
            let n = self.bots.values().filter(of_pool).count();
            u32::try_from(n).unwrap_or(u32::MAX)
        };
        let counts: Vec<u32> = self.config.bots.iter().map(there).collect();
        self.scaling.scaler.settle(&self.config.bots, &counts);
        self.scaling.gauges.begin(self.now());
        self.scaling.reason = Some("the daemon starts".into());
        self.edge.begin(Job::LookAtHost(None));
        self.arm_scaling();
    }

    /// The next evaluation, if scaling is on.
    fn arm_scaling(&mut self) {
        self.scaling.number += 1;
        if self.config.feature_flags.auto_scaling_enabled {
            let seconds = self.config.timeouts.scaling_evaluation_interval_seconds;
            let at = self.now().saturating_add(seconds.saturating_mul(1000));
            self.timers.at(at, Timer::Scaling(self.scaling.number));
        }
    }

    /// A new configuration: its interval counts from now, where it is another one.
    pub(super) fn rearm_scaling(&mut self, old: &Config) {
        let interval = |config: &Config| {
            let on = config.feature_flags.auto_scaling_enabled;
            on.then_some(config.timeouts.scaling_evaluation_interval_seconds)
        };
        if interval(old) != interval(&self.config) {
            self.arm_scaling();
        }
    }

    pub(super) fn scaling_due(&mut self, number: u64) {
        if number == self.scaling.number && self.phase == Phase::Running {
            self.arm_scaling();
            self.edge.begin(Job::LookAtHost(Some(Question::Interval)));
        }
    }

    /// `POST /api/scaling/evaluate`.
    pub(super) fn evaluate_scaling(
        &mut self,
        request: EvaluateRequest,
        reply: Reply<Result<EvaluateAnswer, Refused>>,
    ) {
        let asked = Question::Evaluate(request, self.actor.clone(), reply);
        self.edge.begin(Job::LookAtHost(Some(asked)));
    }

    pub(super) fn host_sampled(&mut self, sampled: HostSampled) {
        let HostSampled { host, asked } = sampled;
        match asked {
            Question::Interval => {
                self.evaluate(ScalingTrigger::Timer, host);
            }
            Question::Evaluate(request, actor, reply) => {
                self.acting(actor, |engine| engine.evaluate_for(request, host, reply));
            }
        }
    }

    fn evaluate_for(
        &mut self,
        request: EvaluateRequest,
        host: Host,
        reply: Reply<Result<EvaluateAnswer, Refused>>,
    ) {
        let evaluation = match request == EvaluateRequest::default() {
            true => self.evaluate(ScalingTrigger::Request, host),
            false => self.what_if(request, host),
        };
        let done = evaluation.trigger == ScalingTrigger::Request;
        let answer = EvaluateAnswer {
            timestamp: self.wall(),
            action_taken: evaluation.decision.filter(|_| done),
            current_bot_count: self.active_count(),
            scaling_status: self.scaling_status(),
            evaluation,
        };
        // What it came to was put on record with the plan.
        self.answer_on_record(move |_, recorded| {
            let _ = reply.send(recorded.map(|_| answer));
        });
    }

    /// Looks at everything, and does what comes of it.
    fn evaluate(&mut self, trigger: ScalingTrigger, host: Host) -> ScalingEvaluation {
        let (now, inputs) = (self.now(), self.scaling_inputs(host));
        let evaluation = match self.scaling_rests() {
            Some(why) => Evaluation::nothing(why),
            None => {
                let config = self.config.clone();
                let setting = self.setting(&config);
                self.scaling.scaler.evaluate(setting, &inputs, now)
            }
        };
        self.scaling.gauges.begin(now);
        self.conclude_scaling(trigger, &inputs, evaluation)
    }

    /// What scaling would decide for a caller's figures. Nothing is done and nothing remembered.
    fn what_if(&self, request: EvaluateRequest, host: Host) -> ScalingEvaluation {
        let inputs = self.scaling_inputs(host);
        let figures = Figures {
            load: request.current_load.unwrap_or(LOAD_IF_NOT_GIVEN),
            waiting: request.queue_size.unwrap_or(0),
            bot_load: request.avg_bot_load.unwrap_or(0.0),
            bots: inputs.pools.iter().map(PoolFigures::supply).sum(),
        };
        let rules = &self.config.scaling;
        let scaler = &self.scaling.scaler;
        let mut evaluation = scaler.what_if(figures, self.limits, rules, host, self.now());
        evaluation.pools.clear();
        let mut shown = shown(ScalingTrigger::Figures, &inputs, evaluation, &self.config);
        (shown.load, shown.waiting) = (figures.load, figures.waiting);
        shown.oldest_seconds = 0.0;
        shown
    }

    /// After each turn: whether tasks have begun to wait that no bot takes. They are not kept
    /// waiting for the next evaluation.
    pub(super) fn look_for_unserved(&mut self) {
        self.scaling.look |= self.dispatcher.begins_unserved(self.edge.wall());
        // While scaling rests it is not forgotten that there is something to look at.
        if !self.scaling.look || self.scaling_rests().is_some() {
            return;
        }
        self.scaling.look = false;
        let (now, inputs) = (self.now(), self.scaling_inputs(Host::default()));
        let config = self.config.clone();
        let setting = self.setting(&config);
        if let Some(evaluation) = self.scaling.scaler.look(setting, &inputs, now) {
            self.conclude_scaling(ScalingTrigger::Waiting, &inputs, evaluation);
        }
    }

    /// The same, and it is on record.
    pub(super) fn scale_on_record(
        &mut self,
        pool: Option<&str>,
        change: i64,
        reply: Reply<Result<ByHand, Refused>>,
    ) {
        if let Some(refused) = self.too_many_unrecorded() {
            let _ = reply.send(Err(refused));
            return;
        }
        let done = match self.scale_by_hand(pool, change) {
            Ok(done) => done,
            Err(refused) => {
                let _ = reply.send(Err(refused));
                return;
            }
        };
        let action = match change > 0 {
            true => AuditAction::ScaleUp,
            false => AuditAction::ScaleDown,
        };
        let asked = change.unsigned_abs();
        let details = json!({"asked": asked, "bots": done.bots, "total": done.total});
        let entry = self.entry(action, pool.unwrap_or("fleet")).with(&details);
        self.put_on_record(match (done.bots.len() as u64, &done.short) {
            (0, short) => entry.failed(short.as_deref().unwrap_or("there was nothing to do")),
            (n, Some(short)) if n < asked => {
                let entry = entry.failed(short);
                entry.with_result(AuditResult::Partial)
            }
            _ => entry,
        });
        self.answer_on_record(move |_, recorded| {
            let _ = reply.send(recorded.map(|_| done));
        });
    }

    /// `POST /api/scaling/scale-up` and `/scale-down`: so many bots more, or fewer.
    pub(super) fn scale_by_hand(
        &mut self,
        pool: Option<&str>,
        change: i64,
    ) -> Result<ByHand, Refused> {
        let config = self.config.clone();
        let position = |name: &str| config.bots.iter().position(|pool| pool.name == name);
        let pool = match pool {
            None => None,
            Some(name) => match position(name) {
                None => return Err(Refused::UnknownPool(name.to_owned())),
                some => some,
            },
        };
        let before = self.wanted_bots();
        if let Some(why) = self.refusing() {
            return Ok(ByHand {
                bots: Vec::new(),
                total: before.len(),
                short: Some(why.to_owned()),
            });
        }
        let (now, inputs) = (self.now(), self.scaling_inputs(Host::default()));
        let setting = self.setting(&config);
        let scaler = &mut self.scaling.scaler;
        let (evaluation, short) = scaler.by_hand(setting, &inputs, pool, change, now);
        self.conclude_scaling(ScalingTrigger::ByHand, &inputs, evaluation);
        let after = self.wanted_bots();
        let changed = match change > 0 {
            true => after.difference(&before),
            false => before.difference(&after),
        };
        Ok(ByHand {
            bots: changed.map(ToString::to_string).collect(),
            total: after.len(),
            short,
        })
    }

    /// Carries out a decision, shows and logs it.
    fn conclude_scaling(
        &mut self,
        trigger: ScalingTrigger,
        inputs: &Inputs,
        evaluation: Evaluation,
    ) -> ScalingEvaluation {
        let shown = shown(trigger, inputs, evaluation, &self.config);
        self.log_evaluation(&shown);
        self.scaling.last = Some(shown.clone());
        if shown.decision.is_some() {
            self.scaling.reason = Some(shown.reason.clone());
            self.apply_plan();
        }
        shown
    }

    fn log_evaluation(&self, evaluation: &ScalingEvaluation) {
        let mut pools: Vec<String> = evaluation
            .pools
            .iter()
            .take(MAX_LOGGED_POOLS)
            .map(|pool| {
                format!(
                    "{}: {} wanted, {} working, {} starting, {} failing, {} held, {} leaving, load {:.2}",
                    mask::mask(&pool.name),
                    pool.to,
                    pool.working,
                    pool.starting,
                    pool.failing,
                    pool.held,
                    pool.leaving,
                    pool.load
                )
            })
            .collect();
        if evaluation.pools.len() > MAX_LOGGED_POOLS {
            pools.push(format!(
                "and {} more",
                evaluation.pools.len() - MAX_LOGGED_POOLS
            ));
        }
        tracing::info!(
            event = "scaling_evaluation",
            trigger = evaluation.trigger.as_str(),
            decision = evaluation.decision.map_or("none", ScalingAction::as_str),
            reason = self.for_the_log(&evaluation.reason),
            waiting = evaluation.waiting,
            oldest_seconds = evaluation.oldest_seconds,
            load = evaluation.load,
            cpu = evaluation.cpu,
            memory = evaluation.memory,
            min_bots = self.limits.min,
            max_bots = self.limits.max,
            pools = pools.join("; "),
            "scaling was evaluated"
        );
    }

    /// A reason with the names of pools as they may stand in a log, so that not all of it is masked.
    fn for_the_log(&self, reason: &str) -> String {
        let names = self.config.bots.iter().map(|pool| pool.name.as_str());
        names
            .filter(|name| mask::is_forbidden(name))
            .fold(reason.to_owned(), |text, name| {
                text.replace(name, &mask::digest(name))
            })
    }

    /// Why no evaluation changes anything, where it is so.
    fn scaling_rests(&self) -> Option<&'static str> {
        if let Some(why) = self.refusing() {
            return Some(why);
        }
        if !self.config.feature_flags.auto_scaling_enabled {
            return Some("feature_flags.auto_scaling_enabled is false");
        }
        (self.store_fault.is_some())
            .then_some("the store takes no writes: more bots would not help")
    }

    fn setting<'a>(&self, config: &'a Config) -> Setting<'a> {
        Setting {
            pools: &config.bots,
            limits: self.limits,
            no_growth: self.without.growth,
            none_ahead: self.without.ahead,
            rules: &config.scaling,
        }
    }

    /// How many bots each pool gets: what scaling wants, within the limits.
    pub(super) fn planned(&mut self) -> Vec<u32> {
        let pools = &self.config.bots;
        let counts = plan(pools, self.limits, &self.scaling.scaler.wanted(pools));
        self.scaling.scaler.settle(pools, &counts);
        self.scaling.look = true;
        counts
    }

    /// The numbers of each pool's bots: as many as planned, and those that are there first.
    pub(super) fn picked(&self, counts: &[u32]) -> Vec<BTreeSet<u32>> {
        let mut there: HashMap<&str, Vec<(u32, Standing)>> = HashMap::new();
        for (id, entry) in &self.bots {
            let pool = entry.spec.name.as_str();
            if let Some(n) = bot_number(pool, id) {
                there.entry(pool).or_default().push((n, standing(entry)));
            }
        }
        let asked = self.dispatcher.asked_for();
        let pools = self.config.bots.iter().zip(self.pool_facts());
        pools
            .zip(counts)
            .map(|((pool, facts), count)| {
                let bots = there.get(pool.name.as_str()).map_or(&[][..], Vec::as_slice);
                let named = asked.iter().filter_map(|bot| bot_number(&pool.name, bot));
                pick(*count, facts.most_bots, bots, &named.collect())
            })
            .collect()
    }

    /// The bots the fleet shall have.
    fn wanted_bots(&self) -> BTreeSet<Arc<str>> {
        let wanted = self.bots.iter().filter(|(_, entry)| !entry.retired);
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// Why the plan changes now; asked for once.
    pub(super) fn reason_of_plan(&mut self) -> String {
        let reason = self.scaling.reason.take();
        let reason = reason.unwrap_or_else(|| "the limits or the pools have changed".into());
        self.for_the_log(&reason)
    }
}
