//! Health, alerts and degraded operation, as operators see them.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use serde_json::{Value, json};

/// A look every second.
const SWIFT: &str = "timeouts: {bot_health_check_interval_seconds: 1}\n";

/// Longer than an interval of [`SWIFT`] takes on a busy machine.
const SECONDS: Duration = Duration::from_secs(20);

fn start(config: &[&str]) -> Daemon {
    Daemon::builder().config(&config.concat()).start()
}

fn events(daemon: &Daemon, file: &str, event: &str) -> Vec<Value> {
    let lines = daemon.read(&format!(".deia/bot-logs/{file}"));
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == event)
        .collect()
}

fn alert(daemon: &Daemon, id: &str) -> Option<Value> {
    let list = daemon.get("/api/dashboard/alerts").ok();
    let alerts = list["alerts"].as_array().unwrap().clone();
    assert_eq!(list["count"], alerts.len(), "{list}");
    alerts.into_iter().find(|alert| alert["alert_id"] == id)
}

#[track_caller]
fn wait_alert(daemon: &Daemon, id: &str) -> Value {
    wait_until(SECONDS, &format!("{id} is raised"), || alert(daemon, id))
}

#[test]
fn a_low_threshold_raises_its_alert_and_a_higher_one_ends_it() {
    let low = "thresholds: {memory_warning_percent: 0.0001, queue_backlog_threshold: 1000}\n";
    let daemon = start(&[SWIFT, low]);
    let raised = wait_alert(&daemon, "memory_health");
    assert_eq!(raised["level"], "warning", "{raised}");
    assert_eq!(raised["alert_type"], "memory_high");
    assert_eq!(raised["title"], "High Memory Usage");
    assert_eq!(raised["resolved"], false);
    let logged = |event: &str| {
        wait_until(SECONDS, event, || {
            let found = events(&daemon, "health-alerts.jsonl", event).into_iter();
            found
                .into_iter()
                .find(|line| line["alert_id"] == "memory_health")
        })
    };
    assert_eq!(logged("alert_generated")["alert_level"], "warning");
    let page = daemon.get("/api/dashboard/health").ok();
    // The machine may be busy besides.
    assert_ne!(page["overall_status"], "healthy", "{page}");
    assert!(page["health_score"].as_f64().unwrap() <= 90.0, "{page}");
    assert_eq!(page["alert_summary"]["warning"], page["alerts"]["warnings"]);
    assert_eq!(page["feature_flags"]["health_monitoring_enabled"], true);
    assert!(page["system_resources"]["memory_percent"].as_f64().unwrap() > 0.0);
    assert_eq!(page["bots"]["healthy"], 1, "{page}");
    let shown = daemon.ctl(&["alerts", "--level", "warning"]).ok();
    assert!(shown.stdout.contains("memory_health"), "{shown:?}");
    let none = daemon.get("/api/dashboard/alerts?level=info").ok();
    assert_eq!(none["count"], 0);
    assert_eq!(daemon.get("/api/dashboard/alerts?level=odd").status, 422);

    daemon.write_config(&format!(
        "{SWIFT}http: {{listen: \"127.0.0.1:0\"}}\nthresholds: {{memory_warning_percent: 0.998, memory_critical_percent: 0.999}}\nbots: [{{name: main-bot, backend: {{kind: echo}}}}]\n"
    ));
    daemon.ctl(&["reload"]).ok();
    wait_until(SECONDS, "it is resolved", || {
        alert(&daemon, "memory_health").is_none().then_some(())
    });
    assert_eq!(logged("alert_resolved")["by"], "condition");
    let page = daemon.get("/api/dashboard/health").ok();
    let recent = page["recent_alerts"].as_array().unwrap();
    let old = recent.iter().find(|a| a["alert_id"] == "memory_health");
    assert_eq!(old.unwrap()["resolved"], true, "{page}");
}

