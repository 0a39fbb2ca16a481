//! The daemon put together, and its end.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::config::{Config, Http};
use deia::time::Timestamp;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::command::{Command, MAX_COMMANDS};
use super::engine::{Ended, Engine, Parts};
use super::home::{Home, HomeLock};
use super::recovery::last_end::LastEnd;
use super::recovery::{self as recovering, Desk, desk, last_end};
use super::rollback::{self, Rollbacks};
use super::sockets::{Listeners, resume};
use super::upgrade::{self, Departure, Handover, Plan, Releases, Upgrader};
use super::validation::Validation;
use super::{deployed, estate, health, reload, service as manager, signals};
use crate::audit::{self, Keeper};
use crate::backup::restore::{Journal, Phase};
use crate::backup::{self, Backups};
use crate::external::Signers;
use crate::fleet::cgroup::Cgroups;
use crate::fleet::exits::{self, Exits};
use crate::fleet::limits::LimitWatch;
use crate::fleet::oom::{Evidence, OomWatch};
use crate::fleet::outputs::Outputs;
use crate::fleet::pids::BotPids;
use crate::fleet::proof::FleetKey;
use crate::fleet::results::Results;
use crate::fleet::sessions::{self, Programs, Sessions};
use crate::fleet::spawn::Spawner;
use crate::fleet::strays::{self, Strays};
use crate::fleet::{MAX_EVENTS, confinement};
use crate::health as monitor;
use crate::hive;
use crate::http::accept::{
    Edge, EdgeLimits, Resumed, ServerHandle, serve_admin, serve_programs, serve_tcp,
};
use crate::http::guard::{Books, Guard};
use crate::http::lasting::Lasting;
use crate::http::meter::HttpMeter;
use crate::http::peer::{Admission, Ancestry, is_descendant, parent_of};
use crate::http::routes::{Api, service};
use crate::http::tls::Certificate;
use crate::logs::LogHandle;
use crate::settings::Settings;
use crate::sigmask;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Store, StoreError};
use crate::tokens::TokenBook;
use crate::usage::Usage;

/// The store can't be trusted any more: a new start recovers.
const EXIT_STORE: u8 = 70;

/// Neither the new release nor this one could be executed.
const EXIT_NO_RELEASE: u8 = 71;

/// Requests in flight may take this long at the end.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// ... and before another process goes on with their connections.
const YIELD_GRACE: Duration = Duration::from_secs(10);

/// A signal that has just come is acted on within this.
const SIGNAL_SETTLES: Duration = Duration::from_millis(20);

/// What killed bots left behind is looked for at most this long at the end.
const STRAYS_GRACE: Duration = Duration::from_secs(2);

/// Transactions whose outcomes may wait for the main loop.
const MAX_COMMITTED: usize = 64;

/// Connections of programs of bots that may wait to be served.
const MAX_PROGRAMS: usize = 64;

/// What a start has when it begins.
pub(super) struct Begin {
    pub home: Home,
    pub lock: HomeLock,
    pub settings: Settings,
    /// `--config`.
    pub config: Option<PathBuf>,
    pub epoch: Instant,
    pub log: LogHandle,
    pub releases: Releases,
    pub invoked: PathBuf,
    pub arguments: Vec<OsString>,
    /// The last restore, where there was one.
    pub journal: Option<Journal>,
}

/// Why there is no daemon.
pub(super) enum NoStart {
    /// It can't be one here.
    Io(io::Error),
    /// The store can't be used.
    Unusable(Box<Unusable>),
}

