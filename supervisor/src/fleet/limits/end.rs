//! The end of a bot that is over a limit, with all it started.
//!
//! 1. By its cgroup, where it has one: one write, and the kernel ends all that is in it.
//! 2. By the bot, where Landlock keeps its signals ([`deia_worker::confine::domain`]): one signal to all.
//! 3. One by one. A bomb makes processes faster than they can be found and killed: what a look has found
//!    is gone by its end, and its children live. So each is stopped as soon as it is seen, and a look
//!    passes over what it knows already, so that it is short. When looks find nothing new, there is
//!    nothing left that could make any; then all are killed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia_worker::tree::{Identity, Process, members, process, scan, send};
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::measure::{self, Forest, SessionFirst};
use super::{Limited, Over, Shared, Watched};
use crate::fleet::FleetEvent;

/// How long the bot may take to end what it started, and how often it is looked whether it has: not so
/// often that it has no turn itself.
const BOT_PATIENCE: Duration = Duration::from_secs(1);
const BOT_PAUSE: Duration = Duration::from_millis(50);

/// How long new processes are looked for before the killing begins all the same.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Looks in a row that find nothing new before all are known to be stopped: one may have missed what
/// was between two parents.
const QUIET_LOOKS: u32 = 3;

/// Times the newest processes are followed between two looks, and how many of them at most.
const CHASES: u32 = 200;
const CHASED: i32 = 64;

/// Looks after which other processes are judged anew.
const LOOKS_BEFORE_ANEW: u32 = 64;

/// How long what is killed is looked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks that found something to kill.
const PAUSE: Duration = Duration::from_millis(5);

/// Ends what is found to be over a limit, one after the other. A thread that is there already: when a
/// bomb has gone off, there may be no new one.
pub(super) fn run(shared: &Shared, found: &mut mpsc::Receiver<Found>) {
    measure::go_first();
    while let Some(Found {
        watched,
        over,
        first,
    }) = found.blocking_recv()
    {
        end(shared, &watched, over);
        drop(first);
    }
}

/// A bot that is over a limit.
#[derive(Debug)]
pub(super) struct Found {
    pub watched: Arc<Watched>,
    pub over: Over,
    /// Where it is a matter of who gets a turn.
    pub first: Option<Arc<SessionFirst>>,
}

fn end(shared: &Shared, watched: &Watched, over: Over) {
    let full = (over.what == Limited::Own)
        .then(|| {
            watched
                .own
                .as_deref()
                .and_then(|own| set_aside(own, watched))
        })
        .flatten();
    // First: what follows of the bot's end is known then to be for this.
    let event = FleetEvent::OverLimit {
        bot: watched.bot.clone(),
        run: watched.run,
        over,
    };
    let _ = shared.events.blocking_send(event);
    let in_cgroup = shared
        .cgroups
        .as_ref()
        .filter(|cgroups| !cgroups.pids(&watched.bot, watched.run).is_empty());
    let killed = in_cgroup.map(|cgroups| cgroups.kill(&watched.bot, watched.run));
    if !matches!(killed, Some(Ok(true))) {
        let by_the_bot = shared.keeps_signals && watched.landlock;
        if !(by_the_bot && ended_by_the_bot(watched.process)) {
            hunt(watched.process);
        }
        send(watched.process, &[Signal::KILL]);
    }
    discard(full);
}

/// Stops these, but for the bot itself, which has to reap what ends.
pub fn stop(tree: &[Process], root: Identity) {
    for process in tree.iter().filter(|process| process.id != root) {
        send(process.id, &[Signal::STOP]);
    }
}

/// Has the bot end all that it started, in one act, where it can. Among thousands of processes of equal
/// rank its turn would come after a second and more, in which they are ten times as many.
fn ended_by_the_bot(root: Identity) -> bool {
    measure::let_go_first(root);
    send(root, &[Signal::USR1]);
    let give_up = Instant::now() + BOT_PATIENCE;
    while Instant::now() < give_up {
        std::thread::sleep(BOT_PAUSE);
        if Forest::of_this_host().tree(root).len() <= 1 {
            return true;
        }
    }
    false
}

