//! What programs other than the daemon know of its home.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// What the daemon locks while it runs, seen from its home; its text names the daemon.
pub const LOCK_IN_HOME: &str = ".deia/run/deia.lock";

/// Whether some process has the lock in this file; one that is not there nobody has.
///
/// # Errors
/// Names the file, when it can't be told.
pub fn is_held(lock: &Path) -> io::Result<bool> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", lock.display()));
    let file = match OpenOptions::new().read(true).write(true).open(lock) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(named(e)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(named(errno.into())),
    }
}
