//! `deiactl config show|validate|diff|init`.
//!
//! `validate` and `init` work without a daemon: a file is checked before there is one.

mod check;
mod init;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;

/// Show and check the configuration.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the configuration in force, or one key of it
    Show {
        /// A key, as `bot_limits.max_bots`
        key: Option<String>,
    },
    /// Check a file, without a daemon; fails if any value would not be used
    Validate {
        /// The file [default: the daemon's, else the home's]
        file: Option<PathBuf>,
    },
    /// Show what a reload would change
    Diff {
        /// The file [default: the daemon's]
        file: Option<PathBuf>,
    },
    /// Write the sample configurations into the home's .deia/config
    Init {
        /// Overwrite samples that were changed
        #[arg(long)]
        force: bool,
    },
}

impl Config {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match &self.verb {
            Verb::Show { key: None } => {
                let reply = context.client()?.config_current().await?;
                let out = &context.out;
                out.reply(&reply, |config| out.text(&annotated(config)?))
            }
            Verb::Show { key: Some(key) } => {
                let reply = context.client()?.config_value(key).await?;
                let out = &context.out;
                out.reply(&reply, |answer| out.text(&yaml(&answer.value)?))
            }
            Verb::Validate { file } => check::validate(context, file.as_deref()).await,
            Verb::Diff { file } => check::diff(context, file.as_deref()).await,
            Verb::Init { force } => init::init(context, *force),
        }
    }
}

/// As the file would have it, with a word on each key that differs from its default or has no effect
/// yet. A daemon of another version may have keys this program does not know: then without the words.
fn annotated(current: &Value) -> Result<String, Failure> {
    let name = Path::new("the running configuration");
    match deia::config::parse(&current.to_string(), name, None) {
        Ok(loaded) if loaded.problems.is_empty() => Ok(deia::config::render_yaml(&loaded.config)),
        _ => yaml(current),
    }
}

/// As the file would have it.
fn yaml(value: &Value) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(value)
        .map_err(|error| Failure::Failed(format!("it can't be shown as YAML ({error}): --json")))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
