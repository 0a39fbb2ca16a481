//! The accept loop: our own, over hyper's HTTP/1 connection.
//!
//! ```text
//!   listener ──accept──> House (caps) ──> [TLS hand-shake] ──> one task per connection: connection.rs
//!                         │ full: who has kept us waiting longest is put out; when all of them
//!                         │ are being worked for: 503, closed
//!   shutdown: stop accepting ──> idle ones closed ──> answers finished ──> deadline ──> cut
//!   give_back: stop accepting ──> answers finished ──> the sockets, between two requests ──> cut
//! ```
//!
//! `axum::serve` keeps half-sent heads and silent connections for ever (measured), so it is not used.
//! The TCP port and the admin socket each have a house of their own: however full the port is, an
//! operator gets in. The listener is shared (`Arc`): a caller that keeps a clone keeps the backlog
//! open across a stop, which a re-execution needs; and so that no client sees an end, the connections
//! go with it ([`ServerHandle::give_back`], [`Resumed`]); but for those of TLS, whose secrets are this
//! process's: they are answered and closed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use deia::config::Http;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::connection;
use super::guard::Guard;
use super::house::House;
pub use super::house::Yielded;
use super::meter::HttpMeter;
use super::peer::{Admission, Peer};
use super::tls;
use super::watch::{Command, millis};

/// Connections at once on the admin socket, besides the port's.
pub const ADMIN_MAX_CONNECTIONS: u32 = 64;
/// Connections at once of one bot's programs, so that no bot takes the places of all.
pub const MAX_PROGRAM_CONNECTIONS: usize = 16;
/// Bots whose places are remembered before those without a guest are forgotten.
const MAX_PLACES: usize = 1024;
/// Refusals (503, 403 before HTTP) being written at once; beyond it a connection is just closed.
pub const MAX_REFUSALS: usize = 64;
/// Descriptors of an idle daemon with one bot (41), and of a look at its folders.
const OWN_DESCRIPTORS: u64 = 44;
/// Pause after an accept that failed for want of descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// What is cut at the end of a shutdown may take this long to notice.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Bounds of a connection. A new value holds for connections accepted after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections at once.
    pub max_connections: u32,
    /// Refusals being written at once, see [`MAX_REFUSALS`].
    pub max_refusals: usize,
    /// Largest body a handler takes (batches: a multiple).
    pub max_body_bytes: u64,
    /// From the first byte of a head (for the first: from the connection) to its end.
    pub header_timeout: Duration,
    /// Between an answer and the first byte of the next request.
    pub idle_timeout: Duration,
    /// Without a byte of the body; also the grace before the least rate holds.
    pub body_timeout: Duration,
    /// Without the client reading; also the grace before the least rate holds.
    pub write_timeout: Duration,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self::from(&Http::default())
    }
}

impl From<&Http> for EdgeLimits {
    fn from(http: &Http) -> Self {
        let header = Duration::try_from_secs_f64(http.header_timeout_seconds)
            .unwrap_or(Duration::from_secs(10));
        Self {
            max_connections: http.max_connections.max(1),
            max_refusals: MAX_REFUSALS,
            max_body_bytes: http.max_body_bytes,
            header_timeout: header,
            idle_timeout: Duration::from_secs(60),
            body_timeout: header,
            write_timeout: header,
        }
    }
}

impl EdgeLimits {
    /// The same for the admin socket.
    #[must_use]
    pub fn for_admin(mut self) -> Self {
        self.max_connections = ADMIN_MAX_CONNECTIONS;
        self
    }

    /// The same, with at most a quarter of `open_files` (`RLIMIT_NOFILE`), and half of what the daemon does
    /// not need itself: the rest is for bots, store, logs, and for operators, who have to get in however
    /// many clients there are.
    #[must_use]
    pub fn within_open_files(mut self, open_files: u64) -> Self {
        self.max_refusals = usize::try_from(open_files / 16)
            .unwrap_or(MAX_REFUSALS)
            .clamp(1, MAX_REFUSALS);
        let left = open_files.saturating_sub(OWN_DESCRIPTORS) / 2;
        let most = u32::try_from((open_files / 4).min(left))
            .unwrap_or(u32::MAX)
            .max(1);
        self.max_connections = self.max_connections.min(most);
        self
    }

