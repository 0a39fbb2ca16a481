//! `kill -9` between two system calls, at every place that has a name (`src/failpoint.rs`): the next start finds
//! everything that was acknowledged, goes on without anybody's help, and leaves nothing lying about.
//!
//! Where the daemon died the next daemon is started with the next failpoint, on the same home: so that each start is
//! a recovery from one kill and the way to another. Tasks are submitted all the time, and operators act.
//!
//! `DEIA_FAILPOINT_SEED=7` runs that seed alone, `DEIA_FAILPOINT_ONLY=hive.` only what begins so.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    Acts, Daemon, Load, PATIENCE, POOLS, bots_among, check_runs, each_seed, nothing_left_over,
    print_spread, processes_of, size, skipped, wait_until,
};
use deia::failpoint::{DURABLE, DURABLE_FILES, NAMES, VARIABLE};
use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::json;

/// Seeds in a run of the whole suite, and under `just soak`.
const SEEDS: [u64; 2] = [1, 10];
/// Stories at once: each is a daemon and its bots.
const AT_ONCE: usize = 2;
/// A failpoint that is not passed within this is one that is not tested.
const REACHED: Duration = Duration::from_secs(25);
/// Failpoints in one story at most.
const IN_ONE_STORY: usize = 12;

/// What makes a daemon, or a bot, pass a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The first start on a home.
    Start,
    /// A start on a store of the first schema.
    Migrate,
    /// Another release.
    Upgrade,
    /// A load of tasks and what else there is: see [`Act`].
    Load(Act),
    /// A load, in a bot; and the daemon is killed again and again, so that bots keep what they finish.
    Bot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Nothing,
    Scale,
    StopAndStart,
    Reload,
    Message,
    External,
    Token,
    File,
    BadFile,
    TornList,
    Stop,
    Backup,
    /// The daemon is away for a moment, and bots keep what they finish.
    Absence,
}

/// How a failpoint is come to, and how often it is passed before at most.
fn way(point: &str) -> (Way, u32) {
    let behind = point.split_once('/').map_or("", |(_, file)| file);
    match (point.split('.').next().unwrap(), behind) {
        (_, "fleet.key") => (Way::Start, 1),
        (_, "clocks.json" | "alerts.json" | "webhook.key") => (Way::Start, 1),
        (_, "tokens.json") => (Way::Load(Act::Token), 3),
        (_, "deployments.json") => (Way::Start, 1),
        (_, "audit-head.json") => (Way::Load(Act::Stop), 1),
        (_, "last-good.yaml") => (Way::Load(Act::Reload), 3),
        (_, "limits-override.json") => (Way::Load(Act::Scale), 3),
        (_, "stopped-bots.json") => (Way::Load(Act::StopAndStart), 3),
        (_, "shutdown.marker") => (Way::Load(Act::Stop), 1),
        (_, "external-bots.json") => (Way::Load(Act::External), 3),
        (_, "ledger.jsonl") => (Way::Load(Act::TornList), 1),
        // One is written when the switch begins, and one when it has succeeded.
        (_, "ledger.json") => (Way::Upgrade, 1),
        ("start", _) => (Way::Start, 1),
        ("spawn", _) => (Way::Start, 4),
        ("upgrade", _) => (Way::Upgrade, 1),
        ("stop", _) => (Way::Load(Act::Stop), 1),
        ("worker", _) if point.contains("spool") => (Way::Bot, 2),
        ("worker", _) if point.contains("frames") => (Way::Bot, 4),
        ("worker", _) => (Way::Bot, 1),
        ("results", _) => (Way::Load(Act::Absence), 2),
        ("external", _) => (Way::Load(Act::External), 5),
        ("message", _) => (Way::Load(Act::Message), 5),
        ("limits", _) => (Way::Load(Act::Scale), 5),
        ("reload", _) => (Way::Load(Act::Reload), 5),
        ("backup", _) => (Way::Load(Act::Backup), 2),
        ("hive", _) if point.contains("rejected") => (Way::Load(Act::BadFile), 1),
        ("hive", _) => (Way::Load(Act::File), 2),
        ("store", _) if point.contains("create") => (Way::Start, 1),
        ("store", _) if point.contains("migrate") => (Way::Migrate, 1),
        ("store", _) if point.contains("close") => (Way::Load(Act::Stop), 1),
        ("store", _) if point.contains("checkpoint") => (Way::Load(Act::Nothing), 2),
        ("store", _) => match point {
            "store.renamed" | "store.log.made" => (Way::Start, 1),
            "store.room.before" | "store.room.after" => (Way::Start, 1),
            "store.snapshot.copied" | "store.snapshot.synced" => (Way::Migrate, 1),
            _ => (Way::Load(Act::Nothing), 30),
        },
        _ => (Way::Load(Act::Nothing), 30),
    }
}

