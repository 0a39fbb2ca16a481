//! Which files are due, and in which order. Pure: the clock is an argument.
//!
//! ```text
//!   listed --same for 1 s--> read --complete--> taken, never again while it stays as it is
//!     ^                        |  '--not complete--> read once more when it has been the same for 5 s
//!     '------ it changed ------'  '--refused for now--> again in 5 s
//! ```

use std::collections::BTreeMap;

use deia::task::TaskId;

use crate::brain::Millis;

/// A file that has been the same for this long is complete: nobody who writes pauses longer.
pub const SETTLE: Millis = 1_000;

/// A file that can't be complete yet is waited for this long.
pub const PATIENCE: Millis = 5_000;

/// Before a file is offered again that was not taken for now.
pub const AGAIN: Millis = 5_000;

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which file it is, whatever its name.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970 of the last change of its content.
    pub modified: i128,
    /// ... and of anything about it: also when it was renamed into place, or its mode changed.
    pub changed: i128,
}

/// A file that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As it was when it was listed.
    pub stamp: Stamp,
    /// Since when it is so.
    pub since: Millis,
    /// Where it stands.
    pub state: State,
}

/// Where a file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not read yet.
    New,
    /// Read, and not complete.
    Incomplete,
    /// Not taken for now; until then.
    Refused(Millis),
    /// This task.
    Done(TaskId),
    /// Nothing that can be read or moved; it was said.
    Left,
    /// No regular file; it was said.
    NoFile,
}

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing while it stays as it is.
    Nothing,
    /// Nothing until then.
    Wait(Millis),
    /// Read it.
    Read {
        /// What is not complete now is waited for no longer.
        last: bool,
    },
}

impl Seen {
    /// What is to be done with it now.
    pub fn step(&self, now: Millis) -> Step {
        let last_at = self.since.saturating_add(PATIENCE);
        let at = match &self.state {
            State::New => self.since.saturating_add(SETTLE),
            State::Incomplete => last_at,
            State::Refused(until) => *until,
            State::Done(_) | State::Left | State::NoFile => return Step::Nothing,
        };
        if now < at {
            Step::Wait(at)
        } else {
            Step::Read {
                last: now >= last_at,
            }
        }
    }
}

/// A folder's files, by name.
#[derive(Debug, Default)]
pub struct Folder(BTreeMap<String, Seen>);

impl Folder {
    /// What is in the folder now. A file that is as it was keeps its state.
    pub fn note(&mut self, listed: impl IntoIterator<Item = (String, Stamp)>, now: Millis) {
        let mut before = std::mem::take(&mut self.0);
        for (name, stamp) in listed {
            let seen = match before.remove(&name) {
                Some(seen) if seen.stamp == stamp => seen,
                _ => Seen {
                    stamp,
                    since: now,
                    state: State::New,
                },
            };
            self.0.insert(name, seen);
        }
    }

    /// The file now stands so, if it is still the one it was.
    pub fn set(&mut self, name: &str, stamp: Stamp, state: State) {
        if let Some(seen) = self.0.get_mut(name).filter(|seen| seen.stamp == stamp) {
            seen.state = state;
        }
    }

    /// Where the file of this name stands.
    pub fn state(&self, name: &str) -> Option<&State> {
        self.0.get(name).map(|seen| &seen.state)
    }

    /// Its files, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Seen)> {
        self.0.iter().map(|(name, seen)| (name.as_str(), seen))
    }
}

/// A file that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// In which folder.
    pub folder: String,
    /// Its name.
    pub name: String,
    /// As it was read.
    pub stamp: Stamp,
    /// The digit of its priority, see [`super::parse::Urgency`].
    pub rank: u8,
    /// The task it is.
    pub id: TaskId,
}

impl Due {
    /// `folder/name`.
    pub fn place(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }
}

