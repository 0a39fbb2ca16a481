//! What a command can and can't do, in a real bot process on this kernel.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use deia::config::{BackendSpec, CommandInput, Landlock, Workdir};
use deia::wire::{FailureKind, ToSupervisor, ToWorker, Welcome};
use deia_worker::confine::layer::Kernel;

use crate::rig::{Rig, echo, error, program, script, succeeded};

/// The kernel's Landlock; a test that needs more of it says so and passes.
fn landlock(test: &str, needed: u32) -> bool {
    match Kernel::ask() {
        Kernel::Version(version) if version >= needed => true,
        other => {
            println!("SKIPPED {test}: needs Landlock {needed}, this kernel has {other:?}");
            false
        }
    }
}

/// Reads a line of shell as its task.
fn shell() -> BackendSpec {
    program(&["sh", "-c"], CommandInput::Argv)
}

/// The output of a task that must succeed.
#[track_caller]
fn said((output, outcome): (String, deia::wire::Outcome)) -> String {
    succeeded(outcome);
    output
}

fn secret(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "s3cret").unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_owned()
}

#[tokio::test]
async fn a_command_works_in_its_own_directories() {
    let mut rig = Rig::start(shell(), |_| {}).await;
    let script = "set -e; mkdir -p a/b; echo x > a/b/c; mv a/b/c d; ln d e; rm d; echo y >> e; \
        mkfifo f; ln -s e g; cat g; echo hidden > $HOME/.rc; cat $HOME/.rc; t=$(mktemp); echo t > $t; \
        case $t in $TMPDIR/*) cat $t;; *) echo $t;; esac; echo null > /dev/null; \
        head -c 3 /dev/zero | wc -c; test -r /etc/passwd && test -r /proc/self/status && echo ok";
    let output = said(rig.run("t", script).await);
    assert_eq!(output, "x\ny\nhidden\nt\n3\nok\n");
    let temporary = rig.dir.path().join("own/tmp");
    // HOME stays for the next task, temporary files do not.
    assert_eq!(said(rig.run("u", "cat $HOME/.rc; ls -A").await), "hidden\n");
    let gone = || std::fs::read_dir(&temporary).unwrap().count() == 0;
    while !gone() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_the_pool_names_is_open_and_nothing_else() {
    if !landlock("what_the_pool_names_is_open_and_nothing_else", 1) {
        return;
    }
    let mut rig = Rig::dialled(&[]).await;
    let dir = rig.dir.path().to_owned();
    for name in ["read", "write", "other", "closed"] {
        secret(&dir.join(name).join("file"));
    }
    let path = |name: &str| vec![dir.join(name)];
    rig.welcome(shell(), |w| {
        w.paths.read = path("read");
        w.paths.write = path("write");
    })
    .await;
    let script = |what: &str| format!("cd {}; {what}", dir.display());
    let output = said(
        rig.run(
            "t",
            &script("cat read/file; echo + > write/new; cat write/new"),
        )
        .await,
    );
    assert_eq!(output, "s3cret+\n");
    for refused in [
        "cat other/file",
        "cat closed/file",
        "echo x > read/new",
        "echo x > read/file",
        "rm read/file",
        "echo x > new",
        "ls other",
        "mv write/file other/",
        "ln other/file write/link",
        "cat work/../other/file",
        "ls work",
        "ls own",
        "echo x > /tmp/deia-probe",
        "ls /tmp",
    ] {
        let (_, outcome) = rig.run("t", &script(refused)).await;
        let why = error(outcome, FailureKind::Backend);
        assert!(
            ["Permission denied", "cross-device", "can't create"]
                .iter()
                .any(|words| why.contains(words)),
            "{refused}: {why}"
        );
    }
}

#[tokio::test]
async fn what_is_closed_stays_closed_below_a_directory_that_is_named() {
    if !landlock(
        "what_is_closed_stays_closed_below_a_directory_that_is_named",
        1,
    ) {
        return;
    }
    let mut rig = Rig::dialled(&[]).await;
    let dir = rig.dir.path().to_owned();
    secret(&dir.join("closed/file"));
    secret(&dir.join("other/file"));
    let mut welcome = rig.welcome_with(shell());
    welcome.paths.write = vec![dir.clone(), dir.join("absent")];
    welcome.paths.read = vec![dir.join("closed/file")];
    let sandbox = ready(&mut rig, welcome).await;
    for remark in [
        "has files of the daemon's in it",
        "absent is not there",
        "stays closed: it is the daemon's own",
    ] {
        assert!(sandbox.contains(remark), "{remark}: {sandbox}");
    }
    let script = |what: &str| format!("cd {}; {what}", dir.display());
    said(
        rig.run("t", &script("cat other/file; echo x > other/new"))
            .await,
    );
    for refused in ["cat closed/file", "echo x > closed/file", "echo x > new"] {
        let (_, outcome) = rig.run("t", &script(refused)).await;
        error(outcome, FailureKind::Backend);
    }
}

/// Welcomes the bot; returns what it says of its sandbox.
async fn ready(rig: &mut Rig, welcome: Welcome) -> String {
    rig.send(ToWorker::Welcome(Box::new(welcome))).await;
    match rig.event().await {
        ToSupervisor::Ready { sandbox, .. } => sandbox,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_secret_reaches_the_command_as_a_variable_and_not_as_a_file() {
    if !landlock(
        "a_secret_reaches_the_command_as_a_variable_and_not_as_a_file",
        1,
    ) {
        return;
    }
    let mut rig = Rig::dialled(&[]).await;
    let key = secret(&rig.dir.path().join("secrets/key"));
    let closed = rig.dir.path().join("secrets");
    rig.welcome(shell(), |w| {
        w.env_files.insert("KEY".into(), key.clone());
        w.paths.read = vec![w.places.daemon_home.clone()];
        w.places.closed.push(closed);
    })
    .await;
    assert_eq!(said(rig.run("t", "printf %s $KEY").await), "s3cret");
    let (_, outcome) = rig.run("t", &format!("cat {}", key.display())).await;
    assert!(error(outcome, FailureKind::Backend).contains("Permission denied"));
}

#[tokio::test]
async fn attempts_do_not_see_each_other() {
    if !landlock("attempts_do_not_see_each_other", 6) {
        return;
    }
    let mut rig = Rig::start(shell(), |_| {}).await;
    rig.assign("one", "echo $$ > pid; echo started; sleep 600")
        .await;
    rig.output_with("started").await;
    let pid = std::fs::read_to_string(rig.work_root().join("one/pid")).unwrap();
    let pid = pid.trim();
    let work = rig.work_root();
    for (refused, why) in [
        (
            format!("cat {}/one/pid", work.display()),
            "Permission denied",
        ),
        (format!("cat /proc/{pid}/environ"), "Permission denied"),
        (format!("kill -9 {pid}"), "not permitted"),
        ("kill -9 $PPID".to_owned(), "not permitted"),
        (format!("ls /proc/{pid}/root/"), "Permission denied"),
    ] {
        rig.assign("two", &refused).await;
        let mut outcome = None;
        while outcome.is_none() {
            if let ToSupervisor::Finished {
                task,
                outcome: ended,
                ..
            } = rig.event().await
            {
                assert_eq!(task.as_str(), "two");
                rig.ack("two").await;
                outcome = Some(ended);
            }
        }
        let error = error(outcome.unwrap(), FailureKind::Backend);
        assert!(error.contains(why), "{refused}: {error}");
    }
    assert!(Path::new("/proc").join(pid).exists());
}

#[tokio::test]
async fn limits_of_other_processes_are_not_a_commands_to_change() {
    let mut rig = Rig::start(shell(), |_| {}).await;
    // The bot is its parent and has the same user: without the filter the kernel allows it.
    let (_, outcome) = rig.run("t", "prlimit --pid $PPID --cpu=1").await;
    let why = error(outcome, FailureKind::Backend);
    assert!(why.contains("not permitted"), "{why}");
    assert_eq!(said(rig.run("t", "ulimit -Sn 50; ulimit -n").await), "50\n");
}

#[tokio::test]
async fn ports_are_the_kernels_choice_or_the_pools() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() || !landlock("ports_are_the_kernels_choice_or_the_pools", 4) {
        println!("SKIPPED ports_are_the_kernels_choice_or_the_pools: needs Landlock 4 and python3");
        return;
    }
    let free = |_| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let (open, closed) = (free(()), free(()));
    let listens = |port: u16| {
        format!(
            "python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", {port})); s.listen()'"
        )
    };
    let mut rig = Rig::start(shell(), |w| w.limits.listen_ports = vec![open]).await;
    said(rig.run("t", &listens(0)).await);
    said(rig.run("t", &listens(open)).await);
    let (_, outcome) = rig.run("t", &listens(closed)).await;
    assert!(error(outcome, FailureKind::Backend).contains("PermissionError"));
}

