//! The program `deia`, asked for what it tells without a home.
//!
//! It is also what makes `cargo test --workspace` build the program, which the tests of the root package
//! start: Cargo builds a package's programs for its integration tests, and only then.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn deia(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_deia"))
        .args(arguments)
        .output()
        .unwrap()
}

/// With `UPDATE_EXPECT=1` in the environment the file is written anew.
#[test]
fn docs_openapi_json_is_what_the_daemon_serves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let printed = deia(&["openapi"]);
    assert!(printed.status.success());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &printed.stdout).unwrap();
    }
    assert!(
        fs::read(&path).unwrap() == printed.stdout,
        "docs/openapi.json is out of date: `just bless`"
    );
}

#[test]
fn it_knows_its_version() {
    let said = deia(&["--version"]);
    assert_eq!(
        String::from_utf8(said.stdout).unwrap().trim(),
        format!("deia {}", deia::VERSION)
    );
}

#[test]
fn what_is_not_understood_is_usage() {
    for arguments in [
        &["--no-such-option"][..],
        &["--listen", "here"],
        &["--port", "1", "--listen", "127.0.0.1:1"],
    ] {
        let said = deia(arguments);
        assert_eq!(said.status.code(), Some(2), "{arguments:?}");
        assert!(!said.stderr.is_empty());
    }
}
