//! How often callers may ask, before anything of their request is read but its head.
//!
//! Counted are requests of a token, else of an address; of a bot, all that its programs ask over their own
//! socket. Not counted are the admin socket, and what watches the daemon ([`is_probe`]). Apart from these,
//! refused credentials are counted for each address: past the limit none is looked at any more, right or
//! wrong, so that guessing costs a guesser more than it costs the daemon.
//! The counting is [`crate::brain::rate`]'s; here are its clock and its lock.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use deia::config::RateLimits;

use super::caller::{TokenId, Via};
use super::error::ApiFailure;
use super::peer::Peer;
use crate::brain::Millis;
use crate::brain::rate::{Wait, Windows};

/// What requests are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Token(TokenId),
    Address(IpAddr),
    Bot(u32),
}

/// The windows of all listeners. Outlives every configuration.
#[derive(Debug)]
pub struct Limiter {
    epoch: Instant,
    requests: Mutex<Windows<Who>>,
    refused: Mutex<Windows<IpAddr>>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            requests: Mutex::default(),
            refused: Mutex::default(),
        }
    }
}

impl Limiter {
    /// Counts one request.
    ///
    /// # Errors
    /// 429, with when to come back.
    pub fn admit(&self, peer: Peer, via: Via, limits: &RateLimits) -> Result<(), ApiFailure> {
        let most = limits.requests_per_minute;
        let who = match (via, peer) {
            (Via::Token(id), _) => Who::Token(id),
            (_, Peer::Tcp(address)) => Who::Address(network(address.ip())),
            (_, Peer::Bot { pid }) => Who::Bot(pid),
            (_, Peer::Admin { .. }) => return Ok(()),
        };
        if most == 0 {
            return Ok(());
        }
        lock(&self.requests)
            .admit(&who, self.now(), most)
            .map_err(|Wait { seconds }| {
                let whose = match who {
                    Who::Token(_) => "this token",
                    Who::Address(_) => "this address",
                    Who::Bot(_) => "this bot",
                };
                ApiFailure::too_many_requests(
                    format!(
                        "{whose} has sent {most} requests within a minute; try again in {seconds} s, send batches \
                         (POST /api/orchestrate/batch), or raise rate_limits.requests_per_minute"
                    ),
                    seconds,
                )
            })
    }

    /// Looks at a credential of `peer` with `is_known`, unless too many of its were refused. `None` from
    /// `is_known` is one more.
    ///
    /// # Errors
    /// 429, with when to come back.
    pub fn credential<T>(
        &self,
        peer: Peer,
        limits: &RateLimits,
        is_known: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, ApiFailure> {
        let most = limits.failed_auth_per_minute;
        let Some(address) = peer.address().map(network).filter(|_| most > 0) else {
            return Ok(is_known());
        };
        // Held meanwhile: at once, no more are looked at than one after the other.
        let mut refused = lock(&self.refused);
        let now = self.now();
        refused.may(&address, now, most).map_err(|Wait { seconds }| {
            ApiFailure::too_many_requests(
                format!(
                    "{most} credentials from this address were refused within a minute, so none is looked at for \
                     {seconds} s (rate_limits.failed_auth_per_minute)"
                ),
                seconds,
            )
            .code_is("too_many_refusals")
        })?;
        let known = is_known();
        if known.is_none() {
            refused.note(&address, now, most);
        }
        Ok(known)
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.epoch.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }
}

fn lock<K: Eq + Hash + Clone>(windows: &Mutex<Windows<K>>) -> MutexGuard<'_, Windows<K>> {
    windows.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this path is for those who watch the daemon, who are not counted: `/health*`, `/metrics`.
pub fn is_probe(path: &str) -> bool {
    super::guard::is_health(path) || path == "/metrics"
}

/// The address, or what one customer of a network has of it: of IPv6 the first 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RateLimits = RateLimits {
        requests_per_minute: 3,
        failed_auth_per_minute: 2,
    };

    fn tcp(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    fn admitted(limiter: &Limiter, peer: Peer, via: Via) -> usize {
        (0..10)
            .filter(|_| limiter.admit(peer, via, &LIMITS).is_ok())
            .count()
    }

    #[test]
    fn tokens_addresses_and_bots_have_a_window_each_and_admins_none() {
        let limiter = Limiter::default();
        assert_eq!(admitted(&limiter, tcp("127.0.0.1:1"), Via::Loopback), 3);
        assert_eq!(admitted(&limiter, tcp("127.0.0.1:2"), Via::Loopback), 0);
        assert_eq!(
            admitted(&limiter, tcp("[::ffff:127.0.0.1]:2"), Via::Loopback),
            0
        );
        assert_eq!(admitted(&limiter, tcp("127.0.0.2:1"), Via::Loopback), 3);
        let token = |n| Via::Token(TokenId([n; 4]));
        assert_eq!(admitted(&limiter, tcp("127.0.0.1:1"), token(1)), 3);
        assert_eq!(admitted(&limiter, tcp("192.0.2.1:1"), token(1)), 0);
        assert_eq!(admitted(&limiter, tcp("127.0.0.1:1"), token(2)), 3);
        assert_eq!(admitted(&limiter, Peer::Bot { pid: 7 }, Via::BotSocket), 3);
        assert_eq!(admitted(&limiter, Peer::Bot { pid: 8 }, Via::BotSocket), 3);
        let admin = Peer::Admin {
            pid: Some(1),
            uid: 0,
            gid: 0,
        };
        assert_eq!(admitted(&limiter, admin, Via::AdminSocket), 10);
    }

    #[test]
    fn one_customer_of_a_network_is_one_address() {
        let limiter = Limiter::default();
        let via = Via::Anonymous;
        assert_eq!(admitted(&limiter, tcp("[2001:db8::1]:1"), via), 3);
        assert_eq!(admitted(&limiter, tcp("[2001:db8::ffff:2]:1"), via), 0);
        assert_eq!(admitted(&limiter, tcp("[2001:db8:0:1::1]:1"), via), 3);
        assert_eq!(network("::1".parse().unwrap()).to_string(), "::1");
    }

    #[test]
    fn after_too_many_refusals_no_credential_is_looked_at() {
        let limiter = Limiter::default();
        let here = tcp("127.0.0.1:1");
        let looks = std::cell::Cell::new(0);
        let ask = |peer, known: Option<()>| {
            limiter.credential(peer, &LIMITS, || {
                looks.set(looks.get() + 1);
                known
            })
        };
        for _ in 0..50 {
            assert_eq!(ask(here, Some(())).unwrap(), Some(()));
        }
        assert_eq!(ask(here, None).unwrap(), None);
        assert_eq!(ask(here, None).unwrap(), None);
        let refusal = ask(here, Some(())).unwrap_err();
        assert_eq!(refusal.status().as_u16(), 429);
        assert_eq!(looks.get(), 52);
        assert!(ask(tcp("127.0.0.2:1"), Some(())).is_ok());
        let off = RateLimits {
            failed_auth_per_minute: 0,
            ..LIMITS
        };
        assert!(limiter.credential(here, &off, || None::<()>).is_ok());
    }

    #[test]
    fn only_what_watches_the_daemon_is_a_probe() {
        for probe in ["/health", "/health/live", "/metrics"] {
            assert!(is_probe(probe), "{probe}");
        }
        for other in ["/", "/healthy", "/metrics/x", "/api/tasks", "//metrics"] {
            assert!(!is_probe(other), "{other}");
        }
    }
}
