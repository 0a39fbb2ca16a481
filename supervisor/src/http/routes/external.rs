//! External bots: registered by an operator; then they ask, each request signed.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use deia::api::{
    CompleteRequest, EndAnswer, FailRequest, HeartbeatAnswer, HeartbeatRequest, LeaseAnswer,
    LeaseRequest, LeasedTask, OutputAnswer, OutputRequest, RegisterAnswer, RegisterRequest,
    UnregisterAnswer,
};
use deia::bot::BotType;
use deia::task::{AttemptStatus, Fence, TaskId};
use deia::time::Timestamp;
use deia::wire::{FailureKind, Outcome, Usage};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::orchestrate::unreadable;
use super::{Shared, refused};
use crate::audit::Actor;
use crate::brain::millis;
use crate::daemon::command::{
    AskExternal, Command, Granted, Refused, SignedAct, SignedAnswer, SignedRequest,
};
use crate::external::signature::{NotSigned, verify};
use crate::external::{Registration, Signer};
use crate::http::error::ApiFailure;
use crate::http::extract::{JsonBody, PathArgs, parse_body, read_body};
use crate::http::fields::Fields;
use crate::store::SignerKey;

/// Tasks at once where nothing is said, as in the original.
const DEFAULT_AT_ONCE: u32 = 3;

/// Which backend a result of an external bot names.
const BACKEND: &str = "external";

/// Registers an external bot, and tells its secret, once.
#[utoipa::path(post, path = "/api/orchestrate/register-bot", tag = "external bots", request_body = RegisterRequest, responses(
    (status = 200, body = RegisterAnswer, description = "Durably registered; the secret is shown this once"),
    (status = 409, body = deia::api::ApiError, description = "Registered already and `rotate` is not true, or a name of a pool's bots"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError, description = "Not kept: the disk takes nothing, or too many are registered"),
))]
pub async fn register(
    State(api): State<Shared>,
    actor: Actor,
    JsonBody(request): JsonBody<RegisterRequest>,
) -> Result<Json<RegisterAnswer>, ApiFailure> {
    let bot_id = request.bot_id;
    let bot_type = request.bot_type.as_deref().map(str::parse);
    // What is no type is a 422 before this.
    let bot_type = bot_type.and_then(Result::ok).unwrap_or(BotType::General);
    let specializations = request.specializations.unwrap_or_default();
    let max_concurrent = request.max_concurrent.unwrap_or(DEFAULT_AT_ONCE);
    let signer = Signer::generate();
    let registration = Box::new(Registration {
        bot_id: bot_id.clone(),
        bot_type,
        specializations: specializations.clone(),
        max_concurrent,
        registered_at: Timestamp::now(),
        signer: signer.clone(),
    });
    let rotate = request.rotate.unwrap_or(false);
    let rotated = api
        .ask_as(actor, |reply| {
            Command::External(AskExternal::Register {
                registration,
                rotate,
                reply,
            })
        })
        .await?
        .map_err(|why| refused(why, &bot_id))?;
    let message = match rotated {
        false => format!("Bot {bot_id} registered"),
        true => format!("Bot {bot_id} registered; its old secret is refused from now on"),
    };
    Ok(Json(RegisterAnswer {
        success: true,
        message,
        bot_id,
        bot_type,
        specializations,
        max_concurrent,
        rotated,
        bot_secret: signer.shown(),
    }))
}

/// Takes an external bot out of the fleet: its secret is refused, what it has is queued again.
#[utoipa::path(post, path = "/api/bots/{id}/unregister", tag = "external bots", params(("id" = String, Path)), responses(
    (status = 200, body = UnregisterAnswer),
    (status = 404, body = deia::api::ApiError, description = "No external bot has this name"),
))]
pub async fn unregister(
    State(api): State<Shared>,
    actor: Actor,
    PathArgs(id): PathArgs<String>,
) -> Result<Json<UnregisterAnswer>, ApiFailure> {
    let name = id.clone();
    let released = api
        .ask_as(actor, |reply| {
            Command::External(AskExternal::Unregister { id: name, reply })
        })
        .await?
        .map_err(|why| refused(why, &id))?;
    Ok(Json(UnregisterAnswer {
        success: true,
        message: format!(
            "{id} is no bot of this fleet any more; {released} tasks are queued again"
        ),
        bot_id: id,
        released,
    }))
}

