//! What the store can do, without the rest of the daemon: durable submissions, leases and results a
//! second by operations per commit, the same with a million tasks queued, and the start with them.
//!
//! `cargo run --release -p deia-supervisor --example store_bench [DIRECTORY] [QUEUED]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deia::task::{Complexity, Fence, Priority, TaskId, TaskType};
use deia::time::Timestamp;
use deia::wire::Usage;
use deia_supervisor::store::sqlite::SqliteStore;
use deia_supervisor::store::{Committed, End, Lease, NewTask, Op, Outcome, Seq, Store, TaskResult};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver};

type Failure = Box<dyn std::error::Error>;

/// Tasks of one measurement.
const TASKS: usize = 20_000;

/// How much may be under way at a time: so many batches wait while one is committed.
const BATCHES_AHEAD: usize = 2;

struct Bench {
    store: SqliteStore,
    committed: Receiver<Committed>,
    runtime: Runtime,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let home = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let queued: usize = arguments.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let path = home.path().join("deia.db");

    let mut bench = open(&path)?;
    println!("empty store");
    bench.measure_all("e")?;
    println!("filling up to {queued} queued tasks");
    let mut filled = 0;
    let started = Instant::now();
    while filled < queued {
        let (seqs, _) = bench.run(1_000, submissions(&format!("f{filled}"), 50_000))?;
        filled += seqs.len();
    }
    println!(
        "  {:>7.0} submits/s in commits of 1,000",
        filled as f64 / started.elapsed().as_secs_f64()
    );
    bench.measure_all("q")?;
    bench.measure_reads()?;
    bench.store.close();
    drop(bench);

    let bytes = std::fs::metadata(&path)?.len();
    let started = Instant::now();
    let bench = open(&path)?;
    let opened = started.elapsed();
    let demands = bench.runtime.block_on(bench.store.demands())?;
    let counted = started.elapsed();
    println!(
        "start with {queued} queued ({} MiB): open {opened:.1?}, open + demands + counts {counted:.1?}, {} demands",
        bytes >> 20,
        demands.len()
    );
    bench.store.close();
    Ok(())
}

fn open(path: &Path) -> Result<Bench, Failure> {
    let (sender, committed) = mpsc::channel(64);
    Ok(Bench {
        store: SqliteStore::open(path, sender)?,
        committed,
        runtime: tokio::runtime::Builder::new_current_thread().build()?,
    })
}

impl Bench {
    fn measure_all(&mut self, name: &str) -> Result<(), Failure> {
        for size in [1, 16, 64, 256] {
            let tasks = if size == 1 { TASKS / 10 } else { TASKS };
            let submits = submissions(&format!("{name}-{size}"), tasks);
            let (seqs, submit) = self.run(size, submits)?;
            let (_, lease) = self.run(size, leases(&seqs))?;
            let (_, finish) = self.run(size, finishes(self.store.epoch(), &seqs))?;
            println!("  batches of {size:>3}");
            println!("    submit {submit}\n    lease  {lease}\n    finish {finish}");
        }
        Ok(())
    }

    fn measure_reads(&mut self) -> Result<(), Failure> {
        let demand: Arc<str> = "python".into();
        let time = |what: &str, started: Instant| println!("  {what}: {:.1?}", started.elapsed());
        let started = Instant::now();
        let after = Some((Priority::P2, 500_000));
        let ready = self.store.ready_after(Arc::clone(&demand), after, 1_000);
        let ready = self.runtime.block_on(ready)?.len();
        time(&format!("ready_after, {ready} tasks"), started);
        let started = Instant::now();
        let place = (Priority::P3, Seq::MAX);
        let ahead = self.runtime.block_on(self.store.ahead_of(demand, place))?;
        time(&format!("ahead_of, {ahead} tasks"), started);
        let started = Instant::now();
        self.runtime.block_on(self.store.demands())?;
        time("demands", started);
        let started = Instant::now();
        let page = self.store.list(Default::default(), None, 100);
        self.runtime.block_on(page)?;
        time("list, 100 tasks", started);
        Ok(())
    }