/// Every failpoint there is.
fn all() -> Vec<String> {
    let plain = NAMES.iter().map(|name| (*name).to_owned());
    let of_files = DURABLE_FILES
        .iter()
        .flat_map(|file| DURABLE.iter().map(move |step| format!("{step}/{file}")));
    let only = std::env::var("DEIA_FAILPOINT_ONLY").unwrap_or_default();
    of_files
        .chain(plain)
        // Each has its own state to compare: `tests/restore.rs`, `tests/rollback.rs`.
        .filter(|point| !point.starts_with("restore.") && !point.ends_with("/restore.json"))
        .filter(|point| !point.starts_with("rollback.") && !point.ends_with("/rollback.json"))
        .filter(|point| point.starts_with(&only))
        .collect()
}

/// Stories for each seed: failpoints that are come to in the same way, in an order of their own where it does not
/// matter.
fn stories(seed: u64) -> Vec<Vec<String>> {
    let mut rng = Rng::with_seed(seed);
    let (mut loads, mut bots) = (Vec::new(), Vec::new());
    // In the order of the registry, which is that of the start; so that on one home each is come to.
    let (mut starts, mut migrations, mut upgrades) = (Vec::new(), Vec::new(), Vec::new());
    for point in all() {
        let list = match way(&point).0 {
            Way::Start => &mut starts,
            Way::Migrate => &mut migrations,
            Way::Upgrade => &mut upgrades,
            Way::Load(_) => &mut loads,
            Way::Bot => &mut bots,
        };
        list.push(point);
    }
    rng.shuffle(&mut loads);
    rng.shuffle(&mut bots);
    // A key is made before everything else, and a release is kept once; of the clocks each start writes.
    starts.sort_by_key(|point| {
        (
            !point.ends_with("fleet.key"),
            point.ends_with("clocks.json"),
            point.ends_with("alerts.json") || point.ends_with("webhook.key"),
        )
    });
    upgrades.sort_by_key(|point| !point.starts_with("upgrade.kept"));
    let mut stories = Vec::new();
    for list in [upgrades, loads, bots, starts, migrations] {
        // The same length for each, and none much longer than the others.
        let count = list.len().div_ceil(IN_ONE_STORY).max(1);
        let length = list.len().div_ceil(count).max(1);
        let is_ordered = list
            .first()
            .is_some_and(|point| matches!(way(point).0, Way::Start | Way::Migrate | Way::Upgrade));
        let length = if is_ordered {
            list.len().max(1)
        } else {
            length
        };
        stories.extend(list.chunks(length).map(<[String]>::to_vec));
    }
    stories
}

/// What a story came to.
#[derive(Default)]
struct Told {
    points: usize,
    tasks: u64,
    lost: u64,
    ready_again: Vec<Duration>,
}

