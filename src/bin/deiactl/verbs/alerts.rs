//! `deiactl alerts [resolve ID]`.

use clap::{Args, Subcommand};
use deia::api::{Alert, AlertLevel};
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::{Out, one_line};
use crate::table::{Field, Table};

/// Show and resolve alerts.
#[derive(Debug, Args)]
pub struct Alerts {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only those of this level: critical, warning or info
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Option<AlertLevel>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Silence an alert until its trouble is over and comes again, or gets worse
    Resolve(Resolve),
}

#[derive(Debug, Args)]
struct Resolve {
    /// The alert's name
    id: String,
}

impl Alerts {
    /// Asks and prints.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let out = &context.out;
        match &self.verb {
            None => {
                let reply = context.client()?.alerts(self.level).await?;
                out.reply(&reply, |list| show(out, &list.alerts, Timestamp::now()))
            }
            Some(Verb::Resolve(Resolve { id })) => {
                let client = context.announced().await?;
                let reply = client.resolve_alert(id).await?;
                out.reply(&reply, |answer| {
                    out.line(&format!("{} is resolved", one_line(&answer.alert_id)))
                })
            }
        }
    }
}

fn level(text: &str) -> Result<AlertLevel, String> {
    let levels = [AlertLevel::Critical, AlertLevel::Warning, AlertLevel::Info];
    let found = levels.into_iter().find(|level| level.as_str() == text);
    found.ok_or_else(|| "critical, warning or info".to_owned())
}

fn show(out: &Out, alerts: &[Alert], now: Timestamp) -> Result<(), Failure> {
    if alerts.is_empty() {
        return out.line("no alerts");
    }
    let mut table = Table::new(out, &["ALERT", "LEVEL", "SINCE", "TITLE", "MESSAGE"]);
    for alert in alerts {
        table.row(vec![
            Field::from(&alert.alert_id),
            alert.level.as_str().into(),
            human::age(alert.timestamp, now).into(),
            Field::from(&alert.title),
            one_line(&alert.message).into(),
        ]);
    }
    out.text(&table.render())
}
