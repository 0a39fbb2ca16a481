//! What is learned of each bot on each kind of work: how long it takes, and how often it succeeds.
//!
//! ```text
//! first result       seconds = time, success_rate = 1 or 0
//! every later one    x = x * (1 - rate) + new * rate            rate: learning.learning_rate
//! score              0.4 * clamp(1 - seconds / 1000, 0, 1) + 0.6 * success_rate
//! confidence         0.8 for the only one; else min(1, best - next + 0.5)
//! ```
//!
//! The figures are the Python original's. Only bots with `learning.min_samples_for_recommendation`
//! results are recommended. What routing makes of it is in [`super::route`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use deia::api::{
    Alternative, BestRate, BestTime, Execution, Insights, Performance, Recommendation, TypeInsights,
};
use deia::config::Config;
use deia::task::TaskType;
use deia::time::Timestamp;

use super::route;
use crate::store::LearnedRow;

/// Bots something is kept of; of more, nothing is learned.
pub const MAX_BOTS: usize = 10_000;

/// Results kept as they came.
pub const MAX_HISTORY: usize = 1_000;

/// Alternatives that are named.
const ALTERNATIVES: usize = 3;

const TIME_WEIGHT: f64 = 0.4;
const SUCCESS_WEIGHT: f64 = 0.6;

/// Seconds at which a bot has no points left for its time.
const SLOWEST: f64 = 1_000.0;

/// Confidence in the only bot there is.
const ALONE: f64 = 0.8;

/// Confidence in the better one of equals.
const EVEN: f64 = 0.5;

/// How it is learned, and what is made of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Weight of the newest result.
    pub rate: f64,
    /// Results before a bot counts.
    pub min_samples: u64,
    /// Confidence below which a recommendation is not followed.
    pub min_confidence: f64,
    /// Whether it steers routing at all.
    pub steers: bool,
}

impl Rules {
    /// Of a configuration.
    pub fn of(config: &Config) -> Self {
        let learning = &config.learning;
        Self {
            rate: learning.learning_rate,
            min_samples: u64::from(learning.min_samples_for_recommendation).max(1),
            min_confidence: learning.min_confidence_threshold,
            steers: config.feature_flags.adaptive_scheduling_enabled,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// What is known of a bot on one kind of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// Results it was learned from.
    pub samples: u64,
    /// Moving average of the time one took.
    pub seconds: f64,
    /// Moving average of the results, 0-1.
    pub success_rate: f64,
    /// When the last one came.
    pub updated_at: Timestamp,
}

impl Known {
    /// What it is worth, 0-1.
    pub fn score(&self) -> f64 {
        TIME_WEIGHT * (1.0 - self.seconds / SLOWEST).clamp(0.0, 1.0)
            + SUCCESS_WEIGHT * self.success_rate
    }

    fn after(before: Option<Self>, result: &Sample, seconds: f64, rate: f64) -> Self {
        let success = f64::from(u8::from(result.succeeded));
        let (samples, seconds, success_rate) = match before {
            None => (1, seconds, success),
            Some(known) => (
                known.samples.saturating_add(1),
                known.seconds * (1.0 - rate) + seconds * rate,
                known.success_rate * (1.0 - rate) + success * rate,
            ),
        };
        Self {
            samples,
            seconds,
            success_rate,
            updated_at: result.at,
        }
    }
}

/// One result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The kind of work.
    pub task_type: TaskType,
    /// How long it took, where that is known.
    pub seconds: Option<f64>,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// When it came.
    pub at: Timestamp,
}

/// What is known of a bot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfBot {
    /// On each kind of work, by [`TaskType::ALL`]'s order.
    on: [Option<Known>; TaskType::ALL.len()],
    /// Moving average of all its results, see [`route::success_rate_after`].
    pub success_rate: f64,
    /// When the last one came.
    updated_at: Timestamp,
}

impl OfBot {
    /// On a kind of work.
    pub fn on(&self, task_type: TaskType) -> Option<Known> {
        self.on.get(task_type as usize).copied().flatten()
    }
}

