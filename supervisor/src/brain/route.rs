//! Which bot, by score: the Python original's rule, and what was learned on top of it.
//!
//! ```text
//! score = 0.6 * (1 - load / max) + 0.4 * success_rate          the original's
//!       + 0.1 * success_rate * fastest / seconds               on its kind of work
//!       + 0.2 for the bot that is recommended                  with enough confidence
//! or    + 0.31 for one of which too little is known            so that it is tried, until it fails
//! ```
//!
//! The best wins, of equals the one that was registered first. The lower lines count only where
//! `feature_flags.adaptive_scheduling_enabled` is on and enough is known of some candidate. They weigh
//! less than a free bot against a busy one, so that nobody waits for a favourite. One choice in
//! [`EXPLORE_SHARE`] goes to the candidate that was tried longest ago, so that a bad start does not last
//! for ever. Nothing is tried on a task that has failed before: its attempts are counted. Who fails more
//! often than not sets no pace.
//!
//! The success rate is a moving average over all of a bot's results with weight 0.05 on the newest, and
//! starts at 1.

use std::sync::Arc;

use deia::api::Reason;
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::learn::{Known, Ranking, Rules};

/// Weight of a free bot.
const LOAD_WEIGHT: f64 = 0.6;

/// Weight of a bot that succeeds.
const SUCCESS_WEIGHT: f64 = 0.4;

/// Weight of the fastest bot.
const SPEED_WEIGHT: f64 = 0.1;

/// What a recommendation adds.
const RECOMMENDED: f64 = 0.2;

/// What is added for a bot of which too little is known: it goes before the best that is known.
const UNTRIED: f64 = SPEED_WEIGHT + RECOMMENDED + 0.01;

/// Success rate from which on a bot's time counts as a pace.
const SETS_THE_PACE: f64 = 0.5;

/// Weight of the newest result in the success rate.
const NEWEST: f64 = 0.05;

/// Seconds that tell nothing: all that take less are as fast as each other.
const INSTANT: f64 = 0.01;

/// One choice in this many tries a bot rather than takes the best.
pub const EXPLORE_SHARE: u64 = 20;

/// ... if nothing was learned of it for this many seconds.
pub const EXPLORE_AFTER: f64 = 60.0;

/// Candidates that are remembered with a choice.
pub const REMEMBERED: usize = 5;

/// A bot that could take the task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Tasks it has.
    pub load: u32,
    /// Tasks it may have.
    pub max: u32,
    /// Moving average of its results, 0-1.
    pub success_rate: f64,
    /// What was learned of it on this kind of work.
    pub known: Option<Known>,
}

impl Candidate {
    /// The original's score; `None` when it is full.
    pub fn score(&self) -> Option<f64> {
        (self.load < self.max).then(|| {
            (1.0 - f64::from(self.load) / f64::from(self.max)) * LOAD_WEIGHT
                + self.success_rate * SUCCESS_WEIGHT
        })
    }
}

/// What a choice is made by, beside the candidates.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How it is learned.
    pub rules: Rules,
    /// Whether it is the turn of one that was tried long ago.
    pub explore: bool,
    /// The task has failed before: nothing is tried on it.
    pub failed: bool,
    /// Now.
    pub now: Timestamp,
}

/// Why a bot was chosen, as it is kept with the attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighing {
    /// Why.
    pub reason: Reason,
    /// What the bot came to.
    pub score: f64,
    /// What the decision took.
    pub microseconds: u64,
    /// How many could have had it.
    pub of: u32,
    /// The best of them, the best first.
    pub best: Vec<Weighed>,
}

impl Weighing {
    /// As the store keeps it.
    pub fn to_text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// From there; `None` where it is another release's.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// A candidate as it was weighed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// The bot.
    pub bot: Arc<str>,
    /// What it came to.
    pub score: f64,
    /// Tasks it had.
    pub load: u32,
    /// Tasks it may have.
    pub max: u32,
    /// Moving average of its results, 0-1.
    pub rate: f64,
    /// What such a task takes it, in seconds, where enough were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// It was recommended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rec: bool,
}