/// Tasks for an external bot: at once, or as soon as there are some. Signed.
#[utoipa::path(post, path = "/api/bots/{id}/lease", tag = "external bots", request_body = LeaseRequest, params(("id" = String, Path)), responses(
    (status = 200, body = LeaseAnswer, description = "Tasks that are durably its own; none where none came in time"),
    (status = 401, body = deia::api::ApiError, description = "Not signed as it should be"),
    (status = 409, body = deia::api::ApiError, description = "This webhook-id was used before (`repeated_id`), or another run of the program took over (`superseded`)"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 429, body = deia::api::ApiError),
    (status = 503, body = deia::api::ApiError, description = "Draining, stopping, or the disk takes nothing; Retry-After"),
))]
pub async fn lease(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
    request: Request,
) -> Result<Json<LeaseAnswer>, ApiFailure> {
    let (presented, request) = signed::<LeaseRequest>(&api, id, request).await?;
    let act = SignedAct::Lease {
        max: request.max,
        wait: millis(request.wait_seconds.unwrap_or(0.0)),
        instance: request.instance,
    };
    let mut answer = presented.send(&api, act).await?;
    let leased = tokio::select! {
        answer = &mut answer => Some(answer),
        // Another process is about to go on: it is asked again.
        () = api.until_leaving() => None,
    };
    let leased = match leased {
        Some(answer) => answer.map_err(|_| stopping())?,
        None => {
            answer.close();
            // What was on its way counts.
            let on_its_way = answer.try_recv();
            on_its_way.unwrap_or_else(|_| Ok(SignedAnswer::Leased(Vec::new())))
        }
    };
    let granted = match leased.map_err(|why| refused(why, ""))? {
        SignedAnswer::Leased(granted) => granted,
        _ => Vec::new(),
    };
    let mut tasks = Vec::with_capacity(granted.len());
    for granted in granted {
        tasks.push(leased_task(&api, granted).await);
    }
    Ok(Json(LeaseAnswer {
        success: true,
        count: tasks.len(),
        tasks,
        heartbeat_seconds: api.config.current().supervision.heartbeat_seconds,
    }))
}

/// An external bot says that it is there, and what it has. Signed.
#[utoipa::path(post, path = "/api/bots/{id}/heartbeat", tag = "external bots", request_body = HeartbeatRequest, params(("id" = String, Path)), responses(
    (status = 200, body = HeartbeatAnswer),
    (status = 401, body = deia::api::ApiError, description = "Not signed as it should be"),
    (status = 409, body = deia::api::ApiError, description = "This webhook-id was used before (`repeated_id`), or another run of the program took over (`superseded`)"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError),
))]
pub async fn heartbeat(
    State(api): State<Shared>,
    PathArgs(id): PathArgs<String>,
    request: Request,
) -> Result<Json<HeartbeatAnswer>, ApiFailure> {
    let (presented, request) = signed::<HeartbeatRequest>(&api, id, request).await?;
    let act = SignedAct::Heartbeat {
        instance: request.instance,
        tasks: request.tasks,
    };
    let SignedAnswer::Beat {
        tasks,
        cancel,
        lost,
    } = presented.ask(&api, act, "").await?
    else {
        return Err(ApiFailure::internal("a heartbeat was answered otherwise"));
    };
    let names = |tasks: Vec<TaskId>| tasks.iter().map(ToString::to_string).collect();
    Ok(Json(HeartbeatAnswer {
        success: true,
        tasks: names(tasks),
        cancel: names(cancel),
        lost,
        heartbeat_seconds: api.config.current().supervision.heartbeat_seconds,
    }))
}

/// A piece of a task's output. Signed.
#[utoipa::path(post, path = "/api/bots/{id}/tasks/{task}/output", tag = "external bots", request_body = OutputRequest, params(("id" = String, Path), ("task" = String, Path)), responses(
    (status = 200, body = OutputAnswer),
    (status = 401, body = deia::api::ApiError, description = "Not signed as it should be"),
    (status = 409, body = deia::api::ApiError, description = "The lease is not the current one (`late`), output before this piece is missing (`gap`), or `repeated_id`"),
    (status = 413, body = deia::api::ApiError),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError),
))]
pub async fn output(
    State(api): State<Shared>,
    PathArgs((id, task)): PathArgs<(String, String)>,
    request: Request,
) -> Result<Json<OutputAnswer>, ApiFailure> {
    let (presented, request) = signed::<OutputRequest>(&api, id, request).await?;
    let of = attempt(&api, &task, request.lease.as_deref(), request.attempt)?;
    let act = SignedAct::Output {
        task: of.task,
        fence: of.fence,
        text: request.text,
        offset: request.offset,
    };
    match presented.ask(&api, act, &task).await? {
        SignedAnswer::Output { bytes, cancel } => Ok(Json(OutputAnswer {
            success: true,
            task_id: task,
            bytes,
            cancel,
        })),
        _ => Err(ApiFailure::internal("output was answered otherwise")),
    }
}

