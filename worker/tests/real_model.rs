//! The openai backend against a real model server: llama.cpp's own, with a model made of noise.
//!
//! Needs a python with `xllamacpp`, `gguf` and `numpy`, named by `DEIA_TEST_LLM_PYTHON`; says
//! `SKIPPED real_model: ...` where there is none. See `tests/llm/server.py`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, also in its helpers"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use deia::config::{BackendSpec, ModelServer, Workdir};
use deia::task::Fence;
use deia::wire::FailureKind;
use deia_worker::backends::{Answer, Backend, Context, Failure, Job};
use deia_worker::sink::Sink;
use deia_worker::transcript::{Line, Transcript};
use deia_worker::tree::{Reaper, Tree};

const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; it ends with its standard input.
struct Llama {
    process: Child,
    stdin: Option<ChildStdin>,
    url: String,
}

impl Drop for Llama {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.process.wait();
    }
}

fn start() -> Result<Llama, String> {
    let python =
        std::env::var("DEIA_TEST_LLM_PYTHON").map_err(|_| "DEIA_TEST_LLM_PYTHON is not set")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/llm/server.py");
    let mut process = Command::new(&python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start {python}: {e}"))?;
    let stdin = process.stdin.take();
    let stdout = process.stdout.take().ok_or("no output")?;
    let address = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("LISTENING ").map(str::to_owned));
    let mut llama = Llama {
        process,
        stdin,
        url: String::new(),
    };
    match address {
        Some(address) => {
            llama.url = format!("{address}/v1");
            Ok(llama)
        }
        None => Err(format!(
            "{python} {script} did not start a server: are xllamacpp, gguf and numpy installed?"
        )),
    }
}

async fn ask(spec: &ModelServer, content: &str) -> (Vec<String>, Result<Answer, Failure>) {
    let words = Transcript::new(Arc::default(), Line::Up);
    let task: deia::task::TaskId = "t".parse().unwrap();
    let fence = Fence {
        epoch: 1,
        attempt: 1,
    };
    let mut sink = Sink::new(words.clone(), 1 << 30);
    let context = Context {
        socket: "/nonexistent".into(),
        bot_id: "bot".into(),
        workdir: Workdir::Fresh,
        work_root: "/nonexistent".into(),
        env_files: Default::default(),
        output_bytes: 1 << 30,
        stop_timeout: Duration::from_secs(1),
        own: "/nonexistent".into(),
        cage: None,
    };
    let job = Job {
        task: &task,
        fence,
        content,
    };
    let backend = Backend::new(BackendSpec::Openai(spec.clone()));
    let mut tree = Tree::new(Reaper::default());
    let run = tokio::time::timeout(PATIENCE, backend.run(&context, job, &mut tree, &mut sink));
    tokio::pin!(run);
    let mut pieces = Vec::new();
    // A piece each time something came.
    loop {
        tokio::select! {
            answer = &mut run => {
                pieces.extend(words.take());
                return (pieces, answer.unwrap());
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => pieces.extend(words.take()),
        }
    }
}

/// Past the test harness, which keeps what a passing test prints.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[tokio::test]
async fn a_real_server_answers_in_pieces_and_counts_tokens() {
    let llama = match start() {
        Ok(llama) => llama,
        Err(why) => {
            say(&format!("SKIPPED real_model: {why}"));
            return;
        }
    };
    let spec = ModelServer {
        url: llama.url.clone(),
        max_tokens: 40,
        ..ModelServer::openai()
    };
    let (pieces, answer) = ask(&spec, "what is the answer to the task of the bot?").await;
    let usage = answer.unwrap().usage;
    assert!(pieces.len() > 1, "{pieces:?}");
    assert!(
        usage.prompt_tokens > 10 && (1..=40).contains(&usage.completion_tokens),
        "{usage:?}"
    );

    // More at once than the server has slots: the rest waits there, none fails.
    let asked = (0..12).map(|n| {
        let spec = spec.clone();
        async move { ask(&spec, &format!("task {n}")).await.1 }
    });
    for answer in futures_util::future::join_all(asked).await {
        assert!(answer.unwrap().usage.completion_tokens > 0);
    }

    // More than the context holds: the server's own words, as an error.
    let (_, answer) = ask(&spec, &"é".repeat(20_000)).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Backend);
    assert!(failure.error.contains("context"), "{}", failure.error);
    say(&format!("real_model: ran against {}", llama.url));
}
