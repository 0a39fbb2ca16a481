//! Which processes are bots.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::sigmask;

/// A shared set of pids.
#[derive(Debug, Clone, Default)]
pub struct BotPids(Arc<RwLock<HashSet<u32>>>);

impl BotPids {
    /// Starts a process, with no signal blocked, and adds its pid as one act: whoever looks sees both or
    /// neither.
    ///
    /// # Errors
    /// Those of `start`; nothing is added then.
    pub fn start<T, E>(
        &self,
        start: impl FnOnce() -> Result<T, E>,
        pid: impl FnOnce(&T) -> u32,
    ) -> Result<T, E> {
        let mut pids = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let started = sigmask::with_none(start)?;
        pids.insert(pid(&started));
        Ok(started)
    }

    /// Does something while nothing can be started.
    pub fn while_nothing_starts<T>(&self, act: impl FnOnce() -> T) -> T {
        let _nothing = self.0.write().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// It runs already.
    pub fn insert(&self, pid: u32) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid);
    }

    /// It has ended.
    pub fn remove(&self, pid: u32) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&pid);
    }

    /// Whether it is a bot.
    pub fn contains(&self, pid: u32) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&pid)
    }
}
