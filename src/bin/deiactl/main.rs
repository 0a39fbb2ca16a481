//! `deiactl`: everything an operator does, over the same HTTP and JSON as everyone.
//!
//! One verb, one file in `verbs/`. Standard output is for the result, standard error for everything
//! said on the way; `failure` maps what went wrong to the exit code.

mod cli;
mod context;
mod failure;
#[cfg(test)]
mod generated;
mod human;
mod offline;
mod output;
mod progress;
mod table;
mod tail;
mod verbs;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use futures_util::StreamExt;
use signal_hook::consts::SIGINT;

use cli::Cli;
use context::Context;
use failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way too: on standard output, with 0. A reader that has closed
        // the pipe does not want them.
        Err(answer) => {
            let _ = answer.print();
            let usage = answer.use_stderr();
            return ExitCode::from(if usage { failure::USAGE } else { failure::DONE });
        }
    };
    let context = Context::new(&cli.globals);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(&cli, &context));
            // A thread that still waits for an answer must not keep an interrupted command alive.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::Failed(format!("no runtime: {error}"))),
    };
    ExitCode::from(match outcome {
        Ok(()) => failure::DONE,
        Err(failure) => failure.report(&context.out),
    })
}

/// The verb, or the interruption, whichever comes first.
async fn run(cli: &Cli, context: &Context) -> Result<(), Failure> {
    let verb = Box::pin(cli.verb.run(context));
    // Where the handler can't be set, Ctrl-C ends the process as it does by default.
    let Ok(mut signals) = signal_hook_tokio::Signals::new([SIGINT]) else {
        return verb.await;
    };
    tokio::select! {
        outcome = verb => outcome,
        Some(_) = signals.next() => Err(Failure::Interrupted(context.interruption_note())),
    }
}
