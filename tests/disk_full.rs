//! The disk of the home is full while tasks are submitted and done: nothing acknowledged is lost, operators are
//! answered, and with room on the disk all is well again without anybody's help.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Daemon, Load, PATIENCE, POOLS, check_runs, print_spread, size, skipped, wait_until};
use serde_json::json;
use tempfile::TempDir;

/// How soon an operator is answered.
const ANSWERED: Duration = Duration::from_secs(1);
/// How soon all must be well, once there is room.
const HEALED: Duration = Duration::from_secs(5);

/// A small disk, in memory.
struct Disk(TempDir);

impl Disk {
    fn new() -> Result<Self, String> {
        let at = tempfile::Builder::new().prefix("deia-").tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "deia-test"])
            .arg(at.path())
            .output();
        match mounted {
            Ok(done) if done.status.success() => Ok(Self(at)),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all the room there is, also what somebody else has let go meanwhile.
    fn fill(&self) {
        let mut ballast = File::options()
            .append(true)
            .create(true)
            .open(self.ballast())
            .unwrap();
        for bytes in [1 << 20, 4096, 1] {
            let block = vec![0; bytes];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left somebody in it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

fn start(disk: &Path) -> Daemon {
    let daemon = Daemon::builder()
        .config(&format!(
            "{POOLS}supervision: {{stop_timeout_seconds: 2, poison_after: 1000, \
                restart_intensity: {{max: 1000, seconds: 60}}}}\n\
             tasks: {{max_attempts: 1000}}\n"
        ))
        .below(disk)
        .start();
    daemon.wait_bots(4);
    daemon
}

/// Shown to fail on a daemon that reports before the commit (acknowledged tasks are not there), and on one that
/// forgets ends that the disk did not take (tasks run for ever).
#[test]
fn with_a_full_disk_operators_are_answered_and_with_room_all_is_well_again() {
    let test = "with_a_full_disk_operators_are_answered_and_with_room_all_is_well_again";
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(why) => return skipped(test, &format!("no file system can be mounted: {why}")),
    };
    let daemon = start(disk.0.path());
    let seconds = size(5, 60);
    let load = Load::may_refuse(1);
    let admin = daemon.admin();
    let (mut status_took, mut refused, mut why) = (Vec::new(), 0, String::new());
    let healed = load.during(&admin, 4, || {
        std::thread::sleep(Duration::from_millis(500));
        let before = load.accepted();
        assert!(before > 0, "no load");
        disk.fill();
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(seconds) {
            disk.fill();
            let begun = Instant::now();
            let status = daemon.ctl(&["--json", "status"]);
            status_took.push(begun.elapsed());
            assert_eq!(status.ok().json()["pid"], daemon.pid());
            let body = json!({"content": "is there room?"});
            let answer = daemon.post("/api/orchestrate", &body);
            if answer.status == 503 {
                refused += 1;
                why = answer.text;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let accepted_when_full = load.accepted() - before;
        println!("acknowledged while it was being filled, or was full: {accepted_when_full}");
        disk.make_room();
        let since = Instant::now();
        let accepted = load.accepted();
        wait_until(HEALED, "tasks are taken again", || {
            (load.accepted() > accepted + 20).then_some(())
        });
        let id = daemon.submit("and done again");
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
        let healed = since.elapsed();
        std::thread::sleep(Duration::from_millis(300));
        healed
    });
    let slowest = status_took.iter().max().copied().unwrap();
    print_spread("`deiactl status` with a full disk", status_took);
    println!("{refused} submissions refused, the last with {why}");
    println!("well again after {healed:?}");
    assert!(refused > 0, "the disk was never full");
    assert!(why.contains("full"), "{why}");
    assert!(slowest < ANSWERED, "{slowest:?}");
    assert!(healed < HEALED, "{healed:?}");
    let sum = load.check(&daemon);
    check_runs(&daemon, true, 1);
    // What was finished while the disk was full has been noted since.
    assert_eq!(sum.lost, 0, "attempts were lost");
    println!("{} tasks acknowledged, 0 lost", sum.tasks);
}

#[test]
fn with_a_full_disk_a_stop_is_a_stop_and_the_next_start_has_everything() {
    let test = "with_a_full_disk_a_stop_is_a_stop_and_the_next_start_has_everything";
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(why) => return skipped(test, &format!("no file system can be mounted: {why}")),
    };
    let mut daemon = start(disk.0.path());
    let load = Load::may_refuse(2);
    let admin = daemon.admin();
    let took = load.during(&admin, 4, || {
        std::thread::sleep(Duration::from_millis(500));
        disk.fill();
        std::thread::sleep(Duration::from_secs(1));
        disk.fill();
        let begun = Instant::now();
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        // It says at once that it is stopping, and takes its time for what runs.
        wait_until(ANSWERED, "it is stopping", || {
            let answer = admin.try_request("GET", "/status", &[], None);
            match answer {
                Ok(answer) => (answer.text.contains("stopping")).then_some(()),
                Err(_) => Some(()),
            }
        });
        let answered = begun.elapsed();
        let status = daemon.wait_exit();
        let took = begun.elapsed();
        println!("stopping after {answered:?}, stopped after {took:?}: {status}");
        assert!(status.code().is_some(), "{status}");
        // Also a start with a full disk: it may refuse, but it breaks nothing.
        disk.make_room();
        daemon.restart();
        std::thread::sleep(Duration::from_millis(300));
        load.wait_for_some();
        took
    });
    let sum = load.check(&daemon);
    check_runs(&daemon, false, 2);
    println!(
        "stopped within {took:?}; {} tasks acknowledged, 0 lost; {} attempts lost",
        sum.tasks, sum.lost
    );
}
