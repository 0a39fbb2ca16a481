//! How the fleet is: looked at now and then, judged, remembered, and told.
//!
//! ```text
//!            every interval                        brain::alerts   --> log, file, webhook
//!   main loop --vitals--.                         .--------------'
//!   /proc, host, disk --+--> Sample --> Figures --+
//!   store: messages ----'       |                 '--------------.
//!                               v                  brain::degrade --> main loop: do without
//!                         Observations <-- routes                     log
//!   model servers <--probe-- `probe` --answers--> main loop: whose tasks wait
//! ```
//!
//! Owns the alerts, the samples and what is switched off for a while. A task of its own: the main loop
//! is asked like by any client and never waits for it. Alerts are a small file and no rows of the store: they
//! follow from what is, are few, and those of the past must not come back with a restored store.
//!
//! It looks every `timeouts.bot_health_check_interval_seconds`, and when somebody asks it to; nothing here
//! is polled faster, but a model server that tasks wait for.

mod figures;
mod keep;
mod look;
mod observations;
pub mod probe;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::api::{Alert, AlertLevel, AuditAction, AuditLevel, HealthEvaluation, HealthQuestion};
use deia::config::Config;
use deia::time::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use self::figures::Lately;
use self::look::Looker;
pub use self::look::{BotUse, DiskUse, Look};
pub use self::observations::{BotPoint, Degraded, Observations, Point, Sample};
use self::webhook::Webhook;
use crate::audit::{Actor, Entry, OnRecord, Recorder};
use crate::backup::Summary;
use crate::brain::alerts::{self, Alerts, Change, Changed, Figures};
use crate::brain::degrade::{Degradation, Feature, Mode, Rules};
use crate::brain::tally::Window;
use crate::daemon::command::{Command, Refused};
use crate::daemon::home::Home;
use crate::daemon::reload::ConfigHandle;
use crate::daemon::vitals::{AskHealth, Probing, Vitals, Without};
use crate::store::Store;

/// Requests that may wait.
const MAX_ASKS: usize = 64;

/// CPU is a difference between two looks: from the one at the start to the first sample.
const FIRST_LOOK: Duration = Duration::from_millis(300);

/// Bots that have a line of the log each, in one round.
const MAX_LOGGED_BOTS: usize = 200;

/// What it works with.
pub struct Parts {
    /// The main loop.
    pub commands: mpsc::Sender<Command>,
    /// The configuration.
    pub config: ConfigHandle,
    /// Where messages are counted.
    pub store: Arc<dyn Store>,
    /// The paths.
    pub home: Home,
    /// Which model servers there are.
    pub probing: watch::Receiver<Probing>,
    /// What is known of backups.
    pub backups: watch::Receiver<Summary>,
}

/// What can be asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    asks: mpsc::Sender<Ask>,
    observations: Observations,
}

#[derive(Debug)]
enum Ask {
    Evaluate(HealthQuestion, oneshot::Sender<Option<HealthEvaluation>>),
    Resolve(String, Actor, oneshot::Sender<Option<Vec<OnRecord>>>),
}

impl Health {
    /// What was seen.
    pub fn observations(&self) -> &Observations {
        &self.observations
    }

    /// Looks now, or says what made-up figures come to. `None` where monitoring is off or the daemon ends.
    pub async fn evaluate(&self, question: HealthQuestion) -> Option<HealthEvaluation> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Evaluate(question, reply)).await.ok()?;
        answer.await.ok()?
    }

    /// An operator has seen an alert, which is on record then; false where there is none of this name.
    ///
    /// # Errors
    /// It is not on record yet.
    pub async fn resolve(&self, id: String, actor: Actor) -> Result<bool, Refused> {
        let (reply, answer) = oneshot::channel();
        if self
            .asks
            .send(Ask::Resolve(id, actor, reply))
            .await
            .is_err()
        {
            return Ok(false);
        }
        let Ok(Some(on_record)) = answer.await else {
            return Ok(false);
        };
        for one in on_record {
            one.wait().await?;
        }
        Ok(true)
    }
}

/// Starts it.
pub fn start(parts: Parts) -> Health {
    let (asks_to, asks) = mpsc::channel(MAX_ASKS);
    let observations = Observations::default();
    tokio::spawn(probe::run(
        parts.probing,
        parts.config.clone(),
        parts.commands.clone(),
    ));
    let monitor = Monitor {
        webhook: Webhook::start(parts.config.clone(), parts.home.webhook_key()),
        recorder: Recorder::new(parts.commands.clone()),
        commands: parts.commands,
        config: parts.config,
        store: parts.store,
        file: parts.home.alerts(),
        looker: Some(Looker::new(parts.home.root.clone())),
        observations: observations.clone(),
        alerts: Alerts::default(),
        degradation: Degradation::default(),
        backups: parts.backups,
        window: Window::default(),
        failures: Lately::default(),
        expired: 0,
        pending: 0,
    };
    tokio::spawn(monitor.run(asks));
    Health {
        asks: asks_to,
        observations,
    }
}

