//! API tokens and how often they may be used, over a real port: made, in force at once, ended at once, also on a
//! connection that stays open; and the same after a `kill -9`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, Response, wait_until};
use serde_json::{Value, json};

const TOKENS: &str = "http: {listen: \"127.0.0.1:0\", auth: tokens}\n";

/// A token by `deiactl`, and what `deiactl` said of it.
fn create(daemon: &Daemon, arguments: &[&str]) -> Value {
    let words = [&["--json", "token", "create"], arguments].concat();
    daemon.ctl(&words).ok().json()
}

fn text(token: &Value) -> &str {
    token["token"].as_str().unwrap()
}

fn with(daemon: &Daemon, method: &str, path: &str, credential: &str) -> Response {
    let headers = [("authorization", credential)];
    let body = (method == "POST").then_some(&b"{}"[..]);
    daemon.tcp().request(method, path, &headers, body)
}

fn bearer(token: &Value) -> String {
    format!("Bearer {}", text(token))
}

/// Shown to fail on a guard that takes every token for one of all scopes.
#[test]
fn a_token_may_what_its_scopes_say_and_is_kept_as_a_hash() {
    let mut daemon = Daemon::builder().config(TOKENS).start();
    let reader = create(&daemon, &["--scope", "read", "--name", "who looks"]);
    let admin = create(
        &daemon,
        &["--scope", "admin", "--scope", "read", "--expires", "30d"],
    );
    assert!(text(&reader).starts_with("deia_") && text(&reader).len() >= 5 + 43);
    assert_eq!(daemon.tcp().get("/status").status, 401);
    assert_eq!(daemon.tcp().get("/health").status, 200);
    assert_eq!(
        with(&daemon, "GET", "/status", &bearer(&reader)).status,
        200
    );
    assert_eq!(
        with(&daemon, "GET", "/api/tokens", &bearer(&reader)).status,
        403
    );
    assert_eq!(
        with(&daemon, "POST", "/api/orchestrate", &bearer(&reader)).status,
        403
    );
    assert_eq!(
        with(&daemon, "POST", "/api/orchestrate", &bearer(&admin)).status,
        403
    );
    let listed = with(&daemon, "GET", "/api/tokens", &bearer(&admin)).ok();
    assert_eq!(listed["count"], 2, "{listed}");
    assert_eq!(listed["tokens"][0]["name"], "who looks", "{listed}");
    assert_eq!(listed["tokens"][0]["scopes"], json!(["read"]), "{listed}");
    assert!(listed["tokens"][0]["last_used_at"].is_string(), "{listed}");
    assert!(listed["tokens"][1]["expires_at"].is_string(), "{listed}");
    let log = wait_until(PATIENCE, "it is logged", || {
        let log = daemon
            .read(".deia/bot-logs/supervisor.jsonl")
            .to_lowercase();
        (log.matches("credential_created").count() == 2).then_some(log)
    });
    for word in ["password", "token", "key"] {
        assert!(!log.contains(word), "{word}: {log}");
    }

    // By a killed daemon, too.
    daemon.kill9();
    daemon.launch();
    daemon.await_launched();
    assert_eq!(
        with(&daemon, "GET", "/status", &bearer(&reader)).status,
        200
    );

    let secrets = |text: &str| {
        for token in [&reader, &admin] {
            let secret = &self::text(token)["deia_".len()..];
            assert!(!text.contains(secret), "{text}");
        }
    };
    secrets(&daemon.read(".deia/secrets/tokens.json"));
    secrets(&daemon.read(".deia/bot-logs/supervisor.jsonl"));
    secrets(&daemon.ctl(&["token", "list"]).ok().stdout);
}

