//! How far bots can be confined on this host.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the host gives the sandbox; part of `GET /status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confinement {
    /// In one line.
    pub summary: String,
    /// The kernel's version of Landlock; null where it has none.
    pub landlock: Option<u32>,
    /// What Landlock keeps commands from: files, signals, ...
    pub landlock_keeps: Vec<String>,
    /// The cgroup whose parts hold the bots; null where none is the daemon's to divide.
    pub cgroup: Option<String>,
    /// What the kernel limits there: memory, pids.
    pub cgroup_controllers: Vec<String>,
    /// What is not confined, and what would help.
    pub missing: Vec<Missing>,
}

/// Something the host does not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// What is not there.
    pub what: String,
    /// What that means.
    pub effect: String,
    /// What to do about it.
    pub remedy: String,
}