    pub(super) fn shortest_ms(&self) -> u64 {
        let shortest = self
            .header_timeout
            .min(self.idle_timeout)
            .min(self.body_timeout)
            .min(self.write_timeout);
        millis(shortest)
    }
}

/// What a listener serves.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The routes: [`super::scope::assemble`].
    pub router: Router,
    /// Who may come in; asked anew for every request, so that a reload holds at once.
    pub guard: watch::Receiver<Arc<Guard>>,
    /// Bounds.
    pub limits: watch::Receiver<EdgeLimits>,
    /// Counts requests.
    pub meter: Arc<HttpMeter>,
    /// What TCP is served with; none: plain HTTP.
    pub tls: Option<tls::Current>,
}

/// Connections of an earlier process, with what it had read of their next requests.
pub type Resumed<S> = Vec<(S, Vec<u8>)>;

/// Serves HTTP on a TCP listener until [`ServerHandle::shutdown`].
pub fn serve_tcp(
    listener: Arc<TcpListener>,
    resumed: Resumed<TcpStream>,
    edge: Edge,
) -> ServerHandle {
    ServerHandle::start(edge, |server, stop| {
        for (stream, read) in resumed {
            // One whose peer is not known any more is gone. Those that are given are plain ones: nobody
            // goes on in the open where TLS was asked for meanwhile.
            if let (Ok(address), None) = (stream.peer_addr(), &server.edge.tls) {
                let local = stream.local_addr().ok().map(|a| a.ip());
                server.welcome(stream, read, Peer::Tcp(address), local);
            }
        }
        tcp_loop(listener, server, stop)
    })
}

/// Serves HTTP on the admin socket until [`ServerHandle::shutdown`]: every connection is shown to
/// `admission` first.
pub fn serve_admin(
    listener: Arc<UnixListener>,
    resumed: Resumed<UnixStream>,
    edge: Edge,
    admission: Arc<Admission>,
) -> ServerHandle {
    ServerHandle::start(edge, |server, stop| {
        for (stream, read) in resumed {
            server.welcome_admin(stream, read, Arc::clone(&admission));
        }
        admin_loop(listener, server, admission, stop)
    })
}

/// A connection of a program, and the process of the bot it belongs to.
pub type Program = (UnixStream, u32);

/// Serves HTTP to programs of bots, until [`ServerHandle::shutdown`]: whoever sends the connections
/// knows whose they are.
pub fn serve_programs(
    mut programs: mpsc::Receiver<Program>,
    resumed: Resumed<Program>,
    edge: Edge,
) -> ServerHandle {
    ServerHandle::start(edge, |server, mut stop| async move {
        let mut places = Places::default();
        for (program, read) in resumed {
            server.welcome_program(program, read, &mut places);
        }
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                program = programs.recv() => match program {
                    Some(program) => server.welcome_program(program, Vec::new(), &mut places),
                    None => return,
                },
            }
        }
        // Those that were let in already are served.
        while let Ok(program) = programs.try_recv() {
            server.welcome_program(program, Vec::new(), &mut places);
        }
    })
}

/// The places of each bot's programs, by the bot's process.
#[derive(Debug, Default)]
struct Places(HashMap<u32, Arc<Semaphore>>);

impl Places {
    fn of(&mut self, bot: u32) -> &Arc<Semaphore> {
        if self.0.len() >= MAX_PLACES && !self.0.contains_key(&bot) {
            self.0
                .retain(|_, places| places.available_permits() < MAX_PROGRAM_CONNECTIONS);
        }
        let new = || Arc::new(Semaphore::new(MAX_PROGRAM_CONNECTIONS));
        self.0.entry(bot).or_insert_with(new)
    }
}

/// A running listener.
#[derive(Debug)]
pub struct ServerHandle {
    house: Arc<House>,
    stop: watch::Sender<bool>,
    acceptor: JoinHandle<()>,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections still busy at the deadline, which were cut.
    pub cut: usize,
}

