//! What the documents say of the repository is so, and the rules of docs/ARCHITECTURE.md that a
//! compiler does not keep are kept.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// README.md, CHANGELOG.md and docs/*.md.
fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    documents.extend(files(&root().join("docs"), "md"));
    assert!(documents.len() >= 5, "found only {documents:?}");
    documents
}

/// All files below a folder with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What stands in backticks in running text, and the targets of links.
fn marked(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            let targets = line.split("](").skip(1);
            found.extend(
                targets
                    .filter_map(|rest| rest.split_once(')'))
                    .map(|(target, _)| target.to_owned()),
            );
        }
    }
    found
}

/// Whether it means a place in the repository: its first part is one of the top level's names.
fn is_repository_path(text: &str, top: &BTreeSet<String>) -> bool {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let first = text.split('/').next().unwrap_or_default();
    let (folder, file) = (text.contains('/'), first.contains('.'));
    plain && (folder || file) && top.contains(first)
}

/// What a link to a heading says.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let kept: String = heading.to_lowercase().chars().filter(kept).collect();
    Some(kept.replace(' ', "-"))
}

#[test]
fn every_path_that_is_named_exists() {
    let entries = fs::read_dir(root()).unwrap();
    let top: BTreeSet<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "target")
        .collect();
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        for marked in marked(&text) {
            let is_link = text.contains(&format!("]({marked})")) && !marked.contains(':');
            let (path, section) = match marked.split_once('#') {
                Some((path, section)) if is_link => (path, Some(section)),
                _ => (marked.as_str(), None),
            };
            let beside = document.parent().unwrap().join(path);
            if is_link || is_repository_path(&marked, &top) {
                seen += 1;
                assert!(
                    root().join(path).exists() || beside.exists(),
                    "{} names {marked}, which does not exist",
                    document.display()
                );
            }
            if let Some(section) = section {
                let named = if path.is_empty() { &document } else { &beside };
                assert!(
                    read(named)
                        .lines()
                        .any(|line| anchor(line).as_deref() == Some(section)),
                    "{} names {marked}, which is no heading",
                    document.display()
                );
            }
        }
    }
    assert!(seen > 40, "only {seen} paths were recognised");
}

#[test]
fn every_test_constant_and_key_that_is_named_exists() {
    let mut code = String::new();
    for folder in ["src", "supervisor", "worker", "tests"] {
        for file in files(&root().join(folder), "rs") {
            code.push_str(&read(&file));
        }
    }
    let words: BTreeSet<&str> = code
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    for document in documents() {
        for marked in marked(&read(&document)) {
            let identifier = marked
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_')
                && marked.contains('_');
            assert!(
                !identifier || words.contains(marked.as_str()),
                "{} names {marked}, which no source does",
                document.display()
            );
        }
    }
}

#[test]
fn every_direct_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim())
        .filter(|name| !name.starts_with("deia"))
        .collect();
    assert!(names.len() > 20, "found only {names:?}");
    let architecture = read(&root().join("docs/ARCHITECTURE.md"));
    let reasons = architecture.split("## Dependencies").nth(1).unwrap();
    for name in names {
        assert!(
            reasons.contains(&format!("`{name}`")),
            "docs/ARCHITECTURE.md gives no reason for the dependency {name}"
        );
    }
}

/// A source without its comments and without the tests at its end.
fn product_code(path: &Path) -> String {
    let text = read(path);
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Nothing below the folder names any of these.
fn absent(folder: &str, words: &[&str]) {
    let sources = files(&root().join(folder), "rs");
    assert!(!sources.is_empty(), "{folder} has no sources");
    for source in sources {
        let code = product_code(&source);
        for word in words {
            assert!(
                !code.contains(word),
                "{} names {word}: docs/ARCHITECTURE.md says why it must not",
                source.display()
            );
        }
    }
}

#[test]
fn imports_run_one_way() {
    absent(
        "src",
        &[
            "deia_supervisor",
            "deia_worker",
            "deia-supervisor",
            "deia-worker",
        ],
    );
    absent("worker/src", &["deia_supervisor", "deia-supervisor"]);
    for manifest in ["Cargo.toml", "worker/Cargo.toml"] {
        let text = read(&root().join(manifest));
        let own = text
            .split("\n[package]")
            .nth(1)
            .or_else(|| text.split("[package]").nth(1))
            .unwrap();
        assert!(!own.contains("deia-supervisor.workspace"), "{manifest}");
        assert!(
            manifest != "Cargo.toml" || !own.contains("deia-worker.workspace"),
            "{manifest}"
        );
    }
}

#[test]
fn the_brain_does_no_io_and_reads_no_clock() {
    absent(
        "supervisor/src/brain",
        &[
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "Instant",
            "SystemTime",
            "Timestamp::now",
            "tokio",
            "fastrand",
            "rand::",
            "tracing",
            "crate::daemon",
            "crate::fleet",
            "crate::http",
        ],
    );
}

#[test]
fn the_contract_starts_nothing_and_listens_nowhere() {
    for part in ["api", "bot", "client", "config", "task", "wire"] {
        absent(
            &format!("src/{part}"),
            &[
                "process::Command",
                "TcpListener",
                "UnixListener",
                "rusqlite",
            ],
        );
    }
}

#[test]
fn the_worker_never_opens_the_store_and_never_listens() {
    absent(
        "worker/src",
        &["rusqlite", "deia.db", "TcpListener", "UnixListener"],
    );
    assert!(!read(&root().join("worker/Cargo.toml")).contains("rusqlite"));
}

#[test]
fn the_http_edge_decides_nothing_about_the_fleet() {
    absent(
        "supervisor/src/http",
        &["crate::brain::dispatch", "crate::daemon::engine"],
    );
}

#[test]
fn marks_and_paths_are_recognised() {
    let text = "see `src/lib.rs` and [it](docs/API.md)\n```\n`not/this`\n```\n`after`";
    assert_eq!(marked(text), ["src/lib.rs", "docs/API.md", "after"]);
    let top = BTreeSet::from(["src".to_owned(), "README.md".to_owned()]);
    assert!(is_repository_path("src/gone.rs", &top));
    assert!(is_repository_path("README.md", &top));
    assert!(!is_repository_path("src", &top));
    assert!(!is_repository_path("HOME/src/x", &top));
    assert!(!is_repository_path("src/*.rs", &top));
}
