//! Who is at the other end, and whether the admin socket is theirs to use.
//!
//! The rule: uid 0, the daemon's own uid and members of group `deia` are admin; a bot and whatever a
//! bot started never are, though they share the daemon's uid. Three proofs, each enough to refuse:
//! 1. a live bot among the peer's ancestors (or the peer itself);
//! 2. the daemon among its ancestors: what is orphaned under a dead bot is re-parented to the daemon,
//!    and the daemon starts nothing that needs the admin socket;
//! 3. `DEIA_TREE` or `DEIA_BOT_ID` in the environment it was started with: an orphan re-parented to init.
//!
//! What can't be inspected is refused. The one exception: an *environment* that is unreadable because
//! the peer has another uid than the daemon's; bots run with the daemon's uid and can't change it
//! (`no_new_privs`), so such a peer is no bot.
//! Known limit: between the connect and the look into /proc a pid may end and be used again. The
//! ancestry of whoever has it then is judged; a bot gains by this only if it can make root, or a member
//! of the group, be born with exactly its pid within that moment.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::error::ApiFailure;

/// Longest chain of ancestors that is followed.
pub const MAX_ANCESTORS: usize = 256;
/// Environment variables that mark a bot's tree.
pub const TREE_MARKS: [&str; 2] = ["DEIA_TREE", "DEIA_BOT_ID"];

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over the port.
    Tcp(SocketAddr),
    /// Over the admin socket, and admitted.
    Admin {
        /// Its process.
        pid: Option<u32>,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Over the bots' own socket: what a bot started, or the bot.
    Bot {
        /// The bot's process.
        pid: u32,
    },
}

impl Peer {
    /// Its address; none over the admin socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Admin { .. } | Self::Bot { .. } => None,
        }
    }

    /// It came over this host's loopback interface or socket.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Admin { .. } | Self::Bot { .. } => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Admin {
                pid: Some(pid),
                uid,
                ..
            } => write!(f, "uid {uid} pid {pid}"),
            Self::Admin { pid: None, uid, .. } => write!(f, "uid {uid}"),
            Self::Bot { pid } => write!(f, "bot process {pid}"),
        }
    }
}

/// Why the admin socket was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kernel did not say who it is.
    #[error(
        "the peer can't be identified ({0}); only local processes of this host's pid namespace are admitted"
    )]
    Unidentified(String),
    /// Not among those admitted.
    #[error("uid {0} is not admin: use root, the daemon's own user or a member of group `deia`")]
    User(u32),
    /// A bot or what it started.
    #[error("process {pid} belongs to a bot ({why}); bots use their own socket, $DEIA_SOCKET")]
    Bot {
        /// The peer.
        pid: u32,
        /// What proves it.
        why: String,
    },
    /// Its ancestry or environment can't be read.
    #[error("process {pid} can't be inspected ({why}), so it can't be told from a bot")]
    Opaque {
        /// The peer.
        pid: u32,
        /// What failed.
        why: String,
    },
}

impl From<Refusal> for ApiFailure {
    fn from(refusal: Refusal) -> Self {
        Self::forbidden("not_admin", refusal.to_string())
    }
}

/// Tells whether a pid is a live bot's.
pub type IsBot = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// Decides about the admin socket's peers.
pub struct Admission {
    /// The daemon's own user.
    pub own_uid: u32,
    /// Group `deia`, where there is one.
    pub group: Option<u32>,
    /// The daemon.
    pub daemon_pid: u32,
    /// The live bots.
    pub is_bot: IsBot,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("own_uid", &self.own_uid)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Admission {
    /// For this process, with the system's group `deia`.
    pub fn of_this_process(is_bot: IsBot) -> Self {
        Self {
            own_uid: nix::unistd::geteuid().as_raw(),
            group: deia_group(),
            daemon_pid: std::process::id(),
            is_bot,
        }
    }

    /// Whether the peer with these credentials is admin. Reads /proc.
    ///
    /// # Errors
    /// [`Refusal`]: it is not, or it can't be told.
    pub fn decide(
        &self,
        credentials: io::Result<tokio::net::unix::UCred>,
    ) -> Result<Peer, Refusal> {
        let credentials = credentials.map_err(|e| Refusal::Unidentified(e.to_string()))?;
        let pid = credentials
            .pid()
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid > 0)
            .ok_or_else(|| Refusal::Unidentified("no pid".into()))?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        if uid != 0 && uid != self.own_uid && !self.in_group(pid, gid)? {
            return Err(Refusal::User(uid));
        }
        self.refuse_bots(pid, uid)?;
        Ok(Peer::Admin {
            pid: Some(pid),
            uid,
            gid,
        })
    }