/// The choice among candidates that are named by `name` only where they are remembered; `candidates` gives
/// each with its place, and is gone through twice. Returns the place of the chosen one; `None` when all are full.
///
/// It keeps the best few as it goes: with a hundred bots, what is written down for each of them costs more
/// than the choice.
pub fn choose(
    candidates: impl Iterator<Item = (usize, Candidate)> + Clone,
    name: impl Fn(usize) -> Arc<str>,
    terms: &Terms,
) -> Option<(usize, Weighing)> {
    let learned = Learned::of(candidates.clone(), terms);
    let explore = terms.explore && terms.rules.steers && !terms.failed;
    let mut best = Best::default();
    let (mut plain, mut stale): (Option<Scored>, Option<Scored>) = (None, None);
    let mut of: u32 = 0;
    for (place, candidate) in candidates {
        let Some(score) = candidate.score() else {
            continue;
        };
        of = of.saturating_add(1);
        let bare = Scored {
            place,
            score,
            candidate,
        };
        if plain.is_none_or(|top| score > top.score) {
            plain = Some(bare);
        }
        let scored = Scored {
            score: score + learned.adds(place, &candidate),
            ..bare
        };
        if explore && stale.is_none_or(|oldest| scored.learned_at() < oldest.learned_at()) {
            stale = Some(scored);
        }
        best.add(scored);
    }
    let (plain, top) = (plain?, best.first()?);
    let is_stale = |scored: &Scored| {
        let last = scored.learned_at();
        last.is_none_or(|at| terms.now.seconds_since(at) >= EXPLORE_AFTER)
    };
    let (chosen, reason) = match stale.filter(is_stale) {
        _ if of == 1 => (top, Reason::OnlyOne),
        Some(stale) if stale.place != top.place => (stale, Reason::Explored),
        _ if top.place != plain.place && learned.is_untried(&top.candidate) => {
            (top, Reason::Explored)
        }
        _ if top.place != plain.place => (top, Reason::Recommended),
        _ => (top, Reason::BestScore),
    };
    best.remember(chosen);
    let weighed = |scored: &Scored| Weighed {
        bot: name(scored.place),
        score: scored.score,
        load: scored.candidate.load,
        max: scored.candidate.max,
        rate: scored.candidate.success_rate,
        seconds: enough(&scored.candidate, terms.rules).map(|known| known.seconds),
        rec: learned.recommended == Some(scored.place),
    };
    let weighing = Weighing {
        reason,
        score: chosen.score,
        microseconds: 0,
        of,
        best: best.iter().map(weighed).collect(),
    };
    Some((chosen.place, weighing))
}

/// A candidate and what it came to.
#[derive(Debug, Clone, Copy)]
struct Scored {
    place: usize,
    score: f64,
    candidate: Candidate,
}

impl Scored {
    /// When something was last learned of it; never is the longest ago.
    fn learned_at(&self) -> Option<Timestamp> {
        self.candidate.known.map(|known| known.updated_at)
    }
}

/// The best few so far, the best first; of equals the one that came first.
#[derive(Debug, Default)]
struct Best([Option<Scored>; REMEMBERED]);

impl Best {
    fn add(&mut self, scored: Scored) {
        let is_behind = |there: &Option<Scored>| there.is_none_or(|t| scored.score > t.score);
        let Some(at) = self.0.iter().position(is_behind) else {
            return;
        };
        let behind = &mut self.0[at..];
        behind.rotate_right(1);
        behind[0] = Some(scored);
    }

    fn first(&self) -> Option<Scored> {
        self.0.first().copied().flatten()
    }

