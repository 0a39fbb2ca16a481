//! Why a task is where it is: the choices that were made, and what it waits for.

use axum::Json;
use axum::extract::State;
use deia::api::{CandidateView, ChoiceView, Explanation, ObstacleView, Reason};
use deia::task::{AttemptStatus, TaskStatus};
use deia::time::{Timestamp, duration};

use super::Shared;
use super::orchestrate::unreadable;
use super::tasks::{known_form, record};
use crate::brain::demand::Demand;
use crate::brain::route::Weighing;
use crate::daemon::command::{Command, Outlook};
use crate::http::error::ApiFailure;
use crate::http::extract::PathArgs;
use crate::store::{AttemptRecord, TaskRecord};

/// Why a task is where it is: why each attempt went to its bot, and what it waits for.
#[utoipa::path(get, path = "/api/tasks/{id}/explain", tag = "tasks", params(("id" = String, Path)), responses(
    (status = 200, body = Explanation),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn explain(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<Explanation>, ApiFailure> {
    let task = record(&api, &known_form(&id)?).await?;
    let waits = task.status == TaskStatus::Queued;
    let demand = waits.then(|| Demand::from_text(&task.demand)).flatten();
    let id = task.id.clone();
    let command = |reply| Command::Explain { id, demand, reply };
    let Outlook {
        running,
        obstacles,
        held,
    } = api.ask(command).await?;
    // After the main loop was asked: what it has let go is there.
    let choices = api.store.choices(task.id.clone()).await;
    let kept: Vec<(u32, String)> = choices.map_err(unreadable)?;
    let weighing = |attempt: u32| match &running {
        Some((n, weighing)) if *n == attempt => weighing.clone(),
        _ => {
            let kept = kept.iter().find(|(n, _)| *n == attempt);
            kept.and_then(|(_, text)| Weighing::from_text(text))
        }
    };
    let mut attempts = Vec::new();
    let mut candidates = Vec::new();
    for attempt in &task.attempts {
        let weighing = weighing(attempt.attempt);
        candidates = weighing.iter().flat_map(candidate_views).collect();
        attempts.push(choice_view(attempt, weighing.as_ref()));
    }
    let ahead = match waits {
        true => {
            let place = (task.priority, task.seq);
            let ahead = api.store.ahead_of(task.demand.clone(), place).await;
            ahead.map_err(unreadable)?
        }
        false => 0,
    };
    Ok(Json(Explanation {
        explanation: match &held {
            Some(why) if waits => format!(
                "{}; {why}, and it goes on by itself once it does",
                sentence(&task, ahead, &obstacles, attempts.last())
            ),
            _ => sentence(&task, ahead, &obstacles, attempts.last()),
        },
        task_id: task.id.to_string(),
        status: task.status,
        task_type: task.task_type,
        required_capabilities: task.required_capabilities,
        pool: task.pool,
        bot_id: task.bot_id,
        attempts,
        candidates,
        waits_for: obstacles,
        timestamp: Timestamp::now(),
    }))
}

fn candidate_views(weighing: &Weighing) -> impl Iterator<Item = CandidateView> {
    weighing.best.iter().map(|weighed| CandidateView {
        bot_id: weighed.bot.to_string(),
        score: weighed.score,
        load: weighed.load,
        max_concurrent: weighed.max,
        success_rate: weighed.rate,
        avg_execution_time: weighed.seconds,
        recommended: weighed.rec,
    })
}

fn choice_view(attempt: &AttemptRecord, weighing: Option<&Weighing>) -> ChoiceView {
    ChoiceView {
        attempt: attempt.attempt,
        bot_id: attempt.bot_id.clone(),
        reason: weighing.map(|w| w.reason),
        explanation: weighing.map_or_else(unknown, |w| choice_sentence(&attempt.bot_id, w)),
        score: weighing.map(|w| w.score),
        candidates: weighing.map(|w| w.of),
        microseconds: weighing.map(|w| w.microseconds),
    }
}

fn unknown() -> String {
    "why is not known any more: the daemon that chose ended while the task ran".to_owned()
}

/// Why a bot was chosen, for people.
fn choice_sentence(bot: &str, weighing: &Weighing) -> String {
    let of = weighing.of;
    let chosen = weighing.best.iter().find(|weighed| *weighed.bot == *bot);
    let standing = chosen.map_or_else(String::new, |weighed| {
        let (load, max, rate) = (weighed.load, weighed.max, weighed.rate * 100.0);
        let time = weighed.seconds.map_or_else(String::new, |seconds| {
            format!(", such a task takes it {} on average", duration(seconds))
        });
        format!(": it had {load} of {max} tasks, {rate:.0}% of its tasks succeed{time}")
    });
    match weighing.reason {
        Reason::OnlyOne => "no other bot could have it at that moment".to_owned(),
        Reason::BestScore => format!("the best score of {of} bots{standing}"),
        Reason::Recommended => {
            format!("what was learned put it first of {of} bots{standing}")
        }
        Reason::Explored => format!(
            "of {of} bots it was tried the longest ago, and had its turn so that something is learned of it"
        ),
    }
}

/// Why a task is where it is, for people.
fn sentence(
    task: &TaskRecord,
    ahead: u64,
    obstacles: &[ObstacleView],
    last: Option<&ChoiceView>,
) -> String {
    let error = task.error.as_deref().unwrap_or("no reason was given");
    let bot = last.map_or("no bot", |choice| choice.bot_id.as_str());
    match task.status {
        TaskStatus::Scheduled => match task.not_before {
            Some(at) if task.attempts.is_empty() => format!("waits for its time, {at}"),
            Some(at) => format!("is tried again at {at}, after: {error}"),
            None => "waits for its time".to_owned(),
        },
        TaskStatus::Queued => waits(task, ahead, obstacles),
        TaskStatus::Running => match last {
            Some(choice) => format!("runs on {bot}; {}", choice.explanation),
            None => "runs".to_owned(),
        },
        TaskStatus::Succeeded => format!("succeeded on {bot}"),
        TaskStatus::Dead => {
            let tries = task.attempts.len();
            let times = if tries == 1 { "once" } else { "and for good" };
            format!("failed {times}, last on {bot}: {error}")
        }
        TaskStatus::Cancelled => "was cancelled".to_owned(),
        TaskStatus::Expired => {
            "no bot had it within tasks.queue_timeout_seconds: `deiactl task retry` queues it again"
                .to_owned()
        }
    }
}

fn waits(task: &TaskRecord, ahead: u64, obstacles: &[ObstacleView]) -> String {
    let suitable = obstacles
        .iter()
        .filter(|obstacle| obstacle.suitable)
        .count();
    let place = match ahead {
        0 => "first in its line".to_owned(),
        1 => "1 task before it".to_owned(),
        n => format!("{n} tasks before it"),
    };
    let bots = match suitable {
        0 => "no bot that could do it is there now".to_owned(),
        1 => "1 bot could do it".to_owned(),
        n => format!("{n} bots could do it"),
    };
    let again = match task.attempts.last() {
        Some(attempt) if attempt.status != AttemptStatus::Running => {
            format!(
                "; attempt {} was {}",
                attempt.attempt,
                attempt.status.as_str()
            )
        }
        _ => String::new(),
    };
    format!("waits: {place}; {bots}{again}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brain::route::Weighed;

    fn weighing(reason: Reason, seconds: Option<f64>) -> Weighing {
        Weighing {
            reason,
            score: 1.0,
            microseconds: 3,
            of: 2,
            best: vec![Weighed {
                bot: "coder".into(),
                score: 1.0,
                load: 0,
                max: 3,
                rate: 0.95,
                seconds,
                rec: false,
            }],
        }
    }

    #[test]
    fn a_choice_is_told_with_what_decided() {
        let told = |reason, seconds| choice_sentence("coder", &weighing(reason, seconds));
        assert_eq!(
            told(Reason::BestScore, None),
            "the best score of 2 bots: it had 0 of 3 tasks, 95% of its tasks succeed"
        );
        assert_eq!(
            told(Reason::Recommended, Some(12.0)),
            "what was learned put it first of 2 bots: it had 0 of 3 tasks, 95% of its tasks succeed, such a task takes it 12s on average"
        );
        assert!(told(Reason::Explored, None).contains("its turn"));
        assert!(told(Reason::OnlyOne, None).contains("no other bot"));
    }
}
