//! What the main loop can be asked. Every request carries the channel its answer goes to, and what is asked
//! by somebody comes with who that is ([`Command::As`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use deia::api::{
    BotActionAnswer, BotView, EvaluateAnswer, EvaluateRequest, Execution, Insights, LimitsAnswer,
    LimitsRequest, ObstacleView, Performance, Recommendation, ScalingStatus,
};
use deia::config::Config;
use deia::task::{Fence, Priority, TaskId, TaskStatus, TaskType};
use deia::time::Timestamp;
use deia::wire;
use tokio::sync::oneshot;

use super::vitals::AskHealth;
use crate::audit::{Actor, Entry, Link};
use crate::brain::Millis;
use crate::brain::clock::Reckoning;
use crate::brain::demand::Demand;
use crate::brain::learn::Sample;
use crate::brain::record::failures::Failure;
use crate::brain::record::{Record, Standing};
use crate::brain::route::Weighing;
use crate::external::Registration;
use crate::store::{MessageRecord, NewMessage, NewTask, SignerKey, TaskRecord};

/// Names that no pool can have, of which callers may report results, and for which messages may wait.
pub const MAX_STRANGERS: usize = 1_000;

/// Requests that may wait for the main loop.
pub const MAX_COMMANDS: usize = 4096;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<T>;

/// A request.
#[derive(Debug)]
pub enum Command {
    /// Who asks. What is asked without it, the daemon asks itself.
    As(Actor, Box<Command>),
    /// Put something on record that was done elsewhere, or that a caller says. The actor is who asks.
    Note {
        /// What.
        entry: Box<Entry>,
        /// Answered after the commit.
        reply: Reply<Result<Noted, Refused>>,
    },
    /// A new task.
    Submit {
        /// The task.
        task: Box<NewTask>,
        /// What it asks for.
        demand: Demand,
        /// Answered after the commit.
        reply: Reply<Result<Submitted, Refused>>,
    },
    /// Cancel a task.
    Cancel {
        /// The task.
        id: TaskId,
        /// Answered after the commit, or once its bot was told.
        reply: Reply<Result<Acted, Refused>>,
    },
    /// Queue an ended task again.
    Requeue {
        /// The task.
        id: TaskId,
        /// Answered after the commit.
        reply: Reply<Result<Acted, Refused>>,
    },
    /// Tell when a task has ended. The answer says that it is noted; only then look at the store.
    Wait {
        /// The task.
        id: TaskId,
        /// Receives the end.
        reply: Reply<oneshot::Receiver<TaskStatus>>,
    },
    /// Every bot, in the order of the pools.
    Bots {
        /// The answer.
        reply: Reply<Vec<BotView>>,
    },
    /// Do something with a bot; `None` when there is none of this name.
    ActOnBot {
        /// The bot.
        id: String,
        /// What.
        act: BotAct,
        /// Answered once it is on record.
        reply: Reply<Result<Option<BotActionAnswer>, Refused>>,
    },
    /// How the fleet stands.
    Scaling {
        /// The answer.
        reply: Reply<ScalingStatus>,
    },
    /// Set or end an override of the limits.
    SetLimits {
        /// The new limits.
        request: LimitsRequest,
        /// Answered once it is on disk and in force.
        reply: Reply<Result<LimitsAnswer, Refused>>,
    },
    /// Evaluate scaling now, or say what made-up figures would come to.
    EvaluateScaling {
        /// The figures, if any.
        request: EvaluateRequest,
        /// Answered once the host was looked at, and what comes of it is on record.
        reply: Reply<Result<EvaluateAnswer, Refused>>,
    },
    /// So many bots more, or fewer where it is negative.
    ScaleByHand {
        /// Of which pool.
        pool: Option<String>,
        /// How many.
        change: i64,
        /// The answer.
        reply: Reply<Result<ByHand, Refused>>,
    },
    /// Why a task is where it is.
    Explain {
        /// The task.
        id: TaskId,
        /// What it asks for, where it waits.
        demand: Option<Demand>,
        /// The answer.
        reply: Reply<Outlook>,
    },
    /// What was learned.
    Learning(AskLearning),
    /// Messages.
    Mail(AskMail),
    /// What happened, and how the queue stands.
    Observe {
        /// The answer.
        reply: Reply<Observed>,
    },
    /// A failure that a client saw.
    Report {
        /// The failure; its time is filled in.
        failure: Failure,
        /// What is known with it.
        reply: Reply<Observed>,
    },
    /// Health.
    Health(AskHealth),
    /// External bots.
    External(AskExternal),
    /// A new configuration.
    Configure {
        /// The configuration.
        config: Arc<Config>,
        /// Answered once it is in force.
        reply: Reply<()>,
    },
    /// Interrupt every running task.
    InterruptAll {
        /// How many were told; answered once it is on record.
        reply: Reply<Result<u64, Refused>>,
    },
    /// Give out nothing more and end, with the bots at work: another process goes on.
    Leave,
    /// Drain and end, as [`Command::Stop`]: this process goes on as another, so that the service manager is not told
    /// of an end.
    StopToGoOn,
    /// The fleet waits: new tasks are refused, running ones finish, and the bots stop.
    Hold {
        /// Why, as clients are told.
        why: &'static str,
        /// Answered once nothing new is taken.
        reply: Reply<()>,
    },
    /// What a start was asked to wait for is over: the fleet has its limits.
    Unhold {
        /// Answered once new tasks are taken.
        reply: Reply<()>,
    },
    /// Drain and end. The second time: hurry.
    Stop,
}

