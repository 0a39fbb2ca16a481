//! Places where a test ends the process as `kill -9` would, between two system calls of its choice.
//!
//! `DEIA_FAILPOINT=store.commit.before:3` ends a process when it passes [`failpoint!`](crate::failpoint!) of that name
//! for the third time. Only where `debug_assertions` are on: in a release nothing of it is left, and the variable
//! means nothing.
//!
//! A name that is not in [`NAMES`] does not compile, and one that is nowhere in the code fails a test. Those with a
//! file behind a slash are of `durable::write`, which writes several files, each of its own importance.
//! Names in `worker.` are passed by bots: the daemon hands the variable to the first bot it starts, and to no other,
//! so that a task that meets it is not lost with every bot that tries it.

/// The variable.
pub const VARIABLE: &str = "DEIA_FAILPOINT";

/// Every name but those of [`DURABLE`], in the order in which a daemon comes to them.
pub const NAMES: &[&str] = &[
    // A start.
    "start.locked",
    "start.listening",
    "store.create.filled",
    "store.create.synced",
    "store.renamed",
    "store.log.made",
    "start.opened",
    "start.ready",
    "spawn.before",
    "spawn.forked",
    "spawn.told",
    "spawn.reported",
    // One with an older store. The first two also when a store is copied for an upgrade.
    "store.snapshot.copied",
    "store.snapshot.synced",
    "store.migrate.copied",
    "store.migrate.stepped",
    "store.migrate.commit.before",
    "store.migrate.commit.after",
    // A task.
    "store.begin",
    "store.applied",
    "store.commit.before",
    "store.commit.after",
    "store.reported",
    "reply.before",
    "reply.after",
    "answer.before",
    "assign.before",
    "assign.after",
    "frames.before",
    "frames.after",
    "ack.before",
    "ack.after",
    "store.checkpoint.before",
    "store.checkpoint.after",
    "store.room.before",
    "store.room.after",
    // What a bot kept.
    "results.remove.before",
    "results.remove.after",
    // Messages, and what operators say.
    "message.reply.before",
    "external.taken",
    "limits.kept",
    "limits.removed",
    "reload.seen",
    "reload.applied",
    "reload.saved",
    // Task files.
    "hive.noted.written",
    "hive.noted.synced",
    "hive.submitted",
    "hive.answer.written",
    "hive.answer.renamed",
    "hive.answer.synced",
    "hive.rejected.explained",
    "hive.rejected.moved",
    // Backups.
    "backup.copied",
    "backup.written",
    "backup.synced",
    "backup.renamed",
    "backup.kept",
    "backup.removed",
    // Restores.
    "restore.extracted",
    "restore.staged",
    "restore.noted",
    "restore.carried",
    "restore.keeping",
    "restore.kept",
    "restore.log.moved",
    "restore.swapped",
    "restore.config",
    "restore.finished",
    // Another release.
    "upgrade.kept.copied",
    "upgrade.kept.synced",
    "upgrade.kept.renamed",
    "upgrade.left",
    "rollback.drained",
    "rollback.checking",
    "upgrade.closed",
    "upgrade.noted",
    "upgrade.guarded",
    "upgrade.arrived",
    // A stop.
    "stop.ended",
    "stop.closed",
    "store.close.before",
    "store.close.after",
    // A bot.
    "worker.welcomed",
    "worker.ready",
    "worker.assigned",
    "worker.frames.before",
    "worker.frames.after",
    "worker.acknowledged",
    "worker.spool.created",
    "worker.spool.written",
    "worker.spool.synced",
    "worker.spool.renamed",
    "worker.spool.kept",
    "worker.spool.remove.before",
    "worker.spool.remove.after",
];

/// The steps of `durable::write`. A whole name is `<step>/<file>`.
pub const DURABLE: &[&str] = &[
    "durable.written",
    "durable.synced",
    "durable.renamed",
    "durable.directory_synced",
];

/// The files that are written so.
pub const DURABLE_FILES: &[&str] = &[
    "fleet.key",
    "tokens.json",
    "last-good.yaml",
    "limits-override.json",
    "stopped-bots.json",
    "clocks.json",
    "audit-head.json",
    // How the last daemon ended.
    "shutdown.marker",
    "restore.json",
    "alerts.json",
    "webhook.key",
    "external-bots.json",
    // Of task files, and of releases.
    "ledger.jsonl",
    "ledger.json",
    "rollback.json",
    "deployments.json",
];

