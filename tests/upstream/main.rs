//! The table of the Python DEIA's HTTP API (`routes.json`), asked route by route of a fleet that is busy, of one that has
//! done nothing yet, and of one without a bot: each answer has the fields and the types that clients of the original
//! read, and each number comes from the fleet (`sources.rs`). Everything that is not so is shown, not only the first.
//!
//! Shown to fail with a field of the snapshot's taken away, with `avg_queue_wait_ms` null where nothing was measured, and
//! with `total_bots` a constant.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

#[path = "../common/mod.rs"]
mod common;
mod conventions;
mod fleet;
mod shape;
mod sources;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use fleet::{Fleet, Kind};
use serde_json::{Map, Value, json};
use shape::{Shapes, Stock};
use sources::Judge;

/// Routes that the original had.
const ROUTES: usize = 63;

/// What was asked, and what of it was not as it should be.
#[derive(Default)]
struct Report {
    served: BTreeSet<String>,
    requests: usize,
    unexpected: Vec<String>,
}

impl Report {
    /// One request more; with what is wrong with its answer.
    fn note(&mut self, what: &str, faults: &[String]) {
        self.requests += 1;
        if !faults.is_empty() {
            let faults = faults.join("\n    ");
            self.unexpected.push(format!("{what}\n    {faults}"));
        }
    }

    #[track_caller]
    fn conclude(self, fleet: &str) {
        let (served, requests, k) = (self.served.len(), self.requests, self.unexpected.len());
        println!(
            "upstream: {served} routes served, {requests} requests, {k} unexpected ({fleet} fleet)"
        );
        assert!(k == 0, "\n{}", self.unexpected.join("\n"));
        assert_eq!(served, ROUTES);
    }
}

fn table() -> Value {
    serde_json::from_str(include_str!("routes.json")).expect("a table")
}

fn rows(table: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let rows = table["routes"].as_array().unwrap().iter();
    rows.map(|row| row.as_object().unwrap())
}

/// How often a route is looked at, where it and its other source do not agree at once.
const LOOKS: usize = 4;

/// Asks one row of the table, and looks at the answer. Two sources are read one after the other, and the fleet goes on
/// between them: what only reads is read again where they do not agree. What is a constant never will.
fn ask(fleet: &Fleet, table: &Value, row: &Map<String, Value>, report: &mut Report) {
    let ask = row["ask"].as_str().unwrap();
    let (method, target) = ask.split_once(' ').unwrap();
    let target = fleet.fill_in(target);
    let body = row.get("body").map(|body| fleet.fill_in(&body.to_string()));
    let looks = if method == "GET" { LOOKS } else { 1 };
    let mut faults = ask_once(fleet, table, row, &target, body.as_deref());
    for _ in 1..looks {
        if faults.is_empty() {
            break;
        }
        println!("again: {ask}: {}", faults.join("; "));
        std::thread::sleep(Duration::from_millis(300));
        faults = ask_once(fleet, table, row, &target, body.as_deref());
    }
    let is_known = fleet
        .operation(method, &target)
        .map(|(path, _)| path.to_owned());
    match is_known {
        None => faults.push("openapi.json does not have it".to_owned()),
        Some(path) if faults.is_empty() && row["in"] != "1" => {
            report.served.insert(format!("{method} {path}"));
        }
        Some(_) => {}
    }
    report.note(&format!("{ask} {}", body.unwrap_or_default()), &faults);
}

/// What is wrong with one answer.
fn ask_once(
    fleet: &Fleet,
    table: &Value,
    row: &Map<String, Value>,
    target: &str,
    body: Option<&str>,
) -> Vec<String> {
    let ask = row["ask"].as_str().unwrap();
    let (method, _) = ask.split_once(' ').unwrap();
    let before = fleet.counts();
    let answer = fleet.ask(method, target, body.map(str::as_bytes));
    let mut faults = Vec::new();

    let other = match fleet.kind {
        Kind::Busy => None,
        Kind::Idle => row.get("idle"),
        Kind::Nobody => row.get("none").or(row.get("idle")),
    };
    let wanted = |name: &str| other.and_then(|other| other.get(name)).or(row.get(name));
    let status = wanted("status").map_or(200, |status| status.as_u64().unwrap());
    if u64::from(answer.status) != status {
        faults.push(format!(
            "{} and not {status}: {}",
            answer.status, answer.text
        ));
    }
    let shape = wanted("answer").unwrap();
    if shape == "page" {
        let kind = answer.header("content-type").unwrap_or_default();
        if !kind.starts_with("text/html") {
            faults.push(format!("{kind:?} is no page"));
        }
    } else {
        if answer.header("content-type") != Some("application/json") {
            faults.push(format!("{:?}", answer.header("content-type")));
        }
        let shapes = Shapes {
            named: table["shapes"].as_object().unwrap(),
            stock: match fleet.kind {
                Kind::Busy => Stock::Busy,
                _ => Stock::Idle,
            },
        };
        let shape = serde_json::from_str(&fleet.fill_in(&shape.to_string())).unwrap();
        faults.extend(shapes.faults(&shape, &answer.body));
    }
    for (name, field) in row
        .get("keep")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let value = &answer.body[field.as_str().unwrap()];
        fleet.name(name, value.as_str().unwrap_or("nothing"));
    }
    if fleet.kind == Kind::Busy && !row.contains_key("also") {
        let judge = Judge {
            fleet,
            route: ask.split('?').next().unwrap(),
            answer: &answer.body,
            before,
            faults: RefCell::default(),
        };
        if !judge.judge() {
            faults.push("no other source is known of it".to_owned());
        }
        faults.extend(judge.faults.into_inner());
    }
    faults
}

