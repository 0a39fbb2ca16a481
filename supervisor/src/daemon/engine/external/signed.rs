//! Signed requests: each name is taken once, durably, before anything is done.

use std::sync::Arc;

use super::{MAX_NONCES, NEXT_PORTION, PORTION};
use crate::daemon::command::{Refused, SignedAct, SignedRequest};
use crate::daemon::engine::outcomes::Pending;
use crate::daemon::engine::timers::Timer;
use crate::daemon::engine::{Engine, Phase};
use crate::external::signature::WINDOW_SECONDS;
use crate::store::{Nonce, Op};

impl Engine {
    /// A request whose signature is right: its name is taken first, durably.
    pub(super) fn signed(&mut self, request: SignedRequest) {
        if let Some(refused) = self.no_signed(&request) {
            let _ = request.reply.send(Err(refused));
            return;
        }
        let op = Op::Nonce {
            key: request.key,
            id: request.nonce.clone(),
            signed_at: request.signed_at,
            most: MAX_NONCES,
        };
        let request = Box::new(request);
        self.ask(op, Pending::Nonce { request });
    }

    pub(super) fn no_signed(&self, request: &SignedRequest) -> Option<Refused> {
        let Some(entry) = self.external.bots.get(request.bot.as_str()) else {
            return Some(Refused::NotRegistered(request.bot.clone()));
        };
        if entry.registration.signer.key != request.key {
            return Some(Refused::OldSecret);
        }
        if let Some(floor) = self
            .external
            .floor
            .filter(|floor| request.signed_at <= *floor)
        {
            let seconds = floor.seconds_since(self.wall()).clamp(1.0, 3600.0);
            return Some(Refused::AfterRestore(seconds.ceil() as u64));
        }
        if let Some(fault) = &self.store_fault {
            return Some(Refused::Store(fault.clone()));
        }
        self.is_stopping()
            .then_some(Refused::Draining("the daemon is stopping"))
    }

    /// Whether the request's name was free is on disk.
    pub(in crate::daemon::engine) fn nonce_taken(&mut self, request: SignedRequest, nonce: Nonce) {
        deia::failpoint!("external.taken");
        let refused = match nonce {
            // The secret may have been replaced meanwhile.
            Nonce::Fresh => self.no_signed(&request),
            Nonce::Repeated => Some(Refused::Repeated),
            Nonce::Forgotten => Some(Refused::Forgotten),
            Nonce::TooMany => Some(Refused::TooManySigned(MAX_NONCES)),
        };
        if let Some(refused) = refused {
            if matches!(refused, Refused::Repeated | Refused::Forgotten) {
                tracing::warn!(event = "signed_request_repeated", bot_id = %request.bot, "a signed request was sent again and refused");
            }
            let _ = request.reply.send(Err(refused));
            return;
        }
        let id: Arc<str> = request.bot.as_str().into();
        let reply = request.reply;
        match request.act {
            SignedAct::Lease {
                max,
                wait,
                instance,
            } => {
                if let Err(refused) = self.heard(&id, instance.as_deref()) {
                    let _ = reply.send(Err(refused));
                    return;
                }
                self.wish(&id, max, wait, reply);
            }
            SignedAct::Heartbeat { instance, tasks } => {
                let answer = self.heard(&id, instance.as_deref());
                let answer = answer.map(|()| self.beat(&id, tasks.as_deref()));
                let _ = reply.send(answer);
            }
            SignedAct::Output {
                task,
                fence,
                text,
                offset,
            } => {
                let answer = self.heard(&id, None);
                let answer =
                    answer.and_then(|()| self.take_output(&id, &task, fence, &text, offset));
                let _ = reply.send(answer);
            }
            SignedAct::End {
                task,
                fence,
                outcome,
                output,
            } => match self.heard(&id, None) {
                Ok(()) => self.external_end(&id, (task, fence), outcome, output, reply),
                Err(refused) => drop(reply.send(Err(refused))),
            },
        }
    }

    /// Names of requests that could not be taken again anyway are forgotten.
    pub(in crate::daemon::engine) fn forget_nonces(&mut self) {
        if self.phase != Phase::Running || self.store_fault.is_some() {
            return;
        }
        let op = Op::RetainNonces {
            signed_before: self.surely_before(WINDOW_SECONDS.unsigned_abs() * 1000),
            keys: self.external.keys(),
            limit: PORTION,
        };
        self.ask(op, Pending::RetainNonces);
    }

    pub(in crate::daemon::engine) fn nonces_forgotten(&mut self, count: u64) {
        if count >= PORTION as u64 {
            self.timers
                .at(self.now() + NEXT_PORTION, Timer::ForgetNonces);
        }
    }
}
