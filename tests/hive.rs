//! Task files: taken once, in order, answered once, whatever happens to the daemon.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use common::{Daemon, PATIENCE, print_spread, wait_until};
use fastrand::Rng;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Longer than a file is waited for until it counts as complete.
const TAKEN_BY_NOW: Duration = Duration::from_secs(3);

/// A pool of echo bots; an answer takes so many milliseconds.
fn pool(delay_ms: u64, bots: u32) -> String {
    format!(
        "bots: [{{name: coder, type: general, min: 1, max: {bots}, max_concurrent_tasks: 1, \
        backend: {{kind: echo, delay_ms: {delay_ms}}}}}]\nbot_limits: {{min_bots: 1, max_bots: {bots}}}\n"
    )
}

fn start(config: &str) -> Daemon {
    let daemon = Daemon::builder().config(config).start();
    wait_until(PATIENCE, "the pools' folders are made", || {
        hive(&daemon, "tasks/coder").is_dir().then_some(())
    });
    daemon
}

fn hive(daemon: &Daemon, path: &str) -> PathBuf {
    daemon.home().join(".deia/hive").join(path)
}

/// A file that appears whole.
fn put(daemon: &Daemon, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = hive(daemon, "tasks").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let aside = path.with_extension("part");
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, &path).unwrap();
    path
}

/// Name and text of every file in a folder.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| {
        let entry = entry.unwrap();
        let text = fs::read(entry.path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        (entry.file_name().into_string().unwrap(), text)
    });
    entries.collect()
}

/// The answers that are there.
fn responses(daemon: &Daemon) -> BTreeMap<String, String> {
    let mut all = files(&hive(daemon, "responses"));
    all.retain(|name, _| !name.starts_with('.'));
    all
}

#[track_caller]
fn wait_responses(daemon: &Daemon, count: usize) -> BTreeMap<String, String> {
    wait_until(PATIENCE, &format!("there are {count} responses"), || {
        let all = responses(daemon);
        assert!(all.len() <= count, "{all:#?}");
        (all.len() == count).then_some(all)
    })
}

/// Every task, the oldest first.
fn tasks(daemon: &Daemon) -> Vec<Value> {
    let page = daemon.get("/api/tasks?limit=1000").ok();
    let mut tasks = page["tasks"].as_array().unwrap().clone();
    tasks.reverse();
    tasks
}

/// Between `## Output` and the next heading.
fn output(response: &str) -> &str {
    let behind = response.split_once("## Output\n").unwrap().1;
    behind.split_once("\n## ").unwrap().0.trim()
}

