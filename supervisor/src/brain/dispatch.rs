//! Which task goes to which bot, now.
//!
//! Owns the lanes and what is known of the bots' slots. A slot is reserved when a choice is made and
//! freed when the attempt is over. Order: of all lanes that some bot with a free slot can serve,
//! the task with the best (priority, seq). So that `P3` does not starve, one choice in
//! [`AGEING_SHARE`] goes to the longest-waiting task, if it has waited [`AGEING_AFTER`].

mod backlog;

use std::collections::HashMap;
use std::sync::Arc;

use deia::time::Timestamp;

use super::demand::{Demand, PoolFacts};
use super::learn::{Learning, Rules, Sample};
use super::retry;
use super::route::{self, Candidate, EXPLORE_SHARE, Terms, Weighing};
use super::window::{Lane, Load, Loaded, Place, Waiting};
use crate::store::{LearnedRow, Ready, Seq};

/// One choice in this many looks at age before priority.
pub const AGEING_SHARE: u64 = 16;

/// ... for tasks that have waited this many seconds.
pub const AGEING_AFTER: f64 = 60.0;

/// Different demands that may wait at once.
pub const MAX_LANES: usize = 4096;

/// A bot's slots.
#[derive(Debug, Clone)]
struct Slots {
    bot: Arc<str>,
    /// `None`: its pool is gone, and it still has tasks.
    pool: Option<usize>,
    load: u32,
    max: u32,
    open: bool,
    /// A task that may have ended its bots before: it is to be alone.
    alone: Option<Seq>,
    success_rate: f64,
    /// Where [`Dispatcher::learning`] has what it knows of it.
    known: Option<usize>,
}

impl Slots {
    fn is_free(&self) -> bool {
        self.open && self.load < self.takes()
    }
}

impl Slots {
    fn takes(&self) -> u32 {
        match self.alone {
            Some(_) => 0,
            None => self.max,
        }
    }
}

/// A task for a bot. The slot is reserved.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The task.
    pub waiting: Waiting,
    /// The bot.
    pub bot: Arc<str>,
    /// Why this one.
    pub weighing: Weighing,
}

/// What would happen to a new task.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// This bot takes it at once; its slot is reserved.
    Direct {
        /// The bot.
        bot: Arc<str>,
        /// Why this one.
        weighing: Weighing,
    },
    /// It waits.
    Wait,
    /// No bot of this configuration can ever do it.
    Unsuitable,
    /// Too many different demands wait already.
    TooManyDemands,
}

/// Why a bot does not have a task that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its pool can never do it.
    Unsuitable,
    /// Another bot is asked for by name.
    AnotherIsNamed,
    /// It takes no tasks now.
    Closed,
    /// It has so many tasks already, which is all it may have.
    Full(u32),
    /// It has one that may have ended its bots before, and nothing is put beside it.
    TriesAlone,
    /// Its model server has so many tasks already, which is all it may have.
    ServerFull(u32),
    /// None of the model servers it could ask answers.
    ServerDown,
    /// None: others are first.
    OthersFirst,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Dispatcher {
    pools: Vec<PoolFacts>,
    /// In the order in which bots were first seen: ties go to the first.
    slots: Vec<Slots>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes in which something waits since a moment ago.
    fresh: Vec<Arc<str>>,
    choices: u64,
    /// Choices among bots.
    weighings: u64,
    learning: Learning,
    /// Tasks with a model server, over all pools that use it.
    in_flight: HashMap<Arc<str>, u32>,
    /// For each pool, why it gives out nothing, where it does not.
    held: Vec<Option<String>>,
    /// `supervision.poison_after`.
    poison_after: u32,
}

impl Dispatcher {
    /// The pools have changed. Bots of pools that are gone are closed.
    pub fn configure(&mut self, pools: Vec<PoolFacts>) {
        let moved = |slots: &Slots, old: &[PoolFacts]| {
            let name = &old.get(slots.pool?)?.name;
            pools.iter().position(|p| p.name == *name)
        };
        let old = std::mem::take(&mut self.pools);
        self.slots.retain_mut(|slots| {
            slots.pool = moved(slots, &old);
            slots.open &= slots.pool.is_some();
            slots.pool.is_some() || slots.load > 0
        });
        self.pools = pools;
        self.held.clear();
        // What a server is asked follows its pools' new addresses.
        self.in_flight.clear();
        for slots in &self.slots {
            let pool = slots.pool.and_then(|pool| self.pools.get(pool));
            if let Some((server, _)) = pool.and_then(|pool| pool.server.as_ref()) {
                *self.in_flight.entry(server.clone()).or_default() += slots.load;
            }
        }
        for lane in self.lanes.values_mut() {
            lane.configure(&self.pools);
        }
    }

