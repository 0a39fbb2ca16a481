//! Processes as `/proc` shows them, and which of them belong to a tree.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of an environment that are searched: more than the kernel allows at exec.
const MAX_ENVIRON_BYTES: u64 = 8 * 1024 * 1024;

/// One process and no other: a pid alone is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Which.
    pub id: Identity,
    /// Its parent's pid.
    pub ppid: i32,
    /// The state's letter.
    pub state: u8,
    /// Its threads.
    pub threads: u32,
    /// Its resident memory, in pages; what it shares with others counts whole.
    pub resident_pages: u64,
    /// Whether its environment holds the nonce that was looked for.
    pub marked: bool,
}

impl Process {
    /// Whether it can still do anything. A zombie with threads can: only its first thread ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') || self.threads > 1
    }
}

/// All processes below `root` (`/proc`); each is marked when its environment has `nonce`.
pub fn scan(root: &Path, nonce: Option<&str>) -> Vec<Process> {
    let Ok(entries) = root.read_dir() else {
        return Vec::new();
    };
    let entry = nonce.map(|nonce| format!("{}={nonce}", super::NONCE_VARIABLE));
    entries
        .filter_map(Result::ok)
        .filter(|e| {
            e.file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|e| {
            let mut process = parse_stat(&std::fs::read(e.path().join("stat")).ok()?)?;
            process.marked = entry
                .as_ref()
                .is_some_and(|entry| has_variable(&e.path().join("environ"), entry.as_bytes()));
            Some(process)
        })
        .collect()
}

/// The process that has this pid now; not marked.
pub fn process(pid: u32) -> Option<Process> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Who the process is that has this pid now.
pub fn identify(pid: u32) -> Option<Identity> {
    process(pid).map(|process| process.id)
}

/// Which start of the host this is; empty where the kernel does not tell.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The live processes of a tree: what is known to be of it, what is marked, and the descendants of
/// both. This process is never one.
pub fn members(all: &[Process], known: &HashSet<Identity>) -> HashSet<Identity> {
    let me = std::process::id() as i32;
    let candidates = || all.iter().filter(|p| p.id.pid != me && p.id.pid > 1);
    let mut found: HashSet<Identity> = candidates()
        .filter(|p| p.marked || known.contains(&p.id))
        .map(|p| p.id)
        .collect();
    let mut pids: HashSet<i32> = found.iter().map(|id| id.pid).collect();
    loop {
        let before = found.len();
        for p in candidates() {
            if pids.contains(&p.ppid) && found.insert(p.id) {
                pids.insert(p.id.pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    let alive: HashSet<Identity> = all.iter().filter(|p| p.is_alive()).map(|p| p.id).collect();
    found.retain(|id| alive.contains(id));
    found
}

/// proc_pid_stat(5): `pid (comm) state ppid ...`, where comm may hold anything, also parentheses.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let close = stat.iter().rposition(|b| *b == b')')?;
    let open = stat.iter().position(|b| *b == b'(')?;
    let pid = std::str::from_utf8(&stat[..open]).ok()?.trim();
    let rest = std::str::from_utf8(&stat[close + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // Counted from state, which is field 3 in the manual.
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    let resident_pages = fields.nth(1)?.parse().ok()?;
    Some(Process {
        id: Identity {
            pid: pid.parse().ok()?,
            started,
        },
        ppid,
        state,
        threads,
        resident_pages,
        marked: false,
    })
}

/// Whether an environment holds `entry`. Those of other users can't be read and are not ours.
fn has_variable(environ: &Path, entry: &[u8]) -> bool {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(environ) else {
        return false;
    };
    // What was read before an error counts.
    let _ = file.take(MAX_ENVIRON_BYTES).read_to_end(&mut bytes);
    bytes.split(|b| *b == 0).any(|variable| variable == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, ppid: i32) -> Process {
        Process {
            id: Identity {
                pid,
                started: 100 + pid as u64,
            },
            ppid,
            state: b'S',
            threads: 1,
            resident_pages: 0,
            marked: false,
        }
    }

    fn pids(found: &HashSet<Identity>) -> Vec<i32> {
        let mut pids: Vec<_> = found.iter().map(|id| id.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn reads_stat_whatever_the_program_is_called() {
        let line =
            b"4242 (a) (b R 7) S 17 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 222 3\n";
        let got = parse_stat(line).unwrap();
        assert_eq!(
            (got.id.pid, got.ppid, got.state, got.threads, got.id.started),
            (4242, 17, b'S', 3, 98765)
        );
        assert_eq!(got.resident_pages, 222);
        assert_eq!(parse_stat(b"1 (x"), None);
        assert_eq!(parse_stat(b"1 (x) S 1"), None);
    }

    #[test]
    fn finds_itself_in_the_real_proc() {
        let me = identify(std::process::id()).unwrap();
        assert!(scan(Path::new("/proc"), None).iter().any(|p| p.id == me));
    }

    #[test]
    fn a_tree_is_what_is_known_or_marked_and_their_descendants() {
        let mut marked = process(30_000_030, 20_000_000);
        marked.marked = true;
        let all = [
            process(30_000_013, 30_000_012),
            process(30_000_012, 30_000_011),
            process(30_000_011, 20_000_000),
            marked,
            process(30_000_031, 30_000_030),
            process(30_000_040, 20_000_000),
        ];
        let known = HashSet::from([all[2].id]);
        assert_eq!(
            pids(&members(&all, &known)),
            [30_000_011, 30_000_012, 30_000_013, 30_000_030, 30_000_031]
        );
    }

    #[test]
    fn a_pid_used_again_is_not_of_the_tree_and_a_dead_leader_with_threads_is() {
        let mut leader = process(30_000_002, 1);
        leader.state = b'Z';
        let mut threaded = process(30_000_003, 1);
        (threaded.state, threaded.threads) = (b'Z', 2);
        let reused = process(30_000_004, 1);
        let mut before = reused.id;
        before.started -= 1;
        let known = HashSet::from([leader.id, threaded.id, before]);
        let all = [leader, threaded, reused];
        assert_eq!(pids(&members(&all, &known)), [30_000_003]);
    }

    #[test]
    fn this_process_is_never_a_member() {
        let me = process(std::process::id() as i32, 1);
        let child = process(30_000_001, me.id.pid);
        let found = members(&[me, child], &HashSet::from([me.id]));
        assert!(found.is_empty(), "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_stat_makes_it_panic(bytes in proptest::collection::vec(0u8.., 0..80)) {
            let _ = parse_stat(&bytes);
        }
    }
}