impl From<io::Error> for NoStart {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What is left of a start where the store can't be used.
pub(super) struct Unusable {
    pub why: String,
    pub home: Home,
    pub lock: HomeLock,
    pub admin: Arc<UnixListener>,
    pub resumed: Resumed<UnixStream>,
    pub last_end: LastEnd,
    pub pids: BotPids,
}

/// Whether a backup mends it: not what the disk or another process is in the way of.
fn is_unusable(error: &OpenError) -> bool {
    match error {
        OpenError::NotAStore { .. } | OpenError::Damaged { .. } | OpenError::TooNew { .. } => true,
        OpenError::InUse { .. } | OpenError::Io { .. } | OpenError::Engine { .. } => false,
    }
}

/// A daemon that runs.
pub(super) struct Daemon {
    home: Home,
    lock: HomeLock,
    listeners: Listeners,
    engine: JoinHandle<Result<Ended, StoreError>>,
    tcp: ServerHandle,
    admin: ServerHandle,
    programs: ServerHandle,
    accepts: JoinHandle<()>,
    store: Arc<dyn Store>,
    keeper: Keeper,
    tokens: Arc<TokenBook>,
    commands: mpsc::Sender<Command>,
    notifier: Option<manager::Notifier>,
    pids: BotPids,
    fleet: Arc<str>,
    releases: Releases,
    invoked: PathBuf,
    arguments: Vec<OsString>,
    plans: mpsc::Receiver<Plan>,
    restores: mpsc::Receiver<desk::Ready>,
    leaving: watch::Sender<bool>,
    stops: watch::Receiver<u32>,
}

/// Puts a daemon together; it is ready when this returns.
pub(super) async fn start(begin: Begin, handover: Option<&Handover>) -> Result<Daemon, NoStart> {
    let Begin {
        home,
        lock,
        settings,
        config: config_file,
        epoch,
        log,
        releases,
        invoked,
        arguments,
        journal,
    } = begin;
    let to_prove = journal.filter(|journal| journal.phase == Phase::Check);
    let config = settings.current();
    let certificate = Certificate::load(&config.http.tls, &home.root).await;
    let certificate = certificate.map_err(io::Error::other)?.map(Arc::new);
    let key = FleetKey::load_or_create(&home.fleet_key())?;
    let results = Results::new(&home.spool(), key.clone());
    let listeners = Listeners::open(&home, config.http.listen, handover).await?;
    deia::failpoint!("start.listening");
    let address = listeners.tcp.local_addr()?;
    let (resumed_tcp, resumed_admin) = resume(handover)?;
    let (committed_to, committed) = mpsc::channel(MAX_COMMITTED);
    let database = home.database();
    let last_end = last_end::look(&home, handover.is_some());
    let opened = tokio::task::spawn_blocking({
        let database = database.clone();
        move || SqliteStore::open(&database, committed_to)
    });
    let looked = tokio::task::spawn_blocking({
        let (key, results, spool) = (key.clone(), results.clone(), home.spool());
        move || estate::look(&key, &results, &spool)
    });
    let opened = opened.await.map_err(io::Error::other)?;
    let sqlite = match opened {
        Ok(sqlite) => Arc::new(sqlite),
        Err(e) if is_unusable(&e) => {
            return Err(NoStart::Unusable(Box::new(Unusable {
                why: e.to_string(),
                home,
                lock,
                admin: listeners.admin,
                resumed: resumed_admin,
                last_end,
                pids: BotPids::default(),
            })));
        }
        Err(e) => return Err(io::Error::other(e).into()),
    };
    let store: Arc<dyn Store> = sqlite.clone();
    let estate = looked.await.map_err(io::Error::other)?;
    deia::failpoint!("start.opened");
    let ours = home.clone();
    let begun = tokio::task::spawn_blocking(move || last_end::begin(&ours, last_end));
    begun.await.map_err(io::Error::other)?;

    let (commands_to, commands) = mpsc::channel(MAX_COMMANDS);
    let (events_to, events) = mpsc::channel(MAX_EVENTS);
    let (condition_to, condition) = watch::channel(health::Condition::default());
    let (probing_to, probing) = watch::channel(super::vitals::Probing::default());
    let outputs = Outputs::default();
    let pids = BotPids::default();
    // Before anything looks for strays: after a re-execution they are this process's children.
    for bot in &estate.bots {
        pids.insert(bot.process.pid.unsigned_abs());
    }
    if let Some(guard) = handover.and_then(|handover| handover.guard) {
        pids.insert(guard);
        tokio::spawn(exits::reap_when_ended(guard, pids.clone()));
    }
    let cgroups = tokio::task::spawn_blocking(Cgroups::detect);
    let cgroups = cgroups.await.map_err(io::Error::other)?;
    let confinement = confinement::look(&cgroups);
    tracing::info!(event = "confinement", level = %confinement.summary, "how far bots can be confined here; `deiactl doctor` says more");
    let cgroups = cgroups.ok().map(Arc::new);
    let limit_watch = LimitWatch::start(cgroups.clone(), events_to.clone())?;
    let evidence = Arc::new(Evidence {
        watch: OomWatch::default(),
        cgroups: cgroups.clone(),
    });
    let fleet: Arc<str> = key.fleet().into();
    let strays = Strays::start(pids.clone(), fleet.to_string())?;
    let spawner = Spawner::start(
        PathBuf::from("/proc/self/exe"),
        key.clone(),
        pids.clone(),
        cgroups,
        events_to.clone(),
    )?;
    let exits = Exits {
        pids: pids.clone(),
        strays: strays.clone(),
        results,
        fleet: fleet.clone(),
        evidence: evidence.clone(),
        events: events_to.clone(),
    };
    let (programs_to, programs_come) = mpsc::channel(MAX_PROGRAMS);
    let programs = Programs {
        owner: owner_of(pids.clone()),
        to: programs_to,
    };
    let sessions = Sessions {
        key: key.clone(),
        events: events_to,
        outputs: outputs.clone(),
        pids: pids.clone(),
        programs,
    };
    let accepts = tokio::spawn(sessions::accept(listeners.bots.clone(), sessions));
    tokio::spawn(strays.watch());

    let (limits_to, limits) = watch::channel(edge_limits(&config.http));
    let tokens = Arc::new(TokenBook::load(&home.tokens()));
    let books = Books {
        tokens: tokens.clone(),
        limiter: Arc::default(),
        admin_socket: home.admin_socket(),
    };
    let guard = move |config: &Config| {
        let limits = &config.rate_limits;
        Arc::new(Guard::new(
            Some(address),
            &config.http,
            limits,
            books.clone(),
        ))
    };
    let (guard_to, guard_now) = watch::channel(guard(&config));
    let notifier = manager::Notifier::from_environment()?;
    let link = notifier.clone().map(manager::Link::new);
    let census = link.as_ref().map(|link| link.census.subscribe());
    let signers = Signers::default();
    let parts = Parts {
        home: home.clone(),
        config,
        store: store.clone(),
        committed,
        commands,
        events,
        exits,
        spawner,
        outputs: outputs.clone(),
        estate,
        limit_watch,
        evidence,
        closed: config_file.clone().into_iter().collect(),
        epoch,
        condition: condition_to,
        probing: probing_to,
        service: link,
        hold: to_prove
            .is_some()
            .then_some("a restored backup is being checked: the fleet waits"),
        signers: signers.clone(),
    };
    let (ready_to, ready) = oneshot::channel();
    let engine = tokio::spawn(Engine::run(parts, ready_to));
    if ready.await.is_err() {
        let why = match engine.await {
            Ok(Err(e)) if e.is_damage() => format!("the queue could not be read: {e}"),
            Ok(Err(e)) => return Err(io::Error::other(e).into()),
            _ => return Err(io::Error::other("a fault of the daemon ended its main loop").into()),
        };
        accepts.abort();
        drop(tokio::task::spawn_blocking(move || store.close()).await);
        return Err(NoStart::Unusable(Box::new(Unusable {
            why,
            home,
            lock,
            admin: listeners.admin,
            resumed: resumed_admin,
            last_end,
            pids,
        })));
    }

    let config = reload::start(
        settings,
        commands_to.clone(),
        log.clone(),
        certificate.clone(),
        move |config: &Config| {
            limits_to.send_replace(edge_limits(&config.http));
            guard_to.send_replace(guard(config));
        },
    );
    if let (Some(notifier), Some(census)) = (notifier.clone(), census) {
        let (condition, config) = (condition.clone(), config.clone());
        tokio::spawn(manager::show_status(notifier, census, condition, config));
    }
    let (upgrader, plans) = Upgrader::new(upgrade::Parts {
        home: home.root.clone(),
        config: config_file,
        database,
        releases: releases.clone(),
        invoked: invoked.clone(),
        pids: pids.clone(),
        store: sqlite,
        commands: commands_to.clone(),
    });
    let keeper = Keeper::start(audit::Parts {
        store: store.clone(),
        file: home.root.join(&config.current().audit.log_file),
        checkpoint: home.audit_head(),
        config: config.clone(),
    });
    let (leaving, left) = watch::channel(false);
    let validation = Validation::new(commands_to.clone());
    hive::start(hive::Parts {
        hive: home.hive(),
        commands: commands_to.clone(),
        store: store.clone(),
        config: config.clone(),
        validation: validation.clone(),
        leaving: left.clone(),
        epoch,
    });
    let backups = Backups::new(&home, pids.clone(), {
        let config = config.clone();
        Box::new(move || config.status().config_file.map(PathBuf::from))
    });
    let sweeping = backups.clone();
    let swept = tokio::task::spawn_blocking(move || sweeping.sweep());
    swept.await.map_err(io::Error::other)?;
    tokio::spawn(backup::schedule(
        backups.clone(),
        config.clone(),
        left.clone(),
    ));
    let (restores_to, restores) = mpsc::channel(1);
    let backed_up = backups.watch();
    let recovery = Desk::new(desk::Parts {
        home: home.clone(),
        archives: backups.archives().clone(),
        backups: Some(backups),
        last_end,
        unusable: None,
        bounds: {
            let config = config.clone();
            Box::new(move || {
                let has_config = config.status().config_file.is_some();
                desk::Bounds::new(&config.current().persistence, has_config)
            })
        },
        ready: restores_to,
        restoring: Arc::default(),
        progress: Arc::default(),
    });
    let meter = Arc::new(HttpMeter::default());
    let watched = monitor::start(monitor::Parts {
        commands: commands_to.clone(),
        config: config.clone(),
        store: store.clone(),
        home: home.clone(),
        probing,
        backups: backed_up,
    });
    let rollbacks = Rollbacks::new(rollback::Parts {
        home: home.clone(),
        upgrader: upgrader.clone(),
        desk: recovery.clone(),
        commands: commands_to.clone(),
        condition: condition.clone(),
        busy: Mutex::new(()),
    });
    let api = Arc::new(Api {
        health: watched,
        commands: commands_to.clone(),
        store: store.clone(),
        outputs,
        config: config.clone(),
        validation,
        condition,
        usage: Usage::default(),
        lasting: Lasting::new(limits.clone()),
        tokens: tokens.clone(),
        upgrader: upgrader.clone(),
        rollbacks: rollbacks.clone(),
        leaving: left,
        recovery,
        home: home.root.clone(),
        epoch,
        began: Timestamp::now(),
        meter: meter.clone(),
        log: log.clone(),
        port: address.port(),
        confinement,
        audit_head: home.audit_head(),
        signers,
    });
    let (router, _) = service(api);
    let in_force = config.clone();
    let admission = {
        let pids = pids.clone();
        Admission::of_this_process(Arc::new(move |pid| pids.contains(pid)))
    };
    let edge = Edge {
        router,
        guard: guard_now,
        limits,
        meter,
        tls: certificate.map(|certificate| certificate.current()),
    };
    tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.note_uses().await }
    });
    // Before anybody can learn that there is a daemon: a signal without a handler would end it.
    let (stops_to, stops) = watch::channel(0);
    signals::listen(commands_to.clone(), config, log, upgrader, stops_to)?;
    sigmask::unblock();
    let tcp = serve_tcp(listeners.tcp.clone(), resumed_tcp, edge.clone());
    let admin = serve_admin(
        listeners.admin.clone(),
        resumed_admin,
        edge.clone(),
        Arc::new(admission),
    );
    let programs = serve_programs(programs_come, edge);
    tracing::info!(
        event = "ready",
        pid = std::process::id(),
        version = deia::VERSION,
        listen = %address,
        home = %home.root.display(),
        "deia is ready"
    );
    deia::failpoint!("start.ready");
    let switch = releases.attempt().or_else(|| rollback::come_to(&home));
    became_ready(
        &releases,
        &invoked,
        handover.is_some() && to_prove.is_none(),
    )
    .await;
    if let Some(journal) = to_prove {
        let (store, commands) = (store.clone(), commands_to.clone());
        tokio::spawn(recovering::prove(home.clone(), journal, store, commands));
    }
    deployed::start(&releases, switch, in_force);
    tokio::spawn(rollbacks.go_on());
    // Nobody may be listening: then there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(Daemon {
        home,
        lock,
        listeners,
        engine,
        tcp,
        admin,
        programs,
        accepts,
        store,
        keeper,
        tokens,
        commands: commands_to,
        notifier,
        pids,
        fleet,
        releases,
        invoked,
        arguments,
        plans,
        restores,
        leaving,
        stops,
    })
}

