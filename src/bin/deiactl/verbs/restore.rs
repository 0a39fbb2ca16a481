//! `deiactl restore`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use deia::api::{RestoreAnswer, RestorePlan, RestoreView};
use deia::client::{Client, ClientError};

use super::backup::{announced, as_file, watched};
use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::offline::{self, Answer, Offline};
use crate::output::{Out, one_line};
use crate::wait::{Patience, Wait};

/// How long the stop of the bots, the swap and the checks may take before this command stops watching.
const PATIENCE: Duration = Duration::from_secs(600);

/// Restore a backup: everything is verified first, what is there is kept, and it can be undone.
#[derive(Debug, Args)]
pub struct Restore {
    /// Which: a backup's name (deiactl backup list), or an archive's file
    #[arg(value_name = "ID|FILE", required_unless_present = "undo")]
    which: Option<String>,
    /// Go back to the state from before the last restore
    #[arg(long, conflicts_with = "which")]
    undo: bool,
    /// Verify every byte and row, show what would be, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask (nobody is asked where there is no terminal)
    #[arg(long, short)]
    yes: bool,
}

impl Restore {
    /// Verifies, asks, restores, and waits until the restored store is in use.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let asked = async {
            let client = announced(context).await?;
            let plan = watched(&client, self.ask(&client, true)).await?;
            Ok::<_, ClientError>((client, plan))
        };
        let Some((client, tried)) = offline::unless_there(asked.await)? else {
            return self.without_daemon(context);
        };
        let out = &context.out;
        if self.dry_run {
            return out.reply(&tried, |answer| show_plan(out, &answer.plan));
        }
        if !out.json {
            show_plan(out, &tried.value.plan)?;
        }
        self.confirm()?;
        context.when_interrupted("the restore goes on without this command".into());
        let begun = watched(&client, self.ask(&client, false)).await?.value;
        context.note("checked; the daemon stops its bots, swaps the store and goes on");
        let wait = Wait::new(Patience::Limited(PATIENCE));
        let ended = wait.until("the restore", async || {
            let status = match client.recovery_status().await {
                Ok(status) => status.value,
                // Between two processes nobody answers for a moment.
                Err(ClientError::Unreachable { .. }) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            let restore = status.last_restore;
            Ok(restore.filter(|restore| {
                restore.restore_id == begun.restore_id
                    && (restore.succeeded.is_some() || restore.error.is_some())
            }))
        });
        report(out, &ended.await?)
    }

    async fn ask(
        &self,
        client: &Client,
        dry_run: bool,
    ) -> Result<deia::client::Reply<RestoreAnswer>, ClientError> {
        let which = self.which.as_deref().unwrap_or("undo");
        let file = self.which.as_deref().and_then(as_file);
        let file = file.map(|file| file.display().to_string());
        let id = if file.is_some() { "file" } else { which };
        client.restore(id, dry_run, file).await
    }

    fn without_daemon(&self, context: &Context) -> Result<(), Failure> {
        let offline = Offline::new(context)?;
        let out = &context.out;
        let file = self.which.as_deref().and_then(as_file);
        let which = file.map_or_else(
            || self.which.clone(),
            |file| Some(file.display().to_string()),
        );
        let mut arguments = vec!["restore"];
        arguments.extend(which.as_deref());
        if self.undo {
            arguments.push("--undo");
        }
        let tried: Answer<RestoreAnswer> = {
            let mut arguments = arguments.clone();
            arguments.push("--dry-run");
            offline.ask(&arguments)?
        };
        if self.dry_run {
            return offline.print(out, &tried, |answer| show_plan(out, &answer.plan));
        }
        if !out.json {
            show_plan(out, &tried.value.plan)?;
        }
        self.confirm()?;
        let restored: Answer<RestoreAnswer> = offline.ask(&arguments)?;
        offline.print(out, &restored, |answer| {
            out.line(&format!(
                "restored {}; the next daemon checks it and goes on with it",
                answer.plan.backup.backup_id
            ))?;
            out.line(&format!(
                "the state from before is kept: {}",
                answer.plan.old_state
            ))
        })
    }

    fn confirm(&self) -> Result<(), Failure> {
        if self.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(());
        }
        // With standard error closed nobody is asked, and nothing is done.
        let _ = write!(io::stderr().lock(), "Restore it? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::Failed("nothing was changed".into()))
    }
}

fn show_plan(out: &Out, plan: &RestorePlan) -> Result<(), Failure> {
    let backup = &plan.backup;
    out.line(&format!(
        "{}: whole, made {}, {} tasks, {} of them to be done",
        backup.backup_id,
        human::time(backup.timestamp),
        backup.item_count,
        plan.tasks_pending
    ))?;
    let count = |count: Option<u64>| {
        count.map_or_else(
            || "unknown (the present store can't be read)".into(),
            |n| n.to_string(),
        )
    };
    out.line(&format!(
        "tasks dropped    {} (accepted after the backup)",
        count(plan.tasks_dropped)
    ))?;
    out.line(&format!(
        "tasks run again  {} (ended after the backup)",
        count(plan.tasks_run_again)
    ))?;
    if !plan.config_restored.is_empty() {
        out.line(&format!(
            "configuration    put in place: {}",
            one_line(&plan.config_restored.join(", "))
        ))?;
    }
    if !plan.config_kept.is_empty() {
        out.line(&format!(
            "configuration    stays as it is, differs from the backup's: {}",
            one_line(&plan.config_kept.join(", "))
        ))?;
    }
    out.line(&format!("present state    kept in {}", plan.old_state))
}

fn report(out: &Out, restore: &RestoreView) -> Result<(), Failure> {
    if out.json {
        out.json(restore)?;
    } else if restore.succeeded == Some(true) {
        out.line(&format!(
            "restored {}; the fleet goes on with it",
            restore.backup_id
        ))?;
        for (what, rows) in &restore.carried {
            out.line(&format!(
                "{what}: {rows} records of the present store were kept"
            ))?;
        }
        if let Some(kept) = &restore.old_state {
            out.line(&format!(
                "the state from before is kept: {kept} (deiactl restore --undo)"
            ))?;
        }
    }
    match (&restore.error, restore.succeeded) {
        (None, Some(true)) => Ok(()),
        (why, _) => Err(Failure::Failed(format!(
            "the restore of {} did not succeed: {}",
            restore.backup_id,
            why.as_deref().unwrap_or("see the log")
        ))),
    }
}
