//! One attempt at one task: time-outs, fallbacks, cancel, and the end of what it started.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deia::config::redact_secrets;
use deia::task::{Fence, TaskId};
use deia::wire::{Assignment, FailureKind, Outcome, Welcome};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::backends::{Answer, Backend, Context, Failure, Job, command};
use crate::breaker::Breaker;
use crate::confine::cage::Cage;
use crate::log;
use crate::sink::Sink;
use crate::text;
use crate::transcript::Transcript;
use crate::tree::{Reaper, Tree};

/// Most bytes of an error, see [`Outcome::Failed`].
const MAX_ERROR_BYTES: usize = 4096;

/// What the attempts of a bot share.
#[derive(Debug)]
pub struct Bot {
    context: Context,
    /// The backend, then its fallbacks, with what is known of each. Never empty.
    backends: Vec<(Backend, Breaker)>,
    reaper: Reaper,
}

impl Bot {
    /// The bot of this welcome; its programs reach the daemon at `socket`. `cage` is what its commands are confined to.
    pub fn new(
        bot_id: String,
        socket: PathBuf,
        welcome: Welcome,
        cage: Option<Cage>,
        reaper: Reaper,
    ) -> Self {
        command::sweep(&welcome.places.own);
        let specs = std::iter::once(welcome.backend).chain(welcome.fallback);
        Self {
            context: Context {
                bot_id,
                socket,
                workdir: welcome.workdir,
                work_root: welcome.work_root,
                env_files: welcome.env_files,
                output_bytes: u64::from(welcome.limits.output_mb) * 1024 * 1024,
                stop_timeout: Duration::from_millis(welcome.stop_timeout_ms),
                own: welcome.places.own,
                cage: cage.map(Arc::new),
            },
            backends: specs
                .map(|spec| (Backend::new(spec), Breaker::default()))
                .collect(),
            reaper,
        }
    }

    /// Runs one attempt to its end, however it ends. Nothing of it runs when this returns, but what
    /// the kernel would not end, which is logged. `cancel` ends it when its sender speaks or goes.
    pub async fn attempt(
        &self,
        job: Assignment,
        transcript: Transcript,
        cancel: oneshot::Receiver<()>,
    ) -> Outcome {
        let mut tree = Tree::new(self.reaper.clone());
        let mut sink = Sink::new(transcript, self.context.output_bytes);
        let deadline = deadline(Instant::now(), job.timeout_ms);
        let work = self.answer(&job, &mut tree, &mut sink);
        let ended = tokio::select! {
            biased;
            _ = cancel => Ended::Cancelled,
            result = timeout_at(deadline, work) => match result {
                Ok(Ok((answer, backend))) => Ended::Answered(answer, backend),
                Ok(Err(failure)) => Ended::Failed(failure),
                Err(_) => Ended::TimedOut,
            },
        };
        // What is cancelled may clean up; after an answer or an error nothing is left to end.
        let left = tree.end(self.context.stop_timeout).await;
        if !left.is_empty() {
            log::say(&format!(
                "[{}] processes {left:?} do not end, not even by SIGKILL",
                job.task
            ));
        }
        command::clear(&self.context.own, &job.task, job.fence);
        outcome(ended, sink.truncated(), job.timeout_ms)
    }

