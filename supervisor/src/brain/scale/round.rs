//! One evaluation: from the figures and what is remembered to each pool's number.

use deia::config::Pool;

use super::pressure::Pressure;
use super::words::{self, Direction, Hold, PoolDecision, Why};
use super::{
    BOT_LOAD_UP, Backlog, Evaluation, Inputs, LOAD_DOWN, LOAD_UP, MAX_PATIENCE, Memory,
    PoolFigures, Setting,
};
use crate::brain::plan::{ceiling, plan};
use crate::brain::scale::Asked;
use crate::brain::{Millis, millis};

/// A pool during an evaluation.
#[derive(Debug)]
pub(super) struct Draft {
    pub memory: Memory,
    pub before: u32,
    pub count: u32,
    pub why: Option<Why>,
    pub hold: Option<Hold>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Round<'a> {
    setting: Setting<'a>,
    inputs: &'a Inputs,
    now: Millis,
    pub pressure: Pressure,
    pub drafts: Vec<Draft>,
    /// The sum of their counts.
    total: u32,
}

impl<'a> Round<'a> {
    pub fn new(
        setting: Setting<'a>,
        inputs: &'a Inputs,
        now: Millis,
        counts: Vec<u32>,
        memory: Vec<Memory>,
    ) -> Self {
        let total = counts.iter().sum();
        let drafts = counts.into_iter().zip(memory);
        Self {
            total,
            setting,
            inputs,
            now,
            pressure: Pressure::of(inputs),
            drafts: drafts
                .map(|(count, memory)| Draft {
                    memory,
                    before: count,
                    count,
                    why: None,
                    hold: None,
                })
                .collect(),
        }
    }

    pub fn is_change(&self) -> bool {
        self.drafts.iter().any(|draft| draft.count != draft.before)
    }

    /// A bot for every task that none can take.
    pub fn first_bots(&mut self) {
        let mut hopeless = 0;
        while let Some((pools, waiting)) = self.pressure.unserved().into_iter().nth(hopeless) {
            let why = Why::FirstBot { waiting };
            match self.first_that_can(&pools) {
                Some(pool) => self.add(pool, why),
                None => hopeless += 1,
            }
        }
    }

    /// The first of these pools that may have a bot now; one may give way to it.
    fn first_that_can(&mut self, pools: &[usize]) -> Option<usize> {
        let mut crowded = None;
        for pool in pools.iter().copied() {
            // Whoever stopped the only bot by hand wants a moment's peace: the pool waits as long as
            // one with a bot that works.
            if self.figures(pool).held > 0 && self.pressure.supply(pool) == 0 {
                continue;
            }
            match self.failing(pool).and_then(|()| self.room(pool)) {
                Ok(()) => return Some(pool),
                Err(hold) => {
                    if matches!(hold, Hold::FleetMax(_)) {
                        crowded = crowded.or(Some(pool));
                    }
                    self.drafts[pool].hold = Some(hold);
                }
            }
        }
        let pool = crowded?;
        let giver = self.giver(pool)?;
        let to = self.pool(pool).name.clone();
        self.remove(giver, Why::GivesWay { to });
        Some(pool)
    }

    /// A pool that can spare a bot for this one: an idle one first, then the largest.
    fn giver(&self, to: usize) -> Option<usize> {
        (0..self.drafts.len())
            .filter(|pool| *pool != to && self.drafts[*pool].count == self.drafts[*pool].before)
            .filter(|pool| {
                let idle = self.figures(*pool).busy == 0 && !self.is_waited_for(*pool);
                let more = self.drafts[*pool].count > 1;
                (more || idle && self.drafts[*pool].count == 1)
                    && self
                        .since_step(*pool, self.setting.rules.down_cooldown_seconds)
                        .is_ok()
                    && self.is_plan(&[(*pool, -1), (to, 1)])
            })
            .max_by_key(|pool| {
                let idle = self.figures(*pool).busy == 0 && !self.is_waited_for(*pool);
                (idle, self.drafts[*pool].count, *pool)
            })
    }

    /// Bots for what waits, and for what soon would.
    pub fn grow(&mut self) {
        self.grow_by_queue();
        let rules = self.setting.rules;
        for pool in 0..self.drafts.len() {
            let seconds = self.pressure.oldest_seconds(pool);
            if seconds >= rules.oldest_seconds && self.is_settled(pool) {
                let rule = rules.oldest_seconds;
                self.try_to_add(pool, Why::Oldest { seconds, rule });
            }
        }
        if !self.setting.none_ahead {
            self.grow_by_load();
        }
    }

