//! Which files are rotated and removed, and how.
//!
//! `supervisor.jsonl` becomes `supervisor.1.jsonl`, the old `.1` becomes `.2`, and so on: the highest
//! number is the oldest. `audit.jsonl` and its kin are rotated by `trail.rs`.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The ending of every file this module looks at.
const ENDING: &str = ".jsonl";
/// Files of the audit begin so.
const AUDIT: &str = "audit";
/// How often a copy chases the writer before it gives up on the last bytes.
const MAX_CHASES: usize = 4;

/// A log file, as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name without number: `supervisor.jsonl`.
    pub(super) base: String,
    /// Its number; `None`: it is being written.
    pub(super) number: Option<u32>,
    /// Bytes.
    pub(super) size: u64,
    /// When it was last written, as the file system's time.
    pub(super) modified: std::time::SystemTime,
}

impl Found {
    /// Its whole name.
    pub(super) fn name(&self) -> String {
        match self.number {
            Some(n) => rotated_name(&self.base, n),
            None => self.base.clone(),
        }
    }
}

/// `supervisor.jsonl` and 3: `supervisor.3.jsonl`. Other endings likewise: `bot.log`, `bot.1.log`.
pub(super) fn rotated_name(base: &str, number: u32) -> String {
    match base.rsplit_once('.') {
        Some((stem, ending)) => format!("{stem}.{number}.{ending}"),
        None => format!("{base}.{number}"),
    }
}

/// The inverse: a base and its number, where the name is a rotated one's.
fn parse(name: &str) -> Option<(String, Option<u32>)> {
    let stem = name.strip_suffix(ENDING)?;
    match stem.rsplit_once('.') {
        Some((stem, digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some((format!("{stem}{ENDING}"), Some(digits.parse().ok()?)))
        }
        _ => Some((name.to_owned(), None)),
    }
}

/// Every log file of `dir` that is ours to rotate.
pub(super) fn scan(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((base, number)) = name.to_str().and_then(parse) else {
            continue;
        };
        // What vanishes meanwhile is not there.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_file() && !base.starts_with(AUDIT) {
            found.push(Found {
                base,
                number,
                size: metadata.len(),
                modified: metadata.modified().unwrap_or(std::time::UNIX_EPOCH),
            });
        }
    }
    Ok(found)
}

/// What to do about too many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Remove this rotated file.
    Remove(String),
    /// Rotate this one (nothing is left to remove), then look again.
    Rotate(String),
}

/// The steps that bring `files` to at most `max_total` bytes: the oldest rotated go first.
pub(super) fn steps(files: &[Found], max_total: u64) -> Vec<Step> {
    let mut excess = files
        .iter()
        .map(|f| f.size)
        .sum::<u64>()
        .saturating_sub(max_total);
    if excess == 0 {
        return Vec::new();
    }
    let mut rotated: Vec<_> = files.iter().filter(|f| f.number.is_some()).collect();
    rotated.sort_by(|a, b| {
        (a.modified, &a.base)
            .cmp(&(b.modified, &b.base))
            .then(b.number.cmp(&a.number))
    });
    let mut steps = Vec::new();
    for file in rotated {
        if excess == 0 {
            return steps;
        }
        excess = excess.saturating_sub(file.size);
        steps.push(Step::Remove(file.name()));
    }
    let largest = files
        .iter()
        .filter(|f| f.number.is_none())
        .max_by_key(|f| f.size);
    if excess > 0
        && let Some(largest) = largest.filter(|f| f.size > 0)
    {
        steps.push(Step::Rotate(largest.base.clone()));
    }
    steps
}

/// Makes room for a new `base`: numbers go up by one, those past `keep` are removed. Renames never
/// overwrite a file that is kept: they begin at the oldest.
pub(super) fn shift(dir: &Path, base: &str, keep: u32) -> io::Result<()> {
    let mut numbers: Vec<u32> = scan(dir)?
        .into_iter()
        .filter(|f| f.base == base)
        .filter_map(|f| f.number)
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    for number in numbers {
        let from = dir.join(rotated_name(base, number));
        if number >= keep {
            fs::remove_file(from)?;
        } else {
            fs::rename(from, dir.join(rotated_name(base, number + 1)))?;
        }
    }
    let current = dir.join(base);
    if keep == 0 {
        fs::remove_file(current)
    } else {
        fs::rename(current, dir.join(rotated_name(base, 1)))
    }
}

/// What [`rotate_held`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is small enough, or not there.
    Kept,
    /// It was copied aside and emptied.
    Rotated,
    /// There was no room for the copy: its text is lost, the bound holds.
    Emptied,
}

