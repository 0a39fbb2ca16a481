//! The daemon put together.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use deia::config::{Config, Http};
use deia::time::Timestamp;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::command::MAX_COMMANDS;
use super::engine::{Engine, Parts};
use super::home::{Home, HomeLock};
use super::leave::{self, Accepts, Daemon, Successor};
use super::recovery::last_end::LastEnd;
use super::recovery::{self as recovering, Desk, desk, last_end};
use super::rollback::{self, Rollbacks};
use super::sockets::{Connections, Listeners};
use super::upgrade::{self, Handover, Releases, Upgrader};
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
use crate::fleet::strays::Strays;
use crate::fleet::{MAX_EVENTS, confinement};
use crate::health as monitor;
use crate::hive;
use crate::http::accept::{Edge, EdgeLimits, Resumed, serve_admin, serve_programs, serve_tcp};
use crate::http::guard::{Books, Guard};
use crate::http::lasting::Lasting;
use crate::http::meter::HttpMeter;
use crate::http::peer::{Admission, Ancestry, is_descendant, parent_of};
use crate::http::routes::{Api, service};
use crate::http::tls::Certificate;
use crate::logs::LogHandle;
use crate::settings::Settings;
use crate::sigmask;
use crate::store::Store;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::tokens::TokenBook;
use crate::usage::Usage;

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
    let resumed = Connections::resume(handover)?;
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
                resumed: resumed.admin,
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
    let (placing, placed) = mpsc::channel(1);
    let accepts = tokio::spawn(sessions::accept(listeners.bots.clone(), sessions, placing));
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
            resumed: resumed.admin,
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
    let tcp = serve_tcp(listeners.tcp.clone(), resumed.tcp, edge.clone());
    let admin = serve_admin(
        listeners.admin.clone(),
        resumed.admin,
        edge.clone(),
        Arc::new(admission),
    );
    let programs = serve_programs(programs_come, resumed.programs, edge);
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
        engine,
        commands: commands_to,
        store,
        keeper,
        tokens,
        fleet,
        pids: pids.clone(),
        plans,
        restores,
        accepts: Accepts { accepts, placed },
        edge: leave::Edge {
            tcp,
            admin,
            programs,
            leaving,
        },
        successor: Successor {
            listeners,
            lock,
            notifier,
            pids,
            releases,
            invoked,
            arguments,
            stops,
        },
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
