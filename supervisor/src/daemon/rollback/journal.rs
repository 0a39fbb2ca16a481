//! `.deia/rollback.json`: how far a rollback is, outside of the state that it swaps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deia::api::{RollbackStep, RollbackStepView, RollbackView};
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::daemon::upgrade::Attempt;
use crate::durable;

/// Larger than this the file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// As users see it.
    pub view: RollbackView,
    /// The switch it comes to.
    pub switch: Attempt,
    /// How long running tasks may go on, in milliseconds.
    pub wait_ms: u64,
    /// When the backup was made.
    pub backup_at: Option<Timestamp>,
    /// How often the switch was tried again, because a kill had cut it short.
    #[serde(default)]
    pub again: u32,
}

impl Journal {
    /// The last one. Blocks.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
            Ok(meta) if meta.len() > MAX_BYTES => return Err(io::Error::other("it is too large")),
            Ok(_) => {}
        }
        let bytes = fs::read(path)?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(io::Error::other)
    }

    /// It has come to a step: on disk when this returns. Blocks.
    ///
    /// # Errors
    /// Those of the file system; what it said before still stands.
    pub fn come_to(&mut self, step: RollbackStep, path: &Path) -> io::Result<()> {
        let now = Timestamp::now();
        if self.view.step != step || self.view.steps.is_empty() {
            self.view.steps.push(RollbackStepView { step, at: now });
        }
        self.view.step = step;
        if step.is_over() {
            self.view.ended_at = Some(now);
        }
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        durable::write(path, &text)
    }

    /// Which file the earlier release is.
    pub fn release(&self) -> &PathBuf {
        &self.switch.to
    }
}
