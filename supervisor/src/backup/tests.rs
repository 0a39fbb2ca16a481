//! Archives as they should not be: hostile, cut, flipped. Read in this process; what a daemon does with them is in
//! `tests/restore.rs`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::manifest::{DATABASE, FORMAT, MANIFEST, Member};
use super::read::{Target, Visitor};
use super::write::{self, Contents};
use super::*;

const CONFIG_FILE: &str = "config/bot-config.yaml";
const CONFIG_TEXT: &[u8] = b"bot_limits: {max_bots: 3}\n";

fn manifest(members: Vec<Member>) -> Manifest {
    Manifest {
        format: FORMAT,
        created_at: Timestamp::from_micros(1_000_000),
        kind: Kind::Manual,
        backup_type: "full".into(),
        source: "a test".into(),
        name: None,
        description: None,
        tags: Default::default(),
        by: "a test".into(),
        deia_version: "1".into(),
        schema_version: 1,
        store_epoch: "1".into(),
        tasks: Default::default(),
        clocks: None,
        members,
    }
}

fn member(path: &str, bytes: &[u8]) -> Member {
    Member {
        path: path.into(),
        size: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
    }
}

/// Not compressible, so that no flip is in a run of the same.
fn database() -> Vec<u8> {
    let mut bytes = b"SQLite format 3\0".to_vec();
    let mut sum = Sha256::digest(b"seed");
    while bytes.len() < 20_000 {
        bytes.extend_from_slice(&sum);
        sum = Sha256::digest(sum);
    }
    bytes
}

/// An archive by hand: whatever is said, in whatever form.
struct Forged(Vec<u8>);

impl Forged {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn header(kind: EntryType, path: &[u8], size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_entry_type(kind);
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path);
        header.set_cksum();
        header
    }

    fn raw(mut self, header: &Header, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().div_ceil(512) * 512, 0);
        self
    }

    fn file(self, path: &str, bytes: &[u8]) -> Self {
        let header = Self::header(EntryType::Regular, path.as_bytes(), bytes.len() as u64);
        self.raw(&header, bytes)
    }

    fn manifest(self, members: Vec<Member>) -> Self {
        let text = serde_json::to_vec(&manifest(members)).unwrap();
        self.file(MANIFEST, &text)
    }

    fn zipped(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        zip(&self.0)
    }
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn both() -> Vec<Member> {
    vec![
        member(CONFIG_FILE, CONFIG_TEXT),
        member(DATABASE, &database()),
    ]
}

fn good() -> Forged {
    Forged::new()
        .manifest(both())
        .file(CONFIG_FILE, CONFIG_TEXT)
        .file(DATABASE, &database())
}

/// Keeps what it is given: to see that wrong bytes are never taken for right ones.
#[derive(Default)]
struct Keep(std::rc::Rc<std::cell::RefCell<Vec<Vec<u8>>>>);

struct Kept(std::rc::Rc<std::cell::RefCell<Vec<Vec<u8>>>>, Vec<u8>);

impl std::io::Write for Kept {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Target for Kept {
    fn done(self: Box<Self>) -> std::io::Result<()> {
        self.0.borrow_mut().push(self.1);
        Ok(())
    }
}

impl Visitor for Keep {
    fn begin(&mut self, _: &Manifest) -> Result<(), String> {
        Ok(())
    }

    fn member(&mut self, _: &Member) -> std::io::Result<Box<dyn Target>> {
        Ok(Box::new(Kept(self.0.clone(), Vec::new())))
    }

