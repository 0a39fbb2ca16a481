//! The part of the queue that is in memory.
//!
//! Queued tasks wait in *lanes*, one for each [demand](super::demand). A lane keeps its first
//! [`LANE_TASKS`] tasks in (priority, seq) order and how many there are in all; the rest are in the
//! store and are loaded when the lane runs low. So memory does not grow with the queue. Of priorities that
//! the window does not reach, the first few are in memory too: ageing looks at them.
//!
//! Counts follow the store's outcomes exactly once each, in whatever order outcomes and loads
//! arrive; that is why they are signed. An entry may be stale (its task was cancelled while a load
//! was under way): the lease is refused by the store then, and the entry is dropped.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use deia::task::Priority;
use deia::time::Timestamp;

use super::demand::{Demand, PoolFacts};
use crate::store::{Ready, Seq};

/// Tasks of one lane in memory. Few in tests, so that short histories do not fit.
pub const LANE_TASKS: usize = if cfg!(test) { 8 } else { 512 };

/// A lane with fewer is filled up from the store.
const LANE_LOW: usize = LANE_TASKS / 2;

/// Tasks in memory of a priority that the window does not reach.
const HEAD_TASKS: usize = if cfg!(test) { 2 } else { 16 };

/// Contents larger than this stay in the store until a bot takes the task.
pub const KEPT_CONTENT_BYTES: usize = 4096;

/// A task's place in its lane.
pub type Place = (Priority, Seq);

/// A queued task in memory.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The task.
    pub ready: Ready,
    /// Its text, where it is small and was at hand.
    pub content: Option<Arc<str>>,
}

/// What is to be read for a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// What comes after this place; from the front where it is `None`.
    pub after: Option<Place>,
    /// At most this many.
    pub most: usize,
}

/// What is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    Nothing,
    /// The next ones in order.
    Window,
    /// The first ones of a priority.
    Head(Priority),
}

/// What was read for a lane.
#[derive(Debug)]
pub struct Loaded {
    /// The tasks, in order.
    pub rows: Vec<Ready>,
    /// Of what changes the queue, nothing is on its way to the disk or back: what was read is reported.
    pub nothing_under_way: bool,
}

/// The tasks with one demand.
#[derive(Debug)]
pub struct Lane {
    /// What they ask for.
    pub demand: Demand,
    /// Which pools can do it, by the pools' order.
    pub served_by: Vec<bool>,
    /// Since when something has waited here without a break.
    pub since: Option<Timestamp>,
    waiting: BTreeMap<Place, Waiting>,
    /// The longest-waiting tasks of priorities that the window does not reach: ageing is to see them.
    heads: BTreeMap<Place, Waiting>,
    counts: [i64; 4],
    /// Taken out for a lease that is not committed yet.
    leasing: BTreeSet<Place>,
    loading: Loading,
    /// Priorities whose first tasks were looked for and not found, since something has changed.
    not_found: [bool; 4],
    /// Taken or forgotten while a load is under way: it may bring them back.
    gone: HashSet<Place>,
    /// The last load found less than there is: the next one begins at the front.
    from_start: bool,
    /// The load under way begins at the front, and nothing has come or gone since: it is the truth.
    exact: bool,
}

impl Lane {
    /// An empty lane.
    pub fn new(demand: Demand, pools: &[PoolFacts]) -> Self {
        let mut lane = Self {
            demand,
            served_by: Vec::new(),
            since: None,
            waiting: BTreeMap::new(),
            heads: BTreeMap::new(),
            counts: [0; 4],
            leasing: BTreeSet::new(),
            loading: Loading::Nothing,
            not_found: [false; 4],
            gone: HashSet::new(),
            from_start: false,
            exact: false,
        };
        lane.configure(pools);
        lane
    }

    /// The pools have changed.
    pub fn configure(&mut self, pools: &[PoolFacts]) {
        self.served_by = pools.iter().map(|p| self.demand.is_served_by(p)).collect();
    }