#[test]
fn made_up_figures_are_answered_and_change_nothing() {
    let daemon = start(&[]);
    let bad = json!({"total_bots": 5, "active_bots": 2, "queued_tasks": 20,
        "system_cpu_percent": 0.95, "system_memory_percent": 0.92,
        "pending_message_failures": 10, "avg_success_rate": 0.2});
    let answer = daemon.post("/api/dashboard/health/evaluate", &bad).ok();
    assert_eq!(answer["active_alerts"], 7, "{answer}");
    assert_eq!(answer["metrics"]["critical_alerts"], 3);
    assert_eq!(answer["metrics"]["queued_tasks"], 20);
    assert_eq!(answer["health_evaluated"], true);
    assert_eq!(answer["health_score"], 0.0);
    for id in ["queue_health", "bot_availability", "messaging_health"] {
        assert_eq!(alert(&daemon, id), None);
    }
    assert_eq!(
        daemon.get("/api/dashboard/health").ok()["metrics"]["queued_tasks"],
        0
    );
    let real = daemon
        .post("/api/dashboard/health/evaluate", &json!({}))
        .ok();
    assert_eq!(real["made_up"], false, "{real}");
    assert_eq!(real["metrics"]["total_bots"], 1, "{real}");
    let wrong = json!({"queued_tasks": "many", "system_cpu_percent": -1});
    let refused = daemon.post("/api/dashboard/health/evaluate", &wrong);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(refused.body["detail"].as_array().unwrap().len(), 2);
    let outside = daemon.tcp().post("/api/dashboard/health/evaluate", &bad);
    assert_eq!(outside.status, 403);
}

#[test]
fn an_alert_that_was_resolved_by_hand_stays_so_across_a_kill() {
    let low = "thresholds: {memory_warning_percent: 0.0001}\n";
    let mut daemon = start(&[SWIFT, low]);
    wait_alert(&daemon, "memory_health");
    let done = daemon.ctl(&["alerts", "resolve", "memory_health"]).ok();
    assert!(done.stdout.contains("memory_health"), "{done:?}");
    wait_until(SECONDS, "who did it is on record", || {
        let found = daemon.get("/api/audit/query?action=alert_resolved").ok();
        let entry = found["entries"].as_array()?.first()?.clone();
        (entry["target"] == "memory_health" && entry["actor"] != "daemon").then_some(())
    });
    assert_eq!(daemon.ctl(&["alerts", "resolve", "nothing"]).code, 1);
    let unknown = daemon.post("/api/dashboard/alerts/nothing/resolve", &json!({}));
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let silent = |daemon: &Daemon| {
        let before = daemon.get("/api/dashboard/health").ok()["sampled_at"].clone();
        wait_until(SECONDS, "another sample", || {
            let page = daemon.get("/api/dashboard/health").ok();
            (page["sampled_at"] != before).then_some(())
        });
        assert_eq!(alert(daemon, "memory_health"), None);
        let page = daemon.get("/api/dashboard/health").ok();
        let recent = page["recent_alerts"].as_array().unwrap();
        assert!(
            recent.iter().any(|a| a["resolved_by"] == "operator"),
            "{page}"
        );
    };
    silent(&daemon);
    daemon.kill9();
    daemon.restart();
    silent(&daemon);
}

#[test]
fn each_look_stands_in_the_log_and_bots_have_their_cpu() {
    let daemon = start(&[SWIFT]);
    daemon.wait_bots(1);
    let line = wait_until(SECONDS, "two looks", || {
        let mut lines = events(&daemon, "health-metrics.jsonl", "health_check");
        (lines.len() > 1).then(|| lines.pop().unwrap())
    });
    for field in ["cpu", "memory", "queued", "disk_free_mb", "routing_us_p99"] {
        assert!(line[field].is_number(), "{field}: {line}");
    }
    let own = wait_until(SECONDS, "the bot's own", || {
        let mut lines = events(&daemon, "main-bot-activity.jsonl", "health_check");
        lines.retain(|line| line["cpu"].is_number());
        lines.pop()
    });
    assert!(own["memory_mb"].as_u64().is_some(), "{own}");
    let bot = daemon.get("/api/bots/main-bot").ok();
    assert!(bot["cpu_percent"].is_number(), "{bot}");
    let status = daemon.get("/status").ok();
    assert_eq!(status["config"]["source"], "file", "{status}");
}

