//! A bot's limits and its walls, as the main loop has a part in them: who is watched, what an end for a
//! limit means, and what the sandbox has to know of the daemon's files.

use std::path::PathBuf;
use std::sync::Arc;

use deia::config::{BackendSpec, Landlock, ModelServer, Paths, Pool, Workdir};
use deia::wire::Places;

use super::Engine;
use super::bots::BotEntry;
use crate::brain::Millis;
use crate::brain::bot::Event;
use crate::fleet::Run;
use crate::fleet::confinement;
use crate::fleet::limits::{Over, Watched};

const MIB: u64 = 1 << 20;

/// How long what a bot started may be ended before the bot itself is, whatever is left.
const ENDING: Millis = 8_000;

/// Why a bot is being ended, and since when.
#[derive(Debug)]
pub(super) struct OverLimit {
    pub why: String,
    since: Millis,
}

impl OverLimit {
    /// Whether it is left to [`crate::fleet::limits`] still.
    pub fn has_time(&self, now: Millis) -> bool {
        now < self.since.saturating_add(ENDING)
    }
}

impl Engine {
    /// The bot's tasks have changed, or its process is known now: bots with tasks are watched.
    pub(super) fn watch_limits(&self, id: &Arc<str>) {
        let Some((entry, process)) = self
            .bots
            .get(id)
            .and_then(|entry| Some((entry, entry.identity?)))
        else {
            return;
        };
        if entry.tasks.is_empty() {
            return self.limit_watch.idle(id, entry.run);
        }
        let limits = &entry.spec.limits;
        let commands = entry.spec.runs_commands();
        if !commands && self.limit_watch.still_busy(id, entry.run) {
            return;
        }
        let fresh = commands && entry.spec.workdir == Workdir::Fresh;
        let tasks = entry.tasks.keys().filter(|_| fresh);
        let work = self.home.work();
        self.limit_watch.busy(Watched {
            bot: id.clone(),
            run: entry.run,
            process,
            memory_bytes: limits.memory_mb.saturating_mul(MIB),
            processes: u64::from(limits.processes),
            disk_bytes: limits.disk_mb.saturating_mul(MIB),
            work: tasks
                .map(|task| (task.to_string(), work.join(task.as_str())))
                .collect(),
            own: commands.then(|| self.home.bot_own(id)),
            landlock: limits.landlock != Landlock::Off,
            placed: entry.placed,
        });
    }

    /// It has a process that is known, in its cgroup where there is one: it is given tasks from now on,
    /// if it is ready.
    pub(super) fn may_work(&mut self, id: &Arc<str>) {
        self.watch_limits(id);
        if let Some(entry) = self.bots.get(id)
            && entry.machine.takes_tasks()
            && entry.is_at_work()
        {
            let (pool, slots) = (entry.spec.name.clone(), entry.terms.slots);
            self.dispatcher.open(id, &pool, slots);
        }
    }

    /// It took more than it may; it and what it started are being ended already.
    pub(super) fn over_limit(&mut self, id: &Arc<str>, run: Run, over: &Over) {
        let since = self.now();
        let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) else {
            return;
        };
        tracing::warn!(event = "bot_over_limit", bot_id = %id, cause = over.cause().as_str(), measured = over.measured, allowed = over.allowed, "the bot took more than it may; it is ended with all it started");
        entry.over = Some(OverLimit {
            why: over.to_string(),
            since,
        });
        self.bot_event(id, Event::Stuck(over.cause()));
    }

    /// Whether it is being ended for that.
    pub(super) fn is_over_limit(&self, id: &str) -> bool {
        self.bots.get(id).is_some_and(|entry| entry.over.is_some())
    }

    /// What its sandbox and its cgroup come to.
    pub(super) fn sandbox_of(&self, entry: &BotEntry) -> Option<String> {
        let sandbox = entry.sandbox.as_ref()?;
        let cgroup = self.evidence.cgroups.as_ref().filter(|_| entry.placed);
        let controllers = cgroup.map(|c| c.controllers().names());
        let cgroup = confinement::in_words(cgroup.is_some(), &controllers.unwrap_or_default());
        Some(format!("{sandbox}, {cgroup}"))
    }

    /// The daemon's own files, and every pool's secrets.
    pub(super) fn closed_to_bots(&self) -> Vec<PathBuf> {
        let home = &self.home;
        let own = [
            &home.deia(),
            &home.state,
            &home.logs,
            &home.config,
            &home.run,
        ];
        let mut closed: Vec<PathBuf> = own.into_iter().cloned().collect();
        closed.push(home.root.join("bot-config.yaml"));
        closed.extend(self.closed.iter().cloned());
        closed.extend(self.secrets());
        closed
    }

    /// Where the walls of a bot's sandbox are.
    pub(super) fn places(&self, id: &str) -> Places {
        Places {
            own: self.home.bot_own(id),
            spool: self.home.spool(),
            daemon_home: self.home.root.clone(),
            closed: self.closed_to_bots(),
            fleet_processes: self.fleet_processes(),
        }
    }

    fn fleet_processes(&self) -> u64 {
        let most = self.config.bot_limits.max_bots.max(self.limits.max);
        let pools = self.config.bots.iter();
        let of_pools = pools.map(|pool| {
            let bots = pool.max.unwrap_or(most).min(most);
            u64::from(bots) * u64::from(pool.limits.processes)
        });
        of_pools.fold(0, u64::saturating_add)
    }

    /// The files of every pool's secrets.
    fn secrets(&self) -> impl Iterator<Item = PathBuf> {
        let key = |server: &ModelServer| server.api_key_file.clone();
        let of_backend = move |backend: &BackendSpec| match backend {
            BackendSpec::Ollama(server) | BackendSpec::Openai(server) => key(server),
            BackendSpec::Command(_) | BackendSpec::Echo(_) => None,
        };
        let pools = self.config.bots.iter();
        let of_pools = pools.flat_map(move |pool| {
            let backends = std::iter::once(&pool.backend).chain(&pool.fallback);
            let keys = backends.filter_map(of_backend);
            keys.chain(pool.env_files.values().cloned())
                .collect::<Vec<_>>()
        });
        let backends = &self.config.backends;
        let defaults = [&backends.ollama, &backends.openai].into_iter();
        of_pools
            .chain(defaults.filter_map(key))
            .chain(self.config.store.url_file.clone())
            .chain(
                self.config
                    .http
                    .tls
                    .key_file
                    .iter()
                    .map(|key| self.home.root.join(key)),
            )
    }

    /// A pool's directories; relative ones are below HOME.
    pub(super) fn absolute(&self, spec: &Pool) -> (Workdir, Paths) {
        let root = &self.home.root;
        let joined = |paths: &[PathBuf]| paths.iter().map(|path| root.join(path)).collect();
        let workdir = match &spec.workdir {
            Workdir::Fresh => Workdir::Fresh,
            Workdir::Path(path) => Workdir::Path(root.join(path)),
        };
        let paths = Paths {
            read: joined(&spec.paths.read),
            write: joined(&spec.paths.write),
        };
        (workdir, paths)
    }
}