    fn in_group(&self, pid: u32, gid: u32) -> Result<bool, Refusal> {
        let Some(group) = self.group else {
            return Ok(false);
        };
        if gid == group {
            return Ok(true);
        }
        let status = read(pid, "status")?;
        Ok(supplementary_groups(&status).any(|g| g == group))
    }

    fn refuse_bots(&self, pid: u32, uid: u32) -> Result<(), Refusal> {
        let bot = |why: String| Refusal::Bot { pid, why };
        let daemon = self.daemon_pid;
        let suspect =
            |ancestor: u32| (self.is_bot)(ancestor) || (ancestor == daemon && pid != daemon);
        match is_descendant(pid, parent_of, suspect) {
            Ok(Ancestry::Descendant(of)) if of == daemon => {
                return Err(bot("the daemon started it".into()));
            }
            Ok(Ancestry::Descendant(of)) => return Err(bot(format!("bot process {of}"))),
            Ok(Ancestry::Unrelated) => {}
            Err(why) => return Err(Refusal::Opaque { pid, why }),
        }
        if pid == daemon {
            return Ok(());
        }
        match std::fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => match tree_mark(&environment) {
                Some(mark) => Err(bot(format!("{mark} in its environment"))),
                None => Ok(()),
            },
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && uid != self.own_uid =>
            {
                Ok(())
            }
            Err(error) => Err(Refusal::Opaque {
                pid,
                why: error.to_string(),
            }),
        }
    }
}

/// What a walk up the ancestors found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ancestry {
    /// This one is it, or is among its ancestors.
    Descendant(u32),
    /// None of them.
    Unrelated,
}

/// Walks from `pid` up to pid 1 and says which of them `is_bot`, the nearest first.
///
/// # Errors
/// An ancestor that can't be read, or a chain that does not end ([`MAX_ANCESTORS`]): say no.
pub fn is_descendant(
    pid: u32,
    ancestors_of: impl Fn(u32) -> Result<u32, String>,
    is_bot: impl Fn(u32) -> bool,
) -> Result<Ancestry, String> {
    let mut current = pid;
    for _ in 0..MAX_ANCESTORS {
        // 0: the kernel's, or a parent outside this pid namespace.
        if current == 0 {
            return Ok(Ancestry::Unrelated);
        }
        if is_bot(current) {
            return Ok(Ancestry::Descendant(current));
        }
        if current == 1 {
            return Ok(Ancestry::Unrelated);
        }
        current = ancestors_of(current)?;
    }
    Err(format!("more than {MAX_ANCESTORS} ancestors"))
}

/// The parent of a process, from /proc.
///
/// # Errors
/// Why it can't be read.
pub fn parent_of(pid: u32) -> Result<u32, String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).map_err(|e| e.to_string())?;
    parent_in_stat(&stat).ok_or_else(|| format!("/proc/{pid}/stat is not as expected"))
}

/// `pid (comm) state ppid ...`: comm may hold anything, parentheses and spaces too.
fn parent_in_stat(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn tree_mark(environment: &[u8]) -> Option<&'static str> {
    environment.split(|b| *b == 0).find_map(|variable| {
        TREE_MARKS.into_iter().find(|mark| {
            variable
                .strip_prefix(mark.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&b'='))
        })
    })
}

fn supplementary_groups(status: &str) -> impl Iterator<Item = u32> + '_ {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|gid| gid.parse().ok())
}

fn read(pid: u32, file: &str) -> Result<String, Refusal> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| Refusal::Opaque {
        pid,
        why: error.to_string(),
    })
}

