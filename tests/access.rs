//! Who may do what: impostors on the bots' socket, strangers over TCP, bots that would be admin.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::{Daemon, PATIENCE, wait_until};
use deia::task::Fence;
use deia::wire::{Hello, Launch, Outcome, Secret, ToSupervisor, Usage, encode};
use serde_json::{Value, json};

/// One bot that runs its task as a shell script.
const SHELL: &str = "bots: [{name: sh, type: general, min: 1, max: 1, \
    backend: {kind: command, argv: [sh, -c], input: argv}}]\n\
    bot_limits: {min_bots: 1, max_bots: 1}\n\
    feature_flags: {request_validation_enabled: false}\n";

fn hello(bot: &str, pid: u32) -> ToSupervisor {
    ToSupervisor::Hello(Box::new(Hello {
        bot_id: bot.to_owned(),
        launch: Launch(1),
        secret: Secret([7; 32]),
        pid,
        version: deia::VERSION.to_owned(),
        back: None,
    }))
}

/// What the bots' socket answers to these bytes before it closes; nothing, if it keeps its secrets.
fn dial(daemon: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(daemon.home().join(".deia/run/bots/bots.sock")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .unwrap();
    // It may have been refused by now.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("closed in time");
    said
}

#[test]
fn nobody_passes_for_a_bot() {
    let daemon = Daemon::builder().start();
    let bots = daemon.wait_bots(1);
    let real = u32::try_from(bots[0]["pid"].as_u64().unwrap()).unwrap();
    let frame = |frame: &ToSupervisor| {
        let mut bytes = Vec::new();
        encode(frame, &mut bytes).unwrap();
        bytes
    };
    let id = daemon.submit("mine");
    daemon.wait_task(&id, PATIENCE);
    let finished = ToSupervisor::Finished {
        task: id.parse().unwrap(),
        fence: Fence {
            epoch: 1,
            attempt: 1,
        },
        outcome: Outcome::Succeeded {
            usage: Usage::default(),
            backend: "echo".into(),
            model: None,
            truncated: false,
        },
    };
    let ready = ToSupervisor::Ready {
        sandbox: "none".into(),
        pulse_fd: 0,
    };
    let own = std::process::id();
    let attempts = [
        ("a wrong secret", frame(&hello("main-bot", own))),
        ("the bot's own pid", frame(&hello("main-bot", real))),
        ("a bot that is not there", frame(&hello("nobody", own))),
        ("a name that is none", frame(&hello("../\0\n", own))),
        (
            "a name without end",
            frame(&hello(&"x".repeat(1 << 20), own)),
        ),
        ("no hello", frame(&ready)),
        ("a result", frame(&finished)),
        (
            "a hello and a result",
            [frame(&hello("main-bot", own)), frame(&finished)].concat(),
        ),
        ("noise", vec![0xff; 4096]),
        ("a frame of 4 GiB", vec![0xff, 0xff, 0xff, 0xff, 1]),
        ("a frame of nothing", vec![0, 0, 0, 0]),
        ("half a frame", frame(&hello("main-bot", own))[..7].to_vec()),
        ("silence", Vec::new()),
    ];
    std::thread::scope(|scope| {
        for (what, bytes) in &attempts {
            let daemon = &daemon;
            scope.spawn(move || {
                let said = dial(daemon, bytes);
                assert!(said.is_empty(), "{what} was answered: {said:?}");
            });
        }
    });
    let now = daemon.bots();
    assert_eq!(
        (&now[0]["pid"], &now[0]["restarts"]),
        (&json!(real), &json!(0)),
        "the real bot suffered: {now:?}"
    );
    let id = daemon.submit("still mine");
    assert_eq!(
        daemon.wait_task(&id, PATIENCE)["result"]["output"],
        "still mine"
    );
}

#[test]
fn the_sockets_and_the_store_are_nobody_elses() {
    let daemon = Daemon::builder().start();
    let mode = |path: &str| {
        let path = daemon.home().join(path);
        let data =
            fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(
            data.uid(),
            nix::unistd::getuid().as_raw(),
            "{}",
            path.display()
        );
        data.permissions().mode() & 0o777
    };
    for (path, wanted) in [
        (".deia", 0o750),
        (".deia/run", 0o750),
        (".deia/run/admin.sock", 0o660),
        (".deia/run/bots", 0o700),
        (".deia/run/bots/bots.sock", 0o600),
        (".deia/secrets", 0o700),
        (".deia/state/deia.db", 0o600),
    ] {
        assert_eq!(mode(path), wanted, "{path}: {:o}", mode(path));
    }
}

#[test]
fn over_tcp_nobody_is_admin_and_is_told_who_is() {
    let daemon = Daemon::builder().start();
    daemon.wait_bots(1);
    let routes = [
        ("/api/scaling/limits", json!({"max_bots": 0})),
        ("/api/config/reload", json!({})),
        ("/api/config/check-reload", json!({})),
        ("/api/bots/main-bot/stop", json!({})),
        ("/api/bots/main-bot/start", json!({})),
        ("/api/bots/main-bot/restart", json!({})),
        ("/api/bots/main-bot/interrupt", json!({})),
        ("/interrupt", json!({})),
        ("/terminate", json!({})),
    ];
    for (path, body) in routes {
        let answer = daemon.tcp().post(path, &body);
        assert!([403, 501].contains(&answer.status), "{path}: {answer:?}");
        if answer.status == 403 {
            assert!(answer.text.contains("admin.sock"), "{path}: {answer:?}");
        }
    }
    // A word that would have been believed by a proxy's backend.
    let headers = [
        ("x-forwarded-for", "127.0.0.1"),
        ("authorization", "Bearer deia_admin"),
        ("x-deia-scope", "admin"),
    ];
    let answer = daemon.tcp().request(
        "POST",
        "/api/scaling/limits",
        &headers,
        Some(b"{\"max_bots\":0}"),
    );
    // Who names a token is taken at his word: it is not known.
    assert_eq!(answer.status, 401, "{answer:?}");
    let scaling = daemon.tcp().get("/api/scaling/status").ok();
    assert_eq!(
        (&scaling["override"], &scaling["draining"]),
        (&json!(false), &json!(false)),
        "{scaling}"
    );
    assert_eq!(daemon.bots()[0]["restarts"], 0);
}

/// A bot has the daemon's uid: only what it is keeps it out.
#[test]
fn a_bots_own_command_is_not_admin_however_it_tries() {
    let deiactl = env!("CARGO_BIN_EXE_deiactl");
    let paths = format!("paths: {{read: [{deiactl:?}]}}, backend:");
    let config = SHELL.replace("backend:", &paths);
    let daemon = Daemon::builder().config(&config).start();
    let home = daemon.home().display().to_string();
    let curl = format!(
        "curl -s -m 10 --unix-socket {home}/.deia/run/admin.sock -d '{{\"max_bots\":0}}' http://localhost/api/scaling/limits"
    );
    let scale = format!("{deiactl} --home {home} scale --max 0 2>&1");
    let out = "$HOME/out";
    let tries = [
        ("deiactl", scale.clone()),
        ("a session of its own", format!("setsid -w {scale}")),
        ("no environment", format!("env -i PATH=$PATH {scale}")),
        // Its parent ends first: it is nobody's child by the time it connects.
        (
            "an orphan",
            format!(
                "(setsid sh -c 'sleep 0.3; env -i PATH=$PATH {scale} > {out}; echo code $? >> {out}' &); sleep 2; cat {out}"
            ),
        ),
    ];
    let has_curl = Path::new("/usr/bin/curl").exists();
    let tries = tries.into_iter().chain(has_curl.then_some(("curl", curl)));
    for (what, script) in tries {
        let script = format!("{script}; echo code $?");
        let request = json!({"content": script, "wait_seconds": 30});
        let task = daemon.post("/api/orchestrate", &request).ok();
        assert_eq!(task["status"], "succeeded", "{what}: {task}");
        let said = task["result"]["output"].as_str().unwrap();
        assert!(
            said.contains("belongs to a bot") || said.contains("not_admin"),
            "{what}: {said}"
        );
        let scaling = daemon.get("/api/scaling/status").ok();
        assert_eq!(scaling["max_bots"], 1, "{what}: {said}");
    }
    // Who it is meant for gets in all the same.
    daemon.ctl(&["scale", "--max", "1"]).ok();
}

/// What a command is given, and what it is not.
#[test]
fn a_command_sees_its_own_variables_only() {
    let daemon = Daemon::builder()
        .config("bots: [{name: sh, type: general, backend: {kind: command, argv: [sh, -c], input: argv, env: [ALLOWED]}}]\n")
        .env("ALLOWED", "yes")
        .env("ANTHROPIC_API_KEY", "sk-of-somebody-else")
        .start();
    let shown = |script: &str| -> String {
        let id = daemon.submit(script);
        let task: Value = daemon.wait_task(&id, PATIENCE);
        task["result"]["output"]
            .as_str()
            .unwrap_or_else(|| panic!("{task}"))
            .to_owned()
    };
    let environment = shown("env; tr '\\0' '\\n' < /proc/$PPID/environ; ls -l /proc/self/fd");
    assert!(environment.contains("ALLOWED=yes"), "{environment}");
    assert!(
        !environment.contains("sk-of-somebody-else"),
        "{environment}"
    );
    let pwd = shown("pwd");
    assert!(
        pwd.starts_with(daemon.home().join(".deia/work").to_str().unwrap()),
        "{pwd}"
    );
    wait_until(PATIENCE, "no bot was restarted", || {
        (daemon.bots()[0]["restarts"] == 0).then_some(())
    });
}