    /// Bots in a row that a task may end: who may be about to end the last one is tried alone.
    pub fn suspect_after(&mut self, poison_after: u32) {
        self.poison_after = poison_after;
    }

    /// Which pools give out nothing for now, in the order of the pools, and why.
    pub fn hold_pools(&mut self, held: Vec<Option<String>>) {
        self.held = held;
    }

    fn is_held(&self, pool: usize) -> bool {
        self.held.get(pool).is_some_and(Option::is_some)
    }

    /// Why a task of this demand waits, where all that could do it are held.
    pub fn holds(&self, demand: &Demand) -> Option<&str> {
        let served = self.pools.iter().map(|pool| demand.is_served_by(pool));
        self.why_held(served)
    }

    /// The same for a task that waits, by its demand's text.
    pub fn held_for(&self, demand: &str) -> Option<&str> {
        let lane = self.lanes.get(demand)?;
        self.why_held(lane.served_by.iter().copied())
    }

    fn why_held(&self, served: impl Iterator<Item = bool>) -> Option<&str> {
        let mut first = None;
        for (pool, _) in served.enumerate().filter(|(_, serves)| *serves) {
            let why = self.held.get(pool)?.as_deref()?;
            first = first.or(Some(why));
        }
        first
    }

    /// The bot takes tasks, at most `max` at once.
    pub fn open(&mut self, bot: &Arc<str>, pool: &str, max: u32) {
        let Some(pool) = self.pools.iter().position(|p| *p.name == *pool) else {
            return;
        };
        match self.slots.iter_mut().find(|s| s.bot == *bot) {
            Some(slots) => {
                slots.open = true;
                slots.max = max;
                slots.pool = Some(pool);
            }
            None => self.slots.push(Slots {
                bot: bot.clone(),
                pool: Some(pool),
                load: 0,
                max,
                open: true,
                alone: None,
                success_rate: self.learning.of(bot).success_rate,
                known: self.learning.place(bot),
            }),
        }
    }

    /// The bot has a task from before this daemon; it takes none until it is opened.
    pub fn hold(&mut self, bot: &Arc<str>, pool: Option<&str>, task: &Ready) {
        let alone = Some(task.seq).filter(|_| self.is_suspect(task));
        let pool = pool.and_then(|name| self.pools.iter().position(|p| *p.name == *name));
        match self.slots.iter_mut().find(|s| s.bot == *bot) {
            Some(slots) => {
                slots.load += 1;
                slots.alone = slots.alone.or(alone);
            }
            None => self.slots.push(Slots {
                bot: bot.clone(),
                pool,
                load: 1,
                max: 0,
                open: false,
                alone,
                success_rate: self.learning.of(bot).success_rate,
                known: self.learning.place(bot),
            }),
        }
        self.served(pool, 1);
    }

    /// The bot takes no more tasks. What it has stays with it.
    pub fn close(&mut self, bot: &str) {
        if let Some(slots) = self.slots.iter_mut().find(|s| *s.bot == *bot) {
            slots.open = false;
        }
    }

    /// An attempt of the bot at this task is over.
    pub fn ended(&mut self, bot: &str, task: Seq) {
        if let Some(slots) = self.slots.iter_mut().find(|s| *s.bot == *bot) {
            slots.alone = slots.alone.filter(|alone| *alone != task);
        }
        self.free(bot);
    }

    /// A slot that was reserved for a new task is not needed.
    pub fn free(&mut self, bot: &str) {
        if let Some(slots) = self.slots.iter_mut().find(|s| *s.bot == *bot) {
            slots.load = slots.load.saturating_sub(1);
            let pool = slots.pool;
            self.served(pool, -1);
        }
        self.slots
            .retain(|slots| slots.pool.is_some() || slots.load > 0);
    }

    /// An attempt of the bot brought a result, or failed.
    pub fn learn(&mut self, bot: &Arc<str>, sample: &Sample) {
        self.learning.record(bot, sample);
        let (rate, known) = (self.learning.of(bot).success_rate, self.learning.place(bot));
        if let Some(slots) = self.slots.iter_mut().find(|s| s.bot == *bot) {
            (slots.success_rate, slots.known) = (rate, known);
        }
    }

    /// What was learned.
    pub fn learning(&self) -> &Learning {
        &self.learning
    }

    /// The rules of learning have changed.
    pub fn learn_by(&mut self, rules: Rules) {
        self.learning.configure(rules);
    }

