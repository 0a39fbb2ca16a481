//! `kill -9` of the daemon under load, and of bots with it.
//!
//! `DEIA_CRASH_SEED=7` runs that seed alone, `DEIA_CRASH_SEEDS=200` the first 200.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Daemon, Load, POOLS, Sum, bots_among, check_runs, descendants, each_seed, print_spread, size,
};
use fastrand::Rng;
use nix::sys::signal::Signal;

/// Seeds in a run of the whole suite, and under `just soak`: two kills each, on average.
const SEEDS: [u64; 2] = [20, 500];
/// Seeds at once: each is a daemon and its bots.
const AT_ONCE: usize = 2;

/// How a story went.
struct Story {
    /// Kills of the daemon, and how long each took until it answered again.
    ready_again: Vec<Duration>,
    /// For how long tasks were submitted.
    seconds: f64,
    sum: Sum,
    /// Tasks that a bot had when the daemon was killed and that it kept.
    adopted: u64,
}

/// Shown to fail on a build that acknowledges before the commit (an acknowledged task is answered
/// with 404), on one that does not take leases back at the start (its tasks run for ever), and on one
/// that releases every lease at its start (tasks are begun twice).
#[test]
fn what_was_acknowledged_survives_kill_9_and_is_done_once() {
    let seeds = match std::env::var("DEIA_CRASH_SEED") {
        Ok(one) => one.parse().map(|seed| seed..seed + 1).expect("a number"),
        Err(_) => {
            let count = std::env::var("DEIA_CRASH_SEEDS").map(|n| n.parse().expect("a number"));
            0..count.unwrap_or(size(SEEDS[0], SEEDS[1]))
        }
    };
    let count = seeds.end - seeds.start;
    let stories = each_seed(seeds, AT_ONCE, crash);
    let tasks: u64 = stories.iter().map(|story| story.sum.tasks).sum();
    let lost: u64 = stories.iter().map(|story| story.sum.lost).sum();
    let adopted: u64 = stories.iter().map(|story| story.adopted).sum();
    let seconds: f64 = stories.iter().map(|story| story.seconds).sum();
    let again = stories.iter().flat_map(|story| story.ready_again.clone());
    print_spread("from the start until it answers again", again.collect());
    println!(
        "{tasks} tasks acknowledged, {:.0}/s, 0 lost; {adopted} running tasks kept by bots that lived, {lost} attempts lost with their bot",
        tasks as f64 / seconds
    );
    // Kills that never met a running task would have tested little.
    assert!(adopted > 0, "no running task was ever taken over");
    assert!(count < 5 || lost > 0, "no attempt was ever lost");
}

/// One story of load, kills and recovery.
fn crash(seed: u64) -> Story {
    println!("seed {seed}: DEIA_CRASH_SEED={seed} repeats it");
    let mut rng = Rng::with_seed(seed);
    let kills = rng.u32(1..=3);
    let submitters = rng.u64(4..=8);
    let kills_bots = rng.u32(0..3) == 0;
    let more =
        "supervision: {stop_timeout_seconds: 2, restart_intensity: {max: 50, seconds: 60}}\n";
    let mut daemon = Daemon::builder().config(&format!("{POOLS}{more}")).start();
    daemon.wait_bots(4);
    let load = Load::new(seed);
    let admin = daemon.admin();
    let begun = Instant::now();
    let ready_again = load.during(&admin, submitters, || {
        let mut ready_again = Vec::new();
        for _ in 0..kills {
            std::thread::sleep(Duration::from_millis(rng.u64(50..=400)));
            let bots = bots_among(descendants(daemon.pid()));
            daemon.kill9();
            if kills_bots {
                bots[rng.usize(0..bots.len())].signal(Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(rng.u64(0..=100)));
            let begun = Instant::now();
            daemon.restart();
            ready_again.push(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(rng.u64(50..=200)));
        load.wait_for_some();
        ready_again
    });
    let seconds = begun.elapsed().as_secs_f64();
    let sum = load.check(&daemon);
    let adopted = daemon
        .said()
        .lines()
        .filter_map(|line| line.split_once("is taken over")?.1.split_once("tasks="))
        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
        .sum();
    check_runs(&daemon, !kills_bots, seed);
    Story {
        ready_again,
        seconds,
        sum,
        adopted,
    }
}
