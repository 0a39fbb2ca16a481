//! Task files: a folder for each bot, an answer for each file.
//!
//! ```text
//!   .deia/hive/tasks/<bot>/*.md --watch, list--> due? --read, parse--> order --Submit--> main loop --> store
//!        |  bad                                   (quiet for 1 s)        |                               |
//!        v                                                    meant, taken: ledger.jsonl                 | Wait
//!   rejected/<bot>/*.md, *.reason.txt                                                                    v
//!   controls/<bot>-PAUSE: not taken now           responses/*-RESPONSE-*.md <--written once-- the task has ended
//! ```
//!
//! Owns `.deia/hive/`. A client of the main loop and of the store like any other: what it submits goes the way
//! of an HTTP request ([`crate::daemon::intake`]), and an end is waited for as `wait_seconds` does. Absent on
//! purpose: any decision about bots, and any file that is opened by the main loop.
//!
//! **Each content runs once.** The task's name is a digest of folder and content (`name.rs`), so the store
//! takes it once, whatever happens between a submission and what is noted of it. The ledger says so for as
//! long as the file is there, also after the store has removed the task.
//!
//! **Each task is answered.** What may be owed is in the ledger before the submission, so the next daemon
//! finds it after a kill at any moment. An answer says the same each time it is made, so one that was written
//! and not noted is found to be there.
//!
//! | file | what |
//! |---|---|
//! | `parse.rs`, `name.rs`, `due.rs`, `respond.rs` | decisions, pure: what a file says, what things are called, what is due, what is answered |
//! | `desk.rs`, `load.rs` | folders and ledger, looked at and written; blocks, so it runs on a thread for that |
//! | `folder.rs`, `ledger.rs`, `watch.rs` | the system calls; the list; the kernel's notices |

mod desk;
mod due;
mod folder;
pub(crate) mod fuzz;
mod ledger;
mod load;
mod name;
mod parse;
mod respond;
mod watch;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::task::TaskId;
use deia::time::Timestamp;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use self::desk::{Answered, Desk, Fate};
use self::due::{AGAIN, Due, SETTLE};
use self::load::Loaded;
use self::respond::{response, too_late};
use self::watch::Watcher;
use crate::audit::Actor;
use crate::brain::Millis;
use crate::daemon::command::{Command, Refused};
use crate::daemon::reload::ConfigHandle;
use crate::daemon::validation::{Validation, Way};
use crate::store::{Store, StoreError, TaskRecord};

/// Between two looks where the kernel tells what happens.
const SLOW_LOOK: Millis = 60_000;

/// ... and where it does not.
const BLIND_LOOK: Millis = 5_000;

/// From a notice to the look: more follows at once.
const GATHER: Millis = 50;

/// Between two looks, whatever happens.
const LOOK_GAP: Millis = 250;

/// A look takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 10;

/// Tasks whose ends are waited for at once. Others are looked up every [`SLOW_LOOK`].
const MAX_WATCHED: usize = 1_024;

/// Before an answer is tried again.
const ANSWER_AGAIN: Millis = 15_000;

/// What it works with.
pub struct Parts {
    /// `.deia/hive`.
    pub hive: PathBuf,
    /// Requests to the main loop.
    pub commands: mpsc::Sender<Command>,
    /// For reads.
    pub store: Arc<dyn Store>,
    /// Whose folders there are.
    pub config: ConfigHandle,
    /// Told of what is refused for what it holds.
    pub validation: Validation,
    /// True once another process is about to go on.
    pub leaving: tokio::sync::watch::Receiver<bool>,
    /// When the daemon started.
    pub epoch: Instant,
}