/// A task is done. The same end again is answered as the first one. Signed.
#[utoipa::path(post, path = "/api/bots/{id}/tasks/{task}/complete", tag = "external bots", request_body = CompleteRequest, params(("id" = String, Path), ("task" = String, Path)), responses(
    (status = 200, body = EndAnswer, description = "The result is durable"),
    (status = 401, body = deia::api::ApiError, description = "Not signed as it should be"),
    (status = 409, body = deia::api::ApiError, description = "The lease is not the current one (`late`), or `repeated_id`"),
    (status = 413, body = deia::api::ApiError),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError),
))]
pub async fn complete(
    State(api): State<Shared>,
    PathArgs((id, task)): PathArgs<(String, String)>,
    request: Request,
) -> Result<Json<EndAnswer>, ApiFailure> {
    let (presented, request) = signed::<CompleteRequest>(&api, id, request).await?;
    let of = attempt(&api, &task, request.lease.as_deref(), request.attempt)?;
    let outcome = Outcome::Succeeded {
        usage: Usage {
            prompt_tokens: request.prompt_tokens.unwrap_or(0),
            completion_tokens: request.completion_tokens.unwrap_or(0),
        },
        backend: BACKEND.to_owned(),
        model: request.model,
        truncated: false,
    };
    end(&api, presented, of, outcome, request.output).await
}

/// A task is not done, and why. The same end again is answered as the first one. Signed.
#[utoipa::path(post, path = "/api/bots/{id}/tasks/{task}/fail", tag = "external bots", request_body = FailRequest, params(("id" = String, Path), ("task" = String, Path)), responses(
    (status = 200, body = EndAnswer, description = "The end of the attempt is durable"),
    (status = 401, body = deia::api::ApiError, description = "Not signed as it should be"),
    (status = 409, body = deia::api::ApiError, description = "The lease is not the current one (`late`), or `repeated_id`"),
    (status = 422, body = deia::api::ValidationErrors),
    (status = 503, body = deia::api::ApiError),
))]
pub async fn fail(
    State(api): State<Shared>,
    PathArgs((id, task)): PathArgs<(String, String)>,
    request: Request,
) -> Result<Json<EndAnswer>, ApiFailure> {
    let (presented, request) = signed::<FailRequest>(&api, id, request).await?;
    let of = attempt(&api, &task, request.lease.as_deref(), request.attempt)?;
    let kind = match request.kind.as_deref() {
        Some("permanent") => FailureKind::Permanent,
        Some("unavailable") => FailureKind::Unavailable,
        Some("timed_out") => FailureKind::TimedOut,
        _ => FailureKind::Backend,
    };
    let error = request.error;
    end(&api, presented, of, Outcome::Failed { error, kind }, None).await
}

/// An attempt, as its bot names it.
struct Attempt {
    task: TaskId,
    fence: Fence,
}

async fn end(
    api: &Shared,
    presented: Presented,
    of: Attempt,
    outcome: Outcome,
    output: Option<String>,
) -> Result<Json<EndAnswer>, ApiFailure> {
    let bot = presented.bot.clone();
    let succeeded = matches!(outcome, Outcome::Succeeded { .. });
    let act = SignedAct::End {
        task: of.task.clone(),
        fence: of.fence,
        outcome,
        output,
    };
    let answer = |status, duplicate| {
        Json(EndAnswer {
            success: true,
            task_id: of.task.to_string(),
            attempt: of.fence.attempt,
            status,
            duplicate,
        })
    };
    match presented.try_ask(api, act).await? {
        Ok(SignedAnswer::Ended { status }) => Ok(answer(status, false)),
        Ok(_) => Err(ApiFailure::internal("an end was answered otherwise")),
        // Its answer may have been lost: then the same end is on disk.
        Err(Refused::LateAttempt) => {
            let record = api.store.task(of.task.clone()).await.map_err(unreadable)?;
            let same = record.filter(|record| {
                let ended = match succeeded {
                    true => AttemptStatus::Succeeded,
                    false => AttemptStatus::Failed,
                };
                of.fence.epoch == api.store.epoch()
                    && record.attempts.iter().any(|attempt| {
                        attempt.attempt == of.fence.attempt
                            && attempt.bot_id == bot
                            && attempt.status == ended
                    })
            });
            match same {
                Some(record) => Ok(answer(record.status, true)),
                None => Err(refused(Refused::LateAttempt, of.task.as_str())),
            }
        }
        Err(why) => Err(refused(why, of.task.as_str())),
    }
}