impl Default for OfBot {
    fn default() -> Self {
        Self {
            on: [None; TaskType::ALL.len()],
            success_rate: 1.0,
            updated_at: Timestamp::default(),
        }
    }
}

/// The best of some bots of which enough is known, and the confidence in it; of equals the first.
#[derive(Debug, Clone, Copy)]
pub struct Ranking<T> {
    best: Option<(T, f64)>,
    next: Option<f64>,
}

impl<T> Default for Ranking<T> {
    fn default() -> Self {
        let (best, next) = (None, None);
        Self { best, next }
    }
}

impl<T: Copy> Ranking<T> {
    /// One more of them.
    pub fn add(&mut self, bot: T, known: &Known) {
        let score = known.score();
        match &self.best {
            Some((_, top)) if score <= *top => {
                self.next = Some(self.next.map_or(score, |next| next.max(score)));
            }
            _ => {
                self.next = self.best.as_ref().map(|(_, top)| *top);
                self.best = Some((bot, score));
            }
        }
    }

    /// The best of them.
    pub fn best(&self) -> Option<(T, f64)> {
        let (bot, score) = self.best?;
        let confidence = self
            .next
            .map_or(ALONE, |next| (score - next + EVEN).min(1.0));
        Some((bot, confidence))
    }
}

/// The best of those with enough results, and the confidence in it; of equals the first.
pub fn recommended<T: Copy>(
    known: impl Iterator<Item = (T, Known)>,
    rules: Rules,
) -> Option<(T, f64)> {
    let mut ranking = Ranking::default();
    for (bot, known) in known.filter(|(_, known)| known.samples >= rules.min_samples) {
        ranking.add(bot, &known);
    }
    ranking.best()
}

/// See the module.
#[derive(Debug, Default)]
pub struct Learning {
    rules: Rules,
    /// In the order in which they were first seen: ties go to the first.
    bots: Vec<(Arc<str>, OfBot)>,
    places: HashMap<Arc<str>, usize>,
    /// What `bots` has, once more by kind of work, in their order: a choice goes through all bots on one
    /// kind, and what is read then lies together.
    on: [Vec<Option<Known>>; TaskType::ALL.len()],
    /// What is not in the store yet: a bot, on a kind of work or altogether.
    changed: BTreeSet<(Arc<str>, Option<TaskType>)>,
    history: VecDeque<Execution>,
}

impl Learning {
    /// The rules have changed; what was learned stays.
    pub fn configure(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The rules.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// What an earlier daemon learned.
    pub fn load(&mut self, rows: Vec<LearnedRow>) {
        for row in rows {
            let Some(of) = self.of_mut(&row.bot) else {
                continue;
            };
            of.updated_at = of.updated_at.max(row.updated_at);
            match row.on {
                None => of.success_rate = row.success_rate,
                Some(task_type) => {
                    let known = Known {
                        samples: row.samples,
                        seconds: row.seconds,
                        success_rate: row.success_rate,
                        updated_at: row.updated_at,
                    };
                    of.on[task_type as usize] = Some(known);
                    self.lay_out(&row.bot, task_type, known);
                }
            }
        }
    }

    /// Everything is forgotten.
    pub fn forget(&mut self) {
        let rules = self.rules;
        *self = Self::default();
        self.rules = rules;
    }

    /// One more result of a bot.
    pub fn record(&mut self, bot: &Arc<str>, result: &Sample) {
        let rate = self.rules.rate;
        let Some(of) = self.of_mut(bot) else {
            return;
        };
        of.success_rate = route::success_rate_after(of.success_rate, result.succeeded);
        of.updated_at = result.at;
        self.changed.insert((bot.clone(), None));
        let Some(seconds) = result.seconds else {
            return;
        };
        let Some(of) = self.of_mut(bot) else {
            return;
        };
        let slot = &mut of.on[result.task_type as usize];
        let known = Known::after(*slot, result, seconds, rate);
        *slot = Some(known);
        self.lay_out(bot, result.task_type, known);
        self.changed.insert((bot.clone(), Some(result.task_type)));
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Execution {
            timestamp: result.at,
            bot_id: bot.to_string(),
            task_type: result.task_type,
            execution_time: seconds,
            success: result.succeeded,
            updated_perf: performance(bot, result.task_type, &known),
        });
    }

