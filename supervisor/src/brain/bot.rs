//! A bot as (wanted, actual): every event has an answer in every state.
//!
//! ```text
//!              Want(Running)             Ready              Tasks(n > 0)
//!   Stopped ------------------> Starting ------> Ready <------------------> Busy
//!      ^                         ^  |  |           |                          |
//!      |                 timer   |  |  '--------.  | Want(Stopped)            | Want(Stopped)
//!      |          Backoff -------'  | ended     |  |                          v
//!      |    Quarantined --'         v           |  |   Tasks(0)/timer      Draining
//!      |             ^----- restart policy      |  |  .-----------------------'
//!      |                                        v  v  v
//!      '------------------ ended ------------- Stopping --(timer)--> killed
//! ```
//!
//! A bot that was asked to end and is wanted again by then is started at once; one that ended by
//! itself goes through the [restart policy](super::restart). There are no flags beside the state
//! but `bounce` (an operator asked for a restart: the end is expected).

use deia::bot::{Actual, ExitCause, Wanted};
use deia::config::Supervision;

use super::restart::{Restart, RestartHistory};
use super::{Millis, millis};

/// What happened to a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It shall run.
    Run,
    /// It shall end, having finished what it has.
    Stop(Drain),
    /// An operator wants a new process: the old one finishes first.
    Bounce,
    /// The process said that it is ready.
    Ready,
    /// It has this many tasks now.
    Tasks(u32),
    /// The process ended, or could not be started.
    Ended,
    /// The timer of the present state fired.
    Timer,
    /// It was ready for `healthy_seconds`.
    Healthy,
    /// It is not alive in the sense that counts.
    Stuck(ExitCause),
}

/// How long a bot may finish what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// As long as its tasks take.
    Unbounded,
    /// At most this long.
    Within(Millis),
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a process.
    Spawn,
    /// Tell the process to finish within the time and exit.
    AskToStop(Millis),
    /// End the process and all below it.
    Kill,
    /// Fire [`Event::Timer`] after this time; replaces the state's earlier timer.
    Arm(Millis),
    /// The state's timer is not needed any more.
    Disarm,
    /// Fire [`Event::Healthy`] after this time, if the same process still runs.
    ArmHealthy(Millis),
}

/// One bot.
#[derive(Debug, Clone)]
pub struct Bot {
    wanted: Wanted,
    actual: Actual,
    tasks: u32,
    bounce: bool,
    /// Why the daemon itself is ending the process, where it is.
    ending: Option<ExitCause>,
    history: RestartHistory,
    restarts: u64,
}

impl Default for Bot {
    fn default() -> Self {
        Self {
            wanted: Wanted::Stopped,
            actual: Actual::Stopped,
            tasks: 0,
            bounce: false,
            ending: None,
            history: RestartHistory::default(),
            restarts: 0,
        }
    }
}

impl Bot {
    /// What the fleet wants of it.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// What it is.
    pub fn actual(&self) -> Actual {
        self.actual
    }

    /// Restarts so far.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Whether it may be given a task.
    pub fn takes_tasks(&self) -> bool {
        matches!(self.actual, Actual::Ready | Actual::Busy)
    }

    /// Whether it has a process.
    pub fn has_process(&self) -> bool {
        matches!(
            self.actual,
            Actual::Starting | Actual::Ready | Actual::Busy | Actual::Draining | Actual::Stopping
        )
    }

    /// Why the daemon is ending its process, where it is.
    pub fn ending(&self) -> Option<ExitCause> {
        self.ending
    }

    /// The answer to an event. `chance` is in 0..1.
    pub fn on(
        &mut self,
        event: Event,
        rules: &Supervision,
        now: Millis,
        chance: f64,
    ) -> Vec<Action> {
        match event {
            Event::Run => self.run(rules),
            Event::Stop(drain) => {
                self.wanted = Wanted::Stopped;
                self.bounce = false;
                self.wind_down(drain, rules)
            }
            Event::Bounce => self.bounce(rules),
            Event::Ready => self.ready(rules),
            Event::Tasks(n) => self.tasks(n, rules),
            Event::Ended => self.ended(rules, now, chance),
            Event::Timer => self.timer(rules),
            Event::Healthy => {
                if matches!(self.actual, Actual::Ready | Actual::Busy) {
                    self.history.healthy();
                }
                Vec::new()
            }
            Event::Stuck(cause) => match self.actual {
                Actual::Starting | Actual::Ready | Actual::Busy | Actual::Draining => {
                    self.kill(cause, rules)
                }
                Actual::Stopping | Actual::Backoff | Actual::Quarantined | Actual::Stopped => {
                    Vec::new()
                }
            },
        }
    }

