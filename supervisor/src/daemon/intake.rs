//! From a request to a task: checked, analysed, with every default filled in. Pure.

use std::sync::Arc;
use std::time::Duration;

use deia::api::{SubmitRequest, ValidationError};
use deia::config::Config;
use deia::task::{MAX_ATTEMPTS, Priority, TaskId, analyze};
use deia::time::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::brain::content::{self, Found, Refusal, Verdict};
use crate::brain::demand::{
    Demand, MAX_CAPABILITIES, MAX_CAPABILITY_BYTES, NamedBy, is_capability,
};
use crate::store::NewTask;

/// Seconds an attempt may take at most: 30 days.
pub const MAX_TIMEOUT_SECONDS: f64 = 30.0 * 86_400.0;

/// Seconds a request may wait for its result.
pub const MAX_WAIT_SECONDS: f64 = 3600.0;

/// Bytes of a task's metadata.
pub const MAX_METADATA_BYTES: usize = 65_536;

/// Bytes of a bot's or pool's name.
pub const MAX_NAME_BYTES: usize = 64;

/// A task that may be submitted.
#[derive(Debug, Clone)]
pub struct Intake {
    /// The task.
    pub task: Box<NewTask>,
    /// What it asks for.
    pub demand: Demand,
    /// How long its client waits for the result.
    pub wait: Option<Duration>,
    /// What its content holds that has to be noted.
    pub noted: Option<Found>,
}

/// Why a request is no task.
#[derive(Debug, Clone, PartialEq)]
pub enum NotATask {
    /// 422.
    Invalid(Vec<ValidationError>),
    /// 413: its bytes, and how many there may be.
    TooLarge(u64, u64),
    /// 400: its content is refused for what it holds.
    Dangerous(Refusal),
}

/// Checks and completes a request.
///
/// # Errors
/// Every value that is wrong, that the content is too large, or that it is refused for what it holds.
pub fn intake(request: SubmitRequest, config: &Config, now: Timestamp) -> Result<Intake, NotATask> {
    let bytes = request.content.len() as u64;
    if bytes > config.tasks.max_content_bytes {
        return Err(NotATask::TooLarge(bytes, config.tasks.max_content_bytes));
    }
    let mut wrong = Vec::new();
    let request_hash = hash(&request);
    let id = match request.task_id.as_deref().map(str::parse::<TaskId>) {
        None => TaskId::generate(),
        Some(Ok(id)) => id,
        Some(Err(e)) => {
            wrong.push(invalid(
                "task_id",
                "value_error",
                e.to_string(),
                json!(request.task_id),
            ));
            TaskId::generate()
        }
    };
    check_name("bot_id", request.bot_id.as_deref(), &mut wrong);
    check_name("pool", request.pool.as_deref(), &mut wrong);
    let capabilities = capabilities(request.required_capabilities.as_deref(), &mut wrong);
    let max_attempts = request.max_attempts.unwrap_or(config.tasks.max_attempts);
    if !(1..=MAX_ATTEMPTS).contains(&max_attempts) {
        let rule = format!("Input should be between 1 and {MAX_ATTEMPTS}");
        wrong.push(invalid("max_attempts", "range", rule, json!(max_attempts)));
    }
    let default_timeout = config.timeouts.task_timeout_seconds as f64;
    let timeout = request.timeout_seconds.unwrap_or(default_timeout);
    if !(timeout > 0.0 && timeout <= MAX_TIMEOUT_SECONDS) {
        let rule = format!("Input should be greater than 0 and at most {MAX_TIMEOUT_SECONDS}");
        wrong.push(invalid("timeout_seconds", "range", rule, json!(timeout)));
    }
    let wait = request.wait_seconds.filter(|seconds| *seconds != 0.0);
    if let Some(seconds) = wait
        && !(0.0..=MAX_WAIT_SECONDS).contains(&seconds)
    {
        let rule = format!("Input should be between 0 and {MAX_WAIT_SECONDS}");
        wrong.push(invalid("wait_seconds", "range", rule, json!(seconds)));
    }
    let metadata = request.metadata.map(|map| Value::Object(map).to_string());
    if let Some(text) = &metadata
        && text.len() > MAX_METADATA_BYTES
    {
        let rule = format!("Input should have at most {MAX_METADATA_BYTES} bytes as JSON");
        wrong.push(invalid("metadata", "too_long", rule, json!(text.len())));
    }
    if !wrong.is_empty() {
        return Err(NotATask::Invalid(wrong));
    }

    let analysis = analyze(&request.content);
    let (capabilities, named_by) = match capabilities {
        Some(named) => (named, NamedBy::Caller),
        None => {
            let found = analysis
                .required_capabilities
                .iter()
                .map(|c| (*c).to_owned());
            (found.collect(), NamedBy::Analysis)
        }
    };
    let demand = Demand {
        bot: request.bot_id.clone(),
        pool: request.pool.clone(),
        task_type: request.task_type.unwrap_or(analysis.task_type),
        capabilities,
        named_by,
    };
    let noted = match content::of_task(config, &demand, &request.content) {
        Verdict::Pass => None,
        Verdict::Note(found) => Some(found),
        Verdict::Refuse(refusal) => return Err(NotATask::Dangerous(refusal)),
    };
    let task = NewTask {
        id,
        request_hash,
        content: Arc::from(request.content),
        priority: request.priority.unwrap_or(Priority::P2),
        task_type: demand.task_type,
        complexity: analysis.complexity,
        required_capabilities: demand.capabilities.clone(),
        bot_id: request.bot_id,
        pool: request.pool,
        demand: demand.text().into(),
        max_attempts,
        timeout_ms: (timeout * 1000.0).ceil() as u64,
        not_before: request.not_before,
        metadata,
        submitted_at: now,
    };
    Ok(Intake {
        task: Box::new(task),
        demand,
        wait: wait.map(Duration::from_secs_f64),
        noted,
    })
}