/// A request that its bot has signed.
struct Presented {
    bot: String,
    key: SignerKey,
    nonce: String,
    signed_at: Timestamp,
}

impl Presented {
    /// Hands it to the main loop.
    async fn send(
        self,
        api: &Shared,
        act: SignedAct,
    ) -> Result<oneshot::Receiver<Result<SignedAnswer, Refused>>, ApiFailure> {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(SignedRequest {
            bot: self.bot,
            key: self.key,
            nonce: self.nonce,
            signed_at: self.signed_at,
            act,
            reply,
        });
        let command = Command::External(AskExternal::Signed(request));
        api.commands.send(command).await.map_err(|_| stopping())?;
        Ok(answer)
    }

    async fn try_ask(
        self,
        api: &Shared,
        act: SignedAct,
    ) -> Result<Result<SignedAnswer, Refused>, ApiFailure> {
        let answer = self.send(api, act).await?;
        answer.await.map_err(|_| stopping())
    }

    async fn ask(
        self,
        api: &Shared,
        act: SignedAct,
        task: &str,
    ) -> Result<SignedAnswer, ApiFailure> {
        let answer = self.try_ask(api, act).await?;
        answer.map_err(|why| refused(why, task))
    }
}

/// The signature first, over the body as it came; only then is the body read.
async fn signed<T: DeserializeOwned + Fields>(
    api: &Shared,
    bot: String,
    request: Request,
) -> Result<(Presented, T), ApiFailure> {
    let headers = request.headers().clone();
    let body = read_body(request).await?;
    // One that is not registered is told what one with a wrong secret is told.
    let signer = api.signers.of(&bot).ok_or(NotSigned::Wrong);
    let signed = signer.and_then(|signer| {
        let signed = verify(&signer, &headers, &body, Timestamp::now())?;
        Ok((signer.key, signed))
    });
    let (key, signed) = signed.map_err(|why| not_signed(&bot, &why))?;
    let presented = Presented {
        bot,
        key,
        nonce: signed.id,
        signed_at: signed.at,
    };
    let request = parse_body(&body).map_err(ApiFailure::invalid)?;
    Ok((presented, request))
}

fn not_signed(bot: &str, why: &NotSigned) -> ApiFailure {
    let code = match why {
        NotSigned::Header(..) => "not_signed",
        NotSigned::Wrong => "wrong_signature",
        NotSigned::OutOfTime(_) => "out_of_time",
    };
    let error = format!("this is not a request of the external bot {bot}: {why}");
    ApiFailure::new(StatusCode::UNAUTHORIZED, code, error)
}

/// Which attempt is meant.
fn attempt(
    api: &Shared,
    task: &str,
    lease: Option<&str>,
    attempt: Option<u32>,
) -> Result<Attempt, ApiFailure> {
    let unknown = || ApiFailure::not_found(format!("Task {task} not found"));
    let task: TaskId = task.parse().map_err(|_| unknown())?;
    let by_hand = attempt.map(|attempt| Fence {
        epoch: api.store.epoch(),
        attempt,
    });
    let fence = match lease {
        Some(lease) => fence_of(&task, lease),
        None => by_hand,
    };
    let fence = fence.filter(|fence| by_hand.is_none_or(|named| named.attempt == fence.attempt));
    let Some(fence) = fence else {
        return Err(ApiFailure::conflict(
            "late",
            format!("the lease is none of task {task}: send back the `lease` that came with it"),
        ));
    };
    Ok(Attempt { task, fence })
}

/// What a bot shows of its attempt. It names the task: a signature does not cover the path.
fn lease_of(task: &TaskId, fence: Fence) -> String {
    let mut hash = Sha256::new();
    hash.update(fence.epoch.to_le_bytes());
    hash.update(fence.attempt.to_le_bytes());
    hash.update(task.as_str().as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, ..] = hash;
    let tag = u32::from_be_bytes([a, b, c, d]);
    format!("{:016x}-{}-{tag:08x}", fence.epoch, fence.attempt)
}

fn fence_of(task: &TaskId, lease: &str) -> Option<Fence> {
    let mut parts = lease.split('-');
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    let attempt = parts.next()?.parse().ok()?;
    let fence = Fence { epoch, attempt };
    (lease_of(task, fence) == lease).then_some(fence)
}

