//! The configuration as types, with every default.
//!
//! Loading, rules and messages are elsewhere in this folder; this file is only what a valid
//! configuration *is*. Field names are the keys of the file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BackendSpec, ModelServer, Pool};

/// A whole, valid configuration: every default filled in, every pool's backend resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Free text: the configuration's own version.
    pub version: String,
    /// Free text: `production`, `staging`, `development`, ...
    pub environment: String,
    /// More detail in logs.
    pub debug: bool,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// When to raise alerts.
    pub thresholds: Thresholds,
    /// How many bots, over all pools.
    pub bot_limits: BotLimits,
    /// Time-outs and intervals, in seconds.
    pub timeouts: Timeouts,
    /// Features that can be switched off.
    pub feature_flags: FeatureFlags,
    /// What routing learns.
    pub learning: Learning,
    /// Directories and backups.
    pub persistence: Persistence,
    /// What to do with a damaged store.
    pub disaster_recovery: DisasterRecovery,
    /// The audit trail.
    pub audit: Audit,
    /// Free-form, for the operator's own use; shown, never interpreted.
    pub custom: serde_json::Map<String, serde_json::Value>,
    /// The pools, in the order of the file.
    pub bots: Vec<Pool>,
    /// Named defaults of backends.
    pub backends: Backends,
    /// Limits on tasks.
    pub tasks: Tasks,
    /// How bots are watched and restarted.
    pub supervision: Supervision,
    /// When bots are added and removed.
    pub scaling: Scaling,
    /// The HTTP listener.
    pub http: Http,
    /// Requests per minute.
    pub rate_limits: RateLimits,
    /// Where alerts go besides the log.
    pub alerts: Alerts,
    /// Log files.
    pub logging: Logging,
    /// Where tasks live.
    pub store: Store,
    /// Metrics and traces.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        let backends = Backends::default();
        let main_bot = Pool::new("main-bot", BackendSpec::Ollama(backends.ollama.clone()));
        Self {
            version: "1.0".into(),
            environment: "production".into(),
            debug: false,
            log_level: LogLevel::Info,
            thresholds: Thresholds::default(),
            bot_limits: BotLimits::default(),
            timeouts: Timeouts::default(),
            feature_flags: FeatureFlags::default(),
            learning: Learning::default(),
            persistence: Persistence::default(),
            disaster_recovery: DisasterRecovery::default(),
            audit: Audit::default(),
            custom: serde_json::Map::new(),
            bots: vec![main_bot],
            backends,
            tasks: Tasks::default(),
            supervision: Supervision::default(),
            scaling: Scaling::default(),
            http: Http::default(),
            rate_limits: RateLimits::default(),
            alerts: Alerts::default(),
            logging: Logging::default(),
            store: Store::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// Log levels, least severe first. The names of the Python original are accepted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The default.
    Info,
    /// Warnings and worse.
    Warning,
    /// The daemon's own faults only.
    Error,
    /// The same as `ERROR` here.
    Critical,
}

/// Alert thresholds. Fractions are 0-1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thresholds {
    /// Host CPU, warning.
    pub cpu_warning_percent: f64,
    /// Host CPU, critical.
    pub cpu_critical_percent: f64,
    /// Host memory, warning.
    pub memory_warning_percent: f64,
    /// Host memory, critical.
    pub memory_critical_percent: f64,
    /// Queued tasks.
    pub queue_backlog_threshold: u64,
    /// Success rate below which bots are said to fail.
    pub bot_failure_threshold: f64,
    /// Undelivered messages.
    pub message_failure_threshold: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            cpu_warning_percent: 0.80,
            cpu_critical_percent: 0.95,
            memory_warning_percent: 0.75,
            memory_critical_percent: 0.90,
            queue_backlog_threshold: 10,
            bot_failure_threshold: 0.30,
            message_failure_threshold: 5,
        }
    }
}

/// Limits over all pools. `max_bots: 0` means: refuse new tasks, finish, stop the bots.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BotLimits {
    /// At least this many bots run (0 when `max_bots` is 0).
    pub min_bots: u32,
    /// At most this many bots run.
    pub max_bots: u32,
    /// Default of a pool's `max_concurrent_tasks`.
    pub max_concurrent_tasks_per_bot: u32,
    /// Accepted for old files; bots here use a local socket, not ports.
    pub port_range_start: u32,
    /// Accepted for old files.
    pub port_range_end: u32,
}

