//! A machine with a real systemd as its process 1: this host's Debian, booted in a container of its own.
//!
//! ```text
//!   test --pipe--> guardian.sh --> systemd-nspawn --> systemd, journald, deia.service
//!                    kills it when the pipe is closed: whatever ends the test ends the machine
//! ```
//!
//! The tree is made once by debootstrap and kept beside the build; each boot has a fresh layer in memory
//! above it. One machine serves all tests of a program, one after the other; each finds a service that was
//! never started. Where there can be none (not root, no debootstrap) the tests say so and pass.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::{Output, Process, ctl, descendants, skipped, wait_until};

/// How long booting, and any one command, may take.
const MACHINE_PATIENCE: Duration = Duration::from_secs(90);

/// What a minimal Debian lacks.
const PACKAGES: &str = "systemd,systemd-sysv";

/// What the package will install, from here to there.
const FILES: [(&str, &str); 3] = [
    (
        "systemd/deia.service",
        "usr/lib/systemd/system/deia.service",
    ),
    (
        "systemd/sysusers.d/deia.conf",
        "usr/lib/sysusers.d/deia.conf",
    ),
    (
        "systemd/tmpfiles.d/deia.conf",
        "usr/lib/tmpfiles.d/deia.conf",
    ),
];

/// Everything of an earlier test, also what a killed daemon has left, is gone afterwards.
const CLEAN: &str = "\
    systemctl kill --kill-who=all -s KILL deia; systemctl stop deia
    umount -q /var/lib/deia
    rm -rf /run/systemd/system/deia.service.d /run/deia /var/lib/deia /var/cache/deia /etc/deia
    systemctl daemon-reload; systemctl reset-failed deia
    systemd-tmpfiles --create deia.conf
    for wait in 1 2 3 4 5 6 7 8 9; do
        [ -e /sys/fs/cgroup/system.slice/deia.service ] || break; sleep 0.2
    done
    journalctl --quiet --sync; journalctl --quiet --rotate --vacuum-time=1us";

/// Starts the machine, and ends it with this process.
const GUARDIAN: &str = include_str!("guardian.sh");

/// The booted machine. Its processes are this host's too.
pub struct Machine {
    init: Process,
    _guardian: Child,
    _alone: Flock<File>,
}

static MACHINE: Mutex<Option<Result<Machine, String>>> = Mutex::new(None);

/// Runs a test's story on the machine, with `/etc/deia/bot-config.yaml` as given and the service not yet
/// started. Where there is no machine, the test says `SKIPPED`.
pub fn on_machine(test: &str, config: &str, story: impl FnOnce(&Machine)) {
    let mut held = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    match held.get_or_insert_with(Machine::with_the_service) {
        Ok(machine) => {
            machine.sh(CLEAN);
            machine.write("/etc/deia/bot-config.yaml", config);
            let _shown = ShowJournal(machine);
            story(machine);
        }
        Err(why) => skipped(test, why),
    }
}

/// Runs a test's story on a machine that nothing of deia was ever on, but for these files in its `/root`.
pub fn on_bare_machine(test: &str, files: &[PathBuf], story: impl FnOnce(&Machine)) {
    let mut held = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(held.is_none(), "one bare machine a program");
    match held.insert(Machine::boot(|stage| {
        let root = stage.join("root");
        fs::create_dir_all(&root).expect("a directory");
        for file in files {
            fs::copy(file, root.join(file.file_name().expect("a file"))).expect("its copy");
        }
    })) {
        Ok(machine) => {
            let _shown = ShowJournal(machine);
            story(machine);
        }
        Err(why) => skipped(test, why),
    }
}

impl Machine {
    /// With what a package will install.
    fn with_the_service() -> Result<Self, String> {
        let machine = Self::boot(the_service)?;
        machine.sh_ok("systemctl daemon-reload && systemd-sysusers deia.conf");
        machine.sh_ok("useradd --groups deia helper");
        Ok(machine)
    }