/// Which bot's process another one descends from: a bot reaps what it started, so that nothing of it
/// leaves its tree.
fn owner_of(pids: BotPids) -> Arc<dyn Fn(u32) -> Option<u32> + Send + Sync> {
    Arc::new(
        move |pid| match is_descendant(pid, parent_of, |pid| pids.contains(pid)) {
            Ok(Ancestry::Descendant(bot)) => Some(bot),
            Ok(Ancestry::Unrelated) | Err(_) => None,
        },
    )
}

/// A switch that is under way has succeeded, or this is the release that was gone back to.
async fn became_ready(releases: &Releases, invoked: &Path, handed_over: bool) {
    let (releases, invoked) = (releases.clone(), invoked.to_owned());
    let ended = tokio::task::spawn_blocking(move || {
        let ended = releases.succeed(&invoked);
        match ended {
            Ok(Some(ended)) => Some(ended),
            Ok(None) => releases.view(&invoked).last_upgrade.filter(|_| handed_over),
            Err(e) => {
                tracing::error!(event = "ledger_not_written", error = %e, "the ledger of releases could not be written; it is removed, so that nobody takes this release for one that did not get ready");
                releases.forget();
                None
            }
        }
    });
    match ended.await {
        Ok(Some(ended)) if ended.succeeded => {
            tracing::info!(
                event = "upgrade_completed",
                from = ended.from_version,
                to = ended.to_version,
                "another release runs"
            );
        }
        Ok(Some(ended)) => {
            tracing::error!(
                event = "upgrade_failed",
                from = ended.from_version,
                to = ended.to_version,
                reason = ended.error,
                "the new release was left; the one before goes on"
            );
        }
        Ok(None) | Err(_) => {}
    }
}

