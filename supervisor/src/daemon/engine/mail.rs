//! Messages between bots: sent, delivered once their bot is up, read, over.
//!
//! A message is *delivered* when its bot is up and has it in its inbox, where its programs can read it: with the
//! commit that keeps it, where the bot is up then. So there is nothing to try again by a clock: what waits for a bot is delivered when the bot comes.

use std::collections::{BTreeSet, VecDeque};

use deia::api::AuditAction;
use deia::bot::Actual;
use deia::message::{MAX_TTL_SECONDS, MAX_UNREAD, MessageStatus};
use deia::time::Timestamp;
use serde_json::json;

use super::outcomes::Pending;
use super::timers::Timer;
use super::{Engine, Phase};
use crate::audit::Entry;
use crate::brain::clock::Reckoning;
use crate::brain::{Millis, millis};
use crate::daemon::command::{AskMail, MAX_STRANGERS, MailReport, Refused};
use crate::store::{MessageRecord, NewMessage, Op, StoreError};

/// Messages that are delivered, expired, removed or read in one transaction.
const PORTION: usize = 1000;

/// Messages that are kept after they were read or expired.
const MAX_KEPT: u64 = 100_000;

/// Names that a report has at most, of each kind.
const MAX_REPORTED: usize = 1_000;

/// The longest sleep before the wall clock is looked at again.
const LONGEST_SLEEP: Millis = 60_000;

/// Before messages are expired again after the store failed.
const AGAIN: Millis = 1_000;

/// From one look for what is over to the next one, where the clock was set: at least and at most, in milliseconds.
const GATHER: i64 = 1_000;
const ANEW: i64 = 3_600_000;

/// What is known of messages in memory: next to nothing.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Bots for which some wait.
    awaited: BTreeSet<String>,
    next_expiry: Option<Timestamp>,
    /// Of the timer that counts.
    number: u64,
    delivered: VecDeque<String>,
    expired: VecDeque<String>,
}

impl Engine {
    /// What an earlier daemon left.
    pub(super) async fn load_mail(&mut self) -> Result<(), StoreError> {
        let (awaited, next) = self.store.awaited().await?;
        self.mail.awaited = awaited.into_iter().collect();
        // The reading of a clock that may have been set since: the store is asked with what is known of that.
        self.over_at(next.map(|_| self.wall()));
        Ok(())
    }

    /// What time it is for messages.
    fn reckoning(&mut self) -> Reckoning {
        self.look_at_clocks();
        let most = MAX_TTL_SECONDS.saturating_mul(1_000);
        self.clocks.reckoning(self.wall(), self.steady(), most)
    }

    /// What is asked of it.
    pub(super) fn ask_mail(&mut self, ask: AskMail) {
        // Whoever asked may be gone.
        match ask {
            AskMail::Send { messages, reply } => {
                if let Some(refused) = self.mail_refusal(&messages) {
                    let _ = reply.send(Err(refused));
                    return;
                }
                let sent = messages.iter();
                let sent = sent.map(|m| (m.id.clone(), m.to_bot.clone())).collect();
                let over = messages.iter().map(NewMessage::expires_at).min();
                let receivers = messages.iter().map(|m| &m.to_bot);
                let up: BTreeSet<String> =
                    receivers.filter(|bot| self.is_up(bot)).cloned().collect();
                let in_inbox = up.clone();
                let entry = self.entry_of_messages(&messages);
                let op = Op::Send {
                    messages,
                    up,
                    at: self.wall(),
                    max_unread: MAX_UNREAD,
                };
                let pending = Pending::Send {
                    sent,
                    in_inbox,
                    over,
                    reply,
                };
                self.ask_on_record(op, entry, pending);
            }
            AskMail::Read { id, by, reply } => {
                let at = self.reckoning();
                self.ask(Op::ReadMessage { id, by, at }, Pending::Read { reply });
            }
            AskMail::Drain { bot, reply } => {
                let op = Op::Drain {
                    bot,
                    at: self.reckoning(),
                    limit: PORTION,
                };
                self.ask(op, Pending::Drain { reply });
            }
            AskMail::Now { reply } => {
                let _ = reply.send(self.reckoning());
            }
            AskMail::Report { reply } => {
                let mail = &mut self.mail;
                let _ = reply.send(MailReport {
                    delivered: std::mem::take(&mut mail.delivered).into(),
                    failed: std::mem::take(&mut mail.expired).into(),
                    retried: Vec::new(),
                });
            }
            AskMail::WhoIs { pid, reply } => {
                let mut bots = self.bots.iter();
                let found = bots.find(|(_, entry)| entry.pid() == Some(pid));
                let _ = reply.send(found.map(|(id, _)| id.to_string()));
            }
        }
    }

