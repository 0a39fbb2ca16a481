//! A bot in a process of its own and, in the test, the supervisor's end of its connection.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use deia::config::{BackendSpec, CommandInput, CommandSpec, EchoSpec, Limits, Paths, Workdir};
use deia::task::{Fence, TaskId};
use deia::wire::{
    self, Assignment, Bootstrap, CancelOf, FailureKind, Hello, Kept, Launch, Outcome, Places,
    Pulse, Secret, ToSupervisor, ToWorker, Usage, Welcome,
};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

/// Nothing in these tests takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

const ROLE: &str = "DEIA_TEST_IS_WORKER";

/// The test binary, started again by [`Rig::start`], becomes the bot.
#[expect(
    clippy::disallowed_methods,
    reason = "the bot's exit code must be the process's, past the test harness"
)]
pub fn be_a_worker_if_asked() {
    if std::env::var_os(ROLE).is_some() {
        std::process::exit(deia_worker::run() as i32);
    }
}

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// A bot and its supervisor.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub process: Child,
    pub hello: Hello,
    pulse_fd: i32,
    listener: Option<UnixListener>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    scratch: Vec<u8>,
}

pub fn secret() -> Secret {
    Secret([42; 32])
}

pub fn echo(delay_ms: u64) -> BackendSpec {
    BackendSpec::Echo(EchoSpec { delay_ms })
}

/// A shell script as backend, which reads the task on its standard input.
pub fn script(text: &str) -> BackendSpec {
    program(&["sh", "-c", text], CommandInput::Stdin)
}

pub fn program(argv: &[&str], input: CommandInput) -> BackendSpec {
    BackendSpec::Command(CommandSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        input,
        env: Vec::new(),
    })
}

impl Rig {
    /// A bot that has shown itself, been welcomed as `change` likes, and is ready.
    pub async fn start(backend: BackendSpec, change: impl FnOnce(&mut Welcome)) -> Self {
        let mut rig = Self::dialled(&[]).await;
        rig.welcome(backend, change).await;
        rig
    }

    /// Welcomes a bot that has dialled in and waits until it is ready.
    pub async fn welcome(&mut self, backend: BackendSpec, change: impl FnOnce(&mut Welcome)) {
        let mut welcome = self.welcome_with(backend);
        change(&mut welcome);
        self.send(ToWorker::Welcome(Box::new(welcome))).await;
        match self.event().await {
            ToSupervisor::Ready { pulse_fd, .. } => self.pulse_fd = pulse_fd,
            other => panic!("{other:?}"),
        }
    }

    /// What its main loop last wrote.
    pub fn pulse(&self) -> Pulse {
        let path = format!("/proc/{}/fd/{}", self.pid(), self.pulse_fd);
        Pulse::from_bytes(&std::fs::read(path).unwrap().try_into().unwrap())
    }

    pub fn welcome_with(&self, backend: BackendSpec) -> Welcome {
        Welcome {
            pool: "pool".into(),
            backend,
            fallback: Vec::new(),
            workdir: Workdir::Fresh,
            paths: Paths::default(),
            env_files: Default::default(),
            limits: Limits::default(),
            heartbeat_ms: 200,
            stop_timeout_ms: 300,
            work_root: self.work_root(),
            max_concurrent_tasks: 4,
            orphan_grace_ms: PATIENCE.as_millis() as u64,
            terms: [3; 32],
            places: Places {
                own: self.dir.path().join("own"),
                spool: self.dir.path().to_owned(),
                daemon_home: self.dir.path().to_owned(),
                closed: vec![self.dir.path().join("closed")],
                fleet_processes: 1000,
            },
        }
    }

    /// A bot that has sent its `Hello`.
    pub async fn dialled(variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bots.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut process = start_process(variables);
        let mut bytes = Vec::new();
        let bootstrap = Bootstrap {
            socket,
            bot_id: "bot-2".into(),
            launch: LAUNCH,
            secret: secret(),
        };
        wire::encode(&bootstrap, &mut bytes).unwrap();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(&bytes).await.unwrap();
        drop(stdin);
        let (hello, reader, writer) = answer(&listener).await;
        Self {
            dir,
            process,
            hello,
            pulse_fd: -1,
            listener: Some(listener),
            reader,
            writer,
            scratch: Vec::new(),
        }
    }

    /// Closes the connection, as a supervisor that is replaced does, and waits for the bot to dial
    /// again; what it says of itself.
    pub async fn reconnect(&mut self) -> Hello {
        self.cut();
        let listener = self.listener.as_ref().expect("it was not closed");
        let (hello, reader, writer) = answer(listener).await;
        (self.reader, self.writer) = (reader, writer);
        hello
    }

    /// Closes the connection; the socket stays.
    pub fn cut(&mut self) {
        let (_, writer) = (&self.reader, &self.writer);
        let stream: &tokio::net::UnixStream = writer.as_ref();
        rustix::net::shutdown(stream, rustix::net::Shutdown::Both).unwrap();
    }

