//! Why a task is where it is.

use deia::api::ObstacleView;
use deia::task::TaskId;

use super::Engine;
use crate::brain::demand::Demand;
use crate::brain::dispatch::Obstacle;
use crate::daemon::command::Outlook;

impl Engine {
    /// Of a task; `demand`: what it asks for, where it waits.
    pub(super) fn outlook(&self, id: &TaskId, demand: Option<&Demand>) -> Outlook {
        let attempt = self.in_flight.get(id);
        Outlook {
            // Also where its end is on the way to the disk: the reason goes there with it.
            running: attempt.map(|attempt| (attempt.fence.attempt, attempt.weighing.clone())),
            obstacles: demand.map_or_else(Vec::new, |demand| self.obstacles(demand)),
            held: demand
                .and_then(|demand| self.dispatcher.holds(demand))
                .map(str::to_owned),
        }
    }

    /// Every bot, and why it does not have a task that asks for this.
    fn obstacles(&self, demand: &Demand) -> Vec<ObstacleView> {
        let of_bot = |id: &std::sync::Arc<str>| {
            let entry = self.bots.get(id)?;
            let obstacle = self.dispatcher.obstacle(id, &entry.spec.name, demand);
            let why = match obstacle {
                Obstacle::Unsuitable => "its pool can't do such a task".to_owned(),
                Obstacle::AnotherIsNamed => "the task asks for another bot".to_owned(),
                Obstacle::Closed => format!("it takes no tasks: {}", self.explanation(id, entry)),
                Obstacle::TriesAlone => {
                    "it has a task that has lost bots before and is tried alone".to_owned()
                }
                Obstacle::Full(1) => "it has a task, and takes one at a time".to_owned(),
                Obstacle::Full(n) => format!("it has {n} tasks, which is all it takes"),
                Obstacle::ServerFull(n) => {
                    format!("its model server has {n} requests, which is all it takes")
                }
                Obstacle::ServerDown => "its model server does not answer".to_owned(),
                Obstacle::OthersFirst => "it is free: tasks before this one are first".to_owned(),
            };
            Some(ObstacleView {
                bot_id: id.to_string(),
                pool: entry.spec.name.clone(),
                suitable: !matches!(obstacle, Obstacle::Unsuitable | Obstacle::AnotherIsNamed),
                why,
            })
        };
        let of_pools = self.order.iter().filter_map(of_bot);
        of_pools.chain(self.external_obstacles(demand)).collect()
    }
}
