//! What waits, and who could take it, as scaling sees it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use deia::time::Timestamp;

use super::Dispatcher;
use crate::brain::scale::{Asked, Backlog};
use crate::brain::window::Lane;

impl Dispatcher {
    /// To be called once after each turn: whether tasks have begun to wait that no bot takes that is
    /// there now.
    pub fn begins_unserved(&mut self, now: Timestamp) -> bool {
        let mut unserved = false;
        for demand in std::mem::take(&mut self.fresh) {
            let Some(lane) = self.lanes.get_mut(&demand) else {
                continue;
            };
            // A bot took it in the same turn.
            if lane.unclaimed() == 0 {
                continue;
            }
            lane.since = Some(now);
            // Whom nobody can start, nothing can be done about.
            let mut pools = self.pools.iter().zip(&lane.served_by);
            if pools.all(|(pool, serves)| pool.is_external || !serves) {
                continue;
            }
            let only = lane.demand.bot.as_deref();
            unserved |= !self.slots.iter().any(|slots| {
                let serves = |pool| lane.served_by.get(pool) == Some(&true);
                slots.open
                    && slots.alone.is_none()
                    && slots.pool.is_some_and(serves)
                    && only.is_none_or(|bot| *slots.bot == *bot)
            });
        }
        unserved
    }

    /// Everything that waits, put together by who could take it. `stands` says how a bot stands that
    /// tasks ask for by name.
    pub fn backlogs(&self, now: Timestamp, stands: impl Fn(&str) -> Asked) -> Vec<Backlog> {
        let mut backlogs: BTreeMap<(&[bool], Option<&str>), Backlog> = BTreeMap::new();
        for lane in self.lanes.values().filter(|lane| lane.unclaimed() > 0) {
            let bot = lane.demand.bot.as_deref();
            let backlog = backlogs
                .entry((&lane.served_by, bot))
                .or_insert_with(|| Backlog {
                    pools: lane.served_by.clone(),
                    asked: bot.map(&stands),
                    waiting: 0,
                    oldest_seconds: 0.0,
                });
            backlog.waiting += lane.unclaimed();
            backlog.oldest_seconds = backlog.oldest_seconds.max(waited(lane, now));
        }
        backlogs.into_values().collect()
    }

    /// How long the oldest task has waited for a bot.
    pub fn oldest_seconds(&self, now: Timestamp) -> f64 {
        let lanes = self.lanes.values().filter(|lane| lane.unclaimed() > 0);
        lanes.map(|lane| waited(lane, now)).fold(0.0, f64::max)
    }

    /// The bots that waiting tasks ask for by name.
    pub fn asked_for(&self) -> HashSet<Arc<str>> {
        let lanes = self.lanes.values().filter(|lane| lane.unclaimed() > 0);
        lanes
            .filter_map(|lane| lane.demand.bot.as_deref().map(Arc::from))
            .collect()
    }

    /// Whether the pool's model server is asked as much as it takes, or does not answer.
    pub fn is_server_full(&self, pool: usize) -> bool {
        !self.has_room(pool)
    }
}