    /// The bots something is known of.
    pub fn bots(&self) -> impl Iterator<Item = &str> {
        self.bots.iter().map(|(bot, _)| &**bot)
    }

    /// Where what is known of a bot lies, for [`Learning::laid_out`]; the same until all is forgotten.
    pub fn place(&self, bot: &str) -> Option<usize> {
        self.places.get(bot).copied()
    }

    /// What is known on a kind of work, by the bots' places.
    pub fn laid_out(&self, task_type: TaskType) -> &[Option<Known>] {
        self.on.get(task_type as usize).map_or(&[], Vec::as_slice)
    }

    fn lay_out(&mut self, bot: &str, task_type: TaskType, known: Known) {
        if let Some(place) = self.place(bot)
            && let Some(slot) = self.on[task_type as usize].get_mut(place)
        {
            *slot = Some(known);
        }
    }

    /// What is known of a bot.
    pub fn of(&self, bot: &str) -> OfBot {
        let place = self.places.get(bot);
        place.map_or_else(OfBot::default, |place| self.bots[*place].1)
    }

    /// Whether anything has changed since it was last taken.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since it was last taken.
    pub fn take_changed(&mut self) -> Vec<LearnedRow> {
        let changed = std::mem::take(&mut self.changed);
        let rows = changed.into_iter().filter_map(|(bot, on)| {
            let of = self.of(&bot);
            let known = match on {
                Some(task_type) => of.on(task_type)?,
                None => Known {
                    samples: 0,
                    seconds: 0.0,
                    success_rate: of.success_rate,
                    updated_at: of.updated_at,
                },
            };
            Some(LearnedRow {
                bot,
                on,
                samples: known.samples,
                seconds: known.seconds,
                success_rate: known.success_rate,
                updated_at: known.updated_at,
            })
        });
        rows.collect()
    }

    /// The store did not take these.
    pub fn put_back(&mut self, rows: Vec<LearnedRow>) {
        let names = rows.into_iter().map(|row| (row.bot, row.on));
        // What is not known any more was forgotten meanwhile.
        self.changed
            .extend(names.filter(|(bot, _)| self.places.contains_key(bot)));
    }

    /// The best bot for a kind of work, where there are enough results.
    pub fn recommendation(&self, task_type: TaskType, now: Timestamp) -> Option<Recommendation> {
        let (winner, confidence) = recommended(self.on(task_type), self.rules)?;
        let known = self.of(winner).on(task_type)?;
        let mut eligible: Vec<_> = self
            .on(task_type)
            .filter(|(_, known)| known.samples >= self.rules.min_samples)
            .collect();
        // Stable: of equals the first.
        eligible.sort_by(|(_, a), (_, b)| b.score().total_cmp(&a.score()));
        let alternatives = eligible.into_iter().take(ALTERNATIVES);
        Some(Recommendation {
            task_type,
            recommended_bot: winner.to_string(),
            confidence,
            reason: format!(
                "Best performer on {task_type} tasks: {:.1}s avg, {:.0}% success rate ({} tasks)",
                known.seconds,
                known.success_rate * 100.0,
                known.samples
            ),
            alternatives: alternatives
                .map(|(bot, known)| Alternative {
                    bot_id: bot.to_string(),
                    score: known.score(),
                    avg_time: known.seconds,
                    success_rate: known.success_rate,
                })
                .collect(),
            timestamp: now,
        })
    }

    /// What is known of a bot, by kind of work.
    pub fn performance_of(&self, bot: &str) -> BTreeMap<String, Performance> {
        let of = self.of(bot);
        let known = |t: TaskType| Some((t.to_string(), performance(bot, t, &of.on(t)?)));
        TaskType::ALL.into_iter().filter_map(known).collect()
    }

