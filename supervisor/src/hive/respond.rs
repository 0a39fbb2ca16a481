//! What is answered to whoever wrote a task file. Pure.

use std::fmt::Write as _;

use deia::task::{AttemptStatus, TaskId, TaskStatus};
use deia::time::Timestamp;

use super::ledger::Origin;
use super::name;
use crate::store::TaskRecord;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its file's name, without `.md` and without what tells it from others of that name.
    pub stem: String,
    /// What it says. The same each time it is made: one that was written and not noted is known again.
    pub text: String,
}

/// The answer to a task that has ended.
pub fn response(task: &TaskRecord, output: Option<&str>, origin: &Origin) -> Response {
    let complete = task.status == TaskStatus::Succeeded;
    let last = task.attempts.last();
    let seconds = last.and_then(|attempt| {
        let ended = attempt.ended_at?;
        Some(ended.seconds_since(attempt.started_at).max(0.0))
    });
    let error = match task.status {
        TaskStatus::Succeeded => None,
        TaskStatus::Expired => Some("no bot took it within tasks.queue_timeout_seconds".to_owned()),
        TaskStatus::Cancelled => Some("it was cancelled".to_owned()),
        _ => {
            let said = task.error.clone().or_else(|| last?.error.clone());
            Some(said.unwrap_or_else(|| "it failed".to_owned()))
        }
    };
    let truncated = task.result.as_ref().is_some_and(|result| result.truncated);
    let facts = Facts {
        id: &task.id,
        bot: last.map_or(&*origin.folder, |attempt| &*attempt.bot_id),
        complete,
        seconds: seconds.unwrap_or(0.0),
        attempts: task
            .attempts
            .iter()
            .filter(|attempt| attempt.status != AttemptStatus::Running)
            .count(),
        output: output.unwrap_or_default(),
        truncated,
        error: error.as_deref(),
        at: task.ended_at.unwrap_or(task.submitted_at),
    };
    facts.response(origin)
}

/// The answer to a task that the store has removed before it could be answered.
pub fn too_late(id: &TaskId, origin: &Origin, at: Timestamp) -> Response {
    let facts = Facts {
        id,
        bot: &origin.folder,
        complete: false,
        seconds: 0.0,
        attempts: 0,
        output: "",
        truncated: false,
        error: Some(
            "the store does not have the task any more (tasks.retention_days, tasks.max_kept, or a backup that was restored): how it ended is not known",
        ),
        at,
    };
    facts.response(origin)
}

struct Facts<'a> {
    id: &'a TaskId,
    bot: &'a str,
    complete: bool,
    seconds: f64,
    attempts: usize,
    output: &'a str,
    truncated: bool,
    error: Option<&'a str>,
    at: Timestamp,
}

impl Facts<'_> {
    fn response(&self, origin: &Origin) -> Response {
        let stem = name::response(
            self.at,
            self.bot,
            &origin.from,
            &origin.task_id,
            self.complete,
        );
        let (title, status) = match self.complete {
            true => ("Complete", "✓ SUCCESS"),
            false => ("Failed", "✗ FAILED"),
        };
        let output = match self.output.trim_end() {
            "" => "(none)",
            output => output,
        };
        let mut text = format!(
            "# RESPONSE: {} - {title}\n\n\
            **From:** {}\n**To:** {}\n**Task:** {}\n**Task ID:** {}\n**Status:** {status}\n\
            **Duration:** {:.1} seconds\n",
            name::short(&origin.task_id),
            self.bot,
            origin.from,
            origin.task_id,
            self.id,
            self.seconds,
        );
        // Writing into a string can't fail.
        if self.attempts > 1 {
            let _ = writeln!(text, "**Attempts:** {}", self.attempts);
        }
        let _ = write!(text, "\n## Output\n\n{output}\n");
        if self.truncated {
            text.push_str("\n(cut at limits.output_mb)\n");
        }
        text.push_str("\n## Files Modified\n\n- None\n");
        if let Some(error) = self.error {
            let _ = write!(text, "\n## Error\n\n{}\n", error.trim_end());
        }
        // When the task ended: the moment of writing would be another one after a kill.
        let _ = write!(text, "\n---\n**Response generated:** {}\n", self.at);
        Response { stem, text }
    }
}