    /// What an earlier daemon learned.
    pub fn load_learned(&mut self, rows: Vec<LearnedRow>) {
        self.learning.load(rows);
        self.refresh();
    }

    /// What was learned is forgotten.
    pub fn forget_learned(&mut self) {
        self.learning.forget();
        self.refresh();
    }

    /// What was learned and is not in the store yet.
    pub fn take_learned(&mut self) -> Vec<LearnedRow> {
        self.learning.take_changed()
    }

    /// The store did not take it.
    pub fn put_back_learned(&mut self, rows: Vec<LearnedRow>) {
        self.learning.put_back(rows);
    }

    fn refresh(&mut self) {
        for slots in &mut self.slots {
            slots.success_rate = self.learning.of(&slots.bot).success_rate;
            slots.known = self.learning.place(&slots.bot);
        }
    }

    /// The bot's success rate.
    pub fn success_rate(&self, bot: &str) -> f64 {
        self.learning.of(bot).success_rate
    }

    /// Whether nothing is put beside a task the bot has.
    pub fn tries_alone(&self, bot: &str) -> bool {
        let slots = self.slots.iter().find(|s| *s.bot == *bot);
        slots.is_some_and(|s| s.alone.is_some())
    }

    /// Tasks the bot has.
    pub fn load(&self, bot: &str) -> u32 {
        let slots = self.slots.iter().find(|s| *s.bot == *bot);
        slots.map_or(0, |s| s.load)
    }

    /// Decides about a new task.
    pub fn admit(&mut self, demand: &Demand, text: &Arc<str>, now: Timestamp) -> Admission {
        let (served_by, waits) = match self.lanes.get(text) {
            Some(lane) => (lane.served_by.clone(), !lane.is_idle()),
            None => {
                let served_by = self.pools.iter().map(|p| demand.is_served_by(p)).collect();
                (served_by, false)
            }
        };
        if !served_by.contains(&true) {
            return Admission::Unsuitable;
        }
        if !waits && let Some((index, weighing)) = self.best(&served_by, demand, None, now) {
            return Admission::Direct {
                bot: self.reserve(index),
                weighing,
            };
        }
        if self.lanes.len() >= MAX_LANES && !self.lanes.contains_key(text) {
            return Admission::TooManyDemands;
        }
        Admission::Wait
    }

    /// A task waits now: it was submitted, is to be tried again, or its time has come.
    pub fn add(&mut self, ready: Ready, content: Option<Arc<str>>) {
        let demand = ready.demand.clone();
        if let Some(lane) = self.lane(&demand) {
            let begins = lane.unclaimed() == 0;
            lane.add(ready, content);
            if begins {
                self.fresh.push(demand);
            }
        }
    }

    /// A task does not wait any more: cancelled or expired.
    pub fn forget(&mut self, ready: &Ready) {
        if let Some(lane) = self.lanes.get_mut(&ready.demand) {
            lane.forget((ready.priority, ready.seq));
        }
        self.drop_if_idle(&ready.demand);
    }

    /// What the store says at start: how many wait, by priority.
    pub fn counted(&mut self, demand: &Arc<str>, counts: [u64; 4]) {
        if let Some(lane) = self.lane(demand) {
            lane.counted(counts);
            self.fresh.push(demand.clone());
        }
    }

    /// The next task for a bot, if there are both.
    pub fn next(&mut self, now: Timestamp) -> Option<Choice> {
        let free: Vec<bool> = (0..self.pools.len())
            .map(|pool| {
                let mut slots = self.slots.iter();
                self.has_room(pool) && slots.any(|s| s.pool == Some(pool) && s.is_free())
            })
            .collect();
        if !free.contains(&true) {
            return None;
        }
        let by_age = self.choices % AGEING_SHARE == AGEING_SHARE - 1;
        let mut best: Option<(bool, Place, Arc<str>)> = None;
        for (text, lane) in &self.lanes {
            let served = lane.served_by.iter().zip(&free).any(|(s, f)| *s && *f);
            let Some(first) = lane.first().filter(|_| served) else {
                continue;
            };
            if let Some(bot) = &lane.demand.bot
                && !self.slots.iter().any(|s| *s.bot == **bot && s.is_free())
            {
                continue;
            }
            let aged = by_age
                .then(|| lane.oldest())
                .flatten()
                .filter(|w| now.seconds_since(w.ready.submitted_at) >= AGEING_AFTER);
            let waiting = aged.unwrap_or(first);
            let place = (waiting.ready.priority, waiting.ready.seq);
            let better = |(best_aged, best_place, _): &(bool, Place, Arc<str>)| match (
                aged.is_some(),
                best_aged,
            ) {
                (true, true) => place.1 < best_place.1,
                (true, false) => true,
                (false, true) => false,
                (false, false) => place < *best_place,
            };
            if best.as_ref().is_none_or(better) {
                best = Some((aged.is_some(), place, text.clone()));
            }
        }
        let (_, place, text) = best?;
        let lane = self.lanes.get(&text)?;
        let ready = lane.at(place).map(|waiting| &waiting.ready);
        let (index, weighing) = self.best(&lane.served_by, &lane.demand, ready, now)?;
        let waiting = self.lanes.get_mut(&text)?.take(place)?;
        self.choices += 1;
        if self.is_suspect(&waiting.ready) {
            self.slots[index].alone = Some(waiting.ready.seq);
        }
        Some(Choice {
            waiting,
            bot: self.reserve(index),
            weighing,
        })
    }

