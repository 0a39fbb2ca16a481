//! A disk that remembers only what was synced. Pure: no kernel, no clock, no threads.
//!
//! ```text
//!   write, set_size --> pending changes of the file --sync_file--> what is kept of it
//!   link, unlink,   --> pending changes of names   --sync_dir---> what is kept of the directory
//!   rename
//!                       cut(seed): some of what is pending, and all that is kept, is the next disk
//! ```
//!
//! Harsher than any journaling file system, in all that POSIX leaves open:
//! - **Contents.** Each change of a file that was not synced is kept, lost or torn on its own, whatever came
//!   before or after it: a later write may be there and an earlier one not. A torn write keeps some of its
//!   sectors (512 or 4,096 bytes). Where a file was grown around what was lost, there are zeros.
//! - **Names.** A name is kept when its *directory* was synced; a sync of the file itself says nothing about
//!   it, and a sync of a directory nothing about the name of that directory in its parent. Of what was not
//!   synced, each directory keeps its first changes up to a random one, or none. A rename is one change, whole
//!   or not at all, also between two directories; a sync of either one keeps it, and what came before it in
//!   both.
//!
//! Milder in this: owner, mode and times are kept as they were last; what was synced is never damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fastrand::Rng;
use fuser::FileType;

/// A file, whatever its names.
pub type Ino = u64;

/// The directory everything is in.
pub const ROOT: Ino = 1;

/// What a disk writes whole.
const SECTORS: [usize; 2] = [512, 4_096];

/// See the module.
#[derive(Debug, Default)]
pub struct Disk {
    nodes: BTreeMap<Ino, Node>,
    /// Changes of names that were not synced, in their order.
    pending: Vec<Renaming>,
    next: Ino,
}

/// What an inode is.
#[derive(Debug)]
pub enum Node {
    File(Content),
    Directory(Names),
    /// A link's target.
    Link(OsString),
    /// A socket or a FIFO: a name and nothing else.
    Special(FileType),
}

/// A file's bytes.
#[derive(Debug, Default)]
pub struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
    pending: Vec<Change>,
}

