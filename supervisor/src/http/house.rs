//! Every connection of one listener: how many there may be, in all and of one address, and who goes when
//! there are too many.
//!
//! An address beyond this host may have three quarters of the places: the last quarter is for others, so
//! that no client can shut the rest out, not even with requests that are being served. Programs of this
//! host share one address, and may have all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::watch::{Command, EVICT_AFTER_MS, Watch};

/// On its way out may be one part in so many of all.
const LEAVING_PART: usize = 8;

/// A newcomer waits so long for those on their way out.
const ROOM_TIME: Duration = Duration::from_millis(50);

/// Who was put out has its descriptor until it has gone.
fn most_alive(max: u32) -> usize {
    max as usize + max as usize / LEAVING_PART + 1
}

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
    /// The process of the bot whose program it is.
    pub bot: Option<u32>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    in_house: HashMap<u64, Place>,
    /// How many there are of each address that has a share. At most as many as guests.
    shares: HashMap<IpAddr, u32>,
}

#[derive(Debug)]
struct Place {
    watch: Arc<Watch>,
    share: Option<IpAddr>,
}

/// What one address may have of so many places.
fn most_of_one(max: u32) -> u32 {
    (max - max / 4).max(1)
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

    /// A place, if need be that of whoever has kept us waiting longest; where the share of the address is
    /// used up, of the same address.
    pub(super) fn admit(house: &Arc<Self>, max: u32, share: Option<IpAddr>) -> Option<Guest> {
        if house.connections() >= most_alive(max) {
            return None;
        }
        let watch = Arc::new(Watch::new(house.base));
        let mut guests = house.lock();
        let now = watch.now();
        let has = share.and_then(|share| guests.shares.get(&share));
        if has.is_some_and(|has| *has >= most_of_one(max)) && !guests.put_one_out(now, share) {
            return None;
        }
        if guests.in_house.len() >= max as usize && !guests.put_one_out(now, None) {
            return None;
        }
        let id = guests.next;
        guests.next += 1;
        if let Some(share) = share {
            *guests.shares.entry(share).or_default() += 1;
        }
        let place = Place {
            watch: Arc::clone(&watch),
            share,
        };
        guests.in_house.insert(id, place);
        drop(guests);
        house.alive.fetch_add(1, Ordering::AcqRel);
        Some(Guest {
            id,
            watch,
            house: Arc::clone(house),
        })
    }

    /// Waits a moment for those that were put out to be gone, where so many are on their way that there
    /// would be no place for a newcomer: they are many at once, and need a turn each.
    pub(super) async fn room(&self, max: u32) {
        let some_room = async {
            loop {
                let left = self.left.notified();
                if self.connections() < most_alive(max) {
                    return;
                }
                left.await;
            }
        };
        if self.connections() >= most_alive(max) {
            drop(tokio::time::timeout(ROOM_TIME, some_room).await);
        }
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
            if !guests.put_one_out(now, None) {
                return;
            }
        }
    }

    /// Asks every connection for something.
    pub(super) fn ask_all(&self, command: Command) {
        for place in self.lock().in_house.values() {
            place.watch.ask(command);
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
    /// Of all, or of one share.
    fn put_one_out(&mut self, now: u64, of: Option<IpAddr>) -> bool {
        let longest = self
            .in_house
            .iter()
            .filter(|(_, place)| of.is_none() || place.share == of)
            .map(|(id, place)| (place.watch.kept_waiting_ms(now), *id))
            .max();
        match longest {
            Some((waited, id)) if waited >= EVICT_AFTER_MS => {
                if let Some(place) = self.remove(id) {
                    place.watch.ask(Command::Leave);
                }
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, id: u64) -> Option<Place> {
        let place = self.in_house.remove(&id)?;
        if let Some(share) = place.share
            && let Some(has) = self.shares.get_mut(&share)
        {
            *has -= 1;
            if *has == 0 {
                self.shares.remove(&share);
            }
        }
        Some(place)
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
    pub(super) fn yields(&self, given: Yielded) {
        let mut yielded = self
            .house
            .yielded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        yielded.push(given);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.lock().remove(self.id);
        self.house.alive.fetch_sub(1, Ordering::AcqRel);
        self.house.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_house_puts_out_the_longest_waiting_and_never_one_being_served() {
        let house = Arc::new(House::default());
        let busy = House::admit(&house, 2, None).unwrap();
        busy.watch.request_begins(false);
        let silent = House::admit(&house, 2, None).unwrap();
        std::thread::sleep(Duration::from_millis(EVICT_AFTER_MS + 20));
        let third = House::admit(&house, 2, None).unwrap();
        assert_eq!(silent.watch.command(), Command::Leave);
        assert_eq!(busy.watch.command(), Command::Serve);
        assert_eq!(house.lock().in_house.len(), 2);
        drop((busy, silent, third));
        assert_eq!(house.alive.load(Ordering::Acquire), 0);
    }

    #[test]
    fn no_address_takes_the_last_quarter_whatever_it_does() {
        let house = Arc::new(House::default());
        let address = |text: &str| Some(text.parse().unwrap());
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let busy = |share| {
            let guest = House::admit(&house, 8, share)?;
            guest.watch.request_begins(false);
            Some(guest)
        };
        let served: Vec<Guest> = (0..6).filter_map(|_| busy(one)).collect();
        assert_eq!(served.len(), 6);
        assert!(busy(one).is_none(), "its share is used up");
        let others: Vec<Guest> = (0..3).filter_map(|_| busy(other)).collect();
        assert_eq!(others.len(), 2, "and the house is full");
        drop(served);
        assert_eq!(house.lock().shares.get(&one.unwrap()), None);
        // One that waits makes room for another of its own.
        let silent: Vec<Guest> = (0..6)
            .filter_map(|_| House::admit(&house, 8, one))
            .collect();
        std::thread::sleep(Duration::from_millis(EVICT_AFTER_MS + 20));
        assert!(busy(one).is_some());
        let told = |guest: &&Guest| guest.watch.command() == Command::Leave;
        assert_eq!(silent.iter().filter(told).count(), 1);
        assert_eq!(others.iter().filter(told).count(), 0);
        drop((silent, others));
        assert!(house.lock().shares.is_empty());
        // This host's programs have no share.
        let here: Vec<Guest> = (0..8).filter_map(|_| busy(None)).collect();
        assert_eq!(here.len(), 8);
        assert_eq!(most_of_one(1), 1);
    }
}
