//! The Debian package on a bare machine with a real systemd: installed, used, upgraded with bots at work,
//! removed, purged.
//!
//! Shown to fail on a package whose installation starts the service again instead of having it upgraded.
//!
//! `.ci/run` builds it (twice, the second with a higher version) and names their directory in
//! `DEIA_TEST_PACKAGES`; without it the test says `SKIPPED`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::Duration;

use common::{Machine, install, on_bare_machine, packages, skipped, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the operator puts in place of the shipped file.
const CONFIG: &str = "\
bots:
  - {name: echo, min: 1, backend: {kind: echo}}
  - {name: sh, min: 1, max_concurrent_tasks: 1, backend: {kind: command, argv: [sh], env: [PATH, HOME]}}
";

#[track_caller]
fn submit(machine: &Machine, pool: &str, text: &str) -> String {
    let answer = machine.ctl(&["--json", "submit", "--pool", pool, text]);
    answer.ok().json()["task_id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn await_success(machine: &Machine, id: &str) -> Value {
    wait_until(PATIENCE, "the task succeeds", || {
        let task = machine.ctl(&["--json", "task", "show", id]).ok().json();
        (task["status"] == "succeeded").then_some(task)
    })
}

#[track_caller]
fn await_ready(machine: &Machine, bots: usize) {
    wait_until(PATIENCE, "the bots are ready", || {
        let bots_now = machine.ctl(&["--json", "bots"]);
        let ready = bots_now.stdout.matches("\"ready\"").count();
        (ready == bots).then_some(())
    });
}

#[test]
fn it_is_installed_upgraded_with_bots_at_work_removed_and_purged() {
    let test = "debian package";
    let [older, newer] = match packages() {
        Ok(packages) => packages,
        Err(why) => return skipped(test, &why),
    };
    on_bare_machine(test, &[older, newer], |machine| {
        // Installed: it runs, is enabled, and has its user, its directories, its pages.
        install(machine, "deia.deb");
        machine.daemon();
        assert_eq!(machine.sh_ok("systemctl is-enabled deia").trim(), "enabled");
        assert_eq!(
            machine.sh_ok("stat -c '%U:%G %a' /etc/deia /var/lib/deia"),
            "root:deia 750\ndeia:deia 750\n"
        );
        machine.sh_ok("test -s /usr/share/man/man1/deiactl.1.gz");
        machine.sh_ok("test -s /usr/share/bash-completion/completions/deiactl");
        assert_eq!(machine.sh_ok("dpkg --verify deia"), "");

        // The configuration is the operator's.
        machine.write("/etc/deia/bot-config.yaml", CONFIG);
        machine.run(&["systemctl", "reload", "deia"]).ok();
        await_ready(machine, 2);
        let kept = submit(machine, "echo", "keep this");
        await_success(machine, &kept);

        // Upgraded: the same process, the same bots, one attempt, the operator's file.
        let daemon = machine.daemon();
        let running = submit(machine, "sh", "sleep 4; echo done");
        let image =
            || machine.sh_ok("stat -L -c %i /proc/$(systemctl show deia --value -p MainPID)/exe");
        let before = image();
        install(machine, "deia-next.deb");
        wait_until(PATIENCE, "the new release runs", || {
            (image() != before).then_some(())
        });
        let now = machine.daemon();
        assert_eq!((now.pid, now.started), (daemon.pid, daemon.started));
        let task = await_success(machine, &running);
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
        assert_eq!(machine.sh_ok("cat /etc/deia/bot-config.yaml"), CONFIG);

        // Stopped by its operator, it stays stopped at an upgrade's end only until it is started again;
        // a release that can't be switched to would have left the daemon as it was.
        assert_eq!(machine.show("NRestarts"), "0");

        // Removed: it is gone, what was acknowledged is not.
        machine.sh_ok("DEBIAN_FRONTEND=noninteractive apt-get remove -y -q deia");
        assert_eq!(machine.processes_of_service(), []);
        machine.sh_ok("test ! -e /usr/bin/deia && test -s /var/lib/deia/.deia/state/deia.db && test -s /etc/deia/bot-config.yaml");
        install(machine, "deia-next.deb");
        machine.daemon();
        let task = await_success(machine, &kept);
        assert_eq!(task["result"]["output"], "keep this");

        // Purged: nothing is left.
        machine.sh_ok("DEBIAN_FRONTEND=noninteractive apt-get purge -y -q deia");
        machine.sh_ok("test ! -e /var/lib/deia && test ! -e /etc/deia && test ! -e /run/deia");
        let listed = machine
            .sh("systemctl list-unit-files deia.service --no-legend")
            .stdout;
        assert_eq!(listed, "");
    });
}
