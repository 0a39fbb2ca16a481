//! Answers that last: streams, and those that wait for a task. The daemon is the one who works there, so
//! nobody is put out for it; so that they can't take every place of the port, they may have three
//! quarters, and the rest is for what is answered at once. Over the other ways in places are kept apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use super::accept::EdgeLimits;
use super::error::ApiFailure;
use super::guard::Caller;
use super::peer::Peer;

/// How soon a stream that found no place is to be tried again.
const RETRY_SECONDS: u64 = 5;

/// Counts them.
#[derive(Debug)]
pub struct Lasting {
    limits: watch::Receiver<EdgeLimits>,
    now: Arc<AtomicU32>,
}

/// One of them; over when dropped.
#[derive(Debug)]
pub struct Lasts(Option<Arc<AtomicU32>>);

impl Lasting {
    /// For a port with these limits.
    pub fn new(limits: watch::Receiver<EdgeLimits>) -> Self {
        Self {
            limits,
            now: Arc::default(),
        }
    }

    /// A place for one more, as long as what is returned is kept.
    ///
    /// # Errors
    /// 503: there is none.
    pub fn begin(&self, caller: &Caller) -> Result<Lasts, ApiFailure> {
        if !matches!(caller.peer, Peer::Tcp(_)) {
            return Ok(Lasts(None));
        }
        let max = self.limits.borrow().max_connections;
        let most = (max - max / 4).max(1);
        let one_more = |now: u32| (now < most).then_some(now + 1);
        let order = Ordering::Relaxed;
        match self.now.fetch_update(order, order, one_more) {
            Ok(_) => Ok(Lasts(Some(Arc::clone(&self.now)))),
            Err(_) => Err(ApiFailure::unavailable(
                "too_many_streams",
                format!(
                    "{most} answers are under way that last (streams, wait_seconds): try again, use the admin socket, or raise http.max_connections"
                ),
                RETRY_SECONDS,
            )),
        }
    }
}

impl Drop for Lasts {
    fn drop(&mut self) {
        if let Some(now) = &self.0 {
            now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::guard::Via;
    use crate::http::scope::ScopeSet;

    #[test]
    fn a_quarter_of_the_places_is_left_and_others_are_not_counted() {
        let limits = EdgeLimits {
            max_connections: 8,
            ..EdgeLimits::default()
        };
        let lasting = Lasting::new(watch::channel(limits).1);
        let caller = |peer| Caller {
            peer,
            via: Via::Loopback,
            scopes: ScopeSet::READ,
            max_body_bytes: 0,
        };
        let tcp = caller(Peer::Tcp("127.0.0.1:1".parse().unwrap()));
        let mut under_way: Vec<Lasts> = (0..6).map(|_| lasting.begin(&tcp).unwrap()).collect();
        assert_eq!(lasting.begin(&tcp).unwrap_err().status().as_u16(), 503);
        assert!(lasting.begin(&caller(Peer::Bot { pid: 1 })).is_ok());
        under_way.pop();
        assert!(lasting.begin(&tcp).is_ok());
        drop(under_way);
        assert_eq!(lasting.now.load(Ordering::Relaxed), 0);
    }
}
