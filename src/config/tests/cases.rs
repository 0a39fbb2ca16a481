//! Cases by example: what the Python original's users relied on, and each rule of the contract.

use super::{read, read_over};
use crate::config::{BackendSpec, Config, Content, LogLevel, value};

/// The keys that fell back, each with its line.
fn fell_back(text: &str) -> Vec<(String, usize)> {
    let loaded = read(text).unwrap();
    loaded
        .problems
        .iter()
        .map(|p| (p.key.clone(), p.line))
        .collect()
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn samples_are_valid_without_a_word() {
    for sample in crate::config::samples() {
        let loaded = read(sample.text).unwrap();
        assert_eq!(loaded.problems, [], "{}", sample.file_name);
        assert_eq!(loaded.warnings, [], "{}", sample.file_name);
    }
    let production = read(crate::config::PRODUCTION.text).unwrap().config;
    let mut expected = Config::default();
    expected.bot_limits.min_bots = 2;
    expected.custom = production.custom.clone();
    assert_eq!(production.custom.len(), 3);
    // Where the sample says nothing else it says the defaults.
    assert_eq!(production, expected);
}

#[test]
fn nothing_at_all_is_the_defaults() {
    for text in ["", "# nothing\n", "---\n"] {
        let loaded = read(text).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.content, Content::None);
    }
    assert_eq!(read("{}").unwrap().content, Content::Some);
}

#[test]
fn values_out_of_range_fall_back_with_their_line() {
    for (text, key) in [
        (
            "thresholds:\n  cpu_warning_percent: 1.5\n",
            "thresholds.cpu_warning_percent",
        ),
        (
            "thresholds:\n  cpu_warning_percent: -0.1\n",
            "thresholds.cpu_warning_percent",
        ),
        (
            "bot_limits:\n  port_range_start: 500\n",
            "bot_limits.port_range_start",
        ),
        ("learning:\n  learning_rate: 0\n", "learning.learning_rate"),
        ("learning:\n  learning_rate: 1\n", "learning.learning_rate"),
        ("bot_limits:\n  max_bots: abc\n", "bot_limits.max_bots"),
        ("bot_limits:\n  max_bots: \"5\"\n", "bot_limits.max_bots"),
        ("bot_limits:\n  max_bots: 5.5\n", "bot_limits.max_bots"),
        ("bot_limits:\n  max_bots: 10001\n", "bot_limits.max_bots"),
        (
            "bot_limits:\n  max_concurrent_tasks_per_bot: 0\n",
            "bot_limits.max_concurrent_tasks_per_bot",
        ),
        (
            "timeouts:\n  task_timeout_seconds: 0\n",
            "timeouts.task_timeout_seconds",
        ),
        (
            "tasks:\n  max_content_bytes: 6291457\n",
            "tasks.max_content_bytes",
        ),
        ("http:\n  listen: nowhere\n", "http.listen"),
        ("store:\n  kind: postgres\n", "store.kind"),
    ] {
        assert_eq!(fell_back(text), [(key.to_owned(), 2)], "{text}");
        assert_eq!(read(text).unwrap().config, Config::default(), "{text}");
    }
}

#[test]
fn rules_between_keys_refuse_the_file_and_name_both() {
    for (text, names) in [
        (
            "thresholds: {cpu_warning_percent: .95, cpu_critical_percent: .90}",
            [
                "thresholds.cpu_warning_percent",
                "thresholds.cpu_critical_percent",
            ],
        ),
        (
            "thresholds: {memory_warning_percent: .9}",
            [
                "thresholds.memory_warning_percent",
                "thresholds.memory_critical_percent",
            ],
        ),
        (
            "bot_limits: {min_bots: 5, max_bots: 3}",
            ["bot_limits.min_bots", "bot_limits.max_bots"],
        ),
        (
            "http: {listen: \"0.0.0.0:8001\"}",
            ["http.listen", "http.allow_insecure_bind"],
        ),
        (
            "http: {listen: \"[::]:8001\", auth: tokens}",
            ["http.listen", "http.tls.cert_file"],
        ),
        (
            "http: {tls: {key_file: /etc/deia/port.pem}}",
            ["http.tls.key_file", "http.tls.cert_file"],
        ),
        (
            "bot_limits: {port_range_start: 9000, port_range_end: 9000}",
            ["bot_limits.port_range_start", "bot_limits.port_range_end"],
        ),
        (
            "bots:\n- {name: a, min: 6, backend: {kind: echo}}\n- {name: b, min: 5, backend: {kind: echo}}",
            ["11 bots", "bot_limits.max_bots"],
        ),
        (
            "bots:\n- {name: a, min: 2, max: 1, backend: {kind: echo}}",
            ["bots.a.min", "max"],
        ),
        (
            "bots:\n- {name: a, backend: {kind: echo}}\n- {name: a, backend: {kind: echo}}",
            ["bots[1].name", "earlier pool"],
        ),
        (
            "bots:\n- {name: a, backend: {kind: echo}}\n- {name: a-2, backend: {kind: echo}}",
            ["bots.a-2.name", "bot 2 of the pool 'a'"],
        ),
        (
            "scaling: {min_bots: 5, max_bots: 3}",
            ["bot_limits.min_bots", "bot_limits.max_bots"],
        ),
    ] {
        let message = refused(text);
        for name in names {
            assert!(message.contains(name), "{text}\n{message}");
        }
        assert!(message.starts_with("bot-config.yaml:"), "{message}");
    }
}

