//! What the fleet reports: processes that were started or ended, connections that were made or lost,
//! and what bots say.

use std::sync::Arc;

use deia::bot::{ExitCause, LastExit};
use deia::config::Pool;
use deia::task::{Fence, TaskId};
use deia::time::Timestamp;
use deia::wire::{Launch, Outcome, ToSupervisor, ToWorker, Welcome};
use sha2::{Digest, Sha256};

use super::Engine;
use super::bots::{BotEntry, Session, Terms};
use super::tasks::{AttemptEnd, Cancel};
use super::timers::Timer;
use crate::brain::bot::{Event, State};
use crate::brain::liveness::Heart;
use crate::brain::{Millis, millis};
use crate::fleet::exits::{Exit, Origin, Parent, Watched};
use crate::fleet::oom;
use crate::fleet::pulse::PulseReader;
use crate::fleet::results::Kept;
use crate::fleet::spawn::{NotStarted, Process};
use crate::fleet::{Answer, FleetEvent, Hello, Line, Run};

/// A process whose connection has ended may take this long to end as well.
const DEAF: Millis = 1_000;

impl Engine {
    /// What the fleet reports.
    pub(super) fn fleet_event(&mut self, event: FleetEvent) {
        match event {
            FleetEvent::Spawned { bot, run, result } => self.spawned(&bot, run, result),
            FleetEvent::Ended {
                bot,
                run,
                exit,
                for_memory,
                kept,
            } => self.process_ended(&bot, run, (exit, for_memory), kept),
            FleetEvent::Lingering { bot, run, left } => self.lingers(&bot, run, left),
            FleetEvent::OverLimit { bot, run, over } => self.over_limit(&bot, run, &over),
            FleetEvent::Hello(hello) => self.hello(hello),
            FleetEvent::Ready {
                line,
                sandbox,
                pulse,
            } => self.ready(&line, sandbox, pulse),
            FleetEvent::Frame { line, frame } => self.frame(&line, frame),
            FleetEvent::Closed { line, fault } => self.closed(&line, fault),
        }
    }