#[test]
fn switched_off_it_looks_at_nothing_and_says_so() {
    let daemon = start(&["feature_flags: {health_monitoring_enabled: false}\n", SWIFT]);
    daemon.wait_bots(1);
    let page = daemon.get("/api/dashboard/health").ok();
    assert_eq!(page["status"], "disabled", "{page}");
    let answer = daemon
        .post("/api/dashboard/health/evaluate", &json!({}))
        .ok();
    assert_eq!(answer["status"], "disabled", "{answer}");
    assert_eq!(daemon.get("/api/dashboard/alerts").ok()["count"], 0);
    assert!(events(&daemon, "supervisor.jsonl", "health_check").is_empty());
}

/// A server of the test's own: an answer for each request, and all it was asked.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(address: SocketAddr, answer: fn(&str) -> String) -> Self {
        let listener = wait_until(SECONDS, "the address is free", || {
            TcpListener::bind(address).ok()
        });
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stopped, heard) = (stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let heard = heard.clone();
                std::thread::spawn(move || serve(stream, &heard, answer));
            }
        });
        Self {
            address,
            stop,
            asked,
            thread: Some(thread),
        }
    }

    /// Nobody listens there any more.
    fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut stream: TcpStream, heard: &Mutex<Vec<String>>, answer: fn(&str) -> String) {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    let whole = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse().unwrap());
        (body.len() >= length).then_some(())
    };
    while whole(&request).is_none() {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => request.push_str(&String::from_utf8_lossy(&buffer[..n])),
            _ => return,
        }
    }
    let body = answer(&request);
    heard.lock().unwrap().push(request);
    let _ = stream.write_all(body.as_bytes());
}

fn ok(kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// As ollama answers.
fn model(request: &str) -> String {
    match request.starts_with("POST /api/chat") {
        true => ok(
            "application/x-ndjson",
            "{\"message\":{\"content\":\"hello\"},\"done\":false}\n{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
        ),
        false => ok("application/json", "{\"version\":\"0.0.0\"}"),
    }
}

/// While its model server is away, tasks wait, and no attempt of theirs is used up; it is said wherever
/// somebody looks; and when the server is back they are done without anybody's help.
#[test]
fn tasks_wait_for_their_model_server_and_go_on_by_themselves() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut server = Server::start(any, model);
    let address = server.address;
    let pool = format!(
        "bots: [{{name: main-bot, max: 1, max_concurrent_tasks: 1, backend: {{kind: ollama, url: \"http://{address}\", model: m}}}}]\n\
         tasks: {{max_attempts: 1}}\n"
    );
    // A look so seldom that only what waits can make the daemon ask again.
    let slow = "timeouts: {bot_health_check_interval_seconds: 3600}\n";
    let daemon = start(&[slow, &pool]);
    daemon.wait_bots(1);
    let first = daemon.submit("before");
    assert_eq!(daemon.wait_task(&first, PATIENCE)["status"], "succeeded");
    assert_eq!(daemon.get("/health").ok()["status"], "ok");

    server.stop();
    let found_out = daemon.submit("who finds out");
    let down = wait_until(SECONDS, "it is noticed", || {
        let health = daemon.get("/health").ok();
        (health["status"] == "degraded").then_some(health)
    });
    let reason = down["reasons"][0].as_str().unwrap();
    assert!(reason.contains(&address.to_string()), "{down}");
    assert!(reason.contains("main-bot"), "{down}");
    let later = daemon
        .post("/api/orchestrate", &json!({"content": "who comes later"}))
        .ok();
    assert_eq!(later["success"], true, "{later}");
    assert!(
        later["message"].as_str().unwrap().contains("waits"),
        "{later}"
    );
    assert!(
        later["message"]
            .as_str()
            .unwrap()
            .contains(&address.to_string()),
        "{later}"
    );
    let later = later["task_id"].as_str().unwrap().to_owned();
    let why = daemon.get(&format!("/api/tasks/{later}/explain")).ok();
    assert!(
        why["explanation"]
            .as_str()
            .unwrap()
            .contains("does not answer"),
        "{why}"
    );
    let doctor = daemon.ctl(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.stdout.contains(&address.to_string()), "{doctor:?}");
    let page = daemon
        .post("/api/dashboard/health/evaluate", &json!({}))
        .ok();
    assert_eq!(page["overall_status"], "critical", "{page}");
    let page = daemon.get("/api/dashboard/health").ok();
    assert_eq!(page["degradation"]["mode"], "degraded", "{page}");
    assert_eq!(page["degradation"]["reasons"][0], "dependency_failure");
    assert_eq!(page["services"]["orchestration"], "degraded");
    for id in [&found_out, &later] {
        assert_eq!(
            daemon.get(&format!("/api/tasks/{id}")).ok()["status"],
            "queued"
        );
    }

    let server = Server::start(address, model);
    for id in [&found_out, &later] {
        let task = daemon.wait_task(id, SECONDS);
        assert_eq!(task["status"], "succeeded", "{task}");
        let attempts = task["attempts"].as_array().unwrap();
        assert!(attempts.iter().all(|a| a["status"] != "failed"), "{task}");
    }
    assert!(
        server
            .asked()
            .iter()
            .any(|r| r.starts_with("GET /api/version"))
    );
    wait_until(SECONDS, "all is well", || {
        (daemon.get("/health").ok()["status"] == "ok").then_some(())
    });
    for event in ["backend_down", "backend_up", "degraded_mode_entered"] {
        let found = || events(&daemon, "degradation-events.jsonl", event).pop();
        wait_until(SECONDS, event, found);
    }
    daemon
        .post("/api/dashboard/health/evaluate", &json!({}))
        .ok();
    let restored = || events(&daemon, "degradation-events.jsonl", "full_mode_restored").pop();
    wait_until(SECONDS, "full mode", restored);
    assert_eq!(alert(&daemon, "backend_health"), None);
}