impl ServerHandle {
    fn start<F>(edge: Edge, accept: impl FnOnce(Arc<Server>, watch::Receiver<bool>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let house = Arc::new(House::default());
        let max_refusals = edge.limits.borrow().max_refusals;
        let server = Arc::new(Server {
            edge,
            house: Arc::clone(&house),
            refusals: Arc::new(Semaphore::new(max_refusals)),
        });
        let (stop, stopped) = watch::channel(false);
        let acceptor = tokio::spawn(accept(server, stopped));
        Self {
            house,
            stop,
            acceptor,
        }
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.house.connections()
    }

    /// Stops accepting, closes idle connections, lets answers in flight finish until `deadline` from
    /// now, and cuts the rest.
    pub async fn shutdown(self, deadline: Duration) -> Drained {
        self.stop.send_replace(true);
        // The loop ends at its next turn; a panic in it has been reported by the runtime.
        drop(self.acceptor.await);
        self.house.ask_all(Command::Finish);
        if tokio::time::timeout(deadline, self.house.emptied())
            .await
            .is_ok()
        {
            return Drained { cut: 0 };
        }
        let cut = self.house.connections();
        self.house.ask_all(Command::Close);
        drop(tokio::time::timeout(CUT_GRACE, self.house.emptied()).await);
        Drained { cut }
    }
}

impl ServerHandle {
    /// Stops accepting, lets answers in flight finish until `deadline` from now, and gives every
    /// connection back between two requests; what is not done by then is cut.
    pub async fn give_back(self, deadline: Duration) -> (Vec<Yielded>, Drained) {
        self.stop.send_replace(true);
        drop(self.acceptor.await);
        self.house.ask_all(Command::Yield);
        let emptied = tokio::time::timeout(deadline, self.house.emptied()).await;
        let mut cut = 0;
        if emptied.is_err() {
            cut = self.house.connections();
            self.house.ask_all(Command::Close);
            drop(tokio::time::timeout(CUT_GRACE, self.house.emptied()).await);
        }
        (self.house.yielded(), Drained { cut })
    }
}

/// What the acceptor and every connection share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) edge: Edge,
    house: Arc<House>,
    refusals: Arc<Semaphore>,
}

async fn tcp_loop(
    listener: Arc<TcpListener>,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let mut trouble = Trouble::default();
    let mut local = listener.local_addr().ok().map(|a| a.ip());
    let any_address = local.is_none_or(|ip| ip.is_unspecified());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if trouble.wait(&error, &server.house, &mut stop).await {
                    return;
                }
                continue;
            }
        };
        trouble.over();
        // Small answers must not wait for the peer's delayed acknowledgement.
        drop(stream.set_nodelay(true));
        let max = server.edge.limits.borrow().max_connections;
        server.house.room(max).await;
        if any_address {
            local = stream.local_addr().ok().map(|a| a.ip());
        }
        match &server.edge.tls {
            Some(tls) => {
                let config = Arc::clone(&tls.borrow());
                server.welcome_tls(stream, config, address, local);
            }
            None => server.welcome(stream, Vec::new(), Peer::Tcp(address), local),
        }
    }
}

async fn admin_loop(
    listener: Arc<UnixListener>,
    server: Arc<Server>,
    admission: Arc<Admission>,
    mut stop: watch::Receiver<bool>,
) {
    let mut trouble = Trouble::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                trouble.over();
                server.welcome_admin(stream, Vec::new(), Arc::clone(&admission));
            }
            Err(error) => {
                if trouble.wait(&error, &server.house, &mut stop).await {
                    return;
                }
            }
        }
    }
}

impl Server {
    fn welcome<S: connection::Stream>(
        self: &Arc<Self>,
        stream: S,
        read: Vec<u8>,
        peer: Peer,
        local: Option<IpAddr>,
    ) {
        let limits = *self.edge.limits.borrow();
        match House::admit(&self.house, limits.max_connections, far(&peer)) {
            Some(guest) => {
                let server = Arc::clone(self);
                tokio::spawn(connection::serve(
                    server, stream, read, peer, local, limits, guest,
                ));
            }
            None => self.refuse_full(stream),
        }
    }

