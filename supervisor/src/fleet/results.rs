//! Results that bots left on disk: read, proved, and put away once they count.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deia::wire::Launch;
use deia_worker::spool::{self, Record};

use super::proof::FleetKey;

/// Where bots keep what they could not hand in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Results {
    directory: Arc<Path>,
    key: FleetKey,
}

/// A result, and the file it is in.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub record: Record,
}

impl Results {
    /// In this directory, by bots of this fleet.
    pub fn new(directory: &Path, key: FleetKey) -> Self {
        Self {
            directory: directory.into(),
            key,
        }
    }

    /// All of them; what is no result is set aside by name, and said. Blocks.
    pub fn all(&self) -> Vec<Kept> {
        let files = spool::files(&self.directory);
        files.filter_map(|path| self.read(path)).collect()
    }

    /// Those of one start of a bot. Blocks.
    pub fn of(&self, bot: &str, launch: Launch) -> Vec<Kept> {
        let files = spool::files(&self.directory);
        files
            .filter(|path| spool::belongs_to(path, bot))
            .filter_map(|path| self.read(path))
            .filter(|kept| kept.record.writer.launch == launch)
            .collect()
    }

    /// It is durable, or of no use any more.
    pub fn put_away(path: PathBuf) {
        tokio::task::spawn_blocking(move || {
            deia::failpoint!("results.remove.before");
            if let Err(e) = spool::remove(&path) {
                tracing::warn!(event = "result_not_removed", path = %path.display(), error = %e, "a result that was taken over could not be removed; it is refused as late from now on");
            }
            deia::failpoint!("results.remove.after");
        });
    }

    fn read(&self, path: PathBuf) -> Option<Kept> {
        match spool::read(&path, |writer| self.key.secret_of(writer)) {
            Ok(record) => Some(Kept { path, record }),
            // Its bot has handed it in meanwhile.
            Err(spool::ReadError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => {
                let aside = path.with_extension("bad");
                let moved = std::fs::rename(&path, &aside).is_ok();
                tracing::warn!(event = "result_refused", path = %path.display(), moved, error = %e, "a file in the spool is no result of this fleet's and is set aside as .bad");
                None
            }
        }
    }
}