/// Stops all that is below a process, and kills it.
fn hunt(root: Identity) {
    let mut hunt = Hunt::begin(root);
    let give_up = Instant::now() + STOP_PATIENCE;
    let mut quiet = 0;
    while quiet < QUIET_LOOKS && Instant::now() < give_up {
        let found = hunt.look() + hunt.chase();
        quiet = if found == 0 { quiet + 1 } else { 0 };
    }
    let ours = hunt.ours.into_values();
    let mut known: HashSet<Identity> = ours.filter(|id| *id != root).collect();
    let give_up = Instant::now() + PATIENCE;
    loop {
        let found = members(&scan(Path::new("/proc"), None), &known);
        if found.is_empty() || Instant::now() > give_up {
            return;
        }
        for id in &found {
            send(*id, &[Signal::KILL]);
        }
        known.extend(found);
        std::thread::sleep(PAUSE);
    }
}

/// The processes below a bot, stopped as they are found.
struct Hunt {
    ours: HashMap<i32, Identity>,
    /// Others, which a look passes over.
    others: HashSet<i32>,
    looks: u32,
}

impl Hunt {
    /// The bot itself goes on: it reaps what has ended, which would else take up pids.
    fn begin(root: Identity) -> Self {
        Self {
            ours: HashMap::from([(root.pid, root)]),
            others: HashSet::new(),
            looks: 0,
        }
    }

    /// Goes through all processes. Returns how many were new.
    fn look(&mut self) -> usize {
        // A pid of another may have become one of ours.
        if self.looks.is_multiple_of(LOOKS_BEFORE_ANEW) {
            self.others.clear();
        }
        self.looks += 1;
        pids().filter(|pid| self.judge(*pid)).count()
    }

    /// Follows the newest processes: where each lives for a moment only, these are the ones that are
    /// there still. Returns how many were new.
    fn chase(&mut self) -> usize {
        let mut new = 0;
        let mut seen = measure::newest_pid().unwrap_or(0).saturating_sub(CHASED);
        for _ in 0..CHASES {
            let newest = measure::newest_pid().unwrap_or(0);
            // They have begun anew from the lowest.
            if newest < seen {
                seen = newest.saturating_sub(CHASED);
            }
            for pid in seen.max(newest.saturating_sub(CHASED)) + 1..=newest {
                new += usize::from(self.judge(pid));
            }
            seen = newest;
        }
        new
    }

    /// Stops a process if it is one of ours, and was not known.
    fn judge(&mut self, pid: i32) -> bool {
        if self.ours.contains_key(&pid) || self.others.contains(&pid) {
            return false;
        }
        let Some(process) = process(pid.unsigned_abs()) else {
            return false;
        };
        if self.ours.contains_key(&process.ppid) {
            send(process.id, &[Signal::STOP]);
            self.ours.insert(pid, process.id);
            return true;
        }
        if process.ppid <= 2 || self.others.contains(&process.ppid) {
            self.others.insert(pid);
        }
        // Else its parent is not judged yet, or has gone: then it is its bot's child by the next look.
        false
    }
}

/// Every pid of the host, in order.
fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A HOME that is full would end the bot's next process as well: it gets an empty one.
fn set_aside(own: &Path, watched: &Watched) -> Option<PathBuf> {
    let Identity { pid, started } = watched.process;
    let aside = format!("{}{pid}-{started}", deia_worker::confine::DISCARDED);
    let aside = own.join(aside);
    let home = own.join(deia_worker::confine::HOME);
    std::fs::rename(home, &aside).ok()?;
    tracing::warn!(event = "bot_home_emptied", bot_id = %watched.bot, "the bot's HOME was over limits.disk_mb; it gets an empty one");
    Some(aside)
}

/// In the background. What can't be removed now is when the bot is started the next time.
fn discard(full: Option<PathBuf>) {
    if let Some(full) = full {
        let remover = std::thread::Builder::new().name("deia-discard".into());
        let _ = remover.spawn(move || deia_worker::remove::remove_all(&full));
    }
}
