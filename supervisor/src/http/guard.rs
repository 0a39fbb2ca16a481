//! Who may come in at all, before any route is looked up.
//!
//! 1. **Host** (TCP): a page that made its own name point at 127.0.0.1 (DNS rebinding) still says that
//!    name; only loopback names, the bound address and `http.allowed_hosts` are served, the rest is 421.
//! 2. **Origin** (both ways in): a page from elsewhere says where it is from; 403. Browsers leave it out
//!    of plain GETs, and say `Sec-Fetch-Site: cross-site` there: refused too, but for following a link.
//! 3. **Who**: the admin socket's peers were admitted by [`super::peer`] and have every scope. Over TCP a
//!    token says. Without one: with `http.auth: off` loopback has read, submit and bot, else nobody has
//!    anything but `/health*` and the pages, which hold nothing of the fleet. A token that is sent is looked at in either case: with a wrong one nobody
//!    falls back to what he could do without.
//! 4. **How often** ([`super::limit`]): before a byte of the body is read, also for who was refused under 3.
//!
//! In this order, because each step costs more than the one before it, and because a page of another
//! origin shall use up nobody's share.
//!
//! What a route requires is checked by [`super::scope`], against the [`Caller`] made here.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use axum::http::request::Parts;
use axum::http::{Method, Version};
use deia::config::{Http, HttpAuth, RateLimits};

pub use super::caller::{Caller, TOKEN_PREFIX, TokenId, Tokens, Via, token_hash};
use super::error::ApiFailure;
use super::limit::{Limiter, is_probe};
use super::peer::Peer;
use super::scope::ScopeSet;

/// Longest `Authorization` value that is looked at.
pub const MAX_TOKEN_BYTES: usize = 256;

/// What a guard knows, whatever the configuration says.
#[derive(Clone)]
pub struct Books {
    /// The tokens there are.
    pub tokens: Arc<dyn Tokens>,
    /// Who has asked how often.
    pub limiter: Arc<Limiter>,
    /// Named to callers that would need it.
    pub admin_socket: PathBuf,
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Books")
    }
}

/// The rules in force for one listener.
pub struct Guard {
    hosts: HashSet<String>,
    bound: Option<IpAddr>,
    auth: HttpAuth,
    limits: RateLimits,
    books: Books,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("hosts", &self.hosts)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// For a listener bound to `bound` (`None`: not to an address).
    pub fn new(bound: Option<SocketAddr>, http: &Http, limits: &RateLimits, books: Books) -> Self {
        Self {
            hosts: http
                .allowed_hosts
                .iter()
                .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
                .collect(),
            bound: bound.map(|a| a.ip()).filter(|ip| !ip.is_unspecified()),
            auth: http.auth,
            limits: limits.clone(),
            books,
        }
    }

    /// Who makes this request; `local` is the address it came in on.
    ///
    /// # Errors
    /// What it is answered instead: 400, 401, 403, 421 or 429.
    pub fn check(
        &self,
        parts: &Parts,
        peer: Peer,
        local: Option<IpAddr>,
    ) -> Result<Caller, ApiFailure> {
        if let Peer::Tcp(_) = peer {
            self.check_host(parts, local)?;
        }
        self.check_origin(&parts.method, &parts.headers, local)?;
        let path = parts.uri.path();
        let known = match peer {
            Peer::Admin { .. } => Ok((Via::AdminSocket, ScopeSet::ALL)),
            Peer::Bot { .. } => Ok((Via::BotSocket, ScopeSet::LOOPBACK)),
            Peer::Tcp(_) if is_health(path) => Ok((Via::Anonymous, ScopeSet::NONE)),
            // To who is not let in at all they are of no use.
            Peer::Tcp(_) if is_page(path) && (self.auth == HttpAuth::Tokens || peer.is_local()) => {
                Ok((Via::Anonymous, ScopeSet::NONE))
            }
            Peer::Tcp(address) => self.over_tcp(peer, address.ip(), &parts.headers),
        };
        if !is_probe(path) {
            let via = known.as_ref().map_or(Via::Anonymous, |(via, _)| *via);
            self.books.limiter.admit(peer, via, &self.limits)?;
        }
        let (via, scopes) = known?;
        Ok(Caller {
            peer,
            via,
            scopes,
            max_body_bytes: 0,
        })
    }

    /// Where the admin socket is.
    pub fn admin_socket(&self) -> &Path {
        &self.books.admin_socket
    }