#[test]
fn a_busy_fleet_answers_as_the_original_and_from_what_is() {
    let (table, mut report) = (table(), Report::default());
    let routes = rows(&table).filter(|row| !row.contains_key("also") && row["in"] != "1");
    assert_eq!(routes.count(), ROUTES);
    let fleet = Fleet::start(Kind::Busy);
    wait_until(PATIENCE, "each bot was looked at twice", || {
        let rows = fleet.get("/api/monitoring/observability/history/process?limit=0");
        let rows = rows["data"].as_array()?;
        let of = |bot: &str| rows.iter().filter(|row| row["bot_id"] == bot).count();
        (of("slow") >= 2 && of("works") >= 2).then_some(())
    });
    for row in rows(&table) {
        match row["ask"].as_str().unwrap() {
            // It is noticed by itself too, which is as good.
            "POST /api/config/reload?config_name=bot-config" => {
                let daemon = fleet.daemon.borrow();
                let file = daemon.read("bot-config.yaml");
                daemon.write_config(&file.replace("0.81", "0.83"));
            }
            // What it does from here on would be lost.
            "POST /api/disaster-recovery/restore/{backup}" => fleet.stop_load(),
            _ => {}
        }
        ask(&fleet, &table, row, &mut report);
    }
    let counts = fleet.counts();
    println!(
        "meanwhile: {} tasks, {} messages",
        counts.done, counts.accepted
    );
    report.note(
        "the load",
        &match counts.odd {
            0 => Vec::new(),
            odd => vec![format!("{odd} answers were not what they should be")],
        },
    );
    report.conclude("busy");
}

#[test]
fn an_idle_fleet_answers_with_the_same_fields_and_types() {
    replay_idle(Kind::Idle, "idle");
}

#[test]
fn a_fleet_without_a_bot_answers_with_the_same_fields_and_types() {
    replay_idle(Kind::Nobody, "empty");
}

/// First what is asked of it, then what changes it.
fn replay_idle(kind: Kind, name: &str) {
    let (table, mut report) = (table(), Report::default());
    let fleet = Fleet::start(kind);
    let (looks, acts): (Vec<_>, Vec<_>) =
        rows(&table).partition(|row| row["ask"].as_str().unwrap().starts_with("GET"));
    for row in &looks {
        ask(&fleet, &table, row, &mut report);
    }
    conventions::look(&fleet, &acts, &looks, &mut report);
    for row in acts {
        ask(&fleet, &table, row, &mut report);
        if row["ask"] == "POST /api/disaster-recovery/restore/{backup}" {
            wait_until(PATIENCE, "it is restored", || {
                let status = fleet.ask("GET", "/api/disaster-recovery/status", None);
                (status.body["last_restore"]["succeeded"] == true).then_some(())
            });
        }
    }
    report.conclude(name);
}

/// The only list that a busy fleet may have nothing in.
#[test]
fn what_holds_tasks_up_has_its_shape_too() {
    let one = "bots: [{name: one, min: 1, max: 1, max_concurrent_tasks: 1, backend: {kind: echo, delay_ms: 900}}]\n\
        bot_limits: {max_bots: 1}\n";
    let daemon = Daemon::builder().config(one).start();
    let tasks = ["one", "two", "three"].map(|content| daemon.submit(content));
    daemon.wait_task(&tasks[2], Duration::from_secs(20));
    let answer = daemon.get("/api/monitoring/queue/bottlenecks").ok();
    let table = table();
    let shapes = Shapes {
        named: table["shapes"].as_object().unwrap(),
        stock: Stock::Busy,
    };
    let shape = json!({"bottlenecks": ["+", "$bottleneck"], "count": "=1", "timestamp": "ts"});
    assert_eq!(shapes.faults(&shape, &answer), [""; 0], "{answer}");
    assert_eq!(answer["bottlenecks"][0]["type"], "queue_wait", "{answer}");
}