struct Monitor {
    commands: mpsc::Sender<Command>,
    recorder: Recorder,
    config: ConfigHandle,
    store: Arc<dyn Store>,
    file: PathBuf,
    webhook: Webhook,
    /// On loan to another thread while it looks.
    looker: Option<Looker>,
    observations: Observations,
    alerts: Alerts,
    degradation: Degradation,
    backups: watch::Receiver<Summary>,
    window: Window,
    /// Messages that expired of late.
    failures: Lately,
    /// Messages that have expired, as last counted.
    expired: u64,
    /// Messages that wait for their bot, as last counted.
    pending: u64,
}

/// The daemon is ending.
struct Ending;

impl Monitor {
    async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        self.alerts = keep::load(self.file.clone()).await;
        self.show();
        // Only so that there is something to compare with.
        self.look(Vec::new(), false).await;
        tokio::time::sleep(FIRST_LOOK).await;
        while self.round().await.is_ok() {
            if self.wait(&mut asks).await.is_err() {
                return;
            }
        }
    }

    /// Until the next round is due; answers meanwhile.
    async fn wait(&mut self, asks: &mut mpsc::Receiver<Ask>) -> Result<(), Ending> {
        let begun = tokio::time::Instant::now();
        let mut before = self.config.current();
        loop {
            let interval = before.timeouts.bot_health_check_interval_seconds;
            let due = begun + Duration::from_secs(interval);
            tokio::select! {
                () = tokio::time::sleep_until(due) => return Ok(()),
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask).await?,
                    None => return Err(Ending),
                },
                alive = self.config.changed() => {
                    if !alive {
                        return Err(Ending);
                    }
                    let now = self.config.current();
                    // Switched on or off, at once.
                    if is_on(&now) != is_on(&before) {
                        return Ok(());
                    }
                    if now.thresholds != before.thresholds {
                        self.judge_again().await;
                    }
                    before = now;
                }
            }
        }
    }

    async fn answer(&mut self, ask: Ask) -> Result<(), Ending> {
        match ask {
            Ask::Evaluate(question, reply) if question == HealthQuestion::default() => {
                self.round().await?;
                let sample = self.observations.latest();
                // Whoever asked may be gone.
                let _ = reply.send(sample.map(|sample| {
                    let active = self.alerts.active();
                    evaluation(&sample.figures, active, sample.at, false)
                }));
            }
            Ask::Evaluate(question, reply) => {
                let (figures, at) = (Figures::of_question(&question), Timestamp::now());
                let alerts = alerts::what_if(&figures, &self.config.current().thresholds, at);
                let _ = reply.send(Some(evaluation(&figures, alerts, at, true)));
            }
            Ask::Resolve(id, actor, reply) => {
                let resolved = self.alerts.resolve(&id, Timestamp::now());
                let on_record = match resolved {
                    Ok(change) => Some(self.tell(change.into_iter().collect(), actor).await),
                    Err(_) => None,
                };
                let _ = reply.send(on_record);
            }
        }
        Ok(())
    }

    /// Looks at everything, judges it, and tells what has changed.
    async fn round(&mut self) -> Result<(), Ending> {
        let config = self.config.current();
        if !is_on(&config) {
            self.rest().await;
            return Ok(());
        }
        let vitals = self.vitals().await?;
        self.count_messages().await;
        let detail = self.degradation.allows(Feature::Analytics);
        let look = self.look(look::roots(&vitals), detail).await;
        let at = Timestamp::now();
        let rates = self.window.push(vitals.now, vitals.counts);
        let failures = self.failures.push(vitals.now, self.expired);
        let figures = figures::figures(
            &vitals,
            &look,
            &rates,
            (self.pending, failures),
            figures::backup(&self.backups.borrow(), &config, vitals.now, at),
        );
        let changes = self.alerts.evaluate(&figures, &config.thresholds, at);
        self.degrade(&config, &vitals, &look, at).await?;
        let sample = Sample {
            at,
            look,
            rates,
            figures,
            vitals,
        };
        log(&sample, self.alerts.active().len());
        self.observations.push(sample);
        self.tell_by_itself(changes).await;
        Ok(())
    }

    async fn vitals(&self) -> Result<Vitals, Ending> {
        let (reply, answer) = oneshot::channel();
        let ask = Command::Health(AskHealth::Vitals { reply });
        self.commands.send(ask).await.map_err(|_| Ending)?;
        answer.await.map_err(|_| Ending)
    }

    /// What can't be counted now is as it was.
    async fn count_messages(&mut self) {
        if let Ok(counts) = self.store.message_counts().await {
            let [pending, _, _, failed, expired] = counts.by_status;
            self.pending = pending;
            self.expired = failed + expired;
        }
    }

    async fn look(&mut self, roots: Vec<(Arc<str>, u32)>, detail: bool) -> Look {
        let Some(mut looker) = self.looker.take() else {
            return Look::default();
        };
        let looked = tokio::task::spawn_blocking(move || {
            let look = looker.look(&roots, detail, Instant::now());
            (looker, look)
        });
        match looked.await {
            Ok((looker, look)) => {
                self.looker = Some(looker);
                look
            }
            Err(_) => Look::default(),
        }
    }

    /// The thresholds have changed: what was seen last is judged by the new ones.
    async fn judge_again(&mut self) {
        if let Some(sample) = self.observations.latest() {
            let config = self.config.current();
            let now = Timestamp::now();
            let changes = self
                .alerts
                .evaluate(&sample.figures, &config.thresholds, now);
            self.tell_by_itself(changes).await;
        }
    }

    /// Monitoring is off: nothing stands, and nothing is switched off by it.
    async fn rest(&mut self) {
        if self.observations.rests() {
            return;
        }
        let changes = self.alerts.end_all(Timestamp::now());
        if self.degradation.end().is_some() {
            tracing::info!(
                event = "full_mode_restored",
                reason = "feature_flags.health_monitoring_enabled is false",
                "everything is switched on again"
            );
            let _ = self.without(Without::default()).await;
        }
        self.observations.rest();
        self.tell_by_itself(changes).await;
    }

    async fn without(&self, without: Without) -> Result<(), Ending> {
        let told = Command::Health(AskHealth::DoWithout(without));
        self.commands.send(told).await.map_err(|_| Ending)
    }

    async fn degrade(
        &mut self,
        config: &Config,
        vitals: &Vitals,
        look: &Look,
        at: Timestamp,
    ) -> Result<(), Ending> {
        let change = match config.feature_flags.graceful_degradation_enabled {
            true => {
                let figures = figures::strain(vitals, look);
                self.degradation
                    .evaluate(&figures, Rules::default(), vitals.now, at)
            }
            false => self.degradation.end(),
        };
        let Some(change) = change else {
            return Ok(());
        };
        let reasons: Vec<&str> = self.degradation.reasons().map(|r| r.as_str()).collect();
        let off: Vec<&str> = self.degradation.disabled().map(Feature::as_str).collect();
        let (reasons, off) = (reasons.join(", "), off.join(", "));
        match change.to {
            Mode::Full => {
                tracing::info!(
                    event = "full_mode_restored",
                    from = change.from.as_str(),
                    "everything is switched on again"
                );
            }
            Mode::Degraded => {
                tracing::warn!(
                    event = "degraded_mode_entered",
                    from = change.from.as_str(),
                    reasons,
                    off,
                    "the fleet does without something for a while"
                );
            }
            Mode::Maintenance => {
                tracing::info!(
                    event = "maintenance_mode_entered",
                    from = change.from.as_str(),
                    reasons,
                    off,
                    "an operator drained the fleet"
                );
            }
        }
        self.without(figures::without(&self.degradation)).await
    }

    /// What the daemon sees by itself waits for no commit: a disk that takes nothing must not hold up what looks at it.
    async fn tell_by_itself(&mut self, changes: Vec<Change>) {
        drop(self.tell(changes, Actor::DAEMON).await);
    }

    /// Alerts have changed: on record and on disk first, then for everybody to see.
    async fn tell(&mut self, changes: Vec<Change>, actor: Actor) -> Vec<OnRecord> {
        let mut on_record = Vec::new();
        for entry in changes.iter().filter_map(entry) {
            on_record.push(self.recorder.put(actor.clone(), entry).await);
        }
        if !changes.is_empty() {
            keep::save(self.file.clone(), &self.alerts).await;
        }
        self.show();
        let sent = self.config.current().alerts.webhook_url.is_some();
        for change in &changes {
            log_change(change);
            if sent {
                self.webhook.send(change, Timestamp::now());
            }
        }
        on_record
    }

    fn show(&self) {
        self.observations.show(
            self.alerts.active(),
            self.alerts.recent(observations::RECENT),
            Degraded::of(&self.degradation),
        );
    }
}