/// Rotates `.deia/bot-output/<bot>.log` once it has more than `max_bytes`, keeping `keep` old ones
/// (`<bot>.1.log` is the newest).
///
/// Another process has the file open **for appending** and can't be told to open another: a rename
/// would take its descriptor along. So the text is copied and the file emptied in place; the next
/// append lands at its new end. What is written between the copy's last look and the truncation (a few
/// microseconds) is lost; the alternative, a pipe through the daemon, would tie the bot's life to ours.
///
/// # Errors
/// The file can't be read or emptied.
pub fn rotate_held(path: &Path, max_bytes: u64, keep: u32) -> io::Result<Held> {
    let mut held = match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::Kept),
        Err(error) => return Err(error),
    };
    if held.metadata()?.len() <= max_bytes {
        return Ok(Held::Kept);
    }
    let copied = keep > 0 && copy_aside(&mut held, path, keep).is_ok();
    held.set_len(0)?;
    Ok(if copied || keep == 0 {
        Held::Rotated
    } else {
        Held::Emptied
    })
}

fn copy_aside(held: &mut fs::File, path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |n: u32| -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(rotated_name(&name, n))
    };
    let aside = numbered(0);
    let copied = (|| {
        let mut copy = fs::File::create(&aside)?;
        let mut done = 0;
        for _ in 0..MAX_CHASES {
            let size = held.metadata()?.len();
            if size <= done {
                break;
            }
            held.seek(SeekFrom::Start(done))?;
            done += io::copy(&mut Read::take(&mut *held, size - done), &mut copy)?;
        }
        for n in (1..keep).rev() {
            match fs::rename(numbered(n), numbered(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&aside, numbered(1))
    })();
    if copied.is_err() {
        drop(fs::remove_file(&aside));
    }
    copied
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn numbers_go_up_and_the_oldest_leaves() {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..=4 {
            fs::write(dir.path().join("a.jsonl"), format!("{round}")).unwrap();
            fs::write(dir.path().join("audit.jsonl"), "x").unwrap();
            shift(dir.path(), "a.jsonl", 2).unwrap();
        }
        assert_eq!(names(dir.path()), ["a.1.jsonl", "a.2.jsonl", "audit.jsonl"]);
        assert_eq!(
            fs::read_to_string(dir.path().join("a.1.jsonl")).unwrap(),
            "4"
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("a.2.jsonl")).unwrap(),
            "3"
        );
        shift(dir.path(), "a.jsonl", 2).unwrap_err();
        fs::write(dir.path().join("a.jsonl"), "5").unwrap();
        shift(dir.path(), "a.jsonl", 0).unwrap();
        assert_eq!(names(dir.path()), ["audit.jsonl"]);
    }

    #[test]
    fn names_and_numbers_are_each_others_inverse() {
        assert_eq!(parse("a.jsonl"), Some(("a.jsonl".into(), None)));
        assert_eq!(
            parse(&rotated_name("a-activity.jsonl", 12)),
            Some(("a-activity.jsonl".into(), Some(12)))
        );
        assert_eq!(parse("a.log"), None);
    }

    proptest! {
        /// Removing what the steps say brings the total under the bound, or every rotated file is gone.
        #[test]
        fn the_bound_holds_and_the_oldest_go_first(
            sizes in prop::collection::vec((0_u64..100, prop::option::of(1_u32..9), 0_u64..50), 0..20), max in 0_u64..500,
        ) {
            let files: Vec<_> = sizes.iter().enumerate().map(|(i, (size, number, age))| Found {
                base: format!("f{i}.jsonl"), number: *number, size: *size, modified: UNIX_EPOCH + Duration::from_secs(*age),
            }).collect();
            let removed: Vec<_> = steps(&files, max).into_iter().filter_map(|s| match s { Step::Remove(n) => Some(n), Step::Rotate(_) => None }).collect();
            let left: u64 = files.iter().filter(|f| !removed.contains(&f.name())).map(|f| f.size).sum();
            let rotated = files.iter().filter(|f| f.number.is_some()).count();
            prop_assert!(left <= max || removed.len() == rotated);
            let newest_removed = files.iter().filter(|f| removed.contains(&f.name())).map(|f| f.modified).max();
            let oldest_kept = files.iter().filter(|f| f.number.is_some() && !removed.contains(&f.name())).map(|f| f.modified).min();
            if let (Some(removed), Some(kept)) = (newest_removed, oldest_kept) { prop_assert!(removed <= kept); }
        }
    }

    #[test]
    fn a_held_file_is_emptied_in_place_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bot.log");
        assert_eq!(rotate_held(&path, 10, 2).unwrap(), Held::Kept);
        let mut writer = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        for round in 0..4 {
            write!(writer, "round {round} is more than ten bytes").unwrap();
            assert_eq!(rotate_held(&path, 10, 2).unwrap(), Held::Rotated);
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        }
        write!(writer, "short").unwrap();
        assert_eq!(rotate_held(&path, 10, 2).unwrap(), Held::Kept);
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
        assert_eq!(names(dir.path()), ["bot.1.log", "bot.2.log", "bot.log"]);
        assert!(
            fs::read_to_string(dir.path().join("bot.1.log"))
                .unwrap()
                .starts_with("round 3")
        );
        assert!(
            fs::read_to_string(dir.path().join("bot.2.log"))
                .unwrap()
                .starts_with("round 2")
        );
    }
}
