//! Alerts to a server of the operator's: `alerts.webhook_url`.
//!
//! Signed as [Standard Webhooks](https://www.standardwebhooks.com/) has it, so that a receiver can tell who
//! sent it and whether it is new: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64 of
//! HMAC-SHA256 over id.timestamp.body>`. The secret is made at the first need, in
//! `.deia/secrets/webhook.key`, in the form that receivers' libraries take: `whsec_<base64>`.
//!
//! Nobody waits for it: what finds no room is dropped, and said. In order, each tried [`TRIES`] times; a
//! redirect is an answer like any other, for it could lead anywhere.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deia::api::Alert;
use deia::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, redirect};
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::mpsc;

use super::probe::cause;
use crate::brain::alerts::{Change, Changed};
use crate::daemon::reload::ConfigHandle;

/// Changes that may wait.
const MAX_WAITING: usize = 256;

/// How often one is tried.
pub const TRIES: u32 = 8;

/// Before the second try; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// ... and never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A receiver has so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before a secret in its file.
const PREFIX: &str = "whsec_";

/// Takes what is to be sent. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Webhook(mpsc::Sender<Message>);

/// What a receiver gets.
#[derive(Debug, Serialize)]
struct Message {
    /// `alert.generated`, `alert.level_changed`, `alert.resolved`.
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    data: Alert,
    #[serde(skip)]
    id: String,
}

impl Webhook {
    /// Starts it; it sends where the configuration of the moment says.
    pub fn start(config: ConfigHandle, key: PathBuf) -> Self {
        let (to, messages) = mpsc::channel(MAX_WAITING);
        // What a daemon left that was killed while it made one.
        let mut begun = key.clone().into_os_string();
        begun.push(".tmp");
        let _ = std::fs::remove_file(begun);
        tokio::spawn(run(config, key, messages));
        Self(to)
    }

    /// Hands a change over, if there is room.
    pub fn send(&self, change: &Change, at: Timestamp) {
        let message = Message {
            kind: match change.what {
                Changed::Raised => "alert.generated",
                Changed::Level(_) => "alert.level_changed",
                Changed::Over | Changed::ByHand => "alert.resolved",
            },
            timestamp: at,
            data: change.alert.clone(),
            id: format!("msg_{}", uuid::Uuid::new_v4().simple()),
        };
        if self.0.try_send(message).is_err() {
            tracing::warn!(event = "alert_not_delivered", alert_id = %change.alert.alert_id, reason = "too many wait already", "an alert does not go to alerts.webhook_url");
        }
    }
}

async fn run(config: ConfigHandle, key: PathBuf, mut messages: mpsc::Receiver<Message>) {
    let mut sender = None;
    while let Some(message) = messages.recv().await {
        if config.current().alerts.webhook_url.is_none() {
            continue;
        }
        if sender.is_none() {
            sender = Sender::new(key.clone()).await;
        }
        if let Some(sender) = &sender {
            sender.deliver(&config, &message).await;
        }
    }
}

struct Sender {
    client: Client,
    secret: Vec<u8>,
}

impl Sender {
    async fn new(key: PathBuf) -> Option<Self> {
        let made = tokio::task::spawn_blocking(move || load_or_create(&key)).await;
        let secret = made.unwrap_or_else(|e| Err(io::Error::other(e)));
        let secret = secret.inspect_err(|e| {
            tracing::warn!(event = "alert_not_delivered", error = %e, "alerts can't be signed for alerts.webhook_url");
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(0)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build();
        Some(Self {
            client: client.ok()?,
            secret: secret.ok()?,
        })
    }

    /// Until a receiver takes it, it was tried often enough, or nobody wants it any more.
    async fn deliver(&self, config: &ConfigHandle, message: &Message) {
        let Ok(body) = serde_json::to_vec(message) else {
            return;
        };
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            let Some(url) = config.current().alerts.webhook_url.clone() else {
                return;
            };
            let Err(why) = self.post(&url, &message.id, &body).await else {
                return;
            };
            if left == 0 {
                // Not the address: there may be something in it that nobody should read in a log.
                tracing::warn!(event = "alert_not_delivered", alert_id = %message.data.alert_id, reason = why, tries = TRIES, "an alert could not be delivered to alerts.webhook_url");
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn post(&self, url: &str, id: &str, body: &[u8]) -> Result<(), String> {
        let now = Timestamp::now().as_micros() / 1_000_000;
        let answer = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", sign(&self.secret, id, now, body))
            .body(body.to_vec())
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(e) => Err(cause(&e)),
        }
    }
}

/// `v1,<base64>`.
fn sign(secret: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The secret in this file (0600), made where there is none.
fn load_or_create(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let encoded = text.trim().strip_prefix(PREFIX);
            let secret = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
            secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
                let why = format!(
                    "{} is no secret (whsec_<base64>): remove it, and another is made",
                    path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, why)
            })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let secret = crate::fleet::proof::random().to_vec();
            let text = format!("{PREFIX}{}\n", STANDARD.encode(&secret));
            crate::durable::write(path, text.as_bytes())?;
            Ok(secret)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn signs_as_the_specification_has_it() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_secret_is_made_once_and_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webhook.key");
        let secret = load_or_create(&path).unwrap();
        assert_eq!(secret.len(), 32);
        assert_eq!(load_or_create(&path).unwrap(), secret);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(load_or_create(&path).is_err());
    }
}
