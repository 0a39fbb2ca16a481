//! What a bot's command can't do, and what it can: the probes of docs/SANDBOX.md.
//!
//! Run as the user of the test, root included. A probe that needs a newer Landlock than this kernel has
//! says `SKIPPED` and its name, and so does a test that needs what is not there.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::path::Path;

use common::{AgentFleet, Daemon, PYTHON, Process};

/// The kernel's Landlock, as the daemon reports it.
fn landlock(daemon: &Daemon) -> u64 {
    let status = daemon.get("/status").ok();
    status["confinement"]["landlock"].as_u64().unwrap_or(0)
}

/// What a command must not be able to do: each prints DONE if it is done. `{home}`, `{supervisor}`,
/// `{bot}`, `{sibling}` (a bot's process), `{sleeper}` (what a sibling started), `{work}` (where),
/// `{outside}` and `{port}` are filled in. With the version of Landlock that keeps it.
const PROBES: &[(&str, u64, &str)] = &[
    (
        "read /etc/shadow",
        1,
        "cat /etc/shadow >/dev/null && echo DONE",
    ),
    (
        "read the store",
        1,
        "cat {home}/.deia/state/deia.db >/dev/null && echo DONE",
    ),
    (
        "list the store",
        1,
        "ls {home}/.deia/state >/dev/null && echo DONE",
    ),
    (
        "write the store",
        1,
        "echo x >> {home}/.deia/state/deia.db && echo DONE",
    ),
    (
        "truncate the store",
        1,
        "{python} -c 'import os; os.truncate(\"{home}/.deia/state/deia.db\", 0)' && echo DONE",
    ),
    (
        "remove the store",
        1,
        "rm -f {home}/.deia/state/deia.db && echo DONE",
    ),
    (
        "read the configuration",
        1,
        "cat {home}/bot-config.yaml >/dev/null && echo DONE",
    ),
    (
        "write the configuration",
        1,
        "echo x >> {home}/bot-config.yaml && echo DONE",
    ),
    (
        "read the logs",
        1,
        "cat {home}/.deia/bot-logs/supervisor.jsonl >/dev/null && echo DONE",
    ),
    (
        "read what another bot printed",
        1,
        "cat {home}/.deia/bot-output/sibling.log && echo DONE",
    ),
    (
        "leave a result in the spool",
        1,
        "echo x > {home}/.deia/spool/x && echo DONE",
    ),
    (
        "read the secret's file",
        1,
        "cat {outside}/key >/dev/null && echo DONE",
    ),
    (
        "read another task's file",
        1,
        "cat {work}/file >/dev/null && echo DONE",
    ),
    (
        "write into another task's directory",
        1,
        "echo x > {work}/new && echo DONE",
    ),
    (
        "write into another bot's HOME",
        1,
        "echo x > {home}/.deia/bots/sibling/home/x && echo DONE",
    ),
    (
        "write to /tmp",
        1,
        "echo x > /tmp/deia-probe-$$ && echo DONE",
    ),
    (
        "write to /dev/shm",
        1,
        "echo x > /dev/shm/deia-probe-$$ && echo DONE",
    ),
    (
        "write to /usr",
        1,
        "echo x > /usr/local/deia-probe && echo DONE",
    ),
    (
        "link out of its directory",
        1,
        "ln {outside}/key here && cat here && echo DONE",
    ),
    (
        "go through a link",
        1,
        "ln -s {outside}/key there; cat there && echo DONE",
    ),
    (
        "go through /proc",
        1,
        "cat /proc/{supervisor}/root{outside}/key && echo DONE",
    ),
    (
        "read a sibling's environment",
        1,
        "cat /proc/{sleeper}/environ >/dev/null && echo DONE",
    ),
    (
        "read its bot's environment",
        1,
        "cat /proc/{bot}/environ >/dev/null && echo DONE",
    ),
    (
        "read a sibling's memory",
        1,
        "head -c 1 /proc/{sleeper}/mem && echo DONE",
    ),
    (
        "trace a sibling",
        1,
        "{python} -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, {sleeper}, 0, 0) != 0)' && echo DONE",
    ),
    (
        "trace the supervisor",
        1,
        "{python} -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, {supervisor}, 0, 0) != 0)' && echo DONE",
    ),
    (
        "take a descriptor of the supervisor",
        1,
        "readlink /proc/{supervisor}/fd/1 && echo DONE",
    ),
    (
        "lower the supervisor's limits",
        1,
        "prlimit --pid {supervisor} --cpu=1 && echo DONE",
    ),
    (
        "make the supervisor the first to be ended",
        1,
        "echo 1000 > /proc/{supervisor}/oom_score_adj && echo DONE",
    ),
    (
        "leave its cgroup",
        1,
        "echo $$ > /sys/fs/cgroup/cgroup.procs && echo DONE || echo $$ > /sys/fs/cgroup/unified/cgroup.procs && echo DONE",
    ),
    ("mount", 1, "mount -t tmpfs none . 2>&1 && echo DONE"),
    (
        "mount as root of a namespace",
        1,
        "unshare -rm mount -t tmpfs none /mnt && echo DONE",
    ),
    (
        "have a capability",
        1,
        "grep -E 'Cap(Eff|Prm|Inh|Amb)' /proc/self/status | grep -v 0000000000000000 && echo DONE",
    ),
    (
        "get more by a set-user-id program",
        1,
        "grep -q 'NoNewPrivs:.0' /proc/self/status && echo DONE",
    ),
    (
        "listen on a port of its choice",
        4,
        "{python} -c 'import socket; s = socket.socket(); s.setsockopt(1, 15, 1); s.bind((\"127.0.0.1\", {port})); s.listen()' && echo DONE",
    ),
    (
        "kill the supervisor",
        6,
        "kill -9 {supervisor} && echo DONE",
    ),
    (
        "stop the supervisor",
        6,
        "kill -STOP {supervisor} && echo DONE",
    ),
    (
        "hurry the supervisor",
        6,
        "kill -TERM {supervisor} && echo DONE",
    ),
    ("kill its bot", 6, "kill -9 {bot} && echo DONE"),
    ("kill a sibling", 6, "kill -9 {sibling} && echo DONE"),
    (
        "kill what a sibling started",
        6,
        "kill -9 {sleeper} && echo DONE",
    ),
];

