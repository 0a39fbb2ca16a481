//! Simulated clients and an operator: what they ask, and what they were told.

use std::sync::Arc;

use deia::api::{LimitsAnswer, LimitsRequest};
use deia::task::{Complexity, Priority, TaskId, TaskStatus, TaskType};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::world::{Happening, World};
use crate::brain::demand::Demand;
use crate::brain::learn::Sample;
use crate::daemon::command::{Acted, AskLearning, BotAct, Command, Refused, Submitted};
use crate::daemon::engine::Engine;
use crate::store::NewTask;

/// A question that is not answered yet.
#[derive(Debug)]
pub(super) enum Asked {
    Submit {
        id: TaskId,
        hash: [u8; 32],
        /// The audit was on.
        audited: bool,
        answer: oneshot::Receiver<Result<Submitted, Refused>>,
    },
    Cancel {
        id: TaskId,
        answer: oneshot::Receiver<Result<Acted, Refused>>,
    },
    Requeue {
        id: TaskId,
        answer: oneshot::Receiver<Result<Acted, Refused>>,
    },
    Limits {
        /// The how many-th such request it is.
        number: u64,
        answer: oneshot::Receiver<Result<LimitsAnswer, Refused>>,
    },
    /// The audit was switched, to this.
    Switch {
        is_on: bool,
        answer: oneshot::Receiver<()>,
    },
    Wait {
        id: TaskId,
        answer: oneshot::Receiver<TaskStatus>,
    },
}

const KINDS: [TaskType; 3] = [TaskType::General, TaskType::Development, TaskType::Planning];

impl World {
    /// A client asks for something.
    pub(super) fn asks(&mut self) {
        if !self.is_up() {
            return;
        }
        match self.within(0, 99) {
            0..60 => self.submits(1),
            60..65 => {
                let many = self.within(5, 30);
                self.submits(many);
            }
            65..75 => self.cancels(),
            75..82 => self.requeues(),
            82..88 => self.acts_on_a_bot(),
            88..94 => self.sets_limits(),
            94..97 => self.reloads(),
            _ => self.reports(),
        }
    }

    fn submits(&mut self, many: u64) {
        for _ in 0..many {
            self.submit();
        }
    }

    fn submit(&mut self) {
        let known = self.any_task().filter(|_| self.chance(0.1));
        let name = self.names.len() + 1;
        let (id, again) = match known {
            Some(id) => (id, true),
            None => (format!("t{name}").parse().unwrap(), false),
        };
        let kind = KINDS[self.within(0, 2) as usize];
        let mut demand = Demand {
            bot: None,
            pool: None,
            task_type: kind,
            capabilities: Vec::new(),
            named_by: crate::brain::demand::NamedBy::Analysis,
        };
        match self.within(0, 11) {
            0 => demand.bot = Some("all-2".into()),
            1 => demand.pool = Some("dev".into()),
            2 => {
                demand.capabilities = vec!["python".into()];
                demand.named_by = crate::brain::demand::NamedBy::Caller;
            }
            3 => demand.bot = Some("nobody".into()),
            _ => {}
        }
        let word = match self.within(0, 19) {
            0 => "poison",
            1 => "hopeless",
            _ => "work",
        };
        // The same name is now and then another request.
        let hash = [if again && self.chance(0.3) { 2 } else { 1 }; 32];
        let now = self.hands.time();
        let not_before = self
            .chance(0.15)
            .then(|| now.plus_millis(self.within(0, 20_000) as i64 - 2_000));
        let task = NewTask {
            id: id.clone(),
            request_hash: hash,
            content: format!("{word} {id}").into(),
            priority: Priority::ALL[self.within(0, 3) as usize],
            task_type: kind,
            complexity: Complexity::Simple,
            required_capabilities: demand.capabilities.clone(),
            bot_id: demand.bot.clone(),
            pool: demand.pool.clone(),
            demand: demand.text().into(),
            max_attempts: self.within(1, 4) as u32,
            timeout_ms: self.within(1_000, 60_000),
            not_before,
            metadata: None,
            submitted_at: now,
        };
        if !again {
            self.names.push(id.clone());
        }
        let (reply, answer) = oneshot::channel();
        let audited = self.is_audited();
        self.asked.push(Asked::Submit {
            id,
            hash,
            audited,
            answer,
        });
        self.turn(|engine| {
            let task = Box::new(task);
            engine.command(Command::Submit {
                task,
                demand,
                reply,
            });
        });
        if self.chance(0.2) {
            self.waits();
        }
    }

