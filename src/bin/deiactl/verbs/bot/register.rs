//! `deiactl bot register NAME` and `deiactl bot unregister NAME`: external bots.

use clap::Args;
use deia::api::RegisterRequest;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::one_line;

/// Let a program somewhere else lease tasks.
#[derive(Debug, Args)]
pub struct Register {
    /// The bot's name; not one that a pool's bots can have
    id: String,
    /// general, developer, analyzer, writer, planner or validator
    #[arg(long = "type", value_name = "TYPE")]
    bot_type: Option<String>,
    /// What it offers; may be given again
    #[arg(long = "specialization", value_name = "NAME")]
    specializations: Vec<String>,
    /// Tasks at once (3 where nothing is said)
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Where it is registered: give it a new secret; the old one is refused at once
    #[arg(long)]
    rotate: bool,
}

impl Register {
    /// Registers it and shows its secret, once.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let request = RegisterRequest {
            bot_id: self.id.clone(),
            bot_type: self.bot_type.clone(),
            specializations: (!self.specializations.is_empty())
                .then(|| self.specializations.clone()),
            max_concurrent: self.max,
            rotate: self.rotate.then_some(true),
        };
        let client = context.announced().await?;
        let reply = client.register_bot(&request).await?;
        let out = &context.out;
        out.reply(&reply, |answer| {
            out.line(&format!("{} (shown this once)", one_line(&answer.message)))?;
            out.line(&one_line(&answer.bot_secret))
        })
    }
}

/// Take an external bot out of the fleet.
#[derive(Debug, Args)]
pub struct Unregister {
    /// The bot's name
    id: String,
}

impl Unregister {
    /// Its secret is refused from then on, and what it has is queued again.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.announced().await?;
        let reply = client.unregister_bot(&self.id).await?;
        let out = &context.out;
        out.reply(&reply, |answer| out.line(&one_line(&answer.message)))
    }
}
