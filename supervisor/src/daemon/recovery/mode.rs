//! Recovery mode: the store can't be used. The admin socket answers what helps, everything else says why it can't;
//! nothing is changed until a backup is restored, by a person or, where that is wanted, by itself.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use deia::api::{
    Deployments, Health, HealthState, Probe, RollbackAnswer, RollbackRequest, RollbackState,
};
use deia::config::Config;
use deia::time::Timestamp;
use futures_util::StreamExt as _;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use tokio::sync::{mpsc, watch};

use super::desk::{self, Bounds, Desk, Ready, Wanted};
use crate::backup::{Archives, By};
use crate::daemon::home::HomeLock;
use crate::daemon::rollback::{InRecovery, Place};
use crate::daemon::service::Notifier;
use crate::daemon::start::Unusable;
use crate::daemon::upgrade::{self, Attempt};
use crate::fleet::pids::BotPids;
use crate::http::accept::{Edge, EdgeLimits, ServerHandle, serve_admin};
use crate::http::caller::Caller;
use crate::http::error::ApiFailure;
use crate::http::extract::OptionalJsonBody;
use crate::http::guard::{Books, Guard};
use crate::http::peer::Admission;
use crate::http::routes::deployments::list;
use crate::http::routes::recovery as routes;
use crate::http::routes::rollback::not_rolled_back;
use crate::logs::LogHandle;
use crate::sigmask;
use crate::tokens::TokenBook;

/// Requests in flight may take this long.
const GRACE: Duration = Duration::from_secs(2);
/// Between two signs of life, where nobody says how often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// The next process can't be executed.
const EXIT_NO_RELEASE: u8 = 71;

/// See the module.
pub struct Mode {
    why: String,
    config: Config,
    automatic: u32,
    desk: Desk,
    ready: mpsc::Receiver<Ready>,
    /// Releases that are to be started with the store as it is.
    alone: mpsc::Receiver<Attempt>,
    place: Place,
    home: crate::daemon::home::Home,
    _lock: HomeLock,
    admin: ServerHandle,
    /// Kept: who serves asks them.
    _watched: (watch::Sender<Arc<Guard>>, watch::Sender<EdgeLimits>),
    pids: BotPids,
    signals: Signals,
    notifier: Option<Notifier>,
}

