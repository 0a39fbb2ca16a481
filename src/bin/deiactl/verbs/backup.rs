//! `deiactl backup`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use deia::api::{BackupMeta, BackupRequest, RecoveryStatus, VerifyAnswer};
use deia::client::{Client, ClientError};
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human::{self, NOTHING};
use crate::offline::{self, Offline};
use crate::output::{Out, one_line};
use crate::progress::Bar;
use crate::table::{Field, Table};

/// How often it is looked how far a backup is.
const LOOK: Duration = Duration::from_millis(200);

/// Make, list and verify backups of the daemon's state.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a backup now; returns when it is on disk and was read back
    Create(Create),
    /// List the backups, newest first; also without a daemon
    List(List),
    /// Read every byte of a backup and say whether it is whole; also without a daemon
    Verify(Verify),
    /// Show how it stands: the newest backup, the next one, the last restore
    Status,
}

#[derive(Debug, Args)]
struct Create {
    /// Its name; a backup with a name is kept ten times as long
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Args)]
struct Verify {
    /// Which: its name, or an archive's file; the newest one where nothing is said
    #[arg(value_name = "ID|FILE")]
    which: Option<String>,
}

impl Backup {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match &self.verb {
            Verb::Create(create) => create.run(context).await,
            Verb::List(list) => list.run(context).await,
            Verb::Verify(verify) => verify.run(context).await,
            Verb::Status => {
                let reply = context.client()?.recovery_status().await?;
                let out = &context.out;
                out.reply(&reply, |status| show_status(out, status))
            }
        }
    }
}

impl Create {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = announced(context).await?;
        let request = BackupRequest {
            backup_type: Some("full".into()),
            source: Some("deiactl".into()),
            name: self.name.clone(),
            description: self.description.clone(),
            ..BackupRequest::default()
        };
        context.when_interrupted("the backup goes on without this command".into());
        let reply = watched(&client, client.backup(&request)).await?;
        let out = &context.out;
        out.reply(&reply, |made| {
            out.line(&format!(
                "{}  {}, {} tasks, verified, in {}",
                made.backup_id,
                human::bytes(made.backup.size_bytes),
                made.backup.item_count,
                human::duration(made.seconds)
            ))?;
            out.line(&made.backup.file)
        })
    }
}

impl List {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let reply = async {
            let client = Client::new(context.target()?)?;
            client.backup_history(self.limit).await
        };
        let out = &context.out;
        match offline::unless_there(reply.await)? {
            Some(reply) => out.reply(&reply, |list| show(out, &list.backups, Timestamp::now())),
            None => {
                let offline = Offline::new(context)?;
                let limit = self.limit.to_string();
                let reply: offline::Answer<deia::api::BackupHistory> =
                    offline.ask(&["list", "--limit", &limit])?;
                offline.print(out, &reply, |list| {
                    show(out, &list.backups, Timestamp::now())
                })
            }
        }
    }
}

impl Verify {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let out = &context.out;
        // A file is read by this command's own program, whose rights are this user's.
        if let Some(file) = self.which.as_deref().and_then(as_file) {
            let offline = Offline::new(context)?;
            let file = file.display().to_string();
            let reply: offline::Answer<VerifyAnswer> = offline.ask(&["verify", &file])?;
            offline.print(out, &reply, |answer| show_verified(out, answer))?;
            return verdict(&reply.value);
        }
        let asked = async {
            let client = Client::new(context.target()?)?;
            let which = match &self.which {
                Some(which) => which.clone(),
                None => client
                    .recovery_status()
                    .await?
                    .value
                    .latest_backup
                    .unwrap_or_default(),
            };
            watched(&client, client.verify_backup(&which)).await
        };
        match offline::unless_there(asked.await)? {
            Some(reply) => {
                out.reply(&reply, |answer| show_verified(out, answer))?;
                verdict(&reply.value)
            }
            None => {
                let offline = Offline::new(context)?;
                let mut arguments = vec!["verify"];
                arguments.extend(self.which.as_deref());
                let reply: offline::Answer<VerifyAnswer> = offline.ask(&arguments)?;
                offline.print(out, &reply, |answer| show_verified(out, answer))?;
                verdict(&reply.value)
            }
        }
    }
}

/// A client of a daemon that may have no store: says first which daemon answers.
pub async fn announced(context: &Context) -> Result<Client, ClientError> {
    let client = Client::new(context.target()?)?;
    let status = client.recovery_status().await?.value;
    context.note(&format!("daemon at {} (pid {})", status.home, status.pid));
    if let Some(why) = &status.recovery_mode {
        context.note(&format!("it is in recovery mode: {why}"));
    }
    Ok(client)
}

