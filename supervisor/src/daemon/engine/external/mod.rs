//! External bots in the main loop: registered, there or not, asking for tasks, working on them.
//!
//! ```text
//!   Signed --Op::Nonce--> durable --> heard: it is there
//!                                     lease: a wish --> the dispatcher sees so many free slots
//!                                              '-- Op::Lease --> durable --> the answer has the task
//!                                     output, end: as of any other bot, by the fence
//! ```
//!
//! To routing each is a pool of one bot, whose slots are open only while it asks. What it has it keeps over a
//! restart of the daemon, under the same fence, if it speaks again within `supervision.orphan_grace_seconds`; and loses
//! when it says nothing for three heartbeats.

mod leases;
mod registered;
mod reports;
mod signed;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use deia::bot::Actual;
use deia::config::Limits;
use deia::task::{Fence, TaskId};
use deia::time::Timestamp;

use super::Engine;
use super::tasks::{AttemptEnd, AttemptPhase};
use super::timers::Timer;
use crate::audit;
use crate::brain::external::{Change, Event, Instances, Meeting, Presence, State, patience};
use crate::brain::{Millis, millis};
use crate::daemon::command::{AskExternal, Granted, Refused, Reply, SignedAnswer};
use crate::external::{Registration, Signers};
use crate::store::SignerKey;

/// Requests for tasks that may wait at once, of one bot.
const MAX_WISHES: usize = 16;

/// Changes of who is registered that may wait for the disk.
const MAX_CHANGES: usize = 64;

/// Names of requests that are remembered of one bot: within ten minutes, 160 a second.
const MAX_NONCES: u64 = 100_000;

/// Names that are forgotten in one transaction.
const PORTION: usize = 1_000;

/// Before the next portion.
const NEXT_PORTION: Millis = 100;

/// Clients that may wait for the end of one attempt to be durable.
const MAX_ENDERS: usize = 64;

/// Beyond its time-out a task is given so long for its result to arrive.
const OVERDUE_MARGIN: Millis = 5_000;

/// What is known of external bots.
#[derive(Debug)]
pub(super) struct External {
    bots: BTreeMap<Arc<str>, Entry>,
    /// For the HTTP side.
    signers: Signers,
    /// Why who is registered can't be read, where it can't: then it is not written over.
    unreadable: Option<String>,
    /// Each with its record, which is written once it holds.
    changes: VecDeque<(ChangeOf, audit::Entry)>,
    /// The first of `changes` is on its way to the disk.
    changing: bool,
    /// Bots that ask for tasks.
    wishing: BTreeSet<Arc<str>>,
    wishes: u64,
    /// Who waits for the end of an attempt to be durable.
    enders: HashMap<TaskId, Enders>,
    /// Nothing that was signed up to then is taken: the store was restored.
    floor: Option<Timestamp>,
}

/// Who waits for an end that its bot has said.
#[derive(Debug)]
struct Enders {
    fence: Fence,
    succeeded: bool,
    waiting: Vec<Reply<Result<SignedAnswer, Refused>>>,
}

/// A change of who is registered.
#[derive(Debug)]
enum ChangeOf {
    Register(
        Box<Registration>,
        /// Whether it may be there already.
        bool,
        Reply<Result<bool, Refused>>,
    ),
    Unregister(String, Reply<Result<u64, Refused>>),
}

#[derive(Debug)]
struct Entry {
    registration: Registration,
    presence: Presence,
    /// A timer for the end of its time is set.
    armed: bool,
    instances: Instances,
    /// It has not said what it has since the daemon was started.
    owes_list: bool,
    since: Timestamp,
    heard_at: Option<Timestamp>,
    progress_at: Option<Timestamp>,
    /// Reserved and running tasks, as a bot's of a pool.
    tasks: BTreeMap<TaskId, u32>,
    /// Of these: those that run, and when the answer with them was sent; `None`: by an earlier daemon.
    running: BTreeMap<TaskId, Option<Millis>>,
    wishes: VecDeque<Wish>,
}

/// A request for tasks that waits.
#[derive(Debug)]
struct Wish {
    number: u64,
    max: usize,
    got: Vec<Granted>,
    /// Its time is over.
    over: bool,
    reply: Reply<Result<SignedAnswer, Refused>>,
}

impl Wish {
    fn is_open(&self) -> bool {
        !self.over && !self.reply.is_closed()
    }
}

impl Entry {
    fn new(registration: Registration, since: Timestamp) -> Self {
        Self {
            registration,
            presence: Presence::default(),
            armed: false,
            instances: Instances::default(),
            owes_list: false,
            since,
            heard_at: None,
            progress_at: None,
            tasks: BTreeMap::new(),
            running: BTreeMap::new(),
            wishes: VecDeque::new(),
        }
    }

    fn actual(&self) -> Actual {
        match self.presence.state() {
            State::Absent => Actual::Stopped,
            State::Awaited => Actual::Starting,
            State::Present if self.tasks.is_empty() => Actual::Ready,
            State::Present => Actual::Busy,
        }
    }

    /// Reserved for it, and not durable yet.
    fn reserved(&self) -> u32 {
        let all: u32 = self.tasks.values().sum();
        all.saturating_sub(u32::try_from(self.running.len()).unwrap_or(u32::MAX))
    }
}

impl External {
    pub fn new(signers: Signers) -> Self {
        Self {
            bots: BTreeMap::new(),
            signers,
            unreadable: None,
            changes: VecDeque::new(),
            changing: false,
            wishing: BTreeSet::new(),
            wishes: 0,
            enders: HashMap::new(),
            floor: None,
        }
    }

