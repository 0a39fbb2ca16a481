//! Every key of the file but those of pools and backends, in the order in which they are shown.

use super::Config;
use super::key::{Key, key};
use super::rule::{Ends, MAX_SECONDS, Rule};
use crate::task::MAX_ATTEMPTS;

/// Most bots of a fleet.
pub const MAX_BOTS: u64 = 10_000;
/// Largest content of a task: what fits a frame between the daemon and a bot, with room to spare.
pub const MAX_CONTENT_BYTES: u64 = 6_291_456;
/// Largest body of a request.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

/// Names that are accepted for another key: the deployment checklist's own.
pub const ALIASES: [(&str, &str); 2] = [
    ("scaling.min_bots", "bot_limits.min_bots"),
    ("scaling.max_bots", "bot_limits.max_bots"),
];

pub(super) const FRACTION: Rule = Rule::Number {
    min: 0.0,
    max: 1.0,
    ends: Ends::Included,
};
/// Seconds, possibly parts of one, never none.
pub(super) const SECONDS: Rule = Rule::Number {
    min: 0.0,
    max: MAX_SECONDS as f64,
    ends: Ends::Upper,
};
const SECONDS_OR_NONE: Rule = Rule::Number {
    min: 0.0,
    max: MAX_SECONDS as f64,
    ends: Ends::Included,
};
const WHOLE_SECONDS: Rule = whole(1, MAX_SECONDS);

pub(super) const fn whole(min: u64, max: u64) -> Rule {
    Rule::Whole { min, max }
}

const fn words(words: &'static [&'static str]) -> Rule {
    Rule::Word {
        words,
        refused: &[],
    }
}

const TELEMETRY: &str = "comes with metrics and traces";
const PORTS: &str = "bots use a local socket, not ports";
const POSTGRES: &str = "comes with PostgreSQL as the store";

