//! The routes, typed.

use std::time::Duration;

use serde_json::Value;

use crate::api::{AlertLevel, AlertList, ResolveAnswer};

use super::http::{ANSWER_TIMEOUT, Call, Client, Reply, retry_after, segment, with_query};
use super::{ClientError, OutputStream, Refusal};
use crate::api::{
    AuditEntries, AuditQuery, AuditVerified, BackupAnswer, BackupHistory, BackupRequest,
    BatchAnswer, BotActionAnswer, BotList, BotView, BroadcastAnswer, BroadcastRequest,
    CheckReloadAnswer, ConfigStatus, ConfigValue, Conversation, ConversationQuery, Deployments,
    Health, Inbox, InboxQuery, LimitsAnswer, LimitsRequest, OutputView, Probe, ReadAnswer,
    RecoveryStatus, RegisterAnswer, RegisterRequest, ReloadAnswer, RestoreAnswer, RollbackAnswer,
    RollbackRequest, RollbackState, ScalingStatus, SendAnswer, SendRequest, Status, SubmitAnswer,
    SubmitRequest, TaskActionAnswer, TaskPage, TaskQuery, TaskView, UnregisterAnswer,
    UpgradeAnswer, UpgradeRequest, VerifyAnswer,
};

/// How long a batch may take: it is committed in groups, and each has its own fsync.
const BATCH_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a release's self-check may take: it tries a copy of the store.
const CHECK_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a backup, or reading one, may take: large ones take minutes.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a verification of the audit trail may take: it looks at every record.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a reload may take: the daemon answers when it is applied.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What can be asked of one bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BotAction {
    /// Give it a process.
    Start,
    /// Drain it and end its process.
    Stop,
    /// Both, in this order.
    Restart,
    /// End its running tasks; the bot stays.
    Interrupt,
}

impl BotAction {
    /// The last segment of its route.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Interrupt => "interrupt",
        }
    }
}

pub(super) type Answer<T> = Result<Reply<T>, ClientError>;

impl Client {
    /// `GET /health`; an unusable daemon's 503 is an error.
    pub async fn health(&self) -> Answer<Health> {
        self.get("/health").await
    }

    /// `GET /health/live`; also an answer when it is 503.
    pub async fn live(&self) -> Answer<Probe> {
        self.probe("/health/live").await
    }

    /// `GET /health/ready`; also an answer when it is 503.
    pub async fn ready(&self) -> Answer<Probe> {
        self.probe("/health/ready").await
    }

    async fn probe(&self, path: &str) -> Answer<Probe> {
        self.call(Call {
            accept: Some(reqwest::StatusCode::SERVICE_UNAVAILABLE),
            ..Call::get(path)
        })
        .await
    }

    /// `GET /status`.
    pub async fn status(&self) -> Answer<Status> {
        self.get("/status").await
    }

    /// `POST /api/orchestrate`. With `wait_seconds` the answer may take that much longer.
    pub async fn submit(&self, request: &SubmitRequest) -> Answer<SubmitAnswer> {
        let waits = request.wait_seconds.unwrap_or(0.0).max(0.0);
        let waits = Duration::try_from_secs_f64(waits).unwrap_or(Duration::ZERO);
        self.call(Call {
            body: Some(self.encode(request)?),
            timeout: ANSWER_TIMEOUT.saturating_add(waits),
            ..Call::post("/api/orchestrate")
        })
        .await
    }

    /// `POST /api/orchestrate/batch`.
    pub async fn submit_batch(&self, requests: &[SubmitRequest]) -> Answer<BatchAnswer> {
        self.call(Call {
            body: Some(self.encode(&requests)?),
            timeout: BATCH_TIMEOUT,
            ..Call::post("/api/orchestrate/batch")
        })
        .await
    }

