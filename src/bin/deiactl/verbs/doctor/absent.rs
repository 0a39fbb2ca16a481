//! What is wrong where no daemon answers: what can be seen from outside.

use std::fs;
use std::path::{Path, PathBuf};

use deia::client::{ClientError, SYSTEM_ADMIN_SOCKET, Target};
use deia::home::{self, LOCK_IN_HOME};

use super::findings::Finding;
use crate::context::Context;

/// What can be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where a daemon would be; none for the system's, whose home only root and its user may look into.
    pub home: Option<PathBuf>,
    /// There was one there once.
    pub is_home: bool,
    /// Who has the lock, in its own words; none where nobody has it.
    pub holder: Option<String>,
}

/// Looks.
pub fn look(context: &Context) -> Seen {
    let system = matches!(context.target(), Ok(Target::Socket(socket)) if socket == Path::new(SYSTEM_ADMIN_SOCKET));
    if system {
        return Seen {
            home: None,
            is_home: true,
            holder: None,
        };
    }
    let home = context.home();
    let lock = home.join(LOCK_IN_HOME);
    let held = home::is_held(&lock).unwrap_or(false);
    let holder = held.then(|| fs::read_to_string(&lock).unwrap_or_default());
    Seen {
        is_home: home.join(".deia").is_dir(),
        home: Some(home),
        holder: holder.map(|text| text.trim().to_owned()),
    }
}

/// What there is to be said.
pub fn findings(error: &ClientError, seen: &Seen) -> Vec<Finding> {
    let mut findings = vec![Finding::wrong(error.to_string())];
    findings.extend(match (&seen.home, &seen.holder) {
        (None, _) => vec![
            Finding::note("this is the system's daemon, the service `deia`")
                .remedy("`systemctl status deia` and `journalctl -u deia -n 50` say how it is; `systemctl start deia` starts it"),
        ],
        (Some(home), Some(holder)) => vec![
            Finding::wrong(format!(
                "a daemon ({holder}) has {} and does not answer: it is starting, stopping, stopped (SIGSTOP) or stuck; its bots work on",
                home.display()
            ))
            .remedy("`deiactl logs` says what it did last; if it stays like this, end it with SIGKILL and start it again: bots and tasks are taken over"),
        ],
        (Some(home), None) if seen.is_home => vec![
            Finding::note(format!("no daemon runs on {}", home.display())).remedy(format!(
                "`deiactl logs --home {0}` says what it did last; `deia run --home {0}` starts it: nothing that was accepted is lost",
                home.display()
            )),
        ],
        (Some(home), None) => vec![
            Finding::note(format!("{} is no daemon's home", home.display()))
                .remedy("name a running daemon with --home DIR or --socket PATH, or start one: `deia run --home DIR`"),
        ],
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seen: &Seen) -> String {
        let error = ClientError::Unreachable {
            target: "/h/.deia/run/admin.sock".to_owned(),
            why: "connection refused".to_owned(),
        };
        let findings = findings(&error, seen);
        assert!(findings[0].what.contains("connection refused"));
        format!("{findings:?}")
    }

    #[test]
    fn a_daemon_that_is_stuck_is_told_from_one_that_is_not_there() {
        let mut seen = Seen {
            home: Some("/h".into()),
            is_home: true,
            holder: Some("pid 7".to_owned()),
        };
        assert!(said(&seen).contains("pid 7"));
        seen.holder = None;
        assert!(said(&seen).contains("deia run --home /h"));
        seen.is_home = false;
        assert!(said(&seen).contains("is no daemon's home"));
    }
}
