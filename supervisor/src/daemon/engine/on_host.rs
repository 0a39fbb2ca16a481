//! The world as it is: clocks, processes, threads, files.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use deia::time::Timestamp;
use deia::wire::{Launch, Pulse};
use deia_worker::tree;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use super::Internal;
use super::edge::{Edge, ExternalKept, Job, KeepExternal, Stops, Tending};
use super::overriding::Override;
use super::scaling::{HostSampled, Question};
use crate::brain::clock::Clocks;
use crate::brain::{Millis, millis};
use crate::daemon::home::Home;
use crate::external::{Registration, registry};
use crate::fleet::Run;
use crate::fleet::exits::{Exits, Watched};
use crate::fleet::proof::new_launch;
use crate::fleet::pulse::PulseReader;
use crate::fleet::results::Results;
use crate::fleet::spawn::{ProcessHandle, Request, Spawner};
use crate::fleet::workdirs::Tidier;
use crate::logs::rotate_held;
use crate::store::Store;
use crate::usage::HostProbe;

/// This host.
pub(super) struct OnHost {
    /// When the daemon started.
    pub epoch: Instant,
    /// The paths.
    pub home: Home,
    /// Where the queue is read.
    pub store: Arc<dyn Store>,
    /// Starts processes.
    pub spawner: Spawner,
    /// Watches them.
    pub exits: Exits,
    /// Where jobs are answered.
    pub answers: mpsc::Sender<Internal>,
    /// Looks at the host.
    pub probe: HostProbe,
    /// Looks through tasks' working directories, on another thread.
    pub workdirs: Arc<Mutex<Tidier>>,
}

impl Edge for OnHost {
    fn now(&self) -> Millis {
        millis_of(self.epoch.elapsed())
    }

    fn since_start(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn up(&self) -> i64 {
        let up = clock_gettime(ClockId::Boottime);
        up.tv_sec * 1_000_000 + up.tv_nsec / 1_000
    }

    fn boot(&self) -> String {
        tree::boot_id()
    }

    fn chance(&mut self) -> f64 {
        fastrand::f64()
    }

    fn new_launch(&mut self) -> Launch {
        new_launch()
    }

    fn start(&mut self, request: Request) -> Result<(), Box<Request>> {
        self.spawner.spawn(request)
    }

    fn watch(&mut self, process: Watched) {
        self.exits.watch(process);
    }

    fn kill(&mut self, _bot: &str, _run: Run, process: &ProcessHandle) {
        process.kill();
    }

    fn pulse(&self, _bot: &str, _run: Run, reader: &PulseReader) -> Option<Pulse> {
        // In memory: this waits for nobody.
        reader.read()
    }

    fn begin(&mut self, job: Job) {
        match job {
            Job::Fill(demand, load) => {
                let (store, to) = (self.store.clone(), self.answers.clone());
                tokio::spawn(async move {
                    let rows = store
                        .ready_after(demand.clone(), load.after, load.most)
                        .await;
                    let _ = to.send(Internal::Filled(demand, rows)).await;
                });
            }
            Job::LookAtHost(asked) => self.look_at_host(asked),
            Job::KeepLimits(wanted) => {
                let (path, to) = (self.home.limits_override(), self.answers.clone());
                tokio::spawn(async move {
                    let kept =
                        tokio::task::spawn_blocking(move || keep_limits(&path, wanted)).await;
                    let result = kept.unwrap_or_else(|e| Err(io::Error::other(e)));
                    let _ = to.send(Internal::LimitsKept(result)).await;
                });
            }
            Job::KeepStops(stops) => {
                let path = self.home.held_bots();
                tokio::task::spawn_blocking(move || keep_stops(&path, stops));
            }
            Job::KeepExternal(KeepExternal { registrations }) => {
                let (path, to) = (self.home.external_bots(), self.answers.clone());
                tokio::spawn(async move {
                    let keep = move || registry::save(&path, &registrations);
                    let kept = tokio::task::spawn_blocking(keep).await;
                    let result = kept.unwrap_or_else(|e| Err(io::Error::other(e)));
                    let _ = to
                        .send(Internal::ExternalKept(ExternalKept { result }))
                        .await;
                });
            }
            Job::KeepClocks(clocks) => {
                let path = self.home.clocks();
                tokio::task::spawn_blocking(move || keep_clocks(&path, &clocks));
            }
            Job::Tend(tending) => self.tend(tending),
            Job::PutAway(path) => Results::put_away(path),
        }
    }

    fn kept_limits(&mut self) -> io::Result<Option<Override>> {
        match std::fs::read_to_string(self.home.limits_override()) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(io::Error::other),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn keep_clocks(&mut self, clocks: &Clocks) {
        keep_clocks(&self.home.clocks(), clocks);
    }

    fn kept_clocks(&mut self) -> Option<Clocks> {
        let path = self.home.clocks();
        let kept = std::fs::read(&path).map(|text| serde_json::from_slice(&text));
        match kept {
            Ok(Ok(clocks)) => Some(clocks),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            // Clocks that agree are the most likely.
            Ok(Err(e)) => {
                tracing::warn!(event = "clocks_unreadable", error = %e, path = %path.display(), "what was known of the clocks could not be read");
                None
            }
            Err(e) => {
                tracing::warn!(event = "clocks_unreadable", error = %e, path = %path.display(), "what was known of the clocks could not be read");
                None
            }
        }
    }

    fn kept_external(&mut self) -> io::Result<Vec<Registration>> {
        registry::load(&self.home.external_bots())
    }

    fn kept_stops(&mut self) -> io::Result<BTreeSet<String>> {
        match std::fs::read(self.home.held_bots()) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(e) => Err(e),
        }
    }
}

impl OnHost {
    /// Reads the host's counters off the main loop.
    fn look_at_host(&self, asked: Option<Question>) {
        let (probe, to) = (self.probe.clone(), self.answers.clone());
        tokio::spawn(async move {
            let host = probe.sample().await;
            if let Some(asked) = asked {
                let sampled = HostSampled { host, asked };
                let _ = to.send(Internal::HostSampled(sampled)).await;
            }
        });
    }

