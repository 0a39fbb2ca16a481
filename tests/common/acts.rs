//! What users and operators do besides submitting tasks, and what they were promised by it. Like the ledger of
//! tasks, in the test's own process: an answer is noted before anything else is done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Daemon, External, PATIENCE, SignedRequest, wait_until};

/// A bot of [`super::POOLS`] that operators stop and start.
const STOPPED: &str = "echo-2";

/// Something that was asked for: how it may stand now. More than one where an answer is missing.
#[derive(Debug)]
struct Standing(BTreeSet<u64>);

impl Standing {
    fn new(now: u64) -> Self {
        Self(BTreeSet::from([now]))
    }

    /// Asks for another; `answer` says whether it was acknowledged.
    fn ask(&mut self, wanted: u64, answer: impl FnOnce() -> bool) {
        self.0.insert(wanted);
        if answer() {
            *self = Self::new(wanted);
        }
    }

    #[track_caller]
    fn check(&mut self, now: u64, what: &str) {
        assert!(
            self.0.contains(&now),
            "{what}: {now}, not one of {:?}",
            self.0
        );
        *self = Self::new(now);
    }
}

/// What was done, and acknowledged.
pub struct Acts {
    config: String,
    /// `bot_limits.max_bots`, as it is in the file and as an operator sets it.
    limits: Standing,
    /// Whether [`STOPPED`] is.
    held: Standing,
    /// `tasks.max_queued` of the last good configuration.
    good: Standing,
    messages: BTreeSet<String>,
    backups: BTreeSet<String>,
    /// Task files by their content, and files that are none.
    files: BTreeSet<String>,
    none: BTreeSet<String>,
    /// An external bot with the secret that was acknowledged last, unless another one may be in force.
    external: Option<External>,
    /// A request of it that was accepted.
    accepted: Option<SignedRequest>,
    number: u64,
    /// API tokens that are in force, those that are not any more, and those that may be either.
    tokens: BTreeSet<String>,
    revoked: BTreeSet<String>,
    doubtful: BTreeSet<String>,
}

const MAX_QUEUED: u64 = 100_000;

impl Acts {
    /// With this configuration, which names no port and no limits of tasks.
    pub fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            limits: Standing::new(4),
            held: Standing::new(0),
            good: Standing::new(MAX_QUEUED),
            messages: BTreeSet::new(),
            backups: BTreeSet::new(),
            files: BTreeSet::new(),
            none: BTreeSet::new(),
            external: None,
            accepted: None,
            number: 0,
            tokens: BTreeSet::new(),
            revoked: BTreeSet::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// The configuration's text, with a number of its own.
    pub fn config(&self, number: u64) -> String {
        let number = MAX_QUEUED + number;
        format!(
            "{}tasks: {{max_attempts: 1000, max_queued: {number}}}\nhttp: {{listen: \"127.0.0.1:0\"}}\n",
            self.config
        )
    }