async fn leased_task(api: &Shared, granted: Granted) -> LeasedTask {
    // It is for the bot to see; without it the task can be done all the same.
    let record = api.store.task(granted.task.clone()).await;
    let metadata = record.ok().flatten().and_then(|record| record.metadata);
    let metadata = metadata.and_then(|text| serde_json::from_str(&text).ok());
    LeasedTask {
        lease: lease_of(&granted.task, granted.fence),
        task_id: granted.task.to_string(),
        content: granted.content.to_string(),
        attempt: granted.fence.attempt,
        timeout_seconds: granted.timeout_ms as f64 / 1000.0,
        task_type: granted.task_type,
        priority: granted.priority,
        metadata: metadata.unwrap_or(Value::Null),
    }
}

fn stopping() -> ApiFailure {
    ApiFailure::unavailable("stopping", "the daemon is stopping", 1)
}

/// What the main loop refuses of external bots, as HTTP says it. `about`: the bot, or the task.
pub(super) fn refusal(why: Refused, about: &str) -> ApiFailure {
    match why {
        Refused::AlreadyRegistered(bot) => ApiFailure::conflict(
            "already_registered",
            format!(
                "{bot} is registered: with `rotate: true` it gets a new secret, and the old one is refused at once"
            ),
        ),
        Refused::NameOfPool(pool) => ApiFailure::conflict(
            "name_taken",
            format!("the bots of pool {pool} have or can have this name: choose another"),
        ),
        Refused::NotRegistered(bot) => {
            ApiFailure::not_found(format!("External bot {bot} not found"))
        }
        Refused::TooManyExternal(most) => ApiFailure::unavailable(
            "too_many_bots",
            format!("{most} external bots are registered already: unregister some"),
            60,
        ),
        Refused::OldSecret => ApiFailure::new(
            StatusCode::UNAUTHORIZED,
            "wrong_signature",
            "the secret was replaced: sign with the new one",
        ),
        Refused::Repeated => ApiFailure::conflict(
            "repeated_id",
            "this webhook-id was used before: sign anew, with another one",
        ),
        Refused::Forgotten => ApiFailure::new(
            StatusCode::UNAUTHORIZED,
            "out_of_time",
            "it was signed before something that is forgotten already, so nobody knows whether it was taken: set the clocks right, or register the bot anew with `rotate: true`",
        ),
        Refused::AfterRestore(seconds) => ApiFailure::unavailable(
            "after_restore",
            format!(
                "the store is new or was restored: for {seconds} s no signed request is taken, so that none is taken twice"
            ),
            seconds,
        ),
        Refused::TooManySigned(most) => ApiFailure::too_many_requests(
            format!("{most} requests of this bot are remembered: send fewer, and larger ones"),
            10,
        ),
        Refused::Superseded => ApiFailure::conflict(
            "superseded",
            "another run of this bot's program (`instance`) has taken over: end this one",
        ),
        Refused::TooManyPolls(most) => ApiFailure::too_many_requests(
            format!("{most} requests of this bot wait for tasks already"),
            1,
        ),
        Refused::LateAttempt => ApiFailure::conflict(
            "late",
            format!(
                "task {about} is not this bot's any more under this lease: it ended, was cancelled, or was given to another. Forget it"
            ),
        ),
        Refused::OutputGap(bytes) => ApiFailure::conflict(
            "gap",
            format!(
                "{bytes} bytes of output are here: go on from there, or send all of it with `complete`"
            ),
        ),
        Refused::TooMuchOutput(most) => ApiFailure::too_large(format!(
            "a task of an external bot has at most {most} bytes of output"
        )),
        Refused::Busy => ApiFailure::unavailable("busy", "too much of this is under way", 1),
        other => ApiFailure::internal(format!("a refusal without words: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_of_its_task_and_its_attempt() {
        let (one, other): (TaskId, TaskId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let fence = Fence {
            epoch: u64::MAX - 5,
            attempt: 3,
        };
        let lease = lease_of(&one, fence);
        assert_eq!(fence_of(&one, &lease), Some(fence));
        assert_eq!(fence_of(&other, &lease), None);
        for wrong in [
            "",
            "1",
            "1-3",
            &lease.replace("-3-", "-4-"),
            &lease.replace("-3-", "-03-"),
            &lease.to_uppercase(),
            &format!("{lease}0"),
        ] {
            assert_eq!(fence_of(&one, wrong), None, "{wrong}");
        }
    }
}
