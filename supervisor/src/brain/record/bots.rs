//! What each bot's attempts came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ENDS, End, TYPES};
use crate::brain::Millis;

/// Bots that are remembered: more than there can be at once, for names change with the configuration.
pub const MAX_BOTS_REMEMBERED: usize = 2048;

/// A slot of the last hour.
const SLOT: Millis = 5 * 60_000;
/// How many there are.
const SLOTS: usize = 12;

/// One bot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BotRecord {
    /// Attempts by kind of task and how they ended.
    pub ends: [[u64; ENDS]; TYPES],
    /// How long those took that a backend worked on, in microseconds.
    pub ran: u64,
    /// How many those were.
    pub runs: u64,
    /// Attempts that failed or were lost since the last that succeeded.
    pub failures_in_a_row: u32,
    last: Millis,
    hour: Hour,
}

/// Ends and failures of the last hour, in slots of five minutes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Hour {
    /// The newest slot's number, from the daemon's start.
    newest: u64,
    slots: [(u32, u32); SLOTS],
}

impl Hour {
    fn turn(&mut self, now: Millis) {
        let number = now / SLOT;
        let gone = number.saturating_sub(self.newest).min(SLOTS as u64);
        for n in 0..gone {
            let index = ((number - n) % SLOTS as u64) as usize;
            if let Some(slot) = self.slots.get_mut(index) {
                *slot = (0, 0);
            }
        }
        self.newest = self.newest.max(number);
    }

    fn add(&mut self, now: Millis, failed: bool) {
        self.turn(now);
        let index = (self.newest % SLOTS as u64) as usize;
        if let Some((ends, failures)) = self.slots.get_mut(index) {
            *ends += 1;
            *failures += u32::from(failed);
        }
    }

    fn sum(&self, now: Millis) -> (u64, u64) {
        let mut turned = self.clone();
        turned.turn(now);
        let add = |(a, b): (u64, u64), (x, y): &(u32, u32)| (a + u64::from(*x), b + u64::from(*y));
        turned.slots.iter().fold((0, 0), add)
    }
}

impl BotRecord {
    /// An attempt ended; `ran` in microseconds where a backend worked on it.
    fn ended(&mut self, now: Millis, end: End, task_type: usize, ran: Option<u64>) {
        if let Some(count) = self
            .ends
            .get_mut(task_type)
            .and_then(|ends| ends.get_mut(end.index()))
        {
            *count += 1;
        }
        if let Some(ran) = ran {
            self.ran = self.ran.saturating_add(ran);
            self.runs += 1;
        }
        self.last = now;
        let failed = matches!(end, End::Failed | End::Lost);
        match end {
            End::Succeeded => self.failures_in_a_row = 0,
            End::Failed | End::Lost => self.failures_in_a_row += 1,
            End::Interrupted | End::Cancelled => return,
        }
        self.hour.add(now, failed);
    }

    /// Attempts of the last hour that ended by themselves, and how many of them failed.
    pub fn last_hour(&self, now: Millis) -> (u64, u64) {
        self.hour.sum(now)
    }
}

/// Every bot that had an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bots(BTreeMap<Arc<str>, BotRecord>);

impl Bots {
    /// An attempt of a bot ended.
    pub fn ended(
        &mut self,
        now: Millis,
        bot: &Arc<str>,
        end: End,
        task_type: usize,
        ran: Option<u64>,
    ) {
        if let Some(known) = self.0.get_mut(bot) {
            return known.ended(now, end, task_type, ran);
        }
        if self.0.len() >= MAX_BOTS_REMEMBERED {
            let quietest = self.0.iter().min_by_key(|(_, bot)| bot.last);
            if let Some(name) = quietest.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
        let record = self.0.entry(bot.clone()).or_default();
        record.ended(now, end, task_type, ran);
    }

    /// One of them.
    pub fn get(&self, bot: &str) -> Option<&BotRecord> {
        self.0.get(bot)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BotRecord)> {
        self.0.iter().map(|(name, record)| (&**name, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hour_forgets_what_was_before() {
        let mut bots = Bots::default();
        let name: Arc<str> = "b".into();
        bots.ended(0, &name, End::Failed, 0, Some(5));
        bots.ended(SLOT, &name, End::Failed, 1, None);
        bots.ended(SLOT, &name, End::Cancelled, 1, None);
        let bot = bots.get("b").unwrap();
        assert_eq!(bot.last_hour(SLOT), (2, 2));
        assert_eq!(bot.last_hour(12 * SLOT), (1, 1));
        assert_eq!(bot.last_hour(13 * SLOT), (0, 0));
        assert_eq!((bot.failures_in_a_row, bot.runs, bot.ran), (2, 1, 5));
        bots.ended(40 * SLOT, &name, End::Succeeded, 0, Some(7));
        let bot = bots.get("b").unwrap();
        assert_eq!(
            (bot.last_hour(40 * SLOT), bot.failures_in_a_row),
            ((1, 0), 0)
        );
        assert_eq!(bot.ends[0][End::Failed.index()], 1);
    }

    #[test]
    fn names_that_come_and_go_take_no_more_than_their_place() {
        let mut bots = Bots::default();
        for n in 0..3000_u64 {
            bots.ended(n, &format!("bot-{n}").into(), End::Succeeded, 0, None);
        }
        assert_eq!(bots.iter().count(), MAX_BOTS_REMEMBERED);
        assert!(bots.get("bot-0").is_none() && bots.get("bot-2999").is_some());
    }
}
