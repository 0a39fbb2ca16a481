//! The command line: options that hold for every verb, and the verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::context::Context;
use crate::failure::Failure;
use crate::verbs;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed or refused, 2 usage, 3 daemon unreachable, 4 timed out waiting.

The daemon is found by --socket, --url or --home, else $DEIA_SOCKET, else .deia/run/admin.sock in \
$DEIA_HOME or the current directory if it is there, else /run/deia/admin.sock.";

/// Ask and steer a deia daemon: the fleet, its tasks and its configuration
#[derive(Debug, Parser)]
#[command(name = "deiactl", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Options that hold for every verb.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that hold for every verb.
#[derive(Debug, Args)]
pub struct Globals {
    /// The daemon's home directory
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    pub home: Option<PathBuf>,
    /// The daemon's admin socket
    #[arg(
        long,
        value_name = "PATH",
        global = true,
        conflicts_with = "home",
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
    /// The daemon's TCP listener, as http://127.0.0.1:8001 (what changes the fleet is refused there)
    #[arg(long, value_name = "URL", global = true, conflicts_with_all = ["home", "socket"],
          help_heading = "Global options")]
    pub url: Option<String>,
    /// Print the daemon's JSON instead of text for people
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Do not say on standard error which daemon answered
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the daemon, its configuration, its bots and its queue
    Status(verbs::status::Status),
    /// Submit a task
    Submit(verbs::submit::Submit),
    /// List, show and steer tasks
    Task(verbs::task::Task),
    /// List the bots
    Bots(verbs::bots::Bots),
    /// Show, start, stop, restart or interrupt one bot, show what it printed, or register an external one
    Bot(verbs::bot::Bot),
    /// Show or set how many bots there may be
    Scale(verbs::scale::Scale),
    /// Refuse new tasks, finish what runs, stop the bots (scale --max 0)
    Drain(verbs::drain::Drain),
    /// End the limits set by scale or drain: those of the file are in force again
    Resume(verbs::resume::Resume),
    /// Read the configuration file again; fails when it is refused
    Reload(verbs::reload::Reload),
    /// Replace the running daemon's program in place; bots, tasks and connections are kept
    Upgrade(verbs::upgrade::Upgrade),
    /// Show and check the configuration
    Config(verbs::config::Config),
    /// Show the daemon's log
    Logs(verbs::logs::Logs),
    /// Measure throughput and latency of a running fleet with tasks of its own
    Bench(verbs::bench::Bench),
    /// Send and read messages between bots
    Message(verbs::message::Message),
    /// Show and resolve alerts
    Alerts(verbs::alerts::Alerts),
    /// Make, list and verify backups of the daemon's state
    Backup(verbs::backup::Backup),
    /// Query and verify the audit trail
    Audit(verbs::audit::Audit),
    /// Restore a backup; what is there is kept, and it can be undone
    Restore(verbs::restore::Restore),
    /// Say what is wrong and what to do
    Doctor(verbs::doctor::Doctor),
    /// Print a shell's completion script
    Completions(verbs::completions::Completions),
    /// Create, list and revoke API tokens
    Token(verbs::token::Token),
    Rollback(verbs::rollback::Rollback),
    /// Check a host before a deployment (not implemented yet)
    Preflight(verbs::planned::Planned),
    /// Run the deployment checklist (not implemented yet)
    Checklist(verbs::planned::Planned),
    Deployments(verbs::deployments::Deployments),
    /// Watch the fleet (not implemented yet)
    Top(verbs::planned::Planned),
}

impl Verb {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Status(verb) => verb.run(context).await,
            Self::Submit(verb) => verb.run(context).await,
            Self::Task(verb) => verb.run(context).await,
            Self::Bots(verb) => verb.run(context).await,
            Self::Bot(verb) => verb.run(context).await,
            Self::Scale(verb) => verb.run(context).await,
            Self::Drain(verb) => verb.run(context).await,
            Self::Resume(verb) => verb.run(context).await,
            Self::Reload(verb) => verb.run(context).await,
            Self::Upgrade(verb) => verb.run(context).await,
            Self::Config(verb) => verb.run(context).await,
            Self::Logs(verb) => verb.run(context).await,
            Self::Bench(verb) => verb.run(context).await,
            Self::Message(verb) => verb.run(context).await,
            Self::Backup(verb) => verb.run(context).await,
            Self::Audit(verb) => verb.run(context).await,
            Self::Alerts(verb) => verb.run(context).await,
            Self::Restore(verb) => verb.run(context).await,
            Self::Doctor(verb) => verb.run(context).await,
            Self::Completions(verb) => verb.run(context),
            Self::Token(verb) => verb.run(context).await,
            Self::Rollback(verb) => verb.run(context).await,
            Self::Preflight(verb) => verb.run("preflight"),
            Self::Checklist(verb) => verb.run("checklist"),
            Self::Deployments(verb) => verb.run(context).await,
            Self::Top(verb) => verb.run("top"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_daemon_is_named_once() {
        let twice = ["deiactl", "--home", "/a", "--socket", "/b", "status"];
        assert!(Cli::try_parse_from(twice).is_err());
    }
}
