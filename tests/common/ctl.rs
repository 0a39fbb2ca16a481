//! The real `deiactl`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a program came to.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Fails the test unless the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// `deiactl` in this directory, with an environment in which nothing names a daemon.
pub fn deiactl_command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deiactl"));
    command
        .current_dir(directory)
        .env_remove("DEIA_HOME")
        .env_remove("DEIA_SOCKET")
        .stdin(Stdio::null());
    command
}

/// Runs `deiactl` to its end.
pub fn deiactl(directory: &Path, arguments: &[&str]) -> Output {
    finish(deiactl_command(directory).args(arguments))
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Output {
    let done = command.output().expect("deiactl starts");
    Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8(done.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}
