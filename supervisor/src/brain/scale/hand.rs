//! Steps an operator asks for.

use std::cmp::Reverse;

use super::round::Round;
use super::words::{Hold, Why};

impl Round<'_> {
    /// As many more or fewer as an operator wants and the limits allow; why not all.
    pub fn by_hand(&mut self, pool: Option<usize>, change: i64) -> Option<String> {
        let mut short = None;
        let all: Vec<usize> = (0..self.drafts.len()).collect();
        let among: Vec<usize> = pool.map_or(all, |pool| vec![pool]);
        for _ in 0..change.unsigned_abs() {
            let step = match change > 0 {
                true => self.one_more_of(&among),
                false => self.one_less_of(&among),
            };
            let Some(pool) = step else {
                let mut holds = self.drafts.iter().filter_map(|draft| draft.hold.as_ref());
                short = holds.next_back().map(ToString::to_string);
                break;
            };
            match change > 0 {
                true => self.add(pool, Why::ByHand),
                false => self.remove(pool, Why::ByHand),
            }
        }
        for draft in &mut self.drafts {
            if draft.count != draft.before {
                draft.memory.idle_since = None;
            }
        }
        short
    }

    /// Where most tasks wait for each bot; the first of equals.
    fn one_more_of(&mut self, pools: &[usize]) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for pool in pools.iter().copied() {
            match self.room(pool) {
                Ok(()) => {
                    let bots = self.pressure.supply(pool).max(1);
                    let per_bot = self.pressure.left(pool) as f64 / f64::from(bots);
                    if best.is_none_or(|(_, most)| per_bot > most) {
                        best = Some((pool, per_bot));
                    }
                }
                Err(hold) => self.drafts[pool].hold = Some(hold),
            }
        }
        best.map(|(pool, _)| pool)
    }

    /// Where least is to be done; the last of equals.
    fn one_less_of(&mut self, pools: &[usize]) -> Option<usize> {
        let mut candidates = pools.to_vec();
        candidates.retain(|pool| self.drafts[*pool].count > 0);
        candidates.sort_by_key(|pool| {
            let (figures, draft) = (self.figures(*pool), &self.drafts[*pool]);
            let bots = figures.supply().saturating_sub(draft.before - draft.count);
            let spare = i64::from(bots * figures.slots) - i64::from(figures.busy);
            (self.is_waited_for(*pool), Reverse(spare), Reverse(*pool))
        });
        let found = candidates
            .iter()
            .find(|pool| self.is_plan(&[(**pool, -1)]))
            .copied();
        if found.is_none() {
            for pool in pools {
                self.drafts[*pool].hold = Some(Hold::Minimum);
            }
        }
        found
    }
}