    /// The chosen one is among them, if need be in place of the last.
    fn remember(&mut self, chosen: Scored) {
        let is_there = self.iter().any(|scored| scored.place == chosen.place);
        if !is_there && let Some(last) = self.0.last_mut() {
            *last = Some(chosen);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Scored> {
        self.0.iter().flatten()
    }
}

/// What was learned of these candidates.
struct Learned {
    fastest: Option<f64>,
    recommended: Option<usize>,
    rules: Rules,
    /// Whether something may be tried.
    tries: bool,
}

impl Learned {
    fn of(candidates: impl Iterator<Item = (usize, Candidate)>, terms: &Terms) -> Self {
        let rules = terms.rules;
        let mut learned = Self {
            fastest: None,
            recommended: None,
            rules,
            tries: !terms.failed,
        };
        if !rules.steers {
            return learned;
        }
        let (mut ranking, mut compared) = (Ranking::default(), 0);
        for (place, candidate) in candidates {
            let known = enough(&candidate, rules).filter(|_| candidate.load < candidate.max);
            let Some(known) = known else {
                continue;
            };
            if known.success_rate >= SETS_THE_PACE {
                let seconds = known.seconds.max(INSTANT);
                learned.fastest = Some(learned.fastest.map_or(seconds, |f| f.min(seconds)));
            }
            ranking.add(place, &known);
            compared += 1;
        }
        // The only one that is known is no better than others for it.
        let (place, confidence) = ranking.best().unzip();
        let sure = compared > 1 && confidence.is_some_and(|c| c >= rules.min_confidence);
        learned.recommended = place.filter(|_| sure);
        learned
    }

    fn adds(&self, place: usize, candidate: &Candidate) -> f64 {
        let Some(fastest) = self.fastest else {
            return 0.0;
        };
        let Some(known) = enough(candidate, self.rules) else {
            let untried = self.is_untried(candidate);
            return if untried { UNTRIED } else { 0.0 };
        };
        let recommended = f64::from(u8::from(self.recommended == Some(place)));
        let speed = (fastest / known.seconds.max(INSTANT)).min(1.0) * known.success_rate;
        SPEED_WEIGHT * speed + RECOMMENDED * recommended
    }

    fn is_untried(&self, candidate: &Candidate) -> bool {
        self.tries
            && enough(candidate, self.rules).is_none()
            && candidate
                .known
                .is_none_or(|known| known.success_rate >= 1.0)
    }
}

fn enough(candidate: &Candidate, rules: Rules) -> Option<Known> {
    candidate
        .known
        .filter(|known| known.samples >= rules.min_samples)
}

/// The success rate after one more result.
pub fn success_rate_after(rate: f64, succeeded: bool) -> f64 {
    rate * (1.0 - NEWEST) + f64::from(u8::from(succeeded)) * NEWEST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(load: u32, max: u32, success_rate: f64) -> Candidate {
        Candidate {
            load,
            max,
            success_rate,
            known: None,
        }
    }

    fn known(seconds: f64, success_rate: f64, at_second: i64) -> Option<Known> {
        Some(Known {
            samples: 3,
            seconds,
            success_rate,
            updated_at: Timestamp::from_micros(at_second * 1_000_000),
        })
    }

    fn terms(explore: bool) -> Terms {
        Terms {
            rules: Rules::default(),
            explore,
            failed: false,
            now: Timestamp::from_micros(100_000_000),
        }
    }

    fn chosen(candidates: &[Candidate], terms: &Terms) -> Option<(usize, Weighing)> {
        let candidates = candidates.iter().copied().enumerate();
        choose(candidates, |place| place.to_string().into(), terms)
    }

    /// The original's cases 14, 17 and 19.
    #[test]
    fn the_table_of_cases() {
        assert_eq!(chosen(&[], &terms(false)), None);
        let (a, b) = (candidate(1, 3, 1.0), candidate(0, 3, 0.4));
        let (place, weighing) = chosen(&[a, b], &terms(false)).unwrap();
        assert_eq!((place, weighing.reason), (0, Reason::BestScore));
        assert!((weighing.score - 0.80).abs() < 1e-9, "{weighing:?}");
        assert!((weighing.best[1].score - 0.76).abs() < 1e-9);
        assert_eq!(chosen(&[candidate(3, 3, 1.0)], &terms(false)), None);
        assert_eq!(chosen(&[candidate(0, 0, 1.0)], &terms(false)), None);
        let same = [candidate(0, 1, 1.0); 2];
        assert_eq!(chosen(&same, &terms(false)).unwrap().0, 0);
        let one = [candidate(3, 3, 1.0), candidate(2, 3, 1.0)];
        let (place, weighing) = chosen(&one, &terms(true)).unwrap();
        assert_eq!((place, weighing.reason), (1, Reason::OnlyOne));
        assert_eq!((weighing.of, weighing.best.len()), (1, 1));
    }

    /// The original's case 22.
    #[test]
    fn success_is_a_moving_average() {
        let mut rate = 1.0;
        for (result, expected) in [
            (false, 0.95),
            (false, 0.9025),
            (true, 0.907375),
            (true, 0.91200625),
        ] {
            rate = success_rate_after(rate, result);
            assert!((rate - expected).abs() < 1e-12, "{rate} {expected}");
        }
    }

    #[test]
    fn what_was_learned_steers_unless_it_is_off() {
        let mut bots = [candidate(0, 1, 1.0); 3];
        bots[0].known = known(10.0, 0.5, 0);
        bots[1].known = known(10.0, 1.0, 0);
        let (place, weighing) = chosen(&bots[..2], &terms(false)).unwrap();
        assert_eq!((place, weighing.reason), (1, Reason::Recommended));
        assert!(weighing.best[0].rec && !weighing.best[1].rec);
        let mut off = terms(false);
        off.rules.steers = false;
        let (place, weighing) = chosen(&bots[..2], &off).unwrap();
        assert_eq!((place, weighing.reason), (0, Reason::BestScore));
        // Too little confidence, and as fast: the first.
        bots[0].known = known(10.0, 1.0, 0);
        assert_eq!(chosen(&bots[..2], &terms(false)).unwrap().0, 0);
        // The faster one, also without confidence.
        bots[0].known = known(20.0, 1.0, 0);
        let (place, weighing) = chosen(&bots[..2], &terms(false)).unwrap();
        assert_eq!((place, weighing.reason), (1, Reason::Recommended));
    }

    #[test]
    fn one_of_which_too_little_is_known_is_tried_before_the_best() {
        let mut bots = [candidate(0, 1, 1.0); 3];
        bots[0].known = known(1.0, 1.0, 99);
        let (place, weighing) = chosen(&bots[..2], &terms(false)).unwrap();
        assert_eq!((place, weighing.reason), (1, Reason::Explored));
        bots[1].known = known(1.0, 1.0, 99);
        bots[1].known.as_mut().unwrap().samples = 2;
        let place = |bots: &[Candidate], terms: &Terms| chosen(bots, terms).unwrap().0;
        assert_eq!(place(&bots[..2], &terms(false)), 1, "few are none");
        // Until it fails; and not on a task that has failed.
        bots[1].known.as_mut().unwrap().success_rate = 0.9;
        assert_eq!(place(&bots[..2], &terms(false)), 0);
        let mut again = terms(true);
        again.failed = true;
        bots[1].known = None;
        assert_eq!(place(&bots[..2], &again), 0);
        bots[1].known = known(1.0, 0.1, 99);
        let (place, weighing) = chosen(&bots[..2], &terms(false)).unwrap();
        assert_eq!((place, weighing.reason), (0, Reason::BestScore));
        assert!(weighing.best[0].rec);
        // Also before the one that is recommended, but not where it has more to do.
        assert_eq!(chosen(&bots, &terms(false)).unwrap().0, 2);
        (bots[2].load, bots[2].max) = (1, 2);
        assert_eq!(chosen(&bots, &terms(false)).unwrap().0, 0);
    }

    #[test]
    fn who_fails_fast_is_not_fast() {
        let mut bots = [candidate(0, 1, 1.0); 3];
        bots[0].known = known(0.01, 0.1, 99);
        bots[1].known = known(100.0, 1.0, 99);
        bots[2].known = known(10.0, 1.0, 99);
        let (place, weighing) = chosen(&bots, &terms(false)).unwrap();
        assert_eq!(place, 2, "{weighing:?}");
        assert!(weighing.best[0].score - weighing.best[1].score > 0.05);
    }

    #[test]
    fn nobody_waits_for_a_favourite() {
        let mut favourite = candidate(2, 3, 1.0);
        favourite.known = known(1.0, 1.0, 0);
        let mut free = candidate(0, 3, 1.0);
        free.known = known(900.0, 1.0, 0);
        assert_eq!(chosen(&[favourite, free], &terms(false)).unwrap().0, 1);
    }

    #[test]
    fn now_and_then_the_longest_untried_is_tried() {
        let mut bots = [candidate(0, 1, 1.0); 3];
        bots[0].known = known(1.0, 1.0, 99);
        bots[1].known = known(9.0, 0.1, 20);
        bots[2].known = known(9.0, 0.1, 10);
        assert_eq!(chosen(&bots, &terms(false)).unwrap().0, 0);
        let (place, weighing) = chosen(&bots, &terms(true)).unwrap();
        assert_eq!((place, weighing.reason), (2, Reason::Explored));
        // Of whom nothing is known first; not one that was tried a moment ago.
        bots[1].known = None;
        assert_eq!(chosen(&bots, &terms(true)).unwrap().0, 1);
        bots[1].known = known(9.0, 0.1, 98);
        bots[2].known = known(9.0, 0.1, 97);
        let (place, weighing) = chosen(&bots, &terms(true)).unwrap();
        assert_eq!((place, weighing.reason), (0, Reason::BestScore));
        let mut off = terms(true);
        off.rules.steers = false;
        bots[2].known = None;
        assert_eq!(chosen(&bots, &off).unwrap().1.reason, Reason::BestScore);
    }

    #[test]
    fn the_chosen_one_is_always_remembered() {
        let mut bots = [candidate(0, 2, 1.0); 9];
        for bot in &mut bots[..8] {
            bot.known = known(1.0, 1.0, 99);
        }
        bots[8].load = 1;
        let (place, weighing) = chosen(&bots, &terms(true)).unwrap();
        assert_eq!((place, weighing.reason), (8, Reason::Explored));
        assert_eq!((weighing.of, weighing.best.len()), (9, REMEMBERED));
        assert_eq!(&*weighing.best[REMEMBERED - 1].bot, "8");
        assert_eq!(weighing.score, weighing.best[REMEMBERED - 1].score);
        let text = weighing.to_text().unwrap();
        assert_eq!(Weighing::from_text(&text), Some(weighing));
        assert_eq!(Weighing::from_text("{}"), None);
        assert!(text.len() < 700, "{} bytes: {text}", text.len());
    }
}
