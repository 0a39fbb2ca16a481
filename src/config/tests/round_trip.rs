//! What is shown can be read again, and means the same.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use serde_json::{Map, Value, json};

use super::read;
use crate::config::key::Key;
use crate::config::keys::KEYS;
use crate::config::pool_keys::{COMMAND, ECHO, MODEL_SERVER, POOL};
use crate::config::pools::default_command;
use crate::config::rule::Rule;
use crate::config::{
    BackendSpec, Config, EchoSpec, ModelServer, Pool, flatten, render_yaml, to_json,
};

/// Any value that `rule` accepts.
fn values(rule: Rule) -> BoxedStrategy<Value> {
    let texts = prop::collection::vec("[a-z :#{}\\[\\]'\"\\\\&*!|>%@`-]{0,8}[a-z]", 0..3);
    match rule {
        Rule::Switch => any::<bool>().prop_map(Value::from).boxed(),
        Rule::Whole { min, max } => (min..=max).prop_map(Value::from).boxed(),
        Rule::Number { min, max, .. } => (0.001f64..0.999)
            .prop_map(move |x| json!(min + (max - min) * x))
            .boxed(),
        Rule::Backoff => (0.01f64..10.0, 0.0f64..1e6)
            .prop_map(|(first, more)| json!([first, first + more]))
            .boxed(),
        Rule::Text | Rule::Written => "[ -~é\u{85}]{0,6}[!-~]"
            .prop_filter("no control characters", |t| {
                !t.chars().any(char::is_control)
            })
            .prop_filter("no secret", |t| !t.contains("://"))
            .prop_map(Value::from)
            .boxed(),
        Rule::Word { words, .. } => prop::sample::select(words).prop_map(Value::from).boxed(),
        Rule::Path => "/?[a-z .#:-]{0,8}[a-z]".prop_map(Value::from).boxed(),
        Rule::Url => "https?://[a-z]{1,5}(:[1-9]{1,4})?(/[a-z]{1,3})?"
            .prop_map(Value::from)
            .boxed(),
        Rule::Listen => any::<u16>()
            .prop_map(|port| json!(format!("127.0.0.1:{port}")))
            .boxed(),
        Rule::Texts | Rule::Paths => texts.prop_map(Value::from).boxed(),
        Rule::Ports => prop::collection::vec(1..=u16::MAX, 0..3)
            .prop_map(Value::from)
            .boxed(),
        Rule::Argv => (
            "[a-z]{1,5}",
            prop::collection::vec("\\PC{0,4}[\n\t\u{1b}]?", 0..3),
        )
            .prop_map(|(program, mut rest)| {
                rest.insert(0, program);
                Value::from(rest)
            })
            .boxed(),
        Rule::Variables => prop::collection::vec("[A-Z_][A-Z0-9_]{0,4}", 0..3)
            .prop_map(Value::from)
            .boxed(),
        Rule::VariableFiles => prop::collection::btree_map("[A-Z_]{1,4}", "/[a-z]{1,5}", 0..3)
            .prop_map(|map| json!(map))
            .boxed(),
        Rule::Optional(rule) => prop_oneof![Just(Value::Null), values(*rule)].boxed(),
    }
}

/// `start` with any values in the keys of `table`.
fn filled<T: Clone + std::fmt::Debug + 'static>(
    table: &'static [Key<T>],
    start: T,
) -> BoxedStrategy<T> {
    let all: Vec<BoxedStrategy<Value>> = table.iter().map(|key| values(key.rule)).collect();
    all.prop_map(move |values| {
        let mut target = start.clone();
        for (key, value) in table.iter().zip(values) {
            (key.set)(&mut target, value).unwrap();
        }
        target
    })
    .boxed()
}

fn backends() -> BoxedStrategy<BackendSpec> {
    prop_oneof![
        filled(MODEL_SERVER, ModelServer::ollama()).prop_map(BackendSpec::Ollama),
        filled(MODEL_SERVER, ModelServer::openai()).prop_map(BackendSpec::Openai),
        filled(COMMAND, default_command()).prop_map(BackendSpec::Command),
        filled(ECHO, EchoSpec::default()).prop_map(BackendSpec::Echo),
    ]
    .boxed()
}

fn pools() -> impl Strategy<Value = Vec<Pool>> {
    let pool = (
        filled(POOL, Pool::new("x", BackendSpec::Echo(EchoSpec::default()))),
        backends(),
        prop::collection::vec(backends(), 0..3),
    );
    prop::collection::vec(pool, 1..4).prop_map(|pools| {
        pools
            .into_iter()
            .enumerate()
            .map(|(n, (mut pool, backend, fallback))| {
                pool.name = format!("p{n}_");
                pool.backend = backend;
                pool.fallback = fallback;
                pool.min = pool.min.min(3);
                pool.max = pool.max.map(|max| max.max(pool.min));
                pool
            })
            .collect()
    })
}

/// Any valid configuration.
fn configs() -> impl Strategy<Value = Config> {
    let custom = prop::collection::btree_map(
        "[ -~]{1,6}x",
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300f64..1e300).prop_map(Value::from),
            "[\\PC\n\t\u{85}\u{2028}\u{feff}]{0,9}".prop_map(Value::from),
            Just(json!([null, true, {"a b": []}, {}])),
        ],
        0..4,
    );
    (
        filled(KEYS, Config::default()),
        filled(MODEL_SERVER, ModelServer::ollama()),
        filled(MODEL_SERVER, ModelServer::openai()),
        pools(),
        custom,
    )
        .prop_map(|(mut config, ollama, openai, bots, custom)| {
            let sorted = |a: f64, b: f64| (a.min(b) / 2.0, a.max(b));
            let t = &mut config.thresholds;
            (t.cpu_warning_percent, t.cpu_critical_percent) =
                sorted(t.cpu_warning_percent, t.cpu_critical_percent);
            (t.memory_warning_percent, t.memory_critical_percent) =
                sorted(t.memory_warning_percent, t.memory_critical_percent);
            let limits = &mut config.bot_limits;
            limits.port_range_start = limits.port_range_start.min(65_534);
            limits.port_range_end = limits.port_range_end.max(limits.port_range_start + 1);
            limits.max_bots = limits.max_bots.max(9);
            limits.min_bots = limits.min_bots.min(limits.max_bots);
            // Both or neither.
            let tls = &mut config.http.tls;
            if tls.cert_file.is_none() || tls.key_file.is_none() {
                (tls.cert_file, tls.key_file) = (None, None);
            }
            config.backends.ollama = ollama;
            config.backends.openai = openai;
            config.bots = bots;
            config.custom = custom.into_iter().collect::<Map<_, _>>();
            config
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_rendered_is_read_again_unchanged(config in configs()) {
        let yaml = render_yaml(&config);
        let loaded = read(&yaml).map_err(|e| TestCaseError::fail(format!("{e}\n{yaml}")))?;
        prop_assert_eq!(&loaded.problems, &[], "{}", yaml);
        prop_assert_eq!(flatten(&loaded.config), flatten(&config));
        prop_assert_eq!(&loaded.config, &config);
    }

    #[test]
    fn what_the_api_shows_is_a_file_too(config in configs()) {
        let json = to_json(&config).to_string();
        let loaded = read(&json).map_err(|e| TestCaseError::fail(format!("{e}\n{json}")))?;
        prop_assert_eq!(&loaded.config, &config);
    }
}