    /// What is known of a kind of work, the best bot first.
    pub fn performance_on(&self, task_type: TaskType) -> Vec<Performance> {
        let mut bots: Vec<_> = self.on(task_type).collect();
        let worth = |known: &Known| {
            SUCCESS_WEIGHT * known.success_rate - TIME_WEIGHT * known.seconds / SLOWEST
        };
        bots.sort_by(|(_, a), (_, b)| worth(b).total_cmp(&worth(a)));
        let bots = bots.into_iter();
        bots.map(|(bot, known)| performance(bot, task_type, &known))
            .collect()
    }

    /// All of it in sum; `None` before the first result.
    pub fn insights(&self) -> Option<Insights> {
        let by_task_type: BTreeMap<_, _> = TaskType::ALL
            .into_iter()
            .filter_map(|task_type| Some((task_type.to_string(), self.insights_on(task_type)?)))
            .collect();
        let observed = |(_, of): &&(Arc<str>, OfBot)| of.on.iter().any(Option::is_some);
        (!by_task_type.is_empty()).then(|| Insights {
            total_executions: by_task_type.values().map(|t| t.total_tasks).sum(),
            total_bots_observed: self.bots.iter().filter(observed).count() as u64,
            task_types_learned: by_task_type.len() as u64,
            by_task_type,
        })
    }

    fn insights_on(&self, task_type: TaskType) -> Option<TypeInsights> {
        let bots: Vec<_> = self.on(task_type).collect();
        let first = |better: fn(&Known, &Known) -> bool| {
            let best = bots.iter().copied();
            best.reduce(|best, bot| if better(&bot.1, &best.1) { bot } else { best })
        };
        let (surest, highest) = first(|a, b| a.success_rate > b.success_rate)?;
        let (_, lowest) = first(|a, b| a.success_rate < b.success_rate)?;
        let (fastest, shortest) = first(|a, b| a.seconds < b.seconds)?;
        Some(TypeInsights {
            bots_tracked: bots.len() as u64,
            total_tasks: bots.iter().map(|(_, known)| known.samples).sum(),
            best_success_rate: BestRate {
                bot_id: surest.to_string(),
                rate: highest.success_rate,
            },
            fastest: BestTime {
                bot_id: fastest.to_string(),
                avg_time: shortest.seconds,
            },
            variability: highest.success_rate - lowest.success_rate,
        })
    }

    /// The newest results, oldest first, and how many are kept.
    pub fn history(&self, limit: usize) -> (usize, Vec<Execution>) {
        let kept = self.history.len();
        let from = match limit {
            0 => 0,
            limit => kept.saturating_sub(limit),
        };
        (kept, self.history.range(from..).cloned().collect())
    }

    fn on(&self, task_type: TaskType) -> impl Iterator<Item = (&str, Known)> {
        let bots = self.bots.iter();
        bots.filter_map(move |(bot, of)| Some((&**bot, of.on(task_type)?)))
    }

    /// `None`: there are too many bots already.
    fn of_mut(&mut self, bot: &Arc<str>) -> Option<&mut OfBot> {
        let place = match self.places.get(bot) {
            Some(place) => *place,
            None if self.bots.len() >= MAX_BOTS => return None,
            None => {
                self.bots.push((bot.clone(), OfBot::default()));
                self.on.iter_mut().for_each(|on| on.push(None));
                self.places.insert(bot.clone(), self.bots.len() - 1);
                self.bots.len() - 1
            }
        };
        self.bots.get_mut(place).map(|(_, of)| of)
    }
}

