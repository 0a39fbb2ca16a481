//! The main loop of a bot. It never waits for anything but the next event.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use deia::wire::{Assignment, FailureKind, Outcome, ToSupervisor, ToWorker};
use futures_util::StreamExt;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::SessionError;
use super::board::{Admission, Board, Intake};
use super::link::Link;
use crate::attempt::{Bot, Key};
use crate::beat::Beat;
use crate::confine::domain::Domain;
use crate::log;
use crate::tree::{self, Reaper};

/// After its last attempt a stopping bot waits this long for the acknowledgements.
const ACK_PATIENCE: Duration = Duration::from_secs(1);

/// The daemon found the bot over its limits, and is about to end it: what it started goes first.
pub const OVER_LIMIT: i32 = SIGUSR1;

/// The signals a bot takes. Those it ignores have handlers too: unlike `SIG_IGN`, a handler is not
/// inherited by the programs it starts.
pub fn signals() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGCHLD, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])
}

/// The main loop and all it owns.
#[derive(Debug)]
pub struct Loop {
    link: Link,
    bot: Arc<Bot>,
    reaper: Reaper,
    board: Board<Key, oneshot::Sender<()>>,
    attempts: JoinSet<Outcome>,
    /// Which attempt each of `attempts` is: also known of one that panicked.
    keys: HashMap<Id, Key>,
    /// Waits for room in the queue to the socket. At most one `Finished` per attempt and one
    /// heartbeat, so bounded by the board.
    outbox: VecDeque<ToSupervisor>,
    /// When what runs is cancelled: the grace of a stop.
    cancel_at: Option<Instant>,
    /// When acknowledgements are no longer waited for. Only set once nothing runs.
    leave_at: Option<Instant>,
    /// To end all that was started in one act.
    domain: Option<Domain>,
}

impl Loop {
    pub fn new(link: Link, bot: Bot, reaper: Reaper, slots: usize) -> Self {
        Self {
            link,
            bot: Arc::new(bot),
            reaper,
            board: Board::new(slots),
            attempts: JoinSet::new(),
            keys: HashMap::new(),
            outbox: VecDeque::new(),
            cancel_at: None,
            leave_at: None,
            domain: None,
        }
    }

    /// With a way to end all that was started in one act.
    pub fn with(mut self, domain: Option<Domain>) -> Self {
        self.domain = domain;
        self
    }

    /// Serves until it is stopped (`Ok`) or the connection ends; then nothing runs any more.
    pub async fn run(mut self, beat: Beat, mut signals: Signals) -> Result<(), SessionError> {
        let result = self.turns(&beat, &mut signals).await;
        if result.is_err() {
            self.abandon(&mut signals).await;
        }
        tree::end_strays(&self.reaper).await;
        self.reaper.reap();
        if result.is_ok() {
            let Self { link, .. } = self;
            let _ = tokio::time::timeout(ACK_PATIENCE, link.close()).await;
        }
        result
    }

