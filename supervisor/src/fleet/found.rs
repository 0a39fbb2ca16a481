//! What an earlier daemon of this home left running: its bots, and what they had started.
//!
//! A walk over `/proc` finds every process with the fleet's [mark](super::proof). One that has exactly
//! a bot's mark, and no parent that is marked, is the bot; whatever has more behind it was started by
//! it. What was started by a bot
//! that is gone belongs to nobody and is ended.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use deia::wire::Launch;
use deia_worker::tree::{self, Identity, NONCE_VARIABLE};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::proof::Mark;

/// Most bytes of an environment that are looked at: more than the kernel allows at exec.
const MAX_ENVIRON_BYTES: u64 = 8 * 1024 * 1024;

/// Between two looks whether what was ended is gone.
const PAUSE: Duration = Duration::from_millis(5);

/// A bot of an earlier daemon. Its pidfd was opened before it was looked at, so it is of no other.
#[derive(Debug)]
pub struct FoundBot {
    /// The bot.
    pub bot: String,
    /// Which start of it.
    pub launch: Launch,
    /// Its process.
    pub process: Identity,
    /// For its end, and for signals.
    pub pidfd: OwnedFd,
    /// Whether it is this process's child, as after a re-execution.
    pub child: bool,
    /// Whether it is of the same release: a bot is its daemon's own program.
    pub same_program: bool,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Live bots, the newest of each name.
    pub bots: Vec<FoundBot>,
    /// Whether there is something that belongs to none of them.
    pub strays: bool,
}

/// Looks through `/proc` for what has a mark of this fleet.
pub fn look(fleet: &str) -> Found {
    let all = tree::scan(Path::new("/proc"), None);
    let marked = marked_among(&all, fleet);
    let mut bots: HashMap<String, FoundBot> = HashMap::new();
    let parents: HashMap<i32, i32> = all.iter().map(|p| (p.id.pid, p.ppid)).collect();
    let with_mark: HashSet<i32> = marked.iter().map(|process| process.id.pid).collect();
    // A mark is a word that anybody may say: what is below a marked process was started by a bot,
    // whatever it says. And a bot's child has its mark until it executes something.
    let is_the_bot = |process: &&Marked| {
        !process.below && !ancestors(process.id.pid, &parents).any(|pid| with_mark.contains(&pid))
    };
    for process in marked.iter().filter(is_the_bot) {
        let Some(bot) = hold(process) else { continue };
        // Two of one name are not started; should there be, the older one is in the way.
        let known = bots.get(&bot.bot).map(|known| known.process.started);
        if known.is_none_or(|started| started < bot.process.started) {
            bots.insert(bot.bot.clone(), bot);
        }
    }
    let alive: HashSet<Launch> = bots.values().map(|bot| bot.launch).collect();
    Found {
        strays: marked
            .iter()
            .any(|process| !alive.contains(&process.launch)),
        bots: bots.into_values().collect(),
    }
}

/// Ends everything of the fleet that belongs to none of these launches; what does not end within
/// `patience`, for people. Blocks.
pub fn end_strays(fleet: &str, alive: &HashSet<Launch>, patience: Duration) -> Vec<String> {
    end(
        || {
            let all = marked(fleet).into_iter();
            all.filter(|process| !alive.contains(&process.launch))
        },
        patience,
    )
}

/// Ends what a bot that has ended left behind, wherever it is by now. Blocks.
pub fn end_of_launch(fleet: &str, launch: Launch, patience: Duration) -> Vec<String> {
    end(
        || {
            let all = marked(fleet).into_iter();
            all.filter(move |process| process.launch == launch)
        },
        patience,
    )
}

fn end<I: Iterator<Item = Marked>>(mut look: impl FnMut() -> I, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    loop {
        let left: Vec<Marked> = look().collect();
        // Those below too: what changed its environment is still somebody's child.
        let pids: HashSet<Identity> = left.iter().map(|process| process.id).collect();
        let all = tree::scan(Path::new("/proc"), None);
        let members = tree::members(&all, &pids);
        for id in &members {
            kill(*id);
        }
        if members.is_empty() {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            return members.iter().map(|id| describe(id.pid)).collect();
        }
        std::thread::sleep(PAUSE);
    }
}

/// A process, for people: its pid and the name of its program.
pub fn describe(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("pid {pid} ({})", name.trim())
}

/// Sends a signal to a process if it is still this one.
pub fn signal(id: Identity, signal: Signal) {
    let Some(pidfd) = open(id.pid) else { return };
    // Only now is the pid held: what it names can't change between this look and the signal.
    if tree::identify(id.pid.unsigned_abs()) == Some(id) {
        let _ = pidfd_send_signal(&pidfd, signal);
    }
}

fn kill(id: Identity) {
    signal(id, Signal::KILL);
}

/// A live process with a mark of the fleet.
#[derive(Debug, Clone)]
struct Marked {
    id: Identity,
    ppid: i32,
    bot: String,
    launch: Launch,
    below: bool,
}

