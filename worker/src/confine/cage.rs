//! What a command is confined to: a layer of Landlock of its own, on top of the bot's.
//!
//! ```text
//!   bot (layer 1)                     thread of one command
//!     prepare: rules -> layer ------>   apply the layer     fork, exec: the child has both layers
//!     goes on, unchanged                ends
//! ```
//!
//! A layer holds for the thread that applies it and for what that thread starts. So a thread made for
//! the purpose confines itself, starts the command and ends; the bot keeps what it needs to end what
//! it started. The command's priority is set the same way.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use deia::config::Limits;
use landlock::{ABI, RulesetCreated};

use super::grants::{Access, Grant};
use super::layer::{self, Opened, Subject};
use super::rules::{Etc, Rules};

/// Open files that are kept for the rules which every command has; with fewer to spare they are looked
/// up each time.
const KEPT: u32 = 512;

/// Builds the layers of a bot's commands.
#[derive(Debug)]
pub struct Cage {
    rules: Rules,
    /// What every command may, as it was looked up.
    common: Mutex<Common>,
    keep: bool,
    listen_ports: Vec<u16>,
    root: bool,
    newest: ABI,
}

#[derive(Debug, Default)]
struct Common {
    etc: Etc,
    opened: Vec<Opened>,
}

/// What one command is started in: with a layer, or without one where Landlock is off or not there.
#[derive(Debug, Default)]
pub struct Cell(Option<RulesetCreated>);

/// How far commands stand back (nice): the daemon, the bots and what else the host has to do go first,
/// also when a command makes processes without end.
const NICE: i32 = 10;

impl Cage {
    /// For commands of a bot with these rules. `newest` is [`layer::NEWEST`], but in tests.
    pub fn new(rules: Rules, limits: &Limits, newest: ABI) -> Self {
        Self {
            rules,
            common: Mutex::default(),
            keep: limits.open_files >= 2 * KEPT,
            listen_ports: limits.listen_ports.clone(),
            root: rustix::process::geteuid().is_root(),
            newest,
        }
    }

    /// The rules of the bot.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A layer in which `directories` may be written. Reads directories: not for the main loop.
    ///
    /// # Errors
    /// What the kernel did not take.
    pub fn prepare(&self, directories: &[PathBuf]) -> Result<Cell, String> {
        // What a panic left behind is whole, or is looked up again.
        let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        let Common { etc, opened } = &mut *common;
        if etc.look(&self.rules, self.root) {
            opened.clear();
        }
        let written = directories.iter().map(|path| Grant {
            path: path.clone(),
            access: Access::Write,
        });
        let written: Vec<Grant> = written.collect();
        let subject = Subject::Command {
            listen: &self.listen_ports,
        };
        let grants = || self.rules.of_a_command().chain(etc.grants());
        let layer = if self.keep && grants().count() <= KEPT as usize {
            if opened.is_empty() {
                opened.extend(grants().filter_map(Opened::of));
            }
            let written: Vec<Opened> = written.iter().filter_map(Opened::of).collect();
            layer::build(subject, opened.iter().chain(&written), self.newest)
        } else {
            let opened = grants().chain(&written).filter_map(Opened::of);
            layer::build(subject, opened, self.newest)
        };
        layer
            .map(|layer| Cell(Some(layer)))
            .map_err(|e| format!("cannot confine a command: {e}"))
    }
}

