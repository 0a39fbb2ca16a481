//! Who makes a request, and the tokens that say so.

use std::fmt;
use std::net::SocketAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::error::ApiFailure;
use super::peer::Peer;
use super::scope::ScopeSet;

/// What every API token begins with.
pub const TOKEN_PREFIX: &str = "deia_";

/// Names a token, in lists and in the audit: the first bytes of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub [u8; 4]);

impl TokenId {
    /// That of the token with this hash.
    pub fn of(hash: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = *hash;
        Self([a, b, c, d])
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Knows the API tokens, by their hashes. Looking a hash up needs no constant time: who does not have the
/// token can't choose its hash.
pub trait Tokens: Send + Sync {
    /// The scopes of the token with this hash; `None`: there is none, or not any more.
    fn scopes(&self, hash: &[u8; 32]) -> Option<ScopeSet>;
}

/// The SHA-256 of a presented token: what is kept instead of it.
pub fn token_hash(presented: &str) -> [u8; 32] {
    Sha256::digest(presented.as_bytes()).into()
}

/// How a caller was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By being on the admin socket.
    AdminSocket,
    /// By being a bot, or what one started.
    BotSocket,
    /// By being on this host, with `http.auth: off`.
    Loopback,
    /// By a token.
    Token(TokenId),
    /// Not at all: `/health*`.
    Anonymous,
}

/// Who makes a request. In every request's extensions, and an extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The other end.
    pub peer: Peer,
    /// How it was recognised.
    pub via: Via,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Largest body it may send (`http.max_body_bytes` when the connection was accepted).
    pub max_body_bytes: u64,
}

impl Caller {
    /// Somebody no guard has seen: may do nothing.
    pub(super) fn nobody() -> Self {
        Self {
            peer: Peer::Tcp(SocketAddr::from(([0, 0, 0, 0], 0))),
            via: Via::Anonymous,
            scopes: ScopeSet::NONE,
            max_body_bytes: 0,
        }
    }
}

impl fmt::Display for Caller {
    /// For the audit: `uid 0 pid 17`, `127.0.0.1:40112`, `credential 9f86d081 from 127.0.0.1:40112`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Via::Token(id) => write!(f, "credential {id} from {}", self.peer),
            Via::AdminSocket | Via::BotSocket | Via::Loopback | Via::Anonymous => {
                write!(f, "{}", self.peer)
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiFailure> {
        parts
            .extensions
            .get()
            .copied()
            .ok_or_else(|| ApiFailure::internal("a request reached a route without a caller"))
    }
}