impl Mode {
    /// Begins to answer.
    ///
    /// # Errors
    /// Signals can't be listened to.
    pub(in crate::daemon) fn start(
        unusable: Unusable,
        config: Config,
        has_config: bool,
        automatic: u32,
        place: Place,
    ) -> io::Result<Self> {
        let Unusable {
            why,
            home,
            lock,
            admin,
            resumed,
            last_end,
            pids,
        } = unusable;
        let (ready_to, ready) = mpsc::channel(1);
        let bounds = Bounds::new(&config.persistence, has_config);
        let desk = Desk::new(desk::Parts {
            home: home.clone(),
            archives: Archives::new(home.backups()),
            backups: None,
            last_end,
            unusable: Some(why.clone()),
            bounds: Box::new(move || bounds.clone()),
            ready: ready_to,
            restoring: Arc::default(),
            progress: Arc::default(),
        });
        let (rollbacks, alone) =
            InRecovery::new(home.clone(), place.clone(), desk.clone(), pids.clone());
        // The admin socket alone is served, which asks for no token.
        let books = Books {
            tokens: Arc::new(TokenBook::load(&home.tokens())),
            limiter: Arc::default(),
            admin_socket: home.admin_socket(),
        };
        let guard = Guard::new(None, &config.http, &config.rate_limits, books);
        let (guard_to, guard) = watch::channel(Arc::new(guard));
        let (limits_to, limits) = watch::channel(EdgeLimits::from(&config.http));
        let admission = {
            let pids = pids.clone();
            Admission::of_this_process(Arc::new(move |pid| pids.contains(pid)))
        };
        let signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2])?;
        sigmask::unblock();
        let edge = Edge {
            router: router(desk.clone(), rollbacks),
            guard,
            limits,
            meter: Arc::default(),
            tls: None,
        };
        let admin = serve_admin(admin, resumed, edge, Arc::new(admission));
        tracing::error!(
            event = "recovery_mode_entered",
            reason = why,
            "the store can't be used: only restores are answered, on the admin socket; do: deiactl backup list, then deiactl restore ID (or deiactl rollback)"
        );
        Ok(Self {
            why,
            config,
            automatic,
            desk,
            ready,
            alone,
            place,
            home,
            _lock: lock,
            admin,
            _watched: (guard_to, limits_to),
            pids,
            signals,
            notifier: Notifier::from_environment()?,
        })
    }

    /// Serves until a backup is restored, or it is told to end. Returns only in the latter case.
    pub async fn run_to_end(mut self, log: &LogHandle) -> ExitCode {
        // It runs and answers: a manager that waited for more would kill it over and over.
        let status = format!("recovery mode: {}", self.why.replace(char::is_control, " "));
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        let every = sd_notify::watchdog_enabled().map_or(SIGN_OF_LIFE, |time| time / 2);
        if self.config.disaster_recovery.automatic {
            tokio::spawn(by_itself(
                self.desk.clone(),
                self.config.clone(),
                self.automatic,
            ));
        }
        loop {
            tokio::select! {
                Some(signal) = self.signals.next() => {
                    if signal == SIGTERM || signal == SIGINT {
                        return self.stop().await;
                    }
                }
                Some(Ready { staged, then }) = self.ready.recv() => {
                    let home = self.home.clone();
                    let noted = tokio::task::spawn_blocking(move || staged.commit(&home)).await;
                    match noted {
                        Ok(Ok(_)) => self.pin(then).await,
                        Ok(Err(why)) => {
                            tracing::error!(event = "restore_failed", reason = why, "the restore could not be noted: nothing was changed");
                        }
                        Err(_) => {}
                    }
                    return self.go_on(log).await;
                }
                Some(attempt) = self.alone.recv() => {
                    self.pin(Some(attempt)).await;
                    return self.go_on(log).await;
                }
                () = tokio::time::sleep(every) => self.tell(&[NotifyState::Watchdog]),
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(states);
        }
    }

    async fn stop(self) -> ExitCode {
        self.tell(&[NotifyState::Stopping]);
        self.admin.shutdown(GRACE).await;
        // One that is left over is replaced at the next start.
        let _ = std::fs::remove_file(self.home.admin_socket());
        tracing::info!(
            event = "recovery_mode_left",
            "stopped; the store is as it was"
        );
        ExitCode::SUCCESS
    }

    /// The release that the next start is, where it is another one. Where it can't be pinned, this one goes on with the
    /// restored store, and switches then.
    async fn pin(&self, then: Option<Attempt>) {
        let Some(attempt) = then else { return };
        let place = self.place.clone();
        let pin = move || place.releases.pin(&attempt.to, &place.invoked);
        let pinned = tokio::task::spawn_blocking(pin).await;
        if let Ok(Err(e)) = pinned {
            tracing::error!(event = "rollback_not_pinned", error = %e, "the earlier release could not be pinned");
        }
    }

    /// This program again: its start swaps the store, and is a usual one then.
    async fn go_on(self, log: &LogHandle) -> ExitCode {
        self.tell(&[NotifyState::Watchdog]);
        self.admin.shutdown(GRACE).await;
        log.flush();
        sigmask::block();
        let Err(e) = upgrade::become_again(None, &self.pids);
        tracing::error!(event = "restore_restarts", error = %e, "this program can't be executed again; ending, to be started again");
        ExitCode::from(EXIT_NO_RELEASE)
    }
}