fn edge_limits(http: &Http) -> EdgeLimits {
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    EdgeLimits::from(http).within_open_files(open_files.unwrap_or(u64::MAX))
}

impl Daemon {
    /// Serves until it is told to end.
    pub(super) async fn run_to_end(mut self, log: &LogHandle) -> ExitCode {
        tokio::select! {
            ended = &mut self.engine => self.end(ended).await,
            Some(plan) = self.plans.recv() => self.depart(plan, log).await,
            Some(ready) = self.restores.recv() => self.restore(ready, log).await,
        }
    }

    /// Becomes another release. Returns only when it could not, and neither this one again.
    async fn depart(self, plan: Plan, log: &LogHandle) -> ExitCode {
        tracing::info!(event = "upgrade_switching", to = plan.attempt.to_version, path = %plan.attempt.to.display(), "switching to another release");
        self.leaving.send_replace(true);
        // Who dials the bots' socket from now on waits for the next process; and who was let in is served.
        self.accepts.abort();
        let (tcp, admin, programs) = tokio::join!(
            self.tcp.give_back(YIELD_GRACE),
            self.admin.give_back(YIELD_GRACE),
            self.programs.shutdown(YIELD_GRACE)
        );
        let cut = tcp.1.cut + admin.1.cut + programs.cut;
        if cut > 0 {
            tracing::warn!(
                event = "upgrade_cut",
                connections = cut,
                "connections did not come to an end of what they were doing and were cut"
            );
        }
        self.tokens.save_uses().await;
        // It may be ending by itself: then it does not want to know.
        let _ = self.commands.send(Command::Leave).await;
        let ended = self.engine.await;
        if !matches!(ended, Ok(Ok(Ended::Left))) {
            self.keeper.finish().await;
            return finish(ended, self.store, &self.home, &self.pids, &self.fleet).await;
        }
        self.keeper.finish().await;
        deia::failpoint!("upgrade.left");
        let store = self.store;
        // A panic in it was reported by the runtime; what was acknowledged is on disk.
        drop(tokio::task::spawn_blocking(move || store.close()).await);
        deia::failpoint!("upgrade.closed");
        let sockets = match self.listeners.sockets(&self.lock) {
            Ok(sockets) => sockets,
            Err(e) => {
                tracing::error!(event = "upgrade_failed", error = %e, "the listeners can't be handed over; ending, to be started again");
                return ExitCode::from(EXIT_NO_RELEASE);
            }
        };
        if let Some(notifier) = &self.notifier {
            // What comes takes as long as a start.
            notifier.tell(&[sd_notify::NotifyState::Watchdog]);
        }
        log.flush();
        let mut departure = Departure {
            handover: Handover {
                sockets,
                tcp: tcp.0,
                admin: admin.0,
                invoked: self.invoked,
                arguments: self.arguments,
                guard: None,
            },
            attempt: plan.attempt,
            releases: self.releases,
            pids: self.pids,
        };
        let prepared = departure.prepare();
        // From here on nothing is started, which would take signals again for a moment.
        sigmask::block();
        // A stop that came since the main loop ended has met nobody.
        tokio::time::sleep(SIGNAL_SETTLES).await;
        if *self.stops.borrow() > 0 {
            sigmask::pass_on_stop();
        }
        let error = match prepared {
            Ok(()) => departure.depart(),
            Err(e) => departure.stay(&format!("its ledger: {e}")),
        };
        tracing::error!(event = "upgrade_failed", error = %error, "no release can be executed; ending, to be started again");
        ExitCode::from(EXIT_NO_RELEASE)
    }