impl Default for BotLimits {
    fn default() -> Self {
        Self {
            min_bots: 1,
            max_bots: 10,
            max_concurrent_tasks_per_bot: 3,
            port_range_start: 8001,
            port_range_end: 8999,
        }
    }
}

/// Time-outs and intervals, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeouts {
    /// Total time of one attempt, unless the task names its own.
    pub task_timeout_seconds: u64,
    /// How long an undelivered message lives.
    pub message_ttl_seconds: u64,
    /// Between two health samples.
    pub bot_health_check_interval_seconds: u64,
    /// Between two scaling evaluations.
    pub scaling_evaluation_interval_seconds: u64,
    /// A changed file is noticed at the latest after this.
    pub config_reload_check_interval_seconds: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            task_timeout_seconds: 3600,
            message_ttl_seconds: 3600,
            bot_health_check_interval_seconds: 30,
            scaling_evaluation_interval_seconds: 60,
            config_reload_check_interval_seconds: 300,
        }
    }
}

/// Switches, all on by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeatureFlags {
    /// Messages between bots.
    pub messaging_enabled: bool,
    /// What was learned feeds routing.
    pub adaptive_scheduling_enabled: bool,
    /// Health samples and alerts.
    pub health_monitoring_enabled: bool,
    /// Bots are added and removed by load.
    pub auto_scaling_enabled: bool,
    /// The audit trail.
    pub audit_logging_enabled: bool,
    /// Degrade by steps when backends are down.
    pub graceful_degradation_enabled: bool,
    /// Refuse dangerous content.
    pub request_validation_enabled: bool,
    /// Timings in the log.
    pub performance_profiling_enabled: bool,
}

impl Default for FeatureFlags {
    fn default() -> Self {
        Self {
            messaging_enabled: true,
            adaptive_scheduling_enabled: true,
            health_monitoring_enabled: true,
            auto_scaling_enabled: true,
            audit_logging_enabled: true,
            graceful_degradation_enabled: true,
            request_validation_enabled: true,
            performance_profiling_enabled: true,
        }
    }
}

/// What routing learns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Learning {
    /// Weight of a new sample in the moving averages, 0 < x < 1.
    pub learning_rate: f64,
    /// Samples before a bot is recommended.
    pub min_samples_for_recommendation: u32,
    /// Confidence below which a recommendation is not followed, 0-1.
    pub min_confidence_threshold: f64,
    /// Forget when `version` changes its first number.
    pub reset_learning_on_major_version_change: bool,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            learning_rate: 0.1,
            min_samples_for_recommendation: 3,
            min_confidence_threshold: 0.7,
            reset_learning_on_major_version_change: true,
        }
    }
}

/// Directories (relative to HOME) and backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Persistence {
    /// Periodic backups.
    pub backup_enabled: bool,
    /// Minutes between two backups.
    pub backup_interval_minutes: u32,
    /// Days a backup is kept.
    pub backup_retention_days: u32,
    /// A program and its arguments, run after each backup.
    pub backup_after: Vec<String>,
    /// MiB a backup may inflate to when it is restored.
    pub restore_max_mb: u64,
    /// Where the store is.
    pub state_directory: PathBuf,
    /// Where the JSON lines are.
    pub log_directory: PathBuf,
    /// Where the fallback configuration and the last good one are.
    pub config_directory: PathBuf,
}

impl Default for Persistence {
    fn default() -> Self {
        Self {
            backup_enabled: true,
            backup_interval_minutes: 10,
            backup_retention_days: 7,
            backup_after: Vec::new(),
            restore_max_mb: 65_536,
            state_directory: ".deia/state".into(),
            log_directory: ".deia/bot-logs".into(),
            config_directory: ".deia/config".into(),
        }
    }
}

/// What to do with a damaged store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisasterRecovery {
    /// Start in recovery mode where the store can't be used, instead of ending.
    pub enabled: bool,
    /// Restore the newest good backup without being asked.
    pub automatic: bool,
    /// Accepted for old files.
    pub recovery_checks_interval_seconds: u64,
    /// Restores in a row without being asked.
    pub max_recovery_attempts: u32,
    /// Seconds between two attempts.
    pub recovery_backoff_seconds: u64,
}

