//! `deiactl scale`.

use clap::Args;
use deia::api::{LimitsAnswer, LimitsRequest, ScalingStatus};
use deia::client::{Client, Reply};

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::Out;
use crate::wait::{Patience, Wait};

/// Show or set how many bots there may be.
#[derive(Debug, Args)]
pub struct Scale {
    /// At least this many bots
    #[arg(long, value_name = "N")]
    min: Option<u32>,
    /// At most this many bots; 0 drains
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Wait until the fleet is within the limits; at most SECONDS, if given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "unlimited")]
    wait: Option<Patience>,
}

impl Scale {
    /// Shows, or sets and waits.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        if self.min.is_none() && self.max.is_none() && self.wait.is_none() {
            let reply = context.client()?.scaling_status().await?;
            let out = &context.out;
            return out.reply(&reply, |status| show(out, status));
        }
        let request = LimitsRequest {
            min_bots: self.min,
            max_bots: self.max,
            resume: false,
        };
        set(context, &request, self.wait).await
    }
}

/// Sets limits, says so and waits for the fleet to follow.
pub async fn set(
    context: &Context,
    request: &LimitsRequest,
    wait: Option<Patience>,
) -> Result<(), Failure> {
    let client = context.announced().await?;
    let out = &context.out;
    if *request != LimitsRequest::default() {
        let answer = client.set_limits(request).await?;
        match wait {
            // With --json the document is the one after the wait.
            Some(_) if out.json => {}
            _ => out.reply(&answer, |answer| say(out, answer))?,
        }
        if !answer.success {
            return Err(Failure::Failed(answer.message.clone()));
        }
    }
    let Some(patience) = wait else {
        return Ok(());
    };
    context.when_interrupted("the fleet follows the limits without this command".into());
    let reached = settle(&client, patience).await?;
    out.reply(&reached, |status| show(out, status))
}

/// Waits until the fleet is within the limits in force; when draining, also until nothing runs.
async fn settle(client: &Client, patience: Patience) -> Result<Reply<ScalingStatus>, Failure> {
    Wait::new(patience)
        .until("the fleet within its limits", async || {
            let status = client.scaling_status().await?;
            Ok(is_settled(&status).then_some(status))
        })
        .await
}

fn is_settled(status: &ScalingStatus) -> bool {
    let count = status.current_bot_count;
    if status.max_bots == 0 {
        return count == 0 && status.in_flight == 0;
    }
    (status.min_bots..=status.max_bots).contains(&count)
}

fn say(out: &Out, answer: &LimitsAnswer) -> Result<(), Failure> {
    out.line(&format!(
        "limits: {} to {} bots, {}",
        answer.min_bots,
        answer.max_bots,
        origin(answer.r#override)
    ))
}

fn origin(overridden: bool) -> &'static str {
    if overridden {
        "set by hand (`deiactl resume` goes back to the file's)"
    } else {
        "from the configuration"
    }
}

fn show(out: &Out, status: &ScalingStatus) -> Result<(), Failure> {
    out.line(&format!(
        "bots      {} ({} tasks with them)",
        status.current_bot_count, status.in_flight
    ))?;
    out.line(&format!(
        "limits    {} to {}, {}",
        status.min_bots,
        status.max_bots,
        origin(status.r#override)
    ))?;
    let scaling = if status.scaling_enabled { "on" } else { "off" };
    out.line(&format!("automatic {scaling}"))?;
    for (label, at) in [
        ("last up  ", status.last_scale_up),
        ("last down", status.last_scale_down),
    ] {
        if let Some(at) = at {
            let age = human::age(at, status.timestamp);
            out.line(&format!("{label} {} ({age})", human::time(at)))?;
        }
    }
    if let Some(last) = &status.last_evaluation {
        let age = human::age(last.timestamp, status.timestamp);
        let at = human::time(last.timestamp);
        out.line(&format!("evaluated {at} ({age}): {}", last.reason))?;
    }
    if status.draining {
        out.line("draining: new tasks are refused")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use deia::time::Timestamp;

    fn status(
        current_bot_count: u32,
        min_bots: u32,
        max_bots: u32,
        in_flight: u64,
    ) -> ScalingStatus {
        ScalingStatus {
            timestamp: Timestamp::from_micros(0),
            current_bot_count,
            min_bots,
            max_bots,
            active_bots: Vec::new(),
            scaling_enabled: true,
            last_scale_up: None,
            last_scale_down: None,
            r#override: true,
            draining: max_bots == 0,
            in_flight,
            last_evaluation: None,
        }
    }

    #[test]
    fn a_drain_is_over_when_no_bot_and_no_task_is_left() {
        assert!(!is_settled(&status(1, 0, 0, 0)));
        assert!(!is_settled(&status(0, 0, 0, 1)));
        assert!(is_settled(&status(0, 0, 0, 0)));
    }

    #[test]
    fn otherwise_the_count_of_bots_decides() {
        assert!(!is_settled(&status(1, 2, 4, 0)));
        assert!(is_settled(&status(2, 2, 4, 9)));
        assert!(!is_settled(&status(5, 2, 4, 0)));
    }
}