    /// Somebody waits for the end of a task that has none yet.
    fn waits(&mut self) {
        let Some(id) = self.any_task() else { return };
        let status = self.disk().status(&id);
        if status.is_none_or(TaskStatus::is_final) {
            return;
        }
        let (reply, mut noted) = oneshot::channel();
        let asked = id.clone();
        self.turn(|engine| engine.command(Command::Wait { id: asked, reply }));
        if let Ok(answer) = noted.try_recv() {
            self.asked.push(Asked::Wait { id, answer });
        }
    }

    fn cancels(&mut self) {
        let Some(id) = self.any_task() else { return };
        let (reply, answer) = oneshot::channel();
        let asked = id.clone();
        self.asked.push(Asked::Cancel { id: asked, answer });
        self.turn(|engine| engine.command(Command::Cancel { id, reply }));
    }

    fn requeues(&mut self) {
        let Some(id) = self.any_task() else { return };
        let (reply, answer) = oneshot::channel();
        let asked = id.clone();
        self.asked.push(Asked::Requeue { id: asked, answer });
        self.turn(|engine| engine.command(Command::Requeue { id, reply }));
    }

    fn acts_on_a_bot(&mut self) {
        let bots = ["all", "all-2", "all-3", "dev", "dev-2", "plan", "nobody"];
        let acts = [
            BotAct::Start,
            BotAct::Stop,
            BotAct::Restart,
            BotAct::Interrupt,
        ];
        let id = bots[self.within(0, 6) as usize].to_owned();
        let act = acts[self.within(0, 3) as usize];
        let reply = oneshot::channel().0;
        self.turn(|engine| engine.command(Command::ActOnBot { id, act, reply }));
    }

    fn sets_limits(&mut self) {
        let request = LimitsRequest {
            min_bots: self.chance(0.3).then(|| self.within(0, 4) as u32),
            max_bots: self.chance(0.8).then(|| self.within(0, 6) as u32),
            resume: self.chance(0.3),
        };
        self.limits(request);
    }

    fn limits(&mut self, request: LimitsRequest) {
        let (reply, answer) = oneshot::channel();
        self.limits_asked += 1;
        let number = self.limits_asked;
        self.asked.push(Asked::Limits { number, answer });
        self.turn(|engine| engine.command(Command::SetLimits { request, reply }));
    }

    fn reloads(&mut self) {
        let mut config = (*self.config()).clone();
        match self.within(0, 3) {
            0 => config.bots.retain(|pool| pool.name != "dev"),
            1 => config.bots[0].max_concurrent_tasks = Some(self.within(1, 5) as u32),
            2 => config.bot_limits.max_bots += 1,
            // No draw of its own: what a seed was noted for stays its story.
            _ if self.names.len().is_multiple_of(2) => {
                config.feature_flags.audit_logging_enabled = false;
            }
            _ => config.version = "2.0".into(),
        }
        self.configure(Arc::new(config));
    }

    fn configure(&mut self, config: Arc<deia::config::Config>) {
        let (reply, answer) = oneshot::channel();
        let is_on = config.feature_flags.audit_logging_enabled;
        if self.is_audited() != is_on {
            self.asked
                .retain(|asked| !matches!(asked, Asked::Switch { .. }));
            self.asked.push(Asked::Switch { is_on, answer });
        }
        self.turn(|engine| engine.command(Command::Configure { config, reply }));
    }

    fn is_audited(&self) -> bool {
        self.engine().is_some_and(Engine::audits)
    }

    fn reports(&mut self) {
        let sample = Sample {
            task_type: KINDS[self.within(0, 2) as usize],
            seconds: Some(self.within(1, 100) as f64),
            succeeded: self.chance(0.7),
            at: self.hands.time(),
        };
        let reply = oneshot::channel().0;
        let bot: Arc<str> = "all".into();
        let ask = AskLearning::Record { bot, sample, reply };
        self.turn(|engine| engine.command(Command::Learning(ask)));
    }

    /// Once nothing goes wrong any more: the file's own limits and pools, every bot wanted.
    pub(super) fn operator_is_content(&mut self) {
        self.limits(LimitsRequest {
            min_bots: None,
            max_bots: None,
            resume: true,
        });
        self.configure(self.config());
        self.later(1_000, Happening::WantsAll);
    }

    /// Again and again: a bot that there is not can't be started.
    pub(super) fn wants_all(&mut self) {
        self.later(30_000, Happening::WantsAll);
        for id in ["all", "all-2", "all-3", "dev", "dev-2", "plan"] {
            let (id, act) = (id.to_owned(), BotAct::Start);
            let reply = oneshot::channel().0;
            self.turn(|engine| engine.command(Command::ActOnBot { id, act, reply }));
        }
    }

