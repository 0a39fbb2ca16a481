//! Many clients that keep the daemon waiting: silent ones, and ones that send their heads and bodies, or read their
//! answers, a byte now and then. Who is honest is served as if they were not there, and they are put out.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Daemon, SetOnDrop, print_spread, size};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

/// Attackers, and how many connections there may be: they alone would take all.
const ATTACKERS: [u64; 2] = [200, 1000];
const PLACES: [u64; 2] = [100, 256];
/// How long they try.
const SECONDS: [u64; 2] = [17, 120];
/// A connection that keeps the daemon waiting is over by then.
const GONE: Duration = Duration::from_secs(15);
/// Between two connections of one attacker's thread.
const BETWEEN: Duration = Duration::from_millis(4);
/// Between two bytes.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Silent,
    Head,
    Body,
    Reader,
}

const KINDS: [Kind; 4] = [Kind::Silent, Kind::Head, Kind::Body, Kind::Reader];

/// One connection of an attacker.
struct Slow {
    kind: Kind,
    stream: TcpStream,
    since: Instant,
}

impl Slow {
    fn open(kind: Kind, port: u16) -> Option<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        if kind == Kind::Reader {
            // Else the kernel takes the answers in its stead.
            setsockopt(&stream, sockopt::RcvBuf, &2048).unwrap();
        }
        stream.set_nonblocking(true).unwrap();
        let begun: &[u8] = match kind {
            Kind::Silent => b"",
            Kind::Head => b"GET /status HTTP/1.1\r\nx: ",
            Kind::Body => b"POST /api/orchestrate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{",
            Kind::Reader => &b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100),
        };
        let sent = stream.write_all(begun);
        sent.ok().map(|()| Self {
            kind,
            stream,
            since: Instant::now(),
        })
    }

    /// One byte more; false when the daemon has closed.
    fn drip(&mut self) -> bool {
        let would_block = |e: &std::io::Error| e.kind() == ErrorKind::WouldBlock;
        let mut byte = [0; 1];
        // What comes back to a reader is his answer; to the others it is what they are told at the end.
        match self.stream.read(&mut byte) {
            Ok(0) => return false,
            Err(e) if !would_block(&e) => return false,
            Ok(_) | Err(_) => {}
        }
        if self.kind == Kind::Silent {
            return true;
        }
        // A reader goes on asking: who is gone refuses that.
        match self.stream.write_all(b"x") {
            Ok(()) => true,
            Err(e) => would_block(&e),
        }
    }
}

/// How long the daemon kept each connection of these attackers; they come again at once.
fn attack(port: u16, count: u64, over: &AtomicBool) -> Vec<(Kind, Duration)> {
    let mut kept = Vec::new();
    let mut slow: Vec<Option<Slow>> = (0..count).map(|_| None).collect();
    while !over.load(Ordering::Relaxed) {
        for (n, one) in slow.iter_mut().enumerate() {
            let Some(open) = one else {
                *one = Slow::open(KINDS[n % KINDS.len()], port);
                // Not all at once: of what the kernel has no room for the daemon never hears, and it is not gone.
                std::thread::sleep(BETWEEN);
                continue;
            };
            if !open.drip() {
                kept.push((open.kind, open.since.elapsed()));
                *one = None;
            }
        }
        std::thread::sleep(TICK);
    }
    // Those that are open have not been longer than any may.
    kept.extend(
        slow.iter()
            .flatten()
            .map(|open| (open.kind, open.since.elapsed())),
    );
    kept
}

/// Asks and submits over new connections and kept ones; what each request took, and those that failed.
fn honest(daemon: &Daemon, over: &AtomicBool) -> (Vec<Duration>, Vec<String>) {
    let (mut took, mut failed) = (Vec::new(), Vec::new());
    let tcp = daemon.tcp();
    let task = json!({"content": "an honest task"}).to_string();
    let mut kept = tcp.connect();
    while !over.load(Ordering::Relaxed) {
        for n in 0..3 {
            let begun = Instant::now();
            let body = (n > 0).then_some(task.as_bytes());
            let (method, path) = match n {
                0 => ("GET", "/status"),
                _ => ("POST", "/api/orchestrate"),
            };
            let status = match n {
                2 => kept
                    .request(method, path, &[], body)
                    .map(|answer| answer.status),
                _ => tcp
                    .try_request(method, path, &[], body)
                    .map(|answer| answer.status),
            };
            took.push(begun.elapsed());
            match status {
                Ok(200) => {}
                // It was put out between two requests, as any idle one may be: a client dials again.
                Err(_) if n == 2 => kept = tcp.connect(),
                other => failed.push(format!("{method} {path}: {other:?}")),
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    (took, failed)
}

/// Shown to fail on a daemon that did not wait for those it had put out, before it took newcomers in (`House::room`): it reset
/// every second honest request, under attackers that came again all at once.
#[test]
fn slow_clients_are_put_out_and_the_others_do_not_notice() {
    let [attackers, places, seconds] =
        [ATTACKERS, PLACES, SECONDS].map(|[few, all]| size(few, all));
    let daemon = Daemon::builder()
        .config(&format!(
            "http: {{listen: \"127.0.0.1:0\", max_connections: {places}}}\n\
             # A host that is busy for a minute is none of this test's.\n\
             feature_flags: {{graceful_degradation_enabled: false}}\n"
        ))
        .start();
    daemon.wait_bots(1);
    let over = AtomicBool::new(false);
    let (kept, honest) = std::thread::scope(|scope| {
        let stop = SetOnDrop(&over);
        let (port, over) = (daemon.port(), &over);
        let attackers: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || attack(port, attackers / 4, over)))
            .collect();
        let daemon = &daemon;
        let honest: Vec<_> = (0..2)
            .map(|_| scope.spawn(move || honest(daemon, over)))
            .collect();
        std::thread::sleep(Duration::from_secs(seconds));
        drop(stop);
        let kept: Vec<_> = attackers
            .into_iter()
            .flat_map(|a| a.join().unwrap())
            .collect();
        let honest: Vec<_> = honest.into_iter().map(|h| h.join().unwrap()).collect();
        (kept, honest)
    });
    let took: Vec<Duration> = honest.iter().flat_map(|(took, _)| took.clone()).collect();
    let failed: Vec<_> = honest.iter().flat_map(|(_, failed)| failed).collect();
    println!(
        "{attackers} slow clients, {places} places, {seconds} s; {} honest requests, {} failed",
        took.len(),
        failed.len()
    );
    print_spread("an honest request", took.clone());
    for kind in KINDS {
        let kept = kept
            .iter()
            .filter(|(k, _)| *k == kind)
            .map(|(_, kept)| *kept);
        print_spread(&format!("connections kept, {kind:?}"), kept.collect());
    }
    assert!(failed.is_empty(), "{failed:?}");
    let longest = kept.iter().max_by_key(|(_, kept)| *kept);
    assert!(longest.is_some_and(|(_, kept)| *kept < GONE), "{longest:?}");
    let mut took = took;
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    // A busy machine is slower than the bar (250 ms); one who waits for an attacker waits for seconds.
    assert!(
        p99 < Duration::from_secs(2),
        "p99 {p99:?} of {}",
        took.len()
    );
    assert_eq!(daemon.get("/health").ok()["status"], "ok");
}
