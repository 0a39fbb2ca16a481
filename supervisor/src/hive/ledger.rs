//! Which contents were taken, and which answers are owed. A file of its own beside the folders.
//!
//! ```text
//!   meant --submitted--> taken --the answer is on disk--> answered
//!     '--refused for good--> (nothing)
//! ```
//!
//! The store takes a content once for as long as it keeps the task; this says so for longer. `meant` is on
//! disk before the submission: whatever a killed daemon had in hand is looked up in the store by the next
//! one, also when the file has gone by then. `taken` follows the store's commit. What is lost between the two
//! is made good by the store, which answers a second submission of the same content with the same task.
//!
//! One JSON object a line, only ever appended to, and written anew when it has become much longer than
//! what it says.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use deia::task::TaskId;
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable;

/// Contents that are remembered. Beyond, the oldest go whose files have gone.
pub const MAX_NOTES: usize = 50_000;

/// Bytes of the file that are read at most: far more than [`MAX_NOTES`] take.
const MAX_BYTES: u64 = 256 << 20;

/// Lines beyond what is needed, before the file is written anew.
const MAX_SPARE_LINES: usize = 1_000;

/// Where a task came from, as far as its answer needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The folder.
    pub folder: String,
    /// The file.
    pub file: String,
    /// The file's own name for the task.
    pub task_id: String,
    /// Who wants the answer.
    pub from: String,
}

/// How far a content has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// It is about to be submitted, or was when the daemon was killed.
    Meant(Box<Origin>),
    /// The store has had it; its answer is owed.
    Taken(Box<Origin>),
    /// Nothing more is to be done.
    Answered,
}

#[derive(Debug)]
struct Note {
    /// Which came first.
    turn: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Meant,
    Taken,
    Answered,
    Void,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    act: Act,
    id: TaskId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Box<Origin>>,
}

/// See the module. Blocks.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    notes: HashMap<TaskId, Note>,
    turns: u64,
    lines: usize,
    /// The file does not say all that is known, or ends in the middle of a line.
    stale: bool,
}

impl Ledger {
    /// Reads what an earlier daemon left. Lines that can't be read are kept in a copy and left out.
    ///
    /// # Errors
    /// Where the file can't be read or written: then it is not known what was taken, and nothing may be.
    pub fn open(path: &Path) -> io::Result<Self> {
        let bytes = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
            }
            Ok(_) => fs::read(path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        let (mut ledger, damaged) = Self::read(path, append_to(path)?, &bytes);
        if damaged > 0 {
            let copy = path.with_extension(format!("damaged-{}", Timestamp::now().as_micros()));
            fs::copy(path, &copy)?;
            tracing::warn!(event = "hive_ledger_damaged", lines = damaged, copy = %copy.display(), "lines of the list of taken task files can't be read and are left out; a copy is kept");
            ledger.stale = true;
        }
        // Which files are still there is not known yet: nothing is forgotten.
        ledger.shorten();
        // What is appended is nothing without the file's name.
        durable::sync_directory_of(path)?;
        Ok(ledger)
    }

