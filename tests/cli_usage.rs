//! `deiactl` without a daemon.

mod common;

use std::io::Read;
use std::process::Stdio;

use common::{deiactl, deiactl_command};

#[test]
fn what_is_not_understood_is_usage() {
    let here = tempfile::tempdir().unwrap();
    for arguments in [
        &["frobnicate"][..],
        &["task"],
        &["task", "show"],
        &["scale", "--max", "many"],
        &["scale", "--wait", "soon"],
        &["submit"],
        &["submit", "x", "--priority", "P9"],
        &["submit", "x", "--task-id", "../x"],
        &["submit", "x", "--metadata", "[1]"],
        &["submit", "x", "--not-before", "tomorrow"],
        &["--home", "/a", "--socket", "/b", "status"],
        &["bot", "logs", "../../etc/passwd"],
    ] {
        let done = deiactl(here.path(), arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {done:?}");
        assert!(!done.stderr.is_empty(), "{arguments:?}");
        assert!(done.stdout.is_empty(), "{arguments:?}: {done:?}");
    }
}

#[test]
fn without_a_daemon_every_verb_that_needs_one_exits_with_3_and_names_the_socket() {
    let here = tempfile::tempdir().unwrap();
    let socket = here.path().join("no.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["submit", "x"],
        &["submit", "x", "--wait"],
        &["submit", "x", "--follow"],
        &["task", "list"],
        &["task", "output", "x", "--follow"],
        &["bots"],
        &["bot", "stop", "x"],
        &["scale"],
        &["drain", "--wait"],
        &["resume"],
        &["reload"],
        &["config", "show"],
        &["bench"],
    ] {
        let done = deiactl(here.path(), &[&["--socket", socket], arguments].concat());
        assert_eq!(done.code, 3, "{arguments:?}: {done:?}");
        assert!(done.stderr.contains(socket), "{arguments:?}: {done:?}");
        assert!(done.stderr.contains("start"), "{arguments:?}: {done:?}");
    }
}

#[test]
fn with_json_a_failure_is_a_document_too() {
    let here = tempfile::tempdir().unwrap();
    let done = deiactl(here.path(), &["--home", "/nowhere", "status", "--json"]);
    assert_eq!(done.code, 3);
    assert_eq!(done.json()["code"], "unreachable");
    assert_eq!(done.json()["success"], false);
}

#[test]
fn a_socket_nobody_listens_on_is_told_from_one_that_is_missing() {
    let here = tempfile::tempdir().unwrap();
    let socket = here.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let done = deiactl(
        here.path(),
        &["--socket", socket.to_str().unwrap(), "status"],
    );
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains("nobody listens"), "{done:?}");
}

#[test]
fn verbs_that_are_not_built_yet_say_so_whatever_follows() {
    let here = tempfile::tempdir().unwrap();
    for verb in ["preflight", "checklist", "top"] {
        let done = deiactl(here.path(), &[verb, "list", "--flag", "-x"]);
        assert_eq!(done.code, 1, "{done:?}");
        let said = format!("not implemented yet: {verb} (planned)");
        assert!(done.stderr.contains(&said), "{done:?}");
    }
}

#[test]
fn help_and_version_are_results_not_errors() {
    let here = tempfile::tempdir().unwrap();
    let help = deiactl(here.path(), &["--help"]).ok();
    assert!(help.stdout.contains("Exit codes"), "{help:?}");
    let version = deiactl(here.path(), &["--version"]).ok();
    assert_eq!(version.stdout, format!("deiactl {}\n", deia::VERSION));
}

#[test]
fn completions_name_the_verbs() {
    let here = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let done = deiactl(here.path(), &["completions", shell]).ok();
        assert!(done.stdout.contains("drain"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let here = tempfile::tempdir().unwrap();
    let mut child = deiactl_command(here.path())
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Gone before anything is written.
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn logs_are_read_without_a_daemon() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join(".deia/bot-logs");
    std::fs::create_dir_all(&directory).unwrap();
    let line = |second: u32, event: &str, bot: &str| {
        format!(
            "{{\"timestamp\":\"2026-11-23T00:00:0{second}.000000Z\",\"level\":\"info\",\
             \"event\":\"{event}\",\"message\":\"m\",\"bot\":\"{bot}\"}}\n"
        )
    };
    let both = line(2, "bot_ready", "coder");
    let supervisor = format!("{}{both}", line(1, "config_loaded", "-"));
    std::fs::write(directory.join("supervisor.jsonl"), supervisor).unwrap();
    let activity = format!("{both}{}", line(3, "task_started", "coder"));
    std::fs::write(directory.join("coder-activity.jsonl"), activity).unwrap();
    let named = home.path().to_str().unwrap();

    let all = deiactl(home.path(), &["--home", named, "logs"]).ok();
    let events: Vec<&str> = all
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    assert_eq!(events, ["config_loaded", "bot_ready", "task_started"]);

    let one = deiactl(
        home.path(),
        &["--home", named, "logs", "--bot", "coder", "--json"],
    )
    .ok();
    assert_eq!(one.stdout.lines().count(), 2, "{one:?}");
    let last = deiactl(home.path(), &["--home", named, "logs", "-n", "1"]).ok();
    assert!(last.stdout.contains("task_started"), "{last:?}");
    assert_eq!(last.stdout.lines().count(), 1);

    let nowhere = deiactl(home.path(), &["--home", "/nowhere", "logs"]);
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.stderr.contains("/nowhere/.deia/bot-logs"),
        "{nowhere:?}"
    );
}