/// Restores the newest backup that is good, without being asked; a few times in a row at most.
async fn by_itself(desk: Desk, config: Config, before: u32) {
    let rules = &config.disaster_recovery;
    let pause = Duration::from_secs(rules.recovery_backoff_seconds);
    let listed = desk.list(
        |found| found.manifest.is_ok(),
        rules.max_recovery_attempts as usize,
    );
    let backups = listed.await.unwrap_or_default();
    for (n, backup) in (before..rules.max_recovery_attempts).zip(backups) {
        tokio::time::sleep(pause).await;
        let id = backup.backup_id.clone();
        tracing::warn!(
            event = "recovery_attempt",
            attempt = n + 1,
            backup_id = id,
            "restoring a backup without being asked (disaster_recovery.automatic)"
        );
        let wanted = Wanted::Backup(id);
        if desk
            .restore(wanted, false, By::itself(), n + 1)
            .await
            .is_ok()
        {
            return;
        }
    }
    tracing::error!(
        event = "recovery_given_up",
        "no backup could be restored without being asked; it is left to a person"
    );
}

fn router(desk: Desk, rollbacks: InRecovery) -> Router {
    let rollbacks = Router::new()
        .route("/api/rollback", get(rollback_state).post(rollback))
        .route("/api/deployments", get(deployments))
        .with_state(rollbacks);
    Router::new()
        .merge(rollbacks)
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/api/disaster-recovery/status", get(routes::status))
        .route(
            "/api/disaster-recovery/backup-history",
            get(routes::history),
        )
        .route(
            "/api/disaster-recovery/restore-point/{id}",
            get(routes::restore_point_view),
        )
        .route("/api/disaster-recovery/verify/{id}", post(routes::verify))
        .route("/api/disaster-recovery/restore/{id}", post(routes::restore))
        .fallback(refuse)
        .with_state(desk)
}

fn reasons(desk: &Desk) -> Vec<String> {
    vec![format!(
        "recovery mode: {}",
        desk.unusable().unwrap_or_default()
    )]
}

async fn health(State(desk): State<Desk>) -> Response {
    let health = Health {
        status: HealthState::Degraded,
        reasons: reasons(&desk),
        bot_id: String::new(),
        timestamp: Timestamp::now(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(health)).into_response()
}

async fn live() -> axum::Json<Probe> {
    axum::Json(Probe {
        status: "ok".into(),
        reasons: Vec::new(),
        timestamp: Timestamp::now(),
    })
}

async fn ready(State(desk): State<Desk>) -> Response {
    let probe = Probe {
        status: "unavailable".into(),
        reasons: reasons(&desk),
        timestamp: Timestamp::now(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(probe)).into_response()
}

async fn rollback(
    State(rollbacks): State<InRecovery>,
    caller: Caller,
    OptionalJsonBody(request): OptionalJsonBody<RollbackRequest>,
) -> Result<axum::Json<RollbackAnswer>, ApiFailure> {
    let begun = rollbacks.request(request, caller.to_string()).await;
    begun.map(axum::Json).map_err(|why| not_rolled_back(&why))
}

async fn deployments(
    State(rollbacks): State<InRecovery>,
) -> Result<axum::Json<Deployments>, ApiFailure> {
    list(rollbacks.deployments()).await
}

async fn rollback_state(
    State(rollbacks): State<InRecovery>,
) -> Result<axum::Json<RollbackState>, ApiFailure> {
    let unreadable = |why: String| ApiFailure::unavailable("rollback_unreadable", why, 60);
    rollbacks.state().await.map(axum::Json).map_err(unreadable)
}

async fn refuse(State(desk): State<Desk>, _: Request) -> ApiFailure {
    let why = desk.unusable().unwrap_or_default();
    ApiFailure::unavailable(
        "recovery_mode",
        format!(
            "recovery mode, only restores are answered: {why}. Do: deiactl backup list, then deiactl restore ID; or deiactl rollback"
        ),
        30,
    )
}
