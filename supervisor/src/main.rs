//! `deia`: the daemon's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use deia_supervisor::daemon::recovery::offline::{RecoverArgs, recover};
use deia_supervisor::daemon::upgrade::{GuardArgs, guard, self_check};
use deia_supervisor::daemon::{self, Options};
use deia_supervisor::demo;

/// A supervisor daemon for a fleet of LLM bots.
#[derive(Debug, Parser)]
#[command(name = "deia", version, about, long_about = None, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon in the foreground (the default).
    Run(RunArgs),
    /// Start a fleet in a temporary home, let it do real work and show it.
    Demo {
        /// End after the work is done.
        #[arg(long)]
        once: bool,
    },
    /// Print the API's OpenAPI document.
    Openapi,
    /// A bot's process (internal: started by the daemon).
    #[command(hide = true)]
    Worker,
    /// Say whether this release could run a home (internal: asked by a daemon before an upgrade).
    #[command(hide = true)]
    SelfCheck {
        /// The daemon's home directory.
        #[arg(long, value_name = "DIR")]
        home: PathBuf,
        /// The configuration, instead of HOME/bot-config.yaml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// A copy of its store, which is migrated.
        #[arg(long, value_name = "FILE")]
        store: Option<PathBuf>,
    },
    /// Watch a switch to another release (internal: started by the daemon).
    #[command(hide = true)]
    UpgradeGuard(GuardArgs),
    /// Backups and restores without a daemon (internal: run by deiactl where none answers).
    #[command(hide = true)]
    Recover(RecoverArgs),
    /// End what is left of a home's bots when no daemon runs.
    Reap {
        /// The daemon's home directory.
        #[arg(long, env = "DEIA_HOME", value_name = "DIR", default_value = ".")]
        home: PathBuf,
        /// Not after a crash, when the service manager starts the daemon again ($SERVICE_RESULT).
        #[arg(long)]
        if_stopped: bool,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The daemon's home directory.
    #[arg(long, env = "DEIA_HOME", value_name = "DIR", default_value = ".")]
    home: PathBuf,
    /// The configuration, instead of HOME/bot-config.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to answer HTTP, instead of http.listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Run one bot of this name.
    #[arg(long, value_name = "NAME")]
    bot_id: Option<String>,
    /// The port to answer HTTP on.
    #[arg(long, value_name = "N", conflicts_with = "listen")]
    port: Option<u16>,
}

fn main() -> ExitCode {
    match Cli::parse() {
        Cli {
            verb: Some(Verb::Worker),
            ..
        } => deia_worker::main(),
        Cli {
            verb:
                Some(Verb::SelfCheck {
                    home,
                    config,
                    store,
                }),
            ..
        } => self_check(&home, config, store.as_deref()),
        Cli {
            verb: Some(Verb::UpgradeGuard(arguments)),
            ..
        } => guard(&arguments),
        Cli {
            verb: Some(Verb::Recover(arguments)),
            ..
        } => recover(&arguments),
        Cli {
            verb: Some(Verb::Reap { home, if_stopped }),
            ..
        } => daemon::reap(&home, if_stopped),
        Cli {
            verb: Some(Verb::Demo { once }),
            ..
        } => demo::run(once),
        Cli {
            verb: Some(Verb::Openapi),
            ..
        } => daemon::print_openapi(),
        Cli {
            verb: Some(Verb::Run(args)),
            ..
        }
        | Cli {
            verb: None,
            run: args,
        } => daemon::run(Options {
            home: args.home,
            config: args.config,
            listen: args.listen,
            bot_id: args.bot_id,
            port: args.port,
        }),
    }
}
