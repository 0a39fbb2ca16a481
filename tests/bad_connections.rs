//! Connections that are not what they should be: wrong names, foreign pages, half a head, silence,
//! noise. None costs more than its own time-out, none makes the daemon fail.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE, wait_until};
use deia::client::raw::Answer;
use fastrand::Rng;
use serde_json::json;

/// What any client time-out may take on a busy machine; configured ones are well below.
const IN_TIME: Duration = Duration::from_secs(10);

const SUBMIT: &str = "/api/orchestrate";

/// The last thing each of these tests asks for.
#[track_caller]
fn is_well(daemon: &Daemon) {
    let health = daemon.get("/health").ok();
    assert_eq!(health["status"], "ok", "{health}");
    let id = daemon.submit("still there?");
    let task = daemon.wait_task(&id, PATIENCE);
    assert_eq!(task["result"]["output"], "still there?", "{task}");
}

/// The one thing no client may get: a fault of the daemon's.
#[track_caller]
fn is_the_clients_fault(what: &str, status: u16) {
    assert!(
        (400..500).contains(&status) || status == 503,
        "{what}: {status}"
    );
}

/// Sends bytes as they are and shuts down the sending side; what came back, if an answer did.
fn raw(daemon: &Daemon, bytes: &[u8]) -> Option<Answer> {
    let mut connection = daemon.tcp().connect();
    connection.send_raw(bytes).ok()?;
    connection.read_answer(false).ok()
}

/// Shown to fail on a guard that takes every name for its own.
#[test]
fn other_names_and_other_pages_are_kept_out() {
    let daemon = Daemon::builder().start();
    let tcp = daemon.tcp();
    let port = daemon.port();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "localhost:80:80",
        "10.0.0.1",
        "a b",
    ] {
        let answer = tcp.request("GET", "/status", &[("host", host)], None);
        assert!([400, 421].contains(&answer.status), "{host}: {answer:?}");
    }
    let misdirected = tcp.request("GET", "/status", &[("host", "evil.example")], None);
    assert_eq!(misdirected.status, 421, "{misdirected:?}");
    assert!(
        misdirected.text.contains("allowed_hosts"),
        "{misdirected:?}"
    );
    for host in [
        "localhost".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
    ] {
        tcp.request("GET", "/status", &[("host", &host)], None).ok();
    }
    let twice = b"GET /status HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n";
    assert_eq!(raw(&daemon, twice).map(|a| a.status), Some(400));
    assert_eq!(
        raw(&daemon, b"GET /status HTTP/1.1\r\n\r\n").map(|a| a.status),
        Some(400)
    );
    let absolute = b"GET http://evil.example/status HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(raw(&daemon, absolute).map(|a| a.status), Some(421));

    let task = json!({"content": "from a page"}).to_string();
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "file://",
    ] {
        for way_in in [daemon.tcp(), daemon.admin()] {
            let answer =
                way_in.request("POST", SUBMIT, &[("origin", origin)], Some(task.as_bytes()));
            assert_eq!(answer.status, 403, "{origin}: {answer:?}");
        }
    }
    let own = format!("http://localhost:{port}");
    tcp.request("GET", "/status", &[("origin", &own)], None)
        .ok();
    assert_eq!(
        daemon.get("/api/tasks").ok()["count"],
        0,
        "a page has submitted"
    );
    is_well(&daemon);
}

#[test]
fn who_keeps_the_daemon_waiting_is_put_out_in_time() {
    let daemon = Daemon::builder()
        .config("http: {listen: \"127.0.0.1:0\", header_timeout_seconds: 0.5}\n")
        .start();
    let starts: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET /status HTTP/1.1\r\nhost: loc",
        b"POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"content\":",
        b"POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"co",
    ];
    let began = Instant::now();
    let mut streams: Vec<TcpStream> = starts
        .iter()
        .map(|start| {
            let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
            stream.write_all(start).unwrap();
            stream.set_read_timeout(Some(IN_TIME)).unwrap();
            stream
        })
        .collect();
    // One that sends a byte now and then is no better.
    let mut dripping = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
    dripping.set_nodelay(true).unwrap();
    let drip = std::thread::spawn(move || {
        let mut line = b"GET /status HTTP/1.1\r\nx: "
            .iter()
            .chain(std::iter::repeat(&b'x'));
        while began.elapsed() < IN_TIME {
            if dripping.write_all(&[*line.next().unwrap()]).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    });
    for (stream, start) in streams.iter_mut().zip(starts) {
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let start = String::from_utf8_lossy(start);
        assert!(read.is_ok(), "not closed: {start:?}");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4"),
            "{start:?}: {said}"
        );
    }
    assert!(drip.join().unwrap(), "a dripping client was never put out");
    assert_eq!(
        daemon.get("/api/tasks").ok()["count"],
        0,
        "half a task was taken"
    );
    is_well(&daemon);
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let daemon = Daemon::builder()
        .config(
            "http: {listen: \"127.0.0.1:0\", max_connections: 8, header_timeout_seconds: 600}\n",
        )
        .start();
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", daemon.port())).unwrap())
        .collect();
    for _ in 0..5 {
        // Those that came a moment ago are given that moment.
        wait_until(IN_TIME, "a client with a request is served", || {
            let answer = daemon.tcp().get("/status");
            assert!(
                answer.status == 200 || answer.header("retry-after").is_some(),
                "{answer:?}"
            );
            (answer.status == 200).then_some(())
        });
    }
    daemon.get("/status").ok();
    drop(silent);
    is_well(&daemon);
}

