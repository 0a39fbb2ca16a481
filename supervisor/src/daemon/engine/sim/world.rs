//! A world in which a daemon runs: time, a disk, bots, clients, and what goes wrong. Everything that
//! happens is an entry of one list, in order; a seed decides it all.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deia::bot::BotType;
use deia::config::{BackendSpec, Config, EchoSpec, ModelServer, Pool};
use deia::task::TaskId;
use deia::wire::{Outcome, ToWorker};
use deia_worker::spool::Record;
use deia_worker::tree::Identity;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};

use super::super::edge::Job;
use super::super::scaling::HostSampled;
use super::super::{Core, Ended, Engine, Estate, Internal};
use super::bots::{Key, Proc, Saying};
use super::clients::Asked;
use super::disk::{Disk, Health, SimStore};
use super::hands::{Hands, Wish};
use super::judge::{Judge, Now};
use super::server::{Answers, deciding};
use crate::brain::Millis;
use crate::brain::scale::Host;
use crate::daemon::home::Home;
use crate::external::Signers;
use crate::fleet::exits::Exit;
use crate::fleet::found::FoundBot;
use crate::fleet::limits::LimitWatch;
use crate::fleet::outputs::Outputs;
use crate::fleet::results::Kept;
use crate::fleet::spawn::{NotStarted, Process, ProcessHandle, Request};
use crate::fleet::{FleetEvent, Run};
use crate::store::letter;
use crate::store::{Committed, Op, Ready, StoreError, Ticket};

/// Within this time of the world's everything has to be done once nothing goes wrong any more.
const PATIENCE: Millis = 6 * 3_600_000;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// A client asks for something.
    Asks,
    /// Something goes wrong.
    Fault(Fault),
    /// From now on nothing does.
    Heals,
    /// The operator wants every bot to run.
    WantsAll,
    DaemonStarts,
    /// The writer of this daemon takes what waits.
    Commits(u64),
    /// ... and what it reports is looked at.
    Committed(u64),
    /// The fleet's threads report.
    Reaches(u64, Box<FleetEvent>),
    /// A job ends.
    Answers(u64, Box<Internal>),
    /// A job ends that only changes the disk, or is answered straight.
    Keeps(u64, Job),
    Forks(u64, Box<Request>),
    Dials(u32),
    Told(u32, u64, Box<ToWorker>),
    Says(u32, u64, Saying),
    Mutters(u32, Key),
    Done(u32, Key, Outcome),
    Beats(u32, Millis),
    Dies(u32, Exit),
    ServerComes,
    Probes(u64),
    Probed(u64, Answers),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The daemon is killed.
    Kill,
    /// ... and every process with it.
    PowerCut,
    /// The daemon is asked to stop, and is started again.
    Stop,
    /// Another daemon goes on from here.
    Upgrade,
    /// The disk takes nothing for a while.
    DiskFails,
    /// An fsync fails.
    DiskBreaks,
    /// The wall clock is set.
    ClockJumps,
    /// A bot is killed.
    BotDies,
    /// A bot stops doing anything.
    BotHangs,
    /// A connection breaks.
    LineBreaks,
    /// A bot says what is not so.
    BotLies,
    /// A model server is away for a while.
    ServerGoes,
}

const FAULTS: [Fault; 12] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::Stop,
    Fault::Upgrade,
    Fault::DiskFails,
    Fault::DiskBreaks,
    Fault::ClockJumps,
    Fault::BotDies,
    Fault::BotHangs,
    Fault::LineBreaks,
    Fault::BotLies,
    Fault::ServerGoes,
];

/// A daemon that lives.
struct Daemon {
    engine: Engine,
    outputs: Outputs,
    committing: bool,
    /// What the store has done, and the engine has not looked at.
    reported: VecDeque<Committed>,
    /// When the engine was last told that time has passed.
    woken_at: Millis,
}