fn is_on(config: &Config) -> bool {
    config.feature_flags.health_monitoring_enabled
}

fn evaluation(
    figures: &Figures,
    alerts: Vec<Alert>,
    at: Timestamp,
    made_up: bool,
) -> HealthEvaluation {
    HealthEvaluation {
        timestamp: at,
        metrics: figures.metrics(at, &alerts),
        active_alerts: alerts.len() as u64,
        health_evaluated: true,
        made_up,
        overall_status: alerts::overall(&alerts).into(),
        health_score: alerts::score(figures, &alerts),
        alerts,
    }
}

/// One line for the fleet, one for each bot in its own file.
fn log(sample: &Sample, alerts: usize) {
    let (look, vitals) = (&sample.look, &sample.vitals);
    let mib = |bytes: u64| bytes >> 20;
    tracing::info!(
        event = "health_check",
        cpu = look.host.host.cpu.map(figures::rounded),
        memory = look.host.host.memory.map(figures::rounded),
        disk_free_mb = look.disk.map(|disk| mib(disk.free)),
        bots = vitals.bots.len(),
        active_bots = sample.figures.active_bots,
        queued = vitals.queued,
        running = vitals.running,
        oldest_seconds = figures::rounded(vitals.oldest_seconds),
        throughput_per_minute = figures::rounded(sample.rates.throughput_per_minute),
        failure_rate = sample.rates.failure_rate.map(figures::rounded),
        routing_us_p50 = vitals.routing.p50_us,
        routing_us_p99 = vitals.routing.p99_us,
        alerts,
        "health was looked at"
    );
    for bot in vitals.bots.iter().take(MAX_LOGGED_BOTS) {
        let used = look.bots.get(&bot.id);
        tracing::info!(
            event = "health_check",
            bot_id = %bot.id,
            state = bot.actual.as_str(),
            pid = bot.pid,
            tasks = bot.tasks,
            cpu = used.and_then(|used| used.cpu).map(figures::rounded),
            memory_mb = used.map(|used| mib(used.rss_bytes)),
            processes = used.map(|used| used.processes),
            threads = used.map(|used| used.threads),
            open_files = used.and_then(|used| used.descriptors),
            "the bot was looked at"
        );
    }
}