/// What happened since the daemon's start, and how the queue stands.
#[derive(Debug)]
pub struct Observed {
    /// What happened: as it was at this moment.
    pub record: Arc<Record>,
    /// How the queue stands.
    pub standing: Standing,
    /// Now, on the clock of the record.
    pub now: Millis,
    /// Now.
    pub wall: Timestamp,
}

/// What can be asked of what was learned.
#[derive(Debug)]
pub enum AskLearning {
    /// One more result counts.
    Record {
        /// Whose.
        bot: Arc<str>,
        /// The result.
        sample: Sample,
        /// Answered once it counts.
        reply: Reply<Result<(), Refused>>,
    },
    /// The best bot for a kind of work; `None` where too little is known.
    Recommendation {
        /// The kind of work.
        task_type: TaskType,
        /// The answer.
        reply: Reply<Option<Recommendation>>,
    },
    /// What is known of a bot, by kind of work.
    OfBot {
        /// The bot.
        bot: String,
        /// The answer.
        reply: Reply<BTreeMap<String, Performance>>,
    },
    /// What is known of a kind of work, the best bot first.
    OfType {
        /// The kind of work.
        task_type: TaskType,
        /// The answer.
        reply: Reply<Vec<Performance>>,
    },
    /// All of it in sum; `None` before the first result.
    Insights {
        /// The answer.
        reply: Reply<Option<Insights>>,
    },
    /// The newest results, oldest first, and how many are kept.
    History {
        /// At most this many; 0 is all.
        limit: usize,
        /// The answer.
        reply: Reply<(usize, Vec<Execution>)>,
    },
}

/// What can be asked about messages, beside what the store answers.
#[derive(Debug)]
pub enum AskMail {
    /// Send these, all or none.
    Send {
        /// The messages.
        messages: Vec<NewMessage>,
        /// Answered after the commit.
        reply: Reply<Result<(), Refused>>,
    },
    /// A message was read.
    Read {
        /// Its name.
        id: String,
        /// Only where it is for this bot.
        by: Option<String>,
        /// The message as it is then, after the commit.
        reply: Reply<Result<MessageRecord, Refused>>,
    },
    /// A bot reads all that it has unread.
    Drain {
        /// The bot.
        bot: String,
        /// The messages, after the commit.
        reply: Reply<Result<Vec<MessageRecord>, Refused>>,
    },
    /// What time it is for messages.
    Now {
        /// The time.
        reply: Reply<Reckoning>,
    },
    /// What was done since the last report.
    Report {
        /// The answer.
        reply: Reply<MailReport>,
    },
    /// Which bot has this process.
    WhoIs {
        /// The process.
        pid: u32,
        /// The bot.
        reply: Reply<Option<String>>,
    },
}

/// What can be asked about external bots, and by them.
#[derive(Debug)]
pub enum AskExternal {
    /// One more.
    Register {
        /// As it shall be.
        registration: Box<Registration>,
        /// Where it is registered already, this takes the place of what was.
        rotate: bool,
        /// Whether it was registered before; answered once it is on disk.
        reply: Reply<Result<bool, Refused>>,
    },
    /// One is no bot of this fleet any more.
    Unregister {
        /// Its name.
        id: String,
        /// Tasks it had; answered once it is on disk.
        reply: Reply<Result<u64, Refused>>,
    },
    /// A request of one, whose signature is right.
    Signed(Box<SignedRequest>),
}

/// What an external bot asks for.
#[derive(Debug)]
pub struct SignedRequest {
    /// The bot.
    pub bot: String,
    /// Which of its secrets it was signed with.
    pub key: SignerKey,
    /// The request's name.
    pub nonce: String,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// What.
    pub act: SignedAct,
    /// The answer.
    pub reply: Reply<Result<SignedAnswer, Refused>>,
}

/// What an external bot does.
#[derive(Debug)]
pub enum SignedAct {
    /// Asks for tasks.
    Lease {
        /// At most so many.
        max: u32,
        /// How long it waits for the first.
        wait: Millis,
        /// Which run of its program it is.
        instance: Option<String>,
    },
    /// Says that it is there.
    Heartbeat {
        /// Which run of its program it is.
        instance: Option<String>,
        /// What it has.
        tasks: Option<Vec<String>>,
    },
    /// Brings a piece of a task's output.
    Output {
        /// The task.
        task: TaskId,
        /// The attempt.
        fence: Fence,
        /// The piece.
        text: String,
        /// Bytes before it.
        offset: Option<u64>,
    },
    /// Ends an attempt.
    End {
        /// The task.
        task: TaskId,
        /// The attempt.
        fence: Fence,
        /// How.
        outcome: wire::Outcome,
        /// The whole output, where it was not brought in pieces.
        output: Option<String>,
    },
}

