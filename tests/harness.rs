//! The harness itself: what it takes for granted when it says that nothing was left behind.

mod common;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::{PATIENCE, Process, descendants, processes_of, wait_until};
use nix::sys::signal::Signal;

#[test]
fn every_process_of_a_home_is_found_whoever_its_parent_is() {
    let home = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    // One by its directory, one by its output, one by its environment, none by its parent alone.
    let script = "sleep 60 & (cd /; setsid sleep 61 >/dev/null 2>&1 &) ; cd /; exec sleep 62";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .current_dir(home.path())
        .env("SOME_DIRECTORY", home.path().join("x"))
        .stdin(Stdio::null())
        .stdout(log)
        .process_group(0)
        .spawn()
        .unwrap();
    let found = wait_until(PATIENCE, "three processes", || {
        let mut found = processes_of(home.path());
        found.retain(|process| process.command.starts_with("sleep"));
        (found.len() == 3).then_some(found)
    });
    let below = descendants(child.id());
    assert!(below.iter().any(|p| p.command.contains("60")), "{below:?}");

    for process in &found {
        process.signal(Signal::SIGKILL);
    }
    child.wait().unwrap();
    wait_until(PATIENCE, "none is left", || {
        processes_of(home.path()).is_empty().then_some(())
    });
}

#[test]
fn a_pid_alone_is_not_a_process() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let real = Process::of(child.id()).unwrap();
    let other = Process {
        started: real.started + 1,
        ..real.clone()
    };
    assert!(real.is_alive() && !other.is_alive());
    other.signal(Signal::SIGKILL);
    assert_eq!(child.try_wait().unwrap(), None);
    real.signal(Signal::SIGKILL);
    child.wait().unwrap();
    assert!(!real.is_alive());
}