    fn tend(&self, tending: Tending) {
        let (work, tidier) = (self.home.work(), self.workdirs.clone());
        let looked_at = SystemTime::now();
        tokio::task::spawn_blocking(move || {
            let logging = &tending.config.logging;
            for file in tending.outputs {
                if let Err(e) = rotate_held(&file, logging.max_file_mb << 20, logging.keep_files) {
                    tracing::warn!(event = "rotation_failed", file = %file.display(), error = %e, "what a bot printed could not be rotated");
                }
            }
            // One look at a time: the last one may not be done yet.
            let Ok(mut tidier) = tidier.try_lock() else {
                return;
            };
            let keep = &tending.config.tasks.workdir_keep;
            if let Err(e) = tidier.tidy(&work, keep, &tending.running, looked_at) {
                tracing::warn!(event = "workdirs_not_tidied", path = %work.display(), error = %e, "tasks' working directories could not be looked through");
            }
        });
    }
}

fn millis_of(elapsed: Duration) -> Millis {
    Millis::try_from(elapsed.as_millis()).unwrap_or_else(|_| millis(elapsed.as_secs_f64()))
}

/// Writes an operator's limits so that they survive a crash, or removes them.
fn keep_limits(path: &Path, wanted: Option<Override>) -> io::Result<()> {
    match wanted {
        None => {
            crate::durable::remove(path)?;
            deia::failpoint!("limits.removed");
            Ok(())
        }
        Some(wanted) => {
            let text = serde_json::to_string(&wanted).map_err(io::Error::other)?;
            crate::durable::write(path, text.as_bytes())
        }
    }
}

fn keep_clocks(path: &Path, clocks: &Clocks) {
    // Two at once write one after the other, and who comes late does not write what is older.
    static WRITTEN: Mutex<Option<Timestamp>> = Mutex::new(None);
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if *written > Some(clocks.seen()) {
        return;
    }
    *written = Some(clocks.seen());
    let text = serde_json::to_vec(clocks).map_err(io::Error::other);
    if let Err(e) = text.and_then(|text| crate::durable::write(path, &text)) {
        tracing::warn!(event = "clocks_not_kept", error = %e, path = %path.display(), "what is known of the clocks could not be written");
    }
}

/// Writes which bots an operator has stopped, then tells who asked.
fn keep_stops(path: &Path, stops: Stops) {
    write_stops(path, &stops);
    if let Some((reply, answer)) = stops.then {
        // Whoever asked may be gone. A failure was logged.
        let _ = reply.send(answer);
    }
}

fn write_stops(path: &Path, stops: &Stops) {
    // Two at once write one after the other, and who comes late does not write what is older.
    static WRITTEN: Mutex<u64> = Mutex::new(0);
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if *written > stops.turn {
        return;
    }
    *written = stops.turn;
    let text = serde_json::to_vec(&stops.bots).map_err(io::Error::other);
    if let Err(e) = text.and_then(|text| crate::durable::write(path, &text)) {
        tracing::error!(event = "stopped_bots_not_kept", error = %e, path = %path.display(), "which bots were stopped by hand could not be written; the next daemon would start them");
    }
}
