//! What else is acknowledged beside tasks: messages, an operator's words, and task files with their answers.
//! Noted here, outside the daemon, before anything goes on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::common::{Daemon, Http, PATIENCE, Response, SetOnDrop, wait_until};

/// Who gets messages: bots that are up, and one that never is.
const READERS: [&str; 3] = ["echo", "sh", "nobody"];

/// The bot that an operator stops and starts.
const STOPPED: &str = "echo-2";

/// Task files, put there before the first start.
const FILES: usize = 6;

/// What was seen, and is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub messages: u64,
    pub acts: u64,
    pub files: u64,
}

/// See the module.
pub struct Witness {
    seed: u64,
    hive: PathBuf,
    /// Content of each message by its id, and whose it is.
    messages: Mutex<BTreeMap<String, (String, String)>>,
    acts: Mutex<u64>,
    over: AtomicBool,
}

impl Witness {
    /// Puts the task files there.
    pub fn new(seed: u64, daemon: &Daemon) -> Self {
        let hive = daemon.home().join(".deia/hive");
        let folder = hive.join("tasks/echo");
        fs::create_dir_all(&folder).unwrap();
        for n in 0..FILES {
            fs::write(folder.join(format!("{n}.md")), format!("file {n}")).unwrap();
        }
        Self {
            seed,
            hive,
            messages: Mutex::default(),
            acts: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Goes on while the story is told.
    pub fn during<T>(&self, admin: &Http, story: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| self.send(admin));
            scope.spawn(|| self.operate(admin));
            scope.spawn(|| self.tidy(admin));
            let _over = SetOnDrop(&self.over);
            story()
        })
    }

    fn goes_on(&self) -> bool {
        std::thread::sleep(Duration::from_millis(7));
        !self.over.load(Ordering::Relaxed)
    }

    fn send(&self, admin: &Http) {
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let to = READERS[number % READERS.len()];
            let content = format!(
                "message {number} of {} {}",
                self.seed,
                "y".repeat(number % 99)
            );
            let body = json!({"to_bot": to, "content": content});
            if let Some(said) = post(admin, "/api/messaging/send", &body) {
                let id = said["message_id"].as_str().unwrap().to_owned();
                let message = (to.to_owned(), content);
                self.messages.lock().unwrap().insert(id, message);
            }
        }
    }

    /// Says something else again and again, and before each time looks whether what he was last promised is so.
    fn operate(&self, admin: &Http) {
        let mut rng = Rng::with_seed(self.seed ^ 0x0b5e_55ed);
        // None: he was not answered, and it may be one or the other.
        let (mut stopped, mut most) = (Some(false), Some(4));
        while self.goes_on() {
            if rng.bool() {
                let path = format!("/api/bots/{STOPPED}");
                let Some(bot) = get(admin, &path) else {
                    continue;
                };
                if let Some(stopped) = stopped {
                    let wanted = if stopped { "stopped" } else { "running" };
                    assert_eq!(bot["wanted"], wanted, "seed {}: {bot}", self.seed);
                }
                let stop = rng.bool();
                let act = if stop { "stop" } else { "start" };
                stopped = post(admin, &format!("{path}/{act}"), &json!({})).map(|_| stop);
                *self.acts.lock().unwrap() += u64::from(stopped.is_some());
            } else {
                let Some(now) = get(admin, "/api/scaling/status") else {
                    continue;
                };
                if let Some(most) = most {
                    let wanted = (json!(most), json!(most != 4));
                    assert_eq!(
                        (now["max_bots"].clone(), now["override"].clone()),
                        wanted,
                        "seed {}: {now}",
                        self.seed
                    );
                }
                let to = rng.u32(4..8);
                let body = match to {
                    4 => json!({"resume": true}),
                    to => json!({"max_bots": to}),
                };
                most = post(admin, "/api/scaling/limits", &body).map(|_| to);
                *self.acts.lock().unwrap() += u64::from(most.is_some());
            }
        }
    }

    /// Removes task files that have become tasks, durably: from then on only the daemon knows of them.
    fn tidy(&self, admin: &Http) {
        let mut rng = Rng::with_seed(self.seed ^ 0x71d7);
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(100));
            let Some(page) = get(admin, "/api/tasks?limit=200") else {
                continue;
            };
            for task in page["tasks"].as_array().unwrap() {
                if let Some(file) = task["metadata"]["task_file"]["file"].as_str()
                    && rng.u8(0..4) == 0
                    && fs::remove_file(self.hive.join("tasks/echo").join(file)).is_ok()
                {
                    let folder = File::open(self.hive.join("tasks/echo"));
                    let _ = folder.and_then(|folder| folder.sync_all());
                }
            }
        }
    }

    /// Holds the daemon to it, and leaves it as the file says.
    #[track_caller]
    pub fn check(&self, daemon: &Daemon) -> Seen {
        let seed = self.seed;
        daemon
            .post(&format!("/api/bots/{STOPPED}/start"), &json!({}))
            .ok();
        daemon
            .post("/api/scaling/limits", &json!({"resume": true}))
            .ok();
        let mut there = BTreeMap::new();
        for reader in READERS {
            let inbox = daemon.get(&format!("/api/messaging/inbox?bot_id={reader}&limit=1000"));
            for message in inbox.ok()["messages"].as_array().unwrap() {
                let text = |key: &str| message[key].as_str().unwrap().to_owned();
                let known = (text("to_bot"), text("content"));
                let twice = there.insert(text("message_id"), known);
                assert_eq!(twice, None, "seed {seed}: {message}");
            }
        }
        let messages = self.messages.lock().unwrap();
        for (id, message) in &*messages {
            assert_eq!(
                there.get(id),
                Some(message),
                "seed {seed}: message {id} was acknowledged"
            );
        }
        self.check_files(daemon);
        Seen {
            messages: messages.len() as u64,
            acts: *self.acts.lock().unwrap(),
            files: FILES as u64,
        }
    }

    /// Each content is one task and has one answer.
    #[track_caller]
    fn check_files(&self, daemon: &Daemon) {
        let seed = self.seed;
        let outputs = || -> Vec<String> {
            let entries = fs::read_dir(self.hive.join("responses"))
                .into_iter()
                .flatten();
            let texts = entries.filter_map(|entry| {
                let entry = entry.ok()?;
                let hidden = entry.file_name().to_str()?.starts_with('.');
                (!hidden).then(|| fs::read_to_string(entry.path()).unwrap_or_default())
            });
            let mut outputs: Vec<String> = texts.map(|text| output(&text)).collect();
            outputs.sort();
            outputs
        };
        let wanted: Vec<String> = (0..FILES).map(|n| format!("file {n}")).collect();
        wait_until(
            PATIENCE,
            &format!("seed {seed}: every task file is answered"),
            || {
                let now = outputs();
                assert!(now.len() <= FILES, "seed {seed}: answered twice: {now:?}");
                (now.len() == FILES).then_some(())
            },
        );
        assert_eq!(outputs(), wanted, "seed {seed}");
        let mut taken = 0;
        let mut cursor = String::new();
        loop {
            let page = daemon.get(&format!("/api/tasks?limit=1000{cursor}")).ok();
            let tasks = page["tasks"].as_array().unwrap();
            taken += tasks
                .iter()
                .filter(|task| task["metadata"]["task_file"].is_object())
                .count();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(taken, FILES, "seed {seed}: tasks of task files");
    }
}

/// Between `## Output` and the next heading.
fn output(response: &str) -> String {
    let behind = response
        .split_once("## Output\n")
        .map_or("", |(_, behind)| behind);
    let end = behind
        .split_once("\n## ")
        .map_or(behind, |(output, _)| output);
    end.trim().to_owned()
}

/// What a daemon answers that is up and has said yes.
fn yes(answer: std::io::Result<Response>) -> Option<Value> {
    let answer = answer.ok().filter(|answer| answer.status == 200)?;
    (answer.body["success"] != false).then_some(answer.body)
}

fn get(admin: &Http, path: &str) -> Option<Value> {
    yes(admin.try_request("GET", path, &[], None))
}

fn post(admin: &Http, path: &str, body: &Value) -> Option<Value> {
    let headers = [("content-type", "application/json")];
    yes(admin.try_request("POST", path, &headers, Some(body.to_string().as_bytes())))
}