    /// Hands in batches of `size`, keeping a few under way.
    fn run(&mut self, size: usize, ops: Vec<Op>) -> Result<(Vec<Seq>, Rate), Failure> {
        let count = ops.len();
        let mut seqs = Vec::new();
        let mut commits = Vec::new();
        let mut waiting = 0;
        let mut ops = ops.into_iter();
        let started = Instant::now();
        let mut last = started;
        loop {
            while waiting < size * BATCHES_AHEAD {
                let batch: Vec<(u64, Op)> = (0..).zip(ops.by_ref().take(size)).collect();
                if batch.is_empty() {
                    break;
                }
                waiting += batch.len();
                self.store.write(batch).map_err(|_| "the queue is full")?;
            }
            if waiting == 0 {
                break;
            }
            let committed = self.committed.blocking_recv().ok_or("the writer ended")?;
            commits.push(last.elapsed());
            last = Instant::now();
            waiting -= committed.len();
            for (_, outcome) in committed {
                match outcome? {
                    Outcome::Submitted { seq } => seqs.push(seq),
                    Outcome::Leased { .. } | Outcome::Finished { .. } => {}
                    other => return Err(format!("{other:?}").into()),
                }
            }
        }
        let rate = Rate::new(count, started.elapsed(), commits);
        Ok((seqs, rate))
    }
}

/// Operations a second, and the time from one commit's outcomes to the next one's.
struct Rate {
    per_second: f64,
    per_commit: f64,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Rate {
    fn new(count: usize, elapsed: Duration, mut commits: Vec<Duration>) -> Self {
        commits.sort_unstable();
        let at = |share: usize| {
            let index = commits.len().saturating_sub(1) * share / 100;
            commits.get(index).copied().unwrap_or_default()
        };
        Self {
            per_second: count as f64 / elapsed.as_secs_f64(),
            per_commit: count as f64 / commits.len().max(1) as f64,
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>6.0}/s, {:>3.0} a commit, which takes p50 {:.2?} p99 {:.2?} max {:.1?}",
            self.per_second, self.per_commit, self.p50, self.p99, self.max
        )
    }
}

fn submissions(name: &str, count: usize) -> Vec<Op> {
    let content: Arc<str> = "x".repeat(256).into();
    let demands: [Arc<str>; 3] = ["general".into(), "python".into(), "testing".into()];
    (0..count)
        .map(|n| {
            let demand = &demands[n % demands.len()];
            Op::Submit(
                Box::new(NewTask {
                    id: TaskId::generate(),
                    request_hash: [n as u8; 32],
                    content: Arc::clone(&content),
                    priority: Priority::ALL[n % 4],
                    task_type: TaskType::General,
                    complexity: Complexity::Simple,
                    required_capabilities: vec![demand.as_ref().to_owned()],
                    bot_id: None,
                    pool: None,
                    demand: Arc::clone(demand),
                    max_attempts: 3,
                    timeout_ms: 60_000,
                    not_before: None,
                    metadata: Some(name.to_owned()),
                    submitted_at: Timestamp::now(),
                }),
                None,
            )
        })
        .collect()
}

fn leases(seqs: &[Seq]) -> Vec<Op> {
    let at = Timestamp::now();
    let lease = |seq: &Seq| Op::Lease {
        seq: *seq,
        lease: Lease {
            bot_id: "coder".into(),
            at,
            letter: None,
        },
        want_content: true,
    };
    seqs.iter().map(lease).collect()
}

fn finishes(epoch: u64, seqs: &[Seq]) -> Vec<Op> {
    let at = Timestamp::now();
    let finish = |seq: &Seq| Op::Finish {
        seq: *seq,
        fence: Fence { epoch, attempt: 1 },
        started_at: Some(at),
        choice: None,
        at,
        end: End::Succeeded(Box::new(TaskResult {
            output: "y".repeat(256),
            truncated: false,
            usage: Usage::default(),
            backend: "echo".into(),
            model: None,
        })),
    };
    seqs.iter().map(finish).collect()
}