#[test]
fn zero_bots_is_a_configuration() {
    let limits = read("bot_limits: {min_bots: 5, max_bots: 0}").unwrap();
    assert_eq!(limits.problems, []);
    assert_eq!(limits.config.bot_limits.max_bots, 0);
    assert_eq!(fell_back("bot_limits: {min_bots: 0}"), []);
    assert_eq!(
        fell_back(
            "bots:\n- {name: a, max: 1, backend: {kind: echo}}\n- {name: a-2, backend: {kind: echo}}"
        ),
        []
    );
}

#[test]
fn the_checklists_names_for_the_limits_are_accepted_and_the_real_ones_win() {
    let loaded = read("scaling:\n  min_bots: 0\n  max_bots: 0\n").unwrap();
    assert_eq!(loaded.config.bot_limits.max_bots, 0);
    assert_eq!((loaded.problems.len(), loaded.warnings.len()), (0, 0));

    let loaded = read("scaling:\n  max_bots: 7\nbot_limits:\n  max_bots: 8\n").unwrap();
    assert_eq!(loaded.config.bot_limits.max_bots, 8);
    assert_eq!(loaded.warnings[0].key, "scaling.max_bots");
    assert_eq!(loaded.warnings[0].line, 2);

    let same = read("scaling:\n  max_bots: 8\nbot_limits:\n  max_bots: 8\n").unwrap();
    assert_eq!(same.warnings, []);
    assert_eq!(
        fell_back("scaling:\n  max_bots: x\n"),
        [("scaling.max_bots".to_owned(), 2)]
    );
}

#[test]
fn a_bad_value_keeps_the_last_good_one_and_an_absent_key_takes_its_default() {
    let last = read("bot_limits: {max_bots: 7}\ntasks: {max_attempts: 9}\ncustom: {a: 1}\nbots: [{name: p, min: 3, backend: {kind: ollama, model: m}}]")
        .unwrap()
        .config;
    let text =
        "bot_limits: {max_bots: x}\nbots: [{name: p, min: x, backend: {kind: ollama, model: [1]}}]";
    let loaded = read_over(text, &last).unwrap();
    assert_eq!(loaded.config.bot_limits.max_bots, 7);
    assert_eq!(loaded.config.tasks.max_attempts, 3);
    assert!(loaded.config.custom.is_empty());
    assert_eq!(loaded.config.bots[0].min, 3);
    assert_eq!(loaded.config.bots[0].backend, last.bots[0].backend);
    assert_eq!(loaded.problems.len(), 3);
    assert_eq!(loaded.problems[0].used.as_deref(), Some("7"));

    // A pool of another name has no last good values.
    let loaded = read_over(&text.replace("name: p", "name: q"), &last).unwrap();
    assert_eq!(loaded.config.bots[0].min, 0);

    // A section that is none, and a list that is none.
    let loaded = read_over("bot_limits: 5\nbots: 5\ncustom: 5\nbackends: 5\n", &last).unwrap();
    assert_eq!(loaded.config.bot_limits, last.bot_limits);
    assert_eq!(loaded.config.bots, last.bots);
    assert_eq!(loaded.config.custom, last.custom);
    assert_eq!(loaded.problems.len(), 4);
}

#[test]
fn unknown_keys_warn_with_the_nearest_known_name() {
    for (text, line, near) in [
        ("bot_limits:\n  max_bot: 3\n", 2, "bot_limits.max_bots"),
        ("max_bots: 3\n", 1, "bot_limits.max_bots"),
        ("threshold:\n  x: 3\n", 1, "thresholds"),
        (
            "bots:\n- name: a\n  backend: {kind: echo}\n  specialisations: []\n",
            4,
            "bots.a.specializations",
        ),
        (
            "bots:\n- name: a\n  backend: {kind: ollama, modle: x}\n",
            3,
            "bots.a.backend.model",
        ),
        ("backends:\n  olama: {}\n", 2, "backends.ollama"),
    ] {
        let loaded = read(text).unwrap();
        assert_eq!(loaded.problems, [], "{text}");
        let warning = &loaded.warnings[0];
        assert_eq!(warning.line, line, "{text}");
        assert!(
            warning.rule.contains(&format!("did you mean {near}?")),
            "{warning}"
        );
    }
    let dotted = read("bot_limits.max_bots: 3\n").unwrap();
    assert_eq!(dotted.config.bot_limits.max_bots, 10);
    assert!(dotted.warnings[0].rule.contains("not with a dot"));
}