/// Switched off, a server that is away fails its tasks, as any other trouble does.
#[test]
fn without_graceful_degradation_tasks_fail() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = format!(
        "feature_flags: {{graceful_degradation_enabled: false}}\n\
         bots: [{{name: main-bot, backend: {{kind: openai, url: \"http://{address}/v1\"}}}}]\n\
         tasks: {{max_attempts: 1}}\n"
    );
    let daemon = start(&[&config]);
    let id = daemon.submit("hello");
    let task = daemon.wait_task(&id, SECONDS);
    assert_eq!(task["status"], "dead", "{task}");
    assert!(
        task["error"].as_str().unwrap().contains("cannot reach"),
        "{task}"
    );
}

/// As a receiver of webhooks: it has trouble with every first delivery of an alert.
fn receiver(request: &str) -> String {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let id = header(request, "webhook-id");
    let mut seen = SEEN.lock().unwrap();
    match seen.contains(&id) {
        true => ok("text/plain", "thanks"),
        false => {
            seen.push(id);
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".into()
        }
    }
}

fn header(request: &str, name: &str) -> String {
    let found = request
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.expect("the header").1.to_owned()
}

/// Each change is delivered, signed by the secret in the file, and again under the same name where the receiver
/// did not take it; a redirect is not followed.
#[test]
fn alerts_go_to_a_webhook_signed_and_again_until_they_are_taken() {
    let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), receiver);
    let config = format!(
        "thresholds: {{memory_warning_percent: 0.0001, memory_critical_percent: 0.99}}\n\
         alerts: {{webhook_url: \"http://{}/hook?a=b\"}}\n",
        server.address
    );
    let daemon = start(&[SWIFT, &config]);
    wait_alert(&daemon, "memory_health");
    let about_memory = || {
        let mut asked = server.asked();
        asked.retain(|request| request.contains("memory_health"));
        asked
    };
    let asked = wait_until(SECONDS, "it is delivered, twice", || {
        let asked = about_memory();
        (asked.len() >= 2).then_some(asked)
    });
    let id = header(&asked[0], "webhook-id");
    assert_eq!(header(&asked[1], "webhook-id"), id, "the same, again");
    for request in &asked {
        assert!(request.starts_with("POST /hook?a=b HTTP/1.1"), "{request}");
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let told: Value = serde_json::from_str(body).unwrap();
        assert_eq!(told["type"], "alert.generated", "{told}");
        assert_eq!(told["data"]["level"], "warning", "{told}");
        let signature = header(request, "webhook-signature");
        assert!(
            signature.starts_with("v1,") && signature.len() == 47,
            "{signature}"
        );
        let at: i64 = header(request, "webhook-timestamp").parse().unwrap();
        assert!(at > 1_700_000_000);
    }
    daemon.ctl(&["alerts", "resolve", "memory_health"]).ok();
    wait_until(SECONDS, "the end is told too", || {
        about_memory()
            .iter()
            .any(|r| r.contains("alert.resolved"))
            .then_some(())
    });
    let secret = daemon.read(".deia/secrets/webhook.key");
    assert!(secret.starts_with("whsec_"), "the form receivers take");
    let said = daemon.read(".deia/bot-logs/supervisor.jsonl");
    assert!(!said.contains("hook?a=b"), "no address stands in a log");
}

