use super::*;
use AlertLevel::{Critical, Warning};

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// The original's table: levels and scores of figures by themselves, at their exact boundaries.
#[test]
fn the_originals_table() {
    let rules = Thresholds::default();
    let judged = |figures: &Figures| {
        let alerts = what_if(figures, &rules, at(0));
        (alerts.first().map(|a| a.level), score(figures, &alerts))
    };
    for (cpu, level, points) in [
        (0.79, None, 100.0),
        (0.80, Some(Warning), 90.0),
        (0.94, Some(Warning), 85.0),
        (0.95, Some(Critical), 75.0),
    ] {
        let figures = Figures {
            cpu,
            ..Figures::default()
        };
        assert_eq!(judged(&figures), (level, points), "cpu {cpu}");
    }
    for (memory, level, points) in [
        (0.74, None, 100.0),
        (0.75, Some(Warning), 90.0),
        (0.81, Some(Warning), 85.0),
        (0.89, Some(Warning), 85.0),
        (0.90, Some(Critical), 75.0),
    ] {
        let figures = Figures {
            memory,
            ..Figures::default()
        };
        assert_eq!(judged(&figures), (level, points), "memory {memory}");
    }
    for (success_rate, level, points) in [
        (0.29, Some(Warning), 80.0),
        (0.30, None, 90.0),
        (0.89, None, 90.0),
        (0.90, None, 100.0),
    ] {
        let figures = Figures {
            success_rate,
            ..Figures::default()
        };
        assert_eq!(judged(&figures), (level, points), "success {success_rate}");
    }
    for (message_failures, level) in [(4, None), (5, Some(Warning))] {
        let figures = Figures {
            message_failures,
            ..Figures::default()
        };
        assert_eq!(judged(&figures).0, level, "{message_failures} failures");
    }
    let all = HealthQuestion {
        total_bots: Some(5),
        active_bots: Some(2),
        queued_tasks: Some(20),
        system_cpu_percent: Some(0.95),
        system_memory_percent: Some(0.92),
        pending_message_failures: Some(10),
        avg_success_rate: Some(0.2),
        ..HealthQuestion::default()
    };
    let figures = Figures::of_question(&all);
    let alerts = what_if(&figures, &rules, at(0));
    assert_eq!((alerts.len(), score(&figures, &alerts)), (7, 0.0));
    let metrics = figures.metrics(at(0), &alerts);
    assert_eq!((metrics.alert_count, metrics.critical_alerts), (7, 3));
    assert_eq!(overall(&alerts), "critical");
    let mut said: Vec<(&str, &str)> = alerts
        .iter()
        .map(|a| (a.title.as_str(), a.message.as_str()))
        .collect();
    said.sort_unstable();
    assert_eq!(
        said,
        [
            ("Bots Offline", "3/5 bots inactive"),
            ("Critical CPU Usage", "System CPU at 95.0%"),
            ("Critical Memory Usage", "System memory at 92.0%"),
            ("Low Success Rate", "Average success rate: 20.0%"),
            ("Message Delivery Failures", "10 failed message deliveries"),
            (
                "System Resources Exhausted",
                "CPU and memory both critically high"
            ),
            ("Task Queue Backlog", "20 tasks queued"),
        ]
    );
}

/// Alerts over one day of a fleet.
struct Day {
    alerts: Alerts,
    now: i64,
}

impl Day {
    fn new() -> Self {
        Self {
            alerts: Alerts::default(),
            now: 0,
        }
    }

    fn sees(&mut self, figures: &Figures) -> Vec<(Changed, AlertLevel)> {
        self.now += 30;
        let changes = self
            .alerts
            .evaluate(figures, &Thresholds::default(), at(self.now));
        let changes = changes.into_iter();
        changes.map(|c| (c.what, c.alert.level)).collect()
    }

    fn cpu(&mut self, cpu: f64) -> Vec<(Changed, AlertLevel)> {
        self.sees(&Figures {
            cpu,
            ..Figures::default()
        })
    }
}

#[test]
fn an_alert_follows_its_trouble_up_and_down() {
    let mut day = Day::new();
    assert_eq!(day.cpu(0.85), [(Changed::Raised, Warning)]);
    assert_eq!(day.cpu(0.97), [(Changed::Level(Warning), Critical)]);
    assert_eq!(day.alerts.active()[0].title, "Critical CPU Usage");
    assert_eq!(day.alerts.active()[0].message, "System CPU at 97.0%");
    assert_eq!(day.cpu(0.85), [(Changed::Level(Critical), Warning)]);
    assert_eq!(day.alerts.active()[0].timestamp, at(30), "raised once");
    assert_eq!(day.cpu(0.5), [(Changed::Over, Warning)]);
    assert_eq!(day.cpu(0.5), [], "what is over is said once");
    let recent = day.alerts.recent(100);
    assert_eq!(recent.len(), 1);
    assert!(recent[0].resolved && recent[0].resolved_at == Some(at(120)));
}

#[test]
fn one_alert_for_one_trouble() {
    let mut day = Day::new();
    let queue = |queued_tasks| Figures {
        queued_tasks,
        ..Figures::default()
    };
    assert_eq!(day.sees(&queue(15)).len(), 1);
    assert_eq!(day.sees(&queue(16)), []);
    assert_eq!(day.alerts.active().len(), 1);
    assert_eq!(day.alerts.active()[0].metrics["queued_tasks"], 16);
    assert_eq!(day.cpu(0.96).len(), 2, "the queue is over, the CPU is not");
    assert_eq!(day.cpu(0.5), [(Changed::Over, Critical)]);
}