/// Takes task files until the daemon ends.
pub fn start(parts: Parts) {
    let (watcher, notices) = Watcher::new();
    let hive = Hive {
        desk: Some(Desk::new(&parts.hive, watcher, parts.validation.clone())),
        notices,
        commands: parts.commands,
        store: parts.store,
        config: parts.config,
        validation: parts.validation,
        leaving: parts.leaving,
        epoch: parts.epoch,
        ends: FuturesUnordered::new(),
        owed: VecDeque::new(),
        again: Vec::new(),
        again_at: Millis::MAX,
        look_at: 0,
        look_not_before: 0,
        sweep_at: 0,
        refused: None,
    };
    tokio::spawn(async move {
        // `None` says that the daemon is ending: there is nothing to be done about it.
        let _ = hive.run().await;
    });
}

/// The daemon is ending where this is `None`.
type Going<T = ()> = Option<T>;

struct Hive {
    /// Away while a thread works at it.
    desk: Option<Desk>,
    notices: mpsc::Receiver<()>,
    commands: mpsc::Sender<Command>,
    store: Arc<dyn Store>,
    config: ConfigHandle,
    validation: Validation,
    leaving: tokio::sync::watch::Receiver<bool>,
    epoch: Instant,
    /// The ends that are waited for.
    ends: FuturesUnordered<BoxFuture<'static, TaskId>>,
    /// Tasks whose ends are not waited for yet.
    owed: VecDeque<TaskId>,
    /// Answers that could not be given.
    again: Vec<TaskId>,
    again_at: Millis,
    look_at: Millis,
    look_not_before: Millis,
    /// When those that are not waited for are looked up.
    sweep_at: Millis,
    /// Why files are not taken now, where it was said.
    refused: Option<String>,
}

impl Hive {
    async fn run(mut self) -> Going {
        while !self.take_stock().await? {
            tokio::time::sleep(Duration::from_millis(SLOW_LOOK)).await;
        }
        self.watch_owed().await?;
        loop {
            let now = self.now();
            if now >= self.look_at {
                self.look().await?;
            }
            if now >= self.again_at {
                self.again_at = Millis::MAX;
                self.owed.extend(self.again.drain(..));
                self.watch_owed().await?;
            }
            let wake = self.epoch + Duration::from_millis(self.look_at.min(self.again_at));
            let Self {
                notices,
                config,
                leaving,
                ends,
                ..
            } = &mut self;
            let ended = tokio::select! {
                () = tokio::time::sleep_until(wake.into()) => continue,
                Some(()) = notices.recv() => None,
                changed = config.changed() => match changed {
                    true => None,
                    false => return None,
                },
                _ = leaving.wait_for(|leaving| *leaving) => return None,
                Some(id) = ends.next() => Some(id),
            };
            match ended {
                Some(id) => {
                    // It is looked up again: an end that is told may be one that was taken back.
                    self.watch(id).await?;
                    self.watch_owed().await?;
                }
                None => {
                    let soon = (self.now() + GATHER).max(self.look_not_before);
                    self.look_at = self.look_at.min(soon);
                }
            }
        }
    }

    /// What an earlier daemon left to be answered; false when that can't be known yet.
    async fn take_stock(&mut self) -> Going<bool> {
        let owed = self.at_desk(Desk::take_stock).await?;
        let known = owed.is_some();
        self.owed.extend(owed.into_iter().flatten());
        Some(known)
    }