    /// Stops the fleet, notes the restore and executes itself: the next start swaps the store before it opens it. Returns
    /// only when it could not.
    async fn restore(self, ready: desk::Ready, log: &LogHandle) -> ExitCode {
        let desk::Ready { staged, then } = ready;
        self.leaving.send_replace(true);
        let (tcp, admin, programs) = tokio::join!(
            self.tcp.give_back(YIELD_GRACE),
            self.admin.give_back(YIELD_GRACE),
            self.programs.shutdown(YIELD_GRACE)
        );
        let cut = tcp.1.cut + admin.1.cut + programs.cut;
        if cut > 0 {
            tracing::warn!(
                event = "restore_cut",
                connections = cut,
                "connections did not come to an end of what they were doing and were cut"
            );
        }
        // It may be ending by itself: then it does not want to know.
        let _ = self.commands.send(Command::StopToGoOn).await;
        let ended = self.engine.await;
        self.accepts.abort();
        self.keeper.finish().await;
        if !matches!(ended, Ok(Ok(Ended::Stopped))) {
            return finish(ended, self.store, &self.home, &self.pids, &self.fleet).await;
        }
        let (store, pids, fleet) = (self.store, self.pids.clone(), self.fleet.clone());
        let (home, id) = (self.home.clone(), staged.restore_id().to_owned());
        let noted = tokio::task::spawn_blocking(move || {
            strays::end_all(&pids, &fleet, STRAYS_GRACE);
            store.close();
            staged.commit(&home)
        });
        let mut is_noted = false;
        match noted.await {
            Ok(Ok(_)) => {
                is_noted = true;
                tracing::warn!(
                    event = "restore_noted",
                    restore_id = id,
                    "the store is swapped at the start that follows now"
                );
            }
            Ok(Err(why)) => {
                tracing::error!(
                    event = "restore_failed",
                    restore_id = id,
                    reason = why,
                    "the restore could not be noted: going on as before"
                );
            }
            Err(_) => {
                tracing::error!(
                    event = "restore_failed",
                    restore_id = id,
                    "going on as before"
                );
            }
        }
        let sockets = match self.listeners.sockets(&self.lock) {
            Ok(sockets) => sockets,
            Err(e) => {
                tracing::error!(event = "restore_restarts", error = %e, "the listeners can't be handed over; ending, to be started again");
                return ExitCode::from(EXIT_NO_RELEASE);
            }
        };
        if let Some(notifier) = &self.notifier {
            // What comes takes as long as a start.
            notifier.tell(&[sd_notify::NotifyState::Watchdog]);
        }
        log.flush();
        let handover = Handover {
            sockets,
            tcp: tcp.0,
            admin: admin.0,
            invoked: self.invoked,
            arguments: self.arguments,
            guard: None,
        };
        let then = then.filter(|_| is_noted);
        let mut handover = Some(handover);
        let departure = then.and_then(|attempt| {
            let mut departure = Departure {
                handover: handover.take()?,
                attempt,
                releases: self.releases.clone(),
                pids: self.pids.clone(),
            };
            let prepared = departure.prepare();
            Some((departure, prepared))
        });
        sigmask::block();
        // A stop that came since the main loop ended has met nobody.
        tokio::time::sleep(SIGNAL_SETTLES).await;
        if *self.stops.borrow() > 0 {
            sigmask::pass_on_stop();
        }
        if let Some((departure, prepared)) = departure {
            let error = match prepared {
                Ok(()) => departure.depart(),
                Err(e) => departure.stay(&format!("its ledger: {e}")),
            };
            tracing::error!(event = "upgrade_failed", error = %error, "no release can be executed; ending, to be started again");
            return ExitCode::from(EXIT_NO_RELEASE);
        }
        let Err(e) = upgrade::become_again(handover.as_ref(), &self.pids);
        tracing::error!(event = "restore_restarts", error = %e, "this program can't be executed again; ending, to be started again");
        ExitCode::from(EXIT_NO_RELEASE)
    }

