//! The folders and what is known of them. Blocks; decides nothing that [`super::due`], [`super::parse`] and
//! [`super::name`] do not decide.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use deia::config::{Config, MAX_CONTENT_BYTES};
use deia::task::TaskId;

use super::due::{AGAIN, Due, Folder, SETTLE, State, Step, order};
use super::folder::{self, Kind, Reading};
use super::ledger::{Ledger, Origin};
use super::name::{self, target};
use super::parse::{NoTask, parse};
use super::respond::Response;
use super::watch::Watcher;
use crate::brain::Millis;
use crate::daemon::validation::Validation;

/// Folders that are looked at.
const MAX_FOLDERS: usize = 1_000;

/// Files that are looked at, over all folders. Those that are done count, too: nobody else removes them.
const MAX_FILES: usize = 20_000;

/// Files that are read in one look.
const MAX_READS: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Desk {
    pub(super) hive: PathBuf,
    watcher: Watcher,
    pub(super) validation: Validation,
    folders: BTreeMap<String, Folder>,
    pub(super) ledger: Option<Ledger>,
    /// What is wrong and was said; once each.
    said: HashSet<&'static str>,
    /// Folders that are none, which was said, too.
    odd: HashSet<String>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Look {
    /// Files to take, in order.
    pub due: VecDeque<Due>,
    /// When the next look has something to do.
    pub wake: Option<Millis>,
    /// Something may happen without a notice.
    pub blind: bool,
}

impl Look {
    fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// What came of a submission.
#[derive(Debug)]
pub enum Fate {
    /// The store has it.
    Taken,
    /// It never will; why, and what to do.
    Bad(String),
    /// Not now.
    Later,
}

/// What came of writing an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It is done.
    Yes,
    /// It has to be tried again.
    NotYet,
}

impl Desk {
    /// Nothing is looked at yet.
    pub fn new(hive: &Path, watcher: Watcher, validation: Validation) -> Self {
        Self {
            hive: hive.to_owned(),
            watcher,
            validation,
            folders: BTreeMap::new(),
            ledger: None,
            said: HashSet::new(),
            odd: HashSet::new(),
        }
    }

    /// The tasks whose answers may be owed; `None` when that can't be known now.
    pub fn take_stock(&mut self) -> Option<Vec<TaskId>> {
        match Ledger::open(&self.hive.join("ledger.jsonl")) {
            Ok(ledger) => {
                let owed = ledger.all_owed();
                self.ledger = Some(ledger);
                self.said.remove("ledger");
                Some(owed)
            }
            Err(e) => {
                if self.said.insert("ledger") {
                    tracing::error!(event = "hive_ledger_unreadable", error = %e, "the list of taken task files (.deia/hive/ledger.jsonl) can't be read: none is taken, so that none runs twice; mend it or move it away");
                }
                None
            }
        }
    }

    /// Looks through the folders: what can't be a task is set aside, what can is told.
    pub fn look(&mut self, config: &Config, now: Millis) -> Look {
        let mut look = Look::default();
        // Without the ledger it is not known what was taken.
        if self.ledger.is_none() {
            return look;
        }
        if let Err(e) = self.look_through(config, now, &mut look) {
            if self.said.insert("look") {
                tracing::warn!(event = "hive_unreadable", error = %e, "the folders of task files can't be looked at; trying again");
            }
        } else {
            self.said.remove("look");
        }
        look.blind = self.watcher.is_blind();
        order(look.due.make_contiguous());
        look
    }

    fn look_through(&mut self, config: &Config, now: Millis, look: &mut Look) -> io::Result<()> {
        let (tasks, controls) = (self.tasks(), self.hive.join("controls"));
        // Somebody may have removed them.
        for folder in [&self.hive, &tasks, &controls] {
            folder::make(folder)?;
        }
        for pool in &config.bots {
            // A pool can do without one.
            if let Err(e) = folder::make(&tasks.join(&pool.name))
                && self.said.insert("make")
            {
                tracing::warn!(event = "hive_folder_not_made", folder = pool.name, error = %e, "a pool's folder of task files could not be made");
            }
        }
        self.watcher.begin();
        self.watcher.watch(&tasks);
        self.watcher.watch(&controls);
        let root = folder::open(&tasks)?;
        let (mut names, more) = folder::names(&root, MAX_FOLDERS, |name| !name.starts_with('.'))?;
        names.sort_unstable();
        let pauses = |name: &str| name::paused_by(name).is_some();
        let (pauses, _) = folder::names(&folder::open(&controls)?, MAX_FOLDERS, pauses)?;
        let paused: HashSet<&str> = pauses.iter().filter_map(|n| name::paused_by(n)).collect();
        self.folders.retain(|folder, _| names.contains(folder));
        self.odd.retain(|folder| names.contains(folder));
        let (mut room, mut reads) = (MAX_FILES, MAX_READS);
        let mut all_are_known = !more;
        for folder in &names {
            let opened = match folder::open_in(&root, folder) {
                Ok(opened) => opened,
                Err(e) => {
                    all_are_known = false;
                    if self.odd.insert(folder.clone()) {
                        tracing::warn!(event = "hive_folder_ignored", folder, error = %e, "it is no folder that can be read; links are not followed");
                    }
                    continue;
                }
            };
            self.watcher.watch(&tasks.join(folder));
            let (files, more) = folder::names(&opened, room, name::is_task_file)?;
            room -= files.len();
            all_are_known &= !more;
            if more && self.said.insert("files") {
                tracing::warn!(
                    event = "task_files_too_many",
                    most = MAX_FILES,
                    "there are more task files than are looked at: remove those that are answered"
                );
            }
            all_are_known &= self.list(folder, &opened, files, now);
            if !paused.contains(folder.as_str()) {
                self.read_due(folder, &opened, config, now, &mut reads, look);
            }
        }
        let mut done = HashSet::new();
        for (_, seen) in self.folders.values().flat_map(Folder::files) {
            match &seen.state {
                State::Done(id) => drop(done.insert(id.clone())),
                State::NoFile => {}
                State::New | State::Incomplete | State::Refused(_) | State::Left => {
                    all_are_known = false;
                }
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.tend(&done, all_are_known);
        }
        Ok(())
    }

    /// Notes what is in a folder; whether all of it could be looked at.
    fn list(&mut self, folder: &str, opened: &OwnedFd, files: Vec<String>, now: Millis) -> bool {
        let mut others = Vec::new();
        let mut all = true;
        let listed = files.into_iter().filter_map(|name| {
            let looked = folder::look(opened, &name);
            all &= looked.is_ok();
            let (stamp, kind) = looked.ok().flatten()?;
            if kind == Kind::Other {
                others.push((name.clone(), stamp));
            }
            Some((name, stamp))
        });
        let listed: Vec<_> = listed.collect();
        let known = self.folders.entry(folder.to_owned()).or_default();
        known.note(listed, now);
        for (name, stamp) in others {
            if known.state(&name) == Some(&State::New) {
                tracing::warn!(
                    event = "task_file_ignored",
                    folder,
                    file = name,
                    "it is no regular file; links are not followed"
                );
            }
            known.set(&name, stamp, State::NoFile);
        }
        all
    }

    /// Reads those of a folder that are due, the oldest first.
    fn read_due(
        &mut self,
        folder: &str,
        opened: &OwnedFd,
        config: &Config,
        now: Millis,
        reads: &mut usize,
        look: &mut Look,
    ) {
        let mut due = Vec::new();
        for (name, seen) in self.folders.get(folder).iter().flat_map(|f| f.files()) {
            match seen.step(now) {
                Step::Nothing => {}
                Step::Wait(at) => look.wake_at(at),
                Step::Read { last } => due.push((seen.stamp, name.to_owned(), last)),
            }
        }
        due.sort_by_key(|(stamp, ..)| stamp.modified);
        for (stamp, name, last) in due {
            if *reads == 0 {
                look.wake_at(now);
                return;
            }
            *reads -= 1;
            let place = Place {
                folder,
                opened,
                name: &name,
                stamp,
            };
            let judged = self.judge(&place, config, last);
            let state = match judged {
                Judged::Due(rank, id) => {
                    look.due.push_back(Due {
                        folder: folder.to_owned(),
                        name,
                        stamp,
                        rank,
                        id,
                    });
                    continue;
                }
                Judged::Done(id) => State::Done(id),
                Judged::Incomplete => {
                    look.wake_at(now + SETTLE);
                    State::Incomplete
                }
                Judged::Changed => {
                    look.wake_at(now + SETTLE);
                    continue;
                }
                Judged::Bad(why) => match self.set_aside(&place, &why) {
                    true => continue,
                    false => State::Left,
                },
                Judged::Unreadable(e) => {
                    tracing::warn!(event = "task_file_ignored", folder, file = name, error = %e, "it can't be read: let the daemon's user read it");
                    State::Left
                }
            };
            if let Some(known) = self.folders.get_mut(folder) {
                known.set(&name, stamp, state);
            }
        }
    }

    fn judge(&self, place: &Place<'_>, config: &Config, last: bool) -> Judged {
        let most = config.tasks.max_content_bytes;
        let too_large = |bytes: u64| {
            Judged::Bad(format!(
                "the file has {bytes} bytes, tasks.max_content_bytes allows {most}: make it shorter, or raise the limit"
            ))
        };
        // What was taken stays, also where the limit is lower by now.
        let bytes = match folder::read(place.opened, place.name, place.stamp, MAX_CONTENT_BYTES) {
            Ok(Reading::Bytes(bytes)) => bytes,
            Ok(Reading::Changed) => return Judged::Changed,
            Ok(Reading::TooLarge(bytes)) => return too_large(bytes),
            Err(e) => return Judged::Unreadable(e),
        };
        let id = name::task_id(place.folder, &bytes);
        if self.ledger.as_ref().is_some_and(|ledger| ledger.knows(&id)) {
            return Judged::Done(id);
        }
        if bytes.len() as u64 > most {
            return too_large(bytes.len() as u64);
        }
        if target(place.folder, config).is_none() {
            return Judged::Bad(nobody(place.folder, config));
        }
        match parse(&bytes) {
            Ok(file) => Judged::Due(file.urgency.rank, id),
            Err(NoTask::Bad(why)) => Judged::Bad(why),
            Err(NoTask::Incomplete(why)) if last => Judged::Bad(why.to_owned()),
            Err(NoTask::Incomplete(_)) => Judged::Incomplete,
        }
    }

    /// Puts a bad file aside; whether it is gone from its folder.
    fn set_aside(&mut self, place: &Place<'_>, why: &str) -> bool {
        let &Place { folder, name, .. } = place;
        let rejected = self.hive.join("rejected");
        let aside = rejected.join(name::safe_part(folder));
        let text = format!(
            "{name} was not taken from .deia/hive/tasks/{folder}/.\n\nWhy: {why}.\n\n\
            When that is done, move it back there, under any name that ends in .md.\n"
        );
        let moved = folder::make(&rejected)
            .and_then(|()| folder::make(&aside))
            .and_then(|()| folder::set_aside(place.opened, name, place.stamp, &aside, &text));
        match moved {
            Ok(Some(new)) => {
                tracing::warn!(
                    event = "task_file_rejected",
                    folder,
                    file = name,
                    aside = new,
                    reason = why,
                    "a task file is none and was set aside in .deia/hive/rejected"
                );
                true
            }
            Ok(None) => true,
            Err(e) => {
                tracing::warn!(event = "task_file_rejected", folder, file = name, reason = why, error = %e, "a task file is none, and stays where it is because it could not be set aside");
                false
            }
        }
    }

    /// What came of the submissions.
    pub fn settle(&mut self, fates: Vec<(Due, Fate)>, now: Millis) {
        deia::failpoint!("hive.submitted");
        let (mut taken, mut void) = (Vec::new(), Vec::new());
        for (due, fate) in fates {
            match fate {
                Fate::Taken => {
                    tracing::info!(event = "task_file_taken", task_id = %due.id, folder = due.folder, file = due.name, "a task file was taken");
                    taken.push(due.id.clone());
                    self.set(&due, State::Done(due.id.clone()));
                }
                Fate::Bad(why) => {
                    void.push(due.id.clone());
                    self.reject(&due, &why);
                }
                // It stays `meant`: it may have been accepted, for all that is known.
                Fate::Later => self.set(&due, State::Refused(now + AGAIN)),
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.taken(&taken);
            ledger.void(&void);
        }
    }

    /// These are not taken for now.
    pub fn put_off(&mut self, due: impl IntoIterator<Item = Due>, now: Millis) {
        for due in due {
            self.set(&due, State::Refused(now + AGAIN));
        }
    }

    /// Whose answer is owed: where it came from, and whether the store has had it.
    pub fn owed(&self, id: &TaskId) -> Option<(Origin, bool)> {
        let (origin, taken) = self.ledger.as_ref()?.owed(id)?;
        Some((origin.clone(), taken))
    }

    /// The store has it.
    pub fn found(&mut self, id: &TaskId) {
        if let Some(ledger) = &mut self.ledger
            && !ledger.knows(id)
        {
            ledger.taken(std::slice::from_ref(id));
        }
    }

    /// The store has never had it.
    pub fn void(&mut self, id: &TaskId) {
        if let Some(ledger) = &mut self.ledger {
            ledger.void(std::slice::from_ref(id));
        }
    }

    /// Writes an answer.
    pub fn answer(&mut self, id: &TaskId, response: &Response) -> Answered {
        let folder = self.hive.join("responses");
        let published = folder::make(&folder).and_then(|()| {
            folder::publish(
                &folder,
                &response.stem,
                id.as_str(),
                response.text.as_bytes(),
            )
        });
        match published {
            Ok(file) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.answered(id);
                }
                self.said.remove("answer");
                tracing::info!(event = "task_file_answered", task_id = %id, file, "the answer to a task file was written");
                Answered::Yes
            }
            Err(e) => {
                if self.said.insert("answer") {
                    tracing::warn!(event = "response_not_written", task_id = %id, error = %e, "the answer to a task file could not be written to .deia/hive/responses; trying again");
                }
                Answered::NotYet
            }
        }
    }

    pub(super) fn tasks(&self) -> PathBuf {
        self.hive.join("tasks")
    }

    fn set(&mut self, due: &Due, state: State) {
        if let Some(folder) = self.folders.get_mut(&due.folder) {
            folder.set(&due.name, due.stamp, state);
        }
    }

    pub(super) fn reject(&mut self, due: &Due, why: &str) {
        let opened =
            folder::open(&self.tasks()).and_then(|root| folder::open_in(&root, &due.folder));
        let gone = opened.is_ok_and(|opened| {
            let place = Place {
                folder: &due.folder,
                opened: &opened,
                name: &due.name,
                stamp: due.stamp,
            };
            self.set_aside(&place, why)
        });
        if !gone {
            self.set(due, State::Left);
        }
    }
}

/// A file in an opened folder.
struct Place<'a> {
    folder: &'a str,
    opened: &'a OwnedFd,
    name: &'a str,
    stamp: super::due::Stamp,
}

/// What a file turned out to be.
enum Judged {
    /// A task of this rank.
    Due(u8, TaskId),
    /// One that was taken before.
    Done(TaskId),
    /// Not complete yet.
    Incomplete,
    /// Another one than was listed.
    Changed,
    /// None, for good.
    Bad(String),
    /// Not for us.
    Unreadable(io::Error),
}

fn nobody(folder: &str, config: &Config) -> String {
    let pools: Vec<&str> = config.bots.iter().map(|pool| pool.name.as_str()).collect();
    format!(
        "no bot and no pool of the configuration is called '{folder}' (there are: {}): use the folder of one that is there, or add a pool of that name",
        pools.join(", ")
    )
}
