//! Limits of a bot and all it starts, held where the kernel does not hold them.
//!
//! ```text
//!   main loop --busy, idle--> table of bots with tasks      no such bot: the threads sleep
//!                               |              |
//!                     deia-limits, twice a s   deia-disk, once a s
//!                     processes, memory        working directories, HOME, deleted files
//!                               |              |
//!                               '--> over: stop the tree, OverLimit to the main loop, kill the tree
//! ```
//!
//! Processes are counted sooner when the host's number of threads rises, see `GLANCE`.
//!
//! Memory is the sum of the processes' PSS, in which what is shared counts once; it is looked at only
//! when the resident sizes, which count it several times, are near the limit. Where a cgroup has the
//! controller, the kernel does both, and only what it refused is looked at.
//!
//! What is over a limit is ended here, by what was measured; what that means for the bot and its tasks
//! is the main loop's to decide.

mod disk;
mod end;
mod measure;
mod over;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deia_worker::confine::layer::{Kernel, WHOLE};
use deia_worker::tree::Identity;
use tokio::sync::mpsc;

pub use self::over::{Limited, Over};

use self::end::Found;
use self::measure::{Forest, SessionFirst};
use super::cgroup::{Cgroups, Controllers};
use super::{FleetEvent, Run};

/// Between two looks at processes and memory: what is over its limit is ended within a second.
const PERIOD: Duration = Duration::from_millis(500);

/// Between two glances at how many threads the host has. When it is many more than at the last look,
/// the next look is now: a bomb makes thousands of processes in half a second, among which whoever is
/// to end it hardly gets a turn.
const GLANCE: Duration = Duration::from_millis(50);

/// Between two looks at what is on disk, and the largest share of time such looks may take.
const DISK_PERIOD: Duration = Duration::from_secs(1);
const DISK_SHARE: u32 = 10;

/// A bot is watched this long after its last task: one task after the other is one stretch.
const LINGER: Duration = Duration::from_secs(2);

/// Orders that wait for the thread; there is at most one of a kind for each bot.
const MAX_ORDERS: usize = 65_536;

/// A bot that has tasks.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The bot.
    pub bot: Arc<str>,
    /// Which start.
    pub run: Run,
    /// Its process.
    pub process: Identity,
    /// Bytes it may have in memory.
    pub memory_bytes: u64,
    /// Processes it may have.
    pub processes: u64,
    /// Bytes it may have on disk, in each of its places.
    pub disk_bytes: u64,
    /// The working directories of its tasks, each with the task's name.
    pub work: Vec<(String, PathBuf)>,
    /// Its own directory.
    pub own: Option<PathBuf>,
    /// Whether Landlock confines it, where the kernel has it.
    pub landlock: bool,
    /// Whether it is in its cgroup.
    pub placed: bool,
}

/// The table and its threads. A clone is the same one.
#[derive(Debug, Clone)]
pub struct LimitWatch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    wake: Condvar,
    cgroups: Option<Arc<Cgroups>>,
    /// Whether the kernel's Landlock keeps signals within a bot.
    keeps_signals: bool,
    /// To the thread that ends them.
    found: mpsc::Sender<Found>,
    events: mpsc::Sender<FleetEvent>,
}

#[derive(Debug, Default)]
struct Table {
    bots: HashMap<Arc<str>, Entry>,
    orders: Vec<Order>,
}

#[derive(Debug)]
struct Entry {
    watched: Arc<Watched>,
    idle_since: Option<Instant>,
    /// Looks in a row at which the kernel had refused more.
    refusals: u32,
    refused: u64,
}

/// What the main loop must not do itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Kill(Arc<str>, Run),
    Remove(Arc<str>, Run),
}