/// A directory's entries.
#[derive(Debug, Default)]
pub struct Names {
    now: BTreeMap<OsString, Ino>,
    kept: BTreeMap<OsString, Ino>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

/// One change of names: what each of these is from now on. Whole or not at all.
type Renaming = Vec<(Ino, OsString, Option<Ino>)>;

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Directory(Names::default()))]),
            pending: Vec::new(),
            next: ROOT + 1,
        }
    }

    /// What an inode is.
    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// What a directory has under this name.
    pub fn find(&self, directory: Ino, name: &OsStr) -> Option<Ino> {
        self.entries(directory)?.get(name).copied()
    }

    /// A directory's entries, as programs see them.
    pub fn entries(&self, directory: Ino) -> Option<&BTreeMap<OsString, Ino>> {
        match self.nodes.get(&directory)? {
            Node::Directory(names) => Some(&names.now),
            _ => None,
        }
    }

    /// A file's bytes, as programs see them.
    pub fn bytes(&self, file: Ino) -> Option<&[u8]> {
        match self.nodes.get(&file)? {
            Node::File(content) => Some(&content.now),
            _ => None,
        }
    }

    /// A new inode under a new name.
    pub fn make(&mut self, directory: Ino, name: &OsStr, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, node);
        self.link(directory, name, ino);
        ino
    }

    /// One more name for an inode.
    pub fn link(&mut self, directory: Ino, name: &OsStr, ino: Ino) {
        self.change_names(vec![(directory, name.to_owned(), Some(ino))]);
    }

    /// A name less. The bytes stay until no disk can have the name any more.
    pub fn unlink(&mut self, directory: Ino, name: &OsStr) {
        self.change_names(vec![(directory, name.to_owned(), None)]);
    }

    /// Another name, in place of what had it.
    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), ino: Ino) {
        self.change_names(vec![
            (from.0, from.1.to_owned(), None),
            (to.0, to.1.to_owned(), Some(ino)),
        ]);
    }

    /// Writes, growing the file where it has to.
    pub fn write(&mut self, file: Ino, at: usize, bytes: &[u8]) {
        self.change(file, Change::Write(at, bytes.to_vec()));
    }

    /// Cuts or grows a file.
    pub fn set_size(&mut self, file: Ino, size: usize) {
        self.change(file, Change::Size(size));
    }

    /// `fsync` and `fdatasync` of a file: its bytes and its size are kept from now on, its names are not.
    pub fn sync_file(&mut self, file: Ino) {
        if let Some(Node::File(content)) = self.nodes.get_mut(&file) {
            for change in std::mem::take(&mut content.pending) {
                change.apply(&mut content.kept);
            }
        }
    }

    /// `fsync` of a directory: its entries are kept from now on, and with them each rename into or out of it.
    pub fn sync_dir(&mut self, directory: Ino) {
        let mut with = BTreeSet::from([directory]);
        loop {
            let before = with.len();
            for renaming in &self.pending {
                if touches(renaming, &with) {
                    with.extend(renaming.iter().map(|(directory, _, _)| *directory));
                }
            }
            if with.len() == before {
                break;
            }
        }
        let (synced, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|renaming| touches(renaming, &with));
        self.pending = pending;
        let synced: Vec<Renaming> = synced;
        for renaming in synced {
            self.keep(&renaming);
        }
    }

    /// Keeps everything, as if long enough had passed.
    pub fn sync(&mut self) {
        for renaming in std::mem::take(&mut self.pending) {
            self.keep(&renaming);
        }
        let all: Vec<Ino> = self.nodes.keys().copied().collect();
        for ino in all {
            self.sync_file(ino);
        }
    }

    /// The disk after a power cut.
    pub fn cut(&self, rng: &mut Rng) -> Self {
        let mut after = Self {
            nodes: BTreeMap::new(),
            pending: Vec::new(),
            next: self.next,
        };
        for (ino, node) in &self.nodes {
            let node = match node {
                Node::File(content) => Node::File(content.cut(rng)),
                Node::Directory(names) => Node::Directory(Names {
                    now: names.kept.clone(),
                    kept: names.kept.clone(),
                }),
                Node::Link(target) => Node::Link(target.clone()),
                Node::Special(kind) => Node::Special(*kind),
            };
            after.nodes.insert(*ino, node);
        }
        // How likely a directory's changes end at each one.
        let ends = [0.0, 0.05, 0.3, 1.0][rng.usize(0..4)];
        let mut ended = BTreeSet::new();
        for renaming in &self.pending {
            if touches(renaming, &ended) || rng.f64() < ends {
                ended.extend(renaming.iter().map(|(directory, _, _)| *directory));
            } else {
                for (directory, name, ino) in renaming {
                    if let Some(Node::Directory(names)) = after.nodes.get_mut(directory) {
                        set(&mut names.now, name, *ino);
                    }
                }
                after.keep(renaming);
            }
        }
        after.forget_unreachable();
        after
    }

    fn change(&mut self, file: Ino, change: Change) {
        if let Some(Node::File(content)) = self.nodes.get_mut(&file) {
            change.apply(&mut content.now);
            content.pending.push(change);
        }
    }

    fn change_names(&mut self, renaming: Renaming) {
        for (directory, name, ino) in &renaming {
            if let Some(Node::Directory(names)) = self.nodes.get_mut(directory) {
                set(&mut names.now, name, *ino);
            }
        }
        self.pending.push(renaming);
    }

    fn keep(&mut self, renaming: &Renaming) {
        for (directory, name, ino) in renaming {
            if let Some(Node::Directory(names)) = self.nodes.get_mut(directory) {
                set(&mut names.kept, name, *ino);
            }
        }
    }

    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(ino) = next.pop() {
            if reached.insert(ino)
                && let Some(entries) = self.entries(ino)
            {
                next.extend(entries.values());
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
    }
}

impl Content {
    fn cut(&self, rng: &mut Rng) -> Self {
        let mut kept = self.kept.clone();
        let fate = rng.u8(0..4);
        for change in &self.pending {
            match (fate, rng.u8(0..3)) {
                (0, _) => {}
                (1, _) | (2, 0) => change.apply(&mut kept),
                (2, 1) => {}
                _ => change.tear(&mut kept, rng),
            }
        }
        Self {
            now: kept.clone(),
            kept,
            pending: Vec::new(),
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Size(size) => bytes.resize(*size, 0),
            Self::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
        }
    }

