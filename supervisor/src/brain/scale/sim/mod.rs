//! Whole days of a fleet, in milliseconds: tasks that come by the hour and in bursts, bots that need
//! time to start and fail now and then, an evaluation every minute, and a look when a task finds no bot.
//! Everything is drawn from a seed. What must hold at every moment is checked at every step.

mod days;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::*;
use crate::brain::pick::{Standing, pick};
use crate::brain::plan::ceiling;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const EVALUATION: Millis = MINUTE;

/// A pool of the simulated fleet.
#[derive(Debug, Clone)]
struct Kind {
    min: u32,
    max: Option<u32>,
    slots: u32,
    /// Between fork and ready.
    start: Millis,
    /// Share of the starts that fail.
    failing: f64,
}

/// One stream of tasks.
#[derive(Debug, Clone)]
struct Stream {
    pools: Vec<bool>,
    service: Millis,
    /// Tasks in an hour, by the hour; a day is as long as this.
    hourly: Vec<f64>,
    /// At random, or like a clock.
    steady: bool,
    /// `(when, how many)` at once.
    bursts: Vec<(Millis, u32)>,
}

impl Stream {
    fn new(pools: &[bool], service: Millis, hourly: Vec<f64>) -> Self {
        Self {
            pools: pools.to_vec(),
            service,
            hourly,
            steady: false,
            bursts: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { stream: usize },
    Bursts { stream: usize, tasks: u32 },
    Ready { bot: (usize, u32), run: u64 },
    Restarts { bot: (usize, u32), run: u64 },
    Done { bot: (usize, u32), run: u64 },
    Evaluate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    Working,
    Failing,
}

#[derive(Debug)]
struct SimBot {
    state: State,
    leaving: bool,
    tasks: u32,
    run: u64,
}

/// A pool's number went up or down.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    at: Millis,
    pool: usize,
    up: bool,
    because: String,
}

struct Day {
    kinds: Vec<Kind>,
    streams: Vec<Stream>,
    pools: Vec<Pool>,
    limits: Limits,
    rules: Scaling,
    host: Host,
    scaler: Scaler,
    chance: u64,
    now: Millis,
    runs: u64,
    events: BinaryHeap<Reverse<(Millis, u64, Event)>>,
    bots: BTreeMap<(usize, u32), SimBot>,
    waiting: Vec<VecDeque<Millis>>,
    /// Slot-milliseconds in use since the last evaluation, by pool, and since when it is counted.
    area: Vec<u64>,
    counted: Millis,
    evaluated: Millis,
    steps: Vec<Step>,
    longest_wait: Millis,
    /// The same, by stream.
    waits: Vec<Millis>,
    bot_time: u64,
    done: u64,
}

impl Day {
    fn new(seed: u64, kinds: Vec<Kind>, streams: Vec<Stream>, limits: Limits) -> Self {
        let pools: Vec<Pool> = kinds
            .iter()
            .enumerate()
            .map(|(n, kind)| {
                let spec = BackendSpec::Echo(EchoSpec::default());
                let mut pool = Pool::new(&format!("p{n}"), spec);
                (pool.min, pool.max) = (kind.min, kind.max);
                pool
            })
            .collect();
        let mut day = Self {
            area: vec![0; kinds.len()],
            waiting: vec![VecDeque::new(); streams.len()],
            kinds,
            streams,
            pools,
            limits,
            rules: Scaling::default(),
            host: Host::default(),
            scaler: Scaler::default(),
            chance: seed,
            now: 0,
            runs: 0,
            events: BinaryHeap::new(),
            bots: BTreeMap::new(),
            counted: 0,
            evaluated: 0,
            steps: Vec::new(),
            longest_wait: 0,
            waits: Vec::new(),
            bot_time: 0,
            done: 0,
        };
        day.waits = vec![0; day.streams.len()];
        day.apply();
        day.at(EVALUATION, Event::Evaluate);
        for stream in 0..day.streams.len() {
            for (at, tasks) in day.streams[stream].bursts.clone() {
                day.at(at, Event::Bursts { stream, tasks });
            }
            day.next_arrival(stream);
        }
        day
    }

    /// Splitmix64, in 0..1.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn at(&mut self, at: Millis, event: Event) {
        self.runs += 1;
        self.events.push(Reverse((at, self.runs, event)));
    }

    fn run(&mut self, until: Millis) {
        while let Some(Reverse((at, _, event))) = self.events.peek().copied() {
            if at > until {
                break;
            }
            self.events.pop();
            self.count_until(at);
            self.now = at;
            self.event(event);
            self.dispatch();
            let unserved = (0..self.streams.len()).any(|stream| {
                let takes = |(bot, sim): (&(usize, u32), &SimBot)| {
                    self.streams[stream].pools[bot.0] && sim.state == State::Working && !sim.leaving
                };
                !self.waiting[stream].is_empty() && !self.bots.iter().any(takes)
            });
            if unserved {
                self.decide(Scaler::look);
            }
        }
    }

