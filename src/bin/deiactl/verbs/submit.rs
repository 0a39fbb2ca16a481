//! `deiactl submit`.
//!
//! The task's name is made here when none is given: a submission whose answer was lost can then be
//! repeated without running the task twice.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use deia::api::{SubmitAnswer, SubmitRequest, TaskView};
use deia::client::{Client, ClientError, Reply};
use deia::task::{Priority, TaskId, TaskStatus, TaskType};
use deia::time::Timestamp;

use super::follow::follow;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Out;
use crate::wait::{Patience, Wait};

/// Most bytes read from a file or standard input; the daemon's own limit is usually lower
/// (`tasks.max_content_bytes`) and names itself.
const MAX_CONTENT_BYTES: u64 = 64 << 20;

/// How long one request waits for the result; after that the task is asked for.
const LONGEST_REQUEST: Duration = Duration::from_secs(20);

/// After this long somebody who waits is told what for.
const SILENCE: Duration = Duration::from_secs(2);

/// Submit a task.
#[derive(Debug, Args)]
pub struct Submit {
    /// The task's text; `-` reads it from standard input
    text: Option<String>,
    /// Read the task's text from a file
    #[arg(long, short, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Wait for the result and print it; at most SECONDS, if given
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1,
          default_missing_value = "unlimited")]
    wait: Option<String>,
    /// Print the output as it comes
    #[arg(long)]
    follow: bool,
    /// What kind of work: development, analysis, writing, planning, general [default: from the text]
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<TaskType>,
    /// How urgent: P0, P1, P2 or P3 [default: P2]
    #[arg(long, short, value_name = "P")]
    priority: Option<Priority>,
    /// Only a bot of this pool
    #[arg(long)]
    pool: Option<String>,
    /// Only this bot
    #[arg(long)]
    bot: Option<String>,
    /// The task's name; the same request under the same name is accepted once [default: made up]
    #[arg(long, value_name = "ID")]
    task_id: Option<TaskId>,
    /// Failures before the task is dead
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Seconds one attempt may take
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Not before this time (RFC 3339, as 2026-11-23T22:00:00Z)
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// What the bot must offer; may be given several times
    #[arg(long = "capability", value_name = "NAME")]
    capabilities: Vec<String>,
    /// A JSON object of your own, kept with the task
    #[arg(long, value_name = "JSON", value_parser = object)]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Submit {
    /// Submits, and waits or follows where it was asked to.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let (text, patience) = self.text_and_patience()?;
        let mut request = self.request(text)?;
        let id = request.task_id.clone().unwrap_or_default();
        let wait = Wait::new(patience.unwrap_or(Patience::Unlimited));
        if patience.is_some() && !self.follow {
            request.wait_seconds = Some(wait.left().unwrap_or(SILENCE).min(SILENCE).as_secs_f64());
        }
        let client = context.announced().await?;
        context.when_interrupted(format!(
            "task {id} goes on without this command: `deiactl task show {id}`, `deiactl task \
             cancel {id}`"
        ));
        let answer = match patience {
            Some(_) => submit_to_the_end(context, &client, &request, &wait).await?,
            None => submit(context, &client, &request).await?,
        };
        let out = &context.out;
        if self.follow {
            let status = follow(context, &client, &id, &wait).await?;
            return match status {
                TaskStatus::Succeeded => Ok(()),
                _ => verdict(&client.task(&id).await?.value),
            };
        }
        if patience.is_none() {
            return out.reply(&answer, |answer| say(out, answer));
        }
        let waits = [TaskStatus::Queued, TaskStatus::Scheduled];
        if answer.status.is_some_and(|status| waits.contains(&status)) {
            if let Some(message) = &answer.message {
                context.note(message);
            }
            let longest = wait.left().unwrap_or(LONGEST_REQUEST).min(LONGEST_REQUEST);
            request.wait_seconds = Some(longest.as_secs_f64());
            submit_to_the_end(context, &client, &request, &wait).await?;
        }
        let task = ended(&client, &id, &wait).await?;
        out.reply(&task, |task| match &task.result {
            Some(result) if result.output.ends_with('\n') => out.foreign(&result.output),
            Some(result) => out.foreign(&format!("{}\n", result.output)),
            None => Ok(()),
        })?;
        if task.result.as_ref().is_some_and(|result| result.truncated) {
            context.note("the output was cut at the pool's `limits.output_mb`");
        }
        verdict(&task.value)
    }

    /// `--wait TEXT` means `--wait` and a text: only a number there is a number of seconds.
    fn text_and_patience(&self) -> Result<(Option<&str>, Option<Patience>), Failure> {
        let text = self.text.as_deref();
        let Some(wait) = self.wait.as_deref() else {
            return Ok((text, None));
        };
        match wait.parse() {
            Ok(patience) => Ok((text, Some(patience))),
            Err(_) if text.is_none() && self.file.is_none() => {
                Ok((Some(wait), Some(Patience::Unlimited)))
            }
            Err(error) => Err(Failure::Usage(format!("--wait: {error}"))),
        }
    }

    fn request(&self, text: Option<&str>) -> Result<SubmitRequest, Failure> {
        let id = self.task_id.clone().unwrap_or_else(TaskId::generate);
        Ok(SubmitRequest {
            content: self.content(text)?,
            task_id: Some(id.into()),
            priority: self.priority,
            task_type: self.task_type,
            required_capabilities: (!self.capabilities.is_empty())
                .then(|| self.capabilities.clone()),
            bot_id: self.bot.clone(),
            pool: self.pool.clone(),
            max_attempts: self.max_attempts,
            timeout_seconds: self.timeout,
            not_before: self.not_before,
            metadata: self.metadata.clone(),
            wait_seconds: None,
        })
    }

    fn content(&self, text: Option<&str>) -> Result<String, Failure> {
        match (text, &self.file) {
            (Some("-"), _) => read("standard input", std::io::stdin().lock()),
            (Some(text), _) => Ok(text.to_owned()),
            (None, Some(path)) => {
                let name = path.display().to_string();
                let file = std::fs::File::open(path)
                    .map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
                read(&name, file)
            }
            (None, None) => Err(Failure::Usage(
                "no text: `deiactl submit TEXT`, `deiactl submit --file FILE`, or `-` for standard \
                 input"
                    .into(),
            )),
        }
    }
}

