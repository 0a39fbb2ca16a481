//! What a bot process gives up before it takes work, and what it takes from its commands.
//!
//! ```text
//!   deia-worker: <bot>   no_new_privs, no capabilities, rlimits, umask, refused system calls
//!        |               layer 1 of Landlock: its own directories, its spool, its secrets, the system
//!        |
//!        '- a command    layer 2: its working directory, HOME, temporary files, the system; not the
//!                        spool, not the secrets, no signals and no sockets to what is outside
//! ```
//!
//! As far as the kernel goes: each version of Landlock has more (see [`layer::words`]); what is missing
//! is said. docs/SANDBOX.md is what users may rely on.
//!
//! | file | what |
//! |---|---|
//! | `privileges.rs` | privileges and rlimits |
//! | `rules.rs`, `grants.rs` | which paths, and trees without a part of them |
//! | `layer.rs` | a layer of Landlock, as far as the kernel knows it |
//! | `cage.rs` | a layer for one command |
//! | `domain.rs` | the end of all that a bot started, in one act |
//! | `syscalls.rs` | system calls that Landlock does not judge |
//!
//! Absent on purpose: namespaces and another user per bot (both need what an unprivileged daemon does
//! not have), RLIMIT_AS (it counts what is only reserved, and breaks Node, Go and Java).

pub mod cage;
pub mod domain;
pub mod grants;
pub mod layer;
pub mod privileges;
pub mod rules;
pub mod syscalls;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use deia::config::{BackendSpec, Landlock, Workdir};
use deia::wire::Welcome;

use cage::Cage;
use domain::Domain;
use layer::{Kernel, NEWEST, Opened, Subject};
use rules::Rules;

/// HOME of what a bot starts, below [`deia::wire::Places::own`].
pub const HOME: &str = "home";
/// Temporary files of attempts, there too.
pub const TEMPORARY: &str = "tmp";

/// A HOME that was over its limit begins with this, until it is removed.
pub const DISCARDED: &str = "discarded-";

/// A process that has been confined.
#[derive(Debug)]
pub struct Confined {
    /// What it came to, for people.
    pub sandbox: String,
    /// For its commands; none where Landlock is off or not there.
    pub cage: Option<Cage>,
    /// Ends what it started in one act; none where Landlock does not keep signals.
    pub domain: Option<Domain>,
}

/// Confines this process and all it will start, and makes it the reaper of its descendants. Call
/// before any thread or child exists: both inherit. `socket`: where they may reach the daemon.
///
/// # Errors
/// What could not be done and why, for people. The bot must not take work then.
pub fn apply(welcome: &Welcome, socket: &Path) -> Result<Confined, String> {
    make_directories(welcome)?;
    let mut words: Vec<String> =
        privileges::give_up(&welcome.limits, welcome.places.fleet_processes)?
            .into_iter()
            .map(str::to_owned)
            .collect();
    let kernel = Kernel::ask();
    let wanted = welcome.limits.landlock;
    let mut cage = None;
    let mut remarks = Vec::new();
    if kernel.allows(wanted)? {
        let rules = Rules::of(welcome).with_socket(socket);
        remarks.clone_from(&rules.remarks);
        let grants = rules.of_the_bot();
        let opened = grants.iter().filter_map(Opened::of);
        let layer = layer::build(Subject::Bot, opened, NEWEST);
        match layer.and_then(landlock::RulesetCreated::restrict_self) {
            Ok(_) => cage = Some(Cage::new(rules, &welcome.limits, NEWEST)),
            Err(e) if wanted == Landlock::Required => {
                return Err(format!("limits.landlock is 'required': {e}"));
            }
            Err(e) => remarks.push(format!("no landlock: {e}")),
        }
    }
    let version = match kernel {
        Kernel::Version(version) if cage.is_some() => Some(version),
        _ => None,
    };
    match syscalls::refuse(version) {
        Ok(()) => words.push("seccomp".into()),
        Err(e) => remarks.push(format!("no seccomp: {e}")),
    }
    words.push(about_landlock(kernel, version, wanted));
    let remarks = remarks.iter().map(|remark| format!("; {remark}"));
    Ok(Confined {
        sandbox: words.join(", ") + &remarks.collect::<String>(),
        domain: cage.as_ref().and_then(|_| Domain::proven()),
        cage,
    })
}

fn about_landlock(kernel: Kernel, applied: Option<u32>, wanted: Landlock) -> String {
    match (kernel, applied) {
        (_, Some(version)) => {
            let (kept, passed) = layer::words(version);
            let not = match passed.as_slice() {
                [] => String::new(),
                passed => format!("; not {}", passed.join(", ")),
            };
            format!("landlock {version} ({}{not})", kept.join(", "))
        }
        (_, None) if wanted == Landlock::Off => "no landlock (limits.landlock is off)".into(),
        (Kernel::Without(why), None) => format!("no landlock ({why})"),
        (Kernel::Version(_), None) => "no landlock".into(),
    }
}

/// A rule needs its directory: what the bot and its commands write in is made first.
fn make_directories(welcome: &Welcome) -> Result<(), String> {
    if !runs_commands(welcome) {
        return Ok(());
    }
    let own = &welcome.places.own;
    let mut directories: Vec<PathBuf> = vec![own.join(HOME), own.join(TEMPORARY)];
    if welcome.workdir == Workdir::Fresh {
        directories.push(welcome.work_root.clone());
    }
    for directory in directories {
        make_private(&directory)
            .map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    }
    Ok(())
}

fn make_private(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

fn runs_commands(welcome: &Welcome) -> bool {
    let mut backends = std::iter::once(&welcome.backend).chain(&welcome.fallback);
    backends.any(|backend| matches!(backend, BackendSpec::Command(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_said_with_what_is_missing() {
        let said = |version| {
            let kernel = Kernel::Version(version);
            about_landlock(kernel, Some(version), Landlock::BestEffort)
        };
        assert_eq!(
            said(7),
            "landlock 7 (files, truncation, ports, devices, signals, abstract sockets; not sockets by path)"
        );
        assert!(said(2).starts_with("landlock 2 (files; not truncation"));
        let off = about_landlock(Kernel::Version(7), None, Landlock::Off);
        assert_eq!(off, "no landlock (limits.landlock is off)");
        let none = Kernel::Without("the kernel has no Landlock");
        let none = about_landlock(none, None, Landlock::BestEffort);
        assert_eq!(none, "no landlock (the kernel has no Landlock)");
    }
}