impl Default for DisasterRecovery {
    fn default() -> Self {
        Self {
            enabled: true,
            automatic: false,
            recovery_checks_interval_seconds: 60,
            max_recovery_attempts: 3,
            recovery_backoff_seconds: 5,
        }
    }
}

/// The audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Keep it.
    pub enabled: bool,
    /// The exported file, relative to HOME.
    pub log_file: PathBuf,
    /// Days kept.
    pub retention_days: u32,
    /// Accepted for old files; never overrides redaction.
    pub include_sensitive_data: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            enabled: true,
            log_file: ".deia/bot-logs/audit.jsonl".into(),
            retention_days: 90,
            include_sensitive_data: false,
        }
    }
}

/// Named defaults of backends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backends {
    /// For `kind: ollama`.
    pub ollama: ModelServer,
    /// For `kind: openai`.
    pub openai: ModelServer,
}

impl Default for Backends {
    fn default() -> Self {
        Self {
            ollama: ModelServer::ollama(),
            openai: ModelServer::openai(),
        }
    }
}

/// Limits on tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tasks {
    /// Attempts before a task is dead.
    pub max_attempts: u32,
    /// First and largest delay before a retry, in seconds.
    pub retry_backoff_seconds: [f64; 2],
    /// A task that waits longer expires.
    pub queue_timeout_seconds: u64,
    /// Largest content.
    pub max_content_bytes: u64,
    /// Tasks that may wait; more are refused.
    pub max_queued: u64,
    /// Days an ended task is kept.
    pub retention_days: u32,
    /// Ended tasks kept.
    pub max_kept: u64,
    /// What is kept of fresh working directories.
    pub workdir_keep: WorkdirKeep,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            retry_backoff_seconds: [1.0, 300.0],
            queue_timeout_seconds: 86_400,
            max_content_bytes: 1_048_576,
            max_queued: 2_000_000,
            retention_days: 30,
            max_kept: 1_000_000,
            workdir_keep: WorkdirKeep::default(),
        }
    }
}

/// What is kept of fresh working directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkdirKeep {
    /// Days.
    pub days: u32,
    /// MiB, over all.
    pub mb: u64,
}

impl Default for WorkdirKeep {
    fn default() -> Self {
        Self { days: 3, mb: 1024 }
    }
}

/// How bots are watched and restarted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Supervision {
    /// Between two heartbeats of a bot.
    pub heartbeat_seconds: f64,
    /// From spawn to ready.
    pub start_timeout_seconds: f64,
    /// From TERM to KILL.
    pub stop_timeout_seconds: f64,
    /// Past this many restarts in the window a bot is quarantined.
    pub restart_intensity: RestartIntensity,
    /// First and largest delay before a restart, in seconds (the very first is at once).
    pub backoff_seconds: [f64; 2],
    /// Healthy for this long, the back-off starts anew.
    pub healthy_seconds: f64,
    /// Between two probes of a quarantined bot.
    pub quarantine_probe_seconds: f64,
    /// A bot that finds no daemon for this long ends itself.
    pub orphan_grace_seconds: f64,
    /// A task that kills this many bots in a row is dead.
    pub poison_after: u32,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 5.0,
            start_timeout_seconds: 10.0,
            stop_timeout_seconds: 10.0,
            restart_intensity: RestartIntensity::default(),
            backoff_seconds: [0.05, 60.0],
            healthy_seconds: 60.0,
            quarantine_probe_seconds: 300.0,
            orphan_grace_seconds: 30.0,
            poison_after: 3,
        }
    }
}

/// At most `max` restarts in `seconds`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestartIntensity {
    /// Restarts.
    pub max: u32,
    /// The window.
    pub seconds: f64,
}

impl Default for RestartIntensity {
    fn default() -> Self {
        Self {
            max: 5,
            seconds: 60.0,
        }
    }
}