fn read(name: &str, source: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    source
        .take(MAX_CONTENT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    if text.len() as u64 > MAX_CONTENT_BYTES {
        return Err(Failure::Failed(format!(
            "{name}: more than {} MiB; no task may be that large",
            MAX_CONTENT_BYTES >> 20
        )));
    }
    Ok(text)
}

/// The same name again is the same task: an answer that was lost is asked for again.
async fn submit_to_the_end(
    context: &Context,
    client: &Client,
    request: &SubmitRequest,
    wait: &Wait,
) -> Result<Reply<SubmitAnswer>, Failure> {
    let once = async || {
        client
            .submit(request)
            .await
            .map(Some)
            .map_err(Failure::from)
    };
    accepted(context, wait.until("the submission", once).await?)
}

async fn submit(
    context: &Context,
    client: &Client,
    request: &SubmitRequest,
) -> Result<Reply<SubmitAnswer>, Failure> {
    let answer = client.submit(request).await;
    if let (Err(ClientError::Unreachable { .. } | ClientError::TimedOut { .. }), Some(id)) =
        (&answer, &request.task_id)
    {
        context.note(&format!(
            "it may have been accepted: the same command with `--task-id {id}` runs it once"
        ));
    }
    accepted(context, answer?)
}

fn accepted(
    context: &Context,
    answer: Reply<SubmitAnswer>,
) -> Result<Reply<SubmitAnswer>, Failure> {
    if answer.success {
        return Ok(answer);
    }
    if context.out.json {
        context.out.json_bytes(&answer.json)?;
    }
    let error = answer.error.as_deref().unwrap_or("refused");
    Err(Failure::Failed(format!(
        "task {} is refused: {error}; `deiactl bots` shows what the fleet offers",
        answer.task_id
    )))
}

fn say(out: &Out, answer: &SubmitAnswer) -> Result<(), Failure> {
    let mut line = answer.task_id.clone();
    if answer.duplicate {
        line.push_str(" (already known)");
    }
    if let Some(status) = answer.status {
        line.push_str(&format!(" {status}"));
    }
    match (&answer.routed_to, answer.position) {
        (Some(bot), _) => line.push_str(&format!(", with {bot}")),
        (None, Some(position)) => line.push_str(&format!(", position {position}")),
        (None, None) => {}
    }
    if let (Some(kind), Some(complexity)) = (answer.task_type, answer.complexity) {
        line.push_str(&format!(" ({kind}, {})", complexity.as_str()));
    }
    out.line(&line)
}

/// The task once nothing more happens to it.
async fn ended(client: &Client, id: &str, wait: &Wait) -> Result<Reply<TaskView>, Failure> {
    wait.until(&format!("the end of task {id}"), async || {
        let task = client.task(id).await?;
        Ok(task.status.is_final().then_some(task))
    })
    .await
}

fn verdict(task: &TaskView) -> Result<(), Failure> {
    if task.status == TaskStatus::Succeeded {
        return Ok(());
    }
    let error = match &task.error {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    let (id, status) = (&task.task_id, task.status);
    Err(Failure::Failed(format!(
        "task {id} is {status} after {} attempts{error}; `deiactl task show {id}` has more",
        task.attempts.len()
    )))
}

fn object(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        submit: Submit,
    }

    fn parsed(arguments: &[&str]) -> (Option<String>, Option<Patience>) {
        let line = Line::parse_from([&["submit"], arguments].concat());
        let (text, patience) = line.submit.text_and_patience().unwrap();
        (text.map(str::to_owned), patience)
    }

    #[test]
    fn wait_takes_seconds_and_never_swallows_the_text() {
        let text = || Some("do it".to_owned());
        let forever = Some(Patience::Unlimited);
        let five = Some(Patience::Limited(Duration::from_secs(5)));
        assert_eq!(parsed(&["do it"]), (text(), None));
        assert_eq!(parsed(&["--wait", "do it"]), (text(), forever));
        assert_eq!(parsed(&["do it", "--wait"]), (text(), forever));
        assert_eq!(parsed(&["do it", "--wait", "5"]), (text(), five));
        assert_eq!(parsed(&["--wait", "5", "do it"]), (text(), five));
        assert_eq!(parsed(&["--wait=5", "do it"]), (text(), five));
        assert_eq!(parsed(&["--wait", "-"]), (Some("-".into()), forever));
    }

    #[test]
    fn two_texts_are_a_mistake() {
        let line = Line::parse_from(["submit", "--wait", "soon", "do it"]);
        let refused = line.submit.text_and_patience();
        assert!(matches!(refused, Err(Failure::Usage(text)) if text.contains("soon")));
    }

    #[test]
    fn a_submission_always_has_a_name() {
        let line = Line::parse_from(["submit", "do it"]);
        assert!(
            line.submit
                .request(Some("do it"))
                .unwrap()
                .task_id
                .is_some()
        );
        assert!(matches!(line.submit.request(None), Err(Failure::Usage(_))));
    }
}
