//! The log's events as they happen, for those who watch: a bounded ring that readers follow at their own
//! pace.
//!
//! Who logs copies a line into a place that is there already and waits for nobody. A reader that is slower
//! than [`MAX_EVENTS`] events learns how many it has missed. The lines are those of the files: what may not
//! stand there is not here either.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Events that can still be read.
pub const MAX_EVENTS: usize = 2048;
/// Longest event; what is longer is not shown.
pub const MAX_EVENT_BYTES: usize = 2048;
/// Readers at once.
pub const MAX_READERS: usize = 32;

/// Events with these beginnings are shown.
const SHOWN: &[&str] = &[
    "task_",
    "bot_",
    "alert_",
    "scal",
    "drain_",
    "backup_",
    "restore_",
    "degraded_",
    "full_",
    "maintenance_",
    "config_reloaded",
    "limits_",
    "upgrade_",
    "store_",
    "no_suitable_bot",
];

/// Files have names that somebody else chose: they are seen in the log, not here.
const NOT_SHOWN: &[&str] = &["task_file"];

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Feed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ring: Mutex<Ring>,
    readers: AtomicUsize,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    /// How many events there were.
    next: u64,
    places: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    event: String,
    line: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub event: String,
    /// The line, as in the files, without its end.
    pub line: String,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was logged.
    pub(super) fn push(&self, event: &str, line: &[u8]) {
        let begins = |with: &[&str]| with.iter().any(|prefix| event.starts_with(prefix));
        if line.len() > MAX_EVENT_BYTES || !begins(SHOWN) || begins(NOT_SHOWN) {
            return;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            return;
        };
        let mut ring = self.lock();
        let index = (ring.next % MAX_EVENTS as u64) as usize;
        if index >= ring.places.len() {
            ring.places.push(Place::default());
        }
        if let Some(place) = ring.places.get_mut(index) {
            place.event.clear();
            place.event.push_str(event);
            place.line.clear();
            // Writing into a string can't fail.
            let _ = place.line.write_str(line.trim_end());
        }
        ring.next += 1;
        drop(ring);
        if self.0.readers.load(Ordering::Acquire) > 0 {
            self.0.wake.notify_waiters();
        }
    }

    /// A reader that begins with what happens next; `None` when there are [`MAX_READERS`].
    pub fn read(&self) -> Option<Reader> {
        let take = |readers: usize| (readers < MAX_READERS).then_some(readers + 1);
        let readers = &self.0.readers;
        readers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .ok()?;
        Some(Reader {
            next: self.lock().next,
            feed: self.clone(),
        })
    }

    /// How many read now.
    pub fn readers(&self) -> usize {
        self.0.readers.load(Ordering::Acquire)
    }
}

/// Follows the feed.
#[derive(Debug)]
pub struct Reader {
    feed: Feed,
    next: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feed.0.readers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reader {
    /// The number of the event it reads next.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Goes on after the event with this number; false where that was never given out.
    pub fn resume_after(&mut self, number: u64) -> bool {
        if number >= self.feed.lock().next {
            return false;
        }
        self.next = number + 1;
        true
    }

    /// What there is, at most `most` events; before them, how many there is nothing left of.
    pub fn take(&mut self, most: usize) -> (u64, Vec<Shown>) {
        let ring = self.feed.lock();
        let oldest = ring.next.saturating_sub(ring.places.len() as u64);
        let lost = oldest.saturating_sub(self.next);
        let from = self.next.max(oldest);
        let to = ring.next.min(from + most as u64);
        let shown = (from..to).filter_map(|number| {
            let place = ring.places.get((number % MAX_EVENTS as u64) as usize)?;
            Some(Shown {
                number,
                event: place.event.clone(),
                line: place.line.clone(),
            })
        });
        let shown = shown.collect();
        self.next = to;
        (lost, shown)
    }

    /// Waits until there is something.
    pub async fn wait(&self) {
        loop {
            let woken = self.feed.0.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.feed.lock().next > self.next {
                return;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_sees_what_happens_after_it_came_and_can_go_back() {
        let feed = Feed::default();
        feed.push("bot_ready", b"{1}\n");
        let mut reader = feed.read().unwrap();
        assert_eq!(reader.take(10), (0, vec![]));
        let pushed = feed.clone();
        let pushes = tokio::spawn(async move { pushed.push("task_dead", b"{2}\n") });
        reader.wait().await;
        pushes.await.unwrap();
        let (lost, shown) = reader.take(10);
        assert_eq!(lost, 0);
        assert_eq!(
            (shown[0].event.as_str(), shown[0].line.as_str()),
            ("task_dead", "{2}")
        );
        assert!(reader.resume_after(0));
        assert_eq!(reader.take(10).1.len(), 1);
        assert!(!reader.resume_after(2));
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_the_ring_does_not_grow() {
        let feed = Feed::default();
        let mut reader = feed.read().unwrap();
        for n in 0..MAX_EVENTS + 100 {
            feed.push("task_started", format!("{{{n}}}").as_bytes());
        }
        assert_eq!(feed.lock().places.len(), MAX_EVENTS);
        let (lost, shown) = reader.take(10);
        assert_eq!((lost, shown.len(), shown[0].number), (100, 10, 100));
        assert_eq!(shown[0].line, "{100}");
        assert_eq!(
            reader.take(1),
            (
                0,
                vec![Shown {
                    number: 110,
                    event: "task_started".into(),
                    line: "{110}".into()
                }]
            )
        );
    }

    #[test]
    fn what_is_not_for_watchers_is_not_there_and_readers_are_counted() {
        let feed = Feed::default();
        feed.push("request_failed", b"{}");
        feed.push("task_file_rejected", b"{}");
        feed.push("task_dead", &[b'x'; MAX_EVENT_BYTES + 1]);
        feed.push("task_dead", &[0xff]);
        assert_eq!(feed.lock().next, 0);
        let readers: Vec<_> = (0..MAX_READERS).map(|_| feed.read().unwrap()).collect();
        assert!(feed.read().is_none());
        drop(readers);
        assert_eq!(feed.readers(), 0);
    }
}
