//! The conversation between a bot and its supervisor.

use std::time::{Duration, Instant};

use deia::wire::{self, Outcome, PROTOCOL_VERSION, ToSupervisor, ToWorker};
use tokio::io::AsyncWriteExt;

use crate::rig::{FENCE, PATIENCE, Rig, echo, id, script, secret, soon, start_process, succeeded};

const STOPPED: Option<i32> = Some(0);
const SETUP: Option<i32> = Some(1);
const CONNECTION_LOST: Option<i32> = Some(3);
const PROTOCOL: Option<i32> = Some(4);

#[tokio::test]
async fn a_bot_says_who_it_is_works_and_stops() {
    let mut rig = Rig::start(echo(0), |_| {}).await;
    let pid = rig.pid();
    let hello = ToSupervisor::Hello {
        bot_id: "bot-2".into(),
        secret: secret(),
        pid,
        held: Vec::new(),
    };
    assert_eq!(rig.hello, hello);
    rig.assign("t1", "one two three").await;
    let started = rig.event().await;
    assert!(
        matches!(&started, ToSupervisor::Started { task, fence } if *task == id("t1") && *fence == FENCE),
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
    let mut rig = Rig::start(echo(60_000), |w| w.heartbeat_ms = 100).await;
    rig.assign("t", "x y z").await;
    let mut beats = Vec::new();
    while beats.len() < 4 {
        if let ToSupervisor::Heartbeat { running } = soon("a heartbeat", rig.recv()).await {
            beats.push(running);
        }
    }
    assert_eq!(beats.last(), Some(&1));
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
    let mut rig = Rig::start(script("echo $$; sleep 600"), |_| {}).await;
    rig.assign("a", "x").await;
    let pid = rig.output_with("\n").await;
    let process = format!("/proc/{}", pid.trim());
    assert!(std::path::Path::new(&process).exists());
    assert_eq!(rig.hang_up().await, CONNECTION_LOST);
    assert!(!std::path::Path::new(&process).exists());
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
    let rig = Rig::start(echo(0), |w| w.heartbeat_ms = 60_000).await;
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