    /// Why a bot does not have a task of this demand that waits.
    pub fn obstacle(&self, bot: &str, pool: &str, demand: &Demand) -> Obstacle {
        let Some(pool) = self.pools.iter().find(|p| *p.name == *pool) else {
            return Obstacle::Closed;
        };
        if !demand.is_served_by(pool) {
            return Obstacle::Unsuitable;
        }
        if demand.bot.as_deref().is_some_and(|named| named != bot) {
            return Obstacle::AnotherIsNamed;
        }
        let place = self.pools.iter().position(|p| p.name == pool.name);
        if place.is_some_and(|place| self.is_held(place)) {
            return Obstacle::ServerDown;
        }
        let slots = self.slots.iter().find(|s| *s.bot == *bot && s.open);
        let Some(slots) = slots else {
            return Obstacle::Closed;
        };
        if slots.alone.is_some() {
            return Obstacle::TriesAlone;
        }
        if slots.load >= slots.max {
            return Obstacle::Full(slots.load);
        }
        match &pool.server {
            Some((server, most)) if self.in_flight.get(server).is_some_and(|n| n >= most) => {
                Obstacle::ServerFull(*most)
            }
            _ => Obstacle::OthersFirst,
        }
    }

    /// The choice is durable.
    pub fn leased(&mut self, ready: &Ready) {
        if let Some(lane) = self.lanes.get_mut(&ready.demand) {
            lane.leased((ready.priority, ready.seq));
        }
        self.drop_if_idle(&ready.demand);
    }

    /// The store did not lease it, and it is still queued. The slot is free again.
    pub fn not_leased(&mut self, bot: &str, waiting: Waiting) {
        self.ended(bot, waiting.ready.seq);
        let demand = waiting.ready.demand.clone();
        if let Some(lane) = self.lanes.get_mut(&demand) {
            if lane.unclaimed() == 0 {
                self.fresh.push(demand);
            }
            let place = (waiting.ready.priority, waiting.ready.seq);
            lane.not_leased(place, Some(waiting));
        }
    }

    /// The store did not lease it: it is not queued any more. The slot is free again.
    pub fn lease_refused(&mut self, bot: &str, ready: &Ready) {
        self.ended(bot, ready.seq);
        if let Some(lane) = self.lanes.get_mut(&ready.demand) {
            lane.not_leased((ready.priority, ready.seq), None);
        }
        self.drop_if_idle(&ready.demand);
    }

    /// The store can't lease it, now or ever, and it is still queued. The slot is free again. Whether what waits like
    /// it is to be loaded again only after a pause, by [`Dispatcher::filled`] with nothing.
    pub fn lease_impossible(&mut self, bot: &str, ready: &Ready) -> bool {
        self.ended(bot, ready.seq);
        self.lanes.get_mut(&ready.demand).is_some_and(|lane| {
            lane.not_leased((ready.priority, ready.seq), None);
            lane.rest()
        })
    }

    /// What is to be loaded for which lanes.
    pub fn wants_filling(&mut self) -> Vec<(Arc<str>, Load)> {
        let lanes = self.lanes.iter_mut();
        let wants = |(text, lane): (&Arc<str>, &mut Lane)| {
            lane.wants_filling().map(|load| (text.clone(), load))
        };
        let mut low: Vec<_> = lanes.filter_map(wants).collect();
        // A map's order is another one each time.
        low.sort();
        low
    }

    /// What was loaded for a lane; `None` when the store could not be read.
    pub fn filled(&mut self, demand: &Arc<str>, loaded: Option<Loaded>) {
        if let Some(lane) = self.lanes.get_mut(demand) {
            lane.filled(loaded);
        }
        self.drop_if_idle(demand);
    }

