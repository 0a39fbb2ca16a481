//! Who does something, as credentials tell: never as somebody says.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::users;
use crate::http::caller::{Caller, Via};
use crate::http::peer::Peer;

/// Who does something, and from where.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// From where, where that is known: `127.0.0.1:40112`, `uid 0 pid 17`.
    pub remote: Option<Arc<str>>,
}

/// By what a record has of it.
impl PartialEq for Actor {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.remote == other.remote
    }
}

impl Eq for Actor {}

/// See [`Actor`].
#[derive(Debug, Clone, Default)]
pub enum Who {
    /// The daemon itself.
    #[default]
    Daemon,
    /// Somebody of this name: `user:root`, `credential:9f86d081`, `anonymous@127.0.0.1`, `bot:coder-2`.
    /// Whatever comes before the first colon or `@` is said by the daemon alone, so that no user, bot or
    /// address can be called `daemon`.
    Named(Arc<str>),
    /// The bot that has this process; the main loop knows its name.
    BotProcess(u32),
}

impl Actor {
    /// The daemon itself.
    pub const DAEMON: Self = Self {
        who: Who::Daemon,
        remote: None,
    };

    /// A bot.
    pub fn bot(id: &str) -> Self {
        Self::named(format!("bot:{id}"), None)
    }

    /// Task files: whoever can write into their folder.
    pub fn task_files() -> Self {
        Self::named("task-files".to_owned(), None)
    }

    /// Whoever sent a signal; the kernel where no process did (Ctrl-C at a terminal).
    pub fn sender(process: Option<(i32, u32)>) -> Self {
        match process {
            Some((pid, uid)) => Self::named(user(uid), Some(format!("uid {uid} pid {pid}"))),
            None => Self::named("terminal".to_owned(), None),
        }
    }

    /// Whoever started this daemon, as far as that is known: a service manager, or a user.
    pub fn starter() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (text("INVOCATION_ID"), text("SUDO_USER")) {
            (Some(_), _) => Self::named("systemd".to_owned(), None),
            (None, Some(name)) => Self::named(format!("user:{name}"), None),
            (None, None) => Self::named(user(nix::unistd::getuid().as_raw()), None),
        }
    }

    /// Its name, as records have it.
    pub fn name(&self) -> &str {
        match &self.who {
            Who::Daemon => "daemon",
            Who::Named(name) => name,
            Who::BotProcess(_) => "bot",
        }
    }

    fn named(name: String, remote: Option<String>) -> Self {
        Self {
            who: Who::Named(name.into()),
            remote: remote.map(Into::into),
        }
    }
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        let who = match (caller.via, caller.peer) {
            (Via::Token(id), _) => Who::Named(format!("credential:{id}").into()),
            (_, Peer::Bot { pid }) => Who::BotProcess(pid),
            (_, Peer::Admin { uid, .. }) => Who::Named(user(uid).into()),
            (_, Peer::Tcp(address)) => Who::Named(format!("anonymous@{}", address.ip()).into()),
        };
        Self {
            who,
            remote: Some(caller.peer.to_string().into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // A request that no guard has seen may do nothing, so it can't be the daemon's here either.
        let nobody = || Self::named("anonymous@unknown".to_owned(), None);
        Ok((parts.extensions.get::<Caller>()).map_or_else(nobody, Self::from))
    }
}

fn user(uid: u32) -> String {
    match users::name_of(uid) {
        Some(name) => format!("user:{name}"),
        None => format!("uid:{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::caller::TokenId;
    use crate::http::scope::ScopeSet;

    fn of(via: Via, peer: Peer) -> String {
        let caller = Caller {
            peer,
            via,
            scopes: ScopeSet::NONE,
            max_body_bytes: 0,
        };
        Actor::from(&caller).name().to_owned()
    }

    #[test]
    fn nobody_but_the_daemon_is_called_so() {
        let tcp = Peer::Tcp("127.0.0.1:40112".parse().unwrap());
        assert_eq!(of(Via::Loopback, tcp), "anonymous@127.0.0.1");
        assert_eq!(
            of(Via::Token(TokenId([0x9f, 0x86, 0xd0, 0x81])), tcp),
            "credential:9f86d081"
        );
        let admin = |uid| Peer::Admin {
            pid: Some(17),
            uid,
            gid: 0,
        };
        assert_eq!(of(Via::AdminSocket, admin(0)), "user:root");
        assert_eq!(of(Via::AdminSocket, admin(4_000_000_001)), "uid:4000000001");
        assert_eq!(Actor::DAEMON.name(), "daemon");
        assert_eq!(Actor::bot("daemon").name(), "bot:daemon");
        assert_eq!(Actor::sender(Some((17, 0))).name(), "user:root");
        assert_eq!(
            Actor::sender(Some((17, 0))).remote.as_deref(),
            Some("uid 0 pid 17")
        );
    }
}