    /// One for all of a broadcast: they are sent all or none.
    fn entry_of_messages(&self, messages: &[NewMessage]) -> Entry {
        let first = messages.first();
        let target = match messages {
            [one] => one.to_bot.as_str(),
            _ => "broadcast",
        };
        let sent: Vec<_> = messages
            .iter()
            .map(|m| json!({"message_id": m.id, "to": m.to_bot}))
            .collect();
        let entry = self.entry(AuditAction::MessageSent, target);
        entry.with(&json!({"from": first.map(|m| &m.from_bot), "messages": sent}))
    }

    /// Why nothing is sent, where it is so.
    fn mail_refusal(&self, messages: &[NewMessage]) -> Option<Refused> {
        if !self.config.feature_flags.messaging_enabled {
            return Some(Refused::MessagingOff);
        }
        if let Some(fault) = &self.store_fault {
            return Some(Refused::Store(fault.clone()));
        }
        let strangers = || self.mail.awaited.iter().filter(|bot| !self.can_be(bot));
        let too_many = messages.iter().any(|m| {
            !self.can_be(&m.to_bot)
                && !self.mail.awaited.contains(&m.to_bot)
                && strangers().nth(MAX_STRANGERS - 1).is_some()
        });
        too_many.then_some(Refused::TooManyNames)
    }

    /// Whether a pool can have a bot of this name.
    pub(super) fn can_be(&self, bot: &str) -> bool {
        let most = self.config.bot_limits.max_bots.max(self.limits.max);
        self.external.has(bot)
            || self.config.bots.iter().any(|pool| {
                deia::config::bot_number(&pool.name, bot)
                    .is_some_and(|n| n <= pool.max.unwrap_or(most).min(most).max(1))
            })
    }

    fn is_up(&self, bot: &str) -> bool {
        if self.external.is_present(bot) {
            return true;
        }
        self.bots.get(bot).is_some_and(|entry| {
            let actual = entry.machine.actual();
            entry.session.is_some()
                && matches!(actual, Actual::Ready | Actual::Busy | Actual::Draining)
        })
    }

    /// They are durable.
    pub(super) fn sent(
        &mut self,
        sent: Vec<(String, String)>,
        in_inbox: &BTreeSet<String>,
        over: Option<Timestamp>,
    ) {
        self.over_at(over);
        for (id, bot) in sent {
            tracing::info!(event = "message_queued", message_id = %id, to_bot = %bot, "message accepted");
            if in_inbox.contains(&bot) {
                self.is_delivered(id, &bot);
            } else if self.is_up(&bot) {
                self.deliver(bot);
            } else {
                self.mail.awaited.insert(bot);
            }
        }
    }

    /// A bot is up.
    pub(super) fn deliver_to(&mut self, bot: &str) {
        if self.phase == Phase::Running
            && let Some(bot) = self.mail.awaited.take(bot)
        {
            self.deliver(bot);
        }
    }

    fn deliver(&mut self, bot: String) {
        let op = Op::Deliver {
            bot: bot.clone(),
            at: self.reckoning(),
            limit: PORTION,
        };
        self.ask(op, Pending::Deliver { bot });
    }

    /// These are in the bot's inbox.
    pub(super) fn delivered(
        &mut self,
        bot: String,
        ids: Vec<String>,
        expired: Vec<String>,
        more: bool,
    ) {
        for id in ids {
            self.is_delivered(id, &bot);
        }
        for id in expired {
            self.is_over(id, &bot);
        }
        if more {
            self.deliver(bot);
        }
    }

    /// The store did not do it: with the bot's next message, or when it is up again.
    pub(super) fn not_delivered(&mut self, bot: String) {
        self.mail.awaited.insert(bot);
        self.mail_due_after(AGAIN);
    }

