//! `deiactl bench`: durable submissions a second, tasks a second end to end, and how long a task
//! waits for a bot (BAR S1-S3), measured on a running fleet with tasks of its own.
//!
//! The tasks are real: the fleet's bots run them. A pool with the `echo` backend measures the daemon
//! alone. Start times and ends are the daemon's own records, so that asking for them late costs
//! nothing in precision.

mod figures;
mod load;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Args, value_parser};
use deia::client::{Client, Target, raw::Endpoint};
use deia::task::TaskType;

use crate::context::Context;
use crate::failure::Failure;
use crate::wait::Patience;
use figures::Figures;
use load::{Failed, Plan, Until};

/// Measure throughput and latency of a running fleet with tasks of its own.
#[derive(Debug, Args)]
pub struct Bench {
    /// How many tasks
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = value_parser!(u64).range(1..=10_000_000))]
    tasks: u64,
    /// Connections that submit at the same time
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = value_parser!(u64).range(1..=1000))]
    clients: u64,
    /// Tasks in one request
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// Bytes of each task's text
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = value_parser!(u64).range(1..=1_048_576))]
    content_bytes: u64,
    /// Offer so many tasks a second instead of as many as go
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Only this pool
    #[arg(long)]
    pool: Option<String>,
    /// The tasks' type
    #[arg(long = "type", value_name = "TYPE")]
    task_type: Option<TaskType>,
    /// Submit over the daemon's TCP listener, not its admin socket
    #[arg(long, conflicts_with = "url")]
    tcp: bool,
    /// Measure only the submissions; the tasks run or wait as they would anyway
    #[arg(long)]
    submit_only: bool,
    /// Seconds to wait for the last result
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    wait: Patience,
}

impl Bench {
    /// Submits, waits, measures.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        if self
            .rate
            .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
        {
            return Err(Failure::Usage("--rate is a number of tasks above 0".into()));
        }
        let client = context.announced().await?;
        let plan = Plan {
            endpoint: self.endpoint(&client).await?,
            run: format!("bench-{}", uuid::Uuid::now_v7().simple()),
            tasks: self.tasks,
            clients: self.clients,
            batch: self.batch,
            content_bytes: usize::try_from(self.content_bytes).unwrap_or(usize::MAX),
            rate: self.rate,
            pool: self.pool.clone(),
            task_type: self.task_type,
            until: match self.submit_only {
                true => Until::Accepted,
                false => Until::Ended,
            },
            patience: match self.wait {
                Patience::Unlimited => Duration::MAX,
                Patience::Limited(limit) => limit,
            },
        };
        context.when_interrupted(format!(
            "tasks that were submitted go on; their names begin with {}",
            plan.run
        ));
        context.note(&format!("submitting {} tasks", plan.tasks));
        let transport = match plan.endpoint {
            Endpoint::Tcp(_) => "tcp",
            Endpoint::Unix(_) => "unix socket",
        };
        let measured = tokio::task::spawn_blocking(move || plan.run())
            .await
            .map_err(|error| Failure::Failed(format!("the measurement broke off: {error}")))?
            .map_err(|failed| self.explain(failed))?;
        let figures = Figures::new(self, transport, measured);
        let out = &context.out;
        if out.json {
            out.json(&figures)?;
        } else {
            out.text(&figures.render())?;
        }
        match figures.failed() {
            0 => Ok(()),
            failed => Err(Failure::Failed(format!(
                "{failed} of {} tasks did not succeed: `deiactl task list --status dead`",
                self.tasks
            ))),
        }
    }

    async fn endpoint(&self, client: &Client) -> Result<Endpoint, Failure> {
        match client.target() {
            Target::Socket(_) if self.tcp => {
                let port = client.status().await?.port;
                Ok(Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], port))))
            }
            Target::Socket(path) => Ok(Endpoint::Unix(path.clone())),
            Target::Url(url) => {
                let host = url.trim_start_matches("http://");
                let with_port = if host.contains(':') {
                    host.to_owned()
                } else {
                    format!("{host}:80")
                };
                let found = with_port
                    .to_socket_addrs()
                    .ok()
                    .and_then(|mut all| all.next());
                let address =
                    found.ok_or_else(|| Failure::Usage(format!("{url} names no address")))?;
                Ok(Endpoint::Tcp(address))
            }
        }
    }

    fn explain(&self, failed: Failed) -> Failure {
        match failed {
            Failed::Io(error) => Failure::Failed(format!("a connection failed: {error}")),
            Failed::Refused { status: 429, text } => Failure::Failed(format!(
                "{text}; the rate limit would be measured, not the daemon: use the admin socket, or \
                 set rate_limits.requests_per_minute to 0"
            )),
            Failed::Refused { text, .. } => Failure::Failed(text),
            Failed::TimedOut { task } => {
                let wait = match self.wait {
                    Patience::Unlimited => String::new(),
                    Patience::Limited(limit) => format!(" within {} s", limit.as_secs_f64()),
                };
                Failure::TimedOut(format!(
                    "task {task} did not end{wait}; `deiactl task explain {task}` says why"
                ))
            }
        }
    }
}
