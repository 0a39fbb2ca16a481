//! Upgrade in place: the same process becomes another release, and nobody notices.
//!
//! ```text
//!   request -> target -> self-check (a child of the target, on a copy of the store) -> refused: told
//!                              | fit: answered
//!                              v
//!   streams end with a hint; answers in flight finish; connections are given back between requests
//!   main loop: nothing more is given out, what goes to the disk arrives there; store closed
//!   guard started; signals blocked; listeners, connections and the lock kept across
//!                              v
//!                       execve(target): same pid          bots: work on, dial again
//!                              v
//!   sockets taken back, store opened, bots taken over -> READY: the attempt is written off
//!                              | not ready: an error, a hang, a death
//!                              v
//!   back to the release before: by the new one itself, by the guard, or by the next start
//! ```
//!
//! Owns `.deia/releases/`: kept releases, and the ledger that says which attempt is under way, how
//! the last one went and which release is pinned. A binary that does not pass its self-check is never
//! switched to; one that never gets ready is left again.

mod check;
mod deployments;
mod guard;
mod handover;
mod ledger;
mod releases;
mod switch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deia::api::{AuditAction, DeployedBy, ReleaseView, UpgradeAnswer, UpgradeRequest, UpgradeView};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, mpsc, oneshot};

pub use check::{Findings, Subject, run as look_at, self_check};
pub use deployments::{Deployments, Ready};
pub use guard::{GuardArgs, guard};
pub use handover::{HANDOVER_VARIABLE, Handover, Sockets};
pub use ledger::Attempt;
pub use releases::{AtStart, Releases, at_start, invoked_path, own_name};
pub use switch::{Departure, become_again, become_pinned, go_back};

use super::command::Command;
use crate::audit::{Actor, Entry};
use crate::fleet::pids::BotPids;
use crate::store::sqlite::{SqliteStore, schema_version};

/// A store up to this size is copied for every self-check; a larger one only when the new release
/// would change its schema.
const COPIED_BYTES_MAX: u64 = 256 << 20;

/// Why an upgrade does not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another one is under way.
    #[error("another upgrade is under way")]
    Busy,
    /// The target is not fit.
    #[error("{0}")]
    Unfit(String),
}

/// What is switched to.
#[derive(Debug)]
pub struct Plan {
    /// Written into the ledger before the switch.
    pub attempt: Attempt,
}

/// Upgrades of this daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upgrader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: PathBuf,
    config: Option<PathBuf>,
    database: PathBuf,
    releases: Releases,
    /// The path the daemon was started by.
    invoked: PathBuf,
    pids: BotPids,
    store: Arc<SqliteStore>,
    plans: mpsc::Sender<Plan>,
    /// To put on record who asked.
    commands: mpsc::Sender<Command>,
    /// Held while one is under way.
    busy: Arc<Mutex<()>>,
}

/// What an [`Upgrader`] needs.
#[derive(Debug)]
pub struct Parts {
    /// HOME.
    pub home: PathBuf,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// The store's file.
    pub database: PathBuf,
    /// Kept releases.
    pub releases: Releases,
    /// The path the daemon was started by.
    pub invoked: PathBuf,
    /// The children that are known.
    pub pids: BotPids,
    /// The store, to copy it.
    pub store: Arc<SqliteStore>,
    /// Requests to the main loop.
    pub commands: mpsc::Sender<Command>,
}

impl Upgrader {
    /// One whose plans go to the returned channel.
    pub fn new(parts: Parts) -> (Self, mpsc::Receiver<Plan>) {
        let (plans, planned) = mpsc::channel(1);
        let inner = Inner {
            home: parts.home,
            config: parts.config,
            database: parts.database,
            releases: parts.releases,
            invoked: parts.invoked,
            pids: parts.pids,
            store: parts.store,
            plans,
            commands: parts.commands,
            busy: Arc::default(),
        };
        (Self(Arc::new(inner)), planned)
    }

