//! A bot's connection to its supervisor, from dialling to the exit code.
//!
//! ```text
//!   dial -> Hello -> Welcome -> confine -> Ready -> Loop
//!                                                    |  ^
//!                              lost: results to the spool, the rest runs on
//!                                                    v  |
//!                                    dial again -> Hello (what it has) -> WelcomeBack
//!   nobody came within the grace: everything that runs is ended, and so is the bot
//! ```

mod board;
mod dial;
mod link;
mod serve;
mod spooling;

use std::io;
use std::path::Path;
use std::time::Duration;

use deia::wire::{Bootstrap, Hello, ToSupervisor, ToWorker, Welcome};

use tokio::time::Instant;

use crate::attempt::Bot;
use crate::beat::Beat;
use crate::pulse::PulseFile;
use crate::tree::Reaper;
use crate::{confine, log};
use link::Link;

/// How long the supervisor may take for its welcome.
pub const WELCOME_PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries to reach it.
const DIAL_AGAIN: Duration = Duration::from_millis(50);

/// How a bot's process ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Was told to stop, and did.
    Stopped = 0,
    /// Never became ready: no bootstrap, no connection, no confinement.
    Setup = 1,
    /// The supervisor was lost and did not come back; what ran was ended too.
    ConnectionLost = 3,
    /// The supervisor sent what the protocol does not allow, or another version of it.
    Protocol = 4,
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot reach the supervisor at {path}: {source}")]
    Connect { path: String, source: io::Error },
    #[error("no welcome from the supervisor within {WELCOME_PATIENCE:?}")]
    NoWelcome,
    #[error("{0}")]
    Setup(String),
    #[error("lost the supervisor: {0}")]
    Lost(String),
    #[error(
        "the supervisor is gone and has not come back within supervision.orphan_grace_seconds ({0:?})"
    )]
    Orphaned(Duration),
    #[error("the supervisor broke the protocol: {0}")]
    Protocol(String),
}

impl SessionError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connect { .. } | Self::NoWelcome | Self::Setup(_) => Exit::Setup,
            Self::Lost(_) | Self::Orphaned(_) => Exit::ConnectionLost,
            Self::Protocol(_) => Exit::Protocol,
        }
    }
}

/// Dials in, serves, and ends everything that was started.
pub async fn run(bootstrap: Bootstrap) -> Exit {
    match session(bootstrap).await {
        Ok(()) => Exit::Stopped,
        Err(e) => {
            log::say(&format!("deia worker: {e}"));
            e.exit()
        }
    }
}

async fn session(bootstrap: Bootstrap) -> Result<(), SessionError> {
    let hello = hello(&bootstrap);
    let (link, welcome) = be_welcomed(&bootstrap.socket, &hello).await?;
    deia::failpoint!("worker.welcomed");
    let setup = |what: &str, e: io::Error| SessionError::Setup(format!("{what}: {e}"));
    let pulse = PulseFile::new().map_err(|e| setup("no file for heartbeats", e))?;
    let confined = confine::apply(&welcome, &bootstrap.socket).map_err(SessionError::Setup)?;
    let sandbox = confined.sandbox;
    let beat = Beat::new(welcome.heartbeat_ms).map_err(|e| setup("no timer for heartbeats", e))?;
    // While there can be one: from now on there is a thread for what can only block.
    let thread = tokio::task::spawn_blocking(|| {}).await;
    thread.map_err(|e| SessionError::Setup(format!("no thread: {e}")))?;
    let signals = serve::signals().map_err(|e| setup("no signal handlers", e))?;
    link.send(ToSupervisor::Ready {
        sandbox: sandbox.clone(),
        pulse_fd: pulse.fd(),
    })
    .await?;
    deia::failpoint!("worker.ready");
    let reaper = Reaper::default();
    let socket = bootstrap.socket.clone();
    let identity = serve::Identity::new(bootstrap.socket, hello, sandbox, pulse.fd(), &welcome);
    let spool = spooling::Spooling::new(&identity.hello, welcome.places.spool.clone());
    let bot = Bot::new(
        bootstrap.bot_id,
        socket,
        welcome,
        confined.cage,
        reaper.clone(),
    );
    serve::Loop::new(link, bot, reaper, identity, pulse, spool)
        .with(confined.domain)
        .run(beat, signals)
        .await
}

/// Dials until somebody answers: the supervisor may be replaced at this very moment.
async fn be_welcomed(socket: &Path, hello: &Hello) -> Result<(Link, Welcome), SessionError> {
    let deadline = Instant::now() + WELCOME_PATIENCE;
    loop {
        match be_welcomed_once(socket, hello).await {
            Err(SessionError::Connect { .. } | SessionError::Lost(_))
                if Instant::now() + DIAL_AGAIN < deadline =>
            {
                tokio::time::sleep(DIAL_AGAIN).await;
            }
            answer => return answer,
        }
    }
}

async fn be_welcomed_once(socket: &Path, hello: &Hello) -> Result<(Link, Welcome), SessionError> {
    let connected = dial::connect(socket).await;
    let mut link = connected.map_err(|source| SessionError::Connect {
        path: socket.display().to_string(),
        source,
    })?;
    link.send(ToSupervisor::Hello(Box::new(hello.clone())))
        .await?;
    let welcome = welcome(&mut link).await?;
    Ok((link, welcome))
}

fn hello(bootstrap: &Bootstrap) -> Hello {
    Hello {
        bot_id: bootstrap.bot_id.clone(),
        launch: bootstrap.launch,
        secret: bootstrap.secret.clone(),
        pid: std::process::id(),
        version: deia::VERSION.to_owned(),
        back: None,
    }
}

async fn welcome(link: &mut Link) -> Result<Welcome, SessionError> {
    let answer = tokio::time::timeout(WELCOME_PATIENCE, link.next()).await;
    match answer.map(|heard| heard.map(|heard| heard.frame)) {
        Err(_) => Err(SessionError::NoWelcome),
        Ok(Ok(ToWorker::Welcome(welcome))) => Ok(*welcome),
        Ok(Ok(_)) => Err(SessionError::Protocol(
            "its first frame is no welcome".into(),
        )),
        Ok(Err(e)) => Err(e),
    }
}
