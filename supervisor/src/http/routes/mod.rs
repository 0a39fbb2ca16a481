//! The routes: one file a noun, each a thin translation between HTTP and the main loop or the store.

pub mod audit;
pub mod bots;
pub mod config;
pub mod dashboard;
pub mod deployments;
pub mod documents;
pub mod events;
pub mod explain;
pub mod external;
pub mod health;
pub mod learning;
pub mod messages;
pub mod metrics;
pub mod monitoring;
pub mod openai;
pub mod orchestrate;
pub mod output;
pub mod pages;
pub mod processes;
pub mod recovery;
pub mod reports;
pub mod rollback;
pub mod scaling;
pub mod status;
pub mod submit;
pub mod tasks;
pub mod tokens;
pub mod upgrade;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use deia::api::{BotView, Confinement, Scope};
use deia::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiFailure;
use super::lasting::Lasting;
use super::scope::{ScopedRouter, assemble, complete, open, scoped};
use crate::audit::{Actor, Entry};
use crate::daemon::command::{Command, MAX_STRANGERS, Noted, Refused};
use crate::daemon::health::Condition;
use crate::daemon::recovery::Desk;
use crate::daemon::reload::ConfigHandle;
use crate::daemon::rollback::Rollbacks;
use crate::daemon::upgrade::Upgrader;
use crate::daemon::validation::Validation;
use crate::external::Signers;
use crate::fleet::outputs::Outputs;
use crate::health::Health;
use crate::http::meter::HttpMeter;
use crate::logs::LogHandle;
use crate::store::Store;
use crate::tokens::TokenBook;
use crate::usage::Usage;

/// What handlers work with.
pub struct Api {
    /// Requests to the main loop.
    pub commands: mpsc::Sender<Command>,
    /// For reads.
    pub store: Arc<dyn Store>,
    /// What running tasks say.
    pub outputs: Outputs,
    /// The configuration, and its reload.
    pub config: ConfigHandle,
    /// What was refused for what it holds.
    pub validation: Validation,
    /// The daemon's condition.
    pub condition: watch::Receiver<Condition>,
    /// How the fleet is.
    pub health: Health,
    /// What processes use.
    pub usage: Usage,
    /// Answers that last.
    pub lasting: Lasting,
    /// API tokens.
    pub tokens: Arc<TokenBook>,
    /// Switches to other releases.
    pub upgrader: Upgrader,
    /// Goes back to earlier ones.
    pub rollbacks: Rollbacks,
    /// True once another process is about to go on: what lasts ends then, with a hint.
    pub leaving: watch::Receiver<bool>,
    /// Backups and restores.
    pub recovery: Desk,
    /// HOME.
    pub home: PathBuf,
    /// When the daemon started.
    pub epoch: Instant,
    /// The same, as people know it.
    pub began: Timestamp,
    /// Counts requests.
    pub meter: Arc<HttpMeter>,
    /// The log, for those who follow it.
    pub log: LogHandle,
    /// The TCP port.
    pub port: u16,
    /// How far bots can be confined here.
    pub confinement: Confinement,
    /// The last checkpoint of the audit trail.
    pub audit_head: PathBuf,
    /// What proves the requests of external bots.
    pub signers: Signers,
}

/// The state of every handler.
pub type Shared = Arc<Api>;

impl Api {
    /// Asks the main loop.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ApiFailure> {
        let (reply, answer) = oneshot::channel();
        let ending = |_| ApiFailure::unavailable("stopping", "the daemon is stopping", 1);
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| ending(()))?;
        answer.await.map_err(|_| ending(()))
    }

    /// Asks the main loop for somebody: what comes of it is on record as theirs.
    pub(super) async fn ask_as<T>(
        &self,
        actor: Actor,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ApiFailure> {
        self.ask(|reply| Command::As(actor, Box::new(command(reply))))
            .await
    }

    /// Puts on record what was done elsewhere than in the main loop. `Ok` after the commit.
    pub(super) async fn note(&self, actor: Actor, entry: Entry) -> Result<Noted, ApiFailure> {
        let entry = Box::new(entry);
        let noted = self
            .ask_as(actor, |reply| Command::Note { entry, reply })
            .await?;
        noted.map_err(|why| refused(why, ""))
    }

    /// Every bot, with what its processes take: memory now, CPU as last looked at.
    pub(super) async fn with_usage(&self, bots: Vec<BotView>) -> Vec<BotView> {
        let mut bots = self.usage.of(bots).await;
        let seen = self.health.observations();
        for bot in &mut bots {
            let used = seen.bot(&bot.id).filter(|used| Some(used.pid) == bot.pid);
            if let Some(cpu) = used.and_then(|used| used.cpu) {
                bot.cpu_percent = Some(cpu);
            }
        }
        bots
    }

    /// Waits until another process is about to go on.
    pub(super) async fn until_leaving(&self) {
        let mut leaving = self.leaving.clone();
        if leaving.wait_for(|leaving| *leaving).await.is_err() {
            std::future::pending().await
        }
    }
}

