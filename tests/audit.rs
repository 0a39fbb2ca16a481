//! Every act through HTTP, `deiactl`, a signal or a bot's socket is on record with who did it; what is on record
//! stays, and what is changed shows.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Daemon, Http, PATIENCE, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A bot of one shell may start `deiactl`.
fn fleet() -> String {
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_deiactl"))
        .parent()
        .unwrap();
    format!(
        "bot_limits: {{min_bots: 1, max_bots: 3}}\n\
         feature_flags: {{request_validation_enabled: false}}\n\
         bots: [{{name: echo, type: general, max: 2, backend: {{kind: echo}}}}, \
         {{name: sh, type: developer, max: 1, paths: {{read: [{programs:?}]}}, \
         backend: {{kind: command, argv: [sh, -c], input: argv}}}}]\n"
    )
}

/// Who runs this test, as the daemon knows it.
fn me() -> String {
    let uid = nix::unistd::getuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| format!("user:{}", fields[0]))
    };
    passwd
        .lines()
        .find_map(of)
        .unwrap_or_else(|| format!("uid:{uid}"))
}

fn query(daemon: &Daemon, query: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/api/audit/query{query}")).ok();
    let entries = answer["entries"].as_array().unwrap().clone();
    assert_eq!(answer["count"], entries.len(), "{answer}");
    entries
}

/// The newest record of this action, and who did it to what.
#[track_caller]
fn newest(daemon: &Daemon, action: &str) -> Value {
    let found = query(daemon, &format!("?action={action}&limit=1"));
    found
        .first()
        .unwrap_or_else(|| panic!("no {action}: {:#?}", query(daemon, "?limit=20")))
        .clone()
}

#[track_caller]
fn is_on_record(daemon: &Daemon, action: &str, actor: &str, target: &str) -> Value {
    let entry = newest(daemon, action);
    assert_eq!(entry["actor"], actor, "{entry}");
    assert_eq!(entry["target"], target, "{entry}");
    assert_eq!(entry["source"], "daemon", "{entry}");
    entry
}

fn verified(daemon: &Daemon) -> Value {
    let found = daemon.get("/api/audit/verify").ok();
    assert_eq!(found["verified"], true, "{found}");
    assert_eq!(found["errors"], json!([]), "{found}");
    assert_eq!(found["invalid_checksums"], 0, "{found}");
    found
}

fn submit(to: &Http, request: &Value) -> String {
    let answer = to.post("/api/orchestrate", request).ok();
    assert_eq!(answer["success"], true, "{answer}");
    answer["task_id"].as_str().unwrap().to_owned()
}