#[test]
fn both_forms_become_tasks_and_are_answered() {
    let daemon = start(&pool(10, 2));
    let begun = Instant::now();
    put(
        &daemon,
        "coder/login.md",
        "---\ntask_id: TASK-7-LOGIN\nto: coder\nfrom: boss/../x\npriority: P1\ncreated_at: 2025-10-25T10:00:00\n---\n\nMend the login.\n",
    );
    let lines = "# Draw\n\n**To:** CODER\n**From:** queen\n**Priority:** P0\n\nDraw a page.\n";
    put(&daemon, "coder-2/draw-a-page.md", lines);
    let answers = wait_responses(&daemon, 2);
    print_spread("from two files to two answers", vec![begun.elapsed()]);

    let all = tasks(&daemon);
    let of = |form| {
        all.iter()
            .find(|task| task["metadata"]["task_file"]["form"] == form)
    };
    let (a, b) = (of("front_matter").unwrap(), of("lines").unwrap());
    assert_eq!((&a["pool"], &a["bot_id"]), (&json!("coder"), &Value::Null));
    assert_eq!(
        (&b["pool"], &b["bot_id"]),
        (&Value::Null, &json!("coder-2"))
    );
    assert_eq!(
        (&a["priority"], &b["priority"]),
        (&json!("P1"), &json!("P0"))
    );
    assert_eq!(
        a["metadata"]["task_file"],
        json!({"folder": "coder", "file": "login.md", "form": "front_matter", "task_id": "TASK-7-LOGIN",
            "from": "boss/../x", "to": "coder", "created_at": "2025-10-25T10:00:00"})
    );
    assert_eq!(b["metadata"]["task_file"]["task_id"], "draw-a-page");

    let minute = |task: &Value| {
        let at = task["ended_at"].as_str().unwrap();
        format!("{}-{}{}", &at[..10], &at[11..13], &at[14..16])
    };
    let bot = a["attempts"][0]["bot_id"].as_str().unwrap();
    let name = format!("{}-{bot}-boss_.._x-RESPONSE-LOGIN-complete.md", minute(a));
    let text = answers
        .get(&name)
        .unwrap_or_else(|| panic!("{name}: {answers:#?}"));
    assert_eq!(output(text), "Mend the login.");
    for line in [
        "# RESPONSE: LOGIN - Complete\n",
        &format!("**From:** {bot}\n"),
        "**To:** boss/../x\n",
        "**Task:** TASK-7-LOGIN\n",
        &format!("**Task ID:** {}\n", a["task_id"].as_str().unwrap()),
        "**Status:** ✓ SUCCESS\n",
        "**Duration:** ",
        "## Files Modified\n\n- None\n",
        "**Response generated:** ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let name = format!("{}-coder-2-queen-RESPONSE-page-complete.md", minute(b));
    let text = answers
        .get(&name)
        .unwrap_or_else(|| panic!("{name}: {answers:#?}"));
    assert_eq!(output(text), lines.trim());
    // Neither is moved.
    assert!(hive(&daemon, "tasks/coder/login.md").exists());
}

/// Shown to fail with files taken in the order of their names, and without a look at their age.
#[test]
fn the_most_urgent_file_goes_first_and_of_equals_the_oldest() {
    let daemon = start(&pool(100, 1));
    let now = SystemTime::now();
    fs::write(hive(&daemon, "controls/coder-PAUSE"), "").unwrap();
    let file = |name: &str, priority: &str, age_seconds: u64| {
        let path = put(
            &daemon,
            &format!("coder/{name}.md"),
            format!("**Priority:** {priority}\n{name}"),
        );
        let modified = now - Duration::from_secs(age_seconds);
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(modified).unwrap();
    };
    file("a", "whenever", 900);
    file("b", "P3", 10);
    file("c", "P1", 20);
    file("d", "P1", 30);
    file("e", "P9", 800);
    file("f", "P0", 1);
    file("g", "(none)", 950);
    sleep(TAKEN_BY_NOW);
    assert!(tasks(&daemon).is_empty());
    fs::remove_file(hive(&daemon, "controls/coder-PAUSE")).unwrap();
    wait_responses(&daemon, 7);
    let mut started: Vec<(String, String)> = tasks(&daemon)
        .iter()
        .map(|task| {
            let file = task["metadata"]["task_file"]["file"].as_str().unwrap();
            let at = task["attempts"][0]["started_at"].as_str().unwrap();
            (at.to_owned(), file[..1].to_owned())
        })
        .collect();
    started.sort();
    let mut order: Vec<&str> = started.iter().map(|(_, file)| file.as_str()).collect();
    // The bot is free when the first one comes, which is therefore begun whatever comes next.
    assert_eq!(order.remove(0), "f");
    assert_eq!(order, ["d", "c", "b", "e", "g", "a"]);
}

/// Shown to fail with names of tasks that differ between two daemons (two tasks after the restart), without the
/// ledger (a second run once the store has removed the first), with names by content alone (the other folder's
/// is not run), and with a lower limit looked at before the ledger (what was taken is set aside).
#[test]
fn each_content_runs_once() {
    let mut daemon = start(&pool(0, 2));
    let text = "---\ntask_id: T-1\n---\nonce";
    put(&daemon, "coder/a.md", text);
    wait_responses(&daemon, 1);
    put(&daemon, "coder/b.md", text);
    daemon.kill9();
    daemon.restart();
    // Written again as it was: another file, the same content.
    put(&daemon, "coder/a.md", text);
    sleep(TAKEN_BY_NOW);
    assert_eq!(tasks(&daemon).len(), 1);
    put(&daemon, "coder/a.md", "---\ntask_id: T-1\n---\nonce more");
    put(&daemon, "coder-2/a.md", text);
    let answers = wait_responses(&daemon, 3);
    let mut outputs: Vec<&str> = answers.values().map(|text| output(text)).collect();
    outputs.sort_unstable();
    assert_eq!(outputs, ["once", "once", "once more"]);
    // The store forgets them; the files are still there, and would not be taken any more.
    daemon.terminate();
    let forgetful = format!(
        "{}tasks: {{max_kept: 1, max_content_bytes: 5}}\n",
        pool(0, 1)
    );
    daemon.write_config(&format!("http: {{listen: \"127.0.0.1:0\"}}\n{forgetful}"));
    daemon.restart();
    wait_until(Duration::from_secs(90), "the store removes them", || {
        (tasks(&daemon).len() == 1).then_some(())
    });
    daemon.kill9();
    daemon.restart();
    sleep(TAKEN_BY_NOW);
    assert_eq!(tasks(&daemon).len(), 1);
    assert_eq!(responses(&daemon).len(), 3);
    for file in ["coder/a.md", "coder/b.md", "coder-2/a.md"] {
        assert!(hive(&daemon, "tasks").join(file).exists(), "{file}");
    }
}

/// Kills at any moment, with files that come, and of which half go as soon as they are taken.
///
/// Shown to fail, each with a pause of 150 ms before what is noted, with which the right build passes: with names of
/// tasks that differ between two daemons (more tasks than files), with answers numbered without a look at
/// what is there already (two of one task), and with nothing noted before a submission (a task whose file has
/// gone is never answered).
#[test]
fn whatever_the_daemon_is_killed_at_each_file_runs_once_and_is_answered_once() {
    let seed = std::env::var("DEIA_HIVE_SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let mut daemon = start(&pool(20, 2));
    let mut count = 0;
    for _ in 0..10 {
        for _ in 0..rng.usize(3..12) {
            count += 1;
            put(
                &daemon,
                &format!("coder/{count}.md"),
                format!("task {count}"),
            );
        }
        // Most kills fall into the moment in which files are taken.
        sleep(Duration::from_millis(rng.u64(1_000..1_350)));
        for task in tasks(&daemon) {
            let file = task["metadata"]["task_file"]["file"].as_str().unwrap();
            if rng.bool() {
                let _ = fs::remove_file(hive(&daemon, "tasks/coder").join(file));
            }
        }
        daemon.kill9();
        daemon.restart();
    }
    let answers = wait_responses(&daemon, count);
    let mut outputs: Vec<String> = answers
        .values()
        .map(|text| output(text).to_owned())
        .collect();
    outputs.sort();
    let mut wanted: Vec<String> = (1..=count).map(|n| format!("task {n}")).collect();
    wanted.sort();
    assert_eq!(outputs, wanted, "DEIA_HIVE_SEED={seed}");
    let all = tasks(&daemon);
    assert_eq!(all.len(), count, "DEIA_HIVE_SEED={seed}");
    for task in all {
        assert_eq!(task["status"], "succeeded", "{task}");
    }
    sleep(TAKEN_BY_NOW);
    assert_eq!(responses(&daemon).len(), count, "DEIA_HIVE_SEED={seed}");
}

/// Shown to fail with files read as soon as they are seen (the task is a part of the text), and with a
/// front matter that is not closed taken for a fault after a second (it is set aside).
#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let daemon = start(&pool(0, 1));
    let mut slow = File::create(hive(&daemon, "tasks/coder/slow.md")).unwrap();
    for n in 0..8 {
        writeln!(slow, "line {n}").unwrap();
        sleep(Duration::from_millis(400));
    }
    // Pauses that are longer than it takes for a file to count as complete.
    let mut halting = File::create(hive(&daemon, "tasks/coder/halting.md")).unwrap();
    for part in ["", "---\nfrom: boss\n", "---\n", "the whole task"] {
        write!(halting, "{part}").unwrap();
        sleep(Duration::from_millis(2_000));
    }
    let answers = wait_responses(&daemon, 2);
    let mut outputs: Vec<&str> = answers.values().map(|text| output(text)).collect();
    outputs.sort_unstable();
    assert_eq!(outputs[0].lines().count(), 8, "{answers:#?}");
    assert_eq!(outputs[1], "the whole task");
    assert_eq!(tasks(&daemon).len(), 2);
    assert!(!hive(&daemon, "rejected").exists());
}

/// Shown to fail with links followed (a file elsewhere is taken from its folder), and with names that are not
/// looked at before they are used (the first of two files of one name is lost).
#[test]
fn what_is_no_task_is_set_aside_and_says_why() {
    let config = format!("{}tasks: {{max_content_bytes: 2000}}\n", pool(0, 1));
    let daemon = start(&config);
    let elsewhere = daemon.home().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("x.md"), "a secret elsewhere").unwrap();
    let tasks_of = |path: &str| hive(&daemon, "tasks").join(path);
    std::os::unix::fs::symlink(&elsewhere, tasks_of("linked")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("x.md"), tasks_of("coder/link.md")).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&tasks_of("coder/fifo.md"), mode).unwrap();
    put(&daemon, "coder/.hidden.md", "hidden");
    put(&daemon, "coder/notes.txt", "no task");

    put(&daemon, "coder/large.md", "x".repeat(2_001));
    put(&daemon, "coder/latin.md", b"caf\xe9 au lait");
    put(&daemon, "coder/empty.md", " \n");
    put(
        &daemon,
        "coder/open.md",
        "---\nto: coder\n\nmy private words\n",
    );
    put(&daemon, "nobody/lost.md", "for nobody");
    put(&daemon, "coder-9/lost.md", "for a bot that never is");
    let aside = |folder: &str| files(&hive(&daemon, "rejected").join(folder));
    wait_until(PATIENCE, "six files are set aside", || {
        let all = [
            aside("coder").len(),
            aside("nobody").len(),
            aside("coder-9").len(),
        ];
        (all == [8, 2, 2]).then_some(())
    });
    // The same name again.
    put(&daemon, "coder/large.md", "y".repeat(2_001));
    wait_until(PATIENCE, "the seventh, too", || {
        (aside("coder").len() == 10).then_some(())
    });
    let coder = aside("coder");
    assert_eq!(coder["large.md"], "x".repeat(2_001));
    assert_eq!(coder["large-2.md"], "y".repeat(2_001));
    for (file, why) in [
        (
            "large.md",
            "the file has 2001 bytes, tasks.max_content_bytes allows 2000",
        ),
        ("large-2.md", "2001 bytes"),
        (
            "latin.md",
            "not UTF-8 (byte 3 is the first wrong one): save it as UTF-8",
        ),
        (
            "empty.md",
            "the file is empty: write the task's text into it",
        ),
        (
            "open.md",
            "the front matter is not closed: put a line of --- behind it",
        ),
    ] {
        let said = &coder[&format!("{file}.reason.txt")];
        assert!(said.contains(why), "{why}: {said}");
        assert!(said.contains(".deia/hive/tasks/coder/"), "{said}");
    }
    let said = &aside("nobody")["lost.md.reason.txt"];
    assert!(
        said.contains("called 'nobody' (there are: coder)"),
        "{said}"
    );

    // What is none of its business is where it was; nothing was run.
    for name in ["link.md", "fifo.md", ".hidden.md", "notes.txt"] {
        assert!(
            tasks_of("coder").join(name).symlink_metadata().is_ok(),
            "{name}"
        );
    }
    assert_eq!(
        fs::read_to_string(elsewhere.join("x.md")).unwrap(),
        "a secret elsewhere"
    );
    assert!(tasks(&daemon).is_empty());
    // The log says what and why, and nothing of what they said.
    let log = wait_until(PATIENCE, "the log has all seven", || {
        let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
        let rejected = |line: &&str| line.contains("\"task_file_rejected\"");
        (log.lines().filter(rejected).count() == 7).then_some(log)
    });
    assert!(
        !log.contains("my private words") && !log.contains("ERROR"),
        "{log}"
    );
    // Mended and put back, it is a task.
    let mended = hive(&daemon, "rejected/coder/open.md");
    let text = fs::read_to_string(&mended)
        .unwrap()
        .replacen("\n\n", "\n---\n", 1);
    fs::write(&mended, text).unwrap();
    fs::rename(&mended, tasks_of("coder/open.md")).unwrap();
    let answers = wait_responses(&daemon, 1);
    assert_eq!(output(answers.values().next().unwrap()), "my private words");
}

