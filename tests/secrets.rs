//! What is secret stays where it belongs: canaries through every door, and a search of everything that is written,
//! answered, or seen of a process.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Daemon, PATIENCE, descendants, wait_until};
use serde_json::json;

/// A text that is nowhere but where it was put, and the places it may be found in.
struct Canary {
    what: &'static str,
    text: String,
    allowed: &'static [&'static str],
}

/// Hexadecimal digits only: no rule about shapes or words helps to find it.
fn canary(n: u8, what: &'static str, allowed: &'static [&'static str]) -> Canary {
    let text = format!(
        "c0ffee{n:02x}5eed{:016x}",
        u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    Canary {
        what,
        text,
        allowed,
    }
}

/// What was found where it must not be.
#[derive(Default)]
struct Search {
    looked_at: usize,
    found: Vec<String>,
}

impl Search {
    fn look(&mut self, place: &str, bytes: &[u8], canaries: &[Canary]) {
        self.looked_at += 1;
        for canary in canaries {
            let needle = canary.text.as_bytes();
            let is_there = bytes.windows(needle.len()).any(|window| window == needle);
            if is_there
                && !canary
                    .allowed
                    .iter()
                    .any(|allowed| place.starts_with(allowed))
            {
                self.found.push(format!("{} in {place}", canary.what));
            }
        }
    }

    fn look_below(&mut self, name: &str, folder: &Path, canaries: &[Canary]) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if path.is_dir() {
                self.look_below(&name, &path, canaries);
            } else {
                self.look(&name, &fs::read(&path).unwrap_or_default(), canaries);
            }
        }
    }
}

/// A model server that says whatever key it was given, as some do.
fn babbler() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => request.extend_from_slice(&piece[..n]),
                }
            }
            let head = String::from_utf8_lossy(&request).into_owned();
            let body = json!({"error": {"message": format!("refused: {head}")}}).to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

fn secret_file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

const ENVIRONMENT: usize = 0;
const LINES: usize = 1;
const API_KEY: usize = 2;
const INHERITED: usize = 3;
const ADDRESS: usize = 4;
const USER: usize = 5;
const HEADER: usize = 6;
const QUERY: usize = 7;
const CONTENT: usize = 8;
const METADATA: usize = 9;
const STDERR: usize = 10;
const MESSAGE: usize = 11;
const COMMENT: usize = 12;
const NAMED: usize = 13;
const REFUSED: usize = 14;

/// What each is, and where it may be: a user's own texts are what the store and the API are for.
fn canaries() -> Vec<Canary> {
    const NOWHERE: &[&str] = &[];
    vec![
        canary(0, "a secret of env_files", &["environ of agent"]),
        canary(
            1,
            "a line of a secret of several lines",
            &["environ of agent"],
        ),
        canary(2, "the key of a model server", NOWHERE),
        canary(
            3,
            "a variable of the daemon's environment",
            &["environ of the daemon"],
        ),
        canary(4, "the password of an address", NOWHERE),
        canary(5, "the user of an address", NOWHERE),
        canary(6, "an Authorization header", NOWHERE),
        canary(7, "a query", NOWHERE),
        // With `input: argv` a task's text is in its command line: docs/SANDBOX.md says so.
        canary(
            8,
            "the content of a task",
            &["GET /api/tasks", "output of", "cmdline of agent"],
        ),
        canary(9, "the metadata of a task", &["GET /api/tasks"]),
        canary(
            10,
            "what a command said on standard error",
            &["GET /api/tasks", "output of", "cmdline of agent"],
        ),
        canary(
            11,
            "the content of a message",
            &[
                "GET /messages",
                "GET /api/messaging/inbox",
                "GET /api/messaging/conversation",
            ],
        ),
        canary(12, "a comment of a refused configuration", NOWHERE),
        canary(13, "a file's name that is a key", NOWHERE),
        canary(14, "refused content", NOWHERE),
    ]
}

