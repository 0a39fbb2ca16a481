//! A layer of Landlock: rules that hold for the thread that applies them and for all it starts, for
//! good. Further layers can only take more away.

use std::borrow::Borrow;

use deia::config::Landlock;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictSelf, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::grants::{Access, Grant};

/// The newest rules that are asked for. Older kernels know fewer, see [`words`].
pub const NEWEST: ABI = ABI::V9;

/// The first version that keeps signals within a bot. Below it, not all of docs/SANDBOX.md holds.
pub const WHOLE: u32 = 6;

/// Who the rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The bot's own process, which dials the daemon's socket.
    Bot,
    /// What a bot starts, which may listen on these ports and on those the kernel picks.
    Command {
        /// The ports.
        listen: &'a [u16],
    },
}

/// What the kernel has of Landlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// This version.
    Version(u32),
    /// None, because ...
    Without(&'static str),
}

impl Kernel {
    /// Asks the kernel; changes nothing.
    pub fn ask() -> Self {
        let nothing = RestrictSelf::default().no_new_privs(false).apply();
        match nothing.map(|status| status.landlock) {
            Ok(LandlockStatus::Available {
                effective_abi,
                kernel_abi,
            }) => {
                let version = kernel_abi.unwrap_or(effective_abi as i32);
                Self::Version(version.unsigned_abs())
            }
            Ok(LandlockStatus::NotEnabled) => Self::Without(
                "the kernel has Landlock, but it is not enabled: add `landlock` to the boot \
                 parameter `lsm=`",
            ),
            Ok(LandlockStatus::NotImplemented) | Err(_) => {
                Self::Without("the kernel has no Landlock: use Linux 5.13 or newer with it")
            }
        }
    }

    /// Whether a layer is to be applied.
    ///
    /// # Errors
    /// When one is required and there can be none.
    pub fn allows(self, wanted: Landlock) -> Result<bool, String> {
        match (wanted, self) {
            (Landlock::Off, _) => Ok(false),
            (_, Self::Version(_)) => Ok(true),
            (Landlock::BestEffort, Self::Without(_)) => Ok(false),
            (Landlock::Required, Self::Without(why)) => Err(format!(
                "limits.landlock is 'required', and {why}; or use 'best_effort' or 'off'"
            )),
        }
    }
}

/// What Landlock of this version keeps a command from, and what it lets pass, for people.
pub fn words(version: u32) -> (Vec<&'static str>, Vec<&'static str>) {
    let since = [
        (1, "files"),
        (3, "truncation"),
        (4, "ports"),
        (5, "devices"),
        (WHOLE, "signals"),
        (WHOLE, "abstract sockets"),
        (9, "sockets by path"),
    ];
    let (kept, passed): (Vec<_>, Vec<_>) = since.iter().partition(|(since, _)| version >= *since);
    let names = |list: Vec<&(u32, &'static str)>| list.iter().map(|(_, name)| *name).collect();
    (names(kept), names(passed))
}

/// A grant whose path was looked up.
#[derive(Debug)]
pub struct Opened {
    fd: PathFd,
    is_directory: bool,
    access: Access,
}

impl Opened {
    /// Looks it up; what is not there needs no rule.
    pub fn of(grant: &Grant) -> Option<Self> {
        Some(Self {
            fd: PathFd::new(&grant.path).ok()?,
            is_directory: grant.path.is_dir(),
            access: grant.access,
        })
    }
}

/// Builds a layer. `newest` is [`NEWEST`], but in tests of what older kernels do.
///
/// # Errors
/// What the kernel did not take.
pub fn build<O: Borrow<Opened>>(
    subject: Subject<'_>,
    opened: impl IntoIterator<Item = O>,
    newest: ABI,
) -> Result<RulesetCreated, RulesetError> {
    let files = files(subject, newest);
    let mut ruleset = Ruleset::default().handle_access(files)?;
    if newest >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(newest))?;
    }
    let binds = AccessNet::BindTcp;
    let ports = match subject {
        Subject::Command { listen } if newest >= ABI::V4 => Some(listen),
        Subject::Command { .. } | Subject::Bot => None,
    };
    if ports.is_some() {
        ruleset = ruleset.handle_access(binds)?;
    }
    let mut created = ruleset.create()?;
    for opened in opened {
        let opened = opened.borrow();
        let mut allowed = allowed(opened.access, newest) & files;
        if !opened.is_directory {
            allowed &= AccessFs::from_file(newest);
        }
        if !allowed.is_empty() {
            created = created.add_rule(PathBeneath::new(&opened.fd, allowed))?;
        }
    }
    if let Some(ports) = ports {
        // 0 stands for the ports the kernel picks.
        for port in std::iter::once(0).chain(ports.iter().copied()) {
            created = created.add_rule(NetPort::new(port, binds))?;
        }
    }
    Ok(created)
}

fn files(subject: Subject<'_>, newest: ABI) -> BitFlags<AccessFs> {
    match subject {
        // It has to reach the daemon's socket, also a new one after a restart of the daemon.
        Subject::Bot => AccessFs::from_all(newest.min(ABI::V8)),
        Subject::Command { .. } => AccessFs::from_all(newest),
    }
}

fn allowed(access: Access, newest: ABI) -> BitFlags<AccessFs> {
    match access {
        Access::List => AccessFs::ReadDir.into(),
        Access::Read => AccessFs::from_read(newest),
        Access::Dial => AccessFs::from_all(newest) & AccessFs::ResolveUnix,
        Access::Device => AccessFs::from_file(newest) & !AccessFs::Execute,
        Access::Write => AccessFs::from_all(newest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_keeps_is_said_and_what_it_lets_pass() {
        assert_eq!(words(7).1, ["sockets by path"]);
        assert_eq!(words(2).0, ["files"]);
        assert_eq!(
            words(2).1,
            [
                "truncation",
                "ports",
                "devices",
                "signals",
                "abstract sockets",
                "sockets by path"
            ]
        );
        assert_eq!(words(9).1, [""; 0]);
    }

    #[test]
    fn a_bot_that_must_be_confined_and_cannot_be_does_not_start() {
        let none = Kernel::Without("the kernel has none");
        let refusal = none.allows(Landlock::Required).unwrap_err();
        assert!(refusal.contains("best_effort"), "{refusal}");
        assert_eq!(none.allows(Landlock::BestEffort), Ok(false));
        assert_eq!(Kernel::Version(2).allows(Landlock::Required), Ok(true));
        assert_eq!(Kernel::Version(7).allows(Landlock::Off), Ok(false));
    }

    #[test]
    fn the_daemons_socket_can_be_dialled_where_sockets_are_kept() {
        assert!(allowed(Access::Dial, ABI::V8).is_empty());
        assert_eq!(allowed(Access::Dial, NEWEST), AccessFs::ResolveUnix);
    }

    #[test]
    fn older_rules_are_part_of_newer_ones() {
        let command = Subject::Command { listen: &[] };
        for subject in [command, Subject::Bot] {
            let mut before = BitFlags::EMPTY;
            for version in 1..=9 {
                let now = files(subject, ABI::from(version));
                assert!(now.contains(before), "{subject:?} {version}");
                before = now;
            }
        }
        assert!(!files(Subject::Bot, NEWEST).contains(AccessFs::ResolveUnix));
        assert!(files(command, NEWEST).contains(AccessFs::ResolveUnix));
        assert!(!files(command, ABI::V2).contains(AccessFs::Truncate));
    }
}