    /// Whether this is the name of one.
    pub fn has(&self, bot: &str) -> bool {
        self.bots.contains_key(bot)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bots.is_empty()
    }

    /// Whether it is there.
    pub fn is_present(&self, bot: &str) -> bool {
        let entry = self.bots.get(bot);
        entry.is_some_and(|entry| entry.presence.state() == State::Present)
    }

    /// One more task is reserved for it; false where it is none of these.
    pub fn holds(&mut self, bot: &str, task: &TaskId) -> bool {
        let Some(entry) = self.bots.get_mut(bot) else {
            return false;
        };
        *entry.tasks.entry(task.clone()).or_default() += 1;
        true
    }

    /// One less.
    pub fn lets_go(&mut self, bot: &str, task: &TaskId) -> bool {
        let Some(entry) = self.bots.get_mut(bot) else {
            return false;
        };
        if let Some(holds) = entry.tasks.get_mut(task) {
            *holds -= 1;
            if *holds == 0 {
                entry.tasks.remove(task);
            }
        }
        true
    }

    fn keys(&self) -> Vec<SignerKey> {
        let entries = self.bots.values();
        entries.map(|e| e.registration.signer.key).collect()
    }
}

impl Engine {
    /// What is asked about them, and by them.
    pub(super) fn ask_external(&mut self, ask: AskExternal) {
        match ask {
            AskExternal::Register {
                registration,
                rotate,
                reply,
            } => self.change(ChangeOf::Register(registration, rotate, reply)),
            AskExternal::Unregister { id, reply } => self.change(ChangeOf::Unregister(id, reply)),
            AskExternal::Signed(request) => self.signed(*request),
        }
    }

    /// It has spoken.
    fn heard(&mut self, id: &Arc<str>, instance: Option<&str>) -> Result<(), Refused> {
        let (now, wall) = (self.now(), self.wall());
        let patience = self.external_patience();
        let unknown = || Refused::NotRegistered(id.to_string());
        let entry = self.external.bots.get_mut(id).ok_or_else(unknown)?;
        let meeting = entry.instances.meet(instance);
        if meeting == Meeting::Past {
            return Err(Refused::Superseded);
        }
        let before = entry.actual();
        let change = entry.presence.on(Event::Heard(patience), now);
        entry.heard_at = Some(wall);
        if entry.actual() != before {
            entry.since = wall;
        }
        if change == Some(Change::Came) {
            tracing::info!(event = "external_bot_came", bot_id = %id, "an external bot is there");
            self.deliver_to(id);
        }
        if meeting == Meeting::Replaced {
            tracing::warn!(event = "external_bot_replaced", bot_id = %id, "another run of an external bot's program takes the place of the one before; what that had is queued again");
            self.end_wishes(id);
            let why = format!("another run of the external bot {id} took its place");
            self.bot_lost_its_tasks(id, 0, &why);
        }
        self.arm_external(id);
        Ok(())
    }

    fn external_patience(&self) -> Millis {
        patience(millis(self.config.supervision.heartbeat_seconds))
    }

    /// One timer for each, however often it speaks.
    fn arm_external(&mut self, id: &Arc<str>) {
        if let Some(entry) = self.external.bots.get_mut(id)
            && !entry.armed
            && let Some(until) = entry.presence.until()
        {
            entry.armed = true;
            self.timers.at(until, Timer::External(id.clone()));
        }
    }

    /// Its time may be over.
    pub(super) fn external_due(&mut self, id: &Arc<str>) {
        let (now, wall, patience) = (self.now(), self.wall(), self.external_patience());
        let Some(entry) = self.external.bots.get_mut(id) else {
            return;
        };
        entry.armed = false;
        // A connection that waits for tasks is a word, too.
        if entry.wishes.iter().any(Wish::is_open) {
            entry.presence.on(Event::Heard(patience), now);
        }
        let change = entry.presence.on(Event::Timer, now);
        if change.is_some() {
            entry.since = wall;
        }
        match change {
            Some(Change::Gone) => {
                tracing::warn!(event = "external_bot_gone", bot_id = %id, milliseconds = patience, "an external bot has not been heard of for three heartbeats; what it has is queued again");
                let why = format!(
                    "the external bot {id} was not heard of for {} s",
                    patience as f64 / 1000.0
                );
                self.bot_lost_its_tasks(id, 0, &why);
            }
            Some(Change::NotBack) => {
                tracing::warn!(event = "external_bot_gone", bot_id = %id, "an external bot did not come back to what an earlier daemon had given it; that is queued again");
                for (task, fence) in self.running_of(id) {
                    self.end_attempt(&task, fence, AttemptEnd::Released);
                }
            }
            Some(Change::Came) | None => {}
        }
        self.arm_external(id);
    }

    /// Its attempts that run.
    fn running_of(&self, id: &str) -> Vec<(TaskId, Fence)> {
        let of_bot = self.in_flight.values().filter(|attempt| {
            *attempt.bot == *id && attempt.run == 0 && attempt.phase == AttemptPhase::Running
        });
        of_bot
            .map(|attempt| (attempt.ready.id.clone(), attempt.fence))
            .collect()
    }
}

/// Bytes of output that a task of an external bot may have.
pub(super) fn output_limit() -> usize {
    Limits::default().output_mb as usize * 1024 * 1024
}