    async fn end(self, ended: EngineEnd) -> ExitCode {
        tokio::join!(
            self.tcp.shutdown(HTTP_GRACE),
            self.admin.shutdown(HTTP_GRACE),
            self.programs.shutdown(HTTP_GRACE)
        );
        self.keeper.finish().await;
        self.tokens.save_uses().await;
        finish(ended, self.store, &self.home, &self.pids, &self.fleet).await
    }
}

type EngineEnd = Result<Result<Ended, StoreError>, tokio::task::JoinError>;

/// What is left to be done when nothing is served any more.
async fn finish(
    ended: EngineEnd,
    store: Arc<dyn Store>,
    home: &Home,
    pids: &BotPids,
    fleet: &Arc<str>,
) -> ExitCode {
    deia::failpoint!("stop.ended");
    let (pids, fleet) = (pids.clone(), fleet.clone());
    let closed = tokio::task::spawn_blocking(move || {
        strays::end_all(&pids, &fleet, STRAYS_GRACE);
        store.close();
    })
    .await;
    deia::failpoint!("stop.closed");
    for socket in [home.bots_socket(), home.admin_socket()] {
        // One that is left over is replaced at the next start.
        let _ = std::fs::remove_file(socket);
    }
    match (ended, closed) {
        (Ok(Ok(Ended::Stopped | Ended::Left)), Ok(())) => {
            let home = home.clone();
            let marked = tokio::task::spawn_blocking(move || last_end::mark(&home, "stop"));
            if let Ok(Err(e)) = marked.await {
                tracing::warn!(event = "recovery_marker_not_written", error = %e, "that this was no crash could not be written; the next start will take it for one");
            }
            tracing::info!(
                event = "drain_completed",
                "deia has stopped; nothing that was accepted is lost"
            );
            ExitCode::SUCCESS
        }
        (Ok(Ok(Ended::StoreBroken(why))), _) => {
            tracing::error!(event = "store_broken", error = %why, "the store can't be trusted any more; start deia again to recover");
            ExitCode::from(EXIT_STORE)
        }
        (Ok(Err(e)), _) => {
            tracing::error!(event = "store_failed", error = %e, "the store could not be read");
            ExitCode::from(EXIT_STORE)
        }
        (Err(e), _) | (_, Err(e)) => {
            tracing::error!(event = "main_loop_failed", error = %e, "a fault of the daemon ended its main loop");
            ExitCode::FAILURE
        }
    }
}
