//! Tasks, bots, messages, and what was learned of them.

use serde_json::json;

use super::{Judge, find, list};
use crate::common::{External, PATIENCE, wait_until};
use crate::fleet::WAITING;

impl Judge<'_> {
    pub(super) fn control(&self) -> bool {
        match self.route {
            "GET /health" => {
                let ready = self.fleet.ask("GET", "/health/ready", None);
                self.same("the bot", self.at("/bot_id"), &json!("works"));
                self.holds("ready", ready.status == 200);
                let fine = self.at("/reasons") == &json!([]);
                let ok = self.at("/status") == "ok";
                self.holds("it is ok where there are no reasons", fine == ok);
            }
            "GET /status" => {
                let (pid, port) = {
                    let daemon = self.fleet.daemon.borrow();
                    (daemon.pid(), daemon.port())
                };
                self.same("the process", self.at("/pid"), &json!(pid));
                self.same("the port", self.at("/port"), &json!(port));
                self.same("working", self.at("/status"), &json!("working"));
                let task = self.at("/current_task").as_str().unwrap_or_default();
                let task = self.fleet.get(&format!("/api/tasks/{task}"));
                self.holds("the task is one", !task["attempts"].is_null());
                self.same("dead tasks", self.at("/queue/dead"), &json!(3));
                self.same("cancelled tasks", self.at("/queue/cancelled"), &json!(1));
                self.same("scheduled tasks", self.at("/queue/scheduled"), &json!(1));
                let own = self.fleet.succeeded.get();
                let (least, most) = (self.before.done, self.fleet.counts().begun);
                self.within(
                    "succeeded tasks",
                    "/queue/succeeded",
                    own + least,
                    own + most,
                );
            }
            "POST /message" => {
                let inbox = self.fleet.get("/api/messaging/inbox?bot_id=works");
                let message = find(&inbox["messages"], "message_id", self.at("/message_id"));
                self.same("its text", &message["content"], &json!("Good morning"));
                self.same("its sender", &message["from_bot"], &json!("boss"));
                self.same("its priority", &message["priority"], &json!("P1"));
            }
            "GET /messages" => {
                let morning = find(self.at("/messages"), "content", &json!("Good morning"));
                self.same("its sender", &morning["from"], &json!("boss"));
                let again = self.fleet.ask("GET", "/messages", None);
                self.same("they are read", &again.body["messages"], &json!([]));
            }
            _ => return false,
        }
        true
    }

    pub(super) fn orchestration(&self) -> bool {
        match self.route {
            "POST /api/orchestrate" => {
                let task = self.fleet.daemon.borrow().wait_task("known-1", PATIENCE);
                self.fleet.succeeded.set(self.fleet.succeeded.get() + 1);
                self.same("its type", self.at("/task_type"), &task["task_type"]);
                self.same(
                    "its output",
                    &task["result"]["output"],
                    &json!("Write python code"),
                );
                let bot = &task["attempts"][0]["bot_id"];
                let routed = self.at("/routed_to");
                self.holds("the bot", routed.is_null() || routed == bot);
                // Who is free just then, of those that are as good: `coder`, or one of the pool `works`.
                let bot = bot.as_str().unwrap_or_default();
                let can = bot == "coder" || bot.starts_with("works");
                self.holds("a bot that can do it", can);
                let shown = self.fleet.ctl(&["task", "show", "known-1"]);
                self.same("to deiactl", &shown["status"], &json!("succeeded"));
            }
            "GET /api/orchestrate/status" => {
                let bots = self.fleet.ctl(&["bots"]);
                let named: Vec<_> = list(&bots["bots"]).map(|bot| &bot["id"]).collect();
                let own = self.at("/bots").as_object().unwrap();
                self.same("how many", self.at("/total_bots"), &json!(own.len()));
                let known = own.keys().all(|id| named.contains(&&json!(id)));
                self.holds("deiactl knows each", known && own.len() >= 5);
                let loads = own
                    .values()
                    .map(|bot| bot["current_load"].as_f64().unwrap());
                let sum: f64 = loads.sum();
                self.same("the sum", self.at("/total_load"), &json!(sum));
                let avg = sum / own.len() as f64;
                self.same("the average", self.at("/avg_load_per_bot"), &json!(avg));
                let slow = self.at("/bots/slow").clone();
                self.same("slow has one", &slow["current_load"], &json!(1.0));
                self.same("and no room", &slow["capacity_remaining"], &json!(0.0));
                self.same("its type", &slow["type"], &json!("analyzer"));
                self.same("it offers", &slow["specializations"], &json!(["analysis"]));
                // The original's rule, three times.
                let rate = self.at("/bots/fails/success_rate").as_f64().unwrap_or(9.0);
                self.holds("0.95 cubed", (rate - 0.857_375).abs() < 1e-9);
                let clients = 2;
                self.within("waiting tasks", "/queued_tasks", WAITING, WAITING + clients);
            }
            "POST /api/orchestrate/register-bot" => {
                let daemon = self.fleet.daemon.borrow();
                let far = External::of("far", self.answer);
                let task = daemon.submit_with(
                    &json!({"content": "By hand", "bot_id": "far", "type": "writing"}),
                );
                let leased = far.lease_one(&daemon);
                self.same("it gets its task", &leased["task_id"], &json!(task));
                let done = far.say(&daemon, &leased, "complete", &json!({"output": "Done"}));
                self.same("and ends it", &json!(done.status), &json!(200));
                let shown = daemon.wait_task(&task, PATIENCE);
                self.same("its word", &shown["result"]["output"], &json!("Done"));
                let bot = daemon.get("/api/bots/far").ok();
                self.same("its type", &bot["type"], self.at("/bot_type"));
                self.same("its room", &bot["max_concurrent"], &json!(2));
                self.fleet.succeeded.set(self.fleet.succeeded.get() + 1);
            }
            "GET /api/orchestrate/bot/{bot}/status" => {
                let bot = self.fleet.get("/api/bots/slow");
                let tasks = list(&bot["tasks"]).count();
                self.same("its load", self.at("/current_load"), &json!(tasks as f64));
                self.same("its room", self.at("/capacity"), &bot["max_concurrent"]);
                self.same("what is left", self.at("/available_capacity"), &json!(0.0));
                self.same("its rate", self.at("/success_rate"), &bot["success_rate"]);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn scaling(&self) -> bool {
        match self.route {
            "POST /api/scaling/evaluate" => {
                let status = self.fleet.get("/api/scaling/status");
                let count = self.at("/current_bot_count");
                self.same("bots", count, &status["current_bot_count"]);
                let asked = self.at("/evaluation/waiting");
                self.same("the figures are the caller's", asked, &json!(20));
                let real = self.fleet.ask("POST", "/api/scaling/evaluate", Some(b"{}"));
                let waiting = real.body["evaluation"]["waiting"].as_u64().unwrap_or(0);
                self.holds("its own are others", (WAITING..20).contains(&waiting));
            }
            "POST /api/scaling/scale-up" => {
                self.same("one more", self.at("/added"), &json!(1));
                self.same("it says so", self.at("/success"), &json!(true));
                let bot = self.at("/new_bots/0").as_str().unwrap_or_default();
                let bot = self.fleet.get(&format!("/api/bots/{bot}"));
                self.same("it shall run", &bot["wanted"], &json!("running"));
            }
            "POST /api/scaling/scale-down" => {
                self.same("one less", self.at("/removed"), &json!(1));
                let bot = self.at("/removed_bots/0").as_str().unwrap_or_default();
                let path = format!("/api/bots/{bot}");
                let left = self.fleet.ask("GET", &path, None);
                let goes = left.status == 404 || left.body["wanted"] == "stopped";
                self.holds("it goes", goes);
            }
            "GET /api/scaling/status" => {
                let active = list(self.at("/active_bots")).count();
                self.same("how many", self.at("/current_bot_count"), &json!(active));
                // One that goes is there until its process has ended.
                let agree = || {
                    let status = self.fleet.get("/api/scaling/status");
                    let active = list(&status["active_bots"]).count();
                    let bots = self.fleet.ctl(&["bots"]);
                    let own = list(&bots["bots"]).filter(|bot| bot["pool"] != "external");
                    let wanted = own.filter(|bot| bot["wanted"] == "running").count();
                    (active == wanted).then_some(())
                };
                wait_until(PATIENCE, "the status agrees with deiactl", agree);
                self.same("the most", self.at("/max_bots"), &json!(9));
                self.holds(
                    "a step up is on record",
                    self.at("/last_scale_up").is_string(),
                );
                self.holds("and one down", self.at("/last_scale_down").is_string());
            }
            _ => return false,
        }
        true
    }

    pub(super) fn messages(&self) -> bool {
        match self.route {
            "POST /api/messaging/send" => {
                let inbox = self
                    .fleet
                    .get("/api/messaging/inbox?bot_id=coder&priority=P1&limit=1000");
                let message = find(&inbox["messages"], "message_id", self.at("/message_id"));
                self.same("its text", &message["content"], &json!("Hello"));
                self.same("its life", &message["ttl_seconds"], &json!(600));
                self.same("its metadata", &message["metadata"], &json!({"n": 7}));
                self.same("its sender", &message["from_bot"], self.at("/from_bot"));
            }
            "GET /api/messaging/inbox" => {
                let count = list(self.at("/messages")).count();
                self.same("how many", self.at("/count"), &json!(count));
                let status = self.fleet.get("/api/messaging/status");
                let known = &status["bots"]["works"]["total_messages"];
                self.same("to the status", &json!(count), known);
                let from = find(self.at("/messages"), "from_bot", &json!("coder"));
                self.same("the test's own", &from["content"], &json!("x"));
            }
            "POST /api/messaging/read/{message}" => {
                let path = "/api/messaging/inbox?bot_id=coder&priority=P1&limit=1000";
                let inbox = self.fleet.get(path);
                let message = find(&inbox["messages"], "message_id", self.at("/message_id"));
                self.same("it is read", &message["status"], &json!("read"));
                self.holds("since when", message["read_at"].is_string());
            }
            "POST /api/messaging/process-queue" => {
                let has = |name: &str, id: &str| list(self.at(name)).any(|one| one == id);
                let delivered = has("/delivered", &self.fleet.delivered);
                let expired = has("/failed", &self.fleet.expired);
                self.holds("what was delivered", delivered);
                self.holds("what expired", expired);
                let status = self.fleet.get("/api/messaging/status");
                let pending = self.at("/pending").as_u64().unwrap_or(0);
                let now = status["pending_delivery"].as_u64().unwrap();
                // One of the load's may be on its way at either moment.
                self.holds("what waits", pending >= 1 && now.abs_diff(pending) <= 1);
            }
            "GET /api/messaging/status" => {
                let sum = |name: &str| -> u64 {
                    let counts = self.at(name).as_object().unwrap().values();
                    counts.map(|count| count.as_u64().unwrap()).sum()
                };
                let (statuses, priorities) = (sum("/status_breakdown"), sum("/priority_breakdown"));
                self.same("by status", self.at("/total_messages"), &json!(statuses));
                self.same("by priority", &json!(statuses), &json!(priorities));
                self.same("expired", self.at("/status_breakdown/expired"), &json!(1));
                self.same("one is later's", self.at("/bots/later/unread"), &json!(1));
                // The test's own: four, one in the morning, one by the table.
                let (least, most) = (self.before.accepted, self.fleet.counts().sent);
                self.within("all", "/total_messages", 6 + least, 6 + most);
            }
            "GET /api/messaging/conversation/coder" => {
                let count = list(self.at("/messages")).count();
                self.same("how many", self.at("/count"), &json!(count));
                let pairs = list(self.at("/messages"));
                let ours = ["works", "coder"].map(|bot| json!(bot));
                let between = pairs.clone().all(|message| {
                    ours.contains(&message["from_bot"]) && ours.contains(&message["to_bot"])
                });
                self.holds("between the two", between);
                let times: Vec<_> = pairs.map(|m| m["created_at"].as_str()).collect();
                self.holds("the oldest first", times.is_sorted());
                let hello = find(self.at("/messages"), "content", &json!("Hello"));
                self.same("the table's", &hello["metadata"], &json!({"n": 7}));
            }
            _ => return false,
        }
        true
    }

    /// Case 26 of the original: 10 s well, 20 s in vain, 30 s well.
    pub(super) fn learning(&self) -> bool {
        match self.route {
            "POST /api/scheduling/record-execution" => {
                let path = "/api/scheduling/bot-performance/works";
                let planning = &self.fleet.get(path)["performance"]["planning"];
                self.same("it counts", &planning["total_tasks"], &json!(1));
                self.same("its time", &planning["avg_execution_time"], &json!(10.0));
                self.same("whose", self.at("/bot_id"), &json!("works"));
            }
            "GET /api/scheduling/recommendation/planning" => {
                self.same("the best", self.at("/recommended_bot"), &json!("works"));
                self.same("how sure", self.at("/confidence"), &json!(0.8));
                let reason =
                    "Best performer on planning tasks: 12.9s avg, 91% success rate (3 tasks)";
                self.same("why", self.at("/reason"), &json!(reason));
                let score = self.at("/alternatives/0/score").as_f64().unwrap_or(0.0);
                self.holds("its score", (score - 0.94084).abs() < 1e-6);
            }
            "GET /api/scheduling/bot-performance/{first}" => self.planning("/performance/planning"),
            "GET /api/scheduling/task-type/planning" => {
                self.same("one bot", &json!(list(self.at("/bots")).count()), &json!(1));
                self.planning("/bots/0");
            }
            "GET /api/scheduling/insights" => {
                let planning = self.at("/by_task_type/planning").clone();
                self.same("tasks", &planning["total_tasks"], &json!(3));
                self.same("fastest", &planning["fastest"]["bot_id"], &json!("works"));
                let types = self.at("/by_task_type").as_object().unwrap();
                self.same("types", self.at("/task_types_learned"), &json!(types.len()));
                let totals = types.values().map(|of| of["total_tasks"].as_u64().unwrap());
                let total: u64 = totals.sum();
                self.same("all", self.at("/total_executions"), &json!(total));
                self.holds("the load too", total >= self.before.done);
            }
            "GET /api/scheduling/history" => {
                let rows = list(self.at("/history"));
                let count = rows.clone().count();
                self.same("how many", self.at("/returned"), &json!(count));
                self.within("a hundred at most", "/returned", 50, 100);
                let fails = rows.clone().filter(|row| row["bot_id"] == "fails");
                self.holds(
                    "fails fails",
                    fails.clone().all(|row| row["success"] == false),
                );
                let works =
                    rows.filter(|row| row["bot_id"] == "works" && row["task_type"] == "general");
                self.holds(
                    "works works",
                    works.clone().all(|row| row["success"] == true),
                );
                self.holds("the load is there", works.count() > 0);
            }
            _ => return false,
        }
        true
    }

    fn planning(&self, at: &str) {
        let of = self.at(at).clone();
        self.same("tasks", &of["total_tasks"], &json!(3));
        let near = |name: &str, n: f64| (of[name].as_f64().unwrap_or(0.0) - n).abs() < 1e-9;
        let (time, rate) = (near("avg_execution_time", 12.9), near("success_rate", 0.91));
        self.holds("12.9 s on average", time);
        self.holds("0.91 of them succeed", rate);
    }

    pub(super) fn ends(&self) -> bool {
        match self.route {
            "POST /interrupt" => {
                self.holds("some", self.at("/interrupted").as_u64().unwrap_or(0) >= 1);
                let running = self.fleet.fill_in("{running}");
                let seen = wait_until(PATIENCE, "its task is interrupted", || {
                    let task = self.fleet.get(&format!("/api/tasks/{running}"));
                    let first = &task["attempts"][0]["status"];
                    (first != "running").then(|| first.clone())
                });
                self.holds("it is tried again", seen == "failed" || seen == "lost");
            }
            "POST /api/disaster-recovery/restore/{backup}" => {
                let done = wait_until(PATIENCE, "it is restored", || {
                    let status = self.fleet.ask("GET", "/api/disaster-recovery/status", None);
                    let last = &status.body["last_restore"];
                    (status.status == 200 && last["succeeded"].is_boolean()).then(|| last.clone())
                });
                self.same("it is restored", &done["succeeded"], &json!(true));
                let id = self.fleet.fill_in("{backup}");
                self.same("which", &done["backup_id"], &json!(id));
                // Added after the backup was made.
                let gone = self.fleet.ask("GET", "/api/tasks/added-1", None);
                self.same("what came later", &json!(gone.status), &json!(404));
                let kept = self.fleet.ask("GET", "/api/tasks/known-1", None);
                self.same("what came before", &json!(kept.status), &json!(200));
            }
            "POST /terminate" => {
                let ended = wait_until(PATIENCE, "the daemon ends", || {
                    self.fleet.daemon.borrow_mut().ended()
                });
                self.same("well", &json!(ended.code()), &json!(0));
            }
            _ => return false,
        }
        true
    }
}
