//! What the main loop needs of the world: time, chance, and hands.
//!
//! ```text
//!              .--------------------------------------------.
//!   events --->| Engine: plain calls, no clock of its own,  |---> Edge   OnHost: processes, threads, files
//!              | no chance of its own, waits for nothing    |            a simulation: `sim`
//!              '--------------------------------------------'
//! ```
//!
//! Nothing here waits. What takes time is a [`Job`], whose end comes back as an event; so a simulation
//! can have it end late, early, or never.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deia::api::BotActionAnswer;
use deia::config::Config;
use deia::time::Timestamp;
use deia::wire::{Launch, Pulse};

use super::overriding::Override;
use super::scaling::Question;
use crate::brain::Millis;
use crate::brain::clock::Clocks;
use crate::brain::window::Load;
use crate::daemon::command::{Refused, Reply};
use crate::external::Registration;
use crate::fleet::Run;
use crate::fleet::exits::Watched;
use crate::fleet::pulse::PulseReader;
use crate::fleet::spawn::{ProcessHandle, Request};

/// The world, as the main loop meets it.
pub(super) trait Edge: Send {
    /// The monotonic clock, from the daemon's start.
    fn now(&self) -> Millis;

    /// The same, for what takes microseconds.
    fn since_start(&self) -> Duration;

    /// The wall clock.
    fn wall(&self) -> Timestamp;

    /// Microseconds since the host was started, and which start of it that was: no step of the wall clock
    /// moves them.
    fn up(&self) -> i64;

    /// See [`Edge::up`].
    fn boot(&self) -> String;

    /// A number in 0..1.
    fn chance(&mut self) -> f64;

    /// The name of one more start of a bot, for ever.
    fn new_launch(&mut self) -> Launch;

    /// Starts a process; answered by [`crate::fleet::FleetEvent::Spawned`].
    ///
    /// # Errors
    /// Gives the request back when too many wait.
    fn start(&mut self, request: Request) -> Result<(), Box<Request>>;

    /// Watches a process; answered by [`crate::fleet::FleetEvent::Ended`].
    fn watch(&mut self, process: Watched);

    /// Ends the process of this start of a bot at once.
    fn kill(&mut self, bot: &str, run: Run, process: &ProcessHandle);

    /// What the heart of this start of a bot says now.
    fn pulse(&self, bot: &str, run: Run, reader: &PulseReader) -> Option<Pulse>;

    /// Begins something that takes time.
    fn begin(&mut self, job: Job);

    /// The limits an operator set before, where he did.
    fn kept_limits(&mut self) -> io::Result<Option<Override>>;

    /// Keeps what is known of the clocks. At the start only: it waits for the disk.
    fn keep_clocks(&mut self, clocks: &Clocks);

    /// What an earlier daemon knew of the clocks.
    fn kept_clocks(&mut self) -> Option<Clocks>;

    /// The bots an operator stopped before.
    fn kept_stops(&mut self) -> io::Result<BTreeSet<String>>;

    /// The external bots that were registered before.
    fn kept_external(&mut self) -> io::Result<Vec<Registration>>;
}

/// What takes time.
#[derive(Debug)]
pub(super) enum Job {
    /// A lane's supply. Answered.
    Fill(Arc<str>, Load),
    /// A look at the host. Answered, where it was for something.
    LookAtHost(Option<Question>),
    /// An operator's limits go to the disk, or their file goes (`None`). Answered. One such job is under way at
    /// a time.
    KeepLimits(Option<Override>),
    /// Which bots an operator has stopped goes to the disk; then whoever asked is answered.
    KeepStops(Stops),
    /// Which external bots are registered goes to the disk. Answered.
    KeepExternal(KeepExternal),
    /// What is known of the clocks goes to the disk.
    KeepClocks(Clocks),
    /// What bots print and what tasks leave on disk is kept within bounds.
    Tend(Tending),
    /// A result on disk counts, or is of no use any more: its file goes.
    PutAway(PathBuf),
}

/// What is answered to an act on a bot.
pub(super) type BotActed = Result<Option<BotActionAnswer>, Refused>;
/// Which external bots are registered. One such job is under way at a time.
#[derive(Debug)]
pub(super) struct KeepExternal {
    /// All of them.
    pub registrations: Vec<Registration>,
}

/// They are on disk, or not.
#[derive(Debug)]
pub(super) struct ExternalKept {
    /// Which.
    pub result: io::Result<()>,
}

/// Which bots an operator has stopped.
#[derive(Debug)]
pub(super) struct Stops {
    /// All of them.
    pub bots: BTreeSet<String>,
    /// How often that has changed: what is older is not written over what is newer.
    pub turn: u64,
    /// Who is told afterwards.
    pub then: Option<(Reply<BotActed>, BotActed)>,
}

/// What is tended.
#[derive(Debug)]
pub(super) struct Tending {
    /// What bots print goes here.
    pub outputs: Vec<PathBuf>,
    /// Tasks whose working directories are in use.
    pub running: HashSet<String>,
    /// By these rules.
    pub config: Arc<Config>,
}