pub(super) struct World {
    pub hands: Hands,
    pub disk: Arc<Mutex<Disk>>,
    pub null: OwnedFd,
    config: Arc<Config>,
    daemon: Option<Daemon>,
    /// Daemons so far.
    incarnation: u64,
    starting: bool,
    pub procs: BTreeMap<u32, Proc>,
    pub pids: u32,
    pub spool: BTreeMap<PathBuf, Record>,
    agenda: BTreeMap<(Millis, u64), Happening>,
    entries: u64,
    /// How many things have happened.
    pub happened: u64,
    pub judge: Judge,
    pub asked: Vec<Asked>,
    /// Every name a client has used.
    pub names: Vec<TaskId>,
    pub healing: bool,
    /// The daemon has done something that was not judged yet.
    pub turned: bool,
    /// Once everything was done, a last daemon has looked at what is left.
    looked_again: bool,
    pub server_is_away: bool,
    /// Requests for other limits so far.
    pub limits_asked: u64,
    /// How often the server has gone away.
    pub outages: u32,
    /// Turns with a pool that waits for it.
    pub held_turns: u64,
    trace: DefaultHasher,
    said: Vec<String>,
    talk: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let hands = Hands::new(seed);
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let room = if rng.u8(..) < 40 { 40 } else { 10_000 };
        Self {
            config: Arc::new(configuration(&mut rng)),
            disk: Arc::new(Mutex::new(Disk::new(room))),
            null: File::open("/dev/null").unwrap().into(),
            hands,
            daemon: None,
            incarnation: 0,
            starting: false,
            procs: BTreeMap::new(),
            pids: 1_000,
            spool: BTreeMap::new(),
            agenda: BTreeMap::new(),
            entries: 0,
            happened: 0,
            judge: Judge::default(),
            asked: Vec::new(),
            names: Vec::new(),
            healing: false,
            turned: false,
            looked_again: false,
            server_is_away: false,
            limits_asked: 0,
            outages: 0,
            held_turns: 0,
            trace: DefaultHasher::new(),
            said: Vec::new(),
            talk: std::env::var_os("DEIA_SIM_TALK").is_some(),
        }
    }

    /// Lives through it all.
    ///
    /// # Errors
    /// What is not as it has to be.
    pub fn run(mut self) -> Result<Story, String> {
        let seconds = self.within(5, 90);
        self.later(0, Happening::DaemonStarts);
        for _ in 0..self.within(5, 80) {
            let at = self.within(0, seconds * 1_000);
            self.at(at, Happening::Asks);
        }
        // Some seeds have one kind of fault, some all, some none.
        let kinds: Vec<Fault> = match self.within(0, 3) {
            0 => Vec::new(),
            1 => vec![FAULTS[self.within(0, FAULTS.len() as u64 - 1) as usize]],
            _ => FAULTS.to_vec(),
        };
        if !kinds.is_empty() {
            for _ in 0..self.within(1, 25) {
                let at = self.within(0, seconds * 1_000);
                let kind = kinds[self.within(0, kinds.len() as u64 - 1) as usize];
                self.at(at, Happening::Fault(kind));
            }
        }
        self.at(seconds * 1_000, Happening::Heals);
        let result = self.live();
        let story = Story {
            happened: self.happened,
            tasks: self.judge.acknowledged.len(),
            daemons: self.incarnation,
            held_turns: self.held_turns,
            trace: self.trace.finish(),
            ends: self.count_ends(),
        };
        match result {
            Ok(()) => Ok(story),
            Err(why) => Err(format!("{why}\n{}", self.said.join("\n"))),
        }
    }

    fn live(&mut self) -> Result<(), String> {
        loop {
            let wake = self.daemon.as_ref().and_then(|daemon| {
                let at = daemon.engine.timers.next_at()? + self.hands.shared().epoch;
                Some(at.max(daemon.woken_at + 1))
            });
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let timer_first = wake.is_some_and(|wake| next.is_none_or(|next| wake < next));
            let now = match (timer_first, wake, next) {
                (true, Some(wake), _) => wake,
                (_, _, Some(next)) => next,
                (_, Some(wake), None) => wake,
                (_, None, None) => return Err("nothing will ever happen again".into()),
            };
            self.hands.shared().now = now;
            if timer_first {
                self.turn(|_| {});
            } else if let Some((_, happening)) = self.agenda.pop_first() {
                self.happened += 1;
                if self.happened.is_multiple_of(500) {
                    // Nobody asks for those any more.
                    let lately = now.saturating_sub(60_000);
                    self.procs
                        .retain(|_, proc| proc.ended_at.is_none_or(|at| at > lately));
                }
                self.note(&happening);
                self.happens(happening);
            }
            self.judge_all()?;
            if self.healing {
                if self.is_over() {
                    if std::mem::replace(&mut self.looked_again, true) {
                        return self.judge_end();
                    }
                    self.daemon_is_gone();
                }
                if now > self.judge.healed_at + PATIENCE {
                    return Err(self.unfinished());
                }
            }
        }
    }

    fn note(&mut self, happening: &Happening) {
        std::mem::discriminant(happening).hash(&mut self.trace);
        (self.now(), self.entries).hash(&mut self.trace);
        if self.talk && !matches!(happening, Happening::Beats(..)) {
            let mut text = format!("{:>9} {happening:?}", self.now());
            text.truncate(text.floor_char_boundary(400));
            self.said.push(text);
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Asks => self.asks(),
            Happening::Fault(fault) => self.goes_wrong(fault),
            Happening::Heals => self.heals(),
            Happening::WantsAll => self.wants_all(),
            Happening::DaemonStarts => self.daemon_starts(),
            Happening::Commits(daemon) if self.is_daemon(daemon) => self.commits(),
            Happening::Committed(daemon) if self.is_daemon(daemon) => self.committed(),
            Happening::Reaches(daemon, event) if self.is_daemon(daemon) => {
                self.event(*event);
            }
            Happening::Answers(daemon, answer) if self.is_daemon(daemon) => {
                self.turn(|engine| engine.internal(*answer));
            }
            Happening::Keeps(daemon, job) if self.is_daemon(daemon) => self.keeps(job),
            Happening::Forks(daemon, request) if self.is_daemon(daemon) => self.forks(&request),
            Happening::Probes(daemon) if self.is_daemon(daemon) => self.probes(),
            Happening::Probed(daemon, answers) if self.is_daemon(daemon) => self.probed(answers),
            Happening::ServerComes => self.server_is_away = false,
            Happening::Commits(_)
            | Happening::Committed(_)
            | Happening::Reaches(..)
            | Happening::Answers(..)
            | Happening::Keeps(..)
            | Happening::Probes(_)
            | Happening::Probed(..)
            | Happening::Forks(..) => {}
            Happening::Dials(pid) => self.dials(pid),
            Happening::Told(pid, connection, frame) => self.told(pid, connection, *frame),
            Happening::Says(pid, connection, saying) => self.said(pid, connection, saying),
            Happening::Mutters(pid, key) => self.mutters(pid, &key),
            Happening::Done(pid, key, outcome) => self.done(pid, &key, outcome),
            Happening::Beats(pid, interval) => self.beats_again(pid, interval),
            Happening::Dies(pid, exit) => self.dies(pid, exit),
        }
    }

    // --- time and chance ------------------------------------------------------------------------

    pub fn now(&self) -> Millis {
        self.hands.shared().now
    }

    pub fn at(&mut self, at: Millis, happening: Happening) {
        self.entries += 1;
        self.agenda.insert((at, self.entries), happening);
    }

    pub fn later(&mut self, after: Millis, happening: Happening) {
        self.at(self.now() + after, happening);
    }

    pub fn shared_rng<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.hands.shared().rng)
    }

    pub fn within(&self, least: u64, most: u64) -> u64 {
        self.shared_rng(|rng| rng.u64(least..=most))
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.shared_rng(|rng| rng.f64()) < probability
    }

    /// The same, for what does not happen any more while everything heals.
    pub fn fault(&self, probability: f64) -> bool {
        self.chance(probability) && !self.healing
    }

    // --- the daemon -----------------------------------------------------------------------------

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn is_up(&self) -> bool {
        self.daemon.is_some()
    }

    pub fn is_daemon(&self, incarnation: u64) -> bool {
        self.incarnation == incarnation && self.daemon.is_some()
    }

    pub fn outputs(&self) -> Option<Outputs> {
        self.daemon.as_ref().map(|daemon| daemon.outputs.clone())
    }

    pub fn orphan_grace(&self) -> Millis {
        crate::brain::millis(self.config.supervision.orphan_grace_seconds)
    }

    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.clone()
    }

    pub fn engine(&self) -> Option<&Engine> {
        self.daemon.as_ref().map(|daemon| &daemon.engine)
    }

    /// The commit with a letter is looked at before what a bot says, as the main loop does.
    pub fn event(&mut self, event: FleetEvent) {
        let reported = self.daemon.as_mut().map(|daemon| &mut daemon.reported);
        let mut reported = reported.map(std::mem::take).unwrap_or_default();
        let mut is_missing = false;
        self.turn(|engine| {
            while engine.letters.are_ahead() && !is_missing {
                match reported.pop_front() {
                    Some(outcomes) => engine.committed(outcomes),
                    None => is_missing = true,
                }
            }
            engine.fleet_event(event);
        });
        if is_missing {
            let why = "a letter went out whose commit was not reported".to_owned();
            self.judge.complaints.push(why);
        }
        if let Some(daemon) = &mut self.daemon {
            daemon.reported = reported;
        }
    }

    fn committed(&mut self) {
        let next = self.daemon.as_mut().map(|daemon| &mut daemon.reported);
        if let Some(outcomes) = next.and_then(VecDeque::pop_front) {
            self.turn(|engine| engine.committed(outcomes));
        }
    }

    pub fn reaches_daemon(&mut self, after: Millis, event: FleetEvent) {
        let event = Happening::Reaches(self.incarnation, Box::new(event));
        self.later(after, event);
    }

    /// One turn of the main loop.
    pub fn turn(&mut self, what: impl FnOnce(&mut Engine)) {
        let now = self.now();
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        daemon.woken_at = now;
        self.turned = true;
        let engine = &mut daemon.engine;
        let before = deciding(engine);
        what(engine);
        engine.timers_due();
        engine.settle();
        let ended = engine.ended();
        let after = deciding(engine);
        self.judge_held(&before, &after);
        self.grant_wishes();
        self.look_at_connections();
        self.look_at_answers();
        if let Some(ended) = ended {
            self.daemon_ends(&ended);
        }
    }

    fn daemon_starts(&mut self) {
        self.judge.disturbed_at = self.now();
        self.starting = false;
        if self.daemon.is_some() {
            return;
        }
        self.incarnation += 1;
        {
            let mut shared = self.hands.shared();
            shared.epoch = shared.now;
            shared.pulses.clear();
        }
        let (to, mut committed) = mpsc::channel(10_000);
        self.disk().at_once = Some(to);
        let outputs = Outputs::default();
        let mut engine = Engine::new(Core {
            home: Home::new("/nowhere".as_ref(), &self.config.persistence, None),
            config: self.config.clone(),
            store: Arc::new(SimStore(self.disk.clone())),
            edge: Box::new(self.hands.clone()),
            outputs: outputs.clone(),
            limit_watch: LimitWatch::blind(),
            evidence: Arc::default(),
            closed: Vec::new(),
            condition: watch::channel(crate::daemon::health::Condition::default()).0,
            probing: watch::channel(crate::daemon::vitals::Probing::default()).0,
            service: None,
            signers: Signers::default(),
        });
        let estate = self.estate();
        let began = engine.begin(&mut committed, estate).now_or_never();
        assert!(matches!(began, Some(Ok(()))), "{began:?}");
        self.disk().at_once = None;
        self.daemon = Some(Daemon {
            engine,
            outputs,
            committing: false,
            reported: VecDeque::new(),
            woken_at: 0,
        });
        self.turn(|_| {});
        self.later(50, Happening::Probes(self.incarnation));
        if self.healing {
            self.operator_is_content();
        }
    }

    /// What an earlier daemon left.
    fn estate(&mut self) -> Estate {
        // The newest of each name; the others are ended before the daemon starts.
        let mut newest: BTreeMap<String, u32> = BTreeMap::new();
        for (pid, proc) in self.procs.iter().filter(|(_, proc)| proc.alive) {
            newest.insert(proc.bot.clone(), *pid);
        }
        let older: Vec<u32> = self
            .procs
            .iter()
            .filter(|(pid, proc)| proc.alive && newest[&proc.bot] != **pid)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in older {
            self.dies(pid, Exit::Signal(9));
        }
        let bots = newest
            .into_iter()
            .map(|(bot, pid)| FoundBot {
                launch: self.procs[&pid].launch,
                process: Identity {
                    pid: pid as i32,
                    started: 1,
                },
                pidfd: self.null.try_clone().unwrap(),
                child: false,
                same_program: true,
                bot,
            })
            .collect();
        let kept = self.kept(|_| true);
        Estate { bots, kept }
    }

    pub fn kept(&self, which: impl Fn(&Record) -> bool) -> Vec<Kept> {
        let records = self.spool.iter().filter(|(_, record)| which(record));
        records
            .map(|(path, record)| Kept {
                path: path.clone(),
                record: record.clone(),
            })
            .collect()
    }

    fn daemon_ends(&mut self, ended: &Ended) {
        match ended {
            Ended::Stopped => {
                let alive: Vec<&str> = self
                    .procs
                    .values()
                    .filter(|proc| proc.alive)
                    .map(|proc| proc.bot.as_str())
                    .collect();
                if !alive.is_empty() {
                    let why = format!("stopped, and these live on: {alive:?}");
                    self.judge.complaints.push(why);
                }
            }
            Ended::Left | Ended::StoreBroken(_) => {}
        }
        self.daemon_is_gone();
    }

    /// It is gone, in whichever way; another comes.
    fn daemon_is_gone(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        {
            // What the writer had may have been committed, and nobody was told; or some of it.
            let all = std::mem::take(&mut self.disk().waiting);
            let broken = self.disk().health == Health::Broken;
            let committed = if self.chance(0.5) || broken {
                0
            } else {
                self.within(0, all.len() as u64) as usize
            };
            let ops: Vec<_> = all.into_iter().take(committed).collect();
            match self.chance(0.5) {
                true => drop(self.commit_and_post(&ops)),
                false => drop(self.commit_now(&ops)),
            }
            self.disk().health = Health::Works;
        }
        self.daemon = None;
        self.hands.shared().wishes.clear();
        self.forget_questions();
        let connected: Vec<u32> = self
            .procs
            .iter()
            .filter(|(_, proc)| proc.alive)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in connected {
            self.loses_its_line(pid, false);
        }
        let after = match self.within(0, 9) {
            0 if !self.healing => self.within(20_000, 60_000),
            1..4 => self.within(1_000, 5_000),
            _ => self.within(1, 300),
        };
        if !std::mem::replace(&mut self.starting, true) {
            self.later(after, Happening::DaemonStarts);
        }
    }

    // --- what the daemon wants ------------------------------------------------------------------

    fn grant_wishes(&mut self) {
        let wishes = std::mem::take(&mut self.hands.shared().wishes);
        let daemon = self.incarnation;
        for wish in wishes {
            match wish {
                Wish::Start(request) => {
                    let after = self.within(1, 10);
                    self.later(after, Happening::Forks(daemon, request));
                }
                Wish::Watch(watched) => {
                    let Some(proc) = self.procs.get_mut(&watched.pid) else {
                        continue;
                    };
                    proc.watched = Some((daemon, watched.run, watched.origin));
                    proc.run = watched.run;
                    if !proc.alive {
                        self.ended(watched.pid, watched.run, watched.origin, Exit::Signal(9));
                    }
                }
                Wish::Kill(run) => {
                    let killed = self.procs.iter().find(|(_, proc)| {
                        let watched = proc.watched.map(|(by, run, _)| (by, run));
                        proc.alive && watched == Some((daemon, run))
                    });
                    if let Some(pid) = killed.map(|(pid, _)| *pid) {
                        let after = match self.fault(0.05) {
                            true => self.within(1_000, 15_000),
                            false => self.within(0, 10),
                        };
                        self.later(after, Happening::Dies(pid, Exit::Signal(9)));
                    }
                }
                Wish::Job(job) => self.begins_job(job),
            }
        }
        let waits = !self.disk().waiting.is_empty();
        if let Some(live) = self
            .daemon
            .as_mut()
            .filter(|live| waits && !live.committing)
        {
            live.committing = true;
            let after = self.within(0, 4);
            self.later(after, Happening::Commits(daemon));
        }
    }

    fn begins_job(&mut self, job: Job) {
        let daemon = self.incarnation;
        let after = self.within(0, 6);
        match job {
            Job::LookAtHost(Some(asked)) => {
                let host = Host::default();
                let answer = Internal::HostSampled(HostSampled { host, asked });
                self.later(after, Happening::Answers(daemon, Box::new(answer)));
            }
            Job::LookAtHost(None) | Job::Tend(_) => {}
            job => self.later(after, Happening::Keeps(daemon, job)),
        }
    }

    fn keeps(&mut self, job: Job) {
        let fails = self.disk().health != Health::Works;
        match job {
            Job::Fill(demand, load) => {
                // A reader sees what is committed when it looks, and tells it a little later.
                let rows = {
                    let mut rows = self.disk().model.ready(&demand);
                    let after =
                        |row: &Ready| load.after.is_none_or(|at| (row.priority, row.seq) > at);
                    rows.retain(after);
                    rows.truncate(load.most);
                    rows
                };
                let rows = match self.fault(0.05) {
                    true => Err(StoreError::Failed("simulated".into())),
                    false => Ok(rows),
                };
                let answer = Internal::Filled(demand, rows);
                let after = self.within(0, 6);
                self.later(
                    after,
                    Happening::Answers(self.incarnation, Box::new(answer)),
                );
            }
            Job::KeepLimits(wanted) => {
                let result = match fails {
                    true => Err(std::io::Error::other("simulated")),
                    false => Ok(()),
                };
                if !fails {
                    self.hands.shared().limits = wanted;
                }
                self.turn(|engine| engine.internal(Internal::LimitsKept(result)));
            }
            Job::KeepExternal(_) => {}
            Job::KeepClocks(clocks) => self.hands.shared().clocks = Some(clocks),
            Job::KeepStops(stops) => {
                self.hands.shared().stops = stops.bots;
                if let Some((reply, answer)) = stops.then {
                    let _ = reply.send(answer);
                }
            }
            Job::PutAway(path) => drop(self.spool.remove(&path)),
            Job::LookAtHost(_) | Job::Tend(_) => {}
        }
    }

    fn forks(&mut self, request: &Request) {
        let (bot, run) = (request.bot.clone(), request.run);
        let result = if self.fault(0.03) {
            Err(NotStarted::NoRoom("simulated".into()))
        } else if self.fault(0.02) {
            Err(NotStarted::Failed("simulated".into()))
        } else {
            let pid = self.born(request.bot.to_string(), request.launch, run);
            Ok(Process {
                pid,
                handle: ProcessHandle::from(self.null.try_clone().unwrap()),
                pidfd: self.null.try_clone().unwrap(),
                identity: None,
                placed: false,
            })
        };
        let after = self.within(0, 30);
        self.reaches_daemon(after, FleetEvent::Spawned { bot, run, result });
    }

    // --- the disk -------------------------------------------------------------------------------

    fn commits(&mut self) {
        if self.disk().health != Health::Works {
            self.judge.disturbed_at = self.now();
        }
        let waiting = std::mem::take(&mut self.disk().waiting);
        let most = waiting.len() as u64;
        let taken = match self.chance(0.3) {
            true => self.within(1, most.max(1)) as usize,
            false => waiting.len(),
        };
        let mut ops = waiting;
        let rest = ops.split_off(taken.min(ops.len()));
        self.disk().waiting = rest;
        let health = self.disk().health;
        let outcomes: Committed = match health {
            Health::Works => self.commit_and_post(&ops),
            Health::Fails => {
                let failed = StoreError::Failed("disk full".into());
                ops.into_iter()
                    .map(|(t, _)| (t, Err(failed.clone())))
                    .collect()
            }
            Health::Broken => {
                let broken = StoreError::Broken("fsync".into());
                let outcomes = ops.iter().map(|(t, _)| (*t, Err(broken.clone()))).collect();
                // Nobody knows: some of it may be there after all.
                if self.chance(0.5) {
                    self.commit_now(&ops);
                }
                outcomes
            }
        };
        let (after, again) = (self.within(0, 3), self.within(0, 4));
        if let Some(live) = &mut self.daemon {
            live.reported.push_back(outcomes);
        }
        self.later(after, Happening::Committed(self.incarnation));
        let waits = !self.disk().waiting.is_empty();
        if let Some(live) = &mut self.daemon {
            live.committing = waits;
        }
        if waits {
            self.later(again, Happening::Commits(self.incarnation));
        }
    }

    /// One transaction, and the letters that go out with it.
    fn commit_and_post(&mut self, ops: &[(Ticket, Op)]) -> Committed {
        let outcomes = self.commit_now(ops);
        let (tickets, outcomes): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
        letter::post(ops, &outcomes);
        self.look_at_connections();
        tickets.into_iter().zip(outcomes).collect()
    }

    /// One transaction.
    fn commit_now(&mut self, ops: &[(Ticket, Op)]) -> Committed {
        let (millis, wall) = (self.now(), self.hands.time());
        let steady = self.engine().map_or(wall, Engine::steady);
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcomes = Vec::new();
        let now = Now {
            millis,
            wall,
            steady,
        };
        for (ticket, op) in ops {
            let before = self.judge.before(op, &disk);
            let outcome = disk.apply(op.clone());
            self.judge
                .committed(op, before, &outcome, &disk, (&self.config, now));
            outcomes.push((*ticket, Ok(outcome)));
        }
        outcomes
    }

    // --- what goes wrong ------------------------------------------------------------------------

    fn goes_wrong(&mut self, fault: Fault) {
        let some_bot = |world: &Self| {
            let alive: Vec<u32> = world
                .procs
                .iter()
                .filter(|(_, proc)| proc.alive)
                .map(|(pid, _)| *pid)
                .collect();
            let most = alive.len().checked_sub(1)?;
            Some(alive[world.within(0, most as u64) as usize])
        };
        match fault {
            Fault::Kill => self.daemon_is_gone(),
            Fault::PowerCut => {
                self.daemon_is_gone();
                let alive: Vec<u32> = self.procs.keys().copied().collect();
                for pid in alive {
                    self.dies(pid, Exit::Signal(9));
                }
            }
            Fault::ServerGoes => self.server_goes(),
            Fault::Stop => self.turn(Engine::stop),
            Fault::Upgrade => self.turn(Engine::leave),
            Fault::DiskFails => {
                self.disk().health = Health::Fails;
                let after = self.within(10, 20_000);
                self.later(after, Happening::Fault(Fault::DiskBreaks));
            }
            // It works again, or it was the last straw.
            Fault::DiskBreaks => {
                let mut disk = self.disk();
                disk.health = match disk.health {
                    Health::Fails => Health::Works,
                    Health::Works | Health::Broken => Health::Broken,
                };
            }
            Fault::ClockJumps => {
                let days = self.within(0, 20) as i64 - 10;
                let skew = days * 86_400_000;
                let mut shared = self.hands.shared();
                shared.skew += skew;
                shared.furthest = shared.furthest.max(shared.skew);
            }
            Fault::BotDies => {
                if let Some(pid) = some_bot(self) {
                    self.dies(pid, Exit::Signal(9));
                }
            }
            Fault::BotHangs => {
                if let Some(pid) = some_bot(self)
                    && let Some(proc) = self.procs.get_mut(&pid)
                {
                    proc.hung = true;
                }
            }
            Fault::LineBreaks => {
                if let Some(pid) = some_bot(self) {
                    self.loses_its_line(pid, true);
                }
            }
            Fault::BotLies => {
                if let Some(pid) = some_bot(self) {
                    for _ in 0..self.within(1, 6) {
                        self.lies(pid);
                    }
                }
            }
        }
    }

    fn heals(&mut self) {
        self.healing = true;
        self.server_is_away = false;
        self.judge.healed_at = self.now();
        {
            // No client has named a time that does not come now.
            let mut shared = self.hands.shared();
            shared.skew = shared.furthest;
        }
        let mut disk = self.disk();
        if disk.health == Health::Fails {
            disk.health = Health::Works;
        }
        drop(disk);
        self.operator_is_content();
    }

    // --- the end --------------------------------------------------------------------------------

    fn is_over(&self) -> bool {
        let Some(engine) = self.engine() else {
            return false;
        };
        let disk = self.disk();
        // Bots of an earlier daemon are back by then, or gone.
        engine.edge.now() > 20_000
            && engine.pending.is_empty()
            && engine.in_flight.is_empty()
            && self.asked.is_empty()
            && disk.waiting.is_empty()
            && disk.model.tasks.iter().all(|t| t.record.status.is_final())
    }

    fn unfinished(&self) -> String {
        let disk = self.disk();
        let open: Vec<String> = disk
            .model
            .tasks
            .iter()
            .filter(|t| !t.record.status.is_final())
            .map(|t| {
                let r = &t.record;
                format!(
                    "{} {:?} {} {:?} {:?}",
                    r.id, r.status, r.demand, r.not_before, r.attempts
                )
            })
            .collect();
        let engine = self.engine().map(|engine| {
            format!(
                "pending {} in flight {:?} waiting {} scheduled {} fault {:?} bots {:?}",
                engine.pending.len(),
                engine.in_flight.keys().collect::<Vec<_>>(),
                engine.dispatcher.waiting(),
                engine.scheduled,
                engine.store_fault,
                engine
                    .bots
                    .iter()
                    .map(|(id, bot)| (id, bot.machine.state(), bot.held))
                    .collect::<Vec<_>>(),
            )
        });
        format!(
            "not done in time: {open:#?}\n{engine:?}\nquestions: {}",
            self.asked.len()
        )
    }

    fn count_ends(&self) -> BTreeMap<&'static str, u64> {
        let mut ends = BTreeMap::new();
        for task in &self.disk().model.tasks {
            *ends.entry(task.record.status.as_str()).or_default() += 1;
        }
        ends
    }

    pub fn any_task(&self) -> Option<TaskId> {
        let most = self.names.len().checked_sub(1)?;
        Some(self.names[self.within(0, most as u64) as usize].clone())
    }
}

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub happened: u64,
    pub tasks: usize,
    pub daemons: u64,
    pub held_turns: u64,
    pub trace: u64,
    pub ends: BTreeMap<&'static str, u64>,
}

