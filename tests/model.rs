//! A real language model answers through the whole fleet.
//!
//! llama.cpp's server with a model made of noise says nonsense, but the protocol, the timing and the
//! token counts are real. Without a python that has its wheels (`DEIA_TEST_LLM_PYTHON`), the test says
//! `SKIPPED model: ...` and passes; CI installs them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, also in its helpers"
)]

mod common;

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use common::{Daemon, Llama, skipped};
use serde_json::{Value, json};

const TASKS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(180);

/// 50 tasks at once on 2 bots: every one has an answer, its tokens are counted and stored, both bots
/// worked, and one that is followed streams its answer in pieces.
#[test]
fn fifty_tasks_at_once_on_two_bots() {
    let llama = match Llama::start(&["--parallel", "4"]) {
        Ok(llama) => llama,
        Err(why) => {
            skipped("model", &why);
            return;
        }
    };
    let daemon = Daemon::builder()
        .config(&format!(
            "http: {{listen: \"127.0.0.1:0\"}}\n\
             bots:\n\
             \x20 - name: model\n\
             \x20   min: 2\n\
             \x20   max: 2\n\
             \x20   backend: {{kind: openai, url: \"{}/v1\", max_tokens: 200}}\n",
            llama.url
        ))
        .start();
    daemon.wait_bots(2);

    let pieces = pieces_of(&daemon, "Tell me a long story");
    assert!(pieces > 1, "the answer came in {pieces} piece(s)");

    let batch: Vec<Value> = (0..TASKS)
        .map(|n| json!({"task_id": format!("model-{n}"), "content": format!("Question {n}: who are you?")}))
        .collect();
    let accepted = daemon.post("/api/orchestrate/batch", &json!(batch)).ok();
    assert_eq!(accepted["accepted"], TASKS, "{accepted}");

    let mut bots = BTreeSet::new();
    for n in 0..TASKS {
        let task = daemon.wait_task(&format!("model-{n}"), PATIENCE);
        assert_eq!(task["status"], "succeeded", "{task}");
        let result = &task["result"];
        assert!(
            result["usage"]["prompt_tokens"].as_u64().unwrap() > 0,
            "{task}"
        );
        assert!(
            result["usage"]["completion_tokens"].as_u64().unwrap() > 0,
            "{task}"
        );
        assert_eq!(result["backend"], "openai");
        assert!(result["output"].is_string());
        bots.insert(task["attempts"][0]["bot_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(bots.len(), 2, "{bots:?}");
}

/// How many pieces a followed answer came in.
fn pieces_of(daemon: &Daemon, question: &str) -> usize {
    let mut following = daemon
        .ctl_command(&["--json", "submit", "--follow", question])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    following
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(following.wait().unwrap().success(), "{said}");
    said.lines()
        .filter(|line| line.contains("\"text\""))
        .count()
}
