//! The completions and man pages in the repository are what the command line is: packages ship the
//! files, so they are kept, and this test keeps them true. `UPDATE_EXPECT=1 cargo test -p deia
//! --bin deiactl` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Generator, Shell};

use crate::cli::Cli;
use crate::verbs::completions::script;

#[test]
fn completions_are_those_of_the_command_line() {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    let files = shells.map(|shell| (shell.file_name("deiactl"), script(shell).into_bytes()));
    compare("completions", &BTreeMap::from(files));
}

#[test]
fn man_pages_are_those_of_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), directory.path()).unwrap();
    compare("man", &read(directory.path()));
}

fn compare(name: &str, expected: &BTreeMap<String, Vec<u8>>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        fs::create_dir(&directory).unwrap();
        for (file, text) in expected {
            fs::write(directory.join(file), text).unwrap();
        }
    }
    let kept = if directory.exists() {
        read(&directory)
    } else {
        BTreeMap::new()
    };
    let remedy = "UPDATE_EXPECT=1 cargo test -p deia --bin deiactl";
    let kept_names: Vec<&String> = kept.keys().collect();
    let names: Vec<&String> = expected.keys().collect();
    assert_eq!(kept_names, names, "files of {name}/: {remedy}");
    for (file, text) in expected {
        assert!(
            kept[file] == *text,
            "{name}/{file} is out of date: {remedy}"
        );
    }
}

fn read(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}