    /// Checks the target and, when it is fit, has the daemon switch to it: soon after this returns.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub async fn request(
        &self,
        request: UpgradeRequest,
        actor: Actor,
    ) -> Result<UpgradeAnswer, Refusal> {
        let inner = &self.0;
        let busy = inner.busy.clone();
        let under_way = busy.try_lock_owned().map_err(|_| Refusal::Busy)?;
        let (target, pin) = match request.path {
            Some(path) => (PathBuf::from(path), true),
            None if request.keep_pin => (inner.pinned_or_invoked(), true),
            None => (inner.invoked.clone(), false),
        };
        let pin = pin && target != inner.invoked;
        tracing::info!(event = "upgrade_checking", path = %target.display(), "a release is being checked");
        let prepared = inner.prepare(&target, pin).await.inspect_err(|why| {
            tracing::warn!(event = "upgrade_refused", path = %target.display(), reason = %why, "the release is not switched to");
            let failed = UpgradeView::failed(&target, why.to_string());
            inner.releases.note(failed);
        });
        let by = actor.name().to_owned();
        // Before the switch: the next process writes records of its own.
        inner.put_on_record(&target, &prepared, actor).await?;
        let (findings, from, to) = prepared?;
        let attempt = Attempt {
            id: uuid::Uuid::now_v7().to_string(),
            from,
            to,
            pin,
            from_version: deia::VERSION.to_owned(),
            to_version: findings.version,
            at: Timestamp::now(),
            by,
            how: DeployedBy::Upgrade,
        };
        let answer = UpgradeAnswer {
            success: true,
            upgrade_id: attempt.id.clone(),
            from_version: attempt.from_version.clone(),
            to_version: attempt.to_version.clone(),
            path: target.display().to_string(),
            message: "checked and fit; the daemon switches now".to_owned(),
        };
        inner
            .plans
            .send(Plan { attempt })
            .await
            .map_err(|_| Refusal::Unfit("the daemon is stopping".to_owned()))?;
        // There is no way back from here but an end of this process.
        std::mem::forget(under_way);
        Ok(answer)
    }

    /// A release that is kept, by its name.
    pub fn kept(&self, release: &str) -> Option<PathBuf> {
        self.0.releases.kept(release)
    }

    /// Keeps this very release: where it is kept.
    ///
    /// # Errors
    /// Why not.
    pub async fn keep_own(&self) -> Result<PathBuf, String> {
        let releases = self.0.releases.clone();
        let keep = move || releases.keep(Path::new("/proc/self/exe"), deia::VERSION);
        let kept = tokio::task::spawn_blocking(keep).await;
        let kept = kept.map_err(|e| e.to_string())?;
        kept.map_err(|e| format!("this release can't be kept: {e}"))
    }

    /// Has a release check itself: `on_present_store` with a copy of the store as it is.
    ///
    /// # Errors
    /// It is not fit, and why.
    pub async fn look_at(
        &self,
        release: &Path,
        on_present_store: bool,
    ) -> Result<Findings, String> {
        let inner = &self.0;
        if on_present_store {
            return inner.check(release).await;
        }
        let subject = check::Subject {
            binary: release.to_owned(),
            home: inner.home.clone(),
            config: inner.config.clone(),
        };
        check::run(&subject, None, &inner.pids).await
    }

    /// Switches to a release that was looked at: soon after this returns.
    ///
    /// # Errors
    /// Another switch is under way, or the daemon is ending.
    pub async fn switch(&self, attempt: Attempt) -> Result<(), String> {
        let busy = self.0.busy.clone();
        let under_way = busy
            .try_lock_owned()
            .map_err(|_| Refusal::Busy.to_string())?;
        let sent = self.0.plans.send(Plan { attempt }).await;
        sent.map_err(|_| "the daemon is stopping".to_owned())?;
        // There is no way back from here but an end of this process.
        std::mem::forget(under_way);
        Ok(())
    }

    /// Which releases ran here.
    pub fn deployments(&self) -> Deployments {
        self.0.releases.deployments()
    }

    /// What `/status` says of releases.
    pub fn view(&self) -> ReleaseView {
        self.0.releases.view(&self.0.invoked)
    }
}

impl Inner {
    fn pinned_or_invoked(&self) -> PathBuf {
        self.releases
            .pinned(&self.invoked)
            .unwrap_or_else(|| self.invoked.clone())
    }

    async fn put_on_record(
        &self,
        target: &Path,
        prepared: &Result<(Findings, PathBuf, PathBuf), Refusal>,
        actor: Actor,
    ) -> Result<(), Refusal> {
        let target = target.display().to_string();
        let action = AuditAction::RestartRequested;
        let entry = Entry::new(Timestamp::now(), action, Actor::DAEMON, "daemon");
        let entry = match prepared {
            Ok((findings, ..)) => entry.with(&json!({
                "path": target,
                "from_version": deia::VERSION,
                "to_version": findings.version,
            })),
            Err(why) => entry
                .failed(&why.to_string())
                .with(&json!({"path": target, "from_version": deia::VERSION})),
        };
        let stopping = || Refusal::Unfit("the daemon is stopping".to_owned());
        let (reply, noted) = oneshot::channel();
        let entry = Box::new(entry);
        let command = Command::As(actor, Box::new(Command::Note { entry, reply }));
        self.commands.send(command).await.map_err(|_| stopping())?;
        match noted.await.map_err(|_| stopping())? {
            Ok(_) => Ok(()),
            Err(why) => Err(Refusal::Unfit(format!(
                "who asked for it can't be put on record: {why:?}"
            ))),
        }
    }

    /// Keeps both releases and checks the new one.
    async fn prepare(
        &self,
        target: &Path,
        pin: bool,
    ) -> Result<(Findings, PathBuf, PathBuf), Refusal> {
        let unfit = |what: String| Refusal::Unfit(what);
        let findings = self.check(target).await.map_err(unfit)?;
        let (releases, target) = (self.releases.clone(), target.to_owned());
        let version = findings.version.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let own = releases.keep(Path::new("/proc/self/exe"), deia::VERSION)?;
            // What is started by its own path runs from there; else it must not go away.
            let to = if pin {
                releases.keep(&target, &version)?
            } else {
                target
            };
            releases.prune(&[&own, &to]);
            std::io::Result::Ok((own, to))
        });
        match kept.await {
            Ok(Ok((from, to))) => Ok((findings, from, to)),
            Ok(Err(e)) => Err(Refusal::Unfit(format!("a release can't be kept: {e}"))),
            Err(e) => Err(Refusal::Unfit(e.to_string())),
        }
    }

    async fn check(&self, target: &Path) -> Result<Findings, String> {
        let subject = check::Subject {
            binary: target.to_owned(),
            home: self.home.clone(),
            config: self.config.clone(),
        };
        let bytes = std::fs::metadata(&self.database).map_or(0, |meta| meta.len());
        if bytes > COPIED_BYTES_MAX {
            let findings = check::run(&subject, None, &self.pids).await?;
            if findings.schema_version == schema_version() {
                return Ok(findings);
            }
        }
        let copy = self.releases.copy_path();
        let copied = self.store.snapshot(copy.clone()).await;
        let checked = match copied {
            Ok(()) => check::run(&subject, Some(&copy), &self.pids).await,
            Err(e) => Err(format!(
                "the store can't be copied to try the release on it: {e}"
            )),
        };
        let _ = tokio::task::spawn_blocking(move || releases::remove_store(&copy)).await;
        checked
    }
}
