//! The exec itself, forwards and back.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::guard;
use super::handover::{HANDOVER_VARIABLE, Handover};
use super::ledger::Attempt;
use super::releases::Releases;
use crate::fleet::pids::BotPids;

/// A daemon that is ready to become another release: everything is finished and closed but what is
/// handed over.
#[derive(Debug)]
pub struct Departure {
    /// What is handed over.
    pub handover: Handover,
    /// The switch.
    pub attempt: Attempt,
    /// The ledger.
    pub releases: Releases,
    /// Under whose lock children are started.
    pub pids: BotPids,
}

impl Departure {
    /// Notes the switch, so that it can be undone, and starts who watches it.
    ///
    /// # Errors
    /// When it can't be noted: then it must not be made ([`Departure::stay`]).
    pub fn prepare(&mut self) -> io::Result<()> {
        self.releases.begin(&self.attempt)?;
        deia::failpoint!("upgrade.noted");
        match guard::start(&self.handover, &self.attempt, &self.releases, &self.pids) {
            Ok(guard) => self.handover.guard = Some(guard),
            Err(e) => {
                tracing::warn!(event = "upgrade_unguarded", error = %e, "nobody watches the switch; a release that hangs will not be left by itself");
            }
        }
        deia::failpoint!("upgrade.guarded");
        Ok(())
    }

    /// Becomes the new release; when that can't be, this release again. Returns only when neither can
    /// be executed. Call with the daemon's signals blocked ([`crate::sigmask::block`]) and none of them
    /// taken and not acted on: the next process gets what waits.
    pub fn depart(&self) -> io::Error {
        let error = match become_release(&self.attempt.to, Some(&self.handover), &self.pids) {
            Ok(never) => match never {},
            Err(e) => format!("{} can't be executed: {e}", self.attempt.to.display()),
        };
        self.stay(&error)
    }

    /// Becomes this release again, as [`Departure::depart`] does when the new one can't be executed.
    pub fn stay(&self, why: &str) -> io::Error {
        back(
            &self.handover,
            &self.releases,
            &self.attempt.from,
            why,
            &self.pids,
        )
    }
}

/// A new release can't run: leaves it again. Returns only when the one before can't be executed.
pub fn go_back(handover: &Handover, releases: &Releases, why: &str) -> io::Error {
    match releases.fail(why) {
        Some(attempt) => back(handover, releases, &attempt.from, why, &BotPids::default()),
        None => io::Error::other(format!("{why}; and there is no release to go back to")),
    }
}

fn back(
    handover: &Handover,
    releases: &Releases,
    to: &Path,
    why: &str,
    pids: &BotPids,
) -> io::Error {
    tracing::error!(event = "upgrade_failed", reason = why, path = %to.display(), "the new release is left; going on with the one before");
    drop(releases.fail(why));
    match become_release(to, Some(handover), pids) {
        Ok(never) => match never {},
        Err(e) => io::Error::other(format!(
            "{why}; and the release before, {}, can't be executed: {e}",
            to.display()
        )),
    }
}

/// Executes a release in this process: the same arguments, the same environment, and what is handed
/// over, if anything is.
///
/// # Errors
/// When it can't be executed; this process goes on then.
pub fn become_release(
    release: &Path,
    handover: Option<&Handover>,
    pids: &BotPids,
) -> io::Result<Infallible> {
    let arguments = match handover {
        Some(handover) => handover.arguments.clone(),
        None => std::env::args_os().collect(),
    };
    let arguments = arguments
        .into_iter()
        .map(|argument| CString::new(argument.into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let path = CString::new(release.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let Some(handover) = handover else {
        return execve(&path, &arguments, Given::Nothing);
    };
    // A standard input is inherited by whoever is started meanwhile: nobody is.
    pids.while_nothing_starts(|| {
        let own = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(handover.send()?)?;
        let failed = execve(&path, &arguments, Given::Handover);
        rustix::stdio::dup2_stdin(own)?;
        failed
    })
}

/// What is on the standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Nothing,
    Handover,
}

fn execve(path: &CStr, arguments: &[CString], given: Given) -> io::Result<Infallible> {
    let environment = environment(given)?;
    nix::unistd::execve(path, arguments, &environment).map_err(io::Error::from)
}

fn environment(given: Given) -> io::Result<Vec<CString>> {
    let own = std::env::vars_os().filter(|(name, _)| name != HANDOVER_VARIABLE);
    let mut environment = own
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    if given == Given::Handover {
        let text = format!("{HANDOVER_VARIABLE}=stdin");
        environment.push(CString::new(text).map_err(io::Error::other)?);
    }
    Ok(environment)
}

/// The release a process of this home becomes at its start, see [`super::at_start`].
///
/// # Errors
/// When it can't be executed.
pub fn become_pinned(release: &Path) -> io::Result<Infallible> {
    become_release(release, None, &BotPids::default())
}

/// This very program again, in this process: what a restore has prepared is done at its start.
///
/// # Errors
/// When it can't be executed; this process goes on then.
pub fn become_again(handover: Option<&Handover>, pids: &BotPids) -> io::Result<Infallible> {
    // Also where the file at its path is another by now: that would be an upgrade.
    become_release(Path::new("/proc/self/exe"), handover, pids)
}
