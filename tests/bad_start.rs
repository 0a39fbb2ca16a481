//! Starts that can't go well: each says what is wrong and what to do, and harms nothing.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use common::{Daemon, PATIENCE, deiactl, wait_until};
use deia::home::LOCK_IN_HOME;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

/// How soon a start that is in vain has ended.
const IN_TIME: Duration = Duration::from_secs(10);

const FILE: &str = "version: \"1.2\"\n\
    bot_limits: {min_bots: 1, max_bots: 3}\n\
    http: {listen: \"127.0.0.1:0\"}\n\
    tasks:\n\
    \x20 max_attempts: 4\n\
    \x20 retry_backoff_seconds: [0.5, 2]\n\
    bots:\n\
    \x20 - name: writer\n\
    \x20   type: writer\n\
    \x20   specializations: [prose, \"long texts\"]\n\
    \x20   backend: {kind: echo, delay_ms: 5}\n\
    \x20 - name: coder\n\
    \x20   type: developer\n\
    \x20   max: 2\n\
    \x20   backend: {kind: command, argv: [sh, -c, 'cat > out; echo \"done\"'], input: stdin}\n\
    supervision: {restart_intensity: {max: 5, seconds: 60}, stop_timeout_seconds: 5}\n\
    custom:\n\
    \x20 note: |\n\
    \x20   two lines,\n\
    \x20   the second\n\
    \x20 list: [1, 2.5, null, true]\n";

/// A store that can't be used ends the start.
const NO_RECOVERY: &str = "disaster_recovery: {enabled: false}\n";

/// Runs `deia` to its end, which must come by itself.
fn start(arguments: &[&str]) -> (ExitStatus, String) {
    let mut child =
        Command::new(PathBuf::from(env!("CARGO_BIN_EXE_deiactl")).with_file_name("deia"))
            .args(arguments)
            .env_remove("DEIA_HOME")
            .env_remove("RUNTIME_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let deadline = std::time::Instant::now() + IN_TIME;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if std::time::Instant::now() > deadline => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{arguments:?} still runs");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (status, said)
}

#[track_caller]
fn refused(home: &Path, words: &[&str]) {
    let home = home.to_str().unwrap();
    let (status, said) = start(&["--home", home, "--port", "0"]);
    assert_eq!(status.code(), Some(1), "{status}: {said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// A daemon that is killed has the lock until the kernel has taken it apart: a start at that moment waits, and does not
/// refuse. Shown to fail on a start that waits only for a holder that is gone.
#[test]
fn a_lock_whose_holder_is_about_to_go_is_waited_for() {
    let mut daemon = Daemon::builder().start();
    assert!(daemon.terminate().success());
    let path = daemon.home().join(LOCK_IN_HOME);
    fs::write(&path, format!("pid {}", std::process::id())).unwrap();
    let lock = fs::File::options().write(true).open(&path).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    daemon.launch();
    std::thread::sleep(Duration::from_millis(300));
    drop(lock);
    daemon.await_launched();
}

#[test]
fn a_second_daemon_on_a_home_names_the_first_and_does_it_no_harm() {
    let mut daemon = Daemon::builder().start();
    let bots = daemon.wait_bots(1);
    let first = format!("pid {}", daemon.pid());
    for _ in 0..3 {
        refused(daemon.home(), &[&first, "already runs", "--home"]);
    }
    assert_eq!(daemon.wait_bots(1)[0]["pid"], bots[0]["pid"]);
    let id = daemon.submit("unharmed");
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    daemon.tcp().get("/health").ok();
    // One that was killed does not keep its home.
    daemon.kill9();
    daemon.restart();
    daemon.get("/health").ok();
}

#[test]
fn a_home_that_is_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    refused(&missing, &["missing", "--home"]);
    assert!(!missing.exists(), "a typo must not make a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file, &["file", "no directory"]);
    // Also in the place of what the daemon makes itself.
    let home = directory.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join(".deia"), "").unwrap();
    refused(&home, &[".deia"]);
    fs::remove_file(home.join(".deia")).unwrap();
    fs::create_dir_all(home.join(".deia/state/deia.db")).unwrap();
    fs::write(home.join("bot-config.yaml"), NO_RECOVERY).unwrap();
    refused(&home, &["deia.db"]);
}

/// Root writes everywhere but where nothing can be written.
#[test]
fn a_home_that_can_not_be_written_is_named() {
    refused(Path::new("/proc/self"), &["/.deia"]);
}

#[test]
fn a_store_that_is_none_is_never_overwritten() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join(".deia/state")).unwrap();
    let store = home.path().join(".deia/state/deia.db");
    let text = "this is somebody's text, not a database\n".repeat(200);
    fs::write(&store, &text).unwrap();
    // With recovery mode, see `tests/restore.rs`.
    fs::write(home.path().join("bot-config.yaml"), NO_RECOVERY).unwrap();
    refused(home.path(), &["deia.db"]);
    assert_eq!(fs::read_to_string(&store).unwrap(), text);
}

