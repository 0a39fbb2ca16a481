//! What a rollback without a running fleet comes to: which release, from which, and the journal that says so. There is
//! nothing to drain, and the release is pinned before it starts.

use std::path::PathBuf;

use deia::api::{DeployedBy, Deployment, RestorePlan};
use deia::time::Timestamp;

use super::{Journal, choose, view};
use crate::daemon::upgrade::{Attempt, Releases};

/// See the module.
pub(super) struct Choice {
    known: Vec<Deployment>,
    own: String,
    own_version: String,
    chosen: Deployment,
    /// The file of the release that is gone back to.
    pub to: PathBuf,
}

impl Choice {
    /// The release that is wanted, else the one before `own`, a release's name and version. Blocks.
    ///
    /// # Errors
    /// There is none, and why.
    pub fn make(
        releases: &Releases,
        known: Vec<Deployment>,
        own: (String, String),
        wanted: Option<&str>,
    ) -> Result<Self, String> {
        let (own, own_version) = own;
        let is_kept = |release: &str| releases.kept(release).is_some();
        let chosen = choose::release(&known, &own, wanted, is_kept)?.clone();
        let to = releases.kept(&chosen.release);
        let to = to.ok_or("the release has just been removed")?;
        Ok(Self {
            known,
            own,
            own_version,
            chosen,
            to,
        })
    }

    /// When the release that is left was deployed; `None` where it never got ready.
    pub fn deployed_at(&self) -> Option<Timestamp> {
        choose::deployed_at(&self.known, &self.own)
    }

    /// What is going to be, from now on. `from` is the file of the release that is left.
    pub fn journal(&self, plan: Option<&RestorePlan>, from: PathBuf, by: String) -> Journal {
        let now = Timestamp::now();
        let switch = Attempt {
            id: uuid::Uuid::now_v7().to_string(),
            from,
            to: self.to.clone(),
            pin: true,
            from_version: self.own_version.clone(),
            to_version: self.chosen.version.clone(),
            at: now,
            by,
            how: DeployedBy::Rollback,
        };
        Journal {
            view: view(&switch, &self.chosen, &self.own, plan, now),
            switch,
            wait_ms: 0,
            backup_at: plan.map(|plan| plan.backup.timestamp),
            again: 0,
        }
    }
}