/// Shown to fail on a build that does not black out a bot's secrets in what its commands say on standard error, and on
/// one whose log passes on what looks like a secret.
#[test]
fn canaries_through_every_door_are_found_nowhere() {
    let canaries = canaries();
    let text = |n: usize| canaries[n].text.as_str();
    let outside = tempfile::tempdir().unwrap();
    let files = outside.path();
    let lines = format!("-----BEGIN X-----\n{}\n-----END X-----\n", text(LINES));
    let fleet = |rest: &str| {
        let bots = json!([
            {"name": "agent", "type": "general", "min": 1, "max": 1, "max_concurrent_tasks": 4, "request_validation": "off",
                "env_files": {
                    "CANARY": secret_file(files, "environment", text(ENVIRONMENT)),
                    "LINES": secret_file(files, "lines", &lines)},
                "backend": {"kind": "command", "argv": ["sh", "-c"], "input": "argv", "env": ["PATH"]}},
            {"name": "sibling", "type": "general", "min": 1, "max": 1, "max_concurrent_tasks": 4,
                "backend": {"kind": "command", "argv": ["sh", "-c"], "input": "argv", "env": ["PATH"]}},
            {"name": "model", "type": "general", "min": 1, "max": 1,
                "backend": {"kind": "openai", "url": format!("http://127.0.0.1:{}/v1", babbler()), "model": "m",
                    "api_key_file": secret_file(files, "api", text(API_KEY))}},
        ]);
        format!(
            "log_level: DEBUG\nbot_limits: {{min_bots: 3, max_bots: 3}}\nhttp: {{listen: \"127.0.0.1:0\"}}\ntasks: {{max_attempts: 1}}\n\
            bots: {bots}\n{rest}"
        )
    };
    let daemon = Daemon::builder()
        .config(&fleet(""))
        .env("OPENAI_API_KEY", text(INHERITED))
        .start();
    daemon.wait_bots(3);

    // Tasks: what a user says, what a command says, what a model server says.
    let run = |pool: &str, content: &str| {
        let request =
            json!({"content": content, "pool": pool, "metadata": {"note": text(METADATA)}});
        let id = daemon.submit_with(&request);
        daemon.wait_task(&id, PATIENCE)
    };
    let said = format!(
        "echo {} >&2; echo \"$CANARY\" >&2; echo \"$LINES\" >&2; head -c 8185 /dev/zero | tr '\\0' x >&2; echo \"$CANARY\" >&2; exit 3",
        text(STDERR)
    );
    let failed = run("agent", &said);
    assert_eq!(failed["status"], "dead", "{failed}");
    assert!(
        failed["error"].as_str().unwrap().contains("[redacted]"),
        "{failed}"
    );
    run("sibling", &format!("echo {}; env", text(CONTENT)));
    let refused = run("model", text(CONTENT));
    assert!(
        refused["error"].as_str().unwrap().contains("[redacted]"),
        "{refused}"
    );
    let message = json!({"to_bot": "agent", "content": text(MESSAGE)});
    daemon.post("/api/messaging/send", &message).ok();
    let bad = json!({"content": format!("sudo {}", text(REFUSED))});
    assert_eq!(daemon.post("/api/orchestrate", &bad).status, 400);

    // Requests.
    let bearer = format!("Bearer deia_{}", text(HEADER));
    let basic = format!("Basic {}", text(HEADER));
    for (method, path) in [
        ("GET", "/status"),
        ("POST", "/api/scaling/limits"),
        ("GET", "/nothing"),
    ] {
        for value in [&bearer, &basic] {
            let headers = [("authorization", value.as_str()), ("cookie", text(HEADER))];
            daemon.tcp().request(method, path, &headers, Some(b"{}"));
        }
    }
    for path in [
        "/api/tasks?cursor=",
        "/api/tasks?limit=",
        "/status?token=",
        "/nothing?key=",
        "/api/bots/x?secret=",
    ] {
        daemon.get(&format!("{path}{}", text(QUERY)));
    }

    // Configurations that are refused, or fall back.
    let (password, user) = (text(ADDRESS), text(USER));
    for rest in [
        format!("alerts: {{webhook_url: \"http://deia:{password}@127.0.0.1:9/x\"}}\n"),
        format!("alerts: {{webhook_url: \"http://{user}@127.0.0.1:9/x\"}}\n"),
        format!("alerts: {{webhook_url: \"http://127.0.0.1:9/x?token={password}\"}}\n"),
        format!("custom: {{db_password: {password}}}\n"),
        format!("# sk-{}\n", text(COMMENT)),
        format!("api_key: \"{password}\"\nbroken: [\n"),
    ] {
        daemon.write_config(&fleet(&rest));
        let said = daemon.ctl(&["reload"]);
        let checked = daemon.ctl(&["config", "validate"]);
        for said in [format!("{said:?}"), format!("{checked:?}")] {
            assert!(
                !said.contains(password) && !said.contains(text(COMMENT)),
                "{said}"
            );
        }
        let status = daemon.get("/api/config/status");
        assert!(
            !status.text.contains(password) && !status.text.contains(user),
            "{status:?}"
        );
    }
    daemon.write_config(&fleet(""));
    daemon.ctl(&["reload"]).ok();

    // Task files: names, and what is in them.
    let folder = wait_until(PATIENCE, "the folder is made", || {
        Some(daemon.home().join(".deia/hive/tasks/agent")).filter(|folder| folder.is_dir())
    });
    fs::write(folder.join(format!("sk-{}.md", text(NAMED))), b"\xff\xfe").unwrap();
    wait_until(PATIENCE, "it is set aside", || {
        fs::read_dir(daemon.home().join(".deia/hive/rejected/agent"))
            .ok()?
            .flatten()
            .next()
    });

    // While commands of both pools run, everything is looked at.
    let running: Vec<String> = ["agent", "sibling"]
        .map(|pool| daemon.submit_with(&json!({"content": "exec sleep 60", "pool": pool})))
        .into();
    wait_until(PATIENCE, "both sleep", || {
        let sleeping = descendants(daemon.pid())
            .iter()
            .filter(|process| process.command.starts_with("sleep"))
            .count();
        (sleeping == 2).then_some(())
    });
    let mut search = Search::default();
    look_at_processes(&daemon, &mut search, &canaries);
    look_at_answers(&daemon, &mut search, &canaries);
    for id in running {
        daemon
            .post(&format!("/api/tasks/{id}/cancel"), &json!({}))
            .ok();
        daemon.wait_task(&id, PATIENCE);
    }
    daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    let deia = daemon.home().join(".deia");
    search.look_below("log", &deia.join("bot-logs"), &canaries);
    search.look_below("output of", &deia.join("bot-output"), &canaries);
    search.look_below("file of config", &deia.join("config"), &canaries);
    search.look(
        "what the daemon printed",
        daemon.said().as_bytes(),
        &canaries,
    );
    println!("looked at {} places", search.looked_at);
    assert!(search.looked_at > 50, "{}", search.looked_at);
    assert_eq!(search.found, Vec::<String>::new());
    look_for_the_fleets_key(&daemon);
}

