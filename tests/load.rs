//! Two thousand tasks at once: none lost, none answered twice, the figures add up, and the log holds
//! neither what clients wrote nor an error.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::{Daemon, wait_until};
use fastrand::Rng;
use serde_json::{Value, json};

const TASKS: usize = 2_000;
const CLIENTS: usize = 16;
/// Every so many tasks one is sent twice.
const DUPLICATE_EVERY: usize = 10;

const CONFIG: &str = "bot_limits: {min_bots: 6, max_bots: 6, max_concurrent_tasks_per_bot: 4}\n\
    bots:\n\
    \x20 - {name: general, type: general, min: 2, max: 2, backend: {kind: echo, delay_ms: 2}}\n\
    \x20 - {name: developer, type: developer, specializations: [python], min: 2, max: 2, backend: {kind: echo}}\n\
    \x20 - {name: password-keeper, type: writer, min: 2, max: 2, backend: {kind: echo, delay_ms: 1}}\n";

/// A request, and what it was answered, each time.
struct Sent {
    request: Value,
    answers: Vec<Value>,
}

#[test]
fn two_thousand_tasks_from_sixteen_clients_are_done_once_each() {
    let mut daemon = Daemon::builder().config(CONFIG).start();
    daemon.wait_bots(6);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let tcp = daemon.tcp();
            std::thread::spawn(move || {
                let mut connection = tcp.connect();
                let mut send = |request: &Value| {
                    let body = request.to_string();
                    let answer =
                        connection.request("POST", "/api/orchestrate", &[], Some(body.as_bytes()));
                    let answer = answer.unwrap();
                    assert_eq!(
                        answer.status,
                        200,
                        "{request}: {}",
                        String::from_utf8_lossy(&answer.body)
                    );
                    serde_json::from_slice::<Value>(&answer.body).unwrap()
                };
                let mut rng = Rng::with_seed(client as u64);
                let mut sent = Vec::new();
                for n in 0..TASKS / CLIENTS {
                    let request = request(client, n, &mut rng);
                    let mut answers = vec![send(&request)];
                    if n.is_multiple_of(DUPLICATE_EVERY) {
                        answers.push(send(&request));
                    }
                    sent.push(Sent { request, answers });
                }
                sent
            })
        })
        .collect();
    let mut tasks: HashMap<String, Sent> = HashMap::new();
    for client in clients {
        for one in client.join().unwrap() {
            let id = one.answers[0]["task_id"].as_str().unwrap().to_owned();
            assert!(
                tasks.insert(id.clone(), one).is_none(),
                "{id} was given out twice"
            );
        }
    }
    assert_eq!(tasks.len(), TASKS);

    let queue = wait_until(Duration::from_secs(60), "every task ends", || {
        let queue = daemon.get("/status").ok()["queue"].clone();
        let waiting = ["scheduled", "queued", "running"].map(|s| queue[s].as_u64().unwrap());
        (waiting == [0; 3]).then_some(queue)
    });
    let expected = json!({"scheduled": 0, "queued": 0, "running": 0, "succeeded": TASKS, "dead": 0,
                          "cancelled": 0, "expired": 0});
    assert_eq!(queue, expected);
    every_task_has_its_own_answer(&daemon, &tasks);
    every_task_is_listed_once(&daemon, &tasks);

    daemon.get("/status").ok();
    assert!(daemon.terminate().success());
    the_checklist_finds_nothing(&daemon);
}

/// A task of any kind; some say what the log must not.
fn request(client: usize, n: usize, rng: &mut Rng) -> Value {
    let mut request = json!({"content": format!("{client}/{n}: my password is hunter2, the API key {}", rng.u64(..))});
    let named = n.is_multiple_of(DUPLICATE_EVERY) || rng.bool();
    if named {
        let word = rng
            .choice(["api-key", "Token", "PASSWORD", "plain"])
            .unwrap();
        request["task_id"] = json!(format!("{word}-{client}-{n}"));
    }
    if rng.bool() {
        request["priority"] = json!(format!("P{}", rng.u8(0..4)));
    }
    match rng.u8(0..8) {
        0 => request["pool"] = json!("password-keeper"),
        1 => request["pool"] = json!("developer"),
        2 => request["bot_id"] = json!("password-keeper-2"),
        3 => request["required_capabilities"] = json!(["python"]),
        4 => request["type"] = json!("writing"),
        _ => {}
    }
    if rng.bool() {
        request["metadata"] = json!({"token": "deia_0123456789abcdef", "keys": [1, 2]});
    }
    request
}

fn every_task_has_its_own_answer(daemon: &Daemon, tasks: &HashMap<String, Sent>) {
    let mut connection = daemon.tcp().connect();
    for (id, sent) in tasks {
        let answer = connection
            .request("GET", &format!("/api/tasks/{id}"), &[], None)
            .unwrap();
        assert_eq!(answer.status, 200, "{id}");
        let task: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(task["result"]["output"], sent.request["content"], "{task}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
        let bot = task["attempts"][0]["bot_id"].as_str().unwrap();
        if let Some(pool) = sent.request["pool"].as_str() {
            assert!(bot.starts_with(pool), "{task}");
        }
        if let Some(wanted) = sent.request["bot_id"].as_str() {
            assert_eq!(bot, wanted, "{task}");
        }
        assert_eq!(task["metadata"], sent.request["metadata"], "{task}");
        for (nth, answer) in sent.answers.iter().enumerate() {
            assert_eq!(answer["success"], true, "{answer}");
            assert_eq!(answer["duplicate"] == true, nth > 0, "{answer}");
        }
    }
}

fn every_task_is_listed_once(daemon: &Daemon, tasks: &HashMap<String, Sent>) {
    let mut listed = HashMap::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("/api/tasks?limit=300{cursor}")).ok();
        for task in page["tasks"].as_array().unwrap() {
            let id = task["task_id"].as_str().unwrap().to_owned();
            *listed.entry(id).or_insert(0) += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(listed.values().all(|count| *count == 1));
    assert_eq!(listed.len(), tasks.len());
    assert!(tasks.keys().all(|id| listed.contains_key(id)));
}

/// The deployment checklist's own greps.
fn the_checklist_finds_nothing(daemon: &Daemon) {
    let logs: PathBuf = daemon.home().join(".deia/bot-logs");
    let grep = |arguments: &[&str]| {
        let found = Command::new("grep")
            .args(arguments)
            .arg(&logs)
            .output()
            .unwrap();
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    let said = grep(&["-rh", "task_completed"]);
    assert!(
        said.lines().count() >= TASKS,
        "the log says little: {} lines",
        said.lines().count()
    );
    let secrets = grep(&["-ri", "password\\|token\\|key"]);
    let first: Vec<&str> = secrets.lines().take(5).collect();
    assert!(
        secrets.is_empty(),
        "{} lines, such as {first:#?}",
        secrets.lines().count()
    );
    let errors = grep(&["-r", "ERROR", "--include=*.jsonl"]);
    assert!(errors.is_empty(), "{errors}");
}