/// When bots are added and removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// Queued tasks per bot that ask for one more.
    pub queue_per_bot: f64,
    /// Age of the oldest task that asks for one more, in seconds.
    pub oldest_seconds: f64,
    /// Idle for this long, a bot may go.
    pub idle_seconds: f64,
    /// Between two steps up.
    pub up_cooldown_seconds: f64,
    /// Between two steps down.
    pub down_cooldown_seconds: f64,
    /// No bots are added above this fraction of host memory.
    pub max_memory: f64,
    /// No bots are added above this fraction of host CPU.
    pub max_cpu: f64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            queue_per_bot: 5.0,
            oldest_seconds: 30.0,
            idle_seconds: 300.0,
            up_cooldown_seconds: 30.0,
            down_cooldown_seconds: 60.0,
            max_memory: 0.85,
            max_cpu: 0.90,
        }
    }
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Http {
    /// Address and port.
    pub listen: std::net::SocketAddr,
    /// Who may call over TCP.
    pub auth: HttpAuth,
    /// Names accepted in `Host` besides loopback ones and the bound address.
    pub allowed_hosts: Vec<String>,
    /// Largest body.
    pub max_body_bytes: u64,
    /// Connections at once.
    pub max_connections: u32,
    /// Seconds for a request's head.
    pub header_timeout_seconds: f64,
    /// The certificate of the port; none: plain HTTP.
    pub tls: TlsFiles,
    /// Listen beyond this host without TLS.
    pub allow_insecure_bind: bool,
}

/// Where the port's certificate and its key are; both or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TlsFiles {
    /// The certificate and those it is signed by, in PEM form.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in PEM form, 0600.
    pub key_file: Option<PathBuf>,
}

impl Http {
    /// Why this is not listened on.
    pub fn refusal(&self) -> Option<String> {
        let is_ours = self.listen.ip().is_loopback() || self.allow_insecure_bind;
        (!is_ours && self.tls.cert_file.is_none()).then(|| {
            format!(
                "{} is not only for this host, and without TLS anyone on the way could read what bots do and take \
                 over tokens: set http.tls.cert_file and http.tls.key_file, listen on 127.0.0.1 behind a proxy that \
                 has TLS, or say http.allow_insecure_bind: true",
                self.listen
            )
        })
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 8001)),
            auth: HttpAuth::Off,
            allowed_hosts: Vec::new(),
            max_body_bytes: 1_048_576,
            max_connections: 256,
            header_timeout_seconds: 10.0,
            tls: TlsFiles::default(),
            allow_insecure_bind: false,
        }
    }
}

/// Who may call over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpAuth {
    /// Loopback has read, submit and bot; never admin.
    Off,
    /// Bearer tokens with scopes.
    Tokens,
}

/// Requests per minute, in a sliding window; 0 switches a limit off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateLimits {
    /// Per token, else per peer address.
    pub requests_per_minute: u32,
    /// Refused credentials per peer address.
    pub failed_auth_per_minute: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            requests_per_minute: 1000,
            failed_auth_per_minute: 10,
        }
    }
}

/// Where alerts go besides the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Alerts {
    /// POSTed to, signed, with retries.
    pub webhook_url: Option<String>,
}

/// Log files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// MiB before a file is rotated.
    pub max_file_mb: u64,
    /// Rotated files kept of each.
    pub keep_files: u32,
    /// MiB over all log files.
    pub max_total_mb: u64,
    /// Write to the journal.
    pub journald: Journald,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            max_file_mb: 50,
            keep_files: 10,
            max_total_mb: 1024,
            journald: Journald::Auto,
        }
    }
}

/// Write to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journald {
    /// When started by systemd.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Where tasks live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Store {
    /// The engine.
    pub kind: StoreKind,
    /// A file with the PostgreSQL URL.
    pub url_file: Option<PathBuf>,
    /// This host's name among several.
    pub host_name: Option<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Sqlite,
            url_file: None,
            host_name: None,
        }
    }
}

/// Store engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Embedded.
    Sqlite,
    /// Shared by several hosts.
    Postgres,
}

/// Metrics and traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telemetry {
    /// Serve `/metrics`.
    pub prometheus: bool,
    /// Send traces there.
    pub otlp_endpoint: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            prometheus: true,
            otlp_endpoint: None,
        }
    }
}