fn configuration(rng: &mut fastrand::Rng) -> Config {
    let mut config = Config::default();
    let pool = |name: &str, bot_type, max| {
        let mut pool = Pool::new(name, BackendSpec::Echo(EchoSpec::default()));
        pool.bot_type = bot_type;
        pool.max = Some(max);
        pool
    };
    let mut dev = pool("dev", BotType::Developer, 2);
    dev.specializations = vec!["python".into()];
    dev.max_concurrent_tasks = Some(rng.u32(1..=3));
    let mut plan = pool("plan", BotType::Planner, 1);
    for served in [&mut dev, &mut plan] {
        served.backend = BackendSpec::Ollama(ModelServer::ollama());
    }
    config.bots = vec![pool("all", BotType::General, 3), dev, plan];
    config.bot_limits.min_bots = rng.u32(1..=3);
    config.bot_limits.max_bots = rng.u32(3..=6);
    config.bot_limits.max_concurrent_tasks_per_bot = rng.u32(1..=4);
    config.supervision.heartbeat_seconds = 2.0;
    config.supervision.stop_timeout_seconds = 3.0;
    config.supervision.quarantine_probe_seconds = 20.0;
    config.tasks.retry_backoff_seconds = [0.2, 5.0];
    if rng.u8(..) < 60 {
        config.tasks.queue_timeout_seconds = 60;
    }
    if rng.u8(..) < 40 {
        config.tasks.max_kept = 5;
    }
    if rng.u8(..) < 40 {
        config.tasks.max_queued = 10;
    }
    config
}

/// Which start of a bot, in words.
pub(super) fn start_of(bot: &str, run: Run) -> String {
    format!("{bot} (start {run})")
}