    /// A token more, and one less.
    pub fn token(&mut self, daemon: &Daemon) {
        let body = json!({"scopes": ["read"], "name": format!("number {}", self.next())});
        let made = post(daemon, "/api/tokens", &body);
        let id = made.and_then(|answer| Some(answer["id"].as_str()?.to_owned()));
        self.tokens.extend(id);
        if self.tokens.len() > 1
            && let Some(id) = self.tokens.pop_first()
        {
            let done = post(daemon, &format!("/api/tokens/{id}/revoke"), &json!({}));
            match done {
                Some(_) => self.revoked.insert(id),
                None => self.doubtful.insert(id),
            };
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub fn scale(&mut self, daemon: &Daemon) {
        for (max, body) in [(5, json!({"max_bots": 5})), (4, json!({"resume": true}))] {
            let ask = || post(daemon, "/api/scaling/limits", &body).is_some();
            self.limits.ask(max, ask);
        }
    }

    pub fn stop_and_start(&mut self, daemon: &Daemon) {
        for (held, act) in [(1, "stop"), (0, "start")] {
            let path = format!("/api/bots/{STOPPED}/{act}");
            self.held
                .ask(held, || post(daemon, &path, &json!({})).is_some());
        }
    }

    pub fn reload(&mut self, daemon: &Daemon) {
        let number = self.next();
        daemon.write_config(&self.config(number));
        let ask = || post(daemon, "/api/config/reload", &json!({})).is_some();
        self.good.ask(MAX_QUEUED + number, ask);
    }

    pub fn message(&mut self, daemon: &Daemon) {
        let number = self.next();
        let body = json!({"to_bot": "echo", "content": format!("message {number}")});
        let sent = post(daemon, "/api/messaging/send", &body);
        let id = sent.and_then(|answer| Some(answer["message_id"].as_str()?.to_owned()));
        self.messages.extend(id);
    }

    /// A backup; with one that is over its days, and goes then.
    pub fn backup(&mut self, daemon: &Daemon) {
        let folder = daemon.home().join(".deia/backups");
        fs::write(folder.join("state-2001-01-01-00-00-00.tar.gz"), "old").unwrap();
        let made = post(daemon, "/api/disaster-recovery/backup", &json!({}));
        let id = made.and_then(|answer| Some(answer["backup_id"].as_str()?.to_owned()));
        self.backups.extend(id);
    }

    /// An external bot is registered anew, and speaks.
    pub fn external(&mut self, daemon: &Daemon) {
        let body = json!({"bot_id": "far", "type": "planner", "rotate": true});
        // From here on it may be another.
        (self.external, self.accepted) = (None, None);
        let Some(answer) = post(daemon, "/api/orchestrate/register-bot", &body) else {
            return;
        };
        let far = External::of("far", &answer);
        let request = far.sign("heartbeat", &json!({}));
        let answer = request.try_send(&daemon.admin());
        let is_accepted = answer.is_ok_and(|answer| answer.status == 200);
        self.accepted = is_accepted.then_some(request);
        self.external = Some(far);
    }

    /// The secret that was acknowledged holds, and what was accepted is not accepted again.
    #[track_caller]
    fn check_external(&self, daemon: &Daemon) {
        if let Some(far) = &self.external {
            far.post(daemon, "heartbeat", &json!({})).ok();
        }
        if let Some(request) = &self.accepted {
            let again = request.send(&daemon.admin());
            assert_eq!(again.status, 409, "{again:?}");
        }
    }

    /// A file for a pool, which counts from the moment it is there.
    pub fn file(&mut self, daemon: &Daemon) {
        let content = format!("the file number {} and no other", self.next());
        if put(daemon, "echo", &format!("{}.md", self.number), &content) {
            self.files.insert(content);
        }
    }

    /// A file for nobody.
    pub fn bad_file(&mut self, daemon: &Daemon) {
        let content = format!("for nobody, number {}", self.next());
        if put(daemon, "nobody", "always-the-same.md", &content) {
            self.none.insert(content);
        }
    }

    /// What a daemon that was killed while it wrote leaves of a line.
    pub fn tear_the_list_of_files(daemon: &Daemon) {
        use std::io::Write as _;
        let hive = daemon.home().join(".deia/hive");
        fs::create_dir_all(&hive).unwrap();
        let mut list = fs::File::options();
        let list = list
            .append(true)
            .create(true)
            .open(hive.join("ledger.jsonl"));
        list.unwrap().write_all(b"{\"act\":\"taken").unwrap();
    }

    /// Whether the last good configuration is what it may be: what runs while the file is none.
    pub fn check_last_good(&mut self, daemon: &mut Daemon) {
        // Killed before there was a first one.
        if !daemon.home().join(".deia/config/last-good.yaml").exists() {
            return;
        }
        daemon.write_config("bots: [unfinished\n");
        daemon.launch();
        daemon.await_launched();
        let answer = daemon.get("/api/config/value/tasks.max_queued").ok();
        let now = answer["value"].as_u64().unwrap();
        self.good.check(now, "the last good configuration");
        daemon.kill9();
        daemon.write_config(&self.config(now - MAX_QUEUED));
    }

    /// What must be true of a daemon that has just started.
    #[track_caller]
    pub fn check_standing(&mut self, daemon: &Daemon) {
        let limits = daemon.get("/api/scaling/status").ok();
        self.limits
            .check(limits["max_bots"].as_u64().unwrap(), "max_bots");
        let bot = daemon.get(&format!("/api/bots/{STOPPED}")).ok();
        self.held
            .check(u64::from(bot["wanted"] == "stopped"), "a bot is stopped");
        let inbox = daemon
            .get("/api/messaging/inbox?bot_id=echo&limit=1000")
            .ok();
        let mut there = BTreeSet::new();
        for message in inbox["messages"].as_array().unwrap() {
            let id = message["message_id"].as_str().unwrap().to_owned();
            assert!(there.insert(id), "twice: {message}");
        }
        let lost: Vec<_> = self.messages.difference(&there).collect();
        assert_eq!(lost, [""; 0], "messages that were acknowledged");
        for id in &self.backups {
            let path = format!("/api/disaster-recovery/verify/{id}");
            let answer = daemon.post(&path, &json!({})).ok();
            assert_eq!(answer["success"], true, "{answer}");
        }
        let list = daemon.get("/api/tokens").ok();
        let there = list["tokens"].as_array().unwrap().iter();
        let there: BTreeSet<String> = there
            .map(|token| token["id"].as_str().unwrap().to_owned())
            .collect();
        let lost: Vec<_> = self.tokens.difference(&there).collect();
        assert_eq!(lost, [""; 0], "tokens that were acknowledged");
        let back: Vec<_> = self.revoked.intersection(&there).collect();
        assert_eq!(back, [""; 0], "tokens that were revoked");
        self.check_external(daemon);
    }

    /// What must have become of everything, once there is peace; and that nothing is left over.
    #[track_caller]
    pub fn check_all(&mut self, daemon: &Daemon) {
        // Whatever a kill has left of a file goes with the next time it is written.
        self.scale(daemon);
        self.stop_and_start(daemon);
        self.reload(daemon);
        self.token(daemon);
        self.external(daemon);
        self.file(daemon);
        self.bad_file(daemon);
        self.check_standing(daemon);
        let hive = daemon.home().join(".deia/hive");
        wait_until(PATIENCE, "every file is answered", || {
            (texts(&hive.join("responses")).len() >= self.files.len()).then_some(())
        });
        wait_until(PATIENCE, "every file for nobody is set aside", || {
            (texts(&hive.join("tasks/nobody")).is_empty()).then_some(())
        });
        // A second answer would come soon.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let answers = texts(&hive.join("responses"));
        for content in &self.files {
            let count = answers
                .values()
                .filter(|text| text.contains(content.as_str()));
            assert_eq!(count.count(), 1, "answers to {content:?}: {answers:#?}");
        }
        let aside = texts(&hive.join("rejected/nobody"));
        for content in &self.none {
            let count = aside.values().filter(|text| *text == content);
            assert_eq!(count.count(), 1, "{content:?}: {aside:#?}");
        }
        let reasons = aside.keys().filter(|name| name.ends_with(".reason.txt"));
        assert_eq!(
            (reasons.count(), aside.len()),
            (self.none.len(), 2 * self.none.len()),
            "each has its reason, and there is none without: {:#?}",
            aside.keys()
        );
        nothing_left_over(daemon.home());
    }
}

/// There is no file that something was written to aside, and that nobody will look at again: what a daemon is
/// just writing is gone when it is looked for once more.
#[track_caller]
pub fn nothing_left_over(home: &Path) {
    let first = written_aside(home);
    if !first.is_empty() {
        std::thread::sleep(Duration::from_secs(1));
        let again = written_aside(home);
        let left: Vec<_> = first.iter().filter(|path| again.contains(path)).collect();
        assert!(left.is_empty(), "left over: {left:?}");
    }
}

fn written_aside(home: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![home.join(".deia")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let endings = [".tmp", "partial", ".new", ".new-journal", ".bad"];
            if endings.iter().any(|ending| name.ends_with(ending)) || name.contains("self-check") {
                found.push(path);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    found
}

/// The answer, where it is one that promises something.
fn post(daemon: &Daemon, path: &str, body: &Value) -> Option<Value> {
    let body = body.to_string();
    let headers = [("content-type", "application/json")];
    let answer = daemon
        .admin()
        .try_request("POST", path, &headers, Some(body.as_bytes()));
    let answer = answer.ok().filter(|answer| answer.status == 200)?;
    (answer.body["success"] == true).then_some(answer.body)
}

/// A file that appears whole, with an earlier one of its name replaced; false where there is no folder yet.
fn put(daemon: &Daemon, folder: &str, name: &str, content: &str) -> bool {
    let folder = daemon.home().join(".deia/hive/tasks").join(folder);
    // One that is about to be taken must not be replaced.
    if !folder.parent().is_some_and(Path::is_dir) || folder.join(name).exists() {
        return false;
    }
    fs::create_dir_all(&folder).unwrap();
    let aside = daemon.home().join("aside");
    fs::write(&aside, content).unwrap();
    fs::rename(&aside, folder.join(name)).unwrap();
    true
}

fn texts(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let visible = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        (!name.starts_with('.')).then_some((name, text))
    });
    visible.collect()
}