/// Shown to fail on a daemon that reports before the commit (acknowledged tasks are not there), on one that notes a
/// task file as answered before the answer is there (a file is never answered), and, before it was mended, on one that
/// left the reason of a task file that it had not set aside yet.
#[test]
fn killed_at_every_failpoint_nothing_is_lost_and_nobody_has_to_help() {
    let test = "killed_at_every_failpoint_nothing_is_lost_and_nobody_has_to_help";
    if !cfg!(debug_assertions) {
        return skipped(test, "a release has no failpoints: without --release");
    }
    let seeds = match std::env::var("DEIA_FAILPOINT_SEED") {
        Ok(one) => one
            .parse()
            .map(|seed: u64| seed..seed + 1)
            .expect("a number"),
        Err(_) => 0..size(SEEDS[0], SEEDS[1]),
    };
    let count = seeds.end - seeds.start;
    let stories: Vec<(u64, Vec<String>)> = seeds
        .flat_map(|seed| stories(seed).into_iter().map(move |story| (seed, story)))
        .collect();
    let begun = Instant::now();
    let told = each_seed(0..stories.len() as u64, AT_ONCE, |n| {
        let (seed, points) = &stories[usize::try_from(n).unwrap()];
        let begun = Instant::now();
        let told = match way(&points[0]).0 {
            Way::Start => starts(points, *seed),
            Way::Migrate => migrations(points),
            Way::Upgrade => upgrades(points, *seed),
            Way::Load(_) => loads(points, *seed),
            Way::Bot => bots(points, *seed),
        };
        println!(
            "seed {seed}, {} kills in {:.1?}: {points:?}",
            points.len(),
            begun.elapsed()
        );
        told
    });
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let again = told.iter().flat_map(|told| told.ready_again.clone());
    print_spread("from the start until it answers again", again.collect());
    println!(
        "{} failpoints, {count} seeds: {} kills, {} tasks acknowledged, 0 lost; {} attempts lost with their bot; {:.0?}",
        all().len(),
        sum(|told| told.points as u64),
        sum(|told| told.tasks),
        sum(|told| told.lost),
        begun.elapsed()
    );
}

/// Starts the daemon so that it dies where it passes `point` for the `nth` time, and `meanwhile` until it has.
/// False where it did not within `patience`.
#[track_caller]
fn die_at(
    daemon: &mut Daemon,
    point: &str,
    nth: u32,
    patience: Duration,
    mut meanwhile: impl FnMut(&mut Daemon),
) -> bool {
    let deaths = deaths(daemon, point);
    daemon.set_env(VARIABLE, Some(&format!("{point}:{nth}")));
    daemon.launch();
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = daemon.ended() {
            assert_eq!(
                status.signal(),
                Some(9),
                "{point}:{nth}: {status}\n{}",
                daemon.said()
            );
            break;
        }
        if Instant::now() > deadline {
            return false;
        }
        if daemon.answers() {
            meanwhile(daemon);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        self::deaths(daemon, point),
        deaths + 1,
        "{point}:{nth}: not there"
    );
    daemon.set_env(VARIABLE, None);
    true
}

/// How often a daemon or a bot of this home has died there.
fn deaths(daemon: &Daemon, point: &str) -> usize {
    let mut said = daemon.said();
    let outputs = std::fs::read_dir(daemon.home().join(".deia/bot-output"));
    for output in outputs.into_iter().flatten().flatten() {
        said.push_str(&std::fs::read_to_string(output.path()).unwrap_or_default());
    }
    said.lines()
        .filter(|line| line.strip_prefix("deia: failpoint ") == Some(point))
        .count()
}

/// Starts it without any, and waits until it answers.
fn start_again(daemon: &mut Daemon, told: &mut Told) {
    let begun = Instant::now();
    daemon.launch();
    daemon.await_launched();
    told.ready_again.push(begun.elapsed());
}

const RULES: &str = "supervision: {stop_timeout_seconds: 2, backoff_seconds: [0.01, 0.1], poison_after: 1000, \
    restart_intensity: {max: 1000, seconds: 60}}\n\
    feature_flags: {request_validation_enabled: false}\n\
    thresholds: {memory_warning_percent: 0.001}\n\
    alerts: {webhook_url: \"http://127.0.0.1:1/\"}\n";

