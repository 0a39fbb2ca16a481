//! What the command line says over the file; it holds across reloads.

use std::net::SocketAddr;

use deia::config::Config;

/// `--listen`/`--port` and `--bot-id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The address of the HTTP listener.
    pub listen: Option<SocketAddr>,
    /// One bot of this name, and no other: the pool of that name, else the first pool under it.
    pub bot_id: Option<String>,
}

impl Overrides {
    pub(super) fn apply(&self, mut config: Config) -> Config {
        if let Some(listen) = self.listen {
            config.http.listen = listen;
        }
        if let Some(name) = &self.bot_id {
            let pool = config
                .bots
                .iter()
                .find(|pool| pool.name == *name)
                .or_else(|| config.bots.first())
                .cloned();
            if let Some(mut pool) = pool {
                pool.name.clone_from(name);
                pool.min = pool.min.min(1);
                pool.max = Some(1);
                config.bots = vec![pool];
            }
            // 0 stays: it means that the fleet is drained.
            let limits = &mut config.bot_limits;
            limits.max_bots = limits.max_bots.min(1);
            limits.min_bots = limits.max_bots;
        }
        config
    }
}
