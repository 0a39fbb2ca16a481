//! The clocks, the dice and the hands of a simulated daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deia::time::Timestamp;
use deia::wire::{Launch, Pulse};

use super::super::edge::{Edge, Job};
use super::super::overriding::Override;
use crate::brain::Millis;
use crate::brain::clock::Clocks;
use crate::external::Registration;
use crate::fleet::Run;
use crate::fleet::exits::Watched;
use crate::fleet::pulse::PulseReader;
use crate::fleet::spawn::{ProcessHandle, Request};

/// Noon of a day, in microseconds.
const WALL: i64 = 1_790_000_000_000_000;

/// What the daemon and the world share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Milliseconds since the world began.
    pub now: Millis,
    /// When the daemon that lives was started.
    pub epoch: Millis,
    /// How far the wall clock was set, in milliseconds.
    pub skew: i64,
    /// ... at most.
    pub furthest: i64,
    pub rng: fastrand::Rng,
    /// What the daemon asked for, in order.
    pub wishes: Vec<Wish>,
    /// What bots' hearts say.
    pub pulses: BTreeMap<(String, Run), Pulse>,
    /// On disk.
    pub limits: Option<Override>,
    /// On disk.
    pub clocks: Option<Clocks>,
    /// On disk.
    pub stops: BTreeSet<String>,
}

/// What a daemon wants done.
#[derive(Debug)]
pub(super) enum Wish {
    Start(Box<Request>),
    Watch(Box<Watched>),
    Kill(Run),
    Job(Job),
}

/// A handle on it; every clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Hands(pub Arc<Mutex<Shared>>);

impl Hands {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            now: 0,
            epoch: 0,
            skew: 0,
            furthest: 0,
            rng: fastrand::Rng::with_seed(seed),
            wishes: Vec::new(),
            pulses: BTreeMap::new(),
            limits: None,
            clocks: None,
            stops: BTreeSet::new(),
        })))
    }

    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn time(&self) -> Timestamp {
        let shared = self.shared();
        Timestamp::from_micros(WALL).plus_millis(shared.now as i64 + shared.skew)
    }

    fn wish(&self, wish: Wish) {
        self.shared().wishes.push(wish);
    }
}

impl Edge for Hands {
    fn now(&self) -> Millis {
        let shared = self.shared();
        shared.now - shared.epoch
    }

    fn since_start(&self) -> Duration {
        Duration::from_millis(self.now())
    }

    fn wall(&self) -> Timestamp {
        self.time()
    }

    fn up(&self) -> i64 {
        self.shared().now as i64 * 1_000
    }

    fn boot(&self) -> String {
        "boot".into()
    }

    fn chance(&mut self) -> f64 {
        self.shared().rng.f64()
    }

    fn new_launch(&mut self) -> Launch {
        Launch(self.shared().rng.u64(..))
    }

    fn start(&mut self, request: Request) -> Result<(), Box<Request>> {
        self.wish(Wish::Start(Box::new(request)));
        Ok(())
    }

    fn watch(&mut self, process: Watched) {
        self.wish(Wish::Watch(Box::new(process)));
    }

    fn kill(&mut self, _bot: &str, run: Run, _process: &ProcessHandle) {
        self.wish(Wish::Kill(run));
    }

    fn pulse(&self, bot: &str, run: Run, _reader: &PulseReader) -> Option<Pulse> {
        self.shared().pulses.get(&(bot.to_owned(), run)).copied()
    }

    fn begin(&mut self, job: Job) {
        self.wish(Wish::Job(job));
    }

    fn kept_limits(&mut self) -> io::Result<Option<Override>> {
        Ok(self.shared().limits)
    }

    fn keep_clocks(&mut self, clocks: &Clocks) {
        self.shared().clocks = Some(clocks.clone());
    }

    fn kept_clocks(&mut self) -> Option<Clocks> {
        self.shared().clocks.clone()
    }

    fn kept_external(&mut self) -> io::Result<Vec<Registration>> {
        Ok(Vec::new())
    }

    fn kept_stops(&mut self) -> io::Result<BTreeSet<String>> {
        Ok(self.shared().stops.clone())
    }
}