    async fn look(&mut self) -> Going {
        let (begun, now, config) = (Instant::now(), self.now(), self.config.current());
        let look = {
            let config = config.clone();
            self.at_desk(move |desk| desk.look(&config, now)).await?
        };
        let interval = if look.blind { BLIND_LOOK } else { SLOW_LOOK };
        let pause = u64::try_from((begun.elapsed() * LOOK_SHARE).as_millis());
        self.look_not_before = self.now() + pause.unwrap_or(SLOW_LOOK).clamp(LOOK_GAP, SLOW_LOOK);
        self.look_at = now + interval;
        let mut wake = look.wake;
        let mut due = look.due;
        while !due.is_empty() && !*self.leaving.borrow() {
            let now = self.now();
            let config = config.clone();
            let (loaded, left_out, rest) = self
                .at_desk(move |desk| {
                    let (loaded, left_out) = desk.load(&mut due, &config, now);
                    (loaded, left_out, due)
                })
                .await?;
            due = rest;
            if left_out {
                wake = Some(wake.map_or(now + SETTLE, |wake| wake.min(now + SETTLE)));
            }
            let fates = self.submit(loaded).await?;
            let put_off = fates.iter().any(|(_, fate)| matches!(fate, Fate::Later));
            let taken = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Taken));
            self.owed.extend(taken.map(|(due, _)| due.id.clone()));
            // What refuses one refuses the others; in a moment they are asked for again, in their order.
            let rest = if put_off {
                std::mem::take(&mut due)
            } else {
                VecDeque::new()
            };
            if put_off {
                wake = Some(wake.map_or(now + AGAIN, |wake| wake.min(now + AGAIN)));
            }
            self.at_desk(move |desk| {
                desk.settle(fates, now);
                desk.put_off(rest, now);
            })
            .await?;
            self.watch_owed().await?;
        }
        if let Some(wake) = wake {
            self.look_at = self.look_at.min(wake.max(self.look_not_before));
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SLOW_LOOK;
            self.look_up_unwatched().await?;
        }
        Some(())
    }

    /// Offers files to the main loop, in their order, and waits until they are durable.
    async fn submit(&mut self, loaded: Vec<Loaded>) -> Going<Vec<(Due, Fate)>> {
        let mut asked = Vec::with_capacity(loaded.len());
        for Loaded { due, intake } in loaded {
            let (reply, answer) = oneshot::channel();
            let command = Command::Submit {
                task: intake.task,
                demand: intake.demand,
                reply,
            };
            let command = Command::As(Actor::task_files(), Box::new(command));
            self.commands.send(command).await.ok()?;
            asked.push((due, intake.noted, answer));
        }
        let mut fates = Vec::with_capacity(asked.len());
        let mut on_record = Vec::new();
        for (due, noted, answer) in asked {
            let fate = match answer.await.ok()? {
                // Another request under this name: the same content, under an earlier configuration.
                Ok(_) | Err(Refused::Conflict) => {
                    self.refused = None;
                    if let Some(found) = noted {
                        let validation = &self.validation;
                        let entry =
                            validation.noted(Way::File, &due.place(), due.id.as_str(), found);
                        let recorder = &validation.recorder;
                        on_record.push(recorder.put(Actor::task_files(), entry).await);
                    }
                    Fate::Taken
                }
                Err(Refused::Unsuitable) => Fate::Bad(
                    "no bot of this configuration can do it: give the pool a max of at least 1"
                        .into(),
                ),
                Err(why) => {
                    self.say_refused(&why);
                    Fate::Later
                }
            };
            fates.push((due, fate));
        }
        for on_record in on_record {
            on_record.wait_anyway().await;
        }
        Some(fates)
    }

    /// Says once why files are not taken now.
    fn say_refused(&mut self, why: &Refused) {
        let reason = match why {
            Refused::Draining(why) => (*why).to_owned(),
            Refused::QueueFull(most) => format!("{most} tasks wait already (tasks.max_queued)"),
            Refused::Store(why) => why.clone(),
            other => format!("{other:?}"),
        };
        if self.refused.as_ref() != Some(&reason) {
            tracing::warn!(
                event = "task_files_wait",
                reason,
                "task files are not taken now; they stay where they are and are tried again"
            );
            self.refused = Some(reason);
        }
    }

    /// Waits for the ends of tasks whose answers are owed, as many as there is room for.
    async fn watch_owed(&mut self) -> Going {
        while self.ends.len() < MAX_WATCHED
            && let Some(id) = self.owed.pop_front()
        {
            self.watch(id).await?;
        }
        Some(())
    }

    /// Waits for a task's end; answers where it has ended.
    async fn watch(&mut self, id: TaskId) -> Going {
        let (reply, noted) = oneshot::channel();
        let wait = Command::Wait {
            id: id.clone(),
            reply,
        };
        self.commands.send(wait).await.ok()?;
        let ended = noted.await.ok()?;
        // Noted first, looked at second: an end in between is seen by one of the two.
        if self.look_up(&id).await? == Found::Open {
            self.ends.push(Box::pin(async move {
                // Either way it is looked up again.
                let _ = ended.await;
                id
            }));
        }
        Some(())
    }

    /// Those that there is no room to wait for: a portion of them, in turns.
    async fn look_up_unwatched(&mut self) -> Going {
        for _ in 0..self.owed.len().min(MAX_WATCHED) {
            let Some(id) = self.owed.pop_front() else {
                break;
            };
            if self.look_up(&id).await? == Found::Open {
                self.owed.push_back(id);
            }
        }
        Some(())
    }

    /// Answers a task, if it has ended.
    async fn look_up(&mut self, id: &TaskId) -> Going<Found> {
        match self.store.task(id.clone()).await {
            Ok(Some(task)) if task.status.is_final() => self.answer(task).await?,
            Ok(Some(_)) => {
                let id = id.clone();
                self.at_desk(move |desk| desk.found(&id)).await?;
                return Some(Found::Open);
            }
            Ok(None) => self.answer_missing(id.clone()).await?,
            Err(StoreError::Closed) => return None,
            Err(e) => {
                tracing::warn!(event = "response_not_written", task_id = %id, error = %e, "the task of a file could not be read; trying again");
                self.try_again(id.clone());
            }
        }
        Some(Found::Settled)
    }

    async fn answer(&mut self, task: TaskRecord) -> Going {
        let id = task.id.clone();
        let output = match &task.result {
            None => None,
            Some(_) => match self.store.output(id.clone()).await {
                Ok(output) => output,
                Err(StoreError::Closed) => return None,
                Err(e) => {
                    tracing::warn!(event = "response_not_written", task_id = %id, error = %e, "the result of a task file could not be read; trying again");
                    self.try_again(id);
                    return Some(());
                }
            },
        };
        let answered = self
            .at_desk(move |desk| {
                desk.found(&task.id);
                match desk.owed(&task.id) {
                    Some((origin, _)) => {
                        desk.answer(&task.id, &response(&task, output.as_deref(), &origin))
                    }
                    None => Answered::Yes,
                }
            })
            .await?;
        if answered == Answered::NotYet {
            self.try_again(id);
        }
        Some(())
    }

    /// The store does not have it: it was never submitted, or it was removed.
    async fn answer_missing(&mut self, id: TaskId) -> Going {
        let named = id.clone();
        let answered = self
            .at_desk(move |desk| match desk.owed(&named) {
                Some((origin, true)) => {
                    desk.answer(&named, &too_late(&named, &origin, Timestamp::now()))
                }
                Some((_, false)) => {
                    desk.void(&named);
                    Answered::Yes
                }
                None => Answered::Yes,
            })
            .await?;
        if answered == Answered::NotYet {
            self.try_again(id);
        }
        Some(())
    }

    fn try_again(&mut self, id: TaskId) {
        self.again.push(id);
        self.again_at = self.again_at.min(self.now() + ANSWER_AGAIN);
    }

    /// Works at the desk on a thread that may wait for the disk.
    async fn at_desk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Going<T> {
        let mut desk = self.desk.take()?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut desk);
            (desk, done)
        });
        match worked.await {
            Ok((desk, done)) => {
                self.desk = Some(desk);
                Some(done)
            }
            Err(e) => {
                tracing::error!(event = "hive_failed", error = %e, "a fault of the daemon: task files are not taken any more until it is restarted");
                None
            }
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.epoch.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

/// What is known of a task whose answer is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It has not ended.
    Open,
    /// Nothing more is to be waited for now.
    Settled,
}
