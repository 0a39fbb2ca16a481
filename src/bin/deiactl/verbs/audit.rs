//! `deiactl audit query|verify`.

use clap::{Args, Subcommand};
use deia::api::{
    AuditAction, AuditEntry, AuditLevel, AuditQuery, AuditResult, AuditSource, AuditVerified,
    MAX_AUDIT_RECORDS,
};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::human::NOTHING;
use crate::output::{Out, one_line};
use crate::table::{Field, Table};

/// Query and verify the audit trail.
#[derive(Debug, Args)]
pub struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List who did what, newest first
    Query(Query),
    /// Prove that nothing was changed, removed or added; name the first bad record
    Verify,
}

#[derive(Debug, Args)]
struct Query {
    /// Only this action: task_submitted, config_changed, scale_up, ...
    #[arg(long)]
    action: Option<AuditAction>,
    /// Only by these: user:NAME, credential:HEX, anonymous@ADDRESS, bot:ID, daemon
    #[arg(long)]
    actor: Option<String>,
    /// Only to this: a task, a bot, ...
    #[arg(long)]
    target: Option<String>,
    /// Only of this level: info, warning, critical
    #[arg(long)]
    level: Option<AuditLevel>,
    /// Only with this result: success, failure, partial
    #[arg(long)]
    result: Option<AuditResult>,
    /// At most this many; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Go on where a list ended (`next_cursor` of its JSON)
    #[arg(long)]
    cursor: Option<String>,
}

impl Audit {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match &self.verb {
            Verb::Query(query) => query.run(context).await,
            Verb::Verify => verify(context).await,
        }
    }
}

impl Query {
    /// Asks, page by page, and prints.
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let out = &context.out;
        let mut query = AuditQuery {
            action: self.action,
            actor: self.actor.clone(),
            target: self.target.clone(),
            level: self.level,
            result: self.result,
            limit: None,
            cursor: self.cursor.clone(),
        };
        let (mut entries, mut damaged) = (Vec::new(), Vec::new());
        loop {
            let have = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            let left = match self.limit {
                0 => MAX_AUDIT_RECORDS,
                limit => limit.saturating_sub(have).min(MAX_AUDIT_RECORDS),
            };
            if left == 0 {
                break;
            }
            query.limit = Some(left);
            let page = client.audit(&query).await?.value;
            query.cursor = page.next_cursor;
            entries.extend(page.entries);
            damaged.extend(page.damaged);
            if query.cursor.is_none() {
                break;
            }
        }
        if out.json {
            let count = entries.len();
            let page: Value = json!({
                "entries": entries,
                "count": count,
                "damaged": damaged,
                "next_cursor": query.cursor,
            });
            return out.json(&page);
        }
        show(out, &entries)?;
        if !damaged.is_empty() {
            context.note(&format!(
                "{} records are not what was written and are not shown: `deiactl audit verify`",
                damaged.len()
            ));
        }
        if query.cursor.is_some() {
            context.note(&format!(
                "there are more than {}: --limit N, or --limit 0 for all",
                entries.len()
            ));
        }
        Ok(())
    }
}

fn show(out: &Out, entries: &[AuditEntry]) -> Result<(), Failure> {
    if entries.is_empty() {
        return out.line("no records");
    }
    let header = [
        "SEQ", "TIME", "ACTION", "RESULT", "ACTOR", "TARGET", "DETAILS",
    ];
    let mut table = Table::new(out, &header);
    for entry in entries {
        // What a caller says is shown as that.
        let action = match entry.source {
            AuditSource::Daemon => entry.action.to_string(),
            AuditSource::Client => format!("{} (said)", entry.action),
        };
        let details = match (&entry.error_message, entry.details.is_empty()) {
            (Some(why), _) => one_line(why),
            (None, true) => NOTHING.to_owned(),
            (None, false) => Value::Object(entry.details.clone()).to_string(),
        };
        table.row(vec![
            entry.seq.to_string().into(),
            entry.timestamp.to_string().into(),
            action.into(),
            entry.result.as_str().into(),
            Field::from(&entry.actor),
            Field::from(&entry.target),
            details.into(),
        ]);
    }
    out.text(&table.render())
}

async fn verify(context: &Context) -> Result<(), Failure> {
    let reply = context.client()?.audit_verify().await?;
    let found = &reply.value;
    let out = &context.out;
    out.reply(&reply, |found| said(out, found))?;
    match &found.first_bad {
        _ if found.verified => Ok(()),
        Some(bad) => Err(Failure::Failed(format!(
            "the audit trail is broken; the first bad record is {}: {}",
            bad.seq, bad.why
        ))),
        None => Err(Failure::Failed("the audit trail is broken".to_owned())),
    }
}

fn said(out: &Out, found: &AuditVerified) -> Result<(), Failure> {
    for error in &found.errors {
        out.line(&one_line(error))?;
    }
    for warning in &found.warnings {
        out.line(&format!("warning: {}", one_line(warning)))?;
    }
    if !found.verified {
        return Ok(());
    }
    let removed = found.anchor.as_ref().map_or(0, |anchor| anchor.removed);
    let known = match &found.checkpoint {
        Some(known) => format!("; the last checkpoint is record {}", known.seq),
        None => String::new(),
    };
    out.line(&format!(
        "the audit trail is whole: {} records, {removed} removed for their age{known}",
        found.total_entries
    ))
}
