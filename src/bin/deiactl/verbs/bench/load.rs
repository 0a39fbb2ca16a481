//! The load: threads with keep-alive connections that submit, then ask what became of each task.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deia::api::TaskView;
use deia::client::Refusal;
use deia::client::raw::{Answer, Connection, Endpoint};
use deia::task::{TaskStatus, TaskType};
use serde::Deserialize;
use serde_json::json;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at a task that has not ended.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What to submit, how and where.
#[derive(Debug)]
pub struct Plan {
    pub endpoint: Endpoint,
    /// The beginning of every task's name.
    pub run: String,
    pub tasks: u64,
    pub clients: u64,
    pub batch: u64,
    pub content_bytes: usize,
    pub rate: Option<f64>,
    pub pool: Option<String>,
    pub task_type: Option<TaskType>,
    pub until: Until,
    pub patience: Duration,
}

/// How far the tasks are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// They are durable.
    Accepted,
    /// They have run.
    Ended,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// From the first submission to the last answer to one, in seconds.
    pub submit_seconds: f64,
    /// Of each request, in milliseconds.
    pub submit_ms: Vec<f64>,
    /// What became of the tasks, where they were followed.
    pub ends: Option<Ends>,
}

/// What became of the tasks.
#[derive(Debug, Default)]
pub struct Ends {
    /// From the first acceptance to the last end, in seconds, by the daemon's clock.
    pub end_to_end_seconds: f64,
    /// From a task's acceptance to its first start, in milliseconds, by the daemon's clock.
    pub start_ms: Vec<f64>,
    pub succeeded: u64,
    pub failed: u64,
}

/// Why nothing was measured.
#[derive(Debug)]
pub enum Failed {
    Io(io::Error),
    Refused { status: u16, text: String },
    TimedOut { task: String },
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Plan {
    /// Does it, in threads of its own.
    pub fn run(&self) -> Result<Measured, Failed> {
        let mut measured = Measured::default();
        let started = Instant::now();
        for part in self.on_all_clients(|shared| self.submit(started, shared))? {
            measured.submit_ms.extend(part);
        }
        measured.submit_seconds = started.elapsed().as_secs_f64();
        if self.until == Until::Ended {
            measured.ends = Some(self.ends()?);
        }
        Ok(measured)
    }

    fn ends(&self) -> Result<Ends, Failed> {
        let mut ends = Ends::default();
        let deadline = Instant::now().checked_add(self.patience);
        // Asking after every task while they run would be part of what is measured: the last one
        // comes first.
        let mut connection = self.connect()?;
        self.ended(&mut connection, self.tasks - 1, deadline)?;
        let mut first_submitted = i64::MAX;
        let mut last_ended = i64::MIN;
        for task in self
            .on_all_clients(|shared| self.collect(deadline, shared))?
            .into_iter()
            .flatten()
        {
            let submitted = task.submitted_at.as_micros();
            first_submitted = first_submitted.min(submitted);
            last_ended = last_ended.max(task.ended_at.map_or(submitted, |at| at.as_micros()));
            if let Some(attempt) = task.attempts.first() {
                let started = attempt.started_at.seconds_since(task.submitted_at);
                ends.start_ms.push(started * 1e3);
            }
            match task.status {
                TaskStatus::Succeeded => ends.succeeded += 1,
                _ => ends.failed += 1,
            }
        }
        ends.end_to_end_seconds = (last_ended - first_submitted) as f64 / 1e6;
        Ok(ends)
    }

    fn submit(&self, started: Instant, shared: &Shared) -> Result<Vec<f64>, Failed> {
        let mut connection = self.connect()?;
        let mut latencies = Vec::new();
        while let Some(first) = shared.take(self.batch, self.tasks) {
            let count = self.batch.min(self.tasks - first);
            let body = self.body(first, count);
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(first as f64 / rate);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            let path = match self.batch {
                1 => "/api/orchestrate",
                _ => "/api/orchestrate/batch",
            };
            let sent = Instant::now();
            let answer = connection.request("POST", path, &JSON, Some(&body))?;
            latencies.push(sent.elapsed().as_secs_f64() * 1e3);
            accepted(&answer)?;
        }
        Ok(latencies)
    }

    fn collect(&self, deadline: Option<Instant>, shared: &Shared) -> Result<Vec<Brief>, Failed> {
        let mut connection = self.connect()?;
        let mut tasks = Vec::new();
        while let Some(index) = shared.take(1, self.tasks) {
            tasks.push(self.ended(&mut connection, index, deadline)?);
        }
        Ok(tasks)
    }

    /// The task once it has ended.
    fn ended(
        &self,
        connection: &mut Connection,
        index: u64,
        deadline: Option<Instant>,
    ) -> Result<Brief, Failed> {
        let path = format!("/api/tasks/{}", self.id(index));
        loop {
            let answer = connection.request("GET", &path, &[], None)?;
            if answer.status != 200 {
                return Err(refused(&answer));
            }
            let task: TaskView = serde_json::from_slice(&answer.body).map_err(unexpected)?;
            if task.status.is_final() {
                return Ok(Brief::from(task));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Failed::TimedOut {
                    task: self.id(index),
                });
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Runs `work` on every client at once; the first failure stops all.
    fn on_all_clients<T: Send>(
        &self,
        work: impl Fn(&Shared) -> Result<T, Failed> + Sync,
    ) -> Result<Vec<T>, Failed> {
        let shared = Shared::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.clients)
                .map(|_| {
                    scope.spawn(|| {
                        let done = work(&shared);
                        if done.is_err() {
                            shared.stop.store(true, Ordering::Relaxed);
                        }
                        done
                    })
                })
                .collect();
            let broken = |_| Failed::Io(io::Error::other("a thread ended early"));
            let done = threads.into_iter().map(|thread| thread.join());
            done.map(|joined| joined.map_err(broken)?).collect()
        })
    }