    /// `GET /api/tasks`.
    pub async fn tasks(&self, query: &TaskQuery) -> Answer<TaskPage> {
        let values = [
            ("status", query.status.map(|s| s.to_string())),
            ("bot", query.bot.clone()),
            ("type", query.task_type.map(|t| t.to_string())),
            ("priority", query.priority.map(|p| p.to_string())),
            ("limit", query.limit.map(|l| l.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        self.get(&with_query("/api/tasks", &values)).await
    }

    /// `GET /api/tasks/{id}`.
    pub async fn task(&self, id: &str) -> Answer<TaskView> {
        self.get(&format!("/api/tasks/{}", segment(id))).await
    }

    /// `GET /api/tasks/{id}/output`: everything so far.
    pub async fn output(&self, id: &str) -> Answer<OutputView> {
        self.get(&format!("/api/tasks/{}/output", segment(id)))
            .await
    }

    /// `GET /api/tasks/{id}/output?follow=true`: everything so far, then what comes.
    pub async fn follow(&self, id: &str) -> Result<OutputStream, ClientError> {
        let path = format!("/api/tasks/{}/output?follow=true", segment(id));
        let response = self
            .send(Call {
                timeout: Duration::ZERO,
                ..Call::get(&path)
            })
            .await?;
        let status = response.status().as_u16();
        if response.status().is_success() {
            return Ok(OutputStream::new(response, self.target().to_string()));
        }
        let retry_after_seconds = retry_after(&response);
        let body = response.bytes().await.unwrap_or_default();
        Err(ClientError::Refused {
            status,
            refusal: Refusal::parse(status, &body),
            retry_after_seconds,
        })
    }

    /// `GET /api/tasks/{id}/explain`: why it went where it went.
    pub async fn explain(&self, id: &str) -> Answer<Value> {
        self.get(&format!("/api/tasks/{}/explain", segment(id)))
            .await
    }

    /// `POST /api/tasks/{id}/cancel`.
    pub async fn cancel(&self, id: &str) -> Answer<TaskActionAnswer> {
        let path = format!("/api/tasks/{}/cancel", segment(id));
        self.call(Call::post(&path)).await
    }

    /// `POST /api/tasks/{id}/retry`.
    pub async fn retry(&self, id: &str) -> Answer<TaskActionAnswer> {
        let path = format!("/api/tasks/{}/retry", segment(id));
        self.call(Call::post(&path)).await
    }

    /// `POST /api/messaging/send`.
    pub async fn send_message(&self, request: &SendRequest) -> Answer<SendAnswer> {
        self.call(Call {
            body: Some(self.encode(request)?),
            ..Call::post("/api/messaging/send")
        })
        .await
    }

    /// `POST /api/messaging/broadcast`.
    pub async fn broadcast(&self, request: &BroadcastRequest) -> Answer<BroadcastAnswer> {
        self.call(Call {
            body: Some(self.encode(request)?),
            ..Call::post("/api/messaging/broadcast")
        })
        .await
    }

    /// `GET /api/messaging/inbox`.
    pub async fn inbox(&self, query: &InboxQuery) -> Answer<Inbox> {
        let values = [
            ("bot_id", query.bot_id.clone()),
            ("priority", query.priority.map(|p| p.to_string())),
            ("limit", query.limit.map(|n| n.to_string())),
        ];
        self.get(&with_query("/api/messaging/inbox", &values)).await
    }

    /// `POST /api/messaging/read/{message_id}`.
    pub async fn read_message(&self, id: &str) -> Answer<ReadAnswer> {
        let path = format!("/api/messaging/read/{}", segment(id));
        self.call(Call::post(&path)).await
    }

    /// `GET /api/messaging/conversation/{other}`.
    pub async fn conversation(
        &self,
        other: &str,
        query: &ConversationQuery,
    ) -> Answer<Conversation> {
        let path = format!("/api/messaging/conversation/{}", segment(other));
        let values = [
            ("bot_id", query.bot_id.clone()),
            ("limit", query.limit.map(|n| n.to_string())),
        ];
        self.get(&with_query(&path, &values)).await
    }

    /// `GET /api/audit/query`.
    pub async fn audit(&self, query: &AuditQuery) -> Answer<AuditEntries> {
        let values = [
            ("action", query.action.map(|word| word.to_string())),
            ("actor", query.actor.clone()),
            ("target", query.target.clone()),
            ("level", query.level.map(|word| word.to_string())),
            ("result", query.result.map(|word| word.to_string())),
            ("limit", query.limit.map(|limit| limit.to_string())),
            ("cursor", query.cursor.clone()),
        ];
        self.get(&with_query("/api/audit/query", &values)).await
    }

    /// `GET /api/audit/verify`.
    pub async fn audit_verify(&self) -> Answer<AuditVerified> {
        self.call(Call {
            timeout: AUDIT_TIMEOUT,
            ..Call::get("/api/audit/verify")
        })
        .await
    }

    /// `GET /api/bots`.
    pub async fn bots(&self) -> Answer<BotList> {
        self.get("/api/bots").await
    }

    /// `GET /api/bots/{id}`.
    pub async fn bot(&self, id: &str) -> Answer<BotView> {
        self.get(&format!("/api/bots/{}", segment(id))).await
    }

    /// `POST /api/bots/{id}/start|stop|restart|interrupt`.
    pub async fn bot_action(&self, id: &str, action: BotAction) -> Answer<BotActionAnswer> {
        let path = format!("/api/bots/{}/{}", segment(id), action.as_str());
        self.call(Call::post(&path)).await
    }

    /// `POST /api/orchestrate/register-bot`.
    pub async fn register_bot(&self, request: &RegisterRequest) -> Answer<RegisterAnswer> {
        self.post("/api/orchestrate/register-bot", request).await
    }

    /// `POST /api/bots/{id}/unregister`.
    pub async fn unregister_bot(&self, id: &str) -> Answer<UnregisterAnswer> {
        let path = format!("/api/bots/{}/unregister", segment(id));
        self.call(Call::post(&path)).await
    }

    /// `GET /api/scaling/status`.
    pub async fn scaling_status(&self) -> Answer<ScalingStatus> {
        self.get("/api/scaling/status").await
    }

    /// `POST /api/scaling/limits`.
    pub async fn set_limits(&self, request: &LimitsRequest) -> Answer<LimitsAnswer> {
        self.post("/api/scaling/limits", request).await
    }

    /// `GET /api/dashboard/alerts`.
    pub async fn alerts(&self, level: Option<AlertLevel>) -> Answer<AlertList> {
        let values = [("level", level.map(|level| level.as_str().to_owned()))];
        self.get(&with_query("/api/dashboard/alerts", &values))
            .await
    }

    /// `POST /api/dashboard/alerts/{id}/resolve`.
    pub async fn resolve_alert(&self, id: &str) -> Answer<ResolveAnswer> {
        let path = format!("/api/dashboard/alerts/{}/resolve", segment(id));
        self.call(Call::post(&path)).await
    }

    /// `GET /api/config/current`.
    pub async fn config_current(&self) -> Answer<Value> {
        self.get("/api/config/current").await
    }

    /// `GET /api/config/value/{dotted}`.
    pub async fn config_value(&self, key: &str) -> Answer<ConfigValue> {
        self.get(&format!("/api/config/value/{}", segment(key)))
            .await
    }

    /// `GET /api/config/status`.
    pub async fn config_status(&self) -> Answer<ConfigStatus> {
        self.get("/api/config/status").await
    }

    /// `POST /api/config/reload`.
    pub async fn reload(&self) -> Answer<ReloadAnswer> {
        self.call(Call {
            timeout: RELOAD_TIMEOUT,
            ..Call::post("/api/config/reload")
        })
        .await
    }

    /// `POST /api/upgrade`: answered once the release was checked.
    pub async fn upgrade(&self, request: &UpgradeRequest) -> Answer<UpgradeAnswer> {
        self.call(Call {
            body: Some(self.encode(request)?),
            timeout: CHECK_TIMEOUT,
            ..Call::post("/api/upgrade")
        })
        .await
    }

    /// `POST /api/rollback`: answered once release and backup were checked.
    pub async fn rollback(&self, request: &RollbackRequest) -> Answer<RollbackAnswer> {
        self.call(Call {
            body: Some(self.encode(request)?),
            timeout: BACKUP_TIMEOUT,
            ..Call::post("/api/rollback")
        })
        .await
    }

    /// `GET /api/rollback`
    pub async fn rollback_state(&self) -> Answer<RollbackState> {
        self.get("/api/rollback").await
    }

    /// `GET /api/deployments`
    pub async fn deployments(&self) -> Answer<Deployments> {
        self.get("/api/deployments").await
    }

    /// `POST /api/disaster-recovery/backup`: answered once it is on disk.
    pub async fn backup(&self, request: &BackupRequest) -> Answer<BackupAnswer> {
        self.call(Call {
            body: Some(self.encode(request)?),
            timeout: BACKUP_TIMEOUT,
            ..Call::post("/api/disaster-recovery/backup")
        })
        .await
    }

    /// `GET /api/disaster-recovery/backup-history`.
    pub async fn backup_history(&self, limit: u32) -> Answer<BackupHistory> {
        let values = [("limit", Some(limit.to_string()))];
        let path = "/api/disaster-recovery/backup-history";
        self.get(&with_query(path, &values)).await
    }

    /// `POST /api/disaster-recovery/verify/{id}`.
    pub async fn verify_backup(&self, id: &str) -> Answer<VerifyAnswer> {
        let path = format!("/api/disaster-recovery/verify/{}", segment(id));
        self.call(Call {
            timeout: BACKUP_TIMEOUT,
            ..Call::post(&path)
        })
        .await
    }

    /// `POST /api/disaster-recovery/restore/{id}`: answered once everything is checked. With `file` that archive.
    pub async fn restore(
        &self,
        id: &str,
        dry_run: bool,
        file: Option<String>,
    ) -> Answer<RestoreAnswer> {
        let path = format!("/api/disaster-recovery/restore/{}", segment(id));
        let values = [("dry_run", Some(dry_run.to_string())), ("file", file)];
        self.call(Call {
            timeout: BACKUP_TIMEOUT,
            ..Call::post(&with_query(&path, &values))
        })
        .await
    }

    /// `GET /api/disaster-recovery/status`.
    pub async fn recovery_status(&self) -> Answer<RecoveryStatus> {
        self.get("/api/disaster-recovery/status").await
    }

    /// `POST /api/config/check-reload`.
    pub async fn check_reload(&self) -> Answer<CheckReloadAnswer> {
        self.call(Call {
            timeout: RELOAD_TIMEOUT,
            ..Call::post("/api/config/check-reload")
        })
        .await
    }
}
