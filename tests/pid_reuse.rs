//! Pids that are used again: who has the pid of a bot that is gone, or of something a bot started, is
//! left alone. In a PID namespace of its own, where the kernel can be told which pid comes next
//! (`ns_last_pid`, pid_namespaces(7)).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Daemon, PATIENCE, Process, descendants, size, skipped, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;

/// Set in the namespace.
const INSIDE: &str = "DEIA_TEST_IN_PID_NAMESPACE";

const CONFIG: &str = "bots: [{name: sh, min: 1, max: 1, \
        backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
    feature_flags: {request_validation_enabled: false}\n\
    supervision: {heartbeat_seconds: 0.3, stop_timeout_seconds: 1, backoff_seconds: [0.01, 0.1], \
        restart_intensity: {max: 1000, seconds: 60}}\n";

/// Runs this test once more, inside.
fn enter(test: &str) {
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    let namespace = |more: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(more);
        command
    };
    let works = |more: &&&[&str]| {
        let mut probe = namespace(more);
        probe.args(["sh", "-c", "echo 300 >/proc/sys/kernel/ns_last_pid"]);
        probe.output().is_ok_and(|probe| probe.status.success())
    };
    let Some(way) = ways.iter().find(works) else {
        return skipped(test, "no PID namespace can be made here (unshare, as root)");
    };
    let own = std::env::current_exe().unwrap();
    let output = namespace(way)
        // The first process of a namespace has to reap what is left to it: a shell does.
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Somebody else's process, with a pid of our choice. It ends by any signal.
struct Foreign(Child);

impl Foreign {
    #[track_caller]
    fn with_pid(pid: u32) -> Self {
        let taken = || std::path::Path::new(&format!("/proc/{pid}")).exists();
        wait_until(PATIENCE, &format!("{pid} is free"), || {
            (!taken()).then_some(())
        });
        wait_until(PATIENCE, &format!("{pid} is taken"), || {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let mut command = Command::new("sleep");
            command.arg("1000").current_dir("/").stdout(Stdio::null());
            let mut child = Self(command.env_clear().spawn().unwrap());
            if child.0.id() == pid {
                return Some(child);
            }
            // Another thread's child came between.
            child.end();
            assert!(!taken(), "somebody else has {pid}");
            None
        })
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    #[track_caller]
    fn must_be_alone(mut self, story: &str) {
        let ended = self.0.try_wait().unwrap();
        assert_eq!(ended, None, "{story}: it was sent a signal");
        self.end();
    }
}

#[track_caller]
fn bot(daemon: &Daemon) -> Process {
    let pid = daemon.wait_bots(1)[0]["pid"].as_u64().unwrap();
    Process::of(u32::try_from(pid).unwrap()).expect("it runs")
}

/// Waits until another process is the bot: whatever was to be signalled has been.
fn wait_replaced(daemon: &Daemon, before: &Process) {
    wait_until(PATIENCE, "another bot runs", || {
        let bot = &daemon.bots()[0];
        let other = bot["pid"].is_u64() && bot["pid"] != before.pid;
        (other && bot["actual"] == "ready").then_some(())
    });
}

/// Shown to fail on a daemon that kills a silent bot by its pid.
#[test]
fn whoever_has_the_pid_of_what_is_gone_is_left_alone() {
    if std::env::var_os(INSIDE).is_none() {
        return enter("whoever_has_the_pid_of_what_is_gone_is_left_alone");
    }
    let mut daemon = Daemon::builder().config(CONFIG).start();
    for _ in 0..size(3, 100) {
        gone_while_there_was_no_daemon(&mut daemon);
        gone_while_the_daemon_was_held(&mut daemon);
        gone_from_a_running_task(&daemon);
    }
}

/// The next daemon finds its pid taken.
fn gone_while_there_was_no_daemon(daemon: &mut Daemon) {
    let old = bot(daemon);
    daemon.kill9();
    old.signal(Signal::SIGKILL);
    let foreign = Foreign::with_pid(old.pid);
    daemon.restart();
    wait_replaced(daemon, &old);
    foreign.must_be_alone("no daemon");
}

/// A bot that was taken over is reaped by somebody else, who frees its pid at once: the daemon wakes up,
/// and has not heard of it for so long that it would be killed.
fn gone_while_the_daemon_was_held(daemon: &mut Daemon) {
    daemon.kill9();
    daemon.restart();
    let old = bot(daemon);
    assert_ne!(old.parent, daemon.pid(), "it was taken over");
    daemon.signal(Signal::SIGSTOP);
    old.signal(Signal::SIGKILL);
    let foreign = Foreign::with_pid(old.pid);
    // Longer than a silent bot is waited for.
    std::thread::sleep(Duration::from_millis(1_200));
    daemon.signal(Signal::SIGCONT);
    wait_replaced(daemon, &old);
    foreign.must_be_alone("the daemon was held");
}

/// The bot is held; what it had started ends, and its pid is somebody else's when the bot ends it all.
fn gone_from_a_running_task(daemon: &Daemon) {
    let own = bot(daemon);
    let id = daemon.submit("(setsid sleep 611 &); while :; do sleep 0.05; done");
    let child = wait_until(PATIENCE, "its task runs", || {
        let mut tree = descendants(own.pid);
        tree.retain(|process| process.command.starts_with("sleep 611"));
        tree.pop()
    });
    // Its parent is the bot, which reaps it: it has to do that before it is held.
    child.signal(Signal::SIGKILL);
    let foreign = Foreign::with_pid(child.pid);
    daemon.post(&format!("/api/tasks/{id}/cancel"), &json!({}));
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "cancelled", "{task}");
    foreign.must_be_alone("a running task");
    wait_until(PATIENCE, "its tree has ended", || {
        descendants(own.pid).is_empty().then_some(())
    });
}