    pub(super) fn spawned(&mut self, id: &Arc<str>, run: Run, result: Result<Process, NotStarted>) {
        let wall = self.wall();
        match result {
            Ok(process) => {
                let launch = self.bots.get(id).filter(|entry| entry.run == run);
                self.edge.watch(Watched {
                    bot: id.clone(),
                    run,
                    launch: launch.map_or(Launch(0), |entry| entry.launch),
                    pid: process.pid,
                    pidfd: process.pidfd,
                    parent: Parent::Daemon,
                    origin: Origin::Here,
                });
                let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) else {
                    self.edge.kill(id, run, &process.handle);
                    return;
                };
                tracing::info!(event = "bot_started", bot_id = %id, pid = process.pid, "bot started");
                entry.no_room = None;
                entry.process = Some((process.pid, process.handle));
                entry.process_since = Some(wall);
                entry.identity = process.identity;
                entry.placed = process.placed;
                // Stopped while it was being started.
                if matches!(entry.machine.state(), State::Stopping(_)) {
                    self.kill(id);
                } else {
                    self.may_work(id);
                }
            }
            Err(NotStarted::NoRoom(why)) => {
                tracing::warn!(event = "bot_not_started", bot_id = %id, error = %why, "the host has no room for the bot's process; trying again soon");
                if let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) {
                    entry.no_room = Some(why.clone());
                }
                self.gone(id, run, None, &why, Event::NoRoom);
            }
            Err(NotStarted::Failed(why)) => {
                tracing::error!(event = "bot_exited", bot_id = %id, cause = "spawn_failed", error = %why, "the bot could not be started");
                let exit = LastExit {
                    code: None,
                    signal: None,
                    cause: ExitCause::SpawnFailed,
                };
                self.gone(id, run, Some(exit), &why, Event::Ended);
            }
        }
    }

    /// Its process has ended; what it had started has not.
    fn lingers(&mut self, id: &Arc<str>, run: Run, left: Vec<String>) {
        if let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) {
            tracing::warn!(event = "bot_lingers", bot_id = %id, left = left.join(", "), "the bot has ended, and something it started does not, not even by SIGKILL; trying again and again");
            entry.blocked_by = left;
        }
    }

    fn process_ended(
        &mut self,
        id: &Arc<str>,
        run: Run,
        (exit, for_memory): (Exit, Option<oom::Cause>),
        kept: Vec<Kept>,
    ) {
        if self.bots.get(id).is_none_or(|entry| entry.run != run) {
            return;
        }
        for kept in kept {
            self.kept_result(kept);
        }
        let Some(entry) = self.bots.get(id) else {
            return;
        };
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::Unknown => (None, None),
        };
        let cause = entry.machine.ending().unwrap_or(match (exit, for_memory) {
            (_, Some(cause)) => cause.exit_cause(),
            (Exit::Code(_), None) => ExitCause::Exited,
            (Exit::Signal(_), None) => ExitCause::Signal,
            (Exit::Unknown, None) => ExitCause::Unknown,
        });
        let expected = cause == ExitCause::Stopped || self.is_stopping();
        let why = match (exit, cause, &entry.over) {
            (_, _, Some(over)) => format!("the bot {id} was ended: {}", over.why),
            (_, ExitCause::MemoryLimit, None) => format!(
                "the bot {id} was ended by the kernel: it took more memory than limits.memory_mb"
            ),
            (_, ExitCause::Oom, None) => {
                format!("the bot {id} was ended by the kernel: the host ran out of memory")
            }
            (
                _,
                ExitCause::HeartbeatTimeout
                | ExitCause::TaskTimeout
                | ExitCause::StartTimeout
                | ExitCause::Protocol,
                None,
            ) => {
                let exit = LastExit {
                    code: None,
                    signal: None,
                    cause,
                };
                format!("the bot {id} was ended by the daemon: it {exit}")
            }
            (Exit::Code(code), ..) => format!("the bot {id} ended with code {code}"),
            (Exit::Signal(signal), ..) => format!("the bot {id} was ended by signal {signal}"),
            (Exit::Unknown, ..) => format!("the bot {id} ended"),
        };
        if expected {
            tracing::info!(event = "bot_exited", bot_id = %id, code, signal, cause = cause.as_str(), "bot ended");
        } else {
            tracing::warn!(event = "bot_exited", bot_id = %id, code, signal, cause = cause.as_str(), "bot ended");
        }
        self.gone(
            id,
            run,
            Some(LastExit {
                code,
                signal,
                cause,
            }),
            &why,
            Event::Ended,
        );
    }

    fn gone(&mut self, id: &Arc<str>, run: Run, exit: Option<LastExit>, why: &str, event: Event) {
        let wall = self.wall();
        let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) else {
            return;
        };
        entry.process = None;
        entry.dialled = None;
        entry.session = None;
        entry.pulse = None;
        entry.blocked_by.clear();
        if let Some(exit) = exit {
            entry.ended(exit, wall);
        }
        entry.over = None;
        self.limit_watch.gone(id, run);
        self.dispatcher.close(id);
        self.bot_lost_its_tasks(id, run, why);
        // Leases that are still on the way to the disk keep their slot until they are back.
        self.bot_event(id, event);
    }

    /// A process has proved that it is this start of this bot. Whether there is a use for it.
    fn hello(&mut self, hello: Hello) {
        let known = self.bots.get_key_value(hello.bot_id.as_str());
        let Some((id, entry)) = known.filter(|(_, entry)| entry.launch == hello.launch) else {
            return dismiss(hello, "no bot of this name is expected to be this process");
        };
        let id = id.clone();
        match (entry.machine.state(), hello.back.is_some()) {
            // The one of an earlier daemon had just been started.
            (State::Starting | State::Found, false) => self.welcome_new(&id, hello),
            (State::Found | State::Ready | State::Busy | State::Draining(_), true) => {
                self.welcome_back(&id, hello)
            }
            // It was told already, and says no more than that it is there.
            (State::Stopping(_), _) => dismiss(hello, "it is being stopped"),
            _ => dismiss(hello, "it is not being started"),
        }
    }

    fn welcome_new(&mut self, id: &Arc<str>, hello: Hello) {
        let now = self.now();
        let Some(entry) = self.bots.get(id) else {
            return;
        };
        let welcome = self.welcome(id, &entry.spec);
        let closed = welcome.places.closed.clone();
        let terms = Terms {
            slots: welcome.max_concurrent_tasks,
            heartbeat_seconds: self.config.supervision.heartbeat_seconds,
            stop_timeout_seconds: self.config.supervision.stop_timeout_seconds,
        };
        let frame = ToWorker::Welcome(Box::new(welcome));
        let run = entry.run;
        if entry.machine.state() == State::Found {
            // It has just been started: what the store gives to a bot of its name was another's.
            self.release_what_it_has_not(id, run, &[]);
        }
        if let Some(entry) = self.bots.get_mut(id) {
            entry.terms = terms;
            entry.closed = closed;
            entry.heart = Heart::heard(now);
        }
        self.connect(id, hello, frame);
    }

    /// A bot that lost its supervisor, this one or an earlier one, goes on.
    fn welcome_back(&mut self, id: &Arc<str>, mut hello: Hello) {
        let now = self.now();
        let Some((back, pulse)) = hello.back.take() else {
            return;
        };
        let Some(entry) = self.bots.get(id) else {
            return;
        };
        let welcome = self.welcome(id, &entry.spec);
        let (today, closed) = (welcome.terms, welcome.places.closed);
        let run = entry.run;
        let reunion = self.reunite(id, run, &back);
        let taken_over = reunion.kept.len();
        let welcome = ToWorker::WelcomeBack {
            kept: reunion.kept,
            orphan_grace_ms: millis(self.config.supervision.orphan_grace_seconds),
        };
        let version = hello.version.clone();
        if let Some(entry) = self.bots.get_mut(id) {
            entry.terms = Terms {
                slots: back.max_concurrent_tasks,
                heartbeat_seconds: back.heartbeat_ms as f64 / 1000.0,
                stop_timeout_seconds: back.stop_timeout_ms as f64 / 1000.0,
            };
            entry.outdated |= back.terms != today;
            entry.closed = closed;
            // Under other limits than today's it is not looked at for these; it is replaced soon.
            if entry.outdated {
                entry.identity = None;
            }
            entry.version = (version != deia::VERSION).then_some(version);
            entry.heart = Heart::heard(now);
            entry.pulse = pulse;
            entry.sandbox = Some(back.sandbox);
        }
        let found = self.bots.get(id).map(|entry| entry.machine.state()) == Some(State::Found);
        self.connect(id, hello, welcome);
        for cancel in reunion.cancels {
            self.send(id, run, cancel);
        }
        if found {
            tracing::info!(event = "bot_adopted", bot_id = %id, tasks = taken_over, "a bot of an earlier daemon is taken over, with what it has");
            self.bot_event(id, Event::Ready);
            self.roll();
        } else {
            tracing::warn!(event = "bot_reconnected", bot_id = %id, tasks = taken_over, "a bot lost its connection and is back");
            self.may_work(id);
        }
        self.deliver_to(id);
    }

    fn connect(&mut self, id: &Arc<str>, hello: Hello, welcome: ToWorker) {
        self.lines += 1;
        let number = self.lines;
        let Some(entry) = self.bots.get_mut(id) else {
            return;
        };
        entry.dialled = Some(hello.pid);
        if hello.frames.send(welcome).is_err() {
            return;
        }
        hello.frames.flush();
        let line = Line {
            bot: id.clone(),
            run: entry.run,
            number,
        };
        // Who has waited too long for this has hung up, and its bot dials again.
        if hello.answer.send(Answer::Accepted { line }).is_ok() {
            let frames = hello.frames;
            entry.session = Some(Session { number, frames });
        }
    }

    fn ready(&mut self, line: &Line, sandbox: String, pulse: Option<PulseReader>) {
        let Some(entry) = self
            .bots
            .get_mut(&line.bot)
            .filter(|entry| entry.is_on(line))
        else {
            return;
        };
        entry.sandbox = Some(sandbox);
        entry.pulse = pulse;
        self.bot_event(&line.bot, Event::Ready);
        self.deliver_to(&line.bot);
    }

    fn welcome(&self, id: &str, spec: &Pool) -> Welcome {
        let rules = &self.config.supervision;
        let (workdir, paths) = self.absolute(spec);
        let mut welcome = Welcome {
            pool: spec.name.clone(),
            backend: spec.backend.clone(),
            fallback: spec.fallback.clone(),
            workdir,
            paths,
            env_files: spec.env_files.clone(),
            limits: spec.limits.clone(),
            heartbeat_ms: millis(rules.heartbeat_seconds),
            stop_timeout_ms: millis(rules.stop_timeout_seconds),
            work_root: self.home.work(),
            max_concurrent_tasks: self.slots_of(spec),
            places: self.places(id),
            orphan_grace_ms: millis(rules.orphan_grace_seconds),
            terms: [0; 32],
        };
        // As it is encoded: whatever is different in there makes another bot. Except what the other
        // pools come to, which an operator's override of the limits changes.
        let fleet_processes = std::mem::take(&mut welcome.places.fleet_processes);
        let mut bytes = Vec::new();
        if deia::wire::encode(&welcome, &mut bytes).is_ok() {
            welcome.terms = Sha256::digest(&bytes).into();
        }
        welcome.places.fleet_processes = fleet_processes;
        welcome
    }

    fn frame(&mut self, line: &Line, frame: ToSupervisor) {
        let (id, run) = (&line.bot, line.run);
        if self.bots.get(id).is_none_or(|entry| !entry.is_on(line)) {
            return;
        }
        match frame {
            ToSupervisor::Started { task, fence, at } if self.has(id, run, &task, fence) => {
                self.started(&task, fence, at.map(Timestamp::from_micros));
            }
            ToSupervisor::Started { .. } => {}
            // How the command of a bot that is over a limit ended is part of the bot's own end.
            ToSupervisor::Finished {
                outcome: Outcome::Failed { .. } | Outcome::Cancelled,
                ..
            } if self.is_over_limit(id) => {}
            ToSupervisor::Finished {
                task,
                fence,
                outcome,
            } => {
                if self.has(id, run, &task, fence) {
                    let outcome = bounded(outcome);
                    let asked = self
                        .in_flight
                        .get(&task)
                        .is_some_and(|a| a.cancel != Cancel::No);
                    let gives_back = outcome == Outcome::Cancelled && !asked;
                    self.end_attempt(&task, fence, AttemptEnd::Reported(outcome));
                    // Somebody else told it to stop: it would give back all that it is given.
                    if gives_back
                        && self
                            .bots
                            .get(id)
                            .is_some_and(|bot| bot.machine.takes_tasks())
                    {
                        self.bot_event(id, Event::Bounce);
                    }
                } else {
                    tracing::warn!(event = "late_result_refused", bot_id = %id, task_id = %task, attempt = fence.attempt, "a result came too late and was refused");
                    self.send(id, run, ToWorker::Ack { task, fence });
                }
            }
            // The connection handles these itself.
            ToSupervisor::Hello(_) | ToSupervisor::Ready { .. } | ToSupervisor::Output { .. } => {}
        }
    }

    /// Whether this start of the bot has this attempt: nobody speaks for another.
    fn has(&self, id: &Arc<str>, run: Run, task: &TaskId, fence: Fence) -> bool {
        let attempt = self.in_flight.get(task);
        attempt.is_some_and(|a| a.fence == fence && a.bot == *id && a.run == run)
    }

    fn closed(&mut self, line: &Line, fault: Option<String>) {
        let (id, run) = (&line.bot, line.run);
        // One that has dialled in again is on another line already.
        let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.is_on(line)) else {
            return;
        };
        entry.session = None;
        self.dispatcher.close(id);
        match fault {
            Some(fault) => {
                tracing::warn!(event = "bot_protocol", bot_id = %id, error = %fault, "the bot broke the protocol; ending it");
                self.bot_event(id, Event::Stuck(ExitCause::Protocol));
            }
            // Most likely its process has ended, and how is about to be known; or it dials again.
            None => self
                .timers
                .at(self.now() + DEAF, Timer::Deaf(id.clone(), run)),
        }
    }

    /// A bot without a connection is of no use.
    pub(super) fn bot_deaf(&mut self, id: &Arc<str>, run: Run) {
        let deaf = |entry: &&BotEntry| entry.run == run && entry.session.is_none();
        if self.bots.get(id).filter(deaf).is_some() {
            self.bot_event(id, Event::Stuck(ExitCause::Protocol));
        }
    }
}

fn dismiss(hello: Hello, why: &str) {
    tracing::warn!(event = "bot_dismissed", bot_id = %hello.bot_id, pid = hello.pid, reason = why, "a bot dialled in that there is no use for; it is told to end");
    let _ = hello.answer.send(Answer::Dismissed);
}

/// A bot's error text, cut to what the protocol allows.
pub(super) fn bounded(outcome: Outcome) -> Outcome {
    const MAX_ERROR_BYTES: usize = 4096;
    match outcome {
        Outcome::Failed { mut error, kind } if error.len() > MAX_ERROR_BYTES => {
            error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
            Outcome::Failed { error, kind }
        }
        other => other,
    }
}
