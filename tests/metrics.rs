//! `/metrics`, read as strictly as the format is written, and by Prometheus' own reader where there is one.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use common::{Daemon, skipped};
use serde_json::json;

type Labels = Vec<(String, String)>;

/// A histogram: its buckets, its sum, its count.
type Series = (Vec<(f64, f64)>, Option<f64>, Option<f64>);

/// A family: its type and its samples.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// The page, read by the rules of the text format 0.0.4; whatever does not fit them fails the test.
fn parse(page: &str) -> BTreeMap<String, Family> {
    assert!(page.ends_with('\n'), "the last line has no end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = BTreeSet::new();
    let mut lines = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').expect("a text");
            assert!(!text.is_empty() && helped.insert(name.to_owned()), "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(helped.contains(name), "no HELP: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family {
                kind: kind.to_owned(),
                samples: Vec::new(),
            };
            assert!(
                families.insert(name.to_owned(), family).is_none(),
                "twice: {line}"
            );
            current = name.to_owned();
            continue;
        }
        let (name, labels, value) = sample(line);
        let family = families
            .get_mut(&current)
            .expect("a family before its samples");
        let suffix = name
            .strip_prefix(current.as_str())
            .unwrap_or_else(|| panic!("{line} in {current}"));
        let allowed: &[&str] = match family.kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line}");
        assert!(lines.insert(format!("{name}{labels:?}")), "twice: {line}");
        family.samples.push((name, labels, value));
    }
    for (name, family) in &families {
        check(name, family);
    }
    families
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, value) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut text = String::new();
            let mut chars = value.char_indices();
            let end = loop {
                match chars.next().expect("the end of a value") {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().expect("an escape").1 {
                        'n' => text.push('\n'),
                        c @ ('\\' | '"') => text.push(c),
                        c => panic!("\\{c} in {line}"),
                    },
                    (_, c) => text.push(c),
                }
            };
            labels.push((label.to_owned(), text));
            rest = &value[end + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("one space");
    (
        name.to_owned(),
        labels,
        value.parse().unwrap_or_else(|_| panic!("{line}")),
    )
}

/// The conventions: units, `_total`, histograms that add up.
fn check(name: &str, family: &Family) {
    assert!(name.starts_with("deia_"), "{name}");
    assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
    for unit in ["_ms", "_milliseconds", "_minutes", "_mb", "_percent"] {
        assert!(!name.contains(unit), "{name}: base units only");
    }
    if family.kind != "histogram" {
        assert!(
            family.samples.iter().all(|(_, _, value)| *value >= 0.0),
            "{name}"
        );
        return;
    }
    let mut series: BTreeMap<String, Series> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        let rest: Labels = labels.iter().filter(|(l, _)| l != "le").cloned().collect();
        let one = series.entry(format!("{rest:?}")).or_default();
        match labels.iter().find(|(l, _)| l == "le") {
            Some((_, le)) => {
                let le = if le == "+Inf" {
                    f64::INFINITY
                } else {
                    le.parse().unwrap()
                };
                one.0.push((le, *value));
            }
            None if sample.ends_with("_sum") => one.1 = Some(*value),
            None => one.2 = Some(*value),
        }
    }
    for (buckets, sum, count) in series.values() {
        assert!(
            buckets
                .windows(2)
                .all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1),
            "{name}"
        );
        let (le, all) = buckets.last().expect("buckets");
        assert!(
            le.is_infinite() && Some(*all) == *count && sum.is_some(),
            "{name}"
        );
    }
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = families
        .iter()
        .filter(|(known, _)| name.starts_with(known.as_str()));
    let family = all.max_by_key(|(known, _)| known.len());
    let (_, family) = family.unwrap_or_else(|| panic!("no {name}"));
    let fits = |have: &Labels| {
        let has = |(name, text): &(&str, &str)| have.iter().any(|(n, t)| n == name && t == text);
        labels.iter().all(has)
    };
    let found = family
        .samples
        .iter()
        .filter(|(n, have, _)| n == name && fits(have));
    found.map(|(_, _, value)| value).sum()
}

/// Two pools, one of which never succeeds.
fn fleet() -> Daemon {
    let daemon = Daemon::builder()
        .config(
            "tasks: {max_attempts: 1}\nbot_limits: {min_bots: 2, max_bots: 2}\n\
            bots: [{name: works, type: general, min: 1, max: 1, backend: {kind: echo}}, \
            {name: fails, type: general, min: 1, max: 1, backend: {kind: command, argv: [\"false\"]}}]\n",
        )
        .start();
    daemon.wait_bots(2);
    for (pool, task) in [("works", "a"), ("works", "b"), ("fails", "c")] {
        let request = json!({"content": "x", "task_id": task, "pool": pool, "type": "writing", "wait_seconds": 20});
        daemon.post("/api/orchestrate", &request).ok();
    }
    let again = json!({"content": "x", "task_id": "a", "pool": "works", "type": "writing"});
    assert_eq!(
        daemon.post("/api/orchestrate", &again).ok()["duplicate"],
        true
    );
    daemon
}

