//! The corpora, and variations of them, with every run. Coverage guides the fuzzers in `fuzz/`; here a seed does.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};

use super::*;

/// No input may keep a reader busy for longer, also without optimisation.
const HANG: Duration = Duration::from_secs(1);

/// Variations of a target's corpus; with `DEIA_SOAK` so many times more.
const VARIATIONS: u64 = 1_500;
const SOAK: u64 = 100;

/// Longest variation.
const MAX_BYTES: usize = 8_192;

/// Pieces that mean something to one reader or another.
const WORDS: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ":",
    ",",
    "-",
    "\n",
    "---\n",
    "# ",
    "**To:** ",
    "&a ",
    "*a",
    "!!",
    "? ",
    "<<: ",
    "|",
    ">",
    "null",
    "true",
    "1e999",
    "-0",
    "NaN",
    "18446744073709551616",
    "\u{0}",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "é日🎉",
    "content",
    "bots",
    "task_id",
    "priority: P0",
    "%00",
    "%zz",
    "&",
    "=",
    "../",
];

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
}

/// What this thread has had of the processor: others may have it busy.
fn busy() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Runs one input; says which it was when the reader panics or takes too long.
fn try_one(target: Target, name: &str, bytes: &[u8]) {
    let begun = busy();
    let ended = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    let took = busy().saturating_sub(begun);
    let shown = || bytes.escape_ascii().to_string();
    assert!(ended.is_ok(), "{name}: a panic on b\"{}\"", shown());
    assert!(took < HANG, "{name}: {took:?} on b\"{}\"", shown());
}

#[test]
fn every_corpus_is_read_without_a_panic_or_a_hang() {
    for (name, target) in TARGETS {
        for (file, bytes) in corpus(name) {
            try_one(target, &format!("{name}/{file}"), &bytes);
            // And cut short anywhere.
            let step = (bytes.len() / 64).max(1);
            for end in (0..bytes.len()).step_by(step) {
                try_one(
                    target,
                    &format!("{name}/{file} cut at {end}"),
                    &bytes[..end],
                );
            }
        }
    }
}

#[test]
fn variations_of_every_corpus_are_read_without_a_panic_or_a_hang() {
    let soak = std::env::var_os("DEIA_SOAK").is_some();
    let seed = std::env::var("DEIA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            scope.spawn(move || {
                let corpus: Vec<Vec<u8>> =
                    corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
                let mut rng = Rng::with_seed(seed);
                let count = if soak { VARIATIONS * SOAK } else { VARIATIONS };
                for n in 0..count {
                    let bytes = vary(&corpus, &mut rng);
                    try_one(
                        target,
                        &format!("{name}, seed {seed}, variation {n}"),
                        &bytes,
                    );
                }
            });
        }
    });
}

/// One of the corpus, with a few things done to it.
fn vary(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(corpus).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..=6) {
        let at = rng.usize(..=bytes.len());
        let to = (at + rng.usize(..32)).min(bytes.len());
        match rng.u8(..8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.u8(..);
                }
            }
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..to)),
            4 => {
                let piece = bytes[at..to].repeat(rng.usize(1..64));
                bytes.splice(at..at, piece);
            }
            5 => {
                let word = rng.choice(WORDS).unwrap_or_default();
                bytes.splice(at..to, word.bytes());
            }
            6 => {
                let word = rng.choice(WORDS).unwrap_or_default();
                bytes.splice(at..at, word.repeat(rng.usize(1..200)).into_bytes());
            }
            _ => {
                // The rest of another one.
                let other = rng.choice(corpus).cloned().unwrap_or_default();
                let from = rng.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

/// The frames of the corpus are those of today's protocol: `UPDATE_EXPECT=1` writes them anew.
#[test]
fn the_corpus_has_every_frame() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/wire");
    for (name, which, bytes) in frames() {
        let mut input = vec![which];
        // The length is not part of what is decoded.
        input.extend_from_slice(&bytes[4..]);
        let path = folder.join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &input).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert_eq!(kept, input, "{name}: UPDATE_EXPECT=1 writes it anew");
    }
}

