//! A bot's first word of a task that it has at once: it goes out with the commit, and the main loop hears of that
//! later than the bot.
//!
//! ```text
//!   submit --Op, letter--> writer: commit, letter --> bot --Started, ...--.
//!                                     '----- Committed ---> main loop <---'  the commit first
//! ```
//!
//! So what bots say is not looked at while a letter is out whose commit was not looked at: see
//! [`Letters::are_ahead`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use deia::task::{Fence, TaskId};
use deia::wire::{Assignment, ToWorker};

use super::Engine;
use crate::fleet::Run;
use crate::fleet::outgoing::Prepared;
use crate::fleet::outputs::Outputs;
use crate::store::{Letter, Ready};

/// While so many operations are on their way, all wait for the store's writer: it is left to its work, and frames
/// go out together once the commit was looked at.
const BUSY: usize = 4;

/// How many went out, and how many of those the main loop knows of.
#[derive(Debug, Default)]
pub(super) struct Letters {
    posted: Arc<AtomicU64>,
    known: u64,
}

impl Letters {
    /// Whether a commit is about to be reported whose letter has gone out.
    pub fn are_ahead(&self) -> bool {
        self.posted.load(Ordering::Acquire) > self.known
    }

    /// The commit of one is reported.
    pub fn is_known(&mut self) {
        self.known += 1;
    }
}

/// What is to be done with a commit.
#[derive(Debug)]
struct Assigning {
    task: TaskId,
    fence: Fence,
    outputs: Outputs,
    output_limit_bytes: usize,
    frame: Box<dyn Prepared>,
    is_put: AtomicBool,
    posted: Arc<AtomicU64>,
}

impl Letter for Assigning {
    fn post(&self) {
        let Self { task, fence, .. } = self;
        // Before the bot can say something.
        self.outputs.open(task, *fence, self.output_limit_bytes);
        self.posted.fetch_add(1, Ordering::AcqRel);
        self.is_put.store(self.frame.put(), Ordering::Release);
    }

    fn send(&self) {
        deia::failpoint!("assign.before");
        self.frame.flush();
        deia::failpoint!("assign.after");
    }
}

/// A letter that was handed over with its lease.
#[derive(Debug)]
pub(super) struct Lettered {
    /// The connection that it goes out on.
    line: u64,
    letter: Arc<Assigning>,
}

impl Lettered {
    /// For the store.
    pub fn letter(&self) -> Arc<dyn Letter> {
        self.letter.clone()
    }
}

impl Engine {
    /// The word to a connected bot that it has this new task. None in a busy fleet.
    pub(super) fn letter(
        &self,
        bot: &Arc<str>,
        run: Run,
        ready: &Ready,
        content: &str,
    ) -> Option<Lettered> {
        if self.pending.len() >= BUSY || self.external.has(bot) {
            return None;
        }
        let entry = self.bots.get(bot).filter(|entry| entry.run == run)?;
        let session = entry.session.as_ref()?;
        let fence = Fence {
            epoch: self.store.epoch(),
            attempt: 1,
        };
        let frame = ToWorker::Assign(Box::new(Assignment {
            task: ready.id.clone(),
            fence,
            content: content.to_owned(),
            timeout_ms: self.attempt_timeout_ms(bot, ready),
        }));
        let letter = Arc::new(Assigning {
            task: ready.id.clone(),
            fence,
            outputs: self.outputs.clone(),
            output_limit_bytes: self.output_limit_bytes(bot),
            frame: session.frames.prepare(frame)?,
            is_put: AtomicBool::new(false),
            posted: self.letters.posted.clone(),
        });
        Some(Lettered {
            line: session.number,
            letter,
        })
    }

    /// Whether a bot has its letter, or will have it by itself.
    ///
    /// One that has dialled in again on another connection has not: it dialled before the letter went out, or its hello
    /// would not have been looked at before the commit. One that has no connection any more is ended, or dials in again
    /// and says what it has.
    pub(super) fn has_letter(&self, bot: &Arc<str>, run: Run, lettered: &Lettered) -> bool {
        let is_put = lettered.letter.is_put.load(Ordering::Acquire);
        let entry = self.bots.get(bot).filter(|entry| entry.run == run);
        let Some(entry) = entry.filter(|entry| is_put && entry.process.is_some()) else {
            return false;
        };
        let session = entry.session.as_ref();
        session.is_none_or(|session| session.number == lettered.line)
    }
}
