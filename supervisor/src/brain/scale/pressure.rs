//! Waiting tasks against the bots that could take them.
//!
//! Free slots, those of starting bots too, are set against what waits first. What is left presses on
//! every pool that could take it, as tasks for each bot that serves it; a bot that is added takes its
//! share of it at once, so that nothing is counted twice.

use super::Inputs;

/// What came within this time may be gone by the next look: a queue that a second empties is none.
pub(super) const MOMENT_SECONDS: f64 = 1.0;

/// Tasks that wait with the same choice of bots.
#[derive(Debug, Clone, PartialEq)]
pub struct Backlog {
    /// Which pools could take them, in the order of the pools.
    pub pools: Vec<bool>,
    /// They ask for one bot by its name; how it stands.
    pub asked: Option<Asked>,
    /// How many.
    pub waiting: u64,
    /// How long the oldest has waited.
    pub oldest_seconds: f64,
}

/// A bot that tasks ask for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// There is none of this name.
    Absent,
    /// It works, or is being started.
    Serves,
    /// It fails, or an operator stopped it.
    Out,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pressure {
    groups: Vec<Group>,
    /// Bots of each pool that work or are being started.
    supply: Vec<u32>,
    slots: Vec<u32>,
}

#[derive(Debug)]
struct Group {
    pools: Vec<usize>,
    absent: bool,
    left: u64,
    oldest_seconds: f64,
    /// A bot was added for it.
    helped: bool,
}

impl Pressure {
    pub fn of(inputs: &Inputs) -> Self {
        let mut free: Vec<u64> = inputs
            .pools
            .iter()
            .map(|pool| match pool.server_full {
                true => 0,
                false => u64::from(pool.supply() * pool.slots).saturating_sub(pool.busy.into()),
            })
            .collect();
        let mut groups: Vec<Group> = inputs
            .backlogs
            .iter()
            .filter(|backlog| matches!(backlog.asked, None | Some(Asked::Absent)))
            .map(|backlog| Group {
                pools: (0..inputs.pools.len())
                    .filter(|pool| backlog.pools.get(*pool) == Some(&true))
                    .collect(),
                absent: backlog.asked.is_some(),
                left: backlog.waiting,
                oldest_seconds: backlog.oldest_seconds,
                helped: false,
            })
            .collect();
        // Who has the least choice is served first.
        groups.sort_by_key(|group| group.pools.len());
        for group in groups.iter_mut().filter(|group| !group.absent) {
            for pool in &group.pools {
                let taken = group.left.min(free[*pool]);
                group.left -= taken;
                free[*pool] -= taken;
            }
        }
        groups.retain(|group| group.left > 0);
        Self {
            groups,
            supply: inputs.pools.iter().map(|pool| pool.supply()).collect(),
            slots: inputs.pools.iter().map(|pool| pool.slots).collect(),
        }
    }

    /// Bots of the pool that work or are being started, with those that were added.
    pub fn supply(&self, pool: usize) -> u32 {
        self.supply[pool]
    }

    /// One more bot for this pool.
    pub fn add(&mut self, pool: usize) {
        self.supply[pool] += 1;
        let mut free = u64::from(self.slots[pool]);
        for group in &mut self.groups {
            if !group.pools.contains(&pool) {
                continue;
            }
            // Who asks for a name by now has it, or waits for the next look.
            let taken = match group.absent {
                true => group.left,
                false => group.left.min(free),
            };
            group.left -= taken;
            free = free.saturating_sub(taken);
            group.helped = true;
        }
    }

    /// What presses on a pool: tasks for each bot that serves them, of those that wait longer than
    /// a moment.
    pub fn per_bot(&self, pool: usize) -> f64 {
        self.on(pool)
            .filter(|group| group.oldest_seconds >= MOMENT_SECONDS)
            .map(|group| group.left as f64 / f64::from(self.serving(group).max(1)))
            .sum()
    }

    /// Tasks that are left for the pool.
    pub fn left(&self, pool: usize) -> u64 {
        self.on(pool).map(|group| group.left).sum()
    }

    /// How long the oldest has waited that nothing was done for.
    pub fn oldest_seconds(&self, pool: usize) -> f64 {
        self.on(pool)
            .filter(|group| !group.helped)
            .map(|group| group.oldest_seconds)
            .fold(0.0, f64::max)
    }

    /// The tasks that no bot serves: the pools that could, and how many tasks; the oldest first.
    pub fn unserved(&self) -> Vec<(Vec<usize>, u64)> {
        let mut unserved: Vec<&Group> = self
            .groups
            .iter()
            .filter(|group| group.left > 0 && self.serving(group) == 0)
            .collect();
        unserved.sort_by(|a, b| b.oldest_seconds.total_cmp(&a.oldest_seconds));
        unserved
            .into_iter()
            .map(|group| (group.pools.clone(), group.left))
            .collect()
    }

    fn on(&self, pool: usize) -> impl Iterator<Item = &Group> {
        self.groups
            .iter()
            .filter(move |group| group.left > 0 && group.pools.contains(&pool))
    }

    fn serving(&self, group: &Group) -> u32 {
        if group.absent && !group.helped {
            return 0;
        }
        group.pools.iter().map(|pool| self.supply[*pool]).sum()
    }
}