/// Tokens are in no store: what a restore brings back does not bring back who may use it.
#[test]
fn a_token_that_was_revoked_after_a_backup_stays_so_over_its_restore() {
    let daemon = Daemon::builder().config(TOKENS).start();
    let revoked = create(&daemon, &["--scope", "read"]);
    let kept = create(&daemon, &["--scope", "read"]);
    let made = daemon.ctl(&["--json", "backup", "create"]).ok().json();
    let may = |token: &Value| with(&daemon, "GET", "/status", &bearer(token)).status;
    assert_eq!((may(&revoked), may(&kept)), (200, 200));
    daemon
        .ctl(&["token", "revoke", revoked["id"].as_str().unwrap()])
        .ok();
    let later = create(&daemon, &["--scope", "read"]);
    daemon
        .ctl(&["restore", "--yes", made["backup_id"].as_str().unwrap()])
        .ok();
    assert_eq!((may(&revoked), may(&kept), may(&later)), (401, 200, 200));
}

/// Shown to fail on a build in which no token expires.
#[test]
fn what_is_revoked_or_expired_is_refused_at_once_on_an_open_connection() {
    let daemon = Daemon::builder().config(TOKENS).start();
    let revoked = create(&daemon, &["--scope", "read"]);
    let short = create(&daemon, &["--scope", "read", "--expires", "2s"]);
    let ask = |connection: &mut deia::client::raw::Connection, token: &Value| {
        let bearer = bearer(token);
        let headers = [("authorization", &*bearer)];
        let answer = connection.request("GET", "/status", &headers, None);
        answer.expect("the connection stays open").status
    };
    let mut connection = daemon.tcp().connect();
    assert_eq!(ask(&mut connection, &revoked), 200);
    assert_eq!(ask(&mut connection, &short), 200);
    let id = revoked["id"].as_str().unwrap();
    daemon.ctl(&["token", "revoke", id]).ok();
    assert_eq!(ask(&mut connection, &revoked), 401);
    wait_until(PATIENCE, "it expires", || {
        (ask(&mut connection, &short) == 401).then_some(())
    });
    let listed = daemon.get("/api/tokens").ok();
    assert_eq!(
        (&listed["count"], &listed["tokens"][0]["expired"]),
        (&json!(1), &json!(true))
    );
    let again = daemon.ctl(&["token", "revoke", id]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("not found"), "{again:?}");
    // One made while the daemon runs is in force on it, too.
    let fresh = create(&daemon, &["--scope", "read"]);
    assert_eq!(ask(&mut connection, &fresh), 200);
}