    fn connect(&self) -> io::Result<Connection> {
        Connection::open(&self.endpoint, ANSWER_TIMEOUT)
    }

    fn id(&self, index: u64) -> String {
        format!("{}-{index}", self.run)
    }

    fn body(&self, first: u64, count: u64) -> Vec<u8> {
        let tasks = (first..first + count).map(|index| {
            let mut task = json!({"task_id": self.id(index), "content": self.content(index)});
            if let Some(pool) = &self.pool {
                task["pool"] = json!(pool);
            }
            if let Some(kind) = self.task_type {
                task["type"] = json!(kind);
            }
            task
        });
        let tasks: Vec<_> = tasks.collect();
        let body = match tasks.as_slice() {
            [task] if self.batch == 1 => task.to_string(),
            _ => json!(tasks).to_string(),
        };
        body.into_bytes()
    }

    /// Words, as texts have them, of exactly the length that was asked for.
    fn content(&self, index: u64) -> String {
        let mut content = format!("bench {index} ");
        while content.len() < self.content_bytes {
            content.push_str("lorem ipsum dolor sit amet ");
        }
        content.truncate(self.content_bytes);
        content
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// What all clients take their share of.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    /// The first of the next `count` tasks; `None` when there are no more, or none are wanted.
    fn take(&self, count: u64, end: u64) -> Option<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        (first < end && !self.stop.load(Ordering::Relaxed)).then_some(first)
    }
}

/// A task without its output: a million of them must fit into memory.
struct Brief {
    status: TaskStatus,
    submitted_at: deia::time::Timestamp,
    ended_at: Option<deia::time::Timestamp>,
    attempts: Vec<deia::api::AttemptView>,
}

impl From<TaskView> for Brief {
    fn from(task: TaskView) -> Self {
        let mut attempts = task.attempts;
        attempts.truncate(1);
        Self {
            status: task.status,
            submitted_at: task.submitted_at,
            ended_at: task.ended_at,
            attempts,
        }
    }
}

fn accepted(answer: &Answer) -> Result<(), Failed> {
    #[derive(Deserialize)]
    struct Success {
        success: bool,
    }
    if answer.status != 200 {
        return Err(refused(answer));
    }
    let parsed: Success = serde_json::from_slice(&answer.body).map_err(unexpected)?;
    match parsed.success {
        true => Ok(()),
        false => Err(refused(answer)),
    }
}

fn refused(answer: &Answer) -> Failed {
    #[derive(Deserialize)]
    struct Error {
        error: String,
    }
    let text = match serde_json::from_slice::<Error>(&answer.body) {
        Ok(body) => body.error,
        Err(_) => Refusal::parse(answer.status, &answer.body).to_string(),
    };
    Failed::Refused {
        status: answer.status,
        text: format!("a task was refused: {text}"),
    }
}

fn unexpected(error: serde_json::Error) -> Failed {
    Failed::Io(io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tasks: u64, batch: u64, content_bytes: usize) -> Plan {
        Plan {
            endpoint: Endpoint::Unix("/nowhere".into()),
            run: "bench-x".into(),
            tasks,
            clients: 4,
            batch,
            content_bytes,
            rate: None,
            pool: None,
            task_type: None,
            until: Until::Ended,
            patience: Duration::ZERO,
        }
    }

    #[test]
    fn every_task_is_taken_once_by_whoever_is_free() {
        let plan = plan(1000, 7, 1);
        let parts = plan.on_all_clients(|shared| {
            let mut taken = Vec::new();
            while let Some(first) = shared.take(7, 1000) {
                taken.extend(first..(first + 7).min(1000));
            }
            Ok(taken)
        });
        let mut all: Vec<u64> = parts.unwrap().into_iter().flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    #[test]
    fn one_failure_stops_all() {
        let plan = plan(1, 1, 1);
        let failed = plan.on_all_clients(|shared| match shared.take(1, 1) {
            Some(_) => Err(Failed::TimedOut { task: "t".into() }),
            None => Ok(()),
        });
        assert!(matches!(failed, Err(Failed::TimedOut { .. })));
    }

    #[test]
    fn contents_have_exactly_the_length_asked_for() {
        for length in [1, 10, 256, 5000] {
            assert_eq!(plan(1, 1, length).content(3).len(), length);
        }
    }
}