/// A refusal of the main loop, as HTTP says it.
pub(super) fn refused(why: Refused, task: &str) -> ApiFailure {
    match why {
        Refused::Unsuitable => ApiFailure::not_found("No suitable bot available"),
        Refused::Conflict => ApiFailure::conflict(
            "task_id_conflict",
            format!(
                "the task_id {task} belongs to another request: use a new one, or send the very same request"
            ),
        ),
        Refused::Draining(why) => {
            ApiFailure::unavailable("draining", format!("new tasks are not accepted: {why}"), 5)
        }
        Refused::QueueFull(most) => ApiFailure::unavailable(
            "queue_full",
            format!("{most} tasks wait already: ask again later, or raise tasks.max_queued"),
            5,
        ),
        Refused::TooManyDemands(most) => ApiFailure::unavailable(
            "too_many_demands",
            format!(
                "tasks with {most} different sets of what they need wait already: ask again when some of them are done"
            ),
            5,
        ),
        Refused::Store(why) => ApiFailure::unavailable("store_unavailable", why, 1),
        Refused::Unrecorded(why) => ApiFailure::unavailable(
            "not_recorded",
            format!(
                "it was done, but its audit record is not on disk yet ({why}); it is written once the store takes writes again"
            ),
            1,
        ),
        Refused::UnknownTask => ApiFailure::not_found(format!("Task {task} not found")),
        Refused::UnknownMessage => ApiFailure::not_found(format!("Message {task} not found")),
        Refused::InboxFull(bot) => ApiFailure::unavailable(
            "inbox_full",
            format!(
                "{bot} has {} unread messages: they have to be read, or to expire, before it gets more",
                deia::message::MAX_UNREAD
            ),
            60,
        ),
        Refused::TooManyNames => ApiFailure::unavailable(
            "too_many_names",
            format!(
                "there is something of {MAX_STRANGERS} names already that no bot of this configuration can have: use names of its bots, or add a pool for them"
            ),
            60,
        ),
        Refused::MessagingOff => ApiFailure::unavailable(
            "messaging_disabled",
            "messages are off (feature_flags.messaging_enabled)",
            60,
        ),
        Refused::WrongStatus(status) => {
            let text = format!(
                "task {task} is {status}: what waits or runs can be cancelled, what is dead, cancelled or expired can be tried again"
            );
            ApiFailure::conflict("wrong_status", text)
        }
        Refused::Limits(why) => ApiFailure::bad_request("limits", why),
        Refused::UnknownPool(pool) => ApiFailure::not_found(format!("Pool {pool} not found")),
        other => external::refusal(other, task),
    }
}

/// The whole service and its document.
pub fn service(api: Shared) -> (Router, OpenApi) {
    let meter = api.meter.clone();
    let (router, document) = assemble(all(), api);
    meter.know(&document);
    (router, document)
}

/// The document alone: `openapi.json`.
pub fn document() -> OpenApi {
    use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApiBuilder};
    let mut routes = all();
    let document = routes.openapi_mut();
    complete(document);
    let info = InfoBuilder::new()
        .title("deia")
        .version(deia::VERSION)
        .description(Some(
            "A supervisor daemon for a fleet of LLM bots. `x-scope` is what a caller needs.",
        ))
        .license(Some(LicenseBuilder::new().name("MIT").build()));
    OpenApiBuilder::from(std::mem::take(document))
        .info(info.build())
        .build()
}

