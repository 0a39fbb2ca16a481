//! Which model servers answer, and which pools have to wait for theirs.
//!
//! ```text
//!            probe: no            probe: yes                 a result
//!   up ----------------> down ----------------> on trial ----------------> up
//!    '-- a bot: no ------^  ^----- a bot: no ------'  (this one counts as a failure)
//! ```
//!
//! A pool is *held* while all it could ask are model servers and none of them answers: its tasks wait, and
//! no attempt of theirs is used up by that. A server is believed dead by the first word of it, and believed
//! alive by a probe; but if a bot then can't reach it all the same, that attempt counts: otherwise a
//! server that only the daemon can reach would be asked for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use deia::config::{BackendSpec, Pool};
use deia::time::Timestamp;

/// Longest reason that is kept.
const MAX_REASON_BYTES: usize = 300;

/// How to ask whether a server is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `GET /api/version`.
    Ollama,
    /// `GET /models`.
    Openai,
}

/// A model server that some pool may ask.
#[derive(Debug, Clone, PartialEq)]
struct Server {
    kind: Kind,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// Also where nothing is known.
    Up,
    /// A probe has reached it; no attempt has, since.
    OnTrial,
    Down {
        since: Timestamp,
        why: String,
    },
}

/// What one pool may ask.
#[derive(Debug, Clone, PartialEq)]
struct Uses {
    pool: Arc<str>,
    servers: Vec<Arc<str>>,
    /// It has another backend besides: then it never waits for a server.
    others: bool,
}

/// A server as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its address.
    pub url: Arc<str>,
    /// How it is asked.
    pub kind: Kind,
    /// Since when it does not answer, and why; `None` where it does, or nothing is known.
    pub down: Option<(Timestamp, String)>,
    /// Pools that may ask it.
    pub pools: Vec<Arc<str>>,
    /// Some of them can't do anything without it.
    pub is_waited_for: bool,
}

/// What is made of an attempt that could not reach any server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is no failure of the task: it waits.
    Waits,
    /// It counts.
    Counts,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Servers {
    servers: BTreeMap<Arc<str>, Server>,
    pools: Vec<Uses>,
}

impl Servers {
    /// The pools have changed. What is known of servers that are still asked stays.
    pub fn configure(&mut self, pools: &[Pool]) {
        let old = std::mem::take(&mut self.servers);
        self.pools.clear();
        for pool in pools {
            let mut uses = Uses {
                pool: pool.name.as_str().into(),
                servers: Vec::new(),
                others: false,
            };
            for backend in std::iter::once(&pool.backend).chain(&pool.fallback) {
                let (kind, server) = match backend {
                    BackendSpec::Ollama(server) => (Kind::Ollama, server),
                    BackendSpec::Openai(server) => (Kind::Openai, server),
                    BackendSpec::Command(_) | BackendSpec::Echo(_) => {
                        uses.others = true;
                        continue;
                    }
                };
                let url: Arc<str> = server.url.as_str().into();
                let known = old.get(&url).map(|server| server.state.clone());
                self.servers.entry(url.clone()).or_insert(Server {
                    kind,
                    state: known.unwrap_or(State::Up),
                });
                uses.servers.push(url);
            }
            self.pools.push(uses);
        }
    }

    /// A probe came back. Whether something has changed.
    pub fn probed(&mut self, url: &str, answer: Result<(), String>, at: Timestamp) -> bool {
        let Some(server) = self.servers.get_mut(url) else {
            return false;
        };
        match (answer, &server.state) {
            (Ok(()), State::Down { .. }) => server.state = State::OnTrial,
            (Err(why), State::Up | State::OnTrial) => {
                server.state = State::Down {
                    since: at,
                    why: bounded(why),
                }
            }
            _ => return false,
        }
        true
    }

    /// An attempt of this pool could reach none of its servers.
    pub fn unreached(&mut self, pool: &str, why: &str, at: Timestamp) -> Verdict {
        let Some(uses) = self.pools.iter().find(|uses| *uses.pool == *pool) else {
            return Verdict::Counts;
        };
        // Another backend was there to do it, and has failed too.
        if uses.others || uses.servers.is_empty() {
            return Verdict::Counts;
        }
        let servers = &mut self.servers;
        let mut on_trial = false;
        for url in &uses.servers {
            if let Some(server) = servers.get_mut(url) {
                on_trial |= server.state == State::OnTrial;
                if !matches!(server.state, State::Down { .. }) {
                    server.state = State::Down {
                        since: at,
                        why: bounded(why.to_owned()),
                    };
                }
            }
        }
        match on_trial {
            true => Verdict::Counts,
            false => Verdict::Waits,
        }
    }

    /// An attempt of this pool brought a result: who was on trial is believed.
    pub fn reached(&mut self, pool: &str) {
        let Some(uses) = self.pools.iter().find(|uses| *uses.pool == *pool) else {
            return;
        };
        for url in &uses.servers {
            if let Some(server) = self
                .servers
                .get_mut(url)
                .filter(|s| s.state == State::OnTrial)
            {
                server.state = State::Up;
            }
        }
    }

    /// For each pool, why its tasks have to wait, where they have to.
    pub fn held(&self) -> Vec<Option<String>> {
        self.pools.iter().map(|uses| self.holds(uses)).collect()
    }

