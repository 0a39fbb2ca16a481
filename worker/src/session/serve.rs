//! The main loop of a bot. It never waits for anything but the next event, and it goes on without a
//! supervisor: see the picture in `mod.rs`.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deia::wire::{Assignment, Back, FailureKind, Hello, Kept, Outcome, ToWorker, Welcome};
use futures_util::StreamExt;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::SessionError;
use super::board::{Admission, Board, Intake, Since, Unacknowledged};
use super::dial::{self, Found};
use super::link::{Heard, Link};
use super::spooling::Spooling;
use crate::attempt::{Bot, Key};
use crate::beat::Beat;
use crate::confine::domain::Domain;
use crate::log;
use crate::pulse::PulseFile;
use crate::transcript::{self, Bell, Transcript};
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

/// What the bot shows to a supervisor it dials again.
#[derive(Debug)]
pub struct Identity {
    socket: PathBuf,
    pub(super) hello: Hello,
    /// All but what it has.
    back: Back,
    grace: Duration,
}

impl Identity {
    pub fn new(
        socket: PathBuf,
        hello: Hello,
        sandbox: String,
        pulse_fd: i32,
        welcome: &Welcome,
    ) -> Self {
        Self {
            socket,
            hello,
            back: Back {
                sandbox,
                pulse_fd,
                terms: welcome.terms,
                max_concurrent_tasks: welcome.max_concurrent_tasks.max(1),
                heartbeat_ms: welcome.heartbeat_ms,
                stop_timeout_ms: welcome.stop_timeout_ms,
                held: Vec::new(),
            },
            grace: Duration::from_millis(welcome.orphan_grace_ms),
        }
    }
}

/// The supervisor, or the search for it.
enum Line {
    Up(Link),
    Down(Pin<Box<dyn Future<Output = Result<Found, SessionError>> + Send>>),
}

/// The main loop and all it owns.
pub struct Loop {
    line: Line,
    bot: Arc<Bot>,
    reaper: Reaper,
    identity: Identity,
    pulse: PulseFile,
    spool: Spooling,
    board: Board<oneshot::Sender<()>>,
    bell: Arc<Bell>,
    attempts: JoinSet<Outcome>,
    /// Which attempt each of `attempts` is: also known of one that panicked.
    keys: HashMap<Id, Key>,
    /// When what runs is cancelled: the grace of a stop.
    cancel_at: Option<Instant>,
    /// When acknowledgements are no longer waited for. Only set once nothing runs.
    leave_at: Option<Instant>,
    /// To end all that was started in one act.
    domain: Option<Domain>,
}

