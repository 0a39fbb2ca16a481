//! The ends of log files, and what is added to them, across rotation.
//!
//! Files are known by device and inode, not by name: a file that was renamed goes on where it was,
//! one that is new under an old name is read from its beginning, one that was cut is read again.
//! While nothing follows, nothing polls.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause between two looks at followed files.
pub const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Most bytes read from the end of a file, and from one file in one look.
const MAX_READ_BYTES: u64 = 4 << 20;

/// Most bytes of a line that waits for its end; a longer one is shown in pieces.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Which file, whatever its name.
type Identity = (u64, u64);

/// Files and how far they were read.
#[derive(Default)]
pub struct Follower {
    open: HashMap<Identity, Reading>,
}

struct Reading {
    file: File,
    path: PathBuf,
    at: u64,
    partial: Vec<u8>,
    listed: bool,
}

/// A line and the file it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file's path when it was found.
    pub path: PathBuf,
    /// The text without its line feed; bytes that are no UTF-8 are replaced.
    pub text: String,
}

impl Follower {
    /// The lines at the ends of these files, in the order of the files; from here on they are
    /// followed. Files that are not there are skipped.
    pub fn start(&mut self, paths: &[PathBuf]) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for path in paths {
            let Some(mut reading) = Reading::open(path)? else {
                continue;
            };
            let size = reading.file.metadata()?.len();
            reading.at = size.saturating_sub(MAX_READ_BYTES);
            let cut = reading.at > 0;
            let mut found = reading.read()?;
            if cut && !found.is_empty() {
                // The first line began before what was read.
                found.remove(0);
            }
            lines.append(&mut found);
            self.open.insert(reading.identity()?, reading);
        }
        Ok(lines)
    }

    /// The lines added since the last look. Files that are new are read from their beginning.
    pub fn look(&mut self, paths: &[PathBuf]) -> io::Result<Vec<Line>> {
        for reading in self.open.values_mut() {
            reading.listed = false;
        }
        for path in paths {
            let Some(reading) = Reading::open(path)? else {
                continue;
            };
            let known = self.open.entry(reading.identity()?).or_insert(reading);
            known.listed = true;
        }
        let mut lines = Vec::new();
        for reading in self.open.values_mut() {
            lines.append(&mut reading.read()?);
        }
        // What is listed no longer was read to its end just now.
        self.open.retain(|_, reading| reading.listed);
        Ok(lines)
    }

    /// What was written after the last line feed, for those who do not follow.
    pub fn unfinished(&self) -> Vec<Line> {
        let partial = self.open.values().filter(|r| !r.partial.is_empty());
        partial.map(Reading::unfinished).collect()
    }
}

impl Reading {
    fn unfinished(&self) -> Line {
        Line {
            path: self.path.clone(),
            text: String::from_utf8_lossy(&self.partial).into_owned(),
        }
    }

    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self {
                file,
                path: path.to_owned(),
                at: 0,
                partial: Vec::new(),
                listed: true,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(path, &error)),
        }
    }

    fn identity(&self) -> io::Result<Identity> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn read(&mut self) -> io::Result<Vec<Line>> {
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
            self.partial.clear();
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        let read = (&mut self.file)
            .take(MAX_READ_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| named(&self.path, &error))?;
        self.at += read as u64;
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") || self.partial.len() > MAX_LINE_BYTES {
                let text = String::from_utf8_lossy(&self.partial);
                lines.push(Line {
                    path: self.path.clone(),
                    text: text.trim_end_matches(['\n', '\r']).to_owned(),
                });
                self.partial.clear();
            }
        }
        Ok(lines)
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn follows_growth_renaming_cutting_and_new_files_without_loss_or_repetition() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.jsonl");
        let rotated = directory.path().join("a.1.jsonl");
        append(&path, "1\n2\npart");
        let mut follower = Follower::default();
        let paths = [path.clone(), rotated.clone()];
        assert_eq!(texts(follower.start(&paths).unwrap()), ["1", "2"]);

        append(&path, "ial\n");
        assert_eq!(texts(follower.look(&paths).unwrap()), ["partial"]);

        append(&path, "before\n");
        fs::rename(&path, &rotated).unwrap();
        append(&path, "after\n");
        let mut seen = texts(follower.look(&paths).unwrap());
        seen.sort();
        assert_eq!(seen, ["after", "before"]);

        File::create(&path).unwrap();
        append(&path, "x\n");
        assert_eq!(texts(follower.look(&paths).unwrap()), ["x"]);
        assert!(follower.look(&paths).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_leaves_the_list_is_read_to_its_end_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bot.log");
        append(&path, "1\n");
        let mut follower = Follower::default();
        let paths = [path.clone()];
        assert_eq!(texts(follower.start(&paths).unwrap()), ["1"]);
        append(&path, "2\n");
        fs::rename(&path, directory.path().join("bot.log.1")).unwrap();
        assert_eq!(texts(follower.look(&paths).unwrap()), ["2"]);
        assert!(follower.look(&paths).unwrap().is_empty());
    }

    #[test]
    fn only_the_end_of_a_large_file_is_read_and_never_half_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        let mut text = String::new();
        while text.len() as u64 <= MAX_READ_BYTES {
            text.push_str("0123456789abcde\n");
        }
        append(&path, &format!("x{text}"));
        let lines = texts(Follower::default().start(&[path]).unwrap());
        assert!(lines.len() > 200_000);
        assert!(lines.iter().all(|line| line == "0123456789abcde"));
    }
}