    /// Some sectors of a write.
    fn tear(&self, bytes: &mut Vec<u8>, rng: &mut Rng) {
        let Self::Write(at, written) = self else {
            if rng.bool() {
                self.apply(bytes);
            }
            return;
        };
        let sector = SECTORS[rng.usize(0..SECTORS.len())];
        let mut from = 0;
        while from < written.len() {
            let to = (from + sector - (at + from) % sector).min(written.len());
            if rng.bool() {
                Self::Write(at + from, written[from..to].to_vec()).apply(bytes);
            }
            from = to;
        }
    }
}

fn touches(renaming: &Renaming, directories: &BTreeSet<Ino>) -> bool {
    renaming
        .iter()
        .any(|(directory, _, _)| directories.contains(directory))
}

fn set(names: &mut BTreeMap<OsString, Ino>, name: &OsStr, ino: Option<Ino>) {
    match ino {
        Some(ino) => names.insert(name.to_owned(), ino),
        None => names.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: u64 = 300;

    fn file(disk: &mut Disk, directory: Ino, name: &str) -> Ino {
        disk.make(directory, name.as_ref(), Node::File(Content::default()))
    }

    fn directory(disk: &mut Disk, name: &str) -> Ino {
        disk.make(ROOT, name.as_ref(), Node::Directory(Names::default()))
    }

    /// Every disk that these seeds leave.
    fn cuts(disk: &Disk) -> impl Iterator<Item = Disk> + '_ {
        (0..SEEDS).map(|seed| disk.cut(&mut Rng::with_seed(seed)))
    }

    /// The bytes under a name in the root, if it is there.
    fn read<'a>(disk: &'a Disk, name: &str) -> Option<&'a [u8]> {
        disk.bytes(disk.find(ROOT, name.as_ref())?)
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let mut disk = Disk::new();
        let a = file(&mut disk, ROOT, "a");
        disk.write(a, 0, b"synced");
        disk.sync_file(a);
        disk.sync_dir(ROOT);
        disk.write(a, 0, b"SYNCED and more");
        let mut seen = BTreeSet::new();
        for after in cuts(&disk) {
            seen.insert(read(&after, "a").unwrap().to_vec());
        }
        // Less than a sector: whole or not at all.
        let expected = [b"SYNCED and more".to_vec(), b"synced".to_vec()];
        assert_eq!(seen, BTreeSet::from(expected));
        assert_eq!(disk.bytes(a).unwrap(), b"SYNCED and more");
    }

    #[test]
    fn unsynced_writes_go_in_any_order_and_in_parts() {
        let mut disk = Disk::new();
        let a = file(&mut disk, ROOT, "a");
        disk.sync_dir(ROOT);
        disk.write(a, 0, &[1; 1_000]);
        disk.write(a, 2_048, &[2; 1_024]);
        let after: Vec<Vec<u8>> = cuts(&disk)
            .map(|disk| read(&disk, "a").unwrap().to_vec())
            .collect();
        let has = |what: &dyn Fn(&[u8]) -> bool| after.iter().any(|bytes| what(bytes));
        assert!(has(&|bytes| bytes.is_empty()), "all of it can be lost");
        assert!(has(&|b| b.len() == 3_072 && b[0] == 1 && b[512] == 1));
        assert!(has(
            &|b| b.len() == 3_072 && b[..2_048].iter().all(|b| *b == 0)
        ));
        assert!(has(&|b| b.len() == 3_072 && b[0] == 0 && b[512] == 1));
        assert!(has(&|b| b.len() == 3_072 && b[2_048] == 0 && b[2_560] == 2));
        let torn = |b: &[u8]| b[..b.len().min(512)].windows(2).any(|two| two[0] != two[1]);
        assert!(!has(&torn), "a sector is whole");
    }

    #[test]
    fn a_size_is_lost_like_a_write() {
        let mut disk = Disk::new();
        let a = file(&mut disk, ROOT, "a");
        disk.write(a, 0, &[1; 100]);
        disk.sync();
        disk.set_size(a, 0);
        let sizes: BTreeSet<usize> = cuts(&disk)
            .map(|disk| read(&disk, "a").unwrap().len())
            .collect();
        assert_eq!(sizes, BTreeSet::from([0, 100]));
        disk.sync_file(a);
        assert!(cuts(&disk).all(|disk| read(&disk, "a").unwrap().is_empty()));
    }

    #[test]
    fn a_name_is_its_directorys_not_its_files() {
        let mut disk = Disk::new();
        let a = file(&mut disk, ROOT, "a");
        disk.write(a, 0, b"a");
        disk.sync_file(a);
        assert!(cuts(&disk).any(|disk| read(&disk, "a").is_none()));
        disk.sync_dir(ROOT);
        assert!(cuts(&disk).all(|disk| read(&disk, "a") == Some(b"a")));
        disk.unlink(ROOT, "a".as_ref());
        assert!(cuts(&disk).any(|disk| read(&disk, "a") == Some(b"a")));
        assert!(cuts(&disk).any(|disk| read(&disk, "a").is_none()));
        disk.sync_dir(ROOT);
        assert!(cuts(&disk).all(|disk| read(&disk, "a").is_none()));
    }

    #[test]
    fn a_directory_whose_own_name_was_not_synced_is_lost_with_all_in_it() {
        let mut disk = Disk::new();
        let inner = directory(&mut disk, "d");
        let a = file(&mut disk, inner, "a");
        disk.write(a, 0, b"a");
        disk.sync_file(a);
        disk.sync_dir(inner);
        assert!(cuts(&disk).any(|disk| disk.find(ROOT, "d".as_ref()).is_none()));
        disk.sync_dir(ROOT);
        for after in cuts(&disk) {
            let inner = after.find(ROOT, "d".as_ref()).unwrap();
            let a = after.find(inner, "a".as_ref()).unwrap();
            assert_eq!(after.bytes(a), Some(&b"a"[..]));
        }
    }

    #[test]
    fn a_rename_replaces_whole_or_not_at_all() {
        let mut disk = Disk::new();
        let old = file(&mut disk, ROOT, "x");
        disk.write(old, 0, b"old");
        disk.sync();
        let new = file(&mut disk, ROOT, "x.tmp");
        disk.write(new, 0, b"new");
        disk.sync_file(new);
        disk.rename((ROOT, "x.tmp".as_ref()), (ROOT, "x".as_ref()), new);
        let seen: BTreeSet<Vec<u8>> = cuts(&disk)
            .map(|disk| read(&disk, "x").unwrap().to_vec())
            .collect();
        assert_eq!(seen, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
        disk.sync_dir(ROOT);
        assert!(cuts(&disk).all(|disk| read(&disk, "x") == Some(b"new")));
        // Not synced before it was renamed: the name is there and the bytes are not.
        let half = file(&mut disk, ROOT, "x.tmp");
        disk.write(half, 0, b"half");
        disk.rename((ROOT, "x.tmp".as_ref()), (ROOT, "x".as_ref()), half);
        disk.sync_dir(ROOT);
        assert!(cuts(&disk).any(|disk| read(&disk, "x") == Some(b"")));
    }

    #[test]
    fn a_file_that_moves_between_directories_is_in_one_of_them() {
        let mut disk = Disk::new();
        let (d, e) = (directory(&mut disk, "d"), directory(&mut disk, "e"));
        let a = file(&mut disk, d, "a");
        disk.sync();
        disk.rename((d, "a".as_ref()), (e, "b".as_ref()), a);
        let places: BTreeSet<(bool, bool)> = cuts(&disk)
            .map(|disk| {
                let has = |directory, name: &str| disk.find(directory, name.as_ref()).is_some();
                (has(d, "a"), has(e, "b"))
            })
            .collect();
        assert_eq!(places, BTreeSet::from([(true, false), (false, true)]));
        disk.sync_dir(d);
        assert!(cuts(&disk).all(|disk| disk.find(e, "b".as_ref()).is_some()));
    }

    #[test]
    fn a_seed_repeats_its_cut() {
        let mut disk = Disk::new();
        for n in 0..50 {
            let one = file(&mut disk, ROOT, &n.to_string());
            disk.write(one, 0, &[n; 2_000]);
        }
        let shown = |seed| format!("{:?}", disk.cut(&mut Rng::with_seed(seed)));
        assert_eq!(shown(7), shown(7));
        assert_ne!(shown(7), shown(8));
    }
}
