//! From a command line to a running daemon, and back out: by its end, or into another release.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::home::{Home, HomeLock};
use super::leave::Daemon;
use super::recovery::mode::Mode;
use super::reload;
use super::rollback::Place;
use super::start::{self, Begin, NoStart};
use super::upgrade::{self, AtStart, Handover, Releases, at_start, go_back, invoked_path};
use crate::backup::restore::{self, Journal, Phase};
use crate::fleet::{sessions, strays};
use crate::logs::{self, Console, LogHandle};
use crate::settings::{EXIT_CONFIG, Overrides, Settings};
use crate::sigmask;

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

/// Why there is no daemon, and the exit code that says so.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(1, error.to_string())
    }
}

/// Longer than any daemon runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A restore is under way that can't go on: the state must be looked at.
const EXIT_RESTORE: u8 = 72;

/// A process that is not to be returned to: neither release could be executed.
const EXIT_NO_RELEASE: u8 = 71;

/// Runs the daemon until it is told to stop.
pub fn run(options: Options) -> ExitCode {
    // Before any thread: see `sigmask`.
    sigmask::block();
    let root = match root(&options.home) {
        Ok(root) => root,
        Err(why) => return fail(&why),
    };
    let handover = match Handover::take() {
        Ok(handover) => handover,
        Err(e) => return fail(&Failure::new(1, format!("what was handed over: {e}"))),
    };
    if handover.is_some() {
        deia::failpoint!("upgrade.arrived");
    }
    let invoked = match &handover {
        Some(handover) => handover.invoked.clone(),
        None => invoked_path(),
    };
    let releases = Releases::new(root.join(".deia/releases"));
    if handover.is_none()
        && let AtStart::Become(release) = at_start(&releases, &invoked)
    {
        match upgrade::become_pinned(&release) {
            Ok(never) => match never {},
            // Better this one than none.
            Err(e) => say(&format!("{} can't be executed: {e}", release.display())),
        }
    }
    raise_open_files();
    make_no_core_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        // For ever: where none is left and none can be made, the runtime panics; with one, work waits.
        .thread_keep_alive(FOR_EVER)
        .on_thread_start(sigmask::block)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return fail(&Failure::new(1, format!("cannot start: {e}"))),
    };
    let serve = Serve {
        options,
        root,
        invoked,
        releases,
    };
    let code = runtime.block_on(serve.run(handover));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// What a start has come to.
enum Running {
    Daemon(Box<Daemon>),
    /// The store can't be used.
    Recovery(Box<Mode>),
}

struct Serve {
    options: Options,
    root: PathBuf,
    invoked: PathBuf,
    releases: Releases,
}

impl Serve {
    async fn run(self, handover: Option<Handover>) -> ExitCode {
        let epoch = Instant::now();
        let begun = self.begin(epoch, handover.as_ref()).await;
        let (running, log) = match (begun, handover) {
            (Ok(begun), handover) => {
                // The copies that were taken are the daemon's; those here served for going back.
                drop(handover);
                begun
            }
            (Err(failure), None) => return fail(&failure),
            (Err(failure), Some(handover)) => {
                let error = go_back(&handover, &self.releases, &failure.text);
                return fail(&Failure::new(EXIT_NO_RELEASE, error.to_string()));
            }
        };
        let code = match running {
            Running::Daemon(daemon) => daemon.run_to_end(&log).await,
            Running::Recovery(mode) => mode.run_to_end(&log).await,
        };
        log.shutdown();
        code
    }

