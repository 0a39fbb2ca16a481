//! Programs as backends, in a real bot process.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use deia::config::{BackendSpec, CommandInput, CommandSpec, Workdir};
use deia::wire::{FailureKind, Outcome, ToSupervisor};

use crate::rig::{Rig, echo, error, program, script, succeeded};

#[tokio::test]
async fn output_is_streamed_while_the_program_runs() {
    let backend = script("echo first; cat; read never </dev/null; sleep 600");
    let mut rig = Rig::start(backend, |_| {}).await;
    rig.assign("t", "the text").await;
    rig.output_with("first\nthe text").await;
    rig.cancel("t").await;
    assert_eq!(rig.result().await.1, Outcome::Cancelled);
}

#[tokio::test]
async fn the_text_arrives_whole_on_stdin_and_as_an_argument() {
    let text = "zeile 1\n\"$HOME\" `x` é🦀 ".repeat(2000);
    let mut rig = Rig::start(script("cat"), |_| {}).await;
    assert_eq!(rig.run("t", &text).await.0, text);
    // One that does not read its input is no failure.
    let mut rig = Rig::start(script("exec 0<&-; echo done"), |_| {}).await;
    let (output, outcome) = rig.run("t", &"x".repeat(1_000_000)).await;
    succeeded(outcome);
    assert_eq!(output, "done\n");

    let argv = program(&["printf", "%s"], CommandInput::Argv);
    let mut rig = Rig::start(argv, |_| {}).await;
    assert_eq!(rig.run("t", &text).await.0, text);
    for bad in ["a\0b".to_owned(), "x".repeat(200_000)] {
        let (_, outcome) = rig.run("bad", &bad).await;
        assert!(error(outcome, FailureKind::Permanent).contains("stdin"));
    }
}

