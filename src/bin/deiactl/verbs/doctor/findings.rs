//! What is wrong with a daemon that answers. Pure.

use deia::api::{BotView, ConfigStatus, ScalingStatus, Status};
use deia::bot::{Actual, Wanted};
use serde::Serialize;

/// Something to be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: String,
    /// What to do; nothing where there is nothing to be done, or `what` says it.
    pub remedy: Option<String>,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It keeps the fleet from doing what it should.
    Wrong,
    /// It explains what an operator may wonder about.
    Note,
}

impl Finding {
    /// Something wrong.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Wrong,
            what: what.into(),
            remedy: None,
        }
    }

    /// Something to know.
    pub fn note(what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::wrong(what)
        }
    }

    /// ... and what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What the daemon says of itself.
#[derive(Debug)]
pub struct Facts<'a> {
    /// `GET /status`.
    pub status: &'a Status,
    /// Why `GET /health` is not `ok`.
    pub reasons: &'a [String],
    /// `GET /api/scaling/status`.
    pub scaling: &'a ScalingStatus,
    /// `GET /api/config/status`.
    pub config: &'a ConfigStatus,
}

/// What there is to be said.
pub fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let draining = facts.scaling.draining;
    if !draining {
        // Of bots, more is said below.
        let reasons = facts.reasons.iter();
        let reasons = reasons.filter(|reason| !is_about_a_bot(reason));
        findings.extend(reasons.map(Finding::wrong));
    }
    findings.extend(facts.status.bots.iter().flat_map(bot));
    findings.extend(work(facts));
    findings.extend(config(facts));
    findings.extend(limits(facts));
    findings.extend(release(facts));
    findings.extend(confinement(facts));
    findings
}

fn is_about_a_bot(reason: &str) -> bool {
    reason.starts_with("bot ")
}

fn bot(bot: &BotView) -> Option<Finding> {
    let told = format!("bot {} ({}): {}", bot.id, bot.actual, bot.explanation);
    let logs = format!("see what it printed: `deiactl bot logs {}`", bot.id);
    match bot.actual {
        _ if !bot.blocked_by.is_empty() => Some(Finding::wrong(told)),
        // The way out is in the explanation.
        Actual::Quarantined => Some(Finding::wrong(told)),
        Actual::Backoff => Some(Finding::wrong(told).remedy(logs)),
        Actual::Starting | Actual::Ready | Actual::Busy if bot.recent_ends > 1 => {
            Some(Finding::wrong(told).remedy(logs))
        }
        Actual::Starting | Actual::Ready | Actual::Busy if bot.recent_ends == 1 => {
            Some(Finding::note(told).remedy(logs))
        }
        Actual::Stopped if bot.wanted == Wanted::Running => Some(Finding::note(told)),
        Actual::Stopped if bot.explanation.contains("operator") => Some(Finding::note(told)),
        _ => None,
    }
}

fn work(facts: &Facts<'_>) -> Vec<Finding> {
    let queue = facts.status.queue;
    let bots = &facts.status.bots;
    let mut findings = Vec::new();
    let takes = |bot: &BotView| matches!(bot.actual, Actual::Ready | Actual::Busy);
    if queue.queued > 0 && !bots.iter().any(takes) {
        let what = format!("{} tasks wait and no bot is ready", queue.queued);
        findings.push(match facts.scaling.max_bots {
            0 => Finding::note(what).remedy("the limit is 0: `deiactl scale --max N`, or `deiactl resume` for what the file says"),
            _ => Finding::wrong(what).remedy("`deiactl bots` says why, bot by bot"),
        });
    }
    if queue.dead > 0 {
        findings.push(
            Finding::note(format!(
                "{} tasks have failed for good and are kept",
                queue.dead
            ))
            .remedy("`deiactl task list --status dead`, `deiactl task show ID`, `deiactl task retry ID`"),
        );
    }
    findings
}

fn config(facts: &Facts<'_>) -> Vec<Finding> {
    let wrong = facts.config.load_errors.iter().map(|error| {
        Finding::wrong(format!("configuration: {error}")).remedy(match &facts.config.config_file {
            Some(file) => {
                format!("correct {file}; `deiactl config validate`, then `deiactl reload`")
            }
            None => "name a file with `deia run --config FILE`".to_owned(),
        })
    });
    let waits = facts.config.restart_required.iter().map(|change| {
        Finding::note(format!("configuration: {change} waits for a restart"))
            .remedy("restart the daemon, or `deiactl upgrade`, which keeps bots and connections")
    });
    wrong.chain(waits).collect()
}

fn limits(facts: &Facts<'_>) -> Vec<Finding> {
    let scaling = facts.scaling;
    let what = match (scaling.draining, scaling.r#override) {
        (true, _) => "new tasks are refused: an operator drained the fleet".to_owned(),
        (false, true) => format!(
            "an operator set the limits: {} to {} bots, whatever the file says",
            scaling.min_bots, scaling.max_bots
        ),
        (false, false) => return Vec::new(),
    };
    vec![Finding::note(what).remedy("`deiactl resume` ends that")]
}

/// What the host does not give the sandbox.
fn confinement(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let confinement = facts.status.confinement.iter();
    let missing = confinement.flat_map(|confinement| &confinement.missing);
    missing.map(|missing| {
        let what = format!(
            "the sandbox does without {}: {}",
            missing.what, missing.effect
        );
        Finding::note(what).remedy(&missing.remedy)
    })
}

