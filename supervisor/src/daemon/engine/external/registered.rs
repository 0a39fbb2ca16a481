//! Who is registered: read at the start, changed by operators, kept on disk before it holds.

use std::sync::Arc;

use deia::api::AuditAction;
use deia::config::bot_number;
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::{ChangeOf, Entry, MAX_CHANGES};
use crate::brain::demand::PoolFacts;
use crate::daemon::command::Refused;
use crate::daemon::engine::Engine;
use crate::daemon::engine::edge::{ExternalKept, Job, KeepExternal};
use crate::daemon::engine::tasks::AttemptEnd;
use crate::external::Registration;
use crate::external::registry::MAX_EXTERNAL;
use crate::external::signature::WINDOW_SECONDS;
use crate::store::{self, Committed, Op, StoreError};

impl Engine {
    /// Who was registered before. And what was signed before a restore is taken no more.
    pub(in crate::daemon::engine) async fn load_external(
        &mut self,
        committed: &mut mpsc::Receiver<Committed>,
    ) -> Result<(), StoreError> {
        let since = self.wall();
        match self.edge.kept_external() {
            Ok(kept) => {
                for registration in kept {
                    let id: Arc<str> = registration.bot_id.as_str().into();
                    let signer = registration.signer.clone();
                    self.external.signers.set(&id, Some(signer));
                    self.external
                        .bots
                        .insert(id, Entry::new(registration, since));
                }
            }
            Err(e) => {
                let path = self.home.external_bots();
                tracing::error!(event = "external_bots_unreadable", error = %e, path = %path.display(), "who is registered could not be read: no external bot is taken for one until the file is mended or removed");
                self.external.unreadable = Some(format!("{}: {e}", path.display()));
            }
        }
        self.warn_of_pools();
        // Without a bot there is nothing that may have been signed.
        let floor = match self.external.is_empty() && self.external.unreadable.is_none() {
            true => Timestamp::from_micros(0),
            false => since.plus_millis(WINDOW_SECONDS * 1000),
        };
        if let store::Outcome::NoncesGuarded { floor: Some(floor) } =
            self.ask_store(committed, Op::GuardNonces { floor }).await?
            && floor > since
        {
            tracing::warn!(event = "external_bots_wait", until = %floor, "the store is new or restored and may not remember every signed request: none is taken that was signed before then");
            self.external.floor = Some(floor);
        }
        Ok(())
    }

    /// A pool whose bots have an external bot's name: the pool's are meant.
    pub(super) fn warn_of_pools(&self) {
        for id in self.external.bots.keys() {
            if let Some(pool) = self.pool_with(id) {
                tracing::warn!(event = "external_bot_shadowed", bot_id = %id, pool, "a pool's bots have the name of an external bot, which gets no more tasks: rename one of them");
            }
        }
    }

    /// The pool whose bots have, or can have, this name.
    pub(super) fn pool_with(&self, bot: &str) -> Option<&str> {
        let mut pools = self.config.bots.iter();
        let pool = pools.find(|pool| bot_number(&pool.name, bot).is_some());
        pool.map(|pool| pool.name.as_str())
    }

    /// As routing sees them: each a pool of one.
    pub(in crate::daemon::engine) fn external_facts(&self) -> impl Iterator<Item = PoolFacts> {
        let meant = |id: &&Arc<str>| self.pool_with(id).is_none();
        let ids = self.external.bots.iter().filter(move |(id, _)| meant(id));
        ids.map(|(id, entry)| {
            let of = &entry.registration;
            PoolFacts::external(id, of.bot_type, of.specializations.clone())
        })
    }

    /// One after the other: each is decided on what the one before left.
    pub(super) fn change(&mut self, change: ChangeOf) {
        if let Some(refused) = self.too_many_unrecorded() {
            return change.refuse(refused);
        }
        if self.external.changes.len() >= MAX_CHANGES {
            return change.refuse(Refused::Busy);
        }
        let entry = match &change {
            ChangeOf::Register(registration, rotate, _) => {
                let entry = self.entry(AuditAction::CredentialCreated, &*registration.bot_id);
                entry.with(&json!({"external_bot": registration.bot_id, "rotate": rotate}))
            }
            ChangeOf::Unregister(id, _) => {
                let entry = self.entry(AuditAction::CredentialRevoked, id.as_str());
                entry.with(&json!({"external_bot": id}))
            }
        };
        self.external.changes.push_back((change, entry));
        self.next_change();
    }

    fn next_change(&mut self) {
        while !self.external.changing
            && let Some((change, entry)) = self.external.changes.pop_front()
        {
            match self.after(&change) {
                Ok(registrations) => {
                    self.external.changes.push_front((change, entry));
                    self.external.changing = true;
                    self.edge
                        .begin(Job::KeepExternal(KeepExternal { registrations }));
                }
                Err(refused) => change.refuse(refused),
            }
        }
    }