    fn run(&mut self, rules: &Supervision) -> Vec<Action> {
        self.wanted = Wanted::Running;
        match self.actual {
            Actual::Stopped => self.start(rules),
            // It was not told yet: it simply goes on.
            Actual::Draining if !self.bounce => {
                self.actual = if self.tasks > 0 {
                    Actual::Busy
                } else {
                    Actual::Ready
                };
                vec![Action::Disarm]
            }
            // An operator who says `start` does not wait for the timer.
            Actual::Backoff | Actual::Quarantined => self.start_again(rules),
            Actual::Starting
            | Actual::Ready
            | Actual::Busy
            | Actual::Draining
            | Actual::Stopping => Vec::new(),
        }
    }

    fn bounce(&mut self, rules: &Supervision) -> Vec<Action> {
        self.wanted = Wanted::Running;
        match self.actual {
            Actual::Stopped | Actual::Backoff | Actual::Quarantined => {
                self.history.healthy();
                self.start(rules)
            }
            Actual::Starting | Actual::Ready | Actual::Busy | Actual::Draining => {
                self.bounce = true;
                self.wind_down(Drain::Unbounded, rules)
            }
            Actual::Stopping => Vec::new(),
        }
    }

    /// Towards no process: by itself where it has tasks, else at once.
    fn wind_down(&mut self, drain: Drain, rules: &Supervision) -> Vec<Action> {
        match self.actual {
            Actual::Stopped => Vec::new(),
            Actual::Backoff | Actual::Quarantined => {
                self.actual = Actual::Stopped;
                vec![Action::Disarm]
            }
            // Nothing it could lose.
            Actual::Starting => self.kill(ExitCause::Stopped, rules),
            Actual::Ready | Actual::Busy | Actual::Draining if self.tasks == 0 => {
                self.ask_to_stop(0, rules)
            }
            Actual::Ready | Actual::Busy | Actual::Draining => {
                self.actual = Actual::Draining;
                match drain {
                    Drain::Unbounded => vec![Action::Disarm],
                    Drain::Within(0) => self.ask_to_stop(0, rules),
                    Drain::Within(time) => vec![Action::Arm(time)],
                }
            }
            Actual::Stopping => Vec::new(),
        }
    }