/// The pids above a process, from its parent up.
fn ancestors(pid: i32, parents: &HashMap<i32, i32>) -> impl Iterator<Item = i32> {
    // A look is no snapshot: what was read later may close a circle.
    std::iter::successors(parents.get(&pid).copied(), |pid| parents.get(pid).copied())
        .take_while(|pid| *pid > 1)
        .take(parents.len())
}

fn marked(fleet: &str) -> Vec<Marked> {
    marked_among(&tree::scan(Path::new("/proc"), None), fleet)
}

fn marked_among(all: &[tree::Process], fleet: &str) -> Vec<Marked> {
    let own = std::process::id() as i32;
    all.iter()
        .filter(|process| process.id.pid != own && process.is_alive())
        .filter_map(|process| {
            let text = mark_of(process.id.pid)?;
            let mark = Mark::parse(&text, fleet)?;
            Some(Marked {
                id: process.id,
                ppid: process.ppid,
                bot: mark.bot.to_owned(),
                launch: mark.launch,
                below: mark.below,
            })
        })
        .collect()
}

pub(super) fn mark_of(pid: i32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    // What was read before an error counts.
    let _ = file.take(MAX_ENVIRON_BYTES).read_to_end(&mut bytes);
    let prefix = format!("{NONCE_VARIABLE}=");
    let value = bytes
        .split(|b| *b == 0)
        .find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn hold(process: &Marked) -> Option<FoundBot> {
    let pidfd = open(process.id.pid)?;
    let pid = process.id.pid.unsigned_abs();
    (tree::identify(pid) == Some(process.id)).then(|| FoundBot {
        bot: process.bot.clone(),
        launch: process.launch,
        process: process.id,
        pidfd,
        child: process.ppid.unsigned_abs() == std::process::id(),
        same_program: program("self").is_some_and(|own| program(&pid.to_string()) == Some(own)),
    })
}

/// What tells the file a process executes: it may have no name any more. A copy that was kept is the
/// same release.
fn program(process: &str) -> Option<(u64, SystemTime)> {
    let meta = std::fs::metadata(format!("/proc/{process}/exe")).ok()?;
    Some((meta.len(), meta.modified().ok()?))
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn start(mark: &str, script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env(NONCE_VARIABLE, mark);
        command.spawn().unwrap()
    }

    fn is_gone(child: &mut Child) -> bool {
        matches!(child.try_wait(), Ok(Some(_)))
    }

    #[test]
    fn bots_are_told_from_what_they_started_and_from_other_fleets() {
        let fleet = format!("f{}", std::process::id());
        let launch = Launch(7);
        // Its child has its mark, as between fork and exec.
        let mut bot = start(
            &format!("{fleet}/coder/{launch}"),
            "sleep 0.03; sleep 100 & wait",
        );
        std::thread::sleep(Duration::from_millis(200));
        let mut below = start(&format!("{fleet}/coder/{launch}.1"), "sleep 100");
        let mut stray = start(&format!("{fleet}/gone/{}.1", Launch(8)), "setsid sleep 100");
        // ... and says that it is another bot, with nobody between who would say otherwise.
        let liar = format!(
            "env {NONCE_VARIABLE}={fleet}/other/{} sleep 100 & wait",
            Launch(9)
        );
        let mut lies = start(
            &format!("{fleet}/coder/{launch}"),
            &format!(
                "{NONCE_VARIABLE}={fleet}/coder/{launch}.2 sh -c 'env -i sh -c \"$0\" & wait' '{liar}' & wait"
            ),
        );
        std::thread::sleep(Duration::from_millis(200));
        let found = look(&fleet);
        assert!(found.bots.iter().all(|bot| bot.bot == "coder"), "{found:?}");
        lies.kill().unwrap();
        lies.wait().unwrap();
        end_of_launch(&fleet, Launch(9), Duration::from_secs(10));
        let mut foreign = start(&format!("x{fleet}/coder/{launch}"), "sleep 100");
        let found = look(&fleet);
        assert_eq!(found.bots.len(), 1, "{found:?}");
        let mine = &found.bots[0];
        assert_eq!((mine.bot.as_str(), mine.launch), ("coder", launch));
        assert_eq!(mine.process.pid.unsigned_abs(), bot.id());
        assert!(mine.child && found.strays);
        let left = end_strays(&fleet, &HashSet::from([launch]), Duration::from_secs(10));
        // A zombie is no live process; this test is its parent.
        assert!(left.is_empty(), "{left:?}");
        assert!(is_gone(&mut stray) && !is_gone(&mut below) && !is_gone(&mut bot));
        assert!(!look(&fleet).strays);
        assert!(end_of_launch(&fleet, launch, Duration::from_secs(10)).is_empty());
        assert!(is_gone(&mut below) && is_gone(&mut bot) && !is_gone(&mut foreign));
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    }
}
