//! One evaluation after the other, by hand; whole days are in `sim/`.

mod down;
mod up;

use super::*;

/// A fleet that stands as it is told, and follows what scaling wants.
struct Fleet {
    pools: Vec<Pool>,
    limits: Limits,
    rules: Scaling,
    scaler: Scaler,
    inputs: Inputs,
    now: Millis,
}

const SECOND: Millis = 1_000;

impl Fleet {
    /// `(name, min, max)` of each pool; one slot a bot.
    fn new(pools: &[(&str, u32, Option<u32>)], min: u32, max: u32) -> Self {
        let pools: Vec<Pool> = pools
            .iter()
            .map(|(name, min, max)| {
                let mut pool = Pool::new(name, BackendSpec::Echo(EchoSpec::default()));
                (pool.min, pool.max) = (*min, *max);
                pool
            })
            .collect();
        let figures = PoolFigures {
            slots: 1,
            ..PoolFigures::default()
        };
        let mut fleet = Self {
            inputs: Inputs {
                pools: vec![figures; pools.len()],
                ..Inputs::default()
            },
            pools,
            limits: Limits::new(min, max),
            rules: Scaling::default(),
            scaler: Scaler::default(),
            now: 1_000_000,
        };
        fleet.follow();
        fleet
    }

    /// All bots that are wanted work.
    fn follow(&mut self) {
        let counts = plan(&self.pools, self.limits, &self.scaler.wanted(&self.pools));
        self.scaler.settle(&self.pools, &counts);
        for (figures, count) in self.inputs.pools.iter_mut().zip(counts) {
            figures.working = count - figures.failing - figures.held;
        }
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            no_growth: false,
            none_ahead: false,
            pools: &self.pools,
            limits: self.limits,
            rules: &self.rules,
        }
    }

    /// So many wait for these pools, the oldest for so long; every slot is taken.
    fn waits(&mut self, pools: &[usize], waiting: u64, oldest_seconds: f64) {
        self.inputs.backlogs = vec![Backlog {
            pools: (0..self.pools.len()).map(|n| pools.contains(&n)).collect(),
            asked: None,
            waiting,
            oldest_seconds,
        }];
        self.busy(1.0);
    }

    /// The load of every bot, since the last evaluation and now.
    fn busy(&mut self, load: f64) {
        self.inputs.load = load;
        for figures in &mut self.inputs.pools {
            figures.load = load;
            figures.busy = (f64::from(figures.supply()) * load).round() as u32;
        }
    }

    fn idle(&mut self) {
        self.inputs.backlogs.clear();
        self.busy(0.0);
    }

    fn evaluate_after(&mut self, seconds: u64) -> Evaluation {
        self.now += seconds * SECOND;
        let mut scaler = std::mem::take(&mut self.scaler);
        let evaluation = scaler.evaluate(self.setting(), &self.inputs, self.now);
        self.scaler = scaler;
        self.follow();
        evaluation
    }

    fn look(&mut self) -> Option<Evaluation> {
        let mut scaler = std::mem::take(&mut self.scaler);
        let evaluation = scaler.look(self.setting(), &self.inputs, self.now);
        self.scaler = scaler;
        self.follow();
        evaluation
    }

    fn by_hand(&mut self, pool: Option<usize>, change: i64) -> (Vec<u32>, Option<String>) {
        let mut scaler = std::mem::take(&mut self.scaler);
        let (_, short) = scaler.by_hand(self.setting(), &self.inputs, pool, change, self.now);
        self.scaler = scaler;
        self.follow();
        (self.counts(), short)
    }

    fn counts(&self) -> Vec<u32> {
        self.scaler.wanted(&self.pools)
    }
}

fn one_pool(min: u32, max: u32) -> Fleet {
    Fleet::new(&[("main", 0, None)], min, max)
}
