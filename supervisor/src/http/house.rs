//! Every connection of one listener: how many there may be, and who goes when there are too many.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::watch::{Command, EVICT_AFTER_MS, Watch};

/// On its way out may be one part in so many of all.
const LEAVING_PART: usize = 8;

/// Every connection of one listener.
#[derive(Debug)]
pub(super) struct House {
    base: Instant,
    guests: Mutex<Guests>,
    alive: AtomicUsize,
    left: Notify,
    yielded: Mutex<Vec<Yielded>>,
}

/// A connection that was given back between two requests.
#[derive(Debug)]
pub struct Yielded {
    /// The socket.
    pub socket: OwnedFd,
    /// What was read of the next request.
    pub read: Vec<u8>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    in_house: HashMap<u64, Arc<Watch>>,
}

impl Default for House {
    fn default() -> Self {
        Self {
            base: Instant::now(),
            guests: Mutex::default(),
            alive: AtomicUsize::new(0),
            left: Notify::new(),
            yielded: Mutex::default(),
        }
    }
}

impl House {
    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if need be that of whoever has kept us waiting longest.
    pub(super) fn admit(house: &Arc<Self>, max: u32) -> Option<Guest> {
        // Who was put out has its descriptor until it has gone.
        let most = max as usize + max as usize / LEAVING_PART + 1;
        if house.connections() >= most {
            return None;
        }
        let watch = Arc::new(Watch::new(house.base));
        let mut guests = house.lock();
        if guests.in_house.len() >= max as usize && !guests.put_one_out(watch.now()) {
            return None;
        }
        let id = guests.next;
        guests.next += 1;
        guests.in_house.insert(id, Arc::clone(&watch));
        drop(guests);
        house.alive.fetch_add(1, Ordering::AcqRel);
        Some(Guest {
            id,
            watch,
            house: Arc::clone(house),
        })
    }

    /// How many there are.
    pub(super) fn connections(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }

    /// Frees a quarter of the places, where they keep us waiting: for want of descriptors.
    pub(super) fn put_some_out(&self) {
        let now = Watch::new(self.base).now();
        let mut guests = self.lock();
        for _ in 0..guests.in_house.len().div_ceil(4) {
            if !guests.put_one_out(now) {
                return;
            }
        }
    }

    /// Asks every connection for something.
    pub(super) fn ask_all(&self, command: Command) {
        for watch in self.lock().in_house.values() {
            watch.ask(command);
        }
    }

    /// Those that were given back so far.
    pub(super) fn yielded(&self) -> Vec<Yielded> {
        let mut yielded = self.yielded.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *yielded)
    }

    /// Ends when nobody is left.
    pub(super) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.alive.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Guests {
    fn put_one_out(&mut self, now: u64) -> bool {
        let longest = self
            .in_house
            .iter()
            .map(|(id, watch)| (watch.kept_waiting_ms(now), *id))
            .max();
        match longest {
            Some((waited, id)) if waited >= EVICT_AFTER_MS => {
                if let Some(watch) = self.in_house.remove(&id) {
                    watch.ask(Command::Leave);
                }
                true
            }
            _ => false,
        }
    }
}

/// A connection's place in the house; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Guest {
    id: u64,
    pub(super) watch: Arc<Watch>,
    house: Arc<House>,
}

impl Guest {
    /// Gives the connection back to whoever asked for it.
    pub(super) fn yields(&self, socket: OwnedFd, read: Vec<u8>) {
        let mut yielded = self
            .house
            .yielded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        yielded.push(Yielded { socket, read });
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.lock().in_house.remove(&self.id);
        if self.house.alive.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.house.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_house_puts_out_the_longest_waiting_and_never_one_being_served() {
        let house = Arc::new(House::default());
        let busy = House::admit(&house, 2).unwrap();
        busy.watch.request_begins(false);
        let silent = House::admit(&house, 2).unwrap();
        std::thread::sleep(Duration::from_millis(EVICT_AFTER_MS + 20));
        let third = House::admit(&house, 2).unwrap();
        assert_eq!(silent.watch.command(), Command::Leave);
        assert_eq!(busy.watch.command(), Command::Serve);
        assert_eq!(house.lock().in_house.len(), 2);
        drop((busy, silent, third));
        assert_eq!(house.alive.load(Ordering::Acquire), 0);
    }
}