/// BAR: succeeds 0 on Landlock 6 or newer. Shown to fail with `limits.landlock: off` in the pool.
#[test]
fn no_probe_succeeds() {
    let fleet = AgentFleet::start("");
    let version = landlock(&fleet);
    let (task, sleeper) = fleet.busy_sibling();
    let (bot, sibling) = (fleet.process("agent"), fleet.process("sibling"));
    let supervisor = Process::of(fleet.pid()).unwrap();
    let python = Path::new(PYTHON).exists();
    let mut tried = 0;
    for (name, needs, script) in PROBES {
        if version < *needs || (script.contains("{python}") && !python) {
            println!("SKIPPED {name}: needs Landlock {needs} (here {version}), and maybe {PYTHON}");
            continue;
        }
        let script = script
            .replace("{home}", fleet.home().to_str().unwrap())
            .replace("{outside}", fleet.outside.path().to_str().unwrap())
            .replace(
                "{work}",
                fleet
                    .home()
                    .join(".deia/work")
                    .join(&task)
                    .to_str()
                    .unwrap(),
            )
            .replace("{supervisor}", &supervisor.pid.to_string())
            .replace("{bot}", &bot.pid.to_string())
            .replace("{sibling}", &sibling.pid.to_string())
            .replace("{sleeper}", &sleeper.pid.to_string())
            .replace("{port}", "47113")
            .replace("{python}", PYTHON);
        let ended = fleet.run(&format!("{script}; echo tried"));
        assert_eq!(ended["status"], "succeeded", "{name}: {ended}");
        let said = ended["result"]["output"].as_str().unwrap();
        assert!(
            said.ends_with("tried\n") && !said.contains("DONE"),
            "{name}: {said}"
        );
        tried += 1;
    }
    for process in [&supervisor, &bot, &sibling, &sleeper] {
        assert!(process.is_alive(), "{process:?}");
    }
    assert_eq!(
        fleet.get(&format!("/api/tasks/{task}")).ok()["status"],
        "running"
    );
    assert_eq!(fleet.get("/health").ok()["status"], "ok");
    println!(
        "{tried} of {} probes were tried, none succeeded",
        PROBES.len()
    );
}

