//! From a command line to a running daemon, and back out.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::config::{Config, Http};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::command::MAX_COMMANDS;
use super::engine::{Ended, Engine, Parts};
use super::home::Home;
use super::{reload, signals};
use crate::fleet::cgroup::Cgroups;
use crate::fleet::limits::LimitWatch;
use crate::fleet::oom::{Evidence, OomWatch};
use crate::fleet::outputs::Outputs;
use crate::fleet::pids::BotPids;
use crate::fleet::spawn::Spawner;
use crate::fleet::{MAX_EVENTS, confinement, sessions, strays};
use crate::http::accept::{Edge, EdgeLimits, ServerHandle, serve_admin, serve_tcp};
use crate::http::admin_socket::bind_admin_socket;
use crate::http::guard::{Guard, HashedTokens};
use crate::http::peer::{Admission, deia_group};
use crate::http::routes::{Api, service};
use crate::http::usage::Usage;
use crate::logs::{self, Console, LogHandle};
use crate::settings::{EXIT_CONFIG, Overrides, Settings};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// HOME.
    pub home: PathBuf,
    /// The configuration, instead of HOME/bot-config.yaml.
    pub config: Option<PathBuf>,
    /// Where to answer HTTP, instead of `http.listen`.
    pub listen: Option<SocketAddr>,
    /// Run one bot of this name.
    pub bot_id: Option<String>,
    /// The port to answer HTTP on.
    pub port: Option<u16>,
}

/// The store can't be trusted any more: a new start recovers.
const EXIT_STORE: u8 = 70;

/// Requests in flight may take this long at the end.
const HTTP_GRACE: Duration = Duration::from_secs(2);

/// What killed bots left behind is looked for at most this long at the end.
const STRAYS_GRACE: Duration = Duration::from_secs(2);

/// Transactions whose outcomes may wait for the main loop.
const MAX_COMMITTED: usize = 64;

/// Runs the daemon until it is told to stop.
pub fn run(options: Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return fail(1, &format!("cannot start: {e}")),
    };
    let code = runtime.block_on(serve(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

fn fail(code: u8, text: &str) -> ExitCode {
    #[expect(
        clippy::print_stderr,
        reason = "there may be no log yet, and somebody watches"
    )]
    {
        eprintln!("deia: {text}");
    }
    ExitCode::from(code)
}

async fn serve(options: Options) -> ExitCode {
    let epoch = Instant::now();
    let root = match std::path::absolute(&options.home) {
        Ok(root) if root.is_dir() => root,
        Ok(root) => {
            return fail(
                1,
                &format!(
                    "the home {} is no directory: make it, or name another with --home",
                    root.display()
                ),
            );
        }
        Err(e) => return fail(1, &format!("--home {}: {e}", options.home.display())),
    };
    let settings = match Settings::load(&root, options.config.clone(), overrides(&options)) {
        Ok(settings) => settings,
        Err(why) => return fail(EXIT_CONFIG, &why.to_string()),
    };
    let config = settings.current();
    let runtime_directory = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let home = Home::new(&root, &config.persistence, runtime_directory);
    let _lock = match prepare(&home) {
        Ok(lock) => lock,
        Err(e) => return fail(1, &e.to_string()),
    };
    let level = reload::log_level(&config);
    let log = match logs::init(&home.logs, &config.logging, level, Console::Auto) {
        Ok(log) => log,
        Err(e) => return fail(1, &e.to_string()),
    };
    reload::log_loaded(&settings);
    let code = match start(&home, settings, options.config.clone(), epoch, &log).await {
        Ok(daemon) => daemon.run_to_end().await,
        Err(e) => {
            tracing::error!(event = "start_failed", error = %e, "the daemon could not start");
            ExitCode::FAILURE
        }
    };
    log.shutdown();
    code
}

/// The home is there, ours alone, and its sockets can be.
fn prepare(home: &Home) -> io::Result<super::home::HomeLock> {
    sessions::check_path(&home.bots_socket())?;
    sessions::check_path(&home.admin_socket())?;
    home.create()?;
    let lock = home.lock()?;
    strays::adopt_orphans().map_err(io::Error::from)?;
    Ok(lock)
}

struct Daemon {
    home: Home,
    engine: tokio::task::JoinHandle<Result<Ended, crate::store::StoreError>>,
    servers: Vec<ServerHandle>,
    store: Arc<dyn Store>,
    pids: BotPids,
}

