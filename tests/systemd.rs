//! The service under a real systemd, on a machine of its own (`tests/common/machine.rs`).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::Duration;

use common::{Halted, Machine, Process, on_machine, skipped, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Systemd, a slow disk and a busy host in one.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = "\
bots:
  - {name: echo, min: 1, backend: {kind: echo}}
  - {name: sh, min: 1, max_concurrent_tasks: 1, backend: {kind: command, argv: [sh], env: [PATH, HOME]}}
supervision: {stop_timeout_seconds: 60}
";

/// A watchdog that does not keep the tests waiting.
const QUICK_WATCHDOG: &str = "[Service]\nWatchdogSec=3s\n";
/// Two of its time-outs, and some.
const WATCHED: Duration = Duration::from_secs(7);

/// Runs the story with the service as it is installed.
fn service(test: &str, story: impl FnOnce(&Machine)) {
    on_machine(test, CONFIG, story);
}

fn start(machine: &Machine) -> Process {
    machine.run(&["systemctl", "start", "deia"]).ok();
    machine.daemon()
}

/// The status line, once it says this.
#[track_caller]
fn await_status(machine: &Machine, line: &str) {
    wait_until(PATIENCE, line, || {
        (machine.show("StatusText") == line).then_some(())
    });
}

/// A task's name, once it is accepted.
#[track_caller]
fn submit(machine: &Machine, pool: &str, text: &str) -> String {
    let answer = machine
        .ctl(&["--json", "submit", "--pool", pool, text])
        .ok()
        .json();
    answer["task_id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn task(machine: &Machine, id: &str) -> Value {
    machine.ctl(&["--json", "task", "show", id]).ok().json()
}

#[track_caller]
fn await_task(machine: &Machine, id: &str, status: &str) -> Value {
    wait_until(PATIENCE, status, || {
        let task = task(machine, id);
        (task["status"] == status).then_some(task)
    })
}

/// The journal's lines of the service with this field, once there are some: the daemon's are on their way
/// for a moment.
#[track_caller]
fn await_journal(machine: &Machine, field: &str) -> String {
    wait_until(PATIENCE, field, || {
        let lines = machine.journal(&["-o", "json", field]);
        (!lines.is_empty()).then_some(lines)
    })
}

/// A script that a bot runs: what it printed.
#[track_caller]
fn in_a_bot(machine: &Machine, script: &str) -> String {
    let id = submit(machine, "sh", script);
    await_task(machine, &id, "succeeded")["result"]["output"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn it_starts_is_ready_and_stops() {
    service("systemd start", |machine| {
        start(machine);
        await_status(machine, "bots: 2 of 2 ready; tasks: 0 running, 0 queued");
        let kept = submit(machine, "echo", "keep this");
        await_task(machine, &kept, "succeeded");
        machine.run(&["systemctl", "stop", "deia"]).ok();
        assert_eq!(machine.show("Result"), "success");
        assert_eq!(machine.show("ActiveState"), "inactive");
        assert_eq!(machine.processes_of_service(), []);
        start(machine);
        assert_eq!(task(machine, &kept)["result"]["output"], "keep this");
    });
}

#[test]
fn it_is_exposed_as_little_as_promised() {
    service("systemd exposure", |machine| {
        start(machine);
        let analysed = machine.run(&[
            "systemd-analyze",
            "security",
            "--no-pager",
            "--threshold=18",
            "deia",
        ]);
        assert_eq!(analysed.code, 0, "{}", analysed.stdout);
    });
}

#[test]
fn operators_are_admitted_and_nobody_else() {
    service("systemd sockets", |machine| {
        start(machine);
        let owned = machine.sh_ok("stat -c '%U:%G %a' /run/deia /run/deia/admin.sock /run/deia/bots /var/lib/deia /etc/deia");
        assert_eq!(
            owned,
            "deia:deia 750\ndeia:deia 660\ndeia:deia 700\ndeia:deia 750\nroot:deia 750\n"
        );
        for user in ["root", "deia", "helper"] {
            machine
                .run(&["runuser", "-u", user, "--", "deiactl", "status"])
                .ok();
            machine
                .run(&[
                    "runuser", "-u", user, "--", "deiactl", "bot", "restart", "echo",
                ])
                .ok();
        }
        let refused = machine.run(&["runuser", "-u", "nobody", "--", "deiactl", "status"]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(refused.stderr.contains("group"), "{refused:?}");
    });
}

/// What programs that bots run rely on, and what the unit itself keeps from them: without the sandbox
/// that deia builds around them.
#[test]
fn bots_have_what_they_need_and_no_more() {
    service("systemd sandbox", |machine| {
        machine.write(
            "/etc/deia/bot-config.yaml",
            &CONFIG.replace("name: sh,", "name: sh, limits: {landlock: off},"),
        );
        machine.write("/etc/deia/secret", "a key");
        machine.sh_ok("chown deia /etc/deia/secret; chmod 600 /etc/deia/secret");
        start(machine);
        let said = in_a_bot(
            machine,
            "for place in ~ /tmp /var/tmp /dev/shm /sys/fs/cgroup/system.slice/deia.service; do
                 mkdir $place/made && rmdir $place/made && echo \"writes $place\"
             done
             for place in / /usr /etc /etc/deia /srv /run /sys/fs/cgroup/system.slice; do
                 mkdir $place/made 2>/dev/null && echo \"WRITES $place\"
             done
             ls /home >/dev/null 2>&1 && echo 'READS /home'
             cat /etc/deia/secret; echo
             cat /proc/sys/kernel/random/boot_id /proc/meminfo >/dev/null && echo 'reads /proc'
             nice -n 5 sh -c 'ulimit -n 100' && echo 'lowers limits'
             cp -a /proc/self/cmdline /tmp/copy && rm /tmp/copy && echo 'copies'
             unshare --map-root-user true 2>/dev/null && echo 'MAKES namespaces'
             perl -e '
                 $! = 0; syscall(9, 0, 4096, 7, 0x22, -1, 0) == -1 or print qq(makes code\\n);
                 socket($s, $_, 2, 0) and print qq(socket $_\\n) for 1, 2, 10, 16, 17;
                 print qq(pidfd\\n) if syscall(434, $$ + 0, 0) > 0;
                 print qq(landlock ), syscall(444, 0, 0, 1), qq(\\n);
                 print qq(TRACES\\n) if syscall(101, 16, getppid() + 0, 0, 0) == 0;'
             true",
        );
        let landlock = machine.sh_ok("perl -e 'print syscall(444, 0, 0, 1)'");
        let expected = format!(
            "writes /var/lib/deia/.deia/bots/sh/home\nwrites /tmp\nwrites /var/tmp\nwrites /dev/shm\n\
             writes /sys/fs/cgroup/system.slice/deia.service\na key\nreads /proc\nlowers limits\ncopies\n\
             makes code\nsocket 1\nsocket 2\nsocket 10\nsocket 16\npidfd\nlandlock {landlock}\n"
        );
        assert_eq!(said, expected);
        // Their /tmp is theirs.
        in_a_bot(machine, "echo mine >/tmp/mine");
        assert_ne!(machine.sh("cat /tmp/mine").code, 0);
    });
}

/// The unit delegates its cgroup, and leaves deia what it needs to build a sandbox: each bot is in a cgroup
/// of its own, under its limits, also when a later daemon has taken it over; one that takes more is ended.
///
/// The kernel holds the limits where the host gives its controllers to cgroup v2; else they are held by
/// looking, and that part is skipped. Shown to fail on a unit without `Delegate`.
#[test]
fn bots_are_held_to_their_limits() {
    service("systemd limits", |machine| {
        machine.write(
            "/etc/deia/bot-config.yaml",
            &CONFIG.replace(
                "name: sh,",
                "name: sh, limits: {memory_mb: 64, processes: 40},",
            ),
        );
        let daemon = start(machine);
        await_status(machine, "bots: 2 of 2 ready; tasks: 0 running, 0 queued");
        let bot = || machine.ctl(&["--json", "bot", "show", "sh"]).ok().json();
        let held = |bot: &Value| {
            let sandbox = bot["sandbox"].as_str().unwrap();
            let all = ["no_new_privs", "rlimits", "seccomp", "cgroup"];
            assert!(all.iter().all(|part| sandbox.contains(part)), "{sandbox}");
            let cgroup = "/sys/fs/cgroup/system.slice/deia.service/bots/sh";
            let pid = bot["pid"].to_string();
            let inside = machine.sh_ok(&format!("cat {cgroup}/cgroup.procs"));
            assert!(inside.lines().any(|line| line == pid), "{inside}");
            let controllers = machine.sh_ok("cat /sys/fs/cgroup/cgroup.controllers");
            if !["memory", "pids"]
                .iter()
                .all(|name| controllers.contains(name))
            {
                return skipped(
                    "systemd limits of the kernel",
                    "cgroup v2 has no controllers here",
                );
            }
            assert!(sandbox.contains("cgroup memory+pids"), "{sandbox}");
            assert_eq!(
                machine.sh_ok(&format!("cat {cgroup}/memory.max {cgroup}/pids.max")),
                "67108864\n40\n"
            );
        };
        held(&bot());
        let pid = bot()["pid"].clone();
        daemon.signal(Signal::SIGKILL);
        machine.daemon_after(&daemon);
        await_status_containing(machine, "bots: 2 of 2 ready");
        assert_eq!(bot()["pid"], pid);
        held(&bot());
        let hog = submit(
            machine,
            "sh",
            "perl -e '$x = \"x\" x (200 << 20); sleep 60'",
        );
        let hog = await_task(machine, &hog, "dead");
        assert!(
            hog["error"].as_str().unwrap().contains("limits.memory_mb"),
            "{hog}"
        );
        await_status_containing(machine, "bots: 2 of 2 ready");
        let ends = bot()["ends"].clone();
        assert!(
            ends.as_array()
                .unwrap()
                .iter()
                .all(|end| end["cause"] == "memory_limit"),
            "{ends}"
        );
        assert_eq!(in_a_bot(machine, "echo next"), "next\n");
    });
}

#[test]
fn a_reload_waits_and_fails_when_the_file_is_refused() {
    service("systemd reload", |machine| {
        let daemon = start(machine);
        machine.write(
            "/etc/deia/bot-config.yaml",
            &CONFIG.replace("name: echo, min: 1", "name: echo, min: 2"),
        );
        machine.run(&["systemctl", "reload", "deia"]).ok();
        await_status(machine, "bots: 3 of 3 ready; tasks: 0 running, 0 queued");
        machine.write("/etc/deia/bot-config.yaml", "bots: [");
        assert_ne!(machine.run(&["systemctl", "reload", "deia"]).code, 0);
        assert_eq!(machine.show("ReloadResult"), "exit-code");
        assert_eq!(machine.daemon(), daemon);
        await_journal(machine, "DEIA_EVENT=config_refused");
        let status = machine.show("StatusText");
        assert!(status.starts_with("bots: 3 of 3 ready"), "{status}");
    });
}

#[test]
fn the_journal_has_fields() {
    service("systemd journal", |machine| {
        start(machine);
        let failed = submit(machine, "sh", "exit 3");
        await_task(machine, &failed, "dead");
        let of = |event: &str| {
            let lines = await_journal(machine, &format!("DEIA_EVENT={event}"));
            let lines = lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap());
            lines.collect::<Vec<Value>>()
        };
        let ready = of("ready").remove(0);
        assert_eq!(ready["PRIORITY"], "6");
        assert_eq!(ready["SYSLOG_IDENTIFIER"], "deia");
        assert_eq!(ready["_SYSTEMD_UNIT"], "deia.service");
        let bots: Vec<Value> = of("bot_ready")
            .iter()
            .map(|line| line["DEIA_BOT"].clone())
            .collect();
        assert!(
            bots.contains(&json!("echo")) && bots.contains(&json!("sh")),
            "{bots:?}"
        );
        let failure = of("task_failed").remove(0);
        assert_eq!(failure["PRIORITY"], "4");
        assert_eq!(failure["DEIA_BOT"], "sh");
        assert_eq!(failure["DEIA_TASK"], json!(failed));
    });
}

/// Each way to be stuck ends in the same way: killed by the watchdog, started again, with everything that
/// was acknowledged.
fn stuck(machine: &Machine, hold: impl FnOnce(&Process) -> Option<Halted>) {
    machine.drop_in("watchdog", QUICK_WATCHDOG);
    let daemon = start(machine);
    let kept = submit(machine, "echo", "keep this");
    await_task(machine, &kept, "succeeded");
    let mut held = hold(&daemon);
    wait_until(PATIENCE, "the stuck daemon is gone", || {
        // A thread that is traced holds up its process's end until the tracer has seen its own.
        let gone = held.as_mut().is_none_or(Halted::all_gone);
        (gone && !daemon.is_alive()).then_some(())
    });
    machine.daemon_after(&daemon);
    let journal = machine.journal(&[]);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    assert_eq!(task(machine, &kept)["status"], "succeeded");
    assert_eq!(machine.show("NRestarts"), "1");
}

#[test]
fn the_watchdog_ends_a_daemon_that_is_stopped() {
    service("systemd watchdog", |machine| {
        stuck(machine, |daemon| {
            daemon.signal(Signal::SIGSTOP);
            None
        });
    });
}

#[test]
fn the_watchdog_ends_a_main_loop_that_is_stuck() {
    service("systemd watchdog main loop", |machine| {
        stuck(machine, |daemon| {
            Some(Halted::hold(daemon.pid, "tokio-rt-worker"))
        });
    });
}

/// Shown to fail on a build that gives signs of life without asking the store.
#[test]
fn the_watchdog_ends_a_writer_that_is_stuck() {
    service("systemd watchdog writer", |machine| {
        stuck(machine, |daemon| {
            Some(Halted::hold(daemon.pid, "store-writer"))
        });
    });
}

/// A daemon that is told its disk is full is not stuck: it says so, lives on, and heals.
#[test]
fn a_full_disk_is_no_reason_to_be_killed() {
    service("systemd full disk", |machine| {
        machine.sh_ok("mkdir -p /var/lib/deia && mount -t tmpfs -o size=16m tmpfs /var/lib/deia");
        machine.drop_in("watchdog", QUICK_WATCHDOG);
        let daemon = start(machine);
        // What the daemon gives back is taken too.
        let fill = "while :; do cat /dev/zero >>/var/lib/deia/filler; sleep 0.1; done";
        machine.sh_ok(&format!("({fill}) >/dev/null 2>&1 & echo $! >/run/filling"));
        let refused = || {
            wait_until(PATIENCE, "the disk is full", || {
                let large = "x".repeat(100_000);
                let submitted = machine.ctl(&["submit", "--pool", "echo", &large]);
                (submitted.code == 1 && submitted.stderr.contains("full")).then_some(())
            });
        };
        refused();
        std::thread::sleep(WATCHED);
        refused();
        assert_eq!(machine.daemon(), daemon);
        machine.sh_ok("kill $(cat /run/filling); rm /var/lib/deia/filler");
        await_status(machine, "bots: 2 of 2 ready; tasks: 0 running, 0 queued");
        let id = submit(machine, "echo", "again");
        await_task(machine, &id, "succeeded");
        assert_eq!(machine.daemon(), daemon);
    });
}

fn await_status_containing(machine: &Machine, part: &str) {
    wait_until(PATIENCE, part, || {
        machine.show("StatusText").contains(part).then_some(())
    });
}

/// Tasks get `stop_timeout_seconds`, also where the unit's own time-out is shorter. Shown to fail on a build
/// that does not ask systemd for more time.
#[test]
fn a_stop_waits_for_running_tasks() {
    service("systemd stop", |machine| {
        machine.drop_in("impatient", "[Service]\nTimeoutStopSec=2s\n");
        start(machine);
        let slow = submit(machine, "sh", "sleep 6; echo done");
        await_status(machine, "bots: 2 of 2 ready; tasks: 1 running, 0 queued");
        machine.run(&["systemctl", "stop", "deia"]).ok();
        assert_eq!(machine.show("Result"), "success");
        start(machine);
        let task = task(machine, &slow);
        assert_eq!(task["result"]["output"], "done\n", "{task}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    });
}

/// A TERM by hand is a stop too: systemd is told, and does not start the daemon again.
#[test]
fn a_signal_is_a_stop() {
    service("systemd signal", |machine| {
        start(machine);
        submit(machine, "sh", "sleep 1000");
        await_status(machine, "bots: 2 of 2 ready; tasks: 1 running, 0 queued");
        let term = ["systemctl", "kill", "--kill-who=main", "-s", "TERM", "deia"];
        machine.run(&term).ok();
        wait_until(PATIENCE, "systemd knows of the stop", || {
            (machine.show("SubState") == "stop-sigterm").then_some(())
        });
        await_status_containing(machine, "stopping; bots: 1 left; tasks: 1 running");
        // A second one hurries.
        machine.run(&term).ok();
        wait_until(PATIENCE, "the service is inactive", || {
            (machine.show("ActiveState") == "inactive").then_some(())
        });
        assert_eq!(machine.show("Result"), "success");
    });
}

/// systemd wakes what it stops; what was pending is done in order.
#[test]
fn a_stop_of_a_stopped_daemon_wakes_it() {
    service("systemd stop of a stopped one", |machine| {
        let daemon = start(machine);
        daemon.signal(Signal::SIGSTOP);
        machine.run(&["systemctl", "stop", "deia"]).ok();
        assert_eq!(machine.show("Result"), "success");
        assert_eq!(machine.processes_of_service(), []);
    });
}

/// Shown to fail with systemd's own limit, five starts in ten seconds.
#[test]
fn twenty_crashes_and_it_comes_back() {
    service("systemd crashes", |machine| {
        let mut daemon = start(machine);
        let kept: Vec<String> = (0..20)
            .map(|n| {
                let id = submit(machine, "echo", &format!("before crash {n}"));
                daemon.signal(Signal::SIGKILL);
                daemon = machine.daemon_after(&daemon);
                id
            })
            .collect();
        assert_eq!(machine.show("NRestarts"), "20");
        await_status(machine, "bots: 2 of 2 ready; tasks: 0 running, 0 queued");
        for id in kept {
            await_task(machine, &id, "succeeded");
        }
    });
}

/// Bots that live on in control groups of their own, under controllers that are on, do not lock the next daemon
/// out. Shown to fail without the unit's first `ExecStopPost` (systemd: `status=219/CGROUP`, for ever), and
/// with one that turns controllers off above its bots' cgroups only.
#[test]
fn control_groups_of_bots_do_not_lock_the_next_daemon_out() {
    const DIVIDE: &str = "
        on() { for name in $(cat $1/cgroup.controllers); do echo +$name >$1/cgroup.subtree_control; done; }
        cd /sys/fs/cgroup && on . && on system.slice && cd system.slice/deia.service || exit
        mkdir -p daemon bots
        for pid in $(cat cgroup.procs); do echo $pid >daemon/cgroup.procs; done
        sleep 1000 >/dev/null 2>&1 &
        mkdir -p bots/survivor && echo $! >bots/survivor/cgroup.procs
        on . && on bots && cat cgroup.subtree_control";
    service("systemd control groups", |machine| {
        let daemon = start(machine);
        // As a daemon divides what it was given: itself in one part, a survivor in another.
        let controllers = machine.sh_ok(DIVIDE);
        if controllers.trim().is_empty() {
            skipped(
                "systemd control groups",
                "no controller is free for cgroup v2",
            );
            return;
        }
        daemon.signal(Signal::SIGKILL);
        machine.daemon_after(&daemon);
        let survivors = machine.processes_of_service();
        assert!(
            survivors.iter().any(|p| p.command.starts_with("sleep")),
            "{survivors:?}"
        );
    });
}

/// A crash is over in a moment and no bot notices, nor what it runs: the same processes, the same attempt,
/// and temporary files that are still there.
///
/// Shown to fail on a unit with `KillMode=control-group`.
#[test]
fn a_crash_leaves_bots_and_tasks_alone() {
    service("systemd adoption", |machine| {
        let daemon = start(machine);
        let running = submit(
            machine,
            "sh",
            "sleep 3; echo later >$TMPDIR/later; cat $TMPDIR/later",
        );
        await_status(machine, "bots: 2 of 2 ready; tasks: 1 running, 0 queued");
        let pids = || {
            let bots = machine.ctl(&["--json", "bots"]).ok().json();
            let bots = bots["bots"].as_array().unwrap().iter();
            bots.map(|bot| (bot["id"].clone(), bot["pid"].clone()))
                .collect::<Vec<_>>()
        };
        let before = pids();
        daemon.signal(Signal::SIGKILL);
        machine.daemon_after(&daemon);
        await_status_containing(machine, "bots: 2 of 2 ready");
        assert_eq!(pids(), before);
        let task = await_task(machine, &running, "succeeded");
        assert_eq!(task["result"]["output"], "later\n", "{task}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
        wait_until(PATIENCE, "both adoptions are in the journal", || {
            let adopted = machine.journal(&["-o", "json", "DEIA_EVENT=bot_adopted"]);
            (adopted.lines().count() == 2).then_some(())
        });
    });
}

/// Another binary in the same process: systemd sees neither an end nor a start, and goes on being told
/// that all is well.
#[test]
fn another_release_takes_over() {
    service("systemd upgrade", |machine| {
        machine.drop_in("watchdog", QUICK_WATCHDOG);
        start(machine);
        await_status(machine, "bots: 2 of 2 ready; tasks: 0 running, 0 queued");
        let identity = || {
            let process = machine.daemon();
            (
                process.pid,
                process.started,
                machine.show("InvocationID"),
                machine.show("NRestarts"),
            )
        };
        let before = identity();
        let image =
            || machine.sh_ok("stat -L -c %i /proc/$(systemctl show deia --value -p MainPID)/exe");
        let image_before = image();
        let running = submit(machine, "sh", "sleep 3; echo done");
        // As a package's installation does it.
        machine.sh_ok("cp /usr/bin/deia /usr/bin/deia.new && mv /usr/bin/deia.new /usr/bin/deia");
        machine.ctl(&["upgrade"]).ok();
        wait_until(PATIENCE, "the new binary runs", || {
            (image() != image_before).then_some(())
        });
        assert_eq!(identity(), before);
        let task = await_task(machine, &running, "succeeded");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
        std::thread::sleep(WATCHED);
        assert_eq!(identity(), before);
        let image_before = image();
        machine.sh_ok("cp /usr/bin/deia /usr/bin/deia.new && mv /usr/bin/deia.new /usr/bin/deia");
        machine
            .run(&["systemctl", "kill", "--kill-who=main", "-s", "USR2", "deia"])
            .ok();
        wait_until(PATIENCE, "the new binary runs", || {
            (image() != image_before).then_some(())
        });
        assert_eq!(identity(), before);
        machine.run(&["systemctl", "stop", "deia"]).ok();
        assert_eq!(machine.show("Result"), "success");
        assert_eq!(machine.processes_of_service(), []);
    });
}

/// A daemon that nothing wakes is killed at the unit's time-out, and its bots with what they run are ended
/// in its stead.
///
/// Shown to fail on a unit without `deia reap`.
#[test]
fn a_stop_of_a_daemon_that_hangs_ends_its_bots() {
    service("systemd hanging stop", |machine| {
        machine.drop_in("impatient", "[Service]\nTimeoutStopSec=2s\n");
        let daemon = start(machine);
        submit(machine, "sh", "setsid sleep 1000 & sleep 1000");
        await_status(machine, "bots: 2 of 2 ready; tasks: 1 running, 0 queued");
        let mut held = Halted::hold_all(daemon.pid);
        machine
            .run(&["systemctl", "stop", "--no-block", "deia"])
            .ok();
        wait_until(PATIENCE, "the daemon is killed", || {
            (held.all_gone() && !daemon.is_alive()).then_some(())
        });
        wait_until(PATIENCE, "the service has ended", || {
            ["failed", "inactive"]
                .contains(&machine.show("ActiveState").as_str())
                .then_some(())
        });
        assert_eq!(machine.show("Result"), "timeout");
        assert_eq!(machine.processes_of_service(), []);
    });
}