    /// Boots it with these files in place.
    fn boot(files: impl FnOnce(&Path)) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can boot a machine".into());
        }
        for tool in ["debootstrap", "systemd-nspawn", "nsenter", "unshare"] {
            let found = Command::new(tool).arg("--version").output();
            found.map_err(|e| format!("{tool}: {e}"))?;
        }
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine");
        fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
        let lock = File::create(place.join("lock")).expect("a lock file");
        let alone = Flock::lock(lock, FlockArg::LockExclusive).expect("the lock");
        let tree = tree(&place)?;
        let stage = place.join("stage");
        let _ = fs::remove_dir_all(&stage);
        fs::create_dir_all(&stage).expect("a directory");
        files(&stage);
        let log = place.join("console.log");
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&log)
            .args(["systemd-nspawn", "--quiet", "--boot", "--volatile=overlay"])
            .args(["--register=no", "--keep-unit", "--private-network"])
            .args(["--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            // The filter that counts is the unit's.
            .arg("--system-call-filter=@known")
            .arg(format!("--machine=deia-test-{}", std::process::id()))
            .arg(format!("--directory={}", tree.display()))
            .arg(format!("--bind-ro={}:/stage", stage.display()))
            // As Debian boots, whatever this host has.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let nspawn = first_line(&mut guardian).parse().expect("a pid");
        let init = wait_until(MACHINE_PATIENCE, "the machine boots or fails", || {
            if Process::of(nspawn).is_none() {
                return Some(None);
            }
            descendants(nspawn)
                .into_iter()
                .find(|p| pid_inside(p) == Some(1))
                .map(Some)
        });
        let Some(init) = init else {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("systemd-nspawn: {said}"));
        };
        let machine = Self {
            init,
            _guardian: guardian,
            _alone: alone,
        };
        wait_until(MACHINE_PATIENCE, "the machine has booted", || {
            let state = machine.run(&["systemctl", "is-system-running"]).stdout;
            ["running", "degraded"]
                .contains(&state.trim())
                .then_some(())
        });
        machine.lend();
        machine.sh_ok("cp -r /stage/. /");
        Ok(machine)
    }

    /// Hands on what the guardian has lent, where there was something.
    fn lend(&self) {
        let groups =
            fs::read_to_string(format!("/proc/{}/cgroup", self.init.pid)).unwrap_or_default();
        let path = groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap_or_default();
        let own = path.trim_end_matches("/payload/init.scope");
        for hierarchy in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            let _ = fs::write(
                format!("{hierarchy}{own}/cgroup.subtree_control"),
                "+hugetlb",
            );
        }
    }

    /// Runs a command in the machine, as root.
    pub fn run(&self, command: &[&str]) -> Output {
        let seconds = MACHINE_PATIENCE.as_secs().to_string();
        let mut entering = Command::new("timeout");
        entering
            .args(["--signal=KILL", &seconds, "nsenter", "--all", "--target"])
            .arg(self.init.pid.to_string())
            .arg("--")
            .args(command)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        ctl::finish(&mut entering)
    }

    /// Runs a script in the machine.
    pub fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-c", script])
    }

    /// The same, which must succeed; what it printed.
    #[track_caller]
    pub fn sh_ok(&self, script: &str) -> String {
        self.sh(script).ok().stdout
    }

    /// Runs `deiactl` in the machine, as root.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.run(&[&["deiactl"], arguments].concat())
    }

    /// Has this thread use the machine's network: its loopback is the machine's from now on.
    pub fn enter_network(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.init.pid)).expect("its network");
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter");
    }

    /// Writes a file that the service may read.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Where the host finds a path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init.pid))
    }

    /// Changes the unit, as an operator does.
    #[track_caller]
    pub fn drop_in(&self, name: &str, text: &str) {
        let directory = "/run/systemd/system/deia.service.d";
        fs::create_dir_all(self.path(directory)).expect("a directory");
        self.write(&format!("{directory}/{name}.conf"), text);
        self.sh_ok("systemctl daemon-reload");
    }

    /// What systemd says of the service.
    #[track_caller]
    pub fn show(&self, property: &str) -> String {
        let shown = self.run(&["systemctl", "show", "deia", "--value", "-p", property]);
        shown.ok().stdout.trim().to_owned()
    }

    /// The daemon, as a process of this host, once it is ready.
    #[track_caller]
    pub fn daemon(&self) -> Process {
        wait_until(MACHINE_PATIENCE, "the service is active", || {
            // Asked for in one piece: the daemon may be started anew meanwhile.
            let shown = self.run(&[
                "systemctl",
                "show",
                "deia",
                "-p",
                "ActiveState",
                "-p",
                "MainPID",
            ]);
            let text = shown.stdout;
            let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
            let pid: u32 = field("MainPID=")?.parse().ok()?;
            let all = descendants(self.init.pid).into_iter();
            (field("ActiveState=")? == "active").then_some(())?;
            all.into_iter()
                .find(|process| pid_inside(process) == Some(pid))
        })
    }

    /// The daemon after this one.
    #[track_caller]
    pub fn daemon_after(&self, before: &Process) -> Process {
        wait_until(MACHINE_PATIENCE, "systemd starts the daemon again", || {
            let daemon = self.daemon();
            (daemon.started != before.started || daemon.pid != before.pid).then_some(daemon)
        })
    }

    /// What still runs in the service's control group, as this host sees it.
    pub fn processes_of_service(&self) -> Vec<Process> {
        let group = "/sys/fs/cgroup/system.slice/deia.service";
        let listed = self
            .sh(&format!("cat $(find {group} -name cgroup.procs)"))
            .stdout;
        let inside: Vec<u32> = listed.lines().filter_map(|pid| pid.parse().ok()).collect();
        let mut all = descendants(self.init.pid);
        all.retain(|process| pid_inside(process).is_some_and(|pid| inside.contains(&pid)));
        all
    }

    /// The service's lines in the journal.
    pub fn journal(&self, matches: &[&str]) -> String {
        self.run(&["journalctl", "--sync"]);
        let command = ["journalctl", "--quiet", "--no-pager", "-u", "deia.service"];
        self.run(&[&command, matches].concat()).stdout
    }
}

