//! The edge over real sockets.

mod admin;
mod connections;
mod shapes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::get;
use deia::api::{Scope, SubmitRequest};
use deia::config::{Http, HttpAuth, RateLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accept::{Edge, EdgeLimits, ServerHandle, serve_tcp};
use super::extract::{JsonBody, PathArgs};
use super::guard::{Books, Caller, Guard, Tokens, token_hash};
use super::scope::{ScopeSet, assemble, open, scoped, unscoped_operations};

/// Far more than any of these tests may take.
pub(super) const LONG: Duration = Duration::from_secs(20);

#[utoipa::path(get, path = "/health", responses((status = 200)))]
async fn health() -> &'static str {
    "well"
}

#[utoipa::path(get, path = "/who", responses((status = 200)))]
async fn who(caller: Caller) -> String {
    caller.to_string()
}

#[utoipa::path(post, path = "/submit", responses((status = 200)))]
async fn submit(JsonBody(request): JsonBody<SubmitRequest>) -> String {
    request.content
}

#[utoipa::path(get, path = "/items/{id}", responses((status = 200)))]
async fn item(PathArgs(id): PathArgs<u32>) -> String {
    id.to_string()
}

#[utoipa::path(post, path = "/scale", responses((status = 200)))]
async fn scale() -> &'static str {
    "scaled"
}

#[utoipa::path(get, path = "/panic", responses((status = 200)))]
async fn panics() {
    panic!("on purpose");
}

#[utoipa::path(get, path = "/slow", responses((status = 200)))]
async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(600)).await;
    "at last"
}

#[utoipa::path(get, path = "/large", responses((status = 200)))]
async fn large() -> Vec<u8> {
    vec![b'x'; 64 << 20]
}

fn routes() -> super::scope::ScopedRouter<()> {
    let read = OpenApiRouter::new()
        .routes(routes!(who))
        .routes(routes!(item))
        .routes(routes!(panics))
        .routes(routes!(slow))
        .routes(routes!(large))
        // Not in the document, and still scoped.
        .route(
            "/hidden",
            get(|_: Request| async { "hidden".into_response() }),
        );
    scoped(Scope::Read, read)
        .merge(scoped(
            Scope::Submit,
            OpenApiRouter::new().routes(routes!(submit)),
        ))
        .merge(scoped(
            Scope::Admin,
            OpenApiRouter::new().routes(routes!(scale)),
        ))
        .merge(open(OpenApiRouter::new().routes(routes!(health))))
}

struct TwoTokens;

impl Tokens for TwoTokens {
    fn scopes(&self, hash: &[u8; 32]) -> Option<ScopeSet> {
        let known = [
            ("deia_all", ScopeSet::ALL),
            ("deia_bot", ScopeSet::NONE.with(Scope::Bot)),
        ];
        let mut known = known.into_iter();
        known.find_map(|(token, scopes)| (token_hash(token) == *hash).then_some(scopes))
    }
}

pub(super) fn edge(limits: EdgeLimits, auth: HttpAuth) -> (Edge, watch::Sender<EdgeLimits>) {
    let (router, document) = assemble(routes(), ());
    assert_eq!(unscoped_operations(&document), Vec::<String>::new());
    let http = Http {
        auth,
        ..Http::default()
    };
    let books = Books {
        tokens: Arc::new(TwoTokens),
        limiter: Arc::default(),
        admin_socket: "/run/deia/admin.sock".into(),
    };
    let guard = Guard::new(None, &http, &RateLimits::default(), books);
    let (sender, limits) = watch::channel(limits);
    (
        Edge {
            router,
            guard: watch::channel(Arc::new(guard)).1,
            limits,
            meter: Arc::default(),
            tls: None,
        },
        sender,
    )
}

pub(super) async fn start(limits: EdgeLimits, auth: HttpAuth) -> (SocketAddr, ServerHandle) {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    (
        address,
        serve_tcp(listener, Vec::new(), edge(limits, auth).0),
    )
}

pub(super) fn quick() -> EdgeLimits {
    EdgeLimits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        body_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(300),
        ..EdgeLimits::default()
    }
}

/// Sends `request` and reads until the daemon closes.
pub(super) async fn talk(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    read_all(&mut stream).await
}

pub(super) async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A reset after the answer is an end like any other.
    drop(
        tokio::time::timeout(LONG, read)
            .await
            .expect("the daemon closes"),
    );
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request, `Connection: close`.
pub(super) async fn request(address: SocketAddr, head: &str, body: &str) -> String {
    let text = format!(
        "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    talk(address, text.as_bytes()).await
}

pub(super) fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

pub(super) fn json(answer: &str) -> serde_json::Value {
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or("");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}
