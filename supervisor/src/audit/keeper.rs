//! What of the trail is kept outside of the store: `audit.jsonl`, and checkpoints.
//!
//! ```text
//!   writer --head--> keeper --records, in portions--> audit.jsonl (masked)
//!                      '--every 1,000 records, once an hour, at start and stop--> log: audit_checkpoint
//!                                                                               '-> state/audit-head.json
//! ```
//!
//! A reader like any other: neither the writer nor the main loop waits for it, and it wakes only where
//! something was put on record. What a killed daemon had not exported, the next one does. A checkpoint is
//! what shows that the end of the trail was cut off: `verify` compares with it. Where the trail does not
//! have what the last checkpoint knows, that checkpoint stays and no other is made.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deia::config::Logging;
use deia::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::chain::{Link, hex, unhex};
use crate::daemon::reload::ConfigHandle;
use crate::durable;
use crate::logs::TrailFile;
use crate::store::{AuditRecord, Store, StoreError};

/// Records between two checkpoints, at most.
pub const CHECKPOINT_RECORDS: i64 = 1_000;

/// Time between two, where there is something new.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(3_600);

/// What comes within this is exported together.
const GATHER: Duration = Duration::from_millis(200);

/// Records read and written at a time.
const PORTION: usize = 1_000;

/// Before a disk or a store that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long the end of the daemon waits for it.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Longest file of a checkpoint.
const MAX_CHECKPOINT_BYTES: u64 = 4_096;

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    seq: i64,
    checksum: String,
    at: Timestamp,
    /// The last record that is in `audit.jsonl`.
    exported: i64,
}

/// The last checkpoint, where there is one.
///
/// # Errors
/// It can't be read, or is none.
pub fn last_checkpoint(path: &Path) -> io::Result<Option<Link>> {
    Ok(read(path)?.map(|(_, link)| link))
}

fn read(path: &Path) -> io::Result<Option<(Checkpoint, Link)>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
        Ok(found) if found.len() > MAX_CHECKPOINT_BYTES => {
            return Err(io::Error::other("it is too large to be a checkpoint"));
        }
        Ok(_) => {}
    }
    let checkpoint: Checkpoint = serde_json::from_slice(&std::fs::read(path)?)?;
    let hash = unhex(&checkpoint.checksum);
    let hash = hash.ok_or_else(|| io::Error::other("its checksum is none"))?;
    let seq = checkpoint.seq;
    Ok(Some((checkpoint, Link { seq, hash })))
}

/// What a keeper works with.
pub struct Parts {
    /// The trail.
    pub store: Arc<dyn Store>,
    /// `audit.jsonl`.
    pub file: PathBuf,
    /// `audit-head.json`.
    pub checkpoint: PathBuf,
    /// Its bounds.
    pub config: ConfigHandle,
}

/// A keeper at work.
#[derive(Debug)]
pub struct Keeper {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts one.
    pub fn start(parts: Parts) -> Self {
        let (stop, stopped) = oneshot::channel();
        let head = parts.store.audit_head();
        let keeping = Keeping {
            store: parts.store,
            config: parts.config,
            path: parts.checkpoint,
            file: Some(TrailFile::new(parts.file)),
            exported: 0,
            kept: None,
            kept_at: Instant::now(),
            is_broken: false,
        };
        let task = tokio::spawn(keeping.run(head, stopped));
        Self { stop, task }
    }

    /// Exports what is left and makes the last checkpoint: when nothing more is put on record, before the store
    /// is closed.
    pub async fn finish(self) {
        drop(self.stop);
        if tokio::time::timeout(STOP_PATIENCE, self.task)
            .await
            .is_err()
        {
            tracing::warn!(
                event = "audit_not_exported",
                "the end of the audit trail could not be exported in time; the next daemon does it"
            );
        }
    }
}

struct Keeping {
    store: Arc<dyn Store>,
    config: ConfigHandle,
    path: PathBuf,
    /// Away while it is written.
    file: Option<TrailFile>,
    exported: i64,
    kept: Option<Link>,
    kept_at: Instant,
    /// The trail does not have what the last checkpoint knows.
    is_broken: bool,
}