    /// `emptied`: nothing waits for its bot any more.
    pub(super) fn was_read(&mut self, message: &MessageRecord, emptied: bool) {
        if message.status == MessageStatus::Read {
            tracing::info!(event = "message_read", message_id = %message.sent.id, to_bot = %message.sent.to_bot, "message read");
        }
        if emptied {
            self.mail.awaited.remove(&message.sent.to_bot);
        }
    }

    fn is_delivered(&mut self, id: String, bot: &str) {
        tracing::info!(event = "message_delivered", message_id = %id, to_bot = %bot, "message delivered");
        report(&mut self.mail.delivered, id);
    }

    fn is_over(&mut self, id: String, bot: &str) {
        tracing::warn!(event = "message_expired", message_id = %id, to_bot = %bot, "message was not read within its time");
        report(&mut self.mail.expired, id);
    }

    /// Remembers that something is over at this time.
    fn over_at(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at
            && self.mail.next_expiry.is_none_or(|next| at < next)
        {
            self.mail.next_expiry = Some(at);
            self.arm_mail();
        }
    }

    /// When the next one is over reads otherwise now, also in an answer that is on its way: the store is asked.
    pub(super) fn mail_clock_was_set(&mut self) {
        self.mail.next_expiry = Some(self.wall());
        self.arm_mail();
    }

    /// When messages are looked at next.
    fn arm_mail(&mut self) {
        if let Some(at) = self.mail.next_expiry {
            let wait = millis(at.seconds_since(self.wall()).max(0.0));
            self.mail_due_after(wait.saturating_add(1).min(LONGEST_SLEEP));
        }
    }

    fn mail_due_after(&mut self, wait: Millis) {
        self.mail.number += 1;
        let timer = Timer::Mail(self.mail.number);
        self.timers.at(self.now() + wait, timer);
    }

    /// Messages may be over; and what a failing store has left behind is tried again.
    pub(super) fn mail_due(&mut self, number: u64) {
        if number != self.mail.number || self.phase != Phase::Running {
            return;
        }
        if self.store_fault.is_some() {
            self.mail_due_after(AGAIN);
            return;
        }
        let up: Vec<String> = self
            .mail
            .awaited
            .iter()
            .filter(|bot| self.is_up(bot))
            .cloned()
            .collect();
        for bot in up {
            self.deliver_to(&bot);
        }
        let now = self.reckoning();
        match self.mail.next_expiry {
            Some(at) if at <= now.now => {
                self.mail.next_expiry = None;
                let limit = PORTION;
                self.ask(Op::ExpireMessages { now, limit }, Pending::ExpireMessages);
            }
            _ => self.arm_mail(),
        }
    }

    pub(super) fn messages_expired(
        &mut self,
        expired: Vec<(String, String)>,
        emptied: &[String],
        next: Option<Timestamp>,
    ) {
        let is_full = expired.len() >= PORTION;
        for (id, bot) in expired {
            self.is_over(id, &bot);
        }
        for bot in emptied {
            self.mail.awaited.remove(bot);
        }
        // All unread ones are gone through where the clock was set: not for each one that is over.
        let may_gather = !is_full && self.reckoning().was_set();
        // And anew when a step is so long ago that it counts no more.
        let [soon, late] = [GATHER, ANEW].map(|wait| self.wall().plus_millis(wait));
        self.over_at(next.map(|next| match may_gather {
            true => next.clamp(soon, late),
            false => next,
        }));
    }

    /// A full portion: there are more.
    pub(super) fn messages_removed(&mut self, count: u64) {
        if count >= PORTION as u64 {
            self.remove_old_messages();
        }
    }

    pub(super) fn messages_not_expired(&mut self) {
        self.mail.next_expiry = Some(self.wall());
        self.mail_due_after(AGAIN);
    }

    /// A portion of those that were read or expired long ago.
    pub(super) fn remove_old_messages(&mut self) {
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let days = Millis::from(self.config.tasks.retention_days);
        let retain = Op::RetainMessages {
            before: self.surely_before(days * 86_400_000),
            max_kept: MAX_KEPT,
            limit: PORTION,
        };
        self.ask(retain, Pending::RetainMessages);
    }
}

/// The last ones are kept.
fn report(list: &mut VecDeque<String>, id: String) {
    if list.len() >= MAX_REPORTED {
        list.pop_front();
    }
    list.push_back(id);
}
