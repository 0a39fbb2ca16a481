//! The configuration's owner: reads the file again when asked or when it has changed, hands a good one
//! to the main loop, and shows what is in force.

use std::sync::Arc;
use std::time::Duration;

use deia::api::{AuditAction, ConfigStatus, ReloadAnswer};
use deia::config::{Config, LogLevel};
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::command::Command;
use crate::audit::{Actor, Entry};
use crate::http::tls::Certificate;
use crate::logs::LogHandle;
use crate::settings::{Reload, Settings, Watch, When};

/// Changed settings that one record names.
const MAX_RECORDED_CHANGES: usize = 200;

/// Reloads that may wait.
const MAX_WAITING: usize = 64;

/// What is in force, and how to reload it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConfigHandle {
    shown: watch::Receiver<Shown>,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    when: When,
    actor: Actor,
    reply: oneshot::Sender<ReloadAnswer>,
}

#[derive(Debug, Clone)]
struct Shown {
    config: Arc<Config>,
    status: ConfigStatus,
    degraded: Option<String>,
}

impl ConfigHandle {
    /// The configuration that is in force.
    pub fn current(&self) -> Arc<Config> {
        self.shown.borrow().config.clone()
    }

    /// Where it came from, and what of it fell back.
    pub fn status(&self) -> ConfigStatus {
        let mut status = self.shown.borrow().status.clone();
        status.timestamp = Timestamp::now();
        status
    }

    /// Why `/health` says degraded, on account of the configuration.
    pub fn degraded(&self) -> Option<String> {
        self.shown.borrow().degraded.clone()
    }

    /// Waits until something of this has changed; false when the daemon is ending.
    pub async fn changed(&mut self) -> bool {
        self.shown.changed().await.is_ok()
    }

    /// The first pool's name.
    pub fn first_pool(&self) -> String {
        let shown = self.shown.borrow();
        let first = shown.config.bots.first();
        first.map_or_else(|| "main-bot".into(), |pool| pool.name.clone())
    }

    /// Reads the file again and applies it. `None` when the daemon is ending.
    pub async fn reload(&self, when: When, actor: Actor) -> Option<ReloadAnswer> {
        let (reply, answer) = oneshot::channel();
        let request = Request { when, actor, reply };
        self.requests.send(request).await.ok()?;
        answer.await.ok()
    }
}

/// Starts the owner. `applied` is called with each configuration that comes into force.
pub fn start(
    settings: Settings,
    commands: mpsc::Sender<Command>,
    log: LogHandle,
    certificate: Option<Arc<Certificate>>,
    applied: impl Fn(&Config) + Send + Sync + 'static,
) -> ConfigHandle {
    let (requests_to, requests) = mpsc::channel(MAX_WAITING);
    let (shown_to, shown) = watch::channel(shown(&settings, None));
    let owner = Owner {
        settings,
        commands,
        log,
        certificate,
        shown: shown_to,
        applied,
    };
    tokio::spawn(owner.run(requests));
    ConfigHandle {
        shown,
        requests: requests_to,
    }
}

struct Owner<F> {
    settings: Settings,
    commands: mpsc::Sender<Command>,
    log: LogHandle,
    certificate: Option<Arc<Certificate>>,
    shown: watch::Sender<Shown>,
    applied: F,
}

