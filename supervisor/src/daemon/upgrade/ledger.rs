//! What is written down of releases: a small file, outside the store, because it must be read by a
//! release that can't open the store.

use std::path::{Path, PathBuf};

use deia::api::{DeployedBy, UpgradeView};
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A file, told from another of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    /// Its size.
    pub bytes: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// The ledger.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// A switch that is under way.
    pub attempt: Option<Attempt>,
    /// How the last one went.
    pub last: Option<UpgradeView>,
    /// The release that is started instead of the one that was invoked.
    pub pin: Option<Pin>,
}

/// A switch from one release to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its name.
    pub id: String,
    /// What to go back to.
    pub from: PathBuf,
    /// What to switch to.
    pub to: PathBuf,
    /// Whether it stays, also across restarts.
    pub pin: bool,
    /// The version before.
    pub from_version: String,
    /// The version after.
    pub to_version: String,
    /// Since when.
    pub at: Timestamp,
    /// Who asked for it.
    #[serde(default)]
    pub by: String,
    /// As what.
    #[serde(default = "upgrade")]
    pub how: DeployedBy,
}

fn upgrade() -> DeployedBy {
    DeployedBy::Upgrade
}

impl Attempt {
    /// How it went.
    pub fn ended(&self, error: Option<String>) -> UpgradeView {
        UpgradeView {
            upgrade_id: self.id.clone(),
            from_version: self.from_version.clone(),
            to_version: self.to_version.clone(),
            succeeded: error.is_none(),
            error,
            at: Timestamp::now(),
        }
    }
}

/// A release that stays until another is installed or asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Its file.
    pub release: PathBuf,
    /// The file at the path the daemon is started by, when the pin was set: another one there, a new
    /// package for one, ends it.
    pub invoked: FileId,
}

/// What a start does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Runs.
    Run,
    /// Becomes this release.
    Become(PathBuf),
}

/// Decides at a start that no other process handed its sockets to: which release runs, and what is
/// written down. `running` is this very file, `invoked` the one at the path it was started by;
/// `id_of` looks at a file.
pub fn decide(
    mut ledger: Ledger,
    running: FileId,
    invoked: FileId,
    id_of: impl Fn(&Path) -> Option<FileId>,
) -> (Decision, Ledger) {
    if let Some(attempt) = ledger.attempt.take() {
        // It died before it was ready, or was killed for not getting there.
        let why = "the new release never became ready".to_owned();
        ledger.last = Some(attempt.ended(Some(why)));
        if id_of(&attempt.to) == Some(running) && id_of(&attempt.from).is_some() {
            ledger.pin = Some(Pin {
                release: attempt.from,
                invoked,
            });
        }
    }
    let Some(pin) = &ledger.pin else {
        return (Decision::Run, ledger);
    };
    let release = id_of(&pin.release);
    if pin.invoked != invoked || release.is_none() {
        ledger.pin = None;
        return (Decision::Run, ledger);
    }
    if release == Some(running) {
        return (Decision::Run, ledger);
    }
    (Decision::Become(pin.release.clone()), ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: FileId = FileId {
        bytes: 1,
        modified_ns: 1,
    };
    const NEW: FileId = FileId {
        bytes: 2,
        modified_ns: 2,
    };
    const PACKAGE: FileId = FileId {
        bytes: 3,
        modified_ns: 3,
    };

    fn id_of(path: &Path) -> Option<FileId> {
        match path.to_str()? {
            "/old" => Some(OLD),
            "/new" => Some(NEW),
            "/package" => Some(PACKAGE),
            _ => None,
        }
    }

    fn attempt(from: &str, to: &str) -> Attempt {
        Attempt {
            id: "1".into(),
            from: from.into(),
            to: to.into(),
            pin: false,
            from_version: "1".into(),
            to_version: "2".into(),
            at: Timestamp::from_micros(0),
            by: "user:root".into(),
            how: DeployedBy::Upgrade,
        }
    }

    fn pin(release: &str, invoked: FileId) -> Option<Pin> {
        Some(Pin {
            release: release.into(),
            invoked,
        })
    }

    #[test]
    fn usually_what_was_started_runs() {
        let (decision, ledger) = decide(Ledger::default(), OLD, OLD, id_of);
        assert_eq!((decision, ledger), (Decision::Run, Ledger::default()));
    }

    #[test]
    fn a_release_that_died_before_it_was_ready_gives_way_to_the_one_before_for_good() {
        // A package replaced /package by a bad one; the daemon is started again by that path.
        let ledger = Ledger {
            attempt: Some(attempt("/old", "/package")),
            ..Ledger::default()
        };
        let (decision, ledger) = decide(ledger, PACKAGE, PACKAGE, id_of);
        assert_eq!(decision, Decision::Become("/old".into()));
        assert!(!ledger.last.as_ref().unwrap().succeeded);
        assert_eq!(ledger.attempt, None);
        // The next start, and what it becomes.
        let (again, same) = decide(ledger.clone(), PACKAGE, PACKAGE, id_of);
        assert_eq!((again, &same), (Decision::Become("/old".into()), &ledger));
        let (becomes, same) = decide(ledger.clone(), OLD, PACKAGE, id_of);
        assert_eq!((becomes, &same), (Decision::Run, &ledger));
        // Another package ends it.
        let (other, ledger) = decide(ledger, NEW, NEW, id_of);
        assert_eq!((other, ledger.pin), (Decision::Run, None));
    }

    #[test]
    fn a_failed_try_of_another_path_leaves_what_is_started_as_it_was() {
        let ledger = Ledger {
            attempt: Some(attempt("/old", "/new")),
            ..Ledger::default()
        };
        let (decision, ledger) = decide(ledger, OLD, OLD, id_of);
        assert_eq!((decision, ledger.pin.clone()), (Decision::Run, None));
        assert!(!ledger.last.unwrap().succeeded);
    }

    #[test]
    fn a_pinned_release_stays_until_it_is_gone() {
        let ledger = Ledger {
            pin: pin("/old", PACKAGE),
            ..Ledger::default()
        };
        let (decision, _) = decide(ledger, PACKAGE, PACKAGE, id_of);
        assert_eq!(decision, Decision::Become("/old".into()));
        let ledger = Ledger {
            pin: pin("/nowhere", PACKAGE),
            ..Ledger::default()
        };
        let (decision, ledger) = decide(ledger, PACKAGE, PACKAGE, id_of);
        assert_eq!((decision, ledger.pin), (Decision::Run, None));
    }
}
