//! The real `deia`, in a home of its own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use deia::client::ADMIN_SOCKET_IN_HOME;
use deia::client::raw::Endpoint;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Http, Output, PATIENCE, Process, Response, ctl, deiactl_command, descendants, processes_of,
    wait_until,
};

/// How long a daemon may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to stop before it is killed; bots have 10 s by default.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long what it leaves behind may take to end.
const SURVIVORS_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest home: `/.deia/run/bots/bots.sock` must fit into a socket's 107 bytes too.
const MAX_HOME_BYTES: usize = 70;

/// Tests ask more often than anybody.
const NO_LIMITS: &str = "rate_limits: {requests_per_minute: 0, failed_auth_per_minute: 0}\n";

const ECHO_POOL: &str = "bots: [{name: main-bot, type: general, backend: {kind: echo}}]\n";

/// What to start.
pub struct Builder {
    config: Option<String>,
    environment: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
    under: Vec<OsString>,
    below: Option<PathBuf>,
}

impl Builder {
    /// The configuration's text; an ephemeral port, a pool of `echo` bots and no limit on requests are
    /// added where it has no `http:`, no `bots:` and no `rate_limits:` of its own.
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// An argument after `--home HOME`.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Descriptors it and its bots may have open at once (`RLIMIT_NOFILE`).
    pub fn open_files(self, most: u32) -> Self {
        self.under(["prlimit", &format!("--nofile={most}:{most}"), "--"])
    }

    /// Started by this program, which must become the daemon: the pid stays.
    pub fn under(mut self, program: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.under = program
            .into_iter()
            .map(|word| word.as_ref().into())
            .collect();
        self
    }

    /// Where its home is made, instead of the directory for temporary files.
    pub fn below(mut self, directory: &Path) -> Self {
        self.below = Some(directory.to_owned());
        self
    }

    /// Starts it and waits until it answers; fails the test, showing what it said, if it doesn't.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut daemon = self.prepare();
        daemon.spawn();
        daemon.await_answer();
        daemon
    }

    /// Starts it and waits for its end, for starts that must fail: its status and what it said.
    #[track_caller]
    pub fn start_in_vain(self) -> (ExitStatus, String) {
        let mut daemon = self.prepare();
        daemon.spawn();
        let status = wait_until(START_TIMEOUT, "the daemon ends by itself", || {
            daemon
                .child
                .as_mut()?
                .try_wait()
                .expect("it can be waited for")
        });
        daemon.child = None;
        (status, daemon.said())
    }

    /// Its home with its configuration, and nothing started yet.
    pub fn prepare(self) -> Daemon {
        let home = temporary_home(self.below.as_deref());
        let given = self.config.unwrap_or_default();
        let has = |key: &str| given.lines().any(|line| line.starts_with(key));
        let mut config = given.clone();
        if !config.is_empty() && !config.ends_with('\n') {
            config.push('\n');
        }
        if !has("http:") {
            config.push_str("http: {listen: \"127.0.0.1:0\"}\n");
        }
        if !has("bots:") {
            config.push_str(ECHO_POOL);
        }
        if !has("rate_limits:") {
            config.push_str(NO_LIMITS);
        }
        let daemon = Daemon {
            home,
            child: None,
            port: 0,
            environment: self.environment,
            arguments: self.arguments,
            under: self.under,
            // A test that kills its daemon may leave bots: they have their grace.
            must_leave_nothing: true,
        };
        daemon.write_config(&config);
        daemon
    }
}

/// A running daemon.
pub struct Daemon {
    home: TempDir,
    child: Option<Child>,
    port: u16,
    environment: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
    under: Vec<OsString>,
    must_leave_nothing: bool,
}

