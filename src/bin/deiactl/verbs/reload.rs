//! `deiactl reload`.

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;

/// Read the configuration file again; fails when it is refused.
#[derive(Debug, Args)]
pub struct Reload {}

impl Reload {
    /// Asks, waits until it is applied or refused, and says what changed.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let reply = context.announced().await?.reload().await?;
        let out = &context.out;
        out.reply(&reply, |answer| {
            if answer.success {
                out.line(&format!(
                    "applied {} (generation {})",
                    answer.loaded_from, answer.generation
                ))?;
                for change in &answer.changes {
                    out.line(&format!("  {change}"))?;
                }
                for key in &answer.restart_required {
                    out.line(&format!("  needs a restart of the daemon: {key}"))?;
                }
            }
            Ok(())
        })?;
        if reply.success {
            for error in &reply.errors {
                out.note(&format!("warning: {error}"));
            }
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{} is refused, generation {} stays in force: {}",
            reply.loaded_from,
            reply.generation,
            reply.errors.join("; ")
        )))
    }
}
