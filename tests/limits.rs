//! What ends a bot that takes too much, and what is said of it. A test that needs what is not there says
//! `SKIPPED` and its name.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use common::{AgentFleet, PATIENCE, PYTHON, processes_of, wait_until};
use serde_json::{Value, json};

/// The bot `agent` is ended for this; its task says why, and another bot does the next task.
fn is_ended(fleet: &AgentFleet, script: &str, cause: &str, words: &str) -> Duration {
    let before = fleet.process("agent");
    let id = fleet.submit_with(&json!({"content": script, "pool": "agent"}));
    let began = wait_until(PATIENCE, "it is over its limit", || {
        let output = fleet.get(&format!("/api/tasks/{id}/output")).ok();
        let begun = output["output"].to_string().contains("begun");
        // Some are ended before anybody reads what they say.
        (begun || !before.is_alive()).then(Instant::now)
    });
    wait_until(PATIENCE, "the bot is ended", || {
        (!before.is_alive()).then_some(())
    });
    let took = began.elapsed();
    let task = fleet.wait_task(&id, PATIENCE);
    assert_eq!(task["status"], "dead", "{task}");
    let error = task["error"].as_str().unwrap();
    assert!(error.contains(words), "{error}");
    assert!(
        error.contains("poison_after"),
        "it counts as a bot lost: {error}"
    );
    fleet.wait_bots(2);
    let bot = fleet.bot("agent");
    assert_eq!(bot["last_exit"]["cause"], cause, "{bot}");
    wait_until(PATIENCE, "nothing of it is left", || {
        let mut left = processes_of(fleet.home());
        let known = [
            fleet.pid(),
            fleet.process("agent").pid,
            fleet.process("sibling").pid,
        ];
        left.retain(|process| !known.contains(&process.pid));
        left.is_empty().then_some(())
    });
    let next = fleet.run("echo next");
    assert_eq!(next["result"]["output"], "next\n", "{next}");
    took
}

/// "About a second": a generous bound for a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// Shown to fail without the watch over limits (`LimitWatch::busy` made empty): the bots are not ended.
#[test]
fn a_bot_that_takes_too_much_memory_is_ended_and_it_is_said() {
    let _peace = peace();
    if !Path::new(PYTHON).exists() {
        println!(
            "SKIPPED a_bot_that_takes_too_much_memory_is_ended_and_it_is_said: needs {PYTHON}"
        );
        return;
    }
    let fleet = AgentFleet::start("limits: {memory_mb: 80}, ");
    let script = format!(
        "{PYTHON} -u -c 'import time; print(\"begun\"); x = b\"x\" * (200 << 20); time.sleep(600)'"
    );
    let took = is_ended(&fleet, &script, "memory_limit", "limits.memory_mb is 80");
    println!("ended {took:?} after it had too much");
    assert!(took < SOON, "{took:?}");
}

/// Shown to fail on a daemon that watches nobody, within a control group that bounded the bomb.
#[test]
fn a_fork_bomb_is_ended_with_all_its_processes() {
    let _alone = alone();
    // Landlock lets them be ended in one act. Without it they are stopped one by one, which is a race
    // that a quick one may win for a while.
    for (landlock, bombs) in [("best_effort", &BOMBS[..2]), ("off", &BOMBS[2..])] {
        let limits = format!("limits: {{processes: 60, landlock: {landlock}}}, ");
        let fleet = AgentFleet::start(&limits);
        let armed = Armed(fleet.home().to_owned());
        for bomb in bombs {
            let bomb = armed.bomb(bomb);
            let took = is_ended(&fleet, &bomb, "process_limit", "limits.processes is 60");
            println!("landlock {landlock}: ended {took:?} after it began");
        }
    }
}

/// Each process makes two and is gone; each makes two in sessions of their own after a moment, and is
/// gone; each makes two after a moment, and waits.
const BOMBS: [&str; 3] = [
    "b() { ARMED || exit; b | b & }; b; sleep 600",
    "cat > comet <<'END'\nARMED || exit\nsleep 0.3; for n in 1 2; do setsid sh comet & done\nEND\nsh comet; sleep 600",
    "b() { ARMED || exit; sleep 0.1; b & b & wait; }; b",
];

/// How long a bomb goes on at most.
const FUSE: Duration = Duration::from_secs(15);

/// Held by a test that sets off a bomb, and by each that has to be on time.
static PEACE: RwLock<()> = RwLock::new(());

fn alone() -> RwLockWriteGuard<'static, ()> {
    PEACE.write().unwrap_or_else(PoisonError::into_inner)
}

fn peace() -> RwLockReadGuard<'static, ()> {
    PEACE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A bomb that nothing ends makes no more processes when the test gives up (it is gone with a file), nor