impl Daemon {
    /// One with an `echo` bot on an ephemeral port, unless told otherwise.
    pub fn builder() -> Builder {
        Builder {
            config: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            under: Vec::new(),
            below: None,
        }
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its pid.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its configuration file, written whole.
    pub fn write_config(&self, text: &str) {
        fs::write(self.home().join("bot-config.yaml"), text).expect("the configuration is written");
    }

    /// A file under the home, as text; empty where there is none.
    pub fn read(&self, path: &str) -> String {
        let bytes = fs::read(self.home().join(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its admin socket.
    pub fn admin(&self) -> Http {
        Http::new(Endpoint::Unix(self.home().join(ADMIN_SOCKET_IN_HOME)))
    }

    /// Its TCP listener.
    pub fn tcp(&self) -> Http {
        Http::new(Endpoint::Tcp(([127, 0, 0, 1], self.port).into()))
    }

    /// `GET` over the admin socket.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.admin().get(path)
    }

    /// `POST` over the admin socket.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.admin().post(path, body)
    }

    /// Submits a text; returns the task's name.
    #[track_caller]
    pub fn submit(&self, content: &str) -> String {
        self.submit_with(&json!({"content": content}))
    }

    /// Submits a whole request, which must be accepted; returns the task's name.
    #[track_caller]
    pub fn submit_with(&self, request: &Value) -> String {
        let answer = self.post("/api/orchestrate", request).ok();
        assert_eq!(answer["success"], true, "{answer}");
        answer["task_id"].as_str().expect("a task_id").to_owned()
    }

    /// The task once nothing more will happen to it.
    #[track_caller]
    pub fn wait_task(&self, id: &str, timeout: Duration) -> Value {
        wait_until(timeout, &format!("task {id} ends"), || {
            let task = self.get(&format!("/api/tasks/{id}")).ok();
            let status = task["status"].as_str().expect("a status");
            let ended = ["succeeded", "dead", "cancelled", "expired"].contains(&status);
            ended.then_some(task)
        })
    }

    /// Its bots.
    #[track_caller]
    pub fn bots(&self) -> Vec<Value> {
        let list = self.get("/api/bots").ok();
        list["bots"].as_array().expect("a list of bots").clone()
    }

    /// The processes of its bots.
    #[track_caller]
    pub fn bot_pids(&self) -> Vec<u32> {
        let pids = self
            .bots()
            .into_iter()
            .filter_map(|bot| bot["pid"].as_u64());
        pids.map(|pid| u32::try_from(pid).expect("a pid")).collect()
    }

    /// Waits until so many bots are ready or busy.
    #[track_caller]
    pub fn wait_bots(&self, count: usize) -> Vec<Value> {
        wait_until(PATIENCE, &format!("{count} bots are ready"), || {
            let mut bots = self.bots();
            bots.retain(|bot| bot["actual"] == "ready" || bot["actual"] == "busy");
            (bots.len() == count).then_some(bots)
        })
    }

    /// The real `deiactl`, told this home.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        ctl::finish(&mut self.ctl_command(arguments))
    }

    /// The same, not yet started.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = deiactl_command(self.home());
        command.arg("--home").arg(self.home()).args(arguments);
        command
    }