    async fn turns(&mut self, beat: &Beat, signals: &mut Signals) -> Result<(), SessionError> {
        while !self.is_done() {
            let outgoing = self.link.outgoing().clone();
            tokio::select! {
                biased;
                // First, so that a slot is free before the assignment that counts on it is read.
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                permit = outgoing.reserve(), if !self.outbox.is_empty() => {
                    let permit = permit.map_err(|_| lost())?;
                    if let Some(frame) = self.outbox.pop_front() {
                        permit.send(frame);
                    }
                }
                tick = beat.tick() => {
                    tick.map_err(|e| SessionError::Setup(format!("heartbeat timer: {e}")))?;
                    self.beat();
                }
                Some(signal) = signals.next() => match signal {
                    SIGTERM => self.stop(0),
                    SIGCHLD => self.reaper.reap(),
                    OVER_LIMIT => if let Some(domain) = &self.domain {
                        domain.kill_all_below();
                    },
                    _ => {}
                },
                () = at(self.cancel_at) => self.cancel_all(),
                () = at(self.leave_at) => {}
                frame = self.link.next() => self.take(frame?)?,
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let given_up = self.leave_at.is_some_and(|at| Instant::now() >= at);
        self.board.intake() == Intake::Closed
            && self.board.running() == 0
            && (given_up || (self.board.is_settled() && self.outbox.is_empty()))
    }

    fn take(&mut self, frame: ToWorker) -> Result<(), SessionError> {
        match frame {
            ToWorker::Assign(job) => self.assign(*job)?,
            ToWorker::Cancel { task, fence } => {
                if let Some(cancel) = self.board.cancel(&(task, fence)) {
                    let _ = cancel.send(());
                }
            }
            ToWorker::Ack { task, fence } => self.board.acknowledged(&(task, fence)),
            ToWorker::Stop { grace_ms } => self.stop(grace_ms),
            ToWorker::Welcome(_) => {
                return Err(SessionError::Protocol("a second welcome".into()));
            }
        }
        Ok(())
    }

    fn assign(&mut self, job: Assignment) -> Result<(), SessionError> {
        let key = (job.task.clone(), job.fence);
        match self.board.admit(&key) {
            Admission::Already => {}
            Admission::Run => {
                let (cancel, cancelled) = oneshot::channel();
                let (bot, queue) = (self.bot.clone(), self.link.outgoing().clone());
                let handle = self
                    .attempts
                    .spawn(async move { bot.attempt(job, queue, cancelled).await });
                self.keys.insert(handle.id(), key.clone());
                self.board.started(key, cancel);
            }
            Admission::Stopping => {
                self.board.ended(&key);
                self.report(key, Outcome::Cancelled);
            }
            Admission::TooMany => {
                return Err(SessionError::Protocol(format!(
                    "assigned '{}' beyond max_concurrent_tasks, or without acknowledging results",
                    job.task
                )));
            }
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(e) => {
                let error = format!("a fault of the bot's own: {e}");
                let kind = FailureKind::Backend;
                (e.id(), Outcome::Failed { error, kind })
            }
        };
        if let Some(key) = self.keys.remove(&id) {
            self.board.ended(&key);
            self.report(key, outcome);
        }
        self.leave_when_idle();
    }

    fn report(&mut self, (task, fence): Key, outcome: Outcome) {
        self.outbox.push_back(ToSupervisor::Finished {
            task,
            fence,
            outcome,
        });
    }

    fn beat(&mut self) {
        let waiting = |frame: &ToSupervisor| matches!(frame, ToSupervisor::Heartbeat { .. });
        // A supervisor that does not read gets no second one.
        if !self.outbox.iter().any(waiting) {
            self.outbox.push_back(ToSupervisor::Heartbeat {
                running: self.board.running() as u32,
            });
        }
    }

    /// Takes no more; what runs has `grace_ms`. Of two graces the shorter counts.
    fn stop(&mut self, grace_ms: u64) {
        const LONGEST: Duration = Duration::from_secs(365 * 86_400);
        self.board.close();
        let at = Instant::now() + Duration::from_millis(grace_ms).min(LONGEST);
        self.cancel_at = Some(self.cancel_at.map_or(at, |earlier| earlier.min(at)));
        self.leave_when_idle();
    }

    fn leave_when_idle(&mut self) {
        if self.board.running() == 0 && self.board.intake() == Intake::Closed {
            self.leave_at
                .get_or_insert_with(|| Instant::now() + ACK_PATIENCE);
        }
    }

    fn cancel_all(&mut self) {
        self.cancel_at = None;
        for cancel in self.board.cancel_all() {
            let _ = cancel.send(());
        }
    }

    /// Ends what runs, when nobody is left to report it to.
    async fn abandon(&mut self, signals: &mut Signals) {
        self.cancel_all();
        while !self.attempts.is_empty() {
            tokio::select! {
                ended = self.attempts.join_next() => if let Some(Err(e)) = ended {
                    log::say(&format!("deia worker: an attempt ended badly: {e}"));
                },
                Some(signal) = signals.next() => if signal == SIGCHLD {
                    self.reaper.reap();
                },
            }
        }
    }
}

fn lost() -> SessionError {
    SessionError::Lost("it does not listen".into())
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
