//! The conversation between a bot and its supervisor.

use std::time::{Duration, Instant};

use deia::wire::{self, Hello, Outcome, PROTOCOL_VERSION, ToSupervisor, ToWorker};
use tokio::io::AsyncWriteExt;

use crate::rig::{
    FENCE, LAUNCH, PATIENCE, Rig, echo, id, script, secret, soon, start_process, succeeded,
};

const STOPPED: Option<i32> = Some(0);
const SETUP: Option<i32> = Some(1);
const CONNECTION_LOST: Option<i32> = Some(3);
const PROTOCOL: Option<i32> = Some(4);

#[tokio::test]
async fn a_bot_says_who_it_is_works_and_stops() {
    let mut rig = Rig::start(echo(0), |_| {}).await;
    let pid = rig.pid();
    let hello = Hello {
        bot_id: "bot-2".into(),
        launch: LAUNCH,
        secret: secret(),
        pid,
        version: deia::VERSION.into(),
        back: None,
    };
    assert_eq!(rig.hello, hello);
    rig.assign("t1", "one two three").await;
    let started = rig.event().await;
    assert!(
        matches!(&started, ToSupervisor::Started { task, fence, at: Some(_) } if *task == id("t1") && *fence == FENCE),
        "{started:?}"
    );
    let (output, outcome) = rig.result().await;
    assert_eq!(output, "one two three");
    let (usage, truncated) = succeeded(outcome);
    assert_eq!((usage.completion_tokens, truncated), (3, false));
    rig.stop(0).await;
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn a_slot_is_free_at_finished_and_one_more_is_a_fault() {
    let mut rig = Rig::start(echo(0), |w| w.max_concurrent_tasks = 1).await;
    // The next assignment goes out before the acknowledgement of the one before.
    for n in 0..50 {
        rig.assign(&format!("t{n}"), "x").await;
        loop {
            if let ToSupervisor::Finished { .. } = rig.event().await {
                break;
            }
        }
    }
    let mut rig = Rig::start(echo(30_000), |w| w.max_concurrent_tasks = 2).await;
    for task in ["a", "b", "c"] {
        rig.assign(task, "x").await;
    }
    assert_eq!(rig.exit_code().await, PROTOCOL);
}

#[tokio::test]
async fn hearts_beat_together_also_while_work_is_going_on() {
    let mut rig = Rig::start(echo(60_000), |w| w.heartbeat_ms = 50).await;
    rig.assign("t", "x y z").await;
    let work = async {
        while rig.pulse().running == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let first = rig.pulse().beats;
        while rig.pulse().beats < first + 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("heartbeats", work).await;
}

#[tokio::test]
async fn a_cancelled_attempt_is_reported_as_such_and_others_go_on() {
    let mut rig = Rig::start(echo(300), |_| {}).await;
    rig.assign("a", "x").await;
    rig.assign("b", "x").await;
    rig.cancel("a").await;
    rig.cancel("none-such").await;
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 2 {
        if let ToSupervisor::Finished { task, outcome, .. } = rig.event().await {
            outcomes.insert(task.to_string(), outcome);
        }
    }
    assert_eq!(outcomes["a"], Outcome::Cancelled);
    assert!(matches!(outcomes["b"], Outcome::Succeeded { .. }));
}

#[tokio::test]
async fn a_stop_lets_finish_what_finishes_in_time_and_takes_nothing_new() {
    let mut rig = Rig::start(echo(500), |_| {}).await;
    rig.assign("a", "x").await;
    rig.stop(PATIENCE.as_millis() as u64).await;
    rig.assign("late", "x").await;
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 2 {
        if let ToSupervisor::Finished { task, outcome, .. } = rig.event().await {
            outcomes.insert(task.to_string(), outcome);
        }
    }
    assert!(matches!(outcomes["a"], Outcome::Succeeded { .. }));
    assert_eq!(outcomes["late"], Outcome::Cancelled);
    rig.ack("a").await;
    rig.ack("late").await;
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn a_stop_cancels_what_does_not_finish_and_waits_a_while_for_acknowledgements() {
    let mut rig = Rig::start(echo(600_000), |_| {}).await;
    rig.assign("a", "x").await;
    rig.stop(50).await;
    loop {
        if let ToSupervisor::Finished { outcome, .. } = rig.event().await {
            assert_eq!(outcome, Outcome::Cancelled);
            break;
        }
    }
    // Never acknowledged: the bot leaves all the same.
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn sigterm_ends_at_once_and_sigint_is_the_daemons() {
    let mut rig = Rig::start(echo(600_000), |_| {}).await;
    rig.assign("a", "x").await;
    let kill = |signal: &str| {
        let pid = rig.pid().to_string();
        let status = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(status.unwrap().success());
    };
    kill("-INT");
    kill("-HUP");
    kill("-TERM");
    let (_, outcome) = rig.result().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn a_bot_without_its_supervisor_ends_with_all_it_started() {
    let backend = script("setsid sleep 600 & echo $$; sleep 600");
    let mut rig = Rig::start(backend, |w| w.orphan_grace_ms = 500).await;
    rig.assign("a", "x").await;
    let pid = rig.output_with("\n").await;
    let process = format!("/proc/{}", pid.trim());
    let begun = Instant::now();
    rig.die();
    assert!(std::path::Path::new(&process).exists());
    assert_eq!(rig.exit_code().await, CONNECTION_LOST);
    assert!(!std::path::Path::new(&process).exists());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert_eq!(deia_worker::spool::files(rig.dir.path()).count(), 0);
}

#[tokio::test]
async fn what_runs_when_the_supervisor_goes_runs_on_and_arrives_whole_at_the_next() {
    let mut rig = Rig::start(script("read x; echo $x; read go < go; echo end"), |w| {
        w.workdir = deia::config::Workdir::Path(w.work_root.parent().unwrap().to_owned());
    })
    .await;
    let go = rig.dir.path().join("go");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&go)
            .status()
            .unwrap()
            .success()
    );
    rig.assign("a", "said before\n").await;
    rig.output_with("before\n").await;
    let hello = rig.reconnect().await;
    let back = hello.back.as_ref().expect("it says what it has");
    assert_eq!((hello.launch, &hello.secret), (LAUNCH, &secret()));
    assert_eq!((back.terms, back.max_concurrent_tasks), ([3; 32], 4));
    assert_eq!(back.held.len(), 1);
    assert_eq!(back.held[0].task, id("a"));
    // The next one has nothing of the output, the one after that a part.
    rig.welcome_back(&[("a", 0)]).await;
    assert_eq!(rig.output_with("before\n").await, "said before\n");
    rig.reconnect().await;
    rig.welcome_back(&[("a", 5)]).await;
    std::fs::write(&go, "x\n").unwrap();
    let (output, outcome) = rig.result().await;
    assert_eq!(output, "before\nend\n");
    succeeded(outcome);
    rig.stop(0).await;
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn a_result_nobody_took_is_offered_again_and_kept_on_disk_until_it_is_taken() {
    let mut rig = Rig::start(echo(0), |_| {}).await;
    rig.assign("a", "one").await;
    loop {
        if let ToSupervisor::Finished { .. } = rig.event().await {
            break;
        }
    }
    let hello = rig.reconnect().await;
    assert_eq!(hello.back.unwrap().held[0].task, id("a"));
    let spool = rig.dir.path().to_owned();
    let kept = || deia_worker::spool::files(&spool).count();
    let on_disk = async {
        while kept() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the result is on disk", on_disk).await;
    let file = deia_worker::spool::files(&spool).next().unwrap();
    let record = deia_worker::spool::read(&file, |writer| {
        assert_eq!((writer.launch, writer.pid), (LAUNCH, rig.pid()));
        secret()
    });
    assert_eq!(record.unwrap().output, "one");
    rig.welcome_back(&[("a", 0)]).await;
    let (output, outcome) = rig.result().await;
    assert_eq!(output, "one");
    succeeded(outcome);
    // The disk is another thread's; it is done with it before the bot ends.
    rig.stop(0).await;
    assert_eq!(rig.exit_code().await, STOPPED);
    assert_eq!(kept(), 0);
}

#[tokio::test]
async fn what_another_has_by_now_is_given_up_without_a_word() {
    let mut rig = Rig::start(script("sleep 600"), |w| w.max_concurrent_tasks = 1).await;
    rig.assign("a", "x").await;
    rig.event().await;
    rig.reconnect().await;
    rig.welcome_back(&[]).await;
    // Its slot is free at once.
    rig.assign("b", "x").await;
    let started = rig.event().await;
    assert!(
        matches!(&started, ToSupervisor::Started { task, .. } if *task == id("b")),
        "{started:?}"
    );
    rig.stop(0).await;
    let (_, outcome) = rig.result().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn a_bot_nobody_has_a_use_for_goes() {
    let mut rig = Rig::start(script("sleep 600"), |_| {}).await;
    rig.assign("a", "x").await;
    rig.event().await;
    rig.reconnect().await;
    rig.stop(0).await;
    assert_eq!(rig.exit_code().await, STOPPED);
}

#[tokio::test]
async fn what_ends_while_nobody_is_there_outlives_the_bot() {
    let mut rig = Rig::start(echo(300), |w| w.orphan_grace_ms = 1_000).await;
    rig.assign("a", "one two").await;
    rig.event().await;
    rig.die();
    assert_eq!(rig.exit_code().await, CONNECTION_LOST);
    let files: Vec<_> = deia_worker::spool::files(rig.dir.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let record = deia_worker::spool::read(&files[0], |_| secret()).unwrap();
    assert_eq!((record.output.as_str(), record.task), ("one two", id("a")));
}

#[tokio::test]
async fn what_is_no_frame_of_this_version_ends_the_session() {
    let mut rig = Rig::start(echo(0), |_| {}).await;
    let mut bytes = Vec::new();
    wire::encode(&ToWorker::Stop { grace_ms: 0 }, &mut bytes).unwrap();
    bytes[4] = PROTOCOL_VERSION + 1;
    rig.send_raw(&bytes).await;
    assert_eq!(rig.exit_code().await, PROTOCOL);

    let mut rig = Rig::dialled(&[]).await;
    rig.send(ToWorker::Stop { grace_ms: 0 }).await;
    assert_eq!(rig.exit_code().await, PROTOCOL);
}

#[tokio::test]
async fn a_bad_bootstrap_is_refused() {
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0\x01\x80", b""] {
        let mut process = start_process(&[]);
        let mut stdin = process.stdin.take().unwrap();
        // It may have gone before it read.
        let _ = stdin.write_all(bytes).await;
        drop(stdin);
        let status = soon("its end", process.wait()).await.unwrap();
        assert_eq!(status.code(), SETUP);
    }
}

#[tokio::test]
async fn a_slow_supervisor_slows_the_attempt_and_takes_no_memory() {
    let backend = script("head -c 64000000 /dev/zero | tr '\\0' x; echo end >&2");
    let mut rig = Rig::start(backend, |w| w.limits.output_mb = 100).await;
    rig.assign("a", "x").await;
    let status = format!("/proc/{}/status", rig.pid());
    let resident_kb = || -> u64 {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        assert!(resident_kb() < 40_000, "{} kB", resident_kb());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (output, outcome) = rig.result().await;
    succeeded(outcome);
    assert_eq!(output.len(), 64_000_000);
}

#[tokio::test]
async fn an_idle_bot_is_small_and_sleeps() {
    // Beats are at multiples of the interval since the host started: a minute's may fall into the second.
    let rig = Rig::start(echo(0), |w| w.heartbeat_ms = 7 * 86_400_000).await;
    let switches = || -> u64 {
        let mut sum = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", rig.pid())).unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let line = status
                .lines()
                .find(|l| l.starts_with("voluntary_ctxt_switches"))
                .unwrap();
            sum += line
                .split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap();
        }
        sum
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = switches();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(switches(), before, "an idle bot woke");
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    let own_kb: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("an idle bot's own memory: {own_kb} kB");
    assert!(own_kb < 4096, "{line}");
}
