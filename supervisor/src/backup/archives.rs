//! The archives there are: what their folder says, and nobody else. One that is copied into it is one of
//! them; what is remembered of a file (`index.json`) is of no use once the file has changed, and can go.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deia::api::BackupMeta;
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::read::{self, ReadError};
use super::{name, write};

/// What an archive's name ends with.
pub const ENDING: &str = ".tar.gz";
/// Archives that are looked at; more are not shown.
pub const MAX_ARCHIVES: usize = 20_000;
/// What is remembered of files. Derived: it is made again where it is missing.
const INDEX: &str = "index.json";
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Longest name of an archive that is copied in.
const MAX_ID_BYTES: usize = 128;

/// One archive.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// When it was made: as it says itself, else as its name says, else as its file says.
    pub at: Timestamp,
    /// What it says, or why it can't be read.
    pub manifest: Result<Manifest, String>,
    /// SHA-256 of its file; empty where that was not asked for.
    pub checksum: String,
}

impl Found {
    /// As users see it.
    pub fn meta(&self) -> BackupMeta {
        let manifest = self.manifest.as_ref().ok();
        let text =
            |of: fn(&Manifest) -> &str| manifest.map_or_else(String::new, |m| of(m).to_owned());
        BackupMeta {
            backup_id: self.id.clone(),
            backup_type: text(|m| &m.backup_type),
            timestamp: self.at,
            source: text(|m| &m.source),
            size_bytes: self.size,
            item_count: manifest.map_or(0, Manifest::task_count),
            checksum: self.checksum.clone(),
            tags: manifest.map_or_else(BTreeMap::new, |m| m.tags.clone()),
            kind: text(|m| m.kind.as_str()),
            name: manifest.and_then(|m| m.name.clone()),
            description: manifest.and_then(|m| m.description.clone()),
            by: text(|m| &m.by),
            deia_version: text(|m| &m.deia_version),
            schema_version: manifest.map_or(0, |m| m.schema_version),
            tasks: manifest.map_or_else(BTreeMap::new, |m| m.tasks.clone()),
            content_bytes: manifest.map_or(0, Manifest::content_bytes),
            file: self.path.display().to_string(),
            error: self.manifest.as_ref().err().cloned(),
        }
    }
}

/// The folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archives(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    loaded: bool,
    /// By file name.
    manifests: HashMap<String, (FileId, Result<Manifest, String>)>,
    index: BTreeMap<String, Indexed>,
}

/// A file as it was when something was found out about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileId {
    size: u64,
    modified_ns: i64,
    inode: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Indexed {
    #[serde(flatten)]
    file: FileId,
    sha256: String,
}

impl FileId {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

impl Archives {
    /// Those in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self(Arc::new(Inner {
            folder,
            known: Mutex::default(),
        }))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Where an archive of this name is, or would be.
    pub fn path_of(&self, id: &str) -> PathBuf {
        self.0.folder.join(format!("{id}{ENDING}"))
    }

    /// All of them, newest first. Blocks: reads the beginning of each file that is new.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.0.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(e),
        };
        for entry in entries {
            if found.len() >= MAX_ARCHIVES {
                break;
            }
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if let Some(id) = name.strip_suffix(ENDING).filter(|id| is_id(id))
                && let Some(one) = self.look_at(id)
            {
                found.push(one);
            }
        }
        found.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
        let mut known = self.known();
        known
            .manifests
            .retain(|id, _| found.iter().any(|one| one.id == *id));
        known
            .index
            .retain(|id, _| found.iter().any(|one| one.id == *id));
        Ok(found)
    }

    /// One of them.
    pub fn find(&self, id: &str) -> Option<Found> {
        is_id(id).then(|| self.look_at(id)).flatten()
    }

    fn look_at(&self, id: &str) -> Option<Found> {
        let path = self.path_of(id);
        // Not what a link leads to.
        let metadata = fs::symlink_metadata(&path).ok()?;
        let file = FileId::of(&metadata);
        let remembered = self.known().manifests.get(id).cloned();
        let manifest = match remembered {
            Some((of, manifest)) if of == file => manifest,
            _ => {
                let manifest = read::open(&path).and_then(|file| read::manifest(&file));
                let manifest = manifest.map_err(|e| e.to_string());
                let remembered = (file, manifest.clone());
                self.known().manifests.insert(id.to_owned(), remembered);
                manifest
            }
        };
        let at = match &manifest {
            Ok(manifest) => manifest.created_at,
            Err(_) => name::time_of(id)
                .unwrap_or_else(|| Timestamp::from_micros(file.modified_ns / 1_000)),
        };
        let known = self.known();
        let indexed = known.index.get(id).filter(|indexed| indexed.file == file);
        Some(Found {
            id: id.to_owned(),
            size: metadata.len(),
            at,
            manifest,
            checksum: indexed.map_or_else(String::new, |indexed| indexed.sha256.clone()),
            path,
        })
    }

    /// Fills in the sums of these files; reads those whose sum is not known. Blocks.
    pub fn sum_up(&self, found: &mut [Found]) {
        self.load();
        for one in found.iter_mut().filter(|one| one.checksum.is_empty()) {
            if let Some(sum) = self.sum_of(&one.id, &one.path) {
                one.checksum = sum;
            }
        }
        self.save();
    }

    fn sum_of(&self, id: &str, path: &Path) -> Option<String> {
        let mut file = read::open(path).ok()?;
        let of = FileId::of(&file.metadata().ok()?);
        if let Some(known) = self.known().index.get(id)
            && known.file == of
        {
            return Some(known.sha256.clone());
        }
        let (_, sha256) = write::sum_of(&mut file, &mut |_| ()).ok()?;
        self.remember_sum(id, of, sha256.clone());
        Some(sha256)
    }

    /// The sum of a file that was just written.
    pub fn wrote(&self, id: &str, sha256: String) {
        if let Ok(metadata) = fs::symlink_metadata(self.path_of(id)) {
            self.load();
            self.remember_sum(id, FileId::of(&metadata), sha256);
            self.save();
        }
    }

    fn remember_sum(&self, id: &str, file: FileId, sha256: String) {
        let indexed = Indexed { file, sha256 };
        self.known().index.insert(id.to_owned(), indexed);
    }

    /// Every byte of an archive is as it was written. Blocks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Manifest, ReadError> {
        let file: File = read::open(path)?;
        write::verify(&file, progress)
    }

    fn load(&self) {
        let mut known = self.known();
        if known.loaded {
            return;
        }
        known.loaded = true;
        let path = self.0.folder.join(INDEX);
        let small = fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_INDEX_BYTES);
        if let Some(Ok(index)) = small
            .then(|| fs::read(&path))
            .and_then(Result::ok)
            .map(|text| serde_json::from_slice::<BTreeMap<String, Indexed>>(&text))
        {
            for (id, indexed) in index {
                known.index.entry(id).or_insert(indexed);
            }
        }
    }

    /// Nothing is lost with it: so without a sync, and a failure is no matter.
    fn save(&self) {
        let text = serde_json::to_vec(&self.known().index).unwrap_or_default();
        let path = self.0.folder.join(INDEX);
        let aside = self.0.folder.join(".index.json.tmp");
        if fs::write(&aside, text).is_ok() {
            let _ = fs::rename(&aside, &path);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file of this name, and [`ENDING`], is taken for an archive.
pub fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !id.is_empty() && id.len() <= MAX_ID_BYTES && !id.starts_with('.') && id.bytes().all(plain)
}
