//! A secret in the file refuses it, and is printed nowhere.

use super::{read, read_over};
use crate::config::{Config, Loaded, Refusal};

const PARTS: [&str; 5] = [
    "9f8e7d6c5b4a39281706",
    "hunter2swordfish1",
    "IOSFODNN7EXAMPLE",
    "MIIEowIBAAKCAQEA",
    "c2lnbmF0dXJlMTIz",
];

/// Values that look like secrets, made of [`PARTS`] so that no scanner takes this file for a leak.
fn secrets() -> Vec<String> {
    vec![
        format!("sk-{}", PARTS[0]),
        format!("sk-ant-api03-{}", PARTS[0]),
        format!("ghp_{}", PARTS[0]),
        format!("xoxb-{}", PARTS[0]),
        format!("xoxp-{}", PARTS[0]),
        format!("AKIA{}", PARTS[2]),
        format!("Bearer {}", PARTS[0]),
        format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{}", PARTS[4]),
        format!("postgres://deia:{}@db/deia", PARTS[1]),
    ]
}

fn shown(result: &Result<Loaded, Refusal>) -> String {
    match result {
        Ok(loaded) => {
            let all = loaded.problems.iter().chain(&loaded.warnings);
            let lines: Vec<String> = all.map(|p| format!("{p}\n{p:?}")).collect();
            lines.join("\n")
        }
        Err(refusal) => format!("{refusal}\n{}\n{refusal:?}", refusal.one_line()),
    }
}

#[track_caller]
fn refused_without_a_trace(text: &str) {
    let result = read(text);
    assert!(result.is_err(), "{text}");
    let shown = shown(&result);
    for part in PARTS {
        assert!(!shown.contains(part), "{shown}");
    }
    assert!(read_over(text, &Config::default()).is_err());
}

#[test]
fn a_value_that_looks_like_a_secret_refuses_the_file_wherever_it_is() {
    for secret in secrets() {
        for text in [
            format!("custom:\n  a: \"{secret}\"\n"),
            format!("custom:\n  a: [1, {{b: \"{secret}\"}}]\n"),
            format!("environment: '{secret}'\n"),
            format!("unknown: \"{secret}\"\n"),
            format!("bot_limits:\n  max_bots: \"{secret}\"\n"),
            format!("bots:\n- name: a\n  backend: {{kind: command, argv: [x, \"{secret}\"]}}\n"),
            format!(
                "bots:\n- name: a\n  backend: {{kind: echo}}\n  env_files: {{A: \"{secret}\"}}\n"
            ),
            format!("debug: true # {secret}\n"),
            format!("\"{secret}\": 1\n"),
            format!("custom: {{\"{secret}\": 1}}\n"),
            format!("custom: &a \"{secret}\"\nversion: *a\n"),
            format!("version: {secret}: {secret}\n"),
            format!("{secret}\n"),
            format!("[\"{secret}\n"),
        ] {
            refused_without_a_trace(&text);
        }
    }
}

#[test]
fn a_key_named_like_a_secret_refuses_the_file_and_a_file_key_does_not() {
    for name in [
        "password",
        "db_password",
        "DB-Secret",
        "auth_token",
        "apiKey",
        "x_api_key",
    ] {
        refused_without_a_trace(&format!("custom:\n  {name}: {}\n", PARTS[1]));
        refused_without_a_trace(&format!("custom:\n  {name}: |\n    {}\n", PARTS[1]));
        refused_without_a_trace(&format!("{{\"{name}\": \"{}\"}}", PARTS[1]));
        refused_without_a_trace(&format!("custom: {{a: \"x --{name}={} y\"}}", PARTS[1]));
        // Escaped, so that only the parsed text shows it.
        refused_without_a_trace(&format!("custom: {{\"\\x73ecret\": {}}}", PARTS[1]));
    }
    let fine = "custom: {password: '', token: 5, secret: null, api_key_file: /etc/x, tokens: a}\n\
                backends: {openai: {api_key_file: /etc/y}}";
    assert_eq!(read(fine).unwrap().problems, []);
}

#[test]
fn a_file_that_does_not_parse_does_not_show_its_secrets() {
    for text in [
        format!("password: {}\nbad: [\n", PARTS[1]),
        format!("password: [{}\n", PARTS[1]),
        format!("a: {{\"api_key\": \"{}\n", PARTS[1]),
        format!("custom:\n  token: |\n    {}\n  bad: *x\n", PARTS[1]),
        format!("secret: {}\nsecret: {}\n", PARTS[1], PARTS[1]),
        format!("token: *{}\n", PARTS[1]),
        format!("a: [x, --db-password={}\n", PARTS[1]),
        format!("-----BEGIN RSA {}-----\n{}\n", "PRIVATE KEY", PARTS[3]),
    ] {
        refused_without_a_trace(&text);
    }
}

#[test]
fn the_message_says_where_it_is_and_what_to_do() {
    let message = read(&format!(
        "debug: true\ncustom:\n  db_password: {}\n",
        PARTS[1]
    ))
    .unwrap_err()
    .to_string();
    assert!(
        message.starts_with("bot-config.yaml:3:16: custom.db_password: "),
        "{message}"
    );
    assert!(message.contains("*_file"), "{message}");
}