impl Loop {
    pub fn new(
        link: Link,
        bot: Bot,
        reaper: Reaper,
        identity: Identity,
        pulse: PulseFile,
        spool: Spooling,
    ) -> Self {
        Self {
            line: Line::Up(link),
            bot: Arc::new(bot),
            reaper,
            board: Board::new(identity.back.max_concurrent_tasks as usize),
            identity,
            pulse,
            spool,
            bell: Arc::default(),
            attempts: JoinSet::new(),
            keys: HashMap::new(),
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

    /// Serves until it is stopped (`Ok`) or nobody is left to serve; then nothing runs any more.
    pub async fn run(mut self, beat: Beat, mut signals: Signals) -> Result<(), SessionError> {
        let result = self.turns(&beat, &mut signals).await;
        if result.is_err() {
            self.abandon(&mut signals).await;
        }
        tree::end_strays(&self.reaper).await;
        self.reaper.reap();
        self.spool.close().await;
        if let (Line::Up(link), Ok(())) = (self.line, &result) {
            let _ = tokio::time::timeout(ACK_PATIENCE, link.close()).await;
        }
        result
    }

    async fn turns(&mut self, beat: &Beat, signals: &mut Signals) -> Result<(), SessionError> {
        while !self.is_done() {
            let bell = self.bell.clone();
            let has_more = self.board.has_more();
            tokio::select! {
                biased;
                // First, so that a slot is free before the assignment that counts on it is read.
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                tick = beat.tick() => {
                    tick.and_then(|()| self.pulse.beat(self.bell.bytes(), self.board.running()))
                        .map_err(|e| SessionError::Setup(format!("heartbeat: {e}")))?;
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
                event = next(&mut self.line, has_more) => match event {
                    Event::Room => self.send(),
                    Event::Frame(heard) => self.take(heard)?,
                    Event::Lost(why) => self.lost(&why),
                    Event::Fault(e) => return Err(e),
                    Event::Found(found) => self.found(found),
                },
                () = bell.rung() => {}
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let given_up = self.leave_at.is_some_and(|at| Instant::now() >= at);
        self.board.intake() == Intake::Closed
            && self.board.running() == 0
            && (given_up || self.board.is_settled())
    }

    /// There is room in the queue to the socket: as many frames as fit.
    fn send(&mut self) {
        let Line::Up(link) = &self.line else { return };
        while let Ok(room) = link.outgoing().try_reserve()
            && let Some(frame) = self.board.next_frame()
        {
            room.send(frame);
        }
    }

    fn take(&mut self, heard: Heard) -> Result<(), SessionError> {
        match heard.frame {
            ToWorker::Assign(job) => self.assign(*job, heard.since)?,
            ToWorker::Cancel { task, fence, of } => {
                if let Some(cancel) = self.board.cancel(&(task, fence), of) {
                    let _ = cancel.send(());
                }
            }
            ToWorker::Ack { task, fence } => {
                let key = (task, fence);
                deia::failpoint!("worker.acknowledged");
                self.board.acknowledged(&key);
                self.spool.remove(&key);
            }
            ToWorker::Stop { grace_ms } => self.stop(grace_ms),
            ToWorker::Welcome(_) | ToWorker::WelcomeBack { .. } => {
                return Err(SessionError::Protocol("a second welcome".into()));
            }
        }
        Ok(())
    }

    fn assign(&mut self, job: Assignment, since: Since) -> Result<(), SessionError> {
        let key = (job.task.clone(), job.fence);
        let transcript = Transcript::new(self.bell.clone(), transcript::Line::Up);
        match self.board.admit(&key) {
            Admission::Already => {}
            Admission::Run => {
                deia::failpoint!("worker.assigned");
                let (cancel, cancelled) = oneshot::channel();
                let (bot, words) = (self.bot.clone(), transcript.clone());
                let handle = self
                    .attempts
                    .spawn(async move { bot.attempt(job, words, cancelled).await });
                self.keys.insert(handle.id(), key.clone());
                self.board.started(key, cancel, transcript, since);
            }
            Admission::Stopping => self.board.declined(key, transcript, since),
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
            let result = self.board.ended(&key, outcome);
            // One that was merely ended with the bot is tried again: that is no result.
            let counts = |result: &Unacknowledged| {
                result.outcome != Outcome::Cancelled || result.cancelled.is_some()
            };
            if let (Some(result), Line::Down(_)) = (result.filter(counts), &self.line) {
                self.spool.keep(result);
            }
        }
        self.leave_when_idle();
    }

    /// The supervisor is gone. What runs runs on; what has ended goes to the disk.
    fn lost(&mut self, why: &SessionError) {
        log::say(&format!(
            "deia worker: {why}; working on, and looking for it"
        ));
        for result in self.board.hang_up() {
            self.spool.keep(result);
        }
        let search: Pin<Box<dyn Future<Output = _> + Send>> = match self.board.intake() {
            Intake::Open => {
                let mut hello = self.identity.hello.clone();
                let mut back = self.identity.back.clone();
                back.held = self.board.held(Instant::now());
                hello.back = Some(Box::new(back));
                let (socket, grace) = (self.identity.socket.clone(), self.identity.grace);
                Box::pin(async move { dial::again(&socket, &hello, grace).await })
            }
            // It was leaving anyway.
            Intake::Closed => Box::pin(std::future::pending()),
        };
        self.line = Line::Down(search);
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Supervisor {
                link,
                kept,
                orphan_grace_ms,
            } => {
                log::say("deia worker: the supervisor is back");
                self.identity.grace = Duration::from_millis(orphan_grace_ms);
                self.line = Line::Up(link);
                self.reunite(kept);
            }
            Found::Dismissed => {
                log::say("deia worker: there is a supervisor, and it has no use for this bot");
                self.line = Line::Down(Box::pin(std::future::pending()));
                self.reunite(Vec::new());
                self.stop(0);
            }
        }
    }

    fn reunite(&mut self, kept: Vec<Kept>) {
        let (cancels, unwanted) = self.board.reunite(kept);
        for cancel in cancels {
            let _ = cancel.send(());
        }
        for key in unwanted {
            self.spool.remove(&key);
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
        // Nothing must wait for room, and what ends now is kept.
        for result in self.board.hang_up() {
            self.spool.keep(result);
        }
        self.line = Line::Down(Box::pin(std::future::pending()));
        self.cancel_all();
        while !self.attempts.is_empty() {
            tokio::select! {
                Some(ended) = self.attempts.join_next_with_id() => self.ended(ended),
                Some(signal) = signals.next() => if signal == SIGCHLD {
                    self.reaper.reap();
                },
            }
        }
    }
}

/// What the line brings.
enum Event {
    /// The queue to the socket has room for what there is to send.
    Room,
    Frame(Heard),
    Lost(SessionError),
    Fault(SessionError),
    Found(Found),
}

/// The next event of the line. Cancel-safe.
async fn next(line: &mut Line, has_more: bool) -> Event {
    match line {
        Line::Up(link) => {
            let outgoing = link.outgoing().clone();
            tokio::select! {
                biased;
                room = outgoing.reserve(), if has_more => match room {
                    Ok(_) => Event::Room,
                    // What came before it went is read first.
                    Err(_) => heard(link.next().await),
                },
                frame = link.next() => heard(frame),
            }
        }
        Line::Down(search) => match search.as_mut().await {
            Ok(found) => Event::Found(found),
            Err(e) => Event::Fault(e),
        },
    }
}

fn heard(heard: Result<Heard, SessionError>) -> Event {
    match heard {
        Ok(heard) => Event::Frame(heard),
        Err(e @ SessionError::Lost(_)) => Event::Lost(e),
        Err(e) => Event::Fault(e),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
