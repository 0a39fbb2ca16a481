//! A pool of bots as types, with every default: the items of `bots:`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::BackendSpec;
use crate::bot::BotType;

/// A pool: bots of one kind. Its bots are `name`, `name-2`, `name-3`, ...
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pool {
    /// 1-50 of `[A-Za-z0-9_-]`.
    pub name: String,
    /// What its bots are good at.
    #[serde(rename = "type")]
    pub bot_type: BotType,
    /// Capabilities its bots offer, as tasks require them.
    pub specializations: Vec<String>,
    /// At least this many of its bots run.
    pub min: u32,
    /// At most this many; `None`: only `bot_limits.max_bots` bounds it.
    pub max: Option<u32>,
    /// Tasks at once in one bot; `None`: `bot_limits.max_concurrent_tasks_per_bot`.
    pub max_concurrent_tasks: Option<u32>,
    /// What does the work.
    pub backend: BackendSpec,
    /// What to try, in order, when the backend is down.
    pub fallback: Vec<BackendSpec>,
    /// Where a command runs.
    pub workdir: Workdir,
    /// Added to the sandbox's default rules.
    pub paths: Paths,
    /// Environment variables read from files (0600), name to path.
    pub env_files: BTreeMap<String, PathBuf>,
    /// Resource limits of one bot.
    pub limits: Limits,
    /// Dangerous content: refuse, note, or let pass.
    pub request_validation: RequestValidation,
    /// Hard budgets.
    pub budget: Budget,
}

impl Pool {
    /// A pool with every default but its name and backend.
    pub fn new(name: &str, backend: BackendSpec) -> Self {
        Self {
            name: name.into(),
            bot_type: BotType::General,
            specializations: Vec::new(),
            min: 0,
            max: None,
            max_concurrent_tasks: None,
            backend,
            fallback: Vec::new(),
            workdir: Workdir::Fresh,
            paths: Paths::default(),
            env_files: BTreeMap::new(),
            limits: Limits::default(),
            request_validation: RequestValidation::Block,
            budget: Budget::default(),
        }
    }

    /// Whether its bots start programs.
    pub fn runs_commands(&self) -> bool {
        let mut backends = std::iter::once(&self.backend).chain(&self.fallback);
        backends.any(|backend| matches!(backend, BackendSpec::Command(_)))
    }

    /// The id of the pool's `n`-th bot, counted from 1: `name`, `name-2`, `name-3`, ...
    pub fn bot_id(&self, n: u32) -> String {
        if n <= 1 {
            self.name.clone()
        } else {
            format!("{}-{n}", self.name)
        }
    }
}

/// Which bot of the pool this id is, from 1; `None` where it is none of its.
pub fn bot_number(pool: &str, id: &str) -> Option<u32> {
    match id.strip_prefix(pool)? {
        "" => Some(1),
        rest => rest
            .strip_prefix('-')
            .filter(|n| !n.starts_with(['0', '+']))?
            .parse()
            .ok()
            .filter(|n| *n > 1),
    }
}

/// Where a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workdir {
    /// A new directory per task, `.deia/work/<task_id>/`.
    #[serde(rename = "fresh")]
    Fresh,
    /// Always this directory.
    #[serde(rename = "path")]
    Path(PathBuf),
}

/// Paths added to the sandbox's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Paths {
    /// Readable.
    pub read: Vec<PathBuf>,
    /// Readable and writable.
    pub write: Vec<PathBuf>,
}

/// Resource limits of one bot and its descendants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// MiB of memory of the whole tree.
    pub memory_mb: u64,
    /// Processes of the whole tree; where a cgroup counts them, their threads too.
    pub processes: u32,
    /// RLIMIT_NOFILE.
    pub open_files: u32,
    /// MiB of output kept per task; more is cut and said.
    pub output_mb: u32,
    /// How much Landlock is asked for.
    pub landlock: Landlock,
    /// MiB that a task's working directory may hold, and each file a bot writes.
    pub disk_mb: u64,
    /// TCP ports that what a bot starts may listen on, besides those the kernel picks.
    pub listen_ports: Vec<u16>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mb: 2048,
            processes: 256,
            open_files: 1024,
            output_mb: 16,
            landlock: Landlock::BestEffort,
            disk_mb: 4096,
            listen_ports: Vec::new(),
        }
    }
}

/// How much Landlock is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landlock {
    /// As far as the kernel goes.
    BestEffort,
    /// As far as the kernel goes; a bot of a kernel without Landlock does not start.
    Required,
    /// Not at all.
    Off,
}

/// What happens to content that matches a dangerous pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestValidation {
    /// Refused with 400.
    Block,
    /// Let pass and noted.
    Audit,
    /// Not looked at.
    Off,
}

/// Hard budgets; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Budget {
    /// Tokens a bot may use per UTC day.
    pub tokens_per_day: Option<u64>,
    /// Seconds one attempt may take.
    pub seconds_per_task: Option<u64>,
}