    fn over_tcp(
        &self,
        peer: Peer,
        address: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(Via, ScopeSet), ApiFailure> {
        match self.auth {
            HttpAuth::Tokens if !headers.contains_key(AUTHORIZATION) => {
                Err(self.unauthorized("this request needs exactly one Authorization header"))
            }
            HttpAuth::Tokens => self.token(peer, headers),
            // Clients of other services send something of their own, often just to send something.
            HttpAuth::Off if headers.get_all(AUTHORIZATION).iter().any(is_for_us) => {
                self.token(peer, headers)
            }
            HttpAuth::Off if peer.is_local() => Ok((Via::Loopback, ScopeSet::LOOPBACK)),
            HttpAuth::Off => Err(ApiFailure::forbidden(
                "loopback_only",
                format!(
                    "{address} is not this host; send a token (deiactl token create), and set `http.auth: tokens` to serve others"
                ),
            )),
        }
    }

    fn token(&self, peer: Peer, headers: &HeaderMap) -> Result<(Via, ScopeSet), ApiFailure> {
        let mut why = "";
        let known = self.books.limiter.credential(peer, &self.limits, || {
            let presented = presented(headers).map_err(|refusal| why = refusal).ok()?;
            let hash = token_hash(presented);
            let scopes = self.books.tokens.scopes(&hash);
            why = "the token is not known, has expired or was revoked";
            Some((Via::Token(TokenId::of(&hash)), scopes?))
        })?;
        known.ok_or_else(|| self.unauthorized(why))
    }

    fn unauthorized(&self, why: &str) -> ApiFailure {
        ApiFailure::unauthorized(format!(
            "{why}; send `Authorization: Bearer {TOKEN_PREFIX}...` (deiactl token create), or use the admin socket {}",
            self.admin_socket().display()
        ))
    }

    fn check_host(&self, parts: &Parts, local: Option<IpAddr>) -> Result<(), ApiFailure> {
        let mut values = parts.headers.get_all(HOST).iter();
        let header = match (values.next(), values.next()) {
            (Some(_), Some(_)) => {
                return Err(ApiFailure::bad_request(
                    "bad_host",
                    "more than one Host header",
                ));
            }
            (Some(value), None) => Some(value.to_str().map_err(|_| {
                ApiFailure::bad_request("bad_host", "the Host header is not ASCII")
            })?),
            // Only HTTP/1.0 may leave it out; no browser speaks that.
            (None, _) if parts.version >= Version::HTTP_11 => {
                return Err(ApiFailure::bad_request("bad_host", "no Host header"));
            }
            (None, _) => None,
        };
        // `GET http://name/path`: the name there counts as well.
        let authority = parts
            .uri
            .authority()
            .map(axum::http::uri::Authority::as_str);
        for named in header.into_iter().chain(authority) {
            if !self.is_ours(named, local) {
                return Err(ApiFailure::misdirected(format!(
                    "this is not {named:?}; use a loopback name, or add it to http.allowed_hosts"
                )));
            }
        }
        Ok(())
    }

    fn check_origin(
        &self,
        method: &Method,
        headers: &HeaderMap,
        local: Option<IpAddr>,
    ) -> Result<(), ApiFailure> {
        let mut origins = headers.get_all(ORIGIN).iter().peekable();
        if origins.peek().is_none() {
            let says = |name: &str, value: &str| {
                headers
                    .get(name)
                    .is_some_and(|v| v.as_bytes() == value.as_bytes())
            };
            let link = (method == Method::GET || method == Method::HEAD)
                && says("sec-fetch-mode", "navigate");
            if says("sec-fetch-site", "cross-site") && !link {
                return Err(foreign("another site"));
            }
            return Ok(());
        }
        for origin in origins {
            let origin = origin.to_str().unwrap_or("");
            let host = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            if !host.is_some_and(|host| self.is_ours(host, local)) {
                return Err(foreign(origin));
            }
        }
        Ok(())
    }

    /// Whether `host[:port]` is a name of this daemon.
    fn is_ours(&self, named: &str, local: Option<IpAddr>) -> bool {
        let Some(host) = host_of(named) else {
            return false;
        };
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            let ip = ip.to_canonical();
            if ip.is_loopback() || Some(ip) == self.bound || Some(ip) == local {
                return true;
            }
        }
        !self.hosts.is_empty()
            && (self.hosts.contains(&host.to_ascii_lowercase())
                || self.hosts.contains(&named.to_ascii_lowercase()))
    }
}

/// The one token of a request, or what is wrong.
fn presented(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err("this request needs exactly one Authorization header");
    };
    let presented = value.to_str().ok().filter(|v| v.len() <= MAX_TOKEN_BYTES);
    presented
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| token.starts_with(TOKEN_PREFIX))
        .ok_or("the Authorization header is not a bearer token of deia")
}

/// Whether a credential claims to be a token of this daemon.
fn is_for_us(value: &HeaderValue) -> bool {
    let prefix = TOKEN_PREFIX.as_bytes();
    value.as_bytes().windows(prefix.len()).any(|w| w == prefix)
}

fn foreign(origin: &str) -> ApiFailure {
    ApiFailure::forbidden(
        "foreign_origin",
        format!(
            "pages from {origin:?} may not use this daemon; add their host to http.allowed_hosts"
        ),
    )
}

/// `/health`, `/health/live`, `/health/ready`.
pub fn is_health(path: &str) -> bool {
    path.strip_prefix("/health")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Pages and their scripts: the same for everybody, so that a browser gets far enough to ask for a token.
pub fn is_page(path: &str) -> bool {
    matches!(path, "/" | "/docs" | "/redoc") || path.starts_with("/assets/")
}

/// The host in `host[:port]`, without brackets and final dot; `None` where it is not of that form.
fn host_of(named: &str) -> Option<&str> {
    let (host, port) = if let Some(rest) = named.strip_prefix('[') {
        rest.split_once(']')?
    } else {
        let at = named.find(':').unwrap_or(named.len());
        named.split_at(at)
    };
    let port_is_fine = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    (port_is_fine && !host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests;