    fn progress(&mut self, _: u64) {}
}

/// What is in it, or why it is refused.
fn read_back(path: &Path, archive: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    fs::write(path, archive).unwrap();
    let mut keep = Keep::default();
    let kept = keep.0.clone();
    let file = read::open(path).map_err(|e| e.to_string())?;
    read::walk(&file, &mut keep).map_err(|e| e.to_string())?;
    Ok(kept.take())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar.gz");
    (directory, path)
}

#[track_caller]
fn refused(forged: Forged, words: &str) {
    let (directory, path) = place();
    let why = read_back(&path, &forged.zipped()).unwrap_err();
    assert!(why.contains(words), "{words}: {why}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_is_written_is_read_back() {
    let (directory, path) = place();
    let copy = directory.path().join("copy.db");
    fs::write(&copy, database()).unwrap();
    let contents = Contents {
        config: vec![(CONFIG_FILE.into(), CONFIG_TEXT.to_vec())],
        database: &copy,
    };
    let manifest = manifest(contents.members(&mut |_| ()).unwrap());
    assert_eq!(manifest.members, both());
    let (size, sum) = write::write(&path, &manifest, &contents, &mut |_| ()).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(
        (size, sum),
        (bytes.len() as u64, hex(&Sha256::digest(&bytes)))
    );
    let file = read::open(&path).unwrap();
    assert_eq!(write::verify(&file, &mut |_| ()).unwrap(), manifest);
    let file = File::open(&path).unwrap();
    assert_eq!(read::manifest(&file).unwrap(), manifest);
    let kept = read_back(&path, &bytes).unwrap();
    assert_eq!(kept, [CONFIG_TEXT.to_vec(), database()]);
}

#[test]
fn one_by_another_archiver_is_read_too() {
    let (_directory, path) = place();
    let kept = read_back(&path, &good().zipped()).unwrap();
    assert_eq!(kept.len(), 2);
}

#[test]
fn hostile_archives_are_refused() {
    let list = || Forged::new().manifest(both());
    let with = |path: &str| {
        let text = serde_json::to_vec(&manifest(vec![member(path, b"x"), member(DATABASE, b"x")]));
        Forged::new()
            .file(MANIFEST, &text.unwrap())
            .file(path, b"x")
    };
    for path in [
        "../../evil",
        "/tmp/evil",
        "config/../../evil",
        "state/../evil",
        "secrets/fleet.key",
        "config/limits-override.json",
    ] {
        refused(with(path), "is not part of a backup");
        refused(
            list().file(path, b"x"),
            "where config/bot-config.yaml should be",
        );
    }
    let twice = vec![member(DATABASE, b"x"), member(DATABASE, b"x")];
    refused(Forged::new().manifest(twice), "comes twice");
    refused(good().file(DATABASE, &database()), "not in its manifest");
    refused(good().file("evil", b"x"), "not in its manifest");
    refused(list(), "is missing");
    refused(list().file(CONFIG_FILE, CONFIG_TEXT), "is missing");
    refused(Forged::new(), "empty");
    refused(
        Forged::new().file("evil", b"x"),
        "where manifest.json should be",
    );
    let huge = Forged::header(EntryType::Regular, MANIFEST.as_bytes(), u64::MAX >> 2);
    refused(Forged::new().raw(&huge, b""), "too large");
    for kind in [
        EntryType::Link,
        EntryType::Symlink,
        EntryType::Char,
        EntryType::Block,
        EntryType::Directory,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNUSparse,
        EntryType::new(b'9'),
    ] {
        let mut header = Forged::header(kind, CONFIG_FILE.as_bytes(), CONFIG_TEXT.len() as u64);
        if matches!(kind, EntryType::Link | EntryType::Symlink) {
            header.set_link_name("/etc/passwd").unwrap();
            header.set_cksum();
        }
        refused(list().raw(&header, CONFIG_TEXT), "no plain file");
    }
    // A plain file with a link's target.
    let mut header = Forged::header(EntryType::Regular, CONFIG_FILE.as_bytes(), 0);
    header.set_link_name("/etc/passwd").unwrap();
    header.set_cksum();
    refused(list().raw(&header, b""), "no plain file");
    // Extended headers that say another name or size for the next entry.
    let pax = b"30 path=../../../../tmp/evil\n\n";
    for (kind, bytes) in [
        (EntryType::XHeader, pax.as_slice()),
        (EntryType::XGlobalHeader, pax.as_slice()),
        (EntryType::GNULongName, b"../../../../tmp/evil\0".as_slice()),
        (EntryType::GNULongLink, b"/etc/passwd\0".as_slice()),
    ] {
        let header = Forged::header(kind, b"././@LongLink", bytes.len() as u64);
        refused(
            list().raw(&header, bytes).file(CONFIG_FILE, CONFIG_TEXT),
            "where config/bot-config.yaml should be",
        );
        let header = Forged::header(kind, CONFIG_FILE.as_bytes(), bytes.len() as u64);
        refused(list().raw(&header, bytes), "no plain file");
    }
    refused(list().file(CONFIG_FILE, b"short"), "its manifest says");
    let other = [b'x'; CONFIG_TEXT.len()];
    refused(list().file(CONFIG_FILE, &other), "damaged");
    let many: Vec<Member> = (0..100)
        .map(|n| member(&format!("config/{n}"), b""))
        .collect();
    refused(Forged::new().manifest(many), "more than 64");
}

#[test]
fn nothing_may_follow_the_end() {
    let (_directory, path) = place();
    let archive = good().zipped();
    assert!(read_back(&path, &archive).is_ok());
    let mut trailing = archive.clone();
    trailing.extend_from_slice(b"trailing");
    assert!(read_back(&path, &trailing).is_err());
    // A second compressed stream.
    let mut second = archive.clone();
    second.extend_from_slice(&zip(b"second"));
    assert!(read_back(&path, &second).is_err());
    // Something within the stream, behind the zeros.
    let mut inside = good().0;
    inside.extend_from_slice(&[0; 2048]);
    inside.extend_from_slice(b"inside");
    assert!(read_back(&path, &zip(&inside)).is_err());
    for cut in [0, 1, 10, archive.len() / 2, archive.len() - 1] {
        assert!(read_back(&path, &archive[..cut]).is_err(), "cut at {cut}");
    }
}

/// A gigabyte of zeros, and a million entries, in a few hundred kilobytes: refused while a buffer is all that is held.
#[test]
fn bombs_go_off_nowhere() {
    let (_directory, path) = place();
    // Zeros behind the end.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&good().0).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    let why = read_back(&path, &encoder.finish().unwrap()).unwrap_err();
    assert!(why.contains("more in it than its manifest says"), "{why}");
    // A manifest of zeros.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let header = Forged::header(EntryType::Regular, MANIFEST.as_bytes(), 1 << 30);
    encoder.write_all(header.as_bytes()).unwrap();
    encoder.write_all(&zeros).unwrap();
    assert!(read_back(&path, &encoder.finish().unwrap()).is_err());
    // Entries that no manifest names.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&good().0).unwrap();
    let header = Forged::header(EntryType::Regular, b"x", 0);
    for _ in 0..100_000 {
        encoder.write_all(header.as_bytes()).unwrap();
    }
    let why = read_back(&path, &encoder.finish().unwrap()).unwrap_err();
    assert!(why.contains("not in its manifest"), "{why}");
    // A manifest with a million of them.
    let text = format!("{{\"members\":[{}", "{},".repeat(400_000));
    let why = read_back(
        &path,
        &Forged::new()
            .file(MANIFEST, &text.as_bytes()[..1 << 20])
            .zipped(),
    );
    assert!(why.is_err());
}

#[test]
fn a_flipped_byte_is_never_taken_for_right() {
    let (_directory, path) = place();
    let archive = good().zipped();
    let right = vec![CONFIG_TEXT.to_vec(), database()];
    let mut rng = fastrand::Rng::with_seed(12);
    let (mut refused, mut harmless) = (0, 0);
    let flips = if std::env::var_os("DEIA_SOAK").is_some() {
        1_000
    } else {
        200
    };
    for _ in 0..flips {
        let mut flipped = archive.clone();
        let at = rng.usize(..flipped.len());
        flipped[at] ^= 1 << rng.u8(..8);
        match read_back(&path, &flipped) {
            // In gzip's own header: a time, a system.
            Ok(read) => {
                assert_eq!(read, right, "byte {at}");
                harmless += 1;
            }
            Err(_) => refused += 1,
        }
    }
    for _ in 0..flips / 10 {
        let cut = rng.usize(..archive.len());
        assert!(read_back(&path, &archive[..cut]).is_err(), "cut at {cut}");
    }
    assert!(
        refused > harmless * 20,
        "{refused} refused, {harmless} harmless"
    );
}

#[test]
fn what_is_no_regular_file_is_not_read() {
    let (directory, path) = place();
    let real = directory.path().join("real");
    fs::write(&real, good().zipped()).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    assert!(read::open(&path).is_err(), "a link");
    assert!(read::open(directory.path()).is_err(), "a directory");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(read::open(&path).is_err(), "a pipe nobody writes to");
    let archives = Archives::new(directory.path().to_owned());
    let listed = archives.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].manifest.is_err());
}

