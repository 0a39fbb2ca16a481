//! What the fleet reports: processes that were started or ended, connections that were made or lost,
//! and what bots say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use deia::bot::{Actual, ExitCause, LastExit};
use deia::config::Pool;
use deia::task::{Fence, TaskId};
use deia::wire::{Outcome, ToSupervisor, ToWorker, Welcome};

use super::bots::{BotEntry, Terms};
use super::tasks::{AttemptEnd, Cancel};
use super::timers::Timer;
use super::{Engine, Phase};
use crate::brain::bot::Event;
use crate::brain::{Millis, millis};
use crate::fleet::exits::{self, Exit, Watched};
use crate::fleet::oom;
use crate::fleet::spawn::Process;
use crate::fleet::{Accepted, FleetEvent, Hello, Run};

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
            } => self.process_ended(&bot, run, exit, for_memory),
            FleetEvent::OverLimit { bot, run, over } => self.over_limit(&bot, run, &over),
            FleetEvent::Hello(hello) => self.hello(hello),
            FleetEvent::Frame { bot, run, frame } => self.frame(&bot, run, frame),
            FleetEvent::Closed { bot, run, fault } => self.closed(&bot, run, fault),
        }
    }

    pub(super) fn spawned(&mut self, id: &Arc<str>, run: Run, result: Result<Process, String>) {
        match result {
            Ok(process) => {
                let watched = Watched {
                    pid: process.pid,
                    pidfd: process.pidfd,
                };
                let (bots, events) = (self.pids.clone(), self.events_to.clone());
                let evidence = self.evidence.clone();
                exits::watch(id.clone(), run, watched, bots, evidence, events);
                let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) else {
                    process.handle.kill();
                    return;
                };
                tracing::info!(event = "bot_started", bot_id = %id, pid = process.pid, "bot started");
                entry.process = Some((process.pid, process.handle));
                entry.identity = process.identity;
                entry.placed = process.placed;
                // Stopped while it was being started.
                if entry.machine.actual() == Actual::Stopping {
                    self.kill(id);
                } else {
                    self.may_work(id);
                }
            }
            Err(why) => {
                tracing::error!(event = "bot_exited", bot_id = %id, cause = "spawn_failed", error = %why, "the bot could not be started");
                let exit = LastExit {
                    code: None,
                    signal: None,
                    cause: ExitCause::SpawnFailed,
                };
                self.gone(id, run, exit, &why);
            }
        }
    }

    fn process_ended(
        &mut self,
        id: &Arc<str>,
        run: Run,
        exit: Exit,
        for_memory: Option<oom::Cause>,
    ) {
        let Some(entry) = self.bots.get(id).filter(|entry| entry.run == run) else {
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
        let expected = cause == ExitCause::Stopped || self.phase != Phase::Running;
        let why = match (exit, cause, &entry.over) {
            (_, _, Some(over)) => format!("the bot {id} was ended: {}", over.why),
            (_, ExitCause::MemoryLimit, None) => format!(
                "the bot {id} was ended by the kernel: it took more memory than limits.memory_mb"
            ),
            (_, ExitCause::Oom, None) => {
                format!("the bot {id} was ended by the kernel: the host ran out of memory")
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
            LastExit {
                code,
                signal,
                cause,
            },
            &why,
        );
    }

    fn gone(&mut self, id: &Arc<str>, run: Run, exit: LastExit, why: &str) {
        let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) else {
            return;
        };
        entry.process = None;
        entry.dialled = None;
        entry.session = None;
        entry.secret = None;
        entry.last_exit = Some(exit);
        entry.over = None;
        self.limit_watch.gone(id, run);
        self.dispatcher.close(id);
        self.bot_lost_its_tasks(id, run, why);
        // Leases that are still on the way to the disk keep their slot until they are back.
        self.bot_event(id, Event::Ended);
    }

    /// Who a connection is: the secret is of one start of one bot, the pid of one process.
    fn hello(&mut self, hello: Hello) {
        let Some((id, entry)) = self.bots.get_key_value(hello.bot_id.as_str()) else {
            return refuse(&hello, "no such bot");
        };
        let id = id.clone();
        if entry.secret.as_ref() != Some(&hello.secret) {
            return refuse(&hello, "the secret is of no bot that was started");
        }
        if hello.peer_pid.is_some_and(|pid| pid != hello.pid) {
            return refuse(&hello, "the connection is another process's");
        }
        if let Some((pid, _)) = entry.process
            && pid != hello.pid
        {
            return refuse(&hello, "the process is not the one that was started");
        }
        if entry.machine.actual() != Actual::Starting {
            return refuse(&hello, "the bot is not being started");
        }
        let welcome = ToWorker::Welcome(Box::new(self.welcome(&id, &entry.spec)));
        let terms = Terms {
            slots: self.slots_of(&entry.spec),
            heartbeat_seconds: self.config.supervision.heartbeat_seconds,
            stop_timeout_seconds: self.config.supervision.stop_timeout_seconds,
        };
        let now = self.now();
        let Some(entry) = self.bots.get_mut(&id) else {
            return;
        };
        // A secret opens one connection.
        entry.secret = None;
        entry.dialled = hello.peer_pid;
        entry.terms = terms;
        entry.last_seen.store(now, Ordering::Relaxed);
        if hello.frames.try_send(welcome).is_ok() {
            entry.session = Some(hello.frames);
            let accepted = Accepted {
                bot: id,
                run: entry.run,
                last_seen: entry.last_seen.clone(),
            };
            // A connection that is gone again ends its process, which is seen.
            let _ = hello.accept.send(accepted);
        }
    }

    fn welcome(&self, id: &str, spec: &Pool) -> Welcome {
        let rules = &self.config.supervision;
        let (workdir, paths) = self.absolute(spec);
        Welcome {
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
        }
    }

    fn frame(&mut self, id: &Arc<str>, run: Run, frame: ToSupervisor) {
        if self.bots.get(id).is_none_or(|entry| entry.run != run) {
            return;
        }
        match frame {
            ToSupervisor::Ready { sandbox } => {
                if let Some(entry) = self.bots.get_mut(id) {
                    entry.sandbox = Some(sandbox);
                }
                self.bot_event(id, Event::Ready);
            }
            ToSupervisor::Started { task, fence } if self.has(id, run, &task, fence) => {
                self.started(&task, fence);
            }
            ToSupervisor::Started { .. } => {}
            // How the command of a bot that is over a limit ended is part of the bot's own end.
            ToSupervisor::Finished { .. } if self.is_over_limit(id) => {}
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
            ToSupervisor::Hello { .. }
            | ToSupervisor::Heartbeat { .. }
            | ToSupervisor::Output { .. } => {}
        }
    }

    /// Whether this start of the bot has this attempt: nobody speaks for another.
    fn has(&self, id: &Arc<str>, run: Run, task: &TaskId, fence: Fence) -> bool {
        let attempt = self.in_flight.get(task);
        attempt.is_some_and(|a| a.fence == fence && a.bot == *id && a.run == run)
    }

    fn closed(&mut self, id: &Arc<str>, run: Run, fault: Option<String>) {
        let Some(entry) = self.bots.get_mut(id).filter(|entry| entry.run == run) else {
            return;
        };
        entry.session = None;
        self.dispatcher.close(id);
        match fault {
            Some(fault) => {
                tracing::warn!(event = "bot_protocol", bot_id = %id, error = %fault, "the bot broke the protocol; ending it");
                self.bot_event(id, Event::Stuck(ExitCause::Protocol));
            }
            // Most likely its process has ended, and how is about to be known.
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

fn refuse(hello: &Hello, why: &str) {
    tracing::warn!(event = "bot_refused", bot_id = %hello.bot_id, pid = hello.peer_pid, reason = why, "a connection to the bots' socket was refused");
}

/// A bot's error text, cut to what the protocol allows.
fn bounded(outcome: Outcome) -> Outcome {
    const MAX_ERROR_BYTES: usize = 4096;
    match outcome {
        Outcome::Failed { mut error, kind } if error.len() > MAX_ERROR_BYTES => {
            error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
            Outcome::Failed { error, kind }
        }
        other => other,
    }
}