/// The most urgent first, then the oldest.
pub fn order(due: &mut [Due]) {
    due.sort_by(|a, b| {
        let key = |due: &Due| (due.rank, due.stamp.modified);
        let by_name = || (&a.folder, &a.name).cmp(&(&b.folder, &b.name));
        key(a).cmp(&key(b)).then_with(by_name)
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp {
            inode: 1,
            size,
            modified: 10,
            changed: 10,
        }
    }

    fn step(folder: &Folder, now: Millis) -> Step {
        folder.files().next().unwrap().1.step(now)
    }

    #[test]
    fn a_file_that_grows_is_not_read() {
        let mut folder = Folder::default();
        for (n, size) in (1..20).enumerate() {
            let now = n as Millis * 900;
            folder.note([("a.md".to_owned(), stamp(size))], now);
            assert_eq!(step(&folder, now), Step::Wait(now + SETTLE));
        }
        let last = 18 * 900;
        folder.note([("a.md".to_owned(), stamp(19))], last + 999);
        assert_eq!(step(&folder, last + 999), Step::Wait(last + SETTLE));
        assert_eq!(step(&folder, last + 1000), Step::Read { last: false });
    }

    #[test]
    fn what_is_not_complete_is_read_once_more_at_the_end_of_the_patience() {
        let mut folder = Folder::default();
        folder.note([("a.md".to_owned(), stamp(1))], 0);
        folder.set("a.md", stamp(1), State::Incomplete);
        assert_eq!(step(&folder, 1_500), Step::Wait(PATIENCE));
        assert_eq!(step(&folder, PATIENCE), Step::Read { last: true });
        // It went on: from the start.
        folder.note([("a.md".to_owned(), stamp(2))], 4_000);
        assert_eq!(step(&folder, PATIENCE), Step::Read { last: false });
    }

    #[test]
    fn what_is_done_is_done_while_it_stays_as_it_is() {
        let mut folder = Folder::default();
        folder.note([("a.md".to_owned(), stamp(1))], 0);
        let done = State::Done("t".parse().unwrap());
        folder.set("a.md", stamp(2), done.clone());
        assert_eq!(step(&folder, 9_000), Step::Read { last: true });
        folder.set("a.md", stamp(1), done);
        folder.note([("a.md".to_owned(), stamp(1))], 10_000);
        assert_eq!(step(&folder, 10_000), Step::Nothing);
        folder.note([("a.md".to_owned(), stamp(2))], 11_000);
        assert_eq!(step(&folder, 11_000), Step::Wait(12_000));
        folder.note([], 12_000);
        assert_eq!(folder.files().count(), 0);
    }

    fn due(rank: u8, modified: i128, name: &str) -> Due {
        Due {
            folder: "f".into(),
            name: name.into(),
            stamp: Stamp {
                modified,
                ..stamp(1)
            },
            rank,
            id: "t".parse().unwrap(),
        }
    }

    #[test]
    fn urgency_before_age() {
        let mut files = [
            due(99, 1, "a"),
            due(1, 1, "b"),
            due(0, 9, "c"),
            due(1, 0, "d"),
            due(1, 1, "aa"),
        ];
        order(&mut files);
        let names = files.iter().map(|due| due.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["c", "d", "aa", "b", "a"]);
    }

    proptest! {
        /// Whatever happens to a file and whenever it is looked at: it is read only after it has been the
        /// same for a second, and read at all once it has.
        #[test]
        fn only_what_has_settled_is_read(steps in prop::collection::vec((0u64..1_500, 1u64..3), 1..40)) {
            let mut folder = Folder::default();
            let (mut now, mut last_change, mut size) = (0, 0, 0);
            for (wait, new_size) in steps {
                now += wait;
                if new_size != size {
                    size = new_size;
                    last_change = now;
                }
                folder.note([("a.md".to_owned(), stamp(size))], now);
                let read = matches!(step(&folder, now), Step::Read { .. });
                prop_assert_eq!(read, now >= last_change + SETTLE);
            }
        }
    }
}
