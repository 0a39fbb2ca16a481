//! The sink that writes `.deia/bot-logs/`: one write per file and batch, rotation, and the bounds.
//!
//! A disk that fails costs lines, never the daemon: they are counted, the daemon's standard error
//! says so once per episode, and the first line after it says how many are missing. A line is whole or
//! not there: what a full disk cut off is taken back.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use deia::config::Logging;
use deia::time::Timestamp;

use super::queue::{Batch, Sink};
use super::rotate::{self, Step};
use super::route::{Files, activity_file};

/// Files kept open at once; past it the least recently used is closed.
pub const MAX_OPEN_FILES: usize = 64;
/// Buffers of files nothing was written to for this many batches are given back.
const FORGET_AFTER_BATCHES: u64 = 600;
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;
const MIB: u64 = 1 << 20;

/// The bounds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) max_file: u64,
    pub(super) keep_files: u32,
    pub(super) max_total: u64,
}

impl From<&Logging> for Bounds {
    fn from(logging: &Logging) -> Self {
        Self {
            max_file: logging.max_file_mb.max(1).saturating_mul(MIB),
            keep_files: logging.keep_files,
            max_total: logging.max_total_mb.max(1).saturating_mul(MIB),
        }
    }
}

#[derive(Debug, Default)]
struct LogFile {
    open: Option<File>,
    size: u64,
    staged: Vec<u8>,
    used: u64,
}

/// Every log file.
#[derive(Debug)]
pub(super) struct LogFiles {
    dir: PathBuf,
    bounds: Bounds,
    files: HashMap<String, LogFile>,
    /// Bytes of all of them, rotated ones too.
    total: u64,
    batches: u64,
    lost: u64,
    trouble: Option<String>,
    said: bool,
}

