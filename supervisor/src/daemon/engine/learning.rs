//! What routing learns: loaded at the start, kept a moment after it changed, forgotten with a new major
//! version of the configuration.

use deia::api::AuditAction;
use serde_json::json;
use tokio::sync::mpsc;

use super::outcomes::Pending;
use super::timers::Timer;
use super::{Engine, Phase};
use crate::brain::Millis;
use crate::daemon::command::{AskLearning, MAX_STRANGERS, Refused};
use crate::store::{Committed, LearnedRow, Op, StoreError};

/// From a change to its being kept: what a kill may cost, at most.
const KEEP_AFTER: Millis = 1_000;

/// What is being kept, and under which version.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// A look at what has changed is due.
    armed: bool,
    /// What the store has.
    under: Option<u32>,
    /// What it has not taken yet: the version, and whether what was learned before is forgotten.
    owed: Option<(u32, bool)>,
}

impl Engine {
    /// What an earlier daemon learned, if it still counts.
    pub(super) async fn load_learned(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
    ) -> Result<(), StoreError> {
        self.dispatcher.learn_by(self.learning_rules());
        let learned = self.store.learned().await?;
        self.keeping.under = learned.under;
        let Some(op) = self.other_version() else {
            self.dispatcher.load_learned(learned.rows);
            return Ok(());
        };
        let (version, forget) = op;
        if !forget {
            self.dispatcher.load_learned(learned.rows);
        }
        self.keeping.under = Some(version);
        let op = Op::LearnUnder { version, forget };
        if let Err(e) = self.ask_store(committed, op).await {
            // Not worth a start that fails.
            tracing::warn!(event = "learning_not_kept", error = %e, "under which version is learned could not be kept; tried again");
            self.keeping.owed = Some((version, forget));
            self.keep_soon();
        }
        Ok(())
    }

    /// The configuration has changed.
    pub(super) fn configure_learning(&mut self) {
        self.dispatcher.learn_by(self.learning_rules());
        if let Some((version, forget)) = self.other_version() {
            if forget {
                self.dispatcher.forget_learned();
            }
            // What is owed still is part of it.
            let forget = forget || self.keeping.owed.is_some_and(|(_, forget)| forget);
            self.learn_under(version, forget);
        }
    }

    fn learn_under(&mut self, version: u32, forget: bool) {
        self.keeping.under = Some(version);
        self.keeping.owed = None;
        let op = Op::LearnUnder { version, forget };
        self.ask(op, Pending::LearnUnder { version, forget });
    }

    /// What to do where the store's version is not the configuration's.
    fn other_version(&self) -> Option<(u32, bool)> {
        let version = major(&self.config.version).filter(|now| self.keeping.under != Some(*now))?;
        let forget = self.config.learning.reset_learning_on_major_version_change
            && self.keeping.under.is_some();
        if forget {
            tracing::warn!(
                event = "learning_reset",
                before = self.keeping.under,
                now = version,
                "what was learned is forgotten: the configuration has a new major version"
            );
        }
        Some((version, forget))
    }

    /// The store has another version still.
    pub(super) fn not_learned_under(&mut self, version: u32, forget: bool) {
        // Unless another has come meanwhile, which knows.
        if self.keeping.under == Some(version) {
            self.keeping.owed = Some((version, forget));
            self.keep_soon();
        }
    }

    /// After each turn: what has changed is kept soon; at the end, at once.
    pub(super) fn look_for_learned(&mut self) {
        if !self.dispatcher.learning().has_changed() {
            return;
        }
        match self.phase {
            Phase::Running => self.keep_soon(),
            Phase::Leaving | Phase::Stopping | Phase::Hurrying => self.keep(),
        }
    }

    pub(super) fn keep_learned(&mut self) {
        self.keeping.armed = false;
        if let Some((version, forget)) = self.keeping.owed.filter(|_| self.store_fault.is_none()) {
            self.learn_under(version, forget);
        }
        if self.keeping.owed.is_some() {
            self.keep_soon();
        }
        self.keep();
    }

    fn keep(&mut self) {
        // What it does not take now comes with the next change after it works again; and not before what
        // was learned earlier is gone, where it is to go.
        if self.store_fault.is_some() || self.keeping.owed.is_some_and(|(_, forget)| forget) {
            return;
        }
        let rows = self.dispatcher.take_learned();
        if !rows.is_empty() {
            self.ask(Op::Learn(rows.clone()), Pending::Learn(rows));
        }
    }

    pub(super) fn not_kept(&mut self, rows: Vec<LearnedRow>) {
        // At the end once: an end is not held up for a second's experience.
        if self.phase == Phase::Running {
            self.dispatcher.put_back_learned(rows);
            self.keep_soon();
        }
    }

    fn keep_soon(&mut self) {
        if !std::mem::replace(&mut self.keeping.armed, true) {
            self.timers.at(self.now() + KEEP_AFTER, Timer::KeepLearned);
        }
    }

    /// Whether it is one more name that no pool can have, of too many.
    fn is_one_too_many(&self, bot: &str) -> bool {
        let mut strangers = self
            .dispatcher
            .learning()
            .bots()
            .filter(|b| !self.can_be(b));
        let known = || self.dispatcher.learning().bots().any(|b| b == bot);
        !self.can_be(bot) && !known() && strangers.nth(MAX_STRANGERS - 1).is_some()
    }

    /// What is asked of it.
    pub(super) fn learning(&mut self, ask: AskLearning) {
        let learning = self.dispatcher.learning();
        // Whoever asked may be gone.
        match ask {
            AskLearning::Record { bot, sample, reply } => {
                if self.is_one_too_many(&bot) {
                    let _ = reply.send(Err(Refused::TooManyNames));
                    return;
                }
                tracing::info!(event = "task_recorded", bot_id = %bot, kind = %sample.task_type, success = sample.succeeded, "a result that a caller reports counts");
                self.dispatcher.learn(&bot, &sample);
                let entry = self.entry(AuditAction::ApiCall, bot);
                let details = json!({"call": "record_execution", "task_type": sample.task_type, "success": sample.succeeded});
                self.put_on_record(entry.with(&details));
                self.answer_on_record(move |_, recorded| {
                    let _ = reply.send(recorded.map(drop));
                });
            }
            AskLearning::Recommendation { task_type, reply } => {
                let _ = reply.send(learning.recommendation(task_type, self.wall()));
            }
            AskLearning::OfBot { bot, reply } => {
                let _ = reply.send(learning.performance_of(&bot));
            }
            AskLearning::OfType { task_type, reply } => {
                let _ = reply.send(learning.performance_on(task_type));
            }
            AskLearning::Insights { reply } => {
                let _ = reply.send(learning.insights());
            }
            AskLearning::History { limit, reply } => {
                let _ = reply.send(learning.history(limit));
            }
        }
    }
}

/// The first number of a version; `None` where it does not begin with one.
fn major(version: &str) -> Option<u32> {
    let digits = version.trim_start().trim_start_matches(['v', 'V']);
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_version_is_the_first_number() {
        assert_eq!(major("1.0"), Some(1));
        assert_eq!(major("v12-rc1"), Some(12));
        assert_eq!(major("3"), Some(3));
        assert_eq!(major("next"), None);
        assert_eq!(major(""), None);
    }
}