/// after [`FUSE`], should the test be gone itself.
struct Armed(PathBuf);

impl Armed {
    fn bomb(&self, bomb: &str) -> String {
        let file = self.0.join("files/armed");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let now: u64 = uptime.split('.').next().unwrap().parse().unwrap();
        let until = now + FUSE.as_secs();
        // What the shell can do without another process.
        let armed = format!(
            "read up idle < /proc/uptime; [ -e {} ] && [ ${{up%.*}} -lt {until} ]",
            file.display()
        );
        format!("echo begun; {}", bomb.replace("ARMED", &armed))
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("files/armed"));
    }
}

/// Shown to fail on a daemon that finds no disk full.
#[test]
fn a_bot_that_fills_the_disk_is_ended() {
    let _peace = peace();
    let fleet = AgentFleet::start("limits: {disk_mb: 16}, ");
    let fills =
        "n=0; while :; do head -c 1000000 /dev/zero > $n 2>/dev/null; n=$((n+1)); sleep 0.01; done";
    let work = format!("echo begun; {fills}");
    is_ended(&fleet, &work, "disk_limit", "limits.disk_mb is 16");
    let home = format!("echo begun; cd; {fills}");
    is_ended(&fleet, &home, "disk_limit", "its HOME and temporary files");
    let home = fleet.home().join(".deia/bots/agent/home");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "HOME begins anew");
    let temporary = format!("echo begun; cd $TMPDIR; {fills}");
    is_ended(
        &fleet,
        &temporary,
        "disk_limit",
        "its HOME and temporary files",
    );
    if Path::new(PYTHON).exists() {
        let nameless = format!(
            "{PYTHON} -u -c 'import os, time; print(\"begun\")\nfiles = []\nwhile True:\n f = open(\"f\", \"wb\"); os.unlink(\"f\"); f.write(b\"x\" * (4 << 20)); f.flush(); files.append(f); time.sleep(0.05)'"
        );
        is_ended(&fleet, &nameless, "disk_limit", "files that it deleted");
    }
}

/// A directory that a test may fill with cgroups of its own.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Where this machine has a cgroup v2 and the test may divide it.
    fn make() -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = roots
            .into_iter()
            .find(|root| Path::new(root).join("cgroup.procs").exists())?;
        let name = format!("deia-test-{}-{}", std::process::id(), fastrand::u32(..));
        let path = Path::new(root).join(name);
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fn remove(path: &Path) {
            for below in fs::read_dir(path).into_iter().flatten().flatten() {
                if below.path().is_dir() {
                    remove(&below.path());
                }
            }
            let _ = fs::remove_dir(path);
        }
        remove(&self.0);
    }
}

/// Shown to fail on a daemon that moves no process there.
#[test]
fn bots_are_in_cgroups_of_their_own_where_one_is_given() {
    let _alone = alone();
    let Some(cgroup) = Cgroup::make() else {
        println!(
            "SKIPPED bots_are_in_cgroups_of_their_own_where_one_is_given: no cgroup v2 that may be divided"
        );
        return;
    };
    let fleet = AgentFleet::start_in("limits: {processes: 60, memory_mb: 80}, ", Some(&cgroup.0));
    let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let name = cgroup.0.file_name().unwrap().to_str().unwrap();
    assert!(of(fleet.pid()).contains(&format!("{name}/daemon\n")));
    for bot in ["agent", "sibling"] {
        let process = fleet.process(bot);
        wait_until(PATIENCE, "it is in its cgroup", || {
            of(process.pid)
                .contains(&format!("{name}/bots/{bot}\n"))
                .then_some(())
        });
        let sandbox = fleet.bot(bot)["sandbox"].to_string();
        assert!(sandbox.contains(", cgroup"), "{sandbox}");
    }
    let confinement = fleet.get("/status").ok()["confinement"].clone();
    assert_eq!(
        confinement["cgroup"],
        cgroup.0.to_str().unwrap(),
        "{confinement}"
    );
    println!("controllers: {}", confinement["cgroup_controllers"]);
    // What a task starts is there too, also what left its session and its parents.
    let script = "setsid sh -c 'sleep 601 & sleep 601' & sleep 0.2; cat /proc/self/cgroup";
    let task = fleet.run(script);
    let said = task["result"]["output"].as_str().unwrap_or_default();
    assert!(said.contains(&format!("{name}/bots/agent")), "{task}");
    let armed = Armed(fleet.home().to_owned());
    let bomb = armed.bomb(BOMBS[0]);
    is_ended(&fleet, &bomb, "process_limit", "limits.processes");
    // With the controller, the kernel itself ends what takes too much memory.
    if Path::new(PYTHON).exists() {
        let hog = "import time; print(\"begun\"); x = b\"x\" * (200 << 20); time.sleep(600)";
        let hog = format!("{PYTHON} -u -c '{hog}'");
        is_ended(&fleet, &hog, "memory_limit", "limits.memory_mb");
    }
    // A bot that is stopped leaves no cgroup.
    fleet.ctl(&["bot", "stop", "agent"]).ok();
    wait_until(PATIENCE, "its cgroup is gone", || {
        (!cgroup.0.join("bots/agent").exists()).then_some(())
    });
}