    fn holds(&self, uses: &Uses) -> Option<String> {
        if uses.others || uses.servers.is_empty() {
            return None;
        }
        let down = |url: &Arc<str>| match self.servers.get(url).map(|server| &server.state) {
            Some(State::Down { why, .. }) => Some(why),
            _ => None,
        };
        let all: Option<Vec<&String>> = uses.servers.iter().map(down).collect();
        let why = all?.first().map(|why| why.as_str()).unwrap_or_default();
        let servers: Vec<&str> = uses.servers.iter().map(|url| &**url).collect();
        Some(format!(
            "{} does not answer ({why})",
            servers.join(", nor ")
        ))
    }

    /// Whether there is any server that does not answer.
    pub fn any_down(&self) -> bool {
        let mut servers = self.servers.values();
        servers.any(|server| matches!(server.state, State::Down { .. }))
    }

    /// All of them.
    pub fn seen(&self) -> Vec<Seen> {
        let one = |(url, server): (&Arc<str>, &Server)| {
            let uses = || self.pools.iter().filter(|uses| uses.servers.contains(url));
            Seen {
                url: url.clone(),
                kind: server.kind,
                down: match &server.state {
                    State::Down { since, why } => Some((*since, why.clone())),
                    State::Up | State::OnTrial => None,
                },
                pools: uses().map(|uses| uses.pool.clone()).collect(),
                is_waited_for: uses().any(|uses| self.holds(uses).is_some()),
            }
        };
        self.servers.iter().map(one).collect()
    }
}

fn bounded(mut why: String) -> String {
    if why.len() > MAX_REASON_BYTES {
        why.truncate(why.floor_char_boundary(MAX_REASON_BYTES));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::config::{EchoSpec, ModelServer};

    const ONE: &str = "http://one";
    const TWO: &str = "http://two/v1";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn ollama(url: &str) -> BackendSpec {
        BackendSpec::Ollama(ModelServer {
            url: url.into(),
            ..ModelServer::ollama()
        })
    }

    fn pools(fallback: Vec<BackendSpec>) -> Vec<Pool> {
        let mut pool = Pool::new("p", ollama(ONE));
        pool.fallback = fallback;
        vec![pool]
    }

    fn servers(fallback: Vec<BackendSpec>) -> Servers {
        let mut servers = Servers::default();
        servers.configure(&pools(fallback));
        servers
    }

    fn down() -> Result<(), String> {
        Err("refused".into())
    }

    #[test]
    fn a_pool_waits_only_while_all_it_could_ask_are_down() {
        let openai = BackendSpec::Openai(ModelServer {
            url: TWO.into(),
            ..ModelServer::openai()
        });
        let mut servers = servers(vec![openai]);
        assert!(servers.probed(ONE, down(), at(1)));
        assert!(!servers.probed(ONE, down(), at(2)), "known");
        assert_eq!(servers.held(), [None]);
        assert!(servers.any_down());
        assert!(!servers.seen()[0].is_waited_for);
        servers.probed(TWO, down(), at(3));
        let why = servers.held()[0].clone().unwrap();
        assert!(why.contains(ONE) && why.contains(TWO), "{why}");
        assert!(servers.seen().iter().all(|server| server.is_waited_for));
        assert!(servers.probed(TWO, Ok(()), at(4)));
        assert_eq!(servers.held(), [None]);
    }

    #[test]
    fn one_with_another_backend_never_waits() {
        let mut servers = servers(vec![BackendSpec::Echo(EchoSpec::default())]);
        servers.probed(ONE, down(), at(1));
        assert_eq!(servers.held(), [None]);
        assert_eq!(servers.unreached("p", "x", at(2)), Verdict::Counts);
    }

    #[test]
    fn the_first_word_of_a_bot_is_believed_and_no_attempt_is_used_up() {
        let mut servers = servers(Vec::new());
        assert_eq!(servers.unreached("p", "refused", at(1)), Verdict::Waits);
        assert!(servers.held()[0].is_some());
        // Others that ran at the same time.
        assert_eq!(servers.unreached("p", "refused", at(1)), Verdict::Waits);
        servers.probed(ONE, Ok(()), at(5));
        servers.reached("p");
        assert_eq!(servers.unreached("p", "refused", at(9)), Verdict::Waits);
        assert_eq!(
            servers.unreached("nobody", "refused", at(9)),
            Verdict::Counts
        );
    }

    /// Else a server that only the daemon can reach would be asked for ever.
    #[test]
    fn a_server_that_only_the_daemon_reaches_uses_up_attempts() {
        let mut servers = servers(Vec::new());
        let mut counted = 0;
        for round in 0..3 {
            if servers.unreached("p", "refused", at(round)) == Verdict::Counts {
                counted += 1;
            }
            servers.probed(ONE, Ok(()), at(round));
        }
        assert_eq!(counted, 2);
    }

    #[test]
    fn what_is_known_outlives_a_reload_as_long_as_it_is_of_use() {
        let mut servers = servers(Vec::new());
        servers.probed(ONE, down(), at(1));
        servers.configure(&pools(Vec::new()));
        assert!(servers.any_down());
        servers.configure(&[Pool::new("p", ollama("http://three"))]);
        assert!(!servers.any_down());
        assert!(!servers.probed(ONE, down(), at(2)), "not asked any more");
    }
}
