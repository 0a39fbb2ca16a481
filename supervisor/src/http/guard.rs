//! Who may come in at all, before any route is looked up.
//!
//! 1. **Host** (TCP): a page that made its own name point at 127.0.0.1 (DNS rebinding) still says that
//!    name; only loopback names, the bound address and `http.allowed_hosts` are served, the rest is 421.
//! 2. **Origin** (both ways in): a page from elsewhere says where it is from; 403. Browsers leave it out
//!    of plain GETs, and say `Sec-Fetch-Site: cross-site` there: refused too, but for following a link.
//! 3. **Who**: the admin socket's peers were admitted by [`super::peer`] and have every scope. Over TCP
//!    without tokens, loopback has read, submit and bot; with tokens, a token says, and `/health*` and the
//!    pages, which hold nothing of the fleet, are open.
//!
//! What a route requires is checked by [`super::scope`], against the [`Caller`] made here.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::request::Parts;
use axum::http::{Method, Version};
use deia::config::{Http, HttpAuth};

pub use super::caller::{Caller, HashedTokens, TOKEN_PREFIX, Tokens, Via, token_hash};
use super::error::ApiFailure;
use super::peer::Peer;
use super::scope::ScopeSet;

/// Longest `Authorization` value that is looked at.
pub const MAX_TOKEN_BYTES: usize = 256;

/// The rules in force for one listener.
pub struct Guard {
    hosts: HashSet<String>,
    bound: Option<IpAddr>,
    auth: HttpAuth,
    tokens: Arc<dyn Tokens>,
    admin_socket: PathBuf,
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
    /// For a listener bound to `bound` (`None`: the admin socket). `admin_socket` is named to callers
    /// that would need it.
    pub fn new(
        bound: Option<SocketAddr>,
        http: &Http,
        tokens: Arc<dyn Tokens>,
        admin_socket: PathBuf,
    ) -> Self {
        Self {
            hosts: http
                .allowed_hosts
                .iter()
                .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
                .collect(),
            bound: bound.map(|a| a.ip()).filter(|ip| !ip.is_unspecified()),
            auth: http.auth,
            tokens,
            admin_socket,
        }
    }

    /// Who makes this request; `local` is the address it came in on.
    ///
    /// # Errors
    /// What it is answered instead: 400, 401, 403 or 421.
    pub fn check(
        &self,
        parts: &Parts,
        peer: Peer,
        local: Option<IpAddr>,
    ) -> Result<Caller, ApiFailure> {
        let caller = |via, scopes| Caller {
            peer,
            via,
            scopes,
            max_body_bytes: 0,
        };
        if let Peer::Tcp(_) = peer {
            self.check_host(parts, local)?;
        }
        self.check_origin(&parts.method, &parts.headers, local)?;
        match (peer, self.auth) {
            (Peer::Admin { .. }, _) => Ok(caller(Via::AdminSocket, ScopeSet::ALL)),
            (Peer::Bot { .. }, _) => Ok(caller(Via::BotSocket, ScopeSet::LOOPBACK)),
            (Peer::Tcp(_), HttpAuth::Off) if peer.is_local() => {
                Ok(caller(Via::Loopback, ScopeSet::LOOPBACK))
            }
            (Peer::Tcp(address), HttpAuth::Off) => {
                if is_health(parts.uri.path()) {
                    return Ok(caller(Via::Anonymous, ScopeSet::NONE));
                }
                Err(ApiFailure::forbidden(
                    "loopback_only",
                    format!(
                        "{} is not this host; set `http.auth: tokens` to serve others",
                        address.ip()
                    ),
                ))
            }
            (Peer::Tcp(_), HttpAuth::Tokens) => {
                let path = parts.uri.path();
                if is_health(path) || is_page(path) {
                    return Ok(caller(Via::Anonymous, ScopeSet::NONE));
                }
                let (via, scopes) = self.token(&parts.headers)?;
                Ok(caller(via, scopes))
            }
        }
    }

    /// Where the admin socket is.
    pub fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    fn token(&self, headers: &HeaderMap) -> Result<(Via, ScopeSet), ApiFailure> {
        let refuse = |why: &str| {
            Err(ApiFailure::unauthorized(format!(
                "{why}; send `Authorization: Bearer {TOKEN_PREFIX}...` (deiactl token create), or use the admin socket {}",
                self.admin_socket.display()
            )))
        };
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return refuse("this request needs exactly one Authorization header");
        };
        let presented = value.to_str().ok().filter(|v| v.len() <= MAX_TOKEN_BYTES);
        let Some((scheme, presented)) = presented.and_then(|v| v.split_once(' ')) else {
            return refuse("the Authorization header is not a bearer token");
        };
        let presented = presented.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || !presented.starts_with(TOKEN_PREFIX) {
            return refuse("the Authorization header is not a bearer token");
        }
        match self.tokens.scopes(presented) {
            Some(scopes) => {
                let hash = token_hash(presented);
                Ok((Via::Token([hash[0], hash[1], hash[2], hash[3]]), scopes))
            }
            None => refuse("the token is not known, or was revoked"),
        }
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
    matches!(path, "/" | "/docs") || path.starts_with("/assets/")
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
