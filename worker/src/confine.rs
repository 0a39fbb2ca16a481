//! What a bot process gives up before it takes work, and what it takes on: the children of its
//! children.

use deia::config::{Landlock, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Applies `limits` to this process and all it will start, and makes it the reaper of its
/// descendants. Call before any thread or child exists: both inherit.
///
/// # Errors
/// What could not be applied and why, for people. The bot must not take work then.
pub fn apply(limits: &Limits) -> Result<String, String> {
    if limits.landlock == Landlock::Required {
        return Err(
            "limits.landlock is 'required', but bots are not confined by Landlock in this \
                    version: use 'best_effort' or 'off'"
                .into(),
        );
    }
    rustix::thread::set_no_new_privs(true).map_err(|e| format!("no_new_privs: {e}"))?;
    lower(Resource::Core, 0).map_err(|e| format!("RLIMIT_CORE 0: {e}"))?;
    let files = u64::from(limits.open_files);
    lower(Resource::Nofile, files).map_err(|e| format!("RLIMIT_NOFILE {files}: {e}"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| format!("child subreaper: {e}"))?;
    Ok("no_new_privs, rlimits".into())
}

/// Sets both limits to `wanted`, or to the hard limit where that is lower already.
fn lower(resource: Resource, wanted: u64) -> rustix::io::Result<()> {
    let hard = getrlimit(resource).maximum;
    let value = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
    setrlimit(
        resource,
        Rlimit {
            current: value,
            maximum: value,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_that_must_be_confined_and_is_not_does_not_start() {
        let limits = Limits {
            landlock: Landlock::Required,
            ..Limits::default()
        };
        assert!(apply(&limits).unwrap_err().contains("best_effort"));
    }
}
