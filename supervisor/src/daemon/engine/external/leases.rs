//! An external bot asks for tasks: its wishes, the slots that are open for them, the answers.

use std::sync::Arc;

use deia::task::{Fence, TaskId};

use super::{MAX_WISHES, Wish};
use crate::brain::Millis;
use crate::daemon::command::{Granted, Refused, Reply, SignedAnswer};
use crate::daemon::engine::tasks::{AttemptEnd, InFlight};
use crate::daemon::engine::timers::Timer;
use crate::daemon::engine::{Engine, Phase};

impl Engine {
    /// It asks for tasks.
    pub(super) fn wish(
        &mut self,
        id: &Arc<str>,
        max: u32,
        wait: Millis,
        reply: Reply<Result<SignedAnswer, Refused>>,
    ) {
        if let Some(why) = self.refusing() {
            let _ = reply.send(Err(Refused::Draining(why)));
            return;
        }
        if let Some(pool) = self.pool_with(id) {
            let refused = Refused::NameOfPool(pool.to_owned());
            let _ = reply.send(Err(refused));
            return;
        }
        let at = self.now().saturating_add(wait);
        let Some(entry) = self.external.bots.get_mut(id) else {
            return;
        };
        entry
            .wishes
            .retain(|wish| !wish.reply.is_closed() || !wish.got.is_empty());
        if entry.wishes.len() >= MAX_WISHES {
            let _ = reply.send(Err(Refused::TooManyPolls(MAX_WISHES)));
            return;
        }
        self.external.wishes += 1;
        let number = self.external.wishes;
        entry.wishes.push_back(Wish {
            number,
            max: max as usize,
            got: Vec::new(),
            over: false,
            reply,
        });
        self.external.wishing.insert(id.clone());
        self.timers.at(at, Timer::Wish(id.clone(), number));
        self.offer(id);
    }

    /// A wish has waited long enough.
    pub(in crate::daemon::engine) fn wish_over(&mut self, id: &Arc<str>, number: u64) {
        if let Some(entry) = self.external.bots.get_mut(id)
            && let Some(wish) = entry.wishes.iter_mut().find(|wish| wish.number == number)
        {
            wish.over = true;
        }
    }

    /// Nothing more is given to those who wait.
    pub(super) fn end_wishes(&mut self, id: &Arc<str>) {
        if let Some(entry) = self.external.bots.get_mut(id) {
            for wish in &mut entry.wishes {
                wish.over = true;
            }
        }
    }

    /// So many slots are open as it asks for.
    pub(super) fn offer(&mut self, id: &Arc<str>) {
        let Some(entry) = self.external.bots.get(id) else {
            return;
        };
        let open = entry.wishes.iter().filter(|wish| wish.is_open());
        let asked: usize = open
            .map(|wish| wish.max.saturating_sub(wish.got.len()))
            .sum();
        let asked = u32::try_from(asked).unwrap_or(u32::MAX);
        let free = asked.saturating_sub(entry.reserved());
        if free == 0 || self.refusing().is_some() || self.phase != Phase::Running {
            self.dispatcher.close(id);
            return;
        }
        let most = self.dispatcher.load(id).saturating_add(free);
        let most = most.min(entry.registration.max_concurrent);
        self.dispatcher.open(id, id, most);
    }

    /// Before each turn's choices: what is asked for, as it is now.
    pub(in crate::daemon::engine) fn offer_to_external(&mut self) {
        for id in self.external.wishing.clone() {
            self.answer_wishes(&id);
            self.offer(&id);
        }
    }

    /// Who has got something is answered, or whose time is over.
    pub(super) fn answer_wishes(&mut self, id: &Arc<str>) {
        let now = self.now();
        let refusing = self.refusing();
        let Some(entry) = self.external.bots.get_mut(id) else {
            self.external.wishing.remove(id);
            return;
        };
        // What is on its way to the disk may be for one whose time is over.
        let waits = entry.reserved() > 0;
        let mut given_back = Vec::new();
        for mut wish in std::mem::take(&mut entry.wishes) {
            let is_over = wish.over || refusing.is_some() || wish.reply.is_closed();
            if wish.got.is_empty() && (!is_over || waits) {
                entry.wishes.push_back(wish);
                continue;
            }
            let tasks: Vec<(TaskId, Fence)> =
                wish.got.iter().map(|g| (g.task.clone(), g.fence)).collect();
            let got = std::mem::take(&mut wish.got);
            match wish.reply.send(Ok(SignedAnswer::Leased(got))) {
                Ok(()) => {
                    for (task, _) in tasks {
                        entry
                            .running
                            .entry(task)
                            .and_modify(|given| *given = Some(now));
                    }
                }
                // It has gone: nobody has heard of them.
                Err(_) => given_back.extend(tasks),
            }
        }
        if entry.wishes.is_empty() {
            self.external.wishing.remove(id);
            self.dispatcher.close(id);
        }
        for (task, fence) in given_back {
            self.end_attempt(&task, fence, AttemptEnd::TakenBack);
        }
    }

    /// The lease is durable: it goes with the answer to the first who asked.
    pub(in crate::daemon::engine) fn give(&mut self, mut in_flight: InFlight, content: &Arc<str>) {
        let timeout_ms = in_flight.ready.timeout_ms;
        let (id, fence, bot) = (
            in_flight.ready.id.clone(),
            in_flight.fence,
            in_flight.bot.clone(),
        );
        let granted = Granted {
            task: id.clone(),
            fence,
            content: content.clone(),
            timeout_ms,
            task_type: in_flight.ready.task_type,
            priority: in_flight.ready.priority,
        };
        in_flight.run = 0;
        in_flight.started_at = Some(self.wall());
        self.in_flight.insert(id.clone(), in_flight);
        let now = self.now();
        let wish = self.external.bots.get_mut(&bot).and_then(|entry| {
            entry.running.insert(id.clone(), Some(now));
            let mut wishes = entry.wishes.iter_mut();
            wishes.find(|wish| wish.got.len() < wish.max && !wish.reply.is_closed())
        });
        match wish {
            Some(wish) => {
                wish.got.push(granted);
                tracing::info!(event = "task_started", bot_id = %bot, task_id = %id, attempt = fence.attempt, "task started");
            }
            None => self.end_attempt(&id, fence, AttemptEnd::TakenBack),
        }
    }

    /// An attempt of it is over; its slot is free.
    pub(in crate::daemon::engine) fn external_ended(&mut self, bot: &Arc<str>, task: &TaskId) {
        let wall = self.wall();
        if let Some(entry) = self.external.bots.get_mut(bot) {
            entry.running.remove(task);
            if entry.tasks.is_empty() {
                entry.since = wall;
            }
            self.offer(bot);
        }
    }

    /// Whoever waits for tasks is told that none will come.
    pub(in crate::daemon::engine) fn stop_external(&mut self) {
        self.end_cancelled_external();
        for entry in self.external.bots.values_mut() {
            // Dropped replies say that the daemon stops.
            entry.wishes.retain(|wish| !wish.got.is_empty());
        }
    }
}