    /// One bot for every pool that has had too much to do for long enough, before tasks have to wait.
    fn grow_by_load(&mut self) {
        let (now, fleet) = (self.now, self.inputs.load);
        for pool in 0..self.drafts.len() {
            let load = self.figures(pool).load;
            if fleet <= LOAD_UP || load <= BOT_LOAD_UP || self.pressure.supply(pool) == 0 {
                self.drafts[pool].memory.busy_since = None;
                continue;
            }
            let since = *self.drafts[pool].memory.busy_since.get_or_insert(now);
            // What a minute brings says little: without this, chance alone fills the fleet.
            let lasts = now.saturating_sub(since) >= millis(self.setting.rules.idle_seconds);
            if lasts && self.is_settled(pool) {
                self.try_to_add(pool, Why::Load { load, fleet });
            }
        }
    }

    /// One bot after the other to where most tasks wait for each.
    fn grow_by_queue(&mut self) {
        let rule = self.setting.rules.queue_per_bot;
        loop {
            let pressed = (0..self.drafts.len())
                .filter(|pool| self.drafts[*pool].hold.is_none() && self.may_step(*pool))
                .map(|pool| (pool, self.pressure.per_bot(pool)))
                .filter(|(_, per_bot)| *per_bot >= rule)
                // The first of equals.
                .max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)));
            let Some((pool, _)) = pressed else {
                return;
            };
            let why = Why::Queue {
                waiting: self.pressure.left(pool),
                bots: self.pressure.supply(pool),
                rule,
            };
            self.try_to_add(pool, why);
        }
    }

    /// A pool at most doubles.
    fn may_step(&self, pool: usize) -> bool {
        let draft = &self.drafts[pool];
        draft.count.saturating_sub(draft.before) < self.figures(pool).supply().max(1)
    }

    /// Nothing was decided about the pool so far.
    fn is_settled(&self, pool: usize) -> bool {
        let draft = &self.drafts[pool];
        draft.count == draft.before && draft.hold.is_none()
    }

    /// A bot for the pool, or why not.
    fn try_to_add(&mut self, pool: usize, why: Why) {
        match self.may_grow(pool) {
            Ok(()) => self.add(pool, why),
            Err(hold) => self.drafts[pool].hold = Some(hold),
        }
    }

    pub fn add(&mut self, pool: usize, why: Why) {
        let draft = &mut self.drafts[pool];
        draft.count += 1;
        draft.why.get_or_insert(why);
        draft.hold = None;
        self.total += 1;
        self.pressure.add(pool);
    }

    pub fn remove(&mut self, pool: usize, why: Why) {
        self.drafts[pool].count -= 1;
        self.drafts[pool].why = Some(why);
        self.total -= 1;
    }

    fn may_grow(&self, pool: usize) -> Result<(), Hold> {
        self.room(pool)?;
        if self.setting.no_growth {
            return Err(Hold::Degraded);
        }
        self.failing(pool)?;
        if self.figures(pool).server_full {
            return Err(Hold::Server);
        }
        // Several bots of one evaluation are one step.
        self.since_step(pool, self.setting.rules.up_cooldown_seconds)?;
        self.host()
    }

    pub fn room(&self, pool: usize) -> Result<(), Hold> {
        let limits = self.setting.limits;
        let most = ceiling(self.pool(pool), limits);
        if self.drafts[pool].count >= most && most < limits.max {
            return Err(Hold::PoolMax(most));
        }
        if self.total >= limits.max {
            return Err(Hold::FleetMax(limits.max));
        }
        Ok(())
    }

    /// A pool of whose bots half fail is not made larger: the new ones would most likely fail too.
    fn failing(&self, pool: usize) -> Result<(), Hold> {
        let (failing, supply) = (self.figures(pool).failing, self.pressure.supply(pool));
        if failing > 0 && failing >= supply {
            let bots = failing + supply;
            return Err(Hold::Failing { failing, bots });
        }
        Ok(())
    }

    fn host(&self) -> Result<(), Hold> {
        let (host, rules) = (self.inputs.host, self.setting.rules);
        // A host can't be over 1: that is no bound.
        let over = |used: Option<f64>, rule: f64| used.filter(|used| *used >= rule && rule < 1.0);
        if let Some(used) = over(host.memory, rules.max_memory) {
            let rule = rules.max_memory;
            return Err(Hold::Memory { used, rule });
        }
        if let Some(used) = over(host.cpu, rules.max_cpu) {
            let rule = rules.max_cpu;
            return Err(Hold::Cpu { used, rule });
        }
        Ok(())
    }

    /// Whether the pool's last step, in whatever direction, is so long ago.
    fn since_step(&self, pool: usize, cooldown_seconds: f64) -> Result<(), Hold> {
        let memory = &self.drafts[pool].memory;
        let Some(last) = memory.up.max(memory.down) else {
            return Ok(());
        };
        let over = last.saturating_add(millis(cooldown_seconds));
        if self.now < over {
            let seconds = (over - self.now) as f64 / 1000.0;
            return Err(Hold::Cooldown { seconds });
        }
        Ok(())
    }

    /// One bot less for every pool that has had one too many for long enough; where the fleet's minimum
    /// lets only some go, those of the last pools.
    pub fn shrink(&mut self) {
        for pool in (0..self.drafts.len()).rev() {
            if self.drafts[pool].count != self.drafts[pool].before || !self.is_quiet(pool) {
                self.drafts[pool].memory.idle_since = None;
                continue;
            }
            let now = self.now;
            let since = *self.drafts[pool].memory.idle_since.get_or_insert(now);
            let idle = now.saturating_sub(since);
            match self.may_shrink(pool, idle) {
                Ok(()) => {
                    let seconds = idle as f64 / 1000.0;
                    self.remove(pool, Why::Idle { seconds });
                    self.drafts[pool].memory.let_go = Some(now);
                    // The last bot goes by a stricter rule, which has not been looked at so far.
                    if self.figures(pool).supply() == 2 {
                        self.drafts[pool].memory.idle_since = None;
                    }
                }
                Err(hold) if self.drafts[pool].hold.is_none() => self.drafts[pool].hold = hold,
                Err(_) => {}
            }
        }
    }

    fn may_shrink(&self, pool: usize, idle: Millis) -> Result<(), Option<Hold>> {
        let Draft { memory, count, .. } = &self.drafts[pool];
        if *count == 0 || !self.is_plan(&[(pool, -1)]) {
            return Err(None);
        }
        let wait = memory.idle(self.setting.rules);
        if idle < wait {
            let (seconds, rule) = (idle as f64 / 1000.0, wait as f64 / 1000.0);
            return Err(Some(Hold::NotIdleYet { seconds, rule }));
        }
        self.since_step(pool, self.setting.rules.down_cooldown_seconds)
            .map_err(Some)
    }

    /// Nothing waits, and the pool has a bot more than its work needs.
    fn is_quiet(&self, pool: usize) -> bool {
        let figures = self.figures(pool);
        // What fails goes before the last that works.
        let last = figures.supply() == 1 && figures.failing == 0;
        let unneeded = match last {
            true => figures.load == 0.0 && figures.busy == 0,
            false => figures.load <= LOAD_DOWN,
        };
        unneeded && !self.is_waited_for(pool)
    }

    pub fn is_waited_for(&self, pool: usize) -> bool {
        let of = |backlog: &Backlog| {
            backlog.waiting > 0
                && backlog.asked != Some(Asked::Out)
                && backlog.pools.get(pool) == Some(&true)
        };
        self.inputs.backlogs.iter().any(of)
    }

    /// Whether the plan leaves the numbers as they are, with these changes.
    pub fn is_plan(&self, changes: &[(usize, i32)]) -> bool {
        let mut counts: Vec<u32> = self.drafts.iter().map(|draft| draft.count).collect();
        for (pool, change) in changes {
            counts[*pool] = counts[*pool].saturating_add_signed(*change);
        }
        plan(self.setting.pools, self.setting.limits, &counts) == counts
    }

    /// What is remembered, and what is said.
    pub fn end(mut self) -> (Vec<Memory>, Evaluation) {
        let (now, rules) = (self.now, self.setting.rules);
        for draft in &mut self.drafts {
            let memory = &mut draft.memory;
            memory.wanted = draft.count;
            if draft.count < draft.before {
                memory.down = Some(now);
            } else if draft.count > draft.before {
                memory.up = Some(now);
                memory.idle_since = None;
                memory.busy_since = None;
                if let Some(let_go) = memory.let_go.take() {
                    let regretted = now.saturating_sub(let_go) < memory.idle(rules);
                    memory.patience = match regretted {
                        true => (memory.patience * 2).min(MAX_PATIENCE),
                        false => (memory.patience / 2).max(1),
                    };
                }
            }
        }
        let direction = if self.drafts.iter().any(|draft| draft.count > draft.before) {
            Some(Direction::Up)
        } else {
            self.is_change().then_some(Direction::Down)
        };
        let (memory, pools): (Vec<Memory>, Vec<PoolDecision>) = self
            .drafts
            .into_iter()
            .zip(self.setting.pools)
            .map(|(draft, pool)| (draft.memory, draft.decision(pool)))
            .unzip();
        let reason = words::reason(&pools, self.inputs.waiting() == 0);
        let evaluation = Evaluation {
            direction,
            reason,
            pools,
        };
        (memory, evaluation)
    }

    pub fn figures(&self, pool: usize) -> PoolFigures {
        self.inputs.pools.get(pool).copied().unwrap_or_default()
    }

    fn pool(&self, pool: usize) -> &'a Pool {
        &self.setting.pools[pool]
    }
}

impl Draft {
    fn decision(self, pool: &Pool) -> PoolDecision {
        let because = match (self.why, self.hold) {
            (Some(why), _) if self.count != self.before => why.to_string(),
            (_, Some(hold)) => hold.to_string(),
            _ => String::new(),
        };
        PoolDecision {
            pool: pool.name.clone(),
            from: self.before,
            to: self.count,
            because,
        }
    }
}