#[tokio::test]
async fn exit_codes_and_signals_are_named() {
    let mut rig = Rig::start(script("read code; echo why >&2; exit $code"), |_| {}).await;
    let (_, outcome) = rig.run("t", "3\n").await;
    assert_eq!(error(outcome, FailureKind::Backend), "exit code 3: why");
    let (_, outcome) = rig.run("t2", "127\n").await;
    assert!(error(outcome, FailureKind::Permanent).contains("not found"));
    let mut rig = Rig::start(script("kill -SEGV $$"), |_| {}).await;
    let (_, outcome) = rig.run("t", "").await;
    assert!(error(outcome, FailureKind::Backend).contains("SIGSEGV"));
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_said_once_and_for_all() {
    for path in ["no-such-program-here", "/etc/passwd", "/"] {
        let mut rig = Rig::start(program(&[path], CommandInput::Stdin), |_| {}).await;
        let (_, outcome) = rig.run("t", "x").await;
        let text = error(outcome, FailureKind::Permanent);
        assert!(text.contains(&format!("cannot start '{path}'")), "{text}");
    }
    let missing = |w: &mut deia::wire::Welcome| w.workdir = Workdir::Path("/no/such/dir".into());
    let mut rig = Rig::start(script("true"), missing).await;
    let (_, outcome) = rig.run("t", "x").await;
    assert!(error(outcome, FailureKind::Permanent).contains("/no/such/dir"));
}

#[tokio::test]
async fn huge_output_is_cut_and_said_and_the_program_still_ends() {
    let backend = script("head -c 5000000 /dev/zero | tr '\\0' x; echo done >&2; exit 0");
    let mut rig = Rig::start(backend, |w| w.limits.output_mb = 1).await;
    let (output, outcome) = rig.run("t", "").await;
    assert_eq!(output.len(), 1024 * 1024);
    assert!(succeeded(outcome).1, "truncated");
}

#[tokio::test]
async fn characters_split_between_reads_stay_whole() {
    let backend = script(
        "printf '\\303'; sleep 0.3; printf '\\251\\342\\202'; sleep 0.3; printf '\\254 \\377'",
    );
    let mut rig = Rig::start(backend, |_| {}).await;
    assert_eq!(rig.run("t", "").await.0, "é€ \u{FFFD}");
}

#[tokio::test]
async fn the_environment_is_clean() {
    let mut rig = {
        let mut rig = Rig::dialled(&[("DEIA_TEST_SEEN", "yes"), ("DEIA_TEST_HIDDEN", "no")]).await;
        let dir = rig.dir.path().to_owned();
        let key = dir.join("key");
        std::fs::write(&key, "s3cret\n").unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let backend = BackendSpec::Command(CommandSpec {
            argv: vec!["env".into()],
            input: CommandInput::Stdin,
            env: vec!["DEIA_TEST_SEEN".into(), "DEIA_TEST_ABSENT".into()],
        });
        rig.welcome(backend, |w| {
            w.env_files = BTreeMap::from([("API_KEY".into(), key)]);
        })
        .await;
        rig
    };
    let (output, outcome) = rig.run("task-1", "").await;
    succeeded(outcome);
    let variables: BTreeMap<&str, &str> =
        output.lines().filter_map(|l| l.split_once('=')).collect();
    let names: Vec<_> = variables.keys().copied().collect();
    assert_eq!(
        names,
        [
            "API_KEY",
            "DEIA_ATTEMPT",
            "DEIA_BOT_ID",
            "DEIA_SOCKET",
            "DEIA_TASK_ID",
            "DEIA_TEST_SEEN",
            "DEIA_TREE",
            "HOME",
            "PATH",
            "TMPDIR"
        ]
    );
    assert_eq!(variables["API_KEY"], "s3cret");
    assert_eq!(variables["DEIA_BOT_ID"], "bot-2");
    assert_eq!(variables["DEIA_ATTEMPT"], "3");
    let home = rig.dir.path().join("own/home");
    assert_eq!(variables["HOME"], home.to_str().unwrap());
    for directory in [home, rig.work_root().join("task-1")] {
        let mode = std::fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[tokio::test]
async fn secrets_stay_out_of_errors() {
    let mut rig = Rig::dialled(&[]).await;
    let key = rig.dir.path().join("key");
    std::fs::write(&key, "s3cret").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let files = BTreeMap::from([("API_KEY".to_owned(), key.clone())]);
    rig.welcome(script("echo refused: $API_KEY >&2; exit 1"), |w| {
        w.env_files = files
    })
    .await;
    let (_, outcome) = rig.run("t", "").await;
    let text = error(outcome, FailureKind::Backend);
    assert_eq!(text, "exit code 1: refused: [redacted]");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let (_, outcome) = rig.run("t2", "").await;
    let text = error(outcome, FailureKind::Permanent);
    assert!(
        text.contains("chmod 600") && !text.contains("s3cret"),
        "{text}"
    );
}

/// Prints its nonce, then leaves its session twice over, deaf to TERM and INT.
const ESCAPES: &str = "setsid sh -c 'trap \"\" TERM INT HUP; (exec 1>&- 2>&-; while :; do sleep 1; done) & \
     (setsid sh -c \"trap \\\"\\\" TERM; while :; do sleep 1; done\" >/dev/null 2>&1 &) ; exit 0' & \
     sleep 0.3; echo $DEIA_TREE";

fn processes_with(nonce: &str) -> Vec<i32> {
    assert!(nonce.len() >= 32);
    deia_worker::tree::scan(std::path::Path::new("/proc"), Some(nonce))
        .iter()
        .filter(|p| p.marked && p.is_alive())
        .map(|p| p.id.pid)
        .collect()
}

async fn escaped(rig: &mut Rig) -> String {
    let nonce = rig.output_with("\n").await.trim().to_owned();
    let since = Instant::now();
    while processes_with(&nonce).len() < 3 {
        assert!(since.elapsed() < Duration::from_secs(20), "{nonce}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nonce
}

#[tokio::test]
async fn a_cancel_ends_the_whole_tree_and_only_that() {
    let backend = script(&format!(
        "read what; if [ $what = other ]; then sleep 1; echo alive; exit 0; fi; {ESCAPES}; sleep 600"
    ));
    let mut rig = Rig::start(backend, |_| {}).await;
    rig.assign("t", "escape\n").await;
    let nonce = escaped(&mut rig).await;
    rig.assign("other", "other\n").await;
    rig.cancel("t").await;
    assert_eq!(rig.result().await.1, Outcome::Cancelled);
    assert!(processes_with(&nonce).is_empty());
    let (output, outcome) = rig.result().await;
    succeeded(outcome);
    assert_eq!(output, "alive\n");
}

#[tokio::test]
async fn a_time_out_ends_the_whole_tree() {
    let mut rig = Rig::start(script(&format!("{ESCAPES}; sleep 600")), |_| {}).await;
    rig.assign_for("t", "", Duration::from_secs(3)).await;
    let nonce = escaped(&mut rig).await;
    error(rig.result().await.1, FailureKind::TimedOut);
    assert!(processes_with(&nonce).is_empty());
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let mut rig = Rig::start(script(&format!("{ESCAPES}; exit 0")), |_| {}).await;
    let (output, outcome) = rig.run("t", "").await;
    succeeded(outcome);
    assert!(processes_with(output.trim()).is_empty());
}

/// Scrubs its environment and loses its parents; the file says who it is, and that it got so far.
const HIDES: &str = "env -i setsid sh -c 'trap \"\" TERM; (echo $$ > hidden; exec sleep 600) >/dev/null 2>&1 & exit 0' & \
     while [ ! -s hidden ]; do sleep 0.05; done; echo ready";

fn hidden(rig: &Rig, task: &str) -> std::path::PathBuf {
    let file = rig.work_root().join(task).join("hidden");
    // `$$` is the shell's pid, also in its subshell; that one has ended, its child has not.
    let group = std::fs::read_to_string(file).unwrap();
    let sleeper = deia_worker::tree::scan(std::path::Path::new("/proc"), None)
        .into_iter()
        .filter(deia_worker::tree::Process::is_alive)
        .find(|p| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", p.id.pid));
            stat.is_ok_and(|stat| stat.split(' ').nth(5) == Some(group.trim()))
        })
        .expect("nothing is hidden");
    format!("/proc/{}", sleeper.id.pid).into()
}

#[tokio::test]
async fn what_hides_ends_with_its_attempt_when_no_other_runs() {
    let mut rig = Rig::start(script(&format!("{HIDES}; read never; sleep 600")), |_| {}).await;
    rig.assign("t", "").await;
    rig.output_with("ready").await;
    let process = hidden(&rig, "t");
    rig.cancel("t").await;
    assert_eq!(rig.result().await.1, Outcome::Cancelled);
    assert!(!process.exists());
}

#[tokio::test]
async fn what_hides_while_others_run_is_left_in_peace_until_none_does() {
    let hides = script(&format!(
        "read what; if [ $what = wait ]; then sleep 600; fi; {HIDES}"
    ));
    let mut rig = Rig::start(hides, |_| {}).await;
    rig.assign("other", "wait\n").await;
    rig.run("t", "hide\n").await;
    // Nothing tells whose it is.
    let process = hidden(&rig, "t");
    assert!(process.exists());
    rig.stop(0).await;
    assert_eq!(rig.result().await.1, Outcome::Cancelled);
    assert_eq!(rig.exit_code().await, Some(0));
    assert!(!process.exists());
}

#[tokio::test]
async fn limits_hold_for_what_is_started() {
    let shows = script("grep NoNewPrivs /proc/self/status; ulimit -Hn; ulimit -Hc");
    let mut rig = Rig::start(shows, |w| w.limits.open_files = 77).await;
    let (output, _) = rig.run("t", "").await;
    let words: Vec<_> = output.split_whitespace().collect();
    assert_eq!(words, ["NoNewPrivs:", "1", "77", "0"]);
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_open_does_not_hold_the_attempt() {
    let mut rig = Rig::start(script("sleep 600 & echo out"), |_| {}).await;
    let since = Instant::now();
    let (output, outcome) = rig.run("t", "").await;
    succeeded(outcome);
    assert_eq!(output, "out\n");
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn attempts_at_once_do_not_end_each_others_trees() {
    let backend = script(
        "read what; if [ $what = quick ]; then exit 0; fi; (sleep 1; echo late) & wait; echo end",
    );
    let mut rig = Rig::start(backend, |_| {}).await;
    rig.assign("slow", "slow\n").await;
    for n in 0..3 {
        rig.assign(&format!("quick{n}"), "quick\n").await;
    }
    let (mut output, mut finished) = (String::new(), 0);
    while finished < 4 {
        match rig.event().await {
            ToSupervisor::Output { text, .. } => output.push_str(&text),
            ToSupervisor::Finished { outcome, .. } => {
                succeeded(outcome);
                finished += 1;
            }
            _ => {}
        }
    }
    assert_eq!(output, "late\nend\n");
}

#[tokio::test]
async fn a_fallback_answers_when_nothing_was_sent_yet_and_says_so() {
    let mut down = deia::config::ModelServer::ollama();
    down.url = "http://127.0.0.1:9".into();
    let mut rig = Rig::start(BackendSpec::Ollama(down), |w| w.fallback = vec![echo(0)]).await;
    let (output, outcome) = rig.run("t", "hi").await;
    assert_eq!(output, "hi");
    assert!(matches!(outcome, Outcome::Succeeded { backend, .. } if backend == "echo"));
    // A program that fails is an answer of its kind: no fallback.
    let mut rig = Rig::start(script("exit 1"), |w| w.fallback = vec![echo(0)]).await;
    error(rig.run("t", "hi").await.1, FailureKind::Backend);
}
