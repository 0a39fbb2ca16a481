//! `deiactl bots`.

use clap::Args;
use deia::api::BotView;
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human::{self, NOTHING};
use crate::output::{Out, one_line};
use crate::table::{Field, Table};

/// List the bots.
#[derive(Debug, Args)]
pub struct Bots {}

impl Bots {
    /// Asks and prints.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let reply = context.client()?.bots().await?;
        let out = &context.out;
        out.reply(&reply, |list| show(out, &list.bots, Timestamp::now()))
    }
}

/// The table of bots.
pub fn show(out: &Out, bots: &[BotView], now: Timestamp) -> Result<(), Failure> {
    if bots.is_empty() {
        return out.line("no bots");
    }
    let header = [
        "BOT", "POOL", "STATE", "PID", "FOR", "RESTARTS", "TASKS", "SUCCESS", "CPU", "MEMORY",
        "BACKEND", "NOTE",
    ];
    let mut table = Table::new(out, &header);
    for bot in bots {
        table.row(vec![
            Field::from(&bot.id),
            Field::from(&bot.pool),
            Field::actual(bot.actual),
            or_nothing(bot.pid).into(),
            human::duration(now.seconds_since(bot.since)).into(),
            bot.restarts.to_string().into(),
            format!("{}/{}", bot.tasks.len(), bot.max_concurrent).into(),
            human::percent(bot.success_rate).into(),
            bot.cpu_percent
                .map_or(NOTHING.into(), human::percent)
                .into(),
            bot.memory_bytes.map_or(NOTHING.into(), human::bytes).into(),
            Field::from(&bot.backend),
            one_line(&bot.explanation).into(),
        ]);
    }
    out.text(&table.render())
}

fn or_nothing<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}