/// Shown to fail with answers that replace what is there, as in the original: one of three is left.
#[test]
fn no_answer_overwrites_another() {
    let daemon = start(&pool(0, 1));
    for n in 0..3 {
        put(
            &daemon,
            &format!("coder/{n}.md"),
            format!("---\ntask_id: A-{n}-SAME\nfrom: boss\n---\nanswer {n}"),
        );
    }
    let first = wait_responses(&daemon, 3);
    let mut outputs: Vec<&str> = first.values().map(|text| output(text)).collect();
    outputs.sort_unstable();
    assert_eq!(outputs, ["answer 0", "answer 1", "answer 2"]);
    // All in one minute, or in two.
    let numbered = first.keys().filter(|name| name.ends_with("-complete-2.md"));
    assert!(numbered.count() >= 1, "{:?}", first.keys());
}

/// Shown to fail without a look at `controls/`.
#[test]
fn files_of_a_paused_bot_wait() {
    let daemon = start(&pool(0, 2));
    fs::write(hive(&daemon, "controls/coder-PAUSE"), "").unwrap();
    put(&daemon, "coder/waits.md", "waits");
    put(&daemon, "coder/bad.md", b"\xff\xff");
    put(&daemon, "coder-2/goes.md", "goes");
    wait_responses(&daemon, 1);
    sleep(TAKEN_BY_NOW);
    assert_eq!(tasks(&daemon).len(), 1);
    assert!(!hive(&daemon, "rejected").exists());
    fs::remove_file(hive(&daemon, "controls/coder-PAUSE")).unwrap();
    wait_responses(&daemon, 2);
}