#[test]
fn heads_that_are_too_large_or_malformed_are_refused() {
    let daemon = Daemon::builder().start();
    let get = |headers: &str| format!("GET /status HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    let post = |headers: &str| {
        format!("POST {SUBMIT} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{{\"content\":\"x\"}}")
    };
    let cases = [
        ("a header of 1 MB", get(&format!("x: {}\r\n", "y".repeat(1 << 20)))),
        ("a thousand headers", get(&"x: y\r\n".repeat(1000))),
        ("a path of 100 KB", format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(100_000))),
        ("a negative length", post("content-length: -1\r\n")),
        ("a length that is no number", post("content-length: 0x10\r\n")),
        ("two lengths", post("content-length: 15\r\ncontent-length: 1\r\n")),
        ("an unknown coding", post("transfer-encoding: wonderful\r\n")),
        ("a bad chunk", "POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned()),
        ("a NUL in a header", get("x: a\0b\r\n")),
        ("a folded header", get("x: a\r\n b: c\r\n")),
        ("no version", "GET /status\r\n\r\n".to_owned()),
        ("another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}".to_owned()),
        ("a tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()),
    ];
    for (what, request) in cases {
        // No answer but a closed connection is an answer too, as long as it comes.
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        stream.set_read_timeout(Some(IN_TIME)).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        let reset = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(
            read.is_ok() || read.as_ref().is_err_and(reset),
            "{what}: {read:?}"
        );
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4"),
            "{what}: {said}"
        );
    }
    // Framed in two ways: whoever stands in front may have read it the other way.
    let smuggled = post("content-length: 4\r\ntransfer-encoding: chunked\r\n");
    if let Some(answer) = raw(&daemon, smuggled.as_bytes()) {
        is_the_clients_fault("two framings", answer.status);
    }
    is_well(&daemon);
}

/// Each may be 64 times as large as another body, and is held whole. Shown to fail where there is no bound to how many.
#[test]
fn large_batches_take_their_turn_and_hold_up_no_small_one() {
    let daemon = Daemon::builder().start();
    let head = "POST /api/orchestrate/batch HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = format!("{head}12\r\n[{{\"content\":\"x\"}}]\n\r\n0\r\n\r\n");
    let ask = || raw(&daemon, whole.as_bytes()).expect("an answer");
    let mut held = Vec::new();
    let full = wait_until(PATIENCE, "every place is taken", || {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        let half = format!("{head}1\r\n[\r\n");
        stream.write_all(half.as_bytes()).unwrap();
        held.push(stream);
        assert!(held.len() < 100, "there is no bound");
        let answer = ask();
        (answer.status == 503).then_some(answer)
    });
    let said = String::from_utf8_lossy(&full.body);
    assert!(said.contains("too_many_batches"), "{said}");
    let small = daemon
        .post("/api/orchestrate/batch", &json!([{"content": "small"}]))
        .ok();
    assert_eq!(small["accepted"], 1, "{small}");
    drop(held);
    wait_until(PATIENCE, "there is a place again", || {
        (ask().status == 200).then_some(())
    });
    is_well(&daemon);
}

/// Valid requests with bytes changed, dropped, doubled and cut, by the hundred.
#[test]
fn no_bytes_make_the_daemon_fail() {
    let daemon = Daemon::builder()
        .config("http: {listen: \"127.0.0.1:0\", header_timeout_seconds: 0.3}\n")
        .start();
    let body = r#"{"content":"x","priority":"P1","metadata":{"a":[1,2.5e3,null,"\u0041"]},"not_before":"2026-01-01T00:00:00Z"}"#;
    let post = format!(
        "POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let seeds: [&[u8]; 4] = [
        post.as_bytes(),
        b"POST /api/orchestrate/batch HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n12\r\n[{\"content\":\"x\"}]\n\r\n0\r\n\r\n",
        b"GET /api/tasks?limit=5&status=queued&cursor=9 HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n",
        b"GET /api/tasks/some%20id/output HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ];
    let seed = std::env::var("DEIA_FUZZ_SEED").map_or(42, |seed| seed.parse().expect("a number"));
    println!("DEIA_FUZZ_SEED={seed} repeats it");
    let mut rng = Rng::with_seed(seed);
    for round in 0..600 {
        let mut bytes = seeds[rng.usize(0..seeds.len())].to_vec();
        for _ in 0..rng.u32(1..=4) {
            mutate(&mut bytes, &mut rng);
        }
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        stream.set_read_timeout(Some(IN_TIME)).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let shown = String::from_utf8_lossy(&bytes);
        let fault = said.starts_with("HTTP/1.1 5") && !said.starts_with("HTTP/1.1 503");
        assert!(!fault, "round {round}: {shown:?}: {said}");
    }
    is_well(&daemon);
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(0..bytes.len());
    match rng.u8(0..5) {
        0 => bytes[at] = rng.u8(..),
        1 => drop(bytes.remove(at)),
        2 => bytes.truncate(at),
        3 => bytes.insert(
            at,
            *rng.choice(b"\0\r\n:/\"{}[],%\xff \t").expect("not empty"),
        ),
        _ => {
            let end = (at + rng.usize(0..40)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
    }
}
