//! A model server that goes away and comes back, and whoever asks whether it is there.
//!
//! Two pools have nothing else. While it is away and the daemon knows, their bots are given nothing; what they were given
//! before waits again and has not failed. An attempt counts only where a probe had just said that the server is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Engine;
use super::world::{Happening, World};
use crate::daemon::command::Command;
use crate::daemon::vitals::AskHealth;

/// What was answered of each server.
pub(super) type Answers = Vec<(Arc<str>, Result<(), String>)>;

/// Pools that have nothing but the server.
pub(super) const SERVED: [&str; 2] = ["dev", "plan"];

/// The longest it is away.
const AWAY_MS: u64 = 40_000;

/// Leases that are decided and not yet durable, of each pool that waits for its server.
pub(super) type Deciding = BTreeMap<String, usize>;

/// Whether this bot's work is the server's.
pub(super) fn is_served(bot: &str) -> bool {
    let rest = SERVED.iter().find_map(|pool| bot.strip_prefix(pool));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

impl World {
    pub(super) fn server_goes(&mut self) {
        self.server_is_away = true;
        self.outages += 1;
        let after = self.within(200, AWAY_MS);
        self.later(after, Happening::ServerComes);
    }

    /// Somebody asks the servers now; what they answer is known a little later.
    pub(super) fn probes(&mut self) {
        let Some(engine) = self.engine() else { return };
        let probing = engine.probing.borrow().clone();
        let answer = match self.server_is_away {
            true => Err("nobody is there".to_owned()),
            false => Ok(()),
        };
        let urls = probing.servers.into_iter().map(|server| server.url);
        let answers = urls.map(|url| (url, answer.clone())).collect();
        let after = self.within(0, 20);
        self.later(after, Happening::Probed(self.incarnation(), answers));
        let again = match probing.is_urgent {
            true => 1_000,
            false => self.within(2_000, 15_000),
        };
        self.later(again, Happening::Probes(self.incarnation()));
    }

    pub(super) fn probed(&mut self, answers: Answers) {
        let told = Command::Health(AskHealth::Probed(answers));
        self.turn(|engine| engine.command(told));
    }

    /// Nothing is decided for a bot whose pool waits for its server, before a turn and after it. What was decided
    /// before the answer came may still become durable.
    pub(super) fn judge_held(&mut self, before: &Deciding, after: &Deciding) {
        for (pool, now) in after {
            let Some(had) = before.get(pool) else {
                continue;
            };
            self.held_turns += 1;
            if now > had {
                let why = format!("a task was given to pool {pool}, whose server is away");
                self.judge.complaints.push(why);
            }
        }
    }
}

/// What is being decided for pools that wait for their server: the places taken, without those of work that is given.
pub(super) fn deciding(engine: &Engine) -> Deciding {
    let held = engine.servers.held();
    let pools = engine.config.bots.iter().zip(held);
    let held = pools.filter(|(_, why)| why.is_some());
    held.map(|(pool, _)| {
        let bots = engine.bots.iter();
        let bots = bots.filter(|(_, entry)| entry.spec.name == pool.name);
        let taken: usize = bots
            .map(|(bot, _)| {
                let given = engine.in_flight.values().filter(|work| work.bot == *bot);
                (engine.dispatcher.load(bot) as usize).saturating_sub(given.count())
            })
            .sum();
        (pool.name.clone(), taken)
    })
    .collect()
}