fn performance(bot: &str, task_type: TaskType, known: &Known) -> Performance {
    Performance {
        bot_id: bot.to_owned(),
        task_type,
        total_tasks: known.samples,
        avg_execution_time: known.seconds,
        success_rate: known.success_rate,
        last_updated: known.updated_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: TaskType = TaskType::Development;

    fn now() -> Timestamp {
        Timestamp::from_micros(0)
    }

    /// Results of a bot on [`KIND`]: seconds, and whether it succeeded.
    fn learn(learning: &mut Learning, bot: &str, results: &[(f64, bool)]) {
        for (n, (seconds, succeeded)) in results.iter().enumerate() {
            let sample = Sample {
                task_type: KIND,
                seconds: Some(*seconds),
                succeeded: *succeeded,
                at: Timestamp::from_micros(n as i64),
            };
            learning.record(&bot.into(), &sample);
        }
    }

    fn after(results: &[(f64, bool)]) -> Known {
        let mut learning = Learning::default();
        learn(&mut learning, "b", results);
        learning.of("b").on(KIND).unwrap()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    /// The original's cases 23 and 25.
    #[test]
    fn the_first_result_counts_whole_and_later_ones_a_tenth() {
        let known = after(&[(40.0, true), (50.0, true)]);
        close(known.seconds, 41.0);
        close(known.success_rate, 1.0);
        assert_eq!(known.samples, 2);
        let known = after(&[(10.0, false), (20.0, true)]);
        close(known.seconds, 11.0);
        close(known.success_rate, 0.1);
    }

    /// The original's case 26.
    #[test]
    fn the_only_one_is_recommended_with_a_reason() {
        let mut learning = Learning::default();
        let results = [(10.0, true), (20.0, false), (30.0, true)];
        learn(&mut learning, "b", &results[..2]);
        assert_eq!(
            learning.recommendation(KIND, now()),
            None,
            "two are too few"
        );
        learn(&mut learning, "b", &results[2..]);
        let said = learning.recommendation(KIND, now()).unwrap();
        close(said.confidence, 0.8);
        close(said.alternatives[0].score, 0.94084);
        assert_eq!(
            said.reason,
            "Best performer on development tasks: 12.9s avg, 91% success rate (3 tasks)"
        );
        assert_eq!(learning.recommendation(TaskType::Writing, now()), None);
    }

    /// The original's cases 28 and 29.
    #[test]
    fn the_better_one_is_recommended_and_the_next_one_named() {
        let mut learning = Learning::default();
        learn(
            &mut learning,
            "b1",
            &[(40.0, true), (42.0, true), (41.0, true)],
        );
        learn(
            &mut learning,
            "b2",
            &[(60.0, true), (65.0, true), (62.0, true)],
        );
        let said = learning.recommendation(KIND, now()).unwrap();
        assert_eq!(said.recommended_bot, "b1");
        close(said.confidence, 0.508148);
        let scores: Vec<_> = said.alternatives.iter().map(|a| a.score).collect();
        close(scores[0], 0.983888);
        close(scores[1], 0.97574);
        close(said.alternatives[0].avg_time, 40.28);
        close(said.alternatives[1].avg_time, 60.65);
        // Of these alone.
        let rules = learning.rules();
        let among = |names: &[&str]| {
            let known = learning.on(KIND).filter(|(bot, _)| names.contains(bot));
            recommended(known, rules)
        };
        assert_eq!(among(&["b2"]), Some(("b2", ALONE)));
        assert_eq!(among(&["zz"]), None);
    }

    /// The original's case 31.
    #[test]
    fn the_slow_and_the_unlucky_have_their_scores() {
        close(after(&[(5000.0, true); 3]).score(), 0.6);
        close(after(&[(10.0, false); 3]).score(), 0.396);
    }

    #[test]
    fn of_equals_the_first_is_recommended_wherever_the_best_stands() {
        let mut learning = Learning::default();
        for bot in ["x", "y", "z"] {
            learn(&mut learning, bot, &[(10.0, bot != "x"); 3]);
        }
        let said = learning.recommendation(KIND, now()).unwrap();
        assert_eq!(said.recommended_bot, "y");
        close(said.confidence, 0.5);
        let order = said.alternatives.iter().map(|a| a.bot_id.as_str());
        assert!(order.eq(["y", "z", "x"]));
    }

    /// The original's case 32.
    #[test]
    fn insights_sum_up() {
        let mut learning = Learning::default();
        assert_eq!(learning.insights(), None);
        learn(&mut learning, "b", &[(1.0, true); 4]);
        let writing = Sample {
            task_type: TaskType::Writing,
            seconds: Some(2.0),
            succeeded: false,
            at: now(),
        };
        learning.record(&"b".into(), &writing);
        learning.record(&"b".into(), &writing);
        let said = learning.insights().unwrap();
        assert_eq!(
            (said.total_executions, said.total_bots_observed),
            (6, 1),
            "{said:?}"
        );
        assert_eq!(said.task_types_learned, 2);
        learn(&mut learning, "c", &[(0.5, false)]);
        let said = learning.insights().unwrap();
        let development = &said.by_task_type["development"];
        assert_eq!(development.fastest.bot_id, "c");
        assert_eq!(development.best_success_rate.bot_id, "b");
        close(development.variability, 1.0);
        let order: Vec<_> = learning.performance_on(KIND);
        assert_eq!(order[0].bot_id, "b");
    }

    #[test]
    fn history_keeps_the_last_ones() {
        let mut learning = Learning::default();
        for n in 0..MAX_HISTORY + 5 {
            learn(&mut learning, "b", &[(n as f64, true)]);
        }
        let (kept, last) = learning.history(2);
        assert_eq!((kept, last.len()), (MAX_HISTORY, 2));
        assert_eq!(last[1].execution_time, (MAX_HISTORY + 4) as f64);
        assert_eq!(last[1].updated_perf.total_tasks, MAX_HISTORY as u64 + 5);
        assert_eq!(learning.history(0).1.len(), MAX_HISTORY);
    }

    #[test]
    fn what_has_changed_is_taken_once_and_can_be_put_back() {
        let mut learning = Learning::default();
        learn(&mut learning, "b", &[(1.0, true), (2.0, true)]);
        let changed = learning.take_changed();
        let on: Vec<_> = changed.iter().map(|row| (row.on, row.samples)).collect();
        assert_eq!(on, [(None, 0), (Some(KIND), 2)]);
        assert_eq!(learning.take_changed(), []);
        learning.put_back(changed.clone());
        assert_eq!(learning.take_changed(), changed);
        // Loaded, it is what it was, and nothing to write.
        let mut next = Learning::default();
        next.load(changed.clone());
        assert_eq!(next.take_changed(), []);
        assert_eq!(next.of("b"), learning.of("b"));
        let place = next.place("b").unwrap();
        assert_eq!(next.laid_out(KIND)[place], learning.of("b").on(KIND));
        assert_eq!(next.laid_out(TaskType::Writing)[place], None);
        next.forget();
        next.put_back(changed);
        assert_eq!(next.take_changed(), [], "forgotten is forgotten");
    }

    #[test]
    fn a_result_whose_time_is_not_known_counts_for_the_bot_alone() {
        let mut learning = Learning::default();
        let sample = Sample {
            task_type: KIND,
            seconds: None,
            succeeded: false,
            at: now(),
        };
        learning.record(&"b".into(), &sample);
        assert_eq!(learning.of("b").on(KIND), None);
        close(learning.of("b").success_rate, 0.95);
        assert_eq!(learning.insights(), None);
    }

    #[test]
    fn the_number_of_bots_is_bounded() {
        let mut learning = Learning::default();
        for n in 0..=MAX_BOTS {
            learn(&mut learning, &format!("b{n}"), &[(1.0, true)]);
        }
        assert_eq!(learning.bots.len(), MAX_BOTS);
        let last = format!("b{MAX_BOTS}");
        assert_eq!(learning.of(&last), OfBot::default());
        learn(&mut learning, "b0", &[(1.0, true)]);
        assert_eq!(learning.of("b0").on(KIND).unwrap().samples, 2);
    }
}