fn frames() -> Vec<(&'static str, u8, Vec<u8>)> {
    use deia::config::{BackendSpec, EchoSpec, Limits, ModelServer, Paths, Workdir};
    use deia::task::Fence;
    use deia::wire::{
        Assignment, Back, CancelOf, FailureKind, Held, Hello, Kept, Launch, Outcome, Places,
        Secret, Usage, Welcome,
    };
    let fence = Fence {
        epoch: 1,
        attempt: 2,
    };
    let task = || "t-1".parse::<deia::task::TaskId>().unwrap();
    let hello = |back| Hello {
        bot_id: "coder-2".into(),
        launch: Launch(7),
        secret: Secret([7; 32]),
        pid: 42,
        version: "0.1.0".into(),
        back,
    };
    let held = Held {
        task: task(),
        fence,
        running_ms: 3,
        cancelled: Some(CancelOf::Attempt),
    };
    let back = Back {
        sandbox: "rlimits".into(),
        pulse_fd: 9,
        terms: [1; 32],
        max_concurrent_tasks: 2,
        heartbeat_ms: 5_000,
        stop_timeout_ms: 10_000,
        held: vec![held],
    };
    let places = Places {
        own: "/h/bots/coder".into(),
        spool: "/h/spool".into(),
        daemon_home: "/h".into(),
        closed: vec!["/h/secrets".into()],
        fleet_processes: 256,
    };
    let welcome = Welcome {
        pool: "coder".into(),
        backend: BackendSpec::Ollama(ModelServer::ollama()),
        fallback: vec![BackendSpec::Echo(EchoSpec::default())],
        workdir: Workdir::Fresh,
        paths: Paths::default(),
        env_files: [("K".to_owned(), "/etc/deia/k".into())].into(),
        limits: Limits::default(),
        heartbeat_ms: 5_000,
        stop_timeout_ms: 10_000,
        work_root: "/h/work".into(),
        max_concurrent_tasks: 1,
        places,
        orphan_grace_ms: 30_000,
        terms: [2; 32],
    };
    let succeeded = Outcome::Succeeded {
        usage: Usage {
            prompt_tokens: 1,
            completion_tokens: u64::MAX,
        },
        backend: "echo".into(),
        model: Some("m".into()),
        truncated: true,
    };
    let failed = Outcome::Failed {
        error: "é".into(),
        kind: FailureKind::Unavailable,
    };
    let finished = |outcome| ToSupervisor::Finished {
        task: task(),
        fence,
        outcome,
    };
    let assignment = Assignment {
        task: task(),
        fence,
        content: "do it".into(),
        timeout_ms: 1_000,
    };
    let kept = vec![Kept {
        task: task(),
        fence,
        bytes: 17,
    }];
    let bootstrap = Bootstrap {
        socket: "/h/bots.sock".into(),
        bot_id: "coder".into(),
        launch: Launch(1),
        secret: Secret([0; 32]),
    };
    vec![
        (
            "hello",
            0,
            encoded(&ToSupervisor::Hello(Box::new(hello(None)))),
        ),
        (
            "hello_back",
            0,
            encoded(&ToSupervisor::Hello(Box::new(hello(Some(Box::new(back)))))),
        ),
        (
            "ready",
            0,
            encoded(&ToSupervisor::Ready {
                sandbox: "none".into(),
                pulse_fd: 3,
            }),
        ),
        (
            "started",
            0,
            encoded(&ToSupervisor::Started {
                task: task(),
                fence,
                at: Some(1_764_535_354_000_000),
            }),
        ),
        (
            "output",
            0,
            encoded(&ToSupervisor::Output {
                task: task(),
                fence,
                text: "piece".into(),
            }),
        ),
        ("succeeded", 0, encoded(&finished(succeeded))),
        ("failed", 0, encoded(&finished(failed))),
        ("cancelled", 0, encoded(&finished(Outcome::Cancelled))),
        ("welcome", 1, encoded(&ToWorker::Welcome(Box::new(welcome)))),
        (
            "welcome_back",
            1,
            encoded(&ToWorker::WelcomeBack {
                kept,
                orphan_grace_ms: 1,
            }),
        ),
        (
            "assign",
            1,
            encoded(&ToWorker::Assign(Box::new(assignment))),
        ),
        (
            "cancel",
            1,
            encoded(&ToWorker::Cancel {
                task: task(),
                fence,
                of: CancelOf::Task,
            }),
        ),
        (
            "ack",
            1,
            encoded(&ToWorker::Ack {
                task: task(),
                fence,
            }),
        ),
        ("stop", 1, encoded(&ToWorker::Stop { grace_ms: 1 })),
        ("bootstrap", 2, encoded(&bootstrap)),
    ]
}

fn encoded(frame: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(frame, &mut bytes).unwrap();
    bytes
}
