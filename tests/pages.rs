//! The pages for people, in a real browser where there is one: they show what is, and nothing that they show does
//! anything.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::process::{Command, Stdio};

use common::{Daemon, PATIENCE, skipped};
use serde_json::json;

/// Shown to fail on a policy that allows styles within a page.
#[test]
fn pages_may_run_their_own_scripts_and_nothing_else() {
    let daemon = Daemon::builder().start();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/assets/dashboard.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
    ] {
        let page = daemon.tcp().get(path);
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(daemon.tcp().get("/assets/..%2fstyle.css").status, 404);
}

/// Shown to fail on a guard that lets in who sends no token.
#[test]
fn with_tokens_the_pages_open_and_what_they_ask_for_does_not() {
    let daemon = Daemon::builder()
        .config("http: {listen: \"127.0.0.1:0\", auth: tokens}")
        .start();
    for (path, status) in [
        ("/", 200),
        ("/docs", 200),
        ("/assets/common.js", 200),
        ("/metrics", 401),
        ("/events", 401),
        ("/openapi.json", 401),
        ("/assetsx", 401),
    ] {
        assert_eq!(daemon.tcp().get(path).status, status, "{path}");
    }
}

/// What a browser makes of a page, some seconds after it was opened; `None` where there is no browser.
fn rendered(daemon: &Daemon, path: &str) -> Option<String> {
    let program = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            let found = Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            found.is_ok_and(|status| status.success())
        })?;
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60", program])
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=6000", "--dump-dom"])
        .arg(format!("http://127.0.0.1:{}{path}", daemon.port()))
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("</html>"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(text)
}

/// As a bot's answer, and as a bot's name that a client made up. Shown to fail on pages that take texts for markup.
#[test]
fn the_dashboard_shows_what_is_and_markup_stays_text() {
    const HOSTILE: &str =
        "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";
    let daemon = Daemon::builder()
        .config("feature_flags: {request_validation_enabled: false}")
        .start();
    daemon.wait_bots(1);
    daemon.submit_with(&json!({"content": HOSTILE, "task_id": "hostile", "type": "writing"}));
    let task = daemon.wait_task("hostile", PATIENCE);
    assert_eq!(task["result"]["output"], HOSTILE, "the bot says it again");
    let report = json!({"task_id": "x", "bot_id": HOSTILE, "task_type": "<b>type</b>", "error_message": HOSTILE});
    for _ in 0..3 {
        daemon.post("/api/monitoring/failures/record", &report).ok();
    }
    let Some(page) = rendered(&daemon, "/#hostile") else {
        skipped(
            "the_dashboard_shows_what_is_and_markup_stays_text",
            "there is no chromium",
        );
        return;
    };
    assert!(page.contains("<title>deia: ok</title>"), "{page}");
    // Alive: the bot, the task, the charts, the stream.
    for shown in [
        "main-bot",
        "hostile",
        "succeeded",
        "<polyline",
        "<rect",
        ">live<",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    // As a bot's answer, and as a bot's name: there, and text.
    assert!(
        page.matches("&lt;img src=x onerror=").count() >= 2,
        "{page}"
    );
    for markup in ["<img", "<b>type", "<script>"] {
        assert!(!page.contains(markup), "{markup} in {page}");
    }
}

#[test]
fn the_document_is_a_page_without_the_internet() {
    let daemon = Daemon::builder().start();
    let Some(page) = rendered(&daemon, "/docs") else {
        skipped(
            "the_document_is_a_page_without_the_internet",
            "there is no chromium",
        );
        return;
    };
    for shown in ["/api/orchestrate", "/v1/chat/completions", "POST", "admin"] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    let document = daemon.tcp().get("/openapi.json").ok();
    let operations: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| item.as_object().unwrap().len())
        .sum();
    assert_eq!(
        page.matches("class=\"operation\"").count(),
        operations,
        "{page}"
    );
}
