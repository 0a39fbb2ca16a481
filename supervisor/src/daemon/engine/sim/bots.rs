//! Simulated bots: processes that do work, repeat themselves, lie, hang, die, and come back late.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deia::task::{Fence, TaskId};
use deia::wire::{
    Assignment, Back, CancelOf, FailureKind, Held, Kept, Launch, Outcome, ToSupervisor, ToWorker,
    Usage, Welcome,
};
use deia_worker::spool::{Record, Writer};
use tokio::sync::{mpsc, oneshot};

use super::server::is_served;
use super::world::{Happening, World};
use crate::brain::Millis;
use crate::fleet::exits::{Exit, Origin};
use crate::fleet::pulse::PulseReader;
use crate::fleet::{Answer, FleetEvent, Hello, Line, Run};

/// One attempt.
pub(super) type Key = (TaskId, Fence);

/// Frames a bot may have on its way to it.
const FRAMES: usize = 64;

/// What a bot sends.
#[derive(Debug)]
pub(super) enum Saying {
    Ready,
    Output(Key, String),
    Frame(ToSupervisor),
}

/// A process.
#[derive(Debug)]
pub(super) struct Proc {
    pub bot: String,
    pub launch: Launch,
    pub alive: bool,
    pub ended_at: Option<Millis>,
    /// By which daemon, as which start of it, and who started it.
    pub watched: Option<(u64, Run, Origin)>,
    /// As which start of it the daemon that lives knows it.
    pub run: Run,
    /// Which connection; counts up.
    pub connection: u64,
    pub line: Option<Line>,
    pub frames: Option<mpsc::Receiver<ToWorker>>,
    answer: Option<oneshot::Receiver<Answer>>,
    welcomed: Option<Box<Welcome>>,
    /// ... on this connection: it says nothing before.
    heard: bool,
    stopping: bool,
    /// It does nothing any more, and its heart does not beat.
    pub hung: bool,
    /// It says what is not so.
    pub liar: bool,
    pub attempts: BTreeMap<Key, Attempt>,
    /// When the last thing it said arrives, and the last it was told.
    says_at: Millis,
    told_at: Millis,
    /// Since when it has no daemon.
    orphan_since: Option<Millis>,
}

/// An attempt that a bot has.
#[derive(Debug)]
pub(super) struct Attempt {
    since: Millis,
    content: String,
    cancelled: Option<CancelOf>,
    text: String,
    pub ended: Option<Outcome>,
}

impl Proc {
    fn new(bot: String, launch: Launch, run: Run) -> Self {
        Self {
            bot,
            launch,
            alive: true,
            ended_at: None,
            watched: None,
            run,
            connection: 0,
            line: None,
            frames: None,
            answer: None,
            welcomed: None,
            heard: false,
            stopping: false,
            hung: false,
            liar: false,
            attempts: BTreeMap::new(),
            says_at: 0,
            told_at: 0,
            orphan_since: None,
        }
    }

    /// Whether it works on this task now.
    pub fn works_on(&self, task: &TaskId) -> bool {
        let mut of_task = self.attempts.iter().filter(|((id, _), _)| id == task);
        self.alive && of_task.any(|(_, attempt)| attempt.ended.is_none())
    }
}

fn succeeded() -> Outcome {
    Outcome::Succeeded {
        usage: Usage::default(),
        backend: "echo".into(),
        model: None,
        truncated: false,
    }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed {
        error: format!("{kind:?}"),
        kind,
    }
}

impl World {
    /// A process comes to be.
    pub(super) fn born(&mut self, bot: String, launch: Launch, run: Run) -> u32 {
        self.pids += 1;
        let pid = self.pids;
        let mut proc = Proc::new(bot, launch, run);
        proc.liar = self.fault(0.1);
        self.procs.insert(pid, proc);
        // One in a hundred never gets as far.
        if !self.fault(0.02) {
            let after = self.within(1, 40);
            self.later(after, Happening::Dials(pid));
        }
        if self.fault(0.03) {
            let after = self.within(0, 3_000);
            let exit = Exit::Code(self.within(0, 3) as i32);
            self.later(after, Happening::Dies(pid, exit));
        }
        pid
    }