/// The first start on a home, again and again: it comes a little further each time.
fn starts(points: &[String], seed: u64) -> Told {
    let mut rng = Rng::with_seed(seed);
    let config = format!("{POOLS}{RULES}");
    let mut told = Told::default();
    let mut daemon = Daemon::builder().config(&config).prepare();
    let mut is_new = true;
    let done = |daemon: &mut Daemon, told: &mut Told| {
        start_again(daemon, told);
        daemon.wait_bots(4);
        let id = daemon.submit("at last");
        assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
        nothing_left_over(daemon.home());
        assert!(daemon.terminate().success());
        told.tasks += 1;
    };
    for point in points {
        let nth = rng.u32(1..=way(point).1);
        // What an earlier start has done is not done again: then on another home.
        if !die_at(&mut daemon, point, nth, REACHED / 10, |_| {}) {
            assert!(!is_new, "{point}:{nth} is never passed\n{}", daemon.said());
            daemon.kill9();
            daemon.set_env(VARIABLE, None);
            done(&mut daemon, &mut told);
            daemon = Daemon::builder().config(&config).prepare();
            let reached = die_at(&mut daemon, point, nth, REACHED, |_| {});
            assert!(reached, "{point}:{nth} is never passed\n{}", daemon.said());
        }
        is_new = false;
        told.points += 1;
    }
    done(&mut daemon, &mut told);
    told
}

/// A store of the first release, and a daemon that never gets further than a step.
fn migrations(points: &[String]) -> Told {
    let mut told = Told::default();
    // The sample's tasks are of long ago.
    let keep = "tasks: {retention_days: 36500, queue_timeout_seconds: 3000000000}\n";
    let config = format!("{POOLS}{RULES}{keep}");
    let mut daemon = Daemon::builder().config(&config).prepare();
    let database = daemon.home().join(".deia/state/deia.db");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let schema = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/supervisor/src/store/sqlite/tests/schema-1.sql"
    );
    let make = "import sqlite3, sys\n\
        store = sqlite3.connect(sys.argv[1])\n\
        store.executescript(open(sys.argv[2]).read())\n\
        store.execute('PRAGMA application_id = 0x64656961')\n\
        store.commit()\n";
    let made = Command::new("python3")
        .args(["-c", make])
        .arg(&database)
        .arg(schema)
        .status();
    assert!(made.expect("python3 is there").success());
    for point in points {
        let reached = die_at(&mut daemon, point, 1, REACHED, |_| {});
        assert!(reached, "{point} is never passed\n{}", daemon.said());
        told.points += 1;
    }
    start_again(&mut daemon, &mut told);
    // The one that was running has nobody's lease any more; whom the others are for, this configuration has not.
    for (id, status) in [
        ("succeeded", "succeeded"),
        ("dead", "dead"),
        ("queued", "queued"),
        ("running", "queued"),
        ("scheduled", "scheduled"),
    ] {
        let task = daemon.get(&format!("/api/tasks/{id}")).ok();
        assert_eq!(task["status"], status, "{task}");
    }
    let id = daemon.submit("in the new schema");
    assert_eq!(daemon.wait_task(&id, PATIENCE)["status"], "succeeded");
    nothing_left_over(daemon.home());
    told.tasks += 4;
    told
}

/// One failpoint after the other, under a load and with operators who act.
fn loads(points: &[String], seed: u64) -> Told {
    let mut acts = Acts::new(&format!("{POOLS}{RULES}"));
    let mut daemon = Daemon::builder().config(&acts.config(0)).prepare();
    under_load(&mut daemon, seed, |daemon, load, rng, told| {
        for (n, point) in points.iter().enumerate() {
            let (way, most) = way(point);
            let Way::Load(act) = way else {
                unreachable!("{way:?}")
            };
            let nth = rng.u32(1..=most);
            if act == Act::TornList {
                Acts::tear_the_list_of_files(daemon);
            }
            let mut is_told = false;
            let reached = die_at(daemon, point, nth, REACHED, |daemon| match act {
                Act::Nothing | Act::TornList => {}
                Act::Scale => acts.scale(daemon),
                Act::StopAndStart => acts.stop_and_start(daemon),
                Act::Reload => acts.reload(daemon),
                Act::Message => acts.message(daemon),
                Act::Token => acts.token(daemon),
                Act::External => acts.external(daemon),
                Act::File => acts.file(daemon),
                Act::BadFile => acts.bad_file(daemon),
                Act::Backup => acts.backup(daemon),
                Act::Stop if is_told => {}
                Act::Stop => {
                    is_told = true;
                    daemon.signal(Signal::SIGTERM);
                }
                Act::Absence => {
                    std::thread::sleep(Duration::from_millis(150));
                    if daemon.answers() {
                        let bots = bots_among(processes_of(daemon.home()));
                        daemon.kill9();
                        std::thread::sleep(Duration::from_millis(100));
                        // One that lives hands in what it has by itself.
                        bots.iter().for_each(|bot| bot.signal(Signal::SIGKILL));
                        daemon.launch();
                    }
                }
            });
            assert!(reached, "{point}:{nth} is never passed\n{}", daemon.said());
            told.points += 1;
            if point.ends_with("last-good.yaml") {
                acts.check_last_good(daemon);
            }
            // The next start, on the way to the next failpoint, is a recovery, too.
            if n % 3 == 2 {
                start_again(daemon, told);
                load.check_there(daemon);
                acts.check_standing(daemon);
                daemon.kill9();
            }
        }
        start_again(daemon, told);
        acts.check_all(daemon);
    })
}

