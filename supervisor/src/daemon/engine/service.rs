//! The main loop and the service manager: signs of life, a stop's time, what the status line counts.

use deia::bot::{Actual, Wanted};
use sd_notify::NotifyState;

use super::Engine;
use super::timers::Timer;
use crate::brain::Millis;
use crate::brain::watchdog::{EXTEND_EVERY, Watchdog, extension, proves_life};
use crate::daemon::service::{Census, Link};
use crate::store::{Op, Outcome, StoreError, Ticket};

/// The probe's ticket: no operation of a client ever gets there by counting.
pub(super) const PROBE: Ticket = Ticket::MAX;

/// What the main loop keeps for the service manager.
#[derive(Debug)]
pub(super) struct Service {
    link: Link,
    watchdog: Option<Watchdog>,
    /// When a stop that is under way has ended by itself.
    stopped_by: Millis,
    /// Bots in [`Census`] are to be counted again.
    bots_moved: bool,
}

impl Service {
    pub(super) fn new(link: Link) -> Self {
        Self {
            watchdog: link.watchdog.map(Watchdog::new),
            link,
            stopped_by: 0,
            bots_moved: true,
        }
    }
}

impl Engine {
    /// Asks the store whether it works, if the service manager watches and no question is open.
    pub(super) fn probe_store(&mut self) {
        let now = self.now();
        let Some(watchdog) = self.service.as_mut().and_then(|s| s.watchdog.as_mut()) else {
            return;
        };
        // Not with the others: a queue that takes nothing is no answer.
        match self.store.write(vec![(PROBE, Op::Probe)]) {
            Ok(()) => watchdog.asked(now),
            Err(_) => self.timers.at(watchdog.not_taken(now), Timer::Probe),
        }
    }

    /// The store has answered: the main loop, the writer and the disk are alive.
    pub(super) fn probed(&mut self, answer: &Result<Outcome, StoreError>) {
        let now = self.now();
        if let Some(service) = &self.service
            && let Some(watchdog) = &service.watchdog
        {
            if proves_life(answer) {
                service.link.notifier.tell(&[NotifyState::Watchdog]);
            }
            self.timers.at(watchdog.answered(now), Timer::Probe);
        }
    }

    /// A stop begins that ends by itself until then.
    pub(super) fn stopping_until(&mut self, deadline: Millis) {
        if let Some(service) = self.service.as_mut().filter(|_| !self.goes_on) {
            service.stopped_by = deadline;
            self.extend_stop();
        }
    }

    /// Says that a stop is under way, each time in case it was not heard before, and asks for the time it still needs.
    pub(super) fn extend_stop(&mut self) {
        let now = self.now();
        if let Some(service) = &self.service
            && let Some(more) = extension(now, service.stopped_by)
        {
            let microseconds = u32::try_from(more * 1_000).unwrap_or(u32::MAX);
            let more = NotifyState::ExtendTimeoutUsec(microseconds);
            service.link.notifier.tell(&[NotifyState::Stopping, more]);
            self.timers.at(now + EXTEND_EVERY, Timer::ExtendStop);
        }
    }

    /// A bot has moved between states of which the status line tells.
    pub(super) fn bot_moved(&mut self, before: (Actual, Wanted), after: (Actual, Wanted)) {
        let works = |(actual, wanted)| (matches!(actual, Actual::Ready | Actual::Busy), wanted);
        if let Some(service) = &mut self.service {
            // Between ready and busy a bot goes with every task.
            service.bots_moved |=
                before != after && !(works(before) == works(after) && works(after).0);
        }
    }

    /// Counts anew what has changed in this turn.
    pub(super) fn take_census(&mut self) {
        let Some(service) = &mut self.service else {
            return;
        };
        let mut census = *service.link.census.borrow();
        census.running = self.in_flight.len();
        census.queued = self.dispatcher.waiting();
        if std::mem::take(&mut service.bots_moved) {
            let machines = || self.bots.values().map(|entry| &entry.machine);
            census.ready = machines().filter(|bot| bot.takes_tasks()).count();
            census.wanted = machines()
                .filter(|bot| bot.wanted() == Wanted::Running)
                .count();
            census.alive = machines().filter(|bot| bot.has_process()).count();
        }
        service.link.census.send_if_modified(|shown: &mut Census| {
            let changed = *shown != census;
            *shown = census;
            changed
        });
    }
}
