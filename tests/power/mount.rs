//! A [`Disk`] as a mounted file system (FUSE), in a mount namespace of the thread that mounts it: whatever
//! ends the test, nothing is left mounted.
//!
//! ```text
//!   daemon, bots --> kernel --> Served --> Disk
//!                                  ^
//!                  hold_after, cut, on --' the test
//! ```
//!
//! The kernel keeps pages it has read, and passes each `write` on before it returns; what is written through
//! a mapping comes later, as on any file system. Locks and sockets are the kernel's own. So SQLite runs as
//! everywhere else, its log with shared memory.
//!
//! [`PowerDisk::hold_after`] stops time: from then on no request is answered. Who waits for one can be killed, but
//! never gets to say anything any more; so a power cut falls between two requests, and nothing is
//! acknowledged after it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    SessionACL, TimeOrNow, WriteFlags,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::SFlag;
use tempfile::TempDir;

use super::disk::{Content, Disk, Ino, Names, Node, ROOT};

/// Only the kernel changes anything: what it knows stays true.
const FOREVER: Duration = Duration::from_secs(1 << 20);

/// Threads that answer. Each holds the disk while it does.
const THREADS: usize = 2;

/// A disk that can be cut off.
pub struct PowerDisk {
    place: TempDir,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

struct Shared {
    state: Mutex<State>,
    turned: Condvar,
}

struct State {
    disk: Disk,
    about: BTreeMap<Ino, About>,
    listings: BTreeMap<u64, Vec<(Ino, FileType, OsString)>>,
    next_listing: u64,
    phase: Phase,
    /// Requests that change something or sync it, so far.
    changes: u64,
    /// Stops before this one.
    hold_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    On,
    /// Nobody is answered.
    Held,
    /// Everybody gets an error.
    Off,
}

/// What `stat` says beside the size.
#[derive(Debug, Clone)]
struct About {
    mode: u16,
    uid: u32,
    gid: u32,
    modified: SystemTime,
    changed: SystemTime,
}

/// Whether a request could matter after a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Looks,
    Changes,
}

impl PowerDisk {
    /// An empty one, for this thread and whatever it starts from now on.
    ///
    /// # Errors
    /// Why there can be none here.
    pub fn new() -> Result<Self, String> {
        let said = |what: &'static str| move |e: &dyn std::fmt::Display| format!("{what}: {e}");
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| said("a mount namespace")(&e))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .map_err(|e| said("a mount namespace")(&e))?;
        let place = tempfile::Builder::new().prefix("deia-").tempdir_in("/tmp");
        let mut made = Self {
            place: place.map_err(|e| said("a directory")(&e))?,
            shared: Arc::new(Shared::of(Disk::new(), BTreeMap::new())),
            session: None,
        };
        made.mount().map_err(|e| said("/dev/fuse")(&e))?;
        Ok(made)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Keeps everything there is, as if long enough had passed.
    pub fn settle(&self) {
        self.shared.lock().disk.sync();
    }

    /// Requests so far that could matter after a power cut.
    pub fn changes(&self) -> u64 {
        self.shared.lock().changes
    }

    /// Stops time before so many more of them.
    pub fn hold_after(&self, changes: u64) {
        let mut state = self.shared.lock();
        state.hold_at = Some(state.changes + changes);
    }

    /// Waits until time has stopped where [`Self::hold_after`] said, at most so long; whether it has.
    pub fn wait_held(&self, patience: Duration) -> bool {
        let state = self.shared.lock();
        let waiting = |state: &mut State| state.phase != Phase::Held;
        let waited = self
            .shared
            .turned
            .wait_timeout_while(state, patience, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.phase == Phase::Held
    }

    /// What is left after a power cut, now that time has stopped. Whoever still waits gets an
    /// error.
    pub fn cut(&self, rng: &mut Rng) -> Image {
        let mut state = self.shared.lock();
        let disk = state.disk.cut(rng);
        let mut about = state.about.clone();
        about.retain(|ino, _| disk.node(*ino).is_some());
        state.phase = Phase::Off;
        drop(state);
        self.shared.turned.notify_all();
        Image { disk, about }
    }

    /// Mounts what was left, in the same place.
    ///
    /// # Errors
    /// Those of the host.
    pub fn on(&mut self, image: Image) -> io::Result<()> {
        self.unmount();
        self.shared = Arc::new(Shared::of(image.disk, image.about));
        self.mount()
    }

    fn mount(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("deia-power".into()),
            MountOption::DefaultPermissions,
        ];
        config.acl = SessionACL::All;
        config.n_threads = Some(THREADS);
        let served = Served(Arc::clone(&self.shared));
        self.session = Some(fuser::spawn_mount(served, self.place.path(), &config)?);
        Ok(())
    }

    fn unmount(&mut self) {
        // Detached: whoever still has something open there has it for itself.
        let _ = umount2(self.place.path(), MntFlags::MNT_DETACH);
        drop(self.session.take());
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        self.shared.lock().phase = Phase::Off;
        self.shared.turned.notify_all();
        self.unmount();
    }
}

