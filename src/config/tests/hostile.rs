//! Files that are cut, twisted or built to hurt: never a panic, never half a configuration.

use proptest::prelude::*;

use super::{read, read_over};
use crate::config::{Config, PRODUCTION};

#[test]
fn a_file_cut_at_any_byte_is_read_whole_or_refused() {
    let text = PRODUCTION.text;
    let last_good = read(text).unwrap().config;
    let mut refused = 0;
    let mut seen = Config::default();
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        match read_over(&text[..end], &last_good) {
            // What was applied keeps every rule: it is read again without a word.
            Ok(loaded) if loaded.config == seen => {}
            Ok(loaded) => {
                let again = crate::config::to_json(&loaded.config).to_string();
                assert_eq!(read(&again).unwrap().config, loaded.config, "at {end}");
                seen = loaded.config;
            }
            Err(refusal) => {
                refused += 1;
                assert!(!refusal.problems.is_empty());
                assert!(!refusal.to_string().is_empty());
            }
        }
    }
    assert!(refused > 100, "only {refused} cuts were refused");
}

#[test]
fn bombs_are_refused_in_time() {
    let mut aliases = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        let item = format!("*{of}, ").repeat(10);
        aliases += &format!("{name}: &{name} [{item}]\n");
    }
    let started = std::time::Instant::now();
    for text in [
        aliases,
        format!("custom: {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("custom: {}{}", "{a: ".repeat(100_000), "}".repeat(100_000)),
        "- ".repeat(100_000),
        "custom: &a [*a]\n".to_owned(),
        "x".repeat(2_000_000),
        "? ".repeat(100_000),
        format!("custom: {}", "!x ".repeat(10_000)),
    ] {
        let shown = read(&text).unwrap_err().to_string();
        assert!(shown.len() < 2_000, "{} bytes", shown.len());
    }
    assert!(started.elapsed().as_secs() < 20);
}

/// Shown to fail while every unknown name was compared with every known one, whatever its length.
#[test]
fn odd_names_are_read_in_time() {
    let started = std::time::Instant::now();
    let many = |line: fn(usize) -> String| (0..1_500).map(line).collect::<String>();
    for text in [
        format!("{}: 1\n", "name".repeat(100_000)),
        format!("tasks: {{{}: 1}}\n", "name".repeat(100_000)),
        many(|n| format!("unknown_setting_number_{n}: 1\n")),
        format!(
            "tasks:\n{}",
            many(|n| format!("  unknown_setting_number_{n}: 1\n"))
        ),
        format!(
            "bots: [{{name: x, backend: {{kind: {}}}}}]\n",
            "echo".repeat(100_000)
        ),
    ] {
        if let Ok(loaded) = read(&text) {
            assert!(loaded.warnings.len() <= 101, "{}", loaded.warnings.len());
        }
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn too_many_pools_are_refused() {
    let item = |n: usize| format!("- {{name: p{n}, backend: {{kind: echo}}}}\n");
    let pools = |count| format!("bots:\n{}", (0..count).map(item).collect::<String>());
    assert_eq!(read(&pools(256)).unwrap().config.bots.len(), 256);
    assert!(read(&pools(257)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn no_change_of_a_real_file_panics_or_breaks_a_rule(
        at in 0usize..6000,
        length in 0usize..40,
        instead in "[-a-z0-9:{}\\[\\]\"'#&*!|> \\n\\t.,]{0,12}",
    ) {
        let mut text = PRODUCTION.text.to_owned();
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        if text.is_char_boundary(start) && text.is_char_boundary(end) {
            text.replace_range(start..end, &instead);
        }
        if let Ok(loaded) = read_over(&text, &Config::default()) {
            for problem in loaded.problems.iter().chain(&loaded.warnings) {
                prop_assert!(!problem.to_string().is_empty());
            }
            let again = crate::config::to_json(&loaded.config).to_string();
            prop_assert_eq!(read(&again).unwrap().config, loaded.config);
        }
    }
}