    /// It looks for its daemon.
    pub(super) fn dials(&mut self, pid: u32) {
        let (now, up) = (self.now(), self.is_up());
        let grace = self.orphan_grace();
        let Some(proc) = self.procs.get_mut(&pid) else {
            return;
        };
        if !proc.alive || proc.hung || proc.line.is_some() || proc.answer.is_some() {
            return;
        }
        if !up {
            let since = *proc.orphan_since.get_or_insert(now);
            if now - since > grace {
                return self.dies(pid, Exit::Code(0));
            }
            return self.later(200, Happening::Dials(pid));
        }
        proc.orphan_since = None;
        proc.connection += 1;
        proc.heard = false;
        (proc.says_at, proc.told_at) = (now, now);
        let (frames_to, frames) = mpsc::channel(FRAMES);
        let (answer_to, answer) = oneshot::channel();
        let back = proc.welcomed.as_ref().map(|welcome| {
            let held = proc.attempts.iter().map(|((task, fence), attempt)| Held {
                task: task.clone(),
                fence: *fence,
                running_ms: now - attempt.since,
                cancelled: attempt.cancelled,
            });
            Box::new(Back {
                sandbox: "simulated".into(),
                pulse_fd: 3,
                terms: welcome.terms,
                max_concurrent_tasks: welcome.max_concurrent_tasks,
                heartbeat_ms: welcome.heartbeat_ms,
                stop_timeout_ms: welcome.stop_timeout_ms,
                held: held.collect(),
            })
        });
        let hello = Hello {
            bot_id: proc.bot.clone(),
            launch: proc.launch,
            pid,
            version: deia::VERSION.into(),
            back: back.map(|back| (back, self.null.try_clone().ok().map(PulseReader::silent))),
            frames: Box::new(frames_to),
            answer: answer_to,
        };
        proc.frames = Some(frames);
        proc.answer = Some(answer);
        let after = self.within(0, 5);
        self.reaches_daemon(after, FleetEvent::Hello(hello));
    }

    /// After a turn of the daemon's: who was answered, and what bots were told.
    pub(super) fn look_at_connections(&mut self) {
        let pids: Vec<u32> = self.procs.keys().copied().collect();
        for pid in pids {
            let Some(proc) = self.procs.get_mut(&pid).filter(|proc| proc.alive) else {
                continue;
            };
            match proc.answer.as_mut().map(oneshot::Receiver::try_recv) {
                Some(Ok(Answer::Accepted { line })) => {
                    proc.answer = None;
                    proc.run = line.run;
                    proc.line = Some(line);
                }
                Some(Ok(Answer::Dismissed)) => {
                    proc.answer = None;
                    let after = self.within(1, 20);
                    self.later(after, Happening::Dies(pid, Exit::Code(0)));
                    continue;
                }
                Some(Err(oneshot::error::TryRecvError::Closed)) => {
                    proc.answer = None;
                    proc.frames = None;
                    let after = self.within(10, 300);
                    self.later(after, Happening::Dials(pid));
                    continue;
                }
                Some(Err(oneshot::error::TryRecvError::Empty)) | None => {}
            }
            self.pump(pid);
        }
    }

    /// What the daemon has written to its socket is on its way; a bot that hangs reads nothing.
    fn pump(&mut self, pid: u32) {
        while let Some(proc) = self.procs.get_mut(&pid).filter(|p| p.alive && !p.hung) {
            if proc.line.is_none() {
                return;
            }
            match proc.frames.as_mut().map(mpsc::Receiver::try_recv) {
                Some(Ok(frame)) => {
                    let (connection, told_at) = (proc.connection, proc.told_at);
                    let at = told_at.max(self.now() + self.within(0, 3));
                    if let Some(proc) = self.procs.get_mut(&pid) {
                        proc.told_at = at;
                    }
                    self.at(at, Happening::Told(pid, connection, Box::new(frame)));
                }
                // The daemon has let go of it.
                Some(Err(mpsc::error::TryRecvError::Disconnected)) => {
                    return self.loses_its_line(pid, false);
                }
                Some(Err(mpsc::error::TryRecvError::Empty)) | None => return,
            }
        }
    }

