//! `deiactl bot show|start|stop|restart|interrupt|logs|register|unregister ID`.

mod register;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use deia::client::{BotAction, ClientError};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::one_line;
use crate::tail::{FOLLOW_PAUSE, Follower, Line};

/// Show, start, stop, restart or interrupt one bot, show what it printed, or register an external one.
#[derive(Debug, Args)]
pub struct Bot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say what it is, what happened to it, how often, and what comes next
    Show(One),
    /// Give it a process
    Start(One),
    /// Let it finish its tasks and end its process
    Stop(One),
    /// Stop it and start it again
    Restart(One),
    /// End its running tasks; the bot stays
    Interrupt(One),
    /// Show what it printed
    Logs(Logs),
    /// Let a program somewhere else lease tasks, and show its secret
    Register(register::Register),
    /// Take an external bot out of the fleet
    Unregister(register::Unregister),
}

#[derive(Debug, Args)]
struct One {
    /// The bot's name
    id: String,
}

#[derive(Debug, Args)]
struct Logs {
    /// The bot's name
    id: String,
    /// Print what comes
    #[arg(long, short)]
    follow: bool,
    /// How many lines from the end
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200)]
    lines: usize,
}

impl Bot {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match &self.verb {
            Verb::Show(one) => show::run(context, &one.id).await,
            Verb::Start(one) => one.act(context, BotAction::Start).await,
            Verb::Stop(one) => one.act(context, BotAction::Stop).await,
            Verb::Restart(one) => one.act(context, BotAction::Restart).await,
            Verb::Interrupt(one) => one.act(context, BotAction::Interrupt).await,
            Verb::Logs(logs) => logs.run(context).await,
            Verb::Register(verb) => verb.run(context).await,
            Verb::Unregister(verb) => verb.run(context).await,
        }
    }
}

impl One {
    async fn act(&self, context: &Context, action: BotAction) -> Result<(), Failure> {
        let client = context.announced().await?;
        let reply = client.bot_action(&self.id, action).await?;
        let out = &context.out;
        out.reply(&reply, |answer| {
            if answer.success {
                let (id, actual) = (&answer.bot_id, answer.actual);
                out.line(&format!("{id} {actual}: {}", one_line(&answer.message)))?;
            }
            Ok(())
        })?;
        if reply.success {
            return Ok(());
        }
        Err(Failure::Failed(reply.message.clone()))
    }
}

impl Logs {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let path = self.path(context).await?;
        let paths = [path];
        let mut follower = Follower::default();
        let lines = follower.start(&paths).map_err(|e| unreadable(&e))?;
        let unfinished = match self.follow {
            true => Vec::new(),
            false => follower.unfinished(),
        };
        let lines: Vec<Line> = lines.into_iter().chain(unfinished).collect();
        let from = lines.len().saturating_sub(self.lines);
        self.print(context, &lines[from..])?;
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(FOLLOW_PAUSE).await;
            let lines = follower.look(&paths).map_err(|e| unreadable(&e))?;
            self.print(context, &lines)?;
        }
    }

    /// The bot's file, in the home of the daemon that knows the bot; without a daemon, in the home
    /// at hand.
    async fn path(&self, context: &Context) -> Result<PathBuf, Failure> {
        if self.id.is_empty() || self.id.starts_with('.') || self.id.contains('/') {
            return Err(Failure::Usage(format!("'{}' is no bot's name", self.id)));
        }
        let home = match context.client() {
            Ok(client) => match client.status().await {
                Ok(status) if status.bots.iter().all(|bot| bot.id != self.id) => {
                    let known: Vec<&str> = status.bots.iter().map(|bot| bot.id.as_str()).collect();
                    context.note(&format!(
                        "no bot '{}' now (there are: {}); looking for what it left",
                        self.id,
                        known.join(", ")
                    ));
                    PathBuf::from(&status.home)
                }
                Ok(status) => PathBuf::from(&status.home),
                Err(ClientError::Unreachable { .. }) => context.home(),
                Err(error) => return Err(error.into()),
            },
            Err(_) => context.home(),
        };
        let path = home
            .join(".deia/bot-output")
            .join(format!("{}.log", self.id));
        if !path.exists() {
            return Err(Failure::Failed(format!(
                "{} does not exist: bot '{}' has printed nothing, or it is another home (--home DIR)",
                path.display(),
                self.id
            )));
        }
        Ok(path)
    }

    fn print(&self, context: &Context, lines: &[Line]) -> Result<(), Failure> {
        let out = &context.out;
        for line in lines {
            if out.json {
                out.json_line(&serde_json::json!({"bot": self.id, "text": line.text}))?;
            } else {
                out.foreign(&format!("{}\n", line.text))?;
            }
        }
        Ok(())
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::Failed(format!(
        "{error}; files of the daemon are for its user: try sudo"
    ))
}