impl Cell {
    /// Runs `start` on a thread that is confined, and gives back what it returns.
    ///
    /// # Errors
    /// Those of `start`, and when the thread can't be made or confined.
    pub fn start<T: Send>(self, start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let confined = std::thread::Builder::new().name("deia-command".into());
            let thread = confined.spawn_scoped(scope, || {
                // Of this thread, and refused to nobody.
                let _ = rustix::process::setpriority_process(None, NICE);
                if let Some(layer) = self.0 {
                    layer.restrict_self().map_err(io::Error::other)?;
                }
                start()
            })?;
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a fault while it was being started")))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::{Command, Output};

    use deia::config::{BackendSpec, EchoSpec, Limits, Paths, Workdir};
    use deia::wire::{Places, Welcome};

    use super::super::layer::Kernel;
    use super::super::privileges::NO_CAPABILITIES;
    use super::*;

    /// A directory in which one file may be written and another is not the command's.
    struct Grounds(tempfile::TempDir);

    impl Grounds {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("work")).unwrap();
            std::fs::write(dir.path().join("foreign"), "text").unwrap();
            Self(dir)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// What a shell comes to that has to do with Landlock of this version.
        fn run(&self, newest: ABI, script: &str) -> Output {
            let root = self.0.path().to_owned();
            let welcome = Welcome {
                pool: "pool".into(),
                backend: BackendSpec::Echo(EchoSpec::default()),
                fallback: Vec::new(),
                workdir: Workdir::Fresh,
                paths: Paths::default(),
                env_files: BTreeMap::new(),
                limits: Limits::default(),
                heartbeat_ms: 1000,
                stop_timeout_ms: 1000,
                work_root: root.join("work"),
                max_concurrent_tasks: 1,
                orphan_grace_ms: 1_000,
                terms: [0; 32],
                places: Places {
                    own: root.join("own"),
                    spool: root.join("spool"),
                    daemon_home: root,
                    closed: Vec::new(),
                    fleet_processes: 1000,
                },
            };
            let cage = Cage::new(Rules::of(&welcome), &welcome.limits, newest);
            let cell = cage.prepare(&[self.path("work")]).unwrap();
            let (work, script) = (self.path("work"), script.to_owned());
            let run = move || {
                // A bot has given them up: with CAP_PERFMON the kernel shows root any environment.
                rustix::thread::set_capabilities(None, NO_CAPABILITIES)?;
                Command::new("sh")
                    .args(["-c", &script])
                    .current_dir(work)
                    .output()
            };
            cell.start(run).unwrap()
        }

        #[track_caller]
        fn does(&self, newest: ABI, script: &str) {
            let output = self.run(newest, script);
            assert!(output.status.success(), "{newest} {script}: {output:?}");
        }

        #[track_caller]
        fn is_refused(&self, newest: ABI, script: &str) {
            let output = self.run(newest, script);
            assert!(!output.status.success(), "{newest} {script}: {output:?}");
        }
    }

    /// A process that a command has nothing to do with.
    struct Victim(std::process::Child);

    impl Victim {
        fn start() -> Self {
            let mut sleep = Command::new("sleep");
            sleep.arg("600").stdout(std::process::Stdio::null());
            Self(sleep.spawn().unwrap())
        }
    }

    impl Drop for Victim {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn kernel() -> u32 {
        match Kernel::ask() {
            Kernel::Version(version) => version,
            Kernel::Without(_) => 0,
        }
    }

    /// The subset that Debian 12's kernel (Landlock 2) has, tried with the rules of that version, and
    /// each of the newer ones as far as this kernel goes.
    #[test]
    fn every_version_keeps_what_it_is_said_to_keep() {
        let grounds = Grounds::new();
        let victim = Victim::start();
        let victim = victim.0.id();
        for version in 1..=kernel().min(NEWEST_TRIED) {
            let newest = ABI::from(version as i32);
            grounds.does(newest, "echo x > file && cat file && rm file");
            grounds.does(newest, "mkdir -p a && echo x > a/b && rm -r a");
            grounds.is_refused(newest, "cat ../foreign");
            grounds.is_refused(newest, "echo x > ../foreign");
            grounds.is_refused(newest, "rm ../foreign");
            grounds.is_refused(newest, "ls ..");
            grounds.is_refused(newest, &format!("cat /proc/{victim}/environ"));
            let harmless = format!("kill -WINCH {victim}");
            if version < layer::WHOLE {
                grounds.does(newest, &harmless);
            } else {
                grounds.is_refused(newest, &harmless);
            }
            let across = "mkdir -p c d && echo x > c/f && ln c/f d/f";
            if version < 2 {
                grounds.is_refused(newest, across);
            } else {
                grounds.does(newest, across);
            }
            grounds.does(newest, "rm -rf c d");
        }
        assert_eq!(
            std::fs::read_to_string(grounds.path("foreign")).unwrap(),
            "text"
        );
    }

    /// The newest version that a kernel was at hand for.
    const NEWEST_TRIED: u32 = 7;

    #[test]
    fn the_thread_that_asked_is_not_confined() {
        let grounds = Grounds::new();
        grounds.does(layer::NEWEST, "true");
        let foreign = std::fs::read_to_string(grounds.path("foreign")).unwrap();
        assert_eq!(foreign, "text");
    }

    /// As root: what only root may read is closed, what all may read is open.
    #[test]
    fn etc_is_read_as_anybody_would() {
        if kernel() == 0 {
            println!("SKIPPED etc_is_read_as_anybody_would: this kernel has no Landlock");
            return;
        }
        let grounds = Grounds::new();
        grounds.does(layer::NEWEST, "cat /etc/passwd");
        for secret in ["/etc/shadow", "/etc/gshadow", "/etc/ssl/private/*"] {
            grounds.is_refused(layer::NEWEST, &format!("cat {secret}"));
        }
    }
}
