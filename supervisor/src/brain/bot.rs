//! A bot as (wanted, state): one table, in which every event has an answer in every state.
//!
//! ```text
//!              Run                       Ready              Tasks(n > 0)
//!   Stopped ------------> Starting ----------------> Ready <-------------> Busy
//!    ^  |                  ^  |  |                     |                     |
//!    |  | Found            |  |  | Stop: kill          | Stop, Bounce        | Stop, Bounce
//!    |  '-----> Found -----+--+--+---> Ready, Busy     |                     v
//!    |            |        |  |  |     or Draining     |               Draining(then)
//!    |            | timer  |  |  |                     | Tasks(0), timer     |
//!    |            |  timer,|  |  |                     v                     |
//!    |            |  Run   |  '--+----------------> Stopping(why) <----------'
//!    |            |        |     | ended               |     |
//!    |            |     Backoff  v                     |     '-- timer: kill, again and again
//!    |            |   Quarantined <- restart policy <--+ ended, wanted, and nobody had asked for it
//!    |            v        |                           |
//!    '--- ended, or Stop --+---------------------------' ended, not wanted
//! ```
//!
//! What the fleet *wants* is kept apart from what the bot *is*. One that was asked to end and is wanted
//! by then is started at once; one that ended by itself goes through the [restart policy](super::restart).
//! There are no flags: what must be remembered is part of the state it matters in.

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
    /// A new process is wanted: the old one finishes first.
    Bounce,
    /// An earlier daemon's process of it lives, and may dial in within this time.
    Found(Millis),
    /// The process said that it is ready, or that it is back.
    Ready,
    /// It has this many tasks now.
    Tasks(u32),
    /// Nothing of the process is left, or it could not be started.
    Ended,
    /// The host has no room for another process now: no memory, no descriptors, too many processes.
    NoRoom,
    /// The timer of the present state fired.
    Timer,
    /// It was ready for `healthy_seconds`.
    Healthy,
    /// It is not alive in the sense that counts, or takes more than it may.
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

/// Between two tries to start a process on a host that has no room for it, at least and at most.
const NO_ROOM_SECONDS: [f64; 2] = [1.0, 2.0];

/// What a draining bot does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Then {
    /// It rests.
    Rest,
    /// It is started anew.
    Again,
}

/// What a bot is. [`Actual`] is the same with less detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No process.
    Stopped,
    /// A process was asked for, and has not said that it is ready.
    Starting,
    /// An earlier daemon's process that has not come back yet.
    Found,
    /// Ready, with no task.
    Ready,
    /// Ready, with at least one.
    Busy,
    /// Finishes its tasks and takes no new ones.
    Draining(Then),
    /// Was asked or made to end, and why.
    Stopping(ExitCause),
    /// Waits before it is started again.
    Backoff,
    /// Ended too often: started only now and then.
    Quarantined,
}

/// One bot.
#[derive(Debug, Clone)]
pub struct Bot {
    wanted: Wanted,
    state: State,
    tasks: u32,
    history: RestartHistory,
    restarts: u64,
}