impl<F: Fn(&Config)> Owner<F> {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let (watch, mut changes) = Watch::start(
            self.settings.search(),
            self.settings.fingerprint(),
            check_interval(&self.settings.current()),
        );
        self.save().await;
        loop {
            let (when, actor, reply) = tokio::select! {
                request = requests.recv() => match request {
                    Some(Request { when, actor, reply }) => (when, actor, Some(reply)),
                    None => return,
                },
                Some(()) = changes.recv() => (When::IfChanged, Actor::DAEMON, None),
            };
            let Some(answer) = self.reload(when, actor).await else {
                return;
            };
            watch.set_interval(check_interval(&self.settings.current()));
            if let Some(reply) = reply {
                let _ = reply.send(answer);
            }
        }
    }

    async fn reload(&mut self, when: When, actor: Actor) -> Option<ReloadAnswer> {
        let probe = self.settings.probe(when);
        let seen = tokio::task::spawn_blocking(move || probe.run())
            .await
            .ok()?;
        deia::failpoint!("reload.seen");
        let reload = self.settings.apply(seen);
        if matches!(reload, Reload::Applied { .. }) {
            let config = self.settings.current();
            let (reply, done) = oneshot::channel();
            let command = Command::Configure {
                config: config.clone(),
                reply,
            };
            let command = Command::As(actor.clone(), Box::new(command));
            self.commands.send(command).await.ok()?;
            done.await.ok()?;
            self.log.reconfigure(&config.logging);
            self.log.set_level(log_level(&config));
            (self.applied)(&config);
        }
        deia::failpoint!("reload.applied");
        self.save().await;
        deia::failpoint!("reload.saved");
        let stale = self.renew_certificate().await;
        self.shown
            .send_replace(shown(&self.settings, stale.as_deref()));
        log_reload(&reload, &self.settings);
        self.put_on_record(&reload, actor).await?;
        let mut answer = self.settings.reload_answer(&reload, Timestamp::now());
        if let Some(why) = stale {
            answer.success = false;
            answer.errors.push(why);
        }
        Some(answer)
    }

    /// Reads the port's certificate again; why the one before it stays.
    async fn renew_certificate(&self) -> Option<String> {
        let why = self.certificate.as_ref()?.renew().await.err()?;
        let why = format!("{why}; the certificate before stays in force");
        tracing::error!(event = "certificate_refused", reason = %why, "the port's certificate could not be renewed");
        Some(why)
    }

    /// Answered to whoever asked only after this. `None` when the daemon is ending.
    async fn put_on_record(&self, reload: &Reload, actor: Actor) -> Option<()> {
        let generation = self.settings.generation();
        let entry = Entry::new(
            Timestamp::now(),
            AuditAction::ConfigChanged,
            Actor::DAEMON,
            "configuration",
        );
        let entry = match reload {
            Reload::Applied { changes, .. } => {
                let changes: Vec<String> = changes
                    .iter()
                    .take(MAX_RECORDED_CHANGES)
                    .map(ToString::to_string)
                    .collect();
                entry.with(&json!({"generation": generation, "changes": changes}))
            }
            Reload::Refused { why } => entry
                .failed(&why.to_string())
                .with(&json!({"generation": generation})),
            // Nothing was done.
            Reload::Unchanged { .. } => return Some(()),
        };
        let (reply, noted) = oneshot::channel();
        let entry = Box::new(entry);
        let command = Command::As(actor, Box::new(Command::Note { entry, reply }));
        self.commands.send(command).await.ok()?;
        // That it is not on disk yet is in the log; it is written once the store takes writes again.
        let _ = noted.await.ok()?;
        Some(())
    }

    /// Keeps what is in force as the last good configuration.
    async fn save(&mut self) {
        let Some(save) = self.settings.unsaved() else {
            return;
        };
        let saved = tokio::task::spawn_blocking(move || save.run()).await;
        if let Err(e) = saved.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            tracing::warn!(event = "last_good_not_saved", error = %e, "the last good configuration could not be written");
        }
    }
}

/// The least severe level that is logged; `debug` has its own switch.
pub fn log_level(config: &Config) -> LogLevel {
    if config.debug {
        LogLevel::Debug
    } else {
        config.log_level
    }
}

fn check_interval(config: &Config) -> Duration {
    Duration::from_secs(config.timeouts.config_reload_check_interval_seconds.max(1))
}

fn shown(settings: &Settings, stale: Option<&str>) -> Shown {
    let mut status = settings.status(Timestamp::now());
    status.load_errors.extend(stale.map(str::to_owned));
    Shown {
        config: settings.current(),
        status,
        degraded: settings.degraded().map(str::to_owned),
    }
}

/// What the log says of the configuration the daemon starts with.
pub fn log_loaded(settings: &Settings) {
    let from = settings.source().map_or_else(
        || "built-in defaults".into(),
        |path| path.display().to_string(),
    );
    tracing::info!(
        event = "config_loaded",
        from,
        generation = settings.generation(),
        "Config loaded"
    );
    log_trouble(settings);
    if let Some(why) = settings.degraded() {
        tracing::warn!(
            event = "config_refused",
            reason = why,
            "the configuration was refused and the last good one is in force; `deiactl config validate` shows why"
        );
    }
}

fn log_reload(reload: &Reload, settings: &Settings) {
    match reload {
        Reload::Applied { changes, .. } => {
            let generation = settings.generation();
            tracing::info!(
                event = "config_reloaded",
                generation,
                changes = changes.len(),
                "Config reloaded"
            );
            for change in changes {
                tracing::info!(event = "config_changed", generation, change = %change, "a setting has changed");
            }
            log_trouble(settings);
        }
        Reload::Unchanged { .. } => {
            tracing::info!(
                event = "config_unchanged",
                "the configuration says what is in force already"
            );
        }
        Reload::Refused { why } => {
            tracing::warn!(event = "config_refused", reason = %why, "the configuration was refused and the last good one stays in force; `deiactl config validate` shows why");
        }
    }
}

fn log_trouble(settings: &Settings) {
    for problem in settings.problems() {
        tracing::warn!(event = "config_fallback", problem = %problem.one_line(), "a setting is not usable and has fallen back");
    }
    for warning in settings.warnings() {
        tracing::warn!(event = "config_warning", warning = %warning, "the configuration is odd");
    }
    for name in settings.restart_required() {
        tracing::warn!(event = "config_restart_required", setting = %name, "a setting takes effect after a restart");
    }
}
