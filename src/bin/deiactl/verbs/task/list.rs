//! `deiactl task list`: as many pages as it takes.

use clap::Args;
use deia::api::{TaskQuery, TaskView};
use deia::task::{Priority, TaskStatus, TaskType};
use deia::time::Timestamp;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::human::{self, NOTHING};
use crate::output::Out;
use crate::table::{Field, Table};

/// Most tasks on one page of the API.
const PAGE: u32 = 1000;

/// List tasks, newest first.
#[derive(Debug, Args)]
pub struct List {
    /// Only in this status: scheduled, queued, running, succeeded, dead, cancelled, expired
    #[arg(long, value_name = "STATUS")]
    status: Option<TaskStatus>,
    /// Only of this bot
    #[arg(long)]
    bot: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<TaskType>,
    /// Only of this priority
    #[arg(long, value_name = "P")]
    priority: Option<Priority>,
    /// At most this many; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Go on where a list ended (`next_cursor` of its JSON)
    #[arg(long)]
    cursor: Option<String>,
}

impl List {
    /// Asks, page by page, and prints.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let out = &context.out;
        let mut query = TaskQuery {
            status: self.status,
            bot: self.bot.clone(),
            task_type: self.task_type,
            priority: self.priority,
            limit: None,
            cursor: self.cursor.clone(),
        };
        let mut tasks = Vec::new();
        let mut raw = Vec::new();
        loop {
            let have = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
            let left = match self.limit {
                0 => PAGE,
                limit => limit.saturating_sub(have).min(PAGE),
            };
            if left == 0 {
                break;
            }
            query.limit = Some(left);
            let page = client.tasks(&query).await?;
            query.cursor.clone_from(&page.next_cursor);
            if out.json {
                raw.append(&mut tasks_of(&page.json));
            }
            let empty = page.tasks.is_empty();
            tasks.extend(page.value.tasks);
            if query.cursor.is_none() || empty {
                break;
            }
        }
        if out.json {
            let count = raw.len();
            let page = json!({"tasks": raw, "count": count, "next_cursor": query.cursor});
            return out.json(&page);
        }
        show(out, &tasks, Timestamp::now())?;
        if query.cursor.is_some() {
            context.note(&format!(
                "there are more than {}: --limit N, or --limit 0 for all",
                tasks.len()
            ));
        }
        Ok(())
    }
}

/// The tasks of a page as the daemon wrote them.
fn tasks_of(json: &[u8]) -> Vec<Value> {
    match serde_json::from_slice::<Value>(json) {
        Ok(mut page) => match page.get_mut("tasks").map(Value::take) {
            Some(Value::Array(tasks)) => tasks,
            _ => Vec::new(),
        },
        Err(_) => Vec::new(),
    }
}

fn show(out: &Out, tasks: &[TaskView], now: Timestamp) -> Result<(), Failure> {
    if tasks.is_empty() {
        return out.line("no tasks");
    }
    let header = [
        "TASK", "STATUS", "PRIORITY", "TYPE", "AGE", "TRIES", "BOT", "ERROR",
    ];
    let mut table = Table::new(out, &header);
    for task in tasks {
        let bot = task.attempts.last().map(|attempt| &attempt.bot_id);
        table.row(vec![
            Field::from(&task.task_id),
            Field::status(task.status),
            task.priority.as_str().into(),
            task.task_type.as_str().into(),
            human::duration(now.seconds_since(task.submitted_at)).into(),
            format!("{}/{}", task.attempts.len(), task.max_attempts).into(),
            bot.or(task.bot_id.as_ref())
                .map_or(NOTHING.into(), Field::from),
            task.error.as_deref().unwrap_or(NOTHING).into(),
        ]);
    }
    out.text(&table.render())
}
