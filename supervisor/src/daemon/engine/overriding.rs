//! An operator's limits: on disk first, then in force.
//!
//! ```text
//!   set, resume, forget --> next --(one at a time)--> on the way to the disk --> in force, answered
//! ```
//!
//! One at a time and in the order they were asked for: each goes by what the one before has left, and what
//! is in force is what the next daemon will find.

use std::collections::VecDeque;
use std::io;

use deia::api::{AuditAction, LimitsAnswer, LimitsRequest};
use deia::config::{BotLimits, MAX_BOTS};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Engine;
use super::edge::Job;
use super::timers::Timer;
use crate::audit::Actor;
use crate::brain::Millis;
use crate::brain::plan::Limits;
use crate::daemon::command::{Refused, Reply};

/// Before limits that have ended are tried to be removed again.
const FORGET_AGAIN: Millis = 1_000;

/// An operator's limits: in force until the file's own change, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Override {
    pub min_bots: u32,
    pub max_bots: u32,
    /// The file's limits at the time.
    of_min_bots: u32,
    of_max_bots: u32,
}

impl Override {
    pub fn is_of(self, limits: &BotLimits) -> bool {
        (self.of_min_bots, self.of_max_bots) == (limits.min_bots, limits.max_bots)
    }
}

/// What is in force, and what is asked for.
#[derive(Debug, Default)]
pub(super) struct Overriding {
    pub current: Option<Override>,
    under_way: Option<UnderWay>,
    /// At most as many as there are connections, which wait for the answers.
    next: VecDeque<Asked>,
    /// What has ended could not be removed yet.
    again: bool,
}

#[cfg(test)]
impl Overriding {
    pub fn is_at_rest(&self) -> bool {
        self.under_way.is_none() && self.next.is_empty() && !self.again
    }
}

type Answer = Reply<Result<LimitsAnswer, Refused>>;

#[derive(Debug)]
enum Asked {
    Set {
        request: LimitsRequest,
        actor: Actor,
        reply: Answer,
    },
    /// They have ended by themselves: what is kept shall be what is in force.
    Forget,
}

/// On its way to the disk.
#[derive(Debug)]
struct UnderWay {
    wanted: Option<Override>,
    /// Who asked for it.
    by: Option<(Actor, Answer)>,
}

impl Engine {
    /// An operator's limits, or their end.
    pub(super) fn set_limits(&mut self, request: LimitsRequest, reply: Answer) {
        if let Some(refused) = self.too_many_unrecorded() {
            let _ = reply.send(Err(refused));
            return;
        }
        let actor = self.actor.clone();
        self.overriding.next.push_back(Asked::Set {
            request,
            actor,
            reply,
        });
        self.override_next();
    }

    fn override_next(&mut self) {
        while self.overriding.under_way.is_none() {
            let (wanted, by) = match self.overriding.next.pop_front() {
                None => return,
                // What has come into force since stays.
                Some(Asked::Forget) => (self.overriding.current, None),
                Some(Asked::Set {
                    request,
                    actor,
                    reply,
                }) => match self.wanted_limits(request) {
                    Ok(wanted) => (wanted, Some((actor, reply))),
                    Err(refused) => {
                        let _ = reply.send(Err(refused));
                        continue;
                    }
                },
            };
            self.overriding.under_way = Some(UnderWay { wanted, by });
            self.edge.begin(Job::KeepLimits(wanted));
        }
    }

    /// What is asked for, by what is in force now.
    fn wanted_limits(&self, request: LimitsRequest) -> Result<Option<Override>, Refused> {
        if request.resume {
            return Ok(None);
        }
        let file = &self.config.bot_limits;
        let max = request.max_bots.unwrap_or(self.limits.max);
        // What is not named stays, as far as the other allows: `--max 0` needs no `--min 0`.
        let min = match request.min_bots {
            Some(min) if min > max && max > 0 => {
                let why = format!("min_bots {min} is more than max_bots {max}");
                return Err(Refused::Limits(why));
            }
            Some(min) => min.min(max),
            None => self.kept_min().min(max),
        };
        if u64::from(max) > MAX_BOTS {
            let why = format!("max_bots {max} is more than {MAX_BOTS}");
            return Err(Refused::Limits(why));
        }
        Ok(Some(Override {
            min_bots: min,
            max_bots: max,
            of_min_bots: file.min_bots,
            of_max_bots: file.max_bots,
        }))
    }

    /// The least number of bots when only a maximum is named: what was in force, or, out of a
    /// drain, what the file says.
    fn kept_min(&self) -> u32 {
        if self.limits.max == 0 {
            self.config.bot_limits.min_bots
        } else {
            self.limits.min
        }
    }