/// Shown to fail without a look at what is owed at the start, and without the second try.
#[test]
fn what_ended_and_could_not_be_answered_is_answered_later() {
    let mut daemon = start(&pool(300, 1));
    // In place of the folder: nothing can be written, as between the end of a task and its answer.
    let folder = hive(&daemon, "responses");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let first = put(&daemon, "coder/first.md", "first");
    let ended = |n: usize| {
        wait_until(PATIENCE, "the tasks have ended", || {
            let all = tasks(&daemon);
            let ended = all.iter().filter(|task| task["status"] == "succeeded");
            (ended.count() == n).then_some(())
        });
    };
    ended(1);
    // Also without the file.
    fs::remove_file(first).unwrap();
    sleep(Duration::from_millis(200));
    daemon.kill9();
    fs::remove_file(&folder).unwrap();
    daemon.restart();
    let answers = wait_responses(&daemon, 1);
    assert_eq!(output(answers.values().next().unwrap()), "first");
    assert!(
        answers
            .keys()
            .next()
            .unwrap()
            .contains("-coder-unknown-RESPONSE-first-")
    );

    // The same without a restart.
    fs::rename(&folder, folder.with_extension("kept")).unwrap();
    fs::write(&folder, "").unwrap();
    put(&daemon, "coder/second.md", "second");
    wait_until(PATIENCE, "it has ended", || {
        let all = tasks(&daemon);
        let ended = all.iter().filter(|task| task["status"] == "succeeded");
        (ended.count() == 2).then_some(())
    });
    sleep(Duration::from_millis(200));
    fs::remove_file(&folder).unwrap();
    let answers = wait_responses(&daemon, 1);
    assert_eq!(output(answers.values().next().unwrap()), "second");
}