#[tokio::test]
async fn a_file_has_a_largest_size_and_root_has_no_powers() {
    let mut rig = Rig::start(shell(), |w| w.limits.disk_mb = 16).await;
    let (_, outcome) = rig.run("t", "head -c 20000000 /dev/zero > big").await;
    let why = error(outcome, FailureKind::Backend);
    assert!(
        why.contains("File too large") || why.contains("XFSZ") || why.contains("153"),
        "{why}"
    );
    let bytes = std::fs::metadata(rig.work_root().join("t/big"))
        .unwrap()
        .len();
    assert_eq!(bytes, 16 << 20);
    let output = said(
        rig.run(
            "t",
            "grep -E 'Cap(Eff|Prm|Amb)|NoNewPrivs' /proc/self/status; umask",
        )
        .await,
    );
    for line in output.lines() {
        let value = line.split_whitespace().last().unwrap();
        let expected = match line {
            _ if line.starts_with("NoNew") => "1",
            _ if line.starts_with("Cap") => "0000000000000000",
            _ => &format!("{:04o}", 0o7 | u32::from_str_radix(value, 8).unwrap()),
        };
        assert_eq!(value, expected, "{output}");
    }
}

#[tokio::test]
async fn required_starts_where_the_kernel_can_and_off_confines_no_files() {
    for (level, version) in [(Landlock::Required, 1), (Landlock::Off, 0)] {
        let mut rig = Rig::dialled(&[]).await;
        let mut welcome = rig.welcome_with(shell());
        welcome.limits.landlock = level;
        if matches!(Kernel::ask(), Kernel::Without(_)) && version > 0 {
            rig.send(ToWorker::Welcome(Box::new(welcome))).await;
            assert_eq!(rig.exit_code().await, Some(1));
            continue;
        }
        let sandbox = ready(&mut rig, welcome).await;
        secret(&rig.dir.path().join("other/file"));
        let path = rig.dir.path().join("other/file");
        let (_, outcome) = rig.run("t", &format!("cat {}", path.display())).await;
        if level == Landlock::Off {
            assert!(sandbox.contains("limits.landlock is off"), "{sandbox}");
            succeeded(outcome);
        } else {
            assert!(sandbox.contains(", landlock "), "{sandbox}");
            error(outcome, FailureKind::Backend);
        }
    }
}

