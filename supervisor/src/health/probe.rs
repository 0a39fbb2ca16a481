//! Are the model servers there? Asked by the daemon itself, so that tasks need not find out.
//!
//! At the health interval, for each server that some pool may ask; every second for one that does not answer
//! while tasks wait for it. What counts is a connection: a server that is slow to answer is there, since many
//! answer one request at a time; one whose gateway says that it is not, is not.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, StatusCode, redirect};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::brain::servers::Kind;
use crate::daemon::command::Command;
use crate::daemon::reload::ConfigHandle;
use crate::daemon::vitals::{AskHealth, Probe, Probing};

/// A server has so long to accept a connection ...
const CONNECT: Duration = Duration::from_secs(2);
/// ... and to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two questions while tasks wait for the answer.
const URGENT: Duration = Duration::from_secs(1);
/// Servers asked at once.
const MAX_AT_ONCE: usize = 16;

/// Asks until the daemon ends.
pub(super) async fn run(
    mut probing: watch::Receiver<Probing>,
    mut config: ConfigHandle,
    commands: mpsc::Sender<Command>,
) {
    let mut client = None;
    let mut last: Option<Instant> = None;
    loop {
        let now = probing.borrow_and_update().clone();
        let settings = config.current();
        let on = settings.feature_flags.health_monitoring_enabled;
        let interval = Duration::from_secs(settings.timeouts.bot_health_check_interval_seconds);
        let due = match (now.is_urgent, on, last) {
            _ if now.servers.is_empty() => None,
            (true, _, last) => Some(last.map_or_else(Instant::now, |last| last + URGENT)),
            (false, true, last) => Some(last.map_or_else(Instant::now, |last| last + interval)),
            // Those that are down are asked all the same: nothing else would say that they are back.
            (false, false, last) => {
                let down = now.servers.iter().any(|server| server.is_down);
                down.then(|| last.map_or_else(Instant::now, |last| last + interval))
            }
        };
        tokio::select! {
            () = until(due) => {}
            changed = probing.changed() => match changed {
                Ok(()) => {
                    // Another server is asked at once.
                    if is_new(&now, &probing.borrow()) {
                        last = None;
                    }
                    continue;
                }
                Err(_) => return,
            },
            alive = config.changed() => match alive {
                true => continue,
                false => return,
            },
        }
        last = Some(Instant::now());
        if client.is_none() {
            client = build();
        }
        let Some(client) = &client else {
            continue;
        };
        let asked: Vec<&Probe> = now
            .servers
            .iter()
            .filter(|server| !now.is_urgent || server.is_down)
            .collect();
        let mut answers = Vec::new();
        for some in asked.chunks(MAX_AT_ONCE) {
            let each = some
                .iter()
                .map(|server| async { (server.url.clone(), ask(client, server).await) });
            answers.extend(join_all(each).await);
        }
        let told = Command::Health(AskHealth::Probed(answers));
        if commands.send(told).await.is_err() {
            return;
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Whether there is a server that was not there before.
fn is_new(before: &Probing, now: &Probing) -> bool {
    let known = |url: &Arc<str>| before.servers.iter().any(|server| server.url == *url);
    now.servers.iter().any(|server| !known(&server.url))
}

fn build() -> Option<Client> {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .pool_max_idle_per_host(0)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build();
    client
        .inspect_err(|e| tracing::error!(event = "no_http_client", error = %e, "model servers can't be asked whether they are there"))
        .ok()
}

/// Whether a server is there.
async fn ask(client: &Client, server: &Probe) -> Result<(), String> {
    let base = server.url.trim_end_matches('/');
    let url = match server.kind {
        Kind::Ollama => format!("{base}/api/version"),
        Kind::Openai => format!("{base}/models"),
    };
    match client.get(&url).send().await {
        Ok(answer) => match answer.status() {
            status @ (StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(format!("it answers {status}")),
            _ => Ok(()),
        },
        Err(e) if e.is_connect() => Err(cause(&e)),
        // It was reached: whether it works is for attempts to find out.
        Err(_) => Ok(()),
    }
}

/// What is at the bottom of an error, which alone says what is wrong.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
