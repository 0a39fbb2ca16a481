//! Every decision, without I/O.
//!
//! ```text
//!   demand    what a task asks for, and which pools can give it
//!   scale     how many bots each pool wants, from the load
//!   plan      how many it gets, from the limits
//!   pick      which ones
//!   learn     what each bot is good at, from its results
//!   route     which bot, by score
//!   window    the part of the queue that is in memory
//!   dispatch  which task goes to which bot, now
//!   retry     what happens to a task whose attempt ended without a result
//!   bot       a bot as (wanted, actual): every event in every state
//!   restart   when a bot that ended is started again
//!   content   what looks dangerous in a text, and whether it goes on
//!   explain   what is said of a bot: what happened, how often, what comes next
//!   keep      which backups are kept, and when the next one is due
//!   external  whether a bot that is no process here is there
//!   liveness  whether a bot's main loop turns
//!   record    what happened, in numbers, for whoever looks
//!   rate      how often each caller may ask
//!   watchdog  when the daemon is known to work, and how long a stop may take
//!   servers   which model servers answer, and which pools wait for theirs
//!   tally     what is counted, and rates over the last minutes
//!   alerts    when somebody is told that something is wrong
//!   degrade   what the fleet does without for a while
//!   process   whether a bot's processes take too much
//! ```
//!
//! Nothing here reads a clock, draws a random number, opens a file or knows tokio: time arrives as
//! milliseconds of a monotonic clock ([`Millis`]) or as a [`deia::time::Timestamp`], chance as a
//! number in 0..1. So the main loop, the tests and a simulation drive the same code.

pub mod alerts;
pub mod bot;
pub mod clock;
pub mod content;
pub mod degrade;
pub mod demand;
pub mod dispatch;
pub mod explain;
pub mod external;
pub mod keep;
pub mod learn;
pub mod liveness;
pub mod pick;
pub mod plan;
pub mod process;
pub mod rate;
pub mod record;
pub mod restart;
pub mod retry;
pub mod route;
pub mod scale;
pub mod servers;
pub mod tally;
pub mod watchdog;
pub mod window;

/// Milliseconds on a monotonic clock that starts with the daemon: wall-clock jumps do not move it.
pub type Millis = u64;

/// Seconds, as the configuration has them, in [`Millis`].
pub fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0).round().clamp(0.0, u64::MAX as f64) as Millis
}
