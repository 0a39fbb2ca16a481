//! Which files an event goes to, by its name.

/// A set of the daemon's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files(pub(super) u16);

impl Files {
    pub(super) const NONE: Self = Self(0);
    const SUPERVISOR: Self = Self(1);
    const SCALING: Self = Self(1 << 1);
    const ALERTS: Self = Self(1 << 2);
    const CONFIG: Self = Self(1 << 3);
    const ORCHESTRATION: Self = Self(1 << 4);
    const RECOVERY: Self = Self(1 << 5);
    const DEGRADATION: Self = Self(1 << 6);
    const MESSAGING: Self = Self(1 << 7);
    const LEARNING: Self = Self(1 << 8);
    const HEALTH: Self = Self(1 << 9);

    /// Their names, in the order of the bits.
    pub(super) const NAMES: [&'static str; 10] = [
        "supervisor.jsonl",
        "auto-scaling.jsonl",
        "health-alerts.jsonl",
        "config-changes.jsonl",
        "orchestration.jsonl",
        "disaster-recovery.jsonl",
        "degradation-events.jsonl",
        "bot-messaging.jsonl",
        "adaptive-scheduling.jsonl",
        "health-metrics.jsonl",
    ];

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of those in the set.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
    }
}

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// The daemon's own files.
    pub(super) files: Files,
    /// Also its bot's own file.
    pub(super) bot: bool,
    /// Comes with every task: not for a terminal or the journal, unless it is a warning.
    pub(super) high_rate: bool,
}

/// The route of an event. `has_bot`: it names a bot with a usable id.
pub(super) fn route(event: &str, has_bot: bool) -> Route {
    let to = |files, high_rate| Route {
        files,
        bot: false,
        high_rate,
    };
    let both = Files::SUPERVISOR;
    match event {
        "task_received" | "task_started" | "task_completed" | "task_failed" | "task_retried"
        | "task_dead" | "task_cancelled" => Route {
            // Before it has a bot, a task is the orchestrator's.
            files: if has_bot {
                Files::NONE
            } else {
                Files::ORCHESTRATION
            },
            bot: has_bot,
            high_rate: true,
        },
        "task_routed" | "task_file_taken" | "task_file_answered" => to(Files::ORCHESTRATION, true),
        // Of the fleet, and of each bot.
        "health_check" if has_bot => Route {
            files: Files::NONE,
            bot: true,
            high_rate: true,
        },
        "health_check" => to(both.and(Files::HEALTH), false),
        "backend_down" | "backend_up" => to(both.and(Files::DEGRADATION), false),
        "no_suitable_bot" => to(both.and(Files::ORCHESTRATION), false),
        "scaling_evaluation" | "scaled_up" | "scaled_down" => to(both.and(Files::SCALING), false),
        "degraded_mode_entered" | "maintenance_mode_entered" | "full_mode_restored" => {
            to(both.and(Files::DEGRADATION), false)
        }
        _ if event.starts_with("bot_") => Route {
            files: both,
            bot: has_bot,
            high_rate: false,
        },
        _ if event.starts_with("alert_") => to(both.and(Files::ALERTS), false),
        _ if event.starts_with("config_") => to(both.and(Files::CONFIG), false),
        "crash_detected" | "clean_shutdown_marked" | "shutdown_marker_cleared" => {
            to(both.and(Files::RECOVERY), false)
        }
        _ if ["backup_", "restore_", "recovery_"]
            .iter()
            .any(|of| event.starts_with(of)) =>
        {
            to(both.and(Files::RECOVERY), false)
        }
        "task_recorded" => to(Files::LEARNING, true),
        _ if event.starts_with("learning_") => to(both.and(Files::LEARNING), false),
        _ if event.starts_with("message_") => to(Files::MESSAGING, true),
        _ => to(both, false),
    }
}

/// Longest bot id that becomes a file's name.
pub const MAX_BOT_ID_BYTES: usize = 64;
/// What follows a bot's id in its file's name.
const ACTIVITY: &str = "-activity.jsonl";

/// Whether a bot's id (as masked) may be part of a file's name.
pub(super) fn is_file_name(bot: &str) -> bool {
    !bot.is_empty()
        && bot.len() <= MAX_BOT_ID_BYTES
        && bot
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'#'))
}

/// The name of a bot's file.
pub(super) fn activity_file(bot: &str) -> String {
    format!("{bot}{ACTIVITY}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(event: &str, has_bot: bool) -> Vec<&'static str> {
        route(event, has_bot).files.names().collect()
    }

    #[test]
    fn each_event_goes_where_the_contract_says() {
        assert_eq!(files("task_completed", true), Vec::<&str>::new());
        assert!(route("task_completed", true).bot);
        assert_eq!(files("task_received", false), ["orchestration.jsonl"]);
        assert_eq!(files("bot_exited", true), ["supervisor.jsonl"]);
        assert!(route("bot_exited", true).bot);
        assert_eq!(
            files("scaled_up", false),
            ["supervisor.jsonl", "auto-scaling.jsonl"]
        );
        assert_eq!(files("task_recorded", true), ["adaptive-scheduling.jsonl"]);
        assert_eq!(
            files("alert_generated", false),
            ["supervisor.jsonl", "health-alerts.jsonl"]
        );
        assert_eq!(
            files("config_reloaded", false),
            ["supervisor.jsonl", "config-changes.jsonl"]
        );
        assert_eq!(files("task_routed", true), ["orchestration.jsonl"]);
        assert_eq!(
            files("backup_created", false),
            ["supervisor.jsonl", "disaster-recovery.jsonl"]
        );
        assert_eq!(
            files("health_check", false),
            ["supervisor.jsonl", "health-metrics.jsonl"]
        );
        assert!(route("health_check", true).bot);
        assert_eq!(files("anything", true), ["supervisor.jsonl"]);
    }

    proptest! {
        #[test]
        fn no_id_leaves_the_directory(bot in "(\\.|/|[a-z#_-]|\u{0}|\n){0,8}") {
            if is_file_name(&bot) {
                let name = activity_file(&bot);
                prop_assert!(!name.contains(['/', '.', '\0', '\n'].as_slice()) || name.matches('.').count() == 1);
                prop_assert!(!name.contains(['/', '\0', '\n']));
            }
        }
    }
}