#[test]
fn what_is_in_the_folder_is_listed_and_nothing_else() {
    let (directory, _) = place();
    let archives = Archives::new(directory.path().to_owned());
    let good = good().zipped();
    for name in [
        "state-2026-01-02-03-04-05.tar.gz",
        "from-elsewhere.tar.gz",
        ".state-2026-01-02-03-04-06.tar.gz.partial",
        "notes.txt",
        "with space.tar.gz",
    ] {
        fs::write(directory.path().join(name), &good).unwrap();
    }
    fs::write(
        directory.path().join("state-2020-01-01-00-00-00.tar.gz"),
        "bad",
    )
    .unwrap();
    let mut listed = archives.list().unwrap();
    let ids: Vec<_> = listed.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "state-2020-01-01-00-00-00",
            "state-2026-01-02-03-04-05",
            "from-elsewhere"
        ]
    );
    archives.sum_up(&mut listed);
    assert_eq!(listed[1].checksum, hex(&Sha256::digest(&good)));
    // Another daemon knows it without reading the file again, and one that has changed is looked at anew.
    let path = archives.path_of("from-elsewhere");
    fs::write(&path, "changed").unwrap();
    let again = Archives::new(directory.path().to_owned());
    let mut found = [again.find("from-elsewhere").unwrap()];
    again.sum_up(&mut found);
    assert_eq!(found[0].checksum, hex(&Sha256::digest(b"changed")));
    assert!(again.find("../a").is_none() && again.find(".hidden").is_none());
}