#[test]
fn without_a_word_of_it_the_hosts_cgroups_are_left_alone() {
    let _peace = peace();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let fleet = AgentFleet::start("");
    for pid in [fleet.pid(), fleet.process("agent").pid] {
        let theirs = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert_eq!(theirs, own);
    }
    let confinement = fleet.get("/status").ok()["confinement"].clone();
    assert_eq!(confinement["cgroup"], Value::Null);
    let remedies = confinement["missing"].to_string();
    assert!(remedies.contains("Delegate=yes"), "{remedies}");
}

/// A cgroup v1 with little memory, in which the kernel itself ends the bot. Shown to fail on a daemon that
/// does not ask the kernel's count and log.
#[test]
fn a_bot_that_the_kernel_ends_for_want_of_memory_is_told_from_one_that_was_killed() {
    let _peace = peace();
    let name = format!("deia-test-{}", std::process::id());
    let v1 = Path::new("/sys/fs/cgroup/memory").join(name);
    if !Path::new(PYTHON).exists() || fs::create_dir(&v1).is_err() {
        println!(
            "SKIPPED a_bot_that_the_kernel_ends_for_want_of_memory_is_told_from_one_that_was_killed: no cgroup v1 for memory, or no {PYTHON}"
        );
        return;
    }
    fs::write(v1.join("memory.limit_in_bytes"), "40000000").unwrap();
    let fleet = AgentFleet::start("");
    let killed = fleet.process("agent");
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    let bot = wait_until(PATIENCE, "it is there again", || {
        let bot = fleet.bot("agent");
        (bot["actual"] == "ready" && bot["restarts"] == 1).then_some(bot)
    });
    assert_eq!(bot["last_exit"]["cause"], "signal", "{bot}");

    let bot = fleet.process("agent");
    fs::write(v1.join("cgroup.procs"), bot.pid.to_string()).unwrap();
    let script = format!(
        "touch started; while [ ! -e go ]; do sleep 0.05; done; for n in 1 2 3 4; do \
         {PYTHON} -c 'import time; x = b\"x\" * (15 << 20); time.sleep(60)' & done; wait"
    );
    let id = fleet.submit_with(&json!({"content": script, "pool": "agent"}));
    let work = fleet.home().join(".deia/work").join(&id);
    wait_until(PATIENCE, "the task runs", || {
        work.join("started").exists().then_some(())
    });
    // The bot, and not what it started, is the one to go: of four that share the memory each has less.
    fs::write(format!("/proc/{}/oom_score_adj", bot.pid), "1000").unwrap();
    fs::write(work.join("go"), "").unwrap();
    let task = fleet.wait_task(&id, PATIENCE);
    let bot = fleet.bot("agent");
    wait_until(PATIENCE, "the cgroup is empty", || fs::remove_dir(&v1).ok());
    assert_eq!(bot["last_exit"]["cause"], "oom", "{bot} {task}");
    assert!(
        task["error"]
            .as_str()
            .unwrap()
            .contains("ran out of memory"),
        "{task}"
    );
}

/// Idle means idle: what looks twice a second while bots work sleeps when none does. Shown to
/// fail on a watch that lets go of nobody.
#[test]
fn nobody_is_looked_at_while_nobody_works() {
    let _peace = peace();
    let fleet = AgentFleet::start("");
    assert_eq!(fleet.run("echo work")["status"], "succeeded");
    let threads = ["deia-limits", "deia-disk", "deia-end"];
    let wakes = || -> Vec<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", fleet.pid())).unwrap();
        let of_each = tasks.flatten().filter_map(|task| {
            let read = |file| fs::read_to_string(task.path().join(file)).ok();
            threads
                .contains(&read("comm")?.trim())
                .then(|| read("status"))?
        });
        let count = |status: String| -> u64 {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse().unwrap()
        };
        of_each.map(count).collect()
    };
    assert_eq!(wakes().len(), threads.len());
    wait_until(PATIENCE, "they sleep for two seconds", || {
        let before = wakes();
        std::thread::sleep(Duration::from_secs(2));
        (wakes() == before).then_some(())
    });
}