    /// Whether a lane is being loaded, so that what is known of it is about to change.
    #[cfg(test)]
    pub(crate) fn is_reading(&self) -> bool {
        self.lanes.values().any(Lane::is_filling)
    }

    /// Tasks that wait.
    pub fn waiting(&self) -> u64 {
        self.lanes.values().map(Lane::len).sum()
    }

    /// The place a new task of this lane got, from 1, once it is counted.
    pub fn position(&self, demand: &str, priority: deia::task::Priority) -> u64 {
        self.lanes
            .get(demand)
            .map_or(1, |lane| lane.ahead_of_new(priority).max(1))
    }

    /// Tasks that wait and that this pool could do.
    pub fn waiting_for(&self, pool: &str) -> u64 {
        let Some(index) = self.pools.iter().position(|p| *p.name == *pool) else {
            return 0;
        };
        self.lanes
            .values()
            .filter(|lane| lane.served_by.get(index) == Some(&true))
            .map(Lane::len)
            .sum()
    }

    /// A lane that nothing is left of makes room for another demand.
    fn drop_if_idle(&mut self, demand: &str) {
        if self.lanes.get(demand).is_some_and(Lane::is_idle) {
            self.lanes.remove(demand);
        }
    }

    fn lane(&mut self, text: &Arc<str>) -> Option<&mut Lane> {
        if !self.lanes.contains_key(text) {
            let lane = Lane::new(Demand::from_text(text)?, &self.pools);
            self.lanes.insert(text.clone(), lane);
        }
        self.lanes.get_mut(text)
    }

    fn is_suspect(&self, ready: &Ready) -> bool {
        retry::is_suspect(ready.losses, self.poison_after)
    }

    /// The best bot with a free slot, among these pools, and why it is the best. `again`: a task that has waited.
    /// One that is to be alone goes to a bot that has as little as there is; nothing is put beside it afterwards.
    fn best(
        &self,
        served_by: &[bool],
        demand: &Demand,
        again: Option<&Ready>,
        now: Timestamp,
    ) -> Option<(usize, Weighing)> {
        let only = demand.bot.as_deref();
        let pools = served_by.iter().enumerate();
        let takes: Vec<bool> = pools.map(|(pool, s)| *s && self.has_room(pool)).collect();
        let known = self.learning.laid_out(demand.task_type);
        let fits = |s: &Slots| {
            s.open
                && s.pool.is_some_and(|pool| takes.get(pool) == Some(&true))
                && only.is_none_or(|bot| *s.bot == *bot)
        };
        let suspect = again.filter(|ready| self.is_suspect(ready));
        let least = suspect.and_then(|_| {
            let free = self.slots.iter().filter(|s| fits(s) && s.is_free());
            free.map(|s| s.load).min()
        });
        let candidates = self.slots.iter().enumerate().filter_map(|(place, s)| {
            let fits = fits(s) && least.is_none_or(|least| s.load == least);
            let candidate = Candidate {
                load: s.load,
                max: s.takes(),
                success_rate: s.success_rate,
                known: s.known.and_then(|known_at| *known.get(known_at)?),
            };
            fits.then_some((place, candidate))
        });
        let terms = Terms {
            rules: self.learning.rules(),
            explore: self.weighings % EXPLORE_SHARE == EXPLORE_SHARE - 1,
            failed: again.is_some_and(|ready| ready.failed),
            now,
        };
        route::choose(candidates, |place| self.slots[place].bot.clone(), &terms)
    }

    fn reserve(&mut self, index: usize) -> Arc<str> {
        self.weighings += 1;
        self.slots[index].load += 1;
        let pool = self.slots[index].pool;
        self.served(pool, 1);
        self.slots[index].bot.clone()
    }

    fn has_room(&self, pool: usize) -> bool {
        if self.is_held(pool) {
            return false;
        }
        match self.pools.get(pool).and_then(|p| p.server.as_ref()) {
            Some((server, most)) => self.in_flight.get(server).is_none_or(|n| n < most),
            None => true,
        }
    }

    fn served(&mut self, pool: Option<usize>, change: i32) {
        let pool = pool.and_then(|pool| self.pools.get(pool));
        if let Some((server, _)) = pool.and_then(|p| p.server.as_ref()) {
            let n = self.in_flight.entry(server.clone()).or_default();
            *n = n.saturating_add_signed(change);
        }
    }