/// Shown to fail on a build without the record of interrupted bots.
#[test]
fn every_act_is_on_record_with_who_did_it() {
    let mut daemon = Daemon::builder().config(&fleet()).start();
    let me = me();
    let (admin, tcp) = (daemon.admin(), daemon.tcp());
    let nobody = "anonymous@127.0.0.1";
    is_on_record(&daemon, "daemon_started", "daemon", "daemon");
    is_on_record(&daemon, "scale_up", "daemon", "fleet");

    // Tasks, and their ends.
    let id = submit(&tcp, &json!({"content": "hello", "pool": "echo"}));
    let entry = is_on_record(&daemon, "task_submitted", nobody, &id);
    assert!(entry["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    daemon.wait_task(&id, PATIENCE);
    is_on_record(&daemon, "task_completed", "bot:echo", &id);
    let again = json!({"content": "hello", "pool": "echo", "task_id": id});
    // Accepted before, or another request: nothing is done, and nothing on record.
    tcp.post("/api/orchestrate", &again);
    assert_eq!(
        query(&daemon, &format!("?action=task_submitted&target={id}")).len(),
        1
    );
    let failing = json!({"content": "exit 3", "pool": "sh", "max_attempts": 1});
    let id = submit(&admin, &failing);
    is_on_record(&daemon, "task_submitted", &me, &id);
    daemon.wait_task(&id, PATIENCE);
    let entry = is_on_record(&daemon, "task_failed", "bot:sh", &id);
    assert_eq!(
        (&entry["result"], &entry["details"]["status"]),
        (&json!("failure"), &json!("dead"))
    );
    daemon.ctl(&["task", "retry", &id]).ok();
    is_on_record(&daemon, "task_retried", &me, &id);
    daemon.wait_task(&id, PATIENCE);
    let later = json!({"content": "x", "not_before": "2099-01-01T00:00:00Z"});
    let id = submit(&tcp, &later);
    tcp.post(&format!("/api/tasks/{id}/cancel"), &json!({}))
        .ok();
    is_on_record(&daemon, "task_cancelled", nobody, &id);
    let long = submit(&tcp, &json!({"content": "sleep 60", "pool": "sh"}));
    wait_until(PATIENCE, "it runs", || {
        let task = daemon.get(&format!("/api/tasks/{long}")).ok();
        (task["status"] == "running").then_some(())
    });
    daemon
        .post(&format!("/api/tasks/{long}/cancel"), &json!({}))
        .ok();
    daemon.wait_task(&long, PATIENCE);
    let cancelled = query(&daemon, &format!("?action=task_cancelled&target={long}"));
    let results: Vec<_> = cancelled
        .iter()
        .map(|e| (&e["actor"], &e["result"]))
        .collect();
    assert_eq!(
        results,
        [
            (&json!("bot:sh"), &json!("success")),
            (&json!(me), &json!("partial"))
        ]
    );
    let batch = json!([{"content": "a", "pool": "echo"}, {"content": "b", "pool": "echo"}]);
    let answer = tcp.post("/api/orchestrate/batch", &batch).ok();
    for one in answer["results"].as_array().unwrap() {
        let id = one["task_id"].as_str().unwrap();
        let found = query(&daemon, &format!("?action=task_submitted&target={id}"));
        assert_eq!(found.len(), 1, "{answer}");
    }

    // Messages, also of a bot's program.
    let message = json!({"to_bot": "echo", "content": "hi"});
    tcp.post("/api/messaging/send", &message).ok();
    is_on_record(&daemon, "message_sent", nobody, "echo");
    let deiactl = env!("CARGO_BIN_EXE_deiactl");
    let says = json!({"content": format!("{deiactl} message send echo hello"), "pool": "sh"});
    let id = submit(&tcp, &says);
    daemon.wait_task(&id, PATIENCE);
    is_on_record(&daemon, "message_sent", "bot:sh", "echo");

    // The fleet.
    let acts = [
        ("stop", "bot_stopped"),
        ("start", "bot_started"),
        ("restart", "bot_restarted"),
        ("interrupt", "bot_interrupted"),
    ];
    for (act, action) in acts {
        daemon.ctl(&["bot", act, "echo"]).ok();
        is_on_record(&daemon, action, &me, "echo");
    }
    admin.post("/interrupt", &json!({})).ok();
    is_on_record(&daemon, "bot_interrupted", &me, "fleet");
    let refused = tcp.post("/api/bots/echo/stop", &json!({}));
    assert_eq!(refused.status, 403);
    admin
        .post("/api/scaling/scale-up?count=1&pool=echo", &json!({}))
        .ok();
    is_on_record(&daemon, "scale_up", &me, "echo");
    admin
        .post("/api/scaling/scale-down?count=1&pool=echo", &json!({}))
        .ok();
    is_on_record(&daemon, "scale_down", &me, "echo");
    daemon.ctl(&["scale", "--max", "2"]).ok();
    let entry = is_on_record(&daemon, "config_changed", &me, "bot_limits");
    assert_eq!(entry["details"]["max_bots"], 2, "{entry}");
    let record = json!({"bot_id": "echo", "execution_time": 1.0});
    tcp.post("/api/scheduling/record-execution", &record).ok();
    is_on_record(&daemon, "api_call", nobody, "echo");

    // The configuration.
    daemon.write_config(&format!(
        "{}http: {{listen: \"127.0.0.1:0\"}}\nlog_level: debug\n",
        fleet()
    ));
    daemon.ctl(&["reload"]).ok();
    let entry = is_on_record(&daemon, "config_changed", &me, "configuration");
    assert!(
        entry["details"]["changes"]
            .to_string()
            .contains("log_level"),
        "{entry}"
    );
    daemon.write_config("{");
    daemon.signal(Signal::SIGHUP);
    let entry = wait_until(PATIENCE, "a refused reload is on record", || {
        let entry = newest(&daemon, "config_changed");
        (entry["result"] == "failure").then_some(entry)
    });
    assert_eq!(entry["actor"], me.as_str(), "{entry}");
    daemon.ctl(&["upgrade", "/nowhere"]);
    let entry = is_on_record(&daemon, "restart_requested", &me, "daemon");
    assert_eq!(entry["result"], "failure", "{entry}");
    daemon.write_config(&format!("{}http: {{listen: \"127.0.0.1:0\"}}\n", fleet()));
    verified(&daemon);

    // A stop, by a signal; who sent it the next daemon can say.
    daemon.terminate();
    daemon.restart();
    is_on_record(&daemon, "shutdown_initiated", &me, "daemon");
    verified(&daemon);
}

/// Makes of a backup one of the year 2000.
fn age(daemon: &Daemon, backup: &str, old: &str) {
    let folder = daemon.home().join(".deia/backups");
    let inside = daemon.home().join("unpacked");
    std::fs::create_dir(&inside).unwrap();
    let tar = |arguments: &[&std::ffi::OsStr]| {
        let mut tar = std::process::Command::new("tar");
        let done = tar.current_dir(&inside).args(arguments).status().unwrap();
        assert!(done.success());
    };
    let from = folder.join(format!("{backup}.tar.gz"));
    tar(&["-xzf".as_ref(), from.as_os_str()]);
    std::fs::remove_file(from).unwrap();
    let manifest = inside.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut manifest_of: Value = serde_json::from_str(&text).unwrap();
    manifest_of["created_at"] = "2000-01-01T00:00:00Z".into();
    std::fs::write(&manifest, manifest_of.to_string()).unwrap();
    let members = manifest_of["members"].as_array().unwrap().clone();
    let members = members
        .iter()
        .map(|member| member["path"].as_str().unwrap());
    let to = folder.join(format!("{old}.tar.gz"));
    let mut arguments = vec!["--format=ustar".as_ref(), "-czf".as_ref(), to.as_os_str()];
    arguments.push("manifest.json".as_ref());
    arguments.extend(members.map(std::ffi::OsStr::new));
    tar(&arguments);
}

/// Alerts, backups and what becomes of old ones: nobody asked for them. Shown to fail on a build without the record of an
/// alert that is over by itself.
#[test]
fn what_the_daemon_does_by_itself_is_on_record() {
    let config = |percent: &str| {
        format!(
            "timeouts: {{bot_health_check_interval_seconds: 1}}\n\
             persistence: {{backup_retention_days: 1}}\n\
             thresholds: {{memory_warning_percent: {percent}, memory_critical_percent: 0.999}}\n\
             bots: [{{name: echo, type: general, backend: {{kind: echo}}}}]\n\
             http: {{listen: \"127.0.0.1:0\"}}\n"
        )
    };
    let mut daemon = Daemon::builder().config(&config("0.0001")).start();
    let about = |daemon: &Daemon, action: &str| {
        let query = format!("?action={action}&target=memory_health&actor=daemon");
        self::query(daemon, &query)
    };
    let raised = wait_until(PATIENCE, "an alert is raised", || {
        about(&daemon, "alert_generated").pop()
    });
    assert_eq!(raised["level"], "warning", "{raised}");
    let path = "/api/dashboard/alerts/memory_health/resolve";
    daemon.post(path, &json!({})).ok();
    // At once: the answer waits for it.
    is_on_record(&daemon, "alert_resolved", &me(), "memory_health");
    daemon.write_config(&config("0.998"));
    daemon.ctl(&["reload"]).ok();
    daemon.write_config(&config("0.0001"));
    daemon.ctl(&["reload"]).ok();
    wait_until(PATIENCE, "it is raised again", || {
        (about(&daemon, "alert_generated").len() == 2).then_some(())
    });
    daemon.write_config(&config("0.998"));
    daemon.ctl(&["reload"]).ok();
    wait_until(PATIENCE, "and is over", || {
        about(&daemon, "alert_resolved").pop()
    });

    // Somebody asks for a backup. One of long ago is replaced by the next start, and goes.
    let made = daemon
        .post("/api/disaster-recovery/backup", &json!({}))
        .ok();
    let name = made["backup_id"].as_str().unwrap();
    let entry = is_on_record(&daemon, "backup_created", &me(), name);
    assert_eq!(entry["details"]["kind"], "manual", "{entry}");
    daemon.terminate();
    let old = "state-2000-01-01-00-00-00";
    age(&daemon, name, old);
    daemon.restart();
    let scheduled = wait_until(PATIENCE, "there is a backup by the interval", || {
        let found = query(&daemon, "?action=backup_created&actor=daemon");
        found.into_iter().next()
    });
    assert_eq!(scheduled["details"]["kind"], "scheduled", "{scheduled}");
    wait_until(PATIENCE, "the old one is removed", || {
        let found = query(&daemon, "?action=backup_deleted&actor=daemon");
        found.into_iter().find(|entry| entry["target"] == old)
    });
    verified(&daemon);
}

/// Shown to fail on a build that takes a caller's word for the daemon's.
#[test]
fn what_callers_say_is_marked_as_that() {
    let daemon = Daemon::builder().start();
    let tcp = daemon.tcp();
    let said = json!({"action": "shutdown_initiated", "actor": "daemon", "target": "x", "level": "critical",
        "details": {"api_token": "hunter2", "n": 1}, "result": "failure", "error_message": "why"});
    let answer = tcp.post("/api/audit/log", &said).ok();
    assert_eq!(answer["actor"], "anonymous@127.0.0.1", "{answer}");
    let found = tcp.get("/api/audit/critical?hours=1").ok();
    assert_eq!(found["count"], 1, "{found}");
    let entry = &found["critical_actions"][0];
    assert_eq!(entry["entry_id"], answer["entry_id"], "{entry}");
    assert_eq!(entry["source"], "client", "{entry}");
    assert_eq!(entry["actor"], "anonymous@127.0.0.1", "{entry}");
    assert_eq!(entry["details"]["claimed_actor"], "daemon", "{entry}");
    assert_eq!(entry["details"]["api_token"], "[redacted]", "{entry}");
    assert_eq!(entry["error_message"], "why", "{entry}");
    // The defaults, as ever.
    tcp.post("/api/audit/log", &json!({})).ok();
    let found = tcp.get("/api/audit/target/unknown").ok();
    assert_eq!(found["history"][0]["action"], "api_call", "{found}");
    let found = tcp.get("/api/audit/actor/anonymous@127.0.0.1?limit=1").ok();
    assert_eq!(
        (&found["count"], &found["actions"][0]["seq"]),
        (&json!(1), &found["actions"][0]["seq"])
    );
    for wrong in [
        json!({"action": "shrug"}),
        json!({"level": "loud"}),
        json!({"result": "so so"}),
    ] {
        assert_eq!(tcp.post("/api/audit/log", &wrong).status, 422, "{wrong}");
    }
    for wrong in [
        "action=shrug",
        "level=loud",
        "result=soso",
        "limit=0",
        "limit=5000",
        "cursor=x",
    ] {
        assert_eq!(
            tcp.get(&format!("/api/audit/query?{wrong}")).status,
            422,
            "{wrong}"
        );
    }
    let large = json!({"details": {"text": "x".repeat(70_000)}});
    assert_eq!(tcp.post("/api/audit/log", &large).status, 413);
    let figures = tcp.get("/api/audit/statistics").ok();
    assert_eq!(figures["levels"]["critical"], 1, "{figures}");
    let total: u64 = figures["actions"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(figures["total_entries"], total, "{figures}");
    // Pages.
    let first = tcp.get("/api/audit/query?limit=1").ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = tcp
        .get(&format!("/api/audit/query?limit=1&cursor={cursor}"))
        .ok();
    let seq = |page: &Value| page["entries"][0]["seq"].as_i64().unwrap();
    assert_eq!(seq(&first), seq(&second) + 1);
    assert_eq!(
        second["entries"][0]["checksum"],
        first["entries"][0]["previous"]
    );
}

/// An acknowledged act is on record, whatever happens to the daemon, and every record is of an act: nothing is
/// there twice.
/// Shown to fail on a store that leaves one record in seven out.
#[test]
fn what_was_acknowledged_is_on_record_after_kill_9() {
    let mut daemon = Daemon::builder()
        .config("tasks: {max_attempts: 1}\n")
        .start();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let admin = daemon.admin();
        let known: Vec<String> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let admin = &admin;
                    scope.spawn(move || {
                        let mut known = Vec::new();
                        for n in 0.. {
                            let id = format!("t-{round}-{client}-{n}");
                            let request = json!({"content": "hi", "task_id": id}).to_string();
                            let headers = [("content-type", "application/json")];
                            match admin.try_request(
                                "POST",
                                "/api/orchestrate",
                                &headers,
                                Some(request.as_bytes()),
                            ) {
                                Ok(answer) if answer.status == 200 => known.push(id),
                                _ => return known,
                            }
                        }
                        known
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(300));
            daemon.kill9();
            clients
                .into_iter()
                .flat_map(|client| client.join().unwrap())
                .collect()
        });
        acknowledged.extend(known);
        daemon.restart();
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let listed = daemon
        .ctl(&[
            "--json",
            "audit",
            "query",
            "--action",
            "task_submitted",
            "--limit",
            "0",
        ])
        .json();
    let mut on_record = BTreeSet::new();
    for entry in listed["entries"].as_array().unwrap() {
        let target = entry["target"].as_str().unwrap().to_owned();
        assert!(on_record.insert(target), "twice: {entry}");
    }
    let missing: Vec<_> = acknowledged.difference(&on_record).collect();
    assert!(missing.is_empty(), "without a record: {missing:?}");
    let tasks = daemon
        .ctl(&["--json", "task", "list", "--limit", "0"])
        .json();
    let tasks: BTreeSet<String> = tasks["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        tasks, on_record,
        "a task without a record, or a record without a task"
    );
    let whole = daemon.ctl(&["audit", "verify"]).ok();
    assert!(
        whole.stdout.contains("the audit trail is whole"),
        "{whole:?}"
    );
}

/// Shown to fail on a build that does not say that it was switched on.
#[test]
fn it_can_be_switched_off_and_that_is_on_record() {
    let daemon = Daemon::builder().start();
    let switch = |to: bool| {
        daemon.write_config(&format!(
            "http: {{listen: \"127.0.0.1:0\"}}\nbots: [{{name: main-bot, type: general, backend: {{kind: echo}}}}]\n\
             feature_flags: {{audit_logging_enabled: {to}}}\n"
        ));
        daemon.ctl(&["reload"]).ok();
    };
    switch(false);
    let entry = newest(&daemon, "config_changed");
    assert_eq!(
        (&entry["target"], &entry["details"]["audit"]),
        (&json!("audit"), &json!("off")),
        "{entry}"
    );
    let id = daemon.submit("unseen");
    assert!(query(&daemon, &format!("?target={id}")).is_empty());
    assert_eq!(daemon.post("/api/audit/log", &json!({})).status, 503);
    switch(true);
    let switched = query(&daemon, "?target=audit");
    assert_eq!(switched[0]["details"]["audit"], "on", "{switched:?}");
    let id = daemon.submit("seen");
    assert_eq!(
        query(&daemon, &format!("?action=task_submitted&target={id}")).len(),
        1
    );
}
