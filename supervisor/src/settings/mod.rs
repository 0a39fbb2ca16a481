//! The configuration in force: where it came from, which generation it is, what waits.
//!
//! ```text
//!   file --probe--> read, parsed (blocking, anywhere) --apply--> Settings (the main loop's own)
//!                                                        |
//!                            last-good.yaml <--save------+   after it was applied
//! ```
//!
//! [`Settings`] has one owner, the main loop, which hands out `Arc<Config>`s. Reading and writing
//! files is split off ([`Settings::probe`], [`Settings::unsaved`]), so that the loop never waits for
//! a disk; [`Settings::reload`] does it all in one call for those who may wait.
//!
//! Three configurations are kept apart: *wanted* is what the file says; *effective* is the same with
//! the keys that only a restart can change still at their old values; *current* has the command
//! line's overrides on top.

mod last_good;
mod locate;
mod overrides;
mod reload;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deia::api::ConfigStatus;
use deia::config::{
    Config, Content, LoadError, Loaded, Problem, TakesEffect, diff, load, pin_restart_keys,
};
use deia::time::Timestamp;

pub use last_good::SaveLastGood;
pub use locate::{Fingerprint, Search};
pub use overrides::Overrides;
pub use reload::{Probe, Reload, Seen, When};
pub use watch::Watch;

/// The exit code of a daemon that has no configuration to run with (EX_CONFIG of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// The configuration in force.
#[derive(Debug)]
pub struct Settings {
    search: Search,
    overrides: Overrides,
    wanted: Config,
    effective: Config,
    current: Arc<Config>,
    generation: u64,
    source: Option<PathBuf>,
    /// Whether the file that is in force says anything.
    content: Content,
    loaded_at: Option<Timestamp>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Why the newest file is not the one in force.
    refused: Option<String>,
    /// The file that was tried last, applied or not.
    tried: Fingerprint,
    unsaved: Option<SaveLastGood>,
}

/// There is a configuration, it is refused, and there is no last good one. The daemon ends with
/// [`EXIT_CONFIG`].
#[derive(Debug)]
pub struct StartupRefusal {
    file: PathBuf,
    why: LoadError,
    last_good: String,
}

impl fmt::Display for StartupRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nthe configuration {} is refused, and {}; mend it and check it with `deiactl \
             config validate {}`",
            self.why,
            self.file.display(),
            self.last_good,
            self.file.display()
        )
    }
}

impl std::error::Error for StartupRefusal {}

impl Settings {
    /// Finds and reads the configuration of a daemon that starts.
    ///
    /// Without a file (also one that `--config` names) it is the defaults; a file that is refused
    /// gives way to the last good one, and then [`Settings::degraded`] says why.
    ///
    /// # Errors
    ///
    /// A refused file without a last good one.
    pub fn load(
        home: &Path,
        explicit: Option<PathBuf>,
        overrides: Overrides,
    ) -> Result<Self, Box<StartupRefusal>> {
        let search = Search::new(home, explicit);
        let now = Timestamp::now();
        let Some(file) = search.find() else {
            return Ok(Self::without_file(search, overrides, now));
        };
        let tried = search.fingerprint();
        match load(&file, None) {
            Ok(loaded) => {
                let mut settings = Self::new(search, overrides, loaded.config, now);
                settings.tried = tried;
                settings.note(file, loaded.content, loaded.problems, &loaded.warnings);
                settings.queue_save();
                Ok(settings)
            }
            Err(LoadError::Missing) => Ok(Self::without_file(search, overrides, now)),
            Err(refused) => {
                let path = last_good::path(home);
                match load(&path, None) {
                    Ok(last) => Ok(Self::with_last_good(
                        search, overrides, last, &refused, tried,
                    )),
                    Err(none) => Err(Box::new(StartupRefusal {
                        file,
                        why: refused,
                        last_good: match none {
                            LoadError::Missing => "there is no last good one".to_owned(),
                            LoadError::Refused(why) => {
                                format!("so is the last good one ({})", why.one_line())
                            }
                        },
                    })),
                }
            }
        }
    }