    async fn begin(
        &self,
        epoch: Instant,
        handover: Option<&Handover>,
    ) -> Result<(Running, LogHandle), Failure> {
        let (root, config) = (&self.root, self.options.config.clone());
        let load = || {
            Settings::load(root, config.clone(), overrides(&self.options))
                .map_err(|why| Failure::new(EXIT_CONFIG, why.to_string()))
        };
        let mut settings = load()?;
        let current = settings.current();
        // Also what the command line says over the file.
        if let Some(why) = current.http.refusal() {
            return Err(Failure::new(EXIT_CONFIG, why));
        }
        let runtime_directory = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
        let home = Home::new(root, &current.persistence, runtime_directory);
        let lock = prepare(&home, handover)?;
        deia::failpoint!("start.locked");
        let level = reload::log_level(&current);
        let log = logs::init(&home.logs, &current.logging, level, Console::Auto)
            .map_err(|e| Failure::new(1, e.to_string()))?;
        let swapping = home.clone();
        let journal = tokio::task::spawn_blocking(move || restore::swap(&swapping)).await;
        let journal = journal.unwrap_or_else(|e| Err(io::Error::other(e)));
        let journal = journal.map_err(|e| {
            tracing::error!(event = "restore_failed", reason = %e, "the store is not opened");
            log.shutdown();
            Failure::new(EXIT_RESTORE, e.to_string())
        })?;
        let is_new =
            |journal: &Journal| journal.phase == Phase::Check && !journal.config_files.is_empty();
        if journal.as_ref().is_some_and(is_new) {
            // There was none before.
            settings = load()?;
        }
        reload::log_loaded(&settings);
        let recovery = (*settings.current()).clone();
        let has_config = settings
            .status(deia::time::Timestamp::now())
            .config_file
            .is_some();
        let automatic = journal.as_ref().map_or(0, |journal| journal.automatic);
        let begin = Begin {
            journal,
            home,
            lock,
            settings,
            config: config.clone(),
            epoch,
            log: log.clone(),
            releases: self.releases.clone(),
            invoked: self.invoked.clone(),
            arguments: match handover {
                Some(handover) => handover.arguments.clone(),
                None => std::env::args_os().collect(),
            },
        };
        match start::start(begin, handover).await {
            Ok(daemon) => Ok((Running::Daemon(Box::new(daemon)), log)),
            // A release that can't open the store is left, where there is one to go back to.
            Err(NoStart::Unusable(unusable))
                if recovery.disaster_recovery.enabled && !self.releases.is_under_way() =>
            {
                let place = Place {
                    releases: self.releases.clone(),
                    invoked: self.invoked.clone(),
                    config,
                };
                let mode = Mode::start(*unusable, recovery, has_config, automatic, place)?;
                Ok((Running::Recovery(Box::new(mode)), log))
            }
            Err(NoStart::Unusable(unusable)) => {
                tracing::error!(
                    event = "start_failed",
                    error = unusable.why,
                    "the daemon could not start"
                );
                log.shutdown();
                Err(Failure::new(1, unusable.why))
            }
            Err(NoStart::Io(e)) => {
                tracing::error!(event = "start_failed", error = %e, "the daemon could not start");
                log.shutdown();
                Err(e.into())
            }
        }
    }
}

fn root(home: &Path) -> Result<PathBuf, Failure> {
    match std::path::absolute(home) {
        Ok(root) if root.is_dir() => Ok(root),
        Ok(root) => Err(Failure::new(
            1,
            format!(
                "the home {} is no directory: make it, or name another with --home",
                root.display()
            ),
        )),
        Err(e) => Err(Failure::new(1, format!("--home {}: {e}", home.display()))),
    }
}

/// The home is there, ours alone, and its sockets can be.
fn prepare(home: &Home, handover: Option<&Handover>) -> io::Result<HomeLock> {
    sessions::check_path(&home.bots_socket())?;
    sessions::check_path(&home.admin_socket())?;
    home.create()?;
    let lock = match handover {
        Some(handover) => HomeLock::take_over(handover.sockets.lock.try_clone()?)?,
        None => home.lock()?,
    };
    strays::adopt_orphans().map_err(io::Error::from)?;
    Ok(lock)
}

/// Secrets are in this process's memory: nothing of it goes to a disk when it ends badly. Bots do the same.
fn make_no_core_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit is everybody's right.
    let _ = setrlimit(Resource::Core, none);
}

/// A fleet needs more descriptors than a login is given; what bots may have is their own limit.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: now.maximum,
        ..now
    };
    // What can't be raised is bounded where it is used.
    let _ = setrlimit(Resource::Nofile, most);
}

fn fail(failure: &Failure) -> ExitCode {
    say(&failure.text);
    ExitCode::from(failure.code)
}

fn say(text: &str) {
    #[expect(
        clippy::print_stderr,
        reason = "there may be no log yet, and somebody watches"
    )]
    {
        eprintln!("deia: {text}");
    }
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
        return fail(&Failure::new(1, "the document could not be written"));
    };
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