#[test]
fn wrong_words_are_named() {
    let daemon = Daemon::builder().start();
    for body in [
        json!({}),
        json!({"scopes": []}),
        json!({"scopes": "read"}),
        json!({"scopes": ["root"]}),
        json!({"scopes": ["read", null]}),
        json!({"scopes": vec!["read"; 9]}),
        json!({"scopes": ["read"], "name": "x".repeat(129)}),
        json!({"scopes": ["read"], "name": "a\nb"}),
        json!({"scopes": ["read"], "expires_in_seconds": 0}),
        json!({"scopes": ["read"], "expires_in_seconds": -1}),
        json!({"scopes": ["read"], "expires_in_seconds": 1e10 as u64}),
        json!({"scopes": ["read"], "expires_in_seconds": "30d"}),
    ] {
        let answer = daemon.post("/api/tokens", &body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
    }
    assert_eq!(daemon.get("/api/tokens").ok()["count"], 0);
    for words in [
        &["create"][..],
        &["create", "--scope", "root"],
        &["create", "--scope", "read", "--expires", "soon"],
    ] {
        let said = daemon.ctl(&[&["token"], words].concat());
        assert_eq!(said.code, 2, "{said:?}");
    }
}

/// Without `auth: tokens` a token raises its bearer to its scopes, and no further; and a wrong one is no help.
///
/// Shown to fail on the same guard.
#[test]
fn a_token_counts_without_being_demanded() {
    let daemon = Daemon::builder().start();
    let admin = create(&daemon, &["--scope", "admin"]);
    assert_eq!(daemon.tcp().get("/api/tokens").status, 403);
    assert_eq!(
        with(&daemon, "GET", "/api/tokens", &bearer(&admin)).status,
        200
    );
    assert_eq!(with(&daemon, "GET", "/status", &bearer(&admin)).status, 403);
    assert_eq!(
        with(&daemon, "GET", "/status", "Bearer deia_wrong").status,
        401
    );
    assert_eq!(
        with(&daemon, "GET", "/status", "Bearer sk-unused").status,
        200
    );
}

/// Shown to fail on a build that begins a list anew where it can not be read.
#[test]
fn a_list_that_cannot_be_read_lets_nobody_in_and_is_left_alone() {
    let mut daemon = Daemon::builder().config(TOKENS).start();
    let token = create(&daemon, &["--scope", "read"]);
    assert!(daemon.terminate().success());
    let path = daemon.home().join(".deia/secrets/tokens.json");
    let torn = &std::fs::read(&path).unwrap()[..40];
    std::fs::write(&path, torn).unwrap();
    daemon.launch();
    daemon.await_launched();
    assert_eq!(with(&daemon, "GET", "/status", &bearer(&token)).status, 401);
    let said = daemon.ctl(&["token", "create", "--scope", "read"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("move it away"), "{said:?}");
    assert_eq!(std::fs::read(&path).unwrap(), torn);
}

/// Shown to fail on a limit that is one more than it says.
#[test]
fn one_request_too_many_is_told_when_to_come_back_and_that_is_true() {
    let limited = "rate_limits: {requests_per_minute: 20, failed_auth_per_minute: 3}\n";
    let daemon = Daemon::builder()
        .config(&format!("{TOKENS}{limited}"))
        .start();
    let [one, other] = [(); 2].map(|()| create(&daemon, &["--scope", "read", "--scope", "submit"]));
    let begun = Instant::now();
    for n in 0..20 {
        assert_eq!(
            with(&daemon, "GET", "/status", &bearer(&one)).status,
            200,
            "{n}"
        );
    }
    let refused = with(&daemon, "GET", "/status", &bearer(&one));
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.body["code"], "rate_limited", "{refused:?}");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    let left = Duration::from_secs(60).saturating_sub(begun.elapsed());
    assert!(
        (left.as_secs()..=60).contains(&after),
        "{after} of {left:?}"
    );
    // Before its body: of this one nothing comes.
    let head = format!(
        "POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\ncontent-length: 1000\r\n\r\n",
        bearer(&one)
    );
    let mut connection = daemon.tcp().connect();
    connection.send_raw(head.as_bytes()).unwrap();
    assert_eq!(connection.read_answer(false).unwrap().status, 429);
    // Others, the admin socket, and what watches the daemon.
    assert_eq!(with(&daemon, "GET", "/status", &bearer(&other)).status, 200);
    for _ in 0..40 {
        assert_eq!(daemon.get("/status").status, 200);
        assert_eq!(daemon.tcp().get("/health").status, 200);
    }
    // Guesses are counted apart, and then not even a right one is looked at.
    for _ in 0..3 {
        assert_eq!(
            with(&daemon, "GET", "/status", "Bearer deia_guess").status,
            401
        );
    }
    let locked = with(&daemon, "GET", "/status", &bearer(&other));
    assert_eq!(
        (locked.status, &locked.body["code"]),
        (429, &json!("too_many_refusals"))
    );
    assert!(locked.header("retry-after").is_some());
    // A reload applies to what was asked before it.
    let config = daemon.read("bot-config.yaml").replace(
        "requests_per_minute: 20, failed_auth_per_minute: 3",
        "requests_per_minute: 25, failed_auth_per_minute: 0",
    );
    daemon.write_config(&config);
    daemon.ctl(&["reload"]).ok();
    let allowed = (0..10).filter(|_| with(&daemon, "GET", "/status", &bearer(&one)).status == 200);
    assert_eq!(allowed.count(), 5);
}

/// The default, at full size: the 1,001st request of an address.
/// Shown to fail on the same limit.
#[test]
fn the_thousand_and_first_request_of_a_minute_is_refused() {
    let daemon = Daemon::builder()
        .config("rate_limits: {failed_auth_per_minute: 10}\n")
        .start();
    let mut connection = daemon.tcp().connect();
    let mut ask = || {
        let answer = connection.request("GET", "/api/scaling/status", &[], None);
        answer.unwrap().status
    };
    for n in 1..=1000 {
        assert_eq!(ask(), 200, "request {n}");
    }
    assert_eq!(ask(), 429);
    assert_eq!(daemon.tcp().get("/status").status, 429, "on any connection");
}
