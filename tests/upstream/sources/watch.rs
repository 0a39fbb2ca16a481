//! Health, configuration, backups, the audit trail and monitoring.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Judge, find, list};
use crate::common::PATIENCE;
use crate::fleet::WAITING;

impl Judge<'_> {
    pub(super) fn health(&self) -> bool {
        match self.route {
            "POST /api/dashboard/health/evaluate" => {
                self.same("its figures", self.at("/metrics/queued_tasks"), &json!(20));
                self.same("its load", self.at("/metrics/avg_bot_load"), &json!(0.7));
                self.same(
                    "critical ones",
                    self.at("/metrics/critical_alerts"),
                    &json!(3),
                );
                let page = self.fleet.get("/api/dashboard/health");
                let kept = &page["metrics"]["pending_message_failures"];
                // Of the one there is, where the last sample has seen it: not the ten that were asked about.
                self.holds("nothing is kept", *kept == json!(1) || *kept == json!(0));
            }
            "GET /api/dashboard/health" => self.dashboard(""),
            "GET /api/dashboard/alerts" => {
                let alert = find(self.at("/alerts"), "alert_id", &json!("queue_health"));
                self.same("its title", &alert["title"], &json!("Task Queue Backlog"));
                let waiting = alert["message"]
                    .as_str()
                    .and_then(|text| text.strip_suffix(" tasks queued"));
                let waiting = waiting.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
                self.holds("how many wait", (WAITING..WAITING + 9).contains(&waiting));
                let count = list(self.at("/alerts")).count();
                self.same("how many", self.at("/count"), &json!(count));
                let shown = self.fleet.ctl(&["alerts"]);
                let shown = find(&shown["alerts"], "alert_id", &json!("queue_health"));
                self.same("to deiactl", &shown["timestamp"], &alert["timestamp"]);
            }
            "POST /api/dashboard/alerts/queue_health/resolve" => {
                let alerts = self.fleet.get("/api/dashboard/alerts");
                let left = list(&alerts["alerts"]).any(|a| a["alert_id"] == "queue_health");
                self.holds("it is gone", !left);
                let record = self
                    .fleet
                    .get("/api/audit/query?action=alert_resolved&target=queue_health");
                self.same("on record", &record["count"], &json!(1));
            }
            _ => return false,
        }
        true
    }

    /// The dashboard that stands at this place of the answer.
    fn dashboard(&self, at: &str) {
        let page = self.at(at).clone();
        let alerts = self.fleet.get("/api/dashboard/alerts");
        // The host's own may come and go from one look to the next.
        let ids = |alerts: &Value| -> Vec<Value> {
            let ids = list(alerts).map(|alert| alert["alert_id"].clone());
            let of_the_fleet = ["queue_health", "bot_availability", "messaging_health"];
            ids.filter(|id| of_the_fleet.iter().any(|of| id == of))
                .collect()
        };
        let (shown, known) = (ids(&page["active_alerts"]), ids(&alerts["alerts"]));
        self.same("alerts", &json!(shown), &json!(known));
        let count = list(&page["active_alerts"]).count();
        self.same("their number", &page["alerts"]["active"], &json!(count));
        self.same(
            "both shapes",
            &page["alert_summary"]["warning"],
            &page["alerts"]["warnings"],
        );
        let status = self.fleet.get("/api/messaging/status");
        let expired = &status["status_breakdown"]["expired"];
        self.same(
            "failed messages",
            &page["queue_status"]["failed_messages"],
            expired,
        );
        let scaling = self.fleet.get("/api/scaling/status");
        self.same(
            "bots",
            &page["bot_health"]["total"],
            &scaling["current_bot_count"],
        );
        self.same(
            "both shapes",
            &page["bot_health"]["total"],
            &page["bots"]["total"],
        );
        let waiting = page["queue_status"]["queued_tasks"].as_u64().unwrap_or(0);
        self.holds("what waits", (WAITING..WAITING + 9).contains(&waiting));
        let flags = self.fleet.get("/api/config/value/feature_flags");
        self.same("the flags", &page["feature_flags"], &flags["value"]);
        let memory = page["system_resources"]["memory_percent"]
            .as_f64()
            .unwrap_or(0.0);
        self.holds("the host's memory", memory > 0.01);
    }

    pub(super) fn config(&self) -> bool {
        match self.route {
            "GET /api/config/current" => {
                let warning = self.at("/thresholds/cpu_warning_percent");
                self.same("the file's", warning, &json!(0.81));
                self.same("its limits", self.at("/bot_limits/max_bots"), &json!(9));
                self.same(
                    "its own",
                    self.at("/custom"),
                    &json!({"app_name": "replay"}),
                );
                let shown = self.fleet.ctl(&["config", "show"]);
                let all = self.answer["timeouts"] == shown["timeouts"];
                self.holds("to deiactl", all && shown["timeouts"].is_object());
            }
            "GET /api/config/value/thresholds.cpu_warning_percent" => {
                self.same("the file's", self.at("/value"), &json!(0.81));
            }
            // The file was changed before it was asked for.
            "POST /api/config/reload" => {
                let name = "/api/config/value/thresholds.cpu_warning_percent";
                self.same(
                    "the new value",
                    &self.fleet.get(name)["value"],
                    &json!(0.83),
                );
                let file = self.fleet.daemon.borrow().home().join("bot-config.yaml");
                self.same("from where", self.at("/loaded_from"), &json!(file));
            }
            "POST /api/config/check-reload" => {
                self.same("nothing has changed", self.at("/reloaded"), &json!(false));
                let status = self.fleet.get("/api/config/status");
                self.same(
                    "the version",
                    self.at("/config_version"),
                    &status["config_version"],
                );
            }
            "GET /api/config/status" => {
                let file = self.fleet.daemon.borrow().home().join("bot-config.yaml");
                self.same("the file", self.at("/config_file"), &json!(file));
                self.same("no fault", self.at("/load_errors"), &json!([]));
                let status = self.fleet.get("/status");
                self.same("which one", self.at("/generation"), &status["generation"]);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn recovery(&self) -> bool {
        match self.route {
            "POST /api/disaster-recovery/backup" => {
                let id = self.at("/backup_id").as_str().unwrap_or_default();
                let verified = self.fleet.ctl(&["backup", "verify", id]);
                self.same("it is whole", &verified["success"], &json!(true));
            }
            "POST /api/disaster-recovery/restore-point" => {
                let id = self.at("/restore_point_id").clone();
                let status = self.fleet.get("/api/disaster-recovery/status");
                self.same("the last", &status["latest_restore_point"], &id);
            }
            "GET /api/disaster-recovery/backup-history" => {
                let count = list(self.at("/backups")).count();
                self.same("how many", self.at("/count"), &json!(count));
                let id = self.fleet.fill_in("{backup}");
                let made = find(self.at("/backups"), "backup_id", &json!(id)).clone();
                self.same("its type", &made["backup_type"], &json!("queue"));
                self.same("its source", &made["source"], &json!("a script"));
                self.same("its tags", &made["tags"], &json!({"why": "nightly"}));
                let folder = self.fleet.daemon.borrow().home().join(".deia/backups");
                let bytes = std::fs::read(folder.join(format!("{id}.tar.gz"))).unwrap_or_default();
                self.same("its size", &made["size_bytes"], &json!(bytes.len()));
                let sum: String = Sha256::digest(&bytes)
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect();
                self.same("its sum", &made["checksum"], &json!(sum));
            }
            "GET /api/disaster-recovery/restore-point/{point}" => {
                let id = self.fleet.fill_in("{point}");
                let backups = self.fleet.ctl(&["backup", "list"]);
                let known = find(&backups["backups"], "backup_id", &json!(id)).clone();
                let own = self.at("/details/backup_details/0/checksum");
                self.same("to deiactl", own, &known["checksum"]);
            }
            "GET /api/disaster-recovery/status" => {
                let history = self.fleet.get("/api/disaster-recovery/backup-history");
                self.same("how many", self.at("/total_backups"), &history["count"]);
                self.same(
                    "restore points",
                    self.at("/total_restore_points"),
                    &json!(1),
                );
                let latest = &history["backups"][0]["backup_id"];
                self.same("the last", self.at("/latest_backup"), latest);
                self.same("by type", self.at("/backups_by_type/queue"), &json!(1));
                let sizes = list(&history["backups"]).map(|b| b["size_bytes"].as_f64().unwrap());
                let all = sizes.sum::<f64>() / 1_048_576.0;
                let used = self.at("/disk_usage_mb").as_f64().unwrap_or(0.0);
                self.holds("the disk", (used - all).abs() < 0.01);
                self.same("no crash", self.at("/crash_detected"), &json!(false));
            }
            "POST /api/disaster-recovery/mark-shutdown" => {
                let status = self.fleet.get("/api/disaster-recovery/status");
                self.same("no crash", &status["crash_detected"], &json!(false));
                let ready = self.fleet.ask("GET", "/health/ready", None);
                self.same("nothing ends", &json!(ready.status), &json!(200));
            }
            _ => return false,
        }
        true
    }

    pub(super) fn audit(&self) -> bool {
        match self.route {
            "POST /api/audit/log" => {
                let logged = self.fleet.ctl(&["audit", "query", "--target", "a lamp"]);
                let entry = find(&logged["entries"], "entry_id", self.at("/entry_id")).clone();
                let claimed = &entry["details"]["claimed_actor"];
                self.same("who he says he is", claimed, &json!("daemon"));
                self.holds("and is not", entry["actor"] != "daemon");
                self.same("the result", &entry["result"], &json!("partial"));
                self.same(
                    "the error",
                    &entry["error_message"],
                    &json!("one bulb is broken"),
                );
            }
            "GET /api/audit/query" => self.is_the_lamp("/entries"),
            "GET /api/audit/actor/{actor}" => {
                let actor = json!(self.fleet.fill_in("{actor}"));
                let own = list(self.at("/actions")).all(|entry| entry["actor"] == actor);
                self.holds("nobody else's", own);
                let count = list(self.at("/actions")).count();
                self.same("how many", self.at("/count"), &json!(count));
            }
            "GET /api/audit/target/a%20lamp" => self.is_the_lamp("/history"),
            "GET /api/audit/critical" => {
                let lamp = find(self.at("/critical_actions"), "target", &json!("a lamp")).clone();
                self.same("it is", &lamp["level"], &json!("critical"));
                let all = list(self.at("/critical_actions")).all(|e| e["level"] == "critical");
                self.holds("all are", all);
            }
            "GET /api/audit/verify" => {
                let verified = self.fleet.ctl(&["audit", "verify"]);
                let later = verified["total_entries"].as_u64().unwrap();
                // Each task of the load's is at least a record.
                let tasks = 2 * self.before.done;
                self.within("how many", "/total_entries", tasks, later);
            }
            "GET /api/audit/statistics" => {
                let total = self.at("/total_entries").clone();
                for name in ["/actions", "/actors", "/levels", "/results"] {
                    let counts = self.at(name).as_object().unwrap().values();
                    let sum: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
                    self.same(name, &json!(sum), &total);
                }
                let most = self.fleet.counts().begun + 30;
                self.within(
                    "tasks",
                    "/actions/task_submitted",
                    self.before.done + 17,
                    most,
                );
                self.same("failures", self.at("/actions/task_failed"), &json!(3));
            }
            _ => return false,
        }
        true
    }

    fn is_the_lamp(&self, name: &str) {
        self.same("one", self.at("/count"), &json!(1));
        let entry = self.fleet.fill_in("{entry}");
        self.same(
            "the test's own",
            &self.at(name)[0]["entry_id"],
            &json!(entry),
        );
    }

    pub(super) fn processes(&self) -> bool {
        match self.route {
            "GET /api/monitoring/process/{bot}" => {
                let bot = self.fleet.get("/api/bots/slow");
                let own = self.at("/health/latest_metrics").clone();
                self.same("its process", &own["pid"], &bot["pid"]);
                let fds = format!("/proc/{}/fd", bot["pid"]);
                let open = std::fs::read_dir(fds).map_or(0, Iterator::count) as u64;
                let seen = own["num_fds"].as_u64().unwrap_or(0);
                self.holds("what it has open", seen > 0 && seen.abs_diff(open) <= 2);
                let memory = own["memory_mb"].as_f64().unwrap_or(0.0);
                let known = bot["memory_bytes"].as_f64().unwrap_or(0.0) / 1_048_576.0;
                self.holds("its memory", memory > 0.1 && (memory - known).abs() < 4.0);
            }
            "GET /api/monitoring/process/all/health" => {
                let own = self.at("/bots").as_object().unwrap();
                self.same("how many", self.at("/total_bots"), &json!(own.len()));
                let bots = self.fleet.ctl(&["bots"]);
                let slow = find(&bots["bots"], "id", &json!("slow")).clone();
                let pid = self.at("/bots/slow/latest_metrics/pid");
                self.same("slow's process", pid, &slow["pid"]);
            }
            "GET /api/monitoring/process/{bot}/memory-leak" => {
                let seen = self.fleet.get("/api/monitoring/process/slow");
                let trend = &seen["health"]["memory_trend"]["is_leaking"];
                let leaks = trend.as_bool().unwrap_or(false);
                self.same("its trend", self.at("/is_leaking"), &json!(leaks));
            }
            _ => return false,
        }
        true
    }

    pub(super) fn monitoring(&self) -> bool {
        match self.route {
            "GET /api/monitoring/api/status" => self.services(""),
            "GET /api/monitoring/queue/status" => self.queue(""),
            "GET /api/monitoring/queue/bottlenecks" => {
                let found = list(self.at("/bottlenecks")).count();
                self.same("how many", self.at("/count"), &json!(found));
                let queue = self.fleet.get("/api/monitoring/queue/status");
                let waits = queue["avg_queue_wait_ms"].as_f64().unwrap_or(0.0) > 500.0;
                let slow = queue["avg_execution_time_ms"].as_f64().unwrap_or(0.0) > 5000.0;
                let is = usize::from(waits) + usize::from(slow);
                self.same("by the averages", &json!(found), &json!(is));
            }
            "GET /api/monitoring/failures/stats" => self.failures(""),
            "GET /api/monitoring/failures/cascade-risk" => self.cascade(""),
            "GET /api/monitoring/failures/trends" => self.trends(""),
            "GET /api/monitoring/observability/snapshot" => {
                self.queue("/queues");
                self.services("/api");
                self.failures("/failures");
                self.cascade("/failures/cascade_risk");
                self.trends("/failures/error_trends");
                self.dashboard("/health");
                let bots = self.fleet.get("/api/bots");
                let slow = find(&bots["bots"], "id", &json!("slow")).clone();
                let pid = self.at("/system/slow/latest_metrics/pid");
                self.same("slow's process", pid, &slow["pid"]);
            }
            "GET /api/monitoring/observability/history/process" => {
                let rows = list(self.at("/data"));
                self.same("how many", self.at("/count"), &json!(rows.clone().count()));
                let mut slow = rows.filter(|row| row["bot_id"] == "slow");
                let known = self.fleet.get("/api/bots/slow")["memory_bytes"]
                    .as_f64()
                    .unwrap();
                let near = slow.any(|row| {
                    let seen = row["memory_mb"].as_f64().unwrap_or(0.0);
                    (seen - known / 1_048_576.0).abs() < 4.0
                });
                self.holds("slow's memory", near);
            }
            _ => return false,
        }
        true
    }

    fn services(&self, at: &str) {
        let api = self.at(at).clone();
        let bots = self.fleet.get("/api/bots");
        self.same(
            "one for each bot",
            &json!(list(&api["services"]).count()),
            &bots["count"],
        );
        let of = |bot: &str| find(&api["services"], "bot_id", &json!(bot)).clone();
        self.same("fails", &of("fails")["error_rate"], &json!(1.0));
        self.same("works", &of("works")["status"], &json!("healthy"));
        let risk = &api["cascade_risk"];
        self.same("what spreads", risk, &json!(["fails:cascade_risk"]));
        let took = of("works")["avg_response_time_ms"].as_f64().unwrap_or(0.0);
        self.holds("5 ms and no minute", (5.0..60_000.0).contains(&took));
    }

    fn queue(&self, at: &str) {
        let queue = self.at(at).clone();
        let depth = queue["queue_depth"].as_u64().unwrap_or(0);
        self.holds("what waits", (WAITING..WAITING + 9).contains(&depth));
        let speed = queue["throughput_tasks_per_minute"].as_f64().unwrap_or(0.0);
        self.holds("what is done", speed * 15.0 >= self.before.done as f64);
        let took = queue["avg_execution_time_ms"].as_f64().unwrap_or(0.0);
        self.holds("5 ms and no minute", (5.0..60_000.0).contains(&took));
        let recent = queue["avg_queue_depth_recent"].as_f64().unwrap_or(0.0);
        self.holds("what waited", recent > 1.0);
    }

    fn failures(&self, at: &str) {
        let stats = self.at(at).clone();
        self.same("all", &stats["total_failures_24h"], &json!(3));
        let of_bot = &stats["by_bot"]["fails"];
        self.same("of the bot", &of_bot["count"], &json!(3));
        let mut named: Vec<_> = list(&of_bot["tasks"]).filter_map(Value::as_str).collect();
        let mut dead: Vec<_> = self.fleet.dead.iter().map(String::as_str).collect();
        named.sort_unstable();
        dead.sort_unstable();
        self.same("which", &json!(named), &json!(dead));
        let of_type = &stats["by_task_type"]["writing"];
        self.same("of the kind", &of_type["count"], &json!(3));
        let pattern = find(
            &stats["failure_patterns"],
            "pattern_id",
            &json!("bot:fails"),
        );
        self.same("how often", &pattern["failure_rate"], &json!(1.0));
    }

    fn cascade(&self, at: &str) {
        let risk = self.at(at).clone();
        self.same("three are medium", &risk["cascade_risk"], &json!("medium"));
        self.same("how many", &risk["recent_failures"], &json!(3));
        self.same("whose", &risk["affected_bots"], &json!(["fails"]));
    }

    fn trends(&self, at: &str) {
        let trends = self.at(at).clone();
        self.same(
            "what went wrong",
            &trends["error_types"],
            &json!({"backend": 3}),
        );
        self.same("all", &trends["total_failures"], &json!(3));
        let hours = list(&trends["hourly_distribution"]);
        let sum: u64 = hours
            .map(|hour| hour["error_count"].as_u64().unwrap())
            .sum();
        self.same("hour by hour", &json!(sum), &json!(3));
    }

    pub(super) fn reports(&self) -> bool {
        match self.route {
            "POST /api/monitoring/queue/add-task" => {
                let task = self.fleet.daemon.borrow().wait_task("added-1", PATIENCE);
                self.same("it is a task", &task["status"], &json!("succeeded"));
                self.same("its priority", &task["priority"], &json!("P2"));
                let depth = self.at("/queue_depth").as_u64().unwrap_or(0);
                self.holds("what waits", (WAITING..WAITING + 9).contains(&depth));
            }
            "POST /api/monitoring/queue/complete-task" => {
                let id = self.fleet.fill_in("{done}");
                let task = self.fleet.get(&format!("/api/tasks/{id}"));
                self.same("it is over", self.at("/status"), &task["status"]);
                let running = self.fleet.fill_in("{\"task_id\": \"{running}\"}");
                let path = "/api/monitoring/queue/complete-task";
                let other = self.fleet.ask("POST", path, Some(running.as_bytes()));
                self.same("one that runs", &json!(other.status), &json!(409));
            }
            "POST /api/monitoring/failures/record" => {
                self.same("one more", self.at("/total_failures"), &json!(4));
                let stats = self.fleet.get("/api/monitoring/failures/stats");
                self.same("it counts", &stats["total_failures_24h"], &json!(4));
                self.same("as a client's", &stats["reported_by_clients"], &json!(1));
                let risk = self.fleet.get("/api/monitoring/failures/cascade-risk");
                self.same("two bots", &risk["bots_affected"], &json!(2));
            }
            _ => return false,
        }
        true
    }
}