/// What a power cut has left.
pub struct Image {
    disk: Disk,
    about: BTreeMap<Ino, About>,
}

impl Shared {
    fn of(disk: Disk, mut about: BTreeMap<Ino, About>) -> Self {
        about.entry(ROOT).or_insert_with(|| About::new(0o755, 0, 0));
        Self {
            state: Mutex::new(State {
                disk,
                about,
                listings: BTreeMap::new(),
                next_listing: 1,
                phase: Phase::On,
                changes: 0,
                hold_at: None,
            }),
            turned: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's turn, if there is still power.
    fn enter(&self, access: Access) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.lock();
        if access == Access::Changes && state.phase == Phase::On {
            state.changes += 1;
            if state.hold_at.is_some_and(|at| state.changes >= at) {
                state.phase = Phase::Held;
                self.turned.notify_all();
            }
        }
        let held = |state: &mut State| state.phase == Phase::Held;
        let waited = self.turned.wait_while(state, held);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        match state.phase {
            Phase::Off => Err(Errno::EIO),
            Phase::On | Phase::Held => Ok(state),
        }
    }
}

impl About {
    fn new(mode: u32, uid: u32, gid: u32) -> Self {
        let now = SystemTime::now();
        Self {
            mode: u16::try_from(mode & 0o7777).unwrap_or(0o644),
            uid,
            gid,
            modified: now,
            changed: now,
        }
    }
}

impl State {
    fn attributes(&self, ino: Ino) -> Result<FileAttr, Errno> {
        let node = self.disk.node(ino).ok_or(Errno::ENOENT)?;
        let about = self.about.get(&ino).ok_or(Errno::ENOENT)?;
        let (kind, size) = match node {
            Node::File(_) => (FileType::RegularFile, self.disk.bytes(ino).map(<[u8]>::len)),
            Node::Directory(_) => (FileType::Directory, Some(4_096)),
            Node::Link(target) => (FileType::Symlink, Some(target.len())),
            Node::Special(kind) => (*kind, Some(0)),
        };
        let size = size.unwrap_or(0) as u64;
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: about.modified,
            mtime: about.modified,
            ctime: about.changed,
            crtime: about.changed,
            kind,
            perm: about.mode,
            nlink: 1,
            uid: about.uid,
            gid: about.gid,
            rdev: 0,
            blksize: 4_096,
            flags: 0,
        })
    }

    fn touch(&mut self, ino: Ino) {
        if let Some(about) = self.about.get_mut(&ino) {
            about.modified = SystemTime::now();
            about.changed = about.modified;
        }
    }

    fn make(
        &mut self,
        by: &Request,
        (parent, name): (INodeNo, &OsStr),
        node: Node,
        mode: u32,
    ) -> Result<FileAttr, Errno> {
        if self.disk.find(parent.0, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let ino = self.disk.make(parent.0, name, node);
        self.about.insert(ino, About::new(mode, by.uid(), by.gid()));
        self.touch(parent.0);
        self.attributes(ino)
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let ino = self.disk.find(parent.0, name).ok_or(Errno::ENOENT)?;
        if self.disk.entries(ino).is_some_and(|all| !all.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.disk.unlink(parent.0, name);
        self.touch(parent.0);
        Ok(())
    }

    fn rename(
        &mut self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return Err(Errno::EINVAL);
        }
        let ino = self.disk.find(from.0.0, from.1).ok_or(Errno::ENOENT)?;
        if let Some(there) = self.disk.find(to.0.0, to.1) {
            if flags.contains(RenameFlags::RENAME_NOREPLACE) {
                return Err(Errno::EEXIST);
            }
            if self.disk.entries(there).is_some_and(|all| !all.is_empty()) {
                return Err(Errno::ENOTEMPTY);
            }
        }
        self.disk.rename((from.0.0, from.1), (to.0.0, to.1), ino);
        self.touch(from.0.0);
        self.touch(to.0.0);
        if let Some(about) = self.about.get_mut(&ino) {
            about.changed = SystemTime::now();
        }
        Ok(())
    }
}

/// What the kernel asks.
struct Served(Arc<Shared>);

