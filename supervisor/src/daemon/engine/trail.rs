//! Acts and their records. What changes the store is recorded in the same transaction ([`Engine::ask_on_record`]);
//! what does not is recorded by itself, and answered once that is committed ([`Engine::answer_on_record`]).
//!
//! Who acts is set for the time in which a command is handled; what the main loop does by itself, the daemon
//! does.

use std::fmt;
use std::sync::Arc;

use deia::api::{AuditAction, AuditLevel, AuditResult, AuditSource};
use deia::task::TaskId;
use serde_json::{Value, json};

use super::Engine;
use super::outcomes::Pending;
use crate::audit::{Actor, Entry, Who};
use crate::daemon::command::{Noted, Refused, Reply};
use crate::store::{Audited, End, Op, Recorded, StoreError};

/// Records of acts that are kept while the store takes none. With more, operators' acts are refused; of what the
/// daemon does and sees by itself as many again are kept.
pub(super) const MAX_UNRECORDED: usize = 1_000;

type Call = dyn FnOnce(&mut Engine, Result<Option<Recorded>, Refused>) + Send;

/// What is to be answered once a record is on disk, or is not.
pub(super) struct Then(Box<Call>);

impl fmt::Debug for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Then")
    }
}

/// Whether a record that could not be written is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The act was done, so its record has to be.
    UntilWritten,
    /// Nothing was done but to say it.
    No,
}

impl Engine {
    /// Whether there is an audit trail.
    pub(super) fn audits(&self) -> bool {
        self.config.audit.enabled && self.config.feature_flags.audit_logging_enabled
    }

    /// Handles something for somebody.
    pub(super) fn acting(&mut self, actor: Actor, what: impl FnOnce(&mut Self)) {
        let actor = match actor.who {
            Who::BotProcess(pid) => Actor {
                who: self.bot_with(pid),
                ..actor
            },
            _ => actor,
        };
        let before = std::mem::replace(&mut self.actor, actor);
        what(self);
        self.actor = before;
    }

    fn bot_with(&self, pid: u32) -> Who {
        let mut bots = self.bots.iter();
        let found = bots.find(|(_, entry)| entry.pid() == Some(pid));
        Who::Named(match found {
            Some((id, _)) => format!("bot:{id}").into(),
            None => format!("bot-process:{pid}").into(),
        })
    }

    /// A record of what is done now, by whoever acts now.
    pub(super) fn entry(&self, action: AuditAction, target: impl Into<Arc<str>>) -> Entry {
        Entry::new(self.wall(), action, self.actor.clone(), target)
    }

    /// Hands the store an operation; what it changes is on record with it.
    pub(super) fn ask_on_record(&mut self, op: Op, entry: Entry, pending: Pending) {
        let op = match self.audits() {
            true => Op::Audited(Box::new(Audited { op, entry })),
            false => op,
        };
        self.ask(op, pending);
    }

    /// Puts on record what changes nothing in the store.
    pub(super) fn put_on_record(&mut self, entry: Entry) {
        if self.audits() {
            self.record_anyway(entry, Keep::UntilWritten, Vec::new());
        }
    }

    /// The same, also where there is no audit: that it is off, for one.
    pub(super) fn record_anyway(&mut self, entry: Entry, keep: Keep, then: Vec<Then>) {
        let entry = Box::new(entry);
        let pending = Pending::Record {
            entry: entry.clone(),
            keep,
            then,
        };
        self.ask(Op::Record(entry), pending);
    }

    /// Answers once everything that was put on record in this turn is on disk; at once where nothing was.
    pub(super) fn answer_on_record(
        &mut self,
        answer: impl FnOnce(&mut Self, Result<Option<Recorded>, Refused>) + Send + 'static,
    ) {
        let newest = self
            .outbox
            .iter()
            .rev()
            .find_map(|(ticket, op)| matches!(op, Op::Record(_)).then_some(ticket));
        let waits_for = newest
            .copied()
            .and_then(|ticket| self.pending.get_mut(&ticket));
        match waits_for {
            Some(Pending::Record { then, .. }) => then.push(Then(Box::new(answer))),
            _ => answer(self, Ok(None)),
        }
    }

    /// A record is on disk.
    pub(super) fn recorded(&mut self, then: Vec<Then>, recorded: Recorded) {
        for Then(answer) in then {
            answer(self, Ok(Some(recorded)));
        }
    }