    /// The place of a task that is in memory; for tests and explanations.
    pub fn knows(&self, demand: &str, seq: Seq) -> bool {
        self.lanes
            .get(demand)
            .and_then(Lane::oldest)
            .is_some_and(|w| w.ready.seq == seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::bot::BotType;
    use deia::task::{Priority, TaskType};

    fn pool(name: &str, bot_type: BotType) -> PoolFacts {
        PoolFacts {
            name: name.into(),
            bot_type,
            specializations: Vec::new(),
            most_bots: 10,
            server: None,
            is_external: false,
        }
    }

    fn demand(text: &str) -> Arc<str> {
        format!("t={text};n=a;p=;b=;c=general").into()
    }

    fn task(seq: Seq, priority: Priority, kind: &str) -> Ready {
        Ready {
            seq,
            id: format!("t{seq}").parse().unwrap(),
            demand: demand(kind),
            priority,
            submitted_at: Timestamp::from_micros(seq),
            timeout_ms: 1000,
            max_attempts: 3,
            task_type: TaskType::General,
            scheduled: false,
            failed: false,
            losses: 0,
        }
    }

    fn dispatcher(pools: &[(&str, BotType, u32)]) -> Dispatcher {
        let mut dispatcher = Dispatcher::default();
        dispatcher.configure(pools.iter().map(|(name, t, _)| pool(name, *t)).collect());
        for (name, _, max) in pools {
            dispatcher.open(&Arc::from(*name), name, *max);
        }
        dispatcher
    }

    fn drain(dispatcher: &mut Dispatcher, now: Timestamp) -> Vec<Seq> {
        let mut order = Vec::new();
        while let Some(choice) = dispatcher.next(now) {
            dispatcher.leased(&choice.waiting.ready);
            dispatcher.ended(&choice.bot, choice.waiting.ready.seq);
            order.push(choice.waiting.ready.seq);
        }
        order
    }

    /// Shown to fail where it is refused as one that was cancelled: it was loaded, chosen and refused without an end.
    #[test]
    fn what_the_store_cannot_lease_is_loaded_again_only_after_a_pause() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 1)]);
        let ready = task(1, Priority::P2, "general");
        dispatcher.add(ready.clone(), None);
        let choice = dispatcher.next(Timestamp::from_micros(9)).unwrap();
        assert!(dispatcher.lease_impossible(&choice.bot, &ready));
        assert_eq!(dispatcher.wants_filling(), []);
        assert!(dispatcher.next(Timestamp::from_micros(9)).is_none());
        // Others of it that fail meanwhile begin no second pause.
        dispatcher.add(task(2, Priority::P2, "general"), None);
        dispatcher.filled(&ready.demand, None);
        assert_eq!(dispatcher.wants_filling().len(), 1);
        let loaded = Loaded {
            rows: vec![ready.clone(), task(2, Priority::P2, "general")],
            nothing_under_way: true,
        };
        dispatcher.filled(&ready.demand, Some(loaded));
        assert_eq!(drain(&mut dispatcher, Timestamp::from_micros(9)), [1, 2]);
    }

    #[test]
    fn urgent_first_then_in_order() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 1)]);
        for (seq, priority) in [
            (1, Priority::P2),
            (2, Priority::P0),
            (3, Priority::P3),
            (4, Priority::P0),
        ] {
            dispatcher.add(task(seq, priority, "general"), None);
        }
        assert_eq!(
            drain(&mut dispatcher, Timestamp::from_micros(0)),
            [2, 4, 1, 3]
        );
        assert_eq!(dispatcher.waiting(), 0);
        assert!(dispatcher.lanes.is_empty());
    }

    /// The window is full of P0, and more P0 comes as fast as it is done: the P3 behind them is on disk only.
    #[test]
    fn the_last_does_not_starve() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 1)]);
        let mut stored = std::collections::BTreeMap::new();
        let mut seq = 0;
        let mut submit =
            |dispatcher: &mut Dispatcher, stored: &mut std::collections::BTreeMap<_, _>, p| {
                seq += 1;
                let task = task(seq, p, "general");
                stored.insert((p, seq), task.clone());
                dispatcher.add(task, None);
            };
        submit(&mut dispatcher, &mut stored, Priority::P3);
        for _ in 0..1_000 {
            submit(&mut dispatcher, &mut stored, Priority::P0);
        }
        let late = Timestamp::from_micros(0).plus_millis(61_000);
        for done in 0.. {
            assert!(done < 3 * AGEING_SHARE, "it starves");
            for (demand, load) in dispatcher.wants_filling() {
                let after = |place: &Place| load.after.is_none_or(|after| *place > after);
                let rows = stored.iter().filter(|(place, _)| after(place));
                let rows = rows.map(|(_, task)| task.clone()).take(load.most).collect();
                let nothing_under_way = true;
                let loaded = Loaded {
                    rows,
                    nothing_under_way,
                };
                dispatcher.filled(&demand, Some(loaded));
            }
            let choice = dispatcher.next(late).unwrap();
            let ready = &choice.waiting.ready;
            stored.remove(&(ready.priority, ready.seq));
            dispatcher.leased(ready);
            dispatcher.ended(&choice.bot, choice.waiting.ready.seq);
            if ready.priority == Priority::P3 {
                break;
            }
            submit(&mut dispatcher, &mut stored, Priority::P0);
        }
        assert_eq!(dispatcher.waiting(), stored.len() as u64);
    }

    #[test]
    fn a_saturated_type_holds_up_nobody_else() {
        let mut dispatcher = dispatcher(&[
            ("dev", BotType::Developer, 1),
            ("plan", BotType::Planner, 1),
        ]);
        for seq in 1..1000 {
            dispatcher.add(task(seq, Priority::P0, "development"), None);
        }
        dispatcher.add(task(1000, Priority::P3, "planning"), None);
        let now = Timestamp::from_micros(0);
        assert_eq!(&*dispatcher.next(now).unwrap().bot, "dev");
        let choice = dispatcher.next(now).unwrap();
        assert_eq!((&*choice.bot, choice.waiting.ready.seq), ("plan", 1000));
        assert!(dispatcher.next(now).is_none());
    }

    #[test]
    fn a_free_bot_takes_a_new_task_at_once_unless_others_wait() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 1)]);
        let text = demand("general");
        let asked = Demand::from_text(&text).unwrap();
        assert!(matches!(
            dispatcher.admit(&asked, &text, Timestamp::from_micros(0)),
            Admission::Direct { .. }
        ));
        assert_eq!(
            dispatcher.admit(&asked, &text, Timestamp::from_micros(0)),
            Admission::Wait
        );
        dispatcher.add(task(1, Priority::P2, "general"), None);
        dispatcher.free("a");
        assert_eq!(
            dispatcher.admit(&asked, &text, Timestamp::from_micros(0)),
            Admission::Wait,
            "the one that waits is first"
        );
        assert_eq!(drain(&mut dispatcher, Timestamp::from_micros(0)), [1]);
    }

    #[test]
    fn what_a_bot_had_before_takes_its_slots() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 0)]);
        let bot: Arc<str> = "a-2".into();
        dispatcher.hold(&bot, Some("a"), &task(0, Priority::P2, "general"));
        dispatcher.add(task(1, Priority::P2, "general"), None);
        let now = Timestamp::from_micros(0);
        assert!(dispatcher.next(now).is_none(), "it is not back yet");
        dispatcher.open(&bot, "a", 1);
        assert!(dispatcher.next(now).is_none(), "it has one already");
        dispatcher.free(&bot);
        assert_eq!(&*dispatcher.next(now).unwrap().bot, "a-2");
    }

    /// Shown to fail where what has lost bots is given out like anything else.
    #[test]
    fn what_may_end_its_bot_is_tried_alone() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 3), ("b", BotType::General, 3)]);
        dispatcher.suspect_after(3);
        let now = Timestamp::from_micros(0);
        let suspect = |seq| Ready {
            failed: true,
            losses: 2,
            ..task(seq, Priority::P0, "general")
        };
        dispatcher.add(task(1, Priority::P2, "general"), None);
        let healthy = dispatcher.next(now).unwrap();
        for seq in [2, 3] {
            dispatcher.add(suspect(seq), None);
        }
        let first = dispatcher.next(now).unwrap();
        assert_ne!(first.bot, healthy.bot, "the one that has nothing");
        let second = dispatcher.next(now).unwrap();
        assert_eq!(second.bot, healthy.bot, "it does not wait for ever");
        dispatcher.add(task(4, Priority::P2, "general"), None);
        assert!(dispatcher.next(now).is_none(), "nothing is put beside them");
        let asked = Demand::from_text(&demand("general")).unwrap();
        let obstacle = dispatcher.obstacle(&first.bot, &first.bot, &asked);
        assert_eq!(obstacle, Obstacle::TriesAlone);
        dispatcher.ended(&healthy.bot, 1);
        assert!(dispatcher.next(now).is_none());
        dispatcher.ended(&first.bot, 2);
        assert_eq!(dispatcher.next(now).unwrap().bot, first.bot);
        // One lost bot may be anybody's fault.
        dispatcher.ended(&second.bot, 3);
        for seq in [5, 6] {
            let losses = 1;
            dispatcher.add(
                Ready {
                    losses,
                    ..suspect(seq)
                },
                None,
            );
            assert!(dispatcher.next(now).is_some());
        }
    }

    #[test]
    fn what_was_tried_alone_is_alone_under_the_next_daemon_too() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 3)]);
        dispatcher.suspect_after(3);
        let bot: Arc<str> = "a".into();
        let suspect = Ready {
            losses: 2,
            ..task(7, Priority::P2, "general")
        };
        dispatcher.hold(&bot, Some("a"), &suspect);
        dispatcher.open(&bot, "a", 3);
        dispatcher.add(task(8, Priority::P2, "general"), None);
        let now = Timestamp::from_micros(0);
        assert!(dispatcher.next(now).is_none() && dispatcher.tries_alone("a"));
        assert!(dispatcher.begins_unserved(now), "more bots could help");
        dispatcher.ended("a", 7);
        assert!(dispatcher.next(now).is_some());
    }

    #[test]
    fn what_no_pool_can_do_is_said() {
        let mut dispatcher = dispatcher(&[("plan", BotType::Planner, 1)]);
        let text = demand("development");
        let asked = Demand::from_text(&text).unwrap();
        assert_eq!(
            dispatcher.admit(&asked, &text, Timestamp::from_micros(0)),
            Admission::Unsuitable
        );
    }

    #[test]
    fn a_model_server_is_not_asked_more_than_it_takes() {
        let mut dispatcher = Dispatcher::default();
        let mut model = pool("m", BotType::General);
        model.server = Some(("http://localhost:1".into(), 2));
        dispatcher.configure(vec![model]);
        dispatcher.open(&Arc::from("m"), "m", 10);
        dispatcher.open(&Arc::from("m-2"), "m", 10);
        for seq in 1..10 {
            dispatcher.add(task(seq, Priority::P2, "general"), None);
        }
        let now = Timestamp::from_micros(0);
        let first = dispatcher.next(now).unwrap();
        assert!(dispatcher.next(now).is_some());
        assert!(dispatcher.next(now).is_none());
        dispatcher.free(&first.bot);
        assert!(dispatcher.next(now).is_some());
    }

    #[test]
    fn a_pool_that_goes_takes_its_bots_along_and_the_rest_keep_their_load() {
        let mut dispatcher = dispatcher(&[("a", BotType::General, 1), ("b", BotType::General, 2)]);
        dispatcher.add(task(1, Priority::P2, "general"), None);
        dispatcher.add(task(2, Priority::P2, "general"), None);
        let now = Timestamp::from_micros(0);
        dispatcher.next(now).unwrap();
        dispatcher.next(now).unwrap();
        dispatcher.configure(vec![pool("b", BotType::General)]);
        assert_eq!(dispatcher.load("b"), 1);
        // It still has its task, takes no other, and is forgotten with it.
        assert_eq!(dispatcher.load("a"), 1);
        dispatcher.configure(vec![
            pool("b", BotType::General),
            pool("a", BotType::General),
        ]);
        assert_eq!(dispatcher.load("a"), 1, "it came back with what it has");
        dispatcher.configure(vec![pool("b", BotType::General)]);
        dispatcher.free("a");
        assert!(dispatcher.slots.iter().all(|slots| &*slots.bot != "a"));
    }

    #[test]
    fn a_server_is_free_again_when_the_pool_that_used_it_is_gone() {
        let model = |name: &str| PoolFacts {
            server: Some(("http://localhost:1".into(), 1)),
            ..pool(name, BotType::General)
        };
        let mut dispatcher = Dispatcher::default();
        dispatcher.configure(vec![model("a"), model("b")]);
        dispatcher.open(&Arc::from("b"), "b", 1);
        dispatcher.add(task(1, Priority::P2, "general"), None);
        let now = Timestamp::from_micros(0);
        assert_eq!(&*dispatcher.next(now).unwrap().bot, "b");
        dispatcher.configure(vec![model("a")]);
        dispatcher.open(&Arc::from("a"), "a", 1);
        dispatcher.free("b");
        dispatcher.add(task(2, Priority::P2, "general"), None);
        assert_eq!(&*dispatcher.next(now).unwrap().bot, "a");
    }

    #[test]
    fn lanes_that_nothing_is_left_of_are_dropped() {
        let mut dispatcher = dispatcher(&[]);
        let cancelled = task(1, Priority::P2, "general");
        dispatcher.add(cancelled.clone(), None);
        dispatcher.forget(&cancelled);
        assert!(dispatcher.lanes.is_empty());
    }
}
