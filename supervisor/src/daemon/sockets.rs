//! What the daemon listens on: handed over by the process before, or bound anew.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::home::{Home, HomeLock};
use super::upgrade::{Handover, Sockets};
use crate::fleet::sessions::BotsListener;
use crate::http::accept::{Program, Resumed, Yielded};
use crate::http::admin_socket::bind_admin_socket;
use crate::http::peer::deia_group;

/// See the module. Kept to be handed on.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// TCP.
    pub tcp: Arc<TcpListener>,
    /// `admin.sock`.
    pub admin: Arc<UnixListener>,
    /// `bots.sock`.
    pub bots: Arc<BotsListener>,
}

impl Listeners {
    /// Those of a daemon that shall answer at `listen`.
    ///
    /// # Errors
    /// Names what can't be listened on, and the remedy.
    pub async fn open(
        home: &Home,
        listen: SocketAddr,
        handover: Option<&Handover>,
    ) -> io::Result<Self> {
        let given = handover.map(|handover| handover.sockets.try_clone());
        let Some(given) = given.transpose()? else {
            return Self::bind(home, listen).await;
        };
        let tcp = std::net::TcpListener::from(given.tcp);
        let at = tcp.local_addr()?;
        let same = at == listen || (listen.port() == 0 && at.ip() == listen.ip());
        let tcp = if same {
            tcp.set_nonblocking(true)?;
            TcpListener::from_std(tcp)?
        } else {
            bind_tcp(listen).await?
        };
        let admin = std::os::unix::net::UnixListener::from(given.admin);
        admin.set_nonblocking(true)?;
        Ok(Self {
            tcp: Arc::new(tcp),
            admin: Arc::new(UnixListener::from_std(admin)?),
            bots: Arc::new(BotsListener::try_from(given.bots)?),
        })
    }

    async fn bind(home: &Home, listen: SocketAddr) -> io::Result<Self> {
        let bots = BotsListener::bind(&home.bots_socket())?;
        let admin = bind_admin_socket(&home.admin_socket(), deia_group());
        Ok(Self {
            bots: Arc::new(bots),
            admin: Arc::new(admin.map_err(io::Error::other)?),
            tcp: Arc::new(bind_tcp(listen).await?),
        })
    }

    /// To be handed on.
    ///
    /// # Errors
    /// For want of descriptors.
    pub fn sockets(&self, lock: &HomeLock) -> io::Result<Sockets> {
        Ok(Sockets {
            tcp: self.tcp.as_fd().try_clone_to_owned()?,
            admin: self.admin.as_fd().try_clone_to_owned()?,
            bots: self.bots.descriptor()?,
            lock: lock.try_clone()?,
        })
    }
}

async fn bind_tcp(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("cannot listen on {listen}: {e}; choose another http.listen or --listen"),
        )
    })
}

/// Connections of the process before, to be served on.
#[derive(Debug, Default)]
pub struct Connections {
    /// Over TCP.
    pub tcp: Resumed<TcpStream>,
    /// Over the admin socket.
    pub admin: Resumed<UnixStream>,
    /// Of programs of bots.
    pub programs: Resumed<Program>,
}

impl Connections {
    /// What was handed over.
    ///
    /// # Errors
    /// For want of descriptors.
    pub fn resume(handover: Option<&Handover>) -> io::Result<Self> {
        let Some(handover) = handover else {
            return Ok(Self::default());
        };
        let tcp = copies(&handover.tcp, |socket, _| {
            let stream = std::net::TcpStream::from(socket);
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        });
        let local = |socket: OwnedFd| {
            let stream = std::os::unix::net::UnixStream::from(socket);
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        let programs = |socket, bot: Option<u32>| Ok((local(socket)?, bot.unwrap_or_default()));
        Ok(Self {
            tcp: tcp?,
            admin: copies(&handover.admin, |socket, _| local(socket))?,
            programs: copies(&handover.programs, programs)?,
        })
    }
}

fn copies<S>(
    given: &[Yielded],
    stream: impl Fn(OwnedFd, Option<u32>) -> io::Result<S>,
) -> io::Result<Resumed<S>> {
    let copy = |yielded: &Yielded| {
        let socket = yielded.socket.try_clone()?;
        Ok((stream(socket, yielded.bot)?, yielded.read.clone()))
    };
    given.iter().map(copy).collect()
}
