//! What an earlier daemon of this home left, looked for before anything is started.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::engine::Estate;
use crate::fleet::found;
use crate::fleet::proof::{FleetKey, remove_partials};
use crate::fleet::results::Results;

/// What belongs to no bot that lives is ended within this, or named.
const STRAYS_PATIENCE: Duration = Duration::from_secs(10);

/// Looks for bots that live, and for results on disk; what belongs to neither is ended, meanwhile.
/// Blocks.
pub fn look(key: &FleetKey, results: &Results, spool: &Path) -> Estate {
    let found = found::look(key.fleet());
    let alive: HashSet<_> = found.bots.iter().map(|bot| bot.launch).collect();
    remove_partials(spool, |bot| found.bots.iter().any(|found| found.bot == bot));
    if found.strays {
        let fleet = key.fleet().to_owned();
        tokio::task::spawn_blocking(move || {
            let left = found::end_strays(&fleet, &alive, STRAYS_PATIENCE);
            if left.is_empty() {
                tracing::warn!(
                    event = "strays_ended",
                    "ended what bots of an earlier daemon had left behind"
                );
            } else {
                tracing::warn!(
                    event = "strays_remain",
                    left = left.join(", "),
                    "what bots of an earlier daemon had left behind does not end, not even by SIGKILL"
                );
            }
        });
    }
    Estate {
        bots: found.bots,
        kept: results.all(),
    }
}
