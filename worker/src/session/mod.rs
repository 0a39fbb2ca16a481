//! A bot's connection to its supervisor, from dialling to the exit code.

mod board;
mod link;
mod serve;

use std::io;
use std::time::Duration;

use deia::wire::{Bootstrap, ToSupervisor, ToWorker, Welcome};
use interprocess::local_socket::tokio::{Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ToFsName};

use crate::attempt::Bot;
use crate::beat::Beat;
use crate::tree::Reaper;
use crate::{confine, log};
use link::Link;

/// How long the supervisor may take for its welcome.
pub const WELCOME_PATIENCE: Duration = Duration::from_secs(10);

/// How a bot's process ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Was told to stop, and did.
    Stopped = 0,
    /// Never became ready: no bootstrap, no connection, no confinement.
    Setup = 1,
    /// The connection ended; what ran was ended too.
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
    #[error("the supervisor broke the protocol: {0}")]
    Protocol(String),
}

impl SessionError {
    fn exit(&self) -> Exit {
        match self {
            Self::Connect { .. } | Self::NoWelcome | Self::Setup(_) => Exit::Setup,
            Self::Lost(_) => Exit::ConnectionLost,
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
    let mut link = Link::new(connect(&bootstrap).await?);
    link.send(ToSupervisor::Hello {
        bot_id: bootstrap.bot_id.clone(),
        secret: bootstrap.secret,
        pid: std::process::id(),
        held: Vec::new(),
    })
    .await?;
    let welcome = welcome(&mut link).await?;
    let confined = confine::apply(&welcome).map_err(SessionError::Setup)?;
    let beat = Beat::new(welcome.heartbeat_ms)
        .map_err(|e| SessionError::Setup(format!("no timer for heartbeats: {e}")))?;
    let signals =
        serve::signals().map_err(|e| SessionError::Setup(format!("no signal handlers: {e}")))?;
    link.send(ToSupervisor::Ready {
        sandbox: confined.sandbox,
    })
    .await?;
    let slots = welcome.max_concurrent_tasks.max(1) as usize;
    let reaper = Reaper::default();
    let bot = Bot::new(bootstrap.bot_id, welcome, confined.cage, reaper.clone());
    serve::Loop::new(link, bot, reaper, slots)
        .with(confined.domain)
        .run(beat, signals)
        .await
}

async fn connect(bootstrap: &Bootstrap) -> Result<Stream, SessionError> {
    let failed = |source| SessionError::Connect {
        path: bootstrap.socket.display().to_string(),
        source,
    };
    let name = bootstrap
        .socket
        .as_path()
        .to_fs_name::<GenericFilePath>()
        .map_err(failed)?;
    Stream::connect(name).await.map_err(failed)
}

async fn welcome(link: &mut Link) -> Result<Welcome, SessionError> {
    match tokio::time::timeout(WELCOME_PATIENCE, link.next()).await {
        Err(_) => Err(SessionError::NoWelcome),
        Ok(Ok(ToWorker::Welcome(welcome))) => Ok(*welcome),
        Ok(Ok(_)) => Err(SessionError::Protocol(
            "its first frame is no welcome".into(),
        )),
        Ok(Err(e)) => Err(e),
    }
}
