//! `.deia/config/last-good.yaml`: what the daemon runs with when its file is refused at a start.
//!
//! Its place is fixed: `persistence.config_directory` cannot be known before a configuration is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deia::config::{Config, render_yaml};

use crate::durable;

/// The name of the file.
pub(super) const FILE_NAME: &str = "last-good.yaml";
/// What [`durable::write`] writes first: a kill leaves one such file at most, which the next write
/// replaces.
pub(super) const TEMPORARY_NAME: &str = "last-good.yaml.tmp";

const HEADER: &str = "# The last configuration that was applied; written by the daemon, used when its file is refused.\n\
                      # Changes here are lost.\n";

/// The path below `home`.
pub(super) fn path(home: &Path) -> PathBuf {
    home.join(".deia/config").join(FILE_NAME)
}

/// A write of the last good configuration that is still to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveLastGood {
    path: PathBuf,
    text: String,
}

impl SaveLastGood {
    pub(super) fn new(home: &Path, config: &Config) -> Self {
        Self {
            path: path(home),
            text: format!("{HEADER}{}", render_yaml(config)),
        }
    }

    /// Writes it, so that after a power cut there is either the old or the new one, whole. Does
    /// nothing when it is there already.
    ///
    /// # Errors
    ///
    /// Those of the file system; the old file is then still there.
    pub fn run(&self) -> io::Result<()> {
        if fs::read_to_string(&self.path).is_ok_and(|there| there == self.text) {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        durable::write(&self.path, self.text.as_bytes())
    }
}