#[test]
fn what_happened_is_counted_and_the_page_keeps_every_rule() {
    let daemon = fleet();
    let answer = daemon.tcp().get("/metrics");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let families = parse(&answer.text);
    let value = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    for (name, labels, expected) in [
        ("deia_tasks", vec![("status", "succeeded")], 2.0),
        ("deia_tasks", vec![("status", "dead")], 1.0),
        (
            "deia_task_submissions_total",
            vec![("outcome", "accepted")],
            3.0,
        ),
        (
            "deia_task_submissions_total",
            vec![("outcome", "duplicate")],
            1.0,
        ),
        ("deia_tasks_accepted_total", vec![("type", "writing")], 3.0),
        ("deia_tasks_finished_total", vec![("status", "dead")], 1.0),
        ("deia_attempts_total", vec![], 3.0),
        (
            "deia_attempts_ended_total",
            vec![("bot", "works"), ("outcome", "succeeded")],
            2.0,
        ),
        (
            "deia_attempts_ended_total",
            vec![("bot", "fails"), ("outcome", "failed")],
            1.0,
        ),
        ("deia_attempt_errors_total", vec![("kind", "backend")], 1.0),
        ("deia_queue_depth", vec![], 0.0),
        (
            "deia_bots",
            vec![("pool", "works"), ("state", "ready")],
            1.0,
        ),
        ("deia_bots_max", vec![], 2.0),
        // Also for what turned out to be there already.
        ("deia_routing_duration_seconds_count", vec![], 4.0),
        ("deia_queue_wait_seconds_count", vec![], 3.0),
        (
            "deia_task_execution_seconds_count",
            vec![("type", "writing")],
            3.0,
        ),
        (
            "deia_http_requests_total",
            vec![("route", "/api/orchestrate"), ("code", "2xx")],
            4.0,
        ),
        ("deia_accepting_tasks", vec![], 1.0),
        ("deia_build_info", vec![], 1.0),
    ] {
        assert_eq!(
            value(name, &labels),
            expected,
            "{name} {labels:?}\n{}",
            answer.text
        );
    }
    for name in [
        "deia_bot_resident_memory_bytes",
        "deia_process_resident_memory_bytes",
        "deia_store_commit_seconds_count",
        "deia_start_time_seconds",
    ] {
        assert!(value(name, &[]) > 0.0, "{name}\n{}", answer.text);
    }
    // Whatever is asked for, what is counted by stays what it was.
    for n in 0..20 {
        daemon.tcp().get(&format!("/nowhere/{n}"));
        daemon.tcp().get(&format!("/api/tasks/no-{n}"));
    }
    let later = parse(&daemon.tcp().get("/metrics").text);
    let routes = later["deia_http_requests_total"].samples.len();
    assert!(
        routes <= families["deia_http_requests_total"].samples.len() + 4,
        "{later:?}"
    );
}

#[test]
fn prometheus_own_reader_has_nothing_to_say() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        skipped(
            "prometheus_own_reader_has_nothing_to_say",
            "there is no promtool (Debian: prometheus)",
        );
        return;
    };
    let page = fleet().tcp().get("/metrics").text;
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let said = promtool.wait_with_output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.status.success() && text.is_empty(), "{text}\n{page}");
}

/// How old the newest backup is can be watched from elsewhere.
#[test]
fn the_newest_backup_has_its_age_and_its_size() {
    let daemon = Daemon::builder().start();
    let families = parse(&daemon.tcp().get("/metrics").text);
    let none = |name: &str| families[name].samples.is_empty();
    assert!(none("deia_backup_age_seconds") && none("deia_backup_size_bytes"));
    assert!((value(&families, "deia_backups", &[]) - 0.0).abs() < f64::EPSILON);
    let made = daemon
        .post("/api/disaster-recovery/backup", &json!({}))
        .ok();
    let families = parse(&daemon.tcp().get("/metrics").text);
    let age = value(&families, "deia_backup_age_seconds", &[]);
    assert!((0.0..60.0).contains(&age), "{age}");
    let size = value(&families, "deia_backup_size_bytes", &[]);
    let file = format!(
        ".deia/backups/{}.tar.gz",
        made["backup_id"].as_str().unwrap()
    );
    let bytes = std::fs::metadata(daemon.home().join(file)).unwrap().len();
    let all = value(&families, "deia_backups_size_bytes", &[]);
    for size in [size, all] {
        assert!((size - bytes as f64).abs() < 0.5, "{size}, {bytes}");
    }
    for (name, labels) in [
        ("deia_backups", vec![]),
        ("deia_backup_runs_total", vec![("outcome", "made")]),
    ] {
        let found = value(&families, name, &labels);
        assert!((found - 1.0).abs() < f64::EPSILON, "{name}: {found}");
    }
}

#[test]
fn metrics_can_be_turned_off() {
    let daemon = Daemon::builder()
        .config("telemetry: {prometheus: false}")
        .start();
    let answer = daemon.tcp().get("/metrics");
    assert_eq!(answer.status, 404, "{answer:?}");
    assert!(answer.text.contains("telemetry.prometheus"), "{answer:?}");
}