    /// The store says that this many wait, by priority (at start).
    pub fn counted(&mut self, counts: [u64; 4]) {
        for (count, stored) in self.counts.iter_mut().zip(counts) {
            *count = i64::try_from(stored).unwrap_or(i64::MAX);
        }
    }

    /// A task waits now.
    pub fn add(&mut self, ready: Ready, content: Option<Arc<str>>) {
        self.counts[ready.priority.index()] += 1;
        self.not_found[ready.priority.index()] = false;
        self.exact = false;
        self.put(ready, content);
    }

    /// A task does not wait any more: cancelled or expired.
    pub fn forget(&mut self, place: Place) {
        self.counts[place.0.index()] -= 1;
        self.waiting.remove(&place);
        self.heads.remove(&place);
        self.leaves(place);
    }

    fn leaves(&mut self, place: Place) {
        self.exact = false;
        if self.loading != Loading::Nothing {
            self.gone.insert(place);
        }
    }

    /// The first task.
    pub fn first(&self) -> Option<&Waiting> {
        let window = self.waiting.first_key_value();
        // Before those of the store's that come first are here, what comes later is not given out.
        if window.is_none() && self.known() < self.counts.iter().sum() {
            return None;
        }
        let heads = self.heads.first_key_value();
        let first = window
            .into_iter()
            .chain(heads)
            .min_by_key(|(place, _)| **place);
        first.map(|(_, waiting)| waiting)
    }

    /// Those of the window, and those that were taken from it.
    fn known(&self) -> i64 {
        (self.waiting.len() + self.leasing.len()) as i64
    }

    /// The task in this place, if it is in memory.
    pub fn at(&self, place: Place) -> Option<&Waiting> {
        self.waiting.get(&place).or_else(|| self.heads.get(&place))
    }

    /// The longest-waiting task: of each priority the first is in memory, or being read.
    pub fn oldest(&self) -> Option<&Waiting> {
        Priority::ALL
            .iter()
            .filter_map(|p| self.first_of(*p))
            .min_by_key(|waiting| waiting.ready.seq)
    }

    /// The first task of a priority, if it is in memory.
    fn first_of(&self, priority: Priority) -> Option<&Waiting> {
        let range = || (priority, Seq::MIN)..=(priority, Seq::MAX);
        let both = self.waiting.range(range()).next().into_iter();
        both.chain(self.heads.range(range()).next())
            .min_by_key(|(place, _)| **place)
            .map(|(_, waiting)| waiting)
    }

    /// Takes a task out for a lease. Ends in [`Lane::leased`] or [`Lane::not_leased`].
    pub fn take(&mut self, place: Place) -> Option<Waiting> {
        let of_head = self.heads.remove(&place);
        let taken = self.waiting.remove(&place).or(of_head);
        if taken.is_some() {
            self.leasing.insert(place);
            self.leaves(place);
        }
        taken
    }

    /// The lease is durable.
    pub fn leased(&mut self, place: Place) {
        self.leasing.remove(&place);
        self.counts[place.0.index()] -= 1;
    }

    /// The store would not: the task was not queued any more, or the disk failed (`back`: it is
    /// still queued).
    pub fn not_leased(&mut self, place: Place, back: Option<Waiting>) {
        self.leasing.remove(&place);
        if let Some(waiting) = back {
            self.put(waiting.ready, waiting.content);
        }
    }

    /// It is not loaded until [`Lane::filled`]; whether that is new.
    pub fn rest(&mut self) -> bool {
        let is_new = self.loading == Loading::Nothing;
        if is_new {
            self.loading = Loading::Window;
            self.exact = false;
        }
        is_new
    }

    /// How many wait.
    pub fn len(&self) -> u64 {
        u64::try_from(self.counts.iter().sum::<i64>()).unwrap_or(0)
    }

    /// How many wait for whom no bot was chosen yet.
    pub fn unclaimed(&self) -> u64 {
        let unclaimed = self.counts.iter().sum::<i64>() - self.leasing.len() as i64;
        u64::try_from(unclaimed).unwrap_or(0)
    }