/// Environments and command lines of the daemon, its bots, and what those started.
fn look_at_processes(daemon: &Daemon, search: &mut Search, canaries: &[Canary]) {
    let mut pids: Vec<u32> = descendants(daemon.pid())
        .iter()
        .map(|process| process.pid)
        .collect();
    pids.push(daemon.pid());
    assert!(
        pids.len() >= 6,
        "daemon, three bots, two commands: {pids:?}"
    );
    for pid in pids {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let environment = read("environ");
        let variable = |name: &str| {
            let text = String::from_utf8_lossy(&environment).into_owned();
            let mut all = text.split('\0').filter_map(|pair| pair.split_once('='));
            all.find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let whose = match (pid == daemon.pid(), variable("DEIA_BOT_ID")) {
            (true, _) => "the daemon".to_owned(),
            (false, Some(bot)) => bot,
            (false, None) => "a bot".to_owned(),
        };
        search.look(&format!("environ of {whose}"), &environment, canaries);
        search.look(&format!("cmdline of {whose}"), &read("cmdline"), canaries);
        let limits = String::from_utf8(read("limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{whose}: {core}");
    }
}

/// Every route that can be asked, from the daemon's own document, so that new ones are looked at too.
fn look_at_answers(daemon: &Daemon, search: &mut Search, canaries: &[Canary]) {
    let document = daemon.get("/openapi.json").ok();
    let tasks = daemon.get("/api/tasks?limit=100").ok();
    let task_ids: Vec<&str> = tasks["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|task| task["task_id"].as_str())
        .collect();
    let mut paths = vec!["/api/messaging/inbox?bot_id=agent".to_owned()];
    for (path, methods) in document["paths"].as_object().unwrap() {
        let streams = path == "/events" || path.ends_with("/read/{message_id}");
        if methods.get("get").is_none() || streams {
            continue;
        }
        if path.starts_with("/api/tasks/{") {
            paths.extend(task_ids.iter().map(|id| fill(path, id)));
        } else {
            paths.extend(["agent", "model"].map(|bot| fill(path, bot)));
        }
    }
    paths.dedup();
    for path in paths {
        let answer = daemon.admin().get(&path);
        let headers = format!("{:?}", answer.headers);
        search.look(
            &format!("GET {path}"),
            format!("{headers}{}", answer.text).as_bytes(),
            canaries,
        );
    }
}

/// The path with its parameter.
fn fill(path: &str, parameter: &str) -> String {
    match (path.find('{'), path.rfind('}')) {
        (Some(from), Some(to)) => format!("{}{parameter}{}", &path[..from], &path[to + 1..]),
        _ => path.to_owned(),
    }
}

/// What proves bots is in its own file, and nowhere in any form.
fn look_for_the_fleets_key(daemon: &Daemon) {
    let deia = daemon.home().join(".deia");
    let key = fs::read(deia.join("secrets/fleet.key")).unwrap();
    assert_eq!(key.len(), 32);
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed = format!("{key:?}");
    let forms = [
        key,
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        listed.into_bytes(),
    ];
    let mut files = vec![deia];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        } else if path.is_file() && !path.ends_with("secrets/fleet.key") {
            let bytes = fs::read(&path).unwrap_or_default();
            for form in &forms {
                let found = bytes
                    .windows(form.len())
                    .any(|window| window == form.as_slice());
                assert!(!found, "the fleet's key in {}", path.display());
            }
        }
    }
    let mut pids: Vec<u32> = descendants(daemon.pid())
        .iter()
        .map(|process| process.pid)
        .collect();
    pids.push(daemon.pid());
    for pid in pids {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let found = forms.iter().any(|form| {
                bytes
                    .windows(form.len())
                    .any(|window| window == form.as_slice())
            });
            assert!(!found, "the fleet's key in /proc/{pid}/{file}");
        }
    }
}