impl Default for Bot {
    fn default() -> Self {
        Self {
            wanted: Wanted::Stopped,
            state: State::Stopped,
            tasks: 0,
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
    pub fn state(&self) -> State {
        self.state
    }

    /// What it is, as users see it.
    pub fn actual(&self) -> Actual {
        match self.state {
            State::Stopped => Actual::Stopped,
            State::Starting | State::Found => Actual::Starting,
            State::Ready => Actual::Ready,
            State::Busy => Actual::Busy,
            State::Draining(_) => Actual::Draining,
            State::Stopping(_) => Actual::Stopping,
            State::Backoff => Actual::Backoff,
            State::Quarantined => Actual::Quarantined,
        }
    }

    /// Restarts so far.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How it has ended lately.
    pub fn history(&self) -> &RestartHistory {
        &self.history
    }

    /// Whether it may be given a task.
    pub fn takes_tasks(&self) -> bool {
        matches!(self.state, State::Ready | State::Busy)
    }

    /// Whether it has a process.
    pub fn has_process(&self) -> bool {
        match self.state {
            State::Starting
            | State::Found
            | State::Ready
            | State::Busy
            | State::Draining(_)
            | State::Stopping(_) => true,
            State::Stopped | State::Backoff | State::Quarantined => false,
        }
    }

    /// Whether its main loop must be heard.
    pub fn must_beat(&self) -> bool {
        matches!(self.state, State::Ready | State::Busy | State::Draining(_))
    }

    /// Why the daemon is ending its process, where it is.
    pub fn ending(&self) -> Option<ExitCause> {
        match self.state {
            State::Stopping(why) => Some(why),
            _ => None,
        }
    }

    /// The table. `chance` is in 0..1.
    pub fn on(
        &mut self,
        event: Event,
        rules: &Supervision,
        now: Millis,
        chance: f64,
    ) -> Vec<Action> {
        use State as S;
        match event {
            Event::Run | Event::Bounce => self.wanted = Wanted::Running,
            Event::Stop(_) => self.wanted = Wanted::Stopped,
            Event::Tasks(n) => self.tasks = n,
            Event::Found(_)
            | Event::Ready
            | Event::Ended
            | Event::NoRoom
            | Event::Timer
            | Event::Healthy
            | Event::Stuck(_) => {}
        }
        match (self.state, event) {
            (S::Stopped, Event::Run | Event::Bounce) => self.start(rules),
            (S::Stopped, Event::Found(patience)) => {
                self.state = S::Found;
                vec![Action::Arm(patience)]
            }
            (
                S::Stopped,
                Event::Stop(_)
                | Event::Ready
                | Event::Tasks(_)
                | Event::Ended
                | Event::NoRoom
                | Event::Timer
                | Event::Healthy
                | Event::Stuck(_),
            ) => Vec::new(),

            (S::Starting, Event::Ready) => self.becomes_ready(rules),
            // It has nothing to lose.
            (S::Starting, Event::Stop(_) | Event::Bounce) => self.kill(ExitCause::Stopped, rules),
            (S::Starting, Event::Ended) => self.by_policy(rules, now, chance),
            // The host's fault: nobody is blamed, and it is tried again soon.
            (S::Starting, Event::NoRoom) => {
                self.state = S::Backoff;
                let [first, after] = NO_ROOM_SECONDS;
                vec![Action::Arm(millis(first + chance * (after - first)))]
            }
            (S::Starting, Event::Timer) => self.kill(ExitCause::StartTimeout, rules),
            (S::Starting, Event::Stuck(why)) => self.kill(why, rules),
            (S::Starting, Event::Run | Event::Found(_) | Event::Tasks(_) | Event::Healthy) => {
                Vec::new()
            }

            (S::Found, Event::Ready) => self.is_back(rules),
            // It can't be told before it is back; what it has it may finish until then.
            (S::Found, Event::Stop(Drain::Within(time))) => vec![Action::Arm(time)],
            (S::Found, Event::Timer) => self.kill(ExitCause::HeartbeatTimeout, rules),
            (S::Found, Event::Stuck(why)) => self.kill(why, rules),
            // There is nothing to blame it for.
            (S::Found, Event::Ended) => self.expected_end(rules),
            (
                S::Found,
                Event::Run
                | Event::Stop(Drain::Unbounded)
                | Event::Bounce
                | Event::Found(_)
                | Event::Tasks(_)
                | Event::NoRoom
                | Event::Healthy,
            ) => Vec::new(),

            (S::Ready | S::Busy, Event::Stop(drain)) => self.wind_down(drain, Then::Rest, rules),
            (S::Ready | S::Busy, Event::Bounce) => {
                self.wind_down(Drain::Unbounded, Then::Again, rules)
            }
            (S::Ready | S::Busy, Event::Tasks(n)) => {
                self.state = if n > 0 { S::Busy } else { S::Ready };
                Vec::new()
            }
            (S::Ready | S::Busy, Event::Healthy) => {
                self.history.healthy();
                Vec::new()
            }
            (S::Ready | S::Busy, Event::Ended) => self.by_policy(rules, now, chance),
            (S::Ready | S::Busy, Event::Stuck(why)) => self.kill(why, rules),
            (
                S::Ready | S::Busy,
                Event::Run | Event::Found(_) | Event::Ready | Event::NoRoom | Event::Timer,
            ) => Vec::new(),

            // It was not told yet: it simply goes on.
            (S::Draining(Then::Rest), Event::Run) => {
                self.state = if self.tasks > 0 { S::Busy } else { S::Ready };
                vec![Action::Disarm]
            }
            (S::Draining(_), Event::Stop(drain)) => self.wind_down(drain, Then::Rest, rules),
            (S::Draining(_), Event::Bounce) => self.wind_down(Drain::Unbounded, Then::Again, rules),
            (S::Draining(_), Event::Tasks(0)) | (S::Draining(_), Event::Timer) => {
                self.ask_to_stop(rules)
            }
            (S::Draining(Then::Rest), Event::Ended) => self.expected_end(rules),
            (S::Draining(Then::Again), Event::Ended) => self.start_again(rules),
            (S::Draining(_), Event::Stuck(why)) => self.kill(why, rules),
            (S::Draining(Then::Again), Event::Run)
            | (
                S::Draining(_),
                Event::Found(_) | Event::Ready | Event::Tasks(_) | Event::NoRoom | Event::Healthy,
            ) => Vec::new(),

            // Stopped before there was a process.
            (S::Stopping(_), Event::NoRoom) => self.expected_end(rules),
            (S::Stopping(ExitCause::Stopped), Event::Ended) => self.expected_end(rules),
            (S::Stopping(_), Event::Ended) => self.by_policy(rules, now, chance),
            // Again, until it is gone: a process in an uninterruptible call ends late.
            (S::Stopping(_), Event::Timer) => vec![
                Action::Kill,
                Action::Arm(millis(rules.stop_timeout_seconds)),
            ],
            (
                S::Stopping(_),
                Event::Run
                | Event::Stop(_)
                | Event::Bounce
                | Event::Found(_)
                | Event::Ready
                | Event::Tasks(_)
                | Event::Healthy
                | Event::Stuck(_),
            ) => Vec::new(),

            // An operator who says `restart` wants a fresh count, too.
            (S::Backoff | S::Quarantined, Event::Bounce) => {
                self.history.healthy();
                self.start_again(rules)
            }
            // ... and one who says `start` does not wait for the timer.
            (S::Backoff | S::Quarantined, Event::Run | Event::Timer) => self.start_again(rules),
            (S::Backoff | S::Quarantined, Event::Stop(_)) => {
                self.state = S::Stopped;
                vec![Action::Disarm]
            }
            (
                S::Backoff | S::Quarantined,
                Event::Found(_)
                | Event::Ready
                | Event::Tasks(_)
                | Event::Ended
                | Event::NoRoom
                | Event::Healthy
                | Event::Stuck(_),
            ) => Vec::new(),
        }
    }

    fn becomes_ready(&mut self, rules: &Supervision) -> Vec<Action> {
        self.state = if self.tasks > 0 {
            State::Busy
        } else {
            State::Ready
        };
        vec![
            Action::Disarm,
            Action::ArmHealthy(millis(rules.healthy_seconds)),
        ]
    }

    /// An earlier daemon's bot dialled in: it goes on, or winds down when it is not wanted any more.
    fn is_back(&mut self, rules: &Supervision) -> Vec<Action> {
        let mut actions = self.becomes_ready(rules);
        if self.wanted == Wanted::Stopped {
            actions.extend(self.wind_down(Drain::Unbounded, Then::Rest, rules));
        }
        actions
    }

    /// Towards no process: by itself where it has tasks, else at once.
    fn wind_down(&mut self, drain: Drain, then: Then, rules: &Supervision) -> Vec<Action> {
        if self.tasks == 0 {
            return self.ask_to_stop(rules);
        }
        self.state = State::Draining(then);
        match drain {
            Drain::Unbounded => vec![Action::Disarm],
            Drain::Within(0) => self.ask_to_stop(rules),
            Drain::Within(time) => vec![Action::Arm(time)],
        }
    }

    /// It ended because it should.
    fn expected_end(&mut self, rules: &Supervision) -> Vec<Action> {
        match self.wanted {
            Wanted::Stopped => {
                self.tasks = 0;
                self.state = State::Stopped;
                vec![Action::Disarm]
            }
            Wanted::Running => self.start_again(rules),
        }
    }

    /// It ended by itself, or was ended for a reason of its own.
    fn by_policy(&mut self, rules: &Supervision, now: Millis, chance: f64) -> Vec<Action> {
        if self.wanted == Wanted::Stopped {
            return self.expected_end(rules);
        }
        self.tasks = 0;
        match self.history.ended(rules, now, chance) {
            Restart::Now => self.start_again(rules),
            Restart::After(delay) => {
                self.state = State::Backoff;
                vec![Action::Arm(delay)]
            }
            Restart::Quarantine(delay) => {
                self.state = State::Quarantined;
                vec![Action::Arm(delay)]
            }
        }
    }

    /// Counted here and not at the end before it: one in quarantine waits, it was not restarted.
    fn start_again(&mut self, rules: &Supervision) -> Vec<Action> {
        self.restarts += 1;
        self.start(rules)
    }

    fn start(&mut self, rules: &Supervision) -> Vec<Action> {
        self.state = State::Starting;
        self.tasks = 0;
        vec![
            Action::Spawn,
            Action::Arm(millis(rules.start_timeout_seconds)),
        ]
    }

    fn ask_to_stop(&mut self, rules: &Supervision) -> Vec<Action> {
        self.state = State::Stopping(ExitCause::Stopped);
        // The bot itself gives what it started `stop_timeout_seconds` between TERM and KILL, and
        // needs a moment to see that they are gone.
        let patience = millis(rules.stop_timeout_seconds) + STOP_MARGIN;
        vec![Action::AskToStop(0), Action::Arm(patience)]
    }

    fn kill(&mut self, cause: ExitCause, rules: &Supervision) -> Vec<Action> {
        self.state = State::Stopping(cause);
        vec![
            Action::Kill,
            Action::Arm(millis(rules.stop_timeout_seconds)),
        ]
    }
}

/// What a bot may take beyond its stop time-out before it is killed.
const STOP_MARGIN: Millis = 500;

#[cfg(test)]
mod tests;
