//! One connection: hyper's HTTP/1 state machine, our clock beside it, the guard before the router.
//!
//! Bounds: a head of [`MAX_HEAD_BYTES`] (431 past it) and 100 header lines (hyper's own bound: naming
//! another costs an allocation per request), every time-out of [`EdgeLimits`]. A panic in a handler is
//! answered with 500 and logged; the connection and the daemon go on. A client that is still sending
//! when it is refused gets a moment to read the answer ([`LINGER_TIME`]), for closing at once would
//! make its kernel throw the answer away.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body as AxumBody;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower::Service;

use super::accept::{EdgeLimits, Server};
use super::body::{AnswerBody, RequestBody};
use super::error::ApiFailure;
use super::house::{Guest, Yielded};
use super::peer::Peer;
use super::scope::ScopeRefusal;
use super::watch::{Command, Late, Verdict, Watch};

/// Largest request line and headers together.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Read and write buffer of a connection, at most.
const MAX_BUFFER_BYTES: usize = 128 * 1024;
/// How often one that was put out while it was being served is looked at.
const LEAVE_CHECK_MS: u64 = 250;
/// How long a client that is refused may go on sending.
pub const LINGER_TIME: Duration = Duration::from_secs(2);
/// How long a refusal waits for the request it answers.
const FIRST_BYTES: Duration = Duration::from_millis(500);
/// How long the end of a TLS connection may take to be said.
const SAY_THE_END: Duration = Duration::from_millis(500);
/// How much it may go on sending.
pub const LINGER_BYTES: u64 = 64 << 20;

/// What can carry a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether another process can go on with it.
    const CAN_BE_GIVEN: bool = true;

    /// The socket alone, no longer watched by the runtime.
    fn into_socket(self) -> io::Result<OwnedFd>;

    /// Whether the kernel has bytes of it that were not read yet.
    fn has_bytes(&self) -> bool;
}

impl Stream for TcpStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn has_bytes(&self) -> bool {
        has_bytes(self.as_fd())
    }
}

impl Stream for UnixStream {
    fn into_socket(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }

    fn has_bytes(&self) -> bool {
        has_bytes(self.as_fd())
    }
}