    fn ready(&mut self, rules: &Supervision) -> Vec<Action> {
        match self.actual {
            Actual::Starting => {
                self.actual = Actual::Ready;
                vec![
                    Action::Disarm,
                    Action::ArmHealthy(millis(rules.healthy_seconds)),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn tasks(&mut self, n: u32, rules: &Supervision) -> Vec<Action> {
        self.tasks = n;
        match self.actual {
            Actual::Ready if n > 0 => self.actual = Actual::Busy,
            Actual::Busy if n == 0 => self.actual = Actual::Ready,
            Actual::Draining if n == 0 => return self.ask_to_stop(0, rules),
            _ => {}
        }
        Vec::new()
    }

    fn ended(&mut self, rules: &Supervision, now: Millis, chance: f64) -> Vec<Action> {
        self.tasks = 0;
        let asked = matches!(self.ending.take(), Some(ExitCause::Stopped));
        let bounced = std::mem::take(&mut self.bounce);
        match self.actual {
            Actual::Stopped | Actual::Backoff | Actual::Quarantined => return Vec::new(),
            Actual::Starting
            | Actual::Ready
            | Actual::Busy
            | Actual::Draining
            | Actual::Stopping => {}
        }
        if self.wanted == Wanted::Stopped {
            self.actual = Actual::Stopped;
            return vec![Action::Disarm];
        }
        if asked || bounced {
            return self.start_again(rules);
        }
        match self.history.ended(rules, now, chance) {
            Restart::Now => self.start_again(rules),
            Restart::After(delay) => {
                self.actual = Actual::Backoff;
                vec![Action::Arm(delay)]
            }
            Restart::Quarantine(delay) => {
                self.actual = Actual::Quarantined;
                vec![Action::Arm(delay)]
            }
        }
    }

    fn timer(&mut self, rules: &Supervision) -> Vec<Action> {
        match self.actual {
            Actual::Starting => self.kill(ExitCause::StartTimeout, rules),
            Actual::Draining => self.ask_to_stop(0, rules),
            // Again, until it is gone: a process in an uninterruptible call ends late.
            Actual::Stopping => vec![
                Action::Kill,
                Action::Arm(millis(rules.stop_timeout_seconds)),
            ],
            Actual::Backoff | Actual::Quarantined => self.start_again(rules),
            Actual::Ready | Actual::Busy | Actual::Stopped => Vec::new(),
        }
    }

    /// Counted here and not at the end before it: one in quarantine waits, it was not restarted.
    fn start_again(&mut self, rules: &Supervision) -> Vec<Action> {
        self.restarts += 1;
        self.start(rules)
    }

    fn start(&mut self, rules: &Supervision) -> Vec<Action> {
        self.actual = Actual::Starting;
        self.ending = None;
        self.tasks = 0;
        vec![
            Action::Spawn,
            Action::Arm(millis(rules.start_timeout_seconds)),
        ]
    }

    fn ask_to_stop(&mut self, grace: Millis, rules: &Supervision) -> Vec<Action> {
        self.actual = Actual::Stopping;
        self.ending = Some(ExitCause::Stopped);
        // The bot itself gives what it started `stop_timeout_seconds` between TERM and KILL, and
        // needs a moment to see that they are gone.
        let patience = grace + millis(rules.stop_timeout_seconds) + STOP_MARGIN;
        vec![Action::AskToStop(grace), Action::Arm(patience)]
    }

    fn kill(&mut self, cause: ExitCause, rules: &Supervision) -> Vec<Action> {
        self.actual = Actual::Stopping;
        self.ending = Some(cause);
        vec![
            Action::Kill,
            Action::Arm(millis(rules.stop_timeout_seconds)),
        ]
    }
}

/// What a bot may take beyond its stop time-out before it is killed.
const STOP_MARGIN: Millis = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on(bot: &mut Bot, event: Event) -> Vec<Action> {
        bot.on(event, &Supervision::default(), 0, 1.0)
    }

    fn ready_bot() -> Bot {
        let mut bot = Bot::default();
        on(&mut bot, Event::Run);
        on(&mut bot, Event::Ready);
        bot
    }

    #[test]
    fn the_usual_life() {
        let mut bot = Bot::default();
        assert_eq!(
            on(&mut bot, Event::Run),
            [Action::Spawn, Action::Arm(10_000)]
        );
        assert_eq!(
            on(&mut bot, Event::Ready),
            [Action::Disarm, Action::ArmHealthy(60_000)]
        );
        on(&mut bot, Event::Tasks(1));
        assert_eq!(bot.actual(), Actual::Busy);
        on(&mut bot, Event::Tasks(0));
        assert_eq!(bot.actual(), Actual::Ready);
        assert_eq!(
            on(&mut bot, Event::Stop(Drain::Unbounded)),
            [Action::AskToStop(0), Action::Arm(10_500)]
        );
        assert_eq!(on(&mut bot, Event::Ended), [Action::Disarm]);
        assert_eq!(bot.actual(), Actual::Stopped);
    }

    #[test]
    fn a_crash_restarts_at_once_and_then_waits() {
        let mut bot = ready_bot();
        assert_eq!(on(&mut bot, Event::Ended)[0], Action::Spawn);
        assert_eq!(on(&mut bot, Event::Ended), [Action::Arm(50)]);
        assert_eq!(bot.actual(), Actual::Backoff);
        assert_eq!(on(&mut bot, Event::Timer)[0], Action::Spawn);
        assert_eq!(bot.restarts(), 2);
    }

    #[test]
    fn one_that_ends_at_once_for_ever_is_quarantined_and_probed() {
        let mut bot = Bot::default();
        on(&mut bot, Event::Run);
        for _ in 0..6 {
            on(&mut bot, Event::Ended);
            if bot.actual() == Actual::Backoff {
                on(&mut bot, Event::Timer);
            }
        }
        assert_eq!(bot.actual(), Actual::Quarantined);
        assert_eq!(on(&mut bot, Event::Timer)[0], Action::Spawn);
        assert_eq!(on(&mut bot, Event::Ended), [Action::Arm(300_000)]);
        assert_eq!(bot.actual(), Actual::Quarantined);
    }

    #[test]
    fn draining_waits_for_tasks_and_can_be_taken_back() {
        let mut bot = ready_bot();
        on(&mut bot, Event::Tasks(2));
        on(&mut bot, Event::Stop(Drain::Unbounded));
        assert_eq!(bot.actual(), Actual::Draining);
        assert!(!bot.takes_tasks());
        on(&mut bot, Event::Run);
        assert_eq!(bot.actual(), Actual::Busy);
        on(&mut bot, Event::Stop(Drain::Within(5)));
        assert_eq!(on(&mut bot, Event::Timer)[0], Action::AskToStop(0));
    }

    #[test]
    fn a_bounce_is_no_crash() {
        let mut bot = ready_bot();
        for _ in 0..20 {
            assert_eq!(on(&mut bot, Event::Bounce)[0], Action::AskToStop(0));
            assert_eq!(on(&mut bot, Event::Ended)[0], Action::Spawn);
            on(&mut bot, Event::Ready);
        }
        assert_eq!(bot.actual(), Actual::Ready);
    }

    #[test]
    fn one_that_never_gets_ready_is_killed() {
        let mut bot = Bot::default();
        on(&mut bot, Event::Run);
        assert_eq!(on(&mut bot, Event::Timer)[0], Action::Kill);
        assert_eq!(bot.ending(), Some(ExitCause::StartTimeout));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Run),
            Just(Event::Stop(Drain::Unbounded)),
            Just(Event::Stop(Drain::Within(5))),
            Just(Event::Bounce),
            Just(Event::Ready),
            (0u32..3).prop_map(Event::Tasks),
            Just(Event::Ended),
            Just(Event::Timer),
            Just(Event::Healthy),
            Just(Event::Stuck(ExitCause::HeartbeatTimeout)),
        ]
    }

    proptest! {
        /// A model that only counts processes and timers, against the table.
        #[test]
        fn never_two_processes_and_never_stuck(events in proptest::collection::vec(any_event(), 0..200)) {
            let mut bot = Bot::default();
            let mut processes = 0;
            let mut armed = false;
            for (n, event) in events.into_iter().enumerate() {
                // What can't happen does not: an end without a process, tasks in a bot that is not ready.
                match event {
                    Event::Ended if processes == 0 => continue,
                    Event::Timer if !armed => continue,
                    Event::Tasks(n) if n > 0 && !bot.takes_tasks() => continue,
                    Event::Tasks(_) if !bot.has_process() => continue,
                    _ => {}
                }
                if event == Event::Timer { armed = false; }
                if event == Event::Ended { processes -= 1; }
                let before = bot.actual();
                for action in bot.on(event, &Supervision::default(), n as u64 * 100, 0.5) {
                    match action {
                        Action::Spawn => processes += 1,
                        Action::Arm(_) => armed = true,
                        Action::Disarm => armed = false,
                        Action::AskToStop(_) | Action::Kill => prop_assert!(processes == 1),
                        Action::ArmHealthy(_) => {}
                    }
                }
                prop_assert!(processes <= 1, "{before:?} on {event:?}");
                prop_assert_eq!(bot.has_process(), processes == 1, "{:?} on {:?}", before, event);
                // Every state that must not last has a timer, or ends with its tasks.
                if matches!(bot.actual(), Actual::Starting | Actual::Backoff | Actual::Quarantined) {
                    prop_assert!(armed, "{:?} on {:?}", before, event);
                }
                // Nothing wanted, nothing left to wait for but an end.
                if bot.wanted() == Wanted::Stopped {
                    prop_assert!(!matches!(bot.actual(), Actual::Ready | Actual::Busy | Actual::Backoff | Actual::Quarantined));
                }
            }
        }
    }
}