fn all() -> ScopedRouter<Shared> {
    let public = OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(pages::dashboard))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::redoc))
        .routes(routes!(pages::asset));
    let read = OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(output::output))
        .routes(routes!(explain::explain))
        .routes(routes!(learning::recommendation))
        .routes(routes!(learning::bot_performance))
        .routes(routes!(learning::task_type))
        .routes(routes!(learning::insights))
        .routes(routes!(learning::history))
        .routes(routes!(messages::inbox))
        .routes(routes!(messages::status))
        .routes(routes!(messages::conversation))
        .routes(routes!(audit::query))
        .routes(routes!(audit::actor))
        .routes(routes!(audit::target))
        .routes(routes!(audit::critical))
        .routes(routes!(audit::verify))
        .routes(routes!(audit::statistics))
        .routes(routes!(bots::list))
        .routes(routes!(bots::show))
        .routes(routes!(scaling::status))
        .routes(routes!(orchestrate::status))
        .routes(routes!(orchestrate::bot_status))
        .routes(routes!(config::current))
        .routes(routes!(config::value))
        .routes(routes!(config::status))
        .routes(routes!(dashboard::health))
        .routes(routes!(dashboard::alerts))
        .routes(routes!(processes::one))
        .routes(routes!(processes::all))
        .routes(routes!(processes::leak))
        .routes(routes!(recovery::history))
        .routes(routes!(recovery::restore_point_view))
        .routes(routes!(recovery::status))
        .routes(routes!(monitoring::api_status))
        .routes(routes!(monitoring::queue_status))
        .routes(routes!(monitoring::bottlenecks))
        .routes(routes!(monitoring::failure_stats))
        .routes(routes!(monitoring::cascade_risk))
        .routes(routes!(monitoring::trends))
        .routes(routes!(monitoring::snapshot))
        .routes(routes!(monitoring::history))
        .routes(routes!(metrics::metrics))
        .routes(routes!(events::events))
        .routes(routes!(deployments::deployments))
        .routes(routes!(openai::models))
        .routes(routes!(rollback::state))
        .routes(routes!(documents::openapi));
    let submit = OpenApiRouter::new()
        .routes(routes!(submit::orchestrate))
        .routes(routes!(submit::batch))
        .routes(routes!(reports::add_task))
        .routes(routes!(openai::chat_completions))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(audit::log))
        .routes(routes!(messages::send))
        .routes(routes!(messages::broadcast))
        .routes(routes!(messages::read))
        .routes(routes!(messages::process_queue))
        .routes(routes!(messages::of_this_bot))
        .routes(routes!(messages::to_this_bot));
    let bot = OpenApiRouter::new()
        .routes(routes!(learning::record))
        .routes(routes!(reports::complete_task))
        .routes(routes!(reports::record_failure))
        .routes(routes!(external::lease))
        .routes(routes!(external::heartbeat))
        .routes(routes!(external::output))
        .routes(routes!(external::complete))
        .routes(routes!(external::fail));
    let admin = OpenApiRouter::new()
        .routes(routes!(tokens::list))
        .routes(routes!(tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(bots::start))
        .routes(routes!(bots::stop))
        .routes(routes!(bots::restart))
        .routes(routes!(bots::interrupt))
        .routes(routes!(bots::interrupt_all))
        .routes(routes!(bots::terminate))
        .routes(routes!(external::register))
        .routes(routes!(external::unregister))
        .routes(routes!(scaling::limits))
        .routes(routes!(scaling::evaluate))
        .routes(routes!(scaling::scale_up))
        .routes(routes!(scaling::scale_down))
        .routes(routes!(config::reload))
        .routes(routes!(config::check_reload))
        .routes(routes!(dashboard::evaluate))
        .routes(routes!(dashboard::resolve))
        .routes(routes!(recovery::backup))
        .routes(routes!(recovery::verify))
        .routes(routes!(recovery::restore))
        .routes(routes!(recovery::restore_point))
        .routes(routes!(recovery::mark_shutdown))
        .routes(routes!(rollback::rollback))
        .routes(routes!(upgrade::upgrade));
    open(public)
        .merge(scoped(Scope::Read, read))
        .merge(scoped(Scope::Submit, submit))
        .merge(scoped(Scope::Bot, bot))
        .merge(scoped(Scope::Admin, admin))
}
