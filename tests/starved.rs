//! A host that has nothing to give: no descriptors, no processes. The daemon goes on, does not spin, and is
//! well again at once.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, Process, SetOnDrop, processes_of, size, skipped, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;

/// How soon all must be well, once there is something to give.
const RECOVERY: Duration = Duration::from_secs(5);

/// CPU time of this process and its threads so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    // utime and stime (proc_pid_stat(5)), in hundredths of a second wherever Linux runs.
    (ticks(11) + ticks(12)) / 100.0
}

/// Whether the daemon has neither answered nor closed it.
fn is_kept(client: &TcpStream) -> bool {
    let said = client.peek(&mut [0]);
    said.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

/// Shown to fail on a daemon that lets its port have as many connections as the configuration says, whatever
/// its descriptors (an operator is not let in).
#[test]
fn with_64_descriptors_and_500_clients_it_goes_on() {
    let daemon = Daemon::builder().open_files(64).start();
    daemon.wait_bots(1);
    let tcp = daemon.tcp();
    let seconds = size(3, 30);
    let begun = Instant::now();
    let cpu_before = cpu_seconds(daemon.pid());
    let over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut clients: Vec<TcpStream> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                // Those that were put out come again, so that there are always this many.
                while clients.len() < 500 {
                    let client = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
                    client.set_nonblocking(true).unwrap();
                    clients.push(client);
                }
                std::thread::sleep(Duration::from_millis(100));
                clients.retain(is_kept);
            }
        });
        let _over = SetOnDrop(&over);
        let mut answered = 0;
        while begun.elapsed() < Duration::from_secs(seconds) {
            // An operator gets in, whatever goes on at the port.
            let status = daemon.ctl(&["--json", "status"]).ok().json();
            assert_eq!(status["pid"], daemon.pid());
            answered += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        answered
    });
    let busy = (cpu_seconds(daemon.pid()) - cpu_before) / begun.elapsed().as_secs_f64();
    println!(
        "{answered} answers to an operator, CPU {:.0} % of a core",
        busy * 100.0
    );
    assert!(answered > seconds, "{answered}");
    assert!(busy < 0.5, "CPU {busy}");
    let since = Instant::now();
    wait_until(RECOVERY, "a client is served", || {
        let body = json!({"content": "at last"}).to_string();
        let answer = tcp.try_request("POST", "/api/orchestrate", &[], Some(body.as_bytes()));
        answer
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    });
    println!("served again after {:?}", since.elapsed());
    let said = daemon.said();
    assert!(
        !said.contains("panicked") && !said.contains("ERROR"),
        "{said}"
    );
}

/// A control group whose number of processes can be bounded; removed when it is dropped.
struct Pids(PathBuf);

impl Pids {
    fn new() -> Option<Self> {
        let name = format!("deia-test-{}", std::process::id());
        // Version 1's hierarchy, or version 2's where its root gives the controller on.
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .into_iter()
            .find_map(|root| {
                let group = Path::new(root).join(&name);
                fs::create_dir(&group).ok()?;
                let group = Self(group);
                group.0.join("pids.max").exists().then_some(group)
            })
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Not one more, however many of those that are there end: the bound may be below what there is.
    fn no_more(&self) {
        fs::write(self.0.join("pids.max"), "1").unwrap();
    }

    fn any_number(&self) {
        fs::write(self.0.join("pids.max"), "max").unwrap();
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        // What is in it goes back, and then it can be removed.
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let root = self.0.parent().unwrap().join("cgroup.procs");
        for pid in members.lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Shown to fail on a daemon that counts a start the host refused as an end of the bot (the bot is in
/// quarantine when there is room again).
#[test]
fn when_no_process_can_be_started_bots_come_back_as_soon_as_one_can() {
    let test = "when_no_process_can_be_started_bots_come_back_as_soon_as_one_can";
    let Some(pids) = Pids::new() else {
        return skipped(
            test,
            "no control group with pids.max can be made here (root)",
        );
    };
    let daemon = Daemon::builder()
        .config(
            "bots: [{name: main, min: 3, max: 3, backend: {kind: echo, delay_ms: 20}}]\n\
             bot_limits: {min_bots: 3, max_bots: 3}\n",
        )
        .start();
    let bots = daemon.wait_bots(3);
    for process in processes_of(daemon.home()) {
        pids.take(process.pid);
    }
    pids.no_more();
    let seconds = size(4, 30);
    let cpu_before = cpu_seconds(daemon.pid());
    let begun = Instant::now();
    for bot in &bots[..2] {
        let pid = u32::try_from(bot["pid"].as_u64().unwrap()).unwrap();
        Process::of(pid).unwrap().signal(Signal::SIGKILL);
    }
    let mut done = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let id = daemon.submit("on we go");
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
        done += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    let busy = (cpu_seconds(daemon.pid()) - cpu_before) / begun.elapsed().as_secs_f64();
    println!(
        "{done} tasks meanwhile, CPU {:.0} % of a core",
        busy * 100.0
    );
    assert!(busy < 0.5, "CPU {busy}");
    assert!(
        daemon.bots().iter().any(|bot| bot["actual"] == "backoff"),
        "{:?}",
        daemon.bots()
    );
    let said = daemon.ctl(&["bots"]).ok().stdout;
    assert!(said.contains("no room"), "{said}");
    pids.any_number();
    let since = Instant::now();
    daemon.wait_bots(3);
    println!("three bots again after {:?}", since.elapsed());
    assert!(since.elapsed() < RECOVERY, "{:?}", since.elapsed());
}