impl LogFiles {
    /// Makes the directory where it is missing, and looks at what is there.
    pub(super) fn open(dir: &Path, bounds: Bounds) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(dir)?;
        let mut files = Self {
            dir: dir.to_owned(),
            bounds,
            files: HashMap::new(),
            total: 0,
            batches: 0,
            lost: 0,
            trouble: None,
            said: false,
        };
        files.bound_total();
        Ok(files)
    }

    fn stage(&mut self, name: &str, line: &[u8]) {
        if let Some(file) = self.files.get_mut(name) {
            file.staged.extend_from_slice(line);
        } else {
            let file = LogFile {
                staged: line.to_vec(),
                ..LogFile::default()
            };
            self.files.insert(name.to_owned(), file);
        }
    }

    fn flush_all(&mut self) {
        self.batches += 1;
        let names: Vec<String> = self
            .files
            .iter()
            .filter(|(_, file)| !file.staged.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(mut file) = self.files.remove(&name) else {
                continue;
            };
            let mut staged = std::mem::take(&mut file.staged);
            file.used = self.batches;
            let mut rest = staged.as_slice();
            while !rest.is_empty() {
                match self.append(&name, &mut file, rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) => {
                        file.open = None;
                        self.lost += lines_in(rest);
                        self.failed(&name, &error);
                        break;
                    }
                }
            }
            staged.clear();
            file.staged = staged;
            self.files.insert(name, file);
        }
        self.close_unused();
        if self.total > self.bounds.max_total {
            self.bound_total();
        }
    }

    /// Writes as many whole lines as the file has room for, at least one; rotates first where it is full.
    fn append(&mut self, name: &str, file: &mut LogFile, lines: &[u8]) -> io::Result<usize> {
        if file.open.is_none() {
            let opened = self.open_file(name)?;
            file.size = opened.metadata()?.len();
            file.open = Some(opened);
        }
        let room = self.bounds.max_file.saturating_sub(file.size);
        let mut end = cut_at_line(lines, room);
        if end == 0 && file.size > 0 {
            file.open = None;
            rotate::shift(&self.dir, name, self.bounds.keep_files)?;
            file.size = 0;
            let opened = self.open_file(name)?;
            file.open = Some(opened);
            end = cut_at_line(lines, self.bounds.max_file);
        }
        if end == 0 {
            // A single line larger than a file may be.
            end = lines
                .iter()
                .position(|b| *b == b'\n')
                .map_or(lines.len(), |i| i + 1);
        }
        let Some(open) = &mut file.open else {
            return Err(io::Error::other("the file is not open"));
        };
        if let Err(error) = open.write_all(&lines[..end]) {
            // Half a line would spoil the file for every reader.
            drop(open.set_len(file.size));
            return Err(error);
        }
        file.size += end as u64;
        self.total += end as u64;
        Ok(end)
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE);
        let path = self.dir.join(name);
        options.open(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // Somebody removed the directory.
            DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(&self.dir)?;
            options.open(&path)
        })
    }

    fn close_unused(&mut self) {
        let now = self.batches;
        self.files
            .retain(|_, file| !file.staged.is_empty() || now - file.used < FORGET_AFTER_BATCHES);
        let mut open: Vec<u64> = self
            .files
            .values()
            .filter(|file| file.open.is_some())
            .map(|file| file.used)
            .collect();
        if open.len() <= MAX_OPEN_FILES {
            return;
        }
        open.sort_unstable();
        let mut close = open.len() - MAX_OPEN_FILES;
        let last = open[close - 1];
        for file in self.files.values_mut() {
            if close > 0 && file.open.is_some() && file.used <= last {
                file.open = None;
                close -= 1;
            }
        }
    }

    /// Counts what is there, and removes the oldest until it is within the bound.
    fn bound_total(&mut self) {
        if let Err(error) = self.try_bound_total() {
            self.failed("the directory", &error);
        }
    }

    fn try_bound_total(&mut self) -> io::Result<()> {
        // Twice: rotating the largest makes it removable.
        for _ in 0..2 {
            let found = rotate::scan(&self.dir)?;
            self.total = found.iter().map(|f| f.size).sum();
            for step in rotate::steps(&found, self.bounds.max_total) {
                match step {
                    Step::Remove(name) => match fs::remove_file(self.dir.join(name)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    },
                    Step::Rotate(base) => {
                        rotate::shift(&self.dir, &base, self.bounds.keep_files)?;
                        if let Some(file) = self.files.get_mut(&base) {
                            file.open = None;
                        }
                    }
                }
            }
        }
        let found = rotate::scan(&self.dir)?;
        self.total = found.iter().map(|f| f.size).sum();
        Ok(())
    }

    fn failed(&mut self, what: &str, error: &io::Error) {
        self.trouble = Some(error.to_string());
        if !self.said {
            self.said = true;
            // The one place left to say it; whether it can be said there is not our affair.
            drop(writeln!(
                io::stderr(),
                "deia: log lines are lost: {what} in {}: {error}",
                self.dir.display()
            ));
        }
    }

    /// Says how many lines are missing, once there is a way to say it.
    fn report(&mut self, dropped: u64) {
        self.lost += dropped;
        if self.lost == 0 {
            return;
        }
        let lost = std::mem::take(&mut self.lost);
        let why = self
            .trouble
            .take()
            .unwrap_or_else(|| "the queue was full".into());
        let line = serde_json::json!({
            "timestamp": Timestamp::now(), "level": "warning", "event": "log_lines_dropped",
            "message": "Log lines were dropped", "count": lost, "reason": deia::mask::mask(&why),
        });
        let before = self.lost;
        self.stage(Files::NAMES[0], format!("{line}\n").as_bytes());
        self.flush_all();
        if self.lost > before {
            // Not even this one: keep the count.
            self.lost += lost - 1;
        } else {
            self.said = false;
        }
    }
}

impl Sink for LogFiles {
    fn write(&mut self, batch: &Batch) {
        for line in batch.lines() {
            for name in Files(line.files).names() {
                self.stage(name, line.text);
            }
            if !line.bot.is_empty() {
                self.stage(&activity_file(line.bot), line.text);
            }
        }
        let before = self.lost;
        self.flush_all();
        // While it still fails, wait for the next batch.
        if self.lost == before || batch.dropped > 0 {
            self.report(batch.dropped);
        }
    }

    fn reopen(&mut self) {
        for file in self.files.values_mut() {
            file.open = None;
        }
        self.bound_total();
    }

    fn configure(&mut self, logging: &Logging) {
        self.bounds = Bounds::from(logging);
        self.bound_total();
    }
}

/// Where to cut `lines` so that whole ones of at most `room` bytes are before it; 0: none fits.
fn cut_at_line(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |i| i + 1)
}