    /// What the lines say that stand in `bytes`, and how many of them can't be read.
    pub(super) fn read(path: &Path, file: File, bytes: &[u8]) -> (Self, usize) {
        let mut ledger = Self {
            path: path.to_owned(),
            file,
            notes: HashMap::new(),
            turns: 0,
            lines: 0,
            stale: bytes.last().is_some_and(|last| *last != b'\n'),
        };
        let whole = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
        let mut damaged = 0;
        // What stands behind the last line's end was not acknowledged to anybody.
        for line in bytes
            .get(..whole)
            .unwrap_or_default()
            .split(|b| *b == b'\n')
        {
            ledger.lines += 1;
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => ledger.apply(line),
                Err(_) if line.is_empty() => {}
                Err(_) => damaged += 1,
            }
        }
        (ledger, damaged)
    }

    /// Whether the content was taken.
    pub fn knows(&self, id: &TaskId) -> bool {
        let stage = self.notes.get(id).map(|note| &note.stage);
        matches!(stage, Some(Stage::Taken(_) | Stage::Answered))
    }

    /// Where a task came from whose answer may be owed, and whether the store is known to have had it.
    pub fn owed(&self, id: &TaskId) -> Option<(&Origin, bool)> {
        match &self.notes.get(id)?.stage {
            Stage::Meant(origin) => Some((origin, false)),
            Stage::Taken(origin) => Some((origin, true)),
            Stage::Answered => None,
        }
    }

    /// Every task whose answer may be owed, the oldest first.
    pub fn all_owed(&self) -> Vec<TaskId> {
        let owed = self.notes.iter();
        let mut owed: Vec<_> = owed
            .filter(|(_, note)| note.stage != Stage::Answered)
            .map(|(id, note)| (note.turn, id.clone()))
            .collect();
        owed.sort_unstable_by_key(|(turn, _)| *turn);
        owed.into_iter().map(|(_, id)| id).collect()
    }

    /// These are about to be submitted.
    ///
    /// # Errors
    /// When that is not on disk: then they must not be.
    pub fn mean(&mut self, these: Vec<(TaskId, Origin)>) -> io::Result<()> {
        let lines = these.into_iter().map(|(id, origin)| Line {
            act: Act::Meant,
            id,
            origin: Some(Box::new(origin)),
        });
        let lines: Vec<Line> = lines.collect();
        self.append(&lines)?;
        for line in lines {
            self.apply(line);
        }
        Ok(())
    }

    /// The store has these.
    pub fn taken(&mut self, ids: &[TaskId]) {
        self.note(Act::Taken, ids);
    }

    /// The answer is on disk, or there will be none.
    pub fn answered(&mut self, id: &TaskId) {
        self.note(Act::Answered, std::slice::from_ref(id));
    }

    /// These were not submitted after all.
    pub fn void(&mut self, ids: &[TaskId]) {
        self.note(Act::Void, ids);
    }

    /// It is so, whether it can be written now or later.
    fn note(&mut self, act: Act, ids: &[TaskId]) {
        let lines: Vec<Line> = ids
            .iter()
            .map(|id| Line {
                act,
                id: id.clone(),
                origin: None,
            })
            .collect();
        if lines.is_empty() {
            return;
        }
        if let Err(e) = self.append(&lines) {
            tracing::warn!(event = "hive_ledger_not_written", error = %e, "the list of taken task files could not be written; trying again");
        }
        for line in lines {
            self.apply(line);
        }
    }

    /// Keeps it short: drops the oldest that are `answered` beyond [`MAX_NOTES`], but none that is `seen`. While it is not
    /// known what every file is, nothing is dropped before there are far too many.
    pub fn tend(&mut self, seen: &HashSet<TaskId>, all_are_known: bool) {
        let most = match all_are_known {
            true => MAX_NOTES,
            false => MAX_NOTES * 4,
        };
        if self.notes.len() > most {
            let beyond = self.notes.len() - MAX_NOTES;
            let gone = self.notes.iter();
            let mut gone: Vec<_> = gone
                .filter(|(id, note)| note.stage == Stage::Answered && !seen.contains(*id))
                .map(|(id, note)| (note.turn, id.clone()))
                .collect();
            gone.sort_unstable_by_key(|(turn, _)| *turn);
            for (_, id) in gone.into_iter().take(beyond) {
                self.notes.remove(&id);
            }
        }
        self.shorten();
    }

    /// Writes the file anew where much of it is not needed.
    fn shorten(&mut self) {
        let spare = self.lines.saturating_sub(self.notes.len() * 2);
        if (self.stale || spare > MAX_SPARE_LINES)
            && let Err(e) = self.rewrite()
        {
            tracing::warn!(event = "hive_ledger_not_written", error = %e, "the list of taken task files could not be written; trying again");
        }
    }

    fn apply(&mut self, line: Line) {
        let Line { act, id, origin } = line;
        let stage = self.notes.get(&id).map(|note| note.stage.clone());
        let origin = origin.unwrap_or_default();
        let next = match (act, stage) {
            (Act::Meant, None | Some(Stage::Meant(_))) => Stage::Meant(origin),
            (Act::Taken, Some(Stage::Meant(origin))) => Stage::Taken(origin),
            (Act::Taken, None) => Stage::Taken(origin),
            (Act::Answered, _) => Stage::Answered,
            (Act::Void, Some(Stage::Meant(_))) => {
                self.notes.remove(&id);
                return;
            }
            (Act::Meant | Act::Taken | Act::Void, _) => return,
        };
        let turn = self.turns;
        let note = self.notes.entry(id).or_insert(Note {
            turn,
            stage: Stage::Answered,
        });
        if note.turn == turn {
            self.turns += 1;
        }
        note.stage = next;
    }

    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        if self.stale {
            self.rewrite()?;
        }
        let written = to_bytes(lines.iter()).and_then(|bytes| {
            self.file.write_all(&bytes)?;
            deia::failpoint!("hive.noted.written");
            self.file.sync_data()?;
            deia::failpoint!("hive.noted.synced");
            Ok(())
        });
        self.stale = written.is_err();
        self.lines += lines.len();
        written
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut notes: Vec<_> = self.notes.iter().collect();
        notes.sort_unstable_by_key(|(_, note)| note.turn);
        let mut lines = Vec::with_capacity(notes.len());
        for (id, note) in notes {
            let mut line = |act, origin| {
                let id = id.clone();
                lines.push(Line { act, id, origin });
            };
            match &note.stage {
                Stage::Meant(origin) => line(Act::Meant, Some(origin.clone())),
                Stage::Taken(origin) => line(Act::Taken, Some(origin.clone())),
                Stage::Answered => line(Act::Answered, None),
            }
        }
        durable::write(&self.path, &to_bytes(lines.iter())?)?;
        self.file = append_to(&self.path)?;
        self.lines = lines.len();
        self.stale = false;
        Ok(())
    }
}

