//! Where the configuration is, and whether its content changed.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use deia::config::{LoadError, read_text};

/// The files that may be the configuration, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    home: PathBuf,
    candidates: Vec<PathBuf>,
}

impl Search {
    /// `explicit` is the file named by `--config`; then no other is looked at.
    pub fn new(home: &Path, explicit: Option<PathBuf>) -> Self {
        let candidates = match explicit {
            Some(file) => vec![file],
            None => vec![
                home.join("bot-config.yaml"),
                home.join(".deia/config/bot-config.yaml"),
                home.join(".deia/config/bot-config.yml"),
                home.join(".deia/config/bot-config.json"),
            ],
        };
        Self {
            home: home.to_owned(),
            candidates,
        }
    }

    /// The daemon's home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The first that is there. One that cannot be looked at counts as there, so that a wrong mode
    /// is a refusal and not the defaults.
    pub fn find(&self) -> Option<PathBuf> {
        self.candidates
            .iter()
            .find(|file| match file.try_exists() {
                Ok(is_there) => is_there,
                // Something else is in the place of its directory, which the start names.
                Err(e) => e.kind() != std::io::ErrorKind::NotADirectory,
            })
            .cloned()
    }

    /// The candidates, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> = self
            .candidates
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        names.join(", ")
    }

    /// The directories that hold the candidates.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> = Vec::new();
        for file in &self.candidates {
            let parent = match file.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => continue,
            };
            if !directories.iter().any(|known| known == parent) {
                directories.push(parent.to_owned());
            }
        }
        directories
    }

    /// What the file says now, as a hash. Reads the file.
    pub fn fingerprint(&self) -> Fingerprint {
        let Some(file) = self.find() else {
            return Fingerprint::default();
        };
        let content = match read_text(&file) {
            Ok(text) => text,
            Err(LoadError::Missing) => return Fingerprint::default(),
            Err(LoadError::Refused(refusal)) => refusal.one_line(),
        };
        let hash = Sha256::digest(content.as_bytes()).into();
        Fingerprint(Some((file, hash)))
    }
}

/// Which file, and a hash of its content. The default stands for no file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(Option<(PathBuf, [u8; 32])>);

impl Fingerprint {
    /// Whether it stands for a file.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }
}