/// What an external bot is answered.
#[derive(Debug)]
pub enum SignedAnswer {
    /// Tasks, durably its own.
    Leased(Vec<Granted>),
    /// What it has.
    Beat {
        /// Its tasks.
        tasks: Vec<TaskId>,
        /// Of these: those it is to give up.
        cancel: Vec<TaskId>,
        /// What it named and has not.
        lost: Vec<String>,
    },
    /// The piece was taken.
    Output {
        /// Bytes now.
        bytes: u64,
        /// It is to give the task up.
        cancel: bool,
    },
    /// The attempt is over, durably.
    Ended {
        /// Where the task is now.
        status: TaskStatus,
    },
}

/// A task for an external bot.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub fence: Fence,
    /// Its text.
    pub content: Arc<str>,
    /// Milliseconds it may take.
    pub timeout_ms: u64,
    /// What kind of work.
    pub task_type: TaskType,
    /// How urgent.
    pub priority: Priority,
}

/// What was done with messages since the last report; the last thousand of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailReport {
    /// Those that were delivered.
    pub delivered: Vec<String>,
    /// Those that expired.
    pub failed: Vec<String>,
    /// Always empty: what waits for a bot is not tried again by a clock.
    pub retried: Vec<String>,
}

/// Why a task is where it is, as far as the main loop knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// The attempt that runs, and why it went to its bot.
    pub running: Option<(u32, Option<Weighing>)>,
    /// Every bot, and why it does not have the task, where it waits.
    pub obstacles: Vec<ObstacleView>,
    /// The model server that it waits for, where it does.
    pub held: Option<String>,
}

/// What an operator can do with a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BotAct {
    /// Run, also out of back-off and quarantine.
    Start,
    /// Finish what it has and end, until started again.
    Stop,
    /// Finish what it has and end; then start anew.
    Restart,
    /// Give up what it has; its tasks are tried again.
    Interrupt,
}

/// What became of a step by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// The bots that come, or go.
    pub bots: Vec<String>,
    /// Bots the fleet shall have now.
    pub total: usize,
    /// Why there are not as many as were asked for.
    pub short: Option<String>,
}

/// What became of a submission.
#[derive(Debug)]
pub enum Submitted {
    /// A bot has it.
    Routed {
        /// The bot.
        bot: Arc<str>,
    },
    /// It waits.
    Waits {
        /// Its place, from 1; `None` before its time.
        position: Option<u64>,
        /// The model server that it waits for, where it does, and why that does not answer.
        held: Option<String>,
    },
    /// The same request was accepted before.
    Duplicate(Box<TaskRecord>),
}

/// What is on record now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its place, and its hash; `None` where the audit is off.
    pub link: Option<Link>,
    /// Who it says has done it.
    pub actor: String,
}

/// What became of an act on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acted {
    /// The task's status now.
    pub status: TaskStatus,
    /// Its bot was told and answers later.
    pub pending: bool,
}

/// Why not.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// No bot of this configuration can ever do it.
    Unsuitable,
    /// The task's name belongs to another request.
    Conflict,
    /// Nothing new is taken; why.
    Draining(&'static str),
    /// `tasks.max_queued` wait already.
    QueueFull(u64),
    /// So many different demands wait already, which is the most.
    TooManyDemands(usize),
    /// The store takes no writes now; why.
    Store(String),
    /// It was done, but its record is not on disk yet; why. It is written once the store takes writes again.
    Unrecorded(String),
    /// There is no such task.
    UnknownTask,
    /// There is no such message, or it is another bot's.
    UnknownMessage,
    /// This bot has too many unread messages.
    InboxFull(String),
    /// There is something of [`MAX_STRANGERS`] names already that no pool can have.
    TooManyNames,
    /// `feature_flags.messaging_enabled` is off.
    MessagingOff,
    /// It is not in a state for this; its status.
    WrongStatus(TaskStatus),
    /// The limits make no sense; why.
    Limits(String),
    /// There is no such pool.
    UnknownPool(String),
    /// An external bot of this name is registered.
    AlreadyRegistered(String),
    /// A pool's bots have this name, or can have it; which pool.
    NameOfPool(String),
    /// There is no external bot of this name.
    NotRegistered(String),
    /// So many external bots are registered already.
    TooManyExternal(usize),
    /// Signed with a secret that was replaced.
    OldSecret,
    /// The name of this request was taken before.
    Repeated,
    /// Signed before something that is forgotten.
    Forgotten,
    /// The store was restored: what was signed before may have been taken; in how many seconds that is over.
    AfterRestore(u64),
    /// Too many requests of this bot are remembered; how many.
    TooManySigned(u64),
    /// Another run of its program has taken its place.
    Superseded,
    /// So many of its requests wait for tasks already.
    TooManyPolls(usize),
    /// The attempt is not its own any more.
    LateAttempt,
    /// Output before this piece is missing; bytes that are there.
    OutputGap(u64),
    /// More output than a task may have; bytes.
    TooMuchOutput(u64),
    /// The same is under way for many others.
    Busy,
}