/// How long the oldest task of a lane has waited. One that was tried before, or had to wait for its
/// time, is older than that: it has waited no longer than its lane.
fn waited(lane: &Lane, now: Timestamp) -> f64 {
    let age = |since: Timestamp| now.seconds_since(since).max(0.0);
    let lane_waits = lane.since.map_or(0.0, age);
    lane.oldest().map_or(lane_waits, |task| {
        age(task.ready.submitted_at).min(lane_waits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brain::demand::PoolFacts;
    use crate::store::{Ready, Seq};
    use deia::bot::BotType;
    use deia::task::{Priority, TaskType};

    fn second(n: i64) -> Timestamp {
        Timestamp::from_micros(n * 1_000_000)
    }

    fn dispatcher(pools: &[(&str, BotType)]) -> Dispatcher {
        let facts = pools.iter().map(|(name, bot_type)| PoolFacts {
            name: (*name).into(),
            bot_type: *bot_type,
            specializations: Vec::new(),
            most_bots: 10,
            server: None,
            is_external: false,
        });
        let mut dispatcher = Dispatcher::default();
        dispatcher.configure(facts.collect());
        dispatcher
    }

    fn task(seq: Seq, kind: &str, bot: &str, submitted_at: Timestamp) -> Ready {
        Ready {
            seq,
            id: format!("t{seq}").parse().unwrap(),
            demand: format!("t={kind};n=a;p=;b={bot};c=general").into(),
            priority: Priority::P2,
            submitted_at,
            timeout_ms: 1000,
            max_attempts: 3,
            task_type: TaskType::General,
            scheduled: false,
            failed: false,
            losses: 0,
        }
    }

    fn seen(dispatcher: &Dispatcher, now: Timestamp) -> Vec<(Vec<bool>, u64, f64)> {
        let backlogs = dispatcher.backlogs(now, |_| Asked::Absent);
        let seen = backlogs
            .into_iter()
            .map(|b| (b.pools, b.waiting, b.oldest_seconds));
        seen.collect()
    }

    #[test]
    fn what_waits_is_put_together_by_who_could_take_it() {
        let mut dispatcher = dispatcher(&[("a", BotType::General), ("plan", BotType::Planner)]);
        dispatcher.add(task(1, "writing", "", second(0)), None);
        dispatcher.add(task(2, "analysis", "", second(1)), None);
        dispatcher.add(task(3, "planning", "", second(2)), None);
        dispatcher.begins_unserved(second(2));
        assert_eq!(
            seen(&dispatcher, second(5)),
            [(vec![true, false], 2, 3.0), (vec![true, true], 1, 3.0)]
        );
        dispatcher.add(task(4, "planning", "a-3", second(3)), None);
        let asked = dispatcher.backlogs(second(5), |bot| {
            assert_eq!(bot, "a-3");
            Asked::Serves
        });
        assert!(
            asked
                .iter()
                .any(|b| b.asked == Some(Asked::Serves) && b.pools == [true, false])
        );
        assert_eq!(dispatcher.asked_for(), HashSet::from(["a-3".into()]));
    }

    #[test]
    fn a_task_that_is_tried_again_has_not_waited_since_it_was_submitted() {
        let mut dispatcher = dispatcher(&[("a", BotType::General)]);
        dispatcher.add(task(1, "general", "", second(0)), None);
        assert!(dispatcher.begins_unserved(second(1000)));
        assert_eq!(seen(&dispatcher, second(1007)), [(vec![true], 1, 7.0)]);
        // One that comes later to a lane that waits is as old as it is.
        dispatcher.forget(&task(1, "general", "", second(0)));
        dispatcher.add(task(2, "general", "", second(1010)), None);
        dispatcher.begins_unserved(second(1010));
        dispatcher.add(task(3, "general", "", second(1015)), None);
        dispatcher.begins_unserved(second(1015));
        assert_eq!(seen(&dispatcher, second(1020)), [(vec![true], 2, 10.0)]);
    }

    #[test]
    fn who_begins_to_wait_without_a_bot_is_noticed_once() {
        let mut dispatcher = dispatcher(&[("a", BotType::General), ("plan", BotType::Planner)]);
        let a: Arc<str> = "a".into();
        dispatcher.open(&a, "a", 1);
        dispatcher.add(task(1, "planning", "", second(0)), None);
        dispatcher.add(task(2, "planning", "", second(0)), None);
        let choice = dispatcher.next(second(0)).unwrap();
        assert!(
            !dispatcher.begins_unserved(second(0)),
            "a takes it in its turn"
        );
        dispatcher.leased(&choice.waiting.ready);
        assert_eq!(seen(&dispatcher, second(0)), [(vec![true, true], 1, 0.0)]);
        dispatcher.close("a");
        dispatcher.add(task(3, "planning", "", second(0)), None);
        assert!(!dispatcher.begins_unserved(second(0)), "it waited before");
        dispatcher.add(task(4, "general", "", second(0)), None);
        assert!(dispatcher.begins_unserved(second(0)));
        assert!(!dispatcher.begins_unserved(second(0)));
        // By its name, another one is no help.
        dispatcher.open(&a, "a", 1);
        dispatcher.add(task(5, "general", "a-2", second(0)), None);
        assert!(dispatcher.begins_unserved(second(0)));
    }

    #[test]
    fn what_an_earlier_daemon_left_begins_to_wait_at_the_start() {
        let mut dispatcher = dispatcher(&[("a", BotType::General)]);
        let demand = task(1, "general", "", second(0)).demand;
        dispatcher.counted(&demand, [0, 0, 7, 0]);
        assert!(dispatcher.begins_unserved(second(100)));
        assert_eq!(seen(&dispatcher, second(130)), [(vec![true], 7, 30.0)]);
    }
}
