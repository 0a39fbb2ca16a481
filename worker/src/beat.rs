//! Heartbeats that all bots of a host send at the same moments, so that the daemon wakes once for
//! all of them and an idle bot wakes for nothing else.
//!
//! A kernel timer rather than the runtime's: it repeats at absolute times without drift, and a
//! runtime's timer wheel would wake the process several times for one long sleep.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Shortest interval; a smaller one asked for is lengthened to this.
pub const MIN_INTERVAL_MS: u64 = 10;

/// The first multiple of `interval_ms` after `now_ms`, both on the monotonic clock.
pub fn first_beat(now_ms: u64, interval_ms: u64) -> u64 {
    (now_ms / interval_ms)
        .saturating_add(1)
        .saturating_mul(interval_ms)
}

/// A timer that ticks at multiples of an interval on `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub struct Beat(AsyncFd<OwnedFd>);

impl Beat {
    /// A timer with this interval.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn new(interval_ms: u64) -> io::Result<Self> {
        let interval_ms = interval_ms.max(MIN_INTERVAL_MS);
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let now_ms = now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let spec = Itimerspec {
            it_interval: timespec(interval_ms),
            it_value: timespec(first_beat(now_ms, interval_ms)),
        };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what an OwnedFd always is"
        )]
        AsyncFd::with_interest(timer, Interest::READABLE).map(Self)
    }

    /// Waits for the next beat; beats that were missed count as one. Cancel-safe.
    ///
    /// # Errors
    /// When the timer can't be read.
    pub async fn tick(&self) -> io::Result<()> {
        let mut expirations = [0; 8];
        self.0
            .async_io(Interest::READABLE, |timer| {
                rustix::io::read(timer, &mut expirations).map_err(io::Error::from)
            })
            .await
            .map(drop)
    }
}

fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: (ms / 1000) as i64,
        tv_nsec: (ms % 1000 * 1_000_000) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn beats_are_later_at_most_one_interval_away_and_the_same_for_all(
            now in 0u64..1 << 50, interval in 1u64..1_000_000,
        ) {
            let at = first_beat(now, interval);
            proptest::prop_assert!(at > now && at - now <= interval);
            proptest::prop_assert_eq!(at % interval, 0);
        }
    }

    #[tokio::test]
    async fn ticks_repeatedly() {
        let beat = Beat::new(20).unwrap();
        for _ in 0..3 {
            tokio::time::timeout(std::time::Duration::from_secs(10), beat.tick())
                .await
                .expect("a beat")
                .unwrap();
        }
    }
}