#[cfg(test)]
mod tests {
    use deia::task::{Complexity, Priority, TaskType};
    use deia::wire::Usage;

    use super::*;
    use crate::store::{AttemptRecord, ResultRecord};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn origin() -> Origin {
        Origin {
            folder: "coder".into(),
            file: "fix.md".into(),
            task_id: "TASK-7-LOGIN".into(),
            from: "boss".into(),
        }
    }

    fn task(status: TaskStatus) -> TaskRecord {
        TaskRecord {
            seq: 1,
            id: "file-01".parse().unwrap(),
            status,
            priority: Priority::P2,
            task_type: TaskType::General,
            complexity: Complexity::Simple,
            required_capabilities: Vec::new(),
            bot_id: None,
            pool: Some("coder".into()),
            demand: "".into(),
            max_attempts: 3,
            timeout_ms: 1,
            not_before: None,
            metadata: None,
            submitted_at: at("2025-10-25T15:40:00Z"),
            ended_at: Some(at("2025-10-25T15:45:23.5Z")),
            attempts: Vec::new(),
            result: None,
            error: None,
        }
    }

    fn attempt(status: AttemptStatus, error: Option<&str>) -> AttemptRecord {
        AttemptRecord {
            attempt: 1,
            bot_id: "coder-2".into(),
            status,
            started_at: at("2025-10-25T15:45:21.25Z"),
            ended_at: Some(at("2025-10-25T15:45:23.5Z")),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn a_result_is_told_in_the_original_s_words() {
        let mut done = task(TaskStatus::Succeeded);
        done.attempts = vec![attempt(AttemptStatus::Succeeded, None)];
        done.result = Some(ResultRecord {
            output_bytes: 5,
            truncated: false,
            usage: Usage::default(),
            backend: "echo".into(),
            model: None,
        });
        let response = response(&done, Some("Done.\n\n"), &origin());
        assert_eq!(
            response.stem,
            "2025-10-25-1545-coder-2-boss-RESPONSE-LOGIN-complete"
        );
        assert_eq!(
            response.text,
            "# RESPONSE: LOGIN - Complete\n\n\
            **From:** coder-2\n**To:** boss\n**Task:** TASK-7-LOGIN\n**Task ID:** file-01\n\
            **Status:** ✓ SUCCESS\n**Duration:** 2.2 seconds\n\n\
            ## Output\n\nDone.\n\n## Files Modified\n\n- None\n\n\
            ---\n**Response generated:** 2025-10-25T15:45:23.500000Z\n"
        );
    }

    #[test]
    fn a_failure_says_why() {
        let mut dead = task(TaskStatus::Dead);
        dead.attempts = vec![
            attempt(AttemptStatus::Failed, Some("first")),
            attempt(AttemptStatus::Failed, Some("second")),
        ];
        dead.error = Some("second".into());
        let said = response(&dead, None, &origin());
        assert!(said.stem.ends_with("-coder-2-boss-RESPONSE-LOGIN-failed"));
        for part in [
            "# RESPONSE: LOGIN - Failed",
            "✗ FAILED",
            "**Attempts:** 2",
            "(none)",
            "## Error\n\nsecond\n",
        ] {
            assert!(said.text.contains(part), "{part}: {}", said.text);
        }
        // Nobody had it: it is answered in the name of whom it was for.
        let expired = response(&task(TaskStatus::Expired), None, &origin());
        assert!(expired.stem.contains("-1545-coder-boss-"));
        assert!(expired.text.contains("tasks.queue_timeout_seconds"));
    }

    #[test]
    fn an_answer_is_the_same_each_time() {
        let done = task(TaskStatus::Cancelled);
        assert_eq!(
            response(&done, None, &origin()),
            response(&done, None, &origin())
        );
        let other = Origin {
            file: "other.md".into(),
            ..origin()
        };
        let mut twin = done.clone();
        twin.id = "file-02".parse().unwrap();
        // Two tasks never say the very same, however alike they are.
        assert_ne!(
            response(&done, None, &other).text,
            response(&twin, None, &other).text
        );
    }
}