    /// It is not.
    pub(super) fn not_recorded(
        &mut self,
        entry: Box<Entry>,
        keep: Keep,
        then: Vec<Then>,
        e: &StoreError,
    ) {
        let fits = self.unrecorded() < 2 * MAX_UNRECORDED;
        if keep == Keep::UntilWritten && !matches!(e, StoreError::Operation(_)) && fits {
            let pending = Pending::Record {
                entry: entry.clone(),
                keep,
                then: Vec::new(),
            };
            self.leftovers.push((Op::Record(entry), pending));
        }
        for Then(answer) in then {
            let why = e.to_string();
            answer(
                self,
                Err(match keep {
                    Keep::UntilWritten => Refused::Unrecorded(why),
                    Keep::No => Refused::Store(why),
                }),
            );
        }
    }

    /// Why operators' acts are not carried out, where it is so: too many have no record yet.
    pub(super) fn too_many_unrecorded(&self) -> Option<Refused> {
        let waiting = self.unrecorded();
        (waiting >= MAX_UNRECORDED).then(|| {
            let fault = self.store_fault.clone().unwrap_or_default();
            Refused::Store(format!(
                "{waiting} acts have no audit record yet, so that no more are carried out: {fault}"
            ))
        })
    }

    /// Acts whose record the store has not taken yet.
    fn unrecorded(&self) -> usize {
        let is_record = |(_, pending): &&(Op, Pending)| matches!(pending, Pending::Record { .. });
        self.leftovers.iter().filter(is_record).count()
    }

    /// `Command::Note`.
    pub(super) fn note(&mut self, mut entry: Entry, reply: Reply<Result<Noted, Refused>>) {
        entry.actor = self.actor.clone();
        let actor = entry.actor.name().to_owned();
        if !self.audits() {
            let _ = reply.send(Ok(Noted { link: None, actor }));
            return;
        }
        let keep = match (entry.source, entry.action) {
            // Nothing was done. Whoever asked is told, and asks again.
            (AuditSource::Client, _) | (_, AuditAction::RequestRefused) => Keep::No,
            (AuditSource::Daemon, _) => Keep::UntilWritten,
        };
        let answer = move |_: &mut Self, recorded: Result<Option<Recorded>, Refused>| {
            let noted = recorded.map(|recorded| Noted {
                link: recorded.map(|recorded| recorded.link),
                actor,
            });
            // Whoever asked may be gone.
            let _ = reply.send(noted);
        };
        self.record_anyway(entry, keep, vec![Then(Box::new(answer))]);
    }

    /// The daemon serves from now on.
    pub(super) fn record_start(&mut self) {
        let entry = self.entry(AuditAction::DaemonStarted, "daemon");
        let entry = entry.with(&json!({
            "version": deia::VERSION,
            "pid": std::process::id(),
            "audit": if self.audits() { "on" } else { "off" },
        }));
        self.record_anyway(entry, Keep::UntilWritten, Vec::new());
    }

    /// The audit is switched: that is the last, or the first, to be on record.
    pub(super) fn record_switch(&mut self, was_on: bool) {
        let is_on = self.audits();
        if was_on != is_on {
            let entry = self.entry(AuditAction::ConfigChanged, "audit");
            let details = json!({"audit": if is_on { "on" } else { "off" }});
            let entry = entry.at_level(AuditLevel::Critical).with(&details);
            self.record_anyway(entry, Keep::UntilWritten, Vec::new());
        }
    }

    /// The record of an attempt's end.
    pub(super) fn entry_of_end(&self, task: &TaskId, bot: &str, attempt: u32, end: &End) -> Entry {
        let (action, status) = match end {
            End::Succeeded(_) => (AuditAction::TaskCompleted, "succeeded"),
            End::Retry { not_before, .. } => match not_before {
                Some(_) => (AuditAction::TaskFailed, "scheduled"),
                None => (AuditAction::TaskFailed, "queued"),
            },
            End::Dead { .. } => (AuditAction::TaskFailed, "dead"),
            End::Cancelled => (AuditAction::TaskCancelled, "cancelled"),
        };
        let mut entry = Entry::new(self.wall(), action, Actor::bot(bot), task.to_shared());
        entry.details = Some(format!(r#"{{"attempt":{attempt},"status":"{status}"}}"#));
        if action == AuditAction::TaskFailed {
            entry.result = AuditResult::Failure;
            // What the bot said may be anything, and has its place in the task.
            entry.error = Some("the attempt failed; why is with the task".to_owned());
        }
        if matches!(end, End::Dead { .. }) {
            entry.level = AuditLevel::Warning;
        }
        entry
    }

    /// There shall be more, or fewer, bots.
    pub(super) fn record_scaling(&mut self, before: u32, after: u32, reason: &str) {
        let action = match after > before {
            true => AuditAction::ScaleUp,
            false => AuditAction::ScaleDown,
        };
        let details: Value = json!({"from": before, "to": after, "reason": reason});
        let entry = self.entry(action, "fleet").with(&details);
        self.put_on_record(entry);
    }
}
