//! `deiactl bot show ID`: one bot, whole.

use deia::api::BotView;
use deia::bot::Wanted;
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::{Out, one_line};
use crate::table::Table;

/// Asks and prints.
pub async fn run(context: &Context, id: &str) -> Result<(), Failure> {
    let reply = context.client()?.bot(id).await?;
    let out = &context.out;
    out.reply(&reply, |bot| show(out, bot, Timestamp::now()))
}

fn show(out: &Out, bot: &BotView, now: Timestamp) -> Result<(), Failure> {
    for (label, value) in facts(bot, now) {
        out.line(&format!("{label:<13}{value}"))?;
    }
    if bot.ends.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(out, &["ENDED", "AGO", "HAD RUN", "HOW"]);
    for end in &bot.ends {
        table.row(vec![
            human::time(end.at).into(),
            human::duration(now.seconds_since(end.at)).into(),
            human::duration(end.ran_seconds).into(),
            end.exit.to_string().into(),
        ]);
    }
    out.text(&table.render())
}

/// What there is to say, line by line; what is missing has no line.
fn facts(bot: &BotView, now: Timestamp) -> Vec<(&'static str, String)> {
    let at = |at: Timestamp| format!("{} ({})", human::time(at), human::age(at, now));
    let wanted = match bot.wanted {
        Wanted::Running => "running",
        Wanted::Stopped => "stopped",
    };
    let next = bot.next_start_at.map(|at| {
        let seconds = at.seconds_since(now);
        format!("{} (in {})", human::time(at), human::duration(seconds))
    });
    let pid = bot.pid.map(|pid| pid.to_string());
    let memory = bot.memory_bytes.map(human::bytes);
    let cpu = bot.cpu_percent.map(human::percent);
    let facts = [
        ("bot", bot.id.clone()),
        ("pool", bot.pool.clone()),
        ("state", format!("{}, wanted: {wanted}", bot.actual)),
        ("since", at(bot.since)),
        ("now", bot.explanation.clone()),
        ("next start", next.unwrap_or_default()),
        ("blocked by", bot.blocked_by.join(", ")),
        ("pid", pid.unwrap_or_default()),
        ("cpu", cpu.unwrap_or_default()),
        ("memory", memory.unwrap_or_default()),
        (
            "tasks",
            format!("{} of {} at once", bot.tasks.len(), bot.max_concurrent),
        ),
        ("", bot.tasks.join(", ")),
        ("progress", bot.progress_at.map(at).unwrap_or_default()),
        ("success", human::percent(bot.success_rate)),
        ("restarts", bot.restarts.to_string()),
        ("backend", bot.backend.clone()),
        ("sandbox", bot.sandbox.clone().unwrap_or_default()),
        ("release", bot.version.clone().unwrap_or_default()),
    ];
    facts
        .into_iter()
        .map(|(label, value)| (label, one_line(&value)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}