    /// Closes the connection and the socket, as a supervisor that dies does.
    pub fn die(&mut self) {
        self.listener = None;
        std::fs::remove_file(self.dir.path().join("bots.sock")).unwrap();
        self.cut();
    }

    /// Lets the bot go on with these attempts.
    pub async fn welcome_back(&mut self, kept: &[(&str, u64)]) {
        let kept = kept.iter().map(|(task, bytes)| Kept {
            task: id(task),
            fence: FENCE,
            bytes: *bytes,
        });
        self.send(ToWorker::WelcomeBack {
            kept: kept.collect(),
            orphan_grace_ms: PATIENCE.as_millis() as u64,
        })
        .await;
    }

    pub fn work_root(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    pub async fn send(&mut self, frame: ToWorker) {
        wire::write_frame(&mut self.writer, &frame).await.unwrap();
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// The next frame; panics at the end of the connection.
    pub async fn recv(&mut self) -> ToSupervisor {
        let frame = wire::read_frame(&mut self.reader, &mut self.scratch).await;
        frame.unwrap().expect("the bot closed the connection")
    }

    /// The next frame, soon.
    pub async fn event(&mut self) -> ToSupervisor {
        soon("an event", self.recv()).await
    }

    pub async fn assign(&mut self, task: &str, content: &str) {
        self.assign_for(task, content, PATIENCE).await;
    }

    pub async fn assign_for(&mut self, task: &str, content: &str, limit: Duration) {
        self.send(ToWorker::Assign(Box::new(Assignment {
            task: id(task),
            fence: FENCE,
            content: content.into(),
            timeout_ms: limit.as_millis() as u64,
        })))
        .await;
    }

    pub async fn cancel(&mut self, task: &str) {
        let (task, fence, of) = (id(task), FENCE, CancelOf::Task);
        self.send(ToWorker::Cancel { task, fence, of }).await;
    }

    pub async fn ack(&mut self, task: &str) {
        let (task, fence) = (id(task), FENCE);
        self.send(ToWorker::Ack { task, fence }).await;
    }

    /// Waits until an attempt has printed `text`.
    pub async fn output_with(&mut self, text: &str) -> String {
        let mut got = String::new();
        while !got.contains(text) {
            match self.event().await {
                ToSupervisor::Output { text, .. } => got.push_str(&text),
                ToSupervisor::Started { .. } => {}
                other => panic!("waiting for {text:?} after {got:?}: {other:?}"),
            }
        }
        got
    }

    /// The output and the outcome of the one attempt that runs; acknowledged.
    pub async fn result(&mut self) -> (String, Outcome) {
        let mut output = String::new();
        loop {
            match self.event().await {
                ToSupervisor::Output { text, .. } => output.push_str(&text),
                ToSupervisor::Finished { task, outcome, .. } => {
                    self.ack(task.as_str()).await;
                    return (output, outcome);
                }
                ToSupervisor::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// A whole attempt of a bot that has no other.
    pub async fn run(&mut self, task: &str, content: &str) -> (String, Outcome) {
        self.assign(task, content).await;
        self.result().await
    }

    pub async fn stop(&mut self, grace_ms: u64) {
        self.send(ToWorker::Stop { grace_ms }).await;
    }

    pub async fn exit_code(&mut self) -> Option<i32> {
        soon("the bot's end", self.process.wait())
            .await
            .unwrap()
            .code()
    }
}

/// Accepts a connection and reads who it is.
async fn answer(listener: &UnixListener) -> (Hello, OwnedReadHalf, OwnedWriteHalf) {
    let (stream, _) = soon("dialling in", listener.accept()).await.unwrap();
    let (mut reader, writer) = stream.into_split();
    let hello = soon("hello", wire::read_frame(&mut reader, &mut Vec::new())).await;
    match hello.unwrap().unwrap() {
        ToSupervisor::Hello(hello) => (*hello, reader, writer),
        other => panic!("{other:?}"),
    }
}

/// The bot's process, waiting for its bootstrap.
pub fn start_process(variables: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["worker_process", "--exact", "--nocapture"])
        .env(ROLE, "1")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

pub const FENCE: Fence = Fence {
    epoch: 7,
    attempt: 3,
};

pub const LAUNCH: Launch = Launch(5);

pub fn id(task: &str) -> TaskId {
    task.parse().unwrap()
}

/// The error of a failed attempt, which must be of this kind.
pub fn error(outcome: Outcome, expected: FailureKind) -> String {
    match outcome {
        Outcome::Failed { error, kind } if kind == expected => error,
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

pub fn succeeded(outcome: Outcome) -> (Usage, bool) {
    match outcome {
        Outcome::Succeeded {
            usage, truncated, ..
        } => (usage, truncated),
        other => panic!("{other:?}"),
    }
}