#[test]
fn a_home_too_long_for_a_socket_is_named_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("x".repeat(100));
    fs::create_dir(&home).unwrap();
    refused(&home, &["107", "shorter --home"]);
    assert!(!home.join(".deia").exists(), "it has left something");
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = tempfile::tempdir().unwrap();
    let (status, said) = start(&["--home", home.path().to_str().unwrap(), "--port", &port]);
    assert_eq!(status.code(), Some(1), "{said}");
    for word in [&*port, "http.listen", "--listen"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_the_command_line_does_not_say_is_usage() {
    for arguments in [
        &["--nonsense"][..],
        &["--port", "99999999"],
        &["--listen", "here"],
        &["demo", "what"],
        &["fly"],
    ] {
        let (status, said) = start(arguments);
        assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
    }
}

#[test]
fn a_missing_file_means_the_defaults_and_is_said() {
    let daemon = Daemon::builder()
        .arg("--config")
        .arg("/nowhere/at/all.yaml")
        .arg("--listen")
        .arg("127.0.0.1:0")
        .start();
    let status = daemon.get("/api/config/status").ok();
    assert_eq!(status["config_file"], json!(null), "{status}");
    let value = daemon.get("/api/config/value/tasks.max_attempts").ok();
    assert_eq!(value["value"], 3, "{value}");
    assert_eq!(daemon.bots()[0]["id"], "main-bot");
    let said = wait_until(PATIENCE, "the log says so", || {
        let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
        log.contains("/nowhere/at/all.yaml").then_some(log)
    });
    assert!(said.contains("Config loaded"), "{said}");
}

#[test]
fn a_name_that_is_no_setting_is_said_with_the_one_that_was_meant() {
    let daemon = Daemon::builder()
        .config("bot_limits: {max_bot: 7}\ntaks: {max_attempts: 2}\n")
        .start();
    let said = wait_until(PATIENCE, "the log says so", || {
        let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
        (log.contains("max_bot") && log.contains("taks")).then_some(log)
    });
    let warnings: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("config_warning"))
        .collect();
    let about = |name: &str, meant: &str| {
        warnings
            .iter()
            .any(|line| line.contains(name) && line.contains(meant))
    };
    assert!(
        about("max_bot", "max_bots") && about("taks", "tasks"),
        "{warnings:?}"
    );
    assert_eq!(
        daemon.get("/health").ok()["status"],
        "ok",
        "odd is not broken"
    );
}

#[test]
fn a_refused_file_without_a_last_good_one_is_78() {
    let secret = format!("sk-ant-{}", "api03-a1B2c3D4".repeat(5));
    let looks_secret = format!("custom: {{note: {secret}}}\n");
    for text in [
        "bots: [",
        "bot_limits: {min_bots: 5, max_bots: 2}\n",
        "\u{0}",
        &looks_secret,
    ] {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("bot-config.yaml"), text).unwrap();
        let (status, said) = start(&["--home", home.path().to_str().unwrap()]);
        assert_eq!(status.code(), Some(78), "{text}: {said}");
        assert!(
            said.contains("bot-config.yaml") && said.contains("deiactl config validate"),
            "{said}"
        );
        assert!(!said.contains(&secret), "{said}");
    }
}

#[test]
fn a_refused_file_with_a_last_good_one_starts_with_that_and_says_so() {
    let mut daemon = Daemon::builder()
        .config("tasks: {max_attempts: 5}\n")
        .start();
    let good = daemon.read("bot-config.yaml");
    // It is kept once it is in force.
    wait_until(PATIENCE, "a reload is answered", || {
        (daemon.post("/api/config/reload", &json!({})).status == 200).then_some(())
    });
    assert!(daemon.terminate().success());
    daemon.write_config("bots: [");
    daemon.restart();
    let health = daemon.get("/health").ok();
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(
        health["reasons"].to_string().contains("bot-config.yaml"),
        "{health}"
    );
    assert_eq!(
        daemon.get("/api/config/value/tasks.max_attempts").ok()["value"],
        5
    );
    let id = daemon.submit("works");
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    daemon.write_config(&good);
    daemon.ctl(&["reload"]).ok();
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
}

/// A file that was cut while it was written is either valid in itself or refused whole, and nothing
/// in between ever makes the reader fail.
#[test]
fn a_file_cut_at_any_byte_is_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cut.yaml");
    assert!(FILE.len() > 500, "{}", FILE.len());
    for at in 0..=FILE.len() {
        fs::write(&file, &FILE.as_bytes()[..at]).unwrap();
        match deia::config::load(&file, None) {
            Ok(_) => read += 1,
            Err(why) => {
                assert!(!format!("{why}").is_empty());
                refused += 1;
            }
        }
    }
    assert!(
        read > 10 && refused > 10,
        "{read} were read, {refused} refused"
    );
    // The command comes to the same end.
    for at in [0, 30, 150, 300, 450] {
        fs::write(&file, &FILE.as_bytes()[..at]).unwrap();
        let checked = deiactl(
            directory.path(),
            &["config", "validate", file.to_str().unwrap()],
        );
        assert!(checked.code <= 1, "cut at {at}: {checked:?}");
    }
}

#[test]
fn a_file_cut_under_a_running_daemon_restarts_nothing() {
    let mut daemon = Daemon::builder().config(FILE).start();
    let before = daemon.bot_pids();
    let mut refused = 0;
    for step in 1..12 {
        let at = FILE.len() * step / 12;
        daemon.write_config(&FILE[..at]);
        let generation = daemon.get("/status").ok()["generation"].clone();
        let answer = daemon.ctl(&["reload", "--json"]);
        if answer.code == 0 {
            continue;
        }
        refused += 1;
        let status = daemon.get("/status").ok();
        assert_eq!(status["generation"], generation, "cut at {at}: {status}");
        assert_eq!(
            daemon.get("/health").ok()["status"],
            "degraded",
            "cut at {at}"
        );
    }
    assert!(refused >= 2, "only {refused} were refused");
    daemon.write_config(FILE);
    daemon.ctl(&["reload"]).ok();
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
    daemon.wait_bots(1);
    assert!(!before.is_empty());
    assert!(daemon.terminate().success());
}
