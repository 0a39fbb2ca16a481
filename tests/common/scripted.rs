//! A stand-in that answers what it was told, for what a real daemon shows rarely: errors, odd
//! answers, streams that break off. Only `deiactl` is under test with it.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Output, deiactl};

/// A home with an `admin.sock` that answers by route.
pub struct Scripted {
    home: TempDir,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, VecDeque<(String, String)>>,
    requests: Vec<(String, String)>,
}

impl Scripted {
    /// One that answers `/status` only.
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let run = home.path().join(".deia/run");
        std::fs::create_dir_all(&run).expect("a run directory");
        let listener = UnixListener::bind(run.join("admin.sock")).expect("a socket");
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = script.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        let scripted = Self { home, script };
        scripted.answer("GET /status", 200, &status());
        scripted
    }

    /// The next answer to this route (`GET /status`); the last one given stays.
    pub fn answer(&self, route: &str, status: u16, body: &Value) {
        let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-type: application/json");
        self.raw(route, &head, &body.to_string());
    }

    /// The next answer to this route, with a head of its own (without the length).
    pub fn raw(&self, route: &str, head: &str, body: &str) {
        let mut script = self.script.lock().unwrap();
        let answers = script.answers.entry(route.to_owned()).or_default();
        answers.push_back((head.to_owned(), body.to_owned()));
    }

    /// What was asked: route and body, in order.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.script.lock().unwrap().requests.clone()
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs `deiactl` against it.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        deiactl(self.home.path(), arguments)
    }
}

/// An answer to `GET /status`.
pub fn status() -> Value {
    json!({
        "bot_id": "main-bot", "status": "idle", "current_task": null, "port": 8001, "pid": 4242,
        "timestamp": "2026-11-23T23:29:14.000001Z", "version": "9.9.9", "generation": 3,
        "uptime_seconds": 185.0,
        "config": {"file": "/etc/x.yaml", "generation": 3, "load_errors": ["line 3: a: bad"]},
        "bots": [], "home": "/srv/\u{1b}[31mfleet", "unheard_of": 7,
        "queue": {"scheduled": 0, "queued": 1, "running": 2, "succeeded": 3, "dead": 4,
                  "cancelled": 5, "expired": 6},
    })
}

/// Answers requests on one connection until it is closed.
fn serve(stream: UnixStream, script: &Mutex<Script>) {
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    while let Some((route, body)) = read_request(&mut reader) {
        let answer = {
            let mut script = script.lock().unwrap();
            let answer = match script.answers.get_mut(&route) {
                Some(answers) if answers.len() > 1 => answers.pop_front(),
                Some(answers) => answers.front().cloned(),
                None => None,
            };
            script.requests.push((route, body));
            answer
        };
        let (head, body) = answer.unwrap_or_else(|| {
            let body = json!({"success": false, "error": "not scripted", "code": "not_found",
                              "detail": "not scripted"});
            ("HTTP/1.1 404 Not Found".into(), body.to_string())
        });
        let length = body.len();
        let answer = format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}");
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<(String, String)> {
    let mut line = String::new();
    let mut route = None;
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let text = line.trim_end();
        match (&route, text.split_once(':')) {
            (None, _) => route = Some(text.rsplit_once(' ')?.0.to_owned()),
            (_, Some((name, value))) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            _ if text.is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((route?, String::from_utf8(body).ok()?))
}
