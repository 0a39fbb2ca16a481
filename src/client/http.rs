//! One request, one bounded answer.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ClientError, Refusal, Target};

/// Most bytes of an answer: a batch of 100,000 tasks has about 40 MiB.
pub const MAX_ANSWER_BYTES: usize = 256 << 20;

/// How long a connection may take. The daemon is on this host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take, where the call itself does not wait for something.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon's address and the connections to it. Cheap to clone; does nothing until it is asked.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    target: Arc<Target>,
    base: Arc<str>,
}

/// An answer: the value, and the daemon's own JSON, which may hold more than this version knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<T> {
    /// What it means.
    pub value: T,
    /// What came.
    pub json: Bytes,
}

impl<T> Deref for Reply<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One request before it is sent.
pub(super) struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Option<Bytes>,
    pub timeout: Duration,
    /// A status that is an answer besides the 2xx.
    pub accept: Option<StatusCode>,
}

impl<'a> Call<'a> {
    pub fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            timeout: ANSWER_TIMEOUT,
            accept: None,
        }
    }

    pub fn post(path: &'a str) -> Self {
        Self {
            method: Method::POST,
            ..Self::get(path)
        }
    }
}

impl Client {
    /// A client of the daemon there. Nothing is sent yet.
    pub fn new(target: Target) -> Result<Self, ClientError> {
        // reqwest is built with rustls and without a default provider (the workers' backends use
        // it), and asks for one even when every URL is plain HTTP. An error means that one is
        // installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_certs_only([])
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("deiactl/", env!("CARGO_PKG_VERSION")));
        let (builder, base) = match &target {
            Target::Socket(path) => (builder.unix_socket(path.as_path()), "http://localhost"),
            Target::Url(url) => (builder, url.as_str()),
        };
        let base = base.into();
        let http = builder.build().map_err(|error| ClientError::Unreachable {
            target: target.to_string(),
            why: format!("the HTTP client could not be set up: {error}"),
        })?;
        Ok(Self {
            http,
            target: Arc::new(target),
            base,
        })
    }

    /// The daemon's address.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// `GET` of any path: for routes this version has no type for.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Reply<T>, ClientError> {
        self.call(Call::get(path)).await
    }

    /// `POST` to any path.
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Reply<T>, ClientError> {
        let body = Some(self.encode(body)?);
        self.call(Call {
            body,
            ..Call::post(path)
        })
        .await
    }

    pub(super) fn encode<B: Serialize>(&self, body: &B) -> Result<Bytes, ClientError> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|error| self.protocol(format!("the request is not JSON: {error}")))
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<Reply<T>, ClientError> {
        let what = format!("{} {}", call.method, call.path);
        let seconds = call.timeout.as_secs_f64();
        let accept = call.accept;
        let failed = |error: reqwest::Error| {
            ClientError::from_transport(&self.target.to_string(), &what, seconds, &error)
        };
        let mut response = self.send(call).await?;
        let status = response.status();
        let retry_after_seconds = retry_after(&response);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let text = format!("{what}: more than {MAX_ANSWER_BYTES} bytes");
                return Err(self.protocol(text));
            }
            body.extend_from_slice(&chunk);
        }
        let json = body.freeze();
        if !status.is_success() && accept != Some(status) {
            return Err(ClientError::Refused {
                status: status.as_u16(),
                refusal: Refusal::parse(status.as_u16(), &json),
                retry_after_seconds,
            });
        }
        let value = serde_json::from_slice(&json)
            .map_err(|error| self.protocol(format!("{what}: HTTP {status}: {error}")))?;
        Ok(Reply { value, json })
    }

    /// Sends a request and returns before the body.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Response, ClientError> {
        let url = format!("{}{}", self.base, call.path);
        let what = format!("{} {}", call.method, call.path);
        let mut request = self.http.request(call.method, url);
        if !call.timeout.is_zero() {
            request = request.timeout(call.timeout);
        }
        if let Some(body) = call.body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        request.send().await.map_err(|error| {
            let seconds = call.timeout.as_secs_f64();
            ClientError::from_transport(&self.target.to_string(), &what, seconds, &error)
        })
    }

    pub(super) fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol {
            target: self.target.to_string(),
            what,
        }
    }
}

pub(super) fn retry_after(response: &Response) -> Option<u64> {
    let value = response.headers().get("retry-after")?;
    value.to_str().ok()?.trim().parse().ok()
}

/// `text` as one segment of a path (RFC 3986: all but unreserved characters are escaped).
pub(super) fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `path?name=value&...` from the values that are there.
pub(super) fn with_query(path: &str, values: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    let mut separator = '?';
    for (name, value) in values {
        if let Some(value) = value {
            out.push(separator);
            out.push_str(name);
            out.push('=');
            out.push_str(&segment(value));
            separator = '&';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_leave_its_segment() {
        assert_eq!(segment("task-1.a_b~c"), "task-1.a_b~c");
        assert_eq!(segment("../x?y#z&%é"), "..%2Fx%3Fy%23z%26%25%C3%A9");
    }

    #[test]
    fn missing_values_leave_no_trace_in_a_query() {
        let query = [
            ("status", Some("dead".to_owned())),
            ("bot", None),
            ("cursor", Some("a=b&c".to_owned())),
        ];
        assert_eq!(
            with_query("/api/tasks", &query),
            "/api/tasks?status=dead&cursor=a%3Db%26c"
        );
        assert_eq!(with_query("/api/tasks", &[]), "/api/tasks");
    }
}