fn release(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let status = facts.status;
    if status.version != deia::VERSION {
        findings.push(Finding::note(format!(
            "the daemon is {}, deiactl is {}",
            status.version,
            deia::VERSION
        )));
    }
    let Some(release) = &status.release else {
        return findings;
    };
    if let Some(last) = release.last_upgrade.as_ref().filter(|u| !u.succeeded) {
        let why = last.error.as_deref().unwrap_or("no reason is known");
        findings.push(Finding::note(format!(
            "the last upgrade, to {}, did not happen: {why}",
            last.to_version
        )));
    }
    if release.pinned {
        findings.push(
            Finding::note(format!(
                "{} runs, and not what is installed at {}",
                release.path, release.invoked_as
            ))
            .remedy("`deiactl upgrade` goes to what is installed"),
        );
    }
    let old = status.bots.iter().filter(|bot| bot.version.is_some());
    if let n @ 1.. = old.count() {
        findings.push(Finding::note(format!(
            "{n} bots are of another release and are started anew as they get idle"
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-25T00:00:00.000000Z";

    fn bot_json(actual: &str, recent_ends: u32, explanation: &str) -> Value {
        json!({
            "id": "coder-1", "pool": "coder", "type": "developer", "specializations": [],
            "wanted": "running", "actual": actual, "pid": null, "since": NOW, "restarts": 0,
            "tasks": [], "max_concurrent": 1, "success_rate": 1.0, "backend": "echo",
            "recent_ends": recent_ends, "explanation": explanation,
        })
    }

    fn all(bots: &Value, queued: u64, max_bots: u32, reasons: &[&str]) -> Vec<Finding> {
        of(bots, queued, max_bots, reasons, &json!({}))
    }

    /// With more fields of the status.
    fn of(
        bots: &Value,
        queued: u64,
        max_bots: u32,
        reasons: &[&str],
        more: &Value,
    ) -> Vec<Finding> {
        let mut status = json!({
            "bot_id": "coder", "status": "idle", "current_task": null, "port": 1, "pid": 1,
            "timestamp": NOW, "version": deia::VERSION, "generation": 1, "uptime_seconds": 1.0,
            "config": {"file": null, "generation": 1, "load_errors": []}, "bots": bots,
            "queue": {"scheduled": 0, "queued": queued, "running": 0, "succeeded": 0, "dead": 0,
                      "cancelled": 0, "expired": 0},
            "home": "/h",
        });
        for (key, value) in more.as_object().unwrap() {
            status[key] = value.clone();
        }
        let status = serde_json::from_value(status);
        let scaling = serde_json::from_value(json!({
            "timestamp": NOW, "current_bot_count": 1, "min_bots": 0, "max_bots": max_bots,
            "active_bots": [], "scaling_enabled": true, "last_scale_up": null,
            "last_scale_down": null, "override": false, "draining": false, "in_flight": 0,
        }));
        let config = serde_json::from_value(json!({
            "timestamp": NOW, "config_file": null, "last_load_time": null, "load_errors": [],
            "config_version": "1", "environment": "e", "debug": false, "generation": 1,
            "restart_required": [],
        }));
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        findings(&Facts {
            status: &status.unwrap(),
            reasons: &reasons,
            scaling: &scaling.unwrap(),
            config: &config.unwrap(),
        })
    }

    #[test]
    fn a_fleet_that_is_well_has_nothing_to_be_said_of() {
        let bots = json!([bot_json("ready", 0, "waits for a task")]);
        assert_eq!(all(&bots, 0, 1, &[]), []);
    }

    #[test]
    fn a_bot_in_quarantine_is_said_once_and_with_its_way_out() {
        let bots = json!([bot_json("quarantined", 5, "ended more than 5 times")]);
        let findings = all(&bots, 3, 1, &["bot coder-1 is in quarantine", "disk full"]);
        let what: Vec<&str> = findings.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "disk full",
                "bot coder-1 (quarantined): ended more than 5 times",
                "3 tasks wait and no bot is ready"
            ]
        );
        assert!(findings.iter().all(|f| f.severity == Severity::Wrong));
    }

    #[test]
    fn what_an_operator_did_is_no_fault() {
        let findings = all(&json!([]), 3, 0, &[]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Note);
        let remedy = findings[0].remedy.as_deref().unwrap();
        assert!(remedy.contains("deiactl resume"), "{remedy}");
    }

    #[test]
    fn what_the_sandbox_lacks_is_said_with_what_would_help() {
        let lacks = json!({"confinement": {
            "summary": "Landlock 7, no cgroup (limits by looking)", "landlock": 7,
            "landlock_keeps": [], "cgroup": null, "cgroup_controllers": [], "missing": [
                {"what": "a cgroup to divide", "effect": "looked at", "remedy": "delegate one"}],
        }});
        let findings = of(&json!([]), 0, 1, &[], &lacks);
        assert_eq!(
            findings,
            [
                Finding::note("the sandbox does without a cgroup to divide: looked at")
                    .remedy("delegate one")
            ]
        );
    }

    #[test]
    fn one_end_is_a_note_and_a_second_one_is_not() {
        let once = all(&json!([bot_json("ready", 1, "ended once")]), 0, 1, &[]);
        assert_eq!(once[0].severity, Severity::Note);
        let twice = all(&json!([bot_json("ready", 2, "ended twice")]), 0, 1, &[]);
        assert_eq!(twice[0].severity, Severity::Wrong);
    }
}
