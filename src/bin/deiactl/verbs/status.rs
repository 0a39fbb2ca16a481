//! `deiactl status`.

use clap::Args;
use deia::api::{Health, QueueView, RecoveryStatus, Status as DaemonStatus};
use deia::client::{ClientError, Reply};

use super::bots;
use super::doctor::recovery;
use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::{Out, one_line};

/// Show the daemon, its configuration, its bots and its queue.
#[derive(Debug, Args)]
pub struct Status {}

impl Status {
    /// Asks and prints.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let out = &context.out;
        let reply = match client.status().await {
            Ok(reply) => reply,
            Err(error) => {
                if !out.json
                    && let Some(status) = recovery::stands(&client, &error).await
                {
                    show_recovery(out, &status)?;
                }
                return Err(error.into());
            }
        };
        if out.json {
            return out.json_bytes(&reply.json);
        }
        let health = health_line(client.health().await)?;
        show(out, &reply, &health)
    }
}

/// The daemon is there and has no store; what to do says the refusal.
fn show_recovery(out: &Out, status: &RecoveryStatus) -> Result<(), Failure> {
    out.line(&format!(
        "daemon  {} (pid {})",
        one_line(&status.home),
        status.pid
    ))?;
    let why = status.recovery_mode.as_deref().unwrap_or_default();
    out.line(&format!("health  RECOVERY MODE: {}", one_line(why)))?;
    let newest = status.latest_backup.as_deref().unwrap_or("none");
    out.line(&format!(
        "backups {}, the newest is {}",
        status.total_backups,
        one_line(newest)
    ))
}

fn show(out: &Out, status: &DaemonStatus, health: &str) -> Result<(), Failure> {
    out.line(&format!(
        "daemon  {} (pid {}, deia {}, port {}, up {})",
        one_line(&status.home),
        status.pid,
        one_line(&status.version),
        status.port,
        human::duration(status.uptime_seconds)
    ))?;
    out.line(&format!("health  {health}"))?;
    let config = &status.config;
    let file = config.file.as_deref().unwrap_or("built-in defaults");
    out.line(&format!(
        "config  {} (generation {})",
        one_line(file),
        config.generation
    ))?;
    for error in &config.load_errors {
        out.line(&format!("        ! {}", one_line(error)))?;
    }
    out.line(&format!("queue   {}", queue(&status.queue)))?;
    out.line("")?;
    bots::show(out, &status.bots, status.timestamp)
}

/// `ok`, or what is wrong. A daemon that answers 503 is there and not well; that is no failure of
/// this command.
fn health_line(health: Result<Reply<Health>, ClientError>) -> Result<String, Failure> {
    match health {
        Ok(health) => {
            let state = format!("{:?}", health.status).to_lowercase();
            Ok(match health.reasons.as_slice() {
                [] => state,
                reasons => format!("{state}: {}", one_line(&reasons.join("; "))),
            })
        }
        Err(ClientError::Refused {
            status: 503,
            refusal,
            ..
        }) => Ok(format!("unavailable: {}", one_line(&refusal.to_string()))),
        Err(error) => Err(error.into()),
    }
}

fn queue(queue: &QueueView) -> String {
    format!(
        "{} queued, {} running, {} scheduled; {} succeeded, {} dead, {} cancelled, {} expired",
        queue.queued,
        queue.running,
        queue.scheduled,
        queue.succeeded,
        queue.dead,
        queue.cancelled,
        queue.expired
    )
}