    /// Sends the daemon a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let process = Process::of(self.pid()).expect("the daemon runs");
        process.signal(signal);
    }

    /// Kills the daemon; its bots stay.
    #[track_caller]
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        self.must_leave_nothing = false;
    }

    /// Starts it again on the same home, after a kill or a stop.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the daemon still runs: stop it first");
        self.spawn();
        self.await_answer();
    }

    /// Starts it without waiting for an answer: it may never give one.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the daemon still runs: stop it first");
        self.spawn();
    }

    /// Sets a variable for the starts that follow, or takes it away.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.environment.retain(|(other, _)| other != name);
        if let Some(value) = value {
            self.environment.push((name.into(), value.into()));
        }
    }

    /// No other program comes before it any more, in the starts that follow.
    pub fn under_nothing(&mut self) {
        self.under.clear();
    }

    /// How it ended, if it has; what it left stays.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let status = child.try_wait().expect("it can be waited for")?;
        self.child = None;
        self.must_leave_nothing = false;
        Some(status)
    }

    /// Whether it answers now.
    pub fn answers(&self) -> bool {
        let answer = self.admin().try_request("GET", "/health", &[], None);
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// After [`Daemon::launch`]: waits until it answers, as [`Daemon::start`](Builder::start) does.
    #[track_caller]
    pub fn await_launched(&mut self) {
        self.await_answer();
        self.must_leave_nothing = true;
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = wait_until(STOP_TIMEOUT, "the daemon ends", || {
            let child = self.child.as_mut().expect("the daemon was started");
            child.try_wait().expect("it can be waited for")
        });
        self.child = None;
        status
    }

    /// What it printed so far.
    pub fn said(&self) -> String {
        format!("{}{}", self.read("stdout.log"), self.read("stderr.log"))
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&mut self) {
        let log = |name| {
            let path = self.home().join(name);
            let file = File::options().create(true).append(true).open(path);
            Stdio::from(file.expect("a log file"))
        };
        let mut command = match self.under.split_first() {
            None => Command::new(deia_program()),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(deia_program());
                command
            }
        };
        command
            .arg("--home")
            .arg(self.home())
            .args(&self.arguments)
            .current_dir(self.home())
            .env_remove("DEIA_HOME")
            .env_remove("DEIA_SOCKET")
            .env_remove("NOTIFY_SOCKET")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log("stdout.log"))
            .stderr(log("stderr.log"));
        self.child = Some(command.spawn().expect("deia starts"));
    }

    /// Waits until it answers; fails the test, showing what it said, if it doesn't.
    #[track_caller]
    pub fn await_answer(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let answer = self.admin().try_request("GET", "/health", &[], None);
            if answer.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            let child = self.child.as_mut().expect("it was started");
            let ended = child.try_wait().expect("it can be waited for");
            if let Some(status) = ended {
                self.child = None;
                panic!("deia ended at once ({status}):\n{}", self.said());
            }
            assert!(
                Instant::now() < deadline,
                "deia does not answer:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.get("/status").ok();
        let port = status["port"].as_u64().expect("a port");
        self.port = u16::try_from(port).expect("a port");
        self.must_leave_nothing = true;
    }

    /// Ends the daemon and everything of this home; returns what it had left behind.
    fn end(&mut self) -> Vec<Process> {
        let mut known = processes_of(self.home());
        if let Some(mut child) = self.child.take() {
            known.extend(descendants(child.id()));
            if let Some(process) = Process::of(child.id()) {
                process.signal(Signal::SIGTERM);
            }
            let deadline = Instant::now() + STOP_TIMEOUT;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let survivors = |known: &[Process]| -> Vec<Process> {
            let known = known.iter().filter(|process| process.is_alive()).cloned();
            let mut all: Vec<Process> = known.chain(processes_of(self.home())).collect();
            all.sort_by_key(|process| process.pid);
            all.dedup_by_key(|process| process.pid);
            all
        };
        let deadline = Instant::now() + SURVIVORS_TIMEOUT;
        let mut left = survivors(&known);
        while self.must_leave_nothing && !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            left = survivors(&known);
        }
        for process in &left {
            process.signal(Signal::SIGKILL);
        }
        left
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let left = self.end();
        if std::thread::panicking() {
            self.home.disable_cleanup(true);
            eprintln!("the daemon's home is kept: {}", self.home().display());
            eprintln!("the daemon said:\n{}", self.said());
        } else if self.must_leave_nothing && !left.is_empty() {
            self.home.disable_cleanup(true);
            panic!("the daemon left processes behind: {left:#?}");
        }
    }
}

/// `deia`, beside `deiactl`.
pub fn deia_program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_deiactl")).with_file_name("deia");
    assert!(
        path.exists(),
        "{} is not there: cargo build --workspace",
        path.display()
    );
    path
}

fn temporary_home(below: Option<&Path>) -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("deia-");
    let directory = below.map_or_else(std::env::temp_dir, Path::to_owned);
    let fits = directory.as_os_str().len() + "/deia-XXXXXX".len() <= MAX_HOME_BYTES;
    let home = match fits {
        true => builder.tempdir_in(directory),
        false => builder.tempdir_in("/tmp"),
    };
    home.expect("a temporary home")
}