    /// The backend's answer, or that of the first fallback that can be reached. Once something was
    /// said there is no going back: two halves are no answer.
    async fn answer(
        &self,
        job: &Assignment,
        tree: &mut Tree,
        sink: &mut Sink,
    ) -> Result<(Answer, &'static str), Failure> {
        let view = Job {
            task: &job.task,
            fence: job.fence,
            content: &job.content,
        };
        let mut failures: Vec<(&str, Failure)> = Vec::new();
        for (place, (backend, breaker)) in self.backends.iter().enumerate() {
            let is_last = place + 1 == self.backends.len();
            // Where all are away, the last one is asked all the same: somebody has to find out.
            if !is_last && !breaker.allows(Instant::now()) {
                let away = "left out: it could not be reached a moment ago";
                failures.push((backend.kind(), Failure::unreachable(away)));
                continue;
            }
            match backend.run(&self.context, view, tree, sink).await {
                Ok(answer) => {
                    breaker.reached();
                    return Ok((answer, backend.kind()));
                }
                Err(failure) => {
                    match failure.kind {
                        FailureKind::Unreachable => breaker.unreached(Instant::now()),
                        _ => breaker.reached(),
                    }
                    let elsewhere = matches!(
                        failure.kind,
                        FailureKind::Unavailable | FailureKind::Unreachable
                    );
                    let next = elsewhere && sink.said() == 0;
                    failures.push((backend.kind(), failure));
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(summed_up(&failures))
    }
}

/// How an attempt came to its end.
#[derive(Debug)]
enum Ended {
    Answered(Answer, &'static str),
    Failed(Failure),
    TimedOut,
    Cancelled,
}

fn outcome(ended: Ended, truncated: bool, timeout_ms: u64) -> Outcome {
    match ended {
        Ended::Answered(answer, backend) => Outcome::Succeeded {
            usage: answer.usage,
            backend: backend.into(),
            model: answer.model,
            truncated,
        },
        Ended::Failed(failure) => Outcome::Failed {
            // What the backends know as secret they have blacked out; this is for what only looks like one.
            error: text::prefix(&redact_secrets(&failure.error), MAX_ERROR_BYTES).to_owned(),
            kind: failure.kind,
        },
        Ended::TimedOut => Outcome::Failed {
            error: format!(
                "not done within {:?} (the task's timeout_seconds, or timeouts.task_timeout_seconds)",
                Duration::from_millis(timeout_ms)
            ),
            kind: FailureKind::TimedOut,
        },
        Ended::Cancelled => Outcome::Cancelled,
    }
}

/// One failure of several: the last one's kind decides, since the last one had the last chance. Only
/// where none was reached is it said that none was.
fn summed_up(failures: &[(&str, Failure)]) -> Failure {
    let kinds = || failures.iter().map(|(_, failure)| failure.kind);
    let kind = match kinds().next_back() {
        Some(FailureKind::Unreachable) if kinds().any(|kind| kind != FailureKind::Unreachable) => {
            FailureKind::Unavailable
        }
        last => last.unwrap_or(FailureKind::Permanent),
    };
    let error = match failures {
        [(_, only)] => only.error.clone(),
        several => several
            .iter()
            .map(|(name, failure)| format!("{name}: {}", failure.error))
            .collect::<Vec<_>>()
            .join("; then "),
    };
    Failure { kind, error }
}

/// A time-out too long to be a point in time is none.
fn deadline(now: Instant, timeout_ms: u64) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + Duration::from_millis(timeout_ms).min(FAR)
}

/// What names an attempt.
pub type Key = (TaskId, Fence);

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, error: &str) -> Failure {
        Failure {
            kind,
            error: error.into(),
        }
    }

    #[test]
    fn the_last_failure_decides_and_all_are_named() {
        let got = summed_up(&[
            ("ollama", failure(FailureKind::Unavailable, "down")),
            (
                "command",
                failure(FailureKind::Permanent, "no such program"),
            ),
        ]);
        assert_eq!(got.kind, FailureKind::Permanent);
        assert_eq!(got.error, "ollama: down; then command: no such program");
        let none = failure(FailureKind::Unreachable, "refused");
        let busy = failure(FailureKind::Unavailable, "busy");
        let got = summed_up(&[("ollama", busy), ("openai", none.clone())]);
        assert_eq!(got.kind, FailureKind::Unavailable, "one was reached");
        let got = summed_up(&[("ollama", none.clone()), ("openai", none)]);
        assert_eq!(got.kind, FailureKind::Unreachable);
        let got = summed_up(&[("ollama", failure(FailureKind::Backend, "bad"))]);
        assert_eq!(got.error, "bad");
    }

    #[test]
    fn errors_fit_their_frame_and_no_time_out_overflows() {
        let long = failure(FailureKind::Backend, &"é".repeat(5000));
        let Outcome::Failed { error, .. } = outcome(Ended::Failed(long), false, 0) else {
            panic!("not failed");
        };
        assert!(error.len() <= MAX_ERROR_BYTES);
        let _ = deadline(Instant::now(), u64::MAX);
    }
}