/// Waits for an answer, and shows on a terminal how far the daemon is.
pub async fn watched<T>(
    client: &Client,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let mut bar = Bar::new();
    let mut answer = std::pin::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => {
                bar.clear();
                return answer;
            }
            () = tokio::time::sleep(LOOK), if bar.is_shown() => {
                // How far it is, is not worth a failure.
                if let Ok(status) = client.recovery_status().await
                    && let Some(progress) = &status.value.progress
                {
                    bar.show(&progress.step, progress.done_bytes, progress.total_bytes);
                }
            }
        }
    }
}

/// A file, where the word is no backup's name.
pub fn as_file(word: &str) -> Option<PathBuf> {
    let is_path = word.contains('/') || word.ends_with(".tar.gz");
    is_path.then(|| std::path::absolute(Path::new(word)).unwrap_or_else(|_| word.into()))
}

fn verdict(answer: &VerifyAnswer) -> Result<(), Failure> {
    match &answer.error {
        None => Ok(()),
        Some(why) => Err(Failure::Failed(format!(
            "{} is no backup to restore: {why}",
            answer.backup_id
        ))),
    }
}

fn show_verified(out: &Out, answer: &VerifyAnswer) -> Result<(), Failure> {
    let Some(backup) = answer.backup.as_ref().filter(|_| answer.success) else {
        return Ok(());
    };
    out.line(&format!(
        "{} is whole: {} tasks, {} inflated, made {} by deia {} (schema {}), read in {}",
        answer.backup_id,
        backup.item_count,
        human::bytes(backup.content_bytes),
        human::time(backup.timestamp),
        one_line(&backup.deia_version),
        backup.schema_version,
        human::duration(answer.seconds)
    ))
}

fn show(out: &Out, backups: &[BackupMeta], now: Timestamp) -> Result<(), Failure> {
    if backups.is_empty() {
        return out.line("no backups (deiactl backup create makes one)");
    }
    let header = [
        "BACKUP", "AGE", "SIZE", "TASKS", "KIND", "SCHEMA", "NAME", "NOTE",
    ];
    let mut table = Table::new(out, &header);
    for backup in backups {
        let note = match &backup.error {
            Some(why) => format!("DAMAGED: {}", one_line(why)),
            None => one_line(backup.description.as_deref().unwrap_or_default()),
        };
        table.row(vec![
            Field::from(&backup.backup_id),
            human::duration(now.seconds_since(backup.timestamp)).into(),
            human::bytes(backup.size_bytes).into(),
            backup.item_count.to_string().into(),
            one_line(&backup.kind).into(),
            backup.schema_version.to_string().into(),
            backup
                .name
                .as_deref()
                .map_or(NOTHING.into(), one_line)
                .into(),
            note.into(),
        ]);
    }
    out.text(&table.render())
}

fn show_status(out: &Out, status: &RecoveryStatus) -> Result<(), Failure> {
    let now = status.timestamp;
    if let Some(why) = &status.recovery_mode {
        out.line(&format!("RECOVERY MODE: {}", one_line(why)))?;
    }
    let newest = match (&status.latest_backup, status.latest_age_seconds) {
        (Some(id), Some(age)) => format!("{id} ({} ago)", human::duration(age)),
        _ => "none".into(),
    };
    out.line(&format!("newest backup   {newest}"))?;
    out.line(&format!(
        "backups         {} ({} restore points), {:.1} MiB in {}",
        status.total_backups, status.total_restore_points, status.disk_usage_mb, status.backup_dir
    ))?;
    let next = match status.next_backup {
        Some(next) if next > now => format!("in {}", human::duration(next.seconds_since(now))),
        Some(_) => "now".into(),
        None => "none is scheduled".into(),
    };
    out.line(&format!("next backup     {next}"))?;
    if let Some(why) = &status.last_error {
        out.line(&format!("the last one    FAILED: {}", one_line(why)))?;
    }
    let last_end = if status.crash_detected {
        "a crash"
    } else {
        "as it was asked to"
    };
    out.line(&format!("last end        {last_end}"))?;
    if let Some(restore) = &status.last_restore {
        let how = match (restore.succeeded, &restore.error) {
            (Some(true), _) => "succeeded".to_owned(),
            (None, _) => "its checks are under way".to_owned(),
            (Some(false), why) => format!("FAILED: {}", one_line(why.as_deref().unwrap_or("?"))),
        };
        out.line(&format!(
            "last restore    {} of {}: {how}",
            human::time(restore.began_at),
            restore.backup_id
        ))?;
        if let Some(kept) = &restore.old_state {
            out.line(&format!("old state       {kept} (deiactl restore --undo)"))?;
        }
    }
    Ok(())
}
