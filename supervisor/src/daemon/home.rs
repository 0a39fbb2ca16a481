//! Where things are under HOME.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deia::config::Persistence;
use deia::home::LOCK_IN_HOME;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A daemon that was killed may have been starting a bot: until that child executes its program, it has the lock,
/// too.
const FORK_ENDS: Duration = Duration::from_secs(2);

/// A daemon that was killed just now has the lock until the kernel has taken it apart, and nothing says that it is
/// going to: whoever has it, it is waited for so long.
const KILL_ENDS: Duration = Duration::from_secs(1);

/// The last checkpoint of the audit trail, beside the store.
pub const AUDIT_HEAD: &str = "audit-head.json";

/// The paths of one daemon.
#[derive(Debug, Clone)]
pub struct Home {
    /// HOME itself, absolute.
    pub root: PathBuf,
    /// `deia.db`'s directory.
    pub state: PathBuf,
    /// The JSON lines' directory.
    pub logs: PathBuf,
    /// The configuration's directory under `.deia`.
    pub config: PathBuf,
    /// The sockets' directory.
    pub run: PathBuf,
}

impl Home {
    /// The paths under `root`. Under systemd (`$RUNTIME_DIRECTORY`) the sockets are elsewhere.
    pub fn new(root: &Path, persistence: &Persistence, runtime_directory: Option<PathBuf>) -> Self {
        Self {
            root: root.to_owned(),
            state: root.join(&persistence.state_directory),
            logs: root.join(&persistence.log_directory),
            config: root.join(&persistence.config_directory),
            run: runtime_directory.unwrap_or_else(|| root.join(".deia/run")),
        }
    }

    /// Makes what is missing: 0750, secrets and the bots' socket directory 0700. What is in them is worth
    /// nothing after a power cut that takes the directory, so their names are on disk when this returns.
    ///
    /// # Errors
    /// Names the directory.
    pub fn create(&self) -> io::Result<()> {
        let deia = self.deia();
        let open = [
            &deia,
            &self.state,
            &self.logs,
            &self.config,
            &self.run,
            &deia.join("run"),
            &deia.join("bot-output"),
            &self.backups(),
            &deia.join("work"),
            &deia.join("spool"),
            &deia.join("releases"),
            &self.hive().join("tasks"),
            &self.hive().join("responses"),
            &self.hive().join("controls"),
        ];
        // Those of the home also where they were there: an earlier daemon may have been killed before it
        // had synced them. Others only where a directory is made in them: they may be closed to us.
        let mut synced = BTreeSet::new();
        for directory in open {
            let above = directory.ancestors().skip(1);
            match directory.starts_with(&self.root) {
                true => synced.extend(above.take_while(|path| path.starts_with(&self.root))),
                false => synced.extend(made_in(directory)),
            }
        }
        let synced: Vec<PathBuf> = synced
            .into_iter()
            .map(Path::to_owned)
            .chain(made_in(&self.root).map(Path::to_owned))
            .collect();
        for directory in open {
            create(directory, 0o750)?;
        }
        create(&self.run.join("bots"), 0o700)?;
        create(&deia.join("bots"), 0o700)?;
        create(&deia.join("secrets"), 0o700)?;
        for directory in synced {
            File::open(&directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|e| named(&directory, &e))?;
        }
        Ok(())
    }

    /// `.deia`.
    pub fn deia(&self) -> PathBuf {
        self.root.join(".deia")
    }

    /// The store.
    pub fn database(&self) -> PathBuf {
        self.state.join("deia.db")
    }

    /// Where operators connect.
    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    /// Where bots connect.
    pub fn bots_socket(&self) -> PathBuf {
        self.run.join("bots/bots.sock")
    }

    /// What a bot prints.
    pub fn bot_output(&self, bot: &str) -> PathBuf {
        self.deia().join("bot-output").join(format!("{bot}.log"))
    }

    /// A bot's own directory: HOME and temporary files of what it starts.
    pub fn bot_own(&self, bot: &str) -> PathBuf {
        self.deia().join("bots").join(bot)
    }

    /// Results that bots could not hand in yet.
    pub fn spool(&self) -> PathBuf {
        self.deia().join("spool")
    }

    /// What bots prove themselves by, see [`crate::fleet::proof`].
    pub fn fleet_key(&self) -> PathBuf {
        self.deia().join("secrets/fleet.key")
    }

    /// What alerts are signed with, see [`crate::health`].
    pub fn webhook_key(&self) -> PathBuf {
        self.deia().join("secrets/webhook.key")
    }

    /// The API tokens, see [`crate::tokens`].
    pub fn tokens(&self) -> PathBuf {
        self.deia().join("secrets/tokens.json")
    }

    /// Which external bots are registered, and their secrets.
    pub fn external_bots(&self) -> PathBuf {
        self.deia().join("secrets/external-bots.json")
    }

