//! Any program: a CLI agent, a script.
//!
//! ```text
//!   content --stdin or argv--> child --stdout--> sink (streamed)
//!                                 \---stderr--> the bot's own stderr, and the tail of an error
//!   child exits -> short grace for what still holds its pipes -> the tree ends -> exit code decides
//! ```
//!
//! No shell is involved. What the attempt started does not outlive it, also after success.

mod input;
mod pipes;
mod setup;
mod temporary;

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use deia::config::{CommandInput, CommandSpec};
use deia::wire::Usage;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Answer, Context, Failure, Job};
use crate::sink::Sink;
use crate::text::{self, Tail};
use crate::tree::Tree;

pub use temporary::{clear, sweep};

/// Bytes of standard error that an error quotes.
const STDERR_TAIL_BYTES: usize = 4096;
/// Most bytes of an error, see [`deia::wire::Outcome::Failed`].
const MAX_ERROR_BYTES: usize = 4096;
/// What still holds the output open after the program has ended gets this long.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// Left-over processes of a program that has ended get at most this long from TERM to KILL.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(2);
/// A pipe that is still open when the whole tree has ended is held by a process outside of it.
const PIPE_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(
    spec: &CommandSpec,
    context: &Context,
    job: Job<'_>,
    tree: &mut Tree,
    sink: &mut Sink,
) -> Result<Answer, Failure> {
    let Some((program, arguments)) = spec.argv.split_first() else {
        return Err(Failure::permanent("backend.argv is empty: name a program"));
    };
    input::check(spec.input, job.content)?;
    let ground = setup::ground(context, job, &spec.env).await?;
    let secrets = setup::secrets(&context.env_files).await?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&ground.directory)
        .env_clear()
        .envs(setup::environment(
            &spec.env,
            |name| std::env::var_os(name),
            &ground,
        ))
        .envs(secrets.iter().map(|(name, secret)| (name, secret.expose())))
        .env("DEIA_BOT_ID", &context.bot_id)
        .env("DEIA_SOCKET", &context.socket)
        .env("DEIA_TASK_ID", job.task.as_str())
        .env("DEIA_ATTEMPT", job.fence.attempt.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match spec.input {
        CommandInput::Stdin => command.stdin(Stdio::piped()),
        CommandInput::Argv => command.arg(job.content).stdin(Stdio::null()),
    };
    let child = tree
        .spawn(&mut command, ground.cell)
        .map_err(|e| setup::cannot_start(program, &e, &ground.out_of_reach))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());

    let mut tail = Tail::new(STDERR_TAIL_BYTES);
    let status = {
        let (stdin, stdout, stderr) = pipes;
        let feed = input::feed(stdin, job.content);
        let pump = async {
            let log = pipes::Log::new(job.task, context.output_bytes, &secrets);
            tokio::join!(
                pipes::stdout(stdout, sink),
                pipes::stderr(stderr, log, &mut tail)
            );
        };
        tokio::pin!(feed, pump);
        let (mut fed, mut pumped) = (false, false);
        let status = loop {
            tokio::select! {
                status = tree.wait() => break status,
                () = &mut feed, if !fed => fed = true,
                () = &mut pump, if !pumped => pumped = true,
            }
        };
        if !pumped {
            pumped = timeout(PIPE_GRACE, &mut pump).await.is_ok();
        }
        tree.end(context.stop_timeout.min(LEFTOVER_PATIENCE)).await;
        if !pumped {
            // What it did not say by then is held by a process outside of the tree; or the supervisor does not
            // take it, which `sink` knows.
            let _ = timeout(PIPE_PATIENCE, &mut pump).await;
        }
        status.map_err(|e| Failure::backend(format!("'{program}': {e}")))?
    };
    if status.success() {
        return Ok(Answer {
            usage: Usage::default(),
            model: None,
        });
    }
    let quoted = secrets
        .values()
        .fold(tail.text(), |text, secret| secret.redact_piece(&text));
    Err(failed(program, status, &quoted))
}

/// The failure of a program that ended with anything but 0.
fn failed(program: &str, status: ExitStatus, stderr: &str) -> Failure {
    let what = match (status.code(), status.signal()) {
        // By the convention of shells, env, nice, timeout and others that run programs.
        (Some(code @ (126 | 127)), _) => {
            let why = if code == 126 {
                "not executable"
            } else {
                "not found"
            };
            format!("cannot start '{program}': {why} (exit code {code})")
        }
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by {}", signal_name(signal)),
        (None, None) => format!("ended with {status}"),
    };
    let what = text::prefix(&what, MAX_ERROR_BYTES / 2);
    let error = if stderr.is_empty() {
        what.to_owned()
    } else {
        let room = MAX_ERROR_BYTES - what.len() - 2;
        format!("{what}: {}", text::suffix(stderr, room))
    };
    match status.code() {
        Some(126 | 127) => Failure::permanent(error),
        _ => Failure::backend(error),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL (out of memory?)",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use deia::wire::FailureKind;

    use super::*;

    #[test]
    fn how_a_program_ended_is_named_and_decides_the_kind() {
        let exit = |code: i32| failed("x", ExitStatus::from_raw(code << 8), "  why");
        assert_eq!(exit(3).error, "exit code 3:   why");
        assert_eq!(exit(3).kind, FailureKind::Backend);
        assert_eq!(exit(127).kind, FailureKind::Permanent);
        assert!(exit(127).error.starts_with("cannot start 'x': not found"));
        let killed = failed("x", ExitStatus::from_raw(9), "");
        assert!(
            killed.error.starts_with("ended by SIGKILL"),
            "{}",
            killed.error
        );
        assert_eq!(killed.kind, FailureKind::Backend);
    }

    #[test]
    fn an_error_is_bounded_and_keeps_the_end() {
        let stderr = "é".repeat(STDERR_TAIL_BYTES / 2) + "the reason";
        let error = failed("x", ExitStatus::from_raw(256), &stderr).error;
        assert!(error.len() <= MAX_ERROR_BYTES);
        assert!(error.ends_with("the reason"));
    }
}
