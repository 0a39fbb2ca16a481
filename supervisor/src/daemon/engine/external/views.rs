//! External bots as people see them.

use deia::api::{BotActionAnswer, BotView, ObstacleView};
use deia::bot::Wanted;
use deia::task::TaskId;
use deia::time::Timestamp;

use super::{Entry, Wish};
use crate::brain::demand::Demand;
use crate::brain::dispatch::Obstacle;
use crate::brain::external::State;
use crate::daemon::command::BotAct;
use crate::daemon::engine::Engine;

impl Engine {
    /// What can be done with one by hand; `None` where it is none of these.
    pub(in crate::daemon::engine) fn act_on_external(
        &mut self,
        id: &str,
        act: BotAct,
    ) -> Option<BotActionAnswer> {
        let actual = self.external.bots.get(id)?.actual();
        let (success, message) = match act {
            BotAct::Interrupt => {
                let tasks: Vec<TaskId> = self.running_of(id).into_iter().map(|(t, _)| t).collect();
                let told = self.interrupt(&tasks);
                let message =
                    format!("{told} running tasks are queued again; it is told with its next heartbeat");
                (true, message)
            }
            BotAct::Start | BotAct::Stop | BotAct::Restart => (
                false,
                "it is an external bot: it is started and stopped where it runs; `deiactl bot unregister` takes it out of the fleet".to_owned(),
            ),
        };
        Some(BotActionAnswer {
            success,
            bot_id: id.to_owned(),
            actual,
            message,
        })
    }

    /// External bots, as people see them.
    pub(in crate::daemon::engine) fn external_views(&self) -> impl Iterator<Item = BotView> {
        self.external.bots.iter().map(|(id, entry)| {
            let of = &entry.registration;
            BotView {
                id: id.to_string(),
                pool: "external".to_owned(),
                bot_type: of.bot_type,
                specializations: of.specializations.clone(),
                wanted: match entry.presence.state() {
                    State::Absent => Wanted::Stopped,
                    State::Awaited | State::Present => Wanted::Running,
                },
                actual: entry.actual(),
                pid: None,
                since: entry.since,
                restarts: 0,
                tasks: entry.tasks.keys().map(ToString::to_string).collect(),
                max_concurrent: of.max_concurrent,
                success_rate: self.dispatcher.success_rate(id),
                cpu_percent: None,
                memory_bytes: None,
                backend: "external".to_owned(),
                sandbox: None,
                last_exit: None,
                next_start_at: None,
                blocked_by: Vec::new(),
                version: None,
                explanation: self.explain_external(id, entry),
                recent_ends: 0,
                ends: Vec::new(),
                progress_at: entry.progress_at,
            }
        })
    }

    pub(super) fn explain_external(&self, id: &str, entry: &Entry) -> String {
        if let Some(pool) = self.pool_with(id) {
            return format!(
                "it gets no tasks: the pool {pool} has bots of this name; rename one of them"
            );
        }
        let ago = |at: Timestamp| self.wall().seconds_since(at).max(0.0);
        match (entry.presence.state(), entry.heard_at) {
            (State::Absent, None) => "it has not been heard of since the daemon started".to_owned(),
            (State::Absent, Some(at)) => format!("it was last heard of {:.0} s ago", ago(at)),
            (State::Awaited, _) => {
                "it has tasks of an earlier daemon, and its time to come back".to_owned()
            }
            (State::Present, _) if entry.wishes.iter().any(Wish::is_open) => {
                "it asks for tasks".to_owned()
            }
            (State::Present, Some(at)) => format!("it was heard of {:.0} s ago", ago(at)),
            (State::Present, None) => String::new(),
        }
    }

    /// Why each does not have a task that asks for this.
    pub(in crate::daemon::engine) fn external_obstacles(
        &self,
        demand: &Demand,
    ) -> impl Iterator<Item = ObstacleView> {
        self.external.bots.iter().map(move |(id, entry)| {
            let obstacle = self.dispatcher.obstacle(id, id, demand);
            let why = match obstacle {
                Obstacle::Unsuitable => "it can't do such a task".to_owned(),
                Obstacle::AnotherIsNamed => "the task asks for another bot".to_owned(),
                Obstacle::TriesAlone => {
                    "it has a task that has lost bots before and is tried alone".to_owned()
                }
                Obstacle::Full(n) if n >= entry.registration.max_concurrent => {
                    format!("it has {n} tasks, which is all it takes")
                }
                Obstacle::Closed | Obstacle::Full(_) => format!(
                    "it does not ask for tasks now: {}",
                    self.explain_external(id, entry)
                ),
                Obstacle::ServerFull(_) | Obstacle::ServerDown | Obstacle::OthersFirst => {
                    "it is free: tasks before this one are first".to_owned()
                }
            };
            ObstacleView {
                bot_id: id.to_string(),
                pool: "external".to_owned(),
                suitable: !matches!(obstacle, Obstacle::Unsuitable | Obstacle::AnotherIsNamed),
                why,
            }
        })
    }
}
