//! The whole way from an event to the files.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tracing::{debug, error, info, warn};

use super::*;

/// Logs within `what`, and gives back every file.
fn logged(level: LogLevel, what: impl FnOnce(&LogHandle)) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let (subscriber, handle) = build(dir.path(), &Logging::default(), level, Console::Off).unwrap();
    tracing::subscriber::with_default(subscriber, || what(&handle));
    handle.shutdown();
    fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

#[test]
fn a_line_has_the_contracts_fields_and_types() {
    let files = logged(LogLevel::Info, |_| {
        error!(event = "store_failed", code = 5, share = 0.5, ok = false, what = %"disk \"a\"\n", nan = f64::NAN, none = Option::<u32>::None, "The store failed");
    });
    let line = json(&files["supervisor.jsonl"]);
    let at: deia::time::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(at.seconds_since(deia::time::Timestamp::now()).abs() < 60.0);
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["event"], "store_failed");
    assert_eq!(line["message"], "The store failed");
    assert_eq!(
        (&line["code"], &line["share"], &line["ok"]),
        (&5.into(), &0.5.into(), &false.into())
    );
    assert_eq!(
        (&line["what"], &line["nan"]),
        (&"disk \"a\"\n".into(), &serde_json::Value::Null)
    );
    assert!(files["supervisor.jsonl"].starts_with("{\"timestamp\":\""));
}

/// Shown to fail without the search for shapes.
#[test]
fn what_looks_like_a_secret_is_not_written() {
    let secret = "0123456789abcdef0123";
    let files = logged(LogLevel::Info, |_| {
        for text in [
            format!("cannot reach http://deia:{secret}@models/v1: refused"),
            format!("cannot reach https://{secret}@models/v1"),
            format!("a file is called sk-{secret}.md"),
            format!("said: bearer {secret}"),
            format!("AKIA{secret}"),
        ] {
            warn!(
                event = "backend_failed",
                bot_id = "coder",
                error = text,
                "{text}"
            );
        }
        warn!(
            event = "backend_failed",
            url = "http://models/v1",
            "It failed"
        );
    });
    for (name, text) in &files {
        assert!(!text.contains(&secret[..16]), "{name}: {text}");
    }
    assert!(files["supervisor.jsonl"].contains("cannot reach http://[redacted]models/v1: refused"));
    assert!(files["supervisor.jsonl"].contains("\"http://models/v1\""));
}

#[test]
fn events_are_in_the_files_of_their_kind() {
    let files = logged(LogLevel::Info, |_| {
        info!(
            event = "task_started",
            bot_id = "coder-2",
            task_id = "t1",
            "Task started"
        );
        info!(event = "bot_ready", bot_id = "coder-2", "Bot ready");
        info!(event = "task_started", bot_id = "../../etc", "Task started");
        info!(event = "task_started", bot_id = "token-bot", "Task started");
        info!(event = "scaled_up", added = 1, "Scaled up");
        warn!("a line of a library");
    });
    let events = |name: &str| -> Vec<String> {
        files[name]
            .lines()
            .map(|l| json(l)["event"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        events("coder-2-activity.jsonl"),
        ["task_started", "bot_ready"]
    );
    assert_eq!(
        events("supervisor.jsonl"),
        ["bot_ready", "scaled_up", "log"]
    );
    assert_eq!(events("auto-scaling.jsonl"), ["scaled_up"]);
    assert_eq!(events("orchestration.jsonl"), ["task_started"]);
    let masked = format!("{}-activity.jsonl", deia::mask::digest("token-bot"));
    assert_eq!(events(&masked), ["task_started"]);
    assert_eq!(files.len(), 5, "{:?}", files.keys());
}

#[test]
fn the_level_holds_and_changes_while_running() {
    let files = logged(LogLevel::Warning, |handle| {
        for round in 0..2 {
            debug!(event = "d", round, "x");
            info!(event = "i", round, "x");
            warn!(event = "w", round, "x");
            info!(target: "hyper", round, "libraries only warn");
            handle.set_level(LogLevel::Debug);
        }
    });
    let events: Vec<_> = files["supervisor.jsonl"]
        .lines()
        .map(|l| json(l)["event"].clone())
        .collect();
    assert_eq!(events, ["w", "d", "i", "w"]);
}

#[test]
fn a_flood_is_dropped_counted_and_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (subscriber, handle) = build(
        dir.path(),
        &Logging::default(),
        LogLevel::Info,
        Console::Off,
    )
    .unwrap();
    let long = "x".repeat(4000);
    let sent = 6_000_u64;
    tracing::subscriber::with_default(subscriber, || {
        for n in 0..sent {
            info!(event = "flood", n, long, "Flood");
        }
    });
    handle.shutdown();
    let mut written = 0;
    let mut dropped = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let line = json(line);
            match line["event"].as_str().unwrap() {
                "flood" => written += 1,
                "log_lines_dropped" => dropped += line["count"].as_u64().unwrap(),
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(written + dropped, sent, "{written} + {dropped}");
}

#[test]
fn a_line_is_on_disk_soon_without_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let (subscriber, handle) = build(
        dir.path(),
        &Logging::default(),
        LogLevel::Info,
        Console::Off,
    )
    .unwrap();
    tracing::subscriber::with_default(subscriber, || info!(event = "soon", "Soon"));
    let from = Instant::now();
    while !fs::read_to_string(dir.path().join("supervisor.jsonl")).is_ok_and(|t| t.contains("soon"))
    {
        assert!(from.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    handle.shutdown();
}

#[test]
fn long_values_and_many_fields_are_bounded() {
    let files = logged(LogLevel::Info, |_| {
        let long = "é".repeat(100_000);
        info!(event = "long", a = long, b = long, "{long}");
    });
    assert!(files["supervisor.jsonl"].len() < 3 * MAX_VALUE_BYTES + 1000);
    json(&files["supervisor.jsonl"]);
}

fn nasty() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "(?i)(password|token|key)",
        "[pP]ass",
        "[tT]o",
        "ken",
        "word",
        "[kK\u{212a}]ey",
        ".{0,4}",
        Just("ERROR".to_owned()),
        Just("pa\u{17f}sword".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("\n".to_owned()),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// As `grep -i` in a UTF-8 locale folds.
fn folded(text: &str) -> String {
    text.to_lowercase()
        .replace('\u{17f}', "s")
        .replace('\u{212a}', "k")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// `grep -i 'password\|token\|key'` and `grep ERROR` find nothing, in files and in their names.
    #[test]
    fn no_forbidden_word_is_ever_written(values in prop::collection::vec(nasty(), 6)) {
        let files = logged(LogLevel::Debug, |_| {
            let [bot, task, value, message, event, shown] = &values[..] else { panic!() };
            info!(event = "task_failed", bot_id = %bot, task_id = task, "Task failed");
            warn!(event = "bot_exited", bot_id = bot, api_key = value, token_count = 7, reason = ?shown, "{message}");
            debug!(event, password = true, "{value}");
            info!(target: "deia::token", "{message}");
            warn!(target: "my-password", value, "x");
        });
        for (name, text) in &files {
            for word in deia::mask::FORBIDDEN_WORDS {
                prop_assert!(!folded(text).contains(word), "{} in {}", word, text);
                prop_assert!(!folded(name).contains(word), "{} in the name {}", word, name);
            }
            prop_assert!(!text.contains("ERROR"), "{}", text);
            for line in text.lines() { json(line); }
        }
    }
}
