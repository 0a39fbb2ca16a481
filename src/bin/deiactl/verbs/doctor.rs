//! `deiactl doctor`: one page that says what is wrong and what to do.

mod absent;
mod findings;
pub(super) mod recovery;

use clap::Args;
use deia::api::{ConfigStatus, Health, HealthState, RecoveryStatus, ScalingStatus, Status};
use deia::client::{Client, ClientError};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::{Out, one_line};
use findings::{Facts, Finding, Severity};

/// Say what is wrong and what to do.
///
/// Exit code 0 when nothing is wrong, 1 when something is, 3 when no daemon answers.
#[derive(Debug, Args)]
pub struct Doctor {}

/// What is printed, and with `--json` the document.
#[derive(Debug, Serialize)]
struct Page {
    healthy: bool,
    daemon: Option<String>,
    /// How far bots can be confined there.
    sandbox: Option<String>,
    findings: Vec<Finding>,
}

impl Doctor {
    /// Asks everything, thinks, and prints.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let asked = match context.client() {
            Ok(client) => match ask(&client).await {
                Err(error) => match recovery::stands(&client, &error).await {
                    Some(status) => return in_recovery(context, &status),
                    None => Err(error.into()),
                },
                Ok(asked) => Ok(asked),
            },
            Err(failure) => Err(failure),
        };
        match asked {
            Ok(asked) => {
                let page = Page::of(&asked);
                page.print(&context.out)?;
                match page.wrong() {
                    0 => Ok(()),
                    1 => Err(Failure::Failed("one thing is wrong".to_owned())),
                    n => Err(Failure::Failed(format!("{n} things are wrong"))),
                }
            }
            Err(Failure::Client(
                error @ (ClientError::Unreachable { .. } | ClientError::TimedOut { .. }),
            )) => {
                Page {
                    healthy: false,
                    daemon: None,
                    sandbox: None,
                    findings: absent::findings(&error, &absent::look(context)),
                }
                .print(&context.out)?;
                Err(error.into())
            }
            Err(failure) => Err(failure),
        }
    }
}

fn in_recovery(context: &Context, status: &RecoveryStatus) -> Result<(), Failure> {
    let page = Page {
        healthy: false,
        daemon: Some(format!("deia at {} (pid {})", status.home, status.pid)),
        sandbox: None,
        findings: recovery::findings(status),
    };
    page.print(&context.out)?;
    Err(Failure::Failed("it is in recovery mode".to_owned()))
}

/// What the daemon says of itself.
struct Asked {
    status: Status,
    health: Result<Health, String>,
    scaling: ScalingStatus,
    config: ConfigStatus,
}

async fn ask(client: &Client) -> Result<Asked, ClientError> {
    let health = match client.health().await {
        Ok(health) => Ok(health.value),
        Err(ClientError::Refused {
            status: 503,
            refusal,
            ..
        }) => Err(refusal.to_string()),
        Err(error) => return Err(error),
    };
    Ok(Asked {
        status: client.status().await?.value,
        health,
        scaling: client.scaling_status().await?.value,
        config: client.config_status().await?.value,
    })
}

impl Page {
    fn of(asked: &Asked) -> Self {
        let status = &asked.status;
        let reasons = match &asked.health {
            Ok(health) if health.status == HealthState::Ok => Vec::new(),
            Ok(health) => health.reasons.clone(),
            Err(unusable) => vec![unusable.clone()],
        };
        let findings = findings::findings(&Facts {
            status,
            reasons: &reasons,
            scaling: &asked.scaling,
            config: &asked.config,
        });
        let mut page = Self {
            healthy: false,
            daemon: Some(format!(
                "deia {} at {} (pid {}, up {})",
                status.version,
                status.home,
                status.pid,
                human::duration(status.uptime_seconds)
            )),
            sandbox: status.confinement.as_ref().map(|c| c.summary.clone()),
            findings,
        };
        page.healthy = page.wrong() == 0;
        page
    }

    fn wrong(&self) -> usize {
        let wrong = self.findings.iter();
        wrong.filter(|f| f.severity == Severity::Wrong).count()
    }

    fn print(&self, out: &Out) -> Result<(), Failure> {
        if out.json {
            return out.json(self);
        }
        if let Some(daemon) = &self.daemon {
            out.line(&one_line(daemon))?;
        }
        if let Some(sandbox) = &self.sandbox {
            out.line(&format!("bots are confined by: {}", one_line(sandbox)))?;
        }
        match self.wrong() {
            0 => out.line("nothing is wrong")?,
            _ => self.section(out, "Wrong", Severity::Wrong)?,
        }
        self.section(out, "Good to know", Severity::Note)
    }

    fn section(&self, out: &Out, title: &str, severity: Severity) -> Result<(), Failure> {
        let findings = self.findings.iter().filter(|f| f.severity == severity);
        for (n, finding) in findings.enumerate() {
            if n == 0 {
                out.line("")?;
                out.line(&format!("{title}:"))?;
            }
            out.line(&format!("  - {}", one_line(&finding.what)))?;
            if let Some(remedy) = &finding.remedy {
                out.line(&format!("    do: {}", one_line(remedy)))?;
            }
        }
        Ok(())
    }
}
