//! A client that says exactly what goes over the socket.

use std::time::Duration;

use deia::client::raw::{Connection, Endpoint};
use serde_json::Value;

/// How long one read or write may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One address of a daemon.
#[derive(Debug, Clone)]
pub struct Http {
    endpoint: Endpoint,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null where it is none.
    pub body: Value,
}

impl Response {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Fails the test unless it is a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }
}

impl Http {
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// A connection of its own: kept open, or for what is not a whole request.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        let connection = self.try_connect();
        connection.unwrap_or_else(|e| panic!("{:?}: {e}", self.endpoint))
    }

    /// The same, where the daemon may be away.
    pub fn try_connect(&self) -> std::io::Result<Connection> {
        Connection::open(&self.endpoint, TIMEOUT)
    }

    /// `GET` on a new connection.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], None)
    }

    /// `POST` of JSON on a new connection.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        let body = body.to_string();
        let headers = [("content-type", "application/json")];
        self.request("POST", path, &headers, Some(body.as_bytes()))
    }

    /// Any request on a new connection.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Response {
        let answer = self.try_request(method, path, headers, body);
        answer.unwrap_or_else(|e| panic!("{method} {path} at {:?}: {e}", self.endpoint))
    }

    /// Any request on a new connection, where the daemon may be away.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> std::io::Result<Response> {
        let mut connection = Connection::open(&self.endpoint, TIMEOUT)?;
        let answer = connection.request(method, path, headers, body)?;
        Ok(Response {
            status: answer.status,
            headers: answer.headers,
            text: String::from_utf8_lossy(&answer.body).into_owned(),
            body: serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
        })
    }
}