    /// After a turn: who was told what.
    pub(super) fn look_at_answers(&mut self) {
        let mut open = Vec::new();
        for asked in std::mem::take(&mut self.asked) {
            if let Some(asked) = self.look_at(asked) {
                open.push(asked);
            }
        }
        open.append(&mut self.asked);
        self.asked = open;
    }

    fn look_at(&mut self, mut asked: Asked) -> Option<Asked> {
        match &mut asked {
            Asked::Submit {
                id,
                hash,
                audited,
                answer,
            } => match answer.try_recv() {
                Err(TryRecvError::Empty) => return Some(asked),
                Err(TryRecvError::Closed) => {}
                Ok(answer) => {
                    if !*audited {
                        self.judge.unaudited.insert(id.clone());
                    }
                    let (id, hash) = (id.clone(), *hash);
                    self.was_submitted(id, hash, &answer);
                }
            },
            Asked::Cancel { id, answer } => match answer.try_recv() {
                Err(TryRecvError::Empty) => return Some(asked),
                Ok(Ok(acted)) if !acted.pending => {
                    let status = self.disk().status(id);
                    if status.is_some_and(|status| status != TaskStatus::Cancelled) {
                        // It may have been queued again meanwhile.
                        let again = self.judge.was_requeued(id);
                        if !again {
                            let why = format!("{id} was said to be cancelled and is {status:?}");
                            self.judge.complaints.push(why);
                        }
                    }
                }
                _ => {}
            },
            Asked::Requeue { id, answer } => match answer.try_recv() {
                Err(TryRecvError::Empty) => return Some(asked),
                Ok(Ok(_)) => {
                    let disk = self.disk();
                    let gone = disk.status(id).is_none() && !disk.removed.contains(id);
                    drop(disk);
                    if gone {
                        let why = format!("{id} was said to be queued again and is gone");
                        self.judge.complaints.push(why);
                    }
                }
                _ => {}
            },
            Asked::Limits { number, answer } => match answer.try_recv() {
                Err(TryRecvError::Empty) => return Some(asked),
                Ok(Ok(answer)) => {
                    let kept = self.hands.shared().limits.is_some();
                    // It waits for its record, and what was asked after it may be on disk by then.
                    let is_last = *number == self.limits_asked;
                    if is_last && kept != answer.r#override {
                        let why = "limits were answered that are not on disk".to_owned();
                        self.judge.complaints.push(why);
                    }
                }
                _ => {}
            },
            Asked::Switch { is_on, answer } => match answer.try_recv() {
                Err(TryRecvError::Empty) => return Some(asked),
                Ok(()) => {
                    // Where the disk has refused, the record comes once it does not.
                    let has_refused = self.engine().is_none_or(|e| e.store_fault.is_some());
                    if !has_refused && self.disk().switched != Some(*is_on) {
                        let why = "the audit was switched, which is not on record".to_owned();
                        self.judge.complaints.push(why);
                    }
                }
                Err(TryRecvError::Closed) => {}
            },
            Asked::Wait { id, answer } => match answer.try_recv() {
                Err(TryRecvError::Empty) => return Some(asked),
                Ok(end) => {
                    let now = self.disk().status(id);
                    if now.is_some_and(|now| now != end) && !self.judge.was_requeued(id) {
                        let why = format!("{id} was said to be {end:?} and is {now:?}");
                        self.judge.complaints.push(why);
                    }
                }
                Err(TryRecvError::Closed) => {}
            },
        }
        None
    }

    fn was_submitted(&mut self, id: TaskId, hash: [u8; 32], answer: &Result<Submitted, Refused>) {
        let known = {
            let disk = self.disk();
            let task = disk.model.tasks.iter().find(|t| t.record.id == id);
            task.map(|t| t.request_hash)
        };
        let gone = self.disk().removed.contains(&id);
        match answer {
            Ok(_) => {
                if known != Some(hash) && !gone {
                    let why = format!("{id} was acknowledged and is not on disk: {answer:?}");
                    self.judge.complaints.push(why);
                }
                let is_on_record = self.disk().on_record.contains(id.as_str());
                if !is_on_record && !self.judge.unaudited.contains(&id) {
                    let why = format!("{id} was acknowledged and is not on record");
                    self.judge.complaints.push(why);
                }
                self.judge.acknowledged.insert(id, hash);
            }
            Err(Refused::Conflict) => {
                if known == Some(hash) {
                    let why = format!("{id} was refused as another task's name");
                    self.judge.complaints.push(why);
                }
            }
            Err(_) => {}
        }
    }

    /// The daemon is gone, and with it whoever would have answered.
    pub(super) fn forget_questions(&mut self) {
        self.asked.clear();
    }
}