/// Serves one connection to its end, or until it is to be given back. `read` has come from it already.
pub(super) async fn serve<S: Stream>(
    server: Arc<Server>,
    stream: S,
    read: Vec<u8>,
    peer: Peer,
    local: Option<IpAddr>,
    limits: EdgeLimits,
    guest: Guest,
) {
    let watch = Arc::clone(&guest.watch);
    let service = {
        let watch = Arc::clone(&watch);
        hyper::service::service_fn(move |request| {
            answer(
                Arc::clone(&server),
                Arc::clone(&watch),
                request,
                peer,
                local,
                limits.max_body_bytes,
            )
        })
    };
    let io = TokioIo::new(Timed {
        inner: stream,
        read: read.into(),
        watch: Arc::clone(&watch),
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(io, service);
    let mut timer = std::pin::pin!(tokio::time::sleep(Duration::from_millis(
        limits.shortest_ms()
    )));
    let mut finishing = false;
    let end = poll_fn(|cx| {
        watch.task.register(cx.waker());
        loop {
            // An error here is the client's: there is nobody left to tell.
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(End::Over);
            }
            let command = match watch.command() {
                Command::Yield if !S::CAN_BE_GIVEN => Command::Finish,
                command => command,
            };
            match command {
                Command::Close => return Poll::Ready(End::Over),
                Command::Yield if watch.may_yield() => return Poll::Ready(End::Yielded),
                Command::Finish if !S::CAN_BE_GIVEN && watch.has_just_come(watch.now()) => {
                    let at = tokio::time::Instant::now() + Duration::from_millis(LEAVE_CHECK_MS);
                    timer.as_mut().reset(at);
                }
                Command::Finish if watch.may_close() => return Poll::Ready(End::Over),
                Command::Leave if watch.leaves_now(watch.now()) => return Poll::Ready(End::Over),
                // Only while a request is being served: hyper would drop half a head otherwise.
                Command::Finish if !finishing && watch.is_serving() => {
                    finishing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                    continue;
                }
                Command::Leave if !finishing => {
                    finishing = true;
                    let at = tokio::time::Instant::now() + Duration::from_millis(LEAVE_CHECK_MS);
                    timer.as_mut().reset(at);
                }
                Command::Serve | Command::Yield | Command::Finish | Command::Leave => {}
            }
            ready!(timer.as_mut().poll(cx));
            match watch.verdict(watch.now(), &limits) {
                Verdict::Late(Late::Body) => watch.give_up_body(),
                Verdict::Late(_) => return Poll::Ready(End::Over),
                Verdict::Again(ms) => {
                    let leaving = watch.command() == Command::Leave;
                    let ms = if leaving { ms.min(LEAVE_CHECK_MS) } else { ms };
                    let at = tokio::time::Instant::now() + Duration::from_millis(ms);
                    timer.as_mut().reset(at);
                }
            }
        }
    })
    .await;
    if end == End::Yielded {
        let parts = connection.into_parts();
        let timed = parts.io.into_inner();
        let read = [parts.read_buf, timed.read].concat();
        // One that can't be taken off the runtime is closed: its client asks again.
        if let Ok(socket) = timed.inner.into_socket() {
            let bot = match peer {
                Peer::Bot { pid } => Some(pid),
                _ => None,
            };
            guest.yields(Yielded { socket, read, bot });
        }
        return;
    }
    if watch.has_unread_body() && watch.command() < Command::Leave {
        watch.request_ends();
        linger(connection.into_parts().io.into_inner(), &watch).await;
    } else if !S::CAN_BE_GIVEN && watch.command() < Command::Close {
        // An end that is not said could be a cut.
        let mut stream = connection.into_parts().io.into_inner().inner;
        drop(tokio::time::timeout(SAY_THE_END, stream.shutdown()).await);
    }
    drop(guest);
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Over,
    Yielded,
}

/// One request: guard, router, and a net for panics.
async fn answer(
    server: Arc<Server>,
    watch: Arc<Watch>,
    request: Request<Incoming>,
    peer: Peer,
    local: Option<IpAddr>,
    max_body_bytes: u64,
) -> Result<Response<AnswerBody>, Infallible> {
    watch.request_begins(!request.body().is_end_stream());
    let begun = Instant::now();
    let (mut parts, body) = request.into_parts();
    // Wrapped before the guard: a refused request's unread body must be known as such.
    let body = RequestBody::new(body, Arc::clone(&watch));
    let checked = server.edge.guard.borrow().check(&parts, peer, local);
    let response = match checked {
        Err(failure) => {
            let response = failure.into_response();
            server.edge.meter.refused(begun, response.status());
            response
        }
        Ok(mut caller) => {
            caller.max_body_bytes = max_body_bytes;
            parts.extensions.insert(caller);
            let uri = parts.uri.clone();
            let request = Request::from_parts(parts, AxumBody::new(body));
            let routed = server.edge.router.clone().call(request);
            let response = match AssertUnwindSafe(routed).catch_unwind().await {
                Ok(Ok(response)) => name_the_socket(response, &server),
                Err(panic) => panicked(panic.as_ref()).into_response(),
            };
            server
                .edge
                .meter
                .answered(uri.path(), begun, response.status());
            response
        }
    };
    Ok(response.map(|body| AnswerBody::new(body, watch)))
}

/// A route's scope does not know where the admin socket is; the guard does.
fn name_the_socket(response: Response<AxumBody>, server: &Server) -> Response<AxumBody> {
    if response.status() != axum::http::StatusCode::FORBIDDEN {
        return response;
    }
    match response.extensions().get::<ScopeRefusal>() {
        Some(refusal) => refusal
            .failure(server.edge.guard.borrow().admin_socket())
            .into_response(),
        None => response,
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ApiFailure {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    ApiFailure::internal(format_args!("a handler panicked: {text}"))
}

/// The answer when every place is taken by somebody who is being served.
pub(super) fn full() -> ApiFailure {
    ApiFailure::unavailable(
        "too_many_connections",
        "every connection is in use; try again, or raise http.max_connections",
        1,
    )
}

/// Answers whatever will be asked with `failure`, then closes. Bounded by [`LINGER_TIME`].
pub(super) async fn refuse<S: Stream>(mut stream: S, failure: ApiFailure) {
    let body = failure.to_json();
    let status = failure.status();
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}connection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Refused"),
        body.len(),
        if status == axum::http::StatusCode::SERVICE_UNAVAILABLE {
            "retry-after: 1\r\n"
        } else {
            ""
        },
    );
    let work = async {
        // An answer that comes before its question is an error to a client that is still writing.
        let mut first = [0; 1024];
        drop(tokio::time::timeout(FIRST_BYTES, stream.read(&mut first)).await);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        discard(&mut stream, || false).await
    };
    drop(tokio::time::timeout(LINGER_TIME, work).await);
}

/// Lets the client finish sending, so that it reads what it was answered.
async fn linger<S: Stream>(timed: Timed<S>, watch: &Watch) {
    let mut stream = timed.inner;
    let work = async {
        stream.shutdown().await?;
        discard(&mut stream, || watch.command() >= Command::Leave).await
    };
    drop(tokio::time::timeout(LINGER_TIME, work).await);
}

async fn discard<S: Stream>(stream: &mut S, enough: impl Fn() -> bool) -> io::Result<()> {
    let mut waste = vec![0; 64 * 1024];
    let mut left = LINGER_BYTES;
    while left > 0 && !enough() {
        let n = stream.read(&mut waste).await?;
        if n == 0 {
            break;
        }
        left = left.saturating_sub(n as u64);
    }
    Ok(())
}

/// A stream that tells the [`Watch`] what moves.
#[derive(Debug)]
struct Timed<S> {
    inner: S,
    /// Came before this process had the connection.
    read: Bytes,
    watch: Arc<Watch>,
}

impl<S: Stream> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let n = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read.split_to(n));
            self.watch.bytes_read();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_pending() {
            if self.watch.command() != Command::Serve {
                // The runtime learns of bytes a little after the kernel has them. Before an idle
                // connection is closed, ask the kernel: a request that was sent is answered.
                self.watch.note_unread(self.inner.has_bytes());
            }
        } else if buf.filled().len() > before {
            self.watch.bytes_read();
        }
        polled
    }
}

pub(super) fn has_bytes(socket: BorrowedFd<'_>) -> bool {
    let mut byte = [0_u8; 1];
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    rustix::net::recv(socket, &mut byte[..], flags).is_ok_and(|(_, n)| n > 0)
}

impl<S: Stream> Timed<S> {
    fn wrote(&self, polled: &Poll<io::Result<usize>>, offered: usize) {
        match polled {
            Poll::Ready(Ok(n)) => self.watch.wrote(Some(*n), offered),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.watch.wrote(None, offered),
        }
    }
}

impl<S: Stream> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(&polled, buf.len());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        // TLS has a buffer of its own, which a client that does not read keeps full.
        match polled {
            Poll::Pending => self.watch.wrote(None, 0),
            Poll::Ready(_) => self.watch.wrote(Some(0), 0),
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        let offered = bufs.iter().map(|b| b.len()).sum();
        self.wrote(&polled, offered);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
