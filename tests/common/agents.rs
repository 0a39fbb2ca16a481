//! A fleet whose bots run whatever their task says.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Daemon, PATIENCE, Process, processes_of, wait_until};

/// Where a test that needs one looks for Python.
pub const PYTHON: &str = "/usr/bin/python3";

/// A pool whose bots run their task as a shell script, and another one.
const FLEET: &str = "bot_limits: {min_bots: 2, max_bots: 2}\n\
    feature_flags: {request_validation_enabled: false}\n\
    supervision: {poison_after: 1, backoff_seconds: [0.05, 0.1], restart_intensity: {max: 100, seconds: 60}}\n\
    bots:\n\
    \x20 - {name: agent, type: general, min: 1, max: 1, max_concurrent_tasks: 1, EXTRA\
    env_files: {SECRET: \"KEY\"}, backend: {kind: command, argv: [sh, -c], input: argv, env: [PATH]}}\n\
    \x20 - {name: sibling, type: general, min: 1, max: 1, max_concurrent_tasks: 1, \
    backend: {kind: command, argv: [sh, -c], input: argv, env: [PATH]}}\n";

/// A daemon with a pool `agent` and a pool `sibling`, of one bot each.
pub struct AgentFleet {
    daemon: Daemon,
    /// The pool's secret, and what else is not the bots'.
    pub outside: TempDir,
}

impl Deref for AgentFleet {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl AgentFleet {
    /// With these keys of the pool `agent`.
    pub fn start(extra: &str) -> Self {
        Self::start_in(extra, None)
    }

    pub fn start_in(extra: &str, cgroup: Option<&Path>) -> Self {
        let outside = tempfile::tempdir().unwrap();
        let key = outside.path().join("key");
        fs::write(&key, "s3cret").unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        fs::create_dir(outside.path().join("named")).unwrap();
        fs::write(outside.path().join("named/file"), "named\n").unwrap();
        let config = FLEET
            .replace("EXTRA", extra)
            .replace("NAMED", outside.path().join("named").to_str().unwrap())
            .replace("KEY", key.to_str().unwrap());
        let mut builder = Daemon::builder().config(&config);
        if let Some(cgroup) = cgroup {
            builder = builder.env("DEIA_CGROUP", cgroup);
        }
        let daemon = builder.start();
        daemon.wait_bots(2);
        Self { daemon, outside }
    }

    /// The task, once it has ended.
    pub fn run(&self, script: &str) -> Value {
        let request = json!({"content": script, "pool": "agent", "max_attempts": 1});
        let id = self.submit_with(&request);
        self.wait_task(&id, PATIENCE)
    }

    pub fn bot(&self, id: &str) -> Value {
        self.get(&format!("/api/bots/{id}")).ok()
    }

    pub fn process(&self, bot: &str) -> Process {
        let pid = self.bot(bot)["pid"].as_u64().expect("it has a process");
        Process::of(u32::try_from(pid).unwrap()).expect("it runs")
    }

    /// A task that goes on in `sibling`, and the process that has it.
    pub fn busy_sibling(&self) -> (String, Process) {
        let script = "echo text > file; exec sleep 600";
        let id = self.submit_with(&json!({"content": script, "pool": "sibling"}));
        let sleeper = wait_until(PATIENCE, "the sibling works", || {
            let mut found = processes_of(self.home());
            found.retain(|process| process.command.starts_with("sleep 600"));
            found.pop()
        });
        (id, sleeper)
    }
}