/// The id of group `deia`, where the system has it.
pub fn deia_group() -> Option<u32> {
    nix::unistd::Group::from_name("deia")
        .ok()
        .flatten()
        .map(|group| group.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_cannot_forge_its_parent() {
        assert_eq!(parent_in_stat(b"42 (sh) S 7 42 42 0"), Some(7));
        assert_eq!(parent_in_stat(b"42 (x) S 1 ) S 7 42"), Some(7));
        assert_eq!(parent_in_stat(b"42 (a b) c) R 9 1"), Some(9));
        assert_eq!(parent_in_stat(b"nonsense"), None);
    }

    #[test]
    fn marks_are_whole_names() {
        assert_eq!(tree_mark(b"A=1\0DEIA_TREE=x\0"), Some("DEIA_TREE"));
        assert_eq!(tree_mark(b"DEIA_BOT_ID="), Some("DEIA_BOT_ID"));
        assert_eq!(
            tree_mark(b"DEIA_TREES=1\0XDEIA_TREE=1\0A=DEIA_TREE=1\0"),
            None
        );
    }

    #[test]
    fn groups_are_read_from_status() {
        let status = "Name:\tx\nGid:\t1\t1\t1\t1\nGroups:\t4 27 998 \n";
        assert_eq!(
            supplementary_groups(status).collect::<Vec<_>>(),
            [4, 27, 998]
        );
    }

    proptest! {
        /// Against a model: the set of all ancestors.
        #[test]
        fn the_walk_finds_exactly_the_ancestors(parents in prop::collection::vec(0_u32..40, 40), bot in 1_u32..40, start in 2_u32..40) {
            // A forest: each parent is smaller than its child.
            let tree: HashMap<u32, u32> = (2..40).map(|pid| (pid, parents[pid as usize] % pid)).collect();
            let found = is_descendant(start, |pid| tree.get(&pid).copied().ok_or_else(|| "gone".into()), |pid| pid == bot);
            let mut line = vec![start];
            while let Some(parent) = tree.get(line.last().unwrap()) { line.push(*parent); }
            let expected = if line.contains(&bot) { Ancestry::Descendant(bot) } else { Ancestry::Unrelated };
            prop_assert_eq!(found, Ok(expected));
        }
    }

    #[test]
    fn a_circle_or_a_gap_is_an_error() {
        assert!(is_descendant(5, |_| Ok(5), |_| false).is_err());
        assert!(is_descendant(5, |_| Err("gone".into()), |_| false).is_err());
    }

    /// `sh` (the bot) runs `sh` which runs a third; each prints its pid and waits for its input's end.
    #[test]
    fn grandchildren_of_a_live_bot_are_found_in_proc() {
        let mut bot = Command::new("sh")
            .args(["-c", "echo $$; sh -c 'echo $$; read _; :'; :"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(bot.stdout.take().unwrap()).lines();
        let bot_pid: u32 = lines.next().unwrap().unwrap().parse().unwrap();
        let child: u32 = lines.next().unwrap().unwrap().parse().unwrap();
        let admission = |daemon_pid, bot: u32| Admission {
            own_uid: nix::unistd::geteuid().as_raw(),
            group: None,
            daemon_pid,
            is_bot: Arc::new(move |pid| pid == bot),
        };
        let uid = nix::unistd::geteuid().as_raw();
        let refused = admission(1, bot_pid).refuse_bots(child, uid).unwrap_err();
        assert!(matches!(refused, Refusal::Bot { .. }), "{refused}");
        // No bot among them, but the daemon is: refused as well.
        let refused = admission(std::process::id(), 0)
            .refuse_bots(child, uid)
            .unwrap_err();
        assert!(
            refused.to_string().contains("the daemon started it"),
            "{refused}"
        );
        // Neither: admitted.
        assert_eq!(admission(u32::MAX, 0).refuse_bots(child, uid), Ok(()));
        drop(bot.stdin.take());
        bot.wait().unwrap();
        // Gone: can't be inspected.
        let refused = admission(u32::MAX, 0).refuse_bots(child, uid).unwrap_err();
        assert!(matches!(refused, Refusal::Opaque { .. }), "{refused}");
    }

    #[test]
    fn a_marked_environment_is_refused_whatever_the_ancestry() {
        let mut orphan = Command::new("sh")
            .args(["-c", "echo; read _"])
            .env("DEIA_TREE", "nonce")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(orphan.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let admission = Admission {
            own_uid: uid,
            group: None,
            daemon_pid: u32::MAX,
            is_bot: Arc::new(|_| false),
        };
        let refused = admission.refuse_bots(orphan.id(), uid).unwrap_err();
        assert!(refused.to_string().contains("DEIA_TREE"), "{refused}");
        drop(orphan.stdin.take());
        orphan.wait().unwrap();
    }
}