fn lines_in(text: &[u8]) -> u64 {
    text.iter().filter(|b| **b == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(max_file: u64, keep_files: u32, max_total: u64) -> Bounds {
        Bounds {
            max_file,
            keep_files,
            max_total,
        }
    }

    fn sizes(dir: &Path) -> Vec<(String, u64)> {
        let mut sizes: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                (
                    e.file_name().into_string().unwrap(),
                    e.metadata().unwrap().len(),
                )
            })
            .collect();
        sizes.sort();
        sizes
    }

    fn write(files: &mut LogFiles, name: &str, lines: usize) {
        for n in 0..lines {
            files.stage(name, format!("{n:09}\n").as_bytes());
        }
        files.flush_all();
    }

    #[test]
    fn no_file_grows_past_its_bound_and_no_more_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = LogFiles::open(dir.path(), bounds(105, 2, 10_000)).unwrap();
        for _ in 0..7 {
            write(&mut files, "supervisor.jsonl", 13);
        }
        let sizes = sizes(dir.path());
        assert_eq!(
            sizes.iter().map(|s| s.0.as_str()).collect::<Vec<_>>(),
            [
                "supervisor.1.jsonl",
                "supervisor.2.jsonl",
                "supervisor.jsonl"
            ]
        );
        // 91 lines of 10 bytes: files of ten lines, the last has one.
        assert_eq!(
            sizes.iter().map(|s| s.1).collect::<Vec<_>>(),
            [100, 100, 10]
        );
        let newest = fs::read_to_string(dir.path().join("supervisor.jsonl")).unwrap();
        assert_eq!(newest, "000000012\n");
    }

    #[test]
    fn all_files_together_stay_within_the_total() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("audit.jsonl"), "x".repeat(5000)).unwrap();
        let mut files = LogFiles::open(dir.path(), bounds(200, 10, 1000)).unwrap();
        for round in 0..100 {
            write(&mut files, &format!("b{}-activity.jsonl", round % 7), 9);
            let total: u64 = sizes(dir.path())
                .iter()
                .filter(|s| s.0 != "audit.jsonl")
                .map(|s| s.1)
                .sum();
            assert!(total <= 1000, "{total} after {round}");
            assert_eq!(total, files.total);
        }
        assert_eq!(
            fs::metadata(dir.path().join("audit.jsonl")).unwrap().len(),
            5000
        );
    }

    #[test]
    fn a_failing_disk_costs_lines_that_are_counted_and_heals() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = LogFiles::open(dir.path(), bounds(1000, 2, 10_000)).unwrap();
        // A directory in the way of the file: every open fails.
        let path = dir.path().join("supervisor.jsonl");
        fs::create_dir(&path).unwrap();
        write(&mut files, "supervisor.jsonl", 3);
        files.report(0);
        assert_eq!(files.lost, 3);
        fs::remove_dir(&path).unwrap();
        write(&mut files, "supervisor.jsonl", 1);
        files.report(2);
        let text = fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&last["event"], &last["count"]),
            (&"log_lines_dropped".into(), &5.into())
        );
        assert_eq!(files.lost, 0);
    }

    #[test]
    fn reopening_follows_a_file_that_was_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = LogFiles::open(dir.path(), bounds(1000, 2, 10_000)).unwrap();
        write(&mut files, "supervisor.jsonl", 1);
        fs::rename(
            dir.path().join("supervisor.jsonl"),
            dir.path().join("moved"),
        )
        .unwrap();
        files.reopen();
        write(&mut files, "supervisor.jsonl", 2);
        assert_eq!(
            sizes(dir.path()),
            [("moved".into(), 10), ("supervisor.jsonl".into(), 20)]
        );
    }

    #[test]
    fn a_thousand_bots_do_not_hold_a_thousand_files_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = LogFiles::open(dir.path(), bounds(1000, 2, 1 << 20)).unwrap();
        for bot in 0..300 {
            write(&mut files, &format!("b{bot}-activity.jsonl"), 1);
        }
        assert!(files.files.values().filter(|f| f.open.is_some()).count() <= MAX_OPEN_FILES);
        assert_eq!(sizes(dir.path()).len(), 300);
    }
}
