//! A request to a model server and its streamed answer: the part that ollama and openai share.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use deia::config::ModelServer;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

use super::Failure;
use crate::secret_file::{self, Secret};
use crate::text;

/// Most bytes read of an error's body.
const MAX_ERROR_BODY_BYTES: usize = 8 * 1024;
/// How long an error's body may take.
const ERROR_BODY_PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a server's words in one of ours.
const MAX_ERROR_TEXT_BYTES: usize = 1024;
/// An idle connection is closed after this: an idle bot holds none.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// A model server. The client is made at the first request: most of a bot's memory would be it.
#[derive(Debug)]
pub struct Server {
    /// Where and how.
    pub spec: ModelServer,
    client: OnceCell<Client>,
}

impl Server {
    pub(super) fn new(spec: ModelServer) -> Self {
        Self {
            spec,
            client: OnceCell::new(),
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.spec.url.trim_end_matches('/'))
    }

    /// Posts `body` and waits for the head of the answer, at most until the first token is due.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Reply, Failure> {
        let first_token = seconds(self.spec.first_token_timeout_seconds);
        let due = Instant::now() + first_token;
        let secret = match &self.spec.api_key_file {
            Some(path) => Some(api_key(path.clone()).await?),
            None => None,
        };
        let url = self.url(path);
        let client = self
            .client
            .get_or_try_init(|| async { client(&self.spec) })
            .await?;
        let mut request = client.post(&url).json(body);
        if let Some((_, header)) = &secret {
            request = request.header(AUTHORIZATION, header.clone());
        }
        let response = timeout_at(due, request.send())
            .await
            .map_err(|_| no_first_token(&url, first_token))?
            .map_err(|e| {
                let text = format!("cannot reach {url}: {}", causes(&e));
                if e.is_builder() {
                    Failure::permanent(format!("{text} (check the backend's url)"))
                } else if e.is_connect() {
                    Failure::unreachable(text)
                } else {
                    Failure::unavailable(text)
                }
            })?;
        Ok(Reply {
            url,
            status: response.status(),
            response,
            secret: secret.map(|(secret, _)| secret),
            due,
            first_token,
            idle: seconds(self.spec.idle_timeout_seconds),
            awaiting: Awaiting::FirstToken,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    FirstToken,
    More,
}

/// An answer that is arriving. Dropping it closes the connection, which cancels the work there.
pub(super) struct Reply {
    url: String,
    status: StatusCode,
    response: Response,
    secret: Option<Secret>,
    due: Instant,
    first_token: Duration,
    idle: Duration,
    awaiting: Awaiting,
}

impl Reply {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn content_type(&self) -> &str {
        let value = self.response.headers().get(reqwest::header::CONTENT_TYPE);
        value.and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// The next piece, or `None` at the end. Until [`Reply::progressed`] the first token's time-out
    /// counts, then the idle one.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let due = match self.awaiting {
            Awaiting::FirstToken => self.due,
            Awaiting::More => Instant::now() + self.idle,
        };
        match timeout_at(due, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(e)) => Err(Failure::backend(format!(
                "the answer from {} broke off: {}",
                self.url,
                causes(&e)
            ))),
            Err(_) if self.awaiting == Awaiting::FirstToken => {
                Err(no_first_token(&self.url, self.first_token))
            }
            Err(_) => Err(Failure::timed_out(format!(
                "{} sent nothing for {:?} (idle_timeout_seconds)",
                self.url, self.idle
            ))),
        }
    }

    /// The first token is here.
    pub(super) fn progressed(&mut self) {
        self.awaiting = Awaiting::More;
    }

    /// What a server says in place of an answer; never with the key in it, which some repeat.
    pub(super) fn words(&self, error: &serde_json::Value) -> String {
        let text = error_text(error);
        let text = match &self.secret {
            Some(secret) => secret.redact_piece(&text),
            None => text,
        };
        text::prefix(&text, MAX_ERROR_TEXT_BYTES).to_owned()
    }

    /// The text of an error status's body, bounded in size and time.
    pub(super) async fn error_words(&mut self) -> String {
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(piece)) = self.response.chunk().await {
                let room = MAX_ERROR_BODY_BYTES - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if body.len() == MAX_ERROR_BODY_BYTES {
                    break;
                }
            }
        };
        let _ = timeout(ERROR_BODY_PATIENCE, read).await;
        let body = String::from_utf8_lossy(&body);
        let error = match serde_json::from_str::<serde_json::Value>(&body) {
            Ok(serde_json::Value::Object(mut object)) => object
                .remove("error")
                .unwrap_or(serde_json::Value::Object(object)),
            _ => serde_json::Value::String(body.trim().to_owned()),
        };
        self.words(&error)
    }
}

/// `{"error": "text"}`, `{"error": {"message": "text"}}`, or whatever it is.
fn error_text(error: &serde_json::Value) -> String {
    let message = error.get("message").unwrap_or(error);
    match message.as_str() {
        Some(text) => text.to_owned(),
        None => message.to_string(),
    }
}

/// A status that means: not now. Anything else a server refuses with is about the request.
pub(super) fn is_overload(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn no_first_token(url: &str, limit: Duration) -> Failure {
    Failure::timed_out(format!(
        "no token from {url} within {limit:?} (first_token_timeout_seconds)"
    ))
}

async fn api_key(path: PathBuf) -> Result<(Secret, HeaderValue), Failure> {
    let shown = path.display().to_string();
    let secret = secret_file::read(path)
        .await
        .map_err(|e| Failure::permanent(format!("api_key_file: {e}")))?;
    let mut header = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).map_err(|_| {
        Failure::permanent(format!(
            "api_key_file: {shown} holds something that can't be sent in a header: one line of text is expected"
        ))
    })?;
    header.set_sensitive(true);
    Ok((secret, header))
}

fn client(spec: &ModelServer) -> Result<Client, Failure> {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(seconds(spec.connect_timeout_seconds))
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(1)
        // A redirect would send the task's text, and perhaps the key, where nobody configured it.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if !spec.url.starts_with("https:") {
        // Without this the host's certificates are loaded for nothing: several MiB in every bot.
        let roots = rustls::RootCertStore::empty();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder
        .build()
        .map_err(|e| Failure::permanent(format!("no HTTP client for {}: {}", spec.url, causes(&e))))
}

/// The configuration's seconds; what is no time-out (NaN, negative, huge) becomes the nearest one.
fn seconds(value: f64) -> Duration {
    const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;
    Duration::try_from_secs_f64(value.clamp(0.0, LONGEST)).unwrap_or(Duration::ZERO)
}

/// An error and what caused it, without the URL that is already in ours.
fn causes(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut texts: Vec<String> = Vec::new();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    match texts.pop() {
        Some(text) => text,
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_are_read_in_every_form_in_use() {
        assert_eq!(error_text(&json!("a")), "a");
        assert_eq!(error_text(&json!({"message": "b", "code": 1})), "b");
        assert_eq!(error_text(&json!({"x": 1})), r#"{"x":1}"#);
    }

    #[test]
    fn no_configured_number_makes_a_time_out_panic() {
        for odd in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            let _ = Instant::now() + seconds(odd);
        }
        assert_eq!(seconds(0.25), Duration::from_millis(250));
    }
}