impl Keeping {
    async fn run(mut self, mut head: watch::Receiver<Link>, mut stopped: oneshot::Receiver<()>) {
        let mut known = *head.borrow_and_update();
        self.begin(known).await;
        self.checkpoint(known).await;
        loop {
            let behind = self.exported < known.seq;
            let hourly = self.kept != Some(known);
            let mut stops = tokio::select! {
                _ = &mut stopped => true,
                changed = head.changed() => changed.is_err(),
                () = tokio::time::sleep(AGAIN), if behind => false,
                () = tokio::time::sleep_until(self.kept_at + CHECKPOINT_INTERVAL), if hourly => false,
            };
            if !stops {
                // What comes next to it goes along.
                stops = tokio::select! {
                    _ = &mut stopped => true,
                    () = tokio::time::sleep(GATHER) => false,
                };
            }
            known = *head.borrow_and_update();
            if let Err(why) = self.export(known.seq).await {
                tracing::warn!(event = "audit_not_exported", reason = %why, "the audit trail could not be exported; it is tried again, and nothing of it is lost");
            }
            let since = self.kept.map_or(0, |kept| kept.seq);
            let is_due = self.kept_at.elapsed() >= CHECKPOINT_INTERVAL && self.kept != Some(known);
            if stops || is_due || known.seq >= since + CHECKPOINT_RECORDS {
                self.checkpoint(known).await;
            }
            if stops {
                return;
            }
        }
    }

    /// Where an earlier daemon has left off, and whether the trail is still the one it knew.
    async fn begin(&mut self, head: Link) {
        let path = self.path.clone();
        let found = blocking(move || read(&path)).await;
        let last = match found {
            Ok(last) => last,
            Err(e) => {
                // Whatever it was: it is not put in place of by something that knows less.
                self.is_broken = true;
                tracing::error!(event = "audit_checkpoint_unreadable", error = %e, path = %self.path.display(), "the last checkpoint of the audit trail can't be read; move it away once you know why");
                None
            }
        };
        if let Some((checkpoint, link)) = last {
            self.kept = Some(link);
            self.exported = checkpoint.exported;
            match self.has(link, head).await {
                Ok(true) => {}
                Ok(false) => {
                    self.is_broken = true;
                    tracing::error!(event = "audit_broken", seq = link.seq, head = head.seq, path = %self.path.display(), "the audit trail does not have what its last checkpoint knows: its end was cut off, or it is another one. `deiactl audit verify` names the first bad record; move the checkpoint away once you know why");
                }
                Err(e) => {
                    tracing::warn!(event = "audit_not_compared", error = %e, "the audit trail could not be compared with its last checkpoint");
                }
            }
        }
        if let Some(mut file) = self.file.take() {
            let (file, last) = match blocking(move || {
                let last = file.last_seq();
                Ok((file, last))
            })
            .await
            {
                Ok(found) => found,
                Err(_) => return,
            };
            self.file = Some(file);
            // Lines that were written after the last checkpoint, or lost after it.
            self.exported = last.unwrap_or(self.exported).min(head.seq);
        }
    }

    /// Whether the trail has this record, or did until it was past its time.
    async fn has(&self, link: Link, head: Link) -> Result<bool, StoreError> {
        if link.seq == 0 {
            return Ok(true);
        }
        if link.seq > head.seq {
            return Ok(false);
        }
        let found = self.store.audit_after(link.seq - 1, 1).await?;
        Ok(match found.first() {
            Some(record) if record.seq == link.seq => record.hash == link.hash,
            // What stands for it is the anchor.
            Some(record) => record.seq > link.seq,
            None => false,
        })
    }

    async fn export(&mut self, to: i64) -> Result<(), String> {
        let logging = self.config.current().logging.clone();
        while self.exported < to {
            let records = self.store.audit_after(self.exported, PORTION).await;
            let records = records.map_err(|e| e.to_string())?;
            let Some(last) = records.last().map(|record| record.seq) else {
                // Gone by now, or not what was written.
                self.exported = to;
                return Ok(());
            };
            self.write(records, &logging).await?;
            self.exported = last;
        }
        Ok(())
    }

    async fn write(&mut self, records: Vec<AuditRecord>, logging: &Logging) -> Result<(), String> {
        let Some(mut file) = self.file.take() else {
            return Err("it is being written".to_owned());
        };
        let logging = logging.clone();
        let written = blocking(move || {
            let done = file.append(&records, &logging);
            Ok((file, done))
        });
        let (file, done) = written.await.map_err(|e| e.to_string())?;
        self.file = Some(file);
        done.map_err(|e| e.to_string())
    }

    async fn checkpoint(&mut self, link: Link) {
        self.kept_at = Instant::now();
        if link.seq == 0 {
            return;
        }
        let checkpoint = Checkpoint {
            seq: link.seq,
            checksum: hex(&link.hash),
            at: Timestamp::now(),
            exported: self.exported,
        };
        tracing::info!(
            event = "audit_checkpoint",
            seq = checkpoint.seq,
            checksum = checkpoint.checksum,
            "the audit trail reaches this record"
        );
        if self.is_broken {
            return;
        }
        self.kept = Some(link);
        let path = self.path.clone();
        let written = blocking(move || durable::write(&path, &serde_json::to_vec(&checkpoint)?));
        if let Err(e) = written.await {
            tracing::warn!(event = "audit_checkpoint_not_kept", error = %e, path = %self.path.display(), "a checkpoint of the audit trail could not be written");
        }
    }
}

async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(what).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e)))
}
