//! What `deiactl bots`, `bot show` and `doctor` say of a fleet in trouble, and of one that is well.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use common::{Daemon, PATIENCE, Process, deiactl, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const CONFIG: &str = "bots: [{name: main, min: 1, max: 1, backend: {kind: echo}}]\n\
    supervision: {restart_intensity: {max: 2, seconds: 60}, backoff_seconds: [0.05, 0.1]}\n";

fn doctor(daemon: &Daemon) -> (i32, Value) {
    let said = daemon.ctl(&["--json", "doctor"]);
    (said.code, said.json())
}

fn wrong(page: &Value) -> Vec<&str> {
    let findings = page["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|finding| finding["severity"] == "wrong");
    wrong.map(|f| f["what"].as_str().unwrap()).collect()
}

fn kill_the_bot(daemon: &Daemon) {
    let process = wait_until(PATIENCE, "the bot runs", || {
        let bot = daemon.get("/api/bots/main").ok();
        let pid = u32::try_from(bot["pid"].as_u64()?).unwrap();
        (bot["actual"] == "ready").then(|| Process::of(pid))?
    });
    process.signal(Signal::SIGSEGV);
    wait_until(PATIENCE, "it has ended", || {
        let bot = daemon.get("/api/bots/main").ok();
        (bot["pid"] != process.pid).then_some(())
    });
}

#[test]
fn a_crash_loop_is_told_from_its_first_end_to_its_mending() {
    let daemon = Daemon::builder().config(CONFIG).start();
    daemon.wait_bots(1);
    let (code, page) = doctor(&daemon);
    assert_eq!((code, &page["healthy"]), (0, &Value::Bool(true)), "{page}");

    kill_the_bot(&daemon);
    daemon.wait_bots(1);
    let (code, page) = doctor(&daemon);
    assert_eq!(code, 0, "one end is no reason to call anybody: {page}");
    assert!(page.to_string().contains("ended by SIGSEGV"), "{page}");

    kill_the_bot(&daemon);
    kill_the_bot(&daemon);
    let shown = wait_until(PATIENCE, "it is in quarantine", || {
        let shown = daemon.ctl(&["bot", "show", "main"]).ok().stdout;
        shown.contains("quarantined").then_some(shown)
    });
    for part in [
        "wanted: running",
        "ended more than 2 times within 1m 00s",
        "SIGSEGV",
        "next start",
        "every 5m 00s",
        "`deiactl bot restart main`",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let ends = shown.lines().filter(|line| line.contains("was ended by"));
    assert!(ends.count() >= 3, "each end has a line: {shown}");
    assert!(
        daemon
            .ctl(&["bots"])
            .ok()
            .stdout
            .contains("is in quarantine")
    );
    daemon.submit("who does this?");
    let (code, page) = doctor(&daemon);
    assert_eq!(code, 1, "{page}");
    let wrong = wrong(&page);
    assert_eq!(wrong.len(), 2, "{page}");
    assert!(wrong[0].starts_with("bot main (quarantined)"), "{wrong:?}");
    assert!(wrong[1].contains("no bot is ready"), "{wrong:?}");

    daemon.ctl(&["bot", "restart", "main"]).ok();
    wait_until(PATIENCE, "nothing is wrong", || {
        (doctor(&daemon).0 == 0).then_some(())
    });
}

#[test]
fn what_an_operator_did_is_said_and_is_no_fault() {
    let daemon = Daemon::builder().config(CONFIG).start();
    daemon.wait_bots(1);
    daemon.ctl(&["bot", "stop", "main"]).ok();
    daemon.ctl(&["scale", "--max", "0", "--wait", "30"]).ok();
    let page = daemon.ctl(&["doctor"]).ok().stdout;
    assert!(page.contains("nothing is wrong"), "{page}");
    assert!(page.contains("`deiactl resume`"), "{page}");
    let confined = page
        .lines()
        .find(|line| line.starts_with("bots are confined by: "));
    assert!(confined.unwrap().contains("cgroup"), "{page}");
}

#[test]
fn without_a_daemon_it_says_what_can_be_seen_from_outside() {
    let mut daemon = Daemon::builder().config(CONFIG).start();
    daemon.terminate();
    let said = daemon.ctl(&["doctor"]);
    assert_eq!(said.code, 3, "{said:?}");
    let way = format!("deia run --home {}", daemon.home().display());
    assert!(said.stdout.contains(&way), "{said:?}");
    let page = daemon.ctl(&["--json", "doctor"]).json();
    assert_eq!(page["healthy"], false, "{page}");

    let empty = tempfile::tempdir().unwrap();
    let nowhere = empty.path().to_str().unwrap();
    let said = deiactl(empty.path(), &["--home", nowhere, "doctor"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.stdout.contains("is no daemon's home"), "{said:?}");
}