    /// Who will be registered after this.
    pub(super) fn after(&self, change: &ChangeOf) -> Result<Vec<Registration>, Refused> {
        if let Some(why) = &self.external.unreadable {
            return Err(Refused::Store(why.clone()));
        }
        let bots = &self.external.bots;
        let others = |id: &str| {
            let others = bots.values().map(|entry| &entry.registration);
            let others = others.filter(|other| other.bot_id != id);
            others.cloned().collect::<Vec<_>>()
        };
        match change {
            ChangeOf::Register(registration, rotate, _) => {
                let id = registration.bot_id.as_str();
                if let Some(pool) = self.pool_with(id) {
                    return Err(Refused::NameOfPool(pool.to_owned()));
                }
                if bots.contains_key(id) && !rotate {
                    return Err(Refused::AlreadyRegistered(id.to_owned()));
                }
                if !bots.contains_key(id)
                    && (bots.len() >= MAX_EXTERNAL || self.bots.contains_key(id))
                {
                    return Err(match self.bots.contains_key(id) {
                        true => Refused::NameOfPool(id.to_owned()),
                        false => Refused::TooManyExternal(MAX_EXTERNAL),
                    });
                }
                let mut all = others(id);
                all.push((**registration).clone());
                Ok(all)
            }
            ChangeOf::Unregister(id, _) if bots.contains_key(id.as_str()) => Ok(others(id)),
            ChangeOf::Unregister(id, _) => Err(Refused::NotRegistered(id.clone())),
        }
    }

    /// A change is on disk, or not.
    pub(in crate::daemon::engine) fn external_kept(&mut self, kept: &ExternalKept) {
        self.external.changing = false;
        let Some((change, entry)) = self.external.changes.pop_front() else {
            return;
        };
        match (&kept.result, change) {
            (Err(e), change) => {
                let path = self.home.external_bots();
                change.refuse(Refused::Store(format!("{}: {e}", path.display())));
            }
            // Whoever asked may be gone.
            (Ok(()), ChangeOf::Register(registration, _, reply)) => {
                let known = self.register(*registration);
                self.put_on_record(entry);
                self.answer_on_record(move |_, recorded| {
                    let _ = reply.send(recorded.map(|_| known));
                });
            }
            (Ok(()), ChangeOf::Unregister(id, reply)) => {
                let released = self.unregister(&id);
                self.put_on_record(entry);
                self.answer_on_record(move |_, recorded| {
                    let _ = reply.send(recorded.map(|_| released));
                });
            }
        }
        self.next_change();
    }

    pub(super) fn register(&mut self, registration: Registration) -> bool {
        let (id, wall): (Arc<str>, _) = (registration.bot_id.as_str().into(), self.wall());
        let signer = Some(registration.signer.clone());
        // From here on the old secret is refused.
        self.external.signers.set(&id, signer);
        let rotated = match self.external.bots.get_mut(&id) {
            Some(entry) => {
                entry.registration = registration;
                true
            }
            None => {
                let entry = Entry::new(registration, wall);
                self.external.bots.insert(id.clone(), entry);
                false
            }
        };
        tracing::info!(event = "external_bot_registered", bot_id = %id, rotated, "an external bot is registered");
        self.dispatcher.configure(self.pool_facts());
        self.hold_pools();
        self.offer(&id);
        rotated
    }

    pub(super) fn unregister(&mut self, id: &str) -> u64 {
        self.external.signers.set(id, None);
        let held = self.running_of(id);
        for (task, fence) in &held {
            self.end_attempt(task, *fence, AttemptEnd::TakenBack);
        }
        let Some(entry) = self.external.bots.remove(id) else {
            return 0;
        };
        self.external.wishing.remove(id);
        for wish in entry.wishes {
            let refused = Refused::NotRegistered(id.to_owned());
            let _ = wish.reply.send(Err(refused));
        }
        self.dispatcher.close(id);
        self.dispatcher.configure(self.pool_facts());
        self.hold_pools();
        tracing::info!(event = "external_bot_unregistered", bot_id = %id, "an external bot is registered no more");
        held.len() as u64
    }

    /// A new configuration may have a pool of the name of one.
    pub(in crate::daemon::engine) fn external_configured(&mut self) {
        self.warn_of_pools();
        let ids: Vec<Arc<str>> = self.external.bots.keys().cloned().collect();
        for id in &ids {
            if self.pool_with(id).is_none() {
                continue;
            }
            for (task, fence) in self.running_of(id) {
                self.end_attempt(&task, fence, AttemptEnd::TakenBack);
            }
            self.end_wishes(id);
        }
    }
}

impl ChangeOf {
    fn refuse(self, refused: Refused) {
        // Whoever asked may be gone.
        match self {
            Self::Register(_, _, reply) => drop(reply.send(Err(refused))),
            Self::Unregister(_, reply) => drop(reply.send(Err(refused))),
        }
    }
}
