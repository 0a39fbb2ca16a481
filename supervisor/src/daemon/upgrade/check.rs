//! The self-check: a release tells, in a process of its own, whether it could run this home.
//!
//! It reads the configuration and opens a copy of the store, migrating it as it would the real one.
//! What it finds it prints as one line of JSON, so that an older daemon understands a newer release.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use deia::wire::PROTOCOL_VERSION;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::handover::HANDOVER_VARIABLE;
use crate::fleet::pids::BotPids;
use crate::settings::{Overrides, Settings};
use crate::store::sqlite::{SqliteStore, schema_version};

/// How long a self-check may take: it may migrate a large store.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most bytes of it that are read.
const MAX_SAID_BYTES: u64 = 64 * 1024;

/// What a release says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Its version.
    pub version: String,
    /// The protocols of bots it can take over.
    pub protocols: Vec<u8>,
    /// The schema it brings a store to.
    pub schema_version: i64,
    /// What keeps it from running this home.
    pub error: Option<String>,
}

/// What is checked, and for which home.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The release.
    pub binary: PathBuf,
    /// HOME.
    pub home: PathBuf,
    /// `--config`.
    pub config: Option<PathBuf>,
}

/// Runs a release's self-check.
///
/// # Errors
/// Why it is not fit, for people.
pub async fn run(
    subject: &Subject,
    copy: Option<&Path>,
    pids: &BotPids,
) -> Result<Findings, String> {
    let binary = subject.binary.display();
    let mut command = Command::new(&subject.binary);
    command.arg("self-check").arg("--home").arg(&subject.home);
    if let Some(config) = &subject.config {
        command.arg("--config").arg(config);
    }
    if let Some(copy) = copy {
        command.arg("--store").arg(copy);
    }
    command
        .env_remove(HANDOVER_VARIABLE)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    // Known before anybody can take it for a stray.
    let mut child = pids
        .start(|| command.spawn(), |child| child.id().unwrap_or_default())
        .map_err(|e| format!("{binary} can't be run: {e}"))?;
    let pid = child.id().unwrap_or_default();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (said, complained) = tokio::join!(read(stdout), read(stderr));
        (child.wait().await, said, complained)
    };
    let ended = tokio::time::timeout(PATIENCE, work).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    pids.remove(pid);
    let (status, said, complained) =
        ended.map_err(|_| format!("{binary}: its self-check was not done within {PATIENCE:?}"))?;
    let last = said.lines().last().unwrap_or_default();
    let findings: Findings = serde_json::from_str(last).map_err(|_| {
        let how = status.map_or_else(|e| e.to_string(), |status| status.to_string());
        let words = complained.lines().last().unwrap_or_default();
        format!("{binary} is no release of deia that can be switched to: its self-check ended with {how}, saying nothing that is understood ({words})")
    })?;
    judge(&subject.binary, findings)
}

/// Whether what it found allows a switch.
fn judge(binary: &Path, findings: Findings) -> Result<Findings, String> {
    let binary = binary.display();
    if let Some(error) = &findings.error {
        return Err(format!("{binary} ({}): {error}", findings.version));
    }
    if !findings.protocols.contains(&PROTOCOL_VERSION) {
        return Err(format!(
            "{binary} ({}) can't take over bots of this release: they speak protocol {PROTOCOL_VERSION}, it knows {:?}; drain first (deiactl drain --wait), then restart",
            findings.version, findings.protocols
        ));
    }
    Ok(findings)
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error counts.
        let _ = pipe.take(MAX_SAID_BYTES).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `deia self-check`: this release's own findings, printed.
pub fn self_check(home: &Path, config: Option<PathBuf>, copy: Option<&Path>) -> ExitCode {
    let findings = Findings {
        version: deia::VERSION.to_owned(),
        protocols: vec![PROTOCOL_VERSION],
        schema_version: schema_version(),
        error: try_it(home, config, copy).err(),
    };
    let fit = findings.error.is_none();
    let text = serde_json::to_string(&findings).unwrap_or_default();
    use std::io::Write as _;
    let said = writeln!(std::io::stdout().lock(), "{text}");
    if fit && said.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn try_it(home: &Path, config: Option<PathBuf>, copy: Option<&Path>) -> Result<(), String> {
    Settings::load(home, config, Overrides::default()).map_err(|why| why.to_string())?;
    if let Some(copy) = copy {
        let (committed, outcomes) = mpsc::channel(1);
        let store = SqliteStore::open(copy, committed).map_err(|e| e.to_string())?;
        drop(outcomes);
        crate::store::Store::close(&store);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings {
            version: "9".into(),
            protocols: vec![PROTOCOL_VERSION],
            schema_version: 1,
            error: None,
        }
    }

    async fn check(script: &str) -> Result<Findings, String> {
        let dir = tempfile::tempdir().unwrap();
        let subject = Subject {
            binary: "/bin/sh".into(),
            home: dir.path().join("script"),
            config: None,
        };
        // `sh self-check --home ...` runs a script of that name in the working directory.
        let path = dir.path().join("self-check");
        std::fs::write(&path, script).unwrap();
        let wrapper = dir.path().join("wrapper");
        std::fs::write(&wrapper, format!("#!/bin/sh\nexec sh {}\n", path.display())).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let subject = Subject {
            binary: wrapper,
            ..subject
        };
        loop {
            let result = run(&subject, None, &BotPids::default()).await;
            // A file that another test's fork still has open for writing can't be run yet.
            if !result.as_ref().is_err_and(|e| e.contains("Text file busy")) {
                return result;
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_release_or_not_fit_is_refused_by_name() {
        let ok = serde_json::to_string(&findings()).unwrap();
        assert_eq!(
            check(&format!("echo noise; echo '{ok}'")).await,
            Ok(findings())
        );
        let nothing = check("echo hello; echo oops >&2; exit 3")
            .await
            .unwrap_err();
        assert!(
            nothing.contains("no release") && nothing.contains("oops"),
            "{nothing}"
        );
        let unfit = Findings {
            error: Some("the store is of the future".into()),
            ..findings()
        };
        let unfit = serde_json::to_string(&unfit).unwrap();
        let refused = check(&format!("echo '{unfit}'; exit 1")).await.unwrap_err();
        assert!(refused.contains("of the future"), "{refused}");
        let subject = Subject {
            binary: "/nonexistent/deia".into(),
            home: "/".into(),
            config: None,
        };
        let absent = run(&subject, None, &BotPids::default()).await.unwrap_err();
        assert!(
            absent.contains("/nonexistent/deia can't be run"),
            "{absent}"
        );
    }

    #[test]
    fn a_release_that_would_leave_the_bots_behind_is_refused_with_the_remedy() {
        let other = Findings {
            protocols: vec![PROTOCOL_VERSION + 1],
            ..findings()
        };
        let error = judge(Path::new("/x/deia"), other).unwrap_err();
        assert!(error.contains("deiactl drain"), "{error}");
    }
}