    /// What was under way is on disk, or not.
    pub(super) fn limits_kept(&mut self, result: io::Result<()>) {
        let Some(UnderWay { wanted, by }) = self.overriding.under_way.take() else {
            return;
        };
        match by {
            Some((actor, reply)) => {
                self.acting(actor, |engine| engine.limits_kept_by(wanted, result, reply));
            }
            None => {
                if let Err(e) = result {
                    // One timer, however many were refused.
                    if !std::mem::replace(&mut self.overriding.again, true) {
                        tracing::warn!(event = "limits_override_left", error = %e, "limits that are not in force may be on disk; trying again");
                        self.timers
                            .at(self.now() + FORGET_AGAIN, Timer::ForgetLimits);
                    }
                }
            }
        }
        self.override_next();
    }

    fn limits_kept_by(&mut self, wanted: Option<Override>, result: io::Result<()>, reply: Answer) {
        if let Err(e) = result {
            let why = format!("{}: {e}", self.home.limits_override().display());
            let _ = reply.send(Err(Refused::Store(why)));
            // It may be there all the same, where the disk failed after the rename.
            if !self.overriding.again {
                self.overriding.next.push_front(Asked::Forget);
            }
            return;
        }
        deia::failpoint!("limits.kept");
        if wanted.is_some_and(|wanted| !wanted.is_of(&self.config.bot_limits)) {
            let why = "the file's bot_limits have changed meanwhile: ask again".to_owned();
            let _ = reply.send(Err(Refused::Limits(why)));
            // Else it would be in force where the file's become again what they were.
            self.overriding.next.push_front(Asked::Forget);
            return;
        }
        self.overriding.current = wanted;
        let before = self.limits;
        self.limits = self.limits_by_rule();
        tracing::info!(
            event = "limits_changed",
            min_bots = self.limits.min,
            max_bots = self.limits.max,
            min_before = before.min,
            max_before = before.max,
            "an operator set the limits"
        );
        if self.limits.max == 0 && before.max > 0 {
            tracing::info!(
                event = "drain_started",
                running = self.in_flight.len(),
                "no new tasks; running ones finish, then the bots stop"
            );
        }
        self.dispatcher.configure(self.pool_facts());
        self.hold_pools();
        let entry = self.entry(AuditAction::ConfigChanged, "bot_limits");
        self.put_on_record(entry.with(&json!({
            "min_bots": self.limits.min,
            "max_bots": self.limits.max,
            "min_before": before.min,
            "max_before": before.max,
            "override": wanted.is_some(),
        })));
        self.apply_plan();
        let message = match (self.limits.max, wanted.is_some()) {
            (0, _) => "new tasks are refused, running ones finish, then the bots stop".to_owned(),
            (_, true) => {
                "in force until the file's bot_limits change or `deiactl resume`".to_owned()
            }
            (_, false) => "the file's limits are in force".to_owned(),
        };
        let answer = LimitsAnswer {
            success: true,
            min_bots: self.limits.min,
            max_bots: self.limits.max,
            r#override: wanted.is_some(),
            message,
        };
        self.answer_on_record(move |_, recorded| {
            let _ = reply.send(recorded.map(|_| answer));
        });
    }

    /// The file's own limits are others than they were: those of an operator have ended.
    pub(super) fn override_ended(&mut self) {
        self.overriding.current = None;
        self.forget_override();
    }

    fn forget_override(&mut self) {
        tracing::info!(
            event = "limits_override_ended",
            "the file's own limits have changed: they are in force"
        );
        self.forget_limits();
    }

    /// Keeps what is in force, in place of what has ended.
    pub(super) fn forget_limits(&mut self) {
        self.overriding.again = false;
        self.overriding.next.push_back(Asked::Forget);
        self.override_next();
    }

    /// Limits an operator set before the daemon was started.
    pub(super) fn load_override(&mut self) {
        match self.edge.kept_limits() {
            Ok(None) => {}
            Ok(Some(kept)) if kept.is_of(&self.config.bot_limits) => {
                self.limits = Limits::new(kept.min_bots, kept.max_bots);
                self.overriding.current = Some(kept);
                tracing::warn!(
                    event = "limits_override",
                    min_bots = kept.min_bots,
                    max_bots = kept.max_bots,
                    "an operator's limits are in force, not the file's; `deiactl resume` ends that"
                );
            }
            Ok(Some(_)) => self.forget_override(),
            Err(e) => {
                tracing::error!(event = "limits_override_unreadable", error = %e, "an operator's limits could not be read; the file's are in force");
            }
        }
    }
}