/// The record of an alert that was raised, or is over. One that got worse or better is the same alert.
fn entry(change: &Change) -> Option<Entry> {
    let action = match change.what {
        Changed::Raised => AuditAction::AlertGenerated,
        Changed::Over | Changed::ByHand => AuditAction::AlertResolved,
        Changed::Level(_) => return None,
    };
    let alert = &change.alert;
    let entry = Entry::new(Timestamp::now(), action, Actor::DAEMON, &*alert.alert_id);
    let entry = match (change.what, alert.level) {
        (Changed::Raised, AlertLevel::Critical) => entry.at_level(AuditLevel::Critical),
        (Changed::Raised, AlertLevel::Warning) => entry.at_level(AuditLevel::Warning),
        _ => entry,
    };
    Some(entry.with(&json!({"title": alert.title, "level": alert.level.as_str()})))
}

fn log_change(change: &Change) {
    let alert = &change.alert;
    let (id, kind, level) = (&*alert.alert_id, &*alert.alert_type, alert.level.as_str());
    let (title, what) = (&*alert.title, &*alert.message);
    match change.what {
        Changed::Raised => {
            tracing::warn!(
                event = "alert_generated",
                alert_id = id,
                alert_type = kind,
                alert_level = level,
                title,
                what,
                "an alert was raised"
            );
        }
        Changed::Level(before) if alert.level > before => {
            tracing::warn!(
                event = "alert_level_changed",
                alert_id = id,
                alert_type = kind,
                alert_level = level,
                before = before.as_str(),
                title,
                what,
                "an alert got worse"
            );
        }
        Changed::Level(before) => {
            tracing::info!(
                event = "alert_level_changed",
                alert_id = id,
                alert_type = kind,
                alert_level = level,
                before = before.as_str(),
                title,
                what,
                "an alert got better"
            );
        }
        Changed::Over | Changed::ByHand => {
            let by = alert.resolved_by.as_deref();
            tracing::info!(
                event = "alert_resolved",
                alert_id = id,
                alert_type = kind,
                alert_level = level,
                by,
                title,
                what,
                "an alert is resolved"
            );
        }
    }
}

/// Alerts of one level.
pub fn count(alerts: &[Alert], level: AlertLevel) -> u64 {
    alerts.iter().filter(|alert| alert.level == level).count() as u64
}