#[test]
fn a_failure_is_answered_too() {
    let config = "bots: [{name: coder, type: general, min: 1, max: 1, max_concurrent_tasks: 1, \
        backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
        bot_limits: {min_bots: 1, max_bots: 1}\nfeature_flags: {request_validation_enabled: false}\n\
        tasks: {max_attempts: 2, retry_backoff_seconds: [0.05, 0.1]}\n";
    let daemon = start(config);
    put(
        &daemon,
        "coder/fails.md",
        "---\nfrom: boss\n---\necho sorry >&2; exit 3",
    );
    let answers = wait_responses(&daemon, 1);
    let (name, text) = answers.iter().next().unwrap();
    assert!(
        name.ends_with("-coder-boss-RESPONSE-fails-failed.md"),
        "{name}"
    );
    for part in [
        "# RESPONSE: fails - Failed",
        "✗ FAILED",
        "**Attempts:** 2",
        "## Error",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // One that is cancelled before a bot has it.
    put(&daemon, "coder/long.md", "sleep 20");
    put(&daemon, "coder/waits.md", "**From:** queen");
    let waiting = wait_until(PATIENCE, "one waits", || {
        let all = tasks(&daemon);
        let mut waiting = all.iter().filter(|task| task["status"] == "queued");
        Some(waiting.next()?["task_id"].as_str()?.to_owned())
    });
    for task in tasks(&daemon) {
        let id = task["task_id"].as_str().unwrap();
        if id == waiting || task["status"] == "running" {
            daemon
                .post(&format!("/api/tasks/{id}/cancel"), &json!({}))
                .ok();
        }
    }
    let answers = wait_responses(&daemon, 3);
    let cancelled = answers
        .values()
        .filter(|text| text.contains("it was cancelled"));
    assert_eq!(cancelled.count(), 2, "{answers:#?}");
}

/// Shown to fail with a refusal for now taken for one for good (the file is set aside).
#[test]
fn what_is_refused_for_now_stays_and_is_taken_later() {
    let daemon = start(&pool(0, 2));
    daemon.ctl(&["scale", "--max", "0"]).ok();
    put(&daemon, "coder/a.md", "a");
    put(&daemon, "coder-2/b.md", "b");
    sleep(TAKEN_BY_NOW);
    assert!(tasks(&daemon).is_empty());
    assert!(!hive(&daemon, "rejected").exists());
    daemon.ctl(&["resume"]).ok();
    wait_responses(&daemon, 2);
    let log = daemon.read(".deia/bot-logs/supervisor.jsonl");
    let said = log
        .lines()
        .filter(|line| line.contains("\"task_files_wait\""));
    assert_eq!(said.count(), 1, "{log}");
}

#[test]
fn files_go_on_being_taken_in_another_release_and_under_another_configuration() {
    let daemon = start(&pool(300, 1));
    put(&daemon, "coder/a.md", "a");
    wait_until(PATIENCE, "it is taken", || {
        (!tasks(&daemon).is_empty()).then_some(())
    });
    // The same release, as another process: the task runs, its answer is owed.
    daemon.signal(Signal::SIGUSR2);
    wait_responses(&daemon, 1);
    let more = "bots: [{name: coder, type: general, backend: {kind: echo}}, \
        {name: writer, type: writer, backend: {kind: echo}}]\n";
    daemon.write_config(&format!("http: {{listen: \"127.0.0.1:0\"}}\n{more}"));
    wait_until(PATIENCE, "the new pool has a folder", || {
        hive(&daemon, "tasks/writer").is_dir().then_some(())
    });
    put(&daemon, "writer/b.md", "Write python code");
    let answers = wait_responses(&daemon, 2);
    assert!(
        answers
            .keys()
            .any(|name| name.contains("-writer-unknown-RESPONSE-b-complete"))
    );
}