fn to_bytes<'a>(lines: impl Iterator<Item = &'a Line>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> TaskId {
        format!("file-{n}").parse().unwrap()
    }

    fn origin(n: usize) -> Origin {
        Origin {
            file: format!("{n}.md"),
            ..Origin::default()
        }
    }

    fn open(home: &tempfile::TempDir) -> Ledger {
        Ledger::open(&home.path().join("ledger.jsonl")).unwrap()
    }

    #[test]
    fn what_was_noted_is_there_again() {
        let home = tempfile::tempdir().unwrap();
        let mut ledger = open(&home);
        ledger
            .mean((0..4).map(|n| (id(n), origin(n))).collect())
            .unwrap();
        ledger.taken(&[id(1), id(2)]);
        ledger.answered(&id(2));
        ledger.void(&[id(3)]);
        for ledger in [ledger, open(&home)] {
            let known: Vec<bool> = (0..4).map(|n| ledger.knows(&id(n))).collect();
            assert_eq!(known, [false, true, true, false]);
            assert_eq!(ledger.all_owed(), [id(0), id(1)]);
            assert_eq!(ledger.owed(&id(1)), Some((&origin(1), true)));
            assert_eq!(ledger.owed(&id(0)), Some((&origin(0), false)));
            assert_eq!(ledger.owed(&id(2)), None);
        }
    }

    #[test]
    fn a_torn_line_is_as_if_it_had_not_been_written_and_the_next_one_is_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.jsonl");
        let mut ledger = open(&home);
        ledger
            .mean(vec![(id(0), origin(0)), (id(1), origin(1))])
            .unwrap();
        ledger.taken(&[id(0)]);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut ledger = open(&home);
            ledger.mean(vec![(id(7), origin(7))]).unwrap();
            let ledger = open(&home);
            assert!(ledger.owed(&id(7)).is_some(), "cut at {cut}");
            assert!(ledger.knows(&id(0)) <= (cut == whole.len()));
        }
    }

    #[test]
    fn what_can_t_be_read_is_kept_in_a_copy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ledger.jsonl");
        let mut ledger = open(&home);
        ledger.mean(vec![(id(0), origin(0))]).unwrap();
        ledger.taken(&[id(0)]);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"nonsense\n");
        fs::write(&path, &bytes).unwrap();
        let ledger = open(&home);
        assert!(ledger.knows(&id(0)));
        let copies = fs::read_dir(home.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().contains("damaged")
        });
        assert_eq!(copies.count(), 1);
        // Once: the file is clean again.
        assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("nonsense"));
    }

    #[test]
    fn it_does_not_grow_for_ever_and_keeps_what_is_still_there() {
        let home = tempfile::tempdir().unwrap();
        let mut ledger = open(&home);
        let answered = |ledger: &mut Ledger, n| {
            let line = Line {
                act: Act::Answered,
                id: id(n),
                origin: None,
            };
            ledger.apply(line);
        };
        for n in 0..MAX_NOTES + 10 {
            answered(&mut ledger, n);
        }
        let seen = HashSet::from([id(0), id(3)]);
        ledger.tend(&HashSet::new(), false);
        assert!(ledger.knows(&id(0)), "its file may not have been read yet");
        ledger.tend(&seen, true);
        assert_eq!(ledger.notes.len(), MAX_NOTES);
        assert!(ledger.knows(&id(0)) && ledger.knows(&id(3)));
        assert!(!ledger.knows(&id(1)) && !ledger.knows(&id(11)));
        assert!(ledger.knows(&id(12)));
        // Written anew when there is more to skip than to read.
        ledger.lines = MAX_NOTES * 4;
        ledger.tend(&seen, true);
        assert_eq!(ledger.lines, MAX_NOTES);
        assert!(open(&home).knows(&id(MAX_NOTES + 9)));
    }

    /// Shown to fail where a start drops what is beyond the bound: no file was looked at by then.
    #[test]
    fn a_start_forgets_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut ledger = open(&home);
        let ids: Vec<_> = (0..MAX_NOTES + 10).map(id).collect();
        ledger.note(Act::Answered, &ids);
        assert!(open(&home).knows(&id(0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Memory and disk say the same after anything, and what was taken is never forgotten.
        #[test]
        fn the_file_says_what_is_known(acts in prop::collection::vec((0u8..5, 0usize..5), 0..40)) {
            let home = tempfile::tempdir().unwrap();
            let mut ledger = open(&home);
            let mut taken = HashSet::new();
            for (act, n) in acts {
                match act {
                    0 => ledger.mean(vec![(id(n), origin(n))]).unwrap(),
                    1 => { ledger.taken(&[id(n)]); taken.insert(n); }
                    2 => { ledger.answered(&id(n)); taken.insert(n); }
                    3 => ledger.void(&[id(n)]),
                    _ => ledger.rewrite().unwrap(),
                }
            }
            let again = open(&home);
            for n in 0..5 {
                prop_assert_eq!(ledger.knows(&id(n)), taken.contains(&n));
                prop_assert_eq!(again.knows(&id(n)), taken.contains(&n));
                prop_assert_eq!(ledger.owed(&id(n)), again.owed(&id(n)));
            }
            prop_assert_eq!(ledger.all_owed(), again.all_owed());
        }
    }
}