impl LimitWatch {
    /// Starts the threads.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        cgroups: Option<Arc<Cgroups>>,
        events: mpsc::Sender<FleetEvent>,
    ) -> io::Result<Self> {
        let (found_to, mut found) = mpsc::channel(MAX_ORDERS);
        let shared = Arc::new(Shared {
            table: Mutex::default(),
            wake: Condvar::new(),
            cgroups,
            keeps_signals: matches!(Kernel::ask(), Kernel::Version(version) if version >= WHOLE),
            found: found_to,
            events,
        });
        let thread = |name: &str, run: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = shared.clone();
            let named = std::thread::Builder::new().name(name.into());
            named.spawn(move || run(&shared)).map(drop)
        };
        thread("deia-limits", Box::new(Shared::watch_processes))?;
        thread("deia-disk", Box::new(Shared::watch_disk))?;
        thread(
            "deia-end",
            Box::new(move |shared| end::run(shared, &mut found)),
        )?;
        Ok(Self(shared))
    }

    /// Without threads: nobody is looked at.
    #[cfg(test)]
    pub(crate) fn blind() -> Self {
        Self(Arc::new(Shared {
            table: Mutex::default(),
            wake: Condvar::new(),
            cgroups: None,
            keeps_signals: false,
            found: mpsc::channel(1).0,
            events: mpsc::channel(1).0,
        }))
    }

    /// The bot has these tasks now.
    pub fn busy(&self, watched: Watched) {
        let mut table = self.0.lock();
        let same = |entry: &&mut Entry| entry.watched.run == watched.run;
        if let Some(entry) = table.bots.get_mut(&watched.bot).filter(same) {
            entry.idle_since = None;
            entry.watched = Arc::new(watched);
            return;
        }
        let entry = Entry {
            idle_since: None,
            refusals: 0,
            refused: 0,
            watched: Arc::new(watched),
        };
        table.bots.insert(entry.watched.bot.clone(), entry);
        drop(table);
        self.0.wake.notify_all();
    }

    /// It still has tasks, and nothing else has changed. Returns whether it is watched.
    pub fn still_busy(&self, bot: &Arc<str>, run: Run) -> bool {
        let mut table = self.0.lock();
        let entry = table.bots.get_mut(bot);
        match entry.filter(|entry| entry.watched.run == run) {
            Some(entry) => {
                entry.idle_since = None;
                true
            }
            None => false,
        }
    }

    /// It has none any more.
    pub fn idle(&self, bot: &Arc<str>, run: Run) {
        if let Some(entry) = self.0.lock().bots.get_mut(bot)
            && entry.watched.run == run
        {
            entry.idle_since.get_or_insert_with(Instant::now);
        }
    }

    /// Its process has ended.
    pub fn gone(&self, bot: &Arc<str>, run: Run) {
        let mut table = self.0.lock();
        if table.bots.get(bot).is_some_and(|e| e.watched.run == run) {
            table.bots.remove(bot);
        }
        drop(table);
        self.order(Order::Remove(bot.clone(), run));
    }

    /// Ends everything of this start of it at once, where it has a cgroup.
    pub fn kill(&self, bot: &Arc<str>, run: Run) {
        self.order(Order::Kill(bot.clone(), run));
    }

    fn order(&self, order: Order) {
        if self.0.cgroups.is_none() {
            return;
        }
        let mut table = self.0.lock();
        if table.orders.len() < MAX_ORDERS {
            table.orders.push(order);
        }
        drop(table);
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Entries are whole after any panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to watch and `period` has passed, or until there are orders.
    fn wait(&self, until: Instant) -> Vec<Order> {
        let mut table = self.lock();
        loop {
            let now = Instant::now();
            if !table.orders.is_empty() {
                return std::mem::take(&mut table.orders);
            }
            table.bots.retain(|_, entry| {
                entry
                    .idle_since
                    .is_none_or(|since| now.duration_since(since) < LINGER)
            });
            if table.bots.is_empty() {
                table = self
                    .wake
                    .wait(table)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if now < until {
                let waited = self.wake.wait_timeout(table, until - now);
                table = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                return Vec::new();
            }
        }
    }

    fn watch_processes(&self) {
        measure::go_first();
        let mut due = Instant::now();
        let mut threads = measure::threads_of_the_host();
        loop {
            let until = match self.runs_commands() {
                true => due.min(Instant::now() + GLANCE),
                false => due,
            };
            for order in self.wait(until) {
                self.obey(&order);
            }
            let now = measure::threads_of_the_host();
            let risen = now.saturating_sub(threads) > self.alarming_rise();
            threads = threads.min(now);
            if risen || Instant::now() >= due {
                // Before the look, which is long where processes are many.
                let first = risen.then(SessionFirst::new);
                self.look_at_processes(first);
                threads = measure::threads_of_the_host();
                due = Instant::now() + PERIOD;
            }
        }
    }

    /// Whether there is a bot that could set off a bomb.
    fn runs_commands(&self) -> bool {
        let table = self.lock();
        table.bots.values().any(|entry| entry.watched.own.is_some())
    }

    /// Half of what a bot may have.
    fn alarming_rise(&self) -> u64 {
        let table = self.lock();
        let least = table.bots.values().map(|e| e.watched.processes).min();
        least.unwrap_or(u64::MAX) / 2
    }

    fn obey(&self, order: &Order) {
        let Some(cgroups) = &self.cgroups else {
            return;
        };
        match order {
            Order::Kill(bot, run) => {
                if let Err(e) = cgroups.kill(bot, *run) {
                    tracing::warn!(event = "cgroup_not_killed", bot_id = %bot, error = %e, "the bot's processes are ended one by one instead");
                }
            }
            Order::Remove(bot, run) => cgroups.remove(bot, *run),
        }
    }

    fn look_at_processes(&self, first: Option<SessionFirst>) {
        // Until the last of them is ended.
        let first = first.map(Arc::new);
        for mut found in self.over_by_processes() {
            found.first.clone_from(&first);
            self.end(found);
        }
    }

    fn watched(&self) -> Vec<Arc<Watched>> {
        let table = self.lock();
        table.bots.values().map(|e| e.watched.clone()).collect()
    }

    fn over_by_processes(&self) -> Vec<Found> {
        let mut over = Vec::new();
        let mut held = Controllers::default();
        if let Some(cgroups) = &self.cgroups {
            held = cgroups.controllers();
            over = self.over_by_refusals(cgroups);
        }
        let mut watched = self.watched();
        // What the kernel holds needs no looking.
        watched.retain(|bot| !(bot.placed && held.memory && held.pids));
        if watched.is_empty() {
            return over;
        }
        let forest = Forest::of_this_host();
        for bot in watched {
            let held = match bot.placed {
                true => held,
                false => Controllers::default(),
            };
            let tree = forest.tree(bot.process);
            let too_many = || measure::processes(&tree, bot.processes);
            let too_big = || measure::memory(&tree, bot.memory_bytes, measure::shared_size);
            let by_count = (!held.pids).then(too_many).flatten();
            if by_count.is_some() {
                // At once: what makes too many makes more by the moment.
                end::stop(&tree, bot.process);
            }
            let found = by_count.or_else(|| (!held.memory).then(too_big).flatten());
            over.extend(found.map(|over| Found {
                watched: bot,
                over,
                first: None,
            }));
        }
        over
    }

    /// Bots to which the kernel refused more processes, look after look.
    fn over_by_refusals(&self, cgroups: &Cgroups) -> Vec<Found> {
        let mut over = Vec::new();
        for bot in self.watched() {
            let refused = cgroups.events(&bot.bot, bot.run).refused;
            let mut table = self.lock();
            let Some(entry) = table.bots.get_mut(&bot.bot) else {
                continue;
            };
            entry.refusals = match refused > entry.refused {
                true => entry.refusals + 1,
                false => 0,
            };
            entry.refused = refused;
            if entry.refusals >= measure::REFUSALS {
                let found = Over {
                    what: Limited::Refused,
                    measured: refused,
                    allowed: bot.processes,
                };
                over.push(Found {
                    watched: bot,
                    over: found,
                    first: None,
                });
            }
        }
        over
    }

    fn watch_disk(&self) {
        let mut due = Instant::now();
        loop {
            // Orders are the other thread's.
            self.sleep(due);
            let began = Instant::now();
            let forest = Forest::of_this_host();
            for watched in self.watched() {
                if let Some(over) = disk::over(&watched, &forest) {
                    self.end(Found {
                        watched,
                        over,
                        first: None,
                    });
                }
            }
            due = Instant::now() + DISK_PERIOD.max(began.elapsed() * DISK_SHARE);
        }
    }

    /// Waits until there is a bot that may write, and until then.
    fn sleep(&self, until: Instant) {
        let mut table = self.lock();
        loop {
            let now = Instant::now();
            let commands = |entry: &Entry| entry.watched.own.is_some();
            if !table.bots.values().any(commands) {
                table = self
                    .wake
                    .wait(table)
                    .unwrap_or_else(PoisonError::into_inner);
            } else if now < until {
                let waited = self.wake.wait_timeout(table, until - now);
                table = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                return;
            }
        }
    }

    /// Has a bot ended with its whole tree: a bomb takes a while.
    fn end(&self, found: Found) {
        {
            let mut table = self.lock();
            match table.bots.get(&found.watched.bot) {
                Some(entry) if entry.watched.run == found.watched.run => {}
                // Ended meanwhile, or by the other thread.
                _ => return,
            }
            table.bots.remove(&found.watched.bot);
        }
        // Room for every bot a fleet may have.
        let _ = self.found.try_send(found);
    }
}

#[cfg(test)]
mod tests;