/// Of a bot's own processes everything, of the host's others nothing.
#[test]
fn what_a_bots_processes_take_is_told_and_nothing_of_others() {
    let pool =
        "bots: [{name: main-bot, max: 1, backend: {kind: command, argv: [sleep, \"30\"]}}]\n";
    let daemon = start(&[SWIFT, pool]);
    daemon.wait_bots(1);
    daemon.submit("x");
    let path = "/api/monitoring/process/main-bot";
    let seen = wait_until(SECONDS, "what it started is seen", || {
        let answer = daemon.get(path).ok();
        let processes = answer["health"]["latest_metrics"]["processes"].as_u64()?;
        (processes > 1 && answer["health"]["latest_metrics"]["cpu_percent"].is_number())
            .then_some(answer)
    });
    let metrics = &seen["health"]["latest_metrics"];
    let pid = daemon.bot_pids()[0];
    assert_eq!(metrics["pid"], pid, "{seen}");
    assert!(metrics["rss_mb"].as_f64().unwrap() > 0.5, "{seen}");
    assert!(metrics["file_descriptors"].as_u64().unwrap() > 3, "{seen}");
    assert!(metrics["thread_count"].as_u64().unwrap() >= 2, "{seen}");
    assert_eq!(seen["health"]["memory_trend"], Value::Null);
    assert_eq!(daemon.get(&format!("{path}?pid={pid}")).status, 200);
    for other in [1, daemon.pid(), std::process::id()] {
        let answer = daemon.get(&format!("{path}?pid={other}"));
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    assert_eq!(daemon.get(&format!("{path}?pid=x")).status, 422);
    let all = daemon.get("/api/monitoring/process/all/health").ok();
    assert_eq!(all["total_bots"], 1, "{all}");
    assert_eq!(all["bots"]["main-bot"]["bot_id"], "main-bot", "{all}");
    for (kind, field) in [
        ("process", "memory_mb"),
        ("health", "system_memory_percent"),
    ] {
        let history = daemon
            .get(&format!("/api/monitoring/observability/history/{kind}"))
            .ok();
        assert!(
            history["data"][0][field].as_f64().unwrap() > 0.0,
            "{history}"
        );
    }
    let leak = daemon.get(&format!("{path}/memory-leak")).ok();
    assert_eq!(leak["is_leaking"], false, "{leak}");
    assert_eq!(
        leak["message"],
        "No memory leak detected or insufficient data"
    );
    let unknown = daemon.get("/api/monitoring/process/nobody").ok();
    assert_eq!(unknown["health"], json!({"status": "no_data"}));
    // Once its process has gone, nothing is told of it any more.
    daemon.ctl(&["bot", "stop", "main-bot"]).ok();
    daemon.ctl(&["bot", "interrupt", "main-bot"]).ok();
    wait_until(SECONDS, "no data of a process that is gone", || {
        let answer = daemon.get(path).ok();
        (answer["health"] == json!({"status": "no_data"})).then_some(())
    });
}
