//! What a bot's process gives up whatever the kernel has: privileges, and resources without end.

use deia::config::Limits;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use signal_hook::consts::SIGXFSZ;

/// Threads for each process that `limits.processes` allows.
const THREADS: u64 = 4;

/// Threads that the daemon's user may have besides: the daemon's, and those of an operator.
const OTHERS: u64 = 2048;

const MIB: u64 = 1 << 20;

/// What root has after it gave up its powers.
pub const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// Gives them up. RLIMIT_NPROC counts a whole user's threads (and not root's), so it only keeps a fleet
/// from taking the host's: `fleet_processes` is what `limits.processes` comes to over all its bots.
/// Returns what was given up, for people.
///
/// # Errors
/// What could not be given up, and why.
pub fn give_up(limits: &Limits, fleet_processes: u64) -> Result<Vec<&'static str>, String> {
    let mut words = vec!["no_new_privs"];
    rustix::thread::set_no_new_privs(true).map_err(|e| format!("no_new_privs: {e}"))?;
    if drop_capabilities()? {
        words.push("no capabilities");
    }
    // What it makes is nothing to other users, whatever the daemon was started with.
    let given = rustix::process::umask(Mode::empty());
    rustix::process::umask(given | Mode::RWXO);
    lower(Resource::Core, 0).map_err(|e| format!("RLIMIT_CORE 0: {e}"))?;
    let files = u64::from(limits.open_files);
    lower(Resource::Nofile, files).map_err(|e| format!("RLIMIT_NOFILE {files}: {e}"))?;
    let bytes = limits.disk_mb.max(u64::from(limits.output_mb)) * MIB;
    lower(Resource::Fsize, bytes).map_err(|e| format!("RLIMIT_FSIZE {bytes}: {e}"))?;
    // The bot itself must not be ended by it when what it prints fills its file. What it starts is:
    // a handler, unlike SIG_IGN, is not inherited.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())
        .map_err(|e| format!("no signal handler: {e}"))?;
    let threads = fleet_processes
        .saturating_mul(THREADS)
        .saturating_add(threads_of_the_host() + OTHERS);
    lower(Resource::Nproc, threads).map_err(|e| format!("RLIMIT_NPROC {threads}: {e}"))?;
    words.push("rlimits");
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| format!("child subreaper: {e}"))?;
    Ok(words)
}

/// Root's powers over what is not its own, some of which reach past Landlock. Those that only come with a program that is started
/// (setuid root) are shut out by no_new_privs. Returns whether there were any.
fn drop_capabilities() -> Result<bool, String> {
    let failed = |e: rustix::io::Errno| format!("capabilities: {e}");
    let had = capabilities(None).map_err(failed)?;
    if had == NO_CAPABILITIES {
        return Ok(false);
    }
    set_capabilities(None, NO_CAPABILITIES).map_err(failed)?;
    Ok(true)
}

/// Threads there are now, whoever's: the limit counts all of a user's, those of before too.
fn threads_of_the_host() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut fields = text.split_whitespace();
    let total = fields
        .nth(3)
        .and_then(|running_of_all| running_of_all.split_once('/'));
    total.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
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
