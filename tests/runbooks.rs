//! Every command in a box of the runbooks is run as it stands, on a bare machine with a real systemd: the fault is set up,
//! the page's own commands are run in their order, and it is over as the page says. A box that no story runs, and one that
//! is not in the pages any more, fail the test: shown with a box more, and on pages whose commands did not work.
//!
//! `.ci/run` builds the packages and names their directory in `DEIA_TEST_PACKAGES`; without it the test says `SKIPPED`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use common::{Machine, install, on_bare_machine, packages, skipped, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

const HOME: &str = "/var/lib/deia/.deia";

const CONFIG: &str = "\
bots:
  - {name: echo, min: 1, max: 1, backend: {kind: echo}}
bot_limits: {max_bots: 1}
rate_limits: {requests_per_minute: 0}
supervision: {stop_timeout_seconds: 5}
";

/// The pages, and the headings whose boxes are run; none: all.
const PAGES: [(&str, &[&str]); 3] = [
    (
        "RUNBOOKS.md",
        &[
            "Daemon will not start",
            "Disk full",
            "Upgrade",
            "Roll back",
            "Damaged store",
            "Restore",
        ],
    ),
    ("UPGRADING.md", &[]),
    ("DISASTER-RECOVERY.md", &[]),
];

/// A box: its page and heading, and the commands in it.
type Boxes = BTreeMap<(&'static str, String), Vec<Vec<String>>>;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn boxes() -> Boxes {
    let mut found = Boxes::new();
    for (name, headings) in PAGES {
        let text = page(name);
        let (mut heading, mut within) = (String::new(), None);
        for line in text.lines() {
            match &mut within {
                None if line == "```sh" => within = Some(Vec::new()),
                None => {
                    if let Some(title) = line.strip_prefix("## ") {
                        title.clone_into(&mut heading);
                    }
                }
                Some(commands) if line == "```" => {
                    let commands = std::mem::take(commands);
                    within = None;
                    if headings.is_empty() || headings.contains(&heading.as_str()) {
                        found
                            .entry((name, heading.clone()))
                            .or_default()
                            .push(commands);
                    }
                }
                Some(commands) => {
                    let command = line.split(" #").next().unwrap_or_default().trim();
                    if !command.is_empty() {
                        commands.push(command.to_owned());
                    }
                }
            }
        }
    }
    found
}

/// The pages' boxes, and those that were run.
struct Pages<'a> {
    machine: &'a Machine,
    boxes: Boxes,
    run: RefCell<BTreeSet<(&'static str, String, usize)>>,
}

/// What a box has come to: each command with its exit code and what it printed.
struct Ran(Vec<(String, i32, String)>);

impl Ran {
    /// What a command printed that begins so.
    #[track_caller]
    fn of(&self, command: &str) -> &str {
        let found = self.0.iter().find(|(ran, ..)| ran.starts_with(command));
        &found
            .unwrap_or_else(|| panic!("no {command} in {:?}", self.0))
            .2
    }
}

impl Pages<'_> {
    /// Runs a box, the n-th under its heading, with what stands in capitals filled in. Every command must succeed but
    /// those that begin like one of `fail`, which must not.
    #[track_caller]
    fn run(
        &self,
        name: &'static str,
        heading: &str,
        n: usize,
        filled_in: &[(&str, &str)],
        fail: &[&str],
    ) -> Ran {
        let key = (name, heading.to_owned());
        let commands = self.boxes.get(&key).and_then(|boxes| boxes.get(n));
        let commands = commands.unwrap_or_else(|| panic!("{name} has no box {n} in {heading}"));
        self.run.borrow_mut().insert((name, heading.to_owned(), n));
        let mut ran = Vec::new();
        for command in commands {
            let mut script = command.clone();
            for (word, value) in filled_in {
                script = script.replace(word, value);
            }
            let done = self.machine.sh(&format!(
                "cd /root && DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; {script}"
            ));
            let must_fail = fail.iter().any(|words| command.starts_with(words));
            assert_eq!(
                done.code != 0,
                must_fail,
                "{name}, {heading}: `{script}` ended with {}: {}{}",
                done.code,
                done.stdout,
                done.stderr
            );
            ran.push((command.clone(), done.code, done.stdout + &done.stderr));
        }
        Ran(ran)
    }

    /// Every box was run.
    fn assert_all_were_run(&self) {
        let run = self.run.borrow();
        for ((name, heading), boxes) in &self.boxes {
            for (n, commands) in boxes.iter().enumerate() {
                assert!(
                    run.contains(&(*name, heading.clone(), n)),
                    "no test runs box {n} of {heading} in {name}: {commands:?}"
                );
            }
        }
    }
}