#[tokio::test]
async fn a_program_that_is_named_by_its_path_may_be_started_wherever_it_is() {
    let mut rig = Rig::dialled(&[]).await;
    let agent = rig.dir.path().join("agent.sh");
    std::fs::write(&agent, "#!/bin/sh\necho from the agent\n").unwrap();
    std::fs::set_permissions(&agent, PermissionsExt::from_mode(0o755)).unwrap();
    let backend = program(&[agent.to_str().unwrap()], CommandInput::Stdin);
    rig.welcome(backend, |_| {}).await;
    assert_eq!(said(rig.run("t", "").await), "from the agent\n");
}

#[tokio::test]
async fn a_directory_the_operator_keeps_for_a_pool_is_worked_in() {
    let mut rig = Rig::dialled(&[]).await;
    let project = rig.dir.path().join("project");
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("notes"), "old\n").unwrap();
    let workdir = Workdir::Path(project.clone());
    rig.welcome(script("cat notes; echo new > notes"), |w| {
        w.workdir = workdir
    })
    .await;
    assert_eq!(said(rig.run("t", "").await), "old\n");
    let notes = std::fs::read_to_string(project.join("notes")).unwrap();
    assert_eq!(notes, "new\n");
}

#[tokio::test]
async fn a_bot_without_commands_is_confined_too() {
    if !landlock("a_bot_without_commands_is_confined_too", 1) {
        return;
    }
    let mut rig = Rig::dialled(&[]).await;
    let welcome = rig.welcome_with(echo(0));
    let sandbox = ready(&mut rig, welcome).await;
    assert!(sandbox.contains("landlock"), "{sandbox}");
    assert_eq!(said(rig.run("t", "hello").await), "hello");
}
