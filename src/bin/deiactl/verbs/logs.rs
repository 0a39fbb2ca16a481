//! `deiactl logs`: the daemon's JSON lines, for people.
//!
//! Works without a daemon too: logs are wanted most when it is gone.

mod entry;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::Args;
use deia::client::{Client, ClientError};
use deia::mask::mask;

use crate::context::Context;
use crate::failure::Failure;
use crate::tail::{FOLLOW_PAUSE, Follower, Line};
use entry::Entry;

/// Where the log is, seen from the home, when the configuration does not move it.
const LOG_DIRECTORY: &str = ".deia/bot-logs";

/// Show the daemon's log.
#[derive(Debug, Args)]
pub struct Logs {
    /// Print what comes, across rotation
    #[arg(long, short)]
    follow: bool,
    /// Only what is about this bot
    #[arg(long)]
    bot: Option<String>,
    /// How many lines from the end
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200)]
    lines: usize,
}

impl Logs {
    /// Prints the end of the log, then what is added.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let directory = directory(context).await?;
        let mut follower = Follower::default();
        let lines = follower
            .start(&files(&directory)?)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let entries = self.chosen(lines);
        let from = entries.len().saturating_sub(self.lines);
        for entry in &entries[from..] {
            print(context, entry)?;
        }
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(FOLLOW_PAUSE).await;
            let lines = follower
                .look(&files(&directory)?)
                .map_err(|error| Failure::Failed(error.to_string()))?;
            for entry in self.chosen(lines) {
                print(context, &entry)?;
            }
        }
    }

    /// The entries that are wanted, by time, each once: some events are in two files.
    fn chosen(&self, lines: Vec<Line>) -> Vec<Entry> {
        let bot = self.bot.as_deref().map(mask);
        let mut seen = HashSet::new();
        let mut entries: Vec<Entry> = lines
            .into_iter()
            .map(|line| Entry::parse(&line.path, line.text))
            .filter(|entry| bot.as_deref().is_none_or(|bot| entry.is_about(bot)))
            .filter(|entry| seen.insert(entry.text.clone()))
            .collect();
        entries.sort_by(|a, b| a.timestamp.cmp(&b.timestamp));
        entries
    }
}

fn print(context: &Context, entry: &Entry) -> Result<(), Failure> {
    let out = &context.out;
    if out.json {
        return out.text(&format!("{}\n", entry.text));
    }
    out.foreign(&format!("{}\n", entry.render(out.color)))
}

/// The JSON lines of a log directory, rotated ones too.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::Failed(format!(
            "{}: {error}; name the daemon's home with --home DIR, and use sudo where it is another \
             user's",
            directory.display()
        ))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Where the daemon says it logs; without a daemon, where one of this home would.
async fn directory(context: &Context) -> Result<PathBuf, Failure> {
    let asked = match context.client() {
        Ok(client) => asked(&client).await,
        Err(Failure::Client(error)) => Err(error),
        Err(failure) => return Err(failure),
    };
    match asked {
        Ok(directory) => Ok(directory),
        Err(ClientError::Unreachable { .. } | ClientError::TimedOut { .. }) => {
            Ok(context.home().join(LOG_DIRECTORY))
        }
        Err(error) => Err(error.into()),
    }
}

async fn asked(client: &Client) -> Result<PathBuf, ClientError> {
    let home = PathBuf::from(&client.status().await?.home);
    match client.config_value("persistence.log_directory").await {
        Ok(value) => Ok(home.join(value.value.value.as_str().unwrap_or(LOG_DIRECTORY))),
        // Not every daemon shows this section.
        Err(ClientError::Refused { .. }) => Ok(home.join(LOG_DIRECTORY)),
        Err(error) => Err(error),
    }
}