/// A task that has run: its name.
#[track_caller]
fn done(machine: &Machine, text: &str) -> String {
    let submitted = machine
        .ctl(&["--json", "submit", "--wait", text])
        .ok()
        .json();
    let id = submitted["task_id"].as_str().unwrap().to_owned();
    assert!(is_there(machine, &id));
    id
}

fn is_there(machine: &Machine, id: &str) -> bool {
    machine.ctl(&["task", "show", id]).code == 0
}

#[track_caller]
fn backup(machine: &Machine) -> String {
    let made = machine.ctl(&["--json", "backup", "create"]).ok().json();
    made["backup_id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn await_well(machine: &Machine) {
    wait_until(PATIENCE, "nothing is wrong", || {
        (machine.ctl(&["doctor"]).code == 0).then_some(())
    });
}

/// Waits for a line of the service's: they are on their way for a moment.
#[track_caller]
fn await_journal(machine: &Machine, words: &str) {
    wait_until(PATIENCE, words, || {
        let lines = machine.journal(&["-b", "-o", "cat", "-n", "20"]);
        lines.contains(words).then_some(())
    });
}

/// The newest release that ran.
fn newest(machine: &Machine) -> Value {
    let listed = machine.ctl(&["--json", "deployments"]).ok().json();
    listed["deployments"][0].clone()
}

#[track_caller]
fn await_deployment(machine: &Machine, before: &Value) {
    wait_until(PATIENCE, "another release runs", || {
        (newest(machine)["release"] != before["release"]).then_some(())
    });
    await_well(machine);
}

#[test]
fn every_command_of_the_runbooks_does_what_its_page_says() {
    let test = "runbooks";
    let [older, newer] = match packages() {
        Ok(packages) => packages,
        Err(why) => return skipped(test, &why),
    };
    on_bare_machine(test, &[older, newer], |machine| {
        let pages = Pages {
            machine,
            boxes: boxes(),
            run: RefCell::default(),
        };
        // A disk of its own, which can be full.
        machine.sh_ok(
            "mkdir -p /var/lib/deia && mount -t tmpfs -o size=600m,mode=755 tmpfs /var/lib/deia",
        );
        // Who is asked says yes.
        machine.write(
            "/etc/apt/apt.conf.d/99yes",
            "APT::Get::Assume-Yes \"true\";\n",
        );
        install(machine, "deia.deb");
        machine.daemon();
        machine.write("/etc/deia/bot-config.yaml", CONFIG);
        machine.run(&["systemctl", "reload", "deia"]).ok();
        await_well(machine);
        known_commands(machine);

        upgrade(&pages);
        restore(&pages);
        damaged_store(&pages);
        disk_full(&pages);
        will_not_start(&pages);
        roll_back(&pages);
        pages.assert_all_were_run();
    });
}

/// What is named in running text exists, with its options.
fn known_commands(machine: &Machine) {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = 0;
    for (name, _) in PAGES {
        for marked in page(name).split('`').skip(1).step_by(2) {
            let Some(words) = marked.strip_prefix("deiactl ") else {
                continue;
            };
            let is_verb = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
            let words: Vec<&str> = words.split_whitespace().collect();
            let verb: Vec<&str> = words.iter().copied().take_while(is_verb).collect();
            let help = helps.entry(verb.join(" ")).or_insert_with(|| {
                let asked = machine.ctl(&[&verb[..], &["--help"]].concat());
                assert_eq!(asked.code, 0, "{name} names `deiactl {}`", verb.join(" "));
                asked.stdout
            });
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{name}: `{marked}`: no {option}");
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} commands were recognised");
}

/// UPGRADING.md from its beginning to its end, and the page of the runbooks.
fn upgrade(pages: &Pages<'_>) {
    let machine = pages.machine;
    let book = "UPGRADING.md";
    let kept = done(machine, "kept over all of it");
    let new = [("deia_NEW.deb", "deia-next.deb"), ("NEW", "1:0")];
    let first = newest(machine);
    pages.run(book, "Before", 0, &new, &[]);
    pages.run(book, "With the package", 0, &new, &[]);
    await_deployment(machine, &first);

    // The programs alone, as from a tarball: another time is another release.
    machine.sh_ok("dpkg-deb -x /root/deia-next.deb /root/new && cp /root/new/usr/bin/* /root");
    let before = newest(machine);
    pages.run(book, "Without the package", 0, &[], &[]);
    await_deployment(machine, &before);

    machine.sh_ok("mkdir /opt/try && cp /root/new/usr/bin/deia /opt/try/deia");
    pages.run(book, "Only to try it", 0, &[("FILE", "/opt/try/deia")], &[]);
    await_well(machine);

    // One that is not fit: the release that runs goes on.
    machine.sh_ok("cp /usr/bin/deia /root/good && printf '#!/bin/sh\\nexit 3\\n' >/root/bad && install -m 755 /root/bad /usr/bin/deia");
    assert_eq!(machine.ctl(&["upgrade"]).code, 1);
    assert!(is_there(machine, &kept));
    machine.sh_ok("install -m 755 /root/good /usr/bin/deia");
    let ran = pages.run(book, "If it fails", 0, &[], &[]);
    assert!(
        ran.of("deiactl doctor").contains("upgrade"),
        "{}",
        ran.of("deiactl doctor")
    );
    await_well(machine);
    pages.run(book, "If it fails", 1, &[], &[]);
    await_well(machine);

    let before = newest(machine);
    pages.run(book, "Back", 0, &[], &[]);
    await_deployment(machine, &before);
    pages.run(book, "Back", 1, &[("deia_OLD.deb", "deia.deb")], &[]);
    await_well(machine);
    assert!(is_there(machine, &kept));

    let before = newest(machine);
    pages.run("RUNBOOKS.md", "Upgrade", 0, &new, &[]);
    await_deployment(machine, &before);
    assert!(is_there(machine, &kept));
}

/// The page of the runbooks, and DISASTER-RECOVERY.md.
fn restore(pages: &Pages<'_>) {
    let machine = pages.machine;
    let (book, dr) = ("RUNBOOKS.md", "DISASTER-RECOVERY.md");
    let before = done(machine, "before the backup");
    let id = backup(machine);
    let after = done(machine, "after the backup");
    let there = || (is_there(machine, &before), is_there(machine, &after));
    let filled = [("ID", id.as_str())];
    let ran = pages.run(book, "Restore", 0, &filled, &[]);
    assert!(ran.of("deiactl backup list").contains(&id));
    assert_eq!(there(), (true, true));
    pages.run(book, "Restore", 1, &filled, &[]);
    assert_eq!(there(), (true, false));
    let ran = pages.run(book, "Restore", 2, &filled, &[]);
    assert!(ran.of("deiactl backup status").contains("last restore"));
    assert_eq!(there(), (true, true));

    pages.run(dr, "Restore", 0, &filled, &[]);
    assert_eq!(there(), (true, true));
    let archive = format!("{HOME}/backups/{id}.tar.gz");
    pages.run(
        dr,
        "Restore",
        1,
        &[("DIR", "/root/other"), ("FILE", &archive)],
        &[],
    );
    machine.sh_ok("test -s /root/other/.deia/state/deia.db");
    machine.sh_ok(&format!("test -e {HOME}/state"));
    pages.run(dr, "Restore", 2, &filled, &[]);
    assert_eq!(there(), (true, false));
    await_well(machine);
    machine.sh_ok(&format!("rm -rf {HOME}/state.mine"));
}

fn damaged_store(pages: &Pages<'_>) {
    let machine = pages.machine;
    let book = "RUNBOOKS.md";
    let before = done(machine, "before the damage");
    let id = backup(machine);
    machine.sh_ok("systemctl stop deia");
    let store = File::options()
        .write(true)
        .open(machine.path(&format!("{HOME}/state/deia.db")));
    store.unwrap().write_all_at(&[0x55; 4096], 4096).unwrap();
    machine.sh_ok("systemctl start deia");
    await_journal(machine, "deiactl restore ID");
    let filled = [("ID", id.as_str())];
    let ran = pages.run(book, "Damaged store", 0, &filled, &["deiactl doctor"]);
    assert!(
        ran.of("deiactl doctor").contains(&id),
        "{}",
        ran.of("deiactl doctor")
    );
    assert!(
        ran.of("journalctl").contains("deiactl restore ID"),
        "{}",
        ran.of("journalctl")
    );
    pages.run(book, "Damaged store", 1, &filled, &[]);
    await_well(machine);
    pages.run(book, "Damaged store", 2, &filled, &[]);
    assert!(is_there(machine, &before));
}

fn disk_full(pages: &Pages<'_>) {
    let machine = pages.machine;
    let book = "RUNBOOKS.md";
    let id = backup(machine);
    let fill = "while dd if=/dev/zero bs=4096 count=65536 oflag=append conv=notrunc of=/var/lib/deia/ballast 2>/dev/null; do :; done";
    // What there is to be made room with is taken in the end: the last megabytes are the backup's.
    machine.sh_ok(&format!(
        "dd if=/dev/zero of={HOME}/state.before-restore-0 bs=1M count=8 2>/dev/null; {fill}"
    ));
    let refused = wait_until(PATIENCE, "tasks are refused", || {
        machine.sh(fill);
        let said = machine.sh("deiactl submit $(head -c 100000 /dev/zero | tr '\\0' x)");
        (said.code == 1).then_some(said.stderr)
    });
    assert!(refused.contains("full"), "{refused}");
    let wrong = machine.ctl(&["doctor"]);
    assert!(
        wrong.code == 1 && wrong.stdout.contains("full"),
        "{wrong:?}"
    );
    let filled = [("ID", id.as_str())];
    pages.run(book, "Disk full", 0, &filled, &[]);
    pages.run(book, "Disk full", 1, &filled, &[]);
    await_well(machine);
    pages.run(book, "Disk full", 2, &filled, &[]);
    done(machine, "there is room");
    machine.sh_ok("rm /var/lib/deia/ballast");
}

fn will_not_start(pages: &Pages<'_>) {
    let machine = pages.machine;
    let book = "RUNBOOKS.md";
    let kept = done(machine, "kept");
    machine.sh_ok(&format!("systemctl stop deia && rm -f {HOME}/config/*"));
    machine.write("/etc/deia/bot-config.yaml", "bots: [");
    assert_ne!(machine.run(&["systemctl", "start", "deia"]).code, 0);
    await_journal(machine, "deia: ");
    let fails = [
        "systemctl status",
        "deiactl doctor",
        "deiactl config validate",
    ];
    let ran = pages.run(book, "Daemon will not start", 0, &[], &fails);
    assert!(
        ran.of("systemctl status").contains("78"),
        "{}",
        ran.of("systemctl status")
    );
    assert!(
        ran.of("journalctl").contains("deia: "),
        "{}",
        ran.of("journalctl")
    );
    machine.write("/etc/deia/bot-config.yaml", CONFIG);
    pages.run(book, "Daemon will not start", 1, &[], &[]);
    assert!(is_there(machine, &kept));
}

fn roll_back(pages: &Pages<'_>) {
    let machine = pages.machine;
    let book = "RUNBOOKS.md";
    let other = || {
        let before = newest(machine);
        machine.ctl(&["upgrade"]).ok();
        await_deployment(machine, &before);
    };
    // From the release of the one package to that of the other, and the state from before.
    let before = done(machine, "before");
    backup(machine);
    let newer = newest(machine);
    install_again(machine, "deia.deb");
    await_deployment(machine, &newer);
    let after = done(machine, "after");
    pages.run(book, "Roll back", 0, &[], &[]);
    await_well(machine);
    assert_eq!(
        (is_there(machine, &before), is_there(machine, &after)),
        (true, false)
    );
    // The release alone: the installed one once more, and back.
    other();
    let after = done(machine, "after");
    let newer = newest(machine);
    pages.run(book, "Roll back", 1, &[], &[]);
    await_deployment(machine, &newer);
    assert!(is_there(machine, &after));
    // Without a daemon.
    other();
    let newer = newest(machine);
    pages.run(book, "Roll back", 2, &[], &[]);
    await_deployment(machine, &newer);
    assert!(is_there(machine, &after));
    pages.run(book, "Roll back", 3, &[], &[]);
    await_well(machine);
    done(machine, "and on");
}

/// Whatever the version of the one that is installed.
fn install_again(machine: &Machine, package: &str) {
    machine.sh_ok(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --reinstall --allow-downgrades /root/{package}"
    ));
}