#[test]
fn the_probes_are_published() {
    let page = include_str!("../docs/SANDBOX.md");
    for (name, ..) in PROBES {
        assert!(
            page.contains(name),
            "docs/SANDBOX.md does not name '{name}'"
        );
    }
}

/// Whatever the kernel has: a bot is not admin.
#[test]
fn the_admin_socket_is_refused_to_what_a_bot_starts() {
    if !Path::new(PYTHON).exists() {
        println!("SKIPPED the_admin_socket_is_refused_to_what_a_bot_starts: needs {PYTHON}");
        return;
    }
    for extra in ["", "limits: {landlock: off}, "] {
        let fleet = AgentFleet::start(extra);
        let script = format!(
            "{PYTHON} - <<'END'\nimport socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}/.deia/run/admin.sock')\n\
             s.sendall(b'POST /terminate HTTP/1.1\\r\\nhost: localhost\\r\\ncontent-length: 0\\r\\n\\r\\n')\nprint(s.recv(99).split()[1])\nEND",
            fleet.home().display()
        );
        let task = fleet.run(&script);
        let said = task["result"]["output"].as_str().unwrap_or_default();
        // With Landlock 9 it is not even connected to.
        let refused = said.contains("403") || task["error"].to_string().contains("PermissionError");
        assert!(refused, "{task}");
        assert_eq!(fleet.get("/health").ok()["status"], "ok");
    }
}

#[test]
fn honest_work_works() {
    let fleet = AgentFleet::start("paths: {read: [NAMED]}, ");
    let has = |program: &str| {
        let found = ["/usr/local/bin", "/usr/bin"].iter();
        found
            .map(|at| Path::new(at).join(program))
            .any(|path| path.exists())
    };
    let named = fleet.outside.path().join("named");
    let named = named.display();
    let work: &[(&str, &str, &str)] = &[
        ("cat", &format!("cat {named}/file"), "named"),
        ("sort", "seq 200000 | sort -n -S 64k | tail -1", "200000"),
        (
            "bash",
            "bash -c 'cat <(echo substituted) <<< here'",
            "substituted",
        ),
        (
            "python3",
            "python3 -c 'import json, tempfile, subprocess, ssl, socket, threading; t = tempfile.TemporaryFile(); t.write(b\"x\"); print(subprocess.run([\"echo\", \"from python\"], capture_output=True, text=True).stdout)'",
            "from python",
        ),
        (
            "git",
            "git init -q repo && cd repo && git config user.email a@b && git config user.name n && echo x > f && git add f && git commit -qm first && git log --oneline | wc -l",
            "1",
        ),
        (
            "cc",
            "printf '#include <stdio.h>\\nint main(void){puts(\"compiled\");}' > a.c && cc a.c -o a && ./a",
            "compiled",
        ),
        (
            "node",
            "node -e 'require(\"fs\").writeFileSync(\"f\", \"x\"); const s = require(\"http\").createServer().listen(0, \"127.0.0.1\", () => { console.log(\"listens\"); s.close(); })'",
            "listens",
        ),
        ("sh", "echo $SECRET", "s3cret"),
        ("getent", "getent hosts localhost", "localhost"),
    ];
    for (program, script, expected) in work {
        if !has(program) {
            println!("SKIPPED honest_work_works, {program}: it is not installed");
            continue;
        }
        let task = fleet.run(script);
        let said = task["result"]["output"].as_str().unwrap_or_default();
        assert!(said.contains(expected), "{program}: {task}");
    }
}
