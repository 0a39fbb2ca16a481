//! What is seen of a fleet: queue, failures, routes, events; and the end over HTTP. With real bots.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

/// One bot that does what it is asked, and one that never can.
const FLEET: &str = "tasks: {max_attempts: 1}\n\
    bot_limits: {min_bots: 2, max_bots: 2}\n\
    bots: [{name: works, type: general, min: 1, max: 1, backend: {kind: echo, delay_ms: 20}}, \
    {name: fails, type: general, min: 1, max: 1, backend: {kind: command, argv: [\"false\"]}}]\n";

fn start() -> Daemon {
    let daemon = Daemon::builder().config(FLEET).start();
    daemon.wait_bots(2);
    daemon
}

/// A task of this pool and kind, to its end.
fn run(daemon: &Daemon, pool: &str, kind: &str) -> Value {
    let request = json!({"content": "x", "pool": pool, "type": kind, "wait_seconds": 20});
    daemon.post("/api/orchestrate", &request).ok()
}

fn seen(daemon: &Daemon, what: &str) -> Value {
    daemon.tcp().get(&format!("/api/monitoring/{what}")).ok()
}

#[test]
fn what_happened_is_what_is_shown() {
    let daemon = start();
    assert_eq!(seen(&daemon, "failures/stats")["status"], "no_failures");
    for _ in 0..3 {
        assert_eq!(run(&daemon, "works", "writing")["status"], "succeeded");
    }
    for _ in 0..3 {
        assert_eq!(run(&daemon, "fails", "planning")["status"], "dead");
    }

    let queue = seen(&daemon, "queue/status");
    assert_eq!(
        (&queue["queue_depth"], &queue["running"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(queue["measured_tasks"], 6, "{queue}");
    assert!(
        queue["avg_execution_time_ms"].as_f64().unwrap() >= 10.0,
        "{queue}"
    );
    assert!(
        queue["avg_queue_wait_ms"].as_f64().unwrap() < 500.0,
        "{queue}"
    );
    assert_eq!(queue["throughput_tasks_per_minute"], 3.0, "{queue}");
    let bottlenecks = seen(&daemon, "queue/bottlenecks");
    assert_eq!(
        (&bottlenecks["bottlenecks"], &bottlenecks["count"]),
        (&json!([]), &json!(0))
    );

    let stats = seen(&daemon, "failures/stats");
    assert_eq!(stats["total_failures_24h"], 3, "{stats}");
    assert_eq!(stats["by_bot"]["fails"]["count"], 3, "{stats}");
    assert_eq!(
        stats["by_task_type"]["planning"]["tasks"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let patterns = stats["failure_patterns"].as_array().unwrap();
    let ids: Vec<_> = patterns
        .iter()
        .map(|p| p["pattern_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["task_type:planning", "bot:fails"], "{stats}");
    assert_eq!(patterns[1]["failure_rate"], 1.0, "{stats}");
    let risk = seen(&daemon, "failures/cascade-risk");
    assert_eq!(
        (&risk["cascade_risk"], &risk["risk_level"]),
        (&json!("medium"), &json!("medium"))
    );
    assert_eq!(risk["affected_bots"], json!(["fails"]), "{risk}");
    let trends = seen(&daemon, "failures/trends");
    assert_eq!(trends["error_types"], json!({"backend": 3}), "{trends}");
    let hours = trends["hourly_distribution"].as_array().unwrap();
    let total: u64 = hours
        .iter()
        .map(|h| h["error_count"].as_u64().unwrap())
        .sum();
    assert_eq!((hours.len(), total), (24, 3), "{trends}");

    let api = seen(&daemon, "api/status");
    let of = |bot: &str| {
        let services = api["services"].as_array().unwrap();
        services
            .iter()
            .find(|s| s["bot_id"] == bot)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&of("works")["status"], &of("works")["error_rate"]),
        (&json!("healthy"), &json!(0.0))
    );
    assert_eq!(
        (&of("fails")["status"], &of("fails")["error_rate"]),
        (&json!("degraded"), &json!(1.0))
    );
    assert_eq!(api["cascade_risk"], json!(["fails:cascade_risk"]), "{api}");
    let routes = api["routes"].as_array().unwrap();
    let orchestrate = routes
        .iter()
        .find(|r| r["route"] == "/api/orchestrate")
        .unwrap();
    assert_eq!(orchestrate["requests"], 6, "{api}");

    for (kind, rows) in [("queue", 1), ("failures", 3), ("api", 1)] {
        let history = seen(&daemon, &format!("observability/history/{kind}?hours=1"));
        let count = history["count"].as_u64().unwrap();
        // The test may run over the end of a minute.
        assert!((rows..=rows + 2).contains(&count), "{history}");
        assert_eq!(history["hours"], 1, "{history}");
    }
    let one = seen(&daemon, "observability/history/failures?limit=1");
    assert_eq!(one["count"], 1, "{one}");
    assert_eq!(one["data"][0]["error_type"], "backend", "{one}");
    let snapshot = seen(&daemon, "observability/snapshot");
    assert_eq!(
        snapshot["failures"]["cascade_risk"]["recent_failures"], 3,
        "{snapshot}"
    );
    assert_eq!(snapshot["queues"]["bottlenecks"], json!([]), "{snapshot}");
    assert!(
        snapshot["system"]["works"]["memory_mb"].as_f64().unwrap() > 0.1,
        "{snapshot}"
    );

    for (path, status) in [
        ("observability/history/everything", 404),
        ("observability/history/queue?hours=0", 422),
        ("observability/history/queue?hours=25", 422),
        ("observability/history/queue?limit=x", 422),
    ] {
        let answer = daemon.get(&format!("/api/monitoring/{path}"));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
}

/// Case 64 of the original: two bots and two kinds of task are high, three failures medium, else low.
#[test]
fn reported_failures_count_and_are_marked() {
    let report = |daemon: &Daemon, bot: &str, kind: &str| {
        let body = json!({"task_id": "t", "bot_id": bot, "task_type": kind, "error_message": "no answer", "error_code": 504});
        daemon
            .tcp()
            .post("/api/monitoring/failures/record", &body)
            .ok()
    };
    let daemon = start();
    let risk = || seen(&daemon, "failures/cascade-risk")["cascade_risk"].clone();
    assert_eq!(risk(), "low");
    report(&daemon, "a", "x");
    assert_eq!(report(&daemon, "b", "x")["total_failures"], 2);
    assert_eq!(risk(), "low");
    let third = report(&daemon, "b", "x");
    assert_eq!(
        (&third["total_failures"], &third["source"]),
        (&json!(3), &json!("client"))
    );
    assert_eq!(risk(), "medium");
    report(&daemon, "a", "y");
    assert_eq!(risk(), "high");
    let history = seen(&daemon, "observability/history/failures");
    let last = &history["data"][3];
    assert_eq!(
        (&last["source"], &last["error_code"]),
        (&json!("client"), &json!(504)),
        "{history}"
    );
    assert_eq!(last["error_message"], "no answer", "{history}");
    let stats = seen(&daemon, "failures/stats");
    assert_eq!(
        (&stats["total_failures_24h"], &stats["reported_by_clients"]),
        (&json!(4), &json!(4))
    );
    let wrong = daemon.post(
        "/api/monitoring/failures/record",
        &json!({"error_code": "x"}),
    );
    assert_eq!(wrong.status, 422);
    assert_eq!(
        wrong.body["detail"].as_array().unwrap().len(),
        2,
        "{wrong:?}"
    );
}

#[test]
fn a_task_is_added_and_only_its_bot_ends_it() {
    let daemon = Daemon::builder()
        .config("bots: [{name: slow, type: general, backend: {kind: echo, delay_ms: 1500}}]")
        .start();
    daemon.wait_bots(1);
    let tcp = daemon.tcp();
    let add =
        json!({"task_id": "added", "task_type": "writing", "priority": "P1", "content": "hello"});
    let added = tcp.post("/api/monitoring/queue/add-task", &add).ok();
    assert_eq!(
        (&added["success"], &added["task_id"]),
        (&json!(true), &json!("added")),
        "{added}"
    );
    let task = daemon.get("/api/tasks/added").ok();
    assert_eq!(
        (&task["task_type"], &task["priority"]),
        (&json!("writing"), &json!("P1"))
    );
    let complete = |id: &str, success: bool| {
        let body = json!({"task_id": id, "success": success, "execution_time_seconds": 1.0});
        tcp.post("/api/monitoring/queue/complete-task", &body)
    };
    assert_eq!(complete("nobodys", true).status, 404);
    let early = complete("added", true);
    assert_eq!(
        (early.status, &early.body["code"]),
        (409, &json!("not_yours")),
        "{early:?}"
    );
    let task = daemon.wait_task("added", PATIENCE);
    assert_eq!(
        (&task["status"], &task["result"]["output"]),
        (&json!("succeeded"), &json!("hello"))
    );
    let agreed = complete("added", true).ok();
    assert_eq!(
        (&agreed["status"], &agreed["routed_to"]),
        (&json!("succeeded"), &json!("slow"))
    );
    assert_eq!(complete("added", false).status, 409);
    let missing = tcp.post("/api/monitoring/queue/complete-task", &json!({}));
    assert_eq!(missing.status, 422);
    let other = tcp.post(
        "/api/monitoring/queue/add-task",
        &json!({"task_id": "added", "content": "other"}),
    );
    assert_eq!(other.status, 409);
}

#[test]
fn terminate_drains_and_stops_the_daemon_for_admins_alone() {
    let mut daemon = Daemon::builder()
        .config("bots: [{name: slow, type: general, backend: {kind: echo, delay_ms: 700}}]")
        .start();
    daemon.wait_bots(1);
    assert_eq!(daemon.tcp().post("/terminate", &json!({})).status, 403);
    let id = daemon.submit("finish me");
    let answer = daemon.admin().request("POST", "/terminate", &[], None).ok();
    assert_eq!(
        answer,
        json!({"success": true, "message": "Terminate signal sent"})
    );
    assert!(daemon.wait_exit().success());
    daemon.restart();
    let task = daemon.get(&format!("/api/tasks/{id}")).ok();
    assert_eq!(task["status"], "succeeded", "{task}");
}

/// Server-sent events as they come.
struct Stream {
    socket: TcpStream,
    read: String,
}

impl Stream {
    fn open(daemon: &Daemon, query: &str, last: Option<&str>) -> Self {
        use std::io::Write;
        let mut socket = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        write!(
            socket,
            "GET /events{query} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"
        )
        .unwrap();
        Self {
            socket,
            read: String::new(),
        }
    }

    /// What has come once it holds `what`.
    fn until(&mut self, what: &str) -> &str {
        wait_until(PATIENCE, &format!("{what} in {:?}", self.read), || {
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece) {
                Ok(0) => panic!("the stream ended: {}", self.read),
                Ok(n) => self.read.push_str(&String::from_utf8_lossy(&piece[..n])),
                Err(_) => {}
            }
            self.read.contains(what).then_some(())
        });
        &self.read
    }

    fn last_id(&self) -> String {
        let mut ids = self
            .read
            .lines()
            .filter_map(|line| line.strip_prefix("id: "));
        ids.next_back().unwrap().to_owned()
    }
}

/// The number of the last event that an id names, so that it can be moved.
fn before(id: &str) -> String {
    let (epoch, number) = id.split_once('-').unwrap();
    format!("{epoch}-{}", number.parse::<u64>().unwrap() - 1)
}

#[test]
fn events_come_as_they_happen_without_texts_and_can_be_resumed() {
    let daemon = start();
    let mut all = Stream::open(&daemon, "", None);
    assert!(
        all.until("event: hello").contains("text/event-stream"),
        "{}",
        all.read
    );
    let mut bots = Stream::open(&daemon, "?only=bot_", None);
    bots.until("event: hello");
    daemon
        .submit_with(&json!({"content": "a secret sentence", "task_id": "told", "pool": "works"}));
    all.until("event: task_completed");
    assert!(all.read.contains("\"task_id\":\"told\""), "{}", all.read);
    assert!(!all.read.contains("secret sentence"), "{}", all.read);
    daemon.post("/api/bots/works/restart", &json!({})).ok();
    bots.until("event: bot_ready");
    assert!(!bots.read.contains("event: task_"), "{}", bots.read);

    let last = all.last_id();
    let mut resumed = Stream::open(&daemon, "", Some(&before(&last)));
    resumed.until(&format!("id: {last}"));
    assert!(!resumed.read.contains("event: gap"), "{}", resumed.read);
    for unknown in ["x-1", "nonsense"] {
        let mut lost = Stream::open(&daemon, "", Some(unknown));
        lost.until("event: gap");
    }
}

#[test]
fn there_are_only_so_many_streams() {
    let daemon = Daemon::builder().start();
    let mut streams: Vec<Stream> = (0..32).map(|_| Stream::open(&daemon, "", None)).collect();
    for stream in &mut streams {
        stream.until("event: hello");
    }
    let refused = daemon.tcp().get("/events");
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (503, &json!("too_many_streams"))
    );
    assert!(refused.header("retry-after").is_some());
    drop(streams);
    let mut again = wait_until(PATIENCE, "a place is free again", || {
        let mut stream = Stream::open(&daemon, "", None);
        stream
            .socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut head = [0; 12];
        stream.socket.read_exact(&mut head).unwrap();
        head.ends_with(b"200").then_some(stream)
    });
    again.until("event: hello");
}