#[test]
fn a_value_that_dances_on_a_threshold_says_so_once() {
    let mut day = Day::new();
    let changes: usize = (0..40)
        .map(|n| day.cpu(if n % 2 == 0 { 0.80 } else { 0.79 }).len())
        .sum();
    assert_eq!(changes, 1);
    let changes: usize = (0..40)
        .map(|n| day.cpu(if n % 2 == 0 { 0.95 } else { 0.94 }).len())
        .sum();
    assert_eq!(changes, 1, "it got worse, once");
}

#[test]
fn resolved_by_hand_it_comes_back_when_it_came_again_or_got_worse() {
    let mut day = Day::new();
    day.cpu(0.85);
    let resolved = day.alerts.resolve("cpu_health", at(31)).unwrap().unwrap();
    assert_eq!(resolved.what, Changed::ByHand);
    assert!(day.alerts.active().is_empty());
    assert_eq!(day.cpu(0.86), [], "the same trouble");
    assert_eq!(day.alerts.resolve("cpu_health", at(61)), Ok(None), "again");
    assert_eq!(day.cpu(0.97), [(Changed::Raised, Critical)], "worse");
    day.alerts.resolve("cpu_health", at(100)).unwrap();
    assert_eq!(day.cpu(0.85), [], "better, and silent");
    assert_eq!(day.cpu(0.97), [], "no worse than it was then");
    assert_eq!(day.cpu(0.1), [], "it was said to be resolved");
    assert_eq!(day.cpu(0.85), [(Changed::Raised, Warning)], "once more");
    assert_eq!(day.alerts.resolve("nothing", at(1)), Err(NoSuchAlert));
}

#[test]
fn what_was_known_is_known_after_a_restart_and_forgotten_after_a_day() {
    let mut day = Day::new();
    day.cpu(0.85);
    day.cpu(0.1);
    day.cpu(0.96);
    day.alerts.resolve("cpu_health", at(91)).unwrap();
    let text = serde_json::to_string(&day.alerts).unwrap();
    let kept: Alerts = serde_json::from_str(&text).unwrap();
    assert_eq!(kept, day.alerts);
    day.alerts = kept;
    assert_eq!(day.cpu(0.96), [], "still silent");
    assert_eq!(day.alerts.recent(100).len(), 2);
    day.now += 90_000;
    day.cpu(0.96);
    assert!(day.alerts.recent(100).is_empty());
}

#[test]
fn our_own_rules() {
    let mut day = Day::new();
    let raised = |day: &Day| {
        let active = day.alerts.active().into_iter();
        let mut ids: Vec<_> = active.map(|a| (a.alert_id, a.level)).collect();
        ids.sort();
        ids
    };
    day.sees(&Figures {
        total_bots: 2,
        active_bots: 2,
        oldest_seconds: OLDEST_TASK_SECONDS,
        disk_free: Some(DISK_LOW_BYTES[1] - 1),
        quarantined: vec!["coder".into()],
        backup: Some((1801.0, 600.0)),
        down: vec![("http://x".into(), false)],
        ..Figures::default()
    });
    assert_eq!(
        raised(&day),
        [
            ("backend_health".to_owned(), Warning),
            ("backup_age".to_owned(), Warning),
            ("bot_quarantine".to_owned(), Warning),
            ("disk_space".to_owned(), Critical),
            ("queue_age".to_owned(), Warning),
        ]
    );
    day.sees(&Figures {
        total_bots: 1,
        quarantined: vec!["coder".into()],
        down: vec![("http://x".into(), true)],
        disk_free: Some(DISK_LOW_BYTES[0] - 1),
        backup: Some((1800.0, 600.0)),
        ..Figures::default()
    });
    let critical = |id: &str| raised(&day).contains(&(id.to_owned(), Critical));
    assert!(critical("backend_health") && critical("bot_quarantine"));
    assert!(raised(&day).contains(&("disk_space".to_owned(), Warning)));
    day.sees(&Figures::default());
    assert!(day.alerts.active().is_empty());
}

#[test]
fn nothing_is_no_backlog_however_low_the_threshold() {
    let rules = Thresholds {
        queue_backlog_threshold: 0,
        message_failure_threshold: 0,
        ..Thresholds::default()
    };
    assert_eq!(what_if(&Figures::default(), &rules, at(0)), []);
}

proptest::proptest! {
    /// The history has its bound, and every change is told apart: raised and over take turns.
    #[test]
    fn raised_and_over_take_turns(values in proptest::collection::vec((0u8..=100, proptest::bool::weighted(0.1)), 1..200)) {
        let mut alerts = Alerts::default();
        let mut stands = false;
        for (n, (cpu, resolve)) in values.into_iter().enumerate() {
            let now = at(n as i64 * 30);
            let figures = Figures { cpu: f64::from(cpu) / 100.0, ..Figures::default() };
            let mut changes = alerts.evaluate(&figures, &Thresholds::default(), now);
            if resolve && let Ok(Some(change)) = alerts.resolve("cpu_health", now) {
                changes.push(change);
            }
            for change in changes.into_iter().filter(|c| c.alert.alert_id == "cpu_health") {
                match change.what {
                    Changed::Raised => { proptest::prop_assert!(!stands); stands = true; }
                    Changed::Level(before) => proptest::prop_assert!(stands && before != change.alert.level),
                    Changed::Over | Changed::ByHand => { proptest::prop_assert!(stands); stands = false; }
                }
            }
            proptest::prop_assert_eq!(stands, !alerts.active().is_empty());
            proptest::prop_assert!(alerts.history.len() <= MAX_HISTORY);
        }
    }
}
