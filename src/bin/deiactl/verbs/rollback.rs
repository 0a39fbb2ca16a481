//! `deiactl rollback`.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use deia::api::{RollbackRequest, RollbackStep, RollbackView};
use deia::client::ClientError;

use super::backup::{announced, watched};
use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::offline::{self, Answer, Offline};
use crate::output::Out;
use crate::wait::{Patience, Wait};

/// How long this command watches, beside the time that running tasks have.
const PATIENCE: Duration = Duration::from_secs(600);

/// Go back to an earlier release, with the state of a backup: drain, stop, restore, start, check, resume.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Which backup (deiactl backup list); else the newest whole one from before this release was deployed
    #[arg(long, value_name = "ID", conflicts_with = "keep_state")]
    backup: Option<String>,
    /// Which release: a version, or a name (deiactl deployments); else the one before
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// Go back to the release alone: tasks and messages stay as they are
    #[arg(long)]
    keep_state: bool,
    /// Seconds that running tasks have before they are cut short and queued again [default: 60]
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u32>,
    /// Check release and backup, show what would be, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Show how far the last one is, and follow it where it is under way
    #[arg(long, conflicts_with_all = ["backup", "version", "keep_state", "wait", "dry_run", "yes"])]
    status: bool,
    /// Do not ask (nobody is asked where there is no terminal)
    #[arg(long, short)]
    yes: bool,
}

impl Rollback {
    /// Checks, asks, goes back, and shows each step until it is over.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let asked = async {
            let client = announced(context).await?;
            if self.status {
                return Ok((client, None));
            }
            let tried = watched(&client, client.rollback(&self.request(true))).await?;
            Ok::<_, ClientError>((client, Some(tried)))
        };
        let Some((client, tried)) = offline::unless_there(asked.await)? else {
            return self.without_daemon(context);
        };
        let out = &context.out;
        let id = match tried {
            None => {
                let last = client.rollback_state().await?.value.rollback;
                let last = last.ok_or(Failure::Failed("there was no rollback here".into()))?;
                last.rollback_id
            }
            Some(tried) if self.dry_run => {
                return out.reply(&tried, |answer| show_plan(out, &answer.rollback));
            }
            Some(tried) => {
                if !out.json {
                    show_plan(out, &tried.value.rollback)?;
                }
                self.confirm()?;
                context.when_interrupted("the rollback goes on without this command".into());
                let begun = watched(&client, client.rollback(&self.request(false))).await?;
                begun.value.rollback.rollback_id
            }
        };
        let mut shown = BTreeSet::new();
        let patience = PATIENCE + Duration::from_secs(u64::from(self.wait.unwrap_or(60)));
        let wait = Wait::new(Patience::Limited(patience));
        let ended = wait.until("the rollback", async || {
            let state = match client.rollback_state().await {
                Ok(state) => state.value,
                // Between two processes nobody answers for a moment.
                Err(ClientError::Unreachable { .. }) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            let Some(view) = state.rollback.filter(|view| view.rollback_id == id) else {
                return Ok(None);
            };
            for step in &view.steps {
                if shown.insert(step.at) {
                    context.note(step.step.text());
                }
            }
            Ok(view.step.is_over().then_some(view))
        });
        report(out, &ended.await?)
    }

    fn request(&self, dry_run: bool) -> RollbackRequest {
        RollbackRequest {
            version: self.version.clone(),
            backup_id: self.backup.clone(),
            keep_state: self.keep_state.then_some(true),
            dry_run: dry_run.then_some(true),
            wait_seconds: self.wait.map(f64::from),
        }
    }

    fn without_daemon(&self, context: &Context) -> Result<(), Failure> {
        let offline = Offline::new(context)?;
        let out = &context.out;
        let mut arguments = vec!["rollback"];
        for (name, value) in [("--backup", &self.backup), ("--version", &self.version)] {
            if let Some(value) = value {
                arguments.extend([name, value.as_str()]);
            }
        }
        if self.keep_state {
            arguments.push("--keep-state");
        }
        let tried: Answer<RollbackView> = {
            let mut arguments = arguments.clone();
            arguments.push("--dry-run");
            offline.ask(&arguments)?
        };
        if self.dry_run {
            return offline.print(out, &tried, |view| show_plan(out, view));
        }
        if !out.json {
            show_plan(out, &tried.value)?;
        }
        self.confirm()?;
        let done: Answer<RollbackView> = offline.ask(&arguments)?;
        offline.print(out, &done, |view| {
            out.line(&format!(
                "the next daemon is release {}; it checks the state and goes on",
                view.to_release
            ))
        })
    }

    fn confirm(&self) -> Result<(), Failure> {
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        // With standard error closed nobody is asked, and nothing is done.
        let _ = write!(io::stderr().lock(), "Go back? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::Failed("nothing was changed".into()))
    }
}

fn show_plan(out: &Out, view: &RollbackView) -> Result<(), Failure> {
    out.line(&format!(
        "release  {} (now {})",
        view.to_release, view.from_release
    ))?;
    let Some(backup) = &view.backup_id else {
        return out.line("state    stays as it is");
    };
    let count =
        |count: Option<u64>| count.map_or_else(|| "an unknown number of".into(), |n| n.to_string());
    out.line(&format!(
        "state    {backup}: {} tasks that were accepted later are dropped, {} that have ended since run again",
        count(view.tasks_dropped),
        count(view.tasks_run_again)
    ))
}

fn report(out: &Out, view: &RollbackView) -> Result<(), Failure> {
    if out.json {
        out.json(view)?;
    } else if view.step == RollbackStep::Done {
        let seconds = |s: Option<f64>| s.map_or_else(|| "unknown".into(), human::duration);
        out.line(&format!(
            "version {} runs, with {}",
            view.to_version,
            view.backup_id.as_deref().unwrap_or("the state as it was")
        ))?;
        out.line(&format!(
            "RTO {} (no tasks were taken)  RPO {} ({} accepted tasks dropped)",
            seconds(view.rto_seconds),
            seconds(view.rpo_seconds),
            view.tasks_dropped.unwrap_or(0)
        ))?;
    }
    match &view.error {
        None => Ok(()),
        Some(why) => Err(Failure::Failed(why.clone())),
    }
}