    /// Tasks and answers as files, see [`crate::hive`].
    pub fn hive(&self) -> PathBuf {
        self.deia().join("hive")
    }

    /// Kept releases, and which one is in force.
    pub fn releases(&self) -> PathBuf {
        self.deia().join("releases")
    }

    /// Backups.
    pub fn backups(&self) -> PathBuf {
        self.deia().join("backups")
    }

    /// How far a restore is: see [`crate::backup::restore`].
    pub fn restore_journal(&self) -> PathBuf {
        self.deia().join("restore.json")
    }

    /// How far a rollback is: see [`crate::daemon::rollback`].
    pub fn rollback_journal(&self) -> PathBuf {
        self.deia().join("rollback.json")
    }

    /// Fresh working directories.
    pub fn work(&self) -> PathBuf {
        self.deia().join("work")
    }

    /// An operator's limits, kept outside the store so that a restore does not bring old ones back.
    pub fn limits_override(&self) -> PathBuf {
        self.config.join("limits-override.json")
    }

    /// The last daemon ended as it was asked to: see [`crate::daemon::recovery::last_end`].
    pub fn shutdown_marker(&self) -> PathBuf {
        self.state.join("shutdown.marker")
    }

    /// The last checkpoint of the audit trail.
    pub fn audit_head(&self) -> PathBuf {
        self.state.join(AUDIT_HEAD)
    }

    /// What is known of the host's clocks.
    pub fn clocks(&self) -> PathBuf {
        self.state.join("clocks.json")
    }

    /// The alerts, see [`crate::health`].
    pub fn alerts(&self) -> PathBuf {
        self.state.join("alerts.json")
    }

    /// Which bots an operator has stopped.
    pub fn held_bots(&self) -> PathBuf {
        self.config.join("stopped-bots.json")
    }

    /// Takes the home for this process. Kept as long as the lock lives; never inherited by a bot.
    ///
    /// # Errors
    /// Names the daemon that has it.
    pub fn lock(&self) -> io::Result<HomeLock> {
        let path = self.root.join(LOCK_IN_HOME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(|e| named(&path, &e))?;
        let mut holder = String::new();
        // Only to name the other one; the lock itself is what counts.
        let _ = file.read_to_string(&mut holder);
        let mut lock = lock_after(file, holder.trim()).map_err(|errno| {
            let why = if errno == Errno::EWOULDBLOCK {
                let holder = holder.trim();
                format!(
                    "another deia ({}) already runs on {}: stop it, or choose another --home",
                    if holder.is_empty() {
                        "pid unknown"
                    } else {
                        holder
                    },
                    self.root.display()
                )
            } else {
                format!("cannot lock {}: {errno}", path.display())
            };
            io::Error::new(io::ErrorKind::AddrInUse, why)
        })?;
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "pid {}", std::process::id())?;
        Ok(HomeLock(lock))
    }
}

/// Waits a moment for the lock of a holder that is gone, or may be going.
fn lock_after(mut file: File, holder: &str) -> Result<Flock<File>, Errno> {
    let begun = Instant::now();
    let patience = || {
        if is_gone(holder) {
            FORK_ENDS
        } else {
            KILL_ENDS
        }
    };
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((again, Errno::EWOULDBLOCK)) if begun.elapsed() < patience() => {
                file = again;
                std::thread::sleep(Duration::from_millis(5));
            }
            locked => return locked.map_err(|(_, errno)| errno),
        }
    }
}

/// Whether the process a lock names, `pid 7`, is no more.
fn is_gone(holder: &str) -> bool {
    let pid = holder.strip_prefix("pid ");
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// Proof that this process has the home.
#[derive(Debug)]
pub struct HomeLock(Flock<File>);

impl HomeLock {
    /// The lock that the process before had: it is this process's own by now.
    ///
    /// # Errors
    /// When it is not.
    pub fn take_over(lock: OwnedFd) -> io::Result<Self> {
        Flock::lock(File::from(lock), FlockArg::LockExclusiveNonblock)
            .map(Self)
            .map_err(|(_, errno)| errno.into())
    }

    /// The same lock once more.
    ///
    /// # Errors
    /// For want of descriptors.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }
}

/// The directories that something will be made in, so that this one is there.
fn made_in(directory: &Path) -> impl Iterator<Item = &Path> {
    let missing = directory.ancestors().take_while(|path| !path.exists());
    missing.filter_map(Path::parent)
}

fn create(directory: &Path, mode: u32) -> io::Result<()> {
    if directory.is_dir() {
        // 0700 is a promise, whoever made the directory.
        if mode == 0o700 {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode))
                .map_err(|e| named(directory, &e))?;
        }
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        .map_err(|e| named(directory, &e))
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}