#[test]
fn a_problem_shows_the_line_and_the_place() {
    let text = "version: \"1\"\nthresholds:\n  cpu_warning_percent: 1.5   # too much\n";
    let problem = read(text).unwrap().problems[0].to_string();
    assert_eq!(
        problem,
        "bot-config.yaml:3:24: thresholds.cpu_warning_percent: 1.5: must be a number from 0 to 1; using 0.8\n   \
         |\n 3 |   cpu_warning_percent: 1.5   # too much\n   |                        ^^^"
    );
}

#[test]
fn pools_take_what_they_say_over_the_named_defaults() {
    let text = "
backends:
  ollama: {model: big, temperature: 0.1}
bots:
- name: a
  type: Developer
  backend: {kind: ollama, temperature: 1}
  fallback: [{kind: openai, model: f}, {kind: echo, delay_ms: 5}]
  max: 3
- name: b
  backend: {kind: command, argv: [cat], input: argv}
  workdir: /srv/b
  env_files: {ANTHROPIC_API_KEY: /etc/deia/anthropic}
";
    let loaded = read(text).unwrap();
    assert_eq!(loaded.problems, []);
    let config = loaded.config;
    let show = |key| value(&config, key);
    assert_eq!(show("bots.a.backend.model"), Some("big".into()));
    assert_eq!(show("bots.a.backend.temperature"), Some(1.0.into()));
    assert_eq!(show("bots.a.fallback.0.model"), Some("f".into()));
    assert_eq!(show("bots.a.fallback.1.delay_ms"), Some(5.into()));
    assert_eq!(show("bots.a.type"), Some("developer".into()));
    assert_eq!(show("bots.b.workdir"), Some("/srv/b".into()));
    let BackendSpec::Command(command) = &config.bots[1].backend else {
        panic!()
    };
    assert_eq!(command.argv, ["cat"]);
}

#[test]
fn the_default_pool_follows_the_named_defaults() {
    let config = read("backends: {ollama: {model: big}}").unwrap().config;
    assert_eq!(
        value(&config, "bots.main-bot.backend.model"),
        Some("big".into())
    );
}

#[test]
fn a_pool_without_a_usable_name_or_backend_refuses_the_file() {
    for (text, what) in [
        ("bots:\n- {backend: {kind: echo}}", "bots[0].name"),
        ("bots:\n- {name: 'a b', backend: {kind: echo}}", "letters"),
        ("bots:\n- {name: '', backend: {kind: echo}}", "letters"),
        ("bots:\n- {name: -a, backend: {kind: echo}}", "letters"),
        ("bots:\n- {name: ../a, backend: {kind: echo}}", "letters"),
        ("bots:\n- {name: 5, backend: {kind: echo}}", "letters"),
        ("bots:\n- a", "name"),
        ("bots:\n- {name: a}", "bots.a.backend"),
        ("bots:\n- {name: a, backend: echo}", "section"),
        (
            "bots:\n- {name: a, backend: {kind: ollma}}",
            "did you mean ollama?",
        ),
        ("bots:\n- {name: a, backend: {kind: 5}}", "kind"),
        ("bots:\n- {name: a, backend: {model: x}}", "kind"),
        ("bots:\n- {name: a, backend: {kind: command}}", "argv"),
        (
            "bots:\n- {name: a, backend: {kind: command, argv: []}}",
            "argv",
        ),
    ] {
        let message = refused(text);
        assert!(message.contains(what), "{text}\n{message}");
    }
    let name = "a".repeat(51);
    refused(&format!(
        "bots:\n- {{name: {name}, backend: {{kind: echo}}}}"
    ));
}

#[test]
fn an_unusable_fallback_keeps_the_last_good_list() {
    let last = read("bots: [{name: a, backend: {kind: echo}, fallback: [{kind: echo}]}]")
        .unwrap()
        .config;
    let text = "bots: [{name: a, backend: {kind: echo}, fallback: [{kind: ollama}, {kind: x}]}]";
    let loaded = read_over(text, &last).unwrap();
    assert_eq!(loaded.config.bots[0].fallback, last.bots[0].fallback);
    assert_eq!(loaded.problems[0].key, "bots.a.fallback[1]");
}

#[test]
fn json_and_the_originals_spellings_are_read() {
    let text =
        "{\n  \"log_level\": \"warning\",\n  \"debug\": true,\n  \"custom\": {\"a\": [1, null]}\n}";
    let loaded = read(text).unwrap();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.config.log_level, LogLevel::Warning);
    assert!(loaded.config.debug);
    assert_eq!(read("version: 1.10\n").unwrap().config.version, "1.10");
    assert!(read("debug: yes\n").unwrap().config.debug);
    assert!(read("feature_flags:\n").unwrap().problems.is_empty());
}

#[test]
fn what_is_no_map_of_keys_is_refused() {
    for text in ["5", "[1]", "just text", "a: 1\na: 2\n", "a: [\n"] {
        refused(text);
    }
    assert!(refused("debug: true\ndebug: false\n").starts_with("bot-config.yaml:2:"));
}