    /// Its connection is gone. `seen`: by the daemon too.
    pub(super) fn loses_its_line(&mut self, pid: u32, seen: bool) {
        let Some(proc) = self.procs.get_mut(&pid) else {
            return;
        };
        let line = proc.line.take();
        (proc.frames, proc.answer) = (None, None);
        let alive = proc.alive && !proc.hung;
        if alive {
            self.keep_results(pid);
            let after = self.within(5, 1_500);
            self.later(after, Happening::Dials(pid));
        }
        if let Some(line) = line.filter(|_| seen) {
            let fault = None;
            let after = self.within(0, 5);
            self.reaches_daemon(after, FleetEvent::Closed { line, fault });
        }
    }

    /// What it has not been told to forget goes to the disk: nobody answers.
    fn keep_results(&mut self, pid: u32) {
        let Some(proc) = self.procs.get(&pid) else {
            return;
        };
        for ((task, fence), attempt) in &proc.attempts {
            let Some(outcome) = &attempt.ended else {
                continue;
            };
            let record = Record {
                writer: Writer {
                    bot_id: proc.bot.clone(),
                    launch: proc.launch,
                    pid,
                    started: 1,
                    boot_id: "boot".into(),
                },
                task: task.clone(),
                fence: *fence,
                outcome: outcome.clone(),
                cancelled: attempt.cancelled,
                output: attempt.text.clone(),
            };
            self.spool.insert(path_of(&proc.bot, task, *fence), record);
        }
    }

    fn forget_result(&mut self, pid: u32, key: &Key) {
        if let Some(proc) = self.procs.get(&pid) {
            self.spool.remove(&path_of(&proc.bot, &key.0, key.1));
        }
    }

    /// The process is gone.
    pub(super) fn dies(&mut self, pid: u32, exit: Exit) {
        let now = self.now();
        let Some(proc) = self.procs.get_mut(&pid).filter(|proc| proc.alive) else {
            return;
        };
        proc.alive = false;
        proc.ended_at = Some(now);
        let watched = proc.watched;
        self.loses_its_line(pid, true);
        if let Some((incarnation, run, origin)) = watched
            && self.is_daemon(incarnation)
        {
            self.ended(pid, run, origin, exit);
        }
    }

    /// The daemon learns of it.
    pub(super) fn ended(&mut self, pid: u32, run: Run, origin: Origin, exit: Exit) {
        let Some(proc) = self.procs.get(&pid) else {
            return;
        };
        let (bot, launch) = (proc.bot.clone(), proc.launch);
        let kept = match origin {
            Origin::Here => Vec::new(),
            Origin::Earlier => self.kept(|record| record.writer.launch == launch),
        };
        let after = self.within(1, 15);
        self.reaches_daemon(
            after,
            FleetEvent::Ended {
                bot: bot.as_str().into(),
                run,
                exit,
                for_memory: None,
                kept,
            },
        );
    }