    fn count_until(&mut self, at: Millis) {
        let span = at - self.counted;
        for ((pool, _), bot) in &self.bots {
            self.area[*pool] += span * u64::from(bot.tasks);
            self.bot_time += span;
        }
        self.counted = at;
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Arrives { stream } => {
                self.waiting[stream].push_back(self.now);
                self.next_arrival(stream);
            }
            Event::Bursts { stream, tasks } => {
                for _ in 0..tasks {
                    self.waiting[stream].push_back(self.now);
                }
            }
            Event::Ready { bot, run } => {
                let fails = self.chance() < self.kinds[bot.0].failing;
                let again = self.now + 10 * SECOND;
                let Some(sim) = self.bots.get_mut(&bot).filter(|sim| sim.run == run) else {
                    return;
                };
                sim.state = if fails {
                    State::Failing
                } else {
                    State::Working
                };
                if fails {
                    self.at(again, Event::Restarts { bot, run });
                }
            }
            Event::Restarts { bot, run } => {
                if self.bots.get(&bot).is_some_and(|sim| sim.run == run) {
                    self.start(bot);
                }
            }
            Event::Done { bot, run } => {
                self.done += 1;
                if let Some(sim) = self.bots.get_mut(&bot).filter(|sim| sim.run == run) {
                    sim.tasks -= 1;
                    if sim.leaving && sim.tasks == 0 {
                        self.bots.remove(&bot);
                    }
                }
            }
            Event::Evaluate => {
                self.decide(|scaler, setting, inputs, now| {
                    Some(scaler.evaluate(setting, inputs, now))
                });
                self.area.fill(0);
                self.evaluated = self.now;
                self.at(self.now + EVALUATION, Event::Evaluate);
            }
        }
    }

    /// The next task of a stream, by the rate of this hour; none where the day is over.
    fn next_arrival(&mut self, stream: usize) {
        let mut at = self.now as f64;
        let draw = match self.streams[stream].steady {
            true => 1.0,
            false => -(1.0 - self.chance()).ln(),
        };
        let hourly = &self.streams[stream].hourly;
        while let Some(rate) = hourly.get((at / HOUR as f64) as usize) {
            let next = at + draw * HOUR as f64 / rate.max(1e-9);
            let hour_ends = ((at / HOUR as f64).floor() + 1.0) * HOUR as f64;
            if next < hour_ends {
                self.at(next as Millis, Event::Arrives { stream });
                return;
            }
            at = hour_ends;
        }
    }

    fn dispatch(&mut self) {
        if self.waiting.iter().all(VecDeque::is_empty) {
            return;
        }
        for bot in self.bots.keys().copied().collect::<Vec<_>>() {
            loop {
                let sim = &self.bots[&bot];
                let free = sim.state == State::Working
                    && !sim.leaving
                    && sim.tasks < self.kinds[bot.0].slots;
                let first = (0..self.streams.len())
                    .filter(|stream| self.streams[*stream].pools[bot.0])
                    .filter_map(|stream| Some((*self.waiting[stream].front()?, stream)))
                    .min();
                let (true, Some((since, stream))) = (free, first) else {
                    break;
                };
                self.waiting[stream].pop_front();
                let waited = self.now - since;
                self.longest_wait = self.longest_wait.max(waited);
                self.waits[stream] = self.waits[stream].max(waited);
                let mean = self.streams[stream].service as f64;
                let takes = match self.streams[stream].steady {
                    true => mean,
                    false => mean * -(1.0 - self.chance()).ln(),
                };
                let run = self.bots[&bot].run;
                self.at(self.now + takes as Millis, Event::Done { bot, run });
                self.bots.get_mut(&bot).unwrap().tasks += 1;
            }
        }
    }

    fn inputs(&self) -> Inputs {
        let span = (self.now - self.evaluated).max(1) as f64;
        let mut slots = 0;
        let pools: Vec<PoolFigures> = (0..self.kinds.len())
            .map(|pool| {
                let mut figures = PoolFigures {
                    slots: self.kinds[pool].slots,
                    ..PoolFigures::default()
                };
                for (_, bot) in self.bots.iter().filter(|((p, _), _)| *p == pool) {
                    match bot.state {
                        _ if bot.leaving => figures.leaving += 1,
                        State::Starting => figures.starting += 1,
                        State::Working => {
                            figures.working += 1;
                            figures.busy += bot.tasks;
                        }
                        State::Failing => figures.failing += 1,
                    }
                }
                let all = figures.supply() * figures.slots;
                slots += all;
                let used = self.area[pool] as f64 / span;
                figures.load = (used / f64::from(all.max(1))).min(1.0);
                figures
            })
            .collect();
        let backlogs = self.streams.iter().zip(&self.waiting);
        let backlogs = backlogs.filter_map(|(stream, waiting)| {
            Some(Backlog {
                pools: stream.pools.clone(),
                asked: None,
                waiting: waiting.len() as u64,
                oldest_seconds: (self.now - *waiting.front()?) as f64 / 1000.0,
            })
        });
        Inputs {
            pools,
            backlogs: backlogs.collect(),
            load: (self.area.iter().sum::<u64>() as f64 / span / f64::from(slots.max(1))).min(1.0),
            host: self.host,
        }
    }

    fn decide(
        &mut self,
        how: impl Fn(&mut Scaler, Setting<'_>, &Inputs, Millis) -> Option<Evaluation>,
    ) {
        let inputs = self.inputs();
        let setting = Setting {
            no_growth: false,
            none_ahead: false,
            pools: &self.pools,
            limits: self.limits,
            rules: &self.rules,
        };
        let Some(evaluation) = how(&mut self.scaler, setting, &inputs, self.now) else {
            return;
        };
        for (pool, decision) in evaluation.pools.iter().enumerate() {
            if decision.from != decision.to {
                let step = Step {
                    at: self.now,
                    pool,
                    up: decision.to > decision.from,
                    because: decision.because.clone(),
                };
                self.check(&step, decision, &inputs);
                self.steps.push(step);
            }
        }
        self.apply();
    }

    /// What holds for every step.
    fn check(&self, step: &Step, decision: &PoolDecision, inputs: &Inputs) {
        let figures = inputs.pools[step.pool];
        assert!(decision.to <= ceiling(&self.pools[step.pool], self.limits));
        assert!(decision.to >= self.pools[step.pool].min);
        let first = step.because.contains("no running bot");
        let gives_way = step.because.contains("gives way");
        let grows_by = decision.to.saturating_sub(decision.from);
        assert!(grows_by <= figures.supply().max(1), "{step:?} {figures:?}");
        assert!(
            step.up || decision.from - decision.to == 1,
            "one at a time: {step:?}"
        );
        let Some(last) = self.steps.iter().rev().find(|s| s.pool == step.pool) else {
            return;
        };
        let distance = step.at - last.at;
        if step.up && !first {
            assert!(distance >= 30 * SECOND, "{last:?} {step:?}");
        }
        if !step.up {
            assert!(distance >= 60 * SECOND, "{last:?} {step:?}");
            let idle = !last.up || gives_way || distance >= 300 * SECOND;
            assert!(idle, "down so soon after up: {last:?} {step:?}");
        }
    }

    /// What the fleet does about it.
    fn apply(&mut self) {
        let counts = plan(&self.pools, self.limits, &self.scaler.wanted(&self.pools));
        assert!(counts.iter().sum::<u32>() <= self.limits.max);
        self.scaler.settle(&self.pools, &counts);
        for (pool, count) in counts.into_iter().enumerate() {
            let there: Vec<(u32, Standing)> = self
                .bots
                .iter()
                .filter(|((p, _), _)| *p == pool)
                .map(|((_, n), bot)| {
                    let standing = match bot.state {
                        _ if bot.leaving => Standing::Leaving,
                        State::Starting => Standing::Starting,
                        State::Working if bot.tasks > 0 => Standing::Busy,
                        State::Working => Standing::Idle,
                        State::Failing => Standing::Failing,
                    };
                    (*n, standing)
                })
                .collect();
            let most = ceiling(&self.pools[pool], self.limits);
            let picked = pick(count, most, &there, &Default::default());
            for (n, _) in there {
                let bot = self.bots.get_mut(&(pool, n)).unwrap();
                bot.leaving = !picked.contains(&n);
                if bot.leaving && bot.tasks == 0 {
                    self.bots.remove(&(pool, n));
                }
            }
            for n in picked {
                if !self.bots.contains_key(&(pool, n)) {
                    self.start((pool, n));
                }
            }
        }
    }

    fn start(&mut self, bot: (usize, u32)) {
        self.runs += 1;
        let run = self.runs;
        let sim = SimBot {
            state: State::Starting,
            leaving: false,
            tasks: 0,
            run,
        };
        self.bots.insert(bot, sim);
        let start = self.kinds[bot.0].start;
        self.at(self.now + start, Event::Ready { bot, run });
    }

    fn counts(&self) -> Vec<u32> {
        self.scaler.wanted(&self.pools)
    }

    /// How often a pool went the other way than before.
    fn turns(&self, pool: usize) -> usize {
        let ways: Vec<bool> = self
            .steps
            .iter()
            .filter(|step| step.pool == pool)
            .map(|step| step.up)
            .collect();
        ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    fn average_bots(&self) -> f64 {
        self.bot_time as f64 / self.now as f64
    }
}