    fn new(search: Search, overrides: Overrides, config: Config, now: Timestamp) -> Self {
        Self {
            search,
            current: Arc::new(overrides.apply(config.clone())),
            overrides,
            effective: config.clone(),
            wanted: config,
            generation: 1,
            source: None,
            content: Content::None,
            loaded_at: Some(now),
            problems: Vec::new(),
            warnings: Vec::new(),
            refused: None,
            tried: Fingerprint::default(),
            unsaved: None,
        }
    }

    fn without_file(search: Search, overrides: Overrides, now: Timestamp) -> Self {
        let warning = format!(
            "there is no configuration file; using the built-in defaults (looked for {})",
            search.names()
        );
        let mut settings = Self::new(search, overrides, Config::default(), now);
        settings.warnings.push(warning);
        settings
    }

    fn with_last_good(
        search: Search,
        overrides: Overrides,
        last: Loaded,
        refused: &LoadError,
        tried: Fingerprint,
    ) -> Self {
        let mut settings = Self::new(search, overrides, last.config, Timestamp::now());
        let path = last_good::path(settings.search.home());
        settings.note(path, last.content, last.problems, &last.warnings);
        settings.refused = Some(one_line(refused));
        settings.tried = tried;
        settings
    }

    fn note(&mut self, file: PathBuf, content: Content, bad: Vec<Problem>, odd: &[Problem]) {
        self.source = Some(file);
        self.content = content;
        self.problems = bad;
        self.warnings = odd.iter().map(Problem::one_line).collect();
    }

    fn queue_save(&mut self) {
        self.unsaved = Some(SaveLastGood::new(self.search.home(), &self.wanted));
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current)
    }

    /// Counts the configurations that were applied since the start, which is 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The file it was read from; nothing for the built-in defaults.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Values that fell back in the file that is in force.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What is odd about the file that is in force but changes nothing, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Why the daemon runs with another configuration than its file says, if it does.
    pub fn degraded(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Keys whose new values wait for a restart.
    pub fn restart_required(&self) -> Vec<String> {
        diff(&self.effective, &self.wanted)
            .into_iter()
            .filter(|change| change.takes_effect == TakesEffect::AfterRestart)
            .map(|change| change.key)
            .collect()
    }

    /// `GET /api/config/status`.
    pub fn status(&self, now: Timestamp) -> ConfigStatus {
        ConfigStatus {
            timestamp: now,
            config_file: self.source.as_ref().map(|path| path.display().to_string()),
            last_load_time: self.loaded_at,
            load_errors: self.load_errors(),
            config_version: self.current.version.clone(),
            environment: self.current.environment.clone(),
            debug: self.current.debug,
            generation: self.generation,
            restart_required: self.restart_required(),
        }
    }

    fn load_errors(&self) -> Vec<String> {
        let refused = self.refused.iter().cloned();
        refused
            .chain(self.problems.iter().map(Problem::one_line))
            .collect()
    }

    /// Where the configuration is looked for: what [`Watch::start`] asks.
    pub fn search(&self) -> Search {
        self.search.clone()
    }

    /// The content that was tried last: what [`Watch::start`] compares with.
    pub fn fingerprint(&self) -> Fingerprint {
        self.tried.clone()
    }

    /// The last good configuration that is to be written, once: do it after the configuration was
    /// applied, and not in the main loop.
    pub fn unsaved(&mut self) -> Option<SaveLastGood> {
        self.unsaved.take()
    }

    fn replace(&mut self, wanted: Config) {
        self.effective = pin_restart_keys(&wanted, &self.effective);
        self.wanted = wanted;
        self.current = Arc::new(self.overrides.apply(self.effective.clone()));
        self.generation += 1;
        self.queue_save();
    }
}

fn one_line(error: &LoadError) -> String {
    match error {
        LoadError::Missing => error.to_string(),
        LoadError::Refused(refusal) => refusal.one_line(),
    }
}

#[cfg(test)]
mod tests;