    /// A frame arrives.
    pub(super) fn told(&mut self, pid: u32, connection: u64, frame: ToWorker) {
        let mine = |proc: &&Proc| proc.alive && !proc.hung && proc.connection == connection;
        let Some(proc) = self.procs.get(&pid).filter(mine) else {
            return;
        };
        let bot = proc.bot.clone();
        match frame {
            ToWorker::Welcome(welcome) => {
                self.beats(pid, welcome.heartbeat_ms);
                if let Some(proc) = self.procs.get_mut(&pid) {
                    proc.welcomed = Some(welcome);
                    proc.heard = true;
                }
                if !self.fault(0.02) {
                    self.says(pid, Saying::Ready);
                }
            }
            ToWorker::WelcomeBack { kept, .. } => self.is_back(pid, &kept),
            ToWorker::Assign(assignment) => self.begins(pid, &assignment),
            ToWorker::Cancel { task, fence, of } => {
                let key = (task, fence);
                let ignores = self.fault(0.2);
                let after = self.within(0, 30);
                let attempts = self.procs.get_mut(&pid).map(|proc| &mut proc.attempts);
                if let Some(attempt) = attempts.and_then(|attempts| attempts.get_mut(&key))
                    && attempt.ended.is_none()
                {
                    if attempt.cancelled != Some(CancelOf::Task) {
                        attempt.cancelled = Some(of);
                    }
                    if !ignores {
                        self.later(after, Happening::Done(pid, key, Outcome::Cancelled));
                    }
                }
            }
            ToWorker::Ack { task, fence } => {
                let key = (task, fence);
                self.judge_ack(&bot, &key);
                self.forget_result(pid, &key);
                if let Some(proc) = self.procs.get_mut(&pid) {
                    let over = |attempt: &Attempt| attempt.ended.is_some();
                    if proc.attempts.get(&key).is_some_and(over) {
                        proc.attempts.remove(&key);
                    }
                }
                self.goes_if_it_may(pid);
            }
            ToWorker::Stop { grace_ms } => {
                let grace = grace_ms.min(3_600_000);
                if let Some(proc) = self.procs.get_mut(&pid) {
                    proc.stopping = true;
                    let running = proc.attempts.iter().filter(|(_, a)| a.ended.is_none());
                    for key in running.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                        self.later(grace, Happening::Done(pid, key, Outcome::Cancelled));
                    }
                }
                // It waits for its acknowledgements, but not for ever.
                self.later(grace + 3_000, Happening::Dies(pid, Exit::Code(0)));
                self.goes_if_it_may(pid);
            }
        }
    }

    fn goes_if_it_may(&mut self, pid: u32) {
        let done = |proc: &Proc| proc.stopping && proc.attempts.is_empty();
        if self.procs.get(&pid).is_some_and(done) {
            let after = self.within(0, 10);
            self.later(after, Happening::Dies(pid, Exit::Code(0)));
        }
    }

    fn is_back(&mut self, pid: u32, kept: &[Kept]) {
        let at = self.says_when();
        let Some(proc) = self.procs.get_mut(&pid) else {
            return;
        };
        proc.heard = true;
        let keys: Vec<Key> = proc.attempts.keys().cloned().collect();
        let mut sayings = Vec::new();
        let mut unwanted = Vec::new();
        for key in keys {
            let found = kept.iter().find(|k| k.task == key.0 && k.fence == key.1);
            let Some(kept) = found else {
                proc.attempts.remove(&key);
                unwanted.push(key);
                continue;
            };
            let (task, fence) = key.clone();
            let attempt = &proc.attempts[&key];
            sayings.push(Saying::Frame(ToSupervisor::Started { task, fence, at }));
            let rest = attempt.text.get(kept.bytes as usize..).unwrap_or_default();
            if !rest.is_empty() {
                sayings.push(Saying::Output(key.clone(), rest.to_owned()));
            }
            if let Some(outcome) = attempt.ended.clone() {
                sayings.push(Saying::Frame(finished(&key, outcome)));
            }
        }
        for saying in sayings {
            self.says(pid, saying);
        }
        for key in unwanted {
            self.forget_result(pid, &key);
        }
        self.goes_if_it_may(pid);
    }

    fn begins(&mut self, pid: u32, assignment: &Assignment) {
        let key = (assignment.task.clone(), assignment.fence);
        self.judge_assignment(pid, &key, &assignment.content);
        let now = self.now();
        let Some(proc) = self.procs.get_mut(&pid) else {
            return;
        };
        if proc.attempts.contains_key(&key) {
            let why = format!(
                "{} was given attempt {} of {} twice",
                proc.bot, key.1.attempt, key.0
            );
            self.judge.complaints.push(why);
            return;
        }
        let served = is_served(&proc.bot);
        let mut attempt = Attempt {
            since: now,
            content: assignment.content.clone(),
            cancelled: None,
            text: String::new(),
            ended: None,
        };
        if proc.stopping {
            attempt.ended = Some(Outcome::Cancelled);
            proc.attempts.insert(key.clone(), attempt);
            return self.says(pid, Saying::Frame(finished(&key, Outcome::Cancelled)));
        }
        proc.attempts.insert(key.clone(), attempt);
        let (task, fence) = key.clone();
        let at = self.says_when();
        self.says(
            pid,
            Saying::Frame(ToSupervisor::Started { task, fence, at }),
        );
        if assignment.content.contains("poison") {
            let after = self.within(1, 200);
            return self.later(after, Happening::Dies(pid, Exit::Signal(11)));
        }
        if self.fault(0.02) {
            // It never ends by itself, whatever its time-out.
            return;
        }
        if served && self.server_is_away {
            let after = self.within(1, 60);
            let outcome = failed(FailureKind::Unreachable);
            return self.later(after, Happening::Done(pid, key, outcome));
        }
        let (after, outcome) = self.work(assignment);
        if after > assignment.timeout_ms {
            let outcome = failed(FailureKind::TimedOut);
            return self.later(assignment.timeout_ms, Happening::Done(pid, key, outcome));
        }
        for _ in 0..self.within(0, 3) {
            let when = self.within(0, after.max(1));
            self.later(when, Happening::Mutters(pid, key.clone()));
        }
        self.later(after, Happening::Done(pid, key, outcome));
    }

    fn work(&mut self, assignment: &Assignment) -> (Millis, Outcome) {
        let long = self.shared_rng(|rng| rng.f64()) < 0.1;
        let after = if long {
            self.within(1_000, 90_000)
        } else {
            self.within(1, 800)
        };
        let dice = self.shared_rng(|rng| rng.f64());
        let outcome = if assignment.content.contains("hopeless") {
            failed(FailureKind::Backend)
        } else if dice < 0.8 || self.healing {
            succeeded()
        } else if dice < 0.9 {
            failed(FailureKind::Backend)
        } else if dice < 0.97 {
            failed(FailureKind::Unavailable)
        } else {
            failed(FailureKind::Permanent)
        };
        (after, outcome)
    }

    /// A piece of the answer.
    pub(super) fn mutters(&mut self, pid: u32, key: &Key) {
        let piece = format!("[{} {}]", key.1.attempt, self.happened);
        let Some(proc) = self.procs.get_mut(&pid).filter(|p| p.alive && !p.hung) else {
            return;
        };
        let running = |attempt: &&mut Attempt| attempt.ended.is_none();
        let Some(attempt) = proc.attempts.get_mut(key).filter(running) else {
            return;
        };
        attempt.text.push_str(&piece);
        self.says(pid, Saying::Output(key.clone(), piece));
    }

    /// An attempt is over.
    pub(super) fn done(&mut self, pid: u32, key: &Key, outcome: Outcome) {
        let Some(proc) = self.procs.get_mut(&pid).filter(|p| p.alive && !p.hung) else {
            return;
        };
        let running = |attempt: &&mut Attempt| attempt.ended.is_none();
        let Some(attempt) = proc.attempts.get_mut(key).filter(running) else {
            return;
        };
        attempt.ended = Some(outcome.clone());
        let mut last = None;
        if matches!(outcome, Outcome::Succeeded { .. }) {
            let piece = format!("<{} by {} of {}>", key.1.attempt, proc.bot, attempt.content);
            attempt.text.push_str(&piece);
            last = Some(piece);
        }
        let (bot, text, liar) = (proc.bot.clone(), attempt.text.clone(), proc.liar);
        self.judge.said(key, &outcome, &bot, &text);
        let connected = proc.line.is_some() && proc.heard;
        if !connected {
            return self.keep_results(pid);
        }
        if let Some(piece) = last {
            self.says(pid, Saying::Output(key.clone(), piece));
        }
        self.says(pid, Saying::Frame(finished(key, outcome)));
        if liar {
            // Once more, and another way.
            self.says(pid, Saying::Frame(finished(key, succeeded())));
            let other = failed(FailureKind::Permanent);
            self.says(pid, Saying::Frame(finished(key, other)));
        }
    }

    /// What no bot should say: of tasks and attempts that it has not.
    pub(super) fn lies(&mut self, pid: u32) {
        let Some(task) = self.any_task() else {
            return;
        };
        let attempt = self.within(1, 5) as u32;
        let epoch = if self.chance(0.2) { 6 } else { 7 };
        let key = (task, Fence { epoch, attempt });
        // Of its own attempts, also of those on their way to it, it is the one who knows.
        let Some(proc) = self.procs.get(&pid).filter(|proc| !proc.hung) else {
            return;
        };
        let given = self
            .engine()
            .and_then(|engine| engine.in_flight.get(&key.0));
        let given = given.is_some_and(|a| *a.bot == *proc.bot && a.fence == key.1);
        if given || proc.attempts.contains_key(&key) {
            return;
        }
        let (task, fence) = key.clone();
        let lie = match self.within(0, 2) {
            0 => {
                let at = self.says_when();
                ToSupervisor::Started { task, fence, at }
            }
            1 => finished(&key, failed(FailureKind::Permanent)),
            _ => finished(&key, succeeded()),
        };
        self.says(pid, Saying::Frame(lie));
    }

    /// When a bot says that it began: bots of an earlier release do not, and one in a while lies.
    fn says_when(&self) -> Option<i64> {
        match self.within(0, 9) {
            0 => None,
            1 if self.fault(0.5) => Some(self.within(0, u64::MAX).cast_signed()),
            _ => Some(self.hands.time().as_micros()),
        }
    }

    /// Sends something, in order.
    pub(super) fn says(&mut self, pid: u32, saying: Saying) {
        let connected = |proc: &&Proc| proc.alive && proc.line.is_some() && proc.heard;
        let Some(proc) = self.procs.get(&pid).filter(connected) else {
            return;
        };
        let (connection, says_at) = (proc.connection, proc.says_at);
        let at = says_at.max(self.now() + self.within(0, 3));
        if let Some(proc) = self.procs.get_mut(&pid) {
            proc.says_at = at;
        }
        self.at(at, Happening::Says(pid, connection, saying));
    }

    /// What a bot said arrives.
    pub(super) fn said(&mut self, pid: u32, connection: u64, saying: Saying) {
        let mine = |proc: &&Proc| proc.connection == connection;
        let proc = self.procs.get(&pid).filter(mine);
        let Some(line) = proc.and_then(|proc| proc.line.clone()) else {
            return;
        };
        match saying {
            Saying::Ready => {
                let pulse = self.null.try_clone().ok().map(PulseReader::silent);
                let sandbox = "simulated".to_owned();
                self.event(FleetEvent::Ready {
                    line,
                    sandbox,
                    pulse,
                });
            }
            Saying::Output((task, fence), text) => {
                if let Some(outputs) = self.outputs() {
                    // Late: harmless.
                    let _ = outputs.append(&task, fence, &text);
                }
            }
            Saying::Frame(frame) => self.event(FleetEvent::Frame { line, frame }),
        }
    }

    /// Its heart, as the daemon reads it.
    fn beats(&mut self, pid: u32, interval: Millis) {
        self.later(interval, Happening::Beats(pid, interval));
        let (now, hands) = (self.now(), self.hands.clone());
        let Some(proc) = self.procs.get(&pid).filter(|p| p.alive && !p.hung) else {
            return;
        };
        let mut shared = hands.shared();
        let pulse = shared.pulses.entry((proc.bot.clone(), proc.run));
        pulse.or_default().beats = now / 100 + 1;
    }

    pub(super) fn beats_again(&mut self, pid: u32, interval: Millis) {
        if self.procs.get(&pid).is_some_and(|p| p.alive && !p.hung) {
            self.beats(pid, interval);
        }
    }
}

pub(super) fn path_of(bot: &str, task: &TaskId, fence: Fence) -> PathBuf {
    format!("/spool/{bot}.{task}.{}.{}", fence.epoch, fence.attempt).into()
}

fn finished((task, fence): &Key, outcome: Outcome) -> ToSupervisor {
    ToSupervisor::Finished {
        task: task.clone(),
        fence: *fence,
        outcome,
    }
}