/// The keys.
pub static KEYS: &[Key<Config>] = &[
    key!(Config; version, Rule::Written, "The configuration's own version; free text."),
    key!(Config; environment, Rule::Text, "`production`, `staging`, `development`, ...; free text."),
    key!(Config; debug, Rule::Switch, "More detail in logs: the same as `log_level: DEBUG`."),
    key!(Config; log_level, words(&["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]), "The least severe level that is logged."),
    key!(Config; thresholds.cpu_warning_percent, FRACTION, "Host CPU that raises a warning; a fraction."),
    key!(Config; thresholds.cpu_critical_percent, FRACTION, "Host CPU that raises a critical alert; a fraction."),
    key!(Config; thresholds.memory_warning_percent, FRACTION, "Host memory that raises a warning; a fraction."),
    key!(Config; thresholds.memory_critical_percent, FRACTION, "Host memory that raises a critical alert; a fraction."),
    key!(Config; thresholds.queue_backlog_threshold, whole(0, u64::MAX), "Queued tasks from which on an alert is raised; 0 is 1."),
    key!(Config; thresholds.bot_failure_threshold, FRACTION, "Share of attempts that succeed below which bots are said to fail; a fraction. Of the last ten minutes, where five attempts ended in them."),
    key!(Config; thresholds.message_failure_threshold, whole(0, u64::MAX), "Messages that expired within an hour, from which on an alert is raised; 0 is 1."),
    key!(Config; bot_limits.min_bots, whole(0, MAX_BOTS), "Bots that run at least, over all pools; what the pools do not ask for goes to the first one."),
    key!(Config; bot_limits.max_bots, whole(0, MAX_BOTS), "Bots that run at most, over all pools. 0: refuse new tasks, finish what runs, stop the bots."),
    key!(Config; bot_limits.max_concurrent_tasks_per_bot, whole(1, 1000), "Tasks at once in one bot, where its pool says nothing."),
    key!(Config; bot_limits.port_range_start, whole(1024, 65_535), "First port of the original's bots.").no_effect(PORTS),
    key!(Config; bot_limits.port_range_end, whole(1024, 65_535), "Last port of the original's bots.").no_effect(PORTS),
    key!(Config; timeouts.task_timeout_seconds, WHOLE_SECONDS, "Seconds one attempt at a task may take, unless the task names its own."),
    key!(Config; timeouts.message_ttl_seconds, WHOLE_SECONDS, "Seconds a message may wait to be read, unless it names its own; then it expires."),
    key!(Config; timeouts.bot_health_check_interval_seconds, WHOLE_SECONDS, "Seconds between two health samples."),
    key!(Config; timeouts.scaling_evaluation_interval_seconds, WHOLE_SECONDS, "Seconds between two scaling evaluations. A task that no running bot can take does not wait for the next one."),
    key!(Config; timeouts.config_reload_check_interval_seconds, WHOLE_SECONDS, "Seconds after which a changed file is noticed at the latest."),
    key!(Config; feature_flags.messaging_enabled, Rule::Switch, "Messages between bots. Off: none are accepted; those there are can be read."),
    key!(Config; feature_flags.adaptive_scheduling_enabled, Rule::Switch, "What was learned of bots steers routing. Off: it is learned, and load and success alone decide."),
    key!(Config; feature_flags.health_monitoring_enabled, Rule::Switch, "Health samples, alerts, and what is switched off for a while. Off: nothing is looked at, and `/api/dashboard/health` says `disabled`."),
    key!(Config; feature_flags.auto_scaling_enabled, Rule::Switch, "Bots are added and removed by load, within the limits. Off: only the limits, the pools' `min` and steps by hand decide; a pool without a minimum gets no bot by itself."),
    key!(Config; feature_flags.audit_logging_enabled, Rule::Switch, "The audit trail."),
    key!(Config; feature_flags.graceful_degradation_enabled, Rule::Switch, "Do without something for a while when the host or the bots are in trouble, and let tasks wait while no model server answers. Off: such a task fails and is tried again, like any other."),
    key!(Config; feature_flags.request_validation_enabled, Rule::Switch, "Look for dangerous content in tasks and messages; what follows is each pool's `request_validation`."),
    key!(Config; feature_flags.performance_profiling_enabled, Rule::Switch, "Timings in the log.").not_yet(TELEMETRY),
    key!(Config; learning.learning_rate, Rule::Number { min: 0.0, max: 1.0, ends: Ends::Excluded }, "Weight of a new sample in the moving averages."),
    key!(Config; learning.min_samples_for_recommendation, whole(0, 1_000_000), "Results on a kind of work before what was learned of a bot counts; 0 is 1."),
    key!(Config; learning.min_confidence_threshold, FRACTION, "Confidence below which a recommendation is not followed; a fraction."),
    key!(Config; learning.reset_learning_on_major_version_change, Rule::Switch, "Forget what was learned when `version` changes its first number."),
    key!(Config; persistence.backup_enabled, Rule::Switch, "A backup at every interval. Off: only those that are asked for."),
    key!(Config; persistence.backup_interval_minutes, whole(1, 525_600), "Minutes from one backup to the next, whoever made the first."),
    key!(Config; persistence.backup_retention_days, whole(1, 36_500), "Days a backup is kept; one with a name ten times as long. The newest good one is never removed."),
    key!(Config; persistence.backup_after, Rule::Texts, "A program and its arguments, run after each backup without a shell; the archive's path is the last argument. It has ten minutes; a failure is logged, and the backup stays."),
    key!(Config; persistence.restore_max_mb, whole(1, 1_000_000_000), "MiB a backup may inflate to when it is restored; one that says it is larger is refused."),
    key!(Config; persistence.state_directory, Rule::Path, "Where the store is; relative to HOME.").after_restart(),
    key!(Config; persistence.log_directory, Rule::Path, "Where the JSON lines are; relative to HOME.").after_restart(),
    key!(Config; persistence.config_directory, Rule::Path, "Where the sample files are; relative to HOME.").after_restart(),
    key!(Config; disaster_recovery.enabled, Rule::Switch, "Where the store can't be used, start in recovery mode (restore, list and verify backups; nothing else). Off: end, saying why."),
    key!(Config; disaster_recovery.automatic, Rule::Switch, "In recovery mode, restore the newest good backup without being asked. What was accepted since that backup is lost by it (the damaged store is kept)."),
    key!(Config; disaster_recovery.recovery_checks_interval_seconds, whole(1, MAX_SECONDS), "Seconds between two checks of the original.").no_effect("the store is checked at every start and on every read, not by a timer"),
    key!(Config; disaster_recovery.max_recovery_attempts, whole(1, 1000), "With `automatic`: backups that are tried before it is left to a person."),
    key!(Config; disaster_recovery.recovery_backoff_seconds, whole(1, MAX_SECONDS), "With `automatic`: seconds before each try."),
    key!(Config; audit.enabled, Rule::Switch, "Keep an audit trail."),
    key!(Config; audit.log_file, Rule::Path, "The exported audit trail; relative to HOME.").after_restart(),
    key!(Config; audit.retention_days, whole(1, 36_500), "Days the audit trail is kept."),
    key!(Config; audit.include_sensitive_data, Rule::Switch, "The original's way to log secrets.").no_effect("secrets are always redacted"),
    key!(Config; tasks.max_attempts, whole(1, MAX_ATTEMPTS as u64), "Attempts before a task is dead, unless the task names its own."),
    key!(Config; tasks.retry_backoff_seconds, Rule::Backoff, "First and largest delay before a retry, in seconds."),
    key!(Config; tasks.queue_timeout_seconds, WHOLE_SECONDS, "Seconds after which a task that still waits expires."),
    key!(Config; tasks.max_content_bytes, whole(1, MAX_CONTENT_BYTES), "Bytes a task's content may have."),
    key!(Config; tasks.max_queued, whole(1, 1_000_000_000), "Tasks that may wait; more are refused."),
    key!(Config; tasks.retention_days, whole(1, 36_500), "Days an ended task is kept."),
    key!(Config; tasks.max_kept, whole(1, 1_000_000_000), "Ended tasks that are kept at most."),
    key!(Config; tasks.workdir_keep.days, whole(0, 36_500), "Days a fresh working directory is kept."),
    key!(Config; tasks.workdir_keep.mb, whole(0, 1_000_000_000), "MiB of fresh working directories that are kept, over all, as they take room on the disk."),
    key!(Config; supervision.heartbeat_seconds, SECONDS, "Seconds between two heartbeats of a bot."),
    key!(Config; supervision.start_timeout_seconds, SECONDS, "Seconds from the start of a bot until it must be ready."),
    key!(Config; supervision.stop_timeout_seconds, SECONDS, "Seconds from TERM to KILL."),
    key!(Config; supervision.restart_intensity.max, whole(1, 1_000_000), "Restarts within the window past which a bot is quarantined."),
    key!(Config; supervision.restart_intensity.seconds, SECONDS, "The window, in seconds."),
    key!(Config; supervision.backoff_seconds, Rule::Backoff, "First and largest delay before a restart, in seconds; the very first restart is at once."),
    key!(Config; supervision.healthy_seconds, SECONDS, "Seconds of health after which the back-off starts anew."),
    key!(Config; supervision.quarantine_probe_seconds, SECONDS, "Seconds between two probes of a quarantined bot."),
    key!(Config; supervision.orphan_grace_seconds, SECONDS, "Seconds without a daemon after which a bot ends itself, and all it started; counted while the socket is absent or refuses, and ten times as long at the most."),
    key!(Config; supervision.poison_after, whole(1, 1000), "Bots in a row that a task may end before it is dead."),
    key!(Config; scaling.queue_per_bot, Rule::Number { min: 0.0, max: 1e9, ends: Ends::Upper }, "Tasks that wait, for each bot that serves them, from which on bots are added: as many as bring it below, at most as many as the pool has."),
    key!(Config; scaling.oldest_seconds, SECONDS, "Seconds the oldest task has waited from which on one bot is added."),
    key!(Config; scaling.idle_seconds, SECONDS, "Seconds of hardly any work (a load of at most 0.3 and nothing waiting; for a pool's last bot: nothing at all) after which a bot goes, and of a load over 0.7 after which one is added ahead. Where bots were needed again soon after, the pool keeps them up to 8 times as long."),
    key!(Config; scaling.up_cooldown_seconds, SECONDS_OR_NONE, "Seconds a pool waits after a step before bots are added; the first bot of a pool does not wait."),
    key!(Config; scaling.down_cooldown_seconds, SECONDS_OR_NONE, "Seconds a pool waits after a step before a bot is removed."),
    key!(Config; scaling.max_memory, FRACTION, "Host memory in use from which on no bot is added, but the first of a pool; a fraction. 1: no bound."),
    key!(Config; scaling.max_cpu, FRACTION, "The same for the host's CPU, over all processors, since the last evaluation."),
    key!(Config; http.listen, Rule::Listen, "Address and port of the HTTP listener; beyond loopback only with `http.tls` or `http.allow_insecure_bind`.").after_restart(),
    key!(Config; http.auth, words(&["off", "tokens"]), "Who may call over TCP: `off`, loopback may read, submit and report; `tokens`, only with a token (`deiactl token create`)."),
    key!(Config; http.allowed_hosts, Rule::Texts, "Names accepted in `Host` besides loopback ones and the bound address."),
    key!(Config; http.max_body_bytes, whole(1024, MAX_BODY_BYTES), "Bytes a request's body may have."),
    key!(Config; http.max_connections, whole(1, 65_535), "Connections at once; more are closed at once."),
    key!(Config; http.header_timeout_seconds, SECONDS, "Seconds a client may take for a request's head."),
    key!(Config; http.tls.cert_file, Rule::Optional(&Rule::Path), "Certificate of the port and those it is signed by, in PEM form; null: plain HTTP. Its files are read again with each reload.").after_restart(),
    key!(Config; http.tls.key_file, Rule::Optional(&Rule::Path), "The certificate's private key, in PEM form, 0600 or a systemd credential.").after_restart(),
    key!(Config; http.allow_insecure_bind, Rule::Switch, "Listen beyond loopback without TLS: what bots do and tokens can then be read on the way.").after_restart(),
    key!(Config; rate_limits.requests_per_minute, whole(0, 1_000_000_000), "Requests within any 60 seconds of a token, else of an address; over a bot's own socket of the bot; 0: no limit. The admin socket, `/health*` and `/metrics` are not counted."),
    key!(Config; rate_limits.failed_auth_per_minute, whole(0, 1_000_000_000), "Refused credentials within any 60 seconds of an address; past it none is looked at; 0: no limit."),
    key!(Config; alerts.webhook_url, Rule::Optional(&Rule::Url), "Each change of an alert is sent there too, signed; see API.md."),
    key!(Config; logging.max_file_mb, whole(1, 1_000_000), "MiB after which a log file is rotated."),
    key!(Config; logging.keep_files, whole(0, 10_000), "Rotated files that are kept of each."),
    key!(Config; logging.max_total_mb, whole(1, 1_000_000_000), "MiB of log files, over all; the oldest go first."),
    key!(Config; logging.journald, words(&["auto", "on", "off"]), "Write to the journal: `auto`, when systemd started the daemon.").after_restart(),
    key!(Config; store.kind, Rule::Word { words: &["sqlite"], refused: &[("postgres", "is not built yet: only sqlite is")] }, "The engine that keeps tasks.").after_restart(),
    key!(Config; store.url_file, Rule::Optional(&Rule::Path), "A file (0600) with the address of PostgreSQL.").after_restart().not_yet(POSTGRES),
    key!(Config; store.host_name, Rule::Optional(&Rule::Text), "This host's name among several.").after_restart().not_yet(POSTGRES),
    key!(Config; telemetry.prometheus, Rule::Switch, "Serve `/metrics`."),
    key!(Config; telemetry.otlp_endpoint, Rule::Optional(&Rule::Url), "Send traces there.").not_yet(TELEMETRY),
];

/// The key of a path.
pub fn find(path: &str) -> Option<&'static Key<Config>> {
    KEYS.iter().find(|key| key.path == path)
}