async fn start(
    home: &Home,
    settings: Settings,
    config_file: Option<PathBuf>,
    epoch: Instant,
    log: &LogHandle,
) -> io::Result<Daemon> {
    let config = settings.current();
    let (committed_to, committed) = mpsc::channel(MAX_COMMITTED);
    let database = home.database();
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&database, committed_to))
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
    let store: Arc<dyn Store> = Arc::new(store);

    let bots_socket = sessions::bind(&home.bots_socket())?;
    let group = deia_group();
    let admin_socket = bind_admin_socket(&home.admin_socket(), group).map_err(io::Error::other)?;
    let tcp = TcpListener::bind(config.http.listen).await.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!(
                "cannot listen on {}: {e}; choose another http.listen or --listen",
                config.http.listen
            ),
        )
    })?;
    let address = tcp.local_addr()?;

    let (commands_to, commands) = mpsc::channel(MAX_COMMANDS);
    let (events_to, events) = mpsc::channel(MAX_EVENTS);
    let (condition_to, condition) = watch::channel(super::health::Condition::default());
    let outputs = Outputs::default();
    let pids = BotPids::default();
    let cgroups = tokio::task::spawn_blocking(Cgroups::detect)
        .await
        .map_err(io::Error::other)?;
    let confinement = confinement::look(&cgroups);
    tracing::info!(event = "confinement", level = %confinement.summary, "how far bots can be confined here; `deiactl status --json` says more");
    let cgroups = cgroups.ok().map(Arc::new);
    let limit_watch = LimitWatch::start(cgroups.clone(), events_to.clone())?;
    let spawner = Spawner::start(
        PathBuf::from("/proc/self/exe"),
        pids.clone(),
        cgroups.clone(),
        events_to.clone(),
    )?;
    tokio::spawn(sessions::accept(
        bots_socket,
        events_to.clone(),
        outputs.clone(),
        epoch,
    ));
    tokio::spawn(strays::watch(pids.clone()));

    let (limits_to, limits) = watch::channel(edge_limits(&config.http));
    let admin_path = home.admin_socket();
    let guard = move |http: &Http| {
        let tokens = Arc::new(HashedTokens::default());
        Arc::new(Guard::new(Some(address), http, tokens, admin_path.clone()))
    };
    let (guard_to, guard_now) = watch::channel(guard(&config.http));
    let parts = Parts {
        home: home.clone(),
        config,
        store: store.clone(),
        committed,
        commands,
        events,
        events_to,
        spawner,
        outputs: outputs.clone(),
        pids: pids.clone(),
        limit_watch,
        evidence: Arc::new(Evidence {
            watch: OomWatch::default(),
            cgroups,
        }),
        closed: config_file.into_iter().collect(),
        epoch,
        condition: condition_to,
    };
    let (ready_to, ready) = oneshot::channel();
    let engine = tokio::spawn(Engine::run(parts, ready_to));
    ready
        .await
        .map_err(|_| io::Error::other("the queue could not be read; the log says why"))?;

    let config = reload::start(
        settings,
        commands_to.clone(),
        log.clone(),
        move |config: &Config| {
            limits_to.send_replace(edge_limits(&config.http));
            guard_to.send_replace(guard(&config.http));
        },
    );
    let api = Arc::new(Api {
        commands: commands_to.clone(),
        store: store.clone(),
        outputs,
        config: config.clone(),
        condition,
        usage: Usage::default(),
        home: home.root.clone(),
        epoch,
        port: address.port(),
        confinement,
    });
    let (router, _) = service(api);
    let kept_pids = pids.clone();
    let admission = Admission::of_this_process(Arc::new(move |pid| pids.contains(pid)));
    let edge = Edge {
        router,
        guard: guard_now,
        limits,
    };
    // Before anybody can learn that there is a daemon: a signal without a handler would end it.
    signals::listen(commands_to, config, log.clone())?;
    let servers = vec![
        serve_tcp(Arc::new(tcp), edge.clone()),
        serve_admin(Arc::new(admin_socket), edge, Arc::new(admission)),
    ];
    tracing::info!(
        event = "ready",
        pid = std::process::id(),
        version = deia::VERSION,
        listen = %address,
        home = %home.root.display(),
        "deia is ready"
    );
    // Nobody may be listening: then there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(Daemon {
        home: home.clone(),
        engine,
        servers,
        store,
        pids: kept_pids,
    })
}

fn edge_limits(http: &Http) -> EdgeLimits {
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    EdgeLimits::from(http).within_open_files(open_files.unwrap_or(u64::MAX))
}

impl Daemon {
    async fn run_to_end(self) -> ExitCode {
        let ended = self.engine.await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        for server in self.servers {
            server.shutdown(HTTP_GRACE).await;
        }
        let store = self.store;
        let pids = self.pids;
        let closed = tokio::task::spawn_blocking(move || {
            strays::end_all(&pids, STRAYS_GRACE);
            store.close();
        })
        .await;
        for socket in [self.home.bots_socket(), self.home.admin_socket()] {
            remove(&socket);
        }
        match (ended, closed) {
            (Ok(Ok(Ended::Stopped)), Ok(())) => {
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
}

fn remove(socket: &Path) {
    // One that is left over is replaced at the next start.
    let _ = std::fs::remove_file(socket);
}

/// What the command line changes in every configuration that is loaded.
fn overrides(options: &Options) -> Overrides {
    let port = options
        .port
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    Overrides {
        listen: options.listen.or(port),
        bot_id: options.bot_id.clone(),
    }
}

/// Prints the API's OpenAPI document.
pub fn print_openapi() -> ExitCode {
    use std::io::Write as _;
    // By way of a value, whose fields are in the alphabet's order: the document itself keeps its
    // extensions in none, and the text is compared with the one in the repository.
    let text = serde_json::to_value(crate::http::routes::document())
        .and_then(|document| serde_json::to_string_pretty(&document));
    let Ok(text) = text else {
        return fail(1, "the document could not be written");
    };
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
