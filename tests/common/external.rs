//! An external bot as a test plays it: what it signs, to the byte.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deia::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Daemon, Http, Response};

/// Names of requests, never the same in one run of a test.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A registered bot.
#[derive(Debug, Clone)]
pub struct External {
    pub id: String,
    pub secret: Vec<u8>,
}

/// A request, as it goes over the socket.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    pub path: String,
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: Vec<u8>,
}

impl External {
    /// Registers it; `more` is merged into the request.
    #[track_caller]
    pub fn register(daemon: &Daemon, id: &str, more: &Value) -> Self {
        let mut body = json!({"bot_id": id});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let answer = daemon.post("/api/orchestrate/register-bot", &body).ok();
        Self::of(id, &answer)
    }

    /// From the answer to a registration.
    #[track_caller]
    pub fn of(id: &str, answer: &Value) -> Self {
        let secret = answer["bot_secret"].as_str().expect("a secret");
        let encoded = secret.strip_prefix("whsec_").expect("its prefix");
        Self {
            id: id.to_owned(),
            secret: STANDARD.decode(encoded).expect("base64"),
        }
    }

    /// Signed now, under a name of its own.
    pub fn sign(&self, path: &str, body: &Value) -> SignedRequest {
        let now = Timestamp::now().as_micros() / 1_000_000;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("msg_{}-{now}-{number}", std::process::id());
        self.sign_as(path, body.to_string().as_bytes(), &id, &now.to_string())
    }

    /// Signed as it is said.
    pub fn sign_as(&self, path: &str, body: &[u8], id: &str, timestamp: &str) -> SignedRequest {
        SignedRequest {
            path: format!("/api/bots/{}/{path}", self.id),
            id: id.to_owned(),
            timestamp: timestamp.to_owned(),
            signature: signature(&self.secret, id, timestamp, body),
            body: body.to_vec(),
        }
    }

    /// Over the admin socket, which may do everything and is asked for a signature all the same.
    #[track_caller]
    pub fn post(&self, daemon: &Daemon, path: &str, body: &Value) -> Response {
        self.sign(path, body).send(&daemon.admin())
    }

    /// Tasks, which must be given.
    #[track_caller]
    pub fn lease(&self, daemon: &Daemon, max: u32, wait_seconds: f64) -> Vec<Value> {
        let body = json!({"max": max, "wait_seconds": wait_seconds});
        let answer = self.post(daemon, "lease", &body).ok();
        answer["tasks"].as_array().expect("tasks").clone()
    }

    /// One task, which must come.
    #[track_caller]
    pub fn lease_one(&self, daemon: &Daemon) -> Value {
        let mut tasks = self.lease(daemon, 1, 10.0);
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    /// Says something of a leased task.
    #[track_caller]
    pub fn say(&self, daemon: &Daemon, task: &Value, what: &str, body: &Value) -> Response {
        let mut body = body.clone();
        body["lease"] = task["lease"].clone();
        let name = task["task_id"].as_str().expect("a name");
        self.post(daemon, &format!("tasks/{name}/{what}"), &body)
    }
}

impl SignedRequest {
    /// Sends it as it is.
    #[track_caller]
    pub fn send(&self, to: &Http) -> Response {
        to.request("POST", &self.path, &self.headers(), Some(&self.body))
    }

    /// The same where the daemon may be away.
    pub fn try_send(&self, to: &Http) -> std::io::Result<Response> {
        to.try_request("POST", &self.path, &self.headers(), Some(&self.body))
    }

    pub fn headers(&self) -> [(&str, &str); 4] {
        [
            ("content-type", "application/json"),
            ("webhook-id", &self.id),
            ("webhook-timestamp", &self.timestamp),
            ("webhook-signature", &self.signature),
        ]
    }
}

/// As Standard Webhooks has it.
pub fn signature(secret: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length will do");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