/// What makes two requests the same: everything that decides what is run, how and when.
fn hash(request: &SubmitRequest) -> [u8; 32] {
    let named = json!([
        request.content,
        request.task_type,
        request.pool,
        request.bot_id,
        request.required_capabilities,
        request.priority,
        request.not_before,
        request.timeout_seconds,
        request.max_attempts,
    ]);
    Sha256::digest(named.to_string().as_bytes()).into()
}

fn check_name(field: &'static str, name: Option<&str>, wrong: &mut Vec<ValidationError>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if let Some(name) = name
        && (name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed))
    {
        let rule = format!("Input should be 1-{MAX_NAME_BYTES} of letters, digits, '_' and '-'");
        wrong.push(invalid(field, "value_error", rule, json!(name)));
    }
}

fn capabilities(named: Option<&[String]>, wrong: &mut Vec<ValidationError>) -> Option<Vec<String>> {
    let named = named.filter(|list| !list.is_empty())?;
    if named.len() > MAX_CAPABILITIES {
        let rule = format!("List should have at most {MAX_CAPABILITIES} items");
        wrong.push(invalid(
            "required_capabilities",
            "too_long",
            rule,
            json!(named.len()),
        ));
    }
    for (n, name) in named.iter().enumerate() {
        if !is_capability(name) {
            let rule = format!(
                "Input should be 1-{MAX_CAPABILITY_BYTES} of letters, digits, '.', '_', '+', '#' and '-'"
            );
            let mut error = invalid("required_capabilities", "value_error", rule, json!(name));
            error.loc.push(json!(n));
            wrong.push(error);
        }
    }
    Some(named.to_vec())
}

fn invalid(field: &'static str, kind: &'static str, msg: String, input: Value) -> ValidationError {
    ValidationError {
        kind: kind.into(),
        loc: vec![json!("body"), json!(field)],
        msg,
        input,
        ctx: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content: &str) -> SubmitRequest {
        SubmitRequest {
            content: content.into(),
            ..SubmitRequest::default()
        }
    }

    fn take(request: SubmitRequest) -> Result<Intake, NotATask> {
        intake(request, &Config::default(), Timestamp::from_micros(0))
    }

    #[test]
    fn defaults_come_from_the_text_and_the_configuration() {
        let taken = take(request("Write python code")).unwrap();
        assert_eq!(taken.task.required_capabilities, ["python"]);
        assert_eq!(taken.task.max_attempts, 3);
        assert_eq!(taken.task.timeout_ms, 3_600_000);
        assert_eq!(taken.demand.named_by, NamedBy::Analysis);
        assert_eq!(Demand::from_text(&taken.task.demand), Some(taken.demand));
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let wrong = SubmitRequest {
            task_id: Some("../x".into()),
            bot_id: Some(String::new()),
            pool: Some("a;b=".into()),
            required_capabilities: Some(vec!["a,b".into()]),
            max_attempts: Some(0),
            timeout_seconds: Some(f64::NAN),
            wait_seconds: Some(-1.0),
            ..request("")
        };
        let Err(NotATask::Invalid(errors)) = take(wrong) else {
            panic!("taken")
        };
        let fields: Vec<_> = errors.iter().map(|e| e.loc[1].as_str().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "task_id",
                "bot_id",
                "pool",
                "required_capabilities",
                "max_attempts",
                "timeout_seconds",
                "wait_seconds"
            ]
        );
    }

    #[test]
    fn too_much_content_is_too_large() {
        let content = "x".repeat(1_048_577);
        assert_eq!(
            take(request(&content)).unwrap_err(),
            NotATask::TooLarge(1_048_577, 1_048_576)
        );
        assert!(take(request(&content[1..])).is_ok());
    }

    #[test]
    fn the_hash_is_of_what_is_run_and_not_of_how_it_is_asked_for() {
        let one = take(request("a")).unwrap().task.request_hash;
        let mut same = request("a");
        same.task_id = Some("named".into());
        same.wait_seconds = Some(1.0);
        assert_eq!(take(same).unwrap().task.request_hash, one);
        let mut other = request("a");
        other.priority = Some(Priority::P0);
        assert_ne!(take(other).unwrap().task.request_hash, one);
    }
}