/// Answers a request with what it came to.
macro_rules! answer {
    ($reply:ident, $came_to:expr, $value:pat => $done:expr) => {
        match $came_to {
            Ok($value) => $done,
            Err(errno) => $reply.error(errno),
        }
    };
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = (|| {
            let state = self.0.enter(Access::Looks)?;
            let ino = state.disk.find(parent.0, name).ok_or(Errno::ENOENT)?;
            state.attributes(ino)
        })();
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.0.enter(Access::Looks).and_then(|state| state.attributes(ino.0)), attr => reply.attr(&FOREVER, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = (|| {
            let access = match size {
                Some(_) => Access::Changes,
                None => Access::Looks,
            };
            let mut state = self.0.enter(access)?;
            if let Some(size) = size {
                let size = usize::try_from(size).map_err(|_| Errno::EFBIG)?;
                state.disk.set_size(ino.0, size);
                state.touch(ino.0);
            }
            let about = state.about.get_mut(&ino.0).ok_or(Errno::ENOENT)?;
            if let Some(mode) = mode {
                about.mode = u16::try_from(mode & 0o7777).unwrap_or(about.mode);
            }
            about.uid = uid.unwrap_or(about.uid);
            about.gid = gid.unwrap_or(about.gid);
            about.changed = SystemTime::now();
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => about.modified = time,
                Some(TimeOrNow::Now) => about.modified = about.changed,
                None => {}
            }
            state.attributes(ino.0)
        })();
        answer!(reply, set, attr => reply.attr(&FOREVER, &attr));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = (|| match self.0.enter(Access::Looks)?.disk.node(ino.0) {
            Some(Node::Link(target)) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        })();
        answer!(reply, target, target => reply.data(target.as_encoded_bytes()));
    }

    fn mknod(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let made = (|| {
            let node = match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
                SFlag::S_IFREG => Node::File(Content::default()),
                SFlag::S_IFSOCK => Node::Special(FileType::Socket),
                SFlag::S_IFIFO => Node::Special(FileType::NamedPipe),
                _ => return Err(Errno::EPERM),
            };
            let mut state = self.0.enter(Access::Changes)?;
            state.make(by, (parent, name), node, mode)
        })();
        entry(reply, made);
    }

    fn mkdir(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let made = (|| {
            let mut state = self.0.enter(Access::Changes)?;
            state.make(by, (parent, name), Node::Directory(Names::default()), mode)
        })();
        entry(reply, made);
    }

    fn symlink(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let made = (|| {
            let mut state = self.0.enter(Access::Changes)?;
            let node = Node::Link(target.as_os_str().to_owned());
            state.make(by, (parent, name), node, 0o777)
        })();
        entry(reply, made);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let made = (|| {
            let mut state = self.0.enter(Access::Changes)?;
            if state.disk.find(parent.0, name).is_some() {
                return Err(Errno::EEXIST);
            }
            state.disk.link(parent.0, name, ino.0);
            state.touch(parent.0);
            state.attributes(ino.0)
        })();
        entry(reply, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.enter(Access::Changes).and_then(|mut state| state.remove(parent, name)), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.enter(Access::Changes).and_then(|mut state| state.remove(parent, name)), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent, name), (new_parent, new_name));
        answer!(reply, self.0.enter(Access::Changes).and_then(|mut state| state.rename(from, to, flags)), () => reply.ok());
    }

    /// What the kernel has of a file stays true from one opening to the next.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn create(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = (|| {
            let mut state = self.0.enter(Access::Changes)?;
            state.make(by, (parent, name), Node::File(Content::default()), mode)
        })();
        answer!(reply, made, attr => reply.created(
            &FOREVER, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE,
        ));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = (|| {
            let state = self.0.enter(Access::Looks)?;
            let bytes = state.disk.bytes(ino.0).ok_or(Errno::EISDIR)?;
            let from = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let to = from.saturating_add(size as usize).min(bytes.len());
            Ok(bytes[from..to].to_vec())
        })();
        answer!(reply, read, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = (|| {
            let at = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
            let mut state = self.0.enter(Access::Changes)?;
            state.disk.write(ino.0, at, data);
            state.touch(ino.0);
            u32::try_from(data.len()).map_err(|_| Errno::EFBIG)
        })();
        answer!(reply, written, count => reply.written(count));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.0.enter(Access::Changes).map(|mut state| state.disk.sync_file(ino.0)), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.0.enter(Access::Changes).map(|mut state| state.disk.sync_dir(ino.0)), () => reply.ok());
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = (|| {
            let mut state = self.0.enter(Access::Looks)?;
            let entries = state.disk.entries(ino.0).ok_or(Errno::ENOTDIR)?.clone();
            let dots = [
                (ino.0, FileType::Directory, "."),
                (ROOT, FileType::Directory, ".."),
            ];
            let mut listing: Vec<_> = dots
                .map(|(ino, kind, name)| (ino, kind, name.into()))
                .into();
            for (name, ino) in entries {
                listing.push((ino, state.attributes(ino)?.kind, name));
            }
            let number = state.next_listing;
            state.next_listing += 1;
            state.listings.insert(number, listing);
            Ok(number)
        })();
        answer!(reply, opened, number => reply.opened(FileHandle(number), FopenFlags::empty()));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        listing: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = match self.0.enter(Access::Looks) {
            Ok(state) => state,
            Err(errno) => return reply.error(errno),
        };
        let entries = state.listings.get(&listing.0).into_iter().flatten();
        for (next, (ino, kind, name)) in (1..).zip(entries) {
            if next > offset && reply.add(INodeNo(*ino), next, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        listing: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.lock().listings.remove(&listing.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (16 << 20, 1 << 20);
        reply.statfs(blocks, blocks, blocks, files, files, 4_096, 255, 4_096);
    }
}

fn entry(reply: ReplyEntry, made: Result<FileAttr, Errno>) {
    match made {
        Ok(attr) => reply.entry(&FOREVER, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}
