//! Reading the file again, and applying it whole or not at all.

use deia::api::ReloadAnswer;
use deia::config::{Change, Config, Content, LoadError, Loaded, Problem, diff, load};
use deia::time::Timestamp;

use super::{Fingerprint, Search, Settings, one_line};

/// When a file is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In any case: somebody asked for it.
    Always,
    /// When its content is another than that which was tried last.
    IfChanged,
}

/// A look at the file that is still to be taken. It may be sent to a thread that may wait.
#[derive(Debug)]
pub struct Probe {
    search: Search,
    last_good: Config,
    tried: Fingerprint,
    when: When,
}

/// What a probe saw; [`Settings::apply`] decides what to make of it.
#[derive(Debug)]
pub struct Seen {
    tried: Fingerprint,
    at: Timestamp,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    NoFile,
    Same,
    Loaded(Box<Loaded>, std::path::PathBuf),
    Refused(LoadError),
}

impl Probe {
    /// Reads and parses the file.
    pub fn run(self) -> Seen {
        let tried = self.search.fingerprint();
        let outcome = if self.when == When::IfChanged && tried == self.tried {
            Outcome::Same
        } else {
            match self.search.find() {
                None => Outcome::NoFile,
                Some(file) => match load(&file, Some(&self.last_good)) {
                    Ok(loaded) => Outcome::Loaded(Box::new(loaded), file),
                    Err(LoadError::Missing) => Outcome::NoFile,
                    Err(refused) => Outcome::Refused(refused),
                },
            }
        };
        Seen {
            tried,
            at: Timestamp::now(),
            outcome,
        }
    }
}

/// What came of reading the file again.
#[derive(Debug, Clone, PartialEq)]
pub enum Reload {
    /// It is applied, whole.
    Applied {
        /// What changed.
        changes: Vec<Change>,
        /// Values that fell back.
        problems: Vec<Problem>,
        /// Keys whose new values wait for a restart.
        restart_required: Vec<String>,
    },
    /// It says what is in force already.
    Unchanged {
        /// Values that fell back.
        problems: Vec<Problem>,
    },
    /// It is not applied; what was in force stays.
    Refused {
        /// Why, on one line.
        why: String,
    },
}

impl Settings {
    /// The look at the file that a reload begins with.
    pub fn probe(&self, when: When) -> Probe {
        Probe {
            search: self.search.clone(),
            last_good: self.wanted.clone(),
            tried: self.tried.clone(),
            when,
        }
    }

    /// Applies what a probe saw, whole or not at all. Does no I/O: afterwards write what
    /// [`Settings::unsaved`] returns.
    pub fn apply(&mut self, seen: Seen) -> Reload {
        if matches!(seen.outcome, Outcome::Same) {
            return Reload::Unchanged {
                problems: self.problems.clone(),
            };
        }
        self.tried = seen.tried;
        match seen.outcome {
            Outcome::Same => Reload::Unchanged {
                problems: self.problems.clone(),
            },
            Outcome::NoFile if self.source.is_none() => Reload::Unchanged {
                problems: Vec::new(),
            },
            Outcome::NoFile => self.refuse(format!(
                "the configuration file is gone (looked for {}); the running configuration stays \
                 until it is back, or the defaults come with a restart",
                self.search.names()
            )),
            Outcome::Refused(why) => self.refuse(one_line(&why)),
            // Not applied as the defaults: that would stop pools because an editor was slow.
            Outcome::Loaded(loaded, file)
                if loaded.content == Content::None && self.content == Content::Some =>
            {
                self.refuse(format!(
                    "{} is empty, which looks like an unfinished write; for the defaults write \
                     {{}} into it",
                    file.display()
                ))
            }
            Outcome::Loaded(loaded, file) => self.accept(*loaded, file, seen.at),
        }
    }

    fn refuse(&mut self, why: String) -> Reload {
        self.refused = Some(why.clone());
        Reload::Refused { why }
    }

    fn accept(&mut self, loaded: Loaded, file: std::path::PathBuf, at: Timestamp) -> Reload {
        let changes = diff(&self.wanted, &loaded.config);
        self.refused = None;
        self.loaded_at = Some(at);
        self.note(file, loaded.content, loaded.problems, &loaded.warnings);
        if changes.is_empty() {
            return Reload::Unchanged {
                problems: self.problems.clone(),
            };
        }
        self.replace(loaded.config);
        Reload::Applied {
            changes,
            problems: self.problems.clone(),
            restart_required: self.restart_required(),
        }
    }

    /// Reads the file again and applies it, whole or not at all, in one go. Waits for the disk.
    pub fn reload(&mut self, when: When) -> Reload {
        let seen = self.probe(when).run();
        let reload = self.apply(seen);
        if let Some(save) = self.unsaved()
            && let Err(error) = save.run()
        {
            tracing::warn!(event = "last_good_not_saved", %error, "the last good configuration could not be written");
        }
        reload
    }

    /// What `POST /api/config/reload` answers.
    pub fn reload_answer(&self, reload: &Reload, now: Timestamp) -> ReloadAnswer {
        let (changes, errors) = match reload {
            Reload::Applied {
                changes, problems, ..
            } => (changes.iter().map(Change::to_string).collect(), problems),
            Reload::Unchanged { problems } => (Vec::new(), problems),
            Reload::Refused { .. } => (Vec::new(), &Vec::new()),
        };
        ReloadAnswer {
            success: !matches!(reload, Reload::Refused { .. }),
            config_version: self.current.version.clone(),
            environment: self.current.environment.clone(),
            loaded_from: self
                .source
                .as_ref()
                .map_or_else(|| "None".to_owned(), |path| path.display().to_string()),
            generation: self.generation,
            changes,
            errors: match reload {
                Reload::Refused { why } => vec![why.clone()],
                _ => errors.iter().map(Problem::one_line).collect(),
            },
            restart_required: self.restart_required(),
            timestamp: now,
        }
    }
}