/// The same in bots.
fn bots(points: &[String], seed: u64) -> Told {
    let mut daemon = Daemon::builder()
        .config(&format!("{POOLS}{RULES}"))
        .prepare();
    under_load(&mut daemon, seed, |daemon, load, rng, told| {
        for point in points {
            let nth = rng.u32(1..=way(point).1);
            // The bots that live are not armed: it is those that come after them.
            daemon.set_env(VARIABLE, Some(&format!("{point}:{nth}")));
            let before = deaths(daemon, point);
            let deadline = Instant::now() + REACHED;
            while deaths(daemon, point) == before {
                assert!(
                    Instant::now() < deadline,
                    "{point}:{nth} is never passed\n{}",
                    daemon.said()
                );
                start_again(daemon, told);
                // Its successor is the first that this daemon starts.
                if let Some(bot) = bots_among(processes_of(daemon.home())).first() {
                    bot.signal(Signal::SIGKILL);
                }
                std::thread::sleep(Duration::from_millis(300));
                daemon.kill9();
                std::thread::sleep(Duration::from_millis(100));
            }
            daemon.set_env(VARIABLE, None);
            told.points += 1;
        }
        start_again(daemon, told);
        load.check_there(daemon);
        wait_until(PATIENCE, "what bots kept is taken", || {
            let spool = std::fs::read_dir(daemon.home().join(".deia/spool"));
            (spool.unwrap().count() == 0).then_some(())
        });
        nothing_left_over(daemon.home());
    })
}

/// Another release, again and again; who dies in it is started again by the service manager, which is this test.
fn upgrades(points: &[String], seed: u64) -> Told {
    let mut daemon = Daemon::builder()
        .config(&format!("{POOLS}{RULES}"))
        .env("NOTIFY_SOCKET", "/nonexistent/notify")
        .prepare();
    let upgrade = |daemon: &Daemon| {
        let body = json!({}).to_string();
        let headers = [("content-type", "application/json")];
        let admin = daemon.admin();
        // It may be under way, or the daemon gone.
        drop(admin.try_request("POST", "/api/upgrade", &headers, Some(body.as_bytes())));
    };
    under_load(&mut daemon, seed, |daemon, load, _, told| {
        for point in points {
            let reached = die_at(daemon, point, 1, REACHED, |daemon| upgrade(daemon));
            assert!(reached, "{point} is never passed\n{}", daemon.said());
            told.points += 1;
        }
        start_again(daemon, told);
        load.check_there(daemon);
        let said = daemon.ctl(&["upgrade"]);
        assert_eq!(said.code, 0, "{said:?}");
        nothing_left_over(daemon.home());
    })
}

/// Tells a story while tasks are submitted, and holds the daemon to all that it acknowledged.
fn under_load(
    daemon: &mut Daemon,
    seed: u64,
    story: impl FnOnce(&mut Daemon, &Load, &mut Rng, &mut Told),
) -> Told {
    let mut rng = Rng::with_seed(seed);
    let mut told = Told::default();
    let load = Load::may_refuse(seed).pausing(40);
    let admin = daemon.admin();
    load.during(&admin, 1, || {
        story(daemon, &load, &mut rng, &mut told);
        load.wait_for_some();
    });
    let sum = load.check(daemon);
    check_runs(daemon, false, seed);
    told.tasks = sum.tasks;
    told.lost = sum.lost;
    assert!(daemon.terminate().success());
    told
}
