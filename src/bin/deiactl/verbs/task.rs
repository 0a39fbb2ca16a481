//! `deiactl task list|show|output|cancel|retry|explain`.

mod explain;
mod list;

use clap::{Args, Subcommand};
use deia::api::{TaskActionAnswer, TaskView};
use deia::client::Reply;
use deia::task::TaskStatus;
use deia::time::Timestamp;

use super::follow::follow;
use crate::context::Context;
use crate::failure::Failure;
use crate::human::{self, NOTHING};
use crate::output::{Out, one_line};
use crate::table::{Field, Table};
use crate::wait::{Patience, Wait};

/// List, show and steer tasks.
#[derive(Debug, Args)]
pub struct Task {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List tasks, newest first
    List(list::List),
    /// Show one task and its attempts
    Show(One),
    /// Print a task's output
    Output(Output),
    /// Cancel a task, also while it runs
    Cancel(One),
    /// Queue an ended task again
    Retry(One),
    /// Say why a task went where it went, or why it waits
    Explain(One),
}

#[derive(Debug, Args)]
struct One {
    /// The task's name
    id: String,
}

#[derive(Debug, Args)]
struct Output {
    /// The task's name
    id: String,
    /// Print what comes until the task has ended
    #[arg(long, short)]
    follow: bool,
}

impl Task {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        match &self.verb {
            Verb::List(list) => list.run(context).await,
            Verb::Show(one) => {
                let reply = context.client()?.task(&one.id).await?;
                let out = &context.out;
                out.reply(&reply, |task| show(out, task, Timestamp::now()))
            }
            Verb::Output(output) => output.run(context).await,
            Verb::Cancel(one) => {
                let client = context.announced().await?;
                acted(&context.out, &client.cancel(&one.id).await?)
            }
            Verb::Retry(one) => {
                let client = context.announced().await?;
                acted(&context.out, &client.retry(&one.id).await?)
            }
            Verb::Explain(one) => {
                let reply = context.client()?.explain(&one.id).await?;
                let out = &context.out;
                out.reply(&reply, |value| explain::show(out, value))
            }
        }
    }
}

impl Output {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let out = &context.out;
        if self.follow {
            let wait = Wait::new(Patience::Unlimited);
            return match follow(context, &client, &self.id, &wait).await? {
                TaskStatus::Succeeded => Ok(()),
                status => Err(Failure::Failed(format!(
                    "task {} is {status}; `deiactl task show {}` says why",
                    self.id, self.id
                ))),
            };
        }
        let reply = client.output(&self.id).await?;
        out.reply(&reply, |view| {
            out.foreign(&view.output)?;
            if out.terminal && !view.output.is_empty() && !view.output.ends_with('\n') {
                out.text("\n")?;
            }
            Ok(())
        })?;
        if !reply.complete {
            context.note(&format!(
                "task {} is {}: this is what there is so far; --follow prints the rest as it comes",
                self.id, reply.status
            ));
        }
        Ok(())
    }
}

fn acted(out: &Out, reply: &Reply<TaskActionAnswer>) -> Result<(), Failure> {
    out.reply(reply, |answer| {
        if answer.success {
            let (id, status) = (&answer.task_id, answer.status);
            out.line(&format!("{id} {status}: {}", one_line(&answer.message)))?;
        }
        Ok(())
    })?;
    if reply.success {
        return Ok(());
    }
    Err(Failure::Failed(reply.message.clone()))
}

fn show(out: &Out, task: &TaskView, now: Timestamp) -> Result<(), Failure> {
    for (label, value) in facts(task, now) {
        out.line(&format!("{label:<13}{value}"))?;
    }
    if task.attempts.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(
        out,
        &["ATTEMPT", "BOT", "STATUS", "STARTED", "TOOK", "ERROR"],
    );
    for attempt in &task.attempts {
        let end = attempt.ended_at.unwrap_or(now);
        table.row(vec![
            attempt.attempt.to_string().into(),
            Field::from(&attempt.bot_id),
            attempt.status.as_str().into(),
            human::time(attempt.started_at).into(),
            human::duration(end.seconds_since(attempt.started_at)).into(),
            attempt.error.as_deref().unwrap_or(NOTHING).into(),
        ]);
    }
    out.text(&table.render())
}

/// What there is to say, line by line; what is missing has no line.
fn facts(task: &TaskView, now: Timestamp) -> Vec<(&'static str, String)> {
    let at = |at: Timestamp| format!("{} ({})", human::time(at), human::age(at, now));
    let kind = format!("{}, {}", task.task_type, task.complexity.as_str());
    let mut facts = vec![
        ("task", task.task_id.clone()),
        ("status", task.status.to_string()),
        ("priority", task.priority.to_string()),
        ("kind", kind),
        ("needs", task.required_capabilities.join(", ")),
        ("pool", task.pool.clone().unwrap_or_default()),
        ("bot", task.bot_id.clone().unwrap_or_default()),
        ("submitted", at(task.submitted_at)),
    ];
    if let Some(position) = task.position {
        facts.push(("position", position.to_string()));
    }
    if let Some(not_before) = task.not_before {
        let seconds = not_before.seconds_since(now);
        let when = match seconds > 0.0 {
            true => format!("in {}", human::duration(seconds)),
            false => human::age(not_before, now),
        };
        facts.push((
            "not before",
            format!("{} ({when})", human::time(not_before)),
        ));
    }
    if let Some(ended) = task.ended_at {
        facts.push(("ended", at(ended)));
    }
    let allowed = format!(
        "{} attempts of {}",
        task.max_attempts,
        human::duration(task.timeout_seconds)
    );
    facts.push(("allowed", allowed));
    if let Some(result) = &task.result {
        let usage = result.usage;
        let cut = if result.truncated { ", cut" } else { "" };
        let tokens = format!("{} + {}", usage.prompt_tokens, usage.completion_tokens);
        let model = result.model.as_deref().unwrap_or(NOTHING);
        facts.push((
            "result",
            format!(
                "{}{cut} (`deiactl task output {}`)",
                human::bytes(result.output.len() as u64),
                task.task_id
            ),
        ));
        facts.push(("took", human::duration(result.duration_seconds)));
        facts.push(("tokens", format!("{tokens} (read + written)")));
        facts.push(("backend", format!("{}, model {model}", result.backend)));
    }
    facts.push(("error", task.error.clone().unwrap_or_default()));
    if let Some(metadata) = &task.metadata {
        facts.push(("metadata", metadata.to_string()));
    }
    facts
        .into_iter()
        .map(|(label, value)| (label, one_line(&value)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}