/// Ends the process here, where that is asked for; see [`mod@crate::failpoint`].
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {{
        #[cfg(debug_assertions)]
        {
            const _: () = assert!(
                $crate::failpoint::is_registered($name, $crate::failpoint::NAMES),
                "a failpoint that is not in failpoint::NAMES"
            );
            $crate::failpoint::pass($name, None);
        }
    }};
    ($name:literal, $file:expr) => {{
        #[cfg(debug_assertions)]
        {
            const _: () = assert!(
                $crate::failpoint::is_registered($name, $crate::failpoint::DURABLE),
                "a failpoint that is not in failpoint::DURABLE"
            );
            $crate::failpoint::pass($name, Some($file));
        }
    }};
}

/// Whether the name is one of these.
#[cfg(debug_assertions)]
pub const fn is_registered(name: &str, names: &[&str]) -> bool {
    let mut n = 0;
    while n < names.len() {
        let (a, b) = (name.as_bytes(), names[n].as_bytes());
        let mut at = 0;
        while at < a.len() && at < b.len() && a[at] == b[at] {
            at += 1;
        }
        if at == a.len() && at == b.len() {
            return true;
        }
        n += 1;
    }
    false
}

#[cfg(debug_assertions)]
pub use armed::{for_a_bot, pass};

#[cfg(debug_assertions)]
mod armed {
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::VARIABLE;

    /// What the variable asks for.
    struct Armed {
        name: String,
        /// Passes that are still let through, and the last one.
        left: AtomicU32,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var(VARIABLE).ok()?;
            let (name, nth) = text.split_once(':')?;
            Some(Armed {
                name: name.to_owned(),
                left: AtomicU32::new(nth.parse().ok()?),
            })
        });
        armed.as_ref()
    }

    /// Does not return when the process is to end here.
    pub fn pass(name: &str, file: Option<&Path>) {
        let Some(armed) = armed() else { return };
        let is_it = match (armed.name.split_once('/'), file) {
            (None, None) => armed.name == name,
            (Some((step, wanted)), Some(file)) => {
                step == name && file.file_name().is_some_and(|file| file == wanted)
            }
            _ => false,
        };
        if !is_it || armed.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        #[expect(
            clippy::print_stderr,
            reason = "the last words of a process that a test ends"
        )]
        {
            eprintln!("\ndeia: failpoint {}", armed.name);
        }
        let _ = kill(Pid::this(), Signal::SIGKILL);
        // The signal was for this very thread, too: it does not come here.
        std::process::abort();
    }

    /// The variable for a bot that is about to be started, where it is of bots: for the first.
    pub fn for_a_bot() -> Option<(&'static str, String)> {
        static GIVEN: AtomicBool = AtomicBool::new(false);
        let armed = armed().filter(|armed| armed.name.starts_with("worker."))?;
        let nth = armed.left.load(Ordering::SeqCst);
        (!GIVEN.swap(true, Ordering::SeqCst)).then(|| (VARIABLE, format!("{}:{nth}", armed.name)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn names_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                names_in(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let behind = text.split("failpoint!(\"").skip(1);
                found.extend(behind.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    /// The other way round is a matter of the compiler.
    #[test]
    fn every_failpoint_that_is_registered_is_passed_somewhere() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        for sources in ["supervisor/src", "worker/src"] {
            names_in(&root.join(sources), &mut found);
        }
        let registered = NAMES.iter().chain(DURABLE).map(|name| (*name).to_owned());
        assert_eq!(found, registered.collect::<BTreeSet<_>>());
    }

    #[test]
    fn each_file_that_is_written_durably_is_registered() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("supervisor/src");
        let mut calls = 0;
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    calls += text.matches("durable::write(").count();
                }
            }
        }
        assert_eq!(
            calls,
            DURABLE_FILES.len(),
            "a file more or less is written by durable::write: DURABLE_FILES names them"
        );
    }

    #[cfg(debug_assertions)]
    #[test]
    fn a_name_is_known_whole() {
        assert!(is_registered("store.begin", NAMES));
        assert!(!is_registered("store.begi", NAMES));
        assert!(!is_registered("store.begin.", NAMES));
    }
}
