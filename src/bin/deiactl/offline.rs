//! What is done without a daemon: by the daemon's own program, `deia recover`, which takes the home's lock.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deia::api::ApiError;
use deia::client::ClientError;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Out;

/// The home of the system's daemon.
const SYSTEM_HOME: &str = "/var/lib/deia";
/// Its configuration.
const SYSTEM_CONFIG: &str = "/etc/deia/bot-config.yaml";
/// The daemon's program.
const PROGRAM: &str = "deia";

/// See the module.
pub struct Offline {
    home: PathBuf,
    config: Option<PathBuf>,
    program: PathBuf,
}

/// An answer, and as it came.
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    json: Vec<u8>,
}

/// The answer; `None` where no daemon is there to give one.
pub fn unless_there<T>(asked: Result<T, impl Into<Failure>>) -> Result<Option<T>, Failure> {
    match asked.map_err(Into::into) {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Client(ClientError::Unreachable { .. })) => Ok(None),
        Err(other) => Err(other),
    }
}

impl Offline {
    /// For the home that the flags or the surroundings name.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        if let Some(url) = &context.search.url {
            return Err(Failure::Usage(format!(
                "{url} does not answer, and without a daemon a home has to be named: --home DIR"
            )));
        }
        let named = context.search.home.is_some() || context.around.home.is_some();
        let here = context.home();
        let is_home = here.join(".deia").is_dir();
        let system = Path::new(SYSTEM_HOME);
        let (home, config) = if !named && !is_home && system.join(".deia").is_dir() {
            (system.to_owned(), Some(PathBuf::from(SYSTEM_CONFIG)))
        } else {
            (here, None)
        };
        Ok(Self {
            home,
            config: config.filter(|config| config.exists()),
            program: program(),
        })
    }

    /// Runs `deia recover` and reads its answer.
    pub fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<Answer<T>, Failure> {
        let mut command = Command::new(&self.program);
        command.arg("recover").arg("--home").arg(&self.home);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| {
                Failure::Failed(format!(
                    "no daemon answers, and {} can't be run to do it without: {e}",
                    self.program.display()
                ))
            })?;
        if let Ok(value) = serde_json::from_slice(&output.stdout) {
            return Ok(Answer {
                value,
                json: output.stdout,
            });
        }
        match serde_json::from_slice::<ApiError>(&output.stdout) {
            Ok(error) => Err(Failure::Failed(error.error)),
            Err(_) => Err(Failure::Failed(format!(
                "{} recover ended with {} and said nothing that is understood",
                self.program.display(),
                output.status
            ))),
        }
    }

    /// Prints an answer: as JSON with `--json`, else what `show` makes of it.
    pub fn print<T>(
        &self,
        out: &Out,
        answer: &Answer<T>,
        show: impl FnOnce(&T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if out.json {
            return out.json_bytes(&answer.json);
        }
        out.note(&format!(
            "no daemon answers; done without one, in {}",
            self.home.display()
        ));
        show(&answer.value)
    }
}

/// The daemon's program: beside this one, else wherever programs are.
fn program() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.map(|own| own.with_file_name(PROGRAM));
    beside
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from(PROGRAM))
}