/// What happened, where a test has failed.
struct ShowJournal<'a>(&'a Machine);

impl Drop for ShowJournal<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self
                .0
                .sh("systemctl status --no-pager --lines=0 deia")
                .stdout;
            eprintln!("{status}\n{}", self.0.journal(&["-b", "-n", "60"]));
        }
    }
}

/// A minimal Debian of this host's release, made the first time.
fn tree(place: &Path) -> Result<PathBuf, String> {
    let (mirror, suite) = mirror()?;
    let tree = place.join(&suite);
    if tree.exists() {
        return Ok(tree);
    }
    let begun = tempfile::Builder::new().prefix("making-").tempdir_in(place);
    let begun = begun.map_err(|e| e.to_string())?;
    // In a mount namespace of its own: what it mounts while it works ends with it.
    let made = Command::new("unshare")
        .args(["--mount", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={PACKAGES}"))
        .arg(&suite)
        .arg(begun.path())
        .arg(&mirror)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .map_err(|e| format!("debootstrap: {e}"))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stdout);
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("debootstrap {suite} from {mirror}: {last}"));
    }
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(begun.path(), open).map_err(|e| e.to_string())?;
    fs::rename(begun.keep(), &tree).map_err(|e| e.to_string())?;
    Ok(tree)
}

/// Where this host's own packages come from, and its release.
fn mirror() -> Result<(String, String), String> {
    let release = fs::read_to_string("/etc/os-release").map_err(|e| e.to_string())?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.ok_or("/etc/os-release names no release")?;
    let asked = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(SITE) $(RELEASE) $(COMPONENT)",
        ])
        .output()
        .map_err(|e| format!("apt-get: {e}"))?;
    let said = String::from_utf8_lossy(&asked.stdout);
    let main = format!(" {suite} main");
    let site = said.lines().find_map(|line| line.strip_suffix(&main));
    let site = site.ok_or(format!("apt's sources have no {suite} main"))?;
    Ok((site.to_owned(), suite.to_owned()))
}

/// The files of a package, with this build's programs, without what only a debugger reads.
fn the_service(stage: &Path) {
    let programs = stage.join("usr/bin");
    fs::create_dir_all(&programs).expect("a directory");
    for name in ["deia", "deiactl"] {
        let program = Path::new(env!("CARGO_BIN_EXE_deiactl")).with_file_name(name);
        let there = programs.join(name);
        let stripped = Command::new("strip")
            .arg("-o")
            .arg(&there)
            .arg(&program)
            .status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(&program, &there).expect("cargo build --workspace");
        }
    }
    for (here, there) in FILES {
        let (here, there) = (
            Path::new(env!("CARGO_MANIFEST_DIR")).join(here),
            stage.join(there),
        );
        fs::create_dir_all(there.parent().expect("a directory")).expect("a directory");
        fs::copy(&here, &there).unwrap_or_else(|e| panic!("{}: {e}", here.display()));
    }
}

fn first_line(process: &mut Child) -> String {
    let stdout = process.stdout.as_mut().expect("its output");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

/// The pid a process of the machine has in the machine.
fn pid_inside(process: &Process) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    // As each pid namespace has it, this host's first.
    pids.split_whitespace().skip(1).last()?.parse().ok()
}