    fn welcome_tls(
        self: &Arc<Self>,
        stream: TcpStream,
        config: Arc<rustls::ServerConfig>,
        address: SocketAddr,
        local: Option<IpAddr>,
    ) {
        let limits = *self.edge.limits.borrow();
        let peer = Peer::Tcp(address);
        // There is no way to say no without a hand-shake: who finds the house full is just closed.
        let Some(guest) = House::admit(&self.house, limits.max_connections, far(&peer)) else {
            return;
        };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let time = limits.header_timeout;
            let shaken = tls::shake_hands(stream, config, &guest.watch, time).await;
            if let Some(stream) = shaken {
                let read = Vec::new();
                connection::serve(server, stream, read, peer, local, limits, guest).await;
            }
        });
    }

    fn welcome_program(
        self: &Arc<Self>,
        (stream, pid): Program,
        read: Vec<u8>,
        places: &mut Places,
    ) {
        let limits = *self.edge.limits.borrow();
        let place = Arc::clone(places.of(pid)).try_acquire_owned();
        let guest = House::admit(&self.house, limits.max_connections, None);
        let (Ok(place), Some(guest)) = (place, guest) else {
            return self.refuse_full(stream);
        };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let peer = Peer::Bot { pid };
            connection::serve(server, stream, read, peer, None, limits, guest).await;
            drop(place);
        });
    }

    fn welcome_admin(
        self: &Arc<Self>,
        stream: UnixStream,
        read: Vec<u8>,
        admission: Arc<Admission>,
    ) {
        let limits = self.edge.limits.borrow().for_admin();
        let Some(guest) = House::admit(&self.house, limits.max_connections, None) else {
            return self.refuse_full(stream);
        };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let credentials = stream.peer_cred();
            // Reads a handful of files in /proc: off the loop.
            let verdict = tokio::task::spawn_blocking(move || admission.decide(credentials)).await;
            match verdict {
                Ok(Ok(peer)) => {
                    connection::serve(server, stream, read, peer, None, limits, guest).await;
                }
                Ok(Err(refusal)) => {
                    tracing::warn!(event = "admin_refused", reason = %refusal, "A connection to the admin socket was refused");
                    connection::refuse(stream, refusal.into()).await;
                }
                Err(_) => {}
            }
        });
    }

    fn refuse_full<S: connection::Stream>(&self, stream: S) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            connection::refuse(stream, connection::full()).await;
            drop(permit);
        });
    }
}

/// Whose share of the places a connection takes: programs of this host have one address, and no shares.
fn far(peer: &Peer) -> Option<IpAddr> {
    let address = peer.address().filter(|_| !peer.is_local());
    address.map(super::limit::network)
}

/// Accepts that fail: said once per episode, and never a busy loop.
#[derive(Debug, Default)]
struct Trouble {
    /// When it began, and when it was met last.
    since: Option<(Instant, Instant)>,
}

/// Without trouble for this long, it is over: between two failures some accepts succeed.
const TROUBLE_IS_OVER: Duration = Duration::from_secs(5);

impl Trouble {
    /// Whether the loop must end.
    async fn wait(
        &mut self,
        error: &io::Error,
        house: &House,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted
        ) {
            // That client is gone; the next one may be well.
            return false;
        }
        let now = Instant::now();
        let known = self.since.is_some();
        self.since = Some((self.since.map_or(now, |(begun, _)| begun), now));
        if !known {
            tracing::error!(event = "accept_failed", reason = %error, "Connections can't be accepted; trying again until they can");
        }
        // Descriptors come back soonest from those who do nothing with theirs.
        house.put_some_out();
        tokio::select! {
            _ = stop.changed() => true,
            () = tokio::time::sleep(ACCEPT_BACKOFF) => false,
        }
    }

    fn over(&mut self) {
        let over = |(_, last): &mut (Instant, Instant)| last.elapsed() >= TROUBLE_IS_OVER;
        if let Some((begun, last)) = self.since.take_if(over) {
            tracing::info!(
                event = "accept_recovered",
                seconds = (last - begun).as_secs_f64(),
                "Connections are accepted again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_open_files_bound_the_connections() {
        let limits = EdgeLimits::default();
        assert_eq!(limits.within_open_files(64).max_connections, 10);
        assert_eq!(limits.within_open_files(256).max_connections, 64);
        assert_eq!(limits.within_open_files(64).max_refusals, 4);
        assert_eq!(limits.within_open_files(1 << 20).max_connections, 256);
        assert_eq!(limits.within_open_files(0).max_connections, 1);
    }
}