    /// Whether it is being loaded.
    #[cfg(test)]
    pub fn is_filling(&self) -> bool {
        self.loading != Loading::Nothing
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing waits, is being leased or being loaded: the lane may be dropped.
    pub fn is_idle(&self) -> bool {
        let nothing_known = self.waiting.is_empty() && self.heads.is_empty();
        let nothing_moves = self.leasing.is_empty() && self.loading == Loading::Nothing;
        self.is_empty() && nothing_known && nothing_moves
    }

    /// How many would stand before a new task of this priority.
    pub fn ahead_of_new(&self, priority: Priority) -> u64 {
        let ahead: i64 = self.counts[..=priority.index()].iter().sum();
        u64::try_from(ahead).unwrap_or(0)
    }

    /// What to load, when the lane has run low and the store has more, or when the first of some priority
    /// is not in memory.
    pub fn wants_filling(&mut self) -> Option<Load> {
        if self.loading != Loading::Nothing || self.known() >= self.counts.iter().sum() {
            return None;
        }
        if self.waiting.len() >= LANE_LOW {
            return self.wants_a_head();
        }
        // From the front again only when nothing is on its way out, which would be found once more.
        if self.from_start && !self.leasing.is_empty() {
            return None;
        }
        self.loading = Loading::Window;
        let last = self.waiting.last_key_value().map(|(place, _)| *place);
        let after = last.filter(|_| !std::mem::take(&mut self.from_start));
        self.exact = after.is_none() && self.leasing.is_empty();
        let most = LANE_TASKS;
        Some(Load { after, most })
    }

    fn wants_a_head(&mut self) -> Option<Load> {
        let is_missing = |priority: &&Priority| {
            let leasing = (**priority, Seq::MIN)..=(**priority, Seq::MAX);
            let leasing = self.leasing.range(leasing).count() as i64;
            self.counts[priority.index()] > leasing
                && !self.not_found[priority.index()]
                && self.first_of(**priority).is_none()
        };
        let missing = *Priority::ALL.iter().find(is_missing)?;
        self.loading = Loading::Head(missing);
        self.exact = false;
        let before = missing
            .index()
            .checked_sub(1)
            .and_then(Priority::from_index);
        Some(Load {
            after: before.map(|priority| (priority, Seq::MAX)),
            most: HEAD_TASKS,
        })
    }

    /// What was loaded; `None` when the store could not be read.
    pub fn filled(&mut self, loaded: Option<Loaded>) {
        let loading = std::mem::replace(&mut self.loading, Loading::Nothing);
        let gone = std::mem::take(&mut self.gone);
        let Some(Loaded {
            rows,
            nothing_under_way,
        }) = loaded
        else {
            return;
        };
        if let Loading::Head(priority) = loading {
            return self.found(priority, rows, &gone);
        }
        self.not_found = [false; 4];
        let short = rows.len() < LANE_TASKS;
        // What is committed and not reported yet is in the rows, and would be counted once more.
        if short && self.exact && nothing_under_way {
            self.counts = [0; 4];
            for ready in &rows {
                self.counts[ready.priority.index()] += 1;
            }
        }
        for ready in rows {
            let place = (ready.priority, ready.seq);
            if gone.contains(&place) || self.leasing.contains(&place) {
                continue;
            }
            self.heads.remove(&place);
            self.waiting.entry(place).or_insert(Waiting {
                ready,
                content: None,
            });
        }
        self.from_start = short && self.known() < self.counts.iter().sum();
        self.trim();
    }

    /// The first tasks of a priority.
    fn found(&mut self, priority: Priority, rows: Vec<Ready>, gone: &HashSet<Place>) {
        let of_it = rows.into_iter().filter(|ready| ready.priority == priority);
        for ready in of_it {
            let place = (ready.priority, ready.seq);
            let away = gone.contains(&place) || self.leasing.contains(&place);
            if !away && !self.waiting.contains_key(&place) {
                let content = None;
                self.heads.insert(place, Waiting { ready, content });
            }
        }
        self.not_found[priority.index()] = self.first_of(priority).is_none();
    }

    fn put(&mut self, ready: Ready, content: Option<Arc<str>>) {
        let place = (ready.priority, ready.seq);
        self.gone.remove(&place);
        // `counts` already has this task: equal means that everything else is in memory.
        let others = self.counts.iter().sum::<i64>() - self.leasing.len() as i64 - 1;
        let everything_here = self.waiting.len() as i64 >= others;
        let before_last = self
            .waiting
            .last_key_value()
            .is_some_and(|(last, _)| place < *last);
        if everything_here || before_last {
            let content = content.filter(|text| text.len() <= KEPT_CONTENT_BYTES);
            self.heads.remove(&place);
            self.waiting.insert(place, Waiting { ready, content });
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.waiting.len() > LANE_TASKS {
            self.waiting.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::task::TaskType;
    use deia::time::Timestamp;

    fn demand() -> Demand {
        Demand::from_text("t=general;n=a;p=;b=;c=general").unwrap()
    }

    fn task(seq: Seq, priority: Priority) -> Ready {
        Ready {
            seq,
            id: format!("t{seq}").parse().unwrap(),
            demand: demand().text().into(),
            priority,
            submitted_at: Timestamp::from_micros(seq),
            timeout_ms: 1000,
            max_attempts: 3,
            task_type: TaskType::General,
            scheduled: false,
            failed: false,
            losses: 0,
        }
    }

    fn from_the_front() -> Option<Load> {
        let (after, most) = (None, LANE_TASKS);
        Some(Load { after, most })
    }

    fn read(rows: Vec<Ready>) -> Option<Loaded> {
        Some(Loaded {
            rows,
            nothing_under_way: true,
        })
    }

    /// A queue of any length through a lane, with the store played by a map.
    #[test]
    fn a_long_queue_passes_through_in_order_in_bounded_memory() {
        let mut stored: BTreeMap<Place, Ready> = BTreeMap::new();
        let mut lane = Lane::new(demand(), &[]);
        for seq in 0..5000 {
            let ready = task(seq, Priority::ALL[(seq % 4) as usize]);
            stored.insert((ready.priority, seq), ready.clone());
            lane.add(ready, None);
            assert!(lane.waiting.len() <= LANE_TASKS);
        }
        let mut passed = Vec::new();
        while !lane.is_empty() {
            if let Some(Load { after, most }) = lane.wants_filling() {
                let rows = stored
                    .range((
                        after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
                        std::ops::Bound::Unbounded,
                    ))
                    .take(most)
                    .map(|(_, ready)| ready.clone())
                    .collect();
                lane.filled(read(rows));
                assert!(lane.waiting.len() <= LANE_TASKS);
            }
            let place = lane
                .first()
                .map(|w| (w.ready.priority, w.ready.seq))
                .unwrap();
            lane.take(place).unwrap();
            stored.remove(&place);
            lane.leased(place);
            passed.push(place);
        }
        assert_eq!(passed.len(), 5000);
        assert!(passed.is_sorted());
        assert!(lane.is_idle());
    }

    #[test]
    fn a_task_that_comes_back_keeps_its_place() {
        let mut lane = Lane::new(demand(), &[]);
        for seq in 1..=3 {
            lane.add(task(seq, Priority::P2), None);
        }
        let first = lane.take((Priority::P2, 1)).unwrap();
        lane.leased((Priority::P2, 1));
        lane.add(first.ready, None);
        assert_eq!(lane.first().unwrap().ready.seq, 1);
        assert_eq!(lane.len(), 3);
    }

    #[test]
    fn a_lease_the_store_refused_leaves_no_trace() {
        let mut lane = Lane::new(demand(), &[]);
        lane.add(task(1, Priority::P1), None);
        let taken = lane.take((Priority::P1, 1)).unwrap();
        lane.not_leased((Priority::P1, 1), Some(taken));
        assert_eq!(lane.first().unwrap().ready.seq, 1);
        lane.take((Priority::P1, 1)).unwrap();
        lane.not_leased((Priority::P1, 1), None);
        lane.forget((Priority::P1, 1));
        assert!(lane.is_idle());
    }

    #[test]
    fn the_oldest_is_found_whatever_its_priority() {
        let mut lane = Lane::new(demand(), &[]);
        lane.add(task(1, Priority::P3), None);
        lane.add(task(2, Priority::P0), None);
        assert_eq!(lane.first().unwrap().ready.seq, 2);
        assert_eq!(lane.oldest().unwrap().ready.seq, 1);
        assert_eq!(lane.ahead_of_new(Priority::P0), 1);
        assert_eq!(lane.ahead_of_new(Priority::P3), 2);
    }

    #[test]
    fn what_went_while_a_load_was_under_way_does_not_come_back() {
        let mut lane = Lane::new(demand(), &[]);
        lane.counted([0, 0, 3, 0]);
        assert_eq!(lane.wants_filling(), from_the_front());
        lane.forget((Priority::P2, 2));
        let loaded = (1..=3).map(|seq| task(seq, Priority::P2)).collect();
        lane.filled(read(loaded));
        let seqs: Vec<Seq> = lane.waiting.keys().map(|(_, seq)| *seq).collect();
        assert_eq!(seqs, [1, 3]);
        assert_eq!(lane.wants_filling(), None, "nothing is missing");
    }

    #[test]
    fn a_task_behind_a_hole_is_found_from_the_front() {
        let mut lane = Lane::new(demand(), &[]);
        lane.counted([0, 0, 3, 0]);
        assert_eq!(lane.wants_filling(), from_the_front());
        // One more comes meanwhile, and the load has not seen all of them.
        lane.add(task(4, Priority::P2), None);
        lane.filled(read(vec![task(1, Priority::P2), task(3, Priority::P2)]));
        assert_eq!(
            lane.wants_filling(),
            from_the_front(),
            "not after the last that is known"
        );
        lane.filled(read((1..=4).map(|seq| task(seq, Priority::P2)).collect()));
        assert_eq!(lane.waiting.len(), 4);
        assert_eq!(lane.wants_filling(), None);
    }

    #[test]
    fn a_count_that_was_wrong_is_set_right_and_nothing_is_asked_for_ever() {
        let mut lane = Lane::new(demand(), &[]);
        lane.counted([0, 0, 7, 0]);
        let mut loads = 0;
        while lane.wants_filling().is_some() {
            lane.filled(read(vec![task(1, Priority::P2)]));
            loads += 1;
            assert!(loads < 10);
        }
        assert_eq!(lane.len(), 1);
        lane.filled(None);
        assert_eq!(lane.len(), 1);
    }

    /// The reader has seen what was committed and not reported yet: an expiry, and a task that is
    /// queued again.
    #[test]
    fn what_is_read_before_it_is_reported_counts_once() {
        let loaded = |seqs: &[Seq]| {
            let rows = seqs.iter().map(|seq| task(*seq, Priority::P2)).collect();
            let nothing_under_way = false;
            Some(Loaded {
                rows,
                nothing_under_way,
            })
        };
        let mut lane = Lane::new(demand(), &[]);
        lane.counted([0, 0, 3, 0]);
        assert_eq!(lane.wants_filling(), from_the_front());
        lane.filled(loaded(&[2, 3, 4]));
        lane.forget((Priority::P2, 1));
        lane.add(task(4, Priority::P2), None);
        assert_eq!(lane.len(), 3);
        for seq in [2, 3, 4] {
            lane.take((Priority::P2, seq)).unwrap();
            lane.leased((Priority::P2, seq));
        }
        assert!(lane.is_idle());
    }

    #[test]
    fn large_contents_are_not_kept() {
        let mut lane = Lane::new(demand(), &[]);
        lane.add(
            task(1, Priority::P2),
            Some("x".repeat(KEPT_CONTENT_BYTES + 1).into()),
        );
        lane.add(task(2, Priority::P2), Some("small".into()));
        assert!(lane.waiting[&(Priority::P2, 1)].content.is_none());
        assert!(lane.waiting[&(Priority::P2, 2)].content.is_some());
    }
}
